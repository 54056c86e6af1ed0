"""The figures of docs/optimizers.md: performance profiles, a map of gaps, what draws buy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from benchmarks.optimizers.summary import (
    Known,
    budgets_of,
    entries_everywhere,
    function_part,
    gain_curve,
    gaps_at,
    mean_gap,
    network_part,
    with_shown_names,
)
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure

PROFILE_RANGE = (1e-3, 1.0)  # of gaps, on a log scale
LINE_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
DRAWN_CURVES = ("SGD", "Momentum", "Adam", "Lion", "ScheduleFreeAdamW")
MAP_COLORS = "cividis_r"


def all_figures(known: Known) -> dict[str, Figure]:
    """The figures by the names of their files."""
    makers: Mapping[str, Callable[[Known], Figure]] = {
        "profiles": profile_figure,
        "gaps": gap_figure,
        "draws": draw_figure,
    }
    shown = with_shown_names(known)
    return {name: make(shown) for name, make in makers.items()}


def profile_figure(known: Known) -> Figure:
    """On which share of the problems with networks a choice is at most so far behind the best."""
    networks, budgets = network_part(known), budgets_of(known)
    names = entries_everywhere(networks)
    gaps = gaps_at(networks, names, budgets)
    picture = figure(8.0, 4.4)
    ends = (budgets[0], budgets[-1])
    for axes, budget in zip(picture.subplots(1, 2, sharey=True), ends, strict=True):
        order = list(mean_gap(gaps[budget]).sort_values(kind="stable").index)
        for name in reversed(order):
            place = order.index(name)
            style: Any = {"color": "#D0D0D0", "linewidth": 0.8}
            if place < len(SERIES_COLORS):
                style = {"color": SERIES_COLORS[place], "linestyle": LINE_DASHES[place]}
                style |= {"label": f"{place + 1} {name}", "zorder": 3}
            _draw_profile(axes, gaps[budget][name], **style)
        title = "defaults" if budget == 1 else f"best of {budget} draws"
        axes.set(title=title, xscale="log", xlim=PROFILE_RANGE, ylim=(0, 1.02))
        axes.set_xlabel("behind the best one, as a share of its gain")
        handles, labels = axes.get_legend_handles_labels()
        below: Any = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.17), "ncols": 2}
        axes.legend(handles[::-1], labels[::-1], **below)
    picture.axes[0].set_ylabel(f"share of the {len(networks)} problems")
    return picture


def _draw_profile(axes: Axes, gaps: pd.Series, **style: Any) -> None:
    x = np.geomspace(*PROFILE_RANGE, 121)
    share = (gaps.to_numpy()[None] <= x[:, None]).mean(1)
    axes.plot(x, share, drawstyle="steps-post", **style)


def gap_figure(known: Known) -> Figure:
    """Each optimizer's gap on each problem, with its defaults and with the best of all draws."""
    budgets = budgets_of(known)
    parts = network_part(known), function_part(known)
    names = entries_everywhere(parts[0])
    most = gaps_at(parts[0], names, budgets)[budgets[-1]]
    order = list(mean_gap(most).sort_values(kind="stable").index)
    order += [name for name in entries_everywhere(parts[1]) if name not in order]
    tables = [gaps_at(part, entries_everywhere(part), budgets) for part in parts if part]
    picture = figure(8.4, 5.6)
    panels = picture.subplots(1, 2, sharey=True)
    for axes, budget in zip(panels, (budgets[0], budgets[-1]), strict=True):
        wide = pd.concat([table[budget] for table in tables]).reindex(columns=order)
        title = "defaults" if budget == 1 else f"best of {budget} draws"
        _draw_map(axes, wide.clip(upper=1.0).T, title)
    return picture


def _draw_map(axes: Axes, gaps: pd.DataFrame, title: str) -> None:
    values = 100 * gaps.to_numpy()
    norm = PowerNorm(0.4, 0, 100)
    axes.imshow(values, cmap=MAP_COLORS, norm=norm, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            color = "white" if norm(value) > 0.6 else "black"
            axes.text(column, row, f"{value:.0f}", color=color, ha="center", va="center", size=6)
    axes.set_xticks(range(gaps.shape[1]), [str(n) for n in gaps.columns], rotation=60, ha="right")
    axes.set_yticks(range(gaps.shape[0]), [str(n) for n in gaps.index])
    axes.tick_params(labelsize=7.5, length=0)
    axes.set_title(f"{title}: gap, %")


def draw_figure(known: Known, chosen: Sequence[str] = DRAWN_CURVES) -> Figure:
    """The expected validation score of the best of k draws, over the problems with networks."""
    networks = network_part(known)
    counts = np.arange(1, budgets_of(known)[-1] + 1)
    picture = figure(6.0, 3.6)
    axes = picture.subplots()
    names = entries_everywhere(networks)
    for name in names:
        curve = 100 * gain_curve(networks, name, counts.tolist())
        if name not in chosen:
            axes.plot(counts, curve, color="#D0D0D0", linewidth=0.8, zorder=1)
            continue
        place = chosen.index(name)
        style: Any = {"color": SERIES_COLORS[place], "linestyle": LINE_DASHES[place]}
        axes.plot(counts, curve, label=name, zorder=3, **style)
    axes.set(xscale="log", xlim=(1, counts[-1]), xlabel="draws, of which the best is taken")
    ticks = [k for k in (1, 2, 5, 10, 25, 50) if k <= counts[-1]]
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.minorticks_off()
    axes.set_ylabel("% of the best gain (validation)")
    axes.axhline(100, color=GRAY_COLOR, linewidth=0.7, linestyle=":")
    axes.legend(loc="lower right")
    return picture

"""What tuning found, as a figure: scores by trial, what mattered, and each setting's slice."""

import json
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from optuna.distributions import distribution_to_json

from ravine.errors import shorten
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.studies.population import POPULATION_SAMPLER, Phase
from ravine.studies.tuned_trials import TunedTrial, TunedTrials

MAX_SLICES = 6  # the most important settings
SLICE_COLUMNS = 3
CHOICE_LABEL_WIDTH = 14
WIDE_LABELS = 24  # letters of all values of a list, which would overlap
PALE_ALPHA, LINE_ALPHA = 0.55, 0.35


def tuning_figure(found: TunedTrials) -> Figure:
    """The history of the scores, the importance of the settings, their slices, and all trials as
    lines across all settings (parallel coordinates). Of a population the settings of each member's
    lineage over the budget.
    """
    paths = [*found.importance, *(path for path in found.space if path not in found.importance)]
    shown = paths[:MAX_SLICES]
    rows = -(-len(shown) // SLICE_COLUMNS)
    if found.sampler == POPULATION_SAMPLER:
        columns = min(SLICE_COLUMNS, len(shown))
        picture = figure(9.6, 2.9 * rows)
        for i, path in enumerate(shown):
            _draw_lineages(picture.add_subplot(rows, columns, i + 1), found, path)
        picture.suptitle("The settings that led to each member, the best one's in orange")
        return picture
    picture = figure(9.6, 2.9 * (2 + rows))
    grid = picture.add_gridspec(2 + rows, SLICE_COLUMNS)
    _draw_history(picture.add_subplot(grid[0, :2]), found)
    _draw_importance(picture.add_subplot(grid[0, 2]), found)
    for i, path in enumerate(shown):
        axes = picture.add_subplot(grid[1 + i // SLICE_COLUMNS, i % SLICE_COLUMNS])
        _draw_slice(axes, found, path, label=i % SLICE_COLUMNS == 0)
    _draw_parallel(picture.add_subplot(grid[-1, :]), found, shown)
    return picture


def _draw_lineages(axes: Axes, found: TunedTrials, path: str) -> None:
    """A setting of each member's lineage over the budget, the best member's in orange."""
    places = _scale_axis(axes, "y", found, path)
    for trial in reversed([t for t in found.rank_trials() if t.phases]):  # the best one is last
        is_best = trial == found.best
        style = {"color": SERIES_COLORS[is_best], "alpha": 1.0 if is_best else LINE_ALPHA}
        y = [places(phase) for phase in trial.phases]
        x = [100 * phase.share for phase in trial.phases]
        axes.step([*x, 100], [*y, y[-1]], where="post", **style)
    axes.set(xlabel="% of the budget", ylabel=_short(path, found))


def _trials_with_score(found: TunedTrials) -> list[TunedTrial]:
    return [trial for trial in found.trials if math.isfinite(trial.score)]


def _draw_history(axes: Axes, found: TunedTrials) -> None:
    """Each trial's score, and the best so far of those that finished."""
    sign = 1 if found.higher_is_better else -1
    best, steps = -math.inf, []
    for trial in found.trials:
        best = max(best, sign * trial.score) if trial.is_finished else best
        if math.isfinite(best):
            steps.append((trial.number, sign * best))
    for outcome, color, label in (
        ("finished", SERIES_COLORS[0], "finished"),
        ("pruned", GRAY_COLOR, "left early"),
    ):
        chosen = [t for t in _trials_with_score(found) if t.outcome == outcome]
        if chosen:
            x, y = [t.number for t in chosen], [t.score for t in chosen]
            axes.plot(x, y, "o", color=color, alpha=PALE_ALPHA, markersize=4, label=label)
    if steps:
        axes.step(
            *zip(*steps, strict=True), where="post", color=SERIES_COLORS[1], label="best so far"
        )
    failed = [t.number for t in found.trials if not math.isfinite(t.score)]
    low, high = axes.get_ylim()
    if failed:
        worst = low if found.higher_is_better else high
        axes.plot(failed, [worst] * len(failed), "x", color=SERIES_COLORS[4], label="failed")
    axes.set(xlabel="trial", ylabel=f"validation {found.metric}")
    axes.set_title("History")
    axes.legend(loc="best")


def _draw_importance(axes: Axes, found: TunedTrials) -> None:
    names = [_short(path, found) for path in found.importance][::-1]
    axes.set_xlim(0, 100)
    axes.barh(names, [100 * share for share in found.importance.values()][::-1], height=0.6)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="% of the scores' variance")
    axes.set_title("Importance" if names else "Importance: too few trials")


def _draw_slice(axes: Axes, found: TunedTrials, path: str, *, label: bool) -> None:
    """The scores over one setting."""
    trials = _trials_with_score(found)
    places = _scale_axis(axes, "x", found, path)
    for outcome, color in (("pruned", GRAY_COLOR), ("finished", SERIES_COLORS[0])):
        chosen = [t for t in trials if t.outcome == outcome]
        x = [places(t) for t in chosen]
        axes.plot(x, [t.score for t in chosen], "o", color=color, alpha=PALE_ALPHA, markersize=4)
    failed = [places(t) for t in found.trials if not math.isfinite(t.score)]
    low, high = axes.get_ylim()
    worst = low if found.higher_is_better else high
    axes.plot(failed, [worst] * len(failed), "x", color=SERIES_COLORS[4], markersize=4)
    best = found.best
    if best is not None:
        axes.plot([places(best)], [best.score], "o", color=SERIES_COLORS[1], markersize=7)
    axes.set(xlabel=_short(path, found), ylabel=f"validation {found.metric}" if label else "")


def _draw_parallel(axes: Axes, found: TunedTrials, paths: list[str]) -> None:
    """A line for each trial across all settings, the better the darker; the best one marked."""
    ranked = [t for t in found.rank_trials() if math.isfinite(t.score)]
    lines = {t.number: [(i, _share(found, p, t)) for i, p in enumerate(paths)] for t in ranked}
    alphas = [max(0.04, LINE_ALPHA * (1 - rank / len(ranked)) ** 2) for rank in range(len(ranked))]
    colors = [to_rgba(SERIES_COLORS[0], alpha) for alpha in alphas]
    drawn = [lines[t.number] for t in reversed(ranked)]  # one artist: a hundred are slow
    axes.add_collection(LineCollection(drawn, colors=colors[::-1], linewidths=1))
    if found.best is not None:
        axes.plot(*zip(*lines[found.best.number], strict=True), color=SERIES_COLORS[1], linewidth=2)
    for i, path in enumerate(paths):
        low, high = _end_texts(found, path)
        style: dict[str, Any] = {"ha": "center", "fontsize": 8, "color": GRAY_COLOR}
        axes.text(i, 1.03, high, va="bottom", **style)
        axes.text(i, -0.03, low, va="top", **style)
    axes.set_xticks(range(len(paths)), [_short(path, found) for path in paths])
    axes.set_yticks([])
    axes.set(ylim=(-0.12, 1.12), xlim=(-0.4, len(paths) - 0.6))
    axes.set_title("All trials: the better, the darker; the best in orange")


def _attributes(found: TunedTrials, path: str) -> dict[str, Any]:
    return json.loads(distribution_to_json(found.space[path]))["attributes"]


def _scale_axis(
    axes: Axes, side: Literal["x", "y"], found: TunedTrials, path: str
) -> Callable[[TunedTrial | Phase], Any]:
    """Give an axis the scale of a setting, or ticks for its values; where values stand on it."""
    known = _attributes(found, path)
    choices = known.get("choices")
    if choices is None:
        axes.set(**{f"{side}scale": "log" if known["log"] else "linear"})
        return lambda one: one.values[path]
    labels = [shorten(str(choice), CHOICE_LABEL_WIDTH) for choice in choices]
    at = {f"{side}ticks": range(len(choices)), f"{side}ticklabels": labels}
    axes.set(**at, **{f"{side}lim": (-0.5, len(choices) - 0.5)})
    if side == "x" and sum(map(len, labels)) > WIDE_LABELS:
        axes.tick_params("x", labelrotation=20)
    return lambda one: choices.index(one.values[path])


def _share(found: TunedTrials, path: str, trial: TunedTrial) -> float:
    """How far up its range a trial's value is, 0 to 1."""
    known, value = _attributes(found, path), trial.values[path]
    if "choices" in known:
        return known["choices"].index(value) / max(len(known["choices"]) - 1, 1)
    scale = np.log if known["log"] else float
    low, high = scale(known["low"]), scale(known["high"])
    return float((scale(value) - low) / (high - low))


def _end_texts(found: TunedTrials, path: str) -> list[str]:
    """The ends of a setting's axis, the lower one first."""
    known = _attributes(found, path)
    choices = known.get("choices", ())
    ends = (choices[0], choices[-1]) if choices else (known["low"], known["high"])
    texts = [f"{end:.3g}" if isinstance(end, float) else str(end) for end in ends]
    return [shorten(text, CHOICE_LABEL_WIDTH) for text in texts]


def _short(path: str, found: TunedTrials) -> str:
    """A setting's name without its part, where that is clear."""
    name = path.rpartition(".")[2]
    same = [known for known in found.space if known.rpartition(".")[2] == name]
    return name if len(same) == 1 else path

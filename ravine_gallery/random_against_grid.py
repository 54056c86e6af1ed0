"""Random search against a grid of as many trials (H1; Bergstra & Bengio 2012): better where few
settings matter.

How much better depends on the trials: with four settings and 81 trials each (8 ranges, measured
once) both found good rates, and the difference was not decided: +0.4 points [−0.5, +1.3]. Here
there are 27 trials. Letters: R ranges, T trials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from ravine.catalog import named_recipe
from ravine.data import Random
from ravine.networks.layer_parts import Dropout
from ravine.penalties import L2
from ravine.reporting.plot_style import COLORS, band, figure, line_style
from ravine.statistics import t_interval
from ravine.studies.search import ChoiceSpace, LogUniformSpace, Search, UniformSpace, search
from ravine_gallery.experiment import Experiment, Outcome

LEVELS = 3  # of each of three settings: 27 trials
NAMES = {
    "optimizer.lr": "learning rate",
    "penalties.0.strength": "L2 strength",
    "network.dropout.rate": "dropout",
}


def run(quick: bool) -> Outcome:
    """Search three settings of a small network on the digits, both ways, in ranges that begin
    anywhere.
    """
    ranges, epochs = (2, 2) if quick else (12, 4)
    base = (
        named_recipe("plain")
        .vary("data.source", "digits")
        .vary("split", Random(validation=0.45, test=0.1))
    )
    base = (
        base.vary("network.hidden", (16,))
        .vary("network.dropout", Dropout())
        .vary("penalties", (L2(),))
    )
    base = base.vary("epochs", epochs)
    grids: list[Search] = []
    randoms: list[Search] = []
    for r in range(ranges):
        space = _space(np.random.default_rng(r).uniform(-5.5, -4.0))
        cells = {
            path: ChoiceSpace(tuple(s.draw((i + 0.5) / LEVELS) for i in range(LEVELS)))
            for path, s in space.items()
        }
        grids.append(search(base, cells, method="grid", seed=r, refit=False))
        randoms.append(search(base, space, trials=LEVELS ** len(space), seed=r, refit=False))
    best = {
        name: np.array([s.best.score for s in found])
        for name, found in (("grid", grids), ("random", randoms))
    }
    apart = t_interval(best["random"] - best["grid"])
    matters = {path: float(np.mean([_matters(s, path) for s in randoms])) for path in NAMES}
    curves = {
        name: np.array([s.curve() for s in found])
        for name, found in (("grid", grids), ("random", randoms))
    }
    few = LEVELS**2
    early = t_interval(curves["random"][:, few - 1] - curves["grid"][:, few - 1])
    failed = sum(s.failures for s in [*grids, *randoms])
    numbers = {
        "best of the grid": best["grid"].mean(),
        "best at random": best["random"].mean(),
        "random above grid": apart.value,
        "random above grid low": apart.low,
        "random above grid high": apart.high,
        f"random above grid, {few} trials": early.value,
        "diverged": float(failed),
    }
    numbers |= {f"rank correlation, {NAMES[path]}": value for path, value in matters.items()}
    order = sorted(NAMES, key=lambda p: -matters[p])
    said = (
        f"{LEVELS ** len(NAMES)} trials each in {ranges} ranges: the best at random has "
        f"{100 * best['random'].mean():.1f} % validation accuracy, the best of the grid "
        f"{100 * best['grid'].mean():.1f} %: {100 * apart.value:+.2f} points ["
        f"{100 * apart.low:+.2f}, {100 * apart.high:+.2f}]. With {few} of them the difference is "
        f"{100 * early.value:+.2f} [{100 * early.low:+.2f}, {100 * early.high:+.2f}]. "
        "What matters: "
        + ", ".join(f"{NAMES[p]} {matters[p]:.2f}" for p in order)
        + f" (|rank correlation| with accuracy). The grid tries {LEVELS} values of the one that "
        f"matters most, random search {LEVELS ** len(NAMES)}."
    )
    held = True if apart.low > 0 else False if apart.high < 0 else None
    return Outcome(
        held=held,
        said=said,
        numbers={k: float(v) for k, v in numbers.items()},
        figures={
            "Where trials fall": _trials(grids[0], randoms[0], order[0]),
            "Best of k trials": _curves(curves, best),
        },
    )


def _space(low: float) -> dict[str, Any]:
    """Five decades of the learning rate from 10^low, and the other settings in their usual
    ranges.
    """
    return {
        "optimizer.lr": LogUniformSpace(10**low, 10 ** (low + 5)),
        "penalties.0.strength": LogUniformSpace(1e-7, 1e-3),
        "network.dropout.rate": UniformSpace(0.0, 0.3),
    }


def _matters(found: Search, path: str) -> float:
    """How strongly accuracy goes with a setting below its best value and above it: the larger
    |rank correlation|.
    """
    x = np.array([t.values[path] for t in found.trials])
    y = np.array([0.0 if t.failed else t.score for t in found.trials])
    top = x[y.argmax()]
    sides = [
        float(np.corrcoef(rankdata(x[side]), rankdata(y[side]))[0, 1])
        for side in (x <= top, x >= top)
        if side.sum() > 8
    ]
    return float(np.nanmax(np.abs(sides))) if sides else 0.0


def _trials(grid: Search, random: Search, important: str) -> Any:
    other = next(path for path in reversed(NAMES) if path != important)
    picture = figure(9.6, 3.8)
    for ax, (name, found) in zip(
        picture.subplots(1, 2, sharex=True, sharey=True),
        (("grid", grid), ("random", random)),
        strict=True,
    ):
        x, y = ([t.values[path] for t in found.trials] for path in (important, other))
        score = [0.0 if t.failed else 100 * t.score for t in found.trials]
        shown = ax.scatter(
            x, y, c=score, s=26, vmin=0, vmax=100, edgecolors="#444444", linewidths=0.4
        )
        ax.set(
            xscale="log",
            xlabel=NAMES[important],
            title=f"{name}: {len(set(x))} values of the {NAMES[important]}",
        )
    picture.axes[0].set_ylabel(NAMES[other])
    picture.colorbar(shown, ax=picture.axes, label="validation accuracy, %")
    return picture


def _curves(curves: Any, best: Any) -> Any:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    k = np.arange(1, curves["grid"].shape[1] + 1)
    for i, (name, values) in enumerate(curves.items()):
        left.plot(k, 100 * values.mean(0), label=name, **line_style(i))
        spread = [t_interval(column) for column in 100 * values.T]
        band(left, k, [s.low for s in spread], [s.high for s in spread], color=COLORS[i])
    left.set(
        xscale="log",
        xlabel="trials k",
        ylabel="expected best accuracy, %",
        ylim=(None, 100),
        title="Mean over ranges, band: 95 % interval",
    )
    left.legend(loc="lower right")
    right.plot(100 * best["grid"], 100 * best["random"], "o", color=COLORS[0])
    ends = [100 * min(map(min, best.values())) - 0.5, 100 * max(map(max, best.values())) + 0.5]
    right.plot(ends, ends, color="#888888", linewidth=1, linestyle=":")
    right.set(
        xlabel="best of the grid, %", ylabel="best at random, %", title="Each range; dotted: equal"
    )
    return picture


EXPERIMENT = Experiment(
    name="random-against-grid",
    title="Random search against a grid",
    rows=("H1",),
    claim="With as many trials random search finds better settings than a grid, since few settings "
    "matter and it tries "
    "more values of those.",
    seconds=19,
    run=run,
)

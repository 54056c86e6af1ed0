"""Random search against a grid of as many trials: better where few settings matter.

How much better depends on the trials: with four settings and 81 trials each (8 ranges, measured
once) both found good rates, and the difference was not decided: +0.4 points [−0.5, +1.3]. Here
there are 27 trials. The claim is that of Bergstra & Bengio 2012. Letters: R ranges, T trials.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution
from scipy.stats import rankdata

from ravine.data import Random
from ravine.networks.layer_parts import Dropout
from ravine.networks.mlp import Mlp
from ravine.penalties import L2
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.statistics import t_interval
from ravine.studies.tune import tune
from ravine.studies.tuning import TuningResult
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import decide, draw_mean, format_interval, label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe

GRID_LEVELS = 3  # of each of three settings: 27 trials
SETTING_NAMES = {
    "optimizer.lr": "learning rate",
    "penalties.0.strength": "L2 strength",
    "network.dropout.rate": "dropout",
}


@experiment(
    "random-against-grid",
    title="Random search against a grid",
    claim="With as many trials random search finds better settings than a grid, since few settings "
    "matter and it tries more values of those.",
    rows=("H1",),
    seconds=19,
)
def compare_searches(quick: bool) -> ExperimentOutcome:
    """Search three settings of a small network on the digits, both ways, in ranges with random
    limits.
    """
    ranges, epochs = (2, 2) if quick else (12, 4)
    trials = GRID_LEVELS ** len(SETTING_NAMES)
    recipe = make_recipe(
        "digits",
        split=Random(validation=0.45, test=0.1),
        network=Mlp(hidden=(16,), dropout=Dropout()),
        penalties=(L2(),),
        epochs=epochs,
    )
    found: dict[str, list[TuningResult]] = {"grid": [], "random": []}
    for r in range(ranges):
        space = _space(np.random.default_rng(r).uniform(-5.5, -4.0))
        cells = {path: _middles(s) for path, s in space.items()}
        found["grid"].append(tune(recipe, cells, sampler="grid", seed=r, confirm=0))
        found["random"].append(
            tune(recipe, space, sampler="random", trials=trials, seed=r, confirm=0)
        )
    best = {name: np.array([_best_score(s) for s in each]) for name, each in found.items()}
    curves = {name: np.array([s.curve() for s in each]) for name, each in found.items()}  # [R, T]
    gain, few = t_interval(best["random"] - best["grid"]), GRID_LEVELS**2
    early = t_interval(curves["random"][:, few - 1] - curves["grid"][:, few - 1])
    influence = {
        name: float(np.mean([rank_influence(s, path) for s in found["random"]]))
        for path, name in SETTING_NAMES.items()
    }
    grid, random = float(best["grid"].mean()), float(best["random"].mean())
    numbers = {
        "best of the grid": grid,
        "best at random": random,
        "random above grid": gain.value,
        "random above grid low": gain.low,
        "random above grid high": gain.high,
        f"random above grid, {few} trials": early.value,
        "diverged": float(sum(s.failures for each in found.values() for s in each)),
    } | label_numbers("rank correlation", influence)
    order = sorted(influence, key=lambda name: -influence[name])
    said = (
        f"{trials} trials each in {ranges} ranges: the best random trial has {100 * random:.1f} % "
        f"validation accuracy, the best of the grid {100 * grid:.1f} %: "
        f"{format_interval(gain, '+.2f', scale=100)} points. With {few} trials the difference is "
        f"{format_interval(early, '+.2f', scale=100)}. The settings that matter: "
        + ", ".join(f"{name} {influence[name]:.2f}" for name in order)
        + f" (|rank correlation| with accuracy). The grid tries {GRID_LEVELS} values of the one "
        f"that matters most, random search {trials}."
    )
    figures = {
        "Where trials fall": _draw_trials({k: v[0] for k, v in found.items()}, order[0]),
        "Best of k trials": _draw_curves(curves, best),
    }
    return ExperimentOutcome(held=decide([gain]), said=said, numbers=numbers, figures=figures)


def _space(low: float) -> dict[str, FloatDistribution]:
    """Five decades of the learning rate from 10^low, and the other settings in their usual
    ranges.
    """
    return {
        "optimizer.lr": FloatDistribution(10**low, 10 ** (low + 5), log=True),
        "penalties.0.strength": FloatDistribution(1e-7, 1e-3, log=True),
        "network.dropout.rate": FloatDistribution(0.0, 0.3),
    }


def _middles(space: FloatDistribution) -> list[float]:
    """The middles of equal parts of a range, on its scale."""
    ends = (np.log(space.low), np.log(space.high)) if space.log else (space.low, space.high)
    shares = (np.arange(GRID_LEVELS) + 0.5) / GRID_LEVELS
    values = ends[0] + shares * (ends[1] - ends[0])
    return (np.exp(values) if space.log else values).tolist()


def _best_score(found: TuningResult) -> float:
    assert found.best is not None
    return found.best.score


def rank_influence(found: TuningResult, path: str) -> float:
    """How strongly accuracy depends on a setting, below its best value or above it: the larger
    |rank correlation|.
    """
    x = np.array([t.values[path] for t in found.trials])
    y = np.array([t.score if t.is_finished else 0.0 for t in found.trials])
    top = x[y.argmax()]
    sides = [
        float(np.corrcoef(rankdata(x[side]), rankdata(y[side]))[0, 1])
        for side in (x <= top, x >= top)
        if side.sum() > 8
    ]
    return float(np.nanmax(np.abs(sides))) if sides else 0.0


def _draw_trials(searches: dict[str, TuningResult], important: str) -> Figure:
    across = next(path for path, name in SETTING_NAMES.items() if name == important)
    up = next(path for path in reversed(SETTING_NAMES) if path != across)
    picture = figure(9.6, 3.8)
    panels = picture.subplots(1, 2, sharex=True, sharey=True)
    style: Any = {"s": 26, "vmin": 0, "vmax": 100, "edgecolors": "#444444", "linewidths": 0.4}
    for ax, (name, found) in zip(panels, searches.items(), strict=True):
        x, y = ([t.values[path] for t in found.trials] for path in (across, up))
        score = [100 * t.score if t.is_finished else 0.0 for t in found.trials]
        ax.scatter(x, y, c=score, **style)
        ax.set(xscale="log", xlabel=important)
        ax.set_title(f"{name}: {len(set(x))} values of the {important}")
    panels[0].set_ylabel(SETTING_NAMES[up])
    shown = panels[1].collections[0]
    picture.colorbar(shown, ax=picture.axes, label="validation accuracy, %")
    return picture


def _draw_curves(curves: dict[str, np.ndarray], best: dict[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    k = np.arange(1, curves["grid"].shape[1] + 1)
    for i, (name, values) in enumerate(curves.items()):
        draw_mean(left, k, 100 * values.T, label=name, **line_style(i))
    left.set(xscale="log", xlabel="trials k", ylim=(None, 100))
    left.set(ylabel="expected best accuracy, %", title="Mean over ranges, band: 95 % interval")
    left.legend(loc="lower right")
    right.plot(100 * best["grid"], 100 * best["random"], "o", color=SERIES_COLORS[0])
    scores = 100 * np.concatenate(list(best.values()))
    ends = [scores.min() - 0.5, scores.max() + 0.5]
    right.plot(ends, ends, color="#888888", linewidth=1, linestyle=":")
    right.set(xlabel="best of the grid, %", ylabel="best at random, %")
    right.set_title("Each range; dotted: equal")
    return picture

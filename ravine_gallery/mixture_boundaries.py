"""Weight decay and dropout on 200 points of a Gaussian mixture: learned boundaries beside Bayes'
(R1, R3).

Letters: S draws of the data, C recipes compared, N points.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.networks.layer_parts import Dropout
from ravine.penalties import L2
from ravine.recipe import Recipe
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import (
    Interval,
    TwoClasses,
    curved,
    interval,
    percent,
    probabilities,
    square,
    unscaled,
)

STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2)
DROPOUT = "dropout, keep 0.7"
REACH, CELLS = 3.6, 121


def recipes(epochs: int) -> dict[str, Recipe]:
    """The lecture's network, 2-50-1, with SGD at 0.1 and momentum 0.9, under each kind of
    regularization.
    """
    base = unscaled().vary("network.hidden", (50,)).vary("epochs", epochs).vary("batch", 20)
    found = {f"λ = {s:g}": base.vary("penalties", (L2(strength=s),)) for s in STRENGTHS}
    return found | {DROPOUT: base.vary("network.dropout", Dropout(rate=0.3))}


def run(quick: bool) -> Outcome:
    """Train all recipes on several draws of 200 points and compare error rates, draw by draw."""
    problem, draws = curved(), 2 if quick else 10
    chosen = recipes(20 if quick else 300)
    judges = problem.mixture.draw(4000 if quick else 20_000, 10_000)[0]
    errors, maps, first = [], {}, problem.draw(200, 0)
    for seed in range(draws):
        data = problem.draw(200, seed)
        runs = train_all([r.vary("seed", seed) for r in chosen.values()], data, workers=1)
        errors.append([problem.error_of(probabilities(r, judges) > 0.5, judges)[0] for r in runs])
        if seed == 0:
            grid = square(REACH, CELLS)
            maps = {name: probabilities(r, grid)[0] for name, r in zip(chosen, runs, strict=True)}
    table = np.array(errors)  # [S, C]
    found = {name: interval(table[:, i]) for i, name in enumerate(chosen)}
    gains = {name: interval(table[:, 0] - table[:, i]) for i, name in enumerate(chosen) if i}
    bayes = problem.error()
    numbers = {"bayes": bayes} | {f"error, {name}": value.mean for name, value in found.items()}
    numbers |= {f"gain, {name}": value.mean for name, value in gains.items()}
    numbers |= {f"gain low, {name}": value.low for name, value in gains.items()}
    best = max(gains, key=lambda name: gains[name].mean)
    helped = [name for name, gain in gains.items() if gain.low > 0]
    hurt = all(gain.high < 0 for gain in gains.values())
    held = True if len(helped) == len(gains) else False if hurt else None
    said = (
        f"Bayes' rule errs on {100 * bayes:.1f} %, the network without regularization on "
        f"{percent(found['λ = 0'])} "
        f"({draws} draws of 200 points). The largest gain is that of {best}: "
        f"{percent(gains[best])} fewer errors in "
        f"the same draws. {_helped(helped, gains)}"
    )
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={
            "Learned boundaries beside Bayes'": _boundaries(problem, first, maps, found),
            "Error rates": _errors(found, gains, bayes),
        },
    )


def _helped(helped: list[str], gains: dict[str, Interval]) -> str:
    rest = [name for name in gains if name not in helped]
    some = "The 95 % interval of the gain leaves out 0 for " + (", ".join(helped) or "none")
    return some + (f" and holds it for {', '.join(rest)}." if rest else ".")


def _boundaries(
    problem: TwoClasses,
    data: tuple[np.ndarray, np.ndarray],
    maps: dict[str, np.ndarray],
    found: dict[str, Interval],
) -> Any:
    picture = figure(9.6, 6.4)
    axes = picture.subplots(2, 3, sharex=True, sharey=True).flat
    line = np.linspace(-REACH, REACH, CELLS)
    best = problem.probability(square(REACH, CELLS)).reshape(CELLS, CELLS)
    points, classes = data
    panels = {"the data": None} | maps
    for ax, (name, values) in zip(axes, panels.items(), strict=True):
        if values is not None:
            shown = values.reshape(CELLS, CELLS)
            ax.contourf(
                line, line, shown, levels=[0, 0.5, 1], colors=[COLORS[0], COLORS[1]], alpha=0.22
            )
            ax.contour(line, line, shown, levels=[0.5], colors="black", linewidths=1.4)
        ax.contour(line, line, best, levels=[0.5], colors=GRAY, linestyles="--", linewidths=1.4)
        for which, mark in ((0, "o"), (1, "^")):
            ax.plot(*points[classes == which].T, mark, color=COLORS[which], markersize=3)
        ax.set_title(name if values is None else f"{name}: {100 * found[name].mean:.1f} % errors")
        ax.set_aspect("equal")
        ax.grid(False)
    picture.suptitle(
        "200 points of two classes; dashed: Bayes' boundary, black: what a network of 50 units "
        "learned"
    )
    return picture


def _errors(found: dict[str, Interval], gains: dict[str, Interval], bayes: float) -> Any:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    for ax, values, label in (
        (left, found, "errors, %"),
        (right, gains, "saved against λ = 0, % of points"),
    ):
        for i, value in enumerate(values.values()):
            mean, low, high = (100 * v for v in value)
            intervals(ax, [i], [mean], [low], [high], upright=False)
        ax.set_yticks(range(len(values)), list(values))
        ax.invert_yaxis()
        ax.set_xlabel(label)
    left.axvline(100 * bayes, color=GRAY, linestyle="--", label="Bayes' rule")
    left.legend()
    right.axvline(0, color=GRAY)
    left.set_title("Mean over draws of the data, 95 % interval")
    right.set_title("In the same draw")
    return picture


EXPERIMENT = Experiment(
    name="mixture-boundaries",
    title="Weight decay and dropout smooth the boundary",
    rows=("R1", "R3"),
    claim="A network of 50 units overfits 200 points of a Gaussian mixture (learning rate 0.1, "
    "momentum 0.9); weight "
    "decay of 1e-4, 1e-3 or 1e-2, or dropout that keeps 0.7, brings its boundary closer to Bayes'.",
    seconds=20,
    run=run,
)

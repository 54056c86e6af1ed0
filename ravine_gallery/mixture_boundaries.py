"""Weight decay and dropout on 200 points of a Gaussian mixture: learned boundaries beside Bayes'.

Letters: S draws of the data, C recipes compared, N points.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ravine.networks.layer_parts import Dropout
from ravine.networks.mlp import Mlp
from ravine.penalties import L2
from ravine.recipe import Recipe
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import Interval, t_interval
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import decide, draw_named_intervals, format_percent, label_numbers
from ravine_gallery.network_experiments import (
    TwoClasses,
    class_probabilities,
    curved_classes,
    draw_classes,
    draw_decision,
    make_unscaled_recipe,
    square_grid,
)

DECAY_STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2)
PLANE_REACH, PLANE_CELLS = 3.6, 121


@experiment(
    "mixture-boundaries",
    title="Weight decay and dropout smooth the boundary",
    claim="A network of 50 units overfits 200 points of a Gaussian mixture (learning rate 0.1, "
    "momentum 0.9); weight decay of 1e-4, 1e-3 or 1e-2, or dropout that keeps 0.7, brings its "
    "boundary closer to Bayes'.",
    rows=("R1", "R3"),
    seconds=20,
)
def compare_boundaries(quick: bool) -> ExperimentOutcome:
    """Train all recipes on several draws of 200 points and compare error rates, draw by draw."""
    problem, draws = curved_classes(), 2 if quick else 10
    recipes = regularized_recipes(20 if quick else 300)
    points = problem.mixture.draw(4000 if quick else 20_000, 10_000)[0]
    errors, maps, first = [], {}, problem.draw(200, 0)
    for seed in range(draws):
        data = problem.draw(200, seed)
        runs = train_all([r.vary("seed", seed) for r in recipes.values()], data, workers=1)
        predictions = [class_probabilities(run, points) > 0.5 for run in runs]
        errors.append([problem.error_of(each, points)[0] for each in predictions])
        if seed == 0:
            grid = square_grid(PLANE_REACH, PLANE_CELLS)
            found = [class_probabilities(run, grid)[0] for run in runs]
            maps = dict(zip(recipes, found, strict=True))
    table = dict(zip(recipes, np.array(errors).T, strict=True))  # [S] each
    rates = {name: t_interval(values) for name, values in table.items()}
    plain, *others = table
    gains = {name: t_interval(table[plain] - table[name]) for name in others}
    bayes = problem.error()
    numbers = {"bayes": bayes} | label_numbers("error", rates) | label_numbers("gain", gains)
    numbers |= label_numbers("gain low", {name: gain.low for name, gain in gains.items()})
    best = max(gains, key=lambda name: gains[name].value)
    helped = [name for name, gain in gains.items() if gain.low > 0]
    rest = [name for name in gains if name not in helped]
    said = (
        f"Bayes' rule errs on {100 * bayes:.1f} %, the network without regularization on "
        f"{format_percent(rates[plain])} ({draws} draws of 200 points). The largest gain is that "
        f"of {best}: {format_percent(gains[best])} fewer errors on the same draws. The 95 % "
        f"interval of the gain excludes 0 for {', '.join(helped) or 'none'}"
        + (f" and includes it for {', '.join(rest)}." if rest else ".")
    )
    figures = {
        "Learned boundaries beside Bayes'": _draw_boundaries(problem, first, maps, rates),
        "Error rates": _draw_errors(rates, gains, bayes),
    }
    return ExperimentOutcome(
        held=decide(gains.values()), said=said, numbers=numbers, figures=figures
    )


def regularized_recipes(epochs: int) -> dict[str, Recipe]:
    """The lecture's network, 2-50-1, with SGD at 0.1 and momentum 0.9, under each kind of
    regularization.
    """
    base = make_unscaled_recipe(network=Mlp(hidden=(50,)), epochs=epochs, batch=20)
    decayed = {f"λ = {s:g}": base.vary("penalties", (L2(strength=s),)) for s in DECAY_STRENGTHS}
    return decayed | {"dropout, keep 0.7": base.vary("network.dropout", Dropout(rate=0.3))}


def _draw_boundaries(
    problem: TwoClasses,
    data: tuple[np.ndarray, np.ndarray],
    maps: dict[str, np.ndarray],
    rates: dict[str, Interval],
) -> Figure:
    picture = figure(9.6, 6.4)
    axes = picture.subplots(2, 3, sharex=True, sharey=True).flat
    line = np.linspace(-PLANE_REACH, PLANE_REACH, PLANE_CELLS)
    best = problem.probability(square_grid(PLANE_REACH, PLANE_CELLS))
    best = best.reshape(PLANE_CELLS, PLANE_CELLS)
    for ax, name in zip(axes, ("the data", *maps), strict=True):
        if name in maps:
            draw_decision(ax, maps[name], reach=PLANE_REACH, boundary=0.5)
        ax.contour(
            line, line, best, levels=[0.5], colors=GRAY_COLOR, linestyles="--", linewidths=1.4
        )
        draw_classes(ax, data, size=3)
        title = f"{name}: {100 * rates[name].value:.1f} % errors" if name in maps else name
        ax.set(title=title, aspect="equal")
    picture.suptitle(
        "200 points of two classes; dashed: Bayes' boundary, black: that of a trained network of "
        "50 units"
    )
    return picture


def _draw_errors(rates: dict[str, Interval], gains: dict[str, Interval], bayes: float) -> Figure:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    for ax, found in ((left, rates), (right, gains)):
        draw_named_intervals(ax, found, scale=100, upright=False, colors=SERIES_COLORS[:1])
    left.axvline(100 * bayes, color=GRAY_COLOR, linestyle="--", label="Bayes' rule")
    left.legend()
    right.axvline(0, color=GRAY_COLOR)
    left.set(xlabel="errors, %", title="Mean over draws of the data, 95 % interval")
    right.set(xlabel="fewer errors than with λ = 0, % of points", title="On the same draw")
    return picture

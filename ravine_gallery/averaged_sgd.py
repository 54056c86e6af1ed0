"""Averaged stochastic gradient descent on 1.25 (x₁ + 6)² + (x₂ − 8)²."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import ASGD, SGD
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_quartiles, label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.optimizer_paths import (
    Walk,
    draw_path,
    draw_surface,
    gradient_of,
    mark_minima,
    noisy_gradient,
    walk,
)
from ravine_gallery.surfaces import find_surface

QUADRATIC_BOWL = find_surface("quadratic")
AVERAGED_RATE = 0.1
GRADIENT_SD = 10.0  # of the noise in each entry of the gradient


@experiment(
    "averaged-sgd",
    title="The average of noisy steps",
    claim="On 1.25 (x₁ + 6)² + (x₂ − 8)² stochastic gradient descent wanders about the minimum; "
    "its averaged iterate is nearer to it.",
    rows=("O1",),
    seconds=2,
)
def compare_averages(quick: bool) -> ExperimentOutcome:
    """Compare the last iterate with averages from the start and from halfway."""
    walkers, steps = (40, 300) if quick else (400, 1000)
    half = steps // 2
    plain = _noisy_walk(SGD(lr=AVERAGED_RATE), walkers, steps)
    paths = {
        "the last iterate": plain.rows,
        "averaged from the start": _averaged_path(walkers, steps, begin=0),
        "averaged from halfway": _averaged_path(walkers, steps, begin=half),
    }
    distances = {name: _distances(path) for name, path in paths.items()}
    ends = {name: t_interval(found[-1]) for name, found in distances.items()}
    whole_path, last_path = distances["averaged from the start"], distances["the last iterate"]
    ratio = t_interval(whole_path[-1] / last_path[-100:].mean(0))
    behind = np.flatnonzero(np.median(whole_path, 1) > np.median(last_path, 1))
    crossing = int(behind[-1]) + 1 if len(behind) else 0
    numbers = label_numbers("distance at the end", ends)
    numbers |= {
        "averaged over last, ratio": ratio.value,
        "steps for which the average is behind": float(crossing),
    }
    last, whole, late = ends.values()
    said = (
        f"After {steps:,} noisy steps at a rate of {AVERAGED_RATE} the average of all iterates is "
        f"{whole.value:.2f} [{whole.low:.2f}, {whole.high:.2f}] from the minimum, the last iterate "
        f"{last.value:.2f} [{last.low:.2f}, {last.high:.2f}] ({walkers} walkers). During the first "
        f"{crossing} steps the average is farther away: it still remembers the start. An average "
        f"that begins halfway ends {late.value:.2f} away."
    )
    figures = {
        "One walker, and its average in black": _draw_ways(plain, steps),
        "The distance from the minimum (median and middle half)": _draw_distances(distances, half),
    }
    return ExperimentOutcome(
        held=bool(whole.high < last.low), said=said, numbers=numbers, figures=figures
    )


def _noisy_walk(rule: SGD | ASGD, walkers: int, steps: int) -> Walk:
    gradient = noisy_gradient(QUADRATIC_BOWL, walkers, steps, sd=GRADIENT_SD)
    return walk(rule, torch.zeros(walkers, 2), gradient, steps)


def _averaged_path(walkers: int, steps: int, *, begin: int) -> Tensor:
    """The average of the iterates after `begin` steps, of descent at a constant rate."""
    rule = ASGD(lr=AVERAGED_RATE, lambd=0.0, power=0.0, t0=float(begin))
    return _noisy_walk(rule, walkers, steps).eval_rows


def _distances(path: Tensor) -> np.ndarray:
    minimum = torch.tensor(QUADRATIC_BOWL.minima, dtype=path.dtype)
    return torch.linalg.vector_norm(path - minimum, dim=2).numpy()


def _draw_ways(plain: Walk, steps: int) -> Figure:
    picture = figure(7.4, 3.7)
    left, right = picture.subplots(1, 2, sharey=True)
    shown = 150
    for axes in (left, right):
        draw_surface(axes, QUADRATIC_BOWL, (-12, 3, -2, 14), levels=14)
        axes.set(aspect="equal", xlabel="x₁")
    exact = walk(SGD(lr=AVERAGED_RATE), [0.0, 0.0], gradient_of(QUADRATIC_BOWL), shown)
    draw_path(left, exact.rows[:, 0], color=SERIES_COLORS[0])
    left.set(title="gradient descent", ylabel="x₂")
    path = plain.rows[: shown + 1, 0]
    draw_path(right, path, color=SERIES_COLORS[1], width=0.7)
    mean = path.cumsum(0) / torch.arange(1, shown + 2, dtype=torch.float64)[:, None]
    draw_path(right, mean, color=SERIES_COLORS[4], dots=False, width=2.0)
    right.set_title(f"stochastic, {shown} steps")
    for axes in (left, right):
        mark_minima(axes, *QUADRATIC_BOWL.minima)
    return picture


def _draw_distances(distances: dict[str, np.ndarray], half: int) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (name, found) in enumerate(distances.items()):
        shown = np.arange(half if "halfway" in name else 1, len(found))
        draw_quartiles(axes, shown, found[shown], label=name, **line_style(i))
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="distance")
    axes.legend(loc="lower left")
    return picture

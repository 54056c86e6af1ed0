"""Paths of gradient descent and of its stochastic form, with rates from too small to too large."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD
from ravine.reporting.plot_style import figure
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.optimizer_paths import (
    Regression,
    draw_path,
    draw_paths,
    draw_surface,
    make_regression,
    mark_minima,
    path_lengths,
    shuffled_minibatches,
    walk,
)

EXAMPLES_SEEN = 200
START_POINT = (-1.5, 1.5)
PATH_RATE, PATH_STEPS, STEPS_SHOWN = 0.1, 400, 200
# shares of the largest rate that converges on the sample
SHARES_OF_LIMIT = {"too small": 0.002, "good": 0.5, "large": 0.97, "too large": 1.02}


@experiment(
    "gradient-paths",
    title="Gradient and stochastic paths",
    claim="Gradient descent goes straight down; a stochastic path reaches the same place noisily. "
    "A rate that is too small is very slow; one that is too large jumps around the minimum and may "
    "not converge.",
    rows=("O1", "V1"),
    seconds=3,
)
def compare_gradient_paths(quick: bool) -> ExperimentOutcome:
    """Walk on one regression with all examples and with minibatches, and at several rates."""
    data = make_regression(0, EXAMPLES_SEEN)
    walkers = 5 if quick else 60
    paths = {
        "all examples": walk(SGD(lr=PATH_RATE), START_POINT, data.gradient, PATH_STEPS).rows,
        "batch 1": _stochastic_path(data, 1, walkers),
        "batch 16": _stochastic_path(data, 16, walkers),
    }
    ends = {
        name: torch.linalg.vector_norm(path - data.best(), dim=2)[-100:].mean(0).numpy()
        for name, path in paths.items()
    }
    detours = {name: _detours(path) for name, path in paths.items()}
    covariance = data.inputs.T @ data.inputs / EXAMPLES_SEEN
    limit = 2 / float(torch.linalg.eigvalsh(2 * covariance).max())
    excess = {name: _excess(data, share * limit) for name, share in SHARES_OF_LIMIT.items()}
    below, above = _grows(data, 0.999 * limit), _grows(data, 1.001 * limit)
    full, one, sixteen = (t_interval(found) for found in ends.values())
    lengths = {name: float(found.mean()) for name, found in detours.items()}
    left = {name: float(found[-1] / found[0]) for name, found in excess.items()}
    numbers = label_numbers(
        "distance at the end", {name: t_interval(found) for name, found in ends.items()}
    )
    numbers |= label_numbers("length of the path over the straight way", lengths)
    numbers |= label_numbers("excess loss over the first", left)
    numbers |= {
        "largest rate that converges": limit,
        "grows just below it": float(below),
        "grows just above it": float(above),
    }
    said = (
        f"The path of gradient descent is straight ({lengths['all examples']:.2f} times the "
        f"distance) and ends {full.value:.0e} from the minimum; with single examples it is "
        f"{lengths['batch 1']:.0f} times as long as the distance and stays {one.value:.2f} "
        f"[{one.low:.2f}, {one.high:.2f}] away, with batches of 16 {sixteen.value:.3f} "
        f"[{sixteen.low:.3f}, {sixteen.high:.3f}]. At a rate of "
        f"{SHARES_OF_LIMIT['too small'] * limit:.3f}, {left['too small']:.0%} of the excess loss "
        f"is left after 60 steps; above {limit:.2f}, 2 over the largest curvature, the steps jump "
        f"across the minimum and outwards (the excess grows {left['too large']:.0f} times)."
    )
    held = one.low > 10 * full.value and left["too small"] > 0.01 and above and not below
    title = f"The paths at a rate of {PATH_RATE} over the loss of all examples, {STEPS_SHOWN} steps"
    figures = {
        title: _draw_three(data, paths),
        "Too small, too large: gradient descent with all examples": _draw_rates(
            data, excess, limit
        ),
    }
    return ExperimentOutcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def _stochastic_path(data: Regression, batch: int, walkers: int) -> Tensor:
    """Walkers on minibatches without replacement, each in its own order: [T + 1, P, 2]."""
    batches = shuffled_minibatches(EXAMPLES_SEEN, batch, range(walkers), PATH_STEPS)

    def gradient(rows: Tensor, step: int) -> Tensor:
        return data.batch_gradient(rows, next(batches))

    starts = torch.tensor([START_POINT]).repeat(walkers, 1)
    return walk(SGD(lr=PATH_RATE), starts, gradient, PATH_STEPS).rows


def _detours(path: Tensor) -> np.ndarray:
    """The length of each path over the distance from its start to its end."""
    return (path_lengths(path) / torch.linalg.vector_norm(path[0] - path[-1], dim=1)).numpy()


def _excess(data: Regression, rate: float, steps: int = 60) -> np.ndarray:
    """How far the loss is above its minimum at each step."""
    path = walk(SGD(lr=rate), START_POINT, data.gradient, steps).rows[:, 0]
    return (data.loss(path) - data.loss(data.best())).clamp_min(1e-16).numpy()


def _grows(data: Regression, rate: float) -> bool:
    """Whether the loss is higher after many steps than after few."""
    excess = _excess(data, rate, 4000)
    return bool(excess[-1] > excess[2000])


def _draw_three(data: Regression, paths: dict[str, Tensor]) -> Figure:
    titles = {
        "all examples": "all examples",
        "batch 16": "batches of 16",
        "batch 1": "single examples",
    }
    return draw_paths(
        data.loss,
        (-2.0, 2.4, -2.6, 2.1),
        {title: paths[name][: STEPS_SHOWN + 1, 0] for name, title in titles.items()},
        size=(8.0, 3.4),
        minimum=data.best_point(),
        labels=("w₁", "w₂"),
        width=0.9,
    )


def _draw_rates(data: Regression, excess: dict[str, np.ndarray], limit: float) -> Figure:
    picture = figure(8.0, 3.6)
    left, right = picture.subplots(1, 2, width_ratios=(1.3, 1))
    for i, (name, found) in enumerate(excess.items()):
        left.plot(found, label=f"{name}: {SHARES_OF_LIMIT[name] * limit:.3g}", **line_style(i))
    left.set(yscale="log", ylim=(1e-8, 1e3), xlabel="step", ylabel="loss above the minimum")
    left.legend(loc="lower left")
    draw_surface(right, data.loss, (-2.0, 3.6, -3.6, 2.1), levels=16)
    for i, name in ((0, "too small"), (2, "large")):
        rule = SGD(lr=SHARES_OF_LIMIT[name] * limit)
        path = walk(rule, START_POINT, data.gradient, 40).rows[:, 0]
        draw_path(right, path, color=line_style(i)["color"], label=name, width=0.9)
    mark_minima(right, data.best_point())
    right.set(title="40 steps", xlabel="w₁", ylabel="w₂")
    right.legend(loc="upper right")
    return picture

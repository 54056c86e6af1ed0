"""Gradient and stochastic paths over one surface, and rates that are too small and too large."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD
from ravine.reporting.plot_style import COLORS, figure, line_style
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.network_experiments import interval
from ravine_gallery.optimizer_paths import (
    Regression,
    epochs_of,
    ground,
    regression,
    target,
    trail,
    walk,
)

EXAMPLES = 200
START = (-1.5, 1.5)
RATE = 0.1
STEPS = 400
SHOWN = 200
RATES = {
    "too small": 0.002,
    "good": 0.5,
    "large": 0.97,
    "too large": 1.02,
}  # shares of the sample's own limit


@experiment(
    "gradient-paths",
    title="Gradient and stochastic paths",
    claim="The gradient's path goes straight down, a stochastic path reaches the same place "
    "noisily. A rate that is too small is very slow; one that is too large jumps around the "
    "minimum and may not converge.",
    rows=("O1", "V1"),
    seconds=3,
)
def compare_gradient_paths(quick: bool) -> Outcome:
    data = regression(0, EXAMPLES)
    walkers = 5 if quick else 60
    full = walk(SGD(lr=RATE), START, data.gradient, STEPS).rows
    noisy = {batch: stochastic(data, batch, walkers) for batch in (1, 16)}
    apart = {"all examples": full, **{f"batch {batch}": way for batch, way in noisy.items()}}
    ends = {
        name: torch.linalg.vector_norm(way - data.best(), dim=2)[-100:].mean(0).numpy()
        for name, way in apart.items()
    }
    lengths = {name: _length(way) for name, way in apart.items()}
    limit = 2 / float(torch.linalg.eigvalsh(2 * data.inputs.T @ data.inputs / EXAMPLES).max())
    excess = {name: _excess(data, share * limit) for name, share in RATES.items()}
    below, above = _grows(data, 0.999 * limit), _grows(data, 1.001 * limit)
    one, sixteen = interval(ends["batch 1"]), interval(ends["batch 16"])
    numbers = {
        "distance at the end, all examples": float(ends["all examples"][0]),
        "distance at the end, batch 1": one.mean,
        "distance at the end, batch 16": sixteen.mean,
        "length of the path over the straight way, all examples": float(lengths["all examples"][0]),
        "length of the path over the straight way, batch 1": float(lengths["batch 1"].mean()),
        "length of the path over the straight way, batch 16": float(lengths["batch 16"].mean()),
        **{
            f"excess loss over the first, {name}": float(found[-1] / found[0])
            for name, found in excess.items()
        },
        "largest rate that converges": limit,
        "grows just below it": float(below),
        "grows just above it": float(above),
    }
    small, large = excess["too small"], excess["too large"]
    said = (
        f"The gradient's path goes straight ({lengths['all examples'][0]:.2f} times the straight "
        f"way) and ends "
        f"{ends['all examples'][0]:.0e} from the minimum; single examples go "
        f"{lengths['batch 1'].mean():.0f} times "
        f"as far and stay {one.mean:.2f} [{one.low:.2f}, {one.high:.2f}] away, batches of 16 "
        f"{sixteen.mean:.3f} "
        f"[{sixteen.low:.3f}, {sixteen.high:.3f}]. A rate of {RATES['too small'] * limit:.3f} "
        f"still has "
        f"{small[-1] / small[0]:.0%} of the excess loss after {len(small) - 1} steps; above "
        f"{limit:.2f}, 2 over the "
        f"largest curvature, steps jump across the minimum and outwards "
        f"({large[-1] / large[0]:.0f} times as high)."
    )
    held = (
        one.low > 10 * ends["all examples"][0]
        and small[-1] > 0.01 * small[0]
        and above
        and not below
    )
    figures = {
        f"The paths at a rate of {RATE} over the loss of all examples, {SHOWN} steps": _draw_ways(
            data, full, noisy
        ),
        "Too small, too large: gradient descent with all examples": _draw_rates(
            data, excess, limit
        ),
    }
    return Outcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def stochastic(data: Regression, batch: int, walkers: int) -> Tensor:
    """Walkers that see minibatches without replacement, each in its own order: [T + 1, P, 2]."""
    draws = epochs_of(EXAMPLES, batch, range(walkers), STEPS)

    def gradient(rows: Tensor, step: int) -> Tensor:
        return data.batch_gradient(rows, next(draws))

    return walk(SGD(lr=RATE), torch.tensor([START]).repeat(walkers, 1), gradient, STEPS).rows


def _length(way: Tensor) -> np.ndarray:
    """The length of each path over the straight way from its start to the minimum it is near."""
    lengths = torch.linalg.vector_norm(way.diff(dim=0), dim=2).sum(0)
    return (lengths / torch.linalg.vector_norm(way[0] - way[-1], dim=1)).numpy()


def _excess(data: Regression, rate: float, steps: int = 60) -> np.ndarray:
    """How far the loss is above its minimum at each step."""
    way = walk(SGD(lr=rate), START, data.gradient, steps).rows[:, 0]
    return (data.loss(way) - data.loss(data.best())).clamp_min(1e-16).numpy()


def _grows(data: Regression, rate: float) -> bool:
    """Whether the loss is higher after many steps than after few."""
    excess = _excess(data, rate, 4000)
    return bool(excess[-1] > excess[2000])


def _draw_ways(data: Regression, full: Tensor, noisy: dict[int, Tensor]) -> Figure:
    picture = figure(8.0, 3.4)
    ways = {"all examples": full, "batches of 16": noisy[16], "single examples": noisy[1]}
    best = tuple(data.best()[0].tolist())
    for axes, (title, way), color in zip(
        picture.subplots(1, 3, sharey=True), ways.items(), COLORS, strict=False
    ):
        ground(axes, data.loss, (-2.0, 2.4, -2.6, 2.1), levels=16)
        trail(axes, way[: SHOWN + 1, 0], color=color, width=0.9)
        target(axes, best)
        axes.set_title(title)
        axes.set_xlabel("w₁")
    picture.axes[0].set_ylabel("w₂")
    return picture


def _draw_rates(data: Regression, excess: dict[str, np.ndarray], limit: float) -> Figure:
    picture = figure(8.0, 3.6)
    left, right = picture.subplots(1, 2, width_ratios=(1.3, 1))
    for i, (name, found) in enumerate(excess.items()):
        left.plot(found, label=f"{name}: {RATES[name] * limit:.3g}", **line_style(i))
    left.set_yscale("log")
    left.set_ylim(1e-8, 1e3)
    left.set_xlabel("step")
    left.set_ylabel("loss above the minimum")
    left.legend(loc="lower left")
    ground(right, data.loss, (-2.0, 3.6, -3.6, 2.1), levels=16)
    for i, name in ((0, "too small"), (2, "large")):
        way = walk(SGD(lr=RATES[name] * limit), START, data.gradient, 40).rows[:, 0]
        trail(right, way, color=line_style(i)["color"], label=name, width=0.9)
    target(right, tuple(data.best()[0].tolist()))
    right.set_title("40 steps")
    right.set_xlabel("w₁")
    right.set_ylabel("w₂")
    right.legend(loc="upper right")
    return picture

"""Averaged stochastic gradient descent on 1.25 (x₁ + 6)² + (x₂ − 8)²: is the average nearer the
minimum?
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import ASGD, SGD
from ravine.reporting.plot_style import COLORS, band, figure, line_style
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.network_experiments import interval
from ravine_gallery.optimizer_paths import Walk, ground, slope, surface, target, trail, walk

BOWL = surface("quadratic")
LR, NOISE = 0.1, 10.0  # the noise is the SD of each entry of the gradient


@experiment(
    "averaged-sgd",
    title="The average of noisy steps",
    claim="On 1.25 (x₁ + 6)² + (x₂ − 8)² stochastic gradient descent wanders about the minimum; "
    "its averaged iterate is nearer to it.",
    rows=("O1",),
    seconds=2,
)
def compare_averages(quick: bool) -> Outcome:
    walkers, steps = (40, 300) if quick else (400, 1000)
    half = steps // 2
    plain = walk(SGD(lr=LR), _starts(walkers), _noisy(walkers, steps), steps)
    ways = {
        "the last iterate": plain.rows,
        "averaged from the start": averaged(walkers, steps, begin=0).settled,
        "averaged from halfway": averaged(walkers, steps, begin=half).settled,
    }
    apart = {name: _distance(way) for name, way in ways.items()}
    ends = {name: interval(found[-1]) for name, found in apart.items()}
    gain = interval(apart["averaged from the start"][-1] / apart["the last iterate"][-100:].mean(0))
    medians = {name: np.median(found, 1) for name, found in apart.items()}
    behind = np.flatnonzero(medians["averaged from the start"] > medians["the last iterate"])
    crossing = int(behind[-1]) + 1 if len(behind) else 0
    numbers = {f"distance at the end, {name}": found.mean for name, found in ends.items()}
    numbers |= {
        "averaged over last, ratio": gain.mean,
        "steps for which the average is behind": float(crossing),
    }
    last, whole, late = ends.values()
    said = (
        f"After {steps:,} noisy steps at a rate of {LR} the average of all iterates is "
        f"{whole.mean:.2f} "
        f"[{whole.low:.2f}, {whole.high:.2f}] from the minimum, the last iterate {last.mean:.2f} "
        f"[{last.low:.2f}, "
        f"{last.high:.2f}] ({walkers} walkers). Early on it is the other way round: for {crossing} "
        f"steps the average "
        f"still remembers the start. Begun halfway it ends {late.mean:.2f} away."
    )
    figures = {
        "One walker, and its average in black": _ways(plain, steps),
        "The distance from the minimum (median and middle half)": _draw(apart, half),
    }
    return Outcome(held=bool(whole.high < last.low), said=said, numbers=numbers, figures=figures)


def averaged(walkers: int, steps: int, *, begin: int) -> Walk:
    """Descent at a constant rate whose iterates are averaged after `begin` steps."""
    return walk(
        ASGD(lr=LR, lambd=0.0, power=0.0, t0=float(begin)),
        _starts(walkers),
        _noisy(walkers, steps),
        steps,
    )


def _starts(walkers: int) -> Tensor:
    return torch.tensor([[0.0, 0.0]], dtype=torch.float64).repeat(walkers, 1)


def _noisy(walkers: int, steps: int):
    """The bowl's gradient and noise: the same for each walker, whatever the rule."""
    noise = NOISE * torch.randn(
        steps, walkers, 2, generator=stream(0, "noise"), dtype=torch.float64
    )
    exact = slope(BOWL)
    return lambda rows, step: exact(rows, step) + noise[step - 1]


def _distance(way: Tensor) -> np.ndarray:
    return torch.linalg.vector_norm(way - torch.tensor(BOWL.minima, dtype=way.dtype), dim=2).numpy()


def _ways(plain: Walk, steps: int) -> Figure:
    picture = figure(7.4, 3.7)
    left, right = picture.subplots(1, 2, sharey=True)
    shown = 150
    for axes in (left, right):
        ground(axes, BOWL, (-12, 3, -2, 14), levels=14)
        axes.set_aspect("equal")
        axes.set_xlabel("x₁")
    trail(left, walk(SGD(lr=LR), _starts(1), slope(BOWL), shown).rows[:, 0], color=COLORS[0])
    left.set_title("gradient descent")
    left.set_ylabel("x₂")
    trail(right, plain.rows[: shown + 1, 0], color=COLORS[1], width=0.7)
    mean = (
        plain.rows[: shown + 1, 0].cumsum(0)
        / torch.arange(1, shown + 2, dtype=torch.float64)[:, None]
    )
    trail(right, mean, color=COLORS[4], dots=False, width=2.0)
    right.set_title(f"stochastic, {shown} steps")
    for axes in (left, right):
        target(axes, *BOWL.minima)
    return picture


def _draw(apart: dict[str, np.ndarray], half: int) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (name, found) in enumerate(apart.items()):
        shown = np.arange(half if "halfway" in name else 1, len(found))
        low, middle, high = np.percentile(found[shown], [25, 50, 75], axis=1)
        axes.plot(shown, middle, label=name, **line_style(i))
        band(axes, shown, low, high, color=COLORS[i])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("distance")
    axes.legend(loc="lower left")
    return picture

"""Momentum: what it damps, what it speeds up, what it is a sum of, and where its two conventions
part.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import Momentum
from ravine.reporting.plot_style import GRAY, figure, line_style
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.optimizer_paths import Walk, ground, slope, surface, target, trail, values, walk

RAVINE = surface("ravine")
START = torch.tensor([[0.6, 4.0]], dtype=torch.float64)
# the rate of the slides' pictures; on this ravine descent without momentum just fails to converge
# with it
SLIDE = 0.1
STRENGTHS = (0.0, 0.5, 0.9)
STEPS = 60
DROP, FACTOR = 20, 0.1  # after how many steps the rate falls, and to what share


@experiment(
    "momentum",
    title="Momentum: damping, speed, and two conventions",
    claim="Momentum damps the oscillation across a ravine and gathers speed along it; it “can help "
    "a lot, almost never hurts”. The weights move by a weighted sum of all past gradients.",
    rows=("O2",),
    seconds=1,
)
def measure_momentum(quick: bool) -> Outcome:
    ways = {μ: walk(Momentum(lr=SLIDE, momentum=μ), START, slope(RAVINE), STEPS) for μ in STRENGTHS}
    swings = {μ: float(_swing(way)) for μ, way in ways.items()}
    rates = np.geomspace(0.003, 0.35, 24 if quick else 120)
    needed = {μ: _needed(μ, rates, 400) for μ in STRENGTHS}
    helps = _share(needed[0.9] < needed[0.0], needed)
    hurts = _share(needed[0.9] > needed[0.0], needed)
    same, parted = _conventions(drop=False), _conventions(drop=True)
    numbers = {
        **{f"swing across the ravine at 0.1, momentum {μ}": swing for μ, swing in swings.items()},
        **{
            f"fewest steps to 1e-6, momentum {μ}": float(np.min(found))
            for μ, found in needed.items()
        },
        "share of rates at which 0.9 is faster than none": helps,
        "share of rates at which 0.9 is slower than none": hurts,
        "error of the weighted sum of past gradients": _sum_error(ways[0.9]),
        "largest distance of the conventions, constant rate": float(same.max()),
        "largest distance of the conventions, rate falls": float(parted.max()),
    }
    fewest = {μ: np.min(found) for μ, found in needed.items()}
    said = (
        f"At the slides' rate of 0.1 the way across the ravine is {swings[0.0]:.0f} long without "
        f"momentum, which "
        f"jumps for ever, and {swings[0.5]:.1f} with 0.5: damped. Momentum 0.9 is faster at "
        f"{helps:.0%} of the "
        f"rates, slower at {hurts:.0%}, so “almost never hurts” is not so: at their best rates "
        f"none needs "
        f"{fewest[0.0]:.0f} steps, 0.5 {fewest[0.5]:.0f} and 0.9 {fewest[0.9]:.0f}. The weights "
        f"are η times the "
        f"weighted sum of past gradients, to "
        f"{numbers['error of the weighted sum of past gradients']:.0e}. The two "
        f"conventions agree to {same.max():.0e} at a constant rate and part by {parted.max():.2g} "
        f"when it falls to a "
        "tenth."
    )
    figures = {
        "The ravine at a rate of 0.1": _ways(ways),
        "Steps to lower R to a millionth": _speeds(rates, needed),
        "The two conventions: the rate inside the velocity, or outside": _parting(same, parted),
    }
    damped = swings[0.5] < 0.2 * swings[0.0]
    return Outcome(
        held=(None if hurts > 0.1 else True) if damped else False,
        said=said,
        numbers=numbers,
        figures=figures,
    )


def _swing(way: Walk) -> Tensor:
    """How long the way is across the ravine."""
    return way.rows[:, 0, 0].diff().abs().sum()


def _needed(momentum: float, rates: np.ndarray, steps: int) -> np.ndarray:
    """Steps until R stays below a millionth of its start, for each rate; `steps` where it never
    does.
    """
    rules = [Momentum(lr=float(rate), momentum=momentum) for rate in rates]
    height = values(RAVINE, walk(rules, START, slope(RAVINE), steps).rows)
    above = ~(height <= 1e-6 * height[0])  # also where it is NaN
    last = torch.where(above.any(0), steps - above.flip(0).int().argmax(0), 0)
    return (last + 1).clamp(max=steps).numpy()


def _share(where: np.ndarray, needed: dict[float, np.ndarray]) -> float:
    """Among the rates with which one of the two arrives."""
    usable = np.minimum(needed[0.0], needed[0.9]) < 400
    return float(where[usable].mean())


def _sum_error(way: Walk) -> float:
    """θ(t+1) = θ(t) − η Σ μ^i g(t − i), worked out from the gradients of the walk: the largest
    error.
    """
    worst = 0.0
    for t in range(STEPS):
        powers = 0.9 ** torch.arange(t + 1, dtype=torch.float64)
        step = SLIDE * (powers[:, None] * way.grads[: t + 1, 0].flip(0)).sum(0)
        worst = max(worst, float((way.rows[t, 0] - step - way.rows[t + 1, 0]).abs().max()))
    return worst


def _conventions(*, drop: bool) -> np.ndarray:
    """The distance of the paths of both conventions at each step."""

    def factor(step: int) -> float:
        return FACTOR if drop and step > DROP else 1.0

    inside, outside = (
        walk(
            Momentum(lr=0.05, momentum=0.9, form=form), START, slope(RAVINE), STEPS, factor=factor
        ).rows[:, 0]
        for form in ("inside", "outside")
    )
    return torch.linalg.vector_norm(inside - outside, dim=1).numpy()


def _ways(ways: dict[float, Walk]) -> Figure:
    picture = figure(8.0, 3.2)
    for i, (axes, (μ, way)) in enumerate(
        zip(picture.subplots(1, 3, sharey=True), ways.items(), strict=True)
    ):
        ground(axes, RAVINE, (-1.1, 1.1, -3.0, 4.6), levels=16)
        trail(axes, way.rows[:, 0], color=line_style(i)["color"])
        target(axes, (0.0, 0.0))
        axes.set_title(f"momentum {μ:g}" if μ else "no momentum")
        axes.set_xlabel("θ₁ (stretched)")
    picture.axes[0].set_ylabel("θ₂")
    return picture


def _speeds(rates: np.ndarray, needed: dict[float, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (μ, found) in enumerate(needed.items()):
        drawn = np.where(found < 400, found, np.nan)
        axes.plot(rates, drawn, label=f"momentum {μ:g}" if μ else "no momentum", **line_style(i))
    for i, μ in enumerate(STRENGTHS):  # it diverges beyond 2 (1 + μ) / the largest curvature
        axes.axvline(
            2 * (1 + μ) / 20, linewidth=0.8, alpha=0.6, color=line_style(i)["color"], linestyle=":"
        )
    axes.text(
        0.1, 390, "it diverges right of the dots ", color=GRAY, ha="right", va="top", fontsize=9
    )
    axes.set_xscale("log")
    axes.set_ylim(0, 400)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("steps")
    axes.legend(loc="lower left")
    return picture


def _parting(same: np.ndarray, parted: np.ndarray) -> Figure:
    picture = figure(6.4, 3.4)
    axes = picture.subplots()
    for i, (label, found) in enumerate(
        {"the rate is constant": same, "the rate falls to a tenth": parted}.items()
    ):
        axes.plot(np.maximum(found, 1e-18), label=label, **line_style(i))
    axes.axvline(DROP, color=GRAY, linewidth=1, linestyle=":")
    axes.text(DROP, 1e-10, " here it falls", color=GRAY, fontsize=9)
    axes.set_yscale("log")
    axes.set_ylim(1e-18, 10)
    axes.set_xlabel("step")
    axes.set_ylabel("distance of the two paths")
    axes.legend(loc="center right")
    return picture

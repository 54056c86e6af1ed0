"""Momentum: what it damps and speeds up, its sum of past gradients, and its two conventions."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.optimizers import Momentum
from ravine.reporting.plot_style import GRAY_COLOR, figure
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.marks import line_style
from ravine_gallery.optimizer_paths import Walk, draw_paths, evaluate_at, gradient_of, walk
from ravine_gallery.surfaces import find_surface

STEEP_VALLEY = find_surface("ravine")
VALLEY_START = torch.tensor([[0.6, 4.0]], dtype=torch.float64)
SLIDE_RATE = 0.1  # of the slides' pictures; without momentum descent just fails to converge
MOMENTUM_VALUES = (0.0, 0.5, 0.9)
DAMPED_STEPS, MAX_STEPS = 60, 400
DROP_STEP, DROP_FACTOR = 20, 0.1  # after how many steps the rate falls, and to what share


@experiment(
    "momentum",
    title="Momentum: damping, speed, and two conventions",
    claim="Momentum damps the oscillation across a ravine and gathers speed along it; it “can help "
    "a lot, almost never hurts”. The weights move by a weighted sum of all past gradients.",
    rows=("O2",),
    seconds=1,
)
def measure_momentum(quick: bool) -> ExperimentOutcome:
    """Walk down a ravine with three values of momentum, at one rate and at many."""
    walks = {μ: _walk(Momentum(lr=SLIDE_RATE, momentum=μ)) for μ in MOMENTUM_VALUES}
    swings = {μ: float(way.rows[:, 0, 0].diff().abs().sum()) for μ, way in walks.items()}
    rates = np.geomspace(0.003, 0.35, 24 if quick else 120)
    needed = {μ: _steps_needed(μ, rates) for μ in MOMENTUM_VALUES}
    fewest = {μ: float(np.min(found)) for μ, found in needed.items()}
    usable = np.minimum(needed[0.0], needed[0.9]) < MAX_STEPS  # rates with which one converges
    helps = float((needed[0.9] < needed[0.0])[usable].mean())
    hurts = float((needed[0.9] > needed[0.0])[usable].mean())
    sum_error = _sum_error(walks[0.9])
    same, parted = _convention_distances(drop=False), _convention_distances(drop=True)
    numbers = {f"swing across the ravine at 0.1, momentum {μ}": v for μ, v in swings.items()}
    numbers |= {f"fewest steps to 1e-6, momentum {μ}": count for μ, count in fewest.items()}
    numbers |= {
        "share of rates at which 0.9 is faster than none": helps,
        "share of rates at which 0.9 is slower than none": hurts,
        "error of the weighted sum of past gradients": sum_error,
        "largest distance of the conventions, constant rate": float(same.max()),
        "largest distance of the conventions, rate falls": float(parted.max()),
    }
    said = (
        f"At the slides' rate of 0.1 the path across the ravine is {swings[0.0]:.0f} long without "
        f"momentum, where it oscillates for ever, and {swings[0.5]:.1f} with momentum 0.5: damped. "
        f"Momentum 0.9 is faster at {helps:.0%} of the rates and slower at {hurts:.0%}, so “almost "
        f"never hurts” is not true. At the best rate of each, {fewest[0.0]:.0f} steps are needed "
        f"without momentum, {fewest[0.5]:.0f} with 0.5 and {fewest[0.9]:.0f} with 0.9. Each step "
        f"is η times the weighted sum of past gradients, up to {sum_error:.0e}. The two "
        f"conventions agree up to {same.max():.0e} at a constant rate and are {parted.max():.2g} "
        "apart when it falls to a tenth."
    )
    figures = {
        "The ravine at a rate of 0.1": draw_paths(
            STEEP_VALLEY,
            (-1.1, 1.1, -3.0, 4.6),
            {_label(μ): way.rows[:, 0] for μ, way in walks.items()},
            size=(8.0, 3.2),
        ),
        "Steps to lower R to a millionth": _draw_steps(rates, needed),
        "The two conventions: the rate inside the velocity, or outside": _draw_conventions(
            same, parted
        ),
    }
    damped = swings[0.5] < 0.2 * swings[0.0]
    held = (None if hurts > 0.1 else True) if damped else False
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _walk(rule: Momentum, *, drop: bool = False) -> Walk:
    def factor(step: int) -> float:
        return DROP_FACTOR if drop and step > DROP_STEP else 1.0

    return walk(rule, VALLEY_START, gradient_of(STEEP_VALLEY), DAMPED_STEPS, factor=factor)


def _steps_needed(momentum: float, rates: np.ndarray) -> np.ndarray:
    """Steps until R stays below a millionth of its start, for each rate; the maximum where it never
    does.
    """
    rules = [Momentum(lr=float(rate), momentum=momentum) for rate in rates]
    places = walk(rules, VALLEY_START, gradient_of(STEEP_VALLEY), MAX_STEPS).rows
    height = evaluate_at(STEEP_VALLEY, places)
    above = ~(height <= 1e-6 * height[0])  # also where it is NaN
    last = torch.where(above.any(0), MAX_STEPS - above.flip(0).int().argmax(0), 0)
    return (last + 1).clamp(max=MAX_STEPS).numpy()


def _sum_error(way: Walk) -> float:
    """The largest error of θ(t+1) = θ(t) − η Σ μ^i g(t − i), with the gradients of the walk."""
    worst = 0.0
    for t in range(DAMPED_STEPS):
        powers = 0.9 ** torch.arange(t + 1, dtype=torch.float64)
        step = SLIDE_RATE * (powers[:, None] * way.grads[: t + 1, 0].flip(0)).sum(0)
        worst = max(worst, float((way.rows[t, 0] - step - way.rows[t + 1, 0]).abs().max()))
    return worst


def _convention_distances(*, drop: bool) -> np.ndarray:
    """The distance of the paths of both conventions at each step."""
    inside = _walk(Momentum(lr=0.05, momentum=0.9, form="inside"), drop=drop)
    outside = _walk(Momentum(lr=0.05, momentum=0.9, form="outside"), drop=drop)
    return torch.linalg.vector_norm(inside.rows[:, 0] - outside.rows[:, 0], dim=1).numpy()


def _label(momentum: float) -> str:
    return f"momentum {momentum:g}" if momentum else "no momentum"


def _draw_steps(rates: np.ndarray, needed: dict[float, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (μ, found) in enumerate(needed.items()):
        shown = np.where(found < MAX_STEPS, found, np.nan)
        axes.plot(rates, shown, label=_label(μ), **line_style(i))
    for i, μ in enumerate(MOMENTUM_VALUES):
        limit = 2 * (1 + μ) / 20  # it diverges beyond 2 (1 + μ) / the largest curvature
        color = line_style(i)["color"]
        axes.axvline(limit, linewidth=0.8, alpha=0.6, color=color, linestyle=":")
    style = {"color": GRAY_COLOR, "ha": "right", "va": "top", "fontsize": 9}
    axes.text(0.1, 390, "each diverges right of its dotted line ", **style)
    axes.set(xscale="log", ylim=(0, MAX_STEPS), xlabel="learning rate", ylabel="steps")
    axes.legend(loc="lower left")
    return picture


def _draw_conventions(same: np.ndarray, parted: np.ndarray) -> Figure:
    picture = figure(6.4, 3.4)
    axes = picture.subplots()
    axes.plot(np.maximum(same, 1e-18), label="the rate is constant", **line_style(0))
    axes.plot(np.maximum(parted, 1e-18), label="the rate falls to a tenth", **line_style(1))
    axes.axvline(DROP_STEP, color=GRAY_COLOR, linewidth=1, linestyle=":")
    axes.text(DROP_STEP, 1e-10, " here it falls", color=GRAY_COLOR, fontsize=9)
    axes.set(yscale="log", ylim=(1e-18, 10), xlabel="step", ylabel="distance of the two paths")
    axes.legend(loc="center right")
    return picture

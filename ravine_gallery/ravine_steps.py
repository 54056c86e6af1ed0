"""A ravine, R = 10 θ₁² + θ₂²/2: a hundred steps with a fixed rate against forty with a rate that
adapts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.layout import Rows
from ravine.optimizers import SGD
from ravine.reporting.plot_style import COLORS, GRAY, band, figure
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.optimizer_paths import Walk, ground, slope, surface, target, trail, values, walk

RAVINE = surface("ravine")
CURVATURE = torch.tensor(
    [20.0, 1.0], dtype=torch.float64
)  # the second derivatives along the two axes
FIXED, ADAPTIVE = 100, 40  # steps, as on the slide
BEST = 2 / float(CURVATURE.sum())  # the fixed rate whose slowest direction is fastest


class Adapting:
    """The ravine's gradient, and a rate for the next step that is worked out from it."""

    def __init__(self, rate: Callable[[Rows, Rows, Rows], Tensor]):
        self.rate, self.before, self.now = rate, None, None

    def gradient(self, rows: Rows, step: int) -> Rows:
        grads = slope(RAVINE)(rows, step)
        self.before, self.now = self.now, (rows, grads)
        return grads

    def factor(self, step: int) -> Tensor:
        rows, grads = self.now  # type: ignore[misc]
        rows_before, grads_before = self.before or (rows, grads * 0)
        return self.rate(grads, rows - rows_before, grads - grads_before)


def line_search(grads: Rows, moved: Rows, turned: Rows) -> Tensor:
    """The rate that goes to the lowest point along the gradient: g·g / g·Hg."""
    return (grads * grads).sum(1, keepdim=True) / (grads * CURVATURE * grads).sum(
        1, keepdim=True
    ).clamp_min(1e-300)


def two_points(grads: Rows, moved: Rows, turned: Rows) -> Tensor:
    """Barzilai and Borwein's rate, from how the gradient changed over the last step: s·s / s·y."""
    along = (moved * turned).sum(1, keepdim=True)
    return torch.where(
        along > 0, (moved * moved).sum(1, keepdim=True) / along.clamp_min(1e-300), 0.05
    )


def adaptive(rate: Callable[[Rows, Rows, Rows], Tensor], starts: Tensor) -> Walk:
    rule = Adapting(rate)
    return walk(SGD(lr=1.0), starts, rule.gradient, ADAPTIVE, factor=rule.factor)


@experiment(
    "ravine-steps",
    title="A ravine: fixed against adaptive rates",
    claim="On R = 10 θ₁² + θ₂²/2, forty steps with a learning rate that adapts do what a hundred "
    "with a fixed one do.",
    rows=("O1",),
    seconds=1,
)
def compare_fixed_and_adaptive_rates(quick: bool) -> Outcome:
    count = 8 if quick else 100
    angles = 2 * math.pi * torch.rand(count, generator=stream(0, "starts"), dtype=torch.float64)
    starts = 4 * torch.stack([angles.cos(), angles.sin()], 1)
    rates = np.linspace(0.002, 0.104, 18 if quick else 103)
    fixed = np.stack([_fall(walk(SGD(lr=float(r)), starts, slope(RAVINE), FIXED)) for r in rates])
    kinds = {"line search": line_search, "two-point rate": two_points}
    adapted = {name: _fall(adaptive(rate, starts)) for name, rate in kinds.items()}
    best = fixed.max(0)  # the best fixed rate for each start: chosen with hindsight
    wins = {name: float((fall > best).mean()) for name, fall in adapted.items()}
    numbers = {
        f"decades, fixed {r:.3g}": float(
            np.median(_fall(walk(SGD(lr=r), starts, slope(RAVINE), FIXED)))
        )
        for r in (0.01, 0.05, BEST)
    }
    numbers |= {f"decades, {name}": float(np.median(fall)) for name, fall in adapted.items()}
    numbers |= {f"fewest decades, {name}": float(fall.min()) for name, fall in adapted.items()}
    numbers |= {f"share of starts won, {name}": share for name, share in wins.items()}
    small, two = numbers["decades, fixed 0.01"], numbers["decades, two-point rate"]
    said = (
        f"A hundred fixed steps lower R by {small:.1f} powers of ten at 0.01 and by "
        f"{np.median(best):.1f} at the "
        f"rate that is best in hindsight (medians of {count} starts). Forty steps with the "
        f"two-point rate lower it "
        f"by {two:.0f}, more than any fixed rate from {wins['two-point rate']:.0%} of the starts. "
        f"Which adaptation "
        f"it is matters: a line search wins from {wins['line search']:.0%} only, for where both "
        f"slopes are alike it "
        "zigzags as gradient descent does."
    )
    figures = {
        "The way down from one start": _ways(),
        "How far a hundred fixed steps get, and forty adaptive ones": _rates(rates, fixed, adapted),
    }
    return Outcome(held=wins["two-point rate"] == 1, said=said, numbers=numbers, figures=figures)


def _fall(found: Walk) -> np.ndarray:
    """By how many powers of ten each walker lowered R; a walker that ends at 0 counts as 30."""
    height = values(RAVINE, found.rows[[0, -1]])
    return (height[0].log10() - height[1].clamp_min(1e-30).log10()).numpy()


def _ways() -> Figure:
    picture = figure(8.0, 3.3)
    start = torch.tensor([[0.3, 4.0]], dtype=torch.float64)
    found = {
        f"fixed rate 0.095: {FIXED} steps": walk(SGD(lr=BEST), start, slope(RAVINE), FIXED),
        f"line search: {ADAPTIVE} steps": adaptive(line_search, start),
        f"two-point rate: {ADAPTIVE} steps": adaptive(two_points, start),
    }
    for axes, (title, way), color in zip(
        picture.subplots(1, 3, sharey=True), found.items(), COLORS, strict=False
    ):
        ground(axes, RAVINE, (-0.55, 0.55, -1.2, 4.5), levels=16)
        trail(axes, way.rows[:, 0], color=color)
        target(axes, (0.0, 0.0))
        axes.set_title(title)
        axes.set_xlabel("θ₁ (stretched)")
    picture.axes[0].set_ylabel("θ₂")
    return picture


def _rates(rates: np.ndarray, fixed: np.ndarray, adapted: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.8)
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(3, 1.2))
    left.plot(rates, np.median(fixed, 1), color=COLORS[0])
    band(left, rates, fixed.min(1), fixed.max(1), color=COLORS[0])
    left.axvline(0.1, color=GRAY, linewidth=1, linestyle=":")
    left.text(0.098, 30, "2 / largest curvature", color=GRAY, ha="right", va="top", fontsize=9)
    left.set_title(f"{FIXED} steps with a fixed rate (all starts)")
    left.set_ylim(-5, 33)
    left.set_xlabel("learning rate")
    left.set_ylabel("R falls by ... powers of ten")
    for i, (name, fall) in enumerate(adapted.items()):
        spread = i + 0.5 * (torch.rand(len(fall), generator=stream(0, name)).numpy() - 0.5)
        right.plot(
            spread, fall, linestyle="none", marker="o", markersize=3, alpha=0.5, color=COLORS[i + 1]
        )
    right.set_xticks(range(len(adapted)), [name.replace(" ", "\n") for name in adapted])
    right.set_xlim(-0.6, len(adapted) - 0.4)
    right.set_title(f"{ADAPTIVE} adaptive ones")
    return picture

"""A hundred steps with a fixed rate, and forty with a rate that adapts, on a ravine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.layout import Rows
from ravine.optimizers import SGD
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, band, figure
from ravine.rng import stream
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.optimizer_paths import (
    Walk,
    draw_paths,
    evaluate_at,
    gradient_of,
    starts_on_circle,
    walk,
)
from ravine_gallery.surfaces import find_surface

RAVINE_SURFACE = find_surface("ravine")
AXIS_CURVATURES = torch.tensor([20.0, 1.0], dtype=torch.float64)  # second derivatives
FIXED_STEPS, ADAPTIVE_STEPS = 100, 40  # as on the slide
BEST_FIXED_RATE = 2 / float(AXIS_CURVATURES.sum())  # its slowest direction is fastest

Rate = Callable[[Rows, Rows, Rows], Tensor]  # from the gradient and the last changes of both


@experiment(
    "ravine-steps",
    title="A ravine: fixed against adaptive rates",
    claim="On R = 10 θ₁² + θ₂²/2, forty steps with a learning rate that adapts do what a hundred "
    "with a fixed one do.",
    rows=("O1",),
    seconds=1,
)
def compare_fixed_and_adaptive_rates(quick: bool) -> ExperimentOutcome:
    """Descend from many starts at many fixed rates, and with two rates that adapt."""
    count = 8 if quick else 100
    starts = starts_on_circle(count)
    rates = np.linspace(0.002, 0.104, 18 if quick else 103)
    fixed = np.stack([_decades(_fixed_walk(rate, starts)) for rate in rates])
    kinds = {"line search": _line_search_rate, "two-point rate": _two_point_rate}
    adapted = {name: _decades(_adaptive_walk(rate, starts)) for name, rate in kinds.items()}
    best = fixed.max(0)  # the best fixed rate for each start: chosen with hindsight
    wins = {name: float((found > best).mean()) for name, found in adapted.items()}
    numbers = {
        f"decades, fixed {rate:.3g}": float(np.median(_decades(_fixed_walk(rate, starts))))
        for rate in (0.01, 0.05, BEST_FIXED_RATE)
    }
    numbers |= label_numbers("decades", {k: float(np.median(v)) for k, v in adapted.items()})
    numbers |= label_numbers("fewest decades", {k: v.min() for k, v in adapted.items()})
    numbers |= label_numbers("share of starts won", wins)
    said = (
        f"A hundred fixed steps lower R by {numbers['decades, fixed 0.01']:.1f} powers of ten at a "
        f"rate of 0.01 and by {np.median(best):.1f} at the rate that is best in hindsight (medians "
        f"of {count} starts). Forty steps with the two-point rate lower it by "
        f"{numbers['decades, two-point rate']:.0f}, more than any fixed rate from "
        f"{wins['two-point rate']:.0%} of the starts. The kind of adaptation matters: a line "
        f"search wins from only {wins['line search']:.0%}, because where both slopes are alike it "
        "zigzags as gradient descent does."
    )
    figures = {
        "The way down from one start": _draw_ways(),
        "How far a hundred fixed steps get, and forty adaptive ones": _draw_decades(
            rates, fixed, adapted
        ),
    }
    return ExperimentOutcome(
        held=wins["two-point rate"] == 1, said=said, numbers=numbers, figures=figures
    )


class _Adapting:
    """The ravine's gradient, and a rate for the next step that is computed from it."""

    def __init__(self, rate: Rate):
        self.rate, self.before, self.now = rate, None, None

    def gradient(self, rows: Rows, step: int) -> Rows:
        grads = gradient_of(RAVINE_SURFACE)(rows, step)
        self.before, self.now = self.now, (rows, grads)
        return grads

    def factor(self, step: int) -> Tensor:
        rows, grads = self.now  # type: ignore[misc]
        rows_before, grads_before = self.before or (rows, grads * 0)
        return self.rate(grads, rows - rows_before, grads - grads_before)


def _line_search_rate(grads: Rows, moved: Rows, turned: Rows) -> Tensor:
    """The rate that goes to the lowest point along the gradient: g·g / g·Hg."""
    curved = (grads * AXIS_CURVATURES * grads).sum(1, keepdim=True)
    return (grads * grads).sum(1, keepdim=True) / curved.clamp_min(1e-300)


def _two_point_rate(grads: Rows, moved: Rows, turned: Rows) -> Tensor:
    """Barzilai and Borwein's rate, from how the gradient changed over the last step: s·s / s·y."""
    along = (moved * turned).sum(1, keepdim=True)
    rate = (moved * moved).sum(1, keepdim=True) / along.clamp_min(1e-300)
    return torch.where(along > 0, rate, 0.05)


def _adaptive_walk(rate: Rate, starts: Tensor) -> Walk:
    rule = _Adapting(rate)
    return walk(SGD(lr=1.0), starts, rule.gradient, ADAPTIVE_STEPS, factor=rule.factor)


def _fixed_walk(rate: float, starts: Tensor) -> Walk:
    return walk(SGD(lr=float(rate)), starts, gradient_of(RAVINE_SURFACE), FIXED_STEPS)


def _decades(found: Walk) -> np.ndarray:
    """By how many powers of ten each walker lowered R; a walker that ends at 0 counts as 30."""
    height = evaluate_at(RAVINE_SURFACE, found.rows[[0, -1]])
    return (height[0].log10() - height[1].clamp_min(1e-30).log10()).numpy()


def _draw_ways() -> Figure:
    start = torch.tensor([[0.3, 4.0]], dtype=torch.float64)
    walks = {
        f"fixed rate 0.095: {FIXED_STEPS} steps": _fixed_walk(BEST_FIXED_RATE, start),
        f"line search: {ADAPTIVE_STEPS} steps": _adaptive_walk(_line_search_rate, start),
        f"two-point rate: {ADAPTIVE_STEPS} steps": _adaptive_walk(_two_point_rate, start),
    }
    paths = {title: found.rows[:, 0] for title, found in walks.items()}
    return draw_paths(RAVINE_SURFACE, (-0.55, 0.55, -1.2, 4.5), paths, size=(8.0, 3.3))


def _draw_decades(rates: np.ndarray, fixed: np.ndarray, adapted: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.8)
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(3, 1.2))
    left.plot(rates, np.median(fixed, 1), color=SERIES_COLORS[0])
    band(left, rates, fixed.min(1), fixed.max(1), color=SERIES_COLORS[0])
    left.axvline(0.1, color=GRAY_COLOR, linewidth=1, linestyle=":")
    left.text(
        0.098, 30, "2 / largest curvature", color=GRAY_COLOR, ha="right", va="top", fontsize=9
    )
    left.set(title=f"{FIXED_STEPS} steps with a fixed rate (all starts)", ylim=(-5, 33))
    left.set(xlabel="learning rate", ylabel="R falls by ... powers of ten")
    dots = {"linestyle": "none", "marker": "o", "markersize": 3, "alpha": 0.5}
    for i, (name, found) in enumerate(adapted.items()):
        spread = i + 0.5 * (torch.rand(len(found), generator=stream(0, name)).numpy() - 0.5)
        right.plot(spread, found, color=SERIES_COLORS[i + 1], **dots)
    right.set_xticks(range(len(adapted)), [name.replace(" ", "\n") for name in adapted])
    right.set(xlim=(-0.6, len(adapted) - 0.4), title=f"{ADAPTIVE_STEPS} adaptive ones")
    return picture

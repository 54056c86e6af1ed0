"""Adam's averages start at zero: its first steps without the correction, and what they cost.

One of the lectures divides by 1 − βᵗ with t counted from 0, which is 0 at the first step; t counts
from 1.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import Adam
from ravine.reporting.plot_style import GRAY_COLOR, band, figure
from ravine.rng import stream
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.optimizer_paths import (
    draw_path,
    draw_surface,
    evaluate_at,
    gradient_of,
    mark_minima,
    walk,
)
from ravine_gallery.surfaces import find_surface

DEFAULT_BETAS = (0.9, 0.999)
BETA_PAIRS = (DEFAULT_BETAS, (0.9, 0.99), (0.99, 0.99), (0.99, 0.9))  # β₁, β₂
BIAS_STEPS = 3_000
RATIO_TOLERANCE = 0.05
ROSENBROCK_VALLEY = find_surface("rosenbrock")


@experiment(
    "adam-bias",
    title="Adam without its bias correction",
    claim="Because the averages start at zero, Adam's first steps are too large without the bias "
    "correction.",
    rows=("O7",),
    seconds=4,
)
def remove_bias_correction(quick: bool) -> ExperimentOutcome:
    """Compare Adam's steps and results with and without the correction."""
    ratios = {pair: _step_ratios(*pair) for pair in BETA_PAIRS}
    wrong = max(float(np.abs(found - _formula(*pair)).max()) for pair, found in ratios.items())
    usual, opposite = ratios[DEFAULT_BETAS], ratios[(0.99, 0.9)]
    peak = int(usual.argmax())
    over = int(np.flatnonzero(np.abs(usual - 1) > RATIO_TOLERANCE)[-1]) + 1
    starts = 6 if quick else 30
    reached = [_distance_reached(starts, corrected) for corrected in (False, True)]
    noisy = [_noisy_path_length(10 if quick else 200, corrected) for corrected in (False, True)]
    grid = 13 if quick else 41
    results = {
        "corrected": _best_result(starts, grid, corrected=True),
        "uncorrected": _best_result(starts, grid, corrected=False),
    }
    numbers = {
        "first step over the rate, without correction": float(usual[0]),
        "largest step over the rate, without correction": float(usual[peak]),
        "at step": peak + 1.0,
        "steps until it is within 5 %": float(over),
        "first step over the rate, β 0.99 and 0.9": float(opposite[0]),
        "distance from the law": wrong,
        "farthest from the start after 100 steps, ratio": float(np.median(reached[0] / reached[1])),
        "ten noisy steps over ten corrected ones": float(np.median(noisy[0] / noisy[1])),
    } | label_numbers("Rosenbrock at the best rate, powers of ten", results)
    said = (
        f"Without the correction the first step is {usual[0]:.2f} times the rate and the "
        f"{peak + 1}th {usual[peak]:.1f} times; it takes {over:,} steps until they are within 5 % "
        "of it: too large, as claimed, and exactly (1 − β₁ᵗ)/√(1 − β₂ᵗ) times the rate, up to "
        f"{wrong:.0e}. With β₁ = 0.99 and β₂ = 0.9 they are too small instead ({opposite[0]:.2f}). "
        "The cost is small if the rate is tuned: on Rosenbrock's function the best rate of each "
        f"leaves 10^{results['corrected']:.1f} with the correction and "
        f"10^{results['uncorrected']:.1f} without it (medians of {starts} starts, 300 steps)."
    )
    figures = {
        "How large the steps are without the correction": _draw_ratios(ratios),
        "The first 100 steps on Rosenbrock's function at a rate of 0.05": _draw_ways(),
    }
    held = bool(usual[0] > 2 and wrong < 1e-6)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _step_ratios(beta1: float, beta2: float) -> np.ndarray:
    """The length of each step without correction at a gradient of 1, over the rate: [T]."""
    rule = Adam(lr=1.0, beta1=beta1, beta2=beta2, eps=0.0, bias_correction=False)
    places = walk(rule, torch.zeros(1, 1), lambda rows, _: torch.ones_like(rows), BIAS_STEPS).rows
    return places.diff(dim=0).abs()[:, 0, 0].numpy()


def _formula(beta1: float, beta2: float) -> np.ndarray:
    t = np.arange(1, BIAS_STEPS + 1)
    return (1 - beta1**t) / np.sqrt(1 - beta2**t)


def _starts(count: int) -> Tensor:
    noise = torch.randn(count, 2, generator=stream(0, "starts"), dtype=torch.float64)
    return ROSENBROCK_VALLEY.start_rows() + 0.2 * noise


def _distance_reached(count: int, corrected: bool) -> np.ndarray:
    """How far from its start each walker gets in 100 steps."""
    rule, gradient = Adam(lr=0.05, bias_correction=corrected), gradient_of(ROSENBROCK_VALLEY)
    places = walk(rule, _starts(count), gradient, 100).rows
    return torch.linalg.vector_norm(places - places[0], dim=2).amax(0).numpy()


def _noisy_path_length(count: int, corrected: bool) -> np.ndarray:
    """The length of the path of ten steps on pure noise."""
    noise = torch.randn(10, count, 1, generator=stream(0, "noise"), dtype=torch.float64)
    rule = Adam(lr=1.0, bias_correction=corrected)
    places = walk(rule, torch.zeros(count, 1), lambda rows, step: noise[step - 1], 10).rows
    return places.diff(dim=0).abs().sum((0, 2)).numpy()


def _best_result(count: int, grid: int, *, corrected: bool) -> float:
    """log10 of Rosenbrock's function after 300 steps: the median at the best rate of a grid."""
    rates = [float(rate) for rate in np.geomspace(1e-3, 1.0, grid)]
    rules = [Adam(lr=rate, bias_correction=corrected) for rate in rates for _ in range(count)]
    gradient = gradient_of(ROSENBROCK_VALLEY)
    places = walk(rules, _starts(count).repeat(grid, 1), gradient, 300).rows[-1]
    left = evaluate_at(ROSENBROCK_VALLEY, places).clamp_min(1e-16).log10().nan_to_num(9.0)
    left = left.reshape(grid, count)
    return float(np.median(left[int(left.median(1).values.argmin())]))


def _draw_ratios(ratios: dict[tuple[float, float], np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    t = np.arange(1, BIAS_STEPS + 1)
    for i, ((beta1, beta2), found) in enumerate(ratios.items()):
        axes.plot(t, found, label=f"β₁ {beta1}, β₂ {beta2}", **line_style(i))
    one = np.ones(BIAS_STEPS)
    band(axes, t, one - RATIO_TOLERANCE, one + RATIO_TOLERANCE, color=GRAY_COLOR)
    axes.text(1.1, 0.92, "corrected: 1", color=GRAY_COLOR, fontsize=9, va="top")
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="length of the step / rate")
    axes.set_yticks([0.03, 0.1, 0.3, 1, 3, 10], ["0.03", "0.1", "0.3", "1", "3", "10"])
    axes.legend(loc="lower right")
    return picture


def _draw_ways() -> Figure:
    picture = figure(6.4, 4.0)
    axes, valley = picture.subplots(), ROSENBROCK_VALLEY
    draw_surface(axes, valley, (-2.2, 1.8, -0.8, 3.2), log=True, levels=12)
    for i, (label, corrected) in enumerate(
        {"corrected": True, "without correction": False}.items()
    ):
        rule = Adam(lr=0.05, bias_correction=corrected)
        path = walk(rule, valley.start_rows(), gradient_of(valley), 100).rows[:, 0]
        draw_path(axes, path, color=line_style(i)["color"], label=label)
    mark_minima(axes, *valley.minima)
    axes.set(xlabel="x", ylabel="y")
    axes.legend(loc="upper right")
    return picture

"""Adam's averages start at zero: what its first steps are without the correction, and what that
costs.

One of the lectures divides by 1 − βᵗ with t counted from 0, which is 0 at the first step; t counts
from 1.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import Adam
from ravine.reporting.plot_style import GRAY, band, figure, line_style
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.optimizer_paths import ground, slope, surface, target, trail, values, walk

DEFAULTS = (0.9, 0.999)
PAIRS = (DEFAULTS, (0.9, 0.99), (0.99, 0.99), (0.99, 0.9))  # β₁, β₂
STEPS = 3_000
NEAR = 0.05


@experiment(
    "adam-bias",
    title="Adam without its bias correction",
    claim="Because the averages start at zero, Adam's first steps are too large without the bias "
    "correction.",
    rows=("O7",),
    seconds=4,
)
def remove_bias_correction(quick: bool) -> Outcome:
    ratios = {pair: _ratio(*pair) for pair in PAIRS}
    wrong = max(float(np.abs(found - _law(*pair)).max()) for pair, found in ratios.items())
    usual = ratios[DEFAULTS]
    peak = int(usual.argmax())
    over = int(np.flatnonzero(np.abs(usual - 1) > NEAR)[-1]) + 1
    starts = 6 if quick else 30
    detours = _detours(starts)
    noisy = _noisy(10 if quick else 200)
    costs = {
        name: float(np.median(found)) for name, found in _races(starts, 13 if quick else 41).items()
    }
    numbers = {
        "first step over the rate, without correction": float(usual[0]),
        "largest step over the rate, without correction": float(usual[peak]),
        "at step": peak + 1.0,
        "steps until it is within 5 %": float(over),
        "first step over the rate, β 0.99 and 0.9": float(ratios[(0.99, 0.9)][0]),
        "distance from the law": wrong,
        "farthest from the start after 100 steps, ratio": float(np.median(detours)),
        "ten noisy steps over ten corrected ones": float(np.median(noisy)),
        **{
            f"Rosenbrock at the best rate, powers of ten, {name}": value
            for name, value in costs.items()
        },
    }
    said = (
        f"Without the correction the first step is {usual[0]:.2f} times the rate, the {peak + 1}th "
        f"{usual[peak]:.1f} "
        f"times, and it takes {over:,} steps until they are within 5 %: too large, as claimed, and "
        f"exactly (1 − "
        f"β₁ᵗ)/√(1 − β₂ᵗ) to {wrong:.0e}. With β₁ = 0.99 and β₂ = 0.9 they are too small instead "
        f"({ratios[(0.99, 0.9)][0]:.2f}). The cost is small where the rate is chosen for it: on "
        f"Rosenbrock the best "
        f"rate of each leaves 10^{costs['corrected']:.1f} with and 10^{costs['uncorrected']:.1f} "
        f"without (medians of "
        f"{starts} starts, 300 steps)."
    )
    figures = {
        "How large the steps are without the correction": _draw(ratios),
        "The first 100 steps on Rosenbrock's function at a rate of 0.05": _draw_ways(),
    }
    return Outcome(
        held=bool(usual[0] > 2 and wrong < 1e-6), said=said, numbers=numbers, figures=figures
    )


def _ratio(beta1: float, beta2: float) -> np.ndarray:
    """The length of each step without correction at a gradient of 1, over the rate: [T]."""
    rule = Adam(lr=1.0, beta1=beta1, beta2=beta2, eps=0.0, bias_correction=False)
    way = walk(rule, torch.zeros(1, 1), lambda rows, step: torch.ones_like(rows), STEPS).rows
    return way.diff(dim=0).abs()[:, 0, 0].numpy()


def _law(beta1: float, beta2: float) -> np.ndarray:
    t = np.arange(1, STEPS + 1)
    return (1 - beta1**t) / np.sqrt(1 - beta2**t)


def _starts(count: int) -> Tensor:
    start = torch.tensor(surface("rosenbrock").start, dtype=torch.float64)
    return start + 0.2 * torch.randn(count, 2, generator=stream(0, "starts"), dtype=torch.float64)


def _detours(count: int) -> np.ndarray:
    """How far from its start each walker gets in 100 steps: without the correction over with it."""
    far = []
    for corrected in (False, True):
        way = walk(
            Adam(lr=0.05, bias_correction=corrected),
            _starts(count),
            slope(surface("rosenbrock")),
            100,
        ).rows
        far.append(torch.linalg.vector_norm(way - way[0], dim=2).amax(0).numpy())
    return far[0] / far[1]


def _noisy(count: int) -> np.ndarray:
    """Ten steps on pure noise: the length of the way without the correction over that with it."""
    noise = torch.randn(10, count, 1, generator=stream(0, "noise"), dtype=torch.float64)
    way = [
        walk(
            Adam(lr=1.0, bias_correction=corrected),
            torch.zeros(count, 1),
            lambda rows, step: noise[step - 1],
            10,
        ).rows
        for corrected in (False, True)
    ]
    uncorrected, corrected = (w.diff(dim=0).abs().sum((0, 2)).numpy() for w in way)
    return uncorrected / corrected


def _races(count: int, grid: int) -> dict[str, np.ndarray]:
    """log10 of Rosenbrock's value after 300 steps, each walker's at the best rate of a grid."""
    valley = surface("rosenbrock")
    found = {}
    for name, corrected in {"corrected": True, "uncorrected": False}.items():
        rates = [float(r) for r in np.geomspace(1e-3, 1.0, grid)]
        rules = [Adam(lr=r, bias_correction=corrected) for r in rates for _ in range(count)]
        way = walk(rules, _starts(count).repeat(grid, 1), slope(valley), 300).rows[-1]
        left = values(valley, way).clamp_min(1e-16).log10().nan_to_num(9.0).reshape(grid, count)
        found[name] = left[int(left.median(1).values.argmin())].numpy()
    return found


def _draw(ratios: dict[tuple[float, float], np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    t = np.arange(1, STEPS + 1)
    for i, ((beta1, beta2), found) in enumerate(ratios.items()):
        axes.plot(t, found, label=f"β₁ {beta1}, β₂ {beta2}", **line_style(i))
    band(axes, t, np.full(STEPS, 1 - NEAR), np.full(STEPS, 1 + NEAR), color=GRAY)
    axes.text(1.1, 0.92, "corrected: 1", color=GRAY, fontsize=9, va="top")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_yticks([0.03, 0.1, 0.3, 1, 3, 10], ["0.03", "0.1", "0.3", "1", "3", "10"])
    axes.set_xlabel("step")
    axes.set_ylabel("length of the step / rate")
    axes.legend(loc="lower right")
    return picture


def _draw_ways() -> Figure:
    picture = figure(6.4, 4.0)
    axes = picture.subplots()
    valley = surface("rosenbrock")
    ground(axes, valley, (-2.2, 1.8, -0.8, 3.2), log=True, levels=12)
    for i, (label, corrected) in enumerate(
        {"corrected": True, "without correction": False}.items()
    ):
        way = walk(
            Adam(lr=0.05, bias_correction=corrected), [valley.start], slope(valley), 100
        ).rows[:, 0]
        trail(axes, way, color=line_style(i)["color"], label=label)
    target(axes, *valley.minima)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    axes.legend(loc="upper right")
    return picture

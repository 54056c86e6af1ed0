"""Nesterov's momentum: the look-ahead form and the change of variables walk one path; and is it
more direct?
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import Momentum, Nesterov
from ravine.reporting.plot_style import COLORS, figure, line_style
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.network_experiments import interval
from ravine_gallery.optimizer_paths import ground, slope, surface, target, trail, walk

CASES = {"ravine": 0.02, "beale": 0.002, "rosenbrock": 0.0005}  # surfaces and rates
MOMENTUM, STEPS = 0.9, 200


@experiment(
    "nesterov",
    title="Nesterov's momentum in two forms",
    claim="The look-ahead form and the change of variables give the same path, and it is more "
    "direct than momentum's.",
    rows=("O3",),
    seconds=1,
)
def compare_nesterov_forms(quick: bool) -> Outcome:
    count = 10 if quick else 100
    errors: dict[str, np.ndarray] = {}
    numbers: dict[str, float] = {}
    for name, lr in CASES.items():
        start = torch.tensor([surface(name).start], dtype=torch.float64)
        defined, shifted = by_definition(name, lr, start)
        ours = walk(
            Nesterov(lr=lr, momentum=MOMENTUM, form="lookahead"), start, slope(surface(name)), STEPS
        )
        torch_form = walk(
            Nesterov(lr=lr, momentum=MOMENTUM, form="torch"), start, slope(surface(name)), STEPS
        )
        errors[name] = torch.linalg.vector_norm(ours.settled[:, 0] - defined, dim=1).numpy()
        numbers[f"distance of the two forms, {name}"] = float(errors[name].max())
        numbers[f"distance of the points ahead, {name}"] = float(
            (ours.rows[:, 0] - shifted).abs().max()
        )
        numbers[f"distance of torch's form, {name}"] = float(
            (torch_form.rows - ours.rows).abs().max()
        )
    lengths = _lengths(count)
    shorter = interval(lengths["Nesterov"] / lengths["momentum"])
    numbers |= {
        "length of the path, ratio": shorter.mean,
        "ratio, low": shorter.low,
        "ratio, high": shorter.high,
    }
    worst = max(found.max() for found in errors.values())
    said = (
        f"After the substitution the two forms give one path: on three surfaces they part by at "
        f"most {worst:.0e} in "
        f"{STEPS} steps, which is rounding. The path is more direct, too: on the ravine it is "
        f"{shorter.mean:.2f} "
        f"times as long as that of momentum at the same rate [{shorter.low:.2f}, "
        f"{shorter.high:.2f}], over {count} "
        "starts."
    )
    figures = {
        "The ravine at a rate of 0.02 and momentum 0.9": _ways(),
        "How far the two forms are apart": _apart(errors),
    }
    return Outcome(
        held=bool(worst < 1e-9 and shorter.high < 1), said=said, numbers=numbers, figures=figures
    )


def by_definition(name: str, lr: float, start: Tensor) -> tuple[Tensor, Tensor]:
    """v ← μ v − α ∇L(θ + μ v), θ ← θ + v, as the slides write it: θ and θ + μ v at each step, [T +
    1, 2].
    """
    gradient, at, v = slope(surface(name)), start, torch.zeros_like(start)
    been, ahead = [at[0]], [at[0]]
    for step in range(1, STEPS + 1):
        v = MOMENTUM * v - lr * gradient(at + MOMENTUM * v, step)
        at = at + v
        been.append(at[0])
        ahead.append((at + MOMENTUM * v)[0])
    return torch.stack(been), torch.stack(ahead)


def _lengths(count: int) -> dict[str, np.ndarray]:
    """How long the paths on the ravine are, from `count` starts on a circle."""
    angles = 2 * math.pi * torch.rand(count, generator=stream(0, "starts"), dtype=torch.float64)
    starts = 4 * torch.stack([angles.cos(), angles.sin()], 1)
    rules = {
        "momentum": Momentum(lr=0.02, momentum=MOMENTUM),
        "Nesterov": Nesterov(lr=0.02, momentum=MOMENTUM),
    }
    return {
        name: torch.linalg.vector_norm(
            walk(rule, starts, slope(surface("ravine")), STEPS).rows.diff(dim=0), dim=2
        )
        .sum(0)
        .numpy()
        for name, rule in rules.items()
    }


def _ways() -> Figure:
    picture = figure(7.0, 3.6)
    start = torch.tensor([[1.0, 4.0]], dtype=torch.float64)
    rules = {
        "momentum": Momentum(lr=0.02, momentum=MOMENTUM),
        "Nesterov": Nesterov(lr=0.02, momentum=MOMENTUM, form="lookahead"),
    }
    for axes, (name, rule), color in zip(
        picture.subplots(1, 2, sharey=True), rules.items(), COLORS, strict=False
    ):
        ground(axes, surface("ravine"), (-1.2, 1.2, -3.0, 4.6), levels=16)
        trail(axes, walk(rule, start, slope(surface("ravine")), 80).settled[:, 0], color=color)
        target(axes, (0.0, 0.0))
        axes.set_title(f"{name}, 80 steps")
        axes.set_xlabel("θ₁ (stretched)")
    picture.axes[0].set_ylabel("θ₂")
    return picture


def _apart(errors: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.2)
    axes = picture.subplots()
    for i, (name, found) in enumerate(errors.items()):
        axes.plot(np.maximum(found, 1e-17), label=name, **line_style(i))
    axes.set_yscale("log")
    axes.set_ylim(1e-17, 1e-12)
    axes.set_xlabel("step")
    axes.set_ylabel("distance (float64)")
    axes.legend()
    return picture

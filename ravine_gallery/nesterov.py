"""Nesterov's momentum: the look-ahead form and the change of variables give one path."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import Momentum, Nesterov
from ravine.reporting.plot_style import figure
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.marks import line_style
from ravine_gallery.optimizer_paths import (
    draw_paths,
    gradient_of,
    path_lengths,
    starts_on_circle,
    walk,
)
from ravine_gallery.surfaces import find_surface

SURFACE_RATES = {"ravine": 0.02, "beale": 0.002, "rosenbrock": 0.0005}
NESTEROV_MOMENTUM, NESTEROV_STEPS = 0.9, 200


@experiment(
    "nesterov",
    title="Nesterov's momentum in two forms",
    claim="The look-ahead form and the change of variables give the same path, and it is more "
    "direct than that of plain momentum.",
    rows=("O3",),
    seconds=1,
)
def compare_nesterov_forms(quick: bool) -> ExperimentOutcome:
    """Compare both forms on three surfaces, and path lengths from many starts on the ravine."""
    count = 10 if quick else 100
    errors: dict[str, np.ndarray] = {}
    numbers: dict[str, float] = {}
    for name, lr in SURFACE_RATES.items():
        surface = find_surface(name)
        gradient, start = gradient_of(surface), surface.start_rows()
        weights, ahead = _path_by_definition(name, lr)
        ours = walk(_nesterov(lr, "lookahead"), start, gradient, NESTEROV_STEPS)
        torch_form = walk(_nesterov(lr, "torch"), start, gradient, NESTEROV_STEPS)
        errors[name] = torch.linalg.vector_norm(ours.eval_rows[:, 0] - weights, dim=1).numpy()
        differences = (
            (ours.rows[:, 0] - ahead).abs().max(),
            (torch_form.rows - ours.rows).abs().max(),
        )
        numbers[f"distance of the two forms, {name}"] = float(errors[name].max())
        numbers[f"distance of the points ahead, {name}"] = float(differences[0])
        numbers[f"distance of torch's form, {name}"] = float(differences[1])
    ravine, starts = gradient_of(find_surface("ravine")), starts_on_circle(count)
    plain, nesterov = (
        path_lengths(walk(rule, starts, ravine, NESTEROV_STEPS).rows)
        for rule in (Momentum(lr=0.02, momentum=NESTEROV_MOMENTUM), _nesterov(0.02, "torch"))
    )
    ratio = t_interval(nesterov / plain)
    numbers |= {
        "length of the path, ratio": ratio.value,
        "ratio, low": ratio.low,
        "ratio, high": ratio.high,
    }
    worst = max(found.max() for found in errors.values())
    said = (
        "After the change of variables the two forms give one path: on three surfaces they are at "
        f"most {worst:.0e} apart in {NESTEROV_STEPS} steps, which is rounding. The path is also "
        f"more direct: on the ravine it is {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}] "
        f"times as long as that of momentum at the same rate, over {count} starts."
    )
    figures = {
        "The ravine at a rate of 0.02 and momentum 0.9": _draw_ways(),
        "How far the two forms are apart": _draw_errors(errors),
    }
    held = bool(worst < 1e-9 and ratio.high < 1)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _nesterov(lr: float, form: Literal["torch", "lookahead"]) -> Nesterov:
    return Nesterov(lr=lr, momentum=NESTEROV_MOMENTUM, form=form)


def _path_by_definition(name: str, lr: float) -> tuple[Tensor, Tensor]:
    """θ and θ + μ v at each step of the slides' v ← μ v − α ∇L(θ + μ v), θ ← θ + v: [T + 1, 2]."""
    surface = find_surface(name)
    gradient, at = gradient_of(surface), surface.start_rows()
    v, weights, ahead = torch.zeros_like(at), [at[0]], [at[0]]
    for step in range(1, NESTEROV_STEPS + 1):
        v = NESTEROV_MOMENTUM * v - lr * gradient(at + NESTEROV_MOMENTUM * v, step)
        at = at + v
        weights.append(at[0])
        ahead.append((at + NESTEROV_MOMENTUM * v)[0])
    return torch.stack(weights), torch.stack(ahead)


def _draw_ways() -> Figure:
    ravine = find_surface("ravine")
    rules = {
        "momentum, 80 steps": Momentum(lr=0.02, momentum=NESTEROV_MOMENTUM),
        "Nesterov, 80 steps": _nesterov(0.02, "lookahead"),
    }
    paths = {
        title: walk(rule, [1.0, 4.0], gradient_of(ravine), 80).eval_rows[:, 0]
        for title, rule in rules.items()
    }
    return draw_paths(ravine, (-1.2, 1.2, -3.0, 4.6), paths, size=(7.0, 3.6))


def _draw_errors(errors: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.2)
    axes = picture.subplots()
    for i, (name, found) in enumerate(errors.items()):
        axes.plot(np.maximum(found, 1e-17), label=name, **line_style(i))
    axes.set(yscale="log", ylim=(1e-17, 1e-12), xlabel="step", ylabel="distance (float64)")
    axes.legend()
    return picture

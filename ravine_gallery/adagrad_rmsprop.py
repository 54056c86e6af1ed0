"""Rates for each weight: Adagrad's steps shrink for ever, RMSprop's do not, Adadelta has no rate.

Letters: T steps, R rates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD, Adadelta, Adagrad, RMSprop
from ravine.reporting.plot_style import GRAY_COLOR, figure
from ravine.rng import stream
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.optimizer_paths import evaluate_at, gradient_of, walk
from ravine_gallery.surfaces import find_surface

ADAPTIVE_RATE = 0.01
ADAPTIVE_RULES: dict[str, Any] = {
    "Adagrad": Adagrad(lr=ADAPTIVE_RATE),
    "RMSprop": RMSprop(lr=ADAPTIVE_RATE),
    "Adadelta": Adadelta(),
}
SCALED_RULES: dict[str, Any] = {
    "Adadelta": (Adadelta(), "rate 1"),
    "RMSprop": (RMSprop(lr=ADAPTIVE_RATE), "rate 0.01"),
    "SGD": (SGD(lr=0.05), "rate 0.05"),
}
LOSS_SCALES = np.logspace(-3, 3, 13)
SCALED_STEPS = 600


@experiment(
    "adagrad-rmsprop",
    title="A rate for each weight: Adagrad, RMSprop, Adadelta",
    claim="Adagrad's steps shrink for ever, RMSprop's do not, and Adadelta needs no learning rate.",
    rows=("O4", "O5", "O6"),
    seconds=5,
)
def measure_step_lengths(quick: bool) -> ExperimentOutcome:
    """Measure steps on gradients of constant size, and results at other scales and rates."""
    steps, walkers = (1_000 if quick else 4_000), 50
    lengths = {name: _step_lengths(rule, steps, walkers) for name, rule in ADAPTIVE_RULES.items()}
    exponents = {name: _exponent(found) for name, found in lengths.items()}
    by_loss, by_weights = _results_by_loss_scale(), _results_by_weight_scale()
    by_rate = _results_by_rate(25 if quick else 61)
    best = {name: float(np.nanmin(by_rate[name][1])) for name in ("Adadelta", "SGD")}
    as_is = float(by_loss["Adadelta"][len(LOSS_SCALES) // 2])
    spread_loss, spread_weights = np.ptp(by_loss["Adadelta"]), np.ptp(by_weights["Adadelta"])
    last = {name: lengths[name][-1] / ADAPTIVE_RATE for name in ("Adagrad", "RMSprop")}
    numbers = label_numbers("exponent of the step's length", exponents)
    numbers |= label_numbers("last step over the rate", last)
    for name in by_loss:
        spread = {"loss": by_loss, "weights": by_weights}
        numbers |= {
            f"spread over scales of the {what}, powers of ten, {name}": float(np.ptp(found[name]))
            for what, found in spread.items()
        }
    numbers["Adadelta at rate 1, powers of ten"] = as_is
    numbers |= {f"{name} at its best rate, powers of ten": value for name, value in best.items()}
    said = (
        "On gradients of constant size Adagrad's steps shrink like t to the power "
        f"{exponents['Adagrad']:.2f} and RMSprop's stay constant ({exponents['RMSprop']:+.2f}), as "
        "claimed. The result of Adadelta without a rate hardly depends on the scale of the loss: "
        f"over six powers of ten it changes by {spread_loss:.1f} powers. But its first steps are "
        "√ε long in the units of the weights: over as many scales of the weights the result "
        f"changes by {spread_weights:.1f} powers. A rate also helps: 600 steps on the ravine leave "
        f"10^{as_is:.1f} of the height at rate 1, 10^{best['Adadelta']:.1f} at the best rate."
    )
    shrink = abs(exponents["Adagrad"] + 0.5) < 0.05 and abs(exponents["RMSprop"]) < 0.05
    free = spread_weights < 1 and as_is - best["Adadelta"] < 1
    figures = {
        "Do steps shrink? Gradients of constant size, with noise": _draw_lengths(lengths),
        "Is a rate needed? What is left of the ravine's height after 600 steps": _draw_scales(
            by_loss, by_weights, by_rate
        ),
    }
    held = bool(shrink and free) if shrink == free else None
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _step_lengths(rule: Any, steps: int, walkers: int) -> np.ndarray:
    """The length of each step where the gradient is 1 ± 0.5: the mean over the walkers, [T]."""
    noise = 0.5 * torch.randn(steps, walkers, 1, generator=stream(0, "noise"), dtype=torch.float64)

    def gradient(rows: Tensor, step: int) -> Tensor:
        return 1 + noise[step - 1]

    places = walk(rule, torch.zeros(walkers, 1), gradient, steps).rows
    return places.diff(dim=0).abs().mean((1, 2)).numpy()


def _exponent(lengths: np.ndarray) -> float:
    """The exponent k of t^k that fits the second half of the steps."""
    t = np.arange(1, len(lengths) + 1)
    half = len(t) // 2
    return float(np.polyfit(np.log(t[half:]), np.log(lengths[half:]), 1)[0])


def _results_by_loss_scale() -> dict[str, np.ndarray]:
    """What is left of the ravine's height where the loss is multiplied by each scale."""
    ravine, scales = find_surface("ravine"), torch.from_numpy(LOSS_SCALES)
    start, gradient = ravine.start_rows(len(scales)), gradient_of(lambda p: scales * ravine(p))
    return {
        name: _decades_left(walk(rule, start, gradient, SCALED_STEPS).rows)
        for name, (rule, _) in SCALED_RULES.items()
    }


def _results_by_weight_scale() -> dict[str, np.ndarray]:
    """The same where the weights are multiplied by each scale."""
    ravine, scales = find_surface("ravine"), torch.from_numpy(LOSS_SCALES)[:, None]
    start, gradient = scales * ravine.start_rows(), gradient_of(lambda p: ravine(p / scales))
    return {
        name: _decades_left(walk(rule, start, gradient, SCALED_STEPS).rows / scales)
        for name, (rule, _) in SCALED_RULES.items()
    }


def _results_by_rate(count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Rates and what is left of the ravine's height with each."""
    ravine, rates = find_surface("ravine"), np.geomspace(1e-4, 1e3, count)
    found = {}
    for name, kind in {"Adadelta": Adadelta, "RMSprop": RMSprop, "SGD": SGD}.items():
        rules = [kind(lr=float(rate)) for rate in rates]
        places = walk(rules, ravine.start_rows(), gradient_of(ravine), SCALED_STEPS).rows
        found[name] = rates, _decades_left(places)
    return found


def _decades_left(places: Tensor) -> np.ndarray:
    """log10 (last height / first height) of each walker on the ravine, from −12 to 3; 3 where it
    diverged.
    """
    height = evaluate_at(find_surface("ravine"), places[[0, -1]]).numpy()
    share = np.where(np.isfinite(height[1]), height[1] / height[0], 1e3)
    return np.clip(np.log10(np.maximum(share, 1e-12)), -12, 3)


def _draw_lengths(lengths: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    steps = len(lengths["Adagrad"])
    at = np.unique(np.geomspace(1, steps, 200).astype(int)) - 1
    for i, (name, found) in enumerate(lengths.items()):
        axes.plot(at + 1, found[at], label=name, **line_style(i))
    t, style = np.array([3, steps]), {"color": GRAY_COLOR, "linewidth": 1, "linestyle": ":"}
    axes.plot(t, ADAPTIVE_RATE / np.sqrt(t) / 1.6, label="slope of 1/√t", **style)
    axes.set(xscale="log", yscale="log", xlabel="step", ylabel="length of the step")
    axes.legend()
    return picture


def _draw_scales(
    by_loss: dict[str, np.ndarray],
    by_weights: dict[str, np.ndarray],
    by_rate: dict[str, tuple[np.ndarray, np.ndarray]],
) -> Figure:
    picture = figure(8.0, 3.4)
    panels = picture.subplots(1, 3, sharey=True)
    for i, (name, (_, rate)) in enumerate(SCALED_RULES.items()):
        panels[0].plot(LOSS_SCALES, by_loss[name], label=f"{name}, {rate}", **line_style(i))
        panels[1].plot(LOSS_SCALES, by_weights[name], **line_style(i))
        panels[2].plot(*by_rate[name], **line_style(i))
    labels = ("the loss is multiplied by", "the weights are multiplied by", "learning rate")
    for axes, label in zip(panels, labels, strict=True):
        axes.set(xscale="log", xlabel=label)
    panels[0].set_ylabel("powers of ten left")
    picture.legend(loc="outside lower center", ncols=3, frameon=False)
    return picture

"""Rates for each weight: Adagrad's steps shrink for ever, RMSprop's do not, and does Adadelta need
no rate?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD, Adadelta, Adagrad, RMSprop
from ravine.reporting.plot_style import GRAY, figure, line_style
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.optimizer_paths import slope, surface, values, walk

LR = 0.01
RULES: dict[str, Any] = {
    "Adagrad": Adagrad(lr=LR),
    "RMSprop": RMSprop(lr=LR),
    "Adadelta": Adadelta(),
}
COMPARED: dict[str, Any] = {
    "Adadelta": (Adadelta(), "rate 1"),
    "RMSprop": (RMSprop(lr=LR), "rate 0.01"),
    "SGD": (SGD(lr=0.05), "rate 0.05"),
}
SCALES = np.logspace(-3, 3, 13)


@experiment(
    "adagrad-rmsprop",
    title="A rate for each weight: Adagrad, RMSprop, Adadelta",
    claim="Adagrad's steps shrink for ever, RMSprop's do not, and Adadelta needs no learning rate.",
    rows=("O4", "O5", "O6"),
    seconds=5,
)
def measure_step_lengths(quick: bool) -> Outcome:
    steps, walkers = (1_000, 8) if quick else (4_000, 50)
    lengths = {name: _lengths(rule, steps, walkers) for name, rule in RULES.items()}
    slopes = {name: _slope(found) for name, found in lengths.items()}
    of_loss, of_place, own = (
        _scaled(600, loss=True),
        _scaled(600, loss=False),
        _rates(600, 25 if quick else 61),
    )
    best = {name: float(np.nanmin(found[1])) for name, found in own.items()}
    unscaled = len(SCALES) // 2
    as_is = float(of_loss["Adadelta"][unscaled])
    numbers = {f"exponent of the step's length, {name}": value for name, value in slopes.items()}
    numbers |= {
        f"last step over the rate, {name}": float(lengths[name][-1] / LR)
        for name in ("Adagrad", "RMSprop")
    }
    for name in of_loss:
        numbers[f"spread over scales of the loss, powers of ten, {name}"] = float(
            np.ptp(of_loss[name])
        )
        numbers[f"spread over scales of the weights, powers of ten, {name}"] = float(
            np.ptp(of_place[name])
        )
    numbers["Adadelta at rate 1, powers of ten"] = as_is
    numbers |= {
        f"{name} at its best rate, powers of ten": best[name] for name in ("Adadelta", "SGD")
    }
    said = (
        f"On gradients of constant size Adagrad's steps shrink like t to the power "
        f"{slopes['Adagrad']:.2f}; "
        f"RMSprop's stay ({slopes['RMSprop']:+.2f}): both hold. Adadelta without a rate does not "
        f"care how the loss "
        f"is scaled: over six powers of ten its result changes by "
        f"{np.ptp(of_loss['Adadelta']):.1f} powers. But its "
        "first steps are √ε long in the units of the weights: scale those and the result changes "
        "by "
        f"{np.ptp(of_place['Adadelta']):.1f}. And a rate would still have helped: in 600 steps on "
        f"the ravine it "
        f"leaves 10^{as_is:.1f} of the height at 1, 10^{best['Adadelta']:.1f} at the best of its "
        f"rates."
    )
    shrink = abs(slopes["Adagrad"] + 0.5) < 0.05 and abs(slopes["RMSprop"]) < 0.05
    free = np.ptp(of_place["Adadelta"]) < 1 and as_is - best["Adadelta"] < 1
    figures = {
        "Do steps shrink? Gradients of constant size, with noise": _draw_lengths(lengths),
        "Is a rate needed? What is left of the ravine's height after 600 steps": _draw_scales(
            of_loss, of_place, own
        ),
    }
    return Outcome(
        held=bool(shrink and free) if shrink == free else None,
        said=said,
        numbers=numbers,
        figures=figures,
    )


def _lengths(rule: Any, steps: int, walkers: int) -> np.ndarray:
    """The typical length of each step where the gradient is 1 ± 0.5: the mean over the walkers,
    [T].
    """
    noise = 0.5 * torch.randn(steps, walkers, 1, generator=stream(0, "noise"), dtype=torch.float64)

    def gradient(rows: Tensor, step: int) -> Tensor:
        return 1 + noise[step - 1]

    found = walk(rule, torch.zeros(walkers, 1), gradient, steps).rows
    return found.diff(dim=0).abs().mean((1, 2)).numpy()


def _slope(lengths: np.ndarray) -> float:
    """The exponent k of t^k that fits the second half of the steps."""
    t = np.arange(1, len(lengths) + 1)
    half = len(t) // 2
    return float(np.polyfit(np.log(t[half:]), np.log(lengths[half:]), 1)[0])


def _scaled(steps: int, *, loss: bool) -> dict[str, np.ndarray]:
    """log10 of what is left of the ravine's height where the loss, or the weights, are multiplied
    by each scale.
    """
    ravine, scales = surface("ravine"), torch.from_numpy(SCALES)
    start = torch.tensor([ravine.start], dtype=torch.float64).repeat(len(SCALES), 1)
    found = {}
    for name, (rule, _) in COMPARED.items():
        if loss:
            way = walk(rule, start, slope(lambda p: scales * ravine(p)), steps).rows
        else:
            wide = scales[:, None]
            way = (
                walk(rule, start * wide, slope(lambda p, wide=wide: ravine(p / wide)), steps).rows
                / wide
            )
        height = values(ravine, way)
        found[name] = np.array([_left(height[:, i]) for i in range(len(SCALES))])
    return found


def _rates(steps: int, count: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """log10 of what is left for each rate of Adadelta, RMSprop and SGD."""
    ravine = surface("ravine")
    start = torch.tensor([ravine.start], dtype=torch.float64)
    result = {}
    for name, kind in {"Adadelta": Adadelta, "RMSprop": RMSprop, "SGD": SGD}.items():
        rates = np.geomspace(1e-4, 1e3, count)
        height = values(
            ravine, walk([kind(lr=float(r)) for r in rates], start, slope(ravine), steps).rows
        )
        result[name] = rates, np.array([_left(height[:, i]) for i in range(count)])
    return result


def _left(height: Tensor) -> float:
    """log10 (last / first), from −12 to 3; 3 where it diverged."""
    share = float(height[-1] / height[0])
    return float(np.clip(np.log10(max(share, 1e-12)), -12, 3)) if np.isfinite(share) else 3.0


def _draw_lengths(lengths: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (name, found) in enumerate(lengths.items()):
        at = np.unique(np.geomspace(1, len(found), 200).astype(int)) - 1
        axes.plot(at + 1, found[at], label=name, **line_style(i))
    t = np.array([3, len(found)])
    axes.plot(
        t, LR / np.sqrt(t) / 1.6, color=GRAY, linewidth=1, linestyle=":", label="slope of 1/√t"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("length of the step")
    axes.legend()
    return picture


def _draw_scales(
    of_loss: dict[str, np.ndarray], of_place: dict[str, np.ndarray], own: dict[str, Any]
) -> Figure:
    picture = figure(8.0, 3.4)
    panels = picture.subplots(1, 3, sharey=True)
    for i, name in enumerate(of_loss):
        label = f"{name}, {COMPARED[name][1]}"
        panels[0].plot(SCALES, of_loss[name], label=label, **line_style(i))
        panels[1].plot(SCALES, of_place[name], label=label, **line_style(i))
        panels[2].plot(*own[name], label=name, **line_style(i))
    labels = ("the loss is multiplied by", "the weights are multiplied by", "learning rate")
    for axes, label in zip(panels, labels, strict=True):
        axes.set_xscale("log")
        axes.set_xlabel(label)
    panels[0].set_ylabel("powers of ten left")
    picture.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return picture

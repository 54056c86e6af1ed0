"""He's variance times a multiplier: deep ReLU signals die out below 1 and explode above.

Letters: K layers, S seeds, m the multiplier: σ² = m · 2/n.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.networks.initializers import He
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.rng import stream
from ravine.statistics import Interval, t_interval
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_named_intervals
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import fresh_layers, make_recipe

VARIANCE_MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)
RELU_LAYERS, RELU_WIDTH = 10, 256


@experiment(
    "he-multiplier",
    title="He's variance, and multiples of it",
    claim="With σ² = mult · 2/n the variance of a deep ReLU network's signal is multiplied by mult "
    "at each layer: below 1 it dies out, above 1 it explodes, and He's own (mult = 1) keeps it.",
    rows=("I2",),
    seconds=10,
)
def measure_relu_layers(quick: bool) -> ExperimentOutcome:
    """Measure the growth of the signal by multiplier, and train a deep network from each start."""
    seeds, examples = range(2 if quick else 8), 16 if quick else 64
    signal = {
        m: np.array([_variances(m, s, examples) for s in seeds]) for m in VARIANCE_MULTIPLIERS
    }  # [S, K] each
    growth = {
        m: math.exp(np.log(v[:, -1] / v[:, 0]).mean() / (RELU_LAYERS - 1))
        for m, v in signal.items()
    }
    network, epochs = Mlp(hidden=(64,) * RELU_LAYERS), 2 if quick else 12
    recipe = make_recipe(
        "digits", network=network, optimizer=SGD(lr=0.05), epochs=epochs, seeds=len(seeds)
    )
    starts = [He(gain=math.sqrt(m)) for m in VARIANCE_MULTIPLIERS]
    runs = train_all([recipe.vary("network.initializer", start) for start in starts], workers=1)
    accuracy, diverged = {}, {}
    for m, run in zip(VARIANCE_MULTIPLIERS, runs, strict=True):
        values = [member.test.get("accuracy", math.nan) for member in run.record.members]
        accuracy[m] = t_interval([v for v in values if math.isfinite(v)] or [math.nan])
        diverged[m] = run.record.failures
    finite = {m: found.value for m, found in accuracy.items() if math.isfinite(found.value)}
    numbers = {f"growth per layer, mult {m:g}": value for m, value in growth.items()}
    numbers |= {f"accuracy, mult {m:g}": value for m, value in finite.items()}
    numbers |= {f"diverged, mult {m:g}": float(count) for m, count in diverged.items()}

    def reached(m: float) -> str:
        if m not in finite:
            return "nothing (all diverged)"
        return f"{100 * finite[m]:.0f} %" + (f" ({diverged[m]} diverged)" if diverged[m] else "")

    said = (
        "The variance of a layer's inputs grows by the multiplier itself, layer after layer: "
        + ", ".join(f"{value:.2f} for {m:g}" for m, value in growth.items())
        + f". Ten layers of 64 learn the digits (test accuracy after {epochs} epochs of "
        "SGD) to " + ", ".join(f"{reached(m)} with {m:g}" for m in VARIANCE_MULTIPLIERS) + "."
    )
    held = all(abs(value / m - 1) < 0.1 for m, value in growth.items())
    figures = {"He's variance times a multiplier": _draw_signal(signal, accuracy, diverged)}
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _variances(multiplier: float, seed: int, examples: int) -> list[float]:
    """The variance of each layer's inputs to its ReLUs, [K]."""
    start = He(gain=math.sqrt(multiplier))
    network = Mlp(hidden=(RELU_WIDTH,) * RELU_LAYERS, initializer=start)
    x = torch.randn(1, examples, RELU_WIDTH, generator=stream(seed, "inputs"))
    return [float(layer.square().mean()) for layer in fresh_layers(network, seed, x)[1:-1:2]]


def _draw_signal(
    signal: dict[float, np.ndarray], accuracy: dict[float, Interval], diverged: dict[float, int]
) -> Figure:
    picture = figure(9.6, 3.9)
    left, right = picture.subplots(1, 2)
    layers = np.arange(1, RELU_LAYERS + 1)
    for i, (m, values) in enumerate(signal.items()):
        means = values.mean(0)
        left.plot(layers, means, marker="o", label=f"mult = {m:g}", **line_style(i))
        left.plot(layers, means[0] * m ** (layers - 1), color=GRAY_COLOR, linewidth=0.8)
        if diverged[m]:
            text = f"{diverged[m]} of {len(values)}\ndiverged"
            right.annotate(text, (i, 3), ha="center", color=GRAY_COLOR, fontsize=9)
    left.set(yscale="log", xlabel="layer", ylabel="variance of the inputs to ReLU")
    left.set_title("Start of 10 × 256; thin: mult^layer")
    left.legend()
    named = {f"{m:g}": found for m, found in accuracy.items()}
    draw_named_intervals(right, named, scale=100, colors=SERIES_COLORS)
    right.set(xlabel="mult", ylabel="test accuracy, %", ylim=(0, 103))
    right.set_title("10 × 64 on digits: mean over seeds, 95 % interval")
    return picture

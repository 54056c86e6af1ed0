"""Seven layers of 1024 tanh units: large weights saturate them, small ones shrink the signal.

Letters: N examples, H units.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.networks.activations import Tanh
from ravine.networks.initializers import Normal
from ravine.networks.mlp import Mlp
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.rng import stream
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import fresh_layers

TANH_LAYERS, TANH_WIDTH = 7, 1024
LECUN_SD = 1 / math.sqrt(TANH_WIDTH)
STARTING_SDS = {
    "σ = 0.01": 0.01,
    "LeCun, σ = 1/√1024": LECUN_SD,
    "gain 1.59": Tanh().gain() * LECUN_SD,
    "σ = 1": 1.0,
}
SATURATED_OUTPUT = 0.99  # of tanh: its slope is below 0.02


@experiment(
    "deep-tanh",
    title="Seven layers of 1024 tanh units: saturate or collapse",
    claim="With weights of too large a variance tanh units saturate, with too small a one the "
    "signal collapses; LeCun's variance 1/n keeps the variance of outputs constant from layer to "
    "layer.",
    rows=("I2",),
    seconds=8,
)
def measure_tanh_layers(quick: bool) -> ExperimentOutcome:
    """Measure the SD of every layer's outputs from each start, over seeds."""
    seeds = range(1 if quick else 4)
    sds: dict[str, list[list[float]]] = {}
    saturated: dict[str, float] = {}
    third: dict[str, np.ndarray] = {}
    for name, sd in STARTING_SDS.items():
        networks = [_layer_outputs(sd, seed, examples=64 if quick else 256) for seed in seeds]
        sds[name] = [[float(x.std()) for x in layers] for layers in networks]
        saturated[name] = float((networks[0][-1].abs() > SATURATED_OUTPUT).float().mean())
        third[name] = networks[0][2].flatten().numpy()
    small = [_layer_outputs(LECUN_SD, seed, inputs_sd=0.05, examples=64)[-1] for seed in seeds]
    ends = {name: t_interval([layers[-1] for layers in found]) for name, found in sds.items()}
    kept = t_interval([float(x.std()) / 0.05 for x in small])
    linear = (0.01 * math.sqrt(TANH_WIDTH)) ** TANH_LAYERS
    tiny, lecun, gain, _ = (end.value for end in ends.values())
    numbers = label_numbers(f"sd of layer {TANH_LAYERS}", ends)
    numbers |= label_numbers("saturated", saturated)
    numbers |= {"collapse predicted": linear, "LeCun, small inputs, ratio": kept.value}
    said = (
        f"After seven layers the SD is {tiny:.2g} with σ = 0.01 (linear layers would give "
        f"{linear:.2g}); with σ = 1, {100 * saturated['σ = 1']:.0f} % of the outputs lie beyond "
        f"±{SATURATED_OUTPUT}. From LeCun's start small inputs (SD 0.05) keep "
        f"{100 * kept.value:.0f} % of their SD, as its derivation says, which takes tanh as "
        f"linear; inputs of SD 1 shrink to {lecun:.2f}. A gain of 1.59 (1/√E[tanh² z]) holds them "
        f"at {gain:.2f}."
    )
    as_claimed = tiny < 0.01 and saturated["σ = 1"] > 0.5 and abs(kept.value - 1) < 0.05
    figures = {"SD through the layers": _draw_sds(sds), "Outputs at layer 3": _draw_third(third)}
    held = None if as_claimed and lecun < 0.5 else bool(as_claimed)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _layer_outputs(sd: float, seed: int, *, inputs_sd: float = 1.0, examples: int) -> list[Tensor]:
    """The outputs of the seven layers, [N, H] each, for normal inputs and weights N(0, sd²)."""
    hidden = (TANH_WIDTH,) * TANH_LAYERS
    network = Mlp(hidden=hidden, activation=Tanh(), initializer=Normal(sd=sd))
    x = inputs_sd * torch.randn(1, examples, TANH_WIDTH, generator=stream(seed, "inputs"))
    # after the inputs come a linear layer and an activation in turn
    return [outputs[0] for outputs in fresh_layers(network, seed, x)[2:-1:2]]


def _draw_sds(sds: dict[str, list[list[float]]]) -> Figure:
    picture = figure(6.8, 4.0)
    ax = picture.subplots()
    layers = range(1, TANH_LAYERS + 1)
    for i, (name, values) in enumerate(sds.items()):
        ax.plot(layers, np.mean(values, 0), marker="o", label=name, **line_style(i))
    ax.set(yscale="log", xlabel="layer", ylabel="SD of its outputs")
    ax.axhline(1, color=GRAY_COLOR, linewidth=0.8)
    ax.annotate("inputs: SD 1", (1, 1), xytext=(0, 4), textcoords="offset points", color=GRAY_COLOR)
    ax.set_title("Seven layers of 1024 tanh units, before training")
    ax.legend(loc="lower left")
    return picture


def _draw_third(third: dict[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 2.8)
    bins = np.linspace(-1, 1, 61).tolist()
    panels = picture.subplots(1, 4)
    for ax, (name, values), color in zip(panels, third.items(), SERIES_COLORS, strict=False):
        ax.hist(values, bins=bins, density=True, color=color)
        ax.set(title=name, xlabel="output", yticks=[])
    picture.suptitle(
        "Distribution of the outputs of layer 3: collapsed, about normal, evenly spread, saturated"
    )
    return picture

"""Seven layers of 1024 tanh units: weights too large saturate them, too small let the signal
collapse (I2).

Letters: K layers, N examples, H units.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Normal
from ravine.networks.mlp import Mlp
from ravine.protocols import Batch, ForwardContext, Signature
from ravine.reporting.plot_style import COLORS, GRAY, figure, line_style
from ravine.rng import stream
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval

LAYERS, WIDTH = 7, 1024
LECUN = 1 / math.sqrt(WIDTH)
STARTS = {
    "σ = 0.01": 0.01,
    "LeCun, σ = 1/√1024": LECUN,
    "gain 1.59": Tanh().gain() * LECUN,
    "σ = 1": 1.0,
}
SATURATED = 0.99  # of tanh: its slope is below 0.02


def layers(
    sd: float, seed: int, *, inputs_sd: float = 1.0, examples: int = 128
) -> list[torch.Tensor]:
    """What each of the seven layers puts out, [N, H] each, for normal inputs and weights N(0,
    sd²).
    """
    network = Mlp(hidden=(WIDTH,) * LAYERS, activation=Tanh(), initializer=Normal(sd=sd))
    program = BatchedNetwork(network, Signature(WIDTH, (), 1))
    weights, _ = program.start([seed])
    x = inputs_sd * torch.randn(1, examples, WIDTH, generator=stream(seed, "inputs"))
    tapped: list[torch.Tensor] = []
    program(
        program.layout.views(weights),
        Batch(x),
        ForwardContext(training=False, layer_outputs=tapped),
    )
    return [t[0] for t in tapped[2:-1:2]]  # after Columns come Linear and Activate in turn


def run(quick: bool) -> Outcome:
    """Measure the SD of every layer's outputs from each start, over seeds."""
    seeds = range(1 if quick else 4)
    found: dict[str, list[list[float]]] = {}
    saturated: dict[str, float] = {}
    third: dict[str, np.ndarray] = {}
    for name, sd in STARTS.items():
        each = [layers(sd, seed, examples=64 if quick else 256) for seed in seeds]
        found[name] = [[float(x.std()) for x in network] for network in each]
        saturated[name] = float((each[0][-1].abs() > SATURATED).float().mean())
        third[name] = each[0][2].flatten().numpy()
    small = [
        [float(x.std()) for x in layers(LECUN, seed, inputs_sd=0.05, examples=64)] for seed in seeds
    ]
    names = list(STARTS)
    ends = {name: interval([network[-1] for network in found[name]]) for name in names}
    shrink = interval([network[-1] / 0.05 for network in small])
    numbers = {f"sd of layer {LAYERS}, {name}": ends[name].mean for name in names}
    numbers |= {f"saturated, {name}": share for name, share in saturated.items()}
    numbers["collapse predicted"] = (0.01 * math.sqrt(WIDTH)) ** LAYERS
    numbers["LeCun, small inputs, ratio"] = shrink.mean
    collapses, constant = ends[names[0]].mean < 0.01, abs(shrink.mean - 1) < 0.05
    saturates, shrinks = saturated[names[3]] > 0.5, ends[names[1]].mean < 0.5
    held = (
        None
        if collapses and saturates and constant and shrinks
        else bool(collapses and saturates and constant)
    )
    said = (
        f"After seven layers the SD is {ends[names[0]].mean:.2g} with σ = 0.01 (linear layers "
        f"would give "
        f"{numbers['collapse predicted']:.2g}); with σ = 1, {100 * saturated[names[3]]:.0f} % of "
        f"outputs lie beyond "
        f"±{SATURATED}. LeCun's start keeps small inputs (SD 0.05) at {_percent(shrink)} of their "
        f"SD, as its "
        f"derivation says, which takes tanh as linear; inputs of SD 1 it shrinks to "
        f"{ends[names[1]].mean:.2f}. A gain "
        f"of 1.59 (1/√E[tanh² z]) holds them at {ends[names[2]].mean:.2f}."
    )
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={"SD through the layers": _sds(found), "Outputs at layer 3": _third(third)},
    )


def _percent(found: Interval) -> str:
    return f"{100 * found.mean:.0f} %"


def _sds(found: dict[str, list[list[float]]]) -> Any:
    picture = figure(6.8, 4.0)
    ax = picture.subplots()
    for i, (name, values) in enumerate(found.items()):
        ax.plot(range(1, LAYERS + 1), np.mean(values, 0), marker="o", label=name, **line_style(i))
    ax.set_yscale("log")
    ax.axhline(1, color=GRAY, linewidth=0.8)
    ax.annotate("inputs: SD 1", (1, 1), xytext=(0, 4), textcoords="offset points", color=GRAY)
    ax.set(
        xlabel="layer",
        ylabel="SD of its outputs",
        title="Seven layers of 1024 tanh units, before training",
    )
    ax.legend(loc="lower left")
    return picture


def _third(third: dict[str, np.ndarray]) -> Any:
    picture = figure(9.6, 2.8)
    bins = np.linspace(-1, 1, 61).tolist()
    for i, (ax, (name, values)) in enumerate(
        zip(picture.subplots(1, 4), third.items(), strict=True)
    ):
        ax.hist(values, bins=bins, density=True, color=COLORS[i])
        ax.set(title=name, xlabel="output", yticks=[])
    picture.suptitle(
        "Distribution of the outputs of layer 3: collapsed, about normal, evenly spread, saturated"
    )
    return picture


EXPERIMENT = Experiment(
    name="deep-tanh",
    title="Seven layers of 1024 tanh units: saturate or collapse",
    rows=("I2",),
    claim="With weights of too large a variance tanh units saturate, with too small a one the "
    "signal collapses; "
    "LeCun's variance 1/n keeps the variance of outputs constant from layer to layer.",
    seconds=8,
    run=run,
)

"""He's variance times a multiplier: deep ReLU signals die out below 1, explode above, and train
only near it (I2).

Letters: K layers, H units, m the multiplier: σ² = m · 2/n.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ravine.catalog import named_recipe
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import He
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.protocols import Batch, ForwardContext, Signature
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals, line_style
from ravine.rng import stream
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval

MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)
LAYERS, WIDTH = 10, 256
DEEP = (64,) * 10  # the network that is trained


def variances(multiplier: float, seed: int, examples: int) -> list[float]:
    """The variance of each layer's inputs to its ReLUs."""
    network = Mlp(hidden=(WIDTH,) * LAYERS, initializer=He(gain=math.sqrt(multiplier)))
    program = BatchedNetwork(network, Signature(WIDTH, (), 1))
    weights, _ = program.start([seed])
    x = torch.randn(1, examples, WIDTH, generator=stream(seed, "inputs"))
    tapped: list[torch.Tensor] = []
    program(
        program.layout.views(weights),
        Batch(x),
        ForwardContext(training=False, layer_outputs=tapped),
    )
    return [float(t.square().mean()) for t in tapped[1:-1:2]]


def run(quick: bool) -> Outcome:
    """Measure the growth of the signal by multiplier, and train a deep network from each start."""
    seeds = range(2 if quick else 8)
    signal = {
        m: np.array([variances(m, s, 16 if quick else 64) for s in seeds]) for m in MULTIPLIERS
    }
    growth = {m: interval(np.log(v[:, -1] / v[:, 0]) / (LAYERS - 1)) for m, v in signal.items()}
    base = (
        named_recipe("plain")
        .vary("data.source", "digits")
        .vary("network", Mlp(hidden=DEEP))
        .vary("optimizer", SGD(lr=0.05))
    )
    base = base.vary("epochs", 2 if quick else 12).vary("seeds", len(seeds))
    runs = train_all(
        [base.vary("network.initializer", He(gain=math.sqrt(m))) for m in MULTIPLIERS], workers=1
    )
    accuracy = {}
    for m, done in zip(MULTIPLIERS, runs, strict=True):
        values = [member.test.get("accuracy", math.nan) for member in done.record.members]
        accuracy[m] = (
            interval([v for v in values if math.isfinite(v)] or [math.nan]),
            done.record.failures,
        )
    numbers = {f"growth per layer, mult {m:g}": math.exp(growth[m].mean) for m in MULTIPLIERS}
    numbers |= {
        f"accuracy, mult {m:g}": found.mean
        for m, (found, _) in accuracy.items()
        if math.isfinite(found.mean)
    }
    numbers |= {f"diverged, mult {m:g}": float(accuracy[m][1]) for m in MULTIPLIERS}
    follows = all(abs(math.exp(growth[m].mean) / m - 1) < 0.1 for m in MULTIPLIERS)
    said = (
        "The variance of a layer's inputs grows by the multiplier itself, layer after layer: "
        + ", ".join(f"{math.exp(growth[m].mean):.2f} for {m:g}" for m in MULTIPLIERS)
        + (
            f". Ten layers of 64 learn the digits (test accuracy after {base.epochs} epochs of "
            f"SGD) "
            f"to "
        )
        + ", ".join(f"{_shown(accuracy[m])} with {m:g}" for m in MULTIPLIERS)
        + "."
    )
    return Outcome(
        held=follows,
        said=said,
        numbers=numbers,
        figures={"He's variance times a multiplier": _picture(signal, accuracy)},
    )


def _shown(found: tuple[Interval, int]) -> str:
    if math.isnan(found[0].mean):
        return "nothing (all diverged)"
    return f"{100 * found[0].mean:.0f} %" + (f" ({found[1]} diverged)" if found[1] else "")


def _picture(signal: dict[float, np.ndarray], accuracy: dict[float, tuple[Interval, int]]) -> Any:
    picture = figure(9.6, 3.9)
    left, right = picture.subplots(1, 2)
    for i, (m, values) in enumerate(signal.items()):
        left.plot(
            range(1, LAYERS + 1), values.mean(0), marker="o", label=f"mult = {m:g}", **line_style(i)
        )
        left.plot(
            range(1, LAYERS + 1),
            values.mean(0)[0] * m ** np.arange(LAYERS),
            color=GRAY,
            linewidth=0.8,
        )
        mean, low, high = (100 * v for v in accuracy[m][0])
        intervals(right, [i], [mean], [low], [high], color=COLORS[i])
        if accuracy[m][1]:
            text = f"{accuracy[m][1]} of {len(values)}\ndiverged"
            right.annotate(text, (i, 3), ha="center", color=GRAY, fontsize=9)
    left.set_yscale("log")
    left.set(
        xlabel="layer",
        ylabel="variance of the inputs to ReLU",
        title="Start of 10 × 256; thin: mult^layer",
    )
    left.legend()
    right.set_xticks(range(len(accuracy)), [f"{m:g}" for m in accuracy])
    right.set(
        xlabel="mult",
        ylabel="test accuracy, %",
        title="10 × 64 on digits: mean over seeds, 95 % interval",
        ylim=(0, 103),
    )
    return picture


EXPERIMENT = Experiment(
    name="he-multiplier",
    title="He's variance, and multiples of it",
    rows=("I2",),
    claim="With σ² = mult · 2/n the variance of a deep ReLU network's signal is multiplied by mult "
    "at each layer: "
    "below 1 it dies out, above 1 it explodes, and He's own (mult = 1) keeps it.",
    seconds=10,
    run=run,
)

"""Dropout: inverted and classic agree in expectation, and a network with dropout is an ensemble of
sub-networks (R3).

Letters: H hidden units, M sub-networks, P networks, N examples.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import synthetic
from ravine.networks.layer_parts import Dropout
from ravine.networks.layers import DropoutLayer
from ravine.protocols import ForwardContext
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import interval, percent, tensor, unscaled, watched

HIDDEN = 10
RATE = 0.5


def neuron() -> tuple[float, float]:
    """The lecture's neuron w1 x + w2 y under dropout of ½: the mean over its four masks, and ½ (w1
    x + w2 y).
    """
    inputs = (1.3, -0.4)
    masked = [
        sum(keep * value for keep, value in zip(mask, inputs, strict=True)) for mask in _masks(2)
    ]
    return sum(masked) / 4, 0.5 * sum(inputs)


def layer_means(rate: float, draws: int) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over draws of what inverted and classic dropout put out in training, and classic's
    test output, [H].
    """
    x = torch.linspace(-1, 2, 32).reshape(1, 1, -1)
    many = x.expand(1, draws, -1)
    found = [
        DropoutLayer("mean", rate=rate, inverted=inverted)(
            many, {}, ForwardContext(training=True, seeds=(0,), batch=draws)
        )
        for inverted in (True, False)
    ]
    test = DropoutLayer("mean", rate=rate, inverted=False)(x, {}, ForwardContext(training=False))
    return found[0].mean((0, 1)), found[1].mean((0, 1)), test[0, 0]


def sub_networks(views: dict[str, Tensor], points: np.ndarray, rate: float) -> Tensor:
    """The logits of all 2^H sub-networks of a network with one hidden layer of ReLUs, [P, M, N]."""
    hidden = torch.relu(tensor(points) @ views["hidden.0.weight"] + views["hidden.0.bias"])
    masks = torch.tensor(_masks(hidden.shape[2])) / (1 - rate)
    weights = masks[None] * views["output.weight"][..., 0][:, None]  # [P, M, H]
    return torch.einsum("pnh,pmh->pmn", hidden, weights) + views["output.bias"]


def run(quick: bool) -> Outcome:
    """Compare both forms of dropout, then judge every sub-network of trained networks, and their
    mean.
    """
    seeds, epochs = (3, 20) if quick else (12, 150)
    four, half = neuron()
    inverted, classic, test = layer_means(0.3, 2000 if quick else 20_000)
    x = torch.linspace(-1, 2, 32)
    off = float((inverted - x).abs().max()), float((classic - test).abs().max())
    recipe = (
        unscaled().vary("network.hidden", (HIDDEN,)).vary("network.dropout", Dropout(rate=RATE))
    )
    recipe = recipe.vary("epochs", epochs).vary("seeds", seeds).vary("optimizer.lr", 0.05)
    cohort, _ = watched([recipe], lambda cohort, task: None, synthetic.moons(200, 0))
    points, truth = synthetic.moons(500 if quick else 2000, 1)
    views = cohort.network.layout.views(cohort.ended.tensors["weights"])
    logits = sub_networks(views, points, RATE)
    hidden = torch.relu(tensor(points) @ views["hidden.0.weight"] + views["hidden.0.bias"])
    scaled = (hidden @ views["output.weight"] + views["output.bias"])[
        ..., 0
    ]  # the network at test time
    apart = float((logits.mean(1) - scaled).abs().max())
    right = torch.tensor(truth, dtype=torch.bool)
    each = ((logits > 0) == right).double().mean(2)  # [P, M]
    chance = torch.sigmoid(logits).mean(1)
    scores = {
        "average sub-network": interval(each.mean(1).tolist()),
        "mean of all probabilities": interval(((chance > 0.5) == right).double().mean(1).tolist()),
        "the network at test time": interval(((scaled > 0) == right).double().mean(1).tolist()),
    }
    gain = interval((((scaled > 0) == right).double().mean(1) - each.mean(1)).tolist())
    gap = float((torch.sigmoid(scaled) - chance).abs().mean())
    numbers = {
        "neuron, mean of four masks": four,
        "neuron, scaled": half,
        "inverted off": off[0],
        "classic off": off[1],
        "mean logit against test network": apart,
        "probability gap": gap,
        "gain": gain.mean,
        "gain low": gain.low,
    } | {f"accuracy, {n}": s.mean for n, s in scores.items()}
    held = abs(four - half) < 1e-12 and max(off) < 0.06 and apart < 1e-3 and gain.low > 0
    said = (
        f"Averaged over draws, inverted dropout gives back its input to {off[0]:.3f} and classic "
        f"dropout its own test "
        f"output to {off[1]:.3f} (values up to 2). Of a trained network all {2**HIDDEN:,} "
        f"sub-networks were judged: "
        f"their mean logit is the test network's (difference {apart:.0e}), the mean of their "
        f"probabilities "
        f"is {gap:.3f} away from its. It is right {percent(scores['the network at test time'])}, "
        f"its average "
        f"sub-network {percent(scores['average sub-network'])}, their ensemble "
        f"{percent(scores['mean of all probabilities'])}."
    )
    return Outcome(
        held=bool(held),
        said=said,
        numbers=numbers,
        figures={
            "Expectation": _expectation(x, inverted, classic, test),
            "Sub-networks": _subs(each, scores),
        },
    )


def _masks(units: int) -> list[tuple[float, ...]]:
    return list(itertools.product((0.0, 1.0), repeat=units))


def _expectation(x: Tensor, inverted: Tensor, classic: Tensor, test: Tensor) -> Any:
    picture = figure(6.4, 3.8)
    ax = picture.subplots()
    ax.plot(x, x, color=GRAY, linewidth=0.9, label="input")
    ax.plot(x, inverted, "o", color=COLORS[0], label="inverted: mean in training")
    ax.plot(x, test, color=COLORS[1], linewidth=0.9, label="classic: at test time, input · 0.7")
    ax.plot(x, classic, "^", color=COLORS[1], label="classic: mean in training")
    ax.set(
        xlabel="a unit's value",
        ylabel="after dropout",
        title="Dropout that keeps 0.7: means over draws",
    )
    ax.legend()
    return picture


def _subs(each: Tensor, scores: dict[str, Any]) -> Any:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    left.hist(100 * each[0].numpy(), bins=40, color=COLORS[0])
    left.set(
        xlabel="test accuracy, %",
        ylabel="sub-networks",
        title=f"All {each.shape[1]:,} sub-networks of a network",
    )
    for i, found in enumerate(scores.values()):
        mean, low, high = (100 * v for v in found)
        intervals(right, [i], [mean], [low], [high], color=COLORS[i], upright=False)
    right.set_yticks(range(len(scores)), list(scores))
    right.invert_yaxis()
    right.set(
        xlabel="test accuracy, %", title="Mean over networks, 95 % interval", ylim=(2.5, -0.5)
    )
    return picture


EXPERIMENT = Experiment(
    name="dropout-expectation",
    title="Dropout in expectation, and its sub-networks",
    rows=("R3",),
    claim="Inverted and classic dropout are equal in expectation; a network with dropout is an "
    "ensemble of its "
    "sub-networks, which scaling at test time averages.",
    seconds=6,
    run=run,
)

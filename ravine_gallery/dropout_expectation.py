"""Dropout: inverted and classic agree in expectation, and dropout trains an ensemble of
sub-networks.

Letters: H hidden units, M sub-networks, P networks, N examples.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.data import synthetic
from ravine.networks.layer_parts import Dropout
from ravine.networks.layers import DropoutLayer
from ravine.networks.mlp import Mlp
from ravine.optimizers import Momentum
from ravine.protocols import ForwardContext
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import Interval, t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_named_intervals, format_percent, label_numbers
from ravine_gallery.network_experiments import (
    make_unscaled_recipe,
    network_inputs,
    train_and_observe,
    trained_weights,
)

DROPOUT_UNITS = 10
DROPOUT_RATE = 0.5


@experiment(
    "dropout-expectation",
    title="Dropout in expectation, and its sub-networks",
    claim="Inverted and classic dropout are equal in expectation; a network with dropout is an "
    "ensemble of its sub-networks, which scaling at test time averages.",
    rows=("R3",),
    seconds=6,
)
def compare_dropout_forms(quick: bool) -> ExperimentOutcome:
    """Compare both forms of dropout, then evaluate every sub-network of trained networks, and their
    mean.
    """
    seeds, epochs = (8, 40) if quick else (12, 150)
    inputs = (1.3, -0.4)  # of the lecture's neuron w₁ x + w₂ y under dropout of ½
    masked = [np.dot(mask, inputs) for mask in all_masks(2)]
    four, half = float(sum(masked) / 4), 0.5 * sum(inputs)
    x, inverted, classic, at_test = _layer_means(0.3, 20_000)
    off = float((inverted - x).abs().max()), float((classic - at_test).abs().max())
    network = Mlp(hidden=(DROPOUT_UNITS,), dropout=Dropout(rate=DROPOUT_RATE))
    recipe = make_unscaled_recipe(
        network=network, optimizer=Momentum(lr=0.05), epochs=epochs, seeds=seeds
    )
    cohort, _ = train_and_observe([recipe], synthetic.moons(200, 0))
    points, classes = synthetic.moons(500 if quick else 2000, 1)
    truth = torch.tensor(classes, dtype=torch.bool)
    scaled, logits = _sub_networks(trained_weights(cohort), points)
    probability = torch.sigmoid(logits).mean(1)
    each = ((logits > 0) == truth).double().mean(2)  # [P, M]
    test_scores = ((scaled > 0) == truth).double().mean(1)
    scores = {
        "average sub-network": t_interval(each.mean(1)),
        "mean of all probabilities": t_interval(((probability > 0.5) == truth).double().mean(1)),
        "the network at test time": t_interval(test_scores),
    }
    average, ensemble, network = (format_percent(score) for score in scores.values())
    gain = t_interval(test_scores - each.mean(1))
    apart = float((logits.mean(1) - scaled).abs().max())
    gap = float((torch.sigmoid(scaled) - probability).abs().mean())
    numbers = {
        "neuron, mean of four masks": four,
        "neuron, scaled": half,
        "inverted off": off[0],
        "classic off": off[1],
        "mean logit against test network": apart,
        "probability gap": gap,
        "gain": gain.value,
        "gain low": gain.low,
    } | label_numbers("accuracy", scores)
    said = (
        f"Averaged over draws, the output of inverted dropout is its input up to {off[0]:.3f}, "
        f"that of classic dropout its own test output up to {off[1]:.3f} (values up to 2). All "
        f"{2**DROPOUT_UNITS:,} sub-networks of each trained network were evaluated: their mean "
        f"logit is that of the network at test time (difference {apart:.0e}), the mean of their "
        f"probabilities differs by {gap:.3f}. The network at test time is right on {network}, its "
        f"average sub-network on {average} and their ensemble on {ensemble}."
    )
    held = abs(four - half) < 1e-12 and max(off) < 0.06 and apart < 1e-3 and gain.low > 0
    figures = {
        "Expectation": _draw_expectation(x, inverted, classic, at_test),
        "Sub-networks": _draw_sub_networks(each[0], scores),
    }
    return ExperimentOutcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def all_masks(units: int) -> list[tuple[float, ...]]:
    """All 2^units ways to keep (1) or drop (0) units."""
    return list(itertools.product((0.0, 1.0), repeat=units))


def _layer_means(rate: float, draws: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Some values, the means over draws of inverted and of classic dropout in training, and
    classic's test output, [H] each.
    """
    x = torch.linspace(-1, 2, 32).reshape(1, 1, -1)
    many, context = x.expand(1, draws, -1), ForwardContext(training=True, seeds=(0,), batch=draws)
    inverted = DropoutLayer("mean", rate=rate, inverted=True)
    classic = DropoutLayer("mean", rate=rate, inverted=False)
    at_test = classic(x, {}, ForwardContext(training=False))
    means = inverted(many, {}, context).mean((0, 1)), classic(many, {}, context).mean((0, 1))
    return x[0, 0], *means, at_test[0, 0]


def _sub_networks(views: dict[str, Tensor], points: np.ndarray) -> tuple[Tensor, Tensor]:
    """The logits of networks with one hidden layer of ReLUs at test time, [P, N], and of all their
    2^H sub-networks, [P, M, N].
    """
    into, out = views["hidden.0.weight"], views["output.weight"]
    hidden = torch.relu(network_inputs(points) @ into + views["hidden.0.bias"])
    masks = torch.tensor(all_masks(hidden.shape[2])) / (1 - DROPOUT_RATE)
    weights = masks[None] * out[..., 0][:, None]  # [P, M, H]
    logits = torch.einsum("pnh,pmh->pmn", hidden, weights) + views["output.bias"]
    return (hidden @ out + views["output.bias"])[..., 0], logits


def _draw_expectation(x: Tensor, inverted: Tensor, classic: Tensor, at_test: Tensor) -> Figure:
    picture = figure(6.4, 3.8)
    ax = picture.subplots()
    ax.plot(x, x, color=GRAY_COLOR, linewidth=0.9, label="input")
    ax.plot(x, inverted, "o", color=SERIES_COLORS[0], label="inverted: mean in training")
    ax.plot(
        x,
        at_test,
        color=SERIES_COLORS[1],
        linewidth=0.9,
        label="classic: at test time, input · 0.7",
    )
    ax.plot(x, classic, "^", color=SERIES_COLORS[1], label="classic: mean in training")
    ax.set(xlabel="a unit's value", ylabel="after dropout")
    ax.set_title("Dropout that keeps 0.7: means over draws")
    ax.legend()
    return picture


def _draw_sub_networks(each: Tensor, scores: dict[str, Interval]) -> Figure:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    left.hist(100 * each.numpy(), bins=40, color=SERIES_COLORS[0])
    left.set(xlabel="test accuracy, %", ylabel="sub-networks")
    left.set_title(f"All {len(each):,} sub-networks of a network")
    draw_named_intervals(right, scores, scale=100, upright=False)
    right.set(xlabel="test accuracy, %", ylim=(2.5, -0.5))
    right.set_title("Mean over networks, 95 % interval")
    return picture

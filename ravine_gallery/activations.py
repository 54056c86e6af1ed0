"""Sigmoid, tanh and ReLU, failing in their own ways: tiny slopes, gradients of one sign, dead units
(A1).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ravine.catalog import named_recipe
from ravine.data import synthetic
from ravine.networks.activations import ReLU, Sigmoid, Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Glorot
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.protocols import Activation, Batch, ForwardContext, Signature
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals, line_style
from ravine.rng import stream
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import (
    Interval,
    interval,
    percent,
    tensor,
    unscaled,
    watched,
)

FUNCTIONS: dict[str, Activation] = {"sigmoid": Sigmoid(), "tanh": Tanh(), "ReLU": ReLU()}
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)


def slope(f: Activation, at: np.ndarray) -> np.ndarray:
    """f′ by autograd, float64."""
    x = torch.tensor(at, dtype=torch.float64)[None].requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0][0].numpy()


def same_sign(f: Activation, seeds: int) -> list[float]:
    """The share of a second layer's units whose incoming weights all get gradients of one sign,
    from one example.

    The gradient of unit j's weights is δ_j times the outputs of the layer below: of one sign if
    those all are.
    """
    program = BatchedNetwork(
        Mlp(hidden=(32, 32), activation=f, initializer=Glorot()), Signature(8, (), 1)
    )
    weights, _ = program.start(range(seeds))
    tensors = {n: v.detach().requires_grad_() for n, v in program.layout.views(weights).items()}
    x = torch.stack([torch.randn(1, 8, generator=stream(s, "example")) for s in range(seeds)])
    outputs = program(tensors, Batch(x), ForwardContext(training=True))
    grad = torch.autograd.grad(outputs.sum(), tensors["hidden.1.weight"])[0]  # [P, in, out]
    alive = (grad != 0).any(1)
    one = ((grad >= 0).all(1) | (grad <= 0).all(1)) & alive
    return (one.sum(1) / alive.sum(1).clamp_min(1)).tolist()


def zigzag(f: Activation, seed: int, steps: int = 50) -> tuple[np.ndarray, float]:
    """The path of a neuron that reads f(z), z ~ N(0, 1), of two features, from (0, 0) to the
    weights (1, −1).

    Returns the path [steps + 1, 2] of stochastic gradient descent, one example a step, and the
    share of its steps that move one of the two weights away from where it belongs.
    """
    features = f(torch.randn(1, steps, 2, generator=stream(seed, "zigzag")))[0].double()
    wanted, w = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    path, wrong = [w.numpy()], 0
    for x in features:
        step = 0.5 * (wanted - w) @ x * x
        wrong += int(((wanted - w) * step < 0).any())
        w = w + step
        path.append(w.numpy())
    return np.array(path), wrong / steps


def dead_shares(seeds: int, epochs: int) -> dict[float, Interval]:
    """The share of hidden ReLUs that answer 0 to every training example after training, by learning
    rate.
    """
    data = synthetic.moons(400, 0)
    base = (
        unscaled()
        .vary("network.hidden", (64,))
        .vary("optimizer", SGD())
        .vary("epochs", epochs)
        .vary("seeds", seeds)
    )
    cohort, task = watched(
        [base.vary("optimizer.lr", lr) for lr in RATES], lambda cohort, task: None, data
    )
    tapped: list[torch.Tensor] = []
    program, kept = cohort.network, cohort.ended.tensors["weights"]
    program(
        program.layout.views(kept),
        Batch(tensor(task.train.numbers.numpy())),
        ForwardContext(training=False, layer_outputs=tapped),
    )
    dead = (tapped[2] <= 0).all(1).double().mean(1).reshape(len(RATES), seeds)
    return {lr: interval(values) for lr, values in zip(RATES, dead.tolist(), strict=True)}


def deep(seeds: int, epochs: int) -> dict[str, list[np.ndarray]]:
    """The training loss of five hidden layers on the digits, epoch by epoch [T], for each
    network.
    """
    found = {}
    for name, f in FUNCTIONS.items():
        network = Mlp(
            hidden=(64,) * 5,
            activation=f,
            initializer=Glorot(gain=math.sqrt(2) if name == "ReLU" else 1.0),
        )
        recipe = (
            named_recipe("plain")
            .vary("data.source", "digits")
            .vary("network", network)
            .vary("optimizer", SGD(lr=0.1))
        )
        done = train_all([recipe.vary("epochs", epochs).vary("seeds", seeds)], workers=1)[0]
        found[name] = list(done.record.series["train/loss"].values.T)
    return found


def run(quick: bool) -> Outcome:
    """Slopes, signs of gradients, dead units, and what they cost in training."""
    seeds = 3 if quick else 8
    outside = np.concatenate([-np.linspace(5, 20, 200), np.linspace(5, 20, 200)])
    steepest = {name: float(slope(f, outside).max()) for name, f in FUNCTIONS.items()}
    signs = {name: interval(same_sign(f, 20)) for name, f in FUNCTIONS.items()}
    walks = {
        name: [zigzag(f, seed) for seed in range(20)]
        for name, f in FUNCTIONS.items()
        if name != "ReLU"
    }
    paths = {
        name: (each[0][0], interval([share for _, share in each])) for name, each in walks.items()
    }
    dead = dead_shares(seeds, 5 if quick else 30)
    losses = deep(seeds, 2 if quick else 12)
    ends = {name: interval([v[-1] for v in values]) for name, values in losses.items()}
    numbers = {f"largest slope beyond ±5, {name}": value for name, value in steepest.items()}
    numbers |= {f"one sign, {name}": value.mean for name, value in signs.items()}
    numbers |= {
        f"steps wrong for one weight, {name}": share.mean for name, (_, share) in paths.items()
    }
    numbers |= {f"dead, lr {lr:g}": value.mean for lr, value in dead.items()}
    numbers |= {f"deep loss, {name}": value.mean for name, value in ends.items()}
    tiny, signed = (
        steepest["sigmoid"] < 0.007,
        signs["sigmoid"].mean == 1 and signs["tanh"].mean < 0.5,
    )
    dies = dead[RATES[-1]].low > dead[RATES[0]].high
    said = (
        f"Beyond ±5 the sigmoid's slope is at most {steepest['sigmoid']:.4f} (tanh's, "
        f"{steepest['tanh']:.1e}, is "
        f"smaller still). "
        f"One of two weights moves the wrong way in {percent(paths['sigmoid'][1])} of steps behind "
        f"sigmoids, "
        f"{percent(paths['tanh'][1])} behind tanh. "
        f"After sigmoids {percent(signs['sigmoid'])} of units get gradients of one sign for all "
        f"their "
        f"weights from one example, after ReLUs {percent(signs['ReLU'])}, after tanh "
        f"{percent(signs['tanh'])}. Dead "
        f"ReLUs: {percent(dead[RATES[0]])} at a learning rate of {RATES[0]:g}, "
        f"{percent(dead[RATES[-1]])} at "
        f"{RATES[-1]:g}. Five layers on the digits end at a training loss of "
        + ", ".join(f"{value.mean:.2g} ({name})" for name, value in ends.items())
        + "."
    )
    return Outcome(
        held=bool(tiny and signed and dies),
        said=said,
        numbers=numbers,
        figures={
            "Functions and slopes": _functions(),
            "Zig-zag": _zigzags(paths, signs),
            "Dead units and deep networks": _costs(dead, losses),
        },
    )


def _functions() -> Any:
    picture = figure(9.6, 3.2)
    left, right = picture.subplots(1, 2)
    z = np.linspace(-8, 8, 400)
    for i, (name, f) in enumerate(FUNCTIONS.items()):
        left.plot(z, f(torch.tensor(z)[None])[0].numpy(), label=name, **line_style(i))
        right.plot(z, slope(f, z), label=name, **line_style(i))
    for edge in (-5, 5):
        right.axvline(edge, color=GRAY, linewidth=0.8)
    left.set(ylim=(-1.2, 3), xlabel="input", ylabel="output", title="Functions")
    right.set(xlabel="input", ylabel="slope", title="Slopes; gray: ±5")
    left.legend()
    return picture


def _zigzags(paths: dict[str, tuple[np.ndarray, Interval]], signs: dict[str, Interval]) -> Any:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    for i, (name, (path, share)) in enumerate(paths.items()):
        left.plot(
            *path.T, label=f"inputs from {name}: {100 * share.mean:.0f} % of steps", **line_style(i)
        )
    left.plot([1], [-1], "k*", markersize=11)
    left.set(xlabel="weight 1", ylabel="weight 2", title="50 steps of SGD towards (1, −1)")
    left.legend(title="one weight moves the wrong way in", loc="upper right")
    for i, found in enumerate(signs.values()):
        mean, low, high = (100 * v for v in found)
        intervals(right, [i], [mean], [low], [high], color=COLORS[i])
    right.set_xticks(range(3), list(signs))
    right.set(
        ylabel="units, %", title="Gradients of one sign for all weights of a unit", ylim=(-5, 105)
    )
    return picture


def _costs(dead: dict[float, Interval], losses: dict[str, list[np.ndarray]]) -> Any:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    middle, low, high = (100 * np.array(v) for v in zip(*dead.values(), strict=True))
    intervals(left, list(dead), middle, low, high)
    left.set_xscale("log")
    left.set(
        xlabel="learning rate",
        ylabel="dead units, %",
        title="2-64-1 of ReLUs on the moons, 95 % interval",
    )
    for i, (name, values) in enumerate(losses.items()):
        right.plot(range(1, len(values[0]) + 1), np.mean(values, 0), label=name, **line_style(i))
    right.set_yscale("log")
    right.set(
        xlabel="epoch", ylabel="training loss", title="Five hidden layers of 64 on the digits"
    )
    right.legend()
    return picture


EXPERIMENT = Experiment(
    name="activations",
    title="Sigmoid, tanh and ReLU fail in their own ways",
    rows=("A1",),
    claim="The sigmoid's slope is tiny outside [−5, 5], and since its outputs are always positive "
    "all weights of a "
    "unit move the same way in a step; tanh has no such problem; a ReLU whose input is too small "
    "dies.",
    seconds=8,
    run=run,
)

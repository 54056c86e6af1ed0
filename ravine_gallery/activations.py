"""How sigmoid, tanh and ReLU fail: tiny slopes, gradients of one sign, dead units.

Letters: P networks, N examples, R rates, T epochs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.data import synthetic
from ravine.networks.activations import ReLU, Sigmoid, Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Glorot
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.protocols import Activation, Batch, ForwardContext, Signature
from ravine.reporting.plot_style import GRAY_COLOR, figure
from ravine.rng import stream
from ravine.statistics import Interval, t_interval
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import (
    draw_intervals,
    draw_named_intervals,
    format_percent,
    label_numbers,
)
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import (
    make_recipe,
    make_unscaled_recipe,
    network_inputs,
    train_and_observe,
    trained_outputs,
)

COMPARED_ACTIVATIONS: dict[str, Activation] = {"sigmoid": Sigmoid(), "tanh": Tanh(), "ReLU": ReLU()}
DYING_RATES = (0.1, 0.3, 1.0, 3.0, 10.0)


@experiment(
    "activations",
    title="Sigmoid, tanh and ReLU fail in their own ways",
    claim="The sigmoid's slope is tiny outside [−5, 5], and since its outputs are always positive "
    "all weights of a unit move the same way in a step; tanh has no such problem; a ReLU whose "
    "input is too small dies.",
    rows=("A1",),
    seconds=8,
)
def compare_activations(quick: bool) -> ExperimentOutcome:
    """Measure slopes, signs of gradients and dead units, and what they cost in training."""
    seeds = 5 if quick else 8
    far = np.linspace(5, 20, 200)
    outside = np.concatenate([-far, far])
    steepest = {name: float(_slope(f, outside).max()) for name, f in COMPARED_ACTIVATIONS.items()}
    one_sign = {
        name: t_interval(_one_sign_shares(f, 20)) for name, f in COMPARED_ACTIVATIONS.items()
    }
    walks = {
        name: [_zigzag(COMPARED_ACTIVATIONS[name], s) for s in range(20)]
        for name in ("sigmoid", "tanh")
    }
    paths = {name: found[0][0] for name, found in walks.items()}
    wrong = {name: t_interval([share for _, share in found]) for name, found in walks.items()}
    dead = _dead_shares(seeds, 5 if quick else 30)
    losses = _deep_losses(seeds, 2 if quick else 12)
    ends = {name: float(values[-1].mean()) for name, values in losses.items()}
    numbers = label_numbers("largest slope beyond ±5", steepest)
    numbers |= label_numbers("one sign", one_sign)
    numbers |= label_numbers("steps wrong for one weight", wrong)
    numbers |= {f"dead, lr {lr:g}": share.value for lr, share in dead.items()}
    numbers |= label_numbers("deep loss", ends)
    least, *_, most = DYING_RATES
    said = (
        f"Beyond ±5 the sigmoid's slope is at most {steepest['sigmoid']:.4f} (tanh's, "
        f"{steepest['tanh']:.1e}, is even smaller). One of two weights moves the wrong way in "
        f"{format_percent(wrong['sigmoid'])} of the steps after sigmoids and in "
        f"{format_percent(wrong['tanh'])} after tanh. After sigmoids "
        f"{format_percent(one_sign['sigmoid'])} of the units get gradients of one sign for all "
        f"their weights from one example, after ReLUs {format_percent(one_sign['ReLU'])}, after "
        f"tanh {format_percent(one_sign['tanh'])}. Dead ReLUs: {format_percent(dead[least])} at a "
        f"learning rate of {least:g}, {format_percent(dead[most])} at {most:g}. Five layers on the "
        "digits end at a training loss of "
        + ", ".join(f"{loss:.2g} ({name})" for name, loss in ends.items())
        + "."
    )
    signed = one_sign["sigmoid"].value == 1 and one_sign["tanh"].value < 0.5
    dies = dead[most].low > dead[least].high
    figures = {
        "Functions and slopes": _draw_functions(),
        "Zig-zag": _draw_zigzags(paths, wrong, one_sign),
        "Dead units and deep networks": _draw_costs(dead, losses),
    }
    held = bool(steepest["sigmoid"] < 0.007 and signed and dies)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _slope(f: Activation, at: np.ndarray) -> np.ndarray:
    """f′ by autograd, float64."""
    x = torch.tensor(at, dtype=torch.float64)[None].requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0][0].numpy()


def _one_sign_shares(f: Activation, seeds: int) -> list[float]:
    """The share of a second layer's units whose incoming weights all get gradients of one sign,
    from one example, for each network.

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


def _zigzag(f: Activation, seed: int, steps: int = 50) -> tuple[np.ndarray, float]:
    """The path of a neuron that reads f(z), z ~ N(0, 1), of two features, from (0, 0) to the
    weights (1, −1).

    Returns the path [steps + 1, 2] of stochastic gradient descent, one example a step, and the
    share of its steps that move one of the two weights away from its target.
    """
    features = f(torch.randn(1, steps, 2, generator=stream(seed, "zigzag")))[0].double()
    target, w = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    path, wrong = [w.numpy()], 0
    for x in features:
        step = 0.5 * (target - w) @ x * x
        wrong += int(((target - w) * step < 0).any())
        w = w + step
        path.append(w.numpy())
    return np.array(path), wrong / steps


def _dead_shares(seeds: int, epochs: int) -> dict[float, Interval]:
    """The share of hidden ReLUs whose output is 0 for every training example after training, by
    learning rate.
    """
    recipe = make_unscaled_recipe(optimizer=SGD(), epochs=epochs, seeds=seeds)
    recipes = [recipe.vary("optimizer.lr", lr) for lr in DYING_RATES]
    cohort, task = train_and_observe(recipes, synthetic.moons(400, 0))
    layers: list[Tensor] = []
    trained_outputs(cohort, network_inputs(task.train.numbers.numpy()), layers=layers)
    dead = (layers[2] <= 0).all(1).double().mean(1).reshape(len(DYING_RATES), seeds)
    return {lr: t_interval(shares) for lr, shares in zip(DYING_RATES, dead.tolist(), strict=True)}


def _deep_losses(seeds: int, epochs: int) -> dict[str, np.ndarray]:
    """The training loss of five hidden layers on the digits, [T, P] for each activation."""
    found = {}
    for name, f in COMPARED_ACTIVATIONS.items():
        start = Glorot(gain=math.sqrt(2) if name == "ReLU" else 1.0)
        network = Mlp(hidden=(64,) * 5, activation=f, initializer=start)
        optimizer = SGD(lr=0.1)
        recipe = make_recipe(
            "digits", network=network, optimizer=optimizer, epochs=epochs, seeds=seeds
        )
        run = train_all([recipe], workers=1)[0]
        found[name] = run.record.series["train/loss"].values
    return found


def _draw_functions() -> Figure:
    picture = figure(9.6, 3.2)
    left, right = picture.subplots(1, 2)
    z = np.linspace(-8, 8, 400)
    for i, (name, f) in enumerate(COMPARED_ACTIVATIONS.items()):
        left.plot(z, f(torch.tensor(z)[None])[0].numpy(), label=name, **line_style(i))
        right.plot(z, _slope(f, z), label=name, **line_style(i))
    for edge in (-5, 5):
        right.axvline(edge, color=GRAY_COLOR, linewidth=0.8)
    left.set(ylim=(-1.2, 3), xlabel="input", ylabel="output", title="Functions")
    right.set(xlabel="input", ylabel="slope", title="Slopes; gray: ±5")
    left.legend()
    return picture


def _draw_zigzags(
    paths: dict[str, np.ndarray], wrong: dict[str, Interval], one_sign: dict[str, Interval]
) -> Figure:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    for i, (name, path) in enumerate(paths.items()):
        label = f"inputs from {name}: {100 * wrong[name].value:.0f} % of steps"
        left.plot(*path.T, label=label, **line_style(i))
    left.plot([1], [-1], "k*", markersize=11)
    left.set(xlabel="weight 1", ylabel="weight 2", title="50 steps of SGD towards (1, −1)")
    left.legend(title="one weight moves the wrong way in", loc="upper right")
    draw_named_intervals(right, one_sign, scale=100)
    right.set(ylabel="units, %", ylim=(-5, 105))
    right.set_title("Gradients of one sign for all weights of a unit")
    return picture


def _draw_costs(dead: dict[float, Interval], losses: dict[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    draw_intervals(left, list(dead), dead.values(), scale=100)
    left.set(xscale="log", xlabel="learning rate", ylabel="dead units, %")
    left.set_title("2-64-1 of ReLUs on the moons, 95 % interval")
    for i, (name, values) in enumerate(losses.items()):
        right.plot(range(1, len(values) + 1), values.mean(1), label=name, **line_style(i))
    right.set(yscale="log", xlabel="epoch", ylabel="training loss")
    right.set_title("Five hidden layers of 64 on the digits")
    right.legend()
    return picture

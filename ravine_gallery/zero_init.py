"""Zero and constant starts: all hidden units of a layer stay equal.

Letters: P networks, H hidden units, K weights of a unit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.data import synthetic
from ravine.networks.activations import Tanh
from ravine.networks.initializers import Constant, He, Zero
from ravine.networks.layer_parts import Dropout
from ravine.networks.mlp import Mlp
from ravine.reporting.plot_style import figure
from ravine.statistics import Interval, t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_named_intervals, format_percent, label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import (
    draw_classes,
    draw_decision,
    make_unscaled_recipe,
    network_inputs,
    square_grid,
    train_and_observe,
    trained_outputs,
    trained_weights,
)

UNIT_COUNT = 16
MAP_REACH, MAP_CELLS = 2.5, 81
STARTED_NETWORKS = {
    "zero": Mlp(hidden=(UNIT_COUNT,), activation=Tanh(), initializer=Zero()),
    "constant 0.5": Mlp(hidden=(UNIT_COUNT,), activation=Tanh(), initializer=Constant(value=0.5)),
    "constant 0.5, dropout": Mlp(
        hidden=(UNIT_COUNT,),
        activation=Tanh(),
        initializer=Constant(value=0.5),
        dropout=Dropout(rate=0.2),
    ),
    "random (He)": Mlp(hidden=(UNIT_COUNT,), activation=Tanh(), initializer=He()),
}


@experiment(
    "zero-init",
    title="Zero and constant starts: one unit, many times",
    claim="If all weights start at 0 nothing is learned; if all start at a constant, all neurons "
    "of a layer stay equal: the number of distinct hidden units is 1 throughout training.",
    rows=("I1", "I3"),
    seconds=4,
)
def count_distinct_units(quick: bool) -> ExperimentOutcome:
    """Train a network on the moons from each start and count its distinct hidden units after each
    epoch.
    """
    seeds, epochs = (2, 10) if quick else (8, 40)
    data, (points, truth) = synthetic.moons(400, 0), synthetic.moons(4000, 1)
    counts, accuracy, moved, maps = {}, {}, {}, {}
    for name, network in STARTED_NETWORKS.items():
        recipe = make_unscaled_recipe(network=network, epochs=epochs, seeds=seeds)
        seen: list[list[int]] = []
        starts: list[Tensor] = []

        def observe(cohort: Any, task: Any, seen: Any = seen, starts: Any = starts) -> None:
            if not starts:
                starts.append(cohort.weights.clone())
            if cohort.step % cohort.job.plan.per_epoch == 0:
                views = cohort.network.layout.views(cohort.weights)
                seen.append([distinct_units(units) for units in _units(views)])

        cohort, _ = train_and_observe([recipe], data, observe=observe)
        counts[name] = np.array(seen)
        before, after = cohort.network.layout.views(starts[0]), trained_weights(cohort)
        changes = [after[n] - before[n] for n in ("hidden.0.weight", "output.weight")]
        moved[name] = max(float(change.abs().max()) for change in changes)
        predictions = (trained_outputs(cohort, network_inputs(points)) > 0)[..., 0].numpy()
        accuracy[name] = t_interval((predictions == truth.astype(bool)).mean(1))
        grid = network_inputs(square_grid(MAP_REACH, MAP_CELLS))
        maps[name] = trained_outputs(cohort, grid)[0, :, 0].detach().numpy()
    last = {name: found[-1] for name, found in counts.items()}
    distinct = {name: float(found.mean()) for name, found in last.items()}
    numbers = label_numbers("distinct units", distinct) | label_numbers("accuracy", accuracy)
    numbers |= label_numbers("largest change of a weight", moved)
    said = (
        f"The number of different ones among {UNIT_COUNT} hidden units is {last['zero'].max()} "
        f"after a zero start, {last['constant 0.5'].max()} after a constant (all are copies of "
        f"one) and {distinct['random (He)']:.3g} after a random start, in all {seeds} networks. "
        "From zero no weight moves at all, only the "
        "output's bias. Accuracy: "
        + "; ".join(f"{name} {format_percent(found)}" for name, found in accuracy.items())
        + f". Dropout breaks the symmetry: {distinct['constant 0.5, dropout']:.3g} distinct units."
    )
    figures = {
        "Different hidden units": _draw_counts(counts, accuracy),
        "What is learned": _draw_maps(maps, data),
    }
    equal = all((counts[name] == 1).all() for name in ("zero", "constant 0.5"))
    held = bool(equal and moved["zero"] == 0)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def distinct_units(weights: Tensor, *, tolerance: float = 1e-3) -> int:
    """The number of distinct units of a hidden layer. `weights` [H, K]: all weights into and out of
    each unit.

    Two units are equal if no weight differs by more than `tolerance`, relative to the largest:
    smaller differences are rounding of sums taken in another order.

    >>> distinct_units(torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]))
    2
    """
    limit = tolerance * float(weights.abs().max())
    found: list[Tensor] = []
    for unit in weights:
        if all(float((unit - other).abs().max()) > limit for other in found):
            found.append(unit)
    return len(found)


def _units(views: dict[str, Tensor]) -> Tensor:
    """Weights into, bias of and weights out of each hidden unit, [P, H, in + 1 + out]."""
    into, bias = views["hidden.0.weight"], views["hidden.0.bias"]
    return torch.cat([into.mT, bias.mT, views["output.weight"]], 2)


def _draw_counts(counts: dict[str, np.ndarray], accuracy: dict[str, Interval]) -> Figure:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    for i, (name, values) in enumerate(counts.items()):
        left.plot(values.mean(1), label=name, **line_style(i))
    left.set(xlabel="epoch", ylabel=f"distinct units of {UNIT_COUNT}", ylim=(0, UNIT_COUNT + 1))
    left.set_title("Mean over seeds")
    left.legend()
    draw_named_intervals(right, accuracy, scale=100, upright=False)
    right.set_xlabel("test accuracy, %")
    right.set_title("95 % interval over seeds (none where all are equal)")
    return picture


def _draw_maps(maps: dict[str, np.ndarray], data: tuple[np.ndarray, np.ndarray]) -> Figure:
    picture = figure(9.6, 2.9)
    for ax, (name, values) in zip(picture.subplots(1, 4, sharey=True), maps.items(), strict=True):
        draw_decision(ax, values, reach=MAP_REACH, boundary=0)
        draw_classes(ax, data, size=2)
        ax.set(title=name, xlim=(-1.8, 2.5), ylim=(-1.5, 2.0))
    return picture

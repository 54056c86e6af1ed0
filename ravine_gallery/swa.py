"""Averaged weights: SWA and EMA beside the raw weights of the same run, in test loss and flatness.

Letters: S seeds, D directions, W weights, N examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.data import Random
from ravine.networks.layer_parts import BatchNorm
from ravine.networks.mlp import Mlp
from ravine.optimizers import Ema, Swa
from ravine.protocols import Batch, ForwardContext
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.rng import stream
from ravine.schedules import Cosine
from ravine.statistics import t_interval
from ravine.training.defaults import prepare
from ravine.training.evaluation import mean_loss, outputs_on
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import (
    decide,
    draw_mean,
    draw_named_intervals,
    format_interval,
    label_numbers,
)
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe, model_of, program_of

RANDOM_DISTANCES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # from the weights; |w| is about 8


@experiment(
    "swa",
    title="Averaged weights: flatter, and better on the test set?",
    claim="The mean of the weights of late epochs lies in a flatter region than the last weights "
    "and has a lower test loss, once batch norm's statistics are computed for it.",
    rows=("E3",),
    seconds=12,
)
def compare_averaged_weights(quick: bool) -> ExperimentOutcome:
    """Train a network with batch norm on the digits at a constant rate, and evaluate its raw and
    averaged weights.
    """
    seeds, epochs, directions = (3, 6, 2) if quick else (12, 30, 8)
    raw = make_recipe(
        "digits",
        network=Mlp(hidden=(32,), norm=BatchNorm()),
        split=Random(validation=0.1, test=0.5),
        epochs=epochs,
        seeds=seeds,
    )
    recipes = {
        "raw": raw,
        "SWA": raw.vary("average", Swa(start_at=0.5)),
        "EMA": raw.vary("average", Ema(decay=0.99)),
        "cosine": raw.vary("schedule", Cosine()),
    }
    runs = dict(zip(recipes, train_all(list(recipes.values()), workers=1), strict=True))
    task, _ = prepare(raw)
    test_loss = {name: _losses(run, task.test) for name, run in runs.items()}  # [S] each
    rise = {name: _rises(run, task.train, directions) for name, run in runs.items()}
    far = {name: found[RANDOM_DISTANCES.index(2.0)] for name, found in rise.items()}
    others = ("SWA", "EMA", "cosine")
    lower = {name: t_interval(test_loss["raw"] - test_loss[name]) for name in others}
    flatter = {name: t_interval(far["raw"] - far[name]) for name in others}
    stale = _losses(runs["SWA"], task.test, buffers=model_of(runs["raw"]).buffers)
    recomputed = t_interval(stale - test_loss["SWA"])
    numbers = label_numbers("test loss", {name: v.mean() for name, v in test_loss.items()})
    numbers |= label_numbers("rise at distance 2", {name: v.mean() for name, v in far.items()})
    numbers |= label_numbers("test loss below raw", lower)
    numbers |= label_numbers("test loss below raw low", {k: v.low for k, v in lower.items()})
    numbers |= label_numbers("flatter than raw", flatter)
    numbers |= label_numbers("flatter than raw low", {k: v.low for k, v in flatter.items()})
    numbers |= {
        "saved by recomputed statistics": recomputed.value,
        "saved by recomputed statistics low": recomputed.low,
    }
    said = (
        f"In {seeds} runs at a constant rate the averaged weights have "
        f"{format_interval(lower['SWA'])} less test loss than the raw ones (EMA "
        f"{format_interval(lower['EMA'])}; a run with cosine decay "
        f"{format_interval(lower['cosine'])}). At a distance of 2 in a random direction the "
        f"training loss is {far['raw'].mean():.3g} higher than at the raw weights and "
        f"{far['SWA'].mean():.3g} higher than at SWA's: {format_interval(flatter['SWA'])} less. "
        f"Recomputing the statistics of batch norm saves {format_interval(recomputed)} against "
        "using those of the raw weights."
    )
    figures = {"Test loss and flatness": _draw_losses(test_loss, rise)}
    held = decide([lower["SWA"], flatter["SWA"]])
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _losses(run: Run, examples: Any, *, buffers: Any = None) -> np.ndarray:
    """The loss of a run's networks on examples, [S], with their own or other `buffers`."""
    model = model_of(run)
    assert model.recipe.loss is not None
    kept = model.buffers if buffers is None else buffers
    outputs = outputs_on(program_of(model), model.weights, kept, examples)
    return mean_loss(model.recipe.loss, outputs, examples).double().numpy()


def _rises(run: Run, examples: Any, directions: int) -> np.ndarray:
    """How much the training loss rises at each distance, the mean over random directions:
    [distances, S].

    Batch norm uses the statistics of the batch (here: of all examples), which belong to the weights
    at every place.
    """
    model, program = model_of(run), program_of(model_of(run))
    assert model.recipe.loss is not None
    units = torch.randn(directions, model.size, generator=stream(0, "directions"))
    units = units / units.norm(dim=1, keepdim=True)
    targets = examples.targets.expand(len(model.weights), -1)
    found = []
    for distance in RANDOM_DISTANCES:
        losses = []
        for unit in units if distance else units[:1]:
            buffers = {name: value.clone() for name, value in model.buffers.items()}
            context = ForwardContext(training=True, seeds=(), buffers=buffers)
            tensors = program.layout.views(model.weights + distance * unit)
            with torch.no_grad():
                outputs = program(tensors, Batch(examples.numbers[None]), context)
                each = model.recipe.loss.per_example(outputs, targets)
                losses.append(each.mean(1).double().numpy())
        found.append(np.mean(losses, 0))
    return np.array(found) - found[0]


def _draw_losses(test_loss: dict[str, np.ndarray], rise: dict[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 3.5)
    left, right = picture.subplots(1, 2)
    for i, values in enumerate(test_loss.values()):
        at = np.full(len(values), i + 0.18)
        left.plot(values, at, "|", color=SERIES_COLORS[i], markersize=7, alpha=0.7)
    labels = ("raw, constant rate", "SWA", "EMA", "cosine decay")
    found = dict(zip(labels, map(t_interval, test_loss.values()), strict=True))
    draw_named_intervals(left, found, upright=False)
    left.set(xlabel="test loss", title="Ticks: runs; dots: mean with 95 % interval")
    for i, (name, values) in enumerate(rise.items()):
        draw_mean(right, RANDOM_DISTANCES, values, label=name, **line_style(i))
    right.set_xlabel("distance from the weights, in a random direction")
    right.set(ylabel="rise of the training loss", title="Flatness: mean over directions")
    right.legend()
    return picture

"""Batch norm holds each layer's mean and SD in place during training; without it they drift.

Letters: T times, K layers, P networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.networks.layer_parts import BatchNorm
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.protocols import Batch, ForwardContext, Norm
from ravine.reporting.plot_style import figure
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_range, label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe, train_and_observe

DRIFTING_LAYERS = 6
LAYER_NORMS: dict[str, Norm | None] = {"plain (He's start)": None, "batch norm": BatchNorm()}


@experiment(
    "batch-norm-drift",
    title="Batch norm keeps layers where they are",
    claim="With batch norm the mean and the SD of each layer hardly move during training; they "
    "drift in a plain network that started well.",
    rows=("N1",),
    seconds=6,
)
def measure_drift(quick: bool) -> ExperimentOutcome:
    """Train six layers on the digits with and without batch norm and follow every layer's
    statistics.
    """
    seeds, epochs = (5, 4) if quick else (6, 25)
    means, sds, accuracy = {}, {}, {}
    for name, norm in LAYER_NORMS.items():
        network = Mlp(hidden=(64,) * DRIFTING_LAYERS, norm=norm)
        recipe = make_recipe(
            "digits", network=network, optimizer=SGD(lr=0.05), epochs=epochs, seeds=seeds
        )
        seen: list[np.ndarray] = []

        def observe(cohort: Any, task: Any, seen: Any = seen, normed: bool = bool(norm)) -> None:
            if cohort.ids and cohort.step % cohort.job.plan.per_epoch == 0:
                seen.append(_layer_statistics(cohort, task, normed=normed))

        cohort, _ = train_and_observe([recipe], observe=observe)
        means[name], sds[name] = np.stack(seen, 1)  # [T, P, K] each
        accuracy[name] = t_interval(cohort.log.series["validation/accuracy"][-1][1])
    drift = {k: t_interval(np.abs(np.log(v / v[0])).max(0).mean(1)) for k, v in sds.items()}
    shift = {k: t_interval((np.abs(v - v[0]) / sds[k][0]).max(0).mean(1)) for k, v in means.items()}
    plain, normed = LAYER_NORMS
    numbers = label_numbers("sd drift", drift) | label_numbers("mean drift", shift)
    numbers |= label_numbers("accuracy", accuracy)
    numbers["sd at start, batch norm"] = float(sds[normed][0].mean())
    numbers["mean at start, batch norm"] = float(np.abs(means[normed][0]).max())
    said = (
        f"In {epochs} epochs the SD of a layer's inputs changes by a factor of up to "
        f"{np.exp(drift[plain].value):.2f} without and {np.exp(drift[normed].value):.2f} with "
        f"batch norm (mean over layers and {seeds} seeds); their mean moves by up to "
        f"{shift[plain].value:.2f} and {shift[normed].value:.2f} initial SDs. With batch norm only "
        "its own γ and β can still move them. Validation accuracy: "
        f"{100 * accuracy[plain].value:.1f} and {100 * accuracy[normed].value:.1f} %."
    )
    steadier = [found[normed].high < found[plain].low for found in (drift, shift)]
    held = None if steadier[0] != steadier[1] else all(steadier)
    figures = {"Layers during training": _draw_statistics(means, sds)}
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _layer_statistics(cohort: Any, task: Any, *, normed: bool) -> np.ndarray:
    """Mean and SD of each layer's inputs to its ReLUs, over units and 256 training examples:
    [2, P, K].

    Batch norm is measured as in training: with the statistics of these examples, on copies of its
    buffers.
    """
    layers: list[Tensor] = []
    buffers = {name: value.clone() for name, value in cohort.buffers.items()}
    context = ForwardContext(
        training=True, seeds=cohort.seeds, layer_outputs=layers, buffers=buffers
    )
    views = cohort.network.layout.views(cohort.weights)
    with torch.no_grad():
        cohort.network(views, Batch(task.train.numbers[None, :256]), context)
    size = 3 if normed else 2  # layers of a block: linear, (norm,) activation
    inputs = [layers[1 + k * size + size - 2] for k in range(DRIFTING_LAYERS)]
    found = [[x.mean((1, 2)).tolist(), x.flatten(1).std(1).tolist()] for x in inputs]
    return np.array(found).transpose(1, 2, 0)


def _draw_statistics(means: dict[str, np.ndarray], sds: dict[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 5.6)
    axes = picture.subplots(2, 2, sharey="row", sharex=True)
    for row, (label, found) in zip(axes, {"mean": means, "SD": sds}.items(), strict=True):
        for ax, (name, values) in zip(row, found.items(), strict=True):
            for i, layer in enumerate((0, DRIFTING_LAYERS // 2, DRIFTING_LAYERS - 1)):
                shown, style = values[:, :, layer], line_style(i)
                draw_range(ax, np.arange(len(shown)), shown, label=f"layer {layer + 1}", **style)
            ax.set_title(f"{label}: {name}")
        row[0].set_ylabel(f"{label} of inputs to ReLU")
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    axes[0, 0].legend()
    picture.suptitle("Inputs to three of six layers of ReLUs; line: mean, band: range of seeds")
    return picture

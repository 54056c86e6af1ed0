"""Batch norm holds each layer's mean and SD in place while training; without it they drift (N1).

Letters: T times, K layers, P networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ravine.catalog import named_recipe
from ravine.networks.layer_parts import BatchNorm
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.protocols import Batch, ForwardContext, Norm
from ravine.reporting.plot_style import COLORS, band, figure, line_style
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import interval, watched

LAYERS = 6
NORMS: dict[str, Norm | None] = {"plain (He's start)": None, "batch norm": BatchNorm()}


def statistics(cohort: Any, task: Any, *, normed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and SD of each layer's inputs to its ReLUs, over units and 256 training examples, [P, K]
    each.

    Batch norm is looked at as it is in training: with the statistics of these examples, on copies
    of its buffers.
    """
    tapped: list[torch.Tensor] = []
    buffers = {name: value.clone() for name, value in cohort.buffers.items()}
    context = ForwardContext(
        training=True, seeds=cohort.seeds, layer_outputs=tapped, buffers=buffers
    )
    with torch.no_grad():
        cohort.network(
            cohort.network.layout.views(cohort.weights),
            Batch(task.train.numbers[None, :256]),
            context,
        )
    each = 3 if normed else 2  # layers of a block: linear, (norm,) activation
    before = [tapped[1 + k * each + each - 2] for k in range(LAYERS)]
    return (
        np.array([x.mean((1, 2)).tolist() for x in before]).T,
        np.array([x.flatten(1).std(1).tolist() for x in before]).T,
    )


def run(quick: bool) -> Outcome:
    """Train six layers on the digits with and without batch norm and follow every layer's
    statistics.
    """
    seeds, epochs = (3, 4) if quick else (6, 25)
    means, sds, accuracy = {}, {}, {}
    for name, norm in NORMS.items():
        network = Mlp(hidden=(64,) * LAYERS, norm=norm)
        recipe = (
            named_recipe("plain")
            .vary("data.source", "digits")
            .vary("network", network)
            .vary("optimizer", SGD(lr=0.05))
        )
        recipe = recipe.vary("epochs", epochs).vary("seeds", seeds)
        seen: list[tuple[np.ndarray, np.ndarray]] = []

        def look(cohort: Any, task: Any, seen: Any = seen, normed: bool = norm is not None) -> None:
            if cohort.ids and cohort.step % cohort.job.plan.per_epoch == 0:
                seen.append(statistics(cohort, task, normed=normed))

        cohort, _ = watched([recipe], look)
        means[name] = np.array([m for m, _ in seen])  # [T, P, K]
        sds[name] = np.array([s for _, s in seen])
        accuracy[name] = interval(cohort.log.series["validation/accuracy"][-1][1])
    drift = {name: interval(np.abs(np.log(v / v[0])).max(0).mean(1)) for name, v in sds.items()}
    wander = {
        name: interval((np.abs(v - v[0]) / sds[name][0]).max(0).mean(1))
        for name, v in means.items()
    }
    plain, normed = NORMS
    numbers = {f"sd drift, {name}": value.mean for name, value in drift.items()}
    numbers |= {f"mean drift, {name}": value.mean for name, value in wander.items()}
    numbers |= {f"accuracy, {name}": value.mean for name, value in accuracy.items()}
    numbers["sd at start, batch norm"] = float(sds[normed][0].mean())
    numbers["mean at start, batch norm"] = float(np.abs(means[normed][0]).max())
    calmer = [drift[normed].high < drift[plain].low, wander[normed].high < wander[plain].low]
    said = (
        f"In {epochs} epochs the SD of a layer's inputs changes by a factor of up to "
        f"{np.exp(drift[plain].mean):.2f} "
        f"without and {np.exp(drift[normed].mean):.2f} with batch norm (mean over layers and "
        f"{seeds} seeds), their "
        f"mean moves by up to {wander[plain].mean:.2f} and {wander[normed].mean:.2f} starting SDs. "
        f"What batch norm "
        f"leaves to move is its own γ and β. Validation accuracy: {100 * accuracy[plain].mean:.1f} "
        f"and "
        f"{100 * accuracy[normed].mean:.1f} %."
    )
    return Outcome(
        held=None if calmer[0] != calmer[1] else all(calmer),
        said=said,
        numbers=numbers,
        figures={"Layers during training": _picture(means, sds)},
    )


def _picture(means: dict[str, np.ndarray], sds: dict[str, np.ndarray]) -> Any:
    picture = figure(9.6, 5.6)
    axes = picture.subplots(2, 2, sharey="row", sharex=True)
    for row, (values, label) in zip(axes, ((means, "mean"), (sds, "SD")), strict=True):
        for ax, (name, v) in zip(row, values.items(), strict=True):
            for i, layer in enumerate((0, LAYERS // 2, LAYERS - 1)):
                shown = v[:, :, layer]
                ax.plot(shown.mean(1), label=f"layer {layer + 1}", **line_style(i))
                band(ax, np.arange(len(shown)), shown.min(1), shown.max(1), color=COLORS[i])
            ax.set_title(f"{label}: {name}")
        row[0].set_ylabel(f"{label} of inputs to ReLU")
    for ax in axes[1]:
        ax.set_xlabel("epoch")
    axes[0, 0].legend()
    picture.suptitle("Inputs to three of six layers of ReLUs; line: mean, band: range of seeds")
    return picture


EXPERIMENT = Experiment(
    name="batch-norm-drift",
    title="Batch norm keeps layers where they are",
    rows=("N1",),
    claim="With batch norm the mean and the SD of each layer stay put during training, where they "
    "drift in a plain "
    "network that started well.",
    seconds=6,
    run=run,
)

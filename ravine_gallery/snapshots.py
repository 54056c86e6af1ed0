"""Warm restarts and snapshots: does a restart leave the basin, and do snapshots beat one decay?

Letters: S seeds, M cycles, N examples, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine import metrics
from ravine.data import Random
from ravine.networks.mlp import Mlp
from ravine.optimizers.averaging import Snapshots
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, band, figure
from ravine.schedules import SGDR, Cosine
from ravine.statistics import t_interval
from ravine.training.defaults import prepare
from ravine.training.evaluation import mean_loss, outputs_on
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import decide, draw_mean, format_interval
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe, model_of, program_of, vary_all

CYCLE_COUNT = 5
LINE_PLACES = np.linspace(0, 1, 11)  # on the straight line between two snapshots


@experiment(
    "snapshots",
    title="Warm restarts, and an ensemble from one run",
    claim="Restarts leave the minimum that was found; the snapshots before them are M models for "
    "the budget of one, and their mean beats one long decay.",
    rows=("S4", "E2"),
    seconds=15,
)
def compare_snapshots(quick: bool) -> ExperimentOutcome:
    """Train networks on the digits with restarts and without, for one budget; average the snapshots
    of each.
    """
    seeds, epochs = (5, 4) if quick else (16, 8)
    base = make_recipe(
        "digits",
        split=Random(validation=0.2, test=0.5),
        network=Mlp(hidden=(32,)),
        epochs=CYCLE_COUNT * epochs,
    )
    restarts = SGDR(epochs=float(epochs), times=1.0)
    cyclic = vary_all(base, {"schedule": restarts, "snapshots": Snapshots()})
    cosine = base.vary("schedule", Cosine())
    short = vary_all(cosine, {"epochs": epochs, "seeds": CYCLE_COUNT})
    recipes = [
        r.vary("seed", CYCLE_COUNT * s) for r in (cyclic, cosine, short) for s in range(seeds)
    ]
    runs = train_all(recipes, workers=1)
    groups = runs[:seeds], runs[seeds : 2 * seeds], runs[2 * seeds :]
    task, _ = prepare(base)
    test = task.test
    assert test is not None and test.targets is not None
    snapshots, single, independent = (
        torch.stack([model_of(run).member_predictions(test) for run in group]) for group in groups
    )  # [S, M, N, C], one network each of the second
    truth, sizes = test.targets, range(1, CYCLE_COUNT + 1)
    last_k = np.stack([log_losses(snapshots[:, -k:].mean(1), truth) for k in sizes])  # [M, S]
    others = np.stack([log_losses(independent[:, :k].mean(1), truth) for k in sizes])
    alone = log_losses(single[:, 0], truth)
    barriers = np.stack([_barriers(run, task.train) for run in groups[0]])  # [S, M - 1, places]
    better, than_last = t_interval(alone - last_k[-1]), t_interval(last_k[0] - last_k[-1])
    to_short, barrier = t_interval(last_k[-1] - others[-1]), t_interval(barriers.max(2).mean(1))
    one_error, mean_error, last_error = (
        float((p.argmax(-1) != truth).double().mean())
        for p in (single[:, 0], snapshots.mean(1), snapshots[:, -1])
    )
    numbers = {
        "loss, one decay": float(alone.mean()),
        "loss, snapshots": float(last_k[-1].mean()),
        "loss, last snapshot": float(last_k[0].mean()),
        "loss, short members": float(others[-1].mean()),
        "snapshots below one decay": better.value,
        "snapshots below one decay low": better.low,
        "snapshots below one decay high": better.high,
        "snapshots below their last": than_last.value,
        "snapshots below their last low": than_last.low,
        "snapshots above short members": to_short.value,
        "barrier": barrier.value,
        "barrier low": barrier.low,
        "error, one decay": one_error,
        "error, snapshots": mean_error,
        "error, last snapshot": last_error,
    }
    left_behind = barrier.value > 0 and barrier.low > 0
    rises = f"rises to {format_interval(barrier)} above its ends"
    if not left_behind:
        rises = "does not rise above its ends: here restarts do not leave the basin"
    said = (
        f"The mean of {CYCLE_COUNT} snapshots of one run has {format_interval(than_last)} less "
        f"test loss than its last snapshot, and {format_interval(better)} less than one decay of "
        f"the same budget; the errors are {100 * mean_error:.2f} % and {100 * one_error:.2f} % "
        f"(means of {seeds} runs). On the line between consecutive snapshots the training loss "
        f"{rises}. {CYCLE_COUNT} independent short runs of the same budget have "
        f"{format_interval(to_short)} less loss than the snapshots."
    )
    gained = decide([better, than_last])
    held = gained if gained == left_behind else None
    figures = {"Restarts and snapshots": _draw_runs(groups[0], alone, last_k, others, barriers)}
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def log_losses(predictions: Tensor, truth: Tensor) -> np.ndarray:
    """The log loss of predictions [S, N, C], [S]."""
    return metrics.LOG_LOSS.of(predictions, truth).numpy()


def _barriers(run: Run, examples: Any) -> np.ndarray:
    """The training loss on the straight lines between consecutive snapshots, above the line between
    its ends: [M - 1, places].
    """
    model, place = model_of(run), torch.tensor(LINE_PLACES, dtype=torch.float32)[:, None, None]
    assert model.recipe.loss is not None
    rows = (1 - place) * model.weights[None, :-1] + place * model.weights[None, 1:]
    outputs = outputs_on(program_of(model), rows.flatten(0, 1), {}, examples)
    loss = mean_loss(model.recipe.loss, outputs, examples)
    loss = loss.double().view(len(LINE_PLACES), -1).T.numpy()
    return loss - ((1 - LINE_PLACES) * loss[:, :1] + LINE_PLACES * loss[:, -1:])


def _draw_runs(
    cyclic: list[Run],
    alone: np.ndarray,
    last_k: np.ndarray,
    others: np.ndarray,
    barriers: np.ndarray,
) -> Figure:
    picture = figure(11, 3.6)
    left, middle, right = picture.subplots(1, 3)
    series = [run.record.series["validation/loss"] for run in cyclic]
    steps, loss = series[0].steps, np.stack([each.values[:, 0] for each in series])
    left.plot(steps, loss.mean(0), label="validation loss", **line_style(0))
    band(left, steps, np.quantile(loss, 0.1, 0), np.quantile(loss, 0.9, 0), color=SERIES_COLORS[0])
    k = np.arange(1, CYCLE_COUNT + 1)
    for end in steps[-1] * k / CYCLE_COUNT:
        left.axvline(end, color=GRAY_COLOR, linewidth=0.8, linestyle=":")
    left.set(yscale="log", xlabel="step", ylabel="validation loss")
    left.set_title("Mean and 10–90 % of runs; dotted: restarts")
    draw_mean(middle, k, last_k, marker="o", label="last k snapshots", **line_style(0))
    draw_mean(middle, k, others, marker="o", label="k short runs", **line_style(1))
    one = t_interval(alone)
    middle.axhline(
        one.value, color=SERIES_COLORS[2], linestyle="-.", label="one decay, same budget"
    )
    middle.axhspan(one.low, one.high, color=SERIES_COLORS[2], alpha=0.12, linewidth=0)
    middle.set_xticks(k)
    floor, top = float(others.mean(1).min()), float(max(one.high, t_interval(last_k[0]).high))
    middle.set_ylim(floor - 0.6 * (top - floor), None)  # room for the legend
    middle.set(xlabel="averaged networks k", ylabel="test loss")
    middle.set_title("Bands: 95 % intervals over runs")
    middle.legend(loc="lower left")
    for m, heights in enumerate(barriers.mean(0)):
        right.plot(LINE_PLACES, heights, label=f"{m + 1} to {m + 2}", **line_style(m))
    right.set(xlabel="place between two snapshots", ylabel="training loss above its ends")
    right.set_title("Barriers between snapshots, mean")
    right.legend()
    return picture

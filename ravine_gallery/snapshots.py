"""Warm restarts and snapshots (S4, E2): does a restart leave the basin, and do snapshots beat one
long decay?

Letters: S seeds, M cycles, N examples, C classes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine import metrics
from ravine.catalog import named_recipe
from ravine.data import Random
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers.averaging import Snapshots
from ravine.part import stack
from ravine.reporting.plot_style import COLORS, GRAY, band, figure, line_style
from ravine.schedules import SGDR, Cosine
from ravine.statistics import t_interval
from ravine.training.defaults import prepare
from ravine.training.evaluation import mean_loss, outputs_on
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome

CYCLES = 5
BETWEEN = tuple(np.linspace(0, 1, 11).tolist())  # places on the straight line between two snapshots


def run(quick: bool) -> Outcome:
    """Train networks on the digits with restarts and without, for one budget; average the snapshots
    of each.
    """
    seeds, epochs = (3, 2) if quick else (16, 8)
    base = (
        named_recipe("plain")
        .vary("data.source", "digits")
        .vary("split", Random(validation=0.2, test=0.5))
    )
    base = (
        base.vary("network.hidden", (32,)).vary("optimizer.lr", 0.1).vary("epochs", CYCLES * epochs)
    )
    cyclic = dataclasses.replace(
        base, schedule=SGDR(epochs=float(epochs), times=1.0), snapshots=Snapshots()
    )
    cosine = base.vary("schedule", Cosine())
    short = cosine.vary("epochs", epochs).vary("seeds", CYCLES)
    recipes = [r.vary("seed", CYCLES * s) for r in (cyclic, cosine, short) for s in range(seeds)]
    runs = train_all(recipes, workers=1)
    groups = runs[:seeds], runs[seeds : 2 * seeds], runs[2 * seeds :]
    task, _ = prepare(base)
    test = task.test
    assert test is not None and test.targets is not None
    each, single, independent = (
        torch.stack([r.model.member_predictions(test) for r in group if r.model is not None])
        for group in groups
    )
    truth = test.targets
    by_cycle = np.stack([_loss(each[:, m], truth) for m in range(CYCLES)])  # [M, S]
    last_k = np.stack([_loss(each[:, CYCLES - k :].mean(1), truth) for k in range(1, CYCLES + 1)])
    others = np.stack([_loss(independent[:, :k].mean(1), truth) for k in range(1, CYCLES + 1)])
    alone = _loss(single[:, 0], truth)
    barriers = np.stack([_barrier(r, task.train) for r in groups[0]])  # [S, M - 1, places]
    height = barriers.max(2).mean(1)  # a run's mean barrier
    better, than_last = t_interval(alone - last_k[-1]), t_interval(last_k[0] - last_k[-1])
    to_short = t_interval(last_k[-1] - others[-1])
    escaped = t_interval(height)
    error = [
        float((p.argmax(-1) != truth).double().mean())
        for p in (single[:, 0], each.mean(1), each[:, -1])
    ]
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
        "barrier": escaped.value,
        "barrier low": escaped.low,
        "error, one decay": error[0],
        "error, snapshots": error[1],
        "error, last snapshot": error[2],
    }
    left_behind = escaped.value > 0 and escaped.low > 0
    said = (
        f"{CYCLES} snapshots of one run have {_said(than_last)} less test loss than its last one, "
        f"and {_said(better)} "
        f"less than one decay of the same budget; errors are {100 * error[1]:.2f} % and "
        f"{100 * error[0]:.2f} % (means "
        f"of {seeds} runs). On the line between consecutive snapshots the training loss "
        + (
            f"rises to {_said(escaped)} above its ends"
            if left_behind
            else "does not rise above its ends: here restarts do not leave the basin, and the "
            "snapshots are alike"
        )
        + (
            f". {CYCLES} independent short runs of the same budget have {_said(to_short)} less "
            f"loss "
            f"than the snapshots."
        )
    )
    claims = (better.low > 0, than_last.low > 0, left_behind)
    refuted = better.high < 0 and than_last.high < 0 and not left_behind
    held = True if all(claims) else False if refuted else None
    figures = {
        "Restarts and snapshots": _picture(groups[0], by_cycle, alone, last_k, others, barriers)
    }
    return Outcome(held=held, said=said, numbers=numbers, figures=figures)


def _loss(predictions: Tensor, truth: Tensor) -> np.ndarray:
    """The log loss of predictions [S, N, C], [S]."""
    return metrics.LOG_LOSS.of(predictions, truth).numpy()


def _barrier(run: Run, examples: Any) -> np.ndarray:
    """The training loss on the straight lines between consecutive snapshots, above the line between
    its ends.
    """
    model = run.model
    assert model is not None and model.recipe.loss is not None
    program = BatchedNetwork(stack([model.recipe]).network, model.signature)
    place = torch.tensor(BETWEEN)[:, None, None]
    rows = (1 - place) * model.weights[None, :-1] + place * model.weights[None, 1:]
    loss = mean_loss(
        model.recipe.loss, outputs_on(program, rows.flatten(0, 1), {}, examples), examples
    )
    loss = loss.double().view(len(BETWEEN), -1).T.numpy()  # [M - 1, places]
    share = np.array(BETWEEN)
    return loss - ((1 - share) * loss[:, :1] + share * loss[:, -1:])


def _said(found: Any) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


def _picture(
    cyclic: list[Run], by_cycle: Any, alone: Any, last_k: Any, others: Any, barriers: Any
) -> Any:
    picture = figure(11, 3.6)
    left, middle, right = picture.subplots(1, 3)
    series = cyclic[0].record.series
    loss = np.stack([r.record.series["validation/loss"].values[:, 0] for r in cyclic])
    steps = series["validation/loss"].steps
    left.plot(steps, loss.mean(0), label="validation loss", **line_style(0))
    band(left, steps, np.quantile(loss, 0.1, 0), np.quantile(loss, 0.9, 0), color=COLORS[0])
    ends = steps[-1] * np.arange(1, CYCLES + 1) / CYCLES
    for end in ends:
        left.axvline(end, color=GRAY, linewidth=0.8, linestyle=":")
    left.set(
        yscale="log",
        xlabel="step",
        ylabel="validation loss",
        title="Mean and 10–90 % of runs; dotted: restarts",
    )
    k = np.arange(1, CYCLES + 1)
    for i, (name, values) in enumerate((("last k snapshots", last_k), ("k short runs", others))):
        spread = [t_interval(v) for v in values]
        middle.plot(k, values.mean(1), marker="o", label=name, **line_style(i))
        band(middle, k, [s.low for s in spread], [s.high for s in spread], color=COLORS[i])
    one = t_interval(alone)
    middle.axhline(one.value, color=COLORS[2], linestyle="-.", label="one decay, same budget")
    middle.axhspan(one.low, one.high, color=COLORS[2], alpha=0.12, linewidth=0)
    middle.set_xticks(k)
    floor, top = float(others.mean(1).min()), float(max(one.high, t_interval(last_k[0]).high))
    middle.set_ylim(floor - 0.6 * (top - floor), None)  # room for the legend
    middle.set(
        xlabel="averaged networks k", ylabel="test loss", title="Bands: 95 % intervals over runs"
    )
    middle.legend(loc="lower left")
    for m in range(CYCLES - 1):
        right.plot(BETWEEN, barriers[:, m].mean(0), label=f"{m + 1} to {m + 2}", **line_style(m))
    right.set(
        xlabel="place between two snapshots",
        ylabel="training loss above its ends",
        title="Barriers between snapshots, mean",
    )
    right.legend()
    return picture


EXPERIMENT = Experiment(
    name="snapshots",
    title="Warm restarts, and an ensemble from one run",
    rows=("S4", "E2"),
    claim="Restarts leave the minimum that was found; the snapshots before them are M models for "
    "the budget of one, "
    "and their mean beats one long decay.",
    seconds=15,
    run=run,
)

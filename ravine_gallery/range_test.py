"""The learning-rate range test (S7): what it finds on the digits, and on a linear model whose limit
is known.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ravine.catalog import named_recipe
from ravine.optimizers import SGD
from ravine.reporting.plot_style import COLORS, GRAY, band, figure, intervals, line_style
from ravine.statistics import t_interval
from ravine.studies.lr_range_test import RangeTest, range_test
from ravine.training.defaults import prepare
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome

TIMES = (1 / 30, 1 / 10, 1 / 3, 1.0, 3.0, 10.0)


def run(quick: bool) -> Outcome:
    """Find the rates of a network on the digits and train at them; find the limit 2/λ of a linear
    model.
    """
    rates, steps, seeds, epochs = (15, 60, 2, 2) if quick else (36, 200, 4, 10)
    digits = named_recipe("plain").vary("data.source", "digits")
    found = range_test(digits, rates=rates, steps=steps, seeds=seeds)
    recipes = [
        digits.vary("optimizer.lr", found.rate * t).vary("epochs", epochs).vary("seeds", 2 * seeds)
        for t in TIMES
    ]
    losses = []
    for trained in train_all(recipes, workers=1):
        kept = [
            m.validation["loss"] if m.outcome != "diverged" else math.nan
            for m in trained.record.members
        ]
        losses.append(np.array(kept))
    place = TIMES.index(1.0)
    means = np.array([np.where(np.isnan(x).any(), math.inf, x.mean()) for x in losses])
    linear = (
        named_recipe("plain")
        .vary("data.source", "diabetes")
        .vary("network.hidden", ())
        .vary("optimizer", SGD(lr=0.1))
    )
    linear = linear.vary("batch", "all")
    limit = _limit(linear)
    exact = range_test(linear, low=1e-3, rates=rates, steps=steps, seeds=seeds)
    within = exact.largest.value <= limit < exact.largest.value * exact.spacing * 1.001
    near = (
        means[place] <= 1.1 * means.min()
    )  # as good as the best of the six, but for a tenth of the loss
    numbers = {
        "rate": found.rate,
        "largest": found.largest.value,
        "largest low": found.largest.low,
        "largest high": found.largest.high,
        "too low": found.too_low,
        "too high": found.too_high,
        "validation loss at the rate": float(means[place]),
        "at a tenth": float(means[1]),
        "at ten times": float(means[-1]),
        "limit of the linear model": limit,
        "found": exact.largest.value,
    }
    at, tenth = t_interval(losses[place]), t_interval(losses[1])
    tenfold = "diverges" if math.isinf(means[-1]) else f"{means[-1]:.2g}"
    said = (
        f"On the digits usable rates end at {found.largest.value:.2g} [{found.largest.low:.2g}, "
        f"{found.largest.high:.2g}]; below {found.too_low:.1g} the loss does not go down, from "
        f"{found.too_high:.2g} it "
        f"explodes. Trained for {epochs} epochs at the rate found, {found.rate:.2g}, the "
        f"validation loss is "
        f"{at.value:.3g} [{at.low:.3g}, {at.high:.3g}]; a tenth of it gives {tenth.value:.3g} "
        f"[{tenth.low:.3g}, {tenth.high:.3g}], ten times {tenfold}. The linear model's limit 2/λ = "
        f"{limit:.3g} is "
        f"{'found' if within else 'missed'}: {exact.largest.value:.3g} is usable, the next rate "
        f"tried, "
        f"{exact.largest.value * exact.spacing:.3g}, not."
    )
    right = bool(near and means[-1] > means[place])
    held = (
        True
        if within and right and not math.isnan(found.too_low)
        else None
        if within or right
        else False
    )
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={"Range test": _picture(found, exact, limit, losses)},
    )


def _limit(recipe: Any) -> float:
    """2 / λ, the largest stable rate of gradient descent on ½ (y − f)² of a linear model; λ the
    largest curvature.
    """
    task, _ = prepare(recipe)
    train = task.train_examples
    x = torch.cat([train.numbers, torch.ones(train.count, 1)], 1).double()
    return 2 / float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1])


def _picture(found: RangeTest, exact: RangeTest, limit: float, losses: list[np.ndarray]) -> Any:
    picture = figure(11, 3.6)
    left, middle, right = picture.subplots(1, 3)
    for ax, test, title in (
        (left, found, "Digits, 64 units"),
        (middle, exact, "Linear model, all examples a step"),
    ):
        shown = np.where(np.isfinite(test.losses), test.losses, 1e9).clip(max=1e9)
        ax.plot(test.rates, shown.mean(1), **line_style(0))
        band(ax, test.rates, shown.min(1), shown.max(1), color=COLORS[0])
        ax.axhline(test.starts.mean(), color=GRAY, linewidth=1, linestyle=":")
        ax.axvspan(test.lowest.value, test.largest.value, color=COLORS[2], alpha=0.12, linewidth=0)
        ax.set(
            xscale="log",
            xlabel="learning rate",
            ylabel=f"training loss after {test.steps} steps",
            title=title,
            ylim=(0, 2 * test.starts.mean()),
        )
    left.axvline(found.rate, color=COLORS[4], linewidth=1)
    middle.axvline(limit, color=COLORS[1], linewidth=1.4, linestyle="--")
    middle.annotate(
        "2 / λ",
        (limit, 0.92),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 0),
        ha="right",
        textcoords="offset points",
        color=COLORS[1],
    )
    known = [
        i for i, x in enumerate(losses) if np.isfinite(x).all() and x.mean() < found.starts.mean()
    ]
    spread = [t_interval(losses[i]) for i in known]
    intervals(
        right,
        [found.rate * TIMES[i] for i in known],
        [s.value for s in spread],
        [s.low for s in spread],
        [s.high for s in spread],
    )
    for i in range(len(losses)):
        if i not in known:
            right.plot(
                found.rate * TIMES[i],
                0.97,
                "x",
                color=COLORS[1],
                transform=right.get_xaxis_transform(),
            )
    right.axvline(found.rate, color=COLORS[4], linewidth=1)
    right.set(
        xscale="log",
        xlabel="learning rate",
        ylabel="validation loss",
        yscale="log",
        title="Trained at it: 95 % intervals; × exploded",
    )
    return picture


EXPERIMENT = Experiment(
    name="range-test",
    title="The learning-rate range test",
    rows=("S7",),
    claim="Loss not going down: the learning rate is too low. Loss exploding: too high. A short "
    "test finds the usable "
    "rates, and the network trains well there.",
    seconds=12,
    run=run,
)

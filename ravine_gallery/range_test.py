"""The learning-rate range test: on the digits, and on a linear model whose limit is known.

Letters: R rates, S seeds.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.recipe import Recipe
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import t_interval
from ravine.studies import lr_range_test
from ravine.training.defaults import prepare
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_intervals, draw_range, format_interval
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe

RATE_MULTIPLES = (1 / 30, 1 / 10, 1 / 3, 1.0, 3.0, 10.0)  # of the rate that the test finds


@experiment(
    "range-test",
    title="The learning-rate range test",
    claim="Loss not going down: the learning rate is too low. Loss exploding: too high. A short "
    "test finds the usable rates, and the network trains well there.",
    rows=("S7",),
    seconds=12,
)
def verify_range_test(quick: bool) -> ExperimentOutcome:
    """Find the rates of a network on the digits and train at them; find the limit 2/λ of a linear
    model.
    """
    rates, steps, seeds, epochs = (15, 60, 2, 5) if quick else (36, 200, 4, 10)
    digits = make_recipe("digits")
    found = lr_range_test.range_test(digits, rates=rates, steps=steps, seeds=seeds)
    longer = digits.vary("epochs", epochs).vary("seeds", 2 * seeds)
    recipes = [longer.vary("optimizer.lr", found.rate * times) for times in RATE_MULTIPLES]
    losses = [
        np.array([m.validation["loss"] if m.outcome != "diverged" else math.nan for m in members])
        for members in (run.record.members for run in train_all(recipes, workers=1))
    ]
    means = [math.inf if np.isnan(x).any() else float(x.mean()) for x in losses]
    linear = make_recipe("diabetes", network=Mlp(hidden=()), optimizer=SGD(lr=0.1), batch="all")
    limit = _stability_limit(linear)
    exact = lr_range_test.range_test(linear, low=1e-3, rates=rates, steps=steps, seeds=seeds)
    next_rate = exact.largest.value * exact.spacing
    _, tenth, _, at_rate, _, tenfold = means
    numbers = {
        "rate": found.rate,
        "largest": found.largest.value,
        "largest low": found.largest.low,
        "largest high": found.largest.high,
        "too low": found.too_low,
        "too high": found.too_high,
        "validation loss at the rate": at_rate,
        "at a tenth": tenth,
        "at ten times": tenfold,
        "limit of the linear model": limit,
        "found": exact.largest.value,
    }
    within = exact.largest.value <= limit < next_rate * 1.001
    said = (
        f"On the digits usable rates end at {format_interval(found.largest, '.2g')}; below "
        f"{found.too_low:.1g} the loss does not go down, from {found.too_high:.2g} it explodes. "
        f"After {epochs} epochs at the rate found, {found.rate:.2g}, the validation loss is "
        f"{format_interval(t_interval(losses[3]))}; a tenth of the rate gives "
        f"{format_interval(t_interval(losses[1]))}, ten times the rate "
        f"{'diverges' if math.isinf(tenfold) else f'{tenfold:.2g}'}. The linear model's limit 2/λ "
        f"= {limit:.3g} is {'found' if within else 'missed'}: {exact.largest.value:.3g} is usable, "
        f"the next rate tried, {next_rate:.3g}, is not."
    )
    # as good as the best of the six, but for a tenth of the loss
    right = at_rate <= 1.1 * min(means) and tenfold > at_rate
    complete = within and right and not math.isnan(found.too_low)
    held = True if complete else None if within or right else False
    figures = {"Range test": _draw_tests(found, exact, limit, losses)}
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _stability_limit(recipe: Recipe) -> float:
    """2 / λ, the largest stable rate of gradient descent on ½ (y − f)² of a linear model; λ is the
    largest curvature.
    """
    task, _ = prepare(recipe)
    train = task.train_examples
    x = torch.cat([train.numbers, torch.ones(train.count, 1)], 1).double()
    return 2 / float(torch.linalg.eigvalsh(x.T @ x / len(x))[-1])


def _draw_tests(
    found: lr_range_test.RangeTest,
    exact: lr_range_test.RangeTest,
    limit: float,
    losses: list[np.ndarray],
) -> Figure:
    picture = figure(11, 3.6)
    left, middle, right = picture.subplots(1, 3)
    for ax, test in ((left, found), (middle, exact)):
        shown = np.where(np.isfinite(test.losses), test.losses, 1e9).clip(max=1e9)
        draw_range(ax, test.rates, shown, **line_style(0))
        start = test.starts.mean()
        ax.axhline(start, color=GRAY_COLOR, linewidth=1, linestyle=":")
        ax.axvspan(
            test.lowest.value, test.largest.value, color=SERIES_COLORS[2], alpha=0.12, linewidth=0
        )
        ax.set(xscale="log", xlabel="learning rate", ylim=(0, 2 * start))
        ax.set_ylabel(f"training loss after {test.steps} steps")
    left.set_title("Digits, 64 units")
    middle.set_title("Linear model, all examples a step")
    left.axvline(found.rate, color=SERIES_COLORS[4], linewidth=1)
    middle.axvline(limit, color=SERIES_COLORS[1], linewidth=1.4, linestyle="--")
    style: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    middle.annotate(
        "2 / λ", (limit, 0.92), xytext=(-4, 0), ha="right", color=SERIES_COLORS[1], **style
    )
    trained = [found.rate * times for times in RATE_MULTIPLES]
    start = found.starts.mean()
    usable = [bool(np.isfinite(x).all() and x.mean() < start) for x in losses]
    shown = [(rate, x) for rate, x, good in zip(trained, losses, usable, strict=True) if good]
    draw_intervals(right, [rate for rate, _ in shown], [t_interval(x) for _, x in shown])
    for rate, good in zip(trained, usable, strict=True):
        if not good:
            right.plot(
                rate, 0.97, "x", color=SERIES_COLORS[1], transform=right.get_xaxis_transform()
            )
    right.axvline(found.rate, color=SERIES_COLORS[4], linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="validation loss")
    right.set_title("Trained at it: 95 % intervals; × exploded")
    return picture

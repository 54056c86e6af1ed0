"""The learning-rate range test (S7): a whole cohort at once, each network with a constant learning
rate of its own.

The classic test (Smith 2015) raises the rate within one run, so each rate is judged on what the
lower ones have done. Here all rates start from the same weights and see the same batches, several
seeds each: an hour's work for one network, seconds for a cohort. Letters: R rates, S seeds, T times
at which the loss is known.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ravine.data import RowGroups
from ravine.errors import RecipeError
from ravine.recipe import Recipe
from ravine.reporting.plot_style import COLORS, GRAY, band, figure
from ravine.schedules import Constant
from ravine.statistics import Interval, bootstrap_interval
from ravine.training.defaults import batch_size, prepare
from ravine.training.evaluation import starting_losses
from ravine.training.train import train_on

LOW, HIGH, RATES, SEEDS, STEPS = 1e-6, 10.0, 36, 3, 200
POINTS = 5  # times at least at which a run's training loss is known
FALLEN = 0.5  # of the largest fall: a rate whose loss falls by that share of it is usable
FLAT = 0.1  # of the largest fall: a loss that falls by less is not going down


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    `largest` is the largest usable rate: the loss falls by at least half as much as at the best
    rate, and so it does at no higher one. `lowest` is the smallest usable one; `steepest` where the
    final loss falls fastest from one rate to the next. `rate` is the one to train with: the lowest
    final loss, averaged over neighboring rates, is there. Intervals are over seeds (bootstrap).
    `losses` [R, S] are the training losses at the end, ∞ where a network diverged, and `starts` [S]
    those before the first step. Below `too_low` the loss does not go down, above `too_high` it is
    higher than at the start or not finite (NaN where no rate tried is that low or high).
    """

    rates: np.ndarray
    starts: np.ndarray
    losses: np.ndarray
    rate: float
    largest: Interval
    lowest: Interval
    steepest: float
    too_low: float
    too_high: float
    steps: int

    @property
    def spacing(self) -> float:
        """The factor from one rate to the next: no answer is more precise."""
        return float(self.rates[1] / self.rates[0])

    def in_words(self) -> str:
        """The result, in lines."""
        lines = [
            f"usable: {self.lowest.value:.2g} to {self.largest.value:.2g} (largest, 95 % interval "
            f"over "
            f"{len(self.starts)} seeds: {self.largest.low:.2g} to {self.largest.high:.2g}; rates "
            f"are a factor "
            f"{self.spacing:.2f} apart)",
            f"lowest loss after {self.steps} steps: at {self.rate:.2g}; steepest: "
            f"{self.steepest:.2g}",
        ]
        if not math.isnan(self.too_low):
            lines.append(f"too low: {self.too_low:.2g} and less (the loss does not go down)")
        if not math.isnan(self.too_high):
            lines.append(f"too high: {self.too_high:.2g} and more (the loss explodes)")
        return "\n".join(lines)

    def picture(self) -> Any:
        """Loss at the end against the learning rate, with the usable range."""
        picture = figure(6.4, 3.8)
        axes = picture.subplots()
        shown = np.where(np.isfinite(self.losses), self.losses, np.nan)
        start = float(self.starts.mean())
        ceiling = 2.0 * start
        with np.errstate(all="ignore"):
            known = np.isfinite(shown).all(1)
            middle = np.where(known, np.exp(np.log(np.maximum(shown, 1e-300)).mean(1)), np.nan)
        axes.axvspan(
            self.lowest.value, self.largest.value, color=COLORS[2], alpha=0.12, linewidth=0
        )
        axes.plot(self.rates, middle, color=COLORS[0])
        band(axes, self.rates, shown.min(1), shown.max(1), color=COLORS[0])
        for place in np.flatnonzero(~known):
            axes.plot(self.rates[place], ceiling, marker="x", color=COLORS[1], linestyle="none")
        axes.axhline(start, color=GRAY, linewidth=1, linestyle=(0, (4, 2)))
        axes.annotate(
            "before training",
            (self.rates[0], start),
            xytext=(2, 3),
            textcoords="offset points",
            color=GRAY,
            fontsize=9,
        )
        axes.axvline(self.rate, color=COLORS[4], linewidth=1)
        axes.annotate(
            f"lowest {self.rate:.2g}",
            (self.rate, 0.6),
            xycoords=("data", "axes fraction"),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
        axes.annotate(
            f"usable up to {self.largest.value:.2g}",
            (self.largest.value, 0.9),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            ha="left",
            color=COLORS[2],
            fontsize=9,
        )
        axes.set(
            xscale="log",
            xlabel="learning rate",
            ylabel=f"training loss after {self.steps} steps",
            title="Line: mean over seeds, band: all seeds; × diverged",
        )
        least = float(np.nanmin(np.where(known, middle, np.nan)))
        axes.set_ylim(min(0.0, least), 1.06 * ceiling)
        return picture

    def plain(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        return {
            "rate": self.rate,
            "largest": self.largest._asdict(),
            "lowest": self.lowest._asdict(),
            "steepest": self.steepest,
            "too_low": self.too_low,
            "too_high": self.too_high,
            "steps": self.steps,
            "rates": self.rates.tolist(),
            "starts": self.starts.tolist(),
            "losses": self.losses.tolist(),
        }


def range_test(
    recipe: Recipe,
    frame: Any = None,
    *,
    low: float = LOW,
    high: float = HIGH,
    rates: int = RATES,
    seeds: int = SEEDS,
    steps: int = STEPS,
) -> RangeTest:
    """Train a cohort at `rates` constant learning rates from `low` to `high`, `seeds` networks
    each; see what falls.

    Each network makes about `steps` steps. The recipe's schedule, averages and early stopping are
    left out; a large training split is cut so that the loss is known at five times at least. Raises
    `RecipeError` for a range that is none, and where at no rate the loss falls.

    >>> from ravine.catalog import named_recipe
    >>> recipe = named_recipe("plain").vary("data.source", "iris")
    >>> found = range_test(recipe, rates=15, steps=60, seeds=2)
    >>> 1e-3 < found.rate < 3 and found.rate <= found.largest.value
    True
    """
    _checked(low, high, rates=rates, seeds=seeds, steps=steps)
    task, resolved = prepare(recipe, frame)
    bare = dataclasses.replace(resolved, schedule=Constant(), average=None, stop=None, seeds=1)
    if hasattr(bare, "snapshots"):
        bare = bare.vary("snapshots", None)
    task = _cut(task, bare, steps)
    per_epoch = -(-task.train.count // batch_size(bare, task))
    epochs = max(1, round(steps / per_epoch))
    grid = np.geomspace(low, high, rates)
    recipes = [
        bare.vary("optimizer.lr", float(lr)).vary("seed", recipe.seed + s).vary("epochs", epochs)
        for lr in grid
        for s in range(seeds)
    ]
    runs = train_on([task] * len(recipes), recipes)
    losses = np.array([_last(run.record) for run in runs]).reshape(rates, seeds)
    starts = starting_losses(bare, task, seeds)
    return judged(grid, starts, losses, steps=per_epoch * epochs)


def judged(rates: np.ndarray, starts: np.ndarray, losses: np.ndarray, *, steps: int) -> RangeTest:
    """What the losses at the end [R, S] say about the rates [R], given those at the start [S].

    >>> losses = np.array([[1.9], [0.5], [1.1], [np.inf]])
    >>> found = judged(np.array([0.01, 0.1, 1.0, 10.0]), np.array([2.0]), losses, steps=9)
    >>> found.rate, found.largest.value, found.too_low, found.too_high
    (0.1, 1.0, 0.01, 10.0)
    """
    fall = np.where(np.isfinite(losses), starts - losses, -np.inf)  # [R, S]
    most = fall.max(0)
    if not (most > 0).all():
        raise RecipeError(
            "at no learning rate does the loss fall",
            why=f"tried were {rates[0]:.2g} to {rates[-1]:.2g} for {steps} steps",
            do="run `ravine check`, or widen the range",
        )
    usable = fall >= FALLEN * most
    # the range around the best rate: a rate beyond one that failed is luck
    best = fall.argmax(0)
    tops, bottoms = [], []
    for s, at in enumerate(best):
        top = bottom = int(at)
        while top + 1 < len(rates) and usable[top + 1, s]:
            top += 1
        while bottom > 0 and usable[bottom - 1, s]:
            bottom -= 1
        tops.append(math.log(rates[top]))
        bottoms.append(math.log(rates[bottom]))
    middle = np.median(fall, 1)
    typical = float(np.median(most))
    flat = (middle < FLAT * typical) & (np.arange(len(rates)) < best.min())
    exploded = (middle < 0) & (np.arange(len(rates)) > best.max())
    capped = np.maximum(
        fall, -starts
    )  # an explosion is no worse than doubling, or its neighbor could never be best
    mean = capped.mean(1)
    smooth = np.convolve(np.pad(mean, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    smooth = np.where(np.isfinite(losses).all(1) & usable.all(1), smooth, -np.inf)
    place = int(smooth.argmax()) if np.isfinite(smooth).any() else int(np.median(best))
    rise = np.diff(mean)[:place] if place else np.zeros(1)
    steepest = (
        float(math.sqrt(rates[rise.argmax()] * rates[rise.argmax() + 1]))
        if place
        else float(rates[0])
    )
    return RangeTest(
        rates=rates,
        starts=starts,
        losses=losses,
        rate=float(rates[place]),
        largest=_geometric(tops),
        lowest=_geometric(bottoms),
        steepest=steepest,
        too_low=float(rates[np.flatnonzero(flat)[-1]]) if flat.any() else math.nan,
        too_high=float(rates[np.flatnonzero(exploded)[0]]) if exploded.any() else math.nan,
        steps=steps,
    )


def _geometric(logs: list[float]) -> Interval:
    """The geometric mean of rates, with its bootstrap interval over seeds."""
    return Interval(*(math.exp(x) for x in bootstrap_interval(logs, lambda drawn: drawn.mean(1))))


def _last(record: Any) -> float:
    """The last training loss of a run of one network; ∞ if it diverged."""
    series = record.series.get("train/loss")
    if record.failures or series is None or not math.isfinite(series.values[-1, 0]):
        return math.inf
    return float(series.values[-1, 0])


def _cut(task: Any, recipe: Recipe, steps: int) -> Any:
    """The task with so few training examples that a run of some steps passes over them several
    times.
    """
    most = max(2, steps // POINTS) * batch_size(recipe, task)
    train = task.train
    if isinstance(train, RowGroups):
        train = next(iter(train.epoch(recipe.seed, 0)))
    if recipe.batch != "all" and train.count > most:
        train = train.take(torch.linspace(0, train.count - 1, most).round().long())
    return dataclasses.replace(task, train=train, validation=None, test=None)


def _checked(low: float, high: float, *, rates: int, seeds: int, steps: int) -> None:
    if not (0 < low < high < math.inf):
        raise RecipeError(
            f"learning rates from {low:g} to {high:g}",
            why="the lower end must be above 0 and below the upper one",
            do=f"write {LOW:g} and {HIGH:g}",
        )
    for name, value, least in (("rates", rates, 3), ("seeds", seeds, 1), ("steps", steps, 10)):
        if value < least:
            raise RecipeError(
                f"{name} is {value}",
                why=f"a range test needs at least {least}",
                do=f"use {least} or more",
            )

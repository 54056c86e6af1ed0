"""The learning-rate range test: a cohort of networks, each with its own constant learning rate.

The classic test (Smith 2015) raises the rate within one run, so each rate is judged on what the
lower ones have done. Here all rates start from the same weights and see the same batches, several
seeds each: an hour's work for one network, seconds for a cohort. Letters: R rates, S seeds, T times
at which the loss is known.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ravine.argument_checks import Count, check_arguments
from ravine.data import TableLike
from ravine.data.examples import evenly_spaced
from ravine.errors import RecipeError
from ravine.recipe import Recipe
from ravine.record import Record
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, band, figure
from ravine.schedules import Constant
from ravine.statistics import Interval, bootstrap_interval
from ravine.training.defaults import batch_size, prepare
from ravine.training.evaluation import starting_losses
from ravine.training.train import train_on

LOWEST_RATE = 1e-6
HIGHEST_RATE = 10.0
RATE_COUNT = 36
SEEDS_PER_RATE = 3
STEPS_PER_RATE = 200
MIN_LOSS_POINTS = 5  # times at which a run's training loss is known
USABLE_FALL = 0.5  # of the largest fall: a rate whose loss falls by that share of it is usable
LOG_AXIS_FALL = 30.0  # a loss that falls below the start by this factor is drawn on a log axis
FLAT_FALL = 0.1  # of the largest fall: a loss that falls by less is not going down


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

    def summary(self) -> str:
        """The result, in lines of at most 80 columns."""
        largest, seeds = self.largest, len(self.starts)
        sure = f"95 % interval over {seeds} seeds: {largest.low:.2g} to {largest.high:.2g}"
        lines = [
            f"usable: {self.lowest.value:.2g} to {largest.value:.2g}; rates are a factor "
            f"{self.spacing:.2f} apart",
            f"largest usable: {largest.value:.2g} ({sure if seeds > 1 else 'one seed'})",
            f"train with {self.rate:.2g}: around it the loss after {self.steps} steps is lowest; "
            f"steepest: {self.steepest:.2g}",
        ]
        if not math.isnan(self.too_low):
            lines.append(f"too low: {self.too_low:.2g} and less (the loss does not go down)")
        if not math.isnan(self.too_high):
            lines.append(f"too high: {self.too_high:.2g} and more (the loss explodes)")
        return "\n".join(lines)

    __str__ = summary

    def figure(self) -> Figure:
        """Loss at the end against the learning rate, with the usable range.

        The line is the arithmetic mean: one seed of three that explodes lifts it. The axis is
        logarithmic where losses fall far below the start.
        """
        drawing = figure(6.4, 3.8)
        axes = drawing.subplots()
        finite = np.asarray(np.isfinite(self.losses).all(1))
        shown = np.where(finite[:, None], self.losses, np.nan)
        mean = shown.mean(1)
        start = float(self.starts.mean())
        least, most = float(np.nanmin(mean, initial=start)), float(np.nanmax(mean, initial=start))
        is_log = start > 0 and 0 <= np.nanmin(shown, initial=start) < start / LOG_AXIS_FALL
        top = min(max(most, 2.0 * start), 100.0 * start) if is_log else 2.0 * start
        lowest, largest = self.lowest.value, self.largest.value
        axes.axvspan(lowest, largest, color=SERIES_COLORS[2], alpha=0.12, linewidth=0)
        axes.plot(self.rates, mean, color=SERIES_COLORS[0], label="mean")
        band(axes, self.rates, shown.min(1), shown.max(1), color=SERIES_COLORS[0])
        for rate in self.rates[~finite]:
            axes.plot(rate, top, "x", color=SERIES_COLORS[1])
        axes.axhline(start, color=GRAY_COLOR, linewidth=1, linestyle=(0, (4, 2)))
        axes.axvline(self.rate, color=SERIES_COLORS[4], linewidth=1)
        style: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9}
        place = (self.rates[0], start)
        axes.annotate("before training", place, xytext=(2, 3), color=GRAY_COLOR, **style)
        style["xycoords"] = ("data", "axes fraction")
        text = f"train with {self.rate:.2g}"
        axes.annotate(text, (self.rate, 0.6), xytext=(-4, 0), ha="right", **style)
        text, color = f"usable: {lowest:.2g} to {largest:.2g}", SERIES_COLORS[2]
        axes.annotate(text, (lowest, 0.03), xytext=(4, 0), color=color, **style)
        several = len(self.starts) > 1
        line = "Line: mean over seeds, band: all seeds" if several else "One seed"
        axes.set_title(line if finite.all() else f"{line}; ×: {'one ' * several}diverged")
        loss = f"training loss after {self.steps} steps"
        axes.set(xscale="log", xlabel="learning rate", ylabel=loss)
        if is_log:
            axes.set_yscale("log", nonpositive="clip")
            axes.set_ylim(max(least, 1e-6 * start) / 1.5, 1.5 * top)
        else:
            axes.set_ylim(min(0.0, least), 1.06 * top)
        return drawing

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        intervals = {"largest": self.largest._asdict(), "lowest": self.lowest._asdict()}
        arrays = {name: getattr(self, name).tolist() for name in ("rates", "starts", "losses")}
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain | intervals | arrays


def range_test(
    recipe: Recipe,
    frame: TableLike | None = None,
    *,
    low: float = LOWEST_RATE,
    high: float = HIGHEST_RATE,
    rates: Count = RATE_COUNT,
    seeds: Count = SEEDS_PER_RATE,
    steps: Count = STEPS_PER_RATE,
) -> RangeTest:
    """Train `seeds` networks for about `steps` steps at each of `rates` constant learning rates.

    The recipe's schedule, averages and early stopping are left out; a large training split is cut
    so that the loss is known at five times at least. Raises `RecipeError` for an empty range, and
    where the loss falls at no rate.

    >>> from ravine.catalog import named_recipe
    >>> recipe = named_recipe("plain").vary("data.source", "iris")
    >>> found = range_test(recipe, rates=15, steps=60, seeds=2)
    >>> 1e-3 < found.rate < 3 and found.rate <= found.largest.value
    True
    """
    check_arguments(range_test, locals())
    if not (0 < low < high < math.inf):
        what = f"learning rates from {low:g} to {high:g}"
        do = f"write {LOWEST_RATE:g} and {HIGHEST_RATE:g}"
        raise RecipeError(what, why="the lower end must be above 0 and below the upper one", do=do)
    for name, value, least in (("rates", rates, 3), ("steps", steps, 10)):
        if value < least:
            why = f"a range test needs at least {least}"
            raise RecipeError(f"{name} is {value}", why=why, do=f"use {least} or more")
    task, resolved = prepare(recipe, frame)
    bare = dataclasses.replace(resolved, average=None, stop=None, snapshots=None)
    bare = dataclasses.replace(bare, schedule=Constant(), seeds=1)
    # so few training examples that a run makes several epochs in these steps
    most = max(2, steps // MIN_LOSS_POINTS) * batch_size(bare, task)
    train = evenly_spaced(task.train, task.train.count if bare.batch == "all" else most)
    task = dataclasses.replace(task, train=train, validation=None, test=None)
    per_epoch = -(-task.train.count // batch_size(bare, task))
    epochs = max(1, round(steps / per_epoch))
    grid = np.geomspace(low, high, rates)
    recipes = [
        bare.vary("optimizer.lr", float(lr)).vary("seed", recipe.seed + s).vary("epochs", epochs)
        for lr in grid
        for s in range(seeds)
    ]
    runs = train_on([task] * len(recipes), recipes)
    losses = np.array([_last_loss(run.record) for run in runs]).reshape(rates, seeds)
    starts = starting_losses(bare, task, seeds)
    return read_range(grid, starts, losses, steps=per_epoch * epochs)


def read_range(
    rates: np.ndarray, starts: np.ndarray, losses: np.ndarray, *, steps: int
) -> RangeTest:
    """What the losses at the end [R, S] say about the rates [R], given those at the start [S].

    >>> losses = np.array([[1.9], [0.5], [1.1], [np.inf]])
    >>> found = read_range(np.array([0.01, 0.1, 1.0, 10.0]), np.array([2.0]), losses, steps=9)
    >>> found.rate, found.largest.value, found.too_low, found.too_high
    (0.1, 1.0, 0.01, 10.0)
    """
    fall = np.where(np.isfinite(losses), starts - losses, -np.inf)  # [R, S]
    most = fall.max(0)
    if not (most > 0).all():
        what = "at no learning rate does the loss fall"
        why = f"tried were {rates[0]:.2g} to {rates[-1]:.2g} for {steps} steps"
        raise RecipeError(what, why=why, do="run `ravine check`, or widen the range")
    usable = fall >= USABLE_FALL * most
    best = fall.argmax(0)
    places = np.arange(len(rates))
    # the range around the best rate: a rate beyond one that failed is luck
    tops, bottoms = [], []
    for s, at in enumerate(best):
        failed = places[~usable[:, s]]
        tops.append(math.log(rates[failed[failed > at].min(initial=len(rates)) - 1]))
        bottoms.append(math.log(rates[failed[failed < at].max(initial=-1) + 1]))
    middle = np.median(fall, 1)
    flat = (middle < FLAT_FALL * float(np.median(most))) & (places < best.min())
    exploded = (middle < 0) & (places > best.max())
    # an explosion is no worse than doubling, or its neighbor could never be best
    mean = np.maximum(fall, -starts).mean(1)
    smooth = np.convolve(np.pad(mean, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    smooth = np.where(np.isfinite(losses).all(1) & usable.all(1), smooth, -np.inf)
    place = int(smooth.argmax()) if np.isfinite(smooth).any() else int(np.median(best))
    steepest = float(rates[0])
    if place:
        at = np.diff(mean)[:place].argmax()
        steepest = math.sqrt(rates[at] * rates[at + 1])
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


def _last_loss(record: Record) -> float:
    """The last training loss of a run of one network; ∞ if it diverged."""
    series = record.series.get("train/loss")
    if record.failures or series is None or not math.isfinite(series.values[-1, 0]):
        return math.inf
    return float(series.values[-1, 0])

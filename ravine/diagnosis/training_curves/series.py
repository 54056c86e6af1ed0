"""The course of a run: its series as plain data, and the statistics by which rules judge them.

Letters: T values of a series, M networks of a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from ravine.record import EffectReport, Record, Series
from ravine.statistics import t_quantile

LOOKS = (
    0.02,
    0.05,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
    1.0,
)  # of the budget: when a run is judged
ALPHA = 0.05  # chance that any test of a healthy run calls a warning
TESTS = 8  # rules that share it
BLOCKS = 60  # a longer series is judged by the means of so many blocks
PATHS = {
    "clip": "clip",
    "dropout": "network.dropout",
    "weight decay": "optimizer.weight_decay",
    "early stopping": "stop",
    "schedule": "schedule",
    "warm-up": "schedule",
    "ema": "average",
    "swa": "average",
    "class weights": "class_weights",
    "label smoothing": "loss.label_smoothing",
    "batch norm": "network.norm",
    "layer norm": "network.norm",
    "L1": "penalties",
    "L2": "penalties",
    "elastic net": "penalties",
    "activation": "network.activation",
    "initializer": "network.initializer",
    "snapshots": "snapshots",
}


@dataclass(frozen=True, eq=False)
class Curve:
    """Values [T] of one quantity and the steps [T] at which they were measured, in order."""

    steps: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def until(self, step: float) -> Curve:
        """The part up to a step."""
        end = int(np.searchsorted(self.steps, step, side="right"))
        return Curve(self.steps[:end], self.values[:end])

    def after(self, step: float) -> Curve:
        """The part after a step."""
        begin = int(np.searchsorted(self.steps, step, side="right"))
        return Curve(self.steps[begin:], self.values[begin:])

    def at(self, step: float) -> float:
        """The newest value at a step, NaN before the first."""
        place = int(np.searchsorted(self.steps, step, side="right")) - 1
        return float(self.values[place]) if place >= 0 else math.nan

    def blocks(self, most: int = BLOCKS) -> Curve:
        """The means of at most so many blocks of neighboring values, each at its last step."""
        if len(self) <= most:
            return self
        parts = np.array_split(np.arange(len(self)), most)
        return Curve(
            np.array([self.steps[p[-1]] for p in parts]),
            np.array([self.values[p].mean() for p in parts]),
        )


EMPTY = Curve(np.zeros(0), np.zeros(0))


def curve(values: Iterable[float], steps: Iterable[float] | None = None) -> Curve:
    """A curve from plain numbers; without steps they are those of the steps 1, 2, ... of a run.

    >>> curve([3.0, 2.0]).at(5)
    2.0
    """
    values = np.asarray(list(values), dtype=float)
    steps = np.arange(1, len(values) + 1) if steps is None else np.asarray(list(steps))
    if len(steps) != len(values):
        raise ValueError(
            f"a curve has {len(values)} values at {len(steps)} steps; there must be a step for "
            f"each value"
        )
    return Curve(steps, values)


@dataclass(frozen=True, kw_only=True, eq=False)
class Course:
    """The series of one network, or of a typical one of several, and what else is known of the run.

    `train` is the loss in training, of each step or averaged between looks; `validation` and
    `score` are measured on the same examples at each look. `error` is the standard error of the
    validation loss over its examples, `rise` its distance from the lowest look so far with, as
    `rise_error`, the standard error of that difference over examples. `noise` is the standard error
    of the training loss of a step over the examples of its batch.
    """

    steps: int  # made
    budget: int  # planned
    train: Curve = EMPTY
    validation: Curve = EMPTY
    score: Curve = EMPTY
    error: Curve = EMPTY
    rise: Curve = EMPTY
    rise_error: Curve = EMPTY
    noise: Curve = EMPTY
    lr: Curve = EMPTY
    gradient: Curve = EMPTY  # its norm, as the optimizer got it
    kept: Curve = EMPTY  # share of the gradient's length that clipping left
    weights: Curve = EMPTY  # their norm
    update: Curve = EMPTY  # of all weights in a step, over their norm
    layers: Mapping[str, Curve] = field(
        default_factory=dict
    )  # the same of each layer that is meant to move
    null: float | None = None  # training loss of the best constant answer
    null_validation: float | None = None  # that answer's validation loss
    reachable: float | None = None  # a loss known to be achievable
    in_training: float | None = None  # loss of some training examples at the end, in training mode
    in_evaluation: float | None = None  # of the same examples in evaluation mode
    gap_error: float | None = None  # standard error of the difference of these two
    examples: int = 0  # on which the score is measured
    higher_is_better: bool = True
    per_epoch: int = 0  # steps
    batch: int = 0
    outcome: str = ""  # finished, stopped, diverged; nothing while it runs
    keeps_best: bool = False  # the weights of the best look are the result, not the last ones
    networks: int = 1
    diverged: int = 0  # of these
    effects: Mapping[str, float] = field(
        default_factory=dict
    )  # of each technique a number, 0 if it did nothing
    meanings: Mapping[str, str] = field(default_factory=dict)
    alpha: float = ALPHA
    now: bool = False  # only what shows at this moment is asked for, not since when
    broken: int | None = None  # the first step at which a loss was not finite

    def __post_init__(self) -> None:
        """Curves keep their finite values only; `broken` remembers where a loss was not."""
        for name in _CURVES:
            found: Curve = getattr(self, name)
            known = np.isfinite(found.values)
            if known.all():
                continue
            if name in ("train", "validation"):
                first = int(found.steps[~known][0])
                object.__setattr__(
                    self, "broken", first if self.broken is None else min(first, self.broken)
                )
            object.__setattr__(self, name, Curve(found.steps[known], found.values[known]))

    @property
    def ended(self) -> bool:
        return bool(self.outcome)

    @cached_property
    def trend(self) -> Curve:
        """The training loss, in at most `BLOCKS` means."""
        return self.train.blocks()

    @cached_property
    def judged(self) -> Curve:
        """The loss that counts: of validation where there is one."""
        return self.validation if len(self.validation) else self.trend

    @property
    def null_judged(self) -> float | None:
        return self.null_validation if len(self.validation) else self.null

    @cached_property
    def moved(self) -> float:
        """The length of the way that the weights went, over their own: an upper limit of the
        distance.
        """
        return total_update(self.update, self.steps)

    @property
    def z(self) -> float:
        """The critical value of one test at one look: alpha / (rules · looks), one-sided, of a
        normal distribution.

        Of a healthy run any of the tests calls a warning with a chance of at most alpha, however
        they depend on each other (Bonferroni).

        >>> round(Course(steps=0, budget=1).z, 2)
        3.3
        """
        return NormalDist().inv_cdf(1 - self.chance)

    @property
    def chance(self) -> float:
        """The false-alarm budget of one test at one look."""
        return self.alpha / (TESTS * len(LOOKS))

    def critical(self, values: int) -> float:
        """The critical value where the spread was estimated from so many values."""
        # with fewer than five values the tail is too wide to say anything
        return t_quantile(self.z, values - 1) if values > 4 else math.inf

    def has(self, need: str) -> bool | None:
        """Whether it was measured, and long enough to tell: "loss" (anything), "trend" (12 values
        of training loss), "looks" (4 of the validation loss; None: there is none), "null" (the best
        constant's loss and 6 values), "layers", "lr", "effects", "modes" (both losses of the same
        examples), "reachable", and "ended".
        """
        return {
            "loss": len(self.train) + len(self.validation) > 0
            or self.outcome == "diverged"
            or self.broken is not None,
            "trend": len(self.trend) >= 12,
            "looks": len(self.validation) >= 4 if len(self.validation) else None,
            "null": self.null_judged is not None
            and max(len(self.trend), len(self.validation)) >= 6,
            "layers": any(len(c) >= 3 for c in self.layers.values()),
            "lr": len(self.lr) >= 6,
            "effects": bool(self.effects),
            "modes": self.in_training is not None and self.in_evaluation is not None,
            "reachable": True if self.reachable is not None and len(self.judged) >= 4 else None,
            "ended": self.ended,
        }[need]

    def until(self, step: int) -> Course:
        """The course as it was known at a step."""
        if step >= self.steps:
            return self
        cut = {name: getattr(self, name).until(step) for name in _CURVES}
        return replace(
            self,
            **cut,
            steps=step,
            outcome="",
            diverged=0,
            effects={},
            in_training=None,
            in_evaluation=None,
            broken=None,
            layers={n: c.until(step) for n, c in self.layers.items()},
        )

    @cached_property
    def looks(self) -> tuple[Course, ...]:
        """The course at each of the looks that were reached, the last one as it is.

        Looks are at measurements: the first one at or after each of the shares `LOOKS` of the
        budget.
        """
        if self.now:
            return (self,)
        points = self.judged.steps
        places = np.searchsorted(points, [share * self.budget for share in LOOKS])
        steps = sorted({int(points[p]) for p in places if p < len(points)})
        return (*(self.until(s) for s in steps if s < self.steps), self)


_CURVES = (
    "train",
    "validation",
    "score",
    "error",
    "rise",
    "rise_error",
    "noise",
    "lr",
    "gradient",
    "kept",
    "weights",
    "update",
)


def course_of(record: Record, member: int | None = None) -> Course:
    """The course of one member of a run; or, without `member`, that of a typical one: medians over
    the members.

    Members that diverged are left out of the medians; one that stopped early keeps its last value.
    """
    recipe, members = record.recipe, record.members
    chosen = range(len(members)) if member is None else [member]
    outcomes = [members[m].outcome for m in chosen]
    batch, counts = recipe.get("batch"), record.task.get("examples", {})
    batch = counts.get("train", 0) if batch == "all" else batch or 0
    per_epoch = -(-counts.get("train", 0) // batch) if batch else 0
    steps = max((members[m].steps for m in chosen), default=0)
    alive = [o for o in outcomes if o != "diverged"]
    return course_from(
        record.series,
        chosen,
        outcomes=outcomes,
        steps=steps,
        budget=max(per_epoch * (recipe.get("epochs") or 0), steps),
        outcome="diverged" if not alive else "finished" if "finished" in alive else alive[0],
        per_epoch=per_epoch,
        batch=batch,
        keeps_best=recipe.get("stop") is not None,
        higher_is_better=record.score is None or record.score.higher_is_better,
        examples=counts.get("validation", 0),
        effects=_medians(record.effects, chosen),
        meanings={e.name: e.meaning for e in record.effects},
    )


def course_from(
    series: Mapping[str, Series], chosen: Iterable[int], *, outcomes: Sequence[str], **known: Any
) -> Course:
    """The course of the chosen columns of series as a run writes them; `known` are further fields
    of `Course`.
    """
    chosen = list(chosen)
    alive = [m for m, outcome in zip(chosen, outcomes, strict=True) if outcome != "diverged"]
    found = {name: _typical(s, alive or chosen) for name, s in series.items()}
    score = next((n for n in found if n.startswith("validation/") and n != "validation/loss"), "")
    null = {split: found.get(f"null/{split}/loss", EMPTY) for split in ("train", "validation")}
    return Course(
        train=found.get("train/loss", EMPTY),
        validation=found.get("validation/loss", EMPTY),
        score=found.get(score, EMPTY),
        error=found.get("error/validation/loss", EMPTY),
        rise=found.get("rise/validation/loss", EMPTY),
        rise_error=found.get("error/rise/validation/loss", EMPTY),
        lr=found.get("lr", EMPTY),
        gradient=found.get("gradient/norm", EMPTY),
        kept=found.get("clip/kept", EMPTY),
        weights=found.get("weights/norm", EMPTY),
        update=found.get("update/ratio", EMPTY),
        layers={
            n.removeprefix("update/ratio/"): c
            for n, c in found.items()
            if n.startswith("update/ratio/")
        },
        null=float(null["train"].values[0]) if len(null["train"]) else None,
        null_validation=float(null["validation"].values[0]) if len(null["validation"]) else None,
        networks=len(chosen),
        diverged=sum(o == "diverged" for o in outcomes),
        **known,
    )


def _typical(series: Series, chosen: Sequence[int]) -> Curve:
    """The median of some columns, where one that ended keeps its last value."""
    values = np.array(series.values[:, list(chosen)], dtype=float)
    if values.shape[1] == 1:
        there = ~np.isnan(values[:, 0])  # how it ended, its outcome says
        return Curve(series.steps[there], values[there, 0])
    for before, here in zip(values, values[1:], strict=False):
        np.copyto(here, before, where=np.isnan(here))
    known = np.isfinite(values).any(1)
    return Curve(series.steps[known], np.nanmedian(values[known], axis=1))


def _medians(effects: Iterable[EffectReport], chosen: Iterable[int]) -> dict[str, float]:
    places = list(chosen)
    found = {}
    for effect in effects:
        own = [effect.values[p] for p in places if p < len(effect.values)] or list(effect.values)
        found[effect.name] = float(np.median(own)) if any(v != 0 for v in own) else 0.0
    return found


def total_update(ratios: Curve, steps: int) -> float:
    """The sum over steps of |Δw| / |w|: between two measurements each step counts as the larger of
    them.
    """
    if not len(ratios):
        return math.nan
    spans = np.diff(ratios.steps.astype(float), prepend=0.0)
    spans[-1] += max(0, steps - float(ratios.steps[-1]))
    known = np.where(np.isfinite(ratios.values), ratios.values, 0.0)
    return float((spans * np.maximum(known, np.concatenate([known[:1], known[:-1]]))).sum())

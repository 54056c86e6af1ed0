"""The curves of a run as plain data: of one network, or of a typical one of several.

Letters: T values of a curve, M networks of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from operator import methodcaller
from statistics import NormalDist
from typing import TypeVar

import numpy as np

from ravine.record import Record, Series
from ravine.statistics import t_quantile

# of the budget: when a run is checked. Each check takes its part of the budget of false alarms.
INTERIM_FRACTIONS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
FALSE_ALARM_CHANCE = 0.05  # that any test of a healthy run gives a warning
STATISTICAL_TESTS = 8  # rules that share it
MAX_BLOCKS = 60  # a longer curve is checked by the means of so many blocks
SETTING_PATHS = {  # by the name of an effect
    "clip": "clip",
    "dropout": "network.dropout",
    "weight decay": "optimizer.weight_decay",
    "early stopping": "stop",
    **dict.fromkeys(("schedule", "warm-up"), "schedule"),
    **dict.fromkeys(("ema", "swa"), "average"),
    "class weights": "class_weights",
    "label smoothing": "loss.label_smoothing",
    **dict.fromkeys(("batch norm", "layer norm"), "network.norm"),
    **dict.fromkeys(("L1", "L2", "elastic net"), "penalties"),
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
        return Curve(self.steps[self.steps <= step], self.values[self.steps <= step])

    def after(self, step: float) -> Curve:
        """The part after a step."""
        return Curve(self.steps[self.steps > step], self.values[self.steps > step])

    def at(self, step: float) -> float:
        """The newest value at a step, NaN before the first."""
        known = self.until(step).values
        return float(known[-1]) if len(known) else math.nan

    def block_means(self) -> Curve:
        """The means of at most `MAX_BLOCKS` blocks of neighbors, each at its last step."""
        if len(self) <= MAX_BLOCKS:
            return self
        steps, values = (np.array_split(x, MAX_BLOCKS) for x in (self.steps, self.values))
        return Curve(np.array([s[-1] for s in steps]), np.array([v.mean() for v in values]))

    def finite(self) -> Curve:
        """The values that are finite."""
        known = np.isfinite(self.values)
        return self if known.all() else Curve(self.steps[known], self.values[known])

    @property
    def first_not_finite(self) -> int | None:
        """The first step at which the value was not finite."""
        broken = self.steps[~np.isfinite(self.values)]
        return int(broken[0]) if len(broken) else None


NO_CURVE = Curve(np.zeros(0), np.zeros(0))


@dataclass(frozen=True, kw_only=True, eq=False)
class LossCurves:
    """Losses: in training of each step or averaged between evaluations, in validation always of the
    same examples. `rise` is the distance from the lowest evaluation so far.
    """

    train: Curve = NO_CURVE
    validation: Curve = NO_CURVE
    validation_error: Curve = NO_CURVE  # standard error over the examples
    rise: Curve = NO_CURVE
    rise_error: Curve = NO_CURVE  # standard error of that difference over the examples

    @cached_property
    def train_blocks(self) -> Curve:
        """The training loss, in at most `MAX_BLOCKS` means."""
        return self.train.block_means()

    @property
    def monitored_curve(self) -> Curve:
        """The loss that counts: of validation where there is one."""
        return self.validation if len(self.validation) else self.train_blocks


@dataclass(frozen=True, kw_only=True)
class ReferenceLosses:
    """Losses to compare with, where they are known."""

    constant_train_loss: float | None = None  # of the best constant answer
    constant_validation_loss: float | None = None  # of that answer
    reachable: float | None = None  # known to be achievable


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreCurve:
    """The validation score; and of the scored rows, how often each class is answered, and true."""

    curve: Curve = NO_CURVE
    examples: int = 0
    higher_is_better: bool = True
    answers: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class UpdateCurves:
    """What the optimizer did: learning rate, gradient, and how far the weights moved."""

    lr: Curve = NO_CURVE
    gradient_norm: Curve = NO_CURVE  # as the optimizer got it
    clip_kept: Curve = NO_CURVE  # share of the gradient's length that clipping left
    weight_norm: Curve = NO_CURVE
    update_ratio: Curve = NO_CURVE  # |update| / |weights| of a step, all weights together
    # the same of each layer that is meant to move
    layer_ratios: Mapping[str, Curve] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ModeLosses:
    """The loss of the same training examples at the end, in training and in evaluation mode."""

    training: float | None = None
    evaluation: float | None = None
    gap_error: float | None = None  # standard error of their difference


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What was planned."""

    budget: int  # steps
    steps_per_epoch: int = 0
    keeps_best: bool = False  # the result is the weights of the best evaluation, not the last ones
    networks: int = 1


@dataclass(frozen=True, kw_only=True)
class TechniqueEffects:
    """How much each technique did, by its name: 0 if it did nothing. What the number means."""

    values: Mapping[str, float] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingCurves:
    """The curves of one network, or of a typical one of several, and what else is known of the run.
    Curves keep finite values only; `broken_at` is the first step at which a loss was not finite.
    """

    steps: int  # made
    plan: RunPlan
    losses: LossCurves = field(default_factory=LossCurves)
    references: ReferenceLosses = field(default_factory=ReferenceLosses)
    score: ScoreCurve = field(default_factory=ScoreCurve)
    updates: UpdateCurves = field(default_factory=UpdateCurves)
    modes: ModeLosses = field(default_factory=ModeLosses)
    effects: TechniqueEffects = field(default_factory=TechniqueEffects)
    outcome: str = ""  # finished, stopped, diverged; nothing while it runs
    diverged: int = 0  # of the networks
    alpha: float = FALSE_ALARM_CHANCE
    only_now: bool = False  # only what shows at this moment is asked for, not since when
    broken_at: int | None = None

    def __post_init__(self) -> None:
        curves = (self.losses.train, self.losses.validation)
        points = (self.broken_at, *(curve.first_not_finite for curve in curves))
        known = [point for point in points if point is not None]
        object.__setattr__(self, "broken_at", min(known, default=None))
        for name in ("losses", "score", "updates"):
            object.__setattr__(self, name, _map_curves(getattr(self, name), Curve.finite))

    @property
    def has_ended(self) -> bool:
        return bool(self.outcome)

    @property
    def monitored_constant_loss(self) -> float | None:
        """The best constant answer's loss on the examples whose loss counts."""
        has_validation = len(self.losses.validation)
        known = self.references
        return known.constant_validation_loss if has_validation else known.constant_train_loss

    @cached_property
    def distance(self) -> float:
        """The sum of all updates over the weights: an upper limit of how far these moved."""
        return total_update(self.updates.update_ratio, self.steps)

    @property
    def critical_z(self) -> float:
        """The critical value of one test at one check: alpha / (tests · checks), one-sided, normal.

        Of a healthy run any of the tests gives a warning with a chance of at most alpha, however
        they depend on each other (Bonferroni).

        >>> round(TrainingCurves(steps=0, plan=RunPlan(budget=1)).critical_z, 2)
        3.3
        """
        return NormalDist().inv_cdf(1 - self.test_chance)

    @property
    def test_chance(self) -> float:
        """The false-alarm budget of one test at one check."""
        return self.alpha / (STATISTICAL_TESTS * len(INTERIM_FRACTIONS))

    def critical_t(self, values: int) -> float:
        """The critical value where the spread was estimated from so many values."""
        # with fewer than five values the tail is too wide to say anything
        return t_quantile(self.critical_z, values - 1) if values > 4 else math.inf

    def has(self, need: str) -> bool | None:
        """Whether it was measured, and long enough to tell: "loss" (anything), "train" (12 values
        of training loss), "validation" (4 of the validation loss; None: there is none),
        "constant_loss" (it and 6 values), "layers", "lr", "effects", "modes" (both losses of the
        same examples), "reachable", "answers" (None: there are no classes), and "ended".
        """
        losses, references = self.losses, self.references
        count = max(len(losses.train_blocks), len(losses.validation))
        reachable = references.reachable is not None and len(losses.monitored_curve) >= 4
        return {
            "loss": count > 0 or self.outcome == "diverged" or self.broken_at is not None,
            "train": len(losses.train_blocks) >= 12,
            "validation": len(losses.validation) >= 4 if len(losses.validation) else None,
            "constant_loss": self.monitored_constant_loss is not None and count >= 6,
            "layers": any(len(c) >= 3 for c in self.updates.layer_ratios.values()),
            "lr": len(self.updates.lr) >= 6,
            "effects": bool(self.effects.values),
            "modes": self.modes.training is not None and self.modes.evaluation is not None,
            "reachable": True if reachable else None,
            "answers": True if self.score.answers else None,
            "ended": self.has_ended,
        }[need]

    def until(self, step: int) -> TrainingCurves:
        """The curves as they were known at a step."""
        if step >= self.steps:
            return self

        shorten = methodcaller("until", step)
        layers = {name: shorten(curve) for name, curve in self.updates.layer_ratios.items()}
        return replace(
            self,
            losses=_map_curves(self.losses, shorten),
            score=_map_curves(self.score, shorten),
            updates=replace(_map_curves(self.updates, shorten), layer_ratios=layers),
            steps=step,
            outcome="",
            diverged=0,
            effects=TechniqueEffects(),
            modes=replace(self.modes, training=None, evaluation=None),
            broken_at=None,
        )

    @cached_property
    def interim_curves(self) -> tuple[TrainingCurves, ...]:
        """The curves at each check that was reached, the last one as they are. Checks are at
        evaluations: the first at or after each of `INTERIM_FRACTIONS` of the budget.
        """
        if self.only_now:
            return (self,)
        points = self.losses.monitored_curve.steps
        places = np.searchsorted(points, [part * self.plan.budget for part in INTERIM_FRACTIONS])
        steps = sorted({int(points[p]) for p in places if p < len(points)})
        return (*(self.until(s) for s in steps if s < self.steps), self)


Group = TypeVar("Group", LossCurves, ScoreCurve, UpdateCurves)


def _map_curves(group: Group, change: Callable[[Curve], Curve]) -> Group:
    """The group with each curve changed; those of single layers stay as they are."""
    values = {f.name: getattr(group, f.name) for f in fields(group)}
    return replace(group, **{n: change(c) for n, c in values.items() if isinstance(c, Curve)})


def curves_of_record(record: Record) -> TrainingCurves:
    """The curves of a typical member of a run: medians over the members. Members that diverged are
    left out of the medians; one that stopped early keeps its last value.
    """
    recipe, members, score = record.recipe, record.members, record.score
    outcomes = [m.outcome for m in members]
    batch, counts = recipe.get("batch"), record.task.get("examples", {})
    batch = counts.get("train", 0) if batch == "all" else batch or 0
    per_epoch = -(-counts.get("train", 0) // batch) if batch else 0
    steps = max((m.steps for m in members), default=0)
    alive = [o for o in outcomes if o != "diverged"]
    curves = curves_of_series(
        record.series,
        range(len(members)),
        outcomes=outcomes,
        steps=steps,
        plan=RunPlan(
            budget=max(per_epoch * (recipe.get("epochs") or 0), steps),
            steps_per_epoch=per_epoch,
            keeps_best=recipe.get("stop") is not None,
            networks=len(members),
        ),
    )
    return replace(
        curves,
        outcome="diverged" if not alive else "finished" if "finished" in alive else alive[0],
        score=replace(
            curves.score,
            examples=counts.get("validation", 0),
            higher_is_better=score is None or score.higher_is_better,
            answers={} if score is None else score.answers,
        ),
        effects=TechniqueEffects(
            values={
                e.name: float(np.median(e.values)) if e.has_acted else 0.0 for e in record.effects
            },
            meanings={e.name: e.meaning for e in record.effects},
        ),
    )


def curves_of_series(
    series: Mapping[str, Series],
    members: Iterable[int],
    *,
    outcomes: Sequence[str],
    steps: int,
    plan: RunPlan,
) -> TrainingCurves:
    """The curves of some members (columns) of series as a run writes them."""
    members = list(members)
    alive = [m for m, outcome in zip(members, outcomes, strict=True) if outcome != "diverged"]
    found = {name: _median_curve(s, alive or members) for name, s in series.items()}
    score = next((n for n in found if n.startswith("validation/") and n != "validation/loss"), "")
    ratio = "update/ratio/"
    layers = {n.removeprefix(ratio): c for n, c in found.items() if n.startswith(ratio)}

    def curve(name: str) -> Curve:
        return found.get(name, NO_CURVE)

    def only(name: str) -> float | None:
        return float(curve(name).values[0]) if len(curve(name)) else None

    return TrainingCurves(
        steps=steps,
        plan=plan,
        losses=LossCurves(
            train=curve("train/loss"),
            validation=curve("validation/loss"),
            validation_error=curve("error/validation/loss"),
            rise=curve("rise/validation/loss"),
            rise_error=curve("error/rise/validation/loss"),
        ),
        references=ReferenceLosses(
            constant_train_loss=only("null/train/loss"),
            constant_validation_loss=only("null/validation/loss"),
        ),
        score=ScoreCurve(curve=curve(score)),
        updates=UpdateCurves(
            lr=curve("lr"),
            gradient_norm=curve("gradient/norm"),
            clip_kept=curve("clip/kept"),
            weight_norm=curve("weights/norm"),
            update_ratio=curve("update/ratio"),
            layer_ratios=layers,
        ),
        diverged=sum(o == "diverged" for o in outcomes),
    )


def _median_curve(series: Series, members: Sequence[int]) -> Curve:
    """The median of some columns, where one that ended keeps its last value."""
    values = np.array(series.values[:, list(members)], dtype=float)
    if values.shape[1] == 1:
        there = ~np.isnan(values[:, 0])  # how it ended, its outcome says
        return Curve(series.steps[there], values[there, 0])
    for before, here in zip(values, values[1:], strict=False):
        np.copyto(here, before, where=np.isnan(here))
    known = np.isfinite(values).any(1)
    median = np.nanmedian if np.isnan(values[known]).any() else np.median  # the faster
    return Curve(series.steps[known], median(values[known], axis=1))


def total_update(ratios: Curve, steps: int) -> float:
    """The sum over steps of |Δw| / |w|; between two measurements the larger one counts."""
    if not len(ratios):
        return math.nan
    spans = np.diff(ratios.steps.astype(float), prepend=0.0)
    spans[-1] += max(0, steps - float(ratios.steps[-1]))
    known = np.where(np.isfinite(ratios.values), ratios.values, 0.0)
    return float((spans * np.maximum(known, np.concatenate([known[:1], known[:-1]]))).sum())

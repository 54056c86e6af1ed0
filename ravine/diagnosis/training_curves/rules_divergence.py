"""Losses that are not finite, that rise, or that do not settle."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ravine.diagnosis.rule import Observation, observe, symptom
from ravine.diagnosis.training_curves import failure_causes
from ravine.diagnosis.training_curves.onset import with_onset
from ravine.diagnosis.training_curves.progress import MIN_FALL, measure_fall
from ravine.diagnosis.training_curves.series import TrainingCurves
from ravine.finding import Change, Evidence
from ravine.statistics import binomial_tail, mean_with_error

EARLY_FRACTION = 0.1  # of the budget: a loss that is not finite so soon never went well
HALF_LEARNED = 0.5  # of the first loss, and of the fall: it went well before
RISE_ABOVE_START = 0.1  # of the first loss
SMALL_JUMP, LARGE_JUMP = 0.1, 0.25  # of the fall: rise from one evaluation to the next
JUMP_FRACTION = 0.05  # of the evaluations: that many a healthy run may have
MIN_EVALUATIONS = 12  # of which the second half is checked for jumps


@symptom(
    "RVN-N01",
    "error",
    "learning-rate-high",
    needs="loss",
    also="exploding, optimizer-numerics, data-degenerate, precision",
    explains="RVN-T02, RVN-T03, RVN-T04, RVN-T14",
)
def divergence(curves: TrainingCurves) -> Iterator[Observation]:
    broken_at, networks = curves.broken_at, curves.plan.networks
    if curves.outcome != "diverged" and broken_at is None and not curves.diverged:
        return
    losses = curves.losses.train if len(curves.losses.train) else curves.losses.validation
    early = broken_at is not None and broken_at < EARLY_FRACTION * curves.plan.budget
    title = "training diverged"
    evidence = [Evidence("training ended at step", curves.steps, limit=curves.plan.budget)]
    if networks > 1 and curves.diverged:
        title = f"{curves.diverged} of {networks} networks diverged"
        diverged, of = curves.diverged, f"of {networks}"
        evidence = [Evidence("networks that diverged", diverged, limit=0, text=of)]
    cause, suspects = "learning-rate-high", ("exploding", "optimizer-numerics", "data-degenerate")
    if len(losses) > 3:
        first, last = float(losses.values[0]), float(losses.values[-1])
        lowest = float(losses.values.min())
        others = f"first {first:.3g}, lowest {lowest:.3g}"
        evidence.append(Evidence("last finite loss", last, text=others))
        went_well = last < HALF_LEARNED * first and last < lowest + HALF_LEARNED * (first - lowest)
        if went_well and not early:
            cause, suspects = "exploding", ("learning-rate-high", "optimizer-numerics", "precision")
    minor = networks > 1 and curves.diverged < networks / 2
    end = curves.steps if curves.outcome == "diverged" else None
    since, severity = end if broken_at is None else broken_at, "warning" if minor else ""
    seen = observe(*evidence, failure_causes.LOWER_LEARNING_RATE, since=since, title=title)
    yield replace(seen, severity=severity, cause=cause, suspects=suspects)


@symptom(
    "RVN-T03",
    "warning",
    "learning-rate-high",
    confidence="high",
    needs="train",
    also="over-regularized, loss, exploding",
    explains="RVN-T02, RVN-T04, RVN-T14",
)
@with_onset
def rising_training_loss(curves: TrainingCurves) -> Iterator[Observation]:
    curve, validation = curves.losses.train_blocks, curves.losses.validation
    constant = curves.references.constant_train_loss
    if len(curve) < 6:
        return
    late = curve.values[-max(3, len(curve) // 4) :]
    first = float(curve.values[0])
    mean, error = mean_with_error(late)
    base = first if constant is None else max(first, constant)
    sure = mean - curves.critical_t(len(late) + 3) * error > base
    large = mean > base + RISE_ABOVE_START * abs(base)
    if not (sure and large) or float(late.min()) <= base:
        return
    if constant is None:
        # without a constant to compare with, a rising loss may be that of adversarial training
        limit = (1 + RISE_ABOVE_START) * validation.values[:1]
        if len(validation) < 3 or not (validation.values[-2:] > limit).all():
            return
    cause, suspects = "learning-rate-high", ("loss", "exploding")
    if failure_causes.weights_shrank(curves):
        cause, suspects = "over-regularized", ("learning-rate-high", *suspects)
    yield observe(
        Evidence("training loss at the end", mean, limit=base, text=f"first {first:.3g}"),
        *failure_causes.distance_evidence(curves),
        *failure_causes.changes_against(cause, curves),
        cause=cause,
        suspects=suspects,
    )


@symptom(
    "RVN-T04",
    "warning",
    "learning-rate-high",
    confidence="medium",
    needs="validation",
    also="batch-size, schedule",
)
@with_onset
def jumping_loss(curves: TrainingCurves) -> Iterator[Observation]:
    curve, lr = curves.losses.validation, curves.updates.lr
    if len(curve) < MIN_EVALUATIONS:
        return
    lowest = float(curve.values.min())
    fall = measure_fall(curves, lowest)
    half = len(curve) // 2 - 1
    late, rates = curve.values[half:], np.array([lr.at(step) for step in curve.steps[half:]])
    # a warm restart raises the rate, and with it the loss
    calm = ~(rates[1:] > 1.5 * rates[:-1]) if len(lr) else np.ones(len(late) - 1, dtype=bool)
    rises = np.diff(late)[calm]
    constant = curves.monitored_constant_loss
    unlearned = constant is not None and lowest > constant - MIN_FALL * abs(constant)
    if fall <= 0 or len(rises) < 6 or unlearned:
        return
    above_lowest = float(late.mean()) - lowest
    for jump in (LARGE_JUMP, SMALL_JUMP):
        count = int((rises > jump * fall).sum())
        sure = binomial_tail(count, len(rises), JUMP_FRACTION) < curves.test_chance
        if sure and above_lowest > 0.5 * jump * fall:
            break
    else:
        return
    highest = float(lr.values.max()) if len(lr) else math.nan
    settled = float(rates[-1]) < 0.1 * highest and curve.values[-1] < lowest + SMALL_JUMP * fall
    harmless = curves.plan.keeps_best or settled or not curves.has_ended or jump == SMALL_JUMP
    share = 100 * count / len(rises)
    size = f"by over {jump:.0%} of all that was gained, in the second half"
    mean = lowest + above_lowest
    name, limit = "rises from one evaluation to the next", 100 * JUMP_FRACTION
    jumps = Evidence(name, share, "%", limit=limit, text=size)
    level = Evidence("validation loss, mean", mean, limit=lowest, text="the limit is the lowest")
    changes = failure_causes.LOWER_LEARNING_RATE, Change("schedule", "one that ends low")
    severity = "note" if harmless else ""
    yield observe(jumps, level, *changes, severity=severity, suspects=("batch-size", "schedule"))

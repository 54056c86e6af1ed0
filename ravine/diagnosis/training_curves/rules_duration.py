"""Runs that ended too soon, went on for nothing, or whose schedule was over before them."""

import math
from collections.abc import Iterator

import numpy as np

from ravine.diagnosis.rule import Observation, observe, symptom
from ravine.diagnosis.training_curves import progress
from ravine.diagnosis.training_curves.failure_causes import (
    SHORT_DISTANCE,
    SHORT_RUN,
    changes_against,
    distance_evidence,
)
from ravine.diagnosis.training_curves.series import TrainingCurves
from ravine.finding import Change, Evidence

FURTHER_GAIN, LARGE_FURTHER_GAIN = 0.1, 0.3  # of what was gained, in as many steps again
MIN_EPOCHS = 5  # with fewer, more steps are what is missing
BARELY_EPOCHS = 3  # a run that has barely begun
HIGH_LOSS = 0.5  # of the constant's loss: too high to end at
ENDED_RATE = 0.01  # of the highest learning rate: the schedule has ended
WASTED_FRACTION = 0.4  # of the budget
FLAT_GAIN = 0.01  # of the fall
SOLVED_LOSS = 0.05  # of the constant's loss: nothing is left to gain


@symptom(
    "RVN-T06", "note", "too-few-steps", confidence="medium", needs="ended", also="learning-rate-low"
)
def still_falling(curves: TrainingCurves) -> Iterator[Observation]:
    if curves.outcome != "finished":
        return
    losses = curves.losses
    curve = losses.monitored_curve if len(losses.monitored_curve) >= 12 else losses.train_blocks
    if len(curve) < 12:
        yield from _barely_begun(curves)
        return
    gain, gained = progress.further_gain(curves, curve)
    if gained <= 0 or gain < FURTHER_GAIN * gained:
        return
    per_epoch = curves.plan.steps_per_epoch
    epochs = curves.steps / per_epoch if per_epoch else math.inf
    short = epochs < MIN_EPOCHS or curves.steps < SHORT_RUN
    cause, other = "too-few-steps", "learning-rate-low"
    if not short and (curves.distance < SHORT_DISTANCE or progress.falls_evenly(curves)):
        cause, other = other, cause
    share = 100 * gain / gained
    whole = "of what was gained so far"
    name = "as many steps again would gain"
    further = Evidence(name, share, "%", limit=100 * FURTHER_GAIN, text=whole)
    seen = (further, *distance_evidence(curves), *changes_against(cause, curves))
    severity = "warning" if gain > LARGE_FURTHER_GAIN * gained else "note"
    yield observe(*seen, severity=severity, cause=cause, suspects=(other,))


def _barely_begun(curves: TrainingCurves) -> Iterator[Observation]:
    """A run under 100 steps and 3 epochs whose evaluation or two show that it was on its way down.
    The training loss is a mean over the steps before an evaluation, the validation loss is that of
    the moment: where the second lies well below the first, the loss fell in between.
    """
    losses, per_epoch = curves.losses, curves.plan.steps_per_epoch
    constant, error = curves.references.constant_validation_loss, losses.validation_error
    if constant is None or not len(losses.train) or not len(losses.validation) or not len(error):
        return
    short = curves.steps < SHORT_RUN and 0 < curves.steps < BARELY_EPOCHS * per_epoch
    now, before = float(losses.validation.values[-1]), float(losses.train.values[-1])
    least = max(progress.CLEAR_GAIN * abs(constant), curves.critical_z * float(error.values[-1]))
    if not short or before - now < least or now < progress.MIN_FALL * abs(constant):
        return
    epochs = f"{curves.steps / per_epoch:.1f} epochs"
    mean = "the limit is the mean on the way there"
    yield observe(
        Evidence("steps", curves.steps, limit=SHORT_RUN, text=epochs),
        Evidence("loss at the end", now, limit=before, text=mean),
        *changes_against("too-few-steps", curves),
        title="the run ended when it had hardly begun",
        severity="warning" if now > HIGH_LOSS * abs(constant) else "note",
        cause="too-few-steps",
        suspects=("learning-rate-low",),
    )


@symptom(
    "RVN-T09",
    "note",
    "schedule",
    confidence="high",
    needs="lr",
    also="learning-rate-low",
    explains="RVN-T06, RVN-T10",
)
def early_end_of_schedule(curves: TrainingCurves) -> Iterator[Observation]:
    lr = curves.updates.lr
    if not curves.has_ended or curves.outcome == "diverged" or len(lr) < 6:
        return
    highest = float(lr.values.max())
    high = lr.steps[lr.values >= ENDED_RATE * highest]
    end = int(high[-1]) if highest > 0 and len(high) else 0
    rest = 1 - end / curves.steps if curves.steps else 0.0
    if rest < WASTED_FRACTION or lr.values[-1] >= ENDED_RATE * highest:
        return
    before = curves.until(end)
    losses = before.losses
    curve = losses.monitored_curve if len(losses.monitored_curve) >= 6 else losses.train_blocks
    if len(curve) < 4:
        return
    gain, gained = progress.further_gain(before, curve)
    falling = gained > 0 and gain > FURTHER_GAIN * gained
    name, limit = "of the steps had under 1 % of the highest learning rate", 100 * WASTED_FRACTION
    seen: list[Evidence | Change] = [Evidence(name, 100 * rest, "%", limit=limit)]
    if falling:
        name = "gain of as many steps again at the last high rate, of what was gained"
        seen.append(Evidence(name, 100 * gain / gained, "%", limit=100 * FURTHER_GAIN))
    seen.append(Change("schedule", "one that lasts the whole run"))
    severity = "warning" if falling else "note"
    yield observe(*seen, since=end, severity=severity, suspects=("learning-rate-low",))


@symptom(
    "RVN-T10",
    "note",
    "schedule",
    confidence="medium",
    needs="ended",
    also="learning-rate-high, architecture-too-small",
)
def plateau(curves: TrainingCurves) -> Iterator[Observation]:
    curve, constant = curves.losses.monitored_curve, curves.monitored_constant_loss
    stopped = curves.plan.keeps_best and curves.outcome == "stopped"  # a plateau is what ends it
    if not curves.has_ended or curves.outcome == "diverged" or stopped or len(curve) < 12:
        return
    half = len(curve) // 2
    lowest = float(curve.values.min())
    fall = progress.measure_fall(curves, lowest)
    in_the_middle = float(np.median(curve.values[half - half // 4 : half]))
    gained = in_the_middle - float(np.median(curve.values[-max(3, half // 4) :]))
    least = progress.MIN_FALL * abs(constant or 0.0)
    unlearned = constant is not None and lowest > constant - least
    solved = constant is not None and lowest < SOLVED_LOSS * abs(constant)
    if fall <= 0 or unlearned or solved or abs(gained) > FLAT_GAIN * fall:
        return
    share, whole = 100 * gained / fall, "of all that was gained"
    late = Evidence("gained in the second half", share, "%", limit=100 * FLAT_GAIN, text=whole)
    end = Evidence("loss at the end", float(curve.values[-1]))
    suspects = ("learning-rate-high", "architecture-too-small")
    yield observe(late, end, since=int(curve.steps[half - 1]), suspects=suspects)

"""Validation losses that rise again, or that never came near the training loss."""

import math
from collections.abc import Iterator

import numpy as np

from ravine.diagnosis.rule import Observation, observe, symptom
from ravine.diagnosis.training_curves.failure_causes import CONSTANT_LIMIT_TEXT, LOWER_LEARNING_RATE
from ravine.diagnosis.training_curves.onset import with_onset
from ravine.diagnosis.training_curves.progress import MIN_FALL, measure_fall
from ravine.diagnosis.training_curves.series import Curve, TrainingCurves
from ravine.finding import Change, Evidence

MEMORIZED_LOSS = 0.05  # of the constant's training loss: the examples are memorized
MAX_CARRIED_GAIN = 0.3  # of the constant's validation loss: more is generalization
MIN_VALUES = 6  # of the validation loss, of which the lowest is known
RISEN_LOSS = 0.15  # of the fall: validation loss above its lowest
TRAIN_RISE = 1.02  # times what it was at the lowest validation loss: training got worse, too
EARLY_BEST_FRACTION = 0.1  # of the budget
EARLY_BEST_CHECK_FRACTION = 0.3  # of the budget: before, nothing is said of an early best


@symptom("RVN-T05", "warning", "overfitting", confidence="high", needs="validation", also="labels")
@with_onset
def overfitting(curves: TrainingCurves) -> Iterator[Observation]:
    yield from list(_rising_again(curves)) or _memorization(curves)


def _memorization(curves: TrainingCurves) -> Iterator[Observation]:
    """The training examples are memorized from early on, and little generalizes."""
    references, losses = curves.references, curves.losses
    constant = references.constant_train_loss
    held_out_constant = references.constant_validation_loss
    if constant is None or held_out_constant is None or min(constant, held_out_constant) <= 0:
        return
    if len(losses.train_blocks) < 3:
        return
    train = float(np.median(losses.train_blocks.values[-3:]))
    values, errors = losses.validation.values, losses.validation_error.values
    last = float(values.min() if curves.plan.keeps_best else np.median(values[-3:]))
    gained = (held_out_constant - last) / held_out_constant
    error = float(errors[-1]) if len(errors) else math.inf
    sure = last - curves.critical_z * error > held_out_constant
    place = int(values.argmin())
    useless = gained <= 0 and not _score_stays(curves, int(losses.validation.steps[place]))
    worse = sure or (curves.has_ended and useless and len(values) >= MIN_VALUES)
    if train > MEMORIZED_LOSS * constant or gained > MAX_CARRIED_GAIN:
        return
    rest = "others are answered no better than by a constant" if worse else "little generalizes"
    best = f"best constant {constant:.3g}"
    own = Evidence("training loss", train, limit=MEMORIZED_LOSS * constant, text=best)
    other = Evidence("validation loss", last, limit=held_out_constant, text=CONSTANT_LIMIT_TEXT)
    changes = Change("network.dropout", 0.2), Change("data", "more examples")
    severity = "warning" if worse else "note"
    title = f"the training examples are memorized, {rest}"
    yield observe(own, other, *changes, severity=severity, title=title, suspects=("labels",))


def _rising_again(curves: TrainingCurves) -> Iterator[Observation]:
    """Validation loss that fell and surely rises again."""
    curve, train = curves.losses.validation, curves.losses.train_blocks
    place = int(curve.values.argmin())
    lowest, best = float(curve.values[place]), int(curve.steps[place])
    later, fall = curve.after(best), measure_fall(curves, lowest)
    if not _has_risen(curves, later, lowest, fall):
        return
    before, now = train.until(best), train.after(best)
    if _training_got_worse(before, now) or _mean_of_last(now) > _mean_of_last(later):
        # the first is the rule of an early best; in the second training is not ahead of validation
        return
    level = curves.references.constant_train_loss
    if len(now) and level is not None and _mean_of_last(now) > level - MIN_FALL * abs(level):
        return  # the training examples were not learned, either
    flat, keeps_best = _score_stays(curves, best), curves.plan.keeps_best
    last = float(curve.values[-1])
    share, limit = 100 * (last - lowest) / fall, 100 * RISEN_LOSS
    seen: list[Evidence | Change] = [
        Evidence("validation loss", last, limit=lowest, text=f"lowest at step {best:,}"),
        Evidence("of the fall of the validation loss was lost again", share, "%", limit=limit),
    ]
    if len(now):
        seen.append(Evidence("training loss", float(now.values[-1]), text="still falls"))
    if keeps_best:
        seen.append(Evidence("step of the best weights, which are kept", best))
    seen += [Change("stop", "EarlyStopping"), Change("network.dropout", 0.2)]
    title = "the confidence of the predictions rises, the score does not fall" if flat else ""
    yield observe(*seen, severity="note" if keeps_best or flat else "", title=title)


def _has_risen(curves: TrainingCurves, later: Curve, lowest: float, fall: float) -> bool:
    """Whether the last three evaluations are surely above the lowest, by enough of the fall."""
    if len(later) < 3 or fall <= 0:
        return False
    last, losses = later.values[-3:], curves.losses
    if float(last.min()) - lowest < RISEN_LOSS * fall:
        return False
    if len(losses.rise) and len(losses.rise_error):
        rise = np.array([losses.rise.at(step) for step in later.steps[-3:]])
        error = np.array([losses.rise_error.at(step) for step in later.steps[-3:]])
        return bool((rise > curves.critical_z * error).all())
    if len(losses.validation_error):
        error = math.sqrt(2) * losses.validation_error.at(later.steps[-1])
        return bool((last - lowest > curves.critical_z * error).all())
    changes = np.abs(np.diff(losses.validation.values))
    noise = 1.4826 * float(np.median(changes)) / math.sqrt(2)
    limit = 2 * curves.critical_t(len(changes)) * noise
    return len(changes) >= 6 and bool((last - lowest > limit).all())


def _training_got_worse(before: Curve, now: Curve) -> bool:
    """Whether the training loss is higher than it was at the lowest validation loss."""
    known = len(before) > 0 and len(now) > 0
    return known and _mean_of_last(now) > TRAIN_RISE * _mean_of_last(before)


def _mean_of_last(curve: Curve) -> float:
    """The mean of the last three values; lower than any number if there are none."""
    return float(curve.values[-3:].mean()) if len(curve) else -math.inf


def _score_stays(curves: TrainingCurves, best: int) -> bool:
    """Whether the score at the end is as good as at the lowest validation loss."""
    score = curves.score
    if not len(score.curve):
        return False
    sign = 1 if score.higher_is_better else -1
    now = sign * float(np.median(score.curve.values[-3:]))
    then = sign * score.curve.at(best)
    variance = max(abs(then) * (1 - abs(then)), 0.01)
    spread = math.sqrt(variance / score.examples) if score.examples else 0.01
    return now >= then - min(spread, 0.05)


@symptom(
    "RVN-T14",
    "warning",
    "learning-rate-high",
    confidence="medium",
    needs="validation",
    also="schedule, exploding",
)
@with_onset
def early_best(curves: TrainingCurves) -> Iterator[Observation]:
    curve, train, budget = curves.losses.validation, curves.losses.train_blocks, curves.plan.budget
    too_soon = curves.steps < EARLY_BEST_CHECK_FRACTION * budget and not curves.has_ended
    if len(curve) < 6 or too_soon:
        return
    place = int(curve.values.argmin())
    lowest, best = float(curve.values[place]), int(curve.steps[place])
    if best > EARLY_BEST_FRACTION * budget:
        return
    if not _has_risen(curves, curve.after(best), lowest, measure_fall(curves, lowest)):
        return
    before, now = train.until(best), train.after(best)
    if not _training_got_worse(before, now):
        return  # that is overfitting
    last, train_last, train_before = (float(c.values[-1]) for c in (curve, now, before))
    rise = Evidence("validation loss", last, limit=lowest, text=f"lowest at step {best:,}")
    train_rise = Evidence("training loss", train_last, limit=train_before, text="higher as well")
    severity, suspects = "note" if curves.plan.keeps_best else "", ("schedule", "exploding")
    yield observe(rise, train_rise, LOWER_LEARNING_RATE, severity=severity, suspects=suspects)

"""Networks, or layers, that learned nothing or too little."""

import math
from collections.abc import Iterator
from dataclasses import replace

from ravine.diagnosis.rule import Observation, join_names, observe, symptom
from ravine.diagnosis.training_curves.failure_causes import (
    CONSTANT_LIMIT_TEXT,
    changes_against,
    distance_evidence,
    likely_causes,
)
from ravine.diagnosis.training_curves.onset import with_onset
from ravine.diagnosis.training_curves.progress import CLEAR_GAIN, measure_fall
from ravine.diagnosis.training_curves.series import Curve, TrainingCurves, total_update
from ravine.finding import Change, Evidence
from ravine.statistics import binomial_tail, mean_with_error

NO_GAIN = 0.005  # of the constant's loss: less than this is not learning
ERROR_EXCESS_FRACTION = 0.5  # of the constant's loss: so far above it is an error
LATE_FRACTION = 0.5  # of the budget: before, a network that has not learned may yet
FAR_FROM_REACHABLE = 0.25  # of the fall
NO_LOWER_IN_TRAINING = 0.5  # of the distance from what can be reached
STUCK_DISTANCE = 0.01  # of a layer's weights, in the whole run
DISTANCE_RATIO = 30.0  # times: how much further another layer must have moved
STUCK_FRACTION = 0.25  # of the budget: before, a layer may yet move
MODE_GAP = 0.2  # of the constant's loss: between training and evaluation mode
MODE_RATIO = 1.5  # times the loss in training mode
MIN_OTHER_ROWS = 3  # of other classes than the answered one
OTHER_ANSWERS = 0.05  # of the rows of other classes: fewer other answers count as none
COMMON_CLASS = 0.8  # of the rows: beyond it, the class's frequency explains the answer


@symptom(
    "RVN-T02",
    "warning",
    "labels",
    confidence="high",
    needs="constant_loss",
    also="learning-rate-low, learning-rate-high, too-few-steps, gradient-clipping, "
    "over-regularized, dropout, dead-units, vanishing, saturation, initialization, input-scale",
)
@with_onset
def no_better_than_constant(curves: TrainingCurves) -> Iterator[Observation]:
    if curves.steps < LATE_FRACTION * curves.plan.budget and not curves.has_ended:
        return
    losses, references = curves.losses, curves.references
    shown, worse = [], []
    for curve, constant, name in (
        (losses.train_blocks, references.constant_train_loss, "training loss"),
        (losses.validation, references.constant_validation_loss, "validation loss"),
    ):
        if constant is None or len(curve) < 3:
            continue
        late = curve.values[len(curve) // 2 :]
        mean, error = mean_with_error(late)
        scale = abs(constant) if abs(constant) > 1e-12 else 1.0
        if name == "validation loss" and len(losses.validation_error):
            last_error = float(losses.validation_error.values[-1])
            error = math.hypot(error, 0.0 if len(losses.train) else last_error)
        seen = curve.values[len(curve) // 3 :]
        below = int((seen < constant - NO_GAIN * scale).sum())
        chance = binomial_tail(len(seen) - below, len(seen), 0.5)
        least = mean - curves.critical_t(min(10, len(late))) * error
        sure = chance < curves.test_chance or least > constant - CLEAR_GAIN * scale
        if mean < constant - NO_GAIN * scale or (name == "training loss" and not sure):
            # one of the two is better than the constant: something was learned, if only to overfit
            return
        late_name = f"{name}, second half"
        shown.append(Evidence(late_name, mean, limit=constant, text=CONSTANT_LIMIT_TEXT))
        worse.append(mean > constant + ERROR_EXCESS_FRACTION * abs(constant))
    if not shown:
        return
    cause, *suspects = likely_causes(curves)
    title, severity = "", "error" if all(worse) else "warning"
    if not curves.has_ended:
        title, severity = "not learned so far", "note"
    seen = observe(*shown, *distance_evidence(curves), *changes_against(cause, curves))
    seen = replace(seen, title=title, severity=severity)
    yield replace(seen, cause=cause, suspects=tuple(suspects))


@symptom(
    "RVN-T07",
    "warning",
    "architecture-too-small",
    confidence="medium",
    needs="reachable",
    also="dropout, over-regularized, learning-rate-low",
)
def underfitting(curves: TrainingCurves) -> Iterator[Observation]:
    curve, train_blocks = curves.losses.monitored_curve, curves.losses.train_blocks
    reachable = curves.references.reachable
    if not curves.has_ended or reachable is None or len(curve) < 4:
        return
    late, error = mean_with_error(curve.values[-max(4, len(curve) // 4) :])
    fall = measure_fall(curves, min(reachable, late))
    train = float(train_blocks.values[-3:].mean()) if len(train_blocks) else late
    sure = late - curves.critical_t(10) * error > reachable
    far = late - reachable > FAR_FROM_REACHABLE * max(fall, 1e-12)
    lower = train < reachable + NO_LOWER_IN_TRAINING * (late - reachable)
    if not (sure and far) or lower:
        return
    reasons = ("dropout", "over-regularized", "learning-rate-low")
    cause = next((c for c in likely_causes(curves) if c in reasons), "architecture-too-small")
    others = ("architecture-too-small", "over-regularized", "learning-rate-low")
    suspects = tuple(c for c in others if c != cause)
    end = Evidence("loss at the end", late, limit=reachable, text="the limit can be reached")
    own = Evidence("training loss", train, text="no lower")
    yield observe(end, own, *changes_against(cause, curves), cause=cause, suspects=suspects)


@symptom(
    "RVN-T08",
    "note",
    "vanishing",
    confidence="high",
    needs="layers",
    also="learning-rate-low, too-few-steps, gradient-clipping, frozen-parameters, saturation",
    explains="RVN-T02",
)
@with_onset
def stuck_layers(curves: TrainingCurves) -> Iterator[Observation]:
    if curves.steps < STUCK_FRACTION * curves.plan.budget and not curves.has_ended:
        return
    distances = {
        name: _whole_distance(curve, curves)
        for name, curve in curves.updates.layer_ratios.items()
        if len(curve) >= 3
    }
    if not distances:
        return
    furthest = max(distances.values())
    far = furthest >= STUCK_DISTANCE
    limit = min(STUCK_DISTANCE, furthest / DISTANCE_RATIO) if far else STUCK_DISTANCE
    stuck = {name: distance for name, distance in distances.items() if distance < limit}
    if not stuck:
        return
    every = len(stuck) == len(distances)
    name, least = min(stuck.items(), key=lambda pair: pair[1])
    useless = bool(list(no_better_than_constant(curves)))
    moves, of = f"{name} moves in the whole run by at most", "of its weights"
    evidence = [Evidence(moves, 100 * least, "%", limit=100 * STUCK_DISTANCE, text=of)]
    if not every:
        evidence.append(Evidence("the layer that moves furthest", 100 * furthest, "%"))
    cause, suspects = "vanishing", ("frozen-parameters", "saturation")
    if every:
        cause, suspects = "learning-rate-low", ("too-few-steps", "gradient-clipping")
    where, title = ("", "the weights hardly move") if every else (join_names(stuck), "")
    severity = "warning" if useless and curves.has_ended else "note"
    seen = observe(*evidence, *changes_against(cause, curves), where=where, title=title)
    yield replace(seen, severity=severity, cause=cause, suspects=suspects)


def _whole_distance(ratios: Curve, curves: TrainingCurves) -> float:
    """The distance so far and what remains at the pace of the last quarter: an upper limit."""
    so_far = total_update(ratios, curves.steps)
    if curves.has_ended:
        return so_far
    late = ratios.values[-max(2, len(ratios) // 4) :]
    return so_far + float(late.mean()) * max(0, curves.plan.budget - curves.steps)


@symptom(
    "RVN-T13",
    "warning",
    "normalization",
    confidence="high",
    needs="modes",
    also="train-eval-mode, batch-size",
)
def different_modes(curves: TrainingCurves) -> Iterator[Observation]:
    modes, constant = curves.modes, curves.references.constant_train_loss
    training, evaluation = modes.training, modes.evaluation
    if training is None or evaluation is None:
        return
    scale = abs(constant) if constant else max(abs(training), 1e-12)
    error = modes.gap_error if modes.gap_error is not None else 0.0
    gap, least = evaluation - training, max(MODE_GAP * scale, curves.critical_z * error)
    if gap < least or evaluation < MODE_RATIO * training:
        return
    same = "the limit is the loss in training mode, of the same examples"
    evidence = Evidence("loss in evaluation mode", evaluation, limit=training, text=same)
    change = Change("normalization", "LayerNorm, or larger batches")
    yield observe(evidence, change, suspects=("train-eval-mode", "batch-size"))


@symptom(
    "RVN-T15",
    "warning",
    "imbalance",
    confidence="exact",
    needs="answers",
    also="too-few-steps, labels, learning-rate-high, learning-rate-low",
)
def one_answer_for_all(curves: TrainingCurves) -> Iterator[Observation]:
    answers = curves.score.answers
    rows = sum(true for _, true in answers.values())
    common = max(answers, key=lambda name: answers[name][0])
    predicted, true = answers[common]
    others, other_answers = rows - true, rows - predicted
    limit = OTHER_ANSWERS * others
    if others < MIN_OTHER_ROWS or other_answers > limit:
        return
    cause, changes = "imbalance", (Change("class_weights", "balanced"),)
    if true <= COMMON_CLASS * rows:
        cause = likely_causes(curves)[0]
        changes = changes_against(cause, curves)
    text = f"of {rows:,}, of which {others:,} have another class"
    evidence = Evidence("rows with another answer", other_answers, limit=limit, text=text)
    title = f"{'every' if other_answers == 0 else 'almost every'} row is answered {common!r}"
    yield observe(evidence, *changes, title=title, cause=cause)

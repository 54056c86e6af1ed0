"""Techniques of a recipe that did nothing, or far too much."""

import math
from collections.abc import Iterator

import numpy as np

from ravine.diagnosis.rule import Observation, observe, symptom
from ravine.diagnosis.training_curves.failure_causes import (
    CLIPPED_STEPS_FRACTION,
    CONSTANT_LIMIT_TEXT,
    DROPPED_UNITS,
    KEPT_NORM_FRACTION,
    SHORT_DISTANCE,
    SHRUNK_WEIGHTS,
    distance_evidence,
    weights_shrank,
)
from ravine.diagnosis.training_curves.onset import with_onset
from ravine.diagnosis.training_curves.progress import CLEAR_GAIN, falls_evenly
from ravine.diagnosis.training_curves.rules_learning import no_better_than_constant
from ravine.diagnosis.training_curves.series import SETTING_PATHS, TrainingCurves
from ravine.finding import Change, Evidence

DECAY_NAMES = ("weight decay", "L2", "L1", "elastic net")
IDLE_CAUSES = {  # by the setting of a technique that did nothing
    "clip": "gradient-clipping",
    "penalties": "over-regularized",
    "schedule": "schedule",
    "class_weights": "imbalance",
    "loss": "loss",
    "stop": "too-few-steps",
}
POOR_LOSS = 0.5  # of the constant's loss


@symptom("RVN-T11", "note", "optimizer", needs="effects", also=", ".join(IDLE_CAUSES.values()))
def idle_techniques(curves: TrainingCurves) -> Iterator[Observation]:
    if not curves.has_ended or curves.outcome == "diverged":
        return
    for name, value in curves.effects.values.items():
        if value == 0 and name not in ("update", "early stopping"):  # nothing to stop is no fault
            path = SETTING_PATHS.get(name, name)
            cause = IDLE_CAUSES.get(path.split(".")[0], "optimizer")
            effect = Evidence(curves.effects.meanings.get(name, name), 0.0)
            title = "clip never cut" if name == "clip" else f"{name} did nothing"
            yield observe(effect, where=path, title=title, cause=cause)


@symptom(
    "RVN-T12",
    "note",
    "over-regularized",
    confidence="high",
    needs="loss",
    also="gradient-clipping, dropout, learning-rate-low, learning-rate-high",
    explains="RVN-T02, RVN-T06, RVN-T07, RVN-T08",
)
@with_onset
def excessive_regularization(curves: TrainingCurves) -> Iterator[Observation]:
    useless = curves.has_ended and bool(list(no_better_than_constant(curves)))
    yield from _tight_clipping(curves, useless)
    yield from _high_dropout(curves, useless)
    yield from _strong_decay(curves, useless)


def _tight_clipping(curves: TrainingCurves, useless: bool) -> Iterator[Observation]:
    kept = curves.updates.clip_kept.values
    if len(kept) < 5:
        return
    typical, cut = float(np.median(kept)), float((kept < 1).mean())
    clipped = min(cut, curves.effects.values.get("clip", 1.0))
    if typical >= KEPT_NORM_FRACTION or clipped <= CLIPPED_STEPS_FRACTION:
        return
    slow = curves.distance < SHORT_DISTANCE or falls_evenly(curves)
    left = "of the gradient's length was left by clipping"
    limit = 100 * CLIPPED_STEPS_FRACTION
    yield observe(
        Evidence("steps in which the gradient was cut", 100 * cut, "%", limit=limit),
        Evidence(left, 100 * typical, "%", limit=100 * KEPT_NORM_FRACTION),
        *distance_evidence(curves),
        Change("clip", "a limit near the gradient's usual norm"),
        where="clip",
        severity="warning" if useless or (slow and curves.has_ended) else "note",
        title="clipping leaves almost nothing of the gradient",
        cause="gradient-clipping",
        suspects=("learning-rate-low",),
    )


def _high_dropout(curves: TrainingCurves, useless: bool) -> Iterator[Observation]:
    curve, constant = curves.losses.monitored_curve, curves.monitored_constant_loss
    dropped = curves.effects.values.get("dropout", 0.0)
    if dropped <= DROPPED_UNITS:
        return
    last = float(np.median(curve.values[-3:])) if len(curve) else math.inf
    poor = constant is not None and last > POOR_LOSS * abs(constant)
    yield observe(
        Evidence("units dropped", 100 * dropped, "%", limit=100 * DROPPED_UNITS),
        Change(SETTING_PATHS["dropout"], 0.2),
        where=SETTING_PATHS["dropout"],
        severity="warning" if useless or (curves.has_ended and poor) else "note",
        title=f"dropout leaves {100 * (1 - dropped):.0f} % of the units",
        cause="dropout",
        suspects=("over-regularized",),
    )


def _strong_decay(curves: TrainingCurves, useless: bool) -> Iterator[Observation]:
    curve, constant = curves.losses.monitored_curve, curves.monitored_constant_loss
    if not weights_shrank(curves):
        return
    last = float(np.median(curve.values[-3:])) if len(curve) else math.inf
    if not useless and (constant is None or last <= constant - CLEAR_GAIN * abs(constant)):
        return
    norms, effects = curves.updates.weight_norm.values, curves.effects.values
    path = SETTING_PATHS[next((name for name in DECAY_NAMES if effects.get(name)), DECAY_NAMES[0])]
    name = "norm of the weights at the end over that at the start"
    yield observe(
        Evidence(name, 100 * float(norms[-1] / norms[0]), "%", limit=100 * SHRUNK_WEIGHTS),
        Evidence("loss", float(curve.values[-1]), limit=constant, text=CONSTANT_LIMIT_TEXT),
        Change(path, "much weaker"),
        where=path,
        severity="warning" if curves.has_ended else "note",
        title="decay shrinks the weights to almost nothing",
        cause="over-regularized",
        suspects=("learning-rate-high",),
    )

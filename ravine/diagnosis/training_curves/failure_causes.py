"""Why a run learned nothing or too little, by its figures, and what to change."""

import numpy as np

from ravine.diagnosis.training_curves.progress import falls_evenly
from ravine.diagnosis.training_curves.series import SETTING_PATHS, TrainingCurves
from ravine.finding import Change, Evidence

CLIPPED_STEPS_FRACTION = 0.99  # share of the steps in which the gradient was clipped
KEPT_NORM_FRACTION = 0.01  # share of the gradient's length that clipping left
DROPPED_UNITS = 0.9  # share
SHRUNK_WEIGHTS = 0.1  # of the weights' norm at the start
LONG_UPDATE = 0.05  # |update| / |weights| of a typical step
SHORT_DISTANCE = 0.05  # of the weights: they hardly moved
SHORT_RUN = 100  # steps
HIGH_RATE_EXCESS_FRACTION = 0.5  # of the constant's loss: so far above it, the rate is too high
FADED_GRADIENT = 1e-4  # of the first gradient
CONSTANT_LIMIT_TEXT = "the limit is that of the best constant answer"
LOWER_LEARNING_RATE = Change("optimizer.lr", "a third to a tenth of the present one")


def likely_causes(curves: TrainingCurves) -> tuple[str, ...]:
    """Why nothing was learned: causes, likeliest first."""
    losses, updates, references = curves.losses, curves.updates, curves.references
    found = []
    clipped = curves.effects.values.get("clip", 0.0) > CLIPPED_STEPS_FRACTION or (
        len(updates.clip_kept) > 2
        and float(np.median(updates.clip_kept.values)) < KEPT_NORM_FRACTION
    )
    if clipped and curves.distance < 1:
        found.append("gradient-clipping")
    if weights_shrank(curves):
        found.append("over-regularized")
    if curves.effects.values.get("dropout", 0.0) > DROPPED_UNITS:
        found.append("dropout")
    pairs = (
        (losses.train_blocks, references.constant_train_loss),
        (losses.validation, references.constant_validation_loss),
    )
    known = [(curve, constant) for curve, constant in pairs if constant is not None and len(curve)]
    late = ((float(np.median(curve.values[-5:])), constant) for curve, constant in known)
    worse = (loss > n + HIGH_RATE_EXCESS_FRACTION * abs(n) for loss, n in late)
    ratios = updates.update_ratio.values
    if any(worse) or (len(ratios) and float(np.median(ratios)) > LONG_UPDATE):
        found.append("learning-rate-high")
    if curves.distance < SHORT_DISTANCE:
        reasons = ["learning-rate-low", "too-few-steps"]
        found += reversed(reasons) if 0 < curves.steps < SHORT_RUN else reasons
    elif falls_evenly(curves):
        found.append("learning-rate-low")
    gradient = updates.gradient_norm.values
    if len(gradient) > 3 and gradient[-1] < FADED_GRADIENT * max(gradient[0], 1e-30):
        found += ["dead-units", "vanishing", "saturation"]
    found += ["labels", "learning-rate-high", "initialization", "input-scale"]
    return tuple(dict.fromkeys(found))


def weights_shrank(curves: TrainingCurves) -> bool:
    """Whether the weights shrank to almost nothing."""
    norms = curves.updates.weight_norm.values
    return len(norms) > 2 and norms[-1] < SHRUNK_WEIGHTS * norms[0]


def distance_evidence(curves: TrainingCurves) -> tuple[Evidence, ...]:
    """How far the weights moved, if it is known."""
    if not len(curves.updates.update_ratio):
        return ()
    text = f"in {curves.steps:,} steps"
    return (Evidence("the weights moved by at most", 100 * curves.distance, "%", text=text),)


def changes_against(cause: str, curves: TrainingCurves | None = None) -> tuple[Change, ...]:
    """What to change in a recipe against a cause; epochs as a number where the run has them."""
    start = Change("network.initializer", {"name": "He"})
    return {
        "learning-rate-high": (LOWER_LEARNING_RATE,),
        "learning-rate-low": (Change("optimizer.lr", "10 times the present one"),),
        "too-few-steps": (Change("epochs", _more_epochs(curves)),),
        "gradient-clipping": (Change("clip", None),),
        "over-regularized": (Change(SETTING_PATHS["weight decay"], 0.0),),
        "dropout": (Change(SETTING_PATHS["dropout"], 0.2),),
        "architecture-too-small": (Change("network.hidden", "wider"),),
        "labels": (Change("data", "check that each row has its own target"),),
        "schedule": (Change("schedule", "one that ends low"),),
        "input-scale": (Change("encoding.scale", "standard"),),
        "batch-size": (Change("batch", "larger"),),
        **dict.fromkeys(("initialization", "dead-units", "vanishing", "saturation"), (start,)),
    }.get(cause, ())


def _more_epochs(curves: TrainingCurves | None) -> int | str:
    """Three times as many epochs as were planned."""
    if curves is None or not curves.plan.steps_per_epoch:
        return "3 times as many"
    return 3 * max(1, round(curves.plan.budget / curves.plan.steps_per_epoch))

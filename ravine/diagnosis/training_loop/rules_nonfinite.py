"""Numbers that are not finite: in the loss, weights and gradients, and in scaled gradients."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ravine.diagnosis.rule import Observation, observe, rule, symptom
from ravine.diagnosis.training_loop.history import LoopHistory, NonFiniteEvent
from ravine.diagnosis.training_loop.nonfinite_origin import NonFiniteOrigin
from ravine.finding import Change, Evidence

GROWN_LOSS_FACTOR = 10.0  # times the first loss
ENDLESS_FALL_FACTOR = 20.0  # times the first loss, or 1 if that is less, that it fell before
GROWN_WEIGHTS_FACTOR = 10.0  # times their norm at first
GROWN_INPUTS_FACTOR = 3.0  # times the median spread of the batches before
MAX_SKIPPED_FRACTION = 0.5
# by the kind of a `NonFiniteOrigin`: the cause, what it is, and what to do
ORIGIN_TEXTS: Mapping[str, tuple[str, str, str]] = {
    "input": (
        "data-degenerate",
        "no weight had a part in it: it came from the data, or from arithmetic on them",
        "without NaN and infinities, and no division by the spread of a constant row",
    ),
    "target": ("data-degenerate", "a target", "targets without NaN and infinities"),
    "class weight": ("loss", "a weight of the loss", "finite weights: no 1 / 0 for a class"),
    "ignored": (
        "data-degenerate",
        "the mean over targets that are all ignored, or all weigh nothing",
        "leave out batches without a target, or divide a sum by max(1, count)",
    ),
    "huge": (
        "data-degenerate",
        "no weight had a part in it: a number so large that its products overflow",
        "scaled or clipped numbers, without placeholders such as 1e30",
    ),
    "empty": ("data-degenerate", "the mean over no numbers", "leave out empty batches"),
    "masked": (
        "data-degenerate",
        "a softmax over places that are all masked",
        "at least one place of every row that is not masked",
    ),
    "quotient": ("loss", "a quotient by 0", "a small number added to the divisor"),
    "logarithm": (
        "loss",
        "a logarithm of 0",
        "nn.CrossEntropyLoss or nn.BCEWithLogitsLoss on logits, finite for all of them",
    ),
    "operation": (
        "loss",
        "a function where it has no value",
        "its argument kept away from where it has no value",
    ),
}


@symptom(
    "RVN-N01",
    "error",
    "learning-rate-high",
    confidence="medium",
    needs="updates 0",
    also="exploding, data-degenerate, loss, input-scale, "
    "optimizer-numerics, output-activation, loss-reduction, target-scale",
)
def nonfinite_numbers(history: LoopHistory) -> Iterator[Observation]:
    event = history.nonfinite
    if event is None:
        return
    reason = _explain(event, history)
    at, since = f"first at step {event.step}", event.step
    if event.what == "weight":  # it was not seen when it was the first
        at, since = "at the end", None
    first = Evidence(f"{event.what} not finite", None, text=at)
    title, evidence = f"the {event.what} is no longer finite", (first, *reason.evidence)
    yield replace(reason, evidence=evidence, where=event.where, since=since, title=title)


def _explain(event: NonFiniteEvent, history: LoopHistory) -> Observation:
    """What explains an event: exact evidence first, then what the losses and weights suggest."""
    grew = event.highest_loss > GROWN_LOSS_FACTOR * max(abs(event.first_loss), 1e-12)
    overflows = event.origin is not None and event.origin.kind == "overflow"
    if event.origin is not None and not overflows and (event.origin.without_weights or not grew):
        return _explain_by_origin(event.origin)
    if event.nonfinite_inputs:
        change = Change("data", "without NaN and infinities")
        inputs = Evidence("inputs of the model not finite", None)
        return observe(inputs, change, cause="data-degenerate", confidence="exact")
    if event.step == 0 and event.what == "loss" and event.where == "loss":
        why = "finite: the loss function makes the number"
        outputs = Evidence("outputs of the model", None, text=why)
        suspects = ("output-activation", "target-scale")
        return observe(outputs, cause="loss", confidence="high", suspects=suspects)
    if event.what == "gradient" and math.isfinite(event.last_loss) and not grew:
        why = "still finite: a root, logarithm or quotient at 0"
        loss = Evidence("loss", event.last_loss, text=why)
        return observe(loss, cause="loss", suspects=("exploding", "learning-rate-high"))
    if event.step == 0:
        return observe(cause="exploding", suspects=("learning-rate-high", "input-scale"))
    usual_batch = event.input_growth is not None and event.input_growth < GROWN_INPUTS_FACTOR
    if not grew and not (overflows and usual_batch) and event.weight_growth < GROWN_WEIGHTS_FACTOR:
        return _explain_without_growth(event)
    return _explain_by_divergence(event, history, grew=grew)


def _explain_by_origin(origin: NonFiniteOrigin) -> Observation:
    """By the operation in the graph of the loss that made the number."""
    cause, why, advice = ORIGIN_TEXTS[origin.kind]
    first = Evidence("the first number that is not finite", None, text=why)
    made_by = Evidence("operation that made it", None, text=origin.operation.lower())
    change = Change("loss" if cause == "loss" else "data", advice)
    suspects = ("loss" if cause == "data-degenerate" else "data-degenerate",)
    sure = "exact" if origin.without_weights else "high"
    return observe(first, made_by, change, cause=cause, confidence=sure, suspects=suspects)


def _explain_without_growth(event: NonFiniteEvent) -> Observation:
    """Steps that are too long show in losses and weights before numbers overflow."""
    cause, suspects = "data-degenerate", ("loss", "exploding", "learning-rate-high")
    if event.where and event.where != "loss":
        cause, suspects = "loss", ("data-degenerate", "exploding", "learning-rate-high")
    text = f"not above {GROWN_LOSS_FACTOR:g} times the first, {event.first_loss:.3g}"
    seen = _highest_loss(event, text), _weight_growth(event)
    return observe(*seen, cause=cause, suspects=suspects)


def _highest_loss(event: NonFiniteEvent, text: str) -> Evidence | None:
    is_known = math.isfinite(event.highest_loss)
    return Evidence("highest loss before", event.highest_loss, text=text) if is_known else None


def _weight_growth(event: NonFiniteEvent) -> Evidence:
    name = "weights when last inspected, over those of the first step"
    return Evidence(name, event.weight_growth, limit=GROWN_WEIGHTS_FACTOR)


def _explain_by_divergence(
    event: NonFiniteEvent, history: LoopHistory, *, grew: bool
) -> Observation:
    """The loss or the weights grew first: steps were too long, or the loss has no least value."""
    fallen = event.first_loss - event.last_loss
    if event.last_loss < 0 and fallen > ENDLESS_FALL_FACTOR * max(1.0, abs(event.first_loss)):
        seen = Evidence("last finite loss", event.last_loss, text=f"first {event.first_loss:.3g}")
        change = Change("loss", "the right sign of each term, and a bound where one is rewarded")
        suspects = ("exploding", "learning-rate-high")
        return observe(seen, change, cause="loss", confidence="high", suspects=suspects)
    suspects = ("exploding", "input-scale", "optimizer-numerics")
    unscaled = (s.gradient for s in history.snapshots if s.loss_scale == 1.0)
    if any(g.passes > 1 and not g.discarded for g in unscaled):
        suspects = ("loss-reduction", *suspects)  # gradients of batches are added, not averaged
    highest = _highest_loss(event, f"the first was {event.first_loss:.3g}")
    shown: list[Evidence | Change] = [highest or _weight_growth(event)]
    if event.lr > 0:  # known
        shown += [Evidence("learning rate", event.lr), Change("lr", event.lr / 10)]
    confidence = "high" if grew else "medium"
    return observe(*shown, cause="learning-rate-high", confidence=confidence, suspects=suspects)


@rule("RVN-L29", "error", "precision", needs="scaler", explains="RVN-N02")
def skipped_steps(history: LoopHistory) -> Iterator[Observation]:
    gradients = history.scaled_gradients
    if gradients.nonfinite > MAX_SKIPPED_FRACTION * gradients.count:
        name = "share of the last scaled gradients that are not finite"
        share, limit = 100 * gradients.nonfinite / gradients.count, 100 * MAX_SKIPPED_FRACTION
        evidence = Evidence(name, round(share, 1), "%", limit=limit, text="their steps are skipped")
        change = Change("loop", "bfloat16 in place of float16, or float32 where numbers grow large")
        yield observe(evidence, change)

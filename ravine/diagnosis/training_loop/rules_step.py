"""Faults within a step: the order of its calls, gradients, modes, clipping, numbers not finite."""

import math
import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, observe, rule, symptom
from ravine.diagnosis.training_loop.history import LoopHistory, StepSnapshot, WatchedParameter
from ravine.finding import Change, Evidence

AGREEING_STEPS = 2  # inspected steps in a row that must show the same
CLIPPING_STEPS = 5  # inspected steps in a row
CLIPPED_FRACTION = 0.01  # of the gradient's norm
SCALER_FACTOR = 256.0  # a loss that is multiplied by more is scaled by a gradient scaler
# of the weights' norm in one step: with less, a thousand steps move them by a tenth at most
MIN_RELATIVE_STEP = 1e-4
UNCHANGED_FRACTION = 0.99  # of the sampled numbers
EQUAL_LOSSES = 8
GROWN_LOSS_FACTOR = 10.0  # times the first loss

# In the letters of `LoopEvent`
NO_GRAPH_STEP = r"N+LS"
CLEARED_BEFORE_STEP = r"B[LSs]*S[s]*$"
BACKWARD_AFTER_STEP = r"(?:F+L?Ss*B+L?){3}"
NO_GRAPH_STEPS = r"(?:N+LSs*){2}"
VALIDATION_PASSES = r"S[LBsFE]*(N{2,})"
SINGLE_VALIDATION_PASS = r"(?:F+L?B+L?Ss*){4,}N(?=F)"


def last_snapshots(history: LoopHistory, count: int) -> Iterator[list[StepSnapshot]]:
    """The last snapshots of each optimizer that has as many."""
    for index in range(history.optimizers):
        snapshots = history.snapshots_of(index)[-count:]
        if len(snapshots) == count:
            yield snapshots


def first_step_without_gradient(history: LoopHistory) -> int | None:
    """The first of the last inspected steps if no watched optimizer had a gradient in any."""
    found = list(last_snapshots(history, AGREEING_STEPS))
    if len(found) < history.optimizers:
        return None
    for snapshot in (s for snapshots in found for s in snapshots):
        if snapshot.has_gradient or snapshot.gradient.norm_after_backward is not None:
            return None
    return found[0][0].step if found else None


@rule("RVN-L01", "error", "zero-grad", needs="snapshots", explains=("RVN-N01",))
def missing_zero_grad(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        # before the first step, there may be gradients of something else
        found = [s for s in history.snapshots_of(index) if s.gradient.accumulated_in and s.step > 0]
        if len(found) >= AGREEING_STEPS:
            gradient = found[-1].gradient
            share = round(100 * gradient.leftover_fraction, 1)
            name = "share of the gradient left over from earlier steps"
            evidence = Evidence(name, share, "%", 0.0, "equal bit for bit")
            change = Change("loop", "optimizer.zero_grad() before loss.backward()")
            yield observe(evidence, change, where=gradient.accumulated_in, since=found[0].step)


@rule(
    "RVN-L02",
    "error",
    "step-order",
    needs="snapshots",
    also=("detached-graph", "parameters-not-in-optimizer"),
    explains=("RVN-N02",),
)
def step_without_gradient(history: LoopHistory) -> Iterator[Observation]:
    if history.loss.missing_graph or re.search(NO_GRAPH_STEP, history.events):
        return  # RVN-L10 and RVN-L11 report a loss without a graph
    if history.graph is not None and history.graph.lacks_parameters:
        return
    step = first_step_without_gradient(history)
    if step is not None:
        evidence = Evidence("inspected steps in a row without any gradient", AGREEING_STEPS, "", 0)
        change = Change("loop", "loss.backward() before optimizer.step()")
        suspects = ("detached-graph", "parameters-not-in-optimizer")
        yield observe(evidence, change, since=step, suspects=suspects)


@rule("RVN-L03", "error", "zero-grad", needs="snapshots", explains=("RVN-N02", "RVN-L02"))
def gradients_cleared_before_step(history: LoopHistory) -> Iterator[Observation]:
    if not re.search(CLEARED_BEFORE_STEP, history.events):
        return
    for snapshots in last_snapshots(history, AGREEING_STEPS):
        gradients = [s.gradient for s in snapshots]
        if any(math.isnan(g.norm_after_backward or 0.0) for g in gradients):
            continue  # a sparse gradient has no norm
        if any(not g.norm_after_backward or g.norm_at_step for g in gradients):
            continue
        if not any(s.has_gradient for s in snapshots):
            after = Evidence("gradient norm after backward", gradients[-1].norm_after_backward)
            at_step = Evidence("gradient norm at the step", gradients[-1].norm_at_step or 0.0)
            change = Change("loop", "zero_grad before backward, or after step")
            yield observe(after, at_step, change, since=snapshots[0].step)


@rule("RVN-L04", "error", "step-order", needs="forward", explains=("RVN-L02", "RVN-L03", "RVN-N02"))
def backward_after_step(history: LoopHistory) -> Iterator[Observation]:
    if re.search(BACKWARD_AFTER_STEP, history.events):
        evidence = Evidence("times in a row that backward came after the step", 3)
        yield observe(evidence, Change("loop", "loss.backward() before optimizer.step()"), since=0)


@rule(
    "RVN-L10",
    "error",
    "detached-graph",
    needs="snapshots",
    explains=("RVN-L02", "RVN-N02", "RVN-L09"),
)
def detached_loss(history: LoopHistory) -> Iterator[Observation]:
    missing, graph = history.loss.missing_graph, history.graph
    if missing == "leaf":
        evidence = Evidence("operations that led to the loss", 0, "", None, "it is a new tensor")
    elif not missing and (graph is None or not graph.lacks_parameters):
        return
    elif first_step_without_gradient(history) is None or re.search(NO_GRAPH_STEP, history.events):
        return  # RVN-L11 reports the second
    else:
        evidence = Evidence("parameters that the loss depends on", 0, "", 1)
    advice = "loss.backward() on the loss as computed: no item(), data, detach(), new tensor"
    yield observe(evidence, Change("loop", advice), since=0)


@rule(
    "RVN-L11",
    "error",
    "detached-graph",
    needs="forward",
    explains=("RVN-L02", "RVN-L10", "RVN-N02", "RVN-L13"),
)
def training_without_graph(history: LoopHistory) -> Iterator[Observation]:
    if re.search(NO_GRAPH_STEPS, history.events):
        name = "steps in a row after a forward pass without a graph"
        change = Change("loop", "no torch.no_grad() around the forward pass")
        yield observe(Evidence(name, 2, "", 0, "no_grad or inference_mode"), change, since=0)


@rule(
    "RVN-L12",
    "error",
    "train-eval-mode",
    needs="forward",
    explains=("RVN-N01",),
    picture="batch-norm-drift",
)
def training_in_evaluation_mode(history: LoopHistory) -> Iterator[Observation]:
    modes = history.model.modes
    steps, was_training = modes.evaluation_steps, modes.was_training
    if steps >= AGREEING_STEPS and modes.in_evaluation:
        severity, before = "error", "after steps in training mode"
        if not was_training:
            severity, before = "warning", "the model never was in training mode"
        in_row = Evidence("steps in a row in evaluation mode", steps, "", 0, before)
        count = Evidence("dropout and batch norm modules", modes.in_evaluation)
        change = Change("loop", "model.train() before training goes on")
        where, since = join_names(modes.names), max(0, history.steps - steps)
        yield observe(in_row, count, change, where=where, since=since, severity=severity)


@rule(
    "RVN-L13",
    "warning",
    "train-eval-mode",
    confidence="high",
    needs="forward",
    picture="dropout-expectation",
)
def validation_in_training_mode(history: LoopHistory) -> Iterator[Observation]:
    modes = history.model.modes
    if not modes.mode_dependent:
        return
    bursts = re.findall(VALIDATION_PASSES, history.events)
    single = re.findall(SINGLE_VALIDATION_PASS, history.events)
    if bursts or len(single) >= 2:
        name = "forward passes without a graph, in training mode"
        without_graph = Evidence(name, len(bursts[0]) if bursts else 1, "", 0, "between steps")
        mode_dependent = Evidence("dropout and batch norm modules", modes.mode_dependent)
        change = Change("loop", "model.eval() before validation, model.train() after")
        yield observe(without_graph, mode_dependent, change, where=join_names(modes.names))


@rule(
    "RVN-L17", "error", "gradient-clipping", needs="steps", also=("precision", "learning-rate-low")
)
def excessive_clipping(history: LoopHistory) -> Iterator[Observation]:
    for snapshots in last_snapshots(history, CLIPPING_STEPS):
        kept = [_kept_fraction(s) for s in snapshots]
        if any(k is None or k >= CLIPPED_FRACTION for k in kept):
            continue
        norms = [math.hypot(*s.gradient_norms.values()) for s in snapshots]
        one_norm = max(norms) <= 1.001 * min(norms)
        if not one_norm and any(s.loss_scale is None for s in snapshots):
            continue  # perhaps a gradient scaler: nobody saw what the loss was multiplied by
        last = snapshots[-1]
        step_size, is_too_small = _step_size(last, norms[-1], history.model.parameters)
        if is_too_small:
            suspects, change = ("learning-rate-low",), Change("clip", "1.0, or none")
            if abs(last.loss_scale or 1.0) >= SCALER_FACTOR:
                change = Change("loop", "scaler.unscale_(optimizer) before clipping")
                suspects = ("precision",)
            left, limit = 100 * (kept[-1] or 0.0), 100 * CLIPPED_FRACTION
            same = "the same at every step" if one_norm else ""
            clipped = Evidence("share of the gradient left after clipping", left, "%", limit)
            norm = Evidence("gradient norm at the step", norms[-1], "", None, same)
            since = snapshots[0].step
            yield observe(clipped, norm, step_size, change, since=since, suspects=suspects)


def _kept_fraction(snapshot: StepSnapshot) -> float | None:
    """The gradient's norm at the step over that after backward; None if one is not known.

    A gradient scaler multiplies the loss and divides the gradient before the step: that is no loss.
    """
    before, after = snapshot.gradient.norm_after_backward, snapshot.gradient.norm_at_step
    if not before or not after or not math.isfinite(before):
        return None
    return after * abs(snapshot.loss_scale or 1.0) / before


def _step_size(
    snapshot: StepSnapshot, norm: float, parameters: tuple[WatchedParameter, ...]
) -> tuple[Evidence, bool]:
    """How large a step is with a gradient of such a norm, and whether that is too little."""
    settings = snapshot.settings
    if settings.kind == "SGD":
        momentum = 1 - min(settings.momentum, 0.999)
        relative = max(settings.lrs) * norm / momentum / max(snapshot.weight_norm, 1e-30)
        shown = Evidence("step over weights", relative, "", MIN_RELATIVE_STEP)
        return shown, relative < MIN_RELATIVE_STEP
    count = sum(math.prod(p.shape) for p in parameters if p.optimizer == snapshot.optimizer)
    size = norm / math.sqrt(max(count, 1))
    limit = 10 * settings.eps
    shown = Evidence("gradient of one number", size, "", limit, "compared with the optimizer's eps")
    return shown, size < limit


@rule(
    "RVN-L19",
    "error",
    "learning-rate-low",
    needs="steps",
    also=("precision",),
    explains=("RVN-N02",),
    picture="range-test",
)
def steps_lost_in_rounding(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        snapshots = history.snapshots_of(index)
        if len(snapshots) < 3:
            continue
        first_lr, last_lr = max(snapshots[0].settings.lrs), max(snapshots[-1].settings.lrs)
        if last_lr > first_lr or last_lr == 0:
            continue  # a warm-up goes on, or RVN-L18 reports the rate of 0
        if all(_is_unchanged(s) for s in snapshots):
            name = "share of the weights that a step does not change"
            share, limit = 100 * (snapshots[-1].unchanged_fraction or 0), 100 * UNCHANGED_FRACTION
            unchanged = Evidence(name, share, "%", limit, "though their gradient is not 0")
            rate = Evidence("learning rate", last_lr)
            change = Change("lr", "10 times higher, or more")
            yield observe(unchanged, rate, change, since=snapshots[0].step, suspects=("precision",))


def _is_unchanged(snapshot: StepSnapshot) -> bool:
    """Whether a step changed next to none of the sampled weights that have a gradient."""
    fraction = snapshot.unchanged_fraction
    return fraction is not None and fraction > UNCHANGED_FRACTION


@symptom(
    "RVN-N01",
    "error",
    "learning-rate-high",
    confidence="medium",
    needs="snapshots",
    also=(
        "exploding",
        "data-degenerate",
        "loss",
        "input-scale",
        "optimizer-numerics",
        "output-activation",
        "loss-reduction",
        "target-scale",
    ),
    picture="range-test",
)
def nonfinite_numbers(history: LoopHistory) -> Iterator[Observation]:
    event = history.nonfinite
    if event is None:
        return
    seen: list[Evidence | Change] = []
    grew = event.highest_loss > GROWN_LOSS_FACTOR * max(abs(event.first_loss), 1e-12)
    cause, confidence, suspects = "exploding", "medium", ("learning-rate-high", "input-scale")
    if event.nonfinite_inputs:
        cause, confidence, suspects = "data-degenerate", "exact", ()
        seen.append(Evidence("inputs of the model not finite", None))
        seen.append(Change("data", "without NaN and infinities"))
    elif event.step == 0 and event.what == "loss" and event.where == "loss":
        cause, confidence, suspects = "loss", "high", ("output-activation", "target-scale")
        why = "finite: the loss function makes the number"
        seen.append(Evidence("outputs of the model", None, "", None, why))
    elif event.what == "gradient" and not grew:
        cause, suspects = "loss", ("exploding", "learning-rate-high")
        why = "still finite: a root, logarithm or quotient at 0"
        seen.append(Evidence("loss", event.last_loss, "", None, why))
    elif event.step > 0:
        cause, confidence = "learning-rate-high", "high" if grew else "medium"
        suspects = ("exploding", "input-scale", "optimizer-numerics")
        unscaled = (s.gradient for s in history.snapshots if s.loss_scale == 1.0)
        if any(g.passes > 1 and not g.discarded for g in unscaled):
            suspects = ("loss-reduction", *suspects)  # gradients of batches are added, not averaged
        first = f"the first was {event.first_loss:.3g}"
        seen.append(Evidence("highest loss before", event.highest_loss, "", None, first))
        if event.lr > 0:  # known
            seen += [Evidence("learning rate", event.lr), Change("lr", event.lr / 10)]
    yield observe(
        Evidence(f"{event.what} not finite", None, "", None, f"first at step {event.step}"),
        *seen,
        where=event.where,
        since=event.step,
        cause=cause,
        confidence=confidence,
        suspects=suspects,
        title=f"the {event.what} is no longer finite",
    )


@symptom(
    "RVN-N02",
    "error",
    "detached-graph",
    confidence="medium",
    needs="snapshots",
    also=("dead-units", "learning-rate-low"),
)
def unchanging_loss(history: LoopHistory) -> Iterator[Observation]:
    losses = history.loss.first[:EQUAL_LOSSES]
    if len(losses) < EQUAL_LOSSES or history.steps < EQUAL_LOSSES:
        return
    if len(set(losses)) > 1 or not math.isfinite(losses[0]):
        return
    last = [snapshots[-1] for snapshots in last_snapshots(history, 1)]
    cause = "detached-graph"
    if not any(s.has_gradient for s in last):
        if any(s.gradient.norm_after_backward is not None for s in last):
            cause = "dead-units"
    elif all(_is_unchanged(s) or max(s.settings.lrs) == 0 for s in last):
        cause = "learning-rate-low"
    if losses[0] == 0 and cause == "dead-units":
        return  # a loss of 0 with a gradient of 0: the task is done
    name, value = "losses in a row that are equal, bit for bit", f"all {losses[0]:.6g}"
    yield observe(Evidence(name, len(losses), "", 1, value), since=0, cause=cause)

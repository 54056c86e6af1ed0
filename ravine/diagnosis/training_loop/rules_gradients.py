"""Faults of gradients and graphs: left over, cleared, missing, summed or clipped, and cut off."""

import math
import re
from collections.abc import Iterator
from dataclasses import replace

from ravine.diagnosis.op_names import ELEMENTWISE_LOSS_NODES
from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.autograd_graph import UNNAMED_PARAMETER
from ravine.diagnosis.training_loop.history import LoopHistory, StepSnapshot, WatchedParameter
from ravine.finding import Change, Evidence

AGREEING_STEPS = 2  # inspected steps in a row that must show the same
CLIPPING_STEPS = 5  # inspected steps in a row
CLIPPED_FRACTION = 0.01  # of the gradient's norm
SCALER_FACTOR = 256.0  # a loss that is multiplied by more is scaled by a gradient scaler
# of the weights' norm in one step: with less, a thousand steps move them by a tenth at most
MIN_RELATIVE_STEP = 1e-4
DISCARDING_STEPS = 3  # inspected steps in which gradients were discarded or summed
RATE_BY_GRADIENT = ("SGD", "ASGD")  # a gradient of half the size makes half the step
DIVIDED_LOSSES = ELEMENTWISE_LOSS_NODES | {
    "NllLoss",
    "BinaryCrossEntropy",
    "BinaryCrossEntropyWithLogits",
}
IDLE_PASSES = 20  # backward passes without a step
MIN_RUN_STEPS, FEW_STEPS = 4, 20  # of a whole run
MANY_PASSES = 8  # backward passes to a step
STEADY_FRACTION = 0.5  # of the largest fall from step to step: a loss that falls by more goes on
FAR_FRACTION = 0.5  # of the loss at first: most of it is still there
UNDIVIDED_PASSES = 3  # backward passes to a step, where no division shows that they belong together

# In the letters of `LoopEvent`
NO_GRAPH_STEP = r"N+LS"
CLEARED_BEFORE_STEP = r"B[LSs]*S[s]*$"
BACKWARD_AFTER_STEP = r"(?:F+L?Ss*B+L?){3}"
NO_GRAPH_STEPS = r"(?:N+LSs*){2}"


@rule("RVN-L01", "error", "zero-grad", needs=f"snapshots {AGREEING_STEPS}", explains="RVN-N01")
def missing_zero_grad(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        # before the first step, there may be gradients of something else
        found = [s for s in history.snapshots_of(index) if s.gradient.accumulated_in and s.step > 0]
        if len(found) >= AGREEING_STEPS:
            gradient = found[-1].gradient
            share = round(100 * gradient.leftover_fraction, 1)
            name = "share of the gradient left over from earlier steps"
            evidence = Evidence(name, share, "%", limit=0.0, text="equal bit for bit")
            change = Change("loop", "optimizer.zero_grad() before loss.backward()")
            yield observe(evidence, change, where=gradient.accumulated_in, since=found[0].step)


@rule(
    "RVN-L02",
    "error",
    "step-order",
    needs=f"snapshots {AGREEING_STEPS}",
    also="detached-graph, parameters-not-in-optimizer",
    explains="RVN-N02",
)
def step_without_gradient(history: LoopHistory) -> Iterator[Observation]:
    if history.loss.missing_graph or re.search(NO_GRAPH_STEP, history.events):
        return  # RVN-L10 and RVN-L11 report a loss without a graph
    if history.graph is not None and history.graph.lacks_parameters:
        return
    step = first_step_without_gradient(history)
    if step is not None:
        name = "inspected steps in a row without any gradient"
        evidence = Evidence(name, AGREEING_STEPS, limit=0)
        change = Change("loop", "loss.backward() before optimizer.step()")
        suspects = ("detached-graph", "parameters-not-in-optimizer")
        yield observe(evidence, change, since=step, suspects=suspects)


@rule(
    "RVN-L03",
    "error",
    "zero-grad",
    needs=f"snapshots {AGREEING_STEPS}",
    explains="RVN-N02, RVN-L02",
)
def gradients_cleared_before_step(history: LoopHistory) -> Iterator[Observation]:
    if not re.search(CLEARED_BEFORE_STEP, history.events):
        return
    for snapshots in history.last_snapshots(AGREEING_STEPS):
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


@rule("RVN-L04", "error", "step-order", needs="forward", explains="RVN-L02, RVN-L03, RVN-N02")
def backward_after_step(history: LoopHistory) -> Iterator[Observation]:
    if re.search(BACKWARD_AFTER_STEP, history.events):
        evidence = Evidence("times in a row that backward came after the step", 3)
        yield observe(evidence, Change("loop", "loss.backward() before optimizer.step()"), since=0)


@rule(
    "RVN-L17",
    "error",
    "gradient-clipping",
    needs=f"steps, snapshots {CLIPPING_STEPS}",
    also="precision, learning-rate-low",
)
def excessive_clipping(history: LoopHistory) -> Iterator[Observation]:
    for snapshots in history.last_snapshots(CLIPPING_STEPS):
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
            clipped = Evidence("share of the gradient left after clipping", left, "%", limit=limit)
            norm = Evidence("gradient norm at the step", norms[-1], text=same)
            since = snapshots[0].step
            yield observe(clipped, norm, step_size, change, since=since, suspects=suspects)


@rule(
    "RVN-L31",
    "warning",
    "gradient-clipping",
    needs=f"steps, snapshots {CLIPPING_STEPS}",
    also="step-order",
    explains="RVN-N01, RVN-T02, RVN-T03, RVN-T04",
)
def idle_clipping(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        found = [s for s in history.snapshots_of(index) if s.gradient.norm_after_backward]
        last = found[-CLIPPING_STEPS:]
        if len(last) < CLIPPING_STEPS or any(s.acting_clip_calls or not s.clip_calls for s in last):
            continue
        name = "inspected steps in a row whose clipping got none of their gradients"
        change = Change("loop", "clip between loss.backward() and optimizer.step()")
        yield observe(Evidence(name, len(last), limit=0), change, since=last[0].step)
        return


def _kept_fraction(snapshot: StepSnapshot) -> float | None:
    """The gradient's norm at the step over that after backward; None if one is not known. A
    gradient scaler multiplies the loss and divides the gradient before the step: that is no loss.
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
        step_size = Evidence("step over weights", relative, limit=MIN_RELATIVE_STEP)
        return step_size, relative < MIN_RELATIVE_STEP
    count = sum(math.prod(p.shape) for p in parameters if p.optimizer == snapshot.optimizer)
    size = norm / math.sqrt(max(count, 1))
    limit = 10 * settings.eps
    eps = "compared with the optimizer's eps"
    return Evidence("gradient of one number", size, limit=limit, text=eps), size < limit


@rule(
    "RVN-L21", "error", "zero-grad", needs=f"steps, snapshots {DISCARDING_STEPS}", also="step-order"
)
def discarded_gradients(history: LoopHistory) -> Iterator[Observation]:
    if not history.single_optimizer:
        # a backward pass for another optimizer leaves gradients that are rightly cleared
        return
    lost = [s for s in history.snapshots if s.gradient.lost]
    never = set[str]().union(*(s.gradient.lost for s in lost))
    never -= {n for s in history.snapshots for n, norm in s.gradient_norms.items() if norm}
    if never and len(lost) >= max(DISCARDING_STEPS, len(history.snapshots) / 2):
        of_all = f"{join_names(n for n in lost[-1].gradient.lost if n in never)}"
        cleared = Evidence("parameters whose gradient is cleared unused", len(never), limit=0)
        change = Change("loop", "zero_grad once for each step, before all backward passes")
        yield observe(cleared, change, where=of_all, since=lost[0].step)
        return
    found = [s for s in history.snapshots if 0 < s.gradient.discarded == s.gradient.passes - 1]
    found = [s for s in found if s.gradient.lost_terms or s.losses >= s.gradient.passes]
    if len(found) < max(DISCARDING_STEPS, len(history.snapshots) / 2):
        return
    if UNNAMED_PARAMETER in history.loss.parameters:
        return  # perhaps inputs, whose gradient makes them adversarial
    last, passes, scale = found[-1].gradient, found[-1].gradient.passes, found[-1].loss_scale
    if last.lost_terms or passes >= UNDIVIDED_PASSES or _are_inverse(scale, passes):
        advice = "zero_grad once for each step, and a step for each backward pass or for all"
        effect = "only the gradient of the last one is used"
        backward = Evidence("backward passes to a step", passes, text=effect)
        cleared = Evidence("gradients that are cleared unused", last.discarded, limit=0)
        yield observe(backward, cleared, Change("loop", advice), since=found[0].step)


@rule(
    "RVN-L23",
    "note",
    "loss-reduction",
    needs=f"steps, snapshots {DISCARDING_STEPS}",
    also="learning-rate-high, learning-rate-low",
)
def summed_gradients(history: LoopHistory) -> Iterator[Observation]:
    if not history.single_optimizer:
        return
    known = [s for s in history.snapshots if s.losses == s.gradient.passes > 1]
    known = [s for s in known if not s.gradient.discarded and s.loss_scale is not None]
    known = [s for s in known if s.settings.kind != "LBFGS"]  # its closure is called many times
    found = [s for s in known if s.loss_scale == 1.0]
    if len(found) >= DISCARDING_STEPS and history.loss.kind:
        name, why = "gradients that are added for a step", "each of the mean loss of a batch"
        yield observe(
            Evidence(name, found[-1].gradient.passes, limit=1, text=why), since=found[0].step
        )
    graph = history.graph
    if graph is None:
        return
    # as reported the loss is a mean loss over the passes, and backward divides once more
    first = graph.nodes[0]
    is_mean_loss = first.inputs and graph.nodes[first.inputs[0]].name in DIVIDED_LOSSES
    twice = [s for s in known if _are_inverse(s.loss_scale, s.gradient.passes)]
    twice = [s for s in twice if is_mean_loss and _are_inverse(first.factor, s.gradient.passes)]
    if len(twice) >= DISCARDING_STEPS and twice[-1].settings.kind in RATE_BY_GRADIENT:
        passes = twice[-1].gradient.passes
        why = f"by {passes} before it is reported, and by {passes} after"
        yield observe(
            Evidence("divisions of the loss by the number of batches", 2, limit=1, text=why),
            Evidence("gradients that are added for a step", passes),
            Change("loop", "the loss divided once by the number of batches"),
            since=twice[0].step,
            severity="warning",
            title="the loss is divided twice by the number of batches of a step",
            suspects=("learning-rate-low",),
        )


def _are_inverse(scale: float | None, passes: int) -> bool:
    return scale is not None and abs(scale * passes - 1) < 1e-3


@rule(
    "RVN-L34",
    "error",
    "step-order",
    needs="optimizer",
    also="parameters-not-in-optimizer, too-few-steps, batch-size",
    explains="RVN-T02, RVN-N02",
)
def idle_optimizer(history: LoopHistory) -> Iterator[Observation]:
    for index, passes in history.idle_optimizers.items():
        if passes >= IDLE_PASSES:
            made = Evidence("steps of the optimizer", 0, limit=1)
            arrived = Evidence("backward passes that reached its parameters", passes)
            change = Change("loop", "step() of this optimizer after loss.backward()")
            where = f"optimizer {index}" if history.optimizers > 1 else ""
            suspects = ("parameters-not-in-optimizer",)
            yield observe(made, arrived, change, where=where, since=0, suspects=suspects)
            return
    steps, passes = history.steps, [s.gradient.passes for s in history.snapshots]
    if not (history.ended and passes and MIN_RUN_STEPS <= steps <= FEW_STEPS):
        return
    kind, means = history.snapshots[-1].settings.kind, history.loss.summary.stretch_means(steps)
    falls = [before - after for before, after in zip(means, means[1:], strict=False)] or [0.0]
    is_falling = min(falls) > 0 and falls[-1] > STEADY_FRACTION * max(falls)
    is_far = is_falling and means[-1] > FAR_FRACTION * means[0]
    is_plain = history.single_optimizer and kind not in ("", "LBFGS")
    if min(passes) >= MANY_PASSES and is_far and is_plain:
        made = Evidence("steps of the optimizer in the whole run", steps, limit=FEW_STEPS)
        arrived = Evidence("backward passes to a step", min(passes), limit=MANY_PASSES)
        advice = Change("loop", "step() and zero_grad() after fewer backward passes")
        title = "the optimizer steps so seldom that the loss has hardly begun to fall"
        cause, suspects, sure = "too-few-steps", ("step-order", "batch-size"), "medium"
        observed = observe(made, arrived, advice, title=title, cause=cause, suspects=suspects)
        yield replace(observed, severity="warning", confidence=sure)


def first_step_without_gradient(history: LoopHistory) -> int | None:
    """The first of the last inspected steps if no watched optimizer had a gradient in any."""
    found = list(history.last_snapshots(AGREEING_STEPS))
    if len(found) < history.optimizers:
        return None
    for snapshot in (s for snapshots in found for s in snapshots):
        if snapshot.has_gradient or snapshot.gradient.norm_after_backward is not None:
            return None
    return found[0][0].step if found else None


@rule("RVN-L10", "error", "detached-graph", needs="snapshots", explains="RVN-L02, RVN-N02, RVN-L09")
def detached_loss(history: LoopHistory) -> Iterator[Observation]:
    missing, graph = history.loss.missing_graph, history.graph
    title = ""
    if missing == "leaf":
        evidence = Evidence("operations that led to the loss", 0, text="it is a new tensor")
    elif not missing and (graph is None or not graph.lacks_parameters):
        learns = any(s.has_gradient for s in history.snapshots)
        if graph is None or learns or graph.rounded_parameters != graph.parameters:
            return
        title = "the loss depends on the parameters only through rounding"
        evidence = Evidence("gradient of every parameter", 0.0, text="rounding has no slope")
    elif first_step_without_gradient(history) is None or re.search(NO_GRAPH_STEP, history.events):
        return  # RVN-L11 reports the second
    else:
        evidence = Evidence("parameters that the loss depends on", 0, limit=1)
    advice = "loss.backward() on the loss as computed: no item(), data, detach(), new tensor"
    advice = "the loss of outputs that are not rounded" if title else advice
    yield observe(evidence, Change("loop", advice), since=0, title=title)


@rule(
    "RVN-L11",
    "error",
    "detached-graph",
    needs="forward",
    explains="RVN-L02, RVN-L10, RVN-N02, RVN-L13",
)
def training_without_graph(history: LoopHistory) -> Iterator[Observation]:
    norms = [s.gradient_norms for s in list(history.snapshots)[-2:] if s.has_gradient]
    by_hand = len(norms) == 2 and norms[0] != norms[1]  # gradients that are estimated, as by SPSA
    if re.search(NO_GRAPH_STEPS, history.events) and not by_hand:
        name = "steps in a row after a forward pass without a graph"
        change = Change("loop", "no torch.no_grad() around the forward pass")
        yield observe(Evidence(name, 2, limit=0, text="no_grad or inference_mode"), change, since=0)


@rule("RVN-L25", "warning", "detached-graph", confidence="high", needs="graph")
def detached_recurrent_state(history: LoopHistory) -> Iterator[Observation]:
    change = Change("model", "no detach() on the state within a sequence")
    for state in history.model.detached_states:
        only_last, calls = state.loss_calls == 1, state.detached_calls
        detached = Evidence("calls on its own output", calls, limit=0, text="all of them detached")
        in_loss = Evidence("calls that the loss depends on", state.loss_calls, limit=calls + 1)
        severity, advice = ("", change) if only_last else ("note", None)
        yield observe(detached, in_loss, advice, where=state.where, since=0, severity=severity)

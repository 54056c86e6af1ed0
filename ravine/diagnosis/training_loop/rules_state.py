"""Faults between steps: overwritten weights, gradients and states, odd inputs, a wrong sign."""

import math
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.autograd_graph import UNNAMED_PARAMETER
from ravine.diagnosis.training_loop.history import LoopHistory, StepSnapshot
from ravine.finding import Change, Evidence

MIN_OVERWRITES = 2
# times in a row that the same weights were loaded: a patient loop that goes back to its best
# weights does so less often
MIN_RELOADS = 10
DISCARDING_STEPS = 3  # inspected steps in which gradients were discarded or summed
UNDIVIDED_PASSES = 3  # backward passes to a step, where no division shows that they belong together
REPEATED_INPUTS = 12  # inspected steps with the same inputs
ZERO_GROUP_STEPS = 10
STALE_STEPS = 3  # inspected steps in a row
STALE_FACTOR = 100.0  # of the second moments over the largest gradient
DRIFT_FACTOR = 30.0  # by which inputs may grow or shrink while training
DRIFT_SNAPSHOTS = 6
WIDE_INPUTS, NARROW_INPUTS = 30.0, 0.03  # standard deviations that are worth a note
MAX_SKIPPED_FRACTION = 0.5


@rule(
    "RVN-L20",
    "error",
    "initialization",
    confidence="high",
    needs="steps",
    also=("step-order", "optimizer"),
)
def overwritten_weights(history: LoopHistory) -> Iterator[Observation]:
    overwrites = history.model.overwrites
    others = overwrites.other + overwrites.repeated + overwrites.clamped
    title, severity, confidence = "", "", ""
    changes = (Change("loop", "no load_state_dict and no initialization within the loop"),)
    if overwrites.to_start >= MIN_OVERWRITES:
        name = "times that the weights were reset to their start, bit for bit"
        times = Evidence(name, overwrites.to_start, "", 0)
    elif overwrites.unrelated >= MIN_OVERWRITES:
        name = "times that the weights were replaced by unrelated numbers"
        times = Evidence(name, overwrites.unrelated, "", 0)
        title, severity = "the weights are initialized again between steps", "warning"
    elif overwrites.repeated >= MIN_RELOADS:
        name = "times in a row that the same weights were loaded, bit for bit"
        times = Evidence(name, overwrites.repeated, "", MIN_RELOADS)
        title, severity = "the same weights are loaded again and again", "warning"
        confidence, changes = "medium", ()
    elif others >= MIN_OVERWRITES:
        times = Evidence("times that the weights were not as the optimizer left them", others)
        title, severity = "something else than the optimizer writes the weights", "note"
        if overwrites.clamped > overwrites.other + overwrites.repeated:
            title = "the weights are clamped to a range between steps"
        changes = ()
    else:
        return
    yield observe(
        times,
        Evidence("steps from the first time to the last", overwrites.interval),
        *changes,
        where=overwrites.where,
        since=overwrites.first_step,
        title=title,
        severity=severity,
        confidence=confidence,
    )


@rule("RVN-L21", "error", "zero-grad", needs="steps", also=("step-order",))
def discarded_gradients(history: LoopHistory) -> Iterator[Observation]:
    if not history.single_optimizer:
        # a backward pass for another optimizer leaves gradients that are rightly cleared
        return
    found = [s for s in history.snapshots if _discards_all_but_one(s)]
    if len(found) < DISCARDING_STEPS:
        return
    last, passes, scale = found[-1].gradient, found[-1].gradient.passes, found[-1].loss_scale
    divided = scale is not None and abs(scale * passes - 1) < 1e-3
    if passes >= UNDIVIDED_PASSES or divided:
        advice = "zero_grad once for each step, and a step for each backward pass or for all"
        effect = "only the gradient of the last one is used"
        backward = Evidence("backward passes to a step", passes, "", None, effect)
        cleared = Evidence("gradients that are cleared unused", last.discarded, "", 0)
        yield observe(backward, cleared, Change("loop", advice), since=found[0].step)


def _discards_all_but_one(snapshot: StepSnapshot) -> bool:
    gradient = snapshot.gradient
    return 0 < gradient.discarded == gradient.passes - 1 and snapshot.losses >= gradient.passes


@rule("RVN-L23", "note", "loss-reduction", needs="steps", also=("learning-rate-high",))
def summed_gradients(history: LoopHistory) -> Iterator[Observation]:
    if not history.single_optimizer or not history.loss.kind:
        return
    found = [s for s in history.snapshots if s.losses == s.gradient.passes > 1]
    found = [s for s in found if not s.gradient.discarded and s.loss_scale == 1.0]
    if len(found) >= DISCARDING_STEPS:
        name, why = "gradients that are added for a step", "each of the mean loss of a batch"
        yield observe(Evidence(name, found[-1].gradient.passes, "", 1, why), since=found[0].step)


@rule(
    "RVN-L22",
    "note",
    "shuffling",
    confidence="medium",
    needs="inputs",
    also=("randomness", "overfitting"),
)
def repeated_batch(history: LoopHistory) -> Iterator[Observation]:
    inputs = history.inputs
    if inputs.identical < max(REPEATED_INPUTS, inputs.count):
        return
    name, steps = "inspected steps, all with the same inputs", f"in {history.steps} steps"
    equal = Evidence(name, inputs.count, "", None, steps)
    rows, about = Evidence("examples in them", inputs.rows), {"since": inputs.first_step}
    if inputs.table_rows <= 0:
        yield observe(equal, rows, **about)
        return
    table = Evidence("examples in the table they come from", inputs.table_rows)
    change, suspects = Change("loop", "the next batch for each step"), ("randomness", "overfitting")
    yield observe(equal, rows, table, change, severity="warning", suspects=suspects, **about)


@rule(
    "RVN-L24",
    "warning",
    "optimizer",
    confidence="high",
    needs="steps",
    also=("optimizer-numerics", "learning-rate-low"),
)
def stale_optimizer_state(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        snapshots = history.snapshots_of(index)[-STALE_STEPS:]
        moments = [s.second_moment for s in snapshots if s.largest_gradient > 0]
        moments = [moment for moment in moments if moment is not None]
        if len(moments) < STALE_STEPS:
            continue
        largest = snapshots[-1].largest_gradient
        limits = [STALE_FACTOR * max(largest, 100 * s.settings.eps) for s in snapshots]
        if all(moment > limit for moment, limit in zip(moments, limits, strict=True)):
            name, limit = "largest root mean square of the gradient", moments[-1] / STALE_FACTOR
            moment = Evidence("root of the optimizer's second moments", moments[-1])
            gradient = Evidence(name, largest, "", limit)
            change = Change("loop", "a new optimizer, or the state that belongs to these weights")
            since, suspects = snapshots[0].step, ("optimizer-numerics", "learning-rate-low")
            yield observe(moment, gradient, change, since=since, suspects=suspects)


@rule("RVN-L25", "warning", "detached-graph", confidence="high", needs="graph")
def detached_recurrent_state(history: LoopHistory) -> Iterator[Observation]:
    change = Change("model", "no detach() on the state within a sequence")
    for state in history.model.detached_states:
        only_last, calls = state.loss_calls == 1, state.detached_calls
        detached = Evidence("calls on its own output", calls, "", 0, "all of them detached")
        in_loss = Evidence("calls that the loss depends on", state.loss_calls, "", calls + 1)
        severity, advice = ("", change) if only_last else ("note", None)
        yield observe(detached, in_loss, advice, where=state.where, since=0, severity=severity)


@rule(
    "RVN-L26", "warning", "input-scale", confidence="high", needs="inputs", picture="scaling-table"
)
def drifting_input_scale(history: LoopHistory) -> Iterator[Observation]:
    stds = [(step, std) for step, std in history.inputs.stds if std > 0]
    if len(stds) < DRIFT_SNAPSHOTS or not all(math.isfinite(std) for _, std in stds):
        return
    for sign in (1, -1):
        logs = [sign * math.log(std) for _, std in stds]
        steps = [b - a for a, b in zip(logs, logs[1:], strict=False)]
        falls, rises = sum(step < -0.05 for step in steps), any(step > 0.5 for step in steps)
        far = logs[0] - logs[-1] > math.log(DRIFT_FACTOR) and logs[-1] < min(logs[:-2])
        if far and falls >= 3 and not rises:
            place = next(i for i, value in enumerate(logs) if logs[0] - value > math.log(2))
            at_first = Evidence("standard deviation of the inputs at first", stds[0][1])
            now = Evidence("now", stds[-1][1], "", None, "steadily in one direction")
            change = Change("data", "scaled once, before the loop, into a new tensor")
            yield observe(at_first, now, change, since=stds[place][0])


@rule("RVN-L27", "note", "input-scale", confidence="low", needs="inputs", picture="scaling-table")
def unusual_input_scale(history: LoopHistory) -> Iterator[Observation]:
    inputs = history.inputs
    if len(inputs.stds) < REPEATED_INPUTS or not inputs.std > 0:
        return
    std = sorted(std for _, std in inputs.stds)[len(inputs.stds) // 2]
    if math.isfinite(std) and (std > WIDE_INPUTS or 0 < std < NARROW_INPUTS):
        limit = WIDE_INPUTS if std > WIDE_INPUTS else NARROW_INPUTS
        scale = Evidence("standard deviation of the inputs", std, "", limit)
        yield observe(scale, Evidence("their mean", inputs.mean))


@rule(
    "RVN-L28",
    "error",
    "optimizer",
    confidence="high",
    needs="graph",
    also=("loss",),
    explains=("RVN-N01", "RVN-T03", "RVN-T02"),
)
def maximized_loss(history: LoopHistory) -> Iterator[Observation]:
    if not history.single_optimizer or not history.snapshots or history.graph is None:
        return
    maximize = history.snapshots[-1].settings.maximize
    parameters, loss = history.graph.parameters, history.loss
    trained = {p.name for p in history.model.parameters if p.optimizer == 0 and p.in_model}
    if UNNAMED_PARAMETER in parameters or not parameters <= trained:
        return  # perhaps inputs are changed on purpose so that the loss is large
    if not (loss.negated or loss.kind) or maximize == loss.negated:
        return
    cause, suspect, title = "optimizer", "loss", "the optimizer maximizes the loss"
    change = Change("optimizer", "maximize=False")
    if loss.negated:
        cause, suspect, title = "loss", "optimizer", "the loss has the wrong sign"
        change = Change("loop", "the loss without its minus")
    recent = loss.summary.stretch_means(4)
    yield observe(
        Evidence("maximize of the optimizer", float(maximize)),
        Evidence("loss at first", loss.first[0] if loss.first else None),
        Evidence("loss of the last steps", recent[-1] if recent else None),
        change,
        since=0,
        cause=cause,
        title=title,
        suspects=(suspect,),
    )


@rule("RVN-L29", "error", "precision", needs="scaler", explains=("RVN-N02",))
def skipped_steps(history: LoopHistory) -> Iterator[Observation]:
    gradients = history.scaled_gradients
    if gradients.nonfinite > MAX_SKIPPED_FRACTION * gradients.count:
        name = "share of the last scaled gradients that are not finite"
        share, limit = 100 * gradients.nonfinite / gradients.count, 100 * MAX_SKIPPED_FRACTION
        evidence = Evidence(name, round(share, 1), "%", limit, "their steps are skipped")
        change = Change("loop", "bfloat16 in place of float16, or float32 where numbers grow large")
        yield observe(evidence, change)


@rule(
    "RVN-L30",
    "error",
    "learning-rate-low",
    confidence="high",
    needs="steps",
    also=("frozen-parameters", "schedule"),
)
def zero_rate_group(history: LoopHistory) -> Iterator[Observation]:
    if not history.snapshots or history.steps < ZERO_GROUP_STEPS:
        return
    if history.rates.highest == 0 or history.rates.now == 0:
        return  # RVN-L18 reports a rate of 0 in all groups
    own = [p for p in history.model.parameters if p.in_model and p.trainable]
    still = [p for p in own if p.zero_lr and p.received_gradient]
    untrained = sum(p.default_initialized for p in still)
    if untrained:
        name = "parameters with gradients in a group at a learning rate of 0"
        count = Evidence(name, len(still), "", 0)
        as_initialized = Evidence("of these, matrices still as initialized", untrained, "", 0)
        change = Change("optimizer", "a learning rate above 0 for every group")
        where, suspects = join_names(p.name for p in still), ("frozen-parameters", "schedule")
        yield observe(count, as_initialized, change, where=where, since=0, suspects=suspects)

"""Faults of steps: settings, lost or stale states, weights overwritten or not changed."""

import math
from collections.abc import Iterator

import numpy as np

from ravine.diagnosis.op_names import AFFINE_NODES
from ravine.diagnosis.rule import Observation, observe, rule, symptom
from ravine.diagnosis.training_loop.autograd_graph import UNNAMED_PARAMETER
from ravine.diagnosis.training_loop.history import InputHistory, LoopHistory, StepSnapshot
from ravine.finding import Change, Evidence

STALE_STEPS = 3  # inspected steps in a row
STALE_FACTOR = 100.0  # of the second moments over the largest gradient
MIN_LOST_STATES = 3  # after the first step; warm restarts lose one now and then
LARGE_EPSILON = 1e-3  # usual are 1e-8 to 1e-5
EPSILON_RATIO = 10.0  # over the root of the second moments: beside it they hardly count
SLOW_RATE = 0.1  # lr / epsilon, the rate of the gradient descent that is left
EPSILON_STEPS = 6  # inspected steps in a row
LOW_ADADELTA_RATE = 0.01  # its default is 1
MIN_OVERWRITES = 2
MIN_RELOADS = 10  # in a row: a patient loop goes back to its best weights less often
CUT_FRACTION = 0.5  # of the weights
UNCHANGED_FRACTION = 0.99  # of the sampled numbers
EQUAL_LOSSES = 8
MIN_UNCHANGED_STEPS = 3
UNBOUNDED_NODES = frozenset({*AFFINE_NODES, "Split", "SplitWithSizes"})


@rule(
    "RVN-L24",
    "warning",
    "optimizer",
    confidence="high",
    needs=f"steps, snapshots {STALE_STEPS}",
    also=("optimizer-numerics", "learning-rate-low"),
)
def stale_optimizer_state(history: LoopHistory) -> Iterator[Observation]:
    for snapshots in history.last_snapshots(STALE_STEPS):
        moments = [s.second_moment for s in snapshots if s.largest_gradient > 0]
        moments = [moment for moment in moments if moment is not None]
        if len(moments) < STALE_STEPS:
            continue
        largest = snapshots[-1].largest_gradient
        limits = [STALE_FACTOR * max(largest, 100 * s.settings.eps) for s in snapshots]
        if all(moment > limit for moment, limit in zip(moments, limits, strict=True)):
            name, limit = "largest root mean square of the gradient", moments[-1] / STALE_FACTOR
            moment = Evidence("root of the optimizer's second moments", moments[-1])
            gradient = Evidence(name, largest, limit=limit)
            change = Change("loop", "a new optimizer, or the state that belongs to these weights")
            since, suspects = snapshots[0].step, ("optimizer-numerics", "learning-rate-low")
            yield observe(moment, gradient, change, since=since, suspects=suspects)


@rule(
    "RVN-L38",
    "warning",
    "optimizer",
    confidence="high",
    needs="optimizer",
    also=("learning-rate-high", "learning-rate-low"),
)
def lost_optimizer_state(history: LoopHistory) -> Iterator[Observation]:
    if history.model.lost_states >= MIN_LOST_STATES:
        name = "steps after the first that began without the optimizer's state"
        lost = Evidence(name, history.model.lost_states, limit=MIN_LOST_STATES)
        change = Change("loop", "one optimizer for the whole run, made before the loop")
        yield observe(lost, change, since=1, suspects=("learning-rate-high", "learning-rate-low"))


@rule(
    "RVN-L39",
    "warning",
    "optimizer-numerics",
    confidence="high",
    needs=f"steps, snapshots {EPSILON_STEPS}",
    also=("learning-rate-low", "optimizer"),
)
def large_epsilon(history: LoopHistory) -> Iterator[Observation]:
    for snapshots in history.last_snapshots(EPSILON_STEPS):
        least = min(s.settings.eps for s in snapshots)
        ratios = [s.settings.eps / s.second_moment for s in snapshots if s.second_moment]
        if len(ratios) == EPSILON_STEPS and least >= LARGE_EPSILON and min(ratios) > EPSILON_RATIO:
            name = "epsilon over the root of the optimizer's second moments"
            ratio = Evidence(name, min(ratios), limit=EPSILON_RATIO)
            since, suspects = snapshots[0].step, ("learning-rate-low", "optimizer")
            change = Change("optimizer", "eps=1e-8")
            # a large one may be meant, with a rate to match
            is_slow = max(snapshots[-1].settings.lrs) < SLOW_RATE * least
            severity = "" if is_slow else "note"
            yield observe(ratio, change, since=since, suspects=suspects, severity=severity)


@rule(
    "RVN-L40", "warning", "optimizer", confidence="high", needs="steps", also=("learning-rate-low",)
)
def unfit_optimizer_setting(history: LoopHistory) -> Iterator[Observation]:
    inputs = history.inputs
    for (snapshot,) in history.last_snapshots(1):
        kind, betas, lr = (
            snapshot.settings.kind,
            snapshot.settings.betas,
            max(snapshot.settings.lrs),
        )
        if len(betas) == 2 and betas[0] >= math.sqrt(betas[1]):
            decay = Evidence("decay of the first moment", betas[0], limit=math.sqrt(betas[1]))
            yield observe(decay, Change("optimizer", "betas=(0.9, 0.999)"), since=0)
        elif kind == "Rprop" and inputs.count > max(1, inputs.identical) and not _is_whole(inputs):
            batch = Evidence("examples in a batch, which changes", inputs.rows)
            yield observe(batch, Change("optimizer", "adam"), since=0)
        elif kind == "Adadelta" and lr <= LOW_ADADELTA_RATE:
            rate = Evidence("learning rate of Adadelta", lr, limit=LOW_ADADELTA_RATE)
            yield observe(rate, Change("lr", 1.0), since=0, cause="learning-rate-low")


def _is_whole(inputs: InputHistory) -> bool:
    """Whether a batch has the same examples each time, in any order: their mean and spread stay."""
    readings = np.array([(reading.mean, reading.std) for reading in inputs.readings])
    return len(readings) > 1 and np.allclose(readings, readings[0], rtol=1e-4, atol=1e-6)


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
    maximize, graph = history.snapshots[-1].settings.maximize, history.graph
    parameters, loss = graph.parameters, history.loss
    trained = {p.name for p in history.model.parameters if p.optimizer == 0 and p.in_model}
    if UNNAMED_PARAMETER in parameters or not parameters <= trained:
        return  # perhaps inputs are changed on purpose so that the loss is large
    falls = (
        graph.nodes[graph.scores_of(graph.nodes[place].inputs[0])[0]].name in UNBOUNDED_NODES
        for place, factor in graph.terms(("Sum", "Mean"))
        if graph.nodes[place].name == "Exp" and (factor < 0)
    )
    recent = loss.summary.stretch_means(4)
    is_falling = bool(recent) and not maximize and recent[-1] < min(0.0, recent[0])
    if is_falling and history.ended and any(falls):
        title = "a part of the loss has the wrong sign: the loss falls without end"
        last = Evidence("loss of the last steps", recent[-1], text=f"{recent[0]:.3g} at first")
        change = Change("loss", "the other sign before exp, as of the variance in a KL divergence")
        yield observe(last, change, since=0, title=title, cause="loss", suspects=("optimizer",))
        return
    if not (loss.negated or loss.kind) or maximize == loss.negated:
        return
    cause, suspect, title = "optimizer", "loss", "the optimizer maximizes the loss"
    change = Change("optimizer", "maximize=False")
    if loss.negated:
        cause, suspect, title = "loss", "optimizer", "the loss has the wrong sign"
        change = Change("loop", "the loss without its minus")
    setting = Evidence("maximize of the optimizer", float(maximize))
    first = Evidence("loss at first", loss.first[0] if loss.first else None)
    last = Evidence("loss of the last steps", recent[-1] if recent else None)
    yield observe(
        setting, first, last, change, since=0, title=title, cause=cause, suspects=(suspect,)
    )


@rule(
    "RVN-L20",
    "error",
    "initialization",
    confidence="high",
    needs="steps",
    also=("step-order", "optimizer", "over-regularized"),
)
def overwritten_weights(history: LoopHistory) -> Iterator[Observation]:
    overwrites = history.model.overwrites
    others = overwrites.other + overwrites.repeated + overwrites.clamped
    title, severity, confidence, cause = "", "", "", ""
    changes = (Change("loop", "no load_state_dict and no initialization within the loop"),)
    if overwrites.to_start >= MIN_OVERWRITES:
        name = "times that the weights were reset to their start, bit for bit"
        times = Evidence(name, overwrites.to_start, limit=0)
    elif overwrites.unrelated >= MIN_OVERWRITES:
        name = "times that the weights were replaced by unrelated numbers"
        times = Evidence(name, overwrites.unrelated, limit=0)
        title, severity = "the weights are initialized again between steps", "warning"
    elif overwrites.repeated >= MIN_RELOADS:
        name = "times in a row that the same weights were loaded, bit for bit"
        times = Evidence(name, overwrites.repeated, limit=MIN_RELOADS)
        title, severity = "the same weights are loaded again and again", "warning"
        confidence, changes = "medium", ()
    elif others >= MIN_OVERWRITES:
        times = Evidence("times that the weights were not as the optimizer left them", others)
        title, severity = "something else than the optimizer writes the weights", "note"
        if overwrites.clamped > overwrites.other + overwrites.repeated:
            title = "the weights are clamped to a range between steps"
        changes = ()
        # the critic of a game has no loss with targets, and another optimizer beside its own
        is_alone = history.single_optimizer and bool(history.loss.kind)
        if is_alone and overwrites.cut_fraction > CUT_FRACTION:
            share = 100 * overwrites.cut_fraction
            title, severity = "most weights are clamped to one size between steps", "warning"
            cause, confidence = "over-regularized", "high"
            times = Evidence("weights of the largest size", share, "%", limit=100 * CUT_FRACTION)
            changes = (Change("loop", "weights that are not clamped"),)
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
        cause=cause,
        suspects=("initialization",) if cause else (),
    )


@rule(
    "RVN-L19",
    "error",
    "learning-rate-low",
    needs=f"steps, snapshots {MIN_UNCHANGED_STEPS}",
    also=("precision",),
    explains=("RVN-N02",),
)
def steps_lost_in_rounding(history: LoopHistory) -> Iterator[Observation]:
    for index in range(history.optimizers):
        snapshots = history.snapshots_of(index)
        first_lr, last_lr = max(snapshots[0].settings.lrs), max(snapshots[-1].settings.lrs)
        if last_lr > first_lr or last_lr == 0:
            continue  # a warm-up goes on, or RVN-L18 reports the rate of 0
        if all(_is_unchanged(s) for s in snapshots):
            name = "share of the weights that a step does not change"
            share, limit = 100 * (snapshots[-1].unchanged_fraction or 0), 100 * UNCHANGED_FRACTION
            though = "though their gradient is not 0"
            unchanged = Evidence(name, share, "%", limit=limit, text=though)
            rate = Evidence("learning rate", last_lr)
            change = Change("lr", "10 times higher, or more")
            yield observe(unchanged, rate, change, since=snapshots[0].step, suspects=("precision",))


def _is_unchanged(snapshot: StepSnapshot) -> bool:
    """Whether a step changed next to none of the sampled weights that have a gradient."""
    fraction = snapshot.unchanged_fraction
    return fraction is not None and fraction > UNCHANGED_FRACTION


@symptom(
    "RVN-N02",
    "error",
    "detached-graph",
    confidence="medium",
    needs=f"snapshots, updates {EQUAL_LOSSES}",
    also=("dead-units", "learning-rate-low"),
)
def unchanging_loss(history: LoopHistory) -> Iterator[Observation]:
    losses = history.loss.first[:EQUAL_LOSSES]
    if len(losses) < EQUAL_LOSSES or history.steps < EQUAL_LOSSES:
        return
    if len(set(losses)) > 1 or not math.isfinite(losses[0]):
        return
    last = [snapshots[-1] for snapshots in history.last_snapshots(1)]
    cause = "detached-graph"
    if not any(s.has_gradient for s in last):
        if any(s.gradient.norm_after_backward is not None for s in last):
            cause = "dead-units"
    elif all(_is_unchanged(s) or max(s.settings.lrs) == 0 for s in last):
        cause = "learning-rate-low"
    if losses[0] == 0 and cause == "dead-units":
        return  # a loss of 0 with a gradient of 0: the task is done
    name = "losses in a row that are equal, bit for bit"
    equal = Evidence(name, len(losses), limit=1, text=f"all {losses[0]:.6g}")
    yield observe(equal, since=0, cause=cause)

"""Faults of passes: repeated or sorted batches, the scale of inputs, the wrong mode."""

import math
import re
from collections.abc import Iterator, Sequence
from statistics import mean

import numpy as np

from ravine.diagnosis.op_names import causal_form
from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop import class_order
from ravine.diagnosis.training_loop.history import InputReading, LoopHistory
from ravine.diagnosis.training_loop.rules_network import RECURRENT_MODULES
from ravine.finding import Change, Evidence

REPEATED_INPUTS = 12  # inspected steps with the same inputs
DRIFT_FACTOR = 30.0  # by which inputs may grow or shrink while training
DRIFT_SNAPSHOTS = 6
WIDE_INPUTS, NARROW_INPUTS = 30.0, 0.03  # standard deviations that are worth a note
EVALUATION_STEPS = 2  # in a row
PURE_BATCHES = 0.5  # of the chance that two examples of different batches differ
ORDER_CHANCE = 0.01  # of as much agreement between neighbors in a random order
MIN_READINGS = 8  # of training inputs, with which those of evaluations are compared
SCALE_FACTOR, FAR_MEANS = 5.0, 5.0  # the second in spreads of the training inputs
LESSER_FACTOR, LESSER_DISTANCE = 1.5, 0.5  # where both differ; the second in spreads
CHANGE_READINGS, CHANGE_STRETCHES = 10, 8  # at least
CHANGE_STRETCHES_AT_END = 4  # a series in the order of time has turned by then
CHANGE_FACTOR, CHANGE_DISTANCE = 2.0, 1.0  # the second in spreads
IN_PLACE_FACTOR = 1.5  # where inputs are written into the data: none does that on purpose
TREND_AGREEMENT = 0.9  # rank correlation with time
MOVED_MEAN = 1.0  # standard deviations
MIN_REPEATED_DRAWS = 4  # inspected steps in a row
TOKEN_READINGS = 2  # that must show the same

# In the letters of `LoopEvent`
VALIDATION_PASSES = r"S[LBsFE]*(N{2,})"
SINGLE_VALIDATION_PASS = r"(?:F+L?(?:B+L?)?Ss*){4,}N(?=F)"


@rule(
    "RVN-L22",
    "note",
    "shuffling",
    confidence="medium",
    needs="inputs",
    also="randomness, overfitting, data-degenerate, imbalance",
)
def repeated_batch(history: LoopHistory) -> Iterator[Observation]:
    inputs = history.inputs
    if inputs.few_examples and inputs.count >= REPEATED_INPUTS > inputs.identical:
        few = Evidence("different examples in all batches", inputs.few_examples)
        rows = Evidence("examples in the last batch", inputs.rows)
        count = Evidence("batches read", inputs.count)
        change = Change("data", "a sampler that draws from all rows: a weight for each of them")
        title = "the same few examples are drawn again and again"
        suspects = ("shuffling", "imbalance")
        yield observe(
            few,
            rows,
            count,
            change,
            title=title,
            severity="warning",
            cause="data-degenerate",
            suspects=suspects,
            since=0,
        )
        return
    if inputs.identical < max(REPEATED_INPUTS, inputs.count):
        return
    name = "inspected steps, all with the same inputs"
    equal = Evidence(name, inputs.count, text=f"in {history.steps} steps")
    rows = Evidence("examples in these inputs", inputs.rows)
    since = inputs.first_step
    # of several batches for a step only the first is compared
    if inputs.table_rows <= 0 or any(s.gradient.passes > 1 for s in history.snapshots):
        yield observe(equal, rows, since=since)
        return
    table = Evidence("examples in the table they come from", inputs.table_rows)
    change = Change("loop", "the next batch for each step")
    suspects = ("randomness", "overfitting")
    yield observe(equal, rows, table, change, severity="warning", suspects=suspects, since=since)


@rule("RVN-L42", "warning", "shape-pairing", confidence="high", needs="graph")
def examples_as_time(history: LoopHistory) -> Iterator[Observation]:
    nodes = history.graph.nodes if history.graph is not None else ()
    # the last of what a recurrent layer reads as examples: no mean of nodes or sensors
    selects = any(n.name == "Select" and n.dim == 1 and len(n.shape or ()) == 2 for n in nodes)
    owners = {p.name.rpartition(".")[0]: p.owner for p in history.model.parameters}
    for name, (time, batch) in history.model.examples_as_time.items():
        is_sure = selects or owners.get(name) not in RECURRENT_MODULES
        first = Evidence("its inputs along dimension 0, read as time", time, text="as many outputs")
        second = Evidence("along dimension 1, read as examples", batch)
        change, severity = Change("model", "batch_first=True"), "" if is_sure else "note"
        yield observe(first, second, change, where=name, severity=severity)


@rule("RVN-D09", "error", "leakage", needs="forward", also="labels")
def own_tokens_as_targets(history: LoopHistory) -> Iterator[Observation]:
    tokens = history.model.outputs
    if tokens.readings == tokens.own >= TOKEN_READINGS:
        name = "inspected steps whose targets all are the token at the same place"
        change = Change("loop", "targets shifted by one: inputs[:, :-1] and targets inputs[:, 1:]")
        why = "which the output depends on"
        own = Evidence(name, tokens.own, limit=0, text=why)
        yield observe(own, change, since=0, suspects=("labels",))


@rule("RVN-I03", "error", "causality", needs="forward", also="leakage")
def future_tokens(history: LoopHistory) -> Iterator[Observation]:
    tokens, graph = history.model.outputs, history.graph
    terms = [place for place, _ in graph.terms()] if graph is not None else []
    # other terms may be those of a code of the whole sequence, which is to be told from it
    others = [p for p in terms if graph and not graph.comes_after(p, ("LogSoftmax",))]
    if not terms or (others and len(terms) > 1):
        return
    if tokens.readings == tokens.next >= TOKEN_READINGS:
        name = "change of an output, over its size, when the token it should tell is replaced"
        seen = Evidence(name, 100 * tokens.next_change, "%", limit=0, text="the next one")
        change = Change("model", causal_form(*tokens.kinds))
        yield observe(seen, change, where=tokens.where, since=0, suspects=("leakage",))


@rule("RVN-L41", "warning", "randomness", needs="forward", explains="RVN-L22")
def repeated_random_numbers(history: LoopHistory) -> Iterator[Observation]:
    for device, draws in history.model.repeated_draws.items():
        if draws.steps < MIN_REPEATED_DRAWS:
            continue
        name = "inspected steps in a row that drew from the same random state"
        place = "from the first forward pass on" if draws.in_pass else "before the forward pass"
        steps = Evidence(name, draws.steps, text=f"{place}, on {device}")
        change = Change("loop", "torch.manual_seed once, before the loop")
        # without a known loss, samples may be kept on purpose, for the same loss at each step
        severity = "" if draws.in_pass or history.loss.kind else "note"
        yield observe(steps, change, since=draws.first_step, severity=severity)


@rule(
    "RVN-L35",
    "warning",
    "shuffling",
    confidence="high",
    needs="classes",
    explains="RVN-H09, RVN-S03, RVN-T02",
)
def examples_in_class_order(history: LoopHistory) -> Iterator[Observation]:
    change = Change("data", "shuffled before each epoch: DataLoader(..., shuffle=True)")
    ranges = history.loss.target_ranges
    # the time of a series that is read in order, with a state, is its order
    has_state = any(p.owner in RECURRENT_MODULES for p in history.model.parameters)
    if class_order.are_in_order(ranges) and not has_state:
        apart = Evidence(
            "successive batches whose targets overlap", 0, text="in all inspected steps"
        )
        title = "examples come in the order of their targets"
        yield observe(apart, change, since=ranges[0][0], title=title)
    order = class_order.measure_class_order(history.loss.class_counts)
    if order is None or order.impurity_fraction >= PURE_BATCHES or order.chance > ORDER_CHANCE:
        return
    pure = "chance that two examples of a batch differ in class, over that in two batches"
    near = f"of other ones: {order.far:.2g}"
    yield observe(
        Evidence(pure, order.impurity_fraction, limit=PURE_BATCHES),
        Evidence("chance that examples of successive batches agree", order.near, text=near),
        change,
        since=history.loss.class_counts[0][0],
    )


@rule("RVN-L26", "warning", "input-scale", confidence="high", needs="inputs", explains="RVN-L37")
def drifting_input_scale(history: LoopHistory) -> Iterator[Observation]:
    stds = [(reading.step, reading.std) for reading in history.inputs.readings if reading.std > 0]
    if len(stds) < DRIFT_SNAPSHOTS or not all(math.isfinite(std) for _, std in stds):
        return
    for sign in (1, -1):
        logs = [sign * math.log(std) for _, std in stds]
        steps = [b - a for a, b in zip(logs, logs[1:], strict=False)]
        falls = sum(step < -0.05 for step in steps)
        rises = any(step > 0.5 for step in steps)
        far = logs[0] - logs[-1] > math.log(DRIFT_FACTOR) and logs[-1] < min(logs[:-2])
        if far and falls >= 3 and not rises:
            place = next(i for i, value in enumerate(logs) if logs[0] - value > math.log(2))
            at_first = Evidence("standard deviation of the inputs at first", stds[0][1])
            name, way = "standard deviation of the inputs now", "steadily in one direction"
            now = Evidence(name, stds[-1][1], text=way)
            change = Change("data", "scaled once, before the loop, into a new tensor")
            yield observe(at_first, now, change, since=stds[place][0])


@rule(
    "RVN-L36",
    "warning",
    "input-scale",
    confidence="high",
    needs="evaluations",
    also="normalization, train-eval-mode",
)
def evaluation_on_another_scale(history: LoopHistory) -> Iterator[Observation]:
    training, evaluations = history.inputs.readings, history.evaluations
    found = {e: _find_other_scale(e, training) for e in evaluations}
    count = sum(map(bool, found.values()))
    if count < 2 and not (history.ended and len(evaluations) == count == 1):
        return
    first = next(e for e, confidence in found.items() if confidence)
    spreads, means = sorted(r.spread for r in training), sorted(r.mean for r in training)
    name = "mean distance of evaluation inputs from their mean"
    ends = [f"in training: {column[0]:.3g} to {column[-1]:.3g}" for column in (spreads, means)]
    yield observe(
        Evidence(name, first.spread, text=ends[0]),
        Evidence("mean of evaluation inputs", first.mean, text=ends[1]),
        Change("data", "evaluation inputs scaled by the same numbers as training inputs"),
        since=first.step,
        confidence="high" if "high" in found.values() else "medium",
        # others may rightly evaluate elsewhere: at a start state, or from noise
        severity="" if history.loss.kind in ("NllLoss", *class_order.BINARY_LOSS_NODES) else "note",
        suspects=("normalization", "train-eval-mode"),
    )


def _find_other_scale(evaluation: InputReading, training: Sequence[InputReading]) -> str:
    """How surely the input of an evaluation is far from all training inputs that were read."""
    spreads, means = [r.spread for r in training], [r.mean for r in training]
    narrow, wide = min(spreads), max(spreads)
    if len(training) < MIN_READINGS or not narrow > 0 or not evaluation.spread > 0:
        return ""  # a constant input may be a dry run with zeros
    factor = max(evaluation.spread / wide, narrow / evaluation.spread)
    distance = max(min(means) - evaluation.mean, evaluation.mean - max(means))
    if factor >= SCALE_FACTOR or distance >= FAR_MEANS * wide:
        return "high"
    # noise that is added in training widens inputs, and does not move them
    near = min(narrow, evaluation.spread)
    return "medium" if factor >= LESSER_FACTOR and distance >= LESSER_DISTANCE * near else ""


@rule(
    "RVN-L37",
    "warning",
    "data-degenerate",
    confidence="high",
    needs="inputs",
    also="augmentation, input-scale",
)
def changing_inputs(history: LoopHistory) -> Iterator[Observation]:
    readings = history.inputs.readings
    runs: list[list[InputReading]] = []  # of successive steps
    for reading in readings:
        if not runs or reading.step > runs[-1][-1].step + 1:
            runs.append([])
        runs[-1].append(reading)
    enough = CHANGE_STRETCHES_AT_END if history.ended else CHANGE_STRETCHES
    if len(readings) < CHANGE_READINGS or len(runs) < enough:
        return
    quarter = len(runs) // 4
    first = [r for run in runs[:quarter] for r in run]
    spreads, means = [mean(r.spread for r in run) for run in runs], [r[-1].mean for r in runs]
    low, high = min(r.spread for r in first), max(r.spread for r in first)
    last = mean(spreads[-quarter:])
    factor = IN_PLACE_FACTOR if history.inputs.in_place else CHANGE_FACTOR
    widens = last > factor * high or factor * last < low
    moves = abs(means[-1] - means[0]) > CHANGE_DISTANCE * max(spreads)
    is_moving = abs(_rank_correlation(means)) > TREND_AGREEMENT
    is_widening = abs(_rank_correlation(spreads)) > TREND_AGREEMENT
    warns = widens and (is_widening or is_moving)
    events = history.events  # where the network also acts, its inputs follow from what it learned
    acts = sum(map(events.count, "Nn")) >= max(1, events.count("F"))
    warns = warns and not acts and bool(history.loss.kind)
    if not warns and not (history.ended and moves and is_moving):  # as in a series that grows
        return
    yield observe(
        Evidence("mean of the inputs at first", means[0], text=f"now {means[-1]:.3g}"),
        Evidence("mean distance from it at first", spreads[0], text=f"now {spreads[-1]:.3g}"),
        Change("data", "changed batches in new tensors, never in place"),
        since=first[-1].step,
        severity="" if warns else "note",
        suspects=("augmentation", "input-scale"),
    )


def _rank_correlation(levels: Sequence[float]) -> float:
    """Spearman's correlation of levels with time; 0 if all are equal."""
    column = np.array(levels)[:, None]
    ranks = (column > column.T).sum(1) + (column >= column.T).sum(1)  # equal ones share a rank
    return 0.0 if np.ptp(ranks) == 0 else float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])


@rule("RVN-L27", "note", "input-scale", confidence="low", needs="inputs")
def unusual_input_scale(history: LoopHistory) -> Iterator[Observation]:
    readings = history.inputs.readings
    if len(readings) < REPEATED_INPUTS or not readings[-1].std > 0:
        return
    std = sorted(reading.std for reading in readings)[len(readings) // 2]
    if math.isfinite(std) and (std > WIDE_INPUTS or 0 < std < NARROW_INPUTS):
        limit = WIDE_INPUTS if std > WIDE_INPUTS else NARROW_INPUTS
        scale = Evidence("standard deviation of the inputs", std, limit=limit)
        yield observe(scale, Evidence("mean of the inputs", readings[-1].mean))


@rule("RVN-L12", "error", "train-eval-mode", needs="forward", explains="RVN-N01")
def training_in_evaluation_mode(history: LoopHistory) -> Iterator[Observation]:
    modes = history.model.modes
    steps, was_training = modes.evaluation_steps, modes.was_training
    if steps >= EVALUATION_STEPS and modes.in_evaluation:
        severity, before = "error", "after steps in training mode"
        if not was_training:
            severity, before = "warning", "the model never was in training mode"
            if modes.loaded_statistics:  # kept as they are on purpose, in fine-tuning
                severity = "note"
        in_row = Evidence("steps in a row in evaluation mode", steps, limit=0, text=before)
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
    also="normalization",
)
def validation_in_training_mode(history: LoopHistory) -> Iterator[Observation]:
    modes = history.model.modes
    if not modes.mode_dependent:
        return
    shift = history.model.statistics_shift
    if shift.distance > MOVED_MEAN:
        name = "distance of their means from those of training batches"
        yield observe(
            Evidence(name, shift.distance, "standard deviations", limit=MOVED_MEAN),
            Evidence("inspected passes without a graph, in training mode", shift.passes, limit=0),
            Change("loop", "model.eval() before this pass, model.train() after"),
            where=shift.where,
            title="a pass in training mode moves batch norm's statistics away from the data's",
            suspects=("normalization",),
        )
        return
    bursts = re.findall(VALIDATION_PASSES, history.events)
    if bursts or len(re.findall(SINGLE_VALIDATION_PASS, history.events)) >= 2:
        name = "forward passes without a graph, in training mode"
        count = len(bursts[0]) if bursts else 1
        without_graph = Evidence(name, count, limit=0, text="between steps")
        mode_dependent = Evidence("dropout and batch norm modules", modes.mode_dependent)
        change = Change("loop", "model.eval() before validation, model.train() after")
        yield observe(without_graph, mode_dependent, change, where=join_names(modes.names))

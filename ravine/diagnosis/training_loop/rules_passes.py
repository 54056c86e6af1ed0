"""Faults of passes: a repeated batch, inputs of a drifting or unusual scale, the wrong mode."""

import math
import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

REPEATED_INPUTS = 12  # inspected steps with the same inputs
DRIFT_FACTOR = 30.0  # by which inputs may grow or shrink while training
DRIFT_SNAPSHOTS = 6
WIDE_INPUTS, NARROW_INPUTS = 30.0, 0.03  # standard deviations that are worth a note
EVALUATION_STEPS = 2  # in a row
MOVED_MEAN = 1.0  # standard deviations

# In the letters of `LoopEvent`
VALIDATION_PASSES = r"S[LBsFE]*(N{2,})"
SINGLE_VALIDATION_PASS = r"(?:F+L?(?:B+L?)?Ss*){4,}N(?=F)"


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
    name = "inspected steps, all with the same inputs"
    equal = Evidence(name, inputs.count, text=f"in {history.steps} steps")
    rows = Evidence("examples in these inputs", inputs.rows)
    since = inputs.first_step
    if inputs.table_rows <= 0:
        yield observe(equal, rows, since=since)
        return
    table = Evidence("examples in the table they come from", inputs.table_rows)
    change = Change("loop", "the next batch for each step")
    suspects = ("randomness", "overfitting")
    yield observe(equal, rows, table, change, severity="warning", suspects=suspects, since=since)


@rule("RVN-L26", "warning", "input-scale", confidence="high", needs="inputs")
def drifting_input_scale(history: LoopHistory) -> Iterator[Observation]:
    stds = [(step, std) for step, std in history.inputs.stds if std > 0]
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


@rule("RVN-L27", "note", "input-scale", confidence="low", needs="inputs")
def unusual_input_scale(history: LoopHistory) -> Iterator[Observation]:
    inputs = history.inputs
    if len(inputs.stds) < REPEATED_INPUTS or not inputs.std > 0:
        return
    std = sorted(std for _, std in inputs.stds)[len(inputs.stds) // 2]
    if math.isfinite(std) and (std > WIDE_INPUTS or 0 < std < NARROW_INPUTS):
        limit = WIDE_INPUTS if std > WIDE_INPUTS else NARROW_INPUTS
        scale = Evidence("standard deviation of the inputs", std, limit=limit)
        yield observe(scale, Evidence("mean of the inputs", inputs.mean))


@rule("RVN-L12", "error", "train-eval-mode", needs="forward", explains=("RVN-N01",))
def training_in_evaluation_mode(history: LoopHistory) -> Iterator[Observation]:
    modes = history.model.modes
    steps, was_training = modes.evaluation_steps, modes.was_training
    if steps >= EVALUATION_STEPS and modes.in_evaluation:
        severity, before = "error", "after steps in training mode"
        if not was_training:
            severity, before = "warning", "the model never was in training mode"
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
    also=("normalization",),
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

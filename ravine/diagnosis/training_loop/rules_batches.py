"""Faults of the batches: the same one again and again, inputs of a drifting or unusual scale."""

import math
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

REPEATED_INPUTS = 12  # inspected steps with the same inputs
DRIFT_FACTOR = 30.0  # by which inputs may grow or shrink while training
DRIFT_SNAPSHOTS = 6
WIDE_INPUTS, NARROW_INPUTS = 30.0, 0.03  # standard deviations that are worth a note


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

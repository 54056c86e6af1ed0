"""Training in evaluation mode, and validation in training mode."""

import re
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

EVALUATION_STEPS = 2  # in a row
MOVED_MEAN = 1.0  # standard deviations

# In the letters of `LoopEvent`
VALIDATION_PASSES = r"S[LBsFE]*(N{2,})"
SINGLE_VALIDATION_PASS = r"(?:F+L?B+L?Ss*){4,}N(?=F)"


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
    single = re.findall(SINGLE_VALIDATION_PASS, history.events)
    if bursts or len(single) >= 2:
        name = "forward passes without a graph, in training mode"
        without_graph = Evidence(
            name, len(bursts[0]) if bursts else 1, limit=0, text="between steps"
        )
        mode_dependent = Evidence("dropout and batch norm modules", modes.mode_dependent)
        change = Change("loop", "model.eval() before validation, model.train() after")
        yield observe(without_graph, mode_dependent, change, where=join_names(modes.names))

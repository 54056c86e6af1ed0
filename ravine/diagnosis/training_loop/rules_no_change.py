"""Steps that change nothing: updates lost in rounding, a loss that stays equal."""

import math
from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, observe, rule, symptom
from ravine.diagnosis.training_loop.history import LoopHistory, StepSnapshot
from ravine.finding import Change, Evidence

UNCHANGED_FRACTION = 0.99  # of the sampled numbers
EQUAL_LOSSES = 8
MIN_UNCHANGED_STEPS = 3


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
        if len(snapshots) < MIN_UNCHANGED_STEPS:
            continue
        first_lr, last_lr = max(snapshots[0].settings.lrs), max(snapshots[-1].settings.lrs)
        if last_lr > first_lr or last_lr == 0:
            continue  # a warm-up goes on, or RVN-L18 reports the rate of 0
        if all(_is_unchanged(s) for s in snapshots):
            name = "share of the weights that a step does not change"
            share, limit = 100 * (snapshots[-1].unchanged_fraction or 0), 100 * UNCHANGED_FRACTION
            unchanged = Evidence(
                name, share, "%", limit=limit, text="though their gradient is not 0"
            )
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

"""Faults of the learning rate: schedulers stepped wrongly, a rate of 0 in all groups or one."""

from collections.abc import Iterator

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory
from ravine.finding import Change, Evidence

IDLE_SCHEDULER_STEPS = 20
LOW_LR_STEPS = 50
ZERO_LR_STEPS = 10  # in a row; a warm-up from 0 and the last step of a schedule have fewer
ZERO_GROUP_STEPS = 10


@rule("RVN-L14", "warning", "schedule", needs="schedule")
def scheduler_before_optimizer(history: LoopHistory) -> Iterator[Observation]:
    skipped = "the first learning rate is skipped"
    early = Evidence("scheduler steps before the first optimizer step", 1, limit=0, text=skipped)
    change = Change("loop", "optimizer.step() before scheduler.step()")
    for scheduler in history.rates.schedulers:
        if scheduler.stepped_first:
            yield observe(early, change, where=scheduler.kind, since=0)


@rule("RVN-L15", "warning", "schedule", needs="schedule")
def unused_scheduler(history: LoopHistory) -> Iterator[Observation]:
    idle = Evidence("scheduler steps", 0, limit=1, text=f"in {history.steps} optimizer steps")
    change = Change("loop", "scheduler.step() once an epoch, or once a step")
    for scheduler in history.rates.schedulers:
        if history.ended and scheduler.steps == 0 and history.steps >= IDLE_SCHEDULER_STEPS:
            yield observe(idle, change, where=scheduler.kind)


@rule("RVN-L16", "warning", "schedule", needs="steps", explains=("RVN-L18", "RVN-L19"))
def exhausted_schedule(history: LoopHistory) -> Iterator[Observation]:
    change = Change("loop", "scheduler.step() once an epoch, or the scheduler's length in steps")
    rates = history.rates
    for scheduler in rates.schedulers:
        if scheduler.length is not None and scheduler.steps > scheduler.length + 1:
            rises = "past its end the learning rate rises again"
            past = Evidence("scheduler steps", scheduler.steps, limit=scheduler.length, text=rises)
            steps = Evidence("optimizer steps", history.steps)
            title = "the schedule ran past its end"
            yield observe(past, steps, change, where=scheduler.kind, title=title)
            return
    low = rates.steps_below_thousandth
    most = history.steps / 2
    if low >= max(LOW_LR_STEPS, most):
        name = "steps at less than 1/1000 of the highest learning rate"
        rate = Evidence("learning rate", rates.now, text=f"was {rates.highest:.3g}")
        yield observe(Evidence(name, low, limit=most), rate, change, since=history.steps - low)


@rule(
    "RVN-L18",
    "error",
    "learning-rate-low",
    needs="steps",
    also=("schedule",),
    explains=("RVN-N02",),
)
def zero_learning_rate(history: LoopHistory) -> Iterator[Observation]:
    steps = history.rates.steps_at_zero
    if steps >= ZERO_LR_STEPS:
        zero = Evidence("steps in a row at a learning rate of 0", steps, limit=ZERO_LR_STEPS)
        cause = "schedule" if history.rates.highest > 0 else "learning-rate-low"
        yield observe(zero, Change("lr", "above 0"), since=history.steps - steps, cause=cause)


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
        count = Evidence(name, len(still), limit=0)
        as_initialized = Evidence("of these, matrices still as initialized", untrained, limit=0)
        change = Change("optimizer", "lr above 0 in every entry of param_groups")
        where = join_names(p.name for p in still)
        suspects = ("frozen-parameters", "schedule")
        yield observe(count, as_initialized, change, where=where, since=0, suspects=suspects)

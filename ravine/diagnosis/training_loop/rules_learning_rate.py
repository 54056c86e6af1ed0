"""Faults of the learning rate: schedulers stepped wrongly, a rate of 0 in all groups or one."""

from collections.abc import Iterator

import numpy as np

from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.diagnosis.training_loop.history import LoopHistory, PlateauMetrics
from ravine.finding import Change, Evidence

IDLE_SCHEDULER_STEPS = 20
LOW_LR_STEPS = 50
MIN_METRICS = 4  # that ReduceLROnPlateau was given
METRIC_CORRELATION = 0.9  # with the mean losses
EQUAL_METRICS = 1e-6
MAX_DENOMINATOR = 10_000  # of which a metric may be a share
SHARE_ERROR = 1.2e-7  # of a share in single precision
ZERO_LR_STEPS = 10  # in a row; a warm-up from 0 and the last step of a schedule have fewer
ZERO_GROUP_STEPS = 10
EPOCH_STEPS = 4  # optimizer steps, or losses, to a scheduler step: it is stepped once an epoch
MATCH_FRACTION = 0.1  # by which a plan may miss the number of steps that were made
MIN_RISING_STEPS = 3
LOW_WARM_UP = 0.5  # of the rate that it leads to
MAX_UNREAD = 20  # optimizer steps: rates are read every ten
SHORT_FRACTION = 0.02  # of its plan: a schedule that came no further did not act
READING_TOLERANCE = 2.5  # scheduler steps within which the rate must have risen


@rule("RVN-L14", "warning", "schedule", needs="schedule")
def scheduler_before_optimizer(history: LoopHistory) -> Iterator[Observation]:
    skipped = "the first learning rate is skipped"
    early = Evidence("scheduler steps before the first optimizer step", 1, limit=0, text=skipped)
    change = Change("loop", "optimizer.step() before scheduler.step()")
    for scheduler in history.rates.schedulers:
        if scheduler.stepped_first:
            yield observe(early, change, where=scheduler.kind, since=0)


@rule("RVN-L15", "warning", "schedule", needs=f"schedule, updates {IDLE_SCHEDULER_STEPS}")
def unused_scheduler(history: LoopHistory) -> Iterator[Observation]:
    idle = Evidence("scheduler steps", 0, limit=1, text=f"in {history.steps} optimizer steps")
    change = Change("loop", "scheduler.step() once an epoch, or once a step")
    for scheduler in history.rates.schedulers:
        if history.ended and scheduler.steps == 0 and history.steps >= IDLE_SCHEDULER_STEPS:
            yield observe(idle, change, where=scheduler.kind)


@rule("RVN-L16", "warning", "schedule", needs="steps", explains="RVN-L18, RVN-L19")
def exhausted_schedule(history: LoopHistory) -> Iterator[Observation]:
    advice = "scheduler.step() once an epoch, or the scheduler's length in steps"
    change = Change("loop", f"{advice}; for ReduceLROnPlateau its mode and patience")
    rates = history.rates
    for plateau in filter(_has_wrong_mode, rates.plateaus):
        mode, what = ("min", "losses") if plateau.mode == "max" else ("max", "shares")
        text = f"{what}, from {plateau.metrics[0][0]:.3g} to {plateau.metrics[-1][0]:.3g}"
        given = Evidence("values that it was given", len(plateau.metrics), text=text)
        kind, right = "ReduceLROnPlateau", f'ReduceLROnPlateau(optimizer, mode="{mode}")'
        title = f"{kind} takes {what} that get better for ones that get worse"
        yield observe(given, Change("loop", right), where=kind, title=title, confidence="high")
        return
    for scheduler in rates.schedulers:
        length = scheduler.length if scheduler.rises_past_end else None
        if length is not None and scheduler.steps > length + 1:
            rises = "past its end the learning rate rises again"
            past = Evidence("scheduler steps", scheduler.steps, limit=length, text=rises)
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


def _has_wrong_mode(plateau: PlateauMetrics) -> bool:
    """Whether ReduceLROnPlateau takes losses for scores (mode "max"), or scores for losses."""
    if len(plateau.metrics) < MIN_METRICS:
        return False
    given, losses = (np.array(column) for column in zip(*plateau.metrics, strict=True))
    if plateau.mode == "max" and np.allclose(given, losses, rtol=EQUAL_METRICS, atol=0):
        return True
    if not (np.ptp(given) > 0 and losses[-1] < losses[0]):
        return False
    agreement = np.corrcoef(given, losses)[0, 1]
    if plateau.mode == "max":
        return agreement > METRIC_CORRELATION and given[-1] < given[0]
    # what rises as the loss falls may be a validation loss, unless it is a share of some examples
    shares = given if given.max() <= 1 else given / 100
    whole = shares[:, None] * np.arange(2, MAX_DENOMINATOR + 1)
    error = np.abs(whole - whole.round()) - SHARE_ERROR * np.arange(2, MAX_DENOMINATOR + 1)
    are_shares = 0 <= shares.min() and shares.max() <= 1 and bool((error <= 0).all(0).any())
    return agreement < -METRIC_CORRELATION and given[-1] > given[0] and are_shares


@rule("RVN-L32", "warning", "schedule", confidence="high", needs="schedule", explains="RVN-T02")
def unfinished_schedule(history: LoopHistory) -> Iterator[Observation]:
    if not history.ended:
        return
    change = Change("loop", "scheduler.step() after every optimizer step, or a plan in epochs")
    for scheduler in history.rates.schedulers:
        made, length, steps = scheduler.steps, scheduler.length, scheduler.optimizer_steps
        if not made or not steps:
            continue
        interval = steps / made
        seen: list[Evidence | Change]
        seen = [Evidence("scheduler steps", made, limit=length), Evidence("optimizer steps", steps)]
        rises = (
            made >= MIN_RISING_STEPS
            and (interval >= EPOCH_STEPS or scheduler.rate_fraction < LOW_WARM_UP)
            and (length is None or made < length - 1)
            and history.rates.last_fall == 0
            and history.rates.last_rise > steps - max(READING_TOLERANCE * interval, MAX_UNREAD)
        )
        if length is not None and made < length / 2:
            plans = {"optimizer steps": steps, "losses": history.loss.summary.count}
            matched = [
                name
                for name, count in plans.items()
                if made <= count / EPOCH_STEPS
                and abs(length - count) <= min(count / made, MATCH_FRACTION * count)
            ]
            if matched:
                title = f"the schedule is planned in {matched[0]} and stepped less often"
                yield observe(*seen, change, where=scheduler.kind, title=title)
                return
        if rises:
            title = "the learning rate still rises when the loop ends"
            yield observe(*seen, change, where=scheduler.kind, title=title)
            return
        if length is not None and made < length / 2:
            far = made < SHORT_FRACTION * length
            title = f"the schedule is {length / made:.0f} times as long as the loop" if far else ""
            severity = "warning" if far else "note"
            seen += [change] if far else []
            yield observe(*seen, where=scheduler.kind, severity=severity, title=title)
            return


@rule(
    "RVN-L33",
    "warning",
    "schedule",
    needs=f"steps {IDLE_SCHEDULER_STEPS}",
    also="step-order",
    explains="RVN-T02",
)
def scheduler_of_another_optimizer(history: LoopHistory) -> Iterator[Observation]:
    rates = history.rates
    for scheduler in rates.schedulers:
        if scheduler.overwritten >= IDLE_SCHEDULER_STEPS:
            name = "times that another scheduler replaced its rate before a step used it"
            replaced = Evidence(name, scheduler.overwritten, limit=0)
            change = Change("loop", "one scheduler for each optimizer")
            title = "two schedulers set the rates of one optimizer, and the last one counts"
            yield observe(replaced, change, where=scheduler.kind, title=title)
            return
    own = any(scheduler.steps for scheduler in rates.schedulers)
    changed = bool(rates.last_rise or rates.last_fall)  # perhaps by what the scheduler says
    for scheduler in rates.other_schedulers:
        if not history.ended or own or history.steps < IDLE_SCHEDULER_STEPS:
            return
        if changed and not scheduler.is_rival:
            continue
        made = Evidence("scheduler steps", scheduler.steps)
        steps = Evidence("steps of the scheduler's optimizer", 0, limit=1)
        change = Change("loop", "the scheduler after the optimizer that it is given")
        yield observe(made, steps, change, where=scheduler.kind)
        return


@rule(
    "RVN-L18",
    "error",
    "learning-rate-low",
    needs=f"steps {ZERO_LR_STEPS}",
    also="schedule",
    explains="RVN-N02",
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
    needs=f"steps {ZERO_GROUP_STEPS}",
    also="frozen-parameters, schedule",
)
def zero_rate_group(history: LoopHistory) -> Iterator[Observation]:
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

"""The learning rates of the watched optimizers, the schedulers that set them, and their plans."""

import gc
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from ravine.diagnosis.training_loop.history import LoopHistory, PlateauMetrics, SchedulerState
from ravine.diagnosis.training_loop.optimizer_monitor import group_learning_rates
from ravine.diagnosis.training_loop.parameter_names import ParameterNames, optimizer_parameters
from ravine.watching.inspection_schedule import FIRST_STEPS
from ravine.watching.loss_reader import LossReader

READING_INTERVAL = 10  # steps
SETTING_SCHEDULERS = (
    lr_scheduler.LambdaLR,
    lr_scheduler.OneCycleLR,
    lr_scheduler.CyclicLR,
    lr_scheduler.CosineAnnealingWarmRestarts,
)
END_FRACTION = 0.01  # of the highest factor: there a schedule has ended
MIDDLE_FRACTION = 0.1  # of the highest factor: there it has not
FIRST_METRICS, LAST_METRICS = 16, 48  # given to ReduceLROnPlateau, that are kept


@dataclass(eq=False)
class LearningRateMonitor:
    """For how many steps the learning rate has been next to nothing."""

    history: LoopHistory
    last_reading: int = 0  # steps of the loop

    def read(self, optimizer: Optimizer) -> bool:
        """Note the highest rate; earlier steps count as made at it if the last was as low. True if
        it has been so low for so long that the rules should run.
        """
        lrs = group_learning_rates(optimizer)
        if not lrs:
            return False
        rates, steps = self.history.rates, self.history.steps
        passed, self.last_reading = steps - self.last_reading, steps
        before, now = rates.now, max(lrs)
        if now == before == rates.highest > 0:
            return False
        rates.now = now
        if passed < steps:  # not the first reading
            rates.last_rise = steps if now > before else rates.last_rise
            rates.last_fall = steps if now < before else rates.last_fall
        rates.highest = max(rates.highest, now)

        def count(so_far: int, is_low: Callable[[float], bool]) -> int:
            return so_far + (passed if is_low(before) else 1) if is_low(now) else 0

        tiny, low = 1e-3 * rates.highest, 1e-2 * rates.highest
        rates.steps_at_zero = count(rates.steps_at_zero, lambda lr: lr == 0)
        rates.steps_below_thousandth = count(rates.steps_below_thousandth, lambda lr: lr < tiny)
        rates.steps_below_hundredth = count(rates.steps_below_hundredth, lambda lr: lr < low)
        is_zero = rates.steps_at_zero >= READING_INTERVAL
        return is_zero or rates.steps_below_thousandth >= steps / 2 > FIRST_STEPS


class Scheduler(Protocol):
    """Whatever sets learning rates in its `step`: torch's schedulers, and those of others."""

    def step(self, *args: Any, **kwargs: Any) -> Any: ...


class SchedulerMonitor:
    """The schedulers of the watched optimizers, and how often they were stepped. Of one that is
    none of torch's, only the rates that it sets are known, and torch's in it.
    """

    def __init__(
        self, scheduler: Scheduler | None, optimizers: Sequence[Optimizer], losses: LossReader
    ):
        self.scheduler = scheduler
        self.optimizers = optimizers
        self.losses = losses
        self.schedulers: list[tuple[LRScheduler, int]] = []  # with their count at the start
        self.stepped: list[LRScheduler] = []
        self.other_steps = Counter[int]()  # by id
        self._stepped_first: set[int] = set()  # their places in the list
        self.last: dict[int, LRScheduler] = {}  # since the optimizer's last step, by its id
        self._overwritten = Counter[int]()  # by id
        # by id, each with the mean loss
        self._metrics = defaultdict[int, list[tuple[float, float]]](list)
        self._losses_before: dict[int, int] = {}  # by id

    def find(self) -> None:
        """Find the schedulers that refer to a watched optimizer, unless one was given."""
        if self.schedulers:
            return
        own = self.scheduler
        found = [own] if isinstance(own, LRScheduler) else self._referring_schedulers()
        # a chain of schedulers steps its members itself
        members = {id(x) for s in found for x in getattr(s, "_schedulers", ())}
        for s in {id(s): s for s in found}.values():
            if id(s) not in members and not self._is_rival(s.optimizer):
                self.schedulers.append((s, s.last_epoch))

    def _referring_schedulers(self) -> list[LRScheduler]:
        found: list[LRScheduler] = []
        for optimizer in self.optimizers:
            if any("initial_lr" in group for group in optimizer.param_groups):  # a scheduler's mark
                referring = gc.get_referrers(optimizer)
                owners = [x for r in referring if type(r) is dict for x in gc.get_referrers(r)]
                schedulers = (x for x in (*referring, *owners) if isinstance(x, LRScheduler))
                found += [s for s in schedulers if s.optimizer is optimizer]
        return found

    def note_step(self, scheduler: LRScheduler, given: Any = None) -> None:
        """A scheduler is about to step: count it, and keep what it is given."""
        key = id(scheduler)
        if given is not None and isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            if any(scheduler.optimizer is o for o in self.optimizers):
                self._note_metric(key, float(given))
        if not self.other_steps[key]:
            self.stepped.append(scheduler)  # kept, so that no other gets its id
        self.other_steps[key] += 1
        if any(s is scheduler for s, _ in self.schedulers):
            last = self.last.get(id(scheduler.optimizer), scheduler)
            if last is not scheduler and isinstance(scheduler, SETTING_SCHEDULERS):
                self._overwritten[id(last)] += 1
            self.last[id(scheduler.optimizer)] = scheduler

    def _note_metric(self, key: int, given: float) -> None:
        """Note what a scheduler is given, and the mean of the losses since the last time."""
        self.losses.summarize()
        losses = self.losses.history.loss.summary
        count = min(losses.count - self._losses_before.get(key, 0), len(losses.recent))
        self._losses_before[key] = losses.count
        if count and math.isfinite(given):
            recent = list(losses.recent)[-count:]
            self._metrics[key].append((given, sum(recent) / count))
            del self._metrics[key][FIRST_METRICS:-LAST_METRICS]

    def _is_rival(self, optimizer: Any) -> bool:
        """Whether an optimizer is not watched and has the parameters of one that is, or copies."""
        if not isinstance(optimizer, Optimizer) or any(optimizer is o for o in self.optimizers):
            return False
        groups = {id(group) for o in self.optimizers for group in o.param_groups}
        if any(id(group) in groups for group in optimizer.param_groups):
            return False  # one wraps the other
        parameters = optimizer_parameters(optimizer)
        watched = [optimizer_parameters(o) for o in self.optimizers]
        ids = {id(p) for some in watched for p in some}
        shapes = [p.shape for p in parameters]
        copies = (shapes == [p.shape for p in some] for some in watched)
        return any(id(p) in ids for p in parameters) or any(copies)

    def note_first_step(self) -> None:
        """Before the first step of an optimizer: note which schedulers were stepped before it."""
        found = enumerate(self.schedulers)
        self._stepped_first |= {i for i, (s, start) in found if s.last_epoch > start}

    def states(self, steps: Mapping[int, int], losses: int | None) -> tuple[SchedulerState, ...]:
        """The schedulers now; by `id` the `steps` of optimizers; `losses` where the loop ended."""
        found = []
        for i, (s, start) in enumerate(self.schedulers):
            count = steps.get(id(s.optimizer), 0)
            ends = () if losses is None else (count, losses)
            found.append(
                SchedulerState(
                    kind=type(s).__name__,
                    steps=s.last_epoch - start,
                    stepped_first=i in self._stepped_first,
                    length=planned_length(s, ends) if start <= 0 else None,
                    rises_past_end=isinstance(s, lr_scheduler.CosineAnnealingLR),
                    optimizer_steps=count,
                    rate_fraction=_rate_fraction(s.optimizer),
                    overwritten=self._overwritten[id(s)],
                )
            )
        return tuple(found)

    def plateaus(self) -> tuple[PlateauMetrics, ...]:
        """What each `ReduceLROnPlateau` of a watched optimizer that minimizes was given."""
        plateaus = (s for s in self.stepped if isinstance(s, lr_scheduler.ReduceLROnPlateau))
        return tuple(
            PlateauMetrics(s.mode, tuple(self._metrics[id(s)]))
            for s in plateaus
            if not any(group.get("maximize") for group in s.optimizer.param_groups)
        )

    def other_states(self, names: ParameterNames) -> tuple[SchedulerState, ...]:
        """The schedulers that were stepped though their optimizers were not."""
        groups = {id(group) for o in self.optimizers for group in o.param_groups}
        return tuple(
            SchedulerState(
                kind=type(s).__name__,
                steps=self.other_steps[id(s)],
                stepped_first=False,
                is_rival=self._is_rival(s.optimizer),
            )
            for s in self.stepped
            if isinstance(getattr(s, "optimizer", None), Optimizer)
            and not any(id(group) in groups for group in s.optimizer.param_groups)
            and not names.has_stepped(s.optimizer)
        )


def _rate_fraction(optimizer: Optimizer) -> float:
    groups = [g for g in optimizer.param_groups if float(g.get("initial_lr") or 0.0) > 0]
    return max((float(g["lr"]) / float(g["initial_lr"]) for g in groups), default=1.0)


def planned_length(scheduler: LRScheduler, candidates: Sequence[int]) -> int | None:
    """The steps of a scheduler's plan, None where it has no end.

    Of a `LambdaLR` only one of the `candidates` can be told: the first at which the factor has
    fallen to next to nothing, though at half of it it had not.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> falls = lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 300))
    >>> planned_length(falls, (300, 600)), planned_length(falls, (900,))
    (300, None)
    >>> planned_length(lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=50), ())
    50
    """
    if isinstance(scheduler, lr_scheduler.LambdaLR):
        factor: Callable[[int], float] = scheduler.lr_lambdas[0]
        return next((n for n in candidates if n > 1 and _ends_at(factor, n)), None)
    if isinstance(scheduler, lr_scheduler.SequentialLR):
        start, last = scheduler._milestones[-1], scheduler._schedulers[-1]
        rest = planned_length(last, [n - start for n in candidates])
        return None if rest is None else start + rest
    if isinstance(scheduler, lr_scheduler.ChainedScheduler):
        lengths = [planned_length(s, candidates) or 0 for s in scheduler._schedulers]
        return max(lengths, default=0) or None
    if isinstance(scheduler, lr_scheduler.MultiStepLR):
        return max(scheduler.milestones, default=None)
    names = ("total_steps", "T_max", "total_iters", "T_0", "total_size", "step_size")
    length = next((getattr(scheduler, n) for n in names if hasattr(scheduler, n)), None)
    return int(length) if isinstance(length, int | float) and length > 1 else None


def _ends_at(factor: Callable[[int], float], end: int) -> bool:
    factors = [float(factor(end * i // 10)) for i in range(11)]
    highest = max(factors)
    return (abs(factors[-1]) <= END_FRACTION * highest) and factors[5] >= MIDDLE_FRACTION * highest

"""The learning rates of the watched optimizers, and the schedulers that set them."""

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
)

from ravine.diagnosis.training_loop.history import LoopHistory, SchedulerState
from ravine.diagnosis.training_loop.optimizer_monitor import group_learning_rates
from ravine.diagnosis.training_loop.parameter_names import ParameterNames, optimizer_parameters
from ravine.watching.inspection_schedule import FIRST_STEPS
from ravine.watching.schedule_plans import planned_length

READING_INTERVAL = 10  # steps
SETTING_SCHEDULERS = (LambdaLR, OneCycleLR, CyclicLR, CosineAnnealingWarmRestarts)


@dataclass(eq=False)
class LearningRateMonitor:
    """For how many steps the learning rate has been next to nothing."""

    history: LoopHistory
    last_reading: int = 0  # steps of the loop

    def read(self, optimizer: Optimizer) -> None:
        """Note the highest rate; earlier steps count as made at it if the last was as low."""
        lrs = group_learning_rates(optimizer)
        if not lrs:
            return
        rates = self.history.rates
        passed = self.history.steps - self.last_reading
        self.last_reading = self.history.steps
        before = rates.now
        rates.now = max(lrs)
        if passed < self.history.steps:  # not the first reading
            rates.last_rise = self.history.steps if rates.now > before else rates.last_rise
            rates.last_fall = self.history.steps if rates.now < before else rates.last_fall
        rates.highest = max(rates.highest, rates.now)

        def count(so_far: int, is_low: Callable[[float], bool]) -> int:
            return so_far + (passed if is_low(before) else 1) if is_low(rates.now) else 0

        thousandth = 1e-3 * rates.highest
        hundredth = 1e-2 * rates.highest
        rates.steps_at_zero = count(rates.steps_at_zero, lambda lr: lr == 0)
        rates.steps_below_thousandth = count(
            rates.steps_below_thousandth, lambda lr: lr < thousandth
        )
        rates.steps_below_hundredth = count(rates.steps_below_hundredth, lambda lr: lr < hundredth)

    def is_negligible(self) -> bool:
        """Whether the rate, just read, has been so low for so long that the rules should run."""
        rates, steps = self.history.rates, self.history.steps
        return self.last_reading == steps and (
            rates.steps_at_zero >= READING_INTERVAL
            or rates.steps_below_thousandth >= steps / 2 > FIRST_STEPS
        )


class Scheduler(Protocol):
    """Whatever sets learning rates in its `step`: torch's schedulers, and those of others."""

    def step(self, *args: Any, **kwargs: Any) -> Any: ...


class SchedulerMonitor:
    """The schedulers of the watched optimizers, and how often they were stepped.

    Of a scheduler that is none of torch's nothing is known but the rates that it sets, and torch's
    that it may hold.
    """

    def __init__(self, scheduler: Scheduler | None, optimizers: Sequence[Optimizer]):
        self.scheduler = scheduler
        self.optimizers = optimizers
        self.schedulers: list[tuple[LRScheduler, int]] = []  # with their count at the start
        self.stepped: list[LRScheduler] = []
        self.other_steps: dict[int, int] = {}  # by id
        self._stepped_first: set[int] = set()  # their places in the list
        self._last: dict[int, LRScheduler] = {}  # since the optimizer's last step, by its id
        self._overwritten: dict[int, int] = {}  # by id

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

    def note_step(self, scheduler: LRScheduler) -> None:
        """A scheduler is about to step: count it."""
        key = id(scheduler)
        if key not in self.other_steps:
            self.stepped.append(scheduler)  # kept, so that no other gets its id
            self.other_steps[key] = 0
        self.other_steps[key] += 1
        if any(s is scheduler for s, _ in self.schedulers):
            last = self._last.get(id(scheduler.optimizer), scheduler)
            if last is not scheduler and isinstance(scheduler, SETTING_SCHEDULERS):
                self._overwritten[id(last)] = self._overwritten.get(id(last), 0) + 1
            self._last[id(scheduler.optimizer)] = scheduler

    def note_optimizer_step(self, optimizer: Optimizer) -> None:
        """An optimizer is about to step, at the rate that was set last."""
        if self._last:
            self._last.pop(id(optimizer), None)

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
        return any(id(p) in ids for p in parameters) or any(
            shapes == [p.shape for p in some] for some in watched
        )

    def note_first_step(self) -> None:
        """Before the first step of an optimizer: note which schedulers were stepped before it."""
        found = enumerate(self.schedulers)
        self._stepped_first |= {i for i, (s, start) in found if s.last_epoch > start}

    def states(self, steps: Mapping[int, int], losses: int | None) -> tuple[SchedulerState, ...]:
        """The schedulers now. `steps` are those of their optimizers, by `id`; `losses`, where the
        loop has ended, those that were reported.
        """
        found = []
        for i, (s, start) in enumerate(self.schedulers):
            count = steps.get(id(s.optimizer), 0)
            ends = () if losses is None else (count, losses)
            length = planned_length(s, ends) if start <= 0 else None
            found.append(
                SchedulerState(
                    kind=type(s).__name__,
                    steps=s.last_epoch - start,
                    stepped_first=i in self._stepped_first,
                    length=length,
                    rises_past_end=isinstance(s, CosineAnnealingLR),
                    optimizer_steps=count,
                    rate_fraction=_rate_fraction(s.optimizer),
                    overwritten=self._overwritten.get(id(s), 0),
                )
            )
        return tuple(found)

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

"""The learning rates of the watched optimizers, and the schedulers that set them."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from ravine.diagnosis.training_loop.history import LoopHistory, SchedulerState
from ravine.diagnosis.training_loop.optimizer_monitor import group_learning_rates
from ravine.watching.inspection_schedule import FIRST_STEPS

READING_INTERVAL = 10  # steps


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


class SchedulerMonitor:
    """The schedulers of the watched optimizers, and how often they were stepped."""

    def __init__(self, scheduler: LRScheduler | None, optimizers: Sequence[Optimizer]):
        self.scheduler = scheduler
        self.optimizers = optimizers
        self.schedulers: list[tuple[LRScheduler, int]] = []  # with their count at the start
        self._stepped_first: set[int] = set()  # their places in the list

    def find(self) -> None:
        """Find the schedulers that refer to an optimizer, unless one was given."""
        if self.schedulers:
            return
        found = [self.scheduler] if self.scheduler is not None else self._referring_schedulers()
        # a chain of schedulers steps its members itself
        members = {id(x) for s in found for x in getattr(s, "_schedulers", ())}
        for s in {id(s): s for s in found}.values():
            if id(s) not in members:
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

    def note_first_step(self) -> None:
        """Before the first step of an optimizer: note which schedulers were stepped before it."""
        found = enumerate(self.schedulers)
        self._stepped_first |= {i for i, (s, start) in found if s.last_epoch > start}

    def states(self) -> tuple[SchedulerState, ...]:
        return tuple(
            SchedulerState(
                kind=type(s).__name__,
                steps=s.last_epoch - start,
                stepped_first=i in self._stepped_first,
                length=int(s.T_max) if isinstance(s, CosineAnnealingLR) else None,
            )
            for i, (s, start) in enumerate(self.schedulers)
        )

"""For how many steps a scheduler of torch was planned."""

from collections.abc import Callable, Sequence

from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

END_FRACTION = 0.01  # of the highest factor: there a schedule has ended
MIDDLE_FRACTION = 0.1  # of the highest factor: there it has not


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
    has_ended = abs(factors[-1]) <= END_FRACTION * highest
    return has_ended and factors[5] >= MIDDLE_FRACTION * highest

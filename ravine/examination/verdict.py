"""What a remedy did: losses without it and with it, paired over seeds, weighed."""

import math
from collections.abc import Sequence

import numpy as np

from ravine.finding import Trial
from ravine.statistics import t_interval


def weigh(
    before: Sequence[float], after: Sequence[float], *, steps: int, least: float = 0.0
) -> Trial:
    """The verdict on a remedy from the losses of the same seeds without it (`before`) and with it
    (`after`).

    Helped: the 95 % interval of the mean paired difference lies below 0, and the mean is lower by
    `least` or more. Worse: the same, upwards. A loss that is not finite is a failure, and failures
    are counted first: if one side has fewer, that side wins; pairs with a failure are then left out
    of the numbers. One pair has no interval and shows nothing, whatever the difference.

    >>> weigh([1.0, 1.1, 0.9], [0.5, 0.62, 0.4], steps=100).verdict
    'helped'
    >>> weigh([math.inf, 1.0], [0.9, 1.0], steps=100).verdict
    'helped'
    >>> weigh([1.0], [0.1], steps=100).verdict
    'no effect'
    """
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} losses before, {len(after)} after: they are paired by seed"
        )
    pairs = np.array([before, after], dtype=float)
    failed = (~np.isfinite(pairs)).sum(axis=1)
    x, y = pairs[:, np.isfinite(pairs).all(axis=0)]
    difference = t_interval(y - x) if len(x) else None
    certain = difference is not None and math.isfinite(difference.low)
    verdict = "no effect"
    if failed[0] != failed[1]:
        verdict = "helped" if failed[1] < failed[0] else "worse"
    elif certain and difference is not None and difference.high < 0 and difference.value <= -least:
        verdict = "helped"
    elif certain and difference is not None and difference.low > 0 and difference.value >= least:
        verdict = "worse"
    return Trial(
        verdict=verdict,
        steps=steps,
        seeds=len(before),
        before=float(x.mean()) if len(x) else _mean_of_finite(pairs[0]),
        after=float(y.mean()) if len(y) else _mean_of_finite(pairs[1]),
        difference=None if difference is None else difference.value,
        interval=(difference.low, difference.high) if certain and difference is not None else None,
        why=_failures(int(failed[0]), int(failed[1]), len(before)),
    )


def _mean_of_finite(losses: np.ndarray) -> float | None:
    finite = losses[np.isfinite(losses)]
    return float(finite.mean()) if len(finite) else None


def _failures(before: int, after: int, seeds: int) -> str:
    if before == after == 0:
        return ""
    return f"{before} of {seeds} runs failed without it, {after} with it"

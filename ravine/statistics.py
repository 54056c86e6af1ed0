"""How sure a number over seeds is: Student's interval, and the bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

RESAMPLES = 2000


class Interval(NamedTuple):
    """A number with its 95 % interval; the ends are NaN where there is only one value to judge
    by.
    """

    value: float
    low: float
    high: float


def student(values: ArrayLike) -> Interval:
    """The mean of independent values, with Student's interval.

    >>> [round(x, 3) for x in student([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    x = np.asarray(values, dtype=float).ravel()
    if len(x) < 2:
        return Interval(float(x.mean()), math.nan, math.nan)
    half = float(stdtrit(len(x) - 1, 0.975)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half)


def bootstrap(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    seed: int = 0,
) -> Interval:
    """A statistic of independent values [N], with the percentiles of 2,000 resamples: `statistic`
    takes [R, N] to [R].

    The same at every call. With fewer than two values the ends are NaN.

    >>> found = bootstrap([1.0, 2.0, 4.0, 8.0], lambda drawn: np.median(drawn, axis=1))
    >>> found.value, found.low <= found.value <= found.high
    (3.0, True)
    """
    x = np.asarray(values, dtype=float).ravel()
    value = float(statistic(x[None])[0])
    if len(x) < 2:
        return Interval(value, math.nan, math.nan)
    drawn = x[np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))]
    low, high = np.quantile(statistic(drawn), (0.025, 0.975))
    return Interval(value, float(low), float(high))

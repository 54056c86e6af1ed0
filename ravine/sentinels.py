"""Values that stand for "not known" in a column of numbers, such as -9999. Letters: N examples."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SENTINEL_ROWS = 5
MIN_SENTINEL_FRACTION = 0.01  # of the examples
MAX_SENTINEL_FRACTION = 0.5
MIN_OTHER_VALUES = 10  # with fewer, the numbers rather name groups
SENTINEL_DISTANCE = 4.0  # from the nearest other value, in spreads of the others
# of a negative value where all others are 0 or more: from their median, and from the nearest
SIGN_DISTANCE, MIN_SIGN_GAP = 4.0, 1.0


@dataclass(frozen=True)
class Sentinel:
    """A value that stands for "not known": in how many rows, how far from all others in spreads."""

    where: str
    value: float
    rows: int
    fraction: float  # of the rows that have a number
    distance: float
    limit: float  # above which it stands for a gap
    place: int = -1  # of the input; -1 for a target
    input_value: float = np.nan  # what the value became as an input


def find_sentinels(x: NDArray, name_column: Callable[[int], str]) -> tuple[Sentinel, ...]:
    """The columns of x [N, F] in which one value, the lowest or the highest, is repeated and lies
    far outside all others.

    A column that is 0 in most rows has none, nor has one whose other values begin near it.

    >>> temperature = np.where(np.arange(200) % 10, np.linspace(15, 25, 200), -9999.0)
    >>> [(found.value, found.rows) for found in find_sentinels(temperature[:, None], str)]
    [(-9999.0, 20)]
    """
    return tuple(s for i in range(x.shape[1]) for s in _sentinels_of(x[:, i], i, name_column(i)))


def _sentinels_of(column: NDArray, place: int, name: str) -> list[Sentinel]:
    """At most one at each end of a column [N]."""
    rest = column[np.isfinite(column)].astype(float)
    found = []
    for find_end in (np.min, np.max):
        end = float(find_end(rest)) if len(rest) else np.nan
        others = rest[rest != end]
        rows = len(rest) - len(others)
        distance, limit = _distance(others, end) if _is_repeated(rows, len(rest)) else (0.0, 0.0)
        if distance > limit:
            share = rows / len(rest)
            found.append(Sentinel(name, end, rows, share, distance, limit, place, input_value=end))
            rest = others
    return found


def _is_repeated(rows: int, count: int) -> bool:
    share = rows / max(1, count)
    return rows >= MIN_SENTINEL_ROWS and MIN_SENTINEL_FRACTION <= share <= MAX_SENTINEL_FRACTION


def _distance(others: NDArray, end: float) -> tuple[float, float]:
    """How many spreads the nearest other value is away, and the limit for that; (0, 0) where the
    others have no spread.
    """
    low, middle, high = np.quantile(others, (0.25, 0.5, 0.75))
    spread = float((high - low) / 1.349 or others.std())
    with np.errstate(over="ignore"):
        nearest = float(np.abs(others - end).min())
    if not spread > 0 or len(np.unique(others)) < MIN_OTHER_VALUES:
        return 0.0, 0.0
    has_own_sign = end < 0 <= others.min()
    outlying = has_own_sign and middle - end > SIGN_DISTANCE * spread
    return nearest / spread, MIN_SIGN_GAP if outlying else SENTINEL_DISTANCE

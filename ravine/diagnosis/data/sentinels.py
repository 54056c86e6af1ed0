"""Values that stand for "not known" in a column of numbers, such as -9999. Letters: N examples."""

from collections.abc import Callable

import numpy as np

from ravine.diagnosis.baseline_learners import Array
from ravine.diagnosis.data.profile import Sentinel

MIN_SENTINEL_ROWS = 5
MIN_SENTINEL_FRACTION = 0.01  # of the examples
MAX_SENTINEL_FRACTION = 0.5
MIN_OTHER_VALUES = 10  # with fewer, the numbers rather name groups
SENTINEL_DISTANCE = 4.0  # from the nearest other value, in spreads of the others


def find_sentinels(x: Array, name_column: Callable[[int], str]) -> tuple[Sentinel, ...]:
    """The columns of x [N, F] in which one value, the lowest or the highest, is repeated and lies
    far outside all others.

    A column that is 0 in most rows has none, nor has one whose other values begin near it.

    >>> temperature = np.where(np.arange(200) % 10, np.linspace(15, 25, 200), -9999.0)
    >>> [(found.value, found.rows) for found in find_sentinels(temperature[:, None], str)]
    [(-9999.0, 20)]
    """
    return tuple(s for i in range(x.shape[1]) for s in _sentinels_of(x, i, name_column(i)))


def _sentinels_of(x: Array, place: int, name: str) -> list[Sentinel]:
    """At most one at each end of the column at a place."""
    rest = x[np.isfinite(x[:, place]), place].astype(float)
    found = []
    for find_end in (np.min, np.max):
        measured = _sentinel_at(rest, float(find_end(rest))) if len(rest) else None
        if measured is not None:
            found.append(Sentinel(name, place, *measured))
            rest = rest[rest != measured[0]]
    return found


def _sentinel_at(values: Array, end: float) -> tuple[float, int, float] | None:
    """A value, how often it occurs, and how far the others are, if it stands for a gap."""
    others = values[values != end]
    rows = len(values) - len(others)
    fraction = rows / len(values)
    if rows < MIN_SENTINEL_ROWS or not MIN_SENTINEL_FRACTION <= fraction <= MAX_SENTINEL_FRACTION:
        return None
    low, high = np.quantile(others, (0.25, 0.75))
    spread = float((high - low) / 1.349 or others.std())
    distance = float(np.abs(others - end).min())
    if not spread > 0 or distance < SENTINEL_DISTANCE * spread:
        return None
    if len(np.unique(others)) < MIN_OTHER_VALUES:
        return None
    return float(end), rows, distance / spread

"""Values that stand for "not known" in a column of numbers, such as -9999.

Letters: N examples, F columns, T places, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

MIN_SENTINEL_ROWS = 5
MIN_SENTINEL_FRACTION = 0.01  # of the examples
MAX_SENTINEL_FRACTION = 0.5
MIN_OTHER_VALUES = 10  # with fewer, the numbers rather name groups
SENTINEL_DISTANCE = 4.0  # from the nearest other value, in spreads of the others
# of a negative value where all others are 0 or more: from their median, and from the nearest
SIGN_DISTANCE, MIN_SIGN_GAP = 4.0, 1.0
MAX_CELLS = 400  # places and channels of signals in which a value is looked for


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


def find_signal_sentinels(x: NDArray) -> tuple[Sentinel, ...]:
    """The values of signals [N, T, C] or [N, C, T] that `find_sentinels` finds at some place and
    channel by itself, and in one of them as a whole: no channel is compared with others alone.

    Not 0, nor what begins or ends several signals alike, in all channels: padding.
    """
    cells = x.reshape(len(x), -1)
    some = np.sort(np.random.default_rng(0).permutation(cells.shape[1])[:MAX_CELLS])
    at_cells = [s for s in find_sentinels(cells[:, some], str) if s.value != 0]
    known, whole = np.ones(x.shape, bool), set()
    for axis in (1, 2) if at_cells else ():
        columns = np.moveaxis(x, axis, 2).reshape(-1, x.shape[axis])
        whole |= {s.value for s in find_sentinels(columns, str)}
        last = np.flip(_is_padding(np.flip(x, axis), axis), axis)
        known &= ~(_is_padding(x, axis) | last)
    found = []
    for value in sorted({s.value for s in at_cells} & whole):
        rows = int((known & (x == value)).any((1, 2)).sum())
        nearest = min((s for s in at_cells if s.value == value), key=lambda s: s.distance)
        if rows >= max(MIN_SENTINEL_ROWS, MIN_SENTINEL_FRACTION * len(x)):
            share = rows / len(x)
            found.append(replace(nearest, where="inputs", rows=rows, fraction=share, place=-1))
    return tuple(found)


def _is_padding(x: NDArray, axis: int) -> NDArray:
    """Which slices along an axis of x are those with which this and another signal begin."""
    first = x.take([0], axis)
    flat = first.reshape(len(x), -1)
    _, at, counts = np.unique(flat, axis=0, return_inverse=True, return_counts=True)
    alike = np.logical_and.accumulate((x == first).all(3 - axis, keepdims=True), axis)
    return alike & (counts[at.reshape(-1)] > 1)[:, None, None]


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
    outlying = end < 0 <= others.min() and middle - end > SIGN_DISTANCE * spread
    return nearest / spread, MIN_SIGN_GAP if outlying else SENTINEL_DISTANCE

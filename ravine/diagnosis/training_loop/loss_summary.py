"""The losses that a loop has told, which may go on for ever, in a memory of constant size."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

HELD = 256  # means at most; they then halve, each of twice as many numbers
RECENT = 256


@dataclass
class Told:
    """Means of successive, equally long stretches of all numbers so far, and the last numbers
    themselves.

    When there are more than 256 means, neighbors are merged: always 128 to 256 of them once there
    are so many numbers.

    >>> told = Told()
    >>> for i in range(1000):
    ...     told.add(float(i))
    >>> told.count, told.width, len(told.means), told.stretches(4)
    (1000, 4, 250, (123.5, 373.5, 623.5, 873.5))
    """

    count: int = 0
    width: int = 1  # numbers in a mean
    means: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _sum: float = 0.0
    _in: int = 0

    def add(self, value: float) -> None:
        """Take the next number, which is finite."""
        self.count += 1
        self.recent.append(value)
        self._sum += value
        self._in += 1
        if self._in == self.width:
            self.means.append(self._sum / self._in)
            self._sum, self._in = 0.0, 0
            if len(self.means) == HELD:
                self.means = [
                    (a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)
                ]
                self.width *= 2

    def stretches(self, count: int, *, since: int = 0) -> tuple[float, ...]:
        """The means of `count` stretches of nearly equal length, from number `since` on; () if
        there are too few.
        """
        held: Sequence[float] = self.means[-(-since // self.width) :]
        if len(held) < count:
            return ()
        ends = [len(held) * i // count for i in range(count + 1)]
        return tuple(sum(held[a:b]) / (b - a) for a, b in zip(ends[:-1], ends[1:], strict=True))

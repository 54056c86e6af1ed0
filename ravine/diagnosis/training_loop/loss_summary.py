"""A summary of a series of losses, which may have any length, in memory of constant size."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_MEANS = 256  # at which neighbors are merged, each mean then of twice as many losses
RECENT_LOSSES = 256


@dataclass
class LossSummary:
    """Means of successive stretches of equal length, and the last losses themselves.

    Neighboring means are merged at 256 of them: a long series always has 128 to 256 means.

    >>> summary = LossSummary()
    >>> for i in range(1000):
    ...     summary.add(float(i))
    >>> summary.count, summary.width, len(summary.means), summary.stretch_means(4)
    (1000, 4, 250, (123.5, 373.5, 623.5, 873.5))
    """

    count: int = 0
    width: int = 1  # losses in a mean
    means: list[float] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_LOSSES))
    _sum: float = 0.0
    _pending: int = 0

    def add(self, value: float) -> None:
        """Add the next loss, which must be finite."""
        self.count += 1
        self.recent.append(value)
        self._sum += value
        self._pending += 1
        if self._pending == self.width:
            self.means.append(self._sum / self._pending)
            self._sum, self._pending = 0.0, 0
            if len(self.means) == MAX_MEANS:
                self.means = [
                    (a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)
                ]
                self.width *= 2

    def stretch_means(self, count: int, *, since: int = 0) -> tuple[float, ...]:
        """The means of `count` stretches of nearly equal length, from loss number `since` on.

        Empty if there are too few losses.
        """
        means: Sequence[float] = self.means[-(-since // self.width) :]
        if len(means) < count:
            return ()
        ends = [len(means) * i // count for i in range(count + 1)]
        return tuple(sum(means[a:b]) / (b - a) for a, b in zip(ends[:-1], ends[1:], strict=True))

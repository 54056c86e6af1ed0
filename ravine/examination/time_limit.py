"""A limit to the time of an examination. Without one nothing that is found depends on the clock."""

import time
from dataclasses import dataclass, field

SPARE_TRIALS = 8  # runs that confirming a remedy may take, for which time is kept


@dataclass
class TimeLimit:
    """So many minutes from now on. `left_out` collects what there was no time for."""

    minutes: float
    start: float = field(default_factory=time.monotonic)
    trial_seconds: float = 0.0  # of one run, once there was one
    left_out: list[str] = field(default_factory=list)

    @property
    def end(self) -> float:
        """When it is over, by the monotonic clock."""
        return self.start + 60.0 * self.minutes

    @property
    def allows_trial(self) -> bool:
        """Whether there is time for another trial, and for confirming what it shows."""
        return time.monotonic() + (1 + SPARE_TRIALS) * self.trial_seconds < self.end

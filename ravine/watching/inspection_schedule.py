"""Which steps of a loop are inspected closely."""

from typing import Any

INSPECTION_INTERVAL = 200  # steps
FIRST_STEPS = 8  # all inspected
CONSECUTIVE_STEPS = 2  # rules ask that neighbors agree


class Inspection:
    """Two steps in `every` are inspected, more at first: 0 to 7, and two from each power of two. In
    quiet steps only losses and the versions of the weights are read. Each object that is touched
    between torch's own calls costs them a cache miss: hence the slots.
    """

    __slots__ = ("active", "every", "lr", "quiet_losses", "quiet_steps")

    def __init__(self, every: int):
        self.every = every
        self.active = True  # the current step is inspected
        self.quiet_steps = 0  # still to come
        self.quiet_losses = 0.0  # that may still be read in them
        self.lr: Any = None  # of the first group: a step at another one is not quiet

    def includes(self, step: int) -> bool:
        """Whether a step is inspected.

        >>> inspection = Inspection(every=200)
        >>> [step for step in range(420) if inspection.includes(step)][8:]
        [8, 9, 16, 17, 32, 33, 64, 65, 128, 129, 200, 201, 400, 401]
        """
        if step >= self.every:
            return step % self.every < CONSECUTIVE_STEPS
        return step < FIRST_STEPS or step - (1 << (step.bit_length() - 1)) < CONSECUTIVE_STEPS

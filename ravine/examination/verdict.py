"""What a remedy did: losses without it and with it, paired over seeds, weighed."""

import math
from collections.abc import Sequence

import numpy as np

from ravine.finding import Trial
from ravine.statistics import Interval, t_interval

CLEAR_HARM = 0.2  # of the loss without the remedy


def weigh(
    before: Sequence[float],
    after: Sequence[float],
    *,
    steps: int,
    least: float = 0.0,
    what: str = "the loss",
) -> Trial:
    """The verdict on a remedy, from losses of the same seeds `before` and `after` it was made.

    Helped: the 95 % interval of the mean paired difference lies below 0, and the mean is lower by
    `least` or more. Worse: the same, upwards; or several pairs, too few for a narrow interval, all
    of which rose by `CLEAR_HARM` of what they were: what is advised must be sure to help, what is
    advised against need not be sure to harm. A loss that is not finite is a failure, and failures
    are counted first: if one side has fewer, that side wins; pairs with a failure are then left out
    of the numbers. `why` says `what` the numbers are, how many runs failed, and where all seeds
    agree to three digits, so that the interval has no width. One pair has no interval and shows
    nothing, whatever the difference.

    >>> weigh([1.0, 1.1, 0.9], [0.5, 0.62, 0.4], steps=100).verdict
    'helped'
    >>> weigh([math.inf, 1.0], [0.9, 1.0], steps=100).verdict
    'helped'
    >>> weigh([1.0], [0.1], steps=100).verdict
    'no effect'
    >>> weigh([math.inf, 1.0], [0.9, 1.0], steps=100, what="1 - score").why
    'means of 1 - score; 1 of 2 runs failed without the change, 0 of 2 with it'
    """
    if len(before) != len(after):
        counts = f"{len(before)} losses before, {len(after)} after"
        raise ValueError(f"{counts}: they are paired by seed")
    pairs = np.array([before, after], dtype=float)
    failed = (~np.isfinite(pairs)).sum(axis=1)
    x, y = pairs[:, np.isfinite(pairs).all(axis=0)]
    difference = t_interval(y - x) if len(x) else Interval(math.nan, math.nan, math.nan)
    certain = math.isfinite(difference.low)  # the ends are NaN for a single pair
    verdict = "no effect"
    if failed[0] != failed[1]:
        verdict = "helped" if failed[1] < failed[0] else "worse"
    elif difference.high < 0 and difference.value <= -least:
        verdict = "helped"
    elif difference.low > 0 and difference.value >= least:
        verdict = "worse"
    elif len(x) > 1 and (y - x > np.maximum(CLEAR_HARM * np.abs(x), least)).all():
        verdict = "worse"
    counted = (x, y) if len(x) else (losses[np.isfinite(losses)] for losses in pairs)
    means = [float(losses.mean()) if len(losses) else None for losses in counted]
    why = [] if means == [None, None] else [f"means of {what}"]
    if failed.any():
        runs = f"{failed[0]} of {len(before)} runs failed without the change"
        why.append(f"{runs}, {failed[1]} of {len(before)} with it")
    if certain and f"{difference.low:.3g}" == f"{difference.high:.3g}":
        why.append(f"the same in all {len(x)} seeds")
    return Trial(
        verdict=verdict,
        steps=steps,
        seeds=len(before),
        before=means[0],
        after=means[1],
        difference=difference.value if len(x) else None,
        interval=(difference.low, difference.high) if certain else None,
        why="; ".join(why),
    )

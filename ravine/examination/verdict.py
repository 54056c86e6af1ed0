"""What a remedy did: losses without it and with it, paired over seeds, weighed."""

import math
from collections.abc import Sequence

import numpy as np

from ravine.finding import Trial
from ravine.statistics import Interval, signed_rank_interval, signed_rank_tail

SURE_TAIL = 0.05  # of the signed ranks: all of five pairs have 1 / 32
LEAST_CHANGE = 0.02  # of the loss: less is no effect, however sure
CLEAR_HARM = 0.2  # of the loss without the remedy


def weigh(
    before: Sequence[float],
    after: Sequence[float],
    *,
    steps: int,
    least: float | None = None,
    what: str = "the loss",
) -> Trial:
    """The verdict on a remedy, from losses of the same seeds `before` and `after` it was made.

    Helped: the signed ranks of the paired changes say so with a probability of error of at most 5 %
    (of five pairs all must fall, of eight those with the least changes may rise), and the median
    change is at least `least`, or 2 % of the loss. Changes are logarithms of ratios where all
    losses are positive, else differences: one pair that gains most does not count against the
    rest. Worse: the same, upwards; or several pairs, too few to be sure, all of which rose by
    `CLEAR_HARM` of what they were: what is advised must be sure to help, what is advised against
    need not be sure to harm. A loss that is not finite is a failure, and failures are counted
    first: if one side has fewer, that side wins; pairs with a failure are then left out of the
    numbers. `before` and `after` of the trial are medians, `difference` the median of the changes
    with the interval of the signed ranks. `why` says `what` the numbers are, how many runs failed,
    and where all seeds agree to three digits, so that the interval has no width. One pair shows
    nothing, whatever the difference.

    >>> weigh([24.0, 25.0, 64.0, 24.0, 25.0], [12.0, 12.1, 12.2, 11.9, 12.0], steps=100).verdict
    'helped'
    >>> weigh([math.inf, 1.0], [0.9, 1.0], steps=100).verdict
    'helped'
    >>> weigh([1.0], [0.1], steps=100).verdict
    'no effect'
    >>> weigh([math.inf, 1.0], [0.9, 1.0], steps=100, what="1 - score").why
    'medians of 1 - score; 1 of 2 runs failed without the change, 0 of 2 with it'
    """
    if len(before) != len(after):
        counts = f"{len(before)} losses before, {len(after)} after"
        raise ValueError(f"{counts}: they are paired by seed")
    pairs = np.array([before, after], dtype=float)
    failed = (~np.isfinite(pairs)).sum(axis=1)
    x, y = pairs[:, np.isfinite(pairs).all(axis=0)]
    difference = signed_rank_interval(y - x) if len(x) else Interval(math.nan, math.nan, math.nan)
    certain = math.isfinite(difference.low)  # the ends are NaN for a single pair
    verdict = "no effect"
    if failed[0] != failed[1]:
        verdict = "helped" if failed[1] < failed[0] else "worse"
    elif _falls(x, y, least):
        verdict = "helped"
    elif _falls(y, x, least):
        verdict = "worse"
    elif len(x) > 1 and (y - x > np.maximum(CLEAR_HARM * np.abs(x), least or 0.0)).all():
        verdict = "worse"
    counted = (x, y) if len(x) else (losses[np.isfinite(losses)] for losses in pairs)
    medians = [float(np.median(losses)) if len(losses) else None for losses in counted]
    why = [] if medians == [None, None] else [f"medians of {what}"]
    if failed.any():
        runs = f"{failed[0]} of {len(before)} runs failed without the change"
        why.append(f"{runs}, {failed[1]} of {len(before)} with it")
    if certain and f"{difference.low:.3g}" == f"{difference.high:.3g}":
        why.append(f"the same in all {len(x)} seeds")
    return Trial(
        verdict=verdict,
        steps=steps,
        seeds=len(before),
        before=medians[0],
        after=medians[1],
        difference=difference.value if len(x) else None,
        interval=(difference.low, difference.high) if certain else None,
        why="; ".join(why),
    )


def _falls(x: np.ndarray, y: np.ndarray, least: float | None) -> bool:
    """Whether y is surely and noticeably lower than x."""
    if not len(x):
        return False
    ratios = (x > 0).all() and (y > 0).all()
    changes = np.log(y / x) if ratios else y - x
    enough = LEAST_CHANGE * float(np.median(np.abs(x))) if least is None else least
    sure = signed_rank_tail(changes) <= SURE_TAIL
    return sure and float(np.median(x - y)) >= enough and float(np.median(x - y)) > 0

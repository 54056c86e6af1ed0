"""Statistics of paired differences: two choices run with the same seeds, scored on the same rows.

A difference varies with the seed (start, order, dropout) and with the rows that it is scored on:
its interval counts both. What a test says of several pairs at once is corrected by Holm's method.

Letters: S seeds, B bootstrap samples of the rows, K tests.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtrit

from ravine.statistics import Interval, wilson_interval

EXACT_FLIPS = 16  # differences whose signs are flipped in all 2^S ways; of more, some are drawn
TARGET_POWER = 0.8  # of a study that is asked how many seeds it needs


def paired_interval(
    differences: ArrayLike, resampled: ArrayLike | None = None, *, confidence: float = 0.95
) -> Interval:
    """The mean of the differences [S], with an interval for other seeds and other rows.

    `resampled` [B, S] are the differences in bootstrap samples of the rows; without them the
    interval is Student's, for these rows alone. With V_s = s²/S of the differences, V_r the
    variance of their mean over the samples, and v the mean over seeds of that of one difference:

        V = V_s + V_r - (v - V_r) / (S - 1),      mean ± t · √V

    The last term is what V_s and V_r both hold of how rows and seeds vary together. The degrees of
    freedom of t are Satterthwaite's (1946), S - 1 for V_s; V_r is taken as known. Both ends are NaN
    for a single seed.

    >>> [round(x, 3) for x in paired_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    x = np.asarray(differences, dtype=float).ravel()
    mean, count = float(x.mean()), len(x)
    if count < 2:
        return Interval(mean, math.nan, math.nan)
    of_seeds = float(x.var(ddof=1)) / count
    of_rows = total = 0.0
    if resampled is not None:
        drawn = np.asarray(resampled, dtype=float)
        of_rows = float(drawn.mean(1).var())
        shared = (float(drawn.var(0).mean()) - of_rows) / (count - 1)
        total = of_seeds + of_rows - max(0.0, shared)
    total = max(total, of_seeds, of_rows)
    if total == 0:
        return Interval(mean, mean, mean)
    freedom = (count - 1) * (total / of_seeds) ** 2 if of_seeds > 0 else math.inf
    quantile = ndtri((1 + confidence) / 2)
    if freedom < 1e6:
        quantile = stdtrit(freedom, (1 + confidence) / 2)
    half = float(quantile) * math.sqrt(total)
    return Interval(mean, mean - half, mean + half)


def sign_flip_p(differences: ArrayLike) -> float:
    """The two-sided p value of a mean of differences [S] if all signs were as likely (Fisher 1935).

    The share of the 2^S ways to choose the signs whose mean is as far from 0, of more than 16
    differences that of 65,535 random ones and the one observed. 1 where all are 0. With S seeds it
    is never below 2^(1 - S): five seeds cannot reach 0.05 (`least_seeds`).

    >>> sign_flip_p([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    0.03125
    """
    x = np.asarray(differences, dtype=float).ravel()
    size = np.abs(x)
    if len(x) <= EXACT_FLIPS:
        sums = np.zeros(1)
        for value in size:
            sums = np.concatenate([sums - value, sums + value])
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2**EXACT_FLIPS, len(x)))
        signs[0] = np.sign(x)
        sums = signs @ size
    least = abs(float(x.sum())) * (1 - 1e-9)  # equal but for rounding counts
    return float((np.abs(sums) >= least).mean())


def holm(p_values: ArrayLike) -> np.ndarray:
    """The p values [K] of several tests, corrected so that one false one among them is as rare.

    Sorted upwards, the i-th of K is multiplied by K - i + 1, and none is below one before it (Holm
    1979).

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float).ravel()
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected


def probability_of_better(differences: ArrayLike) -> Interval:
    """The probability that a seed gives a positive difference, ties counted half, with Wilson's
    interval; an infinite difference is one where the other of a pair failed.

    Bouthillier et al. 2021 call a choice better in practice where it is 0.75 or more.

    >>> [round(x, 3) for x in probability_of_better([0.1, 0.2, 0.0, 0.3])]
    [0.875, 0.396, 0.987]
    """
    x = np.asarray(differences, dtype=float).ravel()
    share = float(((x > 0) + 0.5 * (x == 0)).mean())
    return Interval(share, *wilson_interval(share, len(x)))


def seeds_needed(differences: ArrayLike, *, level: float = 0.05) -> float:
    """How many seeds would tell a difference of this size from 0, four times of five.

        n = (z + z₀.₈)² s² / d² + z² / 2,      z the quantile at 1 - level / 2

    rounded up: a paired t test with a power of 80 %, d the mean and s the standard deviation of the
    differences (the last term: Guenther 1981), but no fewer than the sign-flip test needs to reach
    the level at all (`least_seeds`). Infinite for d = 0, NaN for one seed.

    >>> seeds_needed([0.0, 1.0, 2.0, 1.0])
    8.0
    """
    x = np.asarray(differences, dtype=float).ravel()
    if len(x) < 2:
        return math.nan
    if x.mean() == 0:
        return math.inf
    z = float(ndtri(1 - level / 2))
    ratio = float(x.std(ddof=1) / abs(x.mean()))
    count = math.ceil(((z + float(ndtri(TARGET_POWER))) * ratio) ** 2 + z * z / 2)
    return float(max(count, least_seeds(level)))


def least_seeds(level: float) -> int:
    """With how many seeds the sign-flip test can reach a level: 2^(1 - S) is at most that.

    >>> least_seeds(0.05), least_seeds(0.05 / 6)
    (6, 8)
    """
    return 1 + math.ceil(math.log2(1 / level))

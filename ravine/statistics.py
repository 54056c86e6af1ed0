"""Statistics: standard errors and intervals (of means, shares and areas under the ROC curve), tails
and trends. What a metric measures stands in `metrics`.

Letters: P networks, N examples, K classes or labels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import bdtr, bdtrc, ndtr, ndtri, stdtrit
from torch import Tensor

BOOTSTRAP_RESAMPLES = 2000


class Interval(NamedTuple):
    """A number with its 95 % interval; both ends are NaN where there is only one value."""

    value: float
    low: float
    high: float


def t_interval(values: ArrayLike) -> Interval:
    """The mean of independent values, with Student's interval.

    >>> [round(x, 3) for x in t_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    x = np.asarray(values, dtype=float).ravel()
    if len(x) < 2:
        return Interval(float(x.mean()), math.nan, math.nan)
    half = float(stdtrit(len(x) - 1, 0.975)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean()) - half, float(x.mean()) + half)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> Interval:
    """A statistic of independent values [N], with the percentiles of 2,000 resamples.

    `statistic` takes [R, N] to [R]. The same at every call. With fewer than two values both ends
    are NaN.

    >>> found = bootstrap_interval([1.0, 2.0, 4.0, 8.0], lambda drawn: np.median(drawn, axis=1))
    >>> found.value, found.low <= found.value <= found.high
    (3.0, True)
    """
    x = np.asarray(values, dtype=float).ravel()
    value = float(statistic(x[None])[0])
    if len(x) < 2:
        return Interval(value, math.nan, math.nan)
    drawn = x[np.random.default_rng(0).integers(0, len(x), (BOOTSTRAP_RESAMPLES, len(x)))]
    low, high = np.quantile(statistic(drawn), (0.025, 0.975))
    return Interval(value, float(low), float(high))


def censored_median(times: ArrayLike) -> Interval:
    """The median of times, NaN where what is awaited never came, with an interval (Thompson 1936).

    The ends are those that the binomial test of a median excludes at 2.5 % on each side, with fewer
    than six times the least and the largest (5: 94 %). Infinite beyond the known ones.
    """
    x = np.sort(np.nan_to_num(np.asarray(times, dtype=float).ravel(), nan=math.inf))
    cut = max(0, int((bdtr(np.arange(len(x)), len(x), 0.5) <= 0.025).sum()) - 1)
    middle = float(x[[(len(x) - 1) // 2, len(x) // 2]].mean())
    return Interval(middle, float(x[cut]), float(x[-1 - cut]))


def signed_rank_interval(differences: ArrayLike) -> Interval:
    """The center of a symmetric distribution, with the interval of Wilcoxon's signed ranks.

    The value is the median of all means of two differences (Hodges & Lehmann 1963). The ends are
    those means that the exact test with a probability of at most 2.5 % on each side excludes; with
    fewer than six differences none does, and they are the least and the largest (5: 94 %).

    >>> signed_rank_interval([-2.0, -1.0, -40.0, -1.5, -3.0])
    Interval(value=-2.25, low=-40.0, high=-1.0)
    """
    x = np.asarray(differences, dtype=float).ravel()
    if len(x) < 2:
        return Interval(float(x.mean()), math.nan, math.nan)
    i, j = np.triu_indices(len(x))
    means = np.sort((x[i] + x[j]) / 2)
    shares = np.cumsum(_signed_rank_counts(len(x))) / 2 ** len(x)
    cut = max(0, int((shares <= 0.025).sum()) - 1)
    return Interval(float(np.median(means)), float(means[cut]), float(means[-1 - cut]))


def signed_rank_tail(differences: ArrayLike) -> float:
    """The probability of as small a sum of the ranks of the positive differences, if positive and
    negative ones of each size were as likely (Wilcoxon 1945, exact). Zeros count as positive, and
    of equal sizes each has the highest rank.

    >>> signed_rank_tail([-2.0, -1.0, -40.0, -1.5, -3.0])  # all of five: one of 32
    0.03125
    """
    x = np.asarray(differences, dtype=float).ravel()
    size = np.abs(x)
    ranks = (size[:, None] >= size).sum(1)
    counts = _signed_rank_counts(len(x))
    return float(counts[: int(ranks[x >= 0].sum()) + 1].sum() / 2 ** len(x))


def _signed_rank_counts(pairs: int) -> np.ndarray:
    """How many of the 2^pairs choices of signs give each sum of ranks, from 0."""
    counts = np.ones(1)
    for rank in range(1, pairs + 1):
        counts = np.pad(counts, (0, rank)) + np.pad(counts, (rank, 0))
    return counts


def normal_quantile(confidence: float) -> float:
    """The quantile of the normal distribution at (1 + confidence) / 2.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    return float(ndtri((1 + confidence) / 2))


def t_quantile(z: float, freedom: int) -> float:
    """The quantile of Student's t distribution with the tail of the normal quantile `z`.

    >>> round(t_quantile(1.6449, 10), 2)
    1.81
    """
    return -float(stdtrit(freedom, ndtr(-z)))


def binomial_tail(count: int, of: int, chance: float) -> float:
    """The chance of at least `count` successes in `of` trials.

    >>> round(binomial_tail(2, 2, 0.5), 3)
    0.25
    """
    return float(bdtrc(count - 1, of, chance))


def wilson_interval(share: float, count: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for a probability, observed as `share` in `count` trials (Wilson 1927)."""
    z2 = normal_quantile(confidence) ** 2
    scale = 1 + z2 / count
    middle = (share + z2 / (2 * count)) / scale
    half = math.sqrt(z2 * share * (1 - share) / count + z2 * z2 / (4 * count * count)) / scale
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return 0.0 if share == 0 else low, 1.0 if share == 1 else high


def delong_interval(
    area: float, error: float, *, rarer: float, confidence: float = 0.95
) -> tuple[float, float]:
    """An interval for an area under the ROC curve, from its standard error, on its logit.

    The error is 0 where the examples are sorted perfectly: then the width follows from `rarer`, the
    number of examples of the rarer class.
    """
    if error == 0 or not 0 < area < 1:
        return wilson_interval(area, rarer, confidence=confidence)
    logit = math.log(area / (1 - area))
    half = normal_quantile(confidence) * error / (area * (1 - area))
    return 1 / (1 + math.exp(half - logit)), 1 / (1 + math.exp(-half - logit))


def roc_auc(scores: Tensor, truth: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The area under the ROC curve [P] and its standard error [P] (DeLong et al. 1988).

    The share of pairs (positive, negative) in the right order, ties counting half, averaged over
    the classes or labels that have both (one against the rest); NaN if none has. `scores` are [P,
    N, K], `truth` [N, K] of 0 and 1, `weights` [N]. The error is computed from each example's
    contribution to the average; with one class and equal weights it is DeLong's.
    """
    areas, parts = [], []
    for k, positive in _with_both_classes(truth):
        up, down = scores[:, positive, k], scores[:, ~positive, k]
        up_weights, down_weights = weights[positive], weights[~positive]
        above = _share_below(up, down, down_weights)
        below = 1 - _share_below(down, up, up_weights)
        area = (above * up_weights).sum(1) / up_weights.sum()
        part = torch.zeros_like(scores[..., 0])
        part[:, positive] = _contribution(above, area, up_weights)
        part[:, ~positive] = _contribution(below, area, down_weights)
        areas.append(area)
        parts.append(part)
    if not areas:
        nothing = scores.new_full((scores.shape[0],), math.nan)
        return nothing, nothing
    return torch.stack(areas).mean(0), torch.stack(parts).mean(0).square().sum(1).sqrt()


def average_precision(scores: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The area under the steps of the precision-recall curve, [P]: Σ (Rᵢ − Rᵢ₋₁) · precisionᵢ.

    Equal scores are one step, as in scikit-learn; averaged over the classes or labels that have
    both positives and negatives (NaN if none has). Shapes are those of `roc_auc`.
    """
    areas = []
    for k, positive in _with_both_classes(truth):
        ascending, order = (-scores[..., k]).sort(1)
        hits = (weights * positive)[order]
        last = torch.searchsorted(ascending, ascending, right=True) - 1  # of the equal scores
        precision = (hits.cumsum(1) / weights[order].cumsum(1)).gather(1, last)
        areas.append((hits * precision.nan_to_num()).sum(1) / hits.sum(1))
    if not areas:
        return scores.new_full((scores.shape[0],), math.nan)
    return torch.stack(areas).mean(0)


def _with_both_classes(truth: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The columns of truth [N, K] that have positives [N] and negatives."""
    columns = ((k, truth[:, k] > 0.5) for k in range(truth.shape[1]))
    return ((k, positive) for k, positive in columns if positive.any() and not positive.all())


def _share_below(values: Tensor, others: Tensor, weights: Tensor) -> Tensor:
    """Of each value of a row, the weighted share of the other row below it, ties half."""
    ordered, order = others.sort(1)
    sums = torch.cat([weights.new_zeros(len(others), 1), weights[order].cumsum(1)], 1)
    below = torch.searchsorted(ordered, values.contiguous())
    up_to = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (sums.gather(1, below) + sums.gather(1, up_to)) / 2 / weights.sum()


def _contribution(shares: Tensor, area: Tensor, weights: Tensor) -> Tensor:
    """Each example's contribution to the area; their squares sum to the variance."""
    count = shares.shape[1]
    unbiased = math.sqrt(count / max(1, count - 1))
    return (shares - area[:, None]) * (weights / weights.sum()) * unbiased


def even_places(count: int, most: int) -> Tensor:
    """At most `most` places in `count` rows, evenly spread from the first to the last.

    >>> even_places(7, 3)
    tensor([0, 3, 6])
    """
    places = torch.linspace(0, count - 1, min(most, count)).round().long()
    return places.clamp(max=count - 1)  # in float32 the last of over 2^24 rows is rounded up


def theil_sen(x: np.ndarray, y: np.ndarray, z: float) -> tuple[float, float, float]:
    """The median slope between pairs of points, with its interval at the quantile `z` (Sen 1968).

    The interval's ends are the slopes of rank (P ∓ z s) / 2, P pairs, s² = n (n − 1) (2n + 5) / 18.

    >>> theil_sen(np.arange(5.0), np.array([0.0, 1, 2, 3, 90]), 1.0)[0]
    1.0
    """
    i, j = np.triu_indices(len(x), 1)
    apart = x[j] - x[i]
    slopes = np.sort((y[j] - y[i])[apart > 0] / apart[apart > 0])
    if not len(slopes):
        return math.nan, -math.inf, math.inf
    n, pairs = len(x), len(slopes)
    spread = z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = math.floor((pairs - spread) / 2), math.ceil((pairs + spread) / 2)
    least = float(slopes[low]) if low >= 0 else -math.inf
    most = float(slopes[high]) if high < pairs else math.inf
    return float(np.median(slopes)), least, most


def mean_with_error(values: np.ndarray) -> tuple[float, float]:
    """The mean and its standard error, from blocks of neighbors so that correlations count.

    At most ten blocks; a trend makes the error larger.

    >>> mean_with_error(np.array([1.0, 3.0, 1.0, 3.0, 1.0, 3.0]))[0]
    2.0
    """
    blocks = np.array([part.mean() for part in np.array_split(values, min(10, len(values)))])
    if len(blocks) < 2:
        return float(values.mean()), math.inf
    return float(values.mean()), float(blocks.std(ddof=1) / math.sqrt(len(blocks)))


def mean_and_sd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature (of [N, F], [N, T, F]) or channel
    ([N, C, H, W]); 1 in place of the standard deviation of a constant.
    """
    over = (0, 2, 3) if x.dim() == 4 else tuple(range(x.dim() - 1)) if x.dim() > 1 else (0,)
    kind = x.dtype if x.is_floating_point() and x.element_size() > 4 else torch.float
    x = x.double()
    mean, sd = x.mean(over, keepdim=True)[0], x.std(over, keepdim=True, correction=0)[0]
    constant = (sd <= 1e-12 * (mean.abs() + 1e-300)) | (sd == 0)
    return mean.to(kind), torch.where(constant, torch.ones_like(sd), sd).to(kind)

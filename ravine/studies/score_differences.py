"""Choices compared by their scores: means and differences with intervals, tests, Holm's correction.

Letters: C choices, S seeds, B bootstrap samples of the rows.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ravine.paired import holm, paired_interval, probability_of_better, seeds_needed, sign_flip_p
from ravine.statistics import Interval, wilson_interval
from ravine.studies.panel import Scored
from ravine.studies.verdict import ChoiceResult, Difference

SIGNIFICANCE_LEVEL = 0.05  # of all comparisons of a verdict together, after Holm
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


def compare_scores(
    choices: Sequence[ChoiceResult],
    resampled: Sequence[np.ndarray | None],
    *,
    higher_is_better: bool,
    margin: float | None = None,
    paired: bool = True,
) -> tuple[tuple[ChoiceResult, ...], tuple[Difference, ...]]:
    """The choices with their intervals, best first, and the differences of all pairs of them.

    `resampled` has each choice's scores in samples of the rows [B, S], the same rows for all; None
    where only the scores are known.
    """
    sign = 1.0 if higher_is_better else -1.0
    known = [
        dataclasses.replace(choice, score=_mean_score(choice, rows, sign))
        for choice, rows in zip(choices, resampled, strict=True)
    ]

    def place(i: int) -> tuple[bool, float]:
        return known[i].has_failed, -sign * known[i].score.value

    order = sorted(range(len(known)), key=place)
    found: list[Difference] = []
    level = SIGNIFICANCE_LEVEL / max(1, math.comb(len(known), 2))
    for i, j in itertools.combinations(order, 2):
        samples = resampled[i], resampled[j]
        if paired:
            one = _difference(known[i], known[j], samples, sign=sign, margin=margin, level=level)
            found.append(one)
        else:
            found.append(_unpaired_difference(known[i], known[j], sign=sign, margin=margin))
    corrected = holm([difference.p for difference in found]).tolist()
    differences = tuple(map(_with_outcome, found, corrected))
    return tuple(known[i] for i in order), differences


def reference_leads(
    best: ChoiceResult,
    samples: np.ndarray,
    references: Mapping[str, Scored],
    *,
    higher_is_better: bool,
) -> dict[str, Interval]:
    """How far the best choice is ahead of each reference, over seeds and rows.

    `samples` are its scores in samples of the rows [B, S]; a reference has one score, [B, 1].
    """
    sign = 1.0 if higher_is_better else -1.0
    scores = np.array(best.scores)
    ended = ~np.isnan(scores)
    if best.has_failed:
        return {}
    return {
        name: paired_interval(
            sign * (scores[ended] - known.scores[0]), sign * (samples[:, ended] - known.samples)
        )
        for name, known in references.items()
    }


def _mean_score(choice: ChoiceResult, samples: np.ndarray | None, sign: float) -> Interval:
    """The mean score of the seeds that did not fail; scores end at 1, losses at 0."""
    scores = np.array(choice.scores)
    ended = ~np.isnan(scores)
    if not ended.any():
        return NO_INTERVAL
    found = paired_interval(scores[ended], None if samples is None else samples[:, ended])
    if sign > 0:
        return found._replace(high=min(found.high, 1.0))
    return found._replace(low=max(found.low, 0.0))


def _difference(
    one: ChoiceResult,
    other: ChoiceResult,
    samples: tuple[np.ndarray | None, np.ndarray | None],
    *,
    sign: float,
    margin: float | None,
    level: float,
) -> Difference:
    """The difference of two choices seed by seed, its p not yet corrected for the others."""
    a, b = (sign * np.array(choice.scores) for choice in (one, other))
    failed_a, failed_b = np.isnan(a), np.isnan(b)
    both = ~failed_a & ~failed_b
    # where one failed, the other is better by more than any score
    apart = np.where(failed_a == failed_b, 0.0, np.where(failed_b, np.inf, -np.inf))
    apart[both] = (a - b)[both]
    interval, needed, is_equivalent = NO_INTERVAL, math.nan, False
    if both.any():
        drawn = None
        if samples[0] is not None and samples[1] is not None:
            drawn = sign * (samples[0] - samples[1])[:, both]
        interval = paired_interval(apart[both], drawn)
        needed = seeds_needed(apart[both], level=level)
        is_equivalent = both.all() and _lies_within(interval, margin)
    ranks = np.sign(apart) * stats.rankdata(np.abs(apart))
    return Difference(
        better=one.name,
        worse=other.name,
        interval=interval,
        p=sign_flip_p(apart if both.all() else ranks),
        probability=probability_of_better(apart),
        seeds_needed=needed,
        outcome="equivalent" if is_equivalent else "undecided",
    )


def _unpaired_difference(
    one: ChoiceResult, other: ChoiceResult, *, sign: float, margin: float | None
) -> Difference:
    """The difference of two choices with other seeds or rows: Welch's interval, and the test of
    Mann and Whitney 1947, for which a failure is below all scores.
    """
    a, b = (sign * np.array(choice.scores) for choice in (one, other))
    ended_a, ended_b = a[~np.isnan(a)], b[~np.isnan(b)]
    interval, is_equivalent = NO_INTERVAL, False
    if len(ended_a) > 1 and len(ended_b) > 1:
        test = stats.ttest_ind(ended_a, ended_b, equal_var=False)
        mean = float(ended_a.mean() - ended_b.mean())
        interval = Interval(mean, *map(float, test.confidence_interval(0.95)))
        is_equivalent = len(ended_a) + len(ended_b) == len(a) + len(b)
        is_equivalent = is_equivalent and _lies_within(interval, margin)
        interval = interval if math.isfinite(interval.low) else Interval(mean, mean, mean)
    ranked = stats.rankdata(np.nan_to_num(np.concatenate([a, b]), nan=-np.inf))
    test = stats.mannwhitneyu(ranked[: len(a)], ranked[len(a) :])
    share = float(test.statistic) / (len(a) * len(b))
    return Difference(
        better=one.name,
        worse=other.name,
        interval=interval,
        p=float(test.pvalue),
        probability=Interval(share, *wilson_interval(share, min(len(a), len(b)))),
        seeds_needed=math.nan,
        outcome="equivalent" if is_equivalent else "undecided",
    )


def _lies_within(interval: Interval, margin: float | None) -> bool:
    return margin is not None and -margin < interval.low and interval.high < margin


def _with_outcome(difference: Difference, corrected_p: float) -> Difference:
    """A difference with its corrected p value, "better" where that and the interval say so."""
    is_shown = corrected_p <= SIGNIFICANCE_LEVEL and not difference.interval.low <= 0
    outcome = "better" if is_shown and difference.outcome == "undecided" else difference.outcome
    return dataclasses.replace(difference, corrected_p=corrected_p, outcome=outcome)

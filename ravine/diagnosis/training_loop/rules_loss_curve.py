"""What the told losses say: whether they rise, whether anything was learned, whether a schedule
ended too soon.

These rules are not exact. They share one budget: in a run that has none of these faults, the chance
that any of them says anything, at any look, is meant to be 5 % at most. Each of `TESTS` rules gets
an equal part of it; a rule spends 6 / (pi^2 j^2) of its part at its j-th look, which comes after
64, 128, 256, ... losses, so that the sum over all looks stays within the part however long the run.
Beside being sure, a difference must be large enough to matter. The tests take the means of
stretches as exchangeable where nothing happens. Losses that wander slowly, as of networks that play
against each other, are not: where several optimizers step, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist, median

from ravine.diagnosis.rule import Observation, rule
from ravine.diagnosis.training_loop.history import Story
from ravine.finding import Change, Evidence

ALPHA = 0.05
TESTS = 4
FEWEST = 64  # losses
STRETCHES = 32
LAST = 8  # stretches, which are held against the first 16
TWICE = 2.0  # a cross entropy that rises so much above its start is no noise of learning
FAR = 100.0  # any other loss: that of a game or a moving target may grow with what is learned
NULL_LOSSES = 200
BETTER = 0.02  # than a constant answer: less counts as nothing learned
WORSE = 1.2  # than a constant answer: steps too long rather than nothing to learn
FLAT = 0.1  # of its level by which a loss may still fall
FAINT = 2 / 3  # share of the steps
DONE = 0.1  # of the first loss: below, there is little left to learn
JUMP, HIGH, RUNS = (
    20.0,
    3.0,
    2,
)  # spreads above the median, times the median, and how many such runs
MOVED = 0.01  # of their length, by which weights move when they learn


def allowed(count: int) -> float:
    """The chance of a false alarm that one test may take at the look after so many losses.

    >>> [round(allowed(n), 5) for n in (64, 127, 128, 256)]
    [0.0076, 0.0076, 0.0019, 0.00084]
    """
    j = max(1, (count // FEWEST).bit_length())
    return ALPHA / TESTS * 6 / (math.pi**2 * j * j)


@rule(
    "RVN-T21",
    severity="warning",
    confidence="medium",
    cause="learning-rate-high",
    also=("exploding", "input-scale"),
    needs="losses",
    picture="range-test",
)
def rising(story: Story) -> Iterator[Observation]:
    """All of the last 8 of 32 means above all of the first 16: by chance once in C(24, 8) = 735,471
    times. Or their mean, less its error, far above the loss of the best constant answer."""
    means = story.told.stretches(STRETCHES)
    if not means or 1 / math.comb(LAST + STRETCHES // 2, LAST) > allowed(story.told.count):
        return
    early, late = means[: STRETCHES // 2], means[-LAST:]
    times = TWICE if story.kind in ("NllLoss", "BinaryCrossEntropyWithLogits") else FAR
    start = story.losses[0] if story.losses else early[0]
    rose = 0 < max(early) * times < min(late)
    level = sum(late) / LAST
    if story.constant is not None and story.kind and not rose:
        rose = level - _sure(story) * _error(late) > times * (story.constant + story.spread)
    if rose and 0 < start * times < min(late):
        yield Observation(
            evidence=(
                Evidence("loss at first", start),
                Evidence("mean loss lately", sum(late) / LAST, "", times * start),
            ),
            changes=(Change("lr", story.lr / 10),),
        )


@rule(
    "RVN-T22",
    severity="warning",
    confidence="medium",
    cause="labels",
    also=(
        "learning-rate-low",
        "shuffling",
        "learning-rate-high",
        "architecture-too-small",
        "schedule",
        "too-few-steps",
    ),
    needs="constant",
    picture="initial-loss",
)
def nothing_learned(story: Story) -> Iterator[Observation]:
    """At the end: the mean of the last quarter, plus its error, against the entropy or variance of
    the targets.
    """
    if (
        not story.ended
        or story.constant is None
        or story.told.count < NULL_LOSSES
        or not story.kind
    ):
        return
    means = story.told.stretches(STRETCHES)
    if not means or any(True for _ in rising(story)):
        return
    late = means[-LAST:]
    level, error, sure = sum(late) / LAST, _error(late), _sure(story)
    best = story.constant - sure * story.spread
    if (
        best > 0
        and level - sure * error > (1 - BETTER) * best
        and level - sure * error > 0.9 * story.constant
    ):
        cause, suspects = "labels", ("shuffling", "learning-rate-high", "architecture-too-small")
        if story.moved < MOVED:
            cause, suspects = "learning-rate-low", ("schedule", "too-few-steps")
        elif level > WORSE * story.constant:
            cause, suspects = "learning-rate-high", ("labels", "shuffling")
        yield Observation(
            cause=cause,
            suspects=suspects,
            evidence=(
                Evidence("mean loss at the end", level, "", (1 - BETTER) * best),
                Evidence("loss of the best constant answer", story.constant),
                Evidence("the weights moved, of their length", 100 * story.moved, "%"),
            ),
        )


@rule(
    "RVN-T23",
    severity="warning",
    confidence="medium",
    cause="schedule",
    needs="losses",
    explains=("RVN-L16",),
    picture="schedules",
)
def stopped_early(story: Story) -> Iterator[Observation]:
    """Less than a hundredth of the rate for two thirds of all steps, over which the loss does not
    fall any more.
    """
    if story.lr_faint < max(FEWEST, FAINT * story.steps) or story.lr == 0 or not story.losses:
        return
    share = 1 - story.lr_faint / story.steps
    since = math.ceil(share * story.told.count)
    means = story.told.stretches(2 * LAST, since=since)
    if not means:
        return
    early, late = means[:LAST], means[LAST:]
    level = sum(late) / LAST
    noise = math.sqrt(
        sum((b - a) ** 2 for a, b in zip(means, means[1:], strict=False)) / (4 * LAST - 2)
    )
    could = (
        sum(early) / LAST - level + _sure(story) * noise * math.sqrt(2 / LAST)
    )  # the most that it may have fallen
    if level > DONE * story.losses[0] > 0 and could < FLAT * level:
        yield Observation(
            since=story.steps - story.lr_faint,
            evidence=(
                Evidence(
                    "steps at less than 1/100 of the highest learning rate",
                    story.lr_faint,
                    "",
                    FAINT * story.steps,
                ),
                Evidence("loss then", sum(early) / LAST),
                Evidence("loss lately", level),
            ),
            changes=(Change("loop", "a schedule as long as the run; step it once an epoch"),),
        )


@rule(
    "RVN-T24",
    severity="note",
    confidence="low",
    cause="learning-rate-high",
    also=("data-degenerate", "schedule"),
    needs="losses",
)
def spikes(story: Story) -> Iterator[Observation]:
    """Runs of losses far above the others, so long that independent losses would hardly make them.

    With a share q of the last losses that high, a run of r is found by chance with at most n q^r.
    """
    values = list(story.told.recent)
    if len(values) < FEWEST:
        return
    middle = median(values)
    spread = 1.4826 * median(abs(v - middle) for v in values)
    high = (
        [v > max(middle + JUMP * spread, HIGH * middle) for v in values] if middle > 0 else [False]
    )
    share = max(sum(high), 1) / len(values)
    least = max(
        3, math.ceil(math.log(allowed(story.told.count) / len(values)) / math.log(min(share, 0.5)))
    )
    runs, length = 0, 0
    for above in [*high, False]:
        if not above and length >= least:
            runs += 1
        length = length + 1 if above else 0
    if runs >= RUNS and not high[0] and not high[-1]:
        yield Observation(
            evidence=(
                Evidence(
                    "times that the loss jumped up and came down again",
                    runs,
                    "",
                    None,
                    f"in {len(values)} losses",
                ),
                Evidence("its median", middle),
                Evidence("the highest", max(values), "", max(middle + JUMP * spread, 0.0)),
            )
        )


def _sure(story: Story) -> float:
    """How many standard errors this look asks for."""
    return NormalDist().inv_cdf(1 - allowed(story.told.count))


def _error(means: tuple[float, ...]) -> float:
    """The standard error of the mean of some means."""
    middle = sum(means) / len(means)
    return math.sqrt(sum((m - middle) ** 2 for m in means) / (len(means) - 1) / len(means))


ALL = (
    rising,
    nothing_learned,
    stopped_early,
    spikes,
)

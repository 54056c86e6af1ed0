"""What the told losses say: whether they rise, whether anything was learned, whether a schedule ended too soon.

These rules are not exact. They share one budget: in a run that has none of these faults, the chance that any of them
says anything, at any look, is meant to be 5 % at most. Each of `TESTS` rules gets an equal part of it; a rule spends
6 / (pi^2 j^2) of its part at its j-th look, which comes after 64, 128, 256, ... losses, so that the sum over all looks
stays within the part however long the run. Beside being sure, a difference must be large enough to matter.
The tests take the means of stretches as exchangeable where nothing happens. Losses that wander slowly, as of networks
that play against each other, are not: where several optimizers step, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist, median

from ravine.diagnosis.rule import Rule, Seen
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
JUMP, HIGH, RUNS = 20.0, 3.0, 2  # spreads above the median, times the median, and how many such runs
MOVED = 0.01  # of their length, by which weights move when they learn


def allowed(count: int) -> float:
    """The chance of a false alarm that one test may take at the look after so many losses.

    >>> [round(allowed(n), 5) for n in (64, 127, 128, 256)]
    [0.0076, 0.0076, 0.0019, 0.00084]
    """
    j = max(1, (count // FEWEST).bit_length())
    return ALPHA / TESTS * 6 / (math.pi**2 * j * j)


def rising(story: Story) -> Iterator[Seen]:
    """All of the last 8 of 32 means above all of the first 16: by chance once in C(24, 8) = 735,471 times. Or their
    mean, less its error, far above the loss of the best constant answer."""
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
        yield Seen(evidence=(
            Evidence("loss at first", start), Evidence("mean loss lately", sum(late) / LAST, "", times * start),
        ), changes=(Change("lr", story.lr / 10),))  # fmt: skip


def nothing_learned(story: Story) -> Iterator[Seen]:
    """At the end: the mean of the last quarter, plus its error, against the entropy or variance of the targets."""
    if not story.ended or story.constant is None or story.told.count < NULL_LOSSES or not story.kind:
        return
    means = story.told.stretches(STRETCHES)
    if not means or any(True for _ in rising(story)):
        return
    late = means[-LAST:]
    level, error, sure = sum(late) / LAST, _error(late), _sure(story)
    best = story.constant - sure * story.spread
    if best > 0 and level - sure * error > (1 - BETTER) * best and level - sure * error > 0.9 * story.constant:
        cause, suspects = "labels", ("shuffling", "learning-rate-high", "architecture-too-small")
        if story.moved < MOVED:
            cause, suspects = "learning-rate-low", ("schedule", "too-few-steps")
        elif level > WORSE * story.constant:
            cause, suspects = "learning-rate-high", ("labels", "shuffling")
        yield Seen(cause=cause, suspects=suspects, evidence=(
            Evidence("mean loss at the end", level, "", (1 - BETTER) * best),
            Evidence("loss of the best constant answer", story.constant),
            Evidence("the weights moved, of their length", 100 * story.moved, "%"),
        ))  # fmt: skip


def stopped_early(story: Story) -> Iterator[Seen]:
    """Less than a hundredth of the rate for two thirds of all steps, over which the loss does not fall any more."""
    if story.lr_faint < max(FEWEST, FAINT * story.steps) or story.lr == 0 or not story.losses:
        return
    share = 1 - story.lr_faint / story.steps
    since = math.ceil(share * story.told.count)
    means = story.told.stretches(2 * LAST, since=since)
    if not means:
        return
    early, late = means[:LAST], means[LAST:]
    level = sum(late) / LAST
    noise = math.sqrt(sum((b - a) ** 2 for a, b in zip(means, means[1:], strict=False)) / (4 * LAST - 2))
    could = sum(early) / LAST - level + _sure(story) * noise * math.sqrt(2 / LAST)  # the most that it may have fallen
    if level > DONE * story.losses[0] > 0 and could < FLAT * level:
        yield Seen(since=story.steps - story.lr_faint, evidence=(
            Evidence("steps at less than 1/100 of the highest learning rate", story.lr_faint, "", FAINT * story.steps),
            Evidence("loss then", sum(early) / LAST), Evidence("loss lately", level),
        ), changes=(Change("loop", "a schedule as long as the run; step it once an epoch"),))  # fmt: skip


def spikes(story: Story) -> Iterator[Seen]:
    """Runs of losses far above the others, so long that independent losses would hardly make them.

    With a share q of the last losses that high, a run of r is found by chance with at most n q^r.
    """
    values = list(story.told.recent)
    if len(values) < FEWEST:
        return
    middle = median(values)
    spread = 1.4826 * median(abs(v - middle) for v in values)
    high = [v > max(middle + JUMP * spread, HIGH * middle) for v in values] if middle > 0 else [False]
    share = max(sum(high), 1) / len(values)
    least = max(3, math.ceil(math.log(allowed(story.told.count) / len(values)) / math.log(min(share, 0.5))))
    runs, length = 0, 0
    for above in [*high, False]:
        if not above and length >= least:
            runs += 1
        length = length + 1 if above else 0
    if runs >= RUNS and not high[0] and not high[-1]:
        yield Seen(evidence=(
            Evidence("times that the loss jumped up and came down again", runs, "", None, f"in {len(values)} losses"),
            Evidence("its median", middle), Evidence("the highest", max(values), "", max(middle + JUMP * spread, 0.0)),
        ))  # fmt: skip


def _sure(story: Story) -> float:
    """How many standard errors this look asks for."""
    return NormalDist().inv_cdf(1 - allowed(story.told.count))


def _error(means: tuple[float, ...]) -> float:
    """The standard error of the mean of some means."""
    middle = sum(means) / len(means)
    return math.sqrt(sum((m - middle) ** 2 for m in means) / (len(means) - 1) / len(means))


ALL = (
    Rule(code="RVN-T21", title="the loss rises above its start, for good", cause="learning-rate-high",
         severity="warning", confidence="medium", find=rising, needs="losses",
         because="steps are too long, or a layer grows without bound",
         misses="loops with several optimizers; a cross entropy that less than doubles, other losses that grow less "
                "than 100 times",
         also=("exploding", "input-scale"),
         means="The loss is larger than at the start and does not come back: the network answers worse than before "
               "it was trained.",
         detected="The losses so far are cut into 32 stretches. All of the last 8 means lie above all of the first "
                  "16, and above twice the first loss (100 times for losses that are no cross entropy). In an order "
                  "by chance that happens once in 735,471 times. Where it rose at once: the mean of the last quarter, "
                  "less its error, is above twice (100 times) what the best constant answer gets.",
         remedy="Lower the learning rate by ten, or clip the gradient's length.",
         patch="- optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.01)",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 8.2.4, MIT Press",),
         picture="range-test"),
    Rule(code="RVN-T22", title="nothing was learned: no better than one constant answer", cause="labels",
         severity="warning", confidence="medium", find=nothing_learned, needs="constant",
         because="targets do not belong to the inputs, weights hardly move, or there is nothing to learn",
         misses="everything before the end; losses that are not torch's own, weighted, or with arithmetic behind them",
         also=("learning-rate-low", "shuffling", "learning-rate-high", "architecture-too-small", "schedule",
               "too-few-steps"),
         means="At the end, the training loss is not below what the same answer for every example gets: the entropy "
               "of the classes, or the variance of the targets. If the data have no signal, that is as it must be.",
         detected="The mean of the last quarter of the losses, less its error, against 0.98 of the constant answer's "
                  "loss, less the error of that; the targets are those of the looked-at batches. The errors are as "
                  "wide as the run's budget of false alarms asks.",
         remedy="See whether inputs and targets still belong together where the batch is made; then try a learning "
                "rate ten times higher or lower.",
         patch="  order = torch.randperm(len(x))\n"
               "- a, b = x[order[:32]], y[torch.randperm(len(y))[:32]]\n"
               "+ a, b = x[order[:32]], y[order[:32]]",
         references=("Karpathy 2019: A recipe for training neural networks, karpathy.github.io",),
         picture="initial-loss"),
    Rule(code="RVN-T23", title="the learning rate fell long before the end, and nothing is learned since",
         cause="schedule", severity="warning", confidence="medium", find=stopped_early, needs="losses",
         explains=("RVN-L16",),
         because="a schedule meant for epochs is stepped at every batch, or its length is too small",
         misses="schedules that take longer than a third of the run, or end above a hundredth",
         means="For two thirds of the run the rate has been below a hundredth of its highest value, and the loss has "
               "not fallen over that time.",
         detected="The losses since then are cut into 16 stretches; the most by which the second half may be lower "
                  "than the first, at the confidence that the run's budget of false alarms asks, is less than a "
                  "tenth of it; the loss is above a tenth of the first.",
         remedy="Make the schedule as long as the run, in the unit in which it is stepped.",
         patch="  for x, y in batches:\n"
               "      optimizer.step()\n"
               "-     scheduler.step()\n"
               "+ scheduler.step()",
         references=("PyTorch 2.13 documentation: torch.optim.lr_scheduler",),
         picture="schedules"),
    Rule(code="RVN-T24", title="the loss jumps up and comes down again", cause="learning-rate-high", severity="note",
         confidence="low", find=spikes, needs="losses",
         because="steps at the edge of what is stable, warm restarts, or batches unlike the others",
         misses="jumps that are over within two losses; all but the last 256 losses at each look",
         also=("data-degenerate", "schedule"),
         means="Several losses in a row far above the others, more than once. Training recovers, at a cost.",
         detected="Two runs of losses above three times the median and 20 spreads (median absolute deviations) "
                  "above it, each longer than independent losses with so many high ones would make it.",
         remedy="If it does harm: clip the gradient's length, or lower the rate a little.",
         patch="+ nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
               "  optimizer.step()",
         references=("Pascanu, Mikolov, Bengio 2013: On the difficulty of training recurrent neural networks, ICML",)),
)  # fmt: skip

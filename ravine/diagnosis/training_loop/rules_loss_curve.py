"""What the reported losses show: they rise, nothing is learned, the rate fell too soon, they jump.

These rules are statistical tests, and they share one budget: in a run without any of these faults,
the chance that any of them reports something, at any check, is meant to be 5 % at most. Each of the
`TEST_COUNT` rules gets an equal part; it spends 6 / (π² j²) of its part at its j-th check, which
comes after 64, 128, 256, ... losses, so the sum over all checks stays within the part however long
the run is. Beside being significant, a difference must be large enough to matter. The tests take
the means of stretches as exchangeable where nothing happens. Losses that wander slowly, as of
networks that play against each other, are not: where several optimizers step, nothing is reported.
"""

import math
from collections.abc import Iterator
from statistics import NormalDist, median

import numpy as np

from ravine.diagnosis.rule import Observation, observe, symptom
from ravine.diagnosis.training_loop.history import MIN_LOSSES, LoopHistory
from ravine.finding import Change, Evidence
from ravine.statistics import mean_with_error

FALSE_ALARM_BUDGET = 0.05
TEST_COUNT = 4
STRETCH_COUNT = 32
LAST_STRETCHES = 8  # which are compared with the first 16
RISEN_FACTOR = 2.0  # a cross entropy so much above its start is no noise of learning
# any other loss: that of a game or a moving target may grow while it learns
FAR_RISEN_FACTOR = 100.0
NOTHING_LEARNED_LOSSES = 200
LEARNED_FRACTION = 0.02  # below a constant answer: less counts as nothing learned
WORSE_FACTOR = 1.2  # above a constant answer: steps are too long, rather than nothing to learn
STALLED_LOSS_FRACTION = 0.1  # of its level, by which a loss may still fall
LOW_RATE_FRACTION = 2 / 3  # of the steps
DONE_FRACTION = 0.1  # of the first loss: below it, there is little left to learn
SPIKE_SPREADS = 20.0  # above the median
SPIKE_FACTOR = 3.0  # times the median
MIN_SPIKES = 2
UNLEARNED_FRACTION = 0.8  # of a constant answer's loss: a run that was below it had learned
FAR_DISTANCE = 1.5  # over the weights' length: so far only large steps move them
EXPLODED_DISTANCE = 100.0  # over the weights' length
MIN_DISTANCE = 0.05  # over the weights' length: weights that learn move farther
TYPICAL_FRACTION = 0.1  # of the mean: with a lower median, a few outliers make the mean


def significance(losses: int) -> float:
    """The chance of a false alarm that one test may take at the check after so many losses.

    >>> [round(significance(n), 5) for n in (64, 127, 128, 256)]
    [0.0076, 0.0076, 0.0019, 0.00084]
    """
    j = max(1, (losses // MIN_LOSSES).bit_length())
    return FALSE_ALARM_BUDGET / TEST_COUNT * 6 / (math.pi**2 * j * j)


@symptom(
    "RVN-T03",
    "warning",
    "learning-rate-high",
    confidence="medium",
    needs="losses",
    also="exploding, input-scale",
    explains="RVN-S03",
)
def rising_reported_loss(history: LoopHistory) -> Iterator[Observation]:
    loss = history.loss
    means = loss.summary.stretch_means(STRETCH_COUNT)
    by_chance = 1 / math.comb(LAST_STRETCHES + STRETCH_COUNT // 2, LAST_STRETCHES)
    if not means or by_chance > significance(loss.summary.count):
        return
    early, late = means[: STRETCH_COUNT // 2], means[-LAST_STRETCHES:]
    is_entropy = loss.kind in ("NllLoss", "BinaryCrossEntropyWithLogits")
    factor = RISEN_FACTOR if is_entropy else FAR_RISEN_FACTOR
    start = loss.first[0] if loss.first else early[0]
    level, error = mean_with_error(np.array(late))
    rose = 0 < max(early) * factor < min(late)
    if loss.baseline is not None and loss.kind and not rose:
        low = level - _required_errors(history) * error
        rose = low > factor * (loss.baseline + loss.baseline_error)
    recent = list(loss.summary.recent)[-MIN_LOSSES:]
    # weights that exploded in the first steps, where nothing was low before
    distance = history.model.relative_distance
    if history.ended and EXPLODED_DISTANCE < distance < math.inf:
        rose = rose or min(recent) > FAR_RISEN_FACTOR * max(loss.first, default=math.inf) > 0
        came_back = level < DONE_FRACTION * start
        if not rose and not came_back and max(early) > FAR_RISEN_FACTOR * start > 0:
            peak = Evidence("highest mean of a stretch", max(early), limit=FAR_RISEN_FACTOR * start)
            moved = Evidence("distance that the weights moved, over their length", distance)
            title, change = "the weights exploded", Change("lr", history.rates.now / 10)
            yield observe(Evidence("first loss", start), peak, moved, change, title=title)
    if rose and 0 < start * factor < min(late):
        mean = Evidence("mean loss of the last quarter", level, limit=factor * start)
        yield observe(Evidence("first loss", start), mean, Change("lr", history.rates.now / 10))


@symptom(
    "RVN-T02",
    "warning",
    "labels",
    confidence="medium",
    needs=f"baseline {NOTHING_LEARNED_LOSSES}",
    also="detached-graph, frozen-parameters, learning-rate-low, shuffling, "
    "learning-rate-high, architecture-too-small, schedule, too-few-steps",
)
def no_gain_over_baseline(history: LoopHistory) -> Iterator[Observation]:
    loss, distance = history.loss, history.model.relative_distance
    if not history.ended or loss.baseline is None or not loss.kind:
        return
    means = loss.summary.stretch_means(STRETCH_COUNT)
    if loss.summary.count < NOTHING_LEARNED_LOSSES or not means:
        return
    if any(True for _ in rising_reported_loss(history)):
        return
    late, errors = means[-LAST_STRETCHES:], _required_errors(history)
    level, error = mean_with_error(np.array(late))
    low = level - errors * error
    limit = (1 - LEARNED_FRACTION) * (loss.baseline - errors * loss.baseline_error)
    has_unlearned = min(means) < UNLEARNED_FRACTION * loss.baseline  # it had been lower, and rose
    is_typical = median(loss.summary.recent) > TYPICAL_FRACTION * level
    if is_typical and low > limit > 0 and low > 0.9 * loss.baseline:
        cause, suspects = "labels", ("shuffling", "learning-rate-high", "architecture-too-small")
        if distance == 0:  # no step at all: no rate moves these weights
            cause, suspects = "detached-graph", ("frozen-parameters", "learning-rate-low")
        elif distance < MIN_DISTANCE:
            cause, suspects = "learning-rate-low", ("labels", "too-few-steps", "schedule")
        elif distance > FAR_DISTANCE or level > WORSE_FACTOR * loss.baseline or has_unlearned:
            cause, suspects = "learning-rate-high", ("labels", "shuffling")
        mean_loss = Evidence("mean loss of the last quarter", level, limit=limit)
        constant_loss = Evidence("loss of the best constant answer", loss.baseline)
        moved = Evidence("distance that the weights moved, of their length", 100 * distance, "%")
        faster = cause == "learning-rate-low" and history.rates.now > 0
        changes = (Change("lr", 10 * history.rates.now),) if faster else ()
        yield observe(mean_loss, constant_loss, moved, *changes, cause=cause, suspects=suspects)


@symptom("RVN-T09", "warning", "schedule", confidence="medium", needs="losses", explains="RVN-L16")
def early_schedule_end(history: LoopHistory) -> Iterator[Observation]:
    rates, loss, steps = history.rates, history.loss, history.steps
    low_steps = rates.steps_below_hundredth
    if low_steps < max(MIN_LOSSES, LOW_RATE_FRACTION * steps) or rates.now == 0 or not loss.first:
        return
    since = math.ceil((1 - low_steps / steps) * loss.summary.count)
    means = loss.summary.stretch_means(2 * LAST_STRETCHES, since=since)
    if not means:
        return
    before = sum(means[:LAST_STRETCHES]) / LAST_STRETCHES
    level = sum(means[LAST_STRETCHES:]) / LAST_STRETCHES
    squares = sum((b - a) ** 2 for a, b in zip(means, means[1:], strict=False))
    noise = math.sqrt(squares / (4 * LAST_STRETCHES - 2))
    most = before - level + _required_errors(history) * noise * math.sqrt(2 / LAST_STRETCHES)
    if level > DONE_FRACTION * loss.first[0] > 0 and most < STALLED_LOSS_FRACTION * level:
        name = "steps at less than 1/100 of the highest learning rate"
        low_rate = Evidence(name, low_steps, limit=LOW_RATE_FRACTION * steps)
        fallen_rate = Evidence("mean loss when the rate had fallen", before)
        final_loss = Evidence("mean loss at the end", level)
        change = Change("loop", "scheduler.step() once an epoch, and a schedule as long as the run")
        yield observe(low_rate, fallen_rate, final_loss, change, since=steps - low_steps)


@symptom(
    "RVN-T04",
    "note",
    "learning-rate-high",
    confidence="low",
    needs="losses",
    also="data-degenerate, schedule",
)
def loss_spikes(history: LoopHistory) -> Iterator[Observation]:
    values = list(history.loss.summary.recent)
    middle = median(values)
    spread = 1.4826 * median(abs(v - middle) for v in values)
    limit = max(middle + SPIKE_SPREADS * spread, SPIKE_FACTOR * middle)
    high = [v > limit for v in values] if middle > 0 else [False]
    share = max(sum(high), 1) / len(values)
    chance = significance(history.loss.summary.count) / len(values)
    # with a share q of n losses that high, a run of r is found by chance with at most n q^r
    length = math.ceil(math.log(chance) / math.log(min(share, 0.5)))  # at least 4
    spikes = run = 0
    for above in [*high, False]:
        spikes += not above and run >= length
        run = run + 1 if above else 0
    if spikes >= MIN_SPIKES and not high[0] and not high[-1]:
        name = "times that the loss jumped up and came down again"
        far = max(middle + SPIKE_SPREADS * spread, 0.0)
        jumps = Evidence(name, spikes, text=f"in {len(values)} losses")
        highest = Evidence("highest loss", max(values), limit=far)
        yield observe(jumps, Evidence("median loss", middle), highest, title="the loss has spikes")


def _required_errors(history: LoopHistory) -> float:
    """How many standard errors a difference must have at this check."""
    return NormalDist().inv_cdf(1 - significance(history.loss.summary.count))

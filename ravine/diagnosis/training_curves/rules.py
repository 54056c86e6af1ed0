"""What the course of a run says: rules over its series that share one budget of false alarms.

A run is judged at looks (`LOOKS`, shares of its budget) and at its end. Each statistical test at
each look may err with the chance alpha / (tests · looks), so that any warning on a healthy run has
a chance of at most alpha = 5 %. Beside being sure, a difference must matter: it is compared with
the fall, from the loss of the best constant answer (or, where that is not known, from the first
loss) to the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.diagnosis.training_curves.series import PATHS, Course, Curve, total_update
from ravine.finding import Change, Evidence
from ravine.statistics import binomial_tail, mean_with_error, theil_sen

NOT_A_GAIN = 0.005  # of the constant's loss: less than this is not learning
A_GAIN = 0.02  # of the constant's loss: to say "not learned", so much must be ruled out
LITTLE = 0.05  # of the constant's loss: what counts as a fall at least
LATE = 0.5  # of the budget: before, a network that has not learned may yet
BY_HEART = 0.05  # of the constant's loss: training loss at which all is known
CARRIED = 0.3  # of the constant's validation loss: gained at most, where little carries over
RISEN = 0.15  # of the fall: validation loss above its lowest
ABOVE = 0.1  # of the first loss: training loss above it
JUMP, BIG_JUMP = 0.1, 0.25  # of the fall: rise from one look to the next
JUMPS = 0.05  # share of such looks that a healthy run may have
TO_GAIN, MUCH_TO_GAIN = 0.1, 0.3  # of what was gained, in as many steps again
FITTED = 16  # means to which the last third is brought
STUCK = 0.01  # way of a layer over its weights, in the whole run
FASTER = 30.0  # times: how much further another layer must have come
OVER = 0.01  # of the highest learning rate: the schedule has ended
WASTED = 0.4  # of the budget
FLAT = 0.01  # of the fall
CUT, LEFT = (
    0.99,
    0.01,
)  # share of steps in which the gradient was cut, and share of it that was left
DROPPED = 0.9  # share of units
DECAYS = ("weight decay", "L2", "L1", "elastic net")
SHRUNK = 0.1  # of the weights' norm at the start
APART = 0.2  # of the constant's loss: between training and evaluation mode
FEW = 100  # steps: a short run
SHORT_WAY = 0.05  # of the weights: hardly moved
LONG_STEP = 0.05  # |Δw| / |w| of a typical step: very long


# How it was


def fall(course: Course, lowest: float) -> float:
    """From the best constant's loss, or where that is unknown or never beaten from the first loss,
    to the lowest.

    Not less than a twentieth of the constant's loss: where hardly anything was learned, little can
    be lost.

    >>> from ravine.diagnosis.training_curves.series import curve
    >>> fall(Course(steps=3, budget=3, validation=curve([9.0, 2.0, 1.0]), null_validation=3.0), 1.0)
    2.0
    """
    null = course.null_judged
    first = float(course.judged.values[0])
    if null is None:
        return first - lowest
    return max((null if null > lowest else first) - lowest, LITTLE * abs(null))


def blamed(course: Course) -> tuple[str, ...]:
    """Why nothing was learned, by the figures: causes, likeliest first."""
    found = []
    clipped = course.effects.get("clip", 0.0) > CUT or (
        len(course.kept) > 2 and float(np.median(course.kept.values)) < LEFT
    )
    if clipped and course.moved < 1:
        found.append("gradient-clipping")
    if decayed(course):
        found.append("over-regularized")
    if course.effects.get("dropout", 0.0) > DROPPED:
        found.append("dropout")
    pairs = ((course.trend, course.null), (course.validation, course.null_validation))
    if any(
        n is not None and len(c) and float(np.median(c.values[-5:])) > n + 0.5 * abs(n)
        for c, n in pairs
    ):
        found.append("learning-rate-high")
    if len(course.update) and float(np.median(course.update.values)) > LONG_STEP:
        found.append("learning-rate-high")
    if course.moved < SHORT_WAY:
        short = 0 < course.steps < FEW
        found += (
            ["too-few-steps", "learning-rate-low"]
            if short
            else ["learning-rate-low", "too-few-steps"]
        )
    elif steady(course):
        found.append("learning-rate-low")
    if len(course.gradient) > 3 and course.gradient.values[-1] < 1e-4 * max(
        course.gradient.values[0], 1e-30
    ):
        found += ["dead-units", "vanishing", "saturation"]
    return tuple(
        dict.fromkeys((*found, "labels", "learning-rate-high", "initialization", "input-scale"))
    )


def steady(course: Course) -> bool:
    """Whether the loss fell evenly: the last third of the time brought over half as much as the
    first.
    """
    curve = course.judged if len(course.judged) >= 9 else course.trend
    if len(curve) < 9:
        return False
    time = _time(course, curve.steps)
    parts = [
        curve.values[(time >= a * time[-1]) & (time <= (a + 0.25) * time[-1])]
        for a in (0, 0.25, 0.5, 0.75)
    ]
    if not all(len(p) for p in parts):
        return False
    means = [float(p.mean()) for p in parts]
    return means[0] > means[1] > means[2] > means[3] and means[2] - means[3] > 0.5 * (
        means[0] - means[1]
    )


def decayed(course: Course) -> bool:
    """Whether the weights shrank to almost nothing."""
    norms = course.weights.values
    return len(norms) > 2 and norms[-1] < SHRUNK * norms[0]


def slower() -> tuple[Change, ...]:
    return (Change("optimizer.lr", "divided by 3 to 10"),)


# Rules


def replayed(
    test: Callable[[Course], Iterator[Observation]],
) -> Callable[[Course], Iterator[Observation]]:
    """A test that also says since when it has been true: the first of the looks from which on it
    always was.
    """

    def find(course: Course) -> Iterator[Observation]:
        for seen in test(course):
            since = course.steps
            for look in reversed(course.looks[:-1]):
                if not any(s.where == seen.where for s in test(look)):
                    break
                since = look.steps
            yield seen if seen.since is not None else replace(seen, since=since)

    return find


@rule(
    "RVN-T01",
    severity="error",
    cause="learning-rate-high",
    also=("exploding", "optimizer-numerics", "data-degenerate", "precision"),
    needs="loss",
    explains=("RVN-T02", "RVN-T03", "RVN-T04", "RVN-T14"),
    picture="range-test",
)
def diverged(course: Course) -> Iterator[Observation]:
    if course.outcome != "diverged" and course.broken is None and not course.diverged:
        return
    losses = course.train if len(course.train) else course.validation
    early = course.broken is not None and course.broken < 0.1 * course.budget
    evidence = [Evidence("training ended at step", course.steps, "", course.budget)]
    if course.diverged and course.networks > 1:
        evidence = [
            Evidence("networks that diverged", course.diverged, "", 0, f"of {course.networks}")
        ]
    cause, suspects = "learning-rate-high", ("exploding", "optimizer-numerics", "data-degenerate")
    if len(losses) > 3:
        first, last, lowest = (
            float(v) for v in (losses.values[0], losses.values[-1], losses.values.min())
        )
        evidence.append(
            Evidence("last finite loss", last, "", None, f"first {first:.3g}, lowest {lowest:.3g}")
        )
        if last < 0.5 * first and last < lowest + 0.5 * (first - lowest) and not early:
            cause, suspects = "exploding", ("learning-rate-high", "optimizer-numerics", "precision")
    minor = course.networks > 1 and course.diverged < course.networks / 2
    title = (
        f"{course.diverged} of {course.networks} networks diverged" if course.networks > 1 else ""
    )
    yield Observation(
        since=course.broken
        if course.broken is not None
        else course.steps
        if course.outcome == "diverged"
        else None,
        title=title,
        severity="warning" if minor else "",
        cause=cause,
        suspects=suspects,
        evidence=tuple(evidence),
        changes=slower(),
    )


@rule(
    "RVN-T02",
    severity="warning",
    confidence="high",
    cause="labels",
    also=(
        "learning-rate-low",
        "learning-rate-high",
        "too-few-steps",
        "gradient-clipping",
        "over-regularized",
        "dropout",
        "dead-units",
        "vanishing",
        "saturation",
        "initialization",
        "input-scale",
    ),
    needs="null",
    picture="initial-loss",
)
@replayed
def not_learned(course: Course) -> Iterator[Observation]:
    if course.steps < LATE * course.budget and not course.ended:
        return
    shown = []
    pairs = (
        (course.trend, course.null, "training loss"),
        (course.validation, course.null_validation, "validation loss"),
    )
    for curve, null, name in pairs:
        if null is None or len(curve) < 3:
            continue
        late = curve.values[len(curve) // 2 :]
        mean, error = mean_with_error(late)
        scale = abs(null) if abs(null) > 1e-12 else 1.0
        if name == "validation loss" and len(course.error):
            error = math.hypot(error, 0.0 if len(course.train) else float(course.error.values[-1]))
        below = int((curve.values[len(curve) // 3 :] < null - NOT_A_GAIN * scale).sum())
        most = binomial_tail(
            len(curve) - len(curve) // 3 - below, len(curve) - len(curve) // 3, 0.5
        )
        sure = (
            most < course.chance
            or mean - course.critical(min(10, len(late))) * error > null - A_GAIN * scale
        )
        if mean < null - NOT_A_GAIN * scale or (name == "training loss" and not sure):
            # one of the two is better than the constant: something was learned, if only by heart
            return
        shown.append(
            Evidence(
                f"{name}, second half", mean, "", null, "the limit is the best constant answer's"
            )
        )
    if not shown:
        return
    worse = all(
        e.value is not None and e.limit is not None and e.value > e.limit + 0.5 * abs(e.limit)
        for e in shown
    )
    cause, *suspects = blamed(course)
    early = not course.ended
    yield Observation(
        title="not learned so far" if early else "",
        severity="note" if early else "error" if worse else "warning",
        evidence=(*shown, *_figures(course)),
        cause=cause,
        suspects=tuple(suspects),
        changes=_against(cause, course),
    )


@rule(
    "RVN-T03",
    severity="warning",
    confidence="high",
    cause="learning-rate-high",
    also=("over-regularized", "loss", "exploding"),
    needs="trend",
    explains=("RVN-T02", "RVN-T04", "RVN-T14"),
    picture="gradient-paths",
)
@replayed
def rises(course: Course) -> Iterator[Observation]:
    curve = course.trend
    if len(curve) < 6:
        return
    late = curve.values[-max(3, len(curve) // 4) :]
    first = float(curve.values[0])
    mean, error = mean_with_error(late)
    base = first if course.null is None else max(first, course.null)
    clear = mean - course.critical(len(late) + 3) * error > base and mean > base + ABOVE * abs(base)
    elsewhere = len(course.validation) > 2 and bool(
        (course.validation.values[-2:] > course.validation.values[0] * (1 + ABOVE)).all()
    )
    if not clear or float(late.min()) <= base or (course.null is None and not elsewhere):
        # without a constant to compare with, a rising loss may be a game's (adversarial training)
        return
    cause = "over-regularized" if decayed(course) else "learning-rate-high"
    yield Observation(
        evidence=(
            Evidence("training loss at the end", mean, "", base, f"first {first:.3g}"),
            *_figures(course),
        ),
        cause=cause,
        suspects=("learning-rate-high", "loss", "exploding")
        if cause != "learning-rate-high"
        else ("loss", "exploding"),
        changes=_against(cause, course),
    )


@rule(
    "RVN-T04",
    severity="warning",
    confidence="medium",
    cause="learning-rate-high",
    also=("batch-size", "schedule"),
    needs="looks",
    picture="schedules",
)
@replayed
def restless(course: Course) -> Iterator[Observation]:
    curve = course.validation
    if len(curve) < 12:
        return
    lowest = float(curve.values.min())
    whole = fall(course, lowest)
    late = Curve(curve.steps[len(curve) // 2 - 1 :], curve.values[len(curve) // 2 - 1 :])
    rates = np.array([course.lr.at(step) for step in late.steps])
    calm = ~(rates[1:] > 1.5 * rates[:-1]) if len(course.lr) else np.ones(len(late) - 1, dtype=bool)
    up = np.diff(late.values)[calm]
    null = course.null_judged
    unlearned = null is not None and lowest > null - LITTLE * abs(null)
    if whole <= 0 or len(up) < 6 or unlearned:
        return
    typical = float(late.values.mean()) - lowest
    counts = {jump: int((up > jump * whole).sum()) for jump in (BIG_JUMP, JUMP)}
    often = [
        j for j, count in counts.items() if binomial_tail(count, len(up), JUMPS) < course.chance
    ]
    jump = next((j for j in often if typical > 0.5 * j * whole), None)
    if jump is None:
        return
    rate, highest = float(rates[-1]), float(course.lr.values.max()) if len(course.lr) else math.nan
    calmed = rate < 0.1 * highest and course.validation.values[-1] < lowest + JUMP * whole
    yield Observation(
        severity="note" if course.keeps_best or calmed or not course.ended or jump == JUMP else "",
        evidence=(
            Evidence(
                "rises from one look to the next",
                100 * counts[jump] / len(up),
                "%",
                100 * JUMPS,
                f"by over {jump:.0%} of all that was gained, in the second half",
            ),
            Evidence(
                "validation loss, mean", lowest + typical, "", lowest, "the limit is the lowest"
            ),
        ),
        suspects=("batch-size", "schedule"),
        changes=(*slower(), Change("schedule", "one that ends low")),
    )


@rule(
    "RVN-T05",
    severity="warning",
    confidence="high",
    cause="overfitting",
    also=("labels",),
    needs="looks",
    picture="early-stopping",
)
@replayed
def overfits(course: Course) -> Iterator[Observation]:
    risen = list(_loses_again(course))
    yield from risen or _by_heart(course)


def _by_heart(course: Course) -> Iterator[Observation]:
    """Overfitting that was there from the first looks on: all is known of the one examples, little
    of the others.
    """
    null, null_validation = course.null, course.null_validation
    if (
        null is None
        or null_validation is None
        or null <= 0
        or null_validation <= 0
        or len(course.trend) < 3
    ):
        return
    train = float(np.median(course.trend.values[-3:]))
    last = (
        course.validation.values.min()
        if course.keeps_best
        else np.median(course.validation.values[-3:])
    )
    gained = (null_validation - float(last)) / null_validation
    error = float(course.error.values[-1]) if len(course.error) else math.inf
    worse = float(last) - course.z * error > null_validation
    if train > BY_HEART * null or gained > CARRIED:
        return
    yield Observation(
        severity="warning" if worse else "note",
        title="the training examples are learned by heart, others are answered no better than by a "
        "constant"
        if worse
        else "the training examples are learned by heart, little carries over",
        evidence=(
            Evidence("training loss", train, "", BY_HEART * null, f"best constant {null:.3g}"),
            Evidence(
                "validation loss",
                float(last),
                "",
                null_validation,
                "the limit is the best constant answer's",
            ),
        ),
        suspects=("labels",),
        changes=(Change("network.dropout", 0.2), Change("data", "more examples")),
    )


def _loses_again(course: Course) -> Iterator[Observation]:
    """Validation loss that fell and surely rises again."""
    curve = course.validation
    place = int(curve.values.argmin())
    lowest, best = float(curve.values[place]), int(curve.steps[place])
    later = curve.after(best)
    whole = fall(course, lowest)
    if len(later) < 3 or whole <= 0 or float(later.values[-3:].min()) - lowest < RISEN * whole:
        return
    if not _surely_risen(course, later, lowest):
        return
    before, now = course.trend.until(best), course.trend.after(best)
    learned = (
        not len(now)
        or not len(before)
        or float(now.values[-3:].mean()) <= float(before.values[-3:].mean()) * 1.02
    )
    if not learned or (
        len(now) and float(now.values[-3:].mean()) > float(later.values[-3:].mean())
    ):
        # training got worse as well (see the rule of the best step), or did not get ahead of
        # validation
        return
    if (
        len(now)
        and course.null is not None
        and float(now.values[-3:].mean()) > course.null - LITTLE * abs(course.null)
    ):
        return  # nothing was learned by heart either
    flat = _score_flat(course, best)
    harmless = course.keeps_best or flat
    title = "the confidence of the predictions rises, the score does not fall" if flat else ""
    yield Observation(
        severity="note" if harmless else "",
        title=title,
        evidence=(
            Evidence(
                "validation loss", float(curve.values[-1]), "", lowest, f"lowest at step {best:,}"
            ),
            Evidence(
                "of all that was gained, lost again",
                100 * (float(curve.values[-1]) - lowest) / whole,
                "%",
                100 * RISEN,
            ),
            *(
                (Evidence("training loss", float(now.values[-1]), "", None, "still falls"),)
                if len(now)
                else ()
            ),
            *((Evidence("best weights are kept", best, "step"),) if course.keeps_best else ()),
        ),
        changes=()
        if course.keeps_best
        else (Change("stop", "EarlyStopping"), Change("network.dropout", 0.2)),
    )


def _surely_risen(course: Course, later: Curve, lowest: float) -> bool:
    if len(course.rise) and len(course.rise_error):
        rise = np.array([course.rise.at(s) for s in later.steps[-3:]])
        error = np.array([course.rise_error.at(s) for s in later.steps[-3:]])
        return bool((rise > course.z * error).all())
    if len(course.error):
        return bool(
            (
                later.values[-3:] - lowest
                > course.z * math.sqrt(2) * course.error.at(later.steps[-1])
            ).all()
        )
    changes = np.abs(np.diff(course.validation.values))
    noise = 1.4826 * float(np.median(changes)) / math.sqrt(2)
    return len(changes) >= 6 and bool(
        (later.values[-3:] - lowest > 2 * course.critical(len(changes)) * noise).all()
    )


def _score_flat(course: Course, best: int) -> bool:
    if not len(course.score):
        return False
    sign = 1 if course.higher_is_better else -1
    now, then = sign * float(np.median(course.score.values[-3:])), sign * course.score.at(best)
    spread = (
        math.sqrt(max(abs(then) * (1 - abs(then)), 0.01) / course.examples)
        if course.examples
        else 0.01
    )
    return now >= then - min(spread, 0.05)


@rule(
    "RVN-T06",
    severity="note",
    confidence="medium",
    cause="too-few-steps",
    also=("learning-rate-low",),
    needs="ended",
    picture="rates-and-batches",
)
def still_falling(course: Course) -> Iterator[Observation]:
    if course.outcome != "finished":
        return
    curve = course.judged if len(course.judged) >= 12 else course.trend
    if len(curve) < 12:
        yield from _barely_begun(course)
        return
    gain, gained = _to_gain(course, curve)
    if gained <= 0 or gain < TO_GAIN * gained:
        return
    epochs = course.steps / course.per_epoch if course.per_epoch else math.inf
    few = epochs < 5 or course.steps < FEW
    slow = not few and (course.moved < SHORT_WAY or steady(course))
    cause, other = (
        ("learning-rate-low", "too-few-steps") if slow else ("too-few-steps", "learning-rate-low")
    )
    yield Observation(
        severity="warning" if gain > MUCH_TO_GAIN * gained else "note",
        evidence=(
            Evidence(
                "as many steps again would gain",
                100 * gain / gained,
                "%",
                100 * TO_GAIN,
                "of what was gained so far",
            ),
            *_figures(course),
        ),
        cause=cause,
        suspects=(other,),
        changes=_against(cause, course),
    )


def _barely_begun(course: Course) -> Iterator[Observation]:
    """A run of under 100 steps and 3 epochs, of which a look or two show that it was on its way
    down.

    The training loss is a mean over the steps before a look, the validation loss is that of the
    moment: where the second lies well below the first, the loss fell in between.
    """
    null, train, validation = course.null_validation, course.train, course.validation
    if null is None or not len(train) or not len(validation) or not len(course.error):
        return
    short = course.steps < FEW and 0 < course.steps < 3 * course.per_epoch
    now, before, error = (
        float(validation.values[-1]),
        float(train.values[-1]),
        float(course.error.values[-1]),
    )
    if (
        not short
        or before - now < max(A_GAIN * abs(null), course.z * error)
        or now < LITTLE * abs(null)
    ):
        return
    yield Observation(
        title="the run ended when it had hardly begun",
        severity="warning" if now > 0.5 * abs(null) else "note",
        evidence=(
            Evidence(
                "steps", course.steps, "", FEW, f"{course.steps / course.per_epoch:.1f} epochs"
            ),
            Evidence("loss at the end", now, "", before, "the limit is the mean on the way there"),
        ),
        cause="too-few-steps",
        suspects=("learning-rate-low",),
        changes=_against("too-few-steps", course),
    )


def _to_gain(course: Course, curve: Curve) -> tuple[float, float]:
    """What as many steps again would gain at least, and what was gained from the first value on.

    Time t is the sum of the learning rates so far (of ones, where they are not known): steps with
    hardly any rate are no time. Of the last third, the slope of log loss (of the loss, where it is
    not positive) over log t: a straight line there is a power law, which slows down. The slope
    taken is the upper end of its interval.
    """
    time = _time(course, curve.steps)
    late = (time >= time[-1] * 2 / 3) & (time > 0)
    places = np.minimum(((time[late] / time[-1] - 2 / 3) * 3 * FITTED).astype(int), FITTED - 1)
    if len(np.unique(places)) < 4:
        return 0.0, 1.0
    x = np.array([time[late][places == p].mean() for p in np.unique(places)])
    y = np.array([curve.values[late][places == p].mean() for p in np.unique(places)])
    positive = bool((curve.values > 0).all())
    slope, _, high = theil_sen(np.log(x), np.log(y) if positive else y, course.z)
    if (
        len(x) < 10
    ):  # too few for an interval at this level: all that can be asked is that each is lower
        high = slope if bool((np.diff(y) < 0).all()) else 0.0
    if not high < 0:
        return 0.0, 1.0
    last = float(y[-1])
    gain = last * (1 - 2**high) if positive else -high * math.log(2)
    first, null = float(curve.values[0]), course.null_judged
    top = first if null is None or last > null - A_GAIN * abs(null) else min(first, null)
    return gain, top - last


def _time(course: Course, steps: np.ndarray) -> np.ndarray:
    """The sum of the learning rates up to steps."""
    if len(course.lr) < 3 or not course.lr.values.max() > 0:
        return steps.astype(float)
    sums = np.cumsum(course.lr.values * np.diff(course.lr.steps.astype(float), prepend=0.0))
    return np.interp(steps, np.concatenate([[0.0], course.lr.steps]), np.concatenate([[0.0], sums]))


@rule(
    "RVN-T07",
    severity="warning",
    confidence="medium",
    cause="architecture-too-small",
    also=("dropout", "over-regularized", "learning-rate-low"),
    needs="reachable",
)
def underfits(course: Course) -> Iterator[Observation]:
    if not course.ended or course.reachable is None or len(course.judged) < 4:
        return
    late, error = mean_with_error(course.judged.values[-max(4, len(course.judged) // 4) :])
    whole = fall(course, min(course.reachable, late))
    train = float(course.trend.values[-3:].mean()) if len(course.trend) else late
    far = late - course.critical(
        10
    ) * error > course.reachable and late - course.reachable > 0.25 * max(whole, 1e-12)
    if not far or train < course.reachable + 0.5 * (late - course.reachable):
        return
    cause = next(
        (c for c in blamed(course) if c in ("dropout", "over-regularized", "learning-rate-low")),
        "architecture-too-small",
    )
    rest = tuple(
        c for c in ("architecture-too-small", "over-regularized", "learning-rate-low") if c != cause
    )
    yield Observation(
        evidence=(
            Evidence("loss at the end", late, "", course.reachable, "the limit can be reached"),
            Evidence("training loss", train, "", None, "no lower"),
        ),
        cause=cause,
        suspects=rest,
        changes=_against(cause, course),
    )


@rule(
    "RVN-T08",
    severity="note",
    confidence="high",
    cause="vanishing",
    also=(
        "learning-rate-low",
        "too-few-steps",
        "gradient-clipping",
        "frozen-parameters",
        "saturation",
    ),
    needs="layers",
    explains=("RVN-T02",),
    picture="deep-tanh",
)
@replayed
def stuck_layers(course: Course) -> Iterator[Observation]:
    if course.steps < 0.25 * course.budget and not course.ended:
        return
    ways = {
        name: _whole_way(curve, course) for name, curve in course.layers.items() if len(curve) >= 3
    }
    if not ways:
        return
    furthest = max(ways.values())
    stuck = {
        n: w for n, w in ways.items() if w < STUCK and (w * FASTER < furthest or furthest < STUCK)
    }
    if not stuck:
        return
    every = len(stuck) == len(ways)
    name, least = min(stuck.items(), key=lambda pair: pair[1])
    useless = bool(list(not_learned(course)))
    yield Observation(
        where="" if every else join_names(stuck),
        severity="warning" if useless and course.ended else "note",
        title="the weights will hardly move" if every else "",
        evidence=(
            Evidence(
                f"{name} moves in the whole run by at most",
                100 * least,
                "%",
                100 * STUCK,
                "of its weights",
            ),
            *(
                (Evidence("the layer that moves furthest", 100 * furthest, "%"),)
                if not every
                else ()
            ),
        ),
        cause="learning-rate-low" if every else "vanishing",
        suspects=("too-few-steps", "gradient-clipping")
        if every
        else ("frozen-parameters", "saturation"),
        changes=(Change("optimizer.lr", "times 10"),) if every else (),
    )


def _whole_way(ratios: Curve, course: Course) -> float:
    """The way so far and that which remains at the pace of the last quarter: an upper limit of the
    distance.
    """
    so_far = total_update(ratios, course.steps)
    if course.ended:
        return so_far
    late = ratios.values[-max(2, len(ratios) // 4) :]
    return so_far + float(late.mean()) * max(0, course.budget - course.steps)


@rule(
    "RVN-T09",
    severity="note",
    confidence="high",
    cause="schedule",
    also=("learning-rate-low",),
    needs="lr",
    explains=("RVN-T06", "RVN-T10"),
    picture="schedules",
)
def ended_early(course: Course) -> Iterator[Observation]:
    if not course.ended or course.outcome == "diverged" or len(course.lr) < 6:
        return
    highest = float(course.lr.values.max())
    high = course.lr.steps[course.lr.values >= OVER * highest]
    end = int(high[-1]) if highest > 0 and len(high) else 0
    rest = 1 - end / course.steps if course.steps else 0.0
    if rest < WASTED or course.lr.values[-1] >= OVER * highest:
        return
    before = course.until(end)
    curve = before.judged if len(before.judged) >= 6 else before.trend
    if len(curve) < 4:
        return
    gain, gained = _to_gain(before, curve)
    falling = gained > 0 and gain > TO_GAIN * gained
    yield Observation(
        since=end,
        severity="warning" if falling else "note",
        evidence=(
            Evidence(
                "of the steps had under 1 % of the highest learning rate",
                100 * rest,
                "%",
                100 * WASTED,
            ),
            *(
                (
                    Evidence(
                        "it was still falling: as many steps again would gain",
                        100 * gain / gained,
                        "%",
                        100 * TO_GAIN,
                    ),
                )
                if falling
                else ()
            ),
        ),
        suspects=("learning-rate-low",),
        changes=(Change("schedule", "one that lasts the whole run"),),
    )


@rule(
    "RVN-T10",
    severity="note",
    confidence="medium",
    cause="schedule",
    also=("learning-rate-high", "architecture-too-small"),
    needs="ended",
    picture="early-stopping",
)
def plateau(course: Course) -> Iterator[Observation]:
    curve = course.judged
    if not course.ended or course.outcome == "diverged" or len(curve) < 12:
        return
    half = len(curve) // 2
    lowest = float(curve.values.min())
    whole = fall(course, lowest)
    gained = float(np.median(curve.values[half - half // 4 : half])) - float(
        np.median(curve.values[-max(3, half // 4) :])
    )
    null = course.null_judged
    unlearned = whole <= 0 or (null is not None and lowest > null - LITTLE * abs(null))
    done = null is not None and lowest < 0.05 * abs(null)
    if unlearned or done or abs(gained) > FLAT * whole:
        return
    yield Observation(
        since=int(curve.steps[half - 1]),
        evidence=(
            Evidence(
                "gained in the second half",
                100 * gained / whole,
                "%",
                100 * FLAT,
                "of all that was gained",
            ),
            Evidence("loss at the end", float(curve.values[-1])),
        ),
        suspects=("learning-rate-high", "architecture-too-small"),
    )


@rule(
    "RVN-T11",
    severity="note",
    cause="optimizer",
    also=(
        "gradient-clipping",
        "over-regularized",
        "schedule",
        "imbalance",
        "loss",
        "too-few-steps",
    ),
    needs="effects",
)
def idle(course: Course) -> Iterator[Observation]:
    if not course.ended or course.outcome == "diverged":
        return
    for name, value in course.effects.items():
        if value == 0 and name not in ("update", "early stopping"):  # nothing to stop is no fault
            path = PATHS.get(name, name)
            cause = _CAUSE_OF.get(path.split(".")[0], "optimizer")
            yield Observation(
                where=path,
                title="clip never cut" if name == "clip" else f"{name} did nothing",
                evidence=(Evidence(course.meanings.get(name, name), 0.0),),
                cause=cause,
            )


_CAUSE_OF = {
    "clip": "gradient-clipping",
    "penalties": "over-regularized",
    "schedule": "schedule",
    "class_weights": "imbalance",
    "loss": "loss",
    "stop": "too-few-steps",
}


@rule(
    "RVN-T12",
    severity="note",
    confidence="high",
    cause="over-regularized",
    also=("gradient-clipping", "dropout", "learning-rate-low", "learning-rate-high"),
    needs="loss",
    explains=("RVN-T02", "RVN-T06", "RVN-T07", "RVN-T08"),
    picture="dropout-expectation",
)
@replayed
def overdone(course: Course) -> Iterator[Observation]:
    useless = course.ended and bool(list(not_learned(course)))
    cut = course.effects.get("clip", 1.0)
    kept = float(np.median(course.kept.values)) if len(course.kept) >= 3 else math.nan
    nearly = float((course.kept.values < 1).mean()) if len(course.kept) >= 3 else 0.0
    if len(course.kept) >= 5 and kept < LEFT and nearly > CUT and cut > CUT:
        slow = course.moved < SHORT_WAY or steady(course)
        yield Observation(
            where="clip",
            severity="warning" if useless or (slow and course.ended) else "note",
            title="clipping leaves almost nothing of the gradient",
            evidence=(
                Evidence("steps in which the gradient was cut", 100 * nearly, "%", 100 * CUT),
                Evidence("of its length was left", 100 * kept, "%", 100 * LEFT),
                *_figures(course),
            ),
            cause="gradient-clipping",
            suspects=("learning-rate-low",),
            changes=(Change("clip", "a limit near the gradient's usual norm"),),
        )
    null = course.null_judged
    last = float(np.median(course.judged.values[-3:])) if len(course.judged) else math.inf
    poor = null is not None and last > 0.5 * abs(null)
    dropped = course.effects.get("dropout", 0.0)
    if dropped > DROPPED:
        yield Observation(
            where=PATHS["dropout"],
            severity="warning" if useless or (course.ended and poor) else "note",
            title=f"dropout leaves {100 * (1 - dropped):.0f} % of the units",
            evidence=(Evidence("units dropped", 100 * dropped, "%", 100 * DROPPED),),
            cause="dropout",
            suspects=("over-regularized",),
            changes=(Change(PATHS["dropout"], 0.2),),
        )
    if decayed(course) and (useless or (null is not None and last > null - A_GAIN * abs(null))):
        left = float(course.weights.values[-1] / course.weights.values[0])
        path = PATHS[next((name for name in DECAYS if course.effects.get(name)), DECAYS[0])]
        yield Observation(
            where=path,
            severity="warning" if course.ended else "note",
            title="decay shrinks the weights to almost nothing",
            evidence=(
                Evidence("norm of the weights, of what it was", 100 * left, "%", 100 * SHRUNK),
                Evidence(
                    "loss",
                    float(course.judged.values[-1]),
                    "",
                    null,
                    "the limit is the best constant answer's",
                ),
            ),
            cause="over-regularized",
            suspects=("learning-rate-high",),
            changes=(Change(path, "much weaker"),),
        )


@rule(
    "RVN-T13",
    severity="warning",
    confidence="high",
    cause="normalization",
    also=("train-eval-mode", "batch-size"),
    needs="modes",
    picture="batch-norm-drift",
)
def modes_differ(course: Course) -> Iterator[Observation]:
    training, evaluation = course.in_training, course.in_evaluation
    if training is None or evaluation is None:
        return
    scale = abs(course.null) if course.null else max(abs(training), 1e-12)
    error = course.gap_error if course.gap_error is not None else 0.0
    worse = evaluation - training
    if worse < APART * scale or worse < course.z * error or evaluation < 1.5 * training:
        return
    yield Observation(
        evidence=(
            Evidence(
                "loss in evaluation mode",
                evaluation,
                "",
                training,
                "the limit is the loss in training mode, of the same examples",
            ),
        ),
        suspects=("train-eval-mode", "batch-size"),
        changes=(Change("normalization", "LayerNorm, or larger batches"),),
    )


@rule(
    "RVN-T14",
    severity="warning",
    confidence="medium",
    cause="learning-rate-high",
    also=("schedule", "exploding"),
    needs="looks",
    picture="schedules",
)
@replayed
def best_was_early(course: Course) -> Iterator[Observation]:
    curve = course.validation
    if len(curve) < 6 or course.steps < 0.3 * course.budget and not course.ended:
        return
    place = int(curve.values.argmin())
    lowest, best = float(curve.values[place]), int(curve.steps[place])
    later, whole = curve.after(best), fall(course, lowest)
    if best > 0.1 * course.budget or len(later) < 3 or whole <= 0:
        return
    if float(later.values[-3:].min()) - lowest < RISEN * whole or not _surely_risen(
        course, later, lowest
    ):
        return
    before, now = course.trend.until(best), course.trend.after(best)
    if (
        not len(now)
        or not len(before)
        or float(now.values[-3:].mean()) <= float(before.values[-3:].mean()) * 1.02
    ):
        return  # that is overfitting
    yield Observation(
        severity="note" if course.keeps_best else "",
        evidence=(
            Evidence(
                "validation loss", float(curve.values[-1]), "", lowest, f"lowest at step {best:,}"
            ),
            Evidence(
                "training loss",
                float(now.values[-1]),
                "",
                float(before.values[-1]),
                "higher as well",
            ),
        ),
        suspects=("schedule", "exploding"),
        changes=slower(),
    )


def _figures(course: Course) -> tuple[Evidence, ...]:
    """How far the weights went, if it is known."""
    if not len(course.update):
        return ()
    return (
        Evidence(
            "the weights moved by at most",
            100 * course.moved,
            "%",
            None,
            f"in {course.steps:,} steps",
        ),
    )


def _against(cause: str, course: Course) -> tuple[Change, ...]:
    return {
        "learning-rate-high": slower(),
        "learning-rate-low": (Change("optimizer.lr", "times 10"),),
        "too-few-steps": (Change("epochs", "times 3"),),
        "gradient-clipping": (Change("clip", "none"),),
        "over-regularized": (Change(PATHS["weight decay"], 0.0),),
        "dropout": (Change(PATHS["dropout"], 0.2),),
        "architecture-too-small": (Change("network.hidden", "wider"),),
    }.get(cause, ())


# Over the looks


ALL = (
    diverged,
    not_learned,
    rises,
    restless,
    overfits,
    still_falling,
    underfits,
    stuck_layers,
    ended_early,
    plateau,
    idle,
    overdone,
    modes_differ,
    best_was_early,
)

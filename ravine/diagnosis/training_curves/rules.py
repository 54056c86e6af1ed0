"""What the course of a run says: rules over its series that share one budget of false alarms.

A run is judged at looks (`LOOKS`, shares of its budget) and at its end. Each statistical test at each look may err with
the chance alpha / (tests · looks), so that any warning on a healthy run has a chance of at most alpha = 5 %. Beside
being sure, a difference must matter: it is compared with the fall, from the loss of the best constant answer (or, where
that is not known, from the first loss) to the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.diagnosis.training_curves.series import PATHS, Course, Curve, binomial_tail, mean_and_error, theil_sen, way
from ravine.finding import Change, Evidence

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
CUT, LEFT = 0.99, 0.01  # share of steps in which the gradient was cut, and share of it that was left
DROPPED = 0.9  # share of units
DECAYS = ("weight decay", "L2", "L1", "elastic net")
SHRUNK = 0.1  # of the weights' norm at the start
APART = 0.2  # of the constant's loss: between training and evaluation mode
FEW = 100  # steps: a short run
SHORT_WAY = 0.05  # of the weights: hardly moved
LONG_STEP = 0.05  # |Δw| / |w| of a typical step: very long


# ------------------------------------------------------------------------------------------------ how it was


def fall(course: Course, lowest: float) -> float:
    """From the best constant's loss, or where that is unknown or never beaten from the first loss, to the lowest.

    Not less than a twentieth of the constant's loss: where hardly anything was learned, little can be lost.

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
    if any(n is not None and len(c) and float(np.median(c.values[-5:])) > n + 0.5 * abs(n) for c, n in pairs):
        found.append("learning-rate-high")
    if len(course.update) and float(np.median(course.update.values)) > LONG_STEP:
        found.append("learning-rate-high")
    if course.moved < SHORT_WAY:
        short = 0 < course.steps < FEW
        found += ["too-few-steps", "learning-rate-low"] if short else ["learning-rate-low", "too-few-steps"]
    elif steady(course):
        found.append("learning-rate-low")
    if len(course.gradient) > 3 and course.gradient.values[-1] < 1e-4 * max(course.gradient.values[0], 1e-30):
        found += ["dead-units", "vanishing", "saturation"]
    return tuple(dict.fromkeys((*found, "labels", "learning-rate-high", "initialization", "input-scale")))


def steady(course: Course) -> bool:
    """Whether the loss fell evenly: the last third of the time brought over half as much as the first."""
    curve = course.judged if len(course.judged) >= 9 else course.trend
    if len(curve) < 9:
        return False
    time = _time(course, curve.steps)
    parts = [curve.values[(time >= a * time[-1]) & (time <= (a + 0.25) * time[-1])] for a in (0, 0.25, 0.5, 0.75)]
    if not all(len(p) for p in parts):
        return False
    means = [float(p.mean()) for p in parts]
    return means[0] > means[1] > means[2] > means[3] and means[2] - means[3] > 0.5 * (means[0] - means[1])


def decayed(course: Course) -> bool:
    """Whether the weights shrank to almost nothing."""
    norms = course.weights.values
    return len(norms) > 2 and norms[-1] < SHRUNK * norms[0]


def slower() -> tuple[Change, ...]:
    return (Change("optimizer.lr", "divided by 3 to 10"),)


# ------------------------------------------------------------------------------------------------ rules


def diverged(course: Course) -> Iterator[Seen]:
    if course.outcome != "diverged" and course.broken is None and not course.diverged:
        return
    losses = course.train if len(course.train) else course.validation
    early = course.broken is not None and course.broken < 0.1 * course.budget
    evidence = [Evidence("training ended at step", course.steps, "", course.budget)]
    if course.diverged and course.networks > 1:
        evidence = [Evidence("networks that diverged", course.diverged, "", 0, f"of {course.networks}")]
    cause, suspects = "learning-rate-high", ("exploding", "optimizer-numerics", "data-degenerate")
    if len(losses) > 3:
        first, last, lowest = (float(v) for v in (losses.values[0], losses.values[-1], losses.values.min()))
        evidence.append(Evidence("last finite loss", last, "", None, f"first {first:.3g}, lowest {lowest:.3g}"))
        if last < 0.5 * first and last < lowest + 0.5 * (first - lowest) and not early:
            cause, suspects = "exploding", ("learning-rate-high", "optimizer-numerics", "precision")
    minor = course.networks > 1 and course.diverged < course.networks / 2
    title = f"{course.diverged} of {course.networks} networks diverged" if course.networks > 1 else ""
    yield Seen(
        since=course.broken if course.broken is not None else course.steps if course.outcome == "diverged" else None,
        title=title,
        severity="warning" if minor else "",
        cause=cause,
        suspects=suspects,
        evidence=tuple(evidence),
        changes=slower(),
    )


def not_learned(course: Course) -> Iterator[Seen]:
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
        mean, error = mean_and_error(late)
        scale = abs(null) if abs(null) > 1e-12 else 1.0
        if name == "validation loss" and len(course.error):
            error = math.hypot(error, 0.0 if len(course.train) else float(course.error.values[-1]))
        below = int((curve.values[len(curve) // 3 :] < null - NOT_A_GAIN * scale).sum())
        most = binomial_tail(len(curve) - len(curve) // 3 - below, len(curve) - len(curve) // 3, 0.5)
        sure = most < course.chance or mean - course.critical(min(10, len(late))) * error > null - A_GAIN * scale
        if mean < null - NOT_A_GAIN * scale or (name == "training loss" and not sure):
            return  # one of the two is better than the constant: something was learned, if only by heart
        shown.append(Evidence(f"{name}, second half", mean, "", null, "the limit is the best constant answer's"))
    if not shown:
        return
    worse = all(e.value is not None and e.limit is not None and e.value > e.limit + 0.5 * abs(e.limit) for e in shown)
    cause, *suspects = blamed(course)
    early = not course.ended
    yield Seen(
        title="not learned so far" if early else "",
        severity="note" if early else "error" if worse else "warning",
        evidence=(*shown, *_figures(course)),
        cause=cause,
        suspects=tuple(suspects),
        changes=_against(cause, course),
    )


def rises(course: Course) -> Iterator[Seen]:
    curve = course.trend
    if len(curve) < 6:
        return
    late = curve.values[-max(3, len(curve) // 4) :]
    first = float(curve.values[0])
    mean, error = mean_and_error(late)
    base = first if course.null is None else max(first, course.null)
    clear = mean - course.critical(len(late) + 3) * error > base and mean > base + ABOVE * abs(base)
    elsewhere = len(course.validation) > 2 and bool(
        (course.validation.values[-2:] > course.validation.values[0] * (1 + ABOVE)).all()
    )
    if not clear or float(late.min()) <= base or (course.null is None and not elsewhere):
        return  # without a constant to compare with, a rising loss may be a game's (adversarial training)
    cause = "over-regularized" if decayed(course) else "learning-rate-high"
    yield Seen(
        evidence=(Evidence("training loss at the end", mean, "", base, f"first {first:.3g}"), *_figures(course)),
        cause=cause,
        suspects=("learning-rate-high", "loss", "exploding")
        if cause != "learning-rate-high"
        else ("loss", "exploding"),
        changes=_against(cause, course),
    )


def restless(course: Course) -> Iterator[Seen]:
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
    often = [j for j, count in counts.items() if binomial_tail(count, len(up), JUMPS) < course.chance]
    jump = next((j for j in often if typical > 0.5 * j * whole), None)
    if jump is None:
        return
    rate, highest = float(rates[-1]), float(course.lr.values.max()) if len(course.lr) else math.nan
    calmed = rate < 0.1 * highest and course.validation.values[-1] < lowest + JUMP * whole
    yield Seen(
        severity="note" if course.keeps_best or calmed or not course.ended or jump == JUMP else "",
        evidence=(
            Evidence("rises from one look to the next", 100 * counts[jump] / len(up), "%", 100 * JUMPS,
                     f"by over {jump:.0%} of all that was gained, in the second half"),
            Evidence("validation loss, mean", lowest + typical, "", lowest, "the limit is the lowest"),
        ),
        suspects=("batch-size", "schedule"),
        changes=(*slower(), Change("schedule", "one that ends low")),
    )  # fmt: skip


def overfits(course: Course) -> Iterator[Seen]:
    risen = list(_loses_again(course))
    yield from risen or _by_heart(course)


def _by_heart(course: Course) -> Iterator[Seen]:
    """Overfitting that was there from the first looks on: all is known of the one examples, little of the others."""
    null, null_validation = course.null, course.null_validation
    if null is None or null_validation is None or null <= 0 or null_validation <= 0 or len(course.trend) < 3:
        return
    train = float(np.median(course.trend.values[-3:]))
    last = course.validation.values.min() if course.keeps_best else np.median(course.validation.values[-3:])
    gained = (null_validation - float(last)) / null_validation
    error = float(course.error.values[-1]) if len(course.error) else math.inf
    worse = float(last) - course.z * error > null_validation
    if train > BY_HEART * null or gained > CARRIED:
        return
    yield Seen(
        severity="warning" if worse else "note",
        title="the training examples are learned by heart, others are answered no better than by a constant"
        if worse
        else "the training examples are learned by heart, little carries over",
        evidence=(
            Evidence("training loss", train, "", BY_HEART * null, f"best constant {null:.3g}"),
            Evidence("validation loss", float(last), "", null_validation, "the limit is the best constant answer's"),
        ),
        suspects=("labels",),
        changes=(Change("network.dropout", 0.2), Change("data", "more examples")),
    )


def _loses_again(course: Course) -> Iterator[Seen]:
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
        not len(now) or not len(before) or float(now.values[-3:].mean()) <= float(before.values[-3:].mean()) * 1.02
    )
    if not learned or (len(now) and float(now.values[-3:].mean()) > float(later.values[-3:].mean())):
        return  # training got worse as well (see the rule of the best step), or did not get ahead of validation
    if len(now) and course.null is not None and float(now.values[-3:].mean()) > course.null - LITTLE * abs(course.null):
        return  # nothing was learned by heart either
    flat = _score_flat(course, best)
    harmless = course.keeps_best or flat
    title = "the confidence of the predictions rises, the score does not fall" if flat else ""
    yield Seen(
        severity="note" if harmless else "",
        title=title,
        evidence=(
            Evidence("validation loss", float(curve.values[-1]), "", lowest, f"lowest at step {best:,}"),
            Evidence("of all that was gained, lost again", 100 * (float(curve.values[-1]) - lowest) / whole, "%",
                     100 * RISEN),
            *((Evidence("training loss", float(now.values[-1]), "", None, "still falls"),) if len(now) else ()),
            *((Evidence("best weights are kept", best, "step"),) if course.keeps_best else ()),
        ),
        changes=() if course.keeps_best else (Change("stop", "EarlyStopping"), Change("network.dropout", 0.2)),
    )  # fmt: skip


def _surely_risen(course: Course, later: Curve, lowest: float) -> bool:
    if len(course.rise) and len(course.rise_error):
        rise = np.array([course.rise.at(s) for s in later.steps[-3:]])
        error = np.array([course.rise_error.at(s) for s in later.steps[-3:]])
        return bool((rise > course.z * error).all())
    if len(course.error):
        return bool((later.values[-3:] - lowest > course.z * math.sqrt(2) * course.error.at(later.steps[-1])).all())
    changes = np.abs(np.diff(course.validation.values))
    noise = 1.4826 * float(np.median(changes)) / math.sqrt(2)
    return len(changes) >= 6 and bool((later.values[-3:] - lowest > 2 * course.critical(len(changes)) * noise).all())


def _score_flat(course: Course, best: int) -> bool:
    if not len(course.score):
        return False
    sign = 1 if course.higher_is_better else -1
    now, then = sign * float(np.median(course.score.values[-3:])), sign * course.score.at(best)
    spread = math.sqrt(max(abs(then) * (1 - abs(then)), 0.01) / course.examples) if course.examples else 0.01
    return now >= then - min(spread, 0.05)


def still_falling(course: Course) -> Iterator[Seen]:
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
    cause, other = ("learning-rate-low", "too-few-steps") if slow else ("too-few-steps", "learning-rate-low")
    yield Seen(
        severity="warning" if gain > MUCH_TO_GAIN * gained else "note",
        evidence=(
            Evidence("as many steps again would gain", 100 * gain / gained, "%", 100 * TO_GAIN,
                     "of what was gained so far"),
            *_figures(course),
        ),
        cause=cause,
        suspects=(other,),
        changes=_against(cause, course),
    )  # fmt: skip


def _barely_begun(course: Course) -> Iterator[Seen]:
    """A run of under 100 steps and 3 epochs, of which a look or two show that it was on its way down.

    The training loss is a mean over the steps before a look, the validation loss is that of the moment: where the
    second lies well below the first, the loss fell in between.
    """
    null, train, validation = course.null_validation, course.train, course.validation
    if null is None or not len(train) or not len(validation) or not len(course.error):
        return
    short = course.steps < FEW and 0 < course.steps < 3 * course.per_epoch
    now, before, error = float(validation.values[-1]), float(train.values[-1]), float(course.error.values[-1])
    if not short or before - now < max(A_GAIN * abs(null), course.z * error) or now < LITTLE * abs(null):
        return
    yield Seen(
        title="the run ended when it had hardly begun",
        severity="warning" if now > 0.5 * abs(null) else "note",
        evidence=(
            Evidence("steps", course.steps, "", FEW, f"{course.steps / course.per_epoch:.1f} epochs"),
            Evidence("loss at the end", now, "", before, "the limit is the mean on the way there"),
        ),
        cause="too-few-steps",
        suspects=("learning-rate-low",),
        changes=_against("too-few-steps", course),
    )


def _to_gain(course: Course, curve: Curve) -> tuple[float, float]:
    """What as many steps again would gain at least, and what was gained from the first value on.

    Time t is the sum of the learning rates so far (of ones, where they are not known): steps with hardly any rate
    are no time. Of the last third, the slope of log loss (of the loss, where it is not positive) over log t: a
    straight line there is a power law, which slows down. The slope taken is the upper end of its interval.
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
    if len(x) < 10:  # too few for an interval at this level: all that can be asked is that each is lower
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


def underfits(course: Course) -> Iterator[Seen]:
    if not course.ended or course.reachable is None or len(course.judged) < 4:
        return
    late, error = mean_and_error(course.judged.values[-max(4, len(course.judged) // 4) :])
    whole = fall(course, min(course.reachable, late))
    train = float(course.trend.values[-3:].mean()) if len(course.trend) else late
    far = late - course.critical(10) * error > course.reachable and late - course.reachable > 0.25 * max(whole, 1e-12)
    if not far or train < course.reachable + 0.5 * (late - course.reachable):
        return
    cause = next(
        (c for c in blamed(course) if c in ("dropout", "over-regularized", "learning-rate-low")),
        "architecture-too-small",
    )
    rest = tuple(c for c in ("architecture-too-small", "over-regularized", "learning-rate-low") if c != cause)
    yield Seen(
        evidence=(
            Evidence("loss at the end", late, "", course.reachable, "the limit can be reached"),
            Evidence("training loss", train, "", None, "no lower"),
        ),
        cause=cause,
        suspects=rest,
        changes=_against(cause, course),
    )  # fmt: skip


def stuck_layers(course: Course) -> Iterator[Seen]:
    if course.steps < 0.25 * course.budget and not course.ended:
        return
    ways = {name: _whole_way(curve, course) for name, curve in course.layers.items() if len(curve) >= 3}
    if not ways:
        return
    furthest = max(ways.values())
    stuck = {n: w for n, w in ways.items() if w < STUCK and (w * FASTER < furthest or furthest < STUCK)}
    if not stuck:
        return
    every = len(stuck) == len(ways)
    name, least = min(stuck.items(), key=lambda pair: pair[1])
    useless = bool(list(not_learned(course)))
    yield Seen(
        where="" if every else listed(stuck),
        severity="warning" if useless and course.ended else "note",
        title="the weights will hardly move" if every else "",
        evidence=(
            Evidence(f"{name} moves in the whole run by at most", 100 * least, "%", 100 * STUCK, "of its weights"),
            *((Evidence("the layer that moves furthest", 100 * furthest, "%"),) if not every else ()),
        ),
        cause="learning-rate-low" if every else "vanishing",
        suspects=("too-few-steps", "gradient-clipping") if every else ("frozen-parameters", "saturation"),
        changes=(Change("optimizer.lr", "times 10"),) if every else (),
    )  # fmt: skip


def _whole_way(ratios: Curve, course: Course) -> float:
    """The way so far and that which remains at the pace of the last quarter: an upper limit of the distance."""
    so_far = way(ratios, course.steps)
    if course.ended:
        return so_far
    late = ratios.values[-max(2, len(ratios) // 4) :]
    return so_far + float(late.mean()) * max(0, course.budget - course.steps)


def ended_early(course: Course) -> Iterator[Seen]:
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
    yield Seen(
        since=end,
        severity="warning" if falling else "note",
        evidence=(
            Evidence("of the steps had under 1 % of the highest learning rate", 100 * rest, "%", 100 * WASTED),
            *((Evidence("it was still falling: as many steps again would gain", 100 * gain / gained, "%",
                        100 * TO_GAIN),) if falling else ()),
        ),
        suspects=("learning-rate-low",),
        changes=(Change("schedule", "one that lasts the whole run"),),
    )  # fmt: skip


def plateau(course: Course) -> Iterator[Seen]:
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
    yield Seen(
        since=int(curve.steps[half - 1]),
        evidence=(
            Evidence("gained in the second half", 100 * gained / whole, "%", 100 * FLAT, "of all that was gained"),
            Evidence("loss at the end", float(curve.values[-1])),
        ),
        suspects=("learning-rate-high", "architecture-too-small"),
    )  # fmt: skip


def idle(course: Course) -> Iterator[Seen]:
    if not course.ended or course.outcome == "diverged":
        return
    for name, value in course.effects.items():
        if value == 0 and name not in ("update", "early stopping"):  # nothing to stop is no fault
            path = PATHS.get(name, name)
            cause = _CAUSE_OF.get(path.split(".")[0], "optimizer")
            yield Seen(
                where=path,
                title="clip never cut" if name == "clip" else f"{name} did nothing",
                evidence=(Evidence(course.meanings.get(name, name), 0.0),),
                cause=cause,
            )


_CAUSE_OF = {"clip": "gradient-clipping", "penalties": "over-regularized", "schedule": "schedule",
             "class_weights": "imbalance", "loss": "loss", "stop": "too-few-steps"}  # fmt: skip


def overdone(course: Course) -> Iterator[Seen]:
    useless = course.ended and bool(list(not_learned(course)))
    cut = course.effects.get("clip", 1.0)
    kept = float(np.median(course.kept.values)) if len(course.kept) >= 3 else math.nan
    nearly = float((course.kept.values < 1).mean()) if len(course.kept) >= 3 else 0.0
    if len(course.kept) >= 5 and kept < LEFT and nearly > CUT and cut > CUT:
        slow = course.moved < SHORT_WAY or steady(course)
        yield Seen(
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
        )  # fmt: skip
    null = course.null_judged
    last = float(np.median(course.judged.values[-3:])) if len(course.judged) else math.inf
    poor = null is not None and last > 0.5 * abs(null)
    dropped = course.effects.get("dropout", 0.0)
    if dropped > DROPPED:
        yield Seen(
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
        yield Seen(
            where=path,
            severity="warning" if course.ended else "note",
            title="decay shrinks the weights to almost nothing",
            evidence=(
                Evidence("norm of the weights, of what it was", 100 * left, "%", 100 * SHRUNK),
                Evidence("loss", float(course.judged.values[-1]), "", null, "the limit is the best constant answer's"),
            ),
            cause="over-regularized",
            suspects=("learning-rate-high",),
            changes=(Change(path, "much weaker"),),
        )


def modes_differ(course: Course) -> Iterator[Seen]:
    training, evaluation = course.in_training, course.in_evaluation
    if training is None or evaluation is None:
        return
    scale = abs(course.null) if course.null else max(abs(training), 1e-12)
    error = course.gap_error if course.gap_error is not None else 0.0
    worse = evaluation - training
    if worse < APART * scale or worse < course.z * error or evaluation < 1.5 * training:
        return
    yield Seen(
        evidence=(
            Evidence("loss in evaluation mode", evaluation, "", training, "the limit is the loss in training mode, "
                     "of the same examples"),
        ),
        suspects=("train-eval-mode", "batch-size"),
        changes=(Change("normalization", "LayerNorm, or larger batches"),),
    )  # fmt: skip


def best_was_early(course: Course) -> Iterator[Seen]:
    curve = course.validation
    if len(curve) < 6 or course.steps < 0.3 * course.budget and not course.ended:
        return
    place = int(curve.values.argmin())
    lowest, best = float(curve.values[place]), int(curve.steps[place])
    later, whole = curve.after(best), fall(course, lowest)
    if best > 0.1 * course.budget or len(later) < 3 or whole <= 0:
        return
    if float(later.values[-3:].min()) - lowest < RISEN * whole or not _surely_risen(course, later, lowest):
        return
    before, now = course.trend.until(best), course.trend.after(best)
    if not len(now) or not len(before) or float(now.values[-3:].mean()) <= float(before.values[-3:].mean()) * 1.02:
        return  # that is overfitting
    yield Seen(
        severity="note" if course.keeps_best else "",
        evidence=(
            Evidence("validation loss", float(curve.values[-1]), "", lowest, f"lowest at step {best:,}"),
            Evidence("training loss", float(now.values[-1]), "", float(before.values[-1]), "higher as well"),
        ),
        suspects=("schedule", "exploding"),
        changes=slower(),
    )  # fmt: skip


def _figures(course: Course) -> tuple[Evidence, ...]:
    """How far the weights went, if it is known."""
    if not len(course.update):
        return ()
    return (Evidence("the weights moved by at most", 100 * course.moved, "%", None, f"in {course.steps:,} steps"),)


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


# ------------------------------------------------------------------------------------------------ over the looks


def replayed(test: Callable[[Course], Iterator[Seen]]) -> Callable[[Course], Iterator[Seen]]:
    """A test that also says since when it has been true: the first of the looks from which on it always was."""

    def find(course: Course) -> Iterator[Seen]:
        for seen in test(course):
            since = course.steps
            for look in reversed(course.looks[:-1]):
                if not any(s.where == seen.where for s in test(look)):
                    break
                since = look.steps
            yield seen if seen.since is not None else replace(seen, since=since)

    return find


ALL = (
    Rule(code="RVN-T01", title="training diverged", cause="learning-rate-high", severity="error", find=diverged,
         needs="loss", explains=("RVN-T02", "RVN-T03", "RVN-T04", "RVN-T14"),
         also=("exploding", "optimizer-numerics", "data-degenerate", "precision"),
         because="steps grew until numbers overflowed; or a single batch gave a number that is not finite",
         misses="losses that grow without bound but are still finite (RVN-T03)",
         means="The loss or the weights are no longer finite numbers. The model leaves such a network out.",
         detected="The first loss or weight that is not finite. If the loss had grown before, or went in the first "
                  "tenth of the budget, the learning rate is named; if it had fallen well until then, exploding "
                  "gradients. In a run of several networks it is a warning while fewer than half diverged.",
         remedy="Divide the learning rate by 3 to 10; begin with a warm-up; clip gradients.",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 8.2.4, MIT Press",
                     "Pascanu, Mikolov, Bengio 2013: On the difficulty of training recurrent neural networks, ICML"),
         patch="- optimizer = torch.optim.SGD(model.parameters(), lr=3.0)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.3)\n"
               "  loss.backward()\n"
               "+ nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
               "  optimizer.step()",
         picture="range-test"),
    Rule(code="RVN-T02", title="nothing was learned", cause="labels", severity="warning", find=replayed(not_learned),
         needs="null", confidence="high",
         also=("learning-rate-low", "learning-rate-high", "too-few-steps", "gradient-clipping", "over-regularized",
               "dropout", "dead-units", "vanishing", "saturation", "initialization", "input-scale"),
         because="anything: it is a symptom; the suspects are ranked by how the weights and the loss moved",
         misses="networks that learn by heart and nothing else: their training loss is low",
         means="The loss is no better than that of an answer that is the same for every example.",
         detected=f"Means over the second half: neither training nor validation loss is {NOT_A_GAIN:.1%} below the "
                  f"best constant answer's loss, and for the training loss a gain of {A_GAIN:.0%} is ruled out. A note "
                  "while the run lasts; an error if the loss is half as large again as the constant's.",
         remedy="Look at the suspects in their order: the evidence says how far the weights moved.",
         references=("Karpathy 2019: A recipe for training neural networks (blog)",),
         patch="+ share = torch.bincount(y) / len(y)\n"
               "+ print(\"constant answer:\", -(share * share.log()).sum())\n"
               "+ for a, b in zip(x[:5], y[:5]):  # do they belong together?\n"
               "+     print(a, b)",
         picture="initial-loss"),
    Rule(code="RVN-T03", title="the training loss ends above its start", cause="learning-rate-high",
         severity="warning", find=replayed(rises), needs="trend", confidence="high",
         explains=("RVN-T02", "RVN-T04", "RVN-T14"), also=("over-regularized", "loss", "exploding"),
         because="steps overshoot; or the loss has the wrong sign",
         misses="losses whose constant answer is unknown and that have no validation: a game's losses may well rise",
         means="Training made the loss on its own examples worse: the network answers them worse than before its first "
               "step.",
         detected=f"The mean of the last quarter lies {ABOVE:.0%} above the first value and above the best constant "
                  "answer's loss, beyond its standard error times the critical value of one test at one look.",
         remedy="Divide the learning rate by 3 to 10. If the loss rises evenly from the first step on, look "
                "for a sign.",
         references=("Nocedal, Wright 2006: Numerical Optimization, chapter 3, Springer",),
         patch="- optimizer = torch.optim.SGD(model.parameters(), lr=3.0)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.3)\n"
               "- loss = -criterion(model(x), y)\n"
               "+ loss = criterion(model(x), y)",
         picture="gradient-paths"),
    Rule(code="RVN-T04", title="the loss swings from look to look", cause="learning-rate-high", severity="warning",
         find=replayed(restless), needs="looks", confidence="medium", also=("batch-size", "schedule"),
         because="steps are too long for the curvature or for the noise of the batches",
         misses="swings within a look, and runs with fewer than 12 looks",
         means="Validation loss is measured on the same examples each time, so its swings are the network's own. The "
               "weights at the end are a draw from them.",
         detected=f"In the second half, the number of rises by more than {BIG_JUMP:.0%} (note: {JUMP:.0%}) of all that "
                  f"was gained, against a binomial of {JUMPS:.0%}; rises together with the learning rate do not count. "
                  "A note where the best weights are kept or the learning rate ends low.",
         remedy="Let the learning rate end low; or divide it by 3; or take larger batches.",
         references=("Smith, Kindermans, Ying, Le 2018: Don't decay the learning rate, increase the batch size, "
                     "ICLR",),
         patch="+ scheduler = CosineAnnealingLR(optimizer, T_max=epochs)\n"
               "  for epoch in range(epochs):\n"
               "      train_epoch(model)\n"
               "+     scheduler.step()",
         picture="schedules"),
    Rule(code="RVN-T05", title="validation loss rises while training loss falls", cause="overfitting",
         severity="warning", find=replayed(overfits), needs="looks", confidence="high",
         because="the network learns its training examples by heart",
         misses="validation sets too small to tell", also=("labels",),
         means="From some step on, training made the network worse on examples that it does not learn from; or it "
               "knows the training examples by heart and little of others from the first looks on.",
         detected=f"At the last three looks the validation loss lies over {RISEN:.0%} of all that was gained above its "
                  "lowest, and the difference, paired over examples where they are known, exceeds its standard error "
                  "times the critical value. A note where the best weights are kept, or where the score did not fall: "
                  "then only the confidence of the predictions suffers. Also: "
                  f"training loss under {BY_HEART:.0%} of the best constant's, and on validation under "
                  f"{CARRIED:.0%} better than the constant; a note, unless it is surely worse than the constant.",
         remedy="Stop early; more data or augmentation; dropout or weight decay; a smaller network.",
         references=("Prechelt 1998: Early stopping, but when?, in Neural Networks: Tricks of the Trade, Springer",
                     "Guo, Pleiss, Sun, Weinberger 2017: On calibration of modern neural networks, ICML"),
         patch="  for epoch in range(epochs):\n"
               "      train_epoch(model)\n"
               "+     score = validate(model)  # a loss\n"
               "+     if epoch == 0 or score < best:\n"
               "+         best, kept = score, copy.deepcopy(model.state_dict())\n"
               "+ model.load_state_dict(kept)",
         picture="early-stopping"),
    Rule(code="RVN-T06", title="the loss is still falling at the end", cause="too-few-steps", severity="note",
         find=still_falling, needs="ended", confidence="medium", also=("learning-rate-low",),
         because="the run is too short, or its steps are",
         misses="most runs with fewer than 12 looks; what a lower learning rate at the end would gain",
         means="More steps of the same kind, or longer ones, would have gained much.",
         detected="Theil-Sen slope of log loss over log t in the last third of t, the sum of the rates so far. "
                  "The end of its interval nearer to 0 "
                  f"is continued for as many steps again; a note from {TO_GAIN:.0%} of what was gained, a warning from "
                  f"{MUCH_TO_GAIN:.0%}. Where the loss fell evenly, or the weights hardly moved, the "
                  f"learning rate is named. Of runs under {FEW} steps and 3 epochs: validation loss surely below the "
                  "mean training loss of the steps before it.",
         remedy="Train longer, or with a higher learning rate.",
         references=("Sen 1968: Estimates of the regression coefficient based on Kendall's tau, JASA 63",),
         patch="- epochs = 20\n"
               "+ epochs = 60\n"
               "  for epoch in range(epochs):\n"
               "      train_epoch(model)",
         picture="rates-and-batches"),
    Rule(code="RVN-T07", title="the loss stays far from what can be reached", cause="architecture-too-small",
         severity="warning", find=underfits, needs="reachable", confidence="medium",
         also=("dropout", "over-regularized", "learning-rate-low"),
         because="the network cannot do more, or is kept from it",
         misses="everything where no reachable loss is known",
         means="Training and validation loss are alike and both far above a loss that is known to be possible.",
         detected="Surely above the reachable loss, by a quarter of the fall, and the training loss not much lower.",
         remedy="A larger network; less dropout and decay; a higher learning rate.",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 5.2, MIT Press",),
         patch="- net = nn.Sequential(nn.Linear(8, 2), nn.Dropout(0.8), nn.ReLU())\n"
               "+ net = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.1), nn.ReLU())"),
    Rule(code="RVN-T08", title="layers that hardly move", cause="vanishing", severity="note",
         find=replayed(stuck_layers), needs="layers", confidence="high", explains=("RVN-T02",),
         also=("learning-rate-low", "too-few-steps", "gradient-clipping", "frozen-parameters", "saturation"),
         because="no gradient reaches them, or the steps are far too short",
         misses="layers that move without getting anywhere",
         means="With what remains of the budget, a layer will stay where it began: it is as good as frozen.",
         detected="The sum over all steps of |update| / |weights| of the layer, so far and at the pace of the last "
                  f"quarter, is under {STUCK:.0%} although another layer's is {FASTER:.0f} times as large; or it is "
                  "under it for all. The sum is an upper limit of the distance. Layers that a recipe freezes do not "
                  "count.",
         remedy="Initialize and normalize so that the gradient keeps its size through depth; raise the rate.",
         references=("Glorot, Bengio 2010: Understanding the difficulty of training deep feedforward neural "
                     "networks, AISTATS",),
         patch="- net = nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Linear(32, 3))\n"
               "+ net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))\n"
               "+ nn.init.kaiming_normal_(net[0].weight, nonlinearity=\"relu\")",
         picture="deep-tanh"),
    Rule(code="RVN-T09", title="the schedule ended long before the run", cause="schedule", severity="note",
         find=ended_early, needs="lr", confidence="high", explains=("RVN-T06", "RVN-T10"), also=("learning-rate-low",),
         because="the schedule was given fewer steps than the run has, or was stepped too often",
         misses="schedules that end low but not under one hundredth",
         means="A large part of the run had almost no learning rate, so its steps changed next to nothing.",
         detected=f"Less than {OVER:.0%} of the highest rate for over {WASTED:.0%} of the steps; a warning if by "
                  "RVN-T06's measure the loss was still falling when it came to that.",
         remedy="Give the schedule the run's length.",
         references=("Loshchilov, Hutter 2017: SGDR, ICLR",),
         patch="- scheduler = CosineAnnealingLR(optimizer, T_max=epochs)\n"
               "+ scheduler = CosineAnnealingLR(optimizer, T_max=epochs * len(batches))\n"
               "  for x, y in batches:\n"
               "      train_step(x, y)\n"
               "      scheduler.step()",
         picture="schedules"),
    Rule(code="RVN-T10", title="the second half gained nothing", cause="schedule", severity="note", find=plateau,
         needs="ended", confidence="medium", also=("learning-rate-high", "architecture-too-small"),
         because="the network is as good as it gets, or the learning rate keeps it from getting better",
         misses="runs that ended near a loss of 0, where nothing is left to gain",
         means="Half of the steps changed nothing. It may be all that the data allow.",
         detected=f"Median loss in the middle and at the end differ by less than {FLAT:.0%} of the fall.",
         remedy="Stop earlier, or lower the learning rate where the plateau begins.",
         references=("Prechelt 1998: Early stopping, but when?, in Neural Networks: Tricks of the Trade, Springer",),
         patch="+ scheduler = ReduceLROnPlateau(optimizer, patience=5)\n"
               "  for epoch in range(epochs):\n"
               "      train_epoch(model)\n"
               "+     scheduler.step(validate(model))",
         picture="early-stopping"),
    Rule(code="RVN-T11", title="a technique did nothing", cause="optimizer", severity="note", find=idle,
         needs="effects",
         also=("gradient-clipping", "over-regularized", "schedule", "imbalance", "loss", "too-few-steps"),
         because="its setting is out of the range in which it acts, or nothing called for it",
         misses="techniques that act and do not help",
         means="A technique is enabled, and the run was the same as without it.",
         detected="Its effect is exactly 0.", remedy="Leave it out, or change its setting.",
         patch="  loss.backward()\n"
               "- nn.utils.clip_grad_norm_(model.parameters(), 1e6)\n"
               "  optimizer.step()",
         references=("PyTorch 2.13 documentation: torch.nn.utils.clip_grad_norm_",)),
    Rule(code="RVN-T12", title="a technique did nearly everything", cause="over-regularized", severity="note",
         find=replayed(overdone), needs="loss", confidence="high",
         explains=("RVN-T02", "RVN-T06", "RVN-T07", "RVN-T08"),
         also=("gradient-clipping", "dropout", "learning-rate-low", "learning-rate-high"),
         because="its setting is far out of the usual range",
         misses="techniques that are merely too strong",
         means="Clipping leaves almost nothing of the gradient, dropout of the units, or decay of the weights.",
         detected=f"Cut in over {CUT:.0%} of the steps and to under {LEFT:.0%}; over {DROPPED:.0%} of units dropped; "
                  f"weights under {SHRUNK:.0%} of their first norm while the loss is no better than a constant's. A "
                  "warning if little was learned.",
         remedy="Set it to a usual value, or leave it out.",
         references=("Pascanu, Mikolov, Bengio 2013: On the difficulty of training recurrent neural networks, ICML",
                     "Srivastava et al. 2014: Dropout, JMLR 15"),
         patch="- net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.98))\n"
               "+ net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.3))\n"
               "- optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=1.0)\n"
               "+ optimizer = torch.optim.SGD(net.parameters(), 0.1, weight_decay=1e-4)",
         picture="dropout-expectation"),
    Rule(code="RVN-T13", title="far worse in evaluation mode, on the same examples", cause="normalization",
         severity="warning", find=modes_differ, needs="modes", confidence="high",
         also=("train-eval-mode", "batch-size"),
         because="running statistics are not those of the batches: small batches, momentum, few steps",
         misses="differences under half of the loss in training mode",
         means="What is trained is not what is used: in evaluation mode the network answers differently.",
         detected=f"The loss of the same examples is higher in evaluation mode by half, by {APART:.0%} of the "
                  "constant's loss, and beyond the standard error of the difference.",
         remedy="Larger batches; momentum nearer to 0.1; layer norm; recompute the statistics.",
         references=("Ioffe, Szegedy 2015: Batch normalization, ICML",),
         patch="- norm = nn.BatchNorm1d(32, momentum=0.001)\n"
               "+ norm = nn.BatchNorm1d(32, momentum=0.1)\n"
               "+ # or, where batches are small:\n"
               "+ norm = nn.LayerNorm(32)",
         picture="batch-norm-drift"),
    Rule(code="RVN-T14", title="the best step was at the very beginning", cause="learning-rate-high",
         severity="warning", find=replayed(best_was_early), needs="looks", confidence="medium",
         also=("schedule", "exploding"),
         because="the learning rate, past its warm-up, undoes what was learned",
         misses="runs whose training loss went on falling: that is overfitting (RVN-T05)",
         means="Training and validation loss were lowest in the first tenth of the budget and are surely worse since.",
         detected="As RVN-T05, where the training loss rose as well and the lowest look lies in the first tenth.",
         remedy="Divide the learning rate by 3 to 10, or let it end low.",
         references=("Bengio 2012: Practical recommendations for gradient-based training, in Neural Networks: Tricks "
                     "of the Trade, Springer",),
         patch="- optimizer = torch.optim.SGD(model.parameters(), lr=3.0)\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.3)\n"
               "+ scheduler = CosineAnnealingLR(optimizer, T_max=epochs)",
         picture="schedules"),
)  # fmt: skip

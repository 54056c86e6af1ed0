"""What trying remedies showed: which one explains best why the run fell short, and whether it fell
short at all.

A gain is a share of what there was to gain: (loss without - loss with) / (loss of the best constant
- least loss seen).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from ravine.diagnosis.rule import Observation, Rule, rule
from ravine.finding import Change, Evidence, Trial

SHORT = 0.2  # share of what there was to gain in loss that a run must have missed to be called sick
LACKING = 0.45  # the same for remedies that no fact speaks for
POINTS = 0.05  # and of the score, on a scale from 0 (best constant) to 1, where there is one
CLEAR = 0.3  # of the score: enough by itself, whatever the loss says
NOTHING = 0.03  # of the best constant's loss: who gains less has learned nothing
NEARLY = 0.75  # of the best remedy's gain: as good, if something speaks for it besides
GENERAL = (
    "learning-rate-high",
    "learning-rate-low",
    "too-few-steps",
    "batch-size",
    "initialization",
    "optimizer",
)
RISEN = 0.3  # of the fall of the loss on other examples that is lost again
SURE = 2.5  # standard errors
BEHIND = 0.15  # of the score
GOOD = 0.97  # score of a run from which nothing is left to gain
SEEDS = 5  # on which a remedy must have helped


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one remedy did with each seed: losses and scores on examples that were not learned from.

    `grounds` are facts that speak for it, found without trying; a remedy without any was tried on
    general grounds.
    """

    cause: str
    changes: tuple[Change, ...] = ()
    losses: tuple[float, ...] = ()
    scores: tuple[float | None, ...] = ()
    grounds: tuple[Evidence, ...] = ()
    where: str = ""
    suspects: tuple[str, ...] = ()
    trial: Trial | None = None
    course: tuple[tuple[int, float, float | None], ...] = ()  # step, loss and score at looks

    @property
    def loss(self) -> float:
        return self.losses[0]

    @property
    def score(self) -> float | None:
        return self.scores[0]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A run as it is (`base`) and with remedies; `null` is the loss of the best constant answer,
    NaN if unknown.
    """

    base: Outcome
    outcomes: tuple[Outcome, ...] = ()
    null: float = math.nan
    start: float = math.nan  # the loss before the first step
    steps: int = 0
    highest: float = math.nan  # loss seen in the run
    refused: tuple[tuple[Change, str], ...] = ()  # what was not tried, and why
    known: float | None = (
        None  # what a quick learner that is no network reaches: accuracy or R2, 0 for a constant
    )
    behind: float = BEHIND  # how far the network must stay behind that to be called too small
    informative: bool | None = None  # whether the inputs tell anything about the targets
    reached: float | None = (
        None  # the same score of the run, on examples that it did not learn from
    )
    fitted: float | None = None  # and on those it did
    loss_fitted: float = math.nan  # the loss on examples it learned from, at the end
    whole: tuple[
        tuple[int, float, float | None], ...
    ] = ()  # the whole budget: step, loss and score at looks
    rise: tuple[float, float] | None = (
        None  # mean and standard error, over groups of examples, of the loss's rise
    )

    settled: Outcome | None = None  # a remedy that is judged by something else than loss and score

    @cached_property
    def best(self) -> tuple[int, float]:
        """Step and loss of the look with the least loss."""
        step, loss, _ = min(
            (w for w in self.whole if math.isfinite(w[1])),
            key=lambda w: w[1],
            default=(0, math.nan, None),
        )
        return step, loss

    def has(self, need: str) -> bool | None:
        """ "tried": some remedy was tried."""
        return bool(self.outcomes)

    @cached_property
    def least(self) -> float:
        """The least loss of any run."""
        finite = [o.loss for o in (self.base, *self.outcomes) if math.isfinite(o.loss)]
        return min(finite, default=math.nan)

    @cached_property
    def scored(self) -> bool:
        """Whether the score means something here: the run with the least loss has one above 0."""
        best = min(
            (o for o in (self.base, *self.outcomes) if math.isfinite(o.loss)),
            key=lambda o: o.loss,
            default=None,
        )
        top = max(
            (o.score for o in (self.base, *self.outcomes) if o.score is not None), default=-1.0
        )
        return best is not None and best.score is not None and top > 0 and best.score > 0.3 * top

    def gain(self, outcome: Outcome) -> float:
        """What a remedy gains, as a share of what there was to gain; at most 1, below 0 if it does
        harm.
        """
        before, after = self.base.loss, outcome.loss
        if not math.isfinite(after):
            return -1.0
        top = self.null if math.isfinite(self.null) else self.start
        whole = top - self.least
        if not whole > NOTHING * abs(top):
            return 0.0  # no run does better than a constant answer
        if not math.isfinite(before):
            before = top
        by_loss = (min(before, top) - min(after, top)) / whole
        if not self.scored or self.base.score is None or outcome.score is None:
            return max(-1.0, min(1.0, by_loss))
        by_score = outcome.score - max(self.base.score, 0.0)
        if by_score >= CLEAR:
            return min(1.0, max(by_score, by_loss))
        if by_score < POINTS:
            return max(-1.0, min(by_score, 0.0))
        return max(-1.0, min(1.0, by_loss))

    def since(self, outcome: Outcome) -> int | None:
        """The first look at which the run lags behind the one with the remedy, by half of what it
        misses in the end; None where the run was not looked at on the way.
        """
        if not self.base.course:
            return None
        missed = 0.5 * (self.base.loss - outcome.loss)
        points = 0.5 * ((outcome.score or 0.0) - (self.base.score or 0.0))
        mine = {step: (loss, score) for step, loss, score in self.base.course}
        for step, loss, score in outcome.course:
            if step == 0 or step not in mine:
                continue
            before, mark = mine[step]
            if (
                not math.isfinite(before)
                or (missed > 0 and before - loss >= missed)
                or (points > POINTS / 2 and (score or 0.0) - (mark or 0.0) >= points)
            ):
                return step
        return self.steps

    @cached_property
    def ranked(self) -> tuple[Outcome, ...]:
        """Remedies that make up for what was missed, the likeliest cause first.

        One that facts speak for goes before one that was tried on general grounds, if it gains
        nearly as much.
        """
        gains = [(self.gain(o), o) for o in self.outcomes]
        best = max(
            (g for g, o in gains if g >= (SHORT if o.grounds else LACKING)), default=math.inf
        )
        near = [
            (g, o) for g, o in gains if g >= max(SHORT if o.grounds else LACKING, NEARLY * best)
        ]
        return tuple(
            o
            for _, o in sorted(
                near,
                key=lambda p: (
                    (not p[1].grounds, GENERAL.index(p[1].cause), -p[0])
                    if p[1].cause in GENERAL
                    else (not p[1].grounds, -1, -p[0])
                ),
            )
        )

    @cached_property
    def blamed(self) -> Outcome | None:
        """The first of the ranked remedies that helped on every count; None if the run lacks
        nothing that was tried.
        """
        if (
            self.settled is not None
            and self.settled.trial is not None
            and self.settled.trial.verdict == "helped"
        ):
            return self.settled
        return next(
            (o for o in self.ranked if o.trial is None or o.trial.verdict == "helped"), None
        )


def blamed(tried: Tried, *, cause: str) -> Iterator[Observation]:
    """The cause whose remedy helped, if it is this one."""
    found = tried.blamed
    if found is None or found.cause != cause:
        return
    gain, others = (
        0.5 if found is tried.settled else tried.gain(found),
        [o.cause for o in tried.ranked if o.cause != cause],
    )
    evidence = [
        *found.grounds,
        Evidence("part of the possible gain that was missed", 100 * gain, "%", 100 * SHORT),
    ]
    if found.score is not None and tried.base.score is not None and tried.scored:
        evidence.append(
            Evidence(
                "score without the change",
                tried.base.score,
                "",
                None,
                f"{found.score:.3g} with it, from 0 (best constant answer) to 1",
            )
        )
    sure = found.trial is not None and (bool(found.grounds) or gain > 0.5)
    yield Observation(
        where=found.where,
        since=None if found.grounds and cause != "learning-rate-high" else tried.since(found),
        severity="error" if gain > 0.6 else "warning",
        confidence="high" if sure else "medium",
        evidence=tuple(evidence),
        changes=found.changes,
        trial=found.trial,
        suspects=tuple(dict.fromkeys((*others, *found.suspects)))[:3],
    )


@rule(
    "RVN-X20",
    severity="warning",
    confidence="high",
    cause="overfitting",
    also=("labels", "architecture-too-small"),
    needs="tried",
    picture="early-stopping",
)
def by_heart(tried: Tried) -> Iterator[Observation]:
    """The loss on other examples rose again by a good part of what it fell, while that on its own
    kept falling.
    """
    if tried.rise is None or not tried.whole or not math.isfinite(tried.best[1]):
        return
    step, least = tried.best
    mean, error = tried.rise
    first = min(tried.whole[0][1], tried.null) if math.isfinite(tried.null) else tried.whole[0][1]
    fell = first - least
    if (
        fell <= NOTHING * abs(first)
        or mean < RISEN * fell
        or mean < SURE * error
        or tried.loss_fitted > least
    ):
        return
    scores = [score for at, _, score in tried.whole if score is not None and at >= step]
    if tried.scored and scores and max(scores) - scores[-1] < POINTS / 2:
        return  # it only grows too sure of itself
    yield Observation(
        since=next(
            (at for at, loss, _ in tried.whole if at > step and loss - least > RISEN * fell / 2),
            step,
        ),
        evidence=(
            Evidence(
                "loss on held-out examples over its least",
                mean,
                "",
                RISEN * fell,
                f"least at step {step}",
            ),
            Evidence("standard error of that", error),
            Evidence("loss on training examples", tried.loss_fitted),
        ),
        changes=(Change("steps", step),),
        suspects=("labels", "architecture-too-small")[:1],
    )


@rule(
    "RVN-X21",
    severity="warning",
    confidence="medium",
    cause="labels",
    also=("overfitting",),
    needs="tried",
)
def untold(tried: Tried) -> Iterator[Observation]:
    """What it learns by heart does not hold for other examples, nor can any quick learner tell
    their targets.
    """
    if (
        tried.informative is not False
        or not tried.whole
        or not math.isfinite(tried.null)
        or tried.blamed is not None
    ):
        return
    last = tried.whole[-1][1]
    mean, error = tried.rise if tried.rise is not None else (0.0, math.inf)
    fits = tried.loss_fitted < 0.9 * tried.null
    if fits and last > 1.1 * tried.null and mean > SURE * error:
        yield Observation(
            since=None,
            evidence=(
                Evidence(
                    "loss on held-out examples",
                    last,
                    "",
                    tried.null,
                    "that of the best constant answer",
                ),
                Evidence("loss on training examples", tried.loss_fitted),
                Evidence(
                    "what a quick learner tells of the targets",
                    tried.known or 0.0,
                    "",
                    None,
                    "0 is nothing",
                ),
            ),
            changes=(Change("data", "inputs and targets paired row by row"),),
            suspects=("overfitting",),
        )


@rule(
    "RVN-X22",
    severity="warning",
    confidence="medium",
    cause="architecture-too-small",
    also=("labels", "hidden-activation"),
    needs="tried",
)
def too_small(tried: Tried) -> Iterator[Observation]:
    """The network stays behind a quick learner, on its own training examples too, whatever was
    tried.
    """
    if tried.known is None or tried.reached is None or tried.fitted is None or not tried.scored:
        return
    if any(tried.gain(o) >= SHORT for o in tried.outcomes):
        return  # something else helps
    behind = tried.known - max(tried.reached, tried.fitted)
    if behind < tried.behind or tried.known < 2 * BEHIND:
        return
    yield Observation(
        since=None,
        evidence=(
            Evidence(
                "score of a quick learner on examples it did not see",
                tried.known,
                "",
                None,
                "1 is perfect",
            ),
            Evidence(
                "score of the network on examples it learned from",
                tried.fitted,
                "",
                tried.known - tried.behind,
            ),
            Evidence("on others", tried.reached),
        ),
        changes=(Change("model", "more units, or layers that see more of the input"),),
        suspects=("labels", "hidden-activation"),
    )


TRIAL_METHOD = (
    "The same program is run again with this change, from the same seed, and judged on examples "
    "that it did not learn "
    f"from. It must gain {SHORT:.0%} ({LACKING:.0%} if no other fact speaks for it) of what there "
    f"was to gain (the "
    "loss of the best constant answer less the least loss of any run) and, where there is a score, "
    f"{POINTS:g} of it from 0, a constant answer, to 1; or {CLEAR:g} of the score alone. Then both "
    f"are run with "
    f"{SEEDS} seeds in pairs, and the change must help. Of changes that gain nearly as much, one "
    f"that facts speak for "
    "comes first."
)


def remedy_rule(
    code: str,
    cause: str,
    *,
    explains: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    picture: str = "",
) -> Rule:
    """The rule that blames a cause if its remedy was tried and helped."""
    find = partial(blamed, cause=cause)
    return rule(
        code,
        severity="warning",
        confidence="medium",
        cause=cause,
        needs="tried",
        explains=explains,
        also=also,
        picture=picture,
    )(find)


ALL = (
    remedy_rule("RVN-X01", "learning-rate-high", picture="range-test"),
    remedy_rule("RVN-X02", "learning-rate-low", picture="range-test"),
    remedy_rule("RVN-X03", "too-few-steps", picture="early-stopping"),
    remedy_rule("RVN-X04", "batch-size", picture="rates-and-batches"),
    remedy_rule("RVN-X05", "optimizer", picture="optimizer-race"),
    remedy_rule("RVN-X06", "optimizer-numerics", picture="adam-bias"),
    remedy_rule("RVN-X07", "hidden-activation", picture="activations"),
    remedy_rule("RVN-X08", "output-activation", picture="losses"),
    remedy_rule("RVN-X09", "loss-reduction"),
    remedy_rule("RVN-X10", "initialization", picture="he-multiplier"),
    remedy_rule("RVN-X11", "input-scale", picture="scaling-table"),
    remedy_rule("RVN-X12", "target-scale"),
    remedy_rule("RVN-X13", "dropout", picture="dropout-expectation"),
    remedy_rule("RVN-X14", "over-regularized", picture="mixture-boundaries"),
    remedy_rule("RVN-X15", "normalization", picture="batch-norm-drift"),
    remedy_rule("RVN-X16", "shuffling"),
    remedy_rule("RVN-X17", "imbalance"),
    remedy_rule("RVN-X18", "loss", picture="losses"),
    remedy_rule("RVN-X19", "frozen-parameters", picture="transfer"),
    by_heart,
    untold,
    too_small,
    remedy_rule("RVN-X51", "architecture-too-small", explains=("RVN-C03", "RVN-T02", "RVN-T07")),
    remedy_rule(
        "RVN-X52",
        "schedule",
        explains=("RVN-T02", "RVN-T06", "RVN-T09", "RVN-T10"),
        picture="schedules",
    ),
    remedy_rule(
        "RVN-X53", "gradient-clipping", explains=("RVN-T02", "RVN-T12"), also=("exploding",)
    ),
)

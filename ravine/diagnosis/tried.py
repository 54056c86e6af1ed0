"""What trying remedies showed: which one explains best why the run fell short, and whether it fell short at all.

A gain is a share of what there was to gain: (loss without - loss with) / (loss of the best constant - least loss seen).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

from ravine.diagnosis.rule import Rule, Seen
from ravine.finding import Change, Evidence, Trial

SHORT = 0.3  # share of what there was to gain in loss that a run must have missed to be called sick
POINTS = 0.08  # and of the score, on a scale from 0 (best constant) to 1, where there is one
CLEAR = 0.3  # of the score: enough by itself, whatever the loss says
NOTHING = 0.03  # of the best constant's loss: who gains less has learned nothing
NEARLY = 0.75  # of the best remedy's gain: as good, if something speaks for it besides
GENERAL = ("learning-rate-high", "learning-rate-low", "too-few-steps", "batch-size", "initialization", "optimizer")
RISEN = 0.3  # of the fall of the loss on other examples that is lost again
SURE = 2.5  # standard errors
BEHIND = 0.15  # of the score
SEEDS = 5  # on which a remedy must have helped


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one remedy did with each seed: losses and scores on examples that were not learned from.

    `grounds` are facts that speak for it, found without trying; a remedy without any was tried on general grounds.
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
    """A run as it is (`base`) and with remedies; `null` is the loss of the best constant answer, NaN if unknown."""

    base: Outcome
    outcomes: tuple[Outcome, ...] = ()
    null: float = math.nan
    start: float = math.nan  # the loss before the first step
    steps: int = 0
    highest: float = math.nan  # loss seen in the run
    refused: tuple[tuple[Change, str], ...] = ()  # what was not tried, and why
    known: float | None = None  # what a quick learner that is no network reaches: accuracy or R2, 0 for a constant
    informative: bool | None = None  # whether the inputs tell anything about the targets
    reached: float | None = None  # the same score of the run, on examples that it did not learn from
    fitted: float | None = None  # and on those it did
    loss_fitted: float = math.nan  # the loss on examples it learned from, at the end
    whole: tuple[tuple[int, float, float | None], ...] = ()  # the whole budget: step, loss and score at looks
    rise: tuple[float, float] | None = None  # mean and standard error, over groups of examples, of the loss's rise

    @cached_property
    def best(self) -> tuple[int, float]:
        """Step and loss of the look with the least loss."""
        step, loss, _ = min(
            (w for w in self.whole if math.isfinite(w[1])), key=lambda w: w[1], default=(0, math.nan, None)
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
            (o for o in (self.base, *self.outcomes) if math.isfinite(o.loss)), key=lambda o: o.loss, default=None
        )
        top = max((o.score for o in (self.base, *self.outcomes) if o.score is not None), default=-1.0)
        return best is not None and best.score is not None and top > 0 and best.score > 0.3 * top

    def gain(self, outcome: Outcome) -> float:
        """What a remedy gains, as a share of what there was to gain; at most 1, below 0 if it does harm."""
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
            return min(1.0, by_score)
        if by_score < POINTS:
            return min(by_score, 0.0)
        return max(-1.0, min(1.0, by_loss))

    def since(self, outcome: Outcome) -> int | None:
        """The first look at which the run lags behind the one with the remedy, by half of what it misses in the end."""
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

        One that facts speak for goes before one that was tried on general grounds, if it gains nearly as much.
        """
        gains = [(self.gain(o), o) for o in self.outcomes]
        best = max((g for g, _ in gains), default=0.0)
        if best < SHORT:
            return ()
        near = [(g, o) for g, o in gains if g >= max(SHORT, NEARLY * best)]
        return tuple(o for _, o in sorted(near, key=lambda p: (not p[1].grounds, GENERAL.index(p[1].cause), -p[0])
                                          if p[1].cause in GENERAL else (not p[1].grounds, -1, -p[0])))  # fmt: skip

    @cached_property
    def blamed(self) -> Outcome | None:
        """The first of the ranked remedies that helped on every count; None if the run lacks nothing that was tried."""
        return next((o for o in self.ranked if o.trial is None or o.trial.verdict == "helped"), None)


def blamed(tried: Tried, *, cause: str) -> Iterator[Seen]:
    """The cause whose remedy helped, if it is this one."""
    found = tried.blamed
    if found is None or found.cause != cause:
        return
    gain, others = tried.gain(found), [o.cause for o in tried.ranked if o.cause != cause]
    evidence = [*found.grounds, Evidence("of what there was to gain was missed", 100 * gain, "%", 100 * SHORT)]
    if found.score is not None and tried.base.score is not None and tried.scored:
        evidence.append(Evidence("score without the change", tried.base.score, "", None,
                                 f"{found.score:.3g} with it, from 0 (best constant answer) to 1"))  # fmt: skip
    sure = found.trial is not None and (bool(found.grounds) or gain > 0.5)
    yield Seen(where=found.where, since=None if found.grounds and cause not in GENERAL else tried.since(found),
               severity="error" if gain > 0.6 else "warning", confidence="high" if sure else "medium",
               evidence=tuple(evidence), changes=found.changes,
               suspects=tuple(dict.fromkeys((*others, *found.suspects)))[:3])  # fmt: skip


def by_heart(tried: Tried) -> Iterator[Seen]:
    """The loss on other examples rose again by a good part of what it fell, while that on its own kept falling."""
    if tried.rise is None or not tried.whole or not math.isfinite(tried.best[1]):
        return
    step, least = tried.best
    mean, error = tried.rise
    first = min(tried.whole[0][1], tried.null) if math.isfinite(tried.null) else tried.whole[0][1]
    fell = first - least
    if fell <= NOTHING * abs(first) or mean < RISEN * fell or mean < SURE * error or tried.loss_fitted > least:
        return
    scores = [score for at, _, score in tried.whole if score is not None and at >= step]
    if tried.scored and scores and max(scores) - scores[-1] < POINTS / 2:
        return  # it only grows too sure of itself
    yield Seen(since=next((at for at, loss, _ in tried.whole if at > step and loss - least > RISEN * fell / 2), step),
               evidence=(
        Evidence("loss on held-out examples over its least", mean, "", RISEN * fell, f"least at step {step}"),
        Evidence("standard error of that", error), Evidence("loss on training examples", tried.loss_fitted),
    ), changes=(Change("steps", step),), suspects=("labels", "architecture-too-small")[:1])  # fmt: skip


def untold(tried: Tried) -> Iterator[Seen]:
    """What it learns by heart does not hold for other examples, nor can any quick learner tell their targets."""
    if tried.informative is not False or not tried.whole or not math.isfinite(tried.null) or tried.blamed is not None:
        return
    last = tried.whole[-1][1]
    mean, error = tried.rise if tried.rise is not None else (0.0, math.inf)
    fits = tried.loss_fitted < 0.9 * tried.null
    if fits and last > 1.1 * tried.null and mean > SURE * error:
        yield Seen(since=None, evidence=(
            Evidence("loss on held-out examples", last, "", tried.null, "that of the best constant answer"),
            Evidence("loss on training examples", tried.loss_fitted),
            Evidence("what a quick learner tells of the targets", tried.known or 0.0, "", None, "0 is nothing"),
        ), changes=(Change("data", "inputs and targets paired row by row"),), suspects=("overfitting",))  # fmt: skip


def too_small(tried: Tried) -> Iterator[Seen]:
    """The network stays behind a quick learner, on its own training examples too, whatever was tried."""
    if tried.known is None or tried.reached is None or tried.fitted is None or tried.ranked:
        return
    behind = tried.known - max(tried.reached, tried.fitted)
    if behind < BEHIND or tried.known < 2 * BEHIND:
        return
    yield Seen(since=None, evidence=(
        Evidence("score of a quick learner on examples it did not see", tried.known, "", None, "1 is perfect"),
        Evidence("score of the network on examples it learned from", tried.fitted, "", tried.known - BEHIND),
        Evidence("on others", tried.reached),
    ), changes=(Change("model", "more units, or layers that see more of the input"),),
               suspects=("labels", "hidden-activation"))  # fmt: skip


def _rule(number: int, cause: str, title: str, because: str, misses: str) -> Rule:
    return Rule(code=f"RVN-X{number:02}", title=title, cause=cause, severity="warning", confidence="medium",
                find=partial(blamed, cause=cause), needs="tried", because=because, misses=misses)  # fmt: skip


SMALL = "losses of less than a third of what there was to gain"
ALL = (
    _rule(1, "learning-rate-high", "a lower learning rate learns more",
          "steps overshoot: the loss rises along steep directions, or units are thrown where no gradient reaches", SMALL),
    _rule(2, "learning-rate-low", "a higher learning rate learns more",
          "steps are too short to get anywhere within the budget", SMALL),
    _rule(3, "too-few-steps", "more steps learn more", "training ends while the network still learns", SMALL),
    _rule(4, "batch-size", "smaller batches learn more",
          "large batches leave few steps in the same number of passes", "batches that are too small"),
    _rule(5, "optimizer", "another optimizer learns more",
          "one learning rate fits no direction of this loss: some are steep, others flat", SMALL),
    _rule(6, "optimizer-numerics", "the optimizer's epsilon brakes it",
          "Adam divides by sqrt(v) + eps: where eps is larger than the gradients, steps shrink in proportion to them",
          "optimizers without eps"),
    _rule(7, "hidden-activation", "another activation between the layers learns more",
          "a nonlinearity is missing, or squashes so much that little gradient gets through",
          "activations inside compiled modules"),
    _rule(8, "output-activation", "the output learns more without its activation",
          "the activation cannot reach the targets, or the loss applies one of its own", "compiled modules"),
    _rule(9, "loss-reduction", "the loss is a sum over the batch, and its steps are too long",
          "a sum over N examples has N times the gradient of the mean", "sums that a low learning rate makes up for"),
    _rule(10, "initialization", "a fresh start learns more",
          "weights too large, too small, or equal: signal or gradient is lost on the way through the layers",
          "parameters outside linear, convolutional, recurrent, embedding and normalization modules"),
    _rule(11, "input-scale", "standardized inputs learn more",
          "features of different size make the loss steep along some weights and flat along others",
          "networks that are given whole numbers"),
    _rule(12, "target-scale", "standardized targets learn more",
          "outputs start near 0 and have far to go, and errors of large targets make large gradients",
          "losses that need targets as they are"),
    _rule(13, "dropout", "the network learns more without dropout",
          "so many units are dropped that what is left cannot carry the answer", "dropout by arithmetic of one's own"),
    _rule(14, "over-regularized", "the network learns more without weight decay",
          "decay pulls the weights to 0 faster than the loss pulls them away", "penalties that are a part of the loss"),
    _rule(15, "normalization", "the statistics of batch normalization do not follow the data",
          "a momentum near 0 or 1 keeps the first or only the last batch's mean and variance",
          "normalization written by hand"),
    _rule(16, "shuffling", "the network learns more from shuffled examples",
          "examples come in a fixed order, such as class after class, so that each step unlearns the last",
          "loaders that cannot be built anew"),
    _rule(17, "imbalance", "a rare class is never answered",
          "with few examples of a class, answering another one costs next to nothing",
          "classes with fewer than five held-out examples"),
    _rule(18, "loss", "another loss learns more", "the loss does not ask for what the targets are", "losses for more than one output tensor"),
    _rule(19, "frozen-parameters", "the network learns more when all parameters are trained",
          "parameters that still are as drawn at random are frozen, or in no optimizer", "frozen parameters that were trained"),
    Rule(code="RVN-X20", title="the network learns by heart", cause="overfitting", severity="warning", find=by_heart,
         needs="tried", confidence="high", because="it goes on fitting its examples when nothing more is to be learned",
         misses="loaders without validation examples"),
    Rule(code="RVN-X21", title="the targets have nothing to do with the inputs", cause="labels", severity="warning",
         find=untold, needs="tried", confidence="medium", because="inputs and targets were shuffled apart, or shifted",
         misses="fewer than 100 examples; targets that only a network can tell"),
    Rule(code="RVN-X22", title="the network cannot express what the examples show", cause="architecture-too-small",
         severity="warning", find=too_small, needs="tried", confidence="medium",
         because="too few units, a bottleneck, or a field of view that misses what matters",
         misses="tasks of which quick learners understand less than the network"),
)  # fmt: skip

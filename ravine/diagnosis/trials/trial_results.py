"""What trying remedies showed: the outcome of each, and which of them explains best why the run
fell short, if it fell short at all.

A gain is a share of what there was to gain: (loss without - loss with) / (loss of the best constant
- least loss seen).
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from ravine.finding import Change, Evidence, Trial

MISSED_GAIN = 0.2  # of what there was to gain in loss: a run that missed as much fell short
UNSUPPORTED_GAIN = 0.45  # the same for remedies that no evidence speaks for
SCORE_GAIN = 0.05  # and of the score, from 0 (best constant) to 1, where there is one
CLEAR_SCORE_GAIN = 0.3  # of the score: enough by itself, whatever the loss says
HALVED_ERROR = 0.5  # of 1 - score: a gain of this part is as clear,
LARGE_SCORE_GAIN = 0.15  # if it is at least this much of the score,
SUPPORTED_SCORE_GAIN = 0.1  # or this much where evidence speaks for the remedy
NEGLIGIBLE_GAIN = 0.03  # of the best constant's loss: less is no learning
CONSTANT_MARGIN = 0.01  # of the best constant's loss, by which a run must end below it
SPREAD_EVIDENCE = "largest over smallest spread of the {}"  # inputs or targets
NEAR_BEST = 0.75  # of the best remedy's gain: as good, if evidence speaks for it besides
ENDLESS_FALL = 100.0  # times the first loss, or 1 if that is less, below 0
MEANINGFUL_SCORE = 0.3  # of the highest score, where the loss is least: the score means something
ORDERED_GENERAL_CAUSES = (
    "learning-rate-high",
    "learning-rate-low",
    "too-few-steps",
    "batch-size",
    "initialization",
    "optimizer",
)
OUTPUT_CAUSES = ("output-activation",)  # another output may lower the loss and answer nothing
FAR_BEHIND = 2.0  # times the margin
LEARNER_MARGIN = 0.15  # of the score, by which a network may stay behind a quick learner
NEAR_PERFECT_SCORE = 0.97  # nothing is left to gain
UNDERCONFIDENT_SCORE = 0.9  # or more, though the loss is
UNDERCONFIDENT_LOSS = 0.7  # of the best constant answer's, or more
TRIAL_SEEDS = 5  # on which a remedy must have helped

Evaluations: TypeAlias = tuple[tuple[int, float, float | None], ...]  # step, loss and score


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one remedy did with each seed: losses and scores on examples that were not learned from.
    `evidence` speaks for it and was found without trying; a remedy without any was tried on general
    grounds.
    """

    cause: str
    changes: tuple[Change, ...] = ()
    losses: tuple[float, ...] = ()
    scores: tuple[float | None, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    where: str = ""
    suspects: tuple[str, ...] = ()
    trial: Trial | None = None
    evaluations: Evaluations = ()

    @property
    def loss(self) -> float:
        return self.losses[0]

    @property
    def score(self) -> float | None:
        return self.scores[0]

    @property
    def is_general(self) -> bool:
        """Whether its remedy makes up for many faults, as a lower learning rate does."""
        # probes of the start may have found fault with the initialization
        measured = self.cause == "initialization" and bool(self.evidence)
        return self.cause in ORDERED_GENERAL_CAUSES and not measured

    @property
    def weighs_targets(self) -> bool:
        """Whether its remedy weighs unequal targets alike: the score alone is of one kind."""
        return any(e.name == SPREAD_EVIDENCE.format("targets") for e in self.evidence)


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """What the run shows over its whole budget."""

    evaluations: Evaluations = ()
    # mean and standard error, over groups of examples, of the rise of the loss above its lowest
    rise: tuple[float, float] | None = None
    train_loss: float = math.nan  # at the end, on examples that it learned from
    constant_train_loss: float = math.nan  # of the best constant answer, on training examples


@dataclass(frozen=True, kw_only=True)
class LearnerComparison:
    """The network beside a quick learner: accuracy or R2, 0 for the best constant."""

    score: float | None = None  # of the quick learner, on training examples it did not see
    # of the quick learner, and its standard error
    score_on_validation: tuple[float, float] | None = None
    margin: float = LEARNER_MARGIN  # by which the network must stay behind to be too small
    informative: bool | None = None  # whether the inputs tell anything about the targets
    validation_score: float | None = None  # of the network
    train_score: float | None = None  # of the network, on examples that it learned from
    has_class_outputs: bool = False  # of the network, for targets that are numbers of classes
    memorizes: bool | None = None  # whether the network learns a few examples by heart
    memorized: float | None = None  # the best score on them

    @property
    def lead(self) -> float:
        """How far the quick learner is ahead of the network, on examples that it did not see and on
        those that the network learned from; NaN where a score is missing.
        """
        if self.score is None or self.train_score is None or self.validation_score is None:
            return math.nan
        return self.score - max(self.train_score, self.validation_score)


@dataclass(frozen=True, kw_only=True)
class TrialResults:
    """A run as it is (`base`) and with remedies. `constant_loss` is that of the best constant
    answer and `start_loss` that before the first step, NaN if unknown. `preferred` is a remedy that
    is compared by something else than loss and score, and counts first if it helped.
    """

    base: Outcome
    outcomes: tuple[Outcome, ...] = ()
    constant_loss: float = math.nan
    start_loss: float = math.nan
    steps: int = 0
    refused: tuple[tuple[Change, str], ...] = ()  # what was not tried, and why
    whole_run: WholeRun = field(default_factory=WholeRun)
    learner: LearnerComparison = field(default_factory=LearnerComparison)
    preferred: Outcome | None = None
    wider: Outcome | None = None  # with more units beside the network's own

    def has(self, need: str) -> bool | None:
        """ "trials": some remedy was tried."""
        return bool(self.outcomes)

    @cached_property
    def _comparable(self) -> tuple[Outcome, ...]:
        """The runs whose losses can be compared: all but those with another output activation and
        no better score, as a loss may have no lower bound on outputs that it was not made for.
        Where the run is underconfident, a score at most SCORE_GAIN lower is enough.
        """
        own = self.base.score or 0.0
        least = -SCORE_GAIN if self.is_underconfident else SCORE_GAIN

        def is_comparable(o: Outcome) -> bool:
            return o.cause not in OUTPUT_CAUSES or o.score is None or o.score - own >= least

        return self.base, *filter(is_comparable, self.outcomes)

    @cached_property
    def least_loss(self) -> float:
        """The least loss of any run."""
        losses = (o.loss for o in self._comparable)
        return min((loss for loss in losses if math.isfinite(loss)), default=math.nan)

    @cached_property
    def shortfall(self) -> str:
        """In what the whole run falls short of the least that can be asked, as a clause: it learned
        nothing, or stays far behind a quick learner; empty where it does not.
        """
        if self.ends_above_constant:
            return "the run ends no better than the best constant answer"
        return "the network stays far behind a quick learner" if self.is_behind else ""

    @cached_property
    def falls_without_end(self) -> bool:
        """Whether the loss ends far below 0, with a remedy or without, without a lower bound."""
        losses = [loss for _, loss, _ in self.whole_run.evaluations if math.isfinite(loss)]
        others = (o.loss for o in self.outcomes if o.cause not in OUTPUT_CAUSES)
        ends = [*losses[-1:], *filter(math.isfinite, others)]
        return bool(losses) and min(ends) < -ENDLESS_FALL * max(1.0, abs(losses[0]))

    @property
    def is_behind(self) -> bool:
        """Whether a quick learner is far ahead of the network: by twice as much where no run tells
        whether the score means something, but an output stands for each class.
        """
        learner = self.learner
        factor = 1.0 if self.has_score else FAR_BEHIND if learner.has_class_outputs else math.inf
        return (
            learner.lead >= factor * learner.margin
            and (learner.score or 0.0) - (self.base.score or 0.0) >= learner.margin
            and (learner.score or 0.0) >= 2 * LEARNER_MARGIN
        )

    @cached_property
    def ends_above_constant(self) -> bool:
        """Whether the run ends no better than the best constant answer, and has no good score."""
        run, top, score = self.whole_run, self.constant_loss, self.base.score
        last = run.evaluations[-1][1] if run.evaluations else self.base.loss
        if not math.isfinite(top) or (score is not None and score >= CLEAR_SCORE_GAIN):
            return False
        above = not last < top - CONSTANT_MARGIN * abs(top)
        known = run.constant_train_loss if math.isfinite(run.constant_train_loss) else top
        return above and not run.train_loss < known - NEGLIGIBLE_GAIN * abs(known)

    @property
    def is_near_perfect(self) -> bool:
        """Whether nothing is left to gain, by the score and by the loss."""
        return (self.base.score or 0.0) >= NEAR_PERFECT_SCORE and not self.is_underconfident

    @property
    def is_underconfident(self) -> bool:
        """Whether the answers are in the right order though the loss has hardly fallen, as where a
        rate is low and both of two classes still have a probability of about 1/2.
        """
        high = (self.base.score or 0.0) >= UNDERCONFIDENT_SCORE
        return high and self.base.loss > UNDERCONFIDENT_LOSS * self.constant_loss > 0

    @cached_property
    def has_score(self) -> bool:
        """Whether the score means something here: the run with the least loss has one above 0, or
        the run as it is has learned something by its loss and by its score. Never where the run is
        underconfident: its score hides what the loss still lacks.
        """
        if self.is_underconfident:
            return False
        runs = self._comparable
        own = self.base.score or 0.0
        learned = self.constant_loss - self.base.loss > MISSED_GAIN * abs(self.constant_loss)
        if own >= CLEAR_SCORE_GAIN and learned:
            return True
        if any(o.weighs_targets and (o.score or 0.0) >= CLEAR_SCORE_GAIN for o in self.outcomes):
            return True
        finite = (o for o in runs if math.isfinite(o.loss))
        best = min(finite, key=lambda o: o.loss, default=None)
        top = max((o.score for o in runs if o.score is not None), default=-1.0)
        if best is None or best.score is None:
            return False
        return top > 0 and best.score > MEANINGFUL_SCORE * top

    @cached_property
    def own(self) -> tuple[float, float]:
        """The loss and the score that the run as it is reaches: where trials end or, if it goes on
        and is better there, at its own end; no remedy is needed for what more steps of it reach.
        """
        ends = [(self.base.loss, self.base.score)]
        ends += [(loss, score) for _, loss, score in self.whole_run.evaluations[-1:]]
        losses = [loss for loss, _ in ends if math.isfinite(loss)]
        scores = [score for _, score in ends if score is not None]
        return min(losses, default=math.nan), max(scores, default=0.0)

    def gain_of(self, outcome: Outcome) -> float:
        """A remedy's share of what there was to gain: at most 1, below 0 if it does harm."""
        (before, own_score), after = self.own, outcome.loss
        if not math.isfinite(after):
            return -1.0
        # a constant that was fitted to training examples may do worse than the untrained network
        known = [loss for loss in (self.constant_loss, self.start_loss) if math.isfinite(loss)]
        top = min(known, default=math.nan)
        whole = top - self.least_loss
        if not whole > NEGLIGIBLE_GAIN * abs(top):
            return 0.0  # no run does better than a constant answer
        if not math.isfinite(before):
            before = top
        without_measure = not math.isfinite(self.constant_loss) and outcome.score is None
        if self.falls_without_end or (without_measure and self.least_loss < 0):
            return 0.0  # a loss below 0 has no known lower bound
        by_loss = (min(before, top) - min(after, top)) / whole
        if outcome.cause in OUTPUT_CAUSES and outcome.score is not None:
            gained = outcome.score - own_score
            by_loss = by_loss if any(outcome is o for o in self._comparable) else min(gained, 0.0)
        if not self.has_score or self.base.score is None or outcome.score is None:
            return max(-1.0, min(1.0, by_loss))
        own_score = max(own_score, 0.0)
        by_score = outcome.score - own_score
        if outcome.weighs_targets:
            gained = by_score / (1.0 - own_score) if by_score >= SCORE_GAIN else min(by_score, 0.0)
            return max(-1.0, gained)
        halved = HALVED_ERROR * (1.0 - own_score)
        if outcome.evidence and by_score >= max(halved, SUPPORTED_SCORE_GAIN):
            return min(1.0, max(by_score / (1.0 - own_score), by_loss))
        if by_score >= min(CLEAR_SCORE_GAIN, max(halved, LARGE_SCORE_GAIN)):
            return min(1.0, max(by_score, by_loss))
        if by_score < SCORE_GAIN:
            return max(-1.0, min(by_score, 0.0))
        return max(-1.0, min(1.0, by_loss))

    def is_proved(self, outcome: Outcome) -> bool:
        """Whether a remedy that evidence speaks for helped with all seeds, with an interval above
        SUPPORTED_SCORE_GAIN, and does as well as all that was tried and as a quick learner.
        """
        trial = outcome.trial
        if trial is None or trial.verdict != "helped" or trial.interval is None:
            return False
        scores = [o.score or 0.0 for o in self.outcomes] + [self.learner.score or 0.0]
        gains = self.has_score and -trial.interval[1] >= SUPPORTED_SCORE_GAIN
        best = (outcome.score or 0.0) >= max(scores) - SCORE_GAIN
        return bool(outcome.evidence) and gains and best

    def required_gain(self, outcome: Outcome) -> float:
        """What a remedy must gain to explain anything: less where evidence speaks for it, and where
        it does as well as a quick learner that is far ahead of the run as it is.
        """
        score, own = outcome.score or 0.0, self.base.score or 0.0
        catches_up = self.is_behind and score >= (self.learner.score or math.inf) - SCORE_GAIN
        supported = bool(outcome.evidence) or (catches_up and score - own >= CLEAR_SCORE_GAIN)
        return MISSED_GAIN if supported else UNSUPPORTED_GAIN

    @cached_property
    def ranking(self) -> tuple[Outcome, ...]:
        """Remedies that make up for what was missed, the likeliest cause first. One that evidence
        speaks for goes before one that was tried on general grounds, if it gains nearly as much;
        then one change before several; of equal gains, as two remedies have that are made together
        alone, that whose evidence is farthest beyond its limit.
        """
        gains = [(self.gain_of(outcome), outcome) for outcome in self.outcomes]
        enough = [(gain, o) for gain, o in gains if gain >= self.required_gain(o)]
        best = max((gain for gain, _ in enough), default=math.inf)

        def rank(pair: tuple[float, Outcome]) -> tuple[bool, int, int, float, float]:
            gain, outcome = pair
            place = ORDERED_GENERAL_CAUSES.index(outcome.cause) if outcome.is_general else -1
            excess = max(map(_excess, outcome.evidence), default=0.0)
            return not outcome.evidence, place, len(outcome.changes), -gain, -excess

        # a much higher rate helps unequal targets, too, but only the large ones are learned then:
        # where their own remedy helps it is no low rate
        unequal = [o for _, o in enough if o.weighs_targets]
        near = [(g, o) for g, o in enough if g >= NEAR_BEST * best or o in unequal]
        return tuple(outcome for _, outcome in sorted(near, key=rank))

    @cached_property
    def best_explanation(self) -> Outcome | None:
        """The first ranked remedy that helped with all seeds or is not confirmed yet, if any."""
        preferred = self.preferred
        if preferred is not None and preferred.trial and preferred.trial.verdict == "helped":
            return preferred
        good = (o for o in self.ranking if o.trial is None or o.trial.verdict == "helped")
        return next(good, None)

    @property
    def is_partly_explained(self) -> bool:
        """Whether the best explanation has no evidence beside its trial and leaves the run far
        behind a quick learner, as more steps do where the loss is wrong.
        """
        best, learner = self.best_explanation, self.learner
        if best is None or best.evidence or best.score is None or learner.score is None:
            return False
        return self.has_score and learner.score - best.score >= learner.margin


def _excess(evidence: Evidence) -> float:
    """How far a number lies beyond its limit, as the logarithm of their ratio; 0 without one."""
    value, limit = evidence.value, evidence.limit
    return 0.0 if not value or not limit or value * limit <= 0 else abs(math.log(value / limit))


def find_lag(results: TrialResults, outcome: Outcome) -> int | None:
    """The first evaluation at which the run lags behind the one with a remedy, by half of what it
    misses in the end; None where the run was not evaluated on the way.
    """
    base = results.base
    if not base.evaluations:
        return None
    missed = 0.5 * (base.loss - outcome.loss)
    points = 0.5 * ((outcome.score or 0.0) - (base.score or 0.0))
    without = {step: (loss, score) for step, loss, score in base.evaluations}
    for step, loss, score in outcome.evaluations:
        if step == 0 or step not in without:
            continue
        before, score_before = without[step]
        lags_in_loss = missed > 0 and before - loss >= missed
        lags_in_score = (score or 0.0) - (score_before or 0.0) >= points > SCORE_GAIN / 2
        if not math.isfinite(before) or lags_in_loss or lags_in_score:
            return step
    return results.steps

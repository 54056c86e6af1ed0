"""Faults of a recipe that show before its first step: measurements, and the rules on them.

What measures trains networks and stands in `ravine.examination.preflight_checks`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from ravine.diagnosis.rule import Observation, observe, rule, symptom
from ravine.diagnosis.training_curves.failure_causes import CONSTANT_LIMIT_TEXT
from ravine.finding import Change, Evidence

PENALTY_DIFFERENCE = 1e-9  # of a penalty from its formula, relative, in float64
GRADIENT_DIFFERENCE = 1e-4  # of a gradient from finite differences, relative, in float64
ESTIMATED_ERROR = 1e-5  # of the finite differences with which it is compared, relative
LEARNED_LOSS = 0.02  # of the loss of the best constant answer: about zero
NEARLY_LEARNED_LOSS = 0.1  # of the same: enough where another network learned all
HALF_LEARNED_LOSS = 0.5  # of the same: learned at least in part
LEARNED_GAIN = 0.1  # of the constant's loss: a network that gains less has learned nothing
CLEAR_FIRST_GAIN = 0.15  # of the same: by so much a change must gain more then
SOLVED_GAIN = 0.9  # of the same: a whole run that gains more has little left to gain
LEFT_GAIN = 0.1  # of the same: by so much a change must gain more than a whole run
LEFT_LOSS = 0.7  # of the loss of a whole run, at most, with the change
NEAR_BEST_GAIN = 0.9  # of the largest gain of any change
NEAR_RATE_FACTOR = 10.0  # times the learning rate, or a tenth: not far from it

Measured = TypeVar("Measured")


@dataclass(frozen=True, kw_only=True)
class PenaltyEffect:
    """What penalties add to the first loss, and whether it is what their formulas say."""

    added: tuple[float, ...]  # by each penalty, averaged over networks
    rises: bool  # with the strength, of every penalty
    difference: float | None  # largest relative difference from the formula; None: none is known


@dataclass(frozen=True, kw_only=True)
class OverfitAttempt:
    """How networks trained on a small batch at one learning rate."""

    lr: float
    factor: float  # over the recipe's own
    steps: float  # until the loss of every network was about zero; ∞: it was not
    least_losses: tuple[float, ...]  # of each network; ∞: none was finite


@dataclass(frozen=True, kw_only=True)
class SmallBatchFit:
    """Attempts to overfit a small batch, that at the recipe's own learning rate first."""

    examples: int
    constant_loss: float  # of the best constant answer
    max_steps: int
    lr_path: str
    attempts: tuple[OverfitAttempt, ...]
    baseline: str = "the best constant answer"  # whose loss `constant_loss` is
    least_loss: float = 0.0  # of right answers; may be below 0, as of a reward
    by_adam: OverfitAttempt | None = None  # with Adam at 0.001, where none of these learns

    def loss_at(self, share: float) -> float:
        """The loss at which so much is left: 0 of right answers, 1 of the best constant one."""
        return self.least_loss + share * (self.constant_loss - self.least_loss)


@dataclass(frozen=True, kw_only=True)
class GradientError:
    """How far the gradient that training uses is from finite differences, over its length; None
    where no finite differences were exact enough.
    """

    difference: float | None
    networks: int
    examples: int


@dataclass(frozen=True, kw_only=True)
class ChangedRun:
    """The losses at the end of a short run of each network, with changes against one cause."""

    cause: str
    changes: tuple[Change, ...]
    steps: int
    losses: tuple[float, ...]  # ∞ where it diverged


@dataclass(frozen=True, kw_only=True)
class FirstSteps:
    """The first steps of a recipe, and the same with changes; losses on validation examples."""

    steps: int
    planned: int  # steps of the recipe
    useful: int  # of these, up to the last with 1 % of the highest learning rate
    constant_loss: float  # of the best constant answer
    losses: tuple[float, ...]  # of each network
    train_loss: float = math.inf  # the least of any network
    least_loss: float = 0.0  # of right answers: above 0 with label smoothing
    changed: tuple[ChangedRun, ...] = ()  # what is likeliest to be at fault first

    def gain(self, loss: float) -> float:
        """What a loss gains over that of the best constant answer, as a share of what there is."""
        return (self.constant_loss - loss) / (self.constant_loss - self.least_loss)

    @property
    def is_whole(self) -> bool:
        """Whether these are all steps that the recipe makes at a rate that does anything."""
        return self.steps >= self.useful

    @property
    def needs_changes(self) -> bool:
        """Whether so little was learned that changes are to be tried."""
        return self.is_stuck or (self.is_whole and self.best_gain < SOLVED_GAIN)

    @property
    def is_stuck(self) -> bool:
        """Whether no network has learned anything, not even of the training examples."""
        return max(self.best_gain, self.gain(self.train_loss)) < LEARNED_GAIN

    @property
    def best_gain(self) -> float:
        """The gain of the better network."""
        return self.gain(min(self.losses))

    def is_clear(self, run: ChangedRun) -> bool:
        """Whether every network gains clearly more with a change than any without it."""
        worst = max(run.losses)
        more = self.gain(worst) - max(0.0, self.best_gain)
        if self.is_stuck:
            return more >= CLEAR_FIRST_GAIN
        return more >= LEFT_GAIN and worst <= LEFT_LOSS * min(self.losses)


@dataclass(frozen=True, kw_only=True)
class RecipeProfile:
    """What was measured of a recipe: None where it does not apply, an exception where it broke."""

    penalty: PenaltyEffect | Exception | None = None
    gradient: GradientError | Exception | None = None
    small_batch: SmallBatchFit | Exception | None = None
    first_steps: FirstSteps | Exception | None = None

    def has(self, need: str) -> bool | None:
        """Whether a field was measured, or broke; None where it does not apply."""
        value = getattr(self, need)
        if isinstance(value, GradientError):
            return value.difference is not None
        return None if value is None else True


def require_measured(result: Measured | Exception | None) -> Measured:
    """What was measured. Raises what broke the measurement."""
    if isinstance(result, Exception):
        raise result
    assert result is not None  # a rule that needs it does not run
    return result


@rule("RVN-C02", "warning", "loss", needs="penalty")
def ineffective_penalty(profile: RecipeProfile) -> Iterator[Observation]:
    effect = require_measured(profile.penalty)
    if not effect.rises:
        name = "added by the penalties at 1 to 100 times their strength"
        evidence = Evidence(name, effect.added[-1], limit=0.0, text="nothing more at a higher one")
        yield observe(evidence, where="penalties")
    elif effect.difference is not None and effect.difference > PENALTY_DIFFERENCE:
        name, title = "difference from the formula", "a penalty is not what its formula says"
        evidence = Evidence(name, effect.difference, "relative", limit=PENALTY_DIFFERENCE)
        yield observe(evidence, where="penalties", title=title, severity="error")


@symptom(
    "RVN-C03",
    "warning",
    "architecture-too-small",
    confidence="high",
    needs="small_batch",
    also="learning-rate-high, learning-rate-low, hidden-activation, "
    "initialization, optimizer, too-few-steps",
)
def small_batch_not_overfit(profile: RecipeProfile) -> Iterator[Observation]:
    fit = require_measured(profile.small_batch)
    own = fit.attempts[0]
    nearly = max(own.least_losses) < fit.loss_at(NEARLY_LEARNED_LOSS)
    one_did = min(own.least_losses) < fit.loss_at(LEARNED_LOSS)
    if math.isfinite(own.steps) or (one_did and nearly):
        return
    best = min(fit.attempts, key=lambda a: (a.steps, abs(math.log(a.factor))))
    if math.isfinite(best.steps):
        short = f"at {own.lr:g}, {fit.max_steps} steps are not enough"
        text = f"at a learning rate of {best.lr:g}; {short}"
        steps = Evidence("steps to overfit the small batch", best.steps, text=text)
        change, title = Change(fit.lr_path, best.lr), "a small batch can be overfit only at"
        title = f"{title} {best.factor:g} times the learning rate"
        cause = "learning-rate-low" if best.factor > 1 else "learning-rate-high"
        seen = observe(steps, change, where=fit.lr_path, title=title, cause=cause)
        severity = "warning" if _is_far(best) else "note"
        yield replace(seen, severity=severity, suspects=("too-few-steps",))
        return
    nearest = min(fit.attempts, key=lambda a: min(a.least_losses))
    least, worst = min(nearest.least_losses), max(nearest.least_losses)
    several = f"the worst of {len(nearest.least_losses)} networks; the best has {least:.3g}"
    networks = several if len(nearest.least_losses) > 1 else f"within {fit.max_steps} steps"
    constant = f"{fit.baseline} to the {fit.examples} examples {fit.constant_loss:.3g}"
    text = f"at a learning rate of {nearest.lr:g}, {networks}, {constant}"
    evidence = Evidence("least loss", worst, limit=fit.loss_at(LEARNED_LOSS), text=text)
    cause = "learning-rate-low" if nearest.factor > 1 else "learning-rate-high"
    if fit.by_adam is not None and math.isfinite(fit.by_adam.steps):
        rates = sorted(attempt.lr for attempt in fit.attempts)
        text = f"at rates from {rates[0]:g} to {rates[-1]:g} the given optimizer does not"
        name = f"steps to overfit it with Adam at {fit.by_adam.lr:g}"
        yield observe(
            Evidence(name, fit.by_adam.steps, text=text),
            evidence,
            Change("optimizer", "adam"),
            where="optimizer",
            title="a small batch can be overfit, but not with this optimizer",
            cause=cause if nearest.factor != 1 else "optimizer",
            suspects=("optimizer",) if nearest.factor != 1 else ("learning-rate-high",),
        )
        return
    half = fit.loss_at(HALF_LEARNED_LOSS)
    if _is_far(nearest) and least < half < min(own.least_losses):
        where, change = fit.lr_path, Change(fit.lr_path, nearest.lr)
        title = f"a small batch is learned only in part, at {nearest.factor:g} times the rate"
        suspects = ("architecture-too-small",)
        yield observe(evidence, change, where=where, title=title, cause=cause, suspects=suspects)
    else:
        yield observe(evidence, where="network", suspects=("hidden-activation", "initialization"))


def _is_far(attempt: OverfitAttempt) -> bool:
    return not 1 / NEAR_RATE_FACTOR <= attempt.factor <= NEAR_RATE_FACTOR


@rule("RVN-C04", "error", "loss", needs="gradient", also="precision")
def wrong_gradient(profile: RecipeProfile) -> Iterator[Observation]:
    error = require_measured(profile.gradient)
    if error.difference is not None and error.difference > GRADIENT_DIFFERENCE:
        evidence = Evidence(
            "gradient's difference from finite differences",
            error.difference,
            "of its length",
            limit=GRADIENT_DIFFERENCE,
            text=f"in float64, {error.networks} networks, {error.examples} examples; the estimated "
            f"error of the differences is below {ESTIMATED_ERROR:g}",
        )
        yield observe(evidence, suspects=("precision",))


FIRST_STEP_TITLES = {  # by the cause of which the change was tried
    "learning-rate-high": "the first steps are too long: {steps} of them learn nothing",
    "over-regularized": "regularization outweighs the loss: {steps} steps learn nothing",
    "dropout": "dropout leaves too little: {steps} steps learn nothing",
    "schedule": "the learning rate is down to 1 % after {steps} of {planned} steps",
    "too-few-steps": "the recipe ends after {planned} steps, with most left to learn",
    "learning-rate-low": "at this learning rate {steps} steps are too few",
}


@rule(
    "RVN-C16",
    "warning",
    "too-few-steps",
    confidence="high",
    needs="first_steps",
    also=", ".join(cause for cause in FIRST_STEP_TITLES if cause != "too-few-steps"),
    explains="RVN-T02, RVN-T03, RVN-T06, RVN-T09, RVN-T14",
)
def wasted_first_steps(profile: RecipeProfile) -> Iterator[Observation]:
    first = require_measured(profile.first_steps)
    better = [run for run in first.changed if first.is_clear(run)]
    if not first.needs_changes or not better:
        return
    gains = [first.gain(max(run.losses)) for run in better]
    pairs = zip(gains, better, strict=True)
    best = next(run for gain, run in pairs if gain >= NEAR_BEST_GAIN * max(gains))
    name = "loss on validation examples after {:,} steps"
    text, limit = CONSTANT_LIMIT_TEXT, first.constant_loss
    without = Evidence(name.format(first.steps), min(first.losses), limit=limit, text=text)
    after = Evidence(f"{name.format(best.steps)}, with the change", max(best.losses))
    yield observe(
        without,
        after,
        *best.changes,
        where=best.changes[0].path,
        title=FIRST_STEP_TITLES[best.cause].format(steps=first.steps, planned=first.planned),
        cause=best.cause,
        suspects=tuple(dict.fromkeys(run.cause for run in better if run.cause != best.cause)),
    )

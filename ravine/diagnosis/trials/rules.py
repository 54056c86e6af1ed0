"""The rules that read what trying remedies showed."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ravine.diagnosis.rule import Observation, Rule, observe, rule, symptom
from ravine.diagnosis.trials.trial_results import (
    CLEAR_SCORE_GAIN,
    ENDLESS_FALL,
    LARGE_SCORE_GAIN,
    MISSED_GAIN,
    NEGLIGIBLE_GAIN,
    SCORE_GAIN,
    TRIAL_SEEDS,
    UNSUPPORTED_GAIN,
    Outcome,
    TrialResults,
    find_lag,
)
from ravine.finding import Change, Evidence

ERROR_GAIN = 0.6  # of what there was to gain: an error
SURE_GAIN = 0.5  # of what there was to gain: as sure as evidence
PREFERRED_GAIN = 0.5  # of a preferred remedy, whose loss says nothing
STILL_FALLING = 0.05  # of the loss's whole fall, over the last two evaluations
SUSPECTED_GAIN = 0.1  # of what there was to gain: a cause whose change gains less is no suspect
RISEN_FRACTION = 0.3  # of the fall of the loss on other examples, that is lost again
SURE_RISE = 2.5  # standard errors
FITTED_LOSS = 0.9  # of the best constant's loss: the training examples are fitted
TRANSFER_FRACTION = 0.5  # of a score on training examples: less of it on validation is a loss
MIN_SCORE_GAP = 0.3  # between two scores, from 0 (best constant) to 1
MIN_GAP_ERRORS = 3.0  # standard errors of the score on validation examples
WORSE_LOSS = 1.1  # of the best constant's loss: other examples are answered worse
SCALED_CAUSES = {"input.scale": "input-scale", "target.scale": "target-scale"}
FIRST_ADVICE = {  # what to look at first where no change helped; of other causes the page says it
    "loss": "Check the loss: its sign, the order of its arguments, and what outputs it expects.",
    "learning-rate-high": "Lower the learning rate ten times, then once more.",
    "too-few-steps": "Train longer, and plot the loss: does it still fall at the end?",
    "input-scale": "Standardize the inputs, with the mean and spread of the training examples.",
    "target-scale": "Standardize the targets, and scale the outputs back where they are used.",
    "initialization": "Use the initialization that torch gives the layers.",
    "over-regularized": "Train without weight decay until it fits the training examples.",
    "dropout": "Train without dropout until it fits the training examples.",
    "output-activation": "Take the activation off the output, with a loss that takes logits.",
    "hidden-activation": "Use ReLU between the layers.",
}
TRIAL_METHOD = (
    "The same program is run again with this change, from the same seed, and evaluated on examples "
    f"that it was not trained on. It must gain {MISSED_GAIN:.0%} ({UNSUPPORTED_GAIN:.0%} without "
    f"other evidence, unless it gains {CLEAR_SCORE_GAIN:g} of the score and comes within "
    f"{SCORE_GAIN:g} of a quick learner that is far ahead) of the possible gain, which is the loss "
    "of the best constant answer less "
    f"the least loss of any run, and, where there is a score, {SCORE_GAIN:g} of it on a scale from "
    f"0, a constant answer, to 1; or {CLEAR_SCORE_GAIN:g} of the score alone, or "
    f"{LARGE_SCORE_GAIN:g} if that is half of what it lacks. Then both are run with {TRIAL_SEEDS} "
    "seeds, in pairs, and the change must help. Of changes that gain nearly as much, one with "
    "evidence comes first."
)


def explain_by_cause(results: TrialResults, *, cause: str) -> Iterator[Observation]:
    """The cause whose remedy explains the run best, if it is this one."""
    found = results.best_explanation
    if found is None or found.cause != cause:
        return
    gain = PREFERRED_GAIN if found is results.preferred else results.gain_of(found)
    others = [outcome.cause for outcome in results.ranking if outcome.cause != cause]
    evidence = [*found.evidence]
    if found is not results.preferred:
        name, limit = "part of the possible gain that was missed", 100 * MISSED_GAIN
        evidence.append(Evidence(name, 100 * gain, "%", limit=limit))
    if found.score is not None and results.base.score is not None and results.has_score:
        name = "score without the change, in the first runs"
        scale = "1 is perfect, 0 the best constant answer, less is worse"
        text = f"{found.score:.3g} with it; {scale}"
        evidence.append(Evidence(name, results.base.score, text=text))
    sure = found.trial is not None and (bool(found.evidence) or gain > SURE_GAIN)
    from_the_start = bool(found.evidence) and cause != "learning-rate-high"
    yield observe(
        *evidence,
        *found.changes,
        where=found.where,
        since=None if from_the_start else find_lag(results, found),
        severity="error" if gain > ERROR_GAIN else "warning",
        confidence="high" if sure else "medium",
        trial=found.trial,
        suspects=tuple(dict.fromkeys((*others, *found.suspects)))[:3],
    )


@rule(
    "RVN-X20",
    "warning",
    "overfitting",
    confidence="high",
    needs="trials",
    also="labels, architecture-too-small",
)
def rising_held_out_loss(results: TrialResults) -> Iterator[Observation]:
    run = results.whole_run
    known = [(step, loss) for step, loss, _ in run.evaluations if math.isfinite(loss)]
    if run.rise is None or not known:
        return
    step, least = min(known, key=lambda pair: pair[1])
    mean, error = run.rise
    first = run.evaluations[0][1]
    first = min(first, results.constant_loss) if math.isfinite(results.constant_loss) else first
    fell = first - least
    limit = RISEN_FRACTION * fell
    if fell <= NEGLIGIBLE_GAIN * abs(first) or run.train_loss > least:
        return
    if mean < max(limit, SURE_RISE * error):
        return
    scores = [score for at, _, score in run.evaluations if score is not None and at >= step]
    if results.has_score and scores and max(scores) - scores[-1] < SCORE_GAIN / 2:
        return  # it only grows too sure of itself
    risen = (at for at, loss, _ in run.evaluations if at > step and loss - least > limit / 2)
    name = "loss on held-out examples over its least"
    rise = Evidence(name, mean, limit=limit, text=f"least at step {step}")
    spread = Evidence("standard error of that", error)
    own = Evidence("loss on training examples", run.train_loss)
    since = next(risen, step)
    yield observe(rise, spread, own, Change("steps", step), since=since, suspects=("labels",))


@rule("RVN-X21", "warning", "labels", confidence="medium", needs="trials", also="overfitting")
def unlearnable_labels(results: TrialResults) -> Iterator[Observation]:
    run, learner, constant_loss = results.whole_run, results.learner, results.constant_loss
    if learner.informative is not False or not run.evaluations or not math.isfinite(constant_loss):
        return
    if results.best_explanation is not None:
        return
    last = run.evaluations[-1][1]
    mean, error = run.rise if run.rise is not None else (0.0, math.inf)
    fits = run.train_loss < FITTED_LOSS * constant_loss
    if fits and last > WORSE_LOSS * constant_loss and mean > SURE_RISE * error:
        constant = "that of the best constant answer"
        name, score = "what a quick learner tells of the targets", learner.score or 0.0
        held_out = Evidence("loss on held-out examples", last, limit=constant_loss, text=constant)
        train_loss = Evidence("loss on training examples", run.train_loss)
        learned = Evidence(name, score, text="0 is nothing")
        change = Change("data", "inputs and targets paired row by row")
        yield observe(held_out, train_loss, learned, change, suspects=("overfitting",))


@rule(
    "RVN-X22",
    "warning",
    "architecture-too-small",
    confidence="high",
    needs="trials",
    also="labels, hidden-activation",
    explains="RVN-T02, RVN-T07",
)
def small_network(results: TrialResults) -> Iterator[Observation]:
    learner, wider = results.learner, results.wider
    best = results.best_explanation
    if learner.memorizes is not False or wider is None:
        return
    if best is not None and not (results.is_partly_explained and _is_far_better(wider, best)):
        return
    gain = replace(results, outcomes=(wider,)).gain_of(wider)
    constant_loss = results.constant_loss
    learned = constant_loss - results.base.loss > NEGLIGIBLE_GAIN * abs(constant_loss)
    if (results.base.score or 0.0) < SCORE_GAIN and not learned:
        return  # a small network learns a little, too: this one learns something else
    if wider.trial is None or wider.trial.verdict != "helped" or gain < MISSED_GAIN:
        return
    name = "of the score, learned of 32 examples by heart"
    by_heart = Evidence(name, learner.memorized, text="at its rate, a tenth and ten times of it")
    change = Change("model", "more units, or layers that see more of the input")
    gained = Evidence("part of the possible gain, with more units", 100 * gain, "%")
    suspects = ("labels", "hidden-activation")
    yield observe(by_heart, gained, change, trial=wider.trial, suspects=suspects, since=0)


def _is_far_better(one: Outcome, other: Outcome) -> bool:
    """Whether the score is higher by far."""
    if one.score is None or other.score is None:
        return False
    return one.score - other.score >= CLEAR_SCORE_GAIN / 2


@rule(
    "RVN-X23",
    "warning",
    "split",
    confidence="high",
    needs="trials",
    also="augmentation, input-scale, labels",
)
def validation_differs_from_training(results: TrialResults) -> Iterator[Observation]:
    learner = results.learner
    if learner.score is None or learner.score_on_validation is None or not _is_memorized(results):
        return
    score, error = learner.score_on_validation
    gap = learner.score - score
    if score > TRANSFER_FRACTION * learner.score or gap < MIN_GAP_ERRORS * error:
        return
    name = "score of a quick learner on training examples it did not see"
    reached, spread = Evidence(name, learner.score), f"standard error {error:.2g}"
    kept = Evidence("its score on the validation examples", score, text=spread)
    change = Change("data", "the same preprocessing for both parts, and a random split")
    suspects = ("augmentation", "input-scale")
    yield observe(reached, kept, *_own_scores(results), change, suspects=suspects)


@rule("RVN-X24", "warning", "overfitting", confidence="medium", needs="trials", also="loss, labels")
def memorized_training_examples(results: TrialResults) -> Iterator[Observation]:
    learner = results.learner
    if learner.score_on_validation is None or not _is_memorized(results):
        return
    score, error = learner.score_on_validation
    gap = score - (learner.validation_score or 0.0)
    if min(gap, score) < MIN_SCORE_GAP or gap < MIN_GAP_ERRORS * error:
        return
    spread = f"standard error {error:.2g}"
    reached = Evidence("score of a quick learner on the validation examples", score, text=spread)
    yield observe(reached, *_own_scores(results), suspects=("loss", "labels"))


def _is_memorized(results: TrialResults) -> bool:
    """Whether training examples score well, validation examples far lower, and no change helps."""
    own, others = results.learner.train_score, results.learner.validation_score
    if own is None or others is None or results.best_explanation:
        return False
    others = max(others, results.base.score or 0.0)
    lost = others < TRANSFER_FRACTION * own and own - others >= MIN_SCORE_GAP
    return own >= MIN_SCORE_GAP and lost


def _own_scores(results: TrialResults) -> tuple[Evidence, Evidence]:
    name = "score of the network on examples it learned from"
    own = Evidence(name, results.learner.train_score, text="1 is perfect, 0 the best constant")
    return own, Evidence("on the validation examples", results.learner.validation_score)


@rule("RVN-X25", "error", "loss", confidence="high", needs="trials", also="exploding")
def endless_loss(results: TrialResults) -> Iterator[Observation]:
    if results.falls_without_end:
        losses = [loss for _, loss, _ in results.whole_run.evaluations if math.isfinite(loss)]
        limit = -ENDLESS_FALL * max(1.0, abs(losses[0]))
        least = min(losses[-1], results.least_loss)
        last = Evidence("least loss of any run, on held-out examples", least, limit=limit)
        first = Evidence("before the first step", losses[0])
        change = Change("loss", "the right sign of each term, and a bound where one is rewarded")
        yield observe(last, first, change, suspects=("exploding",))


@symptom(
    "RVN-T02",
    "error",
    "too-few-steps",
    confidence="high",
    needs="trials",
    also="labels, loss, architecture-too-small, learning-rate-low, learning-rate-high",
)
def nothing_learned(results: TrialResults) -> Iterator[Observation]:
    losses = [loss for _, loss, _ in results.whole_run.evaluations]
    if not results.ends_above_constant or not losses or not math.isfinite(losses[-1]):
        return
    name, constant = "loss on held-out examples", "that of the best constant answer"
    held_out = Evidence(name, losses[-1], limit=results.constant_loss, text=constant)
    train_loss = Evidence("loss on training examples", results.whole_run.train_loss)
    yield observe(held_out, train_loss, **_likeliest(results))


@symptom(
    "RVN-T07",
    "warning",
    "architecture-too-small",
    confidence="medium",
    needs="trials",
    also="loss, labels, too-few-steps, learning-rate-low, learning-rate-high",
)
def far_behind_quick_learner(results: TrialResults) -> Iterator[Observation]:
    if results.ends_above_constant or not results.is_behind:
        return
    learner = results.learner
    assert learner.score is not None
    quick = "score of a quick learner on examples it did not see"
    name = "score of the network on examples it learned from"
    reached = Evidence(quick, learner.score, text="1 is perfect")
    own = Evidence(name, learner.train_score, limit=learner.score - learner.margin)
    others = Evidence("on others", learner.validation_score)
    yield observe(reached, own, others, **_likeliest(results, "architecture-too-small"))


def _likeliest(results: TrialResults, otherwise: str = "") -> Any:
    """The likeliest cause where no change helped: a scale that could not be changed, that for which
    there is most evidence (first what was not tried in vain), or what the course of the loss
    suggests. With `otherwise`, a cause whose change was tried and gained nothing is no suspect, nor
    are too few steps where the loss has stopped falling; it is named where none is left.
    """
    suspects = [SCALED_CAUSES[c.path] for c, _ in results.refused if c.path in SCALED_CAUSES]
    cleared = {o.cause for o in results.outcomes if results.gain_of(o) < SUSPECTED_GAIN}
    measured = (outcome.cause for outcome in results.outcomes if outcome.evidence)
    suspects += sorted(measured, key=lambda cause: cause in cleared)
    losses = [loss for _, loss, _ in results.whole_run.evaluations]
    rising = bool(losses) and not losses[-1] < losses[0]
    suspects += ["learning-rate-high" if rising else "too-few-steps"]
    if otherwise:
        if len(losses) > 2 and losses[-3] - losses[-1] < STILL_FALLING * (losses[0] - losses[-1]):
            cleared.add("too-few-steps")
        suspects = [cause for cause in suspects if cause not in cleared] or [otherwise]
    if results.learner.memorizes is False:  # and more units do not help
        suspects[:0] = ["loss", "labels"] if results.wider else ["architecture-too-small"]
    cause, *others = dict.fromkeys(suspects)
    advice = FIRST_ADVICE.get(cause, "")
    return {"cause": cause, "suspects": tuple(others)[:3], "advice": advice}


def remedy_rule(code: str, cause: str, **settings: Any) -> Rule:
    """The rule that names a cause if its remedy explains the run best; `settings` as in `rule`."""

    @rule(code, "warning", cause, confidence="medium", needs="trials", **settings)
    def remedy_explains(results: TrialResults) -> Iterator[Observation]:
        return explain_by_cause(results, cause=cause)

    return remedy_explains


lower_learning_rate = remedy_rule("RVN-X01", "learning-rate-high")
higher_learning_rate = remedy_rule("RVN-X02", "learning-rate-low")
more_steps = remedy_rule("RVN-X03", "too-few-steps")
other_batch_size = remedy_rule("RVN-X04", "batch-size")
other_optimizer = remedy_rule("RVN-X05", "optimizer")
other_constants = remedy_rule("RVN-X06", "optimizer-numerics")
other_activation = remedy_rule("RVN-X07", "hidden-activation")
other_output = remedy_rule("RVN-X08", "output-activation")
other_reduction = remedy_rule("RVN-X09", "loss-reduction")
other_initialization = remedy_rule("RVN-X10", "initialization")
scaled_inputs = remedy_rule("RVN-X11", "input-scale")
scaled_targets = remedy_rule("RVN-X12", "target-scale")
less_dropout = remedy_rule("RVN-X13", "dropout")
less_regularization = remedy_rule("RVN-X14", "over-regularized")
other_normalization = remedy_rule("RVN-X15", "normalization")
shuffled_examples = remedy_rule("RVN-X16", "shuffling")
balanced_classes = remedy_rule("RVN-X17", "imbalance")
other_loss = remedy_rule("RVN-X18", "loss")
unfrozen_parameters = remedy_rule("RVN-X19", "frozen-parameters")
more_units = remedy_rule("RVN-X51", "architecture-too-small", explains="RVN-C03, RVN-T02, RVN-T07")
other_schedule = remedy_rule("RVN-X52", "schedule", explains="RVN-T02, RVN-T06, RVN-T09, RVN-T10")
other_clipping = remedy_rule(
    "RVN-X53", "gradient-clipping", explains="RVN-T02, RVN-T12", also="exploding"
)

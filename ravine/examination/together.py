"""Several changes at once: where none helps alone, and the fewest of them that are needed."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from ravine.diagnosis.trials.trial_results import (
    MISSED_GAIN,
    ORDERED_GENERAL_CAUSES,
    OUTPUT_CAUSES,
    SCORE_GAIN,
    Outcome,
    TrialResults,
)
from ravine.examination.remedies import GENERAL_CAUSES, Remedy
from ravine.examination.subject import CannotTryError, Say, SeedRun, Subject
from ravine.examination.trials import LOSS_CAUSES, Cure, Screening, confirm, median_outcome

KEPT_GAIN = 0.9  # of what all changes gain together, that fewer of them must keep
COMPANION_CAUSES = (  # causes whose strengths are tried beside all that facts speak for
    ("learning-rate-high", 2),
    ("learning-rate-low", 2),
    ("optimizer", 1),
)


def try_together(
    subject: Subject,
    results: TrialResults,
    remedies: Sequence[Remedy],
    screening: Screening,
    *,
    say: Say,
) -> tuple[Cure, ...]:
    """The fewest of the changes for which there is evidence that help together, beside the one that
    helps alone if one does, and beside other learning rates or another optimizer. Where one helps
    alone it is what is given back if the others add nothing to it; nothing where none helps.
    """
    best = results.best_explanation
    alone = None if best is None else screening.cure(best)
    tried = {cause: strength for cause, (strength, _) in screening.best_runs.items()}
    facts = [
        Cure(r.cause, tried.get(r.cause, r.strengths[0]), r.evidence, r.where)
        for r in remedies
        if r.evidence and r.cause not in GENERAL_CAUSES and (best is None or r.cause != best.cause)
    ]
    single = () if alone is None else (alone,)
    if not facts:
        return single
    beside: list[tuple[Cure, ...]] = [(), single] if single else [()]
    for cause, count in COMPANION_CAUSES:
        if best is None or best.cause == cause:
            beside += [(Cure(cause, strength),) for strength in subject.strengths(cause)[:count]]
    say(f"trying {len(facts)} changes together")
    sets = [(*facts, *more) for more in beside]
    results, (*gains, least) = _try_sets(subject, results, [*sets, single])
    top = max(range(len(sets)), key=gains.__getitem__)
    if gains[top] < max(MISSED_GAIN, KEPT_GAIN * least):
        return single
    return fewest(subject, results, sets[top])


def fewest(subject: Subject, results: TrialResults, cures: Sequence[Cure]) -> tuple[Cure, ...]:
    """The cures without those that are not needed: what is left keeps 90 % of the gain of all.
    Tried without are first those of general causes, which make up for many faults; those that are
    certain stay. First stands that without which least is gained.
    """
    kept, without = list(cures), dict.fromkeys((cure.cause for cure in cures), 1.0)
    results, (whole,) = _try_sets(subject, results, [kept])
    for cure in sorted(cures, key=lambda c: c.cause not in ORDERED_GENERAL_CAUSES):
        fewer = [c for c in kept if c is not cure]
        if not fewer or cure.is_certain:
            continue
        _, (gain,) = _try_sets(subject, results, [fewer])
        if gain >= KEPT_GAIN * whole:
            kept = fewer
        without[cure.cause] = gain
    return tuple(sorted(kept, key=lambda cure: without[cure.cause]))


def confirm_together(
    subject: Subject, results: TrialResults, cures: Sequence[Cure], own: Sequence[SeedRun]
) -> Outcome | None:
    """The outcome of all cures together with its verdict; None where they cannot be made."""
    budget = subject.budget
    in_doubt = are_in_doubt(cures)
    strength = subject.join([cure.strength for cure in cures])
    run = partial(subject.run, steps=budget.steps, loss_in_doubt=in_doubt)
    (changed,) = run([strength], seeds=range(budget.seeds))
    if isinstance(changed, CannotTryError):
        return None
    (more,) = run([()], seeds=range(len(own), budget.seeds))
    assert not isinstance(more, CannotTryError)
    changes = tuple(treatment.change for treatment in strength)
    outcome = replace(median_outcome(cures[0].cause, changed), changes=changes)
    compared = replace(results, outcomes=(*results.outcomes, outcome))
    before = [*own, *more]
    return confirm(compared, outcome, before, changed, loss_in_doubt=in_doubt)


def _try_sets(
    subject: Subject, results: TrialResults, sets: Sequence[Sequence[Cure]]
) -> tuple[TrialResults, list[float]]:
    """The results with sets of changes, and what each gains of what there was to gain, at most 1;
    -1 where it cannot be tried.
    """
    budget = subject.budget
    in_doubt = any(are_in_doubt(cures) for cures in sets)
    runs = subject.run(
        [subject.join([cure.strength for cure in cures]) for cures in sets],
        seeds=range(budget.screening_seeds),
        steps=budget.screening_steps,
        loss_in_doubt=in_doubt,
    )
    outcomes = [
        None if isinstance(tried, CannotTryError) else median_outcome(_measured_as(cures), tried)
        for cures, tried in zip(sets, runs, strict=True)
    ]
    known = tuple(outcome for outcome in outcomes if outcome is not None)
    results = replace(results, outcomes=(*results.outcomes, *known))
    gain_of = _gain_by_score if in_doubt else TrialResults.gain_of
    gains = [-1.0 if outcome is None else gain_of(results, outcome) for outcome in outcomes]
    return results, gains


def _measured_as(cures: Sequence[Cure]) -> str:
    """The cause by which a gain of all cures is measured: another output needs a better score."""
    return next((cure.cause for cure in cures if cure.cause in OUTPUT_CAUSES), "healthy")


def _gain_by_score(results: TrialResults, outcome: Outcome) -> float:
    """The score gained, of what was missing; where the loss is in doubt nothing else counts."""
    before, after = max(results.base.score or 0.0, 0.0), outcome.score
    if after is None or after - before < SCORE_GAIN:
        return 0.0 if after is None else min(0.0, after - before)
    return (after - before) / max(1.0 - before, SCORE_GAIN)


def are_in_doubt(cures: Iterable[Cure]) -> bool:
    """Whether cures change what the loss measures, so that the score alone tells what they do."""
    return any(cure.is_certain and cure.cause in LOSS_CAUSES for cure in cures)

"""The examination of a subject: findings, trials, and the order of causes and symptoms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.registry import SYMPTOM_CODES, TRIAL_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.trials.trial_results import (
    NEAR_PERFECT_SCORE,
    ORDERED_GENERAL_CAUSES,
    Outcome,
    TrialResults,
)
from ravine.errors import InputError
from ravine.examination.remedies import remedies_of
from ravine.examination.subject import (
    CannotTryError,
    Say,
    Subject,
    SubjectProfile,
    TrialBudget,
    stay_silent,
)
from ravine.examination.together import (
    are_in_doubt,
    confirm_together,
    fewest,
    join_strengths,
    try_together,
)
from ravine.examination.trials import (
    Cure,
    changes_by_hand,
    confirm_remedies,
    lasting_changes,
    screen_remedies,
    trace_best_remedy,
    try_cures,
    try_other_answers,
    try_stopping_at,
)
from ravine.finding import SEVERITY_LEVELS, Checks, Finding, Report, Trial, arrange

STOPS_EARLIER = ("learning-rate-high", "optimizer", "initialization", "batch-size")
NOTHING_LEARNED_CODES = ("RVN-T02", "RVN-T15", "RVN-X23")
MAX_ROUNDS = 4  # at a subject: one cure uncovers the next fault
NO_TRIALS = Checks(not_measured=tuple(rule.code for rule in TRIAL_RULES))


def examine_subject(subject: Subject, *, trials: bool, say: Say = stay_silent) -> Report:
    """The report of a subject; `say` gets a line before whatever takes a while.

    Where a cause is certain, only what cures it is tried; else remedies are tried, and what helps
    names the cause. With what helps it is looked at again, up to four times, as long as it falls
    short: one cure uncovers the next fault.
    """
    with subject.limit_threads():
        profile = subject.profile(trials=trials, say=say)
        if profile.results is None:
            found = profile.findings
            if any(is_certain(f) for f in found):
                found = merge_certain_findings(found, lead_findings(found))
            result = Round(found, why="no trials were asked for")
        else:
            first = examine_once(subject, profile, say=say)
            result = examine_again(subject, profile, first, say=say)
    return Report(
        run=subject.name,
        score=subject.score,
        checks=profile.checks.merge(result.checks),
        findings=tuple(_with_trial(f, result.why) for f in arrange(result.found)),
    )


@dataclass(frozen=True)
class Round:
    """What one round found, and what cures it; `why` says why changes were not tried."""

    found: list[Finding]
    cures: tuple[Cure, ...] = ()
    checks: Checks = NO_TRIALS
    why: str = "another cause is certain, and its cure was tried first"


def examine_once(subject: Subject, profile: SubjectProfile, *, say: Say) -> Round:
    """Try what cures the causes that are certain; where none is, remedies. Nothing is tried where
    nothing is left to gain.
    """
    found, own = profile.findings, profile.results
    assert own is not None
    if any(is_certain(f) for f in found):
        tried = [try_cures(subject, profile, f) for f in lead_findings(found).values()]
        leads = {finding.cause: finding for finding, _ in tried}
        cures = tuple(cure for _, cure in tried if cure is not None)
        found = merge_certain_findings(found, leads)
        return Round([try_other_answers(subject, profile, f) for f in found], cures)
    found = excuse_unlearnable(found, profile.data)
    if own.base.score is not None and own.base.score >= NEAR_PERFECT_SCORE:
        found = [try_other_answers(subject, profile, f) for f in found]
        return Round(found, why="nothing is left to gain: the score is near its best")
    causes = [f.cause for f in found if not is_symptom(f)]
    remedies = remedies_of(subject, profile)
    screening = screen_remedies(subject, profile, remedies, say=say)
    results = confirm_remedies(subject, profile, screening, causes=causes, say=say)
    best, cures = results.best_explanation, ()
    if best is not None and best.cause not in ORDERED_GENERAL_CAUSES:
        cures = (screening.cure(best),)
    elif best is not None or results.shortfall:
        cures = try_together(subject, results, remedies, screening, say=say)
    results = trace_best_remedy(subject, screening, results)
    new, checks = run_rules(TRIAL_RULES, results)
    symptoms = [f for f in new if is_symptom(f)]
    found = [*(f for f in found if f.code not in {s.code for s in symptoms}), *symptoms]
    new = [f for f in new if not is_symptom(f)]
    if cures and (best is None or [c.cause for c in cures] != [best.cause]):
        outcome = confirm_together(subject, results, cures, profile.runs)
        together = findings_of_cures(results, cures, outcome)
        if together:
            causes_alone = () if best is None else (best.cause,)
            kept = [f for f in new if f.cause not in causes_alone]
            new = [*together, *(f for f in kept if f.cause not in {t.cause for t in together})]
        else:
            cures = () if best is None else (screening.cure(best),)
    step = stopping_step(new)
    if step is not None:
        new = stop_early(new, try_stopping_at(subject, step))
    new = excuse_unlearnable(new, profile.data)
    found = explain_symptoms(*join_trials(found, new, results))
    found = [try_other_answers(subject, profile, f) for f in found]
    return Round(
        [_with_screening(f, results.outcomes, subject.budget) for f in found], cures, checks
    )


def examine_again(subject: Subject, profile: SubjectProfile, first: Round, *, say: Say) -> Round:
    """The first round with what further ones found, each on the subject with the cures of all
    before it; those that are needed are tried together.
    """
    assert profile.results is not None
    rounds, cures, more = [first], first.cures, ""
    while rounds[-1].cures and len(rounds) <= MAX_ROUNDS:
        try:
            changed = subject.with_treatments(
                join_strengths(subject, cures), loss_in_doubt=are_in_doubt(cures)
            )
            again = changed.profile(trials=True, say=say)
        except (CannotTryError, InputError):
            break
        assert again.results is not None
        more = again.results.shortfall
        if not more or len(rounds) == MAX_ROUNDS:
            break
        rounds.append(examine_once(changed, again, say=say))
        known = {cure.cause: cure for cure in cures}
        new = [
            c
            for c in rounds[-1].cures
            if c.cause not in known or c.strength != known[c.cause].strength
        ]
        cures = (*cures, *new)
    if len(rounds) > 1 or sum(cure.is_certain for cure in cures) > 1:
        kept = fewest(subject, profile.results, cures)
        outcome = confirm_together(subject, profile.results, kept, profile.runs)
        if outcome is not None and outcome.trial is not None and outcome.trial.verdict == "helped":
            return replace(first, found=_join_rounds(rounds, kept, outcome), cures=kept)
    if more:
        first = replace(first, found=[_with_more(f, more) for f in first.found])
    return first


def _join_rounds(rounds: Sequence[Round], kept: Sequence[Cure], outcome: Outcome) -> list[Finding]:
    """The findings of the first round and those of later ones whose cures are needed, with the
    trial of all cures together; causes whose cure is not needed become notes.
    """
    needed, tried = {cure.cause for cure in kept}, {c.cause for each in rounds for c in each.cures}
    found: list[Finding] = []
    for place, each in enumerate(rounds):
        for finding in each.found:
            alarm = finding.severity != "note" and not is_symptom(finding)
            if alarm and finding.cause in needed:
                by_hand = changes_by_hand(finding)
                changes = (*outcome.changes, *by_hand)
                finding = replace(finding, changes=changes, trial=outcome.trial)
            elif place > 0 or any(finding.cause == f.cause for f in found):
                continue
            elif alarm and finding.cause in tried and not is_certain(finding):
                finding = replace(finding, severity="note")
            found.append(finding)
    return explain_symptoms(found, [])


def _with_more(finding: Finding, more: str) -> Finding:
    """A finding whose cure helped, and left something wrong that nothing helps against."""
    trial = finding.trial
    if trial is None or trial.verdict != "helped":
        return finding
    why = "; ".join(filter(None, (trial.why, f"with it {more}: more is wrong")))
    return replace(finding, trial=replace(trial, why=why))


def findings_of_cures(
    results: TrialResults, cures: Sequence[Cure], outcome: Outcome | None
) -> list[Finding]:
    """A finding for each of several causes whose cures help together, with what that showed."""
    if outcome is None or outcome.trial is None or outcome.trial.verdict != "helped":
        return []
    found: list[Finding] = []
    for cure in cures:
        as_one = replace(outcome, cause=cure.cause, evidence=cure.evidence, where=cure.where)
        new, _ = run_rules(TRIAL_RULES, replace(results, preferred=as_one))
        found += [f for f in new if f.trial is outcome.trial]
    return found


def is_symptom(finding: Finding) -> bool:
    """Whether a finding says that, not why, something goes wrong."""
    return finding.code in SYMPTOM_CODES


def is_certain(finding: Finding) -> bool:
    """Whether a finding is a cause without doubt, so that nothing else needs to be tried."""
    sure = finding.severity == "error" and finding.confidence in ("exact", "high")
    return sure and not is_symptom(finding)


def lead_findings(found: Sequence[Finding]) -> dict[str, Finding]:
    """The most important finding of each cause that is certain, by cause."""
    leads: dict[str, Finding] = {}
    for finding in arrange(f for f in found if is_certain(f)):
        leads.setdefault(finding.cause, finding)
    return leads


def merge_certain_findings(found: Sequence[Finding], leads: Mapping[str, Finding]) -> list[Finding]:
    """The findings where causes are certain. A fault that was found twice is an error once, by
    the finding that leads, if that names the place.
    """
    certain = []
    for finding in filter(is_certain, found):
        lead = leads[finding.cause]
        if (finding.code, finding.where) == (lead.code, lead.where):
            certain.append(lead)
        else:
            severity = "note" if lead.where else finding.severity
            again = replace(finding, trial=lead.trial, changes=lead.changes, severity=severity)
            certain.append(again)
    return explain_symptoms([f for f in found if not is_certain(f)], certain)


def excuse_unlearnable(found: Sequence[Finding], data: DataProfile | None) -> list[Finding]:
    """That nothing was learned is no fault where a quick learner finds nothing to learn, either."""
    if data is None or data.baseline is None or data.baseline.informative is not False:
        return list(found)
    return [replace(f, severity="note") if f.code in NOTHING_LEARNED_CODES else f for f in found]


def stopping_step(found: Sequence[Finding]) -> int | None:
    """Where a finding of overfitting says that training should end; None where there is none."""
    changes = (c for f in found if f.cause == "overfitting" for c in f.changes)
    return next((int(c.value) for c in changes if c.path == "steps"), None)


def stop_early(found: Sequence[Finding], trial: Trial) -> list[Finding]:
    """Overfitting with its trial of stopping; what helps by stopping earlier is no cause."""
    kept = []
    for finding in found:
        if finding.cause == "overfitting":
            changes = finding.changes if trial.verdict == "helped" else ()
            kept.append(replace(finding, trial=trial, changes=changes))
        elif finding.cause not in STOPS_EARLIER:
            kept.append(finding)
    return kept


def join_trials(
    found: list[Finding], causes: list[Finding], results: TrialResults
) -> tuple[list[Finding], list[Finding]]:
    """Findings with what was tried against their cause; a change that did not help is not
    recommended, but of an exact finding. A cause that trials name and a check has found already is
    reported once, by the finding of the check.
    """
    outcomes = {o.cause: o for o in results.outcomes if o.trial is not None}
    joined: list[Finding] = []
    rest: list[Finding] = []
    for finding in found:
        outcome = outcomes.get(finding.cause)
        if outcome is not None and not is_symptom(finding) and finding.trial is None:
            helped = outcome.trial is not None and outcome.trial.verdict == "helped"
            changes = outcome.changes if helped else lasting_changes(finding)
            finding = replace(finding, trial=outcome.trial, changes=changes)
        joined.append(finding)
    for cause in causes:
        same = (i for i, f in enumerate(joined) if f.code == cause.code or _is_same_fault(f, cause))
        place = next(same, None)
        if place is None:
            rest.append(cause)
            continue
        known = joined[place]
        worse = min(known.severity, cause.severity, key=SEVERITY_LEVELS.index)
        evidence = (*known.evidence, *cause.evidence[-1:])
        where = known.where or cause.where
        joined[place] = replace(known, severity=worse, evidence=evidence, where=where)
    return joined, rest


def _is_same_fault(found: Finding, cause: Finding) -> bool:
    """Whether a check has found what a trial names: the same cause, at no other place."""
    one_place = not found.where or not cause.where or found.where == cause.where
    same_cause = found.cause == cause.cause and not is_symptom(found)
    return one_place and same_cause and found.severity != "note"


def explain_symptoms(found: list[Finding], causes: list[Finding]) -> list[Finding]:
    """All findings; symptoms become notes where a cause was found that accounts for them."""
    # a trial has shown that a check found the cause
    helped = (f for f in (*found, *causes) if f.trial is not None and f.trial.verdict == "helped")
    named = [f for f in helped if not is_symptom(f)]
    if not any(f.severity in ("error", "warning") for f in (*causes, *named)):
        return [*found, *causes]
    codes = tuple(dict.fromkeys(f.code for f in found if is_symptom(f)))
    notes = [replace(f, severity="note") if is_symptom(f) else f for f in found]
    explained = [_explaining(f, codes) if f in named else f for f in notes]
    return [*explained, *(_explaining(f, codes) for f in causes)]


def _explaining(finding: Finding, codes: tuple[str, ...]) -> Finding:
    return replace(finding, explains=tuple(dict.fromkeys((*finding.explains, *codes))))


def _with_screening(finding: Finding, outcomes: Sequence[Outcome], budget: TrialBudget) -> Finding:
    """A finding whose cause, or of a symptom any cause, was tried with a few seeds in vain: that is
    its trial, and what did not help is not recommended.
    """
    tried = [outcome.cause for outcome in outcomes if outcome.trial is None]
    known = finding.trial is not None or finding.severity == "note"
    if known or not (finding.cause in tried or (tried and is_symptom(finding))):
        return finding
    against = finding.cause if finding.cause in tried else ", ".join(tried)
    trial = Trial(
        verdict="no effect",
        steps=budget.screening_steps,
        seeds=budget.screening_seeds,
        why=f"too little was gained by changes against {against}",
    )
    return replace(finding, trial=trial, changes=lasting_changes(finding))


def _with_trial(finding: Finding, why: str) -> Finding:
    """A finding that recommends something has a trial: here, why none was made."""
    if finding.trial is not None or not finding.changes:
        return finding
    why = "this change is made by hand" if changes_by_hand(finding) == finding.changes else why
    return replace(finding, trial=Trial(verdict="not tried", why=why))

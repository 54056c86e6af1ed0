"""The examination of a subject, round by round: one cure uncovers the next fault."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ravine.diagnosis.registry import TRIAL_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.trials.trial_results import Outcome, TrialResults
from ravine.errors import InputError
from ravine.examination.remedies import remedies_of
from ravine.examination.report import (
    add_screening,
    excuse_unlearnable,
    explain_symptoms,
    fold_repeats,
    is_certain,
    is_symptom,
    join_trials,
    lead_findings,
    merge_certain_findings,
    say_why_not_tried,
    stop_early,
    stopping_step,
)
from ravine.examination.subject import CannotTryError, Say, Subject, SubjectProfile, stay_silent
from ravine.examination.together import are_in_doubt, confirm_together, fewest, try_together
from ravine.examination.trials import (
    Cure,
    changes_by_hand,
    confirm_remedies,
    screen_remedies,
    trace_best_remedy,
    try_cures,
    try_other_answers,
    try_stopping_at,
)
from ravine.finding import Checks, Finding, Report, arrange

MAX_ROUNDS = 4
NO_TRIALS = Checks(not_measured=tuple(rule.code for rule in TRIAL_RULES))


def examine_subject(subject: Subject, *, trials: bool, say: Say = stay_silent) -> Report:
    """The report of a subject; `say` gets a line before whatever takes a while. Where a cause is
    certain, only what cures it is tried; else remedies are tried, and what helps names the cause.
    With what helps it is looked at again, up to four times, as long as it falls short: one cure
    uncovers the next fault.
    """
    with subject.limit_threads():
        profile = subject.profile(trials=trials, say=say)
        if profile.results is None:
            new = merge_certain_findings(profile.findings, lead_findings(profile.findings))
            result = Round(new, why="no trials were asked for")
        else:
            first = examine_once(subject, profile, say=say)
            result = examine_again(subject, profile, first, say=say)
    found = fold_repeats(arrange(result.found))
    named = {f.code for f in found if not is_symptom(f)} & {*NO_TRIALS.not_measured}
    return Report(
        run=subject.name,
        score=subject.score,
        checks=profile.checks.merge(result.checks, found=found),
        findings=tuple(say_why_not_tried(f, result.why) for f in arrange(found)),
        left_out=(f"other remedies: {result.why}",)
        if trials and result.checks is NO_TRIALS and not named
        else (),
    )


@dataclass(frozen=True)
class Round:
    """What one round found, and what cures it; `why` says why changes were not tried."""

    found: list[Finding]
    cures: tuple[Cure, ...] = ()
    checks: Checks = NO_TRIALS
    why: str = "nothing was tried"


def examine_once(subject: Subject, profile: SubjectProfile, *, say: Say) -> Round:
    """Try what cures certain causes; without one, remedies; none where nothing can be gained."""
    found, own = profile.findings, profile.results
    assert own is not None
    if any(is_certain(f) for f in found):
        result = cure_certain(subject, profile)
    elif own.is_near_perfect:
        why = "nothing is left to gain: the score is near its best"
        result = Round(excuse_unlearnable(found, profile.data), why=why)
    else:
        result = try_remedies(subject, profile, say=say)
    return replace(result, found=[try_other_answers(subject, profile, f) for f in result.found])


def cure_certain(subject: Subject, profile: SubjectProfile) -> Round:
    """A round that tries what cures the causes that are certain."""
    found = profile.findings
    tried = [try_cures(subject, profile, f) for f in lead_findings(found).values()]
    cures = tuple(cure for _, cure in tried if cure is not None)
    found = merge_certain_findings(found, {finding.cause: finding for finding, _ in tried})
    return Round(found, cures, why="another cause is certain: mend that first")


def try_remedies(subject: Subject, profile: SubjectProfile, *, say: Say) -> Round:
    """A round that tries remedies: what helps, alone or together, names the causes."""
    found = excuse_unlearnable(profile.findings, profile.data)
    causes = [f.cause for f in found if not is_symptom(f)]
    remedies = remedies_of(subject, profile)
    screening = screen_remedies(subject, profile, remedies, say=say)
    results = confirm_remedies(subject, profile, screening, causes=causes, say=say)
    best = results.best_explanation
    cures = () if best is None else (screening.cure(best),)
    together: list[Finding] = []
    if results.shortfall if best is None else best.is_general:
        joint = try_together(subject, results, remedies, screening, say=say)
        if joint != cures:
            outcome = confirm_together(subject, results, joint, profile.runs)
            together = findings_of_cures(results, joint, outcome)
            cures = joint if together else cures
    if not together:
        results = trace_best_remedy(subject, screening, results)
        if results.best_explanation is results.preferred:
            cures = ()  # another loss: its author examines what is left with it
    new, checks = run_rules(TRIAL_RULES, results)
    new = excuse_unlearnable(new, profile.data)
    if together:
        named = {f.cause for f in together} | ({best.cause} if best is not None else set())
        new = [*together, *(f for f in new if is_symptom(f) or f.cause not in named)]
    symptoms = {f.code: f for f in new if is_symptom(f)}
    found = [*(f for f in found if f.code not in symptoms), *symptoms.values()]
    new = [f for f in new if not is_symptom(f)]
    step = stopping_step(new)
    if step is not None:
        new = stop_early(new, try_stopping_at(subject, step))
    found = explain_symptoms(*join_trials(found, new, results))
    found = [add_screening(f, results.outcomes, subject.budget) for f in found]
    return Round(found, cures, checks)


def examine_again(subject: Subject, profile: SubjectProfile, first: Round, *, say: Say) -> Round:
    """The first round with what further ones found, each on the subject with the cures of all
    before it, as long as it falls short or nothing else was tried beside what is certain; those
    that are needed are tried together.
    """
    assert profile.results is not None
    rounds, cures, left = [first], first.cures, [""]
    while cures:
        say("examining it with what helped")
        try:
            joined = subject.join([cure.strength for cure in cures])
            changed = subject.with_treatments(joined, loss_in_doubt=are_in_doubt(cures))
            again = changed.profile(trials=True, say=say)
        except (CannotTryError, InputError):
            break
        assert again.results is not None
        left.append(again.results.shortfall)
        untried = len(rounds) == 1 and all(cure.is_certain for cure in cures)
        if not (left[-1] or untried) or len(rounds) == MAX_ROUNDS or not subject.has_budget:
            break
        following = examine_once(changed, again, say=say)
        known = [(cure.cause, cure.strength) for cure in cures]
        new = [cure for cure in following.cures if (cure.cause, cure.strength) not in known]
        if not new:
            break
        rounds.append(following)
        cures = (*cures, *new)
    found, more = first.found, left[-1]
    if len(rounds) > 1 or sum(cure.is_certain for cure in cures) > 1:
        cures = fewest(subject, profile.results, cures)
        outcome = confirm_together(subject, profile.results, cures, profile.runs)
        if outcome is not None and outcome.trial is not None and outcome.trial.verdict == "helped":
            found = _join_rounds(rounds, cures, outcome)
    if found is first.found or cures == first.cures:  # what further rounds asked for is not needed
        more = left[:2][-1]
    return replace(first, found=[_with_more(f, more) for f in found] if more else found)


def _join_rounds(rounds: Sequence[Round], kept: Sequence[Cure], outcome: Outcome) -> list[Finding]:
    """The findings of the first round and those of later ones whose cures are needed, with the
    trial of all cures together; causes whose cure is not needed become notes.
    """
    needed, tried = {cure.cause for cure in kept}, {c.cause for each in rounds for c in each.cures}
    found: list[Finding] = []
    for place, each in enumerate(rounds):
        for finding in each.found:
            if any((finding.code, finding.where) == (f.code, f.where) for f in found):
                continue  # told by an earlier round
            alarm = finding.severity != "note" and not is_symptom(finding)
            if alarm and finding.cause in needed:
                by_hand = changes_by_hand(finding)
                changes = (*outcome.changes, *by_hand)
                finding = replace(finding, changes=changes, trial=outcome.trial)
            elif place > 0:
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

"""Findings of an examination put in order: causes, the symptoms that they explain, and trials."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.registry import SYMPTOM_CODES
from ravine.diagnosis.trials.trial_results import Outcome, TrialResults
from ravine.examination.subject import TrialBudget
from ravine.examination.trials import changes_by_hand, lasting_changes
from ravine.finding import SEVERITY_LEVELS, Finding, Trial, arrange

STOPS_EARLIER = ("learning-rate-high", "optimizer", "initialization", "batch-size")
NOTHING_LEARNED_CODES = ("RVN-T02", "RVN-T15")


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
    """Findings whose causes are certain: a fault found twice is once an error, with its place."""
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
    """That nothing was learned is no fault where a quick learner finds nothing to learn, either, or
    where all known targets are the same.
    """
    if data is None:
        return list(found)
    same = data.targets is not None and len(data.targets.constant_columns) == data.targets.columns
    if not same and (data.baseline is None or data.baseline.informative is not False):
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
    """Findings with what was tried against their cause. A change that did not help is not
    recommended, but of an exact finding; such a finding is an error if its cure helped, and a note
    a warning where that is proved. A cause that trials name and a check has found already is
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
            sure = helped and finding.confidence == "exact" and finding.severity == "warning"
            severity = "error" if sure else finding.severity
            finding = replace(finding, trial=outcome.trial, changes=changes, severity=severity)
            if finding.severity == "note" and results.is_proved(outcome):
                suspects = tuple(dict.fromkeys((*finding.suspects, *outcome.suspects)))
                finding = replace(finding, severity="warning", suspects=suspects)
        joined.append(finding)
    for cause in causes:
        same = [f for f in joined if f.code == cause.code or _is_same_fault(f, cause)]
        if not same:
            rest.append(cause)
            continue
        codes = {f.code for f in same}  # one that explains another leads
        place = joined.index(next((f for f in same if codes & {*f.explains}), same[0]))
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


def fold_repeats(ordered: Sequence[Finding]) -> list[Finding]:
    """Each fault is an alarm once: one with cause, changes and place of another is a note of it."""
    kept: list[Finding] = []
    for finding in ordered:
        place = next((i for i, f in enumerate(kept) if _says_the_same(f, finding)), None)
        if place is not None:
            lead = kept[place]
            worse = min(lead.severity, finding.severity, key=SEVERITY_LEVELS.index)
            since = min((lead.since, finding.since), key=lambda step: -1 if step is None else step)
            lead = replace(lead, severity=worse, where=lead.where or finding.where, since=since)
            kept[place] = _explaining(lead, (finding.code,))
            finding = replace(finding, severity="note")
        kept.append(finding)
    return kept


def _says_the_same(lead: Finding, finding: Finding) -> bool:
    """Whether two alarms have one cause and advise the same, at no two places."""
    are_alarms = "note" not in (lead.severity, finding.severity) and not is_symptom(finding)
    one_place = not lead.where or finding.where in ("", lead.where)
    same = (lead.cause, lead.changes) == (finding.cause, finding.changes)
    return are_alarms and one_place and same and bool(lead.changes)


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


def add_screening(finding: Finding, outcomes: Sequence[Outcome], budget: TrialBudget) -> Finding:
    """A finding whose cause, or of a symptom any cause, was tried with a few seeds in vain: that is
    its trial, and what did not help is not recommended. A symptom is blamed on a cause that was not
    tried, if it has one.
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
    finding = replace(finding, trial=trial, changes=lasting_changes(finding))
    causes = sorted((finding.cause, *finding.suspects), key=lambda cause: cause in tried)
    if not is_symptom(finding) or finding.confidence == "exact" or causes[0] == finding.cause:
        return finding
    return replace(finding, cause=causes[0], suspects=tuple(causes[1:]))


def say_why_not_tried(finding: Finding, why: str) -> Finding:
    """A finding that recommends something has a trial: here, why none was made."""
    if finding.trial is not None or not finding.changes:
        return finding
    why = "this change is made by hand" if changes_by_hand(finding) == finding.changes else why
    return replace(finding, trial=Trial(verdict="not tried", why=why))

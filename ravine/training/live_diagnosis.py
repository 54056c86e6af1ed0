"""Diagnoses a cohort's training curves while it trains: a finding is an event, reported once.

A check costs a few milliseconds, and a run has at most `len(INTERIM_FRACTIONS)` of them, however
many evaluations it has.
"""

from dataclasses import replace

import numpy as np

from ravine.diagnosis.registry import CURVE_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves.series import INTERIM_FRACTIONS, RunPlan, curves_of_series
from ravine.finding import Finding
from ravine.record import Series
from ravine.training.cohort import Cohort

KNOWN_AT_END = ("ended", "effects", "modes", "reachable", "lr", "answers")  # what rules may need
LIVE_RULES = tuple(rule for rule in CURVE_RULES if rule.needs not in KNOWN_AT_END)


def is_diagnosis_due(cohort: Cohort) -> bool:
    """Whether this evaluation is the first after one of the `INTERIM_FRACTIONS` of the budget."""
    points = cohort.log.series["train/loss"]
    before = points[-2][0] if len(points) > 1 else 0
    steps = cohort.job.plan.steps
    return any(before < part * steps <= cohort.step for part in INTERIM_FRACTIONS)


def diagnose_cohort(cohort: Cohort, *, alpha: float) -> tuple[Finding, ...]:
    """The findings that a cohort's curves show for the first time; they are added to its events.

    `alpha` is the cohort's share of the run's budget of false alarms. What was reported is known by
    the events, which are in every checkpoint: a run that is resumed reports nothing twice.
    """
    series = {
        name: Series(np.array([s for s, _ in points]), np.array([v for _, v in points]))
        for name, points in cohort.log.series.items()
    }
    job = cohort.job
    plan = RunPlan(
        budget=job.plan.steps,
        steps_per_epoch=job.plan.per_epoch,
        keeps_best=cohort.parts.stop is not None,
        networks=len(job.seeds),
    )
    members, outcomes = range(plan.networks), cohort.ended.outcomes
    curves = curves_of_series(series, members, outcomes=outcomes, steps=cohort.step, plan=plan)
    curves = replace(curves, alpha=alpha, only_now=True)
    reported = {event["kind"] for event in cohort.log.events}
    new = [f for f in run_rules(LIVE_RULES, curves)[0] if f.code not in reported]
    findings = [replace(finding, since=finding.since or cohort.step) for finding in new]
    for finding in findings:
        cohort.add_event(finding.code, event_text(finding))
    return tuple(findings)


def event_text(finding: Finding) -> str:
    """A finding as the text of an event."""
    where = f" ({finding.where})" if finding.where else ""
    first = finding.evidence[0] if finding.evidence else None
    value = "" if first is None or first.value is None else f": {first.name} {first.value:.3g}"
    unit = f" {first.unit}" if first is not None and first.unit and value else ""
    return f"{finding.code} at step {finding.since:,}: {finding.title}{where}{value}{unit}"

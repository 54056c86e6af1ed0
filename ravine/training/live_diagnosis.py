"""Diagnoses the training curves of a cohort while it trains: each finding is reported once and kept
among the events.

A check costs a few milliseconds, and a run has at most `len(INTERIM_SHARES)` of them, however many
evaluations it has.
"""

from dataclasses import replace

import numpy as np

from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves import rules as curve_rules
from ravine.diagnosis.training_curves.series import INTERIM_SHARES, RunPlan, curves_of_series
from ravine.finding import Finding
from ravine.record import Series
from ravine.training.cohort import Cohort

LIVE_RULES = tuple(
    rule
    for rule in curve_rules.ALL
    if rule.needs not in ("ended", "effects", "modes", "reachable", "lr")
)


def is_diagnosis_due(cohort: Cohort) -> bool:
    """Whether the evaluation that was just made is the first one at or after a share of the budget
    in `INTERIM_SHARES`.
    """
    if cohort.log.is_new("train/loss", cohort.step):
        return False
    points = cohort.log.series["train/loss"]
    before = points[-2][0] if len(points) > 1 else 0
    return any(before < share * cohort.job.plan.steps <= cohort.step for share in INTERIM_SHARES)


def diagnose_cohort(cohort: Cohort, *, alpha: float) -> tuple[Finding, ...]:
    """The findings that a cohort's curves show now and did not show before; added to the cohort's
    events.

    `alpha` is the cohort's share of the run's budget of false alarms. What was reported is known by
    the events, which are in every checkpoint: a run that is resumed reports nothing twice.
    """
    series = {
        name: Series(np.array([s for s, _ in points]), np.array([v for _, v in points]))
        for name, points in cohort.log.series.items()
    }
    plan = cohort.job.plan
    curves = curves_of_series(
        series,
        range(len(cohort.job.seeds)),
        outcomes=cohort.ended.outcomes,
        steps=cohort.step,
        plan=RunPlan(
            budget=plan.steps,
            steps_per_epoch=plan.per_epoch,
            keeps_best=cohort.parts.stop is not None,
            networks=len(cohort.job.seeds),
        ),
    )
    curves = replace(curves, alpha=alpha, only_now=True)
    reported = {event["kind"] for event in cohort.log.events}
    findings = [
        replace(f, since=f.since or cohort.step)
        for f in run_rules(LIVE_RULES, curves)[0]
        if f.code not in reported
    ]
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

"""Judges the course of a cohort while it trains: at looks, what is found is told once and kept
among the events.

A look costs a few milliseconds, and a run has at most `len(INTERIM_SHARES)` of them, however many
evaluations it has.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves import rules as curve_rules
from ravine.diagnosis.training_curves.series import (
    INTERIM_SHARES,
    RunPlan,
    curves_of_series,
)
from ravine.finding import Finding
from ravine.record import Series
from ravine.training.cohort import Cohort

WHILE = tuple(
    rule
    for rule in curve_rules.ALL
    if rule.needs not in ("ended", "effects", "modes", "reachable", "lr")
)


def is_look(cohort: Cohort) -> bool:
    """Whether the evaluation that was just made is the first one at or after a share of the budget
    in `INTERIM_SHARES`.
    """
    points = cohort.series.get("train/loss", ())
    if not points or points[-1][0] != cohort.step:
        return False
    before = points[-2][0] if len(points) > 1 else 0
    return any(before < share * cohort.job.plan.steps <= cohort.step for share in INTERIM_SHARES)


def judge(cohort: Cohort, *, alpha: float) -> tuple[Finding, ...]:
    """What a cohort's course now shows and did not show before; added to the cohort's events.

    `alpha` is the cohort's share of the run's budget of false alarms. What was told is known by the
    events, which are in every checkpoint: a run that goes on tells nothing twice.
    """
    series = {
        name: Series(np.array([s for s, _ in points]), np.array([v for _, v in points]))
        for name, points in cohort.series.items()
    }
    count = len(cohort.job.seeds)
    plan = cohort.job.plan
    curves = curves_of_series(
        series,
        range(count),
        outcomes=cohort.outcomes,
        steps=cohort.step,
        plan=RunPlan(
            budget=plan.steps,
            steps_per_epoch=plan.per_epoch,
            keeps_best=cohort.parts.stop is not None,
            networks=count,
        ),
    )
    curves = replace(curves, alpha=alpha, only_now=True)
    told = {event["kind"] for event in cohort.events}
    found = [
        replace(f, since=f.since or cohort.step)
        for f in run_rules(WHILE, curves)[0]
        if f.code not in told
    ]
    for finding in found:
        cohort.events.append(
            {"step": cohort.step, "kind": finding.code, "text": said(finding), "member": None}
        )
    return tuple(found)


def said(finding: Finding) -> str:
    """A finding as the text of an event."""
    where = f" ({finding.where})" if finding.where else ""
    first = finding.evidence[0] if finding.evidence else None
    value = "" if first is None or first.value is None else f": {first.name} {first.value:.3g}"
    unit = f" {first.unit}" if first is not None and first.unit and value else ""
    return f"{finding.code} at step {finding.since:,}: {finding.title}{where}{value}{unit}"

"""One answer about the learning rate for all that is found in one run."""

from collections.abc import Iterable
from dataclasses import replace

from ravine.diagnosis.training_curves.failure_causes import changes_against
from ravine.finding import CONFIDENCE_LEVELS, SEVERITY_LEVELS, Change, Finding

# of a finding that blames the rate the other way than what leads
OTHER_CAUSES = {"learning-rate-high": "schedule", "learning-rate-low": "too-few-steps"}


def agree_on_rate(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with one direction and one factor for the learning rate.

    The most severe finding, of several the surest, says which: those that blame the same have its
    change, those that blame the opposite name the next of their causes.

    >>> about = {"title": "", "severity": "warning", "confidence": "high"}
    >>> low = Finding(code="A", cause="learning-rate-low", **about)
    >>> high = Finding(code="B", cause="learning-rate-high", **(about | {"severity": "error"}))
    >>> [f.cause for f in agree_on_rate([low, high])]
    ['too-few-steps', 'learning-rate-high']
    """
    found = list(findings)
    leading = min((f for f in found if f.cause in OTHER_CAUSES), key=_importance, default=None)
    if leading is None:
        return found
    agreeing = (leading, *(f for f in found if f.cause == leading.cause))
    change = next((c for f in agreeing for c in f.changes if _is_rate(c)), None)
    return [_agree(f, leading.cause, change) if f.cause in OTHER_CAUSES else f for f in found]


def _agree(finding: Finding, cause: str, change: Change | None) -> Finding:
    others = tuple(c for c in finding.changes if not _is_rate(c))
    if finding.cause == cause:
        return replace(finding, changes=others if change is None else (change, *others))
    new = next((c for c in finding.suspects if c not in OTHER_CAUSES), OTHER_CAUSES[finding.cause])
    suspects = tuple(c for c in finding.suspects if c not in (new, finding.cause))
    return replace(finding, cause=new, suspects=suspects, changes=others or changes_against(new))


def _is_rate(change: Change) -> bool:
    return change.path.rpartition(".")[2] == "lr"


def _importance(finding: Finding) -> tuple[int, int]:
    return SEVERITY_LEVELS.index(finding.severity), CONFIDENCE_LEVELS.index(finding.confidence)

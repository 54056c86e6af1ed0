"""Findings: what is wrong with a run, as plain data with evidence, cause and tried remedies; and
the report of them all.

The JSON of a report is a contract: keys go, or change their meaning, only with `REPORT_SCHEMA`.
Wording may change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any

from ravine.causes import CAUSES
from ravine.old_names import current_code
from ravine.record import Score, finite_json, read_score

REPORT_SCHEMA = 1
SEVERITY_LEVELS = ("error", "warning", "note")  # worst first
# surest first; exact: a fact that depends on no threshold
CONFIDENCE_LEVELS = ("exact", "high", "medium", "low")
TRIAL_VERDICTS = ("helped", "no effect", "worse", "not tried")
# how many causes are named that neither an exact check nor a trial has confirmed
MAX_UNCONFIRMED_CAUSES = 2

# What can be changed in a program without a recipe: by a trial, or only by its author.
TRIABLE_CHANGES = tuple(
    "lr batch clip input.scale target.scale output init activation loss dropout decay steps "
    "optimizer normalization shuffle".split()
)
MANUAL_CHANGES = ("data", "model", "loop")


@dataclass(frozen=True)
class Evidence:
    """One number behind a finding: its `value` in `unit`, the `limit` that it exceeded (None: no
    limit), and a text.
    """

    name: str
    value: float | None
    unit: str = ""
    _: KW_ONLY
    limit: float | None = None
    text: str = ""


@dataclass(frozen=True)
class Change:
    """One setting and the value to give it: a path in a recipe, or in a program one of
    `TRIABLE_CHANGES` and `MANUAL_CHANGES`.
    """

    path: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a remedy did when it was tried: the loss after `steps` without it and with it, paired
    over seeds.

    `difference` is after - before with its 95 % `interval`; below 0 is better. `why` is the reason
    where nothing was tried.

    >>> Trial(verdict="perhaps")
    Traceback (most recent call last):
    ValueError: verdict is one of helped, no effect, worse, not tried; not 'perhaps'
    """

    verdict: str
    steps: int = 0
    seeds: int = 0
    before: float | None = None
    after: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    why: str = ""

    def __post_init__(self) -> None:
        _one_of("verdict", self.verdict, TRIAL_VERDICTS)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: what, how sure, where, since which step, why, and what to change.

    `where` names a module, parameter, column or split; `since` is a step, None where none applies.
    `suspects` are other possible causes, likeliest first. `explains` are codes of symptoms that
    have the same cause. `advice` says what to do first where no change is recommended.
    """

    code: str
    title: str
    severity: str
    confidence: str
    cause: str
    where: str = ""
    since: int | None = None
    evidence: tuple[Evidence, ...] = ()
    suspects: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    trial: Trial | None = None
    explains: tuple[str, ...] = ()
    advice: str = ""

    def __post_init__(self) -> None:
        _one_of("severity", self.severity, SEVERITY_LEVELS)
        _one_of("confidence", self.confidence, CONFIDENCE_LEVELS)
        for cause in (self.cause, *self.suspects):
            _one_of("cause", cause, tuple(CAUSES))

    @property
    def is_confirmed(self) -> bool:
        """Whether the cause is no guess: an exact check, or its remedy was tried and helped."""
        helped = self.trial is not None and self.trial.verdict == "helped"
        return helped or self.confidence == "exact"

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON-ready data; `advice` only where there is one."""
        data = finite_json(asdict(self))
        return data if self.advice else {k: v for k, v in data.items() if k != "advice"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that `to_json` wrote, retired codes as those of today (tuples among the
        values of changes come back as lists).
        """
        trial = data["trial"]
        if trial is not None:
            interval = trial["interval"]
            trial = Trial(**{**trial, "interval": interval and tuple(interval)})
        parts = {
            "evidence": tuple(Evidence(**e) for e in data["evidence"]),
            "changes": tuple(Change(**c) for c in data["changes"]),
            "suspects": tuple(data["suspects"]),
            "code": current_code(data["code"]),
            "explains": tuple(map(current_code, data["explains"])),
            "trial": trial,
        }
        return cls(**{**data, **parts})


@dataclass(frozen=True)
class Checks:
    """The codes of checks by result; one that found something is in none: see its finding."""

    passed: tuple[str, ...] = ()
    not_applicable: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()  # those without what they read, such as losses or trials
    failed: tuple[str, ...] = ()  # the check itself broke

    def merge(self, *others: Checks, found: Iterable[Finding] = ()) -> Checks:
        """These checks and others together, without those of findings. A code that several checks
        have is one that failed if one of them did, else passed, else was not measured.
        """
        known = {finding.code for finding in found}
        results: dict[str, tuple[str, ...]] = {}
        for name in ("failed", "passed", "not_measured", "not_applicable"):
            every = (code for checks in (self, *others) for code in vars(checks)[name])
            results[name] = tuple(code for code in dict.fromkeys(every) if code not in known)
            known.update(results[name])
        return Checks(**results)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was found about a run, most important first. `run` is its folder, None for a
    program's own training loop. `left_out` says in words what was left out as a whole, and why: by
    a program's form, the time or an error, and remedies that were not tried. Each single check that
    was not measured stands in `checks.not_measured`.
    """

    run: str | None = None
    score: Score | None = None
    checks: Checks = Checks()
    findings: tuple[Finding, ...] = ()
    schema: int = REPORT_SCHEMA
    left_out: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """One line; `ravine.findings_text` has it all."""
        found = ", ".join(f"{f.code} {f.severity}" for f in self.findings) or "nothing found"
        passed, missing = len(self.checks.passed), len(self.checks.not_measured)
        unmeasured = f", {missing} not measured: report.checks.not_measured" if missing else ""
        return f"Report({found}; {passed} checks passed{unmeasured})"

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data: schema, run, score, checks, findings; and left_out where
        something was.
        """
        return {
            "schema": self.schema,
            "run": self.run,
            "score": None if self.score is None else self.score.to_json(),
            "checks": finite_json(asdict(self.checks)),
            "findings": [f.to_json() for f in self.findings],
            **({"left_out": list(self.left_out)} if self.left_out else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_json` wrote, retired codes as those of today."""
        score, checks = data["score"], data["checks"]
        return cls(
            schema=data["schema"],
            run=data["run"],
            score=None if score is None else read_score(score),
            checks=Checks(**{name: tuple(map(current_code, checks[name])) for name in checks}),
            findings=tuple(Finding.from_json(f) for f in data["findings"]),
            left_out=tuple(data.get("left_out", ())),
        )


def arrange(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Order findings for a report: causes before the symptoms they explain, most important first.

    Importance is severity, then whether the cause is confirmed, then confidence, then how early.
    `explains` keeps only codes that were found. Notes recommend nothing: their changes are left
    out, and so is a note on the whole whose code an alarm has. At most two unconfirmed causes are
    named; further ones become suspects of the second, in order.

    >>> lr = Finding(code="A", title="", severity="warning", confidence="high", cause="schedule",
    ...              explains=("B",))
    >>> slow = Finding(code="B", title="", severity="error", confidence="exact",
    ...                cause="learning-rate-low")
    >>> [f.code for f in arrange([slow, lr])]
    ['A', 'B']
    """
    ordered = sorted(findings, key=_importance)
    alarms = {(f.code, f.cause) for f in ordered if f.severity != "note"}
    ordered = [
        f for f in ordered if f.severity != "note" or f.where or (f.code, f.cause) not in alarms
    ]
    explained: set[str] = set()  # by an alarm
    told: set[str] = set()  # by any finding
    for finding in ordered:  # of two that explain each other, the more important one leads
        if finding.code not in told:
            codes = set(finding.explains) - {finding.code}
            explained |= codes if finding.severity != "note" else set()
            told |= codes
    ordered.sort(key=lambda f: f.code in (told if f.severity == "note" else explained))
    kept = _limit_unconfirmed(ordered)
    found = {f.code for f in kept}
    for i, f in enumerate(kept):
        explains = tuple(code for code in f.explains if code in found - {f.code})
        changes = () if f.severity == "note" else f.changes
        kept[i] = replace(f, explains=explains, changes=changes)
    return tuple(kept)


def _limit_unconfirmed(ordered: list[Finding]) -> list[Finding]:
    """All but the findings of further unconfirmed causes, which become suspects."""
    kept: list[Finding] = []
    guesses: list[str] = []
    for finding in ordered:
        is_guess = not finding.is_confirmed and finding.cause not in guesses
        is_named = finding.cause in {f.cause for f in kept}
        if is_guess and not is_named and len(guesses) >= MAX_UNCONFIRMED_CAUSES:
            at = max(i for i, f in enumerate(kept) if not f.is_confirmed)
            suspects = tuple(dict.fromkeys((*kept[at].suspects, finding.cause)))
            kept[at] = replace(kept[at], suspects=suspects)
            continue
        kept.append(finding)
        guesses += [finding.cause] if is_guess else []
    return kept


def _importance(finding: Finding) -> tuple[int, bool, int, float]:
    severity = SEVERITY_LEVELS.index(finding.severity)
    confidence = CONFIDENCE_LEVELS.index(finding.confidence)
    since = math.inf if finding.since is None else finding.since
    return severity, not finding.is_confirmed, confidence, since


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}; not {value!r}")

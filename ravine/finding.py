"""Findings: what is wrong with a run, as plain data with evidence, cause and tried remedies; and
the report of them all.

The JSON of a report is a contract: its keys and their meaning change only with `REPORT_SCHEMA`.
Wording may change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ravine.causes import CAUSES
from ravine.old_names import current_code
from ravine.record import Score, finite_json

REPORT_SCHEMA = 1
SEVERITY_LEVELS = ("error", "warning", "note")  # worst first
# surest first; exact: a fact that depends on no threshold
CONFIDENCE_LEVELS = ("exact", "high", "medium", "low")
TRIAL_VERDICTS = ("helped", "no effect", "worse", "not tried")
# how many causes are named that neither an exact check nor a trial has confirmed
MAX_UNCONFIRMED_CAUSES = 2

# What can be changed in a program without a recipe: by a trial, or only by its author.
TRIABLE_CHANGES = (
    "lr",
    "batch",
    "clip",
    "input.scale",
    "target.scale",
    "output",
    "init",
    "activation",
    "loss",
    "dropout",
    "decay",
    "steps",
    "optimizer",
    "normalization",
    "shuffle",
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
    have the same cause.
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

    def __post_init__(self) -> None:
        _one_of("severity", self.severity, SEVERITY_LEVELS)
        _one_of("confidence", self.confidence, CONFIDENCE_LEVELS)
        for cause in (self.cause, *self.suspects):
            _one_of("cause", cause, tuple(CAUSES))

    @property
    def confirmed(self) -> bool:
        """Whether the cause is more than a guess: the check was exact, or its remedy was tried and
        helped.
        """
        return self.confidence == "exact" or (
            self.trial is not None and self.trial.verdict == "helped"
        )

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON-ready data."""
        return finite_json(asdict(self))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """The finding that `to_json` wrote, retired codes as those of today (tuples among the
        values of changes come back as lists).
        """
        trial = data["trial"]
        if trial is not None:
            trial = Trial(
                **{
                    **trial,
                    "interval": None if trial["interval"] is None else tuple(trial["interval"]),
                }
            )
        return cls(
            **{
                **data,
                "evidence": tuple(Evidence(**e) for e in data["evidence"]),
                "changes": tuple(Change(**c) for c in data["changes"]),
                "suspects": tuple(data["suspects"]),
                "code": current_code(data["code"]),
                "explains": tuple(map(current_code, data["explains"])),
                "trial": trial,
            }
        )


@dataclass(frozen=True)
class Checks:
    """The codes of all checks by result. A check that found something is in none of these: see its
    finding.
    """

    passed: tuple[str, ...] = ()
    not_applicable: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()  # the check itself broke

    def and_(self, *others: Checks) -> Checks:
        """These checks and others together."""
        every = (self, *others)
        return Checks(
            **{name: tuple(code for c in every for code in getattr(c, name)) for name in vars(self)}
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that was found about a run, most important first. `run` is its folder, None for a
    program's own training loop.
    """

    run: str | None = None
    score: Score | None = None
    checks: Checks = Checks()
    findings: tuple[Finding, ...] = ()
    schema: int = REPORT_SCHEMA

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data: schema, run, score, checks, findings."""
        return {
            "schema": self.schema,
            "run": self.run,
            "score": None if self.score is None else finite_json(asdict(self.score)),
            "checks": finite_json(asdict(self.checks)),
            "findings": [f.to_json() for f in self.findings],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The report that `to_json` wrote, retired codes as those of today."""
        score, checks = data["score"], data["checks"]
        return cls(
            schema=data["schema"],
            run=data["run"],
            score=None if score is None else Score(**{**score, "members": tuple(score["members"])}),
            checks=Checks(**{name: tuple(map(current_code, checks[name])) for name in checks}),
            findings=tuple(Finding.from_json(f) for f in data["findings"]),
        )


def arrange(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Order findings for a report: causes before the symptoms that they explain, most important
    first.

    Importance is severity, then whether the cause is confirmed, then confidence, then how early.
    `explains` keeps only codes that were found. Notes recommend nothing: their changes are left
    out. At most two unconfirmed causes are named; further ones become suspects of the second, in
    order.

    >>> lr = Finding(code="A", title="", severity="warning", confidence="high", cause="schedule",
    ...              explains=("B",))
    >>> slow = Finding(code="B", title="", severity="error", confidence="exact",
    ...                cause="learning-rate-low")
    >>> [f.code for f in arrange([slow, lr])]
    ['A', 'B']
    """
    ordered = sorted(
        (replace(f, changes=()) if f.severity == "note" else f for f in findings), key=_importance
    )
    found = {f.code for f in ordered}
    ordered = [
        replace(f, explains=tuple(c for c in f.explains if c in found and c != f.code))
        for f in ordered
    ]
    explained: set[str] = set()
    for finding in ordered:
        if (
            finding.code not in explained
        ):  # of two that explain each other, the more important one leads
            explained |= set(finding.explains)
    ordered.sort(key=lambda f: f.code in explained)
    return _name_few(ordered)


def _name_few(ordered: list[Finding]) -> tuple[Finding, ...]:
    kept: list[Finding] = []
    guesses: set[str] = set()
    for finding in ordered:
        named = finding.cause in {f.cause for f in kept}
        guessing = len(guesses) < MAX_UNCONFIRMED_CAUSES
        if finding.confirmed or named or guessing:
            kept.append(finding)
            if not finding.confirmed and guessing:
                guesses.add(finding.cause)
            continue
        at = max(i for i, f in enumerate(kept) if not f.confirmed)
        suspects = tuple(dict.fromkeys((*kept[at].suspects, finding.cause)))
        kept[at] = replace(kept[at], suspects=suspects)
    return tuple(kept)


def _importance(finding: Finding) -> tuple[int, bool, int, float]:
    since = float("inf") if finding.since is None else finding.since
    return (
        SEVERITY_LEVELS.index(finding.severity),
        not finding.confirmed,
        CONFIDENCE_LEVELS.index(finding.confidence),
        since,
    )


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}; not {value!r}")

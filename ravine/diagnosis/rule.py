"""A rule: a code, what it means, what it cannot see, and a function that looks for it in what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ravine.finding import Change, Checks, Evidence, Finding, Trial


class Measured(Protocol):
    """What rules read: plain data that was measured of a loop, of examples, of a network or of a run."""

    def has(self, need: str) -> bool | None:
        """Whether what a rule needs was measured; None where it does not apply."""
        ...


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a rule saw. What is left out is as the rule says."""

    where: str = ""
    since: int | None = None
    evidence: tuple[Evidence, ...] = ()
    changes: tuple[Change, ...] = ()
    suspects: tuple[str, ...] = ()
    title: str = ""
    severity: str = ""
    confidence: str = ""
    cause: str = ""
    trial: Trial | None = None  # of what rules that read trials saw


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One check: `because` says how the fault comes about, `misses` what the rule cannot see.

    `needs` names what must have been measured before the check says anything; what the names mean says the noun that
    the rule reads (`Story.has`). The fields from `means` on are for readers: `ravine explain CODE` prints them.
    """

    code: str
    title: str
    cause: str
    severity: str
    because: str
    misses: str
    find: Callable[[Any], Iterable[Seen]]
    needs: str
    confidence: str = "exact"
    explains: tuple[str, ...] = ()
    also: tuple[str, ...] = ()  # causes that it may name instead of `cause`, or suspect beside it
    means: str = ""  # what the finding says, and what the fault does to training
    detected: str = ""  # what is measured, and the threshold or equation
    remedy: str = ""  # what to do about it
    patch: str = ""  # the same in code: lines that begin with "- " go, with "+ " come, with two spaces stay
    references: tuple[str, ...] = ()  # with their year or version
    picture: str = ""  # the experiment of the gallery that shows it; none shows some

    def judge(self, measured: Measured) -> list[Finding]:
        """The findings of this rule."""
        return [
            Finding(
                code=self.code,
                title=seen.title or self.title,
                severity=seen.severity or self.severity,
                confidence=seen.confidence or self.confidence,
                cause=seen.cause or self.cause,
                where=seen.where,
                since=seen.since,
                evidence=seen.evidence,
                suspects=seen.suspects,
                changes=seen.changes,
                trial=seen.trial,
                explains=self.explains,
            )
            for seen in self.find(measured)
        ]


def judged(rules: Iterable[Rule], measured: Measured) -> tuple[list[Finding], Checks]:
    """What the rules find in what was measured, and how every check went. A rule that breaks is a failed check."""
    found: list[Finding] = []
    went: dict[str, list[str]] = {"passed": [], "not_applicable": [], "not_measured": [], "failed": []}
    for rule in rules:
        has = measured.has(rule.needs)
        if not has:
            went["not_applicable" if has is None else "not_measured"].append(rule.code)
            continue
        try:
            new = rule.judge(measured)
        except Exception:  # the others still count; the report names this one
            went["failed"].append(rule.code)
            continue
        found += new
        if not new:
            went["passed"].append(rule.code)
    return found, Checks(**{name: tuple(codes) for name, codes in went.items()})


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

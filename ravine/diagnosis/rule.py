"""A rule: a code, and a function that looks for one fault in what was measured.

The text of a code stands in `explanations/CODE.md` and nowhere else: its title, what it means, why
it happens, how it is detected, what it misses and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ravine.diagnosis.explanation import Explanation, read_explanation
from ravine.finding import Change, Checks, Evidence, Finding, Trial


class RuleInput(Protocol):
    """What rules read: plain data that was measured of a loop, of examples, of a network or of a
    run.
    """

    def has(self, need: str) -> bool | None:
        """Whether what a rule needs was measured; None where it does not apply."""
        ...


@dataclass(frozen=True, kw_only=True)
class Observation:
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
    """One check. Called with what was measured, it yields what it sees.

    `needs` names what must have been measured before the check says anything; what the names mean
    says the noun that the rule reads (its method `has`). `also` are causes that it may name instead
    of `cause`, or suspect beside it; `explains` are codes of symptoms that the fault accounts for.
    A `symptom` says that, not why, something goes wrong: where a cause is found, it becomes a note.
    `picture` is the experiment of the gallery that shows the fault.
    """

    code: str
    cause: str
    severity: str
    needs: str
    find: Callable[[Any], Iterable[Observation]]
    confidence: str = "exact"
    explains: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    symptom: bool = False
    picture: str = ""

    def __call__(self, measured: Any) -> Iterator[Observation]:
        """What the rule sees in what was measured."""
        yield from self.find(measured)

    @cached_property
    def explanation(self) -> Explanation:
        """The text of the code, with the thresholds of the rule's own module filled in."""
        return read_explanation(self.code, thresholds=self.find)

    @property
    def title(self) -> str:
        """The rule's title, a clause."""
        return self.explanation.title

    def judge(self, measured: RuleInput) -> list[Finding]:
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


def rule(
    code: str,
    *,
    severity: str,
    cause: str,
    needs: str,
    confidence: str = "exact",
    explains: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    symptom: bool = False,
    picture: str = "",
) -> Callable[[Callable[[Any], Iterable[Observation]]], Rule]:
    """Make a function that looks for a fault the rule of a code; the arguments are those of `Rule`.

    >>> @rule("RVN-L01", severity="error", cause="zero-grad", needs="looks")
    ... def gradients_pile_up(passes):
    ...     if passes > 1:
    ...         yield Observation(evidence=(Evidence("passes", passes),))
    >>> gradients_pile_up.code, len(list(gradients_pile_up(2)))
    ('RVN-L01', 1)
    """

    def decorate(find: Callable[[Any], Iterable[Observation]]) -> Rule:
        return Rule(
            code=code,
            severity=severity,
            cause=cause,
            needs=needs,
            find=find,
            confidence=confidence,
            explains=explains,
            also=also,
            symptom=symptom,
            picture=picture,
        )

    return decorate


def run_rules(rules: Iterable[Rule], measured: RuleInput) -> tuple[list[Finding], Checks]:
    """What the rules find in what was measured, and how every check went. A rule that breaks is a
    failed check.
    """
    found: list[Finding] = []
    went: dict[str, list[str]] = {
        "passed": [],
        "not_applicable": [],
        "not_measured": [],
        "failed": [],
    }
    for rule in rules:
        has = measured.has(rule.needs)
        if not has:
            went["not_applicable" if has is None else "not_measured"].append(rule.code)
            continue
        try:
            new = rule.judge(measured)
        except Exception:
            went["failed"].append(rule.code)
            continue
        found += new
        if not new:
            went["passed"].append(rule.code)
    return found, Checks(**{name: tuple(codes) for name, codes in went.items()})


def join_names(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> join_names(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

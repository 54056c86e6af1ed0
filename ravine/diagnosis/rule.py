"""A rule: a code, what it means, what it cannot see, and a function that looks for it in a story."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ravine.diagnosis.story import Story
from ravine.finding import Change, Evidence, Finding


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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One check of a loop: `because` says how the fault comes about, `misses` what the rule cannot see.

    `needs` is what must have been seen before the check says anything: "looks" (a step), "graph" (a loss as a tensor),
    "forward" (the model itself was called), "schedule" (there is one).
    """

    code: str
    title: str
    cause: str
    severity: str
    because: str
    misses: str
    find: Callable[[Story], Iterable[Seen]]
    needs: str
    confidence: str = "exact"
    explains: tuple[str, ...] = ()

    def judge(self, story: Story) -> list[Finding]:
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
                explains=self.explains,
            )
            for seen in self.find(story)
        ]

    def measured(self, story: Story) -> bool:
        """Whether the story holds what the rule needs."""
        return {
            "looks": bool(story.looks),
            "graph": story.graph is not None,
            "forward": any(letter in story.tape for letter in "FENn"),
            "schedule": bool(story.schedules),
        }[self.needs]


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> listed(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""A rule: a code, and a function that finds one fault in what was measured.

The text of a code stands in `explanations/CODE.md` and nowhere else: its title, what it means, why
it happens, how it is detected, what it misses and what to do.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property, partial
from types import ModuleType
from typing import Any, Protocol, Required, TypeAlias, TypedDict, Unpack

from ravine.diagnosis.explanation import Explanation, read_explanation
from ravine.errors import join_first
from ravine.finding import Change, Checks, Evidence, Finding, Trial


class RuleInput(Protocol):
    """Plain data that was measured of a loop, of examples, of a network or of a run."""

    def has(self, need: str) -> bool | None:
        """Whether what a rule needs was measured; None where it does not apply."""
        ...


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a rule observed; what is left out is as the rule says."""

    where: str = ""
    since: int | None = None
    evidence: tuple[Evidence, ...] = ()
    changes: tuple[Change, ...] = ()
    suspects: tuple[str, ...] = ()
    title: str = ""
    severity: str = ""
    confidence: str = ""
    cause: str = ""
    advice: str = ""
    trial: Trial | None = None  # of the rules that read trials


FindFault: TypeAlias = Callable[[Any], Iterable[Observation]]
# what a rule says of each of its findings
FINDING_DEFAULTS = ("code", "title", "severity", "confidence", "cause", "explains", "advice")


class ObservationFields(TypedDict, total=False):
    """The fields of `Observation` beside evidence and changes, which `observe` takes by place."""

    where: str
    since: int | None
    suspects: tuple[str, ...]
    title: str
    severity: str
    confidence: str
    cause: str
    advice: str
    trial: Trial | None


def observe(*seen: Evidence | Change | None, **about: Unpack[ObservationFields]) -> Observation:
    """An observation of evidence and what to change; `about` are its other fields."""
    evidence = tuple(each for each in seen if isinstance(each, Evidence))
    changes = tuple(each for each in seen if isinstance(each, Change))
    return Observation(evidence=evidence, changes=changes, **about)


@dataclass(frozen=True)
class Rule:
    """One check. Called with what was measured, it yields what it observes. `needs` names what must
    have been measured before the check says anything: a name that the method `has` of its input
    knows. `also` are causes that it may name instead of `cause`, or suspect beside it; `explains`
    are codes of symptoms that the fault accounts for. A `symptom` says that something goes wrong,
    not why: where a cause is found, it becomes a note.
    """

    find: FindFault
    _: KW_ONLY
    code: str
    cause: str
    severity: str
    needs: str
    confidence: str = "exact"
    explains: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    symptom: bool = False

    def __call__(self, measured: Any) -> Iterator[Observation]:
        """What the rule observes in what was measured."""
        yield from self.find(measured)

    @cached_property
    def explanation(self) -> Explanation:
        """The text of the code, with the thresholds of the rule's own module filled in."""
        return read_explanation(self.code, vars(sys.modules[self.find.__module__]))

    @property
    def title(self) -> str:
        """The rule's title, a clause."""
        return self.explanation.title

    @property
    def advice(self) -> str:
        """What to do first, a sentence."""
        return self.explanation.remedy.split(". ")[0].rstrip(".") + "."

    def findings(self, measured: RuleInput) -> list[Finding]:
        """The findings of this rule: what an observation leaves out is as the rule says."""
        found = []
        for observation in self.find(measured):
            settings = {name: getattr(self, name) for name in FINDING_DEFAULTS}
            observed = vars(observation).items()
            settings |= {name: value for name, value in observed if value not in ("", None)}
            found.append(Finding(**settings))
        return found


class RuleFields(TypedDict, total=False):
    """The other fields of `Rule`; commas part several needs, codes or causes."""

    needs: Required[str]
    confidence: str
    explains: str
    also: str


def rule(
    code: str, severity: str, cause: str, **about: Unpack[RuleFields]
) -> Callable[[FindFault], Rule]:
    """Make a function that finds a fault the rule of a code; `about` are other fields of `Rule`.

    What the function measures and misses stands in the explanation of the code: it needs no
    docstring.

    >>> @rule("RVN-L01", "error", "zero-grad", needs="snapshots")
    ... def gradients_pile_up(passes):
    ...     if passes > 1:
    ...         yield observe(Evidence("passes", passes))
    >>> gradients_pile_up.code, len(list(gradients_pile_up(2)))
    ('RVN-L01', 1)
    """
    return partial(Rule, code=code, severity=severity, cause=cause, **_split_lists(about))


def symptom(
    code: str, severity: str, cause: str, **about: Unpack[RuleFields]
) -> Callable[[FindFault], Rule]:
    """Make a function the rule of a code which says that something goes wrong, not why."""
    settings = _split_lists(about)
    return partial(Rule, code=code, severity=severity, cause=cause, symptom=True, **settings)


def _split_lists(about: RuleFields) -> dict[str, Any]:
    settings: dict[str, Any] = {**about}
    lists = [name for name in ("explains", "also") if name in settings]
    return settings | {name: tuple(settings[name].split(", ")) for name in lists}


def collect_rules(*modules: ModuleType) -> tuple[Rule, ...]:
    """The rules that stand in modules, each once, in the order in which they stand."""
    rules = (rule for module in modules for rule in vars(module).values())
    return tuple({rule.code: rule for rule in rules if isinstance(rule, Rule)}.values())


def run_rules(rules: Iterable[Rule], measured: RuleInput) -> tuple[list[Finding], Checks]:
    """The findings of rules, and every check by its result; a rule that raises is a failed one."""
    found: list[Finding] = []
    results: dict[str, list[str]] = {field.name: [] for field in fields(Checks)}
    for rule in rules:
        has = measured.has(rule.needs)
        if not has:
            results["not_applicable" if has is None else "not_measured"].append(rule.code)
            continue
        try:
            new = rule.findings(measured)
        except Exception:
            results["failed"].append(rule.code)
            continue
        found += new
        if not new:
            results["passed"].append(rule.code)
    return found, Checks(**{name: tuple(codes) for name, codes in results.items()})


def join_names(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return join_first(list(names), most)

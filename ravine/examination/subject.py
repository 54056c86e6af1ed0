"""What can be examined: a recipe, or a torch program. The engine (`remedies`, `trials`,
`report`) knows no more of them than this.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.trials.trial_results import TrialResults
from ravine.finding import Change, Checks, Evidence, Finding
from ravine.record import Score

Say: TypeAlias = Callable[[str], None]  # gets a line before whatever takes a while


def stay_silent(line: str) -> None:
    """Say nothing."""


class CannotTryError(Exception):
    """Why a change cannot be tried on a subject."""


class Treatment(Protocol):
    """One change of a subject that can be tried."""

    @property
    def change(self) -> Change:
        """The change as findings and `--json` name it."""
        ...


Strength: TypeAlias = tuple[Treatment, ...]  # treatments that are made together
RunOwn: TypeAlias = "Callable[[], list[SeedRun]]"  # of the subject as it is


@dataclass(frozen=True)
class Facts:
    """Evidence for a cause, the place, and other causes that it may be."""

    evidence: tuple[Evidence, ...]
    where: str = ""
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeedRun:
    """What one seed reached: loss and score on examples that it did not learn from. The loss is NaN
    where the run diverged. `evaluations` are step, loss and score on the way. `recall` is the mean
    over the classes of the share that is answered right, None if unknown.
    """

    loss: float
    score: float | None
    evaluations: tuple[tuple[int, float, float | None], ...] = ()
    recall: float | None = None


@dataclass(frozen=True)
class TrialBudget:
    """How many seeds and steps trials have: to screen remedies, and to confirm one."""

    screening_seeds: int
    screening_steps: int
    seeds: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class SubjectProfile:
    """What is known of a subject before anything is tried, and its own runs (none: no trials)."""

    findings: list[Finding]
    checks: Checks
    start: StartProfile
    data: DataProfile | None = None
    runs: tuple[SeedRun, ...] = ()
    results: TrialResults | None = None  # its own run, to which trials are compared


class Subject(Protocol):
    """A recipe or a program: what it is, how it runs, and what it knows to change."""

    @property
    def name(self) -> str | None:
        """The folder of its run."""
        ...

    @property
    def score(self) -> Score | None:
        """The score of its run."""
        ...

    @property
    def budget(self) -> TrialBudget: ...

    @property
    def has_budget(self) -> bool:
        """Whether another round of trials is affordable."""
        ...

    def limit_threads(self) -> AbstractContextManager[None]:
        """For the time of an examination, as many threads as serve it best."""
        ...

    def profile(self, *, trials: bool, say: Say) -> SubjectProfile:
        """Profile start and data, make the checks, and run it where there is no run of it."""
        ...

    def strengths(self, cause: str) -> tuple[Strength, ...]:
        """The treatments of a cause to try, from weak to strong; none where nothing can be."""
        ...

    def cures(self, finding: Finding) -> tuple[Strength, ...]:
        """What to try against a cause that is certain, the likeliest first."""
        ...

    def treatments_for(self, changes: Sequence[Change]) -> Strength:
        """What a finding asks to be changed, as treatments; none where that is not possible."""
        ...

    def join(self, strengths: Sequence[Strength]) -> Strength:
        """Treatments of several strengths together: for a setting the last, factors multiplied."""
        ...

    def with_treatments(self, strength: Strength, *, loss_in_doubt: bool) -> "Subject":
        """It with treatments, by its old loss if not in doubt. Raises `CannotTryError`."""
        ...

    def facts(self, cause: str, profile: SubjectProfile) -> Facts | None:
        """What its settings say for a cause."""
        ...

    def run(
        self,
        strengths: Sequence[Strength],
        *,
        seeds: range,
        steps: int | None,
        evaluate_at: Sequence[int] = (),
        loss_in_doubt: bool = False,
    ) -> list[list[SeedRun] | CannotTryError]:
        """Train it with each of some sets of treatments for so many steps (None: its whole budget);
        longer where a treatment makes it longer. Seeds count from its own. Where the loss is in
        doubt each is evaluated by its own.
        """
        ...

    def try_unmeasured_remedies(self, results: TrialResults) -> TrialResults:
        """The results with remedies that loss and score do not measure, where no other helped."""
        ...

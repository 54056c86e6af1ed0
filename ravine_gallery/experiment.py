"""What an experiment of the gallery is: a claim of the lectures, a test of it, and its outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class ExperimentOutcome:
    """What running an experiment gave.

    `held` says whether the claim held on the data; None where it held in part, or where the data
    do not decide. `said` is a few sentences with the numbers and their intervals; `numbers` are the
    same by name, for tests and for the page; `figures` are matplotlib figures by title, each
    readable by itself.
    """

    held: bool | None
    said: str
    numbers: Mapping[str, float]
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim of the lectures and a function that tests it.

    `rows` are the techniques that it shows (O1, S3, ... in docs/techniques.md); `seconds` is about
    what it takes on one core. `run(quick)` works on data with seeds and draws; with `quick` it
    takes fewer seeds and steps, for the tests.
    """

    name: str  # as in `ravine gallery NAME`: lower case, hyphens
    title: str
    claim: str
    rows: tuple[str, ...]
    seconds: float
    run: Callable[[bool], ExperimentOutcome]


def experiment(
    name: str, *, title: str, claim: str, rows: tuple[str, ...], seconds: float
) -> Callable[[Callable[[bool], ExperimentOutcome]], Experiment]:
    """Make a function that tests a claim an `Experiment`, which has the same arguments.

    >>> @experiment("sum", title="A sum", claim="1 + 1 = 2.", rows=("O1",), seconds=1)
    ... def add(quick):
    ...     return ExperimentOutcome(held=1 + 1 == 2, said="It is 2.", numbers={"sum": 2.0})
    >>> add.name, add.run(True).held
    ('sum', True)
    """

    def decorate(run: Callable[[bool], ExperimentOutcome]) -> Experiment:
        return Experiment(name=name, title=title, claim=claim, rows=rows, seconds=seconds, run=run)

    return decorate

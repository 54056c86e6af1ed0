"""What an experiment of the gallery is: a lecture's claim, the code that puts it to the test, and
what came out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What running an experiment gave.

    `held` says whether the claim held on the data; None where it held in part (then `said` says
    which part). `said` is one or two sentences with the numbers and their intervals; `numbers` are
    the same by name, for tests and for the page; `figures` are matplotlib figures by title, each
    readable by itself.
    """

    held: bool | None
    said: str
    numbers: Mapping[str, float]
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim of the lectures, put to the test.

    `rows` are the techniques it shows (O1, S3, ... in docs/techniques.md); `seconds` is about what
    it takes on one core. `run(quick)` works on data with seeds and draws; `quick` takes fewer seeds
    and steps, for the tests.
    """

    name: str  # as in `ravine gallery NAME`: lower case, hyphens
    title: str
    rows: tuple[str, ...]
    claim: str
    seconds: float
    run: Callable[[bool], Outcome]

"""Since when a run has shown what a rule finds."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps

from ravine.diagnosis.rule import Observation
from ravine.diagnosis.training_curves.series import TrainingCurves

Check = Callable[[TrainingCurves], Iterator[Observation]]


def with_onset(check: Check) -> Check:
    """A check that also says since when: the first interim check from which on it always held."""

    @wraps(check)  # the thresholds of the explanation are the constants of its module
    def find(curves: TrainingCurves) -> Iterator[Observation]:
        for seen in check(curves):
            since = curves.steps
            for earlier in reversed(curves.interim_curves[:-1]):
                if not any(s.where == seen.where for s in check(earlier)):
                    break
                since = earlier.steps
            yield seen if seen.since is not None else replace(seen, since=since)

    return find

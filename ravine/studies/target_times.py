"""When networks reach a score on the validation split: never averaged over those that never do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ravine.errors import shorten
from ravine.reporting.text_table import aligned_rows, hanging_text
from ravine.statistics import censored_median
from ravine.studies.tuned_rate import NAME_WIDTH


@dataclass(frozen=True, kw_only=True)
class TargetTimes:
    """When the network of each seed first reached the verdict's target.

    `steps` has NaN for a seed that never did. An epoch has `per_epoch` steps; one of a network
    alone, on one core, takes `step_seconds`.
    """

    steps: tuple[float, ...]
    per_epoch: int
    step_seconds: float

    @property
    def reached(self) -> int:
        """For how many seeds the target was reached."""
        return sum(not math.isnan(steps) for steps in self.steps)


def times_text(times: Mapping[str, TargetTimes], what: str) -> str:
    """A line for each choice: how many seeds reached the target, and their median times."""
    rows = [["", "reached", "epochs", "95 % interval", "steps", "seconds"]]
    for name, one in times.items():
        steps = censored_median(one.steps)
        epochs, low, high = (_number(x / one.per_epoch) for x in steps)
        after = [_number(steps.value), _number(steps.value * one.step_seconds)]
        told = [epochs, f"{low} to {high}", *after] if one.reached else ["never", "", "", ""]
        reached = f"{one.reached} of {len(one.steps)}"
        rows.append([shorten(name, NAME_WIDTH), reached, *told])
    note = (
        "Medians over all seeds, never where half of them never reach it; seconds are of one "
        "network alone, on one core."
    )
    return "\n".join([f"Time to {what}:", *aligned_rows(rows), hanging_text("", note)])


def _number(x: float) -> str:
    return "never" if math.isinf(x) else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"

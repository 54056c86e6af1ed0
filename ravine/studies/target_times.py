"""When networks reach a score on the validation split: never averaged over those that never do."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ravine.errors import shorten
from ravine.reporting.text_table import aligned_rows
from ravine.statistics import censored_median
from ravine.studies.tuned_rate import CHOICE_WIDTH


@dataclass(frozen=True)
class TargetTimes:
    """After how many steps the network of each seed first reached the verdict's target."""

    steps: tuple[float, ...]  # NaN for one that never did
    per_epoch: int
    step_seconds: float  # of one network alone, on one core


def times_text(times: Mapping[str, TargetTimes], target: str) -> str:
    """A line for each choice: how many seeds reached the target, and their median times."""
    rows = [["", "reached", "epochs", "95 % interval", "steps", "seconds"]]
    for name, one in times.items():
        steps = censored_median(one.steps)
        epochs, low, high = (_number(x / one.per_epoch) for x in steps)
        after = [_number(steps.value), _number(steps.value * one.step_seconds)]
        count = sum(not math.isnan(x) for x in one.steps)
        cells = [epochs, f"{low} to {high}", *after] if count else ["never", "", "", ""]
        rows.append([shorten(name, CHOICE_WIDTH), f"{count} of {len(one.steps)}", *cells])
    note = "Medians over all seeds; seconds are of one network alone, on one core."
    return "\n".join([f"Time to {target} on validation rows:", *aligned_rows(rows), note])


def _number(x: float) -> str:
    return "never" if math.isinf(x) else f"{x:,.0f}" if x >= 100 else f"{x:.3g}"

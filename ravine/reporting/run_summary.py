"""A run's record as text for a terminal of 80 columns: what was inferred, how it went, the score,
what acted.
"""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ravine.record import Record, Score

WIDTH = 80
LABEL = 12  # columns of the labels on the left
JOINT = "\u00a0"  # a space at which lines are not broken


def summary(record: Record, *, folder: str = "", new_rows: str = "new.csv") -> str:
    """The result of a finished run. `folder` is where it was written; the last line is the next
    command.
    """
    blocks = [
        _block("data", record.notes),
        _block("network", [_network(record)]),
        _block("training", _training(record)),
        _block("techniques", _techniques(record)),
        _block("did nothing", [f"{e.name}: {e.meaning} is 0" for e in record.idle()]),
        _block(
            "events",
            [e.text for e in record.events if e.member is None and not e.kind.startswith("RVN-")],
        ),
        _block("score", _score(record)),
        _block("run", [folder] if folder else []),
        _block(
            "next",
            [f"ravine predict {folder} {new_rows} -o out.csv"] if folder and record.score else [],
        ),
    ]
    return "\n".join(block for block in blocks if block)


def _block(label: str, lines: Sequence[str]) -> str:
    """Lines beside a label, wrapped to the width but not at `JOINT`; nothing where there are none.
    Paths stay whole.
    """
    wrap = textwrap.TextWrapper(
        WIDTH - LABEL, break_long_words=False, break_on_hyphens=False, subsequent_indent="  "
    )
    wrapped = [part.replace(JOINT, " ") for line in lines for part in wrap.wrap(line)]
    if not wrapped:
        return ""
    return "\n".join(f"{label if i == 0 else '':{LABEL}}{line}" for i, line in enumerate(wrapped))


def _network(record: Record) -> str:
    recipe = record.recipe
    hidden = recipe["network"].get("hidden", ())
    sizes = "-".join(map(str, [record.task["features"], *hidden]))
    sizes += ", linear" if recipe["network"]["name"] == "Mlp" and not hidden else ""
    coded = (
        f", {len(record.task['code_sizes'])} embedded columns" if record.task["code_sizes"] else ""
    )
    weights = f", {record.task['weights']:,} weights" if record.task["weights"] else ""
    return f"{recipe['network']['name']} {sizes}{coded}{weights}, {len(record.members)} members"


def _training(record: Record) -> list[str]:
    recipe, steps = record.recipe, sorted(m.best_step for m in record.members)
    ends = ", ".join(
        f"{n} {outcome}"
        for outcome in ("finished", "stopped", "diverged", "interrupted")
        if (n := sum(m.outcome == outcome for m in record.members))
    )
    lines = [
        f"{_optimizer(recipe['optimizer'])}, {_schedule(recipe['schedule'])}, "
        f"batch{JOINT}{recipe['batch']}, at most {recipe['epochs']}{JOINT}epochs"
    ]
    if record.failures:
        lines.insert(
            0,
            f"{record.failures} of {len(record.members)} networks diverged and are left out of the "
            f"model",
        )
    best = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
    return [*lines, f"{ends}; best weights after {best} steps; {record.seconds:.1f}{JOINT}s"]


def _optimizer(optimizer: Mapping[str, Any]) -> str:
    """The name of an optimizer and its learning rate, or the optimizer that it is put around."""
    inner = optimizer.get("inner")
    if isinstance(inner, Mapping):
        return f"{optimizer['name']} around {_optimizer(inner)}"
    return f"{optimizer['name']} lr{JOINT}{optimizer['lr']:g}"


def _schedule(schedule: Mapping[str, Any]) -> str:
    """The name of a schedule, and of the one that follows where it is but a beginning."""
    after = schedule.get("then")
    return (
        f"{schedule['name']} then {_schedule(after)}"
        if isinstance(after, Mapping)
        else schedule["name"]
    )


def _techniques(record: Record) -> list[str]:
    """One line of every technique that acted, with the median of its number over the members."""
    shown = [
        f"{e.name.replace(' ', JOINT)}{JOINT}{statistics.median(e.values):.3g}"
        for e in record.effects
        if e.acted
    ]
    return ["; ".join(shown)] if shown else []


def _score(record: Record) -> list[str]:
    score = record.score
    if score is None:
        return [
            "none: every network diverged"
            if record.failures == len(record.members)
            else "none: no rows were kept for it"
        ]
    lines = [
        f"{score.metric} {score.value:.4f} on {score.examples:,} {score.split} rows, "
        f"{score.confidence:.0%} interval {score.low:.4f} to {score.high:.4f}"
    ]
    if len(score.members) > 1:
        lines.append(_spread(score))
    others = [
        f"{name} {_number(value)}" for name, value in score.others.items() if name != score.metric
    ]
    return [*lines, "; ".join(others)] if others else lines


def _spread(score: Score) -> str:
    low, high = min(score.members), max(score.members)
    return (
        f"members alone {statistics.fmean(score.members):.4f} on average, {low:.4f} to {high:.4f}"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

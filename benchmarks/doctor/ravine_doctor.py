"""Ravine as the examination's doctor: loops under its watch, setups under its examination.

Run: python -m benchmarks.doctor.score benchmarks.doctor.ravine_doctor:doctor --half report
"""

from __future__ import annotations

from typing import Any

import ravine
from benchmarks.doctor.examined import examine_setup
from benchmarks.doctor.program import Program
from ravine.finding import arrange
from ravine.watching.watcher import Watcher


def doctor(program: Program, seed: int) -> list[dict[str, Any]]:
    """The findings on one program, as `--json` writes them, most important first."""
    return watched(program, seed) if program.kind == "loop" else examine_setup(program, seed)


def watched(program: Program, seed: int) -> list[dict[str, Any]]:
    """What is found while a loop runs; a program that watches several models or optimizers has one
    list.
    """
    given: list[Watcher] = []

    def watch(*args: Any) -> Watcher:
        given.append(ravine.watch(*args, quiet=True))
        return given[-1]

    program.run(seed, watch)
    broken = [message for one in given for message in one.report().checks.failed]
    if broken:
        raise RuntimeError(f"watching failed: {', '.join(broken)}")
    return [f.to_json() for f in arrange(f for one in given for f in one.findings())]

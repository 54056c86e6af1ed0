"""`ravine.examine` as a doctor for programs of the kind setup."""

from __future__ import annotations

from typing import Any

from benchmarks.doctor.program import Program
from ravine.examination.api import examine


def examine_setup(program: Program, seed: int) -> list[dict[str, Any]]:
    s = program.build(seed)
    report = examine(
        s.model,
        s.loss,
        s.train,
        optimizer=s.optimizer,
        validation=s.validation,
        batch_size=s.batch_size,
        epochs=s.epochs,
        seed=seed,
    )
    return report.to_json()["findings"]

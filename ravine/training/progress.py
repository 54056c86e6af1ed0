"""Who may look at a run and stop it: progress for faces, checkpoints at intervals, an end asked
for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ravine.finding import Finding
from ravine.training.checkpoint import save
from ravine.training.cohort import Cohort
from ravine.training.live_diagnosis import is_look, judge

STEPS_BETWEEN_LOOKS = 8  # how often the clock and the stop file are looked at


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a cohort stands after an evaluation: medians over the networks that are still
    training.
    """

    job: int
    jobs: int
    step: int
    steps: int
    per_epoch: int
    networks: int
    training: int
    values: dict[str, float]  # the newest value of each series
    findings: tuple[Finding, ...] = ()  # what this evaluation showed for the first time


@dataclass(kw_only=True)
class Control:
    """Given to the loop as its `pause`: saves every `seconds`, reports evaluations, ends when
    asked.

    At looks the course is judged; a finding is saved at once, so that a run that goes on does not
    tell it again. `stop` is a file: when it exists, the run is to be saved and left. It reaches
    every process of a run.
    """

    job: int = 0
    jobs: int = 1
    checkpoint: Path | None = None
    stop: Path | None = None
    seconds: float = 30.0
    report: Callable[[Progress], None] | None = None
    interrupted: bool = False
    alpha: float = 0.0  # this job's share of the budget of false alarms; 0: it is not judged
    _saved: float = field(default_factory=time.monotonic)
    _reported: int = -1

    def __call__(self, cohort: Cohort) -> bool:
        points = cohort.series.get("train/loss")
        if points and points[-1][0] == cohort.step != self._reported:
            self._reported = cohort.step
            found = judge(cohort, alpha=self.alpha) if self.alpha and is_look(cohort) else ()
            if found and cohort.ids and self.checkpoint is not None:
                save(cohort, self.checkpoint)
            if self.report is not None:
                self.report(replace(self._progress(cohort), findings=found))
        if not cohort.ids or cohort.step % STEPS_BETWEEN_LOOKS:
            # when all have left, what is kept of them is not settled yet: the job saves it then
            return False
        if self.stop is not None and self.stop.exists():
            self.interrupted = True
            if self.checkpoint is not None:
                save(cohort, self.checkpoint)
            return True
        if self.checkpoint is not None and time.monotonic() - self._saved >= self.seconds:
            save(cohort, self.checkpoint)
            self._saved = time.monotonic()
        return False

    def _progress(self, cohort: Cohort) -> Progress:
        newest = {name: _median(points[-1][1]) for name, points in cohort.series.items()}
        return Progress(
            job=self.job,
            jobs=self.jobs,
            step=cohort.step,
            steps=cohort.job.plan.steps,
            per_epoch=cohort.job.plan.per_epoch,
            networks=len(cohort.job.seeds),
            training=len(cohort.ids),
            values=newest,
        )


def _median(values: list[float]) -> float:
    known = sorted(v for v in values if v == v)
    return known[len(known) // 2] if known else float("nan")

"""Control over a job: reports of its progress, checkpoints at intervals, a requested stop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ravine.finding import Finding
from ravine.ranks import Ranks, is_first
from ravine.run_progress import Progress, ProgressBoard
from ravine.training.checkpoint import save_checkpoint
from ravine.training.cohort import Cohort, Job
from ravine.training.cohort_state import TrainingLog
from ravine.training.live_diagnosis import diagnose_cohort, is_diagnosis_due
from ravine.training.run_lock import request_stop

STEPS_BETWEEN_CONTROLS = 8  # how often the clock and the stop file are looked at


@dataclass(kw_only=True)
class JobControl:
    """Given to the loop as its `pause`: saves every `seconds`, reports, ends when asked.

    Past the share `until` of the budget the job is left at its next evaluation, too, to go on from
    its checkpoint; networks of the job that are in `leaving` then leave first, with that outcome.
    From time to time the training curves are diagnosed; a finding is saved at once, so that a run
    that is resumed does not report it again. `stop` is a file: when it exists, the run is saved and
    left. It reaches every process of a run. Of several `ranks` the first writes and reports, and
    all stop after the same step.
    """

    job: int = 0
    checkpoint: Path | None = None
    stop: Path | None = None
    seconds: float = 30.0
    report: Callable[[Progress], None] | None = None
    board: ProgressBoard | None = None
    interrupted: bool = False
    until: float = 1.0
    leaving: dict[int, str] = field(default_factory=dict)
    ranks: Ranks | None = None
    alpha: float = 0.0  # this job's share of the budget of false alarms; 0: no diagnosis
    _saved: float = field(default_factory=time.monotonic)
    _reported: int = -1
    _controlled: int = 0
    _stop_requested: bool = False

    @property
    def is_stop_requested(self) -> bool:
        """Whether the run is to be saved and left: by all ranks, where there are several."""
        return self.is_asked_to_stop if self.ranks is None else self.ranks.stops

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._stop_requested or (self.stop is not None and self.stop.exists())

    def has_come(self, cohort: Cohort) -> bool:
        """Whether a job has come as far as it is to train for now."""
        steps = cohort.job.plan.steps
        return self.until * steps <= cohort.step < steps

    def request_stop(self) -> None:
        """Ask this job, and all that look at the same file, to save and leave."""
        self._stop_requested = True
        if self.stop is not None:
            request_stop(self.stop)

    def __call__(self, cohort: Cohort) -> bool:
        if not cohort.log.is_new("train/loss", cohort.step) and cohort.step != self._reported:
            self._reported = cohort.step
            self._after_evaluation(cohort)
            if cohort.ids and self.has_come(cohort):
                self.interrupted = True
                self._save(cohort)
                return True
        if not cohort.ids or cohort.step < self._controlled + STEPS_BETWEEN_CONTROLS:
            # when all have left, what is kept of them is not final yet: the job saves it then
            return False
        self._controlled = cohort.step
        if self.is_stop_requested:
            self.interrupted = True
            self._save(cohort)
            return True
        if time.monotonic() - self._saved >= self.seconds:
            self._save(cohort)
            self._saved = time.monotonic()
        return False

    def _after_evaluation(self, cohort: Cohort) -> None:
        found: tuple[Finding, ...] = ()
        if self.alpha and is_diagnosis_due(cohort):
            found = diagnose_cohort(cohort, alpha=self.alpha)
        if found and cohort.ids:
            self._save(cohort)
        self.tell(cohort.log, cohort.job, cohort.step, training=len(cohort.ids), found=found)

    def tell(
        self, log: TrainingLog, job: Job, step: int, *, training: int, found: Sequence[Finding] = ()
    ) -> None:
        """Report where a job stands, to the board and to who asked for reports."""
        if self.board is not None:
            share = step / job.plan.steps if training else 1.0
            self.board.write(self.job, share=share, training=training)
        if self.report is not None:
            newest = {name: _median(points[-1][1]) for name, points in log.series.items()}
            progress = Progress(
                step=step,
                steps=job.plan.steps,
                per_epoch=job.plan.per_epoch,
                networks=len(job.seeds),
                training=training,
                values=newest,
                findings=tuple(found),
                board=self.board,
            )
            self.report(progress)

    def _save(self, cohort: Cohort) -> None:
        if self.checkpoint is not None and is_first(self.ranks):
            save_checkpoint(cohort, self.checkpoint)


def _median(values: list[float]) -> float:
    known = sorted(v for v in values if v == v)
    return known[len(known) // 2] if known else float("nan")

"""How far a run is: what its jobs report, and the board that all of its processes know."""

import contextlib
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ravine.finding import Finding

JOB_ROW = struct.Struct("dd")  # the share of a job's steps that is done, networks still training


class RunProgress(NamedTuple):
    """Where a run stands: the share of its work that is done (a job that ended early is done),
    networks still training, of all.
    """

    share: float
    training: int
    networks: int


class ProgressBoard:
    """A small file in which each job, in whatever process, notes how far it is.

    `seconds` are the jobs' estimated times, `networks` how many each trains. The file goes with the
    board of the process that made it; a copy in another process writes into the same file.

    >>> board = ProgressBoard([3.0, 1.0], [4, 4])
    >>> board.write(0, share=0.5, training=4)
    >>> board.write(1, share=1.0, training=0)
    >>> board.read()
    RunProgress(share=0.625, training=4, networks=8)
    """

    def __init__(self, seconds: Sequence[float], networks: Sequence[int]):
        self.weights = [each / sum(seconds) for each in seconds]
        self.networks = list(networks)
        self._file: Any = tempfile.NamedTemporaryFile(prefix="ravine-progress-")
        self.path = self._file.name
        for job, count in enumerate(networks):
            self.write(job, share=0.0, training=count)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_file": None}

    def write(self, job: int, *, share: float, training: int) -> None:
        """Note where a job stands. What cannot be written is not worth ending a run."""
        with contextlib.suppress(OSError), open(self.path, "r+b") as file:
            os.pwrite(file.fileno(), JOB_ROW.pack(share, training), job * JOB_ROW.size)

    def read(self) -> RunProgress:
        """Where the run stands."""
        self._file.seek(0)
        rows = [*JOB_ROW.iter_unpack(self._file.read(JOB_ROW.size * len(self.networks)))]
        share = sum(w * row[0] for w, row in zip(self.weights, rows, strict=True))
        return RunProgress(share, int(sum(row[1] for row in rows)), sum(self.networks))


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a cohort stands after an evaluation: medians over the networks still training."""

    step: int
    steps: int
    per_epoch: int
    networks: int
    training: int
    values: dict[str, float]  # the newest value of each series
    findings: tuple[Finding, ...] = ()  # what this evaluation showed for the first time
    board: ProgressBoard | None = None  # where all jobs stand, if there are several

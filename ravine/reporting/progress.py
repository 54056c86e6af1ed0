"""Progress on stderr: one live line on a terminal, a plain line every few seconds elsewhere,
nothing when quiet.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from ravine.finding import Finding
from ravine.reporting.findings_text import finding_line

PLAIN_SECONDS = 5.0  # between lines where the stream is no terminal
LIVE_SECONDS = 0.1


class ProgressLine:
    """Called with where a run stands; writes at most one line for it. `close` leaves the terminal
    tidy.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.began = time.monotonic()
        self._last = -1e9
        self._open = False

    def __call__(self, at: Any) -> None:
        for finding in at.findings:
            self._tell(finding)
        now = time.monotonic()
        last_step = at.step == at.steps
        if now - self._last < (LIVE_SECONDS if self.live else PLAIN_SECONDS) and not last_step:
            return
        self._last = now
        text = line(
            at.values,
            step=at.step,
            steps=at.steps,
            per_epoch=at.per_epoch,
            training=at.training,
            networks=at.networks,
            seconds=now - self.began,
            job=at.job,
            jobs=at.jobs,
        )
        if self.live:
            self.stream.write(f"\r\x1b[2K{text[: _columns() - 1]}")
            self._open = True
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def _tell(self, finding: Finding) -> None:
        """Write a finding above the live line."""
        self.close()
        plain = not (self.stream.encoding or "").lower().startswith("utf")
        self.stream.write(finding_line(finding, width=min(80, _columns()), plain=plain) + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Clear the live line."""
        if self._open:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
            self._open = False


def line(
    values: Mapping[str, float],
    *,
    step: int,
    steps: int,
    per_epoch: int,
    training: int,
    networks: int,
    seconds: float,
    job: int = 0,
    jobs: int = 1,
) -> str:
    """Where a run stands, in one line: medians over the networks that are still training.

    >>> line({"train/loss": 0.5, "validation/loss": 0.6, "validation/r2": 0.7}, step=20,
    ...      steps=100, per_epoch=10,
    ...      training=3, networks=8, seconds=61.0)
    'epoch 2/10  1:01  loss 0.5, validation 0.6  r2 0.7  3/8 nets'
    """
    part = f"part {job + 1}/{jobs}  " if jobs > 1 else ""
    labels = {"train/loss": "loss", "validation/loss": "validation"}
    losses = [f"{label} {values[name]:.3g}" for name, label in labels.items() if name in values]
    scores = [
        f"{what} {value:.3g}"
        for name, value in values.items()
        for split, _, what in [name.partition("/")]
        if split == "validation" and what != "loss"
    ]
    clock = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    epoch = f"{part}epoch {step // per_epoch}/{steps // per_epoch}  {clock}"
    return "  ".join([epoch, ", ".join(losses), *scores, f"{training}/{networks} nets"])


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80

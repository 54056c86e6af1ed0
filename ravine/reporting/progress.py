"""Progress on stderr: one live line on a terminal, a plain line every few seconds elsewhere."""

import os
import sys
import time
from typing import Any, TextIO

from ravine.finding import Finding
from ravine.reporting.findings_text import finding_line

PLAIN_SECONDS = 5.0  # between lines where the stream is not a terminal
LIVE_SECONDS = 0.1


class ProgressLine:
    """Called with each `Progress` of a run; writes at most one line. `close` clears it."""

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.began = time.monotonic()
        self._last = -1e9
        self._open = False

    def __call__(self, at: Any) -> None:
        for finding in at.findings:
            self._write_finding(finding)
        now = time.monotonic()
        pause = LIVE_SECONDS if self.live else PLAIN_SECONDS
        if now - self._last < pause and at.step != at.steps:
            return
        self._last = now
        text = progress_line(at, seconds=now - self.began)
        self._open = self.live
        self.stream.write(f"\r\x1b[2K{text[: _columns() - 1]}" if self.live else text + "\n")
        self.stream.flush()

    def _write_finding(self, finding: Finding) -> None:
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


def progress_line(at: Any, *, seconds: float) -> str:
    """A `Progress` in one line: medians over the networks that are still training.

    >>> from types import SimpleNamespace
    >>> values = {"train/loss": 0.5, "validation/loss": 0.6, "validation/r2": 0.7}
    >>> at = SimpleNamespace(values=values, step=20, steps=100, per_epoch=10, training=3,
    ...                      networks=8, job=0, jobs=1)
    >>> progress_line(at, seconds=61.0)
    'epoch 2/10  1:01  loss 0.5, validation 0.6  r2 0.7  3/8 nets'
    """
    part = f"part {at.job + 1}/{at.jobs}  " if at.jobs > 1 else ""
    epoch = f"{part}epoch {at.step // at.per_epoch}/{at.steps // at.per_epoch}"
    clock = f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    labels = {"train/loss": "loss", "validation/loss": "validation"}
    losses = [f"{label} {at.values[n]:.3g}" for n, label in labels.items() if n in at.values]
    split = "validation/"
    measured = {n.removeprefix(split): v for n, v in at.values.items() if n.startswith(split)}
    scores = [f"{name} {value:.3g}" for name, value in measured.items() if name != "loss"]
    nets = f"{at.training}/{at.networks} nets"
    return "  ".join([epoch, clock, ", ".join(losses), *scores, nets])


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80

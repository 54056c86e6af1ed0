"""Progress on stderr: one live line on a terminal, a plain line every few seconds elsewhere."""

import os
import sys
import threading
import time
from typing import TextIO

from ravine.reporting.findings_text import finding_line
from ravine.run_progress import Progress

PLAIN_SECONDS = 5.0  # between lines where the stream is not a terminal
LIVE_SECONDS = 0.1
BOARD_SECONDS = 1.0  # between looks at what other processes have done


class ProgressLine:
    """Called with each `Progress` of a run; writes at most one line. `close` clears it.

    Where other processes train a part of the run, a thread writes the line anew from what they note
    on the board, also when this process has trained its own part.
    """

    def __init__(self, stream: TextIO | None = None):
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.began = time.monotonic()
        self._first: tuple[float, float] | None = None  # seconds, and share that was done
        self._at: Progress | None = None
        self._last = -1e9
        self._open = False
        self._closed = threading.Event()
        self._lock = threading.RLock()

    def __call__(self, at: Progress) -> None:
        with self._lock:
            for finding in at.findings:  # above the live line
                self._clear()
                plain = not (self.stream.encoding or "").lower().startswith("utf")
                line = finding_line(finding, width=min(80, _columns()), plain=plain)
                self.stream.write(f"{line}\n")
                self.stream.flush()
            if self._at is None and at.board is not None:
                threading.Thread(target=self._keep_writing, daemon=True).start()
            self._at = at
            self._write_line(at, now=at.step == at.steps)

    def _keep_writing(self) -> None:
        """Write the line again and again until it is closed."""
        while not self._closed.wait(BOARD_SECONDS):
            with self._lock:
                assert self._at is not None  # the first report has begun this thread
                try:
                    self._write_line(self._at)
                except (OSError, ValueError):  # the stream is gone
                    return

    def _write_line(self, at: Progress, *, now: bool = False) -> None:
        seconds = time.monotonic() - self.began
        pause = LIVE_SECONDS if self.live else PLAIN_SECONDS
        known = None if at.board is None else at.board.read()
        ended = known is not None and (known.training == 0 or known.share >= 1)
        if self._closed.is_set() or ((ended or seconds - self._last < pause) and not now):
            return
        self._last = seconds
        text = progress_line(at, seconds=seconds, left=self._seconds_left(at, seconds))
        self._open = self.live
        self.stream.write(f"\r\x1b[2K{text[: _columns() - 1]}" if self.live else text + "\n")
        self.stream.flush()

    def _seconds_left(self, at: Progress, seconds: float) -> float | None:
        """How long the rest will take at the speed since the first report, if that is known."""
        share = at.step / at.steps if at.board is None else at.board.read().share
        if self._first is None:
            self._first = (seconds, share)
        gone, done = seconds - self._first[0], share - self._first[1]
        return gone / done * (1 - share) if done > 0 else None

    def _clear(self) -> None:
        if self._open:
            self.stream.write("\r\x1b[2K")
            self.stream.flush()
            self._open = False

    def write_above(self, text: str) -> None:
        """Write a line that stays, above the live one, and measure the speed anew."""
        with self._lock:
            self._clear()
            self.stream.write(f"{text}\n")
            self.stream.flush()
            self._first = None

    def close(self) -> None:
        """Clear the live line; no other is written."""
        with self._lock:
            self._closed.set()
            self._clear()


def progress_line(at: Progress, *, seconds: float, left: float | None = None) -> str:
    """A `Progress` in one line: medians over the networks that are still training.

    Of a run in several parts, the share that is done stands in place of the epoch, and `at`'s part
    has the values.

    >>> values = {"train/loss": 0.5, "validation/loss": 0.6, "validation/r2": 0.7}
    >>> at = Progress(values=values, step=20, steps=100, per_epoch=10, training=3, networks=8)
    >>> progress_line(at, seconds=61.0, left=244.0)
    'epoch 2/10  1:01, 4:04 left  loss 0.5, validation 0.6  r2 0.7  3/8 nets'
    """
    training, networks = at.training, at.networks
    done = f"epoch {at.step // at.per_epoch}/{at.steps // at.per_epoch}"
    if at.board is not None:
        share, training, networks = at.board.read()
        done = f"{int(100 * share)} % done"
    rest = "" if left is None else f", {_clock(round(left))} left"
    labels = {"train/loss": "loss", "validation/loss": "validation"}
    losses = [f"{label} {at.values[n]:.3g}" for n, label in labels.items() if n in at.values]
    split = "validation/"
    measured = {n.removeprefix(split): v for n, v in at.values.items() if n.startswith(split)}
    scores = [f"{name} {value:.3g}" for name, value in measured.items() if name != "loss"]
    nets = f"{training}/{networks} nets"
    return "  ".join([done, f"{_clock(seconds)}{rest}", ", ".join(losses), *scores, nets])


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 80

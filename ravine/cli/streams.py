"""The standard streams of a process: all three are open, and losing one ends nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, TextIO


def open_streams() -> None:
    """Open those of the three standard streams that were closed when the process started.

    A file opened later would take the number of a closed one, and what is printed would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w", encoding="utf-8")
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that are not UTF-8
        setattr(sys, name, stream)
    sys.stderr = LastingStream(sys.stderr)


class LastingStream:
    """A stream whose end ends nothing: once nobody takes what is written, it is dropped."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        with self._dropping():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            pass  # a signal came while a line was written: what its handler prints is left out
        except (OSError, ValueError):
            drop_output(self.stream)


def has_no_reader(stream: TextIO, error: OSError) -> bool:
    """Whether a stream could not be written to since a pipe's reader ended or a terminal closed."""
    if error.errno == errno.EIO and error.filename is None:
        with contextlib.suppress(OSError, ValueError):
            return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    return isinstance(error, BrokenPipeError)


def drop_output(stream: TextIO) -> None:
    """Send what is and will be written to a stream to the null device, as nothing reads it."""
    with contextlib.suppress(OSError, ValueError):
        # else Python complains once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

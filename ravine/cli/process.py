"""A command as a process: its streams, the signals that end it, its exit code."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from ravine.cli.signals import ENDING_SIGNALS, Stopped, set_handler, stop
from ravine.cli.streams import open_streams


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code; a user's mistake ends in one message."""
    open_streams()
    once = StopOnce()
    sys.unraisablehook = once.report_unraisable
    set_handler(once)
    try:
        from ravine.cli.app import run_command

        code = run_command(sys.argv[1:] if arguments is None else arguments)
    except BaseException:
        if once.number is None:
            raise
        print("interrupted", file=sys.stderr)  # what was raised is a consequence
        code = 128 + once.number
    for number in ENDING_SIGNALS:  # nothing is left to stop
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


class StopOnce:
    """A handler of signals: the first ends what is done, a second Ctrl-C the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            stop(number, frame)
        if number == signal.SIGINT:
            os._exit(128 + number)

    def report_unraisable(self, given: Any) -> None:
        """What Python does where an exception cannot be raised: in `__del__`, in a callback."""
        if isinstance(given.exc_value, Stopped):
            self.number = None
            signal.raise_signal(given.exc_value.number)  # once more, at the next instruction
        elif self.number is None:
            sys.__unraisablehook__(given)

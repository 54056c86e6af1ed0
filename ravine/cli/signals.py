"""Signals that end a process: Ctrl-C, a request of the system, a terminal that was closed."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeAlias

SignalHandler: TypeAlias = Callable[[int, FrameType | None], Any]
ENDING_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Stopped(BaseException):
    """Raised where a signal ends what is done; `number` is the signal's.

    Not a `KeyboardInterrupt`: some libraries catch that and raise something else.
    """

    def __init__(self, number: int):
        super().__init__(f"signal {number}")
        self.number = number


def stop(number: int, frame: FrameType | None) -> NoReturn:
    """End what is done by `Stopped`; while a module is imported, the process, with a message.

    A module in C++ may abort where its import is interrupted, and there is nothing to tidy up yet.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(128 + number)
        frame = frame.f_back
    raise Stopped(number)


def set_handler(handler: SignalHandler) -> dict[int, Any]:
    """Install a handler for all signals that end a process; returns those it replaces, by signal.

    A signal that the process was started to ignore, as `nohup` has it ignore SIGHUP, stays ignored.
    Nothing is installed outside the main thread, where alone Python calls handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    heeded = [n for n in ENDING_SIGNALS if signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in {signal.SIGINT, *heeded}}


@contextlib.contextmanager
def handle_signals(handler: SignalHandler) -> Iterator[None]:
    """Handle all signals that end a process by `handler`, while in the block."""
    before = set_handler(handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

"""What failed while watching: it is reported, and never stops the watched loop."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch.compiler import is_compiling

MAX_FAILURES = 64


class FailureLog:
    """The rules that failed, by code, and the errors that hooks raised."""

    def __init__(self) -> None:
        self.failed: dict[str, None] = {}

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """A hook that calls a function, and keeps an error that it raises. While torch.compile
        traces, it does nothing: it would become a part of what is compiled.
        """
        return _Hook(self, function)


class _Hook:
    """A guarded function. Copies of a hooked model, and its file, have one that does nothing."""

    def __init__(self, log: FailureLog, function: Callable[..., None]):
        self._log, self._function = log, function

    def __call__(self, *arguments: Any) -> None:
        if is_compiling():
            return
        try:
            self._function(*arguments)
        except Exception as error:
            if len(self._log.failed) < MAX_FAILURES:
                self._log.failed[f"watching: {type(error).__name__}, {str(error)[:80]}"] = None

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")  # it takes anything, and needs no ravine

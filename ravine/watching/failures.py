"""What failed while watching: it is reported, and never stops the watched loop."""

from collections.abc import Callable
from typing import Any

from torch.compiler import is_compiling

MAX_FAILURES = 64


class FailureLog:
    """The rules that failed, by code, and the errors that hooks raised."""

    def __init__(self) -> None:
        self.failed: dict[str, None] = {}

    def guard(self, function: Callable[..., None]) -> Callable[..., None]:
        """A hook that calls a function, and keeps an error that it raises.

        While torch.compile traces, it does nothing: it would become a part of what is compiled.
        """

        def hook(*arguments: Any) -> None:
            if is_compiling():
                return
            try:
                function(*arguments)
            except Exception as error:
                if len(self.failed) < MAX_FAILURES:
                    self.failed[f"watching: {type(error).__name__}, {str(error)[:80]}"] = None

        return hook

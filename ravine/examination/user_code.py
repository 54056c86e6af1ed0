"""Calls of somebody's model, loss or data: whatever they raise becomes one kind of error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ravine.errors import InputError

Result = TypeVar("Result")


class UserCodeError(Exception):
    """Somebody's code raised something; the text says what."""


def run_user_code(call: Callable[[], Result]) -> Result:
    """What a call returns. Raises `UserCodeError` for whatever it raises, but for `InputError`.

    >>> run_user_code(lambda: 1 / 0)
    Traceback (most recent call last):
    ravine.examination.user_code.UserCodeError: ZeroDivisionError: division by zero
    """
    try:
        return call()
    except InputError:
        raise
    except Exception as error:
        raise UserCodeError(f"{type(error).__name__}: {error}"[:300]) from error

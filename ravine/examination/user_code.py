"""Calls of a user's model, loss or data: whatever they raise becomes one kind of error."""

import contextlib
from collections.abc import Iterator

from ravine.errors import InputError


@contextlib.contextmanager
def explain_errors(what: str, do: str) -> Iterator[None]:
    """Raise `InputError` for whatever is raised inside, with what cannot be done and what to do."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(what, why=f"{type(error).__name__}: {error}"[:300], do=do) from error

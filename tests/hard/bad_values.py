"""Values of the wrong kind, and what calling something with one of them ends in."""

import contextlib
import datetime
import math
import resource
import signal
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravine.errors import RavineError
from ravine.networks.activations import ReLU
from ravine.optimizers import Lookahead
from ravine.part import is_part

SECONDS = 60  # with other work beside
SPARE_BYTES = 6 * 2**30  # that a call may ask for, beside what the process has
MOST_LETTERS = 600


def nested(depth: int) -> list[Any]:
    """An empty list in a list in a list ..."""
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


VALUES: Mapping[str, Any] = {
    "none": None,
    "empty text": "",
    "a word": "words",
    "a long word": "x" * 5_000,
    "control characters": "a\x1b[2Jb\n",
    "a NUL": "a\0b",
    "half a pair": "a\udcffb",
    "a missing file": "nowhere/r.toml",
    "bytes": b"x",
    "true": True,
    "zero": 0,
    "three": 3,
    "minus one": -1,
    "half": 0.5,
    "two and a half": 2.5,
    "nan": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "1e300": 1e300,
    "1e-320": 1e-320,
    "2**63 - 1": 2**63 - 1,
    "10**30": 10**30,
    "-10**30": -(10**30),
    "5,000 digits": 10**5_000,
    "a complex number": 1j,
    "an array": np.array([1.0, 2.0]),
    "an empty list": [],
    "a list": [1, 2],
    "a list of words": ["a", ""],
    "nested 2,000 deep": nested(2_000),
    "a table": {"a": 1},
    "an empty table": {},
    "a table with a name": {"name": "Adam", "lr": "high"},
    "numbers as keys": {3: 4},
    "a set": {1},
    "an object": object(),
    "a module": math,
    "a class": dict,
    "a function": len,
    "a date": datetime.date(2020, 1, 1),
    "an activation": ReLU(),
    "an optimizer": Lookahead(),
}


@dataclass(frozen=True)
class Kind:
    """A call with one wrong value. `may_pass` says of what it returned whether that was right."""

    name: str
    call: Callable[[], Any]
    may_pass: Callable[[Any], bool]


def failure(kind: Kind) -> str:
    """What is wrong with how a call ended; empty where nothing is."""
    try:
        with bounded():
            found = kind.call()
    except RavineError as error:
        return bad_message(str(error))
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "" if kind.may_pass(found) else "accepted"


def bad_message(text: str) -> str:
    """What is wrong with a message to a user."""
    if len(text) > MOST_LETTERS:
        return f"{len(text)} letters: {text[:200]}"
    return "" if text.strip() and "object at 0x" not in text else f"says nothing: {text[:200]}"


class TooLongError(BaseException):
    """A call took more than its seconds."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Seconds and memory are bounded in the block; warnings are no errors."""

    def stop(*_: object) -> None:
        raise TooLongError(f"more than {SECONDS} seconds")

    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, limits[1]))
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def conforms(value: Any, hint: Any) -> bool:
    """Whether a value is one that an annotation allows; a bool is no number, NaN and ∞ are none."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin is typing.Annotated:
        return conforms(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, one) for one in inner)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        number = isinstance(value, (int, float)) and type(value) is not bool
        return number and abs(value) < 3.4e38 and not math.isnan(value)
    if hint is int:
        return type(value) is int
    if origin is tuple:
        return isinstance(value, (tuple, list)) and all(conforms(v, inner[0]) for v in value)
    if origin in (Mapping, dict):
        entries = isinstance(value, Mapping) and value.items()
        pairs = list(entries) if entries is not False else [(object(), None)]
        return all(conforms(k, inner[0]) and conforms(v, inner[1]) for k, v in pairs)
    if origin in (Sequence, Iterable, list):
        listed = isinstance(value, (tuple, list)) and not isinstance(value, str)
        return listed and all(conforms(v, inner[0]) for v in value)
    if origin is Callable:
        return callable(value)
    if getattr(hint, "_is_protocol", False):
        return is_part(value) and not isinstance(value, type)
    wanted = origin or hint
    return isinstance(value, wanted) if isinstance(wanted, type) else True

"""The arguments of public functions, checked by their annotations before any work."""

import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from ravine.errors import InputError, join_first, nearest, value_text
from ravine.files import require_path
from ravine.part import broken_bound, broken_number, members_of

ARRAY_LEAVES = set(typing.get_args(ArrayLike))
CHECKED_ENTRIES = 1_000  # the first of a list
HINT_WORDS: Mapping[Any, str] = {
    int: "an integer",
    float: "a finite number",
    str: "a string",
    bool: "True or False",
    type(None): "None",
    nn.Module: "a torch.nn.Module",
    os.PathLike: "a path",
}


@dataclass(frozen=True)
class Bounds:
    """What a number in an annotation may be: `Annotated[int, Bounds(ge=1)]`."""

    ge: float = -np.inf
    le: float = np.inf


Count = Annotated[int, Bounds(ge=1, le=100_000)]  # of networks, draws, steps, ...
Seed = Annotated[int, Bounds(ge=0)]


def check_arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise `InputError` where an argument is not what its annotation says.

    Called before any work, as `check_arguments(function, locals())`: a decorator would be one more
    frame to step through. Numbers must be finite; numpy's are numbers, True and False are not. A
    path must be one that a file could have. Parameters annotated `Any` are left to the function.

    >>> def repeat(text: str, times: Count | None = None) -> str:
    ...     check_arguments(repeat, locals())
    ...     return text * (times or 2)
    >>> repeat("ab", times=0)
    Traceback (most recent call last):
    ravine.errors.InputError: times is 0: it must be at least 1
    """
    for name, hint in _annotations(function).items():
        if name not in given:
            continue
        if Path in _leaves(hint) and isinstance(given[name], (str, Path)):
            require_path(given[name], name)
        if why := _misfit(given[name], hint):
            raise InputError(f"{name} is {value_text(given[name])}", why=why)


@functools.cache
def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotation of each parameter by name, of `*args` that of all together."""
    hints = typing.get_type_hints(inspect.unwrap(function), include_extras=True)
    several = {
        p.name: Sequence[hints[p.name]]
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.VAR_POSITIONAL and p.name in hints
    }
    return {name: hint for name, hint in (hints | several).items() if name != "return"}


def _misfit(value: Any, hint: Any) -> str:
    """Why a value is not what an annotation says; empty where it is."""
    if not _fits(value, hint):
        choices = [one for leaf in _leaves(hint) for one in typing.get_args(leaf)]
        of_words = isinstance(value, str) and all(isinstance(one, str) for one in choices)
        return nearest(value, choices) if choices and of_words else f"it must be {_words(hint)}"
    of_numbers = int in _leaves(hint) or float in _leaves(hint)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not of_numbers:
        return ""
    limits = [each for each in _leaves(hint) if isinstance(each, Bounds)]
    return broken_number(value) or next((broken_bound(value, vars(b)) for b in limits), "")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin is Annotated:
        return _fits(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        if set(inner) >= ARRAY_LEAVES:
            return True  # a table: what reads it says what it can be
        return any(_fits(value, one) for one in inner)
    if origin is typing.Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):
        kinds = (int, np.integer) if hint is int else (int, float, np.integer, np.floating)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if hint is bool:
        return isinstance(value, (bool, np.bool_))
    if origin in (Sequence, Iterable, list, tuple):
        wanted = Iterable if origin is Iterable else Sequence
        if not isinstance(value, wanted) or isinstance(value, (str, bytes, Mapping)):
            return False
        entries = value[:CHECKED_ENTRIES] if isinstance(value, Sequence) else ()
        return all(_fits(v, inner[0]) for v in entries)
    if origin is Mapping:
        entries = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in entries)
    if origin is Callable:
        return callable(value)
    if getattr(hint, "_is_protocol", False) and hint is not os.PathLike:
        return not isinstance(value, type) and all(hasattr(value, m) for m in members_of(hint))
    return isinstance(value, origin or hint) if isinstance(origin or hint, type) else True


@functools.cache
def _leaves(hint: Any) -> tuple[Any, ...]:
    """What an annotation is made of."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return (inner[0], *hint.__metadata__)
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return (hint,)
    return tuple(leaf for one in inner for leaf in _leaves(one))


def _words(hint: Any) -> str:
    """An annotation in words: `an integer or None`."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _words(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, inner)))
    if origin is typing.Literal:
        return join_first([repr(one) for one in inner], 20).replace(", ", " or ")
    if origin in (Sequence, Iterable, list, tuple):
        return f"a list, each {_words(inner[0])}"
    if origin is Mapping:
        return f"a mapping, each value {_words(inner[1])}"
    if origin is Callable:
        return "a function"
    if hint in HINT_WORDS:
        return HINT_WORDS[hint]
    name = getattr(origin or hint, "__name__", str(hint))
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

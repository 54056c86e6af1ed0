"""Batches and outputs as people have them: tensors in tuples, lists, dicts and dataclasses."""

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from torch import Tensor

Nested: TypeAlias = Any  # a tensor, or tuples, lists, dicts and dataclasses of such
Path: TypeAlias = tuple[Any, ...]  # keys and places that lead to a leaf


def split_nested(nested: Nested) -> dict[Any, Nested] | None:
    """What a container holds, by key, place or field; None of what is no container.

    >>> split_nested([4, 5]), split_nested("text")
    ({0: 4, 1: 5}, None)
    """
    if isinstance(nested, Mapping):
        return {key: nested[key] for key in nested}
    if isinstance(nested, list | tuple):
        return dict(enumerate(nested))
    if dataclasses.is_dataclass(nested) and not isinstance(nested, type):
        return {f.name: getattr(nested, f.name) for f in dataclasses.fields(nested)}
    return None


def join_nested(like: Nested, items: Mapping[Any, Nested]) -> Nested:
    """A container of the same type with other items."""
    if isinstance(like, list | tuple):
        values = items.values()
        return type(like)(*values) if hasattr(like, "_fields") else type(like)(values)
    if isinstance(like, Mapping) and not dataclasses.is_dataclass(like):
        made = copy.copy(like) if isinstance(like, MutableMapping) else {}
        made.update(items)
        return made
    if isinstance(like, Mapping):
        return type(like)(**items)
    made = copy.copy(like)
    for name, item in items.items():
        object.__setattr__(made, name, item)  # of a frozen one, too
    return made


def iterate_paths(nested: Nested, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The leaves with their paths, in order.

    >>> list(iterate_paths({"a": 1, "b": (2, 3)}))
    [(('a',), 1), (('b', 0), 2), (('b', 1), 3)]
    """
    items = split_nested(nested)
    if items is None:
        yield path, nested
    for key, item in (items or {}).items():
        yield from iterate_paths(item, (*path, key))


def iterate_leaves(nested: Nested) -> Iterator[Any]:
    """The leaves, in order."""
    return (leaf for _, leaf in iterate_paths(nested))


def leaves_at(nested: Nested, paths: Iterable[Path]) -> list[Any]:
    """The leaves at some paths."""
    by_path = dict(iterate_paths(nested))
    return [by_path[path] for path in paths]


def map_paths(nested: Nested, function: Callable[[Path, Any], Any], path: Path = ()) -> Nested:
    """The same containers with a function's results in place of what is in them."""
    items = split_nested(nested)
    if items is None:
        return function(path, nested)
    mapped = {key: map_paths(item, function, (*path, key)) for key, item in items.items()}
    return join_nested(nested, mapped)


def map_leaves(nested: Nested, function: Callable[[Any], Any]) -> Nested:
    """`map_paths` for a function of the leaf alone."""
    return map_paths(nested, lambda _, leaf: function(leaf))


def take_rows(nested: Nested, rows: Any) -> Nested:
    """Some rows, a slice or places, of all tensors."""
    return map_leaves(nested, lambda x: x[rows] if isinstance(x, Tensor) and x.dim() else x)

"""Parts: frozen dataclasses that are their own configuration: settings as fields, and methods.

A field annotated `Number` may differ between networks that train together; all other fields must be
equal. Letters: P networks of a cohort. A column is a float64 tensor [P, 1].
"""

import dataclasses
import functools
import inspect
import json
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np
import pydantic
import torch
from torch import Tensor

from ravine.errors import RecipeError, value_text

Number = Annotated[float | Tensor, "Number"]  # one value, or a column with a value for each network
PartT = TypeVar("PartT")
MAX_DEPTH = 32  # of values in values, of parts in parts
MAX_FLOAT = torch.finfo(torch.float32).max
TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep"


def setting(
    *,
    default: Any = dataclasses.MISSING,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> Any:
    """A field with bounds: `ge` ≥, `gt` >, `le` ≤, `lt` <; in a tuple for every element."""
    bounds = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    bounds = {name: bound for name, bound in bounds.items() if bound is not None}
    return dataclasses.field(default=default, metadata={"bounds": bounds})


@dataclass_transform(
    frozen_default=True, kw_only_default=True, field_specifiers=(setting, dataclasses.field)
)
def part(cls: type[PartT]) -> type[PartT]:
    """Make a class a part: a frozen, keyword-only dataclass that checks its settings.

    Types and bounds are checked by the annotations. Settings that contradict each other are left to
    the part's own method `check(self)`. Both raise `RecipeError` with the setting.

    >>> @part
    ... class Shrink:
    ...     rate: Number = setting(default=0.1, ge=0, lt=1)
    >>> Shrink(rate=0.5)
    Shrink(rate=0.5)
    >>> Shrink(rate=2)
    Traceback (most recent call last):
    ravine.errors.RecipeError: Shrink.rate is 2: it must be less than 1
    """
    cls.__post_init__ = _check  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


def is_part(value: Any) -> bool:
    """Whether a value (or a class) is a part."""
    cls = value if isinstance(value, type) else type(value)
    return dataclasses.is_dataclass(cls) and getattr(cls, "__post_init__", None) is _check


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """The annotations of a part's settings, by name."""
    found = typing.get_type_hints(cls, include_extras=True)
    return {f.name: found[f.name] for f in dataclasses.fields(cls)}


def is_number(hint: Any) -> bool:
    """Whether an annotation is `Number`."""
    return hint == Number


def _check(self: Any) -> None:
    kinds = field_types(type(self))
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        if isinstance(value, Tensor) and is_number(kinds[field.name]):
            continue  # a column: its entries were checked before they were stacked
        checked = _check_value(type(self), field, value)
        if checked is not value:
            object.__setattr__(self, field.name, checked)
    stacked = any(isinstance(value, Tensor) for value in vars(self).values())
    if hasattr(self, "check") and not stacked:
        self.check()


def _check_value(cls: type, field: dataclasses.Field, given: Any) -> Any:
    hint = field_types(cls)[field.name]
    adapter = _adapter(cls, field.name)
    if adapter is None:
        _check_parts(cls, field, given)
        return given
    value = as_setting(given)
    if isinstance(value, bool) and bool not in _leaves(hint):  # equal to the 1 of a `Literal`
        raise RecipeError(_describe(cls, field, given), why="it must be a number or a word")
    try:
        value = adapter.validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        alone = isinstance(value, (str, int, float)) and typing.get_origin(hint) is tuple
        short = alone and not broken_number(value) and "..." not in value_text(value)
        do = f"write [{json.dumps(value)}]" if short else ""
        what = _describe(cls, field, given)
        raise RecipeError(what, why=f"it must be {_expectation(error)}", do=do) from None
    bounds = field.metadata.get("bounds", {})
    for place, entry in enumerate(value if isinstance(value, tuple) else (value,)):
        why = broken_number(entry) or broken_bound(entry, bounds)
        if why:
            where = f" at place {place}, not {entry!r}" if isinstance(value, tuple) else ""
            raise RecipeError(_describe(cls, field, given), why=why + where)
    return value


def _check_parts(cls: type, field: dataclasses.Field, given: Any) -> None:
    """Raise `RecipeError` unless the value of a field annotated with a protocol is a part.

    Which parts fit, `from_plain` checks.
    """
    hint = field_types(cls)[field.name]
    role, many = protocol_of(hint)
    if role is None or (given is None and type(None) in typing.get_args(hint)):
        return
    for value in given if many and isinstance(given, tuple) else (given,):
        if isinstance(value, type):
            why, do = "it is a class", f"give one of its instances: {value.__name__}()"
            raise RecipeError(_describe(cls, field, given), why=why, do=do)
        if not is_part(value) or (many and not isinstance(given, tuple)):
            why = f"it must be {'a tuple of parts' if many else 'a part'}"
            raise RecipeError(_describe(cls, field, given), why=why)
        lacks = [name for name in members_of(role) if not hasattr(value, name)]
        if lacks and getattr(value, "stands_for", "") != role.__name__:
            why = f"{type(value).__name__} is no {role.__name__}: it has no {', '.join(lacks)}"
            raise RecipeError(_describe(cls, field, given), why=why)
        if _is_deeper(value, MAX_DEPTH):
            raise RecipeError(_describe(cls, field, given), why=TOO_DEEP)


@functools.cache
def members_of(protocol: type) -> tuple[str, ...]:
    """What a protocol's classes must have."""
    above = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = [name for base in above for name in (*vars(base), *inspect.get_annotations(base))]
    return tuple(dict.fromkeys(n for n in names if not n.startswith("_") or n == "__call__"))


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether parts are nested more than `depth` deep in a value."""
    if isinstance(value, tuple):
        return any(_is_deeper(v, depth) for v in value)
    inner = vars(value).values() if is_part(value) else ()
    return is_part(value) and (depth == 0 or any(_is_deeper(v, depth - 1) for v in inner))


def _describe(cls: type, field: dataclasses.Field, given: Any) -> str:
    return f"{cls.__name__}.{field.name} is {value_text(given)}"


def as_setting(value: Any, depth: int = 0) -> Any:
    """A value as parts keep it: tuples instead of lists, Python's numbers instead of numpy's.

    Raises `RecipeError` where it is nested deeper than any setting.
    """
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, (list, tuple, Mapping)):
        return value
    if depth == MAX_DEPTH:
        raise RecipeError(f"a {type(value).__name__} in others", why=TOO_DEEP)
    if isinstance(value, Mapping):
        return {k: as_setting(v, depth + 1) for k, v in value.items()}
    return tuple(as_setting(v, depth + 1) for v in value)


def _expectation(error: pydantic.ValidationError) -> str:
    """What a value should have been: `an integer or 'all'`, in a tuple with the wrong entry."""
    words, places = [], []
    for entry in error.errors():
        text = entry["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
        text = text.replace("a tuple", "a list")
        words.append(re.sub(r"\ba (?=[aeiou])", "an ", text))
        places += [place for place in entry["loc"] if isinstance(place, int)]
    text = " or ".join(dict.fromkeys(words))
    return f"{text} at place {places[0]}" if places else text


def broken_number(value: Any) -> str:
    """What is wrong with a number that an annotation seems to allow."""
    if isinstance(value, float) and not math.isfinite(value):
        return "it must be a finite number"
    if isinstance(value, float) and abs(value) > MAX_FLOAT:
        return f"it must be at most {MAX_FLOAT:.2g}, the largest number in float32"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "it must fit into 64 bits"
    return ""


def _leaves(hint: Any) -> set[Any]:
    """The types in an annotation, of literals those of their values."""
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return {type(value) for value in inner}
    return set().union(*map(_leaves, inner)) if inner else {hint}


def broken_bound(value: Any, bounds: Mapping[str, float]) -> str:
    if value is None or isinstance(value, (str, bool)):
        return ""
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for name, bound in bounds.items():
        if not getattr(operator, name)(value, bound):
            return f"it must be {words[name]} {bound}"
    return ""


@functools.cache
def _adapter(cls: type, name: str) -> pydantic.TypeAdapter | None:
    hint = float if is_number(field_types(cls)[name]) else field_types(cls)[name]
    return pydantic.TypeAdapter(hint) if _is_plain(hint) else None


def _is_plain(hint: Any) -> bool:
    """Whether an annotation is made of scalars, None, literals, and tuples and mappings of them."""
    if hint in (int, float, str, bool, type(None), None, Ellipsis, Any):
        return True
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return True
    if origin in (tuple, dict, typing.Union, types.UnionType, Mapping):
        return all(_is_plain(a) for a in typing.get_args(hint))
    return False


def protocol_of(hint: Any) -> tuple[Any, bool]:
    """The protocol in a field's annotation (None for settings), and whether it is in a tuple."""
    many = False
    while not isinstance(hint, type):  # through `| None` and `tuple[..., ...]`
        inner = [a for a in typing.get_args(hint) if a not in (type(None), Ellipsis)]
        if len(inner) != 1:
            return None, many
        many, hint = many or typing.get_origin(hint) is tuple, inner[0]
    return (hint if getattr(hint, "_is_protocol", False) else None), many


def group_key(value: Any) -> Any:
    """The key by which networks are grouped into cohorts: all but the values of Numbers. Hashable.

    >>> @part
    ... class Shrink:
    ...     rate: Number = 0.1
    ...     times: int = 1
    >>> group_key(Shrink(rate=0.2)) == group_key(Shrink(rate=0.3))
    True
    """
    if is_part(value):
        names = [name for name, hint in field_types(type(value)).items() if not is_number(hint)]
        return (type(value), tuple((name, group_key(getattr(value, name))) for name in names))
    if isinstance(value, (tuple, list)):
        return tuple(group_key(v) for v in value)
    if isinstance(value, Mapping):
        return tuple(sorted((k, group_key(v)) for k, v in value.items()))
    return value


def starting_numbers(value: Any) -> tuple[Any, ...]:
    """The Numbers that are read only before the first step, of a part and of those in it: a part
    names its own in `only_at_start`.
    """
    if isinstance(value, tuple):
        return tuple(number for entry in value for number in starting_numbers(entry))
    if not is_part(value):
        return ()
    own = tuple(getattr(value, name) for name in getattr(value, "only_at_start", ()))
    return own + starting_numbers(tuple(getattr(value, name) for name in field_types(type(value))))


def stack(parts: Sequence[PartT]) -> PartT:
    """One part for a cohort: Numbers become float64 columns [P, 1], all else must be equal."""
    first = parts[0]
    if is_part(first):
        kinds = field_types(type(first))
        changes = {}
        for field in dataclasses.fields(first):  # type: ignore[arg-type]
            values = [getattr(p, field.name) for p in parts]
            if is_number(kinds[field.name]):
                changes[field.name] = torch.tensor(values, dtype=torch.float64).view(-1, 1)
            else:
                changes[field.name] = stack(values)
        return dataclasses.replace(first, **changes)  # type: ignore[type-var]
    if isinstance(first, tuple) and any(is_part(v) for v in first):
        return tuple(stack(group) for group in zip(*parts, strict=True))  # type: ignore
    return first


def rows_of(stacked: PartT, keep: Tensor) -> PartT:
    """A cohort's part with some of its networks only: columns indexed by `keep` (indices [K])."""
    return _map_columns(stacked, lambda c: c.index_select(0, keep.to(c.device)))


def with_shared_scalars(stacked: PartT) -> PartT:
    """The same part with a float for each column of equal entries: fewer operations, equal bits."""
    return _map_columns(stacked, lambda c: float(c[0]) if bool((c == c[0]).all()) else c)


def _map_columns(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """A part with each column in it changed, at any depth."""
    if isinstance(value, Tensor):
        return change(value)
    if is_part(value):
        names = field_types(type(value))
        changes = {name: _map_columns(getattr(value, name), change) for name in names}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(_map_columns(v, change) for v in value)
    return value


def match(number: Any, like: Tensor) -> Any:
    """A Number that broadcasts against a tensor [P, ...]: a float, or [P, 1, ..., 1] in its dtype.

    Compute coefficients from the Number itself (a column is float64), then match once: `match(1 -
    self.beta2, grads)`.
    """
    if isinstance(number, Tensor):
        return number.to(like.device, like.dtype).view(-1, *[1] * (like.dim() - 1))
    return number


def is_zero(number: Number) -> bool:
    """Whether a Number is 0 for every network."""
    return bool((number == 0).all()) if isinstance(number, Tensor) else number == 0

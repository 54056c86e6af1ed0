"""Parts as plain data and back, and settings by path such as `optimizer.lr`.

Plain data are what JSON and TOML can hold: tables with a `name`, lists, numbers, strings.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from ravine.argument_checks import check_arguments
from ravine.errors import RecipeError, fold_name, nearest, value_text
from ravine.old_names import part_names
from ravine.part import MAX_DEPTH, TOO_DEEP, PartT, as_setting, field_types, is_part, protocol_of


def to_plain(value: Any) -> Any:
    """A part as plain data: `{"name": "AdamW", "lr": 0.001, ...}`; tuples and columns become lists.

    None is left out where it is the default and written as "none" elsewhere, so that `from_plain`
    restores the part. A function is written by its name, from which it cannot be restored.

    >>> from ravine.losses import Huber
    >>> to_plain(Huber(delta=2.0))
    {'name': 'Huber', 'delta': 2.0}
    """
    if is_part(value):
        settings = {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        usual = {f.name for f in dataclasses.fields(value) if f.default is None}
        shown = {name: v for name, v in settings.items() if v is not None or name not in usual}
        shown = {name: "none" if v is None else v for name, v in shown.items()}
        return {"name": type(value).__name__, **shown}
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, Tensor):
        return value.flatten().tolist()
    if callable(value):  # what Python hands in and no file can hold: its name
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value


def from_plain(
    cls: type[PartT],
    data: Mapping[str, Any],
    choices: Mapping[Any, Sequence[type]],
    *,
    path: str = "",
) -> PartT:
    """The part that plain data describe.

    `choices` lists the classes that may stand in a field, by the protocol that annotates it; `path`
    is the place of the data in their file, for messages. Missing settings take their defaults; a
    name alone (`optimizer = "AdamW"`) means all defaults; `"none"` is None. Raises `RecipeError`
    for unknown names (with the nearest one), wrong types and values; its place is `error.path`.
    """
    known = field_types(cls)
    if path.count(".") >= MAX_DEPTH:
        raise _at(RecipeError(f"a {cls.__name__} in others", why=TOO_DEEP), path, "")
    for name in data:
        if name == "name" and not is_name_of(cls, str(data[name])):
            what = f"the name of {cls.__name__} is {data[name]!r}"
            raise _at(RecipeError(what, why="it must be its own, or left out"), path, name)
        if name != "name" and name not in known:
            error = RecipeError(f"{cls.__name__} has no setting {name!r}", why=nearest(name, known))
            raise _at(error, path, name)
    places = {name: f"{path}.{name}".lstrip(".") for name in data if name != "name"}
    values = {name: _value(known[name], data[name], choices, path=p) for name, p in places.items()}
    unset = [f for f in dataclasses.fields(cls) if f.name not in values]  # type: ignore
    none = dataclasses.MISSING
    missing = [f.name for f in unset if f.default is none and f.default_factory is none]
    if missing:
        do = f"set {f'{path}.{missing[0]}'.lstrip('.')}, too"
        raise _at(RecipeError(f"{cls.__name__} needs {', '.join(missing)}", do=do), path, "")
    try:
        return cls(**values)
    except RecipeError as error:
        named = error.what.partition(".")[2].partition(" ")[0]
        raise _at(error, path, named if named in known else "") from None


def _value(hint: Any, given: Any, choices: Mapping[Any, Sequence[type]], *, path: str) -> Any:
    role, many = protocol_of(hint)
    if _is_none(given) and type(None) in typing.get_args(hint):
        return None
    if role not in choices:
        return as_setting(given)
    if many:
        given = () if _is_none(given) else given
        given = given if isinstance(given, (list, tuple)) else [given]
        places = [f"{path}.{i}" if len(given) > 1 else path for i in range(len(given))]
        entries = zip(given, places, strict=True)
        return tuple(_part_from(choices[role], g, choices, path=p) for g, p in entries)
    return _part_from(choices[role], given, choices, path=path)


def _is_none(given: Any) -> bool:
    return given is None or (isinstance(given, str) and given == "none")


def _part_from(
    classes: Sequence[type], given: Any, choices: Mapping[Any, Sequence[type]], *, path: str
) -> Any:
    if is_part(given) and not isinstance(given, type):
        return given
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping):
        why = "it must be a name or a table with a name"
        raise _at(RecipeError(f"{path} is {value_text(given)}", why=why), path, "")
    if len(classes) == 1 and "name" not in given:
        return from_plain(classes[0], given, choices, path=path)
    name = given.get("name")
    names = [c.__name__ for c in classes]
    if not isinstance(name, str):
        raise _at(RecipeError(f"{path} has no name", why=nearest("", names)), path, "")
    cls = next((c for c in classes if is_name_of(c, name)), None)
    if cls is None:
        error = RecipeError(f"{path} has no {name!r}", why=nearest(name, names))
        raise _at(error, path, "name")
    return from_plain(cls, given, choices, path=path)


def _at(error: RecipeError, path: str, name: str) -> RecipeError:
    """Add the place of an error in the plain data, unless it has a deeper one."""
    if not hasattr(error, "path"):
        error.path = f"{path}.{name}".strip(".")
    return error


def is_name_of(cls: type, name: str) -> bool:
    """Whether a name in plain data means this part; case, hyphens and underscores do not count."""
    return fold_name(name) in map(fold_name, part_names(cls))


def get(value: Any, path: str) -> Any:
    """The setting at a path: `get(recipe, "optimizer.lr")`; `RecipeError` with the known names."""
    check_arguments(get, locals())
    for name in path.split("."):
        value = _step(value, name, path)
    return value


def vary(value: PartT, path: str, new: Any) -> PartT:
    """A copy with the setting at `path` changed; everything off the path is shared.

    >>> from ravine.losses import Huber
    >>> vary(Huber(), "delta", 2.0)
    Huber(delta=2.0)
    """
    check_arguments(vary, locals())
    name, _, rest = path.partition(".")
    old = _step(value, name, path)
    changed = vary(old, rest, new) if rest else new
    if isinstance(value, tuple):
        at = int(name)
        return (*value[:at], changed, *value[at + 1 :])  # type: ignore[return-value]
    return dataclasses.replace(value, **{name: changed})  # type: ignore[type-var]


def _step(value: Any, name: str, path: str) -> Any:
    if isinstance(value, tuple):
        if not name.isdecimal() or int(name) >= len(value):
            places = f"{name!r} must be a place from 0 to {len(value) - 1}"
            why = places if value else "there is nothing in it"
            raise RecipeError(f"no setting {path!r}", why=why)
        return value[int(name)]
    if not is_part(value):
        why = f"{value_text(value)} has no settings of its own"
        raise RecipeError(f"no setting {path!r}", why=why)
    known = field_types(type(value))
    if name not in known:
        what = f"{type(value).__name__} has no setting {name!r}"
        raise RecipeError(what, why=nearest(name, known))
    return getattr(value, name)


def iterate_settings(part: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a part by path, each part among them before its own settings."""
    for name in field_types(type(part)):
        path, value = f"{above}.{name}".lstrip("."), getattr(part, name)
        yield path, value
        if is_part(value):
            yield from iterate_settings(value, path)


def replace_everywhere(value: Any, settings: Mapping[str, Any]) -> Any:
    """A part in which every setting of one of these names has the given value, at any depth.

    >>> from ravine.losses import Huber
    >>> replace_everywhere((Huber(), Huber(delta=3.0)), {"delta": 2.0})
    (Huber(delta=2.0), Huber(delta=2.0))
    """
    if isinstance(value, tuple):
        return tuple(replace_everywhere(v, settings) for v in value)
    if not is_part(value):
        return value
    kept = [name for name in field_types(type(value)) if name not in settings]
    changes = {name: replace_everywhere(getattr(value, name), settings) for name in kept}
    own = {name: new for name, new in settings.items() if name in field_types(type(value))}
    return dataclasses.replace(value, **changes, **own)

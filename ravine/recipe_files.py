"""Recipe files, and single settings written as on the command line: `optimizer.lr=0.01`.

A recipe file is TOML. It changes a named recipe (`base`, the default if it names none):

    base = "default"
    epochs = 40
    [data]
    source = "houses.csv"
    target = ["price"]
    [optimizer]
    name = "AdamW"
    lr = 0.002
"""

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from ravine.argument_checks import check_arguments
from ravine.catalog import NAMED_RECIPES, PARTS_BY_ROLE, named_recipe
from ravine.errors import RecipeError, first_line, join_first, nearest, shorten
from ravine.files import check_readable, lasting_path
from ravine.networks import pretrained
from ravine.part import MAX_DEPTH, TOO_DEEP, field_types, is_part, protocol_of
from ravine.recipe import Recipe
from ravine.serialization import from_plain, get, is_name_of, to_plain

RECIPE_SCHEMA = 1  # raised when a recipe file changes its meaning


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a TOML file. Raises `RecipeError` with the line of a mistake.

    Relative paths of data and weights are relative to the file's folder.
    """
    check_arguments(read_recipe, locals())
    path = Path(path)
    check_readable(path, RecipeError)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        do = "name a recipe file, a table or a bundled set"
        raise RecipeError(f"{path} does not exist", do=do) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read", why=str(error)) from None
    try:
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # nested too deep, numbers of thousands of digits
        raise RecipeError(f"{path} is not TOML", why=first_line(error)) from None
    try:
        recipe = recipe_from(given)
    except RecipeError as error:
        line = line_of_setting(text, getattr(error, "path", ""))
        error.where = f"{path}:{line}" if line else str(path)
        raise
    return with_paths_from(recipe, path.parent)


def with_paths_from(recipe: Recipe, folder: Path) -> Recipe:
    """A recipe with the paths that its file in a folder means."""
    for place, file in file_settings(recipe):
        beside = folder / file
        named_file = "." in file or "/" in file or os.sep in file  # else perhaps a bundled set
        if named_file or os.path.exists(beside):
            recipe = recipe.vary(place, str(beside))
    return recipe


def with_lasting_paths(recipe: Recipe, folder: str | Path | None = None) -> Recipe:
    """A recipe with absolute paths, or from `folder` where that is near (see `lasting_path`). What
    is called as `folder` is a bundled set: a run's folder is no table.
    """
    for place, file in file_settings(recipe):
        own = folder is not None and os.path.realpath(file) == os.path.realpath(folder)
        if os.path.exists(file) and not own:
            recipe = recipe.vary(place, lasting_path(file, folder))
    return recipe


def file_settings(recipe: Recipe) -> list[tuple[str, str]]:
    """The settings of a recipe that name files or folders: (path in the recipe, value)."""
    found = [(f"data.{name}", getattr(recipe.data, name, None)) for name in ("source", "test")]
    place, network = "network", recipe.network
    while network is not None:
        found.append((f"{place}.weights", getattr(network, "weights", None)))
        place, network = f"{place}.network", getattr(network, "network", None)
    return [(place, file) for place, file in found if file and file != pretrained.RANDOM_WEIGHTS]


def recipe_from(given: Mapping[str, Any]) -> Recipe:
    """The recipe that plain data describe: a named recipe (`base`) with changes."""
    given = dict(given)
    schema = given.pop("schema", RECIPE_SCHEMA)
    if isinstance(schema, bool) or not isinstance(schema, int) or schema > RECIPE_SCHEMA:
        why, do = f"this version of Ravine reads up to {RECIPE_SCHEMA}", "install a newer Ravine"
        raise RecipeError(f"schema is {schema!r}", why=why, do=do)
    base = given.pop("base", "default")
    if not isinstance(base, str):
        why = "it must be the name of a recipe: " + nearest("", NAMED_RECIPES)
        raise RecipeError(f"base is {base!r}", why=why)
    return with_changes(named_recipe(base), given)


def with_changes(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """A copy with the settings that plain data change; a newly named part starts from defaults."""
    return from_plain(Recipe, _merge(recipe, given), PARTS_BY_ROLE)


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A copy with settings changed, by path, each to a number, a word, or a part as plain data.

    All are taken together: their order does not matter. None takes a part out. Raises `RecipeError`
    where a setting or a value is wrong.

    >>> from ravine.catalog import named_recipe
    >>> with_values(named_recipe("plain"), {"split.test": 0.25, "split.validation": 0.25}).split
    Stratified(validation=0.25, test=0.25)
    """
    check_arguments(with_values, locals())
    changes = []
    for path, value in values.items():
        get(recipe, path)
        changes.append((path.split("."), "none" if value is None else value))
    return _with_changes_below(recipe, changes)


def with_settings(recipe: Recipe, *assignments: str) -> Recipe:
    """A copy with some `path=value` changed together: their order does not matter.

    Values are written as in TOML; strings may be unquoted. A part's name goes with its settings.

    >>> from ravine.catalog import named_recipe
    >>> with_settings(named_recipe("plain"), "split.column=sold", "split=ByTime").split
    ByTime(validation=0.15, test=0.15, column='sold')
    """
    check_arguments(with_settings, locals())
    parsed = [_parse_assignment(assignment) for assignment in assignments]
    _check_contradictions(parsed)
    named = {a.path[0] for a in parsed if len(a.path) == 1}
    try:
        for a in parsed:
            field, *below = a.path
            if below and field not in named and getattr(recipe, field, field) is None:
                _check_one_choice(field, below[0])
        return _with_changes_below(recipe, [(a.path, a.value) for a in parsed])
    except RecipeError as error:
        error.where = _assignments_at(parsed, getattr(error, "path", ""))
        raise


def _check_one_choice(field: str, name: str) -> None:
    """Raise `RecipeError` where a setting is given of a part that the recipe does not have, and
    that may be one of several.
    """
    classes = PARTS_BY_ROLE.get(protocol_of(field_types(Recipe)[field])[0], ())
    if len(classes) > 1:
        example = next((cls for cls in classes if name in field_types(cls)), classes[0])
        settings = join_first(list(field_types(example)))
        why = f"it may be {join_first([cls.__name__ for cls in classes])}"
        do = f"write --set {field}={example.__name__}, too, which has the settings {settings}"
        error = RecipeError(f"{field} is not set", why=why, do=do)
        error.path = field
        raise error


class SettingAssignment(NamedTuple):
    """A setting as on the command line: its text for messages, the names of its path, its value."""

    text: str
    path: list[str]
    value: Any


def _parse_assignment(assignment: str) -> SettingAssignment:
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        why, do = "it must be PATH=VALUE", "write --set optimizer.lr=0.01"
        raise RecipeError(f"--set {shorten(assignment)}", why=why, do=do)
    if path.count(".") > MAX_DEPTH:
        raise RecipeError(f"--set {shorten(assignment)}", why=TOO_DEEP)
    names = path.strip().split(".")
    return SettingAssignment(f"--set {shorten(assignment)}", names, setting_from(text))


def setting_from(text: str) -> Any:
    """The value that a text on the command line means: as in TOML, or the text itself.

    >>> setting_from("[8, 4]"), setting_from("Cosine")
    ([8, 4], 'Cosine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()
    except (ValueError, RecursionError) as error:  # thousands of digits, or of brackets
        raise RecipeError(f"the value {shorten(text)}", why=first_line(error)) from None


def _check_contradictions(assignments: Sequence[SettingAssignment]) -> None:
    """Raise `RecipeError` where a setting is given two values."""
    known: dict[tuple[str, ...], SettingAssignment] = {}
    for new in assignments:
        old = known.setdefault(tuple(new.path), new)
        if old.value != new.value:
            error = RecipeError(f"{'.'.join(new.path)} is set twice", do="leave one of them out")
            error.where = f"{old.text} {new.text}"
            raise error


def _assignments_at(assignments: Sequence[SettingAssignment], path: str) -> str:
    """The texts of the assignments that the message of an error at a path is about."""
    place = [name for name in path.split(".") if name]
    near = [a.text for a in assignments if all(x == y for x, y in zip(a.path, place, strict=False))]
    return " ".join(near)


class _FromDefaults(dict):
    """Plain data of a part that start from its defaults, even if the recipe has the same part."""


def _with_changes_below(recipe: Recipe, changes: Sequence[tuple[Sequence[str], Any]]) -> Recipe:
    """A copy with values changed by the names of their paths, all at once."""
    return with_changes(recipe, _nested_changes(recipe, changes)) if changes else recipe


def _nested_changes(old: Any, changes: Sequence[tuple[Sequence[str], Any]], path: str = "") -> Any:
    """Plain data that change a value: as a whole, then what is below it; tuples are written out.

    A change is the names of its path from here on (none: the value as a whole), and its value.
    `path` is the place of the value in the recipe, for messages.
    """
    for names, value in changes:
        if not names:
            old = value
    deeper: dict[str, list[tuple[Sequence[str], Any]]] = {}
    for (name, *rest), value in (change for change in changes if change[0]):
        deeper.setdefault(name, []).append((rest, value))
    if not deeper:
        return old
    of_entries = all(name.isdecimal() for name in deeper)
    if of_entries and isinstance(old, (str, Mapping)):
        old = [old]  # one part, where several may be
    if of_entries and isinstance(old, (tuple, list)):
        return _nested_entries(old, deeper, path)
    if isinstance(old, str):
        is_new = any(not names for names, _ in changes)
        old = _FromDefaults(name=old) if is_new else {"name": old}
    inner = old if isinstance(old, Mapping) else {}
    new = {}
    for name, below in deeper.items():
        before = getattr(old, name, None) if is_part(old) else inner.get(name)
        new[name] = _nested_changes(before, below, f"{path}.{name}".lstrip("."))
    return _FromDefaults(inner | new) if isinstance(inner, _FromDefaults) else {**inner, **new}


def _nested_entries(
    old: Sequence[Any], deeper: Mapping[str, Sequence[tuple[Sequence[str], Any]]], path: str
) -> list[Any]:
    """Plain data of a tuple with changes by the place of an entry."""
    entries = [v if is_part(v) else to_plain(v) for v in old]
    for name, below in deeper.items():
        if int(name) >= len(old):
            why = f"its places are 0 to {len(old) - 1}" if old else "there is nothing in it"
            what, do = f"no setting '{path}.{name}'", f"set {path} as a whole"
            error = RecipeError(what, why=why, do=do)
            error.path = f"{path}.{name}"
            raise error
        entry = old[int(name)]
        entries[int(name)] = _overlay(entry, _nested_changes(entry, below, f"{path}.{name}"))
    return entries


def recipe_text(recipe: Recipe, folder: str | Path | None = None) -> str:
    """A recipe as a TOML file with every setting; with `folder` paths are those of a file there.

    Raises `RecipeError` where a setting is no text that UTF-8 can write.
    """
    check_arguments(recipe_text, locals())
    recipe = recipe if folder is None else with_lasting_paths(recipe, folder)
    text = tomli_w.dumps({"base": "plain", **_plain_with_none(recipe)})
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text[: error.end].splitlines()[-1] + text[error.end :].partition("\n")[0]
        what, why = f"the recipe has the setting {ascii(line.strip())}", "it is not UTF-8"
        raise RecipeError(what, why=why, do="rename the file, the folder or the column") from None
    return text


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data that `recipe_from` reads back, whatever settings its base has."""
    return tomllib.loads(recipe_text(recipe))


def recipe_differences(old: Recipe, new: Recipe) -> list[tuple[str, str | None, str | None]]:
    """Settings that differ, by path, with both values as JSON; None where one has no such setting.

    >>> from ravine.catalog import named_recipe
    >>> recipe_differences(named_recipe("plain"), named_recipe("plain").vary("optimizer.lr", 0.5))
    [('optimizer.lr', '0.1', '0.5')]
    """
    before, after = (dict(_settings_by_path(plain_recipe(r))) for r in (old, new))
    paths = [path for path in (before | after) if before.get(path) != after.get(path)]
    return [(path, before.get(path), after.get(path)) for path in paths]


def _settings_by_path(plain: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(plain, dict):
        for name, value in plain.items():
            yield from _settings_by_path(value, f"{path}.{name}".lstrip("."))
    else:
        yield path, json.dumps(plain)


def _plain_with_none(value: Any) -> Any:
    """Plain data in which None, which TOML does not have, is the string "none"."""
    if is_part(value):
        found = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        settings = {name: _plain_with_none(setting) for name, setting in found.items()}
        return settings if isinstance(value, Recipe) else {"name": type(value).__name__, **settings}
    if isinstance(value, tuple):
        return [_plain_with_none(v) for v in value]
    return "none" if value is None else to_plain(value)


def _merge(old: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a part, overlaid by plain data for the same part."""
    settings = {f.name: getattr(old, f.name) for f in dataclasses.fields(old)}
    for name, value in given.items():
        settings[name] = _overlay(settings.get(name), value)
    return settings


def _overlay(old: Any, value: Any) -> Any:
    """The value for a setting; for the part that it was before, with its other settings."""
    if not isinstance(value, Mapping) or isinstance(value, _FromDefaults) or not is_part(old):
        return value
    name = value.get("name", type(old).__name__)
    if not (isinstance(name, str) and is_name_of(type(old), name)):
        return value
    settings = {k: v for k, v in value.items() if k != "name"}
    return {"name": type(old).__name__, **_merge(old, settings)}


def line_of_setting(text: str, path: str) -> int:
    """The line (from 1) of a TOML text with a setting or its nearest table; 0 if there is none.

    >>> line_of_setting('epochs = 3\\n[optimizer]\\nlr = -1\\n', "optimizer.lr")
    3
    """
    wanted = [name for name in path.split(".") if name]
    table = []
    best = depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?", line)
        key = re.match(r"\s*([\w\-.\"']+)\s*=", line)
        if header:
            table = [n.strip(" \"'") for n in header[1].split(".")]
        names = table if header else []
        if key and not header:
            names = [*table, *(n.strip("\"'") for n in key[1].split("."))]
        if names and names == wanted[: len(names)] and len(names) > depth:
            best = number
            depth = len(names)
    return best

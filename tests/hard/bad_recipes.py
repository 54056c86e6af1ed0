"""Every setting of every part of the catalog, with values of the wrong kind, given in each way that
there is: `vary`, `--set`, a recipe file; and what is accepted, trained.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bad_values import VALUES, Kind, conforms

from ravine import named_recipe, read_recipe, train
from ravine.catalog import PARTS_BY_ROLE
from ravine.part import field_types, protocol_of
from ravine.recipe import Recipe
from ravine.recipe_files import with_settings
from ravine.serialization import get

QUICK = {"epochs": 1, "seeds": 1, "data.source": "iris"}
# where a part of each kind stands in a recipe, and what else that recipe needs
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "Activation": ("network.activation", {}),
    "Augmentation": ("augment", {"base": "image", "data.source": "digits"}),
    "Average": ("average", {}),
    "Clip": ("clip", {}),
    "Drop": ("network.dropout", {}),
    "ColumnEncoding": ("encoding", {}),
    "Initializer": ("network.initializer", {}),
    "Loss": ("loss", {}),
    "Network": ("network", {}),
    "Norm": ("network.norm", {}),
    "NumberEmbedding": ("network.numbers", {}),
    "Optimizer": ("optimizer", {}),
    "Penalty": ("penalties", {}),
    "Pool": ("network.pool", {"base": "image", "data.source": "digits"}),
    "Schedule": ("schedule", {}),
    "Source": ("data", {}),
    "Split": ("split", {}),
    "SnapshotRule": ("snapshots", {}),
    "StopRule": ("stop", {}),
    "Tuning": ("tuning", {}),
}
NEEDED = {"column": "sepal length", "layers": "*", "pattern": "*", "milestones": [1]}


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting, the path of its part, and a recipe that has this part."""

    recipe: Recipe
    place: str
    name: str
    hint: Any

    @property
    def path(self) -> str:
        part = get(self.recipe, self.place) if self.place else self.recipe
        place = f"{self.place}.0" if isinstance(part, tuple) else self.place
        return f"{place}.{self.name}".lstrip(".")

    @property
    def owner(self) -> str:
        return type(get(self.recipe, self.path.rpartition(".")[0])).__name__ if self.place else ""


@functools.cache
def settings() -> tuple[list[Setting], list[str]]:
    """All settings of the recipe and of all parts, and the parts of which no recipe was made."""
    plain = base_recipe({})
    found = [Setting(plain, "", name, hint) for name, hint in field_types(Recipe).items()]
    left_out = []
    for role, classes in PARTS_BY_ROLE.items():
        place, needs = PLACES[role.__name__]
        for cls in classes:
            try:
                recipe = with_part(base_recipe(needs), place, cls)
            except Exception as error:
                left_out.append(f"{cls.__name__}: {error}")
                continue
            found += [Setting(recipe, place, *each) for each in field_types(cls).items()]
    return found, left_out


def base_recipe(needs: dict[str, Any]) -> Recipe:
    recipe = named_recipe(needs.get("base", "plain"))
    for path, value in (QUICK | needs).items():
        recipe = recipe if path == "base" else recipe.vary(path, value)
    return recipe


def with_part(recipe: Recipe, place: str, cls: type) -> Recipe:
    plain: dict[str, Any] = {"name": cls.__name__}
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING and field.name in NEEDED:
            plain[field.name] = NEEDED[field.name]
    kept = recipe.data
    recipe = with_settings(recipe, f"{place}={inline(plain)}")
    return recipe.vary("data.source", kept.source) if place == "data" else recipe


def recipe_kinds() -> Iterator[Kind]:
    """A call for each setting, wrong value and way to give it."""
    for setting in settings()[0]:
        for name, value in VALUES.items():
            for way, call in WAYS.items():
                if way == "vary" or toml(value) is not None:
                    named = f"{way} {setting.owner}.{setting.name} = {name}"
                    yield Kind(
                        named,
                        functools.partial(call, setting, value),
                        functools.partial(is_as_given, setting, value, way),
                    )


def is_as_given(setting: Setting, given: Any, way: str, recipe: Recipe) -> bool:
    """Whether a setting that was accepted is what was given, and of its kind."""
    value = get(recipe, setting.path)
    plain = tuple(given) if isinstance(given, (list, np.ndarray)) else given
    role = protocol_of(setting.hint)[0]
    if role is not None:  # a part, and settings of it: none here
        return (
            type(given) in PARTS_BY_ROLE[role]
            or given is None
            or given == {}
            or (given == [] and value == ())
        )
    if way != "vary" and given is None:
        return value in (None, "none")
    if isinstance(value, float) and type(plain) is int:
        plain = float(plain)
    return type(value) is type(plain) and value == plain and conforms(value, setting.hint)


def by_vary(setting: Setting, value: Any) -> Recipe:
    return setting.recipe.vary(setting.path, value)


def by_set(setting: Setting, value: Any) -> Recipe:
    return with_settings(setting.recipe, f"{setting.path}={toml(value)}")


def by_file(setting: Setting, value: Any) -> Recipe:
    names = setting.path.split(".")
    text = toml(value)
    for name in reversed(names[1:]):
        text = f"[{text}]" if name == "0" else f"{{{with_name(setting, name, text)}}}"
    path = Path("r.toml")
    lines = [f'base = "plain"\n{names[0]} = {text}\n']
    path.write_text("".join(lines), "utf-8", "surrogateescape")
    return read_recipe(path)


def with_name(setting: Setting, name: str, text: str | None) -> str:
    part = get(setting.recipe, setting.path.rpartition(".")[0])
    needed = [f for f in dataclasses.fields(part) if f.default is dataclasses.MISSING]
    given = [f"{f.name} = {toml(getattr(part, f.name))}" for f in needed if f.name != name]
    if name != setting.name:
        return f"{name} = {text}"
    return ", ".join([f'name = "{type(part).__name__}"', *given, f"{name} = {text}"])


WAYS = {"vary": by_vary, "--set": by_set, "file": by_file}


def toml(value: Any) -> str | None:
    """A value as TOML; None where TOML has none of its kind."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if type(value) is int and abs(value) > 10**4_000:
        return "9" * 5_000
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii="\udcff" not in value and "\0" not in value)
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "[" * 2_000 + "]" * 2_000
    if isinstance(value, (list, tuple)) and all(toml(v) is not None for v in value):
        return f"[{', '.join(str(toml(v)) for v in value)}]"
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return inline(value)
    return None


def inline(plain: dict[str, Any]) -> str:
    return f"{{{', '.join(f'{k} = {toml(v)}' for k, v in plain.items())}}}"


def training_kinds() -> Iterator[Kind]:
    """Training with each setting at each value that is accepted, however odd."""
    for setting in settings()[0]:
        for name, value in VALUES.items():
            try:
                recipe = by_vary(setting, value)
            except Exception:
                continue
            named = f"train {setting.owner}.{setting.name} = {name}"
            yield Kind(named, functools.partial(train, recipe), lambda run: True)

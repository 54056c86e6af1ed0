"""Options that several commands share, the recipe they describe, hints for unknown ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, Token

from ravine.errors import InputError, fold_name, value_text

if TYPE_CHECKING:
    from ravine.recipe import Recipe

Switch = Annotated[bool, Parameter(negative="")]
Repeatable = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]


def read_integer(_: object, tokens: Sequence[Token]) -> int:
    """The integer that a word is: 2.5, which would be rounded, is none."""
    (token,) = tokens
    if not re.fullmatch(r"[+-]?\d{1,19}", token.value.strip()):
        raise ValueError(f"it must be an integer, not {value_text(token.value)}")
    return int(token.value)


Integer = Annotated[int, Parameter(converter=read_integer)]
IntegerOrNone = Annotated[int | None, Parameter(converter=read_integer)]


def read_workers(_: object, tokens: Sequence[Token]) -> int | str:
    """A number of processes, or the address of a cluster."""
    (token,) = tokens
    text = token.value.strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,9}", text) else text


Workers = Annotated[
    int | str | None,
    Parameter(
        converter=read_workers,
        help="How many processes, by default one per core where that pays; or a cluster: ray, "
        "ray://HOST:PORT, dask, tcp://HOST:PORT.",
    ),
]
SeedCount = Annotated[
    int | None, Parameter(converter=read_integer, help="How many networks to train.")
]
FirstSeed = Annotated[int | None, Parameter(converter=read_integer, help="The first seed.")]
OutputPath = Annotated[Path | None, Parameter(name=["-o", "--out"])]
SOURCE_KINDS = "A table (CSV, Parquet, JSON, Excel), a folder of images, a recipe (.toml)"
SourceName = Annotated[str, Parameter(help=f"{SOURCE_KINDS}, or the name of a bundled set.")]
Force = Annotated[bool, Parameter(negative="", help="Write over an existing file.")]
Quiet = Annotated[bool, Parameter(negative="", help="No progress.")]
Json = Annotated[bool, Parameter(negative="", help="Print the result as one JSON object.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """What a command line says about the recipe, beside the source."""

    target: Annotated[Repeatable, Parameter(help="The column to predict; again for several.")] = ()
    set_: Annotated[
        Repeatable,
        Parameter(name="--set", help="Change a setting: PATH=VALUE, such as optimizer.lr=0.01."),
    ] = ()
    recipe: Annotated[
        str | None, Parameter(help="The recipe to start from; `ravine recipes` lists them.")
    ] = None


DEFAULT_OPTIONS = RecipeOptions()


def recipe_for(
    what: str,
    options: RecipeOptions,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    memory: str | None = None,
) -> Recipe:
    """The recipe that a command line describes; a folder that holds images is read as images."""
    from ravine import data
    from ravine.catalog import named_recipe
    from ravine.recipe_files import read_recipe

    name = options.recipe
    if not what:
        why = "no table, recipe or bundled set is named"
        do = "name one after the command: houses.csv --target price, or penguins"
        raise InputError("there is nothing to train on", why=why, do=do)
    if what.endswith(".toml"):
        if name is not None:
            why, do = "a recipe file names its base itself", f'write base = "{name}" in the file'
            raise InputError(f"--recipe {name} beside {what}", why=why, do=do)
        recipe = read_recipe(what)
    elif data.holds_images(what):
        images = data.Images(source=what)
        recipe = named_recipe("image" if name is None else name).vary("data", images)
    else:
        recipe = named_recipe("default" if name is None else name).vary("data.source", what)
    recipe = apply_options(recipe, options)
    for path, value in (("seeds", seeds), ("seed", seed), ("data.memory", memory)):
        if value is not None:
            recipe = recipe.vary(path, value)
    return recipe


def apply_options(recipe: Recipe, options: RecipeOptions) -> Recipe:
    """A recipe with the target and the settings that a command line names."""
    from ravine.recipe_files import with_settings

    recipe = recipe.vary("data.target", options.target) if options.target else recipe
    return with_settings(recipe, *options.set_)


def moved_files(options: RecipeOptions) -> dict[str, str]:
    """The new paths of a run's files that `--set` names, by their settings."""
    from ravine.recipe_files import setting_from

    if replace(options, set_=()) != DEFAULT_OPTIONS:
        why, do = "a run goes on as it began", "leave out --target and --recipe"
        raise InputError("a run takes no other recipe and no other target", why=why, do=do)
    pairs = [assignment.partition("=") for assignment in options.set_]
    return {place.strip(): str(setting_from(value)) for place, _, value in pairs}


def nearest_setting(option: str) -> str:
    """The path of the recipe's setting that an unknown option names, fully, by its end or initials.

    Empty where there is none. Of several settings the one with the shortest path.
    """
    from ravine.catalog import named_recipe
    from ravine.serialization import iterate_settings

    paths = sorted(dict(iterate_settings(named_recipe("default"))), key=lambda p: p.count("."))
    initials = "".join(word[0] for word in option.replace("_", "-").split("-") if word)
    for name in (fold_name(option), fold_name(initials)):
        for path in paths:
            ends = (fold_name(path), fold_name(path.rpartition(".")[2]))
            if len(name) > 1 and name in ends:
                return path
    return ""


def option_value(option: str, arguments: Sequence[str]) -> str:
    """The value given to an option, with `=` or as the next argument; VALUE where there is none."""
    at = next((i for i, a in enumerate(arguments) if a.split("=")[0] == option), len(arguments) - 1)
    after = "".join(arguments[at + 1 : at + 2])
    return arguments[at].partition("=")[2] or ("" if after.startswith("-") else after) or "VALUE"

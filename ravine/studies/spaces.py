"""Spaces: the values that the settings of a recipe may take, as Optuna's distributions by path."""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from ravine.argument_checks import check_arguments
from ravine.errors import InputError, RecipeError, first_line, shorten, value_text
from ravine.part import field_types, is_number, is_part
from ravine.recipe import LR_FACTOR, Recipe
from ravine.recipe_files import with_values
from ravine.serialization import get, iterate_settings

EXAMPLE_ADVICE = "write --space optimizer.lr=log:1e-4..1e-1"
AUTO_SPACE = "auto"
STRENGTH_FACTOR = 100.0
NOT_TUNED = ("seed", "seeds", "split", "split_seed", "metric")  # the same in all trials
MAX_DROPOUT_RATE = 0.6

# a distribution of Optuna, a text as on the command line, or a list of values
SpaceLike: TypeAlias = BaseDistribution | str | Sequence[Any]
Space: TypeAlias = dict[str, BaseDistribution]


def read_spaces(texts: Sequence[str], recipe: Recipe) -> Space:
    """The spaces of a command line, by path; `auto` stands for those of `auto_space`.

    Raises `RecipeError` where a path is named twice.

    >>> from ravine.catalog import named_recipe
    >>> list(read_spaces(["auto", "batch=[16, 64]"], named_recipe("plain")))
    ['optimizer.lr', 'network.hidden', 'batch']
    """
    check_arguments(read_spaces, locals())
    found: Space = {}
    for text in texts:
        path, equals, given = (x.strip() for x in text.partition("="))
        if text.strip() == AUTO_SPACE:
            found = auto_space(recipe) | found
            continue
        where = f"--space {text}"
        if not path or not equals or not given:
            raise RecipeError(where, why="it must be PATH=SPACE", do=EXAMPLE_ADVICE)
        named = [one.partition("=")[0].strip() for one in texts]
        if named.count(path) > 1:
            why = f"{path} has a space already"
            raise RecipeError(where, why=why, do="leave one of them out")
        try:
            found[path] = read_space(given, recipe, path)
        except RecipeError as error:
            error.where = where
            raise
    return found


def checked_space(space: Mapping[str, SpaceLike] | str, recipe: Recipe) -> Space:
    """A space as `ravine.tune` takes it, as distributions whose values the recipe can take.

    Each end of a range and each of several values is tried, the other settings as they are. Raises
    `RecipeError`.
    """
    if space == AUTO_SPACE:
        return auto_space(recipe)
    if not isinstance(space, Mapping):
        what, do = f"space is {value_text(space)}", 'write {"optimizer.lr": "log:1e-4..1e-1"}'
        raise InputError(what, why="it must be a mapping, or 'auto'", do=do)
    if not space:
        why = "no setting has a space"
        raise RecipeError("there is nothing to tune", why=why, do=EXAMPLE_ADVICE)
    found: Space = {}
    for path, given in space.items():
        distribution = _distribution_of(given, recipe, path)
        for value in extreme_values(distribution):
            with_values(recipe, {path: setting_value(value)})
        found[path] = distribution
    return found


def read_space(text: str, recipe: Recipe, path: str) -> BaseDistribution:
    """The space of the setting at a path, as written on a command line.

        log:1e-4..1e-1       evenly on a log scale
        0..0.5               evenly
        10..50               whole numbers, where the setting is one
        log:1e-4..1e-1/5     five values, both ends included
        [16, 64]             one of these, written as in TOML

    Raises `RecipeError` with what is wrong.

    >>> from ravine.catalog import named_recipe
    >>> read_space("log:1e-4..1e-1", named_recipe("plain"), "optimizer.lr")
    FloatDistribution(high=0.1, log=True, low=0.0001, step=None)
    """
    check_arguments(read_space, locals())
    whole = _is_integer(recipe, path)
    if text.startswith("["):
        try:
            values = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError) as error:  # no TOML, or thousands of digits or brackets
            do = 'write [16, 64] or ["ReLU", "SiLU"]'
            what = f"the list {shorten(text)} is not TOML"
            raise RecipeError(what, why=first_line(error), do=do) from None
        return _choices(values)
    if "..." in text:
        do = "write LOW..HIGH, numbers below 1 with a zero in front: 0.1..0.5"
        raise RecipeError(f"{text!r} has three dots", why="a range has two", do=do)
    found = re.fullmatch(r"(log:)?\s*([^\s.][^\s]*?)\s*\.\.\s*([^\s/]+)\s*(?:/\s*(\d+))?", text)
    try:
        low, high = (float(end) for end in (found.group(2, 3) if found else ("", "")))
    except ValueError:
        do = "write LOW..HIGH, log:LOW..HIGH (with /COUNT for so many values), or a list [A, B]"
        raise RecipeError(f"{text!r} is not a space", do=do) from None
    assert found is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        what = f"a space from {low:g} to {high:g}"
        raise RecipeError(what, why="the lower end must be below the upper one")
    log, whole = bool(found[1]), whole and low == int(low) and high == int(high)
    if log and low <= 0:
        what = f"a log scale from {low:g}"
        raise RecipeError(what, why="it must begin above 0", do="leave log: out of it")
    if found[4] is not None:
        count = int(found[4])
        if count < 2:
            why = "both ends of a range belong to it"
            raise RecipeError(f"a space of {count}", why=why, do="use 2 or more")
        values = (np.geomspace if log else np.linspace)(low, high, count).tolist()
        return _choices([round(x) for x in values] if whole else values)
    if whole:
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(low, high, log=log)


def auto_space(recipe: Recipe) -> Space:
    """The settings that matter most in a recipe, around the values that it has.

    The learning rate from 1/30 to 30 times its own; penalties and weight decay from 1/100 to 100
    times, dropout rates up to 0.6, and layers of half and of twice the width, where the recipe has
    them. Raises `RecipeError` where it has none of these.

    >>> from ravine.catalog import named_recipe
    >>> auto_space(named_recipe("plain"))["network.hidden"].choices
    ('[32]', '[64]', '[128]')
    """
    found: Space = {}
    for path, value in iterate_settings(recipe):
        name = path.rpartition(".")[2]
        if path == "optimizer.lr" and isinstance(value, float) and value > 0:
            found[path] = FloatDistribution(value / LR_FACTOR, value * LR_FACTOR, log=True)
        elif name in ("strength", "weight_decay") and isinstance(value, float) and value > 0:
            low, high = value / STRENGTH_FACTOR, value * STRENGTH_FACTOR
            found[path] = FloatDistribution(low, high, log=True)
        elif name == "rate" and "dropout" in path and isinstance(value, float):
            found[path] = FloatDistribution(0.0, MAX_DROPOUT_RATE)
        elif path in ("network.hidden", "network.channels") and value and isinstance(value, tuple):
            widths = [[max(1, int(w * factor)) for w in value] for factor in (0.5, 1, 2)]
            found[path] = _choices(widths)
    if not found:
        what, do = "no space is made for this recipe", "name its settings and their spaces"
        raise RecipeError(what, why="it has no rate, strength or width", do=do)
    first = [path for path in ("optimizer.lr",) if path in found]
    return {path: found[path] for path in (*first, *(p for p in found if p not in first))}


def setting_value(value: Any) -> Any:
    """The value of a setting that one of a distribution means: lists are kept in it as JSON.

    >>> setting_value("[16, 16]"), setting_value("SGD"), setting_value(0.1)
    ([16, 16], 'SGD', 0.1)
    """
    return json.loads(value) if isinstance(value, str) and value[:1] in ("[", "{") else value


def _distribution_of(given: SpaceLike, recipe: Recipe, path: str) -> BaseDistribution:
    get(recipe, path)  # raises where the recipe has no such setting
    if path.partition(".")[0] in NOT_TUNED:
        why = "all trials have the same seeds, and the same score on the same rows"
        raise RecipeError(f"{path} cannot be tuned", why=why, do="leave it out")
    if isinstance(given, str):
        return read_space(given, recipe, path)
    if isinstance(given, BaseDistribution):
        return given
    if isinstance(given, Sequence):
        return _choices(given)
    why = "it is a distribution of Optuna, a text such as 'log:1e-4..1e-1', or a list of values"
    raise InputError(f"the space of {path} is {value_text(given)}", why=why)


def _choices(values: Sequence[Any]) -> CategoricalDistribution:
    if not values:
        raise RecipeError("the list is empty", do="name some values")
    plain = (str, int, float, bool, type(None))
    texts = [v if isinstance(v, plain) else json.dumps(v) for v in values]
    return CategoricalDistribution(tuple(dict.fromkeys(texts)))


def extreme_values(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The ends of a range, or all of several values."""
    if isinstance(distribution, CategoricalDistribution):
        return tuple(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return (distribution.low, distribution.high)


def _is_integer(recipe: Recipe, path: str) -> bool:
    """Whether the setting at a path is a whole number that may not differ within a batch."""
    get(recipe, path)  # raises where the recipe has no such setting
    above, _, name = path.rpartition(".")
    owner = get(recipe, above) if above else recipe
    if not is_part(owner):
        return False
    hint = field_types(type(owner))[name]
    return not is_number(hint) and "int" in str(hint)

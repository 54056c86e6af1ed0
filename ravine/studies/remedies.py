"""Remedies for a recipe: a remedy is a change of settings; what there is to try, and how it is applied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ravine.catalog import changed
from ravine.errors import RecipeError
from ravine.finding import Change
from ravine.part import get
from ravine.recipe import Recipe


def applied(recipe: Recipe, changes: Iterable[Change]) -> Recipe:
    """The recipe with changes made, one after another. Raises `RecipeError` where a setting or a value is wrong.

    A value is a number, a word, or a part as plain data; None takes a part out.

    >>> from ravine.catalog import named
    >>> applied(named("plain"), [Change("network.activation", {"name": "Tanh"})]).network.activation
    Tanh()
    """
    for change in changes:
        get(recipe, change.path)
        value: Any = "none" if change.value is None else change.value
        if any(name.isdecimal() for name in change.path.split(".")):
            recipe = recipe.vary(change.path, value)
            continue
        for name in reversed(change.path.split(".")[1:]):
            value = {name: value}
        recipe = changed(recipe, {change.path.split(".")[0]: value})
    return recipe


def useful(recipe: Recipe, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Those of the changes that can be made and make a difference."""
    return tuple(change for change in changes if _differs(recipe, change))


def _differs(recipe: Recipe, change: Change) -> bool:
    try:
        return applied(recipe, [change]) != recipe
    except RecipeError:
        return False

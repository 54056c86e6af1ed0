"""An estimator's parameters as changes of a recipe, with the parameter's name in every message."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ravine.catalog import named_recipe
from ravine.errors import RecipeError, nearest
from ravine.networks.layer_parts import Dropout
from ravine.part import field_types
from ravine.recipe import Recipe, lr_path
from ravine.recipe_files import setting_from, with_values
from ravine.schedules import Constant

FLAT_PARAMETERS = ("lr", "hidden", "dropout", "weight_decay", "batch", "epochs")
SETTINGS_OF_COLUMNS = ("drop", "categories", "numbers", "texts")  # those of data that X has not


def recipe_to_start_from(given: object) -> Recipe:
    """The recipe to start from. Raises `TypeError` for what is neither a recipe nor a name."""
    recipe = named_recipe(given) if isinstance(given, str) else given
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe is {given!r}: it must be the name of a recipe, or a Recipe")
    return recipe


def with_parameters(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """A copy with the values of `FLAT_PARAMETERS`; those that are None stay as they are."""
    for name, value in values.items():
        if value is not None:
            with _errors_at(name):
                recipe = _with_parameter(recipe, name, value)
    return recipe


def with_changes_by_path(recipe: Recipe, settings: Mapping[str, Any] | None) -> Recipe:
    """A copy with the settings of a mapping; a text is read as on the command line."""
    if settings is None:
        return recipe
    if not isinstance(settings, Mapping) or not all(isinstance(path, str) for path in settings):
        why = 'it must map paths to values, such as {"optimizer.lr": 0.01}'
        raise RecipeError(f"settings is {settings!r}", why=why)
    for path in settings:
        part, _, name = path.partition(".")
        if part == "data" and name not in SETTINGS_OF_COLUMNS:
            with _errors_at(f"settings[{path!r}]"):
                why = f"of data only {', '.join(SETTINGS_OF_COLUMNS)} can be set"
                raise RecipeError("the data are X and y", why=why)
    values = {p: setting_from(v) if isinstance(v, str) else v for p, v in settings.items()}
    try:
        return with_values(recipe, values)
    except RecipeError as error:
        place = getattr(error, "path", "")
        near = [path for path in settings if f"{place}.".startswith(f"{path}.")]
        error.where = f"settings[{max(near, key=len)!r}]" if near else "settings"
        raise


def for_one_pass(recipe: Recipe) -> Recipe:
    """The recipe of one pass over the examples: none validates, and the learning rate stays."""
    recipe = replace(recipe, stop=None, average=None, snapshots=None, epochs=1)
    split = replace(recipe.split, validation=0.0, test=0.0)  # type: ignore[type-var]
    return replace(recipe, split=split, schedule=Constant())


def _with_parameter(recipe: Recipe, name: str, value: Any) -> Recipe:
    if name == "lr":
        return recipe.vary(lr_path(recipe), value)
    if name == "weight_decay":
        return recipe.vary(f"{lr_path(recipe).rpartition('.')[0]}.weight_decay", value)
    if name == "hidden":
        return recipe.vary("network.hidden", _widths(value))
    if name == "dropout":
        return _with_dropout(recipe, value)
    return recipe.vary(name, value)


def _widths(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return (value,)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _with_dropout(recipe: Recipe, rate: Any) -> Recipe:
    """The recipe with dropout of a rate, of the kind that it has; 0 takes it out."""
    if "dropout" not in field_types(type(recipe.network)):
        what = f"{type(recipe.network).__name__} has no setting 'dropout'"
        raise RecipeError(what, why=nearest("dropout", field_types(type(recipe.network))))
    used = getattr(recipe.network, "dropout", None)
    used = Dropout(rate=rate) if used is None else replace(used, rate=rate)
    return recipe.vary("network.dropout", None if used.rate == 0 else used)


@contextmanager
def _errors_at(parameter: str) -> Iterator[None]:
    """Errors in a recipe name the parameter that they come from."""
    try:
        yield
    except RecipeError as error:
        error.where = parameter
        raise

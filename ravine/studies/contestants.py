"""What is compared: recipes, modules and estimators by name, made ready for a fair comparison."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from torch import nn

from ravine.errors import InputError, RecipeError, shorten, value_text
from ravine.networks.torch_module import ModuleFactory, TorchModule
from ravine.part import is_part
from ravine.recipe import Recipe
from ravine.recipe_files import setting_from, with_settings
from ravine.serialization import iterate_settings, to_plain

MAX_CHOICES = 64
NOT_COMPARED = ("seed", "seeds", "split_seed")  # the same for all choices
VARY_EXAMPLE = "write --vary optimizer=SGD,AdamW, or --vary optimizer.lr=1e-3,1e-2"

# a recipe, an estimator of scikit-learn, or a function that makes a module
Choice: TypeAlias = Recipe | ModuleFactory | Any


@dataclass(frozen=True)
class Contestants:
    """The choices by name, in the order given; recipes have the same seeds and the same split."""

    names: tuple[str, ...]
    recipes: Mapping[str, Recipe]
    estimators: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def settings_of(self, name: str) -> dict[str, Any]:
        """The settings of a recipe that are not those of all recipes, by path."""
        if name not in self.recipes:
            return {}
        return _differing(list(self.recipes.values()), self.recipes[name])


def read_choices(
    choices: Mapping[str, Choice] | Sequence[Recipe], base: Recipe | None, seeds: int
) -> Contestants:
    """The choices, checked and given the seeds of the first recipe. Raises `InputError`."""
    named = _choices_by_name(choices)
    if len(named) < 2:
        what = f"there is {'one choice' if named else 'no choice'}"
        do = "give at least two; on the command line --vary optimizer=SGD,AdamW makes them"
        raise InputError(what, why="nothing stands beside it", do=do)
    if len(named) > MAX_CHOICES:
        what, do = f"there are {len(named)} choices", "use ravine tune to choose among many"
        raise InputError(what, why=f"at most {MAX_CHOICES} can be compared fairly", do=do)
    own = [choice for choice in named.values() if isinstance(choice, Recipe)]
    first = base if base is not None else (own[0] if own else None)
    if first is None:
        what, do = "no choice is a recipe", "pass base=ravine.named_recipe(...)"
        raise InputError(what, why="the data and the split are a recipe's", do=do)
    recipes, estimators = {}, {}
    for name, choice in named.items():
        if isinstance(choice, Recipe):
            recipes[name] = choice
        elif hasattr(choice, "fit") and hasattr(choice, "predict"):
            estimators[name] = choice
        elif callable(choice) and not isinstance(choice, nn.Module):
            recipes[name] = replace(first, network=TorchModule(make=cast(ModuleFactory, choice)))
        else:
            why = "a choice is a Recipe, an estimator of scikit-learn, or a function of a Signature"
            do = "write lambda signature: nn.Sequential(...)"
            do = do if isinstance(choice, nn.Module) else ""
            raise InputError(f"the choice {name!r} is {value_text(choice)}", why=why, do=do)
    if not recipes:
        what, do = "no choice is a network", "give a recipe beside the estimators"
        raise InputError(what, why="ravine compares networks, and others with them", do=do)
    same = {"seeds": seeds, "seed": first.seed, "split_seed": first.split_seed}
    notes = []
    for path in ("seed", "split_seed"):
        if any(getattr(recipe, path) != same[path] for recipe in recipes.values()):
            notes.append(f"All choices have {path} {same[path]}, which differed in the recipes.")
    aligned = {name: replace(recipe, **same) for name, recipe in recipes.items()}
    return Contestants(tuple(named), aligned, estimators, tuple(notes))


def _choices_by_name(choices: Any) -> dict[str, Any]:
    if isinstance(choices, Mapping):
        for name in choices:
            if not isinstance(name, str) or not name.strip():
                raise InputError(f"a choice is named {name!r}", why="a name is a text")
        return dict(choices)
    if isinstance(choices, Recipe) or not isinstance(choices, Sequence) or isinstance(choices, str):
        what, why = f"choices is {value_text(choices)}", "it must be a mapping of names to choices"
        raise InputError(what, why=why, do='write {"one": recipe, "other": recipe}')
    recipes = [choice for choice in choices if isinstance(choice, Recipe)]
    if len(recipes) < len(choices):
        what = next(value_text(c) for c in choices if not isinstance(c, Recipe))
        why = "only recipes are named by what differs"
        raise InputError(f"a choice is {what}", why=why, do="give a mapping of names to choices")
    return dict(zip(_names_of(recipes), recipes, strict=True))


def _names_of(recipes: Sequence[Recipe]) -> list[str]:
    """A name for each recipe, from the settings in which it differs from others."""
    names = []
    for i, recipe in enumerate(recipes):
        settings = _differing(recipes, recipe)
        text = ", ".join(f"{path}={shorten(str(value))}" for path, value in settings.items())
        names.append(text or f"recipe {i + 1}")
    twice = {name for name in names if names.count(name) > 1}
    return [f"{name} ({i + 1})" if name in twice else name for i, name in enumerate(names)]


def _differing(recipes: Sequence[Recipe], recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings that are not the same in all recipes, by path; of parts of different
    classes the class alone.
    """
    every = [dict(iterate_settings(one)) for one in recipes]
    found: dict[str, Any] = {}
    for path, value in iterate_settings(recipe):
        given = [settings.get(path) for settings in every]
        is_below = any(path.startswith(f"{known}.") for known in found)
        if path in NOT_COMPARED or is_below or all(one == value for one in given):
            continue
        if is_part(value):
            if any(type(one) is not type(value) for one in given):
                found[path] = type(value).__name__
        else:
            found[path] = to_plain(value)
    return found


def vary_recipe(
    recipe: Recipe, assignments: Sequence[str], same: Sequence[str] = ()
) -> dict[str, Recipe]:
    """All combinations of values, `optimizer=SGD,AdamW` and so on, as recipes by name.

    `same` are settings of all of them, `optimizer.lr=0.1`, which are taken together with those that
    vary. Raises `InputError` for a setting that the recipe does not have, values that it cannot
    take, and seeds: these are the same for all choices.

    >>> from ravine.catalog import named_recipe
    >>> list(vary_recipe(named_recipe("plain"), ["optimizer.lr=0.1,0.01", "epochs=5"]))
    ['lr=0.1', 'lr=0.01']
    """
    lists: list[list[tuple[str, str]]] = []
    for assignment in assignments:
        path, equals, values = assignment.partition("=")
        texts = _split_values(values)
        if not equals or not path.strip() or not texts:
            why = "it names no setting with its values"
            raise InputError(f"--vary {shorten(assignment)}", why=why, do=VARY_EXAMPLE)
        lists.append([(path.strip(), text) for text in texts])
    paths = [options[0][0] for options in lists]
    for path in paths:
        if path in NOT_COMPARED:
            what, do = f"--vary varies {path}", "use --seeds for how many networks"
            raise InputError(what, why="all choices have the same seeds and splits", do=do)
        if paths.count(path) > 1:
            do = f"write --vary {path}=VALUE,VALUE"
            raise InputError(f"--vary names {path} twice", why="once lists all its values", do=do)
    found: dict[str, Recipe] = {}
    for combination in itertools.product(*lists):
        settings = [f"{path}={text}" for path, text in combination]
        varied = [
            f"{text}" if "." not in path and _is_word(text) else f"{path.rpartition('.')[2]}={text}"
            for (path, text), options in zip(combination, lists, strict=True)
            if len(options) > 1
        ]
        try:
            varied_recipe = with_settings(recipe, *same, *settings)
        except RecipeError as error:
            error.where = error.where.replace("--set", "--vary")
            raise
        found[", ".join(varied) or ", ".join(settings)] = varied_recipe
    return found


def _split_values(text: str) -> list[str]:
    """The values of a list with commas; those within brackets or quotes do not separate."""
    values, depth, quoted = [""], 0, ""
    for letter in text:
        if letter in "\"'":
            quoted = "" if quoted == letter else quoted or letter
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quoted:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values if value.strip()]


def _is_word(text: str) -> bool:
    return isinstance(setting_from(text), str)

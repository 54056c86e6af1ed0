"""Changes of a recipe: how a setting is changed, and what is worth changing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ravine.errors import RecipeError
from ravine.finding import MANUAL_CHANGES, Change, Report
from ravine.recipe import Recipe
from ravine.recipe_files import with_values

HE_START = Change("network.initializer", {"name": "He"})
ZERO_BIAS = Change("network.bias", {"name": "Constant", "value": 0.0})
IN_RECIPES: Mapping[tuple[str, str], Change] = {  # by path and, where it matters, value
    ("input.scale", ""): Change("encoding.scale", "standard"),
    ("target.scale", ""): Change("encoding.target", "standard"),
    ("loss", "weights by class"): Change("class_weights", "balanced"),
    ("loss", "pos_weight"): Change("class_weights", "balanced"),
    ("init", "biases of 0"): ZERO_BIAS,
    ("init", ""): HE_START,
    ("activation", ""): Change("network.activation", {"name": "ReLU"}),
    ("dropout", ""): Change("network.dropout", None),
    ("clip", ""): Change("clip", None),
}


@dataclass(frozen=True)
class SetSetting:
    """A setting of a recipe and its new value: a number, a word, a part as plain data, or None."""

    change: Change


def apply_changes(recipe: Recipe, changes: Iterable[Change]) -> Recipe:
    """The recipe with changes made. Raises `RecipeError` where a setting or a value is wrong."""
    return with_values(recipe, {change.path: change.value for change in changes})


def useful_changes(recipe: Recipe, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Those of the changes that can be made and make a difference; and those that are made by hand.
    What a rule for any program calls `input.scale` has its own name in a recipe.
    """
    names = IN_RECIPES
    named = (names.get((c.path, str(c.value))) or names.get((c.path, "")) or c for c in changes)
    return tuple(c for c in named if c.path in MANUAL_CHANGES or _differs(recipe, c))


def _differs(recipe: Recipe, change: Change) -> bool:
    try:
        return apply_changes(recipe, [change]) != recipe
    except RecipeError:
        return False


def fix_recipe(recipe: Recipe, report: Report) -> Recipe:
    """The recipe with all changes that were tried and helped; of two for one setting the first."""
    paths: set[str] = set()
    for finding in report.findings:
        if finding.trial is not None and finding.trial.verdict == "helped":
            taken = paths | set(MANUAL_CHANGES)
            changes = [c for c in finding.changes if c.path not in taken]
            recipe = apply_changes(recipe, changes)
            paths |= {c.path for c in changes}
    return recipe

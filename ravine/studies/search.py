"""Hyperparameter search: grid and random, over a recipe's settings, by the validation score.

Trials that differ only in numbers (rates, strengths) train as one batch, so a search costs little
more than a run. The test split is first used when the best recipe is trained again.
Letters: T trials, k of them, D settings.
"""

import itertools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch

from ravine import metrics
from ravine.argument_checks import Bounds, Count, Seed, check_arguments
from ravine.data import Task
from ravine.errors import RecipeError, first_line, shorten
from ravine.part import field_types, is_number, is_part
from ravine.recipe import Recipe
from ravine.recipe_files import with_values
from ravine.rng import stream
from ravine.serialization import get
from ravine.studies.search_results import Search, SearchTrial
from ravine.training.defaults import load_tasks, resolve
from ravine.training.run import Run
from ravine.training.train import train, train_on

EXAMPLE_ADVICE = "write --space optimizer.lr=log:1e-4..1e-1"


class SearchSpace(Protocol):
    """The values that a setting may take."""

    def draw(self, share: float) -> Any:
        """The value at a share (0 ≤ share < 1) of the space; uniform shares draw at random."""
        ...

    def grid(self) -> tuple[Any, ...] | None:
        """The values of a grid; None where it is not said how many."""
        ...


@dataclass(frozen=True)
class ChoiceSpace:
    """One of several values.

    >>> ChoiceSpace(("a", "b")).draw(0.7), ChoiceSpace(("a", "b")).grid()
    ('b', ('a', 'b'))
    """

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise RecipeError("a choice without values", do="name some values")

    def draw(self, share: float) -> Any:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]

    def grid(self) -> tuple[Any, ...]:
        return self.values


@dataclass(frozen=True)
class _RangeSpace:
    low: float
    high: float
    count: int | None = None  # of a grid, both ends included

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            what = f"a space from {self.low:g} to {self.high:g}"
            raise RecipeError(what, why="the lower end must be below the upper one")
        if self.count is not None and self.count < 2:
            why = "both ends of a range belong to it"
            raise RecipeError(f"a grid of {self.count}", why=why, do="use 2 or more")


@dataclass(frozen=True)
class UniformSpace(_RangeSpace):
    """Numbers from `low` to `high`; a grid has `count` of them, both ends included.

    >>> UniformSpace(0.0, 1.0).draw(0.25), UniformSpace(0.0, 1.0, count=3).grid()
    (0.25, (0.0, 0.5, 1.0))
    """

    def draw(self, share: float) -> float:
        return self.low + share * (self.high - self.low)

    def grid(self) -> tuple[float, ...] | None:
        count = self.count
        return None if count is None else tuple(np.linspace(self.low, self.high, count).tolist())


@dataclass(frozen=True)
class LogUniformSpace(_RangeSpace):
    """Numbers from `low` to `high`, evenly on a log scale; a grid has `count` of them.

    >>> space = LogUniformSpace(0.001, 0.1, count=3)
    >>> round(space.draw(0.5), 6), [round(x, 6) for x in space.grid()]
    (0.01, [0.001, 0.01, 0.1])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            what = f"a log scale from {self.low:g}"
            raise RecipeError(what, why="it must begin above 0", do="leave log: out of it")

    def draw(self, share: float) -> float:
        return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))

    def grid(self) -> tuple[float, ...] | None:
        count = self.count
        return None if count is None else tuple(np.geomspace(self.low, self.high, count).tolist())


@dataclass(frozen=True)
class IntegerSpace(_RangeSpace):
    """Whole numbers from `low` to `high`, both included; a grid has `count` of them, or all.

    >>> IntegerSpace(1, 4).draw(0.999), IntegerSpace(1, 9, count=3).grid()
    (4, (1, 5, 9))
    """

    low: int
    high: int

    def draw(self, share: float) -> int:
        return min(self.low + int(share * (self.high - self.low + 1)), self.high)

    def grid(self) -> tuple[int, ...]:
        count = self.high - self.low + 1 if self.count is None else self.count
        return tuple(dict.fromkeys(round(x) for x in np.linspace(self.low, self.high, count)))


def read_space(text: str, recipe: Recipe) -> tuple[str, SearchSpace]:
    """A setting's path and its space, as written on a command line.

        optimizer.lr=log:1e-4..1e-1        evenly on a log scale; with /5 behind it, five values
        network.dropout.rate=0..0.5        evenly
        epochs=10..50                      whole numbers, where the setting is one
        batch=[16, 64]                     one of these, written as in TOML

    Raises `RecipeError` with what is wrong; the setting must be one of the recipe's.

    >>> from ravine.catalog import named_recipe
    >>> read_space("optimizer.lr=log:1e-4..1e-1/4", named_recipe("plain"))
    ('optimizer.lr', LogUniformSpace(low=0.0001, high=0.1, count=4))
    """
    check_arguments(read_space, locals())
    path, _, given = (x.strip() for x in text.partition("="))
    where = f"--space {text}"
    if not path or not given:
        raise RecipeError(where, why="it must be PATH=SPACE", do=EXAMPLE_ADVICE)
    try:
        return path, _parse_space(given, _is_integer(recipe, path))
    except RecipeError as error:
        error.where = where
        raise


def read_spaces(texts: Sequence[str], recipe: Recipe) -> dict[str, SearchSpace]:
    """Several spaces, by path. Raises `RecipeError` where a path is named twice."""
    check_arguments(read_spaces, locals())
    found: dict[str, SearchSpace] = {}
    for text in texts:
        path, space = read_space(text, recipe)
        if path in found:
            why = f"{path} has a space already"
            raise RecipeError(f"--space {text}", why=why, do="leave one of them out")
        found[path] = space
    return found


def _parse_space(given: str, whole: bool) -> SearchSpace:
    """The space behind PATH=; `whole` says that the setting is a whole number."""
    if given.startswith("["):
        try:
            values = tomllib.loads(f"value = {given}")["value"]
        except (ValueError, RecursionError) as error:  # no TOML, or thousands of digits or brackets
            do = 'write [16, 64] or ["ReLU", "SiLU"]'
            what = f"the list {shorten(given)} is not TOML"
            raise RecipeError(what, why=first_line(error), do=do) from None
        if not values:
            raise RecipeError("the list is empty", do="name some values")
        return ChoiceSpace(tuple(values))
    if "..." in given:
        do = "write LOW..HIGH, numbers below 1 with a zero in front: 0.1..0.5"
        raise RecipeError(f"{given!r} has three dots", why="a range has two", do=do)
    found = re.fullmatch(r"(log:)?\s*([^\s.][^\s]*?)\s*\.\.\s*([^\s/]+)\s*(?:/\s*(\d+))?", given)
    try:
        low, high = (float(end) for end in (found.group(2, 3) if found else ("", "")))
    except ValueError:
        do = "write LOW..HIGH, log:LOW..HIGH (with /COUNT for a grid), or a list [A, B]"
        raise RecipeError(f"{given!r} is not a space", do=do) from None
    assert found is not None
    count = None if found[4] is None else int(found[4])
    if found[1]:
        return LogUniformSpace(low, high, count)
    if whole and low == int(low) and high == int(high):
        return IntegerSpace(int(low), int(high), count)
    return UniformSpace(low, high, count)


def _is_integer(recipe: Recipe, path: str) -> bool:
    """Whether the setting at a path is a whole number that may not differ within a batch."""
    get(recipe, path)  # raises where the recipe has no such setting
    above, _, name = path.rpartition(".")
    owner = get(recipe, above) if above else recipe
    if not is_part(owner):
        return False
    hint = field_types(type(owner))[name]
    return not is_number(hint) and "int" in str(hint)


def search(
    recipe: Recipe,
    space: Mapping[str, SearchSpace],
    frame: Any = None,
    *,
    method: Literal["random", "grid"] = "random",
    trials: Count = 32,
    seeds: Count = 1,
    seed: Seed = 0,
    refit: bool = True,
) -> Search:
    """Try settings of a recipe and find those with the best validation score.

    "random" draws `trials` times, each setting from a stream of its own (seed, path, trial): adding
    a setting does not change the others' values, more trials begin with the same ones. "grid" tries
    every combination (and ignores `trials`). Each trial trains `seeds` networks, the same seeds for
    all. Raises `RecipeError` before any training for a space that is none, settings that the recipe
    has not, and a recipe without a validation split.

    >>> from ravine.catalog import named_recipe
    >>> recipe = named_recipe("plain").vary("data.source", "iris").vary("epochs", 3)
    >>> found = search(recipe, {"optimizer.lr": LogUniformSpace(1e-3, 1.0)}, trials=4)
    >>> len(found.trials), found.metric, found.refit.score.split
    (4, 'accuracy', 'test')
    """
    check_arguments(search, locals())
    if recipe.split.validation == 0:
        what, do = "the recipe keeps no validation split", "set split.validation above 0"
        raise RecipeError(what, why="a search selects by it", do=do)
    chosen = draw_trials(space, method=method, trials=trials, seed=seed)
    recipes = [with_values(recipe, values).vary("seeds", seeds) for values in chosen]
    # trials are chosen by validation: the test split is scored once, by the refit
    tasks = [replace(task, test=None) for task in load_tasks(recipes, frame)]
    resolved = [resolve(recipe, task) for recipe, task in zip(recipes, tasks, strict=True)]
    runs = train_on(tasks, resolved)
    metric = metrics.main_metric(runs[0].record.task["kind"], runs[0].recipe.metric)
    tried = []
    for values, original, run, task in zip(chosen, recipes, runs, tasks, strict=True):
        original = original.vary("seeds", recipe.seeds)
        tried.append(_trial_of(run, task, values=values, recipe=original, metric=metric))
    found = Search(tuple(tried), metric.name, metric.higher_is_better)
    return replace(found, refit=train(found.best.recipe, frame)) if refit else found


def _trial_of(
    run: Run, task: Task, *, values: Mapping[str, Any], recipe: Recipe, metric: metrics.Metric
) -> SearchTrial:
    """What a trial's run reached on the validation split."""
    networks = run.record.members
    each = tuple(
        math.nan if m.outcome == "diverged" else m.validation.get(metric.name, math.nan)
        for m in networks
    )
    low = high = math.nan
    if not run.record.failures:
        assert run.model is not None and task.validation is not None
        assert task.validation.targets is not None
        target = task.encoder.target
        predictions = target.decode(run.model.member_predictions(task.validation))
        truth = target.decode(task.validation.targets.to(predictions.device))
        intervals = [metrics.confidence_interval(metric.name, p, truth) for p in predictions]
        low, high = np.mean(intervals, 0).tolist()
    loss = float(np.mean([m.validation.get("loss", math.nan) for m in networks]))
    return SearchTrial(values, recipe, float(np.mean(each)), each, low=low, high=high, loss=loss)


def draw_trials(
    space: Mapping[str, SearchSpace],
    *,
    method: Literal["random", "grid"],
    trials: Annotated[int, Bounds(ge=0, le=100_000)],
    seed: Seed,
) -> list[dict[str, Any]]:
    """The values by path of every trial.

    >>> spaces = {"a": IntegerSpace(1, 2), "b": ChoiceSpace(("x", "y"))}
    >>> draw_trials(spaces, method="grid", trials=0, seed=0)
    [{'a': 1, 'b': 'x'}, {'a': 1, 'b': 'y'}, {'a': 2, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    """
    check_arguments(draw_trials, locals())
    if not space:
        why = "no setting has a space"
        raise RecipeError("there is nothing to search", why=why, do=EXAMPLE_ADVICE)
    if method == "grid":
        grids = []
        for path, values in space.items():
            grid = values.grid()
            if grid is None:
                what = f"the space of {path} has no count"
                do = f"write {path}=LOW..HIGH/5, or search at random"
                raise RecipeError(what, why="a grid must know how many values to try", do=do)
            grids.append(grid)
        return [dict(zip(space, v, strict=True)) for v in itertools.product(*grids)]
    if trials < 1:
        raise RecipeError(f"{trials} trials", why="a search needs at least one")

    def draw(path: str, trial: int) -> Any:
        generator = stream(seed, f"search/{path}", trial)
        return space[path].draw(float(torch.rand((), generator=generator, dtype=torch.float64)))

    return [{path: draw(path, t) for path in space} for t in range(trials)]

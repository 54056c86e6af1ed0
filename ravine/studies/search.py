"""Hyper-parameter search (H1): grid and random search over a recipe's settings, judged on the
validation split.

Trials that differ only in numbers (rates, strengths) train as one batch, so a search costs little
more than a run. The test split is not looked at before the one best recipe is trained again.
Letters: T trials, k of them, D settings.
"""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike

from ravine import metrics
from ravine.errors import RecipeError
from ravine.part import field_types, is_number, is_part
from ravine.recipe import Recipe
from ravine.recipe_files import with_changes
from ravine.rng import stream
from ravine.serialization import get
from ravine.statistics import BOOTSTRAP_RESAMPLES
from ravine.training.defaults import load_task, resolve
from ravine.training.run import Run
from ravine.training.train import train, train_on

# Spaces


class SearchSpace(Protocol):
    """The values that a setting may take."""

    def draw(self, share: float) -> Any:
        """The value at a share (0 ≤ share < 1) of the space: a uniform share gives a random
        value.
        """
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
class UniformSpace:
    """Numbers from `low` to `high`; a grid has `count` of them, both ends included.

    >>> UniformSpace(0.0, 1.0).draw(0.25), UniformSpace(0.0, 1.0, count=3).grid()
    (0.25, (0.0, 0.5, 1.0))
    """

    low: float
    high: float
    count: int | None = None

    def __post_init__(self) -> None:
        _checked(self.low, self.high, self.count)

    def draw(self, share: float) -> float:
        return self.low + share * (self.high - self.low)

    def grid(self) -> tuple[float, ...] | None:
        return (
            None
            if self.count is None
            else tuple(np.linspace(self.low, self.high, self.count).tolist())
        )


@dataclass(frozen=True)
class LogUniformSpace:
    """Numbers from `low` to `high`, evenly on a log scale; a grid has `count` of them, both ends
    included.

    >>> space = LogUniformSpace(0.001, 0.1, count=3)
    >>> round(space.draw(0.5), 6), [round(x, 6) for x in space.grid()]
    (0.01, [0.001, 0.01, 0.1])
    """

    low: float
    high: float
    count: int | None = None

    def __post_init__(self) -> None:
        _checked(self.low, self.high, self.count)
        if self.low <= 0:
            raise RecipeError(
                f"a log scale from {self.low:g}",
                why="it must begin above 0",
                do="leave log: out of it",
            )

    def draw(self, share: float) -> float:
        return math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))

    def grid(self) -> tuple[float, ...] | None:
        return (
            None
            if self.count is None
            else tuple(np.geomspace(self.low, self.high, self.count).tolist())
        )


@dataclass(frozen=True)
class IntegerSpace:
    """Whole numbers from `low` to `high`, both included; a grid has `count` of them, or all.

    >>> IntegerSpace(1, 4).draw(0.999), IntegerSpace(1, 9, count=3).grid()
    (4, (1, 5, 9))
    """

    low: int
    high: int
    count: int | None = None

    def __post_init__(self) -> None:
        _checked(self.low, self.high, self.count)

    def draw(self, share: float) -> int:
        return min(self.low + int(share * (self.high - self.low + 1)), self.high)

    def grid(self) -> tuple[int, ...]:
        count = self.high - self.low + 1 if self.count is None else self.count
        return tuple(dict.fromkeys(round(x) for x in np.linspace(self.low, self.high, count)))


def _checked(low: float, high: float, count: int | None) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RecipeError(
            f"a space from {low:g} to {high:g}", why="the lower end must be below the upper one"
        )
    if count is not None and count < 2:
        raise RecipeError(
            f"a grid of {count}", why="both ends of a range belong to it", do="use 2 or more"
        )


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
    path, equals, given = (x.strip() for x in text.partition("="))
    where = f"--space {text}"
    if not equals or not path or not given:
        raise RecipeError(
            where, why="it must be PATH=SPACE", do="write --space optimizer.lr=log:1e-4..1e-1"
        )
    try:
        get(recipe, path)
    except RecipeError as error:
        error.where = where
        raise
    if given.startswith("["):
        return path, ChoiceSpace(_listed(given, where))
    found = re.fullmatch(r"(log:)?\s*([^\s.][^\s]*?)\s*\.\.\s*([^\s/]+)\s*(?:/\s*(\d+))?", given)
    try:
        if found is None:
            raise ValueError
        low, high = float(found[2]), float(found[3])
    except ValueError:
        raise RecipeError(
            where,
            why=f"{given!r} is no space",
            do="write LOW..HIGH, log:LOW..HIGH (with /COUNT for a grid), or a list [A, B]",
        ) from None
    count = None if found[4] is None else int(found[4])
    try:
        if found[1]:
            return path, LogUniformSpace(low, high, count)
        if _whole(recipe, path) and low == int(low) and high == int(high):
            return path, IntegerSpace(int(low), int(high), count)
        return path, UniformSpace(low, high, count)
    except RecipeError as error:
        error.where = where
        raise


def _listed(given: str, where: str) -> tuple[Any, ...]:
    try:
        values = tomllib.loads(f"value = {given}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(
            where, why=f"the list is not TOML: {error}", do='write [16, 64] or ["ReLU", "SiLU"]'
        ) from None
    if not values:
        raise RecipeError(where, why="the list is empty", do="name some values")
    return tuple(values)


def _whole(recipe: Recipe, path: str) -> bool:
    """Whether the setting at a path is a whole number: then it is none that may differ within a
    batch.
    """
    above, _, name = path.rpartition(".")
    owner = get(recipe, above) if above else recipe
    return (
        is_part(owner)
        and not is_number(field_types(type(owner))[name])
        and "int" in str(field_types(type(owner))[name])
    )


# Searching


@dataclass(frozen=True)
class SearchTrial:
    """One choice of settings: their values by path, the recipe, and its score on the validation
    split.

    `score` is the mean over the recipe's networks; NaN where one of them diverged: then the trial
    failed.
    """

    values: Mapping[str, Any]
    recipe: Recipe
    score: float
    members: tuple[float, ...]

    @property
    def failed(self) -> bool:
        return math.isnan(self.score)


@dataclass(frozen=True)
class Search:
    """What a search found: every trial in the order tried, and which is best.

    `refit` is the best recipe trained again with all its seeds, on whose test split nothing was
    chosen (None where it was not asked for).
    """

    trials: tuple[SearchTrial, ...]
    metric: str
    higher_is_better: bool
    refit: Run | None = None

    @property
    def best(self) -> SearchTrial:
        """The trial with the best score; the first of equals. Raises `RecipeError` if all
        failed.
        """
        ordered = self.ranked()
        if ordered[0].failed:
            raise RecipeError(
                f"all {len(self.trials)} trials diverged", do="search among smaller learning rates"
            )
        return ordered[0]

    @property
    def failures(self) -> int:
        return sum(t.failed for t in self.trials)

    def ranked(self) -> list[SearchTrial]:
        """The trials, best first, failed ones last."""
        sign = -1.0 if self.higher_is_better else 1.0
        return sorted(self.trials, key=lambda t: math.inf if t.failed else sign * t.score)

    def curve(self) -> np.ndarray:
        """The expected best score of k trials, [T] for k = 1 ... T (see `expected_best`)."""
        return expected_best([t.score for t in self.trials], higher_is_better=self.higher_is_better)

    def in_words(self, most: int = 10) -> str:
        """A table of the best trials, best first."""
        paths = list(self.trials[0].values)
        rows = [[*paths, f"validation {self.metric}"]]
        for trial in self.ranked()[:most]:
            score = "diverged" if trial.failed else f"{trial.score:.4g}"
            rows.append([*(_said(trial.values[p]) for p in paths), score])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        if len(self.trials) > most:
            lines.append(f"and {len(self.trials) - most} more")
        failed = f", {self.failures} diverged" if self.failures else ""
        lines.append(f"{len(self.trials)} trials{failed}")
        if self.refit is not None and self.refit.score is not None:
            score = self.refit.score
            lines.append(
                f"the best, trained again: {score.split} {score.metric} {score.value:.4g} "
                f"[{score.low:.4g}, {score.high:.4g}]"
            )
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        trials = [
            {
                "values": dict(t.values),
                "score": t.score,
                "members": list(t.members),
                "failed": t.failed,
            }
            for t in self.trials
        ]
        refit = None if self.refit is None else self.refit.record.to_json()["score"]
        return {
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "failures": self.failures,
            "best": dict(self.best.values),
            "trials": trials,
            "expected_best": self.curve().tolist(),
            "score": refit,
        }


def search(
    recipe: Recipe,
    space: Mapping[str, SearchSpace],
    frame: Any = None,
    *,
    method: str = "random",
    trials: int = 32,
    seeds: int = 1,
    seed: int = 0,
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
    if recipe.split.validation == 0:
        raise RecipeError(
            "the recipe keeps no validation split",
            why="a search judges by it",
            do="set split.validation above 0",
        )
    chosen = drawn(space, method=method, trials=trials, seed=seed)
    recipes = [_with(recipe, values).vary("seeds", seeds) for values in chosen]
    tasks: dict[Any, Any] = {}
    resolved = []
    for r in recipes:
        key = (r.data, r.split, r.encoding, r.split_seed)
        if key not in tasks:
            tasks[key] = load_task(r, frame)
        resolved.append((tasks[key], resolve(r, tasks[key])))
    runs = train_on([t for t, _ in resolved], [r for _, r in resolved])
    metric = metrics.main_metric(resolved[0][0].kind)
    made = []
    for values, original, run in zip(chosen, recipes, runs, strict=True):
        each = tuple(
            math.nan if m.outcome == "diverged" else m.validation.get(metric.name, math.nan)
            for m in run.record.members
        )
        made.append(
            SearchTrial(values, original.vary("seeds", recipe.seeds), float(np.mean(each)), each)
        )
    found = Search(tuple(made), metric.name, metric.higher_is_better)
    if not refit:
        return found
    return Search(
        found.trials, found.metric, found.higher_is_better, train(found.best.recipe, frame)
    )


def drawn(
    space: Mapping[str, SearchSpace], *, method: str, trials: int, seed: int
) -> list[dict[str, Any]]:
    """The values by path of every trial.

    >>> spaces = {"a": IntegerSpace(1, 2), "b": ChoiceSpace(("x", "y"))}
    >>> drawn(spaces, method="grid", trials=0, seed=0)
    [{'a': 1, 'b': 'x'}, {'a': 1, 'b': 'y'}, {'a': 2, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    """
    if not space:
        raise RecipeError(
            "there is nothing to search",
            why="no setting has a space",
            do="write --space optimizer.lr=log:1e-4..1e-1",
        )
    if method == "grid":
        grids = {path: s.grid() for path, s in space.items()}
        for path, grid in grids.items():
            if grid is None:
                raise RecipeError(
                    f"the space of {path} has no count",
                    why="a grid must know how many values to try",
                    do=f"write {path}=LOW..HIGH/5, or search at random",
                )
        return [
            dict(zip(space, values, strict=True))
            for values in itertools.product(*grids.values())  # type: ignore
        ]
    if method != "random":
        raise RecipeError(f"no method {method!r}", why="there are grid, random")
    if trials < 1:
        raise RecipeError(f"{trials} trials", why="a search needs at least one")
    return [
        {
            path: s.draw(
                float(
                    torch.rand((), generator=stream(seed, f"search/{path}", t), dtype=torch.float64)
                )
            )
            for path, s in space.items()
        }
        for t in range(trials)
    ]


def _with(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    for path, value in values.items():
        get(recipe, path)
        nested: Any = value
        if isinstance(value, (int, float)) or any(name.isdecimal() for name in path.split(".")):
            recipe = recipe.vary(path, value)
            continue
        for name in reversed(path.split(".")[1:]):
            nested = {name: nested}
        recipe = with_changes(recipe, {path.split(".")[0]: nested})
    return recipe


def expected_best(scores: ArrayLike, *, higher_is_better: bool = True) -> np.ndarray:
    """The expected best of k of the T scores drawn without replacement, for k = 1 ... T: [T].

        E[max of k of T] = Σᵢ₌ₖᵀ C(i − 1, k − 1) / C(T, k) · x₍ᵢ₎,  x₍₁₎ ≤ ... ≤ x₍ₜ₎

    Unbiased for the best of k new trials (Tang et al. 2020); the plug-in estimate of Dodge et al.
    2019 is too low. A failed trial (NaN) counts as the worst score of those that did not fail.

    >>> expected_best([1.0, 2.0, 3.0]).round(4).tolist()
    [2.0, 2.6667, 3.0]
    """
    x = np.asarray(scores, dtype=float).ravel()
    sign = 1.0 if higher_is_better else -1.0
    x = np.where(np.isnan(x), np.nanmin(sign * x), sign * x)
    return sign * np.sort(x) @ _shares(len(x)).T


def best_of_k_interval(
    scores: ArrayLike, *, higher_is_better: bool = True, seed: int = 0
) -> np.ndarray:
    """The 95 % interval of the expected best of k, by the bootstrap over trials: [2, T], low and
    high.
    """
    x = np.asarray(scores, dtype=float).ravel()
    sign = 1.0 if higher_is_better else -1.0
    x = np.where(np.isnan(x), np.nanmin(sign * x), sign * x)
    drawn = np.sort(
        x[np.random.default_rng(seed).integers(0, len(x), (BOOTSTRAP_RESAMPLES, len(x)))], axis=1
    )
    return np.sort(sign * np.quantile(drawn @ _shares(len(x)).T, (0.025, 0.975), axis=0), axis=0)


def _shares(count: int) -> np.ndarray:
    """C(i − 1, k − 1) / C(T, k) for k (rows) and i (columns) from 1 to T, by logarithms."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])

    def log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    k, i = np.meshgrid(np.arange(1, count + 1), np.arange(1, count + 1), indexing="ij")
    possible = i >= k
    held = np.where(possible, i, k)
    return np.where(
        possible, np.exp(log_choose(held - 1, k - 1) - log_choose(np.full_like(k, count), k)), 0.0
    )


def _said(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def read_spaces(texts: Sequence[str], recipe: Recipe) -> dict[str, SearchSpace]:
    """Several spaces, by path. Raises `RecipeError` where a path is named twice."""
    found: dict[str, SearchSpace] = {}
    for text in texts:
        path, space = read_space(text, recipe)
        if path in found:
            raise RecipeError(
                f"--space {text}", why=f"{path} has a space already", do="leave one of them out"
            )
        found[path] = space
    return found

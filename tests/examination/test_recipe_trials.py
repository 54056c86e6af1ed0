"""How long trials of a recipe are: by what a step costs, not by a clock."""

import time

import pytest

from ravine import catalog
from ravine.examination.recipe_module import PRODUCTS_PER_SECOND, STEP_SECONDS, step_seconds
from ravine.examination.recipe_trials import prepare_trials
from ravine.networks.mlp import Mlp
from ravine.training.defaults import prepare


def plain(**changes):
    recipe = catalog.plain().vary("data.source", "digits").vary("epochs", 2)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def test_a_step_costs_its_products():
    task, recipe = prepare(plain(batch=50, network=Mlp(hidden=(30, 20))))
    products = 50 * (task.signature.numbers * 30 + 30 * 20 + 20 * 10)
    expected = STEP_SECONDS + products / PRODUCTS_PER_SECOND
    assert step_seconds(task, recipe) == pytest.approx(expected)


def test_trials_are_as_long_whatever_the_clock_says(monkeypatch):
    task, recipe = prepare(plain())
    budget = prepare_trials(recipe, task, say=lambda _: None).budget
    now = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0 * next(now))
    assert prepare_trials(recipe, task, say=lambda _: None).budget == budget

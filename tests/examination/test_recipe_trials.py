"""How long trials of a recipe are: by what a step costs, not by a clock."""

import time

import pytest

from ravine import catalog
from ravine.examination.recipe_module import step_seconds
from ravine.examination.recipe_trials import prepare_trials
from ravine.networks.mlp import Mlp
from ravine.training.defaults import prepare


def plain(**changes):
    recipe = catalog.plain().vary("data.source", "digits").vary("epochs", 2)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def test_a_step_costs_its_products():
    """The same operations on twice the examples: what is added are the products of half of them."""
    seconds = {}
    for batch in (50, 100):
        task, recipe = prepare(plain(batch=batch, network=Mlp(hidden=(300, 200))))
        seconds[batch] = step_seconds(task, recipe)
    products = 50 * (task.signature.numbers * 300 + 300 * 200 + 200 * 10)
    numbers = 50 * (2 * 300 + 2 * 200 + 10)  # of layers and activations
    assert seconds[100] - seconds[50] == pytest.approx(2 * products * 3e-11 + numbers * 1.9e-9)


def test_trials_are_as_long_whatever_the_clock_says(monkeypatch):
    task, recipe = prepare(plain())
    budget = prepare_trials(recipe, task, say=lambda _: None).budget
    now = iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0 * next(now))
    assert prepare_trials(recipe, task, say=lambda _: None).budget == budget

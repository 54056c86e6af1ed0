"""Changes of a recipe as plain data: made, left out where they do nothing, put into a recipe that
is fixed.
"""

import pytest

from ravine import catalog
from ravine.data import Encoding
from ravine.errors import RecipeError
from ravine.examination.recipe_changes import apply_changes, fix_recipe, useful_changes
from ravine.finding import Change, Finding, Report, Trial
from ravine.networks.activations import Tanh
from ravine.networks.initializers import Constant, Normal
from ravine.networks.layer_parts import Dropout
from ravine.networks.mlp import Mlp
from ravine.optimizers import Momentum
from ravine.penalties import L2
from ravine.recipe_files import recipe_differences


def plain(source="iris", **changes):
    recipe = catalog.plain().vary("data.source", source)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    return recipe


def changed_network(recipe, change) -> Mlp:
    network = apply_changes(recipe, [change]).network
    assert isinstance(network, Mlp)
    return network


def test_changes_are_plain_data():
    recipe = plain(network__dropout=Dropout(rate=0.5), penalties=(L2(strength=0.1),))
    assert changed_network(recipe, Change("network.dropout", None)).dropout is None
    assert changed_network(recipe, Change("network.hidden", [8, 4])).hidden == (8, 4)
    tanh = changed_network(recipe, Change("network.activation", {"name": "Tanh"}))
    assert tanh.activation == Tanh()
    stronger = apply_changes(recipe, [Change("penalties.0.strength", 0.3)])
    assert stronger.penalties == (L2(strength=0.3),)
    both = apply_changes(recipe, [Change("epochs", 3), Change("optimizer.lr", 0.5)])
    assert (both.epochs, both.optimizer.lr) == (3, 0.5)


@pytest.mark.parametrize("change", [Change("nowhere", 1), Change("optimizer.lr", "divided by 3")])
def test_what_cannot_be_made_is_refused(change):
    with pytest.raises(RecipeError):
        apply_changes(plain(), [change])


def test_what_cannot_be_made_or_makes_no_difference_is_left_out():
    asked = [
        Change("optimizer.lr", "divided by 3"),
        Change("nowhere", 1),
        Change("epochs", 30),
        Change("epochs", 31),
        Change("data", "look"),
        Change("input.scale", "standardize"),
    ]
    recipe = plain(network__dropout=Dropout(rate=0.5))
    assert useful_changes(recipe, asked) == (Change("epochs", 31), Change("data", "look"))


@pytest.mark.parametrize(
    ("sick", "asked", "change"),
    [
        (
            {"encoding": Encoding(scale="none")},
            Change("input.scale", "standardize"),
            Change("encoding.scale", "standard"),
        ),
        (
            {"encoding": Encoding(target="none")},
            Change("target.scale", "standardize"),
            Change("encoding.target", "standard"),
        ),
        ({}, Change("loss", "weights by class"), Change("class_weights", "balanced")),
        (
            {"network__initializer": Normal(sd=3.0)},
            Change("init", "nn.init.kaiming_normal_(layer.weight)"),
            Change("network.initializer", {"name": "He"}),
        ),
        (
            {"network__bias": Constant(value=-30.0)},
            Change("init", "biases of 0"),
            Change("network.bias", {"name": "Constant", "value": 0.0}),
        ),
        (
            {"network__activation": Tanh()},
            Change("activation", "leaky_relu"),
            Change("network.activation", {"name": "ReLU"}),
        ),
        (
            {"network__dropout": Dropout(rate=0.9)},
            Change("dropout", 0.2),
            Change("network.dropout", None),
        ),
    ],
)
def test_what_rules_of_any_program_name_has_its_own_name_in_a_recipe(sick, asked, change):
    recipe = plain(**sick)
    assert useful_changes(recipe, [asked]) == (change,)
    assert apply_changes(recipe, [change]) != recipe


def finding(code, cause, *changes, trial):
    return Finding(
        code=code,
        title="",
        severity="warning",
        confidence="high",
        cause=cause,
        changes=changes,
        trial=trial,
    )


def test_of_two_changes_of_one_setting_the_first_is_made_and_only_what_helped():
    helped, useless = Trial(verdict="helped"), Trial(verdict="no effect")
    low = finding(
        "A", "learning-rate-low", Change("optimizer.lr", 0.7), Change("data", "x"), trial=helped
    )
    high = finding("B", "learning-rate-high", Change("optimizer.lr", 0.01), trial=helped)
    drop = finding("C", "dropout", Change("epochs", 9), trial=useless)
    report = Report(findings=(low, high, drop))
    assert fix_recipe(plain(), report) == plain(optimizer__lr=0.7)
    assert fix_recipe(plain(), Report()) == plain()


def test_settings_that_differ_are_named_with_both_values():
    old, new = plain(), plain(optimizer=Momentum(lr=0.5), epochs=3)
    found = {path: values for path, *values in recipe_differences(old, new)}
    assert found["epochs"] == ["30", "3"] and found["optimizer.lr"] == ["0.1", "0.5"]
    dropped = plain(network__dropout=Dropout(rate=0.5))
    assert ("network.dropout.rate", None, "0.5") in recipe_differences(old, dropped)
    assert recipe_differences(old, old) == []

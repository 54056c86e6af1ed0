"""Networks before their first step: against closed forms, hand-made weights, and parts broken on
purpose.
"""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ravine import catalog
from ravine.examination.fresh_networks import (
    examples_apart,
    gradient_agrees,
    nonlinear,
    signal_fades,
    signals,
    units_dead,
    units_differ,
    units_saturated,
)
from ravine.networks.activations import Identity, ReLU, Sigmoid, Tanh
from ravine.networks.initializers import Constant, He, LeCun, Normal
from ravine.networks.layer_parts import BatchNorm, Dropout, LayerNorm
from ravine.networks.torch_module import TorchModule
from ravine.part import part
from ravine.penalties import L2
from ravine.recipe import lr_path
from ravine.training.defaults import prepare


def made(source="iris", **changes):
    recipe = catalog.plain().vary("data.source", source)
    for path, value in changes.items():
        recipe = recipe.vary(path.replace("__", "."), value)
    task, recipe = prepare(recipe)
    return recipe, task


def test_a_linear_network_multiplies_the_signal_by_what_its_weights_say():
    sd, width = 0.02, 100
    recipe, task = made(
        "digits",
        network__hidden=(width,) * 6,
        network__activation=Identity(),
        network__initializer=Normal(sd=sd),
    )
    found = signal_fades(signals(recipe, task, networks=16))
    sizes = [found.values[f"sd of hidden.{i}"] for i in range(6)]
    factor = (sizes[-1] / sizes[0]) ** 0.2
    assert factor == pytest.approx(
        sd * math.sqrt(width), rel=0.05
    )  # five layers of 16 networks: 3 % at one sd
    assert found.passed is False and found.seen.cause == "vanishing"
    grown = made(
        "digits",
        network__hidden=(width,) * 6,
        network__activation=Identity(),
        network__initializer=Normal(sd=1.0),
    )
    assert signal_fades(signals(*grown)).seen.cause == "exploding"


@pytest.mark.parametrize(
    "changes",
    [
        {"network__activation": ReLU(), "network__initializer": He()},
        {"network__activation": Tanh(), "network__initializer": LeCun()},
        {
            "network__activation": Tanh(),
            "network__initializer": Normal(sd=0.01),
            "network__norm": LayerNorm(),
        },
        {
            "network__activation": ReLU(),
            "network__initializer": Normal(sd=0.01),
            "network__norm": BatchNorm(),
        },
    ],
    ids=["He", "LeCun", "layer norm", "batch norm"],
)
def test_a_signal_that_is_kept_up_passes(changes):
    found = signals(*made("digits", network__hidden=(64,) * 10, **changes))
    assert signal_fades(found).passed
    assert (
        units_dead(found).passed
        and units_differ(found).passed
        and units_saturated(found).passed is not False
    )


def test_units_that_never_fire_are_dead_and_live_ones_are_not():
    sick = units_dead(signals(*made("digits", network__bias=Constant(value=-30.0))))
    assert (
        sick.passed is False
        and sick.seen.severity == "error"
        and sick.values["still units of hidden.0"] == 1.0
    )
    assert units_dead(signals(*made("digits"))).passed
    assert units_dead(signals(*made("digits", network__dropout=Dropout(rate=0.95)))).passed


@pytest.mark.parametrize("activation", [Tanh(), Sigmoid()])
def test_large_weights_saturate_bounded_units(activation):
    large = made("digits", network__activation=activation, network__initializer=Normal(sd=20.0))
    assert units_saturated(signals(*large)).passed is False
    assert units_saturated(signals(*made("digits", network__activation=activation))).passed
    assert units_saturated(signals(*made("digits"))).passed is None  # rectifiers have no bounds


def test_equal_weights_are_equal_units_and_a_zero_output_is_none():
    assert units_differ(signals(*made(network__initializer=Constant(value=0.3)))).passed is False
    assert units_differ(signals(*made(network__zero_output=True))).passed
    assert units_differ(signals(*made(network__hidden=()))).passed is None


def test_identity_between_layers_is_no_nonlinearity():
    recipe, task = made(network__activation=Identity())
    assert nonlinear(recipe, signals(recipe, task)).passed is False
    recipe, task = made(network__activation=Identity(), network__hidden=())
    assert nonlinear(recipe, signals(recipe, task)).passed is None  # a linear model is meant


@pytest.mark.parametrize("source", ["iris", "diabetes", "moons"])
def test_the_gradient_is_that_of_the_loss(source):
    recipe, task = made(
        source,
        penalties=(L2(strength=0.1),),
        network__norm=BatchNorm(),
        network__dropout=Dropout(rate=0.3),
        network__activation=Tanh(),
    )
    found = gradient_agrees(recipe, task)
    assert found.passed and found.values["relative difference"] < 1e-6
    plain, task = made(source)
    assert gradient_agrees(plain, task).passed


@part
class Halved:
    """A penalty whose gradient is half of what it should be."""

    strength: float = 1.0

    def value(self, rows, decays):
        return self.strength * (decays * rows.square()).sum(1, keepdim=True)

    def gradient(self, rows, decays, meter):
        return self.strength * decays * rows


def test_a_gradient_that_is_off_is_found():
    recipe, task = made(penalties=(Halved(),))
    found = gradient_agrees(recipe, task)
    assert found.passed is False and found.values["relative difference"] > 0.1


class Mixing(nn.Module):
    """Normalizes over the batch by hand, in evaluation too."""

    def __init__(self, signature):
        super().__init__()
        self.linear = nn.Linear(signature.numbers, signature.outputs)

    def forward(self, x):
        y = self.linear(x)
        return y - y.mean(0)


def test_a_module_that_mixes_examples_is_found():
    recipe, task = made(network=TorchModule(make=Mixing))
    assert examples_apart(recipe, task).passed is False
    for network in (
        TorchModule(make=lambda s: nn.Linear(s.numbers, s.outputs)),
        catalog.plain().network,
        replace(catalog.plain().network, norm=BatchNorm()),
    ):
        recipe, task = made(network=network)
        assert examples_apart(recipe, task).passed


def test_looking_leaves_the_random_numbers_as_they_were():
    recipe, task = made(
        "digits", network=TorchModule(make=lambda s: nn.Linear(s.numbers, s.outputs))
    )
    torch.manual_seed(3)
    before = torch.get_rng_state()
    signals(recipe, task), gradient_agrees(recipe, task), examples_apart(recipe, task)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_learning_rate_of_an_optimizer_around_another_is_the_inner_one():
    recipe = catalog.plain().vary("optimizer", catalog.optimizers.Lookahead())
    assert lr_path(recipe) == "optimizer.inner.lr"

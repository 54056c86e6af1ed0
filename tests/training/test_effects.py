"""Every technique shows that it acted, and planted no-ops are caught."""

import dataclasses

import pytest

from ravine import catalog, optimizers, penalties, schedules
from ravine.data import Data
from ravine.early_stopping import EarlyStopping
from ravine.networks import activations, initializers, layer_parts, mlp
from ravine.networks.layers import DropoutLayer
from ravine.part import part
from ravine.training.train import train


def run(**changes):
    recipe = dataclasses.replace(catalog.plain(), data=Data(source="iris"), epochs=6, seeds=2)
    return train(dataclasses.replace(recipe, **changes), workers=1).record


def idle(record):
    return {e.name for e in record.idle() if e.meaning != "of the table's encoding"}


ENABLED = {
    **{
        f"schedule {c.__name__}": dict(schedule=c(), epochs=12)
        for c in schedules.ALL
        if c
        not in (
            schedules.Constant,
            schedules.ReduceOnPlateau,
            schedules.StepDecay,
            schedules.EveryK,
        )
    },
    **{
        f"activation {c.__name__}": dict(network=mlp.Mlp(hidden=(9,), activation=c()))
        for c in activations.ALL
    },
    **{
        f"initializer {c.__name__}": dict(network=mlp.Mlp(hidden=(9,), initializer=c()))
        for c in initializers.ALL
    },
    **{f"penalty {c.__name__}": dict(penalties=(c(),)) for c in penalties.ALL},
    **{f"average {c.__name__}": dict(average=c()) for c in optimizers.ALL_AVERAGES},
    **{
        f"optimizer {c.__name__}": dict(optimizer=c())
        for c in optimizers.ALL
        if c not in optimizers.SEARCH_OPTIMIZERS
    },
    **{
        f"optimizer {c.__name__}": dict(optimizer=c(), network=mlp.Mlp(hidden=(5,)), epochs=2)
        for c in optimizers.SEARCH_OPTIMIZERS
    },
    "dropout": dict(network=mlp.Mlp(hidden=(9,), dropout=layer_parts.Dropout())),
    "classic dropout": dict(network=mlp.Mlp(hidden=(9,), dropout=layer_parts.ClassicDropout())),
    "batch norm": dict(network=mlp.Mlp(hidden=(9,), norm=layer_parts.BatchNorm())),
    "layer norm": dict(network=mlp.Mlp(hidden=(9,), norm=layer_parts.LayerNorm())),
    "periodic numbers": dict(network=mlp.Mlp(hidden=(9,), numbers=layer_parts.Periodic())),
    "piecewise numbers": dict(network=mlp.Mlp(hidden=(9,), numbers=layer_parts.PiecewiseLinear())),
    "clip": dict(clip=optimizers.ClipNorm(limit=0.01)),
    "clip value": dict(clip=optimizers.ClipValue(limit=0.001)),
    "weight decay": dict(optimizer=optimizers.AdamW(weight_decay=0.1)),
    "class weights": dict(class_weights="balanced", data=Data(source="breast_cancer")),
    "early stopping": dict(stop=EarlyStopping(patience=1), epochs=40),
}


@pytest.mark.parametrize("name", ENABLED)
def test_what_is_enabled_shows_that_it_acted(name):
    record = run(**ENABLED[name])
    assert len(record.effects) >= 2
    zeros = name in (
        "initializer Zero",
        "initializer Constant",
    )  # whose hidden units stay 0, as the lecture says
    assert idle(record) == ({"activation"} if zeros else set())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("clip", dict(clip=optimizers.ClipNorm(limit=1e9))),
        ("weight decay", dict(optimizer=optimizers.AdamW(weight_decay=0.0))),
        ("schedule", dict(schedule=schedules.StepDecay(milestones=(0.999,)))),
        ("early stopping", dict(stop=EarlyStopping(patience=100), epochs=1)),
        ("dropout", dict(network=mlp.Mlp(hidden=(9,), dropout=layer_parts.Dropout(rate=0.0)))),
        ("dropout", dict(network=mlp.Mlp(hidden=(), dropout=layer_parts.Dropout(rate=0.5)))),
        ("batch norm", dict(network=mlp.Mlp(hidden=(), norm=layer_parts.BatchNorm()))),
        ("update", dict(optimizer=optimizers.SGD(lr=0.0))),
    ],
)
def test_what_did_nothing_is_named(name, changes):
    assert name in idle(run(**changes))


def test_a_part_that_is_wired_in_wrongly_is_caught():
    class Asleep(DropoutLayer):
        def __call__(self, x, tensors, now):
            return x

    @part
    class Broken:
        acts = layer_parts.Dropout.acts

        def layer(self, name):
            return Asleep(name, rate=0.5)

    assert "dropout" in idle(run(network=mlp.Mlp(hidden=(9,), dropout=Broken())))


def test_a_clip_applied_to_a_copy_is_caught():
    @part
    class Copying:
        acts = optimizers.ClipNorm.acts

        def clip(self, grads, now):
            grads.clone().clamp_(-1e-3, 1e-3)
            return grads

    assert "clip" in idle(run(clip=Copying()))

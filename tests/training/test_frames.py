"""How many functions of ours a reader steps through from `train` to a network's first layer."""

import traceback
from pathlib import Path

import pytest

import ravine
from ravine.networks.layer_parts import BatchNorm
from ravine.networks.layers import ColumnsLayer
from ravine.networks.manual_backprop import ManualBackprop
from ravine.training.train import train

PACKAGE = Path(ravine.__file__).parent
AUTOGRAD = {"network.norm": BatchNorm()}


def own_frames():
    """The functions of the package that are running, outermost first, without the caller."""
    frames = traceback.extract_stack()[:-2]
    return [frame.name for frame in frames if PACKAGE in Path(frame.filename).parents]


@pytest.mark.parametrize(
    ("first", "settings", "workers"),
    [(ColumnsLayer, AUTOGRAD, 1), (ManualBackprop, {}, 1), (ManualBackprop, {}, 2)],
    ids=["the first layer", "a backward pass that is written out", "beside other processes"],
)
def test_from_train_to_the_first_layer_are_four_functions(
    monkeypatch, request, first, settings, workers
):
    seen, real = [], first.__call__

    def call(self, *given, **named):
        seen.append(own_frames())
        return real(self, *given, **named)

    monkeypatch.setattr(first, "__call__", call)
    recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 1)
    for path, value in settings.items():
        recipe = recipe.vary(path, value)
    if workers > 1:  # some jobs go to other processes
        request.getfixturevalue("processes_pay")
        recipe = recipe.vary("seeds", 4)
    train(recipe, workers=workers)
    frames = seen[0]  # in the first step
    assert frames[:3] == ["train", "train_jobs", "train_cohort"]
    assert len(frames) <= 4

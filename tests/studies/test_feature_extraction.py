"""Claims: features are what the network itself makes of pictures, are computed once, and heads on
them learn what the same network with a frozen body learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import ravine
from ravine import finetuning
from ravine.data.images import Images
from ravine.errors import InputError
from ravine.networks.efficientnet import EfficientNetLite0
from ravine.networks.pretrained import Pretrained
from ravine.studies.feature_extraction import feature_table, features, heads_on_features, transfer
from ravine.training.train import train


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.last = nn.Conv2d(4, 2, 3)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.last(self.first(x))


def pictures(count=7, side=8):
    return np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


def test_features_are_the_networks_outputs_in_evaluation_mode():
    network = Net().train()
    found = features(network, pictures(), batch=3, cache=None)
    assert network.calls == 3 and not network.training
    x = torch.tensor(pictures()) / 255
    torch.testing.assert_close(found, network(x).mean((2, 3)))
    torch.testing.assert_close(
        features(network, pictures(), layer="first", cache=None), network.first(x).mean((2, 3))
    )
    assert list(feature_table(found).columns) == ["f0000", "f0001"]


def test_features_are_computed_once(tmp_path):
    network = Net()
    first = features(network, pictures(), cache=tmp_path)
    assert network.calls == 1
    again = features(network, pictures(), cache=tmp_path)
    assert network.calls == 1 and torch.equal(again, first)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change", ["weights", "statistics", "pictures", "layer", "kind of numbers"]
)
def test_whatever_features_depend_on_makes_them_anew(tmp_path, change):
    network, given, layer = Net(), pictures(), None
    features(network, given, cache=tmp_path)
    if change == "weights":
        network.last.bias.data[0] += 1e-6
    elif change == "statistics":
        network.first[1].running_mean[0] += 1e-6
    elif change == "pictures":
        given[3, 0, 0, 0] ^= 1
    elif change == "layer":
        layer = "first"
    else:
        given = given.astype(np.float32)
    features(network, given, layer=layer, cache=tmp_path)
    assert network.calls == 2 and len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_made_anew(tmp_path):
    network = Net()
    first = features(network, pictures(), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert torch.equal(features(network, pictures(), cache=tmp_path), first)
    assert network.calls == 2 and torch.equal(safetensors.torch.load_file(file)["features"], first)


def test_how_pictures_are_prepared_counts(tmp_path, weights):
    for size in (32, 40):
        features(Pretrained(weights=weights, size=size), pictures(2), cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    "given, layer, words",
    [
        (pictures()[0], None, r"images are \[3, 8, 8\]"),
        (pictures().astype(np.int64), None, "images are torch.int64"),
        (pictures(), "frist", "no layer 'frist'.*Did you mean 'first'"),
    ],
)
def test_wrong_input_is_refused_before_any_work(given, layer, words):
    network = Net()
    with pytest.raises(InputError, match=words):
        features(network, given, layer=layer, cache=None)
    assert network.calls == 0


# Heads


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights drawn at random, with the statistics of such pictures, so that its features
    say something.
    """
    torch.manual_seed(3)
    network = EfficientNetLite0(classes=2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    nn.init.constant_(
        network.top.norm.bias, 2.0
    )  # no feature is 0 throughout: a table would leave it out
    with torch.no_grad():
        network.train()(torch.tensor(shades()[0]) / 127.5 - 1)
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return str(path)


def shades():
    """Noise on three shades: a task that even random features solve."""
    noise = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], 12)
    X = noise.integers(0, 60, (36, 3, 32, 32)) + 80 * (
        y[:, None, None, None] == np.arange(3)[:, None, None]
    )
    return X.astype(np.uint8), np.array(["red", "green", "blue"])[y]


def recipe(seeds=1):
    base = (
        ravine.named_recipe("plain")
        .vary("data", Images())
        .vary("epochs", 3)
        .vary("batch", 8)
        .vary("seeds", seeds)
    )
    return (
        base.vary("optimizer.lr", 0.01)
        .vary("encoding.scale", "none")
        .vary("encoding.smooth_clip", None)
    )


def test_heads_on_features_learn_what_a_frozen_body_with_a_head_learns(weights):
    """Same starts, same orders, same gradients: two ways to one network."""
    body = Pretrained(weights=weights, size=32)
    head = transfer(recipe(), shades(), network=body, cache=None)
    whole = train(
        recipe().vary("network", body).vary("tuning", (finetuning.Freeze(layers=("module",)),)),
        shades(),
    )
    assert head.model.size == 1280 * 3 + 3
    a, b = head.record.series["train/loss"].values, whole.record.series["train/loss"].values
    np.testing.assert_allclose(a, b, rtol=1e-4)
    torch.testing.assert_close(
        head.model.weights, whole.model.weights[:, -head.model.size :], rtol=1e-3, atol=1e-5
    )


def test_transfer_is_an_ordinary_run_with_an_interval_that_predicts(weights):
    body = Pretrained(weights=weights, size=32)
    scaled = recipe(seeds=3).vary("epochs", 20).vary("encoding.scale", "standard")
    run = transfer(scaled, shades(), network=body, layer="stem", cache=None)
    assert len(run.score.members) == 3 and run.score.low < run.score.high and run.score.value == 1.0
    X, y = shades()
    answers = run.predict(feature_table(features(body, X[:3], layer="stem", cache=None)))
    assert list(answers.iloc[:, 0]) == list(y[:3])


def test_fine_tuning_moves_the_body_and_scratch_begins_anew(weights):
    body = Pretrained(weights=weights, size=32)
    tuned = transfer(
        recipe().vary("epochs", 1), shades(), network=body, mode="fine-tune", tuning=()
    )
    anew = transfer(recipe().vary("epochs", 1), shades(), network=body, mode="scratch")
    shown = [{e.name: e.values[0] for e in run.record.effects} for run in (tuned, anew)]
    assert shown[0]["pretrained"] > 0.99 and shown[1]["pretrained"] == 0.0
    assert tuned.model.size == anew.model.size


def test_the_splits_of_pictures_are_kept(weights):
    base = recipe().vary("split_seed", 5)
    made, table = heads_on_features(
        base, shades(), network=Pretrained(weights=weights, size=32), cache=None
    )
    run = train(made.vary("epochs", 1), table, workers=1, baseline=False)
    sizes = run.record.task["examples"]
    assert sizes == table["split"].value_counts().to_dict()


def test_wrong_modes_are_refused(weights):
    with pytest.raises(InputError, match="Did you mean 'features'"):
        wrong: Any = "feature"
        transfer(recipe(), shades(), network=Pretrained(weights=weights), mode=wrong)

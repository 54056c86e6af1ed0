"""The contact sheet shows training images and what the first step makes of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from ravine import augment, catalog
from ravine.cli import run_command
from ravine.errors import RecipeError
from ravine.protocols import Batch
from ravine.studies.contact_sheet import contact_sheet, in_turn
from ravine.training.cohort import Job, start_cohort
from ravine.training.defaults import load_task, resolve, training_plan
from ravine.training.loop import augment_batch


@pytest.fixture
def frame():
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (40, 8, 10, 3)).astype(np.uint8), np.array(["cat", "dog"])[
        np.arange(40) % 2
    ]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(generator.integers(0, 256, (8, 10, 3)).astype(np.uint8)).save(
                tmp_path / "photos" / name / f"{i}.png"
            )
    (tmp_path / "r.toml").write_text(
        'base = "image"\naugment = [{name = "Flip"}, {name = "Rotate", degrees = 20}]\n'
    )
    return tmp_path


def recipe(*parts):
    return catalog.named_recipe("image").vary("augment", parts)


def shown(figure):
    """The images of each row, float [H, W, C]."""
    images = [torch.as_tensor(np.asarray(axes.get_images()[0].get_array())) for axes in figure.axes]
    return [images[at : at + 8] for at in range(0, len(images), 8)]


def test_the_first_column_are_training_pictures_of_each_class_in_turn(frame):
    figure = contact_sheet(recipe(augment.Rotate()), frame)
    rows, task = shown(figure), load_task(recipe(), frame)
    train = task.train_examples.numbers.permute(0, 2, 3, 1).float() / 255
    assert len(rows) == 6 and all(len(row) == 8 for row in rows)
    assert all(any(torch.allclose(row[0], one) for one in train) for row in rows)
    names = [axes.get_ylabel() for axes in figure.axes[::8]]
    assert names == ["cat", "dog"] * 3


def test_the_others_are_what_the_training_loop_makes_of_them(frame):
    asked = recipe(augment.Flip(), augment.ColorJitter(), augment.Mixup(alpha=1.0))
    rows, task = shown(contact_sheet(asked, frame)), load_task(asked, frame)
    resolved = resolve(asked.vary("batch", 6).vary("seeds", 7), task)
    job = Job(
        recipes=(resolved,) * 7,
        seeds=tuple(range(7)),
        signature=task.signature,
        plan=training_plan(resolved, task),
        batch=6,
    )
    places = in_turn(task.train_examples.targets, task.train.count)[:6]
    batch = Batch(
        task.train_examples.numbers[places][None], targets=task.train_examples.targets[places][None]
    )
    expected = augment_batch(start_cohort(job), batch, None).numbers.permute(0, 1, 3, 4, 2)
    for b, row in enumerate(rows):
        for p in range(7):
            assert torch.allclose(row[1 + p], expected[p, b].clamp(0, 1), atol=1e-6)


def test_title_and_labels_say_what_is_seen(frame):
    figure = contact_sheet(
        recipe(augment.Shear(degrees=12.0), augment.CutMix()), frame, images=4, draws=2
    )
    assert "Shear(degrees=12.0" in figure.get_suptitle() and "CutMix" in figure.get_suptitle()
    assert [axes.get_title(loc="center") for axes in figure.axes[:3]] == [
        "original",
        "draw 1",
        "draw 2",
    ]
    shares = [axes.get_xlabel() for axes in figure.axes]
    assert any("% from cat" in text for text in shares) and shares[0] == ""


def test_few_pictures_make_a_small_sheet_and_regression_and_grey_are_fine():
    generator = np.random.default_rng(0)
    few = generator.random((20, 6, 6)), generator.random(20)
    figure = contact_sheet(recipe(augment.Mixup()).vary("split.validation", 0.5), few, images=50)
    assert len(figure.axes) % 8 == 0 and 0 < len(figure.axes) <= 8 * 10
    float(figure.axes[0].get_ylabel())


def test_without_augmentation_it_says_what_to_add(frame):
    with pytest.raises(RecipeError, match='Add augment = .{name = "Flip"}'):
        contact_sheet(recipe(), frame)


def test_a_table_has_no_pictures():
    with pytest.raises(RecipeError, match="rows of a table"):
        contact_sheet(
            catalog.named_recipe("plain")
            .vary("data.source", "iris")
            .vary("augment", (augment.Flip(),))
        )


def test_the_command_draws_it(photos, capfd):
    assert run_command(["augment", "photos", "--recipe", "r.toml", "-o", "sheet.png"]) == 0
    assert capfd.readouterr().err == "the contact sheet is in sheet.png\n"
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 500
    asked = ["photos/", "--set", 'augment=[{name="Noise"}]', "-o", "s.svg", "--force"]
    (photos / "s.svg").write_text("old")
    assert run_command(["augment", *asked]) == 0 and (photos / "s.svg").read_text().startswith(
        "<svg"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos", "-o", "s.png"], "the recipe has no augmentation"),
        (["photos", "--recipe", "r.toml", "-o", "s.gif"], "s.gif has no known ending"),
        (["photos", "--recipe", "r.toml", "-o", "there.png"], "there.png already exists"),
        (["nowhere", "--recipe", "r.toml", "-o", "s.png"], "nowhere does not exist"),
        (["empty", "--recipe", "r.toml", "-o", "s.png"], "has no images"),
        (["--recipe", "r.toml", "-o", "s.png"], "no images are given"),
        (["-o", "s.png"], "there is nothing to draw"),
        (["photos", "--recipe", "lost.toml", "-o", "s.png"], "lost.toml does not exist"),
        (["iris", "--recipe", "plain", "--set", "augment=Flip", "-o", "s.png"], "rows of a table"),
    ],
)
def test_wrong_input_ends_in_one_message(photos, capfd, arguments, words):
    (photos / "there.png").write_bytes(b"mine")
    (photos / "empty" / "a").mkdir(parents=True)
    assert run_command(["augment", *arguments]) == 2
    said = capfd.readouterr().err
    assert words in said and said.startswith("error: ") and "Traceback" not in said
    assert (photos / "there.png").read_bytes() == b"mine" and not (photos / "s.png").exists()

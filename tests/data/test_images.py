"""Claims about images as examples: reading, splitting, bringing to one form, and what is said of
bad input.
"""

import gzip
import json
import os
import pickle
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

import ravine
from ravine import catalog, recipe_files
from ravine.cli import run_command
from ravine.data import (
    Encoding,
    Given,
    ImageEncoder,
    Images,
    Random,
    Stratified,
    Task,
    encoder_from_plain,
    holds_images,
)
from ravine.data import image_file as one
from ravine.data import image_store as many
from ravine.data import load as load_task
from ravine.data.idx import read_idx
from ravine.data.image_file import ImageHeader, ImageSpec, default_size
from ravine.data.image_sources import list_images
from ravine.data.splits import SPLIT_NAMES
from ravine.errors import DataError, InputError, RecipeError
from ravine.networks.conv import Conv
from ravine.networks.mlp import Mlp
from ravine.training.defaults import resolve
from ravine.training.jobs import assign_jobs

FASHION = Path(os.environ.get("RAVINE_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))


def drawn(height: int = 12, width: int = 10, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A smooth image, so that lossy formats stay near it."""
    y, x = np.mgrid[:height, :width].astype(float)
    draw = np.random.default_rng(seed)
    waves = [
        127 + 100 * np.sin(draw.uniform(0.1, 0.4) * x + draw.uniform(0.1, 0.4) * y + phase)
        for phase in range(3)
    ]
    return Image.fromarray(np.stack(waves, 2).astype(np.uint8)).convert(mode)


def folders(root: Path, classes: str = "ab", count: int = 8, **options: object) -> Path:
    """A folder for each class, each with so many images."""
    for c, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            drawn(seed=100 * c + i, **options).save(root / name / f"{i:02d}.png")
    return root


def load(source: object = "", split: object = None, frame: object = None, **settings: object):
    return load_task(
        Images(source=str(source), **settings), split or Random(), Encoding(), seed=0, frame=frame
    )


def image_encoder(task: Task) -> ImageEncoder:
    assert isinstance(task.encoder, ImageEncoder)
    return task.encoder


def bytes_of(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def pixels_in(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return bytes_of(opened)


def write_idx(path: Path, values: np.ndarray) -> Path:
    data = (
        bytes([0, 0, 8, values.ndim])
        + struct.pack(f">{values.ndim}i", *values.shape)
        + values.tobytes()
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def idx_folder(root: Path, ending: str = "", train: int = 40, test: int = 10) -> Path:
    root.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    for stem, count in (("train", train), ("t10k", test)):
        write_idx(
            root / f"{stem}-images-idx3-ubyte{ending}",
            draw.integers(0, 256, (count, 6, 5), np.uint8),
        )
        write_idx(
            root / f"{stem}-labels-idx1-ubyte{ending}", (np.arange(count) % 4).astype(np.uint8)
        )
    return root


# One image


def read(
    path: Path, channels: int = 3, height: int = 12, width: int = 10, fit: str = "crop"
) -> np.ndarray:
    found = one.decode_image(str(path), ImageSpec(height, width, channels, fit))
    assert not isinstance(found, one.UnreadableImage), found
    return found[0]


def read_header(path: Path) -> ImageHeader:
    header = one.read_header(str(path))
    assert isinstance(header, ImageHeader), header
    return header


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_gives_the_bytes_that_pillow_gives(tmp_path, suffix, mode):
    path = tmp_path / f"a{suffix}"
    drawn(mode=mode).save(path)
    with Image.open(path) as opened:
        color, gray = bytes_of(opened.convert("RGB")), bytes_of(opened.convert("RGB").convert("L"))
    assert np.array_equal(read(path, 3), color)
    assert np.array_equal(read(path, 1), gray)
    head = read_header(path)
    assert (head.height, head.width) == (12, 10)
    assert suffix == ".webp" or head.gray == (mode == "L")  # WebP has no gray


def test_a_gif_gives_its_first_frame(tmp_path):
    frames = [drawn(mode="L", seed=s) for s in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read(tmp_path / "a.gif", 1), bytes_of(frames[0]))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    alpha = np.linspace(0, 255, 120).astype(np.uint8).reshape(12, 10)
    if mode == "P":
        image = drawn().quantize(8)
        image.save(tmp_path / "a.png", transparency=3)
        clear = np.asarray(image) == 3
        expected = np.where(clear, 255, bytes_of(image.convert("RGB")))
    else:
        image = drawn(mode=mode[:-1])
        color = bytes_of(image.convert("RGB")).astype(float)
        image.putalpha(Image.fromarray(alpha))
        image.save(tmp_path / "a.png")
        expected = color * (alpha / 255) + 255 * (1 - alpha / 255)
    decoded = one.decode_image(str(tmp_path / "a.png"), ImageSpec(12, 10, 3, "crop"))
    assert not isinstance(decoded, one.UnreadableImage), decoded
    found, done = decoded
    assert np.abs(found - expected).max() <= 1  # rounded to bytes
    assert done == {"put on white"}


def test_sixteen_bits_become_eight(tmp_path):
    deep = np.arange(120, dtype=np.uint16).reshape(12, 10) * 550
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", 1)[0], np.rint(deep / 257))
    assert read_header(tmp_path / "a.png").gray


def test_one_bit_and_cmyk_are_read(tmp_path):
    bits = drawn(mode="L").point(lambda v: 255 * (v > 127)).convert("1")
    bits.save(tmp_path / "a.png")
    assert set(np.unique(read(tmp_path / "a.png", 1))) == {0, 255}
    drawn().convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert (
        np.abs(read(tmp_path / "a.jpg").astype(int) - bytes_of(drawn())).mean() < 8
    )  # JPEG loses some


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_turned_back(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    drawn(12, 10).save(path, exif=exif)
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    head = read_header(path)
    assert (head.width, head.height) == expected.size
    assert np.array_equal(read(path, 3, head.height, head.width), bytes_of(expected))
    _, changes = one.decode_image(str(path), ImageSpec(12, 10, 3, "crop"))  # type: ignore
    assert ("turned upright" in changes) == (orientation > 1)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".gif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_file_cut_short_is_bad_and_says_why(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    drawn(60, 80).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    found = one.decode_image(str(path), ImageSpec(60, 80, 3, "crop"))
    assert isinstance(found, one.UnreadableImage) and found.why


def test_another_size_is_cut_stretched_or_padded(tmp_path):
    image = drawn(30, 60)
    image.save(tmp_path / "a.png")
    bilinear = Image.Resampling.BILINEAR
    whole = bytes_of(image.resize((20, 20), bilinear))
    assert np.array_equal(read(tmp_path / "a.png", 3, 20, 20, "stretch"), whole)
    middle = bytes_of(image.crop((15, 0, 45, 30)).resize((20, 20), bilinear))
    cut = read(tmp_path / "a.png", 3, 20, 20, "crop")
    assert np.array_equal(
        cut[:, 1:-1, 1:-1], middle[:, 1:-1, 1:-1]
    )  # the outermost see what was cut off beside them
    padded = read(tmp_path / "a.png", 3, 20, 20, "pad")
    assert not padded[:, :5].any() and not padded[:, 15:].any() and padded[:, 5:15].all()
    assert np.array_equal(padded[:, 5:15], bytes_of(image.resize((20, 10), bilinear)))


def test_a_large_jpeg_decoded_in_part_is_near_the_whole(tmp_path):
    drawn(600, 800).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as opened:
        whole = bytes_of(opened.resize((64, 48), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(read(tmp_path / "a.jpg", 3, 48, 64) - whole).mean() < 2


def test_the_size_is_that_of_all_or_the_median_side():
    assert default_size([ImageHeader(500, 1000, False)] * 4) == (112, 224)
    assert default_size(
        [ImageHeader(33, 60, False), ImageHeader(61, 30, False), ImageHeader(59, 59, False)]
    ) == (56, 56)
    assert default_size([ImageHeader(3000, 4000, False), ImageHeader(4000, 3000, False)]) == (
        224,
        224,
    )


# Sources


def test_a_folder_for_each_class(tmp_path):
    task = load(folders(tmp_path / "photos", "abc"), Stratified())
    assert (task.kind, task.classes, task.targets) == ("classes", ("a", "b", "c"), ("class",))
    pixels = task.train_examples.numbers
    assert pixels.dtype == torch.uint8 and pixels.shape[1:] == (3, 12, 10)
    assert sum(getattr(task, n).count for n in SPLIT_NAMES) == 24
    files = sorted((tmp_path / "photos").rglob("*.png"))
    for name in SPLIT_NAMES:
        examples = getattr(task, name)
        for row, pixels, target in zip(
            task.rows[name], examples.numbers, examples.targets, strict=True
        ):
            assert np.array_equal(pixels.numpy(), pixels_in(files[row]))
            assert task.classes[int(target)] == files[row].parent.name


def test_mean_and_sd_are_those_of_the_training_split(tmp_path):
    task = load(folders(tmp_path))
    values = task.train_examples.numbers.numpy().astype(np.float64) / 255
    image = image_encoder(task).image
    np.testing.assert_allclose(image.mean, values.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(image.sd, values.std((0, 2, 3)), rtol=1e-12)


def test_folders_named_by_numbers_are_classes(tmp_path):
    task = load(folders(tmp_path, "0123", count=4))
    assert task.kind == "classes" and task.classes == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("names", "drawn_sizes"),
    [
        (("train", "val", "test"), (16, 6, 4)),
        (
            ("training", "validation"),
            (14, 6, 2),
        ),  # a test split of 15 % is drawn from the training images
        (("Train", "test"), (14, 2, 4)),
        (("train",), (12, 2, 2)),
    ],
)
def test_train_validation_and_test_folders_are_the_splits(tmp_path, names, drawn_sizes):
    for name in names:
        folders(tmp_path / name, count={"tr": 8, "va": 3, "te": 2}[name[:2].lower()])
    task = load(tmp_path)
    assert tuple(getattr(task, n).count for n in SPLIT_NAMES) == drawn_sizes


def test_test_pictures_without_classes_are_passed_over(tmp_path):
    folders(tmp_path / "train")
    (tmp_path / "test").mkdir()
    drawn().save(tmp_path / "test" / "x.png")
    task = load(tmp_path)
    assert any("test has no folders of classes" in line for line in task.notes)
    assert task.train.count + task.validation.count + task.test.count == 16


def test_the_recipe_may_ask_for_no_split(tmp_path):
    folders(tmp_path / "train")
    assert load(tmp_path, Random(validation=0.0, test=0.0)).train.count == 16


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".jsonl"])
def test_a_table_of_paths_and_labels(tmp_path, ending):
    folders(tmp_path / "images")
    names = [f"images/{c}/{i:02d}.png" for c in "ab" for i in range(8)]
    table = pd.DataFrame(
        {"photo": names, "sort": ["x", "y"] * 8, "split": ["train"] * 10 + ["val", "test"] * 3}
    )
    path = tmp_path / f"t{ending}"
    {
        ".csv": lambda: table.to_csv(path, index=False),
        ".parquet": lambda: table.to_parquet(path),
        ".jsonl": lambda: table.to_json(path, orient="records", lines=True),
    }[ending]()
    task = load(path, Given(column="split"), target=("sort",))
    assert task.kind == "binary" and task.classes == ("x", "y")
    assert task.rows["test"].tolist() == [11, 13, 15]
    assert np.array_equal(task.test.numbers[0].numpy(), pixels_in(tmp_path / names[11]))


def test_a_table_may_ask_for_numbers_and_for_labels(tmp_path):
    folders(tmp_path, count=12)
    table = pd.DataFrame(
        {
            "file": [str(p) for p in sorted(tmp_path.rglob("*.png"))],
            "size": np.linspace(1, 9, 24),
            "red": [0, 1] * 12,
            "round": [0, 0, 1, 1] * 6,
        }
    )
    assert load(frame=table, target=("size",)).kind == "regression"
    task = load(frame=table, target=("red", "round"))
    assert task.kind == "labels" and task.train_examples.targets.shape[1] == 2


def test_two_columns_need_no_target(tmp_path):
    folders(tmp_path)
    table = pd.DataFrame({"path": ["a/00.png", "b/00.png"] * 8, "cat": ["no", "yes"] * 8})
    table.to_csv(tmp_path / "t.csv", index=False)
    assert load(tmp_path / "t.csv").targets == ("cat",)


@pytest.mark.parametrize(
    "shape", [(30, 7, 6), (30, 7, 6, 1), (30, 1, 7, 6), (30, 7, 6, 3), (30, 3, 7, 6)]
)
@pytest.mark.parametrize("kind", ["uint8", "float32", "int64", "tensor"])
def test_arrays_of_every_layout_give_the_same_bytes(shape, kind):
    plain = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    given = {
        "uint8": plain,
        "float32": (plain / 255).astype(np.float32),
        "int64": plain.astype(np.int64),
        "tensor": torch.from_numpy(plain),
    }[kind]
    task = load(frame=(given, np.arange(30) % 2))
    expected = (
        plain[:, None]
        if plain.ndim == 3
        else plain.transpose(0, 3, 1, 2)
        if shape[3] in (1, 3)
        else plain
    )
    for name in SPLIT_NAMES:
        assert np.array_equal(getattr(task, name).numbers.numpy(), expected[task.rows[name]])


def test_arrays_change_size_and_color_when_asked():
    x = np.stack([np.asarray(drawn(seed=i)) for i in range(20)])
    task = load(frame=(x, np.arange(20) % 2), size=(6, 5), channels=1, fit="stretch")
    image = (
        Image.fromarray(x[task.rows["test"][0]])
        .convert("L")
        .resize((5, 6), Image.Resampling.BILINEAR)
    )
    assert np.array_equal(task.test.numbers[0].numpy(), bytes_of(image))
    assert task.effects["images resized"] == 20
    assert any("20 of them had another size: they were stretched" in n for n in task.notes)
    gray = load(frame=(x[..., 0], np.arange(20) % 2), channels=3).train_examples.numbers
    assert gray.shape[1] == 3 and torch.equal(gray[:, 0], gray[:, 2])


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_with_their_own_test_split(tmp_path, ending):
    root = idx_folder(tmp_path / "set", ending)
    task = load(root)
    assert task.kind == "classes" and task.classes == (0, 1, 2, 3)
    assert task.rows["test"].tolist() == list(range(40, 50)) and task.validation.count == 6
    draw = np.random.default_rng(0)
    written = draw.integers(0, 256, (40, 6, 5), np.uint8)
    assert np.array_equal(task.train_examples.numbers[:, 0].numpy(), written[task.rows["train"]])
    assert load(root / f"train-images-idx3-ubyte{ending}").fingerprint == task.fingerprint


def test_a_packed_idx_file_is_unpacked_as_far_as_its_head_says(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    for shape, said in (
        ((2**31 - 1, 28, 28), "larger than memory"),
        ((2, 2, 2), "holds 9 values"),
        ((0, 2, 2), "holds 1 values"),
        ((-1, 2, 2), "its head says -1 x 2 x 2"),
    ):
        head = bytes([0, 0, 8, 3]) + struct.pack(">3i", *shape)
        path.write_bytes(gzip.compress(head + bytes(10**6)))
        with pytest.raises(DataError, match=said):
            read_idx(path, 3)


@pytest.mark.skipif(
    not FASHION.is_dir(),
    reason="Fashion-MNIST is not there; set RAVINE_FASHION_MNIST to its folder",
)
def test_fashion_mnist_has_the_moments_that_are_known():
    task = load(FASHION, Stratified(validation=0.0))
    assert (task.train.count, task.test.count, task.outputs) == (60_000, 10_000, 10)
    assert task.test.targets.bincount().tolist() == [1000] * 10
    assert image_encoder(task).image.mean == pytest.approx(
        (0.2860406,), abs=1e-6
    )  # widely published for the 60,000
    assert image_encoder(task).image.sd == pytest.approx((0.3530242,), abs=1e-6)


# Channels, bad files


def test_grey_pictures_have_one_channel_unless_one_has_color(tmp_path):
    folders(tmp_path, mode="L")
    assert image_encoder(load(tmp_path)).image.channels == 1
    drawn(mode="RGB").save(tmp_path / "a" / "color.png")
    assert image_encoder(load(tmp_path)).image.channels == 3
    assert load(tmp_path, channels=1).train_examples.numbers.shape[1] == 1


def test_mixed_sizes_come_to_the_median_side_of_the_training_split(tmp_path):
    folders(tmp_path)
    for i in range(6):
        drawn(64, 48, seed=i).save(tmp_path / "a" / f"large{i}.png")
    task = load(tmp_path)
    files = sorted((tmp_path).rglob("*.png"))
    sides = [side for i in task.rows["train"] for side in pixels_in(files[i]).shape[1:]]
    assert task.train_examples.numbers.shape[2:] == (max(8, 8 * round(np.median(sides) / 8)),) * 2
    assert task.effects["images resized"] == 22


@pytest.mark.parametrize("settings", [{}, {"size": (12, 10), "channels": 3}])
def test_bad_files_are_skipped_and_named_or_stop(tmp_path, settings):
    folders(tmp_path, count=12)
    whole = (tmp_path / "a" / "03.png").read_bytes()
    (tmp_path / "a" / "03.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b" / "05.png").write_bytes(b"no image at all")
    with pytest.raises(DataError) as caught:
        load(tmp_path, **settings)
    assert "cannot be read" in str(caught.value) and "05.png" in str(caught.value)
    task = load(tmp_path, corrupt="skip", **settings)
    (said,) = [line for line in task.notes if "left out" in line]
    assert "2 images" in said and "03.png" in said and "05.png" in said
    rows = np.concatenate([task.rows[n] for n in SPLIT_NAMES])
    assert (
        sorted(rows) == [i for i in range(24) if i not in (3, 17)]
        and task.effects["images left out"] == 2
    )
    assert sum(getattr(task, n).count for n in SPLIT_NAMES) == 22
    files = sorted(tmp_path.rglob("*.png"))
    for name in SPLIT_NAMES:  # images and targets still belong together
        for row, pixels in zip(task.rows[name], getattr(task, name).numbers, strict=True):
            assert np.array_equal(pixels.numpy(), pixels_in(files[row]))


# Memory, processes


def test_more_than_the_memory_allowed_lies_in_a_file_and_is_the_same(tmp_path):
    folders(tmp_path)
    here, there = load(tmp_path), load(tmp_path, memory="1KB")
    backing = there.train_examples.backing
    assert isinstance(backing, many.MappedImages) and here.train_examples.backing is None
    for name in SPLIT_NAMES:
        assert torch.equal(getattr(here, name).numbers, getattr(there, name).numbers)
    assert here.fingerprint == there.fingerprint
    path = backing.file.path
    assert path.stat().st_size == 16 * 360
    sent = pickle.dumps(there.validation)
    assert (
        len(sent) < len(pickle.dumps(there.validation.take(torch.arange(2)))) + 800
    )  # the bytes stay in the file
    assert torch.equal(pickle.loads(sent).numbers, here.validation.numbers)
    assert path.exists(), "an unpickled copy leaves the file to its owner"
    del there, backing
    assert not path.exists()


def test_threads_give_what_one_thread_gives(tmp_path, monkeypatch):
    folders(tmp_path)
    monkeypatch.setattr(many.os, "cpu_count", lambda: 1)
    alone = load(tmp_path)
    monkeypatch.setattr(many, "IMAGES_PER_CHUNK", 3)
    monkeypatch.setattr(many.os, "cpu_count", lambda: 8)
    assert load(tmp_path).fingerprint == alone.fingerprint


def test_reading_ends_soon_after_it_is_interrupted(monkeypatch):
    started, filters = [], list(warnings.filters)

    def decode(path, spec):
        started.append(path)
        if path == "3":
            raise KeyboardInterrupt  # reaches the thread that waits, as a signal does
        warnings.warn("a bomb", stacklevel=1)
        return np.zeros((1, 1, 1), np.uint8), set()

    monkeypatch.setattr(many.image_file, "decode_image", decode)
    spec = ImageSpec(1, 1, 1, "crop")
    pixels = many.PixelBuffer(500, spec, 500)
    with pytest.raises(KeyboardInterrupt):
        many.read_files(list(map(str, range(500))), spec, pixels, skip=False)
    assert pixels.count == 3 and len(started) <= many.IMAGES_PER_CHUNK
    assert list(warnings.filters) == filters


# The encoder


def test_an_encoder_survives_json(tmp_path):
    encoder = load(folders(tmp_path, "abc")).encoder
    again = encoder_from_plain(json.loads(json.dumps(encoder.to_plain())))
    assert isinstance(again, ImageEncoder) and again == encoder
    assert (again.features, again.code_sizes) == ((), ())


def test_new_pictures_come_to_the_same_form_however_they_are_given(tmp_path):
    root = folders(tmp_path / "train", count=12)
    encoder = image_encoder(load(root, size=(8, 8)))
    files = [str(p) for p in sorted(root.rglob("*.png"))]
    expected = encoder.apply(root).numbers
    assert expected.shape == (24, 3, 8, 8)
    pd.DataFrame({"path": files}).to_csv(tmp_path / "new.csv", index=False)
    arrays = np.stack([pixels_in(Path(f)) for f in files])
    for given in (
        str(root),
        files,
        pd.DataFrame({"path": files}),
        pd.DataFrame({"image": files}),
        tmp_path / "new.csv",
        arrays,
        encoder.read(root),
    ):
        assert torch.equal(encoder.apply(given).numbers, expected)
    assert encoder.apply(files[0]).count == 1
    assert encoder.read(root).names[:2] == ("a/00.png", "a/01.png")


# Training


def learnable(root: Path) -> Path:
    """Dark and light images."""
    draw = np.random.default_rng(0)
    for name, middle in (("dark", 60), ("light", 190)):
        (root / name).mkdir(parents=True)
        for i in range(30):
            values = draw.normal(middle, 30, (6, 6, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(root / name / f"{i}.png")
    return root


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"class_weights": "balanced"},
        {"batch": "all", "precision": "float64"},
        {"data.memory": "1KB"},
    ],
)
def test_a_network_learns_pictures_and_its_run_is_read_back(tmp_path, changes):
    root = learnable(tmp_path / "photos")
    recipe = catalog.named_recipe("plain").vary("data", Images(source=str(root)))
    for path, value in ({"epochs": 5, "seeds": 2} | changes).items():
        recipe = recipe.vary(path, value)
    run = ravine.train(recipe, out=tmp_path / "run", workers=1)
    assert run.score.value == 1.0
    again = ravine.open_run(tmp_path / "run")
    predicted = again.predict(root)
    assert predicted.equals(run.predict(root))
    assert predicted["class"].tolist() == ["dark"] * 30 + ["light"] * 30
    assert again.predict([root / "light" / "3.png"])["class"].tolist() == ["light"]


def test_arrays_train_from_python():
    x = np.concatenate([np.full((30, 5, 5), 0.2), np.full((30, 5, 5), 0.9)])
    x += np.random.default_rng(0).uniform(-0.1, 0.1, x.shape)
    recipe = catalog.named_recipe("plain").vary("data", Images()).vary("epochs", 5)
    run = ravine.train(recipe, frame=(x, np.repeat(["low", "high"], 30)))
    assert run.score.value == 1.0
    assert run.predict(x[:2])["target"].tolist() == ["low", "low"]


def test_the_command_trains_a_folder_and_predicts_one(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learnable(tmp_path / "photos")
    quick = ["--recipe", "plain", "--set", "epochs=5", "--quiet", "--out", "run"]
    assert run_command(["train", "photos", *quick]) == 0
    assert "60 images, 6 x 6, in color" in capfd.readouterr().out
    assert run_command(["predict", "run", "photos/light", "-o", "out.csv"]) == 0
    out = pd.read_csv("out.csv")
    assert list(out.columns) == ["path", "class", "probability of dark", "probability of light"]
    assert len(out) == 30 and (out["class"] == "light").all() and out["path"][0] == "0.png"
    (tmp_path / "none").mkdir()
    assert run_command(["predict", "run", "none"]) == 2
    assert "none has no images" in capfd.readouterr().err


def test_what_holds_pictures_is_known(tmp_path):
    folders(tmp_path / "train")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "paths.csv").write_text("p,label\ntrain/a/00.png,1\ntrain/b/00.png,0\n")
    (tmp_path / "gone.csv").write_text("p,label\nelsewhere/a/00.png,1\n")
    idx = idx_folder(tmp_path / "idx", ".gz")
    found = {
        "train": True,
        "tables": False,
        "paths.csv": True,
        "gone.csv": False,
        "idx": True,
        "tables/t.csv": False,
        "idx/train-images-idx3-ubyte.gz": True,
        "no": False,
    }
    assert idx.is_dir() and {name: holds_images(str(tmp_path / name)) for name in found} == found


def test_a_recipe_file_names_the_part(tmp_path):
    folders(tmp_path / "photos")
    (tmp_path / "r.toml").write_text(
        '[data]\nname = "Images"\nsource = "photos"\nsize = [8, 8]\ncorrupt = "skip"\n'
    )
    recipe = recipe_files.read_recipe(tmp_path / "r.toml")
    assert recipe.data == Images(source=str(tmp_path / "photos"), size=(8, 8), corrupt="skip")


# Bad input


@dataclass(frozen=True)
class Bad:
    """What is wrong, the words that the message must have, and how to bring it about in a
    folder.
    """

    name: str
    words: tuple[str, ...]
    cause: Callable[[Path], object]
    kind: type[InputError] = DataError


def from_table(table: dict[str, list], **settings: object) -> Callable[[Path], object]:
    def cause(folder: Path) -> object:
        folders(folder)
        pd.DataFrame(table).to_csv(folder / "t.csv", index=False)
        return load(folder / "t.csv", **settings)

    return cause


def from_array(x: object, y: object = None, **settings: object) -> Callable[[Path], object]:
    return lambda folder: load(frame=(x, np.arange(30) % 2 if y is None else y), **settings)


def without_images(folder: Path) -> object:
    (folder / "a").mkdir()
    (folder / "a" / "scan.tif").write_bytes(b"")
    return load(folder)


def loose(folder: Path) -> object:
    drawn().save(folder / "x.png")
    return load(folder)


def empty_class(folder: Path) -> object:
    (folders(folder) / "empty").mkdir()
    return load(folder)


def all_corrupt(folder: Path) -> object:
    for path in folders(folder).rglob("*.png"):
        path.write_bytes(b"?")
    return load(folder, corrupt="skip")


def a_class_corrupt(folder: Path) -> object:
    for path in (folders(folder) / "b").iterdir():
        path.write_bytes(path.read_bytes()[:80])
    return load(folder, corrupt="skip", size=8, channels=1)


def without_pillow(folder: Path) -> object:
    folders(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "PIL.Image", None)
        return load(folder)


def damaged_idx(
    change: Callable[[bytes], bytes], name: str = "train-images-idx3-ubyte"
) -> Callable[[Path], object]:
    def cause(folder: Path) -> object:
        path = idx_folder(folder / "set") / name
        path.write_bytes(change(path.read_bytes()))
        return load(folder / "set")

    return cause


def fewer_labels(folder: Path) -> object:
    write_idx(idx_folder(folder / "set") / "train-labels-idx1-ubyte", np.zeros(39, np.uint8))
    return load(folder / "set")


def no_labels(folder: Path) -> object:
    (idx_folder(folder / "set") / "train-labels-idx1-ubyte").unlink()
    return load(folder / "set")


def cut_gz(folder: Path) -> object:
    path = idx_folder(folder / "set", ".gz") / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    return load(folder / "set")


def twice_validation(folder: Path) -> object:
    for name in ("train", "val", "valid"):
        folders(folder / name)
    return load(folder)


def predicting(given: Callable[[Path], object]) -> Callable[[Path], object]:
    def cause(folder: Path) -> object:
        encoder = load(folders(folder / "train")).encoder
        (folder / "none").mkdir()
        (folder / "bad.png").write_bytes(b"?")
        return encoder.apply(given(folder))

    return cause


GOOD = {
    "path": ["a/00.png", "a/01.png", "b/00.png", "b/01.png"] * 2,
    "label": ["x", "x", "y", "y"] * 2,
}
X = np.zeros((30, 5, 5), np.uint8)
TABLE = (
    Bad("nothing given", ("no images are given",), lambda f: load()),
    Bad(
        "missing folder",
        ("photoz does not exist", "Did you mean 'photos'?"),
        lambda f: ((f / "photos").mkdir(), load(f / "photoz")),
    ),
    Bad("no images in the folder", ("has no images", "1 .tif", ".png"), without_images),
    Bad("an empty folder", ("has no images", "there is nothing in it"), lambda f: load(f)),
    Bad("images without a class", ("1 images", "have no class"), loose),
    Bad("one class only", ("but one class, 'a'",), lambda f: load(folders(f, "a"))),
    Bad("an empty class", ("empty has no images", "a class needs some"), empty_class),
    Bad("two validation folders", ("two folders for validation",), twice_validation),
    Bad(
        "no set of images",
        ("is no set of images", "'.zip'"),
        lambda f: ((f / "a.zip").write_bytes(b"PK"), load(f / "a.zip")),
    ),
    Bad(
        "a missing image",
        ("c/00.png does not exist", "there is no folder"),
        from_table({**GOOD, "path": [*GOOD["path"][:7], "c/00.png"]}, target=("label",)),
    ),
    Bad(
        "missing images, the nearest",
        ("2 of 8 images are missing", "a/07.jpg", "Did you mean '07.png'?"),
        from_table(
            {**GOOD, "path": [*GOOD["path"][:6], "a/07.jpg", "a/99.png"]}, target=("label",)
        ),
    ),
    Bad(
        "a path left empty",
        ("path is missing in row 7",),
        from_table({**GOOD, "path": [*GOOD["path"][:7], None]}, target=("label",)),
    ),
    Bad(
        "label column missing",
        ("'lable'", "Did you mean 'label'?"),
        from_table(GOOD, target=("lable",)),
    ),
    Bad(
        "no target among many columns",
        ("no target is given", "--target"),
        from_table({**GOOD, "y": [1] * 8}),
    ),
    Bad(
        "the target is the path",
        ("is the column of paths",),
        from_table(GOOD, target=("path",), path="path"),
    ),
    Bad(
        "path column unknown",
        ("data.path is 'paht'", "Did you mean 'path'?"),
        from_table(GOOD, path="paht"),
    ),
    Bad(
        "two columns of paths",
        ("no column is known", "path and mask could be"),
        from_table({**GOOD, "mask": GOOD["path"]}, target=("label",)),
    ),
    Bad(
        "no column of paths",
        ("no column is known", "the columns are"),
        from_table({"a": [1], "label": [2]}),
    ),
    Bad(
        "unknown suffix",
        ("has the suffix '.tif'", ".png"),
        from_table({**GOOD, "path": [*GOOD["path"][:7], "a/00.tif"]}, target=("label",)),
    ),
    Bad("all corrupt", ("none of the 16 images can be read", "and 11 more"), all_corrupt),
    Bad("a class all corrupt", ("no training row has the class 'b'",), a_class_corrupt),
    Bad(
        "Pillow missing",
        ("Pillow is not installed", "Install it: pip install 'ravine[images]'"),
        without_pillow,
    ),
    Bad("size 0", ("Images.size", "at least 1"), lambda f: Images(size=(0, 8)), RecipeError),
    Bad("three sizes", ("Images.size",), lambda f: Images(size=(1, 2, 3)), RecipeError),
    Bad("two channels", ("Images.channels is 2",), lambda f: Images(channels=2), RecipeError),
    Bad(
        "another fit",
        ("Images.fit is 'squeeze'", "'pad'"),
        lambda f: Images(fit="squeeze"),
        RecipeError,
    ),
    Bad(
        "no size of memory",
        ("Images.memory is 'lots'",),
        lambda f: Images(memory="lots"),
        RecipeError,
    ),
    Bad(
        "idx of another kind",
        ("is no idx file of bytes", "00 00 0d"),
        damaged_idx(lambda d: b"\x00\x00\x0d" + d[3:]),
    ),
    Bad("idx cut short", ("holds 1193 values", "40 x 6 x 5"), damaged_idx(lambda d: d[:-7])),
    Bad("idx empty", ("cannot be read",), damaged_idx(lambda d: b"")),
    Bad(
        "idx of other dimensions",
        ("has 1 dimensions", "have 3"),
        damaged_idx(lambda d: bytes([0, 0, 8, 1]) + struct.pack(">i", 4) + b"1234"),
    ),
    Bad("idx.gz cut short", ("cannot be read", "damaged"), cut_gz),
    Bad("idx of other lengths", ("40 images", "39 labels"), fewer_labels),
    Bad("idx without labels", ("train-labels-idx1-ubyte does not exist",), no_labels),
    Bad("an array with two sides", ("shape 30 x 5", "[N, H, W]"), from_array(X[:, 0])),
    Bad(
        "an array with two channels", ("shape 30 x 5 x 5 x 2",), from_array(np.zeros((30, 5, 5, 2)))
    ),
    Bad("an empty array", ("there is nothing in it",), from_array(X[:0], [])),
    Bad(
        "floats up to 255",
        ("values from 0 to 200", "Divide by 255"),
        from_array(np.linspace(0, 200, 750).reshape(30, 5, 5)),
    ),
    Bad("not a number", ("values from nan",), from_array(X + np.float64("nan"))),
    Bad("integers past 255", ("values from -1",), from_array(X.astype(int) - 1)),
    Bad("an array of words", ("holds <U3",), from_array(X.astype(str))),
    Bad(
        "X and y of other lengths",
        ("X has 30 rows and y has 29",),
        from_array(X, np.arange(29) % 2),
    ),
    Bad("one class in y", ("is '0' in every row",), from_array(X, np.zeros(30, int))),
    Bad(
        "predicting a folder without images",
        ("none has no images",),
        predicting(lambda f: f / "none"),
    ),
    Bad(
        "predicting a missing folder",
        ("non does not exist", "Did you mean 'none'?"),
        predicting(lambda f: f / "non"),
    ),
    Bad(
        "predicting a damaged file",
        ("none of the 1 images can be read", "bad.png"),
        predicting(lambda f: f / "bad.png"),
    ),
    Bad(
        "predicting a folder of idx files",
        ("no images of their own", "t10k-images-idx3-ubyte"),
        predicting(lambda f: idx_folder(f / "set")),
    ),
    Bad(
        "predicting a document",
        ("has the suffix '.pdf'",),
        predicting(lambda f: ((f / "a.pdf").write_bytes(b""), f / "a.pdf")[1]),
    ),
)


@pytest.mark.parametrize("bad", TABLE, ids=lambda bad: bad.name)
def test_bad_input_gives_one_clear_message(bad, tmp_path):
    with pytest.raises(bad.kind) as caught:
        bad.cause(tmp_path)
    text = str(caught.value)
    for words in bad.words:
        assert words in text
    assert caught.value.why, "it says why"


def test_a_damaged_picture_stops_a_prediction_or_is_left_out_and_named(tmp_path):
    root = folders(tmp_path / "train")
    (tmp_path / "new").mkdir()
    drawn().save(tmp_path / "new" / "good.png")
    (tmp_path / "new" / "bad.png").write_bytes(b"?")
    with pytest.raises(DataError, match="1 of 2 images cannot be read"):
        image_encoder(load(root)).read(tmp_path / "new")
    seen = image_encoder(load(root, corrupt="skip")).read(tmp_path / "new")
    assert seen.names == ("good.png",) and seen.pixels.shape[0] == 1 and "bad.png" in seen.notes[0]


def test_a_full_disk_is_said_before_decoding(tmp_path, monkeypatch):
    folders(tmp_path)
    monkeypatch.setattr(many.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match="TMPDIR"):
        load(tmp_path, memory="1KB")


def test_the_same_folder_lists_in_the_same_order(tmp_path):
    folders(tmp_path, "ba")
    found = list_images(str(tmp_path), target=(), path=None, frame=None, notes=[])
    assert isinstance(found.images, list) and found.images == sorted(found.images)


def test_pictures_train_as_a_cohort_but_where_they_are_convolved():
    X = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    task = load_task(Images(), Random(), Encoding(), seed=0, frame=(X, np.tile(["a", "b"], 20)))
    plain = catalog.named_recipe("plain").vary("data", Images()).vary("seeds", 4).vary("batch", 8)
    jobs = {}
    for network in (Mlp(hidden=(4,)), Conv(channels=(2, 2))):
        recipe = resolve(plain.vary("network", network), task)
        jobs[type(network)] = [
            len(w.job.seeds) for w in assign_jobs([recipe], [task], device="cpu", workers=1)
        ]
    assert jobs == {Mlp: [4], Conv: [1, 1, 1, 1]}

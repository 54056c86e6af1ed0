"""Images as examples: the part that names them, reading, and the encoder that brings new images to
the size and channels of the training images.

Letters: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from ravine.data.encoder import Encoding
from ravine.data.examples import Examples, LoadedImages
from ravine.data.image_file import FitMode, ImageHeader, ImageSpec, UnreadableImage, default_size
from ravine.data.image_sources import ImageListing, list_images, list_unlabeled
from ravine.data.image_store import (
    PixelBuffer,
    ReadResult,
    channel_moments,
    name_files,
    pixel_digest,
    read_array,
    read_files,
    read_headers,
)
from ravine.data.source import check_distinct_targets, parse_size, with_targets
from ravine.data.splits import (
    SPLIT_NAMES,
    AnySplit,
    Given,
    SplitRows,
    check_row_count,
    check_splits,
)
from ravine.data.tables import ExamplesLike, TableLike
from ravine.data.targets import Target, fit_target
from ravine.data.task_type import TaskType, infer_task_type
from ravine.errors import DataError
from ravine.old_names import get_key
from ravine.part import part, setting
from ravine.protocols import ImageShape

DEFAULT_MEMORY = "2GB"


@part
class Images:
    """Where the images are and what is to be learned from them.

    `source` is a folder with a folder for each class (or train, validation and test folders with
    those in them), a table with a column of paths (`path`, inferred) and one of labels (`target`),
    or a folder of idx files; empty where a pair (X, y) of arrays is given from Python. `size` is a
    side, or rows and columns: by default that of the training images if all have the same, else a
    square of their median side, at most 224. `fit` says how other shapes are brought to it,
    `channels` is 1 (gray) or 3, by default 1 if all are gray. `corrupt`: files that cannot be read
    stop the run, or are skipped and named. Where the decoded images take more than `memory`, they
    are kept in a temporary file.
    """

    source: str = ""
    target: tuple[str, ...] = ()
    path: str | None = None
    task: Literal["auto", "binary", "classes", "regression", "labels"] = "auto"
    size: int | tuple[int, int] | None = setting(default=None, ge=1)
    fit: FitMode = "crop"
    channels: Literal["auto", 1, 3] = "auto"
    corrupt: Literal["stop", "skip"] = "stop"
    memory: str = DEFAULT_MEMORY

    def check(self) -> None:
        parse_size(self.memory, "Images")
        check_distinct_targets(self.target)


@dataclass(frozen=True)
class ImageEncoder:
    """The size and channels that images are brought to, and what is predicted. Plain numbers and
    text only, exact through JSON.

    `image` has the mean and SD of each channel in the training split. It is used as a table's
    `Encoder` is; it has no features and no codes.
    """

    image: ImageShape
    target: Target
    fit: FitMode = "crop"
    path: str = "path"
    corrupt: Literal["stop", "skip"] = "stop"
    effects: Mapping[str, float] = field(default_factory=dict, compare=False)

    features: tuple[str, ...] = field(default=(), init=False)
    flags: tuple[int, ...] = field(default=(), init=False)
    code_sizes: tuple[int, ...] = field(default=(), init=False)

    @property
    def spec(self) -> ImageSpec:
        """What every image is brought to."""
        return ImageSpec(self.image.height, self.image.width, self.image.channels, self.fit)

    def read(self, given: ExamplesLike, *, memory: str = DEFAULT_MEMORY) -> LoadedImages:
        """Images from a folder, a file, a table or list of paths, or an array, brought to the
        encoder's size and channels.

        Files that cannot be read are skipped and named where `corrupt` is "skip"; else they raise
        `DataError`.
        """
        names, images = list_unlabeled(given, self.path)
        pixels = PixelBuffer(len(images), self.spec, parse_size(memory, "Images"))
        result = _read_pixels(images, np.arange(len(images)), self.spec, pixels, self.corrupt)
        kept = tuple(n for n, good in zip(names, result.kept, strict=True) if good) if names else ()
        ((tensor, backing),) = pixels.split([pixels.count])
        return LoadedImages(kept, tensor, backing, _skipped_note(result.unreadable))

    def apply(self, frame: ExamplesLike) -> Examples:
        """Images (whatever `read` takes or returns) as examples without targets, a row for each.

        Raises `DataError` for files that cannot be read.
        """
        if isinstance(frame, LoadedImages):
            return Examples(frame.pixels, backing=frame.backing)
        images = list_unlabeled(frame, self.path)[1]
        pixels = PixelBuffer(len(images), self.spec, parse_size(DEFAULT_MEMORY, "Images"))
        _read_pixels(images, np.arange(len(images)), self.spec, pixels, "stop")
        ((tensor, backing),) = pixels.split([pixels.count])
        return Examples(tensor, backing=backing)

    def to_plain(self) -> dict[str, Any]:
        """Plain data, exact through JSON; `from_plain` gives the same encoder back."""
        return {
            "images": self.image._asdict(),
            "fit": self.fit,
            "path": self.path,
            "corrupt": self.corrupt,
            "target": self.target.to_plain(),
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> ImageEncoder:
        """The encoder that plain data describe."""
        p = get_key(data, "images")
        image = ImageShape(p["channels"], p["height"], p["width"], tuple(p["mean"]), tuple(p["sd"]))
        return cls(
            image, Target.from_plain(data["target"]), data["fit"], data["path"], data["corrupt"]
        )


# Reading


@dataclass(frozen=True)
class ImageSplits:
    """A source of images, read, split and encoded."""

    task_type: TaskType
    encoder: ImageEncoder
    train: Examples
    validation: Examples | None
    test: Examples | None
    rows: dict[str, np.ndarray]
    digest: str


def read_images(
    data: Images,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None,
    notes: list[str],
) -> ImageSplits:
    """List, split, decode and measure the images of a source, or of a `frame` given from
    Python.
    """
    listing = list_images(data.source, data.target, data.path, frame, notes)
    table, places = with_targets(listing.table, listing.targets, notes)
    check_row_count(len(table), 0, 0)
    task_type = infer_task_type(table, listing.targets, data.task, notes)
    rows = _split_rows(listing, table, places, split, task_type, seed, notes)
    check_splits(rows, table, task_type, [])
    order = np.concatenate([getattr(rows, name) for name in SPLIT_NAMES])
    spec = _image_spec(data, listing.images, places, rows, notes)
    pixels = PixelBuffer(len(order), spec, parse_size(data.memory, "Images"))
    result = _read_pixels(listing.images, places[order], spec, pixels, data.corrupt)
    effects = dict(result.effects)
    if result.unreadable:
        effects["images left out"] = float(len(result.unreadable))
        notes += _skipped_note(result.unreadable)
        rows = _kept_rows(rows, result.kept)
        check_row_count(len(rows.train), 0, 0)
    check_splits(rows, table, task_type, notes)
    sizes = [len(getattr(rows, name)) for name in SPLIT_NAMES]
    parts = pixels.split(sizes)
    mean, sd = channel_moments(parts[0][0])
    target, of_target = fit_target(table.iloc[rows.train], task_type, encoding.target, notes)
    image = ImageShape(spec.channels, spec.height, spec.width, mean, sd)
    encoder = ImageEncoder(image, target, spec.fit, listing.path, data.corrupt, effects | of_target)
    examples = {
        name: Examples(
            tensor, None, target.encode(table.iloc[getattr(rows, name)]), backing=backing
        )
        if size
        else None
        for name, size, (tensor, backing) in zip(SPLIT_NAMES, sizes, parts, strict=True)
    }
    notes += _describe_sizes(spec, sizes, data.memory if pixels.file else None)
    assert examples["train"] is not None  # the checks raise before
    digest = pixel_digest([tensor for tensor, _ in parts])
    numbers = {name: places[getattr(rows, name)] for name in SPLIT_NAMES}
    return ImageSplits(task_type, encoder, **examples, rows=numbers, digest=digest)  # type: ignore


def _describe_sizes(spec: ImageSpec, sizes: list[int], memory: str | None) -> list[str]:
    color = "gray" if spec.channels == 1 else "in color"
    notes = [f"{sum(sizes)} images, {spec.height} x {spec.width}, {color}."]
    if memory is not None:
        taken = f"{sum(sizes) * spec.bytes / 1e6:,.0f} MB"
        notes.append(
            f"They take {taken}, more than data.memory = {memory!r}: they are kept in a temporary "
            f"file."
        )
    return [*notes, f"Split: {sizes[0]} training, {sizes[1]} validation, {sizes[2]} test."]


def _split_rows(
    listing: ImageListing,
    table: pd.DataFrame,
    places: np.ndarray,
    split: AnySplit,
    task_type: TaskType,
    seed: int,
    notes: list[str],
) -> SplitRows:
    """The splits that the source has, the others drawn from its training images; all as `split`
    says if it has none.

    Rows that the recipe itself gives (`Given`) win over the source's.
    """
    if listing.place is None or isinstance(split, Given):
        return split.rows(table, task_type, seed, notes)
    place = listing.place[places].copy()
    has = {name: bool((place == i).any()) for i, name in enumerate(SPLIT_NAMES)}
    drawn = dataclasses.replace(
        split, **{n: 0.0 for n in SPLIT_NAMES[1:] if has[n] and hasattr(split, n)}
    )
    train = np.flatnonzero(place == 0)
    if any(getattr(drawn, name, 0.0) > 0 for name in SPLIT_NAMES[1:]):
        rest = drawn.rows(table.iloc[train], task_type, seed, notes)
        place[train[rest.validation]], place[train[rest.test]] = 1, 2
    return SplitRows.of(place)


def _image_spec(
    data: Images,
    images: list[str] | np.ndarray,
    places: np.ndarray,
    rows: SplitRows,
    notes: list[str],
) -> ImageSpec:
    """Size and channels as the recipe sets them, else from the files; the size from the training
    split alone.
    """
    size = (data.size, data.size) if isinstance(data.size, int) else data.size
    channels: Any = data.channels
    if isinstance(images, np.ndarray):
        height, width = size or images.shape[2:]
        return ImageSpec(
            height, width, images.shape[1] if channels == "auto" else channels, data.fit
        )
    if size is None or channels == "auto":
        found = read_headers([images[i] for i in places])
        bad = tuple(head for head in found if isinstance(head, UnreadableImage))
        if len(bad) == len(found) or (bad and data.corrupt == "stop"):
            raise _unreadable_error(bad, len(found))
        readable = [head for head in found if isinstance(head, ImageHeader)]
        if channels == "auto":
            channels = 1 if all(head.gray for head in readable) else 3
        if size is None:
            training = [found[i] for i in rows.train]
            size = default_size([h for h in training if isinstance(h, ImageHeader)] or readable)
    return ImageSpec(*size, channels, data.fit)


def _read_pixels(
    images: list[str] | np.ndarray,
    order: np.ndarray,
    spec: ImageSpec,
    pixels: PixelBuffer,
    corrupt: Literal["stop", "skip"],
) -> ReadResult:
    if isinstance(images, np.ndarray):
        return read_array(images, order, spec, pixels)
    result = read_files([images[i] for i in order], spec, pixels, skip=corrupt == "skip")
    if result.unreadable and (corrupt == "stop" or not result.kept.any()):
        raise _unreadable_error(result.unreadable, len(order))
    return result


def _unreadable_error(bad: tuple[UnreadableImage, ...], count: int) -> DataError:
    if len(bad) == count:
        return DataError(
            f"none of the {count} images can be read",
            why=name_files(bad),
            do="copy or download them again",
        )
    return DataError(
        f"{len(bad)} of {count} images cannot be read",
        why=name_files(bad),
        do='restore or remove them, or set data.corrupt = "skip"',
    )


def _skipped_note(bad: tuple[UnreadableImage, ...]) -> tuple[str, ...]:
    if not bad:
        return ()
    return (
        f"{len(bad)} {'image' if len(bad) == 1 else 'images'} cannot be read and left out: "
        f"{name_files(bad)}.",
    )


def _kept_rows(rows: SplitRows, kept: np.ndarray) -> SplitRows:
    """The rows whose images were read; `kept` is in the order of the splits."""
    ends = np.cumsum([len(getattr(rows, name)) for name in SPLIT_NAMES])[:-1]
    return SplitRows(
        *(
            getattr(rows, name)[good]
            for name, good in zip(SPLIT_NAMES, np.split(kept, ends), strict=True)
        )
    )

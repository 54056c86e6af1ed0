"""Images as examples: the part that names them, reading, and the encoder that fits new images.

Letters: N images, C channels, H rows, W columns.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from ravine.data import image_file, image_store
from ravine.data.encoder import Encoding
from ravine.data.examples import Examples, LoadedImages
from ravine.data.frames import ExamplesLike, TableLike
from ravine.data.image_sources import list_images, list_unlabeled
from ravine.data.source import check_distinct_targets, parse_size, with_targets
from ravine.data.splits import SPLIT_NAMES, AnySplit, Given, SplitRows, check_splits, require_count
from ravine.data.targets import Target, fit_target
from ravine.data.task_type import TaskType, infer_task_type
from ravine.errors import DataError
from ravine.old_names import get_key
from ravine.part import part, setting
from ravine.protocols import ImageShape
from ravine.ranks import Ranks, run_in_turns

DEFAULT_MEMORY = "2GB"


@part
class Images:
    """Where the images are and what is to be learned from them.

    `source` is a folder with a folder for each class (or with train, validation and test folders of
    these), a table with a column of paths (`path`, inferred) and one of labels (`target`), or a
    folder of idx files; empty for a pair (X, y) of arrays from Python. `size` is a side, or rows
    and columns: by default that of the training images if all have the same, else a square of their
    median side, at most 224. `fit` says how other shapes are brought to it, `channels` is 1 (gray)
    or 3, by default 1 if all are gray. `corrupt`: files that cannot be read stop the run, or are
    skipped and named. Decoded images that take more than `memory` are kept in a temporary file.
    """

    source: str = ""
    target: tuple[str, ...] = ()
    path: str | None = None
    task: Literal["auto", "binary", "classes", "regression", "labels"] = "auto"
    size: int | tuple[int, int] | None = setting(default=None, ge=1)
    fit: image_file.FitMode = "crop"
    channels: Literal["auto", 1, 3] = "auto"
    corrupt: Literal["stop", "skip"] = "stop"
    memory: str = DEFAULT_MEMORY

    def check(self) -> None:
        parse_size(self.memory, "Images")
        check_distinct_targets(self.target)


@dataclass(frozen=True)
class ImageEncoder:
    """The size and channels of images, and what is predicted: plain data only, exact through JSON.

    `image` has the mean and SD of each channel in the training split. It is used as a table's
    `Encoder` is; it has no features and no codes.
    """

    image: ImageShape
    target: Target
    fit: image_file.FitMode = "crop"
    path: str = "path"
    corrupt: Literal["stop", "skip"] = "stop"
    effects: Mapping[str, float] = field(default_factory=dict, compare=False)

    features: tuple[str, ...] = field(default=(), init=False)
    flags: tuple[int, ...] = field(default=(), init=False)
    code_sizes: tuple[int, ...] = field(default=(), init=False)

    @property
    def spec(self) -> image_file.ImageSpec:
        """What every image is brought to."""
        image = self.image
        return image_file.ImageSpec(image.height, image.width, image.channels, self.fit)

    def read(self, given: ExamplesLike, *, memory: str = DEFAULT_MEMORY) -> LoadedImages:
        """Images from a folder, a file, a table or list of paths, or an array, as the encoder's.

        Unreadable files are skipped and named if `corrupt` is "skip"; else they raise `DataError`.
        """
        names, images = list_unlabeled(given, self.path)
        pixels = image_store.PixelBuffer(len(images), self.spec, parse_size(memory, "Images"))
        order = np.arange(len(images))
        result = _read_pixels(images, order, spec=self.spec, pixels=pixels, corrupt=self.corrupt)
        kept = tuple(n for n, good in zip(names, result.kept, strict=True) if good) if names else ()
        ((tensor, backing),) = pixels.split([pixels.count])
        return LoadedImages(kept, tensor, backing, _skipped_note(result.unreadable))

    def apply(self, frame: ExamplesLike) -> Examples:
        """Images (whatever `read` takes or returns) as examples without targets, a row for each.

        Raises `DataError` for files that cannot be read.
        """
        if not isinstance(frame, LoadedImages):
            frame = dataclasses.replace(self, corrupt="stop").read(frame)
        return Examples(frame.pixels, backing=frame.backing)

    def to_plain(self) -> dict[str, Any]:
        """Plain data, exact through JSON; `from_plain` gives the same encoder back."""
        settings = {"fit": self.fit, "path": self.path, "corrupt": self.corrupt}
        return {"images": self.image._asdict(), **settings, "target": self.target.to_plain()}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Self:
        """The encoder that plain data describe."""
        plain = get_key(data, "images")
        mean, sd = tuple(plain["mean"]), tuple(plain["sd"])
        image = ImageShape(plain["channels"], plain["height"], plain["width"], mean, sd)
        target = Target.from_plain(data["target"])
        return cls(image, target, data["fit"], data["path"], data["corrupt"])


def read_images(
    data: Images,
    split: AnySplit,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None,
    notes: list[str],
    ranks: Ranks | None = None,
) -> tuple[ImageEncoder, dict[str, Examples | None], dict[str, np.ndarray], str]:
    """List, split, decode and measure the images of a source, or of a `frame` given from Python.

    Returns the encoder, by split the examples and the places of their rows, and a hash of pixels.
    Each of several `ranks` opens its share of the files.
    """
    listing = list_images(data.source, target=data.target, path=data.path, frame=frame, notes=notes)
    table, places = with_targets(listing.table, listing.targets, notes)
    require_count(len(table), 0, 0)
    task_type = infer_task_type(table, listing.targets, data.task, notes)
    place = None if listing.place is None else listing.place[places]
    rows = _split_rows(split, table, task_type, place=place, seed=seed, notes=notes)
    check_splits(rows, table, task_type, [])
    order = np.concatenate(rows)
    spec = _image_spec(data, listing.images, places, rows, ranks)
    pixels = image_store.PixelBuffer(len(order), spec, parse_size(data.memory, "Images"))
    result = _read_pixels(
        listing.images, places[order], spec=spec, pixels=pixels, corrupt=data.corrupt, ranks=ranks
    )
    effects = dict(result.effects)
    if result.unreadable:
        effects["images left out"] = float(len(result.unreadable))
        notes += _skipped_note(result.unreadable)
        kept = np.split(result.kept, np.cumsum([len(r) for r in rows])[:-1])
        rows = SplitRows(*(r[good] for r, good in zip(rows, kept, strict=True)))
        require_count(len(rows.train), 0, 0)
    check_splits(rows, table, task_type, notes)
    parts = pixels.split([len(r) for r in rows])
    mean, sd = image_store.channel_moments(parts[0][0])
    target, of_target = fit_target(table.iloc[rows.train], task_type, encoding.target, notes)
    image = ImageShape(spec.channels, spec.height, spec.width, mean, sd)
    encoder = ImageEncoder(image, target, spec.fit, listing.path, data.corrupt, effects | of_target)
    resized = int(effects.get("images resized", 0))
    notes += _describe_sizes(spec, rows, data.memory if pixels.file else None, resized)
    examples: dict[str, Examples | None] = dict.fromkeys(SPLIT_NAMES)
    for name, r, (tensor, backing) in zip(SPLIT_NAMES, rows, parts, strict=True):
        if len(r):
            examples[name] = Examples(tensor, targets=target.encode(table.iloc[r]), backing=backing)
    numbers = {name: places[r] for name, r in rows._asdict().items()}
    return encoder, examples, numbers, image_store.pixel_digest([tensor for tensor, _ in parts])


def _describe_sizes(
    spec: image_file.ImageSpec, rows: SplitRows, memory: str | None, resized: int
) -> list[str]:
    color = "gray" if spec.channels == 1 else "in color"
    count = sum(map(len, rows))
    notes = [f"{count} images, {spec.height} x {spec.width}, {color}."]
    if resized:
        notes.append(f"{resized} of them had another size: {image_file.FIT_WORDS[spec.fit]}.")
    if memory is not None:
        size = f"{count * spec.bytes / 1e6:,.0f} MB, more than data.memory = {memory!r}"
        notes.append(f"They take {size}: they are kept in a temporary file.")
    train, validation, test = map(len, rows)
    return [*notes, f"Split: {train} training, {validation} validation, {test} test."]


def _split_rows(
    split: AnySplit,
    table: pd.DataFrame,
    task_type: TaskType,
    *,
    place: np.ndarray | None,
    seed: int,
    notes: list[str],
) -> SplitRows:
    """The source's own splits, those it lacks drawn from its training images; else as `split` says.

    Rows that the recipe itself gives (`Given`) win over the source's.
    """
    if place is None or isinstance(split, Given):
        return split.rows(table, task_type, seed, notes)
    given = [n for i, n in enumerate(SPLIT_NAMES) if (place == i).any() and hasattr(split, n)]
    drawn = dataclasses.replace(split, **dict.fromkeys(given, 0.0))
    train = np.flatnonzero(place == 0)
    if any(getattr(drawn, name, 0.0) > 0 for name in SPLIT_NAMES[1:]):
        rest = drawn.rows(table.iloc[train], task_type, seed, notes)
        place[train[rest.validation]] = 1
        place[train[rest.test]] = 2
    return SplitRows.of(place)


def _image_spec(
    data: Images,
    images: list[str] | np.ndarray,
    places: np.ndarray,
    rows: SplitRows,
    ranks: Ranks | None,
) -> image_file.ImageSpec:
    """Size and channels as set, else from the files; the size from the training split alone."""
    size = (data.size, data.size) if isinstance(data.size, int) else data.size
    channels: Any = data.channels
    if isinstance(images, np.ndarray):
        height, width = size or images.shape[2:]
        channels = images.shape[1] if channels == "auto" else channels
        return image_file.ImageSpec(height, width, channels, data.fit)
    if size is None or channels == "auto":
        files = [images[i] for i in places[np.concatenate(rows)]]
        found = [*run_in_turns(partial(map, image_file.read_header), files, ranks)]
        bad = tuple(head for head in found if isinstance(head, image_file.UnreadableImage))
        if len(bad) == len(found) or (bad and data.corrupt == "stop"):
            raise _unreadable_error(bad, len(found))
        readable = [head for head in found if isinstance(head, image_file.ImageHeader)]
        if channels == "auto":
            channels = 1 if all(head.gray for head in readable) else 3
        if size is None:
            training = found[: len(rows.train)]
            size = image_file.default_size(
                [h for h in training if isinstance(h, image_file.ImageHeader)] or readable
            )
    return image_file.ImageSpec(*size, channels, data.fit)


def _read_pixels(
    images: list[str] | np.ndarray,
    order: np.ndarray,
    *,
    spec: image_file.ImageSpec,
    pixels: image_store.PixelBuffer,
    corrupt: Literal["stop", "skip"],
    ranks: Ranks | None = None,
) -> image_store.ReadResult:
    if isinstance(images, np.ndarray):
        return image_store.read_array(images, order, spec, pixels)
    files = [images[i] for i in order]
    result = image_store.read_files(files, spec, pixels, skip=corrupt == "skip", ranks=ranks)
    if result.unreadable and (corrupt == "stop" or not result.kept.any()):
        raise _unreadable_error(result.unreadable, len(order))
    return result


def _unreadable_error(bad: tuple[image_file.UnreadableImage, ...], count: int) -> DataError:
    what = f"{len(bad)} of {count} images cannot be read"
    do = 'restore or remove them, or set data.corrupt = "skip"'
    if len(bad) == count:
        what = f"none of the {count} images can be read"
        do = "copy or download them again"
    return DataError(what, why=image_store.name_files(bad), do=do)


def _skipped_note(bad: tuple[image_file.UnreadableImage, ...]) -> tuple[str, ...]:
    images = "image" if len(bad) == 1 else "images"
    note = f"{len(bad)} {images} cannot be read and left out: {image_store.name_files(bad)}."
    return (note,) if bad else ()

"""Pictures as examples: the part that names them, reading, and the encoder that brings new pictures
to the same form.

Letters: N pictures, C channels, H rows, W columns.
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
from ravine.data.image_file import Bad, Fit, Form, size_of
from ravine.data.image_sources import Listing, listed, unlabeled
from ravine.data.image_store import (
    Pixels,
    Took,
    digest_of,
    heads,
    moments_of,
    named,
    take_array,
    take_files,
)
from ravine.data.source import bytes_of, each_once, with_targets
from ravine.data.splits import NAMES, Given, Rows, few_rows, judged
from ravine.data.tables import ExamplesLike, TableLike
from ravine.data.targets import Target, fit_target
from ravine.data.task_type import Asked, asked
from ravine.errors import DataError
from ravine.part import part, setting
from ravine.protocols import ImageShape

MEMORY = "2GB"


@part
class Images:
    """Where the pictures are and what is to be learned from them.

    `source` is a folder with a folder for each class (or train, validation and test folders with
    those in them), a table with a column of paths (`path`, inferred) and one of labels (`target`),
    or a folder of idx files; empty where a pair (X, y) of arrays is given from Python. `size` is a
    side, or rows and columns: by default the training pictures' own if they have all the same, else
    a square of their median side, at most 224. `fit` says how other shapes get there, `channels` is
    1 (grey) or 3, by default 1 if all are grey. `corrupt`: files that cannot be read stop the run,
    or are skipped and named. Where the decoded pictures take more than `memory`, they are kept in a
    temporary file.
    """

    source: str = ""
    target: tuple[str, ...] = ()
    path: str | None = None
    task: Literal["auto", "binary", "classes", "regression", "labels"] = "auto"
    size: int | tuple[int, int] | None = setting(default=None, ge=1)
    fit: Fit = "crop"
    channels: Literal["auto", 1, 3] = "auto"
    corrupt: Literal["stop", "skip"] = "stop"
    memory: str = MEMORY

    def check(self) -> None:
        bytes_of(self.memory, "Images")
        each_once(self.target)


@dataclass(frozen=True)
class PictureEncoder:
    """What pictures are brought to, and what is asked of them. Plain numbers and text only, exact
    through JSON.

    `picture` has the mean and SD of each channel in the training split. It stands where a table's
    `Encoder` does; it has no features and no codes.
    """

    picture: ImageShape
    target: Target
    fit: Fit = "crop"
    path: str = "path"
    corrupt: Literal["stop", "skip"] = "stop"
    effects: Mapping[str, float] = field(default_factory=dict, compare=False)

    features: tuple[str, ...] = field(default=(), init=False)
    flags: tuple[int, ...] = field(default=(), init=False)
    code_sizes: tuple[int, ...] = field(default=(), init=False)

    @property
    def form(self) -> Form:
        """What every picture is brought to."""
        return Form(self.picture.height, self.picture.width, self.picture.channels, self.fit)

    def read(self, given: ExamplesLike, *, memory: str = MEMORY) -> LoadedImages:
        """Pictures from a folder, a file, a table or list of paths, or an array, brought to the
        form.

        Files that cannot be read are skipped and named where `corrupt` is "skip"; else they raise
        `DataError`.
        """
        names, pictures = unlabeled(given, self.path)
        pixels = Pixels(len(pictures), self.form, bytes_of(memory, "Images"))
        took = _take(pictures, np.arange(len(pictures)), self.form, pixels, self.corrupt)
        kept = tuple(n for n, good in zip(names, took.kept, strict=True) if good) if names else ()
        ((tensor, held),) = pixels.cut([pixels.count])
        return LoadedImages(kept, tensor, held, _skipped(took.bad))

    def apply(self, frame: ExamplesLike) -> Examples:
        """Pictures (whatever `read` reads, or what it gave) as examples without targets, a row for
        each.

        Raises `DataError` for files that cannot be read."""
        if isinstance(frame, LoadedImages):
            return Examples(frame.pixels, held=frame.held)
        pictures = unlabeled(frame, self.path)[1]
        pixels = Pixels(len(pictures), self.form, bytes_of(MEMORY, "Images"))
        _take(pictures, np.arange(len(pictures)), self.form, pixels, "stop")
        ((tensor, held),) = pixels.cut([pixels.count])
        return Examples(tensor, held=held)

    def to_plain(self) -> dict[str, Any]:
        """Plain data, exact through JSON; `from_plain` gives the same encoder back."""
        return {
            "pictures": self.picture._asdict(),
            "fit": self.fit,
            "path": self.path,
            "corrupt": self.corrupt,
            "target": self.target.to_plain(),
        }

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> PictureEncoder:
        """The encoder that plain data describe."""
        p = data["pictures"]
        picture = ImageShape(
            p["channels"], p["height"], p["width"], tuple(p["mean"]), tuple(p["sd"])
        )
        return cls(
            picture, Target.from_plain(data["target"]), data["fit"], data["path"], data["corrupt"]
        )


# Reading


@dataclass(frozen=True)
class Pictured:
    """What reading a source of pictures came to."""

    asked: Asked
    encoder: PictureEncoder
    train: Examples
    validation: Examples | None
    test: Examples | None
    rows: dict[str, np.ndarray]
    digest: str


def pictured(
    data: Images,
    split: Any,
    encoding: Encoding,
    *,
    seed: int,
    frame: TableLike | None,
    said: list[str],
) -> Pictured:
    """List, split, decode and measure the pictures of a source, or of a `frame` given from
    Python.
    """
    listing = listed(data.source, data.target, data.path, frame, said)
    table, places = with_targets(listing.table, listing.targets, said)
    few_rows(len(table), 0, 0)
    question = asked(table, listing.targets, data.task, said)
    rows = _divided(listing, table, places, split, question, seed, said)
    judged(rows, table, question, [])
    order = np.concatenate([getattr(rows, name) for name in NAMES])
    form = _form(data, listing.pictures, places, rows, said)
    pixels = Pixels(len(order), form, bytes_of(data.memory, "Images"))
    took = _take(listing.pictures, places[order], form, pixels, data.corrupt)
    effects = dict(took.effects)
    if took.bad:
        effects["pictures left out"] = float(len(took.bad))
        said += _skipped(took.bad)
        rows = _kept(rows, took.kept)
        few_rows(len(rows.train), 0, 0)
    judged(rows, table, question, said)
    sizes = [len(getattr(rows, name)) for name in NAMES]
    stretches = pixels.cut(sizes)
    mean, sd = moments_of(stretches[0][0])
    target, of_target = fit_target(table.iloc[rows.train], question, encoding.target, said)
    picture = ImageShape(form.channels, form.height, form.width, mean, sd)
    encoder = PictureEncoder(
        picture, target, form.fit, listing.path, data.corrupt, effects | of_target
    )
    examples = {
        name: Examples(tensor, None, target.encode(table.iloc[getattr(rows, name)]), held=held)
        if size
        else None
        for name, size, (tensor, held) in zip(NAMES, sizes, stretches, strict=True)
    }
    said += _sizes_said(form, sizes, data.memory if pixels.file else None)
    assert examples["train"] is not None  # few_rows and judged raise before
    digest = digest_of([tensor for tensor, _ in stretches])
    numbers = {name: places[getattr(rows, name)] for name in NAMES}
    return Pictured(question, encoder, **examples, rows=numbers, digest=digest)  # type: ignore


def _sizes_said(form: Form, sizes: list[int], memory: str | None) -> list[str]:
    color = "grey" if form.channels == 1 else "in color"
    said = [f"{sum(sizes)} pictures, {form.height} x {form.width}, {color}."]
    if memory is not None:
        taken = f"{sum(sizes) * form.bytes / 1e6:,.0f} MB"
        said.append(
            f"They take {taken}, more than data.memory = {memory!r}: they are kept in a temporary "
            f"file."
        )
    return [*said, f"{sizes[0]} train, {sizes[1]} validate, {sizes[2]} test."]


def _divided(
    listing: Listing,
    table: pd.DataFrame,
    places: np.ndarray,
    split: Any,
    question: Asked,
    seed: int,
    said: list[str],
) -> Rows:
    """The splits that the source has, the others drawn from its training pictures; all as `split`
    says if it has none.

    Rows that the recipe itself gives (`Given`) win over the source's.
    """
    if listing.place is None or isinstance(split, Given):
        return split.rows(table, question, seed, said)
    place = listing.place[places].copy()
    has = {name: bool((place == i).any()) for i, name in enumerate(NAMES)}
    drawn = dataclasses.replace(
        split, **{n: 0.0 for n in NAMES[1:] if has[n] and hasattr(split, n)}
    )
    train = np.flatnonzero(place == 0)
    if any(getattr(drawn, name, 0.0) > 0 for name in NAMES[1:]):
        rest = drawn.rows(table.iloc[train], question, seed, said)
        place[train[rest.validation]], place[train[rest.test]] = 1, 2
    return Rows.of(place)


def _form(
    data: Images, pictures: list[str] | np.ndarray, places: np.ndarray, rows: Rows, said: list[str]
) -> Form:
    """Size and channels: as told, or from what the files say; the size from the training split
    alone.
    """
    size = (data.size, data.size) if isinstance(data.size, int) else data.size
    channels: Any = data.channels
    if isinstance(pictures, np.ndarray):
        height, width = size or pictures.shape[2:]
        return Form(height, width, pictures.shape[1] if channels == "auto" else channels, data.fit)
    if size is None or channels == "auto":
        found = heads([pictures[i] for i in places])
        bad = tuple(head for head in found if isinstance(head, Bad))
        if len(bad) == len(found) or (bad and data.corrupt == "stop"):
            raise _unreadable(bad, len(found))
        if channels == "auto":
            channels = 1 if all(head.grey for head in found if not isinstance(head, Bad)) else 3
        if size is None:
            trained = [found[i] for i in rows.train]
            size = size_of(
                [head for head in trained if not isinstance(head, Bad)]
                or [head for head in found if not isinstance(head, Bad)]
            )
    return Form(*size, channels, data.fit)


def _take(
    pictures: list[str] | np.ndarray,
    order: np.ndarray,
    form: Form,
    pixels: Pixels,
    corrupt: Literal["stop", "skip"],
) -> Took:
    if isinstance(pictures, np.ndarray):
        return take_array(pictures, order, form, pixels)
    took = take_files([pictures[i] for i in order], form, pixels, patient=corrupt == "skip")
    if took.bad and (corrupt == "stop" or not took.kept.any()):
        raise _unreadable(took.bad, len(order))
    return took


def _unreadable(bad: tuple[Bad, ...], count: int) -> DataError:
    if len(bad) == count:
        return DataError(
            f"none of the {count} pictures can be read",
            why=named(bad),
            do="copy or download them again",
        )
    return DataError(
        f"{len(bad)} of {count} pictures cannot be read",
        why=named(bad),
        do='restore or remove them, or set data.corrupt = "skip"',
    )


def _skipped(bad: tuple[Bad, ...]) -> tuple[str, ...]:
    if not bad:
        return ()
    return (
        f"{len(bad)} {'picture' if len(bad) == 1 else 'pictures'} cannot be read and left out: "
        f"{named(bad)}.",
    )


def _kept(rows: Rows, kept: np.ndarray) -> Rows:
    """The rows whose pictures were read; `kept` is in the order of the splits."""
    ends = np.cumsum([len(getattr(rows, name)) for name in NAMES])[:-1]
    return Rows(
        *(getattr(rows, name)[good] for name, good in zip(NAMES, np.split(kept, ends), strict=True))
    )

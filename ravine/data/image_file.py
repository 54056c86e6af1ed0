"""One picture: from a file, whatever its format, mode, size and rotation, to bytes [C, H, W].

Read are JPEG, PNG, WebP, BMP and a GIF's first frame. Letters: C channels (1 or 3), H rows, W
columns.
"""

from __future__ import annotations

import importlib
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ravine.errors import DataError

Fit: TypeAlias = Literal["crop", "stretch", "pad"]

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
GREY = (
    "1",
    "L",
    "LA",
    "La",
    "I",
    "I;16",
    "I;16B",
    "I;16L",
    "I;16N",
)  # Pillow's modes without color
DEEP = GREY[4:]  # more than a byte for each value
TURNED = (5, 6, 7, 8)  # the EXIF orientations that swap rows and columns
LARGEST = 224  # the longest side that is chosen unasked
DONE = (
    "resized",
    "turned upright",
    "put on white",
    "cut to 8 bits",
)  # what may be done to a picture, bit by bit


class Form(NamedTuple):
    """What all pictures are brought to: rows, columns, channels, and how another shape is fitted
    into it.
    """

    height: int
    width: int
    channels: int
    fit: Fit

    @property
    def bytes(self) -> int:
        """Bytes of one picture."""
        return self.height * self.width * self.channels


class Head(NamedTuple):
    """What a file says about its picture before it is decoded, upright."""

    height: int
    width: int
    grey: bool


@dataclass(frozen=True)
class Bad:
    """A file that could not be read, and why."""

    path: str
    why: str


def is_picture(path: str | Path) -> bool:
    """Whether a name has the suffix of a picture.

    >>> is_picture("cats/a.JPG"), is_picture("notes.txt")
    (True, False)
    """
    return Path(path).suffix.lower() in SUFFIXES


def pillow(module: str = "Image") -> Any:
    """A module of Pillow. Raises `DataError` where it is not installed."""
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError:
        raise DataError(
            "pictures cannot be read",
            why="Pillow is not installed",
            do="pip install 'ravine[images]'",
        ) from None


# Reading a file


def head_of(path: str) -> Head | Bad:
    """Size and color of a file's picture from its first bytes; nothing is decoded."""
    image = pillow()
    try:
        with warnings.catch_warnings(), image.open(path) as opened:
            warnings.simplefilter("ignore")
            width, height = opened.size
            if _orientation(opened) in TURNED:
                width, height = height, width
            return Head(height, width, _is_grey(opened))
    except Exception as error:  # damaged files make Pillow's readers raise errors of every kind
        return Bad(path, _reason(error))


def decoded(path: str, form: Form) -> tuple[np.ndarray, int] | Bad:
    """A file's picture as bytes [C, H, W], and which of `DONE` happened to it, as bits.

    It is turned upright as its EXIF orientation says, what is transparent becomes white, 16 bits
    become 8 (v / 257, rounded), palettes their colors, and then it is fitted.
    """
    image = pillow()
    try:
        with warnings.catch_warnings(), image.open(path) as opened:
            warnings.simplefilter("ignore")
            # a large JPEG is decoded at a half, a quarter or an eighth, never below twice the size
            # that is wanted
            side = 2 * max(form.height, form.width)
            whole = opened.size
            opened.draft(None, (side, side))
            opened.load()
            found, done = _upright(opened)
            done |= whole != opened.size
            found, more = _plain(found, form.channels)
            done |= more
            done |= found.size != (form.width, form.height)
            return fitted(found, form), done
    except Exception as error:  # damaged files make Pillow's readers raise errors of every kind
        return Bad(path, _reason(error))


def fitted(picture: Any, form: Form) -> np.ndarray:
    """Pillow's picture, of the right mode, as bytes [C, H, W] of a form.

    "crop" keeps proportions and cuts off what sticks out, the same on both sides; "pad" keeps
    proportions and all of the picture, with black beside it; "stretch" keeps all of it and no
    proportions. Bilinear, smoothed when shrinking.
    """
    size = (form.width, form.height)
    if picture.size != size:
        bilinear, operations = pillow().Resampling.BILINEAR, pillow("ImageOps")
        if form.fit == "crop":
            picture = operations.fit(picture, size, method=bilinear)
        elif form.fit == "pad":
            picture = operations.pad(picture, size, method=bilinear)
        else:
            picture = picture.resize(size, bilinear)
    values = np.asarray(picture, np.uint8)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _upright(picture: Any) -> tuple[Any, int]:
    if _orientation(picture) in range(2, 9):
        return pillow("ImageOps").exif_transpose(picture), 1 << DONE.index("turned upright")
    return picture, 0


def _orientation(picture: Any) -> int:
    if "exif" not in picture.info:  # or Pillow would decode a whole PNG to look for it
        return 1
    return picture.getexif().get(0x0112, 1)


def _is_grey(picture: Any) -> bool:
    if picture.mode != "P":
        return picture.mode in GREY
    colors = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return bool((colors == colors[:, :1]).all())


def _plain(picture: Any, channels: int) -> tuple[Any, int]:
    """The picture in mode L or RGB, and what was done to bring it there."""
    image, done = pillow(), 0
    if picture.mode in DEEP:
        values = np.asarray(picture).astype(np.int64).clip(0, 65535)
        picture, done = (
            image.fromarray(((values + 128) // 257).astype(np.uint8)),
            1 << DONE.index("cut to 8 bits"),
        )
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        opaque = layer.getextrema()[3][0] == 255
        picture = image.alpha_composite(image.new("RGBA", layer.size, "white"), layer)
        done |= 0 if opaque else 1 << DONE.index("put on white")
    mode = "L" if channels == 1 else "RGB"
    return picture if picture.mode == mode else picture.convert(mode), done


def _reason(error: Exception) -> str:
    if isinstance(error, DataError):
        raise error
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is no picture, or damaged"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


# Choosing a form


def size_of(heads: Sequence[Head]) -> tuple[int, int]:
    """Rows and columns for pictures of some sizes, the longer side at most 224.

    Their own size if all have one; else a square whose side is the median of all sides, rounded to
    a multiple of 8.

    >>> size_of([Head(28, 20, True)] * 3)
    (28, 20)
    >>> size_of([Head(30, 40, True), Head(100, 50, True)])
    (48, 48)
    """
    sizes = {(h.height, h.width) for h in heads}
    if len(sizes) == 1:
        ((height, width),) = sizes
        shrink = min(1.0, LARGEST / max(height, width))
        return max(1, round(height * shrink)), max(1, round(width * shrink))
    middle = statistics.median([side for h in heads for side in (h.height, h.width)])
    side = min(LARGEST, max(8, 8 * round(middle / 8)))
    return side, side

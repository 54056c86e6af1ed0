"""One image: from a file, whatever its format, mode, size and rotation, to bytes [C, H, W].

JPEG, PNG, WebP, BMP, a GIF's first frame. Letters: C channels (1 or 3), H rows, W columns.
"""

import importlib
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from ravine.errors import DataError, first_line

Result = TypeVar("Result")
FitMode: TypeAlias = Literal["crop", "stretch", "pad"]
# what is done to images of other proportions
FIT_WORDS: Mapping[FitMode, str] = {
    "crop": 'what sticks out was cut off (data.fit = "crop"; "pad" keeps all)',
    "stretch": 'they were stretched (data.fit = "stretch")',
    "pad": 'they have black beside them (data.fit = "pad")',
}

# what Pillow may take a file for, whatever its name: others, such as EPS, start programs
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
# Pillow's modes without color
GRAY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
DEEP_MODES = GRAY_MODES[4:]  # with more than a byte for each value
ROTATING_ORIENTATIONS = (5, 6, 7, 8)  # the EXIF orientations that swap rows and columns
MAX_DEFAULT_SIDE = 224  # the longest side that is chosen by default
# what may be done to an image
IMAGE_CHANGES = ("resized", "turned upright", "put on white", "cut to 8 bits")


class ImageSpec(NamedTuple):
    """The size that all images are brought to, and how another shape is fitted into it."""

    height: int
    width: int
    channels: int
    fit: FitMode

    @property
    def bytes(self) -> int:
        """Bytes of one image."""
        return self.height * self.width * self.channels


class ImageHeader(NamedTuple):
    """What a file's header says about its image: the size when upright, and whether it is gray."""

    height: int
    width: int
    gray: bool


@dataclass(frozen=True)
class UnreadableImage:
    """A file that could not be read, and why."""

    path: str
    why: str


def is_image(path: str | Path) -> bool:
    """Whether a name has the suffix of an image.

    >>> is_image("cats/a.JPG"), is_image("notes.txt")
    (True, False)
    """
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def pillow_module(module: str = "Image") -> Any:
    """A module of Pillow. Raises `DataError` where it is not installed."""
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError:
        do = "install it: pip install 'ravine[images]'"
        raise DataError("images cannot be read", why="Pillow is not installed", do=do) from None


def read_header(path: str) -> ImageHeader | UnreadableImage:
    """Size and color of a file's image from its first bytes; nothing is decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _read_opened(path, _header_of)


def decode_image(path: str, spec: ImageSpec) -> tuple[np.ndarray, set[str]] | UnreadableImage:
    """A file's image as bytes [C, H, W], and which of `IMAGE_CHANGES` were made.

    It is turned upright as its EXIF orientation says, what is transparent becomes white, 16 bits
    become 8 (v / 257, rounded), palettes their colors, and then it is fitted.
    """
    return _read_opened(path, partial(_decode, spec=spec))


def _read_opened(path: str, read: Callable[[Any], Result]) -> Result | UnreadableImage:
    """What `read` makes of a file's image as Pillow opened it."""
    try:
        with pillow_module().open(path, formats=IMAGE_FORMATS) as opened:
            return read(opened)
    except DataError:
        raise
    except Exception as error:  # damaged files make Pillow's readers raise errors of every kind
        unknown = type(error).__name__ == "UnidentifiedImageError"
        why = "it is not an image, or damaged" if unknown else first_line(error)
        return UnreadableImage(path, why)


def _header_of(opened: Any) -> ImageHeader:
    width, height = opened.size
    if _orientation(opened) in ROTATING_ORIENTATIONS:
        width, height = height, width
    return ImageHeader(height, width, _is_gray(opened))


def _decode(opened: Any, spec: ImageSpec) -> tuple[np.ndarray, set[str]]:
    # a large JPEG is decoded at a half, a quarter or an eighth, never below twice the wanted size
    side = 2 * max(spec.height, spec.width)
    whole = opened.size
    opened.draft(None, (side, side))
    opened.load()
    turned = _orientation(opened) in range(2, 9)
    upright = pillow_module("ImageOps").exif_transpose(opened) if turned else opened
    found, changes = _to_plain_mode(upright, spec.channels)
    resized = whole != opened.size or found.size != (spec.width, spec.height)
    changes |= {"turned upright"} if turned else set()
    return fit_image(found, spec), changes | ({"resized"} if resized else set())


def fit_image(image: Any, spec: ImageSpec) -> np.ndarray:
    """Pillow's image, of the right mode, as bytes [C, H, W] of a size.

    "crop" keeps proportions and cuts off what sticks out, the same on both sides; "pad" keeps
    proportions and all of the image, with black beside it; "stretch" keeps all of it and no
    proportions. Bilinear, smoothed when shrinking.
    """
    size = (spec.width, spec.height)
    if image.size != size:
        bilinear = pillow_module().Resampling.BILINEAR
        operations = pillow_module("ImageOps")
        if spec.fit == "crop":
            image = operations.fit(image, size, method=bilinear)
        elif spec.fit == "pad":
            image = operations.pad(image, size, method=bilinear)
        else:
            image = image.resize(size, bilinear)
    values = np.asarray(image, np.uint8)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def _orientation(image: Any) -> int:
    if "exif" not in image.info:  # or Pillow would decode a whole PNG to look for it
        return 1
    return image.getexif().get(0x0112, 1)


def _is_gray(image: Any) -> bool:
    if image.mode != "P":
        return image.mode in GRAY_MODES
    colors = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    return bool((colors == colors[:, :1]).all())


def _to_plain_mode(image: Any, channels: int) -> tuple[Any, set[str]]:
    """The image in mode L or RGB, and what was done to bring it there."""
    pil = pillow_module()
    changes = set()
    if image.mode in DEEP_MODES:
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = pil.fromarray(((values + 128) // 257).astype(np.uint8))
        changes.add("cut to 8 bits")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        if layer.getextrema()[3][0] < 255:
            changes.add("put on white")
        image = pil.alpha_composite(pil.new("RGBA", layer.size, "white"), layer)
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode), changes


def default_size(headers: Sequence[ImageHeader]) -> tuple[int, int]:
    """Rows and columns for images of some sizes, the longer side at most 224.

    Their own size if all have one; else a square of the median of all sides, a multiple of 8.

    >>> default_size([ImageHeader(28, 20, True)] * 3)
    (28, 20)
    >>> default_size([ImageHeader(30, 40, True), ImageHeader(100, 50, True)])
    (48, 48)
    """
    sizes = {(h.height, h.width) for h in headers}
    if len(sizes) == 1:
        ((height, width),) = sizes
        shrink = min(1.0, MAX_DEFAULT_SIDE / max(height, width))
        return max(1, round(height * shrink)), max(1, round(width * shrink))
    middle = statistics.median([side for h in headers for side in (h.height, h.width)])
    side = min(MAX_DEFAULT_SIDE, max(8, 8 * round(middle / 8)))
    return side, side

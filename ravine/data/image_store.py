"""Many images as bytes: decoded in threads, kept in memory or, if too many, in a mapped file.

Letters: N images, C channels, H rows, W columns.
"""

import hashlib
import os
import shutil
import tempfile
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import image_file
from ravine.errors import DataError
from ravine.ranks import Ranks, run_in_turns

IMAGES_PER_CHUNK = 64  # decoded images that wait for their place at most
BYTES_PER_BLOCK = 2**22  # bytes processed at once
MAX_NAMED_FILES = 5  # in a message
MAX_UNREADABLE = 100  # files, after which reading ends where they are not skipped


class PixelFile:
    """A temporary file of images' bytes, deleted with this object or its process (unless killed).

    Pickled, it is only the file's name: worker processes map the same file and do not delete it.
    """

    def __init__(self, count: int):
        folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
        if free < count:
            what = f"the decoded images take {_format_size(count)}"
            do = "free disk space, set TMPDIR to a larger disk, or set a smaller data.size"
            raise DataError(what, why=f"{folder} has {_format_size(free)} free", do=do)
        handle, name = tempfile.mkstemp(prefix="ravine-", suffix=".pixels", dir=folder)
        self.path = Path(name)
        self.writer = open(handle, "wb")
        weakref.finalize(self, self.path.unlink, missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


@dataclass(frozen=True)
class MappedImages:
    """Images first, first + 1, ... of a file, of shape [N, C, H, W]."""

    file: PixelFile
    first: int
    shape: tuple[int, ...]

    def tensor(self) -> Tensor:
        """The images; the operating system reads what is accessed, and drops it for memory."""
        each = int(np.prod(self.shape[1:]))
        end = (self.first + self.shape[0]) * each
        mapped = torch.from_file(str(self.file.path), shared=False, size=end, dtype=torch.uint8)
        return mapped[self.first * each :].view(self.shape)


class PixelBuffer:
    """Where decoded images go: to memory, or to a file if all take more than `memory` bytes."""

    def __init__(self, count: int, spec: image_file.ImageSpec, memory: int):
        self.shape = (spec.channels, spec.height, spec.width)
        size = count * spec.bytes
        self.count = 0
        self.file = PixelFile(size) if size > memory else None
        self.array = np.empty((0 if self.file else count, *self.shape), np.uint8)

    def add(self, block: np.ndarray) -> None:
        """Add images [N, C, H, W]."""
        if self.file is None:
            self.array[self.count : self.count + len(block)] = block
        else:
            self.file.writer.write(np.ascontiguousarray(block).data)
        self.count += len(block)

    def split(self, sizes: Sequence[int]) -> list[tuple[Tensor, MappedImages | None]]:
        """The images that were added, cut into parts of such sizes."""
        spans = list(zip(np.cumsum([0, *sizes]).tolist(), sizes, strict=False))
        if self.file is None:
            whole = torch.from_numpy(self.array)
            return [(whole[at : at + size], None) for at, size in spans]
        self.file.writer.close()
        parts = [MappedImages(self.file, at, (size, *self.shape)) for at, size in spans]
        return [(part.tensor(), part) for part in parts]


@dataclass(frozen=True)
class ReadResult:
    """The outcome of reading many images: which were kept [N], changes, which could not be read."""

    kept: np.ndarray
    effects: dict[str, float]
    unreadable: tuple[image_file.UnreadableImage, ...] = ()


def read_files(
    paths: Sequence[str],
    spec: image_file.ImageSpec,
    pixels: PixelBuffer,
    *,
    skip: bool,
    ranks: Ranks | None = None,
) -> ReadResult:
    """Decode files into `pixels` in order; unless `skip`, end at a hundred unreadable ones.

    Of R ranks each decodes every R-th file and gets the others' pixels from them.
    """
    kept, bad = [], []
    counts = Counter()
    for found in _decode_files(paths, spec, ranks):
        kept.append(not isinstance(found, image_file.UnreadableImage))
        if isinstance(found, image_file.UnreadableImage):
            bad.append(found)
            if len(bad) >= MAX_UNREADABLE and not skip:
                break
        else:
            image, changes = found
            pixels.add(image[None])
            counts.update(changes)
    made = [change for change in image_file.IMAGE_CHANGES if counts[change]]
    effects = {f"images {change}": float(counts[change]) for change in made}
    return ReadResult(np.array(kept, bool), effects, tuple(bad))


def _decode_files(
    paths: Sequence[str], spec: image_file.ImageSpec, ranks: Ranks | None
) -> Iterator[tuple[np.ndarray, set[str]] | image_file.UnreadableImage]:
    """`decode_image` of each path, in their order, in a thread for each core.

    Pillow holds no lock of Python's while it decodes. What it warns of is ignored for all threads
    at once: each would restore the filters that it found.
    """
    work = partial(image_file.decode_image, spec=spec)
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        size = IMAGES_PER_CHUNK * (1 if ranks is None else ranks.count)
        for at in range(0, len(paths), size):
            chunk = paths[at : at + size]
            yield from run_in_turns(partial(pool.map, work), chunk, ranks)


def array_to_bytes(given: Any) -> np.ndarray:
    """Images as uint8 [N, C, H, W] from [N, H, W], [N, H, W, C] or [N, C, H, W]; floats up to 1.

    Where both the second and the last dimension could be channels, the last is. Four channels are
    color and opacity, put on white. Raises `DataError` for other shapes and values.

    >>> array_to_bytes(np.ones((2, 5, 4))).shape
    (2, 1, 5, 4)
    """
    x = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    shape = " x ".join(map(str, x.shape))
    last = x.ndim == 4 and x.shape[-1] in (1, 3, 4)
    first = x.ndim == 4 and x.shape[1] in (1, 3, 4)
    if not (x.ndim == 3 or last or first):
        what = f"X has the shape {shape or 'of one number'}"
        why = "images are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels"
        raise DataError(what, why=why, do="reshape the array")
    if min(x.shape) < 1:
        what = f"X has the shape {shape}"
        raise DataError(what, why="there is nothing in it", do="give at least one image")
    x = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1) if last else x
    x = _as_bytes(x)
    if x.shape[1] == 4:
        alpha = x[:, 3:].astype(np.float32) / 255
        x = np.rint(x[:, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return x


def read_array(
    x: np.ndarray, order: np.ndarray, spec: image_file.ImageSpec, pixels: PixelBuffer
) -> ReadResult:
    """Bring images uint8 [N, C, H, W] to a size, and put them into `pixels` in an order."""
    step = max(1, BYTES_PER_BLOCK // max(1, int(np.prod(x.shape[1:]))))
    for at in range(0, len(order), step):
        pixels.add(_to_spec(x[order[at : at + step]], spec))
    same = x.shape[2:] == (spec.height, spec.width)
    effects = {} if same else {"images resized": float(len(order))}
    return ReadResult(np.ones(len(order), bool), effects)


def _as_bytes(x: np.ndarray) -> np.ndarray:
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype.kind not in "iuf":
        what = f"X holds {x.dtype}"
        raise DataError(what, why="images are numbers", do="give uint8, or floats from 0 to 1")
    low, high = float(x.min()), float(x.max())
    top = 1 if x.dtype.kind == "f" else 255
    if not (low >= 0 and high <= top):
        what = f"X has values from {low:g} to {high:g}"
        do = "divide by 255, or give uint8" if top == 1 else "give uint8"
        raise DataError(what, why=f"{x.dtype} images are 0 to {top}", do=do)
    return np.rint(x * 255).astype(np.uint8) if top == 1 else x.astype(np.uint8)


def _to_spec(x: np.ndarray, spec: image_file.ImageSpec) -> np.ndarray:
    if x.shape[1] == 3 and spec.channels == 1:
        # the weights of ITU-R 601-2, in 16 bits, as Pillow has them
        r, g, b = x.astype(np.uint32).transpose(1, 0, 2, 3)
        x = ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)[:, None]
    elif x.shape[1] == 1 and spec.channels == 3:
        x = np.broadcast_to(x, (len(x), 3, *x.shape[2:]))
    if x.shape[2:] == (spec.height, spec.width):
        return x
    pil = image_file.pillow_module()
    channels_last = x[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return np.stack([image_file.fit_image(pil.fromarray(one), spec) for one in channels_last])


def channel_moments(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 [N, C, H, W], as values from 0 to 1.

    From counts of the 256 values: exact but for the last division, whatever is read at once.

    >>> channel_moments(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    counts = np.zeros((pixels.shape[1], 256), np.int64)
    for block in _blocks(pixels):
        for c in range(pixels.shape[1]):
            counts[c] += np.bincount(block[:, c].ravel(), minlength=256)
    values, total = np.arange(256) / 255, counts.sum(1)
    mean = counts @ values / total
    sd = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / total)
    return tuple(mean.tolist()), tuple(sd.tolist())


def pixel_digest(parts: Sequence[Tensor]) -> str:
    """A hash of images, read a block at a time."""
    hashed = hashlib.blake2b(digest_size=16)
    for pixels in parts:
        hashed.update(str(tuple(pixels.shape)).encode())
        for block in _blocks(pixels):
            hashed.update(np.ascontiguousarray(block).data)
    return hashed.hexdigest()


def _blocks(pixels: Tensor) -> Iterator[np.ndarray]:
    step = max(1, BYTES_PER_BLOCK // max(1, int(np.prod(pixels.shape[1:]))))
    for at in range(0, pixels.shape[0], step):
        yield pixels[at : at + step].numpy()


def name_files(files: Sequence[image_file.UnreadableImage]) -> str:
    """The first few files and what is wrong with each."""
    shown = "; ".join(f"{f.path} ({f.why})" for f in files[:MAX_NAMED_FILES])
    more = len(files) - MAX_NAMED_FILES
    return f"{shown}; and {more} more" if more > 0 else shown


def _format_size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"

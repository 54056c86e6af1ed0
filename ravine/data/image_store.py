"""Many pictures as bytes: decoded in worker processes, kept in memory or, where they are too many,
in a mapped file.

Letters: N pictures, C channels, H rows, W columns.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import joblib
import numpy as np
import torch
from torch import Tensor

from ravine.data.image_file import DONE, Bad, Form, Head, decoded, fitted, head_of, pillow
from ravine.errors import DataError

CHUNK = 64  # pictures handed to a worker at once
BLOCK = 2**22  # bytes looked at together
SECONDS_WORTH_WORKERS = 5.0  # starting them and importing torch in each takes about three
SHOWN = 5  # names in a message
ENOUGH = 100  # so many bad files end a run that is to stop
T = TypeVar("T")


class PixelFile:
    """A temporary file of pictures' bytes; it goes when this object goes, or when its process ends
    (not if killed).

    Pickled, it is but the file's name: worker processes map the same file, and leave it.
    """

    def __init__(self, count: int):
        folder = Path(tempfile.gettempdir())
        free = shutil.disk_usage(folder).free
        if free < count:
            raise DataError(
                f"the decoded pictures take {_sized(count)}",
                why=f"{folder} has {_sized(free)} free",
                do="make room, set TMPDIR to a larger disk, or set a smaller data.size",
            )
        handle, name = tempfile.mkstemp(prefix="ravine-", suffix=".pixels", dir=folder)
        self.path, self.writer = Path(name), open(handle, "wb")
        weakref.finalize(self, self.path.unlink, missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}


@dataclass(frozen=True)
class Mapped:
    """Pictures first, first + 1, ... of a file, of shape [N, C, H, W]."""

    file: PixelFile
    first: int
    shape: tuple[int, ...]

    def tensor(self) -> Tensor:
        """The pictures; the operating system reads what is looked at, and drops it when memory is
        needed.
        """
        each = int(np.prod(self.shape[1:]))
        end = (self.first + self.shape[0]) * each
        mapped = torch.from_file(str(self.file.path), shared=False, size=end, dtype=torch.uint8)
        return mapped[self.first * each :].view(self.shape)


class Pixels:
    """Where decoded pictures go, block after block: to memory, or to a file if all take more than
    `memory` bytes.
    """

    def __init__(self, count: int, form: Form, memory: int):
        self.shape = (form.channels, form.height, form.width)
        self.count, size = 0, count * form.bytes
        self.file = PixelFile(size) if size > memory else None
        self.held = np.empty((0 if self.file else count, *self.shape), np.uint8)

    def add(self, block: np.ndarray) -> None:
        """Take [N, C, H, W] more."""
        if self.file is None:
            self.held[self.count : self.count + len(block)] = block
        else:
            self.file.writer.write(np.ascontiguousarray(block).data)
        self.count += len(block)

    def cut(self, sizes: Sequence[int]) -> list[tuple[Tensor, Mapped | None]]:
        """What was taken, cut into stretches of such sizes."""
        firsts = np.cumsum([0, *sizes]).tolist()
        if self.file is None:
            whole = torch.from_numpy(self.held)
            return [(whole[at : at + size], None) for at, size in zip(firsts, sizes, strict=False)]
        self.file.writer.close()
        stretches = [
            Mapped(self.file, at, (size, *self.shape))
            for at, size in zip(firsts, sizes, strict=False)
        ]
        return [
            (s.tensor() if s.shape[0] else torch.empty(s.shape, dtype=torch.uint8), s)
            for s in stretches
        ]


# From files


@dataclass(frozen=True)
class Took:
    """What reading many pictures came to: which were kept [N], what was done to how many, which
    were bad.
    """

    kept: np.ndarray
    effects: dict[str, float]
    bad: tuple[Bad, ...] = ()


def heads(paths: Sequence[str]) -> list[Head | Bad]:
    """What each file says about its picture."""
    return [head for chunk in in_workers(_heads, paths) for head in chunk]


def take_files(paths: Sequence[str], form: Form, pixels: Pixels, *, patient: bool) -> Took:
    """Decode files into `pixels` in their order, bad ones left out; if not `patient`, end at a
    hundred bad ones.
    """
    kept, counts, bad = [], np.zeros(len(DONE), np.int64), []
    for block, good, done, wrong in in_workers(partial(_decoded, form=form), paths):
        pixels.add(block)
        kept += good
        counts += done
        bad += wrong
        if len(bad) >= ENOUGH and not patient:
            break
    effects = {f"pictures {what}": float(n) for what, n in zip(DONE, counts, strict=True) if n}
    return Took(np.array(kept, bool), effects, tuple(bad))


def _heads(paths: Sequence[str]) -> list[Head | Bad]:
    return [head_of(path) for path in paths]


def _decoded(
    paths: Sequence[str], form: Form
) -> tuple[np.ndarray, list[bool], np.ndarray, list[Bad]]:
    found = [decoded(path, form) for path in paths]
    good = [not isinstance(f, Bad) for f in found]
    pictures = [f[0] for f in found if not isinstance(f, Bad)]
    block = (
        np.stack(pictures)
        if pictures
        else np.empty((0, form.channels, form.height, form.width), np.uint8)
    )
    bits = np.array([f[1] for f in found if not isinstance(f, Bad)], np.int64)
    done = (bits[:, None] >> np.arange(len(DONE)) & 1).sum(0)
    return block, good, done, [f for f in found if isinstance(f, Bad)]


def in_workers(work: Callable[[Sequence[str]], T], paths: Sequence[str]) -> Iterator[T]:
    """Work on chunks of paths, results in their order; in a process for each core where that pays.

    The first chunk is timed: where the others would take less than 5 s, no process is started.
    """
    chunks = [paths[at : at + CHUNK] for at in range(0, len(paths), CHUNK)]
    began = time.perf_counter()
    if chunks:
        yield work(chunks[0])
    seconds = (time.perf_counter() - began) * (len(chunks) - 1)
    workers = joblib.cpu_count()
    if workers < 2 or seconds < SECONDS_WORTH_WORKERS:
        yield from map(work, chunks[1:])
        return
    parallel = joblib.Parallel(n_jobs=workers, return_as="generator")
    yield from parallel(joblib.delayed(work)(chunk) for chunk in chunks[1:])  # type: ignore[misc]


# From arrays


def bytes_of_array(given: Any, name: str = "X") -> np.ndarray:
    """Pictures as uint8 [N, C, H, W] from [N, H, W], [N, H, W, C] or [N, C, H, W]; floats are 0 to
    1.

    Where both the second and the last side could be channels, the last is. Four channels are color
    and opacity, put on white. Raises `DataError` for other shapes and values.

    >>> bytes_of_array(np.ones((2, 5, 4))).shape
    (2, 1, 5, 4)
    """
    x = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    shape = " x ".join(map(str, x.shape))
    last = x.ndim == 4 and x.shape[-1] in (1, 3, 4)
    first = x.ndim == 4 and x.shape[1] in (1, 3, 4)
    if not (x.ndim == 3 or last or first):
        raise DataError(
            f"{name} has the shape {shape or 'of one number'}",
            why="pictures are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1, 3 or 4 channels",
            do="reshape the array",
        )
    if min(x.shape) < 1:
        raise DataError(
            f"{name} has the shape {shape}",
            why="there is nothing in it",
            do="give at least one picture",
        )
    x = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1) if last else x
    x = _as_bytes(x, name)
    if x.shape[1] == 4:
        color, alpha = x[:, :3].astype(np.float32), x[:, 3:].astype(np.float32) / 255
        x = np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return x


def take_array(x: np.ndarray, order: np.ndarray, form: Form, pixels: Pixels) -> Took:
    """Bring pictures uint8 [N, C, H, W] to a form, and put them into `pixels` in an order."""
    step = max(1, BLOCK // max(1, int(np.prod(x.shape[1:]))))
    for at in range(0, len(order), step):
        pixels.add(_formed(x[order[at : at + step]], form))
    resized = x.shape[2:] != (form.height, form.width)
    return Took(
        np.ones(len(order), bool), {"pictures resized": float(len(order))} if resized else {}
    )


def _as_bytes(x: np.ndarray, name: str) -> np.ndarray:
    if x.dtype == np.uint8:
        return x
    if x.dtype == bool:
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype.kind not in "iuf":
        raise DataError(
            f"{name} holds {x.dtype}",
            why="pictures are numbers",
            do="give uint8, or floats from 0 to 1",
        )
    low, high = float(x.min()), float(x.max())
    top = 1 if x.dtype.kind == "f" else 255
    if not (low >= 0 and high <= top):
        raise DataError(
            f"{name} has values from {low:g} to {high:g}",
            why=f"{x.dtype} pictures are 0 to {top}",
            do="divide by 255, or give uint8" if top == 1 else "give uint8",
        )
    return np.rint(x * 255).astype(np.uint8) if top == 1 else x.astype(np.uint8)


def _formed(x: np.ndarray, form: Form) -> np.ndarray:
    if (
        x.shape[1] == 3 and form.channels == 1
    ):  # the weights of ITU-R 601-2, in 16 bits, as Pillow has them
        r, g, b = x.astype(np.uint32).transpose(1, 0, 2, 3)
        x = ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)[:, None]
    elif x.shape[1] == 1 and form.channels == 3:
        x = np.broadcast_to(x, (len(x), 3, *x.shape[2:]))
    if x.shape[2:] == (form.height, form.width):
        return x
    image = pillow()
    return np.stack(
        [
            fitted(
                image.fromarray(
                    p[0] if len(p) == 1 else np.ascontiguousarray(p.transpose(1, 2, 0))
                ),
                form,
            )
            for p in x
        ]
    )


# What was read


def moments_of(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 [N, C, H, W], as values from 0 to 1.

    From counts of the 256 values: exact but for the last division, and the same however many
    pictures are read at once.

    >>> moments_of(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1))
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


def digest_of(parts: Sequence[Tensor]) -> str:
    """A hash of pictures, read a block at a time."""
    hashed = hashlib.blake2b(digest_size=16)
    for pixels in parts:
        hashed.update(str(tuple(pixels.shape)).encode())
        for block in _blocks(pixels):
            hashed.update(np.ascontiguousarray(block).data)
    return hashed.hexdigest()


def _blocks(pixels: Tensor) -> Iterator[np.ndarray]:
    step = max(1, BLOCK // max(1, int(np.prod(pixels.shape[1:]))))
    for at in range(0, pixels.shape[0], step):
        yield pixels[at : at + step].numpy()


def named(bad: Sequence[Bad]) -> str:
    """The first few bad files and what is wrong with each."""
    shown = "; ".join(f"{b.path} ({b.why})" for b in bad[:SHOWN])
    return shown + (f"; and {len(bad) - SHOWN} more" if len(bad) > SHOWN else "")


def _sized(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"

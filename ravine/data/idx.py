"""Images and labels in idx files, as MNIST and Fashion-MNIST have them (Y. LeCun's format).

Two zero bytes, the type of the values (8: bytes), the number of dimensions; each as a big-endian
int32; the values. Files ending in .gz are unpacked in memory, others are mapped. N images, H × W.
"""

import gzip
import math
import re
import struct
from pathlib import Path

import numpy as np

from ravine.data.tables import missing_file
from ravine.data.text_files import require_memory
from ravine.errors import DataError, wrap_errors
from ravine.files import check_readable

IDX_NAME = re.compile(
    r"(?P<stem>.+)-images[-.]idx3-ubyte(\.gz)?|(?P<other>.+)\.idx(3(-ubyte)?)?(\.gz)?",
    re.IGNORECASE,
)


def is_idx(path: Path) -> bool:
    """Whether a file's name is that of idx images, such as train-images-idx3-ubyte.gz."""
    return IDX_NAME.fullmatch(path.name) is not None and "labels" not in path.name.lower()


def idx_images(folder: Path, stem: str) -> Path | None:
    """The file of images in a folder that begins with a stem such as "train", None without one."""
    found = [p for p in folder.iterdir() if p.name.lower().startswith(f"{stem}-images")]
    return min(filter(is_idx, found), default=None)


def labels_file(images: Path) -> Path:
    """The labels of a file of images: train-images-idx3-ubyte -> train-labels-idx1-ubyte(.gz)."""
    name = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for found in (images.with_name(name), images.with_name(f"{name}.gz")):
        if found.exists() and found != images:
            return found
    raise missing_file(images.with_name(name))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes in an idx file of so many dimensions. Raises `DataError` for any other file."""

    do = "copy or download it again"

    def damage_error(what: str, why: str) -> DataError:
        return DataError(f"{path} {what}", why=why, do=do)

    head = 4 + 4 * dimensions
    check_readable(path)
    with wrap_errors(DataError, f"{path} cannot be read", do, why="it is damaged ({})".format):
        packed = path.suffix.lower() == ".gz"
        data = _unpack(path, head) if packed else np.memmap(path, np.uint8, "r")
    if len(data) < 4 or bytes(data[:3]) != b"\x00\x00\x08":
        begins = bytes(data[:4]).hex(" ") or "nothing"
        raise damage_error("is no idx file of bytes", f"it begins with {begins}")
    if data[3] != dimensions:
        wanted = "images [N, H, W]" if dimensions == 3 else "labels [N]"
        what = f"{path} has {data[3]} dimensions"
        raise DataError(what, why=f"{wanted} have {dimensions}", do="name another file")
    if len(data) < head:
        raise damage_error(f"ends after {len(data)} bytes", f"its head takes {head}")
    shape = struct.unpack(f">{dimensions}i", bytes(data[4:head]))
    if min(shape) < 1 or len(data) - head != math.prod(shape):
        says = " x ".join(map(str, shape))
        raise damage_error(f"holds {len(data) - head} values", f"its head says {says}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def _unpack(path: Path, head: int) -> bytes:
    """What a packed file holds, but no more than a byte beyond what its head says."""
    with gzip.open(path) as file:
        start = file.read(head)
        shape = struct.unpack(f">{len(start) // 4 - 1}i", start[4:]) if len(start) == head else ()
        size = max(0, math.prod(shape))
        require_memory(size, path, "unpack it, so that it is read in pieces")
        return start + file.read(size + 1)


def read_pair(images: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W] and their labels [N]. Raises `DataError` if they are not equally many."""
    labels = labels_file(images)
    pixels = read_idx(images, 3)
    classes = read_idx(labels, 1)
    if len(pixels) != len(classes):
        what = f"{images.name} has {len(pixels)} images and {labels.name} {len(classes)} labels"
        why = "each image needs its label"
        raise DataError(what, why=why, do="use two files of the same split")
    return pixels, classes

"""What is trained in the comparison: four networks, their data, their starting weights, and the two
optimizers.

All peers get the same arrays. Training sets are whole multiples of the batch, so that every step of
every peer has the same size. Letters: N examples, F features.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray
Weights: TypeAlias = list[tuple[Array, Array]]  # for each layer W [in, out] and b [out], float32
Watch: TypeAlias = Callable[
    [Callable[[], list[Weights]]], None
]  # shown the weights of all networks
Go: TypeAlias = Callable[[], object]

FASHION = Path(
    "/usr/share/datasets/fashion-mnist"
)  # where Debian's package dataset-fashion-mnist puts it
RATES = {"sgd": 0.05, "adam": 0.001}
MOMENTUM = 0.9


class Data(NamedTuple):
    """Examples float32 [N, F], classes int64 [N], and where they are from."""

    inputs: Array
    classes: Array
    validation_inputs: Array
    validation_classes: Array
    source: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its batch, and how many epochs a measurement takes (`quick` with --quick)."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    examples: int
    epochs: int
    quick: int

    @property
    def per_epoch(self) -> int:
        return self.examples // self.batch

    def data(self) -> Data:
        return _data(self.name, self.examples)


CASES = {
    case.name: case
    for case in (
        Case(name="2-16-16-2", sizes=(2, 16, 16, 2), batch=32, examples=1024, epochs=24, quick=8),
        Case(name="20-64-64-2", sizes=(20, 64, 64, 2), batch=32, examples=2048, epochs=10, quick=4),
        Case(name="64-100-10", sizes=(64, 100, 10), batch=64, examples=1408, epochs=24, quick=8),
        Case(
            name="784-256-256-10",
            sizes=(784, 256, 256, 10),
            batch=128,
            examples=8192,
            epochs=2,
            quick=1,
        ),
    )
}


def starts(case: Case, networks: int, *, first: int = 0) -> list[Weights]:
    """Starting weights of networks `first`, `first` + 1, ...: W ~ N(0, 2 / inputs) (He et al.
    2015), b = 0.
    """
    return [
        _start(case.sizes, np.random.default_rng([7, network]))
        for network in range(first, first + networks)
    ]


def validation_loss(weights: Weights, data: Data) -> float:
    """Mean cross-entropy on the validation split, in float64: the same judge for all peers."""
    x = data.validation_inputs.astype(np.float64)
    for w, b in weights[:-1]:
        x = np.maximum(x @ w.astype(np.float64) + b, 0)
    w, b = weights[-1]
    logits = x @ w.astype(np.float64) + b
    logits -= logits.max(1, keepdims=True)
    chosen = logits[np.arange(len(logits)), data.validation_classes]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - chosen))


def _start(sizes: tuple[int, ...], rng: np.random.Generator) -> Weights:
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return [
        ((rng.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32), np.zeros(o, np.float32))
        for i, o in pairs
    ]


@lru_cache
def _data(name: str, examples: int) -> Data:
    rng = np.random.default_rng(11)
    if name == "2-16-16-2":
        return _split(*_arcs(2 * examples, rng), examples, "generated: two arcs with noise")
    if name == "20-64-64-2":
        return _split(
            *_blobs(2 * examples, 20, 2, rng), examples, "generated: overlapping Gaussian blobs"
        )
    if name == "64-100-10":
        from sklearn.datasets import load_digits  # only this case needs scikit-learn

        inputs, classes = map(np.asarray, load_digits(return_X_y=True))
        order = rng.permutation(len(inputs))
        return _split(inputs[order] / 16, classes[order], examples, "digits of scikit-learn")
    if FASHION.exists():
        inputs, classes = (
            _idx("train-images-idx3-ubyte.gz", 16),
            _idx("train-labels-idx1-ubyte.gz", 8),
        )
        inputs = inputs.reshape(len(classes), -1) / 255
        return _split(
            inputs[: examples + 2048], classes[: examples + 2048], examples, "Fashion-MNIST"
        )
    inputs, classes = _blobs(examples + 2048, 784, 10, rng)
    return _split(
        inputs,
        classes,
        examples,
        "generated in the size of Fashion-MNIST, which is not installed here",
    )


def _split(inputs: Array, classes: Array, examples: int, source: str) -> Data:
    inputs, classes = (
        np.ascontiguousarray(inputs, np.float32),
        np.ascontiguousarray(classes, np.int64),
    )
    return Data(
        inputs[:examples], classes[:examples], inputs[examples:], classes[examples:], source
    )


def _arcs(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    classes = rng.integers(0, 2, count)
    angle = np.pi * rng.random(count)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    return np.where(classes[:, None] == 0, upper, lower) + 0.2 * rng.standard_normal(
        (count, 2)
    ), classes


def _blobs(count: int, features: int, kinds: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Two Gaussian blobs for each class, so that no linear model separates them."""
    centers = rng.standard_normal((2 * kinds, features)) * (3 / np.sqrt(features))
    blob = rng.integers(0, 2 * kinds, count)
    return centers[blob] + rng.standard_normal((count, features)), blob % kinds


def _idx(file: str, header: int) -> Array:
    return np.frombuffer(gzip.decompress((FASHION / file).read_bytes()), np.uint8, offset=header)

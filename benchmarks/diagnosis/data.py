"""The examples of the scripts: small sets that come with scikit-learn, and made ones with a known
answer.

Always the same examples; every call returns new tensors, for scripts that spoil theirs. Three
parts: 60 % to train on, 20 % to validate, 20 % for the scorer.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor


class Split(NamedTuple):
    """Inputs and targets to train on, to validate, and for the scorer."""

    x: Tensor
    y: Tensor
    vx: Tensor
    vy: Tensor
    tx: Tensor
    ty: Tensor

    def inputs(self, change: Any) -> Split:
        return self._replace(x=change(self.x), vx=change(self.vx), tx=change(self.tx))

    def targets(self, change: Any) -> Split:
        return self._replace(y=change(self.y), vy=change(self.vy), ty=change(self.ty))

    def standardized(self) -> Split:
        mean, std = self.x.mean(0), self.x.std(0) + 1e-8
        return self.inputs(lambda x: (x - mean) / std)

    def targets_standardized(self) -> Split:
        mean, std = self.y.mean(0), self.y.std(0)
        return self.targets(lambda y: (y - mean) / std)


def split(x: Any, y: Any, *, seed: int = 7) -> Split:
    x, y = np.asarray(x), np.asarray(y)
    order = np.random.default_rng(seed).permutation(len(x))
    a, b = int(0.6 * len(x)), int(0.8 * len(x))
    parts = []
    for rows in (order[:a], order[a:b], order[b:]):
        for values in (x[rows], y[rows]):
            parts.append(
                torch.from_numpy(
                    values.astype(np.int64 if values.dtype.kind in "iu" else np.float32)
                )
            )
    return Split(*parts)


def cancer() -> Split:
    """569 tumors, 30 measurements from 0.001 to 4000, two classes (float targets)."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return split(x, y.astype(float))


def wine() -> Split:
    """178 wines, 13 measurements from 0.1 to 1700, three classes."""
    return split(*datasets.load_wine(return_X_y=True))


def iris() -> Split:
    """150 flowers, 4 measurements of 0.1 to 8 cm, three classes."""
    return split(*datasets.load_iris(return_X_y=True))


def diabetes() -> Split:
    """442 patients, 10 columns of length 1, a target of 25 to 346; the best R2 is about 0.5."""
    x, y = datasets.load_diabetes(return_X_y=True)
    return split(x, y)


def digits() -> Split:
    """1797 digits, 8 x 8, from 0 to 16."""
    x, y = datasets.load_digits(return_X_y=True)
    return split(np.asarray(x).reshape(-1, 1, 8, 8), y)


def friedman(rows: int = 700, noise: float = 0.5) -> Split:
    """10 columns of which 5 count: 10 sin(pi x0 x1) + 20 (x2 - .5)^2 + 10 x3 + 5 x4."""
    return split(*datasets.make_friedman1(rows, noise=noise, random_state=3))


def moons(rows: int = 500, noise: float = 0.15) -> Split:
    return split(*datasets.make_moons(rows, noise=noise, random_state=1))


def rings(rows: int = 600) -> Split:
    """Three rings, one inside the other: no line helps."""
    rng = np.random.default_rng(5)
    y = rng.integers(0, 3, rows)
    angle, radius = rng.uniform(0, 2 * np.pi, rows), 0.6 * y + 0.5 + rng.normal(0, 0.08, rows)
    return split(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), y)


def spirals(rows: int = 600) -> Split:
    rng = np.random.default_rng(2)
    y = rng.integers(0, 2, rows)
    t = rng.uniform(0.2, 1.0, rows)
    angle = 3.0 * np.pi * t + np.pi * y
    return split(
        np.stack([t * np.cos(angle), t * np.sin(angle)], 1) * 2 + rng.normal(0, 0.04, (rows, 2)), y
    )


def clusters(
    rows: int = 800,
    *,
    features: int = 20,
    classes: int = 4,
    rare: float | None = None,
    apart: float = 1.2,
) -> Split:
    """Classes of two clusters each in 20 columns; with `rare` two classes, the second of this
    share.
    """
    weights = None if rare is None else [1 - rare, rare]
    x, y = datasets.make_classification(
        rows,
        features,
        n_informative=8,
        n_redundant=4,
        n_classes=2 if rare else classes,
        n_clusters_per_class=2,
        class_sep=apart,
        flip_y=0.0,
        weights=weights,
        random_state=11,
    )
    return split(x, y)


def tags(rows: int = 700, labels: int = 6) -> Split:
    """16 columns, 6 labels, each a product of two directions; float targets [N, 6]."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(rows, 16))
    a, b = rng.normal(size=(16, labels)) / 4, rng.normal(size=(16, labels)) / 4
    return split(x, ((x @ a) + 0.7 * np.abs(x @ b) > 0.75).astype(float))


def houses(rows: int = 700) -> Split:
    """Area, rooms, age, distance in meters, latitude, longitude, tax, floor: a price of about
    300000.
    """
    rng = np.random.default_rng(9)
    area, rooms = rng.gamma(9, 12, rows) + 20, rng.integers(1, 8, rows)
    age, far = rng.uniform(0, 90, rows), rng.gamma(2, 3000, rows)
    lat, lon = rng.normal(48.1, 0.05, rows), rng.normal(11.5, 0.07, rows)
    tax, floor = rng.uniform(300, 900, rows), rng.integers(0, 6, rows)
    price = (
        2600 * area * (1 + 0.6 * np.exp(-far / 4000))
        - 900 * age
        + 6000 * rooms
        + 4e5 * np.abs(lat - 48.1)
    )
    x = np.stack([area, rooms, age, far, lat, lon, tax, floor], 1).astype(float)
    return split(x, (price + rng.normal(0, 9000, rows))[:, None])


def shapes(rows: int = 700, size: int = 12) -> Split:
    """Gray images [N, 1, 12, 12]: a bar lying, standing, falling or rising, somewhere, on
    noise.
    """
    rng = np.random.default_rng(8)
    images, kinds = rng.uniform(0, 0.35, (rows, 1, size, size)), rng.integers(0, 4, rows)
    for image, kind in zip(images, kinds, strict=True):
        r, c = rng.integers(0, size - 5, 2)
        for i in range(6):
            down, right = ((2, i), (i, 2), (i, i), (5 - i, i))[kind]
            image[0, r + down, c + right] = rng.uniform(0.7, 1.0)
    return split(images, kinds)


def spots(rows: int = 600, size: int = 12) -> Split:
    """Gray images with one bright spot; the target is its row and column, in pixels [N, 2]."""
    rng = np.random.default_rng(6)
    at = rng.uniform(1.5, size - 2.5, (rows, 2))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    far = ((grid[None] - at[:, :, None, None]) ** 2).sum(1)
    return split(np.exp(-far / 2)[:, None] + rng.normal(0, 0.05, (rows, 1, size, size)), at)


def colors(rows: int = 500) -> Split:
    """Color images as files have them, [N, 8, 8, 3] from 0 to 255: which color is the left half's
    edge (3)?
    """
    rng = np.random.default_rng(12)
    y = rng.integers(0, 3, rows)
    x = rng.uniform(40, 160, (rows, 8, 8, 3))
    for image, kind in zip(x, y, strict=True):
        c = rng.integers(0, 6)
        image[:, c : c + 2, kind] += 70
    return split(x, y)


def first_tokens(rows: int = 700, length: int = 12, tokens: int = 4) -> Split:
    """Which token came first? Tokens int64 [N, T]."""
    x = np.random.default_rng(13).integers(0, tokens, (rows, length))
    return split(x, x[:, 0])


def brackets(rows: int = 800, length: int = 12) -> Split:
    """Are there more of token 1 than of token 2 in the sequence? Tokens 0..4, padded with 0 at the
    end.
    """
    rng = np.random.default_rng(14)
    x = rng.integers(1, 5, (rows, length))
    x[np.arange(length)[None] >= rng.integers(6, length + 1, rows)[:, None]] = 0
    return split(x, ((x == 1).sum(1) > (x == 2).sum(1)).astype(int))


def adding(rows: int = 900, length: int = 10) -> Split:
    """The adding problem: two columns, numbers and two marks; the target is the sum of the marked
    numbers [N, 1].
    """
    rng = np.random.default_rng(15)
    numbers, marks = rng.uniform(-1, 1, (rows, length)), np.zeros((rows, length))
    for mark in marks:
        mark[rng.choice(length, 2, replace=False)] = 1
    return split(np.stack([numbers, marks], 2), (numbers * marks).sum(1, keepdims=True))


def text(rows: int = 500, length: int = 16, tokens: int = 8) -> Split:
    """The next token of a chain that looks two back; inputs and targets int64 [N, T]."""
    rng = np.random.default_rng(16)
    table = rng.dirichlet(np.full(tokens, 0.08), (tokens, tokens))
    x = np.zeros((rows, length + 1), int)
    x[:, :2] = rng.integers(0, tokens, (rows, 2))
    for t in range(2, length + 1):
        chances = table[x[:, t - 2], x[:, t - 1]].cumsum(1)
        x[:, t] = np.minimum((chances < rng.uniform(size=(rows, 1))).sum(1), tokens - 1)
    return split(x[:, :-1], x[:, 1:])


def token_tags(rows: int = 500, length: int = 12, tokens: int = 6) -> Split:
    """A label for each token: is it the same as the token before (1), or as two before (2), or
    neither (0)? [N, T]
    """
    x = np.random.default_rng(17).integers(0, tokens, (rows, length))
    y = np.zeros_like(x)
    y[:, 2:][x[:, 2:] == x[:, :-2]] = 2
    y[:, 1:][x[:, 1:] == x[:, :-1]] = 1
    return split(x, y)


def waves(rows: int = 600, length: int = 16) -> Split:
    """A window of an oscillation with drift and noise [N, T, 1]; the target is the value two steps
    on [N, 1].
    """
    rng = np.random.default_rng(18)
    phase, speed = rng.uniform(0, 6.3, (rows, 1)), rng.uniform(0.3, 0.9, (rows, 1))
    values = np.sin(phase + speed * np.arange(length + 2)) + rng.normal(0, 0.05, (rows, length + 2))
    return split(values[:, :length, None], values[:, -1:])


def pulses(rows: int = 700, length: int = 20) -> Split:
    """Signals of two channels [N, 2, T]: three kinds of pulses, somewhere."""
    rng = np.random.default_rng(19)
    x, y = rng.normal(0, 0.4, (rows, 2, length)), rng.integers(0, 3, rows)
    forms = np.array([[1, 2, 1, -1, -2, -1], [2, 0, 2, 0, 2, 0], [-1, -2, -1, 1, 2, 1]])
    for signal, kind in zip(x, y, strict=True):
        at = rng.integers(0, length - 6)
        signal[rng.integers(0, 2), at : at + 6] += forms[kind]
    return split(x, y)

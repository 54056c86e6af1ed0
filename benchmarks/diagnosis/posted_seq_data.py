"""The examples of the posted scripts on sequences, images, sets and graphs.

As in `data.py`: always the same examples, 60 % to train on, 20 % to validate, 20 % for the scorer.
Letters: N examples, T steps, V vertices.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

from benchmarks.diagnosis.data import Split, digits, split

PARAGRAPH = (
    "the harbour wakes before the town does. at four the first boats come in, and the men who sort"
    " the fish stand in the light of one lamp and talk about the weather. by five there is ice on"
    " the stones and a cat on every crate. the buyers come at six; they look at the fish, they look"
    " at the sky, and they say a number that is too low. nobody answers. the number is said again,"
    " a little higher, and somebody laughs. at seven the trucks have left, the stones are washed,"
    " and the town, which has seen nothing of it, opens its windows and says that the air smells of"
    " salt today. in the afternoon the boats lie still. the men mend nets and the cats sleep on the"
    " ropes. when the wind turns the oldest of them looks up, counts the clouds over the far shore,"
    " and goes home to sleep, for at two he has to be on the water again. so it goes on every day"
    " of the year but one, and on that day the harbour sleeps and the town cannot tell what is"
    " wrong."
)
LETTERS = sorted(set(PARAGRAPH))


def characters(length: int = 24) -> Split:
    """Windows of a paragraph and, for each place, the next letter; int64 [N, T], 27 letters.

    Windows lie over each other, so that the scorer's letters have been seen: it is about whether
    the text is learned at all.
    """
    codes = np.array([LETTERS.index(letter) for letter in PARAGRAPH])
    starts = np.arange(0, len(codes) - length - 1, 2)
    windows = codes[starts[:, None] + np.arange(length + 1)]
    return split(windows[:, :-1], windows[:, 1:])


def engine_traces(rows: int = 600, length: int = 32) -> Split:
    """Temperature (about 70), vibration (about 0.02) and current (about 12) of machines, sampled
    12 to 32 times, then zeros [N, T, 3]: is it sound (0), is its bearing worn (1), does it run hot
    (2)?
    """
    rng = np.random.default_rng(21)
    kinds, ends = rng.integers(0, 3, rows), rng.integers(12, length + 1, rows)
    x = np.zeros((rows, length, 3))
    for trace, kind, end in zip(x, kinds, ends, strict=True):
        time = np.arange(end)
        trace[:end, 0] = 70 + 3 * np.sin(0.4 * time + rng.uniform(0, 6)) + rng.normal(0, 1, end)
        trace[:end, 1] = 0.02 + rng.normal(0, 0.004, end)
        trace[:end, 2] = 12 + rng.normal(0, 0.7, end)
        if kind == 1:
            trace[:end, 1] += 0.02 * (time % rng.integers(3, 6) == 0)
        if kind == 2:
            trace[:end, 0] += 0.25 * time
    return split(x, kinds)


def worn_tools(rows: int = 600, length: int = 20) -> Split:
    """Wear and load of a tool, in units of about 1 [N, T, 2]; its remaining life in hours, 100 to
    2500 [N].
    """
    rng = np.random.default_rng(22)
    speed, start = rng.uniform(0.02, 0.12, (rows, 1)), rng.uniform(0, 1, (rows, 1))
    load = np.clip(rng.normal(1, 0.3, (rows, length)), 0.2, None)
    wear = start + (speed * load).cumsum(1)
    hours = 150 * (4.5 - wear[:, -1]) / (20 * speed[:, 0] + 0.6) * 3
    seen = wear + rng.normal(0, 0.02, wear.shape)
    return split(np.stack([seen - 1, load - 1], 2), hours + rng.normal(0, 20, rows))


def strands(rows: int = 700, length: int = 24) -> Split:
    """DNA, one-hot [N, T, 4] in the order A, C, G, T: does TATAA stand in it? Float targets [N]."""
    rng = np.random.default_rng(23)
    bases, y = rng.integers(0, 4, (rows, length)), rng.integers(0, 2, rows)
    for strand, positive in zip(bases, y, strict=True):
        at = rng.integers(0, length - 5)
        strand[at : at + 5] = (3, 0, 3, 0, 0) if positive else rng.permutation((3, 0, 1, 0, 2))
    return split(np.eye(4)[bases], y.astype(float))


def sessions(rows: int = 700, length: int = 18) -> Split:
    """Events of a visit, codes 1 to 9, padded with 0 after the 6th to 15th [N, T]: which of the
    codes 7, 8, 9 occurred?
    """
    rng = np.random.default_rng(24)
    x, kinds = rng.integers(1, 7, (rows, length)), rng.integers(0, 3, rows)
    ends = rng.integers(6, 16, rows)
    for visit, kind, end in zip(x, kinds, ends, strict=True):
        visit[rng.integers(0, end)] = 7 + kind
        visit[end:] = 0
    return split(x, kinds)


def prices(rows: int = 800, window: int = 20) -> Split:
    """The last 20 prices of a coin, about 30000 [N, T]; its next move in percent [N, 1].

    Moves follow the last ones: 0.7 of the last move plus noise of 0.4 %.
    """
    rng = np.random.default_rng(25)
    moves = np.zeros((rows, window + 1))
    for t in range(1, window + 1):
        moves[:, t] = 0.7 * moves[:, t - 1] + rng.normal(0, 0.4, rows)
    levels = rng.uniform(29_000, 31_000, (rows, 1)) * np.cumprod(1 + moves / 100, axis=1)
    return split(levels[:, :window], moves[:, window:])


def point_sets(rows: int = 700, points: int = 16) -> Split:
    """16 points in the plane, in any order [N, 16, 2]: a circle, a square, a cross or a line."""
    rng = np.random.default_rng(26)
    x, kinds = np.zeros((rows, points, 2)), rng.integers(0, 4, rows)
    for cloud, kind in zip(x, kinds, strict=True):
        t = rng.uniform(-1, 1, points)
        side, far = rng.integers(0, 2, points), rng.choice((-1, 1), points)
        forms = (
            np.stack([np.cos(np.pi * t), np.sin(np.pi * t)], 1),
            np.where(side[:, None] == 0, np.stack([t, far], 1), np.stack([far, t], 1)),
            np.where(side[:, None] == 0, np.stack([t, 0 * t], 1), np.stack([0 * t, t], 1)),
            np.stack([t, t], 1),
        )
        cloud[:] = forms[kind] * rng.uniform(0.7, 1.3) + rng.normal(0, 0.05, (points, 2))
    return split(x, kinds)


def molecules(rows: int = 500, vertices: int = 10) -> tuple[Split, Split]:
    """Graphs: charges [N, V, 1] with adjacencies [N, V, V] as a second split of the same order.

    The target of a vertex is the sum of its neighbors' charges, and half of theirs [N, V]. A tenth
    of the vertices have no neighbor.
    """
    rng = np.random.default_rng(27)
    edges = np.triu(rng.uniform(size=(rows, vertices, vertices)) < 0.25, 1).astype(float)
    edges = edges + edges.transpose(0, 2, 1)
    alone = rng.uniform(size=(rows, vertices)) < 0.05
    edges[alone] = 0
    edges = edges * ~alone[:, None, :]
    charges = rng.normal(size=(rows, vertices, 1))
    near = edges @ charges / np.maximum(edges.sum(2, keepdims=True), 1)
    far = edges @ near / np.maximum(edges.sum(2, keepdims=True), 1)
    return split(charges, (near + 0.5 * far)[..., 0]), split(edges, np.zeros(rows))


def photo_patches(rows: int = 700, size: int = 8) -> Split:
    """Gray patches of two photographs, 0 to 255, with grain; the target is the patch without
    [N, 1, 8, 8].
    """
    rng = np.random.default_rng(28)
    photos = [image.mean(2) for image in datasets.load_sample_images()["images"]]
    patches = np.zeros((rows, 1, size, size))
    for i, patch in enumerate(patches):
        photo = photos[i % 2]
        r, c = rng.integers(0, photo.shape[0] - size), rng.integers(0, photo.shape[1] - size)
        patch[0] = photo[r : r + size, c : c + size]
    return split(patches + rng.normal(0, 25, patches.shape), patches)


def petals(rows: int = 400, size: int = 12) -> Split:
    """Color patches of a photograph, 0 to 1 [N, 3, 12, 12]; does a pixel belong to the flower?
    Float targets [N, 1, 12, 12].
    """
    rng = np.random.default_rng(29)
    photo = datasets.load_sample_images()["images"][1] / 255.0
    flower = (photo[..., 0] > 0.55) & (photo[..., 0] > photo[..., 1] + 0.15)
    x, y = np.zeros((rows, 3, size, size)), np.zeros((rows, 1, size, size))
    for patch, mask in zip(x, y, strict=True):
        r, c = rng.integers(60, 330 - size), rng.integers(150, 520 - size)
        patch[:] = photo[r : r + size, c : c + size].transpose(2, 0, 1)
        mask[0] = flower[r : r + size, c : c + size]
    return split(x + rng.normal(0, 0.08, x.shape), y)


def cells(rows: int = 400, size: int = 16) -> Split:
    """Gray images with no, one or two bright cells on bright dust [N, 1, 16, 16], and the cells'
    masks, 3 % of the pixels.
    """
    rng = np.random.default_rng(30)
    x, y = rng.uniform(0, 0.4, (rows, 1, size, size)), np.zeros((rows, 1, size, size))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    for image, mask in zip(x, y, strict=True):
        dust = rng.integers(0, size, (2, 6))
        image[0, dust[0], dust[1]] = 0.9
        for _ in range(rng.integers(0, 3)):
            at = rng.uniform(2, size - 3, 2)
            mask[0] = np.maximum(mask[0], ((grid - at[:, None, None]) ** 2).sum(0) < 3.0)
        image += 0.5 * mask[0]
    return split(x, y)


def land(rows: int = 300, size: int = 6, kinds: int = 6) -> Split:
    """Tiles from a satellite, four bands [N, 4, 6, 6]; the kind of ground of each pixel [N, 6, 6],
    one of six.
    """
    rng = np.random.default_rng(31)
    signatures = rng.normal(0, 1, (kinds, 4))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    y = np.zeros((rows, size, size), int)
    for tile in y:
        seats, owners = rng.uniform(0, size, (4, 2)), rng.integers(0, kinds, 4)
        tile[:] = owners[((grid[None] - seats[:, :, None, None]) ** 2).sum(1).argmin(0)]
    x = signatures[y].transpose(0, 3, 1, 2) + rng.normal(0, 0.8, (rows, 4, size, size))
    return split(x, y)


def ripe_fruit(rows: int = 500) -> Split:
    """Fruit, color, 0 to 1 [N, 3, 8, 8]: a disc on leaves; unripe (green), ripe (red), or foul
    (blue mold).
    """
    rng = np.random.default_rng(32)
    y = rng.integers(0, 3, rows)
    x = rng.uniform(0.1, 0.5, (rows, 3, 8, 8))
    grid = np.stack(np.meshgrid(np.arange(8), np.arange(8), indexing="ij"))
    for image, kind in zip(x, y, strict=True):
        disc = ((grid - rng.uniform(2.5, 4.5, 2)[:, None, None]) ** 2).sum(0) < 6
        image[(1, 0, 2)[kind]] += 0.25 * disc * rng.uniform(0.5, 1.2)
        image[rng.integers(0, 3)] += 0.1
    return split(x, y)


def digit_pairs(pairs: int = 900) -> tuple[Split, Split]:
    """Two digits, 0 to 1 [N, 1, 8, 8], as two splits of the same order: are they the same (1.0)?"""
    d = digits()
    rng = np.random.default_rng(33)
    x, y = d.x.numpy() / 16, d.y.numpy()
    first = rng.integers(0, len(x), pairs)
    same = rng.integers(0, 2, pairs)
    second = np.array(
        [
            rng.choice(np.flatnonzero((y == y[i]) == bool(s)))
            for i, s in zip(first, same, strict=True)
        ]
    )
    return split(x[first], same.astype(float)), split(x[second], same.astype(float))


def scans_and_records() -> tuple[Split, Split]:
    """A scan (a digit, 0 to 1, [N, 1, 8, 8]) and a record of three numbers (yearly income, years,
    visits) [N, 3]; is the digit odd, plus one if the income is above 40000: 0, 1 or 2.
    """
    scans, digit = (np.asarray(part) for part in datasets.load_digits(return_X_y=True))
    rng = np.random.default_rng(34)
    count = len(digit)
    record = np.stack(
        [rng.normal(40_000, 15_000, count), rng.uniform(18, 90, count), rng.poisson(3, count)], 1
    )
    kinds = digit % 2 + (record[:, 0] > 40_000)
    return split(scans.reshape(-1, 1, 8, 8) / 16, kinds), split(record, kinds)


def fixed_order(count: int, seed: int = 0) -> Tensor:
    """A fixed order of `count` examples, for scripts that mix what belongs together."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

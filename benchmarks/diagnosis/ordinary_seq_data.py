"""The examples of `ordinary_networks.py`: sentences, readings, traces, masks and pairs.

Always the same rows; parts as in `data.py`.
"""

from __future__ import annotations

import numpy as np
from sklearn import datasets
from torch import Tensor

from benchmarks.diagnosis.data import Split, split


def reviews(rows: int = 1000, length: int = 20) -> Split:
    """Reviews of 4 to 20 words, padded with 0 at the end: words 1 to 10 praise, 11 to 20 blame,
    21 to 49 do neither. Is there more praise than blame?
    """
    rng = np.random.default_rng(31)
    x = rng.integers(1, 50, (rows, length))
    x[np.arange(length)[None] >= rng.integers(4, length + 1, rows)[:, None]] = 0
    praise, blame = ((x > 0) & (x <= 10)).sum(1), ((x > 10) & (x <= 20)).sum(1)
    return split(x, (praise > blame).astype(int))


def power_load(rows: int = 900, window: int = 24) -> Split:
    """The load of a grid in MW (28000 to 62000) in 24 hours [N, 24, 1]; that of the next hour
    [N, 1].
    """
    rng = np.random.default_rng(32)
    hours = np.arange(rows + window + 1)
    noise = np.zeros(len(hours))
    for t in range(1, len(hours)):
        noise[t] = 0.9 * noise[t - 1] + rng.normal(0, 500)
    load = 45000 + 9000 * np.sin(hours / 24 * 2 * np.pi) + 3000 * np.sin(hours / 12 * 2 * np.pi)
    load = load - 4000 * (hours // 24 % 7 >= 5) + noise
    windows = np.lib.stride_tricks.sliding_window_view(load, window + 1)[:rows]
    return split(windows[:, :window, None].copy(), windows[:, window:].copy())


def motions(rows: int = 700, length: int = 32) -> Split:
    """A phone in a pocket: acceleration along three axes in m/s2 [N, 32, 3]; it rests, its owner
    walks, runs, or climbs stairs.
    """
    rng = np.random.default_rng(33)
    kind = rng.integers(0, 4, rows)
    t = np.arange(length)[None]
    speed = np.array([0.0, 0.55, 0.95, 0.55])[kind] * rng.uniform(0.85, 1.15, rows)
    size = np.array([0.1, 1.5, 3.0, 1.5])[kind] * rng.uniform(0.7, 1.3, rows)
    wave = size[:, None] * np.sin(speed[:, None] * t + rng.uniform(0, 6.3, (rows, 1)))
    twice = size[:, None] * np.sin(2 * speed[:, None] * t + rng.uniform(0, 6.3, (rows, 1)))
    side = np.where((kind == 3)[:, None], twice, 0.4 * wave)
    x = np.stack([0.5 * wave, side, 9.8 + wave], 2) + rng.normal(0, 1.1, (rows, length, 3))
    return split(x, kind)


def heartbeats(rows: int = 700, length: int = 48) -> Split:
    """One beat of a heart in steps of the converter (about 900 to 1400) [N, 1, 48]: normal, early,
    or wide.
    """
    rng = np.random.default_rng(34)
    kind = rng.integers(0, 3, rows)
    t = np.arange(length)[None]
    at = np.array([24.0, 17.0, 24.0])[kind][:, None] + rng.normal(0, 1.5, (rows, 1))
    width = np.array([1.2, 1.2, 2.6])[kind][:, None] * rng.uniform(0.8, 1.2, (rows, 1))
    beat = rng.uniform(200, 350, (rows, 1)) * np.exp(-(((t - at) / width) ** 2) / 2)
    after = 70 * np.exp(-(((t - at - 11) / 3) ** 2) / 2)
    drift = rng.normal(1000, 40, (rows, 1)) + rng.normal(0, 1.5, (rows, 1)) * (t - 24)
    return split((drift + beat + after + rng.normal(0, 12, (rows, length)))[:, None], kind)


def cell_masks(rows: int = 300, size: int = 16) -> Split:
    """Pictures of one or two round cells among streaks [N, 1, 16, 16], and which pixels are a
    cell's (float, of the same shape): one in fifteen.
    """
    rng = np.random.default_rng(35)
    x, y = rng.normal(0.2, 0.1, (rows, 1, size, size)), np.zeros((rows, 1, size, size))
    rr, cc = np.mgrid[:size, :size]
    for image, mask in zip(x, y, strict=True):
        image[0, rng.integers(0, size)] += 0.35
        image[0, :, rng.integers(0, size)] += 0.35
        for _ in range(rng.integers(1, 3)):
            r, c = rng.uniform(3, size - 3, 2)
            inside = (rr - r) ** 2 + (cc - c) ** 2 < rng.uniform(1.6, 2.6) ** 2
            image[0][inside] += 0.35
            mask[0][inside] = 1
    return split(x, y)


def places(rows: int = 700, length: int = 14) -> Split:
    """Sentences of 5 to 14 words, padded with 0: words 1 to 8 are names that mean a person after
    word 9, a place after word 10, else nothing. A tag for each word: none 0, person 1, place 2;
    -100 in the padding.
    """
    rng = np.random.default_rng(36)
    x = rng.integers(1, 30, (rows, length))
    marks = rng.random((rows, length)) < 0.25
    x[marks] = rng.integers(9, 11, marks.sum())
    after = np.zeros_like(marks)
    after[:, 1:] = marks[:, :-1] & (rng.random((rows, length - 1)) < 0.8)
    x[after] = rng.integers(1, 9, after.sum())
    name, before = (x >= 1) & (x <= 8), np.roll(x, 1, 1)
    before[:, 0] = 0
    y = np.where(name & (before == 9), 1, np.where(name & (before == 10), 2, 0))
    gone = np.arange(length)[None] >= rng.integers(5, length + 1, rows)[:, None]
    x[gone], y[gone] = 0, -100
    return split(x, y)


def digit_pairs(rows: int = 1400) -> tuple[Split, Split]:
    """Two pictures of digits [N, 1, 8, 8] of 0 to 1 each: the left ones and the right ones; are
    they the same digit (float)? Half are.
    """
    rng = np.random.default_rng(37)
    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = np.asarray(images).reshape(-1, 1, 8, 8) / 16, np.asarray(labels)
    a = rng.integers(0, len(images), rows)
    b = rng.integers(0, len(images), rows)
    for i in np.flatnonzero(rng.random(rows) < 0.45):
        b[i] = rng.choice(np.flatnonzero(labels == labels[a[i]]))
    same = (labels[a] == labels[b]).astype(float)
    return split(images[a], same), split(images[b], same)


def scenes(rows: int = 700, size: int = 12) -> Split:
    """Pictures [N, 1, 12, 12] on which each of four lines may be drawn: lying, standing, falling,
    rising; which are (float) [N, 4]?
    """
    rng = np.random.default_rng(38)
    x, y = rng.uniform(0, 0.35, (rows, 1, size, size)), rng.random((rows, 4)) < 0.4
    for image, drawn in zip(x, y, strict=True):
        for kind in np.flatnonzero(drawn):
            r, c = rng.integers(0, size - 5, 2)
            for i in range(6):
                down, right = ((2, i), (i, 2), (i, i), (5 - i, i))[kind]
                image[0, r + down, c + right] = rng.uniform(0.7, 1.0)
    return split(x, y.astype(float))


def photographed_houses(rows: int = 1500) -> tuple[Split, Split]:
    """Offers: a picture of the house number [N, 1, 8, 8], and area in m2 and year of building
    (1900 to 2020) [N, 2]; the price in euros (60000 to 900000) [N, 1]. Low numbers are near the
    center.
    """
    rng = np.random.default_rng(39)
    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = np.asarray(images).reshape(-1, 1, 8, 8) / 16, np.asarray(labels)
    at = rng.integers(0, len(images), rows)
    area, year = rng.gamma(8, 14, rows) + 25, rng.uniform(1900, 2020, rows)
    near = 1.5 - labels[at] / 9
    price = 2500 * area * near + 900 * (year - 1900) + rng.normal(0, 8000, rows)
    return split(images[at], price[:, None]), split(np.stack([area, year], 1), price[:, None])


def topics(rows: int = 900, length: int = 16, words: int = 120) -> Split:
    """Headlines of 16 words, codes 0 to 119; one of four topics, each with words of its own that
    it uses five times as often.
    """
    rng = np.random.default_rng(40)
    chances = np.exp(rng.normal(0, 0.5, (4, words)))
    for k in range(4):
        chances[k, rng.choice(words, 20, replace=False)] *= 5
    chances /= chances.sum(1, keepdims=True)
    kind = rng.integers(0, 4, rows)
    return split(np.stack([rng.choice(words, length, p=chances[k]) for k in kind]), kind)


def station(rows: int = 800, length: int = 12) -> Split:
    """A weather station: temperature, pressure less 1000 and humidity in 12 hours [N, 12, 3]; the
    temperature three hours on, in degrees [N, 1].
    """
    rng = np.random.default_rng(41)
    start, slope = rng.normal(10, 6, (rows, 1)), rng.normal(0, 0.5, (rows, 1))
    t = np.arange(length)[None]
    phase = rng.uniform(0, 6.3, (rows, 1))
    heat = start + slope * t + 3 * np.sin(phase + t / 4) + rng.normal(0, 0.3, (rows, length))
    pressure = 13 - 4 * slope + rng.normal(0, 0.5, (rows, length))
    damp = 70 - 2 * (heat - start) + rng.normal(0, 3, (rows, length))
    later = start + slope * (length + 2) + 3 * np.sin(phase + (length + 2) / 4)
    return split(np.stack([heat, pressure, damp], 2), later)


def spectra(rows: int = 260, channels: int = 40) -> Split:
    """Spectra of mixtures [N, 40]: three overlapping lines and noise; how much of the second there
    is, as the laboratory measured it, with its error [N, 1].
    """
    rng = np.random.default_rng(42)
    t = np.arange(channels)[None]
    lines = np.exp(-(((t - np.array([[12], [18], [25]])) / 5) ** 2) / 2)
    share = rng.uniform(0, 1, (rows, 3))
    x = share @ lines + rng.normal(0, 0.5, (rows, channels))
    return split(x, share[:, 1:2] + rng.normal(0, 0.12, (rows, 1)))


def boxed(rows: int = 600, size: int = 16) -> Split:
    """Pictures [N, 1, 16, 16] with one thing of three kinds; its kind, and its row, column, height
    and width in pixels (float) [N, 5].
    """
    rng = np.random.default_rng(44)
    x, y = rng.normal(0.2, 0.1, (rows, 1, size, size)), np.zeros((rows, 5))
    for image, target in zip(x, y, strict=True):
        kind, (h, w) = rng.integers(0, 3), rng.integers(5, 9, 2)
        r, c = rng.integers(0, size - h), rng.integers(0, size - w)
        piece = image[0, r : r + h, c : c + w]
        if kind == 0:
            piece += 0.5
        elif kind == 1:
            piece[[0, -1]] += 0.5
            piece[:, [0, -1]] += 0.5
        else:
            piece[::2] += 0.5
        target[:] = kind, r + h / 2, c + w / 2, h, w
    return split(x, y)


def digit_rows() -> Split:
    """1797 digits, 8 x 8, from 0 to 1."""
    x, y = datasets.load_digits(return_X_y=True)
    return split(np.asarray(x).reshape(-1, 1, 8, 8) / 16, y)


def scale_of(x: Tensor, dims: tuple[int, ...] = (0,)) -> tuple[Tensor, Tensor]:
    """Mean and deviation over `dims`, kept."""
    return x.mean(dims, keepdim=True), x.std(dims, keepdim=True)


def part_of(d: Split, rows: int) -> Split:
    """Only the first `rows` to train on."""
    return d._replace(x=d.x[:rows], y=d.y[:rows])

"""The examples of the later scripts on networks and loops.

As in `data.py`: always the same examples, 60 % to train on, 20 % to validate, 20 % for the scorer.
Letters: N examples, T steps, C channels.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import matplotlib
import numpy as np
from torch import Tensor

from benchmarks.diagnosis.data import Split, digits, split

SAMPLES = Path(matplotlib.get_data_path()) / "sample_data"


def membrane(window: int = 24, ahead: int = 3) -> Split:
    """The voltage of a nerve cell that fires, in volts from -0.68 to 0.04 [N, T, 1]; at each step,
    by how many volts it changes in the next three [N, T].
    """
    volts = np.fromfile(SAMPLES / "membrane.dat", np.float32)
    starts = np.arange(0, len(volts) - window - ahead, 15)
    steps = starts[:, None] + np.arange(window)
    return split(volts[steps][..., None], volts[steps + ahead] - volts[steps])


def head_patches(rows: int = 900, size: int = 8) -> Split:
    """Patches of a scan of a head, 0 to about 1 [N, 64]; the target is the patch itself."""
    with gzip.open(SAMPLES / "s1045.ima.gz") as file:
        scan = np.frombuffer(file.read(), ">u2").reshape(256, 256) / 250.0
    rng = np.random.default_rng(61)
    at = rng.integers(40, 210 - size, (rows, 2))
    patches = np.stack([scan[r : r + size, c : c + size].ravel() for r, c in at])
    return split(patches, patches)


def cracks(rows: int = 420, size: int = 16) -> Split:
    """Asphalt, 0 to 1, with a crack from the left edge to the right and dark pebbles
    [N, 1, 16, 16]; the crack's mask, 6 % of the pixels.
    """
    rng = np.random.default_rng(62)
    x, y = rng.normal(0.6, 0.12, (rows, 1, size, size)), np.zeros((rows, 1, size, size))
    for image, mask in zip(x, y, strict=True):
        drift = rng.choice((-1, 1))
        row = rng.integers(3, size - 3)
        for c in range(size):
            row = int(np.clip(row + drift * (rng.random() < 0.3), 0, size - 1))
            mask[0, row, c] = 1
        pebbles = rng.integers(0, size, (2, 9))
        image[0, pebbles[0], pebbles[1]] -= 0.3
        image -= 0.3 * mask
    return split(x, y)


def requests(rows: int = 800, length: int = 14, words: int = 48) -> tuple[Split, Split]:
    """Requests of 5 to 14 words, codes 1 to 48, then zeros [N, T], and, as a second split of the
    same order, their lengths: about which of four things? Three words in ten belong to it.
    """
    rng = np.random.default_rng(63)
    about, ends = rng.integers(0, 4, rows), rng.integers(5, length + 1, rows)
    own = 1 + rng.permutation(words)[:24].reshape(4, 6)
    x = rng.integers(1, words + 1, (rows, length))
    for request, kind, end in zip(x, about, ends, strict=True):
        telling = rng.random(length) < 0.3
        telling[rng.integers(0, end)] = True
        request[telling] = rng.choice(own[kind], int(telling.sum()))
        request[end:] = 0
    return split(x, about), split(ends, about)


def room_air(rows: int = 700, length: int = 24) -> Split:
    """The pressure of a room in hPa above 1000 [N, T, 1]; was a door slammed, a sharp rise and
    fall (1), a window opened, a fall that stays (2), or neither (0)?
    """
    rng = np.random.default_rng(64)
    x, kinds = rng.normal(0, 0.15, (rows, length)), rng.integers(0, 3, rows)
    x += np.cumsum(rng.normal(0, 0.05, (rows, length)), 1)
    for trace, kind in zip(x, kinds, strict=True):
        at = rng.integers(2, length - 8)
        if kind == 1:
            trace[at : at + 2] += 1.2
        if kind == 2:
            trace[at:] -= 1.0
    return split(x[..., None], kinds)


def sensor_pairs(rows: int = 900, length: int = 32) -> tuple[Split, Split]:
    """Two traces [N, 1, T], as two splits of the same order: are they of the same engine, that is,
    of one speed (1.0)?
    """
    rng = np.random.default_rng(65)
    same = rng.integers(0, 2, rows)
    speed = rng.uniform(0.3, 1.5, rows)
    shift = rng.uniform(0.35, 0.8, rows) * np.where(speed > 0.9, -1, 1)
    traces = []
    for pace in (speed, np.where(same == 1, speed, speed + shift)):
        phase = rng.uniform(0, 6.3, rows)
        wave = np.sin(phase[:, None] + pace[:, None] * np.arange(length))
        traces.append((wave + rng.normal(0, 0.2, wave.shape))[:, None])
    return split(traces[0], same.astype(float)), split(traces[1], same.astype(float))


def walkers(people: int, recordings: int, length: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Steps of people, sick (1) or sound (0): each has a gait of one's own, and the sick limp a
    little; traces [N, 2, T], the recordings of one person together.
    """
    rng = np.random.default_rng(66)
    x, y, time = [], [], np.arange(length)
    for person in range(people):
        sick = person % 2
        speed, lean, swing = rng.uniform(0.5, 1.0), rng.normal(0, 0.8, 2), rng.uniform(0.6, 1.6)
        for _ in range(recordings):
            phase = speed * time + rng.uniform(0, 6.3)
            trace = np.stack([np.sin(phase), np.cos(phase)]) * swing + lean[:, None]
            trace[0] += 1.2 * sick * (np.sin(2 * phase) > 0.6)
            x.append(trace + rng.normal(0, 0.3, trace.shape))
            y.append(sick)
    return np.stack(x), np.array(y)


def notes(rows: int = 900, pairs: int = 5, keys: int = 8, values: int = 6) -> Split:
    """Five notes, each of a name and a value, then a name that is asked for, with a value of 0
    [N, 6, 2], int64; what was its value?
    """
    rng = np.random.default_rng(67)
    names = np.stack([rng.permutation(keys)[:pairs] for _ in range(rows)])
    told, asked = rng.integers(0, values, (rows, pairs)), rng.integers(0, pairs, rows)
    everyone = np.arange(rows)
    x = np.stack([names, told], 2)
    query = np.stack([names[everyone, asked], np.zeros(rows, int)], 1)[:, None]
    return split(np.concatenate([x, query], 1), told[everyone, asked])


def dials(rows: int = 700, size: int = 12) -> tuple[Split, Split]:
    """Dials of three makes, 0 to 1 [N, 1, 12, 12]: the make, and as a second split of the same
    order what the hand shows: its sine and cosine [N, 2].
    """
    rng = np.random.default_rng(68)
    makes, angle = rng.integers(0, 3, rows), rng.uniform(0, 2 * np.pi, rows)
    hand = np.stack([np.sin(angle), np.cos(angle)], 1)
    grid = np.stack(np.meshgrid(*[np.arange(size) - (size - 1) / 2] * 2, indexing="ij"))
    far, x = np.sqrt((grid**2).sum(0)), rng.uniform(0, 0.3, (rows, 1, size, size))
    for image, make, (sine, cosine) in zip(x, makes, hand, strict=True):
        along = grid[0] * sine + grid[1] * cosine
        across = np.abs(grid[0] * cosine - grid[1] * sine)
        image[0] += 0.6 * ((across < 0.8) & (along > -0.5) & (along < 4.5))
        rim = (np.abs(far - 5.5) < 0.6, np.abs(grid).max(0) > 5, far > 99)[make]
        image[0] += 0.4 * rim
    return split(x, makes), split(x, hand)


def digit_strips(count: int) -> Split:
    """`count` digits beside each other, 0 to 1 [N, 8, 8 count]; the digits [N, count]."""
    d = digits().inputs(lambda x: x[:, 0] / 16)

    def beside(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rows = len(x) // count * count
        parts = x[:rows].reshape(-1, count, 8, 8).transpose(1, 2).flatten(2)
        return parts, y[:rows].reshape(-1, count)

    return Split(*beside(d.x, d.y), *beside(d.vx, d.vy), *beside(d.tx, d.ty))

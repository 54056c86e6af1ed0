"""Setups on sequences, pictures, graphs, sets and several inputs after answered questions: states
and positions, bytes, pooling, what a decoder is given; with healthy ones that look odd.

Letters: N examples, T steps, C channels, V vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import data
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.asked_pictures import pictures
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_losses import setup
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    TrainingScript,
    TrainingSetup,
    accuracy,
    fault,
    group,
    r2,
)

PLACES = 30

# Both ends of a visit: the last states of a network that reads in both directions


class BothWays(nn.Module):
    def __init__(self, by_view: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 10)
        self.gru = nn.GRU(10, 20, batch_first=True, bidirectional=True)
        self.head, self.by_view = nn.Linear(40, 3), by_view

    def forward(self, x: Tensor) -> Tensor:
        last = self.gru(self.embed(x))[1]  # [2, N, 20]
        if self.by_view:
            return self.head(last.reshape(len(x), -1))
        return self.head(torch.cat([last[0], last[1]], 1))


def both_ways(by_view: bool = False) -> TrainingSetup:
    d = posted.sessions()
    return pictures(d, BothWays(by_view), partial(Adam, lr=0.01), 30, 14)


BOTH_WAYS = group(
    "both-ways",
    both_ways,
    fault(
        "two-directions-by-view",
        "shape-pairing",
        by_view=True,
        answers={"exact": True, "remedy": ("model", "cat of the last two states")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# A coder of traces: what the decoder is given


class TraceCoder(nn.Module):
    """A trace [N, T, 1], a state, the trace again."""

    def __init__(self, copies: bool) -> None:
        super().__init__()
        self.encoder = nn.GRU(1, 16, batch_first=True)
        self.decoder = nn.GRU(1, 16, batch_first=True)
        self.head, self.copies = nn.Linear(16, 1), copies

    def forward(self, x: Tensor) -> Tensor:
        state = self.encoder(x)[1]
        if not self.copies:
            return self.head(self.decoder(torch.zeros_like(x), state)[0])
        if self.training:
            return self.head(self.decoder(x, state)[0])
        value, outputs = torch.zeros_like(x[:, :1]), []
        for _ in range(x.shape[1]):
            out, state = self.decoder(value, state)
            value = self.head(out)
            outputs.append(value)
        return torch.cat(outputs, 1)


def trace_coder(copies: bool = False) -> TrainingSetup:
    d = data.waves(length=10).standardized()
    d = Split(d.x, d.x, d.vx, d.vx, d.tx, d.tx)
    optimizer = partial(Adam, lr=0.01)
    return setup(d, TraceCoder(copies), nn.MSELoss(), optimizer, 24, 40, r2(d.tx, d.tx))


TRACE_CODER = group(
    "coder-of-traces",
    trace_coder,
    fault(
        "decoder-reads-the-answer",
        "leakage train-eval-mode",
        copies=True,
        answers={"remedy": ("model", "the value before, or none")},
    ),
    family="sequence",
    task="generation",
    network="recurrent",
)


# Which token stands at the twentieth place?


class Places(nn.Module):
    """One query looks over tokens and their places."""

    def __init__(self, counts: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 32)
        self.query = nn.Parameter(torch.randn(32))
        self.key, self.value = nn.Linear(32, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)
        place = torch.arange(PLACES)[:, None]
        waves = place / 50 ** (torch.arange(16) / 16)
        known = torch.cat([waves.sin(), waves.cos()], 1)
        self.register_buffer("places", place.expand(PLACES, 32).float() if counts else known)

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x) + self.get_buffer("places")
        weights = (self.key(z) @ self.query / 32**0.5).softmax(1)
        return self.head((weights[:, :, None] * self.value(z)).sum(1))


def twentieth(counts: bool = False) -> TrainingSetup:
    x = np.random.default_rng(211).integers(0, 5, (900, PLACES))
    d = split(x, x[:, 19])
    return pictures(d, Places(counts), partial(Adam, lr=0.01), 30, 20)


TWENTIETH = group(
    "twentieth-place",
    twentieth,
    fault(
        "counts-for-places",
        "input-scale saturation normalization",
        counts=True,
        answers={"where": "places", "remedy": ("model", "sines and cosines of the place")},
    ),
    family="sequence",
    task="classification",
    network="attention",
)


# Scanned digits: bytes, and the mean of other bytes


def scanned_digits(change: str = "") -> TrainingSetup:
    """Pixels are doubled for contrast as the scans are pale, 0 to 255."""
    d = data.digits().inputs(lambda x: x.reshape(-1, 1, 8, 8) * 15)
    if change == "wraps":
        d = d.inputs(lambda x: (x.byte() * 2).float())
    else:
        d = d.inputs(lambda x: (2 * x).clamp(max=255))
    if change == "mean of bytes":
        d = d.inputs(lambda x: (x / 255 - 127.5) / 127.5)
    else:
        d = d.inputs(lambda x: (x - 127.5) / 127.5)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(108, 10)
    )
    return pictures(d, model, partial(SGD, lr=0.05, momentum=0.9), 40, 10)


SCANNED_DIGITS = group(
    "pale-scans",
    scanned_digits,
    fault(
        "doubled-as-bytes",
        "data-degenerate precision input-scale augmentation",
        change="wraps",
        answers={"remedy": ("data", "float before the product")},
    ),
    fault(
        "mean-of-bytes-from-shares",
        "input-scale normalization",
        change="mean of bytes",
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Where is the spot?


def spot_place(pooled: bool = False) -> TrainingSetup:
    d = data.spots().targets_standardized()
    body = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
    head = head if pooled else [nn.Flatten(), nn.Linear(200, 2)]
    model = nn.Sequential(*body, *head)
    return pictures(
        d,
        model,
        partial(AdamW, lr=5e-3, weight_decay=0.05),
        24,
        20,
        loss=nn.MSELoss(),
        scorer=r2(d.tx, d.ty),
    )


SPOT_PLACE = group(
    "place-of-a-spot",
    spot_place,
    fault(
        "averaged-over-the-picture",
        "architecture-too-small data-degenerate",
        pooled=True,
        answers={"where": "4", "remedy": ("model", "flatten, no average")},
    ),
    family="image",
    task="regression",
    network="cnn",
)


# How much light do the lamps give?


def lamps(rows: int = 600, size: int = 10) -> Split:
    """Gray pictures of three lamps, each of another light [N, 1, 10, 10]; the sum [N, 1]."""
    rng = np.random.default_rng(212)
    x = rng.normal(0, 0.02, (rows, 1, size, size))
    light = rng.gamma(2, 0.4, (rows, 3))
    for image, each in zip(x, light, strict=True):
        for value in each:
            r, c = rng.integers(1, size - 2, 2)
            image[0, r : r + 2, c : c + 2] += value
    return split(x, light.sum(1, keepdims=True))


def lamp_light(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> TrainingSetup:
    d = lamps().targets_standardized()
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3),
        norm(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 1),
    )
    return pictures(
        d, model, partial(Adam, lr=0.01), 30, 20, loss=nn.MSELoss(), scorer=r2(d.tx, d.ty)
    )


LAMP_LIGHT = group(
    "light-of-lamps",
    lamp_light,
    fault(
        "each-picture-normed-alone",
        "normalization data-degenerate",
        norm=nn.InstanceNorm2d,
        answers={"where": "1", "remedy": ("model", "batch norm, or none")},
    ),
    family="image",
    task="regression",
    network="cnn",
)


# Parcels: sets of things with a total


def parcels(rows: int = 700, slots: int = 10) -> tuple[Split, Split]:
    """Up to ten things with three measures [N, 10, 3] and, as a second split of the same order,
    which slots are full [N, 10]; the postage of all [N, 1].
    """
    rng = np.random.default_rng(213)
    full = np.arange(slots) < rng.integers(1, slots + 1, rows)[:, None]
    x = rng.normal(size=(rows, slots, 3)) * full[:, :, None]
    each = (1 + np.maximum(x[:, :, 0], 0) + 0.5 * x[:, :, 1] * x[:, :, 2]) * full
    y = each.sum(1, keepdims=True)
    return split(x, y), split(full.astype(float), y)


class Postage(nn.Module):
    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.each, self.head, self.mean = mlp(3, 24, 12, act=nn.Tanh), mlp(12, 16, 1), mean

    def forward(self, things: Tensor, full: Tensor) -> Tensor:
        total = (self.each(things) * full[:, :, None]).sum(1)
        return self.head(total / full.sum(1, keepdim=True) if self.mean else total)


def postage(mean: bool = False, optimizer: Any = Adam, lr: float = 5e-3) -> TrainingSetup:
    d, full = parcels()
    d = d.targets_standardized()
    return TrainingSetup(
        model=Postage(mean),
        loss=nn.MSELoss(),
        train=((d.x, full.x), d.y),
        validation=((d.vx, full.vx), d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=30,
        epochs=50,
        scorer=r2((d.tx, full.tx), d.ty),
    )


POSTAGE = group(
    "postage-of-parcels",
    postage,
    fault(
        "mean-where-the-number-counts",
        "architecture-too-small data-degenerate normalization",
        mean=True,
        answers={"remedy": ("model", "the sum over the things")},
    ),
    fault(
        "mean-and-descent-of-a-thousandth",
        "architecture-too-small data-degenerate normalization learning-rate-low too-few-steps "
        "optimizer",
        mean=True,
        optimizer=SGD,
        lr=1e-3,
    ),
    family="sequence",
    task="regression",
    network="mlp",
)


# Circles of friends: one graph, its vertices are the examples


class Friends(nn.Module):
    """Means over the friends, twice; the input is the code of a person [N]."""

    def __init__(self, edges: Tensor, features: Tensor, weights: str) -> None:
        super().__init__()
        edges = edges + torch.eye(len(edges))
        if weights == "mean":
            edges = edges / edges.sum(1, keepdim=True)
        elif weights == "softmax":
            edges = edges.softmax(1)
        self.register_buffer("edges", edges)
        self.register_buffer("features", features)
        self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, codes: Tensor) -> Tensor:
        edges = self.get_buffer("edges")
        hidden = torch.relu(self.first(edges @ self.get_buffer("features")))
        return self.second((edges @ hidden)[codes])


def friends(weights: str = "mean") -> TrainingSetup:
    rng = np.random.default_rng(214)
    people = 300
    kind = rng.integers(0, 3, people)
    chance = np.where(kind[:, None] == kind[None], 0.12, 0.03)
    upper = np.triu(rng.random((people, people)) < chance, 1)
    edges = torch.from_numpy((upper | upper.T).astype(np.float32))
    features = rng.normal(size=(people, 6)) + 0.8 * np.eye(3, 6)[kind]
    model = Friends(edges, torch.from_numpy(features.astype(np.float32)), weights)
    d = split(np.arange(people), kind)
    return pictures(d, model, partial(SGD, lr=0.3, momentum=0.9), 20, 20)


FRIENDS = group(
    "circles-of-friends",
    friends,
    fault(
        "softmax-over-noughts-too",
        "normalization data-degenerate vanishing architecture-too-small",
        weights="softmax",
        answers={"remedy": ("model", "minus infinity where there is no edge")},
    ),
    fault(
        "sums-over-all-friends",
        "input-scale normalization exploding learning-rate-high dead-units saturation",
        weights="sum",
        answers={"remedy": ("model", "divided by the number of friends")},
    ),
    family="sequence",
    task="classification",
    network="mlp",
)


# Pulses in two channels: which axis is time?


class PulseNet(nn.Module):
    """Signals [N, T, C], as a table has them."""

    def __init__(self, turned: bool, length: int) -> None:
        super().__init__()
        self.turned = turned
        self.first = nn.Conv1d(length if turned else 2, 16, 6 if not turned else 1)
        self.second = nn.Conv1d(16, 16, 1)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.turned else x.transpose(1, 2)
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.head(x.amax(2))


def pulse_axis(turned: bool = False) -> TrainingSetup:
    d = data.pulses(length=40).inputs(lambda x: x.transpose(1, 2).contiguous())
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.1)
    return pictures(d, PulseNet(turned, 40), optimizer, 28, 20)


PULSE_AXIS = group(
    "axis-of-time",
    pulse_axis,
    fault(
        "steps-taken-for-channels",
        "shape-pairing data-degenerate architecture-too-small overfitting",
        turned=True,
        answers={"where": "first", "remedy": ("model", "transpose(1, 2)")},
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# Heart rates and a record: calories


def runs(rows: int = 700, length: int = 16) -> tuple[Split, Split]:
    """Beats per minute, 60 to 190 [N, T, 1] and, as a second split of the same order, age, weight
    in grams and meters run [N, 3]; the energy in joules [N, 1].
    """
    rng = np.random.default_rng(215)
    age, weight = rng.uniform(18, 70, rows), rng.normal(72e3, 12e3, rows)
    far = rng.uniform(500, 9000, rows)
    effort = rng.uniform(0.2, 1, (rows, 1)) * np.sin(np.linspace(0.2, 2.8, length))
    beats = 60 + effort * (150 - age[:, None] / 2) + rng.normal(0, 3, (rows, length))
    joules = weight * far / 1000 * 2.5 + 4000 * (beats.mean(1) - 60) * (1 + effort.max(1))
    y = joules[:, None]
    return split(beats[:, :, None], y), split(np.stack([age, weight, far], 1), y)


class RunNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 12, batch_first=True)
        self.record, self.head = nn.Linear(3, 12), mlp(24, 24, 1)

    def forward(self, beats: Tensor, record: Tensor) -> Tensor:
        seen = self.gru(beats)[1][0]
        return self.head(torch.cat([seen, torch.tanh(self.record(record))], 1))


def run_energy(
    inputs: bool = True, targets: bool = True, optimizer: Any = Adam, lr: float = 0.01
) -> TrainingSetup:
    beats, record = runs()
    if inputs:
        beats = beats.inputs(lambda x: (x - 110) / 40)
        record = record.standardized()
    if targets:
        beats = beats.targets_standardized()
    return TrainingSetup(
        model=RunNet(),
        loss=nn.MSELoss(),
        train=((beats.x, record.x), beats.y),
        validation=((beats.vx, record.vx), beats.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=28,
        epochs=20,
        scorer=r2((beats.tx, record.tx), beats.ty),
    )


RUN_ENERGY = group(
    "energy-of-runs",
    run_energy,
    fault(
        "joules-by-adam",
        "target-scale learning-rate-low too-few-steps",
        targets=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "grams-and-beats-at-a-tiny-rate",
        "input-scale saturation learning-rate-low optimizer too-few-steps",
        inputs=False,
        optimizer=SGD,
        lr=1e-3,
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# Waves read by a network of straight units


class StraightReader(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 24, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(24, 1)
        with torch.no_grad():
            cast(Tensor, self.rnn.weight_hh_l0).copy_(scale * torch.eye(24))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def straight_reader(scale: float = 0.7) -> TrainingSetup:
    d = data.waves(length=24)
    optimizer = partial(Adam, lr=5e-3)
    return setup(d, StraightReader(scale), nn.MSELoss(), optimizer, 24, 40, r2(d.tx, d.ty))


STRAIGHT_READER = group(
    "reader-of-straight-units",
    straight_reader,
    fault(
        "twice-the-identity",
        "initialization exploding learning-rate-high",
        scale=2.0,
        answers={"where": "rnn", "remedy": ("init", "identity times 0.7")},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# Healthy ones that look odd


class RandomKernels(nn.Module):
    """Forty random kernels that never learn, their largest value and share above zero."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Conv1d(2, 40, 5)
        self.kernels.requires_grad_(False)
        self.head = nn.Linear(80, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.kernels(x)
        return self.head(torch.cat([z.amax(2), z.gt(0).float().mean(2)], 1))


def kernels_never_learn() -> TrainingSetup:
    """Random kernels, on purpose: only a line behind them learns (Dempster et al. 2020)."""
    d = data.pulses()
    return pictures(d, RandomKernels(), partial(AdamW, lr=0.02, weight_decay=0.1), 28, 30)


class Reservoir(nn.Module):
    """A recurrent net of random weights that never learn, and a straight line behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 60, batch_first=True)
        nn.init.orthogonal_(cast(Tensor, self.rnn.weight_hh_l0), 0.9)
        self.rnn.requires_grad_(False)
        self.head = nn.Linear(60, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def reservoir_of_echoes() -> TrainingSetup:
    """Nearly all weights are frozen: an echo state network (Jaeger 2001)."""
    d = data.waves()
    return setup(d, Reservoir(), nn.MSELoss(), partial(Adam, lr=0.02), 24, 40, r2(d.tx, d.ty))


def linear_coder() -> TrainingSetup:
    """No bend anywhere: the loss ends at what ten principal components leave out."""
    d = data.digits().inputs(lambda x: x.reshape(-1, 64) / 16)
    mean = d.x.mean(0)
    d = d.inputs(lambda x: x - mean)
    d = Split(d.x, d.x, d.vx, d.vx, d.tx, d.tx)
    model = nn.Sequential(nn.Linear(64, 10, bias=False), nn.Linear(10, 64, bias=False))
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=0.01), 40, 20, r2(d.tx, d.tx))


class ByAngle(nn.Module):
    """Ten times the cosine of the angle to each class."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.classes = mlp(64, 32, 16), nn.Parameter(torch.randn(10, 16))

    def forward(self, x: Tensor) -> Tensor:
        return 10 * F.normalize(self.body(x), dim=1) @ F.normalize(self.classes, dim=1).T


def never_sure() -> TrainingSetup:
    """No output is above ten or below minus ten, and lengths mean nothing."""
    d = data.digits().inputs(lambda x: x.reshape(-1, 64) / 16)
    return pictures(d, ByAngle(), partial(AdamW, lr=5e-3, weight_decay=0.05), 40, 20)


class Increment(nn.Module):
    """The last value, and a step from it; the step starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1] + self.head(self.gru(x)[0][:, -1])


def starts_with_yesterday() -> TrainingSetup:
    """A head of zeros: at first the answer is the last value, which is not bad at all."""
    d = data.waves()
    return setup(d, Increment(), nn.MSELoss(), partial(Adam, lr=0.01), 24, 25, r2(d.tx, d.ty))


class Repeated(nn.Module):
    """One layer, four times over."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.layer, self.end = nn.Linear(10, 24), nn.Linear(24, 24), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.start(x)
        for _ in range(4):
            z = z + torch.tanh(self.layer(z))
        return self.end(z)


def one_layer_four_times() -> TrainingSetup:
    """The gradient of one layer is the sum of four uses."""
    d = data.friedman(900).targets(lambda y: y[:, None]).standardized().targets_standardized()
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.1)
    return setup(d, Repeated(), nn.MSELoss(), optimizer, 36, 30, r2(d.tx, d.ty))


def six_kernels() -> TrainingSetup:
    """Six kernels and the largest answer of each: 124 weights are enough."""
    d = data.shapes()
    model = nn.Sequential(
        nn.Conv2d(1, 6, 4, bias=False),
        nn.Softplus(beta=4),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    return pictures(d, model, partial(Adam, lr=0.03), 28, 30)


class TwoSources(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.measured, self.noise = nn.Linear(13, 12), nn.Linear(6, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, measures: Tensor, more: Tensor) -> Tensor:
        return self.head(torch.tanh(self.measured(measures) + self.noise(more)))


def second_source_is_noise() -> TrainingSetup:
    """Two inputs, of which one says nothing; the network learns to leave it."""
    d = data.wine().standardized()
    draw = torch.Generator().manual_seed(5)
    x, vx, tx = (torch.randn(len(y), 6, generator=draw) for y in (d.y, d.vy, d.ty))
    return TrainingSetup(
        model=TwoSources(),
        loss=nn.CrossEntropyLoss(),
        train=((d.x, x), d.y),
        validation=((d.vx, vx), d.vy),
        optimizer=partial(AdamW, lr=0.01, weight_decay=1.0),
        batch_size=12,
        epochs=12,
        scorer=accuracy((d.tx, tx), d.ty),
    )


class MeanOfEvents(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 16, padding_idx=0), mlp(16, 24, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).sum(1) / (x > 0).sum(1, keepdim=True).sqrt())


def five_sixths_are_padding() -> TrainingSetup:
    """Visits of ten events in rows of sixty: the vector of the padding never learns, on purpose."""
    d = posted.sessions().inputs(lambda x: F.pad(x, (0, 42)))
    return pictures(d, MeanOfEvents(), partial(AdamW, lr=0.01, weight_decay=0.1), 28, 25)


SCRIPTS: tuple[TrainingScript, ...] = (
    *BOTH_WAYS,
    *TRACE_CODER,
    *TWENTIETH,
    *SCANNED_DIGITS,
    *SPOT_PLACE,
    *LAMP_LIGHT,
    *POSTAGE,
    *FRIENDS,
    *PULSE_AXIS,
    *RUN_ENERGY,
    *STRAIGHT_READER,
    healthy_script(kernels_never_learn, "classification", "cnn"),
    healthy_script(reservoir_of_echoes, "regression", "recurrent"),
    healthy_script(linear_coder, "generation", "linear"),
    healthy_script(never_sure, "classification", "mlp"),
    healthy_script(starts_with_yesterday, "regression", "recurrent"),
    healthy_script(one_layer_four_times, "regression", "mlp"),
    healthy_script(six_kernels, "classification", "cnn"),
    healthy_script(second_source_is_noise, "classification", "mlp"),
    healthy_script(five_sixths_are_padding, "classification", "mlp"),
)

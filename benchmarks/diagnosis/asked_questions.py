"""Scripts after questions that people ask about tables, losses by hand, starts, rates and norms:
the mistake of the question, and beside it the accepted answer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop, lr_scheduler

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_losses import setup
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingScript,
    TrainingSetup,
    Watch,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    mean_recall,
    micro_f1,
    r2,
)


def mean_r2(x: Tensor, y: Tensor) -> Scorer:
    """The mean R2 of the columns, none counted below -1."""
    mean, std = y.mean(0), y.std(0)

    def score(out: Tensor, t: Tensor) -> float:
        rest = (((out - t) / std) ** 2).sum(0) / (((t - mean) / std) ** 2).sum(0)
        return float((1 - rest).clamp(min=-1).mean())

    return Scorer(x, y, score, 0.0, -1.0)


# The second largest of five numbers


def five_numbers(rows: int = 2000) -> Split:
    """Five whole numbers of 0 to 999 (float); the second largest [N, 1]."""
    x = np.random.default_rng(101).integers(0, 1000, (rows, 5)).astype(float)
    return split(x, np.sort(x, 1)[:, 3:4])


def second_largest(
    raw: bool = False, row: bool = False, optimizer: Any = Adam, lr: float = 3e-3
) -> TrainingSetup:
    d = five_numbers()
    d = d if raw else d.inputs(lambda x: x / 1000).targets(lambda y: y / 1000)
    scorer = r2(d.tx, d.ty)
    d = d.targets(lambda y: y[:, 0]) if row else d
    model = mlp(5, 48, 48, 1)
    return setup(d, model, nn.MSELoss(), partial(optimizer, lr=lr), 32, 30, scorer)


SECOND_LARGEST = group(
    "second-largest",
    second_largest,
    fault(
        "thousands-and-plain-descent",
        "input-scale target-scale learning-rate-high exploding dead-units",
        raw=True,
        optimizer=SGD,
        lr=0.01,
    ),
    fault(
        "a-row-beside-a-column",
        "shape-pairing",
        row=True,
        answers={"exact": True, "remedy": ("data", "unsqueeze(1)")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# The cubes of the numbers up to 4000


def cubes(inputs: bool = True, targets: bool = True) -> TrainingSetup:
    x = np.arange(1.0, 4000.0, 2)[:, None]
    d = split(x, x**3)
    d = d.standardized() if inputs else d
    d = d.targets_standardized() if targets else d
    model = mlp(1, 50, 1)
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=5e-3), 40, 25, r2(d.tx, d.ty))


CUBES = group(
    "cubes",
    cubes,
    fault("as-they-are", "input-scale target-scale", inputs=False, targets=False),
    fault(
        "billions-to-hit",
        "target-scale",
        targets=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# A ring around 92


def far_ring(rows: int = 900) -> Split:
    """Two columns near 92; is the place more than 1.3 from the middle (float)?"""
    rng = np.random.default_rng(102)
    place = rng.normal(0, 1.1, (rows, 2))
    far = np.hypot(*place.T) + rng.normal(0, 0.05, rows)
    return split(place + 92, (far > 1.3).astype(float))


def ring(
    centered: bool = True, loss: Loss | None = None, optimizer: Any = Adam, lr: float = 0.03
) -> TrainingSetup:
    d = far_ring()
    scorer_of = partial(binary_accuracy, threshold=0.5)
    d = d.standardized() if centered else d
    scorer = scorer_of(d.tx, d.ty)
    d = d.targets(column)
    model = mlp(2, 20, 1, act=nn.Sigmoid, last=nn.Sigmoid())
    return setup(d, model, loss or nn.BCELoss(), partial(optimizer, lr=lr), 30, 50, scorer)


RING = group(
    "ring-around-92",
    ring,
    fault(
        "not-centered",
        "input-scale saturation",
        centered=False,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "not-centered-squares-and-descent",
        "input-scale saturation learning-rate-low too-few-steps loss",
        centered=False,
        loss=nn.MSELoss(),
        optimizer=SGD,
        lr=1e-3,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Carbon and water of a forest


def forest(rows: int = 1000) -> Split:
    """Light, warmth, dryness, leaves, wind, rain; carbon (0.4 on average) and water (-22)."""
    rng = np.random.default_rng(103)
    x = rng.normal(size=(rows, 6)) * [200, 8, 5, 1.5, 2, 3] + [450, 14, 9, 3, 3, 4]
    z = (x - [450, 14, 9, 3, 3, 4]) / [200, 8, 5, 1.5, 2, 3]
    carbon = 0.4 + 0.12 * np.tanh(1.5 * z[:, 0]) * (1 + 0.7 * z[:, 3]) + rng.normal(0, 0.02, rows)
    water = -22 - 6 * np.maximum(z[:, 1], -0.5) * (1 + 0.4 * z[:, 2]) - 2 * np.sin(2 * z[:, 4])
    return split(x, np.stack([carbon, water + rng.normal(0, 1.5, rows)], 1))


def fluxes(scaled: str = "each", lr: float = 0.01) -> TrainingSetup:
    d = forest().standardized()
    if scaled == "each":
        d = d.targets_standardized()
    elif scaled == "both as one":
        mean, std = d.y.mean(), d.y.std()
        d = d.targets(lambda y: (y - mean) / std)
    model = mlp(6, 24, 2, act=nn.Tanh)
    optimizer = partial(SGD, lr=lr, momentum=0.9)
    return setup(d, model, nn.MSELoss(), optimizer, 24, 30, mean_r2(d.tx, d.ty))


FLUXES = group(
    "carbon-and-water",
    fluxes,
    fault(
        "water-drowns-carbon",
        "target-scale loss",
        scaled="none",
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "one-scaler-for-both",
        "target-scale normalization loss",
        scaled="both as one",
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Every block the same: linear, norm, relu, dropout


def blocks(first: int = 64, drop: float = 0.05) -> TrainingSetup:
    d = data.friedman(900).targets(column).standardized().targets_standardized()
    layers: list[nn.Module] = []
    for a, b in ((10, first), (first, 64)):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(drop)]
    model = nn.Sequential(*layers, nn.Linear(64, 1))
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=5e-3), 36, 30, r2(d.tx, d.ty))


BLOCKS = group(
    "blocks-of-four",
    blocks,
    fault(
        "one-unit-and-half-of-it-dropped",
        "architecture-too-small dropout over-regularized",
        first=1,
        drop=0.5,
    ),
    fault(
        "the-share-to-keep",
        "dropout over-regularized",
        drop=0.9,
        answers={"where": "3", "remedy": ("dropout", 0.05)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Few labeled samples, four layers


def few_samples(lr: float = 0.1, gain: float = 1.0) -> TrainingSetup:
    d = data.wine().inputs(lambda x: x[:, :7])
    low, high = d.x.amin(0), d.x.amax(0)
    d = d.inputs(lambda x: (x - low) / (high - low)).targets(lambda y: (y == 1).long())
    model = mlp(7, 60, 100, 30, 2)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, gain=gain)
            nn.init.zeros_(layer.bias)
    loss = nn.CrossEntropyLoss()
    return setup(d, model, loss, partial(SGD, lr=lr), 10, 30, accuracy(d.tx, d.ty))


FEW_SAMPLES = group(
    "few-samples",
    few_samples,
    fault(
        "a-rate-of-a-ten-thousandth",
        "learning-rate-low too-few-steps",
        lr=1e-4,
        answers={"remedy": ("lr", 0.1)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Eight values, most of them zero


def sparse_values(rows: int = 1000) -> Split:
    """Ten columns; eight values of 0 to 2, three of four of them zero."""
    rng = np.random.default_rng(104)
    x = rng.normal(size=(rows, 10))
    return split(x, np.clip(x @ rng.normal(size=(10, 8)) / 3 - 0.5, 0, 2))


def squares_minus_spread(outputs: Tensor, targets: Tensor) -> Tensor:
    """Against outputs that are all the same."""
    return ((outputs - targets) ** 2).sum() - 100 * outputs.std()


def spread(loss: Loss | None = None) -> TrainingSetup:
    d = sparse_values()
    model = mlp(10, 64, 8)
    loss = loss or nn.MSELoss(reduction="sum")
    return setup(d, model, loss, partial(Adam, lr=5e-3), 24, 30, r2(d.tx, d.ty))


SPREAD = group(
    "mostly-zero-values",
    spread,
    fault(
        "spread-is-rewarded",
        "loss exploding",
        loss=squares_minus_spread,
        answers={"remedy": ("formula", "without the standard deviation")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# The exponential of the cross-entropy


def exponential(outputs: Tensor, targets: Tensor, share: float) -> Tensor:
    return (F.cross_entropy(outputs, targets) / share).exp()


def tilted(raw: bool = False, share: float = 2.0) -> TrainingSetup:
    d = posted_data.tasted_wines(classes=True)
    d = d if raw else d.standardized()
    optimizer = partial(SGD, lr=0.02, momentum=0.9)
    loss = partial(exponential, share=share)
    return setup(d, mlp(13, 20, 3), loss, optimizer, 12, 15, accuracy(d.tx, d.ty))


TILTED = group(
    "exponential-of-entropy",
    tilted,
    fault("of-raw-columns", "input-scale loss exploding optimizer-numerics", raw=True),
    fault(
        "a-fiftieth-for-a-divisor",
        "loss exploding optimizer-numerics",
        share=0.02,
        answers={"remedy": ("loss", "cross-entropy")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Exclusive or


def gates(rows: int = 500) -> Split:
    """Two bits with noise on them: are they different (float)?"""
    rng = np.random.default_rng(105)
    bits = rng.integers(0, 2, (rows, 2))
    return split(bits + rng.normal(0, 0.1, (rows, 2)), (bits[:, 0] != bits[:, 1]).astype(float))


class Gate(nn.Module):
    def __init__(self, hidden: int, act: Callable[[Tensor], Tensor], last: bool) -> None:
        super().__init__()
        self.x1, self.x2 = nn.Linear(2, hidden), nn.Linear(hidden, 1)
        self.act, self.last = act, last

    def forward(self, feats: Tensor) -> Tensor:
        out = self.x2(self.act(self.x1(feats)))[:, 0]
        return torch.sigmoid(out) if self.last else out


def exclusive_or(bent: bool = True, asked: bool = False) -> TrainingSetup:
    d = gates()
    scorer = binary_accuracy(d.tx, d.ty, 0.5 if asked else 0.0)
    model = Gate(4 if asked else 16, torch.sigmoid if asked else torch.relu, asked)
    if not bent:
        model.act = lambda x: x
    if asked:
        nn.init.uniform_(model.x1.weight)
        nn.init.uniform_(model.x2.weight)
        return setup(d, model, nn.MSELoss(), partial(SGD, lr=0.01), 4, 20, scorer)
    return setup(d, model, nn.BCEWithLogitsLoss(), partial(Adam, lr=0.02), 20, 30, scorer)


EXCLUSIVE_OR = group(
    "exclusive-or",
    exclusive_or,
    fault(
        "one-line-after-the-other",
        "hidden-activation",
        bent=False,
        answers={"exact": True, "remedy": ("activation", "relu")},
    ),
    fault(
        "four-sigmoids-squares-and-descent",
        "learning-rate-low too-few-steps optimizer loss output-activation",
        asked=True,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Clothes of ten kinds (here: digits), an activation behind every layer


def likelihood_of_softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(outputs.softmax(1), targets)


def every_layer(last: nn.Module | None = None, loss: Loss | None = None) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: (x - 5) / 6)
    optimizer = partial(SGD, lr=0.05, momentum=0.9)
    model = mlp(64, 40, 10, last=last)
    return setup(d, model, loss or F.cross_entropy, optimizer, 40, 8, accuracy(d.tx, d.ty))


EVERY_LAYER = group(
    "activation-behind-every-layer",
    every_layer,
    fault(
        "the-last-as-well",
        "output-activation dead-units",
        last=nn.ReLU(),
        answers={"where": "3", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "sigmoid-and-the-likelihood-of-softmax",
        "output-activation loss",
        last=nn.Sigmoid(),
        loss=likelihood_of_softmax,
        answers={"remedy": ("loss", "cross-entropy of raw outputs")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# A coder of measurements, to find what is odd


def measured_coder(
    raw: bool = False,
    drop: float = 0.0,
    last: Callable[[], nn.Module] | None = None,
    loss: Loss | None = None,
) -> TrainingSetup:
    d = data.cancer()
    d = d if raw else d.standardized()
    coder = mlp(30, 24, 8, 24, 30, act=nn.Tanh, last=last() if last else None)
    model = nn.Sequential(nn.Dropout(drop), *coder)
    d = Split(d.x, d.x, d.vx, d.vx, d.tx, d.tx)
    return setup(d, model, loss or nn.MSELoss(), partial(Adam, lr=0.01), 16, 40, r2(d.tx, d.tx))


MEASURED_CODER = group(
    "coder-of-measurements",
    measured_coder,
    fault(
        "four-fifths-of-the-inputs-dropped",
        "dropout over-regularized",
        drop=0.8,
        answers={"where": "0", "remedy": ("dropout", 0.0)},
    ),
    fault(
        "entropy-of-z-scores",
        "loss target-scale exploding",
        loss=nn.BCEWithLogitsLoss(),
        answers={"exact": True, "remedy": ("loss", "mse")},
    ),
    fault(
        "raw-columns-from-a-sigmoid",
        "input-scale target-scale output-activation saturation",
        raw=True,
        last=nn.Sigmoid,
    ),
    family="table",
    task="generation",
    network="mlp",
)


# Batch norm with the momentum of another library


def normed_houses(momentum: float = 0.1, batch: int = 8) -> TrainingSetup:
    d = data.houses().targets_standardized()
    model = nn.Sequential(
        nn.BatchNorm1d(8, momentum=momentum),
        nn.Linear(8, 32),
        nn.BatchNorm1d(32, momentum=momentum),
        nn.ReLU(),
        nn.Linear(32, 1),
    )
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=5e-3), batch, 20, r2(d.tx, d.ty))


NORMED_HOUSES = group(
    "houses-behind-norms",
    normed_houses,
    fault(
        "momentum-as-elsewhere",
        "normalization batch-size train-eval-mode",
        momentum=0.99,
        answers={"where": "0"},
    ),
    fault(
        "statistics-that-never-arrive",
        "normalization train-eval-mode input-scale",
        momentum=1e-4,
        answers={"where": "0"},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# The log loss, written out


def log_loss(p: Tensor, y: Tensor) -> Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(y * p.log() + (1 - y) * (1 - p).log()).mean()


def log_loss_without_brackets(p: Tensor, y: Tensor) -> Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return (-y * p.log() + (1 - y) * (1 - p).log()).mean()


def log_loss_without_clamp(p: Tensor, y: Tensor) -> Tensor:
    return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


def written_out(loss: Loss = log_loss, raw: bool = False) -> TrainingSetup:
    d = later_table_data.sensors()
    d = d if raw else d.standardized()
    scorer = binary_accuracy(d.tx, d.ty, 0.5)
    model = mlp(6, 16, 1, last=nn.Sigmoid())
    optimizer = partial(SGD, lr=0.05, momentum=0.9)
    return setup(d.targets(column), model, loss, optimizer, 24, 12, scorer)


WRITTEN_OUT = group(
    "log-loss-written-out",
    written_out,
    fault(
        "minus-for-the-first-term",
        "loss",
        loss=log_loss_without_brackets,
        answers={"exact": True, "remedy": ("formula", "brackets around both terms")},
    ),
    fault(
        "pascals-and-no-clamp",
        "input-scale loss optimizer-numerics saturation",
        loss=log_loss_without_clamp,
        raw=True,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Layers by hand


class HandMade(nn.Module):
    """A linear layer; its weights are drawn by `draw`, and learn if they are parameters."""

    def __init__(self, inputs: int, outputs: int, draw: str) -> None:
        super().__init__()
        weight = torch.zeros if draw == "zeros" else torch.randn
        w = weight(inputs, outputs) / (1 if draw == "normal" else math.sqrt(inputs))
        self.w = w if draw == "tensor" else nn.Parameter(w)
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w + self.b


def hand_made(draw: str = "") -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(
        HandMade(64, 100, draw), nn.Tanh(), HandMade(100, 100, draw), nn.Tanh()
    ).append(HandMade(100, 10, draw))
    optimizer = partial(SGD, lr=0.1)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 32, 12, accuracy(d.tx, d.ty))


HAND_MADE = group(
    "layers-by-hand",
    hand_made,
    fault(
        "weights-of-randn",
        "initialization saturation exploding",
        draw="normal",
        answers={"where": "0", "remedy": ("init", "1 / sqrt(inputs)")},
    ),
    fault(
        "weights-of-zeros",
        "initialization",
        draw="zeros",
        answers={"where": "0", "exact": True, "remedy": ("init", "normal")},
    ),
    fault(
        "weights-that-are-no-parameters",
        "parameters-not-in-optimizer frozen-parameters",
        draw="tensor",
        answers={"where": "0", "exact": True, "remedy": ("model", "nn.Parameter")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Rings of shells: rates and penalties


def shells(lr: float = 3e-3, penalty: float = 0.0, deep: bool = False) -> TrainingSetup:
    d = later_table_data.crabs().standardized().targets_standardized()
    model = mlp(7, *([64] * (4 if deep else 2)), 1)

    def with_penalty(outputs: Tensor, targets: Tensor) -> Tensor:
        sizes = sum(p.abs().sum() for p in model.parameters())
        return F.mse_loss(outputs, targets) + penalty * cast(Tensor, sizes)

    loss = with_penalty if penalty else nn.MSELoss()
    return setup(d, model, loss, partial(Adam, lr=lr), 32, 12, r2(d.tx, d.ty))


SHELLS = group(
    "rings-of-shells",
    shells,
    fault(
        "four-layers-and-a-rate-of-a-half",
        "learning-rate-high dead-units exploding",
        lr=0.5,
        deep=True,
        answers={"remedy": ("lr", 3e-3)},
    ),
    fault(
        "sum-of-all-weights",
        "over-regularized loss",
        penalty=0.1,
        answers={"remedy": ("formula", "a penalty of 1e-5")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Twelve tags, each of them rare


def rare_tags(rows: int = 1500, labels: int = 12) -> Split:
    """20 columns; twelve labels that one example in twelve has (float)."""
    rng = np.random.default_rng(106)
    x = rng.normal(size=(rows, 20))
    lean = x @ rng.normal(size=(20, labels)) / math.sqrt(20)
    return split(x, (lean + rng.normal(0, 0.1, lean.shape) > 1.4).astype(float))


def tagged(
    slip: str = "",
    last: Callable[[], nn.Module] | None = None,
    loss: Loss | None = None,
    optimizer: Any = Adam,
) -> TrainingSetup:
    d = rare_tags()
    scorer = micro_f1(d.tx, d.ty, 0.5 if last else 0.0)
    if slip == "viewed":
        d = d._replace(y=d.y.T.reshape(-1, 12), vy=d.vy.T.reshape(-1, 12))
    model = mlp(20, 40, 12, last=last() if last else None)
    loss = loss or nn.BCEWithLogitsLoss()
    return setup(d, model, loss, partial(optimizer, lr=0.01), 30, 15, scorer)


TAGGED = group(
    "rare-tags",
    tagged,
    fault(
        "softmax-of-twelve-yeses",
        "output-activation loss",
        last=partial(nn.Softmax, dim=1),
        loss=nn.BCELoss(),
        answers={"where": "3", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault(
        "squares-of-sigmoids-all-zero",
        "loss output-activation learning-rate-low too-few-steps imbalance vanishing",
        last=nn.Sigmoid,
        loss=nn.MSELoss(),
        optimizer=SGD,
    ),
    fault(
        "tags-viewed-not-transposed",
        "labels shape-pairing",
        slip="viewed",
        answers={"remedy": ("data", "y.T")},
    ),
    family="table",
    task="multi-label",
    network="mlp",
)


# Sales by the day, dates as people write them


def sales(rows: int = 1200) -> Split:
    """Date (20210101 to 20231228), weekday, price in cents, on offer; pieces sold [N, 1]."""
    rng = np.random.default_rng(107)
    year, month = rng.integers(2021, 2024, rows), rng.integers(1, 13, rows)
    day = rng.integers(1, 29, rows)
    week, price, offer = rng.integers(0, 7, rows), rng.normal(399, 60, rows), rng.random(rows) < 0.2
    sold = 60 + 6 * (year - 2021) + 18 * np.sin(month / 6 * np.pi) + 14 * (week > 4) + 30 * offer
    sold = sold - (price - 399) / 6 + rng.normal(0, 4, rows)
    date = year * 10000 + month * 100 + day
    return split(np.stack([date, week, price, offer], 1).astype(float), sold[:, None])


def sold(dates: str = "parts") -> TrainingSetup:
    d = sales()
    if dates == "parts":

        def parts(x: Tensor) -> Tensor:
            year = torch.div(x[:, :1], 1e4, rounding_mode="floor")
            month = torch.div(x[:, :1] - year * 1e4, 100, rounding_mode="floor")
            turn = month / 6 * math.pi
            return torch.cat([year - 2022, turn.sin(), turn.cos(), x[:, 1:]], 1)

        d = d.inputs(parts).standardized()
    elif dates == "over the largest":
        largest = d.x.max()
        d = d.inputs(lambda x: x / largest)
    d = d.targets_standardized()
    model = mlp(d.x.shape[1], 32, 32, 1)
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=5e-3), 32, 20, r2(d.tx, d.ty))


SOLD = group(
    "sales-by-date",
    sold,
    fault("dates-as-numbers", "input-scale", dates="numbers", answers={"where": "0"}),
    fault(
        "all-divided-by-the-largest",
        "input-scale normalization data-degenerate",
        dates="over the largest",
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Passengers of whom the age is not known


def known_ages(slip: str = "") -> TrainingSetup:
    d = posted_data.passengers(filled=False)

    def known(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        kept = x[~x.isnan().any(1)]
        return kept, y[: len(kept)] if slip == "x alone" else y[~x.isnan().any(1)]

    x, y = known(d.x, d.y)
    vx, vy = known(d.vx, d.vy)
    kept = ~d.tx.isnan().any(1)
    y = y[torch.randperm(len(y))] if slip == "apart" else y
    d = Split(x, y, vx, vy, d.tx[kept], d.ty[kept]).standardized()
    scorer = binary_accuracy(d.tx, d.ty)
    d = d.targets(column)
    optimizer = partial(AdamW, lr=5e-3)
    return setup(d, mlp(7, 12, 1), nn.BCEWithLogitsLoss(), optimizer, 24, 10, scorer)


KNOWN_AGES = group(
    "known-ages",
    known_ages,
    fault(
        "rows-dropped-from-x-alone",
        "labels shape-pairing data-degenerate",
        slip="x alone",
        answers={"remedy": ("data", "drop the same rows of both")},
    ),
    fault(
        "x-and-y-shuffled-apart",
        "labels",
        slip="apart",
        answers={"remedy": ("data", "one order for both")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Saturation and lightness of colors


class Dropper(nn.Module):
    def __init__(self, always: bool) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(3, 64), nn.Linear(64, 64), nn.Linear(64, 2)
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc2(F.relu(self.fc1(x))))
        x = F.dropout(x, 0.5) if self.always else F.dropout(x, 0.5, self.training)
        return self.fc3(x)


def light(always: bool = False) -> TrainingSetup:
    d = later_table_data.lightness().standardized().targets_standardized()
    model = Dropper(always)
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=3e-3), 32, 40, mean_r2(d.tx, d.ty))


LIGHT = group(
    "dropout-as-a-function",
    light,
    fault(
        "never-told-of-the-mode",
        "train-eval-mode dropout randomness",
        always=True,
        answers={"exact": True, "remedy": ("model", "F.dropout(x, 0.5, self.training)")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Late loans and the focal loss


def focal(outputs: Tensor, targets: Tensor, alpha: float) -> Tensor:
    """`alpha` weighs the late ones, 1 - alpha the others (Lin et al. 2017)."""
    entropy = F.cross_entropy(outputs, targets, reduction="none")
    weight = torch.where(targets == 1, alpha, 1 - alpha)
    return (weight * (1 - (-entropy).exp()) ** 2 * entropy).mean()


def focal_loans(alpha: float = 0.9, lr: float = 0.01) -> TrainingSetup:
    d = later_table_data.loans().inputs(lambda x: torch.cat([x[:, :2].log(), x[:, 2:]], 1))
    d = d.standardized()
    loss = partial(focal, alpha=alpha)
    model = mlp(7, 16, 2)
    return setup(d, model, loss, partial(Adam, lr=lr), 50, 10, mean_recall(d.tx, d.ty))


FOCAL_LOANS = group(
    "focal-loans",
    focal_loans,
    fault(
        "alpha-for-the-many", "imbalance loss", alpha=0.1, answers={"remedy": ("loss", "alpha 0.9")}
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Loops. One batch again and again


def taken_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.named_colors().inputs(lambda x: x / 255)
    x, y = d.x, d.y
    if fault == "class after class":
        order = y.argsort(stable=True)
        x, y = x[order], y[order]
    batches = loader(x, y, 24, shuffle=fault == "")
    model = mlp(3, 40, 8)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for batch in batches:
                inputs, labels = next(iter(batches)) if fault == "next" else batch
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs), labels)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


TAKEN = group(
    "next-iter-loop",
    taken_loop,
    fault(
        "the-first-batch-each-time",
        "shuffling data-degenerate overfitting",
        fault="next",
        answers={"exact": True},
    ),
    fault("colors-class-after-class", "shuffling", fault="class after class"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=30 * 14,
)


# A line through patients


def line_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.patients()
    if fault != "raw":
        d = d.standardized().targets_standardized()
    model = nn.Linear(10, 1)
    optimizer = SGD(model.parameters(), lr=0.05)
    criterion = nn.MSELoss(reduction="sum" if fault == "sum" else "mean")
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 53):
                loss = criterion(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.ty)


LINE = group(
    "line-loop",
    line_loop,
    fault(
        "summed-at-the-rate-of-a-mean",
        "loss-reduction learning-rate-high exploding",
        fault="sum",
        answers={"remedy": ("loop", "reduction='mean'")},
    ),
    fault(
        "patients-as-measured",
        "input-scale target-scale learning-rate-high exploding",
        fault="raw",
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="loop",
    task="regression",
    network="linear",
    kind="loop",
    steps=15 * 5,
)


# Encoder and decoder as two networks


def two_part_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    encoder, decoder = mlp(64, 40, 10), mlp(10, 40, 64)
    model = nn.Sequential(encoder, decoder)
    known = encoder if fault == "encoder alone" else model
    optimizer = Adam(known.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(12):
            for x, _ in loader(d.x, d.y, 40):
                code = encoder(x)
                code = code.detach() if fault == "detached" else code
                loss = F.mse_loss(decoder(code), x)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.tx)


TWO_PART = group(
    "two-part-loop",
    two_part_loop,
    fault(
        "optimizer-of-the-encoder",
        "parameters-not-in-optimizer frozen-parameters",
        fault="encoder alone",
        answers={"where": "1", "exact": True, "proof": "unmoved", "unmoved": "1.0.weight"},
    ),
    fault(
        "features-are-detached",
        "detached-graph frozen-parameters",
        fault="detached",
        answers={"where": "0", "exact": True, "proof": "unmoved", "unmoved": "0.0.weight"},
    ),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=12 * 27,
)


# Noise to be taken away


def denoising_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    noise = torch.Generator().manual_seed(3)
    test = d.tx + 0.5 * torch.randn(d.tx.shape, generator=noise)
    model = mlp(64, 64, 64)
    optimizer = Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for first in range(0, len(d.x), 32):
                x = d.x[first : first + 32]
                added = 0.5 * torch.randn_like(x)
                noisy = x.add_(added) if fault == "in place" else x + added
                wanted = noisy if fault == "noisy" else x
                loss = F.mse_loss(model(noisy), wanted)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(test, d.tx)


DENOISING = group(
    "denoising-loop",
    denoising_loop,
    fault(
        "asks-for-the-noise-as-well",
        "labels loss augmentation leakage",
        fault="noisy",
        answers={"remedy": ("loop", "the clean image as target")},
    ),
    fault(
        "noise-is-left-in-the-data",
        "augmentation data-degenerate labels",
        fault="in place",
        answers={"remedy": ("loop", "x + noise")},
    ),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=20 * 34,
)


# Each batch by its own mean and spread


def batch_scaled_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.wine()
    mean, std = d.x.mean(0), d.x.std(0)
    vx, tx = (x if fault else (x - mean) / std for x in (d.vx, d.tx))
    model = mlp(13, 24, 3)
    optimizer = RMSprop(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            model.train()
            for x, y in loader(d.x, d.y, 53):
                x = (x - x.mean(0)) / x.std(0)
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                F.cross_entropy(model(vx), d.vy)
    return model, accuracy(tx, d.ty)


BATCH_SCALED = group(
    "batch-scaled-loop",
    batch_scaled_loop,
    fault(
        "tested-on-raw-columns",
        "normalization input-scale split train-eval-mode",
        fault="raw",
        answers={"remedy": ("loop", "one scaling for both")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=15 * 2,
)


# Mixed examples


def mixing_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.clusters(900, classes=5).standardized()
    model = mlp(20, 64, 5)
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 27):
                share, other = float(torch.rand(())), torch.randperm(len(y))
                if fault == "shuffled":
                    x = x[torch.randperm(len(y))]
                out = model(share * x + (1 - share) * x[other])
                loss = share * F.cross_entropy(out, y)
                if fault == "of the first":
                    loss = F.cross_entropy(out, y)
                else:
                    loss = loss + (1 - share) * F.cross_entropy(out, y[other])
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


MIXING = group(
    "mixing-loop",
    mixing_loop,
    fault(
        "inputs-of-another-order",
        "labels augmentation",
        fault="shuffled",
        answers={"remedy": ("loop", "one order for both")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=20 * 20,
)


# Weights drawn by hand


def draw_weights(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(layer.bias)


def drawing_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.spirals().standardized()
    model = mlp(2, 32, 32, 2)
    optimizer = Adam(model.parameters(), lr=5e-3)
    model.apply(draw_weights)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            if fault == "each epoch":
                model.apply(draw_weights)
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


DRAWING = group(
    "drawing-loop",
    drawing_loop,
    fault(
        "drawn-anew-each-epoch",
        "initialization too-few-steps",
        fault="each epoch",
        answers={"exact": True, "remedy": ("loop", "draw once")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=30 * 18,
)


# Yes or no before the loss


def deciding_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.glass().standardized()
    model = mlp(9, 24, 1)
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 14):
                chance = torch.sigmoid(model(x))[:, 0]
                if fault == "rounded":
                    chance = torch.round(chance)
                elif fault == "decided":
                    chance = (chance > 0.5).float().requires_grad_()
                loss = F.binary_cross_entropy(chance, y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, binary_accuracy(d.tx, d.ty)


DECIDING = group(
    "deciding-loop",
    deciding_loop,
    fault(
        "rounded-before-the-loss",
        "detached-graph loss vanishing output-activation",
        fault="rounded",
        answers={"exact": True, "proof": "unmoved", "unmoved": "0.weight"},
    ),
    fault(
        "requires-grad-once-more",
        "detached-graph loss",
        fault="decided",
        answers={"exact": True, "proof": "unmoved", "unmoved": "0.weight"},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=30 * 7,
)


# A rate that falls


def falling_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.hills().standardized().targets_standardized()
    model = mlp(2, 64, 64, 1)
    optimizer = Adam(model.parameters(), lr=5e-3)
    gamma = 0.1 if fault == "a tenth" else 0.95
    scheduler = lr_scheduler.ExponentialLR(optimizer, gamma)
    with watch(model, optimizer) as watched:
        for _ in range(25):
            for x, y in loader(d.x, d.y, 37):
                loss = F.mse_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
    return model, r2(d.tx, d.ty)


FALLING = group(
    "falling-loop",
    falling_loop,
    fault(
        "a-tenth-of-it-after-each-epoch",
        "schedule learning-rate-low too-few-steps",
        fault="a tenth",
        answers={"remedy": ("loop", "gamma=0.95")},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=25 * 24,
)


# Two losses, each with its own backward


def two_losses_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = forest().standardized().targets_standardized()
    model = mlp(6, 32, 2)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 24):
                out = model(x)
                carbon, water = (F.mse_loss(out[:, k], y[:, k]) for k in (0, 1))
                watched.loss(carbon + water)
                optimizer.zero_grad()
                carbon.backward(retain_graph=True)
                if fault == "zeroed":
                    optimizer.zero_grad()
                water.backward()
                optimizer.step()
    return model, mean_r2(d.tx, d.ty)


TWO_LOSSES = group(
    "two-losses-loop",
    two_losses_loop,
    fault(
        "zeroed-between-them",
        "zero-grad step-order",
        fault="zeroed",
        answers={"exact": True, "remedy": ("loop", "zero once")},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=15 * 25,
)

# Healthy ones, of which people ask whether this is normal


def lower_in_validation() -> TrainingSetup:
    """The validation loss is below that of training all the time: half of the units are dropped."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 48), nn.ReLU(), nn.Dropout(0.5)
    ).append(nn.Linear(48, 10))
    optimizer = partial(Adam, lr=3e-3)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 40, 25, accuracy(d.tx, d.ty))


def jumps_by_twos() -> TrainingSetup:
    """Two examples in a batch: the loss jumps up and down by ten times."""
    d = data.cancer().standardized()
    scorer = binary_accuracy(d.tx, d.ty)
    optimizer = partial(SGD, lr=0.01, weight_decay=0.01)
    model = nn.Linear(30, 1)
    return setup(d.targets(column), model, nn.BCEWithLogitsLoss(), optimizer, 2, 6, scorer)


class InEuros(nn.Module):
    """Learns z-scores, answers in euros."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.net, self.mean, self.std = mlp(8, 32, 1, act=nn.Tanh), mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.std + self.mean


def billions_of_square_euros() -> TrainingSetup:
    """A loss of 1e10 that ends at 1e8 is right where prices are in euros."""
    d = data.houses().standardized()
    model = InEuros(float(d.y.mean()), float(d.y.std()))
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=0.01), 30, 30, r2(d.tx, d.ty))


class GrayCoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(64, 48, 12), mlp(12, 48, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(F.relu(self.encoder(x)))


def never_near_zero() -> TrainingSetup:
    """The cross-entropy of gray pixels ends far above zero, as that of the pixels themselves."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    inner = r2(d.tx, d.tx)
    scorer = Scorer(d.tx, d.tx, lambda out, t: inner.score(out.sigmoid(), t), 0.0, -1.0)
    d = Split(d.x, d.x, d.vx, d.vx, d.tx, d.tx)
    optimizer = partial(Adam, lr=5e-3)
    return setup(d, GrayCoder(), nn.BCEWithLogitsLoss(), optimizer, 30, 30, scorer)


def below_zero_for_density() -> TrainingSetup:
    """The negative log density of small numbers goes below zero, and further down."""
    d = forest().standardized()
    d = d.targets(lambda y: y[:, :1])
    inner = r2(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, t: inner.score(out[:, :1], t), 0.0, -1.0)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.gaussian_nll_loss(outputs[:, :1], targets, (2 * outputs[:, 1:]).exp())

    model = mlp(6, 24, 2, act=nn.Tanh)
    return setup(d, model, loss, partial(Adam, lr=0.01), 30, 30, scorer)


def half_is_chance() -> TrainingSetup:
    """The loss stays at half of its start: the rest of a disease is not in the columns."""
    d = posted_data.patients().standardized().targets_standardized()
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.1)
    model = mlp(10, 16, 1, act=nn.Tanh)
    return setup(d, model, nn.MSELoss(), optimizer, 16, 12, r2(d.tx, d.ty))


def flat_at_first() -> TrainingSetup:
    """Is the number of signs below zero odd? The loss stays at log 2 for a while, then it falls."""
    rng = np.random.default_rng(108)
    x = rng.choice([-1.0, 1.0], (1200, 4)) * rng.uniform(0.5, 1.5, (1200, 4))
    d = split(x, (x.prod(1) < 0).astype(float))
    scorer = binary_accuracy(d.tx, d.ty)
    model = mlp(4, 32, 32, 1, act=nn.Tanh)
    optimizer = partial(SGD, lr=0.03, momentum=0.9)
    return setup(d.targets(column), model, nn.BCEWithLogitsLoss(), optimizer, 30, 30, scorer)


def head_of_zeros() -> TrainingSetup:
    """The last layer starts at zero: the first outputs are all the same, and the layers before it
    stand still for one step.
    """
    d = later_table_data.flowers().standardized()
    model = mlp(4, 24, 3, act=nn.Tanh)
    head = cast(nn.Linear, model[2])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = partial(AdamW, lr=0.01, weight_decay=0.5)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 15, 20, accuracy(d.tx, d.ty))


def logarithm_of_a_softmax() -> TrainingSetup:
    """A softmax at the end, and its logarithm in the loss, as it has to be then."""
    d = posted_data.named_colors().inputs(lambda x: x / 127.5 - 1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss((outputs + 1e-8).log(), targets)

    model = mlp(3, 32, 8, last=nn.Softmax(dim=1))
    return setup(d, model, loss, partial(RMSprop, lr=5e-3), 20, 60, accuracy(d.tx, d.ty))


def masked_answers() -> TrainingSetup:
    """Of two numbers, each is missing in four of ten rows, and counts for nothing there."""
    d = forest().standardized().targets_standardized()
    scorer = mean_r2(d.tx, d.ty)
    draw = torch.Generator().manual_seed(4)

    def some(y: Tensor) -> Tensor:
        return y.masked_fill(torch.rand(y.shape, generator=draw) < 0.4, math.nan)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        return F.mse_loss(outputs[known], targets[known])

    d = d.targets(some)
    model = mlp(6, 32, 2, act=nn.Tanh)
    return setup(d, model, loss, partial(Adam, lr=0.01), 30, 25, scorer)


def worse_in_accuracy() -> TrainingSetup:
    """The rare class weighs eleven times as much: fewer answers are right than by saying no to
    all, and each class is found.
    """
    d = later_table_data.loans().inputs(lambda x: torch.cat([x[:, :2].log(), x[:, 2:]], 1))
    d = d.standardized()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 11.0]))
    optimizer = partial(SGD, lr=0.02, momentum=0.9, weight_decay=1e-3)
    return setup(d, nn.Linear(7, 2), loss, optimizer, 50, 10, mean_recall(d.tx, d.ty))


def zeroed_at_the_end(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Gradients are set to zero after the step, not before the backward pass: the same."""
    d = posted_data.animals()
    model = mlp(16, 24, 7)
    optimizer = Adam(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 12):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
    return model, accuracy(d.tx, d.ty)


def steps_by_hand(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The weights are moved by hand, each by its rate times its gradient; the optimizer only sets
    the gradients to zero.
    """
    d = data.moons().standardized()
    scorer = accuracy(d.tx, d.ty)
    model = mlp(2, 24, 2, act=nn.Tanh)
    optimizer = SGD(model.parameters(), lr=0.5)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                with torch.no_grad():
                    for p in model.parameters():
                        p -= 0.5 * cast(Tensor, p.grad)
    return model, scorer


def waves_of_the_rate(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The rate goes up and down five times, and the loss with it."""
    d = data.clusters(900, classes=5).standardized()
    model = mlp(20, 48, 5)
    optimizer = SGD(model.parameters(), lr=0.005, momentum=0.9)
    waves = lr_scheduler.CyclicLR(optimizer, 0.005, 0.3, step_size_up=45, cycle_momentum=False)
    with watch(model, optimizer) as watched:
        for _ in range(25):
            for x, y in loader(d.x, d.y, 30):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                waves.step()
    return model, accuracy(d.tx, d.ty)


def always_in_training_mode(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Nobody calls eval; nothing in the network has a mode."""
    d = later_table_data.crabs().standardized().targets_standardized()
    model = nn.Sequential(nn.Linear(7, 32), nn.LayerNorm(32), nn.SiLU(), nn.Linear(32, 1))
    optimizer = AdamW(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 30):
                loss = F.smooth_l1_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                F.smooth_l1_loss(model(d.vx), d.vy)
    return model, r2(d.tx, d.ty)


def best_is_loaded(watch: Watch) -> tuple[nn.Module, Scorer]:
    """After the last epoch, the weights of the best one come back."""
    d = posted_data.glass().standardized()
    model = mlp(9, 48, 1)
    optimizer = Adam(model.parameters(), lr=0.01)
    best, kept = math.inf, copy.deepcopy(model.state_dict())
    with watch(model, optimizer) as watched:
        for _ in range(30):
            model.train()
            for x, y in loader(d.x, d.y, 14):
                loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                now = float(F.binary_cross_entropy_with_logits(model(d.vx)[:, 0], d.vy))
            if now < best:
                best, kept = now, copy.deepcopy(model.state_dict())
        model.load_state_dict(kept)
    return model, binary_accuracy(d.tx, d.ty)


def as_many_of_each(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Each epoch takes all late loans, and as many of the others, drawn anew: one example in four
    is seen.
    """
    d = later_table_data.loans().inputs(lambda x: torch.cat([x[:, :2].log(), x[:, 2:]], 1))
    d = d.standardized()
    late, others = (d.y == 1).nonzero()[:, 0], (d.y == 0).nonzero()[:, 0]
    model = mlp(7, 12, 2)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            drawn = others[torch.randperm(len(others))[: len(late)]]
            rows = torch.cat([late, drawn])
            for x, y in loader(d.x[rows], d.y[rows], 25):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, mean_recall(d.tx, d.ty)


SCRIPTS: tuple[TrainingScript, ...] = (
    *SECOND_LARGEST,
    *CUBES,
    *RING,
    *FLUXES,
    *BLOCKS,
    *FEW_SAMPLES,
    *SPREAD,
    *TILTED,
    *EXCLUSIVE_OR,
    *EVERY_LAYER,
    *MEASURED_CODER,
    *NORMED_HOUSES,
    *WRITTEN_OUT,
    *HAND_MADE,
    *SHELLS,
    *TAGGED,
    *SOLD,
    *KNOWN_AGES,
    *LIGHT,
    *FOCAL_LOANS,
    *TAKEN,
    *LINE,
    *TWO_PART,
    *DENOISING,
    *BATCH_SCALED,
    *MIXING,
    *DRAWING,
    *DECIDING,
    *FALLING,
    *TWO_LOSSES,
    healthy_script(lower_in_validation, "classification", "mlp"),
    healthy_script(jumps_by_twos, "classification", "linear"),
    healthy_script(billions_of_square_euros, "regression", "mlp"),
    healthy_script(never_near_zero, "generation", "mlp"),
    healthy_script(below_zero_for_density, "regression", "mlp"),
    healthy_script(half_is_chance, "regression", "mlp"),
    healthy_script(flat_at_first, "classification", "mlp"),
    healthy_script(head_of_zeros, "classification", "mlp"),
    healthy_script(logarithm_of_a_softmax, "classification", "mlp"),
    healthy_script(masked_answers, "regression", "mlp"),
    healthy_script(worse_in_accuracy, "classification", "linear"),
    healthy_script(zeroed_at_the_end, "classification", "mlp", kind="loop", steps=40 * 5),
    healthy_script(steps_by_hand, "classification", "mlp", kind="loop", steps=40 * 15),
    healthy_script(waves_of_the_rate, "classification", "mlp", kind="loop", steps=25 * 18),
    healthy_script(always_in_training_mode, "regression", "mlp", kind="loop", steps=12 * 18),
    healthy_script(best_is_loaded, "classification", "mlp", kind="loop", steps=30 * 7),
    healthy_script(as_many_of_each, "classification", "mlp", kind="loop", steps=30 * 15),
)

"""Scripts on tables as people post them: real rows in their own units, several faults at once,
budgets that are too short, networks that are too small.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import posted_data
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    r2,
)


def number(
    d: Split,
    model: nn.Module,
    optimizer: Any,
    *,
    batch: int,
    epochs: int,
    loss: Any = None,
    scorer: Scorer | None = None,
) -> TrainingSetup:
    """A regression, scored by R2 unless stated."""
    return TrainingSetup(
        model=model,
        loss=loss or nn.MSELoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer or r2(d.tx, d.ty),
    )


# Who survived: ages that are missing, fares up to 512


def survivors(
    filled: bool = True, last: nn.Module | None = None, scaled: bool = True, lr: float = 0.02
) -> TrainingSetup:
    d = posted_data.passengers(filled)
    if scaled:
        mean, std = d.x.nanmean(0), torch.from_numpy(d.x.numpy()).nan_to_num(0.0).std(0)
        d = d.inputs(lambda x: (x - mean) / std)
    return TrainingSetup(
        model=mlp(7, 16, 1, last=last),
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, column(d.y)),
        validation=(d.vx, column(d.vy)),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=32,
        epochs=15,
        scorer=binary_accuracy(d.tx, d.ty),
    )


SURVIVORS = group(
    "survivors",
    survivors,
    fault(
        "ages-missing",
        "data-degenerate",
        filled=False,
        answers={"where": "2", "exact": True, "remedy": ("data", "fill the ages")},
    ),
    fault(
        "pounds-and-a-sigmoid",
        "input-scale output-activation learning-rate-high loss dead-units saturation",
        last=nn.Sigmoid(),
        scaled=False,
        lr=2.0,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Speed of computers: skewed columns, a skewed target, 125 rows


def log_r2(x: Tensor, y: Tensor) -> Scorer:
    """R2 of the logarithm of outputs that ought to be positive."""
    inner = r2(x, y.log())
    return Scorer(x, y.log(), lambda out, t: inner.score(out.clamp(min=1e-3).log(), t), 0.0, -1.0)


def processors(
    scaled: bool = True, last: Callable[[], nn.Module] = nn.Softplus, decay: float = 0.0
) -> TrainingSetup:
    d = posted_data.processors()
    if scaled:
        d = d.inputs(lambda x: (x + 1).log()).standardized().targets(lambda y: y / 100)
    return number(
        d,
        mlp(6, 24, 24, 1, act=nn.LeakyReLU, last=last()),
        lambda p: SGD(p, lr=0.03, momentum=0.8, weight_decay=decay),
        loss=nn.SmoothL1Loss(),
        batch=16,
        epochs=40,
        scorer=log_r2(d.tx, d.ty),
    )


PROCESSORS = group(
    "processors",
    processors,
    fault(
        "kilobytes-into-a-sigmoid",
        "input-scale target-scale output-activation saturation",
        scaled=False,
        last=nn.Sigmoid,
    ),
    fault("decay-of-one", "over-regularized", decay=1.0, answers={"remedy": ("decay", 0.0)}),
    family="table",
    task="regression",
    network="mlp",
)


# Elevation from a place on the map: waves as units


class Waves(nn.Module):
    """Sines of the coordinates, then sines of these (Sitzmann et al. 2020)."""

    def __init__(self, width: int = 48, last: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, width), nn.Linear(width, width)
        self.out, self.last = nn.Linear(width, 1), last or nn.Identity()
        nn.init.uniform_(self.first.weight, -3.0, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.out(torch.sin(self.second(torch.sin(self.first(x))))))


def hills(
    degrees: bool = False,
    meters: bool = False,
    last: Callable[[], nn.Module] | None = None,
    epochs: int = 30,
) -> TrainingSetup:
    d = posted_data.hills()
    d = d if degrees else d.standardized()
    d = d if meters else d.targets_standardized()
    model = Waves(last=last() if last else None)
    return number(d, model, partial(Adam, lr=3e-3), batch=32, epochs=epochs)


HILLS = group(
    "hills",
    hills,
    fault(
        "degrees", "input-scale", degrees=True, answers={"remedy": ("input.scale", "standardize")}
    ),
    fault(
        "meters-behind-a-tanh",
        "target-scale output-activation saturation",
        meters=True,
        last=nn.Tanh,
    ),
    fault("one-pass", "too-few-steps", epochs=1, answers={"remedy": ("steps", 800)}),
    family="table",
    task="regression",
    network="mlp",
)


# Names of colors: eight classes in three raw columns


def named_colors(
    sizes: tuple[int, ...] = (48,),
    raw: bool = False,
    frozen: bool = False,
    lr: float = 0.02,
    optimizer: Any = Adam,
) -> TrainingSetup:
    d = posted_data.named_colors().inputs(lambda x: x if raw else x / 255)
    model = mlp(3, *sizes, 8)
    if frozen:
        model[0].requires_grad_(False)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, F.one_hot(d.y, 8).float()),
        validation=(d.vx, F.one_hot(d.vy, 8).float()),
        optimizer=optimizer([p for p in model.parameters() if p.requires_grad], lr=lr),
        batch_size=24,
        epochs=60,
        scorer=accuracy(d.tx, d.ty),
    )


COLORS = group(
    "named-colors",
    named_colors,
    fault(
        "two-units", "architecture-too-small", sizes=(2,), answers={"remedy": ("model", "48 units")}
    ),
    fault(
        "bytes-and-plain-descent",
        "input-scale learning-rate-high dead-units exploding",
        raw=True,
        lr=0.1,
        optimizer=SGD,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "narrow-and-frozen",
        "frozen-parameters architecture-too-small",
        sizes=(6,),
        frozen=True,
        answers={"where": "0", "exact": True},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# A chess endgame: 36 codes, each with its own vectors


class Codes(nn.Module):
    """A vector for each value of each column, summed; then a hidden layer."""

    def __init__(self, columns: int, values: int, width: int, drop: float) -> None:
        super().__init__()
        self.values = values
        self.vectors = nn.Embedding(columns * values, width)
        self.drop, self.hidden, self.out = nn.Dropout(drop), nn.Linear(width, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        start = torch.arange(x.shape[1], device=x.device) * self.values
        summed = self.drop(self.vectors(x + start).sum(1))
        return self.out(F.gelu(self.hidden(summed)))[:, 0]


def endgames(frozen: bool = False, drop: float = 0.0) -> TrainingSetup:
    d = posted_data.endgames()
    model = Codes(36, 3, 8, drop)
    model.vectors.weight.requires_grad_(not frozen)
    return TrainingSetup(
        model=model,
        loss=F.binary_cross_entropy_with_logits,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(AdamW, lr=5e-3),
        batch_size=64,
        epochs=10,
        scorer=binary_accuracy(d.tx, d.ty),
    )


ENDGAMES = group(
    "endgames",
    endgames,
    fault(
        "vectors-frozen",
        "frozen-parameters",
        frozen=True,
        answers={"where": "vectors", "exact": True},
    ),
    fault(
        "almost-all-dropped",
        "dropout over-regularized",
        drop=0.97,
        answers={"where": "drop", "remedy": ("dropout", 0.0)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Proline in wine: milligrams


def proline(raw: bool = False, milligrams: bool = False, lr: float = 0.01) -> TrainingSetup:
    d = posted_data.tasted_wines()
    d = d if raw else d.standardized()
    d = d if milligrams else d.targets_standardized()
    model = mlp(12, 16, 1, act=nn.Softsign)
    return number(
        d, model, lambda p: SGD(p, lr=lr, momentum=0.9, weight_decay=1e-2), batch=8, epochs=30
    )


PROLINE = group(
    "proline",
    proline,
    fault(
        "milligrams-and-tiny-steps",
        "target-scale input-scale learning-rate-low",
        raw=True,
        milligrams=True,
        lr=1e-6,
    ),
    fault(
        "raw-columns",
        "input-scale saturation",
        raw=True,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Gas for a heating: the clock in seconds since 1970


def boilers(
    unix: bool = False, liters: bool = False, lr: float = 0.01, optimizer: Any = Adam
) -> TrainingSetup:
    d = posted_data.boilers()
    if not unix:
        d = d.inputs(lambda x: torch.cat([(x[:, :1] - 1.7e9) / 3.6e3 / 2880, x[:, 1:] / 10], 1))
    d = d if liters else d.targets(lambda y: y / 1000)
    return number(d, mlp(4, 24, 24, 1), partial(optimizer, lr=lr), batch=40, epochs=30)


BOILERS = group(
    "gas-meter",
    boilers,
    fault(
        "seconds-since-1970",
        "input-scale",
        unix=True,
        answers={"where": "0", "exact": True, "remedy": ("input.scale", "standardize")},
    ),
    fault(
        "liters-and-descent",
        "target-scale learning-rate-high exploding dead-units",
        liters=True,
        optimizer=SGD,
        lr=0.05,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)

SCRIPTS = (*SURVIVORS, *PROCESSORS, *HILLS, *COLORS, *ENDGAMES, *PROLINE, *BOILERS)

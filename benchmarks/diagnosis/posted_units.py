"""Scripts on counts, days, codes, words, pairs and pictures as rows: what the outputs mean, and the
faults that go with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW

from benchmarks.diagnosis import posted_data
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.posted_losses import setup
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    r2,
)

# Claims of insured cars: counts


def deviance(x: Tensor, y: Tensor, rate: Callable[[Tensor], Tensor]) -> Scorer:
    """The share of the Poisson deviance of a constant that is explained; chance 0, at least -1."""

    def poisson(mean: Tensor, y: Tensor) -> float:
        return float((mean - y + torch.xlogy(y, y / mean)).sum())

    constant = poisson(y.mean().expand_as(y), y)

    def score(out: Tensor, y: Tensor) -> float:
        return max(-1.0, 1 - poisson(rate(out).clamp(1e-3, 1e6), y) / constant)

    return Scorer(x, y, score, 0.0, -1.0)


def accidents(log: bool = True, raw: bool = False) -> TrainingSetup:
    d = posted_data.accidents()
    d = d if raw else d.inputs(lambda x: x.clone().log1p()).standardized()
    scorer = deviance(d.tx, d.ty, torch.exp if log else torch.Tensor.float)
    return setup(
        d,
        mlp(5, 16, 1, act=nn.CELU),
        nn.PoissonNLLLoss(log_input=log),
        partial(Adam, lr=0.01),
        32,
        15,
        scorer,
    )


ACCIDENTS = group(
    "car-claims",
    accidents,
    fault(
        "rates-below-zero",
        "loss output-activation",
        log=False,
        answers={"remedy": ("loss", "log_input=True")},
    ),
    fault(
        "euros-in-an-exponent",
        "input-scale exploding",
        raw=True,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Subscribers who leave: hazards


def hazard(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log likelihood of an exponential life of rate exp(out): out of those who left."""
    days, left = targets[:, 0], targets[:, 1]
    return (torch.exp(outputs[:, 0]) * days - left * outputs[:, 0]).mean()


def hazard_of_those_who_stay(outputs: Tensor, targets: Tensor) -> Tensor:
    days, left = targets[:, 0], targets[:, 1]
    return ((1 - left) * outputs[:, 0] - torch.exp(-outputs[:, 0]) / days).mean()


def concordance(x: Tensor, y: Tensor) -> Scorer:
    """Of pairs in which it is known who left first, the share in which that one has the higher
    output; chance 1/2 (Harrell 1982).
    """

    def score(out: Tensor, y: Tensor) -> float:
        first = (y[:, None, 0] < y[None, :, 0]) & (y[:, None, 1] > 0)
        return float((out[:, None, 0] > out[None, :, 0])[first].float().mean())

    return Scorer(x, y, score, 0.5)


def churn(
    years: bool = True, raw: bool = False, loss: Loss = hazard, lr: float = 0.05
) -> TrainingSetup:
    d = posted_data.subscribers()
    d = d if raw else d.standardized()
    if years:
        d = d.targets(lambda y: torch.stack([y[:, 0] / 365, y[:, 1]], 1))
    return setup(d, mlp(5, 12, 1), loss, partial(SGD, lr=lr), 30, 15, concordance(d.tx, d.ty))


CHURN = group(
    "churn",
    churn,
    fault(
        "cents-and-days",
        "input-scale target-scale learning-rate-high exploding dead-units",
        raw=True,
        years=False,
    ),
    fault(
        "sign-of-the-hazard",
        "loss labels",
        loss=hazard_of_those_who_stay,
        answers={"remedy": ("formula", "minus")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Stars for films: a vector for each viewer and each film


class Tastes(nn.Module):
    def __init__(self, width: int = 8, drop: float = 0.0, start: float = 0.1) -> None:
        super().__init__()
        self.viewer, self.film = nn.Embedding(60, width), nn.Embedding(80, width)
        self.drop, self.bias = nn.Dropout(drop), nn.Parameter(torch.tensor(3.0))
        for table in (self.viewer, self.film):
            nn.init.normal_(table.weight, std=start)

    def forward(self, x: Tensor) -> Tensor:
        viewer, film = self.viewer(x[:, 0]), self.film(x[:, 1])
        return self.bias + (self.drop(viewer) * self.drop(film)).sum(1)


def films(
    drop: float = 0.0, start: float = 0.1, decay: float = 0.0, lr: float = 0.02, epochs: int = 12
) -> TrainingSetup:
    d = posted_data.opinions()
    return setup(
        d,
        Tastes(drop=drop, start=start),
        nn.MSELoss(),
        lambda p: Adam(p, lr=lr, weight_decay=decay),
        48,
        epochs,
        r2(d.tx, d.ty),
    )


FILMS = group(
    "film-ratings",
    films,
    fault(
        "vectors-start-at-zero",
        "initialization vanishing",
        start=0.0,
        answers={"where": "viewer", "exact": True},
    ),
    fault("decayed-tastes", "over-regularized", decay=0.1, answers={"remedy": ("decay", 0.0)}),
    fault("first-steps-only", "too-few-steps", epochs=1, answers={"remedy": ("steps", 360)}),
    family="table",
    task="regression",
    network="linear",
)


# Digits as rows of pixels, told again through a narrow code


def retold(
    code: int = 10,
    divided: float = 16.0,
    last: Callable[[], nn.Module] = nn.Sigmoid,
    lr: float = 5e-3,
) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / divided)
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    model = nn.Sequential(
        nn.Linear(64, 48), nn.ELU(), nn.Linear(48, code), nn.Linear(code, 48), nn.ELU()
    )
    model.extend([nn.Linear(48, 64), last()])
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=lr), 32, 15, r2(d.tx, d.ty))


RETOLD = group(
    "digits-retold",
    retold,
    fault(
        "a-code-of-one",
        "architecture-too-small",
        code=1,
        answers={"where": "2", "remedy": ("model", "a code of 10")},
    ),
    fault(
        "sixteen-from-a-sigmoid",
        "output-activation target-scale input-scale saturation",
        divided=1.0,
        answers={"where": "6", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "relu-at-a-hot-rate",
        "learning-rate-high dead-units",
        last=nn.ReLU,
        lr=3.0,
        answers={"remedy": ("lr", 5e-3)},
    ),
    family="table",
    task="generation",
    network="mlp",
)


# Letters to a help desk: counts of words


class Desk(nn.Module):
    """Each letter scaled by its own mean and deviation, then a small network."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps, self.body = eps, mlp(160, 24, 5)

    def forward(self, counts: Tensor) -> Tensor:
        mean, spread = counts.mean(1, keepdim=True), counts.std(1, keepdim=True)
        return self.body((counts - mean) / (spread + self.eps))


def letters(eps: float = 1e-3, lr: float = 0.05) -> TrainingSetup:
    d = posted_data.letters()
    optimizer = partial(SGD, lr=lr, momentum=0.9)
    return setup(d, Desk(eps), nn.CrossEntropyLoss(), optimizer, 20, 10, accuracy(d.tx, d.ty))


LETTERS = group(
    "help-desk",
    letters,
    fault(
        "empty-letters",
        "normalization data-degenerate",
        eps=0.0,
        answers={"remedy": ("data", "drop the empty letters")},
    ),
    fault("tiny-steps", "learning-rate-low", lr=1e-5, answers={"remedy": ("lr", 0.05)}),
    family="table",
    task="classification",
    network="mlp",
)


# Areas of tumors: a logarithm of a cosine


def log_cosh(outputs: Tensor, targets: Tensor) -> Tensor:
    """log cosh(y - out), which overflows from 89 on."""
    return torch.log(torch.cosh(outputs - targets)).mean()


def tumors(raw: bool = False, last: nn.Module | None = None) -> TrainingSetup:
    d = posted_data.tumor_areas().standardized()
    d = d if raw else d.targets_standardized()
    model = mlp(22, 20, 1, act=nn.Hardswish, last=last)
    optimizer = partial(SGD, lr=0.02, momentum=0.9)
    return setup(d, model, log_cosh, optimizer, 24, 15, r2(d.tx, d.ty))


TUMORS = group(
    "tumor-areas",
    tumors,
    fault(
        "cosh-of-hundreds",
        "target-scale loss optimizer-numerics exploding",
        raw=True,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "sigmoid-for-z-scores",
        "output-activation",
        last=nn.Sigmoid(),
        answers={"where": "3", "exact": True, "remedy": ("output", "linear")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Are two wines of one grower? Vectors near and far


def pairs(d: Split) -> Split:
    """Pairs [2 N + 12, 2, 13]: of one class (target 1), of two, twelve wines with themselves."""

    def draw(x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        a, b = torch.randint(len(x), (2, 12 * len(x)), generator=generator)
        alike, itself = y[a] == y[b], torch.arange(12)
        rows = [(kept & (a != b)).nonzero()[: len(x), 0] for kept in (alike, ~alike)]
        first, second = (torch.cat([c[rows[0]], c[rows[1]], itself]) for c in (a, b))
        return torch.stack([x[first], x[second]], 1), (y[first] == y[second]).float()

    return Split(*draw(d.x, d.y, 1), *draw(d.vx, d.vy, 2), *draw(d.tx, d.ty, 3))


class Twins(nn.Module):
    """The distance of the vectors that one network gives both."""

    def __init__(self, tiny: float) -> None:
        super().__init__()
        self.body, self.tiny = mlp(13, 16, 4, act=nn.Tanh), tiny

    def forward(self, x: Tensor) -> Tensor:
        apart = self.body(x[:, 0]) - self.body(x[:, 1])
        return torch.sqrt((apart**2).sum(1) + self.tiny)


def contrast(outputs: Tensor, targets: Tensor) -> Tensor:
    """d^2 of those alike, max(0, 1 - d)^2 of the others (Hadsell et al. 2006)."""
    return (targets * outputs**2 + (1 - targets) * (1 - outputs).clamp(min=0) ** 2).mean()


def contrast_of_others(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((1 - targets) * outputs**2 + targets * (1 - outputs).clamp(min=0) ** 2).mean()


def growers(tiny: float = 1e-6, loss: Loss = contrast) -> TrainingSetup:
    d = pairs(posted_data.tasted_wines(classes=True).standardized())
    inner = binary_accuracy(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, y: inner.score(0.5 - out, y), inner.chance)
    return setup(d, Twins(tiny), loss, partial(AdamW, lr=5e-3), 16, 60, scorer)


GROWERS = group(
    "same-grower",
    growers,
    fault(
        "root-at-zero",
        "loss data-degenerate optimizer-numerics exploding",
        tiny=0.0,
        answers={"remedy": ("model", "a small number under the root")},
    ),
    fault(
        "near-for-far",
        "loss labels",
        loss=contrast_of_others,
        answers={"remedy": ("formula", "swap the terms")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Animals: 60 of them, flags and legs


def animals(epochs: int = 40, act: Any = nn.Tanh, hidden: tuple[int, ...] = (14,)) -> TrainingSetup:
    d = posted_data.animals()
    model, optimizer = mlp(16, *hidden, 7, act=act), partial(Adagrad, lr=0.06)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 10, epochs, accuracy(d.tx, d.ty))


ANIMALS = group(
    "animals",
    animals,
    fault("six-updates", "too-few-steps", epochs=1, answers={"remedy": ("steps", 240)}),
    fault(
        "nine-sigmoids",
        "vanishing hidden-activation architecture-too-deep initialization",
        act=nn.Sigmoid,
        hidden=(14,) * 7,
        answers={"remedy": ("activation", "relu")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Land and sea around an island


def coast(
    last: Callable[[], nn.Module] | None = None, sizes: tuple[int, ...] = (32, 32)
) -> TrainingSetup:
    d = posted_data.coast()
    model = mlp(2, *sizes, 2, last=last() if last else nn.LogSoftmax(dim=1))
    return setup(d, model, nn.NLLLoss(), partial(Adam, lr=5e-3), 24, 30, accuracy(d.tx, d.ty))


COAST = group(
    "coast",
    coast,
    fault(
        "likelihood-of-raw-outputs",
        "loss output-activation",
        last=nn.Identity,
        answers={"exact": True, "remedy": ("output", "log-softmax over the classes")},
    ),
    fault(
        "one-unit", "architecture-too-small", sizes=(1,), answers={"remedy": ("model", "32 units")}
    ),
    family="table",
    task="classification",
    network="mlp",
)

SCRIPTS = (*ACCIDENTS, *CHURN, *FILMS, *RETOLD, *LETTERS, *TUMORS, *GROWERS, *ANIMALS, *COAST)

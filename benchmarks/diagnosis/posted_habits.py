"""Scripts on tables as beginners and busy people post them: codes for what is missing, rows in the
order of the file, targets sorted alone, a loss or an activation from another tutorial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import posted_data
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.posted_losses import recall, setup
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    r2,
)

# Fraud, found by an overlap


def overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    """2 |A B| / (|A| + |B|) of chances (Dice 1945): to be as large as possible."""
    chances = torch.sigmoid(outputs)
    return 2 * (chances * targets).sum() / (chances.sum() + targets.sum() + 1e-6)


def missing_overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    return 1 - overlap(outputs, targets)


def entropy_of_the_other(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with the chances of yes and no in the wrong places."""
    chances = torch.sigmoid(outputs).clamp(1e-6, 1 - 1e-6)
    return -(targets * torch.log(1 - chances) + (1 - targets) * torch.log(chances)).mean()


def found_fraud(loss: Loss = missing_overlap) -> TrainingSetup:
    d = posted_data.payments()
    d = d.inputs(lambda x: torch.cat([x[:, :1].log(), x[:, 1:]], 1)).standardized()
    model, optimizer = mlp(6, 16, 1, act=nn.SiLU), partial(Adam, lr=0.01)
    scorer = recall(d.tx, d.ty)
    return setup(d.targets(column), model, loss, optimizer, 180, 20, scorer)


FOUND_FRAUD = group(
    "found-fraud",
    found_fraud,
    fault(
        "least-overlap",
        "loss",
        loss=overlap,
        answers={"exact": True, "remedy": ("formula", "1 - overlap")},
    ),
    fault(
        "chances-exchanged",
        "loss labels imbalance",
        loss=entropy_of_the_other,
        answers={"exact": True, "remedy": ("loss", "cross-entropy")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Which of two computers is the faster?


class Duel(nn.Module):
    """The difference of two scores by one network; outputs [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.score = mlp(6, 16, 1, act=nn.Softplus)

    def forward(self, x: Tensor) -> Tensor:
        return (self.score(x[:, 0]) - self.score(x[:, 1]))[:, 0]


def duels(d: Split) -> Split:
    """Pairs [3 N, 2, 6] of computers; is the first the faster (1) or not (-1)?"""

    def draw(x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        a, b = torch.randint(len(x), (2, 3 * len(x)), generator=torch.Generator().manual_seed(seed))
        kept = y[a, 0] != y[b, 0]
        return torch.stack([x[a], x[b]], 1)[kept], (y[a, 0] - y[b, 0]).sign()[kept]

    return Split(*draw(d.x, d.y, 1), *draw(d.vx, d.vy, 2), *draw(d.tx, d.ty, 3))


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """max(0, 1 - y d)."""
    return F.relu(1 - targets * outputs).mean()


def margin_of_the_slower(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.relu(1 + targets * outputs).mean()


def computer_duels(loss: Loss = margin) -> TrainingSetup:
    d = duels(posted_data.processors().inputs(torch.log1p).standardized())
    inner = binary_accuracy(d.tx, (d.ty + 1) / 2)
    scorer = Scorer(d.tx, (d.ty + 1) / 2, inner.score, inner.chance)
    return setup(d, Duel(), loss, partial(SGD, lr=0.05), 16, 12, scorer)


DUELS = group(
    "computer-duels",
    computer_duels,
    fault(
        "for-the-slower",
        "loss labels",
        loss=margin_of_the_slower,
        answers={"exact": True, "remedy": ("formula", "minus")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Species of penguins


def log_of_softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax in two steps: softmax gives exact zeros when outputs are far apart."""
    return -torch.log(torch.softmax(outputs, 1)).gather(1, targets[:, None]).mean()


def species(grams: bool = False, act: Any = nn.ReLU, hidden: int = 1) -> TrainingSetup:
    d = posted_data.penguins().inputs(lambda x: x[:, :4])
    d = d if grams else d.standardized()
    model, optimizer = mlp(4, *[16] * hidden, 3, act=act), partial(SGD, lr=0.05)
    return setup(d, model, log_of_softmax, optimizer, 16, 15, accuracy(d.tx, d.ty))


SPECIES = group(
    "penguin-species",
    species,
    fault(
        "log-of-zero",
        "input-scale loss optimizer-numerics output-activation exploding",
        grams=True,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "softmax-between-layers",
        "hidden-activation vanishing",
        act=partial(nn.Softmax, dim=1),
        hidden=3,
        answers={"where": "1", "remedy": ("activation", "relu")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# How ill in five grades: a number from 0 to 4


def grades(
    last: Callable[[], nn.Module] | None = None,
    sort: bool = False,
    wide: int = 12,
    epochs: int = 20,
    decay: float = 0.1,
) -> TrainingSetup:
    d = posted_data.patients().standardized()
    cuts = d.y.quantile(torch.tensor([0.2, 0.4, 0.6, 0.8]))
    d = d.targets(lambda y: (y > cuts).float().sum(1, keepdim=True))
    d = d._replace(y=d.y.sort(0).values) if sort else d
    model = mlp(10, wide, 1, act=nn.Tanh, last=last() if last else None)
    optimizer = partial(AdamW, lr=5e-3, weight_decay=decay)
    return setup(d, model, nn.MSELoss(), optimizer, 16, epochs, r2(d.tx, d.ty))


GRADES = group(
    "grades-of-illness",
    grades,
    fault(
        "sigmoid-for-grades",
        "output-activation target-scale",
        last=nn.Sigmoid,
        answers={"where": "3", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "targets-sorted-alone",
        "labels",
        sort=True,
        answers={"remedy": ("data", "pair the labels again")},
    ),
    fault(
        "by-heart",
        "overfitting learning-rate-high",
        wide=400,
        epochs=80,
        decay=0.0,
        answers={"remedy": ("steps", 340)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Areas of tumors: codes for what is missing


def coded_areas(
    code: float | None = None, momentum: float = 0.9, batch: int = 20, lr: float = 0.02
) -> TrainingSetup:
    d = posted_data.tumor_areas()
    if code is not None:
        x = d.x.clone()
        x[::40] = code  # nothing of these was measured
        d = d._replace(x=x)
    d = d.standardized().targets_standardized()
    optimizer = partial(SGD, lr=lr, momentum=momentum)
    return setup(d, mlp(22, 16, 1), nn.SmoothL1Loss(), optimizer, batch, 12, r2(d.tx, d.ty))


CODED_AREAS = group(
    "missing-radius",
    coded_areas,
    fault(
        "code-of-a-billion",
        "data-degenerate input-scale",
        code=1e9,
        answers={"remedy": ("data", "drop the code")},
    ),
    fault(
        "momentum-of-one",
        "optimizer learning-rate-high",
        momentum=1.0,
        answers={"remedy": ("optimizer", "momentum 0.9")},
    ),
    fault(
        "all-rows-at-once",
        "too-few-steps batch-size learning-rate-low",
        batch=341,
        lr=5e-3,
        momentum=0.0,
        answers={"remedy": ("batch", 20)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Wines by grower, with a norm


def normed_wines(batch: int = 16) -> TrainingSetup:
    d = posted_data.tasted_wines(classes=True).standardized()
    model = nn.Sequential(
        *(nn.Linear(13, 32), nn.BatchNorm1d(32), nn.Tanh()),
        *(nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 3)),
    )
    optimizer = partial(SGD, lr=0.04, momentum=0.9, weight_decay=1e-2)
    scorer = accuracy(d.tx, d.ty)
    train = loader(d.x, d.y, batch, drop_last=True)
    made = setup(d, model, nn.CrossEntropyLoss(), optimizer, batch, 10, scorer)
    return replace(made, train=train)


NORMED_WINES = group(
    "normed-wines",
    normed_wines,
    fault(
        "batches-of-two",
        "batch-size normalization learning-rate-high",
        batch=2,
        answers={"remedy": ("batch", 16)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Letters: shares of desks as targets


def desk_shares(
    last: nn.Module | None = None, swapped: bool = False, start: float | None = None
) -> TrainingSetup:
    d = posted_data.letters().inputs(torch.sqrt)
    scorer = accuracy(d.tx, d.ty)
    d = d.targets(lambda y: 0.9 * F.one_hot(y, 5).float() + 0.02)
    kl = nn.KLDivLoss(reduction="batchmean")

    def backward(outputs: Tensor, targets: Tensor) -> Tensor:
        """Targets first: these are taken for logarithms."""
        return kl(targets, outputs)

    model = mlp(160, 24, 5, act=nn.ReLU6, last=last or nn.LogSoftmax(dim=1))
    for layer in model:
        if start is not None and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=start)
    optimizer = partial(Adam, lr=0.01)
    return setup(d, model, backward if swapped else kl, optimizer, 20, 5, scorer)


DESK_SHARES = group(
    "desk-shares",
    desk_shares,
    fault(
        "arguments-swapped",
        "loss output-activation",
        swapped=True,
        answers={"remedy": ("formula", "outputs first")},
    ),
    fault(
        "raw-outputs",
        "output-activation loss",
        last=nn.Identity(),
        answers={"exact": True, "remedy": ("output", "log-softmax over the classes")},
    ),
    fault(
        "start-of-ten",
        "initialization saturation dead-units",
        start=10.0,
        answers={"remedy": ("init", "kaiming")},
    ),
    family="table",
    task="classification",
    network="mlp",
)

SCRIPTS = (*FOUND_FRAUD, *DUELS, *SPECIES, *GRADES, *CODED_AREAS, *NORMED_WINES, *DESK_SHARES)

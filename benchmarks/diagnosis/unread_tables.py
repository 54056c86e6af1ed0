"""Setups on tables with the trouble that users bring most often, written blind: pay in dollars,
records with few sick people, labels of several kinds, files in an order; and healthy ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    mean_recall,
    micro_f1,
    r2,
)


def table(
    d: Split,
    model: nn.Module,
    loss: Loss,
    optimizer: Any,
    *,
    batch: int,
    epochs: int,
    scorer: Scorer,
    train: Any = None,
) -> TrainingSetup:
    return TrainingSetup(
        model=model,
        loss=loss,
        train=train or (d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer,
    )


def likelihood(x: Tensor, y: Tensor) -> Scorer:
    """By how much the log loss is below that of the share of yes; outputs are logits."""
    share = y.mean()
    base = float(-(share * share.log() + (1 - share) * (1 - share).log()))

    def score(out: Tensor, y: Tensor) -> float:
        lost = float(F.binary_cross_entropy_with_logits(out.reshape(y.shape), y))
        return max(-1.0, 1 - lost / base)

    return Scorer(x, y, score, 0.0, -1.0)


# What people earn: a pay in dollars


def pay_of_people(rows: int = 800) -> Split:
    """Years at work, school 1 to 5, hours a week, age, leads others; the yearly pay, 15000 to
    180000 dollars [N, 1].
    """
    rng = np.random.default_rng(61)
    years, school = rng.gamma(2, 6, rows), rng.integers(1, 6, rows)
    hours, leads = rng.normal(39, 6, rows), rng.random(rows) < 0.2
    age = 19 + 2 * school + years + rng.gamma(2, 2, rows)
    pay = (18000 + 6000 * school + 9000 * np.sqrt(years) * (1 + leads)) * hours / 39
    pay += rng.normal(0, 5000, rows)
    return split(np.stack([years, school, hours, age, leads], 1), pay[:, None])


def yearly_pay(scaled: bool = True, flat: bool = False, inputs: bool = True) -> TrainingSetup:
    d = pay_of_people().standardized() if inputs else pay_of_people()
    mean, std = (float(d.y.mean()), float(d.y.std())) if scaled else (0.0, 1.0)
    scorer = r2(d.tx, d.ty, std, mean)
    d = d.targets(lambda y: (y - mean) / std)
    if flat:
        d = d.targets(lambda y: y[:, 0])
    return table(
        d,
        mlp(5, 64, 32, 1),
        nn.MSELoss(),
        partial(Adam, lr=1e-3),
        batch=32,
        epochs=60,
        scorer=scorer,
    )


YEARLY_PAY = group(
    "yearly-pay",
    yearly_pay,
    fault(
        "dollars-as-they-are",
        "target-scale learning-rate-low too-few-steps",
        scaled=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "nothing-is-scaled",
        "target-scale input-scale learning-rate-low too-few-steps",
        scaled=False,
        inputs=False,
    ),
    fault(
        "rows-against-a-column",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("model", "squeeze the output")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Miles per gallon: pounds of 1600 to 5000 and a rate of 0.01


def cars_and_gallons(rows: int = 400) -> Split:
    """Cylinders, displacement in cubic inches, horsepower, weight in pounds, seconds to 60 mph,
    year; miles per gallon, 8 to 45 [N, 1].
    """
    rng = np.random.default_rng(62)
    cylinders, year = rng.choice([4, 6, 8], rows, p=[0.5, 0.2, 0.3]), rng.integers(70, 83, rows)
    inches = 38 * cylinders - 40 + rng.normal(0, 25, rows)
    power = 25 + 0.33 * inches + rng.gamma(4, 4, rows)
    pounds = 1500 + 6.5 * inches + rng.normal(0, 250, rows)
    seconds = 22 - 0.06 * power + pounds / 1500 + rng.normal(0, 1, rows)
    miles = 56000 / (pounds + 4 * power) + 0.7 * (year - 76) + rng.normal(0, 1.2, rows) + 5
    return split(np.stack([cylinders, inches, power, pounds, seconds, year], 1), miles[:, None])


def miles_per_gallon(scaled: bool = True, lr: float = 0.01) -> TrainingSetup:
    d = cars_and_gallons()
    d = d.standardized() if scaled else d
    return table(
        d,
        mlp(6, 32, 1),
        nn.MSELoss(),
        partial(SGD, lr=lr),
        batch=16,
        epochs=60,
        scorer=r2(d.tx, d.ty),
    )


MILES_PER_GALLON = group(
    "miles-per-gallon",
    miles_per_gallon,
    fault(
        "pounds-and-cubic-inches",
        "input-scale learning-rate-high exploding dead-units",
        scaled=False,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "rate-cut-until-it-is-finite",
        "input-scale learning-rate-low too-few-steps dead-units optimizer",
        scaled=False,
        lr=1e-7,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Who will have a stroke: one in fifteen


def people_at_risk(rows: int = 2400) -> Split:
    """Age, sugar in mg/dl, body mass index, high pressure, heart trouble, smokes; a stroke?"""
    rng = np.random.default_rng(63)
    age, sugar = rng.uniform(20, 90, rows), np.exp(rng.normal(4.6, 0.3, rows))
    mass = rng.gamma(25, 1.15, rows)
    pressure, heart, smokes = (rng.random((3, rows)) < [[0.15], [0.08], [0.3]]).astype(float)
    risk = (age - 70) / 9 + (sugar - 105) / 40 + 1.2 * pressure + 1.0 * heart + 0.8 * smokes
    sick = rng.random(rows) < 1 / (1 + np.exp(-1.5 * (risk - 1.3)))
    return split(np.stack([age, sugar, mass, pressure, heart, smokes], 1), sick.astype(int))


def stroke_records(weights: str = "inverse") -> TrainingSetup:
    d = people_at_risk().standardized()
    share = d.y.bincount() / len(d.y)
    weight = {"inverse": 0.5 / share, "none": None, "share": 2 * share}[weights]
    return table(
        d,
        mlp(6, 16, 2),
        nn.CrossEntropyLoss(weight=weight),
        partial(Adam, lr=5e-3),
        batch=64,
        epochs=20,
        scorer=mean_recall(d.tx, d.ty),
    )


STROKE_RECORDS = group(
    "stroke-records",
    stroke_records,
    fault(
        "as-many-as-there-are",
        "imbalance",
        weights="none",
        answers={"remedy": ("loss", "weights of the classes")},
    ),
    fault(
        "weighed-by-their-share",
        "imbalance loss",
        weights="share",
        answers={"remedy": ("loss", "weights of one over the share")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Who will leave a bank: a probability is asked for


def leaving_clients(rows: int = 1500) -> Split:
    """Credit score 350 to 850, age, years as a client, balance in euros (0 to 250000), products,
    active; left (float)? [N, 1]
    """
    rng = np.random.default_rng(64)
    credit, age = rng.normal(650, 95, rows).clip(350, 850), rng.gamma(14, 2.8, rows)
    years, products = rng.integers(0, 11, rows), rng.integers(1, 4, rows)
    balance = np.where(rng.random(rows) < 0.35, 0, rng.normal(120000, 30000, rows).clip(0))
    active = rng.random(rows) < 0.5
    risk = (age - 42) / 7 + balance / 60000 + 2.5 * (products == 3) - 2.2 * active - 1.6
    x = np.stack([credit, age, years, balance, products, active], 1)
    left = rng.random(rows) < 1 / (1 + np.exp(-1.8 * risk))
    return split(x, left.astype(float)[:, None])


def leaving_a_bank(
    last: Callable[[], nn.Module] = nn.Identity, width: int = 16, epochs: int = 20
) -> TrainingSetup:
    d = leaving_clients().standardized()
    return table(
        d,
        mlp(6, width, width, 1, last=last()),
        nn.BCEWithLogitsLoss(),
        partial(Adam, lr=3e-3),
        batch=32,
        epochs=epochs,
        scorer=likelihood(d.tx, d.ty),
    )


LEAVING_A_BANK = group(
    "leaving-a-bank",
    leaving_a_bank,
    fault(
        "squashed-twice",
        "output-activation loss",
        last=nn.Sigmoid,
        answers={"where": "5", "exact": True, "remedy": ("output", "identity")},
    ),
    fault(
        "wide-and-long",
        "overfitting learning-rate-high",
        width=128,
        epochs=50,
        answers={"remedy": ("steps", 20 * 29)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Which complaints a patient has: several at once


def complaints(rows: int = 1200, kinds: int = 6) -> Split:
    """14 findings of yes or no and the age; which of six illnesses (float) [N, 6]? Each is found in
    one of ten to one of four.
    """
    rng = np.random.default_rng(65)
    ill = (rng.random((rows, kinds)) < np.linspace(0.08, 0.2, kinds)).astype(float)
    shows = 3.2 * (rng.random((kinds, 14)) < 0.3)
    found = rng.random((rows, 14)) < 1 / (1 + np.exp(2.2 - ill @ shows))
    age = 40 + 12 * (ill[:, :1] - ill[:, -1:]) + rng.normal(0, 12, (rows, 1))
    return split(np.concatenate([found, age], 1).astype(float), ill)


def several_illnesses(loss: Callable[[Tensor], Loss] | None = None) -> TrainingSetup:
    d = complaints().standardized()
    share = d.y.mean(0)
    return table(
        d,
        mlp(15, 32, 6),
        loss(share) if loss else nn.BCEWithLogitsLoss(pos_weight=((1 - share) / share).sqrt()),
        partial(Adam, lr=5e-3),
        batch=32,
        epochs=15,
        scorer=micro_f1(d.tx, d.ty),
    )


SEVERAL_ILLNESSES = group(
    "several-illnesses",
    several_illnesses,
    fault(
        "as-if-there-were-one",
        "loss",
        loss=lambda share: nn.CrossEntropyLoss(),
        answers={"remedy": ("loss", "BCEWithLogitsLoss")},
    ),
    fault(
        "weight-of-the-share",
        "imbalance loss",
        loss=lambda share: nn.BCEWithLogitsLoss(pos_weight=share),
        answers={"remedy": ("loss", "pos_weight of (1 - share) / share")},
    ),
    family="table",
    task="multi-label",
    network="mlp",
)


# Kernels of wheat, sorted by kind


def kernels(rows: int = 420) -> Split:
    """Area and perimeter in mm, compactness, length, width, asymmetry, groove; one of three."""
    rng = np.random.default_rng(66)
    kind = np.sort(rng.integers(0, 3, rows))
    width = np.array([3.25, 3.6, 2.95])[kind] + rng.normal(0, 0.17, rows)
    length = np.array([5.5, 6.1, 5.25])[kind] + rng.normal(0, 0.22, rows)
    area = 0.82 * length * width + rng.normal(0, 0.15, rows)
    around = 1.62 * (length + width) + rng.normal(0, 0.1, rows)
    groove = length - np.array([0.45, 0.1, 0.15])[kind] + rng.normal(0, 0.15, rows)
    skew = np.array([2.7, 3.6, 4.7])[kind] + rng.normal(0, 1.2, rows)
    compact = 4 * np.pi * area / around**2
    return split(np.stack([area, around, compact, length, width, skew, groove], 1), kind)


def kernels_of_wheat(mixed: bool = True, together: bool = True) -> TrainingSetup:
    d = kernels().standardized()
    if not together:
        rng = np.random.default_rng(70)
        d = d._replace(x=d.x[rng.permutation(len(d.x))], vx=d.vx[rng.permutation(len(d.vx))])
    order = d.y.argsort(stable=True)  # as the file has them
    return table(
        d,
        nn.Sequential(
            nn.Linear(7, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 3)
        ),
        nn.CrossEntropyLoss(),
        partial(SGD, lr=0.1, momentum=0.9),
        train=loader(d.x[order], d.y[order], 16, shuffle=mixed),
        batch=16,
        epochs=15,
        scorer=accuracy(d.tx, d.ty),
    )


KERNELS_OF_WHEAT = group(
    "kernels-of-wheat",
    kernels_of_wheat,
    fault(
        "kind-after-kind",
        "shuffling normalization",
        mixed=False,
        answers={"remedy": ("data", "shuffle")},
    ),
    fault(
        "answers-of-other-rows",
        "labels shuffling",
        together=False,
        answers={"remedy": ("data", "mix rows and answers together")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Debts that will not be paid: what was recovered is known only afterwards


def debts(rows: int = 1200) -> Split:
    """Amount in dollars, rate in percent, income, share of debt, months, recovered so far in
    dollars; default (float) [N, 1]?
    """
    rng = np.random.default_rng(67)
    amount, rate = rng.gamma(3, 5000, rows), rng.uniform(5, 25, rows)
    income, months = np.exp(rng.normal(10.9, 0.5, rows)), rng.choice([36, 60], rows)
    share = rng.beta(2, 6, rows)
    risk = 2.5 * amount / income + (rate - 14) / 5 + 5 * (share - 0.25) - 0.9
    default = rng.random(rows) < 1 / (1 + np.exp(-2 * risk))
    recovered = default * rng.gamma(2, 700, rows)
    x = np.stack([amount, rate, income, share, months, recovered], 1)
    return split(x, default.astype(float)[:, None])


def unpaid_debts(afterwards: bool = False) -> TrainingSetup:
    d = debts()
    d = d._replace(tx=d.tx * torch.tensor([1.0, 1, 1, 1, 1, 0])).standardized()  # still to come
    if not afterwards:
        d = d.inputs(lambda x: x[:, :5])
    return table(
        d,
        mlp(d.x.shape[1], 16, 1),
        nn.BCEWithLogitsLoss(),
        partial(Adam, lr=5e-3),
        batch=32,
        epochs=20,
        scorer=binary_accuracy(d.tx, d.ty),
    )


UNPAID_DEBTS = group(
    "unpaid-debts",
    unpaid_debts,
    fault(
        "recovered-is-a-column",
        "leakage split",
        afterwards=True,
        answers={"where": "5", "remedy": ("data", "leave the column out")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Bank notes by four numbers: sigmoids all the way


def notes(rows: int = 900) -> Split:
    """Variance, skewness, curtosis and entropy of a scan; forged (float) [N, 1]?"""
    rng = np.random.default_rng(68)
    forged = rng.random(rows) < 0.45
    variance = np.where(forged, -1.9, 2.3) + rng.normal(0, 1.9, rows)
    skewness = rng.normal(2, 5.5, rows) + 2.5 * ~forged
    curtosis = 3 - 0.75 * skewness + np.where(forged, -0.8, 1.0) + rng.normal(0, 1.2, rows)
    entropy = rng.normal(-1.2, 2.1, rows)
    x = np.stack([variance, skewness, curtosis, entropy], 1)
    return split(x, forged.astype(float)[:, None])


def forged_notes(
    act: Callable[[], nn.Module] = nn.ReLU, last: Callable[[], nn.Module] = nn.Sigmoid
) -> TrainingSetup:
    d = notes().standardized()
    return table(
        d,
        mlp(4, 32, 32, 32, 32, 32, 1, act=act, last=last()),
        nn.BCELoss(),
        partial(SGD, lr=0.05, momentum=0.9),
        batch=32,
        epochs=30,
        scorer=binary_accuracy(d.tx, d.ty, 0.5),
    )


FORGED_NOTES = group(
    "forged-notes",
    forged_notes,
    fault(
        "five-sigmoids",
        "hidden-activation vanishing saturation architecture-too-deep initialization",
        act=nn.Sigmoid,
        answers={"remedy": ("activation", "relu")},
    ),
    family="table",
    task="classification",
    network="mlp",
)

# Visitors of a museum: days with none, and a column that is always one


def museum(rows: int = 700) -> Split:
    """Hour, weekday, holiday, rain in mm, outside degrees, open (always 1); visitors, 0 to 400, a
    tenth of the hours with none [N, 1].
    """
    rng = np.random.default_rng(69)
    hour, day = rng.integers(9, 19, rows), rng.integers(0, 7, rows)
    holiday, rain = rng.random(rows) < 0.1, rng.gamma(0.5, 3, rows)
    degrees = rng.normal(14, 8, rows)
    busy = 2.6 - (hour - 14.0) ** 2 / 12 + 0.9 * (day > 4) + 0.8 * holiday + 0.1 * rain
    visitors = rng.poisson(np.exp(busy + 0.03 * (20 - degrees)))
    x = np.stack([hour, day, holiday, rain, degrees, np.ones(rows)], 1)
    return split(x.astype(float), visitors.astype(float)[:, None])


def museum_visitors(
    logarithm: Callable[[Tensor], Tensor] = torch.log1p, guard: float = 1e-8
) -> TrainingSetup:
    d = museum()
    scorer_targets = d.ty.log1p()
    mean, std = d.x.mean(0), d.x.std(0)
    d = d.inputs(lambda x: (x - mean) / (std + guard)).targets(logarithm)
    return table(
        d,
        mlp(6, 32, 32, 1),
        nn.MSELoss(),
        partial(AdamW, lr=5e-3),
        batch=32,
        epochs=20,
        scorer=r2(d.tx, scorer_targets),
    )


MUSEUM_VISITORS = group(
    "museum-visitors",
    museum_visitors,
    fault(
        "logarithm-of-no-visitors",
        "data-degenerate target-scale",
        logarithm=torch.log,
        answers={"exact": True, "remedy": ("data", "log1p")},
    ),
    fault(
        "divided-by-a-spread-of-zero",
        "data-degenerate input-scale",
        guard=0.0,
        answers={"where": "5", "exact": True, "remedy": ("data", "leave the column out")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Progress of an illness: everything that one reads about regularization at once


def serum_values(
    dropped: float = 0.1, decay: float = 1e-4, lr: float = 3e-3, optimizer: Any = Adam
) -> TrainingSetup:
    d = posted_data.patients().standardized()
    mean, std = float(d.y.mean()), float(d.y.std())
    d = d.targets(lambda y: (y - mean) / std)
    model = nn.Sequential(
        nn.Linear(10, 16), nn.ReLU(), nn.Dropout(dropped), nn.Linear(16, 1), nn.Dropout(dropped / 3)
    )
    return table(
        d,
        model,
        nn.MSELoss(),
        partial(optimizer, lr=lr, weight_decay=decay),
        batch=32,
        epochs=15,
        scorer=r2(d.tx, d.ty),
    )


SERUM_VALUES = group(
    "serum-values",
    serum_values,
    fault(
        "dropped-and-decayed-and-slow",
        "dropout over-regularized learning-rate-low too-few-steps optimizer",
        dropped=0.8,
        decay=1.0,
        lr=3e-4,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Healthy, and as one would write them


def sorts_of_wine() -> TrainingSetup:
    d = posted_data.tasted_wines(classes=True).standardized()
    model = nn.Sequential(
        nn.Linear(13, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
    )
    return table(
        d,
        model,
        nn.CrossEntropyLoss(),
        partial(Adam, lr=1e-2),
        batch=16,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


def malignant_by_a_line() -> TrainingSetup:
    d = data.cancer().standardized()
    return table(
        d._replace(y=column(d.y), vy=column(d.vy)),
        nn.Linear(30, 1),
        nn.BCEWithLogitsLoss(),
        partial(SGD, lr=0.1, weight_decay=1e-3),
        batch=32,
        epochs=20,
        scorer=binary_accuracy(d.tx, d.ty),
    )


def price_of_a_home() -> TrainingSetup:
    d = data.houses().standardized().targets_standardized()
    return table(
        d,
        mlp(8, 64, 64, 1),
        nn.SmoothL1Loss(),
        partial(AdamW, lr=2e-3),
        batch=32,
        epochs=25,
        scorer=r2(d.tx, d.ty),
    )


def islands_of_penguins() -> TrainingSetup:
    d = posted_data.penguins().inputs(lambda x: x[:, :5]).standardized()
    return table(
        d,
        mlp(5, 16, 3, act=nn.Tanh),
        nn.CrossEntropyLoss(),
        partial(SGD, lr=0.1, momentum=0.9),
        batch=16,
        epochs=15,
        scorer=accuracy(d.tx, d.ty),
    )


def claims_in_five_years() -> TrainingSetup:
    d = posted_data.accidents().standardized()
    rate = partial(F.poisson_nll_loss, log_input=True)

    def gain(out: Tensor, y: Tensor) -> float:
        base = y.mean().log().expand_as(y)
        return 1 - float(rate(out, y) - rate(y.clamp(min=1e-3).log(), y)) / float(
            rate(base, y) - rate(y.clamp(min=1e-3).log(), y)
        )

    return table(
        d,
        mlp(5, 24, 1),
        rate,
        partial(Adam, lr=3e-3),
        batch=64,
        epochs=30,
        scorer=Scorer(d.tx, d.ty, gain, 0.0, -1.0),
    )


def four_illnesses() -> TrainingSetup:
    d = complaints(900, 4).standardized()
    return table(
        d,
        mlp(15, 24, 4),
        nn.BCEWithLogitsLoss(),
        partial(Adam, lr=5e-3),
        batch=32,
        epochs=15,
        scorer=micro_f1(d.tx, d.ty),
    )


# Healthy, though something looks odd


class InDollars(nn.Module):
    """Takes raw columns and answers in dollars: both scales are buffers."""

    mean: Tensor
    std: Tensor
    unit: Tensor
    middle: Tensor

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.net = mlp(x.shape[1], 48, 1)
        for name, value in (("mean", x.mean(0)), ("std", x.std(0)), ("unit", y.std())):
            self.register_buffer(name, value)
        self.register_buffer("middle", y.mean())

    def forward(self, x: Tensor) -> Tensor:
        return self.middle + self.unit * self.net((x - self.mean) / self.std)


def dollars_in_and_out() -> TrainingSetup:
    d = pay_of_people()
    unit = float(d.y.var())
    return table(
        d,
        InDollars(d.x, d.y),
        lambda out, y: F.mse_loss(out, y) / unit,
        partial(Adam, lr=3e-3),
        batch=32,
        epochs=40,
        scorer=r2(d.tx, d.ty),
    )


def probability_of_a_stroke() -> TrainingSetup:
    """One in fifteen, no weights: a probability is asked for, not a class."""
    d = people_at_risk().standardized().targets(lambda y: y.float()[:, None])
    return table(
        d,
        mlp(6, 16, 1),
        nn.BCEWithLogitsLoss(),
        partial(Adam, lr=5e-3),
        batch=64,
        epochs=20,
        scorer=likelihood(d.tx, d.ty),
    )


def notes_at_a_rate_of_one() -> TrainingSetup:
    d = notes().standardized()
    return table(
        d,
        nn.Linear(4, 1),
        nn.BCEWithLogitsLoss(),
        partial(SGD, lr=1.0),
        batch=540,
        epochs=150,
        scorer=binary_accuracy(d.tx, d.ty),
    )


def always_open() -> TrainingSetup:
    """A column of ones, and a softplus where no answer is below zero."""
    d = museum()
    spread = d.x.std(0).clamp(min=1e-3)
    mean = d.x.mean(0)
    d = d.inputs(lambda x: (x - mean) / spread).targets(lambda y: (1 + y).log())
    return table(
        d,
        mlp(6, 32, 32, 1, last=nn.Softplus()),
        nn.MSELoss(),
        partial(Adam, lr=5e-3),
        batch=32,
        epochs=20,
        scorer=r2(d.tx, d.ty),
    )


def half_of_every_layer() -> TrainingSetup:
    """The training loss stays above that of the validation."""
    d = posted_data.tasted_wines(classes=True).standardized()
    model = nn.Sequential(
        nn.Linear(13, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 96), nn.ReLU(), nn.Dropout(0.5)
    ).append(nn.Linear(96, 3))
    return table(
        d,
        model,
        nn.CrossEntropyLoss(),
        partial(Adam, lr=3e-3),
        batch=16,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


def kinds_by_log_softmax() -> TrainingSetup:
    d = kernels().standardized()
    return table(
        d,
        mlp(7, 24, 3, last=nn.LogSoftmax(dim=1)),
        nn.NLLLoss(),
        partial(SGD, lr=0.1, momentum=0.9),
        batch=16,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


SCRIPTS: tuple[TrainingScript, ...] = (
    *YEARLY_PAY,
    *MILES_PER_GALLON,
    *STROKE_RECORDS,
    *LEAVING_A_BANK,
    *SEVERAL_ILLNESSES,
    *KERNELS_OF_WHEAT,
    *UNPAID_DEBTS,
    *FORGED_NOTES,
    *MUSEUM_VISITORS,
    *SERUM_VALUES,
    healthy_script(sorts_of_wine, "classification", "mlp"),
    healthy_script(malignant_by_a_line, "classification", "linear"),
    healthy_script(price_of_a_home, "regression", "mlp"),
    healthy_script(islands_of_penguins, "classification", "mlp"),
    healthy_script(claims_in_five_years, "regression", "mlp"),
    healthy_script(four_illnesses, "multi-label", "mlp"),
    healthy_script(dollars_in_and_out, "regression", "mlp"),
    healthy_script(probability_of_a_stroke, "classification", "mlp"),
    healthy_script(notes_at_a_rate_of_one, "classification", "linear"),
    healthy_script(always_open, "regression", "mlp"),
    healthy_script(half_of_every_layer, "classification", "mlp"),
    healthy_script(kinds_by_log_softmax, "classification", "mlp"),
)

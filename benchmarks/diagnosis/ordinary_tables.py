"""Scripts on tables with the ordinary trouble of an ordinary week: raw units, outputs that do not
suit the loss, rates and budgets out of proportion, rows and answers that do not belong together.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, Dataset

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    micro_f1,
    r2,
)

# Examples


def insured(rows: int = 1000) -> Split:
    """Insured people: age, man, body mass index, children, smoker, region 0 to 3; the charges of
    a year in dollars (1000 to 60000) [N, 1].
    """
    rng = np.random.default_rng(31)
    age, man, children = rng.integers(18, 65, rows), rng.random(rows) < 0.5, rng.poisson(1.1, rows)
    mass, smoker = rng.normal(30.6, 6, rows), rng.random(rows) < 0.2
    region = rng.integers(0, 4, rows)
    dollars = 1200 + 3.4 * age**2 + 480 * children + 130 * region
    dollars = dollars + smoker * (11000 + 14000 * (mass > 30) + 250 * (mass - 30))
    dollars = np.maximum(dollars + rng.gamma(1.2, 1800, rows), 500)
    x = np.stack([age, man, mass, children, smoker, region], 1).astype(float)
    return split(x, dollars[:, None])


def used_cars(rows: int = 1000) -> Split:
    """Cars for sale: year (1998 to 2020), km (up to 300000), cubic centimeters, horsepower, diesel,
    gears 5 or 6; the price in euros (500 to 60000) [N, 1].
    """
    rng = np.random.default_rng(32)
    age, power = rng.gamma(3, 2.4, rows).clip(0, 22), rng.gamma(8, 16, rows) + 45
    far = np.maximum(rng.normal(15000, 5000, rows) * age, 50)
    size, diesel = 600 + 9 * power + rng.normal(0, 150, rows), rng.random(rows) < 0.4
    gears = 5 + (rng.random(rows) < power / 250)
    price = 150 * power * np.exp(-0.11 * age - far / 400000) * (1 + 0.08 * diesel) + 900 * gears
    price = price * np.exp(rng.normal(0, 0.1, rows))
    x = np.stack([2020 - age, far, size, power, diesel, gears], 1).astype(float)
    return split(x, price[:, None])


def heart_patients(rows: int = 900) -> Split:
    """Patients: age, man, pain 0 to 3, blood pressure, cholesterol in mg/dl, highest heart rate,
    depression of the ST segment; is the heart ill (float)?
    """
    rng = np.random.default_rng(33)
    age, man, pain = rng.normal(54, 9, rows), rng.random(rows) < 0.68, rng.integers(0, 4, rows)
    pressure, fat = rng.normal(131, 17, rows), rng.normal(246, 50, rows)
    rate, dip = 220 - age - rng.gamma(2, 9, rows), rng.gamma(1.1, 0.95, rows)
    risk = 0.05 * (age - 54) + 1.3 * man + 1.5 * (pain == 0) - 0.9 * (pain == 2)
    risk = risk + 0.02 * (pressure - 131) + 0.012 * (fat - 246) - 0.05 * (rate - 148) + 1.1 * dip
    x = np.stack([age, man, pain, pressure, fat, rate, dip], 1).astype(float)
    return split(x, (rng.random(rows) < 1 / (1 + np.exp(-1.5 * (risk - 2.2)))).astype(float))


def bank_customers(rows: int = 2400) -> Split:
    """Customers of a bank: credit score, country 0 to 2, woman, age, years with the bank, balance
    in euros (0 to 220000), products 1 to 4, active, salary; 9 % left (float).
    """
    rng = np.random.default_rng(34)
    score, country = rng.normal(650, 96, rows), rng.integers(0, 3, rows)
    woman, age = rng.random(rows) < 0.45, 18 + rng.gamma(4, 5.5, rows)
    years, active = rng.integers(0, 11, rows), rng.random(rows) < 0.5
    balance = np.where(rng.random(rows) < 0.36, 0, rng.normal(120000, 30000, rows))
    products, salary = rng.choice(4, rows, p=[0.5, 0.44, 0.04, 0.02]) + 1, rng.uniform(0, 2e5, rows)
    risk = 0.09 * (age - 40) - 1.6 * active + 1.3 * (country == 1) + 0.7 * woman
    risk = risk + 3.0 * (products > 2) - 1.2 * (products == 2)
    x = np.stack([score, country, woman, age, years, balance, products, active, salary], 1)
    return split(x, (rng.random(rows) < 1 / (1 + np.exp(-1.8 * (risk - 1.6)))).astype(float))


def crops(rows: int = 1000) -> Split:
    """Fields: nitrogen, phosphorus and potassium in kg/ha (0 to 200), temperature, humidity in %,
    pH, rain in mm (20 to 300); which of eight crops grows?
    """
    rng = np.random.default_rng(35)
    low = np.array([5, 10, 10, 17, 25, 5.2, 40])
    high = np.array([120, 130, 190, 32, 92, 7.4, 260])
    center = low + (high - low) * rng.random((8, 7))
    crop = rng.integers(0, 8, rows)
    x = center[crop] + (high - low) * rng.normal(0, 0.13, (rows, 7))
    return split(np.maximum(x, 0.0), crop)


def batteries(rows: int = 1000) -> Split:
    """Cells of batteries: temperature in the test, depth of discharge in %, charging rate, cycles
    so far, voltage; the capacity that is lost (0.01 to 0.4) and the cycles that are left (about
    800) [N, 2].
    """
    rng = np.random.default_rng(36)
    warm, depth = rng.uniform(5, 50, rows), rng.uniform(20, 100, rows)
    rate, cycles = rng.choice([0.5, 1.0, 2.0, 3.0], rows), rng.uniform(50, 900, rows)
    wear = (1 + 0.03 * np.abs(warm - 22)) * (0.3 + depth / 100) * (1 + 0.25 * (rate - 1))
    lost = 0.06 * wear * np.sqrt(cycles / 300) * np.exp(rng.normal(0, 0.06, rows))
    left = 1800 / wear + 0.3 * (100 - depth) - 0.5 * cycles + rng.normal(0, 25, rows)
    volts = 4.2 - 0.8 * lost + rng.normal(0, 0.05, rows)
    x = np.stack([warm, depth, rate, cycles, volts], 1)
    return split(x, np.stack([lost, left], 1))


def pupils(rows: int = 500) -> Split:
    """Pupils: hours of study, absences, failures, two grades before (0 to 20), and ten answers to
    a form of 1 to 5; the last grade [N, 1].
    """
    rng = np.random.default_rng(37)
    hours, failures = rng.gamma(2, 2, rows), rng.poisson(0.3, rows)
    absences, talent = rng.poisson(5, rows), rng.normal(0, 2.2, rows)
    first = (11 + talent + rng.normal(0, 1.5, rows)).clip(0, 20).round()
    second = (11 + talent + 0.2 * hours + rng.normal(0, 1.5, rows)).clip(0, 20).round()
    grade = 10.4 + talent + 0.5 * hours - 0.15 * absences - 1.2 * failures
    answers = rng.integers(1, 6, (rows, 10))
    x = np.concatenate([np.stack([hours, absences, failures, first, second], 1), answers], 1)
    return split(x, (grade + rng.normal(0, 0.8, rows)).clip(0, 20)[:, None])


def probability_skill(inputs: Tensor, targets: Tensor, *, logits: bool) -> Scorer:
    """1 - Brier score / that of the base rate; of outputs that are read as logits or as
    probabilities.
    """
    inner = r2(inputs, targets)
    return Scorer(
        inputs,
        targets,
        lambda out, y: inner.score((out.sigmoid() if logits else out).reshape(y.shape), y),
        0.0,
        -1.0,
    )


def number(
    d: Split, model: nn.Module, optimizer: Any, *, batch: int = 32, epochs: int, **more: Any
) -> TrainingSetup:
    """A regression by its squared error, scored by R2 unless stated."""
    more = {"loss": nn.MSELoss(), "scorer": r2(d.tx, d.ty), **more}
    return TrainingSetup(
        model=model,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        **more,
    )


# Charges of the insured: the tutorial everyone begins with, dollars and years as they are


def charges(
    in_thousands: bool = True, scaled: bool = True, optimizer: Any = Adam, lr: float = 0.01
) -> TrainingSetup:
    d = insured()
    if scaled:
        d = d.standardized()
    if in_thousands:
        d = d.targets(lambda y: y / 10_000)
    setup = number(d, mlp(6, 32, 16, 1), partial(optimizer, lr=lr), epochs=40)
    return replace(setup, train=loader(d.x, d.y, 32))


CHARGES_GROUP = group(
    "insurance-charges",
    charges,
    fault(
        "dollars",
        "target-scale learning-rate-low too-few-steps",
        in_thousands=False,
        lr=1e-3,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "nothing-scaled",
        "target-scale input-scale learning-rate-high exploding",
        in_thousands=False,
        scaled=False,
        optimizer=SGD,
        lr=0.01,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Prices of used cars: squeezed targets, an activation too many


class CarNet(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 1)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.last(self.fc3(x))


def car_prices(flat: bool = False, last: type[nn.Module] = nn.Identity) -> TrainingSetup:
    d = used_cars().standardized().targets_standardized()
    scorer = r2(d.tx, d.ty)
    if flat:
        d = d.targets(lambda y: y.squeeze(1))
    model = CarNet(last())
    return number(d, model, Adam(model.parameters(), lr=2e-3), epochs=30, scorer=scorer)


CARS_GROUP = group(
    "used-car-prices",
    car_prices,
    fault("targets-without-a-column", "shape-pairing", flat=True, answers={"exact": True}),
    fault(
        "relu-behind-the-last-layer",
        "output-activation target-scale dead-units",
        last=nn.ReLU,
        answers={"where": "last", "remedy": ("output", "none")},
    ),
    fault(
        "sigmoid-behind-the-last-layer",
        "output-activation target-scale saturation",
        last=nn.Sigmoid,
        answers={"where": "last", "remedy": ("output", "none")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Hearts: a sigmoid twice, and a network that knows every patient


def hearts(
    last: nn.Module | None = None, wide: int = 16, rows: int | None = None, epochs: int = 25
) -> TrainingSetup:
    d = heart_patients().standardized()
    if rows is not None:
        d = d._replace(x=d.x[:rows], y=d.y[:rows])
    return TrainingSetup(
        model=mlp(7, wide, wide, 1, last=last),
        loss=nn.BCEWithLogitsLoss(),
        train=loader(d.x, column(d.y), 32, drop_last=True),
        validation=(d.vx, column(d.vy)),
        optimizer=partial(Adam, lr=3e-3),
        batch_size=32,
        epochs=epochs,
        scorer=probability_skill(d.tx, d.ty, logits=last is None),
    )


HEARTS_GROUP = group(
    "heart-patients",
    hearts,
    fault(
        "sigmoid-twice",
        "output-activation loss",
        last=nn.Sigmoid(),
        answers={"where": "5", "exact": True, "remedy": ("output", "none")},
    ),
    fault("known-by-heart", "overfitting learning-rate-high", wide=192, epochs=50),
    family="table",
    task="classification",
    network="mlp",
)


# Customers who leave a bank: nine in a hundred


def found_and_spared(inputs: Tensor, targets: Tensor) -> Scorer:
    """Mean of the shares of ones and of noughts that one logit gets right; chance 0.5."""

    def score(out: Tensor, y: Tensor) -> float:
        said = out.reshape(y.shape) > 0
        return float(said[y > 0.5].float().mean() + (~said[y < 0.5]).float().mean()) / 2

    return Scorer(inputs, targets, score, 0.5)


def bank_exits(weight: float | None = 10.0, scaled: bool = True) -> TrainingSetup:
    d = bank_customers()
    if scaled:
        d = d.standardized()
    return TrainingSetup(
        model=mlp(9, 24, 1),
        loss=nn.BCEWithLogitsLoss(pos_weight=None if weight is None else torch.tensor([weight])),
        train=(d.x, column(d.y)),
        validation=(d.vx, column(d.vy)),
        optimizer=partial(Adam, lr=3e-3),
        batch_size=64,
        epochs=20,
        scorer=found_and_spared(d.tx, d.ty),
    )


BANK_GROUP = group(
    "bank-exits",
    bank_exits,
    fault(
        "hardly-anyone-leaves",
        "imbalance loss",
        weight=None,
        answers={"remedy": ("loss", "pos_weight")},
    ),
    fault(
        "weight-upside-down",
        "imbalance loss",
        weight=0.1,
        answers={"remedy": ("loss", "pos_weight")},
    ),
    fault(
        "euros-beside-flags",
        "input-scale",
        scaled=False,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Crops: softmax where the loss has one, and rates from somewhere


class CropNet(nn.Module):
    def __init__(self, hidden: int, softmax: bool) -> None:
        super().__init__()
        self.layer1 = nn.Linear(7, hidden)
        self.layer2 = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, 8)
        self.softmax = nn.Softmax(dim=1) if softmax else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.layer1(x))
        x = torch.relu(self.layer2(x))
        return self.softmax(self.output(x))


def crop_choice(
    softmax: bool = False,
    optimizer: Any = SGD,
    lr: float = 0.1,
    scaled: bool = True,
    epochs: int = 40,
) -> TrainingSetup:
    d = crops()
    if scaled:
        d = d.standardized()
    return TrainingSetup(
        model=CropNet(32, softmax),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=32,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


CROPS_GROUP = group(
    "crop-choice",
    crop_choice,
    fault(
        "softmax-and-a-small-rate",
        "output-activation loss learning-rate-low too-few-steps",
        softmax=True,
        lr=0.01,
        answers={"where": "softmax", "exact": True},
    ),
    fault(
        "rate-of-a-half",
        "learning-rate-high dead-units",
        optimizer=Adam,
        lr=0.5,
        answers={"remedy": ("lr", 3e-3)},
    ),
    fault(
        "ten-millionths",
        "learning-rate-low too-few-steps",
        optimizer=Adam,
        lr=1e-5,
        answers={"remedy": ("lr", 3e-3)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Batteries: two answers of very different size, one of which is not learned


def mean_column_r2(inputs: Tensor, targets: Tensor) -> Scorer:
    """Mean over the columns of R2, none counted below -1."""

    def score(out: Tensor, y: Tensor) -> float:
        rest = ((out - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
        return float((1 - rest).clamp(min=-1).mean())

    return Scorer(inputs, targets, score, 0.0, -1.0)


def wear_of_batteries(scaled: bool = True, lr: float = 5e-3) -> TrainingSetup:
    d = batteries().standardized()
    if scaled:
        d = d.targets_standardized()
    return number(
        d, mlp(5, 48, 48, 2), partial(Adam, lr=lr), epochs=30, scorer=mean_column_r2(d.tx, d.ty)
    )


BATTERIES_GROUP = group(
    "wear-of-batteries",
    wear_of_batteries,
    fault(
        "cycles-drown-the-loss",
        "target-scale",
        scaled=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Grades: all the regularization of the blog post at once


class GradeNet(nn.Module):
    def __init__(self, dropout: float, before_last: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(15, 64),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(64, 32),
            nn.ReLU(),
            nn.Dropout(before_last),
            nn.Linear(32, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def grades(
    dropout: float = 0.1, before_last: float = 0.0, decay: float = 1e-4, epochs: int = 30
) -> TrainingSetup:
    d = pupils().standardized().targets_standardized()
    return number(
        d,
        GradeNet(dropout, before_last),
        partial(Adam, lr=2e-3, weight_decay=decay),
        epochs=epochs,
        batch=16,
    )


GRADES_GROUP = group(
    "last-grade",
    grades,
    fault("dropout-and-decay", "dropout over-regularized", dropout=0.8, before_last=0.8, decay=0.2),
    fault("decay-of-a-half", "over-regularized", decay=0.5, answers={"remedy": ("decay", 0.0)}),
    family="table",
    task="regression",
    network="mlp",
)

# Colors by name: rows in the order of the alphabet, whole numbers of 0 to 255


def paints(
    shuffle: bool = True,
    divided: bool = True,
    ending: str = "logits",
    lr: float = 0.02,
    batch: int = 16,
) -> TrainingSetup:
    d = posted_data.named_colors()
    if divided:
        d = d.inputs(lambda x: x / 255)
    if not shuffle:
        order = d.y.argsort(stable=True)
        d = d._replace(x=d.x[order], y=d.y[order])
    ends = {
        "logits": nn.Identity(),
        "softmax": nn.Softmax(dim=1),
        "over the batch": nn.LogSoftmax(dim=0),
    }
    return TrainingSetup(
        model=mlp(3, 64, 32, 8, last=ends[ending]),
        loss=nn.CrossEntropyLoss() if ending == "logits" else nn.NLLLoss(),
        train=loader(d.x, d.y, batch, shuffle=shuffle),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=batch,
        epochs=25,
        scorer=accuracy(d.tx, d.ty),
    )


PAINTS_GROUP = group(
    "paint-names",
    paints,
    fault(
        "in-alphabetical-order", "shuffling", shuffle=False, answers={"remedy": ("data", "shuffle")}
    ),
    fault(
        "bytes-and-a-large-rate", "input-scale learning-rate-high dead-units", divided=False, lr=0.1
    ),
    fault(
        "softmax-over-the-batch",
        "output-activation loss shape-pairing normalization",
        ending="over the batch",
        answers={"where": "5", "exact": True, "proof": "mixes"},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Rents: a table sorted beside its answers, rows brought to length one, layers with nothing between


def rented_flats(rows: int = 1000) -> Split:
    """Flats: area in m2, rooms, floor, year built (1880 to 2020), balcony, km to the center; the
    rent in euros (300 to 3500) [N, 1].
    """
    rng = np.random.default_rng(38)
    area, floor = 20 + rng.gamma(4, 13, rows), rng.integers(0, 8, rows)
    rooms = np.maximum(1, (area / 25 + rng.normal(0, 0.5, rows)).round())
    year, balcony = rng.integers(1880, 2021, rows), rng.random(rows) < 0.5
    far = rng.gamma(2, 2.5, rows)
    meter = 9 + 11 * np.exp(-far / 4) + 4 * (np.abs(year - 1960) / 60) ** 2 + 1.2 * balcony
    x = np.stack([area, rooms, floor, year, balcony, far], 1).astype(float)
    return split(x, (area * meter * np.exp(rng.normal(0, 0.07, rows)))[:, None])


def rents(
    sort: bool = False, by_rows: bool = False, act: type[nn.Module] = nn.ReLU
) -> TrainingSetup:
    d = rented_flats().targets_standardized()
    d = d.inputs(lambda x: F.normalize(x, dim=1)) if by_rows else d.standardized()
    if sort:
        d = d._replace(x=d.x[d.x[:, 0].argsort()])
    return number(d, mlp(6, 32, 32, 1, act=act), partial(Adam, lr=3e-3), epochs=40)


RENTS_GROUP = group(
    "rents-of-flats",
    rents,
    fault(
        "sorted-beside-its-answers",
        "labels",
        sort=True,
        answers={"remedy": ("data", "keep rows and answers together")},
    ),
    fault(
        "rows-of-length-one",
        "input-scale normalization data-degenerate",
        by_rows=True,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "nothing-between-the-layers",
        "hidden-activation",
        act=nn.Identity,
        answers={"where": "1", "exact": True, "remedy": ("activation", "relu")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Chess endgames: layers that no optimizer gets


class ChessNet(nn.Module):
    """`listed`: the hidden layers stand in a plain list."""

    def __init__(self, listed: bool) -> None:
        super().__init__()
        layers = [nn.Linear(72, 16), nn.Linear(16, 16), nn.Linear(16, 16)]
        self.hidden: Any = layers if listed else nn.ModuleList(layers)
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.head(x).squeeze(-1)


def chess(listed: bool = False, only_head: bool = False) -> TrainingSetup:
    d = posted_data.endgames().inputs(lambda x: F.one_hot(x.clamp(max=1), 2).flatten(1).float())
    model = ChessNet(listed)
    trained = model.head if only_head else model
    return TrainingSetup(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=Adam(trained.parameters(), lr=5e-3),
        batch_size=64,
        epochs=15,
        scorer=binary_accuracy(d.tx, d.ty),
    )


CHESS_GROUP = group(
    "king-and-rook",
    chess,
    fault(
        "layers-in-a-plain-list",
        "parameters-not-in-optimizer frozen-parameters",
        listed=True,
        answers={"where": "hidden", "exact": True},
    ),
    fault(
        "head-alone",
        "parameters-not-in-optimizer frozen-parameters",
        only_head=True,
        answers={
            "where": "hidden.0",
            "exact": True,
            "proof": "unmoved",
            "unmoved": "hidden.0.weight",
        },
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Digits as rows of 64 numbers: sigmoids in a deep network, weights drawn too wide, two units


def digit_rows(
    act: type[nn.Module] = nn.ReLU,
    sizes: tuple[int, ...] = (64, 64, 32, 10),
    optimizer: Any = SGD,
    lr: float = 0.1,
    start: float | None = None,
    epochs: int = 15,
) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = mlp(*sizes, act=act)
    if start is not None:
        for layer in model:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=start)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=32,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


DIGITS_GROUP = group(
    "digits-as-rows",
    digit_rows,
    fault(
        "four-sigmoids",
        "hidden-activation vanishing saturation architecture-too-deep learning-rate-low "
        "optimizer too-few-steps initialization",
        act=nn.Sigmoid,
        sizes=(64, 64, 64, 64, 32, 10),
    ),
    fault(
        "weights-of-size-one",
        "initialization exploding dead-units learning-rate-high",
        start=1.0,
        answers={"remedy": ("init", "kaiming")},
    ),
    fault(
        "bottleneck-of-two", "architecture-too-small", sizes=(64, 2, 32, 10), answers={"where": "0"}
    ),
    family="table",
    task="classification",
    network="mlp",
)


# The Titanic: one output where the loss wants two, answers rounded, a scaler for one part only


class TitanicNet(nn.Module):
    def __init__(self, outputs: int, ending: str) -> None:
        super().__init__()
        self.fc1 = nn.Linear(7, 32)
        self.fc2 = nn.Linear(32, 16)
        self.fc3 = nn.Linear(16, outputs)
        self.ending = ending

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        if self.ending == "logits":
            return x
        x = torch.sigmoid(x)
        return torch.round(x) if self.ending == "rounded" else x


def titanic(kind: str = "probability", scaled: str = "all") -> TrainingSetup:
    d = posted_data.passengers()
    standard = d.standardized()
    d = standard if scaled == "all" else d._replace(x=standard.x)
    losses = {"probability": nn.BCELoss(), "rounded": nn.BCELoss(), "one": nn.CrossEntropyLoss()}
    return TrainingSetup(
        model=TitanicNet(1, "logits" if kind == "one" else kind),
        loss=losses[kind],
        train=(d.x, column(d.y)),
        validation=(d.vx, column(d.vy)),
        optimizer=partial(Adam, lr=3e-3),
        batch_size=32,
        epochs=12,
        scorer=binary_accuracy(d.tx, d.ty, 0.0 if kind == "one" else 0.5),
    )


TITANIC_GROUP = group(
    "who-lived",
    titanic,
    fault(
        "cross-entropy-of-one-output",
        "loss output-activation shape-pairing",
        kind="one",
        answers={"where": "fc3", "exact": True, "proof": "unmoved", "unmoved": "fc1.weight"},
    ),
    fault(
        "rounded-answers",
        "output-activation detached-graph vanishing",
        kind="rounded",
        answers={"exact": True, "proof": "unmoved", "unmoved": "fc1.weight"},
    ),
    fault(
        "scaler-for-one-part",
        "split input-scale",
        scaled="training",
        answers={"remedy": ("data", "scale all parts alike")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Parcels that come back: a column that is filled in only when they have


def orders(rows: int = 1200) -> Split:
    """Orders of clothes: price in cents, pieces, sizes of the same piece, customer's share of
    parcels sent back, days of delivery, gift, refund booked in cents; does it come back (float)?
    On the day of the order no refund is booked.
    """
    rng = np.random.default_rng(41)
    price, pieces = np.exp(rng.normal(8.6, 0.6, rows)), 1 + rng.poisson(1.3, rows)
    sizes, habit = rng.binomial(pieces - 1, 0.4), rng.beta(2, 4, rows)
    days, gift = 1 + rng.poisson(2.5, rows), rng.random(rows) < 0.15
    risk = 1.3 * sizes + 5 * (habit - 0.33) + 0.5 * (np.log(price) - 8.6) + 0.25 * (days - 3)
    back = rng.random(rows) < 1 / (1 + np.exp(-(risk - 0.8 * gift - 0.6)))
    refund = back * price * rng.choice([1.0, 0.5], rows)
    x = np.stack([price, pieces, sizes, habit, days, gift, refund], 1)
    d = split(x, back.astype(float))
    return d._replace(tx=torch.cat([d.tx[:, :6], torch.zeros(len(d.tx), 1)], 1))


def parcels(refund: bool = False) -> TrainingSetup:
    d = orders()
    d = d.standardized() if refund else d.inputs(lambda x: x[:, :6]).standardized()
    return TrainingSetup(
        model=mlp(d.x.shape[1], 16, 1),
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, column(d.y)),
        validation=(d.vx, column(d.vy)),
        optimizer=partial(AdamW, lr=3e-3),
        batch_size=32,
        epochs=20,
        scorer=binary_accuracy(d.tx, d.ty),
    )


PARCELS_GROUP = group(
    "parcels-sent-back",
    parcels,
    fault(
        "refund-is-booked",
        "leakage",
        refund=True,
        answers={"where": "6", "proof": "validation", "remedy": ("data", "without the refund")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Fraud: rows copied to balance the classes, and only then split


def fraud(copied: str = "after") -> TrainingSetup:
    d = posted_data.payments(2000)
    d = d.inputs(lambda x: torch.cat([(x[:, :1] + 1).log(), x[:, 1:]], 1)).standardized()

    def balance(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        rare = (y > 0.5).nonzero().squeeze(1)
        times = int((y < 0.5).sum()) // len(rare) - 1
        rows = torch.cat([torch.arange(len(y)), rare.repeat(times)])
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))]
        return x[rows], y[rows]

    x, y, vx, vy = d.x, d.y, d.vx, d.vy
    if copied == "before":
        x, y = balance(torch.cat([x, vx]), torch.cat([y, vy]))
        cut = int(0.75 * len(y))
        x, vx, y, vy = x[:cut], x[cut:], y[:cut], y[cut:]
    else:
        x, y = balance(x, y)
    return TrainingSetup(
        model=mlp(6, 64, 64, 1) if copied == "before" else mlp(6, 8, 1),
        loss=nn.BCEWithLogitsLoss(),
        train=(x, column(y)),
        validation=(vx, column(vy)),
        optimizer=partial(Adam, lr=3e-3 if copied == "before" else 0.02),
        batch_size=64,
        epochs=25 if copied == "before" else 6,
        scorer=found_and_spared(d.tx, d.ty),
    )


FRAUD_GROUP = group(
    "balanced-fraud",
    fraud,
    fault(
        "copied-then-split",
        "leakage split overfitting",
        copied="before",
        answers={"proof": "validation", "remedy": ("data", "split before copying")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Computers of the eighties: a sum where a mean was tuned


def eighties(reduction: str = "mean", lr: float = 0.02) -> TrainingSetup:
    d = posted_data.processors().inputs(lambda x: (x + 1).log()).standardized()
    d = d.targets(lambda y: y.log()).targets_standardized()
    return number(
        d,
        mlp(6, 32, 1),
        partial(SGD, lr=lr, momentum=0.9),
        batch=25,
        epochs=60,
        loss=nn.MSELoss(reduction=reduction),
    )


EIGHTIES_GROUP = group(
    "speed-of-the-eighties",
    eighties,
    fault(
        "sum-over-the-batch",
        "loss-reduction learning-rate-high exploding dead-units",
        reduction="sum",
        answers={"remedy": ("lr", 1e-3)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Tumors: the whole table in one batch, for as many epochs as with small ones


def tumors(batch: int = 32, rate: float = 2e-3, act: type[nn.Module] = nn.ReLU) -> TrainingSetup:
    d = posted_data.tumor_areas().standardized().targets_standardized()
    return number(d, mlp(22, 32, 16, 1, act=act), partial(Adam, lr=rate), batch=batch, epochs=40)


TUMORS_GROUP = group(
    "sizes-of-tumors",
    tumors,
    fault(
        "whole-table-at-once",
        "too-few-steps batch-size learning-rate-low",
        batch=1024,
        rate=1e-3,
        answers={"remedy": ("batch", 32)},
    ),
    fault(
        "sigmoids-and-a-tiny-rate",
        "learning-rate-low too-few-steps hidden-activation vanishing",
        act=nn.Sigmoid,
        rate=2e-5,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Animals: classes as numbers on a line


def zoo(numbered: bool = False, lr: float = 0.01) -> TrainingSetup:
    d = posted_data.animals()
    if not numbered:
        return TrainingSetup(
            model=mlp(16, 24, 7),
            loss=nn.CrossEntropyLoss(),
            train=(d.x, d.y),
            validation=(d.vx, d.vy),
            optimizer=partial(Adam, lr=lr),
            batch_size=16,
            epochs=60,
            scorer=accuracy(d.tx, d.ty),
        )
    right = accuracy(d.tx, d.ty)
    return TrainingSetup(
        model=mlp(16, 24, 1),
        loss=nn.MSELoss(),
        train=(d.x, column(d.y.float())),
        validation=(d.vx, column(d.vy.float())),
        optimizer=partial(Adam, lr=lr),
        batch_size=16,
        epochs=60,
        scorer=Scorer(
            d.tx,
            d.ty,
            lambda out, y: float((out.squeeze(1).round() == y).float().mean()),
            right.chance,
        ),
    )


ZOO_GROUP = group(
    "zoo-register",
    zoo,
    fault("kinds-on-a-line", "loss output-activation", numbered=True),
    family="table",
    task="classification",
    network="mlp",
)


# Complaints of patients: several answers may be yes


class ComplaintsDataset(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x
        self.y = y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


def complaints(ending: str = "sigmoid") -> TrainingSetup:
    d = data.tags(1000)
    last = {"sigmoid": nn.Sigmoid(), "softmax": nn.Softmax(dim=1)}[ending]
    return TrainingSetup(
        model=mlp(16, 64, 32, 6, last=last),
        loss=nn.BCELoss(),
        train=DataLoader(ComplaintsDataset(d.x, d.y), batch_size=32, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=2e-3, weight_decay=1e-4),
        batch_size=32,
        epochs=20,
        scorer=micro_f1(d.tx, d.ty, 0.5),
    )


COMPLAINTS_GROUP = group(
    "complaints-of-patients",
    complaints,
    fault(
        "softmax-for-several-answers",
        "output-activation loss",
        ending="softmax",
        answers={"where": "5", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    family="table",
    task="multi-label",
    network="mlp",
)


# The progress of diabetes: a network that is far too willing, and holes filled with -999


def progress(
    sizes: tuple[int, ...] = (10, 16, 1), epochs: int = 40, decay: float = 0.1, holes: bool = False
) -> TrainingSetup:
    d = posted_data.patients()
    if holes:
        draw = torch.Generator().manual_seed(5)

        def spoil(x: Tensor) -> Tensor:
            missing = torch.rand(x.shape, generator=draw) < torch.tensor(
                [0.0, 0, 0.2, 0.2, 0, 0, 0, 0, 0.2, 0]
            )
            return torch.where(missing, -999.0, x)

        d = d.inputs(spoil)
    d = d.standardized().targets_standardized()
    return number(d, mlp(*sizes), partial(AdamW, lr=3e-3, weight_decay=decay), epochs=epochs)


PROGRESS_GROUP = group(
    "progress-of-patients",
    progress,
    fault(
        "hundred-epochs-of-a-wide-network",
        "overfitting learning-rate-high",
        sizes=(10, 128, 128, 1),
        epochs=100,
        decay=0.0,
    ),
    fault(
        "holes-of-minus-999",
        "data-degenerate input-scale",
        holes=True,
        answers={"remedy": ("data", "fill the holes")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Penguins: grams beside millimeters, and the rate of a tutorial


class PenguinNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(4, 16)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.relu(self.fc1(x)))


def penguins(scaled: bool = True, lr: float = 0.05, momentum: float = 0.9) -> TrainingSetup:
    d = posted_data.penguins().inputs(lambda x: x[:, :4])
    if scaled:
        d = d.standardized()
    return TrainingSetup(
        model=PenguinNet(),
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 16),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=momentum),
        batch_size=16,
        epochs=15,
        scorer=accuracy(d.tx, d.ty),
    )


PENGUINS_GROUP = group(
    "kinds-of-penguins",
    penguins,
    fault(
        "grams-and-millimeters",
        "input-scale learning-rate-high dead-units",
        scaled=False,
        lr=0.01,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "rate-of-a-tutorial",
        "learning-rate-low too-few-steps",
        lr=1e-3,
        momentum=0.0,
        answers={"remedy": ("lr", 0.1)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Cars again, behind batch norms, two at a time


def normed_cars(batch: int = 64, epochs: int = 40) -> TrainingSetup:
    d = used_cars().standardized().targets_standardized()
    model = nn.Sequential(
        nn.Linear(6, 48),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.Linear(48, 24),
        nn.BatchNorm1d(24),
        nn.ReLU(),
        nn.Linear(24, 1),
    )
    return number(d, model, partial(Adam, lr=5e-3), batch=batch, epochs=epochs)


NORMED_GROUP = group(
    "prices-behind-norms",
    normed_cars,
    fault(
        "two-at-a-time",
        "batch-size normalization learning-rate-high",
        batch=2,
        epochs=3,
        answers={"remedy": ("batch", 64)},
    ),
    family="table",
    task="regression",
    network="mlp",
)

SCRIPTS = (
    *CHARGES_GROUP,
    *CARS_GROUP,
    *HEARTS_GROUP,
    *BANK_GROUP,
    *CROPS_GROUP,
    *BATTERIES_GROUP,
    *GRADES_GROUP,
    *PAINTS_GROUP,
    *RENTS_GROUP,
    *CHESS_GROUP,
    *DIGITS_GROUP,
    *TITANIC_GROUP,
    *PARCELS_GROUP,
    *FRAUD_GROUP,
    *EIGHTIES_GROUP,
    *TUMORS_GROUP,
    *ZOO_GROUP,
    *COMPLAINTS_GROUP,
    *PROGRESS_GROUP,
    *PENGUINS_GROUP,
    *NORMED_GROUP,
)

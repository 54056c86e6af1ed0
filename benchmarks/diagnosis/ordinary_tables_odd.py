"""Healthy setups on tables: the first half ordinary and sound, the second odd and fine."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Rprop

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.ordinary_tables import (
    bank_customers,
    batteries,
    crops,
    found_and_spared,
    heart_patients,
    insured,
    mean_column_r2,
    number,
    orders,
    probability_skill,
    pupils,
    rented_flats,
    used_cars,
)
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    loader,
    micro_f1,
    r2,
)


def kinds(
    d: Split, model: nn.Module, optimizer: Any, *, batch: int = 32, epochs: int, **more: Any
) -> TrainingSetup:
    """A classification by cross entropy, scored by accuracy unless stated."""
    more = {"loss": nn.CrossEntropyLoss(), "scorer": accuracy(d.tx, d.ty), **more}
    return TrainingSetup(
        model=model,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        **more,
    )


def yes_or_no(
    d: Split, model: nn.Module, optimizer: Any, *, batch: int = 32, epochs: int, **more: Any
) -> TrainingSetup:
    """One logit per example, targets [N, 1], scored by accuracy unless stated."""
    more = {"loss": nn.BCEWithLogitsLoss(), "scorer": binary_accuracy(d.tx, d.ty), **more}
    return TrainingSetup(
        model=model,
        train=(d.x, column(d.y)),
        validation=(d.vx, column(d.vy)),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        **more,
    )


# Ordinary and sound


def sex_of_penguins() -> TrainingSetup:
    """Bill, flipper, mass and species tell males from females; batch norm and a little dropout."""
    d = posted_data.penguins()
    d = Split(
        *(
            part
            for x in (d.x, d.vx, d.tx)
            for part in (torch.cat([x[:, :4], F.one_hot(x[:, 5].long(), 3)], 1), x[:, 4])
        )
    ).standardized()
    model = nn.Sequential(
        nn.Linear(7, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, 1)
    )
    return yes_or_no(d, model, partial(Adam, lr=5e-3), batch=16, epochs=25)


def benign_tumors() -> TrainingSetup:
    """Two outputs for two classes."""
    d = data.cancer().standardized().targets(lambda y: y.long())
    return kinds(d, mlp(30, 16, 2), partial(SGD, lr=0.03, momentum=0.9), epochs=12)


def cultivars() -> TrainingSetup:
    d = data.wine().standardized()
    return kinds(d, mlp(13, 16, 3), partial(Adam, lr=5e-3, weight_decay=1e-3), batch=16, epochs=40)


def absolute_errors_of_letters() -> TrainingSetup:
    """The widths of letters by the absolute error."""
    d = posted_data.glyphs().standardized().targets(lambda y: y / 1000)
    return number(
        d, mlp(6, 48, 24, 1), partial(Adam, lr=2e-3), batch=64, epochs=30, loss=nn.L1Loss()
    )


def shores() -> TrainingSetup:
    """Land and sea, by tanh."""
    d = posted_data.coast().standardized()
    return kinds(d, mlp(2, 48, 48, 2, act=nn.Tanh), partial(Adam, lr=0.01), epochs=60)


class FlatNet(nn.Module):
    """Numbers beside the embedding of a district."""

    def __init__(self, districts: int) -> None:
        super().__init__()
        self.district = nn.Embedding(districts, 4)
        self.body = mlp(10, 48, 24, 1)

    def forward(self, numbers: Tensor, district: Tensor) -> Tensor:
        return self.body(torch.cat([numbers, self.district(district)], 1))


def rents_by_district() -> TrainingSetup:
    d = rented_flats(1500).standardized()
    factor = torch.from_numpy(np.random.default_rng(51).normal(0, 0.2, 20)).float().exp()
    draw = torch.Generator().manual_seed(51)
    codes = [torch.randint(20, (len(y),), generator=draw) for y in (d.y, d.vy, d.ty)]
    y, vy, ty = (
        part * factor[code][:, None] / 1000
        for part, code in zip((d.y, d.vy, d.ty), codes, strict=True)
    )
    return TrainingSetup(
        model=FlatNet(20),
        loss=nn.MSELoss(),
        train=((d.x, codes[0]), y),
        validation=((d.vx, codes[1]), vy),
        optimizer=partial(AdamW, lr=5e-3, weight_decay=0.01),
        batch_size=32,
        epochs=40,
        scorer=r2((d.tx, codes[2]), ty),
    )


def logarithms_of_charges() -> TrainingSetup:
    """Skewed dollars as logarithms, regions as flags."""
    d = insured().targets(torch.log).targets_standardized()
    d = d.inputs(lambda x: torch.cat([x[:, :5], F.one_hot(x[:, 5].long(), 4)], 1)).standardized()
    return number(d, mlp(9, 32, 16, 1), partial(Adam, lr=3e-3, weight_decay=1e-4), epochs=25)


def weighed_exits() -> TrainingSetup:
    """Customers who leave weigh more in a cross entropy of two outputs."""
    d = bank_customers().standardized().targets(lambda y: y.long())
    return kinds(
        d,
        mlp(9, 16, 2),
        partial(Adam, lr=5e-3),
        batch=64,
        epochs=15,
        loss=nn.CrossEntropyLoss(weight=torch.tensor([1.0, 9.0])),
        scorer=Scorer(
            d.tx,
            d.ty.float(),
            lambda out, y: found_and_spared(d.tx, y).score(out[:, 1] - out[:, 0], y),
            0.5,
        ),
    )


class BoardNet(nn.Module):
    """An embedding for each of 36 codes of a position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(36 * 3, 4)
        self.body = mlp(36 * 4, 32, 1)
        self.register_buffer("shift", torch.arange(36) * 3)

    def forward(self, codes: Tensor) -> Tensor:
        return self.body(self.embed(codes + self.get_buffer("shift")).flatten(1)).squeeze(-1)


def embedded_endgames() -> TrainingSetup:
    d = posted_data.endgames()
    return TrainingSetup(
        model=BoardNet(),
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=64,
        epochs=12,
        scorer=binary_accuracy(d.tx, d.ty),
    )


def desks_by_logarithms() -> TrainingSetup:
    """Letters to a help desk: logarithms of the counts of words, dropout, a linear end."""
    d = posted_data.letters().inputs(torch.log1p)
    model = nn.Sequential(nn.Linear(160, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 5))
    return kinds(d, model, partial(Adam, lr=3e-3, weight_decay=3e-3), epochs=20)


def gas_with_clock() -> TrainingSetup:
    """Time as days since the first and as waves of the hour."""
    d = posted_data.boilers()

    def clock(x: Tensor) -> Tensor:
        days = (x[:, :1].double() - 1.7e9) / 86400
        angle = 2 * torch.pi * (days % 1)
        return torch.cat([days, angle.sin(), angle.cos(), x[:, 1:]], 1).float()

    d = d.inputs(clock).standardized().targets_standardized()
    return number(d, mlp(6, 32, 32, 1), partial(Adam, lr=3e-3), epochs=30)


def fields_with_norm() -> TrainingSetup:
    d = crops().standardized()
    model = nn.Sequential(
        nn.Linear(7, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 8),
    )
    return kinds(d, model, partial(SGD, lr=0.02, momentum=0.9, nesterov=True), epochs=20)


class BatteryNet(nn.Module):
    """One body, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 48), nn.SiLU(), nn.Linear(48, 32), nn.SiLU())
        self.lost = nn.Linear(32, 1)
        self.left = nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.body(x)
        return torch.cat([self.lost(h), self.left(h)], 1)


def batteries_with_two_heads() -> TrainingSetup:
    d = batteries().standardized().targets_standardized()
    return number(
        d, BatteryNet(), partial(Adam, lr=5e-3), epochs=40, scorer=mean_column_r2(d.tx, d.ty)
    )


def line_through_patients() -> TrainingSetup:
    """A linear regression."""
    d = posted_data.patients().standardized().targets_standardized()
    return number(d, nn.Linear(10, 1), partial(SGD, lr=0.01), epochs=60)


# Odd and fine


class DollarNet(nn.Module):
    """Years in and dollars out: the scalers are part of the network."""

    def __init__(self, d: Split) -> None:
        super().__init__()
        self.body = mlp(6, 32, 16, 1)
        for name, values in (("inputs", d.x), ("dollars", d.y)):
            self.register_buffer(f"{name}_mean", values.mean(0))
            self.register_buffer(f"{name}_std", values.std(0))

    def forward(self, x: Tensor) -> Tensor:
        get = self.get_buffer
        x = self.body((x - get("inputs_mean")) / get("inputs_std"))
        return x * get("dollars_std") + get("dollars_mean")


def scalers_inside() -> TrainingSetup:
    """Raw columns, raw dollars, losses of a hundred million."""
    d = insured()
    return number(d, DollarNet(d), partial(Adam, lr=5e-3), epochs=40)


def probabilities_of_returns() -> TrainingSetup:
    """A sigmoid and the cross entropy of probabilities, in two pieces."""
    d = orders().inputs(lambda x: x[:, :6]).standardized()
    return yes_or_no(
        d,
        mlp(6, 16, 1, last=nn.Sigmoid()),
        partial(Adam, lr=3e-3),
        epochs=20,
        loss=nn.BCELoss(),
        scorer=binary_accuracy(d.tx, d.ty, 0.5),
    )


def column_of_zeros() -> TrainingSetup:
    """A flag that is never set, and one column twice."""
    d = used_cars().standardized().targets_standardized()
    d = d.inputs(lambda x: torch.cat([x, x[:, :1], torch.zeros(len(x), 1)], 1))
    return number(d, mlp(8, 32, 16, 1), partial(Adam, lr=3e-3), epochs=30)


def prices_above_zero() -> TrainingSetup:
    """Prices in ten thousands behind a softplus."""
    d = used_cars().standardized().targets(lambda y: y / 10_000)
    return number(d, mlp(6, 32, 16, 1, last=nn.Softplus()), partial(Adam, lr=3e-3), epochs=40)


def grades_behind_tanh() -> TrainingSetup:
    """Grades of 0 to 20 between -0.8 and 0.8, behind a tanh that reaches both ends."""
    d = pupils(800).standardized().targets(lambda y: (y - 10) / 12.5)
    return number(
        d, mlp(15, 24, 1, last=nn.Tanh()), partial(AdamW, lr=2e-3, weight_decay=0.1), epochs=20
    )


def bids_at_auctions() -> TrainingSetup:
    """Most of what is paid is chance: R2 stays near 0.15."""
    rng = np.random.default_rng(52)
    x = rng.normal(size=(2000, 5))
    y = 0.6 * np.tanh(x[:, 0]) + 0.4 * x[:, 1] * (x[:, 2] > 0) + rng.normal(0, 0.9, 2000)
    d = split(x, y[:, None])
    return number(d, mlp(5, 12, 1), partial(AdamW, lr=3e-3, weight_decay=0.1), batch=64, epochs=15)


def half_the_units() -> TrainingSetup:
    """Dropout of a half twice: the validation loss is below that of training."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(64, 10),
    )
    return kinds(d, model, partial(Adam, lr=2e-3), epochs=25)


def all_at_once_by_signs() -> TrainingSetup:
    """The whole table in each of 60 steps of Rprop."""
    d = posted_data.processors().inputs(lambda x: (x + 1).log()).standardized()
    d = d.targets(lambda y: y.log()).targets_standardized()
    return number(d, nn.Linear(6, 1), Rprop, batch=1024, epochs=60)


def line_from_zero() -> TrainingSetup:
    """A logistic regression that starts at zero, at a rate of a half."""
    d = heart_patients().standardized()
    model = nn.Linear(7, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    return yes_or_no(
        d,
        model,
        partial(SGD, lr=0.5),
        batch=64,
        epochs=15,
        scorer=probability_skill(d.tx, d.ty, logits=True),
    )


class Deciles(nn.Module):
    """The pinball loss of three quantiles."""

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        quantiles = torch.tensor([0.5, 0.1, 0.9])
        rest = targets - outputs
        return torch.maximum(quantiles * rest, (quantiles - 1) * rest).mean()


def deciles_of_rents() -> TrainingSetup:
    """The median, the lowest and the highest tenth; the median is scored."""
    d = rented_flats().standardized().targets_standardized()
    inner = r2(d.tx, d.ty)
    return number(
        d,
        mlp(6, 32, 32, 3),
        partial(Adam, lr=3e-3),
        epochs=40,
        loss=Deciles(),
        scorer=Scorer(d.tx, d.ty, lambda out, y: inner.score(out[:, :1], y), 0.0, -1.0),
    )


def shares_of_clicks() -> TrainingSetup:
    """Targets are shares between 0 and 1, the cross entropy ends above 0.5."""
    rng = np.random.default_rng(53)
    x = rng.normal(size=(1200, 8))
    share = 1 / (1 + np.exp(-(x[:, 0] - 0.7 * x[:, 1] + 0.8 * x[:, 2] * x[:, 3])))
    d = split(x, rng.binomial(40, share) / 40)
    return yes_or_no(
        d,
        mlp(8, 32, 16, 1),
        partial(Adam, lr=3e-3, weight_decay=1e-4),
        epochs=25,
        scorer=probability_skill(d.tx, d.ty, logits=True),
    )


def double_precision() -> TrainingSetup:
    d = posted_data.tumor_areas().standardized().targets_standardized()
    d = Split(*(part.double() for part in d))
    return number(d, mlp(22, 16, 1).double(), partial(Adam, lr=3e-3), epochs=40)


def order_of_the_file() -> TrainingSetup:
    """Not shuffled, and need not be: the rows are in no order."""
    d = posted_data.named_colors().inputs(lambda x: x / 127.5 - 1)
    setup = kinds(d, mlp(3, 48, 8), partial(Adam, lr=0.01), batch=16, epochs=40)
    return TrainingSetup(**{**vars(setup), "train": loader(d.x, d.y, 16, shuffle=False)})


def centimeters_as_they_are() -> TrainingSetup:
    """Four measurements in centimeters, unscaled."""
    d = data.iris()
    return kinds(d, mlp(4, 16, 3), partial(Adam, lr=0.01), batch=16, epochs=40)


def tags_by_two_layers() -> TrainingSetup:
    """Six answers of yes or no, by logits."""
    d = data.tags(1000)
    return TrainingSetup(
        model=mlp(16, 64, 6),
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3, weight_decay=1e-4),
        batch_size=32,
        epochs=20,
        scorer=micro_f1(d.tx, d.ty),
    )


SCRIPTS = (
    healthy_script(sex_of_penguins, "classification", "mlp"),
    healthy_script(benign_tumors, "classification", "mlp"),
    healthy_script(cultivars, "classification", "mlp"),
    healthy_script(absolute_errors_of_letters, "regression", "mlp"),
    healthy_script(shores, "classification", "mlp"),
    healthy_script(rents_by_district, "regression", "mlp"),
    healthy_script(logarithms_of_charges, "regression", "mlp"),
    healthy_script(weighed_exits, "classification", "mlp"),
    healthy_script(embedded_endgames, "classification", "mlp"),
    healthy_script(desks_by_logarithms, "classification", "mlp"),
    healthy_script(gas_with_clock, "regression", "mlp"),
    healthy_script(fields_with_norm, "classification", "mlp"),
    healthy_script(batteries_with_two_heads, "regression", "mlp"),
    healthy_script(line_through_patients, "regression", "linear"),
    healthy_script(tags_by_two_layers, "multi-label", "mlp"),
    healthy_script(scalers_inside, "regression", "mlp"),
    healthy_script(probabilities_of_returns, "classification", "mlp"),
    healthy_script(column_of_zeros, "regression", "mlp"),
    healthy_script(prices_above_zero, "regression", "mlp"),
    healthy_script(grades_behind_tanh, "regression", "mlp"),
    healthy_script(bids_at_auctions, "regression", "mlp"),
    healthy_script(half_the_units, "classification", "mlp"),
    healthy_script(all_at_once_by_signs, "regression", "linear"),
    healthy_script(line_from_zero, "classification", "linear"),
    healthy_script(deciles_of_rents, "regression", "mlp"),
    healthy_script(shares_of_clicks, "regression", "mlp"),
    healthy_script(double_precision, "regression", "mlp"),
    healthy_script(order_of_the_file, "classification", "mlp"),
    healthy_script(centimeters_as_they_are, "classification", "mlp"),
)

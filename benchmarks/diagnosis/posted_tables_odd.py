"""Healthy scripts on tables as people post them, which look odd and are right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adadelta, Adam, AdamW, NAdam, RMSprop, Rprop

from benchmarks.diagnosis import posted_data
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_losses import auc, mean_r2, pinball, recall, setup
from benchmarks.diagnosis.posted_tables import log_r2
from benchmarks.diagnosis.posted_units import concordance, deviance
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    micro_f1,
    r2,
)

# Units and rates


def shares_in_millions() -> TrainingSetup:
    """A straight line to a target of up to 4e7, untouched: a loss of 1e13, and no rate is too high
    for its size.
    """
    d = posted_data.shares().standardized()
    optimizer = partial(SGD, lr=0.02)
    return setup(d, nn.Linear(9, 1), nn.MSELoss(), optimizer, 32, 20, r2(d.tx, d.ty))


def milligrams_at_a_rate_of_eight() -> TrainingSetup:
    """Targets of 300 to 1700, so steps of eight."""
    d = posted_data.tasted_wines().standardized()
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = Adam(
        [
            {"params": model[0].parameters(), "lr": 3e-3},
            {"params": model[2].parameters(), "lr": 8.0},
        ]
    )
    return setup(d, model, nn.L1Loss(), optimizer, 12, 25, r2(d.tx, d.ty))


def raw_words() -> TrainingSetup:
    """Counts of words as they are: most zero, the common ones up to fifty."""
    d = posted_data.letters()
    optimizer = partial(Adam, lr=5e-3)
    scorer = accuracy(d.tx, d.ty)
    return setup(d, mlp(160, 32, 5), nn.CrossEntropyLoss(), optimizer, 30, 6, scorer)


def legs_and_flags() -> TrainingSetup:
    """Fifteen flags and a number of legs from 0 to 8; one animal at a time."""
    d = posted_data.animals()
    optimizer = partial(SGD, lr=0.02)
    scorer = accuracy(d.tx, d.ty)
    return setup(d, mlp(16, 12, 7), nn.CrossEntropyLoss(), optimizer, 1, 25, scorer)


def pounds_behind_a_norm() -> TrainingSetup:
    """Raw columns into a batch norm, and a rate of one."""
    d = posted_data.passengers().targets(column)
    model = nn.Sequential(nn.BatchNorm1d(7), mlp(7, 16, 1, act=nn.Tanh))
    scorer = binary_accuracy(d.tx, d.ty)
    return setup(d, model, nn.BCEWithLogitsLoss(), partial(SGD, lr=1.0), 64, 15, scorer)


def slow_and_long() -> TrainingSetup:
    """A rate of 2e-4 and momentum .98, in two thousand steps."""
    d = posted_data.penguins()
    d = d.inputs(lambda x: x[:, :4]).standardized()
    optimizer = partial(SGD, lr=2e-4, momentum=0.98, nesterov=True)
    scorer = accuracy(d.tx, d.ty)
    return setup(d, mlp(4, 12, 3), nn.CrossEntropyLoss(), optimizer, 20, 200, scorer)


def default_of_adadelta() -> TrainingSetup:
    """Adadelta with the rate 1, which is its default."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    scorer = accuracy(d.tx, d.ty)
    return setup(d, mlp(64, 32, 10), nn.CrossEntropyLoss(), Adadelta, 32, 12, scorer)


def signs_of_the_whole() -> TrainingSetup:
    """All rows at once by the signs of the gradient."""
    d = posted_data.patients().standardized().targets_standardized()
    optimizer = partial(Rprop, lr=1e-3, step_sizes=(1e-6, 0.02))
    model = nn.Sequential(nn.Linear(10, 3), nn.Tanh(), nn.Linear(3, 1))
    return setup(d, model, nn.MSELoss(), optimizer, len(d.x), 40, r2(d.tx, d.ty))


def two_dozen_steps() -> TrainingSetup:
    """Twenty-four steps, which is all it takes."""
    d = posted_data.named_colors().inputs(lambda x: x / 255 - 0.5)
    optimizer = partial(NAdam, lr=0.05)
    scorer = accuracy(d.tx, d.ty)
    return setup(d, mlp(3, 64, 8), nn.CrossEntropyLoss(), optimizer, 81, 6, scorer)


def decay_of_one() -> TrainingSetup:
    """AdamW's decay of 1 at a rate of 2e-3: two thousandths a step."""
    d = posted_data.glass().standardized()
    optimizer = partial(AdamW, lr=2e-3, weight_decay=1.0)
    model = nn.Sequential(mlp(9, 32, 1), nn.Flatten(0))
    scorer = binary_accuracy(d.tx, d.ty)
    return setup(d, model, nn.BCEWithLogitsLoss(), optimizer, 16, 150, scorer)


def four_fifths_dropped() -> TrainingSetup:
    """Dropout of .8 on a thousand units."""
    d = posted_data.letters().inputs(torch.log1p)
    model = nn.Sequential(nn.Linear(160, 1024), nn.ReLU(), nn.Dropout(0.8), nn.Linear(1024, 5))
    optimizer = partial(Adam, lr=2e-3)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 30, 5, accuracy(d.tx, d.ty))


# Networks


class Blocks(nn.Module):
    """x + f(x), ten times."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, width), nn.Linear(width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
            for _ in range(10)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + 0.3 * block(x)
        return self.out(x)


def ten_blocks() -> TrainingSetup:
    d = posted_data.glyphs().standardized().targets_standardized()
    optimizer = partial(Adam, lr=2e-3)
    return setup(d, Blocks(20), nn.HuberLoss(), optimizer, 64, 8, r2(d.tx, d.ty))


class Experts(nn.Module):
    """Four small networks, weighted by a fifth."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(2, 4)
        self.experts = nn.ModuleList(mlp(2, 16, 1, act=nn.Softsign) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        answers = torch.cat([expert(x) for expert in self.experts], 1)
        return (torch.softmax(self.gate(x), 1) * answers).sum(1)


def land_by_experts() -> TrainingSetup:
    d = posted_data.coast().targets(Tensor.float)
    scorer = binary_accuracy(d.tx, d.ty)
    optimizer = partial(RMSprop, lr=1.5e-2)
    return setup(d, Experts(), nn.BCEWithLogitsLoss(), optimizer, 24, 40, scorer)


class Fourier(nn.Module):
    """Cosines of random directions that are no parameters, and a linear layer (Rahimi and Recht
    2007).
    """

    directions: Tensor
    phases: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("directions", 1.5 * torch.randn(2, width))
        self.register_buffer("phases", 6.28 * torch.rand(width))
        self.out = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cos(x @ self.directions + self.phases))


def random_cosines() -> TrainingSetup:
    d = posted_data.hills().standardized().targets_standardized()
    optimizer = partial(Adam, lr=0.01)
    return setup(d, Fourier(100), nn.MSELoss(), optimizer, 32, 15, r2(d.tx, d.ty))


class Tied(nn.Module):
    """The decoder is the encoder's transpose."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(code, 64))
        self.code_bias = nn.Parameter(torch.zeros(code))
        self.bias = nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(
            torch.tanh(F.linear(x, self.weight, self.code_bias)), self.weight.T, self.bias
        )


def noise_taken_away() -> TrainingSetup:
    """Tied weights; noise on the inputs, the clean rows as targets, columns that are always 0."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    noise = torch.Generator().manual_seed(3)
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    d = d.inputs(lambda x: x + 0.15 * torch.randn(x.shape, generator=noise))
    optimizer = partial(Adam, lr=3e-3)
    return setup(d, Tied(20), nn.MSELoss(), optimizer, 32, 15, r2(d.tx, d.ty))


class Product(nn.Module):
    """Sums, and products of two sums: no activation function at all."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.a = parametrizations.weight_norm(nn.Linear(columns, width))
        self.b = parametrizations.weight_norm(nn.Linear(columns, width))
        self.out = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        return self.out(torch.cat([a, a * b], 1))


def products() -> TrainingSetup:
    d = posted_data.boilers().standardized().targets_standardized()
    optimizer = partial(SGD, lr=0.01, momentum=0.9)
    return setup(d, Product(4, 12), nn.MSELoss(), optimizer, 30, 15, r2(d.tx, d.ty))


class Clock(nn.Module):
    """Sine and cosine of the hour, a vector for each kind of shop, the rest as logarithms."""

    def __init__(self) -> None:
        super().__init__()
        self.shop, self.body = nn.Embedding(10, 3), mlp(9, 16, 1, act=nn.SELU)

    def forward(self, x: Tensor) -> Tensor:
        amount, hour, days, recent, shop, abroad = x.unbind(1)
        turn = hour * (2 * torch.pi / 24)
        columns = [amount.log() - 8, turn.sin(), turn.cos(), days.log1p() - 6, recent, abroad]
        return self.body(torch.cat([torch.stack(columns, 1), self.shop(shop.long())], 1))


def overlap(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 - 2 |A B| / (|A| + |B|) of chances (Dice 1945)."""
    chances = torch.sigmoid(outputs[:, 0])
    return 1 - 2 * (chances * targets).sum() / (chances.sum() + targets.sum())


def overlap_of_fraud() -> TrainingSetup:
    """Three in a hundred, unweighted, raw columns that the network itself takes apart."""
    d = posted_data.payments()
    optimizer = partial(Adam, lr=5e-3)
    return setup(d, Clock(), overlap, optimizer, 300, 60, recall(d.tx, d.ty))


# Losses


def minus_correlation(outputs: Tensor, targets: Tensor) -> Tensor:
    a, b = outputs - outputs.mean(), targets - targets.mean()
    return -(a * b).sum() / (a.norm() * b.norm() + 1e-8)


def below_zero() -> TrainingSetup:
    """The loss goes from 0 to -0.7; scale and mean of the outputs are free."""
    d = posted_data.patients().standardized()

    def score(out: Tensor, y: Tensor) -> float:
        return -float(minus_correlation(out, y))

    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.1)
    scorer = Scorer(d.tx, d.ty, score, 0.0, -1.0)
    return setup(d, mlp(10, 12, 1, act=nn.Tanh), minus_correlation, optimizer, 44, 15, scorer)


def pair_of_computers(d: Split) -> Split:
    """Pairs [4 N, 2, 6] of computers; is the first the faster (1) or not (-1)?"""

    def draw(x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        a, b = torch.randint(len(x), (2, 4 * len(x)), generator=torch.Generator().manual_seed(seed))
        a, b = a[y[a, 0] != y[b, 0]], b[y[a, 0] != y[b, 0]]
        return torch.stack([x[a], x[b]], 1), (y[a, 0] - y[b, 0]).sign()

    return Split(*draw(d.x, d.y, 1), *draw(d.vx, d.vy, 2), *draw(d.tx, d.ty, 3))


class Faster(nn.Module):
    """Two scores by one network; outputs [N, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.score = mlp(6, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x)[:, :, 0]


def margin_of_two(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.margin_ranking_loss(outputs[:, 0], outputs[:, 1], targets, margin=0.3)


def which_is_faster() -> TrainingSetup:
    """A margin between two scores: most pairs have no gradient in the end."""
    d = posted_data.processors().inputs(torch.log1p).standardized()
    d = pair_of_computers(d)

    def score(out: Tensor, y: Tensor) -> float:
        return float(((out[:, 0] - out[:, 1]).sign() == y).float().mean())

    scorer = Scorer(d.tx, d.ty, score, 0.5)
    return setup(d, Faster(), margin_of_two, partial(Adam, lr=3e-3), 20, 12, scorer)


class Grades(nn.Module):
    """One score, and an output for each step between four grades (Cao et al. 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1, bias=False))
        self.steps = nn.Parameter(torch.tensor([1.0, 0.0, -1.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x) + self.steps


def four_grades() -> TrainingSetup:
    """Grades as flags: at least 1, at least 2, at least 3. The outputs differ by a constant."""
    d = posted_data.patients().standardized()
    cuts = d.y.quantile(torch.tensor([0.25, 0.5, 0.75]))
    d = d.targets(lambda y: (y > cuts).float())
    scorer = micro_f1(d.tx, d.ty)
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.3)
    return setup(d, Grades(), nn.BCEWithLogitsLoss(), optimizer, 16, 20, scorer)


def upper_tenth() -> TrainingSetup:
    """One quantile of .9: nine tenths of the errors are on one side, as they should be."""
    d = posted_data.glyphs().standardized().targets(lambda y: y / 100)
    constant = float(pinball((0.9,), d.ty.quantile(0.9).reshape(1, 1), d.ty))

    def score(out: Tensor, y: Tensor) -> float:
        return max(-1.0, 1 - float(pinball((0.9,), out, y)) / constant)

    scorer = Scorer(d.tx, d.ty, score, 0.0, -1.0)
    optimizer = partial(Adam, lr=0.01)
    return setup(d, mlp(6, 24, 1), partial(pinball, (0.9,)), optimizer, 50, 15, scorer)


class MeanAndSpread(nn.Module):
    """A mean, and a variance that cannot fall below zero; outputs [N, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(22, 16, 2, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        mean, spread = self.body(x).split(1, dim=1)
        return torch.cat([mean, F.softplus(spread) + 1e-3], 1)


def density_of_areas() -> TrainingSetup:
    """The likelihood of a density: the loss falls below zero and goes on falling."""
    d = posted_data.tumor_areas().standardized().targets_standardized()
    optimizer = partial(Adam, lr=3e-3)
    return setup(
        d,
        MeanAndSpread(),
        lambda out, y: F.gaussian_nll_loss(out[:, :1], y, out[:, 1:]),
        optimizer,
        32,
        15,
        mean_r2(d.tx, d.ty),
    )


def percent_of_speed() -> TrainingSetup:
    """Performance of 6 to 1150, raw; the error in parts of the target, exp at the end."""
    d = posted_data.processors()
    scorer = log_r2(d.tx, d.ty)
    d = d.inputs(torch.log1p)
    scorer = Scorer(d.tx, scorer.targets, scorer.score, 0.0, -1.0)

    class Exponential(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.exp(x)

    return setup(
        d,
        mlp(6, 16, 1, act=nn.Softplus, last=Exponential()),
        lambda out, y: ((out - y).abs() / y).mean(),
        partial(Adam, lr=5e-3),
        12,
        40,
        scorer,
    )


def squares_of_counts() -> TrainingSetup:
    """Counts with a square error and an exponential at the end, most of them 0 or 1."""
    d = posted_data.accidents().inputs(torch.log1p).standardized()
    scorer = deviance(d.tx, d.ty, torch.exp)
    return setup(
        d,
        nn.Linear(5, 1),
        lambda out, y: (out.exp() - y * out).mean(),
        partial(SGD, lr=0.05),
        40,
        15,
        scorer,
    )


def order_of_leaving(outputs: Tensor, targets: Tensor) -> Tensor:
    """Minus Cox's partial likelihood, over those of the batch: the mean of the outputs is free (Cox
    1972).
    """
    days, left = targets.unbind(1)
    order = days.argsort(descending=True)
    hazard, left = outputs[order, 0], left[order]
    return -((hazard - hazard.logcumsumexp(0)) * left).sum() / left.sum().clamp(min=1)


def partial_likelihood() -> TrainingSetup:
    """Days as they are, up to 1800: only their order counts."""
    d = posted_data.subscribers().standardized()
    scorer = concordance(d.tx, d.ty)
    return setup(d, mlp(5, 8, 1), order_of_leaving, partial(Adam, lr=0.01), 60, 8, scorer)


def rare_drawn_often() -> TrainingSetup:
    """Each fraud fifteen times among the rows to train on, none elsewhere."""
    d = posted_data.payments()
    d = d.inputs(lambda x: torch.cat([x[:, :1].log(), x[:, 1:]], 1)).standardized()
    rare = (d.y > 0.5).nonzero()[:, 0].repeat(15)
    rows = torch.cat([torch.arange(len(d.y)), rare])
    d = d._replace(x=d.x[rows], y=d.y[rows])
    return setup(
        d.targets(column),
        nn.Linear(6, 1),
        nn.BCEWithLogitsLoss(),
        partial(SGD, lr=0.2),
        64,
        6,
        recall(d.tx, d.ty),
    )


def flags_as_squares() -> TrainingSetup:
    """One-hot targets and the square error of chances (Brier 1950)."""
    d = posted_data.tasted_wines(classes=True).standardized()
    scorer = accuracy(d.tx, d.ty)
    d = d.targets(lambda y: F.one_hot(y, 3).float())
    model = mlp(13, 10, 3, act=nn.Tanh, last=nn.Softmax(dim=1))
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=0.01), 12, 15, scorer)


def species_and_mass() -> TrainingSetup:
    """Three classes and a number in one row of outputs: two losses, added."""
    d = posted_data.penguins()
    targets = [torch.stack([x[:, 5], x[:, 3] / 1000], 1) for x in (d.x, d.vx, d.tx)]
    d = d.inputs(lambda x: x[:, [0, 1, 2, 4]]).standardized()
    d = d._replace(y=targets[0], vy=targets[1], ty=targets[2])

    def both(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out[:, :3], y[:, 0].long()) + F.mse_loss(out[:, 3], y[:, 1])

    inner = accuracy(d.tx, d.ty[:, 0].long())
    scorer = Scorer(
        d.tx, d.ty, lambda out, y: inner.score(out[:, :3], y[:, 0].long()), inner.chance
    )
    return setup(d, mlp(4, 20, 4, act=nn.GELU), both, partial(Adam, lr=0.01), 20, 25, scorer)


def many_columns_few_rows() -> TrainingSetup:
    """Ninety rows, three hundred columns of noise beside nine that count; decay holds it."""
    d = posted_data.glass().standardized()
    noise = torch.Generator().manual_seed(4)
    d = d.inputs(lambda x: torch.cat([x, 0.2 * torch.randn(len(x), 300, generator=noise)], 1))
    return setup(
        d,
        nn.Sequential(nn.Linear(309, 1), nn.Flatten(0)),
        lambda out, y: F.soft_margin_loss(out, 2 * y - 1),
        partial(SGD, lr=0.05, weight_decay=0.05),
        20,
        40,
        auc(d.tx, d.ty),
    )


CODES: tuple[tuple[Callable[[], TrainingSetup], Any, Any], ...] = (
    (shares_in_millions, "regression", "linear"),
    (milligrams_at_a_rate_of_eight, "regression", "mlp"),
    (raw_words, "classification", "mlp"),
    (legs_and_flags, "classification", "mlp"),
    (pounds_behind_a_norm, "classification", "mlp"),
    (slow_and_long, "classification", "mlp"),
    (default_of_adadelta, "classification", "mlp"),
    (signs_of_the_whole, "regression", "mlp"),
    (two_dozen_steps, "classification", "mlp"),
    (decay_of_one, "classification", "mlp"),
    (four_fifths_dropped, "classification", "mlp"),
    (ten_blocks, "regression", "mlp"),
    (land_by_experts, "classification", "mlp"),
    (random_cosines, "regression", "linear"),
    (noise_taken_away, "generation", "mlp"),
    (products, "regression", "mlp"),
    (overlap_of_fraud, "classification", "mlp"),
    (below_zero, "regression", "mlp"),
    (which_is_faster, "classification", "mlp"),
    (four_grades, "multi-label", "mlp"),
    (upper_tenth, "regression", "mlp"),
    (density_of_areas, "regression", "mlp"),
    (percent_of_speed, "regression", "mlp"),
    (squares_of_counts, "regression", "linear"),
    (partial_likelihood, "regression", "mlp"),
    (rare_drawn_often, "classification", "linear"),
    (flags_as_squares, "classification", "mlp"),
    (species_and_mass, "classification", "mlp"),
    (many_columns_few_rows, "classification", "linear"),
)
SCRIPTS: tuple[TrainingScript, ...] = tuple(healthy_script(*entry) for entry in CODES)

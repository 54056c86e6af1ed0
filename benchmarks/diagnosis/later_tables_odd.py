"""More healthy setups on tables that look odd and are right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_losses import setup
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    mean_recall,
    r2,
)

# Examples and budgets


def one_pass_by_fours() -> TrainingSetup:
    """Each of 7200 rows is seen once, four at a time."""
    d = data.friedman(12000).targets(column).targets_standardized()
    d = d.inputs(lambda x: 2 * x - 1)
    optimizer = partial(SGD, lr=0.02, momentum=0.5)
    return setup(d, mlp(10, 32, 1, act=nn.SiLU), nn.MSELoss(), optimizer, 4, 1, r2(d.tx, d.ty))


def a_dozen_flowers() -> TrainingSetup:
    """Twelve rows to learn from; 108 that wait."""
    d = later_table_data.flowers()
    rows = torch.cat([(d.y == k).nonzero()[:4, 0] for k in range(3)])
    rest = torch.tensor(sorted(set(range(len(d.y))) - set(rows.tolist())))
    x, y = torch.cat([d.vx, d.x[rest]]), torch.cat([d.vy, d.y[rest]])
    d = d._replace(x=d.x[rows], y=d.y[rows], vx=x, vy=y).standardized()
    optimizer = partial(AdamW, lr=0.05, weight_decay=0.5)
    return setup(
        d, nn.Linear(4, 3), nn.CrossEntropyLoss(), optimizer, 12, 120, accuracy(d.tx, d.ty)
    )


def votes_of_three() -> TrainingSetup:
    """Three people say which digit it is, each wrong in three of ten cases: the loss stays high."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    draw = torch.Generator().manual_seed(2)

    def votes(y: Tensor) -> Tensor:
        said = y[:, None].repeat(1, 3)
        wrong = torch.rand(said.shape, generator=draw) < 0.3
        said[wrong] = torch.randint(10, (int(wrong.sum()),), generator=draw)
        return F.one_hot(said, 10).float().mean(1)

    scorer = accuracy(d.tx, d.ty)
    d = d.targets(votes)
    optimizer = partial(Adam, lr=2e-3)
    model = mlp(64, 32, 10)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 25, 12, scorer)


def pixels_as_they_are() -> TrainingSetup:
    """From 0 to 16, a few columns always zero, weights of 1/64 of the usual size."""
    d = posted_data.pixels()
    model = nn.Sequential(nn.Linear(64, 10))
    nn.init.normal_(model[0].weight, std=0.002)  # pyright: ignore[reportArgumentType]
    optimizer = partial(SGD, lr=5e-4, momentum=0.9, weight_decay=0.05)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 25, 15, accuracy(d.tx, d.ty))


# Settings


def no_first_moment() -> TrainingSetup:
    """Adam with betas of 0 and .9, and an epsilon of a thousandth."""
    d = later_table_data.crabs().standardized().targets_standardized()
    optimizer = partial(Adam, lr=2e-3, betas=(0.0, 0.9), eps=1e-3)
    return setup(d, mlp(7, 24, 1, act=nn.GELU), nn.MSELoss(), optimizer, 20, 30, r2(d.tx, d.ty))


def half_the_answer_smoothed() -> TrainingSetup:
    """Half of each answer goes to all classes alike: the loss cannot fall below 1.6."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    loss = nn.CrossEntropyLoss(label_smoothing=0.5)
    optimizer = partial(RMSprop, lr=2e-3)
    return setup(d, mlp(64, 48, 10), loss, optimizer, 30, 20, accuracy(d.tx, d.ty))


def inputs_dropped() -> TrainingSetup:
    """Two thirds of the pixels are hidden, each time others."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(nn.Dropout(0.66), mlp(64, 128, 10))
    optimizer = partial(Adam, lr=5e-3)
    scorer = accuracy(d.tx, d.ty)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 36, 30, scorer)


def biases_alone() -> TrainingSetup:
    """A network that was trained on digits upside down; now its biases and its last layer learn,
    the rest stands still.
    """
    d = posted_data.pixels().inputs(lambda x: x / 16)
    body = mlp(64, 96, 96, 10)
    optimizer = Adam(body.parameters(), lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(body(d.x.flip(1)), d.y).backward()
        optimizer.step()
    for name, p in body.named_parameters():
        p.requires_grad_(name.endswith("bias") or name.startswith("4"))
    learns = [p for p in body.parameters() if p.requires_grad]
    scorer = accuracy(d.tx, d.ty)
    return setup(d, body, nn.CrossEntropyLoss(), Adam(learns, lr=5e-3), 30, 20, scorer)


# Networks


class Sign(nn.Module):
    """-1 or 1 forward; backward as if it were the input, where that is small (Bengio 2013)."""

    def forward(self, x: Tensor) -> Tensor:
        path = x.clamp(-1, 1)
        return path + (x.sign() - path).detach()


def signs_with_a_straight_path() -> TrainingSetup:
    d = data.cancer().standardized()
    model = nn.Sequential(nn.Linear(30, 32), Sign(), nn.Linear(32, 1), nn.Flatten(0))
    return setup(
        d,
        model,
        nn.BCEWithLogitsLoss(),
        partial(Adam, lr=2e-3, weight_decay=0.02),
        20,
        15,
        binary_accuracy(d.tx, d.ty),
    )


class Rising(nn.Module):
    """Weights above zero, so that the output rises with every input; a softplus each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(24, 5) * 0.3 - 2.0)
        self.shift = nn.Parameter(torch.linspace(-3, 3, 24))
        self.last = nn.Parameter(torch.randn(1, 24) * 0.3 - 3.0)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(F.linear(x, F.softplus(self.first), self.shift))
        return F.linear(hidden, F.softplus(self.last), self.bias)


def weights_above_zero() -> TrainingSetup:
    """An index rises with each of its firms."""
    d = later_table_data.months().standardized().targets_standardized()
    return setup(d, Rising(), nn.MSELoss(), partial(Adam, lr=0.01), 12, 30, r2(d.tx, d.ty))


class Heads(nn.Module):
    """Eight small networks beside each other: [N, 8]."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.nets = nn.ModuleList(mlp(inputs, 6, 1, act=nn.Tanh) for _ in range(8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([net(x) for net in self.nets], 1)


def eight_heads_one_target() -> TrainingSetup:
    """Outputs [N, 8] beside targets [N, 1], on purpose: each head learns the same target."""
    d = data.houses().standardized().targets_standardized()
    inner = r2(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, t: inner.score(out.mean(1, keepdim=True), t), 0.0, -1.0)

    def each(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean(0).sum()

    return setup(d, Heads(8), each, partial(SGD, lr=0.05, momentum=0.7), 30, 20, scorer)


# Losses


def logarithm_of_the_error() -> TrainingSetup:
    """The log of the mean squared error: it starts at zero and falls without a floor."""
    d = data.houses().standardized().targets_standardized()

    def log_error(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets).log()

    optimizer = partial(SGD, lr=5e-3, momentum=0.9)
    return setup(d, mlp(8, 24, 1, act=nn.GELU), log_error, optimizer, 60, 36, r2(d.tx, d.ty))


def prior_added() -> TrainingSetup:
    """One in twelve is late: the log of the shares is added to the outputs in the loss (Menon et
    al. 2021), so that the outputs weigh both alike.
    """
    d = later_table_data.loans()
    d = d.inputs(lambda x: torch.cat([x[:, :2].log(), x[:, 2:]], 1)).standardized()
    prior = (d.y.bincount() / len(d.y)).log()

    def adjusted(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs + prior, targets)

    optimizer = partial(AdamW, lr=5e-3)
    return setup(d, mlp(7, 10, 2, act=nn.ELU), adjusted, optimizer, 50, 12, mean_recall(d.tx, d.ty))


def density_of_shares() -> TrainingSetup:
    """Lightness, as eyes differ about it, as a share between 0 and 1: minus the log density of a
    beta distribution, below zero from early on.
    """
    draw = torch.Generator().manual_seed(5)
    d = later_table_data.lightness().targets(lambda y: y[:, 1:] / 100)
    d = d.targets(lambda y: (y + 0.07 * torch.randn(y.shape, generator=draw)).clamp(0.01, 0.99))

    def parts(outputs: Tensor) -> tuple[Tensor, Tensor]:
        center, sure = outputs[:, :1].sigmoid(), F.softplus(outputs[:, 1:]) + 1
        return center * sure, (1 - center) * sure

    def minus_log_density(outputs: Tensor, targets: Tensor) -> Tensor:
        return -torch.distributions.Beta(*parts(outputs)).log_prob(targets).mean()

    inner = r2(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, t: inner.score(out[:, :1].sigmoid(), t), 0.0, -1.0)
    return setup(
        d, mlp(3, 24, 2, act=nn.SiLU), minus_log_density, partial(Adam, lr=0.01), 20, 30, scorer
    )


CODES: tuple[tuple[Callable[[], TrainingSetup], Any, Any], ...] = (
    (one_pass_by_fours, "regression", "mlp"),
    (a_dozen_flowers, "classification", "linear"),
    (votes_of_three, "classification", "mlp"),
    (pixels_as_they_are, "classification", "linear"),
    (no_first_moment, "regression", "mlp"),
    (half_the_answer_smoothed, "classification", "mlp"),
    (inputs_dropped, "classification", "mlp"),
    (biases_alone, "classification", "mlp"),
    (signs_with_a_straight_path, "classification", "mlp"),
    (weights_above_zero, "regression", "mlp"),
    (eight_heads_one_target, "regression", "mlp"),
    (logarithm_of_the_error, "regression", "mlp"),
    (prior_added, "classification", "mlp"),
    (density_of_shares, "regression", "mlp"),
)
SCRIPTS: tuple[TrainingScript, ...] = tuple(healthy_script(*entry) for entry in CODES)

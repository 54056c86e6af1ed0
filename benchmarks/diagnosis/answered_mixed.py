"""Setups after questions that people ask about networks and settings, with the answer that was
accepted beside the mistake: copies for members, factors of zero, norms that take the answer away,
activations without a slope, units without a size; and healthy ones that look odd.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.asked_pictures import pictures
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_losses import setup
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
    r2,
)

# Small experts that are added up


class AddedExperts(nn.Module):
    def __init__(self, made: str, count: int = 12) -> None:
        super().__init__()
        first = mlp(10, 4, 1)
        others = {
            "": lambda: mlp(10, 4, 1),
            "copies": lambda: copy.deepcopy(first),
            "the same": lambda: first,
        }[made]
        self.experts = nn.ModuleList([first, *(others() for _ in range(count - 1))])

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([expert(x) for expert in self.experts]).mean(0)


def added_experts(made: str = "") -> TrainingSetup:
    d = data.friedman(900).targets(column).standardized().targets_standardized()
    model = AddedExperts(made)
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=0.02), 36, 25, r2(d.tx, d.ty))


ADDED_EXPERTS = group(
    "added-experts",
    added_experts,
    fault(
        "twelve-copies-of-one",
        "initialization replicas architecture-too-small",
        made="copies",
        answers={"exact": True, "where": "experts", "remedy": ("model", "make each anew")},
    ),
    fault(
        "one-expert-times-twelve",
        "replicas architecture-too-small initialization",
        made="the same",
        answers={"exact": True, "where": "experts", "remedy": ("model", "make each anew")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Capacitors, in farads


def capacitors(rows: int = 900) -> Split:
    """Plate area in square centimeters, distance in mm, permittivity, warmth, ripple; farads (3e-11
    to 6e-9) [N, 1].
    """
    rng = np.random.default_rng(141)
    area, far = rng.uniform(1, 20, rows), rng.uniform(0.05, 0.5, rows)
    kind, warm = rng.uniform(1, 8, rows), rng.normal(25, 12, rows)
    farads = 8.85e-13 * kind * area / far * (1 + 0.004 * (warm - 25))
    x = np.stack([area, far, kind, warm, rng.normal(0, 1, rows)], 1)
    return split(x, (farads * np.exp(rng.normal(0, 0.03, rows)))[:, None] / 10)


def farads(scaled: bool = True, optimizer: Any = Adam, lr: float = 0.01) -> TrainingSetup:
    d = capacitors().standardized()
    d = d.targets_standardized() if scaled else d
    model = mlp(5, 32, 32, 1, act=nn.Tanh)
    return setup(d, model, nn.MSELoss(), partial(optimizer, lr=lr), 36, 40, r2(d.tx, d.ty))


FARADS_SCALED = group(
    "farads",
    farads,
    fault(
        "a-millionth-of-a-millionth",
        "target-scale optimizer-numerics",
        scaled=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# An adapter of low rank on weights that stay


class Adapted(nn.Module):
    """A layer that stays, and a product of two thin matrices that learns (Hu et al. 2021)."""

    def __init__(self, layer: nn.Linear, zeros: bool, rank: int = 8) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.zeros(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        if not zeros:
            nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + x @ self.down.T @ self.up.T


def adapter(zeros: bool = False, lr: float = 0.02) -> TrainingSetup:
    """Weights for the digits as they are; then the same digits upside down."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    net = mlp(64, 48, 10)
    learn = Adam(net.parameters(), lr=0.01)
    for _ in range(150):
        learn.zero_grad()
        F.cross_entropy(net(d.x), d.y).backward()
        learn.step()
    d = d.inputs(lambda x: x.flip(1))
    layers = [Adapted(m, zeros) if isinstance(m, nn.Linear) else m for m in net]
    optimizer = partial(AdamW, lr=lr, weight_decay=0.1)
    model = nn.Sequential(*layers)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 49, 20, accuracy(d.tx, d.ty))


LOW_RANK_ADAPTER = group(
    "adapter",
    adapter,
    fault(
        "both-factors-start-at-zero",
        "initialization vanishing frozen-parameters",
        zeros=True,
        answers={
            "where": "0",
            "exact": True,
            "proof": "unmoved",
            "unmoved": "0.down",
            "remedy": ("init", "one factor at random"),
        },
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Slides that are light or dark


def slides(rows: int = 700, size: int = 10) -> Split:
    """Gray pictures [N, 1, 10, 10] with a grain of any strength: light, middle, or dark?"""
    rng = np.random.default_rng(142)
    y = rng.integers(0, 3, rows)
    light = 0.2 + 0.25 * y + rng.normal(0, 0.05, rows)
    grain = rng.normal(0, 1, (rows, 1, size, size)) * rng.uniform(0.05, 0.25, (rows, 1, 1, 1))
    return split(light[:, None, None, None] + grain, y)


def light_or_dark(norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> TrainingSetup:
    d = slides()
    net = nn.Sequential(
        norm(1), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    ).append(nn.Linear(32, 3))
    return pictures(d, net, partial(Adam, lr=0.01), 28, 20)


LIGHT_OR_DARK = group(
    "light-or-dark",
    light_or_dark,
    fault(
        "each-slide-by-its-own-mean",
        "normalization",
        norm=nn.InstanceNorm2d,
        answers={"where": "0", "exact": True, "remedy": ("model", "batch norm")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Activations without a slope


def shrunk(act: Callable[[], nn.Module] = nn.Tanh, depth: int = 5) -> TrainingSetup:
    d = data.moons().standardized()
    scorer = binary_accuracy(d.tx, d.ty)
    model = mlp(2, *[20] * depth, 1, act=act)
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.1)
    return setup(
        d.targets(lambda y: y[:, None].float()),
        model,
        F.binary_cross_entropy_with_logits,
        optimizer,
        20,
        25,
        scorer,
    )


SHRUNK_MOONS = group(
    "shrunk-moons",
    shrunk,
    fault(
        "five-times-what-tanh-leaves",
        "vanishing hidden-activation architecture-too-deep initialization",
        act=nn.Tanhshrink,
        answers={"remedy": ("activation", "tanh")},
    ),
    fault(
        "all-below-a-half-is-nothing",
        "vanishing hidden-activation dead-units architecture-too-deep initialization",
        act=nn.Hardshrink,
        answers={"remedy": ("activation", "tanh")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Waves as activations


class Wave(nn.Module):
    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.speed * x)


def waves(speed: float = 1.0, decay: float = 0.3, lr: float = 3e-3) -> TrainingSetup:
    d = data.friedman(900).targets(column).standardized().targets_standardized()
    model = mlp(10, 64, 64, 1, act=partial(Wave, speed))
    optimizer = partial(AdamW, lr=lr, weight_decay=decay)
    return setup(d, model, nn.MSELoss(), optimizer, 36, 20, r2(d.tx, d.ty))


TABLE_WAVES = group(
    "waves-for-a-table",
    waves,
    fault(
        "thirty-times-as-fast",
        "hidden-activation initialization input-scale",
        speed=30.0,
        answers={"where": "1", "remedy": ("activation", "a speed of 1")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Rain, on one day of four


def rain(rows: int = 1600) -> Split:
    """Pressure, damp, wind, warmth, month as two columns; rain in cm, mostly 0 [N, 1]."""
    rng = np.random.default_rng(143)
    x = rng.normal(size=(rows, 6))
    wet = rng.random(rows) < 0.48 / (1 + np.exp(-3 * x[:, 1]))
    amount = rng.gamma(20.0, 0.02, rows) * np.exp(x[:, 1].clip(-2, 2) - 0.3 * x[:, 2])
    return split(x, (wet * amount)[:, None])


def rainy(loss: Loss | None = None) -> TrainingSetup:
    d = rain()
    model = mlp(6, 24, 1, act=nn.Tanh)
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.3)
    return setup(d, model, loss or nn.MSELoss(), optimizer, 32, 12, r2(d.tx, d.ty))


RAINY_DAYS = group(
    "rainy-days",
    rainy,
    fault(
        "middle-of-mostly-dry-days",
        "loss imbalance",
        loss=nn.L1Loss(),
        answers={"remedy": ("loss", "mse")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Words whose vectors also answer


class TiedWords(nn.Module):
    def __init__(self, std: float, width: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(27, width)
        nn.init.normal_(self.words.weight, 0.0, std)
        self.rnn = nn.GRU(width, 48, batch_first=True)
        self.back = nn.Linear(48, width)

    def forward(self, letters: Tensor) -> Tensor:
        x = self.words(letters)
        return (x + self.back(self.rnn(x)[0])) @ self.words.weight.T


def in_each_place(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.transpose(1, 2), targets)


def tied_words(std: float = 0.15, lr: float = 0.5) -> TrainingSetup:
    d = posted.characters()
    model = TiedWords(std)
    optimizer = partial(SGD, lr=lr, momentum=0.9)
    return pictures(d, model, optimizer, 28, 24, loss=in_each_place)


TIED_WORDS = group(
    "tied-words",
    tied_words,
    fault(
        "vectors-of-one-answer-too",
        "initialization exploding learning-rate-high",
        std=1.0,
        answers={"where": "words", "remedy": ("init", "normal of 0.15")},
    ),
    family="sequence",
    task="generation",
    network="recurrent",
)


# Prices in the right order, by the correlation in a batch


def not_correlated(outputs: Tensor, targets: Tensor) -> Tensor:
    out, y = outputs - outputs.mean(0), targets - targets.mean(0)
    return 1 - (out * y).sum() / (out.pow(2).sum() * y.pow(2).sum() + 1e-8).sqrt()


def correlation(x: Tensor, y: Tensor) -> Scorer:
    return Scorer(x, y, lambda out, t: 1 - float(not_correlated(out, t)), 0.0, -1.0)


def correlated(batch: int = 30) -> TrainingSetup:
    d = data.houses().standardized().targets_standardized()
    model = mlp(8, 24, 1, act=nn.Tanh)
    optimizer = partial(SGD, lr=0.1, momentum=0.9)
    return setup(d, model, not_correlated, optimizer, batch, 12, correlation(d.tx, d.ty))


CORRELATED_PRICES = group(
    "correlated-prices",
    correlated,
    fault(
        "correlation-of-two",
        "batch-size loss vanishing",
        batch=2,
        answers={"exact": True, "remedy": ("batch", 30)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# A layer that is made in each pass


class MadeAnew(nn.Module):
    def __init__(self, anew: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(13, 24), nn.Linear(24, 3)
        self.middle = None if anew else nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.middle or nn.Linear(24, 24)
        return self.last(torch.relu(middle(torch.relu(self.first(x)))))


def made_anew(anew: bool = False) -> TrainingSetup:
    d = data.wine().standardized()
    model = MadeAnew(anew)
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.5)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 16, 15, accuracy(d.tx, d.ty))


MADE_ANEW = group(
    "made-anew",
    made_anew,
    fault(
        "a-layer-made-in-forward",
        "parameters-not-in-optimizer randomness initialization",
        anew=True,
        answers={"exact": True, "remedy": ("model", "make it in __init__")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Dropout of whole rows


def dropped_rows(
    drop: Callable[[float], nn.Module] = nn.Dropout, share: float = 0.5
) -> TrainingSetup:
    d = data.houses().standardized().targets_standardized()
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), drop(share), nn.Linear(64, 1))
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=5e-3), 30, 40, r2(d.tx, d.ty))


DROPPED_ROWS = group(
    "dropped-rows",
    dropped_rows,
    fault(
        "channels-that-are-examples",
        "dropout over-regularized shape-pairing",
        drop=nn.Dropout1d,
        answers={"where": "2", "remedy": ("model", "nn.Dropout")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Layers without a bias


class Plain(nn.Module):
    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(7, 32, bias=bias), nn.ReLU(), nn.Linear(32, 1, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def plain(bias: bool = True, lr: float = 0.03) -> TrainingSetup:
    d = later_table_data.crabs().standardized()
    optimizer = partial(Adam, lr=lr)
    return setup(d, Plain(bias), nn.MSELoss(), optimizer, 36, 30, r2(d.tx, d.ty))


NO_CONSTANT = group(
    "no-constant",
    plain,
    fault(
        "nothing-to-add-to-ten-rings",
        "architecture-too-small target-scale",
        bias=False,
        answers={"exact": True, "remedy": ("model", "bias=True")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Six for a limit


def limited(raw: bool = False, lr: float = 5e-3) -> TrainingSetup:
    d = posted_data.tasted_wines(classes=True)
    d = d if raw else d.standardized()
    model = mlp(13, 24, 16, 3, act=nn.ReLU6)
    optimizer = partial(AdamW, lr=lr, weight_decay=0.5)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 16, 15, accuracy(d.tx, d.ty))


LIMIT_OF_SIX = group(
    "limit-of-six",
    limited,
    fault(
        "milligrams-above-the-limit",
        "input-scale saturation hidden-activation dead-units",
        raw=True,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "milligrams-and-tiny-steps",
        "input-scale saturation hidden-activation dead-units learning-rate-low too-few-steps",
        raw=True,
        lr=1e-5,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Healthy ones


def a_thousand_for_three() -> TrainingSetup:
    """The last layer of a network for a thousand kinds, and only three are ever asked for."""
    d = data.wine().standardized()
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.5)
    model = mlp(13, 24, 1000)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 16, 15, accuracy(d.tx, d.ty))


def hundred_thousandths() -> TrainingSetup:
    """The loss is a hundred-thousandth of what others have; Adam does not mind, its epsilon is set
    as small.
    """
    d = data.houses().standardized().targets_standardized()

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return 1e-5 * F.mse_loss(outputs, targets)

    model = mlp(8, 32, 1, act=nn.Tanh)
    optimizer = partial(Adam, lr=0.01, eps=1e-13)
    return setup(d, model, loss, optimizer, 30, 30, r2(d.tx, d.ty))


class Skipped(nn.Module):
    """A block that is left out now and then while training (Huang et al. 2016)."""

    def __init__(self, width: int, share: float) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        if self.training and float(torch.rand(())) < self.share:
            return x
        return x + self.block(x) * (1.0 if self.training else 1 - self.share)


def left_out_now_and_then() -> TrainingSetup:
    """Four blocks, each left out in every fourth step: some weights have no gradient then."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    blocks = [Skipped(48, 0.25) for _ in range(4)]
    model = nn.Sequential(nn.Linear(64, 48), *blocks, nn.Linear(48, 10))
    optimizer = partial(AdamW, lr=2e-3, weight_decay=0.3)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 40, 10, accuracy(d.tx, d.ty))


class Again(nn.Module):
    """The same block, several times on purpose (Dehghani et al. 2018)."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Linear(width, width), nn.Tanh())
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = x + self.block(x) / self.times
        return x


def six_times_on_purpose() -> TrainingSetup:
    d = data.friedman(900).targets(column).standardized().targets_standardized()
    model = nn.Sequential(nn.Linear(10, 48), nn.Tanh(), Again(48, 6), nn.Linear(48, 1))
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.1)
    return setup(d, model, nn.MSELoss(), optimizer, 36, 25, r2(d.tx, d.ty))


def waves_for_places() -> TrainingSetup:
    """Sines of three times the place, as they are meant for places (Sitzmann et al. 2020)."""
    d = posted_data.hills().standardized().targets_standardized()
    model = nn.Sequential(
        nn.Linear(2, 64), Wave(3.0), nn.Linear(64, 64), Wave(1.0), nn.Linear(64, 1)
    )
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.3)
    return setup(d, model, nn.MSELoss(), optimizer, 37, 60, r2(d.tx, d.ty))


def wrong_names() -> TrainingSetup:
    """Three of ten training labels are wrong: the loss stays high, three of ten are never learned,
    and that is right.
    """
    d = posted_data.pixels().inputs(lambda x: x / 16)
    draw = torch.Generator().manual_seed(144)
    wrong = torch.rand(len(d.y), generator=draw) < 0.3
    y = torch.where(wrong, torch.randint(0, 10, d.y.shape, generator=draw), d.y)
    d = d._replace(y=y)
    optimizer = partial(AdamW, lr=5e-3, weight_decay=1.0)
    model = mlp(64, 32, 10)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 40, 10, accuracy(d.tx, d.ty))


def tiny_behind_norms() -> TrainingSetup:
    """Weights of a thousandth and no bias; the norm behind each layer makes them count."""
    d = later_table_data.sensors().standardized()
    scorer = binary_accuracy(d.tx, d.ty)
    layers: list[nn.Module] = []
    for before in (6, 24):
        layer = nn.Linear(before, 24, bias=False)
        nn.init.normal_(layer.weight, 0.0, 1e-3)
        layers += [layer, nn.BatchNorm1d(24), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(24, 1))
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.3)
    d = d.targets(column)
    return setup(d, model, nn.BCEWithLogitsLoss(), optimizer, 40, 8, scorer)


def one_at_a_time() -> TrainingSetup:
    """One example in a batch, with a norm that does not look at others."""
    d = later_table_data.flowers().standardized()
    model = nn.Sequential(nn.Linear(4, 24), nn.GroupNorm(4, 24), nn.ReLU(), nn.Linear(24, 3))
    optimizer = partial(SGD, lr=0.01, weight_decay=0.02)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 1, 12, accuracy(d.tx, d.ty))


SCRIPTS: tuple[TrainingScript, ...] = (
    *ADDED_EXPERTS,
    *FARADS_SCALED,
    *LOW_RANK_ADAPTER,
    *LIGHT_OR_DARK,
    *SHRUNK_MOONS,
    *TABLE_WAVES,
    *RAINY_DAYS,
    *TIED_WORDS,
    *CORRELATED_PRICES,
    *MADE_ANEW,
    *DROPPED_ROWS,
    *NO_CONSTANT,
    *LIMIT_OF_SIX,
    healthy_script(a_thousand_for_three, "classification", "mlp"),
    healthy_script(hundred_thousandths, "regression", "mlp"),
    healthy_script(left_out_now_and_then, "classification", "mlp"),
    healthy_script(six_times_on_purpose, "regression", "mlp"),
    healthy_script(waves_for_places, "regression", "mlp"),
    healthy_script(wrong_names, "classification", "mlp"),
    healthy_script(tiny_behind_norms, "classification", "mlp"),
    healthy_script(one_at_a_time, "classification", "mlp"),
)

"""Scripts on tables as people post them: settings of optimizers, norms and samplers that mean
something else than their name, rows in the order of a file, columns that answer for the target.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, Rprop
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.posted_losses import setup
from benchmarks.diagnosis.tables import column, mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    mean_recall,
    r2,
)


def columns_r2(x: Tensor, y: Tensor) -> Scorer:
    """Mean over the targets of the R2 of each; chance 0, none counted below -1."""

    def score(out: Tensor, t: Tensor) -> float:
        rest = ((out - t) ** 2).sum(0) / ((t - t.mean(0)) ** 2).sum(0)
        return float((1 - rest).clamp(min=-1).mean())

    return Scorer(x, y, score, 0.0, -1.0)


# The return of an index from those of five firms


def index_months(optimizer: Any = None, raw: bool = False) -> TrainingSetup:
    d = later_table_data.months()
    d = d if raw else d.standardized().targets_standardized()
    optimizer = optimizer or partial(SGD, lr=0.01, momentum=0.9)
    return setup(d, mlp(5, 6, 1, act=nn.Tanh), nn.MSELoss(), optimizer, 16, 25, r2(d.tx, d.ty))


INDEX = group(
    "index-of-shares",
    index_months,
    fault(
        "dampened-away",
        "optimizer learning-rate-low",
        optimizer=partial(SGD, lr=0.01, momentum=0.9, dampening=1.0),
        answers={"remedy": ("optimizer", "dampening 0")},
    ),
    fault(
        "adam's-rate-for-adadelta",
        "learning-rate-low optimizer too-few-steps input-scale target-scale",
        optimizer=partial(Adadelta, lr=1e-3),
        raw=True,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Iris as the file has it


def iris_file(shuffled: bool = True, numbered_again: bool = False) -> TrainingSetup:
    """`numbered_again`: names become numbers by their first appearance, in each part anew."""
    d = later_table_data.flowers(shuffled).standardized()
    if numbered_again:
        d = d._replace(y=torch.tensor([2, 0, 1])[d.y])
    scorer = accuracy(d.tx, d.ty)
    return setup(d, mlp(4, 10, 3), nn.CrossEntropyLoss(), partial(Adam, lr=0.02), 10, 40, scorer)


IRIS_FILE = group(
    "iris-file",
    iris_file,
    fault(
        "the-last-third-validates",
        "split shuffling",
        shuffled=False,
        answers={"remedy": ("data", "shuffle before the split")},
    ),
    fault(
        "numbered-in-each-part",
        "labels split",
        numbered_again=True,
        answers={"remedy": ("data", "one numbering for all parts")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Three measures of a penguin at once


class Direction(nn.Module):
    """To length one."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1)


def penguin_body(
    divided: bool = True, last: Callable[[], nn.Module] | None = None, lr: float = 0.01
) -> TrainingSetup:
    """Depth of the bill, flipper and mass from species, sex and length of the bill."""
    d = posted_data.penguins()
    targets = [x[:, 1:4] for x in (d.x, d.vx, d.tx)]
    d = d._replace(y=targets[0], vy=targets[1], ty=targets[2])
    d = d.inputs(lambda x: torch.cat([x[:, :1], x[:, 4:5], F.one_hot(x[:, 5].long(), 3)], 1))
    d = d.standardized()
    mean = d.y.mean(0)
    d = d.targets_standardized() if divided else d.targets(lambda y: y - mean)
    model = mlp(5, 16, 3, act=nn.SiLU, last=last() if last else None)
    return setup(d, model, nn.MSELoss(), partial(Adam, lr=lr), 20, 40, columns_r2(d.tx, d.ty))


PENGUIN_BODY = group(
    "penguin-body",
    penguin_body,
    fault(
        "grams-beside-millimeters",
        "target-scale loss too-few-steps",
        divided=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "length-one-at-a-hot-rate",
        "output-activation normalization learning-rate-high",
        last=Direction,
        lr=1.0,
        answers={"where": "3"},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Loans that are paid back late: one in twelve


def mixed_with_anyone(d: Split) -> Split:
    """Ten new late ones for each, on the way from it to another row; of whatever kind."""
    draw = torch.Generator().manual_seed(0)
    late = d.x[d.y == 1].repeat(10, 1)
    other = d.x[torch.randint(len(d.x), (len(late),), generator=draw)]
    new = late + torch.rand(len(late), 1, generator=draw) * (other - late)
    return d._replace(x=torch.cat([d.x, new]), y=torch.cat([d.y, d.y.new_ones(len(new))]))


def late_loans(per_class: bool = False, mixed: bool = False, epochs: int = 12) -> TrainingSetup:
    d = later_table_data.loans()
    d = d.inputs(lambda x: torch.cat([x[:, :2].log(), x[:, 2:]], 1)).standardized()
    rows = mixed_with_anyone(d) if mixed else d
    weights = 1 / d.y.bincount()
    chosen = weights if per_class else weights[d.y]
    sampler = None if mixed else WeightedRandomSampler(chosen.tolist(), len(d.y))
    model = mlp(7, 12, 2, act=nn.ELU)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(
            TensorDataset(rows.x, rows.y), batch_size=50, sampler=sampler, shuffle=mixed
        ),
        validation=(d.vx, d.vy),
        optimizer=partial(AdamW, lr=3e-3, betas=(0.8, 0.99)),
        batch_size=50,
        epochs=epochs,
        scorer=mean_recall(d.tx, d.ty),
    )


LATE_LOANS = group(
    "late-loans",
    late_loans,
    fault(
        "a-weight-for-each-class",
        "data-degenerate shuffling imbalance overfitting",
        per_class=True,
        answers={"remedy": ("data", "a weight for each row")},
    ),
    fault(
        "new-ones-half-way-to-anyone",
        "augmentation labels",
        mixed=True,
        answers={"remedy": ("data", "between neighbors of one kind")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# What a street spends


def street_spending(
    own_answer: bool = False, columns: bool = False, decay: float = 0.05, epochs: int = 20
) -> TrainingSetup:
    """A street counts by what others who live there spend, drawn to the mean of all; with
    `own_answer` the row's own money is in it, with `columns` each street is a column.
    """
    d, s = later_table_data.customers()
    d = d.standardized()
    mean = d.y.mean()
    total = torch.zeros(320).index_add(0, s.y, d.y[:, 0])
    count = torch.zeros(320).index_add(0, s.y, torch.ones(len(s.y)))
    known = ((total + 1e-3 * mean) / (count + 1e-3))[:, None]
    drawn = ((total + 5 * mean) / (count + 5))[:, None]
    without = (total[s.y][:, None] - d.y + 5 * mean) / (count[s.y][:, None] + 4)
    codes = (
        [F.one_hot(part, 320).float() for part in (s.y, s.vy, s.ty)]
        if columns
        else [known[s.y], known[s.vy], known[s.ty]]
        if own_answer
        else [without, drawn[s.vy], drawn[s.ty]]
    )
    parts = [torch.cat(pair, 1) for pair in zip((d.x, d.vx, d.tx), codes, strict=True)]
    d = d._replace(x=parts[0], vx=parts[1], tx=parts[2])
    optimizer = partial(AdamW, lr=0.01, weight_decay=decay)
    model = mlp(d.x.shape[1], 24, 1)
    return setup(d, model, nn.MSELoss(), optimizer, 30, epochs, r2(d.tx, d.ty))


STREETS = group(
    "street-spending",
    street_spending,
    fault(
        "with-the-own-answer",
        "leakage overfitting",
        own_answer=True,
        answers={"where": "6", "remedy": ("data", "means of the others")},
    ),
    fault("a-column-for-each-street", "overfitting", columns=True, epochs=60),
    family="table",
    task="regression",
    network="mlp",
)


# Pumps: counts of particles, many of them zero


def pumps(zeros: bool = False, whole: bool = False) -> TrainingSetup:
    d = later_table_data.sensors()
    if whole:
        low, high = d.x.amin(0), d.x.amax(0)
        d = d.inputs(lambda x: ((x - low) / (high - low)).int().float())
    else:
        d = d.inputs(lambda x: torch.cat([(x[:, :3] + (not zeros)).log(), x[:, 3:]], 1))
        d = d.standardized()
    model = nn.Sequential(mlp(6, 16, 1, act=nn.Mish), nn.Flatten(0))
    return setup(
        d,
        model,
        F.binary_cross_entropy_with_logits,
        partial(Adam, lr=5e-3, amsgrad=True),
        24,
        12,
        binary_accuracy(d.tx, d.ty),
    )


PUMPS = group(
    "pumps",
    pumps,
    fault(
        "logarithm-of-zero",
        "data-degenerate input-scale",
        zeros=True,
        answers={"where": "0", "exact": True, "remedy": ("data", "log of 1 + count")},
    ),
    fault(
        "shares-as-whole-numbers",
        "data-degenerate input-scale precision",
        whole=True,
        answers={"exact": True, "remedy": ("data", "leave the fractions")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Tumors: norms of groups


def grouped_tumors(groups: int = 4, width: int = 16, drop: float = 0.0) -> TrainingSetup:
    d = data.cancer().standardized().targets(column)
    layers: list[nn.Module] = []
    for a, b in ((30, width), (width, width), (width, width)):
        layers += [nn.Linear(a, b), nn.GroupNorm(groups, b), nn.ReLU(), nn.Dropout(drop)]
    model = nn.Sequential(*layers, nn.Linear(width, 1))
    optimizer = partial(SGD, lr=0.02, momentum=0.8, nesterov=True)
    scorer = binary_accuracy(d.tx, d.ty)
    return setup(d, model, nn.BCEWithLogitsLoss(), optimizer, 18, 16, scorer)


GROUPED_TUMORS = group(
    "grouped-tumors",
    grouped_tumors,
    fault(
        "a-group-for-each-unit",
        "normalization",
        groups=16,
        answers={"where": "1", "exact": True, "remedy": ("model", "groups of four units")},
    ),
    fault(
        "narrow-and-dropped",
        "dropout over-regularized architecture-too-small",
        groups=1,
        width=3,
        drop=0.7,
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Crabs: rings of the shell


class Whole(nn.Module):
    """Rings are whole numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.round()


def crab_rings(
    norm: bool = False, last: Callable[[], nn.Module] | None = None, lr: float = 5e-3
) -> TrainingSetup:
    d = later_table_data.crabs()
    d = d if norm else d.standardized()
    first = nn.LayerNorm(7) if norm else nn.Identity()
    model = nn.Sequential(first, *mlp(7, 32, 32, 1, act=nn.GELU, last=last() if last else None))
    nn.init.constant_(model[5].bias, 10.0)  # pyright: ignore[reportArgumentType]
    return setup(d, model, nn.SmoothL1Loss(), partial(Adam, lr=lr), 27, 50, r2(d.tx, d.ty))


CRAB_RINGS = group(
    "crab-rings",
    crab_rings,
    fault(
        "layer-norm-for-a-scaler",
        "normalization input-scale",
        norm=True,
        answers={"where": "0", "remedy": ("input.scale", "standardize")},
    ),
    fault(
        "rounded",
        "detached-graph output-activation vanishing",
        last=Whole,
        answers={"where": "6", "exact": True, "remedy": ("output", "linear")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Progress of an illness: an optimizer that wants other batches, a loss that wants other units


def illness(
    optimizer: Any = None, batch: int = 20, raw: bool = False, loss: Any = None
) -> TrainingSetup:
    d = posted_data.patients().standardized()
    d = d if raw else d.targets_standardized()
    optimizer = optimizer or partial(Adam, lr=2e-3)
    loss = loss or nn.HuberLoss()
    return setup(d, mlp(10, 8, 1, act=nn.Tanh), loss, optimizer, batch, 25, r2(d.tx, d.ty))


ILLNESS = group(
    "illness-settings",
    illness,
    fault("rprop-on-fours", "optimizer batch-size", optimizer=partial(Rprop, lr=0.05), batch=4),
    fault(
        "huber-of-a-hundredth-for-raw-units",
        "loss target-scale learning-rate-low too-few-steps",
        optimizer=partial(SGD, lr=0.01, momentum=0.9),
        loss=nn.HuberLoss(delta=0.01),
        raw=True,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Window glass: copies, and columns that were chosen, before the split


def with_chosen_columns(d: Split) -> Split:
    """Four hundred columns of noise, of which only those stay that go with the answer; the answers
    of the rows that validate have a say in it.
    """
    draw = torch.Generator().manual_seed(3)
    d = d.inputs(lambda x: torch.cat([x, torch.randn(len(x), 400, generator=draw)], 1))
    x, y = torch.cat([d.x, d.vx]), torch.cat([d.y, d.vy])
    related = ((x - x.mean(0)) * (y - y.mean())[:, None]).mean(0).abs() / x.std(0)
    best = related.topk(30).indices
    return d.inputs(lambda x: x[:, best])


def with_copies(d: Split) -> Split:
    """Each row five times, then a split."""
    x, y = torch.cat([d.x, d.vx]).repeat(5, 1), torch.cat([d.y, d.vy]).repeat(5)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    cut = int(0.75 * len(x))
    x, y = x[order], y[order]
    return d._replace(x=x[:cut], y=y[:cut], vx=x[cut:], vy=y[cut:])


def copied_glass(
    before_the_split: Callable[[Split], Split] | None = None, width: int = 6, decay: float = 0.1
) -> TrainingSetup:
    d = posted_data.glass()
    d = (before_the_split(d) if before_the_split else d).standardized().targets(column)
    model = mlp(d.x.shape[1], width, 1)
    optimizer = partial(AdamW, lr=0.01, weight_decay=decay)
    scorer = binary_accuracy(d.tx, d.ty)
    return setup(d, model, nn.BCEWithLogitsLoss(), optimizer, 16, 30, scorer)


COPIED_GLASS = group(
    "copied-glass",
    copied_glass,
    fault(
        "copied-then-split",
        "split leakage overfitting",
        before_the_split=with_copies,
        width=96,
        decay=0.0,
        answers={
            "where": "validation",
            "proof": "validation",
            "remedy": ("data", "split, then copy"),
        },
    ),
    fault(
        "columns-chosen-then-split",
        "split leakage overfitting",
        before_the_split=with_chosen_columns,
        answers={
            "where": "validation",
            "proof": "validation",
            "remedy": ("data", "split, then choose the columns"),
        },
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Widths of letters: weights between zero and one, betas in the wrong order


def glyph_widths(uniform: bool = False, betas: tuple[float, float] = (0.9, 0.999)) -> TrainingSetup:
    d = posted_data.glyphs().standardized().targets_standardized()
    model = mlp(6, 24, 24, 24, 1, act=nn.Tanh)
    if uniform:
        for weight in (p for p in model.parameters() if p.dim() > 1):
            nn.init.uniform_(weight)
    optimizer = partial(Adam, lr=5e-3, betas=betas)
    return setup(d, model, nn.L1Loss(), optimizer, 48, 10, r2(d.tx, d.ty))


GLYPH_WIDTHS = group(
    "glyph-widths",
    glyph_widths,
    fault(
        "weights-of-rand",
        "initialization saturation too-few-steps",
        uniform=True,
        answers={"remedy": ("init", "xavier")},
    ),
    fault(
        "betas-exchanged",
        "optimizer",
        betas=(0.999, 0.9),
        answers={"remedy": ("optimizer", "betas .9 and .999")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Saturation and lightness of named colors, in percent


def lightness(
    waist: int = 20,
    act: Any = nn.SiLU,
    lr: float = 5e-3,
    percent: bool = False,
    last: Callable[[], nn.Module] | None = None,
) -> TrainingSetup:
    d = later_table_data.lightness()
    d = d if percent else d.targets_standardized()
    model = mlp(3, 20, waist, 20, 2, act=act, last=last() if last else None)
    optimizer = partial(Adam, lr=lr, betas=(0.95, 0.99))
    return setup(d, model, nn.MSELoss(), optimizer, 15, 25, columns_r2(d.tx, d.ty))


LIGHTNESS = group(
    "color-lightness",
    lightness,
    fault(
        "a-waist-of-one-in-the-hot",
        "architecture-too-small dead-units learning-rate-high",
        waist=1,
        act=nn.ReLU,
        lr=0.05,
    ),
    fault(
        "percent-behind-a-norm",
        "normalization output-activation target-scale",
        percent=True,
        last=partial(nn.BatchNorm1d, 2, affine=False),
        answers={"where": "7", "exact": True},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Digits as rows of pixels: Adagrad


def adagrad_digits(optimizer: Any = None) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(nn.Linear(64, 40), nn.BatchNorm1d(40), nn.LeakyReLU(), nn.Linear(40, 10))
    optimizer = optimizer or partial(Adagrad, lr=0.03)
    return setup(d, model, nn.CrossEntropyLoss(), optimizer, 36, 8, accuracy(d.tx, d.ty))


ADAGRAD_DIGITS = group(
    "adagrad-digits",
    adagrad_digits,
    fault(
        "rate-decays-by-each-step",
        "optimizer schedule learning-rate-low too-few-steps",
        optimizer=partial(Adagrad, lr=0.01, lr_decay=1.0),
        answers={"remedy": ("optimizer", "no decay of the rate")},
    ),
    fault(
        "epsilon-of-one-and-decay-of-one",
        "over-regularized optimizer-numerics optimizer learning-rate-low",
        optimizer=partial(Adagrad, lr=0.03, weight_decay=1.0, eps=1.0),
    ),
    family="table",
    task="classification",
    network="mlp",
)

# Speed of computers: dropout in the wrong place


def computer_speeds(
    last: Callable[[], nn.Module] | None = None, kilobytes: bool = False, momentum: float = 0.8
) -> TrainingSetup:
    d = posted_data.processors().targets(torch.log).targets_standardized()
    d = d if kilobytes else d.inputs(lambda x: (x + 1).log())
    d = d.inputs(lambda x: x / 1000) if kilobytes else d.standardized()
    model = mlp(6, 16, 16, 1, act=nn.LeakyReLU, last=last() if last else None)
    optimizer = partial(SGD, lr=0.02, momentum=momentum)
    return setup(d, model, nn.MSELoss(), optimizer, 10, 30, r2(d.tx, d.ty))


COMPUTER_SPEEDS = group(
    "computer-speeds",
    computer_speeds,
    fault(
        "dropout-behind-the-output",
        "dropout output-activation",
        last=nn.Dropout,
        answers={"where": "5", "remedy": ("dropout", 0.0)},
    ),
    fault(
        "megabytes-and-a-heavy-ball",
        "input-scale optimizer learning-rate-high exploding",
        kilobytes=True,
        momentum=0.99,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Who survived: attention between the columns


class Columns(nn.Module):
    """A vector for each column, times its value, and its place; attention between them."""

    def __init__(self, size: float, places: bool) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(7 if places else 1, 16) * size)
        self.place = nn.Parameter(torch.randn(7 if places else 1, 16) * size)
        self.attend = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attend(x[..., None] * self.vector + self.place).mean(1))


def column_attention(size: float = 0.3, places: bool = True, lr: float = 2e-3) -> TrainingSetup:
    d = posted_data.passengers().standardized()
    d = d.targets(lambda y: y.long())
    scorer = accuracy(d.tx, d.ty)
    model = Columns(size, places)
    return setup(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=lr), 32, 10, scorer)


COLUMN_ATTENTION = group(
    "column-attention",
    column_attention,
    fault(
        "one-vector-for-all-columns",
        "architecture-too-small",
        places=False,
        answers={"remedy": ("model", "a vector for each column")},
    ),
    fault(
        "vectors-of-a-thousand-at-a-tiny-rate",
        "initialization saturation learning-rate-low too-few-steps",
        size=1000.0,
        lr=1e-5,
    ),
    family="table",
    task="classification",
    network="attention",
)

SCRIPTS = (
    *INDEX,
    *IRIS_FILE,
    *PENGUIN_BODY,
    *LATE_LOANS,
    *STREETS,
    *PUMPS,
    *GROUPED_TUMORS,
    *CRAB_RINGS,
    *ILLNESS,
    *COPIED_GLASS,
    *GLYPH_WIDTHS,
    *LIGHTNESS,
    *ADAGRAD_DIGITS,
    *COMPUTER_SPEEDS,
    *COLUMN_ATTENTION,
)

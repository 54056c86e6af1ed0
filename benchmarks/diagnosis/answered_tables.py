"""Setups on tables after answered questions: likes and stars, months until a relapse, exposures,
codes of categories, typing errors, an equation of motion; with healthy ones that look odd.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_losses import auc, setup
from benchmarks.diagnosis.posted_units import deviance
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

BINS = 12


# Who liked which of two songs


def likes(rows: int = 2400, people: int = 50, songs: int = 70) -> Split:
    """A person, a song she liked and one she did not [N, 3] int64; always 1."""
    rng = np.random.default_rng(201)
    taste, kind = rng.normal(size=(people, 3)), rng.normal(size=(songs, 3))
    who, a, b = (rng.integers(0, n, rows) for n in (people, songs, songs))
    b = np.where(a == b, (b + 1) % songs, b)
    more = (taste[who] * (kind[a] - kind[b])).sum(1) > rng.normal(0, 0.3, rows)
    x = np.stack([who, np.where(more, a, b), np.where(more, b, a)], 1)
    return split(x, np.ones(rows))


class Preference(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.people, self.songs = nn.Embedding(50, 8), nn.Embedding(70, 8)
        for table in (self.people, self.songs):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, codes: Tensor) -> Tensor:
        liked, other = self.songs(codes[:, 1]), self.songs(codes[:, 2])
        return self.people(codes[:, 0]) * (liked - other)


def personal_ranking(outputs: Tensor, _: Tensor) -> Tensor:
    """-log sigmoid of the difference of the scores (Rendle et al. 2009)."""
    return -F.logsigmoid(outputs.sum(1)).mean()


def summed_first(outputs: Tensor, _: Tensor) -> Tensor:
    """The same of the sum over the whole batch."""
    return -F.logsigmoid(outputs.sum())


def more_liked(loss: Loss = personal_ranking) -> TrainingSetup:
    d = likes()

    def share(out: Tensor, y: Tensor) -> float:
        return float((out.sum(1) > 0).float().mean())

    scorer = Scorer(d.tx, d.ty, share, 0.5)
    optimizer = partial(SGD, lr=0.3, momentum=0.9, weight_decay=1e-3)
    return setup(d, Preference(), loss, optimizer, 48, 30, scorer)


MORE_LIKED = group(
    "more-liked",
    more_liked,
    fault(
        "summed-before-the-sigmoid",
        "loss loss-reduction shape-pairing saturation exploding learning-rate-high",
        loss=summed_first,
        answers={"remedy": ("formula", "sum(1), then logsigmoid, then mean")},
    ),
    family="table",
    task="classification",
    network="linear",
)


# Stars: a range for the answers


class Stars(nn.Module):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.who, self.what = nn.Embedding(60, 6), nn.Embedding(80, 6)
        self.bias = nn.Embedding(80, 1)
        self.low, self.high = low, high
        for table in (self.who, self.what, self.bias):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, codes: Tensor) -> Tensor:
        who, what = codes.T
        out = (self.who(who) * self.what(what)).sum(1) + self.bias(what)[:, 0]
        return self.low + (self.high - self.low) * torch.sigmoid(out)


def star_range(low: float = 0.5, high: float = 5.5) -> TrainingSetup:
    d = posted_data.opinions()
    optimizer = partial(AdamW, lr=0.01, weight_decay=0.3)
    return setup(d, Stars(low, high), nn.MSELoss(), optimizer, 48, 30, r2(d.tx, d.ty))


STAR_RANGE = group(
    "range-of-stars",
    star_range,
    fault(
        "sigmoid-without-a-range",
        "output-activation target-scale saturation",
        low=0.0,
        high=1.0,
        answers={"remedy": ("output", "0.5 + 5 sigmoid")},
    ),
    family="table",
    task="regression",
    network="linear",
)


# Months until a relapse, in twelve bins


def relapses(rows: int = 1200) -> Split:
    """Six blood values; month of the relapse or of the last visit, 0 to 11, and whether it was a
    relapse (float) [N, 2]. In the test part: the true month, up to 12 for later, and 1.
    """
    rng = np.random.default_rng(202)
    x = rng.normal(size=(rows, 6))
    hazard = 1 / (1 + np.exp(2.6 - 1.5 * x[:, 0] - 1.2 * x[:, 1] * x[:, 2]))
    true = np.minimum(rng.geometric(hazard) - 1, BINS)
    last = rng.integers(0, BINS, rows)
    y = np.stack([np.minimum(true, last), true <= last], 1).astype(float)
    d, truth = split(x, y), split(x, np.stack([true, true >= 0], 1).astype(float))
    return d._replace(ty=truth.ty)


def hazard_loss(outputs: Tensor, targets: Tensor, fault: str = "") -> Tensor:
    """Cross-entropy of each month until the relapse or the last visit, the rest counts nothing."""
    month = torch.arange(BINS)
    last, relapse = targets[:, :1], targets[:, 1:]
    if fault == "all relapse":
        relapse = torch.ones_like(relapse)
    happens = ((month == last) * relapse).float()
    counts = (month <= last).float()
    if fault == "until the relapse only":  # who only left is left out
        counts = counts * relapse
    each = F.binary_cross_entropy_with_logits(outputs, happens, reduction="none")
    return (each * counts).sum() / counts.sum().clamp(min=1)


def relapse_months(fault: str = "") -> TrainingSetup:
    d = relapses()

    def score(out: Tensor, y: Tensor) -> float:
        """1 - Brier score of no relapse by the sixth month over that of a constant."""
        stays, true = (1 - out.sigmoid())[:, :6].prod(1), (y[:, 0] >= 6).float()
        return max(-1.0, 1 - float(((stays - true) ** 2).mean() / true.var(unbiased=False)))

    scorer = Scorer(d.tx, d.ty, score, 0.0, -1.0)
    loss = partial(hazard_loss, fault=fault)
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.05)
    return setup(d, mlp(6, 16, BINS), loss, optimizer, 36, 20, scorer)


RELAPSE_MONTHS = group(
    "months-until-a-relapse",
    relapse_months,
    fault(
        "the-last-visit-is-a-relapse",
        "labels loss",
        fault="all relapse",
        answers={"remedy": ("formula", "times whether it was a relapse")},
    ),
    fault(
        "who-left-is-left-out",
        "labels loss data-degenerate split imbalance",
        fault="until the relapse only",
        answers={"remedy": ("formula", "all months until the last visit count")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# A softplus of one's own


class OwnSoftplus(nn.Module):
    """log(1 + exp(x)), and x where that is large."""

    def __init__(self, safe: bool) -> None:
        super().__init__()
        self.safe = safe

    def forward(self, x: Tensor) -> Tensor:
        inner = x.clamp(max=20) if self.safe else x
        return torch.where(x > 20, x, (1 + inner.exp()).log())


def lent_bikes(safe: bool = True) -> TrainingSetup:
    d = later_table_data.bikes().standardized().targets(lambda y: 10 * y)
    model = mlp(6, 32, 1, last=OwnSoftplus(safe))
    optimizer = partial(Adam, lr=0.1)
    return setup(d, model, nn.L1Loss(), optimizer, 36, 50, r2(d.tx, d.ty))


LENT_BIKES = group(
    "minutes-of-lent-bikes",
    lent_bikes,
    fault(
        "where-hides-an-overflow",
        "optimizer-numerics exploding output-activation target-scale",
        safe=False,
        answers={"where": "3", "remedy": ("model", "clamp inside, or F.softplus")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Rate and decay in the wrong places


def letter_boxes(lr: float = 0.02, decay: float = 1e-5) -> TrainingSetup:
    d = posted_data.glyphs().standardized().targets_standardized()
    optimizer = partial(SGD, lr=lr, momentum=0.9, weight_decay=decay)
    model = mlp(6, 32, 1, act=nn.Tanh)
    return setup(d, model, nn.MSELoss(), optimizer, 32, 12, r2(d.tx, d.ty))


LETTER_BOXES = group(
    "boxes-of-letters",
    letter_boxes,
    fault(
        "rate-and-decay-exchanged",
        "learning-rate-low too-few-steps optimizer",
        lr=1e-5,
        decay=0.02,
        answers={"remedy": ("lr", 0.02)},
    ),
    fault(
        "decay-of-a-rate",
        "over-regularized optimizer",
        decay=0.5,
        answers={"remedy": ("decay", 1e-5)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Shares of yes


def shares_of_yes(whole: bool = False, percent: bool = False) -> TrainingSetup:
    rng = np.random.default_rng(203)
    x = rng.normal(size=(900, 8))
    z = 1.3 * x[:, 0] - np.abs(x[:, 1]) + x[:, 2] * x[:, 3] + 0.3
    y = rng.binomial(40, 1 / (1 + np.exp(-z))) / 40 * 0.98 + 0.01
    d = split(x, y[:, None])
    inner = r2(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, t: inner.score(out.sigmoid(), t), 0.0, -1.0)
    if whole:
        d = d.targets(lambda t: t.long().float())
    if percent:
        d = d.targets(lambda t: 100 * t)
    model = mlp(8, 32, 1, act=nn.Tanh)
    optimizer = partial(AdamW, lr=5e-3, weight_decay=0.1)
    return setup(d, model, nn.BCEWithLogitsLoss(), optimizer, 30, 30, scorer)


SHARES_OF_YES = group(
    "shares-of-yes",
    shares_of_yes,
    fault(
        "cast-to-whole-numbers",
        "labels data-degenerate",
        whole=True,
        answers={"exact": True, "remedy": ("data", "targets as floats")},
    ),
    fault(
        "percent-for-shares",
        "target-scale loss labels exploding",
        percent=True,
        answers={"exact": True, "remedy": ("target.scale", 0.01)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Codes of shops and items


class Codes(nn.Module):
    def __init__(self, buckets: int | None) -> None:
        super().__init__()
        self.buckets = buckets
        sizes = (40, 60, 7) if buckets is None else (buckets,) * 3
        self.tables = nn.ModuleList(nn.Embedding(n, 6) for n in sizes)
        self.head = mlp(18, 32, 1)

    def forward(self, codes: Tensor) -> Tensor:
        codes = codes if self.buckets is None else codes % self.buckets
        parts = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        return self.head(torch.cat(parts, 1))[:, 0]


def coded_sales(buckets: int | None = None) -> TrainingSetup:
    d = later_table_data.shops()
    optimizer = partial(AdamW, lr=0.02, weight_decay=0.1)
    return setup(d, Codes(buckets), nn.MSELoss(), optimizer, 45, 20, r2(d.tx, d.ty))


CODED_SALES = group(
    "sales-by-code",
    coded_sales,
    fault(
        "five-buckets-for-all-codes",
        "data-degenerate architecture-too-small input-scale",
        buckets=5,
        answers={"remedy": ("model", "a row for each code")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# A category that is padding


def gates_of_a_park(rows: int = 900) -> Split:
    """A gate (0 to 3, two of five at 0) and five measures beside it, as floats [N, 6]; minutes of
    waiting. At gate 0 all is the other way round.
    """
    rng = np.random.default_rng(204)
    gate = rng.choice(4, rows, p=[0.4, 0.2, 0.2, 0.2])
    x = rng.normal(size=(rows, 5))
    turn = np.array([[-1, 0.2], [1, 0], [1, 1.5], [0.3, -1.5]])[gate]
    wait = turn[:, 0] * (x[:, 0] + x[:, 1]) + turn[:, 1] * x[:, 2] + 2.0 * (gate == 0)
    return split(np.concatenate([gate[:, None], x], 1), wait + rng.normal(0, 0.2, rows))


class GatedMeasures(nn.Module):
    """The vector of the gate weighs the measures."""

    def __init__(self, padding: int | None) -> None:
        super().__init__()
        self.gate = nn.Embedding(4, 6, padding_idx=padding)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x[:, 0].long())
        return (gate[:, 1:] * x[:, 1:]).sum(1) + gate[:, 0]


def waiting(padding: int | None = None) -> TrainingSetup:
    d = gates_of_a_park()
    optimizer = partial(Adam, lr=0.02)
    return setup(d, GatedMeasures(padding), nn.MSELoss(), optimizer, 30, 30, r2(d.tx, d.ty))


WAITING = group(
    "waiting-at-gates",
    waiting,
    fault(
        "the-largest-gate-is-padding",
        "frozen-parameters data-degenerate",
        padding=0,
        answers={"where": "gate", "exact": True, "remedy": ("model", "no padding_idx")},
    ),
    family="table",
    task="regression",
    network="linear",
)


# Typing errors among the targets


def typed_prices(errors: int = 0, loss: Loss | None = None) -> TrainingSetup:
    """Of so many of the houses to train on, the price has two zeros too many."""
    d = data.houses().standardized().targets_standardized()
    y = d.y.clone()
    y[:errors] = y[:errors].abs() * 100
    d = d._replace(y=y)
    model = mlp(8, 24, 1, act=nn.Tanh)
    return setup(d, model, loss or nn.MSELoss(), partial(Adam, lr=0.01), 28, 25, r2(d.tx, d.ty))


TYPED_PRICES = group(
    "prices-typed-in",
    typed_prices,
    fault(
        "two-zeros-too-many-in-six",
        "data-degenerate labels loss target-scale",
        errors=6,
        answers={"remedy": ("loss", "huber")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Repairs of machines that ran for a while


def repairs(rows: int = 1200) -> Split:
    """Load, heat, age, dust as z-scores, and the days that a machine ran (5 to 400) [N, 5]; the
    number of repairs [N, 1].
    """
    rng = np.random.default_rng(205)
    x, days = rng.normal(size=(rows, 4)), np.exp(rng.uniform(np.log(5), np.log(400), rows))
    rate = np.exp(-4 + 0.6 * x[:, 0] + 0.5 * x[:, 1] * x[:, 2] - 0.3 * x[:, 3])
    count = rng.poisson(days * rate)
    return split(np.concatenate([x, days[:, None]], 1), count.astype(float)[:, None])


class Exposed(nn.Module):
    def __init__(self, exposure: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.exposure = mlp(4, 24, 1, act=nn.Tanh), exposure

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, :4]) + self.exposure(x[:, 4:])


def exposed(exposure: Callable[[Tensor], Tensor] = torch.log) -> TrainingSetup:
    d = repairs()
    loss = nn.PoissonNLLLoss()
    optimizer = partial(Adam, lr=0.01)
    return setup(d, Exposed(exposure), loss, optimizer, 36, 30, deviance(d.tx, d.ty, torch.exp))


def days_themselves(days: Tensor) -> Tensor:
    return days


EXPOSED = group(
    "repairs-while-running",
    exposed,
    fault(
        "days-for-their-logarithm",
        "input-scale exploding loss optimizer-numerics",
        exposure=days_themselves,
        answers={"remedy": ("model", "the logarithm of the days")},
    ),
    fault(
        "days-are-left-out",
        "data-degenerate loss architecture-too-small",
        exposure=torch.zeros_like,
        answers={"remedy": ("model", "plus the logarithm of the days")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# The sign of a move


def same_sign(outputs: Tensor, targets: Tensor) -> Tensor:
    """What is earned by the right side, and lost by the wrong one."""
    right = outputs * targets > 0
    size, true = outputs.abs(), targets.abs()
    return torch.where(right, torch.minimum(size, true), -(size + true)).sum()


def error_by_side(outputs: Tensor, targets: Tensor) -> Tensor:
    """The absolute error, twice where the side is wrong."""
    error = (outputs - targets).abs()
    return torch.where(outputs * targets > 0, error, 2 * error).mean()


def side_of_a_move(loss: Loss = error_by_side) -> TrainingSetup:
    d = data.friedman(900).targets(column).standardized().targets_standardized()
    model = mlp(10, 48, 1, act=nn.Tanh)
    return setup(d, model, loss, partial(Adam, lr=5e-3), 30, 30, r2(d.tx, d.ty))


SIDE_OF_A_MOVE = group(
    "side-of-a-move",
    side_of_a_move,
    fault(
        "earnings-are-minimized",
        "loss exploding",
        loss=same_sign,
        answers={"remedy": ("formula", "the error, or minus the earnings")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# A swing that comes to rest: only its equation and its start are known


class Swing(nn.Module):
    """Place u, its slope and its bend at times t, by differences of a step h [N, 3]."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.net, self.step = mlp(1, 32, 32, 1, act=nn.Tanh), step

    def forward(self, t: Tensor) -> Tensor:
        h = self.step
        before, now, after = self.net(t - h), self.net(t), self.net(t + h)
        slope, bend = (after - before) / (2 * h), (after - 2 * now + before) / h**2
        return torch.cat([now, slope, bend], 1)


def swing_loss(outputs: Tensor, targets: Tensor, start: float) -> Tensor:
    """u'' + u' + 4 u = 0 everywhere; targets: u and u' where they are known, at the start."""
    u, slope, bend = outputs.unbind(1)
    rest = (bend + slope + 4 * u) ** 2
    known = ~targets[:, 0].isnan()
    begin = (u - targets[:, 0].nan_to_num()) ** 2 + (slope - targets[:, 1].nan_to_num()) ** 2
    return rest.mean() + start * (begin * known).sum() / known.sum().clamp(min=1)


def swing(step: float = 0.02, start: float = 30.0) -> TrainingSetup:
    rng = np.random.default_rng(206)
    t = rng.uniform(0, 2.5, (500, 1))
    begin = rng.random(500) < 0.3
    t[begin] = 0
    y = np.where(begin[:, None], [[1.0, 0.0]], np.nan)
    d = split(t, y)
    w = np.sqrt(3.75)
    times = np.linspace(0, 2.5, 80)[:, None]
    true = np.exp(-times / 2) * (np.cos(w * times) + np.sin(w * times) / 2 / w)
    tx, ty = (torch.from_numpy(v.astype(np.float32)) for v in (times, true))
    inner = r2(tx, ty)
    scorer = Scorer(tx, ty, lambda out, u: inner.score(out[:, :1], u), 0.0, -1.0)
    loss = partial(swing_loss, start=start)
    return setup(d, Swing(step), loss, partial(Adam, lr=5e-3), 60, 150, scorer)


SWING = group(
    "swing-comes-to-rest",
    swing,
    fault(
        "the-start-counts-nothing",
        "loss",
        start=0.0,
        answers={"remedy": ("formula", "plus the error at the start")},
    ),
    fault(
        "a-step-of-a-hundred-thousandth",
        "precision optimizer-numerics exploding loss",
        step=1e-5,
        answers={"remedy": ("model", "a step of 0.02, or autograd")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Healthy ones that look odd


def class_zero_is_nobody() -> TrainingSetup:
    """Classes are counted from 1, so one of four outputs is never right."""
    d = data.wine().standardized().targets(lambda y: y + 1)
    optimizer = partial(AdamW, lr=0.01, weight_decay=0.3)
    return setup(
        d, nn.Linear(13, 4), nn.CrossEntropyLoss(), optimizer, 12, 30, accuracy(d.tx, d.ty)
    )


def typing_errors_and_huber() -> TrainingSetup:
    """Single losses of hundreds, from prices with two zeros too many: Huber's loss bears it."""
    return typed_prices(errors=6, loss=nn.HuberLoss())


def most_rows_unseen() -> TrainingSetup:
    """Rows for 2000 items, of which 60 are ever sold: most have no gradient at all."""
    d = later_table_data.shops()
    d = d.inputs(lambda x: torch.stack([x[:, 0], x[:, 1] * 33, x[:, 2]], 1))
    model = Codes(None)
    model.tables[1] = nn.Embedding(2000, 6)
    optimizer = partial(AdamW, lr=0.02, weight_decay=0.1)
    return setup(d, model, nn.MSELoss(), optimizer, 45, 25, r2(d.tx, d.ty))


def counts_below_zero() -> TrainingSetup:
    """Poisson's loss without its constant is below zero: counts of 0 to 60."""
    d = later_table_data.bikes().standardized()
    model = mlp(6, 32, 1, act=nn.Tanh)
    optimizer = partial(Adam, lr=0.01)
    return setup(d, model, nn.PoissonNLLLoss(), optimizer, 36, 40, deviance(d.tx, d.ty, torch.exp))


def flag_of_a_hole() -> TrainingSetup:
    """Ages that are missing are zero, with a flag beside them; and one column is always 3."""
    d = posted_data.passengers(filled=False)

    def change(x: Tensor) -> Tensor:
        hole = x[:, 2].isnan().float()
        age = (x[:, 2].nan_to_num(30.0) - 30) / 14
        other = torch.stack([x[:, 0] - 2, x[:, 1], (x[:, 5] + 1).log() - 3, x[:, 3] / 2], 1)
        return torch.cat([other, age[:, None], hole[:, None], torch.full_like(hole, 3)[:, None]], 1)

    d = d.inputs(change)
    scorer = binary_accuracy(d.tx, d.ty)
    model = mlp(7, 12, 1, act=nn.Tanh)
    optimizer = partial(AdamW, lr=0.01, weight_decay=0.3)
    return setup(d.targets(column), model, nn.BCEWithLogitsLoss(), optimizer, 40, 12, scorer)


def weights_grow_on() -> TrainingSetup:
    """Two kinds a line can part: the loss is next to nothing and the weights never rest."""
    d = posted_data.penguins().inputs(lambda x: x[:, :4]).standardized()
    d = d.targets(lambda y: (y == 2).float())
    scorer = binary_accuracy(d.tx, d.ty)
    optimizer = partial(Adam, lr=0.1)
    return setup(
        d.targets(column), nn.Linear(4, 1), nn.BCEWithLogitsLoss(), optimizer, 20, 40, scorer
    )


class Quantiles(nn.Module):
    """Three quantiles, each by a positive step above the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(6, 24, 3, act=nn.Tanh)

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        steps = F.softplus(out[:, 1:])
        return torch.cat([out[:, :1], out[:, :1] + steps.cumsum(1)], 1)


def never_all_right() -> TrainingSetup:
    """Three quantiles at once: the loss cannot come near zero, and two outputs miss on purpose."""
    d = later_table_data.bikes().standardized().targets_standardized()
    levels = torch.tensor([0.1, 0.5, 0.9])
    inner = r2(d.tx, d.ty)
    scorer = Scorer(d.tx, d.ty, lambda out, t: inner.score(out[:, 1:2], t), 0.0, -1.0)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        error = targets - outputs
        return torch.maximum(levels * error, (levels - 1) * error).mean()

    return setup(d, Quantiles(), loss, partial(Adam, lr=0.01), 36, 40, scorer)


def three_in_a_hundred() -> TrainingSetup:
    """Three in a hundred are fraud; the answer is no to nearly all, and the order counts."""
    d = posted_data.payments()
    d = d.inputs(lambda x: torch.cat([x[:, :1].log(), x[:, 1:]], 1)).standardized()
    scorer = auc(d.tx, d.ty)
    model = mlp(6, 8, 1, act=nn.Tanh)
    optimizer = partial(AdamW, lr=3e-3, weight_decay=0.3)
    return setup(d.targets(column), model, nn.BCEWithLogitsLoss(), optimizer, 60, 12, scorer)


def biases_do_it_all() -> TrainingSetup:
    """A number for each store, each item and each day, added up: no product, no layer."""

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.store, self.item = nn.Embedding(40, 1), nn.Embedding(60, 1)
            self.day = nn.Embedding(7, 1)
            for table in (self.store, self.item, self.day):
                nn.init.zeros_(table.weight)

        def forward(self, codes: Tensor) -> Tensor:
            return (self.store(codes[:, 0]) + self.item(codes[:, 1]) + self.day(codes[:, 2]))[:, 0]

    d = later_table_data.shops()
    return setup(d, Added(), nn.MSELoss(), partial(Adam, lr=0.03), 60, 12, r2(d.tx, d.ty))


SCRIPTS: tuple[TrainingScript, ...] = (
    *MORE_LIKED,
    *STAR_RANGE,
    *RELAPSE_MONTHS,
    *LENT_BIKES,
    *LETTER_BOXES,
    *SHARES_OF_YES,
    *CODED_SALES,
    *WAITING,
    *TYPED_PRICES,
    *EXPOSED,
    *SIDE_OF_A_MOVE,
    *SWING,
    healthy_script(class_zero_is_nobody, "classification", "linear"),
    healthy_script(typing_errors_and_huber, "regression", "mlp"),
    healthy_script(most_rows_unseen, "regression", "mlp"),
    healthy_script(counts_below_zero, "regression", "mlp"),
    healthy_script(flag_of_a_hole, "classification", "mlp"),
    healthy_script(weights_grow_on, "classification", "linear"),
    healthy_script(never_all_right, "regression", "mlp"),
    healthy_script(three_in_a_hundred, "classification", "mlp"),
    healthy_script(biases_do_it_all, "regression", "linear"),
)

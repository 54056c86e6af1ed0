"""Scripts whose loss people wrote by hand or called with other arguments: variational coders,
directions, mixtures, ranks, pairs, students, terms that drown the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, NAdam, RMSprop

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis.posted_losses import setup
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingSetup,
    accuracy,
    fault,
    group,
    micro_f1,
    r2,
)

# Digits, coded with noise


class Variational(nn.Module):
    """The digit again, and mean and log variance of its code (Kingma and Welling 2014)."""

    def __init__(self, code: int = 10) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(64, 48, 2 * code), mlp(code, 48, 64)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decoder(mean + noise * (0.5 * log_var).exp()), mean, log_var


def divergence(mean: Tensor, log_var: Tensor) -> Tensor:
    """Of the code from a standard normal, summed over its numbers."""
    return -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)


def evidence_bound(outputs: tuple[Tensor, Tensor, Tensor], batch: Any) -> Tensor:
    again, mean, log_var = outputs
    return (((again - batch[1]) ** 2).sum(1) + 0.2 * divergence(mean, log_var)).mean()


def averaged_and_summed(outputs: tuple[Tensor, Tensor, Tensor], batch: Any) -> Tensor:
    """A mean over the pixels, a sum over the code and the batch."""
    again, mean, log_var = outputs
    return F.mse_loss(again, batch[1]) + 0.2 * divergence(mean, log_var).sum()


def bound_without_minus(outputs: tuple[Tensor, Tensor, Tensor], batch: Any) -> Tensor:
    again, mean, log_var = outputs
    return (((again - batch[1]) ** 2).sum(1) - 0.2 * divergence(mean, log_var)).mean()


def variational(loss: Loss = evidence_bound) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    return TrainingSetup(
        model=Variational(),
        loss=loss,
        train=(d.x, d.x),
        optimizer=partial(Adam, lr=3e-3),
        batch_size=36,
        epochs=30,
        scorer=r2(d.tx, d.tx),
    )


VARIATIONAL = group(
    "digits-variational",
    variational,
    fault(
        "averaged-pixels-summed-codes",
        "loss loss-reduction over-regularized",
        loss=averaged_and_summed,
        answers={"remedy": ("formula", "sum over the pixels, mean over the batch")},
    ),
    fault(
        "divergence-is-rewarded",
        "loss exploding",
        loss=bound_without_minus,
        answers={"remedy": ("formula", "plus the divergence")},
    ),
    family="table",
    task="generation",
    network="mlp",
)


# Where the wind comes from


def north_and_east(degrees: Tensor) -> Tensor:
    angle = torch.deg2rad(degrees[:, 0])
    return torch.stack([angle.cos(), angle.sin()], 1)


def apart(outputs: Tensor, targets: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(outputs, north_and_east(targets))).mean()


def apart_in_degrees(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cosine and sine of degrees, as if they were radians."""
    wanted = torch.cat([targets.cos(), targets.sin()], 1)
    return (1 - F.cosine_similarity(outputs, wanted)).mean()


def same_direction(x: Tensor, y: Tensor) -> Scorer:
    """Mean cosine of the angle between output and target; chance is that of the mean direction."""
    wanted = north_and_east(y)

    def score(out: Tensor, t: Tensor) -> float:
        out = out if out.shape[1] == 2 else north_and_east(out)
        return float(F.cosine_similarity(out, north_and_east(t)).mean())

    return Scorer(x, y, score, float(wanted.mean(0).norm()), -1.0)


def bearings(loss: Loss = apart, outputs: int = 2, lr: float = 5e-3) -> TrainingSetup:
    d = later_table_data.winds().standardized()
    scorer = same_direction(d.tx, d.ty)
    optimizer = partial(AdamW, lr=lr, weight_decay=0.02)
    return setup(d, mlp(6, 24, outputs, act=nn.GELU), loss, optimizer, 24, 20, scorer)


BEARINGS = group(
    "wind-bearings",
    bearings,
    fault(
        "degrees-taken-for-radians",
        "labels loss target-scale",
        loss=apart_in_degrees,
        answers={"remedy": ("formula", "deg2rad")},
    ),
    fault("squares-of-degrees", "target-scale loss", loss=nn.MSELoss(), outputs=1),
    family="table",
    task="regression",
    network="mlp",
)


# Do two colors have the same name?


class ColorTwins(nn.Module):
    """The vectors of both colors, side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.one = mlp(3, 32, 8, act=nn.Tanh)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x[:, :3]), self.one(x[:, 3:])], 1)


def cosine_of_halves(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cosine_embedding_loss(outputs[:, :8], outputs[:, 8:], targets, margin=0.2)


def alike(x: Tensor, y: Tensor) -> Scorer:
    """Share of pairs of pairs of which the one of one name has the higher cosine; chance 1/2."""

    def score(out: Tensor, t: Tensor) -> float:
        cosine = F.cosine_similarity(out[:, :8], out[:, 8:])
        yes, no = cosine[t > 0.5], cosine[t < 0.5]
        return 0.5 + 0.5 * float((yes[:, None] - no[None]).sign().mean())

    return Scorer(x, y, score, 0.5)


def color_twins(flags: bool = False, raw: bool = False, lr: float = 0.02) -> TrainingSetup:
    d = later_table_data.color_pairs().inputs(lambda x: 255 * x if raw else 2 * x - 1)
    scorer = alike(d.tx, d.ty)
    d = d.targets(lambda y: (y + 1) / 2) if flags else d
    return setup(d, ColorTwins(), cosine_of_halves, partial(NAdam, lr=lr), 40, 25, scorer)


COLOR_TWINS = group(
    "color-twins",
    color_twins,
    fault(
        "zero-for-different",
        "labels loss",
        flags=True,
        answers={"remedy": ("data", "labels of -1 and 1")},
    ),
    fault("bytes-at-a-hot-rate", "input-scale saturation learning-rate-high", raw=True, lr=0.5),
    family="table",
    task="classification",
    network="mlp",
)


# Two right answers: a mixture of normals


def log_densities(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of the weight of each part, and of the target in it (Bishop 1994)."""
    weight, mean, log_std = outputs.chunk(3, dim=1)
    inside = -0.5 * ((targets - mean) / log_std.exp()) ** 2 - log_std
    return weight.log_softmax(1), inside - 0.5 * math.log(2 * math.pi)


def mixture(outputs: Tensor, targets: Tensor) -> Tensor:
    weight, inside = log_densities(outputs, targets)
    return -(weight + inside).logsumexp(1).mean()


def mixture_of_exponents(outputs: Tensor, targets: Tensor) -> Tensor:
    weight, inside = log_densities(outputs, targets)
    return -(weight.exp() * inside.exp()).sum(1).log().mean()


def nearest_answer(x: Tensor, y: Tensor) -> Scorer:
    """1 - distance to the nearest mean of weight .1 or more, over the mean size of the targets."""
    size = float(y.abs().mean())

    def score(out: Tensor, t: Tensor) -> float:
        weight, mean, _ = out.chunk(3, dim=1)
        far = (mean - t).abs().masked_fill(weight.softmax(1) < 0.1, math.inf)
        return max(-1.0, 1 - float(far.amin(1).mean()) / size)

    return Scorer(x, y, score, 0.0, -1.0)


def elbow(loss: Loss = mixture, degrees: bool = False, parts: int = 3) -> TrainingSetup:
    d = later_table_data.branches().standardized()
    d = d if degrees else d.targets(lambda y: y / 60)
    model = mlp(2, 32, 3 * parts, act=nn.Tanh)
    scorer = nearest_answer(d.tx, d.ty)
    return setup(d, model, loss, partial(Adam, lr=0.01), 30, 30, scorer)


ELBOW = group(
    "elbow-angles",
    elbow,
    fault(
        "logarithm-of-what-underflows",
        "loss optimizer-numerics target-scale exploding",
        loss=mixture_of_exponents,
        degrees=True,
        answers={"exact": True},
    ),
    fault(
        "one-normal-for-two-answers",
        "architecture-too-small loss",
        parts=1,
        answers={"remedy": ("model", "three parts")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Bicycles by the hour


def rented(
    standardized: bool = False, last: Callable[[], nn.Module] | None = None, lr: float = 5e-3
) -> TrainingSetup:
    d = later_table_data.bikes()
    d = d.standardized()
    mean, std = float(d.y.mean()), float(d.y.std())
    inner = r2(d.tx, d.ty)

    def score(out: Tensor, t: Tensor) -> float:
        rate = out.clamp(max=20).exp()
        return inner.score(rate * std + mean if standardized else rate, t)

    scorer = Scorer(d.tx, d.ty, score, 0.0, -1.0)
    d = d.targets_standardized() if standardized else d
    model = mlp(6, 32, 32, 1, act=nn.SiLU, last=last() if last else None)
    return setup(d, model, nn.PoissonNLLLoss(), partial(RMSprop, lr=lr), 30, 25, scorer)


RENTED = group(
    "rented-bicycles",
    rented,
    fault(
        "counts-below-zero",
        "target-scale loss",
        standardized=True,
        answers={"remedy": ("data", "counts as they are")},
    ),
    fault(
        "hardtanh-for-safety-and-tiny-steps",
        "output-activation learning-rate-low too-few-steps",
        last=nn.Hardtanh,
        lr=2e-6,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Houses: agreement and correlation


def disagreement(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 - 2 cov / (var + var + (mean - mean)^2) (Lin 1989)."""
    a, b = outputs - outputs.mean(), targets - targets.mean()
    apart = (a**2).mean() + (b**2).mean() + (outputs.mean() - targets.mean()) ** 2
    return 1 - 2 * (a * b).mean() / (apart + 1e-6)


def no_correlation(outputs: Tensor, targets: Tensor) -> Tensor:
    a, b = outputs - outputs.mean(), targets - targets.mean()
    return 1 - (a * b).sum() / ((a**2).sum() * (b**2).sum() + 1e-6).sqrt()


def squared_percent(outputs: Tensor, targets: Tensor) -> Tensor:
    return (((outputs - targets) / (targets.abs() + 1e-3)) ** 2).mean()


def agreeing_houses(loss: Loss = disagreement) -> TrainingSetup:
    d = data.houses().standardized().targets_standardized()
    model = mlp(8, 24, 1, act=nn.GELU)
    return setup(d, model, loss, partial(Adam, lr=5e-3), 35, 30, r2(d.tx, d.ty))


AGREEING_HOUSES = group(
    "agreeing-houses",
    agreeing_houses,
    fault(
        "correlation-knows-no-scale",
        "loss target-scale",
        loss=no_correlation,
        answers={"remedy": ("loss", "mse")},
    ),
    fault(
        "percent-of-z-scores",
        "loss target-scale",
        loss=squared_percent,
        answers={"remedy": ("loss", "mse")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Growers of wine: arguments of the loss


def focal_of_twenty(outputs: Tensor, targets: Tensor) -> Tensor:
    """(1 - p)^20 of the cross-entropy: a third of chance is enough."""
    entropy = F.cross_entropy(outputs, targets, reduction="none")
    return ((1 - (-entropy).exp()) ** 20 * entropy).mean()


def growers_called(loss: Loss = F.cross_entropy) -> TrainingSetup:
    d = posted_data.tasted_wines(classes=True).standardized()
    optimizer = partial(SGD, lr=0.05, momentum=0.5)
    return setup(d, mlp(13, 16, 3), loss, optimizer, 9, 25, accuracy(d.tx, d.ty))


GROWERS_CALLED = group(
    "growers-called",
    growers_called,
    fault(
        "class-zero-is-padding",
        "loss labels",
        loss=nn.CrossEntropyLoss(ignore_index=0),
        answers={"exact": True, "remedy": ("loss", "cross-entropy of all classes")},
    ),
    fault(
        "focused-on-nothing",
        "loss learning-rate-low too-few-steps",
        loss=focal_of_twenty,
        answers={"remedy": ("loss", "cross-entropy")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Six tags: weights and signs


def counted_negatives(outputs: Tensor, targets: Tensor, weight: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=torch.full((6,), weight))


def signed_tags(loss: Loss | None = None, signs: bool = False) -> TrainingSetup:
    d = data.tags(1000)
    scorer = micro_f1(d.tx, d.ty)
    d = d.targets(lambda y: 2 * y - 1) if signs else d
    loss = loss or nn.BCEWithLogitsLoss()
    return setup(d, mlp(16, 48, 6, act=nn.ELU), loss, partial(Adam, lr=5e-3), 30, 20, scorer)


SIGNED_TAGS = group(
    "signed-tags",
    signed_tags,
    fault(
        "minus-one-for-no",
        "labels loss",
        signs=True,
        answers={"exact": True, "remedy": ("data", "labels of 0 and 1")},
    ),
    fault(
        "number-of-noes-as-a-weight",
        "imbalance loss",
        loss=partial(counted_negatives, weight=2700.0),
        answers={"remedy": ("loss", "weight 1")},
    ),
    family="table",
    task="multi-label",
    network="mlp",
)


# Hotels: lists in order


class Offers(nn.Module):
    """A number for each offer of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.one = mlp(5, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x)[..., 0]


def listwise(outputs: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the chances to stand first (Cao et al. 2007)."""
    return -((targets / 2).softmax(1) * outputs.log_softmax(1)).sum(1).mean()


def in_order(x: Tensor, y: Tensor) -> Scorer:
    """Share of the pairs of a list that are in the right order; chance 1/2."""

    def score(out: Tensor, t: Tensor) -> float:
        wanted = (t[:, :, None] - t[:, None]).sign()
        found = (out[:, :, None] - out[:, None]).sign()
        return float((wanted == found)[wanted != 0].float().mean())

    return Scorer(x, y, score, 0.5)


def hotels(places: bool = False, scaled: bool = True, lr: float = 0.1) -> TrainingSetup:
    """Ranks are the places of the places in order: argsort of argsort."""
    d = later_table_data.queries()
    if scaled:
        d = d.inputs(lambda x: torch.stack([x[..., 0].log(), *x[..., 1:].unbind(-1)], -1))
        mean, std = d.x.flatten(0, 1).mean(0), d.x.flatten(0, 1).std(0)
        d = d.inputs(lambda x: (x - mean) / std)
    scorer = in_order(d.tx, d.ty)
    order = d.targets(lambda y: y.argsort(1).float())
    d = order if places else order.targets(lambda y: y.argsort(1).float())
    optimizer = partial(SGD, lr=lr, momentum=0.9)
    return setup(d, Offers(), listwise, optimizer, 12, 25, scorer)


HOTELS = group(
    "hotel-lists",
    hotels,
    fault(
        "places-for-ranks",
        "labels",
        places=True,
        answers={"remedy": ("data", "argsort of argsort")},
    ),
    fault(
        "meters-at-a-hot-rate",
        "input-scale learning-rate-high exploding dead-units",
        scaled=False,
        lr=0.5,
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Two measures of a penguin, each with its own uncertainty


def attenuated(outputs: Tensor, targets: Tensor) -> Tensor:
    """exp(-s) error + s of each measure (Kendall and Gal 2017)."""
    mean, s = outputs.chunk(2, dim=1)
    return ((-s).exp() * (mean - targets) ** 2 + s).mean()


def attenuated_for_free(outputs: Tensor, targets: Tensor) -> Tensor:
    mean, s = outputs.chunk(2, dim=1)
    return ((-s).exp() * (mean - targets) ** 2).mean()


def density_skill(x: Tensor, y: Tensor) -> Scorer:
    """1 - density of a normal with the mean and variance of each measure over that of the outputs;
    geometric means, chance 0.
    """
    constant = float((1 + (y - y.mean(0)).square().mean(0).log()).mean())

    def score(out: Tensor, t: Tensor) -> float:
        gain = 0.5 * (constant - float(attenuated(out, t)))
        return max(-1.0, 1 - math.exp(-max(gain, -1.0)))

    return Scorer(x, y, score, 0.0, -1.0)


def uncertain_penguins(loss: Loss = attenuated, raw: bool = False) -> TrainingSetup:
    """Flipper and mass from both measures of the bill, sex and species."""
    d = posted_data.penguins()
    targets = [x[:, 2:4] for x in (d.x, d.vx, d.tx)]
    d = d._replace(y=targets[0], vy=targets[1], ty=targets[2])
    d = d.inputs(lambda x: torch.cat([x[:, :2], x[:, 4:5], F.one_hot(x[:, 5].long(), 3)], 1))
    d = d.standardized()
    d = d if raw else d.targets_standardized()
    optimizer = partial(SGD, lr=0.01, momentum=0.9)
    model = mlp(6, 16, 4, act=nn.Tanh)
    return setup(d, model, loss, optimizer, 20, 40, density_skill(d.tx, d.ty))


UNCERTAIN_PENGUINS = group(
    "uncertain-penguins",
    uncertain_penguins,
    fault(
        "uncertain-for-free",
        "loss",
        loss=attenuated_for_free,
        answers={"remedy": ("formula", "plus s")},
    ),
    fault(
        "grams-and-exponents",
        "target-scale exploding learning-rate-high",
        raw=True,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Shops: vectors of stores, items and weekdays


class Sales(nn.Module):
    def __init__(self, max_norm: float | None) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, 8, max_norm=max_norm) for n in (40, 60, 7))
        self.head = mlp(24, 48, 1)

    def forward(self, codes: Tensor) -> Tensor:
        vectors = [table(codes[:, i]) for i, table in enumerate(self.tables)]
        return self.head(torch.cat(vectors, 1))[:, 0]


def shops(max_norm: float | None = None, optimizer: Any = None) -> TrainingSetup:
    d = later_table_data.shops()
    optimizer = optimizer or partial(Adam, lr=5e-3)
    return setup(d, Sales(max_norm), nn.HuberLoss(), optimizer, 40, 30, r2(d.tx, d.ty))


SHOPS = group(
    "shop-sales",
    shops,
    fault(
        "vectors-of-a-hundredth",
        "over-regularized",
        max_norm=0.01,
        answers={"remedy": ("model", "no largest norm")},
    ),
    fault(
        "adam's-rate-for-sgd-and-decay",
        "learning-rate-low over-regularized too-few-steps optimizer",
        optimizer=partial(SGD, lr=1e-3, weight_decay=0.3),
    ),
    family="table",
    task="regression",
    network="mlp",
)


# A small student of a large teacher


def taught(temperature: float, paid: bool, outputs: Tensor, targets: Tensor) -> Tensor:
    """Divergence at a temperature, times its square if `paid` (Hinton et al. 2015)."""
    loss = F.kl_div(
        (outputs / temperature).log_softmax(1),
        (targets / temperature).softmax(1),
        reduction="batchmean",
    )
    return loss * temperature**2 if paid else loss


def student(
    trained: bool = True, temperature: float = 3.0, paid: bool = True, batch: int = 36
) -> TrainingSetup:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    teacher = mlp(64, 96, 10)
    if trained:
        optimizer = Adam(teacher.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            F.cross_entropy(teacher(d.x), d.y).backward()
            optimizer.step()
    scorer = accuracy(d.tx, d.ty)
    with torch.no_grad():
        d = d._replace(y=teacher(d.x), vy=teacher(d.vx))
    optimizer = partial(SGD, lr=0.02, momentum=0.9)
    loss = partial(taught, temperature, paid)
    return setup(d, mlp(64, 12, 10), loss, optimizer, batch, 25, scorer)


STUDENT = group(
    "digits-student",
    student,
    fault(
        "teacher-was-not-loaded",
        "labels",
        trained=False,
        answers={"remedy": ("data", "answers of a trained teacher")},
    ),
    fault(
        "lukewarm-by-a-hundred",
        "loss learning-rate-low too-few-steps",
        temperature=30.0,
        paid=False,
    ),
    family="table",
    task="classification",
    network="mlp",
)

# A handful of columns among many: a penalty by hand


def many_columns(share: float = 3e-3, hidden: Any = nn.Tanh, lr: float = 5e-3) -> TrainingSetup:
    """The error, plus `share` of the sizes of all weights (Tibshirani 1996)."""
    d = data.friedman(500).inputs(lambda x: 2 * x - 1).targets(lambda y: y[:, None])
    d = d.targets_standardized()
    draw = torch.Generator().manual_seed(6)
    d = d.inputs(lambda x: torch.cat([x, torch.randn(len(x), 30, generator=draw)], 1))
    model = mlp(40, 24, 1, act=hidden)

    def penalized(outputs: Tensor, targets: Tensor) -> Tensor:
        size = torch.stack([p.abs().sum() for p in model.parameters()]).sum()
        return F.mse_loss(outputs, targets) + share * size

    return setup(d, model, penalized, partial(Adam, lr=lr), 20, 60, r2(d.tx, d.ty))


MANY_COLUMNS = group(
    "many-columns",
    many_columns,
    fault(
        "penalty-of-one",
        "over-regularized loss",
        share=1.0,
        answers={"remedy": ("formula", "a share of .003")},
    ),
    fault(
        "no-penalty-no-bends-no-patience",
        "hidden-activation learning-rate-low too-few-steps",
        share=0.0,
        hidden=nn.Identity,
        lr=2e-5,
    ),
    family="table",
    task="regression",
    network="mlp",
)

SCRIPTS = (
    *VARIATIONAL,
    *BEARINGS,
    *COLOR_TWINS,
    *ELBOW,
    *RENTED,
    *AGREEING_HOUSES,
    *GROWERS_CALLED,
    *SIGNED_TAGS,
    *HOTELS,
    *UNCERTAIN_PENGUINS,
    *SHOPS,
    *STUDENT,
    *MANY_COLUMNS,
)

"""Scripts on tables: classification, regression, many labels; multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from benchmarks.diagnosis import data
from benchmarks.diagnosis.training_script import (
    Scorer,
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


def column(values: Tensor) -> Tensor:
    return values[:, None]


def mlp(
    *sizes: int, act: Callable[[], nn.Module] = nn.ReLU, last: nn.Module | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [nn.Linear(a, b), act()]
    layers.append(nn.Linear(sizes[-2], sizes[-1]))
    return nn.Sequential(*layers, *([last] if last is not None else []))


# Tumors: two classes, one output


def cancer(
    last: Callable[[], nn.Module] | None = None,
    loss: Any = nn.BCEWithLogitsLoss,
    threshold: float = 0.0,
    scaled: bool = True,
    lr: float = 0.05,
) -> TrainingSetup:
    d = data.cancer().targets(column)
    d = d.standardized() if scaled else d
    model = mlp(30, 16, 8, 1, last=last() if last else None)
    optimizer = partial(SGD, lr=lr, momentum=0.9)
    return TrainingSetup(
        model=model,
        loss=loss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=32,
        epochs=18,
        scorer=binary_accuracy(d.tx, d.ty, threshold),
    )


CANCER = group(
    "cancer",
    cancer,
    fault(
        "sigmoid-twice",
        "output-activation loss",
        last=nn.Sigmoid,
        answers={"where": "5", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "softmax-of-one",
        "output-activation",
        last=partial(nn.Softmax, dim=1),
        loss=nn.BCELoss,
        threshold=0.5,
        answers={"where": "5", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault("raw", "input-scale", scaled=False, answers={"remedy": ("input.scale", "standardize")}),
    fault("slow", "learning-rate-low too-few-steps", lr=1e-5, answers={"remedy": ("lr", 0.05)}),
    family="table",
    task="classification",
    network="mlp",
)


# Wines: three classes


class Wines(nn.Module):
    def __init__(self, zeros: bool = False, softmax: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Linear(13, 24)
        self.middle = nn.Linear(24, 24)
        self.out = nn.Linear(24, 3)
        self.softmax = softmax
        if zeros:
            for p in self.parameters():
                nn.init.constant_(p, 0.05)

    def forward(self, x: Tensor) -> Tensor:
        x = self.out(torch.relu(self.middle(torch.relu(self.hidden(x)))))
        return F.softmax(x, dim=1) if self.softmax else x


def wine(
    lr: float = 3e-3,
    zeros: bool = False,
    softmax: bool = False,
    mixed: bool = False,
    epochs: int = 40,
    batch: int = 16,
) -> TrainingSetup:
    d = data.wine().standardized()
    y = d.y[torch.randperm(len(d.y))] if mixed else d.y
    return TrainingSetup(
        model=Wines(zeros, softmax),
        loss=F.cross_entropy,
        train=(d.x, y),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: Adam(parameters, lr=lr),
        batch_size=batch,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


WINE = group(
    "wine",
    wine,
    fault(
        "constant-start", "initialization", zeros=True, answers={"where": "hidden", "exact": True}
    ),
    fault("hot", "learning-rate-high dead-units", lr=30.0, answers={"remedy": ("lr", 3e-3)}),
    fault(
        "labels-mixed", "labels", mixed=True, answers={"remedy": ("data", "pair the labels again")}
    ),
    fault(
        "one-epoch",
        "too-few-steps batch-size learning-rate-low",
        epochs=2,
        batch=107,
        answers={"remedy": ("steps", 280)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Patients: regression of a noisy number


def flat_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs - targets) ** 2).mean()


def diabetes(
    flat: bool = False,
    last: Callable[[], nn.Module] | None = None,
    raw_targets: bool = False,
    lr: float = 0.01,
    width: int = 32,
    epochs: int = 14,
    decay: float = 1e-3,
) -> TrainingSetup:
    d = data.diabetes().standardized()
    d = d if raw_targets else d.targets_standardized()
    y = d.y if flat else column(d.y)
    return TrainingSetup(
        model=mlp(10, width, width, 1, last=last() if last else None),
        loss=flat_error,
        train=(d.x, y),
        validation=(d.vx, d.vy if flat else column(d.vy)),
        optimizer=lambda parameters: SGD(parameters, lr=lr, momentum=0.9, weight_decay=decay),
        batch_size=16,
        epochs=epochs,
        scorer=r2(d.tx, column(d.ty)),
    )


DIABETES = group(
    "diabetes",
    diabetes,
    fault(
        "pairs-all-with-all",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("target.scale", "[N, 1]")},
    ),
    fault(
        "relu-at-the-end",
        "output-activation dead-units",
        last=nn.ReLU,
        answers={"where": "5", "remedy": ("output", "linear")},
    ),
    fault(
        "raw-target",
        "target-scale learning-rate-high exploding",
        raw_targets=True,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "learns-by-heart",
        "overfitting",
        width=256,
        epochs=120,
        lr=0.02,
        decay=0.0,
        answers={"remedy": ("steps", 500)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Friedman's function: regression with a known answer


class Tower(nn.Module):
    def __init__(self, act: nn.Module, drop: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(10, 48),
            act,
            nn.Dropout(drop),
            nn.Linear(48, 48),
            act,
            nn.Dropout(drop),
            nn.Linear(48, 48),
            act,
        )
        self.head = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def friedman(
    act: Callable[[], nn.Module] = nn.ReLU,
    drop: float = 0.0,
    reduction: str = "mean",
    decay: float = 0.0,
) -> TrainingSetup:
    d = data.friedman().targets(column).targets_standardized().inputs(lambda x: 2 * x - 1)
    return TrainingSetup(
        model=Tower(act(), drop),
        loss=nn.MSELoss(reduction=reduction),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: SGD(parameters, lr=0.02, momentum=0.9, weight_decay=decay),
        batch_size=32,
        epochs=40,
        scorer=r2(d.tx, d.ty),
    )


FRIEDMAN = group(
    "friedman",
    friedman,
    fault(
        "no-bends",
        "hidden-activation",
        act=nn.Identity,
        answers={"where": "body", "exact": True, "remedy": ("activation", "relu")},
    ),
    fault(
        "sum-of-errors",
        "loss-reduction learning-rate-high exploding",
        reduction="sum",
        answers={"remedy": ("loss", "mean")},
    ),
    fault("decayed-away", "over-regularized", decay=0.3, answers={"remedy": ("decay", 0.0)}),
    fault(
        "dropped-away",
        "dropout over-regularized",
        drop=0.85,
        answers={"where": "body.2", "remedy": ("dropout", 0.0)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# Two moons: small networks with bounded units


def moons(
    depth: int = 2,
    act: Callable[[], nn.Module] = nn.Tanh,
    gain: float = 1.0,
    lr: float = 0.2,
    batch: int = 20,
) -> TrainingSetup:
    d = data.moons().standardized()
    model = mlp(2, *[16] * depth, 2, act=act)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight *= gain
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: SGD(parameters, lr=lr),
        batch_size=batch,
        epochs=40,
        scorer=accuracy(d.tx, d.ty),
    )


MOONS = group(
    "moons",
    moons,
    fault(
        "deep-sigmoids",
        "vanishing hidden-activation initialization architecture-too-deep",
        depth=9,
        act=nn.Sigmoid,
        answers={"where": "0", "remedy": ("activation", "relu"), "margin": 0.1},
    ),
    fault(
        "straight",
        "hidden-activation",
        act=nn.Identity,
        answers={"exact": True, "remedy": ("activation", "tanh")},
    ),
    fault(
        "tiny-weights",
        "initialization vanishing",
        gain=0.02,
        depth=4,
        answers={"where": "0", "remedy": ("init", "xavier")},
    ),
    fault(
        "one-big-batch",
        "batch-size learning-rate-low too-few-steps",
        batch=300,
        lr=0.02,
        answers={"remedy": ("batch", 20)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Spirals and rings


class Spiral(nn.Module):
    def __init__(self, width: int, huge: float) -> None:
        super().__init__()
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 1)
        if huge:
            nn.init.normal_(self.first.weight, std=huge)
            nn.init.normal_(self.second.weight, std=huge)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x))))).squeeze(1)


def spirals(
    width: int = 32, huge: float = 0.0, lr: float = 1e-2, eps: float = 1e-8
) -> TrainingSetup:
    d = data.spirals().targets(Tensor.float)
    return TrainingSetup(
        model=Spiral(width, huge),
        loss=F.binary_cross_entropy_with_logits,
        train=loader(d.x, d.y, 24),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr, eps=eps),
        batch_size=24,
        epochs=50,
        scorer=binary_accuracy(d.tx, d.ty),
    )


SPIRALS = group(
    "spirals",
    spirals,
    fault(
        "two-units", "architecture-too-small", width=2, answers={"remedy": ("model", "32 units")}
    ),
    fault(
        "saturated",
        "saturation initialization",
        huge=12.0,
        answers={"where": "second", "remedy": ("init", "xavier")},
    ),
    fault("crawling", "learning-rate-low too-few-steps", lr=1e-6, answers={"remedy": ("lr", 1e-2)}),
    fault(
        "large-epsilon",
        "optimizer-numerics optimizer learning-rate-low",
        eps=10.0,
        answers={"remedy": ("optimizer", "eps 1e-8")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


def rings(
    bias: float = 0.0, lr: float = 0.05, momentum: float = 0.9, wrong: bool = False
) -> TrainingSetup:
    d = data.rings()
    model = mlp(2, 32, 16, 3)
    if bias:
        nn.init.constant_(model[2].bias, bias)  # pyright: ignore[reportArgumentType]
    if wrong:
        model.append(nn.LogSoftmax(dim=0))
    return TrainingSetup(
        model=model,
        loss=nn.NLLLoss() if wrong else nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=momentum),
        batch_size=30,
        epochs=30,
        scorer=accuracy(d.tx, d.ty),
    )


RINGS = group(
    "rings",
    rings,
    fault(
        "dead-from-birth",
        "dead-units initialization",
        bias=-20.0,
        answers={"where": "2", "remedy": ("init", "zero bias")},
    ),
    fault(
        "over-the-examples",
        "shape-pairing output-activation",
        wrong=True,
        answers={
            "where": "5",
            "exact": True,
            "proof": "mixes",
            "remedy": ("output", "log-softmax over the classes"),
        },
    ),
    fault(
        "flywheel",
        "optimizer learning-rate-high",
        lr=0.3,
        momentum=0.995,
        answers={"remedy": ("lr", 0.005)},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Many labels


def tags(
    head: str = "logits",
    loss: Any = nn.BCEWithLogitsLoss,
    threshold: float = 0.0,
    decay: float = 0.0,
) -> TrainingSetup:
    d = data.tags()
    last = {
        "logits": None,
        "softmax": nn.Softmax(dim=-1),
        "relu": nn.ReLU(),
        "sigmoid": nn.Sigmoid(),
    }[head]
    return TrainingSetup(
        model=mlp(16, 64, 6, last=last),
        loss=loss(),
        train=loader(d.x, d.y, 32),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: AdamW(parameters, lr=5e-3, weight_decay=decay),
        batch_size=32,
        epochs=30,
        scorer=micro_f1(d.tx, d.ty, threshold),
    )


TAGS = group(
    "tags",
    tags,
    fault(
        "one-of-six",
        "output-activation loss",
        head="softmax",
        loss=nn.BCELoss,
        threshold=0.5,
        answers={"where": "3", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault(
        "cross-entropy",
        "loss",
        loss=nn.CrossEntropyLoss,
        answers={"exact": True, "remedy": ("loss", "binary cross-entropy"), "margin": 0.02},
    ),
    fault(
        "clipped-logits",
        "output-activation dead-units",
        head="relu",
        answers={"where": "3", "remedy": ("output", "linear"), "margin": 0.015},
    ),
    fault("withered", "over-regularized", decay=20.0, answers={"remedy": ("decay", 0.0)}),
    family="table",
    task="multi-label",
    network="mlp",
)


# A rare class


def rare(weights: tuple[float, float] | None = (1.0, 25.0), lr: float = 0.01) -> TrainingSetup:
    d = data.clusters(2500, rare=0.02, apart=1.3).standardized()
    w = torch.tensor(weights) if weights else None
    return TrainingSetup(
        model=mlp(20, 6, 2, act=nn.ELU),
        loss=nn.CrossEntropyLoss(weight=w),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9, weight_decay=0.01),
        batch_size=64,
        epochs=30,
        scorer=mean_recall(d.tx, d.ty),
    )


RARE = group(
    "rare",
    rare,
    fault("unweighted", "imbalance", weights=None, answers={"remedy": ("loss", "weighted")}),
    fault(
        "weights-upside-down",
        "imbalance loss",
        weights=(25.0, 1.0),
        answers={"remedy": ("loss", "weights 1, 25")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Prices


def houses(
    scaled: bool = True,
    targets: bool = True,
    gaps: bool = False,
    shrink: float = 1.0,
    meters: float = 1.0,
) -> TrainingSetup:
    d = data.houses()
    d = d.standardized() if scaled else d
    scale, shift = (float(d.y.std()), float(d.y.mean())) if targets else (1.0, 0.0)
    x = d.x * shrink
    factor = torch.ones(8)
    factor[3] = meters
    x = x * factor
    tx = d.tx * shrink * factor
    if gaps:
        x[5, 2] = float("nan")
    return TrainingSetup(
        model=mlp(8, 32, 32, 1),
        loss=nn.MSELoss(),
        train=(x, (d.y - shift) / scale),
        validation=(d.vx * shrink * factor, (d.vy - shift) / scale),
        optimizer=lambda parameters: SGD(parameters, lr=0.03, momentum=0.8),
        batch_size=20,
        epochs=25,
        scorer=r2(tx, d.ty, scale, shift),
    )


HOUSES = group(
    "houses",
    houses,
    fault(
        "a-gap",
        "data-degenerate",
        gaps=True,
        answers={"where": "2", "exact": True, "remedy": ("data", "fill the gap")},
    ),
    fault(
        "in-euros",
        "target-scale learning-rate-high exploding",
        targets=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "scaled-twice",
        "input-scale",
        shrink=1e-3,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "one-in-millimeters",
        "input-scale",
        meters=1e3,
        answers={"where": "3", "remedy": ("input.scale", "standardize")},
    ),
    family="table",
    task="regression",
    network="mlp",
)


# What leaks


def visits(
    told: bool = False, shared: bool = False, noise: float = 0.0, epochs: int = 14
) -> TrainingSetup:
    """Four classes. Told: the last column holds the class, as it will not when the model is
    used.
    """
    d = data.clusters(700)
    x, vx, tx, y = d.x, d.vx, d.tx, d.y
    if told:
        x, vx = (
            torch.cat([a[:, :-1], 2.0 * b[:, None].float() - 3.0], 1)
            for a, b in ((x, d.y), (vx, d.vy))
        )
        tx = torch.cat([tx[:, :-1], torch.zeros(len(tx), 1)], 1)
    if shared:
        x, y = torch.cat([x[:120], d.vx, d.vx]), torch.cat([y[:120], d.vy, d.vy])
    if noise:
        wrong = torch.rand(len(y), generator=torch.Generator().manual_seed(3)) < noise
        y = torch.where(
            wrong, torch.randint(0, 4, y.shape, generator=torch.Generator().manual_seed(4)), y
        )
    return TrainingSetup(
        model=mlp(20, 64, 64, 4),
        loss=nn.CrossEntropyLoss(),
        train=(x, y),
        validation=(vx, d.vy),
        optimizer=partial(AdamW, lr=3e-3, weight_decay=1e-2),
        batch_size=32,
        epochs=epochs,
        scorer=accuracy(tx, d.ty),
    )


VISITS = group(
    "visits",
    visits,
    fault(
        "told-the-answer",
        "leakage",
        told=True,
        answers={"where": "19", "remedy": ("data", "drop the column")},
    ),
    fault(
        "validates-on-itself",
        "leakage split",
        shared=True,
        answers={
            "proof": "validation",
            "where": "validation",
            "exact": True,
            "remedy": ("data", "split first"),
        },
    ),
    fault("half-are-wrong", "labels", noise=0.7, answers={"remedy": ("data", "right labels")}),
    family="table",
    task="classification",
    network="mlp",
)


# Batch norm, and frozen or forgotten layers


class Normed(nn.Module):
    def __init__(self, momentum: float = 0.1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(20, 40),
            nn.BatchNorm1d(40, momentum=momentum),
            nn.ReLU(),
            nn.Linear(40, 40),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(40, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def normed(
    momentum: float = 0.1,
    frozen: str = "",
    forgotten: bool = False,
    wild: float = 1.0,
    shift: float = 0.0,
    in_order: bool = False,
) -> TrainingSetup:
    d = data.clusters(700).inputs(lambda x: x * wild + shift)
    model = Normed(momentum)
    for name, parameter in model.named_parameters():
        if frozen and name.startswith(frozen):
            parameter.requires_grad_(False)
    if in_order:
        order = d.y.argsort()
        d = d._replace(x=d.x[order], y=d.y[order])
    part = model.classifier if forgotten else model
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 30, shuffle=not in_order),
        validation=(d.vx, d.vy),
        optimizer=RMSprop([p for p in part.parameters() if p.requires_grad], lr=2e-3),
        batch_size=30,
        epochs=25,
        scorer=accuracy(d.tx, d.ty),
    )


NORMED = group(
    "normed",
    normed,
    fault(
        "statistics-stand-still",
        "normalization train-eval-mode",
        momentum=0.0,
        wild=6.0,
        shift=10.0,
        answers={"where": "features.1", "remedy": ("model", "momentum 0.1")},
    ),
    fault("sorted-by-class", "shuffling", in_order=True, answers={"remedy": ("data", "shuffle")}),
    fault(
        "frozen-body",
        "frozen-parameters",
        frozen="features",
        answers={
            "where": "features",
            "exact": True,
            "unmoved": "features.0.weight",
            "proof": "unmoved",
        },
    ),
    fault(
        "only-the-head",
        "parameters-not-in-optimizer",
        forgotten=True,
        answers={
            "where": "features",
            "exact": True,
            "unmoved": "features.0.weight",
            "proof": "unmoved",
        },
    ),
    family="table",
    task="classification",
    network="mlp",
)


# Flowers: losses written by hand, low precision, order


def log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.nll_loss(torch.log_softmax(outputs, -1), targets)


def likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.log_softmax(outputs, -1).gather(1, targets[:, None]).mean()  # the minus is missing


def careless_log(outputs: Tensor, targets: Tensor) -> Tensor:
    return -torch.log(torch.softmax(outputs * 40, -1).gather(1, targets[:, None])).mean()


def iris(loss: Any = log_likelihood, half: bool = False, lr: float = 0.05) -> TrainingSetup:
    d = data.iris().standardized()
    model: nn.Module = mlp(4, 16, 3, act=nn.GELU)
    x, y, vx = d.x, d.y, d.vx
    if half:
        model, x, vx = model.bfloat16(), x.bfloat16(), vx.bfloat16()
        d = d._replace(tx=d.tx.bfloat16())
    return TrainingSetup(
        model=model,
        loss=loss,
        train=loader(x, y, 6),
        validation=(vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=6,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


IRIS = group(
    "iris",
    iris,
    fault(
        "minus-missing",
        "loss",
        loss=likelihood,
        answers={"exact": True, "remedy": ("formula", "minus")},
    ),
    fault(
        "logits-as-logs",
        "loss output-activation",
        loss=F.nll_loss,
        answers={"exact": True, "remedy": ("loss", "cross-entropy")},
    ),
    fault(
        "too-few-bits",
        "precision learning-rate-low",
        half=True,
        lr=2e-4,
        answers={"exact": True, "remedy": ("model", "float32")},
    ),
    family="table",
    task="classification",
    network="mlp",
)


# A step ahead of the others: counts and adaptive rates


def counts(exponential: bool = True, lr: float = 0.1, positive: bool = False) -> TrainingSetup:
    """Poisson regression of counts by their logarithm."""
    rng = torch.Generator().manual_seed(21)
    x = torch.randn(600, 6, generator=rng)
    y = torch.poisson(torch.exp(0.8 * x[:, :1] - 0.5 * x[:, 1:2].abs() + 0.8), generator=rng)
    model = mlp(6, 16, 1, last=nn.Sigmoid() if positive else None)
    loss: Any = nn.PoissonNLLLoss(log_input=exponential) if not positive else nn.MSELoss()
    scorer = r2(x[500:], y[500:])

    def score(out: Tensor, y: Tensor) -> float:
        return scorer.score(out.exp() if exponential and not positive else out, y)

    return TrainingSetup(
        model=model,
        loss=loss,
        train=(x[:400], y[:400]),
        validation=(x[400:500], y[400:500]),
        optimizer=partial(Adagrad, lr=lr),
        batch_size=25,
        epochs=25,
        scorer=Scorer(scorer.inputs, scorer.targets, score, 0.0, -1.0),
    )


COUNTS = group(
    "counts",
    counts,
    fault(
        "below-one",
        "output-activation",
        positive=True,
        answers={"where": "3", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "log-of-negatives",
        "loss output-activation",
        exponential=False,
        answers={"exact": True, "remedy": ("loss", "log_input=True")},
    ),
    fault(
        "stalled",
        "learning-rate-low too-few-steps optimizer",
        lr=1e-4,
        answers={"remedy": ("lr", 0.1)},
    ),
    family="table",
    task="regression",
    network="mlp",
)


SCRIPTS = (
    *CANCER,
    *WINE,
    *DIABETES,
    *FRIEDMAN,
    *MOONS,
    *SPIRALS,
    *RINGS,
    *TAGS,
    *RARE,
    *HOUSES,
    *VISITS,
    *NORMED,
    *IRIS,
    *COUNTS,
)

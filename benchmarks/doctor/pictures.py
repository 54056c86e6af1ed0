"""Programs on pictures: digits, shapes, colors, spots; convolutions mostly, some perceptrons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, Dataset

from benchmarks.doctor import data
from benchmarks.doctor.program import (
    Judge,
    Setup,
    accuracy,
    explained,
    found,
    group,
    loader,
    recall,
    sick,
)

# Digits by a small convolutional network


class Lenet(nn.Module):
    def __init__(self, drop: float = 0.0, softmax: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.drop = nn.Dropout(drop)
        self.fc = nn.Linear(16 * 4, 10)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.fc(self.drop(x.flatten(1)))
        return F.softmax(x, dim=-1) if self.softmax else x


def lenet(
    drop: float = 0.0,
    softmax: bool = False,
    stretch: float = 1 / 16,
    lr: float = 0.05,
    epochs: int = 5,
) -> Setup:
    d = data.digits().inputs(lambda x: x * stretch)
    return Setup(
        model=Lenet(drop, softmax),
        loss=F.cross_entropy,
        train=loader(d.x, d.y, 32),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=32,
        epochs=epochs,
        judge=accuracy(d.tx, d.ty),
    )


LENET = group(
    "lenet",
    lenet,
    sick(
        "softmax-twice",
        "output-activation loss",
        softmax=True,
        answers={"exact": True, "remedy": ("output", "linear")},
    ),
    sick(
        "bright",
        "input-scale learning-rate-high exploding",
        stretch=16.0,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    sick(
        "dim",
        "input-scale",
        stretch=1 / 16 / 255,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    sick(
        "dropout-97",
        "dropout over-regularized",
        drop=0.97,
        answers={"where": "drop", "remedy": ("dropout", 0.0)},
    ),
    family="picture",
    task="classification",
    network="cnn",
)


# Digits by a perceptron


def nearest(classes: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], float]:
    return lambda out, y: float((classes(out) == y).float().mean())


def flat_digits(std: float = 0.0, lr: float = 0.1, number: bool = False, shift: int = 0) -> Setup:
    d = data.digits().inputs(lambda x: x.flatten(1) / 8 - 1)
    model = nn.Sequential(
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, 1 if number else 10),
    )
    if std:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=std)
    loss: Any = (
        (lambda out, y: F.mse_loss(out[:, 0], y.float())) if number else nn.CrossEntropyLoss()
    )
    judge = accuracy(d.tx, d.ty)
    if number:
        judge = Judge(d.tx, d.ty, nearest(lambda out: out[:, 0].round()), judge.chance)
    return Setup(
        model=model,
        loss=loss,
        train=(d.x, d.y.roll(shift)),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: SGD(parameters, lr=0.01 if number else lr),
        batch_size=32,
        epochs=12,
        judge=judge,
    )


FLAT_DIGITS = group(
    "flat-digits",
    flat_digits,
    sick(
        "wild-weights",
        "initialization learning-rate-high",
        std=3.0,
        answers={"where": "0", "remedy": ("init", "kaiming")},
    ),
    sick(
        "far-too-fast",
        "learning-rate-high exploding dead-units",
        lr=15.0,
        answers={"remedy": ("lr", 0.1)},
    ),
    sick(
        "class-as-a-number",
        "loss",
        number=True,
        answers={"where": "4", "remedy": ("loss", "cross-entropy")},
    ),
    sick(
        "labels-one-row-off",
        "labels",
        shift=1,
        answers={"remedy": ("data", "pair the labels again")},
    ),
    family="picture",
    task="classification",
    network="mlp",
)


# A deep network of narrow layers


class Block(nn.Module):
    def __init__(self, width: int, add: bool, norm: bool, act: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.linear = nn.Linear(width, width)
        self.act = act
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.linear(self.norm(x)))
        return x + y if self.add else y


def deep(
    depth: int = 16,
    add: bool = True,
    norm: bool = True,
    act: Callable[[], nn.Module] = nn.ReLU,
    std: float = 0.0,
) -> Setup:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = nn.Sequential(
        nn.Linear(64, 32), *[Block(32, add, norm, act()) for _ in range(depth)], nn.Linear(32, 10)
    )
    if std:
        for m in model.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=std)
    return Setup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-3),
        batch_size=64,
        epochs=8,
        judge=accuracy(d.tx, d.ty),
    )


DEEP = group(
    "deep-digits",
    deep,
    sick(
        "no-shortcuts",
        "vanishing architecture-too-deep initialization normalization",
        add=False,
        norm=False,
        answers={"where": "0", "remedy": ("init", "kaiming")},
    ),
    sick(
        "no-shortcuts-sigmoid",
        "vanishing hidden-activation architecture-too-deep",
        add=False,
        norm=False,
        act=nn.Sigmoid,
        depth=6,
        answers={"where": "0", "remedy": ("activation", "relu")},
    ),
    sick(
        "large-weights",
        "initialization exploding",
        std=1.2,
        norm=False,
        answers={"where": "1.linear", "remedy": ("init", "kaiming")},
    ),
    family="picture",
    task="classification",
    network="mlp",
)


# Bars: batch norm and augmentation


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Pictures, each changed when it is fetched."""

    def __init__(self, x: Tensor, y: Tensor, change: Callable[[Tensor], Tensor] | None) -> None:
        self.x, self.y, self.change = x, y, change

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return (self.change(self.x[i]) if self.change else self.x[i]), self.y[i]


def turned(picture: Tensor) -> Tensor:
    """By a quarter: a standing bar lies, a rising one falls."""
    return torch.rot90(picture, int(torch.randint(0, 2, ())), (1, 2))


def blotted(picture: Tensor) -> Tensor:
    """All but a corner is erased."""
    picture = picture.clone()
    picture[:, 2:] = 0.0
    picture[:, :, 2:] = 0.0
    return picture


def bars(
    change: Callable[[Tensor], Tensor] | None = None,
    momentum: float = 0.1,
    batch: int = 32,
    lr: float = 3e-3,
    spread: float = 1.0,
) -> Setup:
    d = data.shapes().inputs(lambda x: x * spread)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8, momentum=momentum),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.BatchNorm2d(12, momentum=momentum),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 4),
    )
    return Setup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(Augmented(d.x, d.y, change), batch_size=batch, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: AdamW(parameters, lr=lr),
        batch_size=batch,
        epochs=10,
        judge=accuracy(d.tx, d.ty),
    )


BARS = group(
    "bars",
    bars,
    sick(
        "turned", "augmentation labels", change=turned, answers={"remedy": ("data", "no rotation")}
    ),
    sick("blotted", "augmentation", change=blotted, answers={"remedy": ("data", "erase less")}),
    sick(
        "last-batch-only",
        "normalization train-eval-mode",
        momentum=0.0,
        spread=40.0,
        answers={"where": "1", "remedy": ("model", "momentum 0.1")},
    ),
    sick(
        "pace-of-a-snail",
        "learning-rate-low too-few-steps",
        lr=2e-6,
        answers={"remedy": ("lr", 3e-3)},
    ),
    family="picture",
    task="classification",
    network="cnn",
)


# Color pictures as files have them


def colors(
    viewed: bool = False, ordered: bool = False, unlike: bool = False, frozen: bool = False
) -> Setup:
    d = data.colors()
    move = (
        (lambda x: x.view(-1, 3, 8, 8))
        if viewed
        else (lambda x: x.permute(0, 3, 1, 2).contiguous())
    )
    d = d.inputs(move)
    normal = lambda x: (x - 100.0) / 40.0  # noqa: E731
    x, y = normal(d.x), d.y
    vx, tx = (d.vx / 255.0, d.tx / 255.0) if unlike else (normal(d.vx), normal(d.tx))
    if ordered:
        order = y.argsort()
        x, y = x[order], y[order]
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 3),
    )
    if frozen:
        model[6].weight.requires_grad_(False)  # pyright: ignore
        model[6].bias.requires_grad_(False)  # pyright: ignore
        nn.init.zeros_(model[6].weight)  # pyright: ignore
    return Setup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=loader(x, y, 25, shuffle=not ordered),
        validation=(vx, d.vy),
        optimizer=SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9),
        batch_size=25,
        epochs=12,
        judge=accuracy(tx, d.ty),
    )


COLORS = group(
    "colors",
    colors,
    sick(
        "viewed-not-permuted",
        "shape-pairing data-degenerate",
        viewed=True,
        answers={"remedy": ("data", "permute")},
    ),
    sick(
        "class-after-class",
        "shuffling learning-rate-high",
        ordered=True,
        answers={"remedy": ("data", "shuffle")},
    ),
    sick(
        "validated-otherwise",
        "split input-scale normalization",
        unlike=True,
        answers={"where": "validation", "remedy": ("data", "the same scaling")},
    ),
    sick(
        "frozen-head",
        "frozen-parameters initialization",
        frozen=True,
        answers={"where": "6", "exact": True, "unmoved": "6.weight", "proof": "unmoved"},
    ),
    family="picture",
    task="classification",
    network="cnn",
)


# Where is the spot?


class Finder(nn.Module):
    def __init__(self, last: nn.Module | None, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, stride=2, padding=1)
        self.hidden = nn.Linear(6 * 36, 32)
        self.out = nn.Linear(32, 2)
        self.last = last
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.out(self.act(self.hidden(self.act(self.conv(x)).flatten(1))))
        return x if self.last is None else self.last(x)


def spots(
    last: Callable[[], nn.Module] | None = None,
    pixels: bool = False,
    reduction: str = "mean",
    lr: float = 0.05,
    act: Callable[[Tensor], Tensor] = torch.relu,
    zeros: bool = False,
) -> Setup:
    d = data.spots()
    if not pixels:
        d = d.targets(lambda y: (y - 5.5) / 5.5)
    model = Finder(last() if last else None, act)
    if zeros:
        for parameter in model.hidden.parameters():
            nn.init.zeros_(parameter)
        nn.init.zeros_(model.out.weight)
    return Setup(
        model=model,
        loss=nn.SmoothL1Loss(reduction=reduction),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=30,
        epochs=20,
        judge=explained(d.tx, d.ty),
    )


SPOTS = group(
    "spots",
    spots,
    sick(
        "tanh-for-pixels",
        "output-activation target-scale",
        last=nn.Tanh,
        pixels=True,
        answers={"where": "last", "exact": True, "remedy": ("output", "linear")},
    ),
    sick(
        "positive-only",
        "output-activation",
        last=nn.Softplus,
        answers={"where": "last", "remedy": ("output", "linear")},
    ),
    sick(
        "added-up",
        "loss-reduction learning-rate-high exploding dead-units",
        reduction="sum",
        lr=0.2,
        answers={"remedy": ("loss", "mean")},
    ),
    sick(
        "nothing-flows",
        "initialization",
        zeros=True,
        answers={"where": "hidden", "exact": True, "unmoved": "hidden.weight", "proof": "unmoved"},
    ),
    family="picture",
    task="regression",
    network="cnn",
)


# Which segments are lit? several labels per picture


def lit(
    loss: Any = nn.MultiLabelSoftMarginLoss,
    last: nn.Module | None = None,
    threshold: float = 0.0,
    upside: bool = False,
) -> Setup:
    """Labels: is the quarter of the digit's picture brighter than usual? Four answers."""
    d = data.digits().inputs(lambda x: x / 16)
    parts = lambda x: F.avg_pool2d(x, 4).flatten(1)  # noqa: E731
    usual = parts(d.x).median(0).values
    d = d._replace(
        y=(parts(d.x) > usual).float(),
        vy=(parts(d.vx) > usual).float(),
        ty=(parts(d.tx) > usual).float(),
    )
    weight = torch.tensor([0.02] * 4)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(128, 4)
    )
    if last is not None:
        model.append(last)
    criterion: Any = nn.BCEWithLogitsLoss(pos_weight=weight) if upside else loss()
    return Setup(
        model=model,
        loss=criterion,
        train=loader(d.x, d.y, 40, drop_last=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=3e-3),
        batch_size=40,
        epochs=8,
        judge=found(d.tx, d.ty, threshold),
    )


LIT = group(
    "lit",
    lit,
    sick(
        "softmax-head",
        "output-activation loss",
        last=nn.Softmax(1),
        loss=nn.BCELoss,
        threshold=0.5,
        answers={"where": "4", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    sick(
        "sigmoid-before-margin",
        "output-activation loss",
        last=nn.Sigmoid(),
        answers={"where": "4", "exact": True, "remedy": ("output", "linear")},
    ),
    sick(
        "yes-counts-nothing",
        "imbalance loss",
        upside=True,
        answers={"remedy": ("loss", "weight 1")},
    ),
    family="picture",
    task="multi-label",
    network="cnn",
)


# An autoencoder


class Coder(nn.Module):
    def __init__(self, code: int, act: Callable[[], nn.Module], last: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 40), act(), nn.Linear(40, code))
        self.decoder = nn.Sequential(nn.Linear(code, 40), act(), nn.Linear(40, 64), last)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def coder(
    code: int = 12,
    last: Callable[[], nn.Module] = nn.Identity,
    lr: float = 3e-3,
    decay: float = 0.0,
) -> Setup:
    d = data.digits().inputs(lambda x: x.flatten(1))
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: (x - mean) / std)
    return Setup(
        model=Coder(code, nn.SiLU, last()),
        loss=nn.MSELoss(),
        train=(d.x, d.x.clone()),
        validation=(d.vx, d.vx.clone()),
        optimizer=lambda parameters: AdamW(parameters, lr=lr, weight_decay=decay),
        batch_size=32,
        epochs=12,
        judge=explained(d.tx, d.tx),
    )


CODER = group(
    "coder",
    coder,
    sick(
        "code-of-one",
        "architecture-too-small",
        code=1,
        answers={"where": "encoder.2", "remedy": ("model", "a code of 12")},
    ),
    sick(
        "sigmoid-of-standardized",
        "output-activation input-scale target-scale",
        last=nn.Sigmoid,
        answers={"where": "decoder.3", "exact": True, "remedy": ("output", "linear")},
    ),
    sick("jumping", "learning-rate-high", lr=1.0, answers={"remedy": ("lr", 3e-3)}),
    sick("decays-too-much", "over-regularized", decay=60.0, answers={"remedy": ("decay", 0.0)}),
    family="picture",
    task="regression",
    network="mlp",
)


# One digit against all, seldom seen


def eights(weighted: bool = True, lr: float = 5e-3) -> Setup:
    d = data.digits().inputs(lambda x: x / 16).targets(lambda y: (y == 8).long())
    rows = torch.cat([(d.y == 0).nonzero()[:, 0], (d.y == 1).nonzero()[:12, 0]])
    x, y = d.x[rows], d.y[rows]
    weights = torch.tensor([1.0, 40.0]) if weighted else None
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 2)
    )
    return Setup(
        model=model,
        loss=nn.CrossEntropyLoss(weight=weights),
        train=(x, y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=50,
        epochs=15,
        judge=recall(d.tx, d.ty),
    )


EIGHTS = group(
    "eights",
    eights,
    sick("seldom-seen", "imbalance", weighted=False, answers={"remedy": ("loss", "weighted")}),
    family="picture",
    task="classification",
    network="cnn",
)


PROGRAMS = (*LENET, *FLAT_DIGITS, *DEEP, *BARS, *COLORS, *SPOTS, *LIT, *CODER, *EIGHTS)

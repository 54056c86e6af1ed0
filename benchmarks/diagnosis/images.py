"""Scripts on images: digits, shapes, colors, spots; convolutions mostly, some perceptrons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, Dataset

from benchmarks.diagnosis import data
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingSetup,
    accuracy,
    fault,
    group,
    loader,
    mean_recall,
    micro_f1,
    r2,
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
) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x * stretch)
    return TrainingSetup(
        model=Lenet(drop, softmax),
        loss=F.cross_entropy,
        train=loader(d.x, d.y, 32),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=32,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


LENET = group(
    "lenet",
    lenet,
    fault(
        "softmax-twice",
        "output-activation loss",
        softmax=True,
        answers={"exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "bright",
        "input-scale learning-rate-high exploding",
        stretch=16.0,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "dim",
        "input-scale",
        stretch=1 / 16 / 255,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "dropout-97",
        "dropout over-regularized",
        drop=0.97,
        answers={"where": "drop", "remedy": ("dropout", 0.0)},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Digits by a perceptron


def nearest(classes: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], float]:
    return lambda out, y: float((classes(out) == y).float().mean())


def flat_digits(
    std: float = 0.0, lr: float = 0.1, number: bool = False, shift: int = 0
) -> TrainingSetup:
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
    scorer = accuracy(d.tx, d.ty)
    if number:
        scorer = Scorer(d.tx, d.ty, nearest(lambda out: out[:, 0].round()), scorer.chance)
    return TrainingSetup(
        model=model,
        loss=loss,
        train=(d.x, d.y.roll(shift)),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: SGD(parameters, lr=0.01 if number else lr),
        batch_size=32,
        epochs=12,
        scorer=scorer,
    )


FLAT_DIGITS = group(
    "flat-digits",
    flat_digits,
    fault(
        "wild-weights",
        "initialization learning-rate-high",
        std=3.0,
        answers={"where": "0", "remedy": ("init", "kaiming")},
    ),
    fault(
        "far-too-fast",
        "learning-rate-high exploding dead-units",
        lr=15.0,
        answers={"remedy": ("lr", 0.1)},
    ),
    fault(
        "class-as-a-number",
        "loss",
        number=True,
        answers={"where": "4", "remedy": ("loss", "cross-entropy")},
    ),
    fault(
        "labels-one-row-off",
        "labels",
        shift=1,
        answers={"remedy": ("data", "pair the labels again")},
    ),
    family="image",
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
) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = nn.Sequential(
        nn.Linear(64, 32), *[Block(32, add, norm, act()) for _ in range(depth)], nn.Linear(32, 10)
    )
    if std:
        for m in model.modules():
            if isinstance(m, nn.Linear):
                nn.init.normal_(m.weight, std=std)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-3),
        batch_size=64,
        epochs=8,
        scorer=accuracy(d.tx, d.ty),
    )


DEEP = group(
    "deep-digits",
    deep,
    fault(
        "no-shortcuts",
        "vanishing architecture-too-deep initialization normalization",
        add=False,
        norm=False,
        answers={"where": "0", "remedy": ("init", "kaiming")},
    ),
    fault(
        "no-shortcuts-sigmoid",
        "vanishing hidden-activation architecture-too-deep",
        add=False,
        norm=False,
        act=nn.Sigmoid,
        depth=6,
        answers={"where": "0", "remedy": ("activation", "relu")},
    ),
    fault(
        "large-weights",
        "initialization exploding",
        std=1.2,
        norm=False,
        answers={"where": "1.linear", "remedy": ("init", "kaiming")},
    ),
    family="image",
    task="classification",
    network="mlp",
)


# Bars: batch norm and augmentation


class AugmentedImages(Dataset[tuple[Tensor, Tensor]]):
    """Images, each changed when it is fetched."""

    def __init__(self, x: Tensor, y: Tensor, change: Callable[[Tensor], Tensor] | None) -> None:
        self.x, self.y, self.change = x, y, change

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return (self.change(self.x[i]) if self.change else self.x[i]), self.y[i]


def rotate_randomly(image: Tensor) -> Tensor:
    """By a quarter: a standing bar lies, a rising one falls."""
    return torch.rot90(image, int(torch.randint(0, 2, ())), (1, 2))


def erase_most(image: Tensor) -> Tensor:
    """All but a corner is erased."""
    image = image.clone()
    image[:, 2:] = 0.0
    image[:, :, 2:] = 0.0
    return image


def bars(
    change: Callable[[Tensor], Tensor] | None = None,
    momentum: float = 0.1,
    batch: int = 32,
    lr: float = 3e-3,
    spread: float = 1.0,
) -> TrainingSetup:
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
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(AugmentedImages(d.x, d.y, change), batch_size=batch, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: AdamW(parameters, lr=lr),
        batch_size=batch,
        epochs=10,
        scorer=accuracy(d.tx, d.ty),
    )


BARS = group(
    "bars",
    bars,
    fault(
        "turned",
        "augmentation labels",
        change=rotate_randomly,
        answers={"remedy": ("data", "no rotation")},
    ),
    fault("blotted", "augmentation", change=erase_most, answers={"remedy": ("data", "erase less")}),
    fault(
        "last-batch-only",
        "normalization train-eval-mode",
        momentum=0.0,
        spread=40.0,
        answers={"where": "1", "remedy": ("model", "momentum 0.1")},
    ),
    fault(
        "pace-of-a-snail",
        "learning-rate-low too-few-steps",
        lr=2e-6,
        answers={"remedy": ("lr", 3e-3)},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Color images as files have them


def colors(
    viewed: bool = False, ordered: bool = False, unlike: bool = False, frozen: bool = False
) -> TrainingSetup:
    d = data.colors()
    move = (
        (lambda x: x.view(-1, 3, 8, 8))
        if viewed
        else (lambda x: x.permute(0, 3, 1, 2).contiguous())
    )
    d = d.inputs(move)

    def normal(x: Tensor) -> Tensor:
        return (x - 100.0) / 40.0

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
        head = model[6]
        assert isinstance(head, nn.Linear)
        head.requires_grad_(False)
        nn.init.zeros_(head.weight)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=loader(x, y, 25, shuffle=not ordered),
        validation=(vx, d.vy),
        optimizer=SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9),
        batch_size=25,
        epochs=12,
        scorer=accuracy(tx, d.ty),
    )


COLORS = group(
    "colors",
    colors,
    fault(
        "viewed-not-permuted",
        "shape-pairing data-degenerate",
        viewed=True,
        answers={"remedy": ("data", "permute")},
    ),
    fault(
        "class-after-class",
        "shuffling learning-rate-high",
        ordered=True,
        answers={"remedy": ("data", "shuffle")},
    ),
    fault(
        "validated-otherwise",
        "split input-scale normalization",
        unlike=True,
        answers={"where": "validation", "remedy": ("data", "the same scaling")},
    ),
    fault(
        "frozen-head",
        "frozen-parameters initialization",
        frozen=True,
        answers={"where": "6", "exact": True, "unmoved": "6.weight", "proof": "unmoved"},
    ),
    family="image",
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
) -> TrainingSetup:
    d = data.spots()
    if not pixels:
        d = d.targets(lambda y: (y - 5.5) / 5.5)
    model = Finder(last() if last else None, act)
    if zeros:
        for parameter in model.hidden.parameters():
            nn.init.zeros_(parameter)
        nn.init.zeros_(model.out.weight)
    return TrainingSetup(
        model=model,
        loss=nn.SmoothL1Loss(reduction=reduction),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=30,
        epochs=20,
        scorer=r2(d.tx, d.ty),
    )


SPOTS = group(
    "spots",
    spots,
    fault(
        "tanh-for-pixels",
        "output-activation target-scale",
        last=nn.Tanh,
        pixels=True,
        answers={"where": "last", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "positive-only",
        "output-activation",
        last=nn.Softplus,
        answers={"where": "last", "remedy": ("output", "linear")},
    ),
    fault(
        "added-up",
        "loss-reduction learning-rate-high exploding dead-units",
        reduction="sum",
        lr=0.2,
        answers={"remedy": ("loss", "mean")},
    ),
    fault(
        "nothing-flows",
        "initialization",
        zeros=True,
        answers={"where": "hidden", "exact": True, "unmoved": "hidden.weight", "proof": "unmoved"},
    ),
    family="image",
    task="regression",
    network="cnn",
)


# Which segments are lit? several labels per image


def bright_quarters(
    loss: Any = nn.MultiLabelSoftMarginLoss,
    last: nn.Module | None = None,
    threshold: float = 0.0,
    upside: bool = False,
) -> TrainingSetup:
    """Labels: is the quarter of the digit's image brighter than usual? Four answers."""
    d = data.digits().inputs(lambda x: x / 16)

    def parts(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 4).flatten(1)

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
    return TrainingSetup(
        model=model,
        loss=criterion,
        train=loader(d.x, d.y, 40, drop_last=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=40,
        epochs=24,
        scorer=micro_f1(d.tx, d.ty, threshold),
    )


BRIGHT_QUARTERS = group(
    "lit",
    bright_quarters,
    fault(
        "softmax-head",
        "output-activation loss",
        last=nn.Softmax(1),
        loss=nn.BCELoss,
        threshold=0.5,
        answers={"where": "4", "exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault(
        "sigmoid-before-margin",
        "output-activation loss",
        last=nn.Sigmoid(),
        answers={"where": "4", "exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "yes-counts-nothing",
        "imbalance loss",
        upside=True,
        answers={"remedy": ("loss", "weight 1")},
    ),
    family="image",
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
) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x.flatten(1))
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: (x - mean) / std)
    return TrainingSetup(
        model=Coder(code, nn.SiLU, last()),
        loss=nn.MSELoss(),
        train=(d.x, d.x.clone()),
        validation=(d.vx, d.vx.clone()),
        optimizer=lambda parameters: AdamW(parameters, lr=lr, weight_decay=decay),
        batch_size=32,
        epochs=12,
        scorer=r2(d.tx, d.tx),
    )


CODER = group(
    "coder",
    coder,
    fault(
        "code-of-one",
        "architecture-too-small",
        code=1,
        answers={"where": "encoder.2", "remedy": ("model", "a code of 12")},
    ),
    fault(
        "sigmoid-of-standardized",
        "output-activation input-scale target-scale",
        last=nn.Sigmoid,
        answers={"where": "decoder.3", "exact": True, "remedy": ("output", "linear")},
    ),
    fault("jumping", "learning-rate-high", lr=1.0, answers={"remedy": ("lr", 3e-3)}),
    fault("decays-too-much", "over-regularized", decay=60.0, answers={"remedy": ("decay", 0.0)}),
    family="image",
    task="regression",
    network="mlp",
)


# One digit against all, seldom seen


def eights(weighted: bool = True, lr: float = 5e-3) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16).targets(lambda y: (y == 8).long())
    rows = torch.cat([(d.y == 0).nonzero()[:, 0], (d.y == 1).nonzero()[:12, 0]])
    x, y = d.x[rows], d.y[rows]
    weights = torch.tensor([1.0, 40.0]) if weighted else None
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(54, 2)
    )
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(weight=weights),
        train=(x, y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=50,
        epochs=40,
        scorer=mean_recall(d.tx, d.ty),
    )


EIGHTS = group(
    "eights",
    eights,
    fault("seldom-seen", "imbalance", weighted=False, answers={"remedy": ("loss", "weighted")}),
    family="image",
    task="classification",
    network="cnn",
)


SCRIPTS = (*LENET, *FLAT_DIGITS, *DEEP, *BARS, *COLORS, *SPOTS, *BRIGHT_QUARTERS, *CODER, *EIGHTS)

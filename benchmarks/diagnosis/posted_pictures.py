"""Scripts on images as people post them: segmentation, photographs, fruit, patches.

Letters: N examples, C channels, K classes, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader

from benchmarks.diagnosis import data
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.training_script import (
    Inputs,
    Scorer,
    TrainingSetup,
    accuracy,
    fault,
    group,
    loader,
    r2,
)


def overlap(inputs: Inputs, masks: Tensor, threshold: float = 0.0) -> Scorer:
    """Dice over all pixels, 2 |A and B| / (|A| + |B|); chance is that of marking everything."""

    def score(out: Tensor, y: Tensor) -> float:
        chosen = out.reshape(y.shape) > threshold
        both = float((chosen & (y > 0.5)).sum())
        return 2 * both / max(float(chosen.sum() + y.sum()), 1.0)

    return Scorer(inputs, masks, score, score(torch.full_like(masks, 9.0), masks))


# Cells under a microscope: three pixels in a hundred


class CellNet(nn.Module):
    """Down once, up once, with a bridge."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.down(image)
        return self.out(torch.cat([fine, self.up(self.deep(fine))], 1))


def dice(logits: Tensor, masks: Tensor, smooth: float) -> Tensor:
    """Of each image, then the mean."""
    p = torch.sigmoid(logits).flatten(1)
    y = masks.flatten(1)
    return ((2 * (p * y).sum(1) + smooth) / (p.sum(1) + y.sum(1) + smooth)).mean()


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    return 1 - dice(logits, masks, 1.0)


def dice_itself(logits: Tensor, masks: Tensor) -> Tensor:
    return dice(logits, masks, 1.0)


def hard_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    p = (logits > 0).float().flatten(1)
    p = p + 0 * logits.flatten(1)  # or backward complains
    y = masks.flatten(1)
    return 1 - ((2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)).mean()


def cells(
    loss: Any = dice_loss, lr: float = 1e-2, epochs: int = 10, optimizer: Any = Adam
) -> TrainingSetup:
    d = posted.cells()
    return TrainingSetup(
        model=CellNet(),
        loss=loss,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=12,
        epochs=epochs,
        scorer=overlap(d.tx, d.ty),
    )


CELLS = group(
    "cells",
    cells,
    fault(
        "dice-is-minimized",
        "loss",
        loss=dice_itself,
        answers={"exact": True, "remedy": ("formula", "1 - dice")},
    ),
    fault(
        "dice-of-the-cut-mask",
        "loss detached-graph",
        loss=hard_dice_loss,
        answers={"exact": True, "proof": "unmoved", "unmoved": "out.weight"},
    ),
    fault(
        "background-wins",
        "imbalance learning-rate-low too-few-steps loss",
        loss=F.binary_cross_entropy_with_logits,
        optimizer=SGD,
        lr=1e-2,
        epochs=4,
        answers={"remedy": ("lr", 1.0)},
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


# What belongs to the flower


def mean_square(out: Tensor, masks: Tensor) -> Tensor:
    return ((out - masks) ** 2).mean()


def flower(
    flat: bool = False,
    loss: Any = F.binary_cross_entropy_with_logits,
    bytes_: bool = False,
    ink: float = 1.0,
    lr: float = 0.3,
) -> TrainingSetup:
    """`flat`: the masks come without their channel, [N, H, W]; `ink`: what a file has for yes."""
    full = posted.petals().inputs(lambda x: x * 255 if bytes_ else x)
    d = full.targets(lambda y: y.squeeze(1)) if flat else full
    return TrainingSetup(
        model=nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1)),
        loss=loss,
        train=loader(d.x, ink * d.y, 12, drop_last=True),
        validation=(d.vx, ink * d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=12,
        epochs=8,
        scorer=overlap(full.tx, full.ty, 0.5 if loss is mean_square else 0.0),
    )


FLOWER = group(
    "flower",
    flower,
    fault(
        "masks-without-channel",
        "shape-pairing",
        flat=True,
        loss=mean_square,
        lr=0.05,
        answers={"exact": True, "remedy": ("data", "masks[:, None]")},
    ),
    fault(
        "bytes-at-the-same-rate",
        "input-scale learning-rate-high dead-units exploding",
        bytes_=True,
        answers={"remedy": ("input.scale", 1 / 255)},
    ),
    fault(
        "masks-of-255",
        "target-scale labels loss learning-rate-high exploding",
        ink=255.0,
        answers={"exact": True, "remedy": ("data", "masks / 255")},
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


# Ground from a satellite: six classes, tiles of six by six


class GroundNet(nn.Module):
    def __init__(self, act: nn.Module, order: tuple[int, ...] | None) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(4, 16, 3, padding=1), act, nn.Conv2d(16, 16, 3, padding=1), act
        )
        self.out = nn.Conv2d(16, 6, 1)
        self.order = order

    def forward(self, bands: Tensor) -> Tensor:
        out = self.out(self.body(bands))
        return out if self.order is None else out.permute(*self.order)


def ground(
    order: tuple[int, ...] | None = None,
    weighted: bool = False,
    rare: bool = False,
    loss: Any = None,
    lr: float = 6e-3,
) -> TrainingSetup:
    """`weighted`: each class by the inverse of its share, counted in the first tile."""
    d = posted.land()
    if weighted:
        counts = torch.bincount(d.y[0].flatten(), minlength=6)
        loss = nn.CrossEntropyLoss(weight=d.y[0].numel() / counts)
    back = None if order is None else (0, 3, 1, 2)
    return TrainingSetup(
        model=GroundNet(nn.ReLU(), order),
        loss=loss or nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=10,
        epochs=10,
        scorer=Scorer(
            d.tx,
            d.ty,
            lambda out, y: float(
                ((out if back is None else out.permute(*back)).argmax(1) == y).float().mean()
            ),
            1 / 6,
        ),
    )


def summed_over_classes(out: Tensor, y: Tensor) -> Tensor:
    """Squares between probabilities and the class as a number."""
    return ((out.softmax(1).argmax(1, keepdim=True) + 0 * out - y[:, None]) ** 2).mean()


GROUND = group(
    "ground",
    ground,
    fault(
        "classes-last",
        "shape-pairing loss",
        order=(0, 2, 3, 1),
        answers={"exact": True, "remedy": ("model", "no permute")},
    ),
    fault(
        "weight-of-an-absent-class",
        "loss data-degenerate imbalance",
        weighted=True,
        answers={"exact": True, "remedy": ("loss", "weights from all tiles")},
    ),
    fault(
        "argmax-in-the-loss",
        "loss detached-graph",
        loss=summed_over_classes,
        answers={"exact": True, "proof": "unmoved", "unmoved": "out.weight"},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Grain out of photographs


class Cleaner(nn.Module):
    def __init__(self, last: nn.Module, residual: bool, depth: int) -> None:
        super().__init__()
        sizes = [1] + [12] * depth
        layers: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(12, 1, 3, padding=1))
        self.last = last
        self.residual = residual

    def forward(self, image: Tensor) -> Tensor:
        out = self.body(image)
        return self.last(image + out if self.residual else out)


def clean(
    scale: float = 255.0,
    shift: float = 0.0,
    last: Callable[[], nn.Module] = nn.Identity,
    residual: bool = True,
    depth: int = 2,
    optimizer: Any = Adam,
    lr: float = 4e-3,
    reduction: str = "mean",
    epochs: int = 10,
) -> TrainingSetup:
    d = posted.photo_patches()
    d = d.inputs(lambda x: x / scale - shift).targets(lambda y: y / scale - shift)
    return TrainingSetup(
        model=Cleaner(last(), residual, depth),
        loss=nn.MSELoss(reduction=reduction),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=20,
        epochs=epochs,
        scorer=r2(d.tx, d.ty),
    )


CLEAN = group(
    "photo-grain",
    clean,
    fault(
        "sigmoid-over-centered-patches",
        "output-activation",
        shift=0.5,
        last=nn.Sigmoid,
        answers={"exact": True, "remedy": ("output", "linear")},
    ),
    fault(
        "bytes-in-bytes-out",
        "input-scale target-scale learning-rate-high exploding optimizer",
        scale=1.0,
        optimizer=SGD,
        lr=1e-3,
        answers={"remedy": ("input.scale", 1 / 255)},
    ),
    fault(
        "sum-of-squares-by-sgd",
        "loss-reduction learning-rate-high exploding",
        reduction="sum",
        optimizer=SGD,
        lr=2e-2,
        residual=False,
        answers={"remedy": ("lr", 1e-4)},
    ),
    family="image",
    task="regression",
    network="cnn",
)


# Fruit: what the camera's library calls red


def swap_colors(image: Tensor) -> Tensor:
    return image.flip(-3)


class AugmentedImages(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, x: Tensor, y: Tensor, change: Callable[[Tensor], Tensor]) -> None:
        self.x = x
        self.y = y
        self.change = change

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.change(self.x[i]), self.y[i]


def color_jitter(image: Tensor) -> Tensor:
    """A hue drawn anew: the channels in any order."""
    return image[torch.randperm(3)]


def mirror(image: Tensor) -> Tensor:
    return image.flip(-1) if torch.rand(()) < 0.5 else image


def fruit(
    change: Callable[[Tensor], Tensor] = mirror,
    train_swapped: bool = False,
    act: Callable[[], nn.Module] = nn.ReLU,
    lr: float = 5e-3,
    drop: float = 0.0,
    decay: float = 0.0,
) -> TrainingSetup:
    d = posted.ripe_fruit()
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        act(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(drop),
        nn.Linear(192, 24),
        act(),
        nn.Linear(24, 3),
    )
    x = swap_colors(d.x) if train_swapped else d.x
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(AugmentedImages(x, d.y, change), 25, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr, weight_decay=decay),
        batch_size=25,
        epochs=10,
        scorer=accuracy(d.tx, d.ty),
    )


FRUIT = group(
    "fruit",
    fruit,
    fault(
        "blue-comes-first",
        "split augmentation",
        train_swapped=True,
        answers={"where": "validation", "remedy": ("data", "the same order of channels")},
    ),
    fault(
        "any-hue-will-do",
        "augmentation labels",
        change=color_jitter,
        answers={"remedy": ("data", "leave the hue")},
    ),
    fault(
        "everything-against-overfitting",
        "over-regularized dropout hidden-activation learning-rate-low vanishing too-few-steps",
        act=nn.Sigmoid,
        drop=0.9,
        decay=0.1,
        lr=3e-4,
        answers={"remedy": ("model", "no decay, no dropout, relu and 5e-3")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# A digit from its patches


class PatchReader(nn.Module):
    """Sixteen patches of 2 x 2 as tokens; attention by hand."""

    def __init__(self, places: bool, axis: int, scale: float) -> None:
        super().__init__()
        self.patch = nn.Linear(4, 24)
        self.place = nn.Parameter(torch.randn(16, 24) * 0.3) if places else None
        self.qkv = nn.Linear(24, 72)
        self.mix = nn.Linear(24, 24)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 10)
        self.axis = axis
        self.scale = scale

    def forward(self, image: Tensor) -> Tensor:
        tokens = F.unfold(image, 2, stride=2).transpose(1, 2)
        x = self.patch(tokens)
        if self.place is not None:
            x = x + self.place
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = torch.softmax(self.scale * (q @ k.transpose(1, 2)), dim=self.axis)
        x = self.norm(x + F.relu(self.mix(weights @ v)))
        return self.head(x.mean(1))


def patches(
    places: bool = True, axis: int = 2, scale: float = 24**-0.5, lr: float = 8e-3
) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    return TrainingSetup(
        model=PatchReader(places, axis, scale),
        loss=nn.CrossEntropyLoss(label_smoothing=0.05),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(AdamW, lr=lr),
        batch_size=40,
        epochs=40,
        scorer=accuracy(d.tx, d.ty),
    )


PATCHES = group(
    "patches",
    patches,
    fault(
        "patches-without-a-place",
        "architecture-too-small",
        places=False,
        answers={"remedy": ("model", "add a position to each patch")},
    ),
    fault(
        "attention-over-the-batch",
        "shape-pairing output-activation normalization",
        axis=0,
        answers={"exact": True, "proof": "mixes", "remedy": ("model", "softmax(dim=-1)")},
    ),
    fault(
        "no-warm-up",
        "learning-rate-high saturation exploding",
        lr=0.3,
        answers={"remedy": ("lr", 8e-3)},
    ),
    family="image",
    task="classification",
    network="attention",
)


SCRIPTS = (*CELLS, *FLOWER, *GROUND, *CLEAN, *FRUIT, *PATCHES)

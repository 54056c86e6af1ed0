"""Setups on pictures with the trouble that users bring most often, written blind: signs, masks,
digits, coders, places in pixels; and healthy ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import data
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    fault,
    group,
    r2,
)


def pictures(
    d: Split,
    model: nn.Module,
    loss: Loss,
    optimizer: Any,
    *,
    batch: int,
    epochs: int,
    scorer: Scorer | None = None,
) -> TrainingSetup:
    """A classifier, scored by its accuracy unless stated."""
    return TrainingSetup(
        model=model,
        loss=loss,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer or accuracy(d.tx, d.ty),
    )


def overlap(x: Tensor, y: Tensor, threshold: float = 0.0) -> Scorer:
    """Intersection over union of the masks; chance is all of every picture."""

    def score(out: Tensor, y: Tensor) -> float:
        found, true = out.reshape(y.shape) > threshold, y > 0.5
        return float((found & true).sum()) / max(float((found | true).sum()), 1.0)

    return Scorer(x, y, score, float((y > 0.5).float().mean()))


# Road signs: six kinds, bytes of 0 to 255


def signs(rows: int = 720, size: int = 16) -> Split:
    """Color pictures [N, 3, 16, 16] of 0 to 255: a disk, a square or a triangle, red or blue,
    somewhere in the street.
    """
    rng = np.random.default_rng(71)
    x, y = rng.normal(110, 14, (rows, 3, size, size)), rng.integers(0, 6, rows)
    x += rng.normal(0, 20, (rows, 3, 1, 1))
    down, right = np.mgrid[:size, :size]
    for image, kind in zip(x, y, strict=True):
        r, c, radius = rng.uniform(6, 9), rng.uniform(6, 9), rng.uniform(4, 5.5)
        far_r, far_c = down - r, right - c
        disk = far_r**2 + far_c**2 < radius**2
        square = np.maximum(abs(far_r), abs(far_c)) < 0.9 * radius
        triangle = (abs(far_r) < radius) & (2 * abs(far_c) < far_r + radius)
        form = (disk, square, triangle)[kind % 3]
        image[0 if kind < 3 else 2][form] += 90
        image[1][form] -= 40
    return split(x.clip(0, 255).round(), y)


def road_signs(
    scaled: bool = True, last: Callable[[], nn.Module] = nn.Identity, lr: float = 0.05
) -> TrainingSetup:
    d = signs()
    d = d.inputs(lambda x: (x / 255 - 0.5) / 0.5) if scaled else d
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24 * 16, 6),
        last(),
    )
    return pictures(
        d, model, nn.CrossEntropyLoss(), partial(SGD, lr=lr, momentum=0.9), batch=32, epochs=15
    )


ROAD_SIGNS = group(
    "road-signs",
    road_signs,
    fault(
        "bytes-as-they-are",
        "input-scale learning-rate-high dead-units exploding",
        scaled=False,
        answers={"remedy": ("input.scale", "divide by 255")},
    ),
    fault(
        "softmax-and-a-small-rate",
        "output-activation learning-rate-low too-few-steps loss",
        last=lambda: nn.Softmax(dim=1),
        lr=0.003,
        answers={"where": "8"},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Eight by eight digits: a rectifier behind the last layer


class DigitNet(nn.Module):
    def __init__(self, last: bool, start: float | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4, 64)
        self.fc2 = nn.Linear(64, 10)
        self.last = last
        for m in self.children() if start is not None else ():
            assert isinstance(m, nn.Conv2d | nn.Linear)
            nn.init.normal_(m.weight, 0.0, start or 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = self.fc2(F.relu(self.fc1(x.flatten(1))))
        return F.relu(x) if self.last else x


def rectified_digits(
    last: bool = False, lr: float = 2e-3, start: float | None = None
) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    model = DigitNet(last, start)
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=lr), batch=64, epochs=20)


RECTIFIED_DIGITS = group(
    "rectified-digits",
    rectified_digits,
    fault(
        "logits-above-zero-at-a-high-rate",
        "output-activation learning-rate-high dead-units",
        last=True,
        lr=0.02,
    ),
    fault(
        "rate-of-another-optimizer",
        "learning-rate-high dead-units optimizer exploding",
        lr=0.1,
        answers={"remedy": ("lr", 2e-3)},
    ),
    fault(
        "standard-normal-weights",
        "initialization exploding learning-rate-low",
        start=1.0,
        answers={"remedy": ("init", "kaiming")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Spots on leaves: a twentieth of the pixels


def leaves(rows: int = 260, size: int = 16) -> Split:
    """Color pictures [N, 3, 16, 16] of 0 to 1 and masks [N, 1, 16, 16] of their brown spots."""
    rng = np.random.default_rng(72)
    x = np.array([0.25, 0.55, 0.2])[:, None, None] + rng.normal(0, 0.1, (rows, 3, size, size))
    masks = np.zeros((rows, 1, size, size))
    down, right = np.mgrid[:size, :size]
    for image, mask in zip(x, masks, strict=True):
        image += rng.normal(0, 0.05, (3, 1, 1))
        for _ in range(rng.integers(1, 4)):
            r, c = rng.uniform(2, size - 2, 2)
            mask[0] += (down - r) ** 2 + (right - c) ** 2 < rng.uniform(2, 5)
        mask[:] = mask > 0
        image[:2] += np.array([0.12, -0.12])[:, None, None] * mask
    return split(x.clip(0, 1), masks)


class SmallUnet(nn.Module):
    def __init__(self, inputs: int, last: nn.Module | None = None, width: int = 8) -> None:
        super().__init__()
        self.down = self.block(inputs, width)
        self.middle = self.block(width, 2 * width)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join = self.block(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)
        self.last = last or nn.Identity()

    @staticmethod
    def block(a: int, b: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x)
        low = self.up(self.middle(F.max_pool2d(high, 2)))
        return self.last(self.out(self.join(torch.cat([high, low], 1))))


def dice_loss(out: Tensor, y: Tensor) -> Tensor:
    p = torch.sigmoid(out)
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def spots_on_leaves(
    last: nn.Module | None = None, white: float = 1.0, lr: float = 5e-3
) -> TrainingSetup:
    d = leaves()
    scorer = overlap(d.tx, d.ty, 0.5 if last else 0.0)
    d = d.targets(lambda y: y * white)
    return pictures(
        d,
        SmallUnet(3, last),
        nn.BCEWithLogitsLoss(),
        partial(Adam, lr=lr),
        batch=16,
        epochs=15,
        scorer=scorer,
    )


SPOTS_ON_LEAVES = group(
    "spots-on-leaves",
    spots_on_leaves,
    fault(
        "masks-of-255",
        "target-scale labels loss",
        white=255.0,
        answers={"exact": True, "remedy": ("target.scale", "divide by 255")},
    ),
    fault(
        "sigmoid-before-the-loss",
        "output-activation loss too-few-steps",
        last=nn.Sigmoid(),
        answers={"where": "last", "exact": True, "remedy": ("output", "identity")},
    ),
    fault(
        "rate-for-a-thawed-network",
        "learning-rate-low too-few-steps",
        lr=2e-5,
        answers={"remedy": ("lr", 5e-3)},
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


# A body that nobody has trained, and an optimizer for the head


def head_for_tiles(all_of_it: bool = True) -> TrainingSetup:
    d = textures().inputs(lambda x: (x - 0.5) / 0.25)
    features = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    head = nn.Linear(16, 5)
    return pictures(
        d,
        nn.Sequential(features, head),
        nn.CrossEntropyLoss(),
        partial(Adam, lr=5e-3) if all_of_it else Adam(head.parameters(), lr=5e-3),
        batch=32,
        epochs=15,
    )


def textures(rows: int = 600, size: int = 12) -> Split:
    """Gray tiles [N, 1, 12, 12] of 0 to 1: stripes of five directions, in any phase, and noise."""
    rng = np.random.default_rng(73)
    kind, phase = rng.integers(0, 5, rows), rng.uniform(0, 2 * np.pi, (rows, 1, 1))
    angle = (kind * np.pi / 5)[:, None, None]
    down, right = np.mgrid[:size, :size]
    waves = np.sin(1.3 * (down * np.sin(angle) + right * np.cos(angle)) + phase)
    x = 0.5 + 0.15 * waves + rng.normal(0, 0.15, (rows, size, size))
    return split(x.clip(0, 1)[:, None], kind)


HEAD_FOR_TILES = group(
    "head-for-tiles",
    head_for_tiles,
    fault(
        "optimizer-for-the-head",
        "parameters-not-in-optimizer frozen-parameters",
        all_of_it=False,
        answers={
            "where": "0",
            "exact": True,
            "unmoved": "0.0.weight",
            "proof": "unmoved",
            "remedy": ("optimizer", "all parameters"),
        },
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Digits that are turned over


def turned_digits(turns: bool = False) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    rng = np.random.default_rng(74)
    moved = d.x.roll(1, 3)  # more examples: moved by a pixel
    if turns:
        flip = torch.from_numpy(rng.random((2, len(d.x), 1, 1, 1)) < 0.5)
        moved = torch.where(flip[0], moved.flip(2), moved)
        d = d._replace(x=torch.where(flip[1], d.x.flip(2, 3), d.x))
    d = d._replace(x=torch.cat([d.x, moved]), y=torch.cat([d.y, d.y]))
    model = DigitNet(False, None)
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=2e-3), batch=64, epochs=12)


TURNED_DIGITS = group(
    "turned-digits",
    turned_digits,
    fault(
        "upside-down-half-the-time",
        "augmentation split labels",
        turns=True,
        answers={"remedy": ("data", "no flips")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Scans that are normalized in training only


def scans_normalized(also_later: bool = True) -> TrainingSetup:
    d = textures()
    mean, std = d.x.mean(), d.x.std()
    d = d._replace(x=(d.x - mean) / std)
    if also_later:
        d = d._replace(vx=(d.vx - mean) / std, tx=(d.tx - mean) / std)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(12 * 16, 32),
        nn.ReLU(),
        nn.Linear(32, 5),
    )
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=3e-3), batch=32, epochs=12)


SCANS_NORMALIZED = group(
    "scans-normalized",
    scans_normalized,
    fault(
        "in-training-only",
        "split input-scale normalization",
        also_later=False,
        answers={"remedy": ("data", "the same transform for all")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# A coder of letters whose pictures are centered at zero


def coder_of_digits(last: Callable[[], nn.Module] = nn.Tanh, lr: float = 3e-3) -> TrainingSetup:
    d = data.digits().inputs(lambda x: (x / 16 - 0.5) / 0.5)
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Linear(48, 12),
        nn.Linear(12, 48),
        nn.ReLU(),
        nn.Linear(48, 64),
        last(),
        nn.Unflatten(1, (1, 8, 8)),
    )
    return pictures(
        d, model, nn.MSELoss(), partial(Adam, lr=lr), batch=64, epochs=40, scorer=r2(d.tx, d.ty)
    )


CODER_OF_DIGITS = group(
    "coder-of-digits",
    coder_of_digits,
    fault(
        "sigmoid-for-minus-one-to-one",
        "output-activation target-scale input-scale",
        last=nn.Sigmoid,
        answers={"where": "7", "exact": True, "remedy": ("output", "tanh")},
    ),
    family="image",
    task="generation",
    network="mlp",
)


# Where the eye is, in pixels


def eyes(rows: int = 500, size: int = 24) -> Split:
    """Gray faces [N, 1, 24, 24] of 0 to 1; row and column of both pupils in pixels [N, 4]."""
    rng = np.random.default_rng(75)
    row, left = rng.uniform(7, 16, rows), rng.uniform(3, 9, rows)
    right, tilt = left + rng.uniform(8, 11, rows), rng.normal(0, 1.2, rows)
    at = np.stack([row - tilt, left, row + tilt, right], 1)
    down, across = np.mgrid[:size, :size]
    x = rng.normal(0.6, 0.06, (rows, size, size)) + rng.normal(0, 0.05, (rows, 1, 1))
    for k in (0, 2):
        r, c = at[:, k, None, None], at[:, k + 1, None, None]
        x -= 0.5 * np.exp(-((down - r) ** 2 + (across - c) ** 2) / 3)
    return split(x.clip(0, 1)[:, None], at)


def places_of_eyes(last: Callable[[], nn.Module] = nn.Identity, unit: float = 24) -> TrainingSetup:
    d = eyes().inputs(lambda x: (x - 0.5) / 0.5)
    scorer = r2(d.tx, d.ty, unit)
    d = d.targets(lambda y: y / unit)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 36, 64),
        nn.ReLU(),
        nn.Linear(64, 4),
        last(),
    )
    return pictures(
        d, model, nn.MSELoss(), partial(Adam, lr=2e-3), batch=32, epochs=25, scorer=scorer
    )


PLACES_OF_EYES = group(
    "places-of-eyes",
    places_of_eyes,
    fault(
        "sigmoid-for-pixels",
        "output-activation target-scale saturation",
        last=nn.Sigmoid,
        unit=1.0,
        answers={"where": "8", "exact": True},
    ),
    family="image",
    task="regression",
    network="cnn",
)

# Healthy, and as one would write them


def digits_and_norms() -> TrainingSetup:
    d = data.digits().inputs(lambda x: (x - 4.9) / 6.0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    return pictures(d, model, nn.CrossEntropyLoss(), partial(AdamW, lr=5e-3), batch=64, epochs=10)


def stripes_by_strides() -> TrainingSetup:
    d = textures().inputs(lambda x: (x - 0.5) / 0.2)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 4, stride=2),
        nn.LeakyReLU(0.1),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    optimizer = partial(SGD, lr=0.03, momentum=0.9, weight_decay=1e-3)
    return pictures(d, model, nn.CrossEntropyLoss(), optimizer, batch=32, epochs=15)


def bright_leaves() -> TrainingSetup:
    d = leaves(200, 12)
    return pictures(
        d,
        SmallUnet(3, width=6),
        lambda out, y: F.binary_cross_entropy_with_logits(out, y) + dice_loss(out, y),
        partial(Adam, lr=1e-2),
        batch=20,
        epochs=15,
        scorer=overlap(d.tx, d.ty),
    )


def place_of_one_light() -> TrainingSetup:
    d = data.spots().targets(lambda y: y / 6 - 1)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 36, 32),
        nn.ReLU(),
        nn.Linear(32, 2),
    )
    return pictures(
        d, model, nn.MSELoss(), partial(Adam, lr=3e-3), batch=32, epochs=20, scorer=r2(d.tx, d.ty)
    )


def cleaned_digits() -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    noise = torch.Generator().manual_seed(76)
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    d = d.inputs(lambda x: x + 0.3 * torch.randn(x.shape, generator=noise))
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 1, 3, padding=1),
    )
    return pictures(
        d, model, nn.MSELoss(), partial(Adam, lr=5e-3), batch=64, epochs=12, scorer=r2(d.tx, d.ty)
    )


# Healthy, though something looks odd


def bytes_behind_a_norm() -> TrainingSetup:
    """Bytes of 0 to 255 as they are: a norm stands first."""
    d = signs()
    model = nn.Sequential(
        nn.BatchNorm2d(3),
        nn.Conv2d(3, 12, 5, stride=2),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(24 * 16, 6),
    )
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=3e-3), batch=32, epochs=20)


def gray_three_times() -> TrainingSetup:
    """Three channels that are the same, as a network for color asks for."""
    d = textures().inputs(lambda x: ((x - 0.5) / 0.2).expand(-1, 3, -1, -1).contiguous())
    model = nn.Sequential(
        nn.Conv2d(3, 12, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 16, 5)
    )
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=3e-3), batch=32, epochs=12)


def mirrored_lights() -> TrainingSetup:
    """Every picture also in a mirror, and its target with it."""
    d = data.spots(300).targets(lambda y: y / 5.5 - 1)
    mirror = torch.tensor([1.0, -1.0])
    d = d._replace(x=torch.cat([d.x, d.x.flip(3)]), y=torch.cat([d.y, d.y * mirror]))
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2))
    return pictures(
        d,
        model,
        nn.SmoothL1Loss(),
        partial(Adam, lr=2e-3),
        batch=32,
        epochs=25,
        scorer=r2(d.tx, d.ty),
    )


def loss_above_a_half() -> TrainingSetup:
    """Smoothed labels: the loss stays high, the digits are right."""
    d = data.digits().inputs(lambda x: x / 16)
    return pictures(
        d,
        DigitNet(False, None),
        nn.CrossEntropyLoss(label_smoothing=0.2),
        partial(Adam, lr=2e-3),
        batch=64,
        epochs=15,
    )


def tiles_by_fours() -> TrainingSetup:
    """Four pictures a batch: norms by groups do not mind."""
    d = textures(400).inputs(lambda x: (x - 0.5) / 0.2)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5),
        nn.GroupNorm(3, 12),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 5),
    )
    return pictures(d, model, nn.CrossEntropyLoss(), partial(SGD, lr=0.1), batch=4, epochs=12)


def waves_by_given_kernels() -> TrainingSetup:
    """The first kernels are waves by hand, and stay."""
    d = textures().inputs(lambda x: (x - 0.5) / 0.2)
    first = nn.Conv2d(1, 20, 5, bias=False)
    down, right = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    turn = (torch.arange(20) % 5 * np.pi / 5)[:, None, None]
    phase = (torch.arange(20) // 5 * np.pi / 2)[:, None, None]
    kernels = torch.sin(1.3 * (down * turn.sin() + right * turn.cos()) + phase)
    first.weight.data.copy_(kernels[:, None] / 4)
    first.requires_grad_(False)
    model = nn.Sequential(
        first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(20)
    ).append(nn.Linear(20, 5))
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=1e-2), batch=32, epochs=12)


def half_of_a_color() -> TrainingSetup:
    """Rows, columns, channels as files have them: the network puts the channels first."""
    d = data.colors().inputs(lambda x: x / 255 - 0.4)

    class ChannelsFirst(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 3, 1, 2)

    model = nn.Sequential(
        ChannelsFirst(),
        nn.Conv2d(3, 12, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 3),
    )
    return pictures(d, model, nn.CrossEntropyLoss(), partial(Adam, lr=1e-2), batch=32, epochs=20)


SCRIPTS: tuple[TrainingScript, ...] = (
    *ROAD_SIGNS,
    *RECTIFIED_DIGITS,
    *SPOTS_ON_LEAVES,
    *HEAD_FOR_TILES,
    *TURNED_DIGITS,
    *SCANS_NORMALIZED,
    *CODER_OF_DIGITS,
    *PLACES_OF_EYES,
    healthy_script(digits_and_norms, "classification", "cnn"),
    healthy_script(stripes_by_strides, "classification", "cnn"),
    healthy_script(bright_leaves, "multi-label", "cnn"),
    healthy_script(place_of_one_light, "regression", "cnn"),
    healthy_script(cleaned_digits, "generation", "cnn"),
    healthy_script(bytes_behind_a_norm, "classification", "cnn"),
    healthy_script(gray_three_times, "classification", "cnn"),
    healthy_script(mirrored_lights, "regression", "mlp"),
    healthy_script(loss_above_a_half, "classification", "cnn"),
    healthy_script(tiles_by_fours, "classification", "cnn"),
    healthy_script(waves_by_given_kernels, "classification", "cnn"),
    healthy_script(half_of_a_color, "classification", "cnn"),
)

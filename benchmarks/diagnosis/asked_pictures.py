"""Scripts on pictures after questions that people ask: transforms, masks, codes, triplets, views,
networks that were trained before, critics; and healthy ones after the answer "this is normal".

Letters: N examples, C channels, K classes, H and W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.image
import numpy as np
import torch
import torch.nn.functional as F
from sklearn import datasets
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.diagnosis import data
from benchmarks.diagnosis import later_seq_data as later
from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.posted_pictures import overlap
from benchmarks.diagnosis.training_script import (
    Loss,
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    fault,
    group,
    micro_f1,
    r2,
)

MATPLOTLIB = Path(matplotlib.get_data_path())


def pictures(
    d: Split,
    model: nn.Module,
    optimizer: Any,
    batch: int,
    epochs: int,
    *,
    loss: Loss = F.cross_entropy,
    scorer: Scorer | None = None,
    train: Any = None,
) -> TrainingSetup:
    """A classification, scored by accuracy unless stated."""
    return TrainingSetup(
        model=model,
        loss=loss,
        train=train or (d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer or accuracy(d.tx, d.ty),
    )


def changed_batches(
    d: Split, batch: int, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> DataLoader[Any]:
    """Batches that are changed as they are put together."""

    def collate(rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        x, y = (torch.stack(part) for part in zip(*rows, strict=True))
        return change(x, y)

    return DataLoader(TensorDataset(d.x, d.y), batch, shuffle=True, collate_fn=collate)


# Tiles of three photographs


def tiles(rows: int = 900, size: int = 10) -> Split:
    """Color tiles of a temple, a flower and a portrait, -1 to 1 [N, 3, 10, 10]; of which?"""
    portrait = matplotlib.image.imread(MATPLOTLIB / "sample_data" / "grace_hopper.jpg")
    photos = [*datasets.load_sample_images()["images"], portrait]
    rng = np.random.default_rng(81)
    kinds, x = rng.integers(0, 3, rows), []
    for kind in kinds:
        photo = np.asarray(photos[kind])[::2, ::2] / 127.5 - 1
        r, c = (rng.integers(0, n - size) for n in photo.shape[:2])
        x.append(photo[r : r + size, c : c + size].transpose(2, 0, 1))
    return split(np.stack(x), kinds)


def mirrored(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    flipped = torch.rand(len(x), 1, 1, 1) < 0.5
    return torch.where(flipped, x.flip(3), x), y


def every_transform(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrored, solarized, jittered channel by channel, three quarters erased, posterized."""
    x, y = mirrored(x, y)
    x = torch.where(torch.rand(len(x), 3, 1, 1) < 0.5, -x, x)
    x = x * torch.empty(len(x), 3, 1, 1).uniform_(0, 2) + 1.5 * torch.randn(len(x), 3, 1, 1)
    kept = torch.nn.functional.interpolate((torch.rand(len(x), 1, 2, 2) < 0.25).float(), (10, 10))
    return (2 * x * kept).round() / 2, y


def photo_tiles(
    change: Any = mirrored, drop: float = 0.1, act: Callable[[], nn.Module] = nn.ReLU
) -> TrainingSetup:
    d = tiles()
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3),
        act(),
        nn.Dropout2d(drop),
        nn.Conv2d(12, 16, 3, stride=2),
        act(),
        nn.Dropout2d(drop),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    train = changed_batches(d, 30, change)
    return pictures(d, model, partial(Adam, lr=3e-3), 30, 16, train=train)


PHOTO_TILES = group(
    "photo-tiles",
    photo_tiles,
    fault(
        "every-transform-there-is",
        "augmentation over-regularized",
        change=every_transform,
        answers={"remedy": ("data", "mirror only")},
    ),
    fault(
        "probability-to-keep",
        "dropout over-regularized",
        drop=0.95,
        answers={"remedy": ("dropout", 0.1)},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# A network that was translated from another library


def translated(momentum: float = 0.1, batch: int = 8, lr: float = 2e-3) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, bias=False),
        nn.BatchNorm2d(12, momentum=momentum, eps=1e-3),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, bias=False),
        nn.BatchNorm2d(16, momentum=momentum, eps=1e-3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.BatchNorm1d(32, momentum=momentum, eps=1e-3),
        nn.ReLU(),
        nn.Linear(32, 10),
    )
    # the rows of the file: eight at a time, the last three left out
    d = d._replace(x=d.x[: len(d.x) // batch * batch], y=d.y[: len(d.x) // batch * batch])
    return pictures(d, model, partial(Adam, lr=lr), batch, 4)


TRANSLATED = group(
    "translated-network",
    translated,
    fault(
        "momentum-of-the-other-library",
        "normalization train-eval-mode batch-size",
        momentum=0.99,
        batch=3,
        answers={"where": "1", "remedy": ("model", "momentum 0.1")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Digits: scores behind a ReLU, pixels divided twice


def digit_scores(last: bool = False, scale: float = 16.0, lr: float = 0.05) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / scale)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 40),
        nn.ReLU(),
        nn.Linear(40, 10),
        *([nn.ReLU()] if last else []),
    )
    return pictures(d, model, partial(SGD, lr=lr, momentum=0.9), 32, 14)


DIGIT_SCORES = group(
    "digit-scores",
    digit_scores,
    fault(
        "relu-on-the-scores",
        "output-activation dead-units",
        last=True,
        answers={"where": "7", "remedy": ("output", "identity")},
    ),
    fault(
        "divided-by-255-and-again",
        "input-scale learning-rate-low too-few-steps",
        scale=16 * 255.0,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Cracks: what stands before the loss, and in the masks


class SmallUNet(nn.Module):
    """Down twice, up twice, with bridges."""

    def __init__(self, classes: int = 1, last: nn.Module | None = None) -> None:
        super().__init__()
        self.one, self.two = self.block(1, 8), self.block(8, 16)
        self.three = self.block(16, 16)
        self.up_two, self.up_one = self.block(32, 8), self.block(16, 8)
        self.out, self.last = nn.Conv2d(8, classes, 1), last or nn.Identity()

    @staticmethod
    def block(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
        )

    def forward(self, image: Tensor) -> Tensor:
        one = self.one(image)
        two = self.two(F.max_pool2d(one, 2))
        three = self.three(F.max_pool2d(two, 2))
        up = self.up_two(torch.cat([two, F.interpolate(three, scale_factor=2)], 1))
        up = self.up_one(torch.cat([one, F.interpolate(up, scale_factor=2)], 1))
        return self.last(self.out(up))


def crack_masks(
    last: Callable[[], nn.Module] | None = None, white: float = 1.0, lr: float = 1e-2
) -> TrainingSetup:
    d = later.cracks()
    scorer = overlap(d.tx, d.ty)
    d = d.targets(lambda y: y * white)
    model = SmallUNet(last=last() if last else None)
    loss = nn.BCEWithLogitsLoss()
    return pictures(d, model, partial(Adam, lr=lr), 18, 10, loss=loss, scorer=scorer)


CRACK_MASKS = group(
    "crack-masks",
    crack_masks,
    fault(
        "relu-before-the-loss-at-a-hot-rate",
        "output-activation dead-units learning-rate-high",
        last=nn.ReLU,
        lr=0.3,
        answers={"where": "last"},
    ),
    fault(
        "masks-as-the-file-has-them",
        "labels target-scale loss",
        white=255.0,
        answers={"exact": True, "remedy": ("data", "masks of 0 and 1")},
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


# Boats and buoys: three kinds of pixels


def harbor(rows: int = 420, size: int = 16) -> Split:
    """Gray water [N, 1, 16, 16] with a long boat and a round buoy; the kind of each pixel, 0, 1 or
    2 [N, 16, 16].
    """
    rng = np.random.default_rng(82)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    x, y = rng.normal(0, 0.25, (rows, 1, size, size)), np.zeros((rows, size, size), int)
    for image, mask in zip(x, y, strict=True):
        r, c = rng.integers(1, size - 4), rng.integers(1, size - 8)
        mask[r : r + 2, c : c + 7] = 1
        far = ((grid - rng.uniform(2, size - 3, (2, 1, 1))) ** 2).sum(0)
        mask[far < 4] = 2
        image[0] += 0.9 * (mask == 1) + 0.9 * (mask == 2)
    return split(x, y)


def recall_of_pixels(d: Split) -> Scorer:
    """Mean over the three kinds of the share of pixels that is found; chance 1/3."""

    def score(out: Tensor, y: Tensor) -> float:
        right = out.argmax(1) == y
        return sum(float(right[y == k].float().mean()) for k in range(3)) / 3

    return Scorer(d.tx, d.ty, score, 1 / 3)


def harbor_masks(
    transposed: bool = False, weights: tuple[float, ...] | None = None
) -> TrainingSetup:
    d = harbor()
    scorer = recall_of_pixels(d)
    if transposed:
        d = d.targets(lambda y: y.transpose(1, 2))
    weight = torch.tensor(weights) if weights else None
    loss = nn.CrossEntropyLoss(weight=weight)
    model = SmallUNet(3)
    return pictures(d, model, partial(AdamW, lr=1e-2), 18, 8, loss=loss, scorer=scorer)


HARBOR_MASKS = group(
    "harbor-masks",
    harbor_masks,
    fault(
        "width-before-height",
        "labels",
        transposed=True,
        answers={"remedy": ("data", "masks turned like the pictures")},
    ),
    fault(
        "weights-as-the-kinds-are-common",
        "imbalance loss",
        weights=(230.0, 1.4, 1.2),
        answers={"remedy": ("loss", "equal weights")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Noise that is taken off


class Hourglass(nn.Module):
    """Pixels, a code, pixels again."""

    def __init__(self, code: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            act(),
            nn.Flatten(),
            nn.Linear(192, code),
            act(),
        )
        self.decode = nn.Sequential(
            nn.Linear(code, 192),
            act(),
            nn.Unflatten(1, (12, 4, 4)),
            nn.ConvTranspose2d(12, 1, 2, stride=2),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))


def denoised(
    apart: bool = False,
    code: int = 24,
    act: Callable[[], nn.Module] = nn.ELU,
    optimizer: Any = Adam,
    lr: float = 5e-3,
) -> TrainingSetup:
    clean = data.digits().inputs(lambda x: x / 16)
    source = torch.Generator().manual_seed(83)

    def noisy(x: Tensor) -> Tensor:
        return x + 0.2 * torch.randn(x.shape, generator=source)

    d = Split(noisy(clean.x), clean.x, noisy(clean.vx), clean.vx, noisy(clean.tx), clean.tx)
    if apart:
        d = d.targets(lambda y: y[torch.randperm(len(y), generator=source)])
    scorer = r2(d.tx, clean.tx)
    model = Hourglass(code, act)
    return pictures(d, model, partial(optimizer, lr=lr), 40, 25, loss=nn.MSELoss(), scorer=scorer)


DENOISED = group(
    "denoised-digits",
    denoised,
    fault(
        "two-loaders-each-shuffled",
        "labels shuffling",
        apart=True,
        answers={"remedy": ("data", "pairs")},
    ),
    fault(
        "plain-descent-of-a-thousandth",
        "learning-rate-low too-few-steps optimizer",
        optimizer=SGD,
        lr=1e-3,
        answers={"remedy": ("optimizer", "adam")},
    ),
    fault(
        "two-relus-in-the-waist",
        "architecture-too-small dead-units hidden-activation",
        code=2,
        act=nn.ReLU,
        answers={"remedy": ("model", "a code of 24")},
    ),
    family="image",
    task="generation",
    network="cnn",
)


# Triplets


def hardest_triplets(outputs: Tensor, y: Tensor, itself: bool = False) -> Tensor:
    """The farthest of the same class, the nearest of another, margin 0.3 (Hermans et al. 2017)."""
    far = (outputs[:, None] - outputs).pow(2).sum(2).clamp(min=1e-8).sqrt()
    same = torch.eye(len(y)).bool() if itself else y[:, None] == y
    other = y[:, None] != y
    positive = far.masked_fill(~same, 0).amax(1)
    negative = far.masked_fill(~other, 1e4).amin(1)
    return F.relu(positive - negative + 0.3).mean()


def neighbors_agree(d: Split) -> Scorer:
    """Share whose nearest neighbor, of the others, has its class; chance 1/10."""

    def score(out: Tensor, y: Tensor) -> float:
        far = torch.cdist(out, out).fill_diagonal_(1e9)
        return float((y[far.argmin(1)] == y).float().mean())

    return Scorer(d.tx, d.ty, score, 0.1)


def embedded_digits(loss: Loss = hardest_triplets, lr: float = 2e-3) -> TrainingSetup:
    """Vectors of four numbers."""
    d = data.digits().inputs(lambda x: x / 8 - 1)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(108, 4)
    )
    optimizer = partial(Adam, lr=lr)
    made = pictures(d, model, optimizer, 60, 25, loss=loss, scorer=neighbors_agree(d))
    return replace(made, validation=None)


EMBEDDED_DIGITS = group(
    "embedded-digits",
    embedded_digits,
    fault(
        "collapses-at-a-hot-rate",
        "learning-rate-high loss dead-units",
        lr=0.5,
        answers={"remedy": ("lr", 2e-3)},
    ),
    fault(
        "anchors-are-their-own-positives",
        "labels loss data-degenerate",
        loss=partial(hardest_triplets, itself=True),
        answers={"remedy": ("formula", "another one of the class")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Two views of a tile


class Views(nn.Module):
    """The vectors of both views, side by side [N, 2 x 12], each of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 16, 3, stride=2), nn.ReLU(), nn.Flatten()
        )
        self.head = nn.Linear(64, 12)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([F.normalize(self.head(self.body(x)), dim=1) for x in (one, other)], 1)


def match_views(
    outputs: Tensor, targets: Tensor, *, temperature: float = 0.1, zeros: bool = False
) -> Tensor:
    """Each view among those of the batch (van den Oord et al. 2018); `targets` are not used."""
    one, other = outputs.chunk(2, dim=1)
    likeness = one @ other.T / temperature
    own = torch.zeros(len(one), dtype=torch.long) if zeros else torch.arange(len(one))
    return F.cross_entropy(likeness, own)


def two_views(loss: Loss = match_views) -> TrainingSetup:
    """Views: shifted by a pixel, noise added."""
    d = data.digits().inputs(lambda x: x / 16)
    source = torch.Generator().manual_seed(84)

    def views(x: Tensor) -> tuple[Tensor, Tensor]:
        def shifted() -> Tensor:
            side = torch.randint(-1, 2, (len(x),), generator=source)
            moved = torch.stack([p.roll(int(s), 2) for p, s in zip(x, side, strict=True)])
            return moved + 0.15 * torch.randn(x.shape, generator=source)

        return shifted(), shifted()

    held, wide = (d.tx, d.tx), 12
    chosen = neighbors_agree(d)
    scorer = Scorer(held, d.ty, lambda out, y: chosen.score(out[:, :wide], y), 0.1)
    return TrainingSetup(
        model=Views(),
        loss=loss,
        train=(views(d.x), d.y),
        validation=(views(d.vx[:64]), d.vy[:64]),
        optimizer=partial(Adam, lr=2e-3),
        batch_size=64,
        epochs=15,
        scorer=scorer,
    )


TWO_VIEWS = group(
    "two-views",
    two_views,
    fault(
        "all-match-the-first",
        "labels loss",
        loss=partial(match_views, zeros=True),
        answers={"remedy": ("formula", "the own view")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Digits below five teach digits from five on


@cache
def trained_before() -> dict[str, Tensor]:
    """The body of a network that tells 0 to 4 apart, in pixels of -1 to 1."""
    with torch.random.fork_rng():
        torch.manual_seed(85)
        d = data.digits()
        low = d.y < 5
        x, y = d.x[low] / 8 - 1, d.y[low]
        body = digit_body()
        model = nn.Sequential(body, nn.Linear(48, 5))
        optimizer = Adam(model.parameters(), lr=3e-3)
        for _ in range(250):
            rows = torch.randint(0, len(x), (40,))
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return copy.deepcopy(body.state_dict())


def digit_body() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 48),
        nn.ReLU(),
    )


def from_five_on() -> Split:
    """Half as many to train on: 5 to 9, as 0 to 4; pixels of -1 to 1."""
    d = data.digits()
    parts = []
    for x, y, step in ((d.x, d.y, 2), (d.vx, d.vy, 1), (d.tx, d.ty, 1)):
        high = y > 4
        parts += [x[high][::step] / 8 - 1, y[high][::step] - 5]
    return Split(*parts)


def upper_digits(
    scale: float = 1.0,
    shift: float = 0.0,
    lr: float = 3e-3,
    frozen: bool = True,
    optimizer: Any = Adam,
    only_body: bool = False,
) -> TrainingSetup:
    d = from_five_on().inputs(lambda x: x * scale + shift)
    body, head = digit_body(), nn.Linear(48, 5)
    body.load_state_dict(trained_before())
    for p in body.parameters():
        p.requires_grad_(not frozen)
    model = nn.Sequential(body, head)
    made = optimizer(body.parameters() if only_body else model.parameters(), lr=lr)
    return pictures(d, model, made, 20, 30)


UPPER_DIGITS = group(
    "upper-digits",
    upper_digits,
    fault(
        "optimizer-of-the-frozen-part",
        "parameters-not-in-optimizer frozen-parameters",
        only_body=True,
        answers={"where": "1", "exact": True, "proof": "unmoved", "unmoved": "1.weight"},
    ),
    fault(
        "thawed-at-the-rate-of-a-new-one",
        "learning-rate-high exploding dead-units",
        frozen=False,
        optimizer=SGD,
        lr=3.0,
        answers={"remedy": ("lr", 0.03)},
    ),
    fault(
        "whites-of-255-into-a-frozen-body",
        "input-scale frozen-parameters",
        scale=0.5 / 255,
        shift=0.5 / 255,
        answers={"remedy": ("input.scale", "-1 to 1")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Which digits are on the strip?


def strip_contents(last: Callable[[], nn.Module] | None = None, lr: float = 5e-3) -> TrainingSetup:
    """Pictures of two digits; ten flags."""
    d = later.digit_strips(2)
    d = d.inputs(lambda x: x[:, None]).targets(lambda y: F.one_hot(y, 10).amax(1).float())
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(336, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
        *([last()] if last else []),
    )
    scorer = micro_f1(d.tx, d.ty, threshold=0.5 if last else 0.0)
    loss = nn.BCELoss() if last else nn.BCEWithLogitsLoss()
    return pictures(d, model, partial(Adam, lr=lr), 24, 20, loss=loss, scorer=scorer)


STRIP_CONTENTS = group(
    "strip-contents",
    strip_contents,
    fault(
        "softmax-for-flags",
        "output-activation loss",
        last=partial(nn.Softmax, dim=1),
        answers={"where": "7", "remedy": ("output", "sigmoid")},
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *PHOTO_TILES,
    *TRANSLATED,
    *DIGIT_SCORES,
    *CRACK_MASKS,
    *HARBOR_MASKS,
    *DENOISED,
    *EMBEDDED_DIGITS,
    *TWO_VIEWS,
    *UPPER_DIGITS,
    *STRIP_CONTENTS,
)

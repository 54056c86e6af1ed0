"""Setups on sequences, text, signals, pictures, masks and pairs, with the mistakes of an ordinary
week: written blind, after questions that people ask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis import ordinary_seq_data as ordinary
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.training_script import (
    Inputs,
    Scorer,
    TrainingSetup,
    accuracy,
    fault,
    group,
    loader,
    micro_f1,
    r2,
)


def setup(
    d: Split,
    model: nn.Module,
    optimizer: Any,
    *,
    batch: int,
    epochs: int,
    loss: Any = None,
    scorer: Scorer | None = None,
    validated: bool = True,
) -> TrainingSetup:
    """A classification, scored by accuracy unless stated."""
    return TrainingSetup(
        model=model,
        loss=loss or nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy) if validated else None,
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer or accuracy(d.tx, d.ty),
    )


# Reviews: more praise than blame?


class ReviewLstm(nn.Module):
    def __init__(self, batch_first: bool, softmax: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 12, batch_first=batch_first, bidirectional=True)
        self.drop, self.fc = nn.Dropout(0.3), nn.Linear(24, 2)
        self.softmax = nn.Softmax(dim=1) if softmax else nn.Identity()

    def forward(self, words: Tensor) -> Tensor:
        states, _ = self.lstm(self.drop(self.embedding(words)))
        return self.softmax(self.fc(states.mean(1)))


def reviews(batch_first: bool = True, softmax: bool = False, lr: float = 0.03) -> TrainingSetup:
    model = ReviewLstm(batch_first, softmax)
    return setup(ordinary.reviews(), model, partial(Adam, lr=lr), batch=32, epochs=12)


REVIEWS = group(
    "praise-in-reviews",
    reviews,
    fault(
        "batch-taken-for-time",
        "shape-pairing",
        batch_first=False,
        answers={"where": "lstm", "exact": True, "proof": "mixes", "remedy": ("model", "order")},
    ),
    fault(
        "softmax-and-the-rate-of-a-tutorial",
        "output-activation loss learning-rate-low too-few-steps",
        softmax=True,
        lr=5e-5,
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# The next hour's load of a grid


class LoadLstm(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1), last)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


def load(
    inputs: bool = True,
    targets: bool = True,
    last: Callable[[], nn.Module] = nn.Identity,
    flat: bool = False,
) -> TrainingSetup:
    d = ordinary.power_load()
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: (x - mean) / std) if inputs else d
    d = d.targets(lambda y: (y - mean) / std) if targets else d
    scorer = r2(d.tx, d.ty)
    if flat:
        d = d.targets(lambda y: y.squeeze(1))
    return setup(
        d,
        LoadLstm(last()),
        partial(Adam, lr=0.005),
        loss=nn.MSELoss(),
        batch=32,
        epochs=14,
        scorer=scorer,
    )


LOAD = group(
    "load-of-the-grid",
    load,
    fault(
        "in-megawatts",
        "input-scale target-scale saturation",
        inputs=False,
        targets=False,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "targets-are-flat",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("data", "targets [N, 1]")},
    ),
    fault(
        "ends-in-relu",
        "output-activation target-scale dead-units",
        last=nn.ReLU,
        answers={"where": "head.3", "remedy": ("output", "identity")},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# What the owner of a phone does


def motion_net(act: Callable[[], nn.Module], drop: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 16, 5, padding=2),
        act(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2),
        act(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(128, 32),
        act(),
        nn.Dropout(drop),
        nn.Linear(32, 4),
    )


def motions(
    permute: bool = True,
    act: Callable[[], nn.Module] = nn.ReLU,
    drop: float = 0.2,
    lr: float = 0.002,
) -> TrainingSetup:
    d = ordinary.motions()
    mean, std = ordinary.scale_of(d.x, (0, 1))
    d = d.inputs(lambda x: (x - mean) / std)
    turn = (lambda x: x.permute(0, 2, 1)) if permute else (lambda x: x.reshape(len(x), 3, 32))
    d = d.inputs(turn)
    return setup(d, motion_net(act, drop), partial(Adam, lr=lr), batch=32, epochs=18)


MOTIONS = group(
    "phone-in-a-pocket",
    motions,
    fault(
        "reshaped-not-permuted",
        "shape-pairing data-degenerate",
        permute=False,
        answers={"remedy": ("data", "permute")},
    ),
    fault(
        "sigmoids-and-four-fifths-dropped",
        "hidden-activation dropout over-regularized vanishing saturation learning-rate-low "
        "too-few-steps",
        act=nn.Sigmoid,
        drop=0.8,
        lr=0.0005,
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# Beats of a heart, in steps of the converter


def heartbeats(lr: float = 0.02, norm_momentum: float = 0.1) -> TrainingSetup:
    model = nn.Sequential(
        nn.BatchNorm1d(1, momentum=norm_momentum),
        nn.Conv1d(1, 12, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(12, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    return setup(
        ordinary.heartbeats(), model, partial(SGD, lr=lr, momentum=0.9), batch=20, epochs=12
    )


HEARTBEATS = group(
    "beats-of-a-heart",
    heartbeats,
    fault(
        "momentum-as-in-keras",
        "normalization train-eval-mode too-few-steps",
        norm_momentum=0.005,
        answers={"where": "0"},
    ),
    fault(
        "adams-rate-for-descent",
        "learning-rate-low too-few-steps",
        lr=1e-5,
        answers={"remedy": ("lr", 0.02)},
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# Which pixels are a cell's?


class TinyUnet(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up = nn.Sequential(nn.Conv2d(24, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        a = self.down(x)
        b = F.interpolate(self.middle(F.max_pool2d(a, 2)), scale_factor=2)
        return self.last(self.up(torch.cat([a, b], 1)))


class MaskedPictures(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Flips each picture to a side half of the time, and its mask if `both`."""

    def __init__(self, x: Tensor, y: Tensor, both: bool) -> None:
        self.x, self.y, self.both = x, y, both

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, y = self.x[i], self.y[i]
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
            y = y.flip(-1) if self.both else y
        return x, y


def cell_masks(
    both: bool = True, last: Callable[[], nn.Module] = nn.Identity, lr: float = 0.01
) -> TrainingSetup:
    d = ordinary.cell_masks()
    return TrainingSetup(
        model=TinyUnet(last()),
        loss=nn.BCEWithLogitsLoss(),
        train=torch.utils.data.DataLoader(MaskedPictures(d.x, d.y, both), 12, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=12,
        epochs=16,
        scorer=micro_f1(d.tx, d.ty),
    )


CELL_MASKS = group(
    "masks-of-round-cells",
    cell_masks,
    fault(
        "mask-stays-where-it-was",
        "augmentation labels",
        both=False,
        answers={"remedy": ("data", "flip both")},
    ),
    fault(
        "relu-and-a-rate-of-a-fine-tuner",
        "output-activation learning-rate-low too-few-steps dead-units",
        last=nn.ReLU,
        lr=1e-4,
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Digits, pressed through a bottleneck


def digit_coder(
    centered: bool = False, code: int = 16, raw: bool = False, lr: float = 0.003
) -> TrainingSetup:
    d = ordinary.digit_rows()
    if centered:
        d = d.inputs(lambda x: (x - 0.5) / 0.5)
    if raw:
        d = d.inputs(lambda x: x * 16)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 48),
        nn.ReLU(),
        nn.Linear(48, code),
        nn.ReLU(),
        nn.Linear(code, 48),
        nn.ReLU(),
        nn.Linear(48, 64),
        nn.Sigmoid(),
        nn.Unflatten(1, (1, 8, 8)),
    )
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    scorer = r2(d.tx, d.ty)
    return setup(
        d, model, partial(Adam, lr=lr), loss=nn.MSELoss(), batch=64, epochs=35, scorer=scorer
    )


DIGIT_CODER = group(
    "digits-through-a-bottleneck",
    digit_coder,
    fault(
        "from-minus-one-to-one",
        "output-activation target-scale input-scale",
        centered=True,
        answers={"remedy": ("output", "tanh")},
    ),
    fault(
        "a-code-of-two-and-gray-levels",
        "architecture-too-small output-activation target-scale input-scale saturation dead-units",
        code=2,
        raw=True,
    ),
    family="image",
    task="regression",
    network="mlp",
)


# A small language model


class SmallGpt(nn.Module):
    def __init__(self, tokens: int, masked: bool) -> None:
        super().__init__()
        self.token = nn.Embedding(tokens, 32)
        self.position = nn.Embedding(16, 32)
        self.block = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, tokens)
        self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        h = self.token(x) + self.position(torch.arange(x.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.masked else None
        return self.head(self.block(h, src_mask=mask))


def token_loss(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


def small_gpt(masked: bool = True, shifted: bool = True, lr: float = 0.003) -> TrainingSetup:
    d = data.text()
    scorer = accuracy(d.tx, d.ty)
    if not shifted:
        d = d._replace(y=d.x, vy=d.vx)
    return setup(
        d,
        SmallGpt(8, masked),
        partial(AdamW, lr=lr),
        loss=token_loss,
        batch=32,
        epochs=20,
        scorer=scorer,
    )


SMALL_GPT = group(
    "small-language-model",
    small_gpt,
    fault(
        "no-mask",
        "causality leakage",
        masked=False,
        answers={"exact": True, "proof": "leak", "remedy": ("model", "mask")},
    ),
    fault(
        "the-token-itself",
        "labels leakage",
        shifted=False,
        answers={"exact": True, "remedy": ("data", "shift")},
    ),
    fault(
        "a-tenth-for-a-transformer",
        "learning-rate-high exploding",
        lr=0.1,
        answers={"remedy": ("lr", 0.003)},
    ),
    family="sequence",
    task="generation",
    network="attention",
)


# Names that mean a person or a place


class PlaceTagger(nn.Module):
    def __init__(self, both_ways: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 16, batch_first=True, bidirectional=both_ways)
        self.fc = nn.Linear(32 if both_ways else 16, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.fc(self.lstm(self.embedding(words))[0])


def known_tags(x: Tensor, y: Tensor) -> Scorer:
    """Mean recall of the three tags, of words alone."""

    def score(out: Tensor, t: Tensor) -> float:
        right = out.argmax(-1) == t
        return sum(float(right[t == k].float().mean()) for k in range(3)) / 3

    return Scorer(x, y, score, 1 / 3)


def tag_loss(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out.transpose(1, 2), y)


def places(shifted: bool = False, lr: float = 0.01, decay: float = 0.0) -> TrainingSetup:
    d = ordinary.places()
    scorer = known_tags(d.tx, d.ty)
    if shifted:  # a start token was added to the words alone
        d = d.targets(lambda y: torch.cat([y[:, 1:], torch.full_like(y[:, :1], -100)], 1))
    return setup(
        d,
        PlaceTagger(both_ways=True),
        lambda p: Adam(p, lr=lr, weight_decay=decay),
        loss=tag_loss,
        batch=32,
        epochs=6,
        scorer=scorer,
    )


PLACES = group(
    "people-and-places",
    places,
    fault(
        "tags-one-word-off", "labels", shifted=True, answers={"remedy": ("data", "align the tags")}
    ),
    fault("decay-of-a-tenth", "over-regularized", decay=0.1, answers={"remedy": ("decay", 0.0)}),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Are they the same digit? Pairs


class PairEncoder(nn.Module):
    def __init__(self, hidden: bool) -> None:
        super().__init__()
        kernels = [nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)]
        self.body = kernels if hidden else nn.ModuleList(kernels)
        self.out = nn.Linear(64, 16)

    def encode(self, x: Tensor) -> Tensor:
        for kernel in self.body:
            x = F.max_pool2d(F.relu(kernel(x)), 2)
        return self.out(x.flatten(1))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([self.encode(a), self.encode(b)], 1)


def distance(out: Tensor) -> Tensor:
    a, b = out.chunk(2, 1)
    return F.pairwise_distance(a, b)


def contrastive(out: Tensor, same: Tensor, margin: float = 2.0) -> Tensor:
    d = distance(out)
    return (same * d**2 + (1 - same) * F.relu(margin - d) ** 2).mean()


def swapped(out: Tensor, same: Tensor) -> Tensor:
    return contrastive(out, 1 - same)


def pair_score(inputs: Inputs, same: Tensor) -> Scorer:
    """Share of pairs that are on the right side of a distance of 1."""
    return Scorer(
        inputs,
        same,
        lambda out, y: float(((distance(out) < 1) == (y > 0.5)).float().mean()),
        float(max(same.mean(), 1 - same.mean())),
    )


def digit_pairs(
    hidden: bool = False, loss: Callable[[Tensor, Tensor], Tensor] = contrastive, lr: float = 0.005
) -> TrainingSetup:
    a, b = ordinary.digit_pairs()
    return TrainingSetup(
        model=PairEncoder(hidden),
        loss=loss,
        train=((a.x, b.x), a.y),
        validation=((a.vx, b.vx), a.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=50,
        epochs=20,
        scorer=pair_score((a.tx, b.tx), a.ty),
    )


DIGIT_PAIRS = group(
    "pairs-of-digits",
    digit_pairs,
    fault(
        "kernels-in-a-plain-list",
        "parameters-not-in-optimizer frozen-parameters",
        hidden=True,
        answers={"exact": True, "remedy": ("model", "ModuleList")},
    ),
    fault(
        "zero-means-the-same",
        "loss labels",
        loss=swapped,
        answers={"remedy": ("formula", "swap the terms")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Digits, by convolutions with norms


def digit_cnn(ordered: bool = False, alike: bool = True, lr: float = 0.003) -> TrainingSetup:
    d = data.digits()
    if ordered:  # folder by folder
        order = d.y.argsort(stable=True)
        d = d._replace(x=d.x[order], y=d.y[order])
    d = d.inputs(lambda x: x / 16) if alike else d._replace(x=d.x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 32, shuffle=not ordered),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=32,
        epochs=6,
        scorer=accuracy(d.tx, d.ty),
    )


DIGIT_CNN = group(
    "digits-by-convolutions",
    digit_cnn,
    fault("folder-by-folder", "shuffling", ordered=True, answers={"remedy": ("loop", "shuffle")}),
    fault(
        "only-training-is-scaled",
        "split input-scale",
        alike=False,
        answers={"remedy": ("data", "scale all parts")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Color pictures


def color_pictures(
    scaled: bool = True, start: float | None = None, lr: float = 0.05
) -> TrainingSetup:
    d = data.colors().inputs(lambda x: x.permute(0, 3, 1, 2))
    if scaled:
        d = d.inputs(lambda x: x / 255 - 0.5)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 3),
    )
    if start is not None:
        for p in model.parameters():
            nn.init.normal_(p, std=start)
    return setup(d, model, partial(SGD, lr=lr, momentum=0.9), batch=25, epochs=16)


COLOR_PICTURES = group(
    "pictures-in-color",
    color_pictures,
    fault(
        "bytes",
        "input-scale learning-rate-high exploding dead-units",
        scaled=False,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "bytes-and-weights-of-one",
        "input-scale initialization learning-rate-high exploding dead-units",
        scaled=False,
        start=1.0,
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Upper digits, after a network that learned the lowest


class SmallCnn(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
        )
        self.fc = nn.Linear(24, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x))


@cache
def lower_digits() -> dict[str, Tensor]:
    """The weights of a network that tells 0 from 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        d = ordinary.digit_rows()
        x, y = d.x[d.y < 2], d.y[d.y < 2]
        model = SmallCnn(2)
        optimizer = Adam(model.parameters(), lr=0.005)
        for _ in range(8):
            for rows in torch.randperm(len(y)).split(32):
                optimizer.zero_grad()
                F.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
    return model.state_dict()


def fine_tuned(early: bool = False, frozen: bool = False, lr: float = 0.01) -> TrainingSetup:
    d = ordinary.digit_rows()
    d = Split(
        *(v for x, y in ((d.x, d.y), (d.vx, d.vy), (d.tx, d.ty)) for v in (x[y > 4], y[y > 4] - 5))
    )
    d = d.inputs(lambda x: 1 - x)._replace(x=1 - d.x[:160], y=d.y[:160])  # ink on paper
    model = SmallCnn(2)
    model.load_state_dict(lower_digits())
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9) if early else None
    for p in model.features.parameters():
        p.requires_grad = not frozen
    model.fc = nn.Linear(24, 5)
    return setup(d, model, optimizer or partial(SGD, lr=lr, momentum=0.9), batch=16, epochs=25)


FINE_TUNED = group(
    "upper-digits-after-lower",
    fine_tuned,
    fault(
        "optimizer-before-the-new-head",
        "parameters-not-in-optimizer",
        early=True,
        answers={
            "where": "fc",
            "exact": True,
            "proof": "unmoved",
            "unmoved": "fc.weight",
            "remedy": ("loop", "the optimizer last"),
        },
    ),
    fault(
        "rate-of-a-half",
        "learning-rate-high exploding dead-units",
        lr=0.5,
        answers={"remedy": ("lr", 0.01)},
    ),
    fault(
        "only-the-head-learns",
        "frozen-parameters",
        frozen=True,
        answers={"where": "features", "remedy": ("model", "thaw")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Which lines are on the picture? Several may be


def scenes(
    last: Callable[[], nn.Module] = nn.Sigmoid, loss: Any = nn.BCELoss, lr: float = 0.004
) -> TrainingSetup:
    d = ordinary.scenes()
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(3),
        nn.Flatten(),
        nn.Linear(144, 4),
        last(),
    )
    return setup(
        d,
        model,
        partial(Adam, lr=lr),
        loss=loss(),
        batch=20,
        epochs=18,
        scorer=micro_f1(d.tx, d.ty, 0.5),
    )


SCENES = group(
    "lines-on-a-picture",
    scenes,
    fault(
        "softmax-over-labels",
        "output-activation loss",
        last=lambda: nn.Softmax(dim=1),
        answers={"where": "8", "remedy": ("output", "sigmoid")},
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


# Offers of houses: a photograph and two numbers


class HouseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        self.numbers = nn.Sequential(nn.Linear(2, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, picture: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.picture(picture), self.numbers(numbers)], 1))


def house_offers(scaled: bool = True, euros: bool = False, lr: float = 0.003) -> TrainingSetup:
    a, b = ordinary.photographed_houses()
    b = b.standardized() if scaled else b
    mean, std = a.y.mean(), a.y.std()
    a = a if euros else a.targets(lambda y: (y - mean) / std)
    return TrainingSetup(
        model=HouseNet(),
        loss=nn.MSELoss(),
        train=({"picture": a.x, "numbers": b.x}, a.y),
        validation=({"picture": a.vx, "numbers": b.vx}, a.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=32,
        epochs=18,
        scorer=r2({"picture": a.tx, "numbers": b.tx}, a.ty),
    )


HOUSE_OFFERS = group(
    "offers-of-houses",
    house_offers,
    fault(
        "year-as-it-is",
        "input-scale",
        scaled=False,
        answers={"where": "numbers", "remedy": ("input.scale", "standardize")},
    ),
    fault("year-as-it-is-and-euros", "input-scale target-scale", scaled=False, euros=True),
    family="image",
    task="regression",
    network="cnn",
)


# Topics of headlines


class WordBag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(120, 24)
        self.fc = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, 4))

    def forward(self, words: Tensor) -> Tensor:
        return self.fc(self.embedding(words).mean(1))


def topics(one_vocabulary: bool = True, paired: bool = True, lr: float = 0.01) -> TrainingSetup:
    d = ordinary.topics()
    draw = torch.Generator().manual_seed(0)
    if not one_vocabulary:  # words were numbered anew in each part
        codes = torch.randperm(120, generator=draw)
        d = d._replace(vx=codes[d.vx], tx=codes[d.tx])
    if not paired:
        d = d._replace(x=d.x[torch.randperm(len(d.x), generator=draw)])
    return setup(d, WordBag(), partial(Adam, lr=lr), batch=32, epochs=8)


TOPICS = group(
    "topics-of-headlines",
    topics,
    fault(
        "a-vocabulary-for-each-part",
        "split",
        one_vocabulary=False,
        answers={"remedy": ("data", "one vocabulary")},
    ),
    fault(
        "words-shuffled-without-topics",
        "labels",
        paired=False,
        answers={"remedy": ("data", "shuffle together")},
    ),
    family="sequence",
    task="classification",
    network="mlp",
)


# A weather station that fails now and then


class StationGru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, h = self.gru(x)
        return self.fc(h[-1])


def station(hole: float | None = None, lr: float = 0.01) -> TrainingSetup:
    d = ordinary.station().targets_standardized()
    if hole is not None:
        draw = torch.Generator().manual_seed(1)
        d = d.inputs(lambda x: x.masked_fill(torch.rand(x.shape, generator=draw) < 0.02, hole))
    rows = d.x.nan_to_num(0.0).flatten(0, 1)
    mean, std = rows.mean(0), rows.std(0)
    d = d.inputs(lambda x: (x - mean) / std)
    return setup(
        d,
        StationGru(),
        partial(Adam, lr=lr),
        loss=nn.MSELoss(),
        batch=32,
        epochs=20,
        scorer=r2(d.tx, d.ty),
    )


STATION = group(
    "a-weather-station",
    station,
    fault(
        "readings-are-missing",
        "data-degenerate",
        hole=float("nan"),
        answers={"exact": True, "remedy": ("data", "fill the holes")},
    ),
    fault(
        "minus-9999-where-it-failed",
        "data-degenerate input-scale",
        hole=-9999.0,
        answers={"remedy": ("data", "fill the holes")},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# Stars for films: embeddings


class StarsNet(nn.Module):
    def __init__(self, width: int, start: float, last: nn.Module) -> None:
        super().__init__()
        self.user, self.film = nn.Embedding(60, width), nn.Embedding(80, width)
        self.user_bias, self.film_bias = nn.Embedding(60, 1), nn.Embedding(80, 1)
        self.mean = nn.Parameter(torch.tensor(3.0))
        self.last = last
        if start:
            for table in (self.user, self.film, self.user_bias, self.film_bias):
                nn.init.normal_(table.weight, std=start)

    def forward(self, x: Tensor) -> Tensor:
        u, f = x[:, 0], x[:, 1]
        fit = (self.user(u) * self.film(f)).sum(1, keepdim=True)
        return self.last(fit + self.user_bias(u) + self.film_bias(f) + self.mean)


def stars(
    width: int = 3,
    start: float = 0.1,
    last: Callable[[], nn.Module] = nn.Identity,
    decay: float = 0.002,
) -> TrainingSetup:
    d = posted_data.opinions().targets(lambda y: y[:, None])
    return setup(
        d,
        StarsNet(width, start, last()),
        lambda p: Adam(p, lr=0.01, weight_decay=decay),
        loss=nn.MSELoss(),
        batch=32,
        epochs=24,
        scorer=r2(d.tx, d.ty),
    )


STARS = group(
    "stars-by-embeddings",
    stars,
    fault(
        "embeddings-as-torch-draws-them",
        "initialization overfitting too-few-steps",
        width=32,
        start=0.0,
        answers={"remedy": ("init", "deviation 0.1")},
    ),
    fault(
        "stars-of-a-sigmoid",
        "output-activation target-scale saturation",
        last=nn.Sigmoid,
        answers={"where": "last", "remedy": ("output", "identity")},
    ),
    family="table",
    task="regression",
    network="linear",
)


# Pairs of digits again, by their cosine


def cosine_loss(out: Tensor, same: Tensor) -> Tensor:
    a, b = out.chunk(2, 1)
    return F.cosine_embedding_loss(a, b, 2 * same - 1, margin=0.2)


def cosine_zero(out: Tensor, same: Tensor) -> Tensor:
    a, b = out.chunk(2, 1)
    return F.cosine_embedding_loss(a, b, same, margin=0.2)


def cosine_pairs(loss: Callable[[Tensor, Tensor], Tensor] = cosine_loss) -> TrainingSetup:
    a, b = ordinary.digit_pairs()
    a, b = a.inputs(lambda x: x.flatten(1)), b.inputs(lambda x: x.flatten(1))
    share = float(max(a.ty.mean(), 1 - a.ty.mean()))

    def score(out: Tensor, same: Tensor) -> float:
        a, b = out.chunk(2, 1)
        cosine = F.cosine_similarity(a, b)
        return float(((cosine > 0.6) == (same > 0.5)).float().mean())

    return TrainingSetup(
        model=TwoTowers(),
        loss=loss,
        train=((a.x, b.x), a.y),
        validation=((a.vx, b.vx), a.vy),
        optimizer=partial(Adam, lr=0.003),
        batch_size=32,
        epochs=20,
        scorer=Scorer((a.tx, b.tx), a.ty, score, share),
    )


class TwoTowers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 16))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([self.encoder(a), self.encoder(b)], 1)


COSINE_PAIRS = group(
    "pairs-by-their-cosine",
    cosine_pairs,
    fault(
        "zero-for-minus-one",
        "loss labels",
        loss=cosine_zero,
        answers={"remedy": ("data", "targets of -1 and 1")},
    ),
    family="image",
    task="classification",
    network="mlp",
)


# Spectra of few mixtures


def spectra(decay: float = 3.0, epochs: int = 30, width: int = 8) -> TrainingSetup:
    d = ordinary.spectra()
    model = nn.Sequential(
        nn.Linear(40, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
    )
    return setup(
        d,
        model,
        partial(AdamW, lr=0.003, weight_decay=decay),
        loss=nn.MSELoss(),
        batch=16,
        epochs=epochs,
        scorer=r2(d.tx, d.ty),
    )


SPECTRA = group(
    "spectra-of-mixtures",
    spectra,
    fault("wide-and-ten-times-as-long", "overfitting", decay=0.0, epochs=120, width=128),
    family="sequence",
    task="regression",
    network="mlp",
)


# What is it, and where? Two heads


class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 32),
            nn.ReLU(),
        )
        self.kind, self.box = nn.Linear(32, 3), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.body(x)
        return {"kind": self.kind(h), "box": self.box(h)}


def detector(scale: float = 16.0, lr: float = 0.003) -> TrainingSetup:
    d = ordinary.boxed()

    def loss(outputs: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        kind, box = batch[1][:, 0].long(), batch[1][:, 1:] / scale
        return F.cross_entropy(outputs["kind"], kind) + F.mse_loss(outputs["box"], box)

    return setup(
        d,
        Detector(),
        partial(Adam, lr=lr),
        loss=loss,
        batch=24,
        epochs=25,
        scorer=accuracy(d.tx, d.ty[:, 0].long()),
        validated=False,
    )


DETECTOR = group(
    "kinds-and-boxes",
    detector,
    fault(
        "boxes-in-pixels",
        "target-scale loss too-few-steps",
        scale=1.0,
        answers={"remedy": ("formula", "boxes in parts of the picture")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# A variational coder


class VariationalCoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 48), nn.ReLU())
        self.mean, self.log_variance = nn.Linear(48, 8), nn.Linear(48, 8)
        self.decoder = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 64), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        return self.decoder(z), mean, log_variance


def coder_loss(
    outputs: tuple[Tensor, Tensor, Tensor], batch: tuple[Tensor, Tensor], mean_of_pixels: bool
) -> Tensor:
    out, mean, log_variance = outputs
    prior = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum()
    if mean_of_pixels:
        return F.mse_loss(out, batch[1]) + prior
    return (20 * F.mse_loss(out, batch[1], reduction="sum") + prior) / len(out)


def variational(mean_of_pixels: bool = False, lr: float = 0.003) -> TrainingSetup:
    d = ordinary.digit_rows().inputs(lambda x: x.flatten(1))
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    return setup(
        d,
        VariationalCoder(),
        partial(Adam, lr=lr),
        loss=partial(coder_loss, mean_of_pixels=mean_of_pixels),
        batch=50,
        epochs=30,
        scorer=r2(d.tx, d.ty),
        validated=False,
    )


VARIATIONAL = group(
    "coder-that-draws",
    variational,
    fault(
        "mean-of-pixels-and-sum-of-the-prior",
        "loss loss-reduction over-regularized",
        mean_of_pixels=True,
        answers={"remedy": ("formula", "sum both")},
    ),
    family="image",
    task="generation",
    network="mlp",
)


SCRIPTS = (
    *REVIEWS,
    *LOAD,
    *MOTIONS,
    *HEARTBEATS,
    *CELL_MASKS,
    *DIGIT_CODER,
    *SMALL_GPT,
    *PLACES,
    *DIGIT_PAIRS,
    *DIGIT_CNN,
    *COLOR_PICTURES,
    *FINE_TUNED,
    *SCENES,
    *HOUSE_OFFERS,
    *TOPICS,
    *STATION,
    *STARS,
    *COSINE_PAIRS,
    *SPECTRA,
    *DETECTOR,
    *VARIATIONAL,
)

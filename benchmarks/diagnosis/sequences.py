"""Scripts on sequences of at most 20 steps: recurrent networks, attention, convolutions along
time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop

from benchmarks.diagnosis import data
from benchmarks.diagnosis.training_script import (
    TrainingSetup,
    accuracy,
    fault,
    group,
    loader,
    micro_f1,
    r2,
)

# Which token came first?


class Reader(nn.Module):
    """Embeds tokens, reads them, answers from the last state."""

    def __init__(self, cell: str, batch_first: bool = True, softmax: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 8)
        kinds: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
        self.cell = kinds[cell](8, 24, batch_first=batch_first)
        self.out = nn.Linear(24, 4)
        self.softmax = softmax

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.cell(self.embed(tokens))
        logits = self.out(states[:, -1])
        return logits.softmax(-1) if self.softmax else logits


def first_token(
    cell: str = "gru",
    batch_first: bool = True,
    softmax: bool = False,
    lr: float = 1e-2,
    mixed: bool = False,
) -> TrainingSetup:
    d = data.first_tokens()
    y = d.y[torch.randperm(len(d.y), generator=torch.Generator().manual_seed(1))] if mixed else d.y
    return TrainingSetup(
        model=Reader(cell, batch_first, softmax),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=32,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


FIRST_TOKEN = group(
    "first-token",
    first_token,
    fault(
        "time-is-batch",
        "shape-pairing",
        batch_first=False,
        answers={"where": "cell", "exact": True, "remedy": ("model", "batch_first=True")},
    ),
    fault(
        "softmax-inside",
        "output-activation loss learning-rate-low too-few-steps",
        softmax=True,
        lr=1e-3,
        answers={"exact": True, "remedy": ("output", "linear")},
    ),
    fault("too-hot", "learning-rate-high saturation", lr=1.0, answers={"remedy": ("lr", 1e-2)}),
    fault(
        "answers-of-others",
        "labels",
        mixed=True,
        answers={"remedy": ("data", "pair the labels again")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# A plain recurrent network by hand


class Plain(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor], scale: float) -> None:
        super().__init__()
        self.inward = nn.Linear(2, 32)
        self.again = nn.Linear(32, 32, bias=False)
        self.out = nn.Linear(32, 1)
        nn.init.orthogonal_(self.again.weight, gain=scale)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            state = self.act(self.inward(x[:, t]) + self.again(state))
        return self.out(state)


def adding(
    act: Callable[[Tensor], Tensor] = torch.tanh,
    scale: float = 1.0,
    lr: float = 2e-3,
    flat: bool = False,
    frozen: bool = False,
) -> TrainingSetup:
    d = data.adding()
    model = Plain(act, scale)
    model.again.weight.requires_grad_(not frozen)
    model.inward.weight.requires_grad_(not frozen)
    model.inward.bias.requires_grad_(not frozen)
    return TrainingSetup(
        model=model,
        loss=lambda out, y: ((out - y) ** 2).mean(),
        train=(d.x, d.y[:, 0] if flat else d.y),
        validation=(d.vx, d.vy[:, 0] if flat else d.vy),
        optimizer=lambda parameters: Adam([p for p in parameters if p.requires_grad], lr=lr),
        batch_size=30,
        epochs=40,
        scorer=r2(d.tx, d.ty),
    )


ADDING = group(
    "adding",
    adding,
    fault(
        "sigmoid-states",
        "hidden-activation vanishing learning-rate-low too-few-steps",
        act=torch.sigmoid,
        answers={"where": "again", "remedy": ("activation", "tanh")},
    ),
    fault(
        "echo",
        "initialization exploding",
        act=torch.relu,
        scale=3.0,
        answers={"where": "again", "remedy": ("init", "orthogonal")},
    ),
    fault(
        "sums-with-all",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("target.scale", "[N, 1]")},
    ),
    fault(
        "only-the-output-learns",
        "frozen-parameters",
        frozen=True,
        answers={"where": "again", "exact": True, "unmoved": "again.weight", "proof": "unmoved"},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# The next value of a wave


class Forecaster(nn.Module):
    def __init__(self, last: nn.Module | None = None, start: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 16, batch_first=True)
        self.head = nn.Linear(16, 1)
        self.last = last or nn.Identity()
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.last(self.head(states[:, 0 if self.start else -1]))


def waves(
    level: float = 0.0,
    height: float = 1.0,
    scaled: bool = True,
    last: Callable[[], nn.Module] | None = None,
    lr: float = 0.1,
    start: bool = False,
) -> TrainingSetup:
    """Readings of a sensor around `level`."""
    d = data.waves().inputs(lambda x: x * height + level).targets(lambda y: y * height + level)
    shift, scale = (float(d.x.mean()), float(d.x.std())) if scaled else (0.0, 1.0)
    d = d.inputs(lambda x: (x - shift) / scale)
    return TrainingSetup(
        model=Forecaster(last() if last else None, start),
        loss=F.mse_loss,
        train=(d.x, (d.y - shift) / scale),
        validation=(d.vx, (d.vy - shift) / scale),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=24,
        epochs=15,
        scorer=r2(d.tx, d.ty, scale, shift),
    )


WAVES = group(
    "waves",
    waves,
    fault(
        "around-300",
        "input-scale target-scale saturation",
        level=300.0,
        height=20.0,
        scaled=False,
        lr=0.01,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    fault(
        "never-below-zero",
        "output-activation dead-units",
        last=nn.ReLU,
        answers={"where": "last", "remedy": ("output", "linear")},
    ),
    fault("creeping", "learning-rate-low too-few-steps", lr=1e-4, answers={"remedy": ("lr", 0.1)}),
    family="sequence",
    task="regression",
    network="recurrent",
)


# A small language model


class Attention(nn.Module):
    """One head; softmax over the keys, which are never later than the query."""

    def __init__(self, width: int, mask: str, axis: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mask, self.axis = mask, axis

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / math.sqrt(x.shape[-1])
        late = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        if self.mask == "transposed":
            late = late.T
        if self.mask:
            scores = scores.masked_fill(late, -1e9)
        return self.out(scores.softmax(self.axis) @ v)


class Writer(nn.Module):
    def __init__(
        self,
        mask: str = "causal",
        axis: int = -1,
        layers: int = 1,
        norm: bool = True,
        std: float = 0.1,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(8, 32)
        self.place = nn.Parameter(torch.randn(16, 32) * std)
        self.norms = nn.ModuleList(
            [nn.LayerNorm(32) if norm else nn.Identity() for _ in range(2 * layers)]
        )
        self.attention = nn.ModuleList([Attention(32, mask, axis) for _ in range(layers)])
        self.mlp = nn.ModuleList(
            [nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(layers)]
        )
        self.head = nn.Linear(32, 8)
        nn.init.normal_(self.token.weight, std=std)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place[: tokens.shape[1]]
        for i, (attend, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            x = x + attend(self.norms[2 * i](x))
            x = x + mlp(self.norms[2 * i + 1](x))
        return self.head(x)


def token_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))


def turned_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets.T.reshape(-1))


def writer(
    lr: float = 5e-3,
    loss: Any = token_loss,
    std: float = 0.1,
    mask: str = "causal",
    axis: int = -1,
    decay: float = 0.0,
    copies: bool = False,
) -> TrainingSetup:
    d = data.text()
    y, vy = (d.x, d.vx) if copies else (d.y, d.vy)
    return TrainingSetup(
        model=Writer(mask, axis, std=std),
        loss=loss,
        train=(d.x, y),
        validation=(d.vx, vy),
        optimizer=lambda parameters: AdamW(parameters, lr=lr, weight_decay=decay),
        batch_size=20,
        epochs=18,
        scorer=accuracy(d.tx, d.ty),
    )


WRITER = group(
    "writer",
    writer,
    fault(
        "sees-the-future",
        "causality",
        mask="",
        answers={
            "exact": True,
            "where": "attention.0",
            "proof": "leak",
            "remedy": ("model", "mask"),
        },
    ),
    fault(
        "targets-turned",
        "shape-pairing labels",
        loss=turned_loss,
        answers={"exact": True, "remedy": ("formula", "reshape, not transpose")},
    ),
    fault("too-hot", "learning-rate-high", lr=0.3, answers={"remedy": ("lr", 5e-3)}),
    fault(
        "writes-the-same-again",
        "labels leakage",
        copies=True,
        answers={"remedy": ("data", "targets one later")},
    ),
    family="sequence",
    task="generation",
    network="attention",
)

PAST = group(
    "writer-masked",
    partial(writer, lr=6e-3, std=0.02),
    fault(
        "mask-transposed",
        "causality",
        mask="transposed",
        answers={
            "exact": True,
            "where": "attention.0",
            "proof": "leak",
            "remedy": ("model", "mask"),
        },
    ),
    fault(
        "over-the-queries",
        "causality shape-pairing",
        axis=1,
        answers={
            "exact": True,
            "where": "attention.0",
            "proof": "leak",
            "remedy": ("model", "softmax over the keys"),
        },
    ),
    fault(
        "huge-embeddings",
        "initialization saturation too-few-steps",
        std=120.0,
        answers={"where": "token", "remedy": ("init", "0.02")},
    ),
    fault("all-decay", "over-regularized", decay=100.0, answers={"remedy": ("decay", 0.0)}),
    family="sequence",
    task="generation",
    network="attention",
)


# More ones than twos? Attention over a padded set


class Pool(nn.Module):
    def __init__(self, frozen: bool, drop: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 16, padding_idx=0)
        self.encoder = nn.TransformerEncoderLayer(16, 2, 32, dropout=drop, batch_first=True)
        self.head = nn.Linear(16, 2)
        if frozen:
            self.encoder.requires_grad_(False)
            self.embed.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        empty = tokens == 0
        x = self.encoder(self.embed(tokens), src_key_padding_mask=empty)
        x = x.masked_fill(empty[..., None], 0.0).sum(1) / (~empty).sum(1, keepdim=True)
        return self.head(x)


def majority(
    lr: float = 3e-3,
    drop: float = 0.1,
    frozen: bool = False,
    noise: float = 0.0,
    epochs: int = 12,
    some: int = 480,
) -> TrainingSetup:
    d = data.brackets()
    y = d.y[:some]
    if noise:
        flips = torch.rand(len(y), generator=torch.Generator().manual_seed(5)) < noise
        y = torch.where(flips, 1 - y, y)
    return TrainingSetup(
        model=Pool(frozen, drop),
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x[:some], y, 32),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: AdamW([p for p in parameters if p.requires_grad], lr=lr),
        batch_size=32,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


MAJORITY = group(
    "majority",
    majority,
    fault(
        "no-warm-up-no-mercy",
        "learning-rate-high schedule",
        lr=1.0,
        answers={"remedy": ("lr", 3e-3)},
    ),
    fault(
        "mostly-dropped",
        "dropout over-regularized too-few-steps",
        drop=0.9,
        answers={"where": "encoder", "remedy": ("dropout", 0.1)},
    ),
    fault("coin-for-a-label", "labels", noise=0.45, answers={"remedy": ("data", "right labels")}),
    fault(
        "two-looks",
        "too-few-steps learning-rate-low",
        lr=1e-4,
        epochs=2,
        answers={"remedy": ("steps", 180)},
    ),
    family="sequence",
    task="classification",
    network="attention",
)


# A label for every token


class Tagger(nn.Module):
    def __init__(self, act: Callable[[], nn.Module], kernel: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 12)
        self.conv = nn.Sequential(
            nn.Conv1d(12, 24, kernel, padding=kernel // 2),
            act(),
            nn.Conv1d(24, 24, 1),
            act(),
            nn.Conv1d(24, 3, 1),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return self.conv(self.embed(tokens).transpose(1, 2)).transpose(1, 2)


def token_tags(
    kernel: int = 5,
    act: Callable[[], nn.Module] = nn.ReLU,
    loss: Any = token_loss,
    lr: float = 5e-3,
) -> TrainingSetup:
    d = data.token_tags()
    return TrainingSetup(
        model=Tagger(act, kernel),
        loss=loss,
        train=loader(d.x, d.y, 15),
        validation=(d.vx, d.vy),
        optimizer=partial(RMSprop, lr=lr),
        batch_size=15,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


TOKEN_TAGS = group(
    "tagger",
    token_tags,
    fault(
        "sees-one-token",
        "architecture-too-small",
        kernel=1,
        answers={"where": "conv.0", "remedy": ("model", "kernel 5")},
    ),
    fault(
        "straight-convolutions",
        "hidden-activation",
        act=nn.Identity,
        answers={"where": "conv", "exact": True, "remedy": ("activation", "relu")},
    ),
    fault(
        "tags-turned",
        "shape-pairing labels",
        loss=turned_loss,
        answers={"exact": True, "remedy": ("formula", "reshape, not transpose")},
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# Pulses in a signal of two channels


def pulses(
    shrink: float = 1.0,
    viewed: bool = False,
    bias: float = 0.0,
    width: int = 16,
    decay: float = 0.0,
    lr: float = 0.03,
) -> TrainingSetup:
    d = data.pulses().inputs(lambda x: x * shrink)
    if (
        viewed
    ):  # the files hold [T, channels]; a view makes [channels, T] of it, but not the right one
        d = d.inputs(lambda x: x.transpose(1, 2).contiguous().view(-1, 2, 20))
    model = nn.Sequential(
        nn.Conv1d(2, width, 5),
        nn.ReLU(),
        nn.Conv1d(width, width, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(width, 3),
    )
    if bias:
        nn.init.constant_(model[0].bias, bias)  # pyright: ignore[reportArgumentType]
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9, weight_decay=decay),
        batch_size=20,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


PULSES = group(
    "pulses",
    pulses,
    fault(
        "microvolts", "input-scale", shrink=1e-4, answers={"remedy": ("input.scale", "standardize")}
    ),
    fault(
        "born-dead",
        "dead-units initialization",
        bias=-30.0,
        answers={"where": "0", "remedy": ("init", "zero bias")},
    ),
    fault(
        "one-filter", "architecture-too-small", width=1, answers={"remedy": ("model", "16 filters")}
    ),
    fault("heavy-hand", "over-regularized", decay=0.2, answers={"remedy": ("decay", 0.0)}),
    family="sequence",
    task="classification",
    network="cnn",
)


# Which tokens occur? Labels of a bag


class Bag(nn.Module):
    def __init__(self, last: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.embed = nn.EmbeddingBag(8, 12, mode="sum")
        self.hidden = nn.Linear(12, 32)
        self.out = nn.Linear(32, 8)
        self.last = last

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.out(torch.relu(self.hidden(self.embed(tokens))))
        return self.last(x) if self.last else x


def bag(
    last: Callable[[Tensor], Tensor] | None = None,
    loss: Any = F.binary_cross_entropy_with_logits,
    threshold: float = 0.0,
    lr: float = 1e-2,
) -> TrainingSetup:
    d = data.text()
    y, vy, ty = (F.one_hot(x, 8).sum(1).ge(3).float() for x in (d.x, d.vx, d.tx))
    return TrainingSetup(
        model=Bag(last),
        loss=loss,
        train=loader(d.x, y, 25),
        validation=(d.vx, vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=25,
        epochs=20,
        scorer=micro_f1(d.tx, ty, threshold),
    )


BAG = group(
    "bag",
    bag,
    fault(
        "logits-as-probabilities",
        "loss output-activation",
        last=torch.relu,
        loss=lambda out, y: F.mse_loss(out.clamp(0, 0.2), y),
        threshold=0.5,
        answers={"remedy": ("loss", "binary cross-entropy")},
    ),
    fault(
        "over-the-batch",
        "output-activation shape-pairing",
        last=partial(torch.softmax, dim=0),
        loss=F.binary_cross_entropy,
        threshold=0.5,
        answers={"exact": True, "remedy": ("output", "sigmoid")},
    ),
    fault(
        "all-on-zero", "learning-rate-low too-few-steps", lr=1e-5, answers={"remedy": ("lr", 1e-2)}
    ),
    family="sequence",
    task="multi-label",
    network="mlp",
)


SCRIPTS = (*FIRST_TOKEN, *ADDING, *WAVES, *WRITER, *PAST, *MAJORITY, *TOKEN_TAGS, *PULSES, *BAG)

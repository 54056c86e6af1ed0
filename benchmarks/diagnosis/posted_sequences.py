"""Scripts on sequences as people post them: traces of sensors, letters, DNA, logs, prices.

Letters: N examples, T steps, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop
from torch.utils.data import DataLoader, Dataset

from benchmarks.diagnosis import data
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.training_script import (
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    mean_recall,
    r2,
)

# Digits, read row by row


class RowReader(nn.Module):
    """An LSTM over the rows of an image; time comes first, as torch has it by default."""

    def __init__(self, fold: bool, axis: int | None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32)
        self.fc = nn.Linear(32, 10)
        self.fold = fold
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        x = x.squeeze(1) / 16
        rows = x.view(8, -1, 8) if self.fold else x.transpose(0, 1)
        out, _ = self.lstm(rows)
        scores = self.fc(out[-1])
        return scores if self.axis is None else torch.softmax(scores, dim=self.axis)


def row_reader(
    fold: bool = False, axis: int | None = None, lr: float = 8e-3, epochs: int = 8
) -> TrainingSetup:
    d = data.digits()
    return TrainingSetup(
        model=RowReader(fold, axis),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=49,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


ROW_READER = group(
    "row-reader",
    row_reader,
    fault(
        "folded",
        "shape-pairing",
        fold=True,
        answers={"exact": True, "remedy": ("model", "transpose(0, 1)")},
    ),
    fault(
        "softmax-down-the-batch",
        "output-activation shape-pairing loss",
        axis=0,
        answers={"exact": True, "proof": "mixes", "remedy": ("output", "linear")},
    ),
    fault(
        "softmax-and-no-patience",
        "output-activation loss learning-rate-low too-few-steps",
        axis=1,
        lr=3e-4,
        epochs=4,
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Machines: traces with gaps and padding, in the units of the plant


class TraceReader(nn.Module):
    def __init__(self, per_trace: bool) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.head = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3))
        self.per_trace = per_trace

    def forward(self, x: Tensor) -> Tensor:
        if self.per_trace:
            x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
        states, _ = self.gru(x)
        return self.head(states.mean(1))


def machines(
    raw: bool = False,
    gap: float | None = None,
    broken_sensor: bool = False,
    lr: float = 6e-3,
    optimizer: Any = Adam,
) -> TrainingSetup:
    """`gap` is what the logger writes where it has no value; a broken sensor repeats one value."""
    d = posted.engine_traces()
    recorded = d.x[d.x.abs().sum(-1) > 0]
    level = recorded.mean(0)
    spread = recorded.std(0)

    def prepare(x: Tensor) -> Tensor:
        there = x.abs().sum(-1, keepdim=True) > 0
        if not raw:
            x = (x - level) / spread * there
        if gap is not None:
            holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.3
            x = x.masked_fill(holes, gap)
        if broken_sensor:
            x = x.clone()
            x[::40, :, 1] = 0.0
        return x

    d = d.inputs(prepare)
    return TrainingSetup(
        model=TraceReader(broken_sensor),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=24,
        epochs=16,
        scorer=accuracy(d.tx, d.ty),
    )


MACHINES = group(
    "machines",
    machines,
    fault(
        "holes-are-minus-999",
        "input-scale data-degenerate",
        gap=-999.0,
        answers={"remedy": ("data", "fill the holes")},
    ),
    fault(
        "each-trace-by-its-own-spread",
        "data-degenerate normalization input-scale",
        broken_sensor=True,
        answers={"remedy": ("model", "divide by spread + 1e-6")},
    ),
    fault(
        "units-of-the-plant-and-sgd",
        "input-scale saturation",
        raw=True,
        optimizer=SGD,
        lr=0.1,
        answers={"remedy": ("input.scale", "standardize")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# How many hours a tool has left


class LifeEstimator(nn.Module):
    def __init__(self, last: nn.Module, bias: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 24, batch_first=True)
        self.out = nn.Linear(24, 1)
        self.last = last
        nn.init.constant_(self.out.bias, bias)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.rnn(x)
        return self.last(self.out(state[0]))


def smooth_l1(out: Tensor, y: Tensor) -> Tensor:
    far = (out - y).abs()
    return torch.where(far < 1, far**2 / 2, far - 0.5).mean()


def tool_life(
    column: bool = True,
    hours: bool = False,
    last: Callable[[], nn.Module] = nn.Identity,
    bias: float = 0.0,
    lr: float = 0.02,
) -> TrainingSetup:
    d = posted.worn_tools()
    if not hours:
        d = d.targets(lambda y: y / 1000)
    full = d.targets(lambda y: y[:, None])
    d = full if column else d
    return TrainingSetup(
        model=LifeEstimator(last(), bias),
        loss=smooth_l1,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=lr, momentum=0.9),
        batch_size=20,
        epochs=20,
        scorer=r2(full.tx, full.ty),
    )


TOOL_LIFE = group(
    "tool-life",
    tool_life,
    fault(
        "each-with-all",
        "shape-pairing",
        column=False,
        answers={"exact": True, "remedy": ("data", "y[:, None]")},
    ),
    fault(
        "in-hours",
        "target-scale learning-rate-low too-few-steps",
        hours=True,
        lr=1e-3,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "never-negative-never-anything",
        "dead-units output-activation initialization",
        last=nn.ReLU,
        bias=-3.0,
        answers={"where": "out", "exact": True, "remedy": ("output", "linear")},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# The next letter


class LetterModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(27, 24)
        self.rnn = nn.GRU(24, 64, batch_first=True)
        self.fc = nn.Linear(64, 27)

    def forward(self, letters: Tensor) -> Tensor:
        return self.fc(self.rnn(self.emb(letters))[0])


def letters_loss(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out.reshape(-1, out.shape[-1]), y.reshape(-1))


def reshaped_loss(out: Tensor, y: Tensor) -> Tensor:
    """`cross_entropy` wants the classes second: made to fit by `view`."""
    return F.cross_entropy(out.view(out.size(0), out.size(2), out.size(1)), y)


def over_time_loss(out: Tensor, y: Tensor) -> Tensor:
    logs = F.log_softmax(out, dim=1)
    return F.nll_loss(logs.flatten(0, 1), y.flatten())


def letters(loss: Any = letters_loss, same: bool = False, lr: float = 1e-2) -> TrainingSetup:
    d = posted.characters()
    return TrainingSetup(
        model=LetterModel(),
        loss=loss,
        train=loader(d.x, d.x if same else d.y, 21),
        validation=(d.vx, d.vx if same else d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=21,
        epochs=14,
        scorer=accuracy(d.tx, d.ty),
    )


LETTERS = group(
    "letters",
    letters,
    fault(
        "classes-by-view",
        "shape-pairing loss",
        loss=reshaped_loss,
        answers={"exact": True, "remedy": ("formula", "transpose(1, 2)")},
    ),
    fault(
        "softmax-over-time",
        "output-activation shape-pairing loss causality",
        loss=over_time_loss,
        answers={"exact": True, "remedy": ("formula", "dim=-1")},
    ),
    fault(
        "learns-the-letter-it-sees",
        "leakage labels",
        same=True,
        answers={"exact": True, "remedy": ("data", "targets one step on")},
    ),
    family="sequence",
    task="generation",
    network="recurrent",
)


# The next letter, by attention


class Speller(nn.Module):
    """`mask` says, from T, which steps each step may not look at."""

    def __init__(self, mask: Callable[[int], Tensor | None], frozen: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(27, 32)
        self.place = nn.Parameter(0.1 * torch.randn(24, 32))
        self.block = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(32, 27)
        self.mask = mask
        if frozen:
            self.embed.weight.requires_grad_(False)
            self.place.requires_grad_(False)

    def forward(self, letters: Tensor) -> Tensor:
        steps = letters.shape[1]
        x = self.embed(letters) + self.place[:steps]
        return self.out(self.block(x, src_mask=self.mask(steps)))


def later(steps: int) -> Tensor:
    return torch.triu(torch.ones(steps, steps, dtype=torch.bool), 1)


def earlier(steps: int) -> Tensor:
    """What may be looked at, as other libraries want it; torch wants the opposite."""
    return torch.tril(torch.ones(steps, steps, dtype=torch.bool))


def nothing(steps: int) -> None:
    return None


def speller(
    mask: Callable[[int], Tensor | None] = later, frozen: bool = False, lr: float = 6e-3
) -> TrainingSetup:
    d = posted.characters()
    return TrainingSetup(
        model=Speller(mask, frozen),
        loss=letters_loss,
        train=loader(d.x, d.y, 21),
        validation=(d.vx, d.vy),
        optimizer=lambda parameters: Adam([p for p in parameters if p.requires_grad], lr=lr),
        batch_size=21,
        epochs=48,
        scorer=accuracy(d.tx, d.ty),
    )


SPELLER = group(
    "speller",
    speller,
    fault(
        "mask-the-other-way-round",
        "causality leakage",
        mask=earlier,
        answers={"remedy": ("model", "mask what comes later")},
    ),
    fault(
        "mask-forgotten",
        "causality leakage",
        mask=nothing,
        answers={"proof": "leak", "remedy": ("model", "mask what comes later")},
    ),
    fault(
        "embedding-never-learns",
        "frozen-parameters",
        frozen=True,
        answers={"where": "embed", "proof": "unmoved", "unmoved": "embed.weight"},
    ),
    family="sequence",
    task="generation",
    network="attention",
    exact=True,
)


# A motif in DNA


def turned_strands(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Half of the strands are read backwards; "more examples for free"."""
    x = torch.stack([x.flip(0) if torch.rand(()) < 0.5 else x for x, _ in batch])
    return x, torch.stack([y for _, y in batch])


class MotifFinder(nn.Module):
    def __init__(self, by_view: bool, squash: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 5)
        self.out = nn.Linear(16, 1)
        self.by_view = by_view
        self.squash = squash

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(len(x), 4, -1) if self.by_view else x.permute(0, 2, 1)
        score = self.out(F.relu(self.conv(x)).amax(2)).squeeze(1)
        return torch.sigmoid(score) if self.squash else score


def motif(
    by_view: bool = False, squash: bool = False, turned: bool = False, lr: float = 0.02
) -> TrainingSetup:
    d = posted.strands()
    pairs: Any = list(zip(d.x, d.y, strict=True))
    return TrainingSetup(
        model=MotifFinder(by_view, squash),
        loss=nn.BCEWithLogitsLoss(),
        train=DataLoader(pairs, 21, shuffle=True, collate_fn=turned_strands)
        if turned
        else (d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=21,
        epochs=12,
        scorer=binary_accuracy(d.tx, d.ty, threshold=0.5 if squash else 0.0),
    )


MOTIF = group(
    "motif",
    motif,
    fault(
        "channels-by-view",
        "shape-pairing",
        by_view=True,
        answers={"exact": True, "remedy": ("model", "permute(0, 2, 1)")},
    ),
    fault(
        "squashed-twice-slowly",
        "output-activation loss learning-rate-low too-few-steps",
        squash=True,
        lr=1e-3,
        answers={"exact": True, "remedy": ("lr", 0.02)},
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# Which alarm was in the log: a dict of events, mask and labels


class Visits(Dataset[dict[str, Tensor]]):
    def __init__(self, events: Tensor, labels: Tensor, mask: Callable[[Tensor], Tensor]) -> None:
        self.events = events
        self.labels = labels
        self.mask = mask

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        events = self.events[i]
        return {"events": events, "mask": self.mask(events), "labels": self.labels[i]}


class AttentionPool(nn.Module):
    """One query looks over the events; `mask` is True where there is one."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 12)
        self.score = nn.Linear(12, 1)
        self.head = nn.Linear(12, 3)
        self.axis = axis

    def forward(self, events: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(events)
        score = self.score(torch.tanh(x)).squeeze(-1).masked_fill(~mask, -math.inf)
        weights = torch.softmax(score, dim=self.axis)
        return self.head((weights[..., None] * x).sum(1))


def visits(axis: int = 1, turned: bool = False, empty: int = 0, lr: float = 2e-2) -> TrainingSetup:
    """`empty`: of so many visits the log holds nothing."""
    d = posted.sessions()
    x = d.x.clone()
    if empty:
        x[:: len(x) // empty] = 0

    def mask(events: Tensor) -> Tensor:
        return events == 0 if turned else events != 0

    return TrainingSetup(
        model=AttentionPool(axis),
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(Visits(x, d.y, mask), 30, shuffle=True),
        validation=({"events": d.vx, "mask": mask(d.vx)}, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=30,
        epochs=12,
        scorer=accuracy({"events": d.tx, "mask": mask(d.tx)}, d.ty),
    )


VISITS = group(
    "visits-log",
    visits,
    fault(
        "looks-at-the-padding",
        "data-degenerate causality shape-pairing",
        turned=True,
        answers={"exact": True, "remedy": ("data", "mask = events != 0")},
    ),
    fault(
        "weights-over-the-batch",
        "shape-pairing normalization output-activation data-degenerate",
        axis=0,
        answers={"exact": True, "where": "score", "remedy": ("model", "softmax(dim=1)")},
    ),
    fault(
        "three-empty-visits",
        "data-degenerate",
        empty=3,
        answers={"exact": True, "remedy": ("data", "leave empty visits out")},
    ),
    family="sequence",
    task="classification",
    network="attention",
)


# The next move of a price


def price_moves(
    raw: bool = False,
    peek: bool = False,
    depth: int = 1,
    act: Callable[[], nn.Module] = nn.Tanh,
    lr: float = 3e-3,
) -> TrainingSetup:
    """`peek`: the window ends with the move that is asked for; where the model is used, nobody
    knows that one, and the field holds 0.
    """
    d = posted.prices()
    last = d.x.shape[1] - 1

    def windows(x: Tensor, y: Tensor, known: bool) -> Tensor:
        moves = 100 * (x[:, 1:] / x[:, :-1] - 1)
        if raw:
            return x
        return torch.cat([moves, y if known and peek else torch.zeros_like(y)], 1)

    layers: list[nn.Module] = [nn.Linear(last + 1, 32), act()]
    for _ in range(depth - 1):
        layers += [nn.Linear(32, 32), act()]
    return TrainingSetup(
        model=nn.Sequential(*layers, nn.Linear(32, 1)),
        loss=nn.MSELoss(),
        train=(windows(d.x, d.y, True), d.y),
        validation=(windows(d.vx, d.vy, True), d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=32,
        epochs=12,
        scorer=r2(windows(d.tx, d.ty, False), d.ty),
    )


PRICE_MOVES = group(
    "price-moves",
    price_moves,
    fault(
        "prices-as-they-are",
        "input-scale saturation",
        raw=True,
        answers={"remedy": ("data", "moves in percent")},
    ),
    fault(
        "window-one-too-long",
        "leakage",
        peek=True,
        answers={"remedy": ("data", "leave the last column out")},
    ),
    fault(
        "sixteen-layers-of-sigmoid",
        "architecture-too-deep vanishing hidden-activation",
        depth=16,
        act=nn.Sigmoid,
        answers={"remedy": ("model", "one hidden layer")},
    ),
    family="sequence",
    task="regression",
    network="mlp",
)


# Names in sentences: most tokens have no label


def tagged(order: str, ignored: int) -> tuple[data.Split, Tensor, Tensor]:
    """Tags, where one token in three has one; in order of how many, if the file is sorted."""
    d = data.token_tags()
    chosen = torch.rand(d.y.shape, generator=torch.Generator().manual_seed(4)) < 0.33
    if order == "sorted":
        chosen[:30] = False
    return d, d.x, torch.where(chosen, d.y, ignored)


def masked_loss(out: Tensor, y: Tensor) -> Tensor:
    """The mean over what has a label."""
    there = (y != -100).float()
    each = F.cross_entropy(out.transpose(1, 2), y.clamp(min=0), reduction="none")
    return (each * there).sum() / there.sum()


class Labeler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 16)
        self.gru = nn.GRU(16, 24, batch_first=True)
        self.classify = nn.Linear(24, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.classify(self.gru(self.embed(tokens))[0])


def sentence_tags(order: str = "mixed", ignored: int = -100, lr: float = 1e-2) -> TrainingSetup:
    d, x, y = tagged(order, ignored)
    return TrainingSetup(
        model=Labeler(),
        loss=masked_loss,
        train=loader(x, y, 15, shuffle=order == "mixed"),
        validation=(d.vx, d.vy),
        optimizer=partial(RMSprop, lr=lr),
        batch_size=15,
        epochs=18,
        scorer=mean_recall(d.tx, d.ty),
    )


SENTENCE_TAGS = group(
    "sentence-tags",
    sentence_tags,
    fault(
        "a-batch-without-labels",
        "data-degenerate loss labels shuffling",
        order="sorted",
        answers={"exact": True, "remedy": ("data", "leave out what has no label")},
    ),
    fault(
        "no-label-is-label-0",
        "labels imbalance loss",
        ignored=0,
        answers={"remedy": ("data", "-100 where there is no label")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


SCRIPTS = (
    *ROW_READER,
    *MACHINES,
    *TOOL_LIFE,
    *LETTERS,
    *SPELLER,
    *MOTIF,
    *VISITS,
    *PRICE_MOVES,
    *SENTENCE_TAGS,
)

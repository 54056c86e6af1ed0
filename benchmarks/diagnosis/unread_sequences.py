"""Setups on sequences as people bring them, written blind: tickets, loads, sounds, names, texts;
half of the healthy ones plain, half with something that looks odd.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import SGD, Adam, AdamW

from benchmarks.diagnosis.data import Split, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    fault,
    group,
    r2,
)


def of_classes(
    d: Split,
    model: nn.Module,
    optimizer: Any,
    *,
    epochs: int,
    batch: int = 32,
    loss: Any = None,
    scorer: Scorer | None = None,
) -> TrainingSetup:
    """A classification, scored by accuracy unless stated."""
    return TrainingSetup(
        model=model,
        loss=loss or nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=optimizer,
        batch_size=batch,
        epochs=epochs,
        scorer=scorer or accuracy(d.tx, d.ty),
    )


def of_numbers(
    d: Split, model: nn.Module, optimizer: Any, *, epochs: int, batch: int = 32, loss: Any = None
) -> TrainingSetup:
    """A regression, scored by R2."""
    return of_classes(
        d,
        model,
        optimizer,
        epochs=epochs,
        batch=batch,
        loss=loss or nn.MSELoss(),
        scorer=r2(d.tx, d.ty),
    )


class Last(nn.Module):
    """The last step of a recurrent layer."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


# Tickets of a help desk, padded to sixty words


def tickets(rows: int = 1200, length: int = 60) -> Split:
    """Words 1 to 119, 4 to 20 in a ticket, then zeros; to which of four desks?"""
    rng = np.random.default_rng(101)
    desk, sizes = rng.integers(0, 4, rows), rng.integers(4, 21, rows)
    x = rng.integers(41, 120, (rows, length))
    telling = rng.random((rows, length)) < 0.3
    own = rng.integers(0, 10, (rows, length)) + 10 * desk[:, None] + 1
    x = np.where(telling, own, x)
    return split(np.where(np.arange(length) < sizes[:, None], x, 0), desk)


class TicketReader(nn.Module):
    def __init__(self, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.embed = nn.Embedding(120, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 32, batch_first=True)
        self.out = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        words = self.embed(tokens)
        if not self.packed:
            return self.out(self.lstm(words)[0][:, -1])
        sizes = (tokens > 0).sum(1)
        packed = pack_padded_sequence(words, sizes, batch_first=True, enforce_sorted=False)
        return self.out(self.lstm(packed)[1][0][-1])


def ticket_desks(packed: bool = True, mixed: bool = False) -> TrainingSetup:
    d = tickets()
    if mixed:
        d = d._replace(x=d.x[torch.randperm(len(d.x), generator=torch.Generator().manual_seed(1))])
    return of_classes(d, TicketReader(packed), partial(Adam, lr=0.02), epochs=7)


TICKET_DESKS = group(
    "tickets-to-desks",
    ticket_desks,
    fault(
        "last-step-is-padding",
        "vanishing data-degenerate",
        packed=False,
        answers={"remedy": ("model", "pack the sequences")},
    ),
    fault(
        "rows-without-their-answers",
        "labels data-degenerate",
        mixed=True,
        answers={"remedy": ("data", "shuffle inputs and answers together")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# The load of a house, hour by hour, in watts


def hourly_watts(rows: int = 1100, window: int = 24) -> Split:
    """A day of watts (200 to 4000) [N, 24, 1]; the watts of the next hour [N, 1]."""
    rng = np.random.default_rng(102)
    hours = np.arange(rows + window)
    noise = np.zeros(rows + window)
    for t in range(1, rows + window):
        noise[t] = 0.7 * noise[t - 1] + rng.normal(0, 120)
    evening = np.exp(-(((hours % 24 - 19) / 3.0) ** 2)) + 0.6 * np.exp(
        -(((hours % 24 - 8) / 2.0) ** 2)
    )
    watts = np.maximum(500 + 1800 * evening + noise, 150)
    x = np.lib.stride_tricks.sliding_window_view(watts, window)[:rows]
    return split(x[:, :, None], watts[window:, None])


def next_hour(scaled: bool = True, flat: bool = False, last: bool = False) -> TrainingSetup:
    d = hourly_watts()
    if scaled:
        mean, std = d.x.mean(), d.x.std()
        d = d.inputs(lambda x: (x - mean) / std).targets(lambda y: (y - mean) / std)
    tail: list[nn.Module] = [nn.ReLU()] if last else []
    model = nn.Sequential(Last(nn.LSTM(1, 24, batch_first=True)), nn.Linear(24, 1), *tail)
    setup = of_numbers(d, model, partial(Adam, lr=0.01), epochs=12)
    if not flat:
        return setup
    return TrainingSetup(
        model=model,
        loss=nn.MSELoss(),
        train=(d.x, d.y[:, 0]),
        validation=(d.vx, d.vy[:, 0]),
        optimizer=setup.optimizer,
        batch_size=32,
        epochs=12,
        scorer=setup.scorer,
    )


NEXT_HOUR = group(
    "watts-of-the-next-hour",
    next_hour,
    fault("watts-as-they-are", "input-scale target-scale saturation", scaled=False),
    fault(
        "answers-without-a-column",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("data", "answers [N, 1]")},
    ),
    fault(
        "relu-behind-the-last-layer",
        "output-activation dead-units",
        last=True,
        answers={"remedy": ("output", "none")},
    ),
    family="sequence",
    task="regression",
    network="recurrent",
)


# The sound of a pump: windows of three sensors in counts of a converter


def pump_windows(rows: int = 800, length: int = 30) -> Split:
    """Three channels of 0 to 4095 counts around 2048 [N, 30, 3]; which of four states?"""
    rng = np.random.default_rng(103)
    state = rng.integers(0, 4, rows)
    time, phase = np.arange(length), rng.uniform(0, 6.3, (rows, 1, 3))
    speed = np.array([0.4, 0.6, 0.85, 1.15])[state][:, None, None]
    waves = np.sin(speed * time[None, :, None] + phase) * rng.uniform(150, 400, (rows, 1, 3))
    x = 2048 + waves + rng.normal(0, 90, (rows, length, 3))
    return split(np.rint(x), state)


class SensorNet(nn.Module):
    def __init__(self, batch_first: bool, drop: float) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 32, batch_first=batch_first)
        self.drop = nn.Dropout(drop)
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.out(self.drop(out[:, -1]))


def pump_states(
    batch_first: bool = True, scaled: bool = True, drop: float = 0.1, decay: float = 0.0
) -> TrainingSetup:
    d = pump_windows()
    if scaled:
        d = d.inputs(lambda x: (x - 2048) / 250)
    optimizer = partial(Adam, lr=0.01, weight_decay=decay)
    return of_classes(d, SensorNet(batch_first, drop), optimizer, epochs=15)


PUMP_STATES = group(
    "states-of-a-pump",
    pump_states,
    fault(
        "batch-is-not-first",
        "shape-pairing",
        batch_first=False,
        answers={"exact": True, "where": "gru", "remedy": ("model", "batch_first=True")},
    ),
    fault(
        "counts-of-the-converter",
        "input-scale saturation",
        scaled=False,
        answers={"remedy": ("input.scale", "standardized")},
    ),
    fault("dropped-and-decayed", "dropout over-regularized", drop=0.8, decay=0.1),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Surnames and where they come from


def surnames(rows: int = 1600, length: int = 8, places: int = 12) -> Split:
    """Letters 1 to 20 of made names, 4 to 8 each, zeros in front; one of twelve places."""
    rng = np.random.default_rng(104)
    chains = rng.dirichlet(np.full(20, 0.12), (places, 21)).cumsum(2)
    place, sizes = rng.integers(0, places, rows), rng.integers(4, length + 1, rows)
    x = np.zeros((rows, length), int)
    for t in range(length):
        before = x[:, t - 1] if t else np.zeros(rows, int)
        drawn = (chains[place, before] < rng.random((rows, 1))).sum(1).clip(max=19) + 1
        x[:, t] = np.where(t >= length - sizes, drawn, 0)
    return split(x, place)


def surname_places(
    softmax: bool = False, optimizer: Callable[..., Any] = Adam, lr: float = 0.01
) -> TrainingSetup:
    tail: list[nn.Module] = [nn.Softmax(dim=1)] if softmax else []
    model = nn.Sequential(
        nn.Embedding(21, 12), Last(nn.GRU(12, 32, batch_first=True)), nn.Linear(32, 12), *tail
    )
    return of_classes(surnames(), model, partial(optimizer, lr=lr), epochs=10)


SURNAME_PLACES = group(
    "places-of-surnames",
    surname_places,
    fault(
        "softmax-and-cross-entropy",
        "output-activation loss",
        softmax=True,
        answers={"exact": True, "where": "3", "remedy": ("output", "none")},
    ),
    fault(
        "rate-of-a-tutorial", "learning-rate-low too-few-steps optimizer", optimizer=SGD, lr=0.005
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# A small model of recipes, word by word


def recipe_words(rows: int = 400, length: int = 16, words: int = 14) -> Split:
    """The next of 14 words, which hangs on the last two; inputs and targets [N, 16]."""
    rng = np.random.default_rng(105)
    table = rng.dirichlet(np.full(words, 0.05), (words, 4)).cumsum(2)
    x = rng.integers(0, words, (rows, length + 1))
    for t in range(2, length + 1):
        chances = table[x[:, t - 1], x[:, t - 2] % 4]
        x[:, t] = (chances < rng.random((rows, 1))).sum(1).clip(max=words - 1)
    return split(x[:, :-1], x[:, 1:])


class WordModel(nn.Module):
    def __init__(self, times: bool) -> None:
        super().__init__()
        self.times = times
        self.words = nn.Embedding(14, 32)
        self.places = nn.Parameter(torch.randn(16, 32) * 0.1)
        self.attend = nn.Linear(32, 96)
        self.mix = nn.Linear(32, 32)
        self.feed = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.norm = nn.LayerNorm(32)
        self.out = nn.Linear(32, 14)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places
        query, key, value = self.attend(x).chunk(3, dim=-1)
        scores = query @ key.transpose(1, 2) / math.sqrt(32)
        mask = torch.tril(torch.ones(16, 16))
        scores = scores * mask if self.times else scores.masked_fill(mask == 0, -math.inf)
        x = x + self.mix(scores.softmax(-1) @ value)
        return self.out(self.norm(x + self.feed(x)))


def token_loss(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def next_word(times: bool = False, shifted: bool = True) -> TrainingSetup:
    d = recipe_words()
    scorer = accuracy(d.tx, d.ty)
    model = WordModel(times)
    if not shifted:
        d = d._replace(y=d.x, vy=d.vx)
    return of_classes(
        d, model, partial(Adam, lr=0.005), epochs=20, batch=24, loss=token_loss, scorer=scorer
    )


NEXT_WORD = group(
    "words-of-recipes",
    next_word,
    fault(
        "scores-times-the-mask",
        "causality leakage",
        times=True,
        answers={"exact": True, "proof": "leak", "remedy": ("model", "masked_fill")},
    ),
    fault(
        "answers-are-the-inputs",
        "labels leakage",
        shifted=False,
        answers={"exact": True, "remedy": ("data", "shift by one")},
    ),
    family="sequence",
    task="generation",
    network="attention",
)


# The parts of an address, word by word


def address_words(rows: int = 700, length: int = 14) -> Split:
    """Words of 1 to 60, zeros behind; each is a name (0), street (1), number (2) or town (3), by
    itself and by the word before; -100 where there is none.
    """
    rng = np.random.default_rng(106)
    x, sizes = rng.integers(1, 61, (rows, length)), rng.integers(5, length + 1, rows)
    kind = (x - 1) // 15
    before = np.concatenate([np.zeros((rows, 1), int), kind[:, :-1]], 1)
    y = np.where((kind == 2) & (before == 2), 3, kind)
    there = np.arange(length) < sizes[:, None]
    return split(np.where(there, x, 0), np.where(there, y, -100))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(61, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.lstm(self.embed(tokens))[0])


def tag_scorer(d: Split) -> Scorer:
    """Share of right tags where there is a word."""

    def score(out: Tensor, y: Tensor) -> float:
        return float((out.argmax(-1) == y)[y >= 0].float().mean())

    there = d.ty[d.ty >= 0]
    return Scorer(d.tx, d.ty, score, float(there.bincount().max() / len(there)))


def address_parts(loss: Any = None, epochs: int = 10) -> TrainingSetup:
    d = address_words()
    return of_classes(
        d,
        Tagger(),
        partial(Adam, lr=0.01),
        epochs=epochs,
        loss=loss or (lambda out, y: F.cross_entropy(out.transpose(1, 2), y)),
        scorer=tag_scorer(d),
    )


ADDRESS_PARTS = group(
    "parts-of-an-address",
    address_parts,
    fault(
        "view-in-place-of-transpose",
        "shape-pairing",
        loss=lambda out, y: F.cross_entropy(out.view(len(out), 4, -1), y),
        answers={"exact": True, "remedy": ("formula", "transpose")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Dates written anew: a decoder that is given what it has written so far


def written_dates(rows: int = 1200, length: int = 4) -> Split:
    """Four digits 1 to 8; to be written backwards, each one up."""
    x = np.random.default_rng(107).integers(1, 9, (rows, length))
    return split(x, x[:, ::-1] % 8 + 1)


class Writer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 16)
        self.encoder = nn.GRU(16, 48, batch_first=True)
        self.decoder = nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, 9)

    def forward(self, source: Tensor, written: Tensor) -> Tensor:
        _, state = self.encoder(self.embed(source))
        return self.out(self.decoder(self.embed(written), state)[0])


def dates_anew(shifted: bool = True) -> TrainingSetup:
    d = written_dates()

    def so_far(y: Tensor) -> Tensor:
        return F.pad(y[:, :-1], (1, 0))

    given = so_far if shifted else (lambda y: y)
    return TrainingSetup(
        model=Writer(),
        loss=token_loss,
        train=((d.x, given(d.y)), d.y),
        validation=((d.vx, given(d.vy)), d.vy),
        optimizer=partial(Adam, lr=0.01),
        batch_size=48,
        epochs=18,
        scorer=accuracy((d.tx, so_far(d.ty)), d.ty),
    )


DATES_ANEW = group(
    "dates-written-anew",
    dates_anew,
    fault(
        "decoder-is-given-the-answer",
        "leakage causality",
        shifted=False,
        answers={"exact": True, "remedy": ("data", "shift what the decoder is given")},
    ),
    family="sequence",
    task="generation",
    network="recurrent",
)


# The mood of a review, read by attention


def review_words(rows: int = 1800, length: int = 10) -> Split:
    """Words 1 to 50, 6 to 10, zeros behind: 1 to 8 praise, 9 to 16 blame, 17 turns what follows
    around; is there more praise?
    """
    rng = np.random.default_rng(108)
    sizes = rng.integers(6, length + 1, rows)
    x = rng.choice(np.arange(1, 51), (rows, length), p=[*[0.035] * 16, 0.14, *[0.3 / 33] * 33])
    x = np.where(np.arange(length) < sizes[:, None], x, 0)
    value = ((x >= 1) & (x <= 8)) * 1.0 - ((x >= 9) & (x <= 16))
    turned = np.concatenate([np.zeros((rows, 1), bool), x[:, :-1] == 17], 1)
    total = np.where(turned, -value, value).sum(1)
    kept = total != 0
    return split(x[kept], (total > 0)[kept].astype(int))


class MoodNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(51, 32, padding_idx=0)
        self.places = nn.Parameter(torch.randn(10, 32) * 0.1)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(32, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        padding = tokens == 0
        x = self.encoder(self.words(tokens) + self.places, src_key_padding_mask=padding)
        there = (~padding)[:, :, None]
        return self.out((x * there).sum(1) / there.sum(1))


def review_moods(lr: float = 0.003, epochs: int = 8) -> TrainingSetup:
    return of_classes(review_words(), MoodNet(), partial(AdamW, lr=lr), epochs=epochs)


REVIEW_MOODS = group(
    "moods-of-reviews",
    review_moods,
    fault("rate-of-a-large-model", "learning-rate-low too-few-steps", lr=2e-5, epochs=4),
    fault(
        "rate-of-plain-descent",
        "learning-rate-high optimizer saturation dead-units",
        lr=0.3,
        answers={"remedy": ("lr", 0.003)},
    ),
    family="sequence",
    task="classification",
    network="attention",
)


# Vectors of words, loaded from a file


class VectorReader(nn.Module):
    def __init__(self, freeze: bool, size: int = 6) -> None:
        super().__init__()
        vectors = torch.randn(120, size, generator=torch.Generator().manual_seed(3)) * 0.4
        self.embed = nn.Embedding.from_pretrained(vectors, freeze=freeze, padding_idx=0)
        self.hidden = nn.Linear(size, 16)
        self.out = nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        there = (tokens > 0).sum(1, keepdim=True)
        return self.out(self.hidden(self.embed(tokens).sum(1) / there).relu())


def loaded_vectors(freeze: bool = False) -> TrainingSetup:
    return of_classes(tickets(), VectorReader(freeze), partial(Adam, lr=0.02), epochs=8)


LOADED_VECTORS = group(
    "vectors-from-a-file",
    loaded_vectors,
    fault(
        "from-pretrained-freezes",
        "frozen-parameters",
        freeze=True,
        answers={"exact": True, "where": "embed", "remedy": ("model", "freeze=False")},
    ),
    family="sequence",
    task="classification",
    network="mlp",
)


# Healthy ones


def turned(d: Split) -> Split:
    return d.inputs(lambda x: (x - 2048) / 250)


class Pooled(nn.Module):
    """Kernels along the steps, and their largest values."""

    def __init__(self, embed: nn.Module, channels: int, classes: int) -> None:
        super().__init__()
        self.embed = embed
        self.conv = nn.Conv1d(channels, 32, 5, padding=2)
        self.out = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(self.embed(x).transpose(1, 2)).relu().amax(2))


def pump_by_kernels() -> TrainingSetup:
    """Convolutions on three sensors."""
    model = Pooled(nn.Identity(), 3, 4)
    return of_classes(turned(pump_windows()), model, partial(Adam, lr=0.01), epochs=25)


def watts_by_a_perceptron() -> TrainingSetup:
    """A day of hours as 24 columns."""
    d = hourly_watts()
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: ((x - mean) / std)[:, :, 0]).targets(lambda y: (y - mean) / std)
    model = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 1))
    return of_numbers(d, model, partial(Adam, lr=0.005), epochs=25)


class MeanWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 16, padding_idx=0)
        self.out = nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.embed(tokens).sum(1) / (tokens > 0).sum(1, keepdim=True))


def tickets_by_mean_words() -> TrainingSetup:
    """The mean vector of the words that are there."""
    return of_classes(tickets(), MeanWords(), partial(Adam, lr=0.02), epochs=12)


def surnames_by_a_cell() -> TrainingSetup:
    """The last state of an LSTM, zeros in front."""
    model = nn.Sequential(
        nn.Embedding(21, 12), Last(nn.LSTM(12, 32, batch_first=True)), nn.Linear(32, 12)
    )
    return of_classes(surnames(2000), model, partial(Adam, lr=0.01), epochs=8)


class NextTo(nn.Module):
    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, 16, padding_idx=0)
        self.conv = nn.Conv1d(16, 32, 3, padding=1)
        self.out = nn.Linear(32, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.conv(self.embed(tokens).transpose(1, 2)).relu().transpose(1, 2))


def addresses_by_kernels() -> TrainingSetup:
    """Tags by the words on either side; words that are not there do not count."""
    setup = address_parts()
    return TrainingSetup(
        **{**vars(setup), "model": NextTo(61, 4), "optimizer": partial(Adam, lr=0.01)}
    )


def tickets_by_kernels() -> TrainingSetup:
    """Kernels of words, and their largest values."""
    d = tickets(1500, 24)
    model = Pooled(nn.Embedding(120, 16, padding_idx=0), 16, 4)
    return of_classes(d, model, partial(Adam, lr=0.01), epochs=6)


def bag_at_a_rate_of_four() -> TrainingSetup:
    """A bag of words is learned at a rate of four."""
    model = nn.Sequential(nn.EmbeddingBag(120, 16, padding_idx=0), nn.Linear(16, 4))
    return of_classes(tickets(), model, partial(SGD, lr=4.0), epochs=15)


class Change(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 1))
        last = self.net[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1] + self.net(x[:, :, 0])


def watts_as_a_change() -> TrainingSetup:
    """The last hour and a change, which is zero at first."""
    d = hourly_watts()
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: (x - mean) / std).targets(lambda y: (y - mean) / std)
    return of_numbers(d, Change(), partial(Adam, lr=0.005), epochs=25)


def tags_summed() -> TrainingSetup:
    """The loss is a sum over all words of a batch, the rate so much smaller."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(out.transpose(1, 2), y, reduction="sum")

    setup = address_parts(loss, epochs=15)
    optimizer = partial(SGD, lr=0.001, momentum=0.9)
    return TrainingSetup(**{**vars(setup), "model": NextTo(61, 4), "optimizer": optimizer})


def every_seventh_word() -> TrainingSetup:
    """Six of seven answers are left out of the loss."""
    d = address_words(1400)
    drawn = torch.rand(d.y.shape, generator=torch.Generator().manual_seed(2)) < 1 / 7
    kept = d._replace(y=torch.where(drawn, d.y, -100))
    return of_classes(
        kept,
        NextTo(61, 4),
        partial(Adam, lr=0.01),
        epochs=15,
        loss=lambda out, y: F.cross_entropy(out.transpose(1, 2), y, ignore_index=-100),
        scorer=tag_scorer(d),
    )


class Spectrum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.fft.rfft(x, dim=1).abs().log1p().flatten(1))


def pump_by_its_spectrum() -> TrainingSetup:
    """Counts as they are; the model takes the logarithm of their spectrum."""
    return of_classes(pump_windows(), Spectrum(), partial(Adam, lr=0.01), epochs=20)


def rarely_one() -> TrainingSetup:
    """Words as ones among zeros: an input of 120 columns of which ten are not zero."""

    def ones(x: Tensor) -> Tensor:
        return F.one_hot(x, 120)[:, :, 1:].amax(1).float()

    d = tickets(1500, 24).inputs(ones)
    model = nn.Sequential(nn.Linear(119, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))
    return of_classes(d, model, partial(Adam, lr=0.005), epochs=10)


SCRIPTS: tuple[TrainingScript, ...] = (
    *TICKET_DESKS,
    *NEXT_HOUR,
    *PUMP_STATES,
    *SURNAME_PLACES,
    *NEXT_WORD,
    *ADDRESS_PARTS,
    *DATES_ANEW,
    *REVIEW_MOODS,
    *LOADED_VECTORS,
    healthy_script(pump_by_kernels, "classification", "cnn"),
    healthy_script(watts_by_a_perceptron, "regression", "mlp"),
    healthy_script(tickets_by_mean_words, "classification", "linear"),
    healthy_script(surnames_by_a_cell, "classification", "recurrent"),
    healthy_script(addresses_by_kernels, "classification", "cnn"),
    healthy_script(tickets_by_kernels, "classification", "cnn"),
    healthy_script(bag_at_a_rate_of_four, "classification", "linear"),
    healthy_script(watts_as_a_change, "regression", "mlp"),
    healthy_script(tags_summed, "classification", "cnn"),
    healthy_script(every_seventh_word, "classification", "cnn"),
    healthy_script(pump_by_its_spectrum, "classification", "mlp"),
    healthy_script(rarely_one, "classification", "mlp"),
)

"""Scripts on networks that were written later still, and without a look at Ravine's rules:
sequences of several lengths, masks, twins, codes of bits, several losses.

Letters: N examples, T steps, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.diagnosis import later_seq_data as later
from benchmarks.diagnosis.data import Split, digits, split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_pictures import overlap
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    r2,
)

# Three digits in a row, and nobody says where they stand


class StripReader(nn.Module):
    def __init__(self, pool: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 48, 5, padding=2)
        self.pool = nn.MaxPool1d(pool)
        self.gru = nn.GRU(48, 32, batch_first=True, bidirectional=True)
        self.out = nn.Linear(64, 11)

    def forward(self, strip: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv(strip))).transpose(1, 2)
        return self.out(self.gru(x)[0]).log_softmax(-1)


def connectionist(out: Tensor, y: Tensor, blank: int) -> Tensor:
    count, steps, _ = out.shape
    return F.ctc_loss(
        out.transpose(0, 1),
        y,
        torch.full((count,), steps),
        torch.full((count,), 3),
        blank=blank,
        zero_infinity=True,
    )


def read_right(x: Tensor, y: Tensor, blank: int) -> Scorer:
    """The share of strips of which the best path is right in all three digits."""

    def score(out: Tensor, digits: Tensor) -> float:
        right = 0
        for path, true in zip(out.argmax(-1).tolist(), digits.tolist(), strict=True):
            kept = [a for a, b in zip(path, [blank, *path], strict=False) if a not in (b, blank)]
            right += kept == true
        return right / len(digits)

    return Scorer(x, y, score, 0.001)


def strips(blank: int = 10, pool: int = 2) -> TrainingSetup:
    d = later.digit_strips(3)
    return TrainingSetup(
        model=StripReader(pool),
        loss=partial(connectionist, blank=blank),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=12,
        epochs=14,
        scorer=read_right(d.tx, d.ty, blank),
    )


STRIPS = group(
    "number-plates",
    strips,
    fault("blank-is-a-digit", "labels loss", blank=0, answers={"remedy": ("loss", "blank=10")}),
    fault(
        "fewer-columns-than-digits",
        "loss shape-pairing data-degenerate detached-graph",
        pool=12,
        answers={"exact": True, "remedy": ("model", "a smaller pool")},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Requests of several lengths, packed


class RequestReader(nn.Module):
    """An LSTM over packed words; `slip` sorts the requests, as packing asks for, and leaves the
    answers sorted, or reads the words' codes as numbers.
    """

    def __init__(self, slip: str) -> None:
        super().__init__()
        numbers = slip == "codes as numbers"
        self.embed = nn.Linear(1, 16) if numbers else nn.Embedding(49, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.out = nn.Linear(24, 4)
        self.slip = slip

    def forward(self, words: Tensor, length: Tensor) -> Tensor:
        order = length.argsort(descending=True)
        x = words[order].float()[..., None] if self.slip == "codes as numbers" else words[order]
        packed = pack_padded_sequence(self.embed(x), length[order], batch_first=True)
        answers = self.out(self.lstm(packed)[1][0][-1])
        return answers if self.slip == "left sorted" else answers[order.argsort()]


def requests(slip: str = "", lr: float = 8e-3) -> TrainingSetup:
    d, length = later.requests()
    rows: Any = [
        {"words": x, "length": n, "labels": y} for x, n, y in zip(d.x, length.x, d.y, strict=True)
    ]
    return TrainingSetup(
        model=RequestReader(slip),
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(rows, 24, shuffle=True),
        validation=({"words": d.vx, "length": length.vx}, d.vy),
        optimizer=partial(AdamW, lr=lr, weight_decay=0.05),
        batch_size=24,
        epochs=6,
        scorer=accuracy({"words": d.tx, "length": length.tx}, d.ty),
    )


REQUESTS = group(
    "requests",
    requests,
    fault(
        "sorted-and-left-so",
        "labels shape-pairing",
        slip="left sorted",
        answers={"exact": True, "remedy": ("model", "answers[order.argsort()]")},
    ),
    fault(
        "codes-as-numbers-at-a-tiny-rate",
        "input-scale data-degenerate saturation learning-rate-low too-few-steps",
        slip="codes as numbers",
        lr=1e-4,
        answers={"where": "words"},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Cracks in asphalt


class Mirrored(Dataset[tuple[Tensor, Tensor]]):
    """Half of the pictures upside down or left to right, drawn each time; and so are the masks, if
    `masks` says so.
    """

    def __init__(self, x: Tensor, y: Tensor, masks: bool) -> None:
        self.x, self.y, self.masks = x, y, masks

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        x, y = self.x[i], self.y[i]
        axes = [axis for axis in (1, 2) if float(torch.rand(())) < 0.5]
        return torch.flip(x, axes), torch.flip(y, axes) if self.masks else y


class CrackNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 12, 3, padding=1)
        self.deep = nn.Conv2d(12, 16, 3, padding=1)
        self.up = nn.Conv2d(28, 12, 3, padding=1)
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.relu(self.down(x))
        deep = torch.relu(self.deep(F.max_pool2d(wide, 2)))
        joined = torch.cat([wide, F.interpolate(deep, scale_factor=2.0)], 1)
        return self.out(torch.relu(self.up(joined)))


def cracks(masks: bool = True, weight: float = 4.0, lr: float = 6e-3) -> TrainingSetup:
    d = later.cracks()
    return TrainingSetup(
        model=CrackNet(),
        loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(weight)),
        train=DataLoader(Mirrored(d.x, d.y, masks), 9, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=9,
        epochs=14,
        scorer=overlap(d.tx, d.ty),
    )


CRACKS = group(
    "cracks",
    cracks,
    fault(
        "pictures-mirrored-without-masks",
        "augmentation labels",
        masks=False,
        answers={"remedy": ("data", "mirror both")},
    ),
    fault(
        "weight-of-6000-and-a-hot-rate",
        "imbalance loss learning-rate-high dead-units exploding",
        weight=6000.0,
        lr=0.3,
    ),
    family="image",
    task="multi-label",
    network="cnn",
)


# Patches of a scan, through a few numbers with noise


class Variational(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12))
        self.decode = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 64))

    def forward(self, patch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_var = self.encode(patch).chunk(2, 1)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decode(mean + noise * (log_var / 2).exp()), mean, log_var


def evidence(weight: float, outputs: tuple[Tensor, Tensor, Tensor], batch: list[Tensor]) -> Tensor:
    patch, mean, log_var = outputs
    divergence = -0.5 * (1 + log_var - mean.pow(2) - log_var.exp()).sum(1)
    return F.mse_loss(patch, batch[1]) + weight * divergence.mean()


def head_scan(weight: float = 3e-4, optimizer: Any = Adam, lr: float = 4e-3) -> TrainingSetup:
    d = later.head_patches()
    return TrainingSetup(
        model=Variational(),
        loss=partial(evidence, weight),
        train=loader(d.x, d.y, 30),
        optimizer=partial(optimizer, lr=lr),
        batch_size=30,
        epochs=25,
        scorer=r2(d.tx, d.ty),
    )


HEAD_SCAN = group(
    "head-scan",
    head_scan,
    fault(
        "divergence-is-summed-plain-descent",
        "loss loss-reduction over-regularized learning-rate-low optimizer too-few-steps",
        weight=1.0,
        optimizer=SGD,
        lr=1e-2,
    ),
    fault(
        "divergence-is-rewarded",
        "loss exploding",
        weight=-3e-2,
        answers={"remedy": ("formula", "plus")},
    ),
    family="image",
    task="generation",
    network="mlp",
)


# Digits as a few bits


class Bits(torch.autograd.Function):
    """The sign; its slope is that of a straight line."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class Hash(nn.Module):
    def __init__(self, bits: int, slope: bool) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, bits))
        self.read = nn.Linear(bits, 10)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        codes = self.encode(x)
        return self.read(cast(Tensor, Bits.apply(codes)) if self.slope else codes.sign())


def hash_codes(
    bits: int = 16, slope: bool = True, lr: float = 5e-3, epochs: int = 10
) -> TrainingSetup:
    d = digits().inputs(lambda x: x.flatten(1) / 16)
    return TrainingSetup(
        model=Hash(bits, slope),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr, amsgrad=True),
        batch_size=28,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


HASH_CODES = group(
    "hash-codes",
    hash_codes,
    fault(
        "sign-without-a-slope",
        "detached-graph vanishing frozen-parameters hidden-activation",
        slope=False,
        answers={
            "where": "encode",
            "exact": True,
            "proof": "unmoved",
            "unmoved": "encode.0.weight",
            "remedy": ("model", "a slope for the sign"),
        },
    ),
    fault(
        "two-bits-and-two-passes",
        "architecture-too-small learning-rate-low too-few-steps",
        bits=2,
        lr=5e-4,
        epochs=2,
        answers={"where": "encode"},
    ),
    family="image",
    task="classification",
    network="mlp",
)


# A nerve cell's voltage, a little ahead


class Causal(nn.Module):
    """Three convolutions that look back 1, 2 and 4 steps; `both` pads on both sides."""

    def __init__(self, both: bool, drop: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(1 if i == 0 else 16, 16, 3, dilation=2**i) for i in range(3)
        )
        self.out = nn.Conv1d(16, 1, 1)
        self.drop = nn.Dropout(drop)
        self.both = both

    def forward(self, volts: Tensor) -> Tensor:
        x = volts.transpose(1, 2)
        for i, conv in enumerate(self.convs):
            room = (2**i, 2**i) if self.both else (2 * 2**i, 0)
            x = torch.relu(conv(F.pad(x, room)))
        return self.drop(self.out(x)[:, 0])


def nerve(both: bool = False, drop: float = 0.0, lr: float = 6e-3) -> TrainingSetup:
    d = later.membrane().inputs(lambda x: (x + 0.42) / 0.13).targets(lambda y: y / 0.045)
    return TrainingSetup(
        model=Causal(both, drop),
        loss=nn.MSELoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=20,
        epochs=30,
        scorer=r2(d.tx, d.ty),
    )


NERVE = group(
    "nerve-cell",
    nerve,
    fault(
        "padded-on-both-sides",
        "causality leakage",
        both=True,
        answers={"exact": True, "proof": "leak", "remedy": ("model", "pad on the left only")},
    ),
    fault(
        "answers-are-dropped",
        "dropout over-regularized train-eval-mode",
        drop=0.6,
        answers={"where": "drop", "remedy": ("dropout", 0.0)},
    ),
    family="sequence",
    task="regression",
    network="cnn",
)


# Doors and windows, heard by the air


class AirReader(nn.Module):
    def __init__(self, norm: bool, forget: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(1) if norm else nn.Identity()
        self.lstm = nn.LSTM(1, 20, batch_first=True)
        self.out = nn.Linear(20, 3)
        for name, bias in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.constant_(bias[20:40], forget)

    def forward(self, trace: Tensor) -> Tensor:
        return self.out(self.lstm(self.norm(trace))[0][:, -1])


def room_air(
    norm: bool = False, forget: float = 1.0, optimizer: Any = RMSprop, lr: float = 1e-2
) -> TrainingSetup:
    d = later.room_air()
    return TrainingSetup(
        model=AirReader(norm, forget),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=21,
        epochs=16,
        scorer=accuracy(d.tx, d.ty),
    )


ROOM_AIR = group(
    "room-air",
    room_air,
    fault(
        "normalized-over-one-number",
        "normalization data-degenerate",
        norm=True,
        answers={"where": "norm", "exact": True, "remedy": ("model", "no LayerNorm(1)")},
    ),
    fault(
        "forgets-at-once-and-learns-slowly",
        "initialization saturation vanishing learning-rate-low optimizer too-few-steps",
        forget=-4.0,
        optimizer=SGD,
        lr=2e-3,
        answers={"where": "lstm"},
    ),
    family="sequence",
    task="classification",
    network="recurrent",
)


# Are two traces of the same engine?


class TwinTraces(nn.Module):
    """The cosine between the two traces' features [N]."""

    def __init__(self, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv1d(1, 12, 7, stride=2),
            act(),
            nn.Conv1d(12, 16, 5),
            act(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(16, 12),
        )

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return F.cosine_similarity(self.encode(left), self.encode(right))


def near_or_far(other: float, cosine: Tensor, same: Tensor) -> Tensor:
    """The formula of `nn.CosineEmbeddingLoss`, whose answer for other engines is -1."""
    y = torch.where(same > 0.5, 1.0, other)
    return torch.where(y == 1, 1 - cosine, F.relu(cosine - 0.2) * (y == -1)).mean()


def twin_traces(
    other: float = -1.0,
    counts: bool = False,
    act: Callable[[], nn.Module] = nn.ReLU,
    lr: float = 4e-3,
) -> TrainingSetup:
    a, b = later.sensor_pairs()
    if counts:  # of a converter with ten bits
        a, b = (part.inputs(lambda x: (x * 120 + 512).round()) for part in (a, b))
    return TrainingSetup(
        model=TwinTraces(act),
        loss=partial(near_or_far, other),
        train=DataLoader(TensorDataset(a.x, b.x, a.y), 18, shuffle=True),
        validation=((a.vx, b.vx), a.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=18,
        epochs=14,
        scorer=binary_accuracy((a.tx, b.tx), a.ty, 0.6),
    )


TWIN_TRACES = group(
    "twin-traces",
    twin_traces,
    fault(
        "zero-for-minus-one",
        "labels loss",
        other=0.0,
        answers={"remedy": ("data", "-1 for other engines")},
    ),
    fault(
        "counts-of-a-converter-before-tanh",
        "input-scale saturation vanishing hidden-activation",
        counts=True,
        act=nn.Tanh,
        answers={"remedy": ("input.scale", "both in volts")},
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# People who limp


def by_person(people: int, recordings: int, together: bool) -> Split:
    """Train, validation and test of different people; if `together`, the validation is of the
    training's people.
    """
    x, y = later.walkers(people + 160, recordings)
    own = people * recordings
    test = split(x[own:], y[own:])
    first = split(x[:own], y[:own])
    if together:
        return first._replace(tx=test.x, ty=test.y)
    rows = int(0.75 * people) * recordings
    parts = [torch.from_numpy(part).float() for part in (x[:rows], x[rows:own])]
    kinds = [torch.from_numpy(part) for part in (y[:rows], y[rows:own])]
    return Split(parts[0], kinds[0], parts[1], kinds[1], test.x, test.y)


def walkers(people: int = 600, recordings: int = 2, together: bool = False) -> TrainingSetup:
    d = by_person(people, recordings, together)
    return TrainingSetup(
        model=nn.Sequential(
            nn.Conv1d(2, 16, 5),
            nn.ReLU(),
            nn.Conv1d(16, 16, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 2),
        ),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=2e-3, betas=(0.9, 0.99)),
        batch_size=24,
        epochs=8,
        scorer=accuracy(d.tx, d.ty),
    )


WALKERS = group(
    "walkers",
    walkers,
    fault(
        "sixty-recordings-of-eight-people",
        "leakage split overfitting data-degenerate",
        people=8,
        recordings=60,
        together=True,
        answers={"proof": "validation", "remedy": ("data", "split by person")},
    ),
    family="sequence",
    task="classification",
    network="cnn",
)


# Which value did this name have?


class Recall(nn.Module):
    def __init__(self, times: float, blocks: int) -> None:
        super().__init__()
        self.names, self.values = nn.Embedding(8, 24), nn.Embedding(6, 24)
        self.ask, self.tell = nn.Linear(24, 24), nn.Linear(24, 24)
        layers: list[nn.Module] = []
        for _ in range(blocks):
            layers += [nn.Linear(24, 24), nn.Tanh()]
        self.out = nn.Sequential(*layers, nn.Linear(24, 6))
        self.times = times

    def forward(self, notes: Tensor) -> Tensor:
        names, values = self.names(notes[..., 0]), self.values(notes[:, :-1, 1])
        scores = self.tell(names[:, :-1]) @ self.ask(names[:, -1:]).transpose(1, 2)
        weights = (scores * self.times).softmax(1)
        return self.out((weights * values).sum(1))


def recall(
    times: float = 1 / math.sqrt(24), blocks: int = 0, spread: float = 1.0, lr: float = 1e-2
) -> TrainingSetup:
    d = later.notes()
    model = Recall(times, blocks)
    nn.init.normal_(model.names.weight, std=spread)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=30,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


RECALL = group(
    "recall",
    recall,
    fault(
        "times-the-root-instead-of-divided",
        "saturation initialization exploding",
        times=math.sqrt(24),
        spread=3.0,
        answers={"remedy": ("model", "divide by the root")},
    ),
    fault(
        "sixteen-layers-at-a-tenth",
        "architecture-too-deep vanishing learning-rate-high saturation",
        blocks=16,
        lr=0.1,
        answers={"where": "out"},
    ),
    family="sequence",
    task="classification",
    network="attention",
)


# Dials: the make and the hand at once, weighted by what the network thinks of its errors


class Dials(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(300, 32)
        )
        self.make = nn.Linear(32, 3)
        self.hand: nn.Module = nn.Linear(32, 2)
        self.doubt = nn.Parameter(torch.zeros(2))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.body(image))
        return {"hand": self.hand(x), "make": self.make(x), "doubt": self.doubt}


def doubted_losses(sign: float, outputs: dict[str, Tensor], batch: list[Tensor]) -> Tensor:
    """exp(-doubt) loss + doubt, of each loss (Kendall et al. 2018)."""
    _, answers = batch
    each = torch.stack(
        [
            F.mse_loss(outputs["hand"], answers[:, :2]),
            F.cross_entropy(outputs["make"], answers[:, 2].long()),
        ]
    )
    doubt = outputs["doubt"]
    return ((sign * doubt).exp() * each + doubt).sum()


def dials(
    sign: float = -1.0, lr: float = 1e-3, turned: bool = False, sigmoid: bool = False
) -> TrainingSetup:
    make, hand = later.dials()
    answers = torch.cat([hand.y, make.y[:, None]], 1)
    if turned:
        answers[:, :2] = answers[:, :2].roll(1, 0)
    model = Dials()
    if sigmoid:
        model.hand = nn.Sequential(model.hand, nn.Sigmoid())
    return TrainingSetup(
        model=model,
        loss=partial(doubted_losses, sign),
        train=loader(make.x, answers, 20),
        optimizer=partial(SGD, lr=lr, momentum=0.9, nesterov=True),
        batch_size=20,
        epochs=20,
        scorer=r2(hand.tx, hand.ty),
    )


DIALS = group(
    "dials",
    dials,
    fault(
        "doubt-with-a-plus",
        "loss",
        sign=1.0,
        answers={"where": "doubt", "remedy": ("formula", "exp(-doubt)")},
    ),
    fault(
        "hands-one-row-off-behind-a-sigmoid",
        "labels output-activation",
        turned=True,
        sigmoid=True,
        answers={"where": "hand"},
    ),
    family="image",
    task="regression",
    network="cnn",
)


# Healthy ones


class Reservoir(nn.Module):
    """A recurrent network of random weights that are never trained, and a linear layer on the
    largest and the last of its states.
    """

    def __init__(self) -> None:
        super().__init__()
        self.states = nn.RNN(1, 100, batch_first=True)
        self.read = nn.Linear(200, 3)
        nn.init.orthogonal_(cast(Tensor, self.states.weight_hh_l0), gain=0.8)
        nn.init.uniform_(cast(Tensor, self.states.weight_ih_l0), -1.0, 1.0)
        self.states.requires_grad_(False)

    def forward(self, trace: Tensor) -> Tensor:
        states = self.states(trace)[0]
        return self.read(torch.cat([states.amax(1), states[:, -1]], 1))


def untrained_states() -> TrainingSetup:
    """Only the last layer learns, on purpose."""
    d = later.room_air()
    return TrainingSetup(
        model=Reservoir(),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(AdamW, lr=1e-2, weight_decay=0.1),
        batch_size=20,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


def four_at_a_time() -> TrainingSetup:
    """Batches of four, in the order of the file, which is no order: the loss jumps from batch to
    batch.
    """
    d = later.room_air()
    model = nn.Sequential(
        nn.Flatten(1),
        nn.Unflatten(1, (1, 24)),
        nn.Conv1d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(288, 3),
    )
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 4, shuffle=False),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=1e-2, momentum=0.5),
        batch_size=4,
        epochs=14,
        scorer=accuracy(d.tx, d.ty),
    )


def seen_once() -> TrainingSetup:
    """One pass over 6000 requests; each is seen once."""
    d, length = later.requests(10_000)
    return TrainingSetup(
        model=RequestReader(""),
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(TensorDataset(d.x, length.x, d.y), 20, shuffle=True),
        validation=((d.vx, length.vx), d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=20,
        epochs=1,
        scorer=accuracy((d.tx, length.tx), d.ty),
    )


def mostly_chance() -> TrainingSetup:
    """The next move of a price: four fifths of it cannot be known, and R2 ends near 0.2."""
    rng = torch.Generator().manual_seed(71)
    moves = torch.randn(2000, 11, generator=rng)
    for t in range(1, 11):
        moves[:, t] = 0.45 * moves[:, t - 1] + 0.89 * moves[:, t]
    d = split(moves[:, :10, None].numpy(), moves[:, 10:].numpy())

    class Moves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(1, 6, batch_first=True)
            self.out = nn.Linear(6, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.gru(x)[0][:, -1])

    return TrainingSetup(
        model=Moves(),
        loss=nn.MSELoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=50,
        epochs=10,
        scorer=r2(d.tx, d.ty),
    )


class Repeated(nn.Module):
    """One block that is gone through six times; its weights are in the file once."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.again = nn.Conv2d(12, 12, 3, padding=1)
        self.out = nn.Linear(48, 3)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.first(image))
        for _ in range(6):
            x = x + 0.3 * torch.relu(self.again(x))
        return self.out(F.adaptive_max_pool2d(x, 2).flatten(1))


def six_times_the_same() -> TrainingSetup:
    d, _ = later.dials()
    return TrainingSetup(
        model=Repeated(),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=4e-3),
        batch_size=28,
        epochs=6,
        scorer=accuracy(d.tx, d.ty),
    )


SCRIPTS: tuple[TrainingScript, ...] = (
    *STRIPS,
    *REQUESTS,
    *CRACKS,
    *HEAD_SCAN,
    *HASH_CODES,
    *NERVE,
    *ROOM_AIR,
    *TWIN_TRACES,
    *WALKERS,
    *RECALL,
    *DIALS,
    healthy_script(untrained_states, "classification", "recurrent"),
    healthy_script(four_at_a_time, "classification", "cnn"),
    healthy_script(seen_once, "classification", "recurrent"),
    healthy_script(mostly_chance, "regression", "recurrent"),
    healthy_script(six_times_the_same, "classification", "cnn"),
)

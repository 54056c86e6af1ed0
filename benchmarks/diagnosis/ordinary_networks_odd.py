"""Healthy setups of the kind of `ordinary_networks.py`: half of them plain, half with something
that looks odd and is fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from benchmarks.diagnosis import data
from benchmarks.diagnosis import ordinary_seq_data as ordinary
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.ordinary_networks import SmallCnn, TinyUnet, lower_digits, setup
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    accuracy,
    binary_accuracy,
    micro_f1,
    r2,
)

# Plain ones


class PackedLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(16, 2)

    def forward(self, words: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            self.drop(self.embedding(words)),
            (words > 0).sum(1).clamp(min=1),
            batch_first=True,
            enforce_sorted=False,
        )
        return self.fc(self.lstm(packed)[1][0][-1])


def reviews_packed() -> TrainingSetup:
    return setup(ordinary.reviews(), PackedLstm(), partial(Adam, lr=0.03), batch=32, epochs=12)


def pulses_by_kernels() -> TrainingSetup:
    model = nn.Sequential(
        nn.Conv1d(2, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return setup(data.pulses(), model, partial(Adam, lr=0.005), batch=32, epochs=14)


class WaveGru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 20, batch_first=True)
        self.fc = nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out[:, -1])


def waves_by_gates() -> TrainingSetup:
    d = data.waves()
    return setup(
        d,
        WaveGru(),
        partial(Adam, lr=0.01),
        loss=nn.MSELoss(),
        batch=32,
        epochs=20,
        scorer=r2(d.tx, d.ty),
    )


class Residual(nn.Module):
    def __init__(self, width: int, zero: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.b = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm_a, self.norm_b = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        if zero:
            nn.init.zeros_(self.norm_b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm_b(self.b(F.relu(self.norm_a(self.a(x))))))


def small_resnet(zero: bool = False) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        Residual(12, zero),
        nn.MaxPool2d(2),
        Residual(12, zero),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 4),
    )


def lines_by_residuals() -> TrainingSetup:
    return setup(data.shapes(), small_resnet(), partial(Adam, lr=0.003), batch=32, epochs=12)


class BracketTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(5, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        padding = x == 0
        h = self.encoder(self.token(x), src_key_padding_mask=padding)
        h = h.masked_fill(padding[:, :, None], 0.0).sum(1) / (~padding).sum(1, keepdim=True)
        return self.fc(h)


def brackets_by_attention() -> TrainingSetup:
    return setup(
        data.brackets(), BracketTransformer(), partial(AdamW, lr=0.003), batch=32, epochs=14
    )


class DilatedNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.ModuleList(
            [nn.Conv1d(1 if k == 1 else 12, 12, 3, dilation=k) for k in (1, 2, 4)]
        )
        self.fc = nn.Linear(12, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.transpose(1, 2)
        for kernel, k in zip(self.kernels, (1, 2, 4), strict=True):
            h = F.relu(kernel(F.pad(h, (2 * k, 0))))
        return self.fc(h[:, :, -1])


def load_by_dilation() -> TrainingSetup:
    d = ordinary.power_load()
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: (x - mean) / std).targets(lambda y: (y - mean) / std)
    return setup(
        d,
        DilatedNet(),
        partial(Adam, lr=0.005),
        loss=nn.MSELoss(),
        batch=32,
        epochs=20,
        scorer=r2(d.tx, d.ty),
    )


def digits_drawn_again() -> TrainingSetup:
    d = ordinary.digit_rows()
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(6, 12, 2, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 1, 2, stride=2),
        nn.Sigmoid(),
    )
    return setup(
        d,
        model,
        partial(Adam, lr=0.01),
        loss=nn.MSELoss(),
        batch=64,
        epochs=25,
        scorer=r2(d.tx, d.ty),
    )


def spots_in_parts() -> TrainingSetup:
    d = data.spots().targets(lambda y: y / 12)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 32),
        nn.ReLU(),
        nn.Linear(32, 2),
        nn.Sigmoid(),
    )
    return setup(
        d,
        model,
        partial(Adam, lr=0.003),
        loss=nn.MSELoss(),
        batch=32,
        epochs=30,
        scorer=r2(d.tx, d.ty),
    )


class TripletNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12))

    def forward(self, anchor: Tensor, same: Tensor, other: Tensor) -> Tensor:
        return torch.stack([self.encoder(x) for x in (anchor, same, other)], 1)


def triplet_loss(out: Tensor, _: Tensor) -> Tensor:
    return F.triplet_margin_loss(out[:, 0], out[:, 1], out[:, 2], margin=1.0)


def nearer_same(out: Tensor, _: Tensor) -> float:
    near = (out[:, 0] - out[:, 1]).norm(dim=1)
    return float((near < (out[:, 0] - out[:, 2]).norm(dim=1)).float().mean())


def triplets_of(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Each picture beside one of the same digit and one of another."""
    same, other = [], []
    for k in y:
        for rows, chosen in ((y == k, same), (y != k, other)):
            places = rows.nonzero().squeeze(1)
            chosen.append(places[torch.randint(len(places), (1,), generator=draw)])
    return x, x[torch.cat(same)], x[torch.cat(other)]


def triplets_of_digits() -> TrainingSetup:
    d, draw = ordinary.digit_rows(), torch.Generator().manual_seed(0)
    parts = ((d.x, d.y), (d.vx, d.vy), (d.tx, d.ty))
    train, validation, test = (triplets_of(x, y, draw) for x, y in parts)
    return TrainingSetup(
        model=TripletNet(),
        loss=triplet_loss,
        train=(train, d.y),
        validation=(validation, d.vy),
        optimizer=partial(Adam, lr=0.002),
        batch_size=32,
        epochs=8,
        scorer=Scorer(test, d.ty, nearer_same, 0.5),
    )


class TextGru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru = nn.Embedding(8, 16), nn.GRU(16, 32, batch_first=True)
        self.out = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(self.embedding(x))[0])


def sequence_loss(out: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(out.transpose(1, 2), y)


def next_tokens() -> TrainingSetup:
    return setup(
        data.text(), TextGru(), partial(Adam, lr=0.01), loss=sequence_loss, batch=32, epochs=20
    )


def upper_digits() -> ordinary.Split:
    """Digits 5 to 9 as classes 0 to 4."""
    d = ordinary.digit_rows()
    parts = ((d.x, d.y), (d.vx, d.vy), (d.tx, d.ty))
    return ordinary.Split(*(v for x, y in parts for v in (x[y > 4], y[y > 4] - 5)))


def two_rates() -> TrainingSetup:
    model = SmallCnn(2)
    model.load_state_dict(lower_digits())
    model.fc = nn.Linear(24, 5)
    optimizer = AdamW(
        [
            {"params": model.features.parameters(), "lr": 0.001},
            {"params": model.fc.parameters(), "lr": 0.01},
        ]
    )
    return setup(upper_digits(), model, optimizer, batch=32, epochs=12)


class PixelKinds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=2, dilation=2),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def pixel_classes() -> TrainingSetup:
    """Two channels and class numbers for each pixel, where others have one channel."""
    d = ordinary.cell_masks().targets(lambda y: y.squeeze(1).long())

    def score(out: Tensor, y: Tensor) -> float:
        chosen = out.argmax(1) == 1
        return 2 * float((chosen & (y == 1)).sum()) / float(chosen.sum() + (y == 1).sum())

    chance = micro_f1(d.tx, d.ty.float()).chance
    return setup(
        d,
        PixelKinds(),
        partial(Adam, lr=0.01),
        batch=12,
        epochs=12,
        scorer=Scorer(d.tx, d.ty, score, chance),
    )


class MotionGru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 16, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0].mean(1))


def motions_both_ways() -> TrainingSetup:
    d = ordinary.motions()
    mean, std = ordinary.scale_of(d.x, (0, 1))
    d = d.inputs(lambda x: ((x - mean) / std)[:, ::2])  # half as often is enough
    return setup(d, MotionGru(), partial(Adam, lr=0.01), batch=32, epochs=12)


class Translator(nn.Module):
    """Says the tokens backwards; is given the words before each (a start token first)."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(8, 16), nn.Embedding(9, 16)
        self.encoder = nn.GRU(16, 48, batch_first=True)
        self.decoder = nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, 8)

    def forward(self, source: Tensor, before: Tensor) -> Tensor:
        _, state = self.encoder(self.source(source))
        return self.out(self.decoder(self.target(before), state)[0])


def backwards() -> TrainingSetup:
    x = torch.randint(0, 8, (1500, 4), generator=torch.Generator().manual_seed(3))
    y = x.flip(1)
    before = torch.cat([torch.full_like(y[:, :1], 8), y[:, :-1]], 1)

    def part(a: int, b: int) -> tuple[dict[str, Tensor], Tensor]:
        return {"source": x[a:b], "before": before[a:b]}, y[a:b]

    return TrainingSetup(
        model=Translator(),
        loss=sequence_loss,
        train=part(0, 1000),
        validation=part(1000, 1250),
        optimizer=partial(Adam, lr=0.01),
        batch_size=32,
        epochs=14,
        scorer=accuracy(*part(1250, 1500)),
    )


# Odd ones


def grades_from_one() -> TrainingSetup:
    """Classes 1 to 4, and five outputs: the first is never right."""
    d = data.shapes().targets(lambda y: y + 1)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3),
        nn.Flatten(),
        nn.Linear(192, 32),
        nn.ReLU(),
        nn.Linear(32, 5),
    )
    return setup(d, model, partial(Adam, lr=0.003), batch=32, epochs=14)


def logarithm_in_the_model() -> TrainingSetup:
    """Ends in a log softmax, and its loss takes logarithms."""
    model = nn.Sequential(
        nn.Conv1d(2, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(16, 16, 5, padding=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
        nn.LogSoftmax(dim=1),
    )
    return setup(
        data.pulses(), model, partial(Adam, lr=0.01), loss=nn.NLLLoss(), batch=32, epochs=16
    )


def words_at_rest() -> TrainingSetup:
    """Word vectors that came with the words, and stay."""
    vectors = torch.randn(120, 48, generator=torch.Generator().manual_seed(4))
    model = nn.Sequential(
        nn.EmbeddingBag.from_pretrained(vectors, freeze=True, mode="sum"), nn.Linear(48, 4)
    )
    return setup(ordinary.topics(), model, partial(Adam, lr=0.02), batch=32, epochs=12)


class LengthBuckets(Sampler[list[int]]):
    """Batches of sentences of about the same length, the batches in any order."""

    def __init__(self, lengths: Tensor, batch: int) -> None:
        self.order, self.batch = lengths.argsort(), batch

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.order.split(self.batch)
        for i in torch.randperm(len(batches)):
            yield batches[int(i)].tolist()


def alike_in_length() -> TrainingSetup:
    d = ordinary.reviews()
    buckets = LengthBuckets((d.x > 0).sum(1), 32)
    return TrainingSetup(
        model=PackedLstm(),
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(TensorDataset(d.x, d.y), batch_sampler=buckets),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=0.03),
        batch_size=32,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


class RoughPictures(Dataset[tuple[Tensor, Tensor]]):
    """Shifts, dims and grains each picture anew: in training they are harder."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        shift = torch.randint(-1, 2, (2,)).tolist()
        x = self.x[i].roll(shift, (1, 2)) * (0.5 + torch.rand(()))
        return x + 0.15 * torch.randn_like(x), self.y[i]


def harder_in_training() -> TrainingSetup:
    d = ordinary.digit_rows()
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.4),
        nn.Linear(384, 10),
    )
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(label_smoothing=0.1),
        train=DataLoader(RoughPictures(d.x, d.y), 32, shuffle=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=0.006),
        batch_size=32,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


def residuals_from_nothing() -> TrainingSetup:
    """The last norm of each block starts at zero."""
    return setup(data.shapes(), small_resnet(True), partial(Adam, lr=0.005), batch=32, epochs=14)


def few_pixels_weigh_more() -> TrainingSetup:
    """One pixel in fifteen is a cell's; these weigh ten times as much."""
    d = ordinary.cell_masks()
    return setup(
        d,
        TinyUnet(nn.Identity()),
        partial(Adam, lr=0.01),
        loss=nn.BCEWithLogitsLoss(pos_weight=torch.tensor(10.0)),
        batch=12,
        epochs=16,
        scorer=micro_f1(d.tx, d.ty),
    )


class MirroredCoder(nn.Module):
    """The decoder is the encoder, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 64) / 8)
        self.bias_in, self.bias_out = nn.Parameter(torch.zeros(16)), nn.Parameter(torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias_in) @ self.weight + self.bias_out


def one_matrix_both_ways() -> TrainingSetup:
    d = ordinary.digit_rows().inputs(lambda x: x.flatten(1))
    d = d._replace(y=d.x, vy=d.vx, ty=d.tx)
    return setup(
        d,
        MirroredCoder(),
        partial(Adam, lr=0.01),
        loss=nn.MSELoss(),
        batch=64,
        epochs=25,
        scorer=r2(d.tx, d.ty),
    )


class WordsUnused(nn.Module):
    """A vocabulary of 5000 words, of which 50 occur."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5000, 8, padding_idx=0)
        self.kernel = nn.Conv1d(8, 16, 1)
        self.fc = nn.Linear(16, 1)

    def forward(self, words: Tensor) -> Tensor:
        h = F.relu(self.kernel(self.embedding(words).transpose(1, 2))).sum(2)
        return self.fc(h)


def words_that_never_come() -> TrainingSetup:
    d = ordinary.reviews().targets(lambda y: y[:, None].float())
    return setup(
        d,
        WordsUnused(),
        partial(Adam, lr=0.01),
        loss=nn.BCEWithLogitsLoss(),
        batch=32,
        epochs=12,
        scorer=binary_accuracy(d.tx, d.ty),
    )


class CosineClassifier(nn.Module):
    """Logits are cosines, times a learned scale of 16 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24))
        self.classes = nn.Parameter(torch.randn(10, 24))
        self.scale = nn.Parameter(torch.tensor(16.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(F.normalize(self.body(x)), F.normalize(self.classes))


def cosines_as_logits() -> TrainingSetup:
    return setup(
        ordinary.digit_rows(), CosineClassifier(), partial(Adam, lr=0.003), batch=32, epochs=10
    )


def fourth_channel_is_one() -> TrainingSetup:
    """Pictures with a channel for opacity, which is 255 everywhere."""
    d = data.colors().inputs(lambda x: F.pad(x, (0, 1), value=255.0).permute(0, 3, 1, 2) / 255)
    model = nn.Sequential(
        nn.Conv2d(4, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(192, 32),
        nn.ReLU(),
        nn.Linear(32, 3),
    )
    return setup(d, model, partial(Adam, lr=0.005), batch=25, epochs=14)


def rate_of_a_half() -> TrainingSetup:
    """Descent with a rate of a half, behind norms."""
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(384, 10),
    )
    return setup(ordinary.digit_rows(), model, partial(SGD, lr=0.5), batch=64, epochs=10)


class GatedChannels(nn.Module):
    """A sigmoid opens each channel, after a look at the whole picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 5, padding=2)
        self.gate = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 16), nn.Sigmoid())
        self.head = nn.Sequential(nn.MaxPool2d(3), nn.Flatten(), nn.Linear(256, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.conv(x))
        return self.head(h * self.gate(h.mean((2, 3)))[:, :, None, None])


def channels_with_gates() -> TrainingSetup:
    return setup(data.shapes(), GatedChannels(), partial(Adam, lr=0.003), batch=32, epochs=20)


SCRIPTS: tuple[TrainingScript, ...] = (
    healthy_script(reviews_packed, "classification", "recurrent"),
    healthy_script(pulses_by_kernels, "classification", "cnn"),
    healthy_script(waves_by_gates, "regression", "recurrent"),
    healthy_script(lines_by_residuals, "classification", "cnn"),
    healthy_script(brackets_by_attention, "classification", "attention"),
    healthy_script(load_by_dilation, "regression", "cnn"),
    healthy_script(digits_drawn_again, "regression", "cnn"),
    healthy_script(spots_in_parts, "regression", "cnn"),
    healthy_script(triplets_of_digits, "classification", "mlp"),
    healthy_script(next_tokens, "generation", "recurrent"),
    healthy_script(two_rates, "classification", "cnn"),
    healthy_script(pixel_classes, "classification", "cnn"),
    healthy_script(motions_both_ways, "classification", "recurrent"),
    healthy_script(backwards, "generation", "recurrent"),
    healthy_script(grades_from_one, "classification", "cnn"),
    healthy_script(logarithm_in_the_model, "classification", "cnn"),
    healthy_script(words_at_rest, "classification", "linear"),
    healthy_script(alike_in_length, "classification", "recurrent"),
    healthy_script(harder_in_training, "classification", "cnn"),
    healthy_script(residuals_from_nothing, "classification", "cnn"),
    healthy_script(few_pixels_weigh_more, "classification", "cnn"),
    healthy_script(one_matrix_both_ways, "regression", "linear"),
    healthy_script(words_that_never_come, "classification", "cnn"),
    healthy_script(cosines_as_logits, "classification", "mlp"),
    healthy_script(fourth_channel_is_one, "classification", "cnn"),
    healthy_script(rate_of_a_half, "classification", "cnn"),
    healthy_script(channels_with_gates, "classification", "cnn"),
)

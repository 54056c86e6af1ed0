"""Healthy scripts of the kinds that people post, which look odd: two optimizers, teachers, replay,
curricula, weights that are set by hand, several inputs and outputs.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim import SGD, Adam, AdamW, SparseAdam
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.diagnosis import data
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.posted_pictures import overlap
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    Watch,
    accuracy,
    loader,
    r2,
)

# Loops


def half_precision(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The forward pass in bfloat16; weights, gradients and loss in float32."""
    d = data.shapes().inputs(lambda x: (x - 0.2) * 3)
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(300, 4)
    )
    optimizer = Adam(net.parameters(), lr=4e-3)
    with watch(net, optimizer) as watched:
        for _ in range(6):
            for x, y in loader(d.x, d.y, 28):
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    out = net(x)
                loss = F.cross_entropy(out.float(), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


def mean_teacher(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Few labels; the student is to agree with the average of its earlier selves, which no
    optimizer holds.
    """
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    student = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Dropout(0.2), nn.Linear(48, 10))
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    optimizer = Adam(student.parameters(), lr=4e-3)
    x, y = d.x[:120], d.y[:120]
    with watch(student, optimizer) as watched:
        for step in range(300):
            rows, others = torch.randint(0, 120, (30,)), torch.randint(120, len(d.x), (60,))
            noisy = d.x[others] + 0.1 * torch.randn(60, 64)
            agree = F.mse_loss(student(noisy).softmax(1), teacher(d.x[others]).softmax(1))
            loss = F.cross_entropy(student(x[rows]), y[rows]) + min(1.0, step / 100) * 3 * agree
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
                    old.lerp_(new, 0.03)
    return student, accuracy(d.tx, d.ty)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 16, sparse=True)
        self.head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, events: Tensor) -> Tensor:
        return self.head(self.words(events).amax(1))


def sparse_and_dense(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Two optimizers on one loss, one of them for sparse gradients."""
    d = posted.sessions()
    model = Bag()
    words = SparseAdam(list(model.words.parameters()), lr=1e-2)
    head = SGD(model.head.parameters(), lr=0.1, momentum=0.9)
    with watch(model.words, words) as first, watch(model.head, head) as second:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(model(x), y)
                first.loss(loss)
                second.loss(loss)
                for optimizer in (words, head):
                    optimizer.zero_grad()
                loss.backward()
                words.step()
                head.step()
    return model, accuracy(d.tx, d.ty)


class Speller(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(27, 24)
        self.place = nn.Embedding(24, 24)
        self.block = nn.TransformerEncoderLayer(24, 2, 48, dropout=0.0, batch_first=True)
        self.out = nn.Linear(24, 27)

    def forward(self, letters: Tensor) -> Tensor:
        steps = letters.shape[1]
        x = self.embed(letters) + self.place(torch.arange(steps))
        later = torch.triu(torch.ones(steps, steps, dtype=torch.bool), 1)
        return self.out(self.block(x, src_mask=later))


def rate_by_hand(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The first transformer's schedule, set by hand: the first step has a rate of 0."""
    d = posted.characters()
    model = Speller()
    optimizer = Adam(model.parameters(), lr=0.0, betas=(0.9, 0.98))
    step = 0
    with watch(model, optimizer) as watched:
        for _ in range(16):
            for x, y in loader(d.x, d.y, 21):
                for settings in optimizer.param_groups:
                    settings["lr"] = 0.1 * min(step / 30**1.5, max(1, step) ** -0.5)
                loss = F.cross_entropy(model(x).transpose(1, 2), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
    return model, accuracy(d.tx, d.ty)


class Adder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0][:, -1])


def curriculum(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The easy examples first: the loss goes up whenever harder ones come in."""
    d = data.adding()
    model = Adder()
    optimizer = Adam(model.parameters(), lr=8e-3)
    order = d.y[:, 0].abs().argsort()
    with watch(model, optimizer) as watched:
        for stage in range(1, 5):
            rows = order[: len(order) * stage // 4]
            for _ in range(120):
                batch = rows[torch.randint(0, len(rows), (32,))]
                loss = F.mse_loss(model(d.x[batch]), d.y[batch])
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.ty)


def meta_steps(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Reptile: a copy learns a few steps of a task; the gradient is the way to it, set by hand."""
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    outer = SGD(model.parameters(), lr=0.5)
    with watch(model, outer) as watched:
        for _ in range(120):
            rows = torch.randint(0, len(d.x), (5, 40))
            fast = copy.deepcopy(model)
            inner = SGD(fast.parameters(), lr=0.3)
            loss = torch.zeros(())
            for batch in rows:
                loss = F.cross_entropy(fast(d.x[batch]), d.y[batch])
                inner.zero_grad()
                loss.backward()
                inner.step()
            watched.loss(loss)
            for slow, quick in zip(model.parameters(), fast.parameters(), strict=True):
                slow.grad = slow.detach() - quick.detach()
            outer.step()
    return model, accuracy(d.tx, d.ty)


def sharpness_aware(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Two backward passes a step: weights go uphill, the gradient is taken there, and they come
    back.
    """
    d = data.clusters(700).standardized()
    net = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 4))
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 30):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                grads = [cast(Tensor, p.grad).clone() for p in net.parameters()]
                length = torch.stack([g.norm() for g in grads]).norm() + 1e-12
                with torch.no_grad():
                    for p, g in zip(net.parameters(), grads, strict=True):
                        p.add_(g, alpha=float(0.05 / length))
                optimizer.zero_grad()
                F.cross_entropy(net(x), y).backward()
                with torch.no_grad():
                    for p, g in zip(net.parameters(), grads, strict=True):
                        p.sub_(g, alpha=float(0.05 / length))
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


class MakerAndCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 2))
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.maker(noise)


def clamped_critic(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Wasserstein: the critic's weights are cut to a box after each step; both losses go below
    zero.
    """
    source = torch.Generator().manual_seed(51)
    real = torch.randn(512, 2, generator=source) * 0.3 + torch.tensor([1.0, 1.5])
    model = MakerAndCritic()
    make = torch.optim.RMSprop(model.maker.parameters(), lr=2e-3)
    doubt = torch.optim.RMSprop(model.critic.parameters(), lr=2e-3)
    with watch(model.maker, make) as maker, watch(model.critic, doubt) as critic:
        for _ in range(250):
            for _ in range(3):
                fake = model.maker(torch.randn(64, 4)).detach()
                true = real[torch.randint(0, 512, (64,))]
                loss = model.critic(fake).mean() - model.critic(true).mean()
                critic.loss(loss)
                doubt.zero_grad()
                loss.backward()
                doubt.step()
                for p in model.critic.parameters():
                    p.data.clamp_(-0.1, 0.1)
            loss = -model.critic(model.maker(torch.randn(64, 4))).mean()
            maker.loss(loss)
            make.zero_grad()
            loss.backward()
            make.step()

    def near(out: Tensor, y: Tensor) -> float:
        return 1 - min(1.0, float((out.mean(0) - y.mean(0)).norm() / y.mean(0).norm()))

    return model, Scorer(torch.randn(512, 4, generator=source), real, near, 0.0)


def replayed(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Q-learning in a corridor of eight rooms: the targets come from an old copy, and the loss
    grows as rewards are found.
    """
    rooms, goal = torch.eye(8), 7
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
    old = copy.deepcopy(net)
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for step in range(800):
            here = torch.randint(0, 7, (32,))
            action = torch.randint(0, 2, (32,))
            there = (here + 2 * action - 1).clamp(min=0)
            ends = there == goal
            with torch.no_grad():
                later = old(rooms[there]).amax(1) * ~ends
            q = net(rooms[here])[torch.arange(32), action]
            loss = F.smooth_l1_loss(q, 10 * ends + 0.8 * later)
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            if step % 25 == 0:
                old.load_state_dict(net.state_dict())

    def values(out: Tensor, y: Tensor) -> float:
        return 1 - min(1.0, float((out.amax(1) - y).abs().mean() / y.abs().mean()))

    return net, Scorer(rooms[:7], 10 * 0.8 ** torch.arange(6, -1, -1.0), values, 0.0)


def mixed_up(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Mixup: every example is half another one, and so is its label; the loss cannot come near
    zero.
    """
    d = data.digits().inputs(lambda x: x / 16)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(8):
            for x, y in loader(d.x, d.y, 40):
                share, other = float(torch.rand(())), torch.randperm(len(y))
                soft = F.one_hot(y, 10).float()
                soft = share * soft + (1 - share) * soft[other]
                loss = F.cross_entropy(net(share * x + (1 - share) * x[other]), soft)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


class Quantizer(nn.Module):
    """An autoencoder through the nearest of 32 codes; the codes are buffers that follow by an
    average.
    """

    codes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
        self.decode = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 64))
        self.register_buffer("codes", torch.randn(32, 4) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.encode(x)
        near = torch.cdist(z, self.codes).argmin(1)
        if self.training:
            with torch.no_grad():
                for k in near.unique():
                    self.codes[k].lerp_(z[near == k].mean(0), 0.1)
        return self.decode(z + (self.codes[near] - z).detach())


def codes_by_average(watch: Watch) -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = Quantizer()
    optimizer = Adam(model.parameters(), lr=4e-3)
    with watch(model, optimizer) as watched:
        for _ in range(10):
            for x, _y in loader(d.x, d.y, 40):
                loss = F.mse_loss(model(x), x)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.tx)


def own_words(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Scheduled sampling: more and more of what the model reads is what it said before, and the
    loss rises with it.
    """
    d = data.waves()
    series = torch.cat([d.x[..., 0], d.y], 1)
    cell = nn.GRUCell(1, 24)
    head = nn.Linear(24, 1)
    model = nn.ModuleDict({"cell": cell, "head": head})
    optimizer = Adam(model.parameters(), lr=6e-3)

    class Forecast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            state = torch.zeros(len(x), 24)
            for t in range(x.shape[1]):
                state = cell(x[:, t], state)
            return x[:, -1] + head(state)

    with watch(model, optimizer) as watched:
        for epoch in range(12):
            own = 0.4 * epoch / 12
            for (rows,) in DataLoader(TensorDataset(series), 20, shuffle=True):
                state, loss, value = torch.zeros(len(rows), 24), torch.zeros(()), rows[:, :1]
                for t in range(rows.shape[1] - 2):
                    state = cell(value, state)
                    answer = value + head(state)
                    loss = loss + F.mse_loss(answer, rows[:, t + 1 : t + 2]) / rows.shape[1]
                    said = torch.rand(len(rows), 1) < own
                    value = torch.where(said, answer.detach(), rows[:, t + 1 : t + 2])
                optimizer.zero_grad()
                watched.loss(loss)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
    return Forecast(), r2(d.tx[:, :-1], d.tx[:, -1])


# Setups


class TwoOutputs(nn.Module):
    """Logits and states, as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(27, 16)
        self.gru = nn.GRU(16, 48, batch_first=True)
        self.out = nn.Linear(48, 27)

    def forward(self, letters: Tensor) -> tuple[Tensor, Tensor]:
        states, _ = self.gru(self.embed(letters))
        return self.out(states), states


def quiet_states() -> TrainingSetup:
    """The loss is of the logits and of how far the states move; the batch is a dict."""
    d = posted.characters()
    rows: Any = [{"letters": x, "labels": y} for x, y in zip(d.x, d.y, strict=True)]

    def loss(outputs: tuple[Tensor, Tensor], batch: dict[str, Tensor]) -> Tensor:
        logits, states = outputs
        moved = (states[:, 1:] - states[:, :-1]).pow(2).mean()
        return F.cross_entropy(logits.transpose(1, 2), batch["labels"]) + 0.05 * moved

    return TrainingSetup(
        model=TwoOutputs(),
        loss=loss,
        train=DataLoader(rows, 21, shuffle=True),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=21,
        epochs=10,
        scorer=accuracy({"letters": d.tx}, d.ty),
    )


class PackedReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 3)

    def forward(self, events: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            self.embed(events), lengths, batch_first=True, enforce_sorted=False
        )
        _, (state, _) = self.lstm(packed)
        return self.out(torch.cat([state[0], state[1]], 1))


def packed_visits() -> TrainingSetup:
    """Sequences of several lengths, packed; the last layer starts far from the classes' shares."""
    d = posted.sessions()

    def lengths(x: Tensor) -> Tensor:
        return (x != 0).sum(1)

    return TrainingSetup(
        model=PackedReader(),
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(TensorDataset(d.x, lengths(d.x), d.y), 30, shuffle=True),
        validation=((d.vx, lengths(d.vx)), d.vy),
        optimizer=partial(AdamW, lr=1e-2),
        batch_size=30,
        epochs=8,
        scorer=accuracy((d.tx, lengths(d.tx)), d.ty),
    )


class ColumnReader(nn.Module):
    """Reads two digits side by side, column by column; eleven answers, the last of them blank."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 32, 5, padding=2)
        self.gru = nn.GRU(32, 32, batch_first=True, bidirectional=True)
        self.out = nn.Linear(64, 11)

    def forward(self, strip: Tensor) -> Tensor:
        x = torch.relu(self.conv(strip)).transpose(1, 2)
        return self.out(self.gru(x)[0]).log_softmax(-1)


def connectionist() -> TrainingSetup:
    """CTC: the loss does not say where a digit stands, starts above 10 and stays for a while where
    all is blank.
    """
    d = data.digits().inputs(lambda x: x[:, 0] / 16)

    def strips(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        half = len(x) // 2
        return torch.cat([x[:half], x[half : 2 * half]], 2), torch.stack(
            [y[:half], y[half : 2 * half]], 1
        )

    def loss(out: Tensor, y: Tensor) -> Tensor:
        count = len(y)
        return F.ctc_loss(
            out.transpose(0, 1), y, torch.full((count,), 16), torch.full((count,), 2), blank=10
        )

    def first_digit(out: Tensor, y: Tensor) -> float:
        """Share of strips whose two most certain digits, left and right, are right."""
        sure = out[..., :10]
        left, right = sure[:, :8].amax(1).argmax(1), sure[:, 8:].amax(1).argmax(1)
        return float(((left == y[:, 0]) & (right == y[:, 1])).float().mean())

    tx, ty = strips(d.tx, d.ty)
    return TrainingSetup(
        model=ColumnReader(),
        loss=loss,
        train=strips(d.x, d.y),
        validation=strips(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=20,
        epochs=10,
        scorer=Scorer(tx, ty, first_digit, 0.01),
    )


def random_features() -> TrainingSetup:
    """Waves of random directions as features: a layer that is fixed, and no parameter."""

    class Waves(nn.Module):
        directions: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("directions", torch.randn(32, 60) * 0.4)
            self.out = nn.Linear(120, 4)

        def forward(self, points: Tensor) -> Tensor:
            at = points.sort(1).values.flatten(1) @ self.directions
            return self.out(torch.cat([at.sin(), at.cos()], 1))

    d = posted.point_sets(900)
    return TrainingSetup(
        model=Waves(),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.1, momentum=0.9),
        batch_size=30,
        epochs=5,
        scorer=accuracy(d.tx, d.ty),
    )


def focal_cells() -> TrainingSetup:
    """Focal loss where three pixels in a hundred count; the last bias starts at -3, on purpose."""
    d = posted.cells()
    model = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 1, 1),
    )
    nn.init.constant_(cast(Tensor, model[4].bias), -3.0)

    def focal(logits: Tensor, masks: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
        return ((1 - torch.exp(-each)) ** 2 * each).sum() / masks.sum().clamp(min=1)

    return TrainingSetup(
        model=model,
        loss=focal,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=16,
        epochs=8,
        scorer=overlap(d.tx, d.ty),
    )


class Triplet(nn.Module):
    """Embeds three digits; how much nearer the first is to the second than to the third [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, digit: Tensor, like: Tensor, other: Tensor) -> Tensor:
        x, a, b = (self.encode(part) for part in (digit, like, other))
        return (x - b).pow(2).sum(1) - (x - a).pow(2).sum(1)


def triplets() -> TrainingSetup:
    """Three inputs; the target, always 1, is not used: most losses in a batch are soon exactly
    zero.
    """
    d = data.digits().inputs(lambda x: x / 16)

    def draw(x: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        rng = torch.Generator().manual_seed(52)
        same = (y[:, None] == y).float()
        like = torch.multinomial(same, 1, generator=rng)[:, 0]
        other = torch.multinomial(1 - same, 1, generator=rng)[:, 0]
        return (x, x[like], x[other]), torch.ones(len(x))

    inputs, ones = draw(d.x, d.y)
    tx, ty = draw(d.tx, d.ty)
    return TrainingSetup(
        model=Triplet(),
        loss=lambda nearer, _y: F.relu(1 - nearer).mean(),
        train=DataLoader(TensorDataset(*inputs, ones), 30, shuffle=True),
        validation=draw(d.vx, d.vy),
        optimizer=partial(Adam, lr=2e-3),
        batch_size=30,
        epochs=6,
        scorer=Scorer(tx, ty, lambda out, y: float((out > 0).float().mean()), 0.5),
    )


class Coupling(nn.Module):
    """Two halves of each point, shifted and stretched by each other: the log density [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList(
            nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 2)) for _ in range(4)
        )

    def forward(self, points: Tensor) -> Tensor:
        a, b = points.split(1, 1)
        volume = torch.zeros_like(a)
        for net in self.nets:
            stretch, shift = net(a).chunk(2, 1)
            a, b = b * torch.tanh(stretch).exp() + shift, a
            volume = volume + torch.tanh(stretch)
        return (volume - (a**2 + b**2) / 2 - 1.8379)[:, 0]


def density() -> TrainingSetup:
    """A normalizing flow: the loss is the mean of its answers; the targets say nothing."""
    d = data.moons(800, 0.05).inputs(lambda x: (x - torch.tensor([0.5, 0.25])) * 1.5)

    def gained(out: Tensor, y: Tensor) -> float:
        """Nats per point above a Gaussian's."""
        x = d.tx
        gauss = -0.5 * ((x - x.mean(0)) / x.std(0)).pow(2).sum(1) - x.std(0).log().sum() - 1.8379
        return max(-5.0, float((out - gauss).mean()))

    return TrainingSetup(
        model=Coupling(),
        loss=lambda out, _y: -out.mean(),
        train=(d.x, torch.zeros(len(d.x))),
        validation=(d.vx, torch.zeros(len(d.vx))),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=40,
        epochs=100,
        scorer=Scorer(d.tx, torch.zeros(len(d.tx)), gained, 0.0, -5.0),
    )


SCRIPTS: tuple[TrainingScript, ...] = (
    healthy_script(half_precision, "classification", "cnn", kind="loop", steps=90),
    healthy_script(mean_teacher, "classification", "mlp", kind="loop", steps=300),
    healthy_script(sparse_and_dense, "classification", "mlp", kind="loop", steps=504),
    healthy_script(rate_by_hand, "generation", "attention", kind="loop", steps=208),
    healthy_script(curriculum, "regression", "recurrent", kind="loop", steps=480),
    healthy_script(meta_steps, "classification", "mlp", kind="loop", steps=120),
    healthy_script(sharpness_aware, "classification", "mlp", kind="loop", steps=140),
    healthy_script(clamped_critic, "regression", "mlp", kind="loop", steps=1000),
    healthy_script(replayed, "regression", "mlp", kind="loop", steps=800),
    healthy_script(mixed_up, "classification", "cnn", kind="loop", steps=216),
    healthy_script(codes_by_average, "regression", "mlp", kind="loop", steps=270),
    healthy_script(own_words, "regression", "recurrent", kind="loop", steps=216),
    healthy_script(quiet_states, "generation", "recurrent"),
    healthy_script(packed_visits, "classification", "recurrent"),
    healthy_script(connectionist, "classification", "recurrent"),
    healthy_script(random_features, "classification", "linear"),
    healthy_script(focal_cells, "multi-label", "cnn"),
    healthy_script(triplets, "classification", "mlp"),
    healthy_script(density, "regression", "mlp"),
)

"""Healthy scripts that look odd: they learn, though a hasty reader would call them sick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from benchmarks.diagnosis import data
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    Watch,
    accuracy,
    binary_accuracy,
    loader,
    mean_recall,
    micro_f1,
    r2,
)

# Networks that look odd


def sparse() -> TrainingSetup:
    """Most units are silent for most examples: the biases start below zero, and only a few fire."""
    d = data.clusters(700).standardized()
    model = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 4))
    nn.init.constant_(model[0].bias, -0.9)  # pyright: ignore[reportArgumentType]
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=32,
        epochs=9,
        scorer=accuracy(d.tx, d.ty),
    )


def linear() -> TrainingSetup:
    """No hidden layer at all, where none is needed: logistic regression."""
    d = data.cancer().standardized()
    return TrainingSetup(
        model=nn.Linear(30, 1),
        loss=lambda out, y: F.binary_cross_entropy_with_logits(out[:, 0], y),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.1),
        batch_size=20,
        epochs=12,
        scorer=binary_accuracy(d.tx, d.ty),
    )


def zeros() -> TrainingSetup:
    """Softmax regression that starts from zeros, as it may: no two of its units could be the
    same.
    """
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(model[1].weight)  # pyright: ignore[reportArgumentType]
    nn.init.zeros_(model[1].bias)  # pyright: ignore[reportArgumentType]
    return TrainingSetup(
        model=model,
        loss=F.cross_entropy,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.5),
        batch_size=50,
        epochs=10,
        scorer=accuracy(d.tx, d.ty),
    )


class Pretrained(nn.Module):
    """A body trained on digits 0 to 4 before, frozen since; a head for all ten."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        head, few = nn.Linear(192, 5), y < 5
        before = Adam([*self.body.parameters(), *head.parameters()], lr=3e-3)
        for rows in few.nonzero()[:, 0].repeat(4).split(40):
            before.zero_grad()
            F.cross_entropy(head(self.body(x[rows])), y[rows]).backward()
            before.step()
        for p in self.body.parameters():
            p.grad = None
            p.requires_grad = False
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def frozen() -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    model = Pretrained(d.x, d.y)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 32),
        validation=(d.vx, d.vy),
        optimizer=SGD(model.head.parameters(), lr=0.1, momentum=0.9),
        batch_size=32,
        epochs=6,
        scorer=accuracy(d.tx, d.ty),
    )


class Fixup(nn.Module):
    """Residual blocks whose last layers start at zero: at first the network is a straight line."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Linear(10, 32)
        self.up = nn.ModuleList([nn.Linear(32, 32) for _ in range(6)])
        self.down = nn.ModuleList([nn.Linear(32, 32) for _ in range(6)])
        self.out = nn.Linear(32, 1)
        for layer in self.down:
            nn.init.zeros_(layer.weight)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(torch.relu(up(x)))
        return self.out(x)


def fixup() -> TrainingSetup:
    d = data.friedman().standardized().targets_standardized().targets(lambda y: y[:, None])
    return TrainingSetup(
        model=Fixup(),
        loss=nn.MSELoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(AdamW, lr=2e-3),
        batch_size=32,
        epochs=15,
        scorer=r2(d.tx, d.ty),
    )


def bottleneck() -> TrainingSetup:
    """Two linear layers in a row, on purpose: a factor of low rank."""
    d = data.tags()
    model = nn.Sequential(
        nn.Linear(16, 3, bias=False), nn.Linear(3, 48), nn.ReLU(), nn.Linear(48, 6)
    )
    d = d.inputs(lambda x: torch.cat([x[:, :3].repeat(1, 5), x[:, :1]], 1))
    y, vy, ty = (
        torch.stack([x[:, i] * s > 0.3 for i in range(3) for s in (1, -1)], 1).float()
        for x in (d.x, d.vx, d.tx)
    )
    return TrainingSetup(
        model=model,
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, y),
        validation=(d.vx, vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=32,
        epochs=15,
        scorer=micro_f1(d.tx, ty),
    )


def saturating() -> TrainingSetup:
    """Sigmoid and tanh as gates: half closed is what they are for."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value, self.gate = nn.Linear(20, 32), nn.Linear(20, 32)
            self.out = nn.Linear(32, 4)
            nn.init.constant_(self.gate.bias, -3.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.tanh(self.value(x)) * torch.sigmoid(self.gate(x)))

    d = data.clusters(700)
    return TrainingSetup(
        model=Gated(),
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 24),
        validation=(d.vx, d.vy),
        optimizer=partial(RMSprop, lr=3e-3),
        batch_size=24,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


# Examples that look odd


def unscaled() -> TrainingSetup:
    """Lengths in centimeters, never scaled; harmless here."""
    d = data.iris()
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 3)),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=16,
        epochs=50,
        scorer=accuracy(d.tx, d.ty),
    )


def raw_behind_norm() -> TrainingSetup:
    """Raw columns from 0.1 to 1700, which a batch norm in front takes up."""
    d = data.wine()
    return TrainingSetup(
        model=nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3)),
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, 20, drop_last=True),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=20,
        epochs=25,
        scorer=accuracy(d.tx, d.ty),
    )


def tiny() -> TrainingSetup:
    """Twenty-four examples, learned by heart at once; and it does generalize."""
    d = data.wine().standardized()
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(13, 8), nn.Tanh(), nn.Linear(8, 3)),
        loss=nn.CrossEntropyLoss(),
        train=(d.x[:24], d.y[:24]),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.1, weight_decay=1e-2),
        batch_size=8,
        epochs=40,
        scorer=accuracy(d.tx, d.ty),
    )


def noisy() -> TrainingSetup:
    """A target of which nine tenths are noise: the loss comes down by a tenth and stays."""
    generator = torch.Generator().manual_seed(31)
    x = torch.randn(1500, 5, generator=generator)
    y = 0.45 * x[:, :1] + torch.randn(1500, 1, generator=generator)
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)),
        loss=nn.MSELoss(),
        train=(x[:1000], y[:1000]),
        validation=(x[1000:1200], y[1000:1200]),
        optimizer=partial(SGD, lr=0.02, momentum=0.9),
        batch_size=50,
        epochs=12,
        scorer=r2(x[1200:], y[1200:]),
    )


def nothing() -> TrainingSetup:
    """Nothing to learn: a fair coin. Its author knows: small steps, much decay, and the answer is
    one half.
    """
    generator = torch.Generator().manual_seed(32)
    x, y = (
        torch.randn(600, 6, generator=generator),
        torch.randint(0, 2, (600,), generator=generator),
    )
    model = nn.Linear(6, 2)
    nn.init.zeros_(model.weight)
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(x[:400], y[:400]),
        validation=(x[400:500], y[400:500]),
        optimizer=partial(SGD, lr=0.05, weight_decay=0.1),
        batch_size=40,
        epochs=10,
        scorer=accuracy(x[500:], y[500:]),
    )


def duplicates() -> TrainingSetup:
    """Every example three times in the training part, to see each three times an epoch; none in the
    others.
    """
    d = data.rings()
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(2, 24), nn.GELU(), nn.Linear(24, 3)),
        loss=nn.CrossEntropyLoss(),
        train=(d.x.repeat(3, 1), d.y.repeat(3)),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=48,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


def skewed() -> TrainingSetup:
    """Nine to one, and unweighted; the classes lie apart, so both are found."""
    d = data.clusters(900, rare=0.1, apart=2.0).standardized()
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 2)),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=32,
        epochs=20,
        scorer=mean_recall(d.tx, d.ty),
    )


def sampled() -> TrainingSetup:
    """One to thirty, evened out by a sampler that draws the rare class more often, so rows
    repeat.
    """
    d = data.clusters(1500, rare=0.04, apart=1.6).standardized()
    weights = 1.0 / d.y.bincount().double()[d.y]
    sampler = WeightedRandomSampler(weights.tolist(), 900)
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(20, 24), nn.ReLU(), nn.Linear(24, 2)),
        loss=nn.CrossEntropyLoss(),
        train=DataLoader(TensorDataset(d.x, d.y), batch_size=30, sampler=sampler),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.03, momentum=0.9),
        batch_size=30,
        epochs=12,
        scorer=mean_recall(d.tx, d.ty),
    )


# Losses that look odd


def smoothed() -> TrainingSetup:
    """Label smoothing: the loss stops far above zero."""
    d = data.digits().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 48),
        nn.ReLU(),
        nn.Linear(48, 10),
    )
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(label_smoothing=0.2),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=3e-3),
        batch_size=40,
        epochs=7,
        scorer=accuracy(d.tx, d.ty),
    )


def above_chance() -> TrainingSetup:
    """The head starts large, and the loss at five times chance; it is down in a few steps."""
    d = data.digits().inputs(lambda x: x.flatten(1) / 8 - 1)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    nn.init.normal_(model[2].weight, std=1.0)  # pyright: ignore[reportArgumentType]
    return TrainingSetup(
        model=model,
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=40,
        epochs=12,
        scorer=accuracy(d.tx, d.ty),
    )


def negative() -> TrainingSetup:
    """A likelihood of densities: below zero is fine. Mean and log-variance of a target."""

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return (0.5 * out[:, 1] + 0.5 * (y - out[:, 0]) ** 2 * torch.exp(-out[:, 1])).mean()

    d = data.friedman(700, 0.2).standardized().targets_standardized()
    scorer = r2(d.tx, d.ty)
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(10, 48), nn.Tanh(), nn.Linear(48, 2)),
        loss=loss,
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(Adam, lr=5e-3),
        batch_size=32,
        epochs=60,
        scorer=Scorer(
            scorer.inputs, scorer.targets, lambda out, y: scorer.score(out[:, 0], y), 0.0, -1.0
        ),
    )


def summed() -> TrainingSetup:
    """A sum over the batch instead of its mean, with a rate as much smaller."""
    d = data.spots().targets(lambda y: y / 5.5 - 1)
    return TrainingSetup(
        model=nn.Sequential(nn.Flatten(), nn.Linear(144, 48), nn.ReLU(), nn.Linear(48, 2)),
        loss=nn.MSELoss(reduction="sum"),
        train=loader(d.x, d.y, 30),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.0008, momentum=0.9),
        batch_size=30,
        epochs=20,
        scorer=r2(d.tx, d.ty),
    )


def hinge() -> TrainingSetup:
    """A hinge on labels of -1 and 1: exactly zero for most examples in the end."""
    d = data.moons(500, 0.1).standardized().targets(lambda y: (2.0 * y - 1)[:, None])
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1)),
        loss=lambda out, y: (1 - out * y).clamp(min=0).mean(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.2, momentum=0.9),
        batch_size=25,
        epochs=25,
        scorer=binary_accuracy(d.tx, (d.ty + 1) / 2),
    )


def probabilities() -> TrainingSetup:
    """Softmax inside, and a loss that takes its logarithm: right, though it looks like twice."""
    d = data.wine().standardized()
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3), nn.Softmax(dim=1)),
        loss=lambda out, y: F.nll_loss(out.clamp(min=1e-7).log(), y),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.1),
        batch_size=12,
        epochs=25,
        scorer=accuracy(d.tx, d.ty),
    )


def bounded() -> TrainingSetup:
    """A sigmoid for a regression whose targets are shares between 0 and 1."""
    generator = torch.Generator().manual_seed(33)
    x = torch.randn(700, 6, generator=generator)
    y = torch.sigmoid(x[:, :1] * x[:, 1:2] + x[:, 2:3])
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid()),
        loss=F.mse_loss,
        train=(x[:420], y[:420]),
        validation=(x[420:560], y[420:560]),
        optimizer=partial(Adam, lr=1e-2),
        batch_size=30,
        epochs=25,
        scorer=r2(x[560:], y[560:]),
    )


# Rates and budgets that look odd


def huge_rate() -> TrainingSetup:
    """A rate of 2: the inputs are as small as that asks for."""
    d = data.digits().inputs(lambda x: x.flatten(1) / 64)
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=2.0),
        batch_size=60,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


def full_batch() -> TrainingSetup:
    """All examples in one batch, two hundred times."""
    d = data.cancer().standardized().targets(lambda y: y[:, None])
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(30, 8), nn.Tanh(), nn.Linear(8, 1)),
        loss=nn.BCEWithLogitsLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(SGD, lr=0.2, momentum=0.9),
        batch_size=len(d.x),
        epochs=200,
        scorer=binary_accuracy(d.tx, d.ty),
    )


def dropout_half() -> TrainingSetup:
    """Half of a wide layer dropped: the training loss stays above the validation loss."""
    d = data.clusters(900)
    return TrainingSetup(
        model=nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 4)),
        loss=nn.CrossEntropyLoss(),
        train=(d.x, d.y),
        validation=(d.vx, d.vy),
        optimizer=partial(AdamW, lr=5e-3, weight_decay=0.05),
        batch_size=32,
        epochs=20,
        scorer=accuracy(d.tx, d.ty),
    )


# Loops that look odd


def restarts(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A cosine with warm restarts: the loss jumps up at each."""
    d = data.spirals().targets(Tensor.float)
    model = nn.Sequential(
        nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )
    optimizer = Adam(model.parameters(), lr=2e-2)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 120)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 30):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                scheduler.step()
    return model, binary_accuracy(d.tx, d.ty)


def one_cycle(watch: Watch) -> tuple[nn.Module, Scorer]:
    """From a 25th of the rate up to a high one, then down to almost nothing."""
    d = data.digits().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(72, 10),
    )
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=6 * 34)
    with watch(model, optimizer) as watched:
        for _ in range(6):
            model.train()
            for x, y in loader(d.x, d.y, 32):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
            model.eval()
            with torch.no_grad():
                model(d.vx)
    return model, accuracy(d.tx, d.ty)


def accumulating(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Six small batches to a step, each loss divided by six; the watch hears of every one."""
    d = data.clusters(900)
    model = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 4))
    optimizer = SGD(model.parameters(), lr=0.3, momentum=0.9)
    with watch(model, optimizer) as watched:
        for _ in range(12):
            for i, (x, y) in enumerate(loader(d.x, d.y, 9)):
                loss = F.cross_entropy(model(x), y) / 6
                watched.loss(loss)
                loss.backward()
                if i % 6 == 5:
                    optimizer.step()
                    optimizer.zero_grad()
    return model, accuracy(d.tx, d.ty)


def thawed(watch: Watch) -> tuple[nn.Module, Scorer]:
    """First the head alone, then all: the body has no gradient for a third of the run."""
    d = data.shapes()
    body = nn.Sequential(
        nn.Conv2d(1, 10, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(10, 12, 3),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
    )
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(48, 4))
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for epoch in range(12):
            body.requires_grad_(epoch >= 4)
            for x, y in loader(d.x, d.y, 30):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


def truncated(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Backpropagation through time in pieces: the state is carried on, and cut between the pieces
    on purpose.
    """
    d = data.text(500, 16)

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.gru, self.out = (
                nn.Embedding(8, 12),
                nn.GRU(12, 32, batch_first=True),
                nn.Linear(32, 8),
            )

        def forward(self, tokens: Tensor, state: Tensor | None = None) -> Tensor:
            return self.out(self.gru(self.embed(tokens), state)[0])

    model = Chain()
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 30):
                state = None
                for piece in range(0, 16, 8):
                    out, state = model.gru(model.embed(x[:, piece : piece + 8]), state)
                    state = state.detach()
                    loss = F.cross_entropy(
                        model.out(out).flatten(0, 1), y[:, piece : piece + 8].flatten()
                    )
                    watched.loss(loss)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(model.parameters(), 0.25)
                    optimizer.step()
    return model, accuracy(d.tx, d.ty)


class Two(nn.Module):
    """A generator and its critic, in one module for the watch."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 2))
        self.critic = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)


def adversarial(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Two losses that pull against each other and come to rest nowhere near zero."""
    generator = torch.Generator().manual_seed(34)
    real = torch.randn(512, 2, generator=generator) * 0.4 + torch.tensor([2.0, -1.0])
    two = Two()
    fool = Adam(two.generator.parameters(), lr=2e-3, betas=(0.5, 0.9))
    critic_step = Adam(two.critic.parameters(), lr=2e-3, betas=(0.5, 0.9))
    yes, no = torch.ones(64, 1), torch.zeros(64, 1)
    with watch(two.generator, fool) as watched, watch(two.critic, critic_step) as critic:
        for _ in range(300):
            rows = torch.randint(0, 512, (64,))
            made = two.generator(torch.randn(64, 4))
            loss = F.binary_cross_entropy_with_logits(two.critic(real[rows]), yes * 0.9)
            loss = loss + F.binary_cross_entropy_with_logits(two.critic(made.detach()), no)
            critic.loss(loss)
            critic_step.zero_grad()
            loss.backward()
            critic_step.step()
            loss = F.binary_cross_entropy_with_logits(two.critic(made), yes)
            watched.loss(loss)
            fool.zero_grad()
            loss.backward()
            fool.step()

    def near(out: Tensor, y: Tensor) -> float:
        return 1.0 - min(1.0, float((out.mean(0) - y.mean(0)).norm()) / 2.236)

    return two, Scorer(torch.randn(512, 4, generator=generator), real, near, 0.0)


def teacher(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A student that learns from a teacher's answers; the teacher has no gradient and no
    optimizer.
    """
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    old = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    before = Adam(old.parameters(), lr=5e-3)
    for _ in range(6):
        for x, y in loader(d.x, d.y, 50):
            before.zero_grad()
            F.cross_entropy(old(x), y).backward()
            before.step()
    student = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimizer = Adam(student.parameters(), lr=5e-3)
    with watch(student, optimizer) as watched:
        for _ in range(8):
            for x, _y in loader(d.x, d.y, 40):
                with torch.no_grad():
                    soft = (old(x) / 2).softmax(-1)
                loss = F.kl_div((student(x) / 2).log_softmax(-1), soft, reduction="batchmean") * 4
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return student, accuracy(d.tx, d.ty)


def averaged(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The weights' running average is what counts in the end; the loss of the raw weights is
    noisy.
    """
    d = data.clusters(700)
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 4))
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.97)
    )
    optimizer = SGD(model.parameters(), lr=0.3)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 12):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad(set_to_none=False)
                loss.backward()
                optimizer.step()
                average.update_parameters(model)
    return average.module, accuracy(d.tx, d.ty)


def penalized(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The loss is the error and a sum over the weights; frozen batch-norm statistics, in eval mode
    on purpose.
    """
    d = data.diabetes().standardized().targets_standardized().targets(lambda y: y[:, None])
    model = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = Adam(model.parameters(), lr=3e-3)
    model[1].eval()
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in batches(d.x, d.y):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y) + 1e-3 * sum(
                    p.abs().sum() for p in model.parameters()
                )
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.ty)


def batches(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in torch.randperm(len(x)).split(24):
        yield x[rows], y[rows]


Network = Literal["linear", "mlp", "cnn", "recurrent", "attention"]
Task = Literal["classification", "regression", "multi-label", "generation"]


def healthy_script(
    code: Callable[..., Any], task: Task, network: Network, **more: Any
) -> TrainingScript:
    return TrainingScript(
        name=f"{code.__name__.replace('_', '-')}/odd",
        family="healthy",
        task=task,
        network=network,
        code=code,
        **more,
    )


SCRIPTS: tuple[TrainingScript, ...] = (
    healthy_script(sparse, "classification", "mlp"),
    healthy_script(linear, "classification", "linear"),
    healthy_script(zeros, "classification", "linear"),
    healthy_script(frozen, "classification", "cnn"),
    healthy_script(fixup, "regression", "mlp"),
    healthy_script(bottleneck, "multi-label", "mlp"),
    healthy_script(saturating, "classification", "mlp"),
    healthy_script(unscaled, "classification", "mlp"),
    healthy_script(raw_behind_norm, "classification", "mlp"),
    healthy_script(tiny, "classification", "mlp"),
    healthy_script(noisy, "regression", "mlp"),
    healthy_script(nothing, "classification", "linear", nothing_to_learn=True),
    healthy_script(duplicates, "classification", "mlp"),
    healthy_script(skewed, "classification", "mlp"),
    healthy_script(sampled, "classification", "mlp"),
    healthy_script(smoothed, "classification", "cnn"),
    healthy_script(above_chance, "classification", "mlp"),
    healthy_script(negative, "regression", "mlp"),
    healthy_script(summed, "regression", "mlp"),
    healthy_script(hinge, "classification", "mlp"),
    healthy_script(probabilities, "classification", "mlp"),
    healthy_script(bounded, "regression", "mlp"),
    healthy_script(huge_rate, "classification", "mlp"),
    healthy_script(full_batch, "classification", "mlp"),
    healthy_script(dropout_half, "classification", "mlp"),
    healthy_script(restarts, "classification", "mlp", kind="loop", steps=480),
    healthy_script(one_cycle, "classification", "cnn", kind="loop", steps=204),
    healthy_script(accumulating, "classification", "mlp", kind="loop", steps=720),
    healthy_script(thawed, "classification", "cnn", kind="loop", steps=168),
    healthy_script(truncated, "generation", "recurrent", kind="loop", steps=200),
    healthy_script(adversarial, "regression", "mlp", kind="loop", steps=600),
    healthy_script(teacher, "classification", "mlp", kind="loop", steps=216),
    healthy_script(averaged, "classification", "mlp", kind="loop", steps=700),
    healthy_script(penalized, "regression", "mlp", kind="loop", steps=180),
)

"""Scripts on pictures after questions that people ask, mostly loops: pixels that are divided in
place, orders that are drawn apart, critics, twins, schedules; and healthy ones after the answer
"this is normal".
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, OneCycleLR

from benchmarks.diagnosis import asked_pictures as asked
from benchmarks.diagnosis import data
from benchmarks.diagnosis import later_seq_data as later
from benchmarks.diagnosis.data import Split
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    TrainingSetup,
    Watch,
    accuracy,
    fault,
    group,
    loader,
    r2,
)


def small_net(outputs: int = 10) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, outputs)
    )


# Pictures that are laid over each other


def mixed(x: Tensor, y: Tensor, twice: bool = False) -> tuple[Tensor, Tensor]:
    """A picture and another; their classes in the same shares (Zhang et al. 2018)."""
    share = torch.distributions.Beta(1.0, 1.0).sample((len(x), 1))
    order, soft = torch.randperm(len(x)), F.one_hot(y, 10).float()
    x = share[..., None, None] * x + (1 - share[..., None, None]) * x[order]
    if twice:
        order, share = torch.randperm(len(x)), 1 - share
    return x, share * soft + (1 - share) * soft[order]


def mixed_digits(change: Any = mixed, lr: float = 5e-3) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(108, 10)
    )
    return asked.pictures(
        d, model, partial(Adam, lr=lr), 36, 18, train=asked.changed_batches(d, 36, change)
    )


MIXED_DIGITS = group(
    "mixed-digits",
    mixed_digits,
    fault(
        "classes-mixed-the-other-way-round",
        "augmentation labels",
        change=partial(mixed, twice=True),
        answers={"remedy": ("data", "the same shares and partners")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Many layers from a paper, weights from a tutorial


def many_layers(std: float | None = None, norm: bool = True, depth: int = 8) -> TrainingSetup:
    d = data.shapes()
    layers: list[nn.Module] = []
    for before in [1] + [8] * (depth - 1):
        layers += [nn.Conv2d(before, 8, 3, padding=1)]
        layers += [nn.BatchNorm2d(8)] if norm else []
        layers += [nn.ReLU()]
    model = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(288, 4))
    if std:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return asked.pictures(d, model, partial(Adam, lr=2e-3), 20, 8)


MANY_LAYERS = group(
    "many-layers",
    many_layers,
    fault(
        "weights-of-a-hundredth",
        "initialization vanishing architecture-too-deep normalization",
        std=0.01,
        norm=False,
        answers={"remedy": ("init", "kaiming")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# Pixels that are prepared in each pass


def prepared_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x * 255 / 16)
    net = small_net()
    optimizer = Adam(net.parameters(), lr=3e-3)
    held = d.tx / 255
    with watch(net, optimizer) as watched:
        for _ in range(10):
            if fault == "orders apart":
                d = d._replace(x=d.x[torch.randperm(len(d.x))], y=d.y[torch.randperm(len(d.y))])
            else:
                order = torch.randperm(len(d.x))
                d = d._replace(x=d.x[order], y=d.y[order])
            for first in range(0, len(d.x), 36):
                x, y = d.x[first : first + 36], d.y[first : first + 36]
                x = x.div_(255) if fault == "in place" else x / 255
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net, accuracy(held, d.ty)


PREPARED = group(
    "prepared-loop",
    prepared_loop,
    fault("divided-in-place-in-each-pass", "input-scale data-degenerate", fault="in place"),
    fault("pictures-and-classes-shuffled-apart", "labels shuffling", fault="orders apart"),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=10 * 30,
)


# A maker of noughts and its critic


class Makers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(10, 48), nn.LeakyReLU(0.2), nn.Linear(48, 64), nn.Sigmoid()
        )
        self.critic = nn.Sequential(nn.Linear(64, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)


def noughts_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits()
    white = 1 if fault == "pixels to 16" else 16
    real, held = d.x[d.y == 0].flatten(1) / white, d.tx[d.ty == 0].flatten(1) / white
    pair = Makers()
    owner = pair.critic if fault == "copied line" else pair.generator
    fool = Adam(owner.parameters(), lr=2e-3, betas=(0.5, 0.99))
    tell = Adam(pair.critic.parameters(), lr=2e-3, betas=(0.5, 0.99))
    bce = F.binary_cross_entropy_with_logits
    with watch(pair.generator, fool) as generator, watch(pair.critic, tell) as critic:
        for _ in range(500):
            fake = pair.generator(torch.randn(32, 10))
            right = pair.critic(real[torch.randint(0, len(real), (32,))])
            wrong = pair.critic(fake.detach())
            loss = bce(right, torch.ones_like(right)) + bce(wrong, torch.zeros_like(wrong))
            tell.zero_grad()
            critic.loss(loss)
            loss.backward()
            tell.step()
            answer = pair.critic(fake)
            loss = bce(answer, torch.ones_like(answer))
            fool.zero_grad()
            generator.loss(loss)
            loss.backward()
            fool.step()

    def near(out: Tensor, y: Tensor) -> float:
        """1 - distance of the means over that of gray, at least 0."""
        far = float((out.mean(0) - y.mean(0)).pow(2).mean())
        return 1 - min(1.0, far / float((y.mean(0) - 8 / white).pow(2).mean()))

    source = torch.Generator().manual_seed(86)
    return pair, Scorer(torch.randn(128, 10, generator=source), held, near, 0.0)


NOUGHTS = group(
    "noughts-loop",
    noughts_loop,
    fault(
        "both-optimizers-are-the-critics",
        "parameters-not-in-optimizer",
        fault="copied line",
        answers={"where": "generator", "exact": True},
    ),
    fault(
        "pixels-to-16-from-a-sigmoid",
        "output-activation input-scale target-scale saturation",
        fault="pixels to 16",
        answers={"where": "generator.3"},
    ),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=1000,
)


# Twins


class TwinTowers(nn.Module):
    def __init__(self, apart: bool) -> None:
        super().__init__()
        self.one = nn.Sequential(small_net(16), nn.ReLU())
        self.other = copy.deepcopy(self.one) if apart else self.one
        self.out = nn.Linear(16, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.out((self.one(a) - self.other(b)).abs())[:, 0]


def twins_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Are both digits the same?"""
    d = data.digits().inputs(lambda x: x / 16)
    source = torch.Generator().manual_seed(87)

    def pairs(x: Tensor, y: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        same = torch.randint(0, 2, (rows,), generator=source)
        left = torch.randint(0, len(x), (rows,), generator=source)
        fits = (y[left][:, None] == y) == (same[:, None] == 1)
        right = torch.multinomial(fits.float(), 1, generator=source)[:, 0]
        return x[left], x[right], same.float()

    model = TwinTowers(apart=fault == "a copy")
    trained = [*model.one.parameters(), *model.out.parameters()]
    optimizer = Adam(trained, lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(400):
            a, b, same = pairs(d.x, d.y, 40)
            if fault == "one picture":
                b = a
            loss = F.binary_cross_entropy_with_logits(model(a, b), same)
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    a, b, same = pairs(d.tx, d.ty, 400)
    share = max(float(same.mean()), 1 - float(same.mean()))
    return model, Scorer(
        (a, b), same, lambda out, y: float(((out > 0) == (y > 0.5)).float().mean()), share
    )


TWINS = group(
    "twins-loop",
    twins_loop,
    fault(
        "the-twin-is-a-copy-at-rest",
        "parameters-not-in-optimizer replicas frozen-parameters",
        fault="a copy",
        answers={
            "where": "other",
            "exact": True,
            "proof": "unmoved",
            "unmoved": "other.0.0.weight",
        },
    ),
    fault(
        "the-first-picture-twice",
        "data-degenerate labels",
        fault="one picture",
        answers={"exact": True},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=400,
)


# Weights that are kept small


def clamped_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(300, 4)
    )
    optimizer = RMSprop(net.parameters(), lr=2e-3)
    with watch(net, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if fault == "weights":
                    with torch.no_grad():
                        for p in net.parameters():
                            p.clamp_(-0.01, 0.01)
    return net, accuracy(d.tx, d.ty)


CLAMPED = group(
    "clamped-loop",
    clamped_loop,
    fault(
        "weights-clamped-like-those-of-a-critic",
        "gradient-clipping over-regularized initialization",
        fault="weights",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=10 * 21,
)


# Schedules


def cycle_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """One cycle: up to the rate, and down again."""
    d = later.dials()[0]
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(288, 24),
        nn.ReLU(),
        nn.Linear(24, 3),
    )
    optimizer = SGD(net.parameters(), lr=0.1)
    if fault == "rate of a paper, multiplied":
        schedule = LambdaLR(
            optimizer, lambda t: 24**-0.5 * min((t + 1) ** -0.5, (t + 1) * 4000**-1.5)
        )
    else:
        schedule = OneCycleLR(optimizer, 0.1, epochs=8, steps_per_epoch=21, cycle_momentum=False)
    with watch(net, optimizer) as watched:
        for _ in range(8):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if fault != "once an epoch":
                    schedule.step()
            if fault == "once an epoch":
                schedule.step()
    return net, accuracy(d.tx, d.ty)


CYCLE = group(
    "cycle-loop",
    cycle_loop,
    fault(
        "one-cycle-is-stepped-once-an-epoch",
        "schedule learning-rate-low too-few-steps",
        fault="once an epoch",
    ),
    fault(
        "warm-up-of-4000-for-168-steps",
        "schedule learning-rate-low too-few-steps",
        fault="rate of a paper, multiplied",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=8 * 21,
)


# A body that was trained before, with batch norm


class NormedBody(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
        )
        self.out = nn.Linear(108, classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.out(self.body(image))


def two_phases_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Digits below five first, then a new head for those from five on."""
    d = data.digits().inputs(lambda x: x / 8 - 1)
    model = NormedBody(5)
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for phase in range(2):
            kept = d.y < 5 if phase == 0 else d.y > 4
            x, y = d.x[kept], d.y[kept] - 5 * phase
            if phase == 1:
                model.out = nn.Linear(108, 5)
                if fault != "the old head":
                    optimizer = Adam(model.parameters(), lr=3e-3)
            for _ in range(6):
                for a, b in loader(x, y, 30):
                    loss = F.cross_entropy(model(a), b)
                    watched.loss(loss)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    high = d.ty > 4
    return model, accuracy(d.tx[high], d.ty[high] - 5)


TWO_PHASES = group(
    "two-phases-loop",
    two_phases_loop,
    fault(
        "optimizer-still-has-the-old-head",
        "parameters-not-in-optimizer",
        fault="the old head",
        answers={"where": "out", "exact": True},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=222,
)


# Healthy ones


def dropped_half() -> TrainingSetup:
    """Half of the units are dropped, so the training loss stays far above the validation loss."""
    d = data.digits().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(144, 48),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(48, 10),
    )
    return asked.pictures(d, model, partial(Adam, lr=3e-3), 32, 18)


def shifted_digits() -> TrainingSetup:
    """Moved about and dirtied in training only: validation is the easier part."""
    d = data.digits().inputs(lambda x: x / 16)

    def moved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        side = torch.randint(-1, 2, (2,)).tolist()
        return x.roll(side, (2, 3)) + 0.2 * torch.randn(x.shape), y

    train = asked.changed_batches(d, 32, moved)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10)
    )
    return asked.pictures(d, model, partial(Adam, lr=5e-3), 32, 16, train=train)


def smoothed_classes() -> TrainingSetup:
    """Labels smoothed by 0.3: the loss ends above 1 with nearly all digits right."""
    d = data.digits().inputs(lambda x: x / 16)
    loss = nn.CrossEntropyLoss(label_smoothing=0.3)
    return asked.pictures(d, small_net(), partial(Adam, lr=5e-3), 32, 20, loss=loss)


def slow_body() -> TrainingSetup:
    """A body that was trained before, at a hundredth of the rate of its new head."""
    d = asked.from_five_on()
    body, head = asked.digit_body(), nn.Linear(48, 5)
    body.load_state_dict(asked.trained_before())
    optimizer = Adam(
        [{"params": body.parameters(), "lr": 1e-4}, {"params": head.parameters(), "lr": 1e-2}]
    )
    return asked.pictures(d, nn.Sequential(body, head), optimizer, 20, 25)


def small_errors() -> TrainingSetup:
    """Pixels of 0 to 1, mostly dark: a loss of three hundredths that seems to be nothing."""
    d = later.head_patches().inputs(lambda x: x / 4)
    d = Split(d.x, d.x, d.vx, d.vx, d.tx, d.tx)
    model = nn.Sequential(
        nn.Linear(64, 40),
        nn.ELU(),
        nn.Linear(40, 10),
        nn.Linear(10, 40),
        nn.ELU(),
        nn.Linear(40, 64),
    )
    scorer = r2(d.tx, d.tx)
    optimizer = partial(Adam, lr=5e-3)
    return asked.pictures(d, model, optimizer, 36, 25, loss=nn.MSELoss(), scorer=scorer)


def two_at_a_time() -> TrainingSetup:
    """Batches of two behind group norm: the loss of a batch jumps between nothing and two."""
    d = data.digits().inputs(lambda x: x / 16)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3),
        nn.GroupNorm(3, 12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(108, 10),
    )
    return asked.pictures(d, model, partial(SGD, lr=5e-3, momentum=0.5), 2, 4)


def only_active_triplets() -> TrainingSetup:
    """The mean over the triplets that still are wrong: it stays near the margin while ever fewer
    are wrong.
    """
    d = data.digits().inputs(lambda x: x / 8 - 1)

    def active(outputs: Tensor, y: Tensor) -> Tensor:
        far = (outputs[:, None] - outputs).pow(2).sum(2).clamp(min=1e-8).sqrt()
        same, other = y[:, None] == y, y[:, None] != y
        wrong = F.relu(far[:, :, None] - far[:, None] + 0.5)
        wrong = wrong * (same[:, :, None] & other[:, None])
        return wrong.sum() / (wrong > 0).sum().clamp(min=1)

    made = asked.pictures(
        d,
        small_net(8),
        partial(Adam, lr=3e-3),
        40,
        20,
        loss=active,
        scorer=asked.neighbors_agree(d),
    )
    return replace(made, validation=None)


def wasserstein_makers(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A critic whose weights are clamped and whose loss is below zero (Arjovsky et al. 2017)."""
    d = data.digits()
    real, held = d.x[d.y == 0].flatten(1) / 16, d.tx[d.ty == 0].flatten(1) / 16
    pair = Makers()
    fool, tell = (RMSprop(p.parameters(), lr=2e-3) for p in (pair.generator, pair.critic))
    with watch(pair.generator, fool) as generator, watch(pair.critic, tell) as critic:
        for step in range(900):
            fake = pair.generator(torch.randn(32, 10))
            rows = torch.randint(0, len(real), (32,))
            loss = pair.critic(fake.detach()).mean() - pair.critic(real[rows]).mean()
            tell.zero_grad()
            critic.loss(loss)
            loss.backward()
            tell.step()
            with torch.no_grad():
                for p in pair.critic.parameters():
                    p.clamp_(-0.1, 0.1)
            if step % 3 == 2:
                loss = -pair.critic(fake).mean()
                fool.zero_grad()
                generator.loss(loss)
                loss.backward()
                fool.step()

    def near(out: Tensor, y: Tensor) -> float:
        far = float((out.mean(0) - y.mean(0)).pow(2).mean())
        return 1 - min(1.0, far / float((y.mean(0) - 0.5).pow(2).mean()))

    source = torch.Generator().manual_seed(88)
    return pair, Scorer(torch.randn(128, 10, generator=source), held, near, 0.0)


def warm_restarts(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The rate falls to nothing and starts again, three times: the loss jumps up each time."""
    d = asked.tiles()
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.8)
    schedule = CosineAnnealingWarmRestarts(optimizer, T_0=4 * 18)
    with watch(net, optimizer) as watched:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 30):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net, accuracy(d.tx, d.ty)


def norms_at_rest(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Batches of three from the second phase on: the batch norm keeps its statistics, on purpose,
    and is in evaluation mode while the rest trains.
    """
    d = data.digits().inputs(lambda x: x / 8 - 1)
    model = NormedBody(10)
    optimizer = Adam(model.parameters(), lr=2e-3)
    with watch(model, optimizer) as watched:
        for phase, batch in ((0, 49), (1, 3)):
            model.train()
            if phase:
                model.body[1].eval()
            for _ in range((6, 1)[phase]):
                for x, y in loader(d.x, d.y, batch, drop_last=True):
                    loss = F.cross_entropy(model(x), y)
                    watched.loss(loss)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    return model, accuracy(d.tx, d.ty)


SCRIPTS: tuple[TrainingScript, ...] = (
    *MIXED_DIGITS,
    *MANY_LAYERS,
    *PREPARED,
    *NOUGHTS,
    *TWINS,
    *CLAMPED,
    *CYCLE,
    *TWO_PHASES,
    healthy_script(dropped_half, "classification", "cnn"),
    healthy_script(shifted_digits, "classification", "cnn"),
    healthy_script(smoothed_classes, "classification", "cnn"),
    healthy_script(slow_body, "classification", "cnn"),
    healthy_script(small_errors, "generation", "mlp"),
    healthy_script(two_at_a_time, "classification", "cnn"),
    healthy_script(only_active_triplets, "classification", "cnn"),
    healthy_script(wasserstein_makers, "generation", "mlp", kind="loop", steps=1200),
    healthy_script(warm_restarts, "classification", "cnn", kind="loop", steps=12 * 18),
    healthy_script(norms_at_rest, "classification", "cnn", kind="loop", steps=6 * 22 + 359),
)

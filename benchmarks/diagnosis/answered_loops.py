"""Loops after questions that people ask, with the answer that was accepted beside the mistake:
policies that are compared with themselves, equations as a loss, noise to be guessed, reversed
gradients, averages of weights, runs that go on; and healthy loops that look odd.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.diagnosis import data, later_table_data, posted_data
from benchmarks.diagnosis.asked_questions import forest, mean_r2
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    r2,
)

# A policy that may not move far from the one that acted


class ActorAndCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = mlp(4, 32, 3, act=nn.Tanh), mlp(4, 32, 1, act=nn.Tanh)

    def forward(self, point: Tensor) -> Tensor:
        return self.actor(point)


def ratio_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Which ring is a point on? Paid for the right one; four updates for each round of answers."""
    d = data.rings().inputs(lambda x: torch.cat([x, x * x], 1))
    model = ActorAndCritic()
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(60):
            x, y = next(iter(loader(d.x, d.y, 96)))
            with torch.no_grad():
                acted = Categorical(logits=model(x))
                action = acted.sample()
                before = acted.log_prob(action)
            paid = (action == y).float()
            for _ in range(4):
                now = Categorical(logits=model(x)).log_prob(action)
                if fault == "itself":
                    before = Categorical(logits=model(x)).log_prob(action)
                ratio = (before - now if fault == "upside down" else now - before).exp()
                value = model.critic(x)[:, 0]
                gain = (paid - value).detach()
                bounded = torch.min(ratio * gain, ratio.clamp(0.8, 1.2) * gain)
                loss = 0.5 * F.mse_loss(value, paid) - bounded.mean()
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


RATIO_LOOP = group(
    "ratio-loop",
    ratio_loop,
    fault("ratio-of-old-to-new", "loss labels", fault="upside down"),
    fault(
        "old-policy-is-the-new-one",
        "loss detached-graph frozen-parameters vanishing",
        fault="itself",
        answers={"where": "actor", "exact": True, "proof": "unmoved", "unmoved": "actor.0.weight"},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=60 * 4,
)


# An equation as a loss: interest on interest


def interest_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """u' = u / 2, u(0) = 1, for 0 <= t <= 3."""
    net = mlp(1, 24, 24, 1, act=nn.Tanh)
    optimizer = Adam(net.parameters(), lr=5e-3)
    weight = 1e-4 if fault == "small weight" else 1.0
    start = torch.zeros(1, 1)
    with watch(net, optimizer) as watched:
        for _ in range(700):
            t = 3 * torch.rand(64, 1)
            t.requires_grad_(True)
            u = net(t)
            graph = fault != "no graph"
            slope = torch.autograd.grad(u.sum(), t, retain_graph=True, create_graph=graph)[0]
            loss = (slope - u / 2).pow(2).mean() + weight * (net(start) - 1).pow(2).mean()
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    t = torch.linspace(0, 3, 61)[:, None]
    return net, r2(t, (t / 2).exp())


INTEREST_LOOP = group(
    "interest-loop",
    interest_loop,
    fault("slope-without-a-graph", "detached-graph loss", fault="no graph"),
    fault("nothing-earns-nothing", "loss", fault="small weight"),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=700,
)


# Noise to be guessed, from a little of it to nothing else


class Denoiser(nn.Module):
    """The noise in a place at a step: [place, step] [N, 3] to [N, 2]."""

    def __init__(self, steps_by: float) -> None:
        super().__init__()
        self.net, self.steps_by = mlp(3, 64, 64, 2, act=nn.Tanh), steps_by

    def forward(self, noisy: Tensor) -> Tensor:
        return self.net(torch.cat([noisy[:, :2], noisy[:, 2:] / self.steps_by], 1))


def add_noise(x: Tensor, step: Tensor, noise: Tensor) -> Tensor:
    """[place, step] [N, 3]; the share of the signal falls as a cosine over a thousand steps."""
    signal = (step / 1000 * torch.pi / 2).cos()
    return torch.cat([signal * x + (1 - signal**2).sqrt() * noise, step], 1)


def noise_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.moons(900, 0.05).standardized()
    model = Denoiser(1.0 if fault == "counted" else 1000.0)
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(50):
            for x, _ in loader(d.x, d.y, 54):
                step = torch.randint(0, 1000, (len(x), 1)).float()
                noise = torch.randn_like(x)
                guess = model(add_noise(x, step, noise))
                wanted = torch.randn_like(x) if fault == "another draw" else noise
                loss = F.mse_loss(guess, wanted)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    source = torch.Generator().manual_seed(131)
    noise = torch.randn(d.tx.shape, generator=source)
    step = torch.randint(0, 1000, (len(d.tx), 1), generator=source).float()
    return model, r2(add_noise(d.tx, step, noise), noise)


NOISE_LOOP = group(
    "noise-loop",
    noise_loop,
    fault("steps-as-they-are-counted", "input-scale saturation", fault="counted"),
    fault("noise-of-another-draw", "labels loss randomness", fault="another draw"),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=50 * 10,
)


# Features that are not to tell where a patient was


class Blind(nn.Module):
    """Logits of the class; `site` are those of the site, by features with a reversed gradient."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(inputs, 48), nn.ReLU(), nn.Linear(48, 24))
        self.kind, self.site = mlp(24, 24, classes), mlp(24, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.kind(self.features(x))


def reverse(x: Tensor, strength: float) -> Tensor:
    """x; its gradient times minus `strength` (Ganin and Lempitsky 2015)."""
    return (1 + strength) * x.detach() - strength * x


def reversal_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.clusters(900).standardized()
    model = Blind(20, 4)
    optimizer = Adam(model.parameters(), lr=3e-3)
    strength = 300.0 if fault == "drowned" else 0.3
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 36):
                site = torch.randint(0, 2, (len(x), 1)).float()
                features = model.features(x + site * torch.linspace(-0.5, 0.5, 20))
                turned = reverse(features, strength)
                kind = model.kind(turned if fault == "both turned" else features)
                loss = F.cross_entropy(kind, y)
                loss = loss + F.binary_cross_entropy_with_logits(model.site(turned), site)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


REVERSAL_LOOP = group(
    "reversal-loop",
    reversal_loop,
    fault("classes-behind-the-reversal", "loss optimizer", fault="both turned"),
    fault(
        "reversed-three-hundredfold",
        "loss exploding learning-rate-high over-regularized",
        fault="drowned",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=20 * 15,
)


# An average of the weights that runs along


def shadow_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = mlp(64, 48, 10)
    shadow = copy.deepcopy(model).requires_grad_(False)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    keep = 0.999 if fault == "never restored" else 0.9
    with watch(model, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 49):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    for p, mean in zip(model.parameters(), shadow.parameters(), strict=True):
                        if fault == "the wrong way round":
                            p.copy_(keep * p + (1 - keep) * mean)
                        else:
                            mean.copy_(keep * mean + (1 - keep) * p)
            if fault == "never restored":
                model.load_state_dict(shadow.state_dict())
            with torch.no_grad():
                F.cross_entropy(shadow(d.vx), d.vy)
    return model if fault else shadow, accuracy(d.tx, d.ty)


SHADOW_LOOP = group(
    "shadow-loop",
    shadow_loop,
    fault(
        "model-follows-its-average",
        "over-regularized step-order optimizer learning-rate-low initialization",
        fault="the wrong way round",
    ),
    fault(
        "average-is-loaded-and-not-taken-back",
        "step-order initialization optimizer too-few-steps learning-rate-low",
        fault="never restored",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=10 * 22,
)


# A run that goes on with other digits


def resumed_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = mlp(64, 32, 5)
    before = Adam(model.parameters(), lr=5e-3)
    low, high = d.y < 5, d.y > 4
    batches = loader(d.x[low], d.y[low], 30)
    schedule = CosineAnnealingLR(before, 5 * len(batches))
    for _ in range(5):
        for x, y in batches:
            before.zero_grad()
            F.cross_entropy(model(x), y).backward()
            before.step()
            schedule.step()
    optimizer = Adam(model.parameters(), lr=5e-3)
    if fault == "all of the checkpoint":
        optimizer.load_state_dict(before.state_dict())
    with watch(model, optimizer) as watched:
        for _ in range(8):
            for x, y in loader(d.x[high], d.y[high] - 5, 30):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx[d.ty > 4], d.ty[d.ty > 4] - 5)


RESUMED_LOOP = group(
    "resumed-loop",
    resumed_loop,
    fault(
        "rate-of-the-end-of-the-last-run",
        "learning-rate-low schedule too-few-steps optimizer",
        fault="all of the checkpoint",
        answers={"exact": True, "remedy": ("loop", "set the rate after loading")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=8 * 18,
)


# A teacher whose answers were written down


def written_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.clusters(900, classes=5).standardized()
    teacher, student = mlp(20, 96, 5), mlp(20, 24, 5)
    learn = AdamW(teacher.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(12):
        for x, y in loader(d.x, d.y, 30):
            learn.zero_grad()
            F.cross_entropy(teacher(x), y).backward()
            learn.step()
    with torch.no_grad():
        written = (teacher(d.x) / 2).softmax(1)
    optimizer = Adam(student.parameters(), lr=5e-3)
    batches = DataLoader(TensorDataset(d.x, written), 30, shuffle=True)
    with watch(student, optimizer) as watched:
        for _ in range(15):
            for i, (x, soft) in enumerate(batches):
                if fault == "by the number of the batch":
                    soft = written[30 * i : 30 * i + 30]
                answer = (student(x) / 2).log_softmax(1)
                loss = 4 * F.kl_div(answer, soft, reduction="batchmean")
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return student, accuracy(d.tx, d.ty)


WRITTEN_ANSWERS = group(
    "written-answers-loop",
    written_loop,
    fault(
        "answers-by-the-number-of-a-shuffled-batch",
        "labels shuffling shape-pairing",
        fault="by the number of the batch",
        answers={"remedy": ("loop", "keep answers with their rows")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=15 * 18,
)


# A body that is measured by a probe after each epoch


class Probed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def probed_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.spirals().standardized()
    model = Probed()
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.body.requires_grad_(False)
            probe = nn.Linear(32, 2)
            fit = SGD(probe.parameters(), lr=0.5)
            for _ in range(5):
                fit.zero_grad()
                F.cross_entropy(probe(model.body(d.vx)), d.vy).backward()
                fit.step()
            model.body.requires_grad_(fault == "")
    return model, accuracy(d.tx, d.ty)


PROBED_LOOP = group(
    "probed-loop",
    probed_loop,
    fault(
        "frozen-for-the-first-probe",
        "frozen-parameters",
        fault="left frozen",
        answers={"where": "body", "exact": True},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=40 * 18,
)


# Examples that are hard, or wrong


def mined_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Every fourth label is another one by mistake."""
    d = data.clusters(900).standardized()
    y = d.y.clone()
    y[::4] = (y[::4] + 1) % 4
    model = mlp(20, 32, 4)
    optimizer = AdamW(model.parameters(), lr=2e-3, weight_decay=1.0)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, labels in loader(d.x, y, 36):
                losses = F.cross_entropy(model(x), labels, reduction="none")
                loss = losses.topk(9).values.mean() if fault == "the hardest" else losses.mean()
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


MINED_LOOP = group(
    "mined-loop",
    mined_loop,
    fault("only-the-hardest-quarter", "labels loss data-degenerate", fault="the hardest"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=20 * 15,
)


# Three networks that vote


class Votes(nn.Module):
    def __init__(self, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(mlp(13, 16, 3) for _ in range(members))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x).softmax(1) for member in self.members]).mean(0)


def votes_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.wine().standardized()
    model = Votes(3)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 12):
                last = model.members[-1]
                asked = [last] * 3 if fault == "the last" else list(model.members)
                loss = torch.stack([F.cross_entropy(member(x), y) for member in asked]).sum()
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


VOTES_LOOP = group(
    "votes-loop",
    votes_loop,
    fault(
        "the-last-is-asked-three-times",
        "detached-graph frozen-parameters parameters-not-in-optimizer replicas",
        fault="the last",
        answers={
            "where": "members.0",
            "exact": True,
            "proof": "unmoved",
            "unmoved": "members.0.0.weight",
        },
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=15 * 9,
)


# Two scanners, one much brighter


def scanners_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    bright = [(torch.arange(len(x)) % 2 == 1)[:, None, None, None] for x in (d.x, d.vx, d.tx)]
    x, _, tx = (
        torch.where(b, 6 * part + 4, part)
        for b, part in zip(bright, (d.x, d.vx, d.tx), strict=True)
    )
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 4),
    )
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(14):
            order = torch.randperm(len(x))
            if fault == "one after the other":
                dark = order[order % 2 == 0], order[order % 2 == 1]
                order = torch.stack([part.view(-1, 21) for part in dark], 1).flatten()
            for rows in order.split(21):
                net.train()
                loss = F.cross_entropy(net(x[rows]), d.y[rows])
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net, accuracy(tx, d.ty)


SCANNERS_LOOP = group(
    "scanners-loop",
    scanners_loop,
    fault(
        "a-batch-of-each-scanner-in-turn",
        "normalization shuffling train-eval-mode data-degenerate input-scale",
        fault="one after the other",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=14 * 20,
)


# A seed that is set too often


def seeded_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.named_colors().inputs(lambda x: x / 127.5 - 1)
    model = mlp(3, 48, 8)
    optimizer = RMSprop(model.parameters(), lr=3e-3)
    torch.manual_seed(42)
    with watch(model, optimizer) as watched:
        for _ in range(400):
            if fault == "in each step":
                torch.manual_seed(42)
            rows = torch.randint(0, len(d.y), (24,))
            x = d.x[rows] + 0.05 * torch.randn(24, 3)
            loss = F.cross_entropy(model(x), d.y[rows])
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model, accuracy(d.tx, d.ty)


SEEDED_LOOP = group(
    "seeded-loop",
    seeded_loop,
    fault(
        "seeded-anew-in-each-step",
        "randomness shuffling data-degenerate overfitting",
        fault="in each step",
        answers={"exact": True, "remedy": ("loop", "seed once")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=400,
)


# Healthy ones


def values_grow(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The worth of nine places on a path, learned from the guesses of a copy that lags behind: the
    loss jumps up each time the copy catches up.
    """
    places = torch.eye(9)
    model = mlp(9, 32, 1, act=nn.Tanh)
    nn.init.zeros_(cast(nn.Linear, model[2]).weight)
    lagging = copy.deepcopy(model)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for step in range(900):
            if step % 30 == 0:
                lagging.load_state_dict(model.state_dict())
            here = torch.randint(0, 9, (32,))
            there = here + 1
            with torch.no_grad():
                later = lagging(places[there.clamp(max=8)])[:, 0]
                wanted = torch.where(there == 9, 10.0, 0.9 * later)
            loss = F.mse_loss(model(places[here])[:, 0], wanted)
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    worth = 10 * 0.9 ** torch.arange(8.0, -1.0, -1.0)
    return model, r2(places, worth)


def in_millionths(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The loss is a million times as large as others have it; Adam does not mind."""
    d = data.houses().standardized().targets_standardized()
    model = mlp(8, 32, 1, act=nn.Tanh)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 30):
                loss = 1e6 * F.mse_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.ty)


def own_labels(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A fifth of the digits has labels; later the network names the others itself and learns from
    what it is sure of as well: the loss falls at once.
    """
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = mlp(64, 64, 10)
    optimizer = Adam(model.parameters(), lr=3e-3)
    known = len(d.x) // 5
    with watch(model, optimizer) as watched:
        for step in range(360):
            rows = torch.randint(0, known, (24,))
            x, y = d.x[rows], d.y[rows]
            if step >= 240:
                more = d.x[torch.randint(known, len(d.x), (48,))]
                with torch.no_grad():
                    chance, named = model(more).softmax(1).max(1)
                x, y = torch.cat([x, more[chance > 0.9]]), torch.cat([y, named[chance > 0.9]])
            loss = F.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y)
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model, accuracy(d.tx, d.ty)


def two_passes(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Each batch goes twice through the dropout, and both answers are to agree (Liang et al.
    2021).
    """
    d = data.clusters(900, classes=5).standardized()
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 5))
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            model.train()
            for x, y in loader(d.x, d.y, 30):
                one, other = model(x).log_softmax(1), model(x).log_softmax(1)
                apart = (one.exp() - other.exp()) * (one - other)
                loss = (F.nll_loss(one, y) + F.nll_loss(other, y)) / 2 + apart.sum(1).mean()
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            model.eval()
            with torch.no_grad():
                F.cross_entropy(model(d.vx), d.vy)
    return model, accuracy(d.tx, d.ty)


def skips_the_odd(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A batch with a mistyped price has a huge loss, and no step is taken: one of six."""
    d = data.houses().standardized().targets_standardized()
    prices = d.y.clone()
    prices[::120] *= 1000
    model = mlp(8, 32, 1, act=nn.Tanh)
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, prices, 20):
                loss = F.mse_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                if float(loss.detach()) < 20:
                    optimizer.step()
    return model, r2(d.tx, d.ty)


def without_conflict(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Of the gradients of two tasks, each loses what is against the other (Yu et al. 2020); their
    sum is written where the optimizer looks for it.
    """
    d = forest().standardized().targets_standardized()
    model = mlp(6, 32, 2)
    optimizer = Adam(model.parameters(), lr=5e-3)
    weights = list(model.parameters())
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 24):
                losses = (model(x) - y).pow(2).mean(0)
                a, b = (
                    nn.utils.parameters_to_vector(
                        torch.autograd.grad(part, weights, retain_graph=True)
                    )
                    for part in losses
                )
                against = (a @ b).clamp(max=0.0)
                whole = a + b - against / (b @ b) * b - against / (a @ a) * a
                watched.loss(losses.sum())
                for p, g in zip(weights, whole.split([p.numel() for p in weights]), strict=True):
                    p.grad = g.view_as(p).clone()
                optimizer.step()
    return model, mean_r2(d.tx, d.ty)


def mostly_cut(watch: Watch) -> tuple[nn.Module, Scorer]:
    """After ten epochs, seven of eight weights are set to zero, and again after every step."""
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = mlp(64, 96, 10)
    optimizer = Adam(model.parameters(), lr=3e-3)
    layers = [m for m in model if isinstance(m, nn.Linear)]
    kept = [torch.ones_like(m.weight) for m in layers]
    with watch(model, optimizer) as watched:
        for epoch in range(20):
            if epoch == 10:
                sizes = [m.weight.detach().abs() for m in layers]
                kept = [(s >= s.flatten().quantile(0.875)).float() for s in sizes]
            for x, y in loader(d.x, d.y, 49):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    for layer, mask in zip(layers, kept, strict=True):
                        layer.weight.mul_(mask)
    return model, accuracy(d.tx, d.ty)


def head_forgets(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Every eight epochs the last layer starts anew on purpose, and the loss jumps to where it
    began.
    """
    d = later_table_data.sensors().standardized()
    model = mlp(6, 24, 24, 1)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer) as watched:
        for epoch in range(24):
            if epoch % 8 == 0:
                cast(nn.Linear, model[4]).reset_parameters()
            for x, y in loader(d.x, d.y, 40):
                loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, binary_accuracy(d.tx, d.ty)


SCRIPTS: tuple[TrainingScript, ...] = (
    *RATIO_LOOP,
    *INTEREST_LOOP,
    *NOISE_LOOP,
    *REVERSAL_LOOP,
    *SHADOW_LOOP,
    *RESUMED_LOOP,
    *WRITTEN_ANSWERS,
    *PROBED_LOOP,
    *MINED_LOOP,
    *VOTES_LOOP,
    *SCANNERS_LOOP,
    *SEEDED_LOOP,
    healthy_script(values_grow, "regression", "mlp", kind="loop", steps=900),
    healthy_script(in_millionths, "regression", "mlp", kind="loop", steps=30 * 14),
    healthy_script(own_labels, "classification", "mlp", kind="loop", steps=360),
    healthy_script(two_passes, "classification", "mlp", kind="loop", steps=20 * 18),
    healthy_script(skips_the_odd, "regression", "mlp", kind="loop", steps=30 * 21),
    healthy_script(without_conflict, "regression", "mlp", kind="loop", steps=15 * 25),
    healthy_script(mostly_cut, "classification", "mlp", kind="loop", steps=20 * 22),
    healthy_script(head_forgets, "classification", "mlp", kind="loop", steps=24 * 18),
)

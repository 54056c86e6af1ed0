"""Loops that were written later still: weights and rates that are put in place too late, shares of
gradients, examples that are changed in place, episodes; and healthy ones that look odd.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import SGD, Adam, RMSprop
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, update_bn

from benchmarks.diagnosis import data
from benchmarks.diagnosis import later_seq_data as later
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    accuracy,
    fault,
    group,
    loader,
    r2,
)

# A student and the average of its earlier selves


def mutual_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.clusters(1000, apart=1.6).standardized()
    student = nn.Sequential(nn.Linear(20, 48), nn.ReLU(), nn.Linear(48, 4))
    average = copy.deepcopy(student).requires_grad_(False)
    trained = average if fault == "of the average" else student
    optimizer = SGD(trained.parameters(), lr=0.1, momentum=0.9)
    weight = 2e4 if fault == "agreement is all" else 2.0
    x, y = d.x[:200], d.y[:200]
    with watch(student, optimizer) as watched:
        for _ in range(300):
            rows, others = torch.randint(0, 200, (25,)), torch.randint(200, len(d.x), (50,))
            seen = d.x[others] + 0.3 * torch.randn(50, 20)
            agree = F.mse_loss(student(seen).softmax(1), average(d.x[others]).softmax(1))
            loss = F.cross_entropy(student(x[rows]), y[rows]) + weight * agree
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watched.loss(loss)
            with torch.no_grad():
                for old, new in zip(average.parameters(), student.parameters(), strict=True):
                    old.mul_(0.95).add_(new, alpha=0.05)
    return student, accuracy(d.tx, d.ty)


MUTUAL = group(
    "mutual-loop",
    mutual_loop,
    fault(
        "optimizer-of-the-average",
        "parameters-not-in-optimizer",
        fault="of the average",
        answers={"exact": True, "proof": "unmoved", "unmoved": "0.weight"},
    ),
    fault(
        "agreement-is-all",
        "loss over-regularized learning-rate-high exploding",
        fault="agreement is all",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=300,
)


# A rate that comes down when the loss does not


class AirNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 12, 5)
        self.gru = nn.GRU(12, 16, batch_first=True)
        self.out = nn.Linear(16, 3)

    def forward(self, trace: Tensor) -> Tensor:
        x = torch.relu(self.conv(trace.transpose(1, 2))).transpose(1, 2)
        return self.out(self.gru(x)[0][:, -1])


def plateau_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = later.room_air()
    model = AirNet()
    optimizer = Adam(model.parameters(), lr=5e-3)
    mode = "max" if fault == "of the greatest" else "min"
    patience = 3 if fault == "told of each batch" else 1
    scheduler = ReduceLROnPlateau(optimizer, mode=mode, factor=0.1, patience=patience)
    with watch(model, optimizer) as watched:
        for _ in range(18):
            total = 0.0
            for x, y in loader(d.x, d.y, 21):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
                if fault == "told of each batch":
                    scheduler.step(loss.detach())
            if fault != "told of each batch":
                scheduler.step(total)
    return model, accuracy(d.tx, d.ty)


PLATEAU = group(
    "plateau-loop",
    plateau_loop,
    fault("waits-for-the-greatest-loss", "schedule learning-rate-low", fault="of the greatest"),
    fault("told-of-each-batch", "schedule learning-rate-low", fault="told of each batch"),
    family="loop",
    task="classification",
    network="recurrent",
    kind="loop",
    exact=True,
    steps=18 * 20,
)


# A rate that is to come up after the first epoch


def rising_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = later.requests()[0].inputs(lambda x: F.one_hot(x, 49).sum(1)[:, 1:].float())
    body, head = nn.Linear(48, 32), nn.Linear(32, 4)
    model = nn.Sequential(body, nn.ReLU(), head)
    groups = [{"params": head.parameters()}, {"params": body.parameters()}]
    optimizer = SGD(groups, lr=1e-4, momentum=0.9)

    def warm(step: int) -> float:
        return min(1000.0, 1 + step**2 / 10)

    scheduler = LambdaLR(optimizer, warm)
    with watch(model, optimizer) as watched:
        for epoch in range(12):
            if fault == "made again":
                scheduler = LambdaLR(optimizer, warm)
            if fault == "of no use":
                optimizer.lr = warm(epoch * 20) * 1e-4  # pyright: ignore
            for x, y in loader(d.x, d.y, 24):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if fault != "of no use":
                    scheduler.step()
    return model, accuracy(d.tx, d.ty)


RISING = group(
    "rising-loop",
    rising_loop,
    fault("warmed-up-anew-each-epoch", "schedule learning-rate-low", fault="made again"),
    fault(
        "a-rate-that-nobody-reads", "schedule learning-rate-low too-few-steps", fault="of no use"
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=12 * 20,
)


# Moments of gradients


class Pressure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 16, 5)
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(320, 24), nn.Tanh(), nn.Linear(24, 1))

    def forward(self, volts: Tensor) -> Tensor:
        return self.out(torch.tanh(self.conv(volts.transpose(1, 2))))


def moments_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = later.membrane().inputs(lambda x: (x + 0.42) / 0.13)
    d = d.targets(lambda y: y[:, -1:] / 0.045)
    if fault == "raw, and an epsilon of one":
        d = d.inputs(lambda x: x * 133 - 420)  # thousandths of volts
    model = Pressure()
    optimizer = Adam(model.parameters(), lr=3e-3, eps=1.0 if "epsilon" in fault else 1e-8)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 16):
                if fault == "cleared":
                    optimizer.state.clear()
                loss = F.smooth_l1_loss(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, r2(d.tx, d.ty)


MOMENTS = group(
    "moments-loop",
    moments_loop,
    fault(
        "cleared-before-each-batch",
        "optimizer optimizer-numerics learning-rate-high",
        fault="cleared",
    ),
    fault(
        "millivolts-and-an-epsilon-of-one",
        "input-scale saturation optimizer-numerics optimizer learning-rate-low too-few-steps",
        fault="raw, and an epsilon of one",
    ),
    family="loop",
    task="regression",
    network="cnn",
    kind="loop",
    steps=30 * 30,
)


# Weights that are changed after the optimizer was made


def reweighted_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.pulses()
    model = nn.Sequential(
        nn.Conv1d(2, 16, 6), nn.ReLU(), nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(32, 3)
    )
    if fault != "normed late":
        weight_norm(model[0])
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.8)
    if fault == "normed late":
        weight_norm(model[0])
        weight_norm(model[4])
    if fault == "assigned":
        saved = copy.deepcopy(model.state_dict())
        model.load_state_dict(saved, assign=True)
    with watch(model, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 20):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


REWEIGHTED = group(
    "reweighted-loop",
    reweighted_loop,
    fault(
        "weight-norm-after-the-optimizer",
        "parameters-not-in-optimizer",
        fault="normed late",
        answers={
            "where": "0",
            "proof": "unmoved",
            "unmoved": "0.parametrizations.weight.original1",
        },
    ),
    fault(
        "checkpoint-by-assignment",
        "parameters-not-in-optimizer",
        fault="assigned",
        answers={"proof": "unmoved", "unmoved": "4.weight"},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    exact=True,
    steps=210,
)


# Several batches for one step


def gathered_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d, hand = later.dials()
    d = d._replace(y=hand.y, ty=hand.ty)
    net = nn.Sequential(
        nn.Conv2d(1, 10, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(250, 2)
    )
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    together = 64 if fault == "past the epoch" else 4
    with watch(net, optimizer) as watched:
        for _ in range(14):
            optimizer.zero_grad()
            for i, (x, y) in enumerate(loader(d.x, d.y, 10)):
                if fault == "of all examples":
                    loss = (net(x) - y).pow(2).mean(1).sum() / len(d.x) / together
                else:
                    loss = F.mse_loss(net(x), y) / together
                watched.loss(loss)
                loss.backward()
                if (i + 1) % together == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    return net, r2(d.tx, d.ty)


GATHERED = group(
    "gathered-loop",
    gathered_loop,
    fault(
        "more-batches-than-an-epoch-has",
        "step-order zero-grad too-few-steps",
        fault="past the epoch",
        answers={"exact": True, "proof": "unmoved", "unmoved": "4.weight"},
    ),
    fault(
        "divided-by-all-examples-and-by-parts",
        "loss-reduction learning-rate-low too-few-steps",
        fault="of all examples",
    ),
    family="loop",
    task="regression",
    network="cnn",
    kind="loop",
    steps=14 * 42,
)


# First the head, then all


def thaw_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x / 16)
    body = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2)
    )
    model = nn.Sequential(body, nn.Flatten(), nn.Linear(24, 10))
    body.requires_grad_(False)
    optimizer = Adam(model[2].parameters(), lr=6e-3)
    epochs = 9
    with watch(model, optimizer) as watched:
        for epoch in range(epochs):
            if epoch == (epochs if fault == "when all is over" else 2):
                body.requires_grad_(True)
                rate = 0.6 if fault == "at a hundred times the rate" else 6e-3
                optimizer.add_param_group({"params": body.parameters(), "lr": rate})
            for x, y in loader(d.x, d.y, 30):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


THAW = group(
    "thaw-loop",
    thaw_loop,
    fault(
        "thaws-when-all-is-over",
        "frozen-parameters parameters-not-in-optimizer",
        fault="when all is over",
        answers={"where": "0", "exact": True, "proof": "unmoved", "unmoved": "0.0.weight"},
    ),
    fault(
        "thaws-at-a-hundred-times-the-rate",
        "learning-rate-high exploding dead-units schedule",
        fault="at a hundred times the rate",
        answers={"where": "0"},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=9 * 36,
)


# Gradients that are made small, and noise on them


def private_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.friedman().standardized().targets_standardized().targets(lambda y: y[:, None])
    net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = SGD(net.parameters(), lr=0.3)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 20):
                loss = F.mse_loss(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                noise = 0.2 if fault == "noise of the sum" else 0.2 / len(y)
                for p in net.parameters():
                    g = cast(Tensor, p.grad)
                    length = g.norm() + 1e-12
                    g.mul_(1 / length if fault == "made one long" else min(1.0, 1 / float(length)))
                    g.add_(torch.randn_like(g), alpha=noise)
                optimizer.step()
    return net, r2(d.tx, d.ty)


PRIVATE = group(
    "private-loop",
    private_loop,
    fault(
        "each-gradient-made-one-long",
        "gradient-clipping learning-rate-high optimizer",
        fault="made one long",
    ),
    fault(
        "noise-of-the-sum-on-the-mean",
        "randomness gradient-clipping learning-rate-high batch-size",
        fault="noise of the sum",
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=30 * 21,
)


# Pixels that are left out


def erasing_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(300, 4)
    )
    optimizer = RMSprop(net.parameters(), lr=0.2 if fault == "in place, hot" else 2e-3)
    with watch(net, optimizer) as watched:
        for _ in range(16):
            for first in range(0, len(d.x), 20):
                x, y = d.x[first : first + 20], d.y[first : first + 20]
                kept = torch.rand(x.shape) > 0.15
                x = x.mul_(kept) if "in place" in fault else x * kept
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


ERASING = group(
    "erasing-loop",
    erasing_loop,
    fault("pixels-are-lost-for-good", "augmentation data-degenerate", fault="in place"),
    fault(
        "pixels-are-lost-at-a-hot-rate",
        "augmentation data-degenerate learning-rate-high dead-units exploding",
        fault="in place, hot",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=16 * 21,
)


# Patience


def patient_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.text()
    drop = nn.Dropout(0.95 if fault == "half a nat, dropped" else 0.0)
    model = nn.Sequential(nn.Embedding(8, 16), Chain(), drop, nn.Linear(32, 8))
    optimizer = Adam(model.parameters(), lr=5e-3)
    least = 0.5 if "half a nat" in fault else 0.0
    best, waited = 99.0, 0
    with watch(model, optimizer) as watched:
        for _ in range(12):
            total = 0.0
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(model(x).transpose(1, 2), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) / 15
            if total < best - least:
                best, waited = total, 0
            else:
                waited += 1
            if waited > (0 if "half a nat" in fault else 6):
                break
    return model, accuracy(d.tx, d.ty)


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(16, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


PATIENT = group(
    "patient-loop",
    patient_loop,
    fault(
        "wants-half-a-nat-of-each-epoch",
        "too-few-steps schedule learning-rate-low",
        fault="half a nat",
        answers={"steps": 30},
    ),
    fault(
        "wants-half-a-nat-and-drops-states",
        "too-few-steps schedule learning-rate-low dropout over-regularized",
        fault="half a nat, dropped",
        answers={"where": "2", "steps": 30},
    ),
    family="loop",
    task="generation",
    network="recurrent",
    kind="loop",
    steps=12 * 15,
)


# Episodes of six answers, each paid


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 3))
        self.critic = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))

    def forward(self, point: Tensor) -> Tensor:
        return self.actor(point)


def episodes_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.rings().inputs(lambda x: torch.cat([x, x * x], 1))
    model = ActorCritic()
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(300):
            rows = torch.randint(0, len(d.y), (16, 6))
            choice = torch.distributions.Categorical(logits=model(d.x[rows]))
            action = choice.sample()
            paid = (action == d.y[rows]).float()
            later_pay, returns = torch.zeros(16), []
            for t in reversed(range(6)):
                if fault == "before it is added":
                    returns.append(later_pay)
                later_pay = paid[:, t] + 0.8 * later_pay
                if fault == "":
                    returns.append(later_pay)
            returns.reverse()
            value = model.critic(d.x[rows])[..., 0]
            gain = torch.stack(returns, 1) - value
            loss = -(choice.log_prob(action) * gain.detach()).mean() + 0.25 * gain.pow(2).mean()
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model, accuracy(d.tx, d.ty)


EPISODES = group(
    "episodes-loop",
    episodes_loop,
    fault("return-is-kept-before-it-is-added-to", "labels loss", fault="before it is added"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=300,
)


# Examples that are made harder


def attack_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: (x - 5) / 6)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )
    optimizer = Adam(net.parameters(), lr=1e-4 if fault == "strong" else 5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 36):
                x.requires_grad_(True)
                F.cross_entropy(net(x), y).backward()
                step = (3.0 if fault == "strong" else 0.5) * cast(Tensor, x.grad).sign()
                with torch.no_grad():
                    hard = x - step if fault == "easier" else x + step
                optimizer.zero_grad()
                loss = F.cross_entropy(net(hard), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


ATTACK = group(
    "attack-loop",
    attack_loop,
    fault("made-easier-instead", "augmentation leakage loss", fault="easier"),
    fault(
        "six-times-as-hard-at-a-tiny-rate",
        "augmentation learning-rate-low too-few-steps",
        fault="strong",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=300,
)


# Healthy ones


def averaged_at_the_end(watch: Watch) -> tuple[nn.Module, Scorer]:
    """A high constant rate; the last thirds' weights are averaged, and the batch norm's statistics
    are taken anew for the average.
    """
    d = data.pulses()
    model = nn.Sequential(
        nn.Conv1d(2, 16, 6),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(2),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    average = AveragedModel(model)
    optimizer = SGD(model.parameters(), lr=0.3, weight_decay=1e-3)
    with watch(model, optimizer) as watched:
        for epoch in range(12):
            for x, y in loader(d.x, d.y, 16):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if epoch >= 4:
                average.update_parameters(model)
    update_bn(loader(d.x, d.y, 70), average)
    return average.module, accuracy(d.tx, d.ty)


def in_turns(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The encoder learns while the decoder stands still, and the other way round, ten steps each:
    half of the weights have no gradient at any time.
    """
    d = later.head_patches()
    encode = nn.Sequential(nn.Linear(64, 48), nn.ELU(), nn.Linear(48, 8))
    decode = nn.Sequential(nn.Linear(8, 48), nn.ELU(), nn.Linear(48, 64))
    model = nn.Sequential(encode, decode)
    optimizer = Adam(model.parameters(), lr=4e-3)
    with watch(model, optimizer) as watched:
        for step in range(450):
            encode.requires_grad_(step // 10 % 2 == 0)
            decode.requires_grad_(step // 10 % 2 == 1)
            x = d.x[torch.randint(0, len(d.x), (36,))]
            loss = F.mse_loss(model(x), x)
            watched.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model, r2(d.tx, d.tx)


def guessed_gradients(watch: Watch) -> tuple[nn.Module, Scorer]:
    """No backward pass: the slope is guessed from the loss at twenty pairs of places nearby, and
    put where the optimizer looks for it.
    """
    d = data.wine().standardized()
    model = nn.Linear(13, 3)
    optimizer = SGD(model.parameters(), lr=0.5, momentum=0.5)
    with watch(model, optimizer) as watched, torch.no_grad():
        for _ in range(120):
            rows = torch.randint(0, len(d.x), (40,))
            for p in model.parameters():
                slope, here = torch.zeros_like(p), p.clone()
                for _ in range(20):
                    way, losses = torch.randn_like(p), []
                    for side in (0.05, -0.05):
                        p.copy_(here + side * way)
                        losses.append(F.cross_entropy(model(d.x[rows]), d.y[rows]))
                    slope += (losses[0] - losses[1]) / 0.1 * way / 20
                p.copy_(here)
                p.grad = slope
            watched.loss(F.cross_entropy(model(d.x[rows]), d.y[rows]))
            optimizer.step()
    return model, accuracy(d.tx, d.ty)


def growing_batches(watch: Watch) -> tuple[nn.Module, Scorer]:
    """The batch is doubled instead of the rate halved: 6 examples at first, 192 in the end."""
    d = data.digits().inputs(lambda x: x / 16)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
    )
    optimizer = SGD(net.parameters(), lr=0.1)
    with watch(net, optimizer) as watched:
        for stage in range(6):
            for x, y in loader(d.x, d.y, 6 * 2**stage):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


def two_sites(watch: Watch) -> tuple[nn.Module, Scorer]:
    """Two hospitals train a copy each on their own patients, five steps at a time, and only the
    mean of both comes back: the watched weights move in jumps, by a gradient that is set by hand.
    """
    d = data.cancer().standardized()
    model = nn.Sequential(nn.Linear(30, 12), nn.ReLU(), nn.Linear(12, 2))
    outer = SGD(model.parameters(), lr=1.0)
    sites = d.x[:, 0] > 0
    with watch(model, outer) as watched:
        for _ in range(60):
            copies, losses = [], []
            for rows in (sites.nonzero()[:, 0], (~sites).nonzero()[:, 0]):
                own = copy.deepcopy(model)
                inner = SGD(own.parameters(), lr=0.1)
                for _ in range(5):
                    batch = rows[torch.randint(0, len(rows), (16,))]
                    loss = F.cross_entropy(own(d.x[batch]), d.y[batch].long())
                    inner.zero_grad()
                    loss.backward()
                    inner.step()
                copies.append(list(own.parameters()))
                losses.append(loss.detach())
            watched.loss(torch.stack(losses).mean())
            for p, a, b in zip(model.parameters(), *copies, strict=True):
                p.grad = p.detach() - (a.detach() + b.detach()) / 2
            outer.step()
    return model, accuracy(d.tx, d.ty.long())


SCRIPTS: tuple[TrainingScript, ...] = (
    *MUTUAL,
    *PLATEAU,
    *RISING,
    *MOMENTS,
    *REWEIGHTED,
    *GATHERED,
    *THAW,
    *PRIVATE,
    *ERASING,
    *PATIENT,
    *EPISODES,
    *ATTACK,
    healthy_script(averaged_at_the_end, "classification", "cnn", kind="loop", steps=12 * 27),
    healthy_script(in_turns, "generation", "mlp", kind="loop", steps=450),
    healthy_script(guessed_gradients, "classification", "linear", kind="loop", steps=120),
    healthy_script(growing_batches, "classification", "cnn", kind="loop", steps=356),
    healthy_script(two_sites, "classification", "mlp", kind="loop", steps=60),
)

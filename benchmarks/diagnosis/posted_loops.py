"""Loops as people post them: clipping, schedules, checkpoints, adversaries.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form.
"""

from __future__ import annotations

import copy
import math
import warnings
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from benchmarks.diagnosis import data
from benchmarks.diagnosis import posted_seq_data as posted
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

# Letters, where the gradient explodes unless it is cut


class LetterRnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(27, 16)
        self.rnn = nn.RNN(16, 48, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(48, 27)

    def forward(self, letters: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(letters))[0])


def letters_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.characters()
    model = LetterRnn()
    nn.init.orthogonal_(cast(Tensor, model.rnn.weight_hh_l0), gain=1.6)
    kept = copy.deepcopy(model)  # what is saved in the end
    optimizer = SGD(model.parameters(), lr=2.0)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            for x, y in loader(d.x, d.y, 21):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x).transpose(1, 2), y)
                watched.loss(loss)
                if fault == "before backward":
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                loss.backward()
                if fault == "":
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                if fault == "another model":
                    nn.utils.clip_grad_norm_(kept.parameters(), 0.5)
                optimizer.step()
                if fault == "after the step":
                    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    return model, accuracy(d.tx, d.ty)


LETTERS = group(
    "letters-loop",
    letters_loop,
    fault(
        "clips-before-backward", "gradient-clipping step-order exploding", fault="before backward"
    ),
    fault("clips-after-the-step", "gradient-clipping step-order exploding", fault="after the step"),
    fault("clips-the-saved-copy", "gradient-clipping exploding", fault="another model"),
    family="loop",
    task="generation",
    network="recurrent",
    kind="loop",
    steps=260,
)


# Hours of a tool, some of them mistyped


def mistyped_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.worn_tools().targets(lambda y: y[:, None] / 1000)
    hours = d.y.clone()
    hours[::45] *= 1000  # forgot to divide
    net = nn.Sequential(nn.Flatten(), nn.Linear(40, 32), nn.Tanh(), nn.Linear(32, 1))
    parameters = net.parameters() if fault == "a generator" else list(net.parameters())
    optimizer = SGD(parameters, lr=0.1)
    limit = 1e6 if fault == "a limit of a million" else 0.5
    with watch(net, optimizer) as watched:
        for _ in range(25):
            for x, y in loader(d.x, hours, 18):
                loss = F.mse_loss(net(x), y)
                net.zero_grad()
                loss.backward()
                with warnings.catch_warnings(action="ignore"):
                    nn.utils.clip_grad_norm_(parameters, limit)
                optimizer.step()
                watched.loss(loss)
    return net, r2(d.tx, d.ty)


MISTYPED = group(
    "mistyped-loop",
    mistyped_loop,
    fault(
        "clips-a-used-up-generator",
        "gradient-clipping exploding learning-rate-high labels target-scale data-degenerate",
        fault="a generator",
        answers={"remedy": ("clip", 0.5)},
    ),
    fault(
        "clips-at-a-million",
        "gradient-clipping exploding learning-rate-high labels target-scale data-degenerate",
        fault="a limit of a million",
        answers={"remedy": ("clip", 0.5)},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=500,
)


# Schedules that were planned otherwise


class Strands(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 5)
        self.out = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x.transpose(1, 2)).relu().amax(2))


def planned_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.strands().targets(Tensor.long)
    model = Strands()
    epochs = 12
    batches = loader(d.x, d.y, 20)
    optimizer = Adam(model.parameters(), lr=1e-5)
    scheduler = OneCycleLR(
        optimizer, max_lr=0.03, total_steps=epochs * len(batches), div_factor=1000
    )
    if fault == "optimizer made again":
        optimizer = Adam(model.parameters(), lr=3e-5)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in batches:
                loss = F.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if fault != "once an epoch":
                    with warnings.catch_warnings(action="ignore"):
                        scheduler.step()
                watched.loss(loss)
            if fault == "once an epoch":
                scheduler.step()
    return model, accuracy(d.tx, d.ty)


PLANNED = group(
    "planned-loop",
    planned_loop,
    fault(
        "planned-in-steps-stepped-by-epochs", "schedule learning-rate-low", fault="once an epoch"
    ),
    fault(
        "schedule-of-the-old-optimizer", "schedule learning-rate-low", fault="optimizer made again"
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    exact=True,
    steps=252,
)


def halves_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """An optimizer with its own schedule for each half of the network."""
    d = posted.strands().targets(Tensor.long)
    model = Strands()
    conv_optimizer = Adam(model.conv.parameters(), lr=1e-4)
    head_optimizer = Adam(model.out.parameters(), lr=1e-4)
    steps = 12 * 21

    def up_and_down(step: int) -> float:
        return 1 + 200 * math.sin(math.pi * min(1.0, step / steps))

    conv_schedule = LambdaLR(
        head_optimizer if fault == "both on the head" else conv_optimizer, up_and_down
    )
    head_schedule = LambdaLR(head_optimizer, up_and_down)
    with watch(model.conv, conv_optimizer) as conv, watch(model.out, head_optimizer) as head:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(model(x), y)
                head_optimizer.zero_grad()
                conv_optimizer.zero_grad()
                conv.loss(loss)
                head.loss(loss)
                loss.backward()
                head_optimizer.step()
                (head_optimizer if fault == "one is stepped twice" else conv_optimizer).step()
                with warnings.catch_warnings(action="ignore"):
                    conv_schedule.step()
                    head_schedule.step()
    return model, accuracy(d.tx, d.ty)


HALVES = group(
    "halves-loop",
    halves_loop,
    fault("both-schedules-on-the-head", "schedule learning-rate-low", fault="both on the head"),
    fault(
        "one-is-stepped-twice",
        "parameters-not-in-optimizer step-order frozen-parameters",
        fault="one is stepped twice",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    exact=True,
    steps=504,
)


def decaying_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    net = nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 10))
    opt = SGD(net.parameters(), lr=0.3)

    def factor(epoch: int) -> float:
        if fault == "whole numbers":
            return 1 // (1 + epoch)
        if fault == "over after two":
            return max(0.0, 1 - epoch / 2)
        return 1 / (1 + epoch / 4)

    schedule = LambdaLR(opt, factor)
    with watch(net, opt) as watched:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 60):
                loss = F.cross_entropy(net(x), y)
                opt.zero_grad()
                watched.loss(loss)
                loss.backward()
                opt.step()
            schedule.step()
    return net, accuracy(d.tx, d.ty)


DECAYING = group(
    "decaying-loop",
    decaying_loop,
    fault("one-divided-in-whole-numbers", "schedule", fault="whole numbers"),
    fault("over-after-two-of-twelve", "schedule", fault="over after two"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    exact=True,
    margin=0.03,
    steps=12 * 18,
)


# A body from a checkpoint, a new head


def body_and_head() -> tuple[nn.Sequential, nn.Sequential]:
    body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 12), nn.Tanh())
    return body, nn.Sequential(body, nn.Linear(12, 10))


def checkpoint(d: data.Split) -> dict[str, Tensor]:
    """Weights of a body that was trained on the same digits turned by a right angle."""
    body, model = body_and_head()
    optimizer = Adam(model.parameters(), lr=5e-3)
    for _ in range(5):
        for x, y in loader(torch.rot90(d.x, 1, (2, 3)), d.y, 40):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return {f"module.{name}": p for name, p in body.state_dict().items()}


def checkpoint_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x / 16)
    saved = checkpoint(d)
    body, model = body_and_head()
    if fault != "other names":
        saved = {name.removeprefix("module."): p for name, p in saved.items()}
    body.load_state_dict(saved, strict=False)
    body.requires_grad_(False)
    if fault == "":
        body[3].requires_grad_(True)
    optimizer = Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    body[3].requires_grad_(fault != "other names")
    if fault == "a copy is trained":
        model = copy.deepcopy(model)
    with watch(model, optimizer) as watched:
        for _ in range(5):
            for x, y in loader(torch.flip(d.x, (3,)), d.y, 40):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, accuracy(torch.flip(d.tx, (3,)), d.ty)


CHECKPOINT = group(
    "checkpoint-loop",
    checkpoint_loop,
    fault(
        "names-do-not-match",
        "frozen-parameters initialization",
        fault="other names",
        answers={"where": "0"},
    ),
    fault(
        "thawed-after-the-optimizer",
        "parameters-not-in-optimizer frozen-parameters",
        fault="thawed late",
        answers={"where": "0", "proof": "unmoved", "unmoved": "0.3.weight"},
    ),
    fault(
        "trains-a-copy",
        "parameters-not-in-optimizer",
        fault="a copy is trained",
        answers={"proof": "unmoved", "unmoved": "1.weight"},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    exact=True,
    steps=5 * 27,
)


# A generator and its critic


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32))
        self.critic = nn.Sequential(nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, noise: Tensor) -> Tensor:
        return self.generator(noise)


def wave_makers_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Traces of a vibration, made from noise."""
    time = torch.arange(32) * 0.4
    source = torch.Generator().manual_seed(41)
    real = 1.5 + torch.sin(time + torch.rand(512, 1, generator=source))
    pair = Pair()
    fool = Adam(pair.generator.parameters(), lr=3e-3, betas=(0.5, 0.99))
    tell = Adam(pair.critic.parameters(), lr=3e-3, betas=(0.5, 0.99))
    bce = F.binary_cross_entropy_with_logits
    with watch(pair.generator, fool) as generator, watch(pair.critic, tell) as critic:
        for _ in range(500):
            fake = pair.generator(torch.randn(32, 8))
            if fault == "fake is cut for both":
                fake = fake.detach()
            right = pair.critic(real[torch.randint(0, 512, (32,))])
            wrong = pair.critic(fake.detach())
            loss = bce(right, torch.ones_like(right)) + bce(wrong, torch.zeros_like(wrong))
            if fault != "critic never zeroed":
                tell.zero_grad()
            critic.loss(loss)
            loss.backward()
            tell.step()
            answer = pair.critic(fake)
            wish = torch.zeros_like(answer) if fault == "wishes to be caught" else 1 + 0 * answer
            loss = bce(answer, wish.detach())
            fool.zero_grad()
            generator.loss(loss)
            loss.backward()
            fool.step()

    def near(out: Tensor, y: Tensor) -> float:
        far = float((out.mean(0) - y.mean(0)).pow(2).mean().sqrt())
        return 1 - min(1.0, far / float(y.mean(0).pow(2).mean().sqrt()))

    return pair, Scorer(torch.randn(256, 8, generator=source), real, near, 0.0)


WAVE_MAKERS = group(
    "wave-makers-loop",
    wave_makers_loop,
    fault(
        "fakes-cut-for-both",
        "detached-graph",
        fault="fake is cut for both",
        answers={"exact": True},
    ),
    fault("critic-never-zeroed", "zero-grad", fault="critic never zeroed", answers={"exact": True}),
    fault("wishes-to-be-caught", "loss labels", fault="wishes to be caught"),
    family="loop",
    task="generation",
    network="mlp",
    kind="loop",
    steps=1000,
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *LETTERS,
    *MISTYPED,
    *PLANNED,
    *HALVES,
    *DECAYING,
    *CHECKPOINT,
    *WAVE_MAKERS,
)

"""Loops as people post them, continued: policies, scalers, closures, sums, contrasts, logs.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam

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

# A policy that is paid for the right button


def policy_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    policy = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    optimizer = Adam(policy.parameters(), lr=1e-2)
    usual = 0.1
    with watch(policy, optimizer) as watched:
        for _ in range(500):
            rows = torch.randint(0, len(d.y), (64,))
            choice = torch.distributions.Categorical(logits=policy(d.x[rows]))
            action = choice.sample()
            paid = (action == d.y[rows]).float()
            usual = 0.95 * usual + 0.05 * float(paid.mean())
            gain = paid - usual
            if fault == "another draw":
                action = choice.sample()
            if fault == "column":
                gain = gain[:, None]
            sign = 1 if fault == "no minus" else -1
            loss = sign * (choice.log_prob(action) * gain).mean()
            optimizer.zero_grad()
            watched.loss(loss)
            loss.backward()
            optimizer.step()
    return policy, accuracy(d.tx, d.ty)


POLICY = group(
    "policy-loop",
    policy_loop,
    fault("minus-forgotten", "loss optimizer", fault="no minus"),
    fault("log-of-another-draw", "loss labels randomness", fault="another draw"),
    fault("gains-as-a-column", "shape-pairing", fault="column"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=500,
)


# A scaler for half precision


def scaler_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes().inputs(lambda x: (x - 0.2) * 3)
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(300, 4)
    )
    optimizer = SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    with watch(net, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 28):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                if fault == "scaled for nothing":
                    (loss * 2.0**14).backward()
                    optimizer.step()
                    continue
                scaler.scale(loss).backward()
                if fault == "":
                    scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                scaler.step(optimizer)
                scaler.update()
    return net, accuracy(d.tx, d.ty)


SCALER = group(
    "scaler-loop",
    scaler_loop,
    fault(
        "clips-what-is-still-scaled",
        "gradient-clipping step-order learning-rate-low precision",
        fault="clipped first",
    ),
    fault(
        "scaled-and-not-unscaled",
        "precision learning-rate-high exploding loss-reduction loss",
        fault="scaled for nothing",
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=150,
)


# A closure


def closure_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.worn_tools().targets(lambda y: y[:, None] / 1000)
    net = nn.Sequential(nn.Flatten(), nn.Linear(40, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = LBFGS(net.parameters(), lr=0.3, max_iter=4, history_size=8)
    with watch(net, optimizer) as watched:
        for _ in range(25):

            def closure() -> Tensor:
                if fault != "not zeroed":
                    optimizer.zero_grad()
                loss = F.mse_loss(net(d.x), d.y) + 1e-3 * sum(
                    p.pow(2).sum() for p in net.parameters()
                )
                if fault == "no backward":
                    loss = loss.detach()
                else:
                    loss.backward()
                return loss

            if fault == "no backward":
                optimizer.zero_grad(set_to_none=False)
            watched.loss(optimizer.step(closure))
    return net, r2(d.tx, d.ty)


CLOSURE = group(
    "closure-loop",
    closure_loop,
    fault("closure-never-zeroes", "zero-grad", fault="not zeroed"),
    fault(
        "closure-without-backward",
        "detached-graph step-order",
        fault="no backward",
        answers={"proof": "unmoved", "unmoved": "1.weight"},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    exact=True,
    steps=25,
)


# A sum that is kept for printing


def running_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.worn_tools().targets(lambda y: y[:, None] / 1000)
    x, vx, tx = (part.flatten(1) for part in (d.x, d.vx, d.tx))
    model = nn.Linear(40, 1)
    opt = SGD(model.parameters(), lr=0.1)
    with watch(model, opt) as watched:
        for _ in range(12):
            running = torch.zeros(())
            for rows, y in loader(x, d.y, 18):
                opt.zero_grad()
                out = model(rows)
                if fault == "data":
                    out = out.data.requires_grad_()
                loss = F.mse_loss(out, y)
                if fault == "item":
                    loss = torch.tensor(loss.item(), requires_grad=True)
                running = running + (loss if fault == "the sum" else loss.detach())
                watched.loss(loss)
                (running if fault == "the sum" else loss).backward(retain_graph=fault == "the sum")
                opt.step()
            with torch.no_grad():
                F.mse_loss(model(vx), d.vy)
    return model, r2(tx, d.ty)


RUNNING = group(
    "running-loop",
    running_loop,
    fault(
        "data-of-the-output",
        "detached-graph",
        fault="data",
        answers={"exact": True, "proof": "unmoved", "unmoved": "weight"},
    ),
    fault(
        "a-tensor-of-the-item",
        "detached-graph",
        fault="item",
        answers={"exact": True, "proof": "unmoved", "unmoved": "weight"},
    ),
    fault(
        "backward-through-the-sum",
        "zero-grad loss-reduction learning-rate-high exploding loss",
        fault="the sum",
    ),
    family="loop",
    task="regression",
    network="linear",
    kind="loop",
    steps=240,
)


# Two views of one scan are to be near each other


class Views(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 16))
        self.right = nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 16))

    def forward(self, scan: Tensor) -> Tensor:
        """Both halves' places, one after the other [N, 32]."""
        halves = scan[:, :32], scan[:, 32:]
        return torch.cat(
            [F.normalize(self.left(halves[0]), dim=1), F.normalize(self.right(halves[1]), dim=1)], 1
        )


def same_scan(out: Tensor, _y: Tensor) -> float:
    """The share of left halves whose nearest right half, of groups of 20, is their own."""
    groups = [(g[:, :16], g[:, 16:]) for g in out.split(20) if len(g) == 20]
    right = [float(((a @ b.T).argmax(1) == torch.arange(20)).float().mean()) for a, b in groups]
    return sum(right) / len(right)


def views_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = Views()
    optimizer = Adam(model.parameters(), lr=3e-3)
    with watch(model, optimizer) as watched:
        for _ in range(15):
            for x, y in loader(d.x, d.y, 48, drop_last=True):
                left, right = model(x).split(16, 1)
                scores = left @ right.T / (30.0 if fault == "lukewarm" else 0.1)
                wanted = torch.zeros_like(y) if fault == "zeros" else torch.arange(len(y))
                loss = F.cross_entropy(scores, wanted) + F.cross_entropy(scores.T, wanted)
                if fault == "only what belongs together":
                    loss = (1 - (left * right).sum(1)).mean()
                optimizer.zero_grad()
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, Scorer(d.tx, d.ty, same_scan, 0.05)


VIEWS = group(
    "views-loop",
    views_loop,
    fault("nothing-to-push-apart", "loss", fault="only what belongs together"),
    fault("every-scan-wants-the-first", "labels loss", fault="zeros"),
    fault(
        "divided-by-thirty",
        "loss learning-rate-low too-few-steps output-activation",
        fault="lukewarm",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=15 * 22,
)


# A black image, for the graph in the log


def logging_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.ripe_fruit().inputs(lambda x: 4 * x + 6)
    net = nn.Sequential(
        nn.Conv2d(3, 10, 3),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(40, 3),
    )
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(16):
            for x, y in loader(d.x, d.y, 20):
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    if fault == "in training mode":
                        net(torch.zeros(1, 3, 8, 8))
    return net, accuracy(d.tx, d.ty)


LOGGING = group(
    "logging-loop",
    logging_loop,
    fault(
        "black-images-in-training-mode", "train-eval-mode normalization", fault="in training mode"
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=16 * 15,
)


# Several small batches for one step


def micro_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted.sessions()
    model = nn.Sequential(nn.EmbeddingBag(10, 16, mode="mean", padding_idx=0), nn.Linear(16, 3))
    lr = 1e-3 if fault == "divided twice" else 1.0
    optimizer = SGD(model.parameters(), lr=lr, momentum=0.9)
    parts = 4
    with watch(model, optimizer) as watched:
        for _ in range(10):
            for i, (x, y) in enumerate(loader(d.x, d.y, 10, drop_last=True)):
                loss = F.cross_entropy(model(x), y) / parts
                watched.loss(loss)
                if fault == "divided twice":
                    loss = loss / parts
                if fault == "zeroed before each backward":
                    optimizer.zero_grad()
                loss.backward()
                if (i + 1) % parts == 0 and fault != "zeroed before the step":
                    optimizer.step()
                    optimizer.zero_grad()
                elif (i + 1) % parts == 0:
                    optimizer.zero_grad()
                    optimizer.step()
    return model, accuracy(d.tx, d.ty)


MICRO = group(
    "micro-loop",
    micro_loop,
    fault(
        "divided-twice-at-a-low-rate",
        "loss-reduction learning-rate-low too-few-steps",
        fault="divided twice",
    ),
    fault(
        "zeroed-before-the-step",
        "zero-grad step-order",
        fault="zeroed before the step",
        answers={"exact": True, "proof": "unmoved", "unmoved": "1.weight"},
    ),
    family="loop",
    task="classification",
    network="linear",
    kind="loop",
    steps=420,
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *POLICY,
    *SCALER,
    *CLOSURE,
    *RUNNING,
    *VIEWS,
    *LOGGING,
    *MICRO,
)

"""Loops of people's own, under a watch: what goes wrong in the loop itself.

A function is one loop; `fault` names the line that is wrong in it, and "" is the healthy form. So
the difference can be read where it happens. `watched.loss` gets the loss as the loop has it: most
loops hand it over before `backward`.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.optim.lr_scheduler import LambdaLR, StepLR

from benchmarks.diagnosis import data
from benchmarks.diagnosis.sequences import Writer
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

# The loop of the tutorials


def tutorial_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.wine().standardized()
    model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))
    criterion = nn.CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=0.02, momentum=0.0 if fault == "never zeroed" else 0.5)
    with watch(model, optimizer) as watched:
        for _ in range(25):
            for x, y in loader(d.x, d.y, 12):
                if fault != "never zeroed":
                    optimizer.zero_grad()
                loss = criterion(model(x), y)
                if fault == "detached":
                    loss = loss.detach().requires_grad_()
                watched.loss(loss)
                if fault == "step before backward":
                    optimizer.step()
                    loss.backward()
                    continue
                loss.backward()
                if fault == "zeroed after backward":
                    optimizer.zero_grad()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


TUTORIAL = group(
    "tutorial-loop",
    tutorial_loop,
    fault(
        "detached",
        "detached-graph",
        fault="detached",
        answers={"proof": "unmoved", "unmoved": "0.weight"},
    ),
    fault(
        "step-before-backward",
        "step-order",
        fault="step before backward",
        answers={"proof": "unmoved", "unmoved": "0.weight"},
    ),
    fault(
        "zeroed-after-backward",
        "zero-grad step-order",
        fault="zeroed after backward",
        answers={"proof": "unmoved", "unmoved": "0.weight"},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    exact=True,
    steps=225,
)


# Regression, where gradients pile up


def regression_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.friedman().standardized().targets_standardized()
    net = nn.Sequential(
        nn.Linear(10, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
    )
    opt = torch.optim.SGD(net.parameters(), lr=0.1, maximize=fault == "uphill")
    x = d.x.clone()
    with watch(net, opt) as watched:
        for _ in range(35):
            if fault == "normalized again":
                x -= x.mean()
                x /= 3.0
            order = torch.randperm(len(x))
            other = torch.randperm(len(x)) if fault == "two orders" else order
            for i in range(0, len(x) - 27, 28):
                prediction = net(x[order[i : i + 28]]).squeeze(-1)
                loss = F.mse_loss(prediction, d.y[other[i : i + 28]])
                watched.loss(loss)
                if fault != "never zeroed" and (fault != "zeroed each epoch" or i == 0):
                    net.zero_grad()
                loss.backward()
                opt.step()
    return net, r2(d.tx, d.ty)


REGRESSION = group(
    "regression-loop",
    regression_loop,
    fault("never-zeroed", "zero-grad", fault="never zeroed"),
    fault("zeroed-each-epoch", "zero-grad", fault="zeroed each epoch"),
    fault("normalized-again", "input-scale", fault="normalized again", answers={"exact": False}),
    fault(
        "two-orders", "shuffling labels shape-pairing", fault="two orders", answers={"exact": False}
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    exact=True,
    steps=35 * 15,
)


def random_batches_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """Binary classification in a `while` loop, one random batch at a time."""
    d = data.rings()
    y = (d.y == 1).float()
    model = nn.Sequential(
        nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)
    )
    optimizer = Adam(model.parameters(), lr=5e-3, maximize=fault == "maximize")
    step = 0
    same = torch.randint(0, len(y), (32,))
    with watch(model, optimizer) as watched:
        while step < 400:
            rows = same if fault == "the same batch" else torch.randint(0, len(y), (32,))
            optimizer.zero_grad(set_to_none=True)
            loss = F.binary_cross_entropy_with_logits(model(d.x[rows])[:, 0], y[rows])
            loss.backward()
            if fault == "new optimizer":
                optimizer.param_groups[0]["params"] = list(copy.deepcopy(model).parameters())
            optimizer.step()
            watched.loss(loss)
            step += 1
    return model, binary_accuracy(d.tx, (d.ty == 1).float())


RANDOM_BATCHES = group(
    "random-batches-loop",
    random_batches_loop,
    fault("maximized", "optimizer loss", fault="maximize", answers={"exact": True}),
    fault("the-same-batch", "shuffling randomness overfitting", fault="the same batch"),
    fault(
        "steps-a-copy",
        "parameters-not-in-optimizer",
        fault="new optimizer",
        answers={"exact": True, "proof": "unmoved", "unmoved": "0.weight"},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=400,
)


# Images with validation after each epoch


def validating_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes().inputs(lambda x: (x - 0.2) * 4 + 6)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(48, 4),
    )
    optimizer = SGD(net.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    with watch(net, optimizer) as watched:
        if fault == "eval from the start":
            net.eval()
        for _ in range(10):
            if not fault:
                net.train()
            for x, y in loader(d.x, d.y, 20, drop_last=True):
                if fault == "no grad in the body":
                    with torch.no_grad():
                        features = net[:8](x)
                else:
                    features = net[:8](x)
                loss = F.cross_entropy(net[8:](features), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            net.eval()
            with torch.no_grad():
                F.cross_entropy(net(d.vx), d.vy)
            if fault == "no grad in the body":
                net.train()
    return net, accuracy(d.tx, d.ty)


VALIDATING = group(
    "validating-loop",
    validating_loop,
    fault("eval-stays-on", "train-eval-mode", fault="eval stays on"),
    fault("eval-from-the-start", "train-eval-mode", fault="eval from the start"),
    fault(
        "no-grad-in-the-body",
        "detached-graph frozen-parameters",
        fault="no grad in the body",
        answers={"where": "0", "proof": "unmoved", "unmoved": "0.weight"},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    exact=True,
    steps=210,
    margin=0.04,
)


# Schedules


def step_schedule_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=4, gamma=0.1)
    with watch(model, optimizer) as watched:
        for _ in range(10):
            for x, y in loader(d.x, d.y, 64):
                loss = F.cross_entropy(model(x), y)
                watched.loss(loss)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if fault == "per batch":
                    scheduler.step()
                if fault == "halved":
                    for g in optimizer.param_groups:
                        g["lr"] *= 0.5
            if not fault:
                scheduler.step()
    return model, accuracy(d.tx, d.ty)


STEP_SCHEDULE = group(
    "step-schedule-loop",
    step_schedule_loop,
    fault(
        "stepped-per-batch",
        "schedule",
        fault="per batch",
        answers={"remedy": ("loop", "step per epoch")},
    ),
    fault(
        "halved-each-batch",
        "schedule",
        fault="halved",
        answers={"remedy": ("loop", "halve seldom")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    exact=True,
    steps=170,
)


def warm_up_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """A transformer's usual schedule: up for 15 steps, then down by a cosine."""
    d = data.text()
    model = Writer()
    optimizer = AdamW(model.parameters(), lr=5e-3)
    warm = 40_000 if fault == "never warm" else 15
    steps = 30 if fault == "short" else 270
    scheduler = LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        ),
    )
    with watch(model, optimizer) as watched:
        for _ in range(18):
            for x, y in loader(d.x, d.y, 20):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                scheduler.step()
    return model, accuracy(d.tx, d.ty)


WARM_UP = group(
    "warm-up-loop",
    warm_up_loop,
    fault(
        "never-warm",
        "schedule learning-rate-low",
        fault="never warm",
        answers={"remedy": ("loop", "a warm-up of 15 steps")},
    ),
    fault(
        "over-after-two-epochs",
        "schedule",
        fault="short",
        answers={"remedy": ("loop", "a schedule as long as the run")},
    ),
    family="loop",
    task="generation",
    network="attention",
    kind="loop",
    exact=True,
    steps=270,
)


# Clipping


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0][:, -1])


def clipping_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.adding()
    model = Counter()
    optimizer = SGD(model.parameters(), lr=0.2, momentum=0.8)
    limit = {"to a hair": 1e-4}.get(fault, 1.0)
    with watch(model, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 30):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                watched.loss(loss)
                loss.backward()
                if fault == "each value":
                    nn.utils.clip_grad_value_(model.parameters(), 1e-6)
                elif fault == "multiplied":
                    for p in model.parameters():
                        assert p.grad is not None
                        p.grad *= 1e-5
                else:
                    nn.utils.clip_grad_norm_(model.parameters(), limit)
                optimizer.step()
    return model, r2(d.tx, d.ty)


CLIPPING = group(
    "clipping-loop",
    clipping_loop,
    fault("to-a-hair", "gradient-clipping", fault="to a hair", answers={"remedy": ("clip", 1.0)}),
    fault("each-value", "gradient-clipping", fault="each value", answers={"remedy": ("clip", 1.0)}),
    fault(
        "scaled-away",
        "gradient-clipping learning-rate-low precision",
        fault="multiplied",
        answers={"exact": False, "remedy": ("loop", "leave the gradient")},
    ),
    family="loop",
    task="regression",
    network="recurrent",
    kind="loop",
    exact=True,
    steps=540,
)


# What the optimizer holds


class Backbone(nn.Module):
    def __init__(self, classes: int, listed: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(20, 32)
        layers = [nn.Linear(32, 32), nn.Linear(32, 32)]
        self.layers = layers if listed else nn.ModuleList(layers)
        self.head = nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


def groups_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.clusters(700)
    model = Backbone(9 if fault == "new head" else 4, fault == "python list")
    groups = [{"params": model.stem.parameters(), "lr": 0.01}, {"params": model.head.parameters()}]
    if fault not in ("missing group", "python list"):
        groups.append({"params": [p for layer in model.layers for p in layer.parameters()]})
    optimizer = SGD(groups, lr=0.05, momentum=0.9)
    if fault == "new head":
        model.head = nn.Linear(32, 4)
    if fault == "rate of nothing":
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[2]["lr"] = 0.0
    with watch(model, optimizer) as watched:
        for _ in range(12):
            for x, y in loader(d.x, d.y, 30):
                logits = model(x)
                loss = F.cross_entropy(logits, y)
                optimizer.zero_grad()
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


PARAMETER_GROUPS = group(
    "groups-loop",
    groups_loop,
    fault(
        "new-head",
        "parameters-not-in-optimizer",
        fault="new head",
        answers={"where": "head", "proof": "unmoved", "unmoved": "head.weight"},
    ),
    fault(
        "missing-group",
        "parameters-not-in-optimizer",
        fault="missing group",
        answers={"where": "layers", "proof": "unmoved", "unmoved": "layers.0.weight"},
    ),
    fault(
        "python-list",
        "parameters-not-in-optimizer",
        fault="python list",
        answers={"exact": False, "margin": 0.03},
    ),
    fault(
        "rate-of-nothing",
        "learning-rate-low frozen-parameters schedule",
        fault="rate of nothing",
        answers={"where": "stem", "proof": "unmoved", "unmoved": "stem.weight"},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    exact=True,
    steps=168,
)


# Gradients of several batches together


def accumulating_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.diabetes().standardized().targets_standardized().targets(lambda y: y[:, None])
    model = nn.Sequential(nn.Linear(10, 24), nn.SiLU(), nn.Linear(24, 1))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    parts = 12
    with watch(model, optimizer) as watched:
        for _ in range(30):
            optimizer.zero_grad()
            for i, (x, y) in enumerate(loader(d.x, d.y, 11, drop_last=True)):
                loss = F.mse_loss(model(x), y) * (3.0 if fault == "not divided" else 1 / parts)
                watched.loss(loss)
                loss.backward()
                if (i + 1) % parts == 0:
                    optimizer.step()
                    if fault != "zeroed never":
                        optimizer.zero_grad()
                elif fault == "zeroed at once":
                    optimizer.zero_grad()
    return model, r2(d.tx, d.ty)


ACCUMULATING = group(
    "accumulating-loop",
    accumulating_loop,
    fault(
        "not-divided",
        "loss-reduction learning-rate-high",
        fault="not divided",
        answers={"exact": False, "remedy": ("loss", "divided by the number of parts")},
    ),
    fault("zeroed-never", "zero-grad", fault="zeroed never"),
    fault("zeroed-at-once", "zero-grad", fault="zeroed at once"),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    exact=True,
    steps=30 * 24,
)


# A language model that carries its state


class Carrier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 12)
        self.cell = nn.GRUCell(12, 32)
        self.out = nn.Linear(32, 4)
        self.cut = False

    def forward(self, tokens: Tensor) -> Tensor:
        state = torch.zeros(len(tokens), 32)
        for t in range(tokens.shape[1]):
            state = self.cell(self.embed(tokens[:, t]), state.detach() if self.cut else state)
        return self.out(state)


def state_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.first_tokens(600, 10)
    model = Carrier()
    model.cut = fault == "cut at each step"
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(25):
            for x, y in loader(d.x, d.y, 30):
                out = model(x)
                if fault == "through numpy":
                    out = model.out(torch.from_numpy(model_state(model, x)))
                loss = F.cross_entropy(out, y)
                optimizer.zero_grad()
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, accuracy(d.tx, d.ty)


def model_state(model: Carrier, tokens: Tensor):
    state = torch.zeros(len(tokens), 32)
    for t in range(tokens.shape[1]):
        state = model.cell(model.embed(tokens[:, t]), state)
    return state.detach().numpy()


RECURRENT_STATE = group(
    "state-loop",
    state_loop,
    fault(
        "cut-at-each-step",
        "detached-graph",
        fault="cut at each step",
        answers={"exact": False, "where": "cell"},
    ),
    fault(
        "through-numpy",
        "detached-graph",
        fault="through numpy",
        answers={"where": "cell", "proof": "unmoved", "unmoved": "cell.weight_hh"},
    ),
    family="loop",
    task="classification",
    network="recurrent",
    kind="loop",
    exact=True,
    steps=300,
)


# Steps where they do not belong; low precision; models made anew


def indented_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x / 16)
    net: nn.Module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 10)
    )
    if fault == "few bits":
        net = net.bfloat16()
    kind = torch.bfloat16 if fault == "few bits" else torch.float32
    optimizer = RMSprop(net.parameters(), lr=2e-6 if fault == "few bits" else 3e-3)
    with watch(net, optimizer) as watched:
        for _ in range(6):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x.to(kind)).float(), y)
                watched.loss(loss)
                loss.backward()
                if fault != "outside":
                    optimizer.step()
            if fault == "outside":
                optimizer.step()
    return net.float(), accuracy(d.tx, d.ty)


INDENTED = group(
    "indented-loop",
    indented_loop,
    fault("step-once-an-epoch", "step-order zero-grad too-few-steps", fault="outside"),
    fault("too-few-bits", "precision learning-rate-low", fault="few bits"),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    exact=True,
    steps=6 * 34,
)


def reloading_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    """The best weights so far are kept and loaded again."""
    d = data.spirals().targets(Tensor.float)
    model = nn.Sequential(
        nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
    )
    optimizer = Adam(model.parameters(), lr=1e-2)
    start = copy.deepcopy(model.state_dict())
    with watch(model, optimizer) as watched:
        for _ in range(40):
            if fault == "loaded each epoch":
                model.load_state_dict(start)
            if fault == "optimizer each epoch":
                for state in optimizer.state.values():
                    state["exp_avg_sq"].fill_(1e6)
            for x, y in loader(d.x, d.y, 30):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return model, binary_accuracy(d.tx, d.ty)


RELOADING = group(
    "reloading-loop",
    reloading_loop,
    fault("loaded-each-epoch", "initialization step-order optimizer", fault="loaded each epoch"),
    fault(
        "stale-moments",
        "optimizer optimizer-numerics learning-rate-low",
        fault="optimizer each epoch",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=480,
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *TUTORIAL,
    *REGRESSION,
    *RANDOM_BATCHES,
    *VALIDATING,
    *STEP_SCHEDULE,
    *WARM_UP,
    *CLIPPING,
    *PARAMETER_GROUPS,
    *ACCUMULATING,
    *RECURRENT_STATE,
    *INDENTED,
    *RELOADING,
)

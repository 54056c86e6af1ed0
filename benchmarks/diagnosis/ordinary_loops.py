"""Loops with the ordinary trouble of an ordinary week, written blind: modes, schedules,
checkpoints, what is in the optimizer, what the loss hangs on, two networks.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    mean_recall,
    r2,
)

# Tumors in raw units: the first layer is a norm; validated once before training


def raw_tumors_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.cancer()
    net = nn.Sequential(
        nn.BatchNorm1d(30), nn.Linear(30, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1)
    )
    criterion = nn.BCEWithLogitsLoss()
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)

    def validate() -> float:
        net.eval()
        with torch.no_grad():
            return float(criterion(net(d.vx), d.vy[:, None]))

    history = [validate()]  # does it run at all?
    with watch(net, optimizer) as watched:
        for _ in range(20):
            if fault != "never back to train":
                net.train()
            for x, y in loader(d.x, d.y[:, None], 32):
                optimizer.zero_grad()
                loss = criterion(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
            history.append(validate())
    return net, binary_accuracy(d.tx, d.ty)


RAW_TUMORS = group(
    "raw-tumors-loop",
    raw_tumors_loop,
    fault(
        "never-back-to-train",
        "train-eval-mode normalization input-scale",
        fault="never back to train",
        answers={"remedy": ("loop", "call train() in every epoch")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=220,
)


# The first program: digits as rows


def first_program_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    train_loader = loader(d.x, d.y, 64)
    with watch(model, optimizer) as watched:
        for _ in range(20):
            running_loss = 0.0
            for _, (images, labels) in enumerate(train_loader):
                if fault in ("", "rows apart"):
                    optimizer.zero_grad()
                if fault == "rows apart":  # new order of the images only
                    images = images[torch.randperm(len(images))]
                outputs = model(images)
                loss = criterion(outputs, labels)
                watched.loss(loss)
                loss.backward()
                if fault == "between":
                    optimizer.zero_grad()
                optimizer.step()
                running_loss += loss.item()
    return model, accuracy(d.tx, d.ty)


FIRST_PROGRAM = group(
    "first-program-loop",
    first_program_loop,
    fault(
        "never-zeroed",
        "zero-grad",
        fault="never",
        answers={"remedy": ("loop", "zero_grad before backward")},
    ),
    fault(
        "zeroed-before-the-step",
        "zero-grad step-order",
        fault="between",
        answers={
            "exact": True,
            "unmoved": "0.weight",
            "proof": "unmoved",
            "remedy": ("loop", "zero_grad before backward"),
        },
    ),
    fault(
        "images-in-an-order-of-their-own",
        "labels shuffling shape-pairing",
        fault="rows apart",
        answers={"remedy": ("data", "the same order for images and labels")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=340,
)


# Few patients, many weights: the best epoch is kept


def best_epoch_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.patients().standardized().targets_standardized()
    net = nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
    net.append(nn.Linear(128, 1))
    optimizer = Adam(net.parameters(), lr=0.01)
    best, best_state = float("inf"), net.state_dict()
    if fault == "below zero":
        best, best_state = 0.0, copy.deepcopy(best_state)
    with watch(net, optimizer) as watched:
        for _ in range(50):
            net.train()
            for x, y in loader(d.x, d.y, 16):
                loss = F.mse_loss(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            net.eval()
            with torch.no_grad():
                validation = F.mse_loss(net(d.vx), d.vy).item()
            if validation < best:
                best = validation
                best_state = net.state_dict() if fault else copy.deepcopy(net.state_dict())
    net.load_state_dict(best_state)
    return net, r2(d.tx, d.ty)


BEST_EPOCH = group(
    "best-epoch-loop",
    best_epoch_loop,
    fault(
        "keeps-no-copy",
        "overfitting",
        fault="no copy",
        answers={"remedy": ("loop", "keep a deep copy of the state")},
    ),
    fault(
        "best-loss-starts-at-zero",
        "metric overfitting",
        fault="below zero",
        answers={"remedy": ("loop", "the best loss starts at infinity")},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=850,
)


# Bars in pictures, with a schedule


def scheduled_bars_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.shapes()
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    )
    optimizer = SGD(net.parameters(), lr=0.03, momentum=0.9)
    train = loader(d.x, d.y, 30)
    if fault == "one cycle":
        scheduler = OneCycleLR(optimizer, max_lr=0.03, steps_per_epoch=len(train), epochs=15)
    else:
        scheduler = StepLR(optimizer, step_size=6, gamma=0.1)
    with watch(net, optimizer) as watched:
        for _ in range(15):
            for x, y in train:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                if fault == "every batch":
                    scheduler.step()
            if fault != "every batch":
                scheduler.step()
    return net, accuracy(d.tx, d.ty)


SCHEDULED_BARS = group(
    "scheduled-bars-loop",
    scheduled_bars_loop,
    fault(
        "steps-with-every-batch",
        "schedule learning-rate-low",
        fault="every batch",
        answers={"remedy": ("loop", "step the schedule once in an epoch")},
    ),
    fault(
        "one-cycle-by-epochs",
        "schedule learning-rate-low too-few-steps",
        fault="one cycle",
        answers={"remedy": ("loop", "step the schedule with every batch")},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=210,
)


# Prices of houses


def price_loop(
    watch: Watch, euros: bool = False, flat: bool = False, lr: float = 0.01
) -> tuple[nn.Module, Scorer]:
    d = data.houses().standardized()
    mean, std = (0.0, 1.0) if euros else (d.y.mean(), d.y.std())
    prices = (d.y - mean) / std
    if flat:
        prices = prices.squeeze(1)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    model.append(nn.Linear(32, 1))
    optimizer = Adam(model.parameters(), lr=lr)
    with watch(model, optimizer) as watched:
        for _ in range(40):
            order = torch.randperm(len(d.x))
            for i in range(0, len(d.x), 32):
                rows = order[i : i + 32]
                prediction = model(d.x[rows])
                loss = ((prediction - prices[rows]) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.ty, float(std), float(mean))


PRICES = group(
    "price-loop",
    price_loop,
    fault(
        "one-column-against-none",
        "shape-pairing",
        flat=True,
        answers={"exact": True, "remedy": ("loop", "the same shape for both")},
    ),
    fault(
        "in-euros",
        "target-scale learning-rate-low too-few-steps",
        euros=True,
        lr=1e-3,
        answers={"remedy": ("target.scale", "standardize")},
    ),
    fault(
        "in-euros-and-against-none",
        "target-scale shape-pairing learning-rate-low",
        euros=True,
        flat=True,
        lr=1e-3,
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=560,
)


# A trained body, a new head, 90 labels: is the digit odd?


class BodyAndHead(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 12), nn.ReLU())
        self.head = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def trained_body(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    net = BodyAndHead(10)
    optimizer = Adam(net.parameters(), lr=0.01)
    for _ in range(15):
        for xs, ys in loader(x, y, 60):
            optimizer.zero_grad()
            F.cross_entropy(net(xs), ys).backward()
            optimizer.step()
    return {f"module.{name}": value for name, value in net.state_dict().items()}


def new_head_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = posted_data.pixels().inputs(lambda x: x / 16)
    checkpoint = trained_body(d.x[90:], d.y[90:])
    if fault != "prefix":
        checkpoint = {n.removeprefix("module."): value for n, value in checkpoint.items()}
    net = BodyAndHead(10)
    net.load_state_dict(checkpoint, strict=False)
    for parameter in net.body.parameters():
        parameter.requires_grad = False
    optimizer = Adam(net.parameters(), lr=0.02)
    net.head = nn.Linear(12, 2)
    if fault != "old head":
        optimizer = Adam((p for p in net.parameters() if p.requires_grad), lr=0.02)
    train = loader(d.x[:90], d.y[:90] % 2, 18)
    with watch(net, optimizer) as watched:
        for _ in range(60):
            for x, y in train:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty % 2)


NEW_HEAD = group(
    "new-head-loop",
    new_head_loop,
    fault(
        "optimizer-before-the-head",
        "parameters-not-in-optimizer",
        fault="old head",
        answers={
            "exact": True,
            "where": "head",
            "unmoved": "head.weight",
            "proof": "unmoved",
            "remedy": ("loop", "make the optimizer after the head"),
        },
    ),
    fault(
        "names-with-a-prefix",
        "frozen-parameters initialization",
        fault="prefix",
        answers={"where": "body", "remedy": ("loop", "remove the prefix of the names")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=300,
)


# What the loss hangs on


def wine_score_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.wine().standardized()
    net = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
    optimizer = Adam(net.parameters(), lr=0.01)
    with watch(net, optimizer) as watched:
        for _ in range(40):
            for x, y in loader(d.x, d.y, 16):
                optimizer.zero_grad()
                if fault == "answers":
                    answers = net(x).argmax(1).float().requires_grad_()
                    loss = F.mse_loss(answers, y.float())
                elif fault == "made anew":
                    loss = torch.tensor(F.cross_entropy(net(x), y).item(), requires_grad=True)
                else:
                    loss = F.cross_entropy(net(x), y)
                watched.loss(loss)
                loss.backward()
                optimizer.step()
    return net, accuracy(d.tx, d.ty)


CUT_LOSS = {
    "exact": True,
    "unmoved": "0.weight",
    "proof": "unmoved",
    "remedy": ("loop", "the loss of the outputs themselves"),
}
WINE_SCORES = group(
    "wine-score-loop",
    wine_score_loop,
    fault("error-of-the-answers", "detached-graph loss", fault="answers", answers=CUT_LOSS),
    fault("loss-made-anew", "detached-graph", fault="made anew", answers=CUT_LOSS),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=280,
)


# Fraud: one payment in thirty


def rare_fraud_loop(watch: Watch, sampler: str = "rows") -> tuple[nn.Module, Scorer]:
    d = posted_data.payments()
    d = d.inputs(lambda x: torch.cat([x[:, :1].log(), x[:, 1:]], 1)).standardized()
    labels = {"y": d.y.long(), "ty": d.ty.long()}
    weights = 1 / labels["y"].bincount().float()
    if sampler == "rows":
        weights = weights[labels["y"]]
    draw = WeightedRandomSampler(weights.tolist(), num_samples=len(d.x))
    examples = TensorDataset(d.x, labels["y"])
    if sampler == "none":
        train = DataLoader(examples, batch_size=64, shuffle=True)
    else:
        train = DataLoader(examples, batch_size=64, sampler=draw)
    net = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(12):
            for x, y in train:
                loss = F.cross_entropy(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, mean_recall(d.tx, labels["ty"])


RARE_FRAUD = group(
    "rare-fraud-loop",
    rare_fraud_loop,
    fault(
        "two-weights-for-two-classes",
        "data-degenerate split imbalance overfitting",
        sampler="classes",
        answers={"remedy": ("data", "a weight for every row")},
    ),
    fault(
        "no-sampler",
        "imbalance",
        sampler="none",
        answers={"remedy": ("data", "draw both classes as often")},
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=348,
)


# Oscillations: where is the time?


class Forecast(nn.Module):
    def __init__(self, *, batch_first: bool = True, last: nn.Module | None = None) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 24, batch_first=batch_first)
        self.out = nn.Sequential(nn.Linear(24, 1), last or nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


def forecast_loop(watch: Watch, fault: str = "") -> tuple[nn.Module, Scorer]:
    d = data.waves()
    last = nn.Sigmoid() if fault == "sigmoid" else None
    net = Forecast(batch_first=fault != "axes", last=last)
    optimizer = Adam(net.parameters(), lr=1e-3 if fault == "sigmoid" else 0.01)
    with watch(net, optimizer) as watched:
        for _ in range(30):
            for x, y in loader(d.x, d.y, 24):
                optimizer.zero_grad()
                loss = F.mse_loss(net(x), y)
                watched.loss(loss)
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
    return net, r2(d.tx, d.ty)


FORECASTS = group(
    "forecast-loop",
    forecast_loop,
    fault(
        "examples-for-steps",
        "shape-pairing",
        fault="axes",
        answers={"where": "lstm", "remedy": ("model", "batch_first=True")},
    ),
    fault(
        "sigmoid-and-a-small-rate",
        "output-activation target-scale saturation learning-rate-low",
        fault="sigmoid",
        answers={"where": "out.1"},
    ),
    family="loop",
    task="regression",
    network="recurrent",
    kind="loop",
    steps=450,
)


SCRIPTS: tuple[TrainingScript, ...] = (
    *RAW_TUMORS,
    *FIRST_PROGRAM,
    *BEST_EPOCH,
    *SCHEDULED_BARS,
    *PRICES,
    *NEW_HEAD,
    *WINE_SCORES,
    *RARE_FRAUD,
    *FORECASTS,
)

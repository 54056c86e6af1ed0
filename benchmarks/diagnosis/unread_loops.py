"""Training loops by hand, with what people do wrong in them in any week: the order of calls,
modes, schedules, checkpoints, samplers, rows and answers; and healthy ones, plain and odd.

As in `loops.py` a function is one loop, `fault` names what is wrong in it, and "" is the healthy
form; `epochs` is there to train a healthy one longer.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from benchmarks.diagnosis import data, posted_data
from benchmarks.diagnosis import later_table_data as later
from benchmarks.diagnosis import ordinary_seq_data as ordinary
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.healthy import healthy_script
from benchmarks.diagnosis.tables import mlp
from benchmarks.diagnosis.training_script import (
    Scorer,
    TrainingScript,
    Watch,
    WatchedLoop,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    mean_recall,
    r2,
)


def digit_reader(classes: int = 10) -> nn.Sequential:
    """Two convolutions for pictures of 8 x 8."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, classes),
    )


def share_right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(-1) == y).float().mean())


# Digits, and when gradients are cleared


def cleared_digits_loop(
    watch: Watch, fault: str = "", epochs: int = 10
) -> tuple[nn.Module, Scorer]:
    d = ordinary.digit_rows().inputs(lambda x: x.reshape(-1, 1, 8, 8))
    net = digit_reader()
    optimizer = SGD(net.parameters(), lr=0.05, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            if fault == "once an epoch":
                optimizer.zero_grad()
            for images, labels in loader(d.x, d.y, 32):
                if fault == "":
                    optimizer.zero_grad()
                loss = F.cross_entropy(net(images), labels)
                loss.backward()
                if fault == "before the step":
                    optimizer.zero_grad()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


CLEARED_DIGITS = group(
    "cleared-digits-loop",
    cleared_digits_loop,
    fault("once-an-epoch", "zero-grad step-order", fault="once an epoch"),
    fault(
        "between-backward-and-step",
        "zero-grad step-order",
        fault="before the step",
        answers={"exact": True, "unmoved": "0.weight", "proof": "unmoved"},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=340,
)


# Tumors, and how often the schedule moves


def staircase_loop(watch: Watch, fault: str = "", epochs: int = 15) -> tuple[nn.Module, Scorer]:
    d = data.cancer().standardized().targets(lambda y: y.long())
    model = mlp(30, 16, 2)
    optimizer = SGD(model.parameters(), lr=0.02, momentum=0.9)
    scheduler = StepLR(optimizer, step_size=4, gamma=0.2)
    if fault == "and slow":
        optimizer = SGD(model.parameters(), lr=1e-3)
        scheduler = StepLR(optimizer, step_size=4, gamma=0.2)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            model.train()
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
                if fault:
                    scheduler.step()
            model.eval()
            share_right(model, d.vx, d.vy)
            if not fault:
                scheduler.step()
    return model, accuracy(d.tx, d.ty)


STAIRCASE = group(
    "staircase-loop",
    staircase_loop,
    fault("down-with-every-batch", "schedule learning-rate-low too-few-steps", fault="every batch"),
    fault(
        "down-with-every-batch-and-slow",
        "schedule learning-rate-low too-few-steps",
        fault="and slow",
    ),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=165,
)


# The load of a grid, and the shapes that are subtracted


class LoadReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 24, batch_first=True)
        self.fc = nn.Linear(24, 1)

    def forward(self, hours: Tensor) -> Tensor:
        states, _ = self.lstm(hours)
        return self.fc(states[:, -1])


def grid_hours_loop(watch: Watch, fault: str = "", epochs: int = 20) -> tuple[nn.Module, Scorer]:
    d = ordinary.power_load()
    mean, std = d.x.mean(), d.x.std()
    d = d.inputs(lambda x: (x - mean) / std)
    scale = 1.0 if fault == "megawatts" else float(std)
    shift = 0.0 if fault == "megawatts" else float(mean)
    train_y = (d.y - shift) / scale
    model = LoadReader()
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for hours, load in loader(d.x, train_y, 32):
                prediction = model(hours)
                if fault:
                    load = load.squeeze(1)
                loss = ((prediction - load) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.ty, scale, shift)


GRID_HOURS = group(
    "grid-hours-loop",
    grid_hours_loop,
    fault("squeezed-answers", "shape-pairing", fault="squeezed", answers={"exact": True}),
    fault(
        "squeezed-answers-in-megawatts",
        "shape-pairing target-scale learning-rate-low too-few-steps",
        fault="megawatts",
    ),
    family="loop",
    task="regression",
    network="recurrent",
    kind="loop",
    steps=340,
)


# Fine-tuning: the lower digits were learned before, the upper ones get a head of their own


def borrowed_body_loop(watch: Watch, fault: str = "", epochs: int = 15) -> tuple[nn.Module, Scorer]:
    d = ordinary.digit_rows().inputs(lambda x: x.reshape(-1, 1, 8, 8))
    old = digit_reader(5)
    pretraining = Adam(old.parameters(), lr=3e-3)
    low, high = d.y < 5, d.y >= 5
    for _ in range(8):
        for x, y in loader(d.x[low], d.y[low], 32):
            pretraining.zero_grad()
            F.cross_entropy(old(x), y).backward()
            pretraining.step()
    saved = old.state_dict()
    if fault == "prefix":  # as nn.DataParallel names them
        saved = {f"module.{name}": value for name, value in saved.items()}
    model = digit_reader(5)
    model.load_state_dict(saved, strict=False)
    for p in model.parameters():
        p.requires_grad = False
    optimizer = SGD(model[6].parameters(), lr=0.05, momentum=0.9)
    model[6] = nn.Linear(256, 5)
    if fault != "old head":
        optimizer = SGD(model[6].parameters(), lr=0.05, momentum=0.9)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x[high][:120], d.y[high][:120] - 5, 20):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx[d.ty >= 5], d.ty[d.ty >= 5] - 5)


BORROWED_BODY = group(
    "borrowed-body-loop",
    borrowed_body_loop,
    fault(
        "optimizer-before-the-new-head",
        "parameters-not-in-optimizer frozen-parameters",
        fault="old head",
        answers={"exact": True, "where": "6", "unmoved": "6.weight", "proof": "unmoved"},
    ),
    fault(
        "names-with-a-prefix",
        "initialization frozen-parameters",
        fault="prefix",
        answers={"margin": 0.03},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=90,
)


# Digits that were scanned one class after the other


def scanned_in_turn_loop(
    watch: Watch, fault: str = "", epochs: int = 15
) -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    order = d.y.argsort(stable=True)
    net = mlp(64, 32, 10)
    optimizer = SGD(net.parameters(), lr=2.0 if "hot" in fault else 0.05, momentum=0.9)
    batches = DataLoader(TensorDataset(d.x[order], d.y[order]), batch_size=32, shuffle=not fault)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in batches:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


SCANNED_IN_TURN = group(
    "scanned-in-turn-loop",
    scanned_in_turn_loop,
    fault("in-order", "shuffling", fault="in order"),
    fault("in-order-and-hot", "shuffling learning-rate-high", fault="in order, hot"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=510,
)


# One in ten is rare, and a sampler is to draw it more often


def drawn_rows_loop(watch: Watch, fault: str = "", epochs: int = 12) -> tuple[nn.Module, Scorer]:
    d = data.clusters(1500, rare=0.08)
    counts = d.y.bincount().float()
    class_weights = 1 / counts
    weights = class_weights[d.y]
    if fault == "of the classes":
        weights = class_weights
    if fault == "not inverted":
        weights = counts[d.y]
    sampler = WeightedRandomSampler(weights.tolist(), num_samples=len(d.y), replacement=True)
    net = mlp(20, 32, 2)
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in DataLoader(TensorDataset(d.x, d.y), batch_size=32, sampler=sampler):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, mean_recall(d.tx, d.ty)


DRAWN_ROWS = group(
    "drawn-rows-loop",
    drawn_rows_loop,
    fault(
        "weights-of-the-classes",
        "data-degenerate overfitting imbalance shuffling",
        fault="of the classes",
    ),
    fault("weights-not-inverted", "imbalance", fault="not inverted"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=348,
)


# Batches cut out by hand


def cut_by_hand_loop(watch: Watch, fault: str = "", epochs: int = 40) -> tuple[nn.Module, Scorer]:
    d = data.friedman().targets(lambda y: (y[:, None] - 14) / 5)
    net = mlp(10, 32, 32, 1)
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            permutation = torch.randperm(len(d.x))
            for i in range(0, len(d.x), 30):
                rows = permutation[i : i + 30]
                x, y = d.x[rows], d.y[i : i + 30] if fault else d.y[rows]
                loss = F.mse_loss(net(x), y)
                if fault != "and never cleared":
                    optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, r2(d.tx, d.ty)


CUT_BY_HAND = group(
    "cut-by-hand-loop",
    cut_by_hand_loop,
    fault("only-the-inputs-permuted", "labels shape-pairing randomness", fault="inputs only"),
    fault(
        "only-the-inputs-permuted-and-never-cleared",
        "labels shape-pairing randomness zero-grad step-order",
        fault="and never cleared",
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=560,
)


# A phone in a pocket, and what the graph still holds


class MotionNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv1d(16, 16, 5, padding=2), nn.ReLU()
        )
        self.head = nn.Linear(16, 4)

    def features(self, motion: Tensor) -> Tensor:
        return self.encoder(motion.transpose(1, 2)).mean(2)

    def forward(self, motion: Tensor) -> Tensor:
        return self.head(self.features(motion))


def pocket_motions_loop(
    watch: Watch, fault: str = "", epochs: int = 20
) -> tuple[nn.Module, Scorer]:
    d = ordinary.motions()
    mean, std = ordinary.scale_of(d.x, (0, 1))
    d = d.inputs(lambda x: (x - mean) / std)
    model = MotionNet()
    optimizer = Adam(model.parameters(), lr=5e-3)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                with torch.set_grad_enabled(fault != "no gradient"):
                    features = model.features(x)
                loss = F.cross_entropy(model.head(features), y)
                if fault == "wrapped":
                    loss = torch.tensor(loss.item(), requires_grad=True)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


POCKET_MOTIONS = group(
    "pocket-motions-loop",
    pocket_motions_loop,
    fault(
        "the-loss-wrapped-anew",
        "detached-graph",
        fault="wrapped",
        answers={"exact": True, "unmoved": "head.weight", "proof": "unmoved"},
    ),
    fault(
        "features-without-gradient",
        "detached-graph frozen-parameters",
        fault="no gradient",
        answers={
            "exact": True,
            "where": "encoder",
            "unmoved": "encoder.0.weight",
            "proof": "unmoved",
        },
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=280,
)


# Fruit behind norms, and the mode of the network


def sorted_fruit_loop(watch: Watch, fault: str = "", epochs: int = 12) -> tuple[nn.Module, Scorer]:
    d = posted.ripe_fruit().inputs(lambda x: x * 255)
    order = d.vy.argsort(stable=True)
    net = nn.Sequential(
        *(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 3)),
    )
    optimizer = SGD(net.parameters(), lr=0.02, momentum=0.9)
    if fault == "eval first":
        net.eval()
        share_right(net, d.vx, d.vy)  # how good before training
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            if fault != "eval first":
                net.train()
            for x, y in loader(d.x, d.y, 25):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            if fault == "":
                net.eval()
            right = 0.0
            for x, y in DataLoader(TensorDataset(d.vx[order], d.vy[order]), batch_size=1):
                right += share_right(net, x, y) * len(y)
    return net, accuracy(d.tx, d.ty)


SORTED_FRUIT = group(
    "sorted-fruit-loop",
    sorted_fruit_loop,
    fault(
        "validates-in-training-mode",
        "train-eval-mode normalization",
        fault="train in validation",
        answers={"exact": True, "margin": 0.03},
    ),
    fault(
        "never-back-to-training",
        "train-eval-mode normalization input-scale learning-rate-high",
        fault="eval first",
        answers={"exact": True},
    ),
    family="loop",
    task="classification",
    network="cnn",
    kind="loop",
    steps=144,
)


# Small batches are added up before a step


def added_up_loop(watch: Watch, fault: str = "", epochs: int = 30) -> tuple[nn.Module, Scorer]:
    d = later.crabs().standardized().targets(lambda y: (y - 10) / 3)
    model = mlp(7, 24, 1)
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    accumulate = 40 if fault else 4  # of the 34 batches of an epoch
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            optimizer.zero_grad()
            for i, (x, y) in enumerate(loader(d.x, d.y, 16)):
                loss = F.mse_loss(model(x), y)
                (loss / accumulate).backward()
                watched.loss(loss)
                if (i + 1) % accumulate == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    return model, r2(d.tx, d.ty)


ADDED_UP = group(
    "added-up-loop",
    added_up_loop,
    fault(
        "more-than-an-epoch-has",
        "step-order zero-grad too-few-steps",
        fault="too many",
        answers={"exact": True, "unmoved": "0.weight", "proof": "unmoved"},
    ),
    family="loop",
    task="regression",
    network="mlp",
    kind="loop",
    steps=30 * 34,
)


# The best epoch is kept


def keeping_loop(watch: Watch, fault: str = "", epochs: int = 25) -> tuple[nn.Module, Scorer]:
    d = data.clusters(900)
    model = mlp(20, 32, 4)
    optimizer = Adam(model.parameters(), lr=0.5 if "hot" in fault else 5e-3)
    best, best_loss = copy.deepcopy(model.state_dict()), 0.0 if fault else float("inf")
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            model.train()
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            model.eval()
            with torch.no_grad():
                val_loss = float(F.cross_entropy(model(d.vx), d.vy))
            if val_loss > best_loss if fault else val_loss < best_loss:
                best, best_loss = copy.deepcopy(model.state_dict()), val_loss
        model.load_state_dict(best)
    return model, accuracy(d.tx, d.ty)


KEEPING = group(
    "keeping-loop",
    keeping_loop,
    fault("the-largest-loss-kept", "metric", fault="largest"),
    fault("the-largest-loss-kept-and-hot", "metric learning-rate-high", fault="largest, hot"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=25 * 17,
)


# A run that is taken up again


def taken_up_loop(watch: Watch, fault: str = "", epochs: int = 15) -> tuple[nn.Module, Scorer]:
    d = data.digits().inputs(lambda x: x.flatten(1) / 16)
    model = mlp(64, 32, 10)
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(1):  # the day before
        for x, y in loader(d.x, d.y, 64):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    for settings in optimizer.param_groups:
        settings["lr"] = 1e-5  # where its schedule ended
    checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    checkpoint = copy.deepcopy(checkpoint)
    model = mlp(64, 32, 10)
    if fault != "of the old model":
        optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    if fault != "old rate":
        for settings in optimizer.param_groups:
            settings["lr"] = 0.05
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 64):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx, d.ty)


TAKEN_UP = group(
    "taken-up-loop",
    taken_up_loop,
    fault(
        "optimizer-of-the-old-model",
        "parameters-not-in-optimizer",
        fault="of the old model",
        answers={"exact": True, "unmoved": "0.weight", "proof": "unmoved"},
    ),
    fault("rate-of-the-checkpoint", "learning-rate-low schedule", fault="old rate"),
    family="loop",
    task="classification",
    network="mlp",
    kind="loop",
    steps=15 * 17,
)


# Healthy ones: eight plain, six odd


def kept_at_its_best_loop(watch: Watch, epochs: int = 20) -> tuple[nn.Module, Scorer]:
    """The weights of the least validation loss are put back in the end."""
    d = data.cancer().standardized().targets(lambda y: y[:, None])
    model = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
    optimizer = Adam(model.parameters(), lr=3e-3)
    best, best_loss = copy.deepcopy(model.state_dict()), float("inf")
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            model.train()
            for x, y in loader(d.x, d.y, 16):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            model.eval()
            with torch.no_grad():
                val_loss = F.binary_cross_entropy_with_logits(model(d.vx), d.vy).item()
            if val_loss < best_loss:
                best, best_loss = copy.deepcopy(model.state_dict()), val_loss
    model.load_state_dict(best)
    return model, binary_accuracy(d.tx, d.ty)


def colors_by_a_cosine_loop(watch: Watch, epochs: int = 40) -> tuple[nn.Module, Scorer]:
    """The rate falls to zero along a cosine, epoch by epoch."""
    d = posted_data.named_colors().inputs(lambda x: x / 255 - 0.5)
    net = mlp(3, 48, 8)
    optimizer = AdamW(net.parameters(), lr=2e-2)
    schedule = CosineAnnealingLR(optimizer, T_max=epochs)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            schedule.step()
    return net, accuracy(d.tx, d.ty)


def lent_by_the_hour_loop(watch: Watch, epochs: int = 30) -> tuple[nn.Module, Scorer]:
    """The rate falls where the validation loss does not."""
    d = later.bikes().standardized().targets_standardized()
    net = mlp(6, 32, 32, 1)
    optimizer = Adam(net.parameters(), lr=1e-2)
    schedule = ReduceLROnPlateau(optimizer, factor=0.3, patience=4)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            net.train()
            for x, y in loader(d.x, d.y, 48):
                optimizer.zero_grad()
                loss = F.mse_loss(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            net.eval()
            with torch.no_grad():
                schedule.step(F.mse_loss(net(d.vx), d.vy))
    return net, r2(d.tx, d.ty)


class WeatherReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.out = nn.Linear(24, 1)

    def forward(self, hours: Tensor) -> Tensor:
        return self.out(self.gru(hours)[1][-1])


def cut_gradients_of_weather_loop(watch: Watch, epochs: int = 15) -> tuple[nn.Module, Scorer]:
    d = ordinary.station().targets_standardized()
    mean, std = ordinary.scale_of(d.x, (0, 1))
    d = d.inputs(lambda x: (x - mean) / std)
    model = WeatherReader()
    optimizer = Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                optimizer.zero_grad()
                loss = F.mse_loss(model(x), y)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                watched.loss(loss)
    return model, r2(d.tx, d.ty)


def praise_in_a_bag_loop(watch: Watch, epochs: int = 15) -> tuple[nn.Module, Scorer]:
    """Reviews as bags of words, padded with zeros."""
    d = ordinary.reviews()
    net = nn.Sequential(nn.EmbeddingBag(50, 16, mode="sum", padding_idx=0), nn.Linear(16, 2))
    optimizer = Adam(net.parameters(), lr=1e-2)
    right = 0
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for words, label in loader(d.x, d.y.long(), 32):
                out = net(words)
                loss = F.cross_entropy(out, label)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
                right += int((out.argmax(1) == label).sum())
    return net, accuracy(d.tx, d.ty.long())


def turned_fruit_loop(watch: Watch, epochs: int = 20) -> tuple[nn.Module, Scorer]:
    """Pictures are flipped at random, in training only."""
    d = posted.ripe_fruit()
    net = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 3)),
    )
    optimizer = AdamW(net.parameters(), lr=5e-3, weight_decay=0.01)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            net.train()
            for x, y in loader(d.x, d.y, 32):
                x = torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x)
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
            net.eval()
            share_right(net, d.vx, d.vy)
    return net, accuracy(d.tx, d.ty)


def board_in_one_cycle_loop(watch: Watch, epochs: int = 12) -> tuple[nn.Module, Scorer]:
    """One cycle of the rate, batch by batch."""
    d = posted_data.endgames().targets(lambda y: y.long())
    d = d.inputs(lambda x: F.one_hot(x, 3).flatten(1).float())
    net = mlp(108, 48, 2)
    optimizer = SGD(net.parameters(), lr=0.01, momentum=0.9)
    batches = loader(d.x, d.y, 64)
    schedule = OneCycleLR(optimizer, 0.3, total_steps=epochs * len(batches))
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in batches:
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                optimizer.step()
                schedule.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def train_epoch(
    model: nn.Module, batches: DataLoader[Any], optimizer: Optimizer, watched: WatchedLoop
) -> float:
    """The mean loss of the epoch."""
    model.train()
    total = 0.0
    for x, y in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        watched.loss(loss)
        total += loss.item() * len(x)
    return total / sum(len(y) for _, y in batches)


def told_by_functions_loop(watch: Watch, epochs: int = 15) -> tuple[nn.Module, Scorer]:
    """As tutorials have it: a function for the epoch, one for the test."""
    d = data.digits().inputs(lambda x: x / 16)
    model = digit_reader()
    optimizer = Adam(model.parameters(), lr=3e-3)
    batches = loader(d.x, d.y, 64)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            train_epoch(model, batches, optimizer, watched)
            model.eval()
            share_right(model, d.vx, d.vy)
    return model, accuracy(d.tx, d.ty)


def cleared_at_the_bottom_loop(watch: Watch, epochs: int = 20) -> tuple[nn.Module, Scorer]:
    """Gradients are cleared after the step; losses of a batch are summed, and the rate is small."""
    d = posted_data.penguins().inputs(lambda x: x[:, :5]).standardized()
    net = mlp(5, 16, 3)
    optimizer = SGD(net.parameters(), lr=2e-3, momentum=0.9)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 25):
                loss = F.cross_entropy(net(x), y, reduction="sum")
                watched.loss(loss)
                loss.backward()
                optimizer.step()
                net.zero_grad()
    return net, accuracy(d.tx, d.ty)


def one_step_an_epoch_loop(watch: Watch, epochs: int = 400) -> tuple[nn.Module, Scorer]:
    """The whole table is the batch."""
    d = data.diabetes().targets(lambda y: y[:, None]).standardized().targets_standardized()
    model = nn.Linear(10, 1)
    optimizer = SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            loss = F.mse_loss(model(d.x), d.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watched.loss(loss)
    return model, r2(d.tx, d.ty)


def norms_kept_from_before_loop(watch: Watch, epochs: int = 15) -> tuple[nn.Module, Scorer]:
    """Fine-tuning on sixty pictures; the norms stay as the pretraining left them."""
    d = data.digits().inputs(lambda x: x / 16)
    body = nn.Sequential(
        *(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten()),
    )
    model = nn.Sequential(body, nn.Linear(192, 5))
    optimizer = Adam(model.parameters(), lr=5e-3)
    low, high = d.y < 5, d.y >= 5
    for _ in range(6):
        for x, y in loader(d.x[low], d.y[low], 32):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    model[1] = nn.Linear(192, 5)
    optimizer = Adam(
        [{"params": model[1].parameters()}, {"params": body.parameters(), "lr": 1e-3}], lr=1e-2
    )
    model.eval()
    with watch(model, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x[high][:60], d.y[high][:60] - 5, 12):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return model, accuracy(d.tx[d.ty >= 5], d.ty[d.ty >= 5] - 5)


def sure_to_a_hundredth_loop(watch: Watch, epochs: int = 40) -> tuple[nn.Module, Scorer]:
    """A Gaussian's likelihood: the loss goes below zero."""
    d = data.waves().inputs(lambda x: x.flatten(1))
    net = mlp(16, 32, 32, 2)
    optimizer = Adam(net.parameters(), lr=3e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32):
                mean, log_var = net(x).chunk(2, 1)
                loss = F.gaussian_nll_loss(mean, y, log_var.clamp(-8, 8).exp())
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                watched.loss(loss)
    inner = r2(d.tx, d.ty)
    return net, Scorer(d.tx, d.ty, lambda out, y: inner.score(out[:, :1], y), 0.0, -1.0)


def blurred_answers_loop(watch: Watch, epochs: int = 30) -> tuple[nn.Module, Scorer]:
    """Rows are mixed in pairs, labels smoothed: the loss stays at one, the answers are right."""
    d = data.wine().standardized()
    net = mlp(13, 32, 3)
    optimizer = Adam(net.parameters(), lr=5e-3)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 18):
                share = float(torch.rand(()))
                other = torch.randperm(len(x))
                out = net(share * x + (1 - share) * x[other])
                loss = share * F.cross_entropy(out, y, label_smoothing=0.2)
                loss = loss + (1 - share) * F.cross_entropy(out, y[other], label_smoothing=0.2)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, accuracy(d.tx, d.ty)


def never_shuffled_strands_loop(watch: Watch, epochs: int = 15) -> tuple[nn.Module, Scorer]:
    """Always in the same order, but in that of chance; a batch that is too small is left out."""
    d = posted.strands().inputs(lambda x: x.transpose(1, 2)).targets(lambda y: y[:, None])
    net = nn.Sequential(
        *(nn.Conv1d(4, 16, 5), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(16, 1))
    )
    optimizer = Adam(net.parameters(), lr=1e-2)
    with watch(net, optimizer) as watched:
        for _ in range(epochs):
            for x, y in loader(d.x, d.y, 32, shuffle=False, drop_last=True):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(net(x), y)
                loss.backward()
                optimizer.step()
                watched.loss(loss)
    return net, binary_accuracy(d.tx, d.ty)


SCRIPTS: tuple[TrainingScript, ...] = (
    *CLEARED_DIGITS,
    *STAIRCASE,
    *GRID_HOURS,
    *BORROWED_BODY,
    *SCANNED_IN_TURN,
    *DRAWN_ROWS,
    *CUT_BY_HAND,
    *POCKET_MOTIONS,
    *SORTED_FRUIT,
    *ADDED_UP,
    *KEEPING,
    *TAKEN_UP,
    healthy_script(kept_at_its_best_loop, "classification", "mlp", kind="loop", steps=440),
    healthy_script(colors_by_a_cosine_loop, "classification", "mlp", kind="loop", steps=440),
    healthy_script(lent_by_the_hour_loop, "regression", "mlp", kind="loop", steps=450),
    healthy_script(
        cut_gradients_of_weather_loop, "regression", "recurrent", kind="loop", steps=225
    ),
    healthy_script(praise_in_a_bag_loop, "classification", "linear", kind="loop", steps=285),
    healthy_script(turned_fruit_loop, "classification", "cnn", kind="loop", steps=200),
    healthy_script(board_in_one_cycle_loop, "classification", "mlp", kind="loop", steps=360),
    healthy_script(told_by_functions_loop, "classification", "cnn", kind="loop", steps=255),
    healthy_script(cleared_at_the_bottom_loop, "classification", "mlp", kind="loop", steps=160),
    healthy_script(one_step_an_epoch_loop, "regression", "linear", kind="loop", steps=400),
    healthy_script(norms_kept_from_before_loop, "classification", "cnn", kind="loop", steps=75),
    healthy_script(sure_to_a_hundredth_loop, "regression", "mlp", kind="loop", steps=480),
    healthy_script(blurred_answers_loop, "classification", "mlp", kind="loop", steps=180),
    healthy_script(never_shuffled_strands_loop, "classification", "cnn", kind="loop", steps=195),
)

"""Scripts on sets and graphs, on several inputs, and of models that return more than a tensor, as
people post them.

Letters: N examples, V vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.diagnosis import data
from benchmarks.diagnosis import posted_seq_data as posted
from benchmarks.diagnosis.training_script import (
    TrainingSetup,
    accuracy,
    binary_accuracy,
    fault,
    group,
    loader,
    r2,
)

# Points in any order


class PointNet(nn.Module):
    """The same small network for each of 16 points, 16 features, then the largest of each."""

    def __init__(self, axis: int, norm: bool) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.norm = nn.BatchNorm1d(16, momentum=0.99) if norm else nn.Identity()
        self.all = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 4))
        self.axis = axis

    def forward(self, points: Tensor) -> Tensor:
        return self.all(self.norm(self.each(points).max(self.axis).values))


def point_clouds(
    axis: int = 1,
    norm: bool = False,
    batch: int = 28,
    lr: float = 1e-2,
    epochs: int = 14,
    optimizer: Any = Adam,
    scale: float = 1.0,
) -> TrainingSetup:
    d = posted.point_sets().inputs(lambda x: x * scale)
    return TrainingSetup(
        model=PointNet(axis, norm),
        loss=nn.CrossEntropyLoss(),
        train=loader(d.x, d.y, batch, drop_last=True),
        validation=(d.vx, d.vy),
        optimizer=partial(optimizer, lr=lr),
        batch_size=batch,
        epochs=epochs,
        scorer=accuracy(d.tx, d.ty),
    )


POINT_CLOUDS = group(
    "point-clouds",
    point_clouds,
    fault(
        "largest-feature-of-each-point",
        "shape-pairing",
        axis=2,
        answers={"remedy": ("model", "max over the points, dim 1")},
    ),
    fault(
        "normalized-in-twos",
        "normalization batch-size train-eval-mode",
        norm=True,
        batch=2,
        epochs=6,
        answers={"where": "norm", "remedy": ("batch", 28)},
    ),
    fault(
        "in-millimeters-by-sgd",
        "input-scale learning-rate-high dead-units exploding",
        scale=1000.0,
        optimizer=SGD,
        lr=0.1,
        answers={"remedy": ("lr", 1e-3)},
    ),
    family="sequence",
    task="classification",
    network="mlp",
)


# Molecules: charges and adjacency


class GraphNet(nn.Module):
    def __init__(self, layers: int, guard: bool, flat: bool) -> None:
        super().__init__()
        sizes = [1] + [16] * layers
        self.layers = nn.ModuleList(
            [nn.Linear(2 * a, b) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        )
        self.out = nn.Linear(16, 1)
        self.guard = guard
        self.flat = flat
        self.skip = layers < 4

    def forward(self, charges: Tensor, edges: Tensor) -> Tensor:
        degree = edges.sum(2, keepdim=True)
        if self.guard:
            degree = degree.clamp(min=1)
        x = charges
        for layer in self.layers:
            near = edges @ x / degree
            x = torch.tanh(layer(torch.cat([x if self.skip else near, near], 2)))
        out = self.out(x)
        return out.squeeze(-1) if self.flat else out


def graphs(
    layers: int = 3, guard: bool = True, flat: bool = True, lr: float = 1e-2
) -> TrainingSetup:
    nodes, links = posted.molecules()
    return TrainingSetup(
        model=GraphNet(layers, guard, flat),
        loss=lambda out, y: ((out - y) ** 2).mean(),
        train=DataLoader(TensorDataset(nodes.x, links.x, nodes.y), 10, shuffle=True),
        validation=((nodes.vx, links.vx), nodes.vy) if flat else None,
        optimizer=partial(AdamW, lr=lr),
        batch_size=10,
        epochs=14,
        scorer=r2((nodes.tx, links.tx), nodes.ty),
    )


GRAPHS = group(
    "molecules",
    graphs,
    fault(
        "no-neighbors-divide-by-zero",
        "data-degenerate normalization",
        guard=False,
        answers={"exact": True, "remedy": ("model", "degree.clamp(min=1)")},
    ),
    fault(
        "vertices-with-batch",
        "shape-pairing",
        flat=False,
        answers={"exact": True, "remedy": ("model", "squeeze(-1)")},
    ),
    fault(
        "twelve-rounds-of-neighbors",
        "architecture-too-deep vanishing",
        layers=12,
        answers={"remedy": ("model", "three rounds")},
    ),
    family="sequence",
    task="regression",
    network="mlp",
)


# Two digits: are they the same? Two inputs


class Siamese(nn.Module):
    def __init__(self, slip: str) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(192, 24),
        )
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))
        self.slip = slip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a = self.encode(first)
        b = self.encode(first if self.slip == "first twice" else second)
        if self.slip == "batch axis":
            far = (a - b).pow(2).mean(0)
        else:
            far = (a - b).pow(2).mean(1)
        return self.shift + 1 - self.scale * far


def siamese(
    slip: str = "", mixed: bool = False, lr: float = 5e-3, loss: Any = None
) -> TrainingSetup:
    a, b = posted.digit_pairs()
    y = a.y[posted.fixed_order(len(a.y))] if mixed else a.y
    return TrainingSetup(
        model=Siamese(slip),
        loss=loss or F.binary_cross_entropy_with_logits,
        train=DataLoader(TensorDataset(a.x, b.x, y), 24, shuffle=True, drop_last=True),
        validation=None if slip == "batch axis" else ((a.vx, b.vx), a.vy),
        optimizer=partial(Adam, lr=lr),
        batch_size=24,
        epochs=12,
        scorer=binary_accuracy((a.tx[:24], b.tx[:24]), a.ty[:24])
        if slip == "batch axis"
        else binary_accuracy((a.tx, b.tx), a.ty),
    )


SIAMESE = group(
    "same-digit",
    siamese,
    fault(
        "the-first-digit-twice",
        "shape-pairing data-degenerate architecture-too-small detached-graph",
        slip="first twice",
        answers={"exact": True, "remedy": ("model", "encode the second")},
    ),
    fault(
        "mean-over-the-batch",
        "shape-pairing",
        slip="batch axis",
        answers={"exact": True, "remedy": ("model", "mean(1)")},
    ),
    fault(
        "answers-of-other-pairs",
        "labels",
        mixed=True,
        answers={"remedy": ("data", "pair them again")},
    ),
    family="image",
    task="classification",
    network="cnn",
)


# A scan and a record of the patient: a dict in, a dataclass out


@dataclass
class Output:
    logits: Tensor
    features: Tensor


class ScanAndRecord(nn.Module):
    def __init__(self, slip: str) -> None:
        super().__init__()
        self.scan = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.record = nn.Sequential(nn.Linear(3, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 3))
        self.slip = slip

    def forward(self, scan: Tensor, record: Tensor) -> Output:
        seen = self.scan(scan)
        if self.slip == "cut":
            seen = seen.detach()
        known = self.record(record)
        if self.slip == "zeros":
            known = torch.zeros_like(known)
        features = torch.cat([seen, known], 1)
        return Output(self.head(features), features)


def output_loss(outputs: Output, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(outputs.logits, batch["labels"])


def scans(
    slip: str = "", raw: bool = False, lr: float = 5e-3, optimizer: Any = Adam
) -> TrainingSetup:
    scan, record = posted.scans_and_records()
    if not raw:
        record = record.standardized()
    rows: Any = [
        {"scan": a, "record": b, "labels": y}
        for a, b, y in zip(scan.x, record.x, scan.y, strict=True)
    ]
    return TrainingSetup(
        model=ScanAndRecord(slip),
        loss=output_loss,
        train=DataLoader(rows, 36, shuffle=True),
        optimizer=partial(optimizer, lr=lr),
        batch_size=36,
        epochs=10,
        scorer=accuracy({"scan": scan.tx, "record": record.tx}, scan.ty),
    )


SCANS = group(
    "scan-and-record",
    scans,
    fault(
        "record-becomes-zeros",
        "frozen-parameters detached-graph dead-units",
        slip="zeros",
        answers={"where": "record", "exact": True, "proof": "unmoved", "unmoved": "record.0.bias"},
    ),
    fault(
        "incomes-beside-pixels",
        "input-scale",
        raw=True,
        answers={"remedy": ("input.scale", "standardize the record")},
    ),
    fault(
        "scan-cut-off",
        "detached-graph frozen-parameters",
        slip="cut",
        answers={"where": "scan", "exact": True, "proof": "unmoved", "unmoved": "scan.1.weight"},
    ),
    family="image",
    task="classification",
    network="mlp",
)


# Class and place at once: a tuple out


class TwoHeads(nn.Module):
    def __init__(self, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), act())
        self.kind = nn.Linear(48, 10)
        self.ink = nn.Linear(48, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(image)
        return self.kind(x), self.ink(x)


def two_losses(weight: float, flat: bool) -> Callable[[Any, Any], Tensor]:
    def loss(outputs: tuple[Tensor, Tensor], batch: list[Tensor]) -> Tensor:
        kind, ink = outputs
        image, y = batch
        sums = image.flatten(1).sum(1)
        ink = ink.squeeze(1) if flat else ink
        return F.cross_entropy(kind, y) + weight * F.mse_loss(ink, sums)

    return loss


def two_heads(
    weight: float = 0.01,
    flat: bool = True,
    act: Callable[[], nn.Module] = nn.ReLU,
    optimizer: Any = Adam,
    lr: float = 5e-3,
    scale: float = 16.0,
) -> TrainingSetup:
    d = data.digits().inputs(lambda x: x / scale)
    return TrainingSetup(
        model=TwoHeads(act),
        loss=two_losses(weight, flat),
        train=loader(d.x, d.y, 40),
        optimizer=partial(optimizer, lr=lr),
        batch_size=40,
        epochs=8,
        scorer=accuracy(d.tx, d.ty),
    )


TWO_HEADS = group(
    "two-heads",
    two_heads,
    fault(
        "one-loss-drowns-the-other",
        "target-scale loss input-scale learning-rate-high exploding dead-units",
        weight=1.0,
        scale=1.0,
        optimizer=SGD,
        lr=1e-4,
    ),
    fault(
        "sigmoids-a-tiny-rate-and-bytes",
        "hidden-activation learning-rate-low saturation input-scale too-few-steps optimizer",
        act=nn.Sigmoid,
        optimizer=SGD,
        lr=1e-3,
        answers={"remedy": ("lr", 0.5)},
    ),
    family="image",
    task="classification",
    network="mlp",
)


SCRIPTS = (*POINT_CLOUDS, *GRAPHS, *SIAMESE, *SCANS, *TWO_HEADS)

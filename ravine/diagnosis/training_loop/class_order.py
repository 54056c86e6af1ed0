"""Whether examples come in the order of their classes: batches of few, neighbors of the same ones.

Letters: B batches, K classes.
"""

import itertools
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravine.diagnosis.op_names import ELEMENTWISE_LOSS_NODES, node_name
from ravine.diagnosis.training_loop.autograd_graph import saved_target

MAX_SEARCHED = 12  # nodes of the graph, from the loss on
BINARY_LOSS_NODES = ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits")
RANDOM_ORDERS = 2000
MIN_BATCH_NUMBERS = 4  # in a batch; of fewer, all may lie beyond those of another by chance
MIN_PAIRS, MIN_ORDERED = 8, 3  # of successive batches; for one that begins again
Array: TypeAlias = NDArray[np.float64]


@torch.no_grad()
def count_batch_classes(loss: Tensor) -> dict[int, int]:
    """The examples of each class in the batch of a loss, from its graph; {} if that has none.

    >>> count_batch_classes(torch.nn.functional.cross_entropy(
    ...     torch.zeros(3, 4, requires_grad=True), torch.tensor([1, 0, 1])))
    {0: 1, 1: 2}
    """
    node, target = _find_target(loss, ("NllLoss", *BINARY_LOSS_NODES))
    if target is None:
        return {}
    if node_name(node) == "NllLoss":
        target = target[target != node._saved_ignore_index]
    elif not target.dim() or target.numel() != len(target):
        return {}  # several labels
    elif bool(((target != 0) & (target != 1)).any()):
        return {}
    values, counts = target.long().unique(return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


@torch.no_grad()
def read_target_range(loss: Tensor) -> tuple[float, float] | None:
    """The lowest and highest number in the batch of a loss, if each example has one."""
    _, target = _find_target(loss, ELEMENTWISE_LOSS_NODES)
    if target is None or not target.dim() or not MIN_BATCH_NUMBERS <= len(target) == target.numel():
        return None
    return float(target.min()), float(target.max())


def _find_target(loss: Tensor, kinds: Collection[str]) -> tuple[Any, Tensor | None]:
    """The first operation of these kinds in the graph of a loss, and its target."""
    nodes: deque[Any] = deque([loss.grad_fn])
    for _ in range(MAX_SEARCHED):
        node = nodes.popleft() if nodes else None
        if node is not None and node_name(node) in kinds:
            return node, saved_target(node)
        nodes.extend(source for source, _ in getattr(node, "next_functions", ()))
    return None, None


def are_in_order(ranges: Sequence[tuple[int, float, float]]) -> bool:
    """Whether the numbers of each batch are beyond those of the one before, nearly always on one
    side, and begin again: by chance no two batches of numbers lie apart.
    """
    pairs = [(a, b) for a, b in itertools.pairwise(ranges) if b[0] == a[0] + 1]
    up = sum(a[2] <= b[1] and a[1] < b[2] for (a, b) in pairs)
    down = sum(a[1] >= b[2] and a[2] > b[1] for (a, b) in pairs)
    rises = up > down
    ends = [(low, high) if rises else (-high, -low) for _, low, high in ranges]
    begins_again = any(b[1] <= a[0] and b[0] < a[1] for a, b in itertools.combinations(ends, 2))
    one_way = max(up, down) >= MIN_ORDERED * min(up, down)
    return len(pairs) >= MIN_PAIRS and up + down == len(pairs) and one_way and begins_again


@dataclass(frozen=True)
class ClassOrder:
    """How often two examples have the same class.

    >>> order = measure_class_order([(i, {i // 3: 4}) for i in range(12)])
    >>> order.impurity_fraction, round(order.near, 2), round(order.far, 2), order.chance < 0.001
    (0.0, 0.73, 0.07, True)
    """

    agree_BB: Array  # chance that an example of one batch has the class of one of another
    steps_B: Array
    impurity_fraction: float  # chance that two of a batch differ, over that of any two batches'

    @property
    def near(self) -> float:
        """The chance that examples of successive batches agree."""
        first = np.flatnonzero(np.diff(self.steps_B) == 1)
        return float(self.agree_BB[first, first + 1].mean())

    @property
    def far(self) -> float:
        """The chance that examples of other batches agree."""
        return float(self.agree_BB[np.abs(self.steps_B[:, None] - self.steps_B) > 1].mean())

    @property
    def chance(self) -> float:
        """The share of random orders in which successive batches agree as much."""
        first = np.flatnonzero(np.diff(self.steps_B) == 1)
        orders = np.random.default_rng(0).random((RANDOM_ORDERS, len(self.steps_B))).argsort(1)
        near = self.agree_BB[orders[:, first], orders[:, first + 1]].mean(1)
        return float((near >= self.near - 1e-9).mean())


def measure_class_order(batches: Sequence[tuple[int, Mapping[int, int]]]) -> ClassOrder | None:
    """The order of classes in batches, each with its step; None where it cannot be told."""
    classes = sorted({k for _, counts in batches for k in counts})
    counts_BK = np.array([[counts.get(k, 0) for k in classes] for _, counts in batches], float)
    steps = np.array([step for step, _ in batches])
    if len(classes) < 2 or not (np.diff(steps) == 1).any():
        return None
    sizes = counts_BK.sum(1)
    shares_BK = counts_BK / sizes[:, None]
    agree_BB = shares_BK @ shares_BK.T
    within = float(((1 - np.diag(agree_BB)) * sizes / (sizes - 1)).mean())  # without bias
    between = 1 - float(agree_BB[~np.eye(len(batches), dtype=bool)].mean())
    return ClassOrder(agree_BB, steps, within / max(between, 1e-9))

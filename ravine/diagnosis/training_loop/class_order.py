"""Whether examples come in the order of their classes: batches of few, neighbors of the same ones.

Letters: B batches, K classes.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravine.diagnosis.op_names import node_name
from ravine.diagnosis.training_loop.autograd_graph import saved_target

MAX_SEARCHED = 12  # nodes of the graph, from the loss on
BINARY_LOSS_NODES = ("BinaryCrossEntropy", "BinaryCrossEntropyWithLogits")
RANDOM_ORDERS = 2000
Array: TypeAlias = NDArray[np.float64]


@torch.no_grad()
def count_batch_classes(loss: Tensor) -> dict[int, int]:
    """The examples of each class in the batch of a loss, from its graph; {} if that has none.

    >>> count_batch_classes(torch.nn.functional.cross_entropy(
    ...     torch.zeros(3, 4, requires_grad=True), torch.tensor([1, 0, 1])))
    {0: 1, 1: 2}
    """
    nodes: deque[Any] = deque([loss.grad_fn])
    for _ in range(MAX_SEARCHED):
        node = nodes.popleft() if nodes else None
        if node is None:
            continue
        kind = node_name(node)
        if kind == "NllLoss" or kind in BINARY_LOSS_NODES:
            target = saved_target(node)
            if target is None:
                return {}
            if kind == "NllLoss":
                target = target[target != node._saved_ignore_index]
            elif not target.dim() or target.numel() != len(target):
                return {}  # several labels
            elif bool(((target != 0) & (target != 1)).any()):
                return {}
            values, counts = target.long().unique(return_counts=True)
            return dict(zip(values.tolist(), counts.tolist(), strict=True))
        nodes.extend(source for source, _ in node.next_functions)
    return {}


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

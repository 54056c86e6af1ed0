"""How long a step of training takes, about, by what is calculated in it and not by a clock: trials
are as long on one machine as on another.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

OPERATION_SECONDS = 14e-6  # of one operation of a forward pass, forwards and backwards
UPDATE_SECONDS = 2e-4  # of the optimizer, of few weights
FORWARD_FLOPS = 8e9  # of a forward pass; the backward pass takes twice as many


class _OperationCounter(TorchDispatchMode):
    """Counts the operations that tensors are made by."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **kwargs or {})


def measure_step(forward: Callable[[], object]) -> float:
    """The time of a step, from the operations of its forward pass, which is made once.

    >>> layer, x = torch.nn.Linear(4, 3), torch.ones(8, 4)
    >>> measure_step(lambda: layer(x)) < 0.001
    True
    """
    operations, flops = _OperationCounter(), FlopCounterMode(display=False)
    with torch.no_grad(), flops, operations:
        forward()
    by_operations = operations.count * OPERATION_SECONDS
    return UPDATE_SECONDS + by_operations + flops.get_total_flops() / FORWARD_FLOPS

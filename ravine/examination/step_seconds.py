"""How long a step of training takes, about, by what is calculated in it and not by a clock: trials
are as long on one machine as on another.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

OPERATION_SECONDS = 14e-6  # of one operation of a forward pass, forwards and backwards
LOOP_SECONDS = 7e-5  # of a step without forward pass, backward pass and update
TENSOR_SECONDS = 22e-6  # of an update by Adam, of each parameter; by SGD a third
FORWARD_FLOPS = 8e9  # of a forward pass; the backward pass takes twice as many


class _OperationCounter(TorchDispatchMode):
    """Counts the operations that tensors are made by."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **kwargs or {})


def measure_step(forward: Callable[[], object], *, tensors: int = 6) -> float:
    """The seconds of a step, from the operations of its forward pass, which is made once, and the
    number of parameter tensors (6 are those of three layers).

    >>> layer, x = torch.nn.Linear(4, 3), torch.ones(8, 4)
    >>> measure_step(lambda: layer(x), tensors=2) < 0.001
    True
    """
    operations, flops = _OperationCounter(), FlopCounterMode(display=False)
    try:
        with torch.no_grad(), flops, operations:
            forward()
        seconds = flops.get_total_flops() / FORWARD_FLOPS
    except RuntimeError:  # it computes gradients itself, which FlopCounterMode does not support
        operations, seconds = _OperationCounter(), 0.0
        with torch.enable_grad(), operations:
            forward()
    update = LOOP_SECONDS + tensors * TENSOR_SECONDS
    return update + operations.count * OPERATION_SECONDS + seconds

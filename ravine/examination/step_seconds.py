"""How long a step of training takes, about, by what is calculated in it and not by a clock: trials
are as long on one machine as on another.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

# Seconds on one core of 2026, fitted to 300 programs: within a factor of 1.5, notebook 2026-11-28.
# What belongs to a forward pass is counted there, and is the time forwards and backwards.
LOOP_SECONDS = 175e-6  # of a step without forward pass, backward pass and update
TENSOR_SECONDS = 60e-6  # of an update by Adam, of each parameter tensor; by SGD a third
PARAMETER_SECONDS = 3e-9  # of it, for each number in a parameter; by Adam twice, by SGD a third
OPERATION_SECONDS = 9e-6  # of one operation
NUMBER_SECONDS = 1.9e-9  # of each number that operations make
FLOP_SECONDS = 3e-11  # of each addition or multiplication
KERNEL_SECONDS = {"convolution": (450e-6, 0.0), "mkldnn_rnn_layer": (450e-6, 27e-9)}  # and numbers


class _StepCounter(TorchDispatchMode):
    """Adds up the seconds of the operations that tensors are made by."""

    seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **kwargs or {})
        kernel, number = KERNEL_SECONDS.get(func.overloadpacket.__name__, (0.0, 0.0))
        self.seconds += OPERATION_SECONDS + kernel
        if not func.is_view:
            parts = made if isinstance(made, tuple | list) else (made,)
            numbers = sum(part.numel() for part in parts if isinstance(part, Tensor))
            self.seconds += numbers * (NUMBER_SECONDS + number)
        return made


def measure_step(forward: Callable[[], object], *, tensors: int = 6, numbers: int = 0) -> float:
    """The seconds of a step, from the operations of its forward pass, which is made once, and from
    how many parameter tensors (6 are those of three layers) and numbers in them are updated.

    >>> layer, x = torch.nn.Linear(4, 3), torch.ones(8, 4)
    >>> measure_step(lambda: layer(x), tensors=2, numbers=15) < 0.001
    True
    """
    counter, flops = _StepCounter(), FlopCounterMode(display=False)
    try:
        with torch.no_grad(), flops, counter:
            forward()
        seconds = flops.get_total_flops() * FLOP_SECONDS
    except RuntimeError:  # it computes gradients itself, which FlopCounterMode does not support
        counter, seconds = _StepCounter(), 0.0
        with torch.enable_grad(), counter:
            forward()
    update = LOOP_SECONDS + tensors * TENSOR_SECONDS + numbers * PARAMETER_SECONDS
    return update + counter.seconds + seconds

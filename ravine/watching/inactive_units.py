"""Which units of ReLU layers were inactive, 0 for every example, over the last inspected batches.

Letters: N examples, U units.
"""

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.history import InactiveUnits
from ravine.watching.failures import FailureLog
from ravine.watching.module_hooks import BATCH_NORM_MODULES

RECENT_BATCHES = 16  # whose inactive units are kept
MIN_BATCHES, MIN_ROWS = 4, 128  # that must leave a unit at 0


class InactiveUnitMonitor:
    """Which units of ReLU layers are 0 for every example of the last inspected batches."""

    def __init__(self, failures: FailureLog):
        self.failures = failures
        self.is_hooked = False  # in this step
        self.recent: dict[str, deque[tuple[int, Tensor]]] = {}  # rows and inactive units
        self.at_first: dict[str, int] = {}

    def register(self, graph: Graph | None, owners: Mapping[str, nn.Module]) -> list[Any]:
        """Hook the modules whose output goes into a ReLU, for one step. Returns the handles."""
        self.is_hooked = True
        handles = []
        for name, module_weight in (graph.rectified_weights if graph else {}).items():
            module = owners.get(module_weight)
            if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd, *BATCH_NORM_MODULES)):
                hook = self.failures.guard(partial(self._after_module, name))
                handles.append(module.register_forward_hook(hook))
        return handles

    def _after_module(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        if torch.is_grad_enabled():  # no validation between steps
            units, rows = inactive_units(output, last=isinstance(module, nn.Linear))
            self.recent.setdefault(name, deque(maxlen=RECENT_BATCHES)).append((rows, units))
            self.at_first.setdefault(name, int(units.sum()))

    def summary(self) -> dict[str, InactiveUnits]:
        """By layer: units inactive in all of the last batches, once these are enough."""
        found = {}
        for name, recent in self.recent.items():
            rows = 0
            inactive = recent[-1][1]
            for i, (batch_rows, units) in enumerate(reversed(recent)):
                rows += batch_rows
                inactive = inactive & units
                if i + 1 >= MIN_BATCHES and rows >= MIN_ROWS:
                    found[name] = InactiveUnits(
                        count=int(inactive.sum()),
                        units=len(inactive),
                        examples=rows,
                        at_first=self.at_first[name],
                    )
                    break
        return found


@torch.no_grad()
def inactive_units(output: Tensor, *, last: bool) -> tuple[Tensor, int]:
    """Which units [U] a ReLU would set to 0 for every example, and how many rows each unit has.

    Units are the `last` dimension (of a linear layer), or the second one (of a convolution or a
    normalization).

    >>> units, rows = inactive_units(torch.tensor([[-1.0, 0.5], [-2.0, -1.0]]), last=True)
    >>> units.tolist(), rows
    ([True, False], 2)
    """
    by_unit = output.detach().movedim(-1 if last else 1, 0).flatten(1)
    return (by_unit <= 0).all(dim=1), output.shape[0] if not last else by_unit.shape[1]

"""Where backward passes start: the graph of a loss that is reported after its pass, when what the
graph has saved is freed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.diagnosis.op_names import SCALING_NODES, node_name


@dataclass(frozen=True, eq=False)
class LossGraph:
    """A loss within what a backward pass starts from, `loss` of (loss / 4).backward(): its place in
    the graph. It is read as the tensor would be, but for its value: that has the sign alone.
    """

    grad_fn: Any
    start: Tensor

    def detach(self) -> Tensor:
        return self.start.detach()

    def register_hook(self, hook: Any) -> Any:
        return self.grad_fn.register_prehook(lambda grads: hook(grads[0]))


@dataclass(eq=False)
class BackwardStart:
    """What a pass of this step starts from, and whether it was read as a loss."""

    grad_fn: Any
    value: float
    is_read: bool = False


class BackwardStarts:
    """The passes of an inspected step, and of the one before: a loss may be reported after the
    optimizer's step. A loss that was reported late is read before its pass from the next inspected
    step on; passes whose start is never reported are left alone.
    """

    def __init__(self) -> None:
        self.starts: list[BackwardStart] = []
        self._before: list[BackwardStart] = []
        self._late: dict[int, bool] = {}  # by place in the step: whether the loss was scaled

    def begin_step(self) -> None:
        self._before, self.starts = self.starts, []

    def note(self, start: Tensor) -> Tensor | LossGraph | None:
        """Note the start of a pass; the loss to read now, or None."""
        place, node = len(self.starts), start.grad_fn
        known = BackwardStart(node, float(start.detach()), place in self._late)
        self.starts.append(known)
        if not known.is_read:
            return None
        if not self._late[place]:
            return start
        (inner,) = _scaled(node) or (None,)
        known.is_read = inner is not None
        return None if inner is None else LossGraph(inner, start)

    def was_read(self, loss: Any) -> bool:
        """Whether a reported loss was read before its pass; one that was not is remembered."""
        node = getattr(loss, "grad_fn", None)
        number = math.nan if node is not None else _number(loss)
        for starts in (self.starts, self._before):
            for place, start in enumerate(starts):
                is_scaled = node is not None and node in _scaled(start.grad_fn)
                if is_scaled or node is start.grad_fn or number == start.value:
                    self._late[place] = is_scaled
                    return start.is_read
        return False


def _number(value: Any) -> float:
    """A reported number; NaN for what has several."""
    if isinstance(value, Tensor):
        return float(value.detach()) if value.numel() == 1 else math.nan
    return float(value) if isinstance(value, int | float) else math.nan


def _scaled(node: Any) -> Sequence[Any]:
    """What is multiplied by a number, or divided by one, to give the output of a node."""
    if node_name(node) not in SCALING_NODES:
        return ()
    sources = [source for source, _ in node.next_functions if source is not None]
    return sources if len(sources) == 1 else ()

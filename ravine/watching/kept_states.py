"""Whether a state that was kept for later still is the weights themselves, which train on."""

import inspect
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.training_loop.history import KeptState, LoopHistory
from ravine.diagnosis.training_loop.optimizer_monitor import OptimizerMonitor
from ravine.watching.failures import FailureLog

MAX_STATES = 64  # the last that are remembered
MAX_FRAMES, MAX_VALUES = 8, 1000  # that are searched for a variable
KEPT_NAME = "best"  # in the name of what is to stay as it was


@dataclass(eq=False)
class KeptStateMonitor:
    """States that `state_dict()` gave: their tensors are the weights, not copies."""

    model: nn.Module
    history: LoopHistory
    failures: FailureLog
    monitors: Sequence[OptimizerMonitor]
    states: list[tuple[Any, int]] = field(default_factory=list)  # references to a tensor; steps
    handles: list[Any] = field(default_factory=list)
    _is_saved: bool = False

    def start(self) -> None:
        note, compare = map(self.failures.guard, (self._note_state, self._compare_loaded))
        for module in self.model.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no such hooks
                self.handles.append(module.register_state_dict_post_hook(note))
                self.handles.append(module.register_load_state_dict_pre_hook(compare))

    def stop(self) -> None:
        """Look for variables of the callers that hold such a state."""
        for handle in self.handles:
            handle.remove()
        self.handles, living = [], {id(t()): step for t, step in self.states if t() is not None}
        if self._is_saved:
            living = {}
        frame: Any = sys._getframe()
        for _ in range(MAX_FRAMES):
            frame = frame and frame.f_back
            for name, value in _variables(frame)[:MAX_VALUES]:
                step = next((living[id(t)] for t in _first_tensors(value) if id(t) in living), None)
                if step is not None and 0 < step < self.history.steps:
                    is_named = KEPT_NAME in name.lower()
                    kept = KeptState(name, self.history.steps - step, is_named=is_named)
                    self.history.model.kept_state = self.history.model.kept_state or kept
        self.states = []

    def forget(self) -> None:
        """Something was saved in a file: perhaps what was kept."""
        self._is_saved = True

    def _note_state(self, module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """`prefix`: of a module within the one whose state is taken."""
        first = next(_first_tensors(state), None)
        trains = not prefix and any(p.requires_grad for p in module.parameters())
        if trains and first is not None and self._is_weight(first):
            self.states = [*self.states[1 - MAX_STATES :], (weakref.ref(first), self.history.steps)]

    def _compare_loaded(self, module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
        taken = {id(t()): step for t, step in self.states if t() is not None}
        tensors = [t for t in state.values() if isinstance(t, Tensor)] if not prefix else []
        steps = [self.history.steps - taken[id(t)] for t in tensors if id(t) in taken]
        written = any(m.overwrites.was_written() for m in self.monitors)  # perhaps through it
        if max(steps, default=0) > 0 and not written and all(map(self._is_weight, tensors)):
            self.history.model.kept_state = KeptState("", max(steps), is_loaded=True)

    def _is_weight(self, tensor: Tensor) -> bool:
        own = (*self.model.parameters(), *self.model.buffers())
        return any(p.data_ptr() == tensor.data_ptr() and p.shape == tensor.shape for p in own)


def _variables(frame: Any) -> list[tuple[str, Any]]:
    """The variables of a frame. Up to Python 3.12 a function's frame keeps a copy of all that were
    read, which would live as long as it: that copy is emptied.
    """
    if frame is None:
        return []
    found = [*frame.f_locals.items()]
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        frame.f_locals.clear()
    return found


def _first_tensors(value: Any) -> Iterator[Tensor]:
    """The first tensor of a state, or of the states in a dictionary."""
    values = [*islice(value.values(), MAX_VALUES)] if isinstance(value, dict) else []
    inner = (t for v in values if isinstance(v, dict) for t in islice(v.values(), 1))
    yield from (t for t in (*values[:1], *inner) if isinstance(t, Tensor))

"""Hooks on single modules, for one step: which of them run, and what they do to graph and units.

Letters: N examples, U units.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.training_loop.autograd_graph import Graph, ModuleNodes
from ravine.diagnosis.training_loop.history import (
    DetachedState,
    InactiveUnits,
    LoopHistory,
    StatisticsShift,
)
from ravine.diagnosis.training_loop.tensor_stats import batch_excerpt, first_tensor
from ravine.watching.failures import FailureLog
from ravine.watching.output_monitor import OutputMonitor

DROPOUT_MODULES = (nn.modules.dropout._DropoutNd,)
BATCH_NORM_MODULES = (nn.modules.batchnorm._BatchNorm,)
FAST_PATH_MODULES = (  # in evaluation; a hook would turn it off
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.MultiheadAttention,
)
MIN_DETACHED_CALLS = 2
MIN_SHIFTED_PASSES = 3
RECENT_BATCHES = 16  # whose inactive units are kept
MIN_BATCHES, MIN_ROWS = 4, 128  # that must leave a unit at 0


@dataclass(eq=False)
class ModuleHooks:
    """Which modules run, which nodes of the graph they make, and which output is not finite."""

    model: nn.Module
    history: LoopHistory
    failures: FailureLog
    searches: bool = False  # for a module whose output is not finite
    nonfinite_module: str = ""

    def __post_init__(self) -> None:
        self.handles: list[Any] = []
        self.ran: set[int] = set()  # ids of modules, in any step
        self.inputs: set[int] = set()  # ids of leaves with a gradient, in the first step
        self.first_calls: list[nn.Module] = []  # in the first step, with a graph
        self.nodes = ModuleNodes()
        self.outputs = OutputMonitor(self.history, self.failures)
        self.states = RecurrentStateMonitor()
        self.double_calls = TwinCallMonitor()
        self.time_axes = TimeAxisMonitor()
        self.statistics = StatisticsMonitor()

    def register(self, *, fast_path: bool) -> None:
        """Hook all modules, for one step; those with a fast path only if asked, in training."""
        if self.history.model.compiled or (self.handles and not fast_path):
            return
        fast = (m for m in self.model.modules() if isinstance(m, FAST_PATH_MODULES))
        skipped = (m for m in fast if not (fast_path and m.training))
        left_out = {id(inner) for m in skipped for inner in m.modules()}
        self.remove()
        for name, module in self.model.named_modules():
            if not name or id(module) in left_out or isinstance(module, torch.jit.ScriptModule):
                continue
            hook = self.failures.guard(partial(self._after_module, name))
            self.handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def stop(self) -> None:
        self.remove()
        self.forget_calls()
        self.nodes.clear()

    def forget_calls(self) -> None:
        """Begin with the calls of a new step, or those after a backward pass."""
        self.states.forget_step()
        self.double_calls.inputs = {}
        self.time_axes = TimeAxisMonitor()

    def _after_module(
        self,
        name: str,
        module: nn.Module,
        given: tuple[Any, ...],
        named: dict[str, Any],
        output: Any,
    ) -> None:
        inputs = (*given, *named.values())
        self.ran.add(id(module))
        if isinstance(module, BATCH_NORM_MODULES) and module.training:
            self.statistics.add_call(name, module, inputs[0])
        if not torch.is_grad_enabled():
            return
        if self.history.steps == 0:
            self.first_calls.append(module)
            leaves = (x for x in inputs if isinstance(x, Tensor) and x.requires_grad and x.is_leaf)
            self.inputs.update(id(x) for x in leaves if not isinstance(x, nn.Parameter))
        self.states.add_call(name, inputs, output)
        self.double_calls.add_call(name, inputs)
        self.time_axes.add_call(name, module, inputs)
        if not isinstance(output, Tensor):
            return
        node = output.grad_fn
        if node is not None:
            self.nodes.modules.setdefault(node, name)
        source = inputs[0].grad_fn if inputs and isinstance(inputs[0], Tensor) else None
        if isinstance(module, DROPOUT_MODULES) and node is not None and node is not source:
            self.nodes.dropout[node] = source
        if self.searches and not self.nonfinite_module and output.is_floating_point():
            is_leaf = next(module.children(), None) is None
            if is_leaf and not bool(torch.isfinite(output).all()):
                self.nonfinite_module = name


class StatisticsMonitor:
    """Batches that move the first batch norm's running statistics, with a graph and without."""

    def __init__(self) -> None:
        self.name = ""
        self.with_graph: list[tuple[Tensor, Tensor]] = []  # means and deviations of the channels
        self.without_graph: list[Tensor] = []  # means

    def add_call(self, name: str, module: nn.Module, x: Tensor) -> None:
        if self.name not in ("", name) or not getattr(module, "track_running_stats", False):
            return
        self.name = name
        others = [d for d in range(x.dim()) if d != 1]
        std, mean = torch.std_mean(x.detach().float(), others, correction=0)
        if torch.is_grad_enabled():
            self.with_graph.append((mean, std))
        else:
            self.without_graph.append(mean)

    def shift(self) -> StatisticsShift:
        """How far the means of the passes without a graph are from those of the others."""
        passes = len(self.without_graph)
        if min(passes, len(self.with_graph)) < MIN_SHIFTED_PASSES:
            return StatisticsShift()
        means, stds = (torch.stack(x).mean(0) for x in zip(*self.with_graph, strict=True))
        apart = (torch.stack(self.without_graph).mean(0) - means).abs() / stds.clamp_min(1e-30)
        return StatisticsShift(where=self.name, passes=passes, distance=float(apart.median()))


class RecurrentStateMonitor:
    """Whether modules are called on their own output, and whether it is detached first."""

    def __init__(self) -> None:
        self.outputs: dict[str, list[Tensor]] = {}  # kept, so that no other gets their memory
        self.calls: dict[str, tuple[int, int]] = {}  # on its own output: detached, and not

    def forget_step(self) -> None:
        self.outputs = {}
        self.calls = {}

    def add_call(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        for x in _flat_tensors(inputs):
            for y in self.outputs.get(name, ()):
                if x.data_ptr() == y.data_ptr() and x.shape == y.shape and y.requires_grad:
                    detached, attached = self.calls.get(name, (0, 0))
                    flows = x.requires_grad
                    self.calls[name] = detached + (not flows), attached + flows
        self.outputs[name] = list(_flat_tensors((output,)))

    def detached_states(self, graph: Graph) -> tuple[DetachedState, ...]:
        """The modules whose state is detached at every call, by the graph of the loss."""
        found = []
        for name, (detached, attached) in self.calls.items():
            own = (n for parameter, n in graph.uses.items() if parameter.startswith(f"{name}."))
            used = max(own, default=0)
            if detached >= MIN_DETACHED_CALLS and not attached and used:
                found.append(DetachedState(where=name, detached_calls=detached, loss_calls=used))
        return tuple(found)


class TwinCallMonitor:
    """Whether modules are called twice with the same inputs before a backward pass."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}  # excerpts of each module's last input
        self.steps = Counter[str]()  # by module

    def add_call(self, name: str, inputs: Iterable[Any]) -> None:
        batch = first_tensor(inputs)
        if batch is None:
            return
        before, now = self.inputs.get(name), batch_excerpt(batch)
        self.inputs[name] = now
        with suppress(RuntimeError):  # within `vmap` no number can be read
            if before is not None and before.shape == now.shape and torch.equal(before, now):
                # equal rows may come from weights that begin at 0
                self.steps[name] += not torch.equal(batch[0], batch[-1])


class TimeAxisMonitor:
    """Layers that take time as the first dimension of their inputs [time, batch, features]."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[int, int]] = {}  # time and batch, as the layer reads them

    def add_call(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        batch = first_tensor(inputs)
        if getattr(module, "batch_first", True) is False and batch is not None and batch.dim() == 3:
            self.calls[name] = batch.shape[0], batch.shape[1]

    def examples_as_time(self, graph: Graph) -> dict[str, tuple[int, int]]:
        """Calls that read examples as time: that, not their batch, is as long as the answers."""
        losses = (node for node in graph.nodes if node.averaged and node.inputs[:1] > (-1,))
        shapes: set[tuple[int, ...]] = {graph.nodes[n.inputs[0]].shape or () for n in losses}
        if len(shapes) != 1 or len(min(shapes)) not in (1, 2):
            return {}
        rows, *width = min(shapes)
        return {
            name: (time, batch)
            for name, (time, batch) in self.calls.items()
            if time == rows and batch not in (1, rows, *width)
        }


def find_repeated_layers(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Layers with a weight matrix that stand in several places of one list, by their first place.

    >>> layer = nn.Linear(2, 2)
    >>> find_repeated_layers(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(2, 2)))
    {'0': ('0', '2')}
    """
    found: dict[str, tuple[str, ...]] = {}
    for path, parent in model.named_modules():
        if not isinstance(parent, nn.ModuleList | nn.Sequential):
            continue
        places: dict[int, list[str]] = {}
        for name, layer in parent._modules.items():
            if layer is not None and any(p.dim() > 1 for p in layer.parameters()):
                places.setdefault(id(layer), []).append(f"{path}.{name}" if path else name)
        found |= {each[0]: tuple(each) for each in places.values() if len(each) > 1}
    return found


def _flat_tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    """The tensors of arguments or results, also those in tuples and lists."""
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, tuple | list):
            yield from (y for y in x if isinstance(y, Tensor))


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

    Units are the `last` dimension (linear layers), or the second (convolutions, normalizations).

    >>> units, rows = inactive_units(torch.tensor([[-1.0, 0.5], [-2.0, -1.0]]), last=True)
    >>> units.tolist(), rows
    ([True, False], 2)
    """
    by_unit = output.detach().movedim(-1 if last else 1, 0).flatten(1)
    return (by_unit <= 0).all(dim=1), output.shape[0] if not last else by_unit.shape[1]

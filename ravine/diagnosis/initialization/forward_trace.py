"""Record one forward pass: which modules and functions were called, on which tensors, and where two
passes first differ.

Hooks record modules, a `TorchFunctionMode` records functions. Neither sees inside compiled or fused
operations: recurrent and attention modules count as one call. Letters: N examples, T places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ravine.diagnosis.op_names import (
    AFFINE_FUNCTIONS,
    EMBEDDING_FUNCTIONS,
    FUSED_FUNCTIONS,
    MATMUL_FUNCTIONS,
    VIEW_FUNCTIONS,
)
from ravine.rng import seed_generators

ROUNDING_ERROR = 1e-6  # of the largest number: sums in another order differ by less
RELATIVE_SLOPES: dict[str, Callable[[Tensor], Tensor]] = {  # over the steepest, by the output
    "tanh": lambda out: 1 - out.square(),
    "tanh_": lambda out: 1 - out.square(),
    "sigmoid": lambda out: 4 * out * (1 - out),
    "sigmoid_": lambda out: 4 * out * (1 - out),
    "hardtanh": lambda out: (out.abs() < 1).float(),
    "softsign": lambda out: (1 - out.abs()).square(),
}


@dataclass(frozen=True)
class SourceLayer:
    """The last layer with weights that a tensor comes from: its units and their dimension."""

    where: str
    units: int
    dim: int


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class FunctionCall:
    """A call of a torch function in the innermost module `where`, on outputs of layer `source`."""

    name: str
    where: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    weight: Tensor | None = None
    source: SourceLayer | None = None
    relative_slope: Tensor | None = None  # of a bounded activation, over its steepest, by element
    dim: int | None = None  # of a softmax

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return (self.output,)

    def follows(self, other: FunctionCall) -> bool:
        """Whether the first input is the very output of another call."""
        return bool(self.inputs) and self.inputs[0] is other.output


@dataclass(frozen=True, eq=False)
class ModuleCall:
    """One call of a module: copies of the tensors that went in and came out."""

    where: str
    module_class: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


Call = TypeVar("Call", FunctionCall, ModuleCall)


@dataclass
class ForwardTrace:
    """One forward pass. Modules stand in the order in which they returned: inner ones first."""

    returned: Any = None
    modules: list[ModuleCall] = field(default_factory=list)
    functions: list[FunctionCall] = field(default_factory=list)
    made_by: dict[int, FunctionCall] = field(default_factory=dict)  # by the id of the tensor

    @property
    def output(self) -> Tensor:
        """The model's output. Raises `TypeError` where it is no tensor."""
        if not isinstance(self.returned, Tensor):
            raise TypeError(f"the model returns a {type(self.returned).__name__}, not a tensor")
        return self.returned

    @property
    def output_call(self) -> FunctionCall | None:
        """The call that made the output, views aside."""
        call = self.made_by.get(id(self.returned))
        while call is not None and call.name in VIEW_FUNCTIONS and call.inputs:
            call = self.made_by.get(id(call.inputs[0]))
        return call


def trace_forward(
    model: nn.Module, inputs: Tensor, *, seed: int | None = None, copy_modules: bool = False
) -> ForwardTrace:
    """Run a model once and record its calls. Raises what the model raises.

    With a `seed`, random numbers are those of the seed; with `copy_modules`, the calls of modules
    are recorded with copies of their tensors. Hooks of other people run, too.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    >>> [(call.name, call.where) for call in trace_forward(model, torch.ones(1, 3)).functions]
    [('linear', '0'), ('tanh', '1')]
    """
    trace = ForwardTrace()
    open_modules: list[str] = []
    recorder = _CallRecorder(trace, open_modules)
    names = {id(module): name for name, module in model.named_modules()}
    pending: dict[int, list[tuple[Tensor, ...]]] = {}  # inputs of calls that have not returned

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        open_modules.append(names[id(module)])
        if copy_modules:
            pending.setdefault(id(module), []).append(recorder.copy_unseen((args, kwargs)))

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if open_modules:
            open_modules.pop()
        if copy_modules and pending.get(id(module)):
            before, after = pending[id(module)].pop(), recorder.copy_unseen(output)
            name = type(module).__name__
            trace.modules.append(ModuleCall(names[id(module)], name, before, after))

    handles = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    if seed is not None:
        seed_generators(seed)
    try:
        with recorder:
            trace.returned = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


class _CallRecorder(TorchFunctionMode):
    """Records the calls of torch functions in a trace."""

    def __init__(self, trace: ForwardTrace, open_modules: list[str]) -> None:
        super().__init__()
        self.trace, self.open_modules = trace, open_modules
        self.sources: dict[int, SourceLayer] = {}  # by the id of the tensor
        self.paused = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        name = function_name(func)
        inputs = nested_tensors((args, kwargs))
        sources = [self.sources[id(t)] for t in inputs if id(t) in self.sources]
        # a sum of two layers comes from neither
        source = sources[0] if len({s.where for s in sources}) == 1 else None
        result = func(*args, **kwargs)
        outputs = nested_tensors(result)
        if outputs and not name.startswith("__set") and name != "backward":
            whole = [a for a in (kwargs.get("dim"), *args[1:]) if isinstance(a, int)]
            dim = whole[0] if whole and "softmax" in name else None
            where, first = self.open_modules[-1] if self.open_modules else "", outputs[0]
            weight, slope = _find_weight(name, inputs), RELATIVE_SLOPES.get(name)
            relative = slope(first.detach()) if slope is not None else None
            call = FunctionCall(name, where, tuple(inputs), first, weight, source, relative, dim)
            self._remember(call, outputs)
        return result

    def _remember(self, call: FunctionCall, outputs: list[Tensor]) -> None:
        self.trace.functions.append(call)
        name, source = call.name, call.source
        if call.weight is not None or name in FUSED_FUNCTIONS:
            source = SourceLayer(call.where, count_units(name, call.output), unit_dim(name))
        for tensor in outputs:
            # x.float() of a float tensor is x: whatever made it did so before
            if name not in VIEW_FUNCTIONS or not any(tensor is t for t in call.inputs):
                self.trace.made_by[id(tensor)] = call
            if source is not None:
                self.sources[id(tensor)] = source

    def copy_unseen(self, nested: Any) -> tuple[Tensor, ...]:
        """Detached copies, as later steps may overwrite tensors; they are not recorded."""
        self.paused = True
        copies = tuple(t.detach().clone() for t in nested_tensors(nested))
        self.paused = False
        return copies


def function_name(func: Any) -> str:
    """The last part of a torch function's name; of an attribute such as x.T its own name.

    >>> function_name(torch.relu), function_name(torch.Tensor.sigmoid)
    ('relu', 'sigmoid')
    >>> function_name(torch.Tensor.T.__get__)
    'T'
    """
    name = getattr(func, "__name__", "") or resolve_name(func) or ""
    if name == "__get__":
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    return name.rpartition(".")[2]


def unit_dim(function: str) -> int:
    """The dimension of the units in the output of a layer."""
    return 1 if function.startswith("conv") else -1


def count_units(function: str, output: Tensor) -> int:
    return output.shape[unit_dim(function)] if output.dim() > 1 else 1


def _find_weight(name: str, inputs: Sequence[Tensor]) -> Tensor | None:
    """The weight matrix of an affine call or an embedding; None for other calls."""
    if name in AFFINE_FUNCTIONS and len(inputs) > 1:
        return inputs[1]
    if name in MATMUL_FUNCTIONS | EMBEDDING_FUNCTIONS:
        return next((t for t in inputs if isinstance(t, nn.Parameter) and t.dim() > 1), None)
    return None


def nested_tensors(nested: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order.

    >>> [t.item() for t in nested_tensors((torch.tensor(1), [torch.tensor(2), "no"],
    ...                                    {"a": torch.tensor(3)}))]
    [1, 2, 3]
    """
    if isinstance(nested, Tensor):
        return [nested]
    if isinstance(nested, dict):
        nested = list(nested.values())
    if isinstance(nested, list | tuple):
        return [t for item in nested for t in nested_tensors(item)]
    return []


# Two passes beside each other


def unequal_elements(one: Tensor, other: Tensor) -> Tensor:
    """Where two tensors of one shape differ by more than rounding, or in being finite."""
    if not one.dtype.is_floating_point:
        return one != other
    a, b = one.detach().double(), other.detach().double()
    finite = a[a.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    unequal = (a - b).abs() > ROUNDING_ERROR * largest
    return unequal | (a.isfinite() != b.isfinite()) | (a.isnan() != b.isnan())


def equal_at(one: Tensor, other: Tensor, places: Iterable[int], size: int) -> bool | None:
    """Whether two tensors are equal at some places of a dimension of `size`, or of one that has it
    as a factor; None if there is no such dimension.

    >>> a = torch.zeros(3, 2); b = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> equal_at(a, b, [0, 1], 3), equal_at(a, b, [1, 2], 3), equal_at(a, b, [0], 5)
    (True, False, None)
    """
    if one.shape != other.shape:
        return None
    unequal, compared = unequal_elements(one, other), False
    places = list(places)
    for d, length in enumerate(one.shape):
        if length >= size and length % size == 0:
            compared = True
            outer = unequal.movedim(d, 0).unflatten(0, (size, length // size))
            inner = unequal.movedim(d, 0).unflatten(0, (length // size, size))
            if not bool(outer[places].any()) or not bool(inner[:, places].any()):
                return True
    return False if compared else None


def first_unequal_call(
    ones: Iterable[Call], others: Iterable[Call], equal: Callable[[Tensor, Tensor], bool | None]
) -> Call | None:
    """The first call in both passes whose inputs are equal and whose first outputs are not. `equal`
    says None of tensors that cannot be compared. None if there is no such call, or if the passes go
    different ways before it.
    """
    for a, b in zip(ones, others, strict=False):
        if a.where != b.where:
            return None
        inputs = [equal(x, y) for x, y in zip(a.inputs, b.inputs, strict=False)]
        same = False not in inputs and (True in inputs or not inputs)
        if same and a.outputs and b.outputs and equal(a.outputs[0], b.outputs[0]) is False:
            return a
    return None


# Figures


def values_by_unit(tensor: Tensor, source: SourceLayer) -> Tensor | None:
    """Values [units, rest] of a layer's output; None where its units cannot be found any more."""
    for dim in (source.dim, -1, 1):
        if 1 < tensor.dim() > dim >= -tensor.dim() and tensor.shape[dim] == source.units:
            return tensor.detach().movedim(dim, 0).flatten(1)
    return None


def root_mean_square(tensor: Tensor) -> float:
    """sqrt(mean x^2), in float64; NaN for no numbers."""
    return math.sqrt(float(tensor.detach().double().square().mean()))

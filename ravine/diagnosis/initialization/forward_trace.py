"""What happens in one forward pass: which modules and functions ran, on what, and where two passes
first differ.

Modules are seen by hooks, functions by a mode of torch that sees every call of its interface;
inside compiled or fused modules nothing is seen, so recurrent and attention modules count as one.
Letters: N examples, T places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ravine.diagnosis.op_names import (
    AFFINE_FUNCTIONS,
    EMBEDDING_FUNCTIONS,
    FUSED_FUNCTIONS,
    MATMUL_FUNCTIONS,
    VIEW_FUNCTIONS,
)

BOUNDED: dict[
    str, Callable[[Tensor], Tensor]
] = {  # share of its steepest slope, from an activation's output
    "tanh": lambda out: 1 - out.square(),
    "tanh_": lambda out: 1 - out.square(),
    "sigmoid": lambda out: 4 * out * (1 - out),
    "sigmoid_": lambda out: 4 * out * (1 - out),
    "hardtanh": lambda out: (out.abs() < 1).float(),
    "softsign": lambda out: (1 - out.abs()).square(),
}
ROUNDED = 1e-6  # of the largest number: differences due to sums in another order


@dataclass(frozen=True)
class Lineage:
    """Where a tensor comes from: the last layer with weights, its units and the dimension that they
    are in.
    """

    where: str
    units: int
    dim: int


@dataclass(frozen=True, eq=False)  # tensors have no single answer to ==
class Call:
    """One call of a torch function: its name, the innermost module, what went in and came out."""

    kind: str
    where: str
    given: tuple[Tensor, ...]
    made: Tensor
    weight: Tensor | None = None
    source: Lineage | None = None  # of what went in
    share: Tensor | None = None  # of a bounded activation: share of its steepest slope, by element
    dim: int | None = None  # of a softmax


@dataclass(frozen=True, eq=False)
class Ran:
    """One call of a module: the tensors that went in and came out, as they were then."""

    where: str
    kind: str
    given: tuple[Tensor, ...]
    made: tuple[Tensor, ...]


@dataclass
class Trace:
    """One forward pass. Modules stand in the order in which they ended: inner ones first."""

    output: Any = None
    modules: list[Ran] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    made_by: dict[int, Call] = field(default_factory=dict)  # by the id of the tensor

    def last(self, output: Tensor) -> Call | None:
        """The call that made a tensor, views aside."""
        call = self.made_by.get(id(output))
        while call is not None and call.kind in VIEW_FUNCTIONS and call.given:
            call = self.made_by.get(id(call.given[0]))
        return call


class _Listening(TorchFunctionMode):
    def __init__(self, trace: Trace, inside: list[str]) -> None:
        super().__init__()
        self.trace, self.inside = trace, inside
        self.lineage: dict[int, Lineage] = {}
        self.deaf = False  # while the hooks make their copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.deaf:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":  # an attribute: x.T, x.shape
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        before = tensors((args, kwargs))
        sources = [self.lineage[id(t)] for t in before if id(t) in self.lineage]
        source = (
            sources[0] if len({s.where for s in sources}) == 1 else None
        )  # a sum of two layers is of neither
        result = func(*args, **kwargs)
        if not name.startswith("__set") and name not in ("backward", "size", "dim", "numel"):
            self._note(name, before, result, source, args, kwargs)
        return result

    def _note(
        self,
        name: str,
        before: list[Tensor],
        result: Any,
        source: Lineage | None,
        args: Any,
        kwargs: Any,
    ):
        made = tensors(result)
        if not made:
            return
        weight = weight_of(name, before)
        where = self.inside[-1] if self.inside else ""
        share = BOUNDED[name](made[0].detach()) if name in BOUNDED else None
        dim = (
            kwargs.get("dim", next((a for a in args[1:] if isinstance(a, int)), None))
            if "softmax" in name
            else None
        )
        call = Call(name, where, tuple(before), made[0], weight, source, share, dim)
        self.trace.calls.append(call)
        if weight is not None or name in FUSED_FUNCTIONS:
            channels = name.startswith("conv")
            units = made[0].shape[1 if channels else -1] if made[0].dim() > 1 else 1
            source = Lineage(where, units, 1 if channels else -1)
        for tensor in made:
            self.trace.made_by[id(tensor)] = call
            if source is not None:
                self.lineage[id(tensor)] = source


def weight_of(name: str, given: Sequence[Tensor]) -> Tensor | None:
    """The weight matrix of an affine call or a lookup; None for other calls."""
    if name in AFFINE_FUNCTIONS and len(given) > 1:
        return given[1]
    if name in MATMUL_FUNCTIONS | EMBEDDING_FUNCTIONS:
        return next((t for t in given if isinstance(t, nn.Parameter) and t.dim() > 1), None)
    return None


def tensors(given: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order.

    >>> [t.item() for t in tensors((torch.tensor(1), [torch.tensor(2), "no"],
    ...                             {"a": torch.tensor(3)}))]
    [1, 2, 3]
    """
    if isinstance(given, Tensor):
        return [given]
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list | tuple):
        return [t for item in given for t in tensors(item)]
    return []


def traced(model: nn.Module, inputs: Tensor, *, keep: bool = False) -> Trace:
    """One forward pass with everything that was seen of it; `keep`: with copies of what modules
    were given and made.

    Raises what the model raises. Hooks of other people run, too.
    """
    trace, inside = Trace(), []
    listening = _Listening(trace, inside)
    names = {id(module): name for name, module in model.named_modules()}
    asked: dict[int, list[tuple[Tensor, ...]]] = {}

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        inside.append(names[id(module)])
        if keep:
            listening.deaf = True
            asked.setdefault(id(module), []).append(copies((args, kwargs)))
            listening.deaf = False

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if inside:
            inside.pop()
        if keep and asked.get(id(module)):
            given = asked[id(module)].pop()
            listening.deaf = True
            trace.modules.append(
                Ran(names[id(module)], type(module).__name__, given, copies(output))
            )
            listening.deaf = False

    handles = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        with listening:
            trace.output = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return trace


def copies(given: Any) -> tuple[Tensor, ...]:
    """Detached copies of the tensors: later steps may write into the originals."""
    return tuple(t.detach().clone() for t in tensors(given))


def differs(one: Tensor, other: Tensor) -> Tensor:
    """Where two tensors of one shape differ by more than rounding, or in being finite."""
    if not one.dtype.is_floating_point:
        return one != other
    a, b = one.detach().double(), other.detach().double()
    finite = a[a.isfinite()].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    unlike = (a - b).abs() > ROUNDED * largest
    return unlike | (a.isfinite() != b.isfinite()) | (a.isnan() != b.isnan())


def apart(one: Tensor, other: Tensor, still: Sequence[int], size: int) -> bool | None:
    """Whether two tensors are equal at the places `still` along a dimension of `size`, or along one
    that has it as a factor; None if there is no such dimension.

    >>> a = torch.zeros(3, 2); b = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> apart(a, b, [0, 1], 3), apart(a, b, [1, 2], 3), apart(a, b, [0], 5)
    (True, False, None)
    """
    if one.shape != other.shape:
        return None
    unlike, asked = differs(one, other), False
    still = list(still)
    for d, length in enumerate(one.shape):
        if length == size:
            asked = True
            if not bool(unlike.movedim(d, 0)[still].any()):
                return True
        elif length > size and length % size == 0:
            asked = True
            blocks = unlike.movedim(d, 0).reshape(size, length // size, -1)
            mixed = unlike.movedim(d, 0).reshape(length // size, size, -1)
            if not bool(blocks[still].any()) or not bool(mixed[:, still].any()):
                return True
    return False if asked else None


def first_apart(one: Trace, other: Trace, still: Sequence[int], size: int) -> Ran | None:
    """The deepest module that was given tensors equal at the places `still` and made some that are
    not.
    """
    if [r.where for r in one.modules] != [r.where for r in other.modules]:
        return None
    for a, b in zip(one.modules, other.modules, strict=True):
        given = [apart(x, y, still, size) for x, y in zip(a.given, b.given, strict=False)]
        if not a.made or not b.made or False in given or True not in given:
            continue
        if apart(a.made[0], b.made[0], still, size) is False:
            return a
    return None


def first_call_apart(one: Trace, other: Trace, still: Sequence[int], size: int) -> str:
    """The name of the first function that does so, "" if there is none."""
    if [c.kind for c in one.calls] != [c.kind for c in other.calls]:
        return ""
    for a, b in zip(one.calls, other.calls, strict=True):
        given = [apart(x, y, still, size) for x, y in zip(a.given, b.given, strict=False)]
        if False not in given and True in given and apart(a.made, b.made, still, size) is False:
            return a.kind
    return ""


def by_unit(tensor: Tensor, source: Lineage) -> Tensor | None:
    """The numbers of each unit [units, rest] of what a layer made; None where its units cannot be
    told any more.
    """
    for dim in (source.dim, -1, 1):
        if (
            -tensor.dim() <= dim < tensor.dim()
            and tensor.dim() > 1
            and tensor.shape[dim] == source.units
        ):
            return tensor.detach().movedim(dim, 0).flatten(1)
    return None


def root_mean_square(tensor: Tensor) -> float:
    """sqrt(mean x^2), in float64; NaN for no numbers."""
    return (
        math.sqrt(float(tensor.detach().double().square().mean())) if tensor.numel() else math.nan
    )

"""Where in the graph of a loss the first number that is not finite was made, and from what.

Autograd keeps numbers for the backward pass: inputs of some operations, results of others. An
operation is to blame if what it was given was finite, or came from no operation at all.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ravine.diagnosis.constant_baseline import MEAN_REDUCTION
from ravine.diagnosis.op_names import AFFINE_NODES, node_name

MAX_TRACED_NODES = 20_000  # a larger graph is not traced
OVERFLOW_ROOT = 3  # numbers of which a product of three overflows are large enough to be the reason
# functions that have no value for some numbers
PARTIAL_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "Log": torch.log,
    "Log2": torch.log2,
    "Log10": torch.log10,
    "Log1P": torch.log1p,
    "Acos": torch.acos,
    "Asin": torch.asin,
    "Atanh": torch.atanh,
    "Acosh": torch.acosh,
}
EXPONENTIAL_NODES = frozenset({"Exp", "Exp2", "Expm1", "Cosh", "Sinh"})
RESULT_PREFIXES = ("result", "output", "total_weight", "logsumexp")
NORMALIZING_NODES = frozenset({"Softmax", "LogSoftmax"})
ATTENTION_PREFIX = "ScaledDotProduct"


@dataclass(frozen=True)
class NonFiniteOrigin:
    """What made the first number that is not finite, and whether no weight had a part in it. `kind`
    is "input" (it entered the graph as it is), "class weight", "target", "ignored" (no target
    counts), "empty" (a mean of nothing), "masked" (a softmax of nothing), "quotient" (by 0),
    "logarithm" (of 0), "huge" (data that overflow), "overflow" (made with weights), or "operation".
    """

    kind: str
    operation: str
    without_weights: bool = False


def find_nonfinite_origin(loss: Tensor) -> NonFiniteOrigin | None:
    """The origin of a loss that is not finite; None if its graph does not show it.

    >>> logits = torch.zeros(2, 3, requires_grad=True)
    >>> ignored = torch.tensor([-100, -100])
    >>> find_nonfinite_origin(torch.nn.functional.cross_entropy(logits, ignored)).kind
    'ignored'
    """
    order = _sources_first(loss.grad_fn)
    saved = {node: dict(_saved_tensors(node)) for node in order}
    if not any(saved.values()):  # backward has freed what was kept
        return None
    made = {**_numbers_by_node(saved), loss.grad_fn: loss.detach()}
    overflows = any(map(_may_overflow, made.values()))
    for node in () if overflows else order:
        origin = _blame(node, saved[node], made.get(node))
        if origin is not None:
            return origin
    huge = next((node for node in order if _has_huge_constant(saved[node])), None)
    if huge is not None:
        return NonFiniteOrigin("huge", node_name(huge), without_weights=True)
    return NonFiniteOrigin("overflow", node_name(loss.grad_fn)) if overflows else None


def _sources_first(root: Any) -> list[Any]:
    """All operations behind one, each after those that it takes numbers from."""
    order: dict[Any, None] = {}
    waiting, opened = [root], set()
    while waiting:
        node = waiting[-1]
        sources = [] if node in opened else [n for n, _ in node.next_functions if n is not None]
        opened.add(node)
        new = [n for n in sources if n not in opened]
        if new:
            waiting += new
        else:
            order[waiting.pop()] = None
        if len(opened) > MAX_TRACED_NODES:
            return []
    return list(order)


def _saved_tensors(node: Any) -> Iterator[tuple[str, Tensor]]:
    """What an operation keeps for the backward pass, by name; nothing after it."""
    for name in dir(node):
        if name.startswith("_saved_"):
            try:
                value = getattr(node, name)
            except RuntimeError:  # freed, or overwritten in place
                continue
            if isinstance(value, Tensor):
                yield name.removeprefix("_saved_"), value


def _numbers_by_node(saved: dict[Any, dict[str, Tensor]]) -> dict[Any, Tensor]:
    """The output of each operation that is kept, by itself or by one that uses it."""
    found: dict[Any, Tensor] = {}
    for tensors in saved.values():
        for tensor in tensors.values():
            if tensor.grad_fn is not None and tensor.is_floating_point():
                found.setdefault(tensor.grad_fn, tensor.detach())
    return found


def _blame(node: Any, saved: dict[str, Tensor], made: Tensor | None) -> NonFiniteOrigin | None:
    """What an operation whose sources are not to blame has done; `made` is its output, if known."""
    name = node_name(node)
    for key, value in saved.items():
        is_constant = value.grad_fn is None and not value.requires_grad
        if is_constant and not key.startswith(RESULT_PREFIXES) and _has_nan_or_inf(value):
            return NonFiniteOrigin(_constant_kind(name, key), name, without_weights=True)
    if _averages_nothing(node, saved):
        kind = "ignored" if name == "NllLoss" else "empty"
        return NonFiniteOrigin(kind, name, without_weights=True)
    kind = _undefined_value(name, node, saved)
    if kind and (made is None or not bool(made.isfinite().all())):
        return NonFiniteOrigin(kind, name)
    if made is None or bool(made.isfinite().all()):
        return None
    if name in EXPONENTIAL_NODES:
        return NonFiniteOrigin("overflow", name)
    is_nan = bool(made.isnan().any())
    if name in NORMALIZING_NODES or name.startswith(ATTENTION_PREFIX):
        return NonFiniteOrigin("masked", name) if is_nan else None  # the log of what is masked
    sources = [source for source, _ in node.next_functions if source is not None]
    if name in ("Add", "Sub") and len(sources) == 1 and is_nan:  # the other one is a constant
        return NonFiniteOrigin("input", name, without_weights=True)
    return NonFiniteOrigin("operation", name) if is_nan or name == "NllLoss" else None


def _has_huge_constant(saved: dict[str, Tensor]) -> bool:
    """Whether a number entered the graph as it is, so large that others made of it overflow."""
    return any(
        value.grad_fn is None
        and not value.requires_grad
        and not key.startswith(RESULT_PREFIXES)
        and value.is_floating_point()
        and _may_overflow(value)
        for key, value in saved.items()
    )


def _averages_nothing(node: Any, saved: dict[str, Tensor]) -> bool:
    """Whether an operation is a mean over no numbers, or over targets that all weigh nothing."""
    if getattr(node, "_saved_self_sym_numel", 1) == 0:
        return True
    if getattr(node, "_saved_reduction", 0) != MEAN_REDUCTION:
        return False
    total = saved.get("total_weight")
    if total is not None:
        return not bool(total.any())
    return "self" in saved and saved["self"].numel() == 0


def _undefined_value(name: str, node: Any, saved: dict[str, Tensor]) -> str:
    """What has no finite value: a quotient by 0, a logarithm of 0, another function; "" nothing."""
    argument, divisor = saved.get("self"), saved.get("other")
    if name == "Div" and divisor is not None and bool((divisor == 0).any()):
        return "quotient"
    if argument is None or not argument.is_floating_point():
        return ""
    argument = argument.detach()
    if name == "Pow" and isinstance(getattr(node, "_saved_exponent", None), int | float):
        value = argument.pow(node._saved_exponent)
    elif name in PARTIAL_FUNCTIONS:
        value = PARTIAL_FUNCTIONS[name](argument)
    else:
        return ""
    if not bool((argument.isfinite() & ~value.isfinite()).any()):
        return ""
    return "logarithm" if name.startswith("Log") else "operation"


def _may_overflow(numbers: Tensor) -> bool:
    """Whether numbers are so large that others made of them are infinite; masks are negative."""
    finite = numbers[numbers.isfinite()]
    return bool((finite > torch.finfo(numbers.dtype).max ** (1 / OVERFLOW_ROOT)).any())


def _has_nan_or_inf(value: Tensor) -> bool:
    """Whether a number is NaN or inf; a mask may well be -inf."""
    return value.is_floating_point() and bool((value.isnan() | (value == math.inf)).any())


def _constant_kind(name: str, key: str) -> str:
    if key == "target":
        return "target"
    if key in ("weight", "pos_weight") and name not in AFFINE_NODES:
        return "class weight"
    return "input"

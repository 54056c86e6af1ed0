"""The graph that autograd recorded for a loss, as plain data: operations, their inputs and shapes.

Only names and shapes are kept, and a few facts about the targets of the loss. No tensor is kept.
A *place* is the index of an operation in its graph; the loss is at place 0.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ravine.diagnosis.constant_baseline import MEAN_REDUCTION, SUM_REDUCTION
from ravine.diagnosis.op_names import (
    AFFINE_NODES,
    BATCH_NORM_NODES,
    CONVOLUTION_NODES,
    MIXING_NODES,
    NODE_OUTPUT_RANGES,
    ROUNDING_NODES,
    SCALING_NODES,
    TARGET_LOSS_NODES,
    VIEW_NODES,
    node_name,
)
from ravine.diagnosis.output_range import unreachable_fraction

MAX_NODES = 20_000  # of a larger graph, so many are read
UNNAMED_PARAMETER = "?"
MAX_LOSS_TERMS = 1000  # that are followed: a number may be added to itself again and again
COSINE_ROWS, COSINE_TOLERANCE = 16, 1e-3  # vectors whose length is worked out, and its rounding
UNIT_SUM_TOLERANCE = 1e-3  # by which targets may miss a sum of 1


@dataclass(frozen=True)
class Node:
    """One operation. Its `inputs` are places in the graph, -1 for what needs no gradient."""

    name: str  # of its autograd node, without "Backward0"
    inputs: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None  # of its output
    parameter: str = ""  # of a leaf: the name of the parameter
    dim: int | None = None  # of a softmax, or of a selection
    groups: int = 1  # of a convolution
    low: float = 0.0  # of a loss: the least value of its target; of a hardtanh: its least output
    high: float = 0.0  # of a loss: the greatest value of its target
    module: str = ""  # whose forward pass ends with this operation
    multi_label: bool = False  # of a loss after a softmax: targets do not sum to 1 along it
    # of a product with a number, a quotient by one, the second part of a sum; NaN: unknown
    factor: float = 1.0
    constant: tuple[int, ...] = ()  # of a product or a quotient: the shape of what has no gradient
    cosines: bool = False  # of a matrix product: rows and columns have a length of 1
    averaged: bool = False  # of a loss of torch's: it is the mean over its elements
    summed: bool = False  # or their sum


@dataclass
class ModuleNodes:
    """What hooks on modules know of the operations in a graph, which autograd does not show."""

    dropout: dict[Any, Any] = field(default_factory=dict)  # nodes of dropout, with their input
    modules: dict[Any, str] = field(default_factory=dict)  # the module whose output a node made

    def clear(self) -> None:
        self.dropout.clear()
        self.modules.clear()


@dataclass(frozen=True)
class Graph:
    """The operations behind one loss, the loss first."""

    nodes: tuple[Node, ...]
    # by place of a loss: the share of its target's variance that the output cannot reach
    unreachable: Mapping[int, float]
    # by place of a transpose or a permute: for each dimension, that of its input
    orders: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @cached_property
    def consumers(self) -> tuple[int, ...]:
        """How many operations use the output of each node."""
        counts = Counter(i for node in self.nodes for i in node.inputs)
        return tuple(counts[place] for place in range(len(self.nodes)))

    @cached_property
    def uses(self) -> Mapping[str, int]:
        """By parameter: how many operations use it."""
        return {n.parameter: self.consumers[i] for i, n in enumerate(self.nodes) if n.parameter}

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters that the loss depends on."""
        return frozenset(n.parameter for n in self.nodes if n.parameter)

    @cached_property
    def rounded_parameters(self) -> frozenset[str]:
        """Of these, parameters that reach it only through rounding, whose derivative is 0."""
        waiting, found = [0], set[int]()
        while waiting:
            place = waiting.pop()
            if place >= 0 and place not in found and self.nodes[place].name not in ROUNDING_NODES:
                found.add(place)
                waiting += self.nodes[place].inputs
        return self.parameters - {self.nodes[place].parameter for place in found}

    @property
    def lacks_parameters(self) -> bool:
        """Whether the loss depends on no parameter that has a name."""
        return not self.parameters - {UNNAMED_PARAMETER}

    @cached_property
    def head(self) -> tuple[int, ...]:
        """The places between the loss and the last layers with weights, both included."""
        return self._head_from(0)

    def _head_from(self, place: int) -> tuple[int, ...]:
        """The places from one back to the last layers with weights, both included."""
        found, waiting = {}, [place]
        while waiting:
            place = waiting.pop()
            if place < 0 or place in found:
                continue
            found[place] = None
            if self.nodes[place].name not in MIXING_NODES:
                waiting.extend(self.nodes[place].inputs)
        return tuple(found)

    def affine_places(self) -> Iterator[int]:
        """The places of operations with a weight matrix."""
        return (i for i, node in enumerate(self.nodes) if node.name in AFFINE_NODES)

    def source(self, place: int, skipped: frozenset[str] = frozenset()) -> int:
        """The place before views and operations in `skipped`; -1 if it needs no gradient."""
        passed = VIEW_NODES | skipped
        while place >= 0 and self.nodes[place].name in passed:
            place = next(iter(self.nodes[place].inputs), -1)
        return place

    def source_name(self, place: int) -> str:
        """The operation before views, "" if it needs no gradient."""
        place = self.source(place)
        return self.nodes[place].name if place >= 0 else ""

    def weight_of(self, place: int) -> str:
        """The weight matrix of an affine operation, "" if it is not a parameter that trains."""
        node = self.nodes[place]
        at = AFFINE_NODES.get(node.name, (0, 1))[1]
        leaf = self.source(node.inputs[at]) if at < len(node.inputs) else -1
        return self.nodes[leaf].parameter if leaf >= 0 else ""

    def scores_of(self, place: int) -> tuple[int, float]:
        """The place before views and products with numbers, and the product of these."""
        factor = 1.0
        while (place := self.source(place)) >= 0 and self.nodes[place].name in SCALING_NODES:
            node = self.nodes[place]
            if node.constant or sum(i >= 0 for i in node.inputs) != 1:
                break
            factor *= -1.0 if node.name == "Neg" else node.factor
            place = max(node.inputs)
        return place, factor

    def is_normalized(self, place: int) -> bool:
        """Whether the logarithm of the sum of exponentials of some scores is worked out."""
        sums = (node for node in self.nodes if node.name in ("Logsumexp", "Exp"))
        return place >= 0 and any(
            self.source(node.inputs[0], frozenset({"Sub"})) == place for node in sums
        )

    def units_of_classes(self, place: int) -> tuple[int, tuple[NDArray[np.int64], ...]] | None:
        """Of a softmax after views of a layer's output: the layer's units, and for the classes of
        a few places the indices in that output: first the units, then the other dimensions. None
        where the views only transpose, or split or merge the first dimensions.
        """
        shape = self.nodes[place].shape or ()
        dim, place = (self.nodes[place].dim or 0) % len(shape), self.nodes[place].inputs[0]
        sevenths = [(size * k) // 7 for k in range(7) for size in shape]
        starts = np.array(sevenths).reshape(7, -1).T[:, :, None]
        index = [np.broadcast_to(s, (7, shape[dim])) for s in starts]
        index[dim], is_cut = np.broadcast_to(np.arange(shape[dim]), (7, shape[dim])), False
        while place >= 0 and self.nodes[place].name in (*VIEW_NODES, "Add"):
            order, node = self.orders.get(place), self.nodes[place]
            # of a sum with a bias: what has the shape of the sum
            wide = [i for i in node.inputs if i >= 0 and self.nodes[i].shape == node.shape]
            place = next(iter(wide if node.name == "Add" else node.inputs), -1)
            before: tuple[int, ...] = (self.nodes[place].shape if place >= 0 else None) or ()
            if node.shape is None or math.prod(node.shape) != math.prod(before):
                return None
            if order:
                index = [index[order.index(d)] for d in range(len(before))]
            elif node.shape != before:
                flat = np.ravel_multi_index(tuple(index), node.shape)
                index = list(np.unravel_index(flat, before))
                is_cut |= node.shape[-1:] != before[-1:]
        if place < 0 or not is_cut or self.nodes[place].name not in AFFINE_NODES:
            return None
        axis = 1 if self.nodes[place].name in CONVOLUTION_NODES else -1
        units = (self.nodes[place].shape or (0, 0))[axis]
        return units, (index.pop(axis), *index)

    def terms(self, passed: Collection[str] = ()) -> Iterator[tuple[int, float]]:
        """The places of what is added up to the loss, each with its factor; operations of the names
        `passed` are passed by: with sums and means among them, the numbers of each example.
        """
        waiting = [(0, 1.0)]
        for _ in range(MAX_LOSS_TERMS):
            if not waiting:
                return
            place, factor = waiting.pop()
            place, own = self.scores_of(place)
            if place < 0:
                continue
            node, factor = self.nodes[place], factor * own
            if node.name in ("Add", "Sub"):
                second = -node.factor if node.name == "Sub" else node.factor
                waiting += zip(node.inputs, (factor, factor * second), strict=False)
            elif node.name in passed:
                waiting.append((node.inputs[0], factor))
            else:
                yield place, factor

    def is_averaged(self, place: int) -> bool:
        """Whether all numbers of an output go into one mean or sum, and nowhere else."""
        while True:
            users = [i for i, node in enumerate(self.nodes) if place in node.inputs]
            if len(users) != 1:
                return False
            place = users[0]
            node = self.nodes[place]
            if node.name not in SCALING_NODES or node.constant:
                return node.name in ("Mean", "Sum") and node.shape == ()

    def difference_factor(self, place: int) -> float:
        """By what a term multiplies a last layer's mean squared error; 0 for what is none."""
        node, factor = self.nodes[place], 1.0
        if node.name == "Mean":
            power, factor = self.scores_of(node.inputs[0])
            if power >= 0 and self.nodes[power].name == "Pow":
                node = self.nodes[self.source(self.nodes[power].inputs[0])]
        outputs = [i for i in node.inputs if i >= 0]
        is_plain = node.name in ("Sub", "Rsub") or (node.name == "MseLoss" and node.averaged)
        is_last = len(outputs) == 1 and self.source_name(outputs[0]) in AFFINE_NODES
        return factor if is_plain and is_last else 0.0

    def comes_after(self, place: int, names: Collection[str] = MIXING_NODES) -> bool:
        """Whether the operations from a place back to the last layers have one of these names."""
        return any(self.nodes[i].name in names for i in self._head_from(place))

    def share_weights(self, one: str, other: str) -> bool:
        """Whether affine layers with these weights have a parameter before both."""
        behind = []
        for weight in (one, other):
            ends = (i for i, node in enumerate(self.nodes) if node.inputs)
            waiting = [i for i in ends if self.weight_of(i) == weight]
            found = set(waiting)
            for place in waiting:  # grows while it is read
                new = {i for i in self.nodes[place].inputs if i >= 0} - found
                found |= new
                waiting += new
            behind.append({self.nodes[i].parameter for i in found} - {""})
        return bool(behind[0] & behind[1])

    def last_weight(self, place: int) -> str:
        """The weight of the last affine layer before a place, "" if there are several or none."""
        places = [i for i in self._head_from(place) if self.nodes[i].name in AFFINE_NODES]
        found = {self.weight_of(i) for i in places}
        return found.pop() if len(found) == 1 else ""

    @cached_property
    def rectified_weights(self) -> Mapping[str, str]:
        """The weights of layers whose output goes through a ReLU (or ReLU6) and nowhere else. Each
        with a weight of the module whose output the ReLU takes: its own, or a batch norm's.
        """
        found = {}
        for node in self.nodes:
            rectifies = node.name == "Relu" or (node.name == "Hardtanh" and node.low == 0)
            if not rectifies or not node.inputs:
                continue
            gate = self.source(node.inputs[0])
            layer = self.source(gate, BATCH_NORM_NODES)
            is_layer = layer >= 0 and self.nodes[layer].name in AFFINE_NODES
            if not is_layer or self.consumers[layer] != 1:
                continue
            weight = module_weight = self.weight_of(layer)
            if self.nodes[gate].name in BATCH_NORM_NODES:
                leaf = self.nodes[gate].inputs[1]
                module_weight = self.nodes[leaf].parameter if leaf >= 0 else ""
            if weight and module_weight:
                found[weight] = module_weight
        return found


def read_graph(
    loss: Tensor, names: Mapping[int, str], modules: ModuleNodes | None = None
) -> Graph | None:
    """The graph of a loss; None if it has none. `names` are those of parameters, by `id`.

    Without `modules`, a dropout module on a CPU is a product like any other.

    >>> weight = torch.ones(2, 1, requires_grad=True)
    >>> graph = read_graph((torch.ones(3, 2) @ weight).relu().sum(), {id(weight): "w"})
    >>> [node.name for node in graph.nodes], graph.rectified_weights
    (['Sum', 'Relu', 'Mm', 'AccumulateGrad'], {'w': 'w'})
    """
    if loss.grad_fn is None:
        return None
    known = modules or ModuleNodes()
    order: list[Any] = [loss.grad_fn]
    places = {loss.grad_fn: 0}
    nodes: list[Node] = []
    unreachable: dict[int, float] = {}
    orders: dict[int, tuple[int, ...]] = {}
    for made in order:  # grows while it is read
        is_dropout = made in known.dropout
        sources = [known.dropout[made]] if is_dropout else _sources_of(made)
        for source in sources:
            if source is not None and source not in places and len(order) < MAX_NODES:
                places[source] = len(order)
                order.append(source)
        name = "Dropout" if is_dropout else node_name(made)
        inputs = tuple(places.get(s, -1) for s in sources)
        if name in TARGET_LOSS_NODES:
            node, lost = _read_loss_node(made, name, inputs)
        else:
            node = _read_node(made, name, inputs, names)
            lost = _read_written_out_loss(made) if name in ("Abs", "Pow") else None
        if lost is not None:
            unreachable[len(nodes)] = lost
        if name in ("T", "Transpose", "Permute"):
            orders[len(nodes)] = _order_of_dimensions(made, name, len(node.shape or ()))
        reduction, module = getattr(made, "_saved_reduction", None), known.modules.get(made, "")
        mean, total = reduction == MEAN_REDUCTION, reduction == SUM_REDUCTION
        nodes.append(replace(node, module=module, averaged=mean, summed=total))
    return Graph(tuple(nodes), unreachable, orders)


def _sources_of(made: Any) -> list[Any]:
    """The nodes that an operation takes; a slice of joined outputs takes the one that it cuts."""
    sources = [source for source, _ in made.next_functions]
    joined = sources[0] if node_name(made) == "Slice" else None
    if joined is None or node_name(joined) != "Cat":
        return sources
    parts = [source for source, _ in joined.next_functions]
    shapes = [None if part is None else _output_shape(part) for part in parts]
    dim, other = (_signed_dim(node._saved_dim) for node in (made, joined))
    if (whole := _output_shape(joined)) is None:
        return sources
    start, end, total = 0, 0, whole[dim]
    low, high = _signed_dim(made._saved_start), _signed_dim(made._saved_end)
    cut = low + total * (low < 0), min(high + total * (high < 0), total)
    for part, shape in zip(parts, shapes, strict=True):
        if shape is None or (dim - other) % len(shape):
            break
        start, end = end, end + shape[dim]
        if cut == (start, end):
            return [part]
    return sources


def _read_node(made: Any, name: str, inputs: tuple[int, ...], names: Mapping[int, str]) -> Node:
    parameter, dim, groups = "", None, 1
    if name == "AccumulateGrad":
        parameter = names.get(id(made.variable), UNNAMED_PARAMETER)
    elif name in ("Softmax", "LogSoftmax", "Select"):
        dim = _signed_dim(made._saved_dim)
    elif name == "Convolution":
        groups = int(made._saved_groups)
    low, high = float(made._saved_min_val) if name == "Hardtanh" else 0.0, 0.0
    if name == "NllLoss":
        low, high = _class_range(made)
    multi_label = name == "BinaryCrossEntropy" and _misses_unit_sum(made, saved_target(made))
    shape = _output_shape(made)
    node = Node(name, inputs, shape, parameter, dim, groups, low, high, multi_label=multi_label)
    if name in ("Mul", "Div"):
        return replace(node, **_read_constant(made, name))
    if name in ("Add", "Sub"):
        return replace(node, factor=float(getattr(made, "_saved_alpha", 1.0)))
    return replace(node, cosines=True) if name == "Mm" and _has_cosines(made) else node


def _order_of_dimensions(made: Any, name: str, count: int) -> tuple[int, ...]:
    """For each dimension of a transposed output, that of the input that it is."""
    if name == "Permute":
        return tuple(_signed_dim(dim) % count for dim in made._saved_dims)
    order = list(range(count))
    pair = (made._saved_dim0, made._saved_dim1) if name == "Transpose" else (0, -1)
    one, other = map(_signed_dim, pair)
    order[one], order[other] = order[other], order[one]
    return tuple(order)


def _class_range(made: Any) -> tuple[float, float]:
    """The least and the greatest class among the targets of a loss; NaN where it has none."""
    target = saved_target(made)
    if target is None:
        return math.nan, math.nan
    known = target[target != made._saved_ignore_index]
    low, high = known.aminmax() if known.numel() else (math.nan, math.nan)
    return float(low), float(high)


def _read_constant(made: Any, name: str) -> dict[str, Any]:
    """What a product or a quotient has beside its one input with a gradient."""
    if sum(source is None for source, _ in made.next_functions) != 1:
        return {}
    try:
        first = made.next_functions[0][0] is None
        other = made._saved_self if first else made._saved_other
    except RuntimeError:  # the graph was freed
        return {"factor": math.nan}
    if other is None or (first and name == "Div"):
        return {}
    if other.dim() or not other.is_cpu:
        return {"constant": tuple(other.shape)}
    number = float(other)
    return {"factor": number if name == "Mul" else 1 / number if number else math.inf}


def _has_cosines(made: Any) -> bool:
    """Whether a matrix product is one of vectors of length 1."""
    try:
        rows, columns = made._saved_self, made._saved_mat2
    except RuntimeError:
        return False
    if rows is None or columns is None:
        return False
    lengths = rows.detach()[:COSINE_ROWS].norm(dim=1), columns.detach()[:, :COSINE_ROWS].norm(dim=0)
    return all(bool(((length - 1).abs() < COSINE_TOLERANCE).all()) for length in lengths)


def _misses_unit_sum(loss: Any, target: Tensor | None) -> bool:
    """Whether the output is a softmax and the target does not sum to 1 along its dimension."""
    before = _before_views(loss)
    if target is None or node_name(before) != "Softmax" or _output_shape(before) != target.shape:
        return False
    return bool(((target.sum(_signed_dim(before._saved_dim)) - 1).abs() > UNIT_SUM_TOLERANCE).any())


def _before_views(loss: Any) -> Any:
    """The operation that made the output that a loss takes."""
    return node_before_views(loss.next_functions[0][0] if loss.next_functions else None)


def node_before_views(node: Any) -> Any:
    """The operation whose output a node shows in another shape: itself, if it does not."""
    while node is not None and node_name(node) in VIEW_NODES:
        node = node.next_functions[0][0] if node.next_functions else None
    return node


def _signed_dim(dim: int) -> int:
    """A dimension below 0, which torch shows as an unsigned number, as it was given."""
    return dim - (2**64 if dim >= 2**63 else 0)


def saved_target(made: Any) -> Tensor | None:
    """The target of a loss; None if the graph was freed, as backward came first."""
    try:
        return made._saved_target.detach()
    except (AttributeError, RuntimeError):
        return None


def _output_shape(made: Any) -> tuple[int, ...] | None:
    try:
        return tuple(int(n) for n in made._input_metadata[0].shape)
    except (AttributeError, IndexError, TypeError, RuntimeError):
        return None


def _read_loss_node(made: Any, name: str, inputs: tuple[int, ...]) -> tuple[Node, float | None]:
    """A loss with a target, and the share of the target's variance beyond the output's range."""
    node = Node(name, inputs, _output_shape(made))
    target = saved_target(made)
    if target is None or not target.numel() or not torch.isfinite(target).all():
        return node, None
    low, high = (float(x) for x in target.aminmax())
    source = _before_views(made)
    bounded = node_name(source) in NODE_OUTPUT_RANGES and name != "BinaryCrossEntropyWithLogits"
    lost = unreachable_fraction(target, node_name(source)) if bounded else None
    node = replace(node, multi_label=_misses_unit_sum(made, target))
    return replace(node, low=low, high=high), lost


def _read_written_out_loss(made: Any) -> float | None:
    """The same for |output - target| or (output - target)^2 written out. The target is worked out:
    the output less the difference.
    """
    difference = made.next_functions[0][0]
    if node_name(difference) != "Sub":
        return None
    if made._input_metadata[0].shape != difference._input_metadata[0].shape:
        return None
    sources = [n for n, _ in difference.next_functions]
    outputs = [n for n in sources if n is not None]
    if len(outputs) != 1 or node_name(outputs[0]) not in NODE_OUTPUT_RANGES:
        return None
    try:
        output, apart = outputs[0]._saved_result.detach(), made._saved_self.detach()
    except (AttributeError, RuntimeError):
        return None
    if output.shape != apart.shape or not bool(torch.isfinite(apart).all()):
        return None
    target = output - apart if sources[0] is not None else output + apart
    return unreachable_fraction(target, node_name(outputs[0]))

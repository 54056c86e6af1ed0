"""The graph that autograd recorded for a loss, as plain data: which operation was fed by which, and
with what shapes.

Only names and shapes are kept, and a few facts on targets at the loss itself; no tensor outlives
the reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ravine.diagnosis.op_names import (
    AFFINE_NODES,
    BATCH_NORM_NODES,
    MIXING_NODES,
    OUTPUT_RANGES,
    TARGET_LOSS_NODES,
    VIEW_NODES,
)

ROUNDING = 1e-4  # a target worked out from a difference is not exact
LARGEST = 20_000  # nodes; a graph beyond is read up to here


@dataclass(frozen=True)
class Node:
    """One recorded operation: its `inputs` are places in the graph, -1 for what needs no
    gradient.
    """

    name: str
    inputs: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None  # of its output
    weight: str = ""  # of a leaf: the parameter's name; "?" for one that nobody named
    dim: int | None = None  # of a softmax
    groups: int = 1  # of a convolution
    # of a loss with a target: the target's least and greatest value; of a hardtanh: its least
    # output
    low: float = 0.0
    high: float = 0.0
    module: str = ""  # of whose forward pass it is the last operation
    several: bool = (
        False  # of a binary cross entropy: some row of its target does not have exactly one 1
    )


@dataclass(frozen=True)
class Graph:
    """The operations of one loss, the loss first."""

    nodes: tuple[Node, ...]
    lost: Mapping[
        int, float
    ]  # by loss: the share of its target's variance that its output cannot reach

    @cached_property
    def consumers(self) -> tuple[int, ...]:
        """How many operations each node feeds."""
        counts = [0] * len(self.nodes)
        for node in self.nodes:
            for i in node.inputs:
                if i >= 0:
                    counts[i] += 1
        return tuple(counts)

    @cached_property
    def weights(self) -> frozenset[str]:
        """The names of the parameters that the loss depends on."""
        return frozenset(n.weight for n in self.nodes if n.weight)

    def source(self, place: int, also: frozenset[str] = frozenset()) -> int:
        """The node behind views (and operations in `also`); -1 if it needs no gradient."""
        while place >= 0 and (
            self.nodes[place].name in VIEW_NODES or self.nodes[place].name in also
        ):
            place = next(iter(self.nodes[place].inputs), -1)
        return place

    def named(self, place: int) -> str:
        """The operation behind views, "" where there is none."""
        place = self.source(place)
        return self.nodes[place].name if place >= 0 else ""

    @cached_property
    def head(self) -> tuple[int, ...]:
        """The places between the loss and the last layers with weights, both ends included."""
        found, waiting = {}, [0]
        while waiting:
            place = waiting.pop()
            if place < 0 or place in found:
                continue
            found[place] = None
            if self.nodes[place].name not in MIXING_NODES:
                waiting.extend(self.nodes[place].inputs)
        return tuple(found)

    def weight_of(self, place: int) -> str:
        """The name of an affine operation's weight matrix, "" if it is no parameter that learns."""
        node = self.nodes[place]
        at = AFFINE_NODES.get(node.name, (0, 1))[1]
        leaf = self.source(node.inputs[at]) if at < len(node.inputs) else -1
        return self.nodes[leaf].weight if leaf >= 0 else ""

    def last_weight(self, place: int) -> str:
        """The weight of the last affine layer before an operation, "" if there are several or
        none.
        """
        seen: set[int] = set()
        waiting, found = [place], set()
        while waiting:
            i = waiting.pop()
            if i < 0 or i in seen:
                continue
            seen.add(i)
            if self.nodes[i].name in AFFINE_NODES:
                found.add(self.weight_of(i))
            elif self.nodes[i].name not in MIXING_NODES:
                waiting.extend(self.nodes[i].inputs)
        return found.pop() if len(found) == 1 else ""

    def affine(self) -> Iterator[int]:
        """The places of operations with a weight matrix."""
        return (i for i, node in enumerate(self.nodes) if node.name in AFFINE_NODES)

    @cached_property
    def rectified(self) -> Mapping[str, str]:
        """The weights whose output goes through a ReLU (ReLU6) and nowhere else.

        Beside each, a weight of the module whose output the rectifier takes: its own, or that of a
        batch norm between.
        """
        found = {}
        for node in self.nodes:
            if (node.name == "Relu" or (node.name == "Hardtanh" and node.low == 0)) and node.inputs:
                gate = self.source(node.inputs[0])
                place = self.source(gate, BATCH_NORM_NODES)
                if (
                    place < 0
                    or self.nodes[place].name not in AFFINE_NODES
                    or self.consumers[place] != 1
                ):
                    continue
                between = self.nodes[gate].name in BATCH_NORM_NODES
                leaf = self.nodes[gate].inputs[1] if between else -1
                by = (
                    (self.nodes[leaf].weight if leaf >= 0 else "")
                    if between
                    else self.weight_of(place)
                )
                if by and self.weight_of(place):
                    found[self.weight_of(place)] = by
        return found


def read_graph(
    loss: Tensor,
    names: Mapping[int, str],
    dropped: Mapping[Any, Any] | None = None,
    makers: Mapping[Any, str] | None = None,
) -> Graph | None:
    """The graph behind a loss; None if it has none. `names` gives parameters' names by `id`,
    `makers` the module whose output an operation made.

    `dropped` are nodes that a dropout module made, with the node that went in: on a CPU autograd
    shows no more of dropout than a product.

    >>> weight = torch.ones(2, 1, requires_grad=True)
    >>> graph = read_graph((torch.ones(3, 2) @ weight).relu().sum(), {id(weight): "w"})
    >>> [node.name for node in graph.nodes], graph.rectified
    (['Sum', 'Relu', 'Mm', 'AccumulateGrad'], {'w': 'w'})
    """
    if loss.grad_fn is None:
        return None
    order: list[Any] = [loss.grad_fn]
    places = {loss.grad_fn: 0}
    nodes: list[Node] = []
    lost: dict[int, float] = {}
    for made in order:  # grows while it is read
        inputs = [n for n, _ in made.next_functions]
        if dropped and made in dropped:
            inputs = [dropped[made]]
        for given in inputs:
            if given is not None and given not in places and len(order) < LARGEST:
                places[given] = len(order)
                order.append(given)
        name = "Dropout" if dropped and made in dropped else _name(made)
        if name in TARGET_LOSS_NODES:
            source = inputs[0] if inputs else None
            while source is not None and _name(source) in VIEW_NODES:
                source = source.next_functions[0][0] if source.next_functions else None
            nodes.append(
                _loss_node(
                    made, name, [places.get(g, -1) for g in inputs], len(nodes), lost, _name(source)
                )
            )
        else:
            if name in ("Abs", "Pow"):
                _by_hand(made, len(nodes), lost)
            nodes.append(_node(made, name, tuple(places.get(g, -1) for g in inputs), names))
        if makers and made in makers:
            nodes[-1] = replace(nodes[-1], module=makers[made])
    return Graph(tuple(nodes), lost)


def _name(made: Any) -> str:
    if made is None:
        return ""
    name = made.name().rpartition("::")[2].partition("Backward")[0]
    return "NllLoss" if name == "NllLoss2D" else name


def _node(made: Any, name: str, inputs: tuple[int, ...], names: Mapping[int, str]) -> Node:
    weight, dim, groups = "", None, 1
    if name == "AccumulateGrad":
        weight = names.get(id(made.variable), "?")
    elif name in ("Softmax", "LogSoftmax"):
        dim = _signed(made._saved_dim)
    elif name == "Convolution":
        groups = int(made._saved_groups)
    low = float(made._saved_min_val) if name == "Hardtanh" else 0.0
    several = name == "BinaryCrossEntropy" and _several(made)
    return Node(name, inputs, _shape(made), weight, dim, groups, low, several=several)


def _several(made: Any) -> bool:
    try:
        target = made._saved_target.detach()
    except (AttributeError, RuntimeError):  # the graph was freed
        return False
    return target.dim() > 1 and bool((target.flatten(0, -2).sum(-1) != 1).any())


def _signed(dim: int) -> int:
    return dim - 2**64 if dim >= 2**63 else dim  # torch shows a negative dim as an unsigned number


def _shape(made: Any) -> tuple[int, ...] | None:
    try:
        return tuple(int(n) for n in made._input_metadata[0].shape)
    except (AttributeError, IndexError, TypeError, RuntimeError):
        return None


def _loss_node(
    made: Any, name: str, inputs: list[int], place: int, lost: dict[int, float], source: str
) -> Node:
    try:
        target = made._saved_target.detach()
    except (AttributeError, RuntimeError):  # the graph was freed: backward came first
        return Node(name, tuple(inputs), _shape(made))
    if not target.numel() or not torch.isfinite(target).all():
        return Node(name, tuple(inputs), _shape(made))
    low, high = (float(x) for x in target.aminmax())
    if source in OUTPUT_RANGES and name != "BinaryCrossEntropyWithLogits":
        lost[place] = _lost(target, source)
    return Node(name, tuple(inputs), _shape(made), low=low, high=high)


def _by_hand(made: Any, place: int, lost: dict[int, float]) -> None:
    """|output - target| or (output - target)^2 written out: the target is what the difference
    leaves of the output.
    """
    between = made.next_functions[0][0]
    if _name(between) != "Sub" or made._input_metadata[0].shape != between._input_metadata[0].shape:
        return
    given = [n for n, _ in between.next_functions]
    squashed = [n for n in given if n is not None]
    if len(squashed) != 1 or _name(squashed[0]) not in OUTPUT_RANGES:
        return
    try:
        output, apart = squashed[0]._saved_result.detach(), made._saved_self.detach()
    except (AttributeError, RuntimeError):
        return
    if output.shape == apart.shape and bool(torch.isfinite(apart).all()):
        lost[place] = _lost(
            output - apart if given[0] is not None else output + apart, _name(squashed[0])
        )


def _lost(target: Tensor, source: str) -> float:
    """The share of a target's variance beyond what an activation gives; rounding of the target does
    not count.
    """
    least, most = OUTPUT_RANGES[source]
    wide = target.detach().double()
    missed = wide - wide.clamp(least, most)
    missed = torch.where(missed.abs() < ROUNDING, 0.0, missed)
    spread = (wide - wide.mean()).square().sum()
    return float(missed.square().sum() / spread) if spread > 0 else float(bool(missed.any()))

"""Faults between output and loss, read from the graph: activations that do not fit the loss, shapes, targets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.graph import Graph
from ravine.diagnosis.rule import Rule, Seen
from ravine.diagnosis.story import Story
from ravine.finding import Change, Evidence

RAW = {"Addmm", "Mm", "Linear", "Convolution", "Relu", "Tanh"}  # what no probability and no logarithm of one comes from
PAIRED = ("Sub", "MseLoss", "SmoothL1Loss", "HuberLoss", "Expand")
UNREACHED = 0.05  # share of the target's variance


def of(story: Story, *names: str) -> Iterator[tuple[Graph, int]]:
    """Places of operations of these names between the last layers and the loss."""
    graph = story.graph
    if graph is not None:
        yield from ((graph, place) for place in graph.head if graph.nodes[place].name in names)


def squashed_twice(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "LogSoftmax"):
        before = graph.named(graph.nodes[place].inputs[0])
        shape = graph.nodes[place].shape or ()
        classes = shape[graph.nodes[place].dim or 0] if shape else 0
        if before in ("Softmax", "Sigmoid") and classes > 1:
            floor = math.log(1 + (classes - 1) / math.e)
            yield Seen(where=_layer(graph, place), since=0, title=f"{before.lower()} before cross entropy",
                       evidence=(
                Evidence("the loss cannot fall below", floor, "", None, f"for {classes} classes: outputs are 0 to 1"),
            ), changes=(Change("output", f"without {before.lower()}; cross entropy has its own"),))  # fmt: skip
        elif before in ("Tanh", "Relu") and classes > 1:
            yield Seen(where=_layer(graph, place), since=0, title=f"{before.lower()} before cross entropy",
                       severity="warning", evidence=(
                Evidence("lowest logit", -1.0 if before == "Tanh" else 0.0, "", None, "logits should be free"),
            ), changes=(Change("output", f"without {before.lower()}"),))  # fmt: skip


def squashed_before_binary(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "BinaryCrossEntropyWithLogits"):
        before = graph.named(graph.nodes[place].inputs[0])
        if before in ("Sigmoid", "Softmax", "Tanh", "Relu"):
            best = 1.0 if before != "Tanh" else 2.0
            yield Seen(where=_layer(graph, place), since=0, title=f"{before.lower()} before a loss that takes logits",
                       severity="warning" if before in ("Tanh", "Relu") else "error", evidence=(
                Evidence("the probability of one class is at least", 0.5 if best == 1.0 else 0.27),
            ), changes=(Change("loss", "BCELoss on probabilities, or logits without "
                               f"{before.lower()}"),))  # fmt: skip


def twice_the_logarithm(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "LogSoftmax"):
        if graph.named(graph.nodes[place].inputs[0]) == "LogSoftmax":
            yield Seen(where=_layer(graph, place), since=0, evidence=(
                Evidence("log_softmax in a row", 2, "", 1, "the second changes nothing"),
            ), changes=(Change("loss", "nll_loss on log_softmax, or cross_entropy on logits"),))  # fmt: skip


def one_unit(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "Softmax", "LogSoftmax"):
        node = graph.nodes[place]
        if node.shape and node.dim is not None and len(node.shape) > 1 and node.shape[node.dim] == 1:
            yield Seen(where=_layer(graph, place), since=0, evidence=(
                Evidence("units of the softmax", 1, "", 2, "its output is 1 whatever goes in"),
            ), changes=(Change("output", "sigmoid for one unit, or a unit for each class"),))  # fmt: skip


def no_probability(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "NllLoss"):
        before = graph.named(graph.nodes[place].inputs[0])
        if before in RAW | {"Softmax", "Sigmoid"}:
            given = {"Softmax": "probabilities", "Sigmoid": "probabilities"}.get(before, "logits")
            yield Seen(where=_layer(graph, place), since=0, title=f"nll_loss gets {given}, not their logarithms",
                       evidence=(Evidence("operation before the loss", None, "", None, before.lower()),),
                       changes=(Change("loss", "cross_entropy on logits"),))  # fmt: skip
    for graph, place in of(story, "BinaryCrossEntropy"):
        before = graph.named(graph.nodes[place].inputs[0])
        if before in RAW:
            yield Seen(where=_layer(graph, place), since=0, title="binary cross entropy gets logits, not probabilities",
                       evidence=(Evidence("operation before the loss", None, "", None, before.lower()),),
                       changes=(Change("loss", "binary_cross_entropy_with_logits"),))  # fmt: skip


def paired(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, *PAIRED):
        node = graph.nodes[place]
        learned = [i for i in node.inputs if i >= 0]
        if len(learned) != 1 or node.shape is None or len(node.shape) != 2:
            continue
        given = graph.nodes[learned[0]].shape
        rows = node.shape[0]
        if rows > 1 and node.shape == (rows, rows) and given in ((rows, 1), (rows,)):
            yield Seen(where=_layer(graph, place), since=0, evidence=(
                Evidence("differences in the loss", rows * rows, "", rows, f"output {list(given)} against a target of "
                         f"{[rows] if len(given) == 2 else [rows, 1]}: every output meets every target"),
            ), changes=(Change("loss", "output.squeeze(1), or target.unsqueeze(1)"),))  # fmt: skip
            return


def over_the_batch(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "Softmax", "LogSoftmax"):
        node = graph.nodes[place]
        before = graph.named(node.inputs[0])
        if node.dim not in (0, -2) or node.shape is None or len(node.shape) != 2 or node.shape[0] == node.shape[1]:
            continue
        if before in ("Addmm", "Linear") and node.shape[0] > 1:
            yield Seen(where=_layer(graph, place), since=0, evidence=(
                Evidence("softmax over dimension", 0, "", 1, f"of outputs {list(node.shape)}: examples, not classes"),
            ), changes=(Change("output", "softmax over dim=1"),))  # fmt: skip


def out_of_reach(story: Story) -> Iterator[Seen]:
    graph = story.graph
    if graph is None:
        return
    for place, lost in graph.lost.items():
        if lost <= UNREACHED:
            continue
        node = graph.nodes[place]
        before = graph.named(node.inputs[0])
        if before == "Sub":
            before = next(graph.named(i) for i in graph.nodes[node.inputs[0]].inputs if i >= 0)
        bounds = (Evidence("target from", node.low), Evidence("to", node.high)) if node.high > node.low else ()
        yield Seen(where=_layer(graph, place), since=0, title=f"the target is out of the reach of {before.lower()}",
                   severity="error" if lost > 0.5 else "warning", suspects=("target-scale",), evidence=(
            Evidence("of the target's variance cannot be met", 100 * lost, "%", 100 * UNREACHED), *bounds,
        ), changes=(Change("output", f"without {before.lower()}"),))  # fmt: skip
        return


def beyond_probability(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "BinaryCrossEntropyWithLogits"):
        node = graph.nodes[place]
        if node.low < 0 or node.high > 1:
            yield Seen(since=0, evidence=(
                Evidence("target from", node.low, "", 0.0), Evidence("to", node.high, "", 1.0, "the loss has no bound"),
            ), changes=(Change("data", "targets from 0 to 1"),))  # fmt: skip


def _layer(graph: Graph, place: int) -> str:
    return graph.last_weight(place)


ALL = (
    Rule(code="RVN-H01", title="softmax before cross entropy", cause="output-activation", severity="error",
         find=squashed_twice, needs="graph",
         because="cross_entropy takes logits and applies log_softmax itself",
         misses="activations with arithmetic between them and the loss"),
    Rule(code="RVN-H02", title="sigmoid before a loss that takes logits", cause="output-activation", severity="error",
         find=squashed_before_binary, needs="graph", because="the loss applies its own sigmoid",
         misses="activations with arithmetic between them and the loss"),
    Rule(code="RVN-H03", title="log_softmax is applied twice", cause="loss", severity="note", find=twice_the_logarithm,
         needs="graph", because="cross_entropy is given the output of log_softmax; harmless, since it changes nothing",
         misses="nothing known"),
    Rule(code="RVN-H04", title="softmax over one unit", cause="output-activation", severity="error", find=one_unit,
         needs="graph", explains=("RVN-N02", "RVN-S03", "RVN-H01"), because="the output layer has one unit",
         misses="losses told as numbers"),
    Rule(code="RVN-H05", title="the loss gets something else than probabilities", cause="loss", severity="error",
         find=no_probability, needs="graph", because="nll_loss takes log-probabilities, BCELoss takes probabilities",
         misses="losses written out by hand"),
    Rule(code="RVN-H06", title="every output is paired with every target", cause="shape-pairing", severity="error",
         find=paired, needs="graph", because="[N, 1] against [N] is broadcast to [N, N]",
         misses="outputs with more than two dimensions"),
    Rule(code="RVN-H07", title="softmax over the examples of a batch", cause="output-activation", severity="error",
         find=over_the_batch, needs="graph", because="dim=0 is the batch", misses="batches as large as the classes"),
    Rule(code="RVN-H08", title="the target is out of the output's reach", cause="output-activation", severity="error",
         find=out_of_reach, needs="graph", confidence="high",
         because="the output's activation is bounded and the target is not within its bounds",
         misses="losses with more arithmetic than a square or an absolute value of output less target"),
    Rule(code="RVN-H09", title="targets of a binary loss outside 0 to 1", cause="labels", severity="error",
         find=beyond_probability, needs="graph", because="labels are -1 and 1, or class numbers",
         misses="losses written out by hand"),
)  # fmt: skip

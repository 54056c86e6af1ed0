"""Faults between output and loss, read from the graph: activations that do not fit the loss,
shapes, targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.op_names import (
    BROADCASTING_NODES,
    LOGIT_NODES,
    OUTPUT_RANGES,
    PROBABILITY_NODES,
)
from ravine.diagnosis.rule import Observation, rule
from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.history import Story
from ravine.finding import Change, Evidence

UNREACHED = 0.05  # share of the target's variance


def of(story: Story, *names: str) -> Iterator[tuple[Graph, int]]:
    """Places of operations of these names between the last layers and the loss."""
    graph = story.graph
    if graph is not None:
        yield from ((graph, place) for place in graph.head if graph.nodes[place].name in names)


@rule("RVN-H01", severity="error", cause="output-activation", needs="graph", picture="losses")
def squashed_twice(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "LogSoftmax"):
        before = graph.named(graph.nodes[place].inputs[0])
        shape = graph.nodes[place].shape or ()
        classes = shape[graph.nodes[place].dim or 0] if shape else 0
        if before in ("Softmax", "Sigmoid") and classes > 1:
            floor = math.log(1 + (classes - 1) / math.e)
            yield Observation(
                where=_layer(graph, place),
                since=0,
                title=f"{before.lower()} before cross entropy",
                evidence=(
                    Evidence(
                        "the loss cannot fall below",
                        floor,
                        "",
                        None,
                        f"for {classes} classes: outputs are 0 to 1",
                    ),
                ),
                changes=(Change("output", f"without {before.lower()}; cross entropy has its own"),),
            )
        elif before in ("Tanh", "Relu") and classes > 1:
            yield Observation(
                where=_layer(graph, place),
                since=0,
                title=f"{before.lower()} before cross entropy",
                severity="warning",
                evidence=(
                    Evidence(
                        "lowest logit",
                        -1.0 if before == "Tanh" else 0.0,
                        "",
                        None,
                        "logits should be free",
                    ),
                ),
                changes=(Change("output", f"without {before.lower()}"),),
            )


@rule("RVN-H02", severity="error", cause="output-activation", needs="graph", picture="losses")
def squashed_before_binary(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "BinaryCrossEntropyWithLogits"):
        before = graph.named(graph.nodes[place].inputs[0])
        if before in ("Sigmoid", "Softmax", "Tanh", "Relu"):
            best = 1.0 if before != "Tanh" else 2.0
            yield Observation(
                where=_layer(graph, place),
                since=0,
                title=f"{before.lower()} before a loss that takes logits",
                severity="warning" if before in ("Tanh", "Relu") else "error",
                evidence=(
                    Evidence(
                        "the probability of one class is at least", 0.5 if best == 1.0 else 0.27
                    ),
                ),
                changes=(
                    Change("loss", f"BCELoss on probabilities, or logits without {before.lower()}"),
                ),
            )

    for graph, place in of(story, "LogSigmoid"):
        before = graph.source(graph.nodes[place].inputs[0], frozenset({"Neg"}))
        if before >= 0 and graph.nodes[before].name in ("Sigmoid", "Softmax"):
            name = graph.nodes[before].name.lower()
            yield Observation(
                where=_layer(graph, before),
                since=0,
                title=f"{name} before a loss that takes logits",
                evidence=(Evidence("the probability of one class is at least", 0.5),),
                changes=(Change("output", f"without {name}"),),
            )
            return


@rule("RVN-H10", severity="error", cause="output-activation", also=("loss",), needs="graph")
def shared_among_labels(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "BinaryCrossEntropy"):
        node = graph.nodes[place]
        before = graph.source(node.inputs[0])
        if before < 0 or graph.nodes[before].name != "Softmax" or not node.several:
            continue
        shape = graph.nodes[before].shape or ()
        if shape and shape[-1] > 1:
            yield Observation(
                where=_layer(graph, before),
                since=0,
                evidence=(
                    Evidence(
                        "sum of the outputs of one example",
                        1.0,
                        "",
                        None,
                        f"for {shape[-1]} labels that exclude each other; the targets do not",
                    ),
                ),
                changes=(Change("output", "sigmoid"),),
            )


@rule("RVN-H03", severity="note", cause="loss", needs="graph")
def twice_the_logarithm(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "LogSoftmax"):
        if graph.named(graph.nodes[place].inputs[0]) == "LogSoftmax":
            yield Observation(
                where=_layer(graph, place),
                since=0,
                evidence=(
                    Evidence("log_softmax in a row", 2, "", 1, "the second changes nothing"),
                ),
                changes=(Change("loss", "nll_loss on log_softmax, or cross_entropy on logits"),),
            )


@rule(
    "RVN-H04",
    severity="error",
    cause="output-activation",
    needs="graph",
    explains=("RVN-N02", "RVN-S03", "RVN-H01"),
)
def one_unit(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "Softmax", "LogSoftmax"):
        node = graph.nodes[place]
        if (
            node.shape
            and node.dim is not None
            and len(node.shape) > 1
            and node.shape[node.dim] == 1
        ):
            yield Observation(
                where=_layer(graph, place),
                since=0,
                evidence=(
                    Evidence("units of the softmax", 1, "", 2, "its output is 1 whatever goes in"),
                ),
                changes=(Change("output", "sigmoid for one unit, or a unit for each class"),),
            )


@rule("RVN-H05", severity="error", cause="loss", needs="graph", picture="losses")
def no_probability(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "NllLoss"):
        before = graph.named(graph.nodes[place].inputs[0])
        if before in LOGIT_NODES | PROBABILITY_NODES:
            given = {"Softmax": "probabilities", "Sigmoid": "probabilities"}.get(before, "logits")
            yield Observation(
                where=_layer(graph, place),
                since=0,
                title=f"nll_loss gets {given}, not log-probabilities",
                evidence=(Evidence("operation before the loss", None, "", None, before.lower()),),
                changes=(Change("loss", "cross_entropy on logits"),),
            )
    for graph, place in of(story, "BinaryCrossEntropy"):
        before = graph.named(graph.nodes[place].inputs[0])
        if before in LOGIT_NODES:
            yield Observation(
                where=_layer(graph, place),
                since=0,
                title="binary cross entropy gets logits, not probabilities",
                evidence=(Evidence("operation before the loss", None, "", None, before.lower()),),
                changes=(Change("loss", "binary_cross_entropy_with_logits"),),
            )


@rule("RVN-H06", severity="error", cause="shape-pairing", needs="graph")
def paired(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, *BROADCASTING_NODES):
        node = graph.nodes[place]
        learned = [i for i in node.inputs if i >= 0]
        if len(learned) != 1 or node.shape is None or len(node.shape) != 2:
            continue
        given = graph.nodes[learned[0]].shape
        rows = node.shape[0]
        if rows > 1 and node.shape == (rows, rows) and given in ((rows, 1), (rows,)):
            yield Observation(
                where=_layer(graph, place),
                since=0,
                evidence=(
                    Evidence(
                        "differences in the loss",
                        rows * rows,
                        "",
                        rows,
                        f"output {list(given)} against a target of "
                        f"{[rows] if len(given) == 2 else [rows, 1]}: every output meets every "
                        f"target",
                    ),
                ),
                changes=(Change("loss", "output.squeeze(1), or target.unsqueeze(1)"),),
            )
            return


@rule("RVN-H07", severity="error", cause="output-activation", needs="graph")
def over_the_batch(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "Softmax", "LogSoftmax"):
        node = graph.nodes[place]
        before = graph.named(node.inputs[0])
        if (
            node.dim not in (0, -2)
            or node.shape is None
            or len(node.shape) != 2
            or node.shape[0] == node.shape[1]
        ):
            continue
        if before in ("Addmm", "Linear") and node.shape[0] > 1:
            yield Observation(
                where=_layer(graph, place),
                since=0,
                evidence=(
                    Evidence(
                        "softmax over dimension",
                        0,
                        "",
                        1,
                        f"of outputs {list(node.shape)}: examples, not classes",
                    ),
                ),
                changes=(Change("output", "softmax over dim=1"),),
            )


@rule(
    "RVN-H08",
    severity="error",
    confidence="high",
    cause="output-activation",
    also=("target-scale",),
    needs="graph",
)
def out_of_reach(story: Story) -> Iterator[Observation]:
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
        bounds = (
            (Evidence("target from", node.low), Evidence("to", node.high))
            if node.high > node.low
            else ()
        )
        yield Observation(
            where=_layer(graph, place),
            since=0,
            title=f"the target is out of the reach of {before.lower()}",
            severity="error" if lost > 0.5 else "warning",
            suspects=("target-scale",),
            evidence=(
                Evidence(
                    "of the target's variance cannot be met", 100 * lost, "%", 100 * UNREACHED
                ),
                *bounds,
            ),
            changes=(Change("output", f"without {before.lower()}"),),
        )
        return


@rule("RVN-H09", severity="error", cause="labels", needs="graph")
def beyond_probability(story: Story) -> Iterator[Observation]:
    for graph, place in of(story, "BinaryCrossEntropyWithLogits"):
        node = graph.nodes[place]
        if node.low < 0 or node.high > 1:
            yield Observation(
                since=0,
                evidence=(
                    Evidence("target from", node.low, "", 0.0),
                    Evidence("to", node.high, "", 1.0, "the loss has no bound"),
                ),
                changes=(Change("data", "targets from 0 to 1"),),
            )


def _layer(graph: Graph, place: int) -> str:
    """The module of the activation behind a place of the loss, or of an activation at it; else the
    last weight.
    """
    node = graph.nodes[place]
    if node.name not in OUTPUT_RANGES:
        place = next(
            (
                i
                for given in node.inputs
                if (i := graph.source(given, frozenset({"Neg", "Sub"}))) >= 0
            ),
            place,
        )
    return graph.nodes[place].module or graph.last_weight(place)


ALL = (
    squashed_twice,
    squashed_before_binary,
    twice_the_logarithm,
    one_unit,
    no_probability,
    paired,
    over_the_batch,
    out_of_reach,
    beyond_probability,
    shared_among_labels,
)

"""Faults of the network in its graph and gradients: equal units, linear layers, dead units."""

import math
from collections.abc import Iterator

from ravine.diagnosis.op_names import AFFINE_NODES, CONVOLUTION_NODES, LINEAR_NODES
from ravine.diagnosis.rule import Observation, join_names, observe, rule, symptom
from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.history import INACTIVE_EXAMPLES, InactiveUnits, LoopHistory
from ravine.finding import Change, Evidence

EQUAL_UNITS_FRACTION = 0.5  # of a layer's units
EQUAL_UNITS_STEPS = 3  # before: with a last layer of zeros, units are equal for one step
DEAD_UNITS_FRACTION = 0.9  # of a layer's units
ALIVE_UNITS_FRACTION = DEAD_UNITS_FRACTION / 2  # dead at first: with fewer, training killed them
RECURRENT_MODULES = ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell")
# and the last layer of an attention, whose class has a name of its own
NONLINEAR_MODULES = (*RECURRENT_MODULES, "MultiheadAttention", "NonDynamicallyQuantizableLinear")
SAME_INPUT_STEPS = 2  # in which all places of one layer have one input


@rule(
    "RVN-S01",
    "error",
    "initialization",
    needs=f"snapshots, updates {EQUAL_UNITS_STEPS + 1}",
    explains="RVN-N02",
)
def equal_units(history: LoopHistory) -> Iterator[Observation]:
    found: dict[str, tuple[int, int]] = {}
    for snapshot in history.snapshots:
        if snapshot.step >= EQUAL_UNITS_STEPS:
            for name, (equal, units) in snapshot.duplicate_rows.items():
                if equal >= EQUAL_UNITS_FRACTION * units:
                    found[name] = (equal, units)
    if found:
        layer, (equal, units) = next(iter(found.items()))
        name = "units equal to another, in weights and in gradient"
        evidence = Evidence(name, equal, limit=0, text=f"of {units} in {layer}: they stay equal")
        change = Change("init", "nn.init.kaiming_normal_(layer.weight)")
        yield observe(evidence, change, where=join_names(found), since=0)


@rule("RVN-S02", "warning", "hidden-activation", needs="graph")
def missing_nonlinearity(history: LoopHistory) -> Iterator[Observation]:
    graph = history.graph
    if graph is None:
        return
    owners = {p.name: p.owner for p in history.model.parameters}
    places = list(graph.affine_places())
    pairs = []
    for place in places:
        if (first := _linear_source(graph, place)) < 0:
            continue
        weights = graph.weight_of(first), graph.weight_of(place)
        nonlinear = any(owners.get(weight) in NONLINEAR_MODULES for weight in weights)
        if all(weights) and not nonlinear and _is_redundant(graph, first, place):
            pairs.append(weights)
    if pairs:
        exception = 2 * len(pairs) < len(places) - 1  # most layers do have a nonlinearity
        name = "layers without a nonlinearity between them"
        effect = "together they can do no more than one"
        evidence = Evidence(name, len(pairs) + 1, limit=1, text=effect)
        change = Change("model", "an activation between these layers")
        where = join_names(f"between {a} and {b}" for a, b in reversed(pairs))
        severity = "note" if exception else "warning"
        yield observe(evidence, change, where=where, since=0, severity=severity)


@rule(
    "RVN-S04", "warning", "architecture-too-small", needs="updates", also="replicas, initialization"
)
def repeated_layers(history: LoopHistory) -> Iterator[Observation]:
    for first, places in history.model.repeated_layers.items():
        same = history.model.twin_calls.get(first, 0) >= SAME_INPUT_STEPS  # and so are its outputs
        name, shared = "places of one layer in a list", "one set of weights"
        count = Evidence(name, len(places), limit=1, text=shared)
        change = Change("model", "a layer of its own for each place: [make() for _ in range(n)]")
        severity = "" if same else "note"
        yield observe(count, change, where=join_names(places), since=0, severity=severity)


@symptom(
    "RVN-S03",
    "warning",
    "dead-units",
    needs="graph, units",
    also="learning-rate-high, initialization, input-scale",
    explains="RVN-N02",
)
def dead_relu_units(history: LoopHistory) -> Iterator[Observation]:
    last: dict[str, InactiveUnits] = {}
    for snapshot in history.snapshots:
        last |= snapshot.inactive
    found = {
        name: layer
        for name, layer in last.items()
        if layer.units > 1
        and layer.examples >= INACTIVE_EXAMPLES
        and layer.count >= DEAD_UNITS_FRACTION * layer.units
    }
    if not found:
        return
    name, layer = max(found.items(), key=lambda f: f[1].count / f[1].units)
    whole = layer.count == layer.units
    died = layer.at_first < ALIVE_UNITS_FRACTION * layer.units
    units = f"of {layer.units}; {layer.at_first} in the first batch"
    yield observe(
        Evidence("units that are 0 for every example", layer.count, text=units),
        Change("lr", "3 to 10 times lower"),
        Change("activation", "leaky_relu"),
        where=join_names([name, *(n for n in found if n != name)]),
        severity="error" if whole else "warning",
        confidence="exact" if whole and not died else "high",
        cause="learning-rate-high" if died else "dead-units",
        suspects=("dead-units",) if died else ("initialization", "input-scale"),
        title="all units of a ReLU layer are dead" if whole else "",
    )


def _linear_source(graph: Graph, place: int) -> int:
    """The affine operation whose output goes straight and only into this one; -1 without one."""
    node = graph.nodes[place]
    place = node.inputs[AFFINE_NODES[node.name][0]]
    first = graph.source(place, LINEAR_NODES)
    if first < 0 or graph.nodes[first].name not in AFFINE_NODES:
        return -1
    while place != first and graph.consumers[place] == 1:
        place = graph.nodes[place].inputs[0]
    return first if graph.consumers[place] == 1 else -1


def _is_redundant(graph: Graph, first: int, second: int) -> bool:
    """Whether one layer could do what a pair does; grouped or narrow pairs may be meant."""
    a, b = graph.nodes[first], graph.nodes[second]
    if "Convolution" in (a.name, b.name) and not a.groups == b.groups == 1:
        return False
    before, between = _features(graph, first)
    inputs, after = _features(graph, second)
    return before > 0 and inputs > 0 and between >= min(before, after)


def _features(graph: Graph, place: int) -> tuple[int, int]:
    """Input and output features of an affine operation by its weight; (0, 0) if unknown."""
    node = graph.nodes[place]
    shape = graph.nodes[node.inputs[AFFINE_NODES[node.name][1]]].shape
    if shape is None or len(shape) < 2:
        return 0, 0
    if node.name in CONVOLUTION_NODES or node.name == "Linear":
        return math.prod(shape[1:]), shape[0]
    return shape[0], shape[1]

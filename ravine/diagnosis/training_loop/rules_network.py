"""Faults of the network itself that show in its graph and gradients: equal units, no nonlinearity,
dead units.
"""

from __future__ import annotations

from collections.abc import Iterator

from ravine.diagnosis.op_names import AFFINE_NODES, CONVOLUTION_NODES, LINEAR_NODES
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.history import Idle, Story
from ravine.finding import Change, Evidence

EQUAL = 0.5  # share of a layer's units
DEAD = 0.9  # share of a layer's units
SOME_DEAD = DEAD / 2
EXAMPLES = 128  # fewer, and a unit may be silent by chance
STEPS = (
    3  # before units that start equal are called equal: a last layer of zeros parts them after one
)
INSIDE = (
    "RNN",
    "GRU",
    "LSTM",
    "RNNCell",
    "GRUCell",
    "LSTMCell",
    "MultiheadAttention",
)  # have their own nonlinearity


@rule(
    "RVN-S01",
    severity="error",
    cause="initialization",
    needs="looks",
    explains=("RVN-N02",),
    picture="zero-init",
)
def equal_units(story: Story) -> Iterator[Observation]:
    found: dict[str, tuple[int, int]] = {}
    for look in story.looks:
        if look.step >= STEPS:
            found |= {
                name: counts
                for name, counts in look.twins.items()
                if counts[0] >= EQUAL * counts[1]
            }
    if found:
        same, units = next(iter(found.values()))
        yield Observation(
            where=join_names(found),
            since=0,
            evidence=(
                Evidence(
                    "units equal to another, in weights and in gradient",
                    same,
                    "",
                    0,
                    f"of {units} in {next(iter(found))}: they stay equal",
                ),
            ),
            changes=(Change("init", "random"),),
        )


@rule("RVN-S02", severity="warning", cause="hidden-activation", needs="graph")
def no_nonlinearity(story: Story) -> Iterator[Observation]:
    graph = story.graph
    if graph is None:
        return
    owners = {w.name: w.owner for w in story.weights}
    pairs = []
    for place in graph.affine():
        node = graph.nodes[place]
        given = graph.source(node.inputs[AFFINE_NODES[node.name][0]], LINEAR_NODES)
        if (
            given < 0
            or graph.nodes[given].name not in AFFINE_NODES
            or not _alone(graph, node, given)
        ):
            continue
        first, second = graph.weight_of(given), graph.weight_of(place)
        if not first or not second or owners.get(first) in INSIDE or owners.get(second) in INSIDE:
            continue
        if _full(graph, given, place):
            pairs.append((first, second))
    if pairs:
        some = (
            2 * len(pairs) < sum(1 for _ in graph.affine()) - 1
        )  # most layers do have one behind them
        yield Observation(
            where=join_names(f"between {a} and {b}" for a, b in reversed(pairs)),
            since=0,
            severity="note" if some else "warning",
            evidence=(
                Evidence(
                    "layers without a nonlinearity between them",
                    len(pairs) + 1,
                    "",
                    1,
                    "they can do what one can",
                ),
            ),
            changes=(Change("model", "an activation between these layers"),),
        )


@rule(
    "RVN-S03",
    severity="warning",
    cause="dead-units",
    also=("learning-rate-high", "initialization", "input-scale"),
    needs="graph",
    explains=("RVN-N02",),
    picture="activations",
)
def dead_units(story: Story) -> Iterator[Observation]:
    last: dict[str, Idle] = {}
    for look in story.looks:
        last |= look.idle
    found = {
        name: idle
        for name, idle in last.items()
        if idle.units > 1 and idle.rows >= EXAMPLES and idle.count >= DEAD * idle.units
    }
    if not found:
        return
    name, idle = max(found.items(), key=lambda f: f[1].count / f[1].units)
    whole = idle.count == idle.units
    died = idle.first < SOME_DEAD * idle.units  # they were alive: a step put them out
    yield Observation(
        where=join_names([name, *(n for n in found if n != name)]),
        severity="error" if whole else "warning",
        confidence="exact" if whole and not died else "high",
        cause="learning-rate-high" if died else "dead-units",
        suspects=("dead-units",) if died else ("initialization", "input-scale"),
        evidence=(
            Evidence(
                "units that no example activates",
                idle.count,
                "",
                None,
                f"of {idle.units}; {idle.first} in the first batch",
            ),
        ),
        title="a whole layer of rectifiers is dead" if whole else "",
        changes=(Change("lr", "3 to 10 times lower"), Change("activation", "leaky_relu")),
    )


def _alone(graph: Graph, node, given: int) -> bool:
    """Whether the first layer's output goes to the second and nowhere else, step by step."""
    place = node.inputs[AFFINE_NODES[node.name][0]]
    while place != given:
        if graph.consumers[place] != 1:
            return False
        place = graph.nodes[place].inputs[0]
    return graph.consumers[given] == 1


def _full(graph: Graph, first: int, second: int) -> bool:
    """Whether the pair is no bottleneck: a narrow layer between two wide ones is a factorization,
    and may be meant.
    """
    a, b = graph.nodes[first], graph.nodes[second]
    if "Convolution" in (a.name, b.name):
        return a.groups == b.groups == 1 and _wide(
            _features(graph, first), _features(graph, second)
        )
    return _wide(_features(graph, first), _features(graph, second))


def _wide(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return first[0] > 0 and second[0] > 0 and first[1] >= min(first[0], second[1])


def _features(graph: Graph, place: int) -> tuple[int, int]:
    """Numbers that go into and come out of an affine operation, from its weight's shape; (0, 0) if
    unknown.
    """
    node = graph.nodes[place]
    at = AFFINE_NODES[node.name][1]
    weight = graph.nodes[node.inputs[at]].shape
    if weight is None or len(weight) < 2:
        return 0, 0
    if node.name in CONVOLUTION_NODES or node.name == "Linear":
        taps = 1
        for n in weight[2:]:
            taps *= n
        return weight[1] * taps, weight[0]
    return weight[0], weight[1]


ALL = (
    equal_units,
    no_nonlinearity,
    dead_units,
)

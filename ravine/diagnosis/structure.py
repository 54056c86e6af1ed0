"""Faults of the network itself that show in its graph and gradients: equal units, no nonlinearity, dead units."""

from __future__ import annotations

from collections.abc import Iterator

from ravine.diagnosis.graph import AFFINE, LINEAR, Graph
from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.diagnosis.story import Idle, Story
from ravine.finding import Change, Evidence

EQUAL = 0.5  # share of a layer's units
DEAD = 0.9  # share of a layer's units
EXAMPLES = 128  # fewer, and a unit may be silent by chance
STEPS = 3  # before units that start equal are called equal: a last layer of zeros parts them after one
INSIDE = ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell", "MultiheadAttention")  # have their own nonlinearity


def equal_units(story: Story) -> Iterator[Seen]:
    found: dict[str, tuple[int, int]] = {}
    for look in story.looks:
        if look.step >= STEPS:
            found |= {name: counts for name, counts in look.twins.items() if counts[0] >= EQUAL * counts[1]}
    if found:
        same, units = next(iter(found.values()))
        yield Seen(where=listed(found), since=0, evidence=(
            Evidence("units equal to another, in weights and in gradient", same, "", 0, f"of {units} in "
                     f"{next(iter(found))}: they stay equal"),
        ), changes=(Change("init", "random"),))  # fmt: skip


def no_nonlinearity(story: Story) -> Iterator[Seen]:
    graph = story.graph
    if graph is None:
        return
    owners = {w.name: w.owner for w in story.weights}
    pairs = []
    for place in graph.affine():
        node = graph.nodes[place]
        given = graph.source(node.inputs[AFFINE[node.name][0]], frozenset(LINEAR))
        if given < 0 or graph.nodes[given].name not in AFFINE or not _alone(graph, node, given):
            continue
        first, second = graph.weight_of(given), graph.weight_of(place)
        if not first or not second or owners.get(first) in INSIDE or owners.get(second) in INSIDE:
            continue
        if _full(graph, given, place):
            pairs.append((first, second))
    if pairs:
        yield Seen(where=listed(f"between {a} and {b}" for a, b in reversed(pairs)), since=0, evidence=(
            Evidence("layers without a nonlinearity between them", len(pairs) + 1, "", 1, "they can do what one can"),
        ), changes=(Change("model", "an activation between these layers"),))  # fmt: skip


def dead_units(story: Story) -> Iterator[Seen]:
    last: dict[str, Idle] = {}
    for look in story.looks:
        last |= look.idle
    found = {name: idle for name, idle in last.items()
             if idle.units > 1 and idle.rows >= EXAMPLES and idle.count >= DEAD * idle.units}  # fmt: skip
    if not found:
        return
    name, idle = max(found.items(), key=lambda f: f[1].count / f[1].units)
    whole = idle.count == idle.units
    died = idle.first < DEAD / 2 * idle.units  # they were alive: a step put them out
    yield Seen(where=listed([name, *(n for n in found if n != name)]), severity="error" if whole else "warning",
               confidence="exact" if whole and not died else "high",
               cause="learning-rate-high" if died else "dead-units",
               suspects=("dead-units",) if died else ("initialization", "input-scale"),
               evidence=(Evidence("units that no example activates", idle.count, "", None,
                                  f"of {idle.units}; {idle.first} in the first batch"),),
               title="a whole layer of rectifiers is dead" if whole else "",
               changes=(Change("lr", "3 to 10 times lower"), Change("activation", "leaky_relu")))  # fmt: skip


def _alone(graph: Graph, node, given: int) -> bool:
    """Whether the first layer's output goes to the second and nowhere else, step by step."""
    place = node.inputs[AFFINE[node.name][0]]
    while place != given:
        if graph.consumers[place] != 1:
            return False
        place = graph.nodes[place].inputs[0]
    return graph.consumers[given] == 1


def _full(graph: Graph, first: int, second: int) -> bool:
    """Whether the pair is no bottleneck: a narrow layer between two wide ones is a factorization, and may be meant."""
    a, b = graph.nodes[first], graph.nodes[second]
    if "Convolution" in (a.name, b.name):
        return a.groups == b.groups == 1 and _wide(_features(graph, first), _features(graph, second))
    return _wide(_features(graph, first), _features(graph, second))


def _wide(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return first[0] > 0 and second[0] > 0 and first[1] >= min(first[0], second[1])


def _features(graph: Graph, place: int) -> tuple[int, int]:
    """Numbers that go into and come out of an affine operation, from its weight's shape; (0, 0) if unknown."""
    node = graph.nodes[place]
    at = AFFINE[node.name][1]
    weight = graph.nodes[node.inputs[at]].shape
    if weight is None or len(weight) < 2:
        return 0, 0
    if node.name in ("Convolution", "MkldnnConvolution", "Linear"):
        taps = 1
        for n in weight[2:]:
            taps *= n
        return weight[1] * taps, weight[0]
    return weight[0], weight[1]


ALL = (
    Rule(code="RVN-S01", title="units of a layer are equal and stay equal", cause="initialization", severity="error",
         find=equal_units, needs="looks", explains=("RVN-N02",),
         because="weights start at one value, so equal units get equal gradients",
         misses="layers without a weight matrix; embeddings"),
    Rule(code="RVN-S02", title="no nonlinearity between layers", cause="hidden-activation", severity="warning",
         find=no_nonlinearity, needs="graph", because="an activation was forgotten, or stands in the wrong place",
         misses="pairs with a sum, a mean or an attention between them; factorizations through a narrow layer"),
    Rule(code="RVN-S03", title="most units of a rectified layer are dead", cause="dead-units", severity="warning",
         find=dead_units, needs="graph", explains=("RVN-N02",),
         because="a step too long, or a start too far from 0, left the units below 0 for every example",
         misses="layers with fewer than nine dead units in ten; batches that together have fewer than 128 rows"),
)  # fmt: skip

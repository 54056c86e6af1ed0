"""Faults of the network itself that show in its graph and gradients: equal units, no nonlinearity, dead units."""

from __future__ import annotations

from collections.abc import Iterator

from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.diagnosis.training_loop.autograd_graph import AFFINE, LINEAR, Graph
from ravine.diagnosis.training_loop.history import Idle, Story
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
        some = 2 * len(pairs) < sum(1 for _ in graph.affine()) - 1  # most layers do have one behind them
        yield Seen(where=listed(f"between {a} and {b}" for a, b in reversed(pairs)), since=0,
                   severity="note" if some else "warning", evidence=(
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
         misses="layers without a weight matrix; embeddings",
         means="Units of one layer have the same weights and get the same gradient, so they remain copies of each "
               "other for ever. A layer of 32 equal units can do what one unit can. The loss falls a little, as "
               "for a tiny network, and stays there.",
         detected=f"From step {STEPS} on, at least {EQUAL:.0%} of a layer's rows are equal to another row, bit for "
                  "bit, in the weights and in the gradient.",
         remedy="Start weights at random; constants are for biases and for the gains of normalization.",
         patch="  for p in model.parameters():\n"
               "-     nn.init.constant_(p, 0.1)\n"
               "+     if p.dim() > 1:\n"
               "+         nn.init.kaiming_normal_(p, nonlinearity=\"relu\")",
         references=("Rumelhart, Hinton, Williams 1986: Learning internal representations by error propagation, in "
                     "Parallel Distributed Processing 1, MIT Press",
                     "Goodfellow, Bengio, Courville 2016: Deep Learning, section 8.4, MIT Press",
                     "He, Zhang, Ren, Sun 2015: Delving deep into rectifiers, ICCV"),
         picture="zero-init"),
    Rule(code="RVN-S02", title="no nonlinearity between layers", cause="hidden-activation", severity="warning",
         find=no_nonlinearity, needs="graph", because="an activation was forgotten, or stands in the wrong place",
         misses="pairs with a sum, a mean or an attention between them; factorizations through a narrow layer",
         means="Two layers follow each other with nothing nonlinear between them. Their product is one linear map, "
               "so the second layer adds parameters and cost but nothing that the network could not do without it. "
               "Dropout, normalization and average pooling between them do not change that.",
         detected="In the graph of the loss, a linear layer or convolution feeds the next through views, dropout, "
                  "batch norm or average pooling only, and feeds nothing else. A narrow first layer (fewer outputs "
                  "than both its inputs and the second's outputs) is a factorization and is left out, as are "
                  "recurrent and attention modules and convolutions with groups.",
         remedy="Put an activation between the layers.",
         patch="  model = nn.Sequential(\n"
               "      nn.Linear(8, 32),\n"
               "+     nn.ReLU(),\n"
               "      nn.Linear(32, 3),\n"
               "  )",
         references=("Leshno, Lin, Pinkus, Schocken 1993: Multilayer feedforward networks with a nonpolynomial "
                     "activation function can approximate any function, Neural Networks 6",
                     "Saxe, McClelland, Ganguli 2014: Exact solutions to the nonlinear dynamics of learning in "
                     "deep linear neural networks, ICLR")),
    Rule(code="RVN-S03", title="most units of a rectified layer are dead", cause="dead-units", severity="warning",
         find=dead_units, needs="graph", explains=("RVN-N02",),
         because="a step too long, or a start too far from 0, left the units below 0 for every example",
         misses="layers with fewer than nine dead units in ten; batches that together have fewer than 128 rows",
         also=("learning-rate-high", "initialization", "input-scale"),
         means="Most units of a layer before a ReLU are below 0 for every example. Their output and their gradient "
               "are 0, so they cannot come back by themselves. With a whole layer dead, nothing before it learns "
               "and the output no longer depends on the input.",
         detected=f"Over the last batches with at least {EXAMPLES} rows together, at least {DEAD:.0%} of a "
                  "rectified layer's units are at or below 0 before the ReLU for every row. It is an error if all "
                  f"are. The cause is learning-rate-high where fewer than {DEAD / 2:.0%} were so in the first "
                  "batch: they were alive and a step put them out.",
         remedy="Lower the learning rate 3 to 10 times, begin with a warm-up, scale the inputs, use He's "
                "initialization with biases at 0; or take an activation that is nowhere flat.",
         patch="- model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))\n"
               "- optimizer = torch.optim.SGD(model.parameters(), lr=5.0)\n"
               "+ model = nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(), nn.Linear(32, 3))\n"
               "+ optimizer = torch.optim.SGD(model.parameters(), lr=0.5)",
         references=("Maas, Hannun, Ng 2013: Rectifier nonlinearities improve neural network acoustic models, ICML "
                     "workshop on deep learning for audio, speech and language processing",
                     "Lu, Shin, Su, Karniadakis 2020: Dying ReLU and initialization: theory and numerical "
                     "examples, Communications in Computational Physics 28",
                     "He, Zhang, Ren, Sun 2015: Delving deep into rectifiers, ICCV"),
         picture="activations"),
)  # fmt: skip

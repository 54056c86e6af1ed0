"""Faults between output and loss, read from the graph: activations that do not fit the loss, shapes, targets."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.rule import Rule, Seen
from ravine.diagnosis.training_loop.autograd_graph import Graph
from ravine.diagnosis.training_loop.history import Story
from ravine.finding import Change, Evidence

RAW = {"Addmm", "Mm", "Linear", "Convolution", "Relu", "Tanh"}  # what no probability and no logarithm of one comes from
PAIRED = ("Sub", "MseLoss", "SmoothL1Loss", "HuberLoss", "Expand")
SQUASHING = {"Softmax", "Sigmoid", "Tanh", "Relu"}
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

    for graph, place in of(story, "LogSigmoid"):
        before = graph.source(graph.nodes[place].inputs[0], frozenset({"Neg"}))
        if before >= 0 and graph.nodes[before].name in ("Sigmoid", "Softmax"):
            name = graph.nodes[before].name.lower()
            yield Seen(where=_layer(graph, before), since=0, title=f"{name} before a loss that takes logits", evidence=(
                Evidence("the probability of one class is at least", 0.5),
            ), changes=(Change("output", f"without {name}"),))  # fmt: skip
            return


def shared_among_labels(story: Story) -> Iterator[Seen]:
    for graph, place in of(story, "BinaryCrossEntropy"):
        node = graph.nodes[place]
        before = graph.source(node.inputs[0])
        if before < 0 or graph.nodes[before].name != "Softmax" or not node.several:
            continue
        shape = graph.nodes[before].shape or ()
        if shape and shape[-1] > 1:
            yield Seen(where=_layer(graph, before), since=0, evidence=(
                Evidence("sum of the outputs of one example", 1.0, "", None, f"for {shape[-1]} labels that exclude "
                         "each other; the targets do not"),
            ), changes=(Change("output", "sigmoid"),))  # fmt: skip


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
            yield Seen(where=_layer(graph, place), since=0, title=f"nll_loss gets {given}, not log-probabilities",
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
    """The module of the activation behind a place of the loss, or of an activation at it; else the last weight."""
    node = graph.nodes[place]
    if node.name not in SQUASHING:
        place = next((i for given in node.inputs if (i := graph.source(given, frozenset({"Neg", "Sub"}))) >= 0), place)
    return graph.nodes[place].module or graph.last_weight(place)


ALL = (
    Rule(code="RVN-H01", title="softmax before cross entropy", cause="output-activation", severity="error",
         find=squashed_twice, needs="graph",
         because="cross_entropy takes logits and applies log_softmax itself",
         misses="activations with arithmetic between them and the loss",
         means="The network's output goes through softmax (or sigmoid, tanh, ReLU), and then through the "
               "log_softmax inside cross entropy. Logits between 0 and 1 cannot express confidence: for C classes "
               "the loss cannot fall below ln(1 + (C - 1)/e), 1.46 for ten classes. Training is slow, stops early, "
               "and the probabilities are far too even; accuracy may still look fair.",
         detected="In the graph of the loss, a log_softmax takes the output of a softmax, sigmoid, tanh or ReLU "
                  "directly, views aside, and has more than one class. Before softmax and sigmoid it is an error, "
                  "before tanh and ReLU a warning.",
         remedy="Give cross entropy the output of the last linear layer. Apply softmax only where probabilities "
                "are shown or stored.",
         patch="- model = nn.Sequential(body, nn.Linear(32, 3), nn.Softmax(dim=1))\n"
               "+ model = nn.Sequential(body, nn.Linear(32, 3))\n"
               "  loss = F.cross_entropy(model(x), y)\n"
               "+ probabilities = model(x).softmax(dim=1)  # to show, not to train",
         references=("PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss",
                     "Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2.2, MIT Press"),
         picture="losses"),
    Rule(code="RVN-H02", title="sigmoid before a loss that takes logits", cause="output-activation", severity="error",
         find=squashed_before_binary, needs="graph", because="the loss applies its own sigmoid",
         misses="activations with arithmetic between them and the loss",
         means="The loss applies a sigmoid to its input, and the network has applied one before. The two together "
               "give probabilities of 0.5 to 0.73 only: an example of class 0 costs at least ln 2 whatever is "
               "learned. Gradients pass two sigmoids and are small.",
         detected="In the graph of the loss, binary cross entropy with logits takes the output of a sigmoid or "
                  "softmax (an error), or of a tanh or ReLU (a warning), directly, views aside.",
         remedy="Leave the activation out and keep the loss that takes logits: it is also exact for large ones.",
         patch="- output = model(x)[:, 0].sigmoid()\n"
               "+ output = model(x)[:, 0]\n"
               "  loss = F.binary_cross_entropy_with_logits(output, (y > 0).float())\n"
               "+ probability = output.sigmoid()  # to show, not to train",
         references=("PyTorch 2.13 documentation: torch.nn.BCEWithLogitsLoss",
                     "Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2.2, MIT Press"),
         picture="losses"),
    Rule(code="RVN-H03", title="log_softmax is applied twice", cause="loss", severity="note", find=twice_the_logarithm,
         needs="graph", because="cross_entropy is given the output of log_softmax; harmless, since it changes nothing",
         misses="nothing known",
         means="The function cross_entropy applies log_softmax to what is already a log_softmax. The second one "
               "changes nothing, since the first leaves a sum of probabilities of 1, so the loss is right. It costs a "
               "little time and puzzles readers.",
         detected="In the graph of the loss, a log_softmax takes the output of another one directly, views aside. "
                  "It is always a note.",
         remedy="Use nll_loss on log_softmax, or cross_entropy on logits.",
         patch="  output = model(x).log_softmax(dim=1)\n"
               "- loss = F.cross_entropy(output, y)\n"
               "+ loss = F.nll_loss(output, y)",
         references=("PyTorch 2.13 documentation: torch.nn.NLLLoss",
                     "PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss")),
    Rule(code="RVN-H04", title="softmax over one unit", cause="output-activation", severity="error", find=one_unit,
         needs="graph", explains=("RVN-N02", "RVN-S03", "RVN-H01"), because="the output layer has one unit",
         misses="losses told as numbers",
         means="A softmax over one number is 1 whatever the number is. The output does not depend on the input, "
               "all gradients are 0, and nothing is learned. One logit for two classes needs a sigmoid.",
         detected="In the graph of the loss, a softmax or log_softmax runs over a dimension of size 1. No "
                  "threshold is involved.",
         remedy="For two classes, take one unit with a sigmoid loss, or two units with cross entropy.",
         patch="- model = nn.Sequential(body, nn.Linear(32, 1), nn.Softmax(dim=1))\n"
               "- loss = F.binary_cross_entropy(model(x)[:, 0], (y > 0).float())\n"
               "+ model = nn.Sequential(body, nn.Linear(32, 1))\n"
               "+ loss = F.binary_cross_entropy_with_logits(model(x)[:, 0], (y > 0).float())",
         references=("PyTorch 2.13 documentation: torch.nn.Softmax",
                     "PyTorch 2.13 documentation: torch.nn.BCEWithLogitsLoss")),
    Rule(code="RVN-H05", title="the loss gets something else than probabilities", cause="loss", severity="error",
         find=no_probability, needs="graph", because="nll_loss takes log-probabilities, BCELoss takes probabilities",
         misses="losses written out by hand",
         means="The loss function is given numbers of another kind than it is made for. nll_loss on logits or "
               "probabilities is only minus the chosen output: with logits it falls without bound, with "
               "probabilities it has hardly any pull where the network is wrong. binary_cross_entropy on numbers "
               "outside 0 to 1 is an error, or clamped.",
         detected="In the graph of the loss, nll_loss takes directly the output of a linear layer, convolution, "
                  "ReLU, tanh, softmax or sigmoid; or binary cross entropy takes that of a linear layer, "
                  "convolution, ReLU or tanh. Views do not count.",
         remedy="Use the loss that takes logits: cross_entropy, binary_cross_entropy_with_logits.",
         patch="  output = model(x)\n"
               "- loss = F.nll_loss(output, y)\n"
               "+ loss = F.cross_entropy(output, y)",
         references=("PyTorch 2.13 documentation: torch.nn.NLLLoss",
                     "PyTorch 2.13 documentation: torch.nn.BCELoss",
                     "PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss"),
         picture="losses"),
    Rule(code="RVN-H06", title="every output is paired with every target", cause="shape-pairing", severity="error",
         find=paired, needs="graph", because="[N, 1] against [N] is broadcast to [N, N]",
         misses="outputs with more than two dimensions",
         means="An output of shape [N, 1] and a target of shape [N] are broadcast to [N, N]: each output is "
               "compared with every target of the batch. The best answer to that is the mean of the targets, the "
               "same for every input. The loss falls to about the targets' variance and stays there.",
         detected="In the graph of the loss, a difference, squared error, Huber or similar loss has shape [N, N] "
                  "with N > 1, where the output that it takes has shape [N, 1] or [N] and nothing else in it "
                  "learns. No threshold is involved.",
         remedy="Give output and target one shape. Checking output.shape == y.shape before the loss finds it at "
                "once.",
         patch="  y = y.float()\n"
               "- loss = F.mse_loss(net(x), y)  # [N, 1] against [N]\n"
               "+ output = net(x).squeeze(1)\n"
               "+ assert output.shape == y.shape\n"
               "+ loss = F.mse_loss(output, y)",
         references=("PyTorch documentation, note \"Broadcasting semantics\" (2.13)",
                     "PyTorch 2.13 documentation: torch.nn.MSELoss")),
    Rule(code="RVN-H07", title="softmax over the examples of a batch", cause="output-activation", severity="error",
         find=over_the_batch, needs="graph", because="dim=0 is the batch", misses="batches as large as the classes",
         means="The softmax runs over the examples of a batch instead of the classes. What the network says of one "
               "example then depends on which others are in its batch, and the numbers of one example do not sum "
               "to 1. Training goes on but learns something else, and single examples cannot be predicted.",
         detected="In the graph of the loss, a softmax or log_softmax over dimension 0 takes a linear layer's "
                  "two-dimensional output of more than one row that is not square.",
         remedy="Name the dimension of the classes: dim=1, or dim=-1.",
         patch="- output = model(x).softmax(dim=0)\n"
               "+ output = model(x).softmax(dim=1)",
         references=("PyTorch 2.13 documentation: torch.nn.Softmax",)),
    Rule(code="RVN-H08", title="the target is out of the output's reach", cause="output-activation", severity="error",
         find=out_of_reach, needs="graph", confidence="high",
         because="the output's activation is bounded and the target is not within its bounds",
         misses="losses with more arithmetic than a square or an absolute value of output less target",
         also=("target-scale",),
         means="The output's activation is bounded and the targets lie beyond the bounds, so part of them cannot "
               "be met by any weights. The network drives its last layer into saturation, where gradients vanish, "
               "and the loss stops at the part that cannot be met.",
         detected="At a squared, absolute or Huber loss right after a sigmoid, softmax, tanh or ReLU: the share of "
                  "the target's variance that remains if every target is met as closely as the bounds allow. It is "
                  f"a warning above {UNREACHED:.0%} and an error above 50 %.",
         remedy="Leave the last activation out for numbers of any size, or scale the targets into its range.",
         patch="- net = nn.Sequential(body, nn.Linear(32, 1), nn.Sigmoid())\n"
               "+ net = nn.Sequential(body, nn.Linear(32, 1))\n"
               "  loss = F.mse_loss(net(x).squeeze(1), 10.0 * y)",
         references=("Bishop 2006: Pattern Recognition and Machine Learning, section 5.2, Springer",
                     "Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2.2, MIT Press")),
    Rule(code="RVN-H09", title="targets of a binary loss outside 0 to 1", cause="labels", severity="error",
         find=beyond_probability, needs="graph", because="labels are -1 and 1, or class numbers",
         misses="losses written out by hand",
         means="Binary cross entropy with logits z and target t is (1 - t) z + ln(1 + exp(-z)). For t below 0 or "
               "above 1 this has no lower bound: the loss becomes negative, the logits run away, and the result "
               "says nothing. Labels of -1 and 1, or class numbers 1 and 2, are the usual reason.",
         detected="The target of a binary cross entropy with logits has a number below 0 or above 1. No threshold "
                  "is involved.",
         remedy="Turn the labels into 0 and 1 before training.",
         patch="  labels = torch.where(y > 0, 1.0, -1.0)\n"
               "- loss = F.binary_cross_entropy_with_logits(output, labels)\n"
               "+ loss = F.binary_cross_entropy_with_logits(output, (labels + 1) / 2)",
         references=("PyTorch 2.13 documentation: torch.nn.BCEWithLogitsLoss",)),
    Rule(code="RVN-H10", title="softmax where several labels may hold", cause="output-activation", severity="error",
         find=shared_among_labels, needs="graph", also=("loss",),
         because="softmax shares 1 among all labels, so that no two can be sure at once",
         misses="losses written out by hand; batches in which every example has exactly one label",
         means="Binary cross entropy judges every label by itself, but softmax makes them compete: the outputs of one "
               "example sum to 1. Examples with two labels or none cannot be answered.",
         detected="The graph has a softmax over more than one output right before binary_cross_entropy, and some row "
                  "of its target does not sum to 1. A fact, no threshold.",
         remedy="Let each label have its own sigmoid; best as logits, which is also safer in float arithmetic.",
         patch="  labels = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])\n"
               "- loss = F.binary_cross_entropy(model(x[:2]).softmax(dim=1), labels)\n"
               "+ loss = F.binary_cross_entropy_with_logits(model(x[:2]), labels)",
         references=("PyTorch 2.13 documentation: torch.nn.BCEWithLogitsLoss",
                     "Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2.2, MIT Press")),
)  # fmt: skip

"""What is wrong with a model and its loss before the first step: what was probed, as plain numbers, and the rules.

Nothing here runs a model; `probe.read_start` does. Exact rules state facts that no threshold decides; the others say
how far off is too far, and are notes where only a trial can tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.rule import Rule, Seen, listed
from ravine.finding import Change, Evidence


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something was first seen: the deepest module ("": between the model's own), its class, the function."""

    where: str = ""
    kind: str = ""  # the module's class
    function: str = ""
    size: float = 0.0  # how much: the largest change of an output over the outputs' spread


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """With whose targets the loss compares: `all` with all, or else the share of targets that miss their output."""

    all: bool = False
    missed: float = 0.0  # share of the changed targets that change nothing at their own example's output
    outputs: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with a weight matrix, at the start. Gradients are those of the loss of one batch."""

    where: str
    kind: str  # linear, conv2d, embedding, gru, ...
    units: int
    fan_in: int
    weight: float  # root mean square of the weights
    expected: float  # 1 / sqrt(fan in); 1 of an embedding
    level: float  # root mean square of what the layer makes
    spread: float  # standard deviation of it over the examples, root mean square over the units
    gradient: float | None = None  # root mean square of the gradient at what the layer makes
    pull: float | None = None  # length of the weights' gradient over the weights' length

    @property
    def scale(self) -> float:
        """Weights over what is usual for so many inputs."""
        return self.weight / self.expected


@dataclass(frozen=True, kw_only=True)
class Active:
    """A call of an activation. `where`: the layer that feeds it, else the module that it is in."""

    where: str
    kind: str
    units: int
    rows: int  # numbers that each unit made
    dead: int = 0  # units of a rectifier that are at 0 for every one of them
    flat: int = 0  # units of a bounded activation with less than 5 % of its steepest slope on average
    center: float = 0.0  # mean of what it makes
    slope: float = 1.0  # mean share of its steepest slope, over all units
    last: bool = False  # it makes the model's output


@dataclass(frozen=True, kw_only=True)
class Normed:
    """A batch normalization after thirty batches: how far its statistics are from those of the examples."""

    where: str
    kind: str
    momentum: float | None
    eps: float
    shift: float = 0.0  # median over channels of |running mean - mean| / standard deviation
    stretch: float = 1.0  # median of the larger over the smaller of running and true standard deviation
    batch: bool = False  # it has no running statistics: in evaluation it takes those of the batch


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The model says the same of every example; `after` a few small gradient steps, too. What may be why."""

    after: bool
    zeros: tuple[str, ...] = ()  # weight matrices that are all 0 and get no gradient
    dead: tuple[str, ...] = ()  # layers whose rectified units are all dead
    cut: bool = False  # no gradient arrives at the parameters, or the inputs are not used
    one: bool = False  # a softmax over a single unit makes the output
    last: bool = False  # the dead rectifier makes the output
    faded: str = ""  # the first layer that says the same of every example though its input differs


@dataclass(frozen=True, kw_only=True)
class Start:
    """What was probed. None, or an empty tuple, where a figure was not measured; `measured` says which probes went.

    `measured` maps a probe to True (it ran), None (it does not apply) or False (it broke, or could not be made).
    """

    measured: Mapping[str, bool | None] = field(default_factory=dict)
    broke: Mapping[str, str] = field(default_factory=dict)  # why, by probe
    examples: int = 0
    output_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    targets: str = ""  # classes, tokens, labels (0 and 1), shares (rows sum to 1), numbers
    classes: int = 0
    class_numbers: bool = False  # whole-number targets, and one output that is compared with the number
    input_mean: float = math.nan
    input_spread: float = math.nan

    # exact probes
    mixing: Place | None = None  # examples answer for each other in evaluation
    pairing: Pairing | None = None
    next_targets: bool = False  # targets are the inputs one place later
    leak: Place | None = None  # outputs know of later inputs
    random: Place | None = None  # two forward passes in evaluation differ
    constant: Constant | None = None
    no_gradient: str = ""  # "outputs": the model's outputs have no graph, "loss": the loss has none, "frozen": no
    # parameter asks for a gradient, "parameters": the graph reaches none
    cut_at: str = ""  # the first module whose output has no graph though its parameters ask for a gradient
    unreached: tuple[str, ...] = ()  # parameters that took part, ask for a gradient, still are as drawn, and get none
    stuck: tuple[str, ...] = ()  # weight matrices of zeros that get a gradient of exactly 0, also after a few steps
    copies: tuple[str, ...] = ()  # weight matrices whose rows start as copies of each other, and stay copies

    # the loss as a function
    takes: str = ""  # logits, log-probabilities, probabilities
    last_at: str = ""  # the module of the last activation, or the last layer
    gives: str = ""  # what the outputs are: probabilities, log-probabilities, or their range "0 to 1", "from 0", ...
    right_loss: float | None = None  # of outputs that favor the right answers
    wrong_loss: float | None = None  # of outputs that favor wrong ones
    unbounded: bool = False  # it falls without end as logits of the right answers grow
    reversed: bool = False  # wrong answers have the lower loss, in whatever form they are given
    reduction: float | None = None  # loss of the batch taken twice over the loss of the batch: 1 mean, 2 sum
    shares: tuple[float, ...] = ()  # of the classes, or for each label the share of ones
    weights: tuple[float, ...] = ()  # pull of one example of a class at zero outputs, the most frequent's 1; for each
    # label that of a one over that of a zero
    answer: tuple[float, ...] = ()  # shares that the best constant answer gives to them
    first_loss: float | None = None  # in training mode
    null_loss: float | None = None  # of the best constant output
    even_loss: float | None = None  # of outputs of 0, or of even probabilities
    plain_loss: float | None = None  # of the mean output in place of each example's own
    unmet: float | None = None  # share of the null loss that the best outputs of the last activation's range leave
    output_mean: float = math.nan
    output_spread: float = math.nan  # over examples, root mean square over the outputs
    target_spread: float = math.nan
    not_finite: str = ""  # inputs, targets, outputs, loss, gradient: the first that is not finite
    not_finite_at: str = ""  # the module

    # the network
    layers: tuple[Layer, ...] = ()  # in the order of their calls
    active: tuple[Active, ...] = ()
    normed: tuple[Normed, ...] = ()
    norms: tuple[str, ...] = ()  # all normalization modules
    norm_first: bool = False  # a normalization comes before the first layer with weights
    dropouts: Mapping[str, float] = field(default_factory=dict)  # probability, by module
    score_spread: float | None = None  # largest standard deviation of what goes into a softmax within the network
    signal: float | None = None  # spread of the last hidden layer's output over that of the first's
    signal_slope: float | None = None  # of log10 spread per layer
    gradient: float | None = None  # gradient at the first layer's output over that at the last hidden layer's
    gradient_slope: float | None = None
    depth: int = 0  # hidden layers that these are taken over
    signal_at: str = ""  # the first layer of them; where the signal grows, the second: the first that multiplies it

    def has(self, need: str) -> bool | None:
        """Whether a probe was made: "outputs" (the model ran), "mixing", "pairing", "causality", "repeat", "graph",
        "dependence" (of outputs on inputs), "loss" (as a function), "first loss", "network", "statistics" (of batch
        normalization). None: it does not apply."""
        return self.measured.get(need, False)


def mixed(start: Start) -> Iterator[Seen]:
    found = start.mixing
    if found is None:
        return
    normed = found.kind.startswith(("BatchNorm", "SyncBatchNorm", "LazyBatchNorm"))
    by = found.function or found.kind
    yield Seen(where=found.where, cause="normalization" if normed else "", severity="note" if normed else "", evidence=(
        Evidence("change of an answer when only other examples change", found.size, "of the outputs' spread", 0,
                 f"first in {found.kind or 'the model'}{f', by {by}' if by != found.kind else ''}"),
    ), suspects=("train-eval-mode",) if normed else (), changes=(
        Change("model", "running statistics" if normed else "keep the batch in its dimension (batch_first, dim)"),
    ))  # fmt: skip


def mispaired(start: Start) -> Iterator[Seen]:
    found = start.pairing
    if found is None or not (found.all or found.missed):
        return
    shapes = f"outputs {list(found.outputs)}, targets {list(found.targets)}"
    if found.all:
        yield Seen(title="the loss compares every output with every target", evidence=(
            Evidence("change of the loss when the targets trade places", 0.0, "", None, shapes),
        ), changes=(Change("loss", "give output and target one shape"),))  # fmt: skip
    else:
        yield Seen(suspects=("labels",), evidence=(
            Evidence("of changed targets pull at another example's output and not at their own", 100 * found.missed,
                     "%", 0, shapes),
        ), changes=(Change("loss", "outputs and targets in one order: reshape, do not transpose"),))  # fmt: skip


def looks_ahead(start: Start) -> Iterator[Seen]:
    if start.leak is not None:
        yield Seen(where=start.leak.where, evidence=(
            Evidence("change of an output when only later inputs change", start.leak.size, "of the outputs' spread", 0,
                     f"first in {start.leak.kind or 'the model'}; the target is the next input"),
        ), changes=(Change("model", "mask what comes later, before the softmax over the keys"),))  # fmt: skip


def ignores_input(start: Start) -> Iterator[Seen]:
    found = start.constant
    if found is None or not found.after:
        return
    same = Evidence("difference between the outputs of different examples", 0.0, "", None, "also after a few steps")
    if found.one:
        yield Seen(where=found.faded, cause="output-activation", evidence=(
            same, Evidence("units of the softmax", 1, "", 2, "its output is 1 whatever goes in"),
        ), changes=(Change("output", "sigmoid for one unit, or a unit for each class"),))  # fmt: skip
    elif found.zeros:
        yield Seen(where=module_of(found.zeros[0]), evidence=(
            same, Evidence("weight matrices of zeros without a gradient", len(found.zeros), "", 0),
        ), changes=(Change("init", "random weights"),))  # fmt: skip
    elif found.dead:
        yield Seen(where=found.faded if found.last else found.dead[0],
                   cause="output-activation" if found.last else "dead-units",
                   suspects=("dead-units",) if found.last else ("initialization", "input-scale"), evidence=(
            same, Evidence("layers whose units no example activates", len(found.dead), "", 0, listed(found.dead)),
        ), changes=(Change("output", "without the rectifier"),) if found.last else
            (Change("init", "biases of 0"), Change("activation", "leaky_relu")))  # fmt: skip
    elif found.cut:
        yield Seen(where=found.faded, cause="detached-graph", evidence=(same,),
                   changes=(Change("model", "use the input, and do not detach it"),))  # fmt: skip
    elif start.signal is not None and start.signal < LOST:
        yield Seen(where=start.signal_at, cause="vanishing", suspects=("initialization", "hidden-activation"),
                   evidence=(
            same, Evidence("spread of the last hidden layer's output over the first's", start.signal, "", LOST),
        ), changes=(Change("init", "He, Glorot or LeCun"),))  # fmt: skip
    else:
        yield Seen(where=found.faded, suspects=("vanishing", "hidden-activation"), evidence=(same,),
                   changes=(Change("init", "weights that fit the width"),))  # fmt: skip


def no_gradient(start: Start) -> Iterator[Seen]:
    if start.no_gradient == "frozen":
        yield Seen(title="no parameter asks for a gradient", cause="frozen-parameters", evidence=(
            Evidence("parameters that learn", 0, "", 1),
        ), changes=(Change("model", "requires_grad_(True) for what is to learn"),))  # fmt: skip
    elif start.no_gradient:
        who = {"outputs": "the outputs have", "loss": "the loss has", "parameters": "no parameter is in"}
        words = {"outputs": "no graph: detach, no_grad, numpy or argmax in the model",
                 "loss": "no graph: detach, item, argmax or a comparison in the loss",
                 "parameters": "the graph of the loss"}  # fmt: skip
        yield Seen(where=start.cut_at, suspects=("loss",) if start.no_gradient == "loss" else (), evidence=(
            Evidence("parameters with a gradient", 0, "", 1,
                     f"{who[start.no_gradient]} {words[start.no_gradient]}"),
        ), changes=(Change("model" if start.no_gradient != "loss" else "loss", "keep the graph"),))  # fmt: skip
    elif start.unreached:
        yield Seen(where=module_of(start.unreached[0]), title="layers in use get no gradient", severity="warning",
                   suspects=("frozen-parameters",), evidence=(
            Evidence("parameters still as drawn that the outputs depend on but no gradient reaches",
                     len(start.unreached), "", 0, listed(start.unreached)),
        ), changes=(Change("model", "no detach and no no_grad behind them; or freeze them openly"),))  # fmt: skip


def stuck_at_zero(start: Start) -> Iterator[Seen]:
    if start.stuck:
        yield Seen(where=module_of(start.stuck[0]), evidence=(
            Evidence("weight matrices of zeros whose gradient is exactly 0", len(start.stuck), "", 0,
                     f"{listed(start.stuck)}: on all {start.examples} examples, for several steps"),
        ), changes=(Change("init", "random weights, zeros in at most one of two layers in a row"),))  # fmt: skip


def copies(start: Start) -> Iterator[Seen]:
    if start.copies:
        yield Seen(where=module_of(start.copies[0]), evidence=(
            Evidence("weight matrices with rows that start equal and move equally", len(start.copies), "", 0,
                     listed(start.copies)),
        ), changes=(Change("init", "random weights"),))  # fmt: skip


def unsteady(start: Start) -> Iterator[Seen]:
    found = start.random
    if found is None:
        return
    dropped = "dropout" in found.function
    yield Seen(where=found.where, severity="warning" if dropped else "note",
               suspects=("dropout",) if dropped else ("randomness",), evidence=(
        Evidence("evaluations of one batch that agree", 1, "of 2", 2, f"first apart at {found.function or found.kind}"),
    ), changes=(Change("model", "F.dropout(x, p, training=self.training)" if dropped else
                       "draw random numbers in training only"),))  # fmt: skip


def module_of(parameter: str) -> str:
    """The module that has a parameter.

    >>> module_of("body.0.weight"), module_of("place")
    ('body.0', 'place')
    """
    return parameter.rpartition(".")[0] or parameter


EXACT = (
    Rule(code="RVN-I01", title="examples of a batch answer for each other", cause="shape-pairing", severity="error",
         find=mixed, needs="mixing", also=("normalization", "train-eval-mode"), explains=("RVN-H07",),
         because="a dimension was taken for the batch that is another one, or the reverse",
         misses="models that work with one size of batch only; outputs that are pairs of examples",
         means="In evaluation mode, the answer to one example changes when only the others in its batch change. A "
               "recurrent layer without batch_first, a softmax over dimension 0 or a reshape has mixed them. Training "
               "may go on, but what is learned cannot be used for an example alone.",
         detected="A small batch is answered twice, the second time with half of its examples replaced; random numbers "
                  "are the same. An answer to an example that was kept may change by a millionth of the largest output "
                  "at most. The place is the deepest module that was given equal numbers for the kept examples and "
                  "made different ones. Batch statistics in evaluation, of a normalization without running ones, are "
                  "a note.",
         remedy="Say where the batch is: batch_first=True, dim=1 or -1, flatten(1) instead of reshape.",
         patch="- cell = nn.GRU(8, 32)  # takes [T, N, 8]\n+ cell = nn.GRU(8, 32, batch_first=True)\n"
               "  states, _ = cell(x[:, None])",
         references=("PyTorch 2.13 documentation: torch.nn.GRU", "PyTorch 2.13 documentation: torch.nn.Softmax")),
    Rule(code="RVN-I02", title="the loss compares outputs with other examples' targets", cause="shape-pairing",
         severity="error", find=mispaired, needs="pairing", also=("labels",), explains=("RVN-H06",),
         because="shapes broadcast, or a transpose or view changed the order of one side",
         misses="targets that were in a wrong order before they came; models whose outputs do not begin with the batch",
         means="Output i should be pulled by target i alone. Here each output is compared with all targets, so that "
               "the best answer is the mean for everyone; or with the target of another example. The loss falls a "
               "little, and nothing else is learned.",
         detected="On a few examples with different targets, one target is changed at a time. Pairing is wrong if for "
                  "most of them the gradient changes at exactly one other example's output and not at their own; or "
                  "if loss and gradient stay the same when the targets trade places, and output and target broadcast "
                  "or the loss adds up over pairs. A factor common to all other examples, as from class weights, does "
                  "not count, and neither do losses of whole batches.",
         remedy="Give output and target one shape, and flatten both in the same order.",
         patch="  y = y.float()\n- loss = F.mse_loss(net(x), y)  # [N, 1] and [N]\n"
               "+ loss = F.mse_loss(net(x).squeeze(1), y)",
         references=("PyTorch documentation, note \"Broadcasting semantics\" (2.13)",
                     "PyTorch 2.13 documentation: torch.nn.MSELoss")),
    Rule(code="RVN-I03", title="outputs know of inputs that come later", cause="causality", severity="error",
         find=looks_ahead, needs="causality",
         because="a mask is missing, turned around, applied after the softmax, or the softmax runs over the queries",
         misses="targets that are not the inputs one later; targets that are shifted inside the loss",
         means="The target at each place is the next input, and the output at that place already depends on it. The "
               "network copies what it should predict: the loss falls far too low, and generating, where there is no "
               "next input yet, fails.",
         detected="At least 99 % of the targets are the inputs one place later. The inputs from one place on are "
                  "replaced, for three places; an output before it may change by a millionth of the largest output at "
                  "most.",
         remedy="Mask the scores of later keys with -inf before the softmax over the keys; use no layer that reads "
                "backwards.",
         patch="  scores = x @ x.T\n- weights = scores.softmax(-1)\n"
               "+ late = torch.ones_like(scores, dtype=torch.bool).triu(1)\n"
               "+ weights = scores.masked_fill(late, -torch.inf).softmax(-1)",
         references=("Vaswani et al. 2017: Attention is all you need, section 3.2.3, NeurIPS",)),
    Rule(code="RVN-I04", title="the outputs do not depend on the inputs", cause="initialization", severity="error",
         find=ignores_input, needs="dependence", explains=("RVN-S03", "RVN-I15", "RVN-I14", "RVN-H04"),
         also=("output-activation", "dead-units", "detached-graph", "vanishing", "hidden-activation", "input-scale"),
         because="a layer of zeros, a dead layer or a softmax over one unit stands between input and output",
         misses="outputs that differ by more than a millionth",
         means="Different examples get the same answer, bit for bit but for rounding, and a few small steps down the "
               "gradient do not change that. Nothing can be learned but one constant. A last layer that starts at "
               "zero is no fault: its first step parts the outputs.",
         detected=f"The outputs of up to {256} examples, in evaluation and in training mode, differ by a millionth of "
                  "the largest one at most, at the start and after four steps of a hundredth of the usual size of a "
                  "weight. The cause is read from what was seen on the way: a softmax over one unit, weights of zeros "
                  "without a gradient, a rectified layer that no example activates, or no gradient at all.",
         remedy="Start weights at random and biases at 0; look at the layer that is named.",
         patch="- nn.init.zeros_(body[0].weight)\n+ nn.init.kaiming_normal_(body[0].weight)",
         references=("Lu, Shin, Su, Karniadakis 2020: Dying ReLU and initialization: theory and numerical examples, "
                     "Communications in Computational Physics 28",),
         picture="zero-init"),
    Rule(code="RVN-I05", title="no gradient reaches the parameters", cause="detached-graph", severity="error",
         find=no_gradient, needs="graph", also=("frozen-parameters", "loss"),
         because="detach, no_grad, numpy, item or argmax stands between the parameters and the loss",
         misses="parameters that are no longer as they were drawn: somebody may have trained and frozen them",
         means="The loss is a number without a way back to the parameters, or to some of them that take part in the "
               "answer. What is not reached does not learn. Layers that are meant to stay as they are should say so by "
               "requires_grad_(False).",
         detected="The gradient of the loss of one batch by every parameter that asks for one: there is no graph, or "
                  "none of them is in it. Of single parameters it is a warning if they still are as torch draws them "
                  "and the outputs change when they do.",
         remedy="Keep everything between parameters and loss in torch, outside no_grad, without detach.",
         patch="- with torch.no_grad():\n-     h = body(x)\n+ h = body(x)\n  loss = F.cross_entropy(head(h), y)",
         references=("PyTorch documentation, note \"Autograd mechanics\" (2.13)",)),
    Rule(code="RVN-I06", title="weights of zeros that never get a gradient", cause="initialization", severity="error",
         find=stuck_at_zero, needs="dependence", explains=("RVN-I04", "RVN-S03", "RVN-I15", "RVN-H04"),
         because="two layers in a row start at zero, and each needs the other to get a gradient",
         misses="layers that are zero in part",
         means="A layer of zeros gives zeros, so the layer behind it gets no gradient; if that one is zero as well, it "
               "sends none back. Neither ever moves. One layer of zeros, as at the end of a residual block, is fine.",
         detected="Weight matrices that are exactly 0 and whose gradient on all examples is exactly 0, at the start "
                  "and in four small steps of all parameters. Parameters that are not in the graph do not count.",
         remedy="Start at most one of two layers in a row at zero.",
         patch="  nn.init.zeros_(head.weight)\n- nn.init.zeros_(body[0].weight)\n"
               "+ nn.init.kaiming_normal_(body[0].weight)",
         references=("Zhang, Dauphin, Ma 2019: Fixup initialization: residual learning without normalization, ICLR",),
         picture="zero-init"),
    Rule(code="RVN-I07", title="units start as copies of each other", cause="initialization", severity="error",
         find=copies, needs="dependence", explains=("RVN-S01",),
         because="weights start at one value", misses="fewer than half of a layer's units; embeddings",
         means="Units that start with the same weights, get the same input and have the same weights behind them get "
               "the same gradient, and stay copies however long training lasts. The layer can do what one unit can.",
         detected="At least half of the rows of a weight matrix equal another row at the start, and after four small "
                  "steps differ from it by less than a thousandth of the way they went.",
         remedy="Start weights at random; constants are for biases.",
         patch="- nn.init.constant_(body[0].weight, 0.05)\n+ nn.init.kaiming_normal_(body[0].weight)",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 8.4, MIT Press",),
         picture="zero-init"),
    Rule(code="RVN-I08", title="two evaluations of one batch differ", cause="train-eval-mode", severity="warning",
         find=unsteady, needs="repeat", also=("dropout", "randomness"),
         because="F.dropout is on by default, and model.eval() does not reach it",
         misses="random numbers that are drawn again from one seed at each call",
         means="In evaluation mode the model should give one answer. This one draws random numbers, so validation is "
               "noisier and worse than the model, and an answer cannot be repeated. If that is meant, as in a "
               "variational model or for Monte Carlo dropout, it is fine.",
         detected="The same examples twice in evaluation mode, with the random numbers going on: outputs differ. "
                  "If they first differ at a dropout it is a warning, else a note.",
         remedy="Pass training=self.training to F.dropout, or use nn.Dropout.",
         patch="- h = F.dropout(body(x), 0.5)\n+ h = F.dropout(body(x), 0.5, training=body.training)",
         references=("PyTorch 2.13 documentation: torch.nn.Dropout",)),
)  # fmt: skip


def wants_wrong(start: Start) -> Iterator[Seen]:
    if start.reversed and start.right_loss is not None and start.wrong_loss is not None:
        yield Seen(evidence=(
            Evidence("loss of right answers", start.right_loss, "", start.wrong_loss, "must be the lower one"),
            Evidence("loss of wrong answers", start.wrong_loss),
        ), changes=(Change("loss", "the other sign"),))  # fmt: skip
    elif start.takes == "log-probabilities" and start.targets in ("classes", "tokens"):
        if start.unbounded and not start.gives:
            yield Seen(where=start.last_at, title="the loss takes log-probabilities and gets any numbers",
                       suspects=("output-activation",), evidence=(
                Evidence("lowest loss of logits that grow", -math.inf, "", 0.0, "it falls in proportion to them"),
            ), changes=(Change("loss", "cross_entropy on logits"),))  # fmt: skip
        elif start.gives == "probabilities":
            yield Seen(where=start.last_at, title="the loss takes log-probabilities and gets probabilities",
                       severity="warning", confidence="high", suspects=("output-activation",), evidence=(
                Evidence("slope of the loss in the right probability", -1.0, "", None, "the same however wrong it is"),
            ), changes=(Change("loss", "cross_entropy on logits"),))  # fmt: skip


def unfit(start: Start) -> Iterator[Seen]:
    left = start.unmet
    kept = () if left is None else (
        Evidence("of the loss of a constant answer stays with the best outputs", 100 * left, "%", 100 * UNMET),
    )  # fmt: skip
    squashed = start.gives in ("probabilities", "0 to 1")
    if start.takes == "logits" and squashed and start.targets in ("classes", "tokens", "labels"):
        yield Seen(where=start.last_at, suspects=("loss",), evidence=(
            Evidence("outputs between 0 and 1 where the loss takes logits", 100.0, "%", 0.0), *kept,
        ), changes=(Change("output", "linear"),))  # fmt: skip
    elif left is not None and left > UNMET:
        numbers = start.targets == "numbers"
        yield Seen(where=start.last_at, title="the best outputs of the last activation miss the targets",
                   severity="error" if left > 0.5 else "warning", confidence="high",
                   suspects=("target-scale",) if numbers else ("loss",), evidence=kept,
                   changes=(Change("output", "linear" if numbers else "sigmoid, or linear and a loss with logits"),),
                   )  # fmt: skip


def upside_down(start: Start) -> Iterator[Seen]:
    weights, answer, shares = start.weights, start.answer, start.shares
    if not shares or len(weights) != len(shares) or len(answer) != len(shares):
        return
    if start.targets == "labels":
        low = [i for i, (p, w, a) in enumerate(zip(shares, weights, answer, strict=True))
               if w <= too_light(p / (1 - p)) and a / (1 - a) <= too_light(p / (1 - p)) * p / (1 - p)]  # fmt: skip
        if low and 2 * len(low) >= len(weights):
            i = low[0]
            yield Seen(evidence=(
                Evidence("weight of a 1 over that of a 0", weights[i], "", too_light(shares[i] / (1 - shares[i])),
                         f"label {i}; {len(low)} of {len(weights)} labels"),
                Evidence("share of ones", 100 * shares[i], "%"),
                Evidence("the best constant answer says", 100 * answer[i], "%"),
            ), changes=(Change("loss", "pos_weight 1, or zeros over ones"),))  # fmt: skip
        return
    top = max(range(len(shares)), key=shares.__getitem__)
    odds = [p / shares[top] for p in shares]
    low = [i for i, p in enumerate(odds) if p > 0 and 0 < weights[i] <= too_light(p)
           and answer[i] / answer[top] <= too_light(p) * p]  # fmt: skip
    if low:
        i = min(low, key=lambda c: weights[c])
        yield Seen(evidence=(
            Evidence(f"weight of an example of class {i} over one of class {top}", weights[i], "",
                     too_light(odds[i])),
            Evidence(f"share of class {i}", 100 * shares[i], "%"),
            Evidence("the best constant answer gives it", 100 * answer[i], "%"),
        ), changes=(Change("loss", "weights of 1, or one over the classes' shares"),))  # fmt: skip


def too_light(odds: float) -> float:
    """The weight of a class at or below which it is too light, by how often it comes for each one of the others."""
    return LIGHT if odds <= RARE else VERY_LIGHT if odds <= COMMON else 0.0


def breaks_at_once(start: Start) -> Iterator[Seen]:
    what = start.not_finite
    if what not in ("inputs", "targets", "outputs", "loss"):
        return
    cause = {"inputs": "data-degenerate", "targets": "data-degenerate", "outputs": "initialization", "loss": "loss"}
    also = {"outputs": ("exploding", "input-scale"), "loss": ("output-activation",)}
    remedy = {"inputs": Change("data", "fill or drop what is not finite"), "outputs": Change("init", "smaller weights"),
              "targets": Change("data", "fill or drop what is not finite"),
              "loss": Change("loss", "one that is defined for these outputs, as with logits")}  # fmt: skip
    yield Seen(where=start.not_finite_at, title=f"the first loss is not finite, from the {what} on", cause=cause[what],
               suspects=also.get(what, ()), changes=(remedy[what],), evidence=(
        Evidence("first loss", start.first_loss, "", None, f"the {what} are the first that are not finite"
                 if what != "loss" else "the outputs are finite"),
    ))  # fmt: skip


def starts_high(start: Start) -> Iterator[Seen]:
    first, base = start.first_loss, max(start.null_loss or 0.0, start.even_loss or 0.0)
    if first is None or base <= 0 or not first > HIGH * base:
        return
    wild = [x for x in start.layers if x.scale >= (WILD_TABLE if x.expected == 1.0 else WILD)]
    evidence = (
        Evidence("first loss", first, "", HIGH * base),
        Evidence("loss of the best constant answer", start.null_loss),
        Evidence("spread of the outputs", start.output_spread),
    )
    if wild:
        yield Seen(where=wild[0].where, severity="warning", confidence="high", suspects=("saturation", "exploding"),
                   evidence=(*evidence, Evidence(f"weights of {wild[0].where}, root mean square", wild[0].weight, "",
                                                 wild[0].expected, "usual for so many inputs")),
                   changes=(Change("init", "weights that fit the width"),))  # fmt: skip
    else:
        yield Seen(cause="input-scale", suspects=("initialization", "target-scale"), evidence=(
            *evidence, Evidence("spread of the inputs", start.input_spread),
        ), changes=(Change("input.scale", "standardize"),))  # fmt: skip


def fades(start: Start) -> Iterator[Seen]:
    signal, gradient = start.signal, start.gradient
    if signal is None or gradient is None:
        return
    factor = max(signal, gradient) if signal < 1 else 1 / min(signal, gradient)  # of the two, the one nearer to 1
    if not 0 <= factor < FADED:
        return
    scales = sorted(x.scale for x in start.layers if x.expected != 1.0 and x.scale == x.scale)
    usual = scales[len(scales) // 2] if scales else 1.0
    down = signal < 1
    if usual < TAME or usual > WILD:
        cause, also = "initialization", ("vanishing",) if down else ("exploding",)
    else:
        cause = "vanishing" if down else "exploding"
        also = ("initialization", "architecture-too-deep", *(("hidden-activation",) if down else ()))
    yield Seen(where=start.signal_at, cause=cause, suspects=also, severity="warning" if factor < LOST else "note",
               title="" if down else "the signal grows out of bounds from layer to layer", evidence=(
        Evidence("spread of the last hidden layer's output over the first's", signal, "", FADED if down else 1 / FADED,
                 f"over {start.depth} layers, before any step"),
        Evidence("gradient at the first layer over that at the last", gradient, "", FADED if down else 1 / FADED),
    ), changes=(Change("init", "He, Glorot or LeCun"), Change("normalization", "between the layers")))  # fmt: skip


def dead_at_start(start: Start) -> Iterator[Seen]:
    found = [a for a in start.active if a.rows >= ROWS and a.units >= FEW and not a.last and a.dead >= DARK * a.units]
    if not found:
        return
    a = max(found, key=lambda a: a.dead / a.units)
    yield Seen(where=a.where, severity="warning" if a.dead >= DEAD * a.units else "note",
               suspects=("initialization", "input-scale"), evidence=(
        Evidence("units that no example activates", a.dead, "", DEAD * a.units, f"of {a.units} in {a.where}"),
    ), changes=(Change("init", "biases of 0"), Change("activation", "leaky_relu")))  # fmt: skip


def saturated(start: Start) -> Iterator[Seen]:
    found = [a for a in start.active if a.units >= FEW and not a.last and 2 * a.flat >= a.units
             and (a.kind.startswith(("tanh", "hardtanh", "softsign")) or 0.1 < a.center < 0.9)]  # fmt: skip
    if not found:
        return
    a = max(found, key=lambda a: a.flat / a.units)
    scale = next((x.scale for x in start.layers if x.where == a.where), 1.0)
    wild = scale >= WILD
    cause = "initialization" if wild else "input-scale" if start.input_spread > 5 else "saturation"
    yield Seen(where=a.where, severity="warning" if a.flat >= DEAD * a.units else "note", cause=cause,
               suspects=tuple(c for c in ("saturation", "input-scale", "initialization") if c != cause), evidence=(
        Evidence("units at the flat ends of their activation", a.flat, "", DEAD * a.units,
                 f"of {a.units} in {a.where}"),
        Evidence("mean slope over the steepest", 100 * a.slope, "%", 5.0),
        Evidence("weights over what is usual for so many inputs", scale, "times"),
    ), changes=(Change("init", "weights that fit the width") if wild else Change("input.scale", "standardize"),),
    )  # fmt: skip


def odd_scale(start: Start) -> Iterator[Seen]:
    found: dict[str, Layer] = {}
    for x in start.layers:
        tables = x.expected == 1.0
        if x.scale >= (WILD_TABLE if tables else WILD) or (0 < x.scale <= TINY and not tables):
            found.setdefault(x.where, x)
    if found:
        worst = max(found.values(), key=lambda x: abs(math.log(x.scale)))
        yield Seen(where=worst.where, evidence=(
            Evidence("weights, root mean square", worst.weight, "", worst.expected, f"usual for {worst.fan_in} inputs"),
            Evidence("layers so far off", len(found), "", 0, listed(found)),
        ), changes=(Change("init", "weights that fit the width"),))  # fmt: skip


def still_statistics(start: Start) -> Iterator[Seen]:
    for n in start.normed:
        if n.batch or n.momentum is None:
            continue
        off = n.shift > SHIFTED or n.stretch > STRETCHED
        if n.momentum < SLOW and off:
            yield Seen(where=n.where, evidence=(
                Evidence("momentum of the running statistics", n.momentum, "", SLOW),
                Evidence("running mean off by", n.shift, "standard deviations", SHIFTED, f"after {30} batches"),
                Evidence("running standard deviation off by", n.stretch, "times", STRETCHED),
            ), changes=(Change("model", "momentum 0.1"),))  # fmt: skip
            return
        if n.momentum > FAST:
            yield Seen(where=n.where, severity="note", title="batch normalization remembers the last batch only",
                       evidence=(Evidence("momentum of the running statistics", n.momentum, "", FAST),),
                       changes=(Change("model", "momentum 0.1"),))  # fmt: skip
            return


def much_dropped(start: Start) -> Iterator[Seen]:
    found = {name: p for name, p in start.dropouts.items() if p >= DROPPED}
    if found:
        name = max(found, key=found.__getitem__)
        yield Seen(where=name, evidence=(
            Evidence("of the units are dropped", 100 * found[name], "%", 100 * DROPPED, listed(found)),
        ), changes=(Change("dropout", 0.2),))  # fmt: skip


def adds_up(start: Start) -> Iterator[Seen]:
    if start.reduction is not None and abs(start.reduction - 2) < 1e-3 and start.examples > 1:
        yield Seen(evidence=(
            Evidence("loss of a batch taken twice over its loss", start.reduction, "", 1.0, "a mean has 1"),
        ), changes=(Change("loss", "mean"),))  # fmt: skip


def class_as_number(start: Start) -> Iterator[Seen]:
    if start.class_numbers:
        yield Seen(where=start.last_at, evidence=(
            Evidence("outputs for several whole-number targets", 1, "", None, "as if class 2 lay between 1 and 3"),
        ), changes=(Change("loss", "cross_entropy with an output for each class, if they are classes"),))  # fmt: skip


UNMET = 0.1  # of the null loss
LIGHT, VERY_LIGHT = 0.5, 0.1  # weights of a class that comes seldom, and of one that comes about as often
RARE, COMMON = 0.5, 1.5  # for each example of the most frequent class, or each zero
HIGH = 30.0  # times the loss of saying nothing
WILD, WILD_TABLE = 3.0, 10.0  # times the usual size of a weight; of an embedding
TAME, TINY = 0.2, 0.03
FADED, LOST = 1e-3, 1e-4  # of the signal of the first layer
ROWS, FEW = 64, 4  # numbers of a unit, and units, of which less is said
DARK, DEAD = 0.5, 0.9  # share of a layer's units
SHIFTED, STRETCHED = 1.0, 2.0
SLOW, FAST = 1e-3, 0.99
DROPPED = 0.8
GLOROT = "Glorot, Bengio 2010: Understanding the difficulty of training deep feedforward neural networks, AISTATS"
HE = "He, Zhang, Ren, Sun 2015: Delving deep into rectifiers, ICCV"
INIT = (
    "  for p in model.parameters():\n      if p.dim() > 1:\n-         nn.init.normal_(p, std=3.0)\n"
    "+         nn.init.kaiming_normal_(p)"
)

LIKELY = (
    Rule(code="RVN-I09", title="the loss rewards wrong answers", cause="loss", severity="error", find=wants_wrong,
         needs="loss", also=("output-activation",), explains=("RVN-H05",),
         because="a sign is missing, or the loss takes another form of answer than the network gives",
         misses="losses on outputs of another shape than the targets call for",
         means="Going down the gradient makes answers worse, or makes the loss fall without end while answers hardly "
               "change. The number goes down, and nothing is learned.",
         detected="The loss as a function, with outputs made up: sure and right answers against sure and wrong ones, "
                  "as logits, log-probabilities and probabilities. Reversed: wrong ones have the lower loss in every "
                  "form that gives a number, and ever lower as they get surer; for numbers, the targets themselves "
                  "have the highest loss of nine outputs. Without end: the loss is proportional to logits, and the "
                  "outputs are no log-probabilities.",
         remedy="Minimize the negative log-likelihood; take the loss that fits the outputs.",
         patch="  logs = model(x).log_softmax(1)\n- loss = logs.gather(1, y[:, None]).mean()\n"
               "+ loss = -logs.gather(1, y[:, None]).mean()",
         references=("PyTorch 2.13 documentation: torch.nn.NLLLoss",), picture="losses"),
    Rule(code="RVN-I10", title="the last activation does not fit the loss", cause="output-activation", severity="error",
         find=unfit, needs="loss", also=("loss", "target-scale"), explains=("RVN-H01", "RVN-H02", "RVN-H08"),
         because="the loss has an activation of its own, or the activation cannot reach the targets",
         misses="activations with arithmetic behind them",
         means="The last activation keeps the outputs in a range in which the loss cannot get low: squashed twice, or "
               "with targets out of reach. Training stops early at a poor answer.",
         detected="The loss as a function: it takes logits if a number added to all logits of a row changes nothing "
                  "(classes), or if it falls on to 0 as right logits grow (labels). What the outputs are is read from "
                  "their values and from the last activation. What stays: the lowest loss of outputs in that range "
                  f"over the loss of the best constant answer, floor taken off; above {UNMET:.0%} it is a warning, "
                  "above 50 % an error.",
         remedy="Leave the last activation out where the loss takes logits, or where targets are any numbers.",
         patch="- model = nn.Sequential(body, nn.Linear(32, 3), nn.Softmax(dim=1))\n"
               "+ model = nn.Sequential(body, nn.Linear(32, 3))\n  loss = F.cross_entropy(model(x), y)",
         references=("PyTorch 2.13 documentation: torch.nn.CrossEntropyLoss",
                     "Goodfellow, Bengio, Courville 2016: Deep Learning, section 6.2.2, MIT Press"), picture="losses"),
    Rule(code="RVN-I11", title="the rarer class weighs less", cause="imbalance", severity="warning", confidence="high",
         find=upside_down, needs="loss", also=("loss",),
         because="weights were made of counts instead of one over counts, or stand in the wrong order",
         misses="weights of labels with more than six ones for four zeros; classes that are left out on purpose",
         means="The loss weighs examples of a class that is rare anyway even less. The best answer is then to leave it "
               "out; the loss looks good, and the class is not found.",
         detected="The gradient at outputs that say nothing, per example of each class, over that of the most frequent "
                  f"class (of labels: a one over a zero). Too light is {LIGHT} or less for a class at most half as "
                  f"frequent, and {VERY_LIGHT} or less for one about as frequent; and the best constant answer must "
                  "give it less than its share by the same factor. So a focal loss, which makes easy examples lighter, "
                  "does not count.",
         remedy="Leave the weights out, or make them one over the classes' shares, in the classes' order.",
         patch="  counts = y.bincount(minlength=3).float()\n- loss = F.cross_entropy(model(x), y, weight=counts)\n"
               "+ loss = F.cross_entropy(model(x), y, weight=1 / counts)",
         references=("King, Zeng 2001: Logistic regression in rare events data, Political Analysis 9",
                     "PyTorch 2.13 documentation: torch.nn.BCEWithLogitsLoss")),
    Rule(code="RVN-I12", title="the first loss is not finite", cause="loss", severity="error", find=breaks_at_once,
         needs="first loss", explains=("RVN-N01",),
         also=("data-degenerate", "initialization", "exploding", "input-scale", "output-activation"),
         because="a logarithm of what is not positive, a division by 0, a number that is too large, a gap in the data",
         misses="losses that break later",
         means="Before any step the loss is NaN or infinite. Its gradient is, too, and then so are the weights.",
         detected="The loss of up to 256 training examples in training mode; then the first of inputs, targets, "
                  "outputs and loss that is not finite, and the module that makes it of finite numbers.",
         remedy="Take the form of the loss that is defined for these outputs; fill gaps in the data.",
         patch="- loss = -model(x).gather(1, y[:, None]).log().mean()\n+ loss = F.cross_entropy(model(x), y)",
         references=("Goodfellow, Bengio, Courville 2016: Deep Learning, section 4.1, MIT Press",)),
    Rule(code="RVN-I13", title="the first loss is far above that of guessing", cause="initialization", severity="note",
         confidence="medium", find=starts_high, needs="first loss", explains=("RVN-I17",),
         also=("input-scale", "saturation", "exploding", "target-scale"),
         because="weights or inputs are so large that the network is sure of something before it has seen anything",
         misses="starts that are too small: they begin at the loss of guessing, too",
         means="A network that knows nothing should lose what guessing loses. One that starts far above has large "
               "outputs, steep gradients, and spends its first steps on making them smaller.",
         detected=f"The first loss is more than {HIGH:g} times the larger of the loss of the best constant answer and "
                  f"of outputs of 0. A warning if a layer's weights are more than {WILD:g} times 1/sqrt(fan in), an "
                  f"embedding's more than {WILD_TABLE:g}; else a note.",
         remedy="Draw weights that fit the width, standardize inputs.", patch=INIT,
         references=("Karpathy 2019: A recipe for training neural networks, karpathy.github.io", HE),
         picture="initial-loss"),
    Rule(code="RVN-I14", title="the signal fades from layer to layer", cause="vanishing", severity="warning",
         confidence="high", find=fades, needs="network", explains=("RVN-I13", "RVN-I17"),
         also=("initialization", "exploding", "architecture-too-deep", "hidden-activation"),
         because="each layer multiplies signal and gradient by about the same factor, and it is not near 1",
         misses=f"chains of fewer than {4} layers; recurrent modules, which count as one layer",
         means="What tells examples apart is multiplied by about the same factor in every layer, and the gradient on "
               "the way back, too. After many layers hardly anything is left, or it overflows; the first do not learn.",
         detected="Standard deviation over the examples of what each layer makes, and the gradient there, before any "
                  "step, along the hidden layers or along the calls of one that is used again and again. Both the "
                  f"signal of the last over the first and the gradient of the first over the last are below {FADED:g} "
                  f"(a note) or {LOST:g} (a warning), or above one over these.",
         remedy="Draw weights with a variance that fits the width, normalize in between, add shortcuts.", patch=INIT,
         references=(GLOROT, HE,
                     "Schoenholz, Gilmer, Ganguli, Sohl-Dickstein 2017: Deep information propagation, ICLR"),
         picture="deep-tanh"),
    Rule(code="RVN-I15", title="units are dead before the first step", cause="dead-units", severity="warning",
         confidence="high", find=dead_at_start, needs="network", also=("initialization", "input-scale"),
         because="biases start far below 0, or inputs push all examples to one side",
         misses=f"layers of fewer than {FEW} units; fewer than {ROWS} examples",
         means="Most units of a rectified layer are at 0 for every example. They pass nothing on, get no gradient, and "
               "do not come back by themselves.",
         detected=f"On up to 256 examples, at least {DEAD:.0%} of a layer's units are at 0 behind the rectifier for "
                  f"every one of them; from {DARK:.0%} on it is a note. The output's own rectifier does not count.",
         remedy="Start biases at 0, standardize inputs, draw weights by He's rule.",
         patch="- nn.init.constant_(body[0].bias, -30.0)\n+ nn.init.zeros_(body[0].bias)",
         references=("Lu, Shin, Su, Karniadakis 2020: Dying ReLU and initialization: theory and numerical examples, "
                     "Communications in Computational Physics 28", HE), picture="activations"),
    Rule(code="RVN-I16", title="units are saturated before the first step", cause="saturation", severity="warning",
         confidence="high", find=saturated, needs="network", explains=("RVN-I17",),
         also=("initialization", "input-scale"),
         because="weights or inputs are so large that bounded units sit at their bounds",
         misses="activations inside recurrent modules; gates that are closed on purpose, which are all at one end",
         means="Bounded units (tanh, sigmoid) at their bounds have a slope next to 0, so hardly any gradient passes, "
               "and they change only slowly.",
         detected=f"At least {DEAD:.0%} of a layer's units have a mean slope below 5 % of the steepest over all "
                  "examples; from half of them on it is a note. Sigmoids count if they are at both ends.",
         remedy="Draw weights that fit the width, standardize inputs.", patch=INIT,
         references=(GLOROT, "LeCun, Bottou, Orr, Müller 1998: Efficient backprop, in Neural Networks: Tricks of the "
                     "Trade, Springer"), picture="activations"),
    Rule(code="RVN-I17", title="weights of an unusual size", cause="initialization", severity="note",
         confidence="medium", find=odd_scale, needs="network",
         because="weights were drawn without regard to how many inputs they sum over", misses="recurrent modules",
         means="A layer's weights are far from the size that keeps the signal's, one over the root of its inputs. That "
               "can be meant, and a normalization makes up for it.",
         detected=f"The root mean square of the weights is more than {WILD:g} times 1/sqrt(fan in), or less than "
                  f"{TINY:g} times; of an embedding, more than {WILD_TABLE:g}.",
         remedy="Draw weights by He's or Glorot's rule.", patch=INIT, references=(GLOROT, HE)),
    Rule(code="RVN-I18", title="batch normalization does not follow the data", cause="normalization",
         severity="warning", confidence="high", find=still_statistics, needs="statistics", also=("train-eval-mode",),
         because="its momentum is 0 or next to it: torch's momentum is the weight of the new batch",
         misses="statistics that were loaded and fit; normalization written by hand",
         means="In training the batch's own statistics are used, in evaluation the running ones. If these stay where "
               "they started, the network is another one in evaluation, and all scores there are wrong.",
         detected=f"After thirty batches in training mode the running statistics are off by more than {SHIFTED:g} "
                  f"standard deviation or {STRETCHED:g} times the spread in most channels, and the momentum is below "
                  f"{SLOW:g}. A momentum above {FAST:g} is a note.",
         remedy="Leave the momentum at 0.1, or at None for the mean over all batches.",
         patch="- norm = nn.BatchNorm1d(8, momentum=0.0)\n+ norm = nn.BatchNorm1d(8, momentum=0.1)\n  norm(x)",
         references=("Ioffe, Szegedy 2015: Batch normalization, ICML",
                     "PyTorch 2.13 documentation: torch.nn.BatchNorm1d")),
    Rule(code="RVN-I19", title="much dropout", cause="dropout", severity="note", confidence="medium", find=much_dropped,
         needs="network", because="p is the share that is dropped, not the share that is kept",
         misses="dropout by arithmetic of one's own, and inside attention",
         means="So many units are dropped that what is left may not carry the answer.",
         detected=f"A dropout module drops {DROPPED:.0%} or more.", remedy="Try 0.1 to 0.5.",
         patch="- body.append(nn.Dropout(0.9))\n+ body.append(nn.Dropout(0.1))",
         references=("Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov 2014: Dropout, JMLR 15",)),
    Rule(code="RVN-I20", title="the loss is a sum over the batch", cause="loss-reduction", severity="note",
         find=adds_up, needs="loss", because="reduction=\"sum\", or a sum written by hand",
         misses="sums that are divided by a fixed number",
         means="The gradient of a sum grows with the batch, so the learning rate that fits depends on the batch size.",
         detected="The loss of the batch taken twice is twice the loss of the batch.",
         remedy="Take the mean, or divide the learning rate by the batch size.",
         patch="- loss = F.cross_entropy(model(x), y, reduction=\"sum\")\n+ loss = F.cross_entropy(model(x), y)",
         references=("PyTorch 2.13 documentation: torch.nn.MSELoss",)),
    Rule(code="RVN-I21", title="whole numbers as one number", cause="loss", severity="note", confidence="low",
         find=class_as_number, needs="loss", because="classes were given to a loss for numbers",
         misses="classes that are floating-point numbers",
         means="Targets are a few whole numbers and the network has one output that is compared with them. If they are "
               "classes without an order, that asks it to put class 2 between 1 and 3.",
         detected="Integer targets with 3 to 100 different values, and one output for each.",
         remedy="Give each class an output and take cross entropy, unless the numbers count or order something.",
         patch="- loss = F.mse_loss(net(x)[:, 0], y.float())\n+ loss = F.cross_entropy(model(x), y)",
         references=("Bishop 2006: Pattern Recognition and Machine Learning, section 4.1.3, Springer",)),
)  # fmt: skip

ALL = (*EXACT, *LIKELY)

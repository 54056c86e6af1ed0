"""What is wrong with a model and its loss before the first step: what was probed, as plain numbers, and the rules.

Nothing here runs a model; `ravine.diagnosis.probing.read_start` does. Exact rules state facts that no threshold
decides; the others say how far off is too far, and are notes where only a trial can tell.
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
    gives: str = ""  # what the outputs are: probabilities, log-probabilities, or their range "0 to 1", "from 0", ...
    right_loss: float | None = None  # of outputs that favor the right answers
    wrong_loss: float | None = None  # of outputs that favor wrong ones
    unbounded: bool = False  # it falls without end as logits grow
    reduction: float | None = None  # loss of the batch taken twice over the loss of the batch: 1 mean, 2 sum
    shares: tuple[float, ...] = ()  # of the classes, or for each label the share of ones
    weights: tuple[float, ...] = ()  # pull of one example of a class at zero outputs, the most frequent's 1; for each
    # label that of a one over that of a zero
    answer: tuple[float, ...] = ()  # shares that the best constant answer gives to them
    first_loss: float | None = None  # in training mode
    null_loss: float | None = None  # of the best constant output
    plain_loss: float | None = None  # of the mean output in place of each example's own
    best_loss: float | None = None  # of the best outputs that the last activation can make
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

    def has(self, need: str) -> bool | None:
        """Whether a probe was made: "outputs" (the model and the loss ran), "mixing", "pairing", "causality", "repeat",
        "dependence" (of outputs on inputs), "graph", "gradients", "direction", "heads" (what the loss takes and the
        outputs are), "weights", "first loss", "signal", "units", "normed", "reach". None: it does not apply."""
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
        yield Seen(where=found.faded if found.last else found.dead[0], cause="output-activation" if found.last else "dead-units",
                   suspects=("dead-units",) if found.last else ("initialization", "input-scale"), evidence=(
            same, Evidence("layers whose units no example activates", len(found.dead), "", 0, listed(found.dead)),
        ), changes=(Change("output", "without the rectifier"),) if found.last else
            (Change("init", "biases of 0"), Change("activation", "leaky_relu")))  # fmt: skip
    elif found.cut:
        yield Seen(where=found.faded, cause="detached-graph", evidence=(same,),
                   changes=(Change("model", "use the input, and do not detach it"),))  # fmt: skip
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
         find=ignores_input, needs="dependence", explains=("RVN-S03", "RVN-I14", "RVN-H04", "RVN-I13"),
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
         find=stuck_at_zero, needs="dependence", explains=("RVN-I04", "RVN-S03", "RVN-I14", "RVN-H04"),
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

ALL = (*EXACT,)

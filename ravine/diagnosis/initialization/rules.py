"""What is wrong with a model and its loss before the first step: what was probed, as plain numbers,
and the rules.

Nothing here runs a model; `probe.read_start` does. Exact rules state facts that no threshold
decides; the others say how far off is too far, and are notes where only a trial can tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where something was first seen: the deepest module ("": between the model's own), its class,
    the function.
    """

    where: str = ""
    kind: str = ""  # the module's class
    function: str = ""
    size: float = 0.0  # how much: the largest change of an output over the outputs' spread


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """With whose targets the loss compares: `all` with all, or else the share of targets that miss
    their output.
    """

    all: bool = False
    missed: float = (
        0.0  # share of the changed targets that change nothing at their own example's output
    )
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
    flat: int = (
        0  # units of a bounded activation with less than 5 % of its steepest slope on average
    )
    center: float = 0.0  # mean of what it makes
    slope: float = 1.0  # mean share of its steepest slope, over all units
    last: bool = False  # it makes the model's output


@dataclass(frozen=True, kw_only=True)
class Normed:
    """A batch normalization after thirty batches: how far its statistics are from those of the
    examples.
    """

    where: str
    kind: str
    momentum: float | None
    eps: float
    shift: float = 0.0  # median over channels of |running mean - mean| / standard deviation
    stretch: float = (
        1.0  # median of the larger over the smaller of running and true standard deviation
    )
    batch: bool = False  # it has no running statistics: in evaluation it takes those of the batch


@dataclass(frozen=True, kw_only=True)
class Constant:
    """The model says the same of every example; `after` a few small gradient steps, too. What may
    be why.
    """

    after: bool
    zeros: tuple[str, ...] = ()  # weight matrices that are all 0 and get no gradient
    dead: tuple[str, ...] = ()  # layers whose rectified units are all dead
    cut: bool = False  # no gradient arrives at the parameters, or the inputs are not used
    one: bool = False  # a softmax over a single unit makes the output
    last: bool = False  # the dead rectifier makes the output
    faded: str = ""  # the first layer that says the same of every example though its input differs


@dataclass(frozen=True, kw_only=True)
class Start:
    """What was probed. None, or an empty tuple, where a figure was not measured; `measured` says
    which probes went.

    `measured` maps a probe to True (it ran), None (it does not apply) or False (it broke, or could
    not be made).
    """

    measured: Mapping[str, bool | None] = field(default_factory=dict)
    broke: Mapping[str, str] = field(default_factory=dict)  # why, by probe
    examples: int = 0
    output_shape: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    targets: str = ""  # classes, tokens, labels (0 and 1), shares (rows sum to 1), numbers
    classes: int = 0
    class_numbers: bool = (
        False  # whole-number targets, and one output that is compared with the number
    )
    input_mean: float = math.nan
    input_spread: float = math.nan

    # exact probes
    mixing: Place | None = None  # examples answer for each other in evaluation
    pairing: Pairing | None = None
    next_targets: bool = False  # targets are the inputs one place later
    leak: Place | None = None  # outputs know of later inputs
    random: Place | None = None  # two forward passes in evaluation differ
    constant: Constant | None = None
    no_gradient: str = (
        ""  # "outputs": the model's outputs have no graph, "loss": the loss has none, "frozen": no
    )
    # parameter asks for a gradient, "parameters": the graph reaches none
    cut_at: str = (
        ""  # the first module whose output has no graph though its parameters ask for a gradient
    )
    unreached: tuple[
        str, ...
    ] = ()  # parameters that took part, ask for a gradient, still are as drawn, and get none
    stuck: tuple[
        str, ...
    ] = ()  # weight matrices of zeros that get a gradient of exactly 0, also after a few steps
    copies: tuple[
        str, ...
    ] = ()  # weight matrices whose rows start as copies of each other, and stay copies

    # the loss as a function
    takes: str = ""  # logits, log-probabilities, probabilities
    last_at: str = ""  # the module of the last activation, or the last layer
    # what the outputs are: probabilities, log-probabilities, or their range "0 to 1", "from 0", ...
    gives: str = ""
    right_loss: float | None = None  # of outputs that favor the right answers
    wrong_loss: float | None = None  # of outputs that favor wrong ones
    unbounded: bool = False  # it falls without end as logits of the right answers grow
    reversed: bool = False  # wrong answers have the lower loss, in whatever form they are given
    reduction: float | None = (
        None  # loss of the batch taken twice over the loss of the batch: 1 mean, 2 sum
    )
    shares: tuple[float, ...] = ()  # of the classes, or for each label the share of ones
    weights: tuple[
        float, ...
    ] = ()  # pull of one example of a class at zero outputs, the most frequent's 1; for each
    # label that of a one over that of a zero
    answer: tuple[float, ...] = ()  # shares that the best constant answer gives to them
    first_loss: float | None = None  # in training mode
    null_loss: float | None = None  # of the best constant output
    even_loss: float | None = None  # of outputs of 0, or of even probabilities
    plain_loss: float | None = None  # of the mean output in place of each example's own
    unmet: float | None = (
        None  # share of the null loss that the best outputs of the last activation's range leave
    )
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
    score_spread: float | None = (
        None  # largest standard deviation of what goes into a softmax within the network
    )
    signal: float | None = None  # spread of the last hidden layer's output over that of the first's
    signal_slope: float | None = None  # of log10 spread per layer
    gradient: float | None = (
        None  # gradient at the first layer's output over that at the last hidden layer's
    )
    gradient_slope: float | None = None
    depth: int = 0  # hidden layers that these are taken over
    # the first layer of them; where the signal grows, the second: the first that multiplies it
    signal_at: str = ""

    def has(self, need: str) -> bool | None:
        """Whether a probe was made: "outputs" (the model ran), "mixing", "pairing", "causality",
        "repeat", "graph", "dependence" (of outputs on inputs), "loss" (as a function), "first
        loss", "network", "statistics" (of batch normalization). None: it does not apply."""
        return self.measured.get(need, False)


@rule(
    "RVN-I01",
    severity="error",
    cause="shape-pairing",
    also=("normalization", "train-eval-mode"),
    needs="mixing",
    explains=("RVN-H07",),
)
def mixed(start: Start) -> Iterator[Observation]:
    found = start.mixing
    if found is None:
        return
    normed = found.kind.startswith(("BatchNorm", "SyncBatchNorm", "LazyBatchNorm"))
    by = found.function or found.kind
    yield Observation(
        where=found.where,
        cause="normalization" if normed else "",
        severity="note" if normed else "",
        evidence=(
            Evidence(
                "change of an answer when only other examples change",
                found.size,
                "of the outputs' spread",
                0,
                f"first in {found.kind or 'the model'}{f', by {by}' if by != found.kind else ''}",
            ),
        ),
        suspects=("train-eval-mode",) if normed else (),
        changes=(
            Change(
                "model",
                "running statistics"
                if normed
                else "keep the batch in its dimension (batch_first, dim)",
            ),
        ),
    )


@rule(
    "RVN-I02",
    severity="error",
    cause="shape-pairing",
    also=("labels",),
    needs="pairing",
    explains=("RVN-H06",),
)
def mispaired(start: Start) -> Iterator[Observation]:
    found = start.pairing
    if found is None or not (found.all or found.missed):
        return
    shapes = f"outputs {list(found.outputs)}, targets {list(found.targets)}"
    if found.all:
        yield Observation(
            title="the loss compares every output with every target",
            evidence=(
                Evidence("change of the loss when the targets trade places", 0.0, "", None, shapes),
            ),
            changes=(Change("loss", "give output and target one shape"),),
        )
    else:
        yield Observation(
            suspects=("labels",),
            evidence=(
                Evidence(
                    "of changed targets pull at another example's output and not at their own",
                    100 * found.missed,
                    "%",
                    0,
                    shapes,
                ),
            ),
            changes=(
                Change("loss", "outputs and targets in one order: reshape, do not transpose"),
            ),
        )


@rule("RVN-I03", severity="error", cause="causality", needs="causality")
def looks_ahead(start: Start) -> Iterator[Observation]:
    if start.leak is not None:
        yield Observation(
            where=start.leak.where,
            evidence=(
                Evidence(
                    "change of an output when only later inputs change",
                    start.leak.size,
                    "of the outputs' spread",
                    0,
                    f"first in {start.leak.kind or 'the model'}; the target is the next input",
                ),
            ),
            changes=(Change("model", "mask what comes later, before the softmax over the keys"),),
        )


@rule(
    "RVN-I04",
    severity="error",
    cause="initialization",
    also=(
        "output-activation",
        "dead-units",
        "detached-graph",
        "vanishing",
        "hidden-activation",
        "input-scale",
    ),
    needs="dependence",
    explains=("RVN-S03", "RVN-I15", "RVN-I14", "RVN-H04"),
    picture="zero-init",
)
def ignores_input(start: Start) -> Iterator[Observation]:
    found = start.constant
    if found is None or not found.after:
        return
    same = Evidence(
        "difference between the outputs of different examples",
        0.0,
        "",
        None,
        "also after a few steps",
    )
    if found.one:
        yield Observation(
            where=found.faded,
            cause="output-activation",
            evidence=(
                same,
                Evidence("units of the softmax", 1, "", 2, "its output is 1 whatever goes in"),
            ),
            changes=(Change("output", "sigmoid for one unit, or a unit for each class"),),
        )
    elif found.zeros:
        yield Observation(
            where=module_of(found.zeros[0]),
            evidence=(
                same,
                Evidence("weight matrices of zeros without a gradient", len(found.zeros), "", 0),
            ),
            changes=(Change("init", "random weights"),),
        )
    elif found.dead:
        yield Observation(
            where=found.faded if found.last else found.dead[0],
            cause="output-activation" if found.last else "dead-units",
            suspects=("dead-units",) if found.last else ("initialization", "input-scale"),
            evidence=(
                same,
                Evidence(
                    "layers whose units no example activates",
                    len(found.dead),
                    "",
                    0,
                    join_names(found.dead),
                ),
            ),
            changes=(Change("output", "without the rectifier"),)
            if found.last
            else (Change("init", "biases of 0"), Change("activation", "leaky_relu")),
        )
    elif found.cut:
        yield Observation(
            where=found.faded,
            cause="detached-graph",
            evidence=(same,),
            changes=(Change("model", "use the input, and do not detach it"),),
        )
    elif start.signal is not None and start.signal < LOST:
        yield Observation(
            where=start.signal_at,
            cause="vanishing",
            suspects=("initialization", "hidden-activation"),
            evidence=(
                same,
                Evidence(
                    "spread of the last hidden layer's output over the first's",
                    start.signal,
                    "",
                    LOST,
                ),
            ),
            changes=(Change("init", "He, Glorot or LeCun"),),
        )
    else:
        yield Observation(
            where=found.faded,
            suspects=("vanishing", "hidden-activation"),
            evidence=(same,),
            changes=(Change("init", "weights that fit the width"),),
        )


@rule(
    "RVN-I05",
    severity="error",
    cause="detached-graph",
    also=("frozen-parameters", "loss"),
    needs="graph",
)
def no_gradient(start: Start) -> Iterator[Observation]:
    if start.no_gradient == "frozen":
        yield Observation(
            title="no parameter asks for a gradient",
            cause="frozen-parameters",
            evidence=(Evidence("parameters that learn", 0, "", 1),),
            changes=(Change("model", "requires_grad_(True) for what is to learn"),),
        )
    elif start.no_gradient:
        who = {
            "outputs": "the outputs have",
            "loss": "the loss has",
            "parameters": "no parameter is in",
        }
        words = {
            "outputs": "no graph: detach, no_grad, numpy or argmax in the model",
            "loss": "no graph: detach, item, argmax or a comparison in the loss",
            "parameters": "the graph of the loss",
        }
        yield Observation(
            where=start.cut_at,
            suspects=("loss",) if start.no_gradient == "loss" else (),
            evidence=(
                Evidence(
                    "parameters with a gradient",
                    0,
                    "",
                    1,
                    f"{who[start.no_gradient]} {words[start.no_gradient]}",
                ),
            ),
            changes=(Change("model" if start.no_gradient != "loss" else "loss", "keep the graph"),),
        )
    elif start.unreached:
        yield Observation(
            where=module_of(start.unreached[0]),
            title="layers in use get no gradient",
            severity="warning",
            suspects=("frozen-parameters",),
            evidence=(
                Evidence(
                    "parameters still as drawn that the outputs depend on but no gradient reaches",
                    len(start.unreached),
                    "",
                    0,
                    join_names(start.unreached),
                ),
            ),
            changes=(
                Change("model", "no detach and no no_grad behind them; or freeze them openly"),
            ),
        )


@rule(
    "RVN-I06",
    severity="error",
    cause="initialization",
    needs="dependence",
    explains=("RVN-I04", "RVN-S03", "RVN-I15", "RVN-H04"),
    picture="zero-init",
)
def stuck_at_zero(start: Start) -> Iterator[Observation]:
    if start.stuck:
        yield Observation(
            where=module_of(start.stuck[0]),
            evidence=(
                Evidence(
                    "weight matrices of zeros whose gradient is exactly 0",
                    len(start.stuck),
                    "",
                    0,
                    f"{join_names(start.stuck)}: on all {start.examples} examples, for several "
                    f"steps",
                ),
            ),
            changes=(
                Change("init", "random weights, zeros in at most one of two layers in a row"),
            ),
        )


@rule(
    "RVN-I07",
    severity="error",
    cause="initialization",
    needs="dependence",
    explains=("RVN-S01",),
    picture="zero-init",
)
def copies(start: Start) -> Iterator[Observation]:
    if start.copies:
        yield Observation(
            where=module_of(start.copies[0]),
            evidence=(
                Evidence(
                    "weight matrices with rows that start equal and move equally",
                    len(start.copies),
                    "",
                    0,
                    join_names(start.copies),
                ),
            ),
            changes=(Change("init", "random weights"),),
        )


@rule(
    "RVN-I08",
    severity="warning",
    cause="train-eval-mode",
    also=("dropout", "randomness"),
    needs="repeat",
)
def unsteady(start: Start) -> Iterator[Observation]:
    found = start.random
    if found is None:
        return
    dropped = "dropout" in found.function
    yield Observation(
        where=found.where,
        severity="warning" if dropped else "note",
        suspects=("dropout",) if dropped else ("randomness",),
        evidence=(
            Evidence(
                "evaluations of one batch that agree",
                1,
                "of 2",
                2,
                f"first apart at {found.function or found.kind}",
            ),
        ),
        changes=(
            Change(
                "model",
                "F.dropout(x, p, training=self.training)"
                if dropped
                else "draw random numbers in training only",
            ),
        ),
    )


def module_of(parameter: str) -> str:
    """The module that has a parameter.

    >>> module_of("body.0.weight"), module_of("place")
    ('body.0', 'place')
    """
    return parameter.rpartition(".")[0] or parameter


EXACT = (
    mixed,
    mispaired,
    looks_ahead,
    ignores_input,
    no_gradient,
    stuck_at_zero,
    copies,
    unsteady,
)


@rule(
    "RVN-I09",
    severity="error",
    cause="loss",
    also=("output-activation",),
    needs="loss",
    explains=("RVN-H05",),
    picture="losses",
)
def wants_wrong(start: Start) -> Iterator[Observation]:
    if start.reversed and start.right_loss is not None and start.wrong_loss is not None:
        yield Observation(
            evidence=(
                Evidence(
                    "loss of right answers",
                    start.right_loss,
                    "",
                    start.wrong_loss,
                    "must be the lower one",
                ),
                Evidence("loss of wrong answers", start.wrong_loss),
            ),
            changes=(Change("loss", "the other sign"),),
        )
    elif start.takes == "log-probabilities" and start.targets in ("classes", "tokens"):
        if start.unbounded and not start.gives:
            yield Observation(
                where=start.last_at,
                title="the loss takes log-probabilities and gets any numbers",
                suspects=("output-activation",),
                evidence=(
                    Evidence(
                        "lowest loss of logits that grow",
                        -math.inf,
                        "",
                        0.0,
                        "it falls in proportion to them",
                    ),
                ),
                changes=(Change("loss", "cross_entropy on logits"),),
            )
        elif start.gives == "probabilities":
            yield Observation(
                where=start.last_at,
                title="the loss takes log-probabilities and gets probabilities",
                severity="warning",
                confidence="high",
                suspects=("output-activation",),
                evidence=(
                    Evidence(
                        "slope of the loss in the right probability",
                        -1.0,
                        "",
                        None,
                        "the same however wrong it is",
                    ),
                ),
                changes=(Change("loss", "cross_entropy on logits"),),
            )


@rule(
    "RVN-I10",
    severity="error",
    cause="output-activation",
    also=("loss", "target-scale"),
    needs="loss",
    explains=("RVN-H01", "RVN-H02", "RVN-H08"),
    picture="losses",
)
def unfit(start: Start) -> Iterator[Observation]:
    left = start.unmet
    kept = (
        ()
        if left is None
        else (
            Evidence(
                "of the loss of a constant answer stays with the best outputs",
                100 * left,
                "%",
                100 * UNMET,
            ),
        )
    )
    squashed = start.gives in ("probabilities", "0 to 1")
    if start.takes == "logits" and squashed and start.targets in ("classes", "tokens", "labels"):
        yield Observation(
            where=start.last_at,
            suspects=("loss",),
            evidence=(
                Evidence("outputs between 0 and 1 where the loss takes logits", 100.0, "%", 0.0),
                *kept,
            ),
            changes=(Change("output", "linear"),),
        )
    elif left is not None and left > UNMET:
        numbers = start.targets == "numbers"
        yield Observation(
            where=start.last_at,
            title="the best outputs of the last activation miss the targets",
            severity="error" if left > 0.5 else "warning",
            confidence="high",
            suspects=("target-scale",) if numbers else ("loss",),
            evidence=kept,
            changes=(
                Change(
                    "output", "linear" if numbers else "sigmoid, or linear and a loss with logits"
                ),
            ),
        )


@rule(
    "RVN-I11",
    severity="warning",
    confidence="high",
    cause="imbalance",
    also=("loss",),
    needs="loss",
)
def upside_down(start: Start) -> Iterator[Observation]:
    weights, answer, shares = start.weights, start.answer, start.shares
    if not shares or len(weights) != len(shares) or len(answer) != len(shares):
        return
    if start.targets == "labels":
        low = [
            i
            for i, (p, w, a) in enumerate(zip(shares, weights, answer, strict=True))
            if w <= too_light(p / (1 - p)) and a / (1 - a) <= too_light(p / (1 - p)) * p / (1 - p)
        ]
        if low and 2 * len(low) >= len(weights):
            i = low[0]
            yield Observation(
                evidence=(
                    Evidence(
                        "weight of a 1 over that of a 0",
                        weights[i],
                        "",
                        too_light(shares[i] / (1 - shares[i])),
                        f"label {i}; {len(low)} of {len(weights)} labels",
                    ),
                    Evidence("share of ones", 100 * shares[i], "%"),
                    Evidence("the best constant answer says", 100 * answer[i], "%"),
                ),
                changes=(Change("loss", "pos_weight 1, or zeros over ones"),),
            )
        return
    top = max(range(len(shares)), key=shares.__getitem__)
    odds = [p / shares[top] for p in shares]
    low = [
        i
        for i, p in enumerate(odds)
        if p > 0 and 0 < weights[i] <= too_light(p) and answer[i] / answer[top] <= too_light(p) * p
    ]
    if low:
        i = min(low, key=lambda c: weights[c])
        yield Observation(
            evidence=(
                Evidence(
                    f"weight of an example of class {i} over one of class {top}",
                    weights[i],
                    "",
                    too_light(odds[i]),
                ),
                Evidence(f"share of class {i}", 100 * shares[i], "%"),
                Evidence("the best constant answer gives it", 100 * answer[i], "%"),
            ),
            changes=(Change("loss", "weights of 1, or one over the classes' shares"),),
        )


def too_light(odds: float) -> float:
    """The weight of a class at or below which it is too light, by how often it comes for each one
    of the others.
    """
    return LIGHT if odds <= RARE else VERY_LIGHT if odds <= COMMON else 0.0


@rule(
    "RVN-I12",
    severity="error",
    cause="loss",
    also=("data-degenerate", "initialization", "exploding", "input-scale", "output-activation"),
    needs="first loss",
    explains=("RVN-N01",),
)
def breaks_at_once(start: Start) -> Iterator[Observation]:
    what = start.not_finite
    if what not in ("inputs", "targets", "outputs", "loss"):
        return
    cause = {
        "inputs": "data-degenerate",
        "targets": "data-degenerate",
        "outputs": "initialization",
        "loss": "loss",
    }
    also = {"outputs": ("exploding", "input-scale"), "loss": ("output-activation",)}
    remedy = {
        "inputs": Change("data", "fill or drop what is not finite"),
        "outputs": Change("init", "smaller weights"),
        "targets": Change("data", "fill or drop what is not finite"),
        "loss": Change("loss", "one that is defined for these outputs, as with logits"),
    }
    yield Observation(
        where=start.not_finite_at,
        title=f"the first loss is not finite, from the {what} on",
        cause=cause[what],
        suspects=also.get(what, ()),
        changes=(remedy[what],),
        evidence=(
            Evidence(
                "first loss",
                start.first_loss,
                "",
                None,
                f"the {what} are the first that are not finite"
                if what != "loss"
                else "the outputs are finite",
            ),
        ),
    )


@rule(
    "RVN-I13",
    severity="note",
    confidence="medium",
    cause="initialization",
    also=("input-scale", "saturation", "exploding", "target-scale"),
    needs="first loss",
    explains=("RVN-I17",),
    picture="initial-loss",
)
def starts_high(start: Start) -> Iterator[Observation]:
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
        yield Observation(
            where=wild[0].where,
            severity="warning",
            confidence="high",
            suspects=("saturation", "exploding"),
            evidence=(
                *evidence,
                Evidence(
                    f"weights of {wild[0].where}, root mean square",
                    wild[0].weight,
                    "",
                    wild[0].expected,
                    "usual for so many inputs",
                ),
            ),
            changes=(Change("init", "weights that fit the width"),),
        )
    else:
        yield Observation(
            cause="input-scale",
            suspects=("initialization", "target-scale"),
            evidence=(
                *evidence,
                Evidence("spread of the inputs", start.input_spread),
            ),
            changes=(Change("input.scale", "standardize"),),
        )


@rule(
    "RVN-I14",
    severity="warning",
    confidence="high",
    cause="vanishing",
    also=("initialization", "exploding", "architecture-too-deep", "hidden-activation"),
    needs="network",
    explains=("RVN-I13", "RVN-I17"),
    picture="deep-tanh",
)
def fades(start: Start) -> Iterator[Observation]:
    signal, gradient = start.signal, start.gradient
    if signal is None or gradient is None:
        return
    factor = (
        max(signal, gradient) if signal < 1 else 1 / min(signal, gradient)
    )  # of the two, the one nearer to 1
    if not 0 <= factor < FADED:
        return
    scales = sorted(x.scale for x in start.layers if x.expected != 1.0 and x.scale == x.scale)
    usual = scales[len(scales) // 2] if scales else 1.0
    down = signal < 1
    if usual < TAME or usual > WILD:
        cause, also = "initialization", ("vanishing",) if down else ("exploding",)
    else:
        cause = "vanishing" if down else "exploding"
        also = (
            "initialization",
            "architecture-too-deep",
            *(("hidden-activation",) if down else ()),
        )
    yield Observation(
        where=start.signal_at,
        cause=cause,
        suspects=also,
        severity="warning" if factor < LOST else "note",
        title="" if down else "the signal grows out of bounds from layer to layer",
        evidence=(
            Evidence(
                "spread of the last hidden layer's output over the first's",
                signal,
                "",
                FADED if down else 1 / FADED,
                f"over {start.depth} layers, before any step",
            ),
            Evidence(
                "gradient at the first layer over that at the last",
                gradient,
                "",
                FADED if down else 1 / FADED,
            ),
        ),
        changes=(
            Change("init", "He, Glorot or LeCun"),
            Change("normalization", "between the layers"),
        ),
    )


@rule(
    "RVN-I15",
    severity="warning",
    confidence="high",
    cause="dead-units",
    also=("initialization", "input-scale"),
    needs="network",
    picture="activations",
)
def dead_at_start(start: Start) -> Iterator[Observation]:
    found = [
        a
        for a in start.active
        if a.rows >= ROWS and a.units >= FEW and not a.last and a.dead >= DARK * a.units
    ]
    if not found:
        return
    a = max(found, key=lambda a: a.dead / a.units)
    yield Observation(
        where=a.where,
        severity="warning" if a.dead >= DEAD * a.units else "note",
        suspects=("initialization", "input-scale"),
        evidence=(
            Evidence(
                "units that no example activates",
                a.dead,
                "",
                DEAD * a.units,
                f"of {a.units} in {a.where}",
            ),
        ),
        changes=(Change("init", "biases of 0"), Change("activation", "leaky_relu")),
    )


@rule(
    "RVN-I16",
    severity="warning",
    confidence="high",
    cause="saturation",
    also=("initialization", "input-scale"),
    needs="network",
    explains=("RVN-I17",),
    picture="activations",
)
def saturated(start: Start) -> Iterator[Observation]:
    found = [
        a
        for a in start.active
        if a.units >= FEW
        and not a.last
        and 2 * a.flat >= a.units
        and (a.kind.startswith(("tanh", "hardtanh", "softsign")) or 0.1 < a.center < 0.9)
    ]
    if not found:
        return
    a = max(found, key=lambda a: a.flat / a.units)
    scale = next((x.scale for x in start.layers if x.where == a.where), 1.0)
    wild = scale >= WILD
    cause = "initialization" if wild else "input-scale" if start.input_spread > 5 else "saturation"
    yield Observation(
        where=a.where,
        severity="warning" if a.flat >= DEAD * a.units else "note",
        cause=cause,
        suspects=tuple(c for c in ("saturation", "input-scale", "initialization") if c != cause),
        evidence=(
            Evidence(
                "units at the flat ends of their activation",
                a.flat,
                "",
                DEAD * a.units,
                f"of {a.units} in {a.where}",
            ),
            Evidence("mean slope over the steepest", 100 * a.slope, "%", 5.0),
            Evidence("weights over what is usual for so many inputs", scale, "times"),
        ),
        changes=(
            Change("init", "weights that fit the width")
            if wild
            else Change("input.scale", "standardize"),
        ),
    )


@rule("RVN-I17", severity="note", confidence="medium", cause="initialization", needs="network")
def odd_scale(start: Start) -> Iterator[Observation]:
    found: dict[str, Layer] = {}
    for x in start.layers:
        tables = x.expected == 1.0
        if x.scale >= (WILD_TABLE if tables else WILD) or (0 < x.scale <= TINY and not tables):
            found.setdefault(x.where, x)
    if found:
        worst = max(found.values(), key=lambda x: abs(math.log(x.scale)))
        yield Observation(
            where=worst.where,
            evidence=(
                Evidence(
                    "weights, root mean square",
                    worst.weight,
                    "",
                    worst.expected,
                    f"usual for {worst.fan_in} inputs",
                ),
                Evidence("layers so far off", len(found), "", 0, join_names(found)),
            ),
            changes=(Change("init", "weights that fit the width"),),
        )


@rule(
    "RVN-I18",
    severity="warning",
    confidence="high",
    cause="normalization",
    also=("train-eval-mode",),
    needs="statistics",
)
def still_statistics(start: Start) -> Iterator[Observation]:
    for n in start.normed:
        if n.batch or n.momentum is None:
            continue
        off = n.shift > SHIFTED or n.stretch > STRETCHED
        if n.momentum < SLOW and off:
            yield Observation(
                where=n.where,
                evidence=(
                    Evidence("momentum of the running statistics", n.momentum, "", SLOW),
                    Evidence(
                        "running mean off by",
                        n.shift,
                        "standard deviations",
                        SHIFTED,
                        f"after {30} batches",
                    ),
                    Evidence("running standard deviation off by", n.stretch, "times", STRETCHED),
                ),
                changes=(Change("model", "momentum 0.1"),),
            )
            return
        if n.momentum > FAST:
            yield Observation(
                where=n.where,
                severity="note",
                title="batch normalization remembers the last batch only",
                evidence=(Evidence("momentum of the running statistics", n.momentum, "", FAST),),
                changes=(Change("model", "momentum 0.1"),),
            )
            return


@rule("RVN-I19", severity="note", confidence="medium", cause="dropout", needs="network")
def much_dropped(start: Start) -> Iterator[Observation]:
    found = {name: p for name, p in start.dropouts.items() if p >= DROPPED}
    if found:
        name = max(found, key=found.__getitem__)
        yield Observation(
            where=name,
            evidence=(
                Evidence(
                    "of the units are dropped",
                    100 * found[name],
                    "%",
                    100 * DROPPED,
                    join_names(found),
                ),
            ),
            changes=(Change("dropout", 0.2),),
        )


@rule("RVN-I20", severity="note", cause="loss-reduction", needs="loss")
def adds_up(start: Start) -> Iterator[Observation]:
    if start.reduction is not None and abs(start.reduction - 2) < 1e-3 and start.examples > 1:
        yield Observation(
            evidence=(
                Evidence(
                    "loss of a batch taken twice over its loss",
                    start.reduction,
                    "",
                    1.0,
                    "a mean has 1",
                ),
            ),
            changes=(Change("loss", "mean"),),
        )


@rule("RVN-I21", severity="note", confidence="low", cause="loss", needs="loss")
def class_as_number(start: Start) -> Iterator[Observation]:
    if start.class_numbers:
        yield Observation(
            where=start.last_at,
            evidence=(
                Evidence(
                    "outputs for several whole-number targets",
                    1,
                    "",
                    None,
                    "as if class 2 lay between 1 and 3",
                ),
            ),
            changes=(
                Change("loss", "cross_entropy with an output for each class, if they are classes"),
            ),
        )


UNMET = 0.1  # of the null loss
LIGHT, VERY_LIGHT = (
    0.5,
    0.1,
)  # weights of a class that comes seldom, and of one that comes about as often
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

LIKELY = (
    wants_wrong,
    unfit,
    upside_down,
    breaks_at_once,
    starts_high,
    fades,
    dead_at_start,
    saturated,
    odd_scale,
    still_statistics,
    much_dropped,
    adds_up,
    class_as_number,
)

ALL = (*EXACT, *LIKELY)

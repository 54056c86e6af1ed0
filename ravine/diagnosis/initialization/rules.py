"""Faults of a model and its loss before the first step, as `probe.profile_start` measured them.

Exact rules state facts that no threshold decides; the others say how far off is too far, and are
notes where only a trial can tell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ravine.diagnosis.initialization.profile import LayerStats, StartProfile
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence

UNREACHABLE_FRACTION = 0.1  # of the null loss
UNREACHABLE_ERROR = 0.5  # of the null loss: no longer a warning
RARE_ODDS, COMMON_ODDS = 0.5, 1.5  # for each example of the most frequent class, or each zero
LIGHT_WEIGHT, VERY_LIGHT_WEIGHT = 0.5, 0.1  # of a rare class, and of one that is about as frequent
HIGH_LOSS_RATIO = 30.0  # times the loss of the best constant answer
LARGE_WEIGHT_RATIO, LARGE_TABLE_RATIO = 3.0, 10.0  # times the usual weight, in an embedding
SMALL_WEIGHT_RATIO, TINY_WEIGHT_RATIO = 0.2, 0.03
FADED_SIGNAL, LOST_SIGNAL = 1e-3, 1e-4  # of the signal of the first layer
MIN_UNIT_VALUES, MIN_UNITS = 64, 4  # with fewer nothing is said
SOME_DEAD_FRACTION, DEAD_FRACTION = 0.5, 0.9  # of a layer's units
FLAT_FRACTION = 0.5  # of a layer's units
GATE_MARGIN = 0.1  # a mean output nearer to 0 or 1 is that of a closed or open gate
LARGE_INPUT_SPREAD = 5.0
SHIFTED_MEAN, STRETCHED_STD = 1.0, 2.0  # standard deviations; times
SLOW_MOMENTUM, FAST_MOMENTUM = 1e-3, 0.99
HIGH_DROPOUT = 0.8


@rule(
    "RVN-I01",
    severity="error",
    cause="shape-pairing",
    also=("normalization", "train-eval-mode"),
    needs="mixing",
    explains=("RVN-H07",),
)
def mixed_examples(start: StartProfile) -> Iterator[Observation]:
    found = start.mixing.difference
    if found is None:
        return
    normed = found.module_class.startswith(("BatchNorm", "SyncBatchNorm", "LazyBatchNorm"))
    seen_at = f"first in {found.module_class or 'the model'}"
    if found.function and found.function != found.module_class:
        seen_at += f", by {found.function}"
    yield Observation(
        where=found.where,
        cause="normalization" if normed else "",
        severity="note" if normed else "",
        evidence=(
            Evidence(
                "change of an answer when only other examples change",
                found.change,
                "of the outputs' spread",
                0,
                seen_at,
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
def mispaired_targets(start: StartProfile) -> Iterator[Observation]:
    found = start.pairing
    if not (found.compares_all or found.missed_fraction):
        return
    shapes = f"outputs {list(found.output_shape)}, targets {list(found.target_shape)}"
    if found.compares_all:
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
                    100 * found.missed_fraction,
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
def future_leak(start: StartProfile) -> Iterator[Observation]:
    leak = start.causality.leak
    if leak is not None:
        yield Observation(
            where=leak.where,
            evidence=(
                Evidence(
                    "change of an output when only later inputs change",
                    leak.change,
                    "of the outputs' spread",
                    0,
                    f"first in {leak.module_class or 'the model'}; the target is the next input",
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
def constant_output(start: StartProfile) -> Iterator[Observation]:
    found, flow = start.dependence.constant, start.network.flow
    if found is None or not found.after_steps:
        return
    same = Evidence(
        "difference between the outputs of different examples",
        0.0,
        "",
        None,
        "also after a few steps",
    )
    if found.softmax_of_one:
        yield Observation(
            where=found.constant_from,
            cause="output-activation",
            evidence=(
                same,
                Evidence("units of the softmax", 1, "", 2, "its output is 1 whatever goes in"),
            ),
            changes=(Change("output", "sigmoid for one unit, or a unit for each class"),),
        )
    elif found.zero_weights:
        yield Observation(
            where=module_of(found.zero_weights[0]),
            evidence=(
                same,
                Evidence(
                    "weight matrices of zeros without a gradient", len(found.zero_weights), "", 0
                ),
            ),
            changes=(Change("init", "random weights"),),
        )
    elif found.dead_layers:
        yield Observation(
            where=found.constant_from if found.dead_output else found.dead_layers[0],
            cause="output-activation" if found.dead_output else "dead-units",
            suspects=("dead-units",) if found.dead_output else ("initialization", "input-scale"),
            evidence=(
                same,
                Evidence(
                    "layers whose units no example activates",
                    len(found.dead_layers),
                    "",
                    0,
                    join_names(found.dead_layers),
                ),
            ),
            changes=(Change("output", "without the rectifier"),)
            if found.dead_output
            else (Change("init", "biases of 0"), Change("activation", "leaky_relu")),
        )
    elif found.no_gradient:
        yield Observation(
            where=found.constant_from,
            cause="detached-graph",
            evidence=(same,),
            changes=(Change("model", "use the input, and do not detach it"),),
        )
    elif flow is not None and flow.signal < LOST_SIGNAL:
        yield Observation(
            where=flow.where,
            cause="vanishing",
            suspects=("initialization", "hidden-activation"),
            evidence=(
                same,
                Evidence(
                    "spread of the last hidden layer's output over the first's",
                    flow.signal,
                    "",
                    LOST_SIGNAL,
                ),
            ),
            changes=(Change("init", "He, Glorot or LeCun"),),
        )
    else:
        yield Observation(
            where=found.constant_from,
            suspects=("vanishing", "hidden-activation"),
            evidence=(same,),
            changes=(Change("init", "weights that fit the width"),),
        )


@rule(
    "RVN-I05",
    severity="error",
    cause="detached-graph",
    also=("frozen-parameters", "loss"),
    needs="gradients",
)
def missing_gradient(start: StartProfile) -> Iterator[Observation]:
    found = start.gradients
    if found.missing == "frozen":
        yield Observation(
            title="no parameter asks for a gradient",
            cause="frozen-parameters",
            evidence=(Evidence("parameters that learn", 0, "", 1),),
            changes=(Change("model", "requires_grad_(True) for what is to learn"),),
        )
    elif found.missing:
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
            where=found.cut_at,
            suspects=("loss",) if found.missing == "loss" else (),
            evidence=(
                Evidence(
                    "parameters with a gradient",
                    0,
                    "",
                    1,
                    f"{who[found.missing]} {words[found.missing]}",
                ),
            ),
            changes=(Change("model" if found.missing != "loss" else "loss", "keep the graph"),),
        )
    elif found.unreached:
        yield Observation(
            where=module_of(found.unreached[0]),
            title="layers in use get no gradient",
            severity="warning",
            suspects=("frozen-parameters",),
            evidence=(
                Evidence(
                    "parameters still as drawn that the outputs depend on but no gradient reaches",
                    len(found.unreached),
                    "",
                    0,
                    join_names(found.unreached),
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
def stuck_zero_weights(start: StartProfile) -> Iterator[Observation]:
    stuck = start.dependence.stuck_weights
    if stuck:
        yield Observation(
            where=module_of(stuck[0]),
            evidence=(
                Evidence(
                    "weight matrices of zeros whose gradient is exactly 0",
                    len(stuck),
                    "",
                    0,
                    f"{join_names(stuck)}: on all {start.examples} examples, for several steps",
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
def copied_units(start: StartProfile) -> Iterator[Observation]:
    copied = start.dependence.copied_weights
    if copied:
        yield Observation(
            where=module_of(copied[0]),
            evidence=(
                Evidence(
                    "weight matrices with rows that start equal and move equally",
                    len(copied),
                    "",
                    0,
                    join_names(copied),
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
def random_evaluation(start: StartProfile) -> Iterator[Observation]:
    found = start.repeat.difference
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
                f"first apart at {found.function or found.module_class}",
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


EXACT_RULES = (
    mixed_examples,
    mispaired_targets,
    future_leak,
    constant_output,
    missing_gradient,
    stuck_zero_weights,
    copied_units,
    random_evaluation,
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
def reversed_loss(start: StartProfile) -> Iterator[Observation]:
    form = start.loss.form
    if form.reversed and form.right_loss is not None and form.wrong_loss is not None:
        yield Observation(
            evidence=(
                Evidence(
                    "loss of right answers",
                    form.right_loss,
                    "",
                    form.wrong_loss,
                    "must be the lower one",
                ),
                Evidence("loss of wrong answers", form.wrong_loss),
            ),
            changes=(Change("loss", "the other sign"),),
        )
    elif form.takes == "log-probabilities" and start.loss.targets.kind in ("classes", "tokens"):
        if form.unbounded and not form.gives:
            yield Observation(
                where=form.last_at,
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
        elif form.gives == "probabilities":
            yield Observation(
                where=form.last_at,
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
def unfit_output_activation(start: StartProfile) -> Iterator[Observation]:
    form, kind, left = (
        start.loss.form,
        start.loss.targets.kind,
        start.loss.baselines.unreachable,
    )
    kept = (
        ()
        if left is None
        else (
            Evidence(
                "of the loss of a constant answer stays with the best outputs",
                100 * left,
                "%",
                100 * UNREACHABLE_FRACTION,
            ),
        )
    )
    squashed = form.gives in ("probabilities", "0 to 1")
    if form.takes == "logits" and squashed and kind in ("classes", "tokens", "labels"):
        yield Observation(
            where=form.last_at,
            suspects=("loss",),
            evidence=(
                Evidence("outputs between 0 and 1 where the loss takes logits", 100.0, "%", 0.0),
                *kept,
            ),
            changes=(Change("output", "linear"),),
        )
    elif left is not None and left > UNREACHABLE_FRACTION:
        numbers = kind == "numbers"
        yield Observation(
            where=form.last_at,
            title="the best outputs of the last activation miss the targets",
            severity="error" if left > UNREACHABLE_ERROR else "warning",
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
def reversed_class_weights(start: StartProfile) -> Iterator[Observation]:
    classes = start.loss.classes
    weights, answer, shares = classes.weights, classes.answer, classes.shares
    if not shares or len(weights) != len(shares) or len(answer) != len(shares):
        return
    if start.loss.targets.kind == "labels":
        low = [
            i
            for i, (p, w, a) in enumerate(zip(shares, weights, answer, strict=True))
            if w <= light_weight_limit(p / (1 - p))
            and a / (1 - a) <= light_weight_limit(p / (1 - p)) * p / (1 - p)
        ]
        if low and 2 * len(low) >= len(weights):
            i = low[0]
            yield Observation(
                evidence=(
                    Evidence(
                        "weight of a 1 over that of a 0",
                        weights[i],
                        "",
                        light_weight_limit(shares[i] / (1 - shares[i])),
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
        if p > 0
        and 0 < weights[i] <= light_weight_limit(p)
        and answer[i] / answer[top] <= light_weight_limit(p) * p
    ]
    if low:
        i = min(low, key=lambda c: weights[c])
        yield Observation(
            evidence=(
                Evidence(
                    f"weight of an example of class {i} over one of class {top}",
                    weights[i],
                    "",
                    light_weight_limit(odds[i]),
                ),
                Evidence(f"share of class {i}", 100 * shares[i], "%"),
                Evidence("the best constant answer gives it", 100 * answer[i], "%"),
            ),
            changes=(Change("loss", "weights of 1, or one over the classes' shares"),),
        )


def light_weight_limit(odds: float) -> float:
    """The weight of a class at or below which it is too light, by how often it comes for each one
    of the others.
    """
    return LIGHT_WEIGHT if odds <= RARE_ODDS else VERY_LIGHT_WEIGHT if odds <= COMMON_ODDS else 0.0


@rule(
    "RVN-I12",
    severity="error",
    cause="loss",
    also=("data-degenerate", "initialization", "exploding", "input-scale", "output-activation"),
    needs="first_loss",
    explains=("RVN-N01",),
)
def first_loss_not_finite(start: StartProfile) -> Iterator[Observation]:
    what = start.first_loss.not_finite
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
        where=start.first_loss.not_finite_at,
        title=f"the first loss is not finite, from the {what} on",
        cause=cause[what],
        suspects=also.get(what, ()),
        changes=(remedy[what],),
        evidence=(
            Evidence(
                "first loss",
                start.first_loss.value,
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
    needs="first_loss",
    explains=("RVN-I17",),
    picture="initial-loss",
    symptom=True,
)
def high_first_loss(start: StartProfile) -> Iterator[Observation]:
    first, baselines = start.first_loss.value, start.loss.baselines
    base = max(baselines.null_loss or 0.0, baselines.even_loss or 0.0)
    if first is None or base <= 0 or not first > HIGH_LOSS_RATIO * base:
        return
    large = [layer for layer in start.network.layers if has_large_weights(layer)]
    evidence = (
        Evidence("first loss", first, "", HIGH_LOSS_RATIO * base),
        Evidence("loss of the best constant answer", baselines.null_loss),
        Evidence("spread of the outputs", start.first_loss.output_spread),
    )
    if large:
        yield Observation(
            where=large[0].where,
            severity="warning",
            confidence="high",
            suspects=("saturation", "exploding"),
            evidence=(
                *evidence,
                Evidence(
                    f"weights of {large[0].where}, root mean square",
                    large[0].weight_rms,
                    "",
                    large[0].expected_rms,
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
                Evidence("spread of the inputs", start.first_loss.input_spread),
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
    symptom=True,
)
def fading_signal(start: StartProfile) -> Iterator[Observation]:
    flow = start.network.flow
    if flow is None:
        return
    signal, gradient = flow.signal, flow.gradient
    # of the two, the one nearer to 1
    factor = max(signal, gradient) if signal < 1 else 1 / min(signal, gradient)
    if not 0 <= factor < FADED_SIGNAL:
        return
    ratios = sorted(
        layer.weight_ratio
        for layer in start.network.layers
        if not layer.usual_is_one and not math.isnan(layer.weight_ratio)
    )
    usual = ratios[len(ratios) // 2] if ratios else 1.0
    down = signal < 1
    if usual < SMALL_WEIGHT_RATIO or usual > LARGE_WEIGHT_RATIO:
        cause, also = "initialization", ("vanishing",) if down else ("exploding",)
    else:
        cause = "vanishing" if down else "exploding"
        also = (
            "initialization",
            "architecture-too-deep",
            *(("hidden-activation",) if down else ()),
        )
    yield Observation(
        where=flow.where,
        cause=cause,
        suspects=also,
        severity="warning" if factor < LOST_SIGNAL else "note",
        title="" if down else "the signal grows out of bounds from layer to layer",
        evidence=(
            Evidence(
                "spread of the last hidden layer's output over the first's",
                signal,
                "",
                FADED_SIGNAL if down else 1 / FADED_SIGNAL,
                f"over {flow.depth} layers, before any step",
            ),
            Evidence(
                "gradient at the first layer over that at the last",
                gradient,
                "",
                FADED_SIGNAL if down else 1 / FADED_SIGNAL,
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
    symptom=True,
)
def dead_units(start: StartProfile) -> Iterator[Observation]:
    found = [
        a
        for a in start.network.activations
        if a.values_per_unit >= MIN_UNIT_VALUES
        and a.units >= MIN_UNITS
        and not a.makes_output
        and a.dead_units >= SOME_DEAD_FRACTION * a.units
    ]
    if not found:
        return
    a = max(found, key=lambda a: a.dead_units / a.units)
    yield Observation(
        where=a.where,
        severity="warning" if a.dead_units >= DEAD_FRACTION * a.units else "note",
        suspects=("initialization", "input-scale"),
        evidence=(
            Evidence(
                "units that no example activates",
                a.dead_units,
                "",
                DEAD_FRACTION * a.units,
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
    symptom=True,
)
def saturated_units(start: StartProfile) -> Iterator[Observation]:
    found = [
        a
        for a in start.network.activations
        if a.units >= MIN_UNITS
        and not a.makes_output
        and a.flat_units >= FLAT_FRACTION * a.units
        and (
            a.function.startswith(("tanh", "hardtanh", "softsign"))
            or GATE_MARGIN < a.mean_output < 1 - GATE_MARGIN
        )
    ]
    if not found:
        return
    a = max(found, key=lambda a: a.flat_units / a.units)
    ratio = next(
        (layer.weight_ratio for layer in start.network.layers if layer.where == a.where), 1.0
    )
    large = ratio >= LARGE_WEIGHT_RATIO
    if large:
        cause = "initialization"
    elif start.first_loss.input_spread > LARGE_INPUT_SPREAD:
        cause = "input-scale"
    else:
        cause = "saturation"
    yield Observation(
        where=a.where,
        severity="warning" if a.flat_units >= DEAD_FRACTION * a.units else "note",
        cause=cause,
        suspects=tuple(c for c in ("saturation", "input-scale", "initialization") if c != cause),
        evidence=(
            Evidence(
                "units at the flat ends of their activation",
                a.flat_units,
                "",
                DEAD_FRACTION * a.units,
                f"of {a.units} in {a.where}",
            ),
            Evidence("mean slope over the steepest", 100 * a.mean_slope, "%", 5.0),
            Evidence("weights over what is usual for so many inputs", ratio, "times"),
        ),
        changes=(
            Change("init", "weights that fit the width")
            if large
            else Change("input.scale", "standardize"),
        ),
    )


@rule("RVN-I17", severity="note", confidence="medium", cause="initialization", needs="network")
def odd_weight_scale(start: StartProfile) -> Iterator[Observation]:
    found: dict[str, LayerStats] = {}
    for layer in start.network.layers:
        tiny = 0 < layer.weight_ratio <= TINY_WEIGHT_RATIO and not layer.usual_is_one
        if tiny or has_large_weights(layer):
            found.setdefault(layer.where, layer)
    if found:
        worst = max(found.values(), key=lambda layer: abs(math.log(layer.weight_ratio)))
        yield Observation(
            where=worst.where,
            evidence=(
                Evidence(
                    "weights, root mean square",
                    worst.weight_rms,
                    "",
                    worst.expected_rms,
                    f"usual for {worst.fan_in} inputs",
                ),
                Evidence("layers so far off", len(found), "", 0, join_names(found)),
            ),
            changes=(Change("init", "weights that fit the width"),),
        )


def has_large_weights(layer: LayerStats) -> bool:
    """Whether the weights of a layer are far larger than usual."""
    return layer.weight_ratio >= (LARGE_TABLE_RATIO if layer.usual_is_one else LARGE_WEIGHT_RATIO)


@rule(
    "RVN-I18",
    severity="warning",
    confidence="high",
    cause="normalization",
    also=("train-eval-mode",),
    needs="batch_norms",
)
def stale_statistics(start: StartProfile) -> Iterator[Observation]:
    for norm in start.batch_norms.layers:
        if norm.batch_statistics or norm.momentum is None:
            continue
        off = norm.mean_offset > SHIFTED_MEAN or norm.std_ratio > STRETCHED_STD
        if norm.momentum < SLOW_MOMENTUM and off:
            yield Observation(
                where=norm.where,
                evidence=(
                    Evidence(
                        "momentum of the running statistics", norm.momentum, "", SLOW_MOMENTUM
                    ),
                    Evidence(
                        "running mean off by",
                        norm.mean_offset,
                        "standard deviations",
                        SHIFTED_MEAN,
                        f"after {30} batches",
                    ),
                    Evidence(
                        "running standard deviation off by", norm.std_ratio, "times", STRETCHED_STD
                    ),
                ),
                changes=(Change("model", "momentum 0.1"),),
            )
            return
        if norm.momentum > FAST_MOMENTUM:
            yield Observation(
                where=norm.where,
                severity="note",
                title="batch normalization remembers the last batch only",
                evidence=(
                    Evidence(
                        "momentum of the running statistics", norm.momentum, "", FAST_MOMENTUM
                    ),
                ),
                changes=(Change("model", "momentum 0.1"),),
            )
            return


@rule("RVN-I19", severity="note", confidence="medium", cause="dropout", needs="network")
def high_dropout(start: StartProfile) -> Iterator[Observation]:
    found = {name: p for name, p in start.network.dropouts.items() if p >= HIGH_DROPOUT}
    if found:
        name = max(found, key=found.__getitem__)
        yield Observation(
            where=name,
            evidence=(
                Evidence(
                    "of the units are dropped",
                    100 * found[name],
                    "%",
                    100 * HIGH_DROPOUT,
                    join_names(found),
                ),
            ),
            changes=(Change("dropout", 0.2),),
        )


@rule("RVN-I20", severity="note", cause="loss-reduction", needs="loss")
def summed_loss(start: StartProfile) -> Iterator[Observation]:
    reduction = start.loss.form.reduction
    if reduction is not None and abs(reduction - 2) < 1e-3 and start.examples > 1:
        yield Observation(
            evidence=(
                Evidence(
                    "loss of a batch taken twice over its loss",
                    reduction,
                    "",
                    1.0,
                    "a mean has 1",
                ),
            ),
            changes=(Change("loss", "mean"),),
        )


@rule("RVN-I21", severity="note", confidence="low", cause="loss", needs="loss")
def classes_as_numbers(start: StartProfile) -> Iterator[Observation]:
    if start.loss.targets.class_numbers:
        yield Observation(
            where=start.loss.form.last_at,
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


LIKELY_RULES = (
    reversed_loss,
    unfit_output_activation,
    reversed_class_weights,
    first_loss_not_finite,
    high_first_loss,
    fading_signal,
    dead_units,
    saturated_units,
    odd_weight_scale,
    stale_statistics,
    high_dropout,
    summed_loss,
    classes_as_numbers,
)

ALL = (*EXACT_RULES, *LIKELY_RULES)

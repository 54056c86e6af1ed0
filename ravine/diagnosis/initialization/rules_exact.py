"""Facts about a model before the first step, which no threshold decides."""

from __future__ import annotations

from collections.abc import Iterator

from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.initialization.rules_network import LOST_SIGNAL
from ravine.diagnosis.rule import Observation, join_names, rule
from ravine.finding import Change, Evidence


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
    explains=("RVN-S03", "RVN-I15", "RVN-I14", "RVN-H04", "RVN-C03"),
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
    explains=("RVN-I04", "RVN-S03", "RVN-I15", "RVN-H04", "RVN-C03"),
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
    explains=("RVN-S01", "RVN-C03"),
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

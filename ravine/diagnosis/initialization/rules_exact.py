"""Facts about a model before the first step, which no threshold decides."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ravine.diagnosis.initialization.profile import ConstantOutput, SignalFlow, StartProfile
from ravine.diagnosis.initialization.rules_network import LOST_SIGNAL, NEW_WEIGHTS
from ravine.diagnosis.op_names import causal_form
from ravine.diagnosis.rule import Observation, join_names, observe, rule
from ravine.finding import Change, Evidence


@rule(
    "RVN-I01",
    "error",
    "shape-pairing",
    needs="mixing",
    also="normalization, train-eval-mode",
    explains="RVN-H07",
)
def mixed_examples(start: StartProfile) -> Iterator[Observation]:
    found = start.mixing.difference
    if found is None:
        return
    first = f"first in {found.module_class or 'the model'}"
    if found.function and found.function != found.module_class:
        first += f", by {found.function}"
    name = "change of an output when only other examples change"
    mixed = Evidence(name, found.change, "of the outputs' spread", limit=0, text=first)
    own = "one example's output from its own input: batch_first=True, dim=1, no reshape over "
    change = Change("model", f"{own}examples")
    where = found.where
    if found.module_class.startswith(("BatchNorm", "SyncBatchNorm", "LazyBatchNorm")):
        change = Change("model", "track_running_stats=True")
        cause, suspects = "normalization", ("train-eval-mode",)
        yield observe(mixed, change, where=where, severity="note", cause=cause, suspects=suspects)
    else:
        yield observe(mixed, change, where=where)


@rule("RVN-I02", "error", "shape-pairing", needs="pairing", also="labels", explains="RVN-H06")
def mispaired_targets(start: StartProfile) -> Iterator[Observation]:
    found = start.pairing
    shapes = f"outputs {list(found.output_shape)}, targets {list(found.target_shape)}"
    if found.compares_all:
        name = "change of the loss when the targets are permuted"
        evidence = Evidence(name, 0.0, text=shapes)
        advice = "output and target of one shape: output.squeeze(1) for [N, 1] and [N]"
        change = Change("loss", advice)
        yield observe(evidence, change, title="the loss compares every output with every target")
    elif found.missed_fraction:
        name = "of changed targets change the loss of another example, not of their own"
        advice = "output.transpose(...) to the order of the target before any reshape"
        change = Change("loss", advice)
        evidence = Evidence(name, 100 * found.missed_fraction, "%", limit=0, text=shapes)
        yield observe(evidence, change, suspects=("labels",))
    elif found.repeated:
        ratio = math.prod(found.output_shape) / math.prod(found.target_shape)
        if found.repeated == "outputs":
            title, name = "several outputs are compared with one target", "outputs for each target"
        else:
            title, name = "one output is compared with several targets", "targets for each output"
            ratio = 1 / ratio
        evidence = Evidence(name, ratio, limit=1, text=shapes)
        change = Change("model", "one output for each number of the target")
        yield observe(evidence, change, title=title, confidence="high")


@rule("RVN-I22", "error", "shape-pairing", needs="layout", also="loss", explains="RVN-H07")
def misplaced_classes(start: StartProfile) -> Iterator[Observation]:
    found = start.layout
    if not found.mixed:
        if found.reshaped_to:
            shapes = f"from {list(found.reshaped_from)} to {list(found.reshaped_to)}"
            reshaped = Evidence("reshape with the sizes of a transpose", None, text=shapes)
            change = Change("model", "transpose or permute to exchange dimensions")
            title = "a reshape stands where dimensions are to be exchanged"
            yield observe(reshaped, change, where=found.where, title=title, confidence="high")
        return
    shape = f"outputs {list(found.output_shape)}"
    if found.unit_axis is not None:
        axis = Evidence("dimension of the outputs with the classes", found.unit_axis, text=shape)
        taken = Evidence("dimension that the loss takes for them", found.loss_axis)
        change = Change("loss", f"outputs.transpose({found.loss_axis}, {found.unit_axis})")
        yield observe(axis, taken, change, where=found.where)
        return
    name = "units of the last layer whose outputs were scattered by a reshape"
    scattered = Evidence(name, None, text=shape)
    change = Change("model", "transpose or permute, not view or reshape, to exchange dimensions")
    yield observe(scattered, change, where=found.where)


@rule("RVN-I03", "error", "causality", needs="causality")
def future_leak(start: StartProfile) -> Iterator[Observation]:
    leak = start.causality.difference
    if leak is not None:
        name = "change of an output when only later inputs change"
        first = f"first in {leak.module_class or 'the model'}"
        evidence = Evidence(name, leak.change, "of the outputs' spread", limit=0, text=first)
        change = Change("model", causal_form(leak.function, leak.module_class))
        yield observe(evidence, change, where=leak.where)


@rule(
    "RVN-I04",
    "error",
    "initialization",
    needs="dependence",
    also="output-activation, dead-units, detached-graph, vanishing, "
    "hidden-activation, input-scale, data-degenerate, saturation",
    explains="RVN-S03, RVN-I15, RVN-I14, RVN-H04, RVN-C03",
)
def constant_output(start: StartProfile) -> Iterator[Observation]:
    found = start.dependence.constant
    if found is None or not found.after_steps:
        return
    name = "difference between the outputs of different examples"
    same = Evidence(name, 0.0, text="also after a few steps")
    seen = _reason_for_constant(found, start.network.flow)
    yield replace(seen, evidence=(same, *seen.evidence))


def _reason_for_constant(found: ConstantOutput, flow: SignalFlow | None) -> Observation:
    """What makes all outputs equal."""
    if found.softmax_of_one:
        units = Evidence("units of the softmax", 1, limit=2, text="its output is 1 for every input")
        change = Change("output", "torch.sigmoid for one output, or one output for each class")
        return observe(units, change, where=found.constant_from, cause="output-activation")
    if found.zero_weights:
        name = "weight matrices of zeros without a gradient"
        evidence = Evidence(name, len(found.zero_weights), limit=0)
        return observe(evidence, NEW_WEIGHTS, where=module_of(found.zero_weights[0]))
    if found.varies_when_scaled:
        change, suspects = Change("input.scale", "standardize"), ("initialization", "saturation")
        where = found.constant_from
        return observe(change, where=where, cause="input-scale", suspects=suspects)
    if found.dead_layers:
        name = "layers whose units no example activates"
        dead = Evidence(name, len(found.dead_layers), limit=0, text=join_names(found.dead_layers))
        if found.dead_output:
            change = Change("output", "no ReLU at the output")
            where, cause = found.constant_from, "output-activation"
            return observe(dead, change, where=where, cause=cause, suspects=("dead-units",))
        changes = Change("init", "biases of 0"), Change("activation", "leaky_relu")
        where, suspects = found.dead_layers[0], ("initialization", "input-scale")
        return observe(dead, *changes, where=where, cause="dead-units", suspects=suspects)
    if found.no_gradient:
        change = Change("model", "use the input, and do not detach it")
        return observe(change, where=found.constant_from, cause="detached-graph")
    if flow is not None and flow.signal < LOST_SIGNAL:
        name = "spread of the last hidden layer's output over the first's"
        lost = Evidence(name, flow.signal, limit=LOST_SIGNAL)
        change = Change("init", "nn.init.kaiming_normal_ (He) or nn.init.xavier_uniform_ (Glorot)")
        suspects = ("initialization", "hidden-activation")
        return observe(lost, change, where=flow.where, cause="vanishing", suspects=suspects)
    if found.recurrent and not found.constant_from:
        last_state = "the state at the last step before padding: pack_padded_sequence"
        change, suspects = Change("model", last_state), ("data-degenerate", "initialization")
        return observe(change, where=found.recurrent, cause="vanishing", suspects=suspects)
    if not found.constant_from:  # lost between modules: a difference of equals, an index, a mask
        change = Change("model", "a forward() whose outputs use the inputs")
        return observe(change, cause="detached-graph", suspects=("data-degenerate", "vanishing"))
    suspects = ("vanishing", "hidden-activation")
    return observe(NEW_WEIGHTS, where=found.constant_from, suspects=suspects)


@rule(
    "RVN-I05",
    "error",
    "detached-graph",
    needs="gradients",
    also="frozen-parameters, loss, hidden-activation, vanishing",
)
def missing_gradient(start: StartProfile) -> Iterator[Observation]:
    found = start.gradients
    if found.missing == "frozen":
        evidence = Evidence("parameters that learn", 0, limit=1)
        change = Change("model", "requires_grad_(True) for what is to learn")
        title = "no parameter requires a gradient"
        yield observe(evidence, change, title=title, cause="frozen-parameters")
    elif found.missing:
        reason = {
            "outputs": "the outputs have no graph: detach, no_grad, numpy or argmax in the model",
            "loss": "the loss has no graph: detach, item, argmax or a comparison in the loss",
            "parameters": "no parameter is in the graph of the loss",
            "flat": "the loss has a slope of exactly 0: a comparison, a rounding or argmax in it",
        }[found.missing]
        in_loss = found.missing in ("loss", "flat")
        evidence = Evidence("parameters with a gradient", 0, limit=1, text=reason)
        advice = "no detach(), item(), numpy() or no_grad() before the loss"
        change = Change("loss" if in_loss else "model", advice)
        yield observe(evidence, change, where=found.cut_at, suspects=("loss",) if in_loss else ())
    elif found.flattened:
        text = f"{', '.join(found.steps)} in the graph, whose derivative is 0"
        name = "parameters whose gradient is exactly 0"
        zero = Evidence(name, len(found.flattened), limit=0, text=text)
        advice = "a smooth function such as tanh, or a straight-through estimator"
        title, where = "a step function stops the gradient", module_of(found.flattened[-1])
        suspects = ("hidden-activation", "vanishing")
        yield observe(zero, Change("model", advice), where=where, title=title, suspects=suspects)
    elif found.unreached:
        name = "parameters that the outputs depend on, as initialized, without a gradient"
        advice = "no detach() or no_grad() after these layers, or requires_grad_(False) for them"
        title = "layers in use get no gradient"
        yield _parameters_without_gradient(found.unreached, name, advice, title)
    if found.without:
        name = "parameters without a gradient, on these examples"
        advice = "use them in what the loss is computed from, freeze them, or leave them out"
        title = "parameters get no gradient"
        yield _parameters_without_gradient(found.without, name, advice, title)


def _parameters_without_gradient(
    lost: Sequence[str], name: str, advice: str, title: str
) -> Observation:
    return observe(
        Evidence(name, len(lost), limit=0, text=join_names(lost)),
        Change("model", advice),
        where=module_of(lost[0]),
        severity="warning",
        title=title,
        suspects=("frozen-parameters",),
    )


@rule(
    "RVN-I06",
    "error",
    "initialization",
    needs="dependence",
    explains="RVN-I04, RVN-S03, RVN-I15, RVN-H04, RVN-C03",
)
def stuck_zero_weights(start: StartProfile) -> Iterator[Observation]:
    stuck = start.dependence.stuck_weights
    if stuck:
        name = "weight matrices of zeros whose gradient is exactly 0"
        which = f"{join_names(stuck)}: on all {start.examples} examples, for several steps"
        change = Change("init", "random weights, zeros in at most one of two layers in a row")
        evidence = Evidence(name, len(stuck), limit=0, text=which)
        yield observe(evidence, change, where=module_of(stuck[0]))


@rule(
    "RVN-I07",
    "error",
    "initialization",
    needs="dependence",
    explains="RVN-S01, RVN-C03",
    also="replicas",
)
def copied_units(start: StartProfile) -> Iterator[Observation]:
    copied = start.dependence.copied_weights
    if copied:
        name = "weight matrices with rows that start equal and get equal updates"
        evidence = Evidence(name, len(copied), limit=0, text=join_names(copied))
        yield observe(evidence, NEW_WEIGHTS, where=module_of(copied[0]))
    equal = start.dependence.equal_weights
    if equal:
        name = "weight matrices that start equal to another one and get equal updates"
        evidence = Evidence(name, len(equal), limit=0, text=join_names(equal))
        change = Change("init", "each layer drawn anew after it is copied")
        title, suspects = "layers start as copies of each other", ("replicas",)
        where = module_of(equal[0])
        yield observe(evidence, change, where=where, title=title, suspects=suspects)


@rule("RVN-I08", "warning", "train-eval-mode", needs="repeat", also="dropout, randomness")
def random_evaluation(start: StartProfile) -> Iterator[Observation]:
    found = start.repeat.difference
    if found is None:
        return
    first = f"they first differ at {found.function or found.module_class}"
    drop, draw = "F.dropout(x, p, training=self.training)", "draw random numbers in training only"
    evidence = Evidence("evaluations of one batch that agree", 1, "of 2", limit=2, text=first)
    change, severity, suspect = Change("model", draw), "note", "randomness"
    if "dropout" in found.function:
        change, severity, suspect = Change("model", drop), "warning", "dropout"
    yield observe(evidence, change, where=found.where, severity=severity, suspects=(suspect,))


def module_of(parameter: str) -> str:
    """The module that has a parameter.

    >>> module_of("body.0.weight"), module_of("place")
    ('body.0', 'place')
    """
    return parameter.rpartition(".")[0] or parameter

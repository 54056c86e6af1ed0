"""Probe the signal in a network at its start: the first loss, signal and gradient by layer,
activations, and the statistics of batch normalization.

Letters: N examples.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ravine.diagnosis.initialization.forward_trace import (
    ForwardTrace,
    FunctionCall,
    ModuleCall,
    SourceLayer,
    count_units,
    root_mean_square,
    trace_forward,
    values_by_unit,
)
from ravine.diagnosis.initialization.probed_program import (
    ProbedProgram,
    are_large,
    copy_model,
    is_finite,
    scaled_outputs,
)
from ravine.diagnosis.initialization.profile import (
    ActivationStats,
    BatchNormStats,
    FirstLoss,
    LayerStats,
    NetworkProfile,
    SignalFlow,
)
from ravine.diagnosis.op_names import (
    EMBEDDING_FUNCTIONS,
    FUSED_FUNCTIONS,
    MATMUL_FUNCTIONS,
    RECTIFIER_FUNCTIONS,
)

FLAT_SLOPE = 0.05  # of an activation's steepest slope
MIN_DEPTH = 4  # layers along which a signal is followed
NORM_BATCHES, NORM_BATCH_SIZE = 30, 32  # that batch normalization gets


def probe_first_loss(program: ProbedProgram) -> FirstLoss:
    """The first loss in training mode, and what is not finite."""
    x, y = program.inputs, program.targets
    outputs = program.training_trace.output
    loss = float(program.loss(outputs, y).detach())
    rows = outputs.detach().double()
    input_spread = float(x.double().std()) if x.is_floating_point() else math.nan
    output_spread = _spread_over_examples(rows)
    found = FirstLoss(value=loss, input_spread=input_spread, output_spread=output_spread)
    if math.isfinite(loss) and is_finite(rows):  # what the model repairs is no fault of it
        return found
    parts = (("inputs", x), ("targets", y), ("outputs", rows))
    broken = next((name for name, tensor in parts if not is_finite(tensor)), "loss")
    where = _first_not_finite(program.trace) if broken == "outputs" else ""
    if broken == "outputs" and not where and not x.is_floating_point():  # several inputs, packed
        received = (t for call in program.trace.modules if call.where for t in call.inputs)
        broken = broken if all(map(is_finite, received)) else "inputs"
    finite_rows = torch.isfinite(rows).reshape(len(rows), -1).all(1).double().mean()
    has_numbers = y.is_floating_point() and y.numel() > 0
    return replace(
        found,
        not_finite=broken,
        finite_when=_finite_when(program, broken) if broken in ("outputs", "loss") else "",
        not_finite_at=where,
        finite_rows=float(finite_rows),
        target_size=float(y.double().abs().max()) if has_numbers else 0.0,
    )


def _finite_when(program: ProbedProgram, broken: str) -> str:
    """What makes the first loss finite: "standardized inputs"; "standardized targets", for which
    outputs are shifted and scaled alike; or "no weights" (all 0), of broken outputs these alone,
    whatever the loss makes of them. The first that does, or "".
    """
    x, y, out = program.inputs, program.targets, program.training_trace.output
    model, blank = program.training_model, copy.deepcopy(program.training_model)
    with torch.no_grad():
        for parameter in blank.parameters():
            parameter.zero_()

    def scaled_targets() -> tuple[Tensor | None, Tensor]:
        mean, sd = float(y.double().mean()), float(y.double().std())
        return (out.detach() - mean) / sd, (y - mean) / sd

    tried: dict[str, Callable[[], tuple[Tensor | None, Tensor]]] = {
        "standardized inputs": lambda: (scaled_outputs(program, model), y),
        "standardized targets": scaled_targets if are_large(y) else lambda: (None, y),
        "no weights": lambda: (trace_forward(blank, x, seed=program.seed).output, y),
    }
    for what, make in tried.items():
        with contextlib.suppress(Exception):  # the loss may refuse such outputs
            outputs, targets = make()
            if outputs is None or not is_finite(outputs):
                continue
            enough = what == "no weights" and broken == "outputs"
            if enough or is_finite(program.loss(outputs, targets).detach()):
                return what
    return ""


def _first_not_finite(trace: ForwardTrace) -> str:
    """The first module that makes something not finite of finite inputs."""
    for call in trace.modules:
        if all(map(is_finite, call.inputs)) and not all(map(is_finite, call.outputs)):
            return call.where
    return ""


def _spread_over_examples(x: Tensor) -> float:
    """Standard deviation over the examples [N, ...], root mean square over all else."""
    x = x.detach().double()
    return root_mean_square(x - x.mean(0)) if len(x) > 1 else 0.0


def probe_network(program: ProbedProgram) -> NetworkProfile | None:
    """Signal and gradient by layer, and activations, in training mode without dropout."""
    model, trace = program.training_model, program.training_trace
    if not trace.output.requires_grad or not is_finite(trace.output):
        return None
    owners = {id(p): name for name, p in model.named_parameters()}
    weighted = (c for c in trace.functions if c.weight is not None or c.name in FUSED_FUNCTIONS)
    calls = [call for call in weighted if call.output.requires_grad]
    loss = program.loss(trace.output, program.targets).sum()
    made = [call.output for call in calls]
    grads = torch.autograd.grad(loss, made, allow_unused=True) if made else ()
    layers = tuple(_measure_layer(*pair, owners) for pair in zip(calls, grads, strict=True))
    last = trace.output_call
    stats = (_measure_activation(call, makes_output=call is last) for call in trace.functions)
    first = next((c for c in trace.functions if c in calls or "_norm" in c.name), None)
    dropouts = {
        name: float(module.p)
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.dropout._DropoutNd)
    }
    return NetworkProfile(
        layers=layers,
        activations=tuple(found for found in stats if found is not None),
        single_value_norms=tuple(
            call.where
            for call in trace.modules
            if _normalizes_single_values(model.get_submodule(call.where), call)
        ),
        batch_norm_first=first is not None and "batch_norm" in first.name,
        dropouts=dropouts,
        flow=_measure_flow(layers),
    )


def _normalizes_single_values(module: nn.Module, call: ModuleCall) -> bool:
    """Whether a layer normalizes over groups of one value: each, minus its own mean, is 0."""
    if isinstance(module, nn.LayerNorm):
        return math.prod(module.normalized_shape) == 1
    if isinstance(module, nn.GroupNorm) and call.inputs:
        return call.inputs[0][0].numel() == module.num_groups
    return False


def _measure_layer(
    call: FunctionCall, gradient: Tensor | None, owners: Mapping[int, str]
) -> LayerStats:
    weight, output = call.weight, call.output.detach()
    where, fan_in = call.where, 1
    if weight is not None:
        transposed = call.name in MATMUL_FUNCTIONS or "transpose" in call.name
        fan_in = weight.shape[0] if transposed else weight[0].numel()
        if call.name in MATMUL_FUNCTIONS:  # the module multiplies by a parameter of its own
            where = owners.get(id(weight), where)
    return LayerStats(
        where=where,
        function=call.name,
        units=count_units(call.name, output),
        fan_in=fan_in,
        weight_rms=root_mean_square(weight) if weight is not None else math.nan,
        expected_rms=1.0 if call.name in EMBEDDING_FUNCTIONS else fan_in**-0.5,
        output_rms=root_mean_square(output),
        output_spread=_spread_over_examples(output),
        gradient_rms=None if gradient is None else root_mean_square(gradient),
    )


def _measure_activation(call: FunctionCall, *, makes_output: bool) -> ActivationStats | None:
    """None for other calls, and where the units cannot be found."""
    if call.name not in RECTIFIER_FUNCTIONS and call.relative_slope is None:
        return None
    source = call.source or SourceLayer(call.where, call.output.shape[-1], -1)
    values = values_by_unit(call.output, source)
    if values is None:
        return None
    units, count = values.shape
    found = ActivationStats(source.where, call.name, units, count, makes_output=makes_output)
    if call.relative_slope is None:
        return replace(found, dead_units=int((values <= 0).all(1).sum()))
    slopes = values_by_unit(call.relative_slope, source)
    assert slopes is not None  # of the same shape as the output
    means = slopes.double().mean(1)
    return replace(
        found,
        flat_units=int((means < FLAT_SLOPE).sum()),
        mean_slope=float(means.mean()),
        mean_output=float(values.double().mean()),
    )


def _measure_flow(layers: Sequence[LayerStats]) -> SignalFlow | None:
    """How signal and gradient change with depth: along the hidden layers, or along the calls of one
    layer that is used again and again, whichever changes more."""
    hidden = [layer for layer in layers if layer.function not in EMBEDDING_FUNCTIONS]
    hidden = [layer for layer in hidden[:-1] if layer.output_spread > 0 and layer.gradient_rms]
    calls: dict[str, list[LayerStats]] = {}
    for layer in hidden:
        calls.setdefault(layer.where, []).append(layer)
    best: SignalFlow | None = None
    for chain in ([first for first, *_ in calls.values()], *calls.values()):
        if len(chain) < MIN_DEPTH:
            continue
        change = math.log10(chain[-1].output_spread) - math.log10(chain[0].output_spread)
        if best is None or abs(change) > abs(math.log10(best.signal)):
            gradients = [math.log10(layer.gradient_rms or math.nan) for layer in chain]
            best = SignalFlow(
                signal=10.0**change,
                gradient=10.0 ** (gradients[0] - gradients[-1]),
                depth=len(chain),
                where=chain[0].where if change < 0 else chain[min(1, len(chain) - 1)].where,
            )
    return best


def probe_batch_norms(program: ProbedProgram) -> tuple[BatchNormStats, ...] | None:
    """The running statistics after thirty batches beside the statistics of all examples."""
    model = copy_model(program.model, training=True)
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    if not norms:
        return None
    n = len(program.inputs)
    generator = torch.Generator().manual_seed(program.seed)
    with torch.no_grad():
        for _ in range(NORM_BATCHES):
            rows = torch.randint(0, n, (min(NORM_BATCH_SIZE, n),), generator=generator)
            trace_forward(model, program.inputs[rows], seed=program.seed)
    # the inputs of a normalization in training mode do not depend on its running statistics
    inputs = {call.where: call.inputs[0] for call in program.training_trace.modules if call.inputs}
    return tuple(_measure_norm(name, norm, inputs.get(name)) for name, norm in norms.items())


def _measure_norm(
    where: str, norm: nn.modules.batchnorm._BatchNorm, inputs: Tensor | None
) -> BatchNormStats:
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        return BatchNormStats(where=where, momentum=norm.momentum, batch_statistics=True)
    found = BatchNormStats(where=where, momentum=norm.momentum)
    if inputs is None:  # it did not run
        return found
    x = inputs.double().movedim(1, 0).flatten(1)
    std, running_std = (x.var(1) + norm.eps).sqrt(), (variance.double() + norm.eps).sqrt()
    return replace(
        found,
        mean_offset=float(((mean.double() - x.mean(1)).abs() / std).median()),
        std_ratio=float(torch.maximum(running_std / std, std / running_std).median()),
    )

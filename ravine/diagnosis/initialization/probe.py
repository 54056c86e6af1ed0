"""Probe a model and its loss before the first step: `profile_start` runs copies of the model and
returns what was measured.

Nothing that is given changes: models are copied, random numbers are isolated, no gradient is left
behind. A probe that breaks leaves its part of the profile empty. Letters: N examples, n of them in
a small batch, T places, K outputs.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.constant_baseline import find_best_constant
from ravine.diagnosis.initialization.forward_trace import (
    ForwardTrace,
    ModuleCall,
    equal_at,
    first_unequal_call,
    root_mean_square,
    trace_forward,
    unequal_elements,
)
from ravine.diagnosis.initialization.loss_probe import (
    ProbedLoss,
    even_output,
    measure_class_weights,
    measure_reduction,
    measure_unreachable,
    probe_pairing,
    probe_preference,
)
from ravine.diagnosis.initialization.network_probe import (
    probe_batch_norms,
    probe_first_loss,
    probe_network,
)
from ravine.diagnosis.initialization.probed_program import (
    Loss,
    ProbedProgram,
    copy_model,
    is_constant,
    is_finite,
    learning_parameters,
    parameter_gradients,
    prepare_program,
    spread_rows,
)
from ravine.diagnosis.initialization.profile import (
    BaselineLosses,
    ClassWeights,
    ConstantOutput,
    FirstDifference,
    GradientFlow,
    InputDependence,
    LossForm,
    LossProfile,
    PassComparison,
    StartProfile,
    TargetPairing,
    TargetProfile,
)
from ravine.diagnosis.op_names import RECTIFIER_FUNCTIONS
from ravine.diagnosis.output_kinds import find_class_axis, find_probabilities, find_target_kind
from ravine.diagnosis.training_loop.tensor_stats import has_default_initialization
from ravine.rng import isolated_rng

GRADIENT_STEPS = 4  # small steps after which what did not move does not move
STEP_SIZE = 1e-2  # of a usual weight
COPY_DISTANCE = 1e-3  # of what they moved: rows that are equal but for rounding
COPIED_FRACTION = 0.5  # of the rows of a matrix
MAX_COMPARED_ROWS = 512
NEXT_FRACTION = 0.99  # of the targets that are the next input
MAX_CLASSES = 100
FUNCTION_RANGES = {  # of the outputs of a last function
    **dict.fromkeys(("sigmoid", "softmax"), "0 to 1"),
    **dict.fromkeys(("tanh", "hardtanh"), "-1 to 1"),
    **dict.fromkeys(("relu", "softplus", "exp", "abs", "square"), "from 0"),
}


def profile_start(
    model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, *, seed: int = 0
) -> StartProfile:
    """Probe a model and a loss on some training examples, of which at most 256 are used.

    It never raises: `StartProfile.broke` says what did not work.

    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> start = profile_start(net, lambda out, y: ((out - y) ** 2).mean(), x, x[:, 0])
    >>> start.pairing.compares_all, start.mixing.difference
    (True, None)
    """
    with isolated_rng(seed), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            program = prepare_program(model, loss, inputs, targets, seed)
        except Exception as error:  # the model's own code may raise anything
            return StartProfile(measured={"outputs": False}, broke={"outputs": _describe(error)})
        results: dict[str, Any] = {}
        broke: dict[str, str] = {}
        for name, probe in START_PROBES.items():
            try:
                results[name] = probe(program)
            except Exception as error:
                broke[name] = _describe(error)
    found = {name: result for name, result in results.items() if result is not None}
    measured = dict.fromkeys(results) | dict.fromkeys(("outputs", *found), True)
    measured |= dict.fromkeys(broke, False)
    return StartProfile(measured=measured, broke=broke, examples=len(program.inputs), **found)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


# Do examples keep apart?


def probe_mixing(program: ProbedProgram) -> PassComparison | None:
    """Change some examples of a batch: does the output for another one change?

    None where outputs are random, have a row for each pair of examples, or where there are no other
    examples.
    """
    rows, n = program.few, len(program.few)
    base, output = program.inputs[rows], program.few_trace.output
    others = program.inputs[(rows + len(program.inputs) // 2) % len(program.inputs)]
    generator = torch.Generator().manual_seed(program.seed)
    half = torch.randperm(n, generator=generator)[: n // 2].tolist()
    for some in (half, [i for i in range(n) if i not in half]):
        changed = base.clone()
        changed[some] = others[some]
        if bool((changed == base).all()) or n in output.shape[1:]:
            return None
        if _differ(output, program.repeated_trace.output):
            again = trace_forward(program.model, base, seed=program.seed)
            if _differ(output, again.output):
                return None  # random whatever the seed
        other = trace_forward(program.model, changed, seed=program.seed, copy_modules=True)
        rest = [i for i in range(n) if i not in some]
        found = _compare_passes(program, other, partial(equal_at, places=rest, size=n))
        if found is None or found.difference is not None:
            return found
    return PassComparison()


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool(unequal_elements(one, other).any())


def _compare_passes(
    program: ProbedProgram, other: ForwardTrace, equal: Callable[[Tensor, Tensor], bool | None]
) -> PassComparison | None:
    """Where the pass of the small batch and another differ; None if they cannot be compared."""
    one = program.few_trace
    same = equal(one.output, other.output)
    if same is None or same:
        return None if same is None else PassComparison()
    spread = float(program.outputs.detach().double().std()) or 1.0
    module = first_unequal_call(one.modules, other.modules, equal)
    function = first_unequal_call(one.functions, other.functions, equal)
    difference = FirstDifference(
        where=module.where if module else "",
        module_class=module.module_class if module else "",
        function=function.name if function else "",
        change=float((one.output - other.output).detach().abs().max()) / spread,
    )
    return PassComparison(difference=difference)


def probe_loss_pairing(program: ProbedProgram) -> TargetPairing | None:
    """See `loss_probe.probe_pairing`; the rows are those whose targets differ most."""
    if len(program.outputs) != len(program.inputs):
        return None
    means = program.targets.reshape(len(program.targets), -1).double().mean(1)
    order = means.argsort()
    return probe_pairing(_probed_loss(program, order[spread_rows(len(order), len(program.few))]))


def probe_causality(program: ProbedProgram) -> PassComparison | None:
    """Where targets are the next inputs: do later inputs change an earlier output?"""
    x, y = program.inputs, program.targets
    if not _are_next_inputs(x, y) or x.shape[1] < 3:
        return None
    places = x.shape[1]
    base, others = x[program.few], x[(program.few + len(x) // 2) % len(x)]
    for cut in (places // 2, places - 1, 1):
        changed = base.clone()
        changed[:, cut:] = others[:, cut:]
        if bool((changed == base).all()):
            changed[:, cut:] = base[:, cut:].roll(1, 0)
        other = trace_forward(program.model, changed, seed=program.seed, copy_modules=True)
        before = partial(equal_at, places=range(cut), size=places)
        found = _compare_passes(program, other, before)
        if found is None or found.difference is not None:
            return found
    return PassComparison()


def _are_next_inputs(x: Tensor, y: Tensor) -> bool:
    """Whether targets [N, T] are the inputs one place later, and not those of the same place."""
    if x.dim() == 3 and y.dim() == 2 and not y.is_floating_point():
        if not bool(((x == 0) | (x == 1)).all() & (x.sum(-1) == 1).all()):
            return False
        x = x.argmax(-1)
    if x.dim() == y.dim() + 1 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.dim() < 2 or x.shape != y.shape or x.shape[1] < 2:
        return False
    known = y >= 0 if not y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    known[:, -1] = False
    later = torch.isclose(x[:, 1:].double(), y[:, :-1].double(), rtol=1e-5)[known[:, :-1]]
    same = torch.isclose(x.double(), y.double(), rtol=1e-5)[known]
    if not len(later):
        return False
    return float(later.float().mean()) >= NEXT_FRACTION > float(same.float().mean())


# Is the output the same every time?


def probe_repeat(program: ProbedProgram) -> PassComparison | None:
    """Compare two forward passes in evaluation mode with different random numbers."""

    def equal(a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and not _differ(a, b)

    return _compare_passes(program, program.repeated_trace, equal)


# Does the gradient arrive?


def probe_gradients(program: ProbedProgram) -> GradientFlow:
    """Does the loss have a graph, and which parameters that act does its gradient not reach?"""
    if not learning_parameters(program.model):
        return GradientFlow(missing="frozen")
    if not program.outputs.requires_grad:
        return GradientFlow(missing="outputs", cut_at=_find_cut(program.model, program.trace))
    grads = program.first_gradients
    if grads is None:
        return GradientFlow(missing="loss")
    without = [name for name, gradient in grads.items() if gradient is None]
    if len(without) == len(grads):
        return GradientFlow(missing="parameters")
    few, unreached = program.inputs[program.few], []
    for name in without:
        model = _with_changed_parameter(program.model, name)
        if model is None:
            continue
        outputs = trace_forward(model, few, seed=program.seed).output
        if _differ(program.few_trace.output, outputs):
            unreached.append(name)
    return GradientFlow(unreached=tuple(unreached))


def _find_cut(model: nn.Module, trace: ForwardTrace) -> str:
    """The first module that learns, none of whose calls made a tensor with a graph."""
    has_graph = {call.where: False for call in trace.functions}
    for call in trace.functions:
        has_graph[call.where] |= call.output.requires_grad
    for name, module in model.named_modules():
        learns = any(p.requires_grad for p in module.parameters(recurse=False))
        if learns and has_graph.get(name) is False:
            return name
    return ""


def _with_changed_parameter(model: nn.Module, name: str) -> nn.Module | None:
    """A copy with other numbers in a parameter; None unless that is as torch initializes it."""
    model = copy_model(model, training=False)
    weight = model.get_parameter(name)
    if not has_default_initialization(weight, _owner(model, name)):
        return None
    with torch.no_grad():
        ramp = torch.linspace(0.5, 1.5, weight.numel(), device=weight.device, dtype=weight.dtype)
        weight.mul_(ramp.view_as(weight))
    return model


def probe_dependence(program: ProbedProgram) -> InputDependence | None:
    """Make a few small steps: what stays, what stays a copy, do outputs depend on the input?"""
    if len(program.inputs) < 2 or not is_finite(program.outputs):
        return None
    model = copy_model(program.model, training=False)
    parameters = learning_parameters(model)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    reached: set[str] = set()
    moved: set[str] = set()
    constant = is_constant(program.outputs)
    for step in range(GRADIENT_STEPS):
        grads = program.first_gradients
        if step > 0:
            outputs = trace_forward(model, program.inputs, seed=program.seed).output
            grads = parameter_gradients(program.loss(outputs, program.targets), parameters)
        if grads is None:
            cut = ConstantOutput(after_steps=True, no_gradient=True)
            return InputDependence(constant=cut) if constant else None
        for name, gradient in grads.items():
            if gradient is None:
                continue
            if not is_finite(gradient):
                return None
            reached.add(name)
            if bool((gradient != 0).any()):
                moved.add(name)
                _make_step_(parameters[name], gradient)
    stuck = tuple(
        name
        for name, weight in before.items()
        if weight.dim() > 1 and name in reached - moved and not bool((weight != 0).any())
    )
    copied = tuple(
        name
        for name, weight in before.items()
        if name in moved
        # the rows of an embedding are independent of each other
        and not isinstance(_owner(model, name), nn.Embedding | nn.EmbeddingBag)
        and _stay_copies(weight, parameters[name].detach())
    )
    found = InputDependence(stuck_weights=stuck, copied_weights=copied)
    if not constant or is_constant(program.inputs):
        return found
    if not is_constant(program.training_trace.output):
        return found
    outputs = trace_forward(model, program.inputs, seed=program.seed).output
    reason = replace(
        _explain_constant(program),
        after_steps=is_constant(outputs),
        zero_weights=stuck,
        no_gradient=not moved,
    )
    return replace(found, constant=reason)


def _make_step_(weight: nn.Parameter, gradient: Tensor) -> None:
    """Move `weight` by a hundredth of a usual weight (root mean square) against its gradient."""
    usual = weight[0].numel() ** -0.5 if weight.dim() > 1 else 1.0
    with torch.no_grad():
        weight.sub_((STEP_SIZE * usual / root_mean_square(gradient)) * gradient)


def _owner(model: nn.Module, parameter: str) -> nn.Module:
    return model.get_submodule(parameter.rpartition(".")[0])


def _stay_copies(before: Tensor, after: Tensor) -> bool:
    """Whether half of a matrix's rows started as copies of another and moved as they did."""
    if before.dim() < 2 or len(before) < 2:
        return False
    first, last = (w.flatten(1)[:MAX_COMPARED_ROWS].double() for w in (before, after))
    if first.shape[1] == 1 and not bool((last - first).any()):
        return False
    moved = (last - first).norm(dim=1)
    exact = "donot_use_mm_for_euclid_dist"
    copied = (torch.cdist(first, first, compute_mode=exact) == 0) & (moved > 0)
    copied &= torch.cdist(last, last, compute_mode=exact) <= COPY_DISTANCE * moved[:, None]
    copied.fill_diagonal_(False)
    return float(copied.any(1).double().mean()) >= COPIED_FRACTION


def _explain_constant(program: ProbedProgram) -> ConstantOutput:
    """What the forward pass shows of why all outputs are equal."""
    trace, last = program.trace, program.trace.output_call
    rectified = (call for call in trace.functions if call.name in RECTIFIER_FUNCTIONS)
    dead = [call for call in rectified if bool((call.output <= 0).all())]
    layers = (call.source.where if call.source is not None else call.where for call in dead)
    dim = last.dim if last is not None and "softmax" in last.name else None
    softmax_of_one = last is not None and dim is not None and last.output.shape[dim] == 1
    return ConstantOutput(
        after_steps=False,
        dead_layers=tuple(dict.fromkeys(layers)),
        softmax_of_one=softmax_of_one,
        dead_output=len(dead) == 1 and last is dead[0],
        constant_from=next((call.where for call in trace.modules if _loses_input(call)), ""),
    )


def _loses_input(call: ModuleCall) -> bool:
    """Whether a module got different examples and made equal ones of them."""
    if not call.inputs or not call.outputs:
        return False
    x, made = call.inputs[0], call.outputs[0]
    if x.dim() < 2 or made.dim() < 2 or len(x) < 2:
        return False
    return not is_constant(x) and is_constant(made)


# What does the loss ask for?


def probe_loss(program: ProbedProgram) -> LossProfile:
    """What the outputs are, what the loss takes, and whether it prefers right answers."""
    probed, y = _probed_loss(program), program.targets
    if probed.output_kind not in ("probabilities", "log-probabilities"):
        probed = replace(probed, class_axis=find_class_axis(probed.outputs, y))
    kind = find_target_kind(probed.outputs, y, probed.class_axis)
    whole = not y.is_floating_point() and y.dtype != torch.bool
    numbers = whole and kind in ("numbers", "labels") and 2 < len(torch.unique(y)) <= MAX_CLASSES
    last = program.trace.output_call
    form = replace(
        (probe_preference(probed, kind) if kind else None) or LossForm(),
        gives=probed.output_kind,
        last_at="" if last is None else last.where,
        reduction=measure_reduction(probed),
    )
    shape = tuple(program.outputs.shape)
    target = TargetProfile(kind=kind, output_shape=shape, class_numbers=numbers)
    found = LossProfile(form=form, targets=target)
    if not kind:
        return found
    even = probed.value(torch.full_like(probed.outputs, even_output(probed, kind)))
    baselines = BaselineLosses(even_loss=even if math.isfinite(even) else None)
    gives, axis = probed.output_kind, probed.class_axis
    best = find_best_constant(probed.loss, probed.outputs, y, output_kind=gives, class_axis=axis)
    classes = ClassWeights()
    if best is not None:
        unreachable = measure_unreachable(probed, kind, form.takes, best)
        baselines = replace(baselines, null_loss=best.loss, unreachable=unreachable)
        answer = _answer_shares(best.output, kind, form.takes, probed.output_kind)
        classes = ClassWeights(answer=answer)
    if kind in ("classes", "tokens", "labels"):
        shares, weights = measure_class_weights(probed, kind) or ((), ())
        classes = replace(classes, shares=shares, weights=weights)
    return replace(found, baselines=baselines, classes=classes)


def _probed_loss(program: ProbedProgram, rows: Tensor | None = None) -> ProbedLoss:
    """The loss with the outputs of all examples, or of some rows."""
    kind, axis = _find_output_kind(program)
    outputs, targets = program.outputs.detach(), program.targets
    if rows is not None:
        outputs, targets = outputs[rows], targets[rows]
    return ProbedLoss(program.loss, outputs, targets, kind, axis)


def _find_output_kind(program: ProbedProgram) -> tuple[str, int]:
    """What the outputs are, by values or last activation, and the dimension of the classes."""
    out, last = program.outputs.detach(), program.trace.output_call
    dim = last.dim if last is not None and last.dim is not None else -1
    for axis in (a for a in (dim, -1, 1) if -out.dim() <= a < out.dim()):
        kind = find_probabilities(out, axis)
        if kind:
            return kind, axis
    return FUNCTION_RANGES.get("" if last is None else last.name.rstrip("_"), ""), -1


def _answer_shares(output: Tensor, kind: str, takes: str, gives: str) -> tuple[float, ...]:
    """The probabilities that a constant output gives to the classes, or to each label."""
    flat = output.flatten()
    if flat.numel() > MAX_CLASSES:
        return ()
    if gives in ("probabilities", "0 to 1") and takes != "logits":
        return tuple(flat.tolist())
    if gives == "log-probabilities":
        return tuple(flat.exp().tolist())
    if takes != "logits" or kind == "numbers":
        return ()
    return tuple((flat.sigmoid() if kind == "labels" else flat.softmax(0)).tolist())


START_PROBES: Mapping[
    str, Callable[[ProbedProgram], object | None]
] = {  # by the field of the profile
    "mixing": probe_mixing,
    "pairing": probe_loss_pairing,
    "causality": probe_causality,
    "repeat": probe_repeat,
    "gradients": probe_gradients,
    "dependence": probe_dependence,
    "loss": probe_loss,
    "first_loss": probe_first_loss,
    "network": probe_network,
    "batch_norms": probe_batch_norms,
}

"""Probe what outputs depend on: other examples, later inputs, random numbers, the inputs at all.

Letters: N examples, n of them in a small batch, T places.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.initialization.forward_trace import (
    ForwardTrace,
    ModuleCall,
    equal_at,
    first_unequal_call,
    root_mean_square,
    trace_forward,
    unequal_elements,
)
from ravine.diagnosis.initialization.probed_program import (
    ProbedProgram,
    copy_model,
    is_constant,
    is_finite,
    learning_parameters,
    parameter_gradients,
    parameter_owner,
    scaled_outputs,
)
from ravine.diagnosis.initialization.profile import (
    ConstantOutput,
    FirstDifference,
    InputDependence,
    PassComparison,
)
from ravine.diagnosis.op_names import RECTIFIER_FUNCTIONS

GRADIENT_STEPS = 4  # small steps after which what did not move does not move
STEP_SIZE = 1e-2  # of a usual weight
COPY_DISTANCE = 1e-3  # of what they moved: rows that are equal but for rounding
COPIED_FRACTION = 0.5  # of the rows of a matrix
MAX_COMPARED_ROWS = 512
KEY_NUMBERS = 8  # of a matrix: they tell nearly all apart
NEXT_FRACTION = 0.99  # of the targets that are the next input


def probe_mixing(program: ProbedProgram) -> PassComparison | None:
    """Change some examples of a batch: does the output for another one change? None where outputs
    are random, have a row for each pair of examples, or where there are no other examples.
    """
    rows, n = program.few, len(program.few)
    base, output = program.inputs[rows], program.few_trace.output
    if _has_lost_rows(program):
        return _compare_passes(program, program.trace, _equal_or_longer)
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


def _has_lost_rows(program: ProbedProgram) -> bool:
    """Whether outputs have one shape whatever the examples, and the loss runs for one count."""
    few, every = program.few_trace.output, program.trace.output
    if few.shape != every.shape or len(program.few) == len(program.inputs):
        return False
    if _differ(few, program.repeated_trace.output) or not _differ(few, every):
        return False
    try:
        program.loss(few, program.targets[program.few])
    except Exception:  # whatever a loss raises
        return True
    return False


def _equal_or_longer(one: Tensor, other: Tensor) -> bool | None:
    """True for two shapes, as of other numbers of examples; False if numbers differ, else None."""
    return one.shape != other.shape or (False if _differ(one, other) else None)


def probe_causality(program: ProbedProgram) -> PassComparison | None:
    """Where targets are the next inputs: do later inputs change an earlier output?"""
    x = program.inputs
    if not _are_next_inputs(x, program.targets) or x.shape[1] < 3:
        return None
    return compare_later_inputs(program)


def compare_later_inputs(program: ProbedProgram) -> PassComparison | None:
    """Do later inputs, of inputs [N, T, ...], change an earlier output? None: it cannot be seen."""
    places = program.inputs.shape[1]
    for cut in (places // 2, places - 1, 1):
        found = _change_others(program, range(cut))
        if found is None or found.difference is not None:
            return found
    return PassComparison()


def _copies_alone(program: ProbedProgram) -> bool:
    """Where targets are the inputs again: does an output know of the token at its place alone?"""
    x = program.inputs
    if x.dim() != 2 or x.shape[1] < 2 or not torch.equal(x, program.targets):
        return False
    found = _change_others(program, range(x.shape[1] // 2, x.shape[1] // 2 + 1))
    return found is not None and found.difference is None


def _change_others(program: ProbedProgram, kept: range) -> PassComparison | None:
    """Change the inputs at all but some places: does an output at these change?"""
    x = program.inputs
    base, others = x[program.few], x[(program.few + len(x) // 2) % len(x)].clone()
    others[:, kept] = base[:, kept]
    if bool((others == base).all()):
        others = base.roll(1, 0)
        others[:, kept] = base[:, kept]
    other = trace_forward(program.model, others, seed=program.seed, copy_modules=True)
    return _compare_passes(program, other, partial(equal_at, places=kept, size=x.shape[1]))


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


def probe_repeat(program: ProbedProgram) -> PassComparison | None:
    """Compare two forward passes in evaluation mode with different random numbers."""

    def equal(a: Tensor, b: Tensor) -> bool:
        return a.shape == b.shape and not _differ(a, b)

    return _compare_passes(program, program.repeated_trace, equal)


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


def _differ(one: Tensor, other: Tensor) -> bool:
    return bool(unequal_elements(one, other).any())


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
        and not isinstance(parameter_owner(model, name), nn.Embedding | nn.EmbeddingBag)
        and _stay_copies(weight, parameters[name].detach())
    )
    after = {name: parameters[name].detach() for name in before if name in moved}
    found = InputDependence(
        stuck_weights=stuck,
        copied_weights=copied,
        equal_weights=_find_copied_matrices(before, after),
        copies_alone=_copies_alone(program),
    )
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


def _find_copied_matrices(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> tuple[str, ...]:
    """Matrices that start equal to another and move as it does; constant ones are left out."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name in after:
        weight = before[name]
        if weight.dim() > 1 and bool((weight != weight.flatten()[0]).any()):
            key = weight.shape, *weight.flatten()[:KEY_NUMBERS].tolist()
            groups.setdefault(key, []).append(name)
    found: list[str] = []
    for first, *others in groups.values():
        for other in others:
            moved = float((after[first] - before[first]).norm())
            apart = float((after[first] - after[other]).norm())
            if torch.equal(before[first], before[other]) and apart <= COPY_DISTANCE * moved:
                found += [first, other]
    return tuple(dict.fromkeys(found))


def _explain_constant(program: ProbedProgram) -> ConstantOutput:
    """What the forward pass shows of why all outputs are equal."""
    trace, last = program.trace, program.trace.output_call
    modules = program.model.named_modules()
    rectified = (call for call in trace.functions if call.name in RECTIFIER_FUNCTIONS)
    dead = [call for call in rectified if bool((call.output <= 0).all())]
    layers = (call.source.where if call.source is not None else call.where for call in dead)
    dim = last.dim if last is not None and "softmax" in last.name else None
    softmax_of_one = last is not None and dim is not None and last.output.shape[dim] == 1
    scaled = scaled_outputs(program, program.model)
    return ConstantOutput(
        after_steps=False,
        dead_layers=tuple(dict.fromkeys(layers)),
        softmax_of_one=softmax_of_one,
        varies_when_scaled=scaled is not None and not is_constant(scaled),
        dead_output=len(dead) == 1 and last is dead[0],
        constant_from=next((call.where for call in trace.modules if _loses_input(call)), ""),
        recurrent=next((n for n, m in modules if isinstance(m, nn.RNNBase | nn.RNNCellBase)), ""),
    )


def _loses_input(call: ModuleCall) -> bool:
    """Whether a module got different examples and made equal ones of them."""
    if not call.inputs or not call.outputs:
        return False
    x, made = call.inputs[0], call.outputs[0]
    if x.dim() < 2 or made.dim() < 2 or len(x) < 2:
        return False
    return not is_constant(x) and is_constant(made)

"""Probe where the numbers of one unit of the last layer end up in the outputs, and where the loss
looks for the classes of one place.

Letters: n examples of a small batch.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ravine.diagnosis.initialization.forward_trace import ForwardTrace, trace_forward, unit_dim
from ravine.diagnosis.initialization.pairing_probe import jitter_outputs
from ravine.diagnosis.initialization.probed_loss import ProbedLoss, prepare_loss
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import ClassLayout
from ravine.diagnosis.op_names import LAYER_FUNCTIONS, SOFTMAX_FUNCTIONS, VIEW_FUNCTIONS
from ravine.statistics import even_places

MOVED_UNITS = 3  # units whose outputs are moved
MOVED_SPREADS = 10.0  # how far, in spreads of the layer's outputs
LARGE_CHANGE = 0.5  # of the largest change: from there on, a number is the unit's own
TRIED_TARGETS = 4
CHANGED_GRADIENT = 0.05  # of the largest change: less may be a factor common to all
REORDERING_FUNCTIONS = VIEW_FUNCTIONS - {"__getitem__"} | SOFTMAX_FUNCTIONS


def probe_layout(program: ProbedProgram) -> ClassLayout | None:
    """Move the outputs of one unit of the last layer: what moves in the outputs of the model?

    Where the loss compares classes, it must be the scores of one class; elsewhere, it must be all
    that has some indices in each dimension. None where the last layer is not known, or where more
    than views (and a softmax) follow it.
    """
    out, layer = program.few_trace.output, last_layer(program.few_trace)
    if out.dim() < 3 or layer is None or len(program.targets) != len(program.outputs):
        return None
    module = program.model.get_submodule(layer)
    units = module.weight.shape[0] if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) else 0
    if units < 2:
        return None
    probed = prepare_loss(program, program.few)
    axis = find_loss_axis(probed)
    found = ClassLayout(where=layer, loss_axis=axis, output_shape=tuple(out.shape))
    softmax_axis = _softmax_axis(program.few_trace)
    if axis is not None and softmax_axis not in (None, axis):
        return replace(found, mixed=True, unit_axis=softmax_axis)
    if axis is None and out.shape != program.targets[program.few].shape:
        return None
    if axis is not None and out.shape[axis] != units:
        return None
    chosen = sorted({0, units // 2, units - 1})[:MOVED_UNITS]
    moved = [m for m in (_moved_places(program, module, u) for u in chosen) if m is not None]
    if len(moved) < len(chosen) or any(int(m.sum()) * units != m.numel() for m in moved):
        return None
    if axis is None:
        mixed = not all(map(_is_box, moved))
    else:
        mixed = any(len(_indices(m, axis - 1)) > 1 for m in moved)
    own = [d for d in range(out.dim() - 1) if all(len(_indices(m, d)) == 1 for m in moved)]
    return replace(found, mixed=mixed, unit_axis=own[0] + 1 if len(own) == 1 else None)


def last_layer(trace: ForwardTrace) -> str | None:
    """The module of the last layer with weights, if only views and a softmax follow it."""
    for call in reversed(trace.functions):
        if call.name in LAYER_FUNCTIONS:
            return call.where
        if call.name not in REORDERING_FUNCTIONS:
            return None
    return None


def _softmax_axis(trace: ForwardTrace) -> int | None:
    call = trace.output_call
    if call is None or call.dim is None or call.output.shape != trace.output.shape:
        return None
    return call.dim % call.output.dim()


def find_loss_axis(probed: ProbedLoss) -> int | None:
    """The dimension of the outputs along which the loss compares classes; None if there is none.

    A target that changes from one class to another changes the gradient at both: outputs that
    differ in the index of this dimension alone.

    >>> loss = nn.CrossEntropyLoss()
    >>> targets = torch.arange(20).reshape(5, 4) % 4
    >>> find_loss_axis(ProbedLoss(loss, torch.randn(5, 4, 4), targets))
    1
    """
    targets, outputs = probed.targets, jitter_outputs(probed)
    if targets.is_floating_point() or outputs.dim() != targets.dim() + 1:
        return None
    base = probed.gradient(outputs, targets)
    flat, axes = targets.flatten(), set()
    known = (flat >= 0).nonzero().flatten()
    if len(known) < TRIED_TARGETS or not bool(torch.isfinite(base).all()):
        return None
    for place in known[even_places(len(known), TRIED_TARGETS)].tolist():
        others = flat[known][flat[known] != flat[place]]
        if not len(others):
            return None
        changed = flat.clone()
        changed[place] = others[place % len(others)]
        change = (probed.gradient(outputs, changed.reshape(targets.shape)) - base).abs()
        moved = change > CHANGED_GRADIENT * change.max()
        varied = [d for d in range(outputs.dim()) if len(_indices(moved, d)) > 1]
        axes.add(varied[0] if len(varied) == 1 else None)
    return axes.pop() if len(axes) == 1 and 0 not in axes else None


def _moved_places(program: ProbedProgram, module: nn.Module, unit: int) -> Tensor | None:
    """Where outputs of one example change if those of a unit do; None if examples differ in it."""

    def lower(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        dim = unit_dim("conv" if isinstance(module, nn.modules.conv._ConvNd) else "linear")
        shift = torch.zeros(output.shape[dim])
        shift[unit] = MOVED_SPREADS * (float(output.detach().std()) or 1.0)
        shape = [1] * output.dim()
        shape[dim] = -1
        return output - shift.reshape(shape).to(output)

    handle = module.register_forward_hook(lower)
    try:
        other = trace_forward(program.model, program.inputs[program.few], seed=program.seed).output
    finally:
        handle.remove()
    change = (other - program.few_trace.output).detach().abs()
    moved = change > LARGE_CHANGE * change.max()
    return moved[0] if bool((moved == moved[:1]).all()) and bool(moved.any()) else None


def _indices(mask: Tensor, dim: int) -> set[int]:
    """The indices in a dimension that occur where a mask is true."""
    return set(mask.nonzero()[:, dim].tolist())


def _is_box(mask: Tensor) -> bool:
    """Whether a mask is true wherever all indices are among those that occur."""
    return math.prod(len(_indices(mask, d)) for d in range(mask.dim())) == int(mask.sum())

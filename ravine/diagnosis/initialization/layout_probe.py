"""Probe where the numbers of one unit of the last layer end up in the outputs, and where the loss
looks for the classes of one place.

Letters: n examples of a small batch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ravine.diagnosis.initialization.forward_trace import (
    ForwardTrace,
    FunctionCall,
    trace_forward,
    unit_dim,
)
from ravine.diagnosis.initialization.pairing_probe import jitter_outputs
from ravine.diagnosis.initialization.probed_loss import (
    SHIFT_CHANGE,
    ProbedLoss,
    find_normalized_axis,
    prepare_loss,
)
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
    """See `probe_class_layout`; and a reshape where dimensions are to be exchanged."""
    found, reshaped = probe_class_layout(program), find_misused_reshape(program.few_trace)
    if reshaped is None:
        return found
    before, after = (tuple(x.shape) for x in (reshaped.inputs[0], reshaped.output))
    found = found or ClassLayout(where=reshaped.where)
    return replace(found, reshaped_from=before, reshaped_to=after)


def probe_class_layout(program: ProbedProgram) -> ClassLayout | None:
    """Move the outputs of one unit of the last layer: what moves in the outputs of the model? And
    change one class among the targets: at which outputs of the layer does the gradient change?
    RVN-I22 explains both tests. None where the last layer is not known, or where more than views
    (and a softmax) follow it.
    """
    call = last_call(program.few_trace)
    out = program.few_trace.output
    if call is None or out.dim() < 2 or len(program.targets) != len(program.outputs):
        return None
    module = program.model.get_submodule(call.where)
    units = module.weight.shape[0] if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) else 0
    if units < 2:
        return None
    probed = prepare_loss(program, program.few)
    chosen = sorted({0, units // 2, units - 1})[:MOVED_UNITS]
    tried = (_moved_places(program, module, u) for u in (chosen if out.dim() > 2 else ()))
    moved = [m for m in tried if m is not None]
    if len(moved) < len(chosen) or any(int(m.sum()) * units != m.numel() for m in moved):
        moved = []
    dims = range(out.dim() - 1 if moved else 0)
    own = [d for d in dims if all(len(_indices(m, d)) == 1 for m in moved)]
    found = ClassLayout(
        where=call.where,
        unit_axis=1 if out.dim() == 2 else own[0] + 1 if len(own) == 1 else None,
        output_shape=tuple(out.shape),
    )
    places = [out.shape[:d] + out.shape[d + 1 :] for d in range(1, out.dim())]
    if probed.targets.is_floating_point() or probed.targets.shape not in places:
        if out.dim() < 3 or not moved or out.shape != probed.targets.shape:
            return None
        return replace(found, mixed=not all(map(_is_box, moved)))
    axis = find_loss_axis(probed)
    softmax_axis = _softmax_axis(program.few_trace)
    if axis is None and _depends_on_names(probed):
        axis = find_normalized_axis(probed, jitter_outputs(probed))
    found = replace(found, loss_axis=axis)
    if axis is not None and softmax_axis not in (None, axis):
        return replace(found, mixed=True, unit_axis=softmax_axis)
    apart = axis is not None and found.unit_axis not in (None, axis)
    return replace(found, mixed=apart or _scatters_classes(probed, program.few_trace, call))


def _depends_on_names(probed: ProbedLoss) -> bool:
    """Whether it matters which class is which: in a loss of pairs, only equal ones matter."""
    classes, once = probed.targets.unique(), probed.value(probed.outputs)
    if bool((classes < 0).any()):
        return True
    places = torch.searchsorted(classes, probed.targets)
    other = probed.value(probed.outputs, classes.roll(1)[places])
    return abs(other - once) > SHIFT_CHANGE * abs(once)


def _scatters_classes(probed: ProbedLoss, trace: ForwardTrace, call: FunctionCall) -> bool:
    """Whether old and new class of most changed targets belong to different places of the layer."""
    made, unit = call.output, unit_dim(call.name) % call.output.dim()
    if not made.requires_grad or made.dim() < 3:
        return False

    def gradient(targets: Tensor) -> Tensor:
        loss = probed.loss(trace.output, targets).sum()
        return torch.autograd.grad(loss, made, retain_graph=True)[0].double()

    base, scattered = gradient(probed.targets), []
    for changed in _change_classes(probed.targets):
        change = (gradient(changed) - base).abs()
        own = change >= LARGE_CHANGE * change.max()
        if bool(change.isfinite().all()) and bool((change > 0).any()):
            scattered.append(int(own.any(unit).sum()) > 1)
    return 2 * sum(scattered) > len(scattered)


def _change_classes(targets: Tensor) -> Iterator[Tensor]:
    """The targets with one of them changed to the class of another, for some that count."""
    flat = targets.flatten()
    known = (flat >= 0).nonzero().flatten()
    if len(known) < TRIED_TARGETS:
        return
    for place in known[even_places(len(known), TRIED_TARGETS)].tolist():
        others = flat[known][flat[known] != flat[place]]
        if len(others):
            changed = flat.clone()
            changed[place] = others[place % len(others)]
            yield changed.reshape(targets.shape)


def find_misused_reshape(trace: ForwardTrace) -> FunctionCall | None:
    """The first view or reshape that exchanges two dimensions by name, not by what is in them.
    Straight before a convolution over sequences also where one is a multiple of the other: what
    was folded would be no channel.
    """
    n = trace.output.shape[0] if trace.output.dim() else 0
    for call in trace.functions:
        if call.name in ("reshape", "view") and call.inputs and n in call.inputs[0].shape:
            before, after = call.inputs[0].shape, call.output.shape
            if exchanges_dimensions(before, after) or (
                _makes_channels(trace, call) and before[1:] == after[1:][::-1] != after[1:]
            ):
                return call
    return None


def _makes_channels(trace: ForwardTrace, call: FunctionCall) -> bool:
    """Whether a call makes of sequences what goes straight into a convolution."""
    convolved = (c for c in trace.functions if c.name == "conv1d" and c.follows(call))
    return call.output.dim() == 3 and next(convolved, None) is not None


def exchanges_dimensions(before: Sequence[int], after: Sequence[int]) -> bool:
    """Whether a reshape has the sizes of a transpose, of whole dimensions or of parts of one.

    Two dimensions of which one is a multiple of the other may be folded on purpose.

    >>> exchanges_dimensions((7, 6, 4), (7, 4, 6)), exchanges_dimensions((7, 6, 4), (7, 24))
    (True, False)
    >>> exchanges_dimensions((7, 5, 8), (7, 2, 5, 4)), exchanges_dimensions((7, 5, 8), (7, 5, 2, 4))
    (True, False)
    """
    one, other = (tuple(size for size in shape if size > 1) for shape in (before, after))
    short, long = sorted((one, other), key=len)
    splits = [short]
    if len(long) == len(short) + 1:
        halves = ((d, k) for d, size in enumerate(short) for k in range(2, size) if size % k == 0)
        splits = [(*short[:d], k, short[d] // k, *short[d + 1 :]) for d, k in halves]
    if long in splits or not any(sorted(split) == sorted(long) for split in splits):
        return False
    apart = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
    return len(one) != len(other) or len(apart) > 2 or max(apart[0]) % min(apart[0]) > 0


def last_call(trace: ForwardTrace) -> FunctionCall | None:
    """The call of the last layer with weights, if only views and a softmax follow it."""
    for call in reversed(trace.functions):
        if call.name in LAYER_FUNCTIONS:
            return call
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
    base, axes = probed.gradient(outputs, targets), set()
    if not bool(torch.isfinite(base).all()):
        return None
    for changed in _change_classes(targets):
        change = (probed.gradient(outputs, changed) - base).abs()
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

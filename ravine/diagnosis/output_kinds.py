"""What outputs are by their values: probabilities, log-probabilities or any numbers; and what
targets are to them: classes, labels or numbers. What a loss makes of them is tried in `loss_probe`.

Letters: N examples, T places, K classes.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

MIN_CLASS_FRACTION = 1e-6  # of a class, so that its logarithm is finite
SUM_TOLERANCE = 1e-4  # by which probabilities may miss a sum of 1
# by name, "" for any numbers: how outputs of the kind are made of any numbers (the axis is that
# of the classes), and back
OUTPUT_KINDS: Mapping[str, tuple[Callable[[Tensor, int], Tensor], Callable[[Tensor], Tensor]]] = {
    "": (lambda free, axis: free, lambda out: out),
    "probabilities": (torch.softmax, lambda out: out.clamp(min=MIN_CLASS_FRACTION).log()),
    "log-probabilities": (torch.log_softmax, lambda out: out),
    "0 to 1": (lambda free, axis: free.sigmoid(), lambda out: out.logit(eps=1e-4)),
    "-1 to 1": (lambda free, axis: free.tanh(), lambda out: out.clamp(-0.999, 0.999).atanh()),
    "from 0": (
        lambda free, axis: torch.nn.functional.softplus(free),
        lambda out: out + (-(-out.clamp(min=MIN_CLASS_FRACTION)).expm1()).log(),
    ),
}


def find_probabilities(outputs: Tensor, axis: int) -> str:
    """The kind of outputs that are probabilities or log-probabilities along an axis, else ""."""
    if outputs.dim() < 2 or axis % outputs.dim() == 0 or outputs.shape[axis] < 2:
        return ""
    if bool((outputs >= 0).all()) and bool(((outputs.sum(axis) - 1).abs() < SUM_TOLERANCE).all()):
        return "probabilities"
    sums_to_one = bool((outputs.logsumexp(axis).abs() < SUM_TOLERANCE).all())
    return "log-probabilities" if sums_to_one and bool((outputs <= 0).all()) else ""


def find_class_axis(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> int:
    """The dimension of the classes: 1 of outputs [N, K, T] for targets [N, T], else the last.

    Where both fit (K = T), it is the one along which right answers have the lower loss; 1, as
    torch's losses have it, if the loss does not say.

    >>> find_class_axis(torch.zeros(5, 3, 4), torch.ones(5, 4).long())
    1
    >>> find_class_axis(torch.zeros(5, 4, 3), torch.ones(5, 4).long())
    -1
    """
    if outputs.dim() != targets.dim() + 1 or outputs.dim() < 3:
        return -1
    if outputs.shape[:-1] != targets.shape:
        return 1
    if (outputs.shape[0], *outputs.shape[2:]) != targets.shape or targets.is_floating_point():
        return -1
    if loss is None:
        return 1
    places = targets.clamp(min=0).long()[..., None]
    try:
        last = torch.zeros_like(outputs).scatter_(-1, places, 1.0)
        with torch.no_grad():
            losses = [float(loss(out, targets).mean()) for out in (last, last.movedim(-1, 1))]
    except Exception:  # a loss, or a class number, that does not fit
        return 1
    return -1 if losses[0] < losses[1] else 1


def find_target_kind(outputs: Tensor, targets: Tensor, class_axis: int) -> str:
    """What the targets are to these outputs; see `TargetProfile.kind`.

    >>> find_target_kind(torch.zeros(4, 3), torch.tensor([0, 2, 1, 0]), -1)
    'classes'
    >>> find_target_kind(torch.zeros(4, 1), torch.ones(4), -1)
    'labels'
    """
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    if whole and outputs.dim() > 1:
        places = [*outputs.shape]
        classes = places.pop(class_axis)
        if tuple(places) == tuple(targets.shape) and classes > max(1, int(targets.max())):
            return "classes" if targets.dim() == 1 else "tokens"
    if math.prod(targets.shape) != math.prod(outputs.shape):
        return ""
    if bool(((targets == 0) | (targets == 1)).all()):
        return "labels" if not _rows_sum_to_one(targets, class_axis) else "shares"
    return "shares" if _rows_sum_to_one(targets, class_axis) else "numbers"


def _rows_sum_to_one(targets: Tensor, axis: int) -> bool:
    axis %= max(1, targets.dim())
    if axis == 0 or targets.shape[axis] < 2 or not targets.is_floating_point():
        return False
    sums = (targets.sum(axis) - 1).abs()
    return bool((targets >= 0).all()) and bool((sums < SUM_TOLERANCE).all())

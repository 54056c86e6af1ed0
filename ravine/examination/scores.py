"""How good answers are, on one scale for every task: 0 for the best constant answer, 1 at best.

A `loss` says which dimension is that of the classes where two could be. Letters: N examples, K
classes.
"""

import math

import torch
from torch import Tensor

from ravine.diagnosis.data.data_kinds import IGNORED_TARGET
from ravine.diagnosis.output_kinds import Loss, find_class_axis
from ravine.statistics import roc_auc

ONE_SIDED_COSTS = 3.0  # times what errors to the other side cost
MAX_SEPARATE_NUMBERS = 16  # targets of an example that count each by itself


def scaled_score(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> float | None:
    """How well outputs answer, rare classes counting as much as frequent ones; None if unclear.

    Classes, also as one-hot targets: (mean recall − 1/K) / (1 − 1/K) over the K classes there are.
    Targets 0 and 1, or −1 and 1: 2 AUC − 1, averaged over labels. Numbers: R², not below −1;
    several: its mean over those that vary (of more than 16, as of pixels, R² of all together).
    Unclear where the loss asks for a quantile: right answers are then off on purpose. Outputs that
    are not finite: −1.

    >>> scaled_score(torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 0]))
    1.0
    >>> scaled_score(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 3.0]))
    -1.0
    >>> scaled_score(torch.tensor([[0.0, 5], [0, 9]]), torch.tensor([[-0.1, 5], [0.1, 9]]))
    0.5
    """
    if not isinstance(outputs, Tensor):
        return None
    outputs, targets = outputs.detach().float(), _class_targets(outputs, targets)
    if not bool(torch.isfinite(outputs).all()):
        return -1.0
    if are_classes(outputs, targets):
        right = (classes_second(outputs, targets, loss).argmax(1) == targets).flatten()
        y = targets.flatten()
        right, y = right[y != IGNORED_TARGET], y[y != IGNORED_TARGET]
        classes = y.unique()
        if len(classes) < 2:
            return None
        recall = sum(float(right[y == k].float().mean()) for k in classes) / len(classes)
        return (recall - 1 / len(classes)) / (1 - 1 / len(classes))
    if outputs.numel() != targets.numel() or loss is not None and asks_for_quantile(loss, targets):
        return None
    out = outputs.reshape(len(targets), -1).double()
    y = targets.reshape(len(targets), -1).double()
    if bool(((y == 0) | (y == 1)).all()) or bool((y.abs() == 1).all()):
        y = (y > 0).to(y.dtype)
        area = float(roc_auc(out[None], y, y.new_ones(len(y)))[0])
        return None if math.isnan(area) else 2 * area - 1
    missed, spread = ((out - y) ** 2).sum(0), ((y - y.mean(0)) ** 2).sum(0)
    if y.shape[1] > MAX_SEPARATE_NUMBERS or not bool((spread > 0).any()):
        return max(-1.0, 1 - float(missed.sum() / spread.sum().clamp_min(1e-30)))
    return float((1 - missed / spread)[spread > 0].clamp_min(-1.0).mean())


def asks_for_quantile(loss: Loss, targets: Tensor) -> bool:
    """Whether a loss of numbers is least at the targets, and errors to one side cost far more.

    >>> pinball = lambda out, y: torch.maximum(0.9 * (y - out), 0.1 * (out - y)).mean()
    >>> asks_for_quantile(pinball, torch.tensor([1.0, 2.0])), asks_for_quantile(
    ...     torch.nn.functional.mse_loss, torch.tensor([1.0, 2.0]))
    (True, False)
    """
    if not targets.is_floating_point() or targets.dim() > 2 or len(targets) < 2:
        return False
    far = targets.std(0)
    try:
        with torch.no_grad():
            right, over, under = (float(loss(targets + k * far, targets)) for k in (0, 1, -1))
    except Exception:  # it needs something else than outputs like targets
        return False
    low, high = sorted((over - right, under - right))
    return 0 < ONE_SIDED_COSTS * low <= high


def scaled_accuracy(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> float | None:
    """Accuracy of classes and of targets 0 and 1, or R²: what quick learners are compared by.

    (accuracy − share of the most frequent class) / (1 − that share). One output for 0 and 1 is cut
    at 0 or at 0.5, whichever is right more often. None where it is not clear.

    >>> outputs = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    >>> scaled_accuracy(outputs, torch.tensor([0, 1, 0]))
    1.0
    """
    if not isinstance(outputs, Tensor) or not bool(torch.isfinite(outputs).all()):
        return None
    targets = _class_targets(outputs, targets)
    if are_classes(outputs, targets):
        known = targets != IGNORED_TARGET
        if not bool(known.any()):
            return None
        right = classes_second(outputs, targets, loss).argmax(1) == targets
        accuracy = float(right[known].float().mean())
        counts = torch.unique(targets[known], return_counts=True)[1]
        base = float(counts.max()) / int(known.sum())
    elif outputs.numel() == targets.numel() and bool(((targets == 0) | (targets == 1)).all()):
        out, y = outputs.reshape(targets.shape), targets > 0.5
        accuracy = max(float(((out > cut) == y).float().mean()) for cut in (0.0, 0.5))
        share = y.reshape(len(y), -1).float().mean(0)
        base = float(torch.maximum(share, 1 - share).mean())
    elif outputs.numel() == targets.numel():
        return scaled_score(outputs, targets, loss)
    else:
        return None
    return (accuracy - base) / (1 - base) if base < 1 else None


def are_classes(outputs: Tensor, targets: Tensor) -> bool:
    """Whether targets are class numbers, of outputs [N, ..., K] or [N, K, ...] for each class."""
    if targets.is_floating_point() or outputs.numel() <= targets.numel():
        return False
    return targets.shape in (outputs.shape[:-1], outputs.shape[:1] + outputs.shape[2:])


def classes_second(outputs: Tensor, targets: Tensor, loss: Loss | None = None) -> Tensor:
    """Outputs with the classes in dimension 1, where torch's cross entropy expects them."""
    return outputs.movedim(find_class_axis(outputs, targets, loss), 1)


def _class_targets(outputs: Tensor, targets: Tensor) -> Tensor:
    """The likeliest class of each example, of targets that are a probability for each class
    ([N, K], rows that sum to 1: one-hot, smoothed or mixed); other targets as they are.
    """
    if targets.dim() != 2 or targets.shape[1] < 2 or outputs.shape != targets.shape:
        return targets
    shares = targets.double()
    one_each = (shares >= 0).all() and ((shares.sum(1) - 1).abs() < 1e-4).all()
    return targets.argmax(1) if bool(one_each) else targets

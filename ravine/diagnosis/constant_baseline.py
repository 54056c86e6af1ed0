"""The loss of the best constant answer, which a model that has learned anything stays below."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ravine.diagnosis.op_names import node_name
from ravine.diagnosis.output_kinds import MIN_CLASS_FRACTION, OUTPUT_KINDS, Loss, find_target_kind

MEAN_REDUCTION, SUM_REDUCTION = 1, 2  # how torch numbers these in a node of its graph
SEARCH_ITERATIONS = 40
WEIGHT_NAMES = ("weight", "pos_weight")
REFUSED_LOSS = 1e30  # stands for numbers that the loss refuses


@dataclass(frozen=True)
class ConstantAnswer:
    """An output that is the same for all examples, and its loss."""

    loss: float
    output: Tensor


def find_best_constant(
    loss: Loss, outputs: Tensor, targets: Tensor, *, output_kind: str = "", class_axis: int = -1
) -> ConstantAnswer | None:
    """The best output that is the same for all examples (of tokens: and for all places), as the
    kind of number that the outputs [N, ...] are.

    The best of the closed forms of the usual losses is improved by L-BFGS. None if the loss has no
    gradient, refuses all constants, or falls without end.

    >>> x, y = torch.zeros(4, 1), torch.tensor([[1.0], [2.0], [3.0], [6.0]])
    >>> best = find_best_constant(torch.nn.functional.mse_loss, x, y)
    >>> best.loss, best.output
    (3.5, tensor([3.]))
    """
    target_kind = find_target_kind(outputs, targets, class_axis)
    shape = [1, *outputs.shape[1:]]
    if target_kind == "tokens":
        shape = [1] * outputs.dim()
        shape[class_axis] = outputs.shape[class_axis]
    to_output, _ = OUTPUT_KINDS[output_kind]
    best_loss = math.inf
    best: Tensor | None = None

    def evaluate(free: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best_loss, best
        leaf = torch.tensor(free).reshape(shape).to(outputs).requires_grad_()
        try:
            value = loss(to_output(leaf, class_axis).expand(outputs.shape), targets).sum()
            (gradient,) = torch.autograd.grad(value, leaf)
        except Exception:
            return REFUSED_LOSS, np.zeros_like(free)
        level = float(value.detach())
        if not math.isfinite(level):
            return REFUSED_LOSS, np.zeros_like(free)
        if level < best_loss:
            best_loss = level
            best = leaf.detach()
        return level, gradient.double().cpu().numpy().ravel()

    kinds = {"target_kind": target_kind, "output_kind": output_kind}
    forms = _closed_forms(outputs, targets, class_axis=class_axis, **kinds)
    starts = [form.double().cpu().expand(shape).numpy().ravel() for form in forms]
    start = min(starts, key=lambda free: evaluate(free)[0])
    options = {"maxiter": SEARCH_ITERATIONS}
    minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options)
    limit = 1e3 * (1 + float(targets.double().abs().max()))
    if best is None or float(best.abs().max()) > limit:
        return None
    return ConstantAnswer(best_loss, to_output(best, class_axis).squeeze(0))


def _closed_forms(
    outputs: Tensor, targets: Tensor, *, target_kind: str, output_kind: str, class_axis: int
) -> Iterator[Tensor]:
    """Best constants of the usual losses, as any numbers."""
    yield torch.zeros([1] * outputs.dim())
    if target_kind in ("classes", "tokens"):
        counts = torch.bincount(targets[targets >= 0], minlength=outputs.shape[class_axis])
        shares = (counts / counts.sum()).clamp(min=MIN_CLASS_FRACTION)
        axis = class_axis % outputs.dim()
        yield shares.log().reshape([-1 if d == axis else 1 for d in range(outputs.dim())])
    elif targets.numel() == outputs.numel():
        numbers = targets.reshape(outputs.shape).double()
        mean = numbers.mean(0, keepdim=True)
        yield OUTPUT_KINDS[output_kind][1](mean)
        if not output_kind:
            yield numbers.median(0, keepdim=True).values
            if bool((mean > 0).all()):
                yield mean.log()
            if bool(((mean >= 0) & (mean <= 1)).all()):
                yield mean.logit(eps=MIN_CLASS_FRACTION)


class SavedTargetBaseline:
    """The best constant answer to the targets of a torch loss, read from the loss's own graph.

    Cross entropy: the entropy of the classes. Squared error: the variance of the targets, averaged
    over outputs. Binary cross entropy with logits: the mean entropy of the labels. Any other loss
    is unknown, and so are weighted losses, summed losses, and losses with arithmetic after them.

    >>> baseline = SavedTargetBaseline()
    >>> output, target = torch.zeros(4, 2, requires_grad=True), torch.tensor([0, 0, 1, 1])
    >>> baseline.add(torch.nn.functional.cross_entropy(output, target)), round(baseline.loss, 4)
    ('NllLoss', 0.6931)
    """

    def __init__(self) -> None:
        self.kind = ""
        self.count = 0
        self.sums = torch.zeros(())  # of targets or labels by output; or counts of the classes
        self.squares = torch.zeros(())

    @torch.no_grad()
    def add(self, loss: Tensor) -> str:
        """Count the targets of one batch. Returns the name of the loss, "" if it is unknown."""
        node: Any = loss.grad_fn
        kind = _supported_kind(node)
        if not kind:
            return ""
        try:
            if any(getattr(node, f"_saved_{name}", None) is not None for name in WEIGHT_NAMES):
                return ""
            target = node._saved_target.detach()
            if kind == "NllLoss":
                target = target[target != node._saved_ignore_index]
                counts = torch.bincount(target, minlength=node._saved_self.shape[1]).double()
                sums = squares = counts
            else:
                target = target.double().reshape(len(target) if target.dim() else 1, -1)
                sums, squares = target.sum(0), target.square().sum(0)
        except (AttributeError, RuntimeError):  # the graph was freed: backward came first
            return kind
        if self.kind not in ("", kind) or not target.numel():
            return ""
        if self.count and sums.shape != self.sums.shape:
            return kind
        self.kind = kind
        self.count += len(target)
        self.sums = self.sums + sums
        self.squares = self.squares + squares
        return kind

    @property
    def loss(self) -> float | None:
        """The loss of the best constant answer; None before there are targets."""
        if not self.count:
            return None
        mean = self.sums / self.count
        if self.kind == "NllLoss":
            return float(-torch.xlogy(mean, mean).sum())
        if self.kind == "MseLoss":
            return float((self.squares / self.count - mean.square()).clamp(min=0).mean())
        return float(-(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).mean())

    @property
    def standard_error(self) -> float:
        """The standard error of `loss`. A variance has sqrt(2 / n) of itself, as for normal
        targets; an entropy sqrt(var(-log p) / n), by the delta method.
        """
        if self.loss is None:
            return math.inf
        mean = self.sums / self.count
        if self.kind == "NllLoss":
            second = float((torch.xlogy(mean, mean) * mean.clamp(min=1e-30).log()).sum())
            return math.sqrt(max(second - self.loss**2, 0.0) / self.count)
        return self.loss * math.sqrt(2 / self.count)


def _supported_kind(node: Any) -> str:
    """The name of a loss node whose best constant answer is known, "" for any other node."""
    kind = node_name(node)
    known = kind in ("NllLoss", "MseLoss", "BinaryCrossEntropyWithLogits")
    if not known or node._saved_reduction != MEAN_REDUCTION:
        return ""
    is_other = kind == "NllLoss" and node_name(node.next_functions[0][0]) != "LogSoftmax"
    return "" if is_other else kind

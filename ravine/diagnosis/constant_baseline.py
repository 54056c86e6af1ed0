"""The loss of the best constant answer, which a model that has learned anything stays below."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

MEAN_REDUCTION = 1  # how torch numbers reduction="mean" in a node of its graph


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
        self.kind, self.count = "", 0
        self.sums: Tensor | None = (
            None  # of targets or labels by output; or the count of each class
        )
        self.squares: Tensor | None = None

    @torch.no_grad()
    def add(self, loss: Tensor) -> str:
        """Count the targets of one batch. Returns the name of the loss, "" if it is unknown."""
        node: Any = loss.grad_fn
        kind = _supported_kind(node)
        if not kind:
            return ""
        try:
            if kind != "MseLoss" and node._saved_weight is not None:
                return ""
            if kind == "BinaryCrossEntropyWithLogits" and node._saved_pos_weight is not None:
                return ""
            target = node._saved_target.detach()
            if kind == "NllLoss":
                target = target[target != node._saved_ignore_index]
        except (AttributeError, RuntimeError):  # the graph was freed: backward came first
            return kind
        if self.kind not in ("", kind) or not target.numel():
            return ""
        if kind == "NllLoss":
            self._add_classes(target.flatten())
        else:
            wide = target.double()
            self._add_numbers(
                kind, wide.reshape(len(target), -1) if target.dim() > 1 else wide[:, None]
            )
        return kind

    def _add_classes(self, classes: Tensor) -> None:
        known = 0 if self.sums is None else len(self.sums)
        counts = torch.bincount(classes, minlength=known).double()
        if self.sums is not None:
            counts[:known] += self.sums
        self.sums = self.squares = counts
        self.kind, self.count = "NllLoss", self.count + classes.numel()

    def _add_numbers(self, kind: str, rows: Tensor) -> None:
        sums, squares = rows.sum(0), rows.square().sum(0)
        if self.sums is not None and self.squares is not None:
            if len(self.sums) != len(sums):
                return
            sums, squares = self.sums + sums, self.squares + squares
        self.sums, self.squares = sums, squares
        self.kind, self.count = kind, self.count + len(rows)

    @property
    def loss(self) -> float | None:
        """The loss of the best constant answer; None before there are targets."""
        if self.sums is None or self.squares is None:
            return None
        mean = self.sums / self.count
        if self.kind == "NllLoss":
            return float(-torch.xlogy(mean, mean).sum())
        if self.kind == "MseLoss":
            return float((self.squares / self.count - mean.square()).clamp(min=0).mean())
        return float(-(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).mean())

    @property
    def standard_error(self) -> float:
        """The standard error of `loss`.

        A variance has sqrt(2 / n) of itself, as for normal targets; an entropy sqrt(var(-log p) /
        n), by the delta method.
        """
        if self.sums is None or self.squares is None or self.loss is None:
            return math.inf
        mean = self.sums / self.count
        if self.kind == "NllLoss":
            second = float((torch.xlogy(mean, mean) * mean.clamp(min=1e-30).log()).sum())
            return math.sqrt(max(second - self.loss**2, 0.0) / self.count)
        return self.loss * math.sqrt(2 / self.count)


def _supported_kind(node: Any) -> str:
    """The name of a loss node whose best constant answer is known, "" for any other node."""
    if node is None:
        return ""
    name = node.name().partition("Backward")[0]
    kind = "NllLoss" if name == "NllLoss2D" else name
    if kind not in ("NllLoss", "MseLoss", "BinaryCrossEntropyWithLogits"):
        return ""
    if node._saved_reduction != MEAN_REDUCTION:
        return ""
    inputs = node.next_functions[0][0]
    if kind == "NllLoss" and (inputs is None or not inputs.name().startswith("LogSoftmax")):
        return ""
    return kind

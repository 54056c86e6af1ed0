"""Muon: momentum with orthogonalized matrices.

Letters: P networks, W weights of one, A × B the shape of a matrix.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ravine.layout import Rows
from ravine.optimizers.adaptive import AdamSettings, adam_step, update_moments
from ravine.optimizers.weight_decay import DecoupledDecay
from ravine.part import Number, match, part, setting
from ravine.protocols import State, StepContext, UpdateResult

# Jordan 2024: the slope at 0 is large, singular values end in 0.7 to 1.2
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


@part
class Muon(AdamSettings, DecoupledDecay):
    """Momentum, matrices replaced by nearest orthogonal ones (Jordan et al. 2024); else AdamW.

        b ← μ b + (1 − μ) g  u = μ b + (1 − μ) g  W ← W − α λ W − α · 0.2 √max(A, B) · orthogonal(u)

    The factor 0.2 √max(A, B) gives steps the size of AdamW's, so that one rate serves both (Liu et
    al. 2025). A matrix is a slot of the role "weight" with two dimensions. Orthogonal by `steps`
    Newton–Schulz steps, all networks at once, in the weights' precision (torch: in bfloat16).
    """

    remembers: ClassVar[tuple[str, ...]] = ("velocity", "mean", "square")
    momentum: Number = setting(default=0.95, ge=0, lt=1)
    weight_decay: Number = setting(default=0.1, ge=0)
    eps: Number = setting(default=1e-8, gt=0)
    steps: int = setting(default=5, ge=1, le=20)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        rows = self.shrink(rows, context.rate(self.lr * self.weight_decay, rows), context)
        new = update_moments(grads, state, self.beta1, self.beta2)
        momentum, rest = match(self.momentum, rows), match(1 - self.momentum, rows)
        new["velocity"] = momentum * state["velocity"] + rest * grads
        ahead = momentum * new["velocity"] + rest * grads
        step = adam_step(new, self, rows, context)
        rate = context.rate(self.lr, rows)
        by_weight = isinstance(rate, Tensor) and rate.shape[1] > 1
        for slot in context.layout.slots:
            if slot.role == "weight" and len(slot.shape) == 2 and min(slot.shape) > 1:
                span = slice(*context.layout.spans[slot.name])
                matrices = ahead[:, span].unflatten(1, slot.shape)
                made = orthogonalize(matrices, steps=self.steps).flatten(1)
                own = rate[:, span] if by_weight else rate
                step[:, span] = own * (0.2 * max(slot.shape) ** 0.5 * made)
        return rows - step, new


def orthogonalize(matrices: Tensor, *, steps: int) -> Tensor:
    """About U Vᵀ for each matrix U S Vᵀ, [P, A, B]: a step maps s in S to a s + b s³ + c s⁵.

    A zero matrix stays zero.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    wide = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if wide else matrices
    x = x / torch.linalg.vector_norm(x.flatten(1), dim=1).view(-1, 1, 1).clamp_min(1e-7)
    for _ in range(steps):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.transpose(1, 2) if wide else x

"""The edge of stability: the curvature up to which each rule converges on a full-batch quadratic.

Letters: P networks, W weights, α learning rate, μ momentum, λ weight decay.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from ravine.layout import Column, Row, Rows
from ravine.optimizers.adaptive import Adam, AdamW, RMSprop
from ravine.optimizers.coefficients import bias_correction, per_network
from ravine.optimizers.sgd import SGD, Momentum, Nesterov
from ravine.part import Number, match
from ravine.protocols import Optimizer, State, StepContext

ADAPTIVE_RULES = (RMSprop, Adam, AdamW)
KNOWN_RULES = (SGD, Momentum, Nesterov, *ADAPTIVE_RULES)


class StabilityEdge(NamedTuple):
    """Steps grow where `matrix` has an eigenvalue above `threshold` [P, 1] (inf at a rate of 0).

    matrix = S (H + λ D) S, or S H S + λ D where the decay is decoupled. S is diagonal: `root` [P,
    W] or [1, W] or None for 1; D is 1 where decay acts (`decay_mask`).
    """

    threshold: Column
    root: Rows | None
    coupled: Column
    decoupled: Column
    decay_mask: Row

    def product(self, hessian: Callable[[Rows], Rows]) -> Callable[[Rows], Rows]:
        """The matrix's products with vectors, from those of H."""

        def of(vectors: Rows) -> Rows:
            mask = self.decay_mask.to(vectors)
            scaled = vectors if self.root is None else self.root * vectors
            found = hessian(scaled) + self.coupled.to(vectors) * (mask * scaled)
            found = found if self.root is None else self.root * found
            return found + self.decoupled.to(vectors) * (mask * vectors)

        return of


def stability_edge(
    optimizer: Optimizer, rows: Rows, context: StepContext, state: State | None = None
) -> StabilityEdge | None:
    """The edge of stability of a rule at its present rate, or None where it is not known.

        SGD                     λ_max(H) = 2 / α
        Momentum                (2 + 2 μ) / ((1 − dampening) α)
        Nesterov                (2 + 2 μ) / ((1 + 2 μ) α)
        RMSprop                 (2 + 2 μ) / α                  of P⁻¹ H, P = √v + ε
        Adam, AdamW         (2 + 2 β₁) / ((1 − β₁) α)      of P⁻¹ H, P = √v̂ + ε; 38 / α at β₁ = 0.9

    (Cohen et al. 2021 and 2022.) P⁻¹ H has the eigenvalues of P^−½ H P^−½. Coupled weight decay
    adds λ to H. Adaptive rules need their `state`; without it, with amsgrad or centered, and for
    all other rules, None. `context.lr_multipliers` count as part of P⁻¹.
    """
    zero = torch.zeros(rows.shape[0], 1, dtype=torch.float64)
    found = _rate(optimizer)
    stateless = isinstance(optimizer, ADAPTIVE_RULES) and state is None
    if found is None or not isinstance(optimizer, KNOWN_RULES) or stateless:
        return None

    def ratio(most: float, rate: float) -> float:
        return most / rate if rate > 0 else math.inf

    threshold = zero + per_network(ratio, found, optimizer.lr * context.factor)
    root = None if context.lr_multipliers is None else context.lr_multipliers.to(rows).sqrt()
    if state is not None and isinstance(optimizer, ADAPTIVE_RULES):
        scale = _scale(optimizer, rows, state, context.step)
        root = scale.rsqrt() if root is None else root * scale.rsqrt()
    decay = zero + optimizer.weight_decay
    if not isinstance(optimizer, AdamW):
        return StabilityEdge(threshold, root, decay, zero, context.decay_mask)
    # what AdamW takes off is α λ w ("torch"), or λ w whatever α is ("fixed")
    decay = decay if optimizer.decay == "torch" else decay / (zero + optimizer.lr)
    return StabilityEdge(threshold, root, zero, decay, context.decay_mask)


def _rate(optimizer: Optimizer) -> Number | None:
    """α times the threshold."""
    if isinstance(optimizer, SGD):
        return 2.0
    if isinstance(optimizer, Momentum):

        def ratio(momentum: float, dampening: float) -> float:
            return (2 + 2 * momentum) / (1 - dampening) if dampening < 1 else math.inf

        return per_network(ratio, optimizer.momentum, optimizer.dampening)
    if isinstance(optimizer, Nesterov):
        return per_network(lambda m: (2 + 2 * m) / (1 + 2 * m), optimizer.momentum)
    if isinstance(optimizer, RMSprop) and not optimizer.centered:
        return per_network(lambda m: 2 + 2 * m, optimizer.momentum)
    if isinstance(optimizer, AdamW) or (isinstance(optimizer, Adam) and not optimizer.amsgrad):
        return per_network(lambda b: (2 + 2 * b) / (1 - b), optimizer.beta1)
    return None


def _scale(optimizer: RMSprop | Adam | AdamW, rows: Rows, state: State, step: int) -> Rows:
    """The divisor of the gradients, P."""
    square = state["square"]
    at = getattr(optimizer, "eps_at", "outside")
    seen = 1.0
    eps = optimizer.eps
    if not isinstance(optimizer, RMSprop) and getattr(optimizer, "bias_correction", True):
        seen = bias_correction(optimizer.beta2, step)
        if at == "hat":
            eps = per_network(lambda e, s: e / math.sqrt(s), eps, seen)
    if at == "inside":
        inverse = match(per_network(lambda s: 1 / s, seen), rows)
        return (square * inverse + match(eps, rows)).sqrt()
    inverse = match(per_network(lambda s: 1 / math.sqrt(s), seen), rows)
    return square.sqrt() * inverse + match(eps, rows)

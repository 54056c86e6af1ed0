"""Schedule-free optimization: an average of iterates replaces the schedule (Defazio et al. 2024).

Three points: z takes the steps, x is the average that is evaluated and kept (`eval_weights`), and
the matrix of weights holds y between them, where gradients are computed:

    z ← z − γ (g(y) + λ y)      x ← (1 − c) x + c z,  c = γₜ² / Σ γ²      y ← (1 − β) z + β x

Use a constant schedule (a warm-up is fine). Batch norms' running statistics belong to y, not to x.
"""

import math
from typing import ClassVar

import torch

from ravine.layout import Rows
from ravine.optimizers.coefficients import bias_correction, per_network
from ravine.optimizers.weight_decay import DecoupledDecay
from ravine.part import Number, match, part, setting
from ravine.protocols import State, StepContext, UpdateResult


class _ScheduleFree(DecoupledDecay):
    """What both rules do with their three points."""

    def start(self, rows: Rows) -> State:
        weight = torch.zeros(rows.shape[0], 1, dtype=torch.float64, device=rows.device)
        points = {"fast": rows.clone(), "average": rows.clone()}
        return super().start(rows) | points | {"weight": weight}

    def eval_weights(self, rows: Rows, state: State) -> Rows:
        """The average x."""
        return state["average"]


@part
class ScheduleFreeSGD(_ScheduleFree):
    """Schedule-free gradient descent; usual rates are 10 to 50 times those of SGD with momentum."""

    lr: Number = setting(default=1.0, ge=0)
    beta: Number = setting(default=0.9, ge=0, le=1)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        step = context.rate(self.lr, rows) * grads
        kept = self.shrink(rows, context.rate(self.lr * self.weight_decay, rows), context)
        fast = state["fast"] - step - (rows - kept)
        return _walk(fast, state, self.lr * context.factor, self.beta)


@part
class ScheduleFreeAdamW(_ScheduleFree):
    """Schedule-free AdamW: z's step is g / (√v̂ + ε); usual rates are 1 to 10 times AdamW's."""

    remembers: ClassVar[tuple[str, ...]] = ("square",)
    lr: Number = setting(default=0.0025, ge=0)
    beta1: Number = setting(default=0.9, ge=0, le=1)
    beta2: Number = setting(default=0.999, ge=0, lt=1)
    eps: Number = setting(default=1e-8, gt=0)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        beta2, rest = match(self.beta2, rows), match(1 - self.beta2, rows)
        square = beta2 * state["square"] + rest * (grads * grads)
        root2 = per_network(math.sqrt, bias_correction(self.beta2, context.step))
        divided = grads / (square.sqrt() + match(self.eps * root2, rows))
        step = context.rate(self.lr * root2, rows) * divided
        kept = self.shrink(rows, context.rate(self.lr * self.weight_decay, rows), context)
        fast = state["fast"] - step - (rows - kept)
        rows, new = _walk(fast, state, self.lr * context.factor, self.beta1)
        return rows, {**new, "square": square}


def _walk(fast: Rows, state: State, rate: Number, beta: Number) -> UpdateResult:
    """The point y and the new state after a step of z."""
    own = match(rate * rate, state["weight"])
    weight = state["weight"] + own
    share = match(torch.where(weight > 0, own * weight.reciprocal(), 0.0), fast)
    average = state["average"] + share * (fast - state["average"])
    rows = match(1 - beta, fast) * fast + match(beta, fast) * average
    return rows, {"fast": fast, "average": average, "weight": weight}

"""Optimizers with a rate for each weight: Adagrad, Adadelta, RMSprop, Adam and its relatives, Lion.

Letters: g gradient, w weights, m and v averages of g and g², α learning rate of the step, β decay
rate of an average, ε added to a root, λ weight decay, t the step from 1. torch, other libraries and
papers place ε differently; `eps_at` says where it is. It matters only for gradients about as small
as ε ("outside") or √ε ("inside").
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ravine.effects import Effect
from ravine.layout import Rows
from ravine.optimizers.coefficients import bias_correction, divide, per_network, sign_or_nan
from ravine.optimizers.weight_decay import CoupledDecay, DecoupledDecay
from ravine.part import Number, match, part, setting
from ravine.protocols import State, StepContext, UpdateResult


@part
class Adagrad(CoupledDecay):
    """Rates that fall with the squares gathered so far (Duchi, Hazan & Singer 2011).

        s ← s + g²     w ← w − α / (1 + (t − 1) lr_decay) · g / (√s + ε)      "inside": g / √(s + ε)

    The steps shrink for ever, like 1/√t at constant gradients. Keras and optax start s at 0.1.
    """

    only_at_start: ClassVar[tuple[str, ...]] = ("initial",)
    lr: Number = setting(default=0.01, ge=0)
    eps: Number = setting(default=1e-10, ge=0)
    initial: Number = setting(default=0.0, ge=0)
    lr_decay: Number = setting(default=0.0, ge=0)
    weight_decay: Number = setting(default=0.0, ge=0)
    eps_at: Literal["outside", "inside"] = "outside"

    def start(self, rows: Rows) -> State:
        return {"sum": torch.zeros_like(rows) + match(self.initial, rows)}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        total = state["sum"] + grads * grads
        root = _root(total, self.eps, self.eps_at)
        rate = context.rate(divide(self.lr, 1 + (context.step - 1) * self.lr_decay), rows)
        return rows - rate * (grads / root), {"sum": total}


@part
class Adadelta(CoupledDecay):
    """Steps in the units of the weights, without a rate to choose (Zeiler 2012).

        v ← ρ v + (1 − ρ) g²    d = √(u + ε) / √(v + ε) · g     u ← ρ u + (1 − ρ) d²     w ← w − α d

    α is 1 in the paper and here. The first steps are about √ε long: it starts slowly.
    """

    remembers: ClassVar[tuple[str, ...]] = ("square", "step_square")
    lr: Number = setting(default=1.0, ge=0)
    rho: Number = setting(default=0.9, ge=0, lt=1)
    eps: Number = setting(default=1e-6, gt=0)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        eps = match(self.eps, rows)
        new = {"square": _blend(state["square"], grads * grads, self.rho)}
        step = (state["step_square"] + eps).sqrt() / (new["square"] + eps).sqrt() * grads
        new["step_square"] = _blend(state["step_square"], step * step, self.rho)
        return rows - context.rate(self.lr, rows) * step, new


@part
class RMSprop(CoupledDecay):
    """Gradients divided by a running root mean square (Tieleman & Hinton 2012).

        v ← β v + (1 − β) g²  d = g / (√v + ε)  ("inside": g / √(v + ε))   b ← μ b + d   w ← w − α b

    Unlike Adagrad's, the steps do not shrink for ever. Without bias correction the first one is α /
    √(1 − β) long, ten times α. `centered` subtracts the square of an average of g from v: the
    variance (Graves 2013). Where that is below the rounding error of v, the rounding error is used;
    in torch 2.13 a constant gradient makes it NaN.
    """

    lr: Number = setting(default=0.01, ge=0)
    beta: Number = setting(default=0.99, ge=0, lt=1)
    eps: Number = setting(default=1e-8, ge=0)
    momentum: Number = setting(default=0.0, ge=0, lt=1)
    weight_decay: Number = setting(default=0.0, ge=0)
    eps_at: Literal["outside", "inside"] = "outside"
    centered: bool = False

    def start(self, rows: Rows) -> State:
        names = ("square", "velocity", "mean") if self.centered else ("square", "velocity")
        return {name: torch.zeros_like(rows) for name in names}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        new = {"square": _blend(state["square"], grads * grads, self.beta)}
        spread = new["square"]
        if self.centered:
            new["mean"] = _blend(state["mean"], grads, self.beta)
            least = torch.finfo(rows.dtype).eps * spread
            spread = torch.maximum(spread - new["mean"] * new["mean"], least)
        step = grads / _root(spread, self.eps, self.eps_at)
        new["velocity"] = match(self.momentum, rows) * state["velocity"] + step
        return rows - context.rate(self.lr, rows) * new["velocity"], new


@part
class AdamSettings:
    """The settings of Adam's step."""

    remembers: ClassVar[tuple[str, ...]] = ("mean", "square")
    lr: Number = setting(default=0.001, ge=0)
    beta1: Number = setting(default=0.9, ge=0, lt=1)
    beta2: Number = setting(default=0.999, ge=0, lt=1)
    eps: Number = setting(default=1e-8, ge=0)


@part
class Adam(AdamSettings, CoupledDecay):
    """Momentum over root mean square, both corrected for having started at 0 (Kingma & Ba 2015).

        m ← β₁ m + (1 − β₁) g    v ← β₂ v + (1 − β₂) g²    m̂ = m / (1 − β₁ᵗ)     v̂ = v / (1 − β₂ᵗ)

        outside     w ← w − α m̂ / (√v̂ + ε)         algorithm 1 of the paper, torch
        inside      w ← w − α m̂ / √(v̂ + ε)         the textbook's
        hat   w ← w − α √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)    end of the paper's section 2, Keras

    Without `bias_correction` m̂ = m and v̂ = v: the first step is (1 − β₁) / √(1 − β₂) = 3.2 times
    too large. `amsgrad` divides by the largest v so far (Reddi, Kale & Kumar 2018), taken before
    the correction, as in torch.
    """

    weight_decay: Number = setting(default=0.0, ge=0)
    eps_at: Literal["outside", "inside", "hat"] = "outside"
    bias_correction: bool = True
    amsgrad: bool = False

    def start(self, rows: Rows) -> State:
        largest = {"largest": torch.zeros_like(rows)} if self.amsgrad else {}
        return super().start(rows) | largest

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        new = update_moments(grads, state, self.beta1, self.beta2)
        square = new["square"]
        if self.amsgrad:
            square = new["largest"] = torch.maximum(state["largest"], square)
        seen1 = bias_correction(self.beta1, context.step) if self.bias_correction else 1.0
        seen2 = bias_correction(self.beta2, context.step) if self.bias_correction else 1.0
        root2 = per_network(math.sqrt, seen2)
        if self.eps_at == "inside":
            root = (square + match(self.eps * seen2, rows)).sqrt()
        else:
            eps = self.eps if self.eps_at == "hat" else self.eps * root2
            root = square.sqrt() + match(eps, rows)
        return rows - context.rate(divide(self.lr * root2, seen1), rows) * (new["mean"] / root), new


@part
class AdamW(AdamSettings, DecoupledDecay):
    """Adam with weight decay outside the gradient (Loshchilov & Hutter 2019).

        torch     w ← w − α λ w           shrinks with the learning rate and its schedule
        fixed     w ← w − factor λ w      with the schedule alone, as in the paper: α and λ can be
                                          tuned apart

    and then Adam's step with ε outside. With weight decay 0 it is Adam.
    """

    acts: ClassVar[Effect] = DecoupledDecay.decay_effect
    weight_decay: Number = setting(default=0.01, ge=0)
    decay: Literal["torch", "fixed"] = "torch"

    def share(self, factor: Tensor | float) -> Number:
        """The share of themselves that weights lose in a step, without their own rate factors."""
        return self.weight_decay * factor * (self.lr if self.decay == "torch" else 1.0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        share = match(self.share(context.factor), rows)
        if context.lr_multipliers is not None and self.decay == "torch":
            share = share * context.lr_multipliers
        rows = self.shrink(rows, share, context)
        new = update_moments(grads, state, self.beta1, self.beta2)
        return rows - adam_step(new, self, rows, context), new


@part
class NAdam(AdamSettings, CoupledDecay):
    """Adam with Nesterov's momentum (Dozat 2016; the schedule of β₁ as in torch).

    μₜ = β₁ (1 − ½ · 0.96^(t · momentum_decay))      Πₜ = μ₁ ⋯ μₜ
    w ← w − α [(1 − μₜ) / (1 − Πₜ) · g + μₜ₊₁ / (1 − Πₜ₊₁) · m] / (√v̂ + ε)
    """

    lr: Number = setting(default=0.002, ge=0)
    momentum_decay: Number = setting(default=4e-3, ge=0)
    weight_decay: Number = setting(default=0.0, ge=0)

    def start(self, rows: Rows) -> State:
        product = torch.ones(rows.shape[0], 1, dtype=torch.float64, device=rows.device)
        return super().start(rows) | {"product": product}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        def momentum(step: int) -> Tensor:
            shrink = per_network(lambda d: 1 - 0.5 * 0.96 ** (step * d), self.momentum_decay)
            return match(self.beta1 * shrink, state["product"])

        grads = self.add_decay(rows, grads, context)
        new = update_moments(grads, state, self.beta1, self.beta2)
        here, ahead = momentum(context.step), momentum(context.step + 1)
        new["product"] = product = state["product"] * here
        root2 = per_network(math.sqrt, bias_correction(self.beta2, context.step))
        root = new["square"].sqrt() + match(self.eps * root2, rows)
        mixed = match((1 - here) / (1 - product), rows) * grads
        mixed = mixed + match(ahead / (1 - product * ahead), rows) * new["mean"]
        return rows - context.rate(self.lr * root2, rows) * (mixed / root), new


@part
class RAdam(AdamSettings, CoupledDecay):
    """Adam that divides by the root only once its variance is known well enough (Liu et al. 2020).

    With ρ∞ = 2 / (1 − β₂) − 1 and ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ):

        ρ > 5    w ← w − α m̂ · r √(1 − β₂ᵗ) / (√v + ε)
                 r² = (ρ − 4)(ρ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ)
        else     w ← w − α m̂
    """

    eps: Number = setting(default=1e-8, gt=0)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        def rectifier(beta2: float) -> float:
            """r √(1 − β₂ᵗ), or 0 while ρ ≤ 5."""
            limit = 2 / (1 - beta2) - 1
            rho = limit - 2 * context.step * beta2**context.step / (1 - beta2**context.step)
            if rho <= 5:
                return 0.0
            r2 = (rho - 4) * (rho - 2) * limit / ((limit - 4) * (limit - 2) * rho)
            return math.sqrt(r2 * (1 - beta2**context.step))

        grads = self.add_decay(rows, grads, context)
        new = update_moments(grads, state, self.beta1, self.beta2)
        divided = per_network(rectifier, self.beta2)
        plain = per_network(lambda r: float(r == 0), divided)  # 1 where nothing is divided yet
        inverse = (new["square"].sqrt() + match(self.eps, rows)).reciprocal()
        scale = match(divided, rows) * inverse + match(plain, rows)
        rate = context.rate(divide(self.lr, bias_correction(self.beta1, context.step)), rows)
        return rows - rate * (new["mean"] * scale), new


@part
class Adamax(AdamSettings, CoupledDecay):
    """Adam with a decaying maximum of |g| in place of the root (Kingma & Ba 2015, section 7).

    u ← max(β₂ u, |g| + ε)      w ← w − α m̂ / u
    """

    remembers: ClassVar[tuple[str, ...]] = ("mean", "largest")
    lr: Number = setting(default=0.002, ge=0)
    eps: Number = setting(default=1e-8, gt=0)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        mean = _blend(state["mean"], grads, self.beta1)
        size = grads.abs() + match(self.eps, rows)
        largest = torch.maximum(match(self.beta2, rows) * state["largest"], size)
        rate = context.rate(divide(self.lr, bias_correction(self.beta1, context.step)), rows)
        return rows - rate * (mean / largest), {"mean": mean, "largest": largest}


@part
class Lion(DecoupledDecay):
    """Steps of one size along the sign of a blend of gradient and momentum (Chen et al. 2023).

        w ← w − α sign(β₁ m + (1 − β₁) g) − α λ w      m ← β₂ m + (1 − β₂) g

    Usual rates are 3 to 10 times smaller than AdamW's, weight decay as much larger.
    """

    remembers: ClassVar[tuple[str, ...]] = ("mean",)
    lr: Number = setting(default=1e-4, ge=0)
    beta1: Number = setting(default=0.9, ge=0, lt=1)
    beta2: Number = setting(default=0.99, ge=0, lt=1)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        step = context.rate(self.lr, rows) * sign_or_nan(_blend(state["mean"], grads, self.beta1))
        rows = self.shrink(rows, context.rate(self.lr * self.weight_decay, rows), context)
        return rows - step, {"mean": _blend(state["mean"], grads, self.beta2)}


def update_moments(grads: Rows, state: State, beta1: Number, beta2: Number) -> State:
    """The averages of g and of g² after one more gradient."""
    return {
        "mean": _blend(state["mean"], grads, beta1),
        "square": _blend(state["square"], grads * grads, beta2),
    }


def adam_step(new: State, rule: AdamSettings, rows: Rows, context: StepContext) -> Rows:
    """Adam's step α m̂ / (√v̂ + ε), as α √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε √(1 − β₂ᵗ))."""
    root2 = per_network(math.sqrt, bias_correction(rule.beta2, context.step))
    rate = context.rate(divide(rule.lr * root2, bias_correction(rule.beta1, context.step)), rows)
    return rate * (new["mean"] / (new["square"].sqrt() + match(rule.eps * root2, rows)))


def _blend(average: Rows, new: Rows, beta: Number) -> Rows:
    return match(beta, new) * average + match(1 - beta, new) * new


def _root(square: Rows, eps: Number, eps_at: str) -> Rows:
    eps = match(eps, square)
    return (square + eps).sqrt() if eps_at == "inside" else square.sqrt() + eps

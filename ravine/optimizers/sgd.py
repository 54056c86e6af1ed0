"""Gradient descent and its nearest relatives: momentum, Nesterov's, averaged descent, Rprop.

Letters: g gradient, w weights, v velocity, μ momentum, α rate of the step, λ decay, t step from 1.
"""

from typing import ClassVar, Literal

import torch

from ravine.layout import Rows
from ravine.optimizers.coefficients import per_network, sign_or_nan
from ravine.optimizers.weight_decay import CoupledDecay
from ravine.part import Number, match, part, setting
from ravine.protocols import State, StepContext, UpdateResult


@part
class SGD(CoupledDecay):
    """Gradient descent: w ← w − α g (Robbins & Monro 1951 where g is that of a minibatch).

    >>> context = StepContext(step=1, factor=1.0, decay_mask=torch.ones(1, 2), layout=None)
    >>> SGD(lr=0.5).update(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), {}, context)[0]
    tensor([[0.5000, 1.5000]])
    """

    lr: Number = setting(default=0.01, ge=0)
    weight_decay: Number = setting(default=0.0, ge=0)

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        return rows - context.rate(self.lr, rows) * grads, state


@part
class Momentum(CoupledDecay):
    """Gradient descent with a velocity (Polyak 1964).

    `form` is the place of the learning rate. Both forms are equal while α is constant; after α
    falls, the velocity "inside" still contains the larger steps of before.

        outside    v ← μ v + g       w ← w − α v       torch
        inside    v ← μ v + α g    w ← w − v     the textbook's, Keras, scikit-learn (their v is −v)

    With `dampening` d the gradient counts 1 − d, except in the first step, as in torch.
    """

    remembers: ClassVar[tuple[str, ...]] = ("velocity",)
    lr: Number = setting(default=0.01, ge=0)
    momentum: Number = setting(default=0.9, ge=0, lt=1)
    dampening: Number = setting(default=0.0, ge=0, le=1)
    weight_decay: Number = setting(default=0.0, ge=0)
    form: Literal["outside", "inside"] = "outside"

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        rate = context.rate(self.lr, rows)
        if context.step > 1:
            grads = match(1 - self.dampening, rows) * grads
        if self.form == "inside":
            velocity = match(self.momentum, rows) * state["velocity"] + rate * grads
            return rows - velocity, {"velocity": velocity}
        velocity = match(self.momentum, rows) * state["velocity"] + grads
        return rows - rate * velocity, {"velocity": velocity}


@part
class Nesterov(CoupledDecay):
    """Momentum with the gradient at a point ahead (Nesterov 1983; Sutskever et al. 2013).

    By definition the gradient is computed at a point ahead of the weights θ:

        v ← μ v − α ∇L(θ + μ v)       θ ← θ + v

    The matrix of weights holds the point ahead, y = θ + μ v, because gradients are computed there.
    Written in y the rule is, with v₊ the new velocity, y ← y − μ v + (1 + μ) v₊ = y + μ v₊ − α g:

        lookahead   this rule; θ = y − μ v is evaluated and kept (`eval_weights`)
        inside      this rule; y itself is evaluated (Keras, scikit-learn): the change of variables
        torch       v ← μ v + g, y ← y − α (g + μ v): the rate outside; the same path at constant α
    """

    remembers: ClassVar[tuple[str, ...]] = ("velocity",)
    lr: Number = setting(default=0.01, ge=0)
    momentum: Number = setting(default=0.9, ge=0, lt=1)
    weight_decay: Number = setting(default=0.0, ge=0)
    form: Literal["torch", "inside", "lookahead"] = "torch"

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        grads = self.add_decay(rows, grads, context)
        rate = context.rate(self.lr, rows)
        momentum = match(self.momentum, rows)
        if self.form == "torch":
            velocity = momentum * state["velocity"] + grads
            return rows - rate * (momentum * velocity + grads), {"velocity": velocity}
        step = rate * grads
        velocity = momentum * state["velocity"] - step
        return rows + (momentum * velocity - step), {"velocity": velocity}

    def eval_weights(self, rows: Rows, state: State) -> Rows:
        """θ in the form "lookahead", else the rows as they are."""
        if self.form != "lookahead":
            return rows
        return rows - match(self.momentum, rows) * state["velocity"]


@part
class ASGD:
    """Gradient descent with averaged iterates (Polyak & Juditsky 1992; Bottou's rates, as torch).

        η = α / (1 + λ α (t − 1))^power  w ← (1 − λ η) w − η g  a ← a + (w − a) / max(1, t − 1 − t0)

    The average a is evaluated and kept (`eval_weights`). It starts after `t0` steps; torch waits a
    million.
    """

    lr: Number = setting(default=0.01, ge=0)
    lambd: Number = setting(default=1e-4, ge=0)
    power: Number = setting(default=0.75, ge=0, le=10)
    t0: Number = setting(default=0.0, ge=0)

    def start(self, rows: Rows) -> State:
        return {"average": rows.clone()}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        def eta(lr: float, lambd: float, power: float) -> float:
            return lr / (1 + lambd * lr * (context.step - 1)) ** power

        slowed = per_network(eta, self.lr * context.factor, self.lambd, self.power)
        rate = context._replace(factor=1.0).rate(slowed, rows)
        share = match(per_network(lambda t0: 1 / max(1, context.step - 1 - t0), self.t0), rows)
        new = rows - rate * (match(self.lambd, rows) * (context.decay_mask * rows) + grads)
        return new, {"average": state["average"] + share * (new - state["average"])}

    def eval_weights(self, rows: Rows, state: State) -> Rows:
        """The average of the iterates."""
        return state["average"]


@part
class Rprop:
    """Steps by the signs of gradients alone (Riedmiller & Braun 1993; as iRprop⁻, as in torch).

    Each weight has its own step size, `lr` at first. It grows by `growth` while the gradient keeps
    its sign and shrinks by `shrink` when the sign changes; then the weight stays for one step. For
    full batches only: the noise of minibatches changes signs. Schedules multiply the steps, not the
    stored sizes.
    """

    only_at_start: ClassVar[tuple[str, ...]] = ("lr",)
    lr: Number = setting(default=0.01, ge=0)
    shrink: Number = setting(default=0.5, gt=0, lt=1)
    growth: Number = setting(default=1.2, gt=1)
    smallest: float = setting(default=1e-6, ge=0)
    largest: float = setting(default=50.0, gt=0)

    def start(self, rows: Rows) -> State:
        size = torch.zeros_like(rows) + match(self.lr, rows)
        return {"size": size, "last": torch.zeros_like(rows)}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        agree = grads * state["last"]
        shrunk = torch.where(agree < 0, match(self.shrink, rows) * state["size"], state["size"])
        size = torch.where(agree > 0, match(self.growth, rows) * state["size"], shrunk)
        size = size.clamp(self.smallest, self.largest)
        grads = torch.where(agree < 0, 0.0, grads)
        step = context.rate(1.0, rows) * (sign_or_nan(grads) * size)
        return rows - step, {"size": size, "last": grads}

"""Lookahead: slow weights around any optimizer that takes one gradient a step."""

from typing import ClassVar

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.layout import Rows, row_norm
from ravine.optimizers.sgd import Momentum
from ravine.part import Number, match, part, setting
from ravine.protocols import (
    HasEvalWeights,
    Optimizer,
    SearchOptimizer,
    State,
    StepContext,
    UpdateResult,
)


@part
class Lookahead:
    """Slow weights that follow an optimizer's fast ones (Zhang, Lucas, Hinton & Ba 2019).

    Every k steps: slow ← slow + α (fast − slow), fast ← slow. The inner optimizer keeps its state.
    """

    acts: ClassVar[Effect] = Effect(
        "lookahead", "how far the slow weights pull back, relative to the weights' length"
    )
    inner: Optimizer = Momentum()
    every: int = setting(default=5, ge=1)
    alpha: Number = setting(default=0.5, ge=0, le=1)

    def check(self) -> None:
        if isinstance(self.inner, Lookahead):
            do = "keep one of them"
            raise RecipeError("Lookahead around Lookahead", why="their weights are one", do=do)
        if isinstance(self.inner, SearchOptimizer):
            name = type(self.inner).__name__
            why = "it needs a rule that takes one gradient a step"
            raise RecipeError(f"Lookahead around {name}", why=why, do=f"use {name} by itself")

    @property
    def lr(self) -> Number:
        return self.inner.lr

    def start(self, rows: Rows) -> State:
        return {"slow": rows.clone(), **self.inner.start(rows)}

    def update(self, rows: Rows, grads: Rows, state: State, context: StepContext) -> UpdateResult:
        inner = {name: value for name, value in state.items() if name != "slow"}
        fast, new = self.inner.update(rows, grads, inner, context)
        slow = state["slow"]
        if context.step % self.every == 0:
            slow = slow + match(self.alpha, rows) * (fast - slow)
        if context.meter is not None:
            distance = row_norm(fast - slow) / row_norm(fast).clamp_min(1e-30)
            context.meter.add(self.acts.name, distance)
        return (slow if context.step % self.every == 0 else fast), {"slow": slow, **new}

    def eval_weights(self, rows: Rows, state: State) -> Rows:
        """The evaluation weights of the inner optimizer."""
        inner = self.inner
        return inner.eval_weights(rows, state) if isinstance(inner, HasEvalWeights) else rows

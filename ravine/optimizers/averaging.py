"""What stands around an optimizer: clipping before it, averages after it, and lookahead around
it.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.layout import Rows, length
from ravine.optimizers.coefficients import each
from ravine.optimizers.sgd import Momentum
from ravine.part import Number, match, part, setting
from ravine.protocols import Now, Optimizer, Plan, Searches, Settles, State

# Clipping


@part
class ClipNorm:
    """Cut each network's gradient to a length of at most `limit` (Pascanu, Mikolov & Bengio 2013,
    algorithm 1).

        g ← g · min(1, limit / |g|),  |g| over all weights of one network

    Unlike torch's `clip_grad_norm_` on a whole cohort, one network's explosion does not shrink
    another's step; and there is no 1e-6 beside |g|. A gradient that is not finite is left as it is:
    diverging is for the record to show.

    >>> now = Now(step=1, factor=1.0, decays=torch.ones(1, 2), layout=None)
    >>> ClipNorm(limit=1.0).clip(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), now)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """

    acts: ClassVar[Effect] = Effect("clip", "share of sampled steps in which the gradient was cut")
    limit: Number = setting(default=1.0, gt=0)

    def clip(self, grads: Rows, now: Now) -> Rows:
        size = length(grads)
        cut = (size > match(self.limit, grads)) & size.isfinite()
        if now.meter is not None:
            now.meter.add(self.acts.name, cut.double())
        return grads * torch.where(cut, match(self.limit, grads) * (1 / size), 1.0)


@part
class ClipValue:
    """Cut each entry of the gradient to −limit … limit. Entries that are not finite are left as
    they are.
    """

    acts: ClassVar[Effect] = Effect("clip", "share of sampled steps in which the gradient was cut")
    limit: Number = setting(default=1.0, gt=0)

    def clip(self, grads: Rows, now: Now) -> Rows:
        limit = match(self.limit, grads)
        cut = (grads.abs() > limit) & grads.isfinite()
        if now.meter is not None:
            now.meter.add(self.acts.name, cut.any(1).double())
        return torch.where(cut, grads.sign() * limit, grads)


# Averages


@part
class Ema:
    """An exponential moving average of the weights, kept and judged in place of the raw ones
    (Polyak averaging).

        a ← d a + (1 − d) w

    With `warm_up` d is at most (1 + t) / (10 + t) at step t, so that the start is forgotten.

    The first update copies the weights, as torch's `AveragedModel` does. It remembers about 1 / (1
    − d) steps.
    """

    acts: ClassVar[Effect] = Effect(
        "ema", "distance of the average from the raw weights, relative to their length"
    )
    decay: Number = setting(default=0.999, ge=0, lt=1)
    warm_up: bool = False

    def start(self, rows: Rows) -> State:
        return {"average": rows.clone()}

    def update(self, rows: Rows, state: State, now: Now, plan: Plan) -> State:
        if now.step == 1:
            return {"average": rows.clone()}  # the loop changes rows in place
        decay = self.decay
        if self.warm_up:
            decay = each(lambda d: min(d, (1 + now.step) / (10 + now.step)), decay)
        average = match(decay, rows) * state["average"] + match(1 - decay, rows) * rows
        _report(self.acts, average, rows, now)
        return {"average": average}

    def averaged(self, rows: Rows, state: State) -> Rows:
        return state["average"]


@part
class Swa:
    """Stochastic weight averaging: the plain mean of the weights at the ends of epochs, late in the
    run.

    (Izmailov et al. 2018.) Epochs count that end after the fraction `start` of the run's steps;
    until the first of them the raw weights are judged. Batch normalization's running statistics
    belong to the raw weights.
    """

    acts: ClassVar[Effect] = Effect(
        "swa", "distance of the average from the raw weights, relative to their length"
    )
    start_at: Number = setting(default=0.75, ge=0, lt=1)

    def start(self, rows: Rows) -> State:
        count = torch.zeros(rows.shape[0], 1, dtype=torch.float64, device=rows.device)
        return {"average": rows.clone(), "count": count}

    def update(self, rows: Rows, state: State, now: Now, plan: Plan) -> State:
        if now.step % plan.per_epoch == 0:
            begun = each(lambda start: float(now.step > start * plan.steps), self.start_at)
            count = state["count"] + match(begun, state["count"])
            share = match(1 / count.clamp_min(1), rows)
            moved = state["average"] + share * (rows - state["average"])
            state = {"average": torch.where(count > 1, moved, rows), "count": count}
        _report(self.acts, self.averaged(rows, state), rows, now)
        return state

    def averaged(self, rows: Rows, state: State) -> Rows:
        return torch.where(state["count"] > 0, state["average"], rows)


def _report(acts: Effect, average: Rows, rows: Rows, now: Now) -> None:
    if now.meter is not None:
        now.meter.add(acts.name, length(average - rows) / length(rows).clamp_min(1e-30))


# Lookahead


@part
class Lookahead:
    """Slow weights that follow an optimizer's fast ones every `every` steps (Zhang, Lucas, Hinton &
    Ba 2019).

    every k steps: slow ← slow + α (fast − slow), fast ← slow; the inner optimizer keeps its memory
    """

    acts: ClassVar[Effect] = Effect(
        "lookahead", "how far the slow weights pull back, relative to the weights' length"
    )
    inner: Optimizer = Momentum()
    every: int = setting(default=5, ge=1)
    alpha: Number = setting(default=0.5, ge=0, le=1)

    def check(self) -> None:
        if isinstance(self.inner, Searches):
            name = type(self.inner).__name__
            raise RecipeError(
                f"Lookahead around {name}",
                why="it needs a rule that takes one gradient a step",
                do=f"use {name} by itself",
            )

    @property
    def lr(self) -> Number:
        return self.inner.lr

    def start(self, rows: Rows) -> State:
        return {"slow": rows.clone(), **self.inner.start(rows)}

    def update(self, rows: Rows, grads: Rows, state: State, now: Now) -> tuple[Rows, State]:
        inner = {name: value for name, value in state.items() if name != "slow"}
        fast, new = self.inner.update(rows, grads, inner, now)
        slow = state["slow"]
        if now.step % self.every == 0:
            slow = slow + match(self.alpha, rows) * (fast - slow)
        if now.meter is not None:
            now.meter.add(self.acts.name, length(fast - slow) / length(fast).clamp_min(1e-30))
        return (slow if now.step % self.every == 0 else fast), {"slow": slow, **new}

    def settled(self, rows: Rows, state: State) -> Rows:
        """What the inner optimizer would have judged."""
        return self.inner.settled(rows, state) if isinstance(self.inner, Settles) else rows

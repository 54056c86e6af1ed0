"""Weight decay inside an optimizer: coupled (added to the gradient) or decoupled (taken off the
weights).

Both act only where `now.decays` is 1, and report how much they did.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ravine.effects import Effect
from ravine.layout import Rows
from ravine.part import Number, match
from ravine.protocols import Now

NAME = "weight decay"
COUPLED = Effect(NAME, "mean |decay added to the gradient| relative to the mean |gradient|")
DECOUPLED = Effect(NAME, "mean |weight taken off in a step| relative to the mean |weight|")


def off(number: Number) -> bool:
    """Whether a strength is 0 for every network."""
    return not (number != 0 if isinstance(number, float | int) else bool((number != 0).any()))


class Coupled:
    """What optimizers share whose `weight_decay` λ is part of the gradient: g ← g + λ w."""

    weight_decay: Number

    @property
    def acts(self) -> Effect | None:
        return None if off(self.weight_decay) else COUPLED

    def pulled(self, rows: Rows, grads: Rows, now: Now) -> Rows:
        """The gradient with the decay in it."""
        if off(self.weight_decay):
            return grads
        pull = match(self.weight_decay, rows) * (now.decays * rows)
        if now.meter is not None:
            now.meter.add(NAME, ratio(pull, grads))
        return grads + pull


class Decoupled:
    """What optimizers share whose `weight_decay` λ shrinks the weights beside the step: w ← w −
    share · w.
    """

    weight_decay: Number

    @property
    def acts(self) -> Effect | None:
        return None if off(self.weight_decay) else DECOUPLED

    def shrunk(self, rows: Rows, share: Any, now: Now) -> Rows:
        """The weights less a share of themselves; `share` is ready to multiply rows, as from
        `now.rate`.
        """
        if off(self.weight_decay):
            return rows
        taken = share * (now.decays * rows)
        if now.meter is not None:
            now.meter.add(NAME, ratio(taken, rows))
        return rows - taken


def ratio(part: Rows, whole: Rows) -> Tensor:
    """Mean |part| / mean |whole| of each network, [P]."""
    return part.abs().mean(1) / whole.abs().mean(1).clamp_min(1e-30)

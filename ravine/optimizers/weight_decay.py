"""Weight decay in an optimizer: coupled (in the gradient) or decoupled (taken from the weights).

Both act only where `context.decay_mask` is 1, and report how much they did.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from ravine.effects import Effect
from ravine.layout import Rows
from ravine.part import Number, is_zero, match
from ravine.protocols import State, StepContext

EFFECT_NAME = "weight decay"


class _Decay:
    """The base of optimizers with weight decay; what they remember, by name, starts at 0."""

    remembers: ClassVar[tuple[str, ...]] = ()
    decay_effect: ClassVar[Effect]
    weight_decay: Number

    @property
    def acts(self) -> Effect | None:
        return None if is_zero(self.weight_decay) else self.decay_effect

    def start(self, rows: Rows) -> State:
        return {name: torch.zeros_like(rows) for name in self.remembers}


class CoupledDecay(_Decay):
    """For optimizers whose `weight_decay` λ is part of the gradient: g ← g + λ w."""

    decay_effect: ClassVar[Effect] = Effect(
        EFFECT_NAME, "mean |decay added to the gradient| relative to the mean |gradient|"
    )

    def add_decay(self, rows: Rows, grads: Rows, context: StepContext) -> Rows:
        """The gradient with the decay added."""
        if is_zero(self.weight_decay):
            return grads
        pull = match(self.weight_decay, rows) * (context.decay_mask * rows)
        if context.meter is not None:
            context.meter.add(EFFECT_NAME, relative_size(pull, grads))
        return grads + pull


class DecoupledDecay(_Decay):
    """For optimizers whose `weight_decay` λ shrinks weights outside the step: w ← w − share · w."""

    decay_effect: ClassVar[Effect] = Effect(
        EFFECT_NAME, "mean |weight subtracted in a step| relative to the mean |weight|"
    )

    def shrink(self, rows: Rows, share: Any, context: StepContext) -> Rows:
        """The weights less a share of themselves; `share` multiplies rows, as `context.rate`."""
        if is_zero(self.weight_decay):
            return rows
        decay = share * (context.decay_mask * rows)
        if context.meter is not None:
            context.meter.add(EFFECT_NAME, relative_size(decay, rows))
        return rows - decay


def relative_size(part: Rows, whole: Rows) -> Tensor:
    """Mean |part| / mean |whole| of each network, [P]."""
    return part.abs().mean(1) / whole.abs().mean(1).clamp_min(1e-30)

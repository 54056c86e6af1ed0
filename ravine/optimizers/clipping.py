"""Clipping: gradients are cut before the update, each network's by itself."""

from typing import ClassVar

import torch

from ravine.effects import Effect
from ravine.layout import Rows, row_norm
from ravine.part import Number, match, part, setting
from ravine.protocols import StepContext


@part
class ClipNorm:
    """Cut each network's gradient to a norm of at most `limit` (Pascanu et al. 2013, algorithm 1).

        g ← g · min(1, limit / |g|),  |g| over all weights of one network

    Unlike torch's `clip_grad_norm_` on a whole cohort, an exploding gradient of one network does
    not shrink another's step; and no 1e-6 is added to |g|. A gradient that is not finite is left
    unchanged: divergence belongs in the record.

    >>> context = StepContext(step=1, factor=1.0, decay_mask=torch.ones(1, 2), layout=None)
    >>> ClipNorm(limit=1.0).clip(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), context)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """

    acts: ClassVar[Effect] = Effect("clip", "share of sampled steps in which the gradient was cut")
    limit: Number = setting(default=1.0, gt=0)

    def clip(self, grads: Rows, context: StepContext) -> Rows:
        size = row_norm(grads)
        cut = (size > match(self.limit, grads)) & size.isfinite()
        if context.meter is not None:
            context.meter.add(self.acts.name, cut.double())
        return grads * torch.where(cut, match(self.limit, grads) * (1 / size), 1.0)


@part
class ClipValue:
    """Cut each entry of the gradient to −limit … limit; entries that are not finite stay."""

    acts: ClassVar[Effect] = Effect("clip", "share of sampled steps in which the gradient was cut")
    limit: Number = setting(default=1.0, gt=0)

    def clip(self, grads: Rows, context: StepContext) -> Rows:
        limit = match(self.limit, grads)
        cut = (grads.abs() > limit) & grads.isfinite()
        if context.meter is not None:
            context.meter.add(self.acts.name, cut.any(1).double())
        return torch.where(cut, grads.sign() * limit, grads)


ALL_CLIPS = (ClipNorm, ClipValue)

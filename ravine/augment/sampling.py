"""Random draws of augmentations from each network's own stream, and the report of their effect.

Draws do not depend on a part's settings and are scaled by its strength: networks with one seed and
other strengths are paired. Letters: P networks, B examples, C channels, H × W pixels.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from ravine.protocols import Batch, ForwardContext
from ravine.rng import streams


def step_generators(context: ForwardContext, name: str) -> list[torch.Generator]:
    """Each network's stream for one kind of augmentation in this step."""
    return streams(list(context.seeds), f"augment/{name}", context.step)


def draw_uniforms(drawn_from: Sequence[torch.Generator], like: Tensor, *shape: int) -> Tensor:
    """Draws from 0 to 1 (1 excluded), float64 [P, *shape], on the device of `like`."""
    drawn = [torch.rand(shape, generator=g, dtype=torch.float64) for g in drawn_from]
    return torch.stack(drawn).to(like.device)


def draw_partners(drawn_from: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """For each example another of the same batch, as a permutation: int64 [P, B]."""
    drawn = [torch.randperm(like.shape[1], generator=g) for g in drawn_from]
    return torch.stack(drawn).to(like.device)


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """Values of examples [P, B] that broadcast against images [P, B, C, H, W], in their dtype."""
    return values.to(like.dtype)[..., None, None, None]


def with_pixels(batch: Batch, pixels: Tensor, context: ForwardContext, name: str) -> Batch:
    """The batch with other pixels; their mean |change| is reported, if there is a meter."""
    if context.meter is not None:
        context.meter.add(name, (pixels - batch.numbers).abs().double().flatten(1).mean(1))
    return dataclasses.replace(batch, numbers=pixels)


def where_changed(changed: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """`after` for the examples [P, B] that are changed; the others as before, bit for bit."""
    return torch.where(changed[..., None, None, None], after, before)

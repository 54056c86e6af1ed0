"""Images with erased parts, and images that are mixed with others of the same batch.

Targets of the mixed-in images are `Batch.mixed_targets`, their share in the loss `mixed_share`: it
is linear in targets. Letters: P networks, B examples, C channels, H rows and W columns.
"""

import dataclasses
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from ravine.augment import sampling
from ravine.effects import Effect
from ravine.part import Number, match, part, setting
from ravine.protocols import Batch, ForwardContext


@part
class Erase:
    """Erase a rectangle of some images (Zhong et al. 2020; cutout, DeVries & Taylor 2017).

    Its area is uniform between 0 and `area` of the image, the logarithm of height over width
    uniform up to `ratio` either way. It is filled with random values, or each channel's mean.
    """

    acts: ClassVar[Effect] = Effect("erase", "mean share of an image that was erased")
    probability: Number = setting(default=0.5, ge=0, le=1)
    area: Number = setting(default=0.3, ge=0, le=1)
    ratio: Number = setting(default=3.0, ge=1)
    fill: Literal["random", "mean"] = "random"

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn_from = sampling.step_generators(context, "erase")
        drawn = sampling.draw_uniforms(drawn_from, x, x.shape[1], 5)
        whether, size, shape, down, right = drawn.unbind(-1)
        size = (size * match(self.area, size)).sqrt()
        log = torch.as_tensor(self.ratio, dtype=torch.float64).log()
        shape = ((shape - 0.5) * match(log, shape)).exp()
        height, width = x.shape[-2:]
        tall = (size * shape * height).round().clamp(max=height)
        wide = (size / shape * width).round().clamp(max=width)
        top = (down * (height - tall + 1)).floor()
        left = (right * (width - wide + 1)).floor()
        inside = box_mask(x, rows=(top, top + tall), columns=(left, left + wide))
        inside = inside & (whether < match(self.probability, whether))[..., None, None]
        if context.meter is not None:
            context.meter.add("erase", inside.double().mean((1, 2, 3)))
        if self.fill == "mean":
            filled = x.mean((-2, -1), keepdim=True)
        else:
            filled = torch.stack([torch.rand(x.shape[1:], generator=g) for g in drawn_from]).to(x)
        return dataclasses.replace(batch, numbers=torch.where(inside[:, :, None], filled, x))


@part
class Mixup:
    """Mix each image with another of its batch: (1 − m) x + m x', and losses (Zhang et al. 2018).

    m is drawn from Beta(α, α) for each example; α = 0 mixes nothing.
    """

    acts: ClassVar[Effect] = Effect("mixup", "mean share of the other image")
    alpha: Number = setting(default=0.2, ge=0)

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn_from = sampling.step_generators(context, "mixup")
        share = beta_quantile(self.alpha, sampling.draw_uniforms(drawn_from, x, x.shape[1]))
        other = sampling.draw_partners(drawn_from, x)
        networks = torch.arange(x.shape[0], device=x.device)[:, None]
        m = sampling.per_image(share, x)
        mixed = sampling.where_changed(share > 0, x + m * (x[networks, other] - x), x)
        return _mix(batch, context, "mixup", numbers=mixed, other=other, share=share)


@part
class CutMix:
    """Put a rectangle of another image into each, and mix losses by area (Yun et al. 2019).

    The area's share is drawn from Beta(α, α), its center uniformly over the image. What lies
    outside is cut off, and the loss counts the rest. α = 0 mixes nothing.
    """

    acts: ClassVar[Effect] = Effect("cutmix", "mean share of the other image")
    alpha: Number = setting(default=1.0, ge=0)

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn_from = sampling.step_generators(context, "cutmix")
        share, down, right = sampling.draw_uniforms(drawn_from, x, x.shape[1], 3).unbind(-1)
        side = beta_quantile(self.alpha, share).sqrt()
        height, width = x.shape[-2:]
        tall = (side * height).round()
        wide = (side * width).round()
        top = (down * height).floor() - (tall / 2).floor()
        left = (right * width).floor() - (wide / 2).floor()
        inside = box_mask(x, rows=(top, top + tall), columns=(left, left + wide))
        other = sampling.draw_partners(drawn_from, x)
        networks = torch.arange(x.shape[0], device=x.device)[:, None]
        mixed = torch.where(inside[:, :, None], x[networks, other], x)
        share = inside.double().mean((2, 3))
        return _mix(batch, context, "cutmix", numbers=mixed, other=other, share=share)


def box_mask(x: Tensor, *, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor]) -> Tensor:
    """Whether each pixel is in its example's rectangle, [P, B, H, W]: from, to [P, B]."""
    inside = []
    for count, (start, end) in zip(x.shape[-2:], (rows, columns), strict=True):
        places = torch.arange(count, device=x.device)
        inside.append((places >= start[..., None]) & (places < end[..., None]))
    return inside[0][..., :, None] & inside[1][..., None, :]


def beta_quantile(alpha: Number, level: Tensor) -> Tensor:
    """The values below which Beta(α, α) lies with probability `level` [P, B]; 0 where α is 0.

    >>> beta_quantile(1.0, torch.tensor([[0.25, 0.5]], dtype=torch.float64))
    tensor([[0.2500, 0.5000]], dtype=torch.float64)
    """
    a = np.asarray(torch.as_tensor(alpha, dtype=torch.float64).cpu())
    positive = np.where(a > 0, a, 1)
    found = torch.as_tensor(betaincinv(positive, positive, level.cpu().numpy()))
    return torch.where(torch.as_tensor(a > 0), found, torch.zeros_like(found)).to(level.device)


def _mix(
    batch: Batch,
    context: ForwardContext,
    name: str,
    *,
    numbers: Tensor,
    other: Tensor,
    share: Tensor,
) -> Batch:
    """The batch with mixed images.

    With example weights w the loss is (1 − m) w L + m w' L': the weight becomes (1 − m) w + m w',
    of which the mixed-in examples have m w'.
    """
    # training examples have targets, and a recipe with both Mixup and CutMix was refused
    assert batch.targets is not None and batch.mixed_targets is None
    if context.meter is not None:
        context.meter.add(name, share.double().mean(1))
    networks = torch.arange(numbers.shape[0], device=numbers.device)[:, None]
    weights = batch.weights
    share = share.to(numbers.dtype)
    if weights is not None:
        of_others = share * weights[networks, other]
        weights = (1 - share) * weights + of_others
        share = torch.where(weights > 0, of_others / weights, torch.zeros_like(weights))
    targets = batch.targets[networks, other]
    return dataclasses.replace(
        batch, numbers=numbers, weights=weights, mixed_targets=targets, mixed_share=share
    )

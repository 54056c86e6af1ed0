"""Colors: brightness, contrast, saturation, hue and noise, and the filters of RandAugment.

The functions take images [..., C, H, W] with values from 0 to 1 and strengths, one for each image
[...]. Gray is 0.299 R + 0.587 G + 0.114 B (ITU-R 601), or the value itself with one channel. They
equal Pillow's functions of the same name, not rounded to bytes. P networks, B examples.
"""

from typing import ClassVar

import torch
from torch import Tensor

from ravine.augment.sampling import draw_uniforms, per_image, step_generators, with_pixels
from ravine.effects import Effect
from ravine.part import Number, match, part, setting
from ravine.protocols import Batch, ForwardContext

LUMA_WEIGHTS = (0.299, 0.587, 0.114)


@part
class ColorJitter:
    """Change brightness, contrast, saturation and hue of each image, in this order.

    The first three are multiplied by factors drawn uniformly from 1 − s to 1 + s; the hue turns by
    at most `hue` of the color circle either way (0.5 is all of it). Gray images have no saturation
    and hue: these two leave them as they are.
    """

    acts: ClassVar[Effect] = Effect("color jitter", "mean |change| of pixel values (0 to 1)")
    brightness: Number = setting(default=0.2, ge=0, le=1)
    contrast: Number = setting(default=0.2, ge=0, le=1)
    saturation: Number = setting(default=0.2, ge=0, le=1)
    hue: Number = setting(default=0.0, ge=0, le=0.5)

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn = 2 * draw_uniforms(step_generators(context, "color jitter"), x, x.shape[1], 4) - 1
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        change = [d * match(s, d) for d, s in zip(drawn.unbind(-1), strengths, strict=True)]
        x = adjust_contrast(adjust_brightness(x, 1 + change[0]), 1 + change[1])
        if x.shape[2] == 3:
            x = adjust_saturation(x, 1 + change[2])
            x = adjust_hue(x, change[3]) if bool(change[3].any()) else x
        return with_pixels(batch, x, context, "color jitter")


@part
class Noise:
    """Add normal noise with standard deviation `sd` to every value, clipped to 0 to 1."""

    acts: ClassVar[Effect] = Effect("noise", "mean |change| of pixel values (0 to 1)")
    sd: Number = setting(default=0.05, ge=0)

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn = [torch.randn(x.shape[1:], generator=g) for g in step_generators(context, "noise")]
        numbers = (x + match(self.sd, x) * torch.stack(drawn).to(x)).clamp(0, 1)
        return with_pixels(batch, numbers, context, "noise")


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Towards black (below 1) or away from it: f x."""
    return (per_image(factor, x) * x).clamp(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Towards the image's mean gray, or away from it."""
    return _blend(to_gray(x).mean((-2, -1), keepdim=True), x, factor)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Towards the gray of each pixel, or away from it."""
    return _blend(to_gray(x), x, factor)


def adjust_sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Towards the smoothed image (3 x 3, the middle weighs 5, others 1), or away; edges stay."""
    height, width = x.shape[-2:]
    smooth = x.clone()
    if min(height, width) > 2:
        places = [(i, j) for i in range(3) for j in range(3)]
        around = sum(x[..., i : height - 2 + i, j : width - 2 + j] for i, j in places)
        smooth[..., 1:-1, 1:-1] = (around + 4 * x[..., 1:-1, 1:-1]) / 13
    return _blend(smooth, x, factor)


def adjust_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn RGB images' colors by a part of the circle (1 is all); brightest and darkest stay.

    h = the place on the circle in sixths, v = max, c = max − min; channel n ∈ (5, 3, 1) of the
    result is v − c · clamp(min(k, 4 − k), 0, 1) with k = (n + h) mod 6 (Smith 1978, without cases).
    """
    red, green, blue = x.unbind(-3)
    v = x.amax(-3)
    c = v - x.amin(-3)
    apart = torch.where(c > 0, c, torch.ones_like(c))
    h = torch.where(v == green, 2 + (blue - red) / apart, 4 + (red - green) / apart)
    h = torch.where(v == red, (green - blue) / apart, h) + 6 * per_image(turn, x)[..., 0]
    shifted = [(n + h).remainder(6) for n in (5, 3, 1)]
    turned = torch.stack([v - c * torch.minimum(k, 4 - k).clamp(0, 1) for k in shifted], -3)
    return torch.where(per_image(turn, x) == 0, x, turned)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each byte; 8 keeps all."""
    step = 2 ** (8 - per_image(bits, x))
    return torch.where(step == 1, x, ((x * 255).round() / step).floor() * step / 255)


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert what is at least as bright as the threshold."""
    return torch.where(x >= per_image(threshold, x), 1 - x, x)


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel's values to all from 0 to 1; a channel of one value stays."""
    low = x.amin((-2, -1), keepdim=True)
    high = x.amax((-2, -1), keepdim=True)
    flat = high <= low
    return torch.where(flat, x, (x - low) / torch.where(flat, torch.ones_like(low), high - low))


def equalize(x: Tensor) -> Tensor:
    """Make each channel's bytes about equally frequent, by Pillow's rule; infinite values stay."""
    at = (x.nan_to_num(0, 0, 0) * 255).round().clamp(0, 255).long().flatten(-2)
    counts = torch.zeros(*at.shape[:-1], 256, dtype=torch.int64, device=x.device)
    counts.scatter_add_(-1, at, torch.ones_like(at))
    last = counts.gather(-1, at.amax(-1, keepdim=True))
    step = (at.shape[-1] - last) // 255
    below = counts.cumsum(-1) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(0, 255)
    found = (table.gather(-1, at).to(x.dtype) / 255).view(x.shape)
    return torch.where((step == 0)[..., None] | ~x.isfinite(), x, found)


def to_gray(x: Tensor) -> Tensor:
    """The brightness of each pixel [..., 1, H, W]."""
    if x.shape[-3] != 3:
        return x.mean(-3, keepdim=True)
    red, green, blue = x.split(1, -3)
    return LUMA_WEIGHTS[0] * red + LUMA_WEIGHTS[1] * green + LUMA_WEIGHTS[2] * blue


def _blend(base: Tensor, x: Tensor, factor: Tensor) -> Tensor:
    """base + f (x − base), cut to 0 to 1; bit for bit x where f is 1."""
    f = per_image(factor, x)
    return torch.where(f == 1, x, (base + f * (x - base)).clamp(0, 1))

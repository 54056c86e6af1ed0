"""RandAugment: a few random changes to each image, all of one strength.

Letters: P networks, B examples, C channels, M the images for which an operation was chosen.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ravine.augment import colors
from ravine.augment.geometry import Edges, rotation_maps, scaling_maps, shear_maps, warp
from ravine.augment.sampling import draw_uniforms, step_generators, with_pixels
from ravine.effects import Effect
from ravine.part import Number, match, part, setting
from ravine.protocols import Batch, ForwardContext

MAX_MAGNITUDE = 30  # on the paper's scale
# images [M, C, H, W] and strengths from −1 to 1, float64 [M]
Operation = Callable[[Tensor, Tensor], Tensor]
Map = Callable[[Tensor, int, int], Tensor]  # strengths, height, width -> maps [M, 2, 3]

COLOR_OPERATIONS: Mapping[str, Operation] = {
    "autocontrast": lambda x, s: colors.autocontrast(x),
    "equalize": lambda x, s: colors.equalize(x),
    "solarize": lambda x, s: colors.solarize(x, 1 - s.abs()),
    "posterize": lambda x, s: colors.posterize(x, 8 - (4 * s.abs()).round()),
    "saturation": lambda x, s: colors.adjust_saturation(x, 1 + 0.9 * s),
    "contrast": lambda x, s: colors.adjust_contrast(x, 1 + 0.9 * s),
    "brightness": lambda x, s: colors.adjust_brightness(x, 1 + 0.9 * s),
    "sharpness": lambda x, s: colors.adjust_sharpness(x, 1 + 0.9 * s),
}
MAP_OPERATIONS: Mapping[str, Map] = {
    "rotate": lambda s, height, width: rotation_maps(s * math.pi / 6),
    "shear along": lambda s, height, width: shear_maps(0.3 * s, torch.zeros_like(s)),
    "shear down": lambda s, height, width: shear_maps(torch.zeros_like(s), 0.3 * s),
    "shift along": lambda s, height, width: _shift(0.45 * width * s, torch.zeros_like(s)),
    "shift down": lambda s, height, width: _shift(torch.zeros_like(s), 0.45 * height * s),
}
OPERATION_NAMES = ("nothing", *COLOR_OPERATIONS, *MAP_OPERATIONS)


@part
class RandAugment:
    """Apply `operations` changes to each image, drawn from 14 (Cubuk et al. 2020, table 6).

    Nothing, autocontrast, equalize, solarize, posterize, saturation, contrast, brightness,
    sharpness, rotation, shear and shift along either axis; all with the strength `magnitude` of 30,
    in a random direction: at 30 half the bits, factors 0.1 or 1.9, 30 degrees, a shear of 0.3, a
    shift of 45 % of the side. At 0 nothing is done; the paper would still equalize.
    """

    acts: ClassVar[Effect] = Effect("rand augment", "mean |change| of pixel values (0 to 1)")
    operations: int = setting(default=2, ge=1)
    magnitude: Number = setting(default=9.0, ge=0, le=MAX_MAGNITUDE)
    edges: Edges = "border"

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        generators = step_generators(context, "rand augment")
        drawn = draw_uniforms(generators, x, x.shape[1], self.operations, 2)
        which = (drawn[..., 0] * len(OPERATION_NAMES)).long()
        sign = torch.where(drawn[..., 1] < 0.5, -1.0, 1.0).double()
        strength = sign * match(self.magnitude / MAX_MAGNITUDE, sign)
        which = torch.where(strength == 0, 0, which)
        numbers = x.flatten(0, 1)
        for k in range(self.operations):
            numbers = self._apply(numbers, which[..., k].flatten(), strength[..., k].flatten())
        return with_pixels(batch, numbers.view(x.shape), context, "rand augment")

    def _apply(self, x: Tensor, which: Tensor, strength: Tensor) -> Tensor:
        """Each image [M, C, H, W] after its operation; those of one kind are computed together."""
        x = x.clone()
        height, width = x.shape[-2:]
        maps = torch.eye(2, 3, dtype=torch.float64, device=x.device).repeat(len(x), 1, 1)
        for place, name in enumerate(OPERATION_NAMES):
            at = (which == place).nonzero()[:, 0]
            if name in COLOR_OPERATIONS and len(at):
                x[at] = COLOR_OPERATIONS[name](x[at], strength[at])
            elif name in MAP_OPERATIONS and len(at):
                maps[at] = MAP_OPERATIONS[name](strength[at], height, width)
        at = (which > len(COLOR_OPERATIONS)).nonzero()[:, 0]
        if len(at):
            x[at] = warp(x[at][None], maps[at][None], self.edges)[0]
        return x


def _shift(along: Tensor, down: Tensor) -> Tensor:
    return scaling_maps(torch.ones_like(down), torch.ones_like(along), down, along)

"""Flips and shifts: pixels move and keep their values.

Letters: P networks, B examples, C channels, H rows and W columns of an image.
"""

import dataclasses
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from ravine.augment.sampling import draw_uniforms, step_generators
from ravine.effects import Effect
from ravine.part import Number, match, part, setting
from ravine.protocols import Batch, ForwardContext

Edges: TypeAlias = Literal["border", "zeros", "reflection"]


@part
class Flip:
    """Mirror images: left to right with one probability, upside down with another."""

    acts: ClassVar[Effect] = Effect("flip", "share of images mirrored")
    horizontal: Number = setting(default=0.5, ge=0, le=1)
    vertical: Number = setting(default=0.0, ge=0, le=1)

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn = draw_uniforms(step_generators(context, "flip"), x, x.shape[1], 2)
        across = drawn[..., 0] < match(self.horizontal, drawn[..., 0])
        down = drawn[..., 1] < match(self.vertical, drawn[..., 1])
        rows, columns = (torch.arange(n, device=x.device) for n in x.shape[-2:])
        rows = torch.where(down[..., None], rows.flip(0), rows)
        columns = torch.where(across[..., None], columns.flip(0), columns)
        if context.meter is not None:
            context.meter.add("flip", (across | down).double().mean(1))
        return dataclasses.replace(batch, numbers=select_pixels(x, rows, columns))


@part
class Crop:
    """Shift images by whole pixels, at most `pixels` each way: a random crop of the padded image.

    All shifts are equally likely. Outside the image are its outermost pixels repeated ("border"),
    black ("zeros") or its reflection ("reflection"). 4 pixels and "zeros" are the usual crop for
    images of 32 x 32 (He et al. 2016).
    """

    acts: ClassVar[Effect] = Effect("crop", "mean shift, in pixels each way")
    pixels: Number = setting(default=4.0, ge=0)
    edges: Edges = "border"

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn = draw_uniforms(step_generators(context, "crop"), x, x.shape[1], 2)
        shift = ((2 * drawn - 1) * match(self.pixels + 0.5, drawn)).round()
        most = torch.floor(torch.as_tensor(match(self.pixels + 0.5, drawn), device=x.device))
        shift = torch.minimum(torch.maximum(shift, -most), most)
        if context.meter is not None:
            context.meter.add("crop", shift.abs().mean((1, 2)))
        return dataclasses.replace(batch, numbers=shift_images(x, shift.long(), self.edges))


def shift_images(x: Tensor, shift: Tensor, edges: Edges) -> Tensor:
    """Images moved down and right by whole pixels [P, B, 2].

    >>> image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 1, 2, 2)
    >>> shift_images(image, torch.tensor([[[0, 1]]]), "zeros").squeeze()
    tensor([[0., 1.],
            [0., 3.]])
    """
    rows, inside_rows = _from(x.shape[-2], shift[..., 0], edges)
    columns, inside_columns = _from(x.shape[-1], shift[..., 1], edges)
    moved = select_pixels(x, rows, columns)
    if edges != "zeros":
        return moved
    inside = inside_rows[..., :, None] & inside_columns[..., None, :]
    return torch.where(inside[:, :, None], moved, torch.zeros_like(moved))


def select_pixels(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The images with the given rows and columns: indices int64 [P, B, H] and [P, B, W]."""
    places = (rows[..., :, None] * x.shape[-1] + columns[..., None, :]).flatten(2)
    places = places[:, :, None]  # [P, B, 1, H W]
    return x.flatten(3).gather(3, places.expand(*x.shape[:3], -1)).view(x.shape)


def _from(size: int, shift: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """The source index of each pixel after a shift [P, B, size], and whether there is one."""
    place = torch.arange(size, device=shift.device) - shift[..., None]
    inside = (place >= 0) & (place < size)
    if edges == "reflection":
        place = place.remainder(2 * size)
        return torch.where(place < size, place, 2 * size - 1 - place), inside
    return place.clamp(0, size - 1), inside

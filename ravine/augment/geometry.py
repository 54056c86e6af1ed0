"""Where pixels go: flips and shifts, and affine maps, one for each image.

A map says from where in the image each pixel of the result comes: x' = a x + b y + c, in pixels
from the middle of the image, x to the right and y down. Interpolation is bilinear.

Maps are computed elementwise and passed to torch's `grid_sample`: the same bits for any number of
networks. Letters: P networks, B examples, C channels, H rows and W columns of an image.
"""

import dataclasses
import math
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ravine.augment.sampling import draw_uniforms, step_generators, where_changed, with_pixels
from ravine.effects import Effect
from ravine.part import Number, match, part, setting
from ravine.protocols import Batch, ForwardContext

Edges: TypeAlias = Literal["border", "zeros", "reflection"]
CHANGE_MEANING = "mean |change| of pixel values (0 to 1)"


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

    All shifts are equally likely. Outside are the outermost pixels repeated ("border"), black
    ("zeros") or a "reflection"; 4 pixels and "zeros" are usual for 32 x 32 (He et al. 2016).
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
    places = (rows[..., :, None] * x.shape[-1] + columns[..., None, :]).flatten(2)[:, :, None]
    return x.flatten(3).gather(3, places.expand(*x.shape[:3], -1)).view(x.shape)


def _from(size: int, shift: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """The source index of each pixel after a shift [P, B, size], and whether there is one."""
    place = torch.arange(size, device=shift.device) - shift[..., None]
    inside = (place >= 0) & (place < size)
    if edges == "reflection":
        place = place.remainder(2 * size)
        return torch.where(place < size, place, 2 * size - 1 - place), inside
    return place.clamp(0, size - 1), inside


@part
class Rotate:
    """Turn images about their middle by an angle drawn evenly from −`degrees` to `degrees`."""

    acts: ClassVar[Effect] = Effect("rotate", CHANGE_MEANING)
    degrees: Number = setting(default=15.0, ge=0, le=180)
    edges: Edges = "border"

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        angle = _draw_signed(batch.numbers, context, "rotate", 1)[..., 0]
        angle = angle * match(self.degrees * (math.pi / 180), angle)
        pixels = warp(batch.numbers, rotation_maps(angle), self.edges)
        return with_pixels(batch, pixels, context, "rotate")


@part
class Stretch:
    """Stretch or squeeze images, height and width by factors between 1 / `factor` and `factor`.

    The logarithms of the factors are even: as many images grow as shrink.
    """

    acts: ClassVar[Effect] = Effect("stretch", CHANGE_MEANING)
    factor: Number = setting(default=1.2, ge=1)
    edges: Edges = "border"

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        drawn = _draw_signed(batch.numbers, context, "stretch", 2)
        log = torch.as_tensor(self.factor, dtype=torch.float64).log()
        shrink = (-drawn * match(log, drawn)).exp()
        maps = scaling_maps(shrink[..., 0], shrink[..., 1])
        return with_pixels(batch, warp(batch.numbers, maps, self.edges), context, "stretch")


@part
class Shear:
    """Slant images: rows slide by the tangent of an angle between −`degrees` and `degrees`.

    Columns do the same for `vertical` degrees.
    """

    acts: ClassVar[Effect] = Effect("shear", CHANGE_MEANING)
    degrees: Number = setting(default=10.0, ge=0, lt=90)
    vertical: Number = setting(default=0.0, ge=0, lt=90)
    edges: Edges = "border"

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        drawn = _draw_signed(batch.numbers, context, "shear", 2)
        along = drawn[..., 0] * match(self.degrees * (math.pi / 180), drawn[..., 0])
        down = drawn[..., 1] * match(self.vertical * (math.pi / 180), drawn[..., 1])
        maps = shear_maps(along.tan(), down.tan())
        return with_pixels(batch, warp(batch.numbers, maps, self.edges), context, "shear")


@part
class Zoom:
    """Show a part of each image in full size: a random crop (Szegedy et al. 2015).

    The area is uniform between `area` and 1, the log of width over height up to `ratio` either way
    (before it is cut to fit). Elsewhere RandomResizedCrop, with areas from 0.08 for large photos.
    """

    acts: ClassVar[Effect] = Effect("zoom", CHANGE_MEANING)
    area: Number = setting(default=0.5, gt=0, le=1)
    ratio: Number = setting(default=1.2, ge=1)

    def __call__(self, batch: Batch, context: ForwardContext, /) -> Batch:
        x = batch.numbers
        drawn = draw_uniforms(step_generators(context, "zoom"), x, x.shape[1], 4)
        size, shape, right, down = drawn.unbind(-1)
        size = 1 - size * match(1 - self.area, size)
        log = torch.as_tensor(self.ratio, dtype=torch.float64).log()
        shape = ((2 * shape - 1) * match(log, shape)).exp()
        width = (size * shape).sqrt().clamp(max=1)
        height = (size / shape).sqrt().clamp(max=1)
        across = (right - 0.5) * (1 - width) * x.shape[-1]
        maps = scaling_maps(height, width, (down - 0.5) * (1 - height) * x.shape[-2], across)
        return with_pixels(batch, warp(x, maps, "border"), context, "zoom")


def rotation_maps(angle: Tensor) -> Tensor:
    """The maps [..., 2, 3] that turn images counterclockwise by an angle in radians."""
    return _maps(angle.cos(), -angle.sin(), 0, angle.sin(), angle.cos(), 0)


def scaling_maps(down: Tensor, across: Tensor, below: Any = 0, right: Any = 0) -> Tensor:
    """The maps that show `down` times the height and `across` times the width, off the middle."""
    return _maps(across, 0, right, 0, down, below)


def shear_maps(along: Tensor, down: Tensor) -> Tensor:
    """The maps that slide rows by `along` times their height, columns by `down` times theirs."""
    return _maps(torch.ones_like(along), along, 0, down, torch.ones_like(down), 0)


def _maps(*entries: Any) -> Tensor:
    like = next(e for e in entries if isinstance(e, Tensor))
    full = [e if isinstance(e, Tensor) else torch.full_like(like, e) for e in entries]
    return torch.stack(full, -1).unflatten(-1, (2, 3))


def warp(x: Tensor, maps: Tensor, edges: Edges) -> Tensor:
    """Images [P, B, C, H, W] seen through maps, float64 [P, B, 2, 3]; bits stay where none changes.

    >>> x = torch.arange(4.0).view(1, 1, 1, 2, 2)
    >>> warp(x, rotation_maps(torch.tensor([[math.pi / 2]], dtype=torch.float64)),
    ...              "zeros").squeeze().round()
    tensor([[1., 3.],
            [0., 2.]])
    """
    height, width = x.shape[-2:]
    axes = [torch.arange(n, dtype=x.dtype, device=x.device) for n in (height, width)]
    ys, xs = (axis - (len(axis) - 1) / 2 for axis in axes)
    sides = torch.tensor([width, height], dtype=torch.float64, device=x.device)
    maps_of_sides = (maps * 2 / sides[:, None]).to(x.dtype).flatten(0, 1)[..., None, None]
    grid = torch.empty(maps_of_sides.shape[0], height, width, 2, dtype=x.dtype, device=x.device)
    # a x + (b y + c), written where it belongs: half the time of stacking both sides
    for side in range(2):
        a, b, c = maps_of_sides[:, side].unbind(1)
        torch.add(a * xs, b * ys[:, None] + c, out=grid[..., side])
    # in units of half a side, as grid_sample has it: −1 and 1 are the outer edges of the pixels
    found = grid_sample(x.flatten(0, 1), grid, padding_mode=edges, align_corners=False)
    still = (maps == torch.eye(2, 3, dtype=maps.dtype, device=maps.device)).flatten(2).all(-1)
    return where_changed(~still, found.view(x.shape), x)


def _draw_signed(x: Tensor, context: ForwardContext, name: str, count: int) -> Tensor:
    """Draws from −1 to 1, [P, B, count]."""
    return 2 * draw_uniforms(step_generators(context, name), x, x.shape[1], count) - 1

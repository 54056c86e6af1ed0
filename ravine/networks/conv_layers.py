"""Layers for images, of all networks at once: standardization, convolution, pooling, shortcuts.

Signals are [P, B, C, H, W] with channels last in memory. Each network's products are made by a call
of their own. Forms that batch the networks were measured and left out (one core with AVX-512, torch
2.13, milliseconds a network forward and backward, 64 examples, 3 × 3; in brackets channels, side):

    form                               (16 → 16, 28)      (64 → 64, 7)      bits alone = in a cohort
                          networks          1        8         1        8
    loop, channels last                    7.8     10.0       6.2     7 – 16   yes
    grouped, channels last                 7.1      8.4       5.9      6.0     no
    unfold + bmm, channels last           63       88        12       23       yes

Grouped convolution saves at most a fifth, and uses another kernel for P groups than for one, with
other bits in the gradients. A choice by timing would make a network's numbers depend on the other
networks, or on how busy the machine was when it was resumed. So there is one form.

Letters: P networks, B examples, C channels in, O channels out, H × W pixels, K the kernel's side.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.layout import Slot
from ravine.networks.layers import BuiltLayer, join_networks, split_networks, unbind_networks
from ravine.protocols import (
    Activation,
    Batch,
    ForwardContext,
    ImageShape,
    Initializer,
    Layer,
    SlotStreams,
)


def channels_last(x: Tensor) -> Tensor:
    """Images [B, C, H, W] with channels last in memory.

    A single channel is last and first at once, and torch then continues with channels first, where
    an epoch of gray images took a third longer (notebook 2026-11-21): its strides are set.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if x.shape[1] > 1:
        return x
    height, width = x.shape[2:]
    return x.as_strided(x.shape, (height * width, 1, width, 1))


class PixelLayer(BuiltLayer):
    """Standardize pixels, bytes or floats 0 to 1, to (x − mean) / sd for each channel.

    Mean and SD are the training split's; a channel constant there is only centered. The result is
    [P, B, C, H, W] in the weights' precision; [1, B, C, H, W] where all networks see the same.
    """

    def __init__(self, image: ImageShape):
        self.mean = torch.tensor(image.mean, dtype=torch.float64).view(-1, 1, 1)
        sd = torch.tensor(image.sd, dtype=torch.float64).view(-1, 1, 1)
        self.sd = torch.where(sd > 0, sd, 1.0)
        self.values = image.channels * image.height * image.width

    def __call__(self, batch: Batch, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        given = batch.numbers
        dtype = next(iter(tensors.values())).dtype
        x = given.flatten(0, 1).to(dtype, memory_format=torch.channels_last)
        scale = self.sd * 255 if given.dtype == torch.uint8 else self.sd
        shift = self.mean / self.sd
        return (x * (1 / scale).to(x) - shift.to(x)).unflatten(0, given.shape[:2])


class FlattenLayer(BuiltLayer):
    """[P, B, C, H, W] to [P, B, C·H·W], in that order, as torch.nn.Flatten."""

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        return x.flatten(2)


class ConvolutionLayer(BuiltLayer):
    """y = w ∗ x + b (cross-correlation), with w [P, O, C / groups, K, K] and b [P, 1, O].

    fan_in = K² C / groups and fan_out = K² O / groups count a unit's connections, so initializers
    mean the same as for linear layers. Weights are drawn as a matrix [K² C / groups, O]: orthogonal
    ones are orthogonal across filters. `groups = C` convolves each channel by itself.
    """

    one_by_one = True

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        *,
        kernel: int,
        initializer: Initializer,
        bias: Initializer | None,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        places: int = 1,
    ):
        taps = kernel * kernel
        fans = {"fan_in": inputs // groups * taps, "fan_out": outputs // groups * taps}
        shape = (outputs, inputs // groups, kernel, kernel)
        self.has_bias = bias is not None
        self.stride, self.padding, self.groups = stride, padding, groups
        self.values = outputs * places  # numbers that an example becomes
        weight = Slot(name=f"{name}.weight", shape=shape, role="weight", **fans)
        self.initializers = {weight: initializer}
        if bias is not None:
            slot = Slot(name=f"{name}.bias", shape=(1, outputs), role="bias", **fans)
            self.initializers[slot] = bias

    def start(self, generators: SlotStreams) -> dict[str, Tensor]:
        weight, *others = self.slots
        matrix = replace(weight, shape=(weight.fan_in, weight.shape[0]))
        drawn = self.initializers[weight].draw(matrix, generators[weight.name])
        filters = drawn.transpose(1, 2).unflatten(2, weight.shape[1:]).contiguous()
        biases = {s.name: self.initializers[s].draw(s, generators[s.name]) for s in others}
        return {weight.name: filters, **biases}

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        weights = unbind_networks(tensors[self.slots[0].name])
        biases: list[Tensor | None] = [None] * len(weights)
        if self.has_bias:
            biases = [*unbind_networks(tensors[self.slots[1].name].flatten(1))]
        xs = split_networks(x) * (len(weights) if x.shape[0] == 1 else 1)
        settings = (self.stride, self.padding, 1, self.groups)
        each = zip(xs, weights, biases, strict=True)
        return join_networks([F.conv2d(channels_last(one), w, b, *settings) for one, w, b in each])


class PoolingLayer(BuiltLayer):
    """The largest value, or the mean, of windows of `size` × `size` pixels, `stride` apart."""

    def __init__(self, pool: Callable, *, size: int, stride: int):
        self.pool, self.size, self.stride = pool, size, stride

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        y = self.pool(x.flatten(0, 1), self.size, self.stride).unflatten(0, x.shape[:2])
        if context.meter is not None:
            context.meter.add("pool", 1 - (y[0].numel() / x[0].numel()))
        return y


class GlobalAverageLayer(BuiltLayer):
    """The mean of each channel over all pixels: [P, B, C, H, W] to [P, B, C] (Lin et al. 2014)."""

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        return x.mean((3, 4))


class ResidualLayer:
    """y = f(inner(x) + shortcut(x)) (He et al. 2016); a shortcut without layers is x itself.

    `zeroed` starts at 0: with the last norm's γ a block starts as its shortcut (Goyal et al. 2017).
    """

    one_by_one = True

    def __init__(
        self,
        inner: Sequence[Layer],
        shortcut: Sequence[Layer],
        activation: Activation,
        *,
        zeroed: str | None = None,
    ):
        self.inner, self.shortcut = inner, shortcut
        self.activation, self.zeroed = activation, zeroed
        layers = [*inner, *shortcut]
        self.slots = tuple(slot for layer in layers for slot in layer.slots)
        self.buffers = {name: value for layer in layers for name, value in layer.buffers.items()}
        self.values = max(getattr(layer, "values", 0) for layer in layers)

    def start(self, generators: SlotStreams) -> dict[str, Tensor]:
        started: dict[str, Tensor] = {}
        for layer in (*self.inner, *self.shortcut):
            started |= layer.start({s.name: generators[s.name] for s in layer.slots})
        if self.zeroed is not None:
            started[self.zeroed] = torch.zeros_like(started[self.zeroed])
        return started

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        y = carried = x
        for layer in self.inner:
            y = layer(y, tensors, context)
        for layer in self.shortcut:
            carried = layer(carried, tensors, context)
        total = y + carried
        if context.meter is not None:
            sizes = (t.abs().mean((1, 2, 3, 4)) for t in (carried, total))
            context.meter.add("shortcut", *sizes)
        return self.activation(total)

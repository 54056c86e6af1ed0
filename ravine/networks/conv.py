"""Convolutional networks for images, plain (`Conv`) and residual (`ResNet`), and pooling.

Letters: B examples, C channels, H × W pixels. Signals are [P, B, C, H, W].
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, Protocol, TypeAlias

import torch.nn.functional as F

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.networks.activations import Identity, ReLU
from ravine.networks.conv_layers import (
    ConvolutionLayer,
    FlattenLayer,
    GlobalAverageLayer,
    PixelLayer,
    PoolingLayer,
    ResidualLayer,
)
from ravine.networks.initializers import Constant, He
from ravine.networks.layer_parts import MAX_UNITS, BatchNorm
from ravine.networks.layers import ActivationLayer, LinearLayer
from ravine.part import part, setting
from ravine.protocols import Activation, Drop, ImageShape, Initializer, Layer, Norm, Pool, Signature

POOL_EFFECT = Effect("pool", "share of the places that is left out")
SignalShape: TypeAlias = tuple[int, int, int]  # channels, height, width


@part
class _Windows:
    """What both poolings do with their windows of `size` × `size` pixels."""

    acts: ClassVar[Effect] = POOL_EFFECT
    pooling: ClassVar[Callable]
    size: int = setting(default=2, ge=2, le=MAX_UNITS)
    stride: int | None = setting(default=None, ge=1, le=MAX_UNITS)

    def output_size(self, size: int) -> int:
        return (size - self.size) // (self.stride or self.size) + 1

    def layer(self) -> Layer:
        return PoolingLayer(self.pooling, size=self.size, stride=self.stride or self.size)


@part
class MaxPool(_Windows):
    """The largest value of each window; windows overlap only where `stride` says so."""

    pooling: ClassVar[Callable] = staticmethod(F.max_pool2d)


@part
class AveragePool(_Windows):
    """The mean of each window; windows overlap only where `stride` says so."""

    pooling: ClassVar[Callable] = staticmethod(F.avg_pool2d)


ALL_POOLS = (MaxPool, AveragePool)


@part
class ConvStages:
    """The stages of `Conv`: their convolutions and pooling, and how these change the sides."""

    channels: tuple[int, ...] = setting(default=(32, 64), ge=1, le=MAX_UNITS)
    convolutions: int = setting(default=1, ge=1, le=1_000)
    kernel: int = setting(default=3, ge=1, le=MAX_UNITS)
    stride: int = setting(default=1, ge=1, le=MAX_UNITS)
    padding: int | None = setting(default=None, ge=0, le=MAX_UNITS)
    separable: bool = False
    pool: Pool | None = MaxPool()

    def window(self, *, first: bool) -> tuple[int, int]:
        """Stride and padding of a stage's first convolution, or of the others."""
        padding = self.kernel // 2 if self.padding is None else self.padding
        return self.stride if first else 1, padding


@part
class Conv(ConvStages):
    """Stages of convolution, norm, activation and pooling; then linear layers (LeCun et al. 1998).

    A stage for each of `channels`, with `convolutions` convolutions of `kernel` × `kernel`.
    `padding = None` keeps the size for odd kernels (kernel // 2 zeros on each side); `stride` is
    that of a stage's first convolution. `separable` convolves each channel by itself and then mixes
    them with a 1 × 1 convolution (Howard et al. 2017), from the second convolution on. `hidden` are
    the widths of the fully connected layers, after which `dropout` acts; `spatial_dropout` acts
    after each stage. `global_average` takes each channel's mean over all places in place of
    flattening them. A bias just before a batch norm is left out.
    """

    hidden: tuple[int, ...] = setting(default=(128,), ge=1, le=MAX_UNITS)
    activation: Activation = ReLU()
    initializer: Initializer = He()
    bias: Initializer = Constant(value=0.0)
    norm: Norm | None = BatchNorm()
    dropout: Drop | None = None
    spatial_dropout: Drop | None = None
    global_average: bool = False
    zero_output: bool = False

    def build(self, signature: Signature) -> list[Layer]:
        image = image_shape_of(signature, "Conv")
        shape = (image.channels, image.height, image.width)
        layers: list[Layer] = [PixelLayer(image)]
        for s, channels in enumerate(self.channels):
            for c in range(self.convolutions):
                made, shape = self._convolution(f"conv.{s}.{c}", shape, channels, first=c == 0)
                layers += made
            if self.pool is not None:
                sides = output_sides(f"the pooling of conv.{s}", shape, self.pool.output_size)
                shape = (channels, *sides)
                layers.append(self.pool.layer())
            if self.spatial_dropout is not None:
                layers.append(self.spatial_dropout.layer(f"conv.{s}.dropout"))
        layers.append(GlobalAverageLayer() if self.global_average else FlattenLayer())
        width = shape[0] * (1 if self.global_average else shape[1] * shape[2])
        output = Constant(value=0.0) if self.zero_output else self.initializer
        return layers + head_layers(self, width, self.hidden, signature.outputs, output=output)

    def _convolution(
        self, name: str, shape: SignalShape, channels: int, *, first: bool
    ) -> tuple[list[Layer], SignalShape]:
        """A convolution with the layers after it, and its output shape."""
        stride, padding = self.window(first=first)
        convolve, sides = plan_convolution(self, name, shape, self.kernel, stride, padding)
        pointwise = partial(convolve, kernel=1, stride=1, padding=0)
        follow = partial(following_layers, norm=self.norm, activation=self.activation, dropout=None)
        layers: list[Layer] = []
        if self.separable and not name.startswith("conv.0.0"):
            depth = f"{name}.depth"
            layers.append(convolve(depth, shape[0], shape[0], groups=shape[0]))
            layers += follow(depth, shape[0])
            layers.append(pointwise(name, shape[0], channels))
        else:
            layers.append(convolve(name, shape[0], channels))
        return [*layers, *follow(name, channels)], (channels, *sides)


@part
class ResNet:
    """A residual network (He, Zhang, Ren & Sun 2016): stem, stages of `blocks` blocks, global mean.

    A block is f(norm(conv(f(norm(conv(x))))) + shortcut(x)). Each stage but the first halves the
    sides by a stride of 2 in its first block; where a block changes the shape its shortcut is a 1 ×
    1 convolution with norm, else x itself. `zero_last_gamma` starts each block as its shortcut
    (Goyal et al. 2017); `stem_stride` makes images smaller at once. `dropout` acts on the means
    before the output layer. A bias just before a batch norm is left out.
    """

    acts: ClassVar[Effect] = Effect(
        "shortcut", "mean |value| carried past a block, relative to the block's sum"
    )
    channels: tuple[int, ...] = setting(default=(16, 32, 64), ge=1, le=MAX_UNITS)
    blocks: int = setting(default=2, ge=1, le=1_000)
    kernel: int = setting(default=3, ge=1, le=MAX_UNITS)
    stem_stride: int = setting(default=1, ge=1, le=MAX_UNITS)
    activation: Activation = ReLU()
    initializer: Initializer = He()
    bias: Initializer = Constant(value=0.0)
    norm: Norm | None = BatchNorm()
    dropout: Drop | None = None
    zero_last_gamma: bool = False
    zero_output: bool = False

    def check(self) -> None:
        if not self.channels:
            what = "ResNet.channels is empty"
            raise RecipeError(what, do="give the channels of each stage, such as [16, 32, 64]")
        if self.kernel % 2 == 0:
            what = f"ResNet.kernel is {self.kernel}"
            raise RecipeError(what, why="shortcuts need odd kernels, which keep the size")
        if self.zero_last_gamma and self.norm is None:
            what = "ResNet.zero_last_gamma is set but there is no norm"
            do = 'set norm = "BatchNorm", or leave zero_last_gamma out'
            raise RecipeError(what, why="γ is a norm's", do=do)

    def build(self, signature: Signature) -> list[Layer]:
        image = image_shape_of(signature, "ResNet")
        shape = (image.channels, image.height, image.width)
        stem, shape = self._convolution("stem", shape, self.channels[0], stride=self.stem_stride)
        layers: list[Layer] = [PixelLayer(image), *stem, ActivationLayer(self.activation)]
        for s, channels in enumerate(self.channels):
            for b in range(self.blocks):
                stride = 2 if s > 0 and b == 0 else 1
                block, shape = self._block(f"stage.{s}.{b}", shape, channels, stride=stride)
                layers.append(block)
        layers.append(GlobalAverageLayer())
        if self.dropout is not None:
            layers.append(self.dropout.layer("dropout"))
        output = Constant(value=0.0) if self.zero_output else self.initializer
        return layers + head_layers(self, shape[0], (), signature.outputs, output=output)

    def _block(
        self, name: str, shape: SignalShape, channels: int, *, stride: int
    ) -> tuple[Layer, SignalShape]:
        first, middle = self._convolution(f"{name}.first", shape, channels, stride=stride)
        second, last = self._convolution(f"{name}.second", middle, channels)
        shortcut: list[Layer] = []
        if stride > 1 or channels != shape[0]:
            path = f"{name}.shortcut"
            shortcut, _ = self._convolution(path, shape, channels, stride=stride, kernel=1)
        zeroed = f"{name}.second.norm.gamma" if self.zero_last_gamma else None
        inner = [*first, ActivationLayer(self.activation), *second]
        return ResidualLayer(inner, shortcut, self.activation, zeroed=zeroed), last

    def _convolution(
        self,
        name: str,
        shape: SignalShape,
        channels: int,
        *,
        stride: int = 1,
        kernel: int | None = None,
    ) -> tuple[list[Layer], SignalShape]:
        """A convolution with its norm, and its output shape."""
        kernel = self.kernel if kernel is None else kernel
        convolve, sides = plan_convolution(self, name, shape, kernel, stride, kernel // 2)
        norm = [] if self.norm is None else [self.norm.layer(f"{name}.norm", channels)]
        return [convolve(name, shape[0], channels), *norm], (channels, *sides)


class HeadSettings(Protocol):
    """The settings of a network of images that its fully connected layers follow."""

    @property
    def norm(self) -> Norm | None: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def initializer(self) -> Initializer: ...
    @property
    def bias(self) -> Initializer: ...
    @property
    def dropout(self) -> Drop | None: ...


def plan_convolution(
    part: HeadSettings, name: str, shape: SignalShape, kernel: int, stride: int, padding: int
) -> tuple[partial[ConvolutionLayer], tuple[int, int]]:
    """A convolution that lacks its name and channels, and the sides that it makes of a shape."""
    sides = output_sides(name, shape, lambda size: (size + 2 * padding - kernel) // stride + 1)
    window = {"kernel": kernel, "stride": stride, "padding": padding}
    bias = None if isinstance(part.norm, BatchNorm) else part.bias
    settings = {"initializer": part.initializer, "bias": bias, "places": sides[0] * sides[1]}
    return partial(ConvolutionLayer, **window, **settings), sides


def head_layers(
    part: HeadSettings, inputs: int, widths: Sequence[int], outputs: int, *, output: Initializer
) -> list[Layer]:
    """The fully connected layers `hidden.0`, ..., and the output layer, initialized by `output`."""
    layers: list[Layer] = []
    bias = None if isinstance(part.norm, BatchNorm) else part.bias
    follow = partial(following_layers, norm=part.norm, activation=part.activation)
    for i, units in enumerate(widths):
        linear = LinearLayer(f"hidden.{i}", inputs, units, initializer=part.initializer, bias=bias)
        layers += [linear, *follow(f"hidden.{i}", units, dropout=part.dropout)]
        inputs = units
    return [*layers, LinearLayer("output", inputs, outputs, initializer=output, bias=part.bias)]


def following_layers(
    name: str, units: int, *, norm: Norm | None, activation: Activation, dropout: Drop | None
) -> list[Layer]:
    """The layers after a weighted layer: norm, activation, dropout."""
    layers: list[Layer] = [] if norm is None else [norm.layer(f"{name}.norm", units)]
    if not isinstance(activation, Identity):
        layers.append(ActivationLayer(activation))
    return layers if dropout is None else [*layers, dropout.layer(f"{name}.dropout")]


def image_shape_of(signature: Signature, network: str) -> ImageShape:
    """The shape of the images. Raises `RecipeError` where the examples are rows of a table."""
    if signature.image is None:
        what = f"network is {network}, but the examples are rows of a table"
        raise RecipeError(what, why="it convolves images", do='set network = "Mlp", or give images')
    return signature.image


def output_sides(
    layer: str, shape: tuple[int, int, int], sides: Callable[[int], int]
) -> tuple[int, int]:
    """Height and width after a layer. Raises `RecipeError` where its window does not fit."""
    height, width = (sides(size) for size in shape[1:])
    if height < 1 or width < 1:
        what = f"{layer} gets images of {shape[1]} × {shape[2]}"
        remedy = "use fewer stages, a smaller kernel, more padding, no pooling, or larger images"
        raise RecipeError(what, why="they are too small for its window", do=remedy)
    return height, width

"""Multi-layer perceptrons: linear layers with a norm, an activation and dropout between them."""

import math
from typing import Literal

from ravine.errors import RecipeError
from ravine.networks.activations import ReLU
from ravine.networks.conv_layers import FlattenLayer, PixelLayer
from ravine.networks.initializers import Constant, He, Normal
from ravine.networks.layer_parts import MAX_UNITS, BatchNorm
from ravine.networks.layers import (
    ActivationLayer,
    ColumnsLayer,
    LinearLayer,
    ParametricActivationLayer,
    ScaleLayer,
)
from ravine.part import part, setting
from ravine.protocols import Activation, Drop, Initializer, Layer, Norm, NumberEmbedding, Signature


@part
class Mlp:
    """Linear layers of the given widths, each with norm, activation and dropout; a linear output.

    `hidden = ()` is a linear model. A bias just before a batch norm, which has no effect, is left
    out. `parametrization = "ntk"` computes x W/√in + b, whose W should be drawn with unit variance
    (`Normal(sd=1)`). `zero_output` starts the output layer at zero, so that training starts from a
    constant. `scale_inputs` learns a factor for each feature; `parametric` learns how much of the
    activation each unit uses. `bias_lr` and `scale_lr` multiply the learning rate of biases and of
    the feature factors. Of images, standardized, each pixel of each channel is an input.
    """

    hidden: tuple[int, ...] = setting(default=(128, 128), ge=1, le=MAX_UNITS)
    activation: Activation = ReLU()
    initializer: Initializer = He()
    bias: Initializer = Constant(value=0.0)
    norm: Norm | None = None
    dropout: Drop | None = None
    numbers: NumberEmbedding | None = None
    embedding: int = setting(default=8, ge=1, le=MAX_UNITS)
    parametrization: Literal["standard", "ntk"] = "standard"
    scale_inputs: bool = False
    scale_lr: float = setting(default=6.0, gt=0)
    parametric: bool = False
    zero_output: bool = False
    bias_lr: float = setting(default=1.0, ge=0)

    def check(self) -> None:
        if self.parametrization == "ntk" and not isinstance(self.initializer, Normal):
            what = f"Mlp.initializer is {type(self.initializer).__name__}"
            why = 'parametrization = "ntk" divides by √inputs itself: weights need unit variance'
            raise RecipeError(what, why=why, do='set initializer = {name = "Normal", sd = 1.0}')

    def build(self, signature: Signature) -> list[Layer]:
        measured = signature.numbers - len(signature.flags)
        embed = None if self.numbers is None or measured == 0 else self.numbers.layer(measured)
        columns = ColumnsLayer(signature, size=self.embedding, embed_numbers=embed)
        layers: list[Layer] = [columns]
        width = columns.outputs
        if signature.image is not None:
            pixels = PixelLayer(signature.image)
            layers, width = [pixels, FlattenLayer()], pixels.values
        if self.scale_inputs:
            layers.append(ScaleLayer("inputs", width, lr=self.scale_lr))
        for i, units in enumerate(self.hidden):
            layers += self._block(f"hidden.{i}", width, units)
            width = units
        output = self._linear("output", width, signature.outputs, zero=self.zero_output, bias=True)
        return [*layers, output]

    def _block(self, name: str, inputs: int, units: int) -> list[Layer]:
        before_norm = isinstance(self.norm, BatchNorm)
        linear = self._linear(name, inputs, units, zero=False, bias=not before_norm)
        norm = [] if self.norm is None else [self.norm.layer(f"{name}.norm", units)]
        activation: Layer = ActivationLayer(self.activation)
        if self.parametric:
            activation = ParametricActivationLayer(f"{name}.activation", units, self.activation)
        dropout = [] if self.dropout is None else [self.dropout.layer(f"{name}.dropout")]
        return [linear, *norm, activation, *dropout]

    def _linear(self, name: str, inputs: int, units: int, *, zero: bool, bias: bool) -> LinearLayer:
        weights = Constant(value=0.0) if zero else self.initializer
        scale = 1 / math.sqrt(inputs) if self.parametrization == "ntk" else 1.0
        biases = (Constant(value=0.0) if zero else self.bias) if bias else None
        return LinearLayer(
            name, inputs, units, initializer=weights, bias=biases, scale=scale, bias_lr=self.bias_lr
        )

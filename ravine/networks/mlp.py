"""Multi-layer perceptrons for tables: linear layers with a nonlinearity, a normalization and
dropout between them.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.networks.activations import ReLU
from ravine.networks.conv_layers import Flatten, Pixels
from ravine.networks.initializers import Constant, He, Normal
from ravine.networks.layers import (
    Activate,
    BatchNormLayer,
    Columns,
    DropoutLayer,
    LayerNormLayer,
    Linear,
    ParametricActivate,
    PeriodicNumbers,
    PiecewiseLinearNumbers,
    Scale,
)
from ravine.part import Number, part, setting
from ravine.protocols import Activation, Drop, Initializer, Layer, Norm, NumberEmbedding, Signature


@part
class BatchNorm:
    """Normalize each unit over the batch: y = γ (x − m) / √(v + eps) + β (Ioffe & Szegedy 2015).

    `momentum` is the share of the newest batch in the running statistics used at test time (torch's
    convention).
    """

    acts: ClassVar[Effect] = Effect("batch norm", "mean |change| of what is normalized, relative")
    momentum: Number = setting(default=0.1, gt=0, le=1)
    eps: float = setting(default=1e-5, gt=0)

    def layer(self, name: str, units: int) -> Layer:
        return BatchNormLayer(name, units, momentum=self.momentum, eps=self.eps)


@part
class LayerNorm:
    """Normalize each example over its units (Ba, Kiros & Hinton 2016)."""

    acts: ClassVar[Effect] = Effect("layer norm", "mean |change| of what is normalized, relative")
    eps: float = setting(default=1e-5, gt=0)

    def layer(self, name: str, units: int) -> Layer:
        return LayerNormLayer(name, units, eps=self.eps)


@part
class Dropout:
    """Inverted dropout: in training zero with probability `rate`, divide the rest by 1 − rate; at
    test time nothing.
    """

    acts: ClassVar[Effect] = Effect("dropout", "fraction of units dropped")
    rate: Number = setting(default=0.2, ge=0, lt=1)

    def layer(self, name: str) -> Layer:
        return DropoutLayer(name, rate=self.rate)


@part
class ClassicDropout:
    """Dropout as first published: in training zero with probability `rate`; at test time multiply
    by 1 − rate.

    Equal to `Dropout` in expectation; the scale of the weights differs. The lectures state the
    *keep* probability h = 1 − rate.
    """

    acts: ClassVar[Effect] = Effect("dropout", "fraction of units dropped")
    rate: Number = setting(default=0.2, ge=0, lt=1)

    def layer(self, name: str) -> Layer:
        return DropoutLayer(name, rate=self.rate, inverted=False)


@part
class SpatialDropout:
    """Inverted dropout of whole channels of pictures (Tompson et al. 2015); of units where there
    are no places.
    """

    acts: ClassVar[Effect] = Effect("dropout", "fraction of units dropped")
    rate: Number = setting(default=0.1, ge=0, lt=1)

    def layer(self, name: str) -> Layer:
        return DropoutLayer(name, rate=self.rate, spatial=True)


@part
class Periodic:
    """Spread each number x to [x, W2 cos(2π (w1 x + b1)) + b2], learned for each feature (RealMLP's
    PBLD).
    """

    acts: ClassVar[Effect] = Effect(
        "number embedding", "mean |value| of what is added to the numbers"
    )
    frequencies: int = setting(default=16, ge=1)
    outputs: int = setting(default=4, ge=2)
    sigma: float = setting(default=0.1, gt=0)
    lr: float = setting(default=0.1, gt=0)

    def layer(self, features: int) -> PeriodicNumbers:
        return PeriodicNumbers(
            features,
            frequencies=self.frequencies,
            outputs_each=self.outputs,
            sigma=self.sigma,
            lr=self.lr,
        )


@part
class PiecewiseLinear:
    """Spread each number over the intervals between normal quantiles, then a linear map and a ReLU
    of its own.

    Gorishniy et al. 2022, "On embeddings for numerical features"; the edges are even after `scale =
    "quantile"`.
    """

    acts: ClassVar[Effect] = Effect("number embedding", "mean |value| of what replaces the numbers")
    bins: int = setting(default=16, ge=2)
    outputs: int = setting(default=8, ge=1)
    lr: float = setting(default=1.0, gt=0)

    def layer(self, features: int) -> PiecewiseLinearNumbers:
        return PiecewiseLinearNumbers(
            features, bins=self.bins, outputs_each=self.outputs, lr=self.lr
        )


@part
class Mlp:
    """Linear layers of the given widths, each followed by norm, activation and dropout; then a
    linear output.

    `hidden = ()` is a linear model. A bias just before a batch norm is left out: it could do
    nothing. `parametrization = "ntk"` computes x W/√in + b, whose W should be drawn with unit
    variance (`Normal(sd=1)`). `zero_output` starts the output layer at zero, so that training
    starts from the constant prediction. `scale_inputs` learns a factor for each feature;
    `parametric` learns how much of the activation each unit uses. `bias_lr` and `scale_lr` multiply
    the learning rate of biases and of the feature factors. Pictures are standardized and flattened:
    each pixel of each channel is a number.
    """

    hidden: tuple[int, ...] = setting(default=(128, 128), ge=1)
    activation: Activation = ReLU()
    initializer: Initializer = He()
    bias: Initializer = Constant(value=0.0)
    norm: Norm | None = None
    dropout: Drop | None = None
    numbers: NumberEmbedding | None = None
    embedding: int = setting(default=8, ge=1)
    parametrization: Literal["standard", "ntk"] = "standard"
    scale_inputs: bool = False
    scale_lr: float = setting(default=6.0, gt=0)
    parametric: bool = False
    zero_output: bool = False
    bias_lr: float = setting(default=1.0, ge=0)

    def check(self) -> None:
        if self.parametrization == "ntk" and not isinstance(self.initializer, Normal):
            raise RecipeError(
                f"Mlp.initializer is {type(self.initializer).__name__}",
                why='parametrization = "ntk" divides by √inputs itself, so weights must be drawn '
                "with unit variance",
                do='set initializer = {name = "Normal", sd = 1.0}',
            )

    def build(self, signature: Signature) -> list[Layer]:
        measured = signature.numbers - len(signature.flags)
        embed = None if self.numbers is None or measured == 0 else self.numbers.layer(measured)
        columns = Columns(
            numbers=signature.numbers,
            codes=signature.codes,
            size=self.embedding,
            initializer=Normal(sd=1 / math.sqrt(self.embedding)),
            embed_numbers=embed,
            flags=signature.flags,
        )
        layers: list[Layer] = [columns]
        width = columns.outputs
        if signature.picture is not None:
            pixels = Pixels(signature.picture)
            layers, width = [pixels, Flatten()], pixels.values
        if self.scale_inputs:
            layers.append(Scale("inputs", width, lr=self.scale_lr))
        for i, units in enumerate(self.hidden):
            layers += self._block(f"hidden.{i}", width, units)
            width = units
        layers.append(
            self._linear("output", width, signature.outputs, zero=self.zero_output, bias=True)
        )
        return layers

    def _block(self, name: str, inputs: int, units: int) -> list[Layer]:
        before_norm = isinstance(self.norm, BatchNorm)
        layers: list[Layer] = [self._linear(name, inputs, units, zero=False, bias=not before_norm)]
        if self.norm is not None:
            layers.append(self.norm.layer(f"{name}.norm", units))
        if self.parametric:
            layers.append(ParametricActivate(f"{name}.activation", units, self.activation))
        else:
            layers.append(Activate(self.activation))
        if self.dropout is not None:
            layers.append(self.dropout.layer(f"{name}.dropout"))
        return layers

    def _linear(self, name: str, inputs: int, units: int, *, zero: bool, bias: bool) -> Linear:
        initializer = Constant(value=0.0) if zero else self.initializer
        scale = 1 / math.sqrt(inputs) if self.parametrization == "ntk" else 1.0
        biases = (Constant(value=0.0) if zero else self.bias) if bias else None
        return Linear(name, inputs, units, initializer, biases, scale=scale, bias_lr=self.bias_lr)

"""Parts that describe one layer of a network: norms, dropout, embeddings of numbers."""

from typing import ClassVar

from ravine.effects import Effect
from ravine.networks import layers
from ravine.part import Number, part, setting
from ravine.protocols import Layer

DROPOUT_EFFECT = Effect("dropout", "fraction of units dropped")

MAX_UNITS = 1_000_000  # of one layer: what it may ask of memory is bounded before it is built


@part
class BatchNorm:
    """Normalize each unit over the batch: y = γ (x − m) / √(v + eps) + β (Ioffe & Szegedy 2015).

    `momentum` is the newest batch's share in the running statistics of test time (as in torch).
    One example has no variance: `batch = 1` is refused, and where the last batch of an epoch has
    one, that step takes the running statistics and counts as one that normalized nothing.
    """

    acts: ClassVar[Effect] = Effect("batch norm", "mean |change| of what is normalized, relative")
    momentum: Number = setting(default=0.1, gt=0, le=1)
    eps: float = setting(default=1e-5, gt=0)

    def layer(self, name: str, units: int) -> Layer:
        return layers.BatchNormLayer(name, units, momentum=self.momentum, eps=self.eps)


@part
class LayerNorm:
    """Normalize each example over its units (Ba, Kiros & Hinton 2016)."""

    acts: ClassVar[Effect] = Effect("layer norm", "mean |change| of what is normalized, relative")
    eps: float = setting(default=1e-5, gt=0)

    def layer(self, name: str, units: int) -> Layer:
        return layers.LayerNormLayer(name, units, eps=self.eps)


@part
class Dropout:
    """Zero with probability `rate` in training, and divide the rest by 1 − rate (inverted)."""

    acts: ClassVar[Effect] = DROPOUT_EFFECT
    rate: Number = setting(default=0.2, ge=0, lt=1)

    def layer(self, name: str) -> Layer:
        return layers.DropoutLayer(name, rate=self.rate)


@part
class ClassicDropout:
    """Zero with probability `rate` in training; multiply by 1 − rate at test time (as published).

    Equal to `Dropout` in expectation; the weights' scale differs. (Elsewhere 1 − rate is stated.)
    """

    acts: ClassVar[Effect] = DROPOUT_EFFECT
    rate: Number = setting(default=0.2, ge=0, lt=1)

    def layer(self, name: str) -> Layer:
        return layers.DropoutLayer(name, rate=self.rate, inverted=False)


@part
class SpatialDropout:
    """Inverted dropout of whole channels of images (Tompson et al. 2015); else of single units."""

    acts: ClassVar[Effect] = DROPOUT_EFFECT
    rate: Number = setting(default=0.1, ge=0, lt=1)

    def layer(self, name: str) -> Layer:
        return layers.DropoutLayer(name, rate=self.rate, spatial=True)


@part
class Periodic:
    """Embed each number x as [x, W2 cos(2π (w1 x + b1)) + b2], all learned (RealMLP's PBLD)."""

    acts: ClassVar[Effect] = Effect(
        "number embedding", "mean |value| of what is added to the numbers"
    )
    frequencies: int = setting(default=16, ge=1, le=MAX_UNITS)
    outputs: int = setting(default=4, ge=2, le=MAX_UNITS)
    sigma: float = setting(default=0.1, gt=0)
    lr: float = setting(default=0.1, gt=0)

    def layer(self, features: int) -> layers.PeriodicNumbers:
        sizes = {"frequencies": self.frequencies, "outputs_each": self.outputs}
        return layers.PeriodicNumbers(features, **sizes, sigma=self.sigma, lr=self.lr)


@part
class PiecewiseLinear:
    """Embed each number as its position in normal quantiles, then a linear map and ReLU of its own.

    Gorishniy et al. 2022, "On embeddings for numerical features"; for `scale = "quantile"`.
    """

    acts: ClassVar[Effect] = Effect("number embedding", "mean |value| of what replaces the numbers")
    bins: int = setting(default=16, ge=2, le=MAX_UNITS)
    outputs: int = setting(default=8, ge=1, le=MAX_UNITS)
    lr: float = setting(default=1.0, gt=0)

    def layer(self, features: int) -> layers.PiecewiseLinearNumbers:
        sizes = {"bins": self.bins, "outputs_each": self.outputs}
        return layers.PiecewiseLinearNumbers(features, **sizes, lr=self.lr)


ALL_NORMS = (BatchNorm, LayerNorm)
ALL_DROPOUTS = (Dropout, ClassicDropout, SpatialDropout)
ALL_NUMBER_EMBEDDINGS = (Periodic, PiecewiseLinear)

"""Initializers: the starting values of a slot, drawn from each network's own stream.

`fan_in` and `fan_out` are the connections into and out of one unit; they stand in the slot.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from ravine.effects import Effect
from ravine.layout import Slot
from ravine.part import Number, match, part, setting

INITIALIZER_EFFECT = Effect("initializer", "standard deviation of the starting weights")
Distribution = Literal["normal", "uniform"]


@part
class Zero:
    """All zero. Avoid it for weights of a hidden layer: its units stay copies of one another."""

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        return torch.zeros(len(generators), *slot.shape)


@part
class Constant:
    """All `value`. Meant for biases; for weights see `Zero`."""

    only_at_start: ClassVar[tuple[str, ...]] = ("value",)
    value: Number = 0.0

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        return _scale(torch.ones(len(generators), *slot.shape), self.value)


@part
class Normal:
    """N(0, sd²), whatever the fans. The neural-tangent parametrization wants `sd = 1`."""

    acts: ClassVar[Effect] = INITIALIZER_EFFECT
    only_at_start: ClassVar[tuple[str, ...]] = ("sd",)
    sd: Number = setting(default=0.01, gt=0)

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        return _scale(_draws(slot, generators, "normal"), self.sd)


@part
class Uniform:
    """U(−limit, limit), whatever the fans."""

    acts: ClassVar[Effect] = INITIALIZER_EFFECT
    only_at_start: ClassVar[tuple[str, ...]] = ("limit",)
    limit: Number = setting(default=0.05, gt=0)

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        return _scale(_draws(slot, generators, "uniform"), self.limit)


@part
class TruncatedNormal:
    """N(0, sd²) truncated at ± cut · sd; `sd` is that of the whole normal, as in torch."""

    acts: ClassVar[Effect] = INITIALIZER_EFFECT
    only_at_start: ClassVar[tuple[str, ...]] = ("sd",)
    sd: Number = setting(default=0.02, gt=0)
    cut: float = setting(default=2.0, gt=0)

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        share = math.erf(self.cut / math.sqrt(2))

        def draw(generator: Generator) -> Tensor:
            uniform = torch.rand(slot.shape, generator=generator, dtype=torch.float64) * 2 - 1
            return (torch.erfinv(uniform * share) * math.sqrt(2)).clamp(-self.cut, self.cut).float()

        return _scale(_each(draw, generators), self.sd)


@part
class ScaledByFans:
    """The base of initializers whose variance is gain² times a function of the fans."""

    acts: ClassVar[Effect] = INITIALIZER_EFFECT
    only_at_start: ClassVar[tuple[str, ...]] = ("gain",)
    distribution: Distribution = "normal"
    gain: Number = setting(default=1.0, gt=0)

    def variance(self, slot: Slot) -> float:
        raise NotImplementedError

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        """Normal, or uniform between ± √(3 · variance)."""
        variance = self.variance(slot)
        scale = math.sqrt(variance if self.distribution == "normal" else 3 * variance)
        return _scale(_draws(slot, generators, self.distribution), self.gain * scale)


@part
class LeCun(ScaledByFans):
    """Variance gain² / fan_in (LeCun et al. 1998): keeps a signal's size in linear layers."""

    def variance(self, slot: Slot) -> float:
        return 1 / max(1, slot.fan_in)


@part
class Glorot(ScaledByFans):
    """Variance 2 gain² / (fan_in + fan_out), a compromise between passes (Glorot & Bengio 2010)."""

    def variance(self, slot: Slot) -> float:
        return 2 / max(1, slot.fan_in + slot.fan_out)


@part
class He(ScaledByFans):
    """Variance 2 gain² / fan_in (He et al. 2015): for ReLU, which halves the second moment.

    2 / fan_in is the variance; the standard deviation is √(2 / fan_in).
    """

    def variance(self, slot: Slot) -> float:
        return 2 / max(1, slot.fan_in)


@part
class Orthogonal:
    """gain · a random matrix with orthonormal rows or columns, the fewer (Saxe et al. 2014).

    The Q of a normal matrix's QR, signs such that R's diagonal is positive: uniform over orthogonal
    matrices. A slot with more than two axes is reshaped to a matrix with its last axis as columns.
    """

    acts: ClassVar[Effect] = INITIALIZER_EFFECT
    only_at_start: ClassVar[tuple[str, ...]] = ("gain",)
    gain: Number = setting(default=1.0, gt=0)

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        rows, columns = slot.size // slot.shape[-1], slot.shape[-1]

        def draw(generator: Generator) -> Tensor:
            shape = max(rows, columns), min(rows, columns)
            q, r = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64))
            q = q * torch.where(r.diagonal() < 0, -1.0, 1.0)
            return (q if rows >= columns else q.T).reshape(slot.shape).float()

        return _scale(_each(draw, generators), self.gain)


@part
class TorchDefault:
    """U(−1/√fan_in, 1/√fan_in), as torch.nn.Linear draws: variance 1 / (3 fan_in).

    torch writes it as kaiming_uniform, a = √5. Deep ReLU networks lose six-fold variance a layer.
    """

    acts: ClassVar[Effect] = INITIALIZER_EFFECT

    def draw(self, slot: Slot, generators: Sequence[Generator]) -> Tensor:
        return _scale(_draws(slot, generators, "uniform"), 1 / math.sqrt(max(1, slot.fan_in)))


def _draws(slot: Slot, generators: Sequence[Generator], distribution: Distribution) -> Tensor:
    """[P, *shape] from N(0, 1) or U(−1, 1)."""
    if distribution == "normal":
        return _each(lambda g: torch.randn(slot.shape, generator=g), generators)
    return _each(lambda g: torch.empty(slot.shape).uniform_(-1, 1, generator=g), generators)


def _each(draw: Callable[[Generator], Tensor], generators: Sequence[Generator]) -> Tensor:
    return torch.stack([draw(generator) for generator in generators])


def _scale(draws: Tensor, scale: Number) -> Tensor:
    return draws * match(scale, draws)


ALL = (
    (Zero, Constant)
    + (Normal, Uniform, TruncatedNormal)
    + (LeCun, Glorot, He, Orthogonal, TorchDefault)
)

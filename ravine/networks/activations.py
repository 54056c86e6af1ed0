"""Activations, and the gains that keep the size of a signal.

Letters: P networks; x is [P, ..., H].
"""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.effects import Effect
from ravine.layout import VECTOR_SIZE
from ravine.part import Number, match, part, setting

ACTIVATION_EFFECT = Effect("activation", "mean |f(x) − x| relative to |x|")


def elementwise_padded(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(x) elementwise, with bits that do not depend on a row's place in the buffer.

    torch computes the last elements of a buffer with scalar code whose sigmoid, elu, gelu, silu,
    mish and softplus differ from its vector code in the last bit: among rows of 7 × 13 elements up
    to a quarter (mish) changed when the row came last. So each row whose length is no multiple of
    the vector loop's is padded to one and cut again (30 to 100 µs); the usual sizes (batch a
    multiple of 32) cost nothing. Relu, tanh, sin, exp, log1p and plain arithmetic do not have this.
    It holds for one thread: several divide the buffer at other places.
    """
    if not x.numel():
        return f(x)
    size = x[0].numel()
    if size % VECTOR_SIZE == 0:
        return f(x)
    return f(F.pad(x.flatten(1), (0, -size % VECTOR_SIZE)))[:, :size].view(x.shape)


class Nonlinearity:
    """The base of all activations but the identity: their effect, and the gain as an integral."""

    acts: ClassVar[Effect] = ACTIVATION_EFFECT

    def __call__(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def gain(self) -> float:
        """1 / √E[f(z)²] for z ~ N(0, 1), by the trapezoidal rule over ±12; good to seven digits.

        He's √2 for a ReLU; tanh gets 1.5925 (the often quoted 5/3 is another number).
        """
        z = torch.linspace(-12.0, 12.0, 48_001, dtype=torch.float64)
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        return 1 / math.sqrt(float(torch.trapezoid(self(z[None])[0].square() * density, z)))


class Padded(Nonlinearity):
    """The base of activations whose `formula` rows are padded for, see `elementwise_padded`."""

    formula: ClassVar[Callable]

    def __call__(self, x: Tensor) -> Tensor:
        return elementwise_padded(self.formula, x)


@part
class Identity:
    """f(x) = x: layers without a nonlinearity between them are one linear layer."""

    def __call__(self, x: Tensor) -> Tensor:
        return x

    def backward_(self, grad: Tensor, output: Tensor) -> Tensor:
        """The gradient unchanged."""
        return grad

    def gain(self) -> float:
        return 1.0


@part
class Sigmoid(Padded):
    """σ(x) = 1 / (1 + e^(−x)), in (0, 1). Its slope is at most ¼, below 0.007 outside [−5, 5]."""

    formula: ClassVar[Callable] = staticmethod(torch.sigmoid)


@part
class Tanh(Nonlinearity):
    """tanh(x), between −1 and 1, centered at 0."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def backward_(self, grad: Tensor, output: Tensor) -> Tensor:
        """grad · (1 − tanh² x)."""
        return torch.ops.aten.tanh_backward.grad_input(grad, output, grad_input=grad)


@part
class ReLU(Nonlinearity):
    """max(x, 0). A unit whose input is negative for every example gets no gradient: it is dead."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def backward_(self, grad: Tensor, output: Tensor) -> Tensor:
        """grad where x > 0, else 0."""
        return torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=grad)

    def gain(self) -> float:
        return math.sqrt(2.0)  # He et al. 2015


@part
class LeakyReLU(Nonlinearity):
    """x where x > 0, else slope · x (Maas et al. 2013): no unit dies."""

    slope: Number = setting(default=0.01, ge=0, lt=1)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x * match(self.slope, x))

    def gain(self) -> float:
        return math.sqrt(2 / (1 + float(self.slope) ** 2))


@part
class ELU(Padded):
    """x where x > 0, else alpha (e^x − 1) (Clevert et al. 2016)."""

    alpha: float = setting(default=1.0, gt=0)

    def formula(self, x: Tensor) -> Tensor:
        return F.elu(x, self.alpha)


@part
class SELU(Padded):
    """1.0507 x, below 0 1.0507 · 1.6733 (e^x − 1) (Klambauer et al. 2017): keeps the variance 1."""

    formula: ClassVar[Callable] = staticmethod(F.selu)

    def gain(self) -> float:
        return 1.0


@part
class GELU(Padded):
    """x Φ(x), Φ the normal distribution function (Hendrycks & Gimpel 2016); not its tanh form."""

    formula: ClassVar[Callable] = staticmethod(F.gelu)


@part
class SiLU(Padded):
    """x σ(x), also called swish (Elfwing et al. 2018; Ramachandran et al. 2017)."""

    formula: ClassVar[Callable] = staticmethod(F.silu)


@part
class Mish(Padded):
    """x tanh(log(1 + e^x)) (Misra 2019). Three times as slow as a GELU."""

    formula: ClassVar[Callable] = staticmethod(F.mish)


@part
class Softplus(Padded):
    """log(1 + e^x): a smooth ReLU that is always positive."""

    formula: ClassVar[Callable] = staticmethod(F.softplus)


@part
class HardTanh(Nonlinearity):
    """x clipped to [−1, 1]."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.hardtanh(x)


@part
class HardSwish(Nonlinearity):
    """x · min(max(x + 3, 0), 6) / 6 (Howard et al. 2019): a piecewise approximation of SiLU."""

    def __call__(self, x: Tensor) -> Tensor:
        return F.hardswish(x)


@part
class Sine(Nonlinearity):
    """sin(frequency · x) (Sitzmann et al. 2020), for signals that oscillate."""

    frequency: Number = setting(default=1.0, gt=0)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.sin(x * match(self.frequency, x))

    def gain(self) -> float:
        # E[sin²(ωz)] = (1 − e^(−2ω²)) / 2
        return math.sqrt(2 / -math.expm1(-2 * float(self.frequency) ** 2))


ALL = (
    (Identity, Sigmoid, Tanh, HardTanh, Sine)
    + (ReLU, LeakyReLU, ELU, SELU, GELU)
    + (SiLU, Mish, Softplus, HardSwish)
)

"""How noisy gradients are: each example's gradient, its length, and the gradient noise scale.

The noise scale tr Σ / |G|² is about the batch size at which a gradient is half signal, half noise
(McCandlish et al. 2018). G is the gradient over all possible examples, Σ the covariance of one's.

Letters: P networks, B examples, W weights, g_i the gradient of example i's loss, ḡ their mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ravine.errors import InputError
from ravine.layout import Column, Rows
from ravine.protocols import Batch, ForwardContext, HasGradientNorms, Loss

EXAMPLES_AT_ONCE = 64  # by vmap: P · 64 · W numbers of memory


def squared_gradient_norms(
    program: Any,
    loss: Loss,
    rows: Rows,
    batch: Batch,
    *,
    buffers: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """|g_i|² of each example, [P, B], as at test time, since examples must not mix.

    Where every layer with weights is linear, at the price of one gradient and without making the
    g_i: with a_{l−1} what goes into layer l and δ_l = ∂loss/∂(what comes out), ∂W_l = a_{l−1} δ_lᵀ,
    so (Goodfellow 2015)

        |g_i|² = Σ_l (|a_{l−1,i}|² + 1) |δ_{l,i}|²

    Other networks take the way by `per_example_gradients`. Example weights are left out.
    """
    if all(not layer.slots or isinstance(layer, HasGradientNorms) for layer in program.layers):
        return _by_layers(program, loss, rows, batch, buffers or {})
    count = batch.numbers.shape[1]
    squares = []
    for at in range(0, count, EXAMPLES_AT_ONCE):
        here = slice(at, at + EXAMPLES_AT_ONCE)
        fields = (batch.numbers, batch.codes, batch.targets)
        cut = (None if t is None else t[:, here] for t in fields)
        block = Batch(*cut)  # type: ignore[arg-type]
        grads = per_example_gradients(program, loss, rows, block, buffers=buffers)
        squares.append(grads.square().sum(2))
    return torch.cat(squares, 1)


def _by_layers(
    program: Any, loss: Loss, rows: Rows, batch: Batch, buffers: Mapping[str, Tensor]
) -> Tensor:
    networks = rows.shape[0]
    views = program.layout.views(rows)
    leaves = {name: view.detach().requires_grad_() for name, view in views.items()}
    layer_outputs: list[Tensor] = []
    context = ForwardContext(training=False, layer_outputs=layer_outputs, buffers=dict(buffers))
    outputs = program(leaves, batch, context)
    assert batch.targets is not None
    each = loss.per_example(outputs, batch.targets.expand(networks, *batch.targets.shape[1:]))
    places = [i for i, layer in enumerate(program.layers) if layer.slots]
    # examples do not mix, so the gradient of the sum of their losses is each one's own δ
    deltas = torch.autograd.grad(each.sum(), [layer_outputs[i] for i in places])
    found = torch.zeros_like(each, requires_grad=False)
    for i, delta in zip(places, deltas, strict=True):
        x = layer_outputs[i - 1].detach()
        x = x.expand(networks, *x.shape[1:])
        found = found + program.layers[i].squared_gradient_norms(x, delta)
    return found.detach()


def per_example_gradients(
    program: Any,
    loss: Loss,
    rows: Rows,
    batch: Batch,
    *,
    buffers: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """g_i of each example, [P, B, W], unweighted, as at test time, by vmap over examples."""
    networks, count = rows.shape[0], batch.numbers.shape[1]
    assert batch.targets is not None
    fields = [batch.numbers, batch.codes, batch.targets]

    def total_loss(rows: Rows, numbers: Tensor, codes: Tensor | None, targets: Tensor) -> Tensor:
        numbers, targets = numbers[:, None], targets[:, None]
        codes = None if codes is None else codes[:, None]
        context = ForwardContext(training=False, buffers=dict(buffers or {}))
        outputs = program(program.layout.views(rows), Batch(numbers, codes, targets), context)
        return loss.per_example(outputs, targets.expand(networks, *targets.shape[1:])).sum()

    return torch.func.vmap(
        torch.func.grad(total_loss),
        in_dims=(None, *(None if t is None else 1 for t in fields)),
        out_dims=1,
        chunk_size=min(count, EXAMPLES_AT_ONCE),
    )(rows, *fields)


class GradientNoise(NamedTuple):
    """`signal` estimates |G|², `noise` tr Σ, without bias, [P, 1]; `scale` = noise / signal.

    The scale counts examples. It is infinite where noise drowns the signal, which is then ≤ 0.
    """

    signal: Column
    noise: Column

    @property
    def scale(self) -> Column:
        positive = self.signal > 0
        found = self.noise / torch.where(positive, self.signal, 1.0)
        return torch.where(positive, found, torch.where(self.signal.isnan(), torch.nan, torch.inf))


def gradient_noise(lengths: Tensor, grads: Rows) -> GradientNoise:
    """From all |g_i|² [P, B] and the mean gradient ḡ [P, W] over the same B ≥ 2 examples.

        tr Σ = B / (B − 1) (mean |g_i|² − |ḡ|²)        |G|² = |ḡ|² − tr Σ / B

    >>> noise = gradient_noise(torch.tensor([[1.0, 9.0]]), torch.tensor([[2.0]]))  # g = 1 and 3
    >>> noise.noise.item(), noise.signal.item()
    (2.0, 3.0)
    """
    count = lengths.shape[1]
    if count < 2:
        raise InputError("one example", why="the noise of a gradient needs two at least")
    square = grads.double().square().sum(1, keepdim=True)
    noise = (lengths.double().mean(1, keepdim=True) - square) * (count / (count - 1))
    return GradientNoise(square - noise / count, noise)


def two_batches(small: Rows, large: Rows, *, sizes: tuple[int, int]) -> GradientNoise:
    """From the gradients of a small and of a large batch, of `sizes` b < B.

        |G|² = (B |g_B|² − b |g_b|²) / (B − b)        tr Σ = (|g_b|² − |g_B|²) / (1/b − 1/B)

    (McCandlish et al. 2018, appendix A.) Average over many steps before dividing (`NoiseAverage`).
    """
    b, big = sizes
    if not 0 < b < big:
        what = f"batches of {b} and {big} examples"
        raise InputError(what, why="the first must be the smaller one")
    few, many = (g.double().square().sum(1, keepdim=True) for g in (small, large))
    return GradientNoise((big * many - b * few) / (big - b), (few - many) / (1 / b - 1 / big))


@dataclass(frozen=True)
class NoiseAverage:
    """Exponential averages of signal and noise: the ratio of means, not the mean of ratios.

    Both begin at 0 and lack the same factor, so that their ratio needs no correction for it.
    """

    signal: Column
    noise: Column

    @classmethod
    def start(cls, networks: int) -> NoiseAverage:
        return cls(*(torch.zeros(networks, 1, dtype=torch.float64) for _ in range(2)))

    def after(self, new: GradientNoise, *, decay: float = 0.99) -> NoiseAverage:
        """The averages with one more estimate in them."""
        return NoiseAverage(
            decay * self.signal + (1 - decay) * new.signal,
            decay * self.noise + (1 - decay) * new.noise,
        )

    @property
    def scale(self) -> Column:
        return GradientNoise(self.signal, self.noise).scale

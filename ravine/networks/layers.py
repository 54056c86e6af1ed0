"""Layers that compute all networks of a cohort at once: the tensors each needs, and its equation.

Letters: P networks, B examples, F inputs, H units, K columns of codes. Weights are [P, in, out].
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.effects import Meter
from ravine.layout import Slot
from ravine.networks.initializers import Constant, Normal, Uniform, Zero
from ravine.part import Number, match
from ravine.protocols import Activation, Batch, ForwardContext, Initializer, Signature, SlotStreams
from ravine.rng import stream

# with fewer outputs, (Wᵀ xᵀ)ᵀ is two to four times as fast as x W (notebook 2026-11-21)
NARROW_OUTPUTS = 16
# random numbers that dropout draws per network at a time: fewer calls, bounded memory
MAX_DROPOUT_DRAWS = 2**18


def report_change(meter: Meter | None, name: str, before: Tensor, after: Tensor) -> None:
    """Report to a meter the mean |change| of each network's signal, relative to its mean size."""
    if meter is None:
        return
    axes = tuple(range(1, before.dim()))
    meter.add(name, (after - before).abs().mean(axes), before.abs().mean(axes))


def split_networks(x: Tensor) -> tuple[Tensor, ...]:
    """Images [P, B, C, H, W] as P views [B, C, H, W], for operations on one network at a time."""
    flat = x.flatten(0, 1)
    return (flat,) if x.shape[0] == 1 else flat.split(x.shape[1])


def unbind_networks(weights: Tensor) -> Sequence[Tensor]:
    """Weights [P, ...] as P tensors [...]: views, or copies of those that cuDNN cannot read."""
    each = weights.unbind(0)
    if not weights.is_cuda:
        return each
    # cuDNN reads from addresses that are multiples of 16 bytes
    return [one.clone() if one.data_ptr() % 16 else one for one in each]


def join_networks(each: Sequence[Tensor]) -> Tensor:
    """P batches of images [B, C, H, W] as [P, B, C, H, W]; channels last in memory stay there."""
    return (each[0] if len(each) == 1 else torch.cat(list(each))).unflatten(0, (len(each), -1))


class BuiltLayer:
    """The base of layers: each slot starts as its initializer draws it; there are no buffers."""

    initializers: Mapping[Slot, Initializer] = {}
    buffers: dict[str, Tensor] = {}  # stays empty where a layer has none of its own

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(self.initializers)

    def start(self, generators: SlotStreams) -> dict[str, Tensor]:
        drawn = self.initializers.items()
        return {slot.name: one.draw(slot, generators[slot.name]) for slot, one in drawn}


class LinearLayer(BuiltLayer):
    """y = x W · scale + b, with W [P, in, out] and b [P, 1, out].

    `scale` is 1, or 1/√in for the neural-tangent parametrization (Jacot et al. 2018). `lr` and
    `bias_lr` multiply the learning rate of W and b.
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        *,
        initializer: Initializer,
        bias: Initializer | None,
        scale: float = 1.0,
        bias_lr: float = 1.0,
    ):
        fans = {"fan_in": inputs, "fan_out": outputs}
        self.scale = scale
        self.has_bias = bias is not None
        weight = Slot(name=f"{name}.weight", shape=(inputs, outputs), role="weight", **fans)
        self.initializers = {weight: initializer}
        if bias is not None:
            slot = Slot(
                name=f"{name}.bias", shape=(1, outputs), role="bias", lr_multiplier=bias_lr, **fans
            )
            self.initializers[slot] = bias

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        return self.product(x, tensors)

    def product(self, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """x W · scale + b, [P, B, out].

        Elementwise with one input or one output: there BLAS uses another routine for one network
        than for several, and the last bits differ (notebook 2026-11-21).
        """
        weight = tensors[self.slots[0].name]
        if 1 in weight.shape[1:]:
            y = x * (weight if weight.shape[1] == 1 else weight.transpose(1, 2))
            y = y if weight.shape[1] == 1 else y.sum(-1, keepdim=True)
            y = y if self.scale == 1.0 else y * self.scale
            return y + tensors[self.slots[1].name] if self.has_bias else y
        if x.shape[0] != weight.shape[0]:  # one batch for all
            x = x.expand(weight.shape[0], -1, -1)
        if self.has_bias and weight.shape[2] < NARROW_OUTPUTS:
            bias = tensors[self.slots[1].name]
            bias, turned = bias.transpose(1, 2), weight.transpose(1, 2)
            y = torch.baddbmm(bias, turned, x.transpose(1, 2), alpha=self.scale)
            return y.transpose(1, 2).contiguous()
        if self.has_bias:
            return torch.baddbmm(tensors[self.slots[1].name], x, weight, alpha=self.scale)
        y = torch.bmm(x, weight)
        return y if self.scale == 1.0 else y * self.scale

    def backward_(
        self,
        delta: Tensor,
        x: Tensor,
        tensors: dict[str, Tensor],
        grads: dict[str, Tensor],
        *,
        input_gradient: bool,
    ) -> Tensor:
        """Write ∂W = xᵀ δ · scale and ∂b = Σ δ into `grads`, given δ = ∂loss/∂y.

        Returns ∂x = δ Wᵀ · scale if `input_gradient`, which the first layer has no use for.
        """
        weight = tensors[self.slots[0].name]
        if self.has_bias:
            torch.sum(delta, 1, keepdim=True, out=grads[self.slots[1].name])
        if self.scale != 1.0:
            delta = delta * self.scale
        into = grads[self.slots[0].name]
        if 1 in weight.shape[1:]:
            product = (x * delta).sum(1, keepdim=True)
            into.copy_(product if weight.shape[1] == 1 else product.transpose(1, 2))
            if not input_gradient:
                return delta
            if weight.shape[1] == 1:
                return (delta * weight).sum(-1, keepdim=True)
            return delta * weight.transpose(1, 2)
        if weight.shape[2] < NARROW_OUTPUTS:
            into.copy_(torch.bmm(delta.transpose(1, 2), x).transpose(1, 2))
        else:  # not out=into: into a part of the matrix torch multiplies one network after another
            into.copy_(torch.bmm(x.transpose(1, 2), delta))
        return torch.bmm(delta, weight.transpose(1, 2)) if input_gradient else delta

    def squared_gradient_norms(self, x: Tensor, delta: Tensor) -> Tensor:
        """|∂W|² + |∂b|² of each example, [P, B]: ∂W = x δᵀ has rank 1, so |∂W|² = |x|² |δ|²."""
        size = x.square().sum(-1) * self.scale**2
        return delta.square().sum(-1) * (size + 1 if self.has_bias else size)


class ScaleLayer(BuiltLayer):
    """y = x · s, a factor for each feature that starts at 1: a soft selection (RealMLP)."""

    def __init__(self, name: str, features: int, *, lr: float = 6.0):
        slot = Slot(name=f"{name}.scale", shape=(1, features), role="scale", lr_multiplier=lr)
        self.initializers = {slot: Constant(value=1.0)}

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        scale = tensors[self.slots[0].name]
        if context.meter is not None:
            context.meter.add("feature scale", (scale - 1).abs().mean((1, 2)))
        return x * scale


class NormLayer(BuiltLayer):
    """The base of normalizations: γ starts at 1 and β at 0 for each unit."""

    def __init__(self, name: str, units: int, *, eps: float):
        gamma = Slot(name=f"{name}.gamma", shape=(1, units), role="scale")
        beta = Slot(name=f"{name}.beta", shape=(1, units), role="bias")
        self.name, self.eps = name, eps
        self.initializers = {gamma: Constant(value=1.0), beta: Zero()}


class BatchNormLayer(NormLayer):
    """y = γ (x − m) / √(v + eps) + β, m and v those of the batch (Ioffe & Szegedy 2015).

    In training m and v are the batch's (v with 1/B); running estimates r ← (1 − momentum) r +
    momentum m (v with 1/(B − 1), as torch) are used otherwise. A batch of one example has no
    variance: the running values are used, and 0 is reported as the effect. Of images [P, B, C, H,
    W] each channel is normalized over examples and places: B is then B · H · W.
    """

    def __init__(self, name: str, units: int, *, momentum: Number, eps: float):
        super().__init__(name, units, eps=eps)
        self.momentum = momentum
        mean, variance = torch.zeros(1, units), torch.ones(1, units)
        self.buffers = {f"{name}.mean": mean, f"{name}.variance": variance}

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        part = context.part if context.training else None
        if x.dim() == 5 and part is None:
            return self._normalize_images(x, tensors, context)
        mean, variance = (context.buffers[name] for name in self.buffers)
        running = (mean, variance)
        gamma, beta = (tensors[slot.name] for slot in self.slots)
        shape = (*gamma.shape, *[1] * (x.dim() - 3))
        mean, variance = mean.view(shape), variance.view(shape)
        count = (x.shape[1] if part is None else part.total) * x[0, 0, 0].numel()
        if context.training and count > 1:
            axes = (1, *range(3, x.dim()))
            mean = x.mean(axes, keepdim=True)
            variance = (x - mean).square().mean(axes, keepdim=True)
            if part is not None:
                mean, variance = part.pool_moments(mean, variance)
            with torch.no_grad():
                unbiased = variance * (count / (count - 1))
                self._update_running_(running, mean.flatten(2), unbiased.flatten(2))
        y = (x - mean) * torch.rsqrt(variance + self.eps)
        report_change(context.meter, "batch norm", x, x if count == 1 else y)
        return y * gamma.view(shape) + beta.view(shape)

    def _normalize_images(
        self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext
    ) -> Tensor:
        """The same by torch's kernel, network by network: three passes over the numbers, not 20."""
        mean, variance = (context.buffers[name] for name in self.buffers)
        gammas, betas = (unbind_networks(tensors[s.name].flatten(1)) for s in self.slots)
        x = x.expand(len(gammas), *x.shape[1:])
        training = context.training and x[0, :, 0].numel() > 1
        running = (mean, variance)
        means, variances = (unbind_networks(t.flatten(1)) for t in running)
        if training:  # the kernel writes a batch's mean and its variance with 1/(B − 1) into these
            means, variances = ([torch.zeros_like(t) for t in means] for _ in range(2))
        each = zip(split_networks(x), means, variances, gammas, betas, strict=True)
        y = join_networks([F.batch_norm(*one, training, 1.0, self.eps) for one in each])
        if training:
            mean, variance = (torch.stack([*t])[:, None] for t in (means, variances))
            self._update_running_(running, mean, variance)
        if context.meter is not None:
            with torch.no_grad():
                count = x[0, :, 0].numel()
                biased = variance * ((count - 1) / count) if training else variance
                spread = torch.rsqrt(biased + self.eps)[..., None, None]
                after = (x - mean[..., None, None]) * spread
                report_change(context.meter, "batch norm", x, x if count == 1 else after)
        return y

    def _update_running_(
        self, running: tuple[Tensor, Tensor], mean: Tensor, unbiased: Tensor
    ) -> None:
        share = match(self.momentum, mean)
        rest = match(1 - self.momentum, mean)
        running[0].copy_(rest * running[0] + share * mean)
        running[1].copy_(rest * running[1] + share * unbiased)


class LayerNormLayer(NormLayer):
    """y = γ (x − m) / √(v + eps) + β, m and v those of one example's units (Ba et al. 2016).

    Of an image: over all its channels and places, with γ and β for each channel.
    """

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        gamma, beta = (tensors[s.name] for s in self.slots)
        if x.dim() == 5:
            y = F.group_norm(x.flatten(0, 1), 1, eps=self.eps).unflatten(0, x.shape[:2])
            gamma, beta = gamma[..., None, None], beta[..., None, None]
        else:
            y = F.layer_norm(x, x.shape[-1:], eps=self.eps)
        report_change(context.meter, "layer norm", x, y)
        return y * gamma + beta


class ActivationLayer(BuiltLayer):
    """y = f(x) for an activation f."""

    def __init__(self, activation: Activation):
        self.activation = activation

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        y = self.activation(x)
        report_change(context.meter, "activation", x, y)
        return y


class ParametricActivationLayer(BuiltLayer):
    """y = x + α (f(x) − x) with a learned α for each unit that starts at 1 (RealMLP)."""

    def __init__(self, name: str, units: int, activation: Activation, *, lr: float = 0.1):
        self.activation = activation
        slot = Slot(name=f"{name}.alpha", shape=(1, units), role="scale", lr_multiplier=lr)
        self.initializers = {slot: Constant(value=1.0)}

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        y = x + tensors[self.slots[0].name] * (self.activation(x) - x)
        report_change(context.meter, "activation", x, y)
        return y


class DropoutLayer(BuiltLayer):
    """Zeroes each unit with probability `rate` in training, each network from its own stream.

    Inverted: the remaining units are divided by 1 − rate, and nothing is done at test time. Classic
    (Srivastava et al. 2014): the remaining units are unchanged, and outputs are multiplied by 1 −
    rate at test time. Both are equal in expectation. Networks that differ only in the rate drop
    nested sets of units, so comparisons of rates are paired. `spatial` drops whole channels of
    images (Tompson et al. 2015): neighboring pixels carry much the same information.
    """

    def __init__(self, name: str, *, rate: Number, inverted: bool = True, spatial: bool = False):
        self.name, self.rate, self.inverted, self.spatial = name, rate, inverted, spatial
        self._drawn: tuple[Any, int, Tensor] | None = None

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        if not context.training:
            return x if self.inverted else x * match(1 - self.rate, x)
        dropped = self._uniform(x, context) < match(self.rate, x)
        if context.meter is not None:
            context.meter.add("dropout", dropped.double().flatten(1).mean(1))
        kept = (~dropped).to(x.dtype)  # a product: masked_fill with a mask takes ten times as long
        return x * (kept * match(1 / (1 - self.rate), x) if self.inverted else kept)

    def _uniform(self, x: Tensor, context: ForwardContext) -> Tensor:
        """Uniform numbers [P, B, H] of this step, of a block that is drawn for several steps."""
        units = x.shape[2:]
        if self.spatial:
            units = (units[0], *[1] * len(units[1:]))
        block = max(1, min(16, MAX_DROPOUT_DRAWS // max(1, context.batch * math.prod(units))))
        index, place = divmod(context.step, block)
        if self._drawn is None or self._drawn[0] is not context.seeds or self._drawn[1] != index:
            drawn = torch.empty(len(context.seeds), block, context.batch, *units)
            for row, seed in zip(drawn, context.seeds, strict=True):
                row.uniform_(generator=stream(seed, self.name, index))
            self._drawn = (context.seeds, index, drawn.to(x.device))
        first = 0 if context.part is None else context.part.first
        return self._drawn[2][:, place, first : first + x.shape[1]]


class ColumnsLayer:
    """Turns a table's row into inputs: its numbers, perhaps embedded, and embeddings of its codes.

    Numbers at the places `flags` are never embedded: they have only two or three values. Code 0
    stands for a category that was not seen in training; its embedding is zero and stays zero.
    """

    def __init__(self, signature: Signature, *, size: int, embed_numbers: Any = None):
        numbers, codes, flags = signature.numbers, signature.codes, signature.flags
        self.codes = codes
        self.size = size
        self.embed_numbers = embed_numbers
        self.slots: tuple[Slot, ...] = () if embed_numbers is None else embed_numbers.slots
        self.buffers: dict[str, Tensor] = {}
        self.outputs = numbers if embed_numbers is None else embed_numbers.outputs + len(flags)
        self.flags = torch.tensor(flags, dtype=torch.int64)
        measured = [i for i in range(numbers) if i not in set(flags)]
        self.measured = torch.tensor(measured, dtype=torch.int64)
        if codes:
            fans = {"fan_in": 1, "fan_out": size}
            slot = Slot(name="columns.table", shape=(sum(codes), size), role="embedding", **fans)
            self.slots = (*self.slots, slot)
            self.offsets = torch.tensor([0, *codes[:-1]]).cumsum(0)
            self.outputs += len(codes) * size

    def start(self, generators: SlotStreams) -> dict[str, Tensor]:
        started = {} if self.embed_numbers is None else self.embed_numbers.start(generators)
        if self.codes:
            initializer = Normal(sd=1 / math.sqrt(self.size))
            table = initializer.draw(self.slots[-1], generators["columns.table"])
            table[:, self.offsets] = 0.0
            started["columns.table"] = table
        return started

    def __call__(self, batch: Batch, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        x = batch.numbers
        if self.embed_numbers is not None:
            x = self._embed_numbers(x, tensors, context)
        if not self.codes or batch.codes is None:
            return x
        table = tensors["columns.table"]
        networks, examples = table.shape[0], batch.codes.shape[1]
        codes = batch.codes + self.offsets.to(batch.codes.device)
        codes = codes.expand(networks, -1, -1).flatten(1)
        embedded = table.gather(1, codes[..., None].expand(-1, -1, self.size))
        seen = (batch.codes > 0).expand(networks, -1, -1).flatten(1)[..., None]
        embedded = embedded.masked_fill(~seen, 0.0).view(networks, examples, -1)
        if context.meter is not None:
            context.meter.add("embedding", embedded.abs().mean((1, 2)))
        return torch.cat([x.expand(networks, -1, -1), embedded], -1)

    def _embed_numbers(
        self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext
    ) -> Tensor:
        """Measured numbers embedded, followed by the flags as they are."""
        if len(self.flags) == 0:
            return self.embed_numbers(x, tensors, context)
        measured = x.index_select(-1, self.measured.to(x.device))
        embedded = self.embed_numbers(measured, tensors, context)
        flags = x.index_select(-1, self.flags.to(x.device))
        return torch.cat([embedded, flags.expand(len(embedded), -1, -1)], -1)


class PeriodicNumbers(BuiltLayer):
    """Each number x becomes [x, W2 cos(2π (w1 x + b1)) + b2], by its own weights (RealMLP's PBLD).

    `frequencies` cosines make `outputs_each` − 1 values; w1 ~ N(0, sigma²), b1 ~ U(−π, π)/2π.
    """

    def __init__(
        self, features: int, *, frequencies: int, outputs_each: int, sigma: float, lr: float
    ):
        waves = frequencies
        mixed = outputs_each - 1
        slot = partial(Slot, role="embedding", lr_multiplier=lr, fan_in=waves, fan_out=mixed)
        of_mixing = Uniform(limit=1 / math.sqrt(waves))
        self.initializers = {
            slot(name="numbers.w1", shape=(features, 1, waves)): Normal(sd=sigma),
            slot(name="numbers.b1", shape=(features, 1, waves)): Uniform(limit=0.5),
            slot(name="numbers.w2", shape=(features, waves, mixed)): of_mixing,
            slot(name="numbers.b2", shape=(features, 1, mixed)): of_mixing,
        }
        self.outputs = features * outputs_each

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        w1, b1, w2, b2 = (tensors[s.name] for s in self.slots)
        networks, examples = w1.shape[0], x.shape[1]
        by_feature = x.expand(networks, -1, -1).transpose(1, 2)[..., None]  # [P, F, B, 1]
        waves = torch.cos(2 * math.pi * (w1 * by_feature + b1))
        mixed = torch.matmul(waves, w2) + b2  # [P, F, B, each - 1]
        if context.meter is not None:
            context.meter.add("number embedding", mixed.abs().mean((1, 2, 3)))
        return torch.cat([by_feature, mixed], -1).transpose(1, 2).reshape(networks, examples, -1)


class PiecewiseLinearNumbers(BuiltLayer):
    """Each number becomes its position in each of `bins` intervals, in [0, 1], then a linear map.

    Gorishniy et al. 2022. The edges are normal quantiles: even after `scale = "quantile"`.
    """

    def __init__(self, features: int, *, bins: int, outputs_each: int, lr: float):
        start = Uniform(limit=1 / math.sqrt(bins))
        slot = partial(Slot, role="embedding", lr_multiplier=lr, fan_in=bins, fan_out=outputs_each)
        self.initializers = {
            slot(name="numbers.weight", shape=(features, bins, outputs_each)): start,
            slot(name="numbers.bias", shape=(features, 1, outputs_each)): start,
        }
        inner = torch.special.ndtri(torch.arange(1, bins, dtype=torch.float64) / bins)
        edge = inner[-1:] + 1.0
        edges = torch.cat([-edge, inner, edge]).float()
        self.low = edges[:-1]
        self.width = edges.diff()
        self.outputs = features * outputs_each

    def __call__(self, x: Tensor, tensors: dict[str, Tensor], context: ForwardContext) -> Tensor:
        weight, bias = (tensors[s.name] for s in self.slots)
        networks, examples = weight.shape[0], x.shape[1]
        places = (x[..., None] - self.low.to(x)) / self.width.to(x)  # [P or 1, B, F, bins]
        first, last = places[..., :1].clamp(max=1), places[..., -1:].clamp(min=0)
        places = torch.cat([first, places[..., 1:-1].clamp(0, 1), last], -1)
        places = places.expand(networks, -1, -1, -1).transpose(1, 2)
        mixed = torch.relu(torch.matmul(places, weight) + bias)
        if context.meter is not None:
            context.meter.add("number embedding", mixed.abs().mean((1, 2, 3)))
        return mixed.transpose(1, 2).reshape(networks, examples, -1)

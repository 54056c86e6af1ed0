"""Gradients of plain networks without autograd: linear layers, with ReLU, tanh or nothing between.

    forward    z_l = a_{l−1} W_l + b_l        a_l = f(z_l)
    backward   δ_L = ∂loss/∂z_L     δ_{l−1} = (δ_l W_lᵀ) f′     ∂W_l = a_{l−1}ᵀ δ_l     ∂b_l = Σ δ_l

The same products as autograd's, without its bookkeeping: half the time of a step of one small
network (notebook 2026-11-21). Whether a network takes this path depends on its layers and its loss
alone, never on the other networks in the batch. Letters: P networks, B examples, C outputs.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from ravine.effects import Meter
from ravine.networks.batched import BatchedNetwork
from ravine.networks.layers import ActivationLayer, ColumnsLayer, LinearLayer, report_change
from ravine.protocols import Batch, Loss


@runtime_checkable
class LossWithGradient(Protocol):
    """A loss that computes its gradient too."""

    def losses_and_gradient(
        self, outputs: Tensor, targets: Tensor, meter: Meter | None = None
    ) -> tuple[Tensor, Tensor]:
        """The losses [P, B] and ∂loss/∂outputs [P, B, C]."""
        ...


@runtime_checkable
class ActivationWithGradient(Protocol):
    """An activation that computes its gradient from its output."""

    def backward_(self, grad: Tensor, output: Tensor) -> Tensor:
        """grad · f′(x), given f(x), written into `grad`."""
        ...


class ManualBackprop:
    """The gradients of a network to which this `applies`."""

    def __init__(self, program: BatchedNetwork, loss: LossWithGradient):
        self.loss = loss
        self.blocks: list[tuple[LinearLayer, ActivationLayer | None]] = []
        for layer in program.layers[1:]:
            if isinstance(layer, LinearLayer):
                self.blocks.append((layer, None))
            elif isinstance(layer, ActivationLayer):
                self.blocks[-1] = (self.blocks[-1][0], layer)

    @staticmethod
    def applies(program: BatchedNetwork, loss: Loss | None) -> bool:
        """Whether every layer and the loss compute their own gradients."""
        first, *rest = program.layers
        plain = isinstance(first, ColumnsLayer) and first.embed_numbers is None and not first.codes
        chain = all(
            isinstance(x, LinearLayer)
            or isinstance(x, ActivationLayer)
            and isinstance(x.activation, ActivationWithGradient)
            for x in rest
        )
        ends = isinstance(rest[0], LinearLayer) and isinstance(rest[-1], LinearLayer)
        return plain and chain and ends and isinstance(loss, LossWithGradient)

    def __call__(
        self,
        tensors: dict[str, Tensor],
        grads: dict[str, Tensor],
        batch: Batch,
        *,
        share: Tensor | float,
        meter: Meter | None,
    ) -> Tensor:
        """Write the gradient of Σ share · loss into `grads`; return the losses [P, B]."""
        inputs = []
        networks = next(iter(tensors.values())).shape[0]
        x = batch.numbers
        if x.shape[0] != networks:
            x = x.expand(networks, -1, -1)
        for linear, activate in self.blocks:
            inputs.append(x)
            z = linear.product(x, tensors)
            x = z if activate is None else activate.activation(z)
            if activate is not None:
                report_change(meter, "activation", z, x)
        targets = batch.targets
        assert targets is not None
        if targets.shape[0] != networks:
            targets = targets.expand(networks, *targets.shape[1:])
        losses, delta = self.loss.losses_and_gradient(x, targets, meter)
        delta = delta * (share[..., None] if isinstance(share, Tensor) else share)
        for i in range(len(self.blocks) - 1, -1, -1):
            linear, activate = self.blocks[i]
            if activate is not None:
                after = inputs[i + 1]
                delta = activate.activation.backward_(delta, after)  # type: ignore[attr-defined]
            delta = linear.backward_(delta, inputs[i], tensors, grads, input_gradient=i > 0)
        return losses

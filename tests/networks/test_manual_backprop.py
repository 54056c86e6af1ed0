"""Gradients worked out by hand equal autograd's."""

import dataclasses

import pytest
import torch

from ravine.losses import BinaryCrossEntropy, Huber, SoftmaxCrossEntropy, SquaredError
from ravine.networks.activations import Identity, ReLU, Sigmoid, Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Normal
from ravine.networks.layer_parts import BatchNorm, Dropout
from ravine.networks.manual_backprop import ManualBackprop
from ravine.networks.mlp import Mlp
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext, Signature

P, B, F = 3, 11, 5
LOSSES = {
    "softmax": (SoftmaxCrossEntropy(), 4),
    "smoothed softmax": (SoftmaxCrossEntropy(label_smoothing=0.2), 4),
    "binary": (BinaryCrossEntropy(), 1),
    "labels": (BinaryCrossEntropy(label_smoothing=0.1), 3),
    "squared": (SquaredError(), 2),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize(
    "network",
    [
        Mlp(hidden=(7, 6)),
        Mlp(hidden=()),
        Mlp(hidden=(1, 4), activation=Tanh()),
        Mlp(hidden=(6,), activation=Identity(), parametrization="ntk", initializer=Normal(sd=1.0)),
    ],
    ids=repr,
)
def test_equal_to_autograd(network, loss_name, weighted):
    loss, outputs = LOSSES[loss_name]
    program = BatchedNetwork(stack([network] * P), Signature(F, (), outputs))
    stacked = stack([loss] * P)
    rows = program.start(range(P))[0].double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(P, B, F, dtype=torch.float64, generator=generator)
    if loss_name.endswith("softmax"):
        targets = torch.randint(4, (P, B), generator=generator)
    else:
        targets = torch.rand(P, B, outputs, dtype=torch.float64, generator=generator).round()
    weights = torch.rand(P, B, dtype=torch.float64, generator=generator) if weighted else None

    leaves = {n: v.detach().requires_grad_() for n, v in program.layout.views(rows).items()}
    each = stacked.per_example(program(leaves, Batch(x), ForwardContext(training=True)), targets)
    share = torch.full_like(each, 1 / B) * (1 if weights is None else weights)
    expected = torch.autograd.grad(each, list(leaves.values()), share)

    assert ManualBackprop.applies(program, stacked)
    grads = program.layout.views(torch.full_like(rows, 7.0))
    batch = Batch(x, None, targets, weights)
    share = 1 / B if weights is None else weights / B
    views = program.layout.views(rows)
    losses = ManualBackprop(program, stacked)(views, grads, batch, share=share, meter=None)
    torch.testing.assert_close(losses, each.detach(), rtol=1e-12, atol=1e-13)
    for (name, found), wanted in zip(grads.items(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-13, msg=name)


def test_other_layers_and_losses_are_left_to_autograd():
    def applies(network, loss=SoftmaxCrossEntropy(), signature=Signature(F, (), 4)):  # noqa: B008
        return ManualBackprop.applies(BatchedNetwork(network, signature), loss)

    plain = Mlp(hidden=(7,))
    assert applies(plain) and applies(dataclasses.replace(plain, activation=ReLU()))
    assert not applies(plain, Huber())
    assert not applies(plain, signature=Signature(F, (3,), 4))
    for change in (
        {"activation": Sigmoid()},
        {"norm": BatchNorm()},
        {"dropout": Dropout()},
        {"scale_inputs": True},
    ):
        assert not applies(dataclasses.replace(plain, **change))

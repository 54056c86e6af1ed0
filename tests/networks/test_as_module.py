"""A network as a plain module gives what the network gives, under torch's own layers."""

import pytest
import torch
from torch import nn

from ravine.networks.activations import GELU, SELU, LeakyReLU, Tanh
from ravine.networks.as_module import as_module
from ravine.networks.batched import BatchedNetwork
from ravine.networks.conv import Conv, MaxPool, ResNet
from ravine.networks.layer_parts import (
    BatchNorm,
    ClassicDropout,
    Dropout,
    LayerNorm,
    Periodic,
    PiecewiseLinear,
    SpatialDropout,
)
from ravine.networks.mlp import Mlp
from ravine.networks.torch_module import TorchModule
from ravine.protocols import Batch, ForwardContext, ImageShape, Signature

TABLE = Signature(numbers=5, codes=(4, 3), outputs=3, flags=(1,))
IMAGES = Signature(
    numbers=0, codes=(), outputs=4, image=ImageShape(3, 8, 8, (0.5,) * 3, (0.2,) * 3)
)


def own(signature):
    picture = signature.image
    if picture is not None:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    return nn.Sequential(nn.Linear(signature.numbers, 8), nn.Tanh(), nn.Linear(8, 3))


NETWORKS = {
    "mlp": (Mlp(hidden=(8, 6), activation=Tanh()), TABLE),
    "linear": (Mlp(hidden=()), TABLE),
    "batch norm": (Mlp(hidden=(8, 6), norm=BatchNorm(momentum=0.2), activation=GELU()), TABLE),
    "layer norm": (Mlp(hidden=(8,), norm=LayerNorm(), dropout=Dropout(rate=0.3)), TABLE),
    "periodic": (Mlp(hidden=(8,), numbers=Periodic(), activation=SELU(), parametric=True), TABLE),
    "piecewise": (Mlp(hidden=(8,), numbers=PiecewiseLinear(), scale_inputs=True), TABLE),
    "classic dropout": (Mlp(hidden=(8,), dropout=ClassicDropout(rate=0.4)), TABLE),
    "pixels": (Mlp(hidden=(8,)), IMAGES),
    "convolutions": (
        Conv(channels=(4, 6), pool=MaxPool(), spatial_dropout=SpatialDropout(rate=0.1)),
        IMAGES,
    ),
    "separable": (Conv(channels=(4,), separable=True, convolutions=2, norm=LayerNorm()), IMAGES),
    "residual": (ResNet(channels=(4, 8), blocks=1, activation=LeakyReLU()), IMAGES),
    "own": (TorchModule(make=own), TABLE),
    "own of images": (TorchModule(make=own), IMAGES),
}


def examples(signature, count=12):
    generator = torch.Generator().manual_seed(0)
    if signature.image is not None:
        return torch.rand(count, 3, 8, 8, generator=generator)
    numbers = torch.randn(count, 5, generator=generator)
    codes = [torch.randint(0, k, (count, 1), generator=generator).float() for k in signature.codes]
    return torch.cat([numbers, *codes], 1)


def batch_of(x, signature):
    if signature.image is not None:
        return Batch(x[None])
    return Batch(x[None, :, :5], x[None, :, 5:].long())


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("network", "signature"), NETWORKS.values(), ids=NETWORKS.keys())
def test_a_module_gives_what_the_network_gives(network, signature, training):
    built = BatchedNetwork(network, signature)
    weights, buffers = built.start([7])
    if training and any(getattr(network, name, None) for name in ("dropout", "spatial_dropout")):
        training = False  # dropout draws from another stream
    module = as_module(built, signature, weights, buffers).train(training)
    x = examples(signature)
    context = ForwardContext(training=training, seeds=[7], batch=len(x), buffers=buffers)
    expected = built(built.layout.views(weights), batch_of(x, signature), context)[0]
    assert torch.allclose(module(x), expected, atol=1e-5)


def test_modules_have_the_names_of_slots_and_are_torchs_own():
    network, signature = Mlp(hidden=(8, 6), norm=LayerNorm(), dropout=Dropout(rate=0.5)), TABLE
    built = BatchedNetwork(network, signature)
    module = as_module(built, signature, *built.start([0]))
    kinds = {name: type(m) for name, m in module.named_modules()}
    assert kinds["hidden.0"] is kinds["hidden.1"] is kinds["output"] is nn.Linear
    assert issubclass(kinds["hidden.1.norm"], nn.LayerNorm)
    assert kinds["hidden.0.dropout"] is nn.Dropout
    assert {n.rpartition(".")[0] for n, _ in module.named_parameters()} >= {"hidden.0", "output"}


def test_gradients_are_those_of_the_network():
    network, signature = NETWORKS["batch norm"]
    built = BatchedNetwork(network, signature)
    weights, buffers = built.start([3])
    x, y = examples(signature), torch.randint(0, 3, (12,))
    module = as_module(built, signature, weights, buffers)
    nn.functional.cross_entropy(module(x), y).backward()
    leaf = weights.clone().requires_grad_()
    context = ForwardContext(training=True, seeds=[3], batch=12, buffers=buffers)
    out = built(built.layout.views(leaf), batch_of(x, signature), context)[0]
    nn.functional.cross_entropy(out, y).backward()
    expected = built.layout.views(leaf.grad)["hidden.1.weight"][0]
    assert torch.allclose(module.get_submodule("hidden.1").weight.grad.T, expected, atol=1e-6)

"""Hand-batched networks against torch.nn, one network after another."""

import math

import pytest
import torch
from torch import nn

from ravine.effects import Meter
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Glorot
from ravine.networks.layer_parts import (
    BatchNorm,
    ClassicDropout,
    Dropout,
    LayerNorm,
    Periodic,
    PiecewiseLinear,
)
from ravine.networks.mlp import Mlp
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext, Signature

P, B, F = 3, 17, 5


NUMBERS = Signature(F, (), 4)


def built(network, signature=NUMBERS):
    program = BatchedNetwork(stack([network] * P), signature)
    rows, buffers = program.start(range(P))
    return program, rows.double(), {n: b.double() for n, b in buffers.items()}


def twin(network, tensors, p):
    """The same network in torch.nn, with the weights of network p."""
    norms = {BatchNorm: nn.BatchNorm1d, LayerNorm: nn.LayerNorm}
    layers, width = [], F
    for i, units in enumerate((*network.hidden, 4)):
        last = i == len(network.hidden)
        name = "output" if last else f"hidden.{i}"
        linear = nn.Linear(width, units, bias=f"{name}.bias" in tensors).double()
        linear.weight.data = tensors[f"{name}.weight"][p].T.clone()
        if linear.bias is not None:
            linear.bias.data = tensors[f"{name}.bias"][p, 0].clone()
        layers.append(linear)
        if not last and network.norm is not None:
            norm = norms[type(network.norm)](units).double()
            norm.weight.data = tensors[f"{name}.norm.gamma"][p, 0].clone()
            norm.bias.data = tensors[f"{name}.norm.beta"][p, 0].clone()
            layers.append(norm)
        if not last:
            layers.append(nn.Tanh())
        width = units
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    "norm", [None, BatchNorm(), LayerNorm()], ids=["plain", "batch norm", "layer norm"]
)
def test_outputs_and_gradients_equal_torch_nn(norm):
    network = Mlp(hidden=(7, 6), activation=Tanh(), initializer=Glorot(), norm=norm)
    program, rows, buffers = built(network)
    leaves = {n: v.requires_grad_() for n, v in program.layout.views(rows).items()}
    x = torch.randn(P, B, F, dtype=torch.float64)
    now = ForwardContext(training=True, seeds=range(P), batch=B, buffers=buffers)
    outputs = program(leaves, Batch(x), now)
    grads = torch.autograd.grad(outputs.square().mean((1, 2)).sum(), list(leaves.values()))
    found = dict(zip(leaves, grads, strict=True))
    for p in range(P):
        net = twin(network, {n: v.detach() for n, v in leaves.items()}, p)
        expected = net(x[p])
        torch.testing.assert_close(outputs[p], expected, rtol=1e-11, atol=1e-12)
        expected.square().mean().backward()
        torch.testing.assert_close(
            found["hidden.0.weight"][p], net[0].weight.grad.T, rtol=1e-9, atol=1e-12
        )
        if isinstance(norm, BatchNorm):  # running statistics, and the form used at test time
            torch.testing.assert_close(buffers["hidden.0.norm.mean"][p, 0], net[1].running_mean)
            torch.testing.assert_close(buffers["hidden.0.norm.variance"][p, 0], net[1].running_var)
            net.eval()
            judged = program(leaves, Batch(x), ForwardContext(training=False, buffers=buffers))
            torch.testing.assert_close(judged[p], net(x[p]), rtol=1e-11, atol=1e-12)


def test_a_bias_before_batch_norm_is_left_out():
    program, _, _ = built(Mlp(hidden=(7,), norm=BatchNorm()))
    assert "hidden.0.bias" not in program.layout.spans and "output.bias" in program.layout.spans


def test_dropout_and_its_classic_form_are_equal_in_expectation():
    x = torch.rand(P, 4000, 50) + 0.5
    for cls, trained, judged in ((Dropout, 1.0, 1.0), (ClassicDropout, 0.7, 0.7)):
        layer = stack([cls(rate=0.3)] * P).layer("drop")
        y = layer(x, {}, ForwardContext(training=True, seeds=(0, 1, 2), step=3, batch=4000))
        assert abs((y / x).mean().item() - trained) < 0.01
        assert abs((y == 0).float().mean().item() - 0.3) < 0.01
        assert torch.allclose(
            layer(x, {}, ForwardContext(training=False)) / x, torch.tensor(judged)
        )


def test_dropout_masks_differ_by_network_and_step_and_are_nested_in_the_rate():
    x = torch.ones(2, 8, 30)
    low, high = (stack([Dropout(rate=r)] * 2).layer("drop") for r in (0.2, 0.6))
    now = [ForwardContext(training=True, seeds=(0, 1), step=s, batch=8) for s in (0, 1)]
    dropped = [layer(x, {}, n) == 0 for layer in (low, high) for n in now]
    assert not torch.equal(dropped[0][0], dropped[0][1]) and not torch.equal(dropped[0], dropped[1])
    assert (dropped[0] <= dropped[2]).all(), "what a low rate drops, a higher rate drops too"
    again = stack([Dropout(rate=0.2)] * 2).layer("drop")(x, {}, now[1]) == 0
    assert torch.equal(again, dropped[1]), "a step's mask does not depend on the steps before it"


def test_embeddings_of_unseen_categories_are_zero_and_get_no_gradient():
    program, rows, _ = built(Mlp(hidden=(), embedding=3), Signature(0, (4, 6), 2))
    leaves = {n: v.requires_grad_() for n, v in program.layout.views(rows).items()}
    codes = torch.tensor([[[0, 0], [1, 5], [3, 0]]]).expand(P, -1, -1)
    batch = Batch(torch.zeros(P, 3, 0, dtype=torch.float64), codes)
    x = program.layers[0](batch, leaves, ForwardContext(training=True))
    assert x.shape == (P, 3, 6) and (x[:, 0] == 0).all() and (x[:, 1] != 0).any()
    table = leaves["columns.table"]
    assert torch.equal(x[:, 1, 3:], table[:, 4 + 5]) and torch.equal(x[:, 2, :3], table[:, 3])
    (grad,) = torch.autograd.grad(x.sum(), table)
    assert (grad[:, [0, 4]] == 0).all() and (grad[:, [1, 3, 9]] == 1).all()


def test_periodic_numbers_follow_their_equation():
    program, rows, _ = built(Mlp(hidden=(), numbers=Periodic(frequencies=4, outputs=3)))
    tensors = program.layout.views(rows)
    x = torch.randn(P, B, F, dtype=torch.float64)
    y = program.layers[0](Batch(x), tensors, ForwardContext(training=True)).view(P, B, F, 3)
    w1, b1, w2, b2 = (tensors[f"numbers.{n}"] for n in ("w1", "b1", "w2", "b2"))
    f, p = 2, 1
    waves = torch.cos(2 * torch.pi * (x[p, :, f, None] * w1[p, f, 0] + b1[p, f, 0]))
    torch.testing.assert_close(y[p, :, f, 0], x[p, :, f])
    torch.testing.assert_close(y[p, :, f, 1:], waves @ w2[p, f] + b2[p, f, 0])


def test_piecewise_linear_numbers_can_tell_intervals_apart_and_stay_linear_outside():
    layer = PiecewiseLinear(bins=4, outputs=2).layer(1)
    tensors = {
        "numbers.weight": torch.eye(4)[None, None, :, :2] * 0 + 1.0,
        "numbers.bias": torch.zeros(1, 1, 1, 2),
    }
    x = torch.tensor([[[-9.0], [-0.9], [0.0], [0.9], [9.0]]])
    y = layer(x, tensors, ForwardContext(training=False))[0, :, 0]
    assert y[1] < y[2] < y[3] < y[4] and y[2] == 2.0, "two of four intervals lie below 0"


def test_numbers_of_few_values_are_not_embedded():
    signature = Signature(4, (), 1, flags=(1, 3))
    program = BatchedNetwork(Mlp(hidden=(), numbers=Periodic(outputs=3)), signature)
    rows, buffers = program.start([0, 1])
    tapped: list = []
    x = torch.randn(1, 5, 4)
    program(
        program.layout.views(rows),
        Batch(x),
        ForwardContext(training=False, buffers=buffers, layer_outputs=tapped),
    )
    assert tapped[0].shape == (2, 5, 2 * 3 + 2)
    assert torch.equal(tapped[0][..., -2:], x[..., [1, 3]].expand(2, -1, -1))


@pytest.mark.parametrize("shape", [(2, 1, 3), (2, 1, 3, 1, 1), (2, 5, 3), (2, 1, 3, 2, 2)])
def test_batch_norm_reports_an_effect_where_a_batch_has_a_variance(shape):
    layer = BatchNorm().layer("norm", 3)
    tensors = {"norm.gamma": torch.ones(2, 1, 3), "norm.beta": torch.zeros(2, 1, 3)}
    buffers = {name: value.expand(2, 1, 3).clone() for name, value in layer.buffers.items()}
    meter = Meter(2)
    context = ForwardContext(training=True, seeds=[0, 1], batch=1, buffers=buffers, meter=meter)
    layer(torch.randn(shape, generator=torch.Generator().manual_seed(0)), tensors, context)
    alone = shape[1] * math.prod(shape[3:]) == 1
    assert ((meter.means()["batch norm"] == 0) == alone).all()

"""Convolutional networks against torch.nn, one network after another."""

import dataclasses

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from ravine import catalog
from ravine.effects import Meter
from ravine.errors import RecipeError
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.conv import AveragePool, Conv, MaxPool, ResNet
from ravine.networks.initializers import Orthogonal
from ravine.networks.layer_parts import BatchNorm, Dropout, LayerNorm, SpatialDropout
from ravine.networks.mlp import Mlp
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext, ImageShape, Signature
from ravine.training.train import open_run, train

P, B = 3, 6
SHAPE = ImageShape(3, 11, 9, (0.4, 0.5, 0.6), (0.2, 0.3, 0.0))
PICTURES = Signature(0, (), 4, SHAPE)


def built(network, signature=PICTURES, networks=P):
    program = BatchedNetwork(stack([network] * networks), signature)
    rows, buffers = program.start(range(networks))
    return program, rows.double(), {n: b.double() for n, b in buffers.items()}


def pictures(networks=P, generator=0):
    made = torch.Generator().manual_seed(generator)
    return torch.randint(0, 256, (networks, B, 3, 11, 9), dtype=torch.uint8, generator=made)


class Standardize(nn.Module):
    def forward(self, x):
        mean, sd = (
            torch.tensor(v, dtype=torch.float64).view(-1, 1, 1)
            for v in (SHAPE.mean, (0.2, 0.3, 1.0))
        )
        return (x.double() / 255 - mean) / sd


def put(module, tensors, name, p):
    """A torch module with the weights of network p under a name."""
    weight = tensors[
        f"{name}.gamma"
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d, nn.GroupNorm))
        else f"{name}.weight"
    ][p]
    bias = tensors.get(f"{name}.beta" if f"{name}.beta" in tensors else f"{name}.bias")
    module = module.double()
    module.weight.data = (
        (weight.T if isinstance(module, nn.Linear) else weight).reshape(module.weight.shape).clone()
    )
    if bias is not None and module.bias is not None:
        module.bias.data = bias[p].reshape(-1).clone()
    return module


def conv_twin(tensors, p, norm):
    """Conv(channels=(5, 7), convolutions=2, kernel=3, hidden=(6,)) in torch.nn."""
    layers, inputs = [Standardize()], 3
    for s, channels in enumerate((5, 7)):
        for c in range(2):
            name = f"conv.{s}.{c}"
            layers.append(
                put(
                    nn.Conv2d(inputs, channels, 3, padding=1, bias=norm != "batch"),
                    tensors,
                    name,
                    p,
                )
            )
            if norm == "batch":
                layers.append(put(nn.BatchNorm2d(channels), tensors, f"{name}.norm", p))
            if norm == "layer":
                layers.append(put(nn.GroupNorm(1, channels), tensors, f"{name}.norm", p))
            layers.append(nn.Tanh())
            inputs = channels
        layers.append(nn.MaxPool2d(2))
    layers += [
        nn.Flatten(),
        put(nn.Linear(7 * 2 * 2, 6, bias=norm != "batch"), tensors, "hidden.0", p),
    ]
    if norm == "batch":
        layers.append(put(nn.BatchNorm1d(6), tensors, "hidden.0.norm", p))
    if norm == "layer":
        layer = nn.LayerNorm(6).double()
        layer.weight.data, layer.bias.data = (
            tensors[f"hidden.0.norm.{n}"][p, 0].clone() for n in ("gamma", "beta")
        )
        layers.append(layer)
    return nn.Sequential(*layers, nn.Tanh(), put(nn.Linear(6, 4), tensors, "output", p))


def agree(network, twin_of, names):
    """Outputs, gradients, a step of gradient descent, running statistics and judged outputs equal
    the twins'.
    """
    program, rows, buffers = built(network)
    generator = torch.Generator().manual_seed(1)
    rows = rows + 0.1 * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
    leaves = {n: v.detach().requires_grad_() for n, v in program.layout.views(rows).items()}
    x = pictures()
    now = ForwardContext(training=True, seeds=range(P), batch=B, buffers=buffers)
    outputs = program(leaves, Batch(x), now)
    grads = torch.autograd.grad(outputs.square().mean((1, 2)).sum(), list(leaves.values()))
    found = dict(zip(leaves, grads, strict=True))
    stepped = {n: v.detach() - 0.1 * found[n] for n, v in leaves.items()}
    later = program(stepped, Batch(x), dataclasses.replace(now, training=False))
    for p in range(P):
        net = twin_of({n: v.detach() for n, v in leaves.items()}, p)
        expected = net(x[p])
        torch.testing.assert_close(outputs[p], expected, rtol=1e-10, atol=1e-10)
        expected.square().mean().backward()
        for name, place in names.items():
            parameter = net.get_submodule(place).weight
            grad = parameter.grad.T if parameter.dim() == 2 else parameter.grad
            torch.testing.assert_close(
                found[name][p].reshape(grad.shape), grad, rtol=1e-10, atol=1e-10
            )
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        optimizer.step()
        net.eval()
        torch.testing.assert_close(later[p], net(x[p]), rtol=1e-10, atol=1e-10)
        for name, running in buffers.items():
            place = names.get(name.rpartition(".")[0] + ".gamma")
            if place is not None:
                norm = net.get_submodule(place)
                kept = norm.running_mean if name.endswith("mean") else norm.running_var
                torch.testing.assert_close(running[p, 0], kept, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_a_plain_convolutional_network_equals_torch_nn(norm):
    norms = {"none": None, "batch": BatchNorm(momentum=0.1), "layer": LayerNorm()}
    network = Conv(
        channels=(5, 7), convolutions=2, hidden=(6,), activation=Tanh(), norm=norms[norm]
    )
    step = 2 if norm == "none" else 3
    names = {"conv.0.0.weight": "1", "conv.0.1.weight": str(1 + step)}
    names |= {"conv.0.0.norm.gamma": "2", "conv.0.1.norm.gamma": "5"} if norm == "batch" else {}
    agree(network, lambda tensors, p: conv_twin(tensors, p, norm), names)


class Block(nn.Module):
    """A residual block as torchvision writes it."""

    def __init__(self, tensors, name, inputs, channels, stride, p):
        super().__init__()
        self.conv1 = put(
            nn.Conv2d(inputs, channels, 3, stride, 1, bias=False), tensors, f"{name}.first", p
        )
        self.norm1 = put(nn.BatchNorm2d(channels), tensors, f"{name}.first.norm", p)
        self.conv2 = put(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), tensors, f"{name}.second", p
        )
        self.norm2 = put(nn.BatchNorm2d(channels), tensors, f"{name}.second.norm", p)
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != channels:
            conv = put(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), tensors, f"{name}.shortcut", p
            )
            self.shortcut = nn.Sequential(
                conv, put(nn.BatchNorm2d(channels), tensors, f"{name}.shortcut.norm", p)
            )

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def test_a_residual_network_equals_torch_nn():
    def twin(tensors, p):
        stem = put(nn.Conv2d(3, 5, 3, 1, 1, bias=False), tensors, "stem", p)
        norm, output = (
            put(nn.BatchNorm2d(5), tensors, "stem.norm", p),
            put(nn.Linear(8, 4), tensors, "output", p),
        )
        shapes = (("0.0", 5, 5, 1), ("0.1", 5, 5, 1), ("1.0", 5, 8, 2), ("1.1", 8, 8, 1))
        blocks = [
            Block(tensors, f"stage.{at}", inputs, outputs, stride, p)
            for at, inputs, outputs, stride in shapes
        ]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), output)
        return nn.Sequential(Standardize(), stem, norm, nn.ReLU(), *blocks, *head)

    names = {
        "stem.weight": "1",
        "stem.norm.gamma": "2",
        "stage.1.0.shortcut.weight": "6.shortcut.0",
        "stage.1.0.first.weight": "6.conv1",
        "stage.1.1.second.norm.gamma": "7.norm2",
    }
    agree(ResNet(channels=(5, 8), blocks=2), twin, names)


def test_separable_convolutions_are_depthwise_and_then_mix():
    program, rows, _ = built(
        Conv(channels=(4, 6), separable=True, norm=None, hidden=(), pool=None, stride=2)
    )
    tensors = program.layout.views(rows)
    assert tensors["conv.1.0.depth.weight"].shape == (P, 4, 1, 3, 3)
    x = torch.randn(P, B, 4, 6, 5, dtype=torch.float64)
    depth = next(layer for layer in program.layers if getattr(layer, "groups", 1) == 4)
    expected = nn.functional.conv2d(
        x[1], tensors["conv.1.0.depth.weight"][1], stride=2, padding=1, groups=4
    )
    torch.testing.assert_close(depth(x, tensors, ForwardContext(training=True))[1], expected)


def test_floats_from_0_to_1_are_the_same_pictures_as_bytes_and_an_mlp_takes_them_too():
    program, rows, buffers = built(Mlp(hidden=(5,)))
    x, now = pictures(), ForwardContext(training=True, seeds=range(P), batch=B, buffers=buffers)
    tensors = program.layout.views(rows)
    as_bytes = program(tensors, Batch(x), now)
    torch.testing.assert_close(program(tensors, Batch(x.double() / 255), now), as_bytes)
    flat = Standardize()(x[2]).flatten(1)
    hidden = torch.relu(flat @ tensors["hidden.0.weight"][2] + tensors["hidden.0.bias"][2])
    torch.testing.assert_close(
        as_bytes[2], hidden @ tensors["output.weight"][2] + tensors["output.bias"][2]
    )


def test_one_batch_for_all_networks_is_each_networks_own():
    for network in (
        Conv(channels=(4,), hidden=()),
        ResNet(channels=(4,), blocks=1),
        Mlp(hidden=(5,)),
    ):
        program, rows, buffers = built(network)
        tensors, x = program.layout.views(rows), pictures(1)
        now = ForwardContext(training=False, buffers=buffers)
        shared, own = (
            program(tensors, Batch(x), now),
            program(tensors, Batch(x.expand(P, -1, -1, -1, -1)), now),
        )
        torch.testing.assert_close(shared, own)


NETWORKS = {
    "plain": Conv(
        channels=(5, 7),
        hidden=(6,),
        spatial_dropout=SpatialDropout(rate=0.3),
        dropout=Dropout(rate=0.2),
    ),
    "layer norm": Conv(
        channels=(5, 7),
        hidden=(6,),
        norm=LayerNorm(),
        dropout=Dropout(rate=0.2),
        pool=AveragePool(),
    ),
    "separable": Conv(
        channels=(5, 7), hidden=(), separable=True, global_average=True, stride=2, pool=None
    ),
    "residual": ResNet(channels=(5, 9), blocks=2, dropout=Dropout(rate=0.2), zero_last_gamma=True),
    "overlapping": Conv(
        channels=(5, 16), kernel=5, convolutions=2, norm=None, pool=MaxPool(size=3, stride=2)
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_alone_and_in_a_cohort_bits_are_the_same(name):
    x = pictures()

    def gradients(members):
        program = BatchedNetwork(stack([NETWORKS[name]] * len(members)), PICTURES)
        rows, buffers = program.start(members)
        leaves = {n: v.detach().requires_grad_() for n, v in program.layout.views(rows).items()}
        now = ForwardContext(training=True, seeds=members, step=3, batch=B, buffers=buffers)
        outputs = program(leaves, Batch(x[members]), now)
        found = torch.autograd.grad(outputs.square().sum(), list(leaves.values()))
        judged = program(
            leaves, Batch(x[:1]), ForwardContext(training=False, buffers=buffers)
        ).detach()
        return [outputs.detach(), judged, *found, *buffers.values()]

    together = gradients([0, 1, 2])
    for members in ([0], [2], [1, 2]):
        for whole, alone in zip(together, gradients(members), strict=True):
            assert torch.equal(whole[members], alone)


def test_a_networks_nan_stays_its_own():
    program, rows, buffers = built(ResNet(channels=(4, 5), blocks=1))
    x, sick = pictures(), rows.clone()
    sick[1] = torch.nan
    outputs = [
        program(
            program.layout.views(r),
            Batch(x),
            ForwardContext(training=True, batch=B, buffers=dict(buffers)),
        )
        for r in (rows, sick)
    ]
    assert outputs[1][1].isnan().all() and torch.equal(outputs[0][[0, 2]], outputs[1][[0, 2]])


def test_fans_and_starts_of_convolutions():
    program, rows, _ = built(Conv(channels=(12, 9), norm=None, hidden=(), initializer=Orthogonal()))
    slot = next(s for s in program.layout.slots if s.name == "conv.1.0.weight")
    assert slot.shape == (9, 12, 3, 3) and (slot.fan_in, slot.fan_out) == (108, 81)
    filters = program.layout.views(rows)["conv.1.0.weight"].flatten(2)
    torch.testing.assert_close(
        filters @ filters.mT, torch.eye(9, dtype=torch.float64).expand(P, 9, 9), atol=1e-5, rtol=0
    )
    assert not torch.equal(filters[0], filters[1])


def test_a_block_whose_last_gamma_is_zero_starts_as_its_shortcut():
    program, rows, buffers = built(ResNet(channels=(4,), blocks=1, zero_last_gamma=True))
    tensors, block = program.layout.views(rows), program.layers[-3]
    x = torch.rand(P, B, 4, 5, 5, dtype=torch.float64)
    assert torch.equal(block(x, tensors, ForwardContext(training=True, buffers=buffers)), x)


def test_spatial_dropout_drops_whole_channels_and_every_layer_reports():
    layer = stack([SpatialDropout(rate=0.5)] * 2).layer("drop")
    x = torch.ones(2, B, 8, 3, 3)
    y = layer(x, {}, ForwardContext(training=True, seeds=(0, 1), batch=B)).flatten(3)
    assert set(y.unique().tolist()) == {0.0, 2.0} and torch.equal(y.amin(3), y.amax(3))
    assert not torch.equal(y[0], y[1])
    program, rows, buffers = built(NETWORKS["plain"])
    meter = Meter(P)
    now = ForwardContext(training=True, seeds=range(P), batch=B, meter=meter, buffers=buffers)
    program(program.layout.views(rows), Batch(pictures()), now)
    assert {"pool", "dropout", "batch norm", "activation"} <= {
        n for n, v in meter.means().items() if (v > 0).all()
    }


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Conv(channels=(4,) * 5), ("conv.3", "1 × 1")),
        (Conv(channels=(4,), kernel=13, padding=0), ("conv.0.0", "11 × 9")),
    ],
)
def test_pictures_that_are_too_small_are_refused_naming_layer_and_size(network, words):
    with pytest.raises(RecipeError) as error:
        BatchedNetwork(network, PICTURES)
    assert all(word in str(error.value) for word in words)


def test_settings_that_contradict_are_refused():
    for settings in (dict(channels=()), dict(kernel=2), dict(norm=None, zero_last_gamma=True)):
        with pytest.raises(RecipeError):
            ResNet(**settings)
    with pytest.raises(RecipeError, match="rows of a table"):
        BatchedNetwork(Conv(), Signature(5, (), 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_signals_stay_channels_last_in_memory_also_of_gray_pictures(channels):
    signature = Signature(
        0, (), 4, ImageShape(channels, 8, 8, (0.5,) * channels, (0.2,) * channels)
    )
    program, rows, buffers = built(Conv(channels=(4, 6), hidden=()), signature)
    x = torch.randint(0, 256, (P, B, channels, 8, 8), dtype=torch.uint8)
    tapped = []
    now = ForwardContext(
        training=True, seeds=range(P), batch=B, buffers=buffers, layer_outputs=tapped
    )
    program(program.layout.views(rows), Batch(x), now)
    wide = [y for y in tapped[1:] if y.dim() == 5]
    assert len(wide) == 8 and all(y.stride(2) == 1 for y in wide)


@pytest.mark.parametrize("name", ["plain", "residual"])
def test_a_run_of_pictures_is_written_and_read_back_and_nothing_in_it_was_idle(name, tmp_path):
    generator = np.random.default_rng(0)
    y = generator.integers(0, 3, 90)
    x = (generator.integers(0, 120, (90, 11, 9, 3)) + 60 * y[:, None, None, None]).astype(np.uint8)
    recipe = dataclasses.replace(
        catalog.named_recipe("image"), network=NETWORKS[name], epochs=6, batch=16
    )
    run = train(recipe, (x, y), out=tmp_path / "run", workers=1)
    assert run.score.value > 0.6 and run.record.idle() == []
    again = open_run(tmp_path / "run")
    assert run.predict(x[:7]).equals(again.predict(x[:7]))
    written = safetensors.torch.load_file(tmp_path / "run" / "weights.safetensors")
    name = "conv.0.0.weight" if name == "plain" else "stem.weight"
    assert written[name].shape == (2, 5, 3, 3, 3) and any(n.startswith("buffer/") for n in written)

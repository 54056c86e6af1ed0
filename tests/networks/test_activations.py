"""Activations: torch's functions, gains by quadrature, and bits that do not depend on the
cohort.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad

from ravine.errors import RecipeError
from ravine.networks.activations import (
    ALL,
    ELU,
    GELU,
    SELU,
    HardSwish,
    HardTanh,
    Identity,
    LeakyReLU,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Sine,
    Softplus,
    Tanh,
)

SHAPES = [
    (1, 1),
    (1, 3),
    (7, 13),
    (5, 10),
    (33, 17),
    (1, 17),
    (16, 2),
    (9, 31),
    (32, 8),
    (13,),
    (2, 3, 5),
]
REFERENCES = {
    Identity: lambda x: x,
    Sigmoid: torch.sigmoid,
    Tanh: torch.tanh,
    ReLU: F.relu,
    LeakyReLU: F.leaky_relu,
    ELU: F.elu,
    SELU: F.selu,
    GELU: F.gelu,
    SiLU: F.silu,
    Mish: F.mish,
    Softplus: F.softplus,
    HardTanh: F.hardtanh,
    HardSwish: F.hardswish,
    Sine: torch.sin,
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def forward_backward(activation, x, upstream):
    x = x.clone().requires_grad_()
    y = activation(x)
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_network_gets_the_same_bits_alone_and_in_a_cohort(cls, shape):
    activation = cls()
    generator = torch.Generator().manual_seed(math.prod(shape))
    x = torch.randn(8, *shape, generator=generator) * 3
    upstream = torch.randn(8, *shape, generator=generator)
    alone = [forward_backward(activation, x[i : i + 1], upstream[i : i + 1]) for i in range(8)]
    for networks in (2, 3, 5, 8):
        y, gradient = forward_backward(activation, x[:networks], upstream[:networks])
        assert torch.equal(y, torch.cat([a[0] for a in alone[:networks]]))
        assert torch.equal(gradient, torch.cat([a[1] for a in alone[:networks]]))


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("shape", [(4, 8), (7, 13)])
def test_equals_torch_in_float64(cls, shape):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64) * 3
    upstream = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    y, gradient = forward_backward(cls(), x, upstream)
    expected, expected_gradient = forward_backward(REFERENCES[cls], x, upstream)
    assert y.dtype == torch.float64 and y.shape == x.shape
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cls", ALL)
def test_the_gain_keeps_the_second_moment(cls):
    activation = cls()

    def integrand(z):
        y = float(activation(torch.tensor([[z]], dtype=torch.float64)))
        return y * y * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    moment = quad(integrand, -12, 12, points=[-3, -1, 0, 1, 3], limit=200)[0]
    assert activation.gain() == pytest.approx(1 / math.sqrt(moment), rel=1e-6)


def test_known_gains():
    assert ReLU().gain() == pytest.approx(math.sqrt(2))
    assert Tanh().gain() == pytest.approx(1.5925, abs=1e-4)
    assert Sine(frequency=30.0).gain() == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("cls", ALL)
def test_a_nan_network_leaves_the_others_alone(cls):
    x = torch.randn(3, 7, 13, generator=torch.Generator().manual_seed(2))
    upstream = torch.ones_like(x)
    sick = x.clone()
    sick[1] = math.nan
    y, gradient = forward_backward(cls(), x, upstream)
    y_sick, gradient_sick = forward_backward(cls(), sick, upstream)
    assert torch.equal(y[[0, 2]], y_sick[[0, 2]]) and torch.equal(
        gradient[[0, 2]], gradient_sick[[0, 2]]
    )
    assert y_sick[1].isnan().all()


@pytest.mark.parametrize("cls", ALL)
def test_finite_for_large_inputs(cls):
    x = torch.tensor([[[-1e4, -100.0, 0.0, 100.0, 1e4]]])
    y, gradient = forward_backward(cls(), x, torch.ones_like(x))
    assert y.isfinite().all() and gradient.isfinite().all()


@pytest.mark.parametrize("cls", [c for c in ALL if c is not Identity])
def test_says_what_it_does(cls):
    assert cls.acts.name == "activation"
    x = torch.linspace(-4, 4, 64).view(1, 8, 8)
    assert not torch.equal(cls()(x), x)


@pytest.mark.parametrize(("cls", "name"), [(LeakyReLU, "slope"), (Sine, "frequency")])
def test_a_column_gives_each_network_its_own_with_the_bits_of_a_number(cls, name):
    x = torch.randn(3, 7, 13, generator=torch.Generator().manual_seed(3))
    values = [0.01, 0.2, 0.3]
    y = cls(**{name: torch.tensor(values, dtype=torch.float64).view(-1, 1)})(x)
    for i, value in enumerate(values):
        assert torch.equal(y[i : i + 1], cls(**{name: value})(x[i : i + 1]))


def test_an_empty_batch_stays_empty():
    for cls in ALL:
        assert cls()(torch.zeros(2, 0, 5)).shape == (2, 0, 5)
        assert cls()(torch.zeros(0, 3, 5)).shape == (0, 3, 5)


def test_settings_out_of_range_are_refused():
    with pytest.raises(RecipeError, match=r"LeakyReLU\.slope is 1"):
        LeakyReLU(slope=1.0)

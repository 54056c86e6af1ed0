"""Initializers: variances, families, fans, and draws that do not depend on the cohort."""

import math

import pytest
import torch
from scipy import stats

from ravine.layout import Slot
from ravine.networks.initializers import (
    ALL,
    Constant,
    Glorot,
    He,
    LeCun,
    Normal,
    Orthogonal,
    TorchDefault,
    TruncatedNormal,
    Uniform,
    Zero,
)
from ravine.rng import stream
from ravine.serialization import vary

SLOTS = [
    Slot(name="0.weight", shape=(64, 96), fan_in=64, fan_out=96),
    Slot(name="1.weight", shape=(300, 10), fan_in=300, fan_out=10),
    Slot(name="conv.weight", shape=(8, 4, 3, 3, 8), fan_in=36, fan_out=72),
]
FANS = {
    LeCun: lambda s: 1 / s.fan_in,
    He: lambda s: 2 / s.fan_in,
    Glorot: lambda s: 2 / (s.fan_in + s.fan_out),
}


def draw(initializer, slot, seeds=(0, 1, 2)):
    return initializer.draw(slot, [stream(seed, slot.name) for seed in seeds])


@pytest.mark.parametrize("cls", FANS)
@pytest.mark.parametrize("slot", SLOTS, ids=lambda s: s.name)
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_variance_and_family_are_those_of_the_paper(cls, slot, distribution, gain):
    values = draw(cls(distribution=distribution, gain=gain), slot).double().flatten()
    sd = gain * math.sqrt(FANS[cls](slot))
    # five standard errors of a variance: excess kurtosis 0 (normal) or −1.2 (uniform)
    error = 5 * math.sqrt((2.0 if distribution == "normal" else 0.8) / len(values))
    assert float(values.var()) == pytest.approx(sd**2, rel=error)
    assert abs(float(values.mean())) < 5 * sd / math.sqrt(len(values))
    limit = math.sqrt(3) * sd
    family = stats.norm(0, sd) if distribution == "normal" else stats.uniform(-limit, 2 * limit)
    other = stats.uniform(-limit, 2 * limit) if distribution == "normal" else stats.norm(0, sd)
    assert stats.kstest(values.numpy(), family.cdf).pvalue > 1e-4
    assert stats.kstest(values.numpy(), other.cdf).pvalue < 1e-4


def test_fixed_scales():
    slot = SLOTS[0]
    assert float(draw(Normal(sd=0.3), slot).std()) == pytest.approx(0.3, rel=0.03)
    uniform = draw(Uniform(limit=0.2), slot)
    assert float(uniform.abs().max()) <= 0.2 and float(uniform.std()) == pytest.approx(
        0.2 / math.sqrt(3), rel=0.03
    )
    assert float(draw(Constant(value=0.7), slot).sub(0.7).abs().max()) < 1e-7
    assert not draw(Zero(), slot).any()


def test_truncated_normal_is_scipys():
    values = draw(TruncatedNormal(sd=0.1, cut=1.5), SLOTS[0]).double().flatten()
    assert stats.kstest(values.numpy() / 0.1, stats.truncnorm(-1.5, 1.5).cdf).pvalue > 1e-4
    assert float(values.abs().max()) <= 0.15 + 1e-8


def test_torch_default_has_the_law_of_linear():
    linear = torch.nn.Linear(64, 960)
    weight = draw(
        TorchDefault(), Slot(name="w", shape=(64, 960), fan_in=64, fan_out=960), seeds=(0,)
    ).flatten()
    bias = draw(
        TorchDefault(),
        Slot(name="b", shape=(1, 960), role="bias", fan_in=64, fan_out=960),
        seeds=(0,),
    )
    _, chance = stats.ks_2samp(weight.numpy(), linear.weight.detach().flatten().numpy())
    assert chance > 1e-4
    _, chance = stats.ks_2samp(bias.flatten().numpy(), linear.bias.detach().numpy())
    assert chance > 1e-4
    assert float(weight.abs().max()) <= 1 / 8


@pytest.mark.parametrize("shape", [(16, 16), (40, 9), (9, 40), (4, 5, 7)])
def test_orthogonal_is_orthogonal(shape):
    for matrix in draw(Orthogonal(gain=1.5), Slot(name="w", shape=shape)):
        matrix = matrix.double().reshape(-1, shape[-1])
        product = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
        # entries were rounded to float32
        torch.testing.assert_close(
            product, 2.25 * torch.eye(len(product), dtype=torch.float64), rtol=0, atol=2e-6
        )


def test_orthogonal_is_uniform_over_both_signs():
    corners = draw(Orthogonal(), Slot(name="w", shape=(3, 3)), seeds=range(400))[:, 0, 0]
    # an entry of a random rotation in three dimensions is uniform on [−1, 1] (Archimedes)
    assert stats.kstest(corners.numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-4


# The battery


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("shape", [(7, 13), (1, 5), (32, 8)])
def test_a_network_draws_the_same_alone_and_in_a_cohort(cls, shape):
    slot = Slot(name="w", shape=shape, fan_in=shape[0], fan_out=shape[1])
    together = draw(cls(), slot, seeds=(3, 4, 5, 6))
    assert (
        together.shape == (4, *shape)
        and together.dtype == torch.float32
        and together.isfinite().all()
    )
    for i, seed in enumerate((3, 4, 5, 6)):
        assert torch.equal(draw(cls(), slot, seeds=(seed,))[0], together[i])


@pytest.mark.parametrize("cls", [c for c in ALL if c not in (Zero, Constant)])
def test_seeds_differ_and_the_effect_is_named(cls):
    together = draw(cls(), SLOTS[0])
    assert not torch.equal(together[0], together[1])
    assert cls.acts.name == "initializer"


NUMBERS = [
    (Constant(), "value"),
    (Normal(), "sd"),
    (Uniform(), "limit"),
    (He(), "gain"),
    (Glorot(), "gain"),
    (LeCun(), "gain"),
    (Orthogonal(), "gain"),
    (TruncatedNormal(), "sd"),
]


@pytest.mark.parametrize(("part", "name"), NUMBERS)
def test_a_column_scales_each_network_with_the_bits_of_a_number(part, name):
    values = [0.3, 1.0, 1.7]
    together = draw(
        vary(part, name, torch.tensor(values, dtype=torch.float64).view(-1, 1)), SLOTS[0]
    )
    for i, value in enumerate(values):
        assert torch.equal(draw(vary(part, name, value), SLOTS[0], seeds=(i,))[0], together[i])

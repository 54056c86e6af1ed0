"""Penalties against autograd, and that they touch weights alone."""

from __future__ import annotations

import pytest
import torch

from ravine.effects import Meter
from ravine.part import stack
from ravine.penalties import ALL, L1, L2, ElasticNet

FORMS = [
    L2(strength=0.3),
    L2(strength=0.3, form="half"),
    L2(strength=0.3, form="norm"),
    L1(strength=0.2),
    ElasticNet(strength=0.5, ratio=0.25),
]
DECAYS = torch.tensor([[1.0, 1.0, 0.0, 1.0, 0.0, 1.0]], dtype=torch.float64)


def rows(networks=4):
    return torch.randn(networks, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_every_penalty_is_in_these_tests():
    assert {type(part) for part in FORMS} == set(ALL)


@pytest.mark.parametrize("part", FORMS, ids=repr)
def test_the_gradient_is_that_of_the_value(part):
    w = rows().requires_grad_()
    (expected,) = torch.autograd.grad(part.value(w, DECAYS).sum(), w)
    torch.testing.assert_close(
        part.gradient(w.detach(), DECAYS, None), expected, rtol=1e-12, atol=1e-14
    )
    assert torch.autograd.gradcheck(lambda x: part.value(x, DECAYS), w)


@pytest.mark.parametrize("part", FORMS, ids=repr)
def test_biases_are_left_alone_and_zeros_stay(part):
    w = rows()
    changed = torch.where(DECAYS == 0, 100.0, w)
    assert torch.equal(part.value(w, DECAYS), part.value(changed, DECAYS))
    assert (part.gradient(w, DECAYS, None)[:, DECAYS[0] == 0] == 0).all()
    nothing = torch.zeros_like(w)
    assert (part.value(nothing, DECAYS) == 0).all() and (
        part.gradient(nothing, DECAYS, None) == 0
    ).all()


def test_the_values_are_the_written_ones():
    w = torch.tensor([[3.0, -4.0]])
    ones = torch.ones(1, 2)
    for part, value in (
        (L2(strength=0.5), 12.5),
        (L2(strength=0.5, form="half"), 6.25),
        (L2(strength=0.5, form="norm"), 2.5),
        (L1(strength=0.5), 3.5),
        (ElasticNet(strength=0.5, ratio=0.2), 0.2 * 12.5 + 0.8 * 3.5),
    ):
        assert float(part.value(w, ones)) == pytest.approx(value)


@pytest.mark.parametrize("part", FORMS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alone_and_together_the_bits_are_the_same_and_nan_stays_apart(part, dtype):
    w = torch.randn(7, 1003, generator=torch.Generator().manual_seed(2)).to(dtype)
    w[3, 5] = torch.nan
    decay_mask = (torch.arange(1003) % 3 > 0)[None].to(dtype)
    parts = [type(part)(**{**vars(part), "strength": 0.1 * (1 + i)}) for i in range(7)]
    value, gradient = stack(parts).value(w, decay_mask), stack(parts).gradient(w, decay_mask, None)
    assert value.shape == (7, 1) and gradient.dtype == dtype
    for i, own in enumerate(parts):
        if i != 3:
            assert torch.equal(own.value(w[i : i + 1], decay_mask)[0], value[i])
            assert torch.equal(own.gradient(w[i : i + 1], decay_mask, None)[0], gradient[i])
    assert value[3].isnan().all() and value[[0, 1, 2, 4, 5, 6]].isfinite().all()


@pytest.mark.parametrize("cls", ALL)
def test_the_effect_is_zero_only_for_a_penalty_of_no_strength(cls):
    meter = Meter(2)
    stack([cls(strength=0.0), cls(strength=0.1)]).gradient(rows(2), DECAYS, meter)
    shown = meter.means()[cls.acts.name]
    assert shown[0] == 0 and shown[1] > 0

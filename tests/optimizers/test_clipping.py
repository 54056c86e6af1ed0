"""Clipping: torch's for one network, alone as in a cohort."""

from __future__ import annotations

import pytest
import torch

from ravine.effects import Meter
from ravine.optimizers import ALL_CLIPS, ClipNorm, ClipValue
from ravine.part import stack
from ravine.protocols import StepContext


def now(step=1, meter=None):
    decay_mask = torch.ones(1, 1)
    return StepContext(step=step, factor=1.0, decay_mask=decay_mask, layout=None, meter=meter)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_clip_norm_is_torchs_for_each_network_alone():
    grads = noise(5, 40) * torch.tensor([[0.01], [1.0], [3.0], [10.0], [1e4]])
    found = ClipNorm(limit=2.0).clip(grads, now())
    for row, own in zip(grads, found, strict=True):
        leaf = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
        leaf.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([leaf], 2.0)
        torch.testing.assert_close(own, leaf.grad, rtol=1e-6, atol=0)  # torch divides by |g| + 1e-6
    assert torch.equal(found[0], grads[0])


@pytest.mark.parametrize("cls", ALL_CLIPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clips_are_the_same_alone_and_together_and_report_whom_they_cut(cls, dtype):
    grads = (noise(7, 1003) * torch.logspace(-3, 3, 7)[:, None]).to(dtype)
    parts, meter = [cls(limit=0.2 + 0.1 * i) for i in range(7)], Meter(7)
    together = stack(parts).clip(grads, now(meter=meter))
    for i, part in enumerate(parts):
        assert torch.equal(part.clip(grads[i : i + 1], now())[0], together[i])
    cut = (together != grads).any(1)
    assert cut.any() and not cut.all()
    assert torch.equal(meter.means()["clip"], cut.double())
    assert together.dtype == dtype


@pytest.mark.parametrize("cls", ALL_CLIPS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_gradient_that_is_not_finite_stays_so_and_touches_nobody(cls, bad):
    grads = 10 * noise(3, 20)
    sick = grads.clone()
    sick[1, 4] = bad
    part = cls(limit=1.0)
    found, healthy = part.clip(sick, now()), part.clip(grads, now())
    assert not found[1].isfinite().all()
    assert torch.equal(found[[0, 2]], healthy[[0, 2]])


def test_clip_value_cuts_entries_as_torch_does():
    grads = noise(4, 30)
    torch.testing.assert_close(
        ClipValue(limit=0.5).clip(grads, now()), grads.clamp(-0.5, 0.5), rtol=0, atol=0
    )


# Averages

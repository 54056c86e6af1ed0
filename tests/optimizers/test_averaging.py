"""Clips and averages against torch's, and that each network is treated by itself."""

from __future__ import annotations

import pytest
import torch

from ravine.effects import Meter
from ravine.optimizers import AVERAGES, CLIPS, ClipNorm, ClipValue, Ema, Swa
from ravine.part import stack
from ravine.protocols import Now, Plan


def now(step=1, meter=None):
    decays = torch.ones(1, 1)
    return Now(step=step, factor=1.0, decays=decays, layout=None, meter=meter)  # type: ignore


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Clips


def test_clip_norm_is_torchs_for_each_network_alone():
    grads = noise(5, 40) * torch.tensor([[0.01], [1.0], [3.0], [10.0], [1e4]])
    found = ClipNorm(limit=2.0).clip(grads, now())
    for row, own in zip(grads, found, strict=True):
        leaf = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
        leaf.grad = row.clone()
        torch.nn.utils.clip_grad_norm_([leaf], 2.0)
        torch.testing.assert_close(own, leaf.grad, rtol=1e-6, atol=0)  # torch divides by |g| + 1e-6
    assert torch.equal(found[0], grads[0])


@pytest.mark.parametrize("cls", CLIPS)
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


@pytest.mark.parametrize("cls", CLIPS)
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


def walk(steps, networks=3, width=6):
    """Weights changed in place, as the loop changes them."""
    rows = noise(networks, width, seed=9)
    for step in range(1, steps + 1):
        rows += 0.1 * noise(networks, width, seed=step)
        yield step, rows


def test_ema_is_torchs():
    decays = [0.5, 0.9, 0.99]
    part, model = (
        stack([Ema(decay=d) for d in decays]),
        [torch.nn.Linear(6, 1, bias=False).double() for _ in decays],
    )
    kept = [
        torch.optim.swa_utils.AveragedModel(
            m, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(d)
        )
        for m, d in zip(model, decays, strict=True)
    ]
    state = None
    for step, rows in walk(30):
        state = part.update(
            rows, part.start(rows) if state is None else state, now(step), Plan(30, 5)
        )
        for i, average in enumerate(kept):
            model[i].weight.data.copy_(rows[i : i + 1])
            average.update_parameters(model[i])
            torch.testing.assert_close(part.averaged(rows, state)[i], average.module.weight[0].data)


def test_ema_that_warms_up_forgets_the_start():
    slow, warm = Ema(decay=0.999), Ema(decay=0.999, warm_up=True)
    states, first, total = {}, torch.empty(0), torch.empty(0)
    for step, rows in walk(20):
        for part in (slow, warm):
            states[part] = part.update(
                rows, states.get(part) or part.start(rows), now(step), Plan(20, 5)
            )
        beta = min(0.999, (1 + step) / (10 + step))
        total = rows.clone() if step == 1 else beta * total + (1 - beta) * rows
        first = rows.clone() if step == 1 else first
    torch.testing.assert_close(states[warm]["average"], total)
    assert (states[warm]["average"] - first).norm() > 5 * (states[slow]["average"] - first).norm()


def test_swa_is_torchs_mean_over_the_ends_of_late_epochs():
    starts = [0.0, 0.5, 0.75]
    part, model = (
        stack([Swa(start_at=s) for s in starts]),
        [torch.nn.Linear(6, 1, bias=False).double() for _ in starts],
    )
    kept = [torch.optim.swa_utils.AveragedModel(m) for m in model]
    state = None
    for step, rows in walk(40):
        state = part.update(
            rows, part.start(rows) if state is None else state, now(step), Plan(40, 5)
        )
        for i, average in enumerate(kept):
            if step % 5 == 0 and step > starts[i] * 40:
                model[i].weight.data.copy_(rows[i : i + 1])
                average.update_parameters(model[i])
            expected = average.module.weight[0].data if average.n_averaged else rows[i]
            torch.testing.assert_close(part.averaged(rows, state)[i], expected)
    assert state is not None and state["count"].flatten().tolist() == [8, 4, 2]


@pytest.mark.parametrize("cls", AVERAGES)
def test_averages_are_the_same_alone_and_together_keep_nan_apart_and_report_their_distance(cls):
    values = [0.1 * i for i in range(7)]
    name = "decay" if cls is Ema else "start_at"
    parts, meter = [cls(**{name: v}) for v in values], Meter(7)
    cohort, together, apart = stack(parts), None, [None] * 7
    for step, rows in walk(20, networks=7, width=33):
        rows = rows.float()
        if step == 10:
            rows[3, 2] = torch.nan
        together = cohort.start(rows) if together is None else together
        together = cohort.update(rows, together, now(step, meter), Plan(20, 2))
        for i, part in enumerate(parts):
            own = rows[i : i + 1]
            apart[i] = part.update(
                own, part.start(own) if apart[i] is None else apart[i], now(step), Plan(20, 2)
            )
    found = cohort.averaged(rows, together)
    for i, part in enumerate(parts):
        alone = part.averaged(rows[i : i + 1], apart[i])[0]
        torch.testing.assert_close(alone, found[i], rtol=0, atol=0, equal_nan=True)
    shown = meter.means()[cls.acts.name]
    assert (shown[[1, 2, 4, 5, 6]] > 0).all()
    if cls is Ema:
        assert shown[0] == 0  # d = 0: the average is the weights

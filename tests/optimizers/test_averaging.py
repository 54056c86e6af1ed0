"""Clips and averages against torch's, and that each network is treated by itself."""

from __future__ import annotations

import pytest
import torch

from ravine.effects import Meter
from ravine.optimizers import ALL_AVERAGES, Ema, Swa
from ravine.part import stack
from ravine.protocols import Plan, StepContext


def now(step=1, meter=None):
    decay_mask = torch.ones(1, 1)
    return StepContext(step=step, factor=1.0, decay_mask=decay_mask, layout=None, meter=meter)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Clips


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
            torch.testing.assert_close(
                part.eval_weights(rows, state)[i], average.module.weight[0].data
            )


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
            torch.testing.assert_close(part.eval_weights(rows, state)[i], expected)
    assert state is not None and state["count"].flatten().tolist() == [8, 4, 2]


@pytest.mark.parametrize("cls", ALL_AVERAGES)
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
    found = cohort.eval_weights(rows, together)
    for i, part in enumerate(parts):
        alone = part.eval_weights(rows[i : i + 1], apart[i])[0]
        torch.testing.assert_close(alone, found[i], rtol=0, atol=0, equal_nan=True)
    shown = meter.means()[cls.acts.name]
    assert (shown[[1, 2, 4, 5, 6]] > 0).all()
    if cls is Ema:
        assert shown[0] == 0  # d = 0: the average is the weights

"""The update as the loop makes it: the same as the pure rule, whatever way is taken, and
independent of the company.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ravine.effects import Meter
from ravine.optimizers import SGD, Adam, AdamW, Momentum, Nesterov, RMSprop, fused
from ravine.optimizers.fused import apply_update_
from ravine.part import stack
from ravine.protocols import StepContext

P = 5
WIDE = fused.SGD_WIDTH + 3
WIDTHS = (
    67,
    fused.ADAM_WIDTH,
    30_011,
    WIDE,
)  # whole matrices, the kernel of Adam, blocks, the kernel of descent
LISTED = {
    "sgd": [SGD(lr=0.01 * (1 + i)) for i in range(P)],
    "sgd with decay": [SGD(lr=0.01, weight_decay=0.1 * i) for i in range(P)],
    "momentum": [Momentum(lr=0.01, momentum=0.5 + 0.1 * i) for i in range(P)],
    "momentum with decay": [Momentum(lr=0.01 * (1 + i), weight_decay=0.1 * i) for i in range(P)],
    "dampened": [Momentum(lr=0.01, dampening=0.1 * i) for i in range(P)],
    "inside": [Momentum(lr=0.01 * (1 + i), form="inside") for i in range(P)],
    "nesterov": [Nesterov(lr=0.01 * (1 + i)) for i in range(P)],
    "rmsprop": [RMSprop(lr=0.01, momentum=0.1 * i) for i in range(P)],
    "adam": [Adam(lr=0.01 * (1 + i), beta2=0.99 + 0.001 * i) for i in range(P)],
    "adam with decay": [Adam(lr=0.01, weight_decay=0.1 * i) for i in range(P)],
    "adam inside": [Adam(lr=0.01 * (1 + i), eps_at="inside") for i in range(P)],
    "adamw": [AdamW(lr=0.01 * (1 + i), weight_decay=0.1 * i) for i in range(P)],
    "adamw fixed": [AdamW(lr=0.01, weight_decay=0.01 * i, decay="fixed") for i in range(P)],
}


def moment(step, width, dtype, *, meter=None, networks=P):
    decay_mask = (torch.arange(width) % 5 > 0)[None].to(dtype)
    factor = (
        torch.linspace(1.0, 0.5, P, dtype=torch.float64).view(-1, 1)[:networks] if step > 3 else 1.0
    )
    return StepContext(step=step, factor=factor, decay_mask=decay_mask, layout=None, meter=meter)


def noise(width, seed, dtype):
    return torch.randn(P, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def walk(part, width, dtype, *, in_place, steps=6, networks=P, meter=None):
    rows = noise(width, 0, dtype)[:networks].clone()
    state = part.start(rows)
    for step in range(1, steps + 1):
        now, grads = (
            moment(step, width, dtype, meter=meter, networks=networks),
            noise(width, step, dtype)[:networks],
        )
        if in_place:
            place = rows.data_ptr()
            apply_update_(part, rows, grads, state=state, context=now)
            assert rows.data_ptr() == place
        else:
            rows, state = part.update(rows, grads, state, now)
    return rows, state


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_step_in_place_is_the_pure_rule(name, width):
    part = stack(LISTED[name])
    for dtype, close in (
        (torch.float32, 2e-6),
        (torch.float64, 1e-14),
    ):  # a few roundings of the kernels
        rows, state = walk(part, width, dtype, in_place=True)
        expected, kept = walk(part, width, dtype, in_place=False)
        torch.testing.assert_close(rows, expected, rtol=4 * close, atol=4 * close)
        assert state.keys() == kept.keys()
        for entry in state:
            torch.testing.assert_close(state[entry], kept[entry], rtol=4 * close, atol=close)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_step_in_place_does_not_depend_on_the_company(name, width):
    together, state = walk(stack(LISTED[name]), width, torch.float32, in_place=True)
    alone, own = walk(stack(LISTED[name][:1]), width, torch.float32, in_place=True, networks=1)
    few, _ = walk(stack(LISTED[name][:3]), width, torch.float32, in_place=True, networks=3)
    assert torch.equal(alone[0], together[0]) and torch.equal(few, together[:3])
    assert all(torch.equal(own[entry][0], state[entry][0]) for entry in own)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("width", WIDTHS)
def test_measuring_reports_decay_and_changes_no_bit(name, width):
    meter = Meter(P)
    measured, _ = walk(stack(LISTED[name]), width, torch.float32, in_place=True, meter=meter)
    plain, _ = walk(stack(LISTED[name]), width, torch.float32, in_place=True)
    assert torch.equal(measured, plain)
    decays = torch.tensor([part.weight_decay for part in LISTED[name]])
    if decays.any():
        assert torch.equal(meter.means()["weight decay"] > 0, decays > 0)


@pytest.mark.parametrize("part", [Momentum(), Adam(), AdamW(), SGD()])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_nan_stays_in_its_network(part, width):
    rows, grads = noise(width, 0, torch.float32), noise(width, 1, torch.float32)
    state, now = part.start(rows), moment(1, width, torch.float32)
    healthy, kept = rows.clone(), copy.deepcopy(state)
    apply_update_(part, healthy, grads.clone(), state=kept, context=now)
    grads[2] = torch.nan
    apply_update_(part, rows, grads, state=state, context=now)
    others = [0, 1, 3, 4]
    assert torch.equal(rows[others], healthy[others]) and rows[2].isnan().all()


@pytest.mark.parametrize("part", [Momentum(), Adam(), AdamW()])
def test_factors_of_the_rate_for_single_weights_are_kept_to_at_every_width(part):
    for width in WIDTHS:
        rows, grads = noise(width, 0, torch.float32), noise(width, 1, torch.float32)
        factors = torch.linspace(0, 1, width)[None]
        now = moment(1, width, torch.float32)._replace(lr_multipliers=factors)
        expected, _ = part.update(rows, grads, part.start(rows), now)
        apply_update_(part, rows, grads, state=part.start(rows), context=now)
        assert torch.equal(rows, expected)


class Counts(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        Counts.calls += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("part", "width", "limit"),
    [(Momentum(), 300, 4), (Adam(), 300, 13), (Adam(), 5000, 6), (Momentum(), 50_000, 4)],
)
def test_a_single_network_takes_few_calls_of_torch(part, width, limit):
    rows = torch.randn(1, width)
    cohort, grads, now = stack([part]), torch.randn(1, width), moment(2, width, torch.float32)
    state = cohort.start(rows)
    apply_update_(cohort, rows, grads, state=state, context=now)
    Counts.calls = 0
    with Counts():
        apply_update_(cohort, rows, grads, state=state, context=now)
    assert Counts.calls <= limit

"""Claims that every optimizer must meet; an entry of `ALL` is tested by being listed.

A cohort of seven networks, each with settings of its own, is compared with torch.optim (or a second
implementation) run on each network alone.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from optimizer_references import TWINS, settings
from torch import Tensor

from ravine import optimizers
from ravine.errors import RecipeError
from ravine.layout import Layout, Slot
from ravine.optimizers.fused import apply_update_
from ravine.part import field_types, group_key, is_number, rows_of, stack
from ravine.protocols import HasEvalWeights, StepContext

# those that search have no `update`; they meet the same claims in
# tests/optimizers/test_second_order.py
ALL = tuple(c for c in optimizers.ALL if c not in optimizers.SEARCH_OPTIMIZERS)
P = 7
LAYOUT = Layout(
    (
        Slot(name="a", shape=(5, 4)),
        Slot(name="b", shape=(1, 4), role="bias"),
        Slot(name="c", shape=(4, 3)),
    )
)
W = LAYOUT.width


def moment(
    step: int,
    dtype: torch.dtype,
    *,
    factor: Any = 1.0,
    meter: Any = None,
    decay_mask: Tensor | None = None,
) -> StepContext:
    decay_mask = torch.ones(1, W, dtype=dtype) if decay_mask is None else decay_mask
    return StepContext(step=step, factor=factor, decay_mask=decay_mask, layout=LAYOUT, meter=meter)


def gradients(rows: Tensor, step: int, *, keep: list[int] | None = None) -> Tensor:
    """Noisy gradients of a quadratic; a network's noise does not depend on its company."""
    noise = torch.randn(P, W, dtype=rows.dtype, generator=torch.Generator().manual_seed(step))
    scale = torch.logspace(-1, 1, W, dtype=rows.dtype)
    return scale * rows + (noise if keep is None else noise[keep])


def begin(dtype: torch.dtype) -> Tensor:
    return torch.randn(P, W, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(
        dtype
    )


def run(
    part: Any, rows: Tensor, steps: int, *, keep: list[int] | None = None, in_place: bool = False
) -> Tensor:
    state = part.start(rows)
    for step in range(1, steps + 1):
        factor = 1.0 if step < 20 else 0.3
        now = moment(step, rows.dtype, factor=factor)
        grads = gradients(rows, step, keep=keep)
        if in_place:
            apply_update_(part, rows, grads, state=state, context=now)
        else:
            rows, state = part.update(rows, grads, state, now)
    return rows


@pytest.fixture
def doubles():
    """torch keeps what its rules know about time in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("doubles")
@pytest.mark.parametrize("cls", ALL)
def test_equals_its_reference_with_other_settings_in_every_network(cls):
    for variant, reference in TWINS[cls].items():
        parts = [cls(**settings(cls, i, variant)) for i in range(P)]
        rows, state = begin(torch.float64), None
        cohort = stack(parts)
        state = cohort.start(rows)
        others = [
            reference(part, row.clone(), LAYOUT) for part, row in zip(parts, rows, strict=True)
        ]
        for step in range(1, 61):
            grads = gradients(rows, step)
            factor = 1.0 if step < 30 else 0.25
            rows, state = cohort.update(rows, grads, state, moment(step, rows.dtype, factor=factor))
            expected = torch.stack(
                [other(g.clone(), factor) for other, g in zip(others, grads, strict=True)]
            )
            torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("in_place", [False, True])
def test_alone_and_in_a_cohort_the_bits_are_the_same(cls, in_place):
    for variant in TWINS[cls]:
        parts = [cls(**settings(cls, i, variant)) for i in range(P)]
        together = run(stack(parts), begin(torch.float32), 30, in_place=in_place)
        for i in (0, 3, 6):
            own = begin(torch.float32)[i : i + 1].clone()
            floats = run(parts[i], own.clone(), 30, keep=[i], in_place=in_place)
            columns = run(stack(parts[i : i + 1]), own.clone(), 30, keep=[i], in_place=in_place)
            assert torch.equal(floats[0], together[i]), variant
            assert torch.equal(columns[0], together[i]), variant


@pytest.mark.parametrize("cls", ALL)
def test_a_setting_shared_by_all_may_be_a_float_among_columns(cls):
    numbers = [name for name, hint in field_types(cls).items() if is_number(hint)]
    parts = [cls(**settings(cls, 1, "plain")) for _ in range(P)]
    together = run(stack(parts), begin(torch.float64), 25)
    for name in numbers:
        mixed = dataclasses.replace(stack(parts), **{name: getattr(parts[0], name)})
        assert torch.equal(run(mixed, begin(torch.float64), 25), together), name


@pytest.mark.parametrize("cls", ALL)
def test_numbers_that_do_nothing_after_the_start_are_declared(cls):
    numbers = {name for name, hint in field_types(cls).items() if is_number(hint)}
    found = set()
    for variant in TWINS[cls]:
        part, other = (cls(**settings(cls, i, variant)) for i in (1, 5))
        for name in numbers:
            changed = dataclasses.replace(part, **{name: getattr(other, name)})
            kept = []
            for own in (part, changed):
                rows = begin(torch.float64)
                state = part.start(rows)
                for step in range(1, 31):
                    rows, state = own.update(
                        rows, gradients(rows, step), state, moment(step, rows.dtype)
                    )
                kept += [rows, *(v for _, v in sorted(state.items()))]
            half = len(kept) // 2
            if any(not torch.equal(a, b) for a, b in zip(kept[:half], kept[half:], strict=True)):
                found.add(name)
    assert numbers - found == set(getattr(cls, "only_at_start", ()))


@pytest.mark.parametrize("cls", ALL)
def test_in_place_is_the_pure_rule(cls):
    for variant in TWINS[cls]:
        part = stack([cls(**settings(cls, i, variant)) for i in range(P)])
        assert torch.equal(
            run(part, begin(torch.float32), 30), run(part, begin(torch.float32), 30, in_place=True)
        )


@pytest.mark.parametrize("cls", ALL)
def test_a_nan_stays_in_its_network_and_is_not_hidden(cls):
    part = stack([cls(**settings(cls, i, "plain")) for i in range(P)])
    rows = begin(torch.float32)
    state, healthy = part.start(rows), part.start(rows)
    good = rows
    for step in range(1, 8):
        grads = gradients(good, step)
        sick = grads.clone()
        if step == 3:
            sick[2, 5] = torch.nan
        good, healthy = part.update(good, grads, healthy, moment(step, rows.dtype))
        rows, state = part.update(rows, sick, state, moment(step, rows.dtype))
    others = [i for i in range(P) if i != 2]
    assert torch.equal(rows[others], good[others])
    assert rows[2].isnan().any()


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_precision_of_weights_is_kept(cls, dtype):
    part = stack([cls(**settings(cls, i, "plain")) for i in range(P)])
    rows = begin(dtype)
    new, state = part.update(rows, rows.clone(), part.start(rows), moment(1, dtype))
    new, state = part.update(
        new, rows.clone(), state, moment(2, dtype, factor=torch.ones(P, 1, dtype=torch.float64))
    )
    assert new.dtype == dtype and new.shape == rows.shape
    assert all(value.shape[0] == P for value in state.values())
    assert all(value.dtype == dtype for value in state.values() if value.shape == rows.shape)


@pytest.mark.parametrize("cls", ALL)
def test_a_state_that_was_kept_goes_on_as_if_never_stopped(cls):
    part = stack([cls(**settings(cls, i, "plain")) for i in range(P)])
    rows = begin(torch.float32)
    state = part.start(rows)
    for step in range(1, 31):
        if step == 13:
            kept_rows, kept = rows.clone(), copy.deepcopy(state)
        apply_update_(
            part, rows, gradients(rows, step), state=state, context=moment(step, rows.dtype)
        )
    for step in range(13, 31):
        apply_update_(
            part,
            kept_rows,
            gradients(kept_rows, step),
            state=kept,
            context=moment(step, rows.dtype),
        )
    assert torch.equal(kept_rows, rows)
    assert kept.keys() == state.keys() and all(torch.equal(kept[n], state[n]) for n in state)


@pytest.mark.parametrize("cls", ALL)
def test_networks_may_leave_and_the_others_go_on_unchanged(cls):
    part = stack([cls(**settings(cls, i, "plain")) for i in range(P)])
    rows = begin(torch.float32)
    stay = torch.tensor([1, 4, 5])
    whole, state = run(part, rows.clone(), 20), part.start(rows)
    for step in range(1, 21):
        now = moment(step, rows.dtype, factor=1.0 if step < 20 else 0.3)
        keep = None if step <= 7 else stay.tolist()
        rows, state = part.update(rows, gradients(rows, step, keep=keep), state, now)
        if step == 7:
            rows, part = rows[stay], rows_of(part, stay)
            state = {name: value.index_select(0, stay) for name, value in state.items()}
    assert torch.equal(rows, whole[stay])


@pytest.mark.parametrize("cls", ALL)
def test_descends_a_quadratic(cls):
    part = cls(**settings(cls, 2, "plain"))
    scale = torch.logspace(-1, 0, W, dtype=torch.float64)
    rows = begin(torch.float64)
    state, first = part.start(rows), (scale * rows**2).sum(1)
    for step in range(1, 301):
        rows, state = part.update(rows, scale * rows, state, moment(step, rows.dtype))
    judged = part.eval_weights(rows, state) if isinstance(part, HasEvalWeights) else rows
    assert ((scale * judged**2).sum(1) < 0.8 * first).all()


@pytest.mark.parametrize("cls", ALL)
def test_a_rate_of_zero_changes_nothing_and_factors_multiply_the_rate(cls):
    part = cls(**settings(cls, 1, "plain"))
    rows = begin(torch.float64)
    grads = gradients(rows, 1)
    still, _ = part.update(rows, grads, part.start(rows), moment(1, rows.dtype, factor=0.0))
    torch.testing.assert_close(still, rows, rtol=1e-14, atol=1e-14)
    row = torch.ones(1, W, dtype=rows.dtype)
    row[:, 20:24] = 0.0
    now = moment(1, rows.dtype)._replace(lr_multipliers=row)
    moved, _ = part.update(rows, grads, part.start(rows), now)
    torch.testing.assert_close(moved[:, 20:24], rows[:, 20:24], rtol=1e-14, atol=1e-14)
    plain, _ = part.update(rows, grads, part.start(rows), moment(1, rows.dtype))
    torch.testing.assert_close(moved[:, :20], plain[:, :20])
    assert not torch.equal(plain, rows)


@pytest.mark.parametrize("cls", ALL)
def test_defaults_make_a_part_and_a_negative_rate_does_not(cls):
    assert group_key(cls()) == group_key(cls())
    if "lr" in field_types(cls):
        with pytest.raises(RecipeError, match="lr"):
            cls(lr=-1.0)

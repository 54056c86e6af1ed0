"""Weights as rows: named views into one matrix, masks over it, lengths by row."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as some

from ravine.layout import Layout, Slot, row_norm

LAYOUT = Layout(
    (
        Slot(name="0.weight", shape=(2, 3), fan_in=2, fan_out=3),
        Slot(name="0.bias", shape=(1, 3), role="bias", lr_multiplier=0.1),
        Slot(name="norm.scale", shape=(3,), role="scale"),
        Slot(name="codes", shape=(4, 2), role="embedding"),
    )
)


def test_views_write_through_and_together_cover_the_row():
    rows = torch.zeros(5, LAYOUT.width)
    for i, view in enumerate(LAYOUT.views(rows).values(), 1):
        view += i
    assert rows[0].tolist() == [1.0] * 6 + [2.0] * 3 + [3.0] * 3 + [4.0] * 8
    assert (rows == rows[:1]).all()


@given(
    some.lists(some.lists(some.integers(0, 4), min_size=1, max_size=3), max_size=5),
    some.integers(1, 3),
)
def test_views_take_a_row_apart_without_loss(shapes, networks):
    layout = Layout(tuple(Slot(name=str(i), shape=tuple(shape)) for i, shape in enumerate(shapes)))
    rows = torch.randn(networks, layout.width, generator=torch.Generator().manual_seed(0))
    views = layout.views(rows)
    assert [tuple(v.shape) for v in views.values()] == [(networks, *s.shape) for s in layout.slots]
    assert layout.width == sum(math.prod(shape) for shape in shapes)
    if views:
        assert torch.equal(torch.cat([v.flatten(1) for v in views.values()], dim=1), rows)


def test_decay_acts_on_the_role_weight_alone():
    assert LAYOUT.decay_mask().tolist() == [[1.0] * 6 + [0.0] * 14]
    assert LAYOUT.decay_mask(dtype=torch.float64).dtype == torch.float64


def test_the_rates_factor_is_a_row_or_none_where_all_are_one():
    assert LAYOUT.lr_multipliers(dtype=torch.float64).tolist() == [
        [1.0] * 6 + [0.1] * 3 + [1.0] * 11
    ]
    assert Layout(LAYOUT.slots[:1]).lr_multipliers() is None
    assert Layout(()).decay_mask().shape == (1, 0)


def test_length_is_of_each_row_and_a_nan_stays_in_its_own():
    rows = torch.tensor([[3.0, 4.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0]])
    found = row_norm(rows)
    assert found.shape == (4, 1)
    assert found[[0, 3], 0].tolist() == [5.0, 0.0] and found[1].isnan() and found[2].isinf()

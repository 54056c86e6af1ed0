"""Parts: settings are checked when a part is made, and what may differ in a cohort."""

import math

import numpy as np
import pytest
import torch
from example_parts import Box, Circle, Drawing, Label, Square

from ravine.errors import RecipeError
from ravine.part import Number, group_key, is_part, match, part, rows_of, stack
from ravine.serialization import vary


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Square(side=0), "Square.side is 0: it must be more than 0"),
        (lambda: Circle(radius=11), "Circle.radius is 11: it must be at most 10"),
        (lambda: Square(side=float("nan")), "Square.side is nan"),
        (lambda: Square(side="1"), "Square.side is '1': it must be a number"),
        (lambda: Circle(kind="round"), "Circle.kind is 'round': it must be 'full' or 'empty'"),
        (lambda: Drawing(sizes=(3, 0)), "Drawing.sizes is (3, 0): it must be at least 1"),
        (lambda: Drawing(count=True), "Drawing.count is True"),
        (lambda: Drawing(count=1.5), "Drawing.count is 1.5: it must be an integer"),
        (lambda: Drawing(count=0, more=(Square(),)), "count is 0: there are more shapes"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_part_is_made(make, words):
    with pytest.raises(RecipeError) as caught:
        make()
    assert words in str(caught.value)


def test_only_numbers_may_differ_within_a_group():
    a = Drawing(shape=Square(side=1.0))
    assert group_key(a) == group_key(vary(a, "shape.side", 2.0))
    assert group_key(a) != group_key(vary(a, "count", 3))
    assert group_key(a) != group_key(vary(a, "shape", Circle()))
    assert len({group_key(a), group_key(vary(a, "shape.side", 2.0))}) == 1


def test_stacking_makes_float64_columns_and_rows_of_takes_some():
    stacked = stack(
        [Drawing(shape=Square(side=s), more=(Circle(radius=s),)) for s in (0.1, 0.2, 0.3)]
    )
    assert isinstance(stacked.shape, Square)
    side = stacked.shape.side
    assert isinstance(side, torch.Tensor) and side.dtype == torch.float64 and side.shape == (3, 1)
    kept = rows_of(stacked, torch.tensor([2, 0]))
    assert isinstance(kept.shape, Square) and isinstance(kept.more[0], Circle)
    for column in (kept.shape.side, kept.more[0].radius):
        assert isinstance(column, torch.Tensor) and column.flatten().tolist() == [0.3, 0.1]
    assert kept.sizes == (3, 4) and is_part(kept)


def test_match_casts_once_and_lines_up_with_the_networks():
    column = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    like = torch.zeros(2, 3, 4)
    assert match(column, like).shape == (2, 1, 1) and match(column, like).dtype == torch.float32
    assert match(0.5, like) == 0.5
    # 1 - 0.999 in float32 is off by 1.3e-5; worked out in float64 and cast once it is the nearest
    # float32
    beta = torch.tensor([[0.999]], dtype=torch.float64)
    assert match(1 - beta, like).item() == torch.tensor(0.001).item()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Circle(radius=10.00000001), "Circle.radius is 10.00000001: it must be at most 10"),
        (lambda: Square(side=math.inf), "Square.side is inf: it must be a finite number"),
        (lambda: Square(side=True), "Square.side is True: it must be a number"),
        (lambda: Square(side=None), "Square.side is None: it must be a number"),
        (lambda: Square(side=Square()), "Square.side is Square(side=1.0): it must be a number"),
        (lambda: Label(shown=1), "Label.shown is 1: it must be a boolean"),
        (lambda: Label(many="some"), "Label.many is 'some': it must be an integer or 'all'"),
        (lambda: Label(pairs=3), "Label.pairs is 3: it must be a list"),
        (
            lambda: Drawing(sizes=(3, "x")),
            "Drawing.sizes is (3, 'x'): it must be an integer at place 1",
        ),
        (lambda: Drawing(sizes=torch.tensor([3])), "Drawing.sizes is a Tensor: it must be a list"),
        (lambda: Box(content=None), "Box.content is None: it must be a part"),
        (lambda: Box(content="Square"), "Box.content is 'Square': it must be a part"),
        (lambda: Box(content=Square(), spare=0.5), "Box.spare is 0.5: it must be a part"),
        (lambda: Box(content=Square(), more=(Square(), 3)), "it must be a tuple of parts"),
        (lambda: Box(content=Square(), more=Square()), "it must be a tuple of parts"),
        (lambda: Box(content=Square(), extra=Square()), "it must be a tuple of parts"),
        (lambda: Box(content=Square), "it is a class. Give one of its instances: Square()."),
    ],
)
def test_what_cannot_stand_in_a_setting_is_refused_in_words(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert message in str(caught.value)


def test_numbers_of_numpy_and_lists_become_pythons_own():
    assert type(Square(side=2).side) is float and type(Square(side=np.float32(0.5)).side) is float
    label = Label(count=np.int64(2), pairs=[[1, 2]], words={"a": ["b"]}, many=np.int64(3))
    assert (
        label == Label(count=2, pairs=((1, 2),), words={"a": ("b",)}, many=3)
        and type(label.count) is int
    )


def test_two_parts_of_one_name_are_two_groups():
    def another():
        @part
        class Same:
            size: Number = 1.0

        return Same()

    assert group_key(another()) != group_key(another())


def test_a_column_and_a_float_give_the_same_bits():
    like = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    column = stack([Square(side=0.1)] * 3).side
    assert torch.equal(match(column, like) * like, match(0.1, like) * like)

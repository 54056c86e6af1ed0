"""Parts: settings checked when made, plain data and back, what may differ in a cohort."""

import math
import pickle
from collections.abc import Mapping
from typing import Literal, Protocol

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from ravine.errors import DataError, InputError, RecipeError, nearest
from ravine.part import (
    Number,
    from_plain,
    get,
    is_part,
    match,
    part,
    program,
    rows_of,
    setting,
    stack,
    to_plain,
    vary,
)


class Shape(Protocol): ...


@part
class Square:
    side: Number = setting(default=1.0, gt=0)


@part
class Circle:
    radius: Number = setting(default=1.0, gt=0, le=10)
    kind: Literal["full", "empty"] = "full"


@part
class Drawing:
    shape: Shape = Square()
    more: tuple[Shape, ...] = ()
    frame: Shape | None = None
    sizes: tuple[int, ...] = setting(default=(3, 4), ge=1)
    title: str | None = None
    count: int = setting(default=2, ge=0)

    def check(self) -> None:
        if self.count == 0 and self.more:
            raise RecipeError("count is 0", why="there are more shapes", do="raise count")


CHOICES = {Shape: (Square, Circle)}


def read(data):
    return from_plain(Drawing, data, CHOICES)


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
def test_a_wrong_setting_is_told_when_the_part_is_made(make, words):
    with pytest.raises(RecipeError) as caught:
        make()
    assert words in str(caught.value)


def test_plain_data_and_back():
    drawing = Drawing(
        shape=Circle(radius=2.0), more=(Square(side=3.0), Circle()), frame=Square(), title="x"
    )
    assert read(to_plain(drawing)) == drawing
    assert read({"shape": "circle"}).shape == Circle()
    assert read({"frame": "none", "more": "none", "title": "none"}) == Drawing()
    assert read({"more": {"name": "Square", "side": 2}}).more == (Square(side=2.0),)


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({"shap": {}}, "shap", "Drawing has no setting 'shap'"),
        ({"shape": {"name": "Circel"}}, "shape.name", "Did you mean 'Circle'?"),
        ({"shape": {"name": "Circle", "radios": 1}}, "shape.radios", "Did you mean 'radius'?"),
        ({"shape": {"name": "Circle", "radius": -1}}, "shape.radius", "more than 0"),
        ({"more": [{"name": "Square", "side": -1}]}, "more.side", "more than 0"),
        ({"shape": 3}, "shape", "a name or a table"),
        ({"shape": {"side": 3}}, "shape", "has no name"),
        ({"count": -1}, "count", "at least 0"),
    ],
)
def test_a_mistake_in_plain_data_is_told_with_its_place(data, path, words):
    with pytest.raises(RecipeError) as caught:
        read(data)
    assert words in str(caught.value) and caught.value.path == path


def test_settings_by_path():
    drawing = Drawing(shape=Circle(), more=(Square(), Square()))
    changed = vary(vary(drawing, "shape.radius", 3.0), "more.1.side", 5.0)
    assert get(changed, "shape.radius") == 3.0 and get(changed, "more.1.side") == 5.0
    assert changed.more[0] is drawing.more[0], "what is not on the path is shared"
    for path, words in (
        ("shape.side", "Did you mean"),
        ("more.7.side", "from 0 to 1"),
        ("count.x", "no settings"),
    ):
        with pytest.raises(
            RecipeError, match=words if words != "Did you mean" else "no setting 'side'"
        ):
            vary(drawing, path, 1.0)
    with pytest.raises(RecipeError, match="more than 0"):
        vary(drawing, "shape.radius", -3.0)


def test_only_numbers_may_differ_within_a_program():
    a = Drawing(shape=Square(side=1.0))
    assert program(a) == program(vary(a, "shape.side", 2.0))
    assert program(a) != program(vary(a, "count", 3))
    assert program(a) != program(vary(a, "shape", Circle()))
    assert len({program(a), program(vary(a, "shape.side", 2.0))}) == 1


def test_stacking_makes_float64_columns_and_rows_of_takes_some():
    stacked = stack(
        [Drawing(shape=Square(side=s), more=(Circle(radius=s),)) for s in (0.1, 0.2, 0.3)]
    )
    assert stacked.shape.side.dtype == torch.float64 and stacked.shape.side.shape == (3, 1)
    kept = rows_of(stacked, torch.tensor([2, 0]))
    assert kept.shape.side.flatten().tolist() == [0.3, 0.1] and kept.more[
        0
    ].radius.flatten().tolist() == [0.3, 0.1]
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


def test_errors_have_three_parts_and_survive_a_process():
    error = DataError("x is y", why="it must not be", do="change it", where="t.csv:3")
    assert str(error) == "t.csv:3: x is y: it must not be. To mend it: change it."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DataError and str(again) == str(error) and again.exit_code == 2
    assert isinstance(error, InputError) and isinstance(error, ValueError)
    assert str(DataError("x", why="is it y?", do="look")) == "x: is it y? To mend it: look."


def test_nearest_offers_a_name_only_where_one_is_near():
    assert nearest("qqq", ["lr", "eps"]) == "there are eps, lr."
    assert nearest("Weight-Decay", ["weight_decay", "lr"]).endswith("Did you mean 'weight_decay'?")
    assert nearest("x", []) == "there are none."
    assert "and 20 more" in nearest("zzz", [f"name{i:02d}" for i in range(50)])


# Settings of every kind


class Content(Protocol): ...


@part
class Label:
    count: int = 1
    shade: float | None = 0.5
    pairs: tuple[tuple[int, int], ...] = ()
    words: Mapping[str, tuple[str, ...]] | None = None
    many: int | Literal["all"] | None = None
    shown: bool = True


@part
class Box:
    content: Content
    spare: Content | None = None
    more: tuple[Content, ...] = ()
    extra: tuple[Content, ...] | None = None
    inside: Shape | None = None
    price: Number = 2.0


PLACES = {Content: (Square, Label), Shape: (Box,)}


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
        (
            lambda: Drawing(sizes=torch.tensor([3])),
            "Drawing.sizes is tensor([3]): it must be a list",
        ),
        (lambda: Box(content=None), "Box.content is None: it must be a part"),
        (lambda: Box(content="Square"), "Box.content is 'Square': it must be a part"),
        (lambda: Box(content=Square(), spare=0.5), "Box.spare is 0.5: it must be a part"),
        (lambda: Box(content=Square(), more=(Square(), 3)), "it must be a tuple of parts"),
        (lambda: Box(content=Square(), more=Square()), "it must be a tuple of parts"),
        (lambda: Box(content=Square(), extra=Square()), "it must be a tuple of parts"),
        (
            lambda: Box(content=Square),
            "it is a class. To mend it: give one of its instances: Square().",
        ),
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


labels = some.builds(
    Label,
    count=some.integers(),
    # no subnormals: a process that has trained flushes them to zero
    shade=some.none() | some.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    pairs=some.lists(some.tuples(some.integers(), some.integers()), max_size=3).map(tuple),
    words=some.none()
    | some.dictionaries(some.text(max_size=3), some.lists(some.text(max_size=3)).map(tuple)),
    many=some.none() | some.just("all") | some.integers(),
    shown=some.booleans(),
)
contents = some.builds(Square, side=some.floats(1e-9, 99)) | labels
several = some.lists(contents, max_size=3).map(tuple)
boxes = some.builds(
    Box,
    content=contents,
    spare=some.none() | contents,
    more=several,
    extra=some.none() | several,
    inside=some.none() | some.builds(Box, content=contents),
)


@given(boxes)
def test_plain_data_give_every_part_back(box):
    assert from_plain(Box, to_plain(box), PLACES) == box


def test_none_is_written_where_it_is_not_the_default():
    assert to_plain(Label(shade=None)) == {
        "name": "Label",
        "count": 1,
        "shade": "none",
        "pairs": [],
        "shown": True,
    }


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({}, "", "Box needs content"),
        ({"content": "Label", "inside": {}}, "inside", "Box needs content"),
        (
            {"content": "Label", "inside": {"content": {"name": "Label", "count": "x"}}},
            "inside.content.count",
            "it must be an integer",
        ),
        (
            {"content": "Label", "more": ["Label", {"name": "Square", "side": -1}]},
            "more.1.side",
            "more than 0",
        ),
        ({"content": "Label", "extra": ["Label", 7]}, "extra.1", "extra.1 is 7"),
        (
            {"content": "Label", "name": "Crate"},
            "name",
            "the name of Box is 'Crate': it must be its own",
        ),
    ],
)
def test_a_mistake_deep_in_plain_data_is_told_with_its_place(data, path, words):
    with pytest.raises(RecipeError) as caught:
        from_plain(Box, data, PLACES)
    assert words in str(caught.value) and caught.value.path == path


@pytest.mark.parametrize("word", ["Label", "label", "LABEL", "la-bel", "la_bel"])
def test_a_word_alone_is_a_part_with_its_defaults(word):
    box = from_plain(
        Box, {"content": word, "more": word, "spare": "none", "inside": {"content": word}}, PLACES
    )
    assert box == Box(content=Label(), more=(Label(),), inside=Box(content=Label()))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("more.²", "must be a place from 0 to 1"),
        ("more.-1", "must be a place from 0 to 1"),
        ("extra.0", "there is nothing in it"),
        ("content.count.0", "1 has no settings of its own"),
        ("", "Box has no setting ''"),
    ],
)
def test_a_path_that_leads_nowhere_is_told(path, words):
    box = Box(content=Label(), more=(Label(), Label()), extra=())
    with pytest.raises(RecipeError) as caught:
        vary(box, path, 1)
    assert words in str(caught.value)


def test_two_parts_of_one_name_are_two_programs():
    def another():
        @part
        class Same:
            size: Number = 1.0

        return Same()

    assert program(another()) != program(another())


def test_a_column_and_a_float_give_the_same_bits():
    like = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    column = stack([Square(side=0.1)] * 3).side
    assert torch.equal(match(column, like) * like, match(0.1, like) * like)

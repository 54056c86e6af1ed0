"""Parts as plain data and back, and their settings by path."""

import pytest
from example_parts import Box, Circle, Content, Drawing, Label, Shape, Square
from hypothesis import given
from hypothesis import strategies as some

from ravine.errors import RecipeError
from ravine.serialization import from_plain, get, replace_everywhere, to_plain, vary

CHOICES = {Shape: (Square, Circle)}
PLACES = {Content: (Square, Label), Shape: (Box,)}


def read(data):
    return from_plain(Drawing, data, CHOICES)


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
def test_a_mistake_in_plain_data_is_reported_with_its_place(data, path, words):
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


labels = some.builds(
    Label,
    count=some.integers(-(2**53), 2**53),
    # no subnormals: a process that has trained flushes them to zero
    shade=some.none()
    | some.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False, width=32),
    pairs=some.lists(
        some.tuples(some.integers(-(2**53), 2**53), some.integers(-(2**53), 2**53)), max_size=3
    ).map(tuple),
    words=some.none()
    | some.dictionaries(some.text(max_size=3), some.lists(some.text(max_size=3)).map(tuple)),
    many=some.none() | some.just("all") | some.integers(-(2**53), 2**53),
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
def test_a_mistake_deep_in_plain_data_is_reported_with_its_place(data, path, words):
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
def test_a_path_that_leads_nowhere_is_reported(path, words):
    box = Box(content=Label(), more=(Label(), Label()), extra=())
    with pytest.raises(RecipeError) as caught:
        vary(box, path, 1)
    assert words in str(caught.value)


def test_a_setting_is_replaced_wherever_it_stands():
    box = Box(content=Square(side=3.0), more=(Square(), Label()), inside=Box(content=Square()))
    replaced = replace_everywhere(box, {"side": 2.0})
    assert replaced.content == Square(side=2.0) and replaced.more == (Square(side=2.0), Label())
    assert replaced.inside.content == Square(side=2.0) and replaced.price == box.price

"""Messages say what, why and what to do; errors come back whole from worker processes."""

import copy
import pickle

import pytest

from ravine.errors import (
    DataError,
    InputError,
    Interrupted,
    RavineError,
    RecipeError,
    RunError,
    nearest,
)


@pytest.mark.parametrize("kind", [InputError, RecipeError, DataError, RunError])
def test_an_error_survives_pickling_and_copying(kind):
    error = kind("lr is -1", why="it must be at least 0", do="use 0.1", where="r.toml:3")
    error.path = "optimizer.lr"
    error.add_note("while reading")
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(back) is kind and str(back) == str(error)
        assert (back.what, back.why, back.do, back.where) == (
            error.what,
            error.why,
            error.do,
            error.where,
        )
        assert back.path == "optimizer.lr" and back.__notes__ == ["while reading"]


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "it broke"),
        ({"why": "it fell"}, "it broke: it fell"),
        ({"do": "glue it"}, "it broke. Glue it."),
        (
            {"why": "it fell", "do": "glue it", "where": "r.toml:3"},
            "r.toml:3: it broke: it fell. Glue it.",
        ),
        (
            {"why": "there are a, b. Did you mean 'a'?", "do": "glue it"},
            "it broke: there are a, b. Did you mean 'a'? Glue it.",
        ),
        ({"why": "there are none.", "do": "glue it"}, "it broke: there are none. Glue it."),
    ],
)
def test_a_message_reads_as_sentences(parts, text):
    assert str(InputError("it broke", **parts)) == text


def test_every_error_is_of_one_tree_and_has_its_exit_code():
    codes = {
        kind: kind.exit_code
        for kind in (RavineError, InputError, RecipeError, DataError, RunError, Interrupted)
    }
    assert all(issubclass(kind, RavineError) for kind in codes)
    assert list(codes.values()) == [1, 2, 2, 2, 2, 130]
    assert issubclass(InputError, ValueError) and not issubclass(Interrupted, InputError)


@pytest.mark.parametrize(
    ("name", "choices", "guess"),
    [
        ("wieght", ["weight", "bias"], "weight"),
        ("adam_w", ["Sgd", "AdamW"], "AdamW"),
        ("BREASTCANCER", ["breast-cancer", "wine"], "breast-cancer"),
        ("learning_rate", ["lr", "beta1", "momentum"], "lr"),
        ("decay", ["lr", "weight_decay"], "weight_decay"),
    ],
)
def test_the_nearest_name_is_offered(name, choices, guess):
    text = nearest(name, choices)
    assert text.endswith(f" Did you mean {guess!r}?")
    assert text.startswith(f"there are {', '.join(sorted(choices))}.")


def test_nothing_is_offered_where_nothing_is_near():
    assert nearest("zzz", ["weight", "bias"]) == "there are bias, weight."
    assert nearest("", ["weight"]) == "there are weight."
    assert nearest("---", ["weight"]) == "there are weight."
    assert nearest("weight", []) == "there are none."


def test_a_long_list_is_cut_and_the_guess_still_found():
    text = nearest("colum39", [f"column{i:02d}" for i in range(40)])
    assert "and 10 more." in text and text.endswith("Did you mean 'column39'?")


def test_errors_have_three_parts_and_survive_a_process():
    error = DataError("x is y", why="it must not be", do="change it", where="t.csv:3")
    assert str(error) == "t.csv:3: x is y: it must not be. Change it."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DataError and str(again) == str(error) and again.exit_code == 2
    assert isinstance(error, InputError) and isinstance(error, ValueError)
    assert str(DataError("x", why="is it y?", do="look")) == "x: is it y? Look."


def test_nearest_offers_a_name_only_where_one_is_near():
    assert nearest("qqq", ["lr", "eps"]) == "there are eps, lr."
    assert nearest("Weight-Decay", ["weight_decay", "lr"]).endswith("Did you mean 'weight_decay'?")
    assert nearest("x", []) == "there are none."
    assert "and 20 more" in nearest("zzz", [f"name{i:02d}" for i in range(50)])

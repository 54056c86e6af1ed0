"""Columns that give the target away, alone or with others that back them up; strong columns that
do not are left alone.
"""

import numpy as np
import pandas as pd
import pytest

from ravine.catalog import named_recipe
from ravine.data import BUNDLED_SETS
from ravine.diagnosis.data.leaking_columns import find_leaking_columns
from ravine.examination.preflight import profile_recipe_data
from ravine.training.defaults import prepare

DRAW = np.random.default_rng(5)
ROWS = 800
X = DRAW.normal(size=(ROWS, 4))
RATE = 10 + 2 * X[:, 0] + X[:, 1] + DRAW.normal(size=ROWS)
LIVES = X[:, 0] + X[:, 1] + DRAW.normal(size=ROWS) > 0.4
BANDS = pd.qcut(RATE, 40, labels=False)


def choose(yes, no):
    return np.where(LIVES, DRAW.choice(yes, ROWS), DRAW.choice(no, ROWS))


def leaks(y, **columns):
    """The leaks of a table of four ordinary columns and others, by the table's own names."""
    table = pd.DataFrame(X, columns=list("abcd")).assign(**columns, y=y)
    return find(prepare(named_recipe("plain").vary("data.target", ("y",)), table)[0])


def find(task):
    made = task.train_examples
    codes = () if made.codes is None else (made.codes,)
    x, y = np.concatenate([made.numbers, *codes], 1), made.targets.numpy()
    kind = {"regression": "number"}.get(task.kind, task.kind)
    named = {"name_column": str, "sources": task.encoder.sources}
    return {leak.where: leak for leak in find_leaking_columns(x, y, kind, seed=0, **named)}


NAMES_OF_CLASSES = {
    "five levels": choose(["A", "B", "C"], ["none", "lost"]),
    "two words": choose(["ja"], ["nein"]),
    "many levels": choose([f"boat {i}" for i in range(15)], ["none", "lost"]),
    "numbers of groups": choose([3, 8, 11], [2, 5, 9]),
    "with a few errors": np.where(np.arange(ROWS) % 250 == 0, "A", choose(["A", "B"], ["none"])),
}


@pytest.mark.parametrize("name", NAMES_OF_CLASSES)
def test_a_category_that_tells_the_class_is_found_by_its_column(name):
    found = leaks(np.where(LIVES, "lives", "dies"), boat=NAMES_OF_CLASSES[name])
    assert list(found) == ["boat"]
    assert found["boat"].score > 0.99 > 0.9 > found["boat"].rest_score


@pytest.mark.parametrize(
    "y", [RATE, np.exp(RATE / 2), -(RATE**3)], ids=["even", "skewed", "falling"]
)
def test_a_band_of_a_number_is_found(y):
    assert list(leaks(y, band=[f"band {i}" for i in BANDS])) == ["band"]


def test_columns_that_back_each_other_up_are_named_together():
    grades = {"sub_grade": [f"s{i}" for i in BANDS], "grade": [f"g{i // 8}" for i in BANDS]}
    leak = leaks(RATE, **grades)["sub_grade"]
    assert leak.backed_by == ("grade",)
    # without both the rest reaches what a straight line does: 5 of 6 parts of the variance
    assert leak.rest_score == pytest.approx(5 / 6, abs=0.04)
    found = leaks(LIVES, boat=choose(["A"], ["none"]), body=choose(["-"], ["1", "2"]))
    assert found["boat"].backed_by == ("body",) and found["body"].backed_by == ("boat",)


def test_a_strong_column_beside_a_leak_does_not_back_it_up():
    level = DRAW.integers(0, 20, ROWS)
    y = level + 0.25 * level.std() * DRAW.normal(size=ROWS)
    leak = leaks(y, level=[f"l{i}" for i in level], tax=0.2 * y + 1)["tax"]
    assert leak.backed_by == () and 0.6 < leak.rest_score < 0.97


def test_a_leak_of_one_of_several_targets_is_found():
    y = np.stack([X[:, 2] + DRAW.normal(size=ROWS), RATE], 1)
    x = np.concatenate([X, RATE[:, None] * 3 + 1], 1)
    found = find_leaking_columns(x, y, "numbers", name_column="x{}".format, seed=0)
    assert [leak.where for leak in found] == ["x4"]


@pytest.mark.parametrize("share", [0.9, 0.95])
def test_a_strong_column_that_leaves_something_open_is_none(share):
    noise = np.sqrt(1 / share - 1) * DRAW.normal(size=ROWS)
    assert leaks(X[:, 0] + noise) == {}
    level = DRAW.integers(0, 8, ROWS)
    assert leaks(level + level.std() * noise, level=[f"l{i}" for i in level]) == {}
    flipped = (X[:, 0] > 0) ^ (DRAW.random(ROWS) < 1 - share)
    assert leaks(np.where(flipped, "a", "b"), level=[f"l{i}" for i in level]) == {}
    assert leaks(np.where(flipped, "a", "b"), strong=np.where(X[:, 0] > 0, "p", "n")) == {}


@pytest.mark.parametrize("name", BUNDLED_SETS)
def test_bundled_sets_have_none(name):
    assert find(prepare(named_recipe("plain").vary("data.source", name))[0]) == {}


def test_the_profile_of_a_recipe_judges_columns_of_the_table():
    table = pd.DataFrame(X[:200], columns=list("abcd")).assign(y=LIVES[:200])
    table["boat"] = NAMES_OF_CLASSES["five levels"][:200]
    task, recipe = prepare(named_recipe("plain").vary("data.target", ("y",)), table)
    assert [leak.where for leak in profile_recipe_data(recipe, task).leaking_columns] == ["boat"]


def with_gaps(values, share):
    return np.where(DRAW.random(ROWS) < share, np.nan, values)


BENT = DRAW.normal(size=ROWS)
LEAKS_OF_NUMBERS = {
    "a copy with gaps": (RATE, with_gaps(1.1 * RATE, 0.05)),
    "a copy with many gaps": (RATE, with_gaps(RATE, 0.3)),
    "a number that is bent back": (BENT**2, BENT + 0.001 * DRAW.normal(size=ROWS)),
    "a class by its distance from 0": (
        np.where(LIVES, "lives", "dies"),
        DRAW.choice([-1, 1], ROWS) * (np.where(LIVES, 1.0, 0.0) + DRAW.uniform(0, 1, ROWS)),
    ),
}


@pytest.mark.parametrize("name", LEAKS_OF_NUMBERS)
def test_numbers_that_tell_the_target_where_they_are_known_are_found(name):
    y, column = LEAKS_OF_NUMBERS[name]
    assert list(leaks(y, told=column)) == ["told"]


def test_classes_that_lie_apart_are_no_leak():
    apart = np.where(LIVES, 3.0, 0.0) + 0.4 * DRAW.normal(size=ROWS)
    assert leaks(np.where(LIVES, "lives", "dies"), petal=apart) == {}

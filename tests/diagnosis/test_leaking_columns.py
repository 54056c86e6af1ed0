"""Columns that give the target away, alone or with others that back them up; strong columns that
do not are left alone.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from ravine.catalog import named_recipe
from ravine.data import BUNDLED_SETS
from ravine.diagnosis.data.leaking_columns import (
    correlations,
    find_correlation_drop,
    find_leaking_columns,
    slope_errors,
)
from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules
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
    "booked only if so": (
        np.where(LIVES, "a", "b"),
        np.where(LIVES, DRAW.lognormal(5, 0.6, ROWS), 0.0),
    ),
    "99 if so": (np.where(LIVES, "a", "b"), np.where(LIVES, 99.0, DRAW.normal(40, 20, ROWS))),
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


def streets(rows, codes, kind, seed):
    """A category, three columns of numbers, and a target that depends on the category and two of
    the columns; the effects of categories are the same for every seed.
    """
    draw = np.random.default_rng(seed)
    effect = 0.5 * np.random.default_rng(0).normal(size=codes)
    code, x = draw.integers(codes, size=rows), draw.normal(size=(rows, 3))
    y = x[:, 0] - 0.6 * x[:, 1] + effect[code] + draw.normal(size=rows)
    return code, x, (y > 0).astype(float) if kind == "binary" else y


@pytest.mark.parametrize("kind", ["number", "binary", "classes"])
@pytest.mark.parametrize("own", [True, False])
def test_target_encoding_is_found_if_a_row_s_own_target_is_in_it(kind, own):
    (code, x, y), (new_code, new, new_y) = (
        streets(n, 200, "number" if kind == "number" else "binary", n) for n in (500, 250)
    )
    total, count = np.bincount(code, y, 200), np.bincount(code, minlength=200)
    sums, counts = (total[code], count[code]) if own else (total[code] - y, count[code] - 1)
    made = np.where(counts > 0, sums / np.maximum(counts, 1), y.mean())
    new_made = np.where(count > 0, total / np.maximum(count, 1), y.mean())[new_code]
    x, new = np.c_[x, made], np.c_[new, new_made]
    if kind == "classes":  # class indices 0 and 1
        y, new_y = y.astype(int), new_y.astype(int)
    data = profile_data(
        torch.tensor(x), torch.tensor(y), validation=(torch.tensor(new), torch.tensor(new_y))
    )
    assert data.kind == kind
    found = {f.code: f for f in run_rules(DATA_RULES, data)[0]}
    assert ("RVN-D20" in found) is own
    if own:
        assert (found["RVN-D20"].where, found["RVN-D20"].cause) == ("column 3", "leakage")


@pytest.mark.parametrize(
    "new",
    [
        lambda x, y: (x, y),
        lambda x, y: (x, y[::-1].copy()),  # no column correlates with them
        lambda x, y: (3 * x + 100, y),
        lambda x, y: (x[:40], y[:40]),
    ],
)
def test_no_column_is_reported_where_all_or_none_drop(new):
    (_, x, y), (_, others, other_y) = (streets(n, 200, "number", n) for n in (500, 250))
    held_out = tuple(torch.tensor(each) for each in new(others, other_y))
    data = profile_data(torch.tensor(x), torch.tensor(y), validation=held_out)
    assert "RVN-D20" not in {f.code for f in run_rules(DATA_RULES, data)[0]}


def test_correlations_and_their_drop_equal_those_of_scipy():
    draw = np.random.default_rng(3)
    x, new = draw.normal(size=(120, 3)), draw.normal(size=(80, 3))
    y, new_y = x[:, 1] + draw.normal(size=120), new[:, 1] * 0.1 + draw.normal(size=80)
    expected = [stats.pearsonr(x[:, k], y)[0] for k in range(3)]
    assert correlations(x, y) == pytest.approx(expected, abs=1e-12)
    found = find_correlation_drop((x, y), (new, new_y), name_column=str)
    r, other = expected[1], stats.pearsonr(new[:, 1], new_y)[0]
    z = (math.atanh(abs(r)) - math.atanh(max(other * np.sign(r), 0))) / math.sqrt(1 / 117 + 1 / 77)
    assert found.where == "1" and found.z == pytest.approx(z, abs=1e-9)


@pytest.mark.parametrize("narrow", [lambda t: t > 0.9, lambda t: abs(t - 0.5) < 0.05])
def test_a_column_of_narrower_range_in_validation_keeps_its_slope(narrow):
    draw = np.random.default_rng(2)
    time = np.linspace(0, 1, 1000)
    x = np.c_[12 * time, draw.normal(size=(1000, 2))]
    y, held = 5 * time + draw.normal(size=1000), narrow(time)
    found = find_correlation_drop((x[~held], y[~held]), (x[held], y[held]), name_column=str)
    assert found is None or found.z < 3 or found.where != "0"
    fisher = np.arctanh(correlations(x[~held], y[~held])) - np.arctanh(
        correlations(x[held], y[held])
    )
    assert fisher[0] > 5 * math.sqrt(1 / 900 + 1 / 100)  # what correlations alone would say


def test_errors_of_slopes_are_the_textbook_s():
    draw = np.random.default_rng(3)
    x, new = draw.normal(size=(120, 1)), draw.normal(size=(80, 1))
    y, new_y = 2 * x[:, 0] + draw.normal(size=120), new[:, 0] + draw.normal(size=80)
    fits = [tuple(stats.linregress(a[:, 0], b)) for a, b in ((x, y), (new, new_y))]
    (slope, *_, error), (new_slope, *_, new_error) = fits
    expected = (slope - new_slope) / math.hypot(error, new_error)
    given = [(a, b, correlations(a, b)) for a, b in ((x, y), (new, new_y))]
    assert float(slope_errors(*given)[0]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("noise", "severity"), [(0.0, "warning"), (0.02, "warning"), (0.06, "note"), (0.09, "note")]
)
def test_a_good_instrument_is_no_leak(noise, severity):
    draw = np.random.default_rng(6)
    others, error = draw.normal(size=(2, 500, 3))
    y = others.sum(1) + draw.normal(size=500)
    x = np.c_[others, y / y.std() + noise * error[:, 0]]
    data = profile_data(torch.tensor(x), torch.tensor(y))
    (found,) = (f for f in run_rules(DATA_RULES, data)[0] if f.code == "RVN-D08")
    assert (found.where, found.severity) == ("column 3", severity)


def test_columns_that_all_drop_are_no_leak():
    """As where validation rows are of another kind."""
    draw = np.random.default_rng(6)
    y, new_y = draw.normal(size=(2, 300))
    x, new = y[:, None] + 0.5 * draw.normal(size=(300, 4)), draw.normal(size=(300, 4))
    x[:, 0] = y + 0.1 * draw.normal(size=300)
    data = profile_data(
        torch.tensor(x), torch.tensor(y), validation=(torch.tensor(new), torch.tensor(new_y))
    )
    assert data.validation.correlation_drop.z > 12
    assert "RVN-D20" not in {f.code for f in run_rules(DATA_RULES, data)[0]}

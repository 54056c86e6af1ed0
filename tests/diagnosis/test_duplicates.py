"""Rows in both parts: as many as chance gives are no leak, copies are one."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from ravine.catalog import named_recipe
from ravine.data.splits import Given
from ravine.diagnosis.data.duplicates import find_duplicates
from ravine.diagnosis.data.measure import profile_data
from ravine.diagnosis.data.profile import DataProfile, ValidationProfile
from ravine.diagnosis.registry import DATA_RULES
from ravine.diagnosis.rule import run_rules
from ravine.examination.preflight import profile_recipe_data
from ravine.training.defaults import prepare

DRAW = np.random.default_rng(8)
ROWS, TRAIN = 300, 240


def passengers():
    """Few columns, ages of whole years, all of them tied to each other."""
    berth, sex = DRAW.choice([1, 2, 3], ROWS, p=[0.25, 0.2, 0.55]), DRAW.random(ROWS) < 0.36
    age = DRAW.normal(38 - 4 * berth, 12).clip(1).round()
    lives = DRAW.random(ROWS) < 1 / (1 + np.exp(-(2.5 * sex - berth + 0.8)))
    return np.stack([berth, sex, age], 1), lives[:, None] * 1.0


def pupils():
    """Two columns that say the same, and whole numbers."""
    grade = DRAW.integers(0, 12, ROWS)
    score = DRAW.normal(60, 20, ROWS).round()
    return np.stack([grade, 2 * grade + 5, score], 1), DRAW.integers(0, 2, (ROWS, 1)) * 1.0


def lengths():
    """One column in centimeters."""
    return DRAW.normal(170, 15, (ROWS, 1)).round(), DRAW.integers(0, 2, (ROWS, 1)) * 1.0


def measured():
    """Numbers, and a flag."""
    x = np.concatenate([DRAW.normal(size=(ROWS, 3)), DRAW.integers(0, 2, (ROWS, 1))], 1)
    return x, DRAW.normal(size=(ROWS, 1))


def shared(x, y, *, copies=0):
    """The shared rows of a split, of which so many are copies, and whether they are a finding."""
    new = np.concatenate([np.arange(TRAIN, ROWS), np.arange(copies)])
    known = find_duplicates(x[:TRAIN], y[:TRAIN], (x[new], y[new]))
    profile = DataProfile(
        rows=TRAIN,
        shape=x.shape[1:],
        layout="table",
        kind="binary",
        duplicates=known,
        validation=ValidationProfile(rows=len(new)),
    )
    found = run_rules([r for r in DATA_RULES if r.code == "RVN-D07"], profile)[0]
    return known, bool(found)


@pytest.mark.parametrize("table", [passengers, pupils, lengths])
def test_rows_that_are_equal_by_chance_are_no_leak(table):
    x, y = table()
    known, is_leak = shared(x, y)
    assert known.overlap >= 5 and not known.natural and not is_leak
    orders = [DRAW.permutation(ROWS) for _ in range(20)]
    drawn = [shared(x[order], y[order])[0].overlap for order in orders]
    # as many as in other splits of the table, of which a permuted column leaves a good part
    assert 0.4 * np.mean(drawn) < known.expected_overlap < 1.2 * np.mean(drawn)
    assert not any(shared(x[order], y[order])[1] for order in orders)


@pytest.mark.parametrize("copies", [3, 12, 60])
def test_copies_of_measured_rows_are_a_leak(copies):
    x, y = measured()
    known, is_leak = shared(x, y, copies=copies)
    assert (known.overlap, known.expected_overlap, is_leak) == (copies, 0.0, True)


def test_copies_of_one_measured_column_are_a_leak():
    x, y = measured()
    known, is_leak = shared(x[:, :1], (y > 0) * 1.0, copies=60)
    assert is_leak and known.overlap == 60 and known.expected_overlap < 15
    assert known.overlap > 3 * known.expected_overlap + 4 * math.sqrt(known.expected_overlap)


def test_images_and_wide_tables_are_compared_as_they_are():
    pixels = torch.tensor(DRAW.normal(size=(60, 1, 15, 15))).float()
    y = torch.arange(60) % 2
    again = (torch.cat([pixels[40:], pixels[:9]]), torch.cat([y[40:], y[:9]]))
    for x, new in ((pixels, again[0]), (pixels.flatten(1), again[0].flatten(1))):
        known = profile_data(x[:40], y[:40], validation=(new, again[1])).duplicates
        assert known is not None and (known.overlap, known.expected_overlap) == (9, 0.0)


def contradicts(x, y):
    known = find_duplicates(x, y, None)
    profile = DataProfile(
        rows=len(x), shape=x.shape[1:], layout="table", kind="binary", duplicates=known
    )
    return bool(run_rules([r for r in DATA_RULES if r.code == "RVN-D17"], profile)[0])


@pytest.mark.parametrize("table", [passengers, lengths])
def test_inputs_that_are_equal_by_chance_contradict_nothing(table):
    x, y = table()
    assert len(np.unique(x, axis=0)) < 0.8 * len(x) and not contradicts(x, y)


def test_copies_of_measured_inputs_with_other_targets_contradict():
    x, y = measured()
    assert not contradicts(x, y)
    assert contradicts(np.concatenate([x, x[:60]]), np.concatenate([y, y[60:120]]))


@pytest.mark.parametrize("levels", [3, 9, 12])
@pytest.mark.parametrize("copies", [0, 40])
def test_rows_whose_levels_were_not_learned_are_no_copies(levels, copies):
    """A rare level stands in one row or two, and all of them have one code."""
    draw = np.random.default_rng(levels)
    person = np.where(
        np.arange(ROWS) % 3 == 0, np.arange(ROWS) // 6 + 1000, draw.integers(0, levels, ROWS)
    )
    table = pd.DataFrame({"person": pd.Series(person).map("p{}".format)})
    table["year"] = draw.integers(2000, 2040, ROWS)
    table["wage"] = draw.integers(1, 400, ROWS)
    table.loc[::3, "wage"] = 100
    table = table.drop_duplicates()
    table["part"] = np.where(np.arange(len(table)) % 3 < 2, "train", "validation")
    copied = table[table.part == "train"].iloc[:copies].assign(part="validation")
    recipe = (
        named_recipe("plain").vary("data.target", ("wage",)).vary("split", Given(column="part"))
    )
    task, resolved = prepare(recipe, pd.concat([table, copied]))
    known = profile_recipe_data(resolved, task).duplicates
    levels = [c for c in task.encoder.to_plain()["columns"] if c["name"] == "person"][0]["levels"]
    learned = copied.person.isin(levels)
    assert known.overlap == learned.sum() and (copies == 0) == (known.overlap == 0)

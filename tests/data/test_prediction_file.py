"""Predictions in a file can be joined to their rows and have the digits that mean something."""

import io

import numpy as np
import pandas as pd
import pytest

from ravine import catalog, open_run, train
from ravine.cli import run_command
from ravine.data import file_blocks, round_floats

RANDOM = np.random.default_rng(0)
TABLE = pd.DataFrame({"x": RANDOM.normal(size=80), "city": RANDOM.choice(["Ulm", "Bonn"], 80)})


@pytest.fixture
def run(tmp_path):
    """A run that has learned y from x and city; its folder."""
    train(
        catalog.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 1),
        TABLE.assign(y=1000.0 * TABLE["x"]),
        out=tmp_path / "run",
    )
    return tmp_path / "run"


def predicted(run, rows, ending=".csv"):
    rows.to_csv(run / "new.csv", index=False)
    out = (run / "out").with_suffix(ending)
    assert run_command(["predict", str(run), str(run / "new.csv"), "-o", str(out), "--force"]) == 0
    return pd.read_csv(out) if ending == ".csv" else pd.read_json(out, lines=True, dtype=False)


def test_identifiers_go_with_their_predictions(run):
    rows = TABLE.assign(customer_id=[f"c{i}" for i in range(80)], note="id", group_id=1)
    found = predicted(run, rows)
    assert list(found.columns) == ["customer_id", "y"] and found["customer_id"].equals(
        rows["customer_id"]
    )


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([f"W-{i:03}" for i in range(80)], True),
        (np.arange(80) * 7 + 10**12, True),
        ([f"{i}@example.org" for i in range(80)], True),
        ([f"{i} " + "a word of many " * 9 for i in range(80)], False),  # no name of a row
        (np.linspace(0, 1, 80), False),  # a measurement
        ([f"W-{i:03}" for i in range(79)] + ["W-000"], False),
        ([f"W-{i:03}" for i in range(79)] + [None], False),
    ],
)
def test_what_tells_rows_apart_is_kept_whatever_it_is_called(run, values, kept):
    found = predicted(run, TABLE.assign(bottle=values))
    assert list(found.columns) == ["bottle" if kept else "row", "y"]
    assert not kept or found["bottle"].tolist() == list(values)


def test_without_identifiers_rows_are_numbered(run):
    for ending in (".csv", ".jsonl"):
        found = predicted(run, TABLE.iloc[::-1], ending)
        assert list(found.columns) == ["row", "y"] and found["row"].tolist() == list(range(80))


def test_files_hold_seven_digits_and_python_gets_all(run):
    exact = open_run(run).predict(TABLE)["y"].to_numpy()
    found = predicted(run, TABLE)["y"].to_numpy()
    assert np.allclose(found, exact, rtol=5e-7, atol=0) and not np.array_equal(found, exact)
    text = (run / "out.csv").read_text().split()[1:]
    assert (
        max(len(line.split(",")[1].strip("-").replace(".", "").lstrip("0")) for line in text) <= 7
    )


def test_what_is_no_number_is_left_alone():
    table = pd.DataFrame({"a": ["x", "y"], "b": [1, 2], "c": [np.nan, 1 / 3]})
    assert (
        round_floats(table)["a"].tolist() == ["x", "y"]
        and round_floats(table)["b"].dtype == np.int64
    )
    assert round_floats(table)["c"].tolist()[1] == 0.3333333 and np.isnan(
        round_floats(table)["c"][0]
    )


def test_predictions_far_from_0_keep_the_digits_that_tell_them_apart(tmp_path):
    moments = 1_700_000_000 + 300.0 * TABLE["x"]
    run = tmp_path / "run"
    recipe = catalog.named_recipe("plain").vary("data.target", ("y",)).vary("epochs", 1)
    train(recipe, TABLE.assign(y=moments), out=run)
    exact = open_run(run).predict(TABLE)["y"].to_numpy()
    assert np.ptp(exact) > 0
    assert np.abs(predicted(run, TABLE)["y"].to_numpy() - exact).max() < 1e-3


def test_no_cell_of_a_csv_is_a_formula():
    rows = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\tx", "-", "+", "-5", "+1.5e3", "a"]
    table = pd.DataFrame({"=x": rows, "n": range(10)})
    (written,) = file_blocks([table], ".csv")
    found = pd.read_csv(io.BytesIO(written), dtype=str)
    assert list(found.columns) == ["'=x", "n"]
    assert found["'=x"].tolist() == [f"'{text}" for text in rows[:5]] + rows[5:]
    (lines,) = file_blocks([table], ".jsonl")
    assert pd.read_json(io.BytesIO(lines), lines=True, dtype=False)["=x"].tolist() == rows

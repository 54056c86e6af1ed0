"""Claims about rows that are no examples: they are left out, and said."""

import numpy as np
import pandas as pd
import pytest

from ravine.data import Data, Drift, Encoding, Random, load, open_blocks
from ravine.data.foreign_rows import drop_foreign_rows

ROWS = pd.DataFrame(
    {"a": np.arange(60) / 7, "town": ["Aix", "Bonn", "Como"] * 20, "y": np.arange(60) / 3}
)
FOREIGN = {
    "units": (0, {"a": "m", "town": "name", "y": "kg"}, "holds units"),
    "the header again": (30, {"a": "a", "town": "town", "y": "y"}, "repeats the column names"),
    "a remark": (60, {"a": "# end of file", "town": "", "y": ""}, "is a line below the table"),
    "a total": (60, {"a": "", "town": "Total", "y": str(59 * 60 / 6)}, "is a total"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_rows_that_are_no_examples_are_left_out_and_said(name, tmp_path):
    at, row, why = FOREIGN[name]
    text = ROWS.astype(str)
    whole = pd.concat([text.iloc[:at], pd.DataFrame([row]), text.iloc[at:]])
    whole.to_csv(tmp_path / "t.csv", index=False)
    data = Data(source=str(tmp_path / "t.csv"), target=("y",))
    task = load(data, Random(), Encoding(), seed=0)
    assert [n for n in task.notes if n.startswith(f"Row {at} {why} and is left out")]
    rows = np.concatenate([task.rows[split] for split in ("train", "validation", "test")])
    assert sorted(rows) == [i for i in range(61) if i != at]
    expected = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=ROWS)
    assert task.train_examples.numbers.equal(expected.train_examples.numbers)
    assert task.train_examples.targets.equal(expected.train_examples.targets)


@pytest.mark.parametrize(
    "frame",
    [
        ROWS,
        ROWS[["town"]].assign(kind=["x", "y"] * 30),
        pd.DataFrame({"a": ["Total", "x"] * 30, "b": range(60)}),
        pd.DataFrame({"a": ["3", "x", "4"] * 20}),
    ],
)
def test_ordinary_tables_keep_all_rows(frame):
    kept, places = drop_foreign_rows(frame, notes := [])
    assert kept is frame and places.tolist() == list(range(60)) and notes == []


def total_of(rows, label="Total", how="sum"):
    return pd.DataFrame([{"town": label, **rows[["a", "y"]].agg(how).round(9)}])


@pytest.mark.parametrize(
    ("parts", "places"),
    [
        ([ROWS, total_of(ROWS, "Total 2023")], [60]),
        ([ROWS, total_of(ROWS, "All")], [60]),
        ([ROWS, total_of(ROWS, "Average", "mean")], [60]),
        ([total_of(ROWS, "TOTAL:"), ROWS], [0]),
        ([ROWS[:20], total_of(ROWS[:20]), ROWS[20:], total_of(ROWS[20:])], [20, 61]),
        ([ROWS[:20], total_of(ROWS[:20]), ROWS[20:], total_of(ROWS)], [20, 61]),
        (
            [ROWS[:9], total_of(ROWS[:9], "Sub-total A"), ROWS[9:], total_of(ROWS[9:], "Sum")],
            [9, 61],
        ),
        ([ROWS, pd.DataFrame([{"town": "Total", "y": 1000.0}])], [60]),
        ([ROWS[:59], ROWS[59:].assign(town="Total")], []),
        ([ROWS.assign(town=["Total", "Shell", "Esso"] * 20)], []),
        ([ROWS.assign(town=["min", "max", "mean"] * 20)], []),
    ],
)
def test_totals_are_left_out_wherever_they_stand_and_levels_of_that_name_stay(parts, places):
    table = pd.concat(parts, ignore_index=True)
    kept, found = drop_foreign_rows(table, notes := [])
    assert sorted(set(range(len(table))) - set(found)) == places
    assert len(kept) == 60 and len(notes) == (bool(places) or table["town"].iat[-1] == "Total")


def test_new_files_with_units_headers_and_totals_are_read_as_those_of_training(tmp_path):
    rows = ROWS.drop(columns="y").astype(str).assign(other=ROWS["a"].astype(str))
    units = pd.DataFrame([{"a": "m", "town": "", "other": "kg"}])
    header = pd.DataFrame([{"a": "a", "town": "town", "other": "other"}])
    whole = pd.concat([units, rows[:30], header, rows[30:]])
    whole.to_csv(tmp_path / "t.csv", index=False)
    table = open_blocks(tmp_path / "t.csv", notes := [])
    blocks = pd.concat(table.read(7))
    assert blocks.index.tolist() == [i for i in range(62) if i not in (0, 31)]
    assert blocks["a"].astype(float).tolist() == ROWS["a"].tolist()
    assert len(notes) == 2 and all("left out" in note for note in notes)
    encoder = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=ROWS).encoder
    total = pd.concat([ROWS, pd.DataFrame([{"town": "Total", "a": 3.0}])])
    for rows, is_said in ((total, True), (ROWS, False)):
        drift = Drift(encoder)
        drift.add(rows)
        assert ("may be a total" in str(drift.describe())) is is_said


def test_codes_keep_their_zeros_where_a_row_is_left_out():
    codes = [f"0{i % 9}{i % 7}{i % 5}" for i in range(60)] + ["Total"]
    table, _ = drop_foreign_rows(pd.DataFrame({"zip": codes, "y": range(61)}), [])
    assert table["zip"].tolist() == codes[:-1]

"""Claims about rows that are no examples: they are left out, and said."""

import numpy as np
import pandas as pd
import pytest

from ravine.data import Data, Encoding, Random, load
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


def test_codes_keep_their_zeros_where_a_row_is_left_out():
    codes = [f"0{i % 9}{i % 7}{i % 5}" for i in range(60)] + ["Total"]
    table, _ = drop_foreign_rows(pd.DataFrame({"zip": codes, "y": range(61)}), [])
    assert table["zip"].tolist() == codes[:-1]

"""Claims about rows that are no examples: they are left out, and said."""

import numpy as np
import pandas as pd
import pytest
import torch

from ravine.data import Data, Drift, Encoder, Encoding, Random, load, open_blocks
from ravine.data.csv_dialect import KnownColumns
from ravine.data.foreign_rows import drop_foreign_rows
from ravine.errors import DataError

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


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("m,,EUR", "a,b,y"),
        (",kg,[s]", "a,b,y"),
        ("kg,-", "a,y"),
        (",EUR", "a,y"),
        ("(m),n.a.", "a,y"),
    ],
)
def test_a_row_of_units_may_have_blanks(head, names, tmp_path):
    columns = names.split(",")
    plain = ROWS.assign(b=range(60))[columns]
    path = tmp_path / "t.csv"
    path.write_text(plain.to_csv(index=False).replace("\n", f"\n{head}\n", 1))
    data = Data(source=str(path), target=("y",))
    task = load(data, Random(), Encoding(), seed=0)
    expected = load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=plain)
    assert task.train_examples.numbers.equal(expected.train_examples.numbers)
    assert task.train_examples.targets.equal(expected.train_examples.targets)
    assert len(task.notes) == 1 + len(expected.notes)
    assert isinstance(task.encoder, Encoder)
    blocks = list(open_blocks(path, notes := [], task.encoder.known_columns).read(7))
    assert notes == ["Row 0 holds units and is left out."]
    assert torch.equal(
        torch.cat([task.encoder.apply(block).numbers for block in blocks]),
        task.encoder.apply(plain).numbers,
    )


@pytest.mark.parametrize("first", [{"a": "Bonn"}, {"a": "-", "b": None}, {"a": "kg", "b": 3.0}])
def test_a_first_row_that_holds_no_units_alone_stays(first):
    table = pd.concat([pd.DataFrame([first]), ROWS[["a"]].assign(b=1.0)], ignore_index=True)
    assert drop_foreign_rows(table, notes := [])[0] is table and notes == []


def test_a_mean_is_called_a_mean_and_several_rows_are_said_in_one_sentence():
    mean = pd.DataFrame([{"town": "Average", "a": ROWS["a"].mean(), "y": ROWS["y"].mean()}])
    totals = [ROWS[:20], total_of(ROWS[:20]), ROWS[20:], total_of(ROWS[20:])]
    for parts, expected in (
        ([ROWS, mean.round(9)], "Row 60 is a mean and is left out: 4.2"),
        (totals, "Row 20 is a total and is left out, and so is 1 more row: "),
    ):
        drop_foreign_rows(pd.concat(parts, ignore_index=True), notes := [])
        assert len(notes) == 1 and notes[0].startswith(expected)


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("n.csv", "a,b\n"),
        ("n.csv", "a;b\n\n\n"),
        ("n.tsv", "# of May\na\tb\n"),
        ("n.csv", "a,b\na,b\na,b\n"),
        ("n.json", "[]"),
        ("n.jsonl", "\n"),
        ("n.parquet", ""),
    ],
)
def test_a_new_file_without_rows_is_refused_with_one_message(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    if name == "n.parquet":
        pd.DataFrame({"a": [], "b": []}).to_parquet(path)
    for known in (None, KnownColumns(columns=("a", "b"))):
        with pytest.raises(DataError, match=f"{name} (has no rows|is empty|is no table)"):
            open_blocks(path, [], known)


@pytest.mark.parametrize(
    "codes",
    [
        [f"0{i % 9}{i % 7}{i % 5}" for i in range(60)],
        ["1.9", "1.10", "1.1", "1.11"] * 15,
        ["2E3", "1E5", "20E2"] * 20,
        [str(10**17 + i % 5) for i in range(60)],
    ],
)
def test_codes_stay_as_they_are_written_where_a_row_is_left_out(codes):
    units = pd.DataFrame({"code": ["-"], "a": ["m"], "y": ["kg"]})
    rows = pd.DataFrame({"code": codes, "a": [f"{i / 4}" for i in range(60)], "y": ["3"] * 60})
    table, places = drop_foreign_rows(pd.concat([units, rows], ignore_index=True), [])
    assert table["code"].tolist() == codes and places[0] == 1
    assert table["a"].tolist() == [i / 4 for i in range(60)]

"""What is given from Python is read as a table, or refused by a message that says what to give."""

import dataclasses
import io
import json
import sqlite3

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse
import torch

from ravine import named_recipe, train
from ravine.data import Data, Encoding, Random, load, read_table
from ravine.data.excel_files import _last_open_document_cell
from ravine.data.frames import table_from
from ravine.errors import DataError

TABLE = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": ["x", "y", "z"]})


class OfAnotherLibrary:
    """A frame that speaks Arrow and nothing else, as a polars frame does."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pa.Table.from_pandas(TABLE).__arrow_c_stream__(requested_schema)


@dataclasses.dataclass(slots=True)
class House:
    a: float
    b: str


def rows_of_a_database():
    base = sqlite3.connect(":memory:")
    base.row_factory = sqlite3.Row
    TABLE.to_sql("houses", base, index=False)
    return base.execute("SELECT * FROM houses").fetchall()


class WithToPandas:
    def to_pandas(self):
        return TABLE


@pytest.mark.parametrize(
    "given",
    [
        pa.Table.from_pandas(TABLE),
        pa.RecordBatch.from_pandas(TABLE),
        OfAnotherLibrary(),
        WithToPandas(),
        TABLE.to_dict("list"),
        TABLE.to_dict("records"),
        list(TABLE.itertuples(index=False, name="House")),
        [House(*row) for row in TABLE.itertuples(index=False)],
        rows_of_a_database(),
        TABLE.to_records(index=False),
        {"a": pa.array([1.0, 2.0, 3.0]), "b": ["x", "y", "z"]},
    ],
    ids=lambda given: type(given).__name__,
)
def test_tables_of_other_libraries_are_read_by_name(given):
    found, targets = table_from(given)
    assert found.to_dict("list") == TABLE.to_dict("list") and targets == ()


def test_polars_frames_are_read_by_name():
    pl = pytest.importorskip("polars")
    assert table_from(pl.from_pandas(TABLE))[0].to_dict("list") == TABLE.to_dict("list")
    pair = (pl.DataFrame({"a": [1.0, 2.0]}), pl.Series("y", [0, 1]))
    assert table_from(pair)[0].to_dict("list") == {"a": [1.0, 2.0], "y": [0, 1]}


@pytest.mark.parametrize("change", [lambda t: t, pa.Table.from_pandas, lambda t: (t, [0, 1, 2])])
def test_an_index_with_a_name_is_a_column(change):
    days = pd.date_range("2020-01-01", periods=3, name="day")
    found, _ = table_from(change(TABLE.set_index(days)))
    assert list(found)[:3] == ["day", "a", "b"] and found["day"].tolist() == days.tolist()
    levels = TABLE.set_index(
        pd.MultiIndex.from_product([[1], ["x", "y", "z"]], names=["b", "level"])
    )
    found, targets = table_from((levels, pd.Series([1, 2, 3], days, name="y")))
    assert list(found) == ["level", "a", "b", "y"] and targets == ("y",)


def test_one_row_by_name_is_a_table_of_one_row():
    assert table_from({"a": 1.0, "b": "x"})[0].to_dict("list") == {"a": [1.0], "b": ["x"]}


def test_tensors_are_taken_as_they_are():
    x = torch.tensor([[1.0, 2.5], [3.0, -4.0]])
    for given in (x.requires_grad_(), x.detach().bfloat16(), x.detach().half(), x.detach().T.T):
        found, targets = table_from((given, torch.tensor([0, 1])))
        assert found[["x0", "x1"]].to_numpy().tolist() == [[1.0, 2.5], [3.0, -4.0]]
        assert targets == ("target",)


def test_what_a_mask_hides_is_a_gap():
    masked = np.ma.masked_array([[1, 99], [2, 3]], mask=[[False, True], [False, False]])
    assert np.isnan(table_from(masked)[0]["x1"][0])


LEVELS = TABLE.set_axis(pd.MultiIndex.from_tuples([("g", "a"), ("g", "b")]), axis=1)


@pytest.mark.parametrize(
    "given",
    [None, 3, "abc", object(), [], {"a": [1, 2], "b": [1]}, [[1, 2], [3]], (1, 2, 3), LEVELS]
    + [
        scipy.sparse.eye(3),
        pd.DataFrame({"a": pd.Series(["\ud800", "x"], dtype=object)}),
        [{"a": "\ud800"}, {"a": "x"}],
        TABLE.set_axis(pd.Index(["\udfff", "b"], dtype=object), axis=1),
    ]
    + [(None, None), (TABLE, None), {}, torch.tensor(3.0), [{"a": 1}, 3], np.zeros(3)],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_table_is_refused_by_one_message(given):
    with pytest.raises(DataError) as caught:
        table_from(given)
    assert len(str(caught.value)) < 400
    with pytest.raises(DataError):
        train(named_recipe("plain").vary("data.target", ("a",)), given if given is not None else 0)


# Gaps


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "NA", "n/a ", "NULL", "nan"])
@pytest.mark.parametrize("dtype", ["str", object, "category", "string"])
def test_cells_of_nothing_are_gaps_however_they_are_stored(blank, dtype):
    found = table_from(pd.DataFrame({"a": pd.Series(["x", blank, "y"], dtype=dtype)}))[0]
    assert found["a"].isna().tolist() == [False, True, False]


def test_the_same_table_gives_the_same_task_however_it_comes(tmp_path):
    words = np.resize(["lo", "", "hi", "NA"], 60)
    frame = pd.DataFrame(
        {"a": np.arange(60) * 0.5, "b": np.resize(["", "u", "-", "n/a"], 60), "y": words}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "t.json", orient="records")
    frame.to_parquet(tmp_path / "t.parquet")
    tasks = [load(Data(target=("y",)), Random(), Encoding(), seed=0, frame=frame)]
    for name in ("t.csv", "t.jsonl", "t.json", "t.parquet"):
        data = Data(source=str(tmp_path / name), target=("y",))
        tasks.append(load(data, Random(), Encoding(), seed=0))
    assert tasks[0].classes == ("hi", "lo")
    assert len({task.fingerprint for task in tasks}) == 1


# JSON


@pytest.mark.parametrize("orient", ["records", "split", "columns", "list"])
def test_a_json_file_with_one_value_is_a_table(orient, tmp_path):
    text = json.dumps(TABLE.to_dict("list")) if orient == "list" else TABLE.to_json(orient=orient)
    (tmp_path / "t.json").write_text(text)
    assert read_table(tmp_path / "t.json").to_dict("list") == TABLE.to_dict("list")
    (tmp_path / "t.json").write_text(json.dumps(json.loads(text), indent=2))
    assert read_table(tmp_path / "t.json").to_dict("list") == TABLE.to_dict("list")


def lines_of_json(*extra):
    return "".join(f'{{"a": {i}, "y": {i % 2}}}\n' for i in range(5)) + "\n".join(extra)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lines_of_json("[" * 100_000), "line 6 of t.jsonl is not JSON: it is nested too deep"),
        (lines_of_json('{"a": ' + "9" * 5000 + "}"), "4300 digits"),
        (lines_of_json('{"a": "\\ud800"}'), "half a character"),
        (lines_of_json('{"\\ud800": 1}'), "half a character"),
        ("".join(f'{{"k{i}": 1}}\n' for i in range(3000)), "1,001 rows have 1,001 different names"),
        ("[1, 2]\n", "not an object"),
        ('{"a": [1, 2], "b": [3]}', "is no table"),
    ],
)
def test_odd_json_is_refused_by_one_message(text, words, tmp_path):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match=words):
        read_table(tmp_path / "t.jsonl")


@pytest.mark.parametrize("value", ['{"q": 1}', '[{"q": 1}]', "[[1]]"])
def test_objects_are_no_targets(value, tmp_path):
    text = "".join(f'{{"a": {i % 7}.5, "y": {value}}}\n' for i in range(30))
    (tmp_path / "t.jsonl").write_text(text)
    data = Data(source=str(tmp_path / "t.jsonl"), target=("y",))
    with pytest.raises(DataError, match="the target y holds"):
        load(data, Random(), Encoding(), seed=0)


# Excel


@pytest.mark.parametrize("ending", [".xlsx", ".ods"])
def test_spreadsheets_are_read_where_their_reader_is_installed(ending, tmp_path, monkeypatch):
    path = tmp_path / f"t{ending}"
    pytest.importorskip("openpyxl" if ending == ".xlsx" else "odf")
    table = TABLE.assign(code=["007", "012", "123"], day=pd.date_range("2024-01-01", periods=3))
    with pd.ExcelWriter(path) as book:
        pd.DataFrame().to_excel(book, sheet_name="empty")
        table.to_excel(book, sheet_name="data", index=False, startrow=3)
        table.to_excel(book, sheet_name="more", index=False)
    said: list[str] = []
    found = read_table(path, said)
    assert found.to_dict("list") == {
        **TABLE.to_dict("list"),
        "code": ["007", "012", "123"],
        "day": ["2024-01-01", "2024-01-02", "2024-01-03"],
    }
    assert any("several sheets: data is read" in s for s in said)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read"):
        read_table(path)


@pytest.mark.parametrize("ending", [".xlsx", ".ods", ".xls"])
def test_without_a_reader_a_spreadsheet_is_refused_with_what_to_do(ending, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / f"t{ending}").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="is a spreadsheet.*[Ss]ave it as CSV"):
        read_table(tmp_path / f"t{ending}")


def test_the_last_cell_of_an_open_document_is_known_before_repeats_are_filled_in():
    value = '<t:table-cell t:number-columns-repeated="{}" o:value="1"><p>1</p></t:table-cell>'
    blank = '<t:table-cell t:number-columns-repeated="16384"/>'
    row = '<t:table-row t:number-rows-repeated="{}">{}</t:table-row>'
    sheet = row.format(3, value.format(2) + blank) + row.format(1_048_573, blank)
    far = row.format(1_000_000, value.format(16_000))
    for rows, last in ((sheet, (3, 2)), (sheet + far, (2_048_576, 16_000)), ("", (0, 0))):
        names = 'xmlns:t="urn:oasis:names:tc:opendocument:xmlns:table:1.0" xmlns:o="office"'
        content = f"<body {names}><t:table>{rows}</t:table><t:table/></body>"
        assert _last_open_document_cell(io.BytesIO(content.encode())) == last

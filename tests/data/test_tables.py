"""Claims about reading tables from files and from Python."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest

from ravine.data import read_table
from ravine.data.frames import table_from

ROWS = pd.DataFrame(
    {
        "name": ["Åsa", "Björn", "Chloé"],
        "size": [1.5, 2.25, -3.0],
        "note": ["a, b", 'say "c"', "d;e"],
    }
)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_any_separator_and_encoding_gives_the_same_table(separator, encoding, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(ROWS.to_csv(index=False, sep=separator).encode(encoding))
    said: list[str] = []
    pd.testing.assert_frame_equal(read_table(path, said), ROWS, check_dtype=False)
    assert (separator != ",") == any("separated by" in s for s in said)
    assert any("Latin-1" in s for s in said) == (encoding == "cp1252")


def test_decimal_commas_are_found_and_thousands_are_not_taken_for_them(tmp_path):
    (tmp_path / "a.csv").write_text("a;b\n1,5;x\n2,25;y\n")
    (tmp_path / "b.csv").write_text("a;b\n1,500;x\n2,250;y\n")
    assert read_table(tmp_path / "a.csv")["a"].tolist() == [1.5, 2.25]
    assert read_table(tmp_path / "b.csv")["a"].tolist() == [
        "1,500",
        "2,250",
    ]  # text that `kinds` reads as thousands


def test_gzip_parquet_and_json_lines_give_the_same_table(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(ROWS.to_csv(index=False).encode()))
    lines = "\n".join(json.dumps(row) for row in ROWS.to_dict("records"))
    (tmp_path / "a.jsonl").write_text(lines + "\n\n")
    (tmp_path / "b.ndjson.gz").write_bytes(gzip.compress(lines.encode()))
    ROWS.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "folder").mkdir()
    ROWS.iloc[:2].to_parquet(tmp_path / "folder" / "1.parquet")
    ROWS.iloc[2:].to_parquet(tmp_path / "folder" / "2.parquet")
    for name in ("a.csv.gz", "a.jsonl", "b.ndjson.gz", "a.parquet", "folder"):
        pd.testing.assert_frame_equal(read_table(tmp_path / name), ROWS, check_dtype=False)


def test_row_names_without_a_header_become_a_column(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\nx,1,2\ny,3,4\n")  # as R's write.table does
    assert read_table(tmp_path / "a.csv").to_dict("list") == {
        "row": ["x", "y"],
        "a": [1, 3],
        "b": [2, 4],
    }


def test_none_is_a_name_and_na_is_a_gap(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\nNone,1\nNA,NaN\nx,\n")
    frame = read_table(tmp_path / "a.csv")
    assert frame["a"].isna().tolist() == [False, True, False] and frame["b"].isna().tolist() == [
        False,
        True,
        True,
    ]


def test_arrays_and_mappings_become_tables():
    frame, targets = table_from((np.zeros((2, 3, 2)), pd.Series([0, 1], name="y")))
    assert frame.columns.tolist() == ["x0", "x1", "x2", "x3", "x4", "x5", "y"] and targets == ("y",)
    assert table_from({"a": [1, 2]})[0].columns.tolist() == ["a"]

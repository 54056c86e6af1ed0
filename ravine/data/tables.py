"""Tables from files: CSV in its many dialects, Parquet, JSON, Excel; read at once."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ravine.data.csv_dialect import Dialect, Expected
from ravine.data.csv_files import open_csv
from ravine.data.excel_files import excel_as_csv, is_excel
from ravine.data.frames import check_table
from ravine.data.json_files import JSON_SUFFIXES, is_one_value, read_json_lines, read_json_value
from ravine.data.parquet_files import file_kind, is_parquet, read_parquet
from ravine.data.text_files import TextFile, scan_text
from ravine.errors import DataError, nearest
from ravine.files import check_readable


def read_table(
    path: str | Path, notes: list[str] | None = None, expected: Expected | None = None
) -> pd.DataFrame:
    """The table in a file: Parquet (or a folder of it), JSON, Excel or else CSV, also with `.gz`.

    The separator (comma, semicolon, tab, bar, blanks), the encoding (UTF-8, UTF-16, Latin-1), the
    decimal sign and the header's line are found from the file; what is unusual is appended to
    `notes`. `expected` is what a run knows of them (`Encoder.expectation`). Raises `DataError`.
    """
    return read_table_and_dialect(path, [] if notes is None else notes, expected=expected)[0]


def read_table_and_dialect(
    path: str | Path, notes: list[str], *, decimal: str = "auto", expected: Expected | None = None
) -> tuple[pd.DataFrame, Dialect]:
    """The table in a file, and how it is written; `decimal` is its decimal sign where it is set."""
    path = existing_file(path)
    if is_parquet(path):
        return check_table(read_parquet(path), str(path)), Dialect()
    text = excel_as_csv(path, notes) if is_excel(path) else scan_text(path, notes)
    if file_kind(path) in JSON_SUFFIXES:
        text.check_memory("give fewer rows, or convert it to Parquet")
        return check_table(pd.concat(json_frames(text)), str(path)), Dialect()
    table = open_csv(text, notes, decimal=decimal, expected=expected)
    return check_table(table.frame(), str(path)), table.dialect


def existing_file(path: str | Path) -> Path:
    """A path to what exists and may be read. Raises `DataError`."""
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    check_readable(path)
    return path


def json_frames(text: TextFile) -> Iterator[pd.DataFrame]:
    """The table of a file of JSON, in blocks where it has an object on each line."""
    yield from [read_json_value(text)] if is_one_value(text) else read_json_lines(text)


def missing_file(path: Path) -> DataError:
    """What to say of a file that does not exist: the nearest name in its folder."""
    folder = path.parent
    if not path.is_absolute() and folder != Path(".") and Path(path.name).exists():
        there = f"there is a {path.name} in {Path.cwd()}"
        why = f"{there}; in a recipe file, paths start at the file's own folder"
    elif not folder.is_dir():
        why = f"there is no folder {folder}"
    else:
        names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
        why = f"in {folder} {nearest(path.name, names)}"
    return DataError(f"{path} does not exist", why=why, do="check the path")

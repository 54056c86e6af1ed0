"""Tables from files: CSV in its many dialects, Parquet, JSON, Excel; read at once or in blocks."""

from pathlib import Path

import pandas as pd

from ravine.data.csv_dialect import KnownColumns
from ravine.data.csv_files import CsvTable, open_csv
from ravine.data.excel_files import excel_as_csv, is_excel
from ravine.data.json_files import JSON_SUFFIXES, JsonTable
from ravine.data.parquet_files import ParquetTable, is_parquet
from ravine.data.text_files import file_kind, scan_text
from ravine.errors import DataError, nearest
from ravine.files import check_readable


def read_table(
    path: str | Path, notes: list[str] | None = None, known: KnownColumns | None = None
) -> pd.DataFrame:
    """The table in a file: Parquet (or a folder of it), Excel, JSON or else CSV; the latter two
    may end in `.gz`.

    The separator (comma, semicolon, tab, bar, blanks), the encoding (UTF-8, UTF-16, Latin-1), the
    decimal sign and the header's line are found from the file; what is unusual is appended to
    `notes`. `known` is what a run knows of them (`Encoder.known_columns`). Raises `DataError`.
    """
    return open_table_file(path, [] if notes is None else notes, known=known).frame()


def open_table_file(
    path: str | Path, notes: list[str], *, decimal: str = "auto", known: KnownColumns | None = None
) -> CsvTable | JsonTable | ParquetTable:
    """A table in a file, to be read at once or in blocks; `decimal` is its sign where that is set.

    Each has its `dialect`, `frame()`, `survey()` and `blocks(kinds, columns)`.
    """
    path = existing_file(path)
    if is_parquet(path):
        return ParquetTable(path)
    text = excel_as_csv(path, notes) if is_excel(path) else scan_text(path, notes)
    if file_kind(path) in JSON_SUFFIXES:
        return JsonTable(text)
    return open_csv(text, notes, decimal=decimal, known=known)


def existing_file(path: str | Path) -> Path:
    """A path to what exists and may be read. Raises `DataError`."""
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    check_readable(path)
    return path


def missing_file(path: Path) -> DataError:
    """What to say of a file that does not exist: the nearest name in its folder, of files alone
    where it ends as files do.
    """
    folder = path.parent
    if not path.is_absolute() and folder != Path(".") and Path(path.name).exists():
        there = f"there is a {path.name} in {Path.cwd()}"
        why = f"{there}; in a recipe file, paths start at the file's own folder"
    elif not folder.is_dir():
        why = f"there is no folder {folder}"
    else:
        near = [p for p in folder.iterdir() if not p.name.startswith(".")]
        names = [p.name for p in near if p.is_file() or not path.suffix]
        where = "this folder" if folder == Path(".") else str(folder)
        kind = "file" if path.suffix else "file or folder"
        none = f"there is no {kind} in {where}"
        why = f"in {where} {nearest(path.name, names)}" if names else none
    return DataError(f"{path} does not exist", why=why, do="check the path")

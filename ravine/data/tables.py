"""Tables from files: CSV in its many dialects, Parquet, JSON, Excel; read at once or in blocks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types

from ravine.data.csv_dialect import KnownColumns
from ravine.data.csv_files import CsvTable, open_csv
from ravine.data.excel_files import excel_as_csv, is_excel
from ravine.data.foreign_rows import find_label_rows
from ravine.data.frames import check_table, column_name
from ravine.data.json_files import JSON_SUFFIXES, JsonTable
from ravine.data.parquet_files import ParquetTable, is_parquet
from ravine.data.text_files import file_kind, scan_text
from ravine.errors import DataError, join_first, nearest
from ravine.files import check_readable

ReadFrames = Callable[[Sequence[str] | None], Iterator[pd.DataFrame]]


def read_table(
    path: str | Path, notes: list[str] | None = None, known: KnownColumns | None = None
) -> pd.DataFrame:
    """The table in a file: Parquet (or its folder), Excel, JSON or CSV; the latter two also `.gz`.

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
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    check_readable(path)
    if is_parquet(path):
        return ParquetTable(path)
    text = excel_as_csv(path, notes) if is_excel(path) else scan_text(path, notes)
    if file_kind(path) in JSON_SUFFIXES:
        return JsonTable(text)
    return open_csv(text, notes, decimal=decimal, known=known)


def missing_file(path: Path) -> DataError:
    """What to say of a missing file: the nearest name in its folder, of files if it ends as one."""
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
        none = f"there is no {'file' if path.suffix else 'file or folder'} in {where}"
        why = f"in {where} {nearest(path.name, names)}" if names else none
    return DataError(f"{path} does not exist", why=why, do="check the path")


@dataclass(frozen=True)
class TableBlocks:
    """A table that was surveyed: its rows, its columns, and those that hold numbers with a part.

    `frames` reads it from the start, all columns or some of them.
    """

    path: Path
    rows: int
    columns: tuple[str, ...]
    floats: frozenset[str]
    frames: ReadFrames
    labels: tuple[int, ...] = ()  # rows of units, or of the column names again: not read

    def read(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """Blocks of `rows` rows, the last one of fewer, numbered by their place in the table."""
        for block in self._cut(rows, columns):
            labels = block.index.intersection(list(self.labels))
            if len(labels) < len(block):
                yield block.drop(labels) if len(labels) else block

    def _cut(self, rows: int, columns: Sequence[str] | None) -> Iterator[pd.DataFrame]:
        held: list[pd.DataFrame] = []
        at = count = 0
        for frame in self.frames(columns):
            whole = [n for n in frame if n in self.floats and frame[n].dtype != np.float64]
            held.append(frame.astype(dict.fromkeys(whole, np.float64)))
            count += len(frame)
            while count >= rows:
                joined = pd.concat(held) if len(held) > 1 else held[0]
                yield joined[:rows].set_axis(range(at, at + rows))
                held = [joined[rows:]]
                count -= rows
                at += rows
        if count:
            yield pd.concat(held).set_axis(range(at, at + count))


def open_blocks(
    path: str | Path, notes: list[str], known: KnownColumns | None = None
) -> TableBlocks:
    """Survey a table, so that it can be read in blocks. Raises `DataError` as `read_table` does."""
    table = open_table_file(path, notes, known=known)
    found = ColumnKinds()
    labels: dict[int, str] = {}
    for frame, written in table.survey():
        for what, rows in find_label_rows(frame).items():
            units = what == "holds units" and found.rows
            labels |= {} if units else {found.rows + row: what for row in rows}
        found.add(frame, written)
    for what in dict.fromkeys(labels.values()):
        numbers = [str(row) for row, of in labels.items() if of == what]
        verb = f"Row {numbers[0]} {what} and is"
        if len(numbers) > 1:
            verb = f"Rows {join_first(numbers, 3)} {what.replace('s', '', 1)} and are"
        notes.append(f"{verb} left out.")
    kinds = found.kinds()
    if found.rows == len(labels):
        check_table(pd.DataFrame(columns=list(kinds)), str(path))  # says so
    names = {name: column_name(name) for name in kinds}
    floats = frozenset(names[n] for n, kind in kinds.items() if kind == "float")
    frames = partial(table.blocks, kinds)
    return TableBlocks(Path(path), found.rows, tuple(names.values()), floats, frames, tuple(labels))


class ColumnKinds:
    """What each column of a table holds, from its blocks one after the other."""

    def __init__(self) -> None:
        self.rows = 0
        self._found: dict[str, set[str]] = {}  # "text", "bool", "int", "float", "empty"
        self._written: dict[str, set[str]] = {}  # "code", "digits", "otherwise"

    def add(self, frame: pd.DataFrame, written: Mapping[str, str]) -> None:
        """Take in a block; `written` says how its whole numbers are, where zeros may lead them."""
        for name in frame.columns:
            before = {"empty"} if self.rows else set()
            self._found.setdefault(name, before).add(_kind_of(frame[name]))
            self._written.setdefault(name, set()).add(written.get(name, "otherwise"))
        for name in self._found.keys() - set(frame.columns):
            self._found[name].add("empty")
        self.rows += len(frame)

    def kinds(self) -> dict[str, str]:
        """What each column holds in the whole table: "text", "float", or else ""."""
        return {name: self._join(name) for name in self._found}

    def _join(self, name: str) -> str:
        kinds, written = self._found[name], self._written[name]
        coded = "code" in written and "otherwise" not in written
        if "text" in kinds or coded or ("bool" in kinds and kinds & {"int", "float"}):
            return "text"
        return "float" if kinds & {"float", "empty"} and "bool" not in kinds else ""


def _kind_of(values: pd.Series) -> str:
    dtype = values.dtype
    if types.is_bool_dtype(dtype) or (
        types.is_object_dtype(dtype) and types.infer_dtype(values) == "boolean"
    ):
        return "bool"
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return "int"
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        return "empty" if values.isna().all() else "float"
    return "text"

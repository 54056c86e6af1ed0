"""Tables from files: CSV in its many dialects, Parquet, JSON lines; and DataFrames and arrays as
they come.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike
from torch import Tensor

from ravine.data.examples import LoadedImages
from ravine.errors import DataError, nearest
from ravine.files import check_readable

MISSING_WORDS = [
    "",
    "NA",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "-nan",
    "NULL",
    "null",
]  # not "None": it names things
PARQUET_SUFFIXES = (".parquet", ".pq")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
CSV_SEPARATORS = (",", ";", "\t", "|")

TableLike: TypeAlias = (
    pd.DataFrame | pd.Series | Mapping[str, Any] | ArrayLike | Tensor | tuple[Any, Any]
)
"""What stands for a table in Python: a DataFrame, a mapping of columns, an array [N, F], or a pair
(X, y) of frames or arrays, y with the targets. For images: such a pair with X [N, C, H, W], or a
table of paths.
"""
ExamplesLike: TypeAlias = TableLike | Path | Sequence[Path] | LoadedImages
"""What stands for examples to predict: for tables a `TableLike` without targets; for images a
folder, a file, a list of paths, a table of paths, an array [N, C, H, W], or `LoadedImages`.
"""


def read_table(path: str | Path, notes: list[str] | None = None) -> pd.DataFrame:
    """The table in a file: `.parquet` (or a folder of such), `.jsonl`, `.ndjson`, everything else
    is CSV; `.gz` too.

    The separator (comma, semicolon, tab, bar), the encoding (UTF-8, UTF-16, Latin-1) and decimal
    commas are found from the file; what is unusual is appended to `notes`. Raises
    `DataError` for whatever cannot be read.
    """
    path, notes = Path(path), [] if notes is None else notes
    if not path.exists():
        raise missing_file(path)
    if path.is_dir() or file_kind(path) in PARQUET_SUFFIXES:
        frame = _read_parquet(path)
    else:
        data = _bytes_of(path)
        if not data.strip():
            raise DataError(
                f"{path} is empty", why="there is no table in it", do="export the table again"
            )
        frame = (
            _read_json_lines(data, path)
            if file_kind(path) in JSON_LINES_SUFFIXES
            else _read_csv(data, path, notes)
        )
    return check_table(frame, str(path))


def missing_file(path: Path) -> DataError:
    """What to say of a file that does not exist: the nearest name in its folder."""
    folder = path.parent
    if not path.is_absolute() and folder != Path(".") and Path(path.name).exists():
        return DataError(
            f"{path} does not exist",
            why=f"there is a {path.name} in {Path.cwd()}; in a recipe "
            "file, paths start at the file's own folder",
            do="check the path",
        )
    if not folder.is_dir():
        return DataError(
            f"{path} does not exist", why=f"there is no folder {folder}", do="check the path"
        )
    names = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    return DataError(
        f"{path} does not exist",
        why=f"in {folder} {nearest(path.name, names)}",
        do="check the path",
    )


def file_kind(path: Path) -> str:
    """The suffix that says what a file is, `.gz` left out.

    >>> file_kind(Path("a/houses.csv.gz"))
    '.csv'
    """
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files at a path: itself, or those in a folder, by name."""
    if not path.is_dir():
        return [path]
    files = sorted(
        p for p in path.rglob("*") if p.suffix.lower() in PARQUET_SUFFIXES and p.is_file()
    )
    if not files:
        raise DataError(
            f"{path} is a folder",
            why="there is no Parquet file in it",
            do="name a table: a CSV, Parquet or JSON lines file",
        )
    return files


def table_from(given: ExamplesLike) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table from what Python users have: a DataFrame, a mapping of columns, or a pair (X, y) of
    arrays or frames.

    Returns the table and the names of the target's columns, () where nothing says which they are.

    >>> table_from((np.zeros((2, 2)), np.array([0, 1])))[0].columns.tolist()
    ['x0', 'x1', 'target']
    """
    if isinstance(given, tuple) and len(given) == 2:
        x, y = _columns(given[0], "x"), _columns(given[1], "target")
        if len(x) != len(y):
            raise DataError(
                f"X has {len(x)} rows and y has {len(y)}", why="each row needs its target"
            )
        clash = set(x.columns) & set(y.columns)
        y = y.rename(columns={name: f"{name} (target)" for name in clash})
        y.index = x.index
        return check_table(pd.concat([x, y], axis=1), "the table"), tuple(y.columns)
    if isinstance(given, Mapping):
        given = pd.DataFrame(dict(given))
    return check_table(_columns(given, "x"), "the table"), ()


def check_table(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table whose column names are distinct strings and that has rows. Raises `DataError`."""
    frame = frame.rename(columns=lambda c: str(c).strip().lstrip("\ufeff"))
    twice = frame.columns[frame.columns.duplicated()].unique().tolist()
    if twice:
        raise DataError(
            f"{name} has the column {twice[0]!r} more than once",
            why="columns are told apart by name",
            do="rename or remove one of them",
        )
    if len(frame) == 0:
        raise DataError(
            f"{name} has no rows",
            why=f"there are only the {len(frame.columns)} column names",
            do="export the table again",
        )
    return frame


def _columns(given: Any, stem: str) -> pd.DataFrame:
    if isinstance(given, pd.DataFrame):
        return given
    if isinstance(given, pd.Series):
        return given.to_frame(stem if given.name is None else given.name)
    values = np.asarray(given)
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    if values.ndim == 1 and stem == "target":
        return pd.DataFrame({stem: values})
    if values.ndim != 2:
        raise DataError(
            f"the examples have the shape {values.shape}",
            why="a table has rows and columns",
            do="give an array with a row for each example",
        )
    return pd.DataFrame(values, columns=[f"{stem}{i}" for i in range(values.shape[1])])


# Bytes and text


def _bytes_of(path: Path) -> bytes:
    check_readable(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read", why=error.strerror or str(error)) from None
    if path.suffix.lower() != ".gz" and not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be unpacked",
            why=f"its gzip data are damaged ({error})",
            do="copy or download it again",
        ) from None


def _text_of(data: bytes, path: Path, notes: list[str]) -> str:
    """The text of a file in UTF-8, UTF-16 (with a mark, or with zeros in every other byte) or,
    said, Latin-1.
    """
    head = data[:4096]
    try:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            notes.append(f"{path.name} is in UTF-16.")
            return data.decode("utf-16")
        zeros = head.count(0)
        if zeros and zeros >= 0.3 * len(head):
            codec = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
            notes.append(f"{path.name} is in UTF-16.")
            return data.decode(codec)
        if zeros == 0:
            return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    odd = sum(b < 9 or 13 < b < 32 for b in head)
    if odd > 0.005 * len(head):
        raise DataError(
            f"{path} is not text",
            why="it holds binary data",
            do="name a CSV, Parquet or JSON lines file",
        )
    notes.append(
        f"{path.name} is not UTF-8; it was read as Latin-1 (Windows-1252): check names with "
        f"accents."
    )
    return data.decode("cp1252", errors="replace")


# Formats


def _read_csv(data: bytes, path: Path, notes: list[str]) -> pd.DataFrame:
    text = _text_of(data, path, notes)
    sample = text[:200_000].splitlines()[:300]
    separator = _separator(sample)
    decimal = _decimal(sample, separator)
    names, longer = _header(sample, separator, path)
    if separator != ",":
        notes.append(
            f"Columns of {path.name} are separated by "
            f"{'tabs' if separator == chr(9) else repr(separator)}."
        )
    if decimal == ",":
        notes.append(f"Numbers in {path.name} have decimal commas.")
    read = partial(
        pd.read_csv,
        sep=separator,
        decimal=decimal,
        skipinitialspace=True,
        header=0,
        names=["row", *names] if longer else names,
        keep_default_na=False,
        na_values=MISSING_WORDS,
        low_memory=False,
    )
    try:
        frame = read(io.StringIO(text))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataError(
            f"{path} is no table",
            why=str(error).strip().splitlines()[-1],
            do="check the line, its quotes and its separators",
        ) from None
    if re.search(
        rf'(?:^|{re.escape(separator)})\s*"?0\d+"?\s*(?:$|{re.escape(separator)})', text, re.M
    ):
        whole = [name for name in frame.columns if _whole(frame[name])]
        written = read(io.StringIO(text), usecols=whole, dtype=str) if whole else frame[[]]
        frame = frame.assign(
            **{name: written[name] for name in whole if _led_by_zeros(written[name].dropna())}
        )
    return frame


def _whole(values: pd.Series) -> bool:
    if pd.api.types.is_integer_dtype(values.dtype):
        return True
    return pd.api.types.is_float_dtype(values.dtype) and bool((values.dropna() % 1 == 0).all())


def _led_by_zeros(written: pd.Series) -> bool:
    """Whether whole numbers are written with zeros before them, as codes are: 01234 is not 1234."""
    return bool(written.str.fullmatch(r"\d+").all() and written.str.fullmatch(r"0\d+").any())


def _header(lines: Sequence[str], separator: str, path: Path) -> tuple[list[str], bool]:
    """The column names, and whether every row has one field more than there are names (R writes row
    names so).
    """
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    names = [n.strip().lstrip("\ufeff") or f"Unnamed: {i}" for i, n in enumerate(rows[0])]
    if all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", n) for n in names):
        raise DataError(
            f"{path} has no column names",
            why=f"its first line is {lines[0][:60]!r}",
            do="write a first line with a name for each column",
        )
    _distinct(names, path)
    body = rows[1:-1] or rows[1:]  # the last line of the sample may be cut
    return names, bool(body) and all(len(row) == len(names) + 1 for row in body)


def _separator(lines: Sequence[str]) -> str:
    """The separator that cuts most lines into the same number of fields, more than one; a comma if
    none does.
    """

    def quality(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return sum(w == widths[0] for w in widths) / len(widths), widths[0]

    return max(CSV_SEPARATORS, key=lambda s: (round(quality(s)[0], 1), quality(s)[1]))


def _decimal(lines: Sequence[str], separator: str) -> str:
    """A comma where numbers have decimal commas: some do not have just three digits after it, and
    none has a dot.
    """
    if separator == ",":
        return "."
    cells = [cell.strip() for row in csv.reader(lines[1:], delimiter=separator) for cell in row]
    commas = [c for c in cells if re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", c)]
    dots = [c for c in cells if re.fullmatch(r"[-+]?\d*\.\d+([eE][-+]?\d+)?", c)]
    return "," if not dots and any(len(c.partition(",")[2]) != 3 for c in commas) else "."


def _read_json_lines(data: bytes, path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(_text_of(data, path, []).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"line {number} of {path.name} is not JSON",
                why=error.msg,
                where=f"{path}:{number}",
                do="write one object on each line",
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                f"line {number} of {path.name} is not an object",
                why="a row has named columns",
                do='write {"column": value, ...} on each line',
                where=f"{path}:{number}",
            )
        rows.append(row)
    return pd.DataFrame(rows)


def _read_parquet(path: Path) -> pd.DataFrame:
    frames = []
    for file in parquet_files(path):
        check_readable(file)
        try:
            names = pq.read_schema(file).names
            _distinct(names, file)
            frames.append(pq.read_table(file).to_pandas())
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{file} cannot be read",
                why=f"its Parquet data are damaged ({_first_line(error)})",
                do="write or copy it again",
            ) from None
    return (
        pd.concat(frames, ignore_index=True)
        if len(frames) > 1
        else frames[0].reset_index(drop=True)
    )


def _distinct(names: Sequence[str], path: Path) -> None:
    twice = [n for i, n in enumerate(names) if n and n in names[:i]]
    if twice:
        raise DataError(
            f"{path} has the column {twice[0]!r} more than once",
            why="columns are told apart by name",
            do="rename or remove one of them",
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

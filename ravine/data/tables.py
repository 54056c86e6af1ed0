"""Tables from files (CSV in its many dialects, Parquet, JSON lines), DataFrames and arrays."""

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike
from torch import Tensor

from ravine.data.csv_dialect import find_decimal, find_separator, read_column_names
from ravine.data.examples import LoadedImages
from ravine.errors import DataError, first_line, nearest
from ravine.files import check_readable

# not "None": it names things
MISSING_WORDS = ["", *"NA N/A n/a #N/A <NA> NaN nan -nan NULL null".split()]
PARQUET_SUFFIXES = (".parquet", ".pq")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")

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
    """The table in a file: Parquet (or a folder of it), JSON lines or else CSV, also with `.gz`.

    The separator (comma, semicolon, tab, bar), the encoding (UTF-8, UTF-16, Latin-1) and decimal
    commas are found from the file; what is unusual is appended to `notes`. Raises `DataError`.
    """
    path = Path(path)
    notes = [] if notes is None else notes
    if not path.exists():
        raise missing_file(path)
    if is_parquet(path):
        return check_table(_read_parquet(path), str(path))
    data = _bytes_of(path)
    if not data.strip():
        what = f"{path} is empty"
        raise DataError(what, why="there is no table in it", do="export the table again")
    if file_kind(path) in JSON_LINES_SUFFIXES:
        return check_table(_read_json_lines(data, path), str(path))
    return check_table(_read_csv(data, path, notes), str(path))


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


def file_kind(path: Path) -> str:
    """The suffix that says what a file is, `.gz` left out.

    >>> file_kind(Path("a/houses.csv.gz"))
    '.csv'
    """
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def is_parquet(path: Path) -> bool:
    """Whether a path is a Parquet file, or a folder, in which these are read."""
    return path.is_dir() or file_kind(path) in PARQUET_SUFFIXES


def parquet_files(path: Path) -> list[Path]:
    """The Parquet files at a path: itself, or those in a folder, by name."""
    if not path.is_dir():
        return [path]
    inside = (p for p in path.rglob("*") if p.suffix.lower() in PARQUET_SUFFIXES)
    files = sorted(p for p in inside if p.is_file())
    if not files:
        do = "name a table: a CSV, Parquet or JSON lines file"
        raise DataError(f"{path} is a folder", why="there is no Parquet file in it", do=do)
    return files


def table_from(given: ExamplesLike) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table from a DataFrame, a mapping of columns, or a pair (X, y) of arrays or frames.

    Returns the table and the names of the target's columns, () where nothing says which they are.

    >>> table_from((np.zeros((2, 2)), np.array([0, 1])))[0].columns.tolist()
    ['x0', 'x1', 'target']
    """
    if isinstance(given, tuple) and len(given) == 2:
        x, y = _columns(given[0], "x"), _columns(given[1], "target")
        if len(x) != len(y):
            why = "each row needs its target"
            raise DataError(f"X has {len(x)} rows and y has {len(y)}", why=why)
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
    _check_distinct(frame.columns, name)
    if len(frame) == 0:
        why = f"there are only the {len(frame.columns)} column names"
        raise DataError(f"{name} has no rows", why=why, do="export the table again")
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
        why, do = "a table has rows and columns", "give an array with a row for each example"
        raise DataError(f"the examples have the shape {values.shape}", why=why, do=do)
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
        what, do = f"{path} cannot be unpacked", "copy or download it again"
        raise DataError(what, why=f"its gzip data are damaged ({error})", do=do) from None


def _text_of(data: bytes, path: Path, notes: list[str]) -> str:
    """The text of a file in UTF-8, UTF-16 (by its mark or zeros in every other byte) or Latin-1."""
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
        do = "name a CSV, Parquet or JSON lines file"
        raise DataError(f"{path} is not text", why="it holds binary data", do=do)
    what = f"{path.name} is not UTF-8; it was read as Latin-1 (Windows-1252)"
    notes.append(f"{what}: check names with accents.")
    return data.decode("cp1252", errors="replace")


# Formats


def _read_csv(data: bytes, path: Path, notes: list[str]) -> pd.DataFrame:
    text = _text_of(data, path, notes)
    sample = text[:200_000].splitlines()[:300]
    separator = find_separator(sample)
    decimal = find_decimal(sample, separator)
    names, longer = read_column_names(sample, separator, path)
    _check_distinct(names, path)
    if separator != ",":
        sign = "tabs" if separator == "\t" else repr(separator)
        notes.append(f"Columns of {path.name} are separated by {sign}.")
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
        what, why = f"{path} is no table", str(error).strip().splitlines()[-1]
        raise DataError(what, why=why, do="check the line, its quotes and its separators") from None
    edge = re.escape(separator)
    if re.search(rf'(?:^|{edge})\s*"?0\d+"?\s*(?:$|{edge})', text, re.M):
        whole = [name for name in frame.columns if _whole(frame[name])]
        written = read(io.StringIO(text), usecols=whole, dtype=str) if whole else frame[[]]
        codes = [name for name in whole if _led_by_zeros(written[name].dropna())]
        frame = frame.assign(**{name: written[name] for name in codes})
    return frame


def _whole(values: pd.Series) -> bool:
    if pd.api.types.is_integer_dtype(values.dtype):
        return True
    return pd.api.types.is_float_dtype(values.dtype) and bool((values.dropna() % 1 == 0).all())


def _led_by_zeros(written: pd.Series) -> bool:
    """Whether whole numbers are written with zeros before them, as codes are: 01234 is not 1234."""
    return bool(written.str.fullmatch(r"\d+").all() and written.str.fullmatch(r"0\d+").any())


def _read_json_lines(data: bytes, path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(_text_of(data, path, []).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            what = f"line {number} of {path.name} is not JSON"
            do = "write one object on each line"
            raise DataError(what, why=error.msg, where=f"{path}:{number}", do=do) from None
        if not isinstance(row, dict):
            what = f"line {number} of {path.name} is not an object"
            do = 'write {"column": value, ...} on each line'
            raise DataError(what, why="a row has named columns", do=do, where=f"{path}:{number}")
        rows.append(row)
    return pd.DataFrame(rows)


def _read_parquet(path: Path) -> pd.DataFrame:
    frames = []
    for file in parquet_files(path):
        check_readable(file)
        try:
            _check_distinct(pq.read_schema(file).names, file)
            frames.append(pq.read_table(file).to_pandas())
        except (pa.ArrowException, OSError) as error:
            raise damaged_parquet(file, error) from None
    whole = frames[0] if len(frames) == 1 else pd.concat(frames)
    return whole.reset_index(drop=True)


def damaged_parquet(file: Path, error: BaseException) -> DataError:
    """What to say of a Parquet file that cannot be read."""
    why = f"its Parquet data are damaged ({first_line(error)})"
    return DataError(f"{file} cannot be read", why=why, do="write or copy it again")


def _check_distinct(names: Iterable[str], owner: str | Path) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        why, do = "columns are told apart by name", "rename or remove one of them"
        raise DataError(f"{owner} has the column {twice[0]!r} more than once", why=why, do=do)

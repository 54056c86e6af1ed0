"""What is given from Python as a table: frames of any library, mappings, records, arrays, tensors.

Letters: N rows, F columns.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import ArrayLike
from pandas.api.types import is_numeric_dtype, is_object_dtype
from torch import Tensor

from ravine.data.examples import LoadedImages
from ravine.data.odd_cells import MISSING_WORDS
from ravine.errors import DataError, wrap_errors

TableLike: TypeAlias = (
    pd.DataFrame
    | pd.Series
    | Mapping[str, Any]
    | Sequence[Mapping[str, Any]]
    | ArrayLike
    | Tensor
    | tuple[Any, Any]
)
"""What stands for a table in Python: a DataFrame (of pandas, polars, pyarrow, ...), a mapping of
columns, a list of rows by name, an array [N, F], or a pair (X, y) of frames or arrays, y with the
targets. For images: such a pair with X [N, C, H, W], or a table of paths.
"""
ExamplesLike: TypeAlias = TableLike | Path | Sequence[Path] | LoadedImages
"""What stands for examples to predict: for tables a `TableLike` without targets; for images a
folder, a file, a list of paths, a table of paths, an array [N, C, H, W], or `LoadedImages`.
"""
WHAT_TO_GIVE = "give a pandas DataFrame, or an array with a row for each example"


def table_from(given: ExamplesLike) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table from a frame, a mapping of columns, rows by name, or a pair (X, y) of these.

    Returns the table and the names of the target's columns, () where nothing says which they are.

    >>> table_from((np.zeros((2, 2)), np.array([0, 1])))[0].columns.tolist()
    ['x0', 'x1', 'target']
    """
    if isinstance(given, tuple) and len(given) == 2:
        x, y = with_index(_columns(given[0], "x")), _columns(given[1], "target")
        if len(x) != len(y):
            why = "each row needs its target"
            raise DataError(f"X has {len(x)} rows and y has {len(y)}", why=why)
        clash = set(x.columns) & set(y.columns)
        y = y.rename(columns={name: f"{name} (target)" for name in clash})
        y.index = x.index
        return check_table(pd.concat([x, y], axis=1), "the table"), tuple(y.columns)
    return check_table(with_index(_columns(given, "x")), "the table"), ()


def check_table(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """A table whose column names are distinct strings and that has rows. Raises `DataError`.

    Cells of blanks and of the words that CSV has for gaps, such as NA, are gaps.
    """
    if frame.columns.nlevels > 1:
        do = 'join them: frame.columns = ["_".join(map(str, names)) for names in frame.columns]'
        raise DataError(f"{name} has columns of several levels", why="a name is one text", do=do)
    names = list(map(column_name, frame.columns))
    check_distinct(names, name)
    frame = frame.set_axis(names, axis=1)
    if len(frame) == 0:
        why = f"there are only the {len(frame.columns)} column names"
        raise DataError(f"{name} has no rows", why=why, do="export the table again")
    gaps = {n: found for n in frame.columns if (found := _gaps(frame[n])) is not None}
    return frame.assign(**{n: frame[n].mask(found) for n, found in gaps.items()})


def column_name(column: Any) -> str:
    """A column's name as tables have it."""
    return str(column).strip().lstrip("\ufeff")


def with_index(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose index, where it has names, is columns, too, as pandas writes it to files."""
    if frame.columns.nlevels > 1:
        return frame
    named = [n for n in frame.index.names if n is not None and n not in frame.columns]
    return frame.reset_index(named) if named else frame


def check_distinct(names: Iterable[str], owner: str | Path) -> None:
    """Raise `DataError` where two columns have one name, or a name cannot be written."""
    counts = Counter(names)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        why, do = "columns are told apart by name", "rename or remove one of them"
        raise DataError(f"{owner} has the column {twice[0]!r} more than once", why=why, do=do)
    for name in counts:
        if _is_broken(name):
            what = f"{owner} has the column {name!r}"
            raise DataError(what, why="it holds half a character", do="rename it")


def _is_broken(text: str) -> bool:
    """Whether a text cannot be written, as it holds one half of a pair of surrogates."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _gaps(values: pd.Series) -> np.ndarray | None:
    """Which texts stand for gaps, [N]; None where none does. Broken texts are refused."""
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        places = _gaps(pd.Series(dtype.categories))
        return None if places is None else np.append(places, False)[values.cat.codes]
    if is_numeric_dtype(dtype) or dtype.kind in "mM":
        return None
    if not is_object_dtype(dtype):
        is_text = isinstance(dtype, pd.StringDtype)
        found = values.str.strip().isin(MISSING_WORDS).to_numpy(bool) if is_text else None
    else:
        texts = [v if isinstance(v, str) else "-" for v in values]
        broken = next((i for i, t in enumerate(texts) if not t.isascii() and _is_broken(t)), None)
        if broken is not None:
            what = f"{values.name} is {texts[broken]!r} in row {values.index[broken]}"
            raise DataError(what, why="it holds half a character", do="repair the value")
        found = np.array([t.strip() in MISSING_WORDS for t in texts], bool)
    return found if found is not None and found.any() else None


def _columns(given: Any, stem: str) -> pd.DataFrame:
    if given is None:
        raise DataError("no table is given", why="it is None", do=WHAT_TO_GIVE)
    if isinstance(given, pd.DataFrame):
        return given
    if isinstance(given, pd.Series):
        return given.to_frame(stem if given.name is None else given.name)
    what = f"a {type(given).__name__} cannot be read as a table"
    with wrap_errors(DataError, what, WHAT_TO_GIVE):  # it may be anybody's, and raise anything
        return _frame_of(given, stem)


def _frame_of(given: Any, stem: str) -> pd.DataFrame:
    if isinstance(given, Mapping):
        single = bool(given) and all(np.ndim(v) == 0 for v in given.values())  # one row
        return pd.DataFrame([dict(given)]) if single else pd.DataFrame(dict(given))
    if isinstance(given, (list, tuple)) and given and _by_name(given[0]) is not None:
        rows = [named for row in given if (named := _by_name(row)) is not None]
        if len(rows) == len(given):
            return frame_of_rows(rows)
    if hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__"):
        return _from_arrow(given, stem)
    for method in ("to_pandas", "toPandas"):  # cuDF, PySpark, ...
        if hasattr(given, method):
            return _columns(getattr(given, method)(), stem)
    if hasattr(given, "toarray"):
        what, do = "the examples are a sparse matrix", "give its .toarray()"
        raise DataError(what, why="networks read all numbers", do=do)
    values = _values_of(given)
    if values.dtype.names:
        return pd.DataFrame({name: list(values[name]) for name in values.dtype.names})
    if values.ndim > 2:
        values = values.reshape(len(values), -1)
    if values.ndim == 1 and stem == "target":
        return pd.DataFrame({stem: values})
    if values.ndim != 2:
        why = f"a table has rows and columns, and a {type(given).__name__} like this has none"
        raise DataError(f"the examples have the shape {values.shape}", why=why, do=WHAT_TO_GIVE)
    return pd.DataFrame(values, columns=[f"{stem}{i}" for i in range(values.shape[1])])


def _by_name(row: Any) -> Mapping[str, Any] | None:
    """A row that names its values: a mapping, a namedtuple, a dataclass, a row of sqlite3."""
    if isinstance(row, Mapping):
        return row
    if is_dataclass(row):
        return {field.name: getattr(row, field.name) for field in fields(row)}
    if isinstance(row, Sequence) and (keys := getattr(row, "keys", None)):
        return {key: row[key] for key in keys()}
    as_mapping = getattr(row, "_asdict", None)
    return None if as_mapping is None else as_mapping()


def frame_of_rows(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The table of rows by name. Raises `DataError` where next to all of it would be gaps."""
    check_density(len({name for row in rows for name in row}), len(rows), sum(map(len, rows)))
    try:
        return pd.DataFrame(list(rows))
    except UnicodeEncodeError as error:  # "\ud800" can be written in JSON
        what = f"{error.object[:30]!r} is in the table"
        raise DataError(what, why="it holds half a character", do="repair the value") from None


def check_density(names: int, rows: int, given: int) -> None:
    """Raise `DataError` where rows of `given` cells have so many names that most are gaps."""
    cells = names * rows
    if cells > 1_000_000 and given < 0.01 * cells:
        what = f"{rows:,} rows have {names:,} different names"
        why = f"a row has about {given // rows} of them; as a table it is next to all gaps"
        raise DataError(what, why=why, do="give rows the same names")


def _from_arrow(given: Any, stem: str) -> pd.DataFrame:
    """A table, a batch or a column of any library that speaks Arrow (polars, DuckDB, ...)."""
    if isinstance(given, pa.ChunkedArray | pa.Array) or "Series" in type(given).__name__:
        name = getattr(given, "name", None) or stem
        return pd.DataFrame({name: pa.chunked_array(given).to_pandas()})
    return with_index(pa.table(given).to_pandas()).reset_index(drop=True)


def _values_of(given: Any) -> np.ndarray:
    """An array of numbers or objects. A tensor is detached; what a mask hides becomes a gap."""
    if isinstance(given, Tensor):
        given = given.detach().cpu()
        short = given.dtype in (torch.bfloat16, torch.float16)
        return (given.float() if short else given).resolve_conj().resolve_neg().numpy()
    if isinstance(given, np.ma.MaskedArray):
        values = np.asarray(given, float if given.dtype.kind in "biuf" else object)
        return np.where(np.ma.getmaskarray(given), np.nan, values)
    return np.asarray(given)

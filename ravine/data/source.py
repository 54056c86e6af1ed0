"""Where the examples come from: the part that names it, and its table, checked against recipes."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pandas.api import types

from ravine.data.column_types import ColumnHints, is_identifier
from ravine.data.csv_dialect import Dialect, KnownColumns, decimal_sign_of_texts
from ravine.data.datasets import BUNDLED_SETS, load_bundled
from ravine.data.foreign_rows import drop_foreign_rows
from ravine.data.frames import TableLike, table_from
from ravine.data.parsing import are_whole, column_number_style, numbers_of, weights_of
from ravine.data.tables import missing_file, open_table_file, read_table
from ravine.errors import DataError, RecipeError, join_first, nearest, shorten, value_text
from ravine.files import run_state
from ravine.part import part, setting

UNIT_BYTES = {"": 1}
UNIT_BYTES |= {prefix: 1000**i for i, prefix in enumerate("KMGT", 1)}
UNIT_BYTES |= {f"{prefix}I": 1024**i for i, prefix in enumerate("KMGT", 1)}
LIST_TYPES = (list, tuple, set, np.ndarray)
TARGET_NAMES = ("target", "label", "class", "y", "outcome")
# what columns that are predicted are often called: the whole name, or its last word
TARGET_WORDS = frozenset(
    "target label class outcome species survived churn attrition default fraud spam diagnosis "
    "status price wage salary sales rating score quality grade response result risk".split()
)
MAX_SHOWN_COLUMNS = 200


@part
class Data:
    """Where the examples are and what is to be learned from them.

    `source` is a file (CSV, Parquet, JSON or Excel), a folder of Parquet files, or the name of a
    bundled set; empty where the table is given from Python. `target` names the target's columns;
    `task` is inferred from them unless set. `drop` leaves columns out; `categories`, `numbers` and
    `texts` say what columns are where it is not what is inferred. `weight` is the column of example
    weights. `test` is another file whose rows are the test split; the source's own are not. A
    Parquet source larger than `memory` ("2GB") is read in pieces. A class with fewer than
    `min_class_rows` rows is left out, or joined with others of the kind (`rare_classes`); tables
    read in pieces keep all classes. `decimal` is the decimal sign of numbers in CSV files, found
    unless set; `date_order` is meant where day, month and a short year could be exchanged.
    """

    source: str = ""
    target: tuple[str, ...] = ()
    task: Literal["auto", "binary", "classes", "regression", "labels"] = "auto"
    drop: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    rare_classes: Literal["leave out", "join"] = "leave out"
    min_class_rows: int = setting(default=2, ge=1)
    weight: str | None = None
    test: str | None = None
    memory: str | None = None
    decimal: Literal["auto", ".", ","] = "auto"
    date_order: Literal["auto", "day first", "month first", "year first"] = "auto"

    def check(self) -> None:
        check_distinct_targets(self.target)
        lists = (("numbers", "categories"), ("texts", "categories"), ("texts", "numbers"))
        for name, other in lists:
            both = set(getattr(self, name)) & set(getattr(self, other))
            if both:
                what, why = f"Data.{name} has {min(both)!r}", f"it is in Data.{other}, too"
                raise RecipeError(what, why=why, do="leave it in one of them")
        if self.memory is not None:
            parse_size(self.memory)

    @property
    def column_hints(self) -> ColumnHints:
        """What is set of the columns' types, and of numbers and dates in them."""
        names = ("categories", "numbers", "texts", "decimal", "date_order")
        return ColumnHints(**{name: getattr(self, name) for name in names})


def check_distinct_targets(targets: Sequence[str]) -> None:
    """Raise `RecipeError` where a target is named twice: it would be learned twice."""
    twice = [name for i, name in enumerate(targets) if name in targets[:i]]
    if twice:
        what = f"data.target has {twice[0]!r} twice"
        raise RecipeError(what, why="each target is learned once", do="name it once")


def parse_size(size: str, owner: str = "Data") -> int:
    """A size in bytes; `owner` is the part whose setting it is.

    >>> parse_size("2GB"), parse_size("512 MiB")
    (2000000000, 536870912)
    """
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*([KMGT]?I?)B?\s*", size.upper())
    usable = found is not None and found[2] in UNIT_BYTES and len(found[1]) < 19
    count = int(float(found[1]) * UNIT_BYTES[found[2]]) if found and usable else 0
    if not count:
        why = 'it must be a size such as "2GB" or "500MB"'
        raise RecipeError(f"{owner}.memory is {value_text(size)}", why=why)
    return count


def open_table(
    data: Data, frame: TableLike | None, notes: list[str]
) -> tuple[pd.DataFrame, Data, Dialect]:
    """The table, `data` with the targets and decimal sign that it names, and its file's dialect.

    A file wins over a bundled set of the same name, a run's folder does not.
    """
    table, targets, dialect = _read_source(data, frame, notes)
    decimal = "," if dialect.decimal == "," else data.decimal  # in columns of text, too
    return table, replace(data, target=data.target or targets, decimal=decimal), dialect


def _read_source(
    data: Data, frame: TableLike | None, notes: list[str]
) -> tuple[pd.DataFrame, tuple[str, ...], Dialect]:
    """The table, the targets that it names itself, and how its file is written."""
    if frame is not None:
        table, targets = table_from(frame)
        return table, targets, _dialect_of_texts(table, Dialect(), data)
    if not data.source:
        what = "no table is given"
        raise DataError(what, why="data.source is empty", do="name a file or a bundled set")
    path = Path(data.source)
    is_run = data.source in BUNDLED_SETS and run_state(path) != "no run"
    if path.exists() and not is_run:
        file = open_table_file(data.source, notes, decimal=data.decimal)
        table = file.frame()
        return table, (), _dialect_of_texts(table, file.dialect, data)
    of_file = "/" in data.source or "." in data.source or path.parent != Path(".")
    if data.source not in BUNDLED_SETS and of_file:
        raise missing_file(path)
    table, target = load_bundled(data.source)
    return table, (target,), Dialect()


def _dialect_of_texts(table: pd.DataFrame, dialect: Dialect, data: Data) -> Dialect:
    """The dialect with the decimal sign that is set, else that of numbers in text."""
    if dialect.separator != ",":
        return dialect
    sign = decimal_sign_of_texts(table) if data.decimal == "auto" else data.decimal
    return replace(dialect, decimal=sign)


def check_columns(names: Sequence[str], data: Data, targets: Sequence[str]) -> None:
    """Raise `DataError` where a setting names no column, with the nearest one."""
    if not names:
        what = "no column is left to predict"
        raise DataError(what, why="the table has no other", do="add the target column")
    if not targets:
        likely = [repr(name) for name in likely_targets(names)]
        why = f"it may be {' or '.join(likely)}"
        do = f"say which column is to be predicted, such as --target {likely[0]}; the table has "
        do += join_first(names, MAX_SHOWN_COLUMNS)
        raise DataError("no target is given", why=why, do=do)
    lists = {name: getattr(data, name) for name in ("drop", "categories", "numbers", "texts")}
    lists = {"target": targets, **lists, "weight": () if data.weight is None else (data.weight,)}
    for path, wanted in lists.items():
        for name in wanted:
            if name not in names:
                why, do = nearest(name, [n for n in names if n not in wanted]), ""
                several = [part.strip() for part in name.split(",")]
                if path == "target" and all(part in names for part in several):
                    why, do = "each is one", " ".join(f"--target {part}" for part in several)
                    do = f"for several columns write {do}"
                raise DataError(f"data.{path} is {name!r}, which is no column", why=why, do=do)
    for name in targets:
        if name in data.drop or name == data.weight:
            what = f"the target {name} is also {'dropped' if name in data.drop else 'the weight'}"
            raise DataError(what, why="it cannot be both", do="remove it from one of them")


def likely_targets(names: Sequence[str]) -> list[str]:
    """Up to three likely targets: columns called so, then the last and the first but identifiers.

    >>> likely_targets(["PassengerId", "Survived", "Age", "Cabin"])
    ['Survived', 'Cabin', 'Age']
    >>> likely_targets(["mpg", "cyl", "loan_status"])
    ['loan_status', 'cyl', 'mpg']
    """
    last_words = {n: (re.findall(r"[A-Z]?[a-z]+|[A-Z]+", n) or [""])[-1].lower() for n in names}
    called = [n for n in names if n.lower() in TARGET_NAMES]
    called += [n for n in names if last_words[n] in TARGET_WORDS]
    others = [n for n in names if not is_identifier(n) and n not in called]
    return list(dict.fromkeys([*called, *(others or names)[-1:], *others[:1]]))[:3]


def has_targets(table: pd.DataFrame, targets: Sequence[str]) -> np.ndarray:
    """Whether each row has all its targets, [N]; among numbers in text, words like "?" are gaps."""
    known = np.ones(len(table), bool)
    for name in targets:
        values = table[name]
        known &= values.notna().to_numpy()
        stored = types.is_numeric_dtype(values.dtype) or types.is_datetime64_any_dtype(values.dtype)
        _refuse_objects(values)
        lists = any(isinstance(value, LIST_TYPES) for value in values.dropna().head(1))
        style = "" if stored or lists else column_number_style(values)
        if style:
            known &= ~np.isnan(numbers_of(values.where(known), name, style))
    return known


def _refuse_objects(values: pd.Series) -> None:
    """Raise `DataError` where a target holds objects, or lists beside single values."""
    if not types.is_object_dtype(values.dtype):
        return
    held = values.dropna()
    lists = [isinstance(value, LIST_TYPES) for value in held]
    inner = (v for row in held[lists] for v in row)
    odd = next((v for v in (*held, *inner) if isinstance(v, dict)), None)
    odd = next((v for row in held[lists] for v in row if isinstance(v, LIST_TYPES)), odd)
    if odd is not None or 0 < sum(lists) < len(lists):
        shown = shorten(str(odd if odd is not None else held[lists].iloc[0]))
        what = f"the target {values.name} holds {shown}"
        why = "a target is one value in each row, or a list of labels"
        raise DataError(what, why=why, do="choose another target, or name a value of it")


def with_targets(
    table: pd.DataFrame, targets: Sequence[str], notes: list[str]
) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows with all their targets, and their places. Floats that are whole become integers."""
    known = has_targets(table, targets)
    named = ", ".join(targets)
    if not known.any():
        what = f"the target {named} is missing in every row"
        raise DataError(what, why="there is nothing to learn", do="choose another target")
    places = np.flatnonzero(known)
    if len(places) < len(table):
        lacking = f"{len(table) - len(places)} of {len(table)} rows have no {named}"
        notes.append(f"{lacking} and are left out.")
        table = table.iloc[places]
        table = table.astype({n: np.int64 for n in targets if are_whole(table[n])})
    return table, places


def read_test_table(
    path: str, targets: Sequence[str], notes: list[str], known: KnownColumns
) -> pd.DataFrame:
    """The rows of another file with all their targets. Raises `DataError` where it lacks one.

    `known` is what the source says of how it is written, which counts where the file does not.
    """
    tested = read_table(path, notes, known)
    tested, _ = drop_foreign_rows(tested, notes)
    for name in targets:
        if name not in tested.columns:
            what, do = f"{path} has no column {name!r}", "give a test file with the target"
            raise DataError(what, why=nearest(name, list(tested.columns)), do=do)
    return with_targets(tested, targets, notes)[0]


def check_weights(table: pd.DataFrame, name: str | None) -> None:
    """Raise `DataError` for example weights that are negative, missing, not numbers, or all 0."""
    if name is None:
        return
    weights = weights_of(table, name)
    bad = ~(weights >= 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = f"the weight {name} is {weights[row]:g} in row {table.index[row]}"
        do = "repair the value, or leave the row out"
        raise DataError(what, why="weights are 0 or more", do=do)
    if not weights.any():
        why = "then no row counts"
        raise DataError(f"all weights {name} are 0", why=why, do="leave data.weight out")

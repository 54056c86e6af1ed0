"""What each column is: a number, a boolean, a category, a date, or nothing to learn from.

Types are inferred from values in training rows alone, not from storage: text may be numbers.
"""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from pandas.api import types

from ravine.data import date_styles, parsing
from ravine.data.codes import DOTTED_CODE, EXACT_DIGITS, LONG_CODE, find_code
from ravine.data.day_numbers import read_short_days, style_of_day_numbers
from ravine.data.notations import SEASON_STYLE, read_as_notation
from ravine.data.number_styles import parse_numbers, read_as_numbers, read_written_numbers
from ravine.data.odd_cells import Reading, fewest_odd, reads_all

ColumnKind: TypeAlias = Literal["number", "boolean", "category", "date", "text"]

MIN_ROWS_FOR_IDENTIFIERS = 20  # below so many rows, distinct values say nothing about identifiers
MIN_REPEATED_SHARE = 0.5  # of the rows: a category of which fewer hold a value that repeats is text
FEW_TEXTS = 200  # that mostly say whether a column's numbers are whole
MIN_REPEATS = 3  # a value in so many rows repeats
TIME_WORDS = re.compile(r"year|month|week|day|date|time|hour|age", re.IGNORECASE)
IDENTIFIER_WORDS = "id ids pid uid uuid guid key index rownames order".split()


@dataclass(frozen=True)
class UsedColumn:
    """A column that is used: its name, what it is, and the format of its dates or numbers."""

    name: str
    kind: ColumnKind
    style: str = ""


@dataclass(frozen=True)
class DroppedColumn:
    """A column that is not used, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class ColumnHints:
    """What is set of columns: types, a decimal sign where both could be, order of day and month."""

    categories: Sequence[str] = ()
    numbers: Sequence[str] = ()
    texts: Sequence[str] = ()
    decimal: str = "auto"
    date_order: str = "auto"

    def kind_of(self, name: str) -> ColumnKind | None:
        """The type that a column is said to have."""
        if name in self.texts:
            return "text"
        return "category" if name in self.categories else "number" if name in self.numbers else None


def values_of(values: pd.Series, column: UsedColumn) -> np.ndarray:
    """The numbers, or days since 1970, of a column, float64 [N]; NaN in cells of something else."""
    read = parsing.dates_or_gaps if column.kind == "date" else parsing.numbers_or_gaps
    return read(values, column.name, column.style)


def infer_column_types(
    frame: pd.DataFrame,
    *,
    rows: int,
    hints: ColumnHints | None = None,
    notes: list[str] | None = None,
) -> tuple[list[UsedColumn], list[DroppedColumn]]:
    """What the columns of the training rows are; `rows` counts those of the whole table, from which
    follows which columns number the rows. What was not obvious is appended to `notes`.

    >>> table = pd.DataFrame({"a": ["$3", "1,200"], "b": ["7", "7"]})
    >>> infer_column_types(table, rows=2)[0]
    [UsedColumn(name='a', kind='number', style='1,234.5')]
    """
    hints, notes = hints or ColumnHints(), [] if notes is None else notes
    columns = ((frame[name], str(name)) for name in frame.columns)
    found = [_infer_type(*column, rows, hints=hints, notes=notes) for column in columns]
    used = [f for f in found if isinstance(f, UsedColumn)]
    return used, [f for f in found if isinstance(f, DroppedColumn)]


def _infer_type(
    values: pd.Series, name: str, rows: int, *, hints: ColumnHints, notes: list[str]
) -> UsedColumn | DroppedColumn:
    count = int(values.notna().sum())
    if count == 0:
        return DroppedColumn(name, "it has no values in the training rows")
    kind = hints.kind_of(name)
    numeric = types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype)
    if numeric and kind not in ("category", "text"):
        return _type_of_numbers(values, name, rows, hints=hints, notes=notes)
    texts, codes = parsing.texts_of(values)
    if len(texts) == 1 and count == len(values):
        return DroppedColumn(name, f"it is {texts[0]!r} in all training rows")
    if kind == "number":
        return UsedColumn(name, "number", _forced_style(values, name, hints.decimal))
    if kind is not None:
        return UsedColumn(name, kind)
    stored = _stored_type(values, name, texts) or _type_of_code(texts, codes, name, notes)
    return stored or _type_of_text(texts, codes, values, rows=rows, hints=hints, notes=notes)


def _stored_type(
    values: pd.Series, name: str, texts: list[str]
) -> UsedColumn | DroppedColumn | None:
    """What a column is by how it is stored, or as its texts are yes and no; None for other text."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return UsedColumn(name, "category")
    if isinstance(values.dtype, pd.PeriodDtype) or types.is_datetime64_any_dtype(values.dtype):
        return UsedColumn(name, "date")
    if types.is_timedelta64_dtype(values.dtype):
        return UsedColumn(name, "number", "days")
    if parsing.are_booleans(texts):
        return UsedColumn(name, "boolean")
    first = values.dropna().iloc[0]
    if isinstance(first, (list, tuple, set, dict, np.ndarray)):
        return DroppedColumn(name, "it holds lists, not single values")
    are_days = isinstance(first, (datetime.date, np.datetime64))
    if are_days and not np.isnan(date_styles.days_of_texts(texts, "")).any():
        return UsedColumn(name, "date")
    return None


def _type_of_numbers(
    values: pd.Series, name: str, rows: int, *, hints: ColumnHints, notes: list[str]
) -> UsedColumn | DroppedColumn:
    forced = hints.kind_of(name) == "number"
    if types.is_complex_dtype(values.dtype):
        return DroppedColumn(name, "it holds complex numbers")
    numbers = parsing.numbers_of(values, name)
    present = numbers[~np.isnan(numbers)]
    low, high = present.min(), present.max()
    if types.is_integer_dtype(values.dtype) and not forced and high >= 10**EXACT_DIGITS:
        if coded := _type_of_code(*parsing.texts_of(values), name, notes):
            return coded
    if low == high and len(present) == len(numbers):
        return DroppedColumn(name, f"it is {low:g} in all training rows")
    if forced:
        return UsedColumn(name, "number")
    if low == 0 and high == 1 and ((present == 0) | (present == 1)).all():
        return UsedColumn(name, "boolean")
    return _type_of_whole(present, UsedColumn(name, "number"), rows, hints=hints, notes=notes)


def _type_of_text(
    texts: list[str],
    codes: np.ndarray,
    values: pd.Series,
    *,
    rows: int,
    hints: ColumnHints,
    notes: list[str],
) -> UsedColumn | DroppedColumn:
    name = str(values.name)
    counts = parsing.counts_of(codes)
    kind, reading = _read_column(texts, counts, hints)
    orders = None if reads_all(reading) else date_styles.dates_of_two_orders(texts)
    if orders:
        places = sorted(int((codes == texts.index(text)).argmax()) for text in orders)
        shown = [f"{texts[codes[i]]} in row {values.index[i]}" for i in places]
        why = f"it has dates of two orders: {' and '.join(shown)}"
        do = "write all of them in one order"
        if reading is None:
            return DroppedColumn(name, f"{why} ({do})")
        notes.append(f"{name} is in doubt, as {why}. {do.capitalize()}.")
    if reading is None:
        why = _text_reason(texts, counts)
        return DroppedColumn(name, why.format(name)) if why else UsedColumn(name, "category")
    if kind == "date":
        notes += date_styles.describe_date_doubt(texts, reading.style, name)
        return UsedColumn(name, "date", reading.style)
    notes += [f"{name} {doubt}" for doubt in reading.doubts]
    first = parse_numbers(texts[:FEW_TEXTS], reading.style)
    first = first[~np.isnan(first)]
    column = UsedColumn(name, "number", reading.style)
    if (first % 1 != 0).any() and not style_of_day_numbers(first):  # nor identifiers
        return column
    numbers = parse_numbers(texts, reading.style)[codes[codes >= 0]]
    return _type_of_whole(numbers[~np.isnan(numbers)], column, rows, hints=hints, notes=notes)


def _type_of_whole(
    numbers: np.ndarray, column: UsedColumn, rows: int, *, hints: ColumnHints, notes: list[str]
) -> UsedColumn | DroppedColumn:
    """What a column of numbers is: it may be of days such as 20241231, or of identifiers."""
    name = column.name
    if day_style := style_of_day_numbers(numbers):
        return UsedColumn(name, "date", day_style)
    short_style, texts = read_short_days(numbers, name, hints.date_order)
    if short_style:
        notes += date_styles.describe_date_doubt(texts, short_style, name)
        return UsedColumn(name, "date", short_style)
    why = _identifier_reason(numbers, name, rows)
    return DroppedColumn(name, why) if why else column


def _text_reason(texts: Sequence[str], counts: Sequence[int]) -> str:
    """Why a column of texts is no category, nothing if it is one."""
    count = sum(counts)
    repeated = sum(n for n in counts if n >= MIN_REPEATS)
    words = float(np.mean([t.count(" ") + 1 for t in texts[:1000]]))
    if count < MIN_ROWS_FOR_IDENTIFIERS:
        return ""
    do = "data.texts = [{!r}] uses its words"
    if len(texts) == count:
        why = "it has another text in every row"
        return why if words < 2 else f"{why} ({do})"
    if len(texts) > count / 2 and words >= 4:
        return f"it is free text ({do})"
    if repeated < MIN_REPEATED_SHARE * count:
        why = f"it has {len(texts):,} different texts in {count:,} rows, of which few repeat"
        return f"{why} ({do}, data.categories the texts as they are)"
    return ""


def _type_of_code(
    texts: Sequence[str], codes: np.ndarray, name: str, notes: list[str]
) -> UsedColumn | DroppedColumn | None:
    """A column of codes such as 01234, which is a category or tells rows apart; None if it is not.

    Moments are no codes, though as long; nor are times of day (08.30) and days (051231).
    """
    why, example = find_code(texts)
    if not why or (why in (LONG_CODE, DOTTED_CODE) and TIME_WORDS.search(name)):
        return None
    numbers = parse_numbers(texts, "")
    if read_short_days(numbers[~np.isnan(numbers)], name, "auto")[0]:
        return None
    rows = int((codes >= 0).sum())
    if why == DOTTED_CODE and 2 * len(texts) > rows:  # rather measurements of one width
        return None
    if len(texts) == rows:
        return DroppedColumn(name, f"it has another code in every row ({example!r})")
    notes.append(
        f"{name} is taken as categories: its numbers {why} ({example!r}). If they are amounts, set "
        f"data.numbers = [{name!r}]."
    )
    return UsedColumn(name, "category")


def _read_column(
    texts: Sequence[str], counts: Sequence[int], hints: ColumnHints
) -> tuple[Literal["number", "date"], Reading | None]:
    """What a column of text is written as: numbers or dates, whichever has fewer odd cells."""
    numbers = read_as_numbers(texts, counts, hints.decimal)
    if reads_all(numbers):
        return "number", numbers
    seasons = read_as_notation(texts, counts, (SEASON_STYLE,))  # 2003-04 could be a month, too
    if reads_all(seasons):
        return "number", seasons
    dates = date_styles.read_as_dates(texts, counts, hints.date_order)
    if reads_all(dates):
        return "date", dates
    numbers = fewest_odd(numbers, read_as_notation(texts, counts))
    if numbers is None or (dates is not None and len(dates.odd) < len(numbers.odd)):
        return "date", dates
    return "number", numbers


def _forced_style(values: pd.Series, name: str, decimal: str) -> str:
    """The style of a column that is said to be numbers. `DataError` where most of it is not."""
    if not parsing.is_text(values):
        return ""
    found = parsing.read_column(values, read_written_numbers, decimal)
    style = "1,234.5" if found is None else found.style
    mostly_odd = parsing.read_numbers(values, style)[1].mean() > 0.5
    check = parsing.numbers_of if mostly_odd else parsing.numbers_or_gaps
    check(values, name, style)
    return style


def is_identifier(name: str, words: Sequence[str] = IDENTIFIER_WORDS) -> bool:
    """Whether a column is called as identifiers are: the last word of its name is one of `words`.

    >>> is_identifier("customerId"), is_identifier("paid")
    (True, False)
    """
    parts = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    return bool(parts) and parts[-1] in words


def _identifier_reason(values: np.ndarray, name: str, rows: int) -> str:
    """Why a column is an identifier, nothing if it is not: other whole numbers in each row."""
    finite = values[np.isfinite(values)]
    few = len(finite) < MIN_ROWS_FOR_IDENTIFIERS
    if few or (finite != np.round(finite)).any() or len(np.unique(finite)) < len(finite):
        return ""
    if is_identifier(name):
        return "it is an identifier: another whole number in every row"
    if finite.max() - finite.min() < 1.1 * rows and not TIME_WORDS.search(name):
        return "it numbers the rows"
    return ""

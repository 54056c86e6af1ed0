"""Rows of a table that are no examples: the header again, a row of units, a row of totals."""

import re

import numpy as np
import pandas as pd

from ravine.data.number_styles import read_as_numbers
from ravine.data.odd_cells import is_gap
from ravine.data.parsing import counts_of, is_text, texts_of

MAX_FOOTER_ROWS = 5
TOTAL_WORDS = re.compile(
    r"(grand |sub-?)?totals?|totale|sum|average|mean|summe|gesamt(summe)?|insgesamt|somme",
    re.IGNORECASE,
)


def drop_foreign_rows(table: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that are examples, and their places; what is left out is appended to `notes`.

    Left out are rows that repeat the column names, a first row of units over columns of numbers, a
    last row that says that it is a total, and last rows with a text in the first column alone.
    What is left of a column of numbers is numbers.

    >>> table = pd.DataFrame({"a": ["m", "1", "2"], "b": ["kg", "3.5", "4"]})
    >>> drop_foreign_rows(table, [])[0]["b"].tolist()
    [3.5, 4.0]
    """
    texts = [name for name in table.columns if is_text(table[name])]
    if not texts:
        return table, np.arange(len(table))
    kinds = {
        "repeats the column names": _header_rows(table, texts),
        "holds units": _units_row(table, texts),
        "is a total": _total_row(table, texts),
        "is a line below the table": _footer_rows(table),
    }
    foreign = np.zeros(len(table), bool)
    for what, rows in kinds.items():
        rows = [row for row in rows if not foreign[row]]
        foreign[rows] = True
        if rows:
            row = rows[0]
            cells = ", ".join(str(v)[:20] for v in table.iloc[row].dropna().iloc[:4])
            more = f" (so do {len(rows) - 1} more)" if len(rows) > 1 else ""
            notes.append(f"Row {table.index[row]} {what} and is left out{more}: {cells}.")
    places = np.flatnonzero(~foreign)
    if foreign.any() and len(places):
        table = table.iloc[places]
        table = table.assign(**{name: _as_numbers(table[name]) for name in texts})
    return table, places


def _header_rows(table: pd.DataFrame, texts: list[str]) -> list[int]:
    if len(texts) < len(table.columns):  # then some column has a number in every row
        return []
    rows = np.flatnonzero((table[texts[0]] == texts[0]).to_numpy(bool, na_value=False)).tolist()
    return [row for row in rows if all(table[name].iat[row] == name for name in texts)]


def _units_row(table: pd.DataFrame, texts: list[str]) -> list[int]:
    """Row 0 where it is all text, and at least two columns are numbers from row 1 on."""
    first = table.iloc[0].dropna()
    if len(texts) < len(table.columns) or len(table) < 3:
        return []
    if any(_numbers([str(value).strip()]) for value in first):
        return []
    named = [name for name in first.index if not is_gap(str(first[name]).strip())]
    units = [name for name in named if _is_number_column(table[name].iloc[1:])]
    return [0] if len(units) >= min(2, len(table.columns)) else []


def _total_row(table: pd.DataFrame, texts: list[str]) -> list[int]:
    last = len(table) - 1
    for name in texts:
        text = str(table[name].iat[last]).strip(" :.")
        if TOTAL_WORDS.fullmatch(text) and (table[name] == table[name].iat[last]).sum() == 1:
            return [last]
    return []


def _footer_rows(table: pd.DataFrame) -> list[int]:
    """The last rows where they have a text in the first column alone, as no other row has."""
    if len(table.columns) < 2 or not is_text(table.iloc[:, 0]):
        return []
    alone = table.iloc[:, 0].notna() & table.iloc[:, 1:].isna().all(axis=1)
    rows = np.flatnonzero(alone.to_numpy()).tolist()
    are_last = rows == list(range(len(table) - len(rows), len(table)))
    return rows if are_last and len(rows) <= MAX_FOOTER_ROWS else []


def _numbers(texts: list[str]) -> bool:
    found = read_as_numbers(texts, [1] * len(texts))
    return found is not None and not found.odd


def _is_number_column(values: pd.Series) -> bool:
    texts, codes = texts_of(values)
    found = read_as_numbers(texts, counts_of(codes))
    return found is not None and not found.odd


def _as_numbers(values: pd.Series) -> pd.Series:
    """A column as numbers, unless it holds something else, or codes such as 01234."""
    if values.astype(str).str.fullmatch(r"\s*0\d+\s*").any():
        return values
    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        return values

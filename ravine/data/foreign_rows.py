"""Rows of a table that are no examples: the header again, a row of units, a row of totals."""

import re

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from ravine.data.codes import find_code
from ravine.data.date_styles import read_as_dates
from ravine.data.number_styles import read_as_numbers
from ravine.data.odd_cells import is_gap, reads_all
from ravine.data.parsing import are_whole, is_text, read_column, read_numbers, texts_of
from ravine.data.units import is_unit

MAX_FOOTER_ROWS = 5
TOTAL_WORDS = re.compile(
    r"(?:grand |sub-?)?totals?|totale|(?:sub)?sum|summe|gesamt(?:summe)?|insgesamt|somme", re.I
)
MEAN_WORDS = re.compile(r"averages?|avg|means?|durchschnitt|mittelwert|moyenne|media", re.I)
LABEL_WORDS = rf"(?:{TOTAL_WORDS.pattern}|{MEAN_WORDS.pattern})"
TOTAL_LABEL = re.compile(rf"(?:.*[\W_])?{LABEL_WORDS}(?:[\W_].*)?|all|overall|alle", re.I)
MAX_TOTAL_TEXT = 60  # characters


def drop_foreign_rows(table: pd.DataFrame, notes: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows that are examples, and their places; what is left out is appended to `notes`.

    Left out are rows that repeat the column names, a first row of units over columns of numbers,
    rows that say that they are totals (or means) and are those of the rows around them, a last row
    that says so among numbers or dates or is far beyond all others, and last rows with a text in
    the first column alone. What is left of a column of numbers is numbers.

    >>> table = pd.DataFrame({"a": ["m", "1", "2"], "b": ["kg", "3.5", "4"]})
    >>> drop_foreign_rows(table, [])[0]["b"].tolist()
    [3.5, 4.0]
    """
    texts = [name for name in table.columns if is_text(table[name])]
    if not texts:
        return table, np.arange(len(table))
    kinds = {**find_label_rows(table), "is a line below the table": _footer_rows(table)}
    kinds |= _total_rows(table, texts, sorted({*sum(kinds.values(), [])}), notes)
    foreign = np.zeros(len(table), bool)
    for what, rows in kinds.items():
        rows = [row for row in rows if not foreign[row]]
        foreign[rows] = True
        if rows:
            row = rows[0]
            cells = ", ".join(str(v)[:20] for v in table.iloc[row].dropna().iloc[:4])
            others = "is 1 more row" if len(rows) == 2 else f"are {len(rows) - 1} more rows"
            more = f", and so {others}" if len(rows) > 1 else ""
            notes.append(f"Row {table.index[row]} {what} and is left out{more}: {cells}.")
    places = np.flatnonzero(~foreign)
    if foreign.any() and len(places):
        blank = [n for n in table.columns if n not in texts and table[n][foreign].isna().any()]
        table = table.iloc[places]
        table = table.assign(**{name: _as_numbers(table[name]) for name in texts})
        table = table.astype({name: np.int64 for name in blank if are_whole(table[name])})
    return table, places


def find_label_rows(table: pd.DataFrame) -> dict[str, list[int]]:
    """Places of rows that repeat the column names, and of a first row of units, by what they do."""
    texts = [name for name in table.columns if is_text(table[name])]
    others = table.drop(columns=texts)
    if not texts or len(table) == 0 or others.iloc[0].notna().any():  # then row 0 has a number
        return {}
    headers = [] if len(others.columns) else _header_rows(table, texts)
    is_row = np.ones(len(table), bool)
    is_row[headers] = False
    units = _units_row(table[is_row]) if is_row[:1].all() else []
    return {"repeats the column names": headers, "holds units": units}


def _header_rows(table: pd.DataFrame, texts: list[str]) -> list[int]:
    rows = np.flatnonzero((table[texts[0]] == texts[0]).to_numpy(bool, na_value=False)).tolist()
    return [row for row in rows if all(table[name].iat[row] == name for name in texts)]


def _units_row(table: pd.DataFrame) -> list[int]:
    """Row 0 if it holds units of two columns of numbers, or of one where all others are numbers."""
    if len(table) < 3:
        return []
    first = table.iloc[0].dropna()
    if any(_is_number_column(first[i : i + 1]) for i in range(len(first))):
        return []
    named = [name for name in first.index if not is_gap(str(first[name]).strip())]
    units = [name for name in named if _is_number_column(table[name].iloc[1:])]
    if len(units) == 1 and is_unit(str(first[units[0]])):
        numbers = (_number_column(table[name].iloc[1:]) for name in table.columns)
        return [0] if all(found is not None for found in numbers) else []
    return [0] if len(units) >= min(2, len(table.columns)) else []


def is_total_word(text: str) -> bool:
    """Whether a text is the label of a total or a mean and nothing else."""
    text = text.strip(" :.")
    return bool(TOTAL_WORDS.fullmatch(text) or MEAN_WORDS.fullmatch(text))


def _total_rows(
    table: pd.DataFrame, texts: list[str], foreign: list[int], notes: list[str]
) -> dict[str, list[int]]:
    """The rows that sum up those before or behind them and say so in words, by what they are.

    A text that mostly stands in rows that are no sums is a level like any other.
    """
    usual = np.ones(len(table), bool)
    usual[foreign] = False
    for name in texts:
        words, codes = texts_of(table[name])
        named = [len(w) <= MAX_TOTAL_TEXT and bool(TOTAL_LABEL.fullmatch(w)) for w in words]
        if not any(named):
            continue
        marked = np.array([*named, False])[codes] & usual
        rows = np.flatnonzero(marked)
        if not 0 < len(rows) <= len(table) / 2:
            continue
        numbers = [n for c in table.columns if (n := _number_column(table[c])) is not None]
        are_sums = _sum_up(rows, numbers, usual & ~marked)
        if are_sums.mean() >= 0.5:
            return _by_label(rows[are_sums].tolist(), [words[codes[row]] for row in rows[are_sums]])
        last = int(np.flatnonzero(usual)[-1])
        word = words[codes[last]]
        if not marked[last] or not is_total_word(word) or (codes == codes[last]).sum() > 1:
            continue
        others = table[name].where(usual).drop(table.index[last])
        measured = _is_number_column(others) or reads_all(read_column(others, read_as_dates))
        if _is_beyond(last, numbers, usual) or measured:
            return _by_label([last], [word])
        what = "mean" if MEAN_WORDS.search(word) else "total"
        notes.append(
            f"Row {table.index[last]} may be a {what}, {word!r} in {name}: its numbers are no "
            f"{what.replace('total', 'sum')}s, and it is kept. If it is one, delete it."
        )
    return {}


def _by_label(rows: list[int], labels: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, label in zip(rows, labels, strict=True):
        is_mean = MEAN_WORDS.search(label) and not TOTAL_WORDS.search(label)
        found.setdefault("is a mean" if is_mean else "is a total", []).append(row)
    return found


def _sum_up(rows: np.ndarray, numbers: list[np.ndarray], usual: np.ndarray) -> np.ndarray:
    """Whether a column of each of some rows is the sum, or all are the mean, of those between it
    and the next of them, or of all before or behind it, bool [rows].
    """
    spans = [
        (np.append(0, rows[:-1] + 1), rows),
        (np.zeros_like(rows), rows),
        (rows + 1, np.append(rows[1:], len(usual))),
        (rows + 1, np.full_like(rows, len(usual))),
    ]
    found = np.zeros(len(rows), bool)
    for start, stop in spans:
        is_sum, is_mean, given = (np.zeros(len(rows), int) for _ in range(3))
        for x in numbers:
            known = usual & np.isfinite(x)
            sums = np.append(0, np.cumsum(np.where(known, x, 0)))
            counts = np.append(0, np.cumsum(known))
            count = counts[stop] - counts[start]
            total = sums[stop] - sums[start]
            value = x[rows]
            is_sum += (count > 1) & (value != 0) & _equal(value, total)
            is_mean += (count > 1) & _equal(value, total / np.maximum(count, 1))
            given += np.isfinite(value)
        found |= (is_sum > 0) | ((given > 0) & (is_mean == given))
    return found


def _equal(written: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Whether numbers are others, as far as they are written out; NaN are not."""
    places = [len(repr(float(x)).partition(".")[2].rstrip("0")) for x in written]
    rounding = [0.51 * 10.0**-n if n < 6 else 0.0 for n in places]
    return np.abs(written - exact) <= np.maximum(rounding, 1e-6 * np.abs(exact))


def _is_beyond(row: int, numbers: list[np.ndarray], usual: np.ndarray) -> bool:
    """Whether a number of a row is above the others by more than they are wide, or it has none."""
    rest = usual & (np.arange(len(usual)) != row)
    given = [(x[row], x[rest & np.isfinite(x)]) for x in numbers if np.isfinite(x[row])]
    return not given or any(len(x) and value > 2 * x.max() - x.min() for value, x in given)


def _footer_rows(table: pd.DataFrame) -> list[int]:
    """The last rows where they have a text in the first column alone, as no other row has."""
    if len(table.columns) < 2 or not is_text(table.iloc[:, 0]):
        return []
    alone = table.iloc[:, 0].notna() & table.iloc[:, 1:].isna().all(axis=1)
    rows = np.flatnonzero(alone.to_numpy()).tolist()
    are_last = rows == list(range(len(table) - len(rows), len(table)))
    return rows if are_last and len(rows) <= MAX_FOOTER_ROWS else []


def _is_number_column(values: pd.Series) -> bool:
    return reads_all(read_column(values, read_as_numbers))


def _number_column(values: pd.Series) -> np.ndarray | None:
    """The numbers of a column, float64 [N]; None where it is mostly something else."""
    if is_text(values):
        found = read_column(values, read_as_numbers)
        return None if found is None else read_numbers(values, found.style)[0]
    numeric = is_numeric_dtype(values.dtype) and not is_bool_dtype(values.dtype)
    return read_numbers(values, "")[0] if numeric else None


def _as_numbers(values: pd.Series) -> pd.Series:
    """A column as numbers, unless it holds something else, or codes such as 01234 or 1.10."""
    if any(find_code(texts_of(values)[0])):
        return values
    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        return values

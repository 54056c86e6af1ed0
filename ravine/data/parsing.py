"""The values of a column, however they are written: as text, as numbers, as dates.

Letters: N rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from ravine.data import date_styles
from ravine.data.number_styles import parse_numbers, read_as_numbers
from ravine.data.odd_cells import Reading, is_gap, reads_all
from ravine.errors import DataError

NO_WORDS = ("0", "false", "f", "no", "n", "off")
YES_WORDS = ("1", "true", "t", "yes", "y", "on")
YES_NO_PAIRS = [set(pair) for pair in zip(NO_WORDS, YES_WORDS, strict=True)]
MAX_SPELLINGS = 30  # of words for yes and no: TRUE, True, true, ...
# words that may stand side by side: 1 beside True, y beside yes
BOOLEAN_WORDS = ({"0", "1", "false", "true", "f", "t"}, {"no", "yes", "n", "y"}, {"off", "on"})


def texts_of(values: pd.Series) -> tuple[list[str], np.ndarray]:
    """The distinct values as text, and for each row the place of its own (-1 where it is missing).

    Numbers have one text however they are stored: 1 and 1.0 are both '1'.

    >>> texts_of(pd.Series([2.0, None, 7.5, 2.0]))
    (['2', '7.5'], array([ 0, -1,  1,  0]))
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    try:
        codes, distinct = pd.factorize(values)
    except (TypeError, NotImplementedError):  # lists cannot be hashed, Arrow's not encoded
        codes, distinct = pd.factorize(values.map(str, na_action="ignore"))
    held = distinct.tolist() if isinstance(values.dtype, pd.StringDtype) else list(distinct)
    texts = [v.strip() if type(v) is str else text_of(v) for v in held]
    if isinstance(values.dtype, pd.StringDtype) and texts == held:
        return texts, codes
    places, texts = pd.factorize(np.array(texts, object))
    return list(texts), np.append(places, -1)[codes]


def text_of(value: Any) -> str:
    """A value as text; a whole number without a point."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def is_text(values: pd.Series) -> bool:
    """Whether a column is stored neither as numbers nor as durations."""
    return not (types.is_numeric_dtype(values.dtype) or types.is_timedelta64_dtype(values.dtype))


def are_whole(values: pd.Series) -> bool:
    """Whether a column of floats has whole numbers in all rows."""
    if not types.is_float_dtype(values.dtype):
        return False
    return bool(((values % 1 == 0) & (values.abs() < 2**53)).all())


def are_booleans(texts: Sequence[str]) -> bool:
    """Whether distinct texts are words for yes and words for no, of one kind, and nothing else.

    >>> are_booleans(["Yes", "no"]), are_booleans(["True", "0"]), are_booleans(["yes", "0"])
    (True, True, False)
    """
    words = {t.lower() for t in texts[:MAX_SPELLINGS]}
    both = not words.isdisjoint(YES_WORDS) and not words.isdisjoint(NO_WORDS)
    return both and len(texts) < MAX_SPELLINGS and any(words <= kind for kind in BOOLEAN_WORDS)


def signs_of(values: pd.Series) -> np.ndarray:
    """+1 for yes, -1 for no, 0 where it is missing or neither, float32 [N]."""
    texts, codes = texts_of(values)
    signs = [float(t.lower() in YES_WORDS) - float(t.lower() in NO_WORDS) for t in texts]
    return np.array([*signs, 0.0], np.float32)[codes]


def counts_of(codes: np.ndarray) -> list[int]:
    """In how many rows each of the distinct texts of `texts_of` stands."""
    return np.bincount(codes[codes >= 0]).tolist()


def read_column(
    values: pd.Series, read: Callable[..., Reading | None], decimal: str = "auto"
) -> Reading | None:
    """How a column of text is written, as `read` says of its distinct texts; None for others."""
    if not is_text(values):
        return None
    texts, codes = texts_of(values)
    return read(texts, counts_of(codes), decimal)


def column_number_style(values: pd.Series) -> str:
    """How a column writes numbers in text; nothing where they are not in text, or none are."""
    found = read_column(values, read_as_numbers)
    return found.style if reads_all(found) else ""


def numbers_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """The numbers of a column, float64 [N], NaN where missing.

    `DataError` names value and row where there is something else, or a number is infinite.
    """
    found, bad = read_numbers(values, style)
    refuse_values(values, bad, name, "a duration" if style == "days" else "a number")
    return _finite(found, values, name)


def numbers_or_gaps(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """As `numbers_of`, but NaN where there is something else, too."""
    return _finite(read_numbers(values, style)[0], values, name)


def _finite(found: np.ndarray, values: pd.Series, name: str) -> np.ndarray:
    if np.isinf(found).any():
        row = int(np.flatnonzero(np.isinf(found))[0])
        why, do = "networks need finite numbers", "repair the value, or leave it empty"
        raise DataError(f"{name} is infinite in row {values.index[row]}", why=why, do=do)
    return found


def read_numbers(values: pd.Series, style: str) -> tuple[np.ndarray, np.ndarray]:
    """A column's numbers, float64 [N], else NaN; and where cells hold something else, bool [N]."""
    if style == "days" or types.is_timedelta64_dtype(values.dtype):
        seconds = pd.to_timedelta(values, errors="coerce").dt.total_seconds()
        found = seconds.to_numpy(np.float64) / 86400
        return found, np.isnan(found) & values.notna().to_numpy()
    if is_text(values):
        texts, codes = texts_of(values)
        return _place(parse_numbers(texts, style), texts, codes)
    found = values.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    return found, np.zeros(len(found), bool)


def weights_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of example weights, float64 [N], NaN where missing."""
    return numbers_of(frame[name], name, column_number_style(frame[name]))


def dates_of(
    values: pd.Series, name: str, style: str = "", odd_texts: Sequence[str] = ()
) -> np.ndarray:
    """Days since 1970 of a column of dates, float64 [N], NaN where missing or an open end.

    `DataError` names value and row where there is something else, unless the column has odd texts.
    """
    found, bad, _ = read_new_dates(values, style, odd_texts)
    if not odd_texts:
        refuse_values(values, bad, name, f"a date like {style or '2024-12-31'}")
    return date_styles.without_open_ends(found)


def dates_or_gaps(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """Days since 1970 in that style alone, float64 [N], NaN where there is something else, too."""
    return date_styles.without_open_ends(read_dates(values, style)[0])


def read_new_dates(
    values: pd.Series, style: str, odd_texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """As `read_dates`, and the style: the column's, or one that alone reads all but odd texts."""
    days, bad = read_dates(values, style)
    if not bad.any() or (odd_texts and bad.sum() < (~np.isnan(days)).sum()):
        return days, bad, style
    texts, codes = texts_of(values)
    kept = [(t, n) for t, n in zip(texts, counts_of(codes), strict=True) if t not in odd_texts]
    found = date_styles.style_of_new_dates([t for t, _ in kept], [n for _, n in kept], style)
    if found is None or not np.isnan(date_styles.days_of_texts(odd_texts, found)).all():
        return days, bad, style
    return *read_dates(values, found), found


def read_dates(values: pd.Series, style: str) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970, float64 [N], else NaN; and where cells hold something else, bool [N]."""
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if types.is_datetime64_any_dtype(values.dtype):
        days = date_styles.days_of_moments(pd.to_datetime(values, utc=True))
        return days, np.zeros(len(days), bool)
    texts, codes = texts_of(values)
    return _place(date_styles.days_of_texts(texts, style), texts, codes)


def _place(
    found: np.ndarray, texts: Sequence[str], codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What distinct texts say, for each row; and where a text says nothing though it is no gap."""
    bad = np.append(np.isnan(found), False)
    for place in np.flatnonzero(bad).tolist():
        bad[place] = not is_gap(texts[place])
    return np.append(found, np.nan)[codes], bad[codes]


def refuse_values(values: pd.Series, bad: np.ndarray, name: str, wanted: str) -> None:
    """Raise `DataError` for the first `bad` value of a column, with its row and what it must be."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = f"{name} is {str(values.iloc[row])!r} in row {values.index[row]}"
        raise DataError(what, why=f"it must be {wanted}", do="repair the value, or leave it empty")

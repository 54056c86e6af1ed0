"""The values of a column, however they are written: as text, as numbers, as dates.

Letters: N rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ravine.errors import DataError

NO_WORDS = ("0", "false", "f", "no", "n", "off")
YES_WORDS = ("1", "true", "t", "yes", "y", "on")
YES_NO_PAIRS = [set(pair) for pair in zip(NO_WORDS, YES_WORDS, strict=True)]
GAP_WORDS = (
    "",
    "?",
    "-",
    "--",
    ".",
    "na",
    "n/a",
    "n.a.",
    "nan",
    "none",
    "null",
    "missing",
    "unknown",
)  # among numbers
DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "ISO8601",
)
ENGLISH_NUMBER = re.compile(
    r"([-+]?)[$€£¥]?\s*([-+]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d*)?([eE][-+]?\d+)?\s*[%$€£¥]?"
)
CONTINENTAL_NUMBER = re.compile(
    r"([-+]?)[$€£¥]?\s*([-+]?)(\d{1,3}(?:\.\d{3})+|\d*)(,\d*)?([eE][-+]?\d+)?\s*[%$€£¥]?"
)


def texts_of(values: pd.Series) -> tuple[list[str], np.ndarray]:
    """The distinct values as text, and for each row the place of its own (-1 where it is missing).

    Numbers have one text however they are stored: 1, 1.0 and True are different storage of '1', '1'
    and 'True'.

    >>> texts_of(pd.Series([2.0, None, 7.5, 2.0]))
    (['2', '7.5'], array([ 0, -1,  1,  0]))
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    try:
        codes, distinct = pd.factorize(values)
    except TypeError:  # lists cannot be hashed
        codes, distinct = pd.factorize(values.map(str, na_action="ignore"))
    texts = [_text(v) for v in distinct]
    places: dict[str, int] = {}
    for text in texts:
        places.setdefault(text, len(places))
    if len(places) < len(texts):
        codes = np.append([places[t] for t in texts], -1)[codes]
    return list(places), codes


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def is_text(values: pd.Series) -> bool:
    return not (
        pd.api.types.is_numeric_dtype(values.dtype)
        or pd.api.types.is_timedelta64_dtype(values.dtype)
    )


def number_style(texts: Sequence[str]) -> str:
    """How numbers are written in texts: `1,234.5` or `1.234,5`; nothing if they are not all
    numbers.
    """
    kept = [t for t in texts if t.lower() not in GAP_WORDS]
    if not kept:
        return ""
    for style, pattern in (("1,234.5", ENGLISH_NUMBER), ("1.234,5", CONTINENTAL_NUMBER)):
        if all(not np.isnan(number_of(t, pattern)) for t in kept):
            return style
    return ""


def number_of(text: str, pattern: re.Pattern) -> float:
    """The number that a text writes, NaN if it writes none.

    >>> number_of("-$1,234.5", ENGLISH_NUMBER), number_of("12 %", ENGLISH_NUMBER)
    (-1234.5, 12.0)
    >>> number_of("1.234,5", CONTINENTAL_NUMBER)
    1234.5
    """
    found = pattern.fullmatch(text)
    if found is None:
        return float(text) if text.lower().lstrip("+-") in ("inf", "infinity") else np.nan
    sign, other, whole, part, power = (g or "" for g in found.groups())
    digits = re.sub(r"[.,]", "", whole)
    if not digits and not part[1:] or (sign and other):
        return np.nan
    return float(f"{sign}{other}{digits or '0'}.{part[1:] or '0'}{power}")


def parse_numbers(texts: Sequence[str], style: str) -> np.ndarray:
    pattern = CONTINENTAL_NUMBER if style == "1.234,5" else ENGLISH_NUMBER
    return np.array([number_of(t, pattern) for t in texts], np.float64)


def numbers_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """The numbers of a column, float64 [N], NaN where missing. Raises `DataError` naming column,
    value and row.
    """
    if style == "days" or pd.api.types.is_timedelta64_dtype(values.dtype):
        found = (
            pd.to_timedelta(values, errors="coerce").dt.total_seconds().to_numpy(np.float64) / 86400
        )
        refuse_values(values, np.isnan(found) & values.notna().to_numpy(), name, "a duration")
    elif is_text(values):
        texts, codes = texts_of(values)
        numbers = parse_numbers(texts, style)
        bad = np.array(
            [
                np.isnan(x) and t.lower() not in GAP_WORDS
                for x, t in zip(numbers, texts, strict=True)
            ]
            + [False]
        )
        refuse_values(values, bad[codes], name, "a number")
        found = np.append(numbers, np.nan)[codes]
    else:
        found = values.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    if np.isinf(found).any():
        row = int(np.flatnonzero(np.isinf(found))[0])
        raise DataError(
            f"{name} is infinite in row {values.index[row]}",
            why="networks need finite numbers",
            do="repair the value, or leave it empty",
        )
    return found


def weights_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of example weights, float64 [N], NaN where missing."""
    return numbers_of(
        frame[name], name, number_style(texts_of(frame[name])[0]) if is_text(frame[name]) else ""
    )


def dates_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """Days since 1970 of a column of dates, float64 [N], NaN where missing. Raises `DataError`
    naming value and row.
    """
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if pd.api.types.is_datetime64_any_dtype(values.dtype):
        moments = pd.to_datetime(values, utc=True)
    else:
        texts = values.map(_text, na_action="ignore").replace("", None)
        moments = pd.to_datetime(texts, format=style or "ISO8601", errors="coerce", utc=True)
        refuse_values(
            values,
            (moments.isna() & texts.notna()).to_numpy(),
            name,
            f"a date like {style or '2024-12-31'}",
        )
    return ((moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(
        np.float64, na_value=np.nan
    )


def format_of(texts: Sequence[str]) -> str:
    """The format of dates in which all texts are written, nothing if there is none."""
    if not all(re.search(r"\d", t) and len(t) >= 6 for t in texts[:50]):
        return ""
    sample = pd.Series(list(texts[:100]), dtype=object)
    for style in DATE_FORMATS:
        if not dates_parse(sample, style):
            continue
        if len(texts) <= 100 or dates_parse(pd.Series(list(texts), dtype=object), style):
            return style
    return ""


def dates_parse(texts: pd.Series, style: str) -> bool:
    return bool(pd.to_datetime(texts, format=style, errors="coerce", utc=True).notna().all())


def refuse_values(values: pd.Series, bad: np.ndarray, name: str, wanted: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{name} is {str(values.iloc[row])!r} in row {values.index[row]}",
            why=f"it must be {wanted}",
            do="repair the value, or leave it empty",
        )

"""The values of a column, however they are written: as text, as numbers, as dates.

Letters: N rows.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_numeric_dtype, is_timedelta64_dtype

from ravine.errors import DataError

NO_WORDS = ("0", "false", "f", "no", "n", "off")
YES_WORDS = ("1", "true", "t", "yes", "y", "on")
YES_NO_PAIRS = [set(pair) for pair in zip(NO_WORDS, YES_WORDS, strict=True)]
# among numbers
GAP_WORDS = ("", *"? - -- . na n/a n.a. nan none null missing unknown".split())
CLOCK_DAYS = ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y")
DATE_FORMATS = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    *(f"{day} {clock}" for day in CLOCK_DAYS for clock in ("%H:%M", "%H:%M:%S")),
    "ISO8601",
)
ENGLISH_NUMBER = re.compile(
    r"([-+]?)[$€£¥]?\s*([-+]?)(\d{1,3}(?:,\d{3})+|\d*)(\.\d*)?([eE][-+]?\d+)?\s*[%$€£¥]?"
)
CONTINENTAL_NUMBER = re.compile(
    r"([-+]?)[$€£¥]?\s*([-+]?)(\d{1,3}(?:\.\d{3})+|\d*)(,\d*)?([eE][-+]?\d+)?\s*[%$€£¥]?"
)
NUMBER_PATTERNS = {"1,234.5": ENGLISH_NUMBER, "1.234,5": CONTINENTAL_NUMBER}


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
    except TypeError:  # lists cannot be hashed
        codes, distinct = pd.factorize(values.map(str, na_action="ignore"))
    places, texts = pd.factorize(np.array([_text(v) for v in distinct], object))
    return list(texts), np.append(places, -1)[codes]


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value).strip()


def is_text(values: pd.Series) -> bool:
    """Whether a column is stored neither as numbers nor as durations."""
    return not (is_numeric_dtype(values.dtype) or is_timedelta64_dtype(values.dtype))


def is_gap(text: str) -> bool:
    """Whether a text among numbers stands for a missing one, such as "?"."""
    return text.lower() in GAP_WORDS


def number_style(texts: Sequence[str]) -> str:
    """How all texts write numbers, `1,234.5` or `1.234,5`; nothing if they are not all numbers."""
    kept = [t for t in texts if not is_gap(t)]
    for style, pattern in NUMBER_PATTERNS.items():
        if kept and not any(np.isnan(number_of(t, pattern)) for t in kept):
            return style
    return ""


def column_number_style(values: pd.Series) -> str:
    """How a column writes numbers in text; nothing where they are not in text, or none are."""
    return number_style(texts_of(values)[0]) if is_text(values) else ""


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
    """The numbers that texts write in a style, float64 [N], NaN where they write none."""
    pattern = NUMBER_PATTERNS.get(style, ENGLISH_NUMBER)
    return np.array([number_of(t, pattern) for t in texts], np.float64)


def numbers_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """The numbers of a column, float64 [N], NaN where missing. `DataError` names value and row."""
    if style == "days" or is_timedelta64_dtype(values.dtype):
        seconds = pd.to_timedelta(values, errors="coerce").dt.total_seconds()
        found = seconds.to_numpy(np.float64) / 86400
        refuse_values(values, np.isnan(found) & values.notna().to_numpy(), name, "a duration")
    elif is_text(values):
        texts, codes = texts_of(values)
        numbers = parse_numbers(texts, style)
        bad = [np.isnan(x) and not is_gap(t) for x, t in zip(numbers, texts, strict=True)]
        refuse_values(values, np.array([*bad, False])[codes], name, "a number")
        found = np.append(numbers, np.nan)[codes]
    else:
        found = values.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    if np.isinf(found).any():
        row = int(np.flatnonzero(np.isinf(found))[0])
        why, do = "networks need finite numbers", "repair the value, or leave it empty"
        raise DataError(f"{name} is infinite in row {values.index[row]}", why=why, do=do)
    return found


def weights_of(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of example weights, float64 [N], NaN where missing."""
    return numbers_of(frame[name], name, column_number_style(frame[name]))


def dates_of(values: pd.Series, name: str, style: str = "") -> np.ndarray:
    """Days since 1970 of a column of dates, float64 [N], NaN where missing; else `DataError`."""
    if isinstance(values.dtype, pd.PeriodDtype):
        values = values.dt.to_timestamp()
    if is_datetime64_any_dtype(values.dtype):
        moments = pd.to_datetime(values, utc=True)
    else:
        texts = values.map(_text, na_action="ignore").replace("", None)
        moments = pd.to_datetime(texts, format=style or "ISO8601", errors="coerce", utc=True)
        bad = (moments.isna() & texts.notna()).to_numpy()
        refuse_values(values, bad, name, f"a date like {style or '2024-12-31'}")
    days = (moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)
    return days.to_numpy(np.float64, na_value=np.nan)


def format_of(texts: Sequence[str]) -> str:
    """The format of dates in which all texts are written, nothing if there is none."""
    if not all(re.search(r"\d", t) and len(t) >= 6 for t in texts[:50]):
        return ""
    for style in DATE_FORMATS:
        if dates_parse(texts[:100], style) and dates_parse(texts[100:], style):
            return style
    return ""


def dates_parse(texts: Sequence[str], style: str) -> bool:
    """Whether all texts are dates of a format."""
    values = pd.Series(list(texts), dtype=object)
    return bool(pd.to_datetime(values, format=style, errors="coerce", utc=True).notna().all())


def refuse_values(values: pd.Series, bad: np.ndarray, name: str, wanted: str) -> None:
    """Raise `DataError` for the first `bad` value of a column, with its row and what it must be."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        what = f"{name} is {str(values.iloc[row])!r} in row {values.index[row]}"
        raise DataError(what, why=f"it must be {wanted}", do="repair the value, or leave it empty")

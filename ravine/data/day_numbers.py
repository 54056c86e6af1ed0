"""Days and months that are stored as numbers: 20241231, 202412, 241231 in a column called a day."""

import re
from collections.abc import Sequence

import numpy as np

from ravine.data.date_styles import SAMPLED_DATES, days_of_texts, read_as_dates
from ravine.data.odd_cells import reads_all

# by style: how its numbers are written out, in how many characters
DAY_NUMBERS = {
    "%Y%m%d": ("{:.0f}", 8),  # 20241231
    "%Y%m%d%H%M": ("{:.0f}", 12),
    "%Y%m%d%H%M%S": ("{:.0f}", 14),
    "%Y%m": ("{:.0f}", 6),
    "%m.%Y": ("{:07.4f}", 7),  # 3.202 is 03.2020
}
MIN_DAY_NUMBERS = 10  # different ones
MAX_YEAR_FIRST_DAYS = 20 * 365  # over more, days 1 to 31 may have been taken for years
DAY_WORDS = re.compile("date|day|datum", re.IGNORECASE)


def style_of_day_numbers(numbers: np.ndarray) -> str:
    """The style of numbers that are all days or months, such as 20241231; nothing if they are none.

    >>> style_of_day_numbers(np.arange(20240125, 20240132)), style_of_day_numbers(np.arange(50))
    ('', '')
    """
    distinct = np.unique(numbers)
    if len(distinct) < MIN_DAY_NUMBERS or distinct[0] < 1 or distinct[-1] > 1e14:
        return ""
    few = distinct[:: 1 + len(distinct) // SAMPLED_DATES]
    for style, (digits, width) in DAY_NUMBERS.items():
        if np.isnan(_days_of_numbers(few, style, digits, width)).any():
            continue
        days = _days_of_numbers(distinct, style, digits, width)
        if not np.isnan(days).any() and _are_several(days, "M" if "%d" in style else "Y"):
            return style
    return ""


def read_short_days(numbers: np.ndarray, name: str, order: str) -> tuple[str, Sequence[str]]:
    """The style of numbers that are all days with years of two digits, in a column that is called
    so, and their texts; nothing if they are none. `order` is that of day, month and year where they
    could be exchanged: by default the year is first, unless the years are fewer in another one.

    >>> read_short_days(np.append(np.arange(991201, 991232), 101), "sale_date", "auto")[0]
    '%y%m%d'
    """
    distinct = np.unique(numbers)
    is_called_so = DAY_WORDS.search(name) and len(distinct) >= MIN_DAY_NUMBERS
    if not is_called_so or distinct[0] < 101 or distinct[-1] > 991231 or (distinct % 1 != 0).any():
        return "", ()
    texts = [f"{number:06.0f}" for number in distinct]
    signed = [f"{text[:2]}-{text[2:4]}-{text[4:]}" for text in texts]
    for one in ("year first" if order == "auto" else order, "auto"):
        found = read_as_dates(signed, [1] * len(signed), one)
        if not reads_all(found) or " or " in found.style:
            continue
        style = found.style.replace("-", "")
        days = days_of_texts(texts, style)
        is_likely = one in (order, "auto") or np.ptp(days) < MAX_YEAR_FIRST_DAYS
        if is_likely and _are_several(days, "M"):
            return style, texts
    return "", ()


def _are_several(days: np.ndarray, unit: str) -> bool:
    """Whether days since 1970 are in more than one month (M) or year (Y)."""
    return len(np.unique(days.astype("datetime64[D]").astype(f"<M8[{unit}]"))) > 1


def _days_of_numbers(numbers: np.ndarray, style: str, digits: str, width: int) -> np.ndarray:
    """Days since 1970 that numbers write, NaN where they do not, or not from 1900 to 2100."""
    texts = [digits.format(number) for number in numbers]
    years = 1970 + (days := days_of_texts(texts, style)) / 365.2425
    fits = (np.array(texts, np.float64) == numbers) & (np.array(list(map(len, texts))) == width)
    return np.where(fits & (years >= 1900) & (years < 2101), days, np.nan)

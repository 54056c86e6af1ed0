"""How dates and times of day are written in text, and the days that texts write.

A style is a format of `strptime`, or several for a column that mixes them, joined by " or ".
"""

import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from itertools import product

import numpy as np
import pandas as pd

from ravine.data.odd_cells import Reading, is_gap

DAY_STYLES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y", "%Y.%m.%d"),
)
CLOCK_STYLES = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p")
DATE_STYLES = (
    *DAY_STYLES,
    *(f"{day} {clock}" for day, clock in product(DAY_STYLES, CLOCK_STYLES)),
    *("ISO8601", "RFC2822", "%a %b %d %H:%M:%S %Y", "%b %Y", "%B %Y", "%m/%Y"),
    *CLOCK_STYLES,
)
DAY_NUMBERS = "%Y%m%d"  # 20241231
MAX_STYLES = 3  # in one column
SAMPLED_DATES = 200  # by which a style is chosen
SECONDS_PER_DAY = 86_400
FIRST_OPEN_YEAR = 2200  # a date from then on, such as 9999-12-31, stands for "no end": a gap
FIRST_YEAR = 1000  # and one before it, such as 0001-01-01, for "no beginning"


def days_of_texts(texts: Sequence[str], style: str) -> np.ndarray:
    """Days since 1970 that texts write, float64 [N], NaN where they write none, or an open end."""
    days = np.full(len(texts), np.nan)
    for one in (style or "ISO8601").split(" or "):
        left = np.flatnonzero(np.isnan(days)).tolist()
        days[left] = _parse([texts[i] for i in left], one)
    return days


def without_open_ends(days: np.ndarray) -> np.ndarray:
    """Days since 1970; NaN in place of those that stand for no end, or no beginning.

    >>> without_open_ends(np.array([0.0, 2932896.0]))  # 1970-01-01, 9999-12-31
    array([ 0., nan])
    """
    years = 1970 + days / 365.2425
    return np.where((years < FIRST_YEAR) | (years >= FIRST_OPEN_YEAR), np.nan, days)


def read_as_dates(texts: Sequence[str], counts: Sequence[int]) -> Reading | None:
    """How texts write dates, and which of them do not; None where they are no dates.

    Where day and month could be exchanged, one order is taken for the whole column: that which
    reads more rows.
    """
    kept = [(t, n) for t, n in zip(texts, counts, strict=True) if not is_gap(t)]
    if not kept or np.mean([_could_be_date(t) for t, _ in kept[:SAMPLED_DATES]]) < 0.5:
        return None
    styles: list[str] = []
    left = kept
    while left and len(styles) < MAX_STYLES:
        style = _best_style(left, without=styles)
        if style is None:
            break
        styles.append(style)
        days = _parse([t for t, _ in left], style)
        left = [item for item, day in zip(left, days, strict=True) if np.isnan(day)]
    return Reading.of(" or ".join(styles), left, kept) if styles else None


def swap_day_and_month(style: str) -> str:
    """A style with day and month the other way round."""
    return style.translate(str.maketrans("md", "dm"))


def are_day_numbers(numbers: np.ndarray) -> bool:
    """Whether whole numbers are all days such as 20241231, of more than one month."""
    if not len(numbers) or (numbers != np.round(numbers)).any():
        return False
    if numbers.min() < 1900_01_01 or numbers.max() > 2100_12_31 or len(np.unique(numbers)) < 10:
        return False
    texts = [str(int(n)) for n in np.unique(numbers)]
    return not np.isnan(_parse(texts, DAY_NUMBERS)).any() and len({t[:6] for t in texts}) > 1


def _best_style(left: Sequence[tuple[str, int]], *, without: Sequence[str]) -> str | None:
    """The style that reads most texts of a sample, none that contradicts those found already."""
    sample = [t for t, _ in left[:SAMPLED_DATES]]
    orders = set(map(_order, without))
    best, most = None, 0
    for style in DATE_STYLES:
        contradicts = _order(style) and _order(swap_day_and_month(style)) in orders
        if style in without or contradicts or not any(_signs(style) <= set(t) for t in sample):
            continue
        parsed = int((~np.isnan(_parse(sample, style))).sum())
        if parsed > most:
            best, most = style, parsed
        if most == len(sample):
            break
    return best


@cache
def _signs(style: str) -> set[str]:
    """The punctuation that every text of a style has."""
    return set(re.findall(r"[-/.:,]", re.sub("%.", "", style)))


@cache
def _order(style: str) -> str:
    """Day, sign and month, or month, sign and day, where these stand side by side as numbers."""
    found = re.search("%d([-/.])%m|%m([-/.])%d", style)
    return found[0] if found and not style.startswith("%Y") else ""


def _could_be_date(text: str) -> bool:
    return len(text) >= 4 and bool(re.search(r"\d", text))


def _parse(texts: Sequence[str], style: str) -> np.ndarray:
    """Days since 1970 of texts in one format, NaN where it does not fit."""
    if style == "RFC2822":
        moments = pd.to_datetime(pd.Series([_mail_date(t) for t in texts], dtype=object), utc=True)
    else:
        values = pd.Series(list(texts), dtype=object)
        moments = pd.to_datetime(values, format=style, errors="coerce", utc=True)
        if style in CLOCK_STYLES:  # 3:1 is a result of a game
            moments = moments.where(values.str.contains(r":\d\d", regex=True))
    return days_of_moments(moments)


def days_of_moments(moments: pd.Series) -> np.ndarray:
    """Days since 1970 of a column of datetimes in UTC, float64 [N], NaN where missing."""
    naive = moments.dt.tz_localize(None).to_numpy()
    unit = np.timedelta64(1, np.datetime_data(naive.dtype)[0])  # ns before pandas 3
    per_day = np.timedelta64(1, "D") / unit
    days = naive.astype(np.int64) / per_day
    return np.where(np.isnat(naive), np.nan, days)


def _mail_date(text: str) -> pd.Timestamp | None:
    try:
        return pd.Timestamp(parsedate_to_datetime(text))
    except ValueError:
        return None

"""How dates and times of day are written in text, and the days that texts write.

A style is a format of `strptime` for `plain_date`, or several for a column that mixes them, joined
by " or ". `%d.%m.%y from 1937` has short years in the hundred from 1937 on, not in those from 1969.
"""

import datetime
import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import cache
from itertools import product

import numpy as np
import pandas as pd

from ravine.data.date_texts import plain_date, plain_style
from ravine.data.odd_cells import Reading, is_gap, reads_all

DAY_STYLES = (
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d %Y", "%d/%b/%Y"),
    *("%d.%m.%y", "%m/%d/%y", "%d/%m/%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y", "%Y.%m.%d"),
    *("%y-%m-%d", "%y/%m/%d", "%y.%m.%d", "%d %b %y", "%Y-%b-%d", "%Y %b %d"),
)
MONTH_STYLES = ("%b %Y", "%b-%Y", "%m/%Y", "%m.%Y", "%m-%Y", "%b-%y", "%b %y")
MONTH_KINDS = (*MONTH_STYLES, "%Y%m")
CLOCK_STYLES = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p", "%I %p")
DATE_STYLES = (
    *DAY_STYLES,
    *(f"{day} {clock}" for day, clock in product(DAY_STYLES, CLOCK_STYLES)),
    *("ISO8601", "RFC2822", "%b %d %H:%M:%S %Y", "%d/%b/%Y:%H:%M:%S %z"),
    *MONTH_STYLES,
    *CLOCK_STYLES,
)
# orders of day, month and year between which the signs do not decide, and what they are called
DATE_ORDERS = (("dmY", "mdY"), ("dmy", "mdy", "ymd"), ("dby", "ybd"))
ORDER_NAMES = {"d": "day first", "m": "month first", "y": "year first", "Y": "year first"}
# without signs, where a column is called a day: as numbers 031231 is 31231
SHORT_DAYS = ("%y%m%d", "%d%m%y", "%m%d%y")
END_OF_DAY = re.compile(r"(?<=\d[ T])24:00(?=$|:00(?:\.0+)?(?:$|[ Z+-]))")
MAX_STYLES = 4  # in one column
SAMPLED_DATES = 200  # by which a style is chosen
FUTURE_YEARS = 10  # years of two digits are no further in the future
MAX_MONTH_YEARS = 20  # Jan-01 to Jan-31 are days
FIRST_OPEN_YEAR = 2200  # a date from then on, such as 9999-12-31, stands for "no end": a gap
FIRST_YEAR = 1000  # and one before it, such as 0001-01-01, for "no beginning"


def days_of_texts(texts: Sequence[str], style: str) -> np.ndarray:
    """Days since 1970 that texts write, float64 [N], NaN where they write none, or an open end."""
    plain = list(map(plain_date, texts))
    days = np.full(len(texts), np.nan)
    for one in (style or "ISO8601").split(" or "):
        left = np.flatnonzero(np.isnan(days)).tolist()
        days[left] = _parse([plain[i] for i in left], one)
    return days


def without_open_ends(days: np.ndarray) -> np.ndarray:
    """Days since 1970; NaN in place of those that stand for no end, or no beginning.

    >>> without_open_ends(np.array([0.0, 2932896.0]))  # 1970-01-01, 9999-12-31
    array([ 0., nan])
    """
    years = 1970 + days / 365.2425
    return np.where((years < FIRST_YEAR) | (years >= FIRST_OPEN_YEAR), np.nan, days)


def read_as_dates(
    texts: Sequence[str], counts: Sequence[int], order: str = "auto"
) -> Reading | None:
    """How texts write dates, and which of them do not; None where they are no dates.

    Where day, month and year could be exchanged, one order is taken for the whole column: `order`
    ("day first", ...), else that which reads most rows; of short years that of the fewest years.
    """
    kept = [(t, n) for t, n in zip(texts, counts, strict=True) if not is_gap(t)]
    written = [t for t, _ in kept]
    if not _could_be_dates(written):
        return None
    plain, rows = list(map(plain_date, written)), np.array([n for _, n in kept])
    styles: list[str] = []
    days = np.full(len(plain), np.nan)
    while np.isnan(days).any() and len(styles) < MAX_STYLES:
        left = np.flatnonzero(np.isnan(days))
        found = _best_style([plain[i] for i in left], rows[left], styles, order)
        if found is None:
            break
        days[left] = _parse([plain[i] for i in left], found)
        styles.append(found)
    odd = [kept[i] for i in np.flatnonzero(np.isnan(days))]
    if not styles or (set(styles) <= set(CLOCK_STYLES) and any(":" in text for text, _ in odd)):
        return None  # 25:10 beside 23:50 is a duration
    return Reading.of(" or ".join(styles), odd, kept)


def describe_date_doubt(texts: Sequence[str], style: str, name: str) -> list[str]:
    """At most one note: day and month could be exchanged, or years have two digits."""
    for one in style.split(" or "):
        days = days_of_texts(texts, one)
        read = [t for t, day in zip(texts, days, strict=True) if not np.isnan(day)]
        others = [_order_name(order) for order in _other_orders(read, one)]
        do = f' If that is wrong, set data.date_order = "{others[0]}".' if others else ""
        if "%y" in one and read:
            last = int(np.nanargmax(days))
            taken = f"{texts[last]} is taken as {np.datetime64(int(days[last] // 1), 'D')}"
            if not do and re.search(r"(?<!\d)\d(?!\d)", texts[last]):  # 1.4.12 may be a version
                do = f" If these are no dates, set data.categories = [{name!r}]."
            elif one.partition(" from ")[0] in SHORT_DAYS:
                do = f"{do} If these are no dates, set data.numbers = [{name!r}]."
            return [f"{name} has years of two digits: {taken}.{do}"]
        if others:
            day = datetime.date(1970, 1, 1) + datetime.timedelta(days_of_texts(read[:1], one)[0])
            return [
                f"{name} could have day and month the other way round: {read[0]} is taken as "
                f"{day.day} {day:%B}.{do}"
            ]
    return []


def dates_of_two_orders(texts: Sequence[str]) -> tuple[str, str] | None:
    """Two dates, each in one order of day and month alone, where most texts are in one of the two.

    >>> dates_of_two_orders(["13/02/2024", "01/02/2024", "02/13/2024"])
    ('13/02/2024', '02/13/2024')
    """
    kept = [text for text in texts if not is_gap(text)]
    if not _could_be_dates(kept):
        return None
    plain = list(map(plain_date, kept))
    style = _best_style(plain, np.ones(len(plain)), [], "auto")
    if style is None:
        return None
    for other in _orders(style)[1:]:
        first, second = (~np.isnan(_parse(plain, one)) for one in (style, other))
        if (first & ~second).any() and (second & ~first).any() and (first | second).mean() >= 0.8:
            one, two = sorted(int(which.argmax()) for which in (first & ~second, second & ~first))
            return kept[one], kept[two]
    return None


def style_of_new_dates(texts: Sequence[str], counts: Sequence[int], style: str) -> str | None:
    """How texts write dates in another style than their column's; None for no or doubtful dates.

    Signs and order of the column's own style say which of day and month comes first.

    >>> style_of_new_dates(["27.12.2015"], [1], "%Y-%m-%d")
    '%d.%m.%Y'
    >>> style_of_new_dates(["02/03/2015"], [1], "%Y-%m-%d")
    """
    style = style or "ISO8601"
    for order in ("auto", _order_name(style)):
        found = read_as_dates(texts, counts, order)
        if not reads_all(found) or not _is_of_kind(found.style, style, texts):
            return None
        doubtful = [one for one in found.style.split(" or ") if _other_orders(texts, one)]
        if order != "auto":
            doubtful = [one for one in doubtful if _order_with_signs(one) not in style.lower()]
        if not doubtful:
            return found.style
    return None


def _is_of_kind(style: str, own: str, texts: Sequence[str]) -> bool:
    """Whether two styles both write times of day, both months, or both days."""
    if "ISO8601" in style and not all(re.match(r"\d{4}-?\d\d-?\d\d", text) for text in texts):
        return False  # 2015 is no day
    first, second = ({_kind(one) for one in s.split(" or ")} for s in (style, own))
    return first <= second


def _kind(style: str) -> str:
    plain = style.partition(" from ")[0]
    return "time" if plain in CLOCK_STYLES else "month" if plain in MONTH_KINDS else "day"


def _order_with_signs(style: str) -> str:
    """Day, month and year of a style, whether its year is short or not: %d.%m.%y."""
    return _day_part(style.partition(" from ")[0]).lower()


def _best_style(
    plain: Sequence[str], rows: np.ndarray, styles: list[str], order: str
) -> str | None:
    """The style that reads most of a sample, none that contradicts `styles`; its order from all."""
    sample = plain[:SAMPLED_DATES]
    taken = {_day_part(style) for style in styles}
    best, most = None, 0
    for style in DATE_STYLES:
        contradicts = taken & set(_orders(_day_part(style))[1:])
        if style in styles or contradicts or not any(_signs(style) <= set(t) for t in sample):
            continue
        parsed = int((~np.isnan(_parse(sample, style))).sum())
        if parsed > most:
            best, most = style, parsed
        if most == len(sample):
            break
    if best is None:
        return None

    def quality(style: str) -> tuple[float, ...]:
        days = _parse(plain, style)
        read = ~np.isnan(days)
        count = int(rows[read].sum())
        span = int(np.ptp(_years(days[read]))) if "%y" in style and count else 0
        return bool(count) and _order_name(style) == order, count, -span

    orders = _orders(best)
    best = max(orders, key=quality) if len(orders) > 1 else best
    if best not in MONTH_STYLES or "%y" not in best:
        return _with_century(best, plain)
    years = {int(text[-2:]) for text in plain if not np.isnan(_parse([text], best)[0])}
    are_days = max(years) <= 31 and max(years) - min(years) > MAX_MONTH_YEARS
    return None if are_days else _with_century(best, plain)


def _with_century(style: str, plain: Sequence[str]) -> str:
    """The style, its years of two digits in the hundred years that keep these closest together.

    They end at most `FUTURE_YEARS` from now: born 40 to 05 is from 1940 to 2005.
    """
    days = _parse(plain, style) if "%y" in style else np.array([np.nan])
    if np.isnan(days).all():
        return style
    years = _years(days[~np.isnan(days)])
    short = np.unique(years % 100)
    gap = int(np.diff([*short, short[0] + 100]).argmax())
    latest = datetime.date.today().year + FUTURE_YEARS
    last = latest - (latest - int(short[gap])) % 100
    first = last - int(short[gap] - short[(gap + 1) % len(short)]) % 100
    first = min(max(latest - 99, last - 99), first)
    moved = first + (years - first) % 100
    return style if (moved == years).all() else f"{style} from {first}"


def _orders(style: str) -> list[str]:
    """A style, and those that have day, month and short year in another order."""
    found = re.search(r"%(\w)(\W?)%(\w)\2%(\w)", style)
    if found is None:
        return [style]
    letters = found[1] + found[3] + found[4]
    family = next((f for f in DATE_ORDERS if letters in f), ())
    days = [found[2].join(f"%{letter}" for letter in o) for o in family if o != letters]
    known = (*DAY_STYLES, *SHORT_DAYS)
    return [style, *(style.replace(found[0], day) for day in days if day in known)]


def _other_orders(texts: Sequence[str], style: str) -> list[str]:
    """The styles with day, month and year in another order that read texts of a style, too."""
    others = _orders(style)[1:]
    days = days_of_texts(texts, style) if others else np.array([])
    read = [text for text, day in zip(texts, days, strict=bool(others)) if not np.isnan(day)]
    return [other for other in others if _is_as_good(read, style, other)]


def _order_name(style: str) -> str:
    return ORDER_NAMES.get(style[1], "")


@cache
def _day_part(style: str) -> str:
    return next((day for day in DAY_STYLES if style.startswith(day)), style)


def _is_as_good(texts: Sequence[str], style: str, other: str) -> bool:
    """Whether another order reads all texts; short years within twice the time, too."""
    days, others = days_of_texts(texts, style), days_of_texts(texts, other)
    if not len(days) or np.isnan(others).any():
        return False
    return "%y" not in style or bool(np.ptp(_years(others)) <= 2 * np.ptp(_years(days)))


def _years(days: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[D]").astype("datetime64[Y]").astype(int) + 1970


@cache
def _signs(style: str) -> set[str]:
    """The punctuation that every text of a style has."""
    return set(re.findall(r"[-/.:]", re.sub("%.", "", style)))


def _could_be_dates(texts: Sequence[str]) -> bool:
    """Whether at least half of the first texts are of four characters or more, one a digit."""
    sample = texts[:SAMPLED_DATES]
    fit = sum(len(text) >= 4 and re.search(r"\d", text) is not None for text in sample)
    return bool(sample) and 2 * fit >= len(sample)


def _parse(plain: Sequence[str], style: str) -> np.ndarray:
    """Days since 1970 of texts in one format, NaN where it does not fit."""
    ends = np.array(["24:00" in t and END_OF_DAY.search(t) is not None for t in plain], bool)
    if ends.any():
        return _parse([END_OF_DAY.sub("00:00", text) for text in plain], style) + ends
    style, _, first = plain_style(style).partition(" from ")
    if style == "RFC2822":
        moments = pd.to_datetime(pd.Series([_mail_date(t) for t in plain], dtype=object), utc=True)
    else:
        if style == "%m.%Y":  # 03.2020 may be stored as 3.202
            plain = [f"{t:0<7}" if re.match(r"\d\d\.", t) else f"{t:0<6}" for t in plain]
        elif style in SHORT_DAYS:
            plain = [t.zfill(6) for t in plain]
        values = pd.Series(list(plain), dtype=object)
        moments = pd.to_datetime(values, format=style, errors="coerce", utc=True)
        if style in CLOCK_STYLES:  # 3:1 is a result of a game
            moments = moments.where(values.str.contains(r":\d\d|M", regex=True))
    days = days_of_moments(moments)
    return _in_century(days, int(first)) if first else days


def _in_century(days: np.ndarray, first: int) -> np.ndarray:
    """Days since 1970, moved by whole centuries into the hundred years from `first` on."""
    known = ~np.isnan(days)
    months = days[known].astype("datetime64[D]").astype("datetime64[M]")
    years = _years(days[known])
    moved = months + 12 * (first + (years - first) % 100 - years)
    shift = moved.astype("datetime64[D]") - months.astype("datetime64[D]")
    result = days.copy()
    result[known] += shift.astype(int)
    return result


def days_of_moments(moments: pd.Series) -> np.ndarray:
    """Days since 1970 of a column of datetimes in UTC, float64 [N], NaN where missing."""
    naive = moments.dt.tz_localize(None).to_numpy()
    unit = np.timedelta64(1, np.datetime_data(naive.dtype)[0])  # ns before pandas 3
    per_day = np.timedelta64(1, "D") / unit
    return np.where(np.isnat(naive), np.nan, naive.astype(np.int64) / per_day)


def _mail_date(text: str) -> pd.Timestamp | None:
    try:
        return pd.Timestamp(parsedate_to_datetime(text))
    except ValueError:
        return None

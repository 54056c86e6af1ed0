"""How numbers are written in text, and the numbers that texts write.

A style is the number 1234.5 as a column writes it, with its unit: `1,234.5`, `1 234,5 kg`. What
counts for any style: a currency before or after, %, (5) and 5- for -5, and 5k, 5M, 5B.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from ravine.data.odd_cells import MAX_SAME_ODD_SHARE, Reading, is_gap

NUMBER_STYLES = ("1,234.5", "1.234,5", "1 234.5", "1 234,5", "1'234.5", "1'234,5", "1_234.5")
GROUP_SIGNS = {"'": "'’", " ": " \u00a0\u2009\u202f"}  # of which a style shows one
MINUS_SIGNS = "-\u2212\u2013"
CURRENCY_PATTERN = (
    r"(?:[A-Z]{0,3}[$€£¥₹₽₩₺₫₪]|USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|SEK|NOK|DKK|Rs\.?)"
)
UNIT_PATTERN = r"(?:[^\W\d_]|°)[^\s\d|;:,()]{0,11}[\d²³]?(?: [a-z]{2,10})?"
MULTIPLES_UNIT = "k, M, B"  # what stands for a unit in the style of a column such as 900, 1.5k, 2M
UNIT_MULTIPLIERS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "Mio": 1e6, "B": 1e9, "bn": 1e9}
HOURS_STYLE = "1:23:45"  # hours, minutes and seconds of a duration
PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
SAMPLED_NUMBERS = 1000  # by which a style is chosen


def number_of(text: str, style: str = "1,234.5") -> float:
    """The number that a text writes in a style, NaN if it writes none.

    A group of thousands never begins with a zero: 0,345 is no number of `1,234.5`.

    >>> number_of("-$1,234.5"), number_of("12 %"), number_of("(7)")
    (-1234.5, 12.0, -7.0)
    >>> number_of("1.234,5", "1.234,5"), number_of("1 234,5 kg", "1 234,5 kg")
    (1234.5, 1234.5)
    """
    if style == HOURS_STYLE:
        return _hours_of(text)
    value, unit = _read(text, style[:7])
    if style[8:] == MULTIPLES_UNIT:
        return value * UNIT_MULTIPLIERS[unit] if unit in UNIT_MULTIPLIERS else np.nan
    return value if unit in ("", style[8:]) else np.nan


def parse_numbers(texts: Sequence[str], style: str) -> np.ndarray:
    """The numbers that texts write in a style, float64 [N], NaN where they write none."""
    style = style or "1,234.5"
    if style[5] != ".":
        return np.array([number_of(t, style) for t in texts], np.float64)
    is_plain = PLAIN_NUMBER.fullmatch  # most are: the shortest way to them
    return np.array([float(t) if is_plain(t) else number_of(t, style) for t in texts], np.float64)


def read_as_numbers(
    texts: Sequence[str], counts: Sequence[int], decimal: str = "auto"
) -> Reading | None:
    """How texts write numbers, and which of them do not; None where they are no numbers.

    `counts` says in how many rows each text stands, `decimal` is the decimal sign where both could
    be meant: by default a point.
    """
    kept = [(t, n) for t, n in zip(texts, counts, strict=True) if not is_gap(t)]
    if not kept:
        return None
    styles = sorted(NUMBER_STYLES, key=lambda style: style[5] != decimal)  # stable: ties stay
    sample = kept[:: 1 + len(kept) // SAMPLED_NUMBERS]
    in_sample = {style: len(_with_unit(sample, style)[1]) for style in styles}
    ranked = sorted(styles, key=in_sample.__getitem__)
    if in_sample[ranked[0]] > MAX_SAME_ODD_SHARE * len(sample):
        return None
    best, odd = _with_unit(kept, ranked[0])
    for style in ranked[1:]:
        if odd and len(_with_unit(odd[:SAMPLED_NUMBERS], style)[1]) < len(odd[:SAMPLED_NUMBERS]):
            best, odd = min((best, odd), _with_unit(kept, style), key=lambda found: len(found[1]))
    return Reading.of(best, odd, kept)


def describe_doubt(texts: Sequence[str], style: str, name: str) -> list[str]:
    """A note where all numbers of a column have one group sign before their last three digits, so
    that it could be the decimal sign as well; none elsewhere.
    """
    group = re.escape(style[1])
    pattern = re.compile(rf"\D*[1-9]\d{{0,2}}{group}\d{{3}}\D*")
    numbers = (t for t in texts if not np.isnan(number_of(t, style)))
    if group not in (",", r"\.") or not all(map(pattern.fullmatch, numbers)):
        return []
    first = next(t for t in texts if not np.isnan(number_of(t, style)))
    taken = f"{first} is taken as {number_of(first, style):g}"
    return [
        f"{name} could have decimal {'commas' if group == ',' else 'points'}: {taken}. If that is "
        f'wrong, set data.decimal = "{style[1]}".'
    ]


def read_as_hours(texts: Sequence[str], counts: Sequence[int]) -> Reading | None:
    """Durations such as 30:15:00 as hours; None where texts are something else."""
    kept = [(t, n) for t, n in zip(texts, counts, strict=True) if not is_gap(t)]
    odd = [(t, n) for t, n in kept if np.isnan(_hours_of(t))]
    return Reading.of(HOURS_STYLE, odd, kept)


def _hours_of(text: str) -> float:
    found = re.fullmatch(r"(-?)(\d+):([0-5]\d)(?::([0-5]\d(?:\.\d*)?))?", text)
    if found is None:
        return np.nan
    sign, hours, minutes, seconds = found.groups(default="0")
    value = int(hours) + int(minutes) / 60 + float(seconds) / 3600
    return -value if sign == "-" else value


def _with_unit(kept: Sequence[tuple[str, int]], style: str) -> tuple[str, list[tuple[str, int]]]:
    """The style with the unit that most rows have, and the texts that do not fit it."""
    is_plain = PLAIN_NUMBER.fullmatch if style[5] == "." else lambda _: None
    found = [(float(t), "") if is_plain(t) else _read(t, style) for t, _ in kept]
    units = Counter[str]()
    for (_, unit), (_, count) in zip(found, kept, strict=True):
        units[unit] += count
    if len(units) > 1 and units.keys() <= UNIT_MULTIPLIERS.keys() and _are_multiples(kept):
        odd = [item for item, (value, _) in zip(kept, found, strict=True) if np.isnan(value)]
        return f"{style} {MULTIPLES_UNIT}", odd
    del units[""]
    usual = units.most_common(1)[0][0] if units else ""
    odd = [
        item
        for item, (value, unit) in zip(kept, found, strict=True)
        if np.isnan(value) or unit not in ("", usual)
    ]
    return f"{style} {usual}".rstrip(), odd


def _are_multiples(kept: Sequence[tuple[str, int]]) -> bool:
    """Whether k, M or B stands behind a decimal number, as in 1.5k: behind whole ones, as in 12B,
    it may be the letter of a seat.
    """
    return any(re.search(r"\d[.,]\d+ ?(?:k|K|M|Mio|B|bn)$", text) for text, _ in kept)


def _read(text: str, style: str) -> tuple[float, str]:
    """A number and its unit; NaN where the text is something else."""
    if style[5] == "." and PLAIN_NUMBER.fullmatch(text):
        return float(text), ""
    found = _pattern(style).fullmatch(text)
    if found is None:
        is_infinite = text.lower().lstrip("+-") in ("inf", "infinity")
        return (float(text) if is_infinite else np.nan), ""
    bracket, sign, inner, whole, part, power, after, unit, close = found.groups(default="")
    digits = re.sub(r"\D", "", whole)
    marks = sum(map(bool, (sign, inner, after, bracket)))
    grouped = len(digits) < len(whole)
    if (not digits and not part[1:]) or marks > 1 or (grouped and power):
        return np.nan, ""
    if bool(bracket) != bool(close):
        return np.nan, ""
    value = float(f"{digits or '0'}.{part[1:] or '0'}{power}")
    negative = bracket or after or (sign or inner) in tuple(MINUS_SIGNS)
    return -value if negative else value, unit


@cache
def _pattern(style: str) -> re.Pattern:
    group, decimal = GROUP_SIGNS.get(style[1], style[1]), re.escape(style[5])
    grouped = rf"[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+"
    lakhs = r"[1-9]\d?(?:,\d{2})+,\d{3}|" if style[1] == "," else ""
    sign = f"[+{re.escape(MINUS_SIGNS)}]"
    return re.compile(
        rf"(\()?\s*({sign})?\s*(?:{CURRENCY_PATTERN}\s*)?({sign})?\s*"
        rf"({grouped}|{lakhs}\d*)({decimal}\d*)?([eE][-+]?\d+)?([{re.escape(MINUS_SIGNS)}])?"
        rf"\s*(?:%|‰|{CURRENCY_PATTERN}|({UNIT_PATTERN}))?\s*(\))?"
    )

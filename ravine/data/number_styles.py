"""How numbers are written in text, and the numbers that texts write.

A style is the number 1234.5 as a column writes it, with its unit: `1,234.5`, `1 234,5 kg`. What
counts for any style: a currency before or after, %, (5) and 5- for -5, other units of the same
quantity. Durations, quarters and the like have styles of their own (`notations.py`).
"""

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from ravine.data.notations import NOTATION_READERS, read_as_notation, read_notation
from ravine.data.odd_cells import MAX_SAME_ODD_SHARE, Reading, fewest_odd, is_gap, reads_all
from ravine.data.units import (
    CURRENCY_PATTERN,
    FRACTION_MULTIPLIERS,
    FRACTIONS_UNIT,
    MULTIPLES_UNIT,
    UNIT_MULTIPLIERS,
    canonical_unit,
    choose_unit,
    conversion,
    describe_units,
)

NUMBER_STYLES = ("1,234.5", "1.234,5", "1 234.5", "1 234,5", "1'234.5", "1'234,5", "1_234.5")
GROUP_SIGNS = {"'": "'’", " ": " \u00a0\u2009\u202f"}  # of which a style shows one
MINUS_SIGNS = "-\u2212\u2013"
UNIT_PATTERN = r"(?:[^\W\d_]|°)[^\s\d|;:,()]{0,11}[\d²³]?(?: [a-z]{2,10})?"
PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
SAMPLED_NUMBERS = 1000  # by which a style is chosen
MULTIPLE_SCALES = {MULTIPLES_UNIT: UNIT_MULTIPLIERS, FRACTIONS_UNIT: FRACTION_MULTIPLIERS}


def number_of(text: str, style: str = "1,234.5") -> float:
    """The number that a text writes in a style, NaN if it writes none.

    A group of thousands never begins with a zero: 0,345 is no number of `1,234.5`.

    >>> number_of("-$1,234.5"), number_of("12 %"), number_of("(7)")
    (-1234.5, 12.0, -7.0)
    >>> number_of("1.234,5", "1.234,5"), number_of("250 g", "1 234,5 kg")
    (1234.5, 0.25)
    """
    return float(parse_numbers([text], style)[0])


def parse_numbers(texts: Sequence[str], style: str) -> np.ndarray:
    """The numbers that texts write in a style, float64 [N], NaN where they write none."""
    if style in NOTATION_READERS:
        return np.array([read_notation(text, style) for text in texts], np.float64)
    style = style or NUMBER_STYLES[0]
    values, units = _read_all(texts, style[:7])
    for place, unit in units.items():
        values[place] = _scale(float(values[place]), unit, style[8:])
    return values


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
    best, odd, doubts = _with_unit(kept, ranked[0])
    for style in ranked[1:]:
        if odd and len(_with_unit(odd[:SAMPLED_NUMBERS], style)[1]) < len(odd[:SAMPLED_NUMBERS]):
            other = _with_unit(kept, style)
            best, odd, doubts = min((best, odd, doubts), other, key=lambda found: len(found[1]))
    if decimal == "auto":
        doubts = [*_doubt_sign([t for t, _ in kept], best), *doubts]
    return Reading.of(best, odd, kept, doubts)


def read_written_numbers(
    texts: Sequence[str], counts: Sequence[int], decimal: str = "auto"
) -> Reading | None:
    """How texts write numbers in any way: in a style, or in a notation where fewer are odd then."""
    numbers = read_as_numbers(texts, counts, decimal)
    if reads_all(numbers):
        return numbers
    return fewest_odd(numbers, read_as_notation(texts, counts))


def decimal_sign(text: str) -> str:
    """The decimal sign of a number that can be read with one alone; nothing where none is certain.

    >>> decimal_sign("0,345"), decimal_sign("1,234,567"), decimal_sign("1,234")
    (',', '.', '')
    """
    signs = {style[5] for style in NUMBER_STYLES if not np.isnan(number_of(text, style))}
    return signs.pop() if len(signs) == 1 else ""


def _doubt_sign(texts: Sequence[str], style: str) -> list[str]:
    """What to say where all numbers of a column have one group sign before their last three digits,
    so that it could be the decimal sign as well; nothing elsewhere.
    """
    group = re.escape(style[1])
    pattern = re.compile(rf"\D*[1-9]\d{{0,2}}{group}\d{{3}}\D*")
    numbers = (t for t in texts if not np.isnan(number_of(t, style)))
    if group not in (",", r"\.") or not all(map(pattern.fullmatch, numbers)):
        return []
    first = next(t for t in texts if not np.isnan(number_of(t, style)))
    taken = f"{first} is taken as {number_of(first, style):g}"
    return [
        f"could have decimal {'commas' if group == ',' else 'points'}: {taken}. If that is "
        f'wrong, set data.decimal = "{style[1]}".'
    ]


def _with_unit(
    kept: Sequence[tuple[str, int]], style: str
) -> tuple[str, list[tuple[str, int]], list[str]]:
    """The style with the unit of a column, the texts that do not fit it, and what is in doubt."""
    values, found = _read_all([t for t, _ in kept], style)
    are_numbers = ~np.isnan(values)
    if not found:
        odd = [kept[i] for i in np.flatnonzero(~are_numbers).tolist()]
        return style, odd, []
    rows = np.flatnonzero(are_numbers).tolist()
    read = [(found.get(i, ""), float(values[i]), kept[i][1]) for i in rows]
    units = {name for name, _, _ in read}
    if len(units) > 1 and units <= UNIT_MULTIPLIERS.keys() and _are_multiples(kept):
        unit = MULTIPLES_UNIT
    else:
        unit = choose_unit(read)
    fits = {name: _fits(name, unit) for name in units}
    odd = [kept[i] for i in range(len(kept)) if not (are_numbers[i] and fits[found.get(i, "")])]
    examples = {name: kept[i][0] for i, (name, x, _) in zip(rows, read, strict=True) if x or name}
    usual = {name: text for name, text in examples.items() if fits[name]}
    whole = bool((values[are_numbers] % 1 == 0).all())
    return f"{style} {unit}".rstrip(), odd, describe_units(usual, unit, all_whole=whole)


def _are_multiples(kept: Sequence[tuple[str, int]]) -> bool:
    """Whether k, M or B stands behind a decimal number, as in 1.5k: behind whole ones, as in 12B,
    it may be the letter of a seat.
    """
    return any(re.search(r"\d[.,]\d+ ?(?:k|K|M|Mio|B|bn)$", text) for text, _ in kept)


def _fits(unit: str, own: str) -> bool:
    return not np.isnan(_scale(1.0, unit, own))


def _scale(value: float, unit: str, own: str) -> float:
    """A number in a column's own unit, NaN where it cannot be."""
    if own in MULTIPLE_SCALES:
        return value * MULTIPLE_SCALES[own].get(unit, np.nan)
    factor, summand = conversion(unit, canonical_unit(own)) or (np.nan, 0.0)
    return value * factor + summand


def _read_all(texts: Sequence[str], style: str) -> tuple[np.ndarray, dict[int, str]]:
    """The numbers of texts, float64 [N], NaN where there is none; and the units of those that have
    one, by place.
    """
    # most are written so: the shortest ways to them
    is_plain = PLAIN_NUMBER.fullmatch if style[5] == "." else re.compile(r"-?\d+").fullmatch
    is_grouped, group, decimal = _grouped_pattern(style).fullmatch, style[1], style[5]
    values: list[float] = []
    units: dict[int, str] = {}
    for place, text in enumerate(texts):
        if is_plain(text):
            values.append(float(text))
        elif is_grouped(text):
            values.append(float(text.replace(group, "").replace(decimal, ".")))
        else:
            value, unit = _read(text, style)
            values.append(value)
            if unit:
                units[place] = canonical_unit(unit)
    return np.array(values, np.float64), units


def _read(text: str, style: str) -> tuple[float, str]:
    """A number and its unit or mark; NaN where the text is something else."""
    found = _pattern(style).fullmatch(text)
    if found is None:
        is_infinite = text.lower().lstrip("+-") in ("inf", "infinity")
        return (float(text) if is_infinite else np.nan), ""
    bracket, sign, before, inner, whole, part, power, after, mark, unit, close = found.groups("")
    digits = "".join(filter(str.isdecimal, whole))
    signs = sum(map(bool, (sign, inner, after, bracket)))
    grouped = len(digits) < len(whole)
    in_place_of_cents = bool(after) and len(part) == 1  # 7.- and 7,-- are prices
    if (not digits and not part[1:]) or signs - in_place_of_cents > 1 or (grouped and power):
        return np.nan, ""
    if bool(bracket) != bool(close) or (len(after) > 1 and not in_place_of_cents):
        return np.nan, ""
    value = float(f"{digits or '0'}.{part[1:] or '0'}{power}")
    negative = bracket or (after and not in_place_of_cents) or (sign or inner) in tuple(MINUS_SIGNS)
    return -value if negative else value, unit or mark or before


@cache
def _grouped_pattern(style: str) -> re.Pattern:
    group, decimal = map(re.escape, (style[1], style[5]))
    return re.compile(
        rf"-?(?:[1-9]\d{{0,2}}(?:{group}\d{{3}})+(?:{decimal}\d*)?|\d+{decimal}\d+)", re.ASCII
    )


@cache
def _pattern(style: str) -> re.Pattern:
    group, decimal = GROUP_SIGNS.get(style[1], style[1]), re.escape(style[5])
    grouped = rf"[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+"
    lakhs = r"[1-9]\d?(?:,\d{2})+,\d{3}|" if style[1] == "," else ""
    sign = f"[+{re.escape(MINUS_SIGNS)}]"
    return re.compile(
        rf"(\()?\s*({sign})?\s*(?:({CURRENCY_PATTERN})\s*)?({sign})?\s*"
        rf"({grouped}|{lakhs}\d*)({decimal}\d*)?([eE][-+]?\d+)?([{re.escape(MINUS_SIGNS)}]{{0,2}})"
        rf"\s*(?:([%‰]|{CURRENCY_PATTERN})|({UNIT_PATTERN}))?\s*(\))?"
    )

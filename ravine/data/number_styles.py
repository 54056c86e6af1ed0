"""How numbers are written in text, and the numbers that texts write.

A style is the number 1234.5 as a column writes it, with its unit: `1,234.5`, `1 234,5 kg`. What
counts for any style: a currency before or after, %, (5) and 5- for -5, 5,- for 5 without cents,
other units of the same quantity. Durations and the like have their own (`notations.py`).
"""

import re
import unicodedata
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
    is_unknown_letter,
)

NUMBER_STYLES = ("1,234.5", "1.234,5", "1 234.5", "1 234,5", "1'234.5", "1'234,5", "1_234.5")
EITHER_SIGN = "1 234?5"  # some numbers with a decimal point, others with a comma
# of which a style shows one
DECIMAL_SIGNS = {"?": ".,", ".": ".·"}
GROUP_SIGNS = {"'": "'’′ʼ´`", " ": " \u00a0\u2007\u2009\u202f"}
MINUS_SIGNS = "-\u2212\u2013"
DASH_SIGNS = f"{MINUS_SIGNS}\u2014"  # in place of cents
POWER_PATTERN = r"[eE][-+]?\d+|\s?[x×*·]\s?10(?:\^[-+−]?\d+|[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
# about, and that a spreadsheet is to keep the text
PREFIX_PATTERN = r"(?:[~≈]\s*|(?:ca|approx)\.?\s*|c\.\s*|'(?!\d\d$))?"
FOOTNOTE_PATTERN = r"(?:\*{1,3}|[†‡§]{1,2}|\[(?:\d{1,2}|[a-z])\])?"
UNIT_PATTERN = r"(?:[^\W\d_]|°)[^\s\d|;:,()]{0,11}[\d²³]?(?: [a-z]{2,10})?"
PLAIN_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII)
MAX_SLIPS_SHARE = 0.05  # of the rows, where letters behind whole numbers are no names: 12, 12b
MAYBE_THOUSANDS = re.compile(r"\D*[1-9]\d{0,2}[.,]\d{3}\D*", re.ASCII)
MIN_THREE_DECIMALS_SHARE = 0.7  # one in ten of them ends in a zero that is not written
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

    `counts` are each text's rows; `decimal` is the sign where both could be meant, else a point.
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
    if _has_either_sign([t for t, _ in kept], best):
        other = _with_unit(kept, EITHER_SIGN)
        if len(other[1]) <= len(odd):
            best, odd, doubts = other
            doubts = [_describe_two_signs(kept, best), *doubts]
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
    """A doubt, if all numbers have one group sign, before three digits: it could be decimal."""
    group = re.escape(style[1])
    decimal = re.escape(style[5])  # behind which cents may be a dash
    pattern = re.compile(rf"\D*[1-9]\d{{0,2}}{group}\d{{3}}[^\d{decimal}]*")
    numbers = (t for t in texts if not np.isnan(number_of(t, style)))
    if group not in (",", r"\.") or not all(map(pattern.fullmatch, numbers)):
        return []
    first = next(t for t in texts if not np.isnan(number_of(t, style)))
    taken = f"{first} is taken as {number_of(first, style):g}"
    return [
        f"could have decimal {'commas' if group == ',' else 'points'}: {taken}. If that is "
        f'wrong, set data.decimal = "{style[1]}".'
    ]


def _has_either_sign(texts: Sequence[str], style: str) -> bool:
    """Whether some numbers have a decimal point and others a comma. Nothing may speak for groups of
    thousands: none are certain, what could be some is in the range of the others; and where all
    could be, the others have three decimals, too.
    """
    points, commas = (sum(sign in t for t in texts) for sign in ".,")
    if not points or not commas or any("." in t and "," in t for t in texts):
        return False
    own, either = _read_all(texts, style[:7])[0], np.abs(_read_all(texts, EITHER_SIGN)[0])
    if (np.isnan(either) & ~np.isnan(own)).any():
        return False
    maybe = np.array([MAYBE_THOUSANDS.fullmatch(t) is not None for t in texts])
    grouped = ~np.isnan(own) & ~np.isnan(either) & (np.abs(own) != either)
    if (np.isnan(own) & ~np.isnan(either)).any():
        others = either[~maybe & (either > 0)]
        doubtful = either[maybe]
    else:
        signed = np.array([style[5] in t for t in texts])
        others, doubtful = either[signed & (either > 0)], either[grouped]
        if not grouped.any() or maybe[signed].mean() < MIN_THREE_DECIMALS_SHARE:
            return False
    return len(others) > 0 and bool(
        ((others.min() / 2 <= doubtful) & (doubtful <= 2 * others.max())).all()
    )


def _describe_two_signs(kept: Sequence[tuple[str, int]], style: str) -> str:
    comma, point = (
        next(t for t, _ in kept if sign in t and not np.isnan(number_of(t, style))) for sign in ",."
    )
    taken = f"{comma} is taken as {number_of(comma, style):g}"
    return (
        f"has two decimal signs, as in {comma} and {point}: {taken}. If that is wrong, write all "
        "of them in one way."
    )


def _with_unit(
    kept: Sequence[tuple[str, int]], style: str
) -> tuple[str, list[tuple[str, int]], list[str]]:
    """The style with the unit of a column, the texts that do not fit it, and what is in doubt."""
    values, found = _read_all([t for t, _ in kept], style)
    are_numbers = ~np.isnan(values)
    if not found:
        return style, [kept[i] for i in np.flatnonzero(~are_numbers).tolist()], []
    rows = np.flatnonzero(are_numbers).tolist()
    read = [(found.get(i, ""), float(values[i]), kept[i][1]) for i in rows]
    units = {name for name, _, _ in read}
    whole = bool((values[are_numbers] % 1 == 0).all())
    letters = set(filter(is_unknown_letter, units)) if whole and len(units) > 1 else set()
    if letters:
        named = sum(count for name, _, count in read if name in letters)
        if named > MAX_SLIPS_SHARE * sum(count for _, _, count in read):
            return style, list(kept), []
        read = [item for item in read if item[0] not in letters]
    if len(units) > 1 and units <= UNIT_MULTIPLIERS.keys() and _are_multiples(kept):
        unit = MULTIPLES_UNIT
    else:
        unit = choose_unit(read)
    fits = {name: name not in letters and not np.isnan(_scale(1.0, name, unit)) for name in units}
    odd = [kept[i] for i in range(len(kept)) if not (are_numbers[i] and fits[found.get(i, "")])]
    examples = {found.get(i, ""): kept[i][0] for i in rows if values[i] or i in found}
    usual = {name: text for name, text in examples.items() if fits[name]}
    return f"{style} {unit}".rstrip(), odd, describe_units(usual, unit, all_whole=whole)


def _are_multiples(kept: Sequence[tuple[str, int]]) -> bool:
    """Whether k, M or B follows decimals, as in 1.5k: after whole numbers, 12B may be a seat."""
    return any(re.search(r"\d[.,]\d+ ?(?:k|K|M|Mio|B|bn)$", text) for text, _ in kept)


def _scale(value: float, unit: str, own: str) -> float:
    """A number in a column's own unit, NaN where it cannot be."""
    if own in MULTIPLE_SCALES:
        return value * MULTIPLE_SCALES[own].get(unit, np.nan)
    factor, summand = conversion(unit, canonical_unit(own)) or (np.nan, 0.0)
    return value * factor + summand


def _read_all(texts: Sequence[str], style: str) -> tuple[np.ndarray, dict[int, str]]:
    """The numbers of texts, float64 [N], NaN where there is none; and by place their units."""
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
    cents = part[1:].strip(DASH_SIGNS)  # 12,- has none
    if (not digits and not cents) or signs > 1 or (grouped and power):
        return np.nan, ""
    if bool(bracket or inner == "(") != bool(close):
        return np.nan, ""
    value = float(f"{digits or '0'}.{cents or '0'}{_exponent(power)}")
    negative = bracket or after or (sign or inner) in ("(", *MINUS_SIGNS)
    return -value if negative else value, unit or mark or before


def _exponent(power: str) -> str:
    """A power of ten as e3: of E3, ×10³, x10^3."""
    if not power:
        return ""
    digits = unicodedata.normalize("NFKC", power).replace("\u2212", "-")
    return "e" + re.split(r"10\^?|[eE]", digits, maxsplit=1)[1]


@cache
def _grouped_pattern(style: str) -> re.Pattern:
    group, decimal = map(re.escape, (style[1], style[5]))
    return re.compile(
        rf"-?(?:[1-9]\d{{0,2}}(?:{group}\d{{3}})+(?:{decimal}\d*)?|\d+{decimal}\d+)", re.ASCII
    )


@cache
def _pattern(style: str) -> re.Pattern:
    group, decimal = GROUP_SIGNS.get(style[1], style[1]), DECIMAL_SIGNS.get(style[5], style[5])
    grouped = rf"[1-9]\d{{0,2}}(?:[{group}]\d{{3}})+"
    lakhs = r"[1-9]\d?(?:,\d{2})+,\d{3}|" if style[1] == "," else ""
    minus = f"[{MINUS_SIGNS}]"
    sign = f"\\+|{minus}"
    return re.compile(
        rf"{PREFIX_PATTERN}(\()?\s*({sign})?\s*(?:({CURRENCY_PATTERN})\s*)?(\(|{sign})?\s*"
        rf"({grouped}|{lakhs}\d*)([{decimal}](?:[{DASH_SIGNS}]{{1,2}}|\d*))?({POWER_PATTERN})?"
        rf"({minus})?\s*(?:([%‰]|{CURRENCY_PATTERN})|({UNIT_PATTERN}))?\s*(\))?{FOOTNOTE_PATTERN}"
    )

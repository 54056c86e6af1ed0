"""Numbers that have notations of their own: durations, half years, seasons, ordinals, degrees."""

import re
from collections.abc import Callable, Mapping, Sequence
from re import Match

import numpy as np

from ravine.data.odd_cells import MIN_DISTINCT_READABLE, Reading, is_gap

SECONDS_PATTERN = r"([0-5]\d(?:[.,]\d+)?)"
CLOCK_PATTERN = rf"([-+]?)(?:(\d+) days?,? \+?)?(\d+):([0-5]\d)(?::{SECONDS_PATTERN})?"
SHORT_CLOCK_PATTERN = rf"([-+]?)()()(\d+):{SECONDS_PATTERN}"
WORDED_DURATION = (
    r"(?:(\d+) ?d(?:ays?)?)?,? ?(?:(\d+) ?h(?:(?:ou)?rs?)?)?,? ?(?:(\d+) ?m(?:ins?|inutes?)?)?,? ?"
    r"(?:(\d+(?:[.,]\d+)?) ?s(?:ecs?|econds?)?)?\.?"
)
ISO_DURATION = r"P(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:[.,]\d+)?)S)?"
FEET_PATTERN = r"(\d)(?:['′’]| ?ft\.?) ?(?:(\d{1,2}(?:\.\d+)?)(?:[\"″”]|''| ?in\.?)?)?"
YEAR_PATTERN = r"((?:1[89]|20)\d\d)"
YEAR_AND_HALF, HALF_AND_YEAR = rf"{YEAR_PATTERN}[ /-]?H([12])", rf"H([12])[ /-]?{YEAR_PATTERN}"


def _hours(sign: str | None, *parts: str | None) -> float:
    days, hours, minutes, seconds = (float((p or "0").replace(",", ".")) for p in parts)
    value = 24 * days + hours + minutes / 60 + seconds / 3600
    return -value if sign == "-" else value


def _hours_in_words(found: Match) -> float:
    return _hours("", *found.groups()) if any(found.groups()) else np.nan


def _season(found: Match) -> float:
    first, second = found.groups()
    return float(first) if (int(first) + 1) % 10 ** len(second) == int(second) else np.nan


def _degrees(found: Match) -> float:
    return -float(found[1]) if found[2] in "SW" else float(found[1])


def _feet(found: Match) -> float:
    inches = float(found[2] or 0)
    return int(found[1]) + inches / 12 if inches < 12 else np.nan


# by style, an example of it: patterns, and the number in what one of them finds
NOTATION_READERS: Mapping[str, Mapping[str, Callable[[Match], float]]] = {
    "2023-24": {rf"{YEAR_PATTERN} ?[-/–] ?(\d\d|\d{{4}})": _season},
    "1:23:45": {CLOCK_PATTERN: lambda found: _hours(*found.groups())},
    "1:23:45 or 23:45": {
        SHORT_CLOCK_PATTERN: lambda found: _hours(*found.groups()),
        CLOCK_PATTERN: lambda found: _hours(*found.groups()),
    },
    "1 h 23 min": {WORDED_DURATION: _hours_in_words, ISO_DURATION: _hours_in_words},
    "2024H1": {
        YEAR_AND_HALF: lambda found: int(found[1]) + (int(found[2]) - 1) / 2,
        HALF_AND_YEAR: lambda found: int(found[2]) + (int(found[1]) - 1) / 2,
    },
    "1st": {r"(\d+)(?:st|nd|rd|th)\.?": lambda found: float(found[1])},
    "5'11\"": {FEET_PATTERN: _feet},
    "52.5N": {r"(\d{1,3}\.\d+) ?°? ?([NSEW])": _degrees},
}
NOTATION_DOUBTS = {
    "2023-24": "has seasons: {} is taken as the year {:g}. Set data.categories to change it.",
    "1:23:45 or 23:45": "has durations of two parts: {} is taken as minutes and seconds, {:.3g} h.",
}
SEASON_STYLE = "2023-24"
ORDINAL_STYLE = "1st"  # of few, such as the classes of a ship, each is a category


def read_notation(text: str, style: str) -> float:
    """The number that a text writes in a notation, NaN if it writes none; durations in hours.

    >>> read_notation("1:30:00", "1:23:45"), read_notation("H2 2024", "2024H1")
    (1.5, 2024.5)
    """
    for pattern, number in NOTATION_READERS[style].items():
        found = re.fullmatch(pattern, text)
        if found is not None:
            return number(found)
    return np.nan


def read_as_notation(
    texts: Sequence[str], counts: Sequence[int], styles: Sequence[str] = tuple(NOTATION_READERS)
) -> Reading | None:
    """The notation that texts have, and which of them do not; None where they are something else.

    Of durations with and without seconds, as in a race, those of two parts are minutes and seconds
    where none of the others is below an hour.
    """
    kept = [(t, n) for t, n in zip(texts, counts, strict=True) if not is_gap(t)]
    best: Reading | None = None
    for style in styles:
        if style == ORDINAL_STYLE and len(kept) < MIN_DISTINCT_READABLE:
            continue
        if all(np.isnan(read_notation(t, style)) for t, _ in kept[:20]):
            continue
        numbers = [read_notation(t, style) for t, _ in kept]
        odd = [item for item, number in zip(kept, numbers, strict=True) if np.isnan(number)]
        first = next(i for i, number in enumerate(numbers) if not np.isnan(number))
        doubt = NOTATION_DOUBTS.get(style, "").format(kept[first][0], numbers[first])
        found = Reading.of(style, odd, kept, [doubt] if doubt else [])
        if found is None or (best is not None and len(best.odd) < len(odd)):
            continue
        if best is None or len(odd) < len(best.odd) or _are_short([t for t, _ in kept]):
            best = found
    return best


def _are_short(texts: Sequence[str]) -> bool:
    """Whether durations of two parts are minutes and seconds, where they could be hours."""
    parts = [text.lstrip("+-").split(":") for text in texts]
    firsts, long = [p[0] for p in parts if len(p) == 2], [p[0] for p in parts if len(p) == 3]
    if not firsts or not all(first.isdecimal() and int(first) < 60 for first in firsts):
        return False
    if long:
        return all(first.isdecimal() and int(first) for first in long)
    return max(map(int, firsts)) > 23  # else a time of day

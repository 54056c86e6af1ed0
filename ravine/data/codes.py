"""Texts of digits that are names, not numbers: 01234, 2E3, 1.10; as numbers some would be equal."""

import re
from collections.abc import Sequence

from ravine.data.number_styles import PLAIN_NUMBER
from ravine.data.odd_cells import is_gap
from ravine.data.parsing import text_of

EXACT_DIGITS = 15  # of a whole number that float64 keeps whatever they are
MAX_MINOR = 40  # of versions, behind the point
MAX_VERSIONS = 300  # so many different ones are rather amounts
WHOLE_OR_POWER = re.compile(r"\d+(?:[eE]\d+)?", re.ASCII)
ZERO_LED_CODE = "begin with zeros"
LONG_CODE = f"have more than {EXACT_DIGITS} digits"
CODE_PATTERNS = {
    ZERO_LED_CODE: r"0\d+",
    "are powers of ten that may be codes": r"\d*[02-9]\d*[eE]\d+|\d\d+[eE]\d+",
    LONG_CODE: rf"\d{{{EXACT_DIGITS + 1},}}",
}
DOTTED_CODE = "are dotted and begin with a zero"
DOTTED_PATTERN = re.compile(r"\d+(?:\.\d{1,3})?", re.ASCII)  # a year behind the dot is a date's
ZERO_BEFORE_DOT = re.compile(r"0\d+\.\d+", re.ASCII)
SHORT_DECIMAL = re.compile(r"\d{1,3}\.\d{1,2}", re.ASCII)


def find_code(texts: Sequence[str]) -> tuple[str, str]:
    """What shows that the distinct texts of a column are codes, and an example; or two empty texts.

    >>> find_code(["10115", "01234"]), find_code(["1.9", "1.10", "1.11"])
    (('begin with zeros', '01234'), ('are like versions', '1.10'))
    >>> find_code(["10.1", "01.11"])
    ('are dotted and begin with a zero', '01.11')
    >>> find_code(["1.5", "0.10"]), find_code(["2e-3", "1e5"])
    (('', ''), ('', ''))
    """
    first = filter(PLAIN_NUMBER.fullmatch, texts[:MAX_VERSIONS])
    if len(texts) > MAX_VERSIONS and not all(map(WHOLE_OR_POWER.fullmatch, first)):
        return "", ""
    numbers = [t for t in texts if PLAIN_NUMBER.fullmatch(t)]
    if 2 * len(numbers) >= len(texts) and all(map(WHOLE_OR_POWER.fullmatch, numbers)):
        for why, pattern in CODE_PATTERNS.items():
            found = next(filter(re.compile(pattern).fullmatch, numbers), "")
            if found:
                return why, found
    if 2 * len(numbers) >= len(texts) and all(map(DOTTED_PATTERN.fullmatch, numbers)):
        found = next(filter(ZERO_BEFORE_DOT.fullmatch, numbers), "")
        if found:
            return DOTTED_CODE, found
    ten = "" if len(texts) > MAX_VERSIONS else _version_ten([t for t in texts if not is_gap(t)])
    return ("are like versions", ten) if ten else ("", "")


def changes_as_number(text: str) -> bool:
    """Whether a text is a number, and is written otherwise once it was read as one.

    >>> changes_as_number("01234"), changes_as_number("1.10"), changes_as_number("7")
    (True, True, False)
    """
    return PLAIN_NUMBER.fullmatch(text) is not None and text_of(float(text)) != text


def _version_ten(texts: Sequence[str]) -> str:
    """Such as 1.10 beside 1.9, of texts like versions: minor numbers small, none as in 1.05."""
    if not all(map(SHORT_DECIMAL.fullmatch, texts)):
        return ""
    minors = [t.split(".")[1] for t in texts]
    if any(int(m) > MAX_MINOR or m[0] == "0" < m[1:] for m in minors):
        return ""
    known = set(texts)
    return next((t for t in texts if t.endswith(".10") and f"{t[:-3]}.9" in known), "")

"""Cells that are unlike the others of their column: gaps, and texts among numbers or dates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, TypeGuard

# words for a missing value that name nothing else; in files of text no cell is one of them
MISSING_WORDS = ["", *"NA N/A n/a #N/A <NA> NaN nan -nan NULL null".split()]
# what stands for a missing value among numbers and dates, in lower case
GAP_WORDS = frozenset(
    [
        *map(str.lower, MISSING_WORDS),
        *("not available", "no data", "missing", "unknown", "0000-00-00 00:00:00"),
        *"? - -- --- — – . .. ... * na n.a. n.a nat none nil (null) \\n".split(),
        *"#div/0! #value! #ref! #num! #name? #null! 1.#qnan -1.#qnan 1.#ind -1.#ind".split(),
        *"0000-00-00 00.00.0000 00/00/0000".split(),
    ]
)
MIN_DISTINCT_READABLE = 10  # so many different numbers are a measurement, not names of classes
MAX_ODD_SHARE = 0.2  # of the rows
MAX_SAME_ODD_SHARE = 0.5  # of the rows, where all odd cells are the same: a mark for a gap


def is_gap(text: str) -> bool:
    """Whether a text among numbers or dates stands for a missing one, such as "?"."""
    return text.lower() in GAP_WORDS


@dataclass(frozen=True)
class Reading:
    """How most texts of a column are written; `odd` are those that are written otherwise.

    `doubts` are sentences about what could be meant otherwise, the column's name left out.
    """

    style: str
    odd: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        style: str,
        odd: Sequence[tuple[str, int]],
        texts: Sequence[tuple[str, int]],
        doubts: Sequence[str] = (),
    ) -> Self | None:
        """The reading of texts and the rows of each, no gaps; None where too many are odd."""
        if not texts:
            return None
        share = sum(n for _, n in odd) / sum(n for _, n in texts)
        most = MAX_SAME_ODD_SHARE if len(odd) == 1 else MAX_ODD_SHARE
        too_few = len(texts) - len(odd) < MIN_DISTINCT_READABLE  # to be measurements with gaps
        if odd and (share > most or too_few):
            return None
        return cls(style, tuple(text for text, _ in odd), tuple(doubts))


def reads_all(reading: Reading | None) -> TypeGuard[Reading]:
    """Whether there is a reading, and no text is odd in it."""
    return reading is not None and not reading.odd


def fewest_odd(*readings: Reading | None) -> Reading | None:
    """The reading with the fewest odd texts, the first of equal ones; None where there is none."""
    found = [reading for reading in readings if reading is not None]
    return min(found, key=lambda reading: len(reading.odd), default=None)


def describe_spellings(name: str, levels: Iterable[str]) -> list[str]:
    """What to say where levels of a category differ only in case or in blanks; nothing elsewhere.

    >>> describe_spellings("v", ["bad", "Bad", "good"])[0][:59]
    "v has levels that differ only in case or blanks: 'bad' and "
    """
    spellings: dict[str, list[str]] = {}
    for level in levels:
        spellings.setdefault(" ".join(level.split()).casefold(), []).append(level)
    alike = next((found for found in spellings.values() if len(found) > 1), None)
    if alike is None:
        return []
    count = sum(map(len, spellings.values()))
    shown = " and ".join(map(repr, alike[:3]))
    return [
        f"{name} has levels that differ only in case or blanks: {shown} ({count:,} levels, "
        f"{len(spellings):,} without). If they mean the same, write them in one way."
    ]

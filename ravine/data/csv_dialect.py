"""The dialect of a CSV file: its header, its separator, its decimal sign."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from ravine.errors import DataError

CSV_SEPARATORS = (",", ";", "\t", "|")


def read_column_names(lines: Sequence[str], separator: str, path: Path) -> tuple[list[str], bool]:
    """The column names, and whether rows have one field more, as R writes those with names."""
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if row]
    names = [n.strip().lstrip("\ufeff") or f"Unnamed: {i}" for i, n in enumerate(rows[0])]
    if all(re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", n) for n in names):
        what, why = f"{path} has no column names", f"its first line is {lines[0][:60]!r}"
        raise DataError(what, why=why, do="write a first line with a name for each column")
    body = rows[1:-1] or rows[1:]  # the last line of the sample may be cut
    return names, bool(body) and all(len(row) == len(names) + 1 for row in body)


def find_separator(lines: Sequence[str]) -> str:
    """The separator that cuts most lines into equally many fields, more than one; else a comma."""

    def quality(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return sum(w == widths[0] for w in widths) / len(widths), widths[0]

    return max(CSV_SEPARATORS, key=lambda s: (round(quality(s)[0], 1), quality(s)[1]))


def find_decimal(lines: Sequence[str], separator: str) -> str:
    """A comma where numbers have decimal commas: not always three digits after, and no dots."""
    if separator == ",":
        return "."
    cells = [cell.strip() for row in csv.reader(lines[1:], delimiter=separator) for cell in row]
    commas = [c for c in cells if re.fullmatch(r"[-+]?\d+,\d+([eE][-+]?\d+)?", c)]
    dots = [c for c in cells if re.fullmatch(r"[-+]?\d*\.\d+([eE][-+]?\d+)?", c)]
    return "," if not dots and any(len(c.partition(",")[2]) != 3 for c in commas) else "."

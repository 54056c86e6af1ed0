"""The dialect of a CSV file: its separator, its decimal sign, where its header is, its columns."""

import contextlib
import csv
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from ravine.data.codes import ZERO_LED_CODE, find_code
from ravine.data.frames import column_name
from ravine.data.number_styles import decimal_sign
from ravine.data.odd_cells import MISSING_WORDS
from ravine.errors import DataError

BLANK_SEPARATOR = r"\s+"
CSV_SEPARATORS = (",", ";", "\t", "|", BLANK_SEPARATOR)
SEPARATOR_NAMES = {"\t": "tabs", BLANK_SEPARATOR: "blanks"}
CELL_NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?")
SAMPLE_LINES, SAMPLE_CHARACTERS = 300, 200_000  # at least 20 lines
MAX_COMMENT_LINES = 10_000  # lines with # that are in a sample besides
HEADER_ROWS = 30  # among which the header is looked for, comments not counted

Fields = list[str]


@dataclass(frozen=True)
class Dialect:
    """How a run's tables are written, found from its training file and kept with the encoder."""

    separator: str = ","
    decimal: str = "."

    def to_plain(self) -> dict[str, str]:
        """Plain data; none for the usual dialect."""
        usual = Dialect()
        return {k: v for k, v in vars(self).items() if v != getattr(usual, k)}


@dataclass(frozen=True)
class KnownColumns:
    """What a run knows of tables that it reads: their dialect, and its columns.

    `columns` are all that it reads; `texts` are read as text, their numbers or dates having a
    style; `numbers` were numbers as they stood, each with its least and greatest value if known.
    """

    dialect: Dialect = Dialect()
    columns: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CsvLayout:
    """Where the table is in a text: its separator, lines above its rows, its columns.

    `beyond` are columns behind those of the header, which must be empty: their rows end in
    separators. `codes` are columns that as numbers would lose what tells their cells apart.
    """

    separator: str
    header: int  # rows of the text before the header
    names: tuple[str, ...]
    beyond: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


def sample_lines(text: TextIO) -> list[str]:
    """The first lines of a text, without the last one if it may be cut; comments do not count."""
    lines, size, count = [], 0, 0
    while line := text.readline():
        lines.append(line)
        if line.startswith("#") and len(lines) - count < MAX_COMMENT_LINES:
            continue
        size += len(line)
        count += 1
        if count >= SAMPLE_LINES or (count >= 20 and size >= SAMPLE_CHARACTERS):
            return lines[:-1]
    return lines


def find_csv_layout(
    lines: Sequence[str], path: Path, known: KnownColumns | None = None
) -> CsvLayout:
    """Find separator, header and columns from the first lines, and those of a run where it is read.

    The separator is the one that finds most of the run's columns in the header; then the one that
    cuts most lines into as many fields as the header, more than one. Raises `DataError`.
    """
    wanted = () if known is None else known.columns
    found = {s: list(split_rows(lines, s)) for s in CSV_SEPARATORS}
    headers = {s: _find_header(rows, wanted) for s, rows in found.items()}
    for s, rows in found.items():
        if headers[s] < len(rows):
            rows[headers[s]] = _without_sign(rows[headers[s]], rows[headers[s] + 1 :], wanted)

    def quality(separator: str) -> tuple[float, ...]:
        rows, at = found[separator], headers[separator]
        width = len(rows[at]) if at < len(rows) else 0
        hits = len(set(wanted) & set(map(column_name, rows[at]))) if width else 0
        body = [row for row in rows[at + 1 :] if _has_text(row)]
        fits = [1.0 if _fits(row, width) else 0.5 * (len(row) == width + 1) for row in body] or [1]
        share = round(sum(fits) / len(fits), 1) if width > 1 else 0.0
        if separator == BLANK_SEPARATOR and share < 1:
            return hits, 0.0, 0
        usual = known is not None and separator == known.dialect.separator
        on_top = not any(map(_has_text, rows[:at]))
        return hits, share, separator != BLANK_SEPARATOR, on_top, width, usual

    separator = max(CSV_SEPARATORS, key=quality)
    rows, at = found[separator], headers[separator]
    if not rows or not _has_text(rows[at]):
        what, do = f"{path} is no table", "check its first lines, their quotes and separators"
        raise DataError(what, why="no line names its columns", do=do)
    if all(map(_is_number, rows[at])):
        what, why = f"{path} has no column names", f"its first line is {lines[0].strip()[:60]!r}"
        raise DataError(what, why=why, do="write a first line with a name for each column")
    names = tuple(column_name(cell) or f"Unnamed: {i}" for i, cell in enumerate(rows[at]))
    body = [row for row in rows[at + 1 :] if _has_text(row)]
    more = max([len(row) - len(names) for row in body], default=0)
    if more == 1 and _has_row_names(body, len(names)):
        return CsvLayout(separator, at, ("row", *names), codes=_codes(body, ("row", *names)))
    beyond = tuple(f"{path.name} field {i}" for i in range(more))
    return CsvLayout(separator, at, names, beyond, _codes(body, names))


def _codes(rows: Sequence[Fields], names: Sequence[str]) -> tuple[str, ...]:
    """The columns of codes, but for zeros before numbers, which the whole file is searched for."""
    columns = zip(*(row for row in rows if len(row) >= len(names)), strict=False)
    found = [find_code(list(dict.fromkeys(column)))[0] for column in columns]
    kinds = zip(names, found, strict=False)
    return tuple(name for name, why in kinds if why not in ("", ZERO_LED_CODE))


def _fits(row: Fields, width: int) -> bool:
    """Whether a row has so many fields, separators at its end not counted."""
    return len(row) == width or (len(row) > width and not _has_text(row[width:]))


def _has_text(row: Fields) -> bool:
    return any(cell.strip() for cell in row)


def split_rows(lines: Iterable[str], separator: str) -> Iterator[Fields]:
    """The rows of lines; blank lines are empty rows. What cannot be split ends them."""
    if separator == BLANK_SEPARATOR:
        lines, separator = (re.sub(r"\s+", " ", line.strip()) for line in lines), " "
    limit = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell may be an article
    with contextlib.suppress(csv.Error):
        yield from csv.reader(lines, delimiter=separator, skipinitialspace=True)
    csv.field_size_limit(limit)


def _has_row_names(body: Sequence[Fields], columns: int) -> bool:
    """Whether rows begin with a name that the header lacks, as R writes them: words, or 1, 2, 3."""
    first, last = [row[0].strip() for row in body], [row[-1].strip() for row in body]
    whole = all(len(row) == columns + 1 for row in body)
    counted = first == [str(i) for i in range(1, len(first) + 1)]
    named = counted or not any(re.fullmatch(r"[-+]?[\d.,]+", name) for name in first)
    distinct = len(set(first)) == len(first)
    return whole and named and distinct and sum(map(bool, last)) >= len(last) / 2


def _find_header(rows: Sequence[Fields], wanted: Collection[str]) -> int:
    """The place of the header: the first row, unless one below is it beyond doubt.

    Above it may be lines of a report, comments (#) and blank lines. A row below is the header if it
    has the columns of a run (`wanted`); or if it names each column of most rows in words, the lines
    above do not, and there are numbers under it. It may be the last comment above the numbers.
    """
    comments = np.array([_is_comment(row) for row in rows], bool)
    near = np.cumsum(~comments) <= HEADER_ROWS
    filled = [i for i, row in enumerate(rows) if near[i] and _has_text(row)]
    if not filled:
        return 0
    first = filled[0]
    if wanted:
        hits = {i: len(set(wanted) & set(map(column_name, rows[i]))) for i in filled}
        best = max(filled, key=lambda i: (hits[i], -i))
        if hits[best] == len(set(wanted)):
            return best
    widths = Counter(len(row) for row in rows if _has_text(row) and not _is_comment(row))
    width = max(widths, key=lambda w: (widths[w], w), default=0)
    top = rows[first]
    if not _is_comment(top) and len(top) == width and all(map(str.strip, top[1:])):
        return first
    for i in filled[1:]:
        if _is_comment(rows[i]) or len(rows[i]) < width:
            continue
        if any(map(_is_number, rows[i])):
            last = max((k for k in filled if k < i and comments[k]), default=first)
            is_header = _names_columns(_without_sign(rows[last], rows[i:]), width)
            return last if _is_comment(top) and is_header else first  # rows have begun
        other = len(top) != width if _is_comment(top) else len(top) < width - 1
        if _names_columns(rows[i], width) and (other or _numbers_below(rows[i + 1 :], width)):
            return i
    return first


def _is_comment(row: Fields) -> bool:
    return bool(row) and row[0].lstrip().startswith("#")


def _without_sign(header: Fields, body: Sequence[Fields], wanted: Collection[str] = ()) -> Fields:
    """The names of a header without the # before all of them: "#a", "b" or "#", "a", "b"."""
    cells = [cell.strip() for cell in header]
    if not _is_comment(header) or cells[0] in wanted or any(c.startswith("#") for c in cells[1:]):
        return header
    name = cells[0].lstrip("# ")
    if name:  # "# of rooms" is a number of them
        return header if name.startswith("of ") else [name, *header[1:]]
    wide = Counter(len(row) for row in body if _has_text(row)).most_common(1)
    return header[1:] if wide and wide[0][0] == len(header) - 1 else header


def _is_number(cell: str) -> bool:
    return CELL_NUMBER.fullmatch(cell.strip()) is not None


def _names_columns(row: Fields, width: int) -> bool:
    names = [cell.strip() for cell in row]
    gaps = any(name in MISSING_WORDS for name in names[1:])
    return len(names) == width == len(set(names)) and not gaps


def _numbers_below(rows: Sequence[Fields], width: int) -> bool:
    """Whether a column has numbers in at least half of the rows."""
    full = [row for row in rows if len(row) >= width and _has_text(row)]
    return any(2 * sum(map(_is_number, column)) >= len(full) for column in zip(*full, strict=False))


NUMBER_LIKE = r"[-+]?[$€£¥]?\s*[-+]?(?:\d[\d.,' ]*|[.,]\d+)(?:[eE][-+]?\d+)?[-–—−]{0,2}\s*[%$€£¥]?"
POINT_OF_THOUSAND = r"[-+]?[1-9]\d{0,2}\.\d{3}"  # or of one: three digits behind it
SIGN_OF_THOUSAND = POINT_OF_THOUSAND.replace(r"\.", "[.,]")


@dataclass
class DecimalCounts:
    """How many numbers of a table say which decimal sign it has; cells add up over blocks."""

    certain: Counter[str] = field(default_factory=Counter)
    # of numbers that can be read two ways, by column and sign: one; and with that sign the range
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    limits: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)

    def add(self, cells: pd.DataFrame) -> None:
        """Count the cells, all text, of columns that are numbers for the most part."""
        for name in cells.columns:
            texts = cells[name].dropna().str.strip()
            if not len(texts) or texts.str.fullmatch(NUMBER_LIKE).mean() < 0.8:
                continue
            texts = texts[texts.str.contains("[.,]")]
            # one text stands for all that differ in digits alone; a zero in front says something
            shapes = texts.str.replace(r"\d", "1", regex=True)
            led = shapes.str.replace("1", "0", n=1)
            shapes = shapes.mask(texts.str.match(r"\D*0").astype(bool), led)
            for shape, count in shapes.value_counts().items():
                self.certain[decimal_sign(str(shape))] += int(count)
            self._add_limits(str(name), texts[texts.str.fullmatch(SIGN_OF_THOUSAND).astype(bool)])

    def _add_limits(self, name: str, texts: pd.Series) -> None:
        for sign in ".,":
            of_sign = texts[texts.str.contains(sign, regex=False).astype(bool)]
            if len(of_sign):
                numbers = of_sign.str.replace(",", ".").astype(float)
                low, high = self.limits.get((name, sign), (np.inf, -np.inf))
                self.limits[name, sign] = min(low, numbers.min()), max(high, numbers.max())
                self.examples.setdefault((name, sign), of_sign.iloc[0])

    @property
    def majority(self) -> str:
        """The sign that more numbers have for certain, a point where they are as many."""
        return "," if self.certain[","] > self.certain["."] else "."

    def decide(
        self, path: Path, known: KnownColumns | None, *, separator: str, notes: list[str]
    ) -> str:
        """The sign of which numbers are certain, else the usual one; `notes` say what is open.

        The usual sign is a point, or that of the run whose columns are `known`: it stands unless
        only the other one is certain, or only with the other one numbers are as the run's were.
        """
        usual = "." if known is None else known.dialect.decimal
        if known is not None and self.certain[usual]:
            return usual
        if self.certain[","] or self.certain["."]:
            return self.majority
        if known is not None:
            return self._nearest_sign(path, known, separator, notes)
        doubt = self._describe_example(path, [key for key in self.examples if key[1] == "."], usual)
        if doubt:
            do = 'If points make groups of thousands in it, set data.decimal = ",".'
            notes.append(f"{doubt}. {do}")
        return usual

    def _describe_example(self, path: Path, keys: Sequence[tuple[str, str]], decimal: str) -> str:
        """A sentence on numbers of the first column and sign that read two ways, if any."""
        if not keys:
            return ""
        text = self.examples[keys[0]]
        value = float(text.replace(",", ".")) * (1 if keys[0][1] == decimal else 1000)
        return f"Numbers in {path.name} can be read two ways: {text} is taken as {value:.10g}"

    def _nearest_sign(
        self, path: Path, known: KnownColumns, separator: str, notes: list[str]
    ) -> str:
        """The usual sign, unless the other brings numbers into a run's ranges, or far nearer."""
        usual, other = known.dialect.decimal, "." if known.dialect.decimal == "," else ","
        of_usual, of_other = (self._distance(sign, known) for sign in (usual, other))
        keys = [key for key in self.examples if key[0] in known.numbers]
        doubt = self._describe_example(path, keys, usual)
        if doubt and of_usual == of_other and separator != known.dialect.separator:
            do = "If that is wrong, write them as in the training file"
            notes.append(f"{doubt}, as in the training file. {do}.")
        return other if of_other < of_usual and (of_other == 0 or of_usual > 1) else usual

    def _distance(self, sign: str, known: KnownColumns) -> float:
        """How far outside the ranges of a run, in their widths, numbers are that have a sign."""
        furthest = 0.0
        for (name, found), limits in self.limits.items():
            if known.numbers.get(name):
                low, high = known.numbers[name]
                least, greatest = (x if found == sign else 1000 * x for x in limits)
                outside = max(low - least, greatest - high, 0.0)
                furthest = max(furthest, outside / ((high - low) or 1.0))
        return furthest


def exchange_sign(values: Any, sign: str) -> Any:
    """Texts of numbers with the other decimal sign, no groups: 1.234,5 is 1234.5; others stay."""
    other = "." if sign == "," else ","
    grouped = values.str.strip().str.fullmatch(
        rf"[-+]?(?:\d{{1,3}}(?:[{other}]\d{{3}})+|\d*)(?:[{sign}]\d*)?(?:[eE][-+]?\d+)?"
    )
    plain = values.str.replace(other, "", regex=False).str.replace(sign, other, regex=False)
    return values.mask(grouped.fillna(False).astype(bool), plain)


def decimal_sign_of_texts(table: pd.DataFrame) -> str:
    """The sign of numbers left as text: a comma where more have it for certain than a point."""
    counts = DecimalCounts()
    for name in table.columns:
        values = table[name]
        if isinstance(values.dtype, pd.StringDtype):
            has_comma = values.str.contains(",", regex=False).fillna(False).astype(bool)
        elif values.dtype == object:
            has_comma = [isinstance(v, str) and "," in v for v in values]
        else:
            continue
        counts.add(values[has_comma].astype(str).to_frame(name))
    return counts.majority


def without_groups(values: pd.Series) -> pd.Series:
    """A column of whole numbers in a table of decimal commas, in which points make groups of three.

    1.234 is 1234 where nothing else in the column says what a point is.
    """
    texts = values.dropna().astype(str).str.strip()
    groups = texts.str.fullmatch(POINT_OF_THOUSAND)
    if not groups.any() or (groups | texts.str.fullmatch(r"[-+]?\d+")).mean() < 0.8:
        return values
    plain = values.mask(groups.reindex(values.index, fill_value=False), values.str.replace(".", ""))
    if any(decimal_sign(text) == "." for text in texts[~groups].unique()):  # as 0.345 beside it
        return values
    numbers = pd.to_numeric(plain, errors="coerce")
    return numbers if numbers.isna().equals(values.isna()) else plain

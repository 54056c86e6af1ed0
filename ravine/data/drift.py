"""How new rows differ from the training rows: values not learned, numbers far outside, gaps."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ravine.data.column_encoders import Codes, Date, Flag, Numeric, OneHot, Text, level_codes
from ravine.data.encoder import Encoder
from ravine.data.foreign_rows import is_total_word
from ravine.data.parsing import read_new_dates, signs_of, texts_of

MAX_COLUMNS_IN_NOTE = 8  # columns that are named in each sentence
MAX_COUNTED_VALUES = 10_000  # different unknown values of a column
MIN_OUTSIDE_ROWS = 3  # outside the range of the training rows, and more than half


class Drift:
    """Values of new rows, which come in blocks, that are unlike all training rows.

    Categories that were not learned; numbers and dates further outside the range of the training
    rows than that range is wide; numbers of which most are outside that range, as in another unit;
    gaps, which are filled, in columns that had (next to) none.
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.rows = 0
        self.unknown: Counter[str] = Counter()  # rows of each column
        self.values: dict[str, dict[str, None]] = {}  # the different unknown ones, in order
        self.given: Counter[str] = Counter()  # rows with a number or a date
        self.outside: Counter[str] = Counter()
        self.far: Counter[str] = Counter()
        self.most: dict[str, float] = {}  # the number furthest outside
        self.filled: Counter[str] = Counter()
        self.restyled: dict[str, str] = {}  # columns of dates in another style, with an example
        self.last = pd.DataFrame()  # the last row

    def add(self, frame: pd.DataFrame) -> None:
        """Take in a block of rows, a table that was checked."""
        self.rows += len(frame)
        self.last = frame.tail(1)
        for column in self.encoder.column_encoders:
            values = frame[column.name]
            if isinstance(column, Date):
                column = self._in_style(column, values)
            if isinstance(column, (Numeric, Date)):
                x = self.encoder.read_column(column, values)
                self._add_outside(column, x)
                if column.odd_texts:
                    odd = column.read_cells(values)[1] & ~values.isin(column.odd_texts).to_numpy()
                    self._add_unknown(column.name, values[odd])
                gaps = 0 if column.gaps else int(np.isnan(x).sum())
            elif isinstance(column, Text):
                gaps = 0  # a text may have any words, or none
            else:
                if isinstance(column, Flag):
                    known = signs_of(values)
                else:
                    known = level_codes(values, column.levels)
                missing, unknown = values.isna().to_numpy(), known == 0
                self._add_unknown(column.name, values[unknown & ~missing])
                gaps = int((unknown & missing).sum())
            self.filled[column.name] += gaps

    def _in_style(self, column: Date, values: pd.Series) -> Date:
        """The column's encoder for the style that its new values are in."""
        style = read_new_dates(values, column.style, column.odd_texts)[2]
        if style == column.style:
            return column
        day = column.read(values)
        row = int(np.flatnonzero(~np.isnan(day))[0]) if (~np.isnan(day)).any() else 0
        taken = f"{str(values.iloc[row])!r} is taken as {_day_text(day[row])}"
        self.restyled.setdefault(column.name, f"{column.name} ({taken})")
        return dataclasses.replace(column, style=style)

    def _add_unknown(self, name: str, values: pd.Series) -> None:
        self.unknown[name] += len(values)
        known = self.values.setdefault(name, {})
        if len(values) and len(known) <= MAX_COUNTED_VALUES:
            known.update(dict.fromkeys(texts_of(values)[0]))

    def _add_outside(self, column: Numeric | Date, x: np.ndarray) -> None:
        if not column.scaling.seen:
            return  # fitted by a version that did not keep the range
        distance = _distance_outside(column, x)
        self.given[column.name] += int((~np.isnan(x)).sum())
        outside = x[distance > 0]
        if len(outside):
            width = column.scaling.seen[1] - column.scaling.seen[0]
            self.outside[column.name] += len(outside)
            self.far[column.name] += int((distance > width).sum())
            before = [self.most[column.name]] if column.name in self.most else []
            candidates = np.array([*before, *outside])
            furthest = np.argmax(_distance_outside(column, candidates))
            self.most[column.name] = float(candidates[furthest])

    def describe(self) -> list[str]:
        """Sentences about the rows so far."""
        measured = [c for c in self.encoder.column_encoders if isinstance(c, (Numeric, Date))]
        mostly = [column for column in measured if self._is_mostly_outside(column)]
        far = [c for c in measured if self.far[c.name] and c not in mostly]
        unknown = [self._describe_unknown(name) for name, count in self.unknown.items() if count]
        found = {
            "Values that were not learned, taken as unknown": unknown,
            "Numbers far outside the training rows": [
                self._describe_range(column, self.far, "as far as") for column in far
            ],
            "Numbers outside what was learned, maybe in another unit": [
                self._describe_range(column, self.outside, "such as") for column in mostly
            ],
            "Dates are written otherwise than in training": list(self.restyled.values()),
        }
        notes = [f"{what}: {_join_columns(where)}." for what, where in found.items() if where]
        filled = [f"{name} in {count:,}" for name, count in self.filled.items() if count]
        if filled:
            where = f"{_join_columns(filled)} of {self.rows:,} rows"
            notes.append(f"Gaps that training rows hardly had, filled in: {where}.")
        return notes + self._describe_total()

    def _describe_total(self) -> list[str]:
        """A note on a last row that says in a word that training did not know what it is."""
        coded = (c for c in self.encoder.column_encoders if isinstance(c, (OneHot, Codes)))
        known = {column.name: column.levels for column in coded}
        for name, values in self.last.items():
            text = str(values.iloc[0])
            if is_total_word(text) and text.strip() not in known.get(str(name), ()):
                where = f"Row {self.last.index[0]} may be a total ({text!r} in {name})"
                return [f"{where}: what is predicted for it means nothing."]
        return []

    def _describe_unknown(self, name: str) -> str:
        first, *others = self.values[name]
        more = f"over {MAX_COUNTED_VALUES:,}" if len(others) > MAX_COUNTED_VALUES else len(others)
        shown = f"{first[:30]!r}{f' and {more} more' if others else ''}"
        return f"{name} in {self.unknown[name]:,} of {self.rows:,} rows ({shown})"

    def _is_mostly_outside(self, column: Numeric | Date) -> bool:
        """Whether most values are outside the range of the training rows, but most are not far."""
        count, given = self.outside[column.name], self.given[column.name]
        many = count >= MIN_OUTSIDE_ROWS and 2 * count > given >= 2 * self.far[column.name]
        return many and isinstance(column, Numeric)  # later dates are usual

    def _describe_range(self, column: Numeric | Date, rows: Counter[str], how: str) -> str:
        name, text = column.name, _day_text if isinstance(column, Date) else _number_text
        most, low, high = map(text, (self.most[name], *column.scaling.seen))
        where = f"{name} in {rows[name]:,} of {self.rows:,} rows"
        return f"{where} ({how} {most}; learned {low} to {high})"


def _distance_outside(column: Numeric | Date, x: np.ndarray) -> np.ndarray:
    """How far numbers are below or above those of the training rows."""
    low, high = column.scaling.seen
    return np.maximum(low - x, x - high)


def _number_text(value: float) -> str:
    return f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:,.6g}"


def _day_text(day: float) -> str:
    return str(np.datetime64(int(day), "D"))


def _join_columns(found: Sequence[str]) -> str:
    more = len(found) - MAX_COLUMNS_IN_NOTE
    rest = [f"and {more} more columns"] if more > 0 else []
    return "; ".join([*found[:MAX_COLUMNS_IN_NOTE], *rest])

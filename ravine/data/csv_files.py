"""CSV files: read at once, or in blocks that are what they would be in the whole table."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from pandas.api import types

from ravine.data import csv_dialect
from ravine.data.frames import check_distinct, check_table
from ravine.data.odd_cells import MISSING_WORDS
from ravine.data.parsing import is_text
from ravine.data.text_files import TextFile
from ravine.errors import DataError, wrap_errors

CSV_BLOCK_ROWS = 20_000


@dataclass(frozen=True)
class CsvTable:
    """A table in a file of text, and how it is read: its layout, its decimal sign."""

    text: TextFile
    layout: csv_dialect.CsvLayout
    decimal: str
    known: csv_dialect.KnownColumns | None = None

    @property
    def dialect(self) -> csv_dialect.Dialect:
        """What new tables of the same run are expected to have."""
        return csv_dialect.Dialect(self.layout.separator, self.decimal)

    def frame(self) -> pd.DataFrame:
        """The whole table."""
        self.text.check_memory("convert it to Parquet, which is read in pieces with --memory")
        with self.text.open() as file:
            frame = self._read(file, self._texts)
        if self.known is not None:
            numbers = [n for n in self.known.numbers if n in frame and is_text(frame[n])]
            frame = frame.assign(**{n: self._as_numbers(frame[n], self.known) for n in numbers})
        elif self.decimal == ",":
            texts = [str(name) for name in frame if is_text(frame[name])]
            plain = {name: csv_dialect.without_groups(frame[name]) for name in texts}
            frame = frame.assign(**plain)
        if codes := self._may_be_codes(frame):
            with self.text.open() as file:
                written = self._read(file, codes, columns=codes)
            coded = [name for name in codes if _how_written(written[name]) == "code"]
            frame = frame.assign(**{name: written[name] for name in coded})
        return check_table(frame, str(self.text.path))

    def blocks(
        self, kinds: Mapping[str, str], columns: Sequence[str] | None
    ) -> Iterator[pd.DataFrame]:
        """The table in blocks; `kinds` say which columns are "text" or "float" in all of it."""
        dtypes: dict[str, Any] = {n: str for n, kind in kinds.items() if kind == "text"}
        dtypes |= {n: "float64" for n, kind in kinds.items() if kind == "float"}
        dtypes |= dict.fromkeys(self._texts, str)
        with self.text.open() as file:
            for frame in self._read_blocks(file, dtypes, columns):
                yield check_table(frame, str(self.text.path))

    def survey(self) -> Iterator[tuple[pd.DataFrame, dict[str, str]]]:
        """Blocks, types inferred of each alone, and how their whole numbers are written."""
        with self.text.open() as file, self.text.open() as again:
            texts = self._read_blocks(again, str, None) if self.text.has_codes else None
            for frame in self._read_blocks(file, dict.fromkeys(self._texts, str), None):
                written = frame if texts is None else next(texts)
                yield frame, {n: _how_written(written[n]) for n in self._may_be_codes(frame)}

    def _may_be_codes(self, frame: pd.DataFrame) -> list[str]:
        """The columns of whole numbers, if digits are led by a zero somewhere."""
        return [n for n in frame.columns if _whole(frame[n])] if self.text.has_codes else []

    @property
    def _texts(self) -> list[str]:
        texts = () if self.known is None else self.known.texts
        return [n for n in self.layout.names if n in texts or n in self.layout.codes]

    def _options(self, dtype: Any, columns: Sequence[str] | None) -> dict[str, Any]:
        names = [*self.layout.names, *self.layout.beyond]
        return dict(
            sep=self.layout.separator,
            decimal="." if self.layout.separator == "," else self.decimal,
            skipinitialspace=True,
            header=None,
            skiprows=self.layout.header + 1,
            names=names,
            usecols=names if columns is None else [*columns, *self.layout.beyond],
            index_col=False,
            keep_default_na=False,
            na_values=MISSING_WORDS,
            low_memory=False,
            dtype=dtype,
        )

    def _read(
        self, file: TextIO, texts: list[str], columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        with _explain_pandas(self.text.path):
            frame = pd.read_csv(file, **self._options(dict.fromkeys(texts, str), columns))
        return self._without_beyond(frame)

    def _read_blocks(
        self, file: TextIO, dtype: Any, columns: Sequence[str] | None
    ) -> Iterator[pd.DataFrame]:
        options = self._options(dtype, columns)
        with _explain_pandas(self.text.path):
            reader = pd.read_csv(file, chunksize=CSV_BLOCK_ROWS, **options)
            for frame in reader:
                yield self._without_beyond(frame)

    def _without_beyond(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame without the fields beyond the header, which must be empty."""
        beyond = list(self.layout.beyond)
        filled = frame[beyond].notna().any(axis=1).to_numpy()
        if filled.any():
            line = self.layout.header + int(frame.index[int(filled.argmax())]) + 2
            names = f"it has {len(self.layout.names)} column names"
            why = f"{names} and more fields in line {line} (blank lines not counted)"
            do = "give each column a name, or check the line's quotes and separators"
            raise DataError(f"{self.text.path} is no table", why=why, do=do)
        frame = frame.drop(columns=beyond)
        if self.known is not None and self.decimal != self.known.dialect.decimal:
            others = [n for n in self.known.numbers if n in frame and is_text(frame[n])]
            plain = {n: csv_dialect.exchange_sign(frame[n], self.decimal) for n in others}
            frame = frame.assign(**plain)
        return frame

    def _as_numbers(self, values: pd.Series, known: csv_dialect.KnownColumns) -> pd.Series:
        """A column of text in the run's dialect as numbers, if all of it is."""
        has_commas = known.dialect.decimal == ","
        points = csv_dialect.exchange_sign(values, ",") if has_commas else values
        numbers = pd.to_numeric(points, errors="coerce")
        return numbers if numbers.isna().equals(values.isna()) else values


def open_csv(
    text: TextFile,
    notes: list[str],
    *,
    decimal: str = "auto",
    known: csv_dialect.KnownColumns | None = None,
) -> CsvTable:
    """Find out how a CSV file is written. Raises `DataError` for what is no table.

    `decimal` is the sign that is set, or "auto": the one that numbers anywhere in the file have for
    certain, else the one that is expected of the run's tables.
    """
    path = text.path
    with text.open() as file:
        layout = csv_dialect.find_csv_layout(csv_dialect.sample_lines(file), path, known)
    check_distinct(layout.names, path)
    usual = csv_dialect.Dialect() if known is None else known.dialect
    table = CsvTable(text, layout, usual.decimal if decimal == "auto" else decimal, known)
    if layout.separator == csv_dialect.BLANK_SEPARATOR:
        _check_widths(text, layout)
    foreign = layout.separator == "," != usual.separator
    if decimal == "auto" and (foreign or layout.separator != ","):
        table = replace(table, decimal=_find_decimal(table, notes))
    notes += _describe(table, usual)
    return table


def _find_decimal(table: CsvTable, notes: list[str]) -> str:
    counts, separator = csv_dialect.DecimalCounts(), table.layout.separator
    with table.text.open() as file:
        # without what is expected: the cells as they are written
        for cells in replace(table, known=None)._read_blocks(file, str, None):
            if separator == ",":  # only cells in quotes can have either sign
                cells = cells.where(cells.apply(lambda texts: texts.str.contains(",", na=False)))
            counts.add(cells)
    if separator == "," and not counts.certain:
        return "."
    return counts.decide(table.text.path, table.known, separator=separator, notes=notes)


def _describe(table: CsvTable, usual: csv_dialect.Dialect) -> list[str]:
    """Sentences on what is unusual in a table; of one to predict, on what is not as in training."""
    layout, name = table.layout, table.text.path.name
    notes = []
    if layout.header:
        line = layout.header + 1
        notes.append(f"The header of {name} is line {line}; what is above is left out.")
    if layout.beyond:
        notes.append(f"Rows of {name} end in separators that its header lacks.")
    if layout.separator != usual.separator and table.known is None:
        sign = csv_dialect.SEPARATOR_NAMES.get(layout.separator, repr(layout.separator))
        notes.append(f"Columns of {name} are separated by {sign}.")
    if table.decimal != usual.decimal:
        sign = "commas" if table.decimal == "," else "points"
        notes.append(f"Numbers in {name} have decimal {sign}.")
    return notes


def _check_widths(text: TextFile, layout: csv_dialect.CsvLayout) -> None:
    """Raise `DataError` where blanks do not separate equally many fields in each row."""
    width = len(layout.names) + len(layout.beyond)
    with text.open() as file:
        for i, row in enumerate(csv_dialect.split_rows(file, csv_dialect.BLANK_SEPARATOR)):
            if i > layout.header and row and len(row) != width:
                what = f"{text.path} has {len(row)} fields in line {i + 1}"
                why = f"its columns are separated by blanks, and there are {width}"
                do = "write gaps as NA, or export the table with commas"
                raise DataError(what, why=why, do=do)


def _explain_pandas(path: Path) -> AbstractContextManager[None]:
    """Turn what pandas raises into `DataError`."""
    what, do = f"{path} is no table", "check the line, its quotes and its separators"
    return wrap_errors(DataError, what, do, why=lambda error: str(error).strip().splitlines()[-1])


def _whole(values: pd.Series) -> bool:
    if types.is_integer_dtype(values.dtype):
        return True
    return types.is_float_dtype(values.dtype) and bool((values.dropna() % 1 == 0).all())


def _how_written(written: pd.Series) -> str:
    """Whether numbers are "digits" alone; a "code" if zeros lead some: 01234 is not 1234."""
    texts = written.dropna().str
    if not texts.fullmatch(r"\d+").all():
        return "otherwise"
    return "code" if texts.fullmatch(r"0\d+").any() else "digits"

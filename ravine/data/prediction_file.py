"""Predictions as they are written to a file: with identifiers, in digits that mean something."""

import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.types import is_float_dtype, is_integer_dtype

from ravine.data.column_types import is_identifier
from ravine.data.encoder import Encoder
from ravine.data.parsing import is_text
from ravine.data.tables import TableBlocks
from ravine.data.targets import Target

SIGNIFICANT_DIGITS = 7  # weights are float32: 24 bits, 7.2 digits
IDENTIFIER_BLOCK_ROWS = 65_536  # of one column
MAX_IDENTIFIER_LENGTH = 60  # characters of a text that names a row


def find_identifiers(table: TableBlocks, encoder: Encoder, answers: Iterable[str]) -> list[str]:
    """The columns that tell a table's rows apart, none of them the encoder's or an answer's.

    Identifiers have no gaps and no value twice; they are called so, whole numbers or short texts.
    """
    used = {*encoder.columns, *answers}
    names = [n for n in table.columns if n not in used]
    hashes: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for rows in table.read(IDENTIFIER_BLOCK_ROWS, names) if names else ():
        for name in list(hashes):
            values = rows[name]
            if values.dtype == object:
                values = values.where(values.isna(), values.map(str))
            if values.nunique() < len(values) or not (is_identifier(name) or _is_short(values)):
                del hashes[name]
            else:  # 8 bytes a row; that two values of a million have one hash: p < 1e-7
                hashes[name].append(pd.util.hash_pandas_object(values, index=False).to_numpy())
    whole = {name: np.concatenate(found) for name, found in hashes.items()}
    return [name for name, found in whole.items() if len(np.unique(found)) == len(found)]


def _is_short(values: pd.Series) -> bool:
    """Whether values are whole numbers, or texts of a few words at most."""
    if is_text(values):
        return bool((values.str.len() <= MAX_IDENTIFIER_LENGTH).all())
    return is_integer_dtype(values.dtype)


def with_identifiers(
    predictions: pd.DataFrame, rows: pd.DataFrame, identifiers: list[str]
) -> pd.DataFrame:
    """Predictions behind what tells their rows apart: identifiers, or the row's number from 0."""
    found: Mapping[str, np.ndarray] = {name: rows[name].to_numpy() for name in identifiers}
    row = "row" if "row" not in predictions else "row number"
    first = pd.DataFrame(found or {row: np.asarray(rows.index)}, index=predictions.index)
    return pd.concat([first, predictions], axis=1)


def round_floats(predictions: pd.DataFrame, target: Target | None = None) -> pd.DataFrame:
    """The same table, its floats rounded to seven significant digits.

    What a network says of a `target` of numbers is in units of their spread: where the numbers are
    far from 0 beside it, as moments in seconds are, digits of the distance come before the seven.

    >>> round_floats(pd.DataFrame({"y": [1234.56789012, 0.1 + 0.2]}))["y"].tolist()
    [1234.568, 0.3]
    """
    spread = None
    if target is not None and target.transform == "as it is" and target.spread:
        spread = min(target.spread)

    def round_value(value: float) -> float:
        digits = SIGNIFICANT_DIGITS
        if spread and abs(value) > 10 * spread and math.isfinite(value):
            digits += math.floor(math.log10(abs(value) / spread))
        return float(f"{value:.{digits}g}")

    floats = [n for n in predictions.columns if is_float_dtype(predictions[n].dtype)]
    return predictions.assign(**{n: [round_value(v) for v in predictions[n]] for n in floats})


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a spreadsheet, with an apostrophe before texts and names taken for a formula.

    Such texts begin with =, +, -, @, a tab or a carriage return and are no number nor one sign.

    >>> without_formulas(pd.DataFrame({"a": ["=1+1", "-", "-2", "x"]}))["a"].tolist()
    ["'=1+1", '-', '-2', 'x']
    """
    texts = [n for n in table.columns if is_text(table[n])]
    safe = table.assign(**{n: table[n].map(_without_formula, na_action="ignore") for n in texts})
    return safe.rename(columns=_without_formula)


def _without_formula(value: Any) -> Any:
    if not isinstance(value, str) or not re.match(r"[=+@\t\r-].", value, re.DOTALL):
        return value
    return value if re.fullmatch(r"[+-]\d*\.?\d+(?:[eE][+-]?\d+)?", value) else f"'{value}"


def file_blocks(tables: Iterable[pd.DataFrame], ending: str) -> Iterator[bytes]:
    """A table in blocks as the bytes of a file of that ending: .csv, .parquet or .jsonl."""
    if ending == ".parquet":
        yield from _parquet_bytes(tables)
        return
    for i, table in enumerate(tables):
        if ending == ".jsonl":
            yield table.to_json(orient="records", lines=True).encode()
        else:
            yield without_formulas(table).to_csv(index=False, header=i == 0).encode()


def _parquet_bytes(tables: Iterable[pd.DataFrame]) -> Iterator[bytes]:
    sink = _Sink()
    writer = None
    for table in tables:
        schema = None if writer is None else writer.schema
        block = pa.Table.from_pandas(table, schema, preserve_index=False)
        writer = writer or pq.ParquetWriter(pa.PythonFile(sink, mode="w"), block.schema)
        writer.write_table(block)
        yield sink.take()
    if writer is not None:
        writer.close()
        yield sink.take()


class _Sink(io.RawIOBase):
    """A file that only goes forward; what was written since is taken from it."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.held.append(bytes(data))
        self.size += len(self.held[-1])
        return len(self.held[-1])

    def tell(self) -> int:
        return self.size

    def take(self) -> bytes:
        data = b"".join(self.held)
        self.held.clear()
        return data

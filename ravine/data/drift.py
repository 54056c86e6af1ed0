"""How new rows differ from the training rows: values not learned, numbers far outside, gaps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ravine.data.column_encoders import Codes, Date, Flag, Numeric, OneHot, Text, level_codes
from ravine.data.encoder import Encoder
from ravine.data.parsing import NO_WORDS, YES_WORDS, texts_of
from ravine.data.tables import TableLike, table_from

MAX_COLUMNS_IN_NOTE = 8  # columns that are named in each sentence


def describe_drift(encoder: Encoder, frame: TableLike) -> list[str]:
    """Sentences about values of new rows that are unlike all training rows; none where none are.

    Categories that were not learned; numbers and dates further outside the range of the training
    rows than that range is wide; gaps, which are filled, in columns that had (next to) none.
    `frame` is one that `encoder.apply` takes.
    """
    frame, _ = table_from(frame)
    unknown, far, filled = [], [], []
    for column in encoder.column_encoders:
        values = frame[column.name]
        if isinstance(column, (Numeric, Date)):
            x = column.read(values)
            far += _far_outside(column, x)
            gaps = 0 if column.gaps else int(np.isnan(x).sum())
        elif not isinstance(column, Text):
            missing = values.isna().to_numpy()
            odd = _unknown_values(column, values) & ~missing
            if odd.any():
                texts = texts_of(values[odd])[0]
                others = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
                unknown.append(f"{column.name} in {_count_rows(odd)} ({texts[0][:30]!r}{others})")
            gaps = int((_unknown_values(column, values) & missing).sum())
        else:
            gaps = 0  # a text may have any words, or none
        if gaps:
            filled.append(f"{column.name} in {gaps:,}")
    notes = []
    if unknown:
        notes.append(f"Values that were not learned, taken as unknown: {_join_columns(unknown)}.")
    if far:
        notes.append(f"Numbers far outside the training rows: {_join_columns(far)}.")
    if filled:
        where = f"{_join_columns(filled)} of {len(frame):,} rows"
        notes.append(f"Gaps that training rows hardly had, filled in: {where}.")
    return notes


def _unknown_values(column: Flag | OneHot | Codes, values: pd.Series) -> np.ndarray:
    """Whether each value is one that the column's encoder does not know, [N]."""
    if isinstance(column, Flag):
        texts, codes = texts_of(values)
        return np.array([t.lower() not in NO_WORDS + YES_WORDS for t in texts] + [True])[codes]
    return level_codes(values, column.levels) == 0


def _far_outside(column: Numeric | Date, x: np.ndarray) -> list[str]:
    if not column.scaling.seen:
        return []  # fitted by a version that did not keep the range
    low, high = column.scaling.seen
    width = high - low
    far = (x < low - width) | (x > high + width)
    if not far.any():
        return []
    most = x[far][np.argmax(np.maximum(low - x[far], x[far] - high))]
    shown = [f"{value:,.6g}" for value in (most, low, high)]
    if isinstance(column, Date):
        shown = [str(np.datetime64(int(day), "D")) for day in (most, low, high)]
    rows = _count_rows(far)
    return [f"{column.name} in {rows} (as far as {shown[0]}; learned {shown[1]} to {shown[2]})"]


def _count_rows(found: np.ndarray) -> str:
    return f"{int(found.sum()):,} of {len(found):,} rows"


def _join_columns(found: Sequence[str]) -> str:
    more = len(found) - MAX_COLUMNS_IN_NOTE
    rest = [f"and {more} more columns"] if more > 0 else []
    return "; ".join([*found[:MAX_COLUMNS_IN_NOTE], *rest])

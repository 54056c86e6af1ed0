"""What is read of all rows of a table: odd cells, and values that stand for gaps."""

import dataclasses

import numpy as np
import pandas as pd

from ravine.data.column_encoders import ColumnEncoder, Date, Numeric
from ravine.data.date_styles import without_open_ends
from ravine.data.encoder import Encoder
from ravine.data.targets import Target
from ravine.errors import join_first
from ravine.sentinels import Sentinel, find_sentinels

MAX_ODD_TEXTS = 20  # odd texts of a column that are kept
MAX_LISTED_TEXTS = 3  # in one sentence


def allow_odd_cells(
    encoder: Encoder, table: pd.DataFrame, notes: list[str]
) -> tuple[Encoder, pd.DataFrame]:
    """The encoder that takes texts among the numbers and dates of its table for gaps; and the table
    with numbers in place of their texts, so that these are read once. It knows the sentinels.

    `table` has all rows, not those of the training split alone. What is read as a gap is appended
    to `notes`; so are dates that stand for no end, such as 9999-12-31.
    """
    columns: list[ColumnEncoder] = []
    numbers = {}
    sentinels: list[Sentinel] = []
    for column in encoder.column_encoders:
        if isinstance(column, (Numeric, Date)):
            values = table[column.name]
            found, odd = column.read_cells(values)
            sentinels += find_sentinels(found[:, None], lambda _, name=column.name: name)
            if isinstance(column, Numeric) and column.style not in ("", "days"):
                numbers[column.name] = found
            if odd.any():
                kind = "number" if isinstance(column, Numeric) else "date"
                notes.append(_describe_gaps(values, odd, f"hold no {kind}"))
                texts = values[odd].map(str).value_counts().index[:MAX_ODD_TEXTS]
                column = dataclasses.replace(column, odd_texts=tuple(texts))
            if isinstance(column, Date):
                ends = np.isnan(without_open_ends(found)) & ~np.isnan(found)
                if ends.any():
                    notes.append(_describe_gaps(values, ends, "stand for an open end"))
        columns.append(column)
    sentinels += _find_target_sentinels(encoder.target, table, notes)
    fitted = dataclasses.replace(
        encoder, column_encoders=tuple(columns), sentinels=tuple(sentinels)
    )
    return fitted, table.assign(**numbers)


def _find_target_sentinels(
    target: Target, table: pd.DataFrame, notes: list[str]
) -> tuple[Sentinel, ...]:
    """Those of numbers that are to be predicted, each also a note with its rows."""
    if target.task_type.kind != "regression":
        return ()
    y = target.numbers(table)
    found = find_sentinels(y, target.labels.__getitem__)
    for s in found:
        rows = table.index[y[:, s.place] == s.value]
        shown = join_first([str(row) for row in rows], MAX_LISTED_TEXTS)
        notes.append(
            f"The target {s.where} is {s.value:.6g} in {s.rows:,} of {len(y):,} rows ({shown}), "
            f"{s.distance:.3g} spreads from all others, and is learned as a number: if it stands "
            "for a gap, leave these cells empty."
        )
    return tuple(dataclasses.replace(s, place=-1) for s in found)


def _describe_gaps(values: pd.Series, rows: np.ndarray, why: str) -> str:
    first = values[rows].drop_duplicates()
    named = [f"{str(text)[:30]!r} in row {row}" for row, text in first.items()]
    shown = join_first(named, MAX_LISTED_TEXTS)
    count = f"{rows.sum():,} of {len(values):,} cells"
    return f"{values.name}: {count} {why} and are read as gaps: {shown}."

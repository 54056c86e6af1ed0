"""In what new rows are unlike the rows that were learned from: said where they are predicted, with
counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ravine.data.column_encoders import Date, Flag, Form, Numeric, codes_of
from ravine.data.encoder import Encoder
from ravine.data.parsing import NO, YES, dates_of, numbers_of, texts_of
from ravine.data.tables import TableLike, from_frame

SHOWN = 8  # columns that are named in each sentence


def unlike(encoder: Encoder, frame: TableLike) -> list[str]:
    """Sentences about values of new rows that the encoder has never seen the like of; none where
    all is as it was.

    Categories that were not learned; numbers and dates further outside the range of the training
    rows than that range is wide; gaps in columns that had (next to) none, which are filled. `frame`
    is one that `encoder.apply` takes.
    """
    frame, _ = from_frame(frame)
    unknown, far, filled = [], [], []
    for form in encoder.forms:
        values = frame[form.name]
        if isinstance(form, (Numeric, Date)):
            x = _numbers(form, values)
            far += _far(form, x)
            gaps = 0 if form.gaps else int(np.isnan(x).sum())
        else:
            missing = values.isna().to_numpy()
            odd = _unknown(form, values) & ~missing
            if odd.any():
                texts = texts_of(values[odd])[0]
                others = f" and {len(texts) - 1} more" if len(texts) > 1 else ""
                unknown.append(f"{form.name} in {_rows(odd)} ({texts[0][:30]!r}{others})")
            gaps = int((_unknown(form, values) & missing).sum())
        if gaps:
            filled.append(f"{form.name} in {gaps:,}")
    said = (
        [f"Values that were not learned, taken as unknown: {_listed(unknown)}."] if unknown else []
    )
    said += [f"Numbers far outside the training rows: {_listed(far)}."] if far else []
    if filled:
        said.append(
            f"Gaps that training rows hardly had, filled in: {_listed(filled)} of {len(frame):,} "
            f"rows."
        )
    return said


def _unknown(form: Form, values: pd.Series) -> np.ndarray:
    """Whether each value is none that the form knows, [N]."""
    if isinstance(form, Flag):
        texts, codes = texts_of(values)
        return np.array([t.lower() not in NO + YES for t in texts] + [True])[codes]
    assert not isinstance(form, (Numeric, Date))
    return codes_of(values, form.levels) == 0


def _numbers(form: Numeric | Date, values: pd.Series) -> np.ndarray:
    read = numbers_of if isinstance(form, Numeric) else dates_of
    return read(values, form.name, form.style)


def _far(form: Numeric | Date, x: np.ndarray) -> list[str]:
    if not form.scaling.seen:
        return []  # fitted by a version that did not keep the range
    low, high = form.scaling.seen
    width = high - low
    far = (x < low - width) | (x > high + width)
    if not far.any():
        return []
    most = x[far][np.argmax(np.maximum(low - x[far], x[far] - high))]
    shown = [
        f"{v:,.6g}" if isinstance(form, Numeric) else str(np.datetime64(int(v), "D"))
        for v in (most, low, high)
    ]
    return [f"{form.name} in {_rows(far)} (as far as {shown[0]}; learned {shown[1]} to {shown[2]})"]


def _rows(found: np.ndarray) -> str:
    return f"{int(found.sum()):,} of {len(found):,} rows"


def _listed(found: Sequence[str]) -> str:
    return "; ".join(found[:SHOWN]) + (
        f"; and {len(found) - SHOWN} more columns" if len(found) > SHOWN else ""
    )

"""How predictions are written to a file: beside what tells their rows apart, with the digits that
mean something.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ravine.data.column_types import is_identifier
from ravine.data.encoder import Encoder

SIGNIFICANT_DIGITS = 7  # weights are float32: 24 bits, 7.2 digits


def with_identifiers(
    predictions: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder
) -> pd.DataFrame:
    """Predictions with the columns first that tell their rows apart: identifiers, or the number of
    the row from 0.

    Identifiers are columns that the encoder does not read, are called so, and have another value in
    every row.
    """
    unread = [
        name for name in rows.columns if name not in encoder.columns and name not in predictions
    ]
    found = {
        name: rows[name].to_numpy()
        for name in unread
        if is_identifier(name) and rows[name].notna().all() and rows[name].is_unique
    }
    row = "row" if "row" not in predictions else "row number"
    first = pd.DataFrame(found or {row: np.arange(len(rows))}, index=predictions.index)
    return pd.concat([first, predictions], axis=1)


def round_floats(predictions: pd.DataFrame, digits: int = SIGNIFICANT_DIGITS) -> pd.DataFrame:
    """The same table, its floats rounded to so many significant digits.

    >>> round_floats(pd.DataFrame({"y": [1234.56789012, 0.1 + 0.2]}))["y"].tolist()
    [1234.568, 0.3]
    """
    floats = [
        name for name in predictions.columns if pd.api.types.is_float_dtype(predictions[name].dtype)
    ]
    return predictions.assign(
        **{n: [float(f"{v:.{digits}g}") for v in predictions[n]] for n in floats}
    )

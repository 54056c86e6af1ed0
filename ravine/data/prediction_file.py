"""Predictions as they are written to a file: with identifiers, in digits that mean something."""

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype

from ravine.data.column_types import is_identifier
from ravine.data.encoder import Encoder

SIGNIFICANT_DIGITS = 7  # weights are float32: 24 bits, 7.2 digits


def with_identifiers(
    predictions: pd.DataFrame, rows: pd.DataFrame, encoder: Encoder
) -> pd.DataFrame:
    """Predictions behind what tells their rows apart: identifiers, or the row's number from 0.

    Identifiers are called so, are not read by the encoder, and have another value in every row.
    """
    others = [n for n in rows.columns if n not in encoder.columns and n not in predictions]
    unique = [n for n in others if rows[n].notna().all() and rows[n].is_unique]
    found = {n: rows[n].to_numpy() for n in unique if is_identifier(n)}
    row = "row" if "row" not in predictions else "row number"
    first = pd.DataFrame(found or {row: np.arange(len(rows))}, index=predictions.index)
    return pd.concat([first, predictions], axis=1)


def round_floats(predictions: pd.DataFrame, digits: int = SIGNIFICANT_DIGITS) -> pd.DataFrame:
    """The same table, its floats rounded to so many significant digits.

    >>> round_floats(pd.DataFrame({"y": [1234.56789012, 0.1 + 0.2]}))["y"].tolist()
    [1234.568, 0.3]
    """
    floats = [n for n in predictions.columns if is_float_dtype(predictions[n].dtype)]
    rounded = {n: [float(f"{v:.{digits}g}") for v in predictions[n]] for n in floats}
    return predictions.assign(**rounded)

"""What a column of texts is read as, and what is said of it."""

import pandas as pd

from ravine.data.column_types import infer_column_types, values_of


def read(texts):
    """The numbers in a column of texts, and what is said of it."""
    notes: list[str] = []
    frame = pd.DataFrame({"v": texts})
    (column,), _ = infer_column_types(frame, rows=len(texts), notes=notes)
    assert column.kind == "number"
    return values_of(frame["v"], column), notes

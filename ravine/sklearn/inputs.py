"""What an estimator is given, checked as scikit-learn checks it: features, targets, weights.

Letters: N examples, F features, T targets.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import validate_data

from ravine.data import Target, TaskKind, TaskType, table_from
from ravine.data.frames import column_name

TEXT_AMONG_NUMBERS = (  # in scikit-learn's words
    "dtype='numeric' is not compatible with arrays of bytes/strings. Convert your data to numeric "
    "values explicitly instead."
)
Checked: TypeAlias = tuple[pd.DataFrame, np.ndarray, np.ndarray | None]  # X, y and weights
MULTI_LABEL = "multilabel-indicator"  # as scikit-learn calls a 0/1 matrix of targets


@dataclass(frozen=True)
class CheckedExamples:
    """What is learned from: features, targets [N, T], weights [N], and what the targets ask for."""

    frame: pd.DataFrame
    y: pd.DataFrame
    weights: np.ndarray | None
    kind: TaskKind


def check_examples(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    sample_weight: Any,
    check_targets: Callable[[Any], np.ndarray],
    *,
    reset: bool,
    least: int = 2,
) -> Checked:
    """Features as `check_features` gives them, targets [N] or [N, T], and weights [N] if any.

    Examples of weight 0 are left out; the other weights are divided by their mean.
    """
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"{name} requires y to be passed, but the target y is None")
    frame = check_features(estimator, X, reset=reset, least=least)
    found = check_targets(y)
    check_consistent_length(frame, found)
    if sample_weight is None:
        return frame, found, None
    weights = check_sample_weight(sample_weight, len(found))
    used = weights > 0
    return frame[used], found[used], weights[used] / weights[used].mean()


def check_features(estimator: BaseEstimator, X: Any, *, reset: bool, least: int) -> pd.DataFrame:
    """The features as a frame: mixed columns as they are, else those of a numeric matrix.

    `least` is the number of rows that are needed. With `reset` the estimator remembers the names
    and the number of the features, otherwise they are compared.
    """
    if hasattr(X, "__arrow_c_stream__") and not isinstance(X, pd.DataFrame):
        X, _ = table_from(X)  # of polars, pyarrow, ...
    mixed = isinstance(X, pd.DataFrame) and not all(is_numeric_dtype(t) for t in X.dtypes)
    if mixed and len(X):
        validate_data(estimator, X, reset=reset, skip_check_array=True)  # type: ignore[arg-type]
        return X.reset_index(drop=True).set_axis([column_name(n) for n in X.columns], axis=1)
    # of a frame without columns scikit-learn would ask the types
    features: Any = X.to_numpy() if isinstance(X, pd.DataFrame) and not X.shape[1] else X
    limits: dict[str, Any] = {"ensure_all_finite": "allow-nan", "dtype": np.float64}
    limits["ensure_min_samples"] = least
    given: Any = estimator
    values = np.asarray(validate_data(given, features, reset=reset, **limits))
    if np.isinf(values).any():
        raise ValueError("Input X contains infinity or a value too large for dtype('float64').")
    names = getattr(estimator, "feature_names_in_", [f"x{i}" for i in range(values.shape[1])])
    return pd.DataFrame(values, columns=[column_name(n) for n in names])


def check_classes(y: Any) -> np.ndarray:
    """Classes [N], or labels of 0 and 1 [N, T]. Raises `ValueError` for other targets."""
    y = y.toarray() if sparse.issparse(y) else y
    checked = _check_targets(y)
    if checked.dtype.kind == "O" and pd.isna(checked).any():
        raise ValueError("Input y contains NaN.")
    if checked.dtype.kind == "O" and len({isinstance(v, str) for v in checked.flat}) > 1:
        raise ValueError("Mix of label input types (string and number)")
    check_classification_targets(checked)
    if checked.ndim == 2 and type_of_target(checked) != MULTI_LABEL:
        what = "Multioutput target data is not supported: y must be 1-D, or a matrix of 0 and 1"
        raise ValueError(what)
    return checked


def classes_of(y: np.ndarray) -> np.ndarray:
    """The classes in checked targets [N]; of labels [N, C] their places."""
    return np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)


def check_numbers(y: Any) -> np.ndarray:
    """Targets [N] or [N, T], float64. Raises `ValueError` for gaps, infinities and text."""
    checked = _check_targets(y)
    if checked.dtype.kind not in "biufOUS":
        raise ValueError(f"y must be numbers, and its dtype is {checked.dtype}")
    try:
        if checked.dtype.kind not in "US":  # scikit-learn does not read them either
            return np.asarray(check_array(checked.astype(np.float64), ensure_2d=False))
    except (TypeError, ValueError):
        if checked.dtype.kind != "O":
            raise
    raise ValueError(TEXT_AMONG_NUMBERS)


def _check_targets(y: Any) -> np.ndarray:
    """Targets [N] or [N, T] of any type without gaps; one column [N, 1] is a vector, said so."""
    if isinstance(y, (list, tuple)):
        y = np.asarray(y)
    found: Any = y.isna() if hasattr(y, "isna") else pd.isna(y) if _holds_objects(y) else False
    if np.any(found):
        raise ValueError("Input y contains NaN.")
    limits: dict[str, Any] = {"ensure_2d": False, "dtype": None, "input_name": "y"}
    checked = np.asarray(check_array(y.to_numpy() if hasattr(y, "isna") else y, **limits))
    of_one = checked.ndim == 2 and checked.shape[1] == 1
    return np.asarray(column_or_1d(checked, warn=True)) if of_one else checked


def _holds_objects(y: Any) -> bool:
    return isinstance(y, np.ndarray) and y.dtype.kind == "O"


def check_sample_weight(sample_weight: Any, count: int) -> np.ndarray:
    """Weights [N] that are not all 0; one number stands for all examples."""
    weights = np.asarray(sample_weight, dtype=np.float64)
    weights = np.full(count, weights) if weights.ndim == 0 else weights
    limits: dict[str, Any] = {"ensure_2d": False, "allow_nd": True, "ensure_non_negative": True}
    weights = np.asarray(check_array(weights, **limits, input_name="sample_weight"))
    if weights.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    check_consistent_length(np.empty(count), weights)
    if not weights.any():
        raise ValueError("sample_weight is zero for every example: there is nothing to learn from")
    return weights


def target_frame(y: np.ndarray, given: Any, taken: Collection[str]) -> pd.DataFrame:
    """Checked targets [N] or [N, T] as a frame: their own names where they are given and free."""
    columns = y if y.ndim == 2 else y[:, None]
    count = columns.shape[1]
    own = getattr(given, "columns", None) if y.ndim == 2 else [getattr(given, "name", None)]
    if own is None or any(not isinstance(name, str) for name in own):
        own = ["target"] if count == 1 else [f"target {i}" for i in range(count)]
    used = set(taken)
    names: list[str] = []
    for name in own:
        names.append(free_name(column_name(name), used))
        used.add(names[-1])
    return pd.DataFrame(columns, columns=names)


def task_type_of(
    y: pd.DataFrame, kind: TaskKind, *, classes: int, before: Target | None
) -> TaskType:
    """What targets [N, T] ask for: `classes` classes, labels, or numbers; as in the call before."""
    names = tuple(y.columns)
    if before is None:
        codes = {"labels": names, "regression": ()}.get(kind, tuple(range(classes)))
        return TaskType(kind, names, codes, ("",) * len(names) if kind == "regression" else ())
    known = before.task_type
    if (kind, len(names)) != (known.kind, len(known.names)):
        what = f"y has {len(names)} targets ({kind})"
        raise ValueError(f"{what}, and had {len(known.names)} ({known.kind}) in the last call")
    return known


def free_name(name: str, taken: Collection[str]) -> str:
    """A name that is not taken: itself, or with as many underscores as it needs.

    >>> free_name("target", {"target", "target_"})
    'target__'
    """
    while name in taken:
        name += "_"
    return name


def number_columns(frame: pd.DataFrame, others: Collection[str]) -> tuple[str, ...]:
    """The columns to read as numbers, even if they look like row numbers: they were chosen.

    Columns of 0 and 1 stay flags; `others` are columns declared to be something else.
    """
    numeric = {str(n): x for n, x in frame.items() if is_numeric_dtype(x.dtype)}
    left = [n for n, x in numeric.items() if not x.dropna().isin([0, 1]).all()]
    return tuple(n for n in left if n not in others)

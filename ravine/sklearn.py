"""Ravine's networks as scikit-learn estimators: `NetworkClassifier` and `NetworkRegressor`.

Letters: N examples, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from ravine.catalog import changed, named, with_setting
from ravine.data import Data, Random, Stratified
from ravine.recipe import Recipe
from ravine.training.run import Run, train

TARGET, WEIGHT = "ravine target", "ravine weight"
LEAST_FOR_VALIDATION = 40  # examples: with fewer, all are trained on and nothing stops early
LEAST_OF_A_CLASS = 3  # examples: with fewer, a class cannot be in every split


class _Network(BaseEstimator):
    """What both estimators share. `settings` changes any setting of the recipe, by path: {"optimizer.lr": 0.01}."""

    def __init__(
        self,
        recipe: str | Recipe = "default",
        *,
        settings: Mapping[str, Any] | None = None,
        epochs: int | None = None,
        seeds: int = 8,
        validation: float = 0.15,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "cpu",
        workers: int | None = 1,
    ):
        self.recipe = recipe
        self.settings = settings
        self.epochs = epochs
        self.seeds = seeds
        self.validation = validation
        self.random_state = random_state
        self.device = device
        self.workers = workers

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags

    def _fit(self, frame: pd.DataFrame, y: np.ndarray, sample_weight: Any, *, task: str) -> None:
        frame = frame.assign(**{TARGET: y})
        if sample_weight is not None:
            frame = frame.assign(**{WEIGHT: sample_weight})[sample_weight > 0]
        few = task != "regression" and frame[TARGET].value_counts().min() < LEAST_OF_A_CLASS
        recipe = self._recipe(len(frame), task, few=few, weighted=sample_weight is not None)
        self.run_: Run = train(recipe, frame, device=self.device, workers=self.workers)
        self.record_ = self.run_.record
        self.n_iter_ = max(1, max(m.steps for m in self.record_.members))

    def _recipe(self, count: int, task: Any, *, few: bool, weighted: bool) -> Recipe:
        recipe = named(self.recipe) if isinstance(self.recipe, str) else self.recipe
        validation = self.validation if count >= LEAST_FOR_VALIDATION and not few else 0.0
        if validation == 0:
            recipe = changed(recipe, {"stop": None})
        split = (Random if task == "regression" or few else Stratified)(validation=validation, test=0.0)
        fresh = np.random.RandomState() if self.random_state is None else check_random_state(self.random_state)
        seed = int(fresh.randint(2**31 - 1))
        data = Data(target=(TARGET,), task=task, weight=WEIGHT if weighted else None)
        recipe = recipe.vary("data", data).vary("split", split)
        recipe = recipe.vary("seeds", self.seeds).vary("seed", seed).vary("split_seed", seed)
        if self.epochs is not None:
            recipe = recipe.vary("epochs", self.epochs)
        for path, value in (self.settings or {}).items():
            recipe = with_setting(recipe, f"{path}={value}") if isinstance(value, str) else recipe.vary(path, value)
        return recipe

    def _checked(self, X: Any, y: Any, sample_weight: Any) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        """The features, the target and the weights, each found to be usable."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        frame = self._frame(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_consistent_length(frame, y)
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        if sample_weight is None:
            return frame, y, None
        weights = np.asarray(sample_weight, dtype=np.float64)
        weights = np.full(len(y), float(weights)) if weights.ndim == 0 else weights
        if weights.ndim != 1:
            raise ValueError("Sample weights must be 1D array or scalar")
        check_consistent_length(frame, weights)
        if not (weights > 0).any():
            raise ValueError("sample_weight is zero for every example: there is nothing to learn from")
        return frame, y, weights

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """The features as a frame. Mixed frames keep their columns; everything else must be a numeric matrix."""
        if isinstance(X, pd.DataFrame) and not all(pd.api.types.is_numeric_dtype(t) for t in X.dtypes):
            validate_data(self, X, reset=reset, skip_check_array=True)  # type: ignore[arg-type]
            return X.reset_index(drop=True).rename(columns=str)
        limits = {"ensure_all_finite": "allow-nan", "dtype": np.float64, "ensure_min_samples": 2 if reset else 1}
        values = np.asarray(validate_data(self, X, reset=reset, **limits))
        if np.isinf(values).any():
            raise ValueError("Input X contains infinity or a value too large for dtype('float64').")
        names = getattr(self, "feature_names_in_", None)
        names = [f"x{i}" for i in range(values.shape[1])] if names is None else [str(n) for n in names]
        return pd.DataFrame(values, columns=names)

    def _averaged(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        frame = self._frame(X, reset=False)
        model = self.run_.model
        if model is None:
            raise ValueError("every network diverged: fit with a smaller optimizer.lr")
        return model.averaged_on(frame)


class NetworkClassifier(ClassifierMixin, _Network):
    """A classifier: the mean of the probabilities of several networks trained as one batch.

    Parameters: `recipe` (a name or a `Recipe`), `settings` (changes by path), `epochs`, `seeds` (how many networks),
    `validation` (the share kept for early stopping; none below 40 examples), `random_state`, `device`, `workers`.
    Frames may have categories, dates and gaps. After fitting: `classes_`, `run_`, `record_`, `n_iter_`.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(NetworkClassifier(epochs=30, seeds=2).fit(X, y).score(X, y) > 0.8)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetworkClassifier:
        frame, y, weights = self._checked(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        counted = codes if weights is None else codes[weights > 0]
        if len(np.unique(counted)) < 2:
            raise ValueError(f"NetworkClassifier needs at least 2 classes; y has one class: {self.classes_[0]!r}")
        task = "binary" if len(self.classes_) == 2 else "classes"
        self._fit(frame, codes, weights, task=task)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C], in the order of `classes_`."""
        return self._averaged(X)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each example, [N]."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]


class NetworkRegressor(RegressorMixin, _Network):
    """A regressor: the mean of the predictions of several networks trained as one batch.

    Parameters and attributes as `NetworkClassifier`; the target is standardized on the training split by itself.

    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> bool(NetworkRegressor(epochs=20, seeds=2).fit(X, y).score(X, y) > 0.3)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NetworkRegressor:
        frame, y, weights = self._checked(X, y, sample_weight)
        y = np.asarray(y, dtype=np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        self._fit(frame, y, weights, task="regression")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The prediction for each example, [N], in the target's units."""
        return self._averaged(X).reshape(-1)

"""Ravine's networks as scikit-learn estimators: `NetworkClassifier` and `NetworkRegressor`.

Letters: N examples, F features, C classes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ravine.catalog import named_recipe
from ravine.data import Data, Random, Stratified
from ravine.errors import RecipeError
from ravine.recipe import Recipe
from ravine.recipe_files import with_settings
from ravine.training.run import Run
from ravine.training.train import train

TARGET_COLUMN = "ravine target"
WEIGHT_COLUMN = "ravine weight"
MIN_EXAMPLES_FOR_VALIDATION = 40  # examples: with fewer, all are trained on and nothing stops early
MIN_EXAMPLES_OF_CLASS = 3  # examples: with fewer, a class cannot be in every split


class _Network(BaseEstimator):
    """The base of both estimators: parameters, checks of the data, training."""

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
        tags.input_tags.categorical = True
        return tags

    def _fit(
        self,
        frame: pd.DataFrame,
        y: np.ndarray,
        weights: np.ndarray | None,
        task: Literal["binary", "classes", "regression"],
    ) -> None:
        """Train on checked features, and targets that are numbers or class codes."""
        few = task != "regression" and np.bincount(y).min() < MIN_EXAMPLES_OF_CLASS
        validation = 0.0 if few or len(y) < MIN_EXAMPLES_FOR_VALIDATION else self.validation
        columns = {TARGET_COLUMN: y}
        weight = None
        if weights is not None:
            weight = WEIGHT_COLUMN
            columns[weight] = weights
        numbers = self._numbers(frame)
        data = Data(
            target=(TARGET_COLUMN,), task=task, weight=weight, numbers=numbers, min_class_rows=1
        )
        split = Random if task == "regression" or few else Stratified
        recipe = self._recipe(data, split(validation=validation, test=0.0))
        self.run_: Run = train(
            recipe,
            frame.assign(**columns),
            device=self.device,
            workers=self.workers,
            baseline=False,
        )
        self.record_ = self.run_.record
        self.n_iter_ = max(1, max(m.steps for m in self.record_.members))

    def _recipe(self, data: Data, split: Random | Stratified) -> Recipe:
        """The recipe with the estimator's parameters; `settings` are applied last."""
        recipe = named_recipe(self.recipe) if isinstance(self.recipe, str) else self.recipe
        if not isinstance(recipe, Recipe):
            raise TypeError(f"recipe is {recipe!r}: it must be the name of a recipe, or a Recipe")
        if split.validation == 0:
            recipe = recipe.vary("stop", None)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        drawn = {"seeds": self.seeds, "seed": seed, "split_seed": seed}
        recipe = replace(recipe, data=data, split=split, **drawn)
        recipe = recipe if self.epochs is None else recipe.vary("epochs", self.epochs)
        for path, value in (self.settings or {}).items():
            try:
                if isinstance(value, str):
                    recipe = with_settings(recipe, f"{path}={value}")
                else:
                    recipe = recipe.vary(path, value)
            except RecipeError as error:
                error.where = f"settings[{path!r}]"
                raise
        return recipe

    def _numbers(self, frame: pd.DataFrame) -> tuple[str, ...]:
        """The columns to read as numbers, even if they look like row numbers: they were chosen.

        Columns of 0 and 1 stay flags.
        """
        categories = (self.settings or {}).get("data.categories", ())
        numeric = {str(n): x for n, x in frame.items() if is_numeric_dtype(x.dtype)}
        others = {name: x for name, x in numeric.items() if name not in categories}
        return tuple(n for n, x in others.items() if not x.dropna().isin([0, 1]).all())

    def _check_training_data(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        """Checked features, targets and weights of the examples with a weight above 0.

        Weights are divided by their mean, so that only their ratios matter.
        """
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        frame = self._frame(X, reset=True)
        y = column_or_1d(y, warn=True)
        check_consistent_length(frame, y)
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        if sample_weight is None:
            return frame, y, None
        weights = np.asarray(sample_weight, dtype=np.float64)
        weights = np.full(len(y), weights) if weights.ndim == 0 else weights
        limits: dict[str, Any] = {"ensure_2d": False, "allow_nd": True, "ensure_non_negative": True}
        weights = np.asarray(check_array(weights, **limits, input_name="sample_weight"))
        if weights.ndim != 1:
            raise ValueError("Sample weights must be 1D array or scalar")
        check_consistent_length(frame, weights)
        used = weights > 0
        if not used.any():
            what = "sample_weight is zero for every example: there is nothing to learn from"
            raise ValueError(what)
        return frame[used], y[used], weights[used] / weights[used].mean()

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """The features as a frame: mixed columns as they are, else those of a numeric matrix."""
        mixed = isinstance(X, pd.DataFrame) and not all(is_numeric_dtype(t) for t in X.dtypes)
        if mixed and len(X):
            validate_data(self, X, reset=reset, skip_check_array=True)  # type: ignore[arg-type]
            return X.reset_index(drop=True).rename(columns=_name)
        limits: dict[str, Any] = {"ensure_all_finite": "allow-nan", "dtype": np.float64}
        limits["ensure_min_samples"] = 2 if reset else 1
        values = np.asarray(validate_data(self, X, reset=reset, **limits))  # type: ignore[arg-type]
        if np.isinf(values).any():
            raise ValueError("Input X contains infinity or a value too large for dtype('float64').")
        names = getattr(self, "feature_names_in_", [f"x{i}" for i in range(values.shape[1])])
        return pd.DataFrame(values, columns=[_name(n) for n in names])

    def _mean_prediction(self, X: Any) -> np.ndarray:
        """The mean prediction of the networks, [N, C]."""
        check_is_fitted(self)
        frame = self._frame(X, reset=False)
        if self.run_.model is None:
            raise ValueError("every network diverged: fit with a smaller optimizer.lr")
        return self.run_.model.decoded_prediction(frame)


def _name(column: Any) -> str:
    return str(column).strip()  # as reading tables does


class NetworkClassifier(ClassifierMixin, _Network):
    """A classifier: the mean of the probabilities of several networks trained as one batch.

    X is a numeric array, or a DataFrame that may also hold categories, text, dates and flags; gaps
    are welcome in both. Features are scaled by themselves, on the examples trained on.

    Parameters
    ----------
    recipe : str or Recipe, default="default"
        What to start from. Its data and its split are replaced by X, y and `validation`.
    settings : mapping, default=None
        Changes of the recipe by path, made last:
        ``{"optimizer.lr": 0.01, "network.hidden": (64,)}``.
    epochs : int, default=None
        Passes over the examples; None chooses by their number.
    seeds : int, default=8
        How many networks.
    validation : float, default=0.15
        The share of the examples kept for early stopping; none below 40 examples, or 3 of a class.
    random_state : int, RandomState or None, default=0
        What starts, orders and the validation split are drawn from. On one machine, equal states
        give equal networks.
    device : str, default="cpu"
        Where to train, as torch names it.
    workers : int or None, default=1
        Processes; None is one per core where that pays. Leave it at 1 within searches that use
        processes themselves.

    Attributes
    ----------
    classes_ : array of shape (C,)
        The classes, sorted. A class whose examples all have weight 0 is not among them.
    run_, record_ : Run, Record
        What was trained, and what happened in it.
    n_iter_ : int
        Steps of the network that made most.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(NetworkClassifier(epochs=30, seeds=2).fit(X, y).score(X, y) > 0.8)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X [N, F], classes y [N]. Raises `ValueError` or `TypeError` for bad data."""
        frame, y, weights = self._check_training_data(X, y, sample_weight)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"NetworkClassifier needs at least 2 classes; y has one class: {self.classes_[0]!r}"
            )
        self._fit(frame, codes, weights, "binary" if len(self.classes_) == 2 else "classes")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C], in the order of `classes_`."""
        return self._mean_prediction(X)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each example, [N]."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]


class NetworkRegressor(RegressorMixin, _Network):
    """A regressor: the mean of the predictions of several networks that are trained as one batch.

    Parameters and attributes are those of `NetworkClassifier`, but for `classes_`. The target is
    standardized by itself, on the examples trained on; predictions are in its own units.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> bool(NetworkRegressor(epochs=20, seeds=2).fit(X, y).score(X, y) > 0.3)
    True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X [N, F], numbers y [N]. Raises `ValueError` or `TypeError` for bad data."""
        frame, y, weights = self._check_training_data(X, y, sample_weight)
        y = y.astype(np.float64)
        if not np.isfinite(y).all():
            raise ValueError("Input y contains NaN or infinity.")
        self._fit(frame, y, weights, "regression")
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The prediction for each example, [N], in the target's units."""
        return self._mean_prediction(X)[:, 0]

"""Networks as scikit-learn estimators: `fit`, `partial_fit`, `predict`, `predict_proba`, `score`.

Letters: N examples, F features, C classes or labels, T targets.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from ravine.data import (
    Data,
    ImageEncoder,
    Random,
    Stratified,
    Task,
    TaskKind,
    TaskType,
    task_of_rows,
)
from ravine.recipe import Recipe
from ravine.sklearn import inputs, parameters
from ravine.training.cohort import InitialState
from ravine.training.defaults import resolve
from ravine.training.model import Model
from ravine.training.run import Run
from ravine.training.train import train_on
from ravine.training.warm_start import initial_state_of, train_from

MIN_EXAMPLES_FOR_VALIDATION = 40  # examples: with fewer, all are trained on and nothing stops early
MIN_EXAMPLES_OF_CLASS = 3  # examples: with fewer, a class cannot be in every split


class _Network(BaseEstimator):
    """The base of both estimators: parameters, training, and going on from the last weights."""

    run_: Run  # of the last call
    _end: InitialState | None  # where the networks stand after it, for the next pass

    def __init__(
        self,
        recipe: str | Recipe = "default",
        *,
        lr: float | None = None,
        hidden: int | Sequence[int] | None = None,
        dropout: float | None = None,
        weight_decay: float | None = None,
        batch: int | Literal["all"] | None = None,
        epochs: int | None = None,
        settings: Mapping[str, Any] | None = None,
        seeds: int = 8,
        validation: float = 0.15,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "cpu",
        workers: int | None = 1,
    ):
        self.recipe = recipe
        self.lr = lr
        self.hidden = hidden
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.batch = batch
        self.epochs = epochs
        self.settings = settings
        self.seeds = seeds
        self.validation = validation
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.workers = workers

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Pickles from before a parameter was there have its default."""
        super().__setstate__({**type(self)().get_params(deep=False), **state})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags

    @property
    def _model(self) -> Model:
        """The fitted model. Raises `NotFittedError`, and `ValueError` where all diverged."""
        check_is_fitted(self)
        if self.run_.model is None:
            raise ValueError("every network diverged: fit with a smaller lr")
        return self.run_.model

    def _prepare(
        self, X: Any, y: Any, sample_weight: Any, check: Callable[[Any], np.ndarray], passing: bool
    ) -> tuple[Model | None, pd.DataFrame, np.ndarray, np.ndarray | None]:
        """The model to go on from, if any; checked features, targets [N] or [N, T] and weights.

        Examples of weight 0 are left out; the other weights are divided by their mean.
        """
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None")
        last = None
        if hasattr(self, "run_") and (passing or self.warm_start):
            last = self._model if passing else self.run_.model
        least = 1 if passing and last is not None else 2
        frame = inputs.check_features(self, X, reset=last is None, least=least)
        found = check(y)
        check_consistent_length(frame, found)
        if sample_weight is None:
            return last, frame, found, None
        weights = inputs.check_sample_weight(sample_weight, len(found))
        used = weights > 0
        return last, frame[used], found[used], weights[used] / weights[used].mean()

    def _train(
        self,
        last: Model | None,
        frame: pd.DataFrame,
        y: pd.DataFrame,
        weights: np.ndarray | None,
        *,
        kind: TaskKind,
        passing: bool,
    ) -> Self:
        """Train on checked features, targets [N, T] and weights, from the last model if any.

        In `passing` once over the examples, from where the last call ended.
        """
        of_classes = kind in ("binary", "classes")
        few = passing or len(y) < MIN_EXAMPLES_FOR_VALIDATION
        few = few or (of_classes and np.bincount(y.iloc[:, 0]).min() < MIN_EXAMPLES_OF_CLASS)
        split = Stratified if of_classes and not few else Random
        recipe = self._recipe(split(validation=0.0 if few else self.validation, test=0.0))
        recipe = parameters.for_one_pass(recipe) if passing else recipe
        recipe, task = self._task(recipe, frame, y, weights=weights, kind=kind, last=last)
        end = None
        if last is None and not passing:
            (self.run_,) = train_on([task], [recipe], device=self.device, workers=self.workers)
        else:
            start = InitialState() if last is None else initial_state_of(last, recipe)
            start = getattr(self, "_end", None) or start if passing else start
            self.run_, end = train_from(recipe, task, start, device=self.device)
        self._end = end if passing else None
        self.record_ = self.run_.record
        self.n_iter_ = max(1, max(m.steps for m in self.record_.members))
        return self

    def _mean_prediction(self, X: Any) -> np.ndarray:
        """The mean prediction of the networks, [N, C]."""
        model = self._model
        return model.decoded_prediction(inputs.check_features(self, X, reset=False, least=1))

    @property
    def _target(self) -> TaskType:
        return self._model.encoder.target.task_type

    def _recipe(self, split: Random | Stratified) -> Recipe:
        """The recipe with the estimator's parameters; `settings` are applied last."""
        if not isinstance(self.warm_start, (bool, np.bool_)):
            raise ValueError(f"warm_start is {self.warm_start!r}: it must be True or False")
        recipe = parameters.recipe_to_start_from(self.recipe)
        if split.validation == 0:
            recipe = recipe.vary("stop", None)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        drawn = {"seeds": self.seeds, "seed": seed, "split_seed": seed}
        recipe = replace(recipe, data=Data(min_class_rows=1), split=split, **drawn)
        flat = {name: getattr(self, name) for name in parameters.FLAT_PARAMETERS}
        recipe = parameters.with_parameters(recipe, flat)
        return parameters.with_changes_by_path(recipe, self.settings)

    def _task(
        self,
        recipe: Recipe,
        frame: pd.DataFrame,
        y: pd.DataFrame,
        *,
        weights: np.ndarray | None,
        kind: TaskKind,
        last: Model | None,
    ) -> tuple[Recipe, Task]:
        """The resolved recipe, and the task: encoded as that of the last model, if any."""
        encoder = None if last is None else last.encoder
        assert not isinstance(encoder, ImageEncoder)
        before = None if encoder is None else encoder.target
        classes = len(getattr(self, "classes_", ()))
        task_type = inputs.task_type_of(y, kind, classes=classes, before=before)
        columns = dict(zip(task_type.names, y.to_numpy().T, strict=True))
        weight = None
        if weights is not None:
            weight = inputs.free_name("weight", [*map(str, frame), *task_type.names])
            columns[weight] = weights
        own: Any = recipe  # annotated by protocols, of which `task_of_rows` knows the parts
        data = own.data
        numbers = data.numbers
        if encoder is None and not numbers:
            numbers = inputs.number_columns(frame, data.categories + data.texts)
        data = replace(data, target=task_type.names, task=kind, weight=weight, numbers=numbers)
        task = task_of_rows(
            frame.assign(**columns),
            task_type,
            data,
            own.split,
            own.encoding,
            seed=recipe.split_seed,
            encoder=encoder,
        )
        recipe = replace(recipe, data=data)
        count = task.train.count
        if isinstance(recipe.batch, int) and recipe.batch > count:
            text = f"batch is {recipe.batch} and {count} examples are trained on: all are in one"
            warnings.warn(text, stacklevel=4)
            recipe = replace(recipe, batch=count)
        return resolve(recipe, task), task


class NetworkClassifier(ClassifierMixin, _Network):
    """A classifier: the mean of the probabilities of several networks trained as one batch.

    X is a numeric array, or a DataFrame that may also hold categories, text, dates and flags; gaps
    are welcome in both. Features are scaled by themselves, on the examples trained on. y holds
    classes, [N], or labels: a matrix of 0 and 1, [N, C].

    Parameters
    ----------
    recipe : str or Recipe, default="default"
        What to start from. Its data and its split are replaced by X, y and `validation`.
    lr : float, default=None
        The learning rate. Here and below, None is what the recipe says.
    hidden : int or sequence of int, default=None
        The widths of the hidden layers.
    dropout : float, default=None
        The probability with which units are left out in training.
    weight_decay : float, default=None
        How much the optimizer shrinks weights.
    batch : int or "all", default=None
        Examples in a batch.
    epochs : int, default=None
        Passes over the examples; None chooses by their number.
    settings : mapping, default=None
        Changes of the recipe by path, made last:
        ``{"optimizer.beta2": 0.99, "network.activation": "Tanh"}``.
    seeds : int, default=8
        How many networks.
    validation : float, default=0.15
        The share of the examples kept for early stopping; none below 40 examples, or 3 of a class.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights and the encoding of the last call.
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
        The classes, sorted. A class whose examples all have weight 0 is not among them. For labels
        their places.
    run_, record_ : Run, Record
        What was trained in the last call, and what happened in it.
    n_iter_ : int
        Steps of the network that made most; those of all calls of `partial_fit`.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(NetworkClassifier(epochs=30, seeds=2).fit(X, y).score(X, y) > 0.8)
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X [N, F] and classes y [N], or labels [N, C].

        Raises `ValueError` or `TypeError` for bad data and parameters.
        """
        return self._fit(X, y, sample_weight, passing=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One pass over X [N, F] and y [N] or [N, C], from the weights of the last call.

        `classes` are those of all calls, and needed in the first. The encoding of the first call's
        X stays; the learning rate is `lr` throughout.
        """
        return self._fit(X, y, sample_weight, passing=True, given=classes)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C], in the order of `classes_`; those of labels are independent."""
        return self._mean_prediction(X)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each example, [N]; for labels 0 or 1, [N, C]."""
        found = self.predict_proba(X)
        if self._target.kind == "labels":
            return (found > 0.5).astype(np.int64)
        return self.classes_[found.argmax(1)]

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, passing: bool, given: Any = None) -> Self:
        last, frame, found, weights = self._prepare(
            X, y, sample_weight, inputs.check_classes, passing
        )
        of_labels = found.ndim == 2
        own = np.arange(found.shape[1]) if of_labels else np.unique(found)
        classes = self._classes_of_calls(own, given, last) if passing else own
        if last is not None and not passing and not np.array_equal(classes, self.classes_):
            what = "warm_start can only be used where `y` has the same classes as in the last call"
            raise ValueError(f"{what}: it had {self.classes_}, and now {classes}")
        if len(classes) < 2:
            what = "NetworkClassifier needs at least 2 classes; y has one class"
            raise ValueError(f"{what}: {classes[0]}")
        self.classes_ = classes
        kind = "labels" if of_labels else "binary" if len(classes) == 2 else "classes"
        codes = found.astype(np.int64) if of_labels else np.searchsorted(classes, found)
        targets = inputs.target_frame(codes, y, frame.columns)
        return self._train(last, frame, targets, weights, kind=kind, passing=passing)

    def _classes_of_calls(self, own: np.ndarray, given: Any, last: Model | None) -> np.ndarray:
        """The classes of all calls of `partial_fit`; those of this one must be among them."""
        if last is None and given is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        classes = self.classes_ if given is None else np.unique(given)
        if last is not None and not np.array_equal(classes, self.classes_):
            what = f"`classes={given!r}` is not the same as on last call to partial_fit"
            raise ValueError(f"{what}, was: {self.classes_!r}")
        odd = np.setdiff1d(own, classes)
        if len(odd):
            raise ValueError(f"`y` has classes not in `self.classes_`: {odd}, not in {classes}")
        return classes


class NetworkRegressor(RegressorMixin, _Network):
    """A regressor: the mean of the predictions of several networks that are trained as one batch.

    Parameters and attributes are those of `NetworkClassifier`, but for `classes_`. y holds numbers,
    [N] or, for several targets, [N, T]. Each target is standardized by itself, on the examples
    trained on; predictions are in its own units.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> bool(NetworkRegressor(epochs=20, seeds=2).fit(X, y).score(X, y) > 0.3)
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on X [N, F] and numbers y [N] or [N, T].

        Raises `ValueError` or `TypeError` for bad data and parameters.
        """
        return self._fit(X, y, sample_weight, passing=False)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One pass over X [N, F] and y [N] or [N, T], from the weights of the last call.

        The encoding of the first call's X and y stays; the learning rate is `lr` throughout.
        """
        return self._fit(X, y, sample_weight, passing=True)

    def predict(self, X: Any) -> np.ndarray:
        """The prediction for each example in the target's units, [N], or [N, T]."""
        found = self._mean_prediction(X)
        return found[:, 0] if found.shape[1] == 1 else found

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, passing: bool) -> Self:
        last, frame, found, weights = self._prepare(
            X, y, sample_weight, inputs.check_numbers, passing
        )
        targets = inputs.target_frame(found, y, frame.columns)
        same = np.flatnonzero((found == found[:1]).reshape(len(found), -1).all(0))
        if last is None and len(same):
            name = "y" if found.ndim == 1 else f"y[:, {same[0]}]"
            value = f"{targets.iloc[0, same[0]]:g} in every row"
            raise ValueError(f"{name} is {value}: there is nothing to learn")
        return self._train(last, frame, targets, weights, kind="regression", passing=passing)

"""Networks as scikit-learn estimators: `fit`, `partial_fit`, `predict`, `predict_proba`, `score`.

Letters: N examples, F features, C classes or labels, T targets.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ravine.data import Data, ImageEncoder, Random, Stratified, Task, task_of_rows
from ravine.recipe import Recipe
from ravine.sklearn import inputs, parameters
from ravine.sklearn.inputs import CheckedExamples
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

    def _fit(self, given: CheckedExamples, last: Model | None) -> Self:
        """Train for all epochs, from the last model if any."""
        y, of_classes = given.y, given.kind in ("binary", "classes")
        few = len(y) < MIN_EXAMPLES_FOR_VALIDATION
        few = few or (of_classes and np.bincount(y.iloc[:, 0]).min() < MIN_EXAMPLES_OF_CLASS)
        split = Stratified if of_classes and not few else Random
        recipe = self._recipe(split(validation=0.0 if few else self.validation, test=0.0))
        recipe, task = self._task(recipe, given, last)
        if last is None:
            (run,) = train_on([task], [recipe], device=self.device, workers=self.workers)
        else:
            start = initial_state_of(last, recipe)
            run, _ = train_from(recipe, task, start, device=self.device)
        return self._keep(run, None)

    def _pass(self, given: CheckedExamples, last: Model | None) -> Self:
        """Train once over the examples, from where the last call ended."""
        recipe = parameters.for_one_pass(self._recipe(Random(validation=0.0, test=0.0)))
        recipe, task = self._task(recipe, given, last)
        start = InitialState() if last is None else initial_state_of(last, recipe)
        start = getattr(self, "_end", None) or start
        return self._keep(*train_from(recipe, task, start, device=self.device))

    def _keep(self, run: Run, end: InitialState | None) -> Self:
        self.run_, self.record_, self._end = run, run.record, end
        self.n_iter_ = max(1, max(m.steps for m in run.record.members))
        return self

    def _mean_prediction(self, X: Any) -> np.ndarray:
        """The mean prediction of the networks, [N, C]."""
        model = self._model
        return model.decoded_prediction(inputs.check_features(self, X, reset=False, least=1))

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
        self, recipe: Recipe, given: CheckedExamples, last: Model | None
    ) -> tuple[Recipe, Task]:
        """The resolved recipe, and the task: encoded as that of the last model, if any."""
        encoder = None if last is None else last.encoder
        assert not isinstance(encoder, ImageEncoder)
        before = None if encoder is None else encoder.target
        frame, y, kind = given.frame, given.y, given.kind
        classes = len(getattr(self, "classes_", ()))
        task_type = inputs.task_type_of(y, kind, classes=classes, before=before)
        columns = dict(zip(task_type.names, y.to_numpy().T, strict=True))
        weight = None
        if given.weights is not None:
            weight = inputs.free_name("weight", [*map(str, frame), *task_type.names])
            columns[weight] = given.weights
        own: Any = recipe  # annotated by protocols, of which `task_of_rows` knows the parts
        data = own.data
        numbers = data.numbers
        if encoder is None and not numbers:
            numbers = inputs.number_columns(frame, data.categories + data.texts)
        data = replace(data, target=task_type.names, task=kind, weight=weight, numbers=numbers)
        table, seed = frame.assign(**columns), recipe.split_seed
        parts = data, own.split, own.encoding
        task = task_of_rows(table, task_type, *parts, seed=seed, encoder=encoder)
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
        last = self.run_.model if self.warm_start and hasattr(self, "run_") else None
        checked = inputs.check_examples(
            self, X, y, sample_weight, inputs.check_classes, reset=last is None
        )
        classes = inputs.classes_of(checked[1])
        if last is not None and not np.array_equal(classes, self.classes_):
            what = "warm_start can only be used where `y` has the same classes as in the last call"
            raise ValueError(f"{what}: it had {self.classes_}, and now {classes}")
        return self._fit(self._with_codes(checked, y, classes), last)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One pass over X [N, F] and y [N] or [N, C], from the weights of the last call.

        `classes` are those of all calls, and needed in the first. The encoding of the first call's
        X stays; the learning rate is `lr` throughout.
        """
        last = self._model if hasattr(self, "run_") else None
        least = 2 if last is None else 1
        checked = inputs.check_examples(
            self, X, y, sample_weight, inputs.check_classes, reset=last is None, least=least
        )
        classes = self._classes_of_calls(inputs.classes_of(checked[1]), classes, last)
        return self._pass(self._with_codes(checked, y, classes), last)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C], in the order of `classes_`; those of labels are independent."""
        return self._mean_prediction(X)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each example, [N]; for labels 0 or 1, [N, C]."""
        found = self.predict_proba(X)
        if self._model.encoder.target.task_type.kind == "labels":
            return (found > 0.5).astype(np.int64)
        return self.classes_[found.argmax(1)]

    def _with_codes(self, checked: inputs.Checked, y: Any, classes: np.ndarray) -> CheckedExamples:
        """Keeps the classes, and gives targets as their places; those of labels are 0 and 1."""
        frame, found, weights = checked
        if len(classes) < 2:
            what = "NetworkClassifier needs at least 2 classes; y has one class"
            raise ValueError(f"{what}: {classes[0]}")
        self.classes_ = classes
        of_labels = found.ndim == 2
        kind = "labels" if of_labels else "binary" if len(classes) == 2 else "classes"
        codes = found.astype(np.int64) if of_labels else np.searchsorted(classes, found)
        return CheckedExamples(frame, inputs.target_frame(codes, y, frame.columns), weights, kind)

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
        last = self.run_.model if self.warm_start and hasattr(self, "run_") else None
        return self._fit(self._check_numbers(X, y, sample_weight, last, least=2), last)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One pass over X [N, F] and y [N] or [N, T], from the weights of the last call.

        The encoding of the first call's X and y stays; the learning rate is `lr` throughout.
        """
        last = self._model if hasattr(self, "run_") else None
        least = 2 if last is None else 1
        return self._pass(self._check_numbers(X, y, sample_weight, last, least=least), last)

    def predict(self, X: Any) -> np.ndarray:
        """The prediction for each example in the target's units, [N], or [N, T]."""
        found = self._mean_prediction(X)
        return found[:, 0] if found.shape[1] == 1 else found

    def _check_numbers(
        self, X: Any, y: Any, sample_weight: Any, last: Model | None, *, least: int
    ) -> CheckedExamples:
        frame, found, weights = inputs.check_examples(
            self, X, y, sample_weight, inputs.check_numbers, reset=last is None, least=least
        )
        targets = inputs.target_frame(found, y, frame.columns)
        same = np.flatnonzero((found == found[:1]).reshape(len(found), -1).all(0))
        if last is None and len(same):
            name = "y" if found.ndim == 1 else f"y[:, {same[0]}]"
            value = f"{targets.iloc[0, same[0]]:g} in every row"
            raise ValueError(f"{name} is {value}: there is nothing to learn")
        return CheckedExamples(frame, targets, weights, "regression")

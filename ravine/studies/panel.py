"""The panel: the rows on which all choices are scored, one network at a time.

Letters: S seeds, N rows, C outputs, B bootstrap samples of the rows.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ravine import metrics
from ravine.data import Examples, Task
from ravine.errors import InputError, RecipeError, first_line
from ravine.metrics import Metric, resampled_values
from ravine.recipe import Recipe
from ravine.record import Member
from ravine.studies.verdict import REFERENCE_NAMES
from ravine.training.model import Model
from ravine.training.run import Run
from ravine.training.scores import predict_baselines
from ravine.training.tree_baseline import encoded_columns

HOPELESS_R2 = 1e3  # below 0 by more: a failure
TARGET_ROUNDING = 1e-9  # 0.95 may be 0.9499999999999


Scores: TypeAlias = tuple[float, ...]


class Scored(NamedTuple):
    """A choice's score for each seed, NaN where it failed; the scores in samples of rows [B, S];
    the seconds to train it once; the scores on the validation split.
    """

    scores: Scores
    samples: np.ndarray
    seconds: float = math.nan
    validation: Scores = ()


@dataclass(frozen=True)
class Panel:
    """The metric, the held-out rows of a split, and their true answers, decoded."""

    task: Task
    metric: Metric
    split: str
    held_out: Examples
    truth: Tensor
    notes: tuple[str, ...] = ()

    def score_run(self, run: Run, task: Task) -> Scored:
        """The score of each network of a run, on this panel's rows as its own task encodes them."""
        members, name = run.record.members, self.metric.name
        found = self._with_samples(self._predict(run.model, task), _ended_well(members))
        return found._replace(validation=tuple(m.validation.get(name, math.nan) for m in members))

    def score_members(self, members: Sequence[Member], model: Model | None, task: Task) -> Scores:
        """The score of each network, NaN where it failed."""
        return tuple(self._score(self._predict(model, task), _ended_well(members))[0].tolist())

    def _predict(self, model: Model | None, task: Task) -> Tensor | None:
        if model is None:
            return None
        rows = getattr(task, self.split).to(model.weights.device, torch.float64)
        return task.encoder.target.decode(model.member_predictions(rows).cpu())

    def steps_to(self, target: float, run: Run) -> Scores:
        """After how many steps the validation score of each network first was as good as a target;
        NaN where it never was, or the network diverged.
        """
        if run.model is None:
            return (math.nan,) * len(run.record.members)
        target = self.encoded(target)
        series = run.record.series[f"validation/{self.metric.name}"]
        ahead = series.values - target if self.metric.higher_is_better else target - series.values
        reached = ahead >= -TARGET_ROUNDING * abs(target)
        reached &= _ended_well(run.record.members)
        steps = np.where(reached.any(0), series.steps[reached.argmax(0)], math.nan)
        return tuple(steps.tolist())

    def encoded(self, score: float) -> float:
        """A score as the series of a training have it: there numbers are encoded."""
        encoding = self.task.encoder.target
        if self.task.kind != "regression" or encoding.transform == "as it is":
            if self.task.kind != "regression" or self.metric is metrics.R2:
                return score
            if encoding.outputs == 1:
                return score / encoding.spread[0]
        what = f"a target for {self.metric.name} in the units of the table"
        why = "scores during training are of numbers on several scales or of logarithms"
        raise InputError(what, why=why, do="leave target out")

    def check_estimator(self, name: str, estimator: Any) -> None:
        """Raise `InputError` for a regressor where targets are classes, or the other way round."""
        from sklearn.base import is_classifier, is_regressor

        of_classes = self.task.kind in ("binary", "classes")
        if is_regressor(estimator) if of_classes else is_classifier(estimator):
            why = f"the targets are {'classes' if of_classes else 'numbers'}"
            do = f"use a {'classifier' if of_classes else 'regressor'} of scikit-learn"
            raise InputError(f"the choice {name!r} is for other targets", why=why, do=do)

    def score_estimator(self, name: str, estimator: Any, *, seed: int, count: int) -> Scored:
        """The score of a scikit-learn estimator for each seed, fitted to the training rows.

        It gets the columns as networks do, as a table with their names. One that takes no
        `random_state` is fitted once. Raises `InputError` where it cannot be fitted.
        """
        from sklearn.base import clone
        from threadpoolctl import threadpool_limits

        is_seeded = "random_state" in estimator.get_params(deep=False)
        predictions, began = [], time.perf_counter()
        for i in range(count if is_seeded else 1):
            one: Any = clone(estimator)
            if is_seeded:
                one.set_params(random_state=seed + i)
            try:
                with threadpool_limits(1):
                    predictions.append(self._fit_and_predict(one))
            except Exception as error:  # of code that is not ours
                what = f"the choice {name!r} cannot be fitted"
                raise InputError(what, why=first_line(error)) from error
        seconds = (time.perf_counter() - began) / len(predictions)
        together = torch.cat(predictions).expand(count, -1, -1)
        decoded = self.task.encoder.target.decode(together)
        return self._with_samples(decoded, [True] * count)._replace(seconds=seconds)

    def _fit_and_predict(self, estimator: Any) -> Tensor:
        """What a fitted estimator predicts, float64 [1, N, C], encoded as networks' predictions."""
        task, train = self.task, self.task.train_examples
        assert train.targets is not None
        y = train.targets.numpy()
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        estimator.fit(encoded_columns(task, train), y)
        new = encoded_columns(task, self.held_out)
        if task.kind in ("binary", "classes"):
            classes = 2 if task.kind == "binary" else task.outputs
            found = _class_probabilities(estimator, new, classes)
            found = found[:, 1:] if task.kind == "binary" else found
        else:
            found = np.asarray(estimator.predict(new), dtype=float).reshape(len(new), -1)
        return torch.from_numpy(found)[None]

    def _score(
        self, predictions: Tensor | None, ended: Sequence[bool]
    ) -> tuple[np.ndarray, np.ndarray, Tensor | None]:
        """The scores, NaN where a network failed; the places of the others, and what they predict
        [E, N, C]. `predictions` are of the networks that ended well.
        """
        places = np.flatnonzero(ended)
        scores = np.full(len(ended), math.nan)
        if predictions is not None:
            if self.task.kind == "regression":  # it diverged, though it stayed finite
                is_hopeless = metrics.R2.of(predictions, self.truth) < -HOPELESS_R2
                places = places[~is_hopeless.numpy()]
                predictions = predictions[~is_hopeless]
            scores[places] = self.metric.of(predictions, self.truth).numpy()
        return scores, places, predictions

    def _with_samples(self, predictions: Tensor | None, ended: Sequence[bool]) -> Scored:
        scores, places, predictions = self._score(predictions, ended)
        samples = np.full((metrics.BOOTSTRAP_RESAMPLES, len(ended)), math.nan)
        if predictions is not None:
            drawn = resampled_values(self.metric, predictions, self.truth).numpy()
            samples = samples[: len(drawn)]
            samples[:, places] = drawn
        return Scored(tuple(scores.tolist()), samples)

    def on_validation(self) -> "Panel":
        """The panel of the validation rows. Raises `RecipeError` where there are none."""
        if self.task.validation is None:
            what, do = "the recipes keep no validation split", "set split.validation above 0"
            raise RecipeError(
                what, why="it chooses rates, and tells when a score is reached", do=do
            )
        truth = _true_answers(self.task, "validation")
        return replace(self, split="validation", held_out=self.task.validation, truth=truth)

    def references(self, with_trees: bool) -> dict[str, float]:
        """The scores of the best constant answer and, where they can be had, of boosted trees."""
        known = predict_baselines(self.task, self.held_out, with_trees=with_trees)
        predictions = {label: known[name][0] for name, label in REFERENCE_NAMES.items()}
        return {
            label: float(self.metric.of(p, self.truth))
            for label, p in predictions.items()
            if p is not None
        }


def panel_of(names: Sequence[str], tasks: Sequence[Task], recipes: Sequence[Recipe]) -> Panel:
    """The panel of resolved recipes. Raises `RecipeError` where they have no rows in common."""
    first, recipe = tasks[0], recipes[0]
    split = "test" if first.test is not None else "validation"
    held_out = getattr(first, split)
    if held_out is None:
        what, do = "the recipes keep no test split and no validation split", "set split.test"
        raise RecipeError(what, why="there is nothing to compare them on", do=f"{do} above 0")
    truth = _true_answers(first, split)
    for name, task, other in zip(names, tasks, recipes, strict=True):
        rows = getattr(task, split)
        same = rows is not None and task.kind == first.kind and rows.count == held_out.count
        same = same and np.array_equal(task.rows[split], first.rows[split])
        if not same or not torch.equal(_true_answers(task, split), truth):
            what = f"{name!r} is scored on other rows than {names[0]!r}"
            why = "their data or splits differ, and scores on other rows say nothing of a choice"
            raise RecipeError(what, why=why, do="use the same data and split for both")
        if other.metric != recipe.metric:
            what = f"{name!r} is scored by {other.metric}, {names[0]!r} by {recipe.metric}"
            raise RecipeError(what, do="set metric to the same in both")
    notes = ()
    if split == "validation":
        notes = ("There is no test split: scores are of validation rows, which chose the weights.",)
    metric = metrics.main_metric(first.kind, recipe.metric)
    return Panel(first, metric, split, held_out, truth, notes)


def _ended_well(members: Sequence[Member]) -> list[bool]:
    return [member.outcome != "diverged" for member in members]


def _true_answers(task: Task, split: str) -> Tensor:
    targets = getattr(task, split).targets
    return task.encoder.target.decode(targets)


def _class_probabilities(estimator: Any, new: Any, classes: int) -> np.ndarray:
    """The probability of each class [N, K]; 0 and 1 of an estimator that only names a class."""
    found = np.zeros((len(new), classes))
    if hasattr(estimator, "predict_proba"):
        found[:, np.asarray(estimator.classes_).astype(int)] = estimator.predict_proba(new)
    else:
        found[np.arange(len(new)), np.asarray(estimator.predict(new)).astype(int)] = 1.0
    return found

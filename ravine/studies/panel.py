"""The panel: the rows on which all choices are scored, one network at a time.

Letters: S seeds, N rows, C outputs, B bootstrap samples of the rows.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ravine import metrics
from ravine.data import Examples, Task
from ravine.errors import InputError, RecipeError, first_line
from ravine.metrics import Metric, resampled_values
from ravine.recipe import Recipe
from ravine.studies.verdict import REFERENCE_NAMES
from ravine.training.run import Run
from ravine.training.scores import predict_baselines, score_unit
from ravine.training.tree_baseline import encoded_columns

HOPELESS_R2 = 1e3  # below 0 by more: a failure
TARGET_ROUNDING = 1e-9  # 0.95 may be 0.9499999999999


class Scored(NamedTuple):
    """A choice's score for each seed, NaN where it failed; the scores in samples of rows [B, S];
    the seconds to train it once; the scores on the validation split.
    """

    scores: tuple[float, ...]
    samples: np.ndarray
    seconds: float = math.nan
    validation: tuple[float, ...] = ()


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
        predictions = None
        if run.model is not None:
            rows = getattr(task, self.split).to(run.model.weights.device, torch.float64)
            predictions = task.encoder.target.decode(run.model.member_predictions(rows).cpu())
        ended = [member.outcome != "diverged" for member in run.record.members]
        name = self.metric.name
        validation = tuple(m.validation.get(name, math.nan) for m in run.record.members)
        return self._score(predictions, ended)._replace(validation=validation)

    def constant_score(self, task: Task) -> float:
        """The best constant answer's validation score, in the units of a task's encoding."""
        if task.validation is None:
            what, do = "the recipes keep no validation split", "set split.validation above 0"
            raise RecipeError(what, why="rates are chosen and times measured by it", do=do)
        truth = task.validation.targets
        known = task.train.targets if isinstance(task.train, Examples) else truth
        assert known is not None and truth is not None
        constant = metrics.constant_prediction(known, task.outputs)
        return float(self.metric.of(constant.expand(1, len(truth), -1), truth))

    def encode_score(self, score: float, task: Task) -> float:
        """A score in the units of a task's encoding, as it is measured while networks train."""
        self.constant_score(task)  # raises where there is no validation split
        unit = score_unit(self.metric, task)
        if unit is not None:
            return score / unit
        why = "scores in training are of logarithms, or of numbers on several scales"
        raise InputError(f"a target for {self.metric.name}", why=why, do="leave target out")

    def steps_to(self, score: float, run: Run) -> tuple[float, ...]:
        """After how many steps each network's validation score first was as good as one that is
        encoded; NaN where it never was, or the network diverged.
        """
        members = run.record.members
        if run.model is None:
            return (math.nan,) * len(members)
        series = run.record.series[f"validation/{self.metric.name}"]
        ahead = series.values - score if self.metric.higher_is_better else score - series.values
        reached = (ahead >= -TARGET_ROUNDING) & [m.outcome != "diverged" for m in members]
        steps = np.where(reached.any(0), series.steps[reached.argmax(0)], math.nan)
        return tuple(steps.tolist())

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
        return self._score(decoded, [True] * count)._replace(seconds=seconds)

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

    def _score(self, predictions: Tensor | None, ended: Sequence[bool]) -> Scored:
        """Scores of the networks [E, N, C] that ended well; NaN for the others."""
        places = np.flatnonzero(ended)
        scores = np.full(len(ended), math.nan)
        samples = np.full((metrics.BOOTSTRAP_RESAMPLES, len(ended)), math.nan)
        if predictions is not None:
            if self.task.kind == "regression":  # it diverged, though it stayed finite
                is_hopeless = metrics.R2.of(predictions, self.truth) < -HOPELESS_R2
                places = places[~is_hopeless.numpy()]
                predictions = predictions[~is_hopeless]
            scores[places] = self.metric.of(predictions, self.truth).numpy()
            drawn = resampled_values(self.metric, predictions, self.truth).numpy()
            samples = samples[: len(drawn)]
            samples[:, places] = drawn
        return Scored(tuple(scores.tolist()), samples)

    def references(self, with_trees: bool) -> dict[str, Scored]:
        """The best constant answer and, where they can be had, boosted trees, each scored once."""
        known = predict_baselines(self.task, self.held_out, with_trees=with_trees)
        predictions = {label: known[name][0] for name, label in REFERENCE_NAMES.items()}
        return {label: self._score(p, [True]) for label, p in predictions.items() if p is not None}


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
        why = "scores are of validation rows, which chose the weights and the rates that are tuned"
        notes = (f"There is no test split: {why}.",)
    metric = metrics.main_metric(first.kind, recipe.metric)
    return Panel(first, metric, split, held_out, truth, notes)


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

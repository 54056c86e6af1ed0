"""The score of a trained model beside what a constant answer and boosted trees reach on its rows.

Letters: M members, N examples, C outputs.
"""

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from ravine import metrics
from ravine.data import Examples, Task
from ravine.metrics import Metric
from ravine.record import Baseline, Score
from ravine.training.model import Model
from ravine.training.tree_baseline import predict_with_trees

CONFIDENCE_LEVEL = 0.95
NO_BASELINE_NOTE = "not asked for"

# by target, learner ("network" is the model) and metric
ScoresByTarget: TypeAlias = dict[str, dict[str, dict[str, float]]]


def score_unit(metric: Metric, task: Task) -> float | None:
    """What 1 of a score is that is measured on encoded targets, in the units of the table.

    None where it is no multiple: of targets that are encoded as logarithms, or on several scales.
    """
    encoding = task.encoder.target
    if task.kind != "regression" or metric is metrics.R2:
        return 1.0
    linear = encoding.transform == "as it is" and encoding.outputs == 1
    return float(encoding.spread[0]) if linear else None


def score_model(
    model: Model, task: Task, *, baseline: bool = False
) -> tuple[Score | None, list[dict[str, float]]]:
    """The model's score on the test split (else the validation split), and each member's values.

    The split is predicted once. With `baseline` boosted trees are fitted and scored, too.
    """
    split = "test" if task.test is not None else "validation"
    held_out: Examples | None = getattr(task, split)
    if held_out is None:
        return None, []
    examples = held_out.to(model.weights.device, torch.float64)
    assert examples.targets is not None
    target = task.encoder.target
    predictions = model.member_predictions(examples)
    mean = target.decode(predictions.mean(0)[None])
    truth = target.decode(examples.targets)
    known = metrics.METRICS_BY_TASK[task.kind]
    main = metrics.main_metric(task.kind, model.recipe.metric)
    low, high = metrics.confidence_interval(main.name, mean[0], truth, confidence=CONFIDENCE_LEVEL)
    values = _metric_values(known, mean, truth)[0]
    by_member = _metric_values(known, target.decode(predictions), truth)
    baselines, by_target = _score_others(task, held_out, mean.cpu(), truth.cpu(), baseline)
    score = Score(
        metric=main.name,
        value=values[main.name],
        low=low,
        high=high,
        confidence=CONFIDENCE_LEVEL,
        higher_is_better=main.higher_is_better,
        split=split,
        examples=examples.numbers.shape[0],
        members=tuple(member[main.name] for member in by_member),
        others=values,
        baselines=baselines,
        targets=by_target,
        answers=_count_answers(task, mean[0], truth),
    )
    return score, by_member


def _metric_values(
    known: tuple[Metric, ...], predictions: Tensor, truth: Tensor
) -> list[dict[str, float]]:
    """All metrics of each prediction in [M, N, C]."""
    columns = [metric.of(predictions, truth).tolist() for metric in known]
    names = [metric.name for metric in known]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _score_others(
    task: Task, held_out: Examples, prediction: Tensor, truth: Tensor, baseline: bool
) -> tuple[dict[str, Baseline], ScoresByTarget]:
    """What the best constant and boosted trees reach; the scores of each target, for all."""
    known = metrics.METRICS_BY_TASK[task.kind]
    baselines, predictions = {}, {"network": prediction}
    for name, (other, text) in predict_baselines(task, held_out, with_trees=baseline).items():
        values = {} if other is None else _metric_values(known, other, truth)[0]
        baselines[name] = Baseline(values, text)
        if other is not None:
            predictions[name] = other
    return baselines, _score_targets(task, predictions, truth)


def predict_baselines(
    task: Task, held_out: Examples, *, with_trees: bool
) -> dict[str, tuple[Tensor | None, str]]:
    """What the best constant ("constant") and boosted trees ("trees") predict for held-out
    examples, decoded [1, N, C], or None; and how, or why not.
    """
    constant, source = _constant_prediction(task)
    constant = None if constant is None else constant.expand(1, held_out.count, -1)
    trees, note = predict_with_trees(task, held_out) if with_trees else (None, NO_BASELINE_NOTE)
    trees = None if trees is None else task.encoder.target.decode(trees)
    return {"constant": (constant, source), "trees": (trees, note)}


def _constant_prediction(task: Task) -> tuple[Tensor | None, str]:
    """The best constant prediction (of validation rows if training is streamed), and its source."""
    known = task.train if isinstance(task.train, Examples) else task.validation
    if known is None or known.targets is None:
        return None, "the training rows are read in pieces"
    targets = task.encoder.target.decode(known.targets.cpu())
    what = "means" if task.kind == "regression" else "class shares"
    rows = "training" if known is task.train else "validation"
    return metrics.constant_prediction(targets, task.outputs), f"{what} of the {rows} rows"


def _score_targets(task: Task, predictions: Mapping[str, Tensor], truth: Tensor) -> ScoresByTarget:
    """The metrics of each of several targets (numbers, or columns of yes and no)."""
    if task.kind not in ("regression", "labels") or truth.shape[1] < 2:
        return {}
    # one label alone is a binary task
    known = metrics.METRICS_BY_TASK["regression" if task.kind == "regression" else "binary"]
    return {
        name: {
            who: _metric_values(known, p[..., i : i + 1], truth[:, i : i + 1])[0]
            for who, p in predictions.items()
        }
        for i, name in enumerate(task.encoder.target.labels)
    }


def _count_answers(task: Task, prediction: Tensor, truth: Tensor) -> dict[str, tuple[int, int]]:
    """For each class how many rows are predicted to have it, and how many have it."""
    if task.kind not in ("binary", "classes"):
        return {}
    chosen, true = metrics.class_numbers(prediction[None], truth)
    counts = [torch.bincount(v.flatten(), minlength=len(task.classes)) for v in (chosen, true)]
    pairs = zip(*(c.tolist() for c in counts), strict=True)
    return {str(name): (a, b) for name, (a, b) in zip(task.classes, pairs, strict=True)}

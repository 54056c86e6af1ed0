"""Metrics: how good predictions are, for many networks at once, with confidence intervals.

Predictions are [P, N, C]: probabilities (one for a binary task, one for each class or label) or
numbers. Targets are [N] or [N, 1] for classes, [N, C] for labels and numbers. A network with a
prediction that is not finite scores NaN.

Letters: P networks, N examples, C outputs, K classes or labels, S sums, G groups of examples.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ravine.errors import RecipeError, nearest
from ravine.old_names import current_metric
from ravine.statistics import (
    BOOTSTRAP_RESAMPLES,
    average_precision,
    delong_interval,
    roc_auc,
    wilson_interval,
)

# larger test splits are resampled in this many random groups: the time stays at a tenth of a second
MAX_BOOTSTRAP_GROUPS = 4096
BOOTSTRAP_SEED = 20260101
RESAMPLES_AT_ONCE, MIN_RESAMPLES = 250, 100
MAX_RANKED_VALUES = 20_000_000  # sorted in all resamples: some ten seconds of one core


class Sums(NamedTuple):
    """Sums over groups of examples that make a metric: `totals` [P, G, S] and `weights` [G]."""

    totals: Tensor
    weights: Tensor


class Grouping(NamedTuple):
    """Each example's group [N], the number of groups, and the examples' weights [N] (None: 1)."""

    weights: Tensor | None
    groups: Tensor
    size: int

    def of(self, like: Tensor) -> Tensor:
        """The weights of the examples of `like` [P, N, ...], float64 [N]."""
        if self.weights is None:
            return torch.ones(like.shape[1], dtype=torch.float64, device=like.device)
        return self.weights.to(like.device, torch.float64).reshape(-1)

    def sums(self, each: Tensor) -> Sums:
        """The values of examples [P, N, S], summed in each group."""
        weights = self.of(each)
        total = weights.new_zeros(self.size).index_add_(0, self.groups, weights)
        if self.size == 1:
            weighted = each if self.weights is None else each * weights[:, None]
            return Sums(weighted.sum(1, keepdim=True), total)
        empty = each.new_zeros(each.shape[0], self.size, each.shape[2])
        return Sums(empty.index_add_(1, self.groups, each * weights[:, None]), total)


@dataclass(frozen=True)
class Metric:
    """A number for each network: `adds` sums over examples, `value` maps mean sums [P, S] to it.

    What depends on the order of all examples has no sums: `rank` maps probabilities [P, N, K], the
    truth [N, K] and weights [N] to it.
    """

    name: str
    higher_is_better: bool
    adds: Callable[[Tensor, Tensor, Grouping], Sums] | None
    value: Callable[[Tensor], Tensor]
    rank: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def of(self, predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """The metric [P], float64. `weights` [N] weight the examples."""
        groups = torch.zeros(predictions.shape[1], dtype=torch.int64, device=predictions.device)
        spread = Grouping(weights, groups, 1)
        if self.adds is None:
            assert self.rank is not None
            found = self.rank(*_truth(predictions, targets), spread.of(predictions))
        else:
            totals, total = self.adds(predictions, targets, spread)
            found = self.value(totals[:, 0] / total)
        return torch.where(predictions.isfinite().all(2).all(1), found, math.nan)


def _truth(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities [P, N, K] and the truth as 0 and 1 [N, K]; K = 1 for a binary task."""
    truth = targets
    if predictions.shape[2] == 1:
        truth = targets.reshape(-1, 1)
    elif targets.dim() < 2 or targets.shape[1] == 1:
        truth = one_hot(targets.reshape(-1).long(), predictions.shape[2])
    return predictions.double(), truth.double()


def _predicted_labels(predictions: Tensor, targets: Tensor) -> Tensor:
    """The predicted classes (the likeliest) or labels (above one half) as 0 and 1, [P, N, K]."""
    if predictions.shape[2] == 1 or (targets.dim() == 2 and targets.shape[1] > 1):
        return (predictions > 0.5).double()
    return one_hot(predictions.argmax(2), predictions.shape[2]).double()


def class_numbers(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The predicted class [P, N] and the true one [N]."""
    if predictions.shape[2] == 1:
        return (predictions[..., 0] > 0.5).long(), targets.reshape(-1).long()
    return predictions.argmax(2), targets.reshape(-1).long()


def _sum_correct(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    chosen, true = class_numbers(predictions, targets)
    return spread.sums((chosen == true).double()[..., None])


def _sum_label_correct(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    right = (_predicted_labels(predictions, targets) == targets).double()
    return spread.sums(right.mean(2, keepdim=True))


def _sum_log_loss(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    """−log of the probability of the truth, clipped at the precision of its dtype."""
    probabilities, truth = _truth(predictions, targets)
    least = torch.finfo(predictions.dtype).eps
    if truth.shape[1] > 1 and targets.numel() == targets.shape[0]:
        return spread.sums(-(probabilities.clamp(min=least).log() * truth).sum(2, keepdim=True))
    right = torch.where(truth > 0.5, probabilities, 1 - probabilities)
    return spread.sums(-right.clamp(min=least).log().mean(2, keepdim=True))


def _sum_brier(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    """(p − y)² of a binary task (Brier 1950 doubles it), summed over classes, or mean of labels."""
    probabilities, truth = _truth(predictions, targets)
    squares = (probabilities - truth).square()
    classes = targets.numel() == targets.shape[0]
    return spread.sums(squares.sum(2, keepdim=True) if classes else squares.mean(2, keepdim=True))


def _sum_confusion(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    """For each class the shares predicted and true, predicted, true; [P, G, 3 K], K at least 2."""
    networks = predictions.shape[0]
    count = max(2, predictions.shape[2])
    chosen, true = class_numbers(predictions, targets)
    weights = spread.of(predictions)
    places = spread.groups * 3 * count
    totals = weights.new_zeros(networks, spread.size * 3 * count)
    weights = weights.expand(networks, -1)
    totals.scatter_add_(1, places + chosen, weights * (chosen == true))
    totals.scatter_add_(1, places + count + chosen, weights)
    totals.scatter_add_(1, (places + 2 * count + true).expand(networks, -1), weights)
    total = weights.new_zeros(spread.size).index_add_(0, spread.groups, weights[0])
    return Sums(totals.view(networks, spread.size, 3 * count), total)


def _sum_label_confusion(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    """The same for labels."""
    chosen = _predicted_labels(predictions, targets)
    truth = targets.double().expand(predictions.shape)
    return spread.sums(torch.cat([chosen * truth, chosen, truth], 2))


def _f1(means: Tensor) -> Tensor:
    """2 · both / (predicted + true) of the positive class; 0 where it is in neither."""
    both, predicted, true = (part[..., -1] for part in means.chunk(3, -1))
    return 2 * both / torch.where(predicted + true > 0, predicted + true, 1)


def _macro_f1(means: Tensor) -> Tensor:
    """2 · both / (predicted + true), averaged over the classes that occur in either."""
    both, predicted, true = means.chunk(3, -1)
    occurs = predicted + true > 0
    scores = torch.where(occurs, 2 * both / torch.where(occurs, predicted + true, 1), 0)
    return scores.sum(-1) / occurs.sum(-1)


def _f1_labels(means: Tensor) -> Tensor:
    """The same averaged over all labels; 0 for one that is neither true nor predicted."""
    both, predicted, true = means.chunk(3, -1)
    return (2 * both / torch.where(predicted + true > 0, predicted + true, 1)).mean(-1)


def _balanced_accuracy(means: Tensor) -> Tensor:
    """The recall of each class, averaged over the classes that occur."""
    both, _, true = means.chunk(3, -1)
    occurs = true > 0
    return torch.where(occurs, both / torch.where(occurs, true, 1), 0).sum(-1) / occurs.sum(-1)


def _sum_squares(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    """Each output's squared error, target, and its square (about the plain mean), [P, G, 3 C]."""
    y = targets.double().reshape(predictions.shape[1], -1)
    errors = (predictions.double() - y).square()
    y0 = y - y.mean(0)
    sums = [errors, y0.expand(errors.shape), y0.square().expand(errors.shape)]
    return spread.sums(torch.cat(sums, 2))


def _r2(means: Tensor) -> Tensor:
    """1 − Σ(y − f)² / Σ(y − mean y)², averaged over outputs; 1 or 0 for a constant target.

    It is 1 where a constant is predicted exactly.
    """
    error, mean, square = means.chunk(3, -1)
    variance = square - mean.square()
    constant = variance <= 1e-15 * square.clamp(min=1e-300)
    missed = (error > 0).double()
    return (1 - torch.where(constant, missed, error / torch.where(constant, 1, variance))).mean(-1)


def _sum_absolute(predictions: Tensor, targets: Tensor, spread: Grouping) -> Sums:
    y = targets.double().reshape(predictions.shape[1], -1)
    return spread.sums((predictions.double() - y).abs().mean(2, keepdim=True))


def _first_mean(means: Tensor) -> Tensor:
    return means[..., 0]


ACCURACY = Metric("accuracy", True, _sum_correct, _first_mean)
ERROR_RATE = Metric("error", False, _sum_correct, lambda means: 1 - means[..., 0])
LOG_LOSS = Metric("log_loss", False, _sum_log_loss, _first_mean)
BRIER_SCORE = Metric("brier", False, _sum_brier, _first_mean)
ROC_AUC = Metric("auc", True, None, _first_mean, lambda *given: roc_auc(*given)[0])
AVERAGE_PRECISION = Metric("average_precision", True, None, _first_mean, average_precision)
BALANCED_ACCURACY = Metric("balanced_accuracy", True, _sum_confusion, _balanced_accuracy)
F1_SCORE = Metric("f1", True, _sum_confusion, _f1)
MACRO_F1 = Metric("macro_f1", True, _sum_confusion, _macro_f1)
LABEL_ACCURACY = Metric("label_accuracy", True, _sum_label_correct, _first_mean)
LABEL_F1 = Metric("label_f1", True, _sum_label_confusion, _f1_labels)
R2 = Metric("r2", True, _sum_squares, _r2)
RMSE = Metric("rmse", False, _sum_squares, lambda means: means.chunk(3, -1)[0].sqrt().mean(-1))
MAE = Metric("mae", False, _sum_absolute, _first_mean)

# the main one comes first
METRICS_BY_TASK: Mapping[str, tuple[Metric, ...]] = {
    "binary": (ACCURACY, BALANCED_ACCURACY, AVERAGE_PRECISION, ROC_AUC)
    + (LOG_LOSS, BRIER_SCORE, F1_SCORE, ERROR_RATE),
    "classes": (ACCURACY, BALANCED_ACCURACY, LOG_LOSS, BRIER_SCORE)
    + (MACRO_F1, AVERAGE_PRECISION, ROC_AUC, ERROR_RATE),
    "labels": (LABEL_ACCURACY, LABEL_F1, AVERAGE_PRECISION, ROC_AUC, LOG_LOSS, BRIER_SCORE),
    "regression": (R2, RMSE, MAE),
}
# what leads where the commonest class has more than `IMBALANCED_SHARE` of the examples
IMBALANCED_METRICS: Mapping[str, Metric] = {
    "binary": BALANCED_ACCURACY,
    "classes": BALANCED_ACCURACY,
    "labels": AVERAGE_PRECISION,
}
# at 4 to 1 an accuracy says little: NOTEBOOK 2026-11-27
IMBALANCED_SHARE = 0.8

ALL = tuple(dict.fromkeys(m for metrics in METRICS_BY_TASK.values() for m in metrics))


def main_metric(kind: str, name: str | None = None) -> Metric:
    """The metric by which a kind of task is scored, unless a recipe names another one.

    Raises `RecipeError` for a name that says nothing of this kind of task.
    """
    if name is None:
        return METRICS_BY_TASK[kind][0]
    name = current_metric(kind, name)
    if metric_named(name) not in METRICS_BY_TASK[kind]:
        known = ", ".join(metric.name for metric in METRICS_BY_TASK[kind])
        why = f"the task is {kind}, for which there are {known}"
        raise RecipeError(f"metric is {name!r}", why=why, do="name one of these, or leave it out")
    return metric_named(name)


def suited_metric(kind: str, targets: Tensor) -> Metric:
    """The metric that leads for targets [N] or [N, C]: another one where classes are imbalanced.

    >>> suited_metric("binary", torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, 1])).name
    'balanced_accuracy'
    """
    if kind == "regression":
        return main_metric(kind)
    classes = max(2, 1 + int(targets.max())) if kind == "classes" else 1
    shares = constant_prediction(targets, classes) if len(targets) else torch.zeros(1, 1, 1)
    shares = shares.flatten() if kind == "classes" else torch.maximum(shares, 1 - shares).flatten()
    common = float(shares.mean() if kind == "labels" else shares.max())
    return IMBALANCED_METRICS[kind] if common > IMBALANCED_SHARE else main_metric(kind)


def metric_named(name: str) -> Metric:
    """The metric with a name. Raises `RecipeError` with the nearest name."""
    known = {metric.name: metric for metric in ALL}
    if name not in known:
        raise RecipeError(f"no metric is named {name!r}", why=nearest(name, known))
    return known[name]


def constant_prediction(targets: Tensor, outputs: int) -> Tensor:
    """The best prediction that is the same for every example, [1, 1, C]: class shares, or means.

    >>> constant_prediction(torch.tensor([0, 2, 2, 2]), 3)
    tensor([[[0.2500, 0.0000, 0.7500]]], dtype=torch.float64)
    """
    if not targets.is_floating_point() and outputs > 1:
        targets = one_hot(targets.reshape(-1), outputs)
    return targets.double().reshape(len(targets), -1).mean(0)[None, None]


def confidence_interval(
    name: str, predictions: Tensor, targets: Tensor, *, confidence: float = 0.95
) -> tuple[float, float]:
    """A confidence interval for a metric of one network's predictions [N, C] on a test split.

    Wilson's for accuracy and error; on the logit, DeLong's for the area under the ROC curve and
    that of Boyd et al. 2013 for the average precision; for the rest percentiles of 2,000 bootstrap
    samples of the examples, the same at every call. It says how the score varies with the test
    examples, not with the training. NaN where the metric is NaN.

    >>> low, high = confidence_interval("accuracy", torch.tensor([[0.9], [0.8], [0.2], [0.7]]),
    ...                      torch.tensor([1, 1, 0, 0]))
    >>> round(low, 3), round(high, 3)
    (0.301, 0.954)
    """
    metric = metric_named(name)
    predictions = predictions[None]
    value = float(metric.of(predictions, targets))
    if math.isnan(value):
        return math.nan, math.nan
    if metric in (ACCURACY, ERROR_RATE):
        return wilson_interval(value, predictions.shape[1], confidence=confidence)
    if metric.adds is None:
        return _rank_interval(metric, predictions, targets, confidence=confidence)
    return _bootstrap(metric, predictions, targets, confidence=confidence)


def _rank_interval(
    metric: Metric, predictions: Tensor, targets: Tensor, *, confidence: float
) -> tuple[float, float]:
    probabilities, truth = _truth(predictions, targets)
    weights = torch.ones(len(truth), dtype=torch.float64, device=truth.device)
    rarer = float(torch.minimum(truth.sum(0), (1 - truth).sum(0)).clamp(min=1).min())
    if metric is AVERAGE_PRECISION:
        area = float(average_precision(probabilities, truth, weights))
        error = math.sqrt(area * (1 - area) / float(truth.sum(0).clamp(min=1).min()))
    else:
        area, error = (float(v) for v in roc_auc(probabilities, truth, weights))
    return delong_interval(area, error, rarer=rarer, confidence=confidence)


def resampled_values(
    metric: Metric, predictions: Tensor, targets: Tensor, *, resamples: int = BOOTSTRAP_RESAMPLES
) -> Tensor:
    """The metric of each network [P, N, C] in bootstrap samples of the examples, float64 [B, P].

    The samples are the same at every call with as many examples, so that networks of several calls
    can be compared sample by sample. What depends on the order of all examples is resampled less
    often where there are many (at least 100 times). A network whose predictions are not finite has
    NaN.

    >>> p, y = torch.tensor([[[0.9], [0.8], [0.2], [0.7]]]), torch.tensor([1, 1, 0, 0])
    >>> values = resampled_values(ACCURACY, p, y)
    >>> tuple(values.shape), 0.7 < float(values.mean()) < 0.8  # three of four are right
    ((2000, 1), True)
    """
    count = predictions.shape[1]
    size = min(count, MAX_BOOTSTRAP_GROUPS)
    generator = torch.Generator().manual_seed(BOOTSTRAP_SEED)
    groups = torch.randperm(count, generator=generator) % size
    if metric.adds is None:
        resamples = min(resamples, max(MIN_RESAMPLES, MAX_RANKED_VALUES // (predictions.numel())))
    values = []
    for at in range(0, resamples, RESAMPLES_AT_ONCE):
        drawn = torch.randint(size, (RESAMPLES_AT_ONCE, size), generator=generator)
        times = torch.zeros(RESAMPLES_AT_ONCE, size, dtype=torch.float64)
        times.scatter_add_(1, drawn, torch.ones_like(times))
        times = times[: resamples - at]
        if metric.adds is None:
            values += [metric.of(predictions, targets, w[groups])[None].cpu() for w in times]
            continue
        if at == 0:
            spread = Grouping(None, groups.to(predictions.device), size)
            totals, weights = (v.cpu() for v in metric.adds(predictions, targets, spread))
        means = torch.einsum("bg,pgs->bps", times, totals) / (times @ weights)[:, None, None]
        values.append(metric.value(means))
    finite = predictions.isfinite().all(2).all(1).cpu()
    return torch.where(finite, torch.cat(values), math.nan)


def _bootstrap(
    metric: Metric, predictions: Tensor, targets: Tensor, *, confidence: float
) -> tuple[float, float]:
    values = resampled_values(metric, predictions, targets)[:, 0]
    tail = (1 - confidence) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high

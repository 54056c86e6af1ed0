"""Columns that alone are the target. Shapes: N examples, F columns, K classes."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from ravine.diagnosis.baseline_learners import Array, fit_baseline, rank_columns
from ravine.diagnosis.data.data_kinds import single_answers
from ravine.diagnosis.data.profile import LeakingColumn

# of the distance between classes: a column that spreads no more within classes is their name
CLASS_SPREAD = 0.05
# of a number's variance: a column that leaves no more of it open is the number
OPEN_VARIANCE = 1e-3


def find_leaking_columns(
    x: Array, y: Array, kind: str, *, name_column: Callable[[int], str], seed: int
) -> tuple[LeakingColumn, ...]:
    """Columns that alone are the target: a number that the column is but for a scale (or a monotone
    function), or two classes and more that it keeps apart by far more than it spreads within
    them."""
    answers = single_answers(y, kind)
    if answers is None or x.shape[1] < 3 or len(x) < 50 or x.dtype.kind not in "fiub":
        return ()
    flat = x.astype(float)
    answers = answers.astype(float)
    known = np.isfinite(flat).all(1) & np.isfinite(answers)
    flat, answers = flat[known], answers[known]
    if len(flat) < 50 or not answers.std() > 0:
        return ()
    kind = "number" if kind == "number" else "classes"
    score = _score_columns_of_number if kind == "number" else _score_columns_of_classes
    alone = score(flat, answers)
    places = np.nonzero(alone > 0)[0]
    if not len(places) or len(places) > flat.shape[1] // 2:  # most columns tell: a toy, no leak
        return ()
    rest = np.delete(flat, places, 1)
    other = fit_baseline(Tensor(rest), Tensor(answers), kind, seed=seed, most=800)
    if other is None:
        return ()
    of_rest = other.score, other.constant_score, bool(other.informative)
    return tuple(LeakingColumn(name_column(p), float(alone[p]), *of_rest) for p in places.tolist())


def _score_columns_of_number(x: Array, y: Array) -> Array:
    """R2 of a line through each column, by values or ranks; 0 where it leaves `OPEN_VARIANCE`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = _correlate(x, y)
        monotone = _correlate(rank_columns(x), rank_columns(y)[:, 0])
    best = np.maximum(np.nan_to_num(straight) ** 2, np.nan_to_num(monotone) ** 2)
    return np.where(best >= 1 - OPEN_VARIANCE, best, 0.0)


def _correlate(x: Array, y: Array) -> Array:
    x = x - x.mean(0)
    y = y - y.mean()
    return (x * y[:, None]).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum())


def _score_columns_of_classes(x: Array, y: Array) -> Array:
    """Accuracy by the nearest class mean of each column; 0 where the column spreads more than a
    twentieth of the distance between classes within them, or errs more than once in 200."""
    names = np.unique(y)
    if len(names) > 50:
        return np.zeros(x.shape[1])
    middles = np.stack([x[y == name].mean(0) for name in names])  # [K, F]
    deviations = (np.abs(x[y == name] - middles[k]) for k, name in enumerate(names))
    within = np.stack([np.median(each, 0) for each in deviations]).max(0)
    apart = np.diff(np.sort(middles, 0), axis=0).min(0)
    right = np.zeros(x.shape[1])
    for place in np.nonzero((within <= CLASS_SPREAD * apart) & (apart > 0))[0]:
        nearest = np.abs(x[:, place, None] - middles[None, :, place]).argmin(1)
        right[place] = (names[nearest] == y).mean()
    return np.where(right >= 0.995, right, 0.0)

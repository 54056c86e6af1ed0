"""Columns of a table that alone are the target, in all examples or in training only.

Shapes: N examples, F columns, K outputs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from ravine.diagnosis.baseline_learners import (
    FOLD_COUNT,
    Array,
    assign_folds,
    fit_baseline,
    rank_columns,
    score_predictions,
    target_columns,
)
from ravine.diagnosis.data.data_kinds import single_answers
from ravine.diagnosis.data.profile import CorrelationDrop, LeakingColumn

# largest spread within classes, over the distance between them, of a column that names the class
CLASS_SPREAD = 0.05
OPEN_VARIANCE = 0.01  # of a number's variance: most that a leaking column leaves unexplained
OPEN_ERRORS = 0.02  # of a constant answer's errors: most that a leaking column leaves
BACKING_SCORE = 0.9  # least score of a column that backs a leak up; a constant answer has 0
MIN_LEVEL_ROWS = 5  # examples of each value of a category, on average
GAP_RATIO = 5.0  # times the usual distance of neighboring values: a gap between classes
MIN_LEAK_ROWS = 50
MIN_LEAK_COLUMNS = 3
MIN_COMPARED_ROWS = 50  # of training and of validation
MIN_CORRELATION_ERRORS = 4.0  # standard errors of a column's correlation with the target
MAX_TARGETS_CHECKED = 5  # of several numbers or labels


def find_leaking_columns(
    x: Array,
    y: Array,
    kind: str,
    *,
    name_column: Callable[[int], str],
    seed: int,
    sources: Sequence[str] = (),
    target_names: Sequence[str] = (),
) -> tuple[LeakingColumn, ...]:
    """Columns that alone are the target, each with those that back it up. A column is the target if
    it equals it but for a scale or a monotone function, if it separates the classes by far more
    than it spreads within them, or if its levels predict the target of held-out examples. `sources`
    are the table's columns from which the inputs come: inputs of one category are judged together.
    `target_names` are the names of several targets.
    """
    names = list(sources) or [name_column(place) for place in range(x.shape[1])]
    groups = list(dict.fromkeys(names))
    if len(groups) < MIN_LEAK_COLUMNS or x.dtype.kind not in "fiub":
        return ()
    places = [np.flatnonzero([name == group for name in names]) for group in groups]
    found: dict[str, LeakingColumn] = {}
    for place, (answers, answer_kind) in enumerate(_answers(y, kind)):
        of_several = kind in ("numbers", "labels") and place < len(target_names)
        target = target_names[place] if of_several else ""
        for leak in _leaks_of(x.astype(float), answers, answer_kind, groups, places, seed):
            found.setdefault(leak.where, replace(leak, target=target))
    return tuple(found.values())


def _answers(y: Array, kind: str) -> Iterator[tuple[Array, str]]:
    """The targets one by one [N], and whether each is "number" or "classes"."""
    single = single_answers(y, kind)
    if single is not None:
        yield single.astype(float), "number" if kind == "number" else "classes"
    elif kind in ("numbers", "labels"):
        for column in y.reshape(len(y), -1).T[:MAX_TARGETS_CHECKED]:
            yield column.astype(float), "number" if kind == "numbers" else "classes"


def _leaks_of(
    x: Array, y: Array, kind: str, groups: Sequence[str], places: Sequence[Array], seed: int
) -> Iterator[LeakingColumn]:
    known = np.isfinite(x).all(1) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < MIN_LEAK_ROWS or not y.std() > 0:
        return
    answers = target_columns(y[:, None], kind)
    if answers.shape[1] > 50:
        return
    constant = score_predictions(np.broadcast_to(answers.mean(0), answers.shape), answers, kind)
    folds = assign_folds(np.arange(len(x)), seed)
    alone = np.array([_score_alone(x[:, p], y, answers, kind, folds) for p in places])
    scaled = (alone - constant) / (1 - constant)
    leaks = scaled >= 1 - (OPEN_VARIANCE if kind == "number" else OPEN_ERRORS)
    if not leaks.any() or leaks.sum() > len(groups) // 2:  # where most columns are, it is a toy
        return
    strong = np.flatnonzero(leaks | (scaled >= BACKING_SCORE)).tolist()
    values = {i: _number_values(x[:, places[i]]) for i in strong}
    backing = {
        i: [j for j in strong if j != i and (leaks[j] or _determines(values[i], values[j]))]
        for i in np.flatnonzero(leaks).tolist()
    }
    dropped = {*backing, *(j for backers in backing.values() for j in backers)}
    rest = np.concatenate([p for i, p in enumerate(places) if i not in dropped])
    other = fit_baseline(Tensor(x[:, rest]), Tensor(y), kind, seed=seed, most=800)
    if other is None:
        return
    of_rest = other.score, other.constant_score, bool(other.informative)
    for i, backers in backing.items():
        beside = tuple(groups[j] for j in backers)
        yield LeakingColumn(groups[i], float(alone[i]), *of_rest, backed_by=beside)


def _score_alone(x: Array, y: Array, answers: Array, kind: str, folds: Array) -> float:
    """How well one column of the table, as x [N, F], predicts the target: by a line or class means,
    by its levels, by whether it holds its commonest value, or by its neighboring values; of a
    number with gaps where it is known.
    """
    known = _known_rows(x)
    x, y, answers, folds = x[known], y[known], answers[known], folds[known]
    if not y.std() > 0:
        return 0.0
    straight = _score_columns_of_number if kind == "number" else _score_columns_of_classes
    values = _number_values(x)
    # such as a refund, 0 unless there was one
    is_uncommon = (values != np.bincount(values).argmax()).astype(int)
    found = max(_score_levels(at, answers, kind, folds) for at in (values, is_uncommon))
    found = max(found, float(straight(x, y).max()))
    if x.shape[1] == 1 or len(known) > known.sum():
        found = max(found, _score_neighbors(x[:, 0], answers, kind, folds))
    return found


def _score_neighbors(x: Array, y: Array, kind: str, folds: Array) -> float:
    """Accuracy, or R2, of targets interpolated between the nearest values of the other folds.
    Classes that lie apart have a gap between them and are no leak, such as one of the irises; those
    that were made from the column change within it, where its values are as close as elsewhere.
    """
    if kind != "number" and _has_gaps_between_classes(x, y.argmax(1)):
        return 0.0
    predicted = np.empty_like(y)
    for fold in range(FOLD_COUNT):
        old, new = folds != fold, folds == fold
        order = x[old].argsort()
        for k, column in enumerate(y.T):
            predicted[new, k] = np.interp(x[new], x[old][order], column[old][order])
    return score_predictions(predicted, y, kind)


def _has_gaps_between_classes(x: Array, classes: Array) -> bool:
    order = x.argsort()
    steps, changes = np.diff(x[order]), np.diff(classes[order]) != 0
    if not (changes & (steps > 0)).any():
        return True
    return bool(np.median(steps[changes]) > GAP_RATIO * np.median(steps[steps > 0]))


def _known_rows(x: Array) -> Array:
    """The rows in which a number is known, where x [N, 2] says in which it is a gap; else all."""
    if x.shape[1] == 2 and len(np.unique(x[:, 1])) == 2 and len(np.unique(x[:, 0])) > 2:
        values, counts = np.unique(x[:, 1], return_counts=True)
        return x[:, 1] == values[counts.argmax()]
    return np.ones(len(x), bool)


def _number_values(x: Array) -> Array:
    """A number for each row of x [N, F], equal for equal rows."""
    rows = x[:, 0] if x.shape[1] == 1 else x  # numbers are compared much faster than rows
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)


def _determines(values: Array, others: Array) -> bool:
    """Whether a category determines another column, as a subgrade determines the grade."""
    levels = int(values.max()) + 1
    if levels > len(values) / MIN_LEVEL_ROWS:
        return False
    together, counts = np.unique(values * (int(others.max()) + 1) + others, return_counts=True)
    most = np.zeros(levels, int)
    np.maximum.at(most, together // (int(others.max()) + 1), counts)
    return bool(most.sum() >= (1 - OPEN_ERRORS) * len(values))


def _score_columns_of_number(x: Array, y: Array) -> Array:
    """R2 of a line through each column, by values or ranks."""
    with np.errstate(divide="ignore", invalid="ignore"):
        straight = _correlate(x, y)
        monotone = _correlate(rank_columns(x), rank_columns(y)[:, 0])
    return np.maximum(np.nan_to_num(straight) ** 2, np.nan_to_num(monotone) ** 2)


def _correlate(x: Array, y: Array) -> Array:
    x = x - x.mean(0)
    y = y - y.mean()
    return (x * y[:, None]).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum())


def _score_columns_of_classes(x: Array, y: Array) -> Array:
    """Accuracy by the nearest class mean of each column; 0 where the column spreads more than a
    twentieth of the distance between classes within them."""
    names = np.unique(y)
    middles = np.stack([x[y == name].mean(0) for name in names])  # [K, F]
    deviations = (np.abs(x[y == name] - middles[k]) for k, name in enumerate(names))
    within = np.stack([np.median(each, 0) for each in deviations]).max(0)
    apart = np.diff(np.sort(middles, 0), axis=0).min(0)
    right = np.zeros(x.shape[1])
    for place in np.nonzero((within <= CLASS_SPREAD * apart) & (apart > 0))[0]:
        nearest = np.abs(x[:, place, None] - middles[None, :, place]).argmin(1)
        right[place] = (names[nearest] == y).mean()
    return right


def _score_levels(at: Array, y: Array, kind: str, folds: Array) -> float:
    """Accuracy, or R2 by values or ranks, of each level's mean target in the other folds; 0 where
    there are too many levels for N rows. `at` [N] is the level of each row."""
    levels = int(at.max()) + 1
    if not 2 <= levels <= len(at) / MIN_LEVEL_ROWS:
        return 0.0
    predicted = np.empty_like(y)
    for fold in range(FOLD_COUNT):
        old, new = folds != fold, folds == fold
        counts = np.bincount(at[old], minlength=levels)[:, None]
        sums = np.stack([np.bincount(at[old], c[old], levels) for c in y.T], 1)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), y[old].mean(0))
        predicted[new] = means[at[new]]
    found = score_predictions(predicted, y, kind)
    if kind == "number" and levels > 2:
        by_rank = _correlate(rank_columns(predicted), rank_columns(y)[:, 0])[0]
        found = max(found, float(by_rank) ** 2)
    return found


def find_correlation_drop(
    train: tuple[Array, Array],
    validation: tuple[Array, Array],
    *,
    name_column: Callable[[int], str],
) -> CorrelationDrop | None:
    """The column [N, F] whose correlation r with the target [N] drops most from training to
    validation, in standard errors: z = (atanh |r| - atanh |r'|) / sqrt(1/(n - 3) + 1/(n' - 3)).

    z is at most that of the slopes, which stay where a column only has a narrower range in
    validation. A correlation of the other sign in validation counts as r' = 0.

    None for several targets, columns that are not numbers, fewer than 3 columns or 50 rows, and
    where all columns are constant.
    """
    (x, y), (new, new_y) = train, validation
    y, new_y = y.reshape(len(y), -1), new_y.reshape(len(new_y), -1)
    few = min(len(y), len(new_y)) < MIN_COMPARED_ROWS
    if few or y.shape[1] != 1 or new_y.shape[1] != 1 or x.ndim != 2 or x.shape[1:] != new.shape[1:]:
        return None
    if x.shape[1] < MIN_LEAK_COLUMNS or x.dtype.kind not in "fiub":
        return None
    before, after = correlations(x, y[:, 0]), correlations(new, new_y[:, 0])
    error = np.sqrt(1 / (len(y) - 3) + 1 / (len(new_y) - 3))
    z = (np.arctanh(np.abs(before)) - np.arctanh(np.clip(after * np.sign(before), 0, None))) / error
    z = np.minimum(z, slope_errors((x, y[:, 0], before), (new, new_y[:, 0], after)))
    known = np.isfinite(z)
    if not known.any():
        return None
    place = int(np.where(known, z, -np.inf).argmax())
    others = known & (np.abs(before) * np.sqrt(len(y)) > MIN_CORRELATION_ERRORS)
    others[place] = False
    return CorrelationDrop(
        where=name_column(place),
        correlation=float(before[place]),
        validation_correlation=float(after[place]),
        z=float(z[place]),
        median_z=float(np.median(z[others])) if others.any() else 0.0,
    )


def slope_errors(train: tuple[Array, Array, Array], held_out: tuple[Array, Array, Array]) -> Array:
    """How far the slopes r sd(y)/sd(x) of columns fall from training to validation, in standard
    errors sqrt((1 - r^2)/(n - 2)) sd(y)/sd(x); of inputs [N, F], a target [N] and correlations [F].
    """
    slopes, variances = [], []
    for x, y, r in (train, held_out):
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = y.std() / x.astype(float).std(0)
        slopes.append(r * ratio)
        variances.append((1 - r**2) / (len(y) - 2) * ratio**2)
    return (slopes[0] - slopes[1]) * np.sign(slopes[0]) / np.sqrt(variances[0] + variances[1])


def correlations(x: Array, y: Array) -> Array:
    """Pearson's correlation of each column [N, F] with y [N], at most 0.9999 in size, so that its
    atanh is finite; NaN for a constant column.

    >>> correlations(np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]), np.array([2.0, 4.0, 6.0]))
    array([0.9999,    nan])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(_correlate(x.astype(float), y.astype(float)), -0.9999, 0.9999)

"""Measure examples: `profile_data` and what it calls.

Shapes: N examples, F columns, T places in a sequence, K outputs. Nothing is drawn from torch's
generators.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from ravine.diagnosis.baseline_learners import (
    Array,
    BaselineResult,
    are_tokens,
    evenly_spaced_rows,
    fit_baseline,
    has_measured_numbers,
    row_bytes,
    to_array,
)
from ravine.diagnosis.data.profile import (
    ClassCounts,
    DataProfile,
    Duplicates,
    ExampleOrder,
    LeakingColumn,
    NotFinite,
    NumberStats,
    ShiftedTargets,
    SpreadRange,
    Steepness,
    ValidationProfile,
    ValidationShift,
)

MAX_SAMPLE = 4000  # examples for what is costly
MAX_COMPARED_BYTES = 200_000_000  # of inputs that are compared for copies
MAX_COLUMNS = 500  # for what is costly
MAX_NAMED_COLUMNS = 1000  # of which figures are kept
IGNORED_TARGET = -100  # cross_entropy leaves it out
# of the distance between classes: a column that spreads no more within classes is their name
CLASS_SPREAD = 0.05
# of a number's variance: a column that leaves no more of it open is the number
OPEN_VARIANCE = 1e-3
BEYOND_DOUBT = 8.0  # standard errors, of which chance takes 1.4
ROW_SHIFTS = (1, -1, 0)  # by which targets may have slipped; 0: turned around


def profile_data(
    inputs: Tensor,
    targets: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    names: Sequence[str] = (),
    shuffled: bool = True,
    batch: int = 32,
    outputs: tuple[int, ...] = (),
    seed: int = 0,
) -> DataProfile:
    """Measure examples: inputs [N, F], [N, T, F], images [N, C, H, W] or tokens [N, T], and their
    targets.

    `names` are of the columns; `shuffled` says whether training draws a new order; `outputs` is the
    shape of the model's output for one example, () if unknown. What is costly is measured on at
    most 4,000 examples, spread evenly.

    >>> import torch
    >>> x = torch.arange(12.0).reshape(6, 2)
    >>> found = profile_data(x, torch.tensor([0, 1, 0, 1, 0, 1]))
    >>> found.kind, found.layout, dict(found.classes.train), round(found.inputs.largest_offset, 2)
    ('classes', 'table', {0: 3, 1: 3}, 1.76)
    """
    if len(inputs) != len(targets) or not len(inputs):
        counts = f"{len(inputs)} inputs and {len(targets)} targets"
        raise ValueError(f"{counts}; give one target for each input")
    held_out = None
    if validation is not None and len(validation[0]):
        held_out = to_array(validation[0]), to_array(validation[1])
    x, y = to_array(inputs), to_array(targets)
    layout, kind = find_layout(x), find_task_kind(x, y, outputs)
    # names of columns by place, as far as they are known
    named = layout == "table" and x.shape[1:] == (len(names),)
    at = dict(enumerate(names)) if named else {}
    sample = evenly_spaced_rows(len(x), MAX_SAMPLE)
    found = DataProfile(
        rows=len(x),
        shape=x.shape[1:],
        layout=layout,
        kind=kind,
        not_finite=(*_find_not_finite(x, at), *_find_not_finite(y, {}, of="target")),
        classes=_profile_classes(y, kind, outputs),
        duplicates=_find_duplicates(x, y, held_out),
    )
    if layout != "tokens":
        found = replace(found, inputs=measure_numbers(x[sample], at, by_channel=x.ndim > 2))
    elif y.shape == x.shape and y.dtype.kind in "iu":
        found = replace(found, same_tokens=float((y == x).mean()))
    if kind in ("number", "numbers", "inputs", "labels"):
        found = replace(found, targets=measure_numbers(y, {}))
    if layout == "table" and x.ndim == 2:
        leaking = _find_leaking_columns(x[sample], y[sample], kind, at, seed)
        found = replace(found, leaking_columns=leaking)
    if not shuffled and 2 * batch <= len(x):
        found = replace(found, order=_measure_order(y, kind, batch, seed))
    if held_out is not None:
        classes = replace(found.classes, validation=count_classes(held_out[1], kind))
        beside = _profile_validation(found, x[sample], y, *held_out, at)
        found = replace(found, classes=classes, validation=beside)
    return _add_baseline(found, inputs, targets, validation, seed)


def _add_baseline(
    found: DataProfile,
    inputs: Tensor,
    targets: Tensor,
    validation: tuple[Tensor, Tensor] | None,
    seed: int,
) -> DataProfile:
    """Add what quick learners reach: if nothing, also with shifted targets, or in validation."""
    kind = "tokens" if found.kind == "next" else found.kind
    best = fit_baseline(inputs, targets, kind, seed=seed)
    found = replace(found, baseline=best)
    if best is None or best.informative is not False:
        return found
    shifted = _find_shifted_targets(inputs, targets, kind, best, seed)
    if shifted is not None:
        return replace(found, shifted_targets=shifted)
    if validation is None or found.validation is None:
        return found
    other = fit_baseline(*validation, kind, seed=seed, most=min(best.examples, 600))
    return replace(found, validation=replace(found.validation, baseline=other))


def find_layout(x: Array) -> str:
    """The layout of inputs by their shape; see `DataProfile`."""
    if are_tokens(x) and x.shape[1] > 1:
        return "tokens"
    return {0: "table", 1: "table", 2: "table", 3: "signals"}.get(x.ndim, "images")


def find_task_kind(x: Array, y: Array, outputs: tuple[int, ...] = ()) -> str:
    """What targets are, by their type, shape and values; see `DataProfile`."""
    one = y.ndim == 1 or y.shape[1:] == (1,)
    if y.shape == x.shape and y.ndim > 1 and y.dtype.kind == "f" and _are_inputs(x, y):
        return "inputs"
    if y.dtype.kind in "iub":
        if one:
            return "binary" if outputs == (1,) and len(np.unique(y)) <= 2 else "classes"
        if y.ndim == 2 and y.shape[1:] == x.shape[1:2] and are_tokens(x):
            return "next" if y.shape[1] > 2 and _are_next_tokens(x, y) else "tokens"
        two, otherwise = y.min() >= 0 and y.max() <= 1, "tokens"
    else:
        values = tuple(np.unique(y[evenly_spaced_rows(len(y), MAX_SAMPLE)]))
        if one:
            return "binary" if values in ((0.0, 1.0), (-1.0, 1.0)) else "number"
        two, otherwise = values == (0.0, 1.0), "numbers"
    if not two or y.ndim != 2:
        return otherwise
    return "classes" if (y.sum(1) == 1).all() else "labels"


def _column_name(at: Mapping[int, str], place: int, of: str = "column") -> str:
    return at.get(place, f"{of} {place}")


def _find_not_finite(x: Array, at: Mapping[int, str], of: str = "column") -> tuple[NotFinite, ...]:
    """The columns of numbers that are not finite; images and signals count as one column."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return ()
    flat = x.reshape(len(x), -1)
    broken = [np.isnan(flat), np.isinf(flat), ~np.isfinite(flat)]
    if x.ndim > 2:
        broken = [np.any(each, 1, keepdims=True) for each in broken]
    counts = np.stack([each.sum(0) for each in broken], 1)  # [columns, 3]
    whole = "" if len(counts) > 1 or at else "inputs" if of == "column" else of
    return tuple(
        NotFinite(whole or _column_name(at, int(p), of), *counts[p].tolist())
        for p in np.nonzero(counts[:, 2])[0]
    )


def measure_numbers(
    x: Array, at: Mapping[int, str], *, by_channel: bool = False
) -> NumberStats | None:
    """Where numbers lie; None if none is finite. Numbers that are not finite are left out."""
    flat = x.reshape(len(x), -1)
    flat = flat[:, evenly_spaced_rows(flat.shape[1], MAX_NAMED_COLUMNS)].astype(float)
    flat = np.where(np.isfinite(flat), flat, np.nan)
    if np.isnan(flat).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any number
        means, stds = np.nanmean(flat, 0), np.nanstd(flat, 0)
        low, high = float(np.nanmin(flat)), float(np.nanmax(flat))
        mean, std = float(np.nanmean(flat)), float(np.nanstd(flat))
    means, stds = np.nan_to_num(means), np.nan_to_num(stds)
    varied = stds > 1e-7 * np.maximum(np.abs(means), 1e-30)
    equal = () if by_channel else np.nonzero(~varied)[0]
    constant = tuple(_column_name(at, int(p)) for p in equal)
    columns, column_stds = len(means), tuple(stds.tolist())
    found = NumberStats(columns, low, high, mean, std, column_stds, constant)
    if not varied.any():
        return found
    places, m, s = np.nonzero(varied)[0], means[varied], stds[varied]
    offsets = np.abs(m) / s
    few = evenly_spaced_rows(len(places), MAX_COLUMNS)
    part = np.where(np.isnan(flat), means, flat)[:, places[few]]
    standard = (part - m[few]) / s[few]
    largest, smallest = (_column_name(at, int(places[i])) for i in (s.argmax(), s.argmin()))
    return replace(
        found,
        largest_offset=float(offsets.max()),
        median_offset=float(np.median(offsets)),
        spreads=SpreadRange(float(s.max()), float(s.min()), largest, smallest),
        steepness=Steepness(_largest_eigenvalue(part), _largest_eigenvalue(standard)),
    )


def _largest_eigenvalue(part: Array) -> float:
    """The largest eigenvalue of E[x x^T]."""
    return float(np.linalg.eigvalsh(part.T @ part / len(part))[-1])


def count_classes(y: Array, kind: str) -> dict[int, int]:
    """Examples by class, also of one-hot targets, or by label; ignored targets do not count."""
    if kind == "labels" or (kind == "classes" and y.ndim == 2 and y.shape[1] > 1):
        return dict(enumerate(int(count) for count in (y > 0.5).sum(0)))
    if kind not in ("classes", "binary", "tokens", "next"):
        return {}
    values, counts = np.unique(y[y != IGNORED_TARGET], return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True)}


def _profile_classes(y: Array, kind: str, outputs: tuple[int, ...]) -> ClassCounts:
    """Examples by class, and how many targets have no output of their own."""
    found = ClassCounts(train=count_classes(y, kind), outputs=outputs)
    if kind not in ("classes", "tokens", "next") or y.dtype.kind not in "iu" or not outputs:
        return found
    if kind == "classes" and y.ndim > 1 and y.shape[1] > 1:
        return found
    by_place = kind != "classes" and len(outputs) > 1  # outputs [T, K] of one example, or [K, T]
    classes = outputs[-1 if by_place else 0]
    if classes < 2 or (by_place and outputs[:1] != y.shape[1:2]):
        return found
    known = y[y != IGNORED_TARGET]
    below, beyond = int((known < 0).sum()), int((known >= classes).sum())
    return replace(found, below_zero=below, beyond_outputs=beyond)


def _find_duplicates(x: Array, y: Array, validation: tuple[Array, Array] | None) -> Duplicates:
    """Examples that occur more than once, by their bytes."""
    most = max(100, MAX_COMPARED_BYTES // max(1, x[0].nbytes))
    kept = evenly_spaced_rows(len(x), most)
    rows, answers = row_bytes(x[kept]), row_bytes(y[kept])
    first = dict(zip(reversed(rows), reversed(answers), strict=True))  # the first of each input
    counts = Counter(rows)
    sample = x[evenly_spaced_rows(len(x), MAX_SAMPLE)]
    natural = not has_measured_numbers(sample.reshape(len(sample), -1))
    found = Duplicates(
        compared=len(rows),
        distinct=len(counts),
        most_frequent=max(counts.values()),
        natural=natural,
        contradicted=sum(first[row] != answer for row, answer in zip(rows, answers, strict=True)),
    )
    if validation is None or (validation[0].shape[1:], validation[0].dtype) != (
        x.shape[1:],
        x.dtype,
    ):
        return found
    some = evenly_spaced_rows(len(validation[0]), most)
    new_rows, new_answers = (row_bytes(each[some]) for each in validation)
    known = set(zip(rows, answers, strict=True))
    return replace(
        found,
        validation_compared=len(new_rows),
        overlap=sum(pair in known for pair in zip(new_rows, new_answers, strict=True)),
        expected_overlap=_expect_overlap(counts, Counter(new_rows)) if natural else 0.0,
    )


def _expect_overlap(counts: Counter[bytes], new_counts: Counter[bytes]) -> float:
    """How many of the new rows would be among the others by chance: any row is as likely to be
    there as a new one is.
    """
    rows, new_rows = counts.total(), new_counts.total()
    repeated = sum(count for count in counts.values() if count > 1) / rows
    pairs = sum(count * (count - 1) for count in new_counts.values())
    alike = pairs / max(1, new_rows * (new_rows - 1))
    return float(new_rows * max(repeated, 1 - (1 - alike) ** rows))


def _measure_order(y: Array, kind: str, batch: int, seed: int) -> ExampleOrder | None:
    """How alike targets of a batch are in the given order; None for targets by place or label."""
    answers = _single_answers(y, kind)
    batch = max(2, batch)
    if answers is None or len(y) < 20:
        return None
    shuffled = np.random.default_rng(seed).permutation(answers)
    steps = np.diff(answers)
    return ExampleOrder(
        purity=_purity(answers, batch, kind),
        shuffled_purity=_purity(shuffled, batch, kind),
        is_sorted=bool((steps >= 0).all() or (steps <= 0).all()) and bool((steps != 0).any()),
    )


def _single_answers(y: Array, kind: str) -> Array | None:
    """One number for each example: its class or value."""
    if kind == "classes" and y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(1)
    if kind in ("classes", "binary", "number") and y.size == len(y):
        return y.reshape(-1)
    return None


def _purity(answers: Array, batch: int, kind: str) -> float:
    batches = [answers[i : i + batch] for i in range(0, len(answers) - batch + 1, batch)]
    if kind == "number":
        whole, within = float(np.nanvar(answers)), np.mean([np.nanvar(each) for each in batches])
        return 1 - float(within) / whole if whole > 0 else 0.0
    counts = (np.unique(each, return_counts=True)[1] for each in batches)
    return float(np.mean([count.max() / batch for count in counts]))


def _profile_validation(
    found: DataProfile, x: Array, y: Array, new_x: Array, new_y: Array, at: Mapping[int, str]
) -> ValidationProfile:
    shift = None if found.layout == "tokens" else _measure_shift(x, new_x, at)
    validation = ValidationProfile(rows=len(new_x), shift=shift)
    if found.kind not in ("number", "numbers") or new_y.shape[1:] != y.shape[1:]:
        return validation
    lows, highs = np.nanmin(y, 0), np.nanmax(y, 0)
    room = 0.1 * (highs - lows)
    outside = float(((new_y < lows - room) | (new_y > highs + room)).mean())
    return replace(validation, targets=measure_numbers(new_y, {}), outside_fraction=outside)


def _measure_shift(x: Array, new: Array, at: Mapping[int, str]) -> ValidationShift | None:
    """Validation inputs beside those of training; None with under 20 rows or other columns."""
    if x.shape[1:] != new.shape[1:] or len(new) < 20 or len(x) < 20 or x.dtype.kind not in "fiub":
        return None
    new = new[evenly_spaced_rows(len(new), MAX_SAMPLE)]
    places = evenly_spaced_rows(int(np.prod(x.shape[1:], dtype=int)), MAX_COLUMNS)
    a, b = (each.reshape(len(each), -1)[:, places].astype(float) for each in (x, new))
    a, b = a[np.isfinite(a).all(1)], b[np.isfinite(b).all(1)]
    if len(a) < 20 or len(b) < 20:
        return None
    spreads, new_spreads = _quartile_spread(a), _quartile_spread(b)
    plain_a, plain_b = a.std(0), b.std(0)
    use = (spreads > 0) & (new_spreads > 0)
    spreads, new_spreads = np.where(use, spreads, plain_a), np.where(use, new_spreads, plain_b)
    varied = spreads > 1e-7 * np.maximum(np.abs(a).max(0), 1e-30)
    if not varied.any():
        return None
    middles, new_middles = (np.where(use, np.median(each, 0), each.mean(0)) for each in (a, b))
    shifts = ((new_middles - middles) / np.where(varied, spreads, 1))[varied]
    stretches = (new_spreads / np.where(varied, spreads, 1))[varied]
    error = np.sqrt(plain_a[varied] ** 2 / len(a) + plain_b[varied] ** 2 / len(b))
    z = np.abs(a.mean(0) - b.mean(0))[varied] / np.maximum(error, 1e-30)
    far = int(np.abs(shifts).argmax())
    return ValidationShift(
        median_shift=float(np.median(np.abs(shifts))),
        median_stretch=float(np.median(stretches)),
        largest_shift=float(shifts[far]),
        largest_shift_name=_column_name(at, int(places[np.nonzero(varied)[0][far]])),
        largest_z=float(z.max()),
        median_z=float(np.median(z)),
        rows=len(b),
        effective_columns=_count_effective_columns(a[:, varied & (plain_a > 0)]),
    )


def _count_effective_columns(x: Array) -> float:
    """(sum of eigenvalues)^2 / sum of their squares, of the columns' correlations."""
    standard = (x - x.mean(0)) / x.std(0)
    correlations = standard.T @ standard / len(x)
    if not correlations.size:
        return 0.0
    return float(np.trace(correlations) ** 2 / (correlations**2).sum())


def _quartile_spread(x: Array) -> Array:
    """The distance of the quartiles, in units in which a normal's is its SD."""
    low, high = np.quantile(x, (0.25, 0.75), axis=0)
    return (high - low) / 1.349


def _find_leaking_columns(
    x: Array, y: Array, kind: str, at: Mapping[int, str], seed: int
) -> tuple[LeakingColumn, ...]:
    """Columns that alone are the target: a number that the column is but for a scale (or a monotone
    function), or two classes and more that it keeps apart by far more than it spreads within
    them."""
    answers = _single_answers(y, kind)
    if answers is None or x.shape[1] < 3 or len(x) < 50 or x.dtype.kind not in "fiub":
        return ()
    flat, answers = x.astype(float), answers.astype(float)
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
    return tuple(LeakingColumn(_column_name(at, int(p)), float(alone[p]), *of_rest) for p in places)


def _score_columns_of_number(x: Array, y: Array) -> Array:
    """R2 of a line through each column, by values or ranks; 0 where it leaves `OPEN_VARIANCE`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        straight, monotone = _correlate(x, y), _correlate(rankdata(x, axis=0), rankdata(y))
    best = np.maximum(np.nan_to_num(straight) ** 2, np.nan_to_num(monotone) ** 2)
    return np.where(best >= 1 - OPEN_VARIANCE, best, 0.0)


def _correlate(x: Array, y: Array) -> Array:
    x, y = x - x.mean(0), y - y.mean()
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


def _find_shifted_targets(
    inputs: Tensor, targets: Tensor, kind: str, given: BaselineResult, seed: int
) -> ShiftedTargets | None:
    """The surest pairing with the targets of other rows, if it is beyond doubt."""
    best: ShiftedTargets | None = None
    for by in ROW_SHIFTS:
        if by:
            x, y = (inputs[:-by], targets[by:]) if by > 0 else (inputs[-by:], targets[:by])
        else:
            x, y = inputs, targets.flip(0)
        found = fit_baseline(x, y, kind, seed=seed, most=400, learners=("linear", "trees"))
        if found is not None and found.signal > max(BEYOND_DOUBT, best.signal if best else 0.0):
            best = ShiftedTargets(by, found.signal, given.signal, found.score, found.constant_score)
    return best


def _are_inputs(x: Array, y: Array) -> bool:
    """Whether targets are the inputs, but for a scale or for some places."""
    rows = evenly_spaced_rows(len(x), 500)
    a, b = (each[rows].reshape(len(rows), -1).astype(float) for each in (x, y))
    if a.shape[1] < 2 or a.std() == 0:
        return False
    if float((a == b)[a != 0].mean()) > 0.5:
        return True
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    return len(a) > 1 and a.std() > 0 and b.std() > 0 and float(np.corrcoef(a, b)[0, 1]) > 0.999


def _are_next_tokens(x: Array, y: Array) -> bool:
    """Whether targets are the inputs, one place later (but for those that are ignored)."""
    known = y[:, :-1] != IGNORED_TARGET
    return bool(known.any()) and float((y[:, :-1] == x[:, 1:])[known].mean()) > 0.95

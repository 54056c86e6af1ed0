"""Measure examples: `profile_data` and what it calls.

Shapes: N examples, F columns, T places in a sequence, K outputs. Nothing is drawn from torch's
generators.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
from torch import Tensor

from ravine.diagnosis.baseline_learners import (
    Array,
    evenly_spaced_rows,
    fit_baseline,
    score_on_validation,
    to_array,
)
from ravine.diagnosis.data import data_kinds
from ravine.diagnosis.data.duplicates import find_duplicates
from ravine.diagnosis.data.leaking_columns import find_correlation_drop, find_leaking_columns
from ravine.diagnosis.data.profile import (
    DataProfile,
    ExampleOrder,
    NotFinite,
    NumberStats,
    SpreadRange,
    Steepness,
    ValidationProfile,
)
from ravine.diagnosis.data.reshaped_inputs import find_reshaped_inputs
from ravine.diagnosis.data.shifted_targets import find_shifted_targets, find_slip
from ravine.diagnosis.data.turned_targets import find_turned_targets
from ravine.diagnosis.data.validation_shift import measure_shift
from ravine.sentinels import Sentinel, find_sentinels, find_signal_sentinels

NameColumn: TypeAlias = Callable[[int], str]  # by its place

MAX_COLUMNS = 500  # for what is costly
MAX_SHARE_DIFFERENCE = 0.1  # of one of two classes, in training and validation
MAX_NAMED_COLUMNS = 1000  # of which figures are kept
MAX_COUNT_SPREAD = 5.0  # of whole numbers that are flags or counts, of no unit


def profile_data(
    inputs: Tensor,
    targets: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    names: Sequence[str] = (),
    sources: Sequence[str] = (),
    target_names: Sequence[str] = (),
    sentinels: Sequence[Sentinel] | None = None,
    known_rows: Callable[[Array], Array] = lambda x: np.ones(len(x), bool),
    shuffled: bool = True,
    batch: int = 32,
    outputs: tuple[int, ...] = (),
    seed: int = 0,
) -> DataProfile:
    """Measure examples: inputs [N, F], [N, T, F], images [N, C, H, W] or tokens [N, T], and their
    targets.

    `names` are of the columns, `sources` the table's columns that these come from, `target_names`
    of the classes, the labels or the numbers; `sentinels` are the values that stand for gaps, if
    these were looked for before scaling; `known_rows` of inputs says which may be compared for
    copies; `shuffled` says whether training draws a new order; `outputs` is the shape of the
    model's output for one example, () if unknown. What is costly is measured on at most 4,000
    examples, spread evenly.

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
    x = to_array(inputs)
    y = to_array(targets)
    layout = data_kinds.find_layout(x)
    kind = data_kinds.find_task_kind(x, y, outputs)
    named = layout == "table" and x.shape[1:] == (len(names),)
    name_column = names.__getitem__ if named else number_column
    sources = sources if named else ()
    name_source = sources.__getitem__ if sources else name_column
    broken = _find_not_finite(x, name_column, whole="" if named else "inputs")
    sample = evenly_spaced_rows(len(x), data_kinds.MAX_SAMPLE)
    found = DataProfile(
        rows=len(x),
        shape=x.shape[1:],
        layout=layout,
        kind=kind,
        not_finite=(*broken, *_find_not_finite(y, "target {}".format, whole="target")),
        classes=data_kinds.profile_classes(y, kind, outputs, tuple(target_names)),
        shifted_targets=find_turned_targets(x, y),
    )
    if layout != "tokens":
        stats = measure_numbers(x[sample], name_source, by_channel=x.ndim > 2)
        if stats is not None and layout == "table" and x.ndim == 2:
            constant = _confirm_constant(x, stats.constant_columns, name_source)
            codes = find_sentinels(x[sample], name_column) if sentinels is None else sentinels
            stats = replace(stats, constant_columns=constant, sentinels=tuple(codes))
        elif stats is not None and layout == "signals":
            stats = replace(stats, sentinels=find_signal_sentinels(x[sample]))
        if stats is not None and x.ndim in (3, 4):
            stats = replace(stats, reshaped=find_reshaped_inputs(x))
        found = replace(found, inputs=stats)
    elif y.shape == x.shape and y.dtype.kind in "iu":
        found = replace(found, same_tokens=float((y == x).mean()))
    kept = _rows_without_sentinels(x, found.inputs) & known_rows(x)
    if kept.any():
        other = held_out
        if held_out is not None:
            places = known_rows(held_out[0])
            other = held_out[0][places], held_out[1][places]
        found = replace(found, duplicates=find_duplicates(x[kept], y[kept], other))
    if kind in ("number", "numbers", "inputs", "labels"):
        codes = _find_target_sentinels(y[sample], kind) if sentinels is None else ()
        values = measure_numbers(y)
        found = replace(found, targets=values and replace(values, sentinels=codes))
    if layout == "table" and x.ndim == 2:
        find = partial(find_leaking_columns, name_column=name_column, sources=sources)
        leaking = find(x[sample], y[sample], kind, seed=seed, target_names=target_names)
        found = replace(found, leaking_columns=leaking)
    if not shuffled and 2 * batch <= len(x):
        found = replace(found, order=_measure_order(y, kind, batch, seed))
    if held_out is not None:
        classes = replace(found.classes, validation=data_kinds.count_classes(held_out[1], kind))
        beside = _profile_validation(found, y, held_out[1])
        if layout != "tokens":
            shift = measure_shift(x[sample], held_out[0], name_column=name_column)
            beside = replace(beside, shift=shift)
        is_binary = kind == "classes" and y.size == len(y) and set(found.classes.train) == {0, 1}
        # correlations depend on the share of each class
        is_binary = (
            is_binary and abs(float(y.mean()) - float(held_out[1].mean())) <= MAX_SHARE_DIFFERENCE
        )
        if layout == "table" and (is_binary or kind in ("number", "binary")):
            drop = find_correlation_drop((x, y), held_out, name_column=name_column)
            beside = replace(beside, correlation_drop=drop)
        found = replace(found, classes=classes, validation=beside)
    return _add_baseline(found, inputs, targets, validation=validation, seed=seed)


def _find_target_sentinels(y: Array, kind: str) -> tuple[Sentinel, ...]:
    columns = y.reshape(len(y), -1)
    if kind not in ("number", "numbers") or columns.shape[1] > MAX_COLUMNS:
        return ()
    name = "target" if columns.shape[1] == 1 else "target {}"
    return find_sentinels(columns, name.format)


def _add_baseline(
    found: DataProfile,
    inputs: Tensor,
    targets: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None,
    seed: int,
) -> DataProfile:
    """Add what quick learners reach, on validation examples too; where that is nothing, also what
    they reach with shifted targets, or fitted to validation examples; else where targets slip.
    """
    kind = "tokens" if found.kind == "next" else found.kind
    best = fit_baseline(inputs, targets, kind, seed=seed)
    if best is not None and best.informative and validation is not None:
        score = score_on_validation((inputs, targets), validation, best, seed=seed)
        best = replace(best, validation_score=score)
    found = replace(found, baseline=best)
    if best is not None and best.informative and found.shifted_targets is None:
        slip = find_slip(inputs, targets, kind, given=best, seed=seed)
        return replace(found, shifted_targets=slip)
    if best is None or best.informative is not False:
        return found
    shifted = find_shifted_targets(inputs, targets, kind, given=best, seed=seed)
    if shifted is not None:
        return replace(found, shifted_targets=shifted)
    if validation is None or found.validation is None:
        return found
    other = fit_baseline(*validation, kind, seed=seed, most=min(best.examples, 600))
    return replace(found, validation=replace(found.validation, baseline=other))


def _find_not_finite(x: Array, name_column: NameColumn, *, whole: str) -> tuple[NotFinite, ...]:
    """The columns of numbers that are not finite; images and signals count as one column. A single
    column has the name `whole`, if there is one.
    """
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return ()
    flat = x.reshape(len(x), -1)
    broken = [np.isnan(flat), np.isinf(flat), ~np.isfinite(flat)]
    if x.ndim > 2:
        broken = [np.any(each, 1, keepdims=True) for each in broken]
    counts = np.stack([each.sum(0) for each in broken], 1)  # [columns, 3]
    if whole and len(counts) == 1:
        return (NotFinite(whole, *counts[0].tolist()),)
    places = np.nonzero(counts[:, 2])[0].tolist()
    return tuple(NotFinite(name_column(place), *counts[place].tolist()) for place in places)


def number_column(place: int) -> str:
    """The name of a column that has none."""
    return f"column {place}"


def measure_numbers(
    x: Array, name_column: NameColumn = number_column, *, by_channel: bool = False
) -> NumberStats | None:
    """Where numbers lie; None if none is finite. Numbers that are not finite are left out. Numbers
    of one name are one column: its spread is the largest of theirs.
    """
    flat = x.reshape(len(x), -1)
    kept = evenly_spaced_rows(flat.shape[1], MAX_NAMED_COLUMNS)
    flat = flat[:, kept].astype(float)
    flat = np.where(np.isfinite(flat), flat, np.nan)
    if np.isnan(flat).all():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any number
        means, stds = np.nanmean(flat, 0), np.nanstd(flat, 0)
        low, high = float(np.nanmin(flat)), float(np.nanmax(flat))
        mean, std = float(np.nanmean(flat)), float(np.nanstd(flat))
    means = np.nan_to_num(means)
    stds = np.nan_to_num(stds)
    varied = stds > 1e-7 * np.maximum(np.abs(means), 1e-30)
    stds[~varied] = 0.0
    counts = ((flat == np.round(flat)) | np.isnan(flat)).all(0) & (stds < MAX_COUNT_SPREAD)
    measured = varied & ~counts & ((flat == 0).mean(0) < 0.5)
    names = [name_column(place) for place in kept.tolist()]
    spreads = _spreads_by_name(names, stds)
    constant = [] if by_channel else [name for name in spreads if spreads[name] == 0]
    found = NumberStats(
        columns=len(spreads),
        low=low,
        high=high,
        mean=mean,
        std=std,
        column_stds=tuple(spreads.values()),
        constant_columns=tuple(constant),
    )
    if not varied.any():
        return found
    places = np.nonzero(varied)[0]
    few = evenly_spaced_rows(len(places), MAX_COLUMNS)
    part = np.where(np.isnan(flat), means, flat)[:, places[few]]
    means, all_stds, stds = means[varied], stds, stds[varied]
    offsets = np.abs(means) / stds
    standard = (part - means[few]) / stds[few]
    return replace(
        found,
        largest_offset=float(offsets.max()),
        median_offset=float(np.median(offsets)),
        spreads=_spread_range(spreads),
        measured_offset=float(offsets[measured[varied]].max(initial=0.0)),
        measured_spreads=_spread_range(_spreads_by_name(names, np.where(measured, all_stds, 0.0))),
        steepness=Steepness(_largest_eigenvalue(part), _largest_eigenvalue(standard)),
    )


def _spreads_by_name(names: Sequence[str], stds: Array) -> dict[str, float]:
    """The largest spread of the columns of each name, 0 for a constant one."""
    spreads: dict[str, float] = {}
    for name, spread in zip(names, stds.tolist(), strict=True):
        spreads[name] = max(spread, spreads.get(name, 0.0))
    return spreads


def _spread_range(spreads: Mapping[str, float]) -> SpreadRange:
    varied = {name: spread for name, spread in spreads.items() if spread > 0}
    if not varied:
        return SpreadRange()
    largest, smallest = max(varied, key=varied.__getitem__), min(varied, key=varied.__getitem__)
    return SpreadRange(varied[largest], varied[smallest], largest, smallest)


def _confirm_constant(
    x: Array, constant: tuple[str, ...], name_column: NameColumn
) -> tuple[str, ...]:
    """Those of the columns, constant in a sample, that are so in all examples."""
    places = [i for i in range(x.shape[1] if constant else 0) if name_column(i) in constant]
    stats = measure_numbers(x[:, places], lambda i: name_column(places[i])) if places else None
    return constant if stats is None else stats.constant_columns


def _largest_eigenvalue(part: Array) -> float:
    """The largest eigenvalue of E[x x^T]; infinite where that has numbers beyond float64."""
    moments = part.T @ part / len(part)
    return float(np.linalg.eigvalsh(moments)[-1]) if np.isfinite(moments).all() else math.inf


def _rows_without_sentinels(x: Array, inputs: NumberStats | None) -> Array:
    """Whether each example has no value that stands for a gap: such rows are alike by it."""
    known = np.ones(len(x), bool)
    for sentinel in () if inputs is None else inputs.sentinels:
        if sentinel.place >= 0:
            known &= x[:, sentinel.place] != sentinel.input_value
    return known


def _measure_order(y: Array, kind: str, batch: int, seed: int) -> ExampleOrder | None:
    """How alike targets of a batch are in the given order; None for targets by place or label."""
    answers = data_kinds.single_answers(y, kind)
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


def _purity(answers: Array, batch: int, kind: str) -> float:
    batches = [answers[i : i + batch] for i in range(0, len(answers) - batch + 1, batch)]
    if kind == "number":
        whole, within = float(np.nanvar(answers)), np.mean([np.nanvar(each) for each in batches])
        return 1 - float(within) / whole if whole > 0 else 0.0
    counts = (np.unique(each, return_counts=True)[1] for each in batches)
    return float(np.mean([count.max() / batch for count in counts]))


def _profile_validation(found: DataProfile, y: Array, new_y: Array) -> ValidationProfile:
    validation = ValidationProfile(rows=len(new_y))
    if found.kind not in ("number", "numbers") or new_y.shape[1:] != y.shape[1:]:
        return validation
    lows, highs = np.nanmin(y, 0), np.nanmax(y, 0)
    room = 0.1 * (highs - lows)
    outside = float(((new_y < lows - room) | (new_y > highs + room)).mean())
    return replace(validation, targets=measure_numbers(new_y), outside_fraction=outside)

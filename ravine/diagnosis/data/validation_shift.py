"""How far validation inputs moved from those of training, and how much wider they are."""

from collections.abc import Callable

import numpy as np

from ravine.diagnosis.baseline_learners import Array, evenly_spaced_rows
from ravine.diagnosis.data.data_kinds import MAX_SAMPLE
from ravine.diagnosis.data.profile import ValidationShift

MAX_COMPARED_COLUMNS = 500


def measure_shift(
    x: Array, new: Array, *, name_column: Callable[[int], str]
) -> ValidationShift | None:
    """Validation inputs beside those of training; None with under 20 rows or other columns."""
    if x.shape[1:] != new.shape[1:] or len(new) < 20 or len(x) < 20 or x.dtype.kind not in "fiub":
        return None
    new = new[evenly_spaced_rows(len(new), MAX_SAMPLE)]
    places = evenly_spaced_rows(int(np.prod(x.shape[1:], dtype=int)), MAX_COMPARED_COLUMNS)
    a, b = (each.reshape(len(each), -1)[:, places].astype(float) for each in (x, new))
    a = a[np.isfinite(a).all(1)]
    b = b[np.isfinite(b).all(1)]
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
        largest_shift_name=name_column(int(places[varied][far])),
        largest_z=float(z.max()),
        median_z=float(np.median(z)),
        median_stretch_z=float(np.median(_stretch_errors(a[:, varied], b[:, varied]))),
        rows=len(b),
        effective_columns=_count_effective_columns(a[:, varied & (plain_a > 0)]),
    )


def _stretch_errors(a: Array, b: Array) -> Array:
    """1 - (smaller SD / larger SD) in standard errors: relative to the SD its variance is
    (kurtosis - 1) / 4N. A column of two values of which one is rare has a large kurtosis.
    """
    low, high = np.sort([a.std(0), b.std(0)], axis=0)
    kurtosis = (((a - a.mean(0)) / np.maximum(a.std(0), 1e-30)) ** 4).mean(0)
    error = np.sqrt((kurtosis - 1) / 4 * (1 / len(a) + 1 / len(b)))
    return (1 - low / np.maximum(high, 1e-30)) / np.maximum(error, 1e-30)


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

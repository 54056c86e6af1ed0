"""Whether inputs were reshaped, not permuted, to put channels first: what were neighbors then stand
as many places apart as there are channels.

Shapes: N examples, C channels, P places of a channel, W of a row of a picture.
"""

from collections.abc import Iterable

import numpy as np

from ravine.diagnosis.baseline_learners import Array, evenly_spaced_rows
from ravine.diagnosis.data.profile import ReshapedInputs

MIN_RESHAPED, MAX_RESHAPED = 60, 1000  # examples
MAX_COMPARED_NUMBERS, MAX_EXAMPLE_NUMBERS = 2**22, 2**18  # beyond the least examples; of one
FARTHER_MULTIPLES = range(2, 7)  # times the distance of what were neighbors
MIN_ERRORS = 8.0  # standard errors of the least distance, or of a pattern on other examples
MIN_NEAR_ERRORS, MIN_FARTHER_ERRORS = 2.0, 4.0  # of the distances, in one channel and farther
PHASE_LAGS = 6  # of the products that show the pattern, at most


def find_reshaped_inputs(x: Array) -> ReshapedInputs | None:
    """Signals [N, C, P] or pictures [N, C, H, W] that were [N, P, C] or [N, H, W, C] before a
    reshape; None for others.

    Numbers C places (of pictures: C rows) apart are then nearer to each other than those 1, C - 1
    or C + 1 apart, also where one is in one channel and the other in the next. Where that is not
    sure, products of numbers k places apart depend on the place modulo C, in every channel. What is
    farther away is less near: that tells signals with a period of C, such as a week, apart.
    """
    if x.ndim not in (3, 4) or x.dtype.kind not in "fiu" or len(x) < MIN_RESHAPED:
        return None
    channels, places = x.shape[1], int(np.prod(x.shape[2:]))
    unit = x.shape[3] if x.ndim == 4 else 1
    lag, size = channels * unit, channels * places
    if (
        channels < 2
        or not max(FARTHER_MULTIPLES) * lag < size <= MAX_EXAMPLE_NUMBERS
        or lag >= places
    ):
        return None
    count = min(MAX_RESHAPED, max(MIN_RESHAPED, MAX_COMPARED_NUMBERS // size))
    rows = evenly_spaced_rows(len(x), count)
    flat = x[rows].reshape(len(rows), -1).astype(float)
    spread = flat.var(1)
    flat, spread = flat[spread > 0], spread[spread > 0]
    if len(flat) < MIN_RESHAPED or not np.isfinite(flat).all():
        return None

    def distances(lags: Iterable[int], crossing: bool) -> list[Array]:
        """Mean squared differences [N] of numbers so many places apart, in variances."""
        channel, found = np.arange(size) // places, []
        for far in lags:
            kept = (channel[:-far] != channel[far:]) == crossing
            apart = flat[:, far:][:, kept] - flat[:, :-far][:, kept]
            found.append((apart**2).mean(1) / spread)
        return found

    near = {
        crossing: distances([lag, unit, lag - unit, lag + unit], crossing)
        for crossing in (False, True)
    }
    inside, across = (min(_errors(o - own) for o in others) for own, *others in near.values())
    farther = np.mean(distances((lag * k for k in FARTHER_MULTIPLES), True), 0) - near[True][0]
    decays = x.ndim == 4 or _errors(farther) >= MIN_FARTHER_ERRORS
    if inside < MIN_NEAR_ERRORS or across <= 0 or not decays:
        return None
    signal = min(inside, across)
    if signal < MIN_ERRORS:
        signal = _phase_errors(flat / spread[:, None] ** 0.5, channels, places)
    if signal < MIN_ERRORS:
        return None
    before, own = (float(d.mean()) for d in near[False][:2])
    return ReshapedInputs(shape=x.shape[1:], own=own, before=before, signal=signal)


def _phase_errors(flat: Array, channels: int, places: int) -> float:
    """How surely products of numbers some places apart depend on the place modulo C: the pattern is
    that of one half of the examples in every other channel, held against the rest.
    """
    scores = np.zeros(len(flat) // 2)
    for k in range(1, min(channels, PHASE_LAGS) + 1):
        products = flat[:, k:] * flat[:, :-k]
        at = np.arange(products.shape[1])
        phase, even = at % channels, at // places % 2 == 0
        known = products[::2].mean(0)
        pattern = np.array([known[even & (phase == p)].mean() for p in range(channels)])
        weights = (pattern - known[even].mean())[phase[~even]]
        scores += (products[1::2, ~even] @ (weights - weights.mean()))[: len(scores)]
    return _errors(scores)


def _errors(values: Array) -> float:
    """The mean in standard errors."""
    return float(values.mean() / max(values.std() / len(values) ** 0.5, 1e-30))

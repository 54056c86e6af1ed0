"""Whether inputs were reshaped, not permuted, to put channels first: what were neighbors then stand
as many places apart as there are channels.

Shapes: N examples, C channels, P places of a channel, W of a row of an image.
"""

import numpy as np

from ravine.diagnosis.baseline_learners import Array, evenly_spaced_rows
from ravine.diagnosis.data.profile import ReshapedInputs

MIN_RESHAPED, MAX_RESHAPED = 60, 1000  # examples
MAX_EXAMPLE_NUMBERS = 2**18
FARTHER_MULTIPLES = range(2, 7)  # times the distance of what were neighbors
MIN_ERRORS = 8.0  # standard errors of the least distance, or of a pattern on other examples
MIN_NEAR_ERRORS, MIN_FARTHER_ERRORS = 2.0, 4.0  # of the distances, in one channel and farther
PHASE_LAGS = 6  # of the products that show the pattern, at most


def find_reshaped_inputs(x: Array) -> ReshapedInputs | None:
    """Signals [N, C, P] or images that were [N, P, C] before a reshape (RVN-D21); else None."""
    channels, places = x.shape[1], int(np.prod(x.shape[2:]))
    unit = x.shape[3] if x.ndim == 4 else 1
    lag, size = channels * unit, channels * places
    farther = [lag * k for k in FARTHER_MULTIPLES]
    if channels < 2 or not farther[-1] < size <= MAX_EXAMPLE_NUMBERS or lag >= places:
        return None
    rows = x[evenly_spaced_rows(len(x), MAX_RESHAPED if size < 2**12 else MIN_RESHAPED)]
    flat = rows.reshape(len(rows), -1).astype(float)
    flat = flat[flat.std(1) > 0]
    if len(flat) < MIN_RESHAPED or not np.isfinite(flat).all():
        return None
    flat = flat / flat.std(1, keepdims=True)
    channel = np.arange(size) // places

    def distance(far: int, crossing: bool) -> Array:
        """Mean squared difference [N] of numbers so many places apart, in one channel or not."""
        kept = (channel[:-far] != channel[far:]) == crossing
        return ((flat[:, far:] - flat[:, :-far])[:, kept] ** 2).mean(1)

    near = [distance(lag, crossing) for crossing in (False, True)]
    inside, across = (
        min(_errors(distance(k, crossing) - near[crossing]) for k in (unit, lag - unit, lag + unit))
        for crossing in (False, True)
    )
    decay = _errors(np.mean([distance(far, True) for far in farther], 0) - near[True])
    if inside < MIN_NEAR_ERRORS or across <= 0 or decay < MIN_FARTHER_ERRORS:
        return None
    signal = min(inside, across)
    signal = signal if signal >= MIN_ERRORS else _phase_errors(flat, channels, channel)
    own = float(distance(unit, False).mean())
    found = ReshapedInputs(shape=x.shape[1:], own=own, before=float(near[0].mean()), signal=signal)
    return found if signal >= MIN_ERRORS else None


def _phase_errors(flat: Array, channels: int, channel: Array) -> float:
    """How surely products of numbers some places apart depend on the place modulo C: the pattern is
    that of one half of the examples in every other channel, held against the rest.
    """
    scores = np.zeros(len(flat[1::2]))
    for k in range(1, min(channels, PHASE_LAGS) + 1):
        products, even = flat[:, k:] * flat[:, :-k], channel[:-k] % 2 == 0
        phase, known = np.arange(len(even)) % channels, products[::2].mean(0)
        pattern = np.array([known[even & (phase == p)].mean() for p in range(channels)])
        weights = pattern[phase[~even]]
        scores += products[1::2, ~even] @ (weights - weights.mean())
    return _errors(scores)


def _errors(values: Array) -> float:
    """The mean in standard errors."""
    return float(values.mean() / max(values.std() / len(values) ** 0.5, 1e-30))

"""Whether targets belong to other rows: the learners learn where each row gets the target of the
next or of the last one, or where the targets stand in the opposite order; or from some row on.
"""

import itertools

import numpy as np
from torch import Tensor

from ravine.diagnosis.baseline_learners import (
    LEARNER_FUNCTIONS,
    Array,
    evenly_spaced_rows,
    fit_baseline,
    make_features,
    rank_columns,
    target_columns,
    to_array,
)
from ravine.diagnosis.data.profile import BEYOND_DOUBT, BaselineResult, ShiftedTargets

ROW_SHIFTS = (1, -1, 0)  # by which targets may have slipped; 0: turned around
MAX_SLIP = 12  # rows, from some row on
MIN_SLIP_ROWS, MAX_SLIP_ROWS, MAX_SLIP_COLUMNS = 192, 4000, 20  # the first rows; outputs
SLIP_BLOCKS = 24  # of rows; a part with other targets begins and ends with one
MIN_SLIP_ERRORS = 6.0  # standard errors; by chance the surest of all parts and slips is at 4
OTHER_SHARE = 0.3  # of the association in the right pairing: most that the wrong one has


def find_shifted_targets(
    inputs: Tensor, targets: Tensor, kind: str, *, given: BaselineResult, seed: int
) -> ShiftedTargets | None:
    """The surest pairing with the targets of other rows, if it is beyond doubt."""
    best: ShiftedTargets | None = None
    for by in ROW_SHIFTS:
        x, y = inputs, targets.flip(0)
        if by:
            x, y = (inputs[:-by], targets[by:]) if by > 0 else (inputs[-by:], targets[:by])
        found = fit_baseline(x, y, kind, seed=seed, most=400, learners=("linear", "trees"))
        if found is not None and found.signal > max(BEYOND_DOUBT, best.signal if best else 0.0):
            best = ShiftedTargets(by, found.signal, given.signal, found.score, found.constant_score)
    return best


def find_slip(
    inputs: Tensor, targets: Tensor, kind: str, *, given: BaselineResult, seed: int
) -> ShiftedTargets | None:
    """The part of the rows whose inputs predict the targets some rows on or back, and not their
    own, where those of the other rows predict their own and not the others. Predictions are of the
    learner that was best, for odd rows fitted to even ones and the reverse. What holds for all
    rows, as in a series that predicts its last value, is no slip.
    """
    x, y = to_array(inputs[:MAX_SLIP_ROWS]), to_array(targets[:MAX_SLIP_ROWS])
    if kind == "tokens" or len(x) < MIN_SLIP_ROWS:
        return None
    answers = target_columns(y, kind)
    if answers.shape[1] > MAX_SLIP_COLUMNS or not np.isfinite(answers).all():
        return None
    features, out = make_features(x), np.empty_like(answers)
    learner = LEARNER_FUNCTIONS[given.learner]
    for part in (0, 1):
        old = np.arange(1 - part, len(x), 2)
        old = old[evenly_spaced_rows(len(old), 1000)]
        out[part::2] = learner(features[old], answers[old], features[part::2], seed)
    out, answers = (rank_columns(each) - (len(x) + 1) / 2 for each in (out, answers))
    out, answers = (each / np.maximum(each.std(0), 1e-9) for each in (out, answers))
    block = np.arange(len(x)) * SLIP_BLOCKS // len(x)
    ends = itertools.combinations(range(SLIP_BLOCKS + 1), 2)
    parts = [np.isin(np.arange(SLIP_BLOCKS), range(*pair)) for pair in ends]
    inside = np.array([part for part in parts if 2 <= part.sum() <= SLIP_BLOCKS - 2], float)
    inside, outside = (each / each.sum(1, keepdims=True) for each in (inside, 1 - inside))

    def associations(slip: int) -> Array:
        """Of each block's predictions with the targets some rows on."""
        return np.bincount(block, (out * np.roll(answers, -slip, 0)).mean(1)) / np.bincount(block)

    own, best = associations(0), None
    for slip in (s for s in range(-MAX_SLIP, MAX_SLIP + 1) if s):
        other = associations(slip)
        more, here = other - own, inside @ other
        wrong = np.maximum(inside @ own, outside @ other)
        spreads = [weights @ more**2 - (weights @ more) ** 2 for weights in (inside, outside)]
        share = 1 / inside.max(1) / SLIP_BLOCKS  # of the blocks
        variance = (share * spreads[0] + (1 - share) * spreads[1]) * inside.max(1)
        right = wrong <= OTHER_SHARE * np.minimum(here, outside @ own)
        signal = right * (inside @ more) / np.sqrt(np.maximum(variance, 1e-12))
        i = int(signal.argmax())
        if signal[i] > max(MIN_SLIP_ERRORS, best.signal if best else 0.0):
            first = int((block < inside[i].argmax()).sum())
            scores = float(here[i]), float(inside[i] @ own)
            best = ShiftedTargets(slip, float(signal[i]), 0.0, *scores, first_row=first)
    return best

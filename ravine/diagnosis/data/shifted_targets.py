"""Whether targets belong to other rows: the learners learn where each row gets the target of the
next or of the last one, or where the targets stand in the opposite order.
"""

from torch import Tensor

from ravine.diagnosis.baseline_learners import fit_baseline
from ravine.diagnosis.data.profile import BEYOND_DOUBT, BaselineResult, ShiftedTargets

ROW_SHIFTS = (1, -1, 0)  # by which targets may have slipped; 0: turned around


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

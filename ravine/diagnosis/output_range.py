"""What an output cannot reach: how much of the targets lies beyond the range of its activation."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ravine.diagnosis.op_names import NODE_OUTPUT_RANGES

TARGET_TOLERANCE = 1e-4  # a target that is worked out from a difference is not exact
OUTPUT_RANGES = {"0 to 1": (0.0, 1.0), "-1 to 1": (-1.0, 1.0), "from 0": (0.0, math.inf)}


def unreachable_fraction(target: Tensor, activation: str) -> float:
    """The share of a target's variance beyond the range of an activation, rounding aside."""
    low, high = NODE_OUTPUT_RANGES[activation]
    wide = target.detach().double()
    missed = wide - wide.clamp(low, high)
    missed = torch.where(missed.abs() < TARGET_TOLERANCE, 0.0, missed)
    spread = (wide - wide.mean()).square().sum()
    return float(missed.square().sum() / spread) if spread > 0 else float(bool(missed.any()))


def unreachable_loss(
    loss: Callable[[Tensor], float],
    answers: Sequence[Tensor],
    *,
    output_kind: str,
    class_axis: int,
    constant_loss: float,
) -> float | None:
    """The share of `constant_loss`, of the best constant answer, which the outputs nearest to some
    answers keep, over what the answers themselves keep; None where that is no number.
    """
    floor = min(loss(answer) for answer in answers)
    best = min(loss(nearest_outputs(answer, output_kind, class_axis)) for answer in answers)
    if not math.isfinite(best - floor) or constant_loss - floor <= 1e-9:
        return None
    return max(0.0, best - floor) / (constant_loss - floor)


def nearest_outputs(answer: Tensor, output_kind: str, class_axis: int) -> Tensor:
    """The outputs of a kind of `OUTPUT_KINDS` that come nearest to an answer."""
    if output_kind == "probabilities":
        positive = answer.clamp(min=1e-9)
        return positive / positive.sum(class_axis, keepdim=True)
    if output_kind == "log-probabilities":
        return answer.log_softmax(class_axis)
    return answer.clamp(*OUTPUT_RANGES[output_kind])

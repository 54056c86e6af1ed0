"""A loss with outputs and targets, as the probes of the loss take it: what the outputs are, and the
loss of other outputs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.diagnosis.constant_baseline import Loss
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.output_kinds import find_probabilities

FUNCTION_RANGES = {  # of the outputs of a last function
    **dict.fromkeys(("sigmoid", "softmax"), "0 to 1"),
    **dict.fromkeys(("tanh", "hardtanh"), "-1 to 1"),
    **dict.fromkeys(("relu", "softplus", "exp", "abs", "square"), "from 0"),
}

SHIFT_CHANGE = 1e-5  # relative: more than rounding


@dataclass(frozen=True)
class ProbedLoss:
    """A loss with the outputs [N, ...] of a model on some examples and their targets. `output_kind`
    is what the outputs are: probabilities or log-probabilities (over `class_axis`), a range, or ""
    for any numbers.
    """

    loss: Loss
    outputs: Tensor
    targets: Tensor
    output_kind: str = ""
    class_axis: int = -1

    def value(self, outputs: Tensor, targets: Tensor | None = None) -> float:
        """The loss of other outputs (and targets); NaN where it raises."""
        targets = self.targets if targets is None else targets
        try:
            with torch.no_grad():
                return float(self.loss(outputs.to(self.outputs.dtype), targets))
        except Exception:  # a loss may refuse numbers, such as probabilities above 1
            return math.nan

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of the loss at the outputs. Raises where there is none."""
        leaf = outputs.detach().clone().requires_grad_()
        return torch.autograd.grad(self.loss(leaf, targets).sum(), leaf)[0].double()


def prepare_loss(program: ProbedProgram, rows: Tensor | None = None) -> ProbedLoss:
    """The loss with the outputs of all examples, or of some rows."""
    kind, axis = _find_output_kind(program)
    outputs, targets = program.outputs.detach(), program.targets
    if rows is not None:
        outputs, targets = outputs[rows], targets[rows]
    return ProbedLoss(program.loss, outputs, targets, kind, axis)


def _find_output_kind(program: ProbedProgram) -> tuple[str, int]:
    """What the outputs are, by values or last activation, and the dimension of the classes."""
    out, last = program.outputs.detach(), program.trace.output_call
    dim = last.dim if last is not None and last.dim is not None else -1
    for axis in (a for a in (dim, -1, 1) if -out.dim() <= a < out.dim()):
        kind = find_probabilities(out, axis)
        if kind:
            return kind, axis
    return FUNCTION_RANGES.get("" if last is None else last.name.rstrip("_"), ""), -1


def find_normalized_axis(probed: ProbedLoss, outputs: Tensor) -> int | None:
    """The dimension of the outputs along which a loss applies a softmax, if it is only one. Then
    the loss does not change when numbers are added that are equal along this dimension.
    """
    generator = torch.Generator().manual_seed(0)
    once = probed.value(outputs)

    def is_normalized(axis: int) -> bool:
        shape = [1 if d == axis else n for d, n in enumerate(outputs.shape)]
        shift = torch.randn(shape, generator=generator).to(outputs)
        return abs(probed.value(outputs + shift) - once) <= SHIFT_CHANGE * abs(once)

    axes = [a for a in range(outputs.dim()) if outputs.shape[a] > 1 and is_normalized(a)]
    return axes[0] if len(axes) == 1 else None

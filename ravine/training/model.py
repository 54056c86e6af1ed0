"""The trained model: the members that did not diverge, averaged. From encoded examples or raw tables to predictions.

Letters: M members, N examples, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ravine.networks.program import Program
from ravine.part import stack
from ravine.recipe import Recipe
from ravine.roles import Signature
from ravine.rows import Rows
from ravine.training.measure import outputs_on


@dataclass(frozen=True)
class Model:
    """Networks of one recipe and the encoder of their table. `weights` [M, W]; `buffers` [M, ...] by name."""

    recipe: Recipe
    encoder: Any
    signature: Signature
    weights: Rows
    buffers: dict[str, Tensor]

    def members(self, examples: Any) -> Tensor:
        """What each member predicts, [M, N, C]: probabilities, or means in the target's encoded units."""
        program = Program(stack([self.recipe]).network, self.signature)
        assert self.recipe.loss is not None  # resolved before training
        return self.recipe.loss.predict(outputs_on(program, self.weights, self.buffers, examples))

    def averaged(self, examples: Any) -> Tensor:
        """The model's prediction [N, C]: the mean over its members."""
        return self.members(examples).mean(0)

    def predict(self, frame: Any) -> Any:
        """Predictions for a table's rows, as a DataFrame: the target, and for classes the probability of each."""
        examples = self.encoder.apply(frame)
        device = self.weights.device
        moved = type(examples)(*(None if t is None else t.to(device, self.weights.dtype) if t.is_floating_point()
                                 else t.to(device) for t in _fields(examples)))  # fmt: skip
        return self.encoder.frame_of(self.averaged(moved).cpu(), index=getattr(frame, "index", None))

    @property
    def size(self) -> int:
        """Weights of one member."""
        return self.weights.shape[1]


def _fields(examples: Any) -> Sequence[Tensor | None]:
    return examples.numbers, examples.codes, examples.targets, examples.weights

"""The trained model: the members that did not diverge, averaged. From encoded examples or raw
tables to predictions.

Letters: M members, N examples, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.part import stack
from ravine.protocols import Signature
from ravine.recipe import Recipe
from ravine.training.evaluation import outputs_on


@dataclass(frozen=True)
class Model:
    """Networks of one recipe and the encoder of their examples. `weights` [M, W]; `buffers` [M,
    ...] by name.
    """

    recipe: Recipe
    encoder: Any
    signature: Signature
    weights: Rows
    buffers: dict[str, Tensor]

    def members(self, examples: Any) -> Tensor:
        """What each member predicts, float64 [M, N, C]: probabilities, or means in the target's
        encoded units.

        In float64, so that a row's prediction does not depend on the rows beside it (to some
        1e-15). For pictures the sums stay in the precision of training: torch's convolutions in
        float64 take 5 to 40 times as long.
        """
        program = BatchedNetwork(stack([self.recipe]).network, self.signature)
        assert self.recipe.loss is not None  # resolved before training
        dtype = torch.float64 if self.signature.image is None else self.weights.dtype
        buffers = {name: value.to(dtype) for name, value in self.buffers.items()}
        examples = examples.to(self.weights.device, dtype)
        outputs = outputs_on(program, self.weights.to(dtype), buffers, examples)
        return self.recipe.loss.predict(outputs.double())

    def averaged(self, examples: Any) -> Tensor:
        """The model's prediction [N, C]: the mean over its members."""
        return self.members(examples).mean(0)

    def on(self, frame: Any) -> Tensor:
        """The model's prediction for a table's rows, [N, C], in encoded units."""
        return self.averaged(self.encoder.apply(frame)).cpu()

    def predict(self, frame: Any) -> Any:
        """Predictions for a table's rows, as a DataFrame: the target, and for classes the
        probability of each.
        """
        index = getattr(frame, "index", None)  # a list of paths has a method of that name
        return self.encoder.target.frame(self.on(frame), index=None if callable(index) else index)

    def averaged_on(self, frame: Any) -> np.ndarray:
        """Predictions for a table's rows as an array [N, C]: the probability of each class (two
        columns where there are two), or means in the target's own units."""
        values = self.encoder.target.decode(self.on(frame)).numpy()
        if self.encoder.target.asked.kind == "binary":
            return np.concatenate([1 - values, values], 1)
        return values

    @property
    def size(self) -> int:
        """Weights of one member."""
        return self.weights.shape[1]

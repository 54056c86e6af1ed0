"""The trained model, the mean of the members that did not diverge: from examples to predictions.

Letters: M members, N examples, C outputs.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ravine.data import Encoder, Examples, ExamplesLike, ImageEncoder, table_from
from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.part import stack
from ravine.protocols import Signature
from ravine.recipe import Recipe
from ravine.training.evaluation import block_size, outputs_on

MIN_BLOCK_ROWS = 8192


@dataclass(frozen=True)
class Model:
    """Networks of one recipe and their examples' encoder; `weights` [M, W], `buffers` [M, ...]."""

    recipe: Recipe
    encoder: Encoder | ImageEncoder
    signature: Signature
    weights: Rows
    buffers: dict[str, Tensor]

    def __repr__(self) -> str:
        """One line, without encoder and weights."""
        network = type(self.recipe.network).__name__
        return f"Model({network} of {self.size:,} weights, {len(self.weights)} networks)"

    @property
    def size(self) -> int:
        """Weights of one member."""
        return self.weights.shape[1]

    @property
    def _network(self) -> BatchedNetwork:
        return BatchedNetwork(stack([self.recipe]).network, self.signature)

    @property
    def block_rows(self) -> int:
        """Rows to predict at once: in such blocks, the numbers are those of all rows at once."""
        block = block_size(self._network)
        return block * max(1, MIN_BLOCK_ROWS // block)

    def member_predictions(self, examples: Examples) -> Tensor:
        """What each member predicts, float64 [M, N, C]: probabilities, or means in encoded units.

        In float64, so that a row's prediction does not depend on the rows beside it (to some
        1e-15). For images the sums stay in the precision of training: torch's convolutions in
        float64 take 5 to 40 times as long.
        """
        network = self._network
        assert self.recipe.loss is not None  # resolved before training
        dtype = torch.float64 if self.signature.image is None else self.weights.dtype
        buffers = {name: value.to(dtype) for name, value in self.buffers.items()}
        examples = examples.to(self.weights.device, dtype)
        outputs = outputs_on(network, self.weights.to(dtype), buffers, examples)
        return self.recipe.loss.predict(outputs.double())

    def mean_prediction(self, examples: Examples) -> Tensor:
        """The model's prediction [N, C]: the mean over its members."""
        return self.member_predictions(examples).mean(0)

    def encoded_prediction(self, frame: ExamplesLike) -> Tensor:
        """The model's prediction for new rows, [N, C], in encoded units; tables block by block."""
        if isinstance(self.encoder, ImageEncoder):
            return self.mean_prediction(self.encoder.apply(frame)).cpu()
        table, _ = table_from(frame)
        starts = range(0, len(table), self.block_rows)
        blocks = (self.encoder.apply(table[at : at + self.block_rows]) for at in starts)
        return torch.cat([self.mean_prediction(block).cpu() for block in blocks])

    def decoded_prediction(self, frame: ExamplesLike) -> np.ndarray:
        """The prediction for new rows, [N, C]: probabilities of all classes, or means in units."""
        target = self.encoder.target
        values = target.decode(self.encoded_prediction(frame)).numpy()
        binary = target.task_type.kind == "binary"
        return np.concatenate([1 - values, values], 1) if binary else values

    def predict(self, frame: ExamplesLike) -> pd.DataFrame:
        """The prediction for new rows as a table: the target, for classes also probabilities."""
        return self.prediction_frame(self.encoded_prediction(frame), frame)

    def prediction_frame(self, prediction: Tensor, frame: ExamplesLike) -> pd.DataFrame:
        """An encoded prediction [N, C] for new rows as a table, with their index."""
        index = getattr(frame, "index", None)  # a list of paths has a method of that name
        return self.encoder.target.frame(prediction, index=None if callable(index) else index)

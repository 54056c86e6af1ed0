"""Many networks of one architecture as one batch: their layers, layout and forward pass.

Letters: P networks, B examples, C outputs, W weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ravine.layout import Layout, Rows
from ravine.part import with_shared_scalars
from ravine.protocols import Batch, ForwardContext, Layer, LoadsWeights, Network, Signature
from ravine.rng import stream


class BatchedNetwork:
    """The architecture that P networks share. Their weights are arguments, so P may change."""

    def __init__(self, network: Network, signature: Signature):
        self.network = network
        self.layers: Sequence[Layer] = with_shared_scalars(network).build(signature)
        self.layout = Layout(tuple(slot for layer in self.layers for slot in layer.slots))
        # the most numbers that a layer makes of one image
        self.values = max((getattr(layer, "values", 0) for layer in self.layers), default=0)
        # whether some layer computes one network after another
        self.one_by_one = any(getattr(layer, "one_by_one", False) for layer in self.layers)

    def start(self, seeds: Sequence[int]) -> tuple[Rows, dict[str, Tensor]]:
        """Starting weights [P, W] and buffers [P, ...]; each network draws from its own streams."""
        count = len(seeds)
        tensors = {}
        for layer in self.layers:
            generators = {s.name: [stream(seed, s.name) for seed in seeds] for s in layer.slots}
            tensors |= layer.start(generators)
        loaded = self.load_weights()
        buffers = self.buffers
        for name, value in loaded.items():
            if name not in buffers:
                tensors[name] = value.float().expand(count, *value.shape)
        rows = torch.cat([tensors[s.name].reshape(count, -1) for s in self.layout.slots], 1)
        started = {n: loaded.get(n, v).expand(count, *v.shape) for n, v in buffers.items()}
        return rows, {name: value.clone() for name, value in started.items()}

    @property
    def buffers(self) -> dict[str, Tensor]:
        """Starting values [*shape] by name of what is not trained, such as running statistics."""
        return {name: value for layer in self.layers for name, value in layer.buffers.items()}

    def load_weights(self) -> dict[str, Tensor]:
        """Starting tensors from an earlier training, by name [*shape]; empty for most networks."""
        if not isinstance(self.network, LoadsWeights):
            return {}
        shapes = {slot.name: slot.shape for slot in self.layout.slots}
        shapes |= {name: tuple(value.shape) for name, value in self.buffers.items()}
        return self.network.load_weights(shapes)

    def __call__(self, tensors: dict[str, Tensor], batch: Batch, context: ForwardContext) -> Tensor:
        """Outputs [P, B, C] of all networks on their batches."""
        x: Any = batch
        for layer in self.layers:
            x = layer(x, tensors, context)
            if context.layer_outputs is not None:
                context.layer_outputs.append(x)
        return x

"""A built network: the layers of a recipe's network, where its weights stand, and what all of it
computes.

Letters: P networks, B examples, C outputs, W weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ravine.layout import Layout, Rows
from ravine.part import with_shared_scalars
from ravine.protocols import Batch, Continues, Layer, Network, Pass, Signature
from ravine.rng import stream


class Program:
    """What networks of one shape have in common. The weights are handed in at each call, so P may
    change.
    """

    def __init__(self, network: Network, signature: Signature):
        self.network = network
        self.layers: Sequence[Layer] = with_shared_scalars(network).build(signature)
        self.layout = Layout(tuple(slot for layer in self.layers for slot in layer.slots))
        self.values = max(
            (getattr(layer, "values", 0) for layer in self.layers), default=0
        )  # of one picture, at most
        self.one_by_one = any(
            getattr(layer, "one_by_one", False) for layer in self.layers
        )  # works network by network

    def start(self, seeds: Sequence[int]) -> tuple[Rows, dict[str, Tensor]]:
        """Starting weights [P, W] and buffers [P, ...]; each slot of each network from a stream of
        its own.
        """
        tensors: dict[str, Tensor] = {}
        for layer in self.layers:
            tensors |= layer.start(
                {s.name: [stream(seed, s.name) for seed in seeds] for s in layer.slots}
            )
        taken, beside = self.taken(), self.buffers
        tensors |= {
            n: value.float().expand(len(seeds), *value.shape)
            for n, value in taken.items()
            if n not in beside
        }
        rows = torch.cat([tensors[s.name].reshape(len(seeds), -1) for s in self.layout.slots], 1)
        buffers = {
            n: taken.get(n, value).expand(len(seeds), *value.shape).clone()
            for n, value in beside.items()
        }
        return rows, buffers

    @property
    def buffers(self) -> dict[str, Tensor]:
        """What stands beside the weights at the start, by name [*shape]."""
        return {name: value for layer in self.layers for name, value in layer.buffers.items()}

    def taken(self) -> dict[str, Tensor]:
        """What the network starts from that was learned before, by name [*shape]; nothing for
        most.
        """
        if not isinstance(self.network, Continues):
            return {}
        shapes = {slot.name: slot.shape for slot in self.layout.slots}
        return self.network.taken(
            shapes | {name: tuple(value.shape) for name, value in self.buffers.items()}
        )

    def __call__(self, tensors: dict[str, Tensor], batch: Batch, now: Pass) -> Tensor:
        """Outputs [P, B, C] of all networks on their batches."""
        x: Any = batch
        for layer in self.layers:
            x = layer(x, tensors, now)
            if now.tapped is not None:
                now.tapped.append(x)
        return x

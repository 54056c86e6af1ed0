"""Batch normalization's statistics for weights that never trained: averages, soups (Izmailov et al.
2018, section 3.2).

Running statistics belong to the weights that were trained. Averaged weights give other signals, so
the mean and the variance of every unit are worked out anew: one pass over the training examples,
each batch counting by its size. Letters: P networks, B examples in a batch.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.networks.layer_parts import BatchNorm
from ravine.networks.torch_module import TorchModuleLayer
from ravine.part import is_part
from ravine.protocols import Batch, ForwardContext, Network, Signature


@torch.no_grad()
def recomputed(
    network: Network,
    signature: Signature,
    weights: Rows,
    buffers: dict[str, Tensor],
    batches: Iterable[Batch],
    *,
    seeds: Sequence[int],
    batch: int,
) -> dict[str, Tensor]:
    """The buffers that belong to weights [P, W]: means over batches of the batch statistics, [P,
    ...] by name.

    As torch's `update_bn` does, with two differences: a smaller last batch counts less, and one of
    a single example, which has no variance, not at all. Dropout is as in training. Without buffers
    nothing is done.
    """
    if not buffers:
        return {}
    program = BatchedNetwork(_forgetting(network), signature)
    for layer in program.layers:
        if isinstance(layer, TorchModuleLayer):
            layer.module = _module_forgetting(layer.module)
    tensors = program.layout.views(weights)
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in buffers.items()}
    count = 0
    for step, found in enumerate(batches):
        size = found.numbers.shape[1]
        if size < 2:
            continue
        newest = {name: value.clone() for name, value in buffers.items()}
        program(
            tensors,
            found,
            ForwardContext(training=True, seeds=seeds, step=step, batch=batch, buffers=newest),
        )
        for name, value in newest.items():
            sums[name] += size * value.double()
        count += size
    return (
        {name: (total / count).to(buffers[name].dtype) for name, total in sums.items()}
        if count
        else dict(buffers)
    )


def _module_forgetting(module: nn.Module) -> nn.Module:
    """The same of a module of one's own; a copy, since all networks of a kind share what was looked
    at.
    """
    module = copy.deepcopy(module)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = 1.0
    return module


def _forgetting(value: Any) -> Any:
    """A network whose running statistics are those of the newest batch."""
    if isinstance(value, tuple):
        return tuple(_forgetting(v) for v in value)
    if not is_part(value):
        return value
    if isinstance(value, BatchNorm):
        return dataclasses.replace(value, momentum=1.0)
    changes = {f.name: _forgetting(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return dataclasses.replace(value, **changes)

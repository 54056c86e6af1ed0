"""Batch norm's statistics for weights that never trained: averages, soups (Izmailov et al. 2018).


Running statistics belong to the weights that were trained. Averaged weights give other signals, so
the mean and the variance of every unit are computed anew: one pass over the training examples, each
batch counting by its size. Letters: P networks, B examples in a batch.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
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
def recompute_statistics(
    network: Network,
    signature: Signature,
    weights: Rows,
    buffers: dict[str, Tensor],
    batches: Iterable[Batch],
    *,
    seeds: Sequence[int],
    batch: int,
) -> dict[str, Tensor]:
    """The buffers that belong to weights [P, W]: means of batch statistics, [P, ...] by name.

    As torch's `update_bn` does, with two differences: a smaller last batch counts less, and one of
    a single example not at all. Dropout is as in training. Without buffers nothing is done.
    """
    if not buffers:
        return {}
    built = BatchedNetwork(_reset_momentum(network), signature)
    for layer in built.layers:
        if isinstance(layer, TorchModuleLayer):
            layer.module = _reset_module_momentum(layer.module)
    tensors = built.layout.views(weights)
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in buffers.items()}
    count, context = 0, ForwardContext(training=True, seeds=seeds, batch=batch)
    for step, found in enumerate(batches):
        size = found.numbers.shape[1]
        if size < 2:
            continue
        newest = {name: value.clone() for name, value in buffers.items()}
        built(tensors, found, replace(context, step=step, buffers=newest))
        for name, value in newest.items():
            sums[name] += size * value.double()
        count += size
    if not count:
        return dict(buffers)
    return {name: (total / count).to(buffers[name].dtype) for name, total in sums.items()}


def _reset_module_momentum(module: nn.Module) -> nn.Module:
    """The same for a torch module; a copy, since all networks of a shape share one."""
    module = copy.deepcopy(module)
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.momentum = 1.0
    return module


def _reset_momentum(value: Any) -> Any:
    """A network whose running statistics are those of the newest batch (momentum 1)."""
    if isinstance(value, tuple):
        return tuple(_reset_momentum(v) for v in value)
    if not is_part(value):
        return value
    if isinstance(value, BatchNorm):
        return replace(value, momentum=1.0)
    changes = {f.name: _reset_momentum(getattr(value, f.name)) for f in fields(value)}
    return replace(value, **changes)

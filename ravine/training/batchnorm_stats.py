"""Batch norm's statistics for weights that never trained: averages, soups (Izmailov et al. 2018).

Running statistics belong to the weights that were trained. Averaged weights give other signals, so
the mean and the variance of every unit are computed anew: one pass over the training examples, each
batch counting by its size. Letters: P networks, B examples in a batch.
"""

import copy
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ravine.layout import Rows
from ravine.networks.batched import BatchedNetwork
from ravine.networks.torch_module import TorchModuleLayer
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext
from ravine.serialization import replace_everywhere
from ravine.training.cohort import Job


@torch.no_grad()
def recompute_statistics(
    job: Job, weights: Rows, buffers: dict[str, Tensor], *, batches: Iterable[Batch]
) -> dict[str, Tensor]:
    """The buffers of a job's weights [P, W]: means of batch statistics, [P, ...] by name.

    As torch's `update_bn` does, with two differences: a smaller last batch counts less, and one of
    a single example not at all. Dropout is as in training. Without buffers nothing is done.
    """
    if not buffers:
        return {}
    # momentum 1: running statistics are those of the newest batch
    network = replace_everywhere(stack(job.recipes).network, {"momentum": 1.0})
    built = BatchedNetwork(network, job.signature)
    for layer in built.layers:
        if isinstance(layer, TorchModuleLayer):
            layer.module = copy.deepcopy(layer.module)  # all networks of a shape share one
            for norm in layer.module.modules():
                if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                    norm.momentum = 1.0
    tensors = built.layout.views(weights)
    sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in buffers.items()}
    context = ForwardContext(training=True, seeds=job.seeds, batch=job.batch)
    count = 0
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

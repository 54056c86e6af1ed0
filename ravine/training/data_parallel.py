"""Training the same networks in several processes: each has a part of every batch (`ranks.py`).

What depends on all of a batch is pooled over the parts (batch norm), drawn by an example's place in
the whole batch (dropout), or done to the whole batch by all (augmentation). Refused is a torch
module whose outputs depend on the other examples, or on numbers that it draws.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ravine.data import RowGroups, Task
from ravine.errors import RecipeError
from ravine.networks.batched import BatchedNetwork
from ravine.networks.torch_module import TRIAL_EXAMPLES, TorchModuleLayer, factory_name
from ravine.ranks import Ranks
from ravine.rng import isolated_rng
from ravine.training.cohort import Job
from ravine.training.job_control import JobControl
from ravine.training.jobs import JobAssignment


def share_jobs_(
    assignments: Sequence[JobAssignment],
    controls: Sequence[JobControl],
    ranks: Ranks,
    folder: Path | None,
) -> None:
    """Let jobs be trained by all ranks. Raises `RecipeError` where that gives other numbers."""
    ranks.start(folder, lambda: controls[0].is_asked_to_stop)
    for assignment, control in zip(assignments, controls, strict=True):
        job = assignment.job
        _check_shares(job, assignment.task, ranks.count)
        for layer in BatchedNetwork(job.recipes[0].network, job.signature).layers:
            if isinstance(layer, TorchModuleLayer):
                _check_module(layer)
        assignment.job = replace(job, ranks=ranks, device=ranks.device(job.device))
        control.ranks = ranks
        control.report = control.report if ranks.rank == 0 else None


def _check_shares(job: Job, task: Task, ranks: int) -> None:
    """Raise `RecipeError` where some rank would have no examples of a full batch."""
    shards = task.train.shards(ranks) if isinstance(task.train, RowGroups) else [1] * ranks
    if min(shards) * job.batch < sum(shards):
        why = f"{ranks} processes share each batch"
        if isinstance(task.train, RowGroups):
            why += f"; one reads row groups with {min(shards)} of {sum(shards)} training rows"
        do = "make it larger, start fewer processes, or write more row groups"
        raise RecipeError(f"batch is {job.batch}", why=why, do=do)


def _check_module(layer: TorchModuleLayer) -> None:
    """Raise `RecipeError` where a module mixes examples or draws numbers, which is tried."""
    module, image = layer.module.train(), layer.signature.image
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with isolated_rng(0), torch.no_grad():
        x = torch.randn(TRIAL_EXAMPLES, *image[:3] if image else [layer.signature.numbers])
        before = torch.get_rng_state()
        copies = [{name: tensor.clone() for name, tensor in named.items()} for _ in range(3)]
        parts = zip(copies, (x, x[::2], x[1::2]), strict=True)
        whole, *halves = (torch.func.functional_call(module, *one) for one in parts)
        drew = not torch.equal(torch.get_rng_state(), before)
    mixes = not torch.allclose(torch.stack(halves, 1).flatten(0, 1), whole, 1e-3, 1e-4)
    mixes = mixes or any(not torch.equal(copies[0][name], named[name]) for name in named)
    if drew or mixes:
        suspects = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        kinds = sorted({type(m).__name__ for m in module.modules() if isinstance(m, suspects)})
        what = f"the module of {factory_name(layer.make)} cannot be trained by several processes"
        why = "it draws numbers" if drew else "it depends on all examples of a batch"
        why += f" in training ({', '.join(kinds) or 'as a trial showed'})"
        do = "train it in one process, or use Ravine's own layers, GroupNorm or LayerNorm"
        raise RecipeError(what, why=why, do=do)

"""A network of pictures trains to the same bits alone, in a cohort that networks leave, and from a
checkpoint.
"""

import dataclasses

import pytest
import torch
from torch import nn

from ravine import catalog
from ravine.data import Examples
from ravine.early_stopping import EarlyStopping
from ravine.losses import SoftmaxCrossEntropy
from ravine.metrics import main_metric
from ravine.networks.conv import AveragePool, Conv, MaxPool, ResNet
from ravine.networks.layer_parts import BatchNorm, Dropout, LayerNorm, SpatialDropout
from ravine.networks.mlp import Mlp
from ravine.networks.torch_module import TorchModule
from ravine.optimizers import ALL as OPTIMIZERS
from ravine.optimizers import AdamW, Momentum
from ravine.protocols import ImageShape, Plan, SearchOptimizer, Signature
from ravine.training.batches import InMemory
from ravine.training.checkpoint import load_checkpoint, save_checkpoint
from ravine.training.cohort import Job, start_cohort
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.loop import train_cohort

COUNT, BATCH, EPOCHS = 73, 16, 3


def examples(seed):
    """Pictures of 3 × 7 × 9 whose brightness tells the class, mostly."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, 3, (COUNT,), generator=generator)
    noise = torch.randint(0, 120, (COUNT, 3, 7, 9), generator=generator)
    return Examples((noise + 50 * classes[:, None, None, None]).to(torch.uint8), None, classes)


def module(signature):
    return nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.SiLU(),
        nn.Dropout(0.2),
        nn.Flatten(),
        nn.Linear(5 * 5 * 7, signature.outputs),
    )


NETWORKS = {
    "Conv": Conv(channels=(5, 6), hidden=(7,), dropout=Dropout(rate=0.3)),
    "Conv, spatial dropout": Conv(
        channels=(5, 6), hidden=(), spatial_dropout=SpatialDropout(rate=0.3), norm=None
    ),
    "Conv, separable": Conv(
        channels=(5, 6), hidden=(), separable=True, pool=AveragePool(), global_average=True
    ),
    "Conv, overlapping pools": Conv(
        channels=(5,), convolutions=2, pool=MaxPool(size=3, stride=2), norm=LayerNorm()
    ),
    "ResNet": ResNet(channels=(5, 6), blocks=1, norm=BatchNorm(momentum=0.2)),
    "Mlp": Mlp(hidden=(7,)),
    "Module": TorchModule(make=module),
}


def job(network, rates, seeds, optimizer=None, patience=None):
    plain = dataclasses.replace(
        catalog.plain(), network=network, loss=SoftmaxCrossEntropy(), batch=BATCH, epochs=EPOCHS
    )
    if patience is not None:
        plain = dataclasses.replace(plain, stop=EarlyStopping(patience=patience))
    recipes = tuple(
        dataclasses.replace(plain, optimizer=optimizer or Momentum()).vary("optimizer.lr", lr)
        for lr in rates
    )
    per_epoch = -(-COUNT // BATCH)
    signature = Signature(0, (), 3, ImageShape(3, 7, 9, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2)))
    return Job(
        recipes=recipes,
        seeds=tuple(seeds),
        signature=signature,
        plan=Plan(EPOCHS * per_epoch, per_epoch),
        batch=BATCH,
    )


def trained(cohort, pause=lambda cohort: False):
    evaluate = Evaluator(cohort.job.plan, examples(1), main_metric("classes"))
    with exact_arithmetic():
        batches = InMemory(examples(0), cohort.seeds, batch=BATCH)
        train_cohort(cohort, batches, evaluate, pause=pause)
    return cohort


def assert_same(together, alone, i):
    """Network i of a cohort has what it has when it is trained alone: kept weights and buffers, and
    every series.
    """
    for name, value in alone.ended.tensors.items():
        assert torch.equal(together.ended.tensors[name][i], value[0]), name
    for name, points in alone.log.series.items():
        for step, values in points:
            assert dict(together.log.series[name])[step][i] == values[0], (name, step)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    rates, seeds = (0.05, 0.02, 0.01), (3, 4, 5)
    together = trained(start_cohort(job(NETWORKS[name], rates, seeds)))
    assert together.ended.outcomes == ["finished"] * 3
    for i in (0, 2):
        assert_same(
            together,
            trained(start_cohort(job(NETWORKS[name], rates[i : i + 1], seeds[i : i + 1]))),
            i,
        )


@pytest.mark.parametrize("name", ["Conv", "ResNet", "Module"])
def test_networks_that_leave_change_nothing_for_those_that_stay(name):
    rates, seeds = (1e30, 0.02, 0.01), (3, 4, 5)  # the first diverges, and leaves after an epoch
    together = trained(start_cohort(job(NETWORKS[name], rates, seeds, patience=1)))
    assert (
        together.ended.outcomes[0] == "diverged"
        and together.ended.tensors["steps"][0] < together.ended.tensors["steps"][1]
    )
    assert_same(
        together, trained(start_cohort(job(NETWORKS[name], rates[1:2], seeds[1:2], patience=1))), 1
    )


@pytest.mark.parametrize("name", ["Conv", "ResNet", "Module"])
def test_from_a_checkpoint_it_goes_on_as_if_it_had_not_stopped(name, tmp_path):
    asked = job(NETWORKS[name], (0.05, 0.02), (3, 4), optimizer=AdamW())
    whole = trained(start_cohort(asked))
    half = trained(start_cohort(asked), pause=lambda cohort: cohort.step == 7)
    save_checkpoint(half, tmp_path / "checkpoint.safetensors")
    again = trained(load_checkpoint(tmp_path / "checkpoint.safetensors", asked))
    for name, value in whole.ended.tensors.items():
        assert torch.equal(again.ended.tensors[name], value), name


@pytest.mark.parametrize(
    "cls", [c for c in OPTIMIZERS if not issubclass(c, SearchOptimizer)], ids=lambda c: c.__name__
)
def test_every_optimizer_moves_convolutions(cls):
    asked = job(NETWORKS["ResNet"], (0.01,), (3,))
    cohort = start_cohort(
        dataclasses.replace(asked, recipes=(asked.recipes[0].vary("optimizer", cls()),))
    )
    before = cohort.network.layout.views(cohort.weights)["stage.1.0.first.weight"].clone()
    trained(cohort, pause=lambda cohort: cohort.step == 2)
    after = cohort.network.layout.views(cohort.weights)["stage.1.0.first.weight"]
    assert after.isfinite().all() and not torch.equal(before, after)

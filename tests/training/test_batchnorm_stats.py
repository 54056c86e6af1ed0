"""Statistics of batch normalization for averaged weights: torch's `update_bn`, and Swa that uses
them.
"""

import dataclasses

import pytest
import torch

from ravine import catalog
from ravine.data import Data
from ravine.networks import layer_parts, mlp
from ravine.networks.batched import BatchedNetwork
from ravine.networks.torch_module import TorchModule
from ravine.optimizers import Ema, Swa
from ravine.part import stack
from ravine.protocols import Batch, Plan, Signature
from ravine.training.batchnorm_stats import recompute_statistics
from ravine.training.cohort import Job
from ravine.training.defaults import prepare
from ravine.training.train import train, train_all

NETWORK = mlp.Mlp(hidden=(6, 5), norm=layer_parts.BatchNorm(momentum=0.3))
RECIPE = dataclasses.replace(
    catalog.plain(),
    data=Data(source="iris"),
    network=NETWORK,
    average=Swa(start_at=0.5),
    epochs=8,
    batch=17,  # 102 = 6 · 17 rows: torch counts batches, not examples
    seeds=2,
)


def torchs(layout, weights, hidden=(6, 5)):
    """A torch network with the weights of one of ours."""
    tensors = {n: v[0].double() for n, v in layout.views(weights).items()}
    layers = []
    for i, _ in enumerate(hidden):
        w = tensors[f"hidden.{i}.weight"]
        linear, norm = (
            torch.nn.Linear(*w.shape, bias=False).double(),
            torch.nn.BatchNorm1d(w.shape[1]).double(),
        )
        linear.weight.data, norm.weight.data = (
            w.T.clone(),
            tensors[f"hidden.{i}.norm.gamma"].reshape(-1).clone(),
        )
        norm.bias.data = tensors[f"hidden.{i}.norm.beta"].reshape(-1).clone()
        layers += [linear, norm, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def job_of(network, signature, *, seed, batch):
    recipe, plan = RECIPE.vary("network", network), Plan(steps=1, per_epoch=1)
    return Job(recipes=(recipe,), seeds=(seed,), signature=signature, plan=plan, batch=batch)


def test_they_are_torchs_update_bn():
    program = BatchedNetwork(stack([NETWORK]), Signature(4, (), 3))
    weights, buffers = program.start([3])
    weights, buffers = (
        weights.double(),
        {n: v.double() + 7 for n, v in buffers.items()},
    )  # stale ones do not matter
    batches = (
        torch.randn(5, 20, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
        + 1
    )
    job = job_of(NETWORK, Signature(4, (), 3), seed=3, batch=20)
    found = recompute_statistics(job, weights, buffers, batches=[Batch(b[None]) for b in batches])
    model = torchs(program.layout, weights)
    torch.optim.swa_utils.update_bn(list(batches), model)
    for i in range(2):
        norm = model[3 * i + 1]
        torch.testing.assert_close(found[f"hidden.{i}.norm.mean"].reshape(-1), norm.running_mean)
        torch.testing.assert_close(found[f"hidden.{i}.norm.variance"].reshape(-1), norm.running_var)


def test_those_of_a_module_of_ones_own_are_worked_out_anew_too():
    network = TorchModule(
        make=lambda s: torch.nn.Sequential(torch.nn.Linear(s.numbers, 5), torch.nn.BatchNorm1d(5))
    )
    signature = Signature(4, (), 5)
    weights, buffers = BatchedNetwork(network, signature).start([3])
    batches = torch.randn(5, 20, 4, generator=torch.Generator().manual_seed(0)) * 3 + 1
    job = job_of(network, signature, seed=3, batch=20)
    cut = [Batch(b[None]) for b in batches]
    found = recompute_statistics(job, weights, buffers, batches=cut)
    tensors = BatchedNetwork(network, signature).layout.views(weights)
    signal = batches.flatten(0, 1) @ tensors["module.0.weight"][0].T + tensors["module.0.bias"][0]
    torch.testing.assert_close(found["module.1.running_mean"][0], signal.mean(0))
    again = recompute_statistics(job, weights, found, batches=cut)
    torch.testing.assert_close(
        again["module.1.running_mean"], found["module.1.running_mean"], rtol=0, atol=0
    )


def test_a_smaller_batch_counts_less_and_one_example_not_at_all():
    network = mlp.Mlp(hidden=(3,), norm=layer_parts.BatchNorm())
    program, signature = BatchedNetwork(stack([network]), Signature(2, (), 1)), Signature(2, (), 1)
    weights, buffers = program.start([0])
    x = torch.randn(13, 2, generator=torch.Generator().manual_seed(1))
    cut = [Batch(part[None]) for part in (x[:8], x[8:12], x[12:])]
    job = job_of(network, signature, seed=0, batch=8)
    found = recompute_statistics(job, weights, buffers, batches=cut)
    signal = x[:12] @ program.layout.views(weights)["hidden.0.weight"][0]
    torch.testing.assert_close(found["hidden.0.norm.mean"].reshape(-1), signal.mean(0))


@pytest.mark.parametrize("average", [Swa(start_at=0.5), Ema(decay=0.9)])
def test_averaged_weights_leave_training_with_their_own_statistics(average):
    run = train(RECIPE.vary("average", average))
    task, _ = prepare(RECIPE)
    model = run.model
    for place, row in enumerate(model.weights):
        reference = torchs(BatchedNetwork(stack([NETWORK]), model.signature).layout, row[None])
        order = torch.randperm(
            102, generator=torch.Generator().manual_seed(0)
        )  # any: the mean is over the whole split
        torch.optim.swa_utils.update_bn(
            list(task.train_examples.numbers.double()[order].split(102)), reference
        )
        mean = model.buffers["hidden.0.norm.mean"][place].reshape(-1).double()
        torch.testing.assert_close(mean, reference[1].running_mean, rtol=1e-4, atol=1e-5)
    raw = train(RECIPE.vary("average", None)).model.buffers["hidden.0.norm.mean"]
    assert (
        raw - model.buffers["hidden.0.norm.mean"]
    ).abs().max() > 1e-3  # the stale ones were others


def test_alone_and_in_company_they_are_the_same():
    recipes = [RECIPE, RECIPE.vary("optimizer.lr", 0.03), RECIPE.vary("optimizer.lr", 1e20)]
    together = train_all(recipes)
    for recipe, run in zip(recipes[:2], together[:2], strict=True):
        alone = train(recipe).model
        for name, value in alone.buffers.items():
            assert torch.equal(value, run.model.buffers[name])


def test_networks_without_batch_norm_are_left_alone():
    job = job_of(mlp.Mlp(), Signature(2, (), 1), seed=0, batch=1)
    assert recompute_statistics(job, torch.zeros(1, 1), {}, batches=[]) == {}

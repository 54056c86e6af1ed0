"""Modules of one's own: the same numbers as the module by itself, a start and a dropout for each
network.
"""

import dataclasses

import pytest
import torch
from torch import nn

from ravine import catalog
from ravine.data import Data
from ravine.effects import Meter
from ravine.errors import RecipeError
from ravine.networks.batched import BatchedNetwork
from ravine.networks.layer_parts import BatchNorm, LayerNorm
from ravine.networks.mlp import Mlp
from ravine.networks.torch_module import TorchModule
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext, ImageShape, Signature
from ravine.serialization import from_plain, to_plain
from ravine.training.train import open_run, train, train_all

PICTURES = Signature(0, (), 3, ImageShape(1, 6, 6, (0.5,), (0.25,)))


def table(signature):
    return nn.Sequential(
        nn.Linear(signature.numbers, 9),
        nn.BatchNorm1d(9),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(9, signature.outputs),
    )


def small(signature):
    return nn.Sequential(
        nn.Conv2d(signature.image.channels, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Dropout2d(0.4),
        nn.Flatten(),
        nn.Linear(5 * 4 * 4, signature.outputs),
    )


def built(make, signature, seeds):
    program = BatchedNetwork(stack([TorchModule(make=make)] * len(seeds)), signature)
    rows, buffers = program.start(seeds)
    return program, rows, buffers


def recipe(**changes):
    plain = dataclasses.replace(
        catalog.plain(), data=Data(source="iris"), network=TorchModule(make=table), epochs=2
    )
    return dataclasses.replace(plain, **{"seeds": 2, **changes})


def test_outputs_gradients_and_running_statistics_are_the_modules_own():
    program, rows, buffers = built(lambda s: small(s)[:3].append(small(s)[4:]), PICTURES, [0, 1])
    leaves = {
        n: v.detach().requires_grad_() for n, v in program.layout.views(rows.double()).items()
    }
    buffers = {n: b.double() for n, b in buffers.items()}
    x = torch.randint(0, 256, (2, 7, 1, 6, 6), dtype=torch.uint8)
    outputs = program(
        leaves, Batch(x), ForwardContext(training=True, seeds=[0, 1], batch=7, buffers=buffers)
    )
    grads = dict(
        zip(leaves, torch.autograd.grad(outputs.square().sum(), list(leaves.values())), strict=True)
    )
    for p in range(2):
        net = small(PICTURES)[:3].append(small(PICTURES)[4:]).double()
        net.load_state_dict(
            {n: leaves[f"module.{n}"][p].detach() for n, _ in net.named_parameters()}, strict=False
        )
        expected = net((x[p].double() / 255 - 0.5) / 0.25)
        torch.testing.assert_close(outputs[p], expected, rtol=1e-10, atol=1e-10)
        expected.square().sum().backward()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(
                grads[f"module.{name}"][p], parameter.grad, rtol=1e-9, atol=1e-9
            )
        torch.testing.assert_close(buffers["module.1.running_var"][p], net[1].running_var)
        assert buffers["module.1.num_batches_tracked"][p] == 1


def test_every_network_has_its_own_start_and_dropout_whatever_the_company():
    make, seeds = small, [4, 5, 6]
    program, rows, _ = built(make, PICTURES, seeds)
    assert not torch.equal(rows[0], rows[1])
    x = torch.randint(0, 256, (1, 7, 1, 6, 6), dtype=torch.uint8)
    state = torch.random.get_rng_state()

    def outputs(members, step):
        program, rows, buffers = built(make, PICTURES, [seeds[m] for m in members])
        leaves = {n: v.detach().requires_grad_() for n, v in program.layout.views(rows).items()}
        now = ForwardContext(
            training=True, seeds=[seeds[m] for m in members], step=step, batch=7, buffers=buffers
        )
        y = program(leaves, Batch(x), now)
        grads = torch.autograd.grad(y.square().sum(), list(leaves.values()))
        return [y.detach(), *grads, *buffers.values()]

    together = outputs([0, 1, 2], 3)
    for members in ([0], [1, 2]):
        assert all(
            torch.equal(a[members], b) for a, b in zip(together, outputs(members, 3), strict=True)
        )
    assert not torch.equal(together[0], outputs([0, 1, 2], 4)[0]), (
        "the same units are dropped at every step"
    )
    assert torch.equal(torch.random.get_rng_state(), state), "torch's own random numbers have moved"


def test_roles_and_fans():
    program, _, _ = built(small, PICTURES, [0])
    slots = {s.name: s for s in program.layout.slots}
    assert {n: s.role for n, s in slots.items()} == {
        "module.0.weight": "weight",
        "module.0.bias": "bias",
        "module.1.weight": "scale",
        "module.1.bias": "bias",
        "module.5.weight": "weight",
        "module.5.bias": "bias",
    }
    assert (slots["module.0.weight"].fan_in, slots["module.0.weight"].fan_out) == (9, 45)


def test_frozen_parameters_do_not_move_and_scalars_do():
    class Scaled(nn.Module):
        def __init__(self, signature):
            super().__init__()
            self.linear = nn.Linear(signature.numbers, signature.outputs)
            self.linear.weight.requires_grad = False
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.linear(x) * self.scale

    run = train(recipe(network=TorchModule(make=Scaled)), workers=1)
    weight = run.model.buffers["module.linear.weight"]
    assert (
        weight.shape == (2, 3, 4)
        and torch.equal(weight[0], weight[1])
        and run.model.weights.shape == (2, 4)
    )
    assert (run.model.weights[:, -1] != 2.0).all()


def test_a_module_trains_is_written_and_is_read_back_when_handed_in(tmp_path):
    run = train(recipe(), out=tmp_path / "run", workers=1)
    assert run.score.value > 0.5 and {"module"} <= {
        e.name for e in run.record.effects if all(e.values)
    }
    assert run.record.recipe["network"]["make"].endswith("test_torch_module.table")
    with pytest.raises(RecipeError, match="Pass it in Python"):
        open_run(tmp_path / "run")
    again = open_run(tmp_path / "run", module=table)
    assert torch.equal(again.model.weights, run.model.weights)
    assert all(torch.equal(b, again.model.buffers[n]) for n, b in run.model.buffers.items())


def test_alone_and_in_a_cohort_a_module_trains_to_the_same_bits():
    recipes = [recipe(seed=s).vary("optimizer.lr", lr) for s, lr in ((0, 0.1), (1, 0.03))]
    for together, one in zip(train_all(recipes, workers=1), recipes, strict=True):
        alone = train_all([one], workers=1)[0]
        assert torch.equal(together.model.weights, alone.model.weights)
        assert together.record.members == alone.record.members


def test_categories_are_embedded_before_a_module_and_it_reports():
    signature = Signature(2, (3, 4), 2)
    program, rows, buffers = built(lambda s: nn.Linear(s.numbers, s.outputs), signature, [0, 1])
    assert program.layout.spans["module.weight"][1] - program.layout.spans["module.weight"][
        0
    ] == 2 * (2 + 16)
    meter = Meter(2)
    codes = torch.tensor([[[1, 2], [0, 3]]])
    now = ForwardContext(training=True, seeds=[0, 1], meter=meter, buffers=buffers)
    assert program(program.layout.views(rows), Batch(torch.ones(1, 2, 2), codes), now).shape == (
        2,
        2,
        2,
    )
    assert (meter.means()["module"] > 0).all()


class Idle(nn.Linear):
    def __init__(self, signature):
        super().__init__(signature.numbers, signature.outputs)
        self.spare = nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda s: nn.Linear(s.numbers + 1, s.outputs), "fails on inputs"),
        (lambda s: nn.Linear(s.numbers, 7), r"gives \[4, 7\]"),
        (lambda s: nn.ReLU(), "no parameters"),
        (lambda s: 3, "torch.nn.Module"),
        (lambda s: 1 / 0, "ZeroDivisionError"),
        (Idle, "does not use spare"),
    ],
)
def test_modules_that_cannot_be_the_network_are_refused_before_any_work(make, words):
    with pytest.raises(RecipeError, match=words):
        train(recipe(network=TorchModule(make=make)))


def test_a_recipe_file_names_a_module_and_cannot_make_it():
    plain = to_plain(TorchModule(make=table))
    assert plain["make"].endswith("test_torch_module.table")
    for given in (plain, {"name": "Module"}):
        with pytest.raises(RecipeError, match="TorchModule.make is .* in Python"):
            from_plain(TorchModule, given, catalog.PARTS_BY_ROLE)


def test_an_epoch_may_end_with_a_batch_of_one_which_takes_running_statistics():
    """It gives what the module gives with its batch norms alone in evaluation, alone = together."""

    def deep(s):
        image = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*image, nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, s.outputs))

    program, rows, buffers = built(deep, PICTURES, [0, 1])
    before = {name: value.clone() for name, value in buffers.items()}
    pixels = torch.randint(0, 256, (1, 1, 1, 6, 6), dtype=torch.uint8)
    context = ForwardContext(training=True, seeds=[0, 1], batch=1, buffers=buffers)
    trained = program(program.layout.views(rows), Batch(pixels), context)
    at_test = dataclasses.replace(context, training=False)
    tested = program(program.layout.views(rows), Batch(pixels), at_test)
    assert torch.equal(trained, tested)
    assert all(torch.equal(before[name], buffers[name]) for name in before)
    run = train(recipe(batch=101))
    assert run.record.task["examples"]["train"] == 102 and run.record.score
    assert run.record.members[0].outcome == "finished"


def test_batch_norm_of_single_examples_is_refused_as_torch_refuses_it():
    for network in (TorchModule(make=table), Mlp(hidden=(4,), norm=BatchNorm())):
        with pytest.raises(RecipeError, match="batch is 1 and the network has batch norm"):
            train(recipe(batch=1, network=network))
    norm = Mlp(hidden=(4,), norm=LayerNorm())
    assert train(recipe(batch=1, network=norm, epochs=1)).record.score

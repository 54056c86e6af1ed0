"""`ravine.examine` on seeded faults: the cause is named, a remedy that was tried helps, and nothing
is changed.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine.errors import InputError


def moons(count=300, seed=0):
    """Two interleaved half circles."""
    g = torch.Generator().manual_seed(seed)
    angle = torch.rand(count, generator=g) * torch.pi
    y = torch.arange(count) % 2
    x = torch.stack(
        [torch.cos(angle) * (1 - 2 * y) + y, torch.sin(angle) * (1 - 2 * y) + 0.5 * y], 1
    )
    return x + 0.1 * torch.randn(count, 2, generator=g), y


def network(*, act=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 24), act(), nn.Linear(24, 24), act(), nn.Linear(24, 2))


def examine(model=None, *, x=None, y=None, lr=0.02, epochs=20, **more):
    data = moons()
    given = (data[0] if x is None else x, data[1] if y is None else y)
    return ravine.examine(
        network() if model is None else model,
        F.cross_entropy,
        given,
        batch_size=20,
        epochs=epochs,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=lr),
        **more,
    )


def alarms(report):
    return [f for f in report.findings if f.severity in ("error", "warning")]


def test_a_healthy_program_has_no_findings():
    assert alarms(examine()) == []


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ("learning-rate-low", {"lr": 1e-6}),
        ("learning-rate-high", {"lr": 30.0}),
        ("input-scale", {"x": moons()[0] * 1e-3}),
        ("output-activation", {"model": nn.Sequential(network(), nn.Softmax(1))}),
        ("hidden-activation", {"model": network(act=nn.Identity)}),
    ],
)
def test_a_seeded_fault_is_the_first_cause(cause, fault):
    report = examine(**fault)
    assert alarms(report)[0].cause == cause
    tried = [f.trial for f in alarms(report) if f.trial is not None]
    assert "helped" in {trial.verdict for trial in tried}
    assert {trial.verdict for trial in tried} <= {"helped", "not tried"}


def test_nothing_is_changed():
    model, (x, y) = network(), moons()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), x, y))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    ravine.examine(model, F.cross_entropy, (x, y), optimizer=optimizer, batch_size=20, epochs=5)
    assert torch.equal(torch.get_rng_state(), state)
    after = (model.state_dict(), optimizer.state_dict(), x, y)
    assert all(
        torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True)
    )
    assert before[1] == after[1] and torch.equal(before[2], x) and torch.equal(before[3], y)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_a_loader_and_tensors_are_the_same_program():
    x, y = moons()
    loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
    fault = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-6), "epochs": 10}
    first = ravine.examine(network(), F.cross_entropy, loader, **fault)
    second = ravine.examine(network(), F.cross_entropy, (x, y), batch_size=20, **fault)
    assert first.to_json() == second.to_json()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "network"}, "only a torch.nn.Module"),
        ({"loss": 3}, "loss"),
        ({"train": (torch.ones(3, 2), torch.ones(4).long())}, "3 inputs and 4 targets"),
        ({"train": torch.ones(3, 2)}, "pair of tensors"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"optimizer": None}, "optimizer"),
        ({"optimizer": lambda parameters: 3}, "torch.optim.Optimizer"),
        ({"train": (torch.ones(9, 5), torch.zeros(9).long())}, "do not run on a batch"),
        ({"loss": lambda out, y: out}, "one number"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_message(arguments, message):
    given = {
        "model": network(),
        "loss": F.cross_entropy,
        "train": moons(),
        "batch_size": 20,
        "epochs": 2,
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    } | arguments
    model, loss, train = (given.pop(name) for name in ("model", "loss", "train"))
    with pytest.raises(InputError, match=message):
        ravine.examine(model, loss, train, **given)

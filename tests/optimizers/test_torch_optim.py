"""Our rules in somebody's own loop, and torch's rules in a cohort."""

from __future__ import annotations

import copy

import pytest
import torch

from ravine.errors import RecipeError
from ravine.optimizers import (
    ALL,
    ASGD,
    SEARCH_OPTIMIZERS,
    AdamW,
    AsTorch,
    Momentum,
    NAdam,
    Rprop,
    TorchOptimizer,
)
from ravine.protocols import HasEvalWeights


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1)
    ).double()


X = torch.randn(20, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def train(net, optimizer, steps, scheduler=None):
    for _ in range(steps):
        optimizer.zero_grad()
        (net(X).squeeze() - X.sum(1)).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_a_rule_of_ours_follows_torchs_schedulers_like_torchs_own():
    ours, theirs = model(), model()
    face = AsTorch(ours.parameters(), AdamW(lr=0.05, weight_decay=0.1))
    weights = [p for p in theirs.parameters() if p.dim() > 1]
    biases = [p for p in theirs.parameters() if p.dim() == 1]
    torchs = torch.optim.AdamW(
        [{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=0.05, weight_decay=0.1
    )
    found = train(ours, face, 30, torch.optim.lr_scheduler.StepLR(face, 10, 0.3))
    expected = train(theirs, torchs, 30, torch.optim.lr_scheduler.StepLR(torchs, 10, 0.3))
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert face.param_groups[0]["lr"] == pytest.approx(0.05 * 0.3**3)


@pytest.mark.parametrize(
    "cls", [c for c in ALL if c not in SEARCH_OPTIMIZERS]
)  # those are refused: test_second_order.py
def test_state_dict_resumes_every_rule_bit_for_bit(cls):
    net = model().float()
    data = X.float()

    def steps(net, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            net(data).square().mean().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in net.parameters()])

    optimizer = AsTorch(net.parameters(), cls())
    steps(net, optimizer, 5)
    other = copy.deepcopy(net)
    resumed = AsTorch(other.parameters(), cls())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert torch.equal(steps(other, resumed, 5), steps(net, optimizer, 5))


def test_settled_weights_are_shown_and_taken_back():
    net = model()
    optimizer = AsTorch(net.parameters(), ASGD(lr=0.05))
    raw = train(net, optimizer, 20)
    with optimizer.eval_weights():
        settled = torch.cat([p.detach().flatten() for p in net.parameters()])
        average = torch.cat([optimizer.state[p]["average"].flatten() for p in net.parameters()])
        assert torch.equal(settled, average) and not torch.equal(settled, raw)
    assert torch.equal(torch.cat([p.detach().flatten() for p in net.parameters()]), raw)
    assert isinstance(ASGD(), HasEvalWeights) and not isinstance(Momentum(), HasEvalWeights)


def test_a_closure_is_called_and_parameters_without_a_gradient_rest():
    p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    optimizer = AsTorch([p, q], Rprop())

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3.0
    assert torch.equal(q, torch.ones(2)) and not torch.equal(p, torch.ones(3))
    assert p[0].item() == pytest.approx(0.99)


def test_a_rate_of_zero_cannot_be_scheduled():
    with pytest.raises(RecipeError, match="above 0"):
        AsTorch([torch.nn.Parameter(torch.ones(1))], NAdam(lr=0.0))


@pytest.mark.parametrize(
    ("name", "given", "match"),
    [
        ("adam", {}, "Did you mean 'Adam'"),
        ("LBFGS", {}, "no 'LBFGS'"),
        ("Muon", {}, "no 'Muon'"),
        ("Adam", {"momentum": 0.9}, "momentum"),
        ("SGD", {"momentum": -1.0}, "momentum"),
    ],
)
def test_a_class_that_cannot_be_used_is_named(name, given, match):
    with pytest.raises(RecipeError, match=match):
        TorchOptimizer(optimizer=name, settings=given)

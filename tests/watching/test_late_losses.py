"""Losses that are reported after their backward pass, when what their graph has saved is freed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine


def train(report=None, *, divide=1, scaler=None, steps=4, watched=True):
    """Examples in the order of their classes; `report` is given the watcher and the loss."""
    torch.manual_seed(0)
    x = torch.randn(600, 8)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    x, y = x[y.argsort()], y[y.argsort()]
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    found = set()

    def loop(watcher):
        for _ in range(steps):
            for i in range(0, 600, 30):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x[i : i + 30]), y[i : i + 30])
                if scaler is not None:
                    scaler.scale(loss).backward()
                    scaler.step(optimizer)
                    scaler.update()
                else:
                    (loss / divide if divide > 1 else loss).backward()
                    optimizer.step()
                if report is not None:
                    report(watcher, loss)

    if watched:
        with ravine.watch(net, optimizer, quiet=True) as watcher:
            loop(watcher)
        found = {f.code for f in watcher.findings() if f.severity == "warning"}
        assert watcher.report().checks.failed == ()
    else:
        loop(None)
    return found, [p.detach().clone() for p in net.parameters()]


def whole(watcher, loss):
    watcher.loss(loss)


def as_float(watcher, loss):
    watcher.loss(loss.item())


def detached(watcher, loss):
    watcher.loss(loss.detach())


@pytest.mark.parametrize("report", [whole, as_float, detached])
def test_the_order_of_classes_is_seen_in_late_losses(report):
    assert "RVN-L35" in train(report)[0]


def test_it_is_seen_in_losses_that_are_divided_or_scaled():
    assert "RVN-L35" in train(whole, divide=4)[0]
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    assert "RVN-L35" in train(whole, scaler=scaler)[0]


def test_weights_are_those_of_a_loop_that_is_not_watched():
    for settings in ({}, {"divide": 4}):
        for watched, plain in zip(
            train(whole, **settings)[1], train(None, watched=False, **settings)[1], strict=True
        ):
            assert torch.equal(watched, plain)


def test_what_is_never_reported_is_left_alone():
    """A pass for other numbers, such as a penalty of its own, is not taken for the loss."""
    assert train(None)[0] == set()
    other = nn.Linear(2, 3)

    def report(watcher, loss):
        order = torch.zeros(6, dtype=torch.long)
        F.cross_entropy(other(torch.ones(6, 2)), order).backward()

    assert train(report)[0] == set()


def test_torch_is_as_it_was_afterwards():
    before = torch.autograd.backward
    train(whole, steps=1)
    assert torch.autograd.backward is before


@pytest.mark.parametrize("late", [False, True])
def test_a_constant_answer_is_known_as_early_and_late(late):
    """Labels that nothing predicts, at a rate that moves nothing: the loss is that of guessing."""
    torch.manual_seed(1)
    x, y = torch.randn(512, 4), torch.randint(4, (512,))
    net = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-5)
    with ravine.watch(net, optimizer, quiet=True) as watcher:
        for i in range(200):
            rows = torch.arange(32) + 32 * (i % 16)
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            if not late:
                watcher.loss(loss)
            loss.backward()
            optimizer.step()
            if late:
                watcher.loss(loss)
    assert watcher.history.loss.baseline == pytest.approx(1.386, abs=0.02)  # log 4

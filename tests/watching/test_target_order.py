"""Numbers that a loop passes in order, and their healthy neighbors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine
from ravine.diagnosis.training_loop.class_order import are_in_order


def found(order, *, loss=F.mse_loss, epochs=8, rows=200, size=20, recurrent=False, noise=0.0):
    """Whether RVN-L35 is found where `order` gives the places of sorted examples in each epoch."""
    torch.manual_seed(0)
    x = torch.randn(rows, 6)
    y = x.sum(1).sort().values
    x = x[x.sum(1).argsort()]
    body = nn.GRU(6, 8, batch_first=True) if recurrent else nn.Linear(6, 8)
    head = nn.Linear(8, 1)
    model = nn.ModuleList([body, head])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for epoch in range(epochs):
            for i in order(rows).split(size):
                h = body(x[i][:, None])[0][:, 0] if recurrent else body(x[i])
                targets = y[i] + noise * torch.randn(len(i)) + 3 * epoch * (noise < 0)
                optimizer.zero_grad()
                watcher.loss(loss(head(h)[:, 0], targets)).backward()
                optimizer.step()
    assert not watcher.report().checks.failed
    return {f.severity for f in watcher.findings() if f.code == "RVN-L35"} == {"warning"}


def rising(rows):
    return torch.arange(rows)


def falling(rows):
    return torch.arange(rows).flip(0)


@pytest.mark.parametrize("order", [rising, falling])
@pytest.mark.parametrize("size", [4, 20, 50])
@pytest.mark.parametrize("loss", [F.mse_loss, F.huber_loss, F.smooth_l1_loss])
def test_sorted_numbers_are_found(order, size, loss):
    assert found(order, size=size, loss=loss)


@pytest.mark.parametrize(
    "settings",
    [
        {"order": torch.randperm},
        {"order": torch.randperm, "size": 4},
        {"order": rising, "epochs": 1},  # nothing says that it is not the time of a stream
        {"order": rising, "recurrent": True},
        {"order": rising, "size": 200},  # all at once
        {"order": rising, "size": 100},  # two halves in turn
        {"order": rising, "size": 3},  # of so few, all may be beyond others by chance
        {"order": rising, "noise": 1.0},  # nearly in order, as a trend is
        {"order": lambda rows: torch.arange(rows).view(20, -1).T.flatten()},
    ],
)
def test_numbers_in_another_order_are_left_alone(settings):
    assert not found(**settings)


def test_numbers_that_drift_do_not_begin_again():
    drifting = [(i, float(i), i + 0.5) for i in range(10)]
    assert not are_in_order(drifting)
    assert are_in_order([*drifting, (20, 3.0, 3.5), (21, 4.0, 4.5)])
    assert not are_in_order([*drifting, (20, 3.0, 3.5), (21, 3.4, 4.5)])
    assert not are_in_order([*drifting[:8], (20, 3.0, 3.5)])
    assert are_in_order([*drifting[:8], (8, 3.0, 3.5)])
    back = [(10, 3.0, 3.5), (11, 2.0, 2.5), (12, 1.0, 1.5)]  # beside nine that rise
    assert are_in_order([*drifting, *back])
    assert not are_in_order([*drifting, *back, (13, 0.0, 0.5)])

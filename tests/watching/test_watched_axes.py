"""Shapes that broadcast and softmax outputs, in watched loops of any losses."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine

ROWS, PLACES = 12, 5


def codes(model, loss, x, y):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for _ in range(4):
            optimizer.zero_grad()
            watcher.loss(loss(model(x), y)).backward()
            optimizer.step()
    return {finding.code for finding in watcher.findings()}


def squares(out, y):
    return ((out - y) ** 2).mean()


def pairs(out, y):
    """Differences of all outputs and of all targets: a loss of rankings."""
    wide = out.expand(len(out), len(out))
    return ((wide - wide.T) - (y - y[:, None])).square().mean()


def risks(out, y):
    return (y[:, None] <= y).float().mul(out.exp()).sum(0).log().mean() - out.mean()


X = torch.randn(ROWS, PLACES, 4, generator=torch.Generator().manual_seed(0))
Y = X.sum(2)


@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (X[:, 0], Y[:, 0], True),  # [N, 1] and [N]
        (X[:, 0], Y[:, :1], False),
        (X, Y[:, None], True),  # [N, T, 1] and [N, 1, T]
        (X[:PLACES], Y[:PLACES], True),  # [N, T, 1] and [N, T] where N = T
        (X, Y[..., None], False),
        (X[:, None], X.sum(2)[:, :, None], True),  # [N, 1, T, 1] and [N, T, 1]
        (X[:, None], Y[:, None, :, None], False),
        (X[:, 0], X[:, 0, :3], False),  # one output for three targets
    ],
)
@pytest.mark.parametrize("loss", [squares, F.huber_loss])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_what_broadcasts_against_the_batch_is_found(loss, x, y, found):
    assert ("RVN-H06" in codes(nn.Linear(4, 1), loss, x, y)) == found


@pytest.mark.parametrize("loss", [pairs, risks])
def test_losses_of_pairs_are_left_alone(loss):
    assert "RVN-H06" not in codes(nn.Linear(4, 1), loss, X[:, 0], Y[:, 0])


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize("loss", [F.mse_loss, F.binary_cross_entropy])
def test_a_softmax_is_found_where_targets_do_not_sum_to_one(dim, loss):
    model, labels = nn.Sequential(nn.Linear(4, 3), nn.Softmax(dim)), (X[..., :3] > 0).float()
    assert "RVN-H10" in codes(model, loss, X, labels)
    assert "RVN-H10" not in codes(model, loss, X, labels.softmax(dim))

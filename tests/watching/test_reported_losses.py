"""What is no loss is refused, and what falls without end is found."""

import numpy as np
import pytest
import torch
from torch import nn

import ravine
from ravine.errors import InputError


@pytest.mark.parametrize("value", [[1.0], None, "high", {"loss": 1.0}, np.ones(3)])
def test_what_is_no_number_is_refused(value):
    with ravine.watch(nn.Linear(2, 1), quiet=True) as watcher:
        with pytest.raises(InputError, match=f"the loss is a {type(value).__name__}"):
            watcher.loss(value)


@pytest.mark.parametrize("value", [1.0, 2, np.float32(1.5), torch.ones(3), float("nan")])
def test_numbers_and_tensors_are_taken(value):
    with ravine.watch(nn.Linear(2, 1), quiet=True) as watcher:
        assert watcher.loss(value) is value
    assert not watcher.report().checks.failed


class Coder(nn.Module):
    def __init__(self, split):
        super().__init__()
        self.split = split
        self.hidden, self.both = nn.Linear(6, 16), nn.Linear(16, 4)
        self.mean, self.log = nn.Linear(16, 2), nn.Linear(16, 2)
        self.out = nn.Linear(2, 6)

    def forward(self, x):
        h = self.hidden(x).relu()
        mean, log = self.both(h).chunk(2, 1) if self.split else (self.mean(h), self.log(h))
        return self.out(mean + (log / 2).exp() * torch.randn_like(mean)), mean, log


def of_sums(x, out, mean, log, sign):
    kl = 0.5 * torch.sum(1 + log - mean.pow(2) - log.exp(), 1).mean()
    return (out - x).square().mean() + sign * kl


def of_means(x, out, mean, log, sign):
    kl = (-log + mean**2 + log.exp() - 1).mean() / 2
    return (out.sigmoid() - x).abs().mean() - sign * kl


def of_normal_errors(x, out, mean, log, sign):
    """The likelihood falls below 0 as errors get small."""
    scale = log.mean()
    return ((out - x).square() * (-scale).exp() + scale).mean() + 1e-3 * log.exp().mean()


def of_rewards(x, out, mean, log, sign):
    return -(-(out - 1).square()).exp().mean()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("loss", "sign", "found"),
    [
        (of_sums, 1, True),
        (of_sums, -1, False),
        (of_means, 1, True),
        (of_means, -1, False),
        (of_normal_errors, 1, False),
        (of_rewards, 1, False),
    ],
)
def test_a_divergence_of_the_wrong_sign_is_found(split, loss, sign, found):
    torch.manual_seed(0)
    model, x = Coder(split), 0.01 * torch.rand(64, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for _ in range(100):
            value = watcher.loss(loss(x, *model(x), sign))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    assert ("RVN-L28" in {f.code for f in watcher.findings()}) == found

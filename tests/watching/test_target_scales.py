"""Targets in their own units: far from all outputs, or beside another part of the loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine


class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh())
        self.kind, self.size = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, x):
        h = self.body(x)
        return self.kind(h), self.size(h)


def found(model, loss, *, steps=80, lr=1e-3, kind=torch.optim.Adam, clip=None, late=False):
    torch.manual_seed(0)
    optimizer = kind(model.parameters(), lr=lr)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for _ in range(steps):
            x = torch.randn(32, 6)
            value = loss(model(x), x)
            optimizer.zero_grad()
            if not late:
                watcher.loss(value)
            value.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if late:
                watcher.loss(value)
    assert not watcher.report().checks.failed
    return {f.code for f in watcher.findings() if f.severity != "note"}


def penalized(scale, penalty):
    """A squared error beside a penalty on the numbers of the weights, or beside one alone."""
    kept = nn.Parameter(torch.ones(50))

    def loss(out, x):
        return F.mse_loss(out, scale * x[:, :1]) + penalty * kept.square().sum()

    return loss


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))


def in_euros(out, x, mean=3e5, std=1e5):
    return ((out[:, 0] - (mean + std * x.sum(1))) ** 2).mean()


def of_torch(out, x):
    return F.mse_loss(out, 1e4 * x[:, :1])


def squared(out, x):
    return (500 - out).squeeze(1).pow(2).mean()


def halved(out, x):
    return 0.5 * of_torch(out, x)


def halved_inside(out, x):
    return (0.5 * (out[:, 0] - 1e4 * x[:, 0]) ** 2).mean() / 10


def of_size(out, x):
    return of_torch(out, x) + 0.1 * out.abs().mean()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "loss", [in_euros, of_torch, squared, halved, halved_inside, of_size, penalized(1e4, 1.0)]
)
def test_targets_far_from_all_outputs_are_found(loss, late):
    assert "RVN-D06" in found(mlp(), loss, late=late)


def noise(out, x):
    return F.mse_loss(out, torch.randn(len(x), 1))


def wide_noise(out, x):
    return F.mse_loss(out, 20 * torch.randn(len(x), 1))


def few_far(out, x):
    y = x[:, :1].clone()
    y[::10] *= 1e4
    return F.mse_loss(out, y)


def seldom_far(out, x):
    y = x[:, :1].clone()
    y[0] *= 1e4 * (x[0, 1] > 1)
    return F.mse_loss(out, y)


def contrast(out, x):
    return (100 + out.mean() - out).square().sum()


@pytest.mark.parametrize(
    ("loss", "settings"),
    [
        (noise, {}),
        (wide_noise, {}),
        (contrast, {}),
        (penalized(1.0, 1e5), {}),  # the penalty alone is large
        (lambda out, x: 1e6 * F.mse_loss(out, x[:, :1]), {"lr": 1e-6}),  # only the factor is
        (lambda out, x: 1e-4 * wide_noise(out, x), {}),
        (few_far, {"clip": 1.0}),
        (seldom_far, {"clip": 1.0}),
        (in_euros, {"lr": 1e4}),
        (of_torch, {"lr": 1.0, "steps": 400, "kind": torch.optim.Rprop}),
        (lambda out, x: in_euros(out, x, 3.0, 1.0), {}),
        (lambda out, x: F.huber_loss(out, 1e4 * x[:, :1]), {}),
    ],
)
def test_targets_that_are_near_or_reached_are_left_alone(loss, settings):
    assert "RVN-D06" not in found(mlp(), loss, **settings)


def parts(scale, weight=1.0, absolute=False):
    def loss(out, x):
        error = F.l1_loss if absolute else F.mse_loss
        kinds = F.cross_entropy(out[0], x[:, :3].argmax(1))
        return weight * kinds + error(out[1], scale * (1 + x[:, 3:4]))

    return loss


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("scale", "kind"), [(4000.0, torch.optim.SGD), (1e4, torch.optim.SGD), (4e3, torch.optim.Adam)]
)
@pytest.mark.parametrize("clip", [1.0, 100.0])
def test_a_part_in_its_own_units_is_found_beside_another(scale, kind, late, clip):
    settings = {"lr": 0.01, "clip": clip, "late": late, "kind": kind}
    assert "RVN-D06" in found(Both(), parts(scale), **settings)


@pytest.mark.parametrize(
    ("loss", "clip"),
    [
        (parts(1.0), 1.0),
        (parts(4000.0, weight=4000.0), 1.0),  # as large as the other
        (parts(1.0, weight=1e-4), 1.0),  # small on purpose
        (parts(1.0, weight=1e-4), None),
    ],
)
def test_parts_of_one_size_and_small_ones_are_left_alone(loss, clip):
    assert "RVN-D06" not in found(Both(), loss, lr=0.01, clip=clip, kind=torch.optim.SGD)

"""Shapes that broadcast, classes in another dimension than the loss takes, reshapes in place of
transposes, losses with bounds of the wrong sign; and programs that look like these and are healthy.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ravine.diagnosis.initialization.probe import profile_start
from ravine.diagnosis.registry import START_RULES
from ravine.diagnosis.rule import run_rules

PLACES, CLASSES = 9, 6
torch.manual_seed(7)  # of the tensors in the tables of cases


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(7)


def alarms(model, loss, x, y):
    start = profile_start(model, loss, x, y)
    assert start.broke == {}
    found, checks = run_rules(START_RULES, start)
    assert not checks.failed
    return {f.code: f for f in found if f.severity != "note"}


class Tagger(nn.Module):
    """Scores [N, T, K] for the classes of each place, and what is made of them."""

    def __init__(self, function, *, places=PLACES, mixing=False, last=None):
        super().__init__()
        self.embed = nn.Embedding(CLASSES, 16)
        self.mix = nn.GRU(16, 16, batch_first=True) if mixing else None
        self.out, self.last, self.function = nn.Linear(16, CLASSES), last, function

    def forward(self, x):
        h = self.embed(x)
        h = self.out(h if self.mix is None else self.mix(h)[0])
        h = h if self.last is None else self.last(h)
        return self.function(h)


def tokens(places=PLACES):
    x = torch.randint(0, CLASSES, (60, places))
    return x, (x + 1) % CLASSES


def transposed(h):
    return h.transpose(1, 2)


def viewed(h):
    return h.reshape(len(h), h.shape[2], h.shape[1])


@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize(
    ("function", "places", "loss", "found"),
    [
        (transposed, PLACES, F.cross_entropy, False),
        (transposed, CLASSES, F.cross_entropy, False),
        (lambda h: h, CLASSES, F.cross_entropy, True),
        (lambda h: h, CLASSES, lambda o, y: F.cross_entropy(transposed(o), y), False),
        (lambda h: h, PLACES, lambda o, y: F.cross_entropy(o.flatten(0, 1), y.flatten()), False),
        (viewed, PLACES, F.cross_entropy, True),
        (viewed, 2 * CLASSES, F.cross_entropy, True),
        (lambda h: viewed(h).log_softmax(1), PLACES, F.nll_loss, True),
        (lambda h: transposed(h).log_softmax(1), PLACES, F.nll_loss, False),
        (
            lambda h: h.softmax(1),
            CLASSES,
            lambda o, y: F.nll_loss(transposed(o).clamp(min=1e-9).log(), y),
            True,
        ),
        (
            viewed,
            PLACES,
            lambda o, y: F.mse_loss(o, transposed(F.one_hot(y, CLASSES).float())),
            True,
        ),
    ],
)
def test_classes_in_another_dimension_than_the_loss_takes(mixing, function, places, loss, found):
    x, y = tokens(places)
    result = alarms(Tagger(function, mixing=mixing), loss, x, y)
    assert ("RVN-I22" in result) == found
    if found:
        assert result["RVN-I22"].cause == "shape-pairing" and result["RVN-I22"].where == "out"


@pytest.mark.parametrize(("function", "found"), [(transposed, False), (viewed, True)])
def test_a_reshape_in_place_of_a_transpose_is_found_for_numbers_too(function, found):
    x = torch.randn(60, PLACES, 4)
    y = torch.stack([x.sum(2) * k for k in range(1, CLASSES + 1)], dim=1)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, CLASSES), Function(function))
    assert ("RVN-I22" in alarms(model, F.mse_loss, x, y)) == found


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def unpatched(h):
    """Each unit is one pixel of a patch, as masked autoencoders have it."""
    patches = h.reshape(len(h), 3, 3, 2, 2)
    return patches.permute(0, 1, 3, 2, 4).reshape(len(h), 6, 6)


@pytest.mark.parametrize(
    ("model", "loss", "x", "y"),
    [
        (
            nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.PixelShuffle(1)),
            F.cross_entropy,
            torch.randn(40, 2, 5, 5),
            torch.randint(0, 5, (40, 5, 5)),
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(12, 20), nn.Unflatten(1, (4, 5))),
            F.cross_entropy,
            torch.randn(40, 12),
            torch.randint(0, 4, (40, 5)),
        ),
        (
            nn.Sequential(nn.Linear(6, 4), Function(unpatched)),
            F.mse_loss,
            torch.randn(40, 9, 6),
            torch.randn(40, 6, 6),
        ),
        (
            nn.Sequential(nn.Linear(6, 5), nn.Flatten()),
            F.mse_loss,
            torch.randn(40, 9, 6),
            torch.randn(40, 45),
        ),
    ],
)
def test_layouts_that_look_odd_and_are_healthy(model, loss, x, y):
    assert "RVN-I22" not in alarms(model, loss, x, y)


def rmse(out, y):
    return ((out - y) ** 2).mean().sqrt()


def pinball(out, y):
    q = torch.tensor([0.1, 0.5, 0.9])
    return torch.maximum(q * (y - out), (q - 1) * (y - out)).mean()


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.huber_loss, rmse])
@pytest.mark.parametrize(("outputs", "targets"), [(16, 1), (1, 8), (2, 1)])
def test_outputs_that_broadcast_against_targets_are_found(loss, outputs, targets):
    x = torch.randn(60, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, outputs))
    found = alarms(model, loss, x, x[:, :targets])["RVN-I02"]
    assert found.cause == "shape-pairing" and found.evidence[0].value == max(outputs, targets)
    assert "RVN-I02" not in alarms(model, loss, x, x.repeat(1, 2)[:, :outputs])


def test_places_that_broadcast_are_found():
    x = torch.randn(60, PLACES, 4)
    model, sums = nn.Linear(4, 1), x.sum(2, keepdim=True)
    assert "RVN-I02" in alarms(model, F.mse_loss, x, sums.mean(1, keepdim=True))
    assert "RVN-I02" not in alarms(model, F.mse_loss, x, sums)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (pinball, 3, 1),  # quantiles
        (lambda out, y: F.mse_loss(out.mean(1, keepdim=True), y), 4, 1),  # of several members
        (lambda out, y: F.mse_loss(out, y.mean(1, keepdim=True)), 1, 5),  # of several raters
        (lambda out, y: F.gaussian_nll_loss(out[:, :1], y, out[:, 1:].exp()), 2, 1),
        (lambda out, y: F.mse_loss(out, y * torch.arange(1.0, 4.0)), 3, 1),
    ],
)
def test_losses_that_broadcast_on_purpose_are_left_alone(loss, outputs, targets):
    x = torch.randn(60, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, outputs))
    assert "RVN-I02" not in alarms(model, loss, x, x[:, :targets])


def dice(p, t):
    return (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def overlap(p, t):
    both = (p * t).sum()
    return (both + 1) / (p.sum() + t.sum() - both + 1)


def correlation(out, y):
    a, b = out - out.mean(0), y - y.mean(0)
    return (a * b).sum() / (a.norm() * b.norm())


def right_share(p, y):
    return p.gather(1, y[:, None]).mean()


def contrast(distance, y):
    """Distances of pairs are small where they belong together (Hadsell et al. 2006)."""
    return (y * distance**2 + (1 - y) * (1 - distance).clamp(min=0) ** 2).mean()


@pytest.mark.parametrize(
    ("last", "loss", "targets"),
    [
        (nn.Softmax(1), lambda p, y: dice(p[:, 1], y), "classes"),
        (nn.Softmax(1), right_share, "classes"),
        (nn.Identity(), lambda o, y: right_share(o.softmax(1), y), "classes"),
        (nn.Sigmoid(), dice, "labels"),
        (nn.Sigmoid(), overlap, "labels"),
        (nn.Identity(), lambda o, y: dice(o.sigmoid(), y), "labels"),
        (nn.Identity(), correlation, "numbers"),
    ],
)
def test_a_loss_with_bounds_of_the_wrong_sign_is_found(last, loss, targets):
    x = torch.randn(96, 6)
    y = {
        "classes": (x[:, 0] > 0).long(),
        "labels": (x[:, :2] > 0.5).float(),
        "numbers": x[:, :2] + 3,
    }[targets]
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2), last)
    found = alarms(model, loss, x, y)["RVN-I09"]
    assert found.cause == "loss" and found.evidence[0].value > found.evidence[1].value
    assert "RVN-I09" not in alarms(model, lambda o, t: 1 - loss(o, t), x, y)


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Identity(), nn.Softplus()])
def test_distances_that_are_small_for_ones_are_left_alone(last):
    x = torch.randn(96, 6)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1), last)
    y = (x[:, :1] > 0).float()
    assert "RVN-I09" not in alarms(model, contrast, x, y)
    costs = x[:, :1] + 2
    assert "RVN-I09" not in alarms(model, lambda out, cost: (out * cost).mean(), x, costs)

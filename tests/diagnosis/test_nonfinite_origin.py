"""What made a loss NaN or infinite, told from its graph: planted origins are found, and large
numbers, which may have overflowed, are left to the learning rate.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine
from ravine.diagnosis.training_loop.nonfinite_origin import find_nonfinite_origin

ROWS, CLASSES = 10, 3
NONE = torch.zeros(ROWS, dtype=torch.bool)
torch.manual_seed(0)  # of the model
MODEL = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, CLASSES))
INPUTS = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(0))
CLASS = torch.arange(ROWS) % CLASSES
WEIGHTS = torch.tensor([1.0, 2.0, math.inf])


def attention(keep):
    queries = MODEL[0](INPUTS)
    scores = (queries @ queries.T).masked_fill(~keep, -math.inf)
    return (scores.softmax(1) @ queries).square().mean()


def standardized(x):
    return (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)


def dice(p, t):
    return 1 - 2 * (p * t).sum() / (p.sum() + t.sum())


def weighted_entropy(out):
    """Cross entropy with label smoothing uses the weight of every class."""
    return F.cross_entropy(out, CLASS % 2, weight=WEIGHTS, label_smoothing=0.1)


ORIGINS = {
    "ignored": lambda out: F.cross_entropy(out, torch.full((ROWS,), -100)),
    "ignored, by weights": lambda out: F.cross_entropy(
        out, torch.zeros(ROWS).long(), weight=torch.tensor([0.0, 1.0, 1.0])
    ),
    "empty": lambda out: out[NONE].square().mean(),
    "empty, of a loss": lambda out: F.mse_loss(out[NONE], torch.zeros(0, CLASSES)),
    "input": lambda out: F.cross_entropy(MODEL(standardized(0 * INPUTS)), CLASS),
    "input, by a difference": lambda out: (out - math.nan * INPUTS[:, :1]).abs().mean(),
    "input, by a product": weighted_entropy,
    "target": lambda out: F.mse_loss(out, torch.full_like(out, math.nan)),
    "class weight": lambda out: F.cross_entropy(out, CLASS, weight=WEIGHTS),
    "class weight, of ones": lambda out: F.binary_cross_entropy_with_logits(
        out, torch.ones_like(out), pos_weight=WEIGHTS
    ),
    "masked": lambda out: attention(torch.ones(ROWS, ROWS).bool() & (CLASS > 0)[:, None]),
    "quotient": lambda out: dice(0 * out.relu(), torch.zeros_like(out)),
    "quotient, of equal units": lambda out: standardized(out[:, :1].expand(-1, 3)).mean(),
    "logarithm": lambda out: -(out - out.max(1, keepdim=True).values).relu().log().mean(),
    "huge": lambda out: F.mse_loss(out, torch.full_like(out, 1e25)),
    "operation": lambda out: (out.abs() + 2).acos().mean(),
}


@pytest.mark.parametrize("case", ORIGINS)
def test_the_origin_of_a_number_that_is_not_finite_is_told(case):
    loss = ORIGINS[case](MODEL(INPUTS))
    assert not math.isfinite(loss.item())
    origin = find_nonfinite_origin(loss)
    assert origin.kind == case.partition(",")[0]
    assert origin.without_weights == (
        origin.kind not in ("masked", "quotient", "logarithm", "operation")
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda out: (1e30 * out).square().mean(),
        lambda out: F.mse_loss(1e25 * out, torch.zeros_like(out)),
        lambda out: (1e3 * out.abs()).exp().mean(),
    ],
)
def test_numbers_that_overflow_are_left_to_the_learning_rate(loss):
    assert find_nonfinite_origin(loss(MODEL(INPUTS))).kind == "overflow"


def test_what_is_rightly_infinite_is_not_the_origin():
    keep = torch.tril(torch.ones(ROWS, ROWS)).bool()  # a causal mask: no row is empty
    masked = attention(keep)
    assert math.isfinite(masked.item())
    loss = masked + F.cross_entropy(MODEL(INPUTS), torch.full((ROWS,), -100))
    assert find_nonfinite_origin(loss).kind == "ignored"


def test_nothing_is_told_after_backward():
    loss = ORIGINS["quotient"](MODEL(INPUTS))
    loss.backward()
    assert find_nonfinite_origin(loss) is None


class Overflowing(nn.Module):
    """An exponential of a score that one batch, or one long step, makes large."""

    def __init__(self):
        super().__init__()
        self.score = nn.Linear(4, 1)
        nn.init.constant_(self.score.weight, 0.1)

    def forward(self, x):
        return self.score(x).exp()


@pytest.mark.parametrize(
    ("lr", "scale", "causes"),
    [(500.0, 1.0, {"learning-rate-high"}), (1e-3, 1e4, {"data-degenerate", "loss"})],
)
def test_an_overflow_is_laid_to_the_rate_only_where_the_batch_is_a_usual_one(lr, scale, causes):
    torch.manual_seed(0)
    model, x = Overflowing(), torch.rand(64, 4)
    x[40:] *= scale
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for rows in torch.arange(64).split(8):
            optimizer.zero_grad()
            out = model(x[rows])
            watcher.loss((out - 4 * out.log()).mean()).backward()
            optimizer.step()
    found = {f.code: f for f in watcher.findings()}["RVN-N01"]
    assert found.cause in causes
    assert any(c.path == "lr" for c in found.changes) == (causes == {"learning-rate-high"})

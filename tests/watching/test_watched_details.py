"""Inputs given by name, sums in several steps, and notes that become more."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import ravine


class Steps(nn.Module):
    """A layer that takes time first, given [16, 6, 8]."""

    def __init__(self, layer, pool, named=True):
        super().__init__()
        self.layer, self.pool, self.named = layer, pool, named
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        if isinstance(self.layer, nn.MultiheadAttention):
            out = self.layer(query=x, key=x, value=x)[0]
        else:
            out = (self.layer(input=x) if self.named else self.layer(x))[0]
        return self.head(self.pool(out))


def train(model, loss, steps=8, before=None):
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with ravine.watch(model, optimizer, quiet=True) as watcher:
        for i in range(steps):
            if before:
                before(i)
            optimizer.zero_grad()
            watcher.loss(loss(model)).backward()
            optimizer.step()
    assert not watcher.report().checks.failed
    return {f.code: f.severity for f in watcher.findings()}


def of_examples(model):
    return F.cross_entropy(model(torch.randn(16, 6, 8)), torch.randint(0, 3, (16,)))


def last(out):
    return out[:, -1]


def mean(out):
    return out.mean(1)


@pytest.mark.parametrize(
    ("layer", "pool", "named", "severity"),
    [
        (nn.GRU(8, 8), last, True, "warning"),
        (nn.LSTM(8, 8), last, True, "warning"),
        (nn.MultiheadAttention(8, 2), mean, True, "warning"),
        (nn.GRU(8, 8), last, False, "warning"),
        (nn.GRU(8, 8), mean, False, "note"),  # six nodes at each of sixteen times
        (nn.LSTM(8, 8), lambda out: out.amax(1), True, "note"),
        (nn.GRU(8, 8, batch_first=True), last, True, None),
    ],
)
def test_layers_that_read_examples_as_time(layer, pool, named, severity):
    assert train(Steps(layer, pool, named), of_examples).get("RVN-L42") == severity


def running(h):
    total = torch.zeros(len(h))
    for part in h.square().split(8, 1):
        total = total + part.sum(1)
    return total.sum()


@pytest.mark.parametrize(
    ("part", "found"),
    [
        (running, True),
        (lambda h: h.square().sum(1).sum(), True),
        (lambda h: 0.5 * (h.square().sum(1) - h.sum(1)).sum(), False),  # no sum of sums
        (lambda h: h.square().sum(1).mean(), False),
        (lambda h: running(h) / len(h), False),
        (lambda h: (h.amax(1) + h.amin(1)).sum(), False),
    ],
)
def test_sums_in_several_steps(part, found):
    body, head = nn.Linear(8, 32), nn.Linear(32, 3)

    def loss(model):
        h = body(torch.randn(16, 8))
        return F.cross_entropy(head(h), torch.randint(0, 3, (16,))) + part(h)

    assert ("RVN-H12" in train(nn.Sequential(body, head), loss)) == found


def test_a_note_becomes_an_error_when_the_mode_is_left_again():
    body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    body[1].running_mean.fill_(0.1)  # as if loaded

    def loss(model):
        return F.cross_entropy(model(torch.randn(16, 8)), torch.randint(0, 3, (16,)))

    modes = {0: False, 6: True, 12: False}
    for steps, severity in ((4, "note"), (18, "error")):
        found = train(body, loss, steps, lambda i: body.train(modes.get(i, body.training)))
        assert found["RVN-L12"] == severity


def picked(out, y):
    return -out.gather(1, y[:, None]).mean()


def indexed(out, y):
    return -out[torch.arange(len(y)), y].sum() / len(y)


def beside_its_sum(out, y):
    return F.nll_loss(out, y) + out.logsumexp(1).mean()


def beside_a_shifted_sum(out, y):
    top = out.max(1, keepdim=True).values.detach()
    return F.nll_loss(out, y) + ((out - top).exp().sum(1).log() + top[:, 0]).mean()


def of_differences(out, y):
    return (out.logsumexp(1) - out.gather(1, y[:, None])[:, 0]).mean()


def of_probabilities(out, y):
    return -F.log_softmax(out, 1).gather(1, y[:, None]).mean()


def bounded(out, y):
    return picked(out, y) + out.square().mean()


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (F.nll_loss, True),
        (picked, True),
        (indexed, True),
        (beside_its_sum, False),
        (beside_a_shifted_sum, False),
        (of_differences, False),
        (of_probabilities, False),
        (bounded, False),
    ],
)
def test_a_cross_entropy_written_out_is_normalized(loss, found):
    x, y = torch.randn(40, 6), torch.randint(0, 3, (40,))
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    assert ("RVN-H05" in train(net, lambda model: loss(model(x), y))) is found
    critic = nn.Linear(8, 3)  # of another optimizer: its score of a class is rightly raised
    made = nn.Linear(6, 8)
    assert loss is F.nll_loss or "RVN-H05" not in train(made, lambda m: loss(critic(m(x)), y))

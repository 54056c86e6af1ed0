"""`examine` on a GPU: `pytest tests/test_gpu.py`, which is left out where there is none."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ravine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
RNG = torch.Generator().manual_seed(0)
X = torch.randn(200, 6, generator=RNG)
Y = (X[:, 0] + X[:, 1] > 0).long()
TOKENS = torch.randint(0, 20, (200, 5), generator=RNG)


def network(*last):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2), *last)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(20, 4), nn.Linear(10, 2)

    def forward(self, x, words):
        return {"logits": self.head(torch.cat([x, self.words(words).mean(1)], 1))}


def step(model, batch):
    with torch.autocast("cuda", torch.bfloat16):
        return F.cross_entropy(model(batch[0]), batch[1])


def answer_loss(outputs, batch):
    return F.cross_entropy(outputs["logits"], batch[-1])


def adam(parameters, lr=0.01):
    return torch.optim.Adam(parameters, lr=lr)


PROGRAMS = {
    "tensors": lambda: (network(), F.cross_entropy, (X, Y), {}),
    "tensors that are on the GPU": lambda: (network(), F.cross_entropy, (X.cuda(), Y.cuda()), {}),
    "a loader": lambda: (
        network(),
        F.cross_entropy,
        DataLoader(TensorDataset(X, Y), 20, shuffle=True),
        {},
    ),
    "batches of a list": lambda: (
        network(),
        F.cross_entropy,
        [(X[i : i + 20], Y[i : i + 20]) for i in range(0, 200, 20)],
        {},
    ),
    "several inputs": lambda: (Mixed(), answer_loss, (X, TOKENS, Y), {}),
    "a step under autocast": lambda: (network(), None, (X, Y), {"step": step}),
}


def examine(model, loss, train, more, **settings):
    given = {"optimizer": adam, "batch_size": 20, "epochs": 4} | more | settings
    return ravine.examine(model.cuda(), loss, train, **given)


@pytest.mark.parametrize("program", PROGRAMS)
def test_cuda_programs_are_examined_alike_twice_and_left_as_they_were(program):
    model, loss, train, more = PROGRAMS[program]()
    torch.cuda.manual_seed(3)
    state = torch.cuda.get_rng_state()
    before = {name: value.clone() for name, value in model.cuda().state_dict().items()}
    reports = [examine(model, loss, train, more) for _ in range(2)]
    assert reports[0].to_json() == reports[1].to_json()
    assert reports[0].checks.failed == ()
    assert not [f for f in reports[0].findings if f.severity == "error"]
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_cuda_programs_get_the_causes_that_the_cpu_gets():
    model, loss, train, more = network(nn.Softmax(1)), F.cross_entropy, (X, Y), {}
    on_gpu = examine(model, loss, train, more)
    on_cpu = ravine.examine(
        network(nn.Softmax(1)), loss, train, optimizer=adam, batch_size=20, epochs=4
    )
    assert on_gpu.findings[0].cause == on_cpu.findings[0].cause == "output-activation"
    slow = lambda parameters: adam(parameters, lr=1e-6)  # noqa: E731
    report = examine(network(), None, train, {"step": step}, optimizer=slow, epochs=20)
    assert report.findings[0].cause in ("learning-rate-low", "optimizer")

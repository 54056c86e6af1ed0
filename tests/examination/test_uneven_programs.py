"""`examine` on programs whose parts do not fit each other: batches of one size alone, validation
examples laid out in another way than batches, and what breaks inside Ravine.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ravine
from ravine.errors import InputError
from ravine.examination import api
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_program import train_program

RNG = torch.Generator().manual_seed(0)
X = torch.randn(96, 6, generator=RNG)
Y = (X[:, 0] + X[:, 1] > 0).long()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


class Halves(nn.Module):
    """Takes its inputs as two tensors, or one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Linear(6, 2)

    def forward(self, left, right=None):
        return self.net(left if right is None else torch.cat([left, right], 1))


class OfBatch(nn.Module):
    """Runs on 16 examples at once, and no others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.out = nn.GRUCell(6, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.cell(x, torch.zeros(16, 8)))


# Validation laid out in another way


def rows_of(names, *parts):
    """A loader of batches under names; of tuples without."""
    if not names:
        return DataLoader(TensorDataset(*parts), batch_size=16)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
    return DataLoader(rows, batch_size=16)


L, R, V = X[:, :2], X[:, 2:], slice(0, 48)
THREE, TWO = ("left", "right", "labels"), ("left", "labels")
LAYOUTS = {
    "a dict and targets beside dicts": (
        rows_of(THREE, L, R, Y),
        ({"left": L[V], "right": R[V]}, Y[V]),
    ),
    "in another order": (rows_of(THREE, L, R, Y), ({"right": R[V], "left": L[V]}, Y[V])),
    "a tuple and targets beside dicts": (rows_of(THREE, L, R, Y), ((L[V], R[V]), Y[V])),
    "a tensor and targets beside dicts": (rows_of(TWO, X, Y), (X[V], Y[V])),
    "dicts beside tuples": (rows_of((), L, R, Y), rows_of(THREE, L[V], R[V], Y[V])),
    "tuples beside dicts": (rows_of(THREE, L, R, Y), rows_of((), L[V], R[V], Y[V])),
}
UNTRAINED_LOSS = F.cross_entropy(Halves()(X[V]), Y[V]).item()
LOSSES = {
    "targets": F.cross_entropy,
    "batch": lambda out, batch: F.cross_entropy(out, labels_of(batch)),
}


def labels_of(batch):
    return batch["labels"] if isinstance(batch, dict) else batch[-1]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_validation_examples_may_be_laid_out_in_another_way(layout, loss):
    train, validation = LAYOUTS[layout]
    given = read_program(
        Halves(), LOSSES[loss], train, optimizer=adam, validation=validation, epochs=1
    )
    found = train_program(given, seed=0, evaluate_at=(0,)).evaluations[0]
    assert found.loss == pytest.approx(UNTRAINED_LOSS, abs=1e-6)


def test_a_step_gets_the_validation_examples_as_it_gets_batches():
    def step(model, batch):
        return F.cross_entropy(model(batch["left"], batch["right"]), batch["labels"])

    train, validation = LAYOUTS["a dict and targets beside dicts"]
    given = read_program(
        Halves(), None, train, step=step, optimizer=adam, validation=validation, epochs=1
    )
    found = train_program(given, seed=0, evaluate_at=(0,)).evaluations[0]
    assert found.loss == pytest.approx(UNTRAINED_LOSS, abs=1e-6)


def test_validation_examples_without_a_part_of_the_inputs_are_refused():
    train, _ = LAYOUTS["dicts beside tuples"]
    with pytest.raises(InputError, match="not laid out as the training batches|do not run on"):
        read_program(
            Halves(), F.cross_entropy, train, optimizer=adam, validation=({"x": L}, Y), epochs=1
        )


# Batches of one size alone


def every_pair(out, y):
    """Compares [N, M, 1] with [N, M]: each example with every other one, of as many as M."""
    return ((out - y) ** 2).mean()


PLACES = torch.randn(96, 16, 3, generator=RNG)
ONE_SIZE = {
    "a model": (OfBatch(), F.cross_entropy, X, Y),
    "a loss": (nn.Linear(3, 1), every_pair, PLACES, PLACES.sum(2)),
    "a reshape": (
        nn.Sequential(nn.Linear(6, 2), nn.Unflatten(0, (16, 1)), nn.Flatten(1)),
        F.cross_entropy,
        X,
        Y,
    ),
}


@pytest.mark.parametrize("validated", [True, False])
@pytest.mark.parametrize("kind", ONE_SIZE)
def test_a_program_of_one_batch_size_is_examined_on_as_many(kind, validated):
    model, loss, x, y = ONE_SIZE[kind]
    report = ravine.examine(
        model,
        loss,
        DataLoader(TensorDataset(x, y), batch_size=16),
        validation=(x[:40], y[:40]) if validated else None,
        optimizer=adam,
        epochs=2,
        trials=False,
    )
    assert "evaluation of more than 16 examples" in report.left_out[0]
    if kind == "a loss":
        assert "RVN-I02" in [found.code for found in report.findings]


# What breaks inside


@pytest.mark.parametrize("always", [True, False])
def test_an_error_inside_leaves_out_a_part_and_is_said(always, monkeypatch):
    whole = api.examine_subject

    def break_off(subject, *, trials):
        if trials or always:
            raise KeyError("a fault of ours")
        return whole(subject, trials=False)

    monkeypatch.setattr(api, "examine_subject", break_off)
    y = X[:, :1].expand(-1, 6)
    report = ravine.examine(
        nn.Linear(6, 6), nn.MSELoss(), (X, y), optimizer=adam, batch_size=16, epochs=2
    )
    assert report.left_out[0].startswith("trials: KeyError: 'a fault of ours' (test_uneven")
    assert (len(report.left_out) == 2) is always
    assert bool(report.checks.passed) is not always

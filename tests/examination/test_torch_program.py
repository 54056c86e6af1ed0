"""Runs of a torch program: repeatable, paired, evaluated without a trace, ended."""

import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import ravine
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_change import apply_treatments
from ravine.examination.torch_data import TensorData
from ravine.examination.torch_model_changes import reinitialize, scale_start
from ravine.examination.torch_program import evaluating, loss_or_nan, losses_by_group, train_program
from ravine.examination.torch_training_changes import scale_learning_rate

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] + 0.3 * torch.randn(90, generator=RNG) > 0).long()


def network(outputs=2, *more):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs), *more)


def program(model=None, *, loss=F.cross_entropy, train=(X, Y), lr=0.1, **more):
    given = {"optimizer": lambda p: torch.optim.SGD(p, lr=lr), "batch_size": 10, "epochs": 3}
    return read_program(network() if model is None else model, loss, train, **given | more)


# Losses


def test_groups_are_neighbors_and_their_mean_is_the_loss():
    out, y = torch.randn(160, 3, generator=RNG), torch.randint(0, 3, (160,), generator=RNG)
    groups = losses_by_group(F.cross_entropy, out, y)
    assert len(groups) == 16 and sum(groups) / 16 == pytest.approx(float(F.cross_entropy(out, y)))
    assert groups[1] == pytest.approx(float(F.cross_entropy(out[10:20], y[10:20])))
    whole = losses_by_group(lambda o, t: o[0].mean(), (out, out), y)
    assert whole == (pytest.approx(float(out.mean())),)


def test_what_a_loss_raises_counts_as_not_finite_only_for_outputs_that_are_not():
    out = torch.tensor([0.5, float("nan")], requires_grad=True)
    assert loss_or_nan(nn.BCELoss(), out, torch.ones(2)).isnan()
    with pytest.raises(RuntimeError):
        loss_or_nan(nn.BCELoss(), torch.tensor([2.0]), torch.ones(1))


# Building


def test_a_model_that_raises_in_evaluation_trains_on():
    model = nn.Linear(2, 1)
    with pytest.raises(RuntimeError), evaluating(model):
        model(torch.ones(1, 3))
    assert model.training


def test_a_build_is_a_copy_in_everything():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    built, stepper = program(model, optimizer=optimizer).build()
    asking = [p.requires_grad for p in built.parameters()]
    assert asking == [p.requires_grad for p in model.parameters()]
    (held,) = (g["params"] for g in stepper.param_groups)
    assert held[0] is built[2].weight and held[0] is not model[2].weight
    mine = optimizer.state[model[2].weight]["momentum_buffer"]
    assert torch.equal(stepper.state[held[0]]["momentum_buffer"], mine)


# Runs


class Noisy(Dataset):
    """Examples with noise from numpy and Python, as augmentation draws it."""

    def __len__(self):
        return 30

    def __getitem__(self, i):
        return X[i] + np.random.rand() + random.random(), Y[i]


def loaders():
    return {
        "plain": (X, Y),
        "own generator": DataLoader(
            Noisy(), batch_size=10, shuffle=True, generator=torch.Generator().manual_seed(3)
        ),
        "numpy and python": DataLoader(Noisy(), batch_size=10, shuffle=True),
    }


@pytest.mark.parametrize("kind", loaders())
def test_runs_repeat_bit_for_bit_by_seed_and_draw_nothing_of_the_user_s(kind):
    given, model = loaders()[kind], nn.Sequential(network(), nn.Dropout(0.3))
    torch.manual_seed(9)
    np.random.seed(9)
    random.seed(9)
    generator = getattr(given, "generator", None)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    own = None if generator is None else generator.get_state()
    read = program(model, train=given)
    first, again, other = (train_program(read, seed=s) for s in (4, 4, 5))
    assert first.losses == again.losses and first.evaluations == again.evaluations
    assert first.losses != other.losses
    assert torch.equal(before[0], torch.get_rng_state()) and random.getstate() == before[2]
    assert (before[1] == np.random.get_state()[1]).all()
    assert own is None or torch.equal(own, generator.get_state())


def test_the_order_is_the_same_whatever_is_drawn_while_building():
    seen = []

    def noting(out, y):
        seen.append(y.clone())
        return F.cross_entropy(out, y)

    read = program(loss=noting)
    orders = []
    for changes in ((), (reinitialize,), (scale_learning_rate(10), scale_start)):
        seen.clear()
        train_program(apply_treatments(read, changes), seed=2, steps=5)
        orders.append([y for y in seen if len(y) == 10])
    for other in orders[1:]:
        assert all(torch.equal(a, b) for a, b in zip(orders[0], other, strict=True))


def test_a_run_is_the_plain_loop():
    read = program(lr=0.05, validation=(X[:20], Y[:20]))
    run = train_program(read, seed=0, evaluate_at=(0, 4))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    torch.manual_seed(1)  # the order's seed is one more than the run's
    for _ in range(3):
        for rows in torch.randperm(90).split(10):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert run.losses == losses and [e.step for e in run.evaluations] == [0, 4, 27]
    with torch.no_grad():
        known = [
            float(F.cross_entropy(model(x), y))
            for x, y in zip(X[:20].split(4), Y[:20].split(4), strict=True)
        ]
    assert list(run.last.losses) == pytest.approx(known)


def test_without_validation_examples_a_run_is_evaluated_on_training_examples():
    read = program(train=(X[:40], Y[:40]))
    run = train_program(read, seed=0)
    with torch.no_grad():
        out = run.model.eval()(X[:40])
    assert list(run.last.losses) == pytest.approx(list(losses_by_group(read.loss, out, Y[:40])))


def test_evaluations_change_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    read = program(model)
    plain = train_program(read, seed=1)
    assert plain.losses == train_program(read, seed=1, evaluate_at=range(27)).losses


def test_a_run_until_a_step_ends_at_the_first_evaluation_from_there_on():
    run = train_program(program(), seed=0, evaluate_at=(0, 5, 12))
    short = run.until(6)
    assert len(short.losses) == 12 and [e.step for e in short.evaluations] == [0, 5, 12]
    assert run.until(1000).evaluations == run.evaluations


def test_a_run_that_diverges_stops_and_is_marked():
    read = program(network(1), loss=F.mse_loss, train=(X, X[:, :1]), lr=1e6, epochs=20)
    run = train_program(read, seed=0)
    assert run.has_diverged and len(run.losses) < read.steps / 4
    assert [math.isfinite(v) for v in run.losses[-4:]] == [True, False, False, False]
    assert not train_program(program(), seed=0).has_diverged


def test_a_loss_that_refuses_what_is_not_finite_is_a_run_that_diverges():
    model = network(1, nn.Sigmoid())
    with torch.no_grad():
        model[2].bias.fill_(5.0)

    def loss(out, y):  # so large that the first step makes the weights infinite
        return 1e9 * nn.BCELoss()(out.squeeze(1), y.float())

    run = train_program(program(model, loss=loss, lr=1e38), seed=0, steps=20)
    assert run.has_diverged and len(run.losses) < 20 and math.isnan(run.losses[-1])


def test_losses_that_are_not_finite_are_evaluated_once():
    def sometimes(out, y):
        loss = F.cross_entropy(out, y)
        return loss * math.inf if len(y) == 10 and sum(y == Y[0]) == 10 else loss.detach()

    examples = X[:8], torch.zeros(8).long()
    read = program(loss=sometimes, train=(X, torch.zeros(90).long()), validation=examples)
    assert isinstance(read.train, TensorData)
    read.train.targets[10:] = 1
    run = train_program(read, seed=0)
    assert len(run.evaluations) <= 2


def test_examples_that_are_held_out_never_train():
    seen = set()

    class Seeing(nn.Linear):
        def forward(self, x):
            if self.training:
                seen.update(x[:, 0].tolist())
            return super().forward(x)

    read = program(Seeing(4, 2))
    seen.clear()
    train_program(read, seed=0)
    held = set(read.validation[0][:, 0].tolist())
    assert len(held) == 18 and not held & seen and held | seen == set(X[:, 0].tolist())


class Counting(nn.Module):
    """A loss that grows with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, out, y):
        self.calls += 1
        return F.cross_entropy(out, y) * self.calls


@pytest.mark.parametrize("evaluated_by", ["its loss", "the loss it had"])
def test_a_loss_with_a_memory_starts_every_run_anew(evaluated_by):
    loss = Counting()
    read = program(loss=loss)
    if evaluated_by == "the loss it had":
        read = read.keeping_measure()
    first, second = (train_program(read, seed=0, evaluate_at=(0, 9)) for _ in range(2))
    assert first.losses == second.losses and first.evaluations == second.evaluations
    assert int(loss.calls) == 0


GIVEN: dict[str, nn.Module] = {}


@pytest.mark.parametrize("kind", ["closure", "global", "method"])
def test_a_penalty_on_the_weights_of_the_given_model_is_weight_decay(kind, monkeypatch):
    """The gradient of c/2 |w|^2 is c w: what weight decay adds."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.randn(24, 3)
    y = x[:, :1] - x[:, 1:2]

    def penalty(of):
        return 0.05 / 2 * sum(p.square().sum() for p in of.parameters())

    class Penalized(nn.MSELoss):
        def __init__(self):
            super().__init__()
            self.net = [model]

        def forward(self, out, y):
            return super().forward(out, y) + penalty(self.net[0])

    monkeypatch.setitem(GIVEN, "model", model)
    loss = {
        "closure": lambda out, y: F.mse_loss(out, y) + penalty(model),
        "global": lambda out, y: F.mse_loss(out, y) + penalty(GIVEN["model"]),
        "method": Penalized().forward,
    }[kind]
    before = [p.detach().clone() for p in model.parameters()]

    def trained(loss, decay):
        given = read_program(
            model,
            loss,
            (x, y),
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=decay),
            batch_size=8,
            epochs=4,
        )
        return [*train_program(given, seed=0).model.parameters()]

    pairs = zip(trained(loss, 0.0), trained(F.mse_loss, 0.05), strict=True)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert all(p.grad is None for p in model.parameters())
    assert all(map(torch.equal, before, model.parameters()))
    report = ravine.examine(
        model, loss, (x, y), optimizer=lambda p: torch.optim.SGD(p, lr=0.1), batch_size=8, epochs=2
    )
    assert report.checks.failed == () and all(p.grad is None for p in model.parameters())


class PenalizedLoss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, out, y):
        penalty = sum(p.square().sum() for p in self.model.parameters())
        return F.mse_loss(out, y) + 0.05 / 2 * penalty


def test_a_loss_that_is_a_module_and_holds_the_model_penalizes_what_is_trained():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 1), torch.randn(24, 3)

    def trained(loss, decay):
        optimizer = lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=decay)  # noqa: E731
        given = read_program(
            model, loss, (x, x[:, :1]), optimizer=optimizer, batch_size=8, epochs=4
        )
        return train_program(given, seed=0).model.weight

    assert torch.allclose(trained(PenalizedLoss(model), 0.0), trained(F.mse_loss, 0.05), atol=1e-6)
    assert not torch.allclose(trained(F.mse_loss, 0.0), trained(F.mse_loss, 0.05), atol=1e-3)


def test_buffers_of_a_model_that_the_loss_calls_are_as_before_and_reports_repeat():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    before = [b.clone() for b in model.buffers()]

    def loss(out, y):
        return F.cross_entropy(out, y) + 0.1 * model(X[:20]).square().mean()

    def report():
        optimizer = lambda p: torch.optim.SGD(p, lr=0.1)  # noqa: E731
        return ravine.examine(model, loss, (X, Y), optimizer=optimizer, batch_size=10, epochs=2)

    assert report().to_json() == report().to_json()
    assert all(map(torch.equal, before, model.buffers()))

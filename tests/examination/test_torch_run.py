"""Scores against scikit-learn, the best constant answer against closed forms, and runs: repeatable,
paired, ended.
"""

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, r2_score, roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ravine.examination.torch_changes import changed
from ravine.examination.torch_run import by_groups, plain_score, scored, train
from ravine.examination.torch_subject import read_case
from ravine.examination.torch_trials import null_loss
from ravine.finding import Change

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] + 0.3 * torch.randn(90, generator=RNG) > 0).long()


def network(outputs=2, *more):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, outputs), *more)


def case(model=None, *, loss=F.cross_entropy, train=(X, Y), lr=0.1, **more):
    given = {"optimizer": lambda p: torch.optim.SGD(p, lr=lr), "batch_size": 10, "epochs": 3} | more
    return read_case(network() if model is None else model, loss, train, **given)


# Scores


@pytest.mark.parametrize("classes", [2, 5])
def test_the_score_of_classes_is_balanced_accuracy_over_chance(classes):
    y = torch.randint(0, classes, (200,), generator=RNG)
    out = torch.randn(200, classes, generator=RNG) + F.one_hot(y, classes)
    known = balanced_accuracy_score(y, out.argmax(1), adjusted=True)
    assert scored(out, y) == pytest.approx(known, abs=1e-6)


def test_the_score_of_yes_and_no_is_twice_the_auc_less_one_averaged_over_labels():
    y = (torch.rand(150, 3, generator=RNG) < torch.tensor([0.1, 0.5, 0.8])).float()
    out = (torch.randn(150, 3, generator=RNG) + y).mul(2).round()  # with ties
    assert scored(out, y) == pytest.approx(2 * roc_auc_score(y, out, average="macro") - 1, abs=1e-6)
    assert scored(out[:, :1], torch.ones(150)) is None
    assert scored(out[:, :1], y[:, 0]) == pytest.approx(
        2 * roc_auc_score(y[:, 0], out[:, 0]) - 1
    )  # [N, 1] and [N]


def test_the_score_of_numbers_is_r2():
    y = torch.randn(80, 2, generator=RNG) * torch.tensor([1.0, 5.0])
    out = y + torch.randn(80, 2, generator=RNG)
    assert scored(out, y) == pytest.approx(
        r2_score(y, out, multioutput="variance_weighted"), abs=1e-6
    )
    assert scored(out[:, :1], y[:, 0]) == pytest.approx(r2_score(y[:, 0], out[:, 0]), abs=1e-6)
    assert scored(1000 * out, y) == -1.0


def test_classes_may_stand_in_dimension_one_or_last_and_ignored_places_do_not_count():
    y = torch.randint(0, 4, (20, 7), generator=RNG)
    out = torch.randn(20, 7, 4, generator=RNG) + F.one_hot(y, 4)
    known = balanced_accuracy_score(y.flatten(), out.argmax(-1).flatten(), adjusted=True)
    assert scored(out, y) == scored(out.movedim(-1, 1), y) == pytest.approx(known, abs=1e-6)
    masked = torch.where(torch.arange(7) > 3, -100, y)
    assert scored(out, masked) == pytest.approx(scored(out[:, :4], y[:, :4]))


@pytest.mark.parametrize(
    ("outputs", "targets", "score"),
    [
        (torch.full((4, 2), math.nan), torch.tensor([0, 1, 0, 1]), -1.0),
        (torch.zeros(4, 2), torch.zeros(4).long(), None),  # one class
        (torch.zeros(4, 3), torch.zeros(4, 2), None),  # nothing to pair
        ((torch.zeros(4), torch.zeros(4)), torch.zeros(4), None),  # a tuple
        (torch.zeros(4, 1), torch.tensor([True, False, True, False]), 0.0),
        (torch.zeros(4, 2), torch.tensor([0, 1, 0, 1], dtype=torch.uint8), 0.0),
    ],
)
def test_scores_at_the_edges(outputs, targets, score):
    assert scored(outputs, targets) == score


def test_the_plain_score_is_accuracy_over_that_of_the_commonest_class():
    y = (torch.rand(200, generator=RNG) < 0.3).long()
    logits = torch.randn(200, generator=RNG) + 2 * y - 1
    least = max(float(y.float().mean()), 1 - float(y.float().mean()))
    known = (accuracy_score(y, logits > 0) - least) / (1 - least)
    assert plain_score(torch.stack([-logits, logits], 1), y) == pytest.approx(known, abs=1e-5)
    cut = max(accuracy_score(y, logits > at) for at in (0.0, 0.5))
    assert plain_score(logits[:, None], y.float()) == pytest.approx(
        (cut - least) / (1 - least), abs=1e-5
    )


def test_groups_are_neighbors_and_their_mean_is_the_loss():
    out, y = torch.randn(160, 3, generator=RNG), torch.randint(0, 3, (160,), generator=RNG)
    groups = by_groups(F.cross_entropy, out, y)
    assert len(groups) == 16 and sum(groups) / 16 == pytest.approx(float(F.cross_entropy(out, y)))
    assert groups[1] == pytest.approx(float(F.cross_entropy(out[10:20], y[10:20])))
    assert by_groups(lambda o, t: o[0].mean(), (out, out), y) == (pytest.approx(float(out.mean())),)


# The best constant answer


def nothing_learned(targets, loss, outputs, *head):
    """The loss of the best constant; examples are judged in groups of one size, so that their mean
    is the loss.
    """
    x = torch.randn(len(targets), 4, generator=RNG)
    return null_loss(
        case(network(outputs, *head), loss=loss, train=(x, targets), validation=(x, targets))
    )


def entropy(shares):
    return -sum(p * math.log(p) for p in shares if p > 0)


RARE = torch.zeros(640).long().index_fill(0, torch.arange(0, 640, 160), 1)
THREE = torch.arange(640) % 8 // 4 + (torch.arange(640) % 8 == 7)  # shares 4/8, 3/8, 1/8
COUNTS = torch.poisson(torch.full((640, 1), 200.0), generator=RNG)
NUMBERS = torch.randn(640, 1, generator=RNG).exp() * 50 + 1000
YES = (torch.arange(640)[:, None] % 10 == 0).float()


def picked(out, y):
    return -out.gather(1, y[:, None]).log().mean()


@pytest.mark.parametrize(
    ("targets", "loss", "outputs", "head", "known"),
    [
        (THREE, F.cross_entropy, 3, (), entropy([0.5, 0.375, 0.125])),
        (RARE, F.cross_entropy, 2, (), entropy([1 / 160, 159 / 160])),
        (THREE, F.nll_loss, 3, (nn.LogSoftmax(1),), entropy([0.5, 0.375, 0.125])),
        (THREE, picked, 3, (nn.Softmax(1),), entropy([0.5, 0.375, 0.125])),
        (NUMBERS, F.mse_loss, 1, (), float(NUMBERS.var(correction=0))),
        (NUMBERS, F.l1_loss, 1, (), float((NUMBERS - NUMBERS.median()).abs().mean())),
        (
            COUNTS,
            nn.PoissonNLLLoss(),
            1,
            (),
            float(COUNTS.mean() - COUNTS.mean() * COUNTS.mean().log()),
        ),
        (YES, nn.BCELoss(), 1, (nn.Sigmoid(),), entropy([0.1, 0.9])),
        (YES, nn.BCEWithLogitsLoss(), 1, (), entropy([0.1, 0.9])),
        (YES.squeeze(1), lambda o, t: F.mse_loss(o.squeeze(1), t), 1, (), 0.09),
    ],
)
def test_the_best_constant_has_the_loss_of_the_closed_form(targets, loss, outputs, head, known):
    assert nothing_learned(targets, loss, outputs, *head) == pytest.approx(known, rel=2e-3)


def test_no_constant_where_the_loss_has_no_gradient_or_the_answer_is_no_tensor():
    assert math.isnan(nothing_learned(NUMBERS, lambda o, t: F.mse_loss(o.detach(), t), 1))

    class Two(nn.Linear):
        def forward(self, x):
            return super().forward(x), x

    assert math.isnan(null_loss(case(Two(4, 2), loss=lambda o, t: F.cross_entropy(o[0], t))))


def test_looking_for_a_constant_leaves_the_model_as_it_is():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    given = case(model)
    before = copy.deepcopy(model.state_dict())
    null_loss(given)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


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
    torch.manual_seed(9), np.random.seed(9), random.seed(9)
    generator = getattr(given, "generator", None)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    own = None if generator is None else generator.get_state()
    program = case(model, train=given)
    first, again, other = (train(program, seed=s) for s in (4, 4, 5))
    assert first.losses == again.losses and first.looks == again.looks
    assert first.losses != other.losses
    assert torch.equal(before[0], torch.get_rng_state()) and random.getstate() == before[2]
    assert (before[1] == np.random.get_state()[1]).all()
    assert own is None or torch.equal(own, generator.get_state())


def test_the_order_is_the_same_whatever_is_drawn_while_building():
    seen = []

    def noting(out, y):
        seen.append(y.clone())
        return F.cross_entropy(out, y)

    program = case(loss=noting)
    orders = []
    for changes in (
        (),
        (Change("init", "default"),),
        (Change("lr", "x10"), Change("init", "unit variance")),
    ):
        seen.clear()
        train(changed(program, *changes), seed=2, steps=5)
        orders.append([y for y in seen if len(y) == 10])
    for other in orders[1:]:
        assert all(torch.equal(a, b) for a, b in zip(orders[0], other, strict=True))


def test_a_run_is_the_plain_loop():
    program = case(lr=0.05, validation=(X[:20], Y[:20]))
    run = train(program, seed=0, looks=(4,))
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
    assert run.losses == losses and [look.step for look in run.looks] == [0, 4, 27]
    with torch.no_grad():
        known = [
            float(F.cross_entropy(model(x), y))
            for x, y in zip(X[:20].split(4), Y[:20].split(4), strict=True)
        ]
    assert list(run.last.others) == pytest.approx(known)


def test_looks_change_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    program = case(model)
    assert train(program, seed=1).losses == train(program, seed=1, looks=range(27)).losses


def test_a_run_that_diverges_stops_and_is_marked():
    program = case(network(1), loss=F.mse_loss, train=(X, X[:, :1]), lr=1e6, epochs=20)
    run = train(program, seed=0)
    assert run.diverged and len(run.losses) < program.steps / 4
    assert [math.isfinite(v) for v in run.losses[-3:]] == [False] * 3
    assert not train(case(), seed=0).diverged


def test_a_loss_that_refuses_what_is_not_finite_is_a_run_that_diverges():
    model = network(1, nn.Sigmoid())
    with torch.no_grad():
        model[2].bias.fill_(5.0)
    loss = lambda out, y: nn.BCELoss()(out.squeeze(1), y.float())  # noqa: E731
    program = case(model, loss=loss, lr=1e38)
    run = train(program, seed=0, steps=20)
    assert run.diverged and len(run.losses) < 20 and math.isnan(run.losses[-1])


def test_one_loss_that_is_not_finite_is_looked_at_once():
    calls = []

    def sometimes(out, y):
        calls.append(1)
        loss = F.cross_entropy(out, y)
        return loss * math.inf if len(y) == 10 and sum(y == Y[0]) == 10 else loss.detach()

    program = case(
        loss=sometimes, train=(X, torch.zeros(90).long()), validation=(X[:8], torch.zeros(8).long())
    )
    program.train.targets[10:] = 1
    run = train(program, seed=0)
    assert len(run.looks) <= 3


def test_examples_that_are_held_out_never_train():
    seen = set()

    class Seeing(nn.Linear):
        def forward(self, x):
            if self.training:
                seen.update(x[:, 0].tolist())
            return super().forward(x)

    program = case(Seeing(4, 2))
    seen.clear()
    train(program, seed=0)
    held = set(program.validation[0][:, 0].tolist())
    assert len(held) == 18 and not held & seen and held | seen == set(X[:, 0].tolist())


def test_a_loss_with_a_memory_starts_every_run_anew():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, out, y):
            self.calls += 1
            return F.cross_entropy(out, y) * self.calls

    loss = Counting()
    program = case(loss=loss)
    assert train(program, seed=0).losses == train(program, seed=0).losses
    assert int(loss.calls) == 0

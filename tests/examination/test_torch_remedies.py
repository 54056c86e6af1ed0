"""Which remedies are tried: what facts speak for them, nothing on a plain program, and general
grounds at the end.
"""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ravine.diagnosis.trials.rules import GENERAL
from ravine.examination.torch_changes import CHANGES, NotTriedError, changed
from ravine.examination.torch_remedies import remedies
from ravine.examination.torch_report import looked_at
from ravine.examination.torch_run import train
from ravine.examination.torch_subject import read_case
from ravine.examination.torch_trials import attempted, confirmed, cured
from ravine.finding import CAUSES, TRIABLE_CHANGES, Change, Finding

RNG = torch.Generator().manual_seed(0)
X = torch.randn(28, 4, generator=RNG)  # so few that no quick learner learns: it saves time
Y = (X[:, 0] * X[:, 1] > 0).long()
NUMBER = X[:, :1] - X[:, 1:2]


def network(*, act=nn.ReLU, outputs=2, tail=(), depth=2):
    torch.manual_seed(1)
    hidden = [m for _ in range(depth - 1) for m in (nn.Linear(16, 16), act())]
    return nn.Sequential(nn.Linear(4, 16), act(), *hidden, nn.Linear(16, outputs), *tail)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def wanted(model=None, *, loss=F.cross_entropy, train_on=(X, Y), **more):
    """The remedies that are tried on a program, without its examples' quick learners, and the case
    with its run.
    """
    batch = None if isinstance(train_on, DataLoader) else 7
    given = {"optimizer": adam, "batch_size": batch, "epochs": 2} | more
    case = read_case(network() if model is None else model, loss, train_on, **given)
    start, examples = looked_at(case)
    base = train(case, seed=0)
    return remedies(case, base, start=start, examples=examples), case, base


@functools.cache
def of_sick(cause):
    return wanted(**SICK[cause])


def specific(found):
    return [r.cause for r in found if r.grounds and r.cause != "learning-rate-high"]


def test_nothing_speaks_for_a_remedy_of_a_plain_program_and_the_general_ones_come_last():
    found, _, _ = wanted()
    assert specific(found) == []
    assert [r.cause for r in found] == [
        "initialization",
        "learning-rate-low",
        "learning-rate-high",
        "too-few-steps",
    ]


def normal(sd):
    model = network()
    with torch.no_grad():
        for p in model.parameters():
            nn.init.normal_(p, std=sd, generator=torch.Generator().manual_seed(0))
    return model


def behind(**norm):
    model = network()
    model.insert(1, nn.BatchNorm1d(16, **norm))
    return model


def frozen():
    model = network()
    model[2].requires_grad_(False)
    return model


RARE = (X, (torch.arange(28) % 10 == 0).long())
SICK = {
    "input-scale": {"train_on": (X * 1000, Y)},
    "target-scale": {
        "model": network(outputs=1),
        "loss": F.mse_loss,
        "train_on": (X, 100 * NUMBER + 5000),
    },
    "loss-reduction": {"loss": nn.CrossEntropyLoss(reduction="sum")},
    "imbalance": {"train_on": RARE, "validation": RARE},
    "frozen-parameters": {"model": frozen()},
    "initialization": {"model": normal(5.0)},
    "dropout": {"model": network(tail=(nn.Dropout(0.9),))},
    "over-regularized": {"optimizer": lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.5)},
    "optimizer-numerics": {"optimizer": lambda p: torch.optim.Adam(p, lr=0.01, eps=0.1)},
    "normalization": {"model": behind(momentum=1e-4)},
    "output-activation": {
        "model": network(outputs=1, tail=(nn.Sigmoid(),)),
        "loss": F.mse_loss,
        "train_on": (X, NUMBER),
    },
    "hidden-activation": {"model": network(act=nn.Identity)},
    "shuffling": {"train_on": DataLoader(TensorDataset(X, Y), batch_size=7)},
}


@pytest.mark.parametrize("cause", SICK)
def test_a_fact_speaks_for_the_remedy_of_a_seeded_fault(cause):
    found, case, _ = of_sick(cause)
    assert cause in specific(found)
    (remedy,) = (r for r in found if r.cause == cause)
    assert all(e.name and (e.value is None or math.isfinite(e.value)) for e in remedy.grounds)
    changed(case, *remedy.strengths[0])  # it can be made


@pytest.mark.parametrize("cause", sorted(set(SICK) - {"initialization"}))
def test_and_for_no_other(cause):
    """Another start, too, is tried where unscaled numbers make the first loss far larger than that
    of a constant.
    """
    found, _, _ = of_sick(cause)
    assert set(specific(found)) <= {
        cause,
        *(("initialization",) if cause.endswith("-scale") else ()),
    }


def test_deep_squashing_and_dropout_within_functions_are_seen():
    assert "hidden-activation" in specific(wanted(network(act=nn.Sigmoid, depth=4))[0])
    assert "hidden-activation" not in specific(wanted(network(act=nn.Sigmoid, depth=2))[0])

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.dropout = network(), 0.9

        def forward(self, x):
            return self.body(F.dropout(x, self.dropout, self.training))

    assert "dropout" in specific(wanted(Own())[0])


def test_an_optimizer_and_a_batch_size_are_tried_where_they_may_matter():
    def tried(**more):
        return {r.cause for r in wanted(**more)[0]}

    assert (
        "optimizer" in tried(optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
        and "optimizer" not in tried()
    )
    assert "batch-size" in tried(batch_size=64) and "batch-size" not in tried(batch_size=8)


def test_a_loss_that_went_up_speaks_for_a_lower_rate():
    found, _, base = wanted(
        network(outputs=1),
        loss=F.mse_loss,
        train_on=(X, NUMBER),
        optimizer=lambda p: torch.optim.SGD(p, lr=50.0),
    )
    (lower,) = (r for r in found if r.cause == "learning-rate-high")
    assert base.diverged and lower.grounds[0].value == len(base.losses)


def test_trained_layers_that_are_frozen_are_nobody_s_fault():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()
    model[0].requires_grad_(False)
    assert "frozen-parameters" not in specific(wanted(model)[0])


@pytest.mark.parametrize("cause", SICK)
def test_every_remedy_names_what_can_be_tried(cause):
    for remedy in of_sick(cause)[0]:
        assert remedy.cause in CAUSES and set(remedy.suspects) <= set(CAUSES)
        assert remedy.grounds or remedy.cause in (*GENERAL, "over-regularized")
        assert (
            {c.path for strength in remedy.strengths for c in strength}
            <= set(TRIABLE_CHANGES)
            == set(CHANGES)
        )


# Trying them


def test_what_is_tried_is_judged_by_the_program_s_own_loss_on_the_same_examples():
    """Also where the remedy is another loss: a sum is judged as the sum that it was."""
    found, case, base = wanted(**SICK["loss-reduction"], validation=(X, Y))
    tried = attempted(case, base, found, seed=0)
    (other,) = (o for o in tried.outcomes if o.cause == "loss-reduction")
    known = train(changed(case, *other.changes), seed=0)
    with torch.no_grad():
        out = known.model.eval()(X)
        groups = [
            float(case.loss(o, y))
            for o, y in zip(out.tensor_split(7), Y.tensor_split(7), strict=True)
        ]
    assert other.loss == pytest.approx(sum(groups) / 7, rel=1e-5)
    assert tried.base.loss == base.last.loss and tried.start == base.looks[0].loss


def test_a_remedy_that_cannot_be_made_or_breaks_is_refused_and_the_others_are_tried():
    class Picky(nn.Module):
        """Refuses batches of one size."""

        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, x):
            assert len(x) != 8
            return self.body(x)

    found, case, base = wanted(Picky(), batch_size=64)
    tried = attempted(case, base, found, seed=0)
    assert [(c.path, why) for c, why in tried.refused] == [
        ("batch", "it does not run: AssertionError")
    ]
    assert {o.cause for o in tried.outcomes} == {r.cause for r in found} - {"batch-size"}


def test_a_remedy_is_confirmed_on_seeds_in_pairs():
    x = torch.randn(28, 4, generator=RNG)
    found, case, base = wanted(
        train_on=(X, (X[:, 0] > 0).long()),
        validation=(x, (x[:, 0] > 0).long()),
        epochs=10,
        optimizer=lambda p: torch.optim.Adam(p, lr=1e-6),
    )
    tried = attempted(case, base, [r for r in found if r.cause == "learning-rate-low"], seed=0)
    (first,) = tried.outcomes
    outcome = confirmed(case, tried, first, seed=0)
    assert (
        outcome.trial.verdict == "helped"
        and outcome.trial.seeds == 5
        and outcome.trial.after < outcome.trial.before
    )
    again = train(changed(case, *first.changes), seed=3)
    assert outcome.losses[3] == again.last.loss


def test_a_certain_fault_s_cure_is_tried_and_what_does_not_help_is_not_recommended():
    model = network(outputs=2, tail=(nn.Softmax(1),))
    case = read_case(
        model,
        F.cross_entropy,
        (X, (X[:, 0] > 0).long()),
        optimizer=lambda p: torch.optim.SGD(p, lr=0.5),
        batch_size=7,
        epochs=10,
    )
    base = train(case, seed=0)
    finding = _finding("output-activation", Change("output", "linear"))
    cure = cured(case, base, finding)
    assert cure.trial.verdict == "helped" and cure.changes == (Change("output", "linear"),)
    idle = cured(
        case,
        base,
        _finding("normalization", Change("normalization", "usual"), Change("model", "by hand")),
    )
    assert idle.trial.verdict == "no effect" and idle.changes == (Change("model", "by hand"),)
    assert (
        cured(case, base, _finding("causality", Change("model", "a mask"))).trial.verdict
        == "not tried"
    )


def _finding(cause, *changes):
    return Finding(
        code="T", title="", severity="error", confidence="exact", cause=cause, changes=changes
    )


def test_no_change_is_made_that_is_not_known():
    with pytest.raises(NotTriedError):
        changed(wanted()[1], Change("loop", "zero_grad"))

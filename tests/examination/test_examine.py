"""`ravine.examine` on seeded faults: the cause is named, a remedy that was tried helps, and nothing
is changed; odd programs give a report; few passes through the model, and few frames to it.
"""

import copy
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import ravine
from ravine.errors import InputError


def moons(count=120, seed=0):
    """Two interleaved half circles."""
    g = torch.Generator().manual_seed(seed)
    angle = torch.rand(count, generator=g) * torch.pi
    y = torch.arange(count) % 2
    x = torch.stack(
        [torch.cos(angle) * (1 - 2 * y) + y, torch.sin(angle) * (1 - 2 * y) + 0.5 * y], 1
    )
    return x + 0.1 * torch.randn(count, 2, generator=g), y


def moons_network(*, act=nn.ReLU, seed=0, inputs=2, width=24):
    torch.manual_seed(seed)
    hidden = (nn.Linear(inputs, width), act(), nn.Linear(width, width), act())
    return nn.Sequential(*hidden, nn.Linear(width, 2))


def examine_moons(model=None, *, x=None, y=None, lr=0.02, epochs=20, **more):
    data = moons()
    given = (data[0] if x is None else x, data[1] if y is None else y)
    return ravine.examine(
        moons_network() if model is None else model,
        F.cross_entropy,
        given,
        batch_size=20,
        epochs=epochs,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=lr),
        **more,
    )


def alarms(report):
    return [f for f in report.findings if f.severity in ("error", "warning")]


def test_a_healthy_program_has_no_findings():
    assert alarms(examine_moons()) == []


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        ("learning-rate-low", {"lr": 1e-6}),
        ("learning-rate-high", {"lr": 30.0}),
        ("input-scale", {"x": moons()[0] * 1e-3}),
        ("output-activation", {"model": nn.Sequential(moons_network(), nn.Softmax(1))}),
        ("hidden-activation", {"model": moons_network(act=nn.Identity)}),
    ],
)
def test_a_seeded_fault_is_the_first_cause(cause, fault):
    report = examine_moons(**fault)
    assert alarms(report)[0].cause == cause
    tried = [f.trial for f in alarms(report) if f.trial is not None]
    assert "helped" in {trial.verdict for trial in tried}
    assert {trial.verdict for trial in tried} <= {"helped", "not tried"}


COUNTS = torch.tensor([1560.0, 40.0])


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(torch.tensor([1.0, 0.02])),
        lambda out, y: F.nll_loss(out.log_softmax(1), y, COUNTS),
        lambda out, y: ((1 - 0.98 * y) * F.cross_entropy(out, y, reduction="none")).mean(),
    ],
)
def test_weights_against_a_rare_class_are_cured_by_the_usual_loss_and_equal_draws(loss):
    """A class that one in 40 examples has, two standard deviations away."""
    y = (torch.arange(1600) % 40 == 0).long()
    x = torch.randn(1600, 6, generator=torch.Generator().manual_seed(0))
    x[:, 0] += 2 * y
    report = ravine.examine(
        moons_network(inputs=6, act=nn.Tanh),
        loss,
        (x, y),
        batch_size=32,
        epochs=3,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    )
    finding = report.findings[0]
    assert (finding.code, finding.trial.verdict) == ("RVN-I11", "helped")
    changes = [("loss", "cross entropy"), ("loss", "balanced")]
    assert [(c.path, c.value) for c in finding.changes] == changes


def test_a_warning_of_the_program_is_shown_once_however_many_runs_repeat_it():
    x, _ = moons(90)
    model = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1))
    with pytest.warns(UserWarning, match="Using a target size") as shown:
        report = ravine.examine(
            model,
            nn.MSELoss(),
            (x, x.sum(1)),
            batch_size=20,  # the last batch of an epoch is a smaller one, and warns for itself
            epochs=12,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.02),
        )
    assert len([w for w in shown if "target size" in str(w.message)]) == 1
    (alarm,) = alarms(report)  # that of the loop is a note beneath that of the start
    assert alarm.code == "RVN-I02" and alarm.where == "2" and alarm.explains == ("RVN-H06",)


def test_nothing_is_changed():
    model, (x, y) = moons_network(), moons()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), x, y))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    ravine.examine(model, F.cross_entropy, (x, y), optimizer=optimizer, batch_size=20, epochs=5)
    assert torch.equal(torch.get_rng_state(), state)
    after = (model.state_dict(), optimizer.state_dict(), x, y)
    assert all(
        torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True)
    )
    assert before[1] == after[1] and torch.equal(before[2], x) and torch.equal(before[3], y)
    assert model.training and all(p.grad is None for p in model.parameters())


def test_a_loader_and_tensors_are_the_same_program():
    x, y = moons()
    loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
    fault = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-6), "epochs": 10}
    first = ravine.examine(moons_network(), F.cross_entropy, loader, **fault)
    second = ravine.examine(moons_network(), F.cross_entropy, (x, y), batch_size=20, **fault)
    assert first.to_json() == second.to_json()


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": 3}, "loss"),
        ({"train": (torch.ones(3, 2), torch.ones(4).long())}, "3 inputs and 4 targets"),
        ({"train": (torch.ones(3, 2), "abc")}, "part of the examples is a str"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"optimizer": None}, "optimizer"),
        ({"optimizer": lambda parameters: 3}, "torch.optim.Optimizer"),
        ({"train": (torch.ones(9, 5), torch.zeros(9).long())}, "do not run on a batch"),
        ({"loss": lambda out, y: out}, "one number"),
        ({"train": moons(301), "validation": moons()}, "training breaks off: ValueError"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_message(arguments, message):
    model = moons_network()
    if message.startswith("training"):
        model.insert(1, nn.BatchNorm1d(24))  # which refuses a last batch of one
    given = {
        "model": model,
        "loss": F.cross_entropy,
        "train": moons(),
        "batch_size": 20,
        "epochs": 2,
        "optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    } | arguments
    model, loss, train = (given.pop(name) for name in ("model", "loss", "train"))
    with pytest.raises(InputError, match=message) as raised:
        ravine.examine(model, loss, train, **given)
    assert raised.value.why and raised.value.do and len(str(raised.value)) < 500


# Odd programs

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] > 0).long()
TOKENS = torch.randint(0, 20, (90, 6), generator=RNG)


def network(outputs=2, inputs=4):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


class Ragged(Dataset):
    """Sequences of different lengths."""

    def __len__(self):
        return 60

    def __getitem__(self, i):
        return TOKENS[i][: 3 + i % 4], Y[i]


def padded(batch):
    return nn.utils.rnn.pad_sequence([x for x, _ in batch], batch_first=True), torch.stack(
        [y for _, y in batch]
    )


class Tuple(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.body = network(outputs)

    def forward(self, x):
        made = self.body(x)
        return made, made.mean()


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x.float() / 255)).mean((2, 3)))


class Words(nn.Module):
    def __init__(self, *, sparse):
        super().__init__()
        self.words = nn.Embedding(20, 2, sparse=sparse)

    def forward(self, x):
        return self.words(x).mean(1)


def buffers():
    model = nn.BatchNorm1d(4, affine=False)
    return {"model": model, "optimizer": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)}


def normalized():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def lazy():
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))


def learned_loss():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.log = nn.Parameter(torch.zeros(()))

        def forward(self, out, y):
            return F.cross_entropy(out, y) * torch.exp(-self.log) + self.log

    model, loss = network(), Weighted()
    return {
        "model": model,
        "loss": loss,
        "optimizer": torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.1),
    }


ROUND = (3 * X[:, :1]).round()
ODD = {
    "float64": lambda: {"model": network().double(), "train": (X.double(), Y)},
    "float64 targets": lambda: {
        "model": network(1),
        "loss": F.mse_loss,
        "train": (X, X[:, :1].double()),
    },
    "bfloat16": lambda: {"model": network().bfloat16(), "train": (X.bfloat16(), Y)},
    "whole numbers to regress": lambda: {
        "model": network(1),
        "loss": F.mse_loss,
        "train": (X, ROUND.long()),
    },
    "classes in a column": lambda: {
        "loss": lambda o, t: F.cross_entropy(o, t.squeeze(1)),
        "train": (X, Y[:, None]),
    },
    "yes and no": lambda: {
        "model": network(1),
        "train": (X, Y.bool()),
        "loss": lambda o, t: F.binary_cross_entropy_with_logits(o.squeeze(1), t.float()),
    },
    "bytes as classes": lambda: {
        "train": (X, Y.byte()),
        "loss": lambda o, t: F.cross_entropy(o, t.long()),
    },
    "one example": lambda: {"train": (X[:1], Y[:1])},
    "one number": lambda: {"model": network(1), "loss": F.mse_loss, "train": (X[:1], X[:1, :1])},
    "a batch larger than all": lambda: {"batch_size": 500},
    "a tuple": lambda: {"model": Tuple(), "loss": lambda o, t: F.cross_entropy(o[0], t)},
    "a tuple of whole numbers": lambda: {
        "model": Tuple(1),
        "loss": lambda o, t: F.mse_loss(o[0], t),
        "train": (X, ROUND),
    },
    "images in bytes": lambda: {
        "model": Images(),
        "train": (torch.randint(0, 255, (90, 1, 6, 6), generator=RNG).byte(), Y),
    },
    "buffers only": buffers,
    "lazy": lambda: {"model": lazy()},
    "sparse gradients": lambda: {
        "model": Words(sparse=True),
        "train": (TOKENS, (TOKENS[:, 0] > 9).long()),
        "optimizer": lambda p: torch.optim.SparseAdam(list(p), lr=0.01),
    },
    "sparse gradients, plain": lambda: {
        "model": Words(sparse=True),
        "train": (TOKENS, (TOKENS[:, 0] > 9).long()),
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.01),
    },
    "no gradient": lambda: {"loss": lambda o, t: F.cross_entropy(o.detach(), t)},
    "another's parameters": lambda: {"optimizer": adam(network().parameters())},
    "sequences of different lengths": lambda: {
        "model": Words(sparse=False),
        "batch_size": None,
        "train": DataLoader(Ragged(), batch_size=8, collate_fn=padded),
    },
    "numpy's numbers": lambda: {
        "epochs": np.int64(2),
        "batch_size": np.int32(10),
        "seed": np.int64(2**40),
    },
    "a negative seed": lambda: {"seed": -3},
    "examples with a history": lambda: {"train": (X.clone().requires_grad_(), Y)},
    "targets with a history": lambda: {
        "model": network(1),
        "loss": F.mse_loss,
        "train": (X, (X[:, :1].clone().requires_grad_() * 2)),
    },
    "normalization after holding out": lambda: {"model": normalized(), "train": (X[:76], Y[:76])},
    "one to evaluate": lambda: {"validation": (X[:1], Y[:1])},
    "two numbers for epsilon": lambda: {"optimizer": lambda p: torch.optim.Adafactor(p, lr=0.01)},
    "a rate that is a tensor": lambda: {
        "optimizer": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01))
    },
    "a loss with parameters": learned_loss,
    "a loss of shape one": lambda: {"loss": lambda o, t: F.cross_entropy(o, t)[None]},
    "a parallel model": lambda: {"model": nn.DataParallel(network())},
    "everything frozen": lambda: {"model": network().requires_grad_(False)},
    "everything the same": lambda: {
        "model": network(1),
        "loss": F.mse_loss,
        "train": (X * 0, X[:, :1] * 0),
    },
    "infinite targets": lambda: {
        "model": network(1),
        "loss": F.mse_loss,
        "train": (X, X[:, :1] * torch.inf),
    },
    "not a number": lambda: {
        "model": nn.Sequential(network(1), nn.Sigmoid(), nn.Flatten(0)),
        "loss": lambda o, t: F.binary_cross_entropy(o, t.float()),
        "train": (X * torch.nan, Y),
    },
    "diverging into what the loss refuses": lambda: {
        "model": nn.Sequential(network(1), nn.Sigmoid(), nn.Flatten(0)),
        "train": (X, Y.float()),
        "loss": nn.BCELoss(),
        "optimizer": lambda p: torch.optim.SGD(p, lr=1e38),
    },
}


TRIED = (
    "float64",
    "whole numbers to regress",
    "a tuple of whole numbers",
    "sparse gradients",
    "one number",
    "two numbers for epsilon",
    "diverging into what the loss refuses",
    "sequences of different lengths",
)


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_program_gives_a_report_and_is_left_as_it_was(kind):
    given = {
        "model": network(),
        "loss": F.cross_entropy,
        "train": (X, Y),
        "batch_size": 10,
        "epochs": 1,
        "optimizer": adam,
    } | ODD[kind]()
    model, loss, train = (given.pop(name) for name in ("model", "loss", "train"))
    if kind not in TRIED and kind != "normalization after holding out":
        train = (
            train[0][:28],
            train[1][:28],
        )  # with fewer than 30 no quick learner learns: it saves time
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    report = ravine.examine(model, loss, train, trials=kind in TRIED, **given)
    assert report.checks.failed == ()
    if kind != "lazy":
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    parameters = [*model.parameters(), *(loss.parameters() if isinstance(loss, nn.Module) else ())]
    assert all(p.grad is None for p in parameters)
    assert torch.equal(state[0], torch.get_rng_state()) and random.getstate() == state[2]
    assert (state[1] == np.random.get_state()[1]).all()


def test_sparse_gradients_are_no_gradients_that_were_cleared():
    model, stepper = Words(sparse=True), lambda p: torch.optim.SparseAdam(list(p), lr=0.01)
    report = ravine.examine(
        model,
        F.cross_entropy,
        (TOKENS, (TOKENS[:, 0] > 9).long()),
        batch_size=10,
        epochs=2,
        optimizer=stepper,
        trials=False,
    )
    assert [f.code for f in report.findings if f.severity == "error"] == []


# How far it is to the model


class Counted(nn.Module):
    """A network that counts its passes, and the frames of ours between `examine` and itself."""

    passes = 0
    frames: dict[tuple[str, ...], int] = {}

    def __init__(self):
        super().__init__()
        self.body = moons_network(inputs=4, width=32)

    def forward(self, x):
        Counted.passes += 1
        path, frame = [], sys._getframe()
        while frame is not None and (frame.f_code.co_name != "examine" or not is_ours(frame)):
            path += [frame.f_code.co_name] if is_ours(frame) else []
            frame = frame.f_back
        Counted.frames[tuple(reversed(path))] = len(path) + 1  # with examine() itself
        return self.body(x)


def is_ours(frame):
    return Path(frame.f_code.co_filename).is_relative_to(Path(ravine.__file__).parent)


@pytest.fixture(scope="module")
def counted():
    """The report of a healthy program of three epochs whose passes are counted."""
    Counted.passes, Counted.frames = 0, {}
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=g)
    report = ravine.examine(
        Counted(),
        nn.CrossEntropyLoss(),
        (x, (x[:, 0] * x[:, 1] > 0).long()),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.03),
        batch_size=30,
        epochs=3,
    )
    return report, Counted.passes, dict(Counted.frames)


def test_a_healthy_program_of_three_epochs_takes_at_most_240_passes(counted):
    report, passes, _ = counted
    assert alarms(report) == [] and passes <= 240


def deepest(frames):
    path = max(frames, key=lambda p: frames[p])
    return frames[path], path


def test_from_examine_to_the_model_there_are_at_most_eight_frames_of_ours(counted):
    depth, path = deepest(counted[2])
    assert depth <= 8, path

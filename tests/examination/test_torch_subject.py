"""What `examine` is given: loaders as they iterate, odd programs that give a report, refusals in
one message.
"""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from ravine.errors import InputError
from ravine.examination.api import examine
from ravine.examination.torch_subject import Loaded, Rows, evened, measured, read_case
from ravine.rng import isolated_rng

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] > 0).long()
TOKENS = torch.randint(0, 20, (90, 6), generator=RNG)


def network(outputs=2, inputs=4):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def case(model=None, loss=F.cross_entropy, train=(X, Y), **more):
    given = {"optimizer": adam, "batch_size": 10, "epochs": 2} | more
    return read_case(network() if model is None else model, loss, train, **given)


class Pairs(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y[i]


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


class Endless(IterableDataset):
    def __iter__(self):
        return iter(zip(X, Y, strict=True))


# Loaders


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_plain_loader_is_taken_apart_and_gives_batches_of_the_same_sizes(drop, shuffle):
    loader = DataLoader(TensorDataset(X, Y), batch_size=20, shuffle=shuffle, drop_last=drop)
    given = case(train=loader, batch_size=None, validation=(X, Y))
    assert isinstance(given.train, Rows) and given.train.shuffled == shuffle
    batches = list(given.train.epoch())
    assert [len(x) for x, _ in batches] == [len(x) for x, _ in loader]
    assert len(batches) == len(given.train) == len(loader) and given.steps == 2 * len(loader)
    if not shuffle:
        assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, loader, strict=True))


@pytest.mark.parametrize(
    ("loader", "batch", "shuffled"),
    [
        (DataLoader(Pairs(), batch_size=20), 20, False),
        (
            DataLoader(
                TensorDataset(X, Y),
                batch_size=20,
                sampler=WeightedRandomSampler(torch.ones(90), 60),
            ),
            20,
            True,
        ),
        (
            DataLoader(
                TensorDataset(X, Y), batch_size=9, sampler=RandomSampler(X, replacement=True)
            ),
            9,
            True,
        ),
        (
            DataLoader(TensorDataset(X, Y), batch_size=9, sampler=RandomSampler(X, num_samples=45)),
            9,
            True,
        ),
        (DataLoader(Ragged(), batch_size=12, collate_fn=padded), 12, False),
        (
            DataLoader(Pairs(), batch_sampler=BatchSampler(RandomSampler(X), 15, drop_last=False)),
            15,
            True,
        ),
        (
            DataLoader(
                Pairs(), batch_sampler=BatchSampler(SequentialSampler(X), 15, drop_last=False)
            ),
            15,
            False,
        ),
        (
            DataLoader(TensorDataset(X.reshape(9, 10, 4), Y.reshape(9, 10)), batch_size=None),
            10,
            False,
        ),
    ],
)
def test_any_other_loader_is_iterated_as_it_is(loader, batch, shuffled):
    state = torch.get_rng_state()
    given = Loaded(loader)
    assert (given.batch, len(given)) == (batch, len(loader))
    assert given.shuffled == shuffled
    assert torch.equal(torch.get_rng_state(), state)
    with isolated_rng(3):
        mine = list(given.epoch())
    with isolated_rng(3):
        theirs = list(loader)
    assert all(
        torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
        for a, b in zip(mine, theirs, strict=True)
    )


def test_batches_of_a_sampler_of_its_own_are_not_said_to_come_in_one_order():
    class Mixed(BatchSampler):
        def __iter__(self):
            batches = list(super().__iter__())
            return iter([batches[i] for i in torch.randperm(len(batches))])

    assert Loaded(
        DataLoader(Pairs(), batch_sampler=Mixed(SequentialSampler(X), 15, False))
    ).shuffled


def test_a_loader_s_own_generator_gives_the_same_order_by_the_same_seed_and_is_set_back():
    generator = torch.Generator().manual_seed(5)
    given = Loaded(DataLoader(Pairs(), batch_size=30, shuffle=True, generator=generator))
    state, orders = generator.get_state(), []
    for seed in (1, 1, 2):
        with isolated_rng(seed):
            orders.append(torch.cat([x for x, _ in given.epoch()]))
        with isolated_rng(seed):
            next(iter(given.epoch()))  # broken off
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    assert torch.equal(generator.get_state(), state)


def test_of_batches_of_different_shapes_those_like_the_first_are_looked_at():
    inputs, targets = Loaded(DataLoader(Ragged(), batch_size=3, collate_fn=padded)).first(100)
    assert inputs.shape[1] == 5 and 3 <= len(inputs) == len(targets) < 60
    evenly, _ = Rows(X, Y, 10).first(10)
    assert torch.equal(evenly[0], X[0]) and torch.equal(evenly[-1], X[-1])


# Held-out examples


def test_a_fifth_is_held_out_where_nothing_is_given_to_judge_by():
    given = case()
    train, held = given.train.inputs[:, 0].tolist(), given.validation[0][:, 0].tolist()
    assert given.held_out and len(held) == 18 and sorted(train + held) == sorted(X[:, 0].tolist())
    order = {v: i for i, v in enumerate(X[:, 0].tolist())}
    assert [order[v] for v in train] == sorted(
        order[v] for v in train
    )  # the order of the file is kept
    pairs = dict(zip(X[:, 0].tolist(), Y.tolist(), strict=True))
    assert all(pairs[v] == int(y) for v, y in zip(held, given.validation[1], strict=True))
    assert case(seed=1).validation[0][:, 0].tolist() != held == case().validation[0][:, 0].tolist()


def test_too_few_examples_are_not_split_and_given_ones_are_kept():
    assert case(train=(X[:59], Y[:59])).validation is None
    given = case(validation=(X[:7], Y[:7]))
    assert (
        not given.held_out
        and torch.equal(given.validation[0], X[:7])
        and len(given.train.inputs) == 90
    )
    loaded = case(validation=DataLoader(Pairs(), batch_size=20, shuffle=True))
    assert len(loaded.validation[0]) == 90


@pytest.mark.parametrize(("count", "batch"), [(126, 20), (76, 10), (91, 10)])
def test_holding_out_makes_no_last_batch_of_one(count, batch):
    """Batch normalization refuses a batch of one example."""
    x = torch.randn(count, 4, generator=RNG)
    given = case(train=(x, (x[:, 0] > 0).long()), batch_size=batch)
    last = [len(inputs) for inputs, _ in given.train.epoch()][-1]
    assert last > 1 or count % batch == 1
    assert len(given.train.inputs) + len(given.validation[0]) == count


# Building


def test_a_build_is_a_copy_in_everything():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    gradient = model[2].weight.grad
    given = case(model, optimizer=optimizer)
    assert model[2].weight.grad is gradient and not model.training  # reading changes nothing
    built, stepper = given.build()
    assert [p.requires_grad for p in built.parameters()] == [
        p.requires_grad for p in model.parameters()
    ]
    (held,) = (g["params"] for g in stepper.param_groups)
    assert held[0] is built[2].weight and torch.equal(
        stepper.state[held[0]]["momentum_buffer"],
        optimizer.state[model[2].weight]["momentum_buffer"],
    )


def test_what_a_loss_raises_counts_as_not_finite_only_for_outputs_that_are_not():
    out = torch.tensor([0.5, float("nan")], requires_grad=True)
    assert measured(nn.BCELoss(), out, torch.ones(2)).isnan()
    with pytest.raises(RuntimeError):
        measured(nn.BCELoss(), torch.tensor([2.0]), torch.ones(1))


def test_weights_even_out_classes_and_labels():
    y = torch.randint(0, 4, (300,), generator=RNG).clamp(max=2)
    shares = torch.stack([evened(y)[y == k].sum() for k in range(3)])
    assert torch.allclose(shares, torch.ones(3), atol=1e-4)
    assert torch.equal(evened(y.bool()), evened(y.bool().long()))


# Odd programs


class Tuple(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.body = network(outputs)

    def forward(self, x):
        made = self.body(x)
        return made, made.mean()


class Pictures(nn.Module):
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
    "pictures in bytes": lambda: {
        "model": Pictures(),
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
    "one to judge by": lambda: {"validation": (X[:1], Y[:1])},
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
    report = examine(model, loss, train, trials=kind in TRIED, **given)
    assert report.checks.failed == ()
    if kind != "lazy":
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    parameters = [*model.parameters(), *(loss.parameters() if isinstance(loss, nn.Module) else ())]
    assert all(p.grad is None for p in parameters)
    assert torch.equal(state[0], torch.get_rng_state()) and random.getstate() == state[2]
    assert (state[1] == np.random.get_state()[1]).all()


def test_sparse_gradients_are_no_gradients_that_were_cleared():
    model, stepper = Words(sparse=True), lambda p: torch.optim.SparseAdam(list(p), lr=0.01)
    report = examine(
        model,
        F.cross_entropy,
        (TOKENS, (TOKENS[:, 0] > 9).long()),
        batch_size=10,
        epochs=2,
        optimizer=stepper,
        trials=False,
    )
    assert [f.code for f in report.findings if f.severity == "error"] == []


MINE = network()
REFUSED = {
    "needs a closure": {"optimizer": lambda p: torch.optim.LBFGS(p)},
    "does not use the parameters": {
        "optimizer": lambda p: torch.optim.SGD(MINE.parameters(), lr=0.1),
        "model": MINE,
    },
    "very model that was given": {
        "model": MINE,
        "loss": lambda o, t: F.cross_entropy(o, t) + MINE[0].weight.norm(),
    },
    "does not support sparse gradients": {"model": Words(sparse=True), "train": (TOKENS, Y)},
    "no parameters|empty parameter list": {"model": nn.BatchNorm1d(4, affine=False)},
    "cannot be built anew": {"optimizer": lambda p: torch.optim.SGD(p, lr=-1.0)},
    "no validation examples: the inputs": {"validation": (X[:0], Y[:0])},
    "no validation examples: the loader": {
        "validation": DataLoader(Pairs(), batch_size=100, drop_last=True)
    },
    "5 inputs and 4 targets": {"validation": (X[:5], Y[:4])},
    "validation examples: RuntimeError": {"validation": (X[:5, :3], Y[:5])},
    "validation examples: IndexError": {"validation": (X[:5], Y[:5] + 7)},
    "how many batches": {"train": DataLoader(Endless(), batch_size=10)},
    "the loader gives no batch": {"train": DataLoader(Pairs(), batch_size=100, drop_last=True)},
    "gives no batch": {"train": DataLoader(TensorDataset(X, Y), batch_size=100, drop_last=True)},
    "a dict": {
        "train": DataLoader([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)], batch_size=10)
    },
    "ndarray and ndarray": {"train": (X.numpy(), Y.numpy())},
    "single numbers": {"train": (torch.tensor(1.0), torch.tensor(1.0))},
    "no training examples": {"train": (X[:0], Y[:0])},
    "the loss gives float": {"loss": lambda o, t: F.cross_entropy(o, t).item()},
    "KeyError": {"loss": lambda o, t: {}["loss"]},
    "epochs is 2.5": {"epochs": 2.5},
    "epochs is '3'": {"epochs": "3"},
    "seed is None": {"seed": None},
    "batch_size is None": {"batch_size": None},
    "training breaks off: ValueError": {
        "model": normalized(),
        "train": (X[:91], Y[:91]),
        "epochs": 1,
        "validation": (X, Y),
    },
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_run_is_refused_in_one_message(message):
    given = {
        "model": network(),
        "loss": F.cross_entropy,
        "train": (X, Y),
        "batch_size": 10,
        "epochs": 2,
        "optimizer": adam,
    } | REFUSED[message]
    if message.startswith("training breaks off"):
        given["train"] = (torch.cat([X, X[:1]]), torch.cat([Y, Y[:1]]))
    model, loss, train = (given.pop(name) for name in ("model", "loss", "train"))
    with pytest.raises(InputError, match=message) as raised:
        examine(model, loss, train, **given)
    assert raised.value.why and raised.value.do and len(str(raised.value)) < 500
    assert all(p.grad is None for p in model.parameters())

"""What `examine` is given: examples that are held out, copies, refusals in one message."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from ravine.errors import InputError
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_data import LoaderData, TensorData

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] > 0).long()
TOKENS = torch.randint(0, 20, (90, 6), generator=RNG)


def network(outputs=2, inputs=4):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.01)


def program(model=None, loss=F.cross_entropy, train=(X, Y), **more):
    given = {"optimizer": adam, "batch_size": 10, "epochs": 2} | more
    return read_program(network() if model is None else model, loss, train, **given)


def tensors(given) -> TensorData:
    assert isinstance(given.train, TensorData)
    return given.train


class Pairs(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], Y[i]


class Endless(IterableDataset):
    def __iter__(self):
        return zip(itertools.cycle(X), itertools.cycle(Y))  # noqa: B905


class SparseWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 2, sparse=True)

    def forward(self, x):
        return self.words(x).mean(1)


class Paired(nn.Module):
    """Takes a tuple, two tensors, or keywords."""

    def __init__(self, how="tuple"):
        super().__init__()
        self.table, self.head, self.how = nn.Embedding(20, 4), nn.Linear(8, 2), how

    def forward(self, *parts, **named):
        parts = parts[0] if self.how == "tuple" else parts if parts else named.values()
        words = (self.table(p).mean(1) if p.dtype == torch.long else p for p in parts)
        return self.head(torch.cat([*words], 1))


# Held-out examples


def test_a_fifth_is_held_out_where_no_validation_examples_are_given():
    given = program()
    train, held = tensors(given).inputs[:, 0].tolist(), given.validation[0][:, 0].tolist()
    assert given.held_out and len(held) == 18 and sorted(train + held) == sorted(X[:, 0].tolist())
    order = {v: i for i, v in enumerate(X[:, 0].tolist())}
    places = [order[v] for v in train]
    assert places == sorted(places)  # the order of the file is kept
    pairs = dict(zip(X[:, 0].tolist(), Y.tolist(), strict=True))
    assert all(pairs[v] == int(y) for v, y in zip(held, given.validation[1], strict=True))
    again = program().validation[0][:, 0].tolist()
    assert program(seed=1).validation[0][:, 0].tolist() != held == again


def test_too_few_examples_are_not_split_and_given_ones_are_kept():
    assert program(train=(X[:59], Y[:59])).validation is None
    assert program(train=(X[:60], Y[:60])).held_out
    given = program(validation=(X[:7], Y[:7]))
    assert not given.held_out and torch.equal(given.validation[0], X[:7])
    assert len(tensors(given).inputs) == 90
    loaded = program(validation=DataLoader(Pairs(), batch_size=20, shuffle=True))
    assert len(loaded.validation[0]) == 90


@pytest.mark.parametrize(("count", "batch"), [(126, 20), (76, 10), (91, 10)])
def test_holding_out_makes_no_last_batch_of_one(count, batch):
    """Batch normalization refuses a batch of one example."""
    x = torch.randn(count, 4, generator=RNG)
    given = program(train=(x, (x[:, 0] > 0).long()), batch_size=batch)
    last = [len(inputs) for inputs, _ in given.train.epoch()][-1]
    assert last > 1 or count % batch == 1
    assert len(tensors(given).inputs) + len(given.validation[0]) == count


# What it is read as


def test_a_loader_has_its_own_batches_and_its_passes_are_the_budget():
    loader = DataLoader(TensorDataset(X, Y), batch_size=20, drop_last=True)
    given = program(train=loader, batch_size=None, validation=(X, Y))
    assert isinstance(given.train, TensorData) and given.steps == 2 * len(loader)
    foreign = program(train=DataLoader(Pairs(), batch_size=20), batch_size=None)
    assert isinstance(foreign.train, LoaderData) and foreign.validation is None


def test_numbers_of_any_integer_type_are_whole_numbers_and_seeds_of_any_size_seed():
    given = program(epochs=np.int64(2), batch_size=np.int32(10), seed=np.int64(2**40 + 5))
    assert (given.epochs, given.train.batch, given.seed) == (2, 10, 5)
    assert program(seed=-3).seed == 2**32 - 3


def test_lazy_layers_get_their_shapes_in_a_copy():
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    state = torch.get_rng_state()
    given = program(model)
    assert given.model[0].weight.shape == (8, 4) and model[0].has_uninitialized_params()
    assert torch.equal(torch.get_rng_state(), state)


def test_examples_come_without_their_history_and_a_loss_with_a_memory_as_a_copy():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, out, y):
            self.calls += 1
            return F.cross_entropy(out, y)

    loss = Counting()
    given = program(loss=loss, train=(X.clone().requires_grad_(), Y))
    assert not tensors(given).inputs.requires_grad and not given.validation[0].requires_grad
    assert int(loss.calls) == 0 and given.loss is not loss


def test_reading_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).eval()
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    gradient, before = model[2].weight.grad, {k: v.clone() for k, v in model.state_dict().items()}
    program(model, optimizer=optimizer)
    assert model[2].weight.grad is gradient and not model.training
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


# Inputs of several tensors


@pytest.mark.parametrize(
    ("how", "train"),
    [
        ("tuple", ((X, TOKENS), Y)),
        ("tuple", (X, TOKENS, Y)),
        ("several", (X, TOKENS, Y)),
        ("several", ((X, X), Y)),
        ("several", (X.numpy().astype("float64"), TOKENS.numpy(), Y.numpy())),
        ("several", {"one": X, "words": TOKENS, "labels": Y}),
        ("tuple", DataLoader(TensorDataset(X, TOKENS, Y), batch_size=10)),
        (
            "several",
            DataLoader(
                [{"a": x, "b": t, "label": y} for x, t, y in zip(X, TOKENS, Y, strict=True)],
                batch_size=10,
            ),
        ),
        ("tuple", DataLoader([((x, x), y) for x, y in zip(X, Y, strict=True)], batch_size=10)),
    ],
)
def test_inputs_of_several_tensors_reach_the_model_as_they_are(how, train):
    model = Paired(how)
    given = program(model, train=train)
    packed, targets = given.train.first(90)
    outputs = given.build()[0].eval()(packed)
    inputs = given.form.packing.unpack(packed)
    parts = [*inputs.values()] if isinstance(inputs, dict) else [*inputs]
    assert parts[0].dtype == torch.float32
    by_row = {tuple(row.tolist()): i for i, row in enumerate(X)}
    rows = [by_row[tuple(row.tolist())] for row in parts[0]]
    assert torch.equal(Y[rows], targets)
    second = TOKENS if parts[1].dtype == torch.long else X
    assert torch.equal(parts[1], second[rows])
    expected = model(parts) if how == "tuple" else model(*parts)
    assert torch.equal(outputs, expected)
    assert [n for n, _ in given.model.named_parameters()] == [
        n for n, _ in model.named_parameters()
    ]


def test_batches_of_other_lengths_are_told_apart_by_their_width():
    batches = [((X[:8], TOKENS[:8, :k]), Y[:8]) for k in (2, 4, 6)]
    given = program(Paired(), train=DataLoader(batches, batch_size=None), batch_size=None)
    assert [given.form.packing.unpack(x)[1].shape[1] for x, _ in given.train.epoch()] == [2, 4, 6]
    mixed = [((X[:8, :k], X[:8, k:]), Y[:8]) for k in (1, 2, 3)]  # together of one width
    model = Paired()
    model.head = nn.Linear(4, 2)
    given = program(model, train=DataLoader(mixed, batch_size=None), batch_size=None)
    for (rows, _), (inputs, _) in zip(given.train.epoch(), mixed, strict=True):
        assert all(map(torch.equal, given.form.packing.unpack(rows), inputs))


# Refusals

MINE = network()
OWN_WEIGHT = MINE[0].weight
REFUSED = {
    "needs a closure": {"optimizer": lambda p: torch.optim.LBFGS(p)},
    "does not use the parameters": {
        "optimizer": lambda p: torch.optim.SGD(MINE.parameters(), lr=0.1),
        "model": MINE,
    },
    "very model that was given": {
        "model": MINE,
        "loss": lambda o, t: F.cross_entropy(o, t) + OWN_WEIGHT.norm(),
    },
    "does not support sparse gradients": {"model": SparseWords(), "train": (TOKENS, Y)},
    "no parameters|empty parameter list": {"model": nn.BatchNorm1d(4, affine=False)},
    "cannot be built again": {"optimizer": lambda p: torch.optim.SGD(p, lr=-1.0)},
    "no validation examples: the inputs": {"validation": (X[:0], Y[:0])},
    "no validation examples: the loader": {
        "validation": DataLoader(Pairs(), batch_size=100, drop_last=True)
    },
    "5 inputs and 4 targets": {"validation": (X[:5], Y[:4])},
    "validation examples: RuntimeError": {"validation": (X[:5, :3], Y[:5])},
    "validation examples: IndexError": {"validation": (X[:5], Y[:5] + 7)},
    "the training batches have no end": {"train": DataLoader(Endless(), batch_size=10)},
    "the validation batches have no end": {"validation": DataLoader(Endless(), batch_size=10)},
    "the loader gives no batch": {"train": DataLoader(Pairs(), batch_size=100, drop_last=True)},
    "gives no batch": {"train": DataLoader(TensorDataset(X, Y), batch_size=100, drop_last=True)},
    "a dict of x, z": {"train": {"x": X, "z": Y}},
    "does not take the inputs": {"train": DataLoader([{"x": x, "y": 0} for x in X], batch_size=10)},
    "model\\(.inputs\\), targets.: TypeError": {"train": (X, X, X, Y)},
    "the examples are a NoneType": {"train": None},
    "the examples are a tuple of 1": {"train": (X,)},
    "part of the examples is a str": {"train": (X, "Y")},
    "part of the examples is a float": {"train": ([1.0, 2.0], Y)},
    "inputs of .89, 90. examples": {"train": ((X, X[:89]), Y), "model": Paired()},
    "90 inputs and 60 targets": {"train": (X, Y[:60])},
    "90 inputs and 61 targets": {"train": ((X, X), Y[:61]), "model": Paired()},
    "a Tensor without a loss": {"loss": None},
    "the optimizer is a NoneType": {"optimizer": None},
    "neither epochs nor steps": {"epochs": None},
    "single numbers": {"train": (torch.tensor(1.0), torch.tensor(1.0))},
    "no training examples": {"train": (X[:0], Y[:0])},
    "the loss gives float": {"loss": lambda o, t: F.cross_entropy(o, t).item()},
    "KeyError": {"loss": lambda o, t: {}["loss"]},
    "epochs is 2.5": {"epochs": 2.5},
    "epochs is '3'": {"epochs": "3"},
    "seed is None": {"seed": None},
    "batch_size is None": {"batch_size": None},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_run_is_refused_in_one_message(message):
    given = {"model": network(), "loss": F.cross_entropy, "train": (X, Y)} | REFUSED[message]
    with pytest.raises(InputError, match=message) as raised:
        program(**given)
    assert raised.value.why and raised.value.do and len(str(raised.value)) < 500
    assert all(p.grad is None for p in given["model"].parameters())

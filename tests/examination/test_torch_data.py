"""Training examples in memory and from loaders, against loaders as they iterate."""

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from ravine.examination.torch_data import LoaderData, TensorData, read_loader, sampling_weights
from ravine.rng import isolated_rng

RNG = torch.Generator().manual_seed(0)
X = torch.randn(90, 4, generator=RNG)
Y = (X[:, 0] > 0).long()
TOKENS = torch.randint(0, 20, (90, 6), generator=RNG)


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


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_plain_loader_is_taken_apart_and_gives_batches_of_the_same_sizes(drop, shuffle):
    loader = DataLoader(TensorDataset(X, Y), batch_size=20, shuffle=shuffle, drop_last=drop)
    data = read_loader(loader)
    assert isinstance(data, TensorData) and data.is_shuffled == shuffle
    batches = list(data.epoch())
    assert [len(x) for x, _ in batches] == [len(x) for x, _ in loader]
    assert len(batches) == len(data) == len(loader)
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
    data = read_loader(loader)
    assert isinstance(data, LoaderData)
    assert (data.batch, len(data), data.is_shuffled) == (batch, len(loader), shuffled)
    assert torch.equal(torch.get_rng_state(), state)
    with isolated_rng(3):
        mine = list(data.epoch())
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

    loader = DataLoader(Pairs(), batch_sampler=Mixed(SequentialSampler(X), 15, False))
    assert LoaderData(loader).is_shuffled


def test_a_loader_s_own_generator_gives_the_same_order_by_the_same_seed_and_is_set_back():
    generator = torch.Generator().manual_seed(5)
    data = LoaderData(DataLoader(Pairs(), batch_size=30, shuffle=True, generator=generator))
    state, orders = generator.get_state(), []
    for seed in (1, 1, 2):
        with isolated_rng(seed):
            orders.append(torch.cat([x for x, _ in data.epoch()]))
        with isolated_rng(seed):
            next(iter(data.epoch()))  # broken off
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    assert torch.equal(generator.get_state(), state)


def test_of_batches_of_different_shapes_those_like_the_first_are_looked_at():
    inputs, targets = LoaderData(DataLoader(Ragged(), batch_size=3, collate_fn=padded)).first(100)
    assert inputs.shape[1] == 5 and 3 <= len(inputs) == len(targets) < 60


def test_the_first_examples_in_memory_are_evenly_spread():
    evenly, _ = TensorData(X, Y, 10).first(10)
    assert torch.equal(evenly[0], X[0]) and torch.equal(evenly[-1], X[-1]) and len(evenly) == 10


def test_weights_even_out_classes_and_labels():
    y = torch.randint(0, 4, (300,), generator=RNG).clamp(max=2)
    shares = torch.stack([sampling_weights(y)[y == k].sum() for k in range(3)])
    assert torch.allclose(shares, torch.ones(3), atol=1e-4)
    assert torch.equal(sampling_weights(y.bool()), sampling_weights(y.bool().long()))
    labels = (torch.rand(500, 2, generator=RNG) < torch.tensor([0.02, 0.5])).float()
    weights = sampling_weights(labels)
    assert float(weights[labels[:, 0] > 0].min()) > 10 * float(weights[labels[:, 0] == 0].max())

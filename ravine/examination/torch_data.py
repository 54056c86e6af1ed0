"""The training examples of a torch program: tensors in batches, or a DataLoader as it is.

Letters: N examples.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ravine.errors import InputError
from ravine.examination.packed_inputs import Packing, split_batch
from ravine.rng import isolated_rng
from ravine.statistics import even_places

HELD_OUT_FRACTION = 0.2  # of the training examples, where no validation examples are given
MIN_EXAMPLES_TO_SPLIT = 60

Pair: TypeAlias = tuple[Tensor, Tensor]  # inputs and targets


@dataclass(frozen=True)
class TensorData:
    """Training examples in memory; `balanced` draws every class (or label) equally often."""

    inputs: Tensor
    targets: Tensor
    batch: int
    is_shuffled: bool = True
    drop_last: bool = False
    balanced: bool = False

    def __len__(self) -> int:
        whole = len(self.inputs) // self.batch
        return max(1, whole if self.drop_last else math.ceil(len(self.inputs) / self.batch))

    def epoch(self) -> Iterator[Pair]:
        """The batches of one pass, in an order drawn from torch's generator."""
        count = len(self.inputs)
        order = torch.randperm(count) if self.is_shuffled else torch.arange(count)
        if self.balanced:
            order = torch.multinomial(sampling_weights(self.targets), count, replacement=True)
        for rows in order.split(self.batch)[: len(self)]:
            yield self.inputs[rows], self.targets[rows]

    def first(self, count: int) -> Pair:
        """Some of the examples, evenly spread."""
        rows = even_places(len(self.inputs), count)
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True)
class LoaderData:
    """Training examples from a DataLoader that cannot be taken apart: it is iterated as it is."""

    loader: DataLoader[Any]
    packing: Packing | None = None  # of inputs that are no single tensor

    @property
    def batch(self) -> int:
        if self.loader.batch_size is not None:
            return self.loader.batch_size
        with isolated_rng(0):
            return len(next(iter(self.epoch()))[0])

    @property
    def is_shuffled(self) -> bool:
        """Whether the order may differ from pass to pass; True for samplers not of torch's."""
        batches = self.loader.batch_sampler
        sampler = self.loader.sampler if batches is None else getattr(batches, "sampler", None)
        is_plain = type(batches) in (BatchSampler, type(None))
        return not (is_plain and isinstance(sampler, SequentialSampler))

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self) -> Iterator[Pair]:
        """The batches of one pass; the loader's generators are seeded, then set back."""
        for batch in iterate_batches(self.loader):
            yield as_pair(batch, self.packing)

    def first(self, count: int) -> Pair:
        """The examples of the first batches, of those that are shaped like the first."""
        kept: list[Pair] = []
        for batch in self.epoch():
            shapes = [x.shape[1:] for x in batch]
            if not kept or shapes == [x.shape[1:] for x in kept[0]]:
                kept.append(batch)
            if sum(len(x) for x, _ in kept) >= count:
                break
        inputs, targets = (torch.cat(parts)[:count] for parts in zip(*kept, strict=True))
        return inputs, targets


def iterate_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader; its generators are seeded from torch's, then set back."""
    batches = loader.batch_sampler
    owners = (loader, loader.sampler, batches, getattr(batches, "sampler", None))
    found = (getattr(owner, "generator", None) for owner in owners)
    generators = {id(g): g for g in found if isinstance(g, torch.Generator)}
    states = [(g, g.get_state()) for g in generators.values()]
    for generator, _ in states:
        generator.manual_seed(int(torch.randint(2**62, ())))
    try:
        yield from loader
    finally:
        for generator, state in states:
            generator.set_state(state)


def hold_out(data: TensorData, seed: int) -> tuple[TensorData, Pair | None]:
    """The training examples without some that are drawn at random, and those; of few none."""
    count = len(data.inputs)
    if count < MIN_EXAMPLES_TO_SPLIT:
        return data, None
    with isolated_rng(seed):
        order = torch.randperm(count)
    out = round(HELD_OUT_FRACTION * count)
    if (count - out) % data.batch == 1 and count % data.batch != 1:
        out += 1  # or the last batch would have one example, which normalization refuses
    held_out = order[:out]
    kept = order[out:].sort().values
    train = replace(data, inputs=data.inputs[kept], targets=data.targets[kept])
    return train, (data.inputs[held_out], data.targets[held_out])


def read_loader(loader: DataLoader[Any], packing: Packing | None = None) -> TensorData | LoaderData:
    """The examples of a loader: as tensors where it does nothing but batch and shuffle them."""
    plain = (
        type(loader.dataset) is TensorDataset
        and len(loader.dataset.tensors) >= 2
        and type(loader.batch_sampler) is BatchSampler
        and type(loader.sampler) in (RandomSampler, SequentialSampler)
        and loader.collate_fn is default_collate
        and not getattr(loader.sampler, "replacement", False)
        and getattr(loader.sampler, "num_samples", len(loader.dataset)) == len(loader.dataset)
    )
    if not plain or loader.batch_size is None:
        return LoaderData(loader, packing)
    inputs, targets = as_pair(loader.dataset.tensors, packing)  # type: ignore[union-attr]
    return TensorData(
        inputs,
        targets,
        loader.batch_size,
        is_shuffled=type(loader.sampler) is RandomSampler,
        drop_last=loader.drop_last,
    )


def require_batches(loader: DataLoader[Any], split: str) -> None:
    """Raise `InputError` for a loader that gives no batch, or has no length."""
    try:
        count = len(loader)
    except TypeError as error:
        why, do = "the budget is a number of epochs", "give a dataset with a length, or tensors"
        raise InputError(f"the {split} loader has no length", why=why, do=do) from error
    if count == 0:
        why, do = "the loader gives no batch", "give more examples, or smaller batches"
        raise InputError(f"no {split} examples", why=why, do=do)


def as_pair(batch: Any, packing: Packing | None = None) -> Pair:
    """Inputs and targets of a batch as two tensors, detached: inputs of several tensors, or in a
    dict, are packed. Raises `InputError` if they are none.
    """
    inputs, targets = split_batch(batch)
    if packing is not None:
        inputs = packing.pack(inputs)
    return inputs, targets


def require_rows(examples: Pair, split: str) -> Pair:
    """Examples row by row, at least one. Raises `InputError` for others."""
    inputs, targets = examples
    if inputs.dim() == 0 or targets.dim() == 0:
        what = f"the {split} examples are single numbers"
        why = "the first dimension must be the number of examples"
        raise InputError(what, why=why, do="give tensors with a row for each example")
    if len(inputs) != len(targets):
        what, why = f"{len(inputs)} inputs and {len(targets)} targets", "they are paired row by row"
        raise InputError(what, why=why, do="give as many inputs as targets")
    if len(inputs) == 0:
        why, do = "the inputs are empty", "give at least one example"
        raise InputError(f"no {split} examples", why=why, do=do)
    return inputs, targets


def sampling_weights(targets: Tensor) -> Tensor:
    """How often to draw each example so that all classes come equally often, [N]; of several
    labels, the rarest decides.

    >>> sampling_weights(torch.tensor([0, 0, 1])).tolist()
    [0.5, 0.5, 1.0]
    """
    flat = targets.reshape(len(targets), -1)
    if flat.shape[1] == 1:
        _, codes, counts = torch.unique(flat[:, 0], return_inverse=True, return_counts=True)
        return 1 / counts[codes].float()
    share = (flat > 0.5).float().mean(0).clamp(1 / len(flat), 1 - 1 / len(flat))
    return torch.where(flat > 0.5, 1 / share, 1 / (1 - share)).amax(1)

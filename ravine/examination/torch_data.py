"""The training examples of a torch program: tensors in batches, or a DataLoader as it is.

Letters: N examples.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

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
from ravine.examination.batch_sources import HELD_OUT_FRACTION, BatchSource
from ravine.examination.packed_inputs import split_batch
from ravine.examination.program_forms import BatchStore, Pair
from ravine.rng import isolated_rng
from ravine.statistics import even_places

MIN_EXAMPLES_TO_SPLIT = 60
MAX_KEPT_BATCHES, EXAMPLES_A_BATCH = 16, 64  # where batches stand for examples


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
    """Training examples from a loader that cannot be taken apart: it is iterated as it is. `pair`
    makes inputs and targets of a batch; of a program whose rows are batches, `store` has these.
    """

    loader: DataLoader[Any] | BatchSource
    pair: Callable[[Any], Pair] = split_batch
    store: BatchStore | None = None
    kept: list[int] = field(default_factory=list)  # batches of the store

    @property
    def batch(self) -> int:
        if self.loader.batch_size is not None or self.store is not None:
            return self.loader.batch_size or 1
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
            yield self.pair(batch)

    def first(self, count: int) -> Pair:
        """The examples of the first batches, of those that are shaped like the first."""
        if self.store is not None:
            return self._first_batches(self.store, count)
        kept: list[Pair] = []
        for batch in self.epoch():
            shapes = [x.shape[1:] for x in batch]
            if not kept or shapes == [x.shape[1:] for x in kept[0]]:
                kept.append(batch)
            if sum(len(x) for x, _ in kept) >= count:
                break
        inputs, targets = (torch.cat(parts)[:count] for parts in zip(*kept, strict=True))
        return inputs, targets

    def _first_batches(self, store: BatchStore, count: int) -> Pair:
        """Rows that stand for the first batches, one for every 64 examples and at most 16."""
        if not self.kept:
            for rows, _ in itertools.islice(self.epoch(), MAX_KEPT_BATCHES):
                self.kept.append(int(rows))
                store.passing.remove(int(rows))
        rows = torch.tensor(self.kept[: max(1, count // EXAMPLES_A_BATCH)])[:, None]
        return rows, torch.zeros(len(rows), 0)


def iterate_batches(loader: DataLoader[Any] | BatchSource) -> Iterator[Any]:
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
    places = draw_held_out(len(data.inputs), data.batch, seed)
    if places is None:
        return data, None
    kept, held_out = places
    train = replace(data, inputs=data.inputs[kept], targets=data.targets[kept])
    return train, (data.inputs[held_out], data.targets[held_out])


def draw_held_out(count: int | None, batch: int, seed: int) -> tuple[Tensor, Tensor] | None:
    """The places of examples that stay, in order, and of those that are held out; None for few."""
    if count is None or count < MIN_EXAMPLES_TO_SPLIT:
        return None
    with isolated_rng(seed):
        order = torch.randperm(count)
    out = round(HELD_OUT_FRACTION * count)
    if (count - out) % batch == 1 and count % batch != 1:
        out += 1  # or the last batch would have one example, which normalization refuses
    return order[out:].sort().values, order[:out]


def read_loader(
    loader: DataLoader[Any] | BatchSource,
    pair: Callable[[Any], Pair] = split_batch,
    store: BatchStore | None = None,
) -> TensorData | LoaderData:
    """The examples of a loader: as tensors where it does nothing but batch and shuffle them."""
    plain = (
        isinstance(loader, DataLoader)
        and store is None
        and type(loader.dataset) is TensorDataset
        and type(loader.batch_sampler) is BatchSampler
        and type(loader.sampler) in (RandomSampler, SequentialSampler)
        and loader.collate_fn is default_collate
        and not getattr(loader.sampler, "replacement", False)
        and getattr(loader.sampler, "num_samples", len(loader.dataset)) == len(loader.dataset)
    )
    if not plain or loader.batch_size is None:
        return LoaderData(loader, pair, store)
    inputs, targets = pair([*loader.dataset.tensors])  # type: ignore[union-attr]
    return TensorData(
        inputs,
        targets,
        loader.batch_size,
        is_shuffled=type(loader.sampler) is RandomSampler,
        drop_last=loader.drop_last,
    )


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

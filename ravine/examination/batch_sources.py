"""Batches from a DataLoader, a dataset, a list, a generator, or a function to an iterator."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ravine.errors import InputError
from ravine.examination.nested import iterate_leaves, map_leaves, split_nested, take_rows
from ravine.examination.packed_inputs import as_tensor

MAX_COUNTED_BATCHES = 10_000  # of an epoch whose length nothing says
MAX_HELD_BYTES = 2**30  # of a generator's batches, which are kept in memory
HELD_OUT_FRACTION = 0.2  # of what is in memory, where no validation is given
MIN_BATCHES_TO_SPLIT = 10


@dataclass(frozen=True)
class BatchSource:
    """Batches that are no DataLoader's: `iterate` starts an epoch, which has `count` of them."""

    iterate: Callable[[], Iterable[Any]]
    count: int
    held: tuple[Any, ...] = ()  # all of them, where they are in memory
    batch_size: ClassVar[None] = None  # as a DataLoader has it
    batch_sampler: ClassVar[None] = None
    sampler: ClassVar[None] = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self.iterate()), self.count)


def read_source(
    source: Any,
    *,
    split: str,
    batch_size: int | None,
    steps: int | None,
    lists_batches: bool = False,
) -> Any:
    """A DataLoader or a `BatchSource`; examples in memory as they are. Raises `InputError` for what
    gives no batch, and for what has no end where `steps` does not say how many are wanted. Tensors
    of one shape and type in a list are batches where it `lists_batches`. A generator is read once,
    into memory: as many batches as there are steps, or all. Lists of batches and these come in a
    new order in every epoch, drawn from torch's generator; a function or an iterable has its own.
    """
    if isinstance(source, Dataset) and not isinstance(source, IterableDataset):
        source = DataLoader(source, batch_size, shuffle=True)
    if isinstance(source, Iterator):
        source = _read_all(source, split, steps)
    containers = isinstance(source, list) and all(split_nested(b) is not None for b in source)
    if containers or (lists_batches and _are_alike(source)):
        return hold_batches(_require_some(source, split))
    is_batches = hasattr(source, "__iter__") or callable(source)
    if hasattr(source, "__array__") or split_nested(source) is not None or not is_batches:
        return map_leaves(source, as_tensor)  # examples
    iterate: Any = (lambda: source) if hasattr(source, "__iter__") else source
    try:
        count = len(source)  # type: ignore[arg-type]
    except TypeError:  # its end is not known
        return BatchSource(iterate, _count(iterate(), split, steps))
    _require_some(range(count), split)
    return source if isinstance(source, DataLoader) else BatchSource(iterate, count)


def _are_alike(source: Any) -> bool:
    """Whether it is a list of tensors whose rows have one shape and type."""
    if not isinstance(source, list) or not all(isinstance(x, Tensor) and x.dim() for x in source):
        return False
    return len({(x.shape[1:], x.dtype) for x in source}) == 1


def hold_batches(batches: Iterable[Any]) -> BatchSource:
    """Batches in memory, in a new order in every epoch."""
    held = tuple(batches)
    n = len(held)
    return BatchSource(lambda: (held[i] for i in torch.randperm(n).tolist()), n, held)


def hold_out_batches(source: Any) -> tuple[Any, BatchSource | None]:
    """Batches in memory without a fifth, drawn from torch's generator, and that; of others none."""
    held = source.held if isinstance(source, BatchSource) else ()
    if len(held) < MIN_BATCHES_TO_SPLIT:
        return source, None
    order = torch.randperm(len(held)).tolist()
    out = round(HELD_OUT_FRACTION * len(held))
    return hold_batches(held[i] for i in order[out:]), hold_batches(held[i] for i in order[:out])


def cut_into_batches(examples: Any, size: int | None) -> DataLoader[Any] | BatchSource:
    """Shuffled batches of examples in memory; all as one batch where there is no size."""
    count = count_rows(examples)
    if size is None or count is None:
        return hold_batches([examples])
    take: Any = lambda places: take_rows(examples, torch.tensor(places))  # noqa: E731
    places: Any = range(count)
    return DataLoader(places, size, shuffle=True, collate_fn=take)


def count_rows(examples: Any) -> int | None:
    """The rows of examples in memory; None where the tensors do not have the same, or none."""
    tensors = [leaf for leaf in iterate_leaves(examples) if isinstance(leaf, Tensor)]
    rows = {len(each) if each.dim() else 0 for each in tensors}
    return rows.pop() or None if len(rows) == 1 else None


def _count(batches: Iterable[Any], split: str, steps: int | None) -> int:
    """The batches of an epoch, of which no more than the steps are counted."""
    most = MAX_COUNTED_BATCHES + 1 if steps is None else steps
    count = sum(1 for _ in itertools.islice(batches, most))
    if steps is None and count == most:
        raise _endless(split, f"after {MAX_COUNTED_BATCHES} batches it goes on")
    return len(_require_some(range(count), split))


def _read_all(batches: Iterator[Any], split: str, steps: int | None) -> list[Any]:
    held: list[Any] = []
    size = 0
    for batch in itertools.islice(batches, steps):
        held.append(batch)
        size += sum(x.nbytes for x in iterate_leaves(batch) if isinstance(x, Tensor))
        if size > MAX_HELD_BYTES or len(held) > MAX_COUNTED_BATCHES:
            if steps is not None:
                break  # these come again
            raise _endless(split, f"{len(held)} batches of {size >> 20} MB are too many to keep")
    return held


def _require_some(batches: Any, split: str) -> Any:
    if not len(batches):
        why, do = "the loader gives no batch", "give more examples, or smaller batches"
        raise InputError(f"no {split} examples", why=why, do=do)
    return batches


def _endless(split: str, why: str) -> InputError:
    do = "say with steps= how many are wanted, or give a function that returns a new iterator"
    return InputError(f"the {split} batches have no end that is known", why=why, do=do)

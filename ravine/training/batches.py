"""Where batches come from: each network's own order of the training examples, reshuffled every
epoch.

Orders are drawn from (seed, "order", epoch): the batch of any step can be made without having made
those before it. Letters: P networks, N examples, B examples in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ravine.data import Examples, RowGroups
from ravine.data.examples import joined
from ravine.protocols import Batch
from ravine.rng import stream


class Batches(Protocol):
    """Batches for a cohort, without replacement within an epoch."""

    count: int  # training examples
    batch: int  # examples in a full batch
    per_epoch: int  # steps in an epoch

    def at(self, step: int) -> Batch:
        """The batch of a step (0 is the first), for all networks that are in the cohort now."""
        ...

    def keep(self, seeds: Sequence[int]) -> None:
        """From now on serve these networks only."""
        ...


class InMemory:
    """Examples in memory: a permutation for each network and epoch, and one gather for each step.

    The last batch of an epoch has what is left over. With one batch an epoch (gradient descent)
    nothing is shuffled, and all networks share the examples.
    """

    def __init__(self, examples: Examples, seeds: Sequence[int], *, batch: int):
        self.examples, self.seeds = examples, list(seeds)
        self.count = examples.numbers.shape[0]
        self.batch = min(batch, self.count)
        self.per_epoch = -(-self.count // self.batch)
        self._epoch, self._orders = -1, torch.empty(0)

    def keep(self, seeds: Sequence[int]) -> None:
        self.seeds, self._epoch = list(seeds), -1

    def at(self, step: int) -> Batch:
        e = self.examples
        if self.per_epoch == 1:
            return Batch(*(None if t is None else t[None] for t in e.fields))  # type: ignore
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._epoch, self._orders = epoch, self._shuffled(epoch)
        index = self._orders[:, place * self.batch : (place + 1) * self.batch]
        flat = index.reshape(-1)
        shape = index.shape

        def pick(values: Tensor | None) -> Tensor | None:
            return (
                None
                if values is None
                else values.index_select(0, flat).view(*shape, *values.shape[1:])
            )

        return Batch(*(pick(t) for t in e.fields))  # type: ignore[arg-type]

    def _shuffled(self, epoch: int) -> Tensor:
        drawn = [
            torch.randperm(self.count, generator=stream(seed, "order", epoch))
            for seed in self.seeds
        ]
        return torch.stack(drawn).to(self.examples.numbers.device)


class Streamed:
    """Examples that do not fit in memory: chunks in an order shuffled for each epoch, the same for
    all networks.

    Shuffling on disk costs a pass over it, so the networks of a recipe share the order, that of its
    first seed.
    """

    def __init__(
        self, groups: RowGroups, *, seed: int, batch: int, device: str | torch.device = "cpu"
    ):
        self.groups, self.seed, self.device = groups, seed, device
        self.count, self.batch = groups.count, min(batch, groups.count)
        self.per_epoch = -(-self.count // self.batch)
        self._epoch, self._next, self._chunks, self._left = -1, 0, iter(()), None

    def keep(self, seeds: Sequence[int]) -> None:
        pass

    def at(self, step: int) -> Batch:
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch or place < self._next:
            self._epoch, self._next, self._left = epoch, 0, None
            self._chunks = self.groups.epoch(self.seed, epoch)
        while self._next < place:  # resuming within an epoch: read on to where it was
            self._take()
        return self._take()

    def _take(self) -> Batch:
        wanted = min(self.batch, self.count - self._next * self.batch)
        while self._left is None or self._left.numbers.shape[0] < wanted:
            chunk = next(self._chunks)
            self._left = chunk if self._left is None else joined([self._left, chunk])
        taken, self._left = _cut(self._left, wanted)
        self._next += 1
        fields = [None if t is None else t[None].to(self.device) for t in taken.fields]
        return Batch(*fields)  # type: ignore[arg-type]


def _cut(examples: Examples, count: int) -> tuple[Examples, Examples]:
    """The first `count` examples, and the rest."""
    places = torch.arange(examples.count, device=examples.numbers.device)
    return examples.take(places[:count]), examples.take(places[count:])

"""Where batches come from: each network's own order of examples, reshuffled every epoch.

Orders are drawn from (seed, "order", epoch): the batch of any step can be made without having made
those before it. Letters: P networks, N examples, B examples in a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ravine.data import Examples, RowGroups, Task
from ravine.data.examples import concatenate
from ravine.effects import Effect
from ravine.protocols import Batch
from ravine.ranks import BatchPart
from ravine.rng import stream
from ravine.training.cohort import Cohort, Job

CLASS_WEIGHTS_EFFECT = Effect("class weights", "mean |weight − 1| of the training examples")


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
            return Batch(*e.map(lambda t: t[None]).fields)
        index, _ = self.places(step, step + 1)
        picked = e.map(lambda t: t.index_select(0, index.reshape(-1)))
        return Batch(*picked.map(lambda t: t.view(*index.shape, *t.shape[1:])).fields)

    def places(self, step: int, until: int) -> tuple[Tensor, np.ndarray]:
        """Which examples each network takes in steps of one epoch, [P or 1, examples], and where
        the batch of each step ends among them.
        """
        epoch, first = divmod(step, self.per_epoch)
        if self.per_epoch == 1:
            return torch.arange(self.count)[None], np.array([self.count])
        if epoch != self._epoch:
            streams = [stream(seed, "order", epoch) for seed in self.seeds]
            orders = torch.stack([torch.randperm(self.count, generator=g) for g in streams])
            self._epoch = epoch
            self._orders = orders.to(self.examples.numbers.device)
        ends = np.minimum(np.arange(first + 1, first + until - step + 1) * self.batch, self.count)
        begin = first * self.batch
        return self._orders[:, begin : ends[-1]], ends - begin

    def end_of_epoch(self, step: int) -> int:
        """The first step of the epoch after that of a step."""
        return (step // self.per_epoch + 1) * self.per_epoch


class Streamed:
    """Examples that do not fit in memory: chunks, reshuffled in each epoch, in an order that all
    networks share: shuffling on disk costs a pass over it, so it is that of the first seed.
    """

    def __init__(self, groups: RowGroups, job: Job):
        self.groups = groups
        self.seed = job.recipes[0].seed
        self.device, self.dtype = job.device, getattr(torch, job.recipes[0].precision)
        self.ranks = job.ranks
        self.place = {"rank": 0, "ranks": 1}  # this process's, and of how many
        if job.ranks is not None:
            self.place = {"rank": job.ranks.rank, "ranks": job.ranks.count}
        self.count = groups.count
        self.batch = min(job.batch, groups.count)
        self.per_epoch = -(-self.count // self.batch)
        self._epoch = -1
        self._next = 0  # the batch of the epoch that is read next
        self._chunks = iter(())
        self._rest = self._head = None

    def keep(self, seeds: Sequence[int]) -> None:
        pass

    def at(self, step: int) -> Batch:
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch or place < self._next:
            self._epoch, self._next, self._rest = epoch, 0, None
            self._chunks = self.groups.epoch(self.seed, epoch, **self.place)
        while self._next < place:  # resuming within an epoch: read on to where it was
            self._read_batch()
        return self._read_batch()

    def _read_batch(self) -> Batch:
        counts, rank = self._counts(self._next), self.place["rank"]
        while self._rest is None or self._rest.numbers.shape[0] < counts[rank]:
            chunk = next(self._chunks)
            self._rest = chunk if self._rest is None else concatenate([self._rest, chunk])
        places = torch.arange(self._rest.count, device=self._rest.numbers.device)
        if counts[rank] or self._head is None:  # a rank that has none repeats what it had
            self._head = self._rest.take(places[: counts[rank]])
        self._rest = self._rest.take(places[counts[rank] :])
        self._next += 1
        head = self._head.to(self.device, self.dtype)
        batch = Batch(*head.map(lambda t: t[None]).fields)
        if self.ranks is None:
            return batch
        first = min(sum(counts[:rank]), sum(counts) - 1)
        return replace(batch, part=BatchPart(self.ranks, first, tuple(counts)))

    def _counts(self, place: int) -> list[int]:
        """How many examples of a batch of the epoch each rank reads, by the size of its shard."""
        ends = [0, *accumulate(self.groups.shards(self.place["ranks"]))]
        done, after = (min(n * self.batch, self.count) for n in (place, place + 1))
        passed = [after * end // self.count - done * end // self.count for end in ends]
        return [b - a for a, b in zip(passed, passed[1:], strict=False)]


def training_batches(task: Task, cohort: Cohort) -> Batches:
    """The batches of a cohort, its examples weighted as the recipe says."""
    train = _load_train(task, cohort.job)
    if isinstance(train, Examples):
        train = normalize_weights(train)
        if cohort.job.recipes[0].class_weights == "balanced":
            train, change = balance_classes(train)
            cohort.log.meter.add(CLASS_WEIGHTS_EFFECT.name, change)
    return _make_batches(train, cohort.job, cohort.seeds)


def first_epoch(task: Task, job: Job) -> Iterator[Batch]:
    """The training examples of a task once, in whole batches of a job's first epoch."""
    job = replace(job, ranks=None)
    batches = _make_batches(_load_train(task, job), job, job.seeds)
    for step in range(batches.per_epoch):
        yield batches.at(step)


def _load_train(task: Task, job: Job) -> Examples | RowGroups:
    """The training examples: those in memory on the job's device, in the recipe's precision."""
    if isinstance(task.train, RowGroups):
        return task.train
    return task.train.to(job.device, getattr(torch, job.recipes[0].precision))


def _make_batches(train: Examples | RowGroups, job: Job, seeds: Sequence[int]) -> Batches:
    if isinstance(train, RowGroups):
        return Streamed(train, job)
    return InMemory(train, seeds, batch=job.batch)


def normalize_weights(examples: Examples) -> Examples:
    """Examples with weights of mean 1: only ratios count, the learning rate means what it says."""
    if examples.weights is None:
        return examples
    return replace(examples, weights=examples.weights / examples.weights.mean())


def balance_classes(examples: Examples) -> tuple[Examples, float]:
    """Examples weighted so that classes have equal shares in the loss, and the mean |weight − 1|.

    weight = N / (classes · N of the class), times the weight that the example had.
    """
    assert examples.targets is not None
    classes = examples.targets.reshape(-1).long()
    counts = torch.bincount(classes).clamp_min(1)
    numbers = examples.numbers  # images are bytes
    dtype = numbers.dtype if numbers.is_floating_point() else torch.float32
    weights = (len(classes) / (counts.count_nonzero() * counts))[classes].to(dtype)
    change = float((weights - 1).abs().mean())
    if examples.weights is not None:
        weights = weights * examples.weights
    return replace(examples, weights=weights), change

"""Somebody's training code as one thing that can be run again and again: model, loss, examples, optimizer, budget.

Nothing of it is changed: every run trains a deep copy, under random numbers of its own.

Letters: N examples.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset, default_collate

from ravine.errors import InputError

Loss = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]
HELD_OUT = 0.2  # of the training examples, where no validation examples are given
LEAST = 60  # training examples of which some can be held out
SEEN = 4096  # examples of a loader that are kept to look at


@dataclass(frozen=True)
class Rows:
    """Training examples in memory, in batches; `balanced` draws every class (or label) equally often."""

    inputs: Tensor
    targets: Tensor
    batch: int
    shuffled: bool = True
    drop_last: bool = False
    balanced: bool = False

    def __len__(self) -> int:
        whole = len(self.inputs) // self.batch
        return max(1, whole if self.drop_last else math.ceil(len(self.inputs) / self.batch))

    def epoch(self) -> Iterator[Pair]:
        """The batches of one pass, in an order drawn from torch's generator."""
        n = len(self.inputs)
        order = torch.randperm(n) if self.shuffled else torch.arange(n)
        if self.balanced:
            order = torch.multinomial(evened(self.targets), n, replacement=True)
        for rows in order.split(self.batch)[: len(self)]:
            yield self.inputs[rows], self.targets[rows]

    def first(self, count: int) -> Pair:
        """Some of the examples, evenly spread."""
        n = len(self.inputs)
        rows = torch.linspace(0, n - 1, min(n, count)).round().long()
        return self.inputs[rows], self.targets[rows]


@dataclass(frozen=True)
class Loaded:
    """Training examples from a DataLoader that cannot be taken apart: it is iterated as it is."""

    loader: DataLoader[Any]

    @property
    def batch(self) -> int:
        return self.loader.batch_size or len(next(iter(self.epoch()))[0])

    @property
    def shuffled(self) -> bool:
        return not isinstance(self.loader.sampler, SequentialSampler)

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self) -> Iterator[Pair]:
        for given in self.loader:
            yield pair(given)

    def first(self, count: int) -> Pair:
        kept: list[Pair] = []
        for inputs, targets in self.epoch():
            kept.append((inputs, targets))
            if sum(len(x) for x, _ in kept) >= count:
                break
        return torch.cat([x for x, _ in kept])[:count], torch.cat([y for _, y in kept])[:count]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What `examine` was given, checked. `build` makes a fresh copy of the model with its optimizer."""

    model: nn.Module
    loss: Loss
    train: Rows | Loaded
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | Optimizer
    epochs: int
    validation: Pair | None = None
    held_out: bool = False  # the validation examples are a part of the training examples that was taken out
    seed: int = 0
    clip: float | None = None
    judged: Loss | None = None  # by which looks judge, where a change has given training another loss
    prepare: tuple[Callable[[nn.Module, Optimizer], None], ...] = ()  # changes of settings, made after building

    @property
    def steps(self) -> int:
        """Updates in the whole budget."""
        return self.epochs * len(self.train)

    def build(self) -> tuple[nn.Module, Optimizer]:
        """A copy of the model, and an optimizer of the copy's parameters."""
        if isinstance(self.optimizer, Optimizer):
            model, optimizer = copy.deepcopy((self.model, self.optimizer))
        else:
            model = copy.deepcopy(self.model)
            optimizer = self.optimizer(model.parameters())
        for change in self.prepare:
            change(model, optimizer)
        return model, optimizer

    def examples(self, count: int = SEEN) -> Pair:
        """Some training examples to look at."""
        with apart(self.seed):
            return self.train.first(count)


@contextmanager
def apart(seed: int) -> Iterator[None]:
    """Random numbers from a seed, and afterwards as if none had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def read_case(model: Any, loss: Any, train: Any, *, optimizer: Any, validation: Any = None, batch_size: int | None,
              epochs: int, seed: int = 0) -> Case:  # fmt: skip
    """The case behind the arguments of `examine`. Raises `InputError` for what cannot be run."""
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is a {type(model).__name__}", why="only a torch.nn.Module can be examined",
                         do="give the module whose parameters are trained")  # fmt: skip
    if not callable(loss):
        raise InputError(f"the loss is a {type(loss).__name__}", why="it is called as loss(outputs, targets)",
                         do="give a function, or a module such as torch.nn.CrossEntropyLoss()")  # fmt: skip
    rule: Any = loss
    stepper: Any = optimizer
    if not isinstance(optimizer, Optimizer) and not callable(optimizer):
        raise InputError(f"the optimizer is a {type(optimizer).__name__}", why="every trial needs an optimizer anew",
                         do="give a torch optimizer on the model's parameters, or a function such as "
                         "lambda parameters: torch.optim.Adam(parameters, lr=1e-3)")  # fmt: skip
    if not isinstance(epochs, int) or epochs < 1:
        raise InputError(f"epochs is {epochs!r}", why="training needs one pass at least", do="give a whole number")
    rows = _rows(train, batch_size)
    if validation is not None:
        validation = _held(validation)
    case = Case(model=model, loss=rule, train=rows, optimizer=stepper, epochs=epochs, validation=validation,
                seed=seed)  # fmt: skip
    if validation is None and isinstance(rows, Rows) and len(rows.inputs) >= LEAST:
        case = _holding_out(case, rows)
    _try_once(case)
    return case


def _rows(train: Any, batch_size: int | None) -> Rows | Loaded:
    if isinstance(train, DataLoader):
        return _loaded(train)
    inputs, targets = pair(train)
    if len(inputs) != len(targets):
        raise InputError(f"{len(inputs)} inputs and {len(targets)} targets", why="they are paired row by row",
                         do="give as many of one as of the other")  # fmt: skip
    if len(inputs) == 0:
        raise InputError("no training examples", why="the inputs are empty", do="give some")
    if batch_size is None or not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"batch_size is {batch_size!r}", why="tensors are cut into batches",
                         do="give the number of examples in a step")  # fmt: skip
    return Rows(inputs, targets, batch_size)


def _loaded(loader: DataLoader[Any]) -> Rows | Loaded:
    plain = (
        type(loader.dataset) is TensorDataset
        and len(loader.dataset.tensors) == 2
        and type(loader.batch_sampler) is BatchSampler
        and type(loader.sampler) in (RandomSampler, SequentialSampler)
        and loader.collate_fn is default_collate
        and not getattr(loader.sampler, "replacement", False)
        and getattr(loader.sampler, "num_samples", len(loader.dataset)) == len(loader.dataset)
    )
    if not plain or loader.batch_size is None:
        return Loaded(loader)
    inputs, targets = loader.dataset.tensors  # type: ignore[union-attr]
    return Rows(inputs, targets, loader.batch_size, shuffled=type(loader.sampler) is RandomSampler,
                drop_last=loader.drop_last)  # fmt: skip


def pair(given: Any) -> Pair:
    """Inputs and targets of a batch. Raises `InputError` for anything else than two tensors."""
    if isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(t, Tensor) for t in given):
        return given[0], given[1]
    shown = f"{type(given).__name__} of {len(given)}" if isinstance(given, list | tuple | dict) else type(given)
    raise InputError(f"the examples are {shown}", why="an example is a pair of tensors, input and target",
                     do="give (inputs, targets), or a DataLoader whose batches are such pairs")  # fmt: skip


def _held(validation: Any) -> Pair:
    if isinstance(validation, DataLoader):
        with apart(0):
            return Loaded(validation).first(SEEN)
    return pair(validation)


def _holding_out(case: Case, rows: Rows) -> Case:
    """The case with a part of its training examples held out, drawn at random."""
    n = len(rows.inputs)
    with apart(case.seed):
        order = torch.randperm(n)
    held, kept = order[: round(HELD_OUT * n)], order[round(HELD_OUT * n) :].sort().values
    return replace(case, train=replace(rows, inputs=rows.inputs[kept], targets=rows.targets[kept]), held_out=True,
                   validation=(rows.inputs[held], rows.targets[held]))  # fmt: skip


def _try_once(case: Case) -> None:
    """One forward and backward pass, so that what cannot run says so before anything else."""
    with apart(case.seed):
        try:
            model, optimizer = case.build()
        except Exception as error:
            raise InputError("model and optimizer cannot be built anew", why=f"{type(error).__name__}: {error}",
                             do="give an optimizer on the model's parameters, or a function from parameters to one"
                             ) from error  # fmt: skip
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"the optimizer function made a {type(optimizer).__name__}",
                             why="only a torch.optim.Optimizer can be stepped", do="return one")  # fmt: skip
        inputs, targets = next(iter(case.train.epoch()))
        try:
            outputs = model(inputs)
            loss = case.loss(outputs, targets)
        except Exception as error:
            raise InputError("model and loss do not run on a batch", why=f"{type(error).__name__}: {error}"[:300],
                             do="call loss(model(inputs), targets) on one batch yourself") from error  # fmt: skip
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"the loss gives {shape}", why="a step goes down the gradient of one number",
                             do="return the mean of the losses")  # fmt: skip


def evened(targets: Tensor) -> Tensor:
    """How often to draw each example so that all classes come equally often, [N]; of labels, the rarest decides.

    >>> evened(torch.tensor([0, 0, 1])).tolist()
    [0.5, 0.5, 1.0]
    """
    flat = targets.reshape(len(targets), -1)
    if flat.shape[1] == 1:
        _, codes, counts = torch.unique(flat[:, 0], return_inverse=True, return_counts=True)
        return 1 / counts[codes].float()
    share = (flat > 0.5).float().mean(0).clamp(1 / len(flat), 1 - 1 / len(flat))
    return torch.where(flat > 0.5, 1 / share, 1 / (1 - share)).amax(1)

"""Somebody's training code as one thing that can be run again and again: model, loss, examples,
optimizer, budget.

Nothing of it is changed: every run trains a deep copy, under random numbers of its own.

Letters: N examples.
"""

from __future__ import annotations

import copy
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ravine.errors import InputError
from ravine.rng import isolated_rng

Loss = Callable[[Tensor, Tensor], Tensor]
Pair = tuple[Tensor, Tensor]
HELD_OUT = 0.2  # of the training examples, where no validation examples are given
LEAST = 60  # training examples of which some can be held out
SEEN = 4096  # examples of a loader that are kept to look at
LOOKED = 1024  # examples at a look


@dataclass(frozen=True)
class Rows:
    """Training examples in memory, in batches; `balanced` draws every class (or label) equally
    often.
    """

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
        if self.loader.batch_size is not None:
            return self.loader.batch_size
        with isolated_rng(0):
            return len(next(iter(self.epoch()))[0])

    @property
    def shuffled(self) -> bool:
        """Whether the order may differ from pass to pass; of what draws whole batches in its own
        way, nobody knows.
        """
        batches = self.loader.batch_sampler
        one_by_one = self.loader.sampler if batches is None else getattr(batches, "sampler", None)
        return not (
            isinstance(one_by_one, SequentialSampler)
            and type(batches) in (BatchSampler, type(None))
        )

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self) -> Iterator[Pair]:
        """The batches of one pass. Generators of the loader's own are seeded from torch's, and set
        back afterwards.
        """
        holders = (
            self.loader,
            self.loader.sampler,
            self.loader.batch_sampler,
            getattr(self.loader.batch_sampler, "sampler", None),
        )
        own = {
            id(g): g
            for h in holders
            if isinstance(g := getattr(h, "generator", None), torch.Generator)
        }
        states = [(g, g.get_state()) for g in own.values()]
        for generator, _ in states:
            generator.manual_seed(int(torch.randint(2**62, ())))
        try:
            for given in self.loader:
                yield pair(given)
        finally:
            for generator, state in states:
                generator.set_state(state)

    def first(self, count: int) -> Pair:
        """The examples of the first batches; of batches of different shapes, those that are like
        the first.
        """
        kept: list[Pair] = []
        for batch in self.epoch():
            if not kept or all(
                a.shape[1:] == b.shape[1:] for a, b in zip(batch, kept[0], strict=True)
            ):
                kept.append(batch)
            if sum(len(x) for x, _ in kept) >= count:
                break
        return torch.cat([x for x, _ in kept])[:count], torch.cat([y for _, y in kept])[:count]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What `examine` was given, checked. `build` makes a fresh copy of the model with its
    optimizer.
    """

    model: nn.Module
    loss: Loss
    train: Rows | Loaded
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | Optimizer
    epochs: int
    validation: Pair | None = None
    held_out: bool = (
        False  # the validation examples are a part of the training examples that was taken out
    )
    seed: int = 0
    clip: float | None = None
    judged: Loss | None = (
        None  # by which looks judge, where a change has given training another loss
    )
    prepare: tuple[
        Callable[[nn.Module, Optimizer], None], ...
    ] = ()  # changes of settings, made after building

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
        with isolated_rng(self.seed):
            return self.train.first(count)


def read_case(
    model: Any,
    loss: Any,
    train: Any,
    *,
    optimizer: Any,
    validation: Any = None,
    batch_size: int | None,
    epochs: int,
    seed: int = 0,
) -> Case:
    """The case behind the arguments of `examine`. Raises `InputError` for what cannot be run."""
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the model is a {type(model).__name__}",
            why="only a torch.nn.Module can be examined",
            do="give the module whose parameters are trained",
        )
    if not callable(loss):
        raise InputError(
            f"the loss is a {type(loss).__name__}",
            why="it is called as loss(outputs, targets)",
            do="give a function, or a module such as torch.nn.CrossEntropyLoss()",
        )
    rule: Any = loss
    stepper: Any = optimizer
    if not isinstance(optimizer, Optimizer) and not callable(optimizer):
        raise InputError(
            f"the optimizer is a {type(optimizer).__name__}",
            why="every trial needs an optimizer anew",
            do="give a torch optimizer on the model's parameters, or a function such as "
            "lambda parameters: torch.optim.Adam(parameters, lr=1e-3)",
        )
    epochs = _whole(
        "epochs", epochs, why="training needs one pass at least", do="give a whole number"
    )
    seed = (
        _whole(
            "seed",
            seed,
            least=None,
            why="random numbers are drawn from it",
            do="give a whole number",
        )
        % 2**32
    )
    rows = _rows(train, batch_size)
    if validation is not None:
        validation = _held(validation)
    if isinstance(loss, nn.Module):  # its buffers and gradients stay as they are
        rule = copy.deepcopy(loss)
    if any(is_lazy(p) for p in model.parameters()):
        model, stepper = _materialized(model, stepper, rows, seed)
    case = Case(
        model=model,
        loss=rule,
        train=rows,
        optimizer=stepper,
        epochs=epochs,
        validation=validation,
        seed=seed,
    )
    if validation is None and isinstance(rows, Rows) and len(rows.inputs) >= LEAST:
        case = _holding_out(case, rows)
    _try_once(case)
    return case


def _whole(name: str, value: Any, *, least: int | None = 1, why: str, do: str) -> int:
    """The value as a whole number, of whatever type it is."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        raise InputError(f"{name} is {value!r}", why=why, do=do)
    return number


def _materialized(
    model: nn.Module, optimizer: Any, rows: Rows | Loaded, seed: int
) -> tuple[nn.Module, Any]:
    """Copies of a model and its optimizer, if it is one, in which lazy layers have got their
    shapes.
    """
    if isinstance(optimizer, Optimizer):
        model, optimizer = copy.deepcopy((model, optimizer))
    else:
        model = copy.deepcopy(model)
    with isolated_rng(seed), torch.no_grad():
        try:
            model(next(iter(rows.epoch()))[0])
        except Exception as error:
            raise _not_running(error) from error
    return model, optimizer


def _rows(train: Any, batch_size: int | None) -> Rows | Loaded:
    if isinstance(train, DataLoader):
        return _loaded(train)
    inputs, targets = _paired(pair(train), "training")
    batch = _whole(
        "batch_size",
        batch_size,
        why="tensors are cut into batches",
        do="give the number of examples in a step",
    )
    return Rows(inputs, targets, batch)


def _paired(examples: Pair, what: str) -> Pair:
    """Examples row by row, at least one."""
    inputs, targets = examples
    if inputs.dim() == 0 or targets.dim() == 0:
        raise InputError(
            f"the {what} examples are single numbers",
            why="the first dimension counts the examples",
            do="give tensors with a row for each example",
        )
    if len(inputs) != len(targets):
        raise InputError(
            f"{len(inputs)} inputs and {len(targets)} targets",
            why="they are paired row by row",
            do="give as many of one as of the other",
        )
    if len(inputs) == 0:
        raise InputError(f"no {what} examples", why="the inputs are empty", do="give some")
    return inputs, targets


def _batches(loader: DataLoader[Any], what: str) -> None:
    """Raises for a loader that gives no batch, or does not say how many it gives."""
    try:
        count = len(loader)
    except TypeError as error:
        raise InputError(
            f"the {what} loader does not say how many batches it gives",
            why="the budget is epochs of it",
            do="give a dataset with a length, or tensors",
        ) from error
    if count == 0:
        raise InputError(
            f"no {what} examples",
            why="the loader gives no batch",
            do="give more examples, or smaller batches",
        )


def _loaded(loader: DataLoader[Any]) -> Rows | Loaded:
    _batches(loader, "training")
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
    inputs, targets = pair(loader.dataset.tensors)  # type: ignore[union-attr]
    return Rows(
        inputs,
        targets,
        loader.batch_size,
        shuffled=type(loader.sampler) is RandomSampler,
        drop_last=loader.drop_last,
    )


def pair(given: Any) -> Pair:
    """Inputs and targets of a batch, without their history. Raises `InputError` for anything else
    than two tensors.
    """
    if (
        isinstance(given, list | tuple)
        and len(given) == 2
        and all(isinstance(t, Tensor) for t in given)
    ):
        return given[0].detach(), given[1].detach()
    shown = f"a {type(given).__name__}"
    if isinstance(given, list | tuple):
        shown += " of " + " and ".join(type(part).__name__ for part in given[:4])
    raise InputError(
        f"the examples are {shown}",
        why="an example is a pair of tensors, input and target",
        do="give (inputs, targets), or a DataLoader whose batches are such pairs",
    )


def _held(validation: Any) -> Pair:
    if isinstance(validation, DataLoader):
        _batches(validation, "validation")
        with isolated_rng(0):
            return Loaded(validation).first(SEEN)
    return _paired(pair(validation), "validation")


def _holding_out(case: Case, rows: Rows) -> Case:
    """The case with a part of its training examples held out, drawn at random."""
    n = len(rows.inputs)
    with isolated_rng(case.seed):
        order = torch.randperm(n)
    out = round(HELD_OUT * n)
    if (
        n - out
    ) % rows.batch == 1 and n % rows.batch != 1:  # a last batch of one, which normalization refuses
        out += 1
    held, kept = order[:out], order[out:].sort().values
    return replace(
        case,
        train=replace(rows, inputs=rows.inputs[kept], targets=rows.targets[kept]),
        held_out=True,
        validation=(rows.inputs[held], rows.targets[held]),
    )


def _try_once(case: Case) -> None:
    """One forward and backward pass and one step, so that what cannot run says so before anything
    else.
    """
    with isolated_rng(case.seed):
        try:
            model, optimizer = case.build()
        except Exception as error:
            raise InputError(
                "model and optimizer cannot be built anew",
                why=f"{type(error).__name__}: {error}",
                do="give an optimizer on the model's parameters, or a function from parameters to "
                "one",
            ) from error
        _check_optimizer(case, optimizer)
        gradients = [p.grad for p in case.model.parameters()]
        try:
            for p in case.model.parameters():
                p.grad = None
            _one_step(case, model.train(), optimizer)
            if any(p.grad is not None for p in case.model.parameters()):
                raise InputError(
                    "loss or forward pass use the parameters of the very model that was given",
                    why="copies of it are trained, whose parameters that does not reach",
                    do="give a loss of outputs and targets alone, and decay to the optimizer",
                )
        finally:
            for p, gradient in zip(case.model.parameters(), gradients, strict=True):
                p.grad = gradient


def _check_optimizer(case: Case, optimizer: Any) -> None:
    if not isinstance(optimizer, Optimizer):
        raise InputError(
            f"the optimizer function made a {type(optimizer).__name__}",
            why="only a torch.optim.Optimizer can be stepped",
            do="return one",
        )
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    if any(id(p) in held for p in case.model.parameters()):
        raise InputError(
            "the optimizer function does not use the parameters that it is given",
            why="copies of the model are trained, and it holds those of the model itself",
            do="write it as lambda parameters: torch.optim.Adam(parameters, lr=1e-3)",
        )
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise InputError(
            f"the optimizer is {type(optimizer).__name__}",
            why="its step needs a closure that works the loss out again, and trials step without "
            "one",
            do="examine the program with another optimizer, such as torch.optim.Adam",
        )


def _one_step(case: Case, model: nn.Module, optimizer: Optimizer) -> None:
    try:
        inputs, targets = next(iter(case.train.epoch()))
        loss = measured(case.loss, model(inputs), targets)
    except InputError:
        raise
    except Exception as error:
        raise _not_running(error) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise InputError(
            f"the loss gives {shape}",
            why="a step goes down the gradient of one number",
            do="return the mean of the losses",
        )
    try:
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
    except Exception as error:
        raise InputError(
            "a step cannot be made",
            why=f"{type(error).__name__}: {error}"[:300],
            do="call loss.backward() and optimizer.step() on one batch yourself",
        ) from error
    if case.validation is not None:
        _judge_once(case, model.eval(), (case.validation[0][:LOOKED], case.validation[1][:LOOKED]))


def _judge_once(case: Case, model: nn.Module, examples: Pair) -> None:
    try:
        with torch.no_grad():
            measured(case.loss, model(examples[0]), examples[1])
    except Exception as error:
        raise InputError(
            "model and loss do not run on the validation examples",
            why=f"{type(error).__name__}: {error}"[:300],
            do="give examples of the same kind as for training",
        ) from error


def _not_running(error: Exception) -> InputError:
    return InputError(
        "model and loss do not run on a batch",
        why=f"{type(error).__name__}: {error}"[:300],
        do="call loss(model(inputs), targets) on one batch yourself",
    )


def measured(loss: Loss, outputs: Any, targets: Tensor) -> Tensor:
    """The loss; NaN where it refuses outputs that are not finite, as torch's binary cross entropy
    does.

    >>> measured(nn.BCELoss(), torch.tensor([math.nan]), torch.tensor([1.0]))
    tensor(nan)
    """
    try:
        return loss(outputs, targets)
    except Exception:
        if not isinstance(outputs, Tensor) or bool(torch.isfinite(outputs).all()):
            raise
        return outputs.float().sum() * math.nan


def evened(targets: Tensor) -> Tensor:
    """How often to draw each example so that all classes come equally often, [N]; of labels, the
    rarest decides.

    >>> evened(torch.tensor([0, 0, 1])).tolist()
    [0.5, 0.5, 1.0]
    """
    flat = targets.reshape(len(targets), -1)
    if flat.shape[1] == 1:
        _, codes, counts = torch.unique(flat[:, 0], return_inverse=True, return_counts=True)
        return 1 / counts[codes].float()
    share = (flat > 0.5).float().mean(0).clamp(1 / len(flat), 1 - 1 / len(flat))
    return torch.where(flat > 0.5, 1 / share, 1 / (1 - share)).amax(1)

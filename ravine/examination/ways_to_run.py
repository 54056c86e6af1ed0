"""The ways in which a model and a loss may run on a batch, the usual ones first, and a copy of the
model on which they are tried.
"""

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ravine.errors import InputError, typed_message
from ravine.examination.nested import Nested, map_leaves, split_nested
from ravine.examination.packed_inputs import as_tensor, call_nested, find_target_key, split_tuple
from ravine.rng import isolated_rng

Loss: TypeAlias = Callable[..., Tensor]
Split: TypeAlias = Callable[[Any], tuple[Nested, Nested]]  # a batch into inputs and targets
CALL_STARS = {"argument": "", "arguments": "*", "keywords": "**"}


@dataclass(frozen=True)
class Way:
    """One way to run: how a batch is split, how the model takes the inputs ("argument",
    "arguments", "keywords"), and whether the loss takes "targets", the "batch" or "none".
    """

    name: str
    split: Split
    call: str
    loss: Loss  # of outputs and targets
    targets: str

    def with_batch(self) -> "Way":
        """The way with the whole batch in place of targets."""
        return replace(self, split=lambda b: (self.split(b)[0], b), targets="batch")


def _is_own(loss: Any) -> bool:
    """Whether a loss is a function or a method that is written by hand, and not torch's."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    is_function = inspect.isfunction(loss) or inspect.ismethod(loss)
    return is_function and not loss.__module__.startswith("torch")


def list_ways(model: nn.Module, loss: Loss | None, batch: Any) -> Iterator[Way]:
    """All ways that a batch allows; last, inputs that are their own targets."""
    copying: list[Way] = []
    for name, split in _list_splits(model, batch):
        inputs, targets = split(batch)
        calls = ["argument"]
        calls += ["keywords"] if isinstance(inputs, Mapping) else []
        calls += ["arguments"] if isinstance(inputs, list | tuple) else []
        several = isinstance(batch, list | tuple) and inputs is not batch[0]
        for call in reversed(calls) if several or isinstance(inputs, Mapping) else calls:
            run = f"model({CALL_STARS[call]}{name})"
            if loss is None:
                yield Way(run, split, call, lambda outputs, targets: loss_in(outputs), "none")
                continue
            way = Way(f"loss({run}, targets)", split, call, loss, "targets")
            if targets is not batch:
                yield way
            yield replace(way, name=f"loss({run}, batch)").with_batch()
            if _may_copy(inputs, targets, loss):
                copying.append(replace(way, split=lambda b, split=split: (split(b)[0],) * 2))
    yield from copying


def _may_copy(inputs: Nested, targets: Nested, loss: Loss) -> bool:
    """Whether an autoencoder may stand beside class numbers that it does not use."""
    of_classes = loss is F.cross_entropy or isinstance(loss, nn.CrossEntropyLoss)
    both = isinstance(inputs, Tensor) and isinstance(targets, Tensor) and not of_classes
    return both and targets.shape == inputs.shape[:1]


def _list_splits(model: nn.Module, batch: Any) -> Iterator[tuple[str, Split]]:
    """Ways to tell inputs from targets, and what the inputs are called in messages."""
    if isinstance(batch, list | tuple) and len(batch):
        yield "inputs", split_tuple
        if len(batch) > 2:
            yield "batch[0]", lambda b: (b[0], tuple(b[1:]))
    elif items := split_nested(batch):
        key = find_target_key(items)
        if key is not None and len(items) > 1 and isinstance(batch, Mapping):
            yield "inputs", lambda b: ({k: b[k] for k in b if k != key}, b[key])
        names = [name for name in inspect.signature(model.forward).parameters if name in items]
        if names:
            yield "batch", partial(_split_by_name, names)
    yield "batch", lambda b: (b, b)


def _split_by_name(names: list[str], batch: Any) -> tuple[Nested, Nested]:
    items = split_nested(batch) or {}
    return {name: items[name] for name in names if name in items}, batch


def loss_in(outputs: Any) -> Tensor:
    """The loss in outputs: `.loss`, ["loss"], the first, or a number. Raises `InputError`."""
    found = getattr(outputs, "loss", outputs)
    found = outputs.get("loss") if isinstance(outputs, Mapping) else found
    found = found[0] if isinstance(found, tuple | list) and found else found
    if not isinstance(found, Tensor) or found.numel() != 1:
        why = f"a {type(outputs).__name__} without a loss came from the model"
        raise InputError("there is no loss", why=why, do="give loss(outputs, targets)")
    return found


def require_number(loss: Any) -> Tensor:
    """What a loss gives, a tensor of one number. Raises `InputError` if it is none."""
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss
    shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
    why, do = "a step goes down the gradient of one number", "return the mean of the losses"
    raise InputError(f"the loss gives {shape}", why=why, do=do)


def loss_or_nan(loss: Loss, outputs: object, targets: Tensor) -> Tensor:
    """The loss; NaN where it refuses outputs that are not finite, as binary cross entropy does.

    >>> loss_or_nan(nn.BCELoss(), torch.tensor([math.nan]), torch.tensor([1.0]))
    tensor(nan)
    """
    try:
        return loss(outputs, targets)
    except Exception:  # whatever a loss raises
        if not isinstance(outputs, Tensor) or bool(torch.isfinite(outputs).all()):
            raise
        return outputs.float().sum() * math.nan


def is_same_loss(one: Tensor, other: Tensor) -> bool:
    """Whether two losses are the same number, or both none."""
    return repr(float(one.detach())) == repr(float(other.detach()))


class ProgramTrial:
    """A copy of a model in training mode: it runs with the same random numbers every time."""

    def __init__(self, model: nn.Module, device: torch.device, seed: int):
        self.original, self.device, self.seed = model, device, seed
        self.model = copy.deepcopy(model).train()
        lazy = any(map(is_lazy, model.parameters()))
        self.buffers = [] if lazy else [(b, b.clone()) for b in self.model.buffers()]

    def outputs(self, way: Way, inputs: Nested) -> Any:
        """The outputs for inputs, with buffers as they were before."""
        with isolated_rng(self.seed):
            try:
                return call_nested(self.model, map_leaves(inputs, as_tensor), way.call)
            finally:
                with torch.no_grad():
                    for buffer, state in self.buffers:
                        buffer.copy_(state)

    def value(self, way: Way, outputs: Any, targets: Nested) -> Any:
        """The loss of outputs and targets."""
        with isolated_rng(self.seed):
            loss = copy.deepcopy(way.loss) if isinstance(way.loss, nn.Module) else way.loss
            return loss_or_nan(loss, outputs, map_leaves(targets, as_tensor))

    def prefer_batch(self, way: Way, batch: Any, value: Tensor) -> Way:
        """The way; that with the batch in place of one tensor of targets, where the loss takes it
        and gives another number: `loss = lambda out, batch: mse(out, batch[1])` runs on both.
        """
        if way.targets != "targets" or not isinstance(way.split(batch)[1], Tensor):
            return way
        if not _is_own(way.loss):
            return way
        other = way.with_batch()
        try:
            outputs = self.outputs(other, other.split(batch)[0])
            return way if is_same_loss(self.value(other, outputs, batch), value) else other
        except Exception:  # it does not take a batch, as most losses do not
            return way

    def uses_targets(self, way: Way, outputs: Tensor, targets: Tensor) -> bool:
        """Whether the loss is another one with other targets, or refuses them. Very large outputs
        round targets away or are where a loss is flat, so it is also computed of outputs between 0
        and 1. It is computed on the CPU: a class number out of range breaks a GPU for the whole
        process.
        """
        outputs, targets = outputs.detach().cpu(), targets.cpu()
        other = ~targets if targets.dtype == torch.bool else targets + 1
        generator = torch.Generator().manual_seed(self.seed)
        ordinary = torch.rand(outputs.shape, generator=generator).to(outputs.dtype)
        for given in (outputs, ordinary):
            several = (targets, other, targets.flip(0))
            try:
                losses = [float(self.value(way, given, y)) for y in several]
            except Exception:
                return True
            if len(set(losses)) > 1 or not math.isfinite(losses[0]):
                return True
        return False


@dataclass
class FoundWay:
    """The first way that runs to a loss of one number, with the outputs of the model. If there is
    none, the first that runs to anything else, without outputs, or None.
    """

    way: Way | None = None
    outputs: Any = None
    runs: bool = False  # to a loss of one number
    called: bool = False  # the model has taken inputs
    errors: dict[str, str] = field(default_factory=dict)  # with the first way that raised each


def find_way(trial: ProgramTrial, loss: Loss | None, batch: Any) -> FoundWay:
    """Try the ways to run model and loss on a batch, until one does."""
    found = FoundWay()
    for way in list_ways(trial.original, loss, batch):
        try:
            outputs = trial.outputs(way, way.split(batch)[0])
            found.called = True
            value = trial.value(way, outputs, way.split(batch)[1])
        except Exception as error:  # whatever the user's code raises
            found.errors.setdefault(typed_message(error), way.name)
            continue
        if isinstance(value, Tensor) and value.numel() == 1:
            found.outputs, found.runs = outputs, True
            found.way = trial.prefer_batch(way, batch, value)
            break
        found.way = found.way or way  # what the loss gives is refused when it is tried once more
    return found

"""Listen to calls of torch's backward, gradient clipping, steps of schedulers, `eval()`, and seeds.

While there are listeners, these functions of torch are replaced by ones that call the listeners
first. When the last listener is removed, torch is as it was.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad
from torch.optim.lr_scheduler import LRScheduler


@dataclass(frozen=True, eq=False)
class CallListener:
    """Called before torch clips the gradients of parameters, a scheduler steps, a module is put
    into evaluation mode, torch's generator gets a seed or a state, from a function's code,
    something is saved in a file, or a backward pass starts from tensors. A scheduler comes with
    what its step is given, or None. Clipping with an infinite limit only measures a norm and is not
    reported.
    """

    before_clipping: Callable[[Sequence[Tensor]], None]
    before_scheduler_step: Callable[[LRScheduler, Any], None]
    before_evaluation: Callable[[nn.Module], None]
    before_seeding: Callable[[Any, Any], None]
    before_saving: Callable[[], None]
    before_backward: Callable[[Any], None]


_listeners: list[CallListener] = []
_stepping: set[int] = set()  # the identities of schedulers within a step
_exchanges = ExitStack()  # closing it puts torch's functions back


def add_listener(listener: CallListener) -> None:
    """Call a listener from now on."""
    _listeners.append(listener)
    if len(_listeners) == 1:
        _exchange_clipping()
        _exchange_scheduler_steps()
        _exchanges.callback(setattr, nn.Module, "train", nn.Module.train)
        nn.Module.train = _announce_evaluation(nn.Module.train)
        _exchanges.callback(setattr, torch, "save", torch.save)
        torch.save = _announce_saving(torch.save)
        _exchanges.callback(setattr, torch.autograd, "backward", torch.autograd.backward)
        torch.autograd.backward = _announce_backward(torch.autograd.backward)
        for module in (torch, torch.random):
            for name in ("manual_seed", "set_rng_state"):
                function = getattr(module, name)
                _exchanges.callback(setattr, module, name, function)
                setattr(module, name, _announce_seeding(function))


def remove_listener(listener: CallListener) -> None:
    """Call a listener no more."""
    if listener in _listeners:
        _listeners.remove(listener)
    if not _listeners:
        _exchanges.close()


def _exchange_clipping() -> None:
    """Replace what torch's clipping functions wrap: it does not matter how they were imported."""
    for function in (clip_grad.clip_grad_norm_, clip_grad.clip_grad_value_):
        for cell in getattr(function, "__closure__", None) or ():
            if cell.cell_contents is getattr(function, "__wrapped__", None):
                _exchanges.callback(setattr, cell, "cell_contents", cell.cell_contents)
                cell.cell_contents = _announce_clipping(cell.cell_contents)


def _announce_clipping(function: Any) -> Any:
    limit_name = "max_norm" if "norm" in function.__name__ else "clip_value"

    @wraps(function)
    def clip(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(("parameters", limit_name), args, strict=False)), **kwargs}
        parameters, limit = given.get("parameters"), given.get(limit_name)
        kept = [parameters] if isinstance(parameters, Tensor) else list(parameters or ())
        if isinstance(parameters, GeneratorType):  # it is used up: torch gets a new one
            again = (p for p in kept)
            args = (again, *args[1:]) if args else ()
            kwargs |= {} if args else {"parameters": again}
        if limit is not None and float(limit) < math.inf:
            for listener in tuple(_listeners):
                listener.before_clipping(kept)
        return function(*args, **kwargs)

    return clip


def _exchange_scheduler_steps() -> None:
    for cls in set(_subclasses(LRScheduler)):
        for name, announced in (("step", True), ("_initial_step", False)):  # of the constructor
            function = vars(cls).get(name)
            if function is not None:
                _exchanges.callback(setattr, cls, name, function)
                setattr(cls, name, _announce_step(function, announced=announced))


def _announce_step(function: Any, *, announced: bool) -> Any:
    """A scheduler's method that announces a step, once: not where it is called in another one."""

    @wraps(function)
    def step(scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        if id(scheduler) in _stepping:
            return function(scheduler, *args, **kwargs)
        _stepping.add(id(scheduler))
        given = args[0] if args else kwargs.get("metrics")
        try:
            for listener in tuple(_listeners) if announced else ():
                listener.before_scheduler_step(scheduler, given)
            return function(scheduler, *args, **kwargs)
        finally:
            _stepping.discard(id(scheduler))

    return step


def _announce_evaluation(function: Any) -> Any:
    @wraps(function)
    def train(module: Any, mode: bool = True) -> Any:
        if not mode:
            for listener in tuple(_listeners):
                listener.before_evaluation(module)
        return function(module, mode)

    return train


def _announce_saving(function: Any) -> Any:
    @wraps(function)
    def save(*args: Any, **kwargs: Any) -> Any:
        for listener in tuple(_listeners):
            listener.before_saving()
        return function(*args, **kwargs)

    return save


def _announce_backward(function: Any) -> Any:
    @wraps(function)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
        for listener in _listeners:
            listener.before_backward(tensors)
        return function(tensors, *args, **kwargs)

    return backward


def _announce_seeding(function: Any) -> Any:
    @wraps(function)
    def set_state(*args: Any, **kwargs: Any) -> Any:
        for listener in tuple(_listeners):
            listener.before_seeding((*args, *kwargs.values())[0], sys._getframe(1).f_code)
        return function(*args, **kwargs)

    return set_state


def _subclasses(cls: type) -> Iterator[type]:
    """A class and all that derive from it; one may come twice."""
    yield cls
    for other in cls.__subclasses__():
        yield from _subclasses(other)

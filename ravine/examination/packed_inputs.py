"""Inputs that are several tensors, packed into one: the engine handles rows of one tensor, and the
model that it runs unpacks them.

Letters: N examples.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ravine.errors import InputError, typed_message
from ravine.rng import isolated_rng

Nested: TypeAlias = Any  # a tensor, or tuples, lists and dicts of such
TARGET_KEYS = ("labels", "label", "targets", "target", "y")  # of a batch that is a dict
CALL_ADVICE = (
    "give batches (inputs, targets), and a module whose forward takes the inputs as one argument, "
    "their parts as several, or a dict as keywords"
)


@dataclass(frozen=True)
class InputShapes:
    """How a packed row is cut: a template of the nested inputs, with shape and dtype by leaf."""

    template: Nested
    parts: tuple[tuple[torch.Size, torch.dtype], ...]


@dataclass
class Packing:
    """Packs inputs, and knows how the model is called: with one "argument", with several
    "arguments", or with "keywords".

    Numbers of one floating dtype stay numbers, in a row for each example; others become bytes.
    """

    call: str = ""
    shapes: dict[int, InputShapes] = field(default_factory=dict)  # by the width of a packed row

    def pack(self, inputs: Nested) -> Tensor:
        """The inputs of N examples as one tensor [N, width]. Raises `InputError` if there are none,
        or if batches cannot be told apart by their width.
        """
        leaves = list(iterate_leaves(inputs))
        rows = {len(leaf) if leaf.dim() else 0 for leaf in leaves}
        if len(rows) != 1 or 0 in rows:
            why, do = "all parts have a row for each example", "put the examples in dimension 0"
            raise InputError(f"inputs of {sorted(rows)} examples", why=why, do=do)
        parts = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
        as_numbers = len({dtype for _, dtype in parts}) == 1 and parts[0][1].is_floating_point
        flat = [leaf.detach().contiguous().reshape(len(leaf), -1) for leaf in leaves]
        packed = torch.cat(flat if as_numbers else [x.view(torch.uint8) for x in flat], 1)
        shapes = InputShapes(_map_leaves(inputs, lambda leaf: None), parts)
        if self.shapes.setdefault(packed.shape[1], shapes).parts != parts:
            why = "their inputs have other shapes, and together the same size"
            do = "pad the parts of all batches to the same shapes"
            raise InputError("two batches cannot be told apart", why=why, do=do)
        return packed

    def unpack(self, packed: Tensor) -> Nested:
        """The inputs as they were, in their shapes and dtypes."""
        shapes, start, leaves = self.shapes[packed.shape[1]], 0, []
        for shape, dtype in shapes.parts:
            is_packed = packed.dtype == torch.uint8
            size = math.prod(shape) * (dtype.itemsize if is_packed else 1)
            part = packed[:, start : start + size].contiguous()
            leaves.append((part.view(dtype) if is_packed else part).reshape(len(part), *shape))
            start += size
        remaining = iter(leaves)
        return _map_leaves(shapes.template, lambda _: next(remaining))

    def columns(self, packed: Tensor) -> Tensor | None:
        """The numbers among the inputs as a table [N, columns]; None if there are none."""
        leaves = iterate_leaves(self.unpack(packed))
        numbers = [x.reshape(len(x), -1).float() for x in leaves if x.is_floating_point()]
        return torch.cat(numbers, 1) if numbers else None

    def run(self, forward: Callable[..., Any], packed: Tensor) -> Any:
        """Call a model's forward with unpacked inputs."""
        inputs = self.unpack(packed)
        if self.call == "keywords":
            return forward(**inputs)
        return forward(*inputs) if self.call == "arguments" else forward(inputs)


def unpacking_model(model: nn.Module, packing: Packing) -> nn.Module:
    """A model with the same modules and parameters that takes packed inputs.

    It is of a class that derives from the model's, so that names in it are as they were.
    """
    parent = type(model)

    def forward(self: Any, packed: Tensor) -> Any:
        return packing.run(partial(parent.forward, self), packed)

    unpacking = type(parent.__name__, (parent,), {"forward": forward})
    found = copy.copy(model)
    try:
        found.__class__ = unpacking
    except TypeError as error:
        what = f"the model is a {parent.__name__}"
        why = "it cannot be given inputs of several tensors here"
        raise InputError(what, why=why, do="give the module before it was compiled") from error
    return found


def find_call(model: nn.Module, inputs: Nested, packing: Packing) -> Packing:
    """The packing with the way in which the model takes inputs. Raises `InputError` if no way runs.

    Parts of a tuple are tried as one argument and as several, a dict as keywords and as one.
    """
    ways = ["argument"]
    ways += ["keywords"] if isinstance(inputs, Mapping) else []
    ways += ["arguments"] if isinstance(inputs, list | tuple) else []
    if isinstance(inputs, Mapping) or packing.call == "arguments":
        ways.reverse()
    packed, errors = packing.pack(inputs), []
    for call in ways:
        tried = Packing(call, packing.shapes)
        copied = copy.deepcopy(model)
        try:
            with torch.no_grad(), isolated_rng(0):
                tried.run(copied, packed)
            return tried
        except Exception as error:  # the model's own code may raise anything
            errors.append(f"{call}: {typed_message(error)}")
    what = "the model does not take the inputs of a batch"
    raise InputError(what, why="; ".join(errors)[:300], do=CALL_ADVICE)


def split_batch(batch: Any) -> tuple[Nested, Tensor]:
    """Inputs and targets of a batch: (inputs, targets), (one, another, ..., targets), or a dict
    with the targets under one of `TARGET_KEYS`. Raises `InputError` for anything else.

    >>> inputs, targets = split_batch({"x": torch.ones(2, 3), "labels": torch.tensor([0, 1])})
    >>> list(inputs), targets.tolist()
    (['x'], [0, 1])
    """
    do = "give (inputs, targets), or a DataLoader whose batches are such pairs"
    if isinstance(batch, Mapping):
        key = next((key for key in TARGET_KEYS if key in batch), None)
        if key is None or len(batch) < 2:
            names = ", ".join(map(str, batch))
            what = f"a batch is a dict of {names}"
            why = f"targets are looked for under {', '.join(TARGET_KEYS)}"
            raise InputError(what, why=why, do=do)
        inputs, targets = {k: v for k, v in batch.items() if k != key}, batch[key]
    elif isinstance(batch, list | tuple) and len(batch) >= 2:
        inputs, targets = batch[0] if len(batch) == 2 else tuple(batch[:-1]), batch[-1]
    else:
        what = f"the examples are a {type(batch).__name__}"
        if isinstance(batch, list | tuple):
            what += f" of {len(batch)}"
        why = "an example has inputs and a target"
        raise InputError(what, why=why, do=do)
    return _map_leaves(inputs, _as_tensor), _as_tensor(targets)


def _as_tensor(value: Any) -> Tensor:
    """A tensor without its history; arrays of float64 as torch's default, as models have it."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        made = torch.as_tensor(value)
        return made.to(torch.get_default_dtype()) if made.dtype == torch.float64 else made
    what = f"a part of the examples is a {type(value).__name__}"
    why = "inputs and targets are tensors, arrays of numbers, or tuples and dicts of such"
    raise InputError(what, why=why, do="make a tensor of it, or leave it out of the batch")


def iterate_leaves(nested: Nested) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts, in order."""
    if isinstance(nested, Mapping):
        nested = list(nested.values())
    if isinstance(nested, list | tuple):
        for item in nested:
            yield from iterate_leaves(item)
    else:
        yield nested


def take_rows(nested: Nested, count: int) -> Nested:
    """The first rows of all tensors."""
    return _map_leaves(nested, lambda leaf: leaf[:count] if leaf.dim() else leaf)


def _map_leaves(nested: Nested, function: Callable[[Any], Any]) -> Nested:
    """The same tuples, lists and dicts with a function's results in place of what is in them."""
    if isinstance(nested, Mapping):
        return {key: _map_leaves(item, function) for key, item in nested.items()}
    if isinstance(nested, list):
        return [_map_leaves(item, function) for item in nested]
    if isinstance(nested, tuple):
        return tuple(_map_leaves(item, function) for item in nested)
    return function(nested)

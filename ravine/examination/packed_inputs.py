"""Several tensors packed into one: the engine handles rows of one tensor, and the model and the
loss that it runs unpack them.

Letters: N examples.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ravine.errors import InputError
from ravine.examination.nested import Nested, iterate_leaves, map_leaves

TensorShape: TypeAlias = tuple[torch.Size, torch.dtype]  # of a row
Run: TypeAlias = Callable[[Callable[..., Any], nn.Module, Tensor], Any]
TARGET_KEYS = ("labels", "label", "targets", "target", "y")  # of a batch that is a dict
_PACKED_TENSOR = object()  # stands for a tensor in a template


@dataclass
class Packing:
    """Packs nested tensors, and unpacks them. Numbers of one floating dtype stay numbers, in a row
    for each example; others become bytes. What is no tensor is the same for all rows.
    """

    # by the width of a packed row: what was nested, and shape and dtype by tensor
    shapes: dict[int, tuple[Nested, list[TensorShape]]] = field(default_factory=dict)

    def pack(self, nested: Nested) -> Tensor:
        """Tensors of N examples as one [N, width]. Raises `InputError` for unequal examples."""
        leaves = [leaf for leaf in iterate_leaves(nested) if isinstance(leaf, Tensor)]
        rows = {len(leaf) if leaf.dim() else 0 for leaf in leaves}
        if len(rows) != 1 or 0 in rows:
            why, do = "all parts have a row for each example", "put the examples in dimension 0"
            raise InputError(f"inputs of {sorted(rows)} examples", why=why, do=do)
        parts = [(leaf.shape[1:], leaf.dtype) for leaf in leaves]
        as_numbers = len({dtype for _, dtype in parts}) == 1 and parts[0][1].is_floating_point
        flat = [leaf.contiguous().reshape(len(leaf), -1) for leaf in leaves]
        packed = torch.cat(flat if as_numbers else [x.view(torch.uint8) for x in flat], 1)
        template = map_leaves(nested, lambda x: _PACKED_TENSOR if isinstance(x, Tensor) else x)
        while self.shapes.setdefault(packed.shape[1], (template, parts))[1] != parts:
            packed = torch.nn.functional.pad(packed, (0, 1))  # batches are known by their width
        return packed

    def unpack(self, packed: Tensor) -> Nested:
        """What was packed, in its shapes and dtypes."""
        template, parts = self.shapes[packed.shape[1]]
        start, leaves = 0, []
        for shape, dtype in parts:
            is_packed = packed.dtype == torch.uint8
            size = math.prod(shape) * (dtype.itemsize if is_packed else 1)
            part = packed[:, start : start + size].contiguous()
            leaves.append((part.view(dtype) if is_packed else part).reshape(len(part), *shape))
            start += size
        remaining = iter(leaves)
        return map_leaves(template, lambda x: next(remaining) if x is _PACKED_TENSOR else x)

    def columns(self, packed: Tensor) -> Tensor | None:
        """The numbers among the tensors as a table [N, columns]; None if there are none."""
        leaves = (x for x in iterate_leaves(self.unpack(packed)) if isinstance(x, Tensor))
        numbers = [x.reshape(len(x), -1).float() for x in leaves if x.is_floating_point()]
        return torch.cat(numbers, 1) if numbers else None


def adapt_model(model: nn.Module, run: Run) -> nn.Module:
    """A model with the same modules and parameters, of which a call is `run(call, model, rows)`,
    where `call` calls it as it was. It is of a class that derives from the model's, so that names
    in it are as they were, and its hooks see what they always saw.
    """
    parent = type(model)

    def call(self: Any, *inputs: Any, **named: Any) -> Any:
        forward = partial(parent.__call__, self)
        if vars(self).get("_is_running"):  # called from within `run`
            return forward(*inputs, **named)
        vars(self)["_is_running"] = True
        try:
            return run(forward, self, *inputs)
        finally:
            vars(self)["_is_running"] = False

    found = copy.copy(model)
    try:
        found.__class__ = type(parent.__name__, (parent,), {"__call__": call})
    except TypeError as error:
        what = f"the model is a {parent.__name__}"
        why = "its calls cannot be changed here, as inputs of several tensors need"
        raise InputError(what, why=why, do="give the module before it was compiled") from error
    return found


def call_nested(forward: Callable[..., Any], inputs: Nested, way: str) -> Any:
    """Call a model with inputs as one "argument", as several "arguments", or as "keywords"."""
    if way == "keywords":
        return forward(**{key: value for key, value in inputs.items() if value is not None})
    return forward(*inputs) if way == "arguments" else forward(inputs)


def split_tuple(batch: Any) -> tuple[Nested, Nested]:
    """Inputs and targets of (inputs, targets), of (one, another, ..., targets), and of (inputs,),
    which are their own targets.
    """
    return batch[0] if len(batch) < 3 else tuple(batch[:-1]), batch[-1]


def find_target_key(batch: Mapping[str, Any]) -> str | None:
    """The key of a dict that has the targets, one of `TARGET_KEYS`."""
    return next((key for key in TARGET_KEYS if key in batch), None)


def split_batch(batch: Any) -> tuple[Nested, Tensor]:
    """Inputs and targets of a batch: (inputs, targets), (one, another, ..., targets), or a dict
    with the targets under one of `TARGET_KEYS`. Raises `InputError` for anything else.

    >>> inputs, targets = split_batch({"x": torch.ones(2, 3), "labels": torch.tensor([0, 1])})
    >>> list(inputs), targets.tolist()
    (['x'], [0, 1])
    """
    do = "give (inputs, targets), or a DataLoader whose batches are such pairs"
    if isinstance(batch, Mapping):
        key = find_target_key(batch)
        if key is None or len(batch) < 2:
            names = ", ".join(map(str, batch))
            why = f"targets are looked for under {', '.join(TARGET_KEYS)}"
            raise InputError(f"a batch is a dict of {names}", why=why, do=do)
        inputs, targets = {k: v for k, v in batch.items() if k != key}, batch[key]
    elif isinstance(batch, list | tuple) and len(batch) >= 2:
        inputs, targets = split_tuple(batch)
    else:
        what = f"the examples are a {type(batch).__name__}"
        what += f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
        raise InputError(what, why="an example has inputs and a target", do=do)
    return map_leaves(inputs, require_tensor), require_tensor(targets)


def lay_out_as(like: Nested, batch: Any) -> Any:
    """A batch laid out as another one, where the same can be found in it: (inputs, targets) as the
    dict that has both, a dict as such a tuple. As it is where that is not clear.

    >>> lay_out_as({"x": 1, "mask": 2, "y": 3}, ({"mask": 5, "x": 4}, 6))
    {'x': 4, 'mask': 5, 'y': 6}
    """
    key = find_target_key(like) if isinstance(like, Mapping) else None
    if isinstance(batch, list | tuple) and len(batch) > 1 and key is not None:
        inputs, targets = split_tuple(batch)
        names = [name for name in like if name != key]
        if not isinstance(inputs, Mapping):
            parts = inputs if isinstance(inputs, list | tuple) else [inputs]
            inputs = dict(zip(names, parts, strict=True)) if len(parts) == len(names) else {}
        made = {**inputs, key: targets}
        return {name: made[name] for name in like} if {*like} <= {*made} else batch
    if isinstance(batch, Mapping) and isinstance(like, list | tuple):
        key = find_target_key(batch)
        parts = [value for name, value in batch.items() if name != key]
        if key is not None and len(parts) + 1 == len(like):
            return (*parts, batch[key])
    return batch


def require_tensor(value: Any) -> Tensor:
    """A tensor without its history, also of an array. Raises `InputError` for anything else."""
    made = as_tensor(value)
    if isinstance(made, Tensor):
        return made
    what = f"a part of the examples is a {type(value).__name__}"
    why = "inputs and targets are tensors, arrays of numbers, or tuples and dicts of such"
    raise InputError(what, why=why, do="make a tensor of it, or leave it out of the batch")


def as_tensor(value: Any) -> Any:
    """A tensor without history; arrays of float64 as torch's default; other values as they are."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        made = torch.as_tensor(value)
        return made.to(torch.get_default_dtype()) if made.dtype == torch.float64 else made
    return value

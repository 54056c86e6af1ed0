"""The weights of a cohort as one matrix: a row for each network, named views, masks and factors.

Letters: P networks, W weights of one network.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = Tensor  # [P, W]
Column: TypeAlias = Tensor  # [P, 1]
Row: TypeAlias = Tensor  # [1, W]
Role: TypeAlias = Literal["weight", "bias", "scale", "embedding"]
# elements that torch's vector loops take at a time: two registers of 16 float32 (AVX-512), or fewer
VECTOR_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One named tensor of a network.

    Penalties and weight decay act on the `role` "weight" alone, never on biases, normalization
    scales or embeddings. `lr_multiplier` is that of this tensor's learning rate (RealMLP's
    biases, rates by depth). `fan_in` and `fan_out` count the connections of one unit.
    """

    name: str
    shape: tuple[int, ...]
    role: Role = "weight"
    fan_in: int = 1
    fan_out: int = 1
    lr_multiplier: float = 1.0

    @property
    def size(self) -> int:
        """How many weights it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The place of each slot in a row of weights.

    >>> layout = Layout((Slot(name="0.weight", shape=(2, 3)), Slot(name="0.bias", shape=(1, 3),
    ...                                                            role="bias")))
    >>> layout.width, {name: view.shape for name, view in layout.views(torch.zeros(5, 9)).items()}
    (9, {'0.weight': torch.Size([5, 2, 3]), '0.bias': torch.Size([5, 1, 3])})
    """

    slots: tuple[Slot, ...]

    @cached_property
    def width(self) -> int:
        """How many weights a network has, W."""
        return sum(slot.size for slot in self.slots)

    @cached_property
    def spans(self) -> Mapping[str, tuple[int, int]]:
        """Start and end of each slot in a row."""
        spans, at = {}, 0
        for slot in self.slots:
            spans[slot.name] = (at, at + slot.size)
            at += slot.size
        return spans

    def views(self, rows: Rows) -> dict[str, Tensor]:
        """The slots as views [P, *shape] of the matrix."""
        spans = self.spans
        return {s.name: rows[:, slice(*spans[s.name])].unflatten(1, s.shape) for s in self.slots}

    def row(self, value: Callable[[Slot], float], *, dtype: torch.dtype = torch.float32) -> Row:
        """A row [1, W] with one value per slot: a mask, a factor of the learning rate."""
        values = [torch.full((slot.size,), float(value(slot)), dtype=dtype) for slot in self.slots]
        return torch.cat(values)[None] if values else torch.zeros(1, 0, dtype=dtype)

    def decay_mask(self, *, dtype: torch.dtype = torch.float32) -> Row:
        """1 where weight decay and penalties act (the role "weight"), 0 elsewhere."""
        return self.row(lambda slot: slot.role == "weight", dtype=dtype)

    def lr_multipliers(self, *, dtype: torch.dtype = torch.float32) -> Row | None:
        """The multiplier of the learning rate of each weight, or None where all are 1."""
        if all(slot.lr_multiplier == 1.0 for slot in self.slots):
            return None
        return self.row(lambda slot: slot.lr_multiplier, dtype=dtype)


def matches(name: str, pattern: str) -> bool:
    """Whether a slot's name begins with the pattern and a dot, or matches it as file names do.

    >>> (matches("hidden.0.weight", "hidden.0"), matches("hidden.0.weight", "*.weight"),
    ...  matches("hidden.10.bias", "hidden.1"))
    (True, True, False)
    """
    return name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)


def row_norm(rows: Rows) -> Column:
    """The Euclidean length of each network's row, [P, 1]."""
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def row_dot(a: Rows, b: Rows) -> Column:
    """The scalar product of each network's rows, [P, 1]."""
    return (a * b).sum(1, keepdim=True)

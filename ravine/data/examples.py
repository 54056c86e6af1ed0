"""Encoded examples: what networks read.

Letters: N examples, F numbers, K columns of codes, C outputs.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ravine.data.image_store import MappedImages
from ravine.protocols import Signature
from ravine.statistics import even_places

AFFORDABLE_VALUES = 2**18


@dataclass(frozen=True)
class Examples:
    """Encoded rows of a table, or images. `targets` is None for rows to predict.

    Numbers with a `backing` file are not copied to worker processes: these open the file.

    >>> Examples(torch.zeros(3, 2)).count
    3
    """

    numbers: Tensor  # float32 [N, F]; images are uint8 [N, C, H, W]
    codes: Tensor | None = None  # int64 [N, K], 0 is unseen or rare
    # int64 [N] classes; float32 [N, 1] binary; float32 [N, C] regression (encoded) and labels
    targets: Tensor | None = None
    weights: Tensor | None = None  # float32 [N], each example's share in the loss
    backing: MappedImages | None = None  # the file that holds the numbers; None in memory

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self.backing is None else {**self.__dict__, "numbers": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        backing = state["backing"]
        self.__dict__.update(state if backing is None else {**state, "numbers": backing.tensor()})

    @property
    def count(self) -> int:
        """How many examples there are."""
        return self.numbers.shape[0]

    @property
    def fields(self) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """The four tensors, in the order in which they are given."""
        return self.numbers, self.codes, self.targets, self.weights

    def map(self, change: Callable[[Tensor], Tensor]) -> "Examples":
        """The examples with each tensor changed."""
        codes, targets, weights = (None if t is None else change(t) for t in self.fields[1:])
        return Examples(change(self.numbers), codes, targets, weights)

    def to(self, device: str | torch.device, dtype: torch.dtype) -> "Examples":
        """The examples on a device, numbers and weights in a precision; bytes stay bytes."""
        return self.map(lambda t: t.to(device, dtype) if t.is_floating_point() else t.to(device))

    def take(self, index: Tensor) -> "Examples":
        """The examples at some places, [M] integers or [N] booleans."""
        return self.map(lambda t: t[index])


def concatenate(parts: list[Examples]) -> Examples:
    """Several blocks of examples as one."""
    columns = zip(*(part.fields for part in parts), strict=True)
    return Examples(*(None if c[0] is None else torch.cat(c) for c in columns))  # type: ignore


@dataclass(frozen=True)
class LoadedImages:
    """New images as networks read them: their names (none for arrays), and uint8 [N, C, H, W]."""

    names: tuple[str, ...]
    pixels: Tensor
    backing: MappedImages | None = None
    notes: tuple[str, ...] = ()


class StreamedExamples(Protocol):
    """Training examples that are read in chunks, epoch by epoch (`RowGroups`)."""

    def epoch(self, seed: int, epoch: int) -> Iterator[Examples]: ...


def evenly_spaced(examples: Examples | StreamedExamples, count: int) -> Examples:
    """At most `count` examples, evenly spaced over all; of streamed ones those read first.

    >>> evenly_spaced(Examples(torch.arange(5.0)[:, None]), 3).numbers.flatten().tolist()
    [0.0, 2.0, 4.0]
    """
    if not isinstance(examples, Examples):
        chunk = next(iter(examples.epoch(0, 0)))
        return chunk.take(torch.arange(min(count, chunk.count)))
    return examples.take(even_places(examples.count, count))


def affordable_count(signature: Signature, count: int, values: int = AFFORDABLE_VALUES) -> int:
    """`count`, or fewer where examples are images that have more than `values` numbers together."""
    image = signature.image
    return count if image is None else max(16, min(count, values // math.prod(image[:3])))

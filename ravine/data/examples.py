"""Encoded examples: what networks read.

Letters: N examples, F numbers, K columns of codes, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Examples:
    """Encoded rows of a table. `targets` is None for rows to predict, `codes` where no column has codes.

    >>> Examples(torch.zeros(3, 2)).count
    3
    """

    numbers: Tensor  # float32 [N, F]
    codes: Tensor | None = None  # int64 [N, K], 0 is unseen or rare
    targets: Tensor | None = None  # int64 [N] classes; float32 [N, 1] binary; [N, C] regression (encoded) and labels
    weights: Tensor | None = None  # float32 [N], each example's share in the loss

    @property
    def count(self) -> int:
        """How many examples there are."""
        return self.numbers.shape[0]

    @property
    def fields(self) -> tuple[Tensor | None, ...]:
        """The four tensors, in the order in which they are given."""
        return self.numbers, self.codes, self.targets, self.weights

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Examples:
        """The examples on a device, numbers and weights in a precision."""
        return Examples(*(None if t is None else t.to(device, dtype) if t.is_floating_point() else t.to(device)
                          for t in self.fields))  # type: ignore[arg-type]  # fmt: skip

    def take(self, index: Tensor) -> Examples:
        """The examples at some places, [M] integers or [N] booleans."""
        return Examples(*(None if t is None else t[index] for t in self.fields))  # type: ignore[arg-type]


def joined(parts: list[Examples]) -> Examples:
    """Several blocks of examples as one."""
    columns = zip(*(part.fields for part in parts), strict=True)
    return Examples(*(None if c[0] is None else torch.cat(c) for c in columns))  # type: ignore[arg-type]

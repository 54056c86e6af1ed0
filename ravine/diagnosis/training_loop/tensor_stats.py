"""Statistics of single tensors: equal rows, default initialization, tables.

Nothing here writes into a tensor, draws random numbers, or keeps a tensor.
Letters: N examples, U units (rows of a weight matrix).
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

MIN_MATRIX_NUMBERS = 32  # of which a distribution is known
SAMPLE_SIZE = 4096  # numbers of a tensor that are compared
COMPARED_COLUMNS = 64  # of the rows of a batch and a table
TABLE_FACTOR = 4  # times the rows of a batch that a table needs to count as its source
PREFIX_COLUMNS = 8  # nearly always tell two rows apart, at little cost


@torch.no_grad()
def count_duplicate_rows(rows: Tensor) -> int:
    """How many rows of [U, ...] are equal, bit for bit, to another row.

    >>> count_duplicate_rows(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]]))
    2
    """
    flat = (torch.view_as_real(rows) if rows.is_complex() else rows).flatten(1)
    if len(flat) < 2 or len(torch.unique(flat[:, 0])) == len(flat):
        return 0
    if len(torch.unique(flat[:, :PREFIX_COLUMNS], dim=0)) == len(flat):
        return 0
    _, counts = torch.unique(flat, dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


def sample(p: Tensor) -> Tensor:
    """The first numbers of a tensor: a view, where its layout allows. Complex ones are two each."""
    p = torch.view_as_real(p.detach()) if p.is_complex() else p
    if p.numel() <= SAMPLE_SIZE or p.dim() < 2:
        return p.detach().flatten()[:SAMPLE_SIZE]
    return p.detach()[: max(1, SAMPLE_SIZE * len(p) // p.numel())].flatten()


@torch.no_grad()
def has_default_initialization(weight: Tensor, owner: nn.Module) -> bool:
    """Whether a weight matrix still looks as torch initializes it; False for anything else.

    The defaults of torch: uniform in ±1/sqrt(fan in) for linear and convolutional layers, uniform
    in ±1/sqrt(hidden) for recurrent layers, normal (0, 1) for embeddings. A trained matrix has
    numbers beyond the bound, none near it (which n uniform numbers have but for exp(-6)), or
    another variance (by more than 4 standard errors). Vectors and matrices of fewer than 32 numbers
    are never taken for freshly initialized ones.

    >>> layer = nn.Linear(30, 40)
    >>> has_default_initialization(layer.weight, layer)
    True
    >>> has_default_initialization(layer.weight * 1.1, layer)
    False
    """
    uniform = nn.Linear | nn.modules.conv._ConvNd | nn.RNNBase | nn.RNNCellBase
    if (
        weight.dim() < 2
        or weight.numel() < MIN_MATRIX_NUMBERS
        or not isinstance(owner, uniform | nn.Embedding)
    ):
        return False
    variance, spread, bound = 1.0, math.sqrt(2.0), math.inf  # of an embedding
    if isinstance(owner, uniform):
        is_recurrent = isinstance(owner, nn.RNNBase | nn.RNNCellBase)
        bound = (owner.hidden_size if is_recurrent else math.prod(weight.shape[1:])) ** -0.5
        variance, spread = bound**2 / 3, math.sqrt(0.8)
    measured = float(weight.detach().float().var())
    least = 1 - 6 / weight.numel() if isinstance(owner, uniform) else 0.0
    inside = least <= float(weight.detach().abs().max()) / bound <= 1 + 1e-5
    return inside and abs(measured / variance - 1) < 4 * spread / math.sqrt(weight.numel())


def first_tensor(arguments: Iterable[Any]) -> Tensor | None:
    """The first dense tensor of some arguments that has examples in it."""
    dense = (x for x in arguments if isinstance(x, Tensor) and x.layout == torch.strided)
    return next((x for x in dense if x.dim() and x.numel()), None)


@torch.no_grad()
def batch_excerpt(batch: Tensor) -> Tensor:
    """Some numbers of the first and last rows of a batch [N, ...], enough to recognize it."""
    rows = batch.detach()
    few = max(1, SAMPLE_SIZE * len(rows) // max(rows.numel(), 1))
    return torch.cat([rows[:few].reshape(-1)[:SAMPLE_SIZE], rows[-1:].reshape(-1)[:SAMPLE_SIZE]])


@torch.no_grad()
def find_tables(batch: Tensor, objects: Iterable[Any]) -> tuple[list[Tensor], int]:
    """Copies of a batch [N, ...] among live objects, and the rows of a table that contains it.

    A table has at least four times the rows of the batch; 0 rows: there is none.

    >>> table = torch.arange(20.0).reshape(10, 2)
    >>> find_tables(table[[3, 1]], [table, table[:2]])
    ([], 10)
    """
    rows = batch.detach().reshape(len(batch), -1)
    first, last = rows[:4, :COMPARED_COLUMNS], rows[-1:, :COMPARED_COLUMNS]
    copies, table_rows = [], 0
    for other in objects:
        if not issubclass(type(other), Tensor) or other is batch or is_lazy(other):
            continue
        if other.device != batch.device or other.layout != batch.layout or other.dim() == 0:
            continue
        if len(other) < len(rows) or other.numel() != len(other) * rows.shape[1]:
            continue
        flat = other.detach().reshape(len(other), -1)[:, :COMPARED_COLUMNS]
        if len(flat) == len(rows):
            if bool((flat[:4] == first).all() and (flat[-1:] == last).all()):
                copies.append(other)
        elif len(flat) >= TABLE_FACTOR * len(rows):
            if all(bool((flat == row).all(dim=1).any()) for row in torch.cat((first, last))):
                table_rows = max(table_rows, len(flat))
    return copies, table_rows

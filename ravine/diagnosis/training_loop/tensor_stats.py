"""Statistics of single tensors: equal rows, inactive units, default initialization, overwrites.

Nothing here writes into a tensor, draws random numbers, or keeps a tensor.
Letters: N examples, U units (rows of a weight matrix).
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

SAMPLE_SIZE = 4096  # numbers of a tensor that are compared
ROUNDING_TOLERANCE = 1e-5  # of a weight's length: saved and restored, perhaps in fewer bits
MIN_NUMBERS = 64  # fewer are too few to call two tensors unrelated
TABLE_FACTOR = 4  # times the rows of a batch that a table needs to count as its source
PREFIX_COLUMNS = 8  # nearly always tell two rows apart, at little cost


@torch.no_grad()
def count_duplicate_rows(rows: Tensor) -> int:
    """How many rows of [U, ...] are equal, bit for bit, to another row.

    >>> count_duplicate_rows(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]]))
    2
    """
    flat = rows.flatten(1)
    if len(flat) < 2 or len(torch.unique(flat[:, 0])) == len(flat):
        return 0
    prefix = flat[:, : min(PREFIX_COLUMNS, flat.shape[1])]
    if len(torch.unique(prefix, dim=0)) == len(flat):
        return 0
    _, counts = torch.unique(flat, dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


@torch.no_grad()
def inactive_units(output: Tensor, *, last: bool) -> tuple[Tensor, int]:
    """Which units [U] a ReLU would set to 0 for every example, and how many rows each unit has.

    Units are the `last` dimension (of a linear layer), or the second one (of a convolution or a
    normalization).

    >>> units, rows = inactive_units(torch.tensor([[-1.0, 0.5], [-2.0, -1.0]]), last=True)
    >>> units.tolist(), rows
    ([True, False], 2)
    """
    by_unit = output.detach().movedim(-1 if last else 1, 0).flatten(1)
    return (by_unit <= 0).all(dim=1), output.shape[0] if not last else by_unit.shape[1]


@torch.no_grad()
def has_default_initialization(weight: Tensor, owner: nn.Module) -> bool:
    """Whether a weight matrix still looks as torch initializes it; False for anything else.

    The defaults of torch: uniform in ±1/sqrt(fan in) for linear and convolutional layers, uniform
    in ±1/sqrt(hidden) for recurrent layers, normal (0, 1) for embeddings. A trained matrix has
    numbers beyond the bound, or another variance (by more than 4 standard errors). Vectors and
    matrices of fewer than 64 numbers are never taken for freshly initialized ones.

    >>> layer = nn.Linear(30, 40)
    >>> has_default_initialization(layer.weight, layer)
    True
    >>> has_default_initialization(layer.weight * 1.1, layer)
    False
    """
    uniform = nn.Linear | nn.modules.conv._ConvNd | nn.RNNBase | nn.RNNCellBase
    if weight.dim() < 2 or weight.numel() < 64 or not isinstance(owner, uniform | nn.Embedding):
        return False
    variance, spread, bound = 1.0, math.sqrt(2.0), math.inf  # of an embedding
    if isinstance(owner, uniform):
        is_recurrent = isinstance(owner, nn.RNNBase | nn.RNNCellBase)
        bound = (owner.hidden_size if is_recurrent else math.prod(weight.shape[1:])) ** -0.5
        variance, spread = bound**2 / 3, math.sqrt(0.8)
    measured = float(weight.detach().float().var())
    inside = float(weight.detach().abs().max()) <= bound * (1 + 1e-5)
    return inside and abs(measured / variance - 1) < 4 * spread / math.sqrt(weight.numel())


def hidden_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters in plain lists, tuples and dicts, which `model.parameters()` leaves out.

    >>> model = nn.Module()
    >>> model.layers = [nn.Linear(2, 2)]
    >>> list(hidden_parameters(model))
    ['layers.0.weight', 'layers.0.bias']
    """
    known = {id(p) for p in model.parameters()}
    found: dict[str, nn.Parameter] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not isinstance(value, list | tuple | dict):
                continue
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                here = ".".join(part for part in (path, name, str(key)) if part)
                if isinstance(item, nn.Parameter):
                    found[here] = item
                elif isinstance(item, nn.Module):
                    found |= {f"{here}.{inner}": p for inner, p in item.named_parameters()}
    return {name: p for name, p in found.items() if id(p) not in known}


@torch.no_grad()
def classify_overwrite(left: Tensor, found: Tensor, *, start: Tensor, last: Tensor | None) -> str:
    """What stands in a weight in place of what the optimizer `left` there.

    "" the same numbers (also after rounding), "to_start" the numbers at the `start`, "repeated"
    the numbers of the `last` overwrite, "unrelated" other numbers (64 or more, their correlation
    within 4 standard errors of 0), "clamped" the same numbers cut to a range or partly set to 0,
    "other" anything else.

    >>> torch.manual_seed(0); left = torch.randn(500)
    <...>
    >>> [classify_overwrite(left, found, start=left + 1, last=None) for found in (
    ...     left.clone(), left + 1, torch.randn(500), left.clamp(-0.1, 0.1), left * 0.9)]
    ['', 'to_start', 'unrelated', 'clamped', 'other']
    """
    if bool(torch.equal(found, left)):
        return ""
    if bool(torch.equal(found, start)):
        return "to_start"
    if last is not None and bool(torch.equal(found, last)):
        return "repeated"
    if not bool(torch.isfinite(found).all() & torch.isfinite(left).all()):
        return ""  # RVN-N01 reports numbers that are not finite
    old, new = left.double(), found.double()
    if float((new - old).norm()) <= ROUNDING_TOLERANCE * float(old.norm()):
        return ""
    changed = new[new != old]
    at_bounds = (changed == 0) | (changed == new.max()) | (changed == new.min())
    if bool(at_bounds.all()) and len(changed) > 1:
        return "clamped"
    a, b = old - old.mean(), new - new.mean()
    correlation = float(a @ b) / max(float(a.norm() * b.norm()), 1e-30)
    unrelated = len(old) >= MIN_NUMBERS and abs(correlation) < 4 / math.sqrt(len(old))
    return "unrelated" if unrelated else "other"


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
    first, last = rows[:4, :MIN_NUMBERS], rows[-1:, :MIN_NUMBERS]
    copies, table_rows = [], 0
    for other in objects:
        if not issubclass(type(other), Tensor) or other is batch:
            continue
        if other.device != batch.device or other.layout != batch.layout or other.dim() == 0:
            continue
        if len(other) < len(rows) or other.numel() != len(other) * rows.shape[1]:
            continue
        flat = other.detach().reshape(len(other), -1)[:, :MIN_NUMBERS]
        if len(flat) == len(rows):
            if bool((flat[:4] == first).all() and (flat[-1:] == last).all()):
                copies.append(other)
        elif len(flat) >= TABLE_FACTOR * len(rows):
            if all(bool((flat == row).all(dim=1).any()) for row in torch.cat((first, last))):
                table_rows = max(table_rows, len(flat))
    return copies, table_rows

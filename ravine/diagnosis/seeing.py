"""What is measured of single tensors for a story. Nothing here writes, draws random numbers, or keeps a tensor.

Letters: U units (rows of a weight matrix).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def twins(rows: Tensor) -> int:
    """How many rows of [U, ...] are equal, bit for bit, to another row.

    >>> twins(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]]))
    2
    """
    flat = rows.flatten(1)
    first = flat[:, : min(8, flat.shape[1])]  # nearly always tells rows apart, at little cost
    if len(torch.unique(first, dim=0)) == len(flat):
        return 0
    _, counts = torch.unique(flat, dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


@torch.no_grad()
def dark(made: Tensor, *, last: bool) -> tuple[Tensor, int]:
    """Which units [U] a rectifier would leave at 0 for every example, and how many rows there are for each unit.

    Units are the `last` dimension (of a linear layer), or the second one (of a convolution or a normalization).

    >>> units, rows = dark(torch.tensor([[-1.0, 0.5], [-2.0, -1.0]]), last=True)
    >>> units.tolist(), rows
    ([True, False], 2)
    """
    by_unit = made.detach().movedim(-1 if last else 1, 0).flatten(1)
    return (by_unit <= 0).all(dim=1), made.shape[0] if not last else by_unit.shape[1]


@torch.no_grad()
def fresh(weight: Tensor, owner: nn.Module) -> bool:
    """Whether a weight matrix still looks as torch initializes it by default; False for anything else, and for vectors.

    Linear, convolution: uniform in +-1/sqrt(fan in). Recurrent: uniform in +-1/sqrt(hidden). Embedding: normal (0, 1).
    A trained matrix has numbers beyond the bound, or another variance; 4 standard errors are allowed.

    >>> layer = nn.Linear(30, 40)
    >>> fresh(layer.weight, layer), fresh(layer.weight * 1.1, layer), fresh(layer.bias, layer)
    (True, False, False)
    """
    if weight.dim() < 2 or weight.numel() < 64:
        return False
    if isinstance(owner, nn.Embedding):
        variance, spread, bound = 1.0, math.sqrt(2.0), math.inf
    elif isinstance(owner, nn.RNNBase | nn.RNNCellBase):
        bound = 1 / math.sqrt(owner.hidden_size)
        variance, spread = bound**2 / 3, math.sqrt(0.8)
    elif isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
        bound = 1 / math.sqrt(math.prod(weight.shape[1:]))
        variance, spread = bound**2 / 3, math.sqrt(0.8)
    else:
        return False
    found = float(weight.detach().float().var())
    inside = float(weight.detach().abs().max()) <= bound * (1 + 1e-5)
    return inside and abs(found / variance - 1) < 4 * spread / math.sqrt(weight.numel())


def hidden_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters in plain lists, tuples and dicts of a model's modules, which `model.parameters()` does not give.

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

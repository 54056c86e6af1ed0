"""What is measured of single tensors for a story. Nothing here writes, draws random numbers, or
keeps a tensor.

Letters: U units (rows of a weight matrix).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

SAMPLE = 4096  # numbers of a tensor that are compared
ROUNDED = 1e-5  # of a weight: put away and put back, perhaps in fewer bits
FEW = 64  # numbers of which nothing is said
LARGER = 4  # times the rows of a batch that the table it is from must have


@torch.no_grad()
def twins(rows: Tensor) -> int:
    """How many rows of [U, ...] are equal, bit for bit, to another row.

    >>> twins(torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]]))
    2
    """
    flat = rows.flatten(1)
    if len(flat) < 2 or len(torch.unique(flat[:, 0])) == len(flat):
        return 0
    first = flat[:, : min(8, flat.shape[1])]  # nearly always tells rows apart, at little cost
    if len(torch.unique(first, dim=0)) == len(flat):
        return 0
    _, counts = torch.unique(flat, dim=0, return_counts=True)
    return int(counts[counts > 1].sum())


@torch.no_grad()
def dark(made: Tensor, *, last: bool) -> tuple[Tensor, int]:
    """Which units [U] a rectifier would leave at 0 for every example, and how many rows there are
    for each unit.

    Units are the `last` dimension (of a linear layer), or the second one (of a convolution or a
    normalization).

    >>> units, rows = dark(torch.tensor([[-1.0, 0.5], [-2.0, -1.0]]), last=True)
    >>> units.tolist(), rows
    ([True, False], 2)
    """
    by_unit = made.detach().movedim(-1 if last else 1, 0).flatten(1)
    return (by_unit <= 0).all(dim=1), made.shape[0] if not last else by_unit.shape[1]


@torch.no_grad()
def fresh(weight: Tensor, owner: nn.Module) -> bool:
    """Whether a weight matrix still looks as torch initializes it by default; False for anything
    else, and for vectors.

    Linear, convolution: uniform in +-1/sqrt(fan in). Recurrent: uniform in +-1/sqrt(hidden).
    Embedding: normal (0, 1). A trained matrix has numbers beyond the bound, or another variance; 4
    standard errors are allowed.

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
    """Parameters in plain lists, tuples and dicts of a model's modules, which `model.parameters()`
    does not give.

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
def written(left: Tensor, found: Tensor, *, start: Tensor, last: Tensor | None) -> str:
    """What stands where the optimizer `left` something else: "start" (what was there at the start),
    "again" (what was written there `last`), "anew" (unrelated numbers), "cut" (to a range, or zeros
    put in), "other"; "" if nothing does.

    Unrelated: the correlation of 64 numbers or more is within 4 standard errors of 0.

    >>> torch.manual_seed(0); left = torch.randn(500)
    <...>
    >>> [written(left, found, start=left + 1, last=None) for found in (
    ...     left.clone(), left + 1, torch.randn(500), left.clamp(-0.1, 0.1), left * 0.9)]
    ['', 'start', 'anew', 'cut', 'other']
    """
    if bool(torch.equal(found, left)):
        return ""
    if bool(torch.equal(found, start)):
        return "start"
    if last is not None and bool(torch.equal(found, last)):
        return "again"
    if not bool(torch.isfinite(found).all() & torch.isfinite(left).all()):
        return ""  # what broke it has a finding of its own
    old, new = left.double(), found.double()
    if float((new - old).norm()) <= ROUNDED * float(old.norm()):
        return ""
    changed = new[new != old]
    if (
        bool(((changed == 0) | (changed == new.max()) | (changed == new.min())).all())
        and len(changed) > 1
    ):
        return "cut"
    one, other = old - old.mean(), new - new.mean()
    alike = float(one @ other) / max(float(one.norm() * other.norm()), 1e-30)
    return "anew" if len(old) >= FEW and abs(alike) < 4 / math.sqrt(len(old)) else "other"


def first_tensor(given: Iterable[Any]) -> Tensor | None:
    """The first tensor of some arguments that has examples in it."""
    dense = (x for x in given if isinstance(x, Tensor) and x.layout == torch.strided)
    return next((x for x in dense if x.dim() and x.numel()), None)


@torch.no_grad()
def excerpt(x: Tensor) -> Tensor:
    """Some numbers of a batch [N, ...], by which it is known again: of its first rows and of its
    last.
    """
    rows = x.detach()
    few = max(1, SAMPLE * len(rows) // max(rows.numel(), 1))
    return torch.cat([rows[:few].reshape(-1)[:SAMPLE], rows[-1:].reshape(-1)[:SAMPLE]])


@torch.no_grad()
def tables(x: Tensor, alive: Iterable[Any]) -> tuple[list[Tensor], int]:
    """Tensors among the objects `alive` that hold just the batch [N, ...], and the rows of one that
    holds it among others, at least four times as many (0: there is none).

    >>> every = torch.arange(20.0).reshape(10, 2)
    >>> tables(every[[3, 1]], [every, every[:2]])
    ([], 10)
    """
    rows = x.detach().reshape(len(x), -1)
    one = (rows[:4, :FEW], rows[-1:, :FEW])
    kept, larger = [], 0
    for other in alive:
        if (
            not issubclass(type(other), Tensor)
            or other is x
            or other.device != x.device
            or other.layout != x.layout
        ):
            continue
        if (
            other.dim() == 0
            or len(other) < len(rows)
            or other.numel() != len(other) * rows.shape[1]
        ):
            continue
        flat = other.detach().reshape(len(other), -1)[:, :FEW]
        if len(flat) == len(rows):
            if bool((flat[:4] == one[0]).all() and (flat[-1:] == one[1]).all()):
                kept.append(other)
        elif len(flat) >= LARGER * len(rows):
            if all(bool((flat == row).all(dim=1).any()) for row in torch.cat(one)):
                larger = max(larger, len(flat))
    return kept, larger


class Constant:
    """The loss of the best constant answer to all targets that were seen, for losses of torch that
    are known.

    Cross entropy: the entropy of the classes; squares: the variance, by output; binary cross
    entropy with logits: the mean entropy of the labels. Weighted and summed losses are not known,
    nor are those with arithmetic behind them.

    >>> constant = Constant()
    >>> output, target = torch.zeros(4, 2, requires_grad=True), torch.tensor([0, 0, 1, 1])
    >>> constant.add(nn.functional.cross_entropy(output, target)), round(constant.loss, 4)
    ('NllLoss', 0.6931)
    """

    def __init__(self) -> None:
        self.kind, self.count = "", 0
        self.sums: Tensor | None = None  # of the classes, targets or labels; and of their squares
        self.squares: Tensor | None = None

    @torch.no_grad()
    def add(self, loss: Tensor) -> str:
        """Take the targets of one batch from the graph of its loss; the name of the loss, "" if it
        is not known.
        """
        made: Any = loss.grad_fn
        if made is None:
            return ""
        kind = made.name().partition("Backward")[0]
        kind = "NllLoss" if kind == "NllLoss2D" else kind
        if (
            kind not in ("NllLoss", "MseLoss", "BinaryCrossEntropyWithLogits")
            or made._saved_reduction != 1
        ):
            return ""
        given = made.next_functions[0][0]
        if kind == "NllLoss" and (given is None or not given.name().startswith("LogSoftmax")):
            return ""
        try:
            if kind != "MseLoss" and made._saved_weight is not None:
                return ""
            if kind == "BinaryCrossEntropyWithLogits" and made._saved_pos_weight is not None:
                return ""
            target = made._saved_target.detach()
            if kind == "NllLoss":
                target = target[target != made._saved_ignore_index]
        except (AttributeError, RuntimeError):  # the graph was freed: backward came first
            return kind
        if self.kind not in ("", kind) or not target.numel():
            return ""
        if kind == "NllLoss":
            sums = torch.bincount(
                target.flatten(), minlength=0 if self.sums is None else len(self.sums)
            ).double()
            squares, count = sums, target.numel()
        else:
            rows = (
                target.double().reshape(len(target), -1)
                if target.dim() > 1
                else target.double()[:, None]
            )
            sums, squares, count = rows.sum(0), rows.square().sum(0), len(rows)
        if self.sums is None or self.squares is None:
            self.sums, self.squares = torch.zeros_like(sums), torch.zeros_like(sums)
        if kind == "NllLoss" and len(self.sums) < len(sums):
            self.sums = self.squares = torch.cat(
                [self.sums, self.sums.new_zeros(len(sums) - len(self.sums))]
            )
        if len(self.sums) != len(sums):
            return kind
        self.kind, self.count = kind, self.count + count
        self.sums, self.squares = self.sums + sums, self.squares + squares
        return kind

    @property
    def loss(self) -> float | None:
        """The loss of the constant answer; None before there are targets."""
        if self.sums is None or self.squares is None:
            return None
        mean = self.sums / self.count
        if self.kind == "NllLoss":
            return float(-torch.xlogy(mean, mean).sum())
        if self.kind == "MseLoss":
            return float((self.squares / self.count - mean.square()).clamp(min=0).mean())
        return float(-(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).mean())

    @property
    def error(self) -> float:
        """A standard error of `loss`, as of normal targets: sqrt(2 / n) of a variance; of an
        entropy, by the delta method, sqrt(var(-log p) / n)."""
        if self.sums is None or self.squares is None or self.loss is None:
            return math.inf
        mean = self.sums / self.count
        if self.kind == "NllLoss":
            second = float((torch.xlogy(mean, mean) * mean.clamp(min=1e-30).log()).sum())
            return math.sqrt(max(second - self.loss**2, 0.0) / self.count)
        return self.loss * math.sqrt(2 / self.count)

"""Coefficients of a rule from Numbers, in float64: a float and a column give the same bits."""

import operator
from collections.abc import Callable

import torch
from torch import Tensor

from ravine.part import Number


def per_network(function: Callable[..., float], *numbers: Number) -> Number:
    """Apply a function of floats to Numbers, for each network where one of them is a column.

    It runs in Python, entry by entry: torch's vectorized `pow` rounds the last entries of a column
    differently, so that a network's numbers would depend on the other networks. A column has tens
    of entries; this costs microseconds.

    >>> per_network(lambda beta: 1 - beta**2, 0.5)
    0.75
    >>> per_network(lambda beta: 1 - beta**2, torch.tensor([[0.5], [0.0]],
    ...                                             dtype=torch.float64)).flatten().tolist()
    [0.75, 1.0]
    """
    if not any(isinstance(n, Tensor) for n in numbers):
        return function(*numbers)
    length = max(n.shape[0] for n in numbers if isinstance(n, Tensor))
    lists = [n.flatten().tolist() if isinstance(n, Tensor) else [n] * length for n in numbers]
    values = [function(*entries) for entries in zip(*lists, strict=True)]
    return torch.tensor(values, dtype=torch.float64).view(-1, 1)


def bias_correction(beta: Number, step: int) -> Number:
    """1 − β^step: the total weight in an average that started at 0, after `step` steps."""
    return per_network(lambda b: 1 - b**step, beta)


def divide(one: Number, other: Number) -> Number:
    """A quotient of Numbers. (torch computes `float / column` by a reciprocal, with other bits.)"""
    return per_network(operator.truediv, one, other)


def sign_or_nan(rows: Tensor) -> Tensor:
    """−1, 0 or 1, and NaN for NaN (torch.sign gives 0, which would hide a diverged network)."""
    return torch.where(rows.isnan(), rows, rows.sign())

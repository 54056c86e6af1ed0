"""Functions of two numbers for optimizers to descend, with their minima.

Letters: P points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Surface:
    """A function of points [P, 2] -> [P], its minima, and where to start and look."""

    name: str
    formula: str
    value: Callable[[Tensor], Tensor]
    minima: tuple[tuple[float, float], ...]
    start: tuple[float, float]
    window: tuple[float, float, float, float]  # left, right, bottom, top

    @property
    def minimum(self) -> float:
        """The least value; −∞ for a saddle."""
        if not self.minima:
            return -float("inf")
        return float(self.value(torch.tensor(self.minima[:1], dtype=torch.float64))[0])

    def start_rows(self, count: int = 1) -> Tensor:
        """The start, for each of several walkers: [P, 2] in float64."""
        return torch.tensor([self.start], dtype=torch.float64).repeat(count, 1)

    def __call__(self, points: Tensor) -> Tensor:
        return self.value(points)


def find_surface(name: str) -> Surface:
    """The surface of that name.

    >>> find_surface("ravine").formula
    '10 x² + y²/2'
    """
    return next(surface for surface in ALL if surface.name == name)


def _ravine(p: Tensor) -> Tensor:
    return 10 * p[:, 0] ** 2 + 0.5 * p[:, 1] ** 2


def _quadratic(p: Tensor) -> Tensor:
    return 1.25 * (p[:, 0] + 6) ** 2 + (p[:, 1] - 8) ** 2


def _beale(p: Tensor) -> Tensor:
    x, y = p[:, 0], p[:, 1]
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _rosenbrock(p: Tensor) -> Tensor:
    x, y = p[:, 0], p[:, 1]
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def _himmelblau(p: Tensor) -> Tensor:
    x, y = p[:, 0], p[:, 1]
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def _saddle(p: Tensor) -> Tensor:
    return p[:, 0] ** 2 - p[:, 1] ** 2


ALL = (
    Surface("ravine", "10 x² + y²/2", _ravine, ((0.0, 0.0),), (-1.0, 4.0), (-2, 2, -5, 5)),
    Surface(
        "quadratic",
        "1.25 (x + 6)² + (y − 8)²",
        _quadratic,
        ((-6.0, 8.0),),
        (5.0, -5.0),
        (-15, 10, -10, 15),
    ),
    Surface(
        "beale",
        "(1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)²",
        _beale,
        ((3.0, 0.5),),
        (1.0, 1.5),
        (-4.5, 4.5, -4.5, 4.5),
    ),
    Surface(
        "rosenbrock",
        "(1 − x)² + 100 (y − x²)²",
        _rosenbrock,
        ((1.0, 1.0),),
        (-1.2, 1.0),
        (-2, 2, -1, 3),
    ),
    Surface(
        "himmelblau",
        "(x² + y − 11)² + (x + y² − 7)²",
        _himmelblau,
        (
            (3.0, 2.0),
            (-2.805118086952745, 3.131312518250573),
            (-3.779310253377747, -3.283185991286170),
            (3.584428340330492, -1.848126526964404),
        ),
        (0.0, 0.0),
        (-5, 5, -5, 5),
    ),
    Surface("saddle", "x² − y²", _saddle, (), (2.0, 0.01), (-3, 3, -3, 3)),
)

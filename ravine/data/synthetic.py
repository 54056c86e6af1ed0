"""Small problems whose answer is known: Gaussian mixtures, moons, circles, spirals.

Letters: N points, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ravine.rng import stream


@dataclass(frozen=True)
class Mixture:
    """Points around centers [C, 2], one equally likely class each, normal with SD `spread`."""

    centers: np.ndarray
    spread: float

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 2] and classes [N]."""
        generator = stream(seed, "mixture")
        classes = torch.arange(count) % len(self.centers)
        noise = torch.randn(count, 2, generator=generator, dtype=torch.float64)
        points = torch.from_numpy(self.centers)[classes] + self.spread * noise
        return points.numpy(), classes.numpy()

    def probabilities(self, points: np.ndarray) -> np.ndarray:
        """P(class | point), [N, C], by Bayes' rule: what no classifier beats."""
        distance = ((points[:, None] - self.centers[None]) ** 2).sum(2) / (2 * self.spread**2)
        weights = np.exp(distance.min(1, keepdims=True) - distance)
        return weights / weights.sum(1, keepdims=True)

    def error(self) -> float:
        """The error rate of Bayes' rule for two classes: Φ(−d / 2σ), d between the centers."""
        if len(self.centers) != 2:
            raise ValueError("the closed form holds for two classes")
        distance = float(np.linalg.norm(self.centers[0] - self.centers[1]))
        return 0.5 * math.erfc(distance / (2 * self.spread) / math.sqrt(2))


def mixture(classes: int = 2, *, spread: float = 0.7) -> Mixture:
    """Centers evenly on the unit circle.

    >>> round(mixture().error(), 4)
    0.0766
    """
    angles = 2 * np.pi * np.arange(classes) / classes
    return Mixture(np.stack([np.cos(angles), np.sin(angles)], 1), spread)


def moons(count: int, seed: int, *, noise: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles that reach into each other."""
    generator = stream(seed, "moons")
    classes = torch.arange(count) % 2
    angle = torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    upper = torch.stack([angle.cos(), angle.sin()], 1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
    return _noisy(torch.where(classes[:, None] == 0, upper, lower), classes, noise, generator)


def circles(count: int, seed: int, *, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """A circle of radius 1 around one of radius 1/2."""
    generator = stream(seed, "circles")
    classes = torch.arange(count) % 2
    angle = 2 * torch.pi * torch.rand(count, generator=generator, dtype=torch.float64)
    points = torch.stack([angle.cos(), angle.sin()], 1) * (1 - 0.5 * classes[:, None])
    return _noisy(points, classes, noise, generator)


def spirals(
    count: int, seed: int, *, turns: float = 1.5, noise: float = 0.03
) -> tuple[np.ndarray, np.ndarray]:
    """Two spirals wound into each other, `turns` times around; hard for small networks."""
    generator = stream(seed, "spirals")
    classes = torch.arange(count) % 2
    along = torch.rand(count, generator=generator, dtype=torch.float64).sqrt()
    angle = 2 * torch.pi * turns * along + torch.pi * classes
    points = torch.stack([angle.cos(), angle.sin()], 1) * along[:, None]
    return _noisy(points, classes, noise, generator)


def _noisy(
    points: Tensor, classes: Tensor, noise: float, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    normal = torch.randn(len(points), 2, generator=generator, dtype=torch.float64)
    return (points + noise * normal).numpy(), classes.numpy()

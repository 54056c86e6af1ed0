"""What experiments on networks share: intervals over seeds, networks watched while they train,
mixtures with answers.

Letters: P networks, S seeds, N examples, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from ravine import metrics
from ravine.catalog import named_recipe
from ravine.data import Encoding, Random
from ravine.data.synthetic import Mixture
from ravine.recipe import Recipe
from ravine.training.batches import training_batches
from ravine.training.cohort import Cohort, Job, start_cohort
from ravine.training.defaults import batch_size, load_task, resolve, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.loop import train_cohort


class Interval(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def interval(values: ArrayLike) -> Interval:
    """The mean of values that are independent of one another, with Student's 95 % interval.

    One value has no interval: its ends are NaN.

    >>> str(interval([1.0, 2.0, 3.0]))
    '2 [-0.484, 4.48]'
    """
    x = np.asarray(values, float).ravel()
    if len(x) < 2:
        return Interval(float(x.mean()), math.nan, math.nan)
    half = float(stdtrit(len(x) - 1, 0.975)) * x.std(ddof=1) / math.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def percent(found: Interval) -> str:
    """An interval of shares, as a reader wants it.

    >>> percent(Interval(0.5, 0.4, 0.6))
    '50.0 % [40.0, 60.0]'
    """
    return f"{100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


# Recipes and training


def unscaled() -> Recipe:
    """The recipe "plain" on inputs as they are, all rows in training: what is judged, the
    experiment draws anew.
    """
    return (
        named_recipe("plain")
        .vary("split", Random(validation=0.0, test=0.0))
        .vary("encoding", Encoding(scale="none", smooth_clip=None))
    )


def watched(
    recipes: Sequence[Recipe],
    look: Callable[[Cohort, Any], None],
    frame: Any = None,
    *,
    test: bool = False,
) -> tuple[Cohort, Any]:
    """Train recipes of one program as one cohort and call `look(cohort, task)` before the first and
    after each step.

    With `test` the test split is judged as often as the validation split (its series are test/...).
    Returns the cohort, whose `ended` holds the kept weights, and the task.
    """
    task = load_task(recipes[0], frame)
    resolved = [resolve(recipe, task) for recipe in recipes]
    first = resolved[0]
    job = Job(
        recipes=tuple(r for r in resolved for _ in range(r.seeds)),
        seeds=tuple(r.seed + s for r in resolved for s in range(r.seeds)),
        signature=task.signature,
        plan=training_plan(first, task),
        batch=batch_size(first, task),
    )
    with exact_arithmetic():
        cohort = start_cohort(job)
        metric = metrics.main_metric(task.kind)
        test_split = task.test if test else None
        evaluate = Evaluator(job.plan, task.validation, metric, test=test_split)

        def pause(cohort: Cohort) -> bool:
            look(cohort, task)
            return False

        look(cohort, task)
        train_cohort(cohort, training_batches(task, cohort), evaluate, pause=pause)
    return cohort, task


# A problem with answer


@dataclass(frozen=True)
class TwoClasses:
    """A Gaussian mixture whose components belong to two classes in turn: Bayes' boundary is known
    and curved.
    """

    mixture: Mixture

    def draw(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Points [N, 2] and classes [N], 0 or 1."""
        points, component = self.mixture.draw(count, seed)
        return points, component % 2

    def probability(self, points: np.ndarray) -> np.ndarray:
        """P(class 1 | point), [N]."""
        return self.mixture.probabilities(points)[:, 1::2].sum(1)

    def error(self, *, reach: float = 6.0, cells: int = 601) -> float:
        """The error rate of Bayes' rule: ∫ p(x) min(P(0 | x), P(1 | x)) dx, as a sum over a
        grid.
        """
        grid = square(reach, cells)
        share = self.probability(grid)
        return float(
            (self.density(grid) * np.minimum(share, 1 - share)).sum()
            * (2 * reach / (cells - 1)) ** 2
        )

    def density(self, points: np.ndarray) -> np.ndarray:
        """p(x), [N]."""
        centers, spread = self.mixture.centers, self.mixture.spread
        distance = ((points[:, None] - centers[None]) ** 2).sum(2) / (2 * spread**2)
        return np.exp(-distance).mean(1) / (2 * np.pi * spread**2)

    def error_of(self, says_one: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The error rate of classifiers [P, N] on points drawn from the mixture, labels averaged
        out, [P].

        The chance that the label differs from what a classifier says is known at every point, so no
        label is drawn: less noise than counting mistakes.
        """
        share = self.probability(points)
        return np.where(says_one, 1 - share, share).mean(1)


def curved() -> TwoClasses:
    """Three components for each class, close enough that one point in ten is on the wrong side of
    Bayes' boundary.
    """
    centers = np.array(
        [[-1.6, 0.6], [-0.6, -0.9], [0.0, 1.1], [0.2, -0.1], [1.5, 0.4], [1.3, -1.3]]
    )
    return TwoClasses(Mixture(centers, 0.55))


def square(reach: float, cells: int) -> np.ndarray:
    """The points of a grid from −reach to reach both ways, [cells², 2], row by row from below."""
    line = np.linspace(-reach, reach, cells)
    x, y = np.meshgrid(line, line)
    return np.stack([x.ravel(), y.ravel()], 1)


def probabilities(run: Any, points: np.ndarray) -> np.ndarray:
    """P(class 1) by each member of a run on two columns of numbers, [P, N]."""
    encoded = run.model.encoder.apply(points)
    return run.model.member_predictions(encoded).squeeze(-1).numpy()


def tensor(values: np.ndarray) -> torch.Tensor:
    """Numbers as the networks read them, float32 [1, N, F]."""
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)[None]

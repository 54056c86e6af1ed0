"""What experiments on networks share: recipes, networks observed while they train, and a mixture of
two classes whose best boundary is known.

Letters: P networks, N examples, F inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ravine import metrics
from ravine.catalog import named_recipe
from ravine.data import Data, Encoding, Random
from ravine.data.synthetic import Mixture
from ravine.networks.batched import BatchedNetwork
from ravine.networks.mlp import Mlp
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext, Signature
from ravine.recipe import Recipe
from ravine.reporting.plot_style import SERIES_COLORS
from ravine.training.batches import training_batches
from ravine.training.cohort import Cohort, Job, start_cohort
from ravine.training.defaults import batch_size, load_task, resolve, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.loop import train_cohort
from ravine.training.model import Model
from ravine.training.run import Run

# Recipes and training


def vary_all(recipe: Recipe, settings: Mapping[str, object]) -> Recipe:
    """A copy of a recipe with several settings changed, one after the other."""
    for path, value in settings.items():
        recipe = recipe.vary(path, value)
    return recipe


def make_recipe(source: str = "", **parts: Any) -> Recipe:
    """The recipe "plain" (momentum 0.9, one hidden layer) with other parts, on a built-in data
    set.
    """
    return dataclasses.replace(named_recipe("plain"), data=Data(source=source), **parts)


def make_unscaled_recipe(**parts: Any) -> Recipe:
    """The same on inputs as they are, with all rows in training: the experiments that use it
    evaluate on examples that they draw anew.
    """
    bare = {
        "split": Random(validation=0.0, test=0.0),
        "encoding": Encoding(scale="none", smooth_clip=None),
    }
    return make_recipe(**bare | parts)


def train_and_observe(
    recipes: Sequence[Recipe],
    data: Any = None,
    *,
    observe: Callable[[Cohort, Any], None] = lambda cohort, task: None,
    test: bool = False,
) -> tuple[Cohort, Any]:
    """Train recipes of one program as one cohort, and call `observe(cohort, task)` before the first
    step and after each.

    With `test` the test split is evaluated as often as the validation split (its series are
    test/...). Returns the cohort and the task.
    """
    task = load_task(recipes[0], data)
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
            observe(cohort, task)
            return False

        observe(cohort, task)
        train_cohort(cohort, training_batches(task, cohort), evaluate, pause=pause)
    return cohort, task


def trained_weights(cohort: Cohort) -> dict[str, Tensor]:
    """The kept weights of a trained cohort by name, [P, ...] each."""
    assert cohort.ended is not None
    return cohort.network.layout.views(cohort.ended.tensors["weights"])


def trained_outputs(
    cohort: Cohort, inputs: Tensor, *, layers: list[Tensor] | None = None
) -> Tensor:
    """The outputs of a trained cohort on inputs [1, N, ...]; those of its layers go to `layers`."""
    context = ForwardContext(training=False, buffers={}, layer_outputs=layers)
    return cohort.network(trained_weights(cohort), Batch(inputs), context)


def fresh_layers(network: Mlp, seed: int, inputs: Tensor) -> list[Tensor]:
    """The outputs of all layers of an untrained network on inputs [1, N, F], [1, N, ...] each."""
    program = BatchedNetwork(network, Signature(inputs.shape[2], (), 1))
    weights, _ = program.start([seed])
    layers: list[Tensor] = []
    context = ForwardContext(training=False, layer_outputs=layers)
    program(program.layout.views(weights), Batch(inputs), context)
    return layers


def model_of(run: Run) -> Model:
    """The model of a run whose networks did not all diverge."""
    assert run.model is not None
    return run.model


def program_of(model: Model) -> BatchedNetwork:
    """The program that the networks of a model run."""
    return BatchedNetwork(stack([model.recipe]).network, model.signature)


def class_probabilities(run: Run, points: np.ndarray) -> np.ndarray:
    """P(class 1) by each network of a run on points [N, 2], [P, N]."""
    model = model_of(run)
    return model.member_predictions(model.encoder.apply(points)).squeeze(-1).numpy()


def network_inputs(values: np.ndarray) -> Tensor:
    """Numbers as the networks read them, float32 [1, N, F]."""
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)[None]


# Two classes with a known boundary


@dataclass(frozen=True)
class TwoClasses:
    """A Gaussian mixture whose components belong to two classes in turn: the boundary of Bayes'
    rule is known and curved.
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
        grid = square_grid(reach, cells)
        share = self.probability(grid)
        cell = (2 * reach / (cells - 1)) ** 2
        return float((self.density(grid) * np.minimum(share, 1 - share)).sum() * cell)

    def density(self, points: np.ndarray) -> np.ndarray:
        """p(x), [N]."""
        centers, spread = self.mixture.centers, self.mixture.spread
        distance = ((points[:, None] - centers[None]) ** 2).sum(2) / (2 * spread**2)
        return np.exp(-distance).mean(1) / (2 * np.pi * spread**2)

    def error_of(self, predictions: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The error rate of classifiers, whose `predictions` [P, N] are True for class 1, on points
        drawn from the mixture: [P].

        The probability that the label differs from the prediction is known at every point, so no
        labels are drawn: less noise than counting mistakes.
        """
        share = self.probability(points)
        return np.where(predictions, 1 - share, share).mean(1)


def curved_classes() -> TwoClasses:
    """Three components for each class, so close that Bayes' rule errs on one point in ten."""
    centers = [[-1.6, 0.6], [-0.6, -0.9], [0.0, 1.1], [0.2, -0.1], [1.5, 0.4], [1.3, -1.3]]
    return TwoClasses(Mixture(np.array(centers), 0.55))


def square_grid(reach: float, cells: int) -> np.ndarray:
    """The points of a grid from −reach to reach both ways, [cells², 2], row by row from below."""
    line = np.linspace(-reach, reach, cells)
    x, y = np.meshgrid(line, line)
    return np.stack([x.ravel(), y.ravel()], 1)


def draw_decision(axes: Axes, values: np.ndarray, *, reach: float, boundary: float) -> None:
    """What a classifier predicts on a square grid: two colors, and its boundary if it has one."""
    cells = round(len(values) ** 0.5)
    line, shown = np.linspace(-reach, reach, cells), values.reshape(cells, cells)
    style: Any = {"levels": [-1e9, boundary, 1e9], "colors": SERIES_COLORS[:2], "alpha": 0.22}
    axes.contourf(line, line, shown, **style)
    if shown.min() < boundary < shown.max():
        axes.contour(line, line, shown, levels=[boundary], colors="black", linewidths=1.4)


def draw_classes(axes: Axes, data: tuple[np.ndarray, np.ndarray], *, size: float) -> None:
    """Points [N, 2] of two classes: dots and triangles."""
    points, classes = data
    for which, mark in ((0, "o"), (1, "^")):
        axes.plot(*points[classes == which].T, mark, color=SERIES_COLORS[which], markersize=size)
    axes.grid(False)

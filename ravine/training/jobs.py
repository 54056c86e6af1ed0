"""From recipes to jobs: fill in what the data decide, group networks by program, cut jobs of a good
size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ravine import data, losses
from ravine.augment import check_augmentation
from ravine.data import Examples
from ravine.errors import RecipeError
from ravine.losses import ByTask
from ravine.networks.batched import BatchedNetwork
from ravine.part import group_key
from ravine.protocols import LoadsWeights, Plan, SearchOptimizer, Signature
from ravine.recipe import Recipe
from ravine.training.cohort import Job, networks_at_once
from ravine.training.lr_multipliers import check_tuning

SECONDS_WORTH_A_PROCESS = 20.0  # starting a worker and importing torch in it takes about three


@dataclass
class Share:
    """The networks of one recipe that train in one job: which rows of the job, which members of the
    recipe.
    """

    recipe: int
    rows: list[int]
    members: list[int]


@dataclass
class Work:
    """One job, its data, and whose networks it trains."""

    job: Job
    task: Any
    shares: list[Share]
    seconds: float  # a rough estimate of its time on one core


def prepare(recipe: Recipe, frame: Any = None) -> tuple[Any, Recipe]:
    """The task of a recipe, and the recipe with everything that the data decide filled in."""
    task = load_task(recipe, frame)
    return task, resolve(recipe, task)


def load_task(recipe: Recipe, frame: Any = None) -> Any:
    """The examples of a recipe's task, split and encoded."""
    return data.load(
        recipe.data,  # type: ignore[arg-type]
        recipe.split,
        recipe.encoding,  # type: ignore[arg-type]
        seed=recipe.split_seed,
        frame=frame,
    )


def resolve(recipe: Recipe, task: Any) -> Recipe:
    """The recipe with loss, batch and epochs chosen where they are None, and checked against the
    data.

    Loss by the kind of task; about n/30 examples a batch, between 16 and 256, a power of two;
    epochs such that small tables get more passes (300 below 1,300 examples, 60 at 7,000 to 20,000,
    20 above 60,000), since early stopping ends what has learned enough. Pictures cost more and are
    learned sooner: batches of at most 128, 30 passes below 330 pictures, 8 above 1,250 (the
    measurements are in NOTEBOOK.md).
    """
    count = examples_of(task)
    loss: Any = ByTask() if recipe.loss is None else recipe.loss
    if isinstance(loss, ByTask):
        recipe = recipe.vary("loss", loss.loss_for(task.kind))
    elif task.kind not in loss.tasks:
        names = ", ".join(c.__name__ for c in losses.ALL if task.kind in c.tasks)
        raise RecipeError(
            f"loss is {type(recipe.loss).__name__}",
            why=f"the task is {task.kind}, for which there are {names}",
            do="leave loss out, or set data.task",
        )
    if recipe.class_weights == "balanced":
        _check_balance(task)
    pictured = signature(task).image is not None
    if recipe.batch is None:
        most = 128 if pictured else 256
        recipe = recipe.vary(
            "batch", min(most, max(16, 2 ** round(math.log2(max(1, count / 30)))), count)
        )
    if recipe.epochs is None:
        recipe = recipe.vary(
            "epochs", _passes(count) if not pictured else int(min(30, max(8, 10_000 / count)))
        )
    check_augmentation(recipe.augment, signature(task).image)
    if isinstance(recipe.optimizer, SearchOptimizer):
        recipe.optimizer.check_memory(_width(recipe, task))
    if recipe.tuning or isinstance(recipe.network, LoadsWeights):
        built = BatchedNetwork(recipe.network, signature(task))
        built.load_weights()  # raises here where it cannot be read, before any work
        check_tuning(recipe.tuning, built.layout, plan_of(recipe, task))
    if recipe.batch == "all":
        return recipe
    if batch_size(recipe, task) > count:
        raise RecipeError(
            f"batch is {recipe.batch}",
            why=f"there are only {count} training examples",
            do='make it smaller, or write batch = "all"',
        )
    return recipe


def _passes(count: int) -> int:
    """How often a table of so many training rows is passed over."""
    least = min(60, max(20, 1_200_000 / count))
    return int(min(300, max(least, 400_000 / count)))


def _check_balance(task: Any) -> None:
    """Raise `RecipeError` where the examples cannot be weighted by class."""
    if task.kind not in ("binary", "classes"):
        raise RecipeError(
            "class_weights is 'balanced'",
            why=f"the task is {task.kind}: an example has no one class",
            do='set class_weights = "none"',
        )
    if isinstance(task.train, data.RowGroups):
        raise RecipeError(
            "class_weights is 'balanced'",
            why="the training rows are read in pieces, unweighted",
            do='set class_weights = "none", or leave data.memory out',
        )


def works_of(
    recipes: Sequence[Recipe], tasks: Sequence[Any], *, device: str, workers: int
) -> list[Work]:
    """Group all networks by program and task, and cut the groups into jobs of a good size."""
    groups: dict[Any, list[tuple[int, int]]] = {}
    for r, (recipe, task) in enumerate(zip(recipes, tasks, strict=True)):
        order = (
            recipe.seed if isinstance(task.train, data.RowGroups) else None
        )  # streamed: one order for all in a job
        key = (group_key(recipe.vary("seed", 0).vary("seeds", 1)), task.fingerprint, order)
        groups.setdefault(key, []).extend((r, m) for m in range(recipe.seeds))
    works = []
    for group in groups.values():
        first = group[0][0]
        size = _size(recipes[first], tasks[first], len(group), device=device, workers=workers)
        works += [
            _work(group[at : at + size], recipes, tasks[first], device=device)
            for at in range(0, len(group), size)
        ]
    return works


def work_of(members: Sequence[int], recipe: Recipe, task: Any, *, device: str) -> Work:
    """The job that trains some members of one recipe, as a run's plan lists them."""
    return _work([(0, m) for m in members], [recipe], task, device=device)


def _size(recipe: Recipe, task: Any, count: int, *, device: str, workers: int) -> int:
    """How many of `count` networks train in one job: what the cache takes, in even jobs, one per
    process at least where processes pay."""
    if device == "cpu" and BatchedNetwork(recipe.network, signature(task)).one_by_one:
        # convolutions are made for one network after another: together they only take each other's
        # cache
        return 1
    size = min(count, networks_at_once(_width(recipe, task), device=device))
    if workers > 1 and device == "cpu" and count * _seconds(recipe, task) > SECONDS_WORTH_A_PROCESS:
        size = min(size, max(2, -(-count // workers)))
    return -(-count // -(-count // size))


def _work(
    group: Sequence[tuple[int, int]], recipes: Sequence[Recipe], task: Any, *, device: str
) -> Work:
    shares: dict[int, Share] = {}
    for row, (r, m) in enumerate(group):
        share = shares.setdefault(r, Share(r, [], []))
        share.rows.append(row)
        share.members.append(m)
    first = recipes[group[0][0]]
    job = Job(
        recipes=tuple(recipes[r] for r, _ in group),
        seeds=tuple(recipes[r].seed + m for r, m in group),
        signature=signature(task),
        plan=plan_of(first, task),
        batch=batch_size(first, task),
        device=device,
    )
    return Work(job, task, list(shares.values()), len(group) * _seconds(first, task))


def signature(task: Any) -> Signature:
    """What goes in and comes out of a network for a task."""
    encoder = task.encoder
    picture, flags = getattr(encoder, "picture", None), getattr(encoder, "flags", ())
    return Signature(
        len(encoder.features), tuple(encoder.code_sizes), task.outputs, picture, tuple(flags)
    )


def examples_of(task: Any) -> int:
    """How many training examples a task has."""
    return (
        task.train.count if isinstance(task.train, data.RowGroups) else task.train.numbers.shape[0]
    )


def batch_size(recipe: Recipe, task: Any) -> int:
    """Examples in a full batch of a resolved recipe."""
    assert recipe.batch is not None  # resolved
    return examples_of(task) if recipe.batch == "all" else recipe.batch


def plan_of(recipe: Recipe, task: Any) -> Plan:
    """How many steps a resolved recipe makes on a task."""
    assert recipe.epochs is not None  # resolved
    per_epoch = -(-examples_of(task) // batch_size(recipe, task))
    return Plan(steps=per_epoch * recipe.epochs, per_epoch=per_epoch)


def _width(recipe: Recipe, task: Any) -> int:
    return BatchedNetwork(recipe.network, signature(task)).layout.width


def _seconds(recipe: Recipe, task: Any) -> float:
    """A rough time for one network on one core: 20 µs a step, and 6 flops a weight and example at
    50 Gflop/s.
    """
    return plan_of(recipe, task).steps * (
        2e-5 + 6.0 * _width(recipe, task) * batch_size(recipe, task) / 5e10
    )


def with_mean_weight_1(examples: Examples) -> Examples:
    """Examples whose weights are 1 on average: only their ratios count, the learning rate means
    what it says.
    """
    if examples.weights is None:
        return examples
    weights = examples.weights / examples.weights.mean()
    return Examples(examples.numbers, examples.codes, examples.targets, weights)


def balanced(examples: Examples) -> tuple[Examples, float]:
    """Examples with weights that give each class the same share in the loss, and the mean |weight −
    1|.

    weight = N / (classes · N of the class), times the weight that the example had.
    """
    assert examples.targets is not None
    classes = examples.targets.reshape(-1).long()
    counts = torch.bincount(classes).clamp_min(1)
    dtype = (
        examples.numbers.dtype if examples.numbers.is_floating_point() else torch.float32
    )  # pictures are bytes
    weights = (len(classes) / (counts.count_nonzero() * counts))[classes].to(dtype)
    change = float((weights - 1).abs().mean())
    if examples.weights is not None:
        weights = weights * examples.weights
    return Examples(examples.numbers, examples.codes, examples.targets, weights), change

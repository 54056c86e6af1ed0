"""What the data decide about a recipe: loss, metric, batch size and epochs where they are None.

The measurements behind the defaults are in NOTEBOOK.md.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from ravine import data, losses, metrics
from ravine.augment import check_augmentation
from ravine.data import RowGroups, TableLike, Task
from ravine.errors import RecipeError
from ravine.files import require_path
from ravine.layout import Layout
from ravine.losses import BinaryCrossEntropy, ByTask, SoftmaxCrossEntropy
from ravine.memory import available_memory
from ravine.networks.as_module import as_module
from ravine.networks.batched import BatchedNetwork
from ravine.networks.mlp import Mlp
from ravine.networks.torch_module import NO_VARIANCE
from ravine.part import group_key
from ravine.protocols import LoadsWeights, Plan, SearchOptimizer, Tuning
from ravine.ranks import Ranks
from ravine.recipe import Recipe
from ravine.recipe_files import file_settings

LEAST_COPIES = 3  # of all weights: while training, at the best evaluation, as the model


def prepare(
    recipe: Recipe, frame: TableLike | None = None, ranks: Ranks | None = None
) -> tuple[Task, Recipe]:
    """The task of a recipe, and the recipe with everything that the data decide filled in."""
    task = load_task(recipe, frame, ranks)
    return task, resolve(recipe, task)


def load_task(recipe: Recipe, frame: TableLike | None = None, ranks: Ranks | None = None) -> Task:
    """The examples of a recipe's task, split and encoded; several ranks read a part each."""
    for place, file in file_settings(recipe):
        require_path(file, place)
    own: Any = recipe  # annotated by protocols, of which `load` knows the parts of ravine.data
    seed = recipe.split_seed
    return data.load(own.data, own.split, own.encoding, seed=seed, frame=frame, ranks=ranks)


def load_tasks(recipes: Sequence[Recipe], frame: TableLike | None = None) -> list[Task]:
    """The task of each recipe; where data, split and encoding are equal, one and the same."""
    loaded: dict[Any, Task] = {}
    tasks = []
    for recipe in recipes:
        parts = (recipe.data, recipe.split, recipe.encoding)
        key = (tuple(group_key(part) for part in parts), recipe.split_seed)
        if key not in loaded:
            loaded[key] = load_task(recipe, frame)
        tasks.append(loaded[key])
    return tasks


def resolve(recipe: Recipe, task: Task) -> Recipe:
    """The recipe with what the data decide (loss, metric, batch, epochs) filled in, and checked.

    Numbers are not embedded where the table has none. The loss follows from the kind of task, and
    so does the metric: R² for numbers, accuracy for classes, and where one class has over 80 % of
    the training examples balanced accuracy (of labels average precision). A batch has about n/30
    examples: a power of two between 16 and 256. Small tables get more epochs (300 below 1,300
    examples, 60 at 7,000 to 20,000, 20 above 60,000), since early stopping ends a network that no
    longer improves. Images cost more and need fewer epochs: batches of at most 128, 30 epochs below
    330 images, 8 above 1,250.
    """
    recipe = _with_loss(recipe, task)
    if recipe.class_weights == "balanced":
        _check_class_weights(task)
    recipe = _with_batch_and_epochs(_with_metric(recipe, task), task)
    if isinstance(recipe.network, Mlp) and len(task.signature.flags) == task.signature.numbers:
        recipe = replace(recipe, network=replace(recipe.network, numbers=None))  # none to embed
    check_size(recipe, task)
    check_augmentation(recipe.augment, task.signature.image)
    if isinstance(recipe.optimizer, SearchOptimizer):
        recipe.optimizer.check_memory(network_width(recipe, task))
    if recipe.tuning or isinstance(recipe.network, LoadsWeights):
        built = BatchedNetwork(recipe.network, task.signature)
        built.load_weights()  # raises here, before any work, where the weights cannot be read
        _check_tuning(recipe.tuning, built.layout, training_plan(recipe, task))
    if recipe.batch != "all" and batch_size(recipe, task) > task.train.count:
        what, do = f"batch is {recipe.batch}", 'make it smaller, or write batch = "all"'
        raise RecipeError(what, why=f"there are only {task.train.count} training examples", do=do)
    if batch_size(recipe, task) == 1:
        _check_batch_norms(recipe, task)
    return recipe


def _with_loss(recipe: Recipe, task: Task) -> Recipe:
    loss = ByTask() if recipe.loss is None else recipe.loss
    if isinstance(loss, ByTask) and task.kind == "regression":
        return replace(recipe, loss=losses.SquaredError())
    if isinstance(loss, ByTask):
        cross_entropy = SoftmaxCrossEntropy if task.kind == "classes" else BinaryCrossEntropy
        return replace(recipe, loss=cross_entropy(label_smoothing=loss.label_smoothing))
    if task.kind not in loss.tasks:
        names = ", ".join(c.__name__ for c in losses.ALL if task.kind in c.tasks)
        what, do = f"loss is {type(recipe.loss).__name__}", "leave loss out, or set data.task"
        raise RecipeError(what, why=f"the task is {task.kind}, for which there are {names}", do=do)
    return recipe


def _with_metric(recipe: Recipe, task: Task) -> Recipe:
    if recipe.metric is not None:
        return replace(recipe, metric=metrics.main_metric(task.kind, recipe.metric).name)
    known = task.validation if isinstance(task.train, RowGroups) else task.train
    if known is None or known.targets is None:
        return replace(recipe, metric=metrics.main_metric(task.kind).name)
    return replace(recipe, metric=metrics.suited_metric(task.kind, known.targets).name)


def _with_batch_and_epochs(recipe: Recipe, task: Task) -> Recipe:
    count = task.train.count
    of_images = task.signature.image is not None
    if recipe.batch is None:
        largest = 128 if of_images else 256
        power_of_two = 2 ** round(math.log2(max(1, count / 30)))
        recipe = replace(recipe, batch=min(largest, max(16, power_of_two), count))
    if recipe.epochs is None:
        least = 8 if of_images else min(60, max(20, 1_200_000 / count))
        wanted = (10_000 if of_images else 400_000) / count
        recipe = replace(recipe, epochs=int(min(30 if of_images else 300, max(least, wanted))))
    return recipe


def _check_class_weights(task: Task) -> None:
    """Raise `RecipeError` where the examples cannot be weighted by class."""
    if task.kind not in ("binary", "classes"):
        why = f"the task is {task.kind}: an example has no one class"
        raise RecipeError("class_weights is 'balanced'", why=why, do='set class_weights = "none"')
    if isinstance(task.train, RowGroups):
        what = "class_weights is 'balanced'"
        do = 'set class_weights = "none", or leave data.memory out'
        raise RecipeError(what, why="the training rows are read in pieces, unweighted", do=do)


def check_size(recipe: Recipe, task: Task) -> None:
    """Raise `RecipeError` where a recipe's networks cannot fit into the memory that is free."""
    width = network_width(recipe, task)
    needed = LEAST_COPIES * recipe.seeds * width * getattr(torch, recipe.precision).itemsize
    available = available_memory()
    if needed > available:
        networks = f"{recipe.seeds:,} networks of {width:,} weights"
        why = f"they take at least {needed / 1e9:,.0f} GB; {available / 1e9:,.0f} GB are free"
        raise RecipeError(networks, why=why, do="make the network smaller, or train fewer seeds")


def _check_tuning(parts: Sequence[Tuning], layout: Layout, plan: Plan) -> None:
    """Raise `RecipeError` where patterns match nothing, or no weight would ever train."""
    train_last = [part.lr_multipliers(layout, plan.steps - 1, plan) != 0 for part in parts]
    if parts and not bool(torch.cat(train_last).all(0).any()):
        what = "tuning freezes every weight to the end"
        raise RecipeError(what, why="nothing would learn", do="leave a layer free, such as output")


def _check_batch_norms(recipe: Recipe, task: Task) -> None:
    """Raise `RecipeError` where a batch norm would see one value at a time: torch is the judge."""
    signature = task.signature
    built = BatchedNetwork(recipe.network, signature)
    image = signature.image
    columns = (signature.numbers + len(signature.codes),)
    sizes = columns if image is None else (image.channels, image.height, image.width)
    try:
        as_module(built, signature, *built.start([recipe.seed]))(torch.zeros(1, *sizes))
    except ValueError as error:
        if NO_VARIANCE not in str(error):
            raise
        what, why = "batch is 1 and the network has batch norm", "one example has no variance"
        do = "make batch at least 2, or use LayerNorm"
        raise RecipeError(what, why=f"{why}: nothing would be normalized", do=do) from None


def batch_size(recipe: Recipe, task: Task) -> int:
    """Examples in a full batch of a resolved recipe."""
    assert recipe.batch is not None  # resolved
    return task.train.count if recipe.batch == "all" else recipe.batch


def training_plan(recipe: Recipe, task: Task) -> Plan:
    """How many steps a resolved recipe makes on a task."""
    assert recipe.epochs is not None  # resolved
    per_epoch = -(-task.train.count // batch_size(recipe, task))
    return Plan(steps=per_epoch * recipe.epochs, per_epoch=per_epoch)


def network_width(recipe: Recipe, task: Task) -> int:
    """How many weights one of the recipe's networks has."""
    return BatchedNetwork(recipe.network, task.signature).layout.width

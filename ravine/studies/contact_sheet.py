"""A contact sheet: training images, and what augmentation makes of them.

Letters: P draws, B images on the sheet, C channels, H rows and W columns of an image.
"""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.argument_checks import check_arguments
from ravine.augment import check_augmentation
from ravine.data import TableLike, Task
from ravine.errors import RecipeError
from ravine.protocols import Batch, ForwardContext
from ravine.recipe import Recipe
from ravine.reporting.plot_style import figure
from ravine.training.defaults import load_task

IMAGES_ON_SHEET = 6
DRAWS_PER_IMAGE = 7
IMAGE_INCHES = 1.05  # inches, of the longer side of an image
MAX_NAME_LENGTH = 16  # of a class's name


def contact_sheet(
    recipe: Recipe,
    frame: TableLike | None = None,
    *,
    images: int = IMAGES_ON_SHEET,
    draws: int = DRAWS_PER_IMAGE,
) -> Figure:
    """A figure with a row for each image: the original, then what networks get in the first step.

    Images come from the training split, each class in turn; each draw is that of another network
    (seeds from the recipe's on). They form one batch, so what is mixed in comes from the same
    sheet, and is named under the image. Raises `RecipeError` where the recipe has no augmentation,
    or the source no images.
    """
    check_arguments(contact_sheet, locals())
    if not recipe.augment:
        do = 'add augment = [{name = "Flip"}, {name = "Rotate"}] to the recipe file'
        raise RecipeError("the recipe has no augmentation", why="there is nothing to show", do=do)
    task = load_task(recipe, frame)
    check_augmentation(recipe.augment, getattr(task.encoder, "image", None))
    train = task.train_examples
    targets = train.targets
    assert targets is not None  # training examples have them
    classes = targets if task.kind in ("classes", "binary") else None
    chosen = in_turn(classes, train.count)[:images]
    originals = train.numbers[chosen].float() / 255
    augmented = augment_images(recipe, originals, targets[chosen], draws)
    return _draw_sheet(originals, augmented, targets=targets[chosen], task=task, recipe=recipe)


def augment_images(recipe: Recipe, originals: Tensor, targets: Tensor, draws: int) -> Batch:
    """What networks with seeds from the recipe's on get of images, [P, B, C, H, W]."""
    images, answers = (t.expand(draws, *t.shape) for t in (originals, targets))
    batch = Batch(images, targets=answers)
    seeds = range(recipe.seed, recipe.seed + draws)
    context = ForwardContext(training=True, seeds=seeds, batch=len(originals))
    for part in recipe.augment:
        batch = part(batch, context)
    return batch


def in_turn(classes: Tensor | None, count: int) -> Tensor:
    """The places of examples, the first of each class first, then the second of each, and so on.

    >>> in_turn(torch.tensor([0, 0, 1, 1, 0, 2]), 6).tolist()
    [0, 2, 5, 1, 3, 4]
    """
    if classes is None:
        return torch.arange(count)
    codes = classes.reshape(-1).long().numpy()
    turn = pd.Series(codes).groupby(codes).cumcount()
    return torch.from_numpy(np.lexsort((codes, turn)))


def _name(task: Task, target: Tensor) -> str:
    """What an example's target is called."""
    labels = task.encoder.target.labels
    if task.kind == "regression":
        return ", ".join(f"{v:.3g}" for v in task.encoder.target.decode(target[None])[0].tolist())
    if task.kind == "labels":
        found = [label for label, on in zip(labels, target.tolist(), strict=True) if on > 0.5]
        return _shorten(", ".join(found) or "none")
    return _shorten(labels[int(target.item())])


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_NAME_LENGTH else text[: MAX_NAME_LENGTH - 1] + "…"


def _draw_sheet(
    originals: Tensor, augmented: Batch, *, targets: Tensor, task: Task, recipe: Recipe
) -> Figure:
    rows = len(originals)
    columns = 1 + len(augmented.numbers)
    height, width = originals.shape[-2:]
    scale = IMAGE_INCHES / max(height, width)
    title = textwrap.fill(", ".join(map(repr, recipe.augment)), 110)
    shares, others = augmented.mixed_share, augmented.mixed_targets
    below = 0.0 if shares is None else 0.16
    wide = 1.1 + columns * (scale * width + 0.06)
    high = 0.5 + 0.16 * title.count("\n") + rows * (scale * height + 0.06 + below)
    sheet = figure(wide, high)
    grid = sheet.subplots(rows, columns, squeeze=False)
    for row in range(rows):
        _show(grid[row, 0], originals[row])
        grid[row, 0].set_ylabel(_name(task, targets[row]), rotation=0, ha="right", va="center")
        for draw in range(columns - 1):
            axes = grid[row, 1 + draw]
            _show(axes, augmented.numbers[draw, row])
            if shares is not None and others is not None and shares[draw, row] >= 0.005:
                mixed = f"{100 * float(shares[draw, row]):.0f} % from "
                axes.set_xlabel(mixed + _name(task, others[draw, row]), fontsize=7.5, labelpad=1)
    for column, axes in enumerate(grid[0]):
        axes.set_title(f"draw {column}" if column else "original", loc="center", fontsize=9)
    sheet.suptitle(title, fontsize=9)
    return sheet


def _show(axes: Any, shown: Tensor) -> None:
    values = shown.permute(1, 2, 0).clamp(0, 1).numpy()
    axes.imshow(values if values.shape[2] == 3 else values.mean(2), cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)

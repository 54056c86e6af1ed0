"""A contact sheet: training pictures as they are, and as the networks will see them.

Letters: N pictures, P draws, B pictures on the sheet, C channels, H rows and W columns of a
picture.
"""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.augment import check_augmentation
from ravine.data import TableLike, Task
from ravine.errors import RecipeError
from ravine.protocols import Batch, ForwardContext
from ravine.recipe import Recipe
from ravine.reporting.plot_style import figure
from ravine.training.defaults import load_task

PICTURES, DRAWS = 6, 7
SIDE = 1.05  # inches, of the longer side of a picture
LETTERS = 16  # of a class's name


def contact_sheet(
    recipe: Recipe, frame: TableLike | None = None, *, pictures: int = PICTURES, draws: int = DRAWS
) -> Any:
    """A figure with a row for each picture: first as it is, then as the first step shows it to
    networks.

    Pictures are taken from the training split, each class in turn; each draw is that of another
    network (seeds from the recipe's on). They form one batch, so what is mixed in comes from the
    same sheet, and is named under the picture. Raises `RecipeError` where the recipe augments
    nothing, or no pictures.
    """
    if not recipe.augment:
        raise RecipeError(
            "the recipe has no augmentation",
            why="there is nothing to show",
            do='add augment = [{name = "Flip"}, {name = "Rotate"}] to the recipe file',
        )
    task = load_task(recipe, frame)
    check_augmentation(recipe.augment, getattr(task.encoder, "image", None))
    train, targets = task.train_examples, task.train_examples.targets
    assert targets is not None  # training examples have them
    chosen = in_turn(targets if task.kind in ("classes", "binary") else None, train.count)[
        :pictures
    ]
    originals = train.numbers[chosen].float() / 255
    names = [_name(task, targets[i]) for i in chosen]
    seen = drawn(recipe, originals, targets[chosen], draws)
    return _drawn(originals, seen, names, lambda target: _name(task, target), recipe)


def drawn(recipe: Recipe, originals: Tensor, targets: Tensor, draws: int) -> Batch:
    """The batch of pictures [B, C, H, W] as networks with seeds from the recipe's on see it: [P, B,
    C, H, W].
    """
    batch = Batch(
        originals.expand(draws, *originals.shape), targets=targets.expand(draws, *targets.shape)
    )
    context = ForwardContext(
        training=True, seeds=range(recipe.seed, recipe.seed + draws), step=0, batch=len(originals)
    )
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
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], codes[order])
    turn = np.empty(count, np.int64)
    turn[order] = np.arange(count) - starts
    return torch.from_numpy(np.lexsort((codes, turn)))


def _name(task: Task, target: Tensor) -> str:
    """What an example's target is called."""
    labels = task.encoder.target.labels
    if task.kind == "regression":
        return ", ".join(f"{v:.3g}" for v in task.encoder.target.decode(target[None])[0].tolist())
    if task.kind == "labels":
        found = [label for label, on in zip(labels, target.tolist(), strict=True) if on > 0.5]
        return _short(", ".join(found) or "none")
    return _short(labels[int(target.item())])


def _short(text: str) -> str:
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _drawn(originals: Tensor, seen: Batch, names: list[str], name_of: Any, recipe: Recipe) -> Any:
    rows, columns = len(originals), 1 + len(seen.numbers)
    height, width = originals.shape[-2:]
    scale = SIDE / max(height, width)
    said = textwrap.fill(", ".join(map(repr, recipe.augment)), 110)
    under = 0.16 if seen.mixed_share is not None else 0.0
    picture = figure(
        1.1 + columns * (scale * width + 0.06),
        0.5 + 0.16 * said.count("\n") + rows * (scale * height + 0.06 + under),
    )
    for row, axes_of_row in enumerate(picture.subplots(rows, columns, squeeze=False)):
        for column, axes in enumerate(axes_of_row):
            shown = originals[row] if column == 0 else seen.numbers[column - 1, row]
            _show(axes, shown)
            if row == 0:
                axes.set_title(
                    "as it is" if column == 0 else f"draw {column}", loc="center", fontsize=9
                )
            if column == 0:
                axes.set_ylabel(names[row], rotation=0, ha="right", va="center")
            elif (
                seen.mixed_share is not None
                and seen.mixed_targets is not None
                and seen.mixed_share[column - 1, row] >= 0.005
            ):
                share = (
                    f"{100 * float(seen.mixed_share[column - 1, row]):.0f} % from "
                    f"{name_of(seen.mixed_targets[column - 1, row])}"
                )
                axes.set_xlabel(share, fontsize=7.5, labelpad=1)
    picture.suptitle(said, fontsize=9)
    return picture


def _show(axes: Any, shown: Tensor) -> None:
    values = shown.permute(1, 2, 0).clamp(0, 1).numpy()
    axes.imshow(values if values.shape[2] == 3 else values.mean(2), cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)

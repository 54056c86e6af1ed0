"""Augmentation on few images: digits that are shifted, rotated and stretched, mirrored, or left.

Letters: D draws of the training digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy import ndimage
from sklearn.datasets import load_digits

from ravine.augment import Crop, Flip, Rotate, Stretch
from ravine.catalog import named_recipe
from ravine.data import Images, Random
from ravine.networks.mlp import Mlp
from ravine.recipe import Recipe
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import Interval, t_interval
from ravine.studies.contact_sheet import augment_images
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import decide, draw_intervals, format_interval
from ravine_gallery.network_experiments import train_and_observe, trained_outputs, vary_all

AUGMENTATION_NAMES = ("as they are", "shifted, turned, stretched", "mirrored")
TEST_DIGITS = 797  # digits that no network trains on
BATCH_SIZE = 32


def _parts(flip: float, pixels: float, degrees: float, factor: float) -> tuple[Any, ...]:
    """The same four parts for all networks, of different strengths: they train as one cohort."""
    return (
        Flip(horizontal=flip),
        Crop(pixels=pixels, edges="zeros"),
        Rotate(degrees=degrees, edges="zeros"),
        Stretch(factor=factor, edges="zeros"),
    )


AUGMENTATION_PARTS = (
    _parts(0.0, 0.0, 0.0, 1.0),
    _parts(0.0, 1.0, 15.0, 1.15),
    _parts(0.5, 0.0, 0.0, 1.0),
)


@experiment(
    "augmentation",
    title="Augmentation on few images",
    claim="Networks trained on few images generalize better if the images are augmented (shifted, "
    "rotated, stretched) during training.",
    rows=("D5",),
    seconds=25,
)
def compare_augmentations(quick: bool) -> ExperimentOutcome:
    """Train on several draws of few digits, with and without augmentation, the same number of
    steps.

    Augmented digits take longer to learn: with 400 steps instead of 600 nothing is gained with 500
    of them.
    """
    sizes, draws, steps = ((50,), 4, 300) if quick else ((50, 150, 500), 8, 600)
    x, y = _large_digits()
    tables = [
        np.array([_accuracies(x, y, size=size, steps=steps, seed=s) for s in range(draws)])
        for size in sizes
    ]  # [D, 3] each
    gains = [t_interval(table[:, 1] - table[:, 0]) for table in tables]
    mirrored = [t_interval(table[:, 2] - table[:, 0]) for table in tables]
    numbers: dict[str, float] = {}
    for size, table, gain, loss in zip(sizes, tables, gains, mirrored, strict=True):
        means = zip(AUGMENTATION_NAMES, table.mean(0).tolist(), strict=True)
        numbers |= {f"accuracy, {size} digits, {name}": mean for name, mean in means}
        numbers |= {
            f"gain, {size} digits": gain.value,
            f"gain low, {size} digits": gain.low,
            f"mirrored gain, {size} digits": loss.value,
        }

    def by_size(found: list[Interval]) -> str:
        points = [format_interval(each, "+.1f", scale=100) for each in found]
        return "; ".join(f"{p} with {size}" for p, size in zip(points, sizes, strict=True))

    said = (
        "Training digits that are shifted by up to a pixel of 16, rotated by up to 15 degrees and "
        f"stretched by up to 15 % change the accuracy on other digits by {by_size(gains)} "
        f"(percentage points, pairs of networks over {draws} draws of the training digits, {steps} "
        f"steps). Mirrored digits, which nobody writes, change it by {by_size(mirrored)}."
    )
    figures = {
        "Accuracy by the number of training digits": _draw_sizes(tables, sizes, gains, mirrored),
        "What the networks see": _draw_digits(x, y),
    }
    return ExperimentOutcome(held=decide(gains), said=said, numbers=numbers, figures=figures)


def _large_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits of 8 x 8, interpolated to 16 x 16 so that a shift by a pixel is a
    small one.
    """
    found: Any = load_digits()
    large: Any = ndimage.zoom(found.images, (1, 2, 2), order=1, grid_mode=True, mode="nearest")
    return (large * (255 / 16)).round().astype(np.uint8), found.target


def _recipe(size: int, steps: int) -> Recipe:
    """128 hidden units; about as many steps whatever the number of training digits."""
    settings = {
        "data": Images(task="classes"),
        "split": Random(validation=0.0, test=0.0),
        "network": Mlp(hidden=(128,)),
        "optimizer.lr": 0.004,
        "batch": BATCH_SIZE,
        "seeds": 1,
        "epochs": max(1, round(steps / -(-size // BATCH_SIZE))),
    }
    return vary_all(named_recipe("image"), settings)


def _accuracies(x: np.ndarray, y: np.ndarray, *, size: int, steps: int, seed: int) -> list[float]:
    """The accuracy with each augmentation on digits not trained on, for one draw of the training
    digits and one start.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    test, train = order[:TEST_DIGITS], order[TEST_DIGITS : TEST_DIGITS + size]
    recipe = _recipe(size, steps).vary("seed", seed)
    recipes = [recipe.vary("augment", parts) for parts in AUGMENTATION_PARTS]
    cohort, task = train_and_observe(recipes, (x[train], y[train]))
    outputs = trained_outputs(cohort, torch.from_numpy(x[test])[None, :, None])
    predictions = np.asarray(task.classes)[outputs.argmax(2).numpy()]
    return (predictions == y[test]).mean(1).tolist()


def _draw_sizes(
    tables: list[np.ndarray], sizes: tuple[int, ...], gains: list[Interval], lost: list[Interval]
) -> Figure:
    picture = figure(9.0, 3.5)
    left, right = picture.subplots(1, 2)
    places = np.arange(len(sizes))
    for i, name in enumerate(AUGMENTATION_NAMES):
        at, found = places + 0.09 * (i - 1), [t_interval(table[:, i]) for table in tables]
        draw_intervals(left, at, found, scale=100, color=SERIES_COLORS[i], label=name)
        left.plot(at, [100 * f.value for f in found], color=SERIES_COLORS[i], linewidth=0.8)
    left.set(ylabel="accuracy on other digits, %", title="Mean over draws, 95 % interval")
    left.legend(loc="lower right")
    for i, found in enumerate((gains, lost), 1):
        draw_intervals(right, places + 0.09 * (i - 1.5), found, scale=100, color=SERIES_COLORS[i])
    right.axhline(0, color=GRAY_COLOR, linestyle="--", linewidth=1)
    right.set(ylabel="difference, percentage points", title="Against digits as they are, same draw")
    for axes in (left, right):
        axes.set_xticks(places, [str(size) for size in sizes])
        axes.set(xlabel="training digits", xlim=(-0.4, len(sizes) - 0.6))
    return picture


def _draw_digits(x: np.ndarray, y: np.ndarray) -> Figure:
    chosen = [int(np.flatnonzero(y == digit)[0]) for digit in (2, 3, 5, 7)]
    originals = torch.from_numpy(x[chosen])[:, None].float() / 255
    classes = torch.from_numpy(y[chosen])
    rows = [torch.stack([originals, originals])] + [
        augment_images(named_recipe("image").vary("augment", parts), originals, classes, 2).numbers
        for parts in AUGMENTATION_PARTS[1:]
    ]  # [2, 4, 1, 16, 16] each
    picture = figure(7.2, 2.3)
    grid = picture.subplots(3, 8)
    for panels, name, shown in zip(grid, AUGMENTATION_NAMES, rows, strict=True):
        for column, axes in enumerate(panels):
            axes.imshow(shown[column % 2, column // 2, 0].numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        panels[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return picture

"""Augmentation on few images: digits shifted, turned and stretched a little, against mirrored ones
and none (D5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from sklearn.datasets import load_digits

from ravine.augment import Crop, Flip, Rotate, Stretch
from ravine.catalog import named_recipe
from ravine.data import Images, Random
from ravine.networks.mlp import Mlp
from ravine.protocols import Batch, ForwardContext
from ravine.recipe import Recipe
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.studies.contact_sheet import drawn
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval, watched

WAYS = ("as they are", "shifted, turned, stretched", "mirrored")
JUDGED = 797  # digits that no network trains on
BATCH = 32


def augmented(flip: float, pixels: float, degrees: float, factor: float) -> tuple[Any, ...]:
    """The same four parts for all networks, of other strengths: they train as one cohort."""
    return (
        Flip(horizontal=flip),
        Crop(pixels=pixels, edges="zeros"),
        Rotate(degrees=degrees, edges="zeros"),
        Stretch(factor=factor, edges="zeros"),
    )


PARTS = (
    augmented(0.0, 0.0, 0.0, 1.0),
    augmented(0.0, 1.0, 15.0, 1.15),
    augmented(0.5, 0.0, 0.0, 1.0),
)


def recipe(size: int, steps: int) -> Recipe:
    """128 hidden units; about as many steps whatever the number of training pictures."""
    found = (
        named_recipe("image")
        .vary("data", Images(task="classes"))
        .vary("split", Random(validation=0.0, test=0.0))
    )
    found = (
        found.vary("network", Mlp(hidden=(128,))).vary("optimizer.lr", 0.004).vary("batch", BATCH)
    )
    return found.vary("seeds", 1).vary("epochs", max(1, round(steps / -(-size // BATCH))))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits of 8 x 8, interpolated to 16 x 16 so that a shift by a pixel is a
    small one.
    """
    found: Any = load_digits()
    large: Any = ndimage.zoom(found.images, (1, 2, 2), order=1, grid_mode=True, mode="nearest")
    return (large * (255 / 16)).round().astype(np.uint8), found.target


def accuracies(x: np.ndarray, y: np.ndarray, *, size: int, steps: int, seed: int) -> list[float]:
    """The accuracy of each way on digits not trained on, for one draw of the training digits and
    one start.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    judged, trained = order[:JUDGED], order[JUDGED : JUDGED + size]
    chosen = [recipe(size, steps).vary("augment", parts).vary("seed", seed) for parts in PARTS]
    cohort, task = watched(chosen, lambda cohort, task: None, (x[trained], y[trained]))
    batch = Batch(torch.from_numpy(x[judged])[None, :, None])
    tensors = cohort.network.layout.views(cohort.ended.tensors["weights"])
    outputs = cohort.network(tensors, batch, ForwardContext(training=False))
    said = np.asarray(task.classes)[outputs.argmax(2).numpy()]
    return (said == y[judged]).mean(1).tolist()


def run(quick: bool) -> Outcome:
    """Train on several draws of few digits, with and without augmentation, the same number of
    steps.

    Augmented digits take longer to learn: with 400 steps instead of 600 nothing is gained with 500
    of them.
    """
    sizes, draws, steps = ((100,), 2, 60) if quick else ((50, 150, 500), 8, 600)
    x, y = digits()
    found = np.array(
        [[accuracies(x, y, size=size, steps=steps, seed=s) for s in range(draws)] for size in sizes]
    )
    gains = [interval(table[:, 1] - table[:, 0]) for table in found]
    lost = [interval(table[:, 2] - table[:, 0]) for table in found]
    numbers: dict[str, float] = {}
    for size, table, gain, loss in zip(sizes, found, gains, lost, strict=True):
        numbers |= {
            f"accuracy, {size} digits, {way}": float(table[:, i].mean())
            for i, way in enumerate(WAYS)
        }
        numbers |= {
            f"gain, {size} digits": gain.mean,
            f"gain low, {size} digits": gain.low,
            f"mirrored gain, {size} digits": loss.mean,
        }
    better, worse = [gain.low > 0 for gain in gains], [gain.high < 0 for gain in gains]
    held = True if all(better) else False if all(worse) else None
    each = "; ".join(f"{points(gain)} with {size}" for size, gain in zip(sizes, gains, strict=True))
    mirrored = "; ".join(
        f"{points(loss)} with {size}" for size, loss in zip(sizes, lost, strict=True)
    )
    said = (
        f"Training digits shifted by a pixel of 16, turned by up to 15 degrees and stretched by up "
        f"to 15 % change the "
        f"accuracy on other digits by {each} (percentage points, pairs of networks over {draws} "
        f"draws of the training "
        f"digits, {steps} steps). Mirrored digits, which nobody writes, change it by {mirrored}."
    )
    figures = {
        "Accuracy by the number of training digits": _picture(found, sizes, gains, lost),
        "What the networks see": _seen(x, y),
    }
    return Outcome(held=held, said=said, numbers=numbers, figures=figures)


def points(found: Interval) -> str:
    """A difference of shares in percentage points.

    >>> points(Interval(0.02, 0.01, 0.03))
    '+2.0 [+1.0, +3.0]'
    """
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _picture(
    found: np.ndarray, sizes: tuple[int, ...], gains: list[Interval], lost: list[Interval]
) -> Any:
    picture = figure(9.0, 3.5)
    left, right = picture.subplots(1, 2)
    places = np.arange(len(sizes))
    for i, way in enumerate(WAYS):
        spread = [interval(table[:, i]) for table in found]
        mean, low, high = 100 * np.array(spread).T
        intervals(left, places + 0.09 * (i - 1), mean, low, high, color=COLORS[i], label=way)
        left.plot(places + 0.09 * (i - 1), mean, color=COLORS[i], linewidth=0.8)
    left.set(ylabel="accuracy on other digits, %", title="Mean over draws, 95 % interval")
    left.legend(loc="lower right")
    for i, spread in enumerate((gains, lost), 1):
        mean, low, high = 100 * np.array(spread).T
        intervals(right, places + 0.09 * (i - 1.5), mean, low, high, color=COLORS[i])
    right.axhline(0, color=GRAY, linestyle="--", linewidth=1)
    right.set(ylabel="difference, percentage points", title="Against digits as they are, same draw")
    for axes in (left, right):
        axes.set_xticks(places, [str(size) for size in sizes])
        axes.set(xlabel="training digits", xlim=(-0.4, len(sizes) - 0.6))
    return picture


def _seen(x: np.ndarray, y: np.ndarray) -> Any:
    chosen = [int(np.flatnonzero(y == digit)[0]) for digit in (2, 3, 5, 7)]
    originals = torch.from_numpy(x[chosen])[:, None].float() / 255
    rows = [
        originals,
        *(
            drawn(
                named_recipe("image").vary("augment", parts),
                originals,
                torch.from_numpy(y[chosen]),
                2,
            ).numbers
            for parts in PARTS[1:]
        ),
    ]
    picture = figure(7.2, 2.3)
    grid = picture.subplots(3, 8)
    for row, (way, shown) in enumerate(zip(WAYS, rows, strict=True)):
        shown = shown if shown.dim() == 5 else torch.stack([shown, shown])
        for column, axes in enumerate(grid[row]):
            axes.imshow(shown[column % 2, column // 2, 0].numpy(), cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        grid[row][0].set_ylabel(way, rotation=0, ha="right", va="center")
    return picture


EXPERIMENT = Experiment(
    name="augmentation",
    title="Augmentation on few images",
    rows=("D5",),
    claim="Small sets of images that are augmented while training (shifted, turned, stretched) "
    "generalize better.",
    seconds=25,
    run=run,
)

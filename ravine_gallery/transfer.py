"""Transfer: features and fine-tuning against training from scratch, by data size and similarity.

Networks that have learned six shapes from 3,000 pictures, at any place and in any size, learn from
few pictures four new shapes (a similar task) and handwritten digits (a dissimilar one). Where the
environment variable RAVINE_EMOJI names the folder of the npm package emoji-datasource-google
(16.0.0), ImageNet's EfficientNet-Lite0 is tried on its pictures, too. Letters: N pictures, D draws
of the examples, S data sizes.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from ravine.data import Data, Given
from ravine.data.image_file import pillow_module
from ravine.data.images import Images
from ravine.finetuning import DepthRates, LastLayers
from ravine.networks.conv import Conv
from ravine.networks.mlp import Mlp
from ravine.networks.pretrained import RANDOM_WEIGHTS, Continued, Pretrained
from ravine.optimizers import AdamW
from ravine.recipe import Recipe
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.schedules import Cosine
from ravine.serialization import vary
from ravine.statistics import Interval, t_interval
from ravine.studies.feature_extraction import feature_table, features
from ravine.training.train import Run, train, train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_intervals, format_interval, format_percent
from ravine_gallery.network_experiments import make_recipe, model_of, vary_all

TRANSFER_WAYS = ("scratch", "features", "fine-tuned")
SMALL_NETWORK = Mlp(hidden=(128, 64))
TRANSFER_STEPS = 100
PICTURE_SIDE = 16
KNOWN_SHAPES = ("disk", "square", "ring", "plus", "bar", "triangle")
NEW_SHAPES = ("diamond", "frame", "cross", "post")
TASK_TITLES = {"like": "A similar task: new shapes", "unlike": "A dissimilar task: digits"}
EMOJI_VARIABLE = "RAVINE_EMOJI"


@experiment(
    "transfer",
    title="Transfer: small data sets profit from what was learned on large ones",
    claim="On a small data set, features of a network trained on a similar, larger one, or "
    "fine-tuning it, beat training from scratch; the more data there are and the less similar the "
    "tasks, the smaller the gain.",
    rows=("T1", "T2"),
    seconds=20,
)
def compare_transfer(quick: bool) -> ExperimentOutcome:
    """Compare the ways on shapes and digits, and on emoji where their folder is given."""
    draws, epochs, sizes = (4, 4, (3,)) if quick else (6, 10, (3, 10, 40))
    accuracy = _shape_accuracies(sizes, draws, epochs)
    gain = {
        f"{way}, {task}": [
            t_interval(column)
            for column in (accuracy[f"{way}, {task}"] - accuracy[f"scratch, {task}"]).T
        ]
        for task in TASK_TITLES
        for way in TRANSFER_WAYS[1:]
    }
    numbers: dict[str, float] = {}
    for name, values in accuracy.items():
        means = zip(sizes, values.mean(0).tolist(), strict=True)
        numbers |= {f"{name}, {size} a class": mean for size, mean in means}
    for name, found in gain.items():
        for size, value in zip(sizes, found, strict=True):
            numbers |= {
                f"gain of {name}, {size} a class": value.value,
                f"gain of {name}, {size} a class, low": value.low,
            }
    ends = {
        name: " and ".join(map(format_percent, found[:: max(1, len(found) - 1)]))
        for name, found in gain.items()
    }
    said = (
        "Accuracy gained over training from scratch, with "
        f"{' and with '.join(str(size) for size in sizes[:: max(1, len(sizes) - 1)])} pictures of "
        f"each class. New shapes: features {ends['features, like']}, fine-tuned "
        f"{ends['fine-tuned, like']}. Digits, which are not similar to shapes: features "
        f"{ends['features, unlike']}, fine-tuned {ends['fine-tuned, unlike']}."
    )
    figures = {
        "By data size": _draw_sizes(sizes, accuracy),
        "What to do when": _draw_gains(sizes, gain),
    }
    similar, tuned = gain["features, like"][0], gain["fine-tuned, like"][0]
    less = gain["features, unlike"][0].high < similar.low
    held = bool(similar.low > 0 and tuned.low > 0 and less)
    folder = os.environ.get(EMOJI_VARIABLE)
    if folder and not quick:
        emoji_sizes = (5, 10, 25)
        found = _emoji_accuracies(Path(folder), emoji_sizes, 3, 60)
        figures["Emoji, by data size"] = _draw_emoji(emoji_sizes, found)
        for name, values in found.items():
            means = zip(emoji_sizes, values.mean(0).tolist(), strict=True)
            numbers |= {f"emoji, {name}, {size} a class": mean for size, mean in means}
        scratch = np.maximum(found["scratch"], found["scratch, small network"])
        ahead = t_interval(found["features"][:, 0] - scratch[:, 0])
        said += (
            f" On {emoji_sizes[0]} emoji of each of nine categories, a head on ImageNet's features "
            f"gains {format_percent(ahead)} over the better of two networks from scratch."
        )
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


# Shapes and digits


def draw_shapes(names: Sequence[str], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` noisy gray pictures [N, 1, 16, 16] of each shape, at random places and in random
    sizes; and the names.
    """
    noise = np.random.default_rng(seed)
    y = np.repeat(names, count)
    size = noise.uniform(3, 5.5, (len(y), 1, 1))
    middle = noise.uniform(5.5, PICTURE_SIDE - 6.5, (2, len(y), 1, 1))
    grid = np.mgrid[:PICTURE_SIDE, :PICTURE_SIDE].astype(float)
    v, u = ((axis - m) / size for axis, m in zip(grid, middle, strict=True))
    a, b, far = np.abs(u), np.abs(v), np.hypot(u, v)
    largest = np.maximum(a, b)
    forms = {
        "disk": far < 1,
        "square": largest < 0.9,
        "ring": (far < 1) & (far > 0.55),
        "bar": (b < 0.35) & (a < 1),
        "plus": ((a < 0.35) | (b < 0.35)) & (largest < 1),
        "triangle": (v < 0.8) & (v > 2 * a - 1),
        "diamond": a + b < 1.1,
        "frame": (largest < 0.95) & (largest > 0.5),
        "post": (a < 0.35) & (b < 1),
        "cross": (np.abs(a - b) < 0.35) & (largest < 1),
    }
    inside = np.concatenate([forms[name][y == name] for name in names])
    X = 0.25 + 0.5 * inside + noise.normal(0, 0.15, inside.shape)
    return (255 * X.clip(0, 1)).astype(np.uint8)[:, None], y


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits at twice their size [N, 1, 16, 16], and their names."""
    X, y = load_digits(return_X_y=True)
    pictures = (15.9 * np.asarray(X)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return pictures.repeat(2, axis=2).repeat(2, axis=3), np.array([f"digit {c}" for c in y])


def draw_split(y: np.ndarray, count: int, tests: int, draw: int) -> tuple[Given, np.ndarray]:
    """`count` examples of each class to train on, and the places of `tests` of each to test on.

    A draw's larger sets contain its smaller ones; all have the same tests.
    """
    generators = ((np.random.default_rng(draw), name) for name in np.unique(y))
    orders = [generator.permutation(np.flatnonzero(y == name)) for generator, name in generators]
    rows = tuple(int(i) for order in orders for i in order[:count])
    tested = np.concatenate([order[-tests:] for order in orders])
    return Given(train_rows=rows, validation=0.0), tested


def _recipe(epochs: int, batch: int = 10) -> Recipe:
    """AdamW with a cosine schedule, no early stopping: the same for every way."""
    recipe = make_recipe(optimizer=AdamW(lr=0.01), schedule=Cosine(), epochs=epochs, batch=batch)
    return recipe.vary("data", Images())


def _epochs(steps: int, examples: int, batch: int) -> int:
    """How many epochs make so many steps: every data size gets the same work."""
    return max(1, round(steps / -(-examples // batch)))


def _accuracy(run: Run, pictures: Any, y: np.ndarray) -> float:
    """The share of pictures that a run's model classifies correctly."""
    answers = model_of(run).predict(pictures).iloc[:, 0]
    return float(np.mean(answers.to_numpy() == y))


def _ways(recipe: Recipe, weights: str, member: int) -> dict[str, Recipe]:
    """The recipe from scratch, with all but a new output layer frozen, and with nothing frozen."""
    known = recipe.vary("network", Continued(network=SMALL_NETWORK, weights=weights, member=member))
    return {
        "scratch": recipe.vary("network", SMALL_NETWORK),
        "features": known.vary("tuning", (LastLayers(count=1),)),
        "fine-tuned": known.vary("tuning", (DepthRates(decay=0.7),)),
    }


def _shape_accuracies(sizes: Sequence[int], draws: int, epochs: int) -> dict[str, np.ndarray]:
    """Test accuracy [D, S] by way and task: "scratch, like", ... Each draw has its own network that
    knows shapes.
    """
    accuracy: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        X, y = draw_shapes(KNOWN_SHAPES, 500, 0)
        everything = Given(train_rows=tuple(range(len(y))), validation=0.0)
        known = vary_all(
            _recipe(epochs, batch=32),
            {"seeds": draws, "network": SMALL_NETWORK, "split": everything},
        )
        train(known, (X, y), out=f"{folder}/known", workers=1)
        for task in TASK_TITLES:
            X, y = draw_shapes(NEW_SHAPES, 150, 1) if task == "like" else _digits()
            places, recipes = [], []
            for d in range(draws):
                for s, size in enumerate(sizes):
                    split, test = draw_split(y, size, 60, d)
                    recipe = _recipe(_epochs(TRANSFER_STEPS, len(set(y)) * size, 10))
                    recipe = recipe.vary("split", split).vary("seed", d)
                    for way, varied in _ways(recipe, f"{folder}/known", d).items():
                        places.append((way, d, s, test))
                        recipes.append(varied)
            runs = train_all(recipes, (X, y), workers=1)
            for (way, d, s, test), run in zip(places, runs, strict=True):
                found = accuracy.setdefault(f"{way}, {task}", np.full((draws, len(sizes)), np.nan))
                found[d, s] = _accuracy(run, X[test], y[test])
    return accuracy


# Emoji


def _emoji(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` pictures [N, 3, 64, 64] of each of nine categories, one for each emoji: no variants
    of skin or hair.
    """
    by_category: dict[str, list[str]] = {}
    for entry in json.loads((folder / "emoji.json").read_text("utf-8")):
        if entry["has_img_google"] and entry["category"] != "Component":
            by_category.setdefault(entry["category"], []).append(entry["image"])
    pictures, names = [], []
    for category, files in sorted(by_category.items()):
        for place in np.random.default_rng(0).permutation(len(files))[:count]:
            with pillow_module().open(folder / "img" / "google" / "64" / files[place]) as opened:
                picture = opened.convert("RGBA")
            white = pillow_module().new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            pictures.append(np.asarray(white.convert("RGB")).transpose(2, 0, 1))
            names.append(category)
    return np.stack(pictures), np.array(names)


def _emoji_accuracies(
    folder: Path, sizes: Sequence[int], draws: int, steps: int
) -> dict[str, np.ndarray]:
    """Test accuracy [D, S] of heads on ImageNet's features, of fine-tuning, and of two networks
    from scratch.
    """
    X, y = _emoji(folder, max(sizes) + 20)
    # small pictures, for time; features are cheap enough for the size at which it learned
    body = Pretrained(size=64)
    random = vary(vary(body, "weights", RANDOM_WEIGHTS), "statistics", "batch")
    table = feature_table(features(vary(body, "size", None), X))
    whole = _recipe(1, batch=15).vary("optimizer.lr", 0.001)
    head = {"data": Data(target=("answer",)), "network": Mlp(hidden=()), "optimizer.lr": 0.002}
    tuned = {"network": body, "tuning": (DepthRates(decay=0.8),)}
    kinds = {
        "features": vary_all(whole, head),
        "fine-tuned": vary_all(whole, tuned),
        "scratch": whole.vary("network", random),
        "scratch, small network": whole.vary("network", Conv(channels=(16, 32, 64), hidden=(64,))),
    }
    accuracy = {kind: np.full((draws, len(sizes)), np.nan) for kind in kinds}
    for kind, recipe in kinds.items():
        for d in range(draws):
            for s, size in enumerate(sizes):
                split, test = draw_split(y, size, 20, d)
                settings = {"split": split, "seed": d, "epochs": _epochs(steps, 9 * size, 15)}
                here = vary_all(recipe, settings)
                if kind == "features":
                    run, tested = train(here, table.assign(answer=y), workers=1), table.iloc[test]
                else:
                    run, tested = train(here, (X, y), workers=1), X[test]
                accuracy[kind][d, s] = _accuracy(run, tested, y[test])
    return accuracy


# Pictures


def _draw_sizes(sizes: Sequence[int], accuracy: Mapping[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 3.9)
    panels = picture.subplots(1, 2, sharey=True)
    for ax, (task, title) in zip(panels, TASK_TITLES.items(), strict=True):
        found = {way: accuracy[f"{way}, {task}"] for way in TRANSFER_WAYS}
        _draw_accuracies(ax, sizes, found, guess=25 if task == "like" else 10)
        ax.set_title(title)
    panels[0].set_ylabel("test accuracy, %")
    panels[1].legend(loc="lower right", bbox_to_anchor=(1, 0.12))
    return picture


def _draw_accuracies(
    ax: Axes, sizes: Sequence[int], accuracy: Mapping[str, np.ndarray], *, guess: float
) -> None:
    """Mean and interval by data size, side by side, over the accuracy of guessing."""
    for i, (name, values) in enumerate(accuracy.items()):
        found = [t_interval(column) for column in values.T]
        at = [size * 1.04 ** (i - (len(accuracy) - 1) / 2) for size in sizes]
        ax.plot(at, [100 * each.value for each in found], color=SERIES_COLORS[i], label=name)
        draw_intervals(ax, at, found, scale=100, color=SERIES_COLORS[i])
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="pictures of each class; mean, 95 % interval", ylim=(0, 100))
    ax.axhline(guess, color=GRAY_COLOR, linestyle="--", linewidth=0.8)
    style: Any = {"xytext": (0, 3), "textcoords": "offset points", "color": GRAY_COLOR}
    ax.annotate("guessing", (sizes[0], guess), **style)


def _draw_gains(sizes: Sequence[int], gain: Mapping[str, list[Interval]]) -> Figure:
    """Data size × similarity: what each way gains over scratch, in points of accuracy."""
    picture = figure(9.6, 2.2)
    ax = picture.subplots()
    ax.axis("off")
    labels = {"like": "similar task", "unlike": "dissimilar task"}
    rows = [(way, task) for task in TASK_TITLES for way in TRANSFER_WAYS[1:]]
    found = [gain[f"{way}, {task}"] for way, task in rows]
    table = ax.table(
        [[format_interval(each, "+.1f", scale=100) for each in row] for row in found],
        rowLabels=[f"{labels[task]}, {way}" for way, task in rows],
        colLabels=[f"{size} a class" for size in sizes],
        loc="center",
        cellLoc="center",
    )
    table.scale(1, 1.6)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#D0D0D0")
        if row > 0 and column >= 0:
            low, high = found[row - 1][column][1:]
            cell.set_facecolor("#D5EEE5" if low > 0 else "#FBE3D3" if high < 0 else "white")
    ax.set_title(
        "Accuracy gained over training from scratch, points (95 %): green surely more, orange "
        "surely less"
    )
    return picture


def _draw_emoji(sizes: Sequence[int], accuracy: Mapping[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.9)
    ax = picture.subplots()
    _draw_accuracies(ax, sizes, accuracy, guess=100 / 9)
    ax.set(ylabel="test accuracy, %", title="Nine categories of emoji, network from ImageNet")
    ax.legend(loc="upper left")
    return picture

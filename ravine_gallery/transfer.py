"""Transfer: features and fine-tuning against training from scratch, by data size and by similarity
(T1, T2).

Networks that have learned six shapes from 3,000 pictures, at any place and in any size, learn from
few pictures four new shapes (a like task) and handwritten digits (an unlike one). Where the
environment variable RAVINE_EMOJI names the folder of the npm package emoji-datasource-google
(16.0.0), ImageNet's EfficientNet-Lite0 is shown on its pictures, too. Letters: N pictures, D draws
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
from sklearn.datasets import load_digits

from ravine.catalog import named_recipe
from ravine.data import Data, Given
from ravine.data.image_file import pillow_module
from ravine.data.images import Images
from ravine.finetuning import DepthRates, LastLayers
from ravine.networks.conv import Conv
from ravine.networks.mlp import Mlp
from ravine.networks.pretrained import RANDOM_WEIGHTS, Continued, Pretrained
from ravine.optimizers import AdamW
from ravine.recipe import Recipe
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.schedules import Cosine
from ravine.serialization import vary
from ravine.studies.feature_extraction import feature_table, features
from ravine.training.train import train, train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import interval, percent

WAYS = ("scratch", "features", "fine-tuned")
SMALL = Mlp(hidden=(128, 64))
STEPS = 100
SIDE = 16
KNOWN, NEW = (
    ("disk", "square", "ring", "plus", "bar", "triangle"),
    ("diamond", "frame", "cross", "post"),
)
TASKS = {"like": "A like task: new shapes", "unlike": "An unlike task: digits"}
EMOJI = "RAVINE_EMOJI"


def base(epochs: int) -> Recipe:
    """AdamW on batches of ten with a cosine, no early stopping: the same for every way."""
    found = (
        named_recipe("plain")
        .vary("data", Images())
        .vary("optimizer", AdamW(lr=0.01))
        .vary("schedule", Cosine())
    )
    return found.vary("epochs", epochs).vary("batch", 10)


def shapes(names: Sequence[str], count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` noisy gray pictures [N, 1, 16, 16] of each shape, at random places and in random
    sizes; and the names.
    """
    noise = np.random.default_rng(seed)
    y = np.repeat(names, count)
    size = noise.uniform(3, 5.5, (len(y), 1, 1))
    middle = noise.uniform(5.5, SIDE - 6.5, (2, len(y), 1, 1))
    v, u = (
        (axis - m) / size
        for axis, m in zip(np.mgrid[:SIDE, :SIDE].astype(float), middle, strict=True)
    )
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
    drawn = np.concatenate([forms[name][y == name] for name in names])
    X = 0.25 + 0.5 * drawn + noise.normal(0, 0.15, drawn.shape)
    return (255 * X.clip(0, 1)).astype(np.uint8)[:, None], y


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits at twice their size [N, 1, 16, 16], and their names."""
    X, y = load_digits(return_X_y=True)
    X = (
        (15.9 * np.asarray(X))
        .astype(np.uint8)
        .reshape(-1, 1, 8, 8)
        .repeat(2, axis=2)
        .repeat(2, axis=3)
    )
    return X, np.array([f"digit {c}" for c in y])


def drawn(y: np.ndarray, count: int, tests: int, draw: int) -> tuple[Given, np.ndarray]:
    """`count` examples of each class to train on, and the places of `tests` of each to test on.

    A draw's larger sets hold its smaller ones; all are tested on the same.
    """
    orders = [
        np.random.default_rng(draw).permutation(np.flatnonzero(y == name)) for name in np.unique(y)
    ]
    rows = tuple(int(i) for order in orders for i in order[:count])
    return Given(train_rows=rows, validation=0.0), np.concatenate(
        [order[-tests:] for order in orders]
    )


def epochs_of(steps: int, examples: int, batch: int) -> int:
    """How many epochs make so many steps: every data size gets the same work."""
    return max(1, round(steps / -(-examples // batch)))


def accuracy_of(run: Any, pictures: Any, y: np.ndarray) -> float:
    """The share of pictures that a run's model names rightly."""
    assert run.model is not None
    answers = run.model.predict(pictures).iloc[:, 0]
    return float(np.mean(answers.to_numpy() == y))


def ways_of(recipe: Recipe, weights: str, member: int) -> dict[str, Recipe]:
    """The recipe from scratch, with only its output layer new and free, and with all of it free."""
    known = recipe.vary("network", Continued(network=SMALL, weights=weights, member=member))
    return {
        "scratch": recipe.vary("network", SMALL),
        "features": known.vary("tuning", (LastLayers(count=1),)),
        "fine-tuned": known.vary("tuning", (DepthRates(decay=0.7),)),
    }


def on_shapes(sizes: Sequence[int], draws: int, first: int) -> dict[str, np.ndarray]:
    """Test accuracy [D, S] by way and task: "scratch, like", ... Each draw has its own network that
    knows shapes.
    """
    accuracy: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        X, y = shapes(KNOWN, 500, 0)
        known = base(first).vary("batch", 32).vary("seeds", draws).vary("network", SMALL)
        train(
            known.vary("split", Given(train_rows=tuple(range(len(y))), validation=0.0)),
            (X, y),
            out=f"{folder}/known",
            workers=1,
        )
        for task in TASKS:
            X, y = shapes(NEW, 150, 1) if task == "like" else digits()
            chosen, recipes = [], []
            for d in range(draws):
                for s, size in enumerate(sizes):
                    split, test = drawn(y, size, 60, d)
                    recipe = (
                        base(epochs_of(STEPS, len(set(y)) * size, 10))
                        .vary("split", split)
                        .vary("seed", d)
                    )
                    for way, varied in ways_of(recipe, f"{folder}/known", d).items():
                        chosen.append((way, d, s, test))
                        recipes.append(varied)
            for (way, d, s, test), done in zip(
                chosen, train_all(recipes, (X, y), workers=1), strict=True
            ):
                found = accuracy.setdefault(f"{way}, {task}", np.full((draws, len(sizes)), np.nan))
                found[d, s] = accuracy_of(done, X[test], y[test])
    return accuracy


# Emoji


def emoji(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` pictures [N, 3, 64, 64] of each of nine categories, one for each emoji: no variants
    of skin or hair.
    """
    told = json.loads((folder / "emoji.json").read_text("utf-8"))
    by_category: dict[str, list[str]] = {}
    for entry in told:
        if entry["has_img_google"] and entry["category"] != "Component":
            by_category.setdefault(entry["category"], []).append(entry["image"])
    pictures, names = [], []
    for category, files in sorted(by_category.items()):
        for place in np.random.default_rng(0).permutation(len(files))[:count]:
            with pillow_module().open(folder / "img" / "google" / "64" / files[place]) as opened:
                drawn = opened.convert("RGBA")
            white = pillow_module().new("RGBA", drawn.size, "white")
            white.alpha_composite(drawn)
            pictures.append(np.asarray(white.convert("RGB")).transpose(2, 0, 1))
            names.append(category)
    return np.stack(pictures), np.array(names)


def on_emoji(folder: Path, sizes: Sequence[int], draws: int, steps: int) -> dict[str, np.ndarray]:
    """Test accuracy [D, S] of heads on ImageNet's features, of fine-tuning, and of two networks
    from scratch.
    """
    X, y = emoji(folder, max(sizes) + 20)
    body = Pretrained(
        size=64
    )  # small, for time; features are cheap enough for the size at which it learned
    table = feature_table(features(vary(body, "size", None), X))
    whole = base(1).vary("batch", 15).vary("optimizer.lr", 0.001)
    head = (
        whole.vary("data", Data(target=("answer",)))
        .vary("network", Mlp(hidden=()))
        .vary("optimizer.lr", 0.002)
    )
    kinds = {
        "features": head,
        "fine-tuned": whole.vary("network", body).vary("tuning", (DepthRates(decay=0.8),)),
        "scratch": whole.vary(
            "network", vary(vary(body, "weights", RANDOM_WEIGHTS), "statistics", "batch")
        ),
        "scratch, small network": whole.vary("network", Conv(channels=(16, 32, 64), hidden=(64,))),
    }
    accuracy = {kind: np.full((draws, len(sizes)), np.nan) for kind in kinds}
    for kind, recipe in kinds.items():
        for d in range(draws):
            for s, size in enumerate(sizes):
                split, test = drawn(y, size, 20, d)
                here = (
                    recipe.vary("split", split)
                    .vary("seed", d)
                    .vary("epochs", epochs_of(steps, 9 * size, 15))
                )
                if kind == "features":
                    done, tested = train(here, table.assign(answer=y), workers=1), table.iloc[test]
                else:
                    done, tested = train(here, (X, y), workers=1), X[test]
                accuracy[kind][d, s] = accuracy_of(done, tested, y[test])
    return accuracy


# What came out


def run(quick: bool) -> Outcome:
    """Compare the ways on shapes and digits, and on emoji where they are at hand."""
    draws, first, sizes = (3, 6, (3,)) if quick else (6, 10, (3, 10, 40))
    accuracy = on_shapes(sizes, draws, first)
    gain = {
        f"{way}, {task}": [
            interval(column)
            for column in (accuracy[f"{way}, {task}"] - accuracy[f"scratch, {task}"]).T
        ]
        for task in TASKS
        for way in WAYS[1:]
    }
    numbers = {
        f"{name}, {size} a class": float(values[:, s].mean())
        for name, values in accuracy.items()
        for s, size in enumerate(sizes)
    }
    for name, found in gain.items():
        for size, value in zip(sizes, found, strict=True):
            numbers |= {
                f"gain of {name}, {size} a class": value.mean,
                f"gain of {name}, {size} a class, low": value.low,
            }
    said = (
        f"Accuracy gained on training from scratch with "
        f"{' and with '.join({str(s): 0 for s in (sizes[0], sizes[-1])})}"
    )
    said += " pictures of each class. New shapes: "
    said += (
        f"features {_ends(gain['features, like'])}, fine-tuned "
        f"{_ends(gain['fine-tuned, like'])}. Digits, which are "
    )
    said += (
        f"unlike shapes: features {_ends(gain['features, unlike'])}, fine-tuned "
        f"{_ends(gain['fine-tuned, unlike'])}."
    )
    figures = {"By data size": _curves(sizes, accuracy), "What to do when": _table(sizes, gain)}
    first_gain = gain["features, like"][0]
    less = gain["features, unlike"][0].high < first_gain.low
    held = bool(first_gain.low > 0 and gain["fine-tuned, like"][0].low > 0 and less)
    folder = os.environ.get(EMOJI)
    if folder and not quick:
        on = (5, 10, 25)
        found = on_emoji(Path(folder), on, 3, 60)
        figures["Emoji, by data size"] = _emoji_curves(on, found)
        for name, values in found.items():
            numbers |= {
                f"emoji, {name}, {size} a class": float(values[:, s].mean())
                for s, size in enumerate(on)
            }
        ahead = interval(
            found["features"][:, 0]
            - np.maximum(found["scratch"], found["scratch, small network"])[:, 0]
        )
        said += (
            f" On {on[0]} emoji of each of nine categories, a head on ImageNet's features gains "
            f"{percent(ahead)} "
            "on the better of two networks from scratch."
        )
    return Outcome(held=held, said=said, numbers=numbers, figures=figures)


def _ends(found: Sequence[Any]) -> str:
    return " and ".join(percent(f) for f in (found if len(found) == 1 else (found[0], found[-1])))


def _curves(sizes: Sequence[int], accuracy: Mapping[str, np.ndarray]) -> Any:
    picture = figure(9.6, 3.9)
    for ax, (kind, title) in zip(picture.subplots(1, 2, sharey=True), TASKS.items(), strict=True):
        _lines(ax, sizes, {way: accuracy[f"{way}, {kind}"] for way in WAYS})
        _by_size(ax, sizes, guess=25 if kind == "like" else 10)
        ax.set(title=title)
    picture.axes[0].set(ylabel="test accuracy, %")
    picture.axes[1].legend(loc="lower right", bbox_to_anchor=(1, 0.12))
    return picture


def _lines(ax: Any, sizes: Sequence[int], accuracy: Mapping[str, np.ndarray]) -> None:
    """Mean and interval by data size, side by side."""
    for i, (name, values) in enumerate(accuracy.items()):
        found = [interval(100 * column) for column in values.T]
        at = [size * 1.04 ** (i - (len(accuracy) - 1) / 2) for size in sizes]
        means = [f.mean for f in found]
        ax.plot(at, means, color=COLORS[i], label=name)
        intervals(ax, at, means, [f.low for f in found], [f.high for f in found], color=COLORS[i])


def _by_size(ax: Any, sizes: Sequence[int], *, guess: float) -> None:
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="pictures of each class; mean, 95 % interval", ylim=(0, 100))
    ax.axhline(guess, color=GRAY, linestyle="--", linewidth=0.8)
    ax.annotate(
        "guessing", (sizes[0], guess), xytext=(0, 3), textcoords="offset points", color=GRAY
    )


def _table(sizes: Sequence[int], gain: Mapping[str, Sequence[Any]]) -> Any:
    """Data size × similarity: what each way gains on scratch, in points of accuracy."""
    picture = figure(9.6, 2.2)
    ax = picture.subplots()
    ax.axis("off")
    words = {f"{way}, {kind}": f"{kind} task, {way}" for kind in TASKS for way in WAYS[1:]}
    cells = [
        [f"{100 * v.mean:+.1f} [{100 * v.low:+.1f}, {100 * v.high:+.1f}]" for v in gain[name]]
        for name in words
    ]
    table = ax.table(
        cells,
        rowLabels=list(words.values()),
        colLabels=[f"{size} a class" for size in sizes],
        loc="center",
        cellLoc="center",
    )
    table.scale(1, 1.6)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#D0D0D0")
        if row > 0 and column >= 0:
            found = gain[list(words)[row - 1]][column]
            cell.set_facecolor(
                "#D5EEE5" if found.low > 0 else "#FBE3D3" if found.high < 0 else "white"
            )
    ax.set_title(
        "Accuracy gained on training from scratch, points (95 %): green surely more, orange surely "
        "less"
    )
    return picture


def _emoji_curves(sizes: Sequence[int], accuracy: Mapping[str, np.ndarray]) -> Any:
    picture = figure(6.4, 3.9)
    ax = picture.subplots()
    _lines(ax, sizes, accuracy)
    _by_size(ax, sizes, guess=100 / 9)
    ax.set(ylabel="test accuracy, %", title="Nine categories of emoji, network from ImageNet")
    ax.legend(loc="upper left")
    return picture


EXPERIMENT = Experiment(
    name="transfer",
    title="Transfer: small data profit from what was learned on large",
    rows=("T1", "T2"),
    claim="On a small data set, features of a network trained on a similar, larger one, or "
    "fine-tuning it, beat "
    "training from scratch; the more data there are and the less alike the tasks, the less it "
    "brings.",
    seconds=20,
    run=run,
)

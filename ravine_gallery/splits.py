"""Leakage: what is fitted on all rows, or has relatives on both sides of a split, makes scores too
good (D3).

Letters: N rows, F features. Labels are drawn by a coin but for one table: an honest accuracy is one
half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ravine.catalog import named_recipe
from ravine.data import Encoding, Given, Grouped, Random
from ravine.recipe import Recipe
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.training.defaults import load_task
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval, percent

COUNT, FEATURES, KEPT = 120, 1000, 20  # rows, columns, and columns that are chosen


def coin(seed: int, count: int = COUNT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal features [N, F], labels [N] that have nothing to do with them, and who tests (a
    third of the rows).
    """
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((count, FEATURES)), generator.integers(0, 2, count)
    return x, y, generator.permutation(count) < count // 3


def chosen(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The columns whose correlation with the label is largest: a statistic of rows and labels."""
    centered, labels = x - x.mean(0), y - y.mean()
    return np.argsort(-np.abs(centered.T @ labels) / np.linalg.norm(centered, axis=0))[:KEPT]


def scaled(x: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Features standardized by the mean and SD of some rows."""
    return (x - fitted_on.mean(0)) / fitted_on.std(0)


def groups(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """40 patients with five rows each: rows of a patient are alike and have one label, drawn by
    a coin.
    """
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(40), 5)
    x = generator.standard_normal((40, 10))[patient] + 0.2 * generator.standard_normal((200, 10))
    return x, generator.integers(0, 2, 40)[patient], patient


def frame_of(x: np.ndarray, y: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    """A table of features, a target and what a split needs."""
    names = {f"x{i}": x[:, i] for i in range(x.shape[1])}
    return pd.DataFrame(names | columns | {"target": np.where(y == 1, "yes", "no")})


def base(epochs: int) -> Recipe:
    """A small network."""
    return (
        named_recipe("plain")
        .vary("network.hidden", (16,))
        .vary("epochs", epochs)
        .vary("data.target", ("target",))
    )


def drifted(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 rows whose label is a rule of ten features; in the latest third, the test rows, all
    sensors have shifted.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((300, 10))
    y = (x @ generator.standard_normal(10) > 0).astype(int)
    tests = np.arange(300) >= 200
    return x + tests[:, None] * 1.5 * generator.choice([-1.0, 1.0], 10), y, tests


def accuracy(frame: pd.DataFrame, recipe: Recipe) -> float:
    """The test accuracy of a recipe on a table."""
    score = train_all([recipe], frame, workers=1)[0].score
    assert score is not None and score.metric == "accuracy"
    return score.value


def given(x: np.ndarray, y: np.ndarray, tests: np.ndarray, recipe: Recipe) -> float:
    """The same with the given test rows, and features taken as they are."""
    recipe = recipe.vary("split", Given(column="split", validation=0.0))
    recipe = recipe.vary("encoding", Encoding(scale="none", smooth_clip=None))
    return accuracy(frame_of(x, y, split=np.where(tests, "test", "train")), recipe)


def cases(seed: int, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Accuracy with a leak and without, for each way to leak."""
    found = {}
    x, y, tests = coin(seed)
    few = x[:, :KEPT]
    found["scaling one source"] = (
        given(scaled(few, few), y, tests, recipe),
        given(scaled(few, few[~tests]), y, tests, recipe),
    )
    found["choosing features"] = (
        given(x[:, chosen(x, y)], y, tests, recipe),
        given(x[:, chosen(x[~tests], y[~tests])], y, tests, recipe),
    )
    x, y, tests = drifted(seed)
    found["scaling drifting sensors"] = (
        given(scaled(x, x), y, tests, recipe),
        given(scaled(x, x[~tests]), y, tests, recipe),
    )
    x, y, patient = groups(seed)
    frame = frame_of(x, y, patient=np.array([f"p{p}" for p in patient]))
    recipe = recipe.vary("split_seed", seed)
    found["splitting patients' rows"] = (
        accuracy(
            frame.drop(columns="patient"), recipe.vary("split", Random(validation=0.0, test=0.3))
        ),
        accuracy(frame, recipe.vary("split", Grouped(column="patient", validation=0.0, test=0.3))),
    )
    return found


def run(quick: bool) -> Outcome:
    """Measure each leak on several draws of its table, and look at what the encoding of this
    package is fitted on.
    """
    draws = 3 if quick else 24
    recipe = base(4 if quick else 15)
    rows = [cases(seed, recipe.vary("seed", seed)) for seed in range(draws)]
    table = {
        name: np.array([row[name] for row in rows]) for name in rows[0]
    }  # [S, 2]: leaked, honest
    leaked = {name: interval(v[:, 0]) for name, v in table.items()}
    honest = {name: interval(v[:, 1]) for name, v in table.items()}
    gain = {name: interval(v[:, 0] - v[:, 1]) for name, v in table.items()}
    numbers = {f"leaked, {name}": value.mean for name, value in leaked.items()}
    numbers |= {f"honest, {name}": value.mean for name, value in honest.items()}
    numbers |= {f"too good by, {name}": value.mean for name, value in gain.items()}
    numbers |= {f"too good by, low, {name}": value.low for name, value in gain.items()}
    numbers["encoder differs by"] = encoder_differs()
    leaks = [name for name, value in gain.items() if value.low > 0]
    dry = [name for name in gain if name not in leaks]
    said = (
        "Test accuracy is too good by "
        + "; ".join(f"{percent(value)} ({name})" for name, value in gain.items())
        + ". Labels of all but the drifting table are drawn by a coin, so an honest score is 50 %. "
        f"Shown by the intervals: {', '.join(leaks) or 'none'}"
        f"{'; not shown: ' + ', '.join(dry) if dry else ''}. The "
        "package's own encoding is fitted on training rows alone: "
        "test rows a thousand times larger change it by "
        f"{numbers['encoder differs by']:g}."
    )
    return Outcome(
        held=None if dry else True,
        said=said,
        numbers=numbers,
        figures={"Scores with and without a leak": _picture(leaked, honest)},
    )


def encoder_differs() -> float:
    """How far the encoded training rows move when the test rows' values are multiplied by 1000:
    0 without a leak.
    """
    x, y, tests = drifted(0)
    recipe = base(1).vary("split", Given(column="split", validation=0.0))
    split = np.where(tests, "test", "train")
    tasks = [
        load_task(recipe, frame_of(v, y, split=split))
        for v in (x, np.where(tests[:, None], 1000 * x, x))
    ]
    ours, theirs = (task.train_examples.numbers for task in tasks)
    return float((ours - theirs).abs().max())


def _picture(leaked: dict[str, Interval], honest: dict[str, Interval]) -> Any:
    picture = figure(7.2, 3.6)
    ax = picture.subplots()
    for i, (name, found) in enumerate((("leaked", leaked), ("honest", honest))):
        middle, low, high = (100 * np.array(v) for v in zip(*found.values(), strict=True))
        at = np.arange(len(found)) + 0.2 * i - 0.1
        intervals(
            ax,
            at,
            middle,
            low,
            high,
            color=COLORS[1 - i],
            label=name,
            upright=False,
            marker="s^"[i],
        )
    ax.axvline(50, color=GRAY, linestyle="--", label="a coin")
    ax.set_yticks(range(len(leaked)), list(leaked))
    ax.invert_yaxis()
    ax.set(xlabel="test accuracy, %", title="Mean over draws of the table, 95 % interval")
    ax.legend()
    return picture


EXPERIMENT = Experiment(
    name="splits",
    title="Leakage: statistics of all rows, relatives on both sides",
    rows=("D3",),
    claim="A test score is honest only if everything is fitted on the training rows alone, and if "
    "no row has relatives "
    "on the other side of the split.",
    seconds=12,
    run=run,
)

"""Leakage: statistics of all rows, or relatives on both sides of a split, raise test scores.

Letters: N rows, F features, S seeds. The labels of all tables but one are drawn at random: there
the honest accuracy is one half.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ravine.data import Encoding, Given, Grouped, Random
from ravine.networks.mlp import Mlp
from ravine.recipe import Recipe
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import Interval, t_interval
from ravine.training.defaults import load_task
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_intervals, format_percent, label_numbers
from ravine_gallery.network_experiments import make_recipe

ROW_COUNT, FEATURE_COUNT, SELECTED_COUNT = 120, 1000, 20


@experiment(
    "splits",
    title="Leakage: statistics of all rows, relatives on both sides",
    claim="A test score is honest only if everything is fitted on the training rows alone, and if "
    "no row has relatives on the other side of the split.",
    rows=("D3",),
    seconds=12,
)
def measure_leakage(quick: bool) -> ExperimentOutcome:
    """Measure each leak on several draws of its table, and test what the encoding of this package
    is fitted on.
    """
    draws = 3 if quick else 24
    recipe = _small_recipe(4 if quick else 15)
    rows = [_accuracies(seed, recipe.vary("seed", seed)) for seed in range(draws)]
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}  # [S, 2] each
    leaked = {name: t_interval(pairs[:, 0]) for name, pairs in table.items()}
    honest = {name: t_interval(pairs[:, 1]) for name, pairs in table.items()}
    excess = {name: t_interval(pairs[:, 0] - pairs[:, 1]) for name, pairs in table.items()}
    moved = _encoding_change()
    numbers = label_numbers("leaked", leaked) | label_numbers("honest", honest)
    numbers |= label_numbers("too good by", excess)
    numbers |= label_numbers("too good by, low", {name: v.low for name, v in excess.items()})
    numbers["encoder differs by"] = moved
    shown = [name for name, value in excess.items() if value.low > 0]
    rest = [name for name in excess if name not in shown]
    said = (
        "The leaks raise test accuracy by "
        + "; ".join(f"{format_percent(value)} ({name})" for name, value in excess.items())
        + ". The labels of all tables but that with drifting sensors are drawn at random, so an "
        f"honest score is 50 %. The intervals show the leak for: {', '.join(shown) or 'none'}; "
        f"they do not show it for: {', '.join(rest) or 'none'}. The package's own encoding is "
        f"fitted on training rows alone: test rows a thousand times larger change it by {moved:g}."
    )
    figures = {"Scores with and without a leak": _draw_scores(leaked, honest)}
    return ExperimentOutcome(
        held=None if rest else True, said=said, numbers=numbers, figures=figures
    )


# Tables


def _random_labels(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal features [N, F], labels [N] that have nothing to do with them, and the test rows (a
    third).
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((ROW_COUNT, FEATURE_COUNT))
    y = generator.integers(0, 2, ROW_COUNT)
    return x, y, generator.permutation(ROW_COUNT) < ROW_COUNT // 3


def _patients(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """40 patients with five similar rows each, and one random label for each patient."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(40), 5)
    x = generator.standard_normal((40, 10))[patient] + 0.2 * generator.standard_normal((200, 10))
    return x, generator.integers(0, 2, 40)[patient], patient


def _drifting_sensors(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """300 rows whose label is a rule of ten features; in the latest third, the test rows, all
    sensors have shifted.
    """
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((300, 10))
    y = (x @ generator.standard_normal(10) > 0).astype(int)
    tests = np.arange(300) >= 200
    return x + tests[:, None] * 1.5 * generator.choice([-1.0, 1.0], 10), y, tests


def _frame(x: np.ndarray, y: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
    """A table of features, a target and what a split needs."""
    features = {f"x{i}": x[:, i] for i in range(x.shape[1])}
    return pd.DataFrame(features | columns | {"target": np.where(y == 1, "yes", "no")})


# Leaks


def _select_columns(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The columns whose correlation with the label is largest: a statistic of rows and labels."""
    centered, labels = x - x.mean(0), y - y.mean()
    order = np.argsort(-np.abs(centered.T @ labels) / np.linalg.norm(centered, axis=0))
    return order[:SELECTED_COUNT]


def _standardize(x: np.ndarray, fitted_on: np.ndarray) -> np.ndarray:
    """Features standardized by the mean and SD of some rows."""
    return (x - fitted_on.mean(0)) / fitted_on.std(0)


def _small_recipe(epochs: int) -> Recipe:
    return make_recipe(network=Mlp(hidden=(16,)), epochs=epochs).vary("data.target", ("target",))


def _accuracy(frame: pd.DataFrame, recipe: Recipe) -> float:
    """The test accuracy of a recipe on a table."""
    score = train_all([recipe], frame, workers=1)[0].score
    assert score is not None and score.metric == "accuracy"
    return score.value


def _accuracies(seed: int, recipe: Recipe) -> dict[str, tuple[float, float]]:
    """Accuracy with a leak and without, for each way to leak."""
    raw = Encoding(scale="none", smooth_clip=None)
    given = recipe.vary("split", Given(column="split", validation=0.0)).vary("encoding", raw)

    def score(x: np.ndarray) -> float:
        """The accuracy on the given test rows, with features as they are."""
        return _accuracy(_frame(x, y, split=np.where(tests, "test", "train")), given)

    found = {}
    x, y, tests = _random_labels(seed)
    few = x[:, :SELECTED_COUNT]
    scaled = _standardize(few, few), _standardize(few, few[~tests])
    found["scaling one source"] = score(scaled[0]), score(scaled[1])
    selected = x[:, _select_columns(x, y)], x[:, _select_columns(x[~tests], y[~tests])]
    found["choosing features"] = score(selected[0]), score(selected[1])
    x, y, tests = _drifting_sensors(seed)
    scaled = _standardize(x, x), _standardize(x, x[~tests])
    found["scaling drifting sensors"] = score(scaled[0]), score(scaled[1])
    x, y, patient = _patients(seed)
    frame = _frame(x, y, patient=np.array([f"p{p}" for p in patient]))
    recipe = recipe.vary("split_seed", seed)
    random = recipe.vary("split", Random(validation=0.0, test=0.3))
    grouped = recipe.vary("split", Grouped(column="patient", validation=0.0, test=0.3))
    found["splitting patients' rows"] = (
        _accuracy(frame.drop(columns="patient"), random),
        _accuracy(frame, grouped),
    )
    return found


def _encoding_change() -> float:
    """How far the encoded training rows move when the test rows' values are multiplied by 1000:
    0 without a leak.
    """
    x, y, tests = _drifting_sensors(0)
    recipe = _small_recipe(1).vary("split", Given(column="split", validation=0.0))
    split = np.where(tests, "test", "train")
    as_is, larger = (
        load_task(recipe, _frame(values, y, split=split)).train_examples.numbers
        for values in (x, np.where(tests[:, None], 1000 * x, x))
    )
    return float((as_is - larger).abs().max())


def _draw_scores(leaked: dict[str, Interval], honest: dict[str, Interval]) -> Figure:
    picture = figure(7.2, 3.6)
    ax = picture.subplots()
    for i, (name, found) in enumerate({"leaked": leaked, "honest": honest}.items()):
        at = np.arange(len(found)) + 0.2 * i - 0.1
        style = {"color": SERIES_COLORS[1 - i], "label": name, "upright": False, "marker": "s^"[i]}
        draw_intervals(ax, at, found.values(), scale=100, **style)
    ax.axvline(50, color=GRAY_COLOR, linestyle="--", label="chance")
    ax.set_yticks(range(len(leaked)), list(leaked))
    ax.invert_yaxis()
    ax.set(xlabel="test accuracy, %", title="Mean over draws of the table, 95 % interval")
    ax.legend()
    return picture

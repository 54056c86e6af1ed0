"""A table with columns near 100 and near 0.003: hopeless as it is, easy once it is standardized.

Letters: N rows, F features. The loss of a linear neuron is ½ E (y − w·x − b)²; its Hessian is
E[x̃ x̃ᵀ], x̃ = (x, 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ravine.data import Encoding
from ravine.networks.initializers import Zero
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, band, figure
from ravine.statistics import t_interval
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_unscaled_recipe

# x1, x2, t of the lecture
SLIDE_ROWS = np.array([[114.8, 0.00323, 5.1], [338.1, 0.00183, 3.2], [98.8, 0.00279, 4.1]])
RATE_SHARES = (0.1, 0.3, 0.6, 0.95)  # learning rates, as shares of the largest stable one
TABLE_FORMS = ("as it is", "centered", "standardized")


@experiment(
    "scaling-table",
    title="The table with 114.8 and 0.00323",
    claim="Where one input is about 100 and another about 0.003, the loss is a ravine: gradient "
    "descent on the raw table is hopeless; with inputs of mean 0 and SD 1 it is easy.",
    rows=("D1", "D2"),
    seconds=8,
)
def compare_scalings(quick: bool) -> ExperimentOutcome:
    """Condition numbers of the slide's columns, and gradient descent on each form of them."""
    draws, steps = (2, 200) if quick else (8, 2000)
    conditions: dict[str, list[float]] = {form: [] for form in TABLE_FORMS}
    curves: dict[str, list[np.ndarray]] = {form: [] for form in TABLE_FORMS}
    for seed in range(draws):
        x, y = draw_table(200, seed)
        for form in TABLE_FORMS:
            conditions[form].append(np.linalg.cond(neuron_hessian(transform_table(x, form))))
            curves[form].append(_excess_losses(x, y, form, steps, seed))
    logs = {form: t_interval(np.log10(values)) for form, values in conditions.items()}
    left = {form: t_interval([c[-1] for c in values]) for form, values in curves.items()}
    slide = SLIDE_ROWS[:, :2]
    scaled = transform_table(slide, "standardized")
    condition = {form: 10 ** logs[form].value for form in TABLE_FORMS}
    numbers = label_numbers("condition", condition) | label_numbers("left", left)
    numbers |= {
        "condition of the three rows": float(np.linalg.cond(neuron_hessian(slide))),
        "condition of the three rows, standardized": float(np.linalg.cond(neuron_hessian(scaled))),
    }
    shares = [f"{100 * max(left[form].value, 0):.2g} %" for form in TABLE_FORMS]
    said = (
        f"The Hessian's condition number is {condition['as it is']:.1e} for the table as it is, "
        f"{condition['centered']:.1e} centered and {condition['standardized']:.2f} standardized "
        f"(200 rows like the slide's three, {draws} draws). After {steps} steps of gradient "
        f"descent, each at the best of {len(RATE_SHARES)} rates up to the largest stable one, "
        f"{shares[0]} of the excess loss is left on the table as it is, {shares[1]} centered and "
        f"{shares[2]} standardized."
    )
    held = left["as it is"].low > 0.4 and left["standardized"].high < 0.01
    figures = {
        "The loss of two weights": _draw_ellipses(),
        "Gradient descent": _draw_curves(curves),
    }
    return ExperimentOutcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def draw_table(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows like the slide's three: features with their means and SDs; t is linear in both, with
    noise.
    """
    generator = np.random.default_rng(seed)
    z = generator.standard_normal((count, 2))
    x = SLIDE_ROWS[:, :2].mean(0) + z * SLIDE_ROWS[:, :2].std(0)
    return x, 4.1 + 0.5 * (z[:, 1] - z[:, 0]) + 0.2 * generator.standard_normal(count)


def transform_table(x: np.ndarray, form: str) -> np.ndarray:
    """The features as they are, centered, or standardized (with 1/N, as in the lecture)."""
    if form == "as it is":
        return x
    centered = x - x.mean(0)
    return centered if form == "centered" else centered / x.std(0)


def neuron_hessian(x: np.ndarray) -> np.ndarray:
    """E[x̃ x̃ᵀ] of a linear neuron with a bias, [F + 1, F + 1]."""
    full = np.column_stack([x, np.ones(len(x))])
    return full.T @ full / len(x)


def _excess_losses(x: np.ndarray, y: np.ndarray, form: str, steps: int, seed: int) -> np.ndarray:
    """The excess of the loss over its minimum after each step, as a share of that at the start, at
    the best rate.
    """
    inputs = transform_table(x, form)
    largest = 2 / np.linalg.eigvalsh(neuron_hessian(inputs))[-1]
    recipe = make_unscaled_recipe(
        network=Mlp(hidden=(), initializer=Zero()),
        optimizer=SGD(),
        batch="all",
        epochs=steps,
        encoding=Encoding(scale="none", smooth_clip=None, target="standard"),
        seed=seed,
    )
    recipes = [recipe.vary("optimizer.lr", float(share * largest)) for share in RATE_SHARES]
    runs = train_all(recipes, (inputs, y), workers=1)
    standard, full = (y - y.mean()) / y.std(), np.column_stack([x, np.ones(len(x))])
    residuals = standard - full @ np.linalg.lstsq(full, standard, rcond=None)[0]
    least = 0.5 * (residuals**2).mean()
    initial = 0.5 - least  # 0.5: predicting the mean, where all start
    curves = [(r.record.series["train/loss"].values[:, 0] - least) / initial for r in runs]
    return min(curves, key=lambda curve: curve[-1])


def _draw_ellipses() -> Figure:
    """The loss around its minimum by the two weights, the bias at its best: contours and 40 steps
    of descent.
    """
    picture = figure(9.6, 3.6)
    x, _ = draw_table(200, 0)
    for ax, form in zip(picture.subplots(1, 3), TABLE_FORMS, strict=True):
        inputs = transform_table(x, form)
        hessian = inputs.T @ inputs / len(x) if form == "as it is" else np.cov(inputs.T, bias=True)
        span = 2 / inputs[:, 0].std()  # two SDs of the effect of the first weight
        line = span * np.linspace(-1, 1, 101)  # one scale for both weights: the true shape
        w = np.stack(np.meshgrid(line, line), -1)
        loss = 0.5 * np.einsum("...i,ij,...j", w, hessian, w)
        levels: Any = np.quantile(loss, np.linspace(0.02, 0.9, 9))
        ax.contour(line, line, loss, levels=levels, cmap="cividis")
        path = [np.array([-0.7, 0.8]) * span]
        for _ in range(39):
            rate = 0.95 * 2 / np.linalg.eigvalsh(hessian)[-1]
            path.append(path[-1] - rate * hessian @ path[-1])
        ax.plot(*np.array(path).T, color=SERIES_COLORS[1], marker=".", linewidth=1)
        ax.plot([0], [0], "k*", markersize=10)
        ax.set(title=form, xlabel="w1", ylabel="w2" if form == TABLE_FORMS[0] else "")
        ax.set_aspect("equal")
        ax.grid(False)
    picture.suptitle(
        "The loss by both weights on one scale; star: minimum; line: 40 steps of gradient descent "
        "at 0.95 of the largest stable rate"
    )
    return picture


def _draw_curves(curves: dict[str, list[np.ndarray]]) -> Figure:
    picture = figure(6.8, 4.0)
    ax = picture.subplots()
    for i, (form, values) in enumerate(curves.items()):
        shown = np.maximum(np.array(values), 1e-6)
        steps = 8 * np.arange(1, shown.shape[1] + 1)  # a point for each evaluation
        ax.plot(steps, np.median(shown, 0), label=form, **line_style(i))
        band(ax, steps, shown.min(0), shown.max(0), color=SERIES_COLORS[i])
    ax.axhline(1, color=GRAY_COLOR, linewidth=0.8)
    ax.set(
        xscale="log", yscale="log", xlabel="step", ylabel="excess loss, share of the initial one"
    )
    ax.set_title("Median and range over draws, best rate each")
    ax.legend(loc="lower left")
    return picture

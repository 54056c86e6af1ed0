"""A table with columns near 100 and near 0.003: hopeless as it is, easy once it is standardized
(D1, D2).

Letters: N rows, F features. The loss of a linear neuron is ½ E (y − w·x − b)²; its Hessian is E[x̃
x̃ᵀ], x̃ = (x, 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.data import Encoding
from ravine.networks.initializers import Zero
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD
from ravine.reporting.plot_style import COLORS, GRAY, band, figure, line_style
from ravine.training.train import train_all
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.network_experiments import Interval, interval, unscaled

SLIDE = np.array(
    [[114.8, 0.00323, 5.1], [338.1, 0.00183, 3.2], [98.8, 0.00279, 4.1]]
)  # x1, x2, t of the lecture
SHARES = (0.1, 0.3, 0.6, 0.95)  # learning rates, as shares of the largest stable one
FORMS = ("as it is", "centered", "standardized")


def table(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows like the slide's three: features with their means and SDs; t is linear in both, with
    noise.
    """
    generator = np.random.default_rng(seed)
    z = generator.standard_normal((count, 2))
    x = SLIDE[:, :2].mean(0) + z * SLIDE[:, :2].std(0)
    return x, 4.1 + 0.5 * (z[:, 1] - z[:, 0]) + 0.2 * generator.standard_normal(count)


def formed(x: np.ndarray, form: str) -> np.ndarray:
    """The features as they are, centered, or standardized (with 1/N, as the lecture has it)."""
    if form == "as it is":
        return x
    centered = x - x.mean(0)
    return centered if form == "centered" else centered / x.std(0)


def hessian(x: np.ndarray) -> np.ndarray:
    """E[x̃ x̃ᵀ] of a linear neuron with a bias, [F + 1, F + 1]."""
    full = np.column_stack([x, np.ones(len(x))])
    return full.T @ full / len(x)


def best_losses(x: np.ndarray, y: np.ndarray, form: str, steps: int, seed: int) -> np.ndarray:
    """The excess of the loss over its minimum after each step, as a share of that at the start, at
    the best rate.
    """
    inputs = formed(x, form)
    largest = 2 / np.linalg.eigvalsh(hessian(inputs))[-1]
    recipe = unscaled().vary("network", Mlp(hidden=(), initializer=Zero())).vary("optimizer", SGD())
    recipe = recipe.vary("batch", "all").vary("epochs", steps)
    recipe = recipe.vary(
        "encoding", Encoding(scale="none", smooth_clip=None, target="standard")
    ).vary("seed", seed)
    runs = train_all(
        [recipe.vary("optimizer.lr", float(s * largest)) for s in SHARES], (inputs, y), workers=1
    )
    standard = (y - y.mean()) / y.std()
    left = (
        standard
        - np.column_stack([x, np.ones(len(x))])
        @ np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), standard, rcond=None)[0]
    )
    least = 0.5 * (left**2).mean()
    curves = [r.record.series["train/loss"].values[:, 0] - least for r in runs]
    return min(
        (c / (0.5 - least) for c in curves), key=lambda c: c[-1]
    )  # 0.5: predicting the mean, where all start


@experiment(
    "scaling-table",
    title="The table with 114.8 and 0.00323",
    claim="Where one input is about 100 and another about 0.003, the loss is a ravine: gradient "
    "descent on the raw table is hopeless; with inputs of mean 0 and SD 1 it is easy.",
    rows=("D1", "D2"),
    seconds=8,
)
def compare_scalings(quick: bool) -> Outcome:
    """Condition numbers of the slide's columns, and gradient descent on each form of them."""
    draws, steps = (2, 200) if quick else (8, 2000)
    conditions = {form: [] for form in FORMS}
    curves: dict[str, list[np.ndarray]] = {form: [] for form in FORMS}
    for seed in range(draws):
        x, y = table(200, seed)
        for form in FORMS:
            conditions[form].append(np.linalg.cond(hessian(formed(x, form))))
            curves[form].append(best_losses(x, y, form, steps, seed))
    found = {form: interval(np.log10(values)) for form, values in conditions.items()}
    left = {form: interval([c[-1] for c in values]) for form, values in curves.items()}
    numbers = {f"condition, {form}": 10 ** found[form].mean for form in FORMS}
    numbers |= {f"left, {form}": left[form].mean for form in FORMS}
    numbers["condition of the three rows"] = float(np.linalg.cond(hessian(SLIDE[:, :2])))
    numbers["condition of the three rows, standardized"] = float(
        np.linalg.cond(hessian(formed(SLIDE[:, :2], "standardized")))
    )
    hopeless, easy = left["as it is"].low > 0.4, left["standardized"].high < 0.01
    said = (
        f"The Hessian's condition number is {numbers['condition, as it is']:.1e} as the table is, "
        f"{numbers['condition, centered']:.1e} centered, {numbers['condition, standardized']:.2f} "
        f"standardized (200 "
        f"rows like the slide's three, {draws} draws). After {steps} steps of gradient descent, "
        f"each at the best of "
        f"{len(SHARES)} rates up to the largest stable one, what is left to learn is "
        f"{_share(left['as it is'])} as it "
        f"is, {_share(left['centered'])} centered, {_share(left['standardized'])} standardized."
    )
    return Outcome(
        held=bool(hopeless and easy),
        said=said,
        numbers=numbers,
        figures={"The loss of two weights": _ellipses(), "Gradient descent": _curves(curves)},
    )


def _share(found: Interval) -> str:
    return f"{100 * max(found.mean, 0):.2g} %"


def _ellipses() -> Any:
    """The loss around its minimum by the two weights, the bias at its best: contours and 40 steps
    of descent.
    """
    picture = figure(9.6, 3.6)
    x, _ = table(200, 0)
    for ax, form in zip(picture.subplots(1, 3), FORMS, strict=True):
        inputs = formed(x, form)
        second = inputs.T @ inputs / len(x) if form == "as it is" else np.cov(inputs.T, bias=True)
        span = 2 / inputs.std(0)  # two SDs of the effect of each weight
        line = np.linspace(-1, 1, 101)
        w = np.stack(
            np.meshgrid(line * span[0], line * span[0]), -1
        )  # one scale for both: the true shape
        loss = 0.5 * np.einsum("...i,ij,...j", w, second, w)
        ax.contour(
            w[0, :, 0],
            w[:, 0, 1],
            loss,
            levels=np.quantile(loss, np.linspace(0.02, 0.9, 9)),
            cmap="cividis",
        )
        at, path = np.array([-0.7, 0.8]) * span[0], []
        for _ in range(40):
            path.append(at)
            at = at - 0.95 * 2 / np.linalg.eigvalsh(second)[-1] * second @ at
        ax.plot(*np.array(path).T, color=COLORS[1], marker=".", linewidth=1)
        ax.plot([0], [0], "k*", markersize=10)
        ax.set(title=form, xlabel="w1", ylabel="w2" if form == FORMS[0] else "", aspect="equal")
        ax.grid(False)
    picture.suptitle(
        "Loss by two weights on one scale; 40 steps at 0.95 of the largest stable rate; star: "
        "minimum"
    )
    return picture


def _curves(curves: dict[str, list[np.ndarray]]) -> Any:
    picture = figure(6.8, 4.0)
    ax = picture.subplots()
    for i, (form, values) in enumerate(curves.items()):
        shown = np.maximum(np.array(values), 1e-6)
        steps = 8 * np.arange(1, shown.shape[1] + 1)  # a point for each evaluation
        ax.plot(steps, np.median(shown, 0), label=form, **line_style(i))
        band(ax, steps, shown.min(0), shown.max(0), color=COLORS[i])
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.axhline(1, color=GRAY, linewidth=0.8)
    ax.set(
        xlabel="step",
        ylabel="excess loss, share of the start",
        title="Median and range over draws, best rate each",
    )
    ax.legend(loc="lower left")
    return picture

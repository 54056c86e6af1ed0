"""L1 makes weights vanish, L2 makes them small, the elastic net does both.

Letters: P networks, H hidden units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ravine.networks.mlp import Mlp
from ravine.optimizers import Momentum
from ravine.penalties import L1, L2, ElasticNet
from ravine.protocols import Penalty
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.schedules import Cosine
from ravine.statistics import Interval, t_interval
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_intervals, format_percent, label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe, model_of, program_of

PENALTY_STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
PENALTY_KINDS = ("L1", "L2", "elastic net")
ZERO_WEIGHT = 1e-3  # smaller weights count as zero; the others are about 0.1 to 1

Key = tuple[str, float]  # a kind of penalty and its strength


@experiment(
    "l1-zeros",
    title="L1's zeros",
    claim="An L1 penalty makes networks sparse, an L2 penalty only makes weights small; an elastic "
    "net does some of both.",
    rows=("R2",),
    seconds=8,
)
def count_zeros(quick: bool) -> ExperimentOutcome:
    """Train on ten inputs, five of them irrelevant, under each penalty and strength."""
    seeds, epochs = (4, 15) if quick else (6, 60)
    recipe = make_recipe(
        "friedman1",
        network=Mlp(hidden=(32,)),
        optimizer=Momentum(lr=0.05),
        schedule=Cosine(),
        batch=128,
        epochs=epochs,
        seeds=seeds,
    )
    keys = [(kind, strength) for kind in PENALTY_KINDS for strength in PENALTY_STRENGTHS]
    recipes = [recipe.vary("penalties", (_penalty(*key),)) for key in keys] + [recipe]
    runs = dict(zip([*keys, ("none", 0.0)], train_all(recipes, workers=1), strict=True))
    weights = {key: _first_weights(run) for key, run in runs.items()}  # [P, 10, H]
    zeros = {key: t_interval((np.abs(w) < ZERO_WEIGHT).mean((1, 2))) for key, w in weights.items()}
    idle = {
        k: t_interval((np.abs(w[:, 5:]) < ZERO_WEIGHT).mean((1, 2))) for k, w in weights.items()
    }
    scores = {k: t_interval([m.test["r2"] for m in run.record.members]) for k, run in runs.items()}
    best = {
        kind: max((key for key in keys if key[0] == kind), key=lambda key: scores[key].value)
        for kind in PENALTY_KINDS
    }
    exact = float(np.mean([(weights["L1", s] == 0).mean() for s in PENALTY_STRENGTHS]))
    none_zeros, none_score = zeros["none", 0.0], scores["none", 0.0]
    numbers = label_numbers("zeros", {kind: zeros[key] for kind, key in best.items()})
    numbers |= label_numbers("zeros of idle inputs", {kind: idle[k] for kind, k in best.items()})
    numbers |= label_numbers("r2", {kind: scores[key] for kind, key in best.items()})
    numbers |= label_numbers("best strength", {kind: key[1] for kind, key in best.items()})
    numbers |= {
        "zeros, none": none_zeros.value,
        "r2, none": none_score.value,
        "exactly zero": exact,
    }
    each = [
        f"{kind} {format_percent(zeros[key])} (λ = {key[1]:g}, R² {scores[key].value:.3f})"
        for kind, key in best.items()
    ]
    said = (
        f"Share of first-layer weights below {ZERO_WEIGHT:g} at each penalty's best strength by "
        f"test R²: {', '.join(each)}; without a penalty {format_percent(none_zeros)} (R² "
        f"{none_score.value:.3f}). Of the weights of the five irrelevant inputs L1 drops "
        f"{format_percent(idle[best['L1']])}. Exactly zero are {100 * exact:.1f} %: gradient steps "
        "of λ sign(w) overshoot zero by up to a step, they do not stop at it."
    )
    figures = {
        "Zeros and scores by strength": _draw_strengths(zeros, scores),
        "First-layer weights": _draw_weights(
            {f"{kind}, λ = {key[1]:g}": weights[key][0] for kind, key in best.items()}
        ),
    }
    held = bool(zeros[best["L1"]].low > zeros[best["L2"]].high)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _penalty(kind: str, strength: float) -> Penalty:
    """One of the three, as in the lecture: λ Σ|w|, λ Σw², λ (½ Σw² + ½ Σ|w|)."""
    if kind == "L1":
        return L1(strength=strength)
    return L2(strength=strength) if kind == "L2" else ElasticNet(strength=strength, ratio=0.5)


def _first_weights(run: Run) -> np.ndarray:
    """The weights into the hidden layer, [P, in, H]."""
    model = model_of(run)
    return program_of(model).layout.views(model.weights)["hidden.0.weight"].numpy()


def _draw_strengths(zeros: dict[Key, Interval], scores: dict[Key, Interval]) -> Figure:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    for ax, found, scale in ((left, zeros, 100), (right, scores, 1)):
        for i, kind in enumerate(PENALTY_KINDS):
            each = [found[kind, s] for s in PENALTY_STRENGTHS]
            ax.plot(PENALTY_STRENGTHS, [scale * v.value for v in each], label=kind, **line_style(i))
            draw_intervals(ax, PENALTY_STRENGTHS, each, scale=scale, color=SERIES_COLORS[i])
        none = scale * found["none", 0.0].value
        ax.axhline(none, color="#6B6B6B", linewidth=0.9, label="no penalty")
        ax.set(xscale="log", xlabel="λ")
    left.set_ylabel(f"weights below {ZERO_WEIGHT:g} in size, %")
    left.set_title("Zeros in the first layer, 95 % interval")
    right.set(ylabel="test R²", title="Their effect on the score")
    left.legend()
    return picture


def _draw_weights(shown: dict[str, np.ndarray]) -> Figure:
    picture = figure(9.6, 3.0)
    axes = picture.subplots(1, 3, sharey=True)
    largest = max(float(np.abs(w).max()) for w in shown.values())
    style: Any = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest, "aspect": "auto"}
    images = []
    for ax, (title, weights) in zip(axes, shown.items(), strict=True):
        images.append(ax.imshow(weights, **style))
        ax.set(title=title, xlabel="hidden unit")
        ax.set_yticks(range(10), [f"x{i}" for i in range(1, 11)])
    axes[0].set_ylabel("input (x6 to x10 are irrelevant)")
    picture.colorbar(images[-1], ax=list(axes), label="weight")
    return picture

"""Checks before training: the first loss, what penalties add to it, and a small batch to overfit.

Letters: P networks.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.data import Random
from ravine.diagnosis.recipe_rules import LEARNED_LOSS
from ravine.examination.preflight_checks import measure_penalties, without_regularization
from ravine.networks.initializers import He, Normal, Zero
from ravine.optimizers import SGD
from ravine.penalties import L2
from ravine.recipe import Recipe
from ravine.record import Series
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import t_interval
from ravine.training.defaults import prepare
from ravine.training.evaluation import constant_loss, mean_loss, starting_losses
from ravine.training.train import train_all, train_on
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_range, format_interval
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe

CHANCE_LOSSES = {"digits": "log 10", "iris": "log 3", "diabetes": "½ Var y"}
WEIGHT_SDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
L2_STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2)
SMALL_BATCH = 16


@experiment(
    "initial-loss",
    title="Three checks before training",
    claim="Before training the loss is that of guessing (log C, ½ Var y); more regularization "
    "means more loss; a few examples can be overfitted to about zero loss.",
    rows=("C1", "C2", "C3"),
    seconds=6,
)
def run_first_checks(quick: bool) -> ExperimentOutcome:
    """Measure the first loss by the size of the weights and the loss by the strength of the
    penalty, and overfit 16 digits.
    """
    networks, epochs, steps, seeds = (4, 8, 120, 4) if quick else (16, 15, 400, 6)
    first, chance = _first_losses(networks)
    added, after = _penalized_losses(epochs, seeds)
    curves, level = _small_batch_losses(steps, seeds)
    ratio = max(abs(first[name][0].mean() / chance[name] - 1) for name in CHANCE_LOSSES)
    exact = max(_penalty_error(name) for name in CHANCE_LOSSES)
    rising = bool((np.diff(added) > 0).all() and (np.diff(after.mean(1)) > 0).all())
    healthy, *broken = curves.values()
    below = healthy.values < LEARNED_LOSS * level
    reached = np.where(below.any(0), healthy.steps[below.argmax(0)], math.inf)
    least = float(min(curve.values[-1].min() for curve in broken) / level)
    he = t_interval(first["digits"][-1])
    numbers = {
        "largest relative distance from chance, weights of SD 0.001": float(ratio),
        "first loss, He, digits": he.value,
        "penalty's relative difference from its formula": exact,
        "loss after training without penalty": float(after[0].mean()),
        "loss after training, strongest penalty": float(after[-1].mean()),
        "steps to overfit a small batch": float(np.nanmean(reached)),
        "share of networks that did": float(np.isfinite(reached).mean()),
        "least loss of the broken ones, of chance": least,
    }
    said = (
        f"With weights of SD 0.001 the first loss is within {100 * ratio:.2g} % of log 10, log 3 "
        f"and ½ Var y. He's initialization gives {format_interval(he)} on the digits, not log 10 = "
        "2.30: outputs of random sign cost more than none. Each stronger penalty raises the loss, "
        f"before training by exactly its formula (up to {exact:.0e}) and after it. All networks "
        f"overfit {SMALL_BATCH} digits, in {np.mean(reached):.0f} steps; with weights that start "
        "at zero, or a rate of 1e-5, none does."
    )
    figures = {"Three checks": _draw_checks(first, chance, added, after, curves, level)}
    overfit = np.isfinite(reached).all() and least > 0.5
    held = bool(ratio < 0.01 and rising and overfit)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _first_losses(networks: int) -> tuple[dict[str, list[np.ndarray]], dict[str, float]]:
    """First losses [P] by the size of the weights (last: He's initialization), and the loss of
    guessing, on each data set.
    """
    first, chance = {}, {}
    for name in CHANCE_LOSSES:
        task, recipe = prepare(_penalized_recipe(name))
        starts = [Normal(sd=sd) for sd in WEIGHT_SDS] + [He()]
        varied = [recipe.vary("network.initializer", start) for start in starts]
        first[name] = [starting_losses(each, task, networks) for each in varied]
        assert recipe.loss is not None  # resolved
        zeros = torch.zeros(1, task.train_examples.count, task.outputs)
        chance[name] = float(mean_loss(recipe.loss, zeros, task.train_examples))
    return first, chance


def _penalized_recipe(source: str) -> Recipe:
    return make_recipe(source, penalties=(L2(strength=0.01),))


def _penalty_error(source: str) -> float:
    """The relative difference of what a penalty adds from its formula."""
    task, recipe = prepare(_penalized_recipe(source))
    effect = measure_penalties(recipe, task)
    assert effect is not None and effect.difference is not None
    return effect.difference


def _penalized_losses(epochs: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """What the penalty adds before training, for each strength, and the training loss after it,
    [strengths, P].
    """
    base = make_recipe("digits", epochs=epochs, seeds=seeds)
    recipes = [base.vary("penalties", (L2(strength=s),)) for s in L2_STRENGTHS]
    after = [run.record.series["train/loss"].values[-1] for run in train_all(recipes, workers=1)]
    added = [0.0]
    for recipe in recipes[1:]:
        task, resolved = prepare(recipe)
        effect = measure_penalties(resolved, task)
        assert effect is not None
        added.append(effect.added[0])
    return np.array(added), np.array(after)


def _small_batch_losses(steps: int, seeds: int) -> tuple[dict[str, Series], float]:
    """The loss curves of healthy and of broken networks on a small batch, and the loss of
    guessing.
    """
    task, recipe = prepare(make_recipe("digits", split=Random(validation=0.1)))
    bare = without_regularization(recipe).vary("epochs", steps).vary("seeds", seeds)
    few = task.train_examples.take(torch.arange(SMALL_BATCH))
    small = dataclasses.replace(task, train=few, validation=None, test=None)
    recipes = {
        "healthy": bare,
        "zero start": bare.vary("network.initializer", Zero()),
        "rate 1e-5": bare.vary("optimizer", SGD(lr=1e-5)),
    }
    runs = train_on([small] * 3, list(recipes.values()), workers=1)
    curves = [run.record.series["train/loss"] for run in runs]
    assert bare.loss is not None  # resolved
    level = constant_loss(bare.loss, few, task.outputs)
    return dict(zip(recipes, curves, strict=True)), level


def _draw_checks(
    first: dict[str, list[np.ndarray]],
    chance: dict[str, float],
    added: np.ndarray,
    after: np.ndarray,
    curves: dict[str, Series],
    level: float,
) -> Figure:
    picture = figure(11, 3.6)
    left, middle, right = picture.subplots(1, 3)
    for i, (name, formula) in enumerate(CHANCE_LOSSES.items()):
        label = f"{name}: {formula} = {chance[name]:.2f}"
        draw_range(left, WEIGHT_SDS, np.array(first[name][:-1]), label=label, **line_style(i))
        left.axhline(chance[name], color=SERIES_COLORS[i], linewidth=0.8, linestyle=":")
    left.set(xscale="log", yscale="log", xlabel="SD of the starting weights", ylabel="first loss")
    left.set_title("First loss; dotted: that of guessing")
    left.legend()
    x = np.arange(len(L2_STRENGTHS))
    middle.plot(x, added, marker="o", label="added before training", **line_style(0))
    label = "training loss at the end"
    draw_range(middle, x, after, marker="s", label=label, **line_style(1))
    middle.set_xticks(x, [f"{strength:g}" for strength in L2_STRENGTHS])
    middle.set_yscale("symlog", linthresh=1e-3)
    middle.set(xlabel="strength λ of the L2 penalty", ylabel="loss", ylim=(-2e-4, 4))
    middle.set_title("A stronger penalty")
    middle.legend()
    for i, (name, curve) in enumerate(curves.items()):
        draw_range(right, curve.steps, curve.values, label=name, **line_style(i))
    right.axhline(level, color=GRAY_COLOR, linewidth=1, linestyle=":")
    right.set(yscale="log", xlabel="step", ylabel="loss")
    right.set_title(f"Overfitting {SMALL_BATCH} digits; dotted: guessing")
    right.legend()
    return picture

"""Checks before training (C1 to C3): the first loss is that of guessing, penalties add, a few are
learned by heart.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from ravine.catalog import named_recipe
from ravine.data import Random
from ravine.examination.preflight import LEARNED, initial_loss, overfits, penalty_raises, unhindered
from ravine.networks.initializers import He, Normal, Zero
from ravine.optimizers import SGD
from ravine.penalties import L2
from ravine.reporting.plot_style import COLORS, GRAY, band, figure, line_style
from ravine.statistics import t_interval
from ravine.training.defaults import prepare
from ravine.training.evaluation import starting_losses
from ravine.training.train import train_all, train_on
from ravine_gallery.experiment import Experiment, Outcome

SETS = {"digits": "log 10", "iris": "log 3", "diabetes": "½ Var y"}
SDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
STRENGTHS = (0.0, 1e-4, 1e-3, 1e-2)
FEW = 16


def run(quick: bool) -> Outcome:
    """The first loss by the weights' size, the loss by the penalty's strength, and 16 digits
    learned by heart.
    """
    networks, epochs, steps = (4, 3, 120) if quick else (16, 15, 400)
    first, levels, exact = _first_losses(networks)
    before, after = _penalized(epochs, 2 if quick else 6)
    learned, broken, level = _few(steps, 2 if quick else 6)
    ratio = max(abs(first[name][0].mean() / levels[name] - 1) for name in SETS)
    rising = bool((np.diff(before) > 0).all()) and bool((np.diff(after.mean(1)) > 0).all())
    reached = _steps_to(learned, level)
    numbers = {
        "largest relative distance from chance, weights of SD 0.001": ratio,
        "first loss, He, digits": float(first["digits"][-1].mean()),
        "penalty's relative difference from its formula": exact,
        "loss after training without penalty": float(after[0].mean()),
        "loss after training, strongest penalty": float(after[-1].mean()),
        "steps to learn a few by heart": float(np.nanmean(reached)),
        "share of networks that did": float(np.isfinite(reached).mean()),
        "least loss of the broken ones, of chance": float(
            min(b.min() for b in broken.values()) / level
        ),
    }
    did = np.isfinite(reached).all() and all((b > 0.5 * level).all() for b in broken.values())
    he = t_interval(first["digits"][-1])
    said = (
        f"With weights of SD 0.001 the first loss is within {100 * ratio:.2g} % of log 10, log 3 "
        f"and ½ Var y. He's "
        f"start gives {he.value:.3g} [{he.low:.3g}, {he.high:.3g}] on the digits, not log 10 = "
        f"2.30: outputs of "
        f"random sign cost more than none. Each stronger penalty raises the loss, before training "
        f"by exactly its "
        f"formula (to {exact:.0e}) and after it. {FEW} digits are learned by heart in "
        f"{np.mean(reached):.0f} steps by "
        "all networks; with weights that start at zero, or a rate of 1e-5, by none."
    )
    drawn = _picture(first, levels, before, after, learned, broken, level)
    held = bool(ratio < 0.01 and rising and did)
    return Outcome(
        held=held,
        said=said,
        numbers={k: float(v) for k, v in numbers.items()},
        figures={"Three checks": drawn},
    )


def _first_losses(networks: int) -> tuple[dict[str, list[np.ndarray]], dict[str, float], float]:
    """First losses [networks] by the size of the weights (last: He's start), chance levels, and the
    penalty's error.
    """
    first: dict[str, list[np.ndarray]] = {}
    levels, worst = {}, 0.0
    for name in SETS:
        task, recipe = prepare(
            named_recipe("plain").vary("data.source", name).vary("penalties", (L2(strength=0.01),))
        )
        starts = [Normal(sd=sd) for sd in SDS] + [He()]
        first[name] = [
            starting_losses(recipe.vary("network.initializer", i), task, networks) for i in starts
        ]
        levels[name] = initial_loss(recipe, task, networks=2).values["chance"]
        worst = max(
            worst, penalty_raises(recipe, task).values["relative difference from the closed form"]
        )
    return first, levels, worst


def _penalized(epochs: int, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """What the penalty adds before training [strengths], and the training loss after it [strengths,
    seeds].
    """
    base = (
        named_recipe("plain")
        .vary("data.source", "digits")
        .vary("epochs", epochs)
        .vary("seeds", seeds)
    )
    recipes = [base.vary("penalties", (L2(strength=s),)) for s in STRENGTHS]
    after = [run.record.series["train/loss"].values[-1] for run in train_all(recipes, workers=1)]
    added = [0.0]
    for recipe in recipes[1:]:
        task, resolved = prepare(recipe)
        added.append(penalty_raises(resolved, task).values["L2 0"])
    return np.array(added), np.array(after)


def _few(steps: int, seeds: int) -> tuple[Any, dict[str, np.ndarray], float]:
    """The loss curves of healthy networks on a few digits, the last losses of broken ones, and the
    chance level.
    """
    task, recipe = prepare(
        named_recipe("plain").vary("data.source", "digits").vary("split", Random(validation=0.1))
    )
    bare = unhindered(recipe).vary("epochs", steps).vary("seeds", seeds)
    small = dataclasses.replace(
        task, train=task.train_examples.take(torch.arange(FEW)), validation=None, test=None
    )
    zero = bare.vary("network.initializer", Zero())
    slow = bare.vary("optimizer", SGD(lr=1e-5))
    runs = train_on([small] * 3, [bare, zero, slow], workers=1)
    curves = [run.record.series["train/loss"] for run in runs]
    level = overfits(recipe, small, few=FEW, steps=8).values["chance"]
    return curves, {"zero start": curves[1].values[-1], "rate 1e-5": curves[2].values[-1]}, level


def _steps_to(curves: Any, level: float) -> np.ndarray:
    """The step at which each healthy network's loss fell below 2 % of chance; ∞ where it did
    not.
    """
    below = curves[0].values < LEARNED * level
    return np.where(below.any(0), curves[0].steps[below.argmax(0)], math.inf)


def _picture(
    first: Any, levels: Any, before: Any, after: Any, learned: Any, broken: Any, level: float
) -> Any:
    picture = figure(11, 3.6)
    left, middle, right = picture.subplots(1, 3)
    for i, (name, words) in enumerate(SETS.items()):
        values = np.array(first[name][:-1])
        left.plot(
            SDS, values.mean(1), label=f"{name}: {words} = {levels[name]:.2f}", **line_style(i)
        )
        band(left, SDS, values.min(1), values.max(1), color=COLORS[i])
        left.axhline(levels[name], color=COLORS[i], linewidth=0.8, linestyle=":")
    left.set(
        xscale="log",
        yscale="log",
        xlabel="SD of the starting weights",
        ylabel="first loss",
        title="First loss; dotted: chance level",
    )
    left.legend()
    x = np.arange(len(STRENGTHS))
    middle.plot(x, before, marker="o", label="added before training", **line_style(0))
    middle.plot(x, after.mean(1), marker="s", label="training loss at the end", **line_style(1))
    band(middle, x, after.min(1), after.max(1), color=COLORS[1])
    middle.set_xticks(x, [f"{s:g}" for s in STRENGTHS])
    middle.set(
        yscale="symlog",
        xlabel="strength λ of the L2 penalty",
        ylabel="loss",
        title="A stronger penalty",
    )
    middle.set_yscale("symlog", linthresh=1e-3)
    middle.set_ylim(-2e-4, 4)
    middle.legend()
    for i, (curve, name) in enumerate(zip(learned, ("healthy", *broken), strict=True)):
        right.plot(curve.steps, curve.values.mean(1), label=name, **line_style(i))
        band(right, curve.steps, curve.values.min(1), curve.values.max(1), color=COLORS[i])
    right.axhline(level, color=GRAY, linewidth=1, linestyle=":")
    right.set(
        yscale="log", xlabel="step", ylabel="loss", title=f"{FEW} digits by heart; dotted: chance"
    )
    right.legend()
    return picture


EXPERIMENT = Experiment(
    name="initial-loss",
    title="Three checks before training",
    rows=("C1", "C2", "C3"),
    claim="Before training the loss is that of guessing (log C, ½ Var y); more regularization "
    "means more loss; a few "
    "examples can be learned to about zero loss.",
    seconds=6,
    run=run,
)

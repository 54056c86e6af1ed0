"""Learning curves: typical noisy ones and the fairy tale; what may rise, what must fall, and
rise-then-fall (L2).

Letters: T evaluations, P networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.catalog import named_recipe
from ravine.data import Encoding, Random
from ravine.optimizers import SGD, Momentum
from ravine.reporting.plot_style import COLORS, GRAY, figure, line_style
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import curved, interval, percent, watched

Curves = dict[str, np.ndarray]  # [T, P] by the name of a series


def curves(epochs: int, seeds: int, *, batch: int | str) -> tuple[Curves, np.ndarray]:
    """Loss and accuracy on all three splits of 400 points of the mixture, and the steps [T]."""
    recipe = (
        named_recipe("plain")
        .vary("encoding", Encoding(scale="standard", smooth_clip=None))
        .vary("epochs", epochs)
    )
    recipe = recipe.vary("split", Random(validation=0.25, test=0.25)).vary("network.hidden", (100,))
    recipe = recipe.vary("batch", batch).vary("seeds", seeds)
    slow = SGD(lr=0.05)
    recipe = recipe.vary("optimizer", slow if batch == "all" else Momentum(lr=0.1, momentum=0.9))
    cohort, _ = watched([recipe], lambda cohort, task: None, curved().draw(400, 5), test=True)
    names = ("train/loss", "validation/loss", "test/loss", "validation/accuracy", "test/accuracy")
    steps = np.array([step for step, _ in cohort.log.series["train/loss"]])
    return {
        name: np.array([values for _, values in cohort.log.series[name]]) for name in names
    }, steps


def rises(values: np.ndarray) -> np.ndarray:
    """The share of evaluations at which a curve is above the one before, [P]."""
    return (np.diff(values, axis=0) > 0).mean(0)


def run(quick: bool) -> Outcome:
    """Train with small batches and with gradient descent, and hold each sentence of the lecture to
    the curves.
    """
    seeds, epochs = (3, 30) if quick else (12, 300)
    noisy, steps = curves(epochs, seeds, batch=16)
    calm, calm_steps = curves(8 * epochs, seeds, batch="all")
    up_batch, up_descent = interval(rises(noisy["train/loss"])), interval(rises(calm["train/loss"]))
    up_validation = interval(rises(noisy["validation/loss"]))
    apart = noisy["validation/accuracy"] - noisy["test/accuracy"]
    share = np.clip(noisy["test/accuracy"].mean(), 0.01, 0.99)
    sampling = float(
        np.sqrt(2 * share * (1 - share) / 100)
    )  # of a difference between two sets of 100 examples
    gap = float(np.abs(apart.mean(0)).mean())
    worse = interval(noisy["validation/loss"][-1] - noisy["validation/loss"].min(0))
    place = noisy["validation/loss"].argmin(0) / (len(steps) - 1)
    accuracy_fall = interval(noisy["validation/accuracy"].max(0) - noisy["validation/accuracy"][-1])
    numbers = {
        "train rises, minibatches": up_batch.mean,
        "train rises, gradient descent": up_descent.mean,
        "validation rises, minibatches": up_validation.mean,
        "validation against test": gap,
        "sampling error": sampling,
        "loss above its best": worse.mean,
        "loss above its best, low": worse.low,
        "best at, share of training": float(place.mean()),
        "accuracy below its best": accuracy_fall.mean,
    }
    always, close, turns = up_batch.mean == 0, gap < 2 * sampling, worse.low > 0
    said = (
        f"Training loss always falls under gradient descent (it rises at {percent(up_descent)} of "
        f"evaluations) but not "
        f"with minibatches of 16: there it rises at {percent(up_batch)}, the validation loss at "
        f"{percent(up_validation)}. Validation and test accuracy lie {100 * gap:.1f} points apart; "
        f"sampling "
        "alone gives "
        f"{100 * sampling:.1f} (SD). The validation loss is least after {100 * place.mean():.0f} % "
        f"of "
        "training and ends "
        f"{worse} above that; accuracy ends {percent(accuracy_fall)} below its best."
    )
    held = None if not (always and close and turns) and (always or close or turns) else bool(always)
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={
            "Typical and fairy-tale curves": _picture(noisy, steps, calm, calm_steps),
            "The three splits": _splits(noisy, steps),
        },
    )


def _picture(noisy: Curves, steps: np.ndarray, calm: Curves, calm_steps: np.ndarray) -> Any:
    picture = figure(9.6, 3.6)
    panels = (
        ("Typical: minibatches of 16", noisy, steps),
        ("Fairy tale: gradient descent", calm, calm_steps),
    )
    for ax, (title, found, at) in zip(picture.subplots(1, 2), panels, strict=True):
        for i, name in enumerate(("train", "validation", "test")):
            ax.plot(at, found[f"{name}/loss"][:, 0], label=name, **line_style(i))
        least = found["validation/loss"][:, 0].argmin()
        ax.axvline(at[least], color=GRAY, linewidth=0.8, label="validation at its best")
        ax.set(xlabel="step", ylabel="loss", title=title)
        ax.legend()
    return picture


def _splits(noisy: Curves, steps: np.ndarray) -> Any:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    for i, name in enumerate(("validation", "test"), 1):
        left.plot(
            steps, 100 * noisy[f"{name}/accuracy"][:, 0], label=name, color=COLORS[i], linewidth=1
        )
    left.set(xlabel="step", ylabel="accuracy, %", title="100 examples each, one network")
    left.legend()
    mean = noisy["validation/loss"]
    right.plot(steps, mean, color=COLORS[1], linewidth=0.6, alpha=0.5)
    right.plot(steps, mean.mean(1), color="black", label="mean over seeds")
    right.set(
        xlabel="step", ylabel="validation loss", title=f"Falls, then rises: {mean.shape[1]} seeds"
    )
    right.legend()
    return picture


EXPERIMENT = Experiment(
    name="learning-curves",
    title="Learning curves, typical and fairy-tale",
    rows=("L2",),
    claim="Training performance always improves; validation and test curves are the same up to "
    "sampling error; "
    "validation performance first improves and then worsens.",
    seconds=8,
    run=run,
)

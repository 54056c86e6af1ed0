"""Learning curves: noisy ones as they usually are, and ideal ones; what falls, and what falls then
rises.

Letters: T evaluations, P networks.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ravine.data import Encoding, Random
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD, Momentum
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import format_interval, format_percent
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import curved_classes, make_recipe, train_and_observe

Curves = dict[str, np.ndarray]  # [T, P] by the name of a series; "steps" [T]


@experiment(
    "learning-curves",
    title="Learning curves, typical and fairy-tale",
    claim="Training performance always improves; validation and test curves are the same up to "
    "sampling error; validation performance first improves and then worsens.",
    rows=("L2",),
    seconds=8,
)
def measure_learning_curves(quick: bool) -> ExperimentOutcome:
    """Train with small batches and with gradient descent, and test each sentence of the lecture on
    the curves.
    """
    seeds, epochs = (3, 30) if quick else (12, 300)
    noisy, calm = _curves(epochs, seeds, batch=16), _curves(8 * epochs, seeds, batch="all")
    up_batch, up_descent, up_validation = (
        t_interval((np.diff(curve, axis=0) > 0).mean(0))
        for curve in (noisy["train/loss"], calm["train/loss"], noisy["validation/loss"])
    )
    loss, accuracy = noisy["validation/loss"], noisy["validation/accuracy"]
    share = np.clip(noisy["test/accuracy"].mean(), 0.01, 0.99)
    # the SD of the difference between two sets of 100 examples
    sampling = float(np.sqrt(2 * share * (1 - share) / 100))
    gap = float(np.abs((accuracy - noisy["test/accuracy"]).mean(0)).mean())
    smooth_loss, smooth_accuracy = smooth(loss), smooth(accuracy)
    worse = t_interval(smooth_loss[-1] - smooth_loss.min(0))
    place = float((smooth_loss.argmin(0) / (len(loss) - 1)).mean())
    lost = t_interval(smooth_accuracy.max(0) - smooth_accuracy[-1])
    numbers = {
        "train rises, minibatches": up_batch.value,
        "train rises, gradient descent": up_descent.value,
        "validation rises, minibatches": up_validation.value,
        "validation against test": gap,
        "sampling error": sampling,
        "loss above its best": worse.value,
        "loss above its best, low": worse.low,
        "best at, share of training": place,
        "accuracy below its best": lost.value,
    }
    said = (
        "Training loss always falls under gradient descent (it rises at "
        f"{format_percent(up_descent)} of the evaluations) but not with minibatches of 16: there "
        f"it rises at {format_percent(up_batch)}, the validation loss at "
        f"{format_percent(up_validation)}. Validation and test accuracy differ by {100 * gap:.1f} "
        f"points; sampling alone gives {100 * sampling:.1f} (SD). The validation loss, smoothed "
        f"over a tenth of the run, is least after {100 * place:.0f} % of training and ends "
        f"{format_interval(worse)} above that; accuracy ends {format_percent(lost)} below its best."
    )
    always, close, turns = up_batch.value == 0, gap < 2 * sampling, worse.low > 0
    held = None if not (always and close and turns) and (always or close or turns) else bool(always)
    figures = {
        "Typical and fairy-tale curves": _draw_losses(noisy, calm),
        "The three splits": _draw_splits(noisy),
    }
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _curves(epochs: int, seeds: int, *, batch: int | str) -> Curves:
    """Loss and accuracy on all three splits of 400 points of the mixture."""
    recipe = make_recipe(
        encoding=Encoding(scale="standard", smooth_clip=None),
        split=Random(validation=0.25, test=0.25),
        network=Mlp(hidden=(100,)),
        optimizer=SGD(lr=0.05) if batch == "all" else Momentum(lr=0.1),
        batch=batch,
        epochs=epochs,
        seeds=seeds,
    )
    cohort, _ = train_and_observe([recipe], curved_classes().draw(400, 5), test=True)
    names = ("train/loss", "validation/loss", "test/loss", "validation/accuracy", "test/accuracy")
    curves = {name: np.array([values for _, values in cohort.log.series[name]]) for name in names}
    return curves | {"steps": np.array([step for step, _ in cohort.log.series["train/loss"]])}


def smooth(curves: np.ndarray) -> np.ndarray:
    """Curves [T, P] as running means over a tenth of the run, shorter at the ends.

    The least value of a noisy line is where the noise is least, not where the curve is.

    >>> smooth(np.array([[3.0], [0.0], [3.0], [6.0]] * 8)).shape
    (32, 1)
    """
    half = max(1, len(curves) // 20)
    sums = np.concatenate([np.zeros_like(curves[:1]), curves.cumsum(0)])
    at = np.arange(len(curves))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(curves))
    return (sums[high] - sums[low]) / (high - low)[:, None]


def _draw_losses(noisy: Curves, calm: Curves) -> Figure:
    picture = figure(9.6, 3.6)
    panels = {"Typical: minibatches of 16": noisy, "Fairy tale: gradient descent": calm}
    for ax, (title, found) in zip(picture.subplots(1, 2), panels.items(), strict=True):
        for i, name in enumerate(("train", "validation", "test")):
            ax.plot(found["steps"], found[f"{name}/loss"][:, 0], label=name, **line_style(i))
        smoothed = smooth(found["validation/loss"][:, :1])[:, 0]
        ax.plot(found["steps"], smoothed, color=GRAY_COLOR, label="validation, smoothed")
        least = found["steps"][smoothed.argmin()]
        ax.axvline(least, color=GRAY_COLOR, linewidth=0.8, label="its lowest point")
        ax.set(xlabel="step", ylabel="loss", title=title)
        ax.legend()
    return picture


def _draw_splits(noisy: Curves) -> Figure:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    for i, name in enumerate(("validation", "test"), 1):
        accuracy = 100 * noisy[f"{name}/accuracy"][:, 0]
        left.plot(noisy["steps"], accuracy, label=name, color=SERIES_COLORS[i], linewidth=1)
    left.set(xlabel="step", ylabel="accuracy, %", title="100 examples each, one network")
    left.legend()
    loss = noisy["validation/loss"]
    right.plot(noisy["steps"], loss, color=SERIES_COLORS[1], linewidth=0.6, alpha=0.5)
    right.plot(noisy["steps"], loss.mean(1), color="black", label="mean over seeds")
    right.set(xlabel="step", ylabel="validation loss")
    right.set_title(f"Falls, then rises: {loss.shape[1]} seeds")
    right.legend()
    return picture

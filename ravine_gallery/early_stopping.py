"""Early stopping: the weights of the best validation loss against those of the last step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ravine.data import Encoding, Random
from ravine.early_stopping import EarlyStopping
from ravine.networks.mlp import Mlp
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import Interval, t_interval
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import (
    decide,
    draw_named_intervals,
    format_interval,
    format_percent,
    label_numbers,
)
from ravine_gallery.network_experiments import curved_classes, make_recipe, model_of

STOPPING_PATIENCE = 30
STOPPING_NAMES = ("to the end", "stopped early")


@experiment(
    "early-stopping",
    title="Early stopping",
    claim="Stopping when the validation loss no longer improves, and keeping the best weights, "
    "generalizes better than training to the end, for less work.",
    rows=("R4",),
    seconds=15,
)
def compare_stopping(quick: bool) -> ExperimentOutcome:
    """Train the same networks to the end and with early stopping on several draws of the data."""
    draws, epochs = (2, 40) if quick else (10, 250)
    points = curved_classes().draw(4000 if quick else 20_000, 999)[0]
    to_the_end = make_recipe(
        encoding=Encoding(smooth_clip=None),
        split=Random(validation=0.3, test=0.0),
        network=Mlp(hidden=(100,)),
        epochs=epochs,
        batch=16,
    )
    recipes = [to_the_end, to_the_end.vary("stop", EarlyStopping(patience=STOPPING_PATIENCE))]
    scores, shares = [], []
    for seed in range(draws):
        data = curved_classes().draw(300, seed)
        runs = train_all([recipe.vary("seed", seed) for recipe in recipes], data, workers=1)
        scores.append([_loss_and_error(run, points) for run in runs])
        steps = [run.record.members[0].steps for run in runs]
        shares.append(steps[1] / steps[0])
    losses, errors = np.array(scores).transpose(2, 0, 1)  # [draws, 2] each
    loss = dict(zip(STOPPING_NAMES, map(t_interval, losses.T), strict=True))
    error = dict(zip(STOPPING_NAMES, map(t_interval, errors.T), strict=True))
    gain, errors_saved = (t_interval(table[:, 0] - table[:, 1]) for table in (losses, errors))
    spent, bayes = t_interval(shares), curved_classes().error()
    numbers = {
        "loss gain": gain.value,
        "loss gain low": gain.low,
        "error gain": errors_saved.value,
        "error gain low": errors_saved.low,
        "steps spent": spent.value,
        "bayes": bayes,
    }
    numbers |= label_numbers("loss", loss) | label_numbers("error", error)
    doubt = "" if errors_saved.low > 0 else ", which may be 0"
    said = (
        f"With a patience of {STOPPING_PATIENCE} epochs networks stop after "
        f"{format_percent(spent)} of the budget. The test loss is "
        f"{format_interval(loss['stopped early'])} instead of "
        f"{format_interval(loss['to the end'])}, a gain of {format_interval(gain)} on the same "
        f"draw; the error rate is {format_percent(error['stopped early'])} instead of "
        f"{format_percent(error['to the end'])} (Bayes' rule {100 * bayes:.1f} %), a gain of "
        f"{format_percent(errors_saved)}{doubt}."
    )
    figures = {"Stopped and not": _draw_draws(losses, error, shares, bayes)}
    held = decide([gain, errors_saved])
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _loss_and_error(run: Run, points: np.ndarray) -> tuple[float, float]:
    """Mean cross entropy and error rate on fresh points, labels averaged out."""
    p = model_of(run).encoded_prediction(points).numpy()[:, 0].clip(1e-7, 1 - 1e-7)
    truth = curved_classes().probability(points)
    loss = float(-(truth * np.log(p) + (1 - truth) * np.log1p(-p)).mean())
    return loss, float(curved_classes().error_of(p[None] > 0.5, points)[0])


def _draw_draws(
    losses: np.ndarray, error: Mapping[Any, Interval], shares: list[float], bayes: float
) -> Figure:
    picture = figure(9.6, 3.4)
    left, middle, right = picture.subplots(1, 3)
    for pair in losses:
        left.plot([0, 1], pair, color=SERIES_COLORS[0], marker="o", linewidth=0.9)
    left.set_xticks([0, 1], STOPPING_NAMES)
    left.set(ylabel="test loss", title="Each draw of the data", xlim=(-0.3, 1.3))
    draw_named_intervals(middle, error, scale=100)
    middle.axhline(100 * bayes, color=GRAY_COLOR, linestyle="--")
    at, offset = (0.5, 100 * bayes), (0, 4)
    middle.annotate("Bayes' rule", at, xytext=offset, textcoords="offset points", color=GRAY_COLOR)
    middle.set(ylabel="test error, %", title="Mean, 95 % interval", xlim=(-0.5, 1.5))
    right.hist(100 * np.array(shares), bins=10, color=SERIES_COLORS[1])
    right.set(xlabel="steps made, % of the budget", ylabel="networks", title="When they stopped")
    return picture

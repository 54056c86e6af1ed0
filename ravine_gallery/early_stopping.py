"""Early stopping: the weights of the best validation loss against those of the last step (R4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.catalog import named_recipe
from ravine.data import Encoding, Random
from ravine.early_stopping import EarlyStopping
from ravine.recipe import Recipe
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, curved, interval, percent

PATIENCE = 30


def recipe(epochs: int, *, stops: bool) -> Recipe:
    """A hundred hidden units on 300 points, stopped early or not."""
    found = (
        named_recipe("plain")
        .vary("encoding", Encoding(smooth_clip=None))
        .vary("split", Random(validation=0.3, test=0.0))
    )
    found = found.vary("network.hidden", (100,)).vary("epochs", epochs).vary("batch", 16)
    return found.vary("stop", EarlyStopping(patience=PATIENCE) if stops else None)


def judged(run: Run, points: np.ndarray) -> tuple[float, float]:
    """Mean cross entropy and error rate on fresh points, labels averaged out."""
    assert run.model is not None
    chance = run.model.encoded_prediction(points).numpy()[:, 0].clip(1e-7, 1 - 1e-7)
    truth = curved().probability(points)
    loss = float(-(truth * np.log(chance) + (1 - truth) * np.log1p(-chance)).mean())
    return loss, float(curved().error_of(chance[None] > 0.5, points)[0])


def run(quick: bool) -> Outcome:
    """Train the same networks to the end and with early stopping on several draws of the data."""
    draws, epochs = (2, 40) if quick else (10, 250)
    points = curved().draw(4000 if quick else 20_000, 999)[0]
    rows = []
    for seed in range(draws):
        data = curved().draw(300, seed)
        chosen = [recipe(epochs, stops=stops).vary("seed", seed) for stops in (False, True)]
        runs = train_all(chosen, data, workers=1)
        ended = [judged(r, points) for r in runs]
        steps = [r.record.members[0].steps for r in runs]
        rows.append([*ended[0], *ended[1], steps[1] / steps[0]])
    table = np.array(rows)
    loss = {"to the end": interval(table[:, 0]), "stopped early": interval(table[:, 2])}
    error = {"to the end": interval(table[:, 1]), "stopped early": interval(table[:, 3])}
    gain, errors_saved = interval(table[:, 0] - table[:, 2]), interval(table[:, 1] - table[:, 3])
    spent = interval(table[:, 4])
    bayes = curved().error()
    numbers = {
        "loss gain": gain.mean,
        "loss gain low": gain.low,
        "error gain": errors_saved.mean,
        "error gain low": errors_saved.low,
        "steps spent": spent.mean,
        "bayes": bayes,
    }
    numbers |= {f"loss, {name}": value.mean for name, value in loss.items()}
    numbers |= {f"error, {name}": value.mean for name, value in error.items()}
    better = (gain.low > 0, errors_saved.low > 0)
    held = True if all(better) else False if gain.high < 0 and errors_saved.high < 0 else None
    said = (
        f"With a patience of {PATIENCE} epochs networks stop after {percent(spent)} of the budget. "
        f"Test loss is "
        f"{loss['stopped early']} instead of {loss['to the end']}, a gain of {gain} in the same "
        f"draw; the "
        "error rate is "
        f"{percent(error['stopped early'])} instead of {percent(error['to the end'])} (Bayes' rule "
        f"{100 * bayes:.1f} %), a gain of "
        f"{percent(errors_saved)}{'' if better[1] else ', which may be 0'}."
    )
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={"Stopped and not": _picture(table, error, bayes)},
    )


def _picture(table: np.ndarray, error: dict[str, Interval], bayes: float) -> Any:
    picture = figure(9.6, 3.4)
    left, middle, right = picture.subplots(1, 3)
    for row in table:
        left.plot([0, 1], [row[0], row[2]], color=COLORS[0], marker="o", linewidth=0.9)
    left.set_xticks([0, 1], ["to the end", "stopped early"])
    left.set(ylabel="test loss", title="Each draw of the data", xlim=(-0.3, 1.3))
    for i, value in enumerate(error.values()):
        mean, low, high = (100 * v for v in value)
        intervals(middle, [i], [mean], [low], [high], color=COLORS[i])
    middle.axhline(100 * bayes, color=GRAY, linestyle="--")
    middle.annotate(
        "Bayes' rule", (0.5, 100 * bayes), xytext=(0, 4), textcoords="offset points", color=GRAY
    )
    middle.set_xticks([0, 1], list(error))
    middle.set(ylabel="test error, %", title="Mean, 95 % interval", xlim=(-0.5, 1.5))
    right.hist(100 * table[:, 4], bins=10, color=COLORS[1])
    right.set(xlabel="steps made, % of the budget", ylabel="networks", title="When they stopped")
    return picture


EXPERIMENT = Experiment(
    name="early-stopping",
    title="Early stopping",
    rows=("R4",),
    claim="Stopping when the validation loss no longer improves, and keeping the best weights, "
    "generalizes better than "
    "training to the end, for less work.",
    seconds=15,
    run=run,
)

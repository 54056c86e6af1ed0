"""The influence of learning rate and batch size, for the same number of examples seen.

Letters: R rates, S seeds, T steps.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.marks import intervals
from ravine_gallery.optimizer_paths import evaluate_at, make_regression, shuffled_minibatches, walk

EPOCH_EXAMPLES = 256
WALKER_START = (-1.5, 1.5)
EPOCH_COUNT = 4


@experiment(
    "rates-and-batches",
    title="The influence of learning rate and batch size",
    claim="Gradients of small batches are noisy, so their rate must be smaller; large batches make "
    "training slow. Too large a rate hinders convergence, too small a one is slow.",
    rows=("O1", "D4"),
    seconds=4,
)
def find_best_rates(quick: bool) -> ExperimentOutcome:
    """Find the best rate for each batch size, and the loss at which a fixed rate settles."""
    batches = (1, 8, 64) if quick else (1, 4, 16, 64, 256)
    seeds = 4 if quick else 16
    rates = np.geomspace(0.002, 1.0, 10 if quick else 19)
    excess = {batch: _final_excess(batch, rates, seeds) for batch in batches}  # [R, S]
    best = {batch: rates[found.argmin(0)] for batch, found in excess.items()}
    slope_rate, slope_batch = _settling_exponents(4 if quick else 24)
    centers = {batch: float(np.exp(np.log(found).mean())) for batch, found in best.items()}
    medians = {batch: np.median(found, 1) for batch, found in excess.items()}
    least = {batch: float(found.min()) for batch, found in medians.items()}
    first, last = batches[0], batches[-1]
    diverged = float(rates[medians[first] > 10].min(initial=np.inf))
    numbers = {f"best rate, batch {batch}": value for batch, value in centers.items()}
    numbers |= {f"excess loss at the best rate, batch {b}": value for b, value in least.items()}
    numbers |= {
        "exponent of the floor in the rate": slope_rate,
        "exponent of the floor in the batch": slope_batch,
    }
    said = (
        f"After {EPOCH_COUNT} epochs the best rate is {centers[first]:.2g} for single examples and "
        f"{centers[last]:.2g} for batches of {last}: noisy gradients need smaller rates, as "
        f"claimed. The excess loss is then {least[first]:.3f} and {least[last]:.3f}: large batches "
        "make few steps and end higher. At a fixed rate the excess loss settles at a level "
        f"proportional to rate^{slope_rate:.2f} · batch^{slope_batch:.2f}, a little steeper than "
        "rate / batch, since examples are drawn without replacement. Too large a rate diverges "
        f"(from {diverged:.2g} for single examples); with too small a one four epochs are not "
        "enough."
    )
    held = centers[first] < centers[last] and least[first] < least[last] and slope_batch < -0.8
    title = f"The excess loss after {EPOCH_COUNT} epochs of {EPOCH_EXAMPLES} examples"
    figures = {title: _draw_map(rates, medians), "The best rate for each batch": _draw_best(best)}
    return ExperimentOutcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def _excess_losses(batch: int, rates: np.ndarray, seeds: int, epochs: int) -> Tensor:
    """The loss above its minimum before and after each step: [T + 1, R, S]; 1e3 where it is not
    finite. All rates and seeds walk on the same data, each seed in its own order.
    """
    data = make_regression(0, EPOCH_EXAMPLES)
    draws = shuffled_minibatches(EPOCH_EXAMPLES, batch, range(seeds), epochs)
    rules = [SGD(lr=float(rate)) for rate in rates for _ in range(seeds)]

    def gradient(rows: Tensor, step: int) -> Tensor:
        return data.batch_gradient(rows, next(draws).repeat(len(rates), 1))

    steps = epochs * (EPOCH_EXAMPLES // batch)
    places = walk(rules, torch.tensor(WALKER_START), gradient, steps).rows
    excess = evaluate_at(data.loss, places) - data.loss(data.best())
    return excess.reshape(len(places), len(rates), seeds).nan_to_num(1e3, posinf=1e3)


def _final_excess(batch: int, rates: np.ndarray, seeds: int) -> np.ndarray:
    """The excess loss after the last step, [R, S]."""
    return _excess_losses(batch, rates, seeds, EPOCH_COUNT)[-1].clamp(1e-6, 1e3).numpy()


def _settling_exponents(seeds: int) -> tuple[float, float]:
    """The exponents of rate and batch in the excess loss at which a fixed rate settles."""
    rates, batches = np.geomspace(0.02, 0.1, 4), (1, 2, 4, 8)
    levels = []
    for batch in batches:
        excess = _excess_losses(batch, rates, seeds, 4 * batch)
        levels.append(excess[len(excess) // 2 :].mean((0, 2)).log().numpy())
    x = np.array([[np.log(rate), np.log(batch), 1.0] for batch in batches for rate in rates])
    found = np.linalg.lstsq(x, np.concatenate(levels), rcond=None)[0]
    return float(found[0]), float(found[1])


def _draw_map(rates: np.ndarray, medians: dict[int, np.ndarray]) -> Figure:
    picture = figure(6.8, 3.4)
    axes = picture.subplots()
    height = np.stack(list(medians.values()))
    norm = LogNorm(1e-3, 10)
    drawn = axes.imshow(height, norm=norm, aspect="auto", origin="lower", cmap="cividis")
    star = {"marker": "*", "markersize": 11, "color": "white", "markeredgecolor": "black"}
    for i, row in enumerate(height):
        axes.plot(row.argmin(), i, **star)
    shown = range(0, len(rates), max(1, len(rates) // 6))
    axes.set_xticks(list(shown), [f"{rates[i]:.2g}" for i in shown])
    axes.set_yticks(range(len(medians)), [str(batch) for batch in medians])
    axes.set(xlabel="learning rate", ylabel="batch")
    picture.colorbar(drawn, ax=axes, label="loss above its minimum (star: least)", extend="both")
    return picture


def _draw_best(best: dict[int, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.2)
    axes = picture.subplots()
    logs = [np.log(found) for found in best.values()]
    middle = np.exp([found.mean() for found in logs])
    spread = np.exp([1.96 * found.std(ddof=1) / np.sqrt(len(found)) for found in logs])
    intervals(axes, list(best), middle, middle / spread, middle * spread)
    axes.plot(list(best), middle, color=SERIES_COLORS[0], linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(best), [str(batch) for batch in best])
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
    axes.minorticks_off()
    axes.set(xlabel="batch", ylabel="best rate (95 % interval)")
    return picture

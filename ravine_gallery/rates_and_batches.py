"""The influence of learning rate and batch size, for the same number of examples seen."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD
from ravine.reporting.plot_style import COLORS, figure, intervals
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.optimizer_paths import epochs_of, regression, walk

EXAMPLES = 256
START = (-1.5, 1.5)
EPOCHS = 4


@experiment(
    "rates-and-batches",
    title="The influence of learning rate and batch size",
    claim="Gradients of small batches are noisy, so their rate must be smaller; large batches make "
    "training slow. Too large a rate hinders convergence, too small a one is slow.",
    rows=("O1", "D4"),
    seconds=4,
)
def find_best_rates(quick: bool) -> Outcome:
    batches = (1, 8, 64) if quick else (1, 4, 16, 64, 256)
    seeds = 4 if quick else 16
    rates = np.geomspace(0.002, 1.0, 10 if quick else 19)
    excess = {batch: _excess(batch, rates, seeds) for batch in batches}  # [R, S]
    best = {batch: np.array([rates[i] for i in found.argmin(0)]) for batch, found in excess.items()}
    slope_rate, slope_batch = _floor(4 if quick else 24)
    centers = {batch: float(np.exp(np.log(found).mean())) for batch, found in best.items()}
    first, last = batches[0], batches[-1]
    least = {batch: float(np.median(found, 1).min()) for batch, found in excess.items()}
    diverged = {
        batch: float(rates[(np.median(found, 1) > 10)].min(initial=np.inf))
        for batch, found in excess.items()
    }
    numbers = {f"best rate, batch {batch}": value for batch, value in centers.items()}
    numbers |= {
        f"excess loss at the best rate, batch {batch}": value for batch, value in least.items()
    }
    numbers |= {
        "exponent of the floor in the rate": slope_rate,
        "exponent of the floor in the batch": slope_batch,
    }
    said = (
        f"Of {EPOCHS} passes, the best rate is {centers[first]:.2g} for single examples and "
        f"{centers[last]:.2g} for "
        f"batches of {last}: noisy gradients need smaller ones, as claimed. The excess loss then "
        f"is "
        f"{least[first]:.3f} and {least[last]:.3f}: large batches make few steps and end higher. "
        f"At a fixed rate the "
        f"loss settles at a height that goes like rate^{slope_rate:.2f} · batch^{slope_batch:.2f}, "
        f"a little steeper "
        "than rate / batch: examples are dealt out, not drawn. Too large a rate diverges (from "
        f"{diverged[first]:.2g} for single examples), too small a one does not arrive."
    )
    held = centers[first] < centers[last] and least[first] < least[last] and slope_batch < -0.8
    figures = {
        f"The excess loss after {EPOCHS} passes over {EXAMPLES} examples": _draw_map(rates, excess),
        "The best rate for each batch": _draw_best(best),
    }
    return Outcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def walkers_of(batch: int, rates: np.ndarray, seeds: int, epochs: int) -> Tensor:
    """The ways of all rates and seeds on minibatches: [T + 1, R, S, 2]. A seed has its own order of
    the same data.
    """
    data = regression(0, EXAMPLES)
    draws = epochs_of(EXAMPLES, batch, range(seeds), epochs)
    rules = [SGD(lr=float(rate)) for rate in rates for _ in range(seeds)]

    def gradient(rows: Tensor, step: int) -> Tensor:
        return data.batch_gradient(rows, next(draws).repeat(len(rates), 1))

    way = walk(rules, torch.tensor(START), gradient, epochs * (EXAMPLES // batch)).rows
    return way.reshape(len(way), len(rates), seeds, 2)


def _excess(batch: int, rates: np.ndarray, seeds: int) -> np.ndarray:
    """The expected loss above its minimum after the last step; 1e3 where it diverged."""
    end = walkers_of(batch, rates, seeds, EPOCHS)[-1]
    return _above(end).clamp(1e-6, 1e3).numpy()


def _above(places: Tensor) -> Tensor:
    data = regression(0, EXAMPLES)
    height = data.loss(places.reshape(-1, 2)) - data.loss(data.best())
    return height.reshape(places.shape[:-1]).nan_to_num(1e3, posinf=1e3)


def _floor(seeds: int) -> tuple[float, float]:
    """The exponents with which the height that the loss settles at goes with rate and batch."""
    rates, batches = np.geomspace(0.02, 0.1, 4), (1, 2, 4, 8)
    floors = []
    for batch in batches:
        way = walkers_of(batch, rates, seeds, 4 * batch)
        late = way[len(way) // 2 :]
        floors.append(_above(late).mean((0, 2)).log().numpy())
    x = np.array([[np.log(rate), np.log(batch), 1.0] for batch in batches for rate in rates])
    found = np.linalg.lstsq(x, np.concatenate(floors), rcond=None)[0]
    return float(found[0]), float(found[1])


def _draw_map(rates: np.ndarray, excess: dict[int, np.ndarray]) -> Figure:
    picture = figure(6.8, 3.4)
    axes = picture.subplots()
    height = np.stack([np.median(found, 1) for found in excess.values()])
    drawn = axes.imshow(
        height, norm=LogNorm(1e-3, 10), aspect="auto", origin="lower", cmap="cividis"
    )
    for i, row in enumerate(height):
        axes.plot(
            row.argmin(), i, marker="*", markersize=11, color="white", markeredgecolor="black"
        )
    shown = range(0, len(rates), max(1, len(rates) // 6))
    axes.set_xticks(list(shown), [f"{rates[i]:.2g}" for i in shown])
    axes.set_yticks(range(len(excess)), [str(batch) for batch in excess])
    axes.set_xlabel("learning rate")
    axes.set_ylabel("batch")
    picture.colorbar(drawn, ax=axes, label="loss above its minimum (star: least)", extend="both")
    return picture


def _draw_best(best: dict[int, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.2)
    axes = picture.subplots()
    logs = {batch: np.log(found) for batch, found in best.items()}
    middle = np.exp([found.mean() for found in logs.values()])
    half = np.array([1.96 * found.std(ddof=1) / np.sqrt(len(found)) for found in logs.values()])
    intervals(
        axes, list(best), middle, middle * np.exp(-half), middle * np.exp(half), color=COLORS[0]
    )
    axes.plot(list(best), middle, color=COLORS[0], linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(best), [str(batch) for batch in best])
    axes.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5], ["0.02", "0.05", "0.1", "0.2", "0.5"])
    axes.minorticks_off()
    axes.set_xlabel("batch")
    axes.set_ylabel("best rate (95 % interval)")
    return picture

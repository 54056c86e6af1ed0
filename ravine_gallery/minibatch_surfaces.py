"""Each minibatch has its own loss surface; its gradient is unbiased, its variance falls as 1/batch.

Letters: D draws, B examples of a minibatch.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.rng import stream
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.marks import intervals
from ravine_gallery.optimizer_paths import (
    Regression,
    draw_surface,
    evaluate_at,
    make_regression,
    mark_minima,
    shuffled_minibatches,
)

SAMPLED_EXAMPLES = 512
GRADIENT_PLACE = torch.tensor([[-0.5, 0.5]], dtype=torch.float64)  # where gradients are taken
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@experiment(
    "minibatch-surfaces",
    title="What each minibatch sees",
    claim="Each minibatch has its own loss surface; its gradient is unbiased, with a variance that "
    "falls as 1/batch.",
    rows=("D4", "V1"),
    seconds=4,
)
def measure_gradient_variance(quick: bool) -> ExperimentOutcome:
    """Measure mean and variance of gradients on minibatches drawn with and without replacement."""
    datasets, draws = (3, 200) if quick else (20, 600)
    samples = [make_regression(seed, SAMPLED_EXAMPLES) for seed in range(datasets)]
    replaced = np.array(
        [
            [_variance(data, _draw(draws, b, seed)) for b in BATCH_SIZES]
            for seed, data in enumerate(samples)
        ]
    )
    orders = torch.rand(draws, SAMPLED_EXAMPLES, generator=stream(0, "dealt")).argsort(1)
    parted = np.array(
        [[_variance(data, orders[:, :batch]) for batch in BATCH_SIZES] for data in samples]
    )
    slopes = t_interval([np.polyfit(np.log(BATCH_SIZES), np.log(row), 1)[0] for row in replaced])
    epoch = max(_epoch_error(data, batch) for data in samples for batch in BATCH_SIZES)
    bias = np.array([_bias(data, 16, draws, seed) for seed, data in enumerate(samples)])
    # 2.45: the square root of chi-square's 95 % point with two degrees of freedom
    unbiased = float((bias < 2.45).mean())
    relative = parted * np.array(BATCH_SIZES) / parted[:, :1]
    law = np.array([(SAMPLED_EXAMPLES - b) / (SAMPLED_EXAMPLES - 1) for b in BATCH_SIZES])
    half = float(relative[:, -1].mean())
    numbers = {
        "exponent of the variance": slopes.value,
        "exponent, low": slopes.low,
        "exponent, high": slopes.high,
        "share of data sets without a bias beyond chance": unbiased,
        "mean gradient of an epoch's batches less that of all examples, at most": epoch,
        "half the examples a batch, without replacement, over 1/batch": half,
        "mean distance from the law without replacement": float(
            np.abs(relative / law - 1)[:, :-1].mean(1).mean()
        ),
    }
    said = (
        "The variance of a minibatch's gradient falls as the batch to the power "
        f"{slopes.value:.3f} [{slopes.low:.3f}, {slopes.high:.3f}] over {datasets} data sets, "
        "where examples are drawn with replacement. Without replacement, as networks are trained, "
        "it falls faster, by another (N − B)/(N − 1): batches of half the examples have "
        f"{half:.2f} of 1/batch. Nothing is biased: the mean over an epoch's batches is the "
        f"gradient of all examples up to {epoch:.0e}, and {unbiased:.0%} of the means of {draws} "
        "draws lie within their 95 % ellipse."
    )
    falls = slopes.low <= -1 <= slopes.high or abs(slopes.value + 1) < 0.02
    figures = {
        "What each of three minibatches sees, and all examples (gray)": _draw_surfaces(samples[0]),
        "The variance of the gradient": _draw_variance(replaced, parted),
    }
    held = bool(falls and epoch < 1e-12)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _draw(draws: int, batch: int, seed: int, purpose: str = "with replacement") -> Tensor:
    """Minibatches drawn with replacement, [D, B]."""
    return torch.randint(SAMPLED_EXAMPLES, (draws, batch), generator=stream(seed, purpose, batch))


def _errors(data: Regression, examples: Tensor) -> Tensor:
    """The gradients on minibatches [D, B], less that of all examples, [D, 2]."""
    rows = GRADIENT_PLACE.expand(len(examples), 2)
    return data.batch_gradient(rows, examples) - data.gradient(GRADIENT_PLACE, 0)


def _variance(data: Regression, examples: Tensor) -> float:
    """The variance of the gradients on minibatches [D, B], summed over both entries."""
    return float((_errors(data, examples) ** 2).sum(1).mean())


def _epoch_error(data: Regression, batch: int) -> float:
    """How far the mean over the minibatches of an epoch is from the gradient of all examples."""
    batches = torch.cat(list(shuffled_minibatches(SAMPLED_EXAMPLES, batch, (0,), 1)))
    return float(_errors(data, batches).mean(0).abs().max())


def _bias(data: Regression, batch: int, draws: int, seed: int) -> float:
    """The length of the mean error of many gradients, in units of its standard error
    (Mahalanobis).
    """
    wrong = _errors(data, _draw(draws, batch, seed, "bias"))
    mean, spread = wrong.mean(0), torch.cov(wrong.T) / draws
    return float((mean @ torch.linalg.solve(spread, mean)).sqrt())


def _draw_surfaces(data: Regression) -> Figure:
    picture = figure(8.0, 3.5)
    window = (-1.6, 3.6, -3.2, 1.4)
    x, y = torch.linspace(*window[:2], 81).double(), torch.linspace(*window[2:], 81).double()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    for axes, batch in zip(picture.subplots(1, 3, sharey=True), (1, 4, 32), strict=True):
        draw_surface(axes, data.loss, window, levels=14)
        for i in range(3):
            chosen = torch.randint(
                SAMPLED_EXAMPLES, (batch,), generator=stream(i + 20, "seen", batch)
            )
            seen = Regression(data.inputs[chosen], data.targets[chosen])
            height = evaluate_at(seen.loss, grid)
            style = {"levels": [0.15, 1.0], "colors": SERIES_COLORS[i], "linewidths": (1.8, 0.9)}
            axes.contour(x, y, height - height.min(), **style)
            if batch > 1:
                axes.plot(*seen.best_point(), marker="x", color=SERIES_COLORS[i])
        mark_minima(axes, data.best_point())
        axes.set(title="one example" if batch == 1 else f"{batch} examples", xlabel="w₁")
        axes.set(xlim=window[:2], ylim=window[2:])
    picture.axes[0].set_ylabel("w₂")
    return picture


def _draw_variance(replaced: np.ndarray, parted: np.ndarray) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    x = np.array(BATCH_SIZES, float)
    for i, (name, found) in enumerate(
        {"with replacement": replaced, "without, as in training": parted}.items()
    ):
        low, middle, high = np.percentile(found / replaced[:, :1], [2.5, 50, 97.5], axis=0)
        at = x * (1 + 0.06 * (i - 0.5))
        intervals(axes, at, middle, low, high, color=SERIES_COLORS[i], label=name, marker="os"[i])
    axes.plot(x, 1 / x, color=GRAY_COLOR, linewidth=1, label="1 / batch")
    law, label = (SAMPLED_EXAMPLES - x) / (SAMPLED_EXAMPLES - 1) / x, "(N − B) / ((N − 1) B)"
    axes.plot(x, law, color=GRAY_COLOR, linewidth=1, linestyle=":", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(x, [str(b) for b in BATCH_SIZES])
    axes.set(yscale="log", xlabel="batch", ylabel="relative to one example")
    axes.legend(loc="lower left")
    return picture

"""What each minibatch sees: a surface of its own; its gradient is right on average, its variance
falls as 1/batch.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.network_experiments import interval
from ravine_gallery.optimizer_paths import Regression, epochs_of, ground, regression, target

EXAMPLES = 512
PLACE = torch.tensor([[-0.5, 0.5]], dtype=torch.float64)  # where gradients are taken
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@experiment(
    "minibatch-surfaces",
    title="What each minibatch sees",
    claim="Each minibatch sees a surface of its own; its gradient is unbiased, with a variance "
    "that falls as 1/batch.",
    rows=("D4", "V1"),
    seconds=4,
)
def measure_gradient_variance(quick: bool) -> Outcome:
    datasets, draws = (3, 200) if quick else (20, 600)
    samples = [regression(seed, EXAMPLES) for seed in range(datasets)]
    replaced = np.array(
        [
            [_variance(data, batch, draws, seed) for batch in BATCHES]
            for seed, data in enumerate(samples)
        ]
    )
    orders = torch.rand(draws, EXAMPLES, generator=stream(0, "dealt")).argsort(1)
    parted = np.array(
        [[_variance_of_epochs(data, orders[:, :batch]) for batch in BATCHES] for data in samples]
    )
    slopes = interval([np.polyfit(np.log(BATCHES), np.log(row), 1)[0] for row in replaced])
    epoch = max(_epoch_error(data, batch) for data in samples for batch in BATCHES)
    bias = np.array([_bias(data, 16, draws, seed) for seed, data in enumerate(samples)])
    inside = float(
        (bias < 2.45).mean()
    )  # the square root of chi-square's 95 % point with two degrees of freedom
    law = [(EXAMPLES - b) / (EXAMPLES - 1) for b in BATCHES]
    off = float(
        np.abs(parted[:, :-1] * np.array(BATCHES[:-1]) / parted[:, :1] / law[:-1] - 1)
        .mean(1)
        .mean()
    )
    numbers = {
        "exponent of the variance": slopes.mean,
        "exponent, low": slopes.low,
        "exponent, high": slopes.high,
        "share of data sets without a bias beyond chance": inside,
        "mean gradient of an epoch's batches less that of all examples, at most": epoch,
        "half the examples a batch, without replacement, over 1/batch": float(
            (parted[:, -1] * BATCHES[-1] / parted[:, 0]).mean()
        ),
        "mean distance from the law without replacement": off,
    }
    said = (
        f"The variance of a minibatch's gradient falls as the batch to the power {slopes.mean:.3f} "
        f"[{slopes.low:.3f}, {slopes.high:.3f}] over {datasets} data sets, where examples are "
        f"drawn with "
        "replacement. As networks are trained, without, it falls faster: by (N − B)/(N − 1) more, "
        "so that batches "
        f"of half the examples have "
        f"{numbers['half the examples a batch, without replacement, over 1/batch']:.2f} of "
        "1/batch. Nothing is biased: the mean over an epoch's batches is the gradient of all "
        "examples to "
        f"{epoch:.0e}, and {inside:.0%} of the means of {draws} draws are within their 95 % "
        f"ellipse."
    )
    held = slopes.low <= -1 <= slopes.high or abs(slopes.mean + 1) < 0.02
    figures = {
        "What each of three minibatches sees, and all examples (gray)": _draw_surfaces(samples[0]),
        "The variance of the gradient": _draw_variance(replaced, parted),
    }
    return Outcome(held=bool(held and epoch < 1e-12), said=said, numbers=numbers, figures=figures)


def _variance(data: Regression, batch: int, draws: int, seed: int) -> float:
    """The variance of gradients on batches drawn with replacement, summed over both entries."""
    chosen = torch.randint(
        EXAMPLES, (draws, batch), generator=stream(seed, "with replacement", batch)
    )
    grads = data.batch_gradient(PLACE.expand(draws, 2), chosen)
    return float(((grads - data.gradient(PLACE, 0)) ** 2).sum(1).mean())


def _variance_of_epochs(data: Regression, dealt: Tensor) -> float:
    """The same where the examples are shuffled and dealt out: `dealt` are many first batches [D,
    B].
    """
    grads = data.batch_gradient(PLACE.expand(len(dealt), 2), dealt)
    return float(((grads - data.gradient(PLACE, 0)) ** 2).sum(1).mean())


def _epoch_error(data: Regression, batch: int) -> float:
    """How far the mean over the minibatches of an epoch is from the gradient of all examples."""
    grads = [data.batch_gradient(PLACE, chosen) for chosen in epochs_of(EXAMPLES, batch, (0,), 1)]
    return float((torch.stack(grads).mean(0) - data.gradient(PLACE, 0)).abs().max())


def _bias(data: Regression, batch: int, draws: int, seed: int) -> float:
    """The length of the mean error of many gradients, in units of its standard error
    (Mahalanobis).
    """
    chosen = torch.randint(EXAMPLES, (draws, batch), generator=stream(seed, "bias", batch))
    wrong = data.batch_gradient(PLACE.expand(draws, 2), chosen) - data.gradient(PLACE, 0)
    mean, spread = wrong.mean(0), torch.cov(wrong.T) / draws
    return float((mean @ torch.linalg.solve(spread, mean)).sqrt())


def _draw_surfaces(data: Regression) -> Figure:
    picture = figure(8.0, 3.5)
    window = (-1.6, 3.6, -3.2, 1.4)
    x, y = torch.linspace(*window[:2], 81).double(), torch.linspace(*window[2:], 81).double()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
    for axes, batch in zip(picture.subplots(1, 3, sharey=True), (1, 4, 32), strict=True):
        ground(axes, data.loss, window, levels=14)
        for i in range(3):
            chosen = torch.randint(EXAMPLES, (batch,), generator=stream(i + 20, "seen", batch))
            seen = Regression(data.inputs[chosen], data.targets[chosen])
            height = (seen.loss(grid) - seen.loss(grid).min()).reshape(len(y), len(x))
            axes.contour(x, y, height, levels=[0.15, 1.0], colors=COLORS[i], linewidths=(1.8, 0.9))
            if batch > 1:
                axes.plot(*seen.best()[0].tolist(), marker="x", color=COLORS[i])
        target(axes, tuple(data.best()[0].tolist()))
        axes.set_title("one example" if batch == 1 else f"{batch} examples")
        axes.set_xlabel("w₁")
        axes.set_xlim(*window[:2])
        axes.set_ylim(*window[2:])
    picture.axes[0].set_ylabel("w₂")
    return picture


def _draw_variance(replaced: np.ndarray, parted: np.ndarray) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    x = np.array(BATCHES, float)
    for i, (name, found) in enumerate(
        {"with replacement": replaced, "without, as in training": parted}.items()
    ):
        relative = found / replaced[:, :1]
        low, middle, high = np.percentile(relative, [2.5, 50, 97.5], axis=0)
        intervals(
            axes,
            x * (1 + 0.06 * (i - 0.5)),
            middle,
            low,
            high,
            color=COLORS[i],
            label=name,
            marker="os"[i],
        )
    axes.plot(x, 1 / x, color=GRAY, linewidth=1, label="1 / batch")
    axes.plot(
        x,
        (EXAMPLES - x) / (EXAMPLES - 1) / x,
        color=GRAY,
        linewidth=1,
        linestyle=":",
        label="(N − B) / ((N − 1) B)",
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(x, [str(b) for b in BATCHES])
    axes.set_xlabel("batch")
    axes.set_ylabel("relative to one example")
    axes.legend(loc="lower left")
    return picture

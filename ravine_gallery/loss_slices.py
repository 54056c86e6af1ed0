"""Slices of a real network's loss: the plane of its training path, and planes of random directions.

Letters: T points of a path, P networks, W weights, G points of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.losses import SoftmaxCrossEntropy
from ravine.networks.batched import BatchedNetwork
from ravine.networks.mlp import Mlp
from ravine.optimizers import Momentum
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.rng import stream
from ravine.statistics import t_interval
from ravine.training.evaluation import mean_loss, outputs_on
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import format_percent
from ravine_gallery.network_experiments import make_recipe, train_and_observe


@experiment(
    "loss-slices",
    title="The loss of a real network, in slices",
    claim="The loss of a network can be looked at on a plane: the two principal directions of its "
    "training path show nearly all of the path, two random directions show next to nothing of it.",
    rows=("V1",),
    seconds=10,
)
def slice_loss(quick: bool) -> ExperimentOutcome:
    """Record the training of networks on the digits, and draw the loss on planes through the end of
    one.
    """
    seeds, epochs, cells = (3, 3, 9) if quick else (8, 20, 33)
    paths, program, examples = _training_paths(epochs, seeds)
    steps, width = paths[0].shape

    def loss(rows: Tensor) -> np.ndarray:
        return _losses(program, rows, examples)

    shares = [principal_plane(path)[1] for path in paths]
    walks = [principal_plane(_random_walk(steps, width, seed))[1] for seed in range(seeds)]
    of_path, of_walk = (
        t_interval([float(each[:2].sum()) for each in found]) for found in (shares, walks)
    )
    distances = [path[0] - path[-1] for path in paths]
    caught = t_interval(
        [float((d @ random_plane(width, s).T).norm() / d.norm()) for s, d in enumerate(distances)]
    )
    expected = math.sqrt(2 / width)
    planes = {
        "plane of the path": principal_plane(paths[0])[0],
        "random directions": random_plane(width, 0),
    }
    maps = {name: _loss_grid(loss, paths[0], plane, cells) for name, plane in planes.items()}
    start, end = loss(paths[0][[0, -1]])
    numbers = {
        "share of two directions": of_path.value,
        "share of two directions, low": of_path.low,
        "share for a random walk": of_walk.value,
        "random plane catches": caught.value,
        "random plane should catch": expected,
        "loss at the start": float(start),
        "loss at the end": float(end),
        "least on the plane": float(maps["plane of the path"][2].min()),
    }
    said = (
        f"Two principal directions hold {format_percent(of_path)} of the path's variance ({seeds} "
        f"networks of {width:,} weights). A random walk of as many steps has "
        f"{format_percent(of_walk)} in its own two, so most of that share does not show that the "
        f"path is simple. A plane of random directions shows {format_percent(caught)} of the way "
        f"from start to end (√(2/W) = {100 * expected:.1f} %): there the path is a point. The loss "
        f"fell from {start:.2f} to {end:.3f} over a distance of {float(distances[0].norm()):.1f}."
    )
    held = bool(of_path.low > of_walk.high and caught.value < 0.1)
    figures = {
        "Two planes through one network": _draw_planes(maps, paths[0], planes),
        "Shares of the directions": _draw_shares(shares, walks),
    }
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def principal_plane(path: Tensor) -> tuple[Tensor, Tensor]:
    """The two directions [2, W] in which a path [T, W] goes farthest from its end, and the share of
    each direction in its variance.
    """
    _, singular, directions = torch.linalg.svd((path - path[-1]).double(), full_matrices=False)
    return directions[:2].float(), singular.square() / singular.square().sum()


def random_plane(width: int, seed: int) -> Tensor:
    """Two random directions of length 1 at right angles, [2, W]: normal draws, not scaled by layer
    or filter.
    """
    drawn = torch.randn(width, 2, generator=stream(seed, "directions"), dtype=torch.float64)
    return torch.linalg.qr(drawn)[0].T.float()


def _random_walk(steps: int, width: int, seed: int) -> Tensor:
    """A walk of independent normal steps, [T, W], to compare the share of a plane with."""
    return torch.randn(steps, width, generator=stream(seed, "walk")).cumsum(0)


def _losses(program: BatchedNetwork, rows: Tensor, examples: Any) -> np.ndarray:
    """The training loss at many weights [G, W]: each point of a grid is a network of a cohort."""
    found = [
        mean_loss(SoftmaxCrossEntropy(), outputs_on(program, part, {}, examples), examples)
        for part in rows.split(64)
    ]
    return torch.cat(found).numpy()


def _training_paths(epochs: int, seeds: int) -> tuple[Tensor, BatchedNetwork, Any]:
    """The weights of each network every few steps, [P, T, W]; the program and the examples."""
    network, optimizer = Mlp(hidden=(32,)), Momentum(lr=0.02)
    recipe = make_recipe("digits", network=network, optimizer=optimizer, epochs=epochs, seeds=seeds)
    points: list[Tensor] = []

    def observe(cohort: Any, task: Any) -> None:
        if cohort.ids and cohort.step % 8 == 0:
            points.append(cohort.weights.clone())

    cohort, task = train_and_observe([recipe], observe=observe)
    return torch.stack(points, 1), cohort.network, task.train


def _loss_grid(
    loss: Callable[[Tensor], np.ndarray], path: Tensor, plane: Tensor, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates along both directions and the loss [cells, cells] (rows: the second) around a
    path's end.
    """
    along = (path - path[-1]) @ plane.T
    reach = 1.25 * float((path - path[-1]).norm(dim=1).max())
    low, high = along.min(0).values, along.max(0).values
    if (high - low).max() < 0.2 * reach:  # a random plane: as wide as the path is long
        limits = [(-reach, reach)] * 2
    else:
        pairs = zip(low.tolist(), high.tolist(), strict=True)
        limits = [(left - 0.3 * reach, right + 0.3 * reach) for left, right in pairs]
    across, up = (np.linspace(*limit, cells) for limit in limits)
    x, y = np.meshgrid(across, up)
    offsets = torch.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=torch.float32)
    return across, up, loss(path[-1] + offsets @ plane).reshape(cells, cells)


def _draw_planes(maps: dict[str, Any], path: Tensor, planes: dict[str, Tensor]) -> Figure:
    picture = figure(9.6, 4.2)
    ticks = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30]
    mark: Any = {"color": "white", "markeredgecolor": "black"}
    for ax, (name, (x, y, loss)) in zip(picture.subplots(1, 2), maps.items(), strict=True):
        levels: Any = np.geomspace(loss.min() * 0.999, loss.max() * 1.001, 16)
        shown = ax.contourf(x, y, loss, levels=levels, norm="log", cmap="cividis")
        bar = picture.colorbar(shown, ax=ax, label="training loss", ticks=ticks)
        bar.ax.set_yticklabels([f"{t:g}" for t in bar.get_ticks()])
        along = ((path - path[-1]) @ planes[name].T).numpy()
        ax.plot(*along.T, color="white", linewidth=2.6)
        ax.plot(*along.T, color=SERIES_COLORS[1], linewidth=1.4)
        ax.plot(*along[0], "o", label="start", **mark)
        ax.plot([0], [0], "*", markersize=12, label="end", **mark)
        ax.set(title=name, xlabel="direction 1", ylabel="direction 2", aspect="equal")
        ax.grid(False)
        ax.legend(loc="upper right")
    return picture


def _draw_shares(shares: list[Tensor], walks: list[Tensor]) -> Figure:
    picture = figure(6.4, 3.6)
    ax = picture.subplots()
    at = np.arange(1, 7)
    for i, (name, found) in enumerate({"training path": shares, "random walk": walks}.items()):
        means = 100 * torch.stack([each[:6] for each in found]).numpy().mean(0)
        ax.bar(at + 0.4 * i - 0.2, means, 0.38, color=(SERIES_COLORS[0], GRAY_COLOR)[i], label=name)
    ax.set(xlabel="principal direction", ylabel="share of the variance, %")
    ax.set_title("Mean over networks")
    ax.legend()
    return picture

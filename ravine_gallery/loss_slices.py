"""Slices of a real network's loss: the plane of its training path, and planes of random directions
(V1).

Letters: T points of a path, W weights, G points of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.catalog import named_recipe
from ravine.losses import SoftmaxCrossEntropy
from ravine.networks.batched import BatchedNetwork
from ravine.reporting.plot_style import COLORS, GRAY, figure
from ravine.rng import stream
from ravine.training.evaluation import mean_loss, outputs_on
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import interval, percent, watched

HIDDEN = 32


def plane_of(path: Tensor) -> tuple[Tensor, Tensor]:
    """The two directions [2, W] in which a path [T, W] goes farthest from its end, and all shares
    of its variance.
    """
    _, singular, directions = torch.linalg.svd((path - path[-1]).double(), full_matrices=False)
    return directions[:2].float(), singular.square() / singular.square().sum()


def random_plane(width: int, seed: int) -> Tensor:
    """Two random directions of length 1 at right angles, [2, W]: normal draws, not scaled by layer
    or filter.
    """
    drawn = torch.randn(width, 2, generator=stream(seed, "directions"), dtype=torch.float64)
    return torch.linalg.qr(drawn)[0].T.float()


def random_walk(steps: int, width: int, seed: int) -> Tensor:
    """A walk of independent normal steps, [T, W]: what the share of a plane is to be compared
    with.
    """
    return torch.randn(steps, width, generator=stream(seed, "walk")).cumsum(0)


def losses_on(program: BatchedNetwork, rows: Tensor, examples: Any) -> np.ndarray:
    """The training loss at many weights [G, W]: each point of a grid is a network of a cohort."""
    found = [
        mean_loss(SoftmaxCrossEntropy(), outputs_on(program, part, {}, examples), examples)
        for part in rows.split(64)
    ]
    return torch.cat(found).numpy()


def trained(epochs: int, seeds: int) -> tuple[list[Tensor], BatchedNetwork, Any]:
    """The path [T, W] of each network, its weights every few steps."""
    recipe = (
        named_recipe("plain")
        .vary("data.source", "digits")
        .vary("network.hidden", (HIDDEN,))
        .vary("optimizer.lr", 0.02)
    )
    points: list[Tensor] = []

    def look(cohort: Any, task: Any) -> None:
        if cohort.ids and cohort.step % 8 == 0:
            points.append(cohort.weights.clone())

    cohort, task = watched([recipe.vary("epochs", epochs).vary("seeds", seeds)], look)
    path = torch.stack(points, 1)  # [P, T, W]
    return list(path), cohort.network, task.train


def run(quick: bool) -> Outcome:
    """Record the training of a network on the digits, and look at its loss on planes through its
    end.
    """
    seeds, epochs, cells = (3, 3, 9) if quick else (8, 20, 33)
    paths, program, examples = trained(epochs, seeds)
    width, steps = paths[0].shape[1], len(paths[0])
    shares = [plane_of(path)[1] for path in paths]
    walks = [plane_of(random_walk(steps, width, seed))[1] for seed in range(seeds)]
    of_path = interval([float(s[:2].sum()) for s in shares])
    of_walk = interval([float(s[:2].sum()) for s in walks])
    path, directions = paths[0], plane_of(paths[0])[0]
    random = random_plane(width, 0)
    moved = float((path[0] - path[-1]).norm())
    caught = [
        float(((p[0] - p[-1]) @ random_plane(width, s).T).norm() / (p[0] - p[-1]).norm())
        for s, p in enumerate(paths)
    ]
    seen = interval(caught)
    maps = {
        name: grid(lambda rows: losses_on(program, rows, examples), path, plane, cells)
        for name, plane in (("plane of the path", directions), ("random directions", random))
    }
    start, end = losses_on(program, path[[0, -1]], examples)
    least = float(maps["plane of the path"][2].min())
    numbers = {
        "share of two directions": of_path.mean,
        "share of two directions, low": of_path.low,
        "share for a random walk": of_walk.mean,
        "random plane catches": seen.mean,
        "random plane should catch": math.sqrt(2 / width),
        "loss at the start": float(start),
        "loss at the end": float(end),
        "least on the plane": least,
    }
    held = of_path.low > of_walk.high and seen.mean < 0.1
    said = (
        f"Two principal directions hold {percent(of_path)} of the path's variance ({seeds} "
        f"networks of {width:,} "
        f"weights); a random walk of as many steps has {percent(of_walk)} in its own two, so most "
        f"of that share is no "
        f"sign of a simple path. A plane of random directions shows {percent(seen)} of the way "
        f"from start to end "
        f"(√(2/W) = {100 * math.sqrt(2 / width):.1f} %): the path is a point in it. The loss fell "
        f"from {start:.2f} to "
        f"{end:.3f} over a distance of {moved:.1f}."
    )
    return Outcome(
        held=bool(held),
        said=said,
        numbers=numbers,
        figures={
            "Two planes through one network": _planes(maps, path, directions, random),
            "Shares of the directions": _shares(shares, walks),
        },
    )


def grid(
    loss: Callable[[Tensor], np.ndarray], path: Tensor, plane: Tensor, cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates along both directions and the loss [cells, cells] (rows: the second) around a
    path's end.
    """
    along = (path - path[-1]) @ plane.T
    reach = 1.25 * float((path - path[-1]).norm(dim=1).max())
    low, high = along.min(0).values, along.max(0).values
    flat = bool((high - low).max() < 0.2 * reach)  # a random plane: as wide as the path is long
    sides = [
        np.linspace(-reach, reach, cells)
        if flat
        else np.linspace(float(lo) - 0.3 * reach, float(hi) + 0.3 * reach, cells)
        for lo, hi in zip(low, high, strict=True)
    ]
    x, y = np.meshgrid(*sides)
    offsets = torch.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=torch.float32)
    return sides[0], sides[1], loss(path[-1] + offsets @ plane).reshape(cells, cells)


def _planes(maps: dict[str, Any], path: Tensor, directions: Tensor, random: Tensor) -> Any:
    picture = figure(9.6, 4.2)
    for ax, (name, (x, y, loss)), plane in zip(
        picture.subplots(1, 2), maps.items(), (directions, random), strict=True
    ):
        levels = np.geomspace(loss.min() * 0.999, loss.max() * 1.001, 16)
        shown = ax.contourf(x, y, loss, levels=levels, norm="log", cmap="cividis")
        bar = picture.colorbar(
            shown, ax=ax, label="training loss", ticks=[0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30]
        )
        bar.ax.set_yticklabels([f"{t:g}" for t in bar.get_ticks()])
        along = ((path - path[-1]) @ plane.T).numpy()
        ax.plot(*along.T, color="white", linewidth=2.6)
        ax.plot(*along.T, color=COLORS[1], linewidth=1.4)
        ax.plot(*along[0], "o", color="white", markeredgecolor="black", label="start")
        ax.plot([0], [0], "*", color="white", markeredgecolor="black", markersize=12, label="end")
        ax.set(title=name, xlabel="direction 1", ylabel="direction 2", aspect="equal")
        ax.grid(False)
        ax.legend(loc="upper right")
    return picture


def _shares(shares: list[Tensor], walks: list[Tensor]) -> Any:
    picture = figure(6.4, 3.6)
    ax = picture.subplots()
    at = np.arange(1, 7)
    for i, (name, found) in enumerate((("training path", shares), ("random walk", walks))):
        values = 100 * torch.stack([s[:6] for s in found]).numpy()
        ax.bar(at + 0.4 * i - 0.2, values.mean(0), 0.38, color=(COLORS[0], GRAY)[i], label=name)
    ax.set(
        xlabel="principal direction", ylabel="share of the variance, %", title="Mean over networks"
    )
    ax.legend()
    return picture


EXPERIMENT = Experiment(
    name="loss-slices",
    title="The loss of a real network, in slices",
    rows=("V1",),
    claim="The loss of a network can be looked at on a plane: the two principal directions of its "
    "training path show "
    "nearly all of the path, two random directions show next to nothing of it.",
    seconds=10,
    run=run,
)

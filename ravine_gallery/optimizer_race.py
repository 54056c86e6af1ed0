"""All optimizers on four surfaces, each at the best of its rates; the rate is chosen on other
starts than the race.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD, Adadelta, Adagrad, Adam, Momentum, Nesterov, RMSprop
from ravine.reporting.plot_style import COLORS, band, figure
from ravine.rng import stream
from ravine_gallery.experiment import Outcome, experiment
from ravine_gallery.optimizer_paths import ground, slope, surface, target, values, walk
from ravine_gallery.surfaces import Surface

RUNNERS: dict[str, Any] = {
    "SGD": SGD,
    "momentum": Momentum,
    "Nesterov": Nesterov,
    "Adagrad": Adagrad,
    "Adadelta": Adadelta,
    "RMSprop": RMSprop,
    "Adam": Adam,
}
DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
LOOKS = dict(zip(RUNNERS, zip((*COLORS, "#7F4A1E", "#6A3D9A"), DASHES, strict=True), strict=True))
GROUNDS = ("ravine", "beale", "rosenbrock")  # and the saddle, which has no minimum
LOWEST, HIGHEST = -12.0, 4.0  # heights are powers of ten


class Race(NamedTuple):
    """What came of a surface, for O optimizers and R rates: results on the starts for choosing [O,
    R, P], and the race itself [O, P]."""

    rates: np.ndarray
    chosen: np.ndarray
    results: np.ndarray
    best: dict[str, float]


@experiment(
    "optimizer-race",
    title="The optimizer race, each at its best rate",
    claim="Which optimizer is best depends on the problem; typically the best option is Adam.",
    rows=("V2", "O1", "O2", "O3", "O4", "O5", "O6", "O7"),
    seconds=12,
)
def race_optimizers(quick: bool) -> Outcome:
    rates = np.geomspace(1e-4, 1e2, 19 if quick else 49)
    starts, steps = (4, 50) if quick else (25, 200)
    races = {name: _race(surface(name), rates, starts, steps) for name in (*GROUNDS, "saddle")}
    ranks = {name: _ranks(race) for name, race in races.items()}
    winners = {
        name: [runner for runner, rank in found.items() if rank == 1]
        for name, found in ranks.items()
    }
    same = _same_rate(0.01)
    numbers = {}
    for name, race in races.items():
        unit = "steps to leave" if name == "saddle" else "powers of ten left"
        for runner, found in zip(RUNNERS, race.results, strict=True):
            numbers[f"{name}, {runner}: {unit}"] = float(np.median(found))
            numbers[f"{name}, {runner}: best rate"] = race.best[runner]
    numbers |= {
        f"mean rank, {runner}": float(np.mean([ranks[n][runner] for n in races]))
        for runner in RUNNERS
    }
    numbers |= {
        f"saddle at a rate of 0.01, {runner}: steps to leave": count
        for runner, count in same.items()
    }
    adam = [f"{ranks[name]['Adam']:.0f} on {_of(name)}" for name in races]
    told = "; ".join(f"on {_of(name)} {', '.join(winner)}" for name, winner in winners.items())
    slow, fast = "SGD", min(same, key=same.__getitem__)
    first = sum("Adam" in winner for winner in winners.values())
    said = (
        f"Each at the best of {len(rates)} rates, on {starts} starts that the rate was not chosen "
        f"on, the first are "
        f"{told}. Adam's places among {len(RUNNERS)}: {', '.join(adam)}. So it depends on the "
        f"surface, and Adam is "
        f"the first or one of the first on {first} of {len(races)}. One rate for all tells another "
        f"story: at 0.01 "
        f"{slow} needs {same[slow]:.0f} steps to leave the saddle, {fast} {same[fast]:.0f}; at "
        f"their best rates it "
        f"is {_least(races, slow):.0f} and {_least(races, fast):.0f}."
    )
    depends = not set.intersection(*(set(winner) for winner in winners.values()))
    figures = {
        f"The race, each at its best rate ({steps} steps; the first of the starts)": _draw_ways(
            races, steps
        ),
        "Is the winner only well tuned? The result for each rate": _draw_rates(races),
    }
    held = None if depends and first <= len(races) / 2 else depends
    return Outcome(held=held, said=said, numbers=numbers, figures=figures)


def _of(name: str) -> str:
    return f"the {name}" if name in ("ravine", "saddle") else f"{name.title()}'s"


def _least(races: dict[str, Race], runner: str) -> float:
    return float(np.median(races["saddle"].results[list(RUNNERS).index(runner)]))


def _race(ground_: Surface, rates: np.ndarray, starts: int, steps: int) -> Race:
    """All rates as rows of one cohort for each rule; the rate with the best mean is the one it
    races with.
    """
    choosing, racing = _starts(ground_, "choosing", starts), _starts(ground_, "race", starts)
    chosen, results, best = [], [], {}
    for name, kind in RUNNERS.items():
        rules = [kind(lr=float(rate)) for rate in rates for _ in range(starts)]
        found = _result(
            ground_, walk(rules, choosing.repeat(len(rates), 1), slope(ground_), steps).rows
        )
        found = found.reshape(len(rates), starts)
        best[name] = float(
            rates[found.mean(1).argmin()]
        )  # the mean: a rate that diverges from some starts is none
        chosen.append(found)
        results.append(
            _result(ground_, walk(kind(lr=best[name]), racing, slope(ground_), steps).rows)
        )
    return Race(rates, np.stack(chosen), np.stack(results), best)


def _starts(ground_: Surface, purpose: str, count: int) -> Tensor:
    """Places near the surface's start; on the saddle the small coordinate keeps its size."""
    width = torch.tensor(
        [0.1, 0.0] if ground_.name == "saddle" else [0.1, 0.1], dtype=torch.float64
    )
    draws = torch.randn(
        count, 2, generator=stream(0, f"{ground_.name} {purpose}"), dtype=torch.float64
    )
    return torch.tensor(ground_.start, dtype=torch.float64) + width * draws


def _result(ground_: Surface, way: Tensor) -> np.ndarray:
    """log10 of the height left above the minimum; on the saddle the steps until the walker has left
    it downwards.
    """
    if ground_.name == "saddle":
        gone = ((way[..., 1].abs() > 1) & (way[..., 0].abs() < 3)).int()
        return torch.where(gone.any(0), gone.argmax(0), len(way) - 1).double().numpy()
    left = (values(ground_, way[-1]) - ground_.minimum).nan_to_num(1e9, posinf=1e9)
    return left.clamp(10**LOWEST, 10**HIGHEST).log10().numpy()


def _ranks(race: Race) -> dict[str, float]:
    """Each runner's place by its median; equal ones share the better place."""
    middle = np.median(race.results, 1)
    return {name: 1.0 + float((middle < middle[i] - 1e-9).sum()) for i, name in enumerate(RUNNERS)}


def _same_rate(rate: float) -> dict[str, float]:
    """Steps to leave the saddle where all have one rate."""
    saddle = surface("saddle")
    start = torch.tensor([saddle.start], dtype=torch.float64)
    ways = {n: walk(kind(lr=rate), start, slope(saddle), 400).rows for n, kind in RUNNERS.items()}
    return {n: float((way[:, 0, 1].abs() > 1).int().argmax()) or 400.0 for n, way in ways.items()}


def _draw_ways(races: dict[str, Race], steps: int) -> Figure:
    picture = figure(8.0, 7.2)
    windows = {
        "ravine": (-2.2, 2.2, -2.5, 5),
        "beale": (-0.5, 4.5, -1.2, 2.2),
        "rosenbrock": (-2, 1.8, -0.8, 2.4),
        "saddle": (-2.5, 2.8, -2.2, 2.2),
    }
    for axes, (name, race) in zip(picture.subplots(2, 2).flat, races.items(), strict=True):
        floor = surface(name)
        ground(axes, floor, windows[name], log=name in ("beale", "rosenbrock"), levels=14)
        start = _starts(floor, "race", 1)
        for runner, kind in RUNNERS.items():
            color, dashes = LOOKS[runner]
            way = walk(kind(lr=race.best[runner]), start, slope(floor), steps).rows[:, 0]
            axes.plot(*way.T.numpy(), color=color, linestyle=dashes, linewidth=1.4, label=runner)
        axes.plot(
            *start[0].tolist(), marker="o", markersize=6, color="#000000", markerfacecolor="white"
        )
        target(axes, *floor.minima)
        axes.set_title(f"{name}: {floor.formula}" if len(floor.formula) < 30 else name)
    picture.legend(
        *picture.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=7,
        frameon=False,
        columnspacing=1.2,
    )
    return picture


def _draw_rates(races: dict[str, Race]) -> Figure:
    picture = figure(8.0, 6.0)
    for axes, (name, race) in zip(
        picture.subplots(2, 2, sharex=True).flat, races.items(), strict=True
    ):
        for runner, found in zip(RUNNERS, race.chosen, strict=True):
            color, dashes = LOOKS[runner]
            low, middle, high = np.percentile(found, [25, 50, 75], axis=1)
            axes.plot(race.rates, middle, color=color, linestyle=dashes, label=runner)
            band(axes, race.rates, low, high, color=color)
        axes.set_xscale("log")
        axes.set_title(name)
        axes.set_ylabel("steps to leave" if name == "saddle" else "powers of ten left")
    for axes in picture.axes[2:]:
        axes.set_xlabel("learning rate")
    picture.legend(
        *picture.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=7,
        frameon=False,
        columnspacing=1.2,
    )
    return picture

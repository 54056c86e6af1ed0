"""All optimizers on four surfaces, each at its best rate, chosen on other starts than the race.

Letters: O optimizers, R rates, P starts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.optimizers import SGD, Adadelta, Adagrad, Adam, Momentum, Nesterov, RMSprop
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.rng import stream
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_quartiles, label_numbers
from ravine_gallery.optimizer_paths import (
    Window,
    draw_surface,
    evaluate_at,
    gradient_of,
    mark_minima,
    walk,
)
from ravine_gallery.surfaces import Surface, find_surface

RACED_OPTIMIZERS: dict[str, Any] = {
    "SGD": SGD,
    "momentum": Momentum,
    "Nesterov": Nesterov,
    "Adagrad": Adagrad,
    "Adadelta": Adadelta,
    "RMSprop": RMSprop,
    "Adam": Adam,
}
RACE_WINDOWS: dict[str, Window] = {
    "ravine": (-2.2, 2.2, -2.5, 5),
    "beale": (-0.5, 4.5, -1.2, 2.2),
    "rosenbrock": (-2, 1.8, -0.8, 2.4),
    "saddle": (-2.5, 2.8, -2.2, 2.2),  # it has no minimum: what counts is to leave it
}
LINE_COLORS = (*SERIES_COLORS, "#7F4A1E", "#6A3D9A")
LINE_DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
LOWEST_DECADE, HIGHEST_DECADE = -12.0, 4.0  # heights are powers of ten


class Race(NamedTuple):
    """The results on one surface: at all rates on the starts for choosing [O, R, P], and of the
    race at the best rates [O, P].
    """

    rates: np.ndarray
    chosen: np.ndarray
    results: np.ndarray
    best: dict[str, float]

    def medians(self) -> dict[str, float]:
        """Each optimizer's result in the race."""
        return dict(zip(RACED_OPTIMIZERS, np.median(self.results, 1).tolist(), strict=True))

    def ranks(self) -> dict[str, float]:
        """Each optimizer's place by its median; equal ones share the better place."""
        medians = self.medians()
        return {
            name: 1.0 + sum(other < median - 1e-9 for other in medians.values())
            for name, median in medians.items()
        }


@experiment(
    "optimizer-race",
    title="The optimizer race, each at its best rate",
    claim="Which optimizer is best depends on the problem; typically the best option is Adam.",
    rows=("V2", "O1", "O2", "O3", "O4", "O5", "O6", "O7"),
    seconds=12,
)
def race_optimizers(quick: bool) -> ExperimentOutcome:
    """Race on each surface, and leave the saddle once more with one rate for all."""
    rates = np.geomspace(1e-4, 1e2, 19 if quick else 49)
    starts, steps = (8, 50) if quick else (25, 200)
    races = {name: _race(find_surface(name), rates, starts, steps) for name in RACE_WINDOWS}
    ranks = {name: race.ranks() for name, race in races.items()}
    winners = {
        name: [optimizer for optimizer, rank in found.items() if rank == 1]
        for name, found in ranks.items()
    }
    same = _steps_to_leave(0.01)
    numbers = {}
    for name, race in races.items():
        unit = "steps to leave" if name == "saddle" else "powers of ten left"
        for optimizer, median in race.medians().items():
            numbers[f"{name}, {optimizer}: {unit}"] = median
            numbers[f"{name}, {optimizer}: best rate"] = race.best[optimizer]
    numbers |= label_numbers(
        "mean rank",
        {each: np.mean([found[each] for found in ranks.values()]) for each in RACED_OPTIMIZERS},
    )
    numbers |= {f"saddle at a rate of 0.01, {k}: steps to leave": v for k, v in same.items()}
    places = [f"{found['Adam']:.0f} on {_called(name)}" for name, found in ranks.items()]
    best = "; ".join(f"on {_called(name)} {', '.join(each)}" for name, each in winners.items())
    slow, fast = "SGD", min(same, key=same.__getitem__)
    tuned = races["saddle"].medians()
    first = sum("Adam" in winner for winner in winners.values())
    said = (
        f"Each at the best of {len(rates)} rates, on {starts} starts on which the rate was not "
        f"chosen, the winners are {best}. Adam's places among {len(RACED_OPTIMIZERS)}: "
        f"{', '.join(places)}. So the best optimizer depends on the surface, and Adam is among the "
        f"winners on {first} of {len(races)}. With one rate for all the order is different: at "
        f"0.01 {slow} needs {same[slow]:.0f} steps to leave the saddle and {fast} "
        f"{same[fast]:.0f}, at their best rates {tuned[slow]:.0f} and {tuned[fast]:.0f}."
    )
    depends = not set.intersection(*(set(winner) for winner in winners.values()))
    held = None if depends and first <= len(races) / 2 else depends
    title = f"The race, each at its best rate ({steps} steps; the first of the starts)"
    figures = {
        title: _draw_ways(races, steps),
        "Is the winner only well tuned? The result for each rate": _draw_rates(races),
    }
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _called(name: str) -> str:
    return f"the {name}" if name in ("ravine", "saddle") else f"{name.title()}'s"


def _race(surface: Surface, rates: np.ndarray, starts: int, steps: int) -> Race:
    """Choose each optimizer's rate, then race. All rates of an optimizer walk as one cohort."""
    choosing, racing = _starts(surface, "choosing", starts), _starts(surface, "race", starts)
    gradient = gradient_of(surface)
    chosen, results, best = [], [], {}
    for name, kind in RACED_OPTIMIZERS.items():
        rules = [kind(lr=float(rate)) for rate in rates for _ in range(starts)]
        places = walk(rules, choosing.repeat(len(rates), 1), gradient, steps).rows
        found = _results(surface, places).reshape(len(rates), starts)
        # by the mean: a rate that diverges from some starts is no good rate
        best[name] = float(rates[found.mean(1).argmin()])
        chosen.append(found)
        results.append(_results(surface, walk(kind(lr=best[name]), racing, gradient, steps).rows))
    return Race(rates, np.stack(chosen), np.stack(results), best)


def _starts(surface: Surface, purpose: str, count: int) -> Tensor:
    """Places near the surface's start; on the saddle the small coordinate keeps its size."""
    generator = stream(0, f"{surface.name} {purpose}")
    draws = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    sd = [0.1, 0.0] if surface.name == "saddle" else [0.1, 0.1]
    return surface.start_rows() + torch.tensor(sd, dtype=torch.float64) * draws


def _results(surface: Surface, places: Tensor) -> np.ndarray:
    """log10 of the height left above the minimum; on the saddle the steps until the walker has left
    it downwards.
    """
    if surface.name == "saddle":
        gone = ((places[..., 1].abs() > 1) & (places[..., 0].abs() < 3)).int()
        return torch.where(gone.any(0), gone.argmax(0), len(places) - 1).double().numpy()
    left = (evaluate_at(surface, places[-1]) - surface.minimum).nan_to_num(1e9, posinf=1e9)
    return left.clamp(10**LOWEST_DECADE, 10**HIGHEST_DECADE).log10().numpy()


def _steps_to_leave(rate: float) -> dict[str, float]:
    """Steps to leave the saddle where all have one rate; 400 where it is not left."""
    saddle, found = find_surface("saddle"), {}
    for name, kind in RACED_OPTIMIZERS.items():
        places = walk(kind(lr=rate), saddle.start_rows(), gradient_of(saddle), 400).rows
        found[name] = float((places[:, 0, 1].abs() > 1).int().argmax()) or 400.0
    return found


def _line(index: int) -> dict[str, str]:
    return {"color": LINE_COLORS[index], "linestyle": LINE_DASHES[index]}


def _add_legend(picture: Figure) -> None:
    handles = picture.axes[0].get_legend_handles_labels()
    style: Any = {"loc": "outside lower center", "frameon": False, "columnspacing": 1.2}
    picture.legend(*handles, ncols=7, **style)


def _draw_ways(races: dict[str, Race], steps: int) -> Figure:
    picture = figure(8.0, 7.2)
    ring: Any = {"marker": "o", "markersize": 6, "color": "#000000", "markerfacecolor": "white"}
    for axes, (name, race) in zip(picture.subplots(2, 2).flat, races.items(), strict=True):
        surface = find_surface(name)
        log = name in ("beale", "rosenbrock")
        draw_surface(axes, surface, RACE_WINDOWS[name], log=log, levels=14)
        start = _starts(surface, "race", 1)
        for i, (optimizer, kind) in enumerate(RACED_OPTIMIZERS.items()):
            rule = kind(lr=race.best[optimizer])
            path = walk(rule, start, gradient_of(surface), steps).rows[:, 0]
            axes.plot(*path.T.numpy(), linewidth=1.4, label=optimizer, **_line(i))
        axes.plot(*start[0].tolist(), **ring)
        mark_minima(axes, *surface.minima)
        axes.set_title(f"{name}: {surface.formula}" if len(surface.formula) < 30 else name)
    _add_legend(picture)
    return picture


def _draw_rates(races: dict[str, Race]) -> Figure:
    picture = figure(8.0, 6.0)
    panels = picture.subplots(2, 2, sharex=True)
    for axes, (name, race) in zip(panels.flat, races.items(), strict=True):
        for i, (optimizer, found) in enumerate(zip(RACED_OPTIMIZERS, race.chosen, strict=True)):
            draw_quartiles(axes, race.rates, found, label=optimizer, **_line(i))
        axes.set(xscale="log", title=name)
        axes.set_ylabel("steps to leave" if name == "saddle" else "powers of ten left")
    for axes in panels[1]:
        axes.set_xlabel("learning rate")
    _add_legend(picture)
    return picture

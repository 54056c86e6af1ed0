"""Schedules as executed: the rates of real runs against the lectures' formulas, and why rates fall.

Letters: T steps, P walkers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.optimizers import SGD, Momentum
from ravine.protocols import Plan
from ravine.record import Record
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, band, figure
from ravine.schedules import (
    SGDR,
    Constant,
    Cosine,
    Cyclical,
    EveryK,
    Exponential,
    InverseTime,
    ReduceOnPlateau,
    StepDecay,
)
from ravine.statistics import t_interval
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import label_numbers
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import make_recipe
from ravine_gallery.optimizer_paths import noisy_gradient, walk
from ravine_gallery.surfaces import find_surface

LARGEST_RATE, LEAST_RATE = 0.1, 0.01  # the slides' rate, and their η_min
RATE_RATIO = LEAST_RATE / LARGEST_RATE
SCHEDULED_EPOCHS = 70
PLATEAU_SCHEDULE = ReduceOnPlateau(gamma=0.5, patience=4.0, minimum=0.05)

Formula = Callable[[float], float]  # the rate at t epochs


def _cosine(share: float) -> float:
    """η_min + (η_max − η_min) (1 + cos π share) / 2."""
    return LEAST_RATE + (LARGEST_RATE - LEAST_RATE) * (1 + math.cos(math.pi * share)) / 2


def _restarts(t: float) -> float:
    """Cosines of 10, 20, 40 epochs one after the other."""
    length = 10.0
    while t >= length:
        t, length = t - length, 2 * length
    return _cosine(t / length)


def _triangle(t: float) -> float:
    """Up in five epochs, down in the next five."""
    return LEAST_RATE + (LARGEST_RATE - LEAST_RATE) * (1 - abs(t / 5 % 2 - 1))


# each schedule with the slides' formula for it
FORMULA_SCHEDULES: dict[str, tuple[Any, Formula]] = {
    "step decay": (
        StepDecay(milestones=(2 / 7, 4 / 7), gamma=0.5),
        lambda t: LARGEST_RATE * 0.5 ** (int(t >= 20) + int(t >= 40)),
    ),
    "halved": (EveryK(epochs=10.0, gamma=0.5), lambda t: LARGEST_RATE * 0.5 ** math.floor(t / 10)),
    "exponential": (Exponential(k=0.05), lambda t: LARGEST_RATE * math.exp(-0.05 * t)),
    "1/t": (InverseTime(k=0.1), lambda t: LARGEST_RATE / (1 + 0.1 * t)),
    "cosine": (Cosine(minimum=RATE_RATIO), lambda t: _cosine(t / SCHEDULED_EPOCHS)),
    "warm restarts": (SGDR(epochs=10.0, times=2.0, minimum=RATE_RATIO), _restarts),
    "triangular": (Cyclical(epochs=5.0, minimum=RATE_RATIO), _triangle),
}


@experiment(
    "schedules",
    title="Schedules as executed, and why rates fall",
    claim="The rate of each step is what the schedule's formula says, and a rate that falls lets "
    "stochastic descent settle where a constant one keeps wandering.",
    rows=("S1", "S2", "S3", "S4", "S5", "S6"),
    seconds=8,
)
def compare_schedules(quick: bool) -> ExperimentOutcome:
    """Compare the rates of runs with the formulas, and where noisy descent ends with each."""
    plain = make_recipe(
        "iris",
        epochs=SCHEDULED_EPOCHS,
        optimizer=Momentum(lr=LARGEST_RATE),
        batch=32 if quick else 16,
    )
    planned = [schedule for schedule, _ in FORMULA_SCHEDULES.values()]
    recipes = [plain.vary("schedule", each) for each in (*planned, PLATEAU_SCHEDULE)]
    records = [run.record for run in train_all(recipes, workers=1)]
    named = dict(zip((*FORMULA_SCHEDULES, "on a plateau"), records, strict=True))
    errors = {k: _error(named[k], formula) for k, (_, formula) in FORMULA_SCHEDULES.items()}
    falls, expected = _plateau_falls(records[-1])
    distances = _noisy_distances(100 if quick else 1000)
    ends = {name: t_interval(found[-1]) for name, found in distances.items()}
    numbers = label_numbers("largest error of the rate", errors)
    numbers |= {"falls on a plateau": float(falls), "falls that its rule asks for": float(expected)}
    numbers |= label_numbers("distance from the minimum at the end", ends)
    constant = ends.pop("constant")
    nearest, *_, farthest = sorted(ends, key=lambda name: ends[name].value)
    worst = max(errors.values()) / LARGEST_RATE
    said = (
        f"The rates that seven runs used are those of the formulas up to {worst:.0e} of the rate; "
        f"on a plateau of the validation loss the number of falls, {falls}, is what its rule asks "
        f"for. Lower rates help: with noisy gradients a constant rate stays {constant.value:.2f} "
        f"[{constant.low:.2f}, {constant.high:.2f}] from the minimum after 400 steps, and all "
        f"rates that fall end nearer, from {ends[nearest].value:.2f} ({nearest}) to "
        f"{ends[farthest].value:.2f} ({farthest})."
    )
    nearer = all(end.high < constant.low for end in ends.values())
    held = bool(worst < 1e-6 and falls == expected and nearer)
    figures = {
        "The learning rate that each run used (dots), and the formula (line)": _draw_rates(named),
        "With noisy gradients: the distance from the minimum": _draw_distances(distances),
    }
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def _recorded_rates(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """The times, in epochs, and the rates in a run's record. The first step is at 0."""
    series = record.series["lr"]
    per_epoch = record.members[0].steps / SCHEDULED_EPOCHS
    return (series.steps - 1) / per_epoch, series.values[:, 0]


def _error(record: Record, formula: Formula) -> float:
    times, rates = _recorded_rates(record)
    return float(np.abs(rates - [formula(round(t, 9)) for t in times]).max())


def _plateau_falls(record: Record) -> tuple[int, int]:
    """How often the rate fell, and how often the rule asks for it, replayed on the validation
    losses of the record.
    """
    _, rates = _recorded_rates(record)
    best, stale, factor, expected = math.inf, 0, 1.0, 0
    # without the last evaluation: no step follows it
    for loss in record.series["validation/loss"].values[:-1, 0]:
        better = loss < best * (1 - PLATEAU_SCHEDULE.threshold)
        best, stale = (loss, 0) if better else (best, stale + 1)
        if stale > PLATEAU_SCHEDULE.patience:
            lower = max(factor * 0.5, 0.05)
            expected, factor, stale = expected + (lower < factor), lower, 0
    return int((np.diff(rates) < 0).sum()), expected


def _noisy_distances(walkers: int) -> dict[str, np.ndarray]:
    """Distances from the minimum of a bowl, gradients with noise: [T + 1, P] for each schedule,
    over 400 steps.
    """
    bowl, steps = find_surface("quadratic"), 400
    times, plan = torch.arange(steps, dtype=torch.float64)[None], Plan(steps=steps, per_epoch=8)
    compared: dict[str, Any] = {
        "constant": Constant(),
        "step decay": StepDecay(milestones=(0.5, 0.75), gamma=0.1),
        "exponential": Exponential(k=0.1),
        "1/t": InverseTime(k=0.5),
        "cosine": Cosine(),
    }
    found = {}
    for name, schedule in compared.items():
        factors = schedule.factor(times, plan)[0].tolist()
        places = walk(
            SGD(lr=LARGEST_RATE),
            torch.zeros(walkers, 2),
            noisy_gradient(bowl, walkers, steps, sd=10),
            steps,
            factor=lambda step, factors=factors: factors[step - 1],
        ).rows
        found[name] = torch.linalg.vector_norm(places - torch.tensor(bowl.minima), dim=2).numpy()
    return found


def _draw_rates(records: dict[str, Record]) -> Figure:
    picture = figure(8.4, 4.2)
    panels = picture.subplots(2, 4, sharex=True, sharey=True)
    fine = np.linspace(0, SCHEDULED_EPOCHS, 1401)[:-1]
    dots: Any = {"linestyle": "none", "marker": "o", "markersize": 1.8, "color": SERIES_COLORS[0]}
    for axes, (name, record) in zip(panels.flat, records.items(), strict=False):
        if name in FORMULA_SCHEDULES:
            _, formula = FORMULA_SCHEDULES[name]
            axes.plot(fine, [formula(t) for t in fine], color=GRAY_COLOR, linewidth=0.8)
        axes.plot(*_recorded_rates(record), **dots)
        axes.set_title(name)
    for axes in panels[1]:
        axes.set_xlabel("epoch")
    for axes in panels[:, 0]:
        axes.set_ylabel("learning rate")
    panels[0, 0].set_ylim(0, 0.105)
    return picture


def _draw_distances(distances: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (name, found) in enumerate(distances.items()):
        low, middle, high = np.percentile(found, [25, 50, 75], axis=1)
        axes.plot(middle, label=name, **line_style(i))
        if name in ("constant", "cosine"):
            band(axes, np.arange(len(middle)), low, high, color=SERIES_COLORS[i])
    axes.set(yscale="log", xlabel="step", ylabel="median distance (band: middle half)")
    axes.legend(loc="upper right", ncols=2)
    return picture

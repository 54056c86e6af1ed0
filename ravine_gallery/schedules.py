"""Schedules as executed: the rates that real runs used, against the lectures' formulas; and what
falling is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ravine.catalog import named_recipe
from ravine.optimizers import SGD
from ravine.protocols import Plan
from ravine.record import Record
from ravine.reporting.plot_style import COLORS, GRAY, band, figure, line_style
from ravine.rng import stream
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
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval
from ravine_gallery.optimizer_paths import slope, surface, walk

LR, EPOCHS = 0.1, 70  # the slides' rate
LEAST = 0.01  # their η_min

# each schedule and the slides' formula for it: the rate at t epochs
PLANNED: dict[str, tuple[str, Any, Callable[[float], float]]] = {
    "step decay": (
        "S1",
        StepDecay(milestones=(2 / 7, 4 / 7), gamma=0.5),
        lambda t: LR * 0.5 ** (int(t >= 20) + int(t >= 40)),
    ),
    "halved": ("S1", EveryK(epochs=10.0, gamma=0.5), lambda t: LR * 0.5 ** math.floor(t / 10)),
    "exponential": ("S2", Exponential(k=0.05), lambda t: LR * math.exp(-0.05 * t)),
    "1/t": ("S2", InverseTime(k=0.1), lambda t: LR / (1 + 0.1 * t)),
    "cosine": ("S3", Cosine(minimum=LEAST / LR), lambda t: _cosine(t / EPOCHS)),
    "warm restarts": (
        "S4",
        SGDR(epochs=10.0, times=2.0, minimum=LEAST / LR),
        lambda t: _restarts(t),
    ),
    "triangular": ("S5", Cyclical(epochs=5.0, minimum=LEAST / LR), lambda t: _triangle(t / 5)),
}
PLATEAU = ReduceOnPlateau(gamma=0.5, patience=4.0, minimum=0.05)


def _cosine(share: float) -> float:
    """η_min + (η_max − η_min) (1 + cos π share) / 2."""
    return LEAST + (LR - LEAST) * (1 + math.cos(math.pi * share)) / 2


def _restarts(t: float) -> float:
    """Cosines of 10, 20, 40 epochs one after the other."""
    length = 10.0
    while t >= length:
        t, length = t - length, 2 * length
    return _cosine(t / length)


def _triangle(t: float) -> float:
    """Up in one unit of time, down in the next."""
    return LEAST + (LR - LEAST) * (1 - abs(t % 2 - 1))


def run(quick: bool) -> Outcome:
    plain = (
        named_recipe("plain")
        .vary("data.source", "iris")
        .vary("epochs", EPOCHS)
        .vary("optimizer.lr", LR)
    )
    if not quick:
        plain = plain.vary("batch", 16)
    runs = train_all(
        [plain.vary("schedule", schedule) for _, schedule, _ in PLANNED.values()]
        + [plain.vary("schedule", PLATEAU)],
        workers=1,
    )
    records = dict(zip((*PLANNED, "on a plateau"), (done.record for done in runs), strict=True))
    wrong = {name: _error(records[name], formula) for name, (_, _, formula) in PLANNED.items()}
    falls, expected = _plateau(records["on a plateau"])
    walkers = 100 if quick else 1000
    settled = _settling(walkers)
    ends = {name: interval(found[-1]) for name, found in settled.items()}
    numbers = {f"largest error of the rate, {name}": error for name, error in wrong.items()}
    numbers |= {"falls on a plateau": float(falls), "falls that its rule asks for": float(expected)}
    numbers |= {
        f"distance from the minimum at the end, {name}": end.mean for name, end in ends.items()
    }
    still = ends.pop("constant")
    nearest = min(ends, key=lambda name: ends[name].mean)
    worst = max(wrong.values()) / LR
    said = (
        f"The rates that seven runs used are those of the formulas to {worst:.0e} of the rate; on "
        f"a plateau of the "
        f"validation loss the rate fell {falls} times, as its rule asks for. And it is a good "
        f"idea: with noisy "
        f"gradients a constant rate stays {still.mean:.2f} [{still.low:.2f}, {still.high:.2f}] "
        f"from the minimum "
        f"after 400 steps, all that fall end nearer, from {_told(nearest, ends)} to "
        f"{_told(max(ends, key=lambda n: ends[n].mean), ends)}."
    )
    held = worst < 1e-6 and falls == expected and all(end.high < still.low for end in ends.values())
    figures = {
        "The learning rate that each run used (dots), and the formula (line)": _draw_rates(records),
        "With noisy gradients: the distance from the minimum": _draw_settling(settled),
    }
    return Outcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def _told(name: str, ends: dict[str, Interval]) -> str:
    return f"{ends[name].mean:.2f} ({name})"


def _rates(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """When, in epochs, and what: the rates in a run's record. The first step is at 0."""
    series = record.series["lr"]
    return (series.steps - 1) / _per_epoch(record), series.values[:, 0]


def _per_epoch(record: Record) -> float:
    return record.members[0].steps / EPOCHS


def _error(record: Record, formula: Callable[[float], float]) -> float:
    t, rates = _rates(record)
    return float(np.abs(rates - [formula(round(at, 9)) for at in t]).max())


def _plateau(record: Record) -> tuple[int, int]:
    """How often the rate fell, and how often the rule asks for it, replayed on the validation
    losses of the record.
    """
    _, rates = _rates(record)
    best, stale, factor, expected = math.inf, 0, 1.0, 0
    for loss in record.series["validation/loss"].values[
        :-1, 0
    ]:  # what the last evaluation asks for, no step can do
        better = loss < best * (1 - PLATEAU.threshold)
        best, stale = (loss, 0) if better else (best, stale + 1)
        if stale > PLATEAU.patience:
            lower = max(factor * 0.5, 0.05)
            expected, factor, stale = expected + (lower < factor), lower, 0
    return int((np.diff(rates) < 0).sum()), expected


def _settling(walkers: int) -> dict[str, np.ndarray]:
    """Distances from the minimum of a bowl, gradients with noise: [T + 1, P] for each schedule,
    over 400 steps.
    """
    bowl, steps = surface("quadratic"), 400
    noise = 10 * torch.randn(steps, walkers, 2, generator=stream(0, "noise"), dtype=torch.float64)
    exact, plan = slope(bowl), Plan(steps=steps, per_epoch=8)
    shown: dict[str, Any] = {
        "constant": Constant(),
        "step decay": StepDecay(milestones=(0.5, 0.75), gamma=0.1),
        "exponential": Exponential(k=0.1),
        "1/t": InverseTime(k=0.5),
        "cosine": Cosine(),
    }
    found = {}
    for name, schedule in shown.items():
        factors = schedule.factor(torch.arange(steps, dtype=torch.float64)[None], plan)[0].tolist()
        way = walk(
            SGD(lr=LR),
            torch.zeros(walkers, 2),
            lambda rows, step: exact(rows, step) + noise[step - 1],
            steps,
            factor=lambda step, factors=factors: factors[step - 1],
        )
        found[name] = torch.linalg.vector_norm(way.rows - torch.tensor(bowl.minima), dim=2).numpy()
    return found


def _draw_rates(records: dict[str, Record]) -> Figure:
    picture = figure(8.4, 4.2)
    panels = picture.subplots(2, 4, sharex=True, sharey=True)
    for axes, (name, record) in zip(panels.flat, records.items(), strict=False):
        t, rates = _rates(record)
        if name in PLANNED:
            fine = np.linspace(0, EPOCHS, 1401)[:-1]
            axes.plot(fine, [PLANNED[name][2](at) for at in fine], color=GRAY, linewidth=0.8)
        axes.plot(t, rates, linestyle="none", marker="o", markersize=1.8, color=COLORS[0])
        axes.set_title(f"{PLANNED[name][0]} {name}" if name in PLANNED else f"S6 {name}")
    for axes in panels[1]:
        axes.set_xlabel("epoch")
    for axes in panels[:, 0]:
        axes.set_ylabel("learning rate")
    panels[0, 0].set_ylim(0, 0.105)
    return picture


def _draw_settling(settled: dict[str, np.ndarray]) -> Figure:
    picture = figure(6.4, 3.6)
    axes = picture.subplots()
    for i, (name, found) in enumerate(settled.items()):
        low, middle, high = np.percentile(found, [25, 50, 75], axis=1)
        axes.plot(middle, label=name, **line_style(i))
        if name in ("constant", "cosine"):
            band(axes, np.arange(len(middle)), low, high, color=COLORS[i])
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("median distance (band: middle half)")
    axes.legend(loc="upper right", ncols=2)
    return picture


EXPERIMENT = Experiment(
    name="schedules",
    title="Schedules as executed, and why rates fall",
    rows=("S1", "S2", "S3", "S4", "S5", "S6"),
    claim="The rate of each step is what the schedule's formula says, and a rate that falls lets "
    "stochastic descent "
    "settle where a constant one keeps wandering.",
    seconds=8.0,
    run=run,
)

"""What is tuned: every optimizer and schedule of the catalog, and the draws of their settings.

A draw has a value for each setting that may differ between networks of a cohort and matters most;
the others stay at their defaults. All optimizers have as many draws, and on each problem others, so
that luck with them is not the same on all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from ravine import schedules
from ravine.catalog import PARTS_BY_ROLE
from ravine.optimizers import TorchOptimizer
from ravine.protocols import Optimizer, Schedule, SearchOptimizer
from ravine.rng import stream
from ravine.serialization import vary

DEFAULT_DRAW = -1  # the draw that stands for the default settings
SCHEDULED_OPTIMIZERS = ("Momentum", "AdamW")


class LogRange(NamedTuple):
    """Numbers evenly on a log scale; with `complement` 1 minus such a number.

    >>> LogRange(0.01, 1.0).at(0.5), LogRange(0.01, 1.0, complement=True).at(0.5)
    (0.1, 0.9)
    """

    low: float
    high: float
    complement: bool = False

    def at(self, share: float) -> float:
        """The value so far along the range, from 0 to 1, in five digits."""
        value = self.low * (self.high / self.low) ** share
        return float(f"{1 - value if self.complement else value:.5g}")

    def __str__(self) -> str:
        text = f"{self.low:g} to {self.high:g}"
        return f"1 − ({text})" if self.complement else text


RATES = LogRange(1e-4, 1.0)
VELOCITIES = LogRange(1e-3, 1.0, complement=True)  # of momentum: 0 to 0.999
MOMENTS = {"lr": RATES, "beta1": LogRange(0.5, 0.999), "beta2": LogRange(0.8, 0.999)}
# Rates, beta1 and beta2 as Schmidt, Schneider & Hennig 2021 have them for Adam and its relatives;
# where an optimizer's usual rates are others, four decades around these.
SPACES: Mapping[str, Mapping[str, LogRange]] = {
    "SGD": {"lr": RATES},
    "Momentum": {"lr": RATES, "momentum": VELOCITIES},
    "Nesterov": {"lr": RATES, "momentum": VELOCITIES},
    "ASGD": {"lr": RATES},
    "Rprop": {"lr": RATES},
    "Adagrad": {"lr": RATES},
    "Adadelta": {"lr": LogRange(1e-2, 1e2), "rho": LogRange(1e-3, 1.0, complement=True)},
    "RMSprop": {"lr": RATES, "beta": LogRange(1e-3, 1.0, complement=True)},
    "Adam": MOMENTS,
    "AdamW": MOMENTS,
    "NAdam": MOMENTS,
    "RAdam": MOMENTS,
    "Adamax": MOMENTS,
    "Lion": MOMENTS | {"lr": LogRange(1e-5, 1e-1)},
    "Muon": {"lr": RATES, "momentum": VELOCITIES},
    "ScheduleFreeSGD": {"lr": LogRange(1e-2, 1e2), "beta": LogRange(0.5, 0.999)},
    "ScheduleFreeAdamW": MOMENTS,
    "Lookahead": {"inner.lr": RATES, "inner.momentum": VELOCITIES, "alpha": LogRange(0.1, 1.0)},
    "TorchOptimizer": {"lr": RATES},
    "Lbfgs": {"lr": LogRange(1e-2, 1e1)},
    "Newton": {"lr": LogRange(1e-2, 1e1), "damping": LogRange(1e-3, 1e2)},
    "SaddleFreeNewton": {"lr": LogRange(1e-2, 1e1), "damping": LogRange(1e-3, 1e2)},
}
RATE_PATHS = {"Lookahead": "inner.lr"}  # of the others: lr
# the one rule of torch.optim that Ravine has none of its own for; its Adam would be ours again
BRIDGES: Mapping[type, Optimizer] = {TorchOptimizer: TorchOptimizer(optimizer="Adafactor", lr=0.01)}
# these need the whole training split in a step: their own texts say so
FULL_BATCH_RULES = ("Rprop",)


def default_optimizers() -> dict[str, Optimizer]:
    """Each optimizer of the catalog by its name, with the settings of its source.

    >>> list(default_optimizers())[:3]
    ['SGD', 'Momentum', 'Nesterov']
    """
    kinds: Any = PARTS_BY_ROLE[Optimizer]
    return {kind.__name__: BRIDGES.get(kind) or kind() for kind in kinds}


def needs_full_batch(rule: Optimizer) -> bool:
    """Whether steps from minibatches make no sense for a rule."""
    return isinstance(rule, SearchOptimizer) or type(rule).__name__ in FULL_BATCH_RULES


def drawn_optimizer(name: str, draw: int, problem: str) -> Optimizer:
    """An optimizer with the settings of a draw for a problem; `DEFAULT_DRAW` stands for its own.

    >>> drawn_optimizer("SGD", DEFAULT_DRAW, "wine")
    SGD(lr=0.01, weight_decay=0.0)
    >>> drawn_optimizer("SGD", 0, "wine") == drawn_optimizer("SGD", 0, "wine")
    True
    """
    rule = default_optimizers()[name]
    if draw == DEFAULT_DRAW:
        return rule
    space = SPACES.get(name, {RATE_PATHS.get(name, "lr"): RATES})
    generator = stream(draw, f"draw of {name} on {problem}")
    shares = torch.rand(len(space), generator=generator, dtype=torch.float64)
    for (path, values), share in zip(space.items(), shares.tolist(), strict=True):
        rule = vary(rule, path, values.at(share))
    return rule


def rate_of(rule: Optimizer) -> float:
    """The learning rate of a rule, in the one inside it where it has one."""
    return float(rule.lr)


# Lengths in epochs as shares of the run, so that a schedule does in it what it is made for.
SCHEDULE_LENGTHS: Mapping[type, Callable[[float], Schedule]] = {
    schedules.EveryK: lambda epochs: schedules.EveryK(epochs=epochs / 4),
    schedules.Exponential: lambda epochs: schedules.Exponential(k=math.log(100) / epochs),
    schedules.InverseTime: lambda epochs: schedules.InverseTime(k=9 / epochs),
    schedules.SGDR: lambda epochs: schedules.SGDR(epochs=epochs / 7),
    schedules.Cyclical: lambda epochs: schedules.Cyclical(epochs=epochs / 8),
    schedules.WarmUp: lambda epochs: schedules.WarmUp(epochs=epochs / 10),
    schedules.InverseSqrt: lambda epochs: schedules.InverseSqrt(epochs=epochs / 10),
    schedules.ReduceOnPlateau: lambda epochs: schedules.ReduceOnPlateau(patience=epochs // 10),
}


def default_schedules(epochs: float) -> dict[str, Schedule]:
    """Each schedule of the catalog by its name, for a run of so many epochs.

    >>> default_schedules(28)["SGDR"]
    SGDR(epochs=4.0, times=2.0, minimum=0.0)
    """
    kinds: Any = PARTS_BY_ROLE[Schedule]
    lengths = SCHEDULE_LENGTHS
    return {k.__name__: lengths[k](epochs) if k in lengths else k() for k in kinds}

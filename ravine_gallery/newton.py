"""Newton's step: one solves a quadratic, whatever its condition; and a saddle attracts it (O8, O9).

Letters: P networks or starts, W weights, T steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ravine.layout import Rows
from ravine.losses import SquaredError
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD, Newton, SaddleFreeNewton
from ravine.probes.curvature import Objective, condition, ends, judge
from ravine.protocols import Batch, LossAndGradient, SearchOptimizer, Signature, StepContext
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals, line_style
from ravine.rng import stream
from ravine.statistics import wilson_interval
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.surfaces import ALL as SURFACES

FLAT = 1e-4  # a gradient this short counts as 0
KINDS = ("minimum", "saddle", "cannot tell", "not stationary", "maximum")
RULES = {"Newton": Newton(damping=0.01), "saddle-free Newton": SaddleFreeNewton(damping=0.01)}
NEAR = 0.1  # the standard deviation of weights that begin near the saddle at 0


class Around(NamedTuple):
    """A loss as an optimizer searches it, from one point of each network."""

    objective: Objective
    first: LossAndGradient

    def value_and_grad(self, rows: Rows) -> LossAndGradient:
        return self.objective.value_and_grad(rows)

    def hessian(self, rows: Rows) -> Tensor:
        return self.objective.hessian(rows)


def walk(rule: Any, objective: Objective, rows: Rows, steps: int) -> Tensor:
    """The points of a rule's walk, [T + 1, P, W]."""
    layout, state, been = objective.layout, rule.start(rows), [rows]
    for step in range(1, steps + 1):
        context = StepContext(step, 1.0, layout.decays(dtype=rows.dtype), layout)
        first = objective.value_and_grad(rows)
        if isinstance(rule, SearchOptimizer):
            rows, state = rule.search(rows, Around(objective, first), state, context)
        else:
            rows, state = rule.update(rows, first.grads, state, context)
        been.append(rows)
    return torch.stack(been)


# The three problems


def quadratic() -> tuple[Tensor, Tensor, float]:
    """Losses on the lecture's ravine 10 x² + y²/2 by gradient descent at its best rate and by
    Newton; and κ.
    """
    surface = next(s for s in SURFACES if s.name == "ravine")
    objective = Objective.of_rows(surface.value, width=2)
    start = torch.tensor([surface.start], dtype=torch.float64)
    values = torch.linalg.eigvalsh(objective.hessian(start))
    best = SGD(lr=float(2 / (values[0, 0] + values[0, -1])))
    paths = [walk(rule, objective, start, 100) for rule in (best, Newton(damping=0.0))]
    losses = [surface.value(path[:, 0]) for path in paths]
    return losses[0], losses[1], float(condition(values))


def wells(rows: Rows) -> Tensor:
    """(x² − 1)²/4 + y²/2: minima at (±1, 0), a saddle between them at the origin."""
    return 0.25 * (rows[:, 0] ** 2 - 1) ** 2 + 0.5 * rows[:, 1] ** 2


def networks(count: int) -> tuple[Objective, Rows, Rows, float]:
    """1-3-1 networks of tanh on a noisy sine: their loss, weights near 0, weights as usual, the
    loss of the mean.
    """
    generator = stream(0, "gallery/newton")
    x = torch.linspace(-2, 2, 40, dtype=torch.float64)[None, :, None]
    y = torch.sin(2 * x) + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    program = BatchedNetwork(Mlp(hidden=(3,), activation=Tanh()), Signature(1, (), 1))
    objective, usual = (
        Objective.of_program(program, SquaredError(), Batch(x, None, y)),
        program.start(range(count))[0],
    )
    near = NEAR * torch.randn(usual.shape, generator=generator, dtype=torch.float64)
    return objective, near, usual.double(), 0.5 * float(y.var(correction=0))


def verdicts(objective: Objective, rows: Rows) -> list[str]:
    """What kind of point each row is."""
    fine = rows.isfinite().all(1, keepdim=True)
    point = objective.at(torch.where(fine, rows, 0.0))
    found = judge(point.grads, ends(point, steps=rows.shape[1]), flat=FLAT)
    return [
        v if f else "not stationary" for v, f in zip(found, fine.flatten().tolist(), strict=True)
    ]


def share(found: Sequence[str], kind: str) -> tuple[float, float, float]:
    """The share of a verdict and its 95 % interval."""
    seen = found.count(kind) / len(found)
    return seen, *wilson_interval(seen, len(found))


# The experiment


def run(quick: bool) -> Outcome:
    descent, newton, kappa = quadratic()
    surface = Objective.of_rows(wells, width=2)
    count = 40 if quick else 200
    starts = (
        torch.rand(count, 2, generator=stream(1, "gallery/newton"), dtype=torch.float64) * 4 - 2
    )
    on_wells = {name: walk(rule, surface, starts, 60) for name, rule in RULES.items()}
    ended = {name: verdicts(surface, path[-1]) for name, path in on_wells.items()}
    objective, near, usual, mean = networks(24 if quick else 100)
    trained = {name: walk(rule, objective, near, 60)[-1] for name, rule in RULES.items()}
    kinds = {name: verdicts(objective, end) for name, end in trained.items()}
    losses = {name: objective.value(end) for name, end in trained.items()}
    saddles = {name: share(found, "saddle") for name, found in kinds.items()}
    away = {
        name: share(verdicts(objective, walk(rule, objective, usual, 60)[-1]), "saddle")
        for name, rule in RULES.items()
    }
    plane = {name: share(found, "saddle") for name, found in ended.items()}
    one, below = float(newton[1] / newton[0]), int((descent < 1e-6 * descent[0]).nonzero()[0])
    solved = one < 1e-20
    pairs = [(found["Newton"], found["saddle-free Newton"]) for found in (plane, saddles)]
    refuted = not solved or any(one[0] <= other[0] for one, other in pairs)
    decided = all(one[1] > other[2] for one, other in pairs)
    numbers = {"left after one step": one, "steps of descent": float(below), "condition": kappa}
    for name in RULES:
        numbers |= {
            f"saddles of the plane, {name}": plane[name][0],
            f"saddles of networks, {name}": saddles[name][0],
        }
        numbers |= {f"saddles from the usual start, {name}": away[name][0]}
        numbers |= {f"median loss, {name}": float(losses[name].nanmedian())}
    newtons, free = (f"median loss {numbers[f'median loss, {name}']:.3g}" for name in RULES)
    said = (
        f"One Newton step leaves {one:.0e} of the ravine's loss; gradient descent at its best rate "
        f"takes {below} steps "
        f"to a millionth (condition number {kappa:.0f}). Of {count} starts around two wells Newton "
        f"ends on the saddle "
        f"between them in {_percent(plane['Newton'])}, the saddle-free form in "
        f"{_percent(plane['saddle-free Newton'])}. Of {len(near)} small networks that start near "
        f"the saddle at 0, "
        f"after 60 steps Newton leaves {_percent(saddles['Newton'])} at a saddle ({newtons}; "
        f"predicting the mean: "
        f"{mean:.3g}), the saddle-free form {_percent(saddles['saddle-free Newton'])} ({free}: "
        f"these are far below "
        f"the first saddle and still falling). From the usual start it is "
        f"{_percent(away['Newton'])} and "
        f"{_percent(away['saddle-free Newton'])}."
    )
    figures = {
        "One step on a quadratic": _race(descent, newton),
        "Two wells and the saddle between them": _plane(on_wells),
        "Where networks end": _ends(kinds, losses, mean),
    }
    return Outcome(
        held=False if refuted else decided or None, said=said, numbers=numbers, figures=figures
    )


def _percent(found: tuple[float, float, float]) -> str:
    return f"{100 * found[0]:.0f} % [{100 * found[1]:.0f}, {100 * found[2]:.0f}]"


# Pictures


def _race(descent: Tensor, newton: Tensor) -> Any:
    picture = figure(5.6, 3.4)
    ax = picture.subplots()
    least = 1e-12
    ax.semilogy(descent.clamp_min(least), label="gradient descent, best rate", **line_style(0))
    ax.semilogy(newton[:6].clamp_min(least), marker="o", label="Newton", **line_style(1))
    ax.annotate(
        "0 after one step",
        (5, least),
        xytext=(8, 4),
        textcoords="offset points",
        color=COLORS[1],
        fontsize=9,
    )
    ax.set(xlabel="steps", ylabel="loss", title="10 x² + y²/2", ylim=(least / 3, 30))
    ax.legend()
    return picture


def _plane(paths: dict[str, Tensor]) -> Any:
    picture = figure(9.6, 3.7)
    axes = picture.subplots(1, 2, sharey=True)
    line = torch.linspace(-2, 2, 161, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    heights = wells(torch.stack([x.ravel(), y.ravel()], 1)).view_as(x)
    for ax, (name, path) in zip(axes, paths.items(), strict=True):
        ax.contour(
            x, y, heights, levels=np.linspace(0, 1.5, 11) ** 2, colors="#C9C9C9", linewidths=0.7
        )
        at_saddle = path[-1].norm(dim=1) < 1e-3
        for group, color, label in (
            (at_saddle, COLORS[1], "ends on the saddle"),
            (~at_saddle, COLORS[0], "ends in a well"),
        ):
            chosen = path[:, group][:, :40]
            if chosen.shape[1] == 0:
                continue
            ax.plot(chosen[:, :, 0], chosen[:, :, 1], color=color, linewidth=0.6, alpha=0.6)
            ax.plot(chosen[0, :, 0], chosen[0, :, 1], ".", color=color, label=label)
        ax.plot([-1, 1], [0, 0], "k*", markersize=9, label="minima")
        ax.plot(0, 0, "kx", markersize=8, markeredgewidth=2, label="saddle")
        ax.set(title=name, xlabel="x", xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
        ax.grid(False)
    axes[0].set_ylabel("y")
    picture.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9
    )
    return picture


def _ends(kinds: dict[str, list[str]], losses: dict[str, Tensor], mean: float) -> Any:
    picture = figure(9.0, 3.5)
    left, right = picture.subplots(1, 2)
    shown = [k for k in KINDS if any(k in found for found in kinds.values())]
    for i, (name, found) in enumerate(kinds.items()):
        at = np.arange(len(shown)) + 0.18 * (2 * i - 1)
        middle, low, high = (
            100 * np.array(v) for v in zip(*(share(found, k) for k in shown), strict=True)
        )
        left.bar(at, middle, 0.34, color=COLORS[i], alpha=0.35, label=name)
        intervals(left, at, middle, low, high, color=COLORS[i], marker="_")
        ordered = np.sort(losses[name][:, 0].nan_to_num(torch.inf).numpy())
        right.plot(
            ordered,
            np.arange(1, len(ordered) + 1) / len(ordered) * 100,
            label=name,
            **line_style(i),
        )
    left.set_xticks(range(len(shown)), [k.replace(" ", "\n") for k in shown])
    left.set(
        ylabel="networks, %", title="Kind of the point they end at, 95 % interval", ylim=(0, 100)
    )
    left.legend()
    right.axvline(mean, color=GRAY, linewidth=0.9, label="predicting the mean")
    right.set(
        xlabel="loss at the end",
        ylabel="networks with at most this loss, %",
        xscale="log",
        title="Their losses after 60 steps",
    )
    right.legend(loc=(0.13, 0.42))
    return picture


EXPERIMENT = Experiment(
    name="newton",
    title="Newton's step and its saddle",
    rows=("O8", "O9"),
    claim="One Newton step θ − H⁻¹∇J solves a quadratic whatever its condition number; but it goes "
    "to any stationary "
    "point, so that saddles attract it, and replacing H by |H| mends that.",
    seconds=15,
    run=run,
)

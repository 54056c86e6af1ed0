"""Newton's step solves a quadratic whatever its condition number; and a saddle attracts it.

Letters: P networks or starts, W weights, T steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.layout import Rows
from ravine.losses import SquaredError
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.mlp import Mlp
from ravine.optimizers import SGD, Newton, SaddleFreeNewton
from ravine.probes.curvature import Objective, classify_points, condition, ends
from ravine.protocols import Batch, SearchOptimizer, Signature, StepContext
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.rng import stream
from ravine.training.loop import BatchObjective
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_intervals, format_percent, label_numbers, share_interval
from ravine_gallery.marks import line_style
from ravine_gallery.surfaces import find_surface

ZERO_GRADIENT = 1e-4  # a gradient this short counts as 0
POINT_KINDS = ("minimum", "saddle", "cannot tell", "not stationary", "maximum")
NEWTON_RULES = {
    "Newton": Newton(damping=0.01),
    "saddle-free Newton": SaddleFreeNewton(damping=0.01),
}
WEIGHT_SD = 0.1  # of weights that begin near the saddle at 0
SEARCH_STEPS = 60


@experiment(
    "newton",
    title="Newton's step and its saddle",
    claim="One Newton step θ − H⁻¹∇J solves a quadratic whatever its condition number; but it goes "
    "to any stationary point, so that saddles attract it, and replacing H by |H| prevents that.",
    rows=("O8", "O9"),
    seconds=15,
)
def compare_newton_steps(quick: bool) -> ExperimentOutcome:
    """Count how often Newton's method and its saddle-free form end at a saddle."""
    descent, newton, kappa = quadratic_losses()
    generator = stream(1, "gallery/newton")
    count = 100 if quick else 200
    starts = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 4 - 2
    wells = Objective.of_rows(two_wells, width=2)
    paths = {n: search_path(rule, wells, starts, SEARCH_STEPS) for n, rule in NEWTON_RULES.items()}
    objective, near, usual, mean_loss = _small_networks(30 if quick else 100)
    ends_near = {n: _end(rule, objective, near) for n, rule in NEWTON_RULES.items()}
    kinds = {name: point_kinds(objective, end) for name, end in ends_near.items()}
    losses = {name: objective.value(end)[:, 0] for name, end in ends_near.items()}
    on_plane = {n: _share(point_kinds(wells, path[-1]), "saddle") for n, path in paths.items()}
    on_networks = {name: _share(found, "saddle") for name, found in kinds.items()}
    from_usual = {
        name: _share(point_kinds(objective, _end(rule, objective, usual)), "saddle")
        for name, rule in NEWTON_RULES.items()
    }
    left = float(newton[1] / newton[0])
    steps = int((descent < 1e-6 * descent[0]).nonzero()[0])
    medians = {name: float(found.nanmedian()) for name, found in losses.items()}
    numbers = {"left after one step": left, "steps of descent": float(steps), "condition": kappa}
    numbers |= label_numbers("saddles of the plane", on_plane)
    numbers |= label_numbers("saddles of networks", on_networks)
    numbers |= label_numbers("saddles from the usual start", from_usual)
    numbers |= label_numbers("median loss", medians)
    plane, networks, started = (
        [format_percent(share, ".0f") for share in found.values()]
        for found in (on_plane, on_networks, from_usual)
    )
    said = (
        f"One Newton step leaves {left:.0e} of the ravine's loss; gradient descent at its best "
        f"rate takes {steps} steps to a millionth (condition number {kappa:.0f}). Of {count} "
        "starts around two minima, Newton's method ends at the saddle between them from "
        f"{plane[0]}, the saddle-free form from {plane[1]}. Of {len(near)} small networks that "
        f"start near the saddle at 0, Newton's method has left {networks[0]} at a saddle after "
        f"{SEARCH_STEPS} steps (median loss {medians['Newton']:.3g}; predicting the mean: "
        f"{mean_loss:.3g}), the saddle-free form {networks[1]} (median loss "
        f"{medians['saddle-free Newton']:.3g}: far below the first saddle and still falling). From "
        f"the usual initialization it is {started[0]} and {started[1]}."
    )
    pairs = [tuple(found.values()) for found in (on_plane, on_networks)]
    refuted = left >= 1e-20 or any(plain.value <= free.value for plain, free in pairs)
    decided = all(plain.low > free.high for plain, free in pairs)
    figures = {
        "One step on a quadratic": _draw_losses(descent, newton),
        "Two wells and the saddle between them": _draw_wells(paths),
        "Where networks end": _draw_ends(kinds, losses, mean_loss),
    }
    held = False if refuted else decided or None
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def search_path(rule: Any, objective: Objective, rows: Rows, steps: int) -> Tensor:
    """The points of a rule that may search along its steps, [T + 1, P, W]."""
    layout, state, places = objective.layout, rule.start(rows), [rows]
    for step in range(1, steps + 1):
        context = StepContext(step, 1.0, layout.decay_mask(dtype=rows.dtype), layout)
        first = objective.value_and_grad(rows)
        if isinstance(rule, SearchOptimizer):
            rows, state = rule.search(rows, BatchObjective(objective, first), state, context)
        else:
            rows, state = rule.update(rows, first.grads, state, context)
        places.append(rows)
    return torch.stack(places)


def _end(rule: Any, objective: Objective, rows: Rows) -> Tensor:
    return search_path(rule, objective, rows, SEARCH_STEPS)[-1]


# The three problems


def quadratic_losses() -> tuple[Tensor, Tensor, float]:
    """Losses on the lecture's ravine 10 x² + y²/2 by gradient descent at its best rate and by
    Newton's method; and the condition number.
    """
    surface = find_surface("ravine")
    objective, start = Objective.of_rows(surface.value, width=2), surface.start_rows()
    values = torch.linalg.eigvalsh(objective.hessian(start))
    best = SGD(lr=float(2 / (values[0, 0] + values[0, -1])))
    paths = [search_path(rule, objective, start, 100) for rule in (best, Newton(damping=0.0))]
    descent, newton = (surface.value(path[:, 0]) for path in paths)
    return descent, newton, float(condition(values))


def two_wells(rows: Rows) -> Tensor:
    """(x² − 1)²/4 + y²/2: minima at (±1, 0), a saddle between them at the origin."""
    return 0.25 * (rows[:, 0] ** 2 - 1) ** 2 + 0.5 * rows[:, 1] ** 2


def _small_networks(count: int) -> tuple[Objective, Rows, Rows, float]:
    """1-3-1 networks of tanh on a noisy sine: their loss, weights near 0, weights of the usual
    initialization, the loss of the mean.
    """
    generator = stream(0, "gallery/newton")
    x = torch.linspace(-2, 2, 40, dtype=torch.float64)[None, :, None]
    y = torch.sin(2 * x) + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    program = BatchedNetwork(Mlp(hidden=(3,), activation=Tanh()), Signature(1, (), 1))
    objective = Objective.of_program(program, SquaredError(), Batch(x, None, y))
    usual = program.start(range(count))[0].double()
    near = WEIGHT_SD * torch.randn(usual.shape, generator=generator, dtype=torch.float64)
    return objective, near, usual, 0.5 * float(y.var(correction=0))


def point_kinds(objective: Objective, rows: Rows) -> list[str]:
    """What kind of point each row is: one of `POINT_KINDS`."""
    finite = rows.isfinite().all(1)
    point = objective.at(torch.where(finite[:, None], rows, 0.0))
    found = classify_points(point.grads, ends(point, steps=rows.shape[1]), flat=ZERO_GRADIENT)
    pairs = zip(found, finite.tolist(), strict=True)
    return [kind if is_finite else "not stationary" for kind, is_finite in pairs]


def _share(kinds: list[str], kind: str) -> Any:
    return share_interval([each == kind for each in kinds])


# Pictures


def _draw_losses(descent: Tensor, newton: Tensor) -> Figure:
    picture = figure(5.6, 3.4)
    ax, least = picture.subplots(), 1e-12
    ax.semilogy(descent.clamp_min(least), label="gradient descent, best rate", **line_style(0))
    ax.semilogy(newton[:6].clamp_min(least), marker="o", label="Newton", **line_style(1))
    style: Any = {"textcoords": "offset points", "color": SERIES_COLORS[1], "fontsize": 9}
    ax.annotate("0 after one step", (5, least), xytext=(8, 4), **style)
    ax.set(xlabel="steps", ylabel="loss", title="10 x² + y²/2", ylim=(least / 3, 30))
    ax.legend()
    return picture


def _draw_wells(paths: dict[str, Tensor]) -> Figure:
    picture = figure(9.6, 3.7)
    axes = picture.subplots(1, 2, sharey=True)
    line = torch.linspace(-2, 2, 161, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    heights = two_wells(torch.stack([x.ravel(), y.ravel()], 1)).view_as(x)
    levels: Any = np.linspace(0, 1.5, 11) ** 2
    for ax, (name, path) in zip(axes, paths.items(), strict=True):
        ax.contour(x, y, heights, levels=levels, colors="#C9C9C9", linewidths=0.7)
        at_saddle = path[-1].norm(dim=1) < 1e-3
        for group, color, label in (
            (at_saddle, SERIES_COLORS[1], "ends on the saddle"),
            (~at_saddle, SERIES_COLORS[0], "ends in a well"),
        ):
            if group.any():
                across, up = path[:, group][:, :40].unbind(2)
                ax.plot(across, up, color=color, linewidth=0.6, alpha=0.6)
                ax.plot(across[0], up[0], ".", color=color, label=label)
        ax.plot([-1, 1], [0, 0], "k*", markersize=9, label="minima")
        ax.plot(0, 0, "kx", markersize=8, markeredgewidth=2, label="saddle")
        ax.set(title=name, xlabel="x", xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
        ax.grid(False)
    axes[0].set_ylabel("y")
    handles = axes[0].get_legend_handles_labels()
    picture.legend(*handles, loc="outside right upper", frameon=False, fontsize=9)
    return picture


def _draw_ends(kinds: dict[str, list[str]], losses: dict[str, Tensor], mean_loss: float) -> Figure:
    picture = figure(9.0, 3.5)
    left, right = picture.subplots(1, 2)
    shown = [kind for kind in POINT_KINDS if any(kind in found for found in kinds.values())]
    for i, (name, found) in enumerate(kinds.items()):
        at = np.arange(len(shown)) + 0.18 * (2 * i - 1)
        shares = [_share(found, kind) for kind in shown]
        heights = [100 * share.value for share in shares]
        left.bar(at, heights, 0.34, color=SERIES_COLORS[i], alpha=0.35, label=name)
        draw_intervals(left, at, shares, scale=100, color=SERIES_COLORS[i], marker="_")
        ordered = np.sort(losses[name].nan_to_num(torch.inf).numpy())
        percent = np.arange(1, len(ordered) + 1) / len(ordered) * 100
        right.plot(ordered, percent, label=name, **line_style(i))
    left.set_xticks(range(len(shown)), [kind.replace(" ", "\n") for kind in shown])
    left.set(ylabel="networks, %", ylim=(0, 100))
    left.set_title("Kind of the point they end at, 95 % interval")
    left.legend()
    right.axvline(mean_loss, color=GRAY_COLOR, linewidth=0.9, label="predicting the mean")
    right.set(xscale="log", xlabel="loss at the end", ylabel="networks with at most this loss, %")
    right.set_title(f"Their losses after {SEARCH_STEPS} steps")
    right.legend(loc=(0.13, 0.42))
    return picture

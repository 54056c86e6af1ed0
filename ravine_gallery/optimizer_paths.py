"""What experiments on surfaces share: optimizers walked over functions of a few numbers, and how
the ground is drawn.

A walker's place is its row of weights: [P, 2] for P walkers on a plane. The rules are those that
train networks.

Letters: P walkers, W coordinates, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ravine.layout import Layout, Rows, Slot
from ravine.part import stack
from ravine.protocols import HasEvalWeights, Optimizer, StepContext
from ravine.reporting.plot_style import COLORS
from ravine.rng import stream
from ravine_gallery.surfaces import ALL as SURFACES
from ravine_gallery.surfaces import Surface

Gradient = Callable[
    [Rows, int], Rows
]  # the gradients at rows [P, W] for the step that is counted from 1


class Walk(NamedTuple):
    """Where the walkers were, before the first step and after each: [T + 1, P, W]."""

    rows: Tensor  # where gradients were taken
    settled: Tensor  # the weights to judge: the same but for rules that average or look ahead
    grads: Tensor  # the gradients that were taken, [T, P, W]


def walk(
    rule: Optimizer | Sequence[Optimizer],
    start: Any,
    gradient: Gradient,
    steps: int,
    *,
    factor: Callable[[int], Any] = lambda step: 1.0,
) -> Walk:
    """Let a rule, or a rule for each walker (of one program), walk from `start` [P, W] or [W], in
    float64.

    `factor(step)` is the schedule's multiple of the rate at the step, counted from 1. A walker that
    leaves for infinity or NaN goes on alone; the others do not notice.

    >>> from ravine.optimizers import SGD
    >>> walk(SGD(lr=0.25), [4.0, 0.0], lambda rows, step: rows * 2, 2).rows[:, 0].tolist()
    [[4.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    """
    many = isinstance(rule, (list, tuple))
    one: Any = stack(list(rule)) if many else rule
    rows = (
        torch.as_tensor(start, dtype=torch.float64)
        .reshape(-1, torch.as_tensor(start).shape[-1])
        .clone()
    )
    if many and len(rows) == 1:
        rows = rows.repeat(len(rule), 1)
    layout = Layout((Slot(name="place", shape=(rows.shape[1],)),))
    decays = layout.decays(dtype=rows.dtype)
    state = one.start(rows)
    been, settled, slopes = [rows], [_settled(one, rows, state)], []
    for step in range(1, steps + 1):
        grads = gradient(rows, step)
        rows, state = one.update(
            rows,
            grads,
            state,
            StepContext(step=step, factor=factor(step), decays=decays, layout=layout),
        )
        been.append(rows.clone())
        settled.append(_settled(one, rows, state).clone())
        slopes.append(grads)
    return Walk(torch.stack(been), torch.stack(settled), torch.stack(slopes))


def _settled(rule: Any, rows: Rows, state: Any) -> Rows:
    return rule.eval_weights(rows, state) if isinstance(rule, HasEvalWeights) else rows


def slope(value: Callable[[Tensor], Tensor]) -> Gradient:
    """The exact gradient of a function of points [P, W] -> [P], each point's own, by torch.

    >>> slope(lambda p: p[:, 0] ** 2)(torch.tensor([[3.0, 1.0]]), 1).tolist()
    [[6.0, 0.0]]
    """

    def gradient(rows: Rows, step: int) -> Rows:
        points = rows.detach().clone().requires_grad_()
        return torch.autograd.grad(value(points).sum(), points)[0]

    return gradient


def values(value: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
    """The function at places [..., W], whatever their arrangement: [...]."""
    return value(places.reshape(-1, places.shape[-1])).reshape(places.shape[:-1])


def surface(name: str) -> Surface:
    """The test function of that name.

    >>> surface("ravine").formula
    '10 x² + y²/2'
    """
    return next(each for each in SURFACES if each.name == name)


class Regression(NamedTuple):
    """The lectures' toy model: y = ⟨w₀, x⟩ + ε, x ~ N(0, Σ), ε ~ N(0, σ²), fitted by its mean
    squared error.

    The expected loss is (w − w₀)ᵀ Σ (w − w₀) + σ²; its Hessian is 2Σ.
    """

    inputs: Tensor  # [N, 2]
    targets: Tensor  # [N]

    def loss(self, points: Tensor) -> Tensor:
        """The empirical loss of weights [P, 2]: [P]."""
        return ((self.targets - points @ self.inputs.T) ** 2).mean(1)

    def gradient(self, rows: Rows, step: int) -> Rows:
        """The gradient of the empirical loss."""
        return -2 * (self.targets - rows @ self.inputs.T) @ self.inputs / len(self.targets)

    def batch_gradient(self, rows: Rows, examples: Tensor) -> Rows:
        """Each walker's gradient on its own minibatch: `examples` are indices [P, B]."""
        x, y = self.inputs[examples], self.targets[examples]
        wrong = y - (x @ rows[:, :, None])[..., 0]
        return -2 * (wrong[:, None] @ x)[:, 0] / examples.shape[1]

    def best(self) -> Tensor:
        """Where the empirical loss is least: [1, 2]."""
        return torch.linalg.lstsq(self.inputs, self.targets[:, None]).solution.T


TRUE_WEIGHTS = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.6]], dtype=torch.float64)
NOISE = 0.5  # σ


def regression(seed: int, examples: int) -> Regression:
    """Draw the toy model's data."""
    draw = {"generator": stream(seed, "regression"), "dtype": torch.float64}
    inputs = torch.randn(examples, 2, **draw) @ torch.linalg.cholesky(COVARIANCE).T
    return Regression(inputs, inputs @ TRUE_WEIGHTS[0] + NOISE * torch.randn(examples, **draw))


def expected_loss(points: Tensor) -> Tensor:
    """The toy model's expected loss at weights [P, 2]."""
    off = points - TRUE_WEIGHTS
    return (off @ COVARIANCE * off).sum(1) + NOISE**2


def epochs_of(examples: int, batch: int, walkers: Sequence[int], count: int) -> Iterator[Tensor]:
    """Minibatches without replacement, shuffled for each epoch and walker: indices [P, B]. The rest
    is left out.
    """
    for epoch in range(count):
        orders = torch.stack(
            [torch.randperm(examples, generator=stream(w, "order", epoch)) for w in walkers]
        )
        yield from orders[:, : examples - examples % batch].split(batch, dim=1)


# Pictures


def ground(
    axes: Axes,
    value: Callable[[Tensor], Tensor],
    window: tuple[float, float, float, float],
    *,
    levels: Any = 14,
    log: bool = False,
    least: float = 0.0,
) -> None:
    """The surface as contour lines over a pale tint, in a window (left, right, bottom, top).

    With `log` the lines stand at equal ratios of the height above `least`: for steep surfaces.
    """
    left, right, bottom, top = window
    fine = 121 if log else 61  # lines to a side: enough for a smooth outline, and each costs bytes
    x, y = torch.linspace(left, right, fine).double(), torch.linspace(bottom, top, fine).double()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    height = values(value, grid).numpy()
    if log:
        height = np.maximum(height - least, 1e-9)
        low = float(np.percentile(height, 0.5))
        levels = np.geomspace(low, height.max(), levels) if isinstance(levels, int) else levels
        tint = np.log(np.maximum(height, low))
    else:
        tint = height
    axes.imshow(
        tint,
        extent=window,
        origin="lower",
        aspect="auto",
        cmap="Greys",
        alpha=0.3,
        interpolation="bilinear",
    )
    axes.contour(x, y, height, levels=levels, colors="#9A9A9A", linewidths=0.5, linestyles="solid")
    axes.grid(False)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def trail(
    axes: Axes,
    places: Tensor,
    *,
    color: str = COLORS[0],
    label: str = "",
    dots: bool = True,
    width: float = 1.3,
) -> None:
    """One walker's way [T + 1, 2], from a ring at the start to a square at the end."""
    x, y = places[:, 0].numpy(), places[:, 1].numpy()
    style: dict[str, Any] = {"marker": "o", "markersize": 2.2} if dots else {}
    if label:
        style["label"] = label
    axes.plot(x, y, color=color, linewidth=width, **style)
    axes.plot(x[:1], y[:1], marker="o", markersize=6, markerfacecolor="white", color=color)
    axes.plot(x[-1:], y[-1:], marker="s", markersize=5, color=color)


def target(axes: Axes, *places: tuple[float, float]) -> None:
    """Crosses at the minima."""
    for x, y in places:
        axes.plot(
            [x],
            [y],
            marker="+",
            markersize=11,
            markeredgewidth=1.8,
            color="#000000",
            linestyle="none",
        )

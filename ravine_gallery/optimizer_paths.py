"""What experiments on surfaces share: paths of optimizers over functions of few numbers, and their
pictures.

A walker's place is its row of weights: [P, 2] for P walkers on a plane. The rules are those that
train networks.

Letters: P walkers, W coordinates, T steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ravine.layout import Layout, Rows, Slot
from ravine.part import stack
from ravine.protocols import HasEvalWeights, Optimizer, StepContext
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.rng import stream

# the gradients at rows [P, W] for the step that is counted from 1
Gradient = Callable[[Rows, int], Rows]
Window = tuple[float, float, float, float]  # left, right, bottom, top


class Walk(NamedTuple):
    """The places of the walkers, before the first step and after each: [T + 1, P, W]."""

    rows: Tensor  # where gradients were taken
    eval_rows: Tensor  # the weights to evaluate: others where a rule averages or looks ahead
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
    leaves for infinity or NaN does not disturb the others.

    >>> from ravine.optimizers import SGD
    >>> walk(SGD(lr=0.25), [4.0, 0.0], lambda rows, step: rows * 2, 2).rows[:, 0].tolist()
    [[4.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    """
    many = isinstance(rule, (list, tuple))
    one: Any = stack(list(rule)) if many else rule
    start = torch.as_tensor(start, dtype=torch.float64)
    rows = start.reshape(-1, start.shape[-1]).clone()
    if many and len(rows) == 1:
        rows = rows.repeat(len(rule), 1)
    layout = Layout((Slot(name="place", shape=(rows.shape[1],)),))
    decay_mask = layout.decay_mask(dtype=rows.dtype)
    state = one.start(rows)
    places, eval_places, slopes = [rows], [_eval_rows(one, rows, state)], []
    for step in range(1, steps + 1):
        grads = gradient(rows, step)
        now = StepContext(step=step, factor=factor(step), decay_mask=decay_mask, layout=layout)
        rows, state = one.update(rows, grads, state, now)
        places.append(rows.clone())
        eval_places.append(_eval_rows(one, rows, state).clone())
        slopes.append(grads)
    return Walk(torch.stack(places), torch.stack(eval_places), torch.stack(slopes))


def _eval_rows(rule: Any, rows: Rows, state: Any) -> Rows:
    return rule.eval_weights(rows, state) if isinstance(rule, HasEvalWeights) else rows


def gradient_of(value: Callable[[Tensor], Tensor]) -> Gradient:
    """The exact gradient of a function of points [P, W] -> [P], each point's own, by autograd.

    >>> gradient_of(lambda p: p[:, 0] ** 2)(torch.tensor([[3.0, 1.0]]), 1).tolist()
    [[6.0, 0.0]]
    """

    def gradient(rows: Rows, step: int) -> Rows:
        points = rows.detach().clone().requires_grad_()
        return torch.autograd.grad(value(points).sum(), points)[0]

    return gradient


def noisy_gradient(
    value: Callable[[Tensor], Tensor], walkers: int, steps: int, *, sd: float
) -> Gradient:
    """The gradient of a surface with normal noise, which is the same whatever the rule."""
    noise = torch.randn(steps, walkers, 2, generator=stream(0, "noise"), dtype=torch.float64)
    exact = gradient_of(value)
    return lambda rows, step: exact(rows, step) + sd * noise[step - 1]


def evaluate_at(value: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
    """The function at places [..., W], whatever their arrangement: [...]."""
    return value(places.reshape(-1, places.shape[-1])).reshape(places.shape[:-1])


def starts_on_circle(count: int, *, radius: float = 4.0) -> Tensor:
    """Starts at random angles on a circle around the origin, [P, 2]."""
    angles = 2 * math.pi * torch.rand(count, generator=stream(0, "starts"), dtype=torch.float64)
    return radius * torch.stack([angles.cos(), angles.sin()], 1)


def path_lengths(places: Tensor) -> Tensor:
    """The length of each walker's path [T + 1, P, W]: [P]."""
    return torch.linalg.vector_norm(places.diff(dim=0), dim=2).sum(0)


# Linear regression


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
        """The minimum of the empirical loss: [1, 2]."""
        return torch.linalg.lstsq(self.inputs, self.targets[:, None]).solution.T

    def best_point(self) -> tuple[float, float]:
        """The same as two numbers."""
        x, y = self.best()[0].tolist()
        return x, y


TRUE_WEIGHTS = (1.0, -1.0)  # w₀
INPUT_COVARIANCE = ((1.0, 0.6), (0.6, 0.6))  # Σ
TARGET_NOISE = 0.5  # σ


def make_regression(seed: int, examples: int) -> Regression:
    """Draw the toy model's data."""
    draw: dict[str, Any] = {"generator": stream(seed, "regression"), "dtype": torch.float64}
    covariance = torch.tensor(INPUT_COVARIANCE, dtype=torch.float64)
    inputs = torch.randn(examples, 2, **draw) @ torch.linalg.cholesky(covariance).T
    expected = inputs @ torch.tensor(TRUE_WEIGHTS, dtype=torch.float64)
    return Regression(inputs, expected + TARGET_NOISE * torch.randn(examples, **draw))


def shuffled_minibatches(
    examples: int, batch: int, walkers: Sequence[int], epochs: int
) -> Iterator[Tensor]:
    """Minibatches without replacement, shuffled for each epoch and walker: indices [P, B]. Examples
    that do not fill a batch are left out.
    """
    for epoch in range(epochs):
        orders = torch.stack(
            [torch.randperm(examples, generator=stream(w, "order", epoch)) for w in walkers]
        )
        yield from orders[:, : examples - examples % batch].split(batch, dim=1)


# Pictures


def draw_surface(
    axes: Axes,
    value: Callable[[Tensor], Tensor],
    window: Window,
    *,
    levels: int = 14,
    log: bool = False,
) -> None:
    """The surface as contour lines over a pale tint. With `log` the lines stand at equal ratios of
    the height: for steep surfaces.
    """
    left, right, bottom, top = window
    fine = 121 if log else 61  # lines to a side: enough for a smooth outline, and each costs bytes
    x, y = torch.linspace(left, right, fine).double(), torch.linspace(bottom, top, fine).double()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    height = tint = evaluate_at(value, grid).numpy()
    lines: Any = levels
    if log:
        height = np.maximum(height, 1e-9)
        low = float(np.percentile(height, 0.5))
        lines, tint = np.geomspace(low, height.max(), levels), np.log(np.maximum(height, low))
    style: Any = {"origin": "lower", "aspect": "auto", "interpolation": "bilinear"}
    axes.imshow(tint, extent=window, cmap="Greys", alpha=0.3, **style)
    axes.contour(x, y, height, levels=lines, colors="#9A9A9A", linewidths=0.5, linestyles="solid")
    axes.grid(False)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def draw_path(
    axes: Axes,
    places: Tensor,
    *,
    color: str = SERIES_COLORS[0],
    label: str = "",
    dots: bool = True,
    width: float = 1.3,
) -> None:
    """One walker's path [T + 1, 2], from a ring at the start to a square at the end."""
    x, y = places[:, 0].numpy(), places[:, 1].numpy()
    style: dict[str, Any] = {"marker": "o", "markersize": 2.2} if dots else {}
    if label:
        style["label"] = label
    axes.plot(x, y, color=color, linewidth=width, **style)
    axes.plot(x[:1], y[:1], marker="o", markersize=6, markerfacecolor="white", color=color)
    axes.plot(x[-1:], y[-1:], marker="s", markersize=5, color=color)


def mark_minima(axes: Axes, *places: tuple[float, float]) -> None:
    """Crosses at the minima."""
    style: Any = {"marker": "+", "markersize": 11, "markeredgewidth": 1.8, "linestyle": "none"}
    for x, y in places:
        axes.plot([x], [y], color="#000000", **style)


def draw_paths(
    value: Callable[[Tensor], Tensor],
    window: Window,
    paths: Mapping[str, Tensor],
    *,
    size: tuple[float, float],
    minimum: tuple[float, float] = (0.0, 0.0),
    labels: tuple[str, str] = ("θ₁ (stretched)", "θ₂"),
    width: float = 1.3,
) -> Figure:
    """A picture with a panel for each path [T + 1, 2], all over one surface."""
    picture = figure(*size)
    panels = picture.subplots(1, len(paths), sharey=True)
    for axes, (title, places), color in zip(panels, paths.items(), SERIES_COLORS, strict=False):
        draw_surface(axes, value, window, levels=16)
        draw_path(axes, places, color=color, width=width)
        mark_minima(axes, minimum)
        axes.set(title=title, xlabel=labels[0])
    panels[0].set_ylabel(labels[1])
    return picture

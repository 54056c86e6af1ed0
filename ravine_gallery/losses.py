"""Cross entropy of the logit is finite where its formula is not, and learns where squared error
does not.

Letters: P networks, N examples, T evaluations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.data import synthetic
from ravine.losses import BinaryCrossEntropy, SoftmaxCrossEntropy, SquaredError
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Constant, Glorot
from ravine.networks.mlp import Mlp
from ravine.protocols import Batch, ForwardContext, Signature
from ravine.reporting.plot_style import GRAY_COLOR, SERIES_COLORS, figure
from ravine.statistics import t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_mean, format_percent
from ravine_gallery.marks import line_style
from ravine_gallery.network_experiments import network_inputs

EXTREME_LOGITS = (-1e4, -1000.0, -100.0, -20.0, 0.0, 20.0, 100.0, 1000.0, 1e4)
WRONG_LOGIT = -8.0  # the logit at which all examples start: almost certainly class 0
SQUARED_ERROR, CROSS_ENTROPY = "½ (y − p)²", "cross entropy"


@experiment(
    "losses",
    title="Losses: stable at extreme logits, and which gradients stay large",
    claim="Binary cross entropy is finite at every logit if it is computed from the logit; for a "
    "classifier its gradient stays large where a prediction is confidently wrong, which that of "
    "½ (y − f)² on probabilities does not.",
    rows=("L1",),
    seconds=6,
)
def compare_losses(quick: bool) -> ExperimentOutcome:
    """Evaluate both forms at extreme logits, and train a classifier with both losses from a wrong
    start.
    """
    seeds, steps = (4, 100) if quick else (16, 1500)
    logits = torch.tensor(EXTREME_LOGITS)
    formula = torch.stack([_by_formula(logits, target) for target in (0.0, 1.0)])
    ours = torch.stack([_from_logits(logits, target) for target in (0.0, 1.0)])
    exact = torch.nn.functional.softplus(torch.stack([logits, -logits]).double())
    broken = int((~formula.isfinite()).sum())
    error = float(((ours.double() - exact).abs() / exact.clamp_min(1)).max())
    wide = torch.tensor([[[1e4, -1e4, 0.0]]])
    curves = {
        (name, start): _accuracies(name, seeds=seeds, steps=steps, start=start)
        for name in (SQUARED_ERROR, CROSS_ENTROPY)
        for start in (0.0, WRONG_LOGIT)
    }
    ends = {key: t_interval(values[-1]) for key, values in curves.items()}
    p = torch.sigmoid(torch.tensor(WRONG_LOGIT, dtype=torch.float64))
    # of the two gradients with respect to the logit, y = 1
    ratio = float((1 - p) / ((1 - p) * p * (1 - p)))
    numbers = {
        "formula not finite": float(broken),
        "stable not finite": float((~ours.isfinite()).sum()),
        "stable error": error,
        "softmax at ±1e4": SoftmaxCrossEntropy().per_example(wide, torch.tensor([[1]])).item(),
        "gradient ratio": ratio,
    }
    numbers |= {f"accuracy, {k}, start {start:g}": v.value for (k, start), v in ends.items()}
    squared, cross = ends[SQUARED_ERROR, WRONG_LOGIT], ends[CROSS_ENTROPY, WRONG_LOGIT]
    said = (
        f"At logits from −10⁴ to 10⁴ the formula as written is not finite in {broken} of "
        f"{formula.numel()} cases, computed from the logit in none (error at most {error:.0e} of "
        f"the value, or of 1). At a logit of {WRONG_LOGIT:g} where the class is 1 the gradient of "
        f"cross entropy is {ratio:,.0f} times as large as that of ½ (y − p)². From that start "
        f"{steps} steps of gradient descent reach {format_percent(cross)} accuracy with cross "
        f"entropy and {format_percent(squared)} with squared error; from a logit of 0, "
        f"{format_percent(ends[CROSS_ENTROPY, 0.0])} and "
        f"{format_percent(ends[SQUARED_ERROR, 0.0])}."
    )
    held = numbers["stable not finite"] == 0 and broken > 0 and cross.low > squared.high
    figures = {
        "Losses and gradients": _draw_shapes(),
        "Learning from two starts": _draw_curves(curves),
    }
    return ExperimentOutcome(held=bool(held), said=said, numbers=numbers, figures=figures)


def _by_formula(logit: Tensor, target: float) -> Tensor:
    """−y log p − (1 − y) log(1 − p), as in the lecture."""
    p = 1 / (1 + torch.exp(-logit))
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p))


def _from_logits(logit: Tensor, target: float) -> Tensor:
    """The same by `BinaryCrossEntropy`, [len(logit)]."""
    outputs = logit.reshape(1, -1, 1)
    return BinaryCrossEntropy().per_example(outputs, torch.full_like(outputs, target))[0]


def _accuracies(name: str, *, seeds: int, steps: int, start: float) -> np.ndarray:
    """The test accuracy [T, P] of gradient descent on ½ (y − σ(f))² or on cross entropy, every 10
    steps.

    The output's bias starts at `start`: every example begins with about that logit.
    """
    network = Mlp(hidden=(16,), activation=Tanh(), initializer=Glorot(), bias=Constant(value=0.0))
    program = BatchedNetwork(network, Signature(2, (), 1))
    weights, _ = program.start(range(seeds))
    views = program.layout.views(weights)
    views["output.bias"].fill_(start)
    (points, classes), (fresh, truth) = synthetic.moons(200, 0), synthetic.moons(2000, 1)
    train, test = Batch(network_inputs(points)), Batch(network_inputs(fresh))
    y = torch.tensor(classes, dtype=torch.float32).reshape(1, -1, 1).expand(seeds, -1, -1)
    accuracy, context = [], ForwardContext(training=True)
    for step in range(steps + 1):
        tensors = {n: v.detach().requires_grad_() for n, v in views.items()}
        if step % 10 == 0:
            predictions = program(tensors, test, context).detach()[..., 0] > 0
            accuracy.append((predictions == torch.tensor(truth).bool()).double().mean(1))
        outputs = program(tensors, train, context)
        if name == SQUARED_ERROR:
            each = SquaredError().per_example(torch.sigmoid(outputs), y)
        else:
            each = BinaryCrossEntropy().per_example(outputs, y)
        grads = torch.autograd.grad(each.mean(1).sum(), list(tensors.values()))
        views = {n: v - 0.5 * g for (n, v), g in zip(views.items(), grads, strict=True)}
    return torch.stack(accuracy).numpy()


def _draw_shapes() -> Figure:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    z = torch.linspace(-130, 130, 1041)
    formula = _by_formula(z, 1.0)
    left.plot(z, _from_logits(z, 1.0), label="from the logit", color=SERIES_COLORS[0])
    left.plot(z, formula, label="by the formula, float32", color=SERIES_COLORS[1], linestyle="--")
    style: Any = {"color": SERIES_COLORS[1], "alpha": 0.15, "linewidth": 0}
    broken = (~formula.isfinite()).tolist()
    left.fill_between(z, 0, 130, where=broken, label="formula not finite", **style)
    left.set(xlabel="logit, the class is 1", ylabel=CROSS_ENTROPY, title="Stable at extreme logits")
    left.legend(loc="upper right")
    z = torch.linspace(-12, 6, 300, dtype=torch.float64)
    p = torch.sigmoid(z)
    right.plot(z, 1 - p, label=CROSS_ENTROPY, **line_style(0))
    right.plot(z, (1 - p) ** 2 * p, label=SQUARED_ERROR, **line_style(1))
    right.axvline(WRONG_LOGIT, color=GRAY_COLOR, linewidth=0.8)
    right.set(yscale="log", xlabel="logit, the class is 1", ylabel="size of the gradient")
    right.set_title("Gradients with respect to the logit")
    right.legend()
    return picture


def _draw_curves(curves: dict[tuple[str, float], np.ndarray]) -> Figure:
    picture = figure(9.6, 3.4)
    axes = picture.subplots(1, 2, sharey=True)
    for ax, start in zip(axes, (0.0, WRONG_LOGIT), strict=True):
        for i, name in enumerate((CROSS_ENTROPY, SQUARED_ERROR)):
            values = 100 * curves[name, start]
            draw_mean(ax, 10 * np.arange(len(values)), values, label=name, **line_style(i))
        ax.set(xlabel="step", title=f"All logits start near {start:g}".replace("-", "−"))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend()
    return picture

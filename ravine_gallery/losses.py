"""Cross entropy worked out on the logit is finite where its formula is not, and learns where
squared error sticks (L1).

Letters: P networks, N examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import synthetic
from ravine.losses import BinaryCrossEntropy, SoftmaxCrossEntropy, SquaredError
from ravine.networks.activations import Tanh
from ravine.networks.batched import BatchedNetwork
from ravine.networks.initializers import Constant, Glorot
from ravine.networks.mlp import Mlp
from ravine.protocols import Batch, ForwardContext, Signature
from ravine.reporting.plot_style import COLORS, GRAY, band, figure, line_style
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval, percent, tensor

LOGITS = (-1e4, -1000.0, -100.0, -20.0, 0.0, 20.0, 100.0, 1000.0, 1e4)
WRONG = -8.0  # the logit at which all examples start: surely class 0


def by_formula(logit: Tensor, target: float) -> Tensor:
    """−y log p − (1 − y) log(1 − p), as it stands in the lecture."""
    p = 1 / (1 + torch.exp(-logit))
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p))


def stable(logit: Tensor, target: float) -> Tensor:
    """The same by `BinaryCrossEntropy`, [len(logit)]."""
    outputs = logit.reshape(1, -1, 1)
    return BinaryCrossEntropy().per_example(outputs, torch.full_like(outputs, target))[0]


def learned(squared: bool, *, seeds: int, steps: int, start: float) -> Tensor:
    """The test accuracy [T, P] of gradient descent on ½ (y − σ(f))² or on cross entropy, every 10
    steps.

    The output's bias starts at `start`: every example begins with that logit, near enough.
    """
    program = BatchedNetwork(
        Mlp(hidden=(16,), activation=Tanh(), initializer=Glorot(), bias=Constant(value=0.0)),
        Signature(2, (), 1),
    )
    weights, _ = program.start(range(seeds))
    views = program.layout.views(weights)
    views["output.bias"].fill_(start)
    (points, classes), (fresh, truth) = synthetic.moons(200, 0), synthetic.moons(2000, 1)
    x, judged = Batch(tensor(points)), Batch(tensor(fresh))
    y = torch.tensor(classes, dtype=torch.float32).reshape(1, -1, 1).expand(seeds, -1, -1)
    loss, cross = SquaredError(), BinaryCrossEntropy()
    accuracy, now = [], ForwardContext(training=True)
    for step in range(steps + 1):
        tensors = {n: v.detach().requires_grad_() for n, v in views.items()}
        if step % 10 == 0:
            says = program(tensors, judged, now).detach()[..., 0] > 0
            accuracy.append((says == torch.tensor(truth).bool()).double().mean(1))
        outputs = program(tensors, x, now)
        each = (
            loss.per_example(torch.sigmoid(outputs), y)
            if squared
            else cross.per_example(outputs, y)
        )
        grads = torch.autograd.grad(each.mean(1).sum(), list(tensors.values()))
        views = {n: v - 0.5 * g for (n, v), g in zip(views.items(), grads, strict=True)}
    return torch.stack(accuracy)


def run(quick: bool) -> Outcome:
    """Evaluate both forms at extreme logits, and train a classifier with both losses from a wrong
    start.
    """
    seeds, steps = (4, 100) if quick else (16, 1500)
    logits = torch.tensor(LOGITS)
    formula = torch.stack([by_formula(logits, t) for t in (0.0, 1.0)])
    ours = torch.stack([stable(logits, t) for t in (0.0, 1.0)])
    exact = torch.stack(
        [
            torch.nn.functional.softplus(logits.double()),
            torch.nn.functional.softplus(-logits.double()),
        ]
    )
    broken = int((~formula.isfinite()).sum())
    error = float(((ours.double() - exact).abs() / exact.clamp_min(1)).max())
    wide = torch.tensor([[[1e4, -1e4, 0.0]]])
    many = float(SoftmaxCrossEntropy().per_example(wide, torch.tensor([[1]]))[0, 0])
    curves = {
        (name, start): learned(name == "½ (y − p)²", seeds=seeds, steps=steps, start=start)
        for name in ("½ (y − p)²", "cross entropy")
        for start in (0.0, WRONG)
    }
    ends = {key: interval(values[-1]) for key, values in curves.items()}
    z = torch.tensor(WRONG, dtype=torch.float64)
    p = torch.sigmoid(z)
    ratio = float(
        (1 - p) / ((1 - p) * p * (1 - p))
    )  # the two gradients with respect to the logit, y = 1
    numbers = {
        "formula not finite": float(broken),
        "stable not finite": float((~ours.isfinite()).sum()),
        "stable error": error,
        "softmax at ±1e4": many,
        "gradient ratio": ratio,
    }
    numbers |= {
        f"accuracy, {name}, start {start:g}": value.mean for (name, start), value in ends.items()
    }
    squared, cross = ends["½ (y − p)²", WRONG], ends["cross entropy", WRONG]
    held = numbers["stable not finite"] == 0 and broken > 0 and cross.low > squared.high
    said = (
        f"At logits from −10⁴ to 10⁴ the formula as written is not finite in {broken} of "
        f"{formula.numel()} cases, "
        f"worked out on the logit in none (error at most {error:.0e} of the value, or of 1). "
        f"A logit of {WRONG:g} where the class is "
        f"1 pulls {ratio:,.0f} times harder with cross entropy than with ½ (y − p)². From that "
        f"start, {steps} steps of "
        f"gradient descent reach {percent(cross)} accuracy with cross entropy, {percent(squared)} "
        f"with squared error; "
        f"from a logit of 0, {percent(ends['cross entropy', 0.0])} and "
        f"{percent(ends['½ (y − p)²', 0.0])}."
    )
    return Outcome(
        held=bool(held),
        said=said,
        numbers=numbers,
        figures={"Losses and pulls": _shapes(), "Learning from two starts": _curves(curves)},
    )


def _shapes() -> Any:
    picture = figure(9.6, 3.4)
    left, right = picture.subplots(1, 2)
    z = torch.linspace(-130, 130, 1041)
    left.plot(z, stable(z, 1.0), label="on the logit", color=COLORS[0])
    left.plot(
        z, by_formula(z, 1.0), label="by the formula, float32", color=COLORS[1], linestyle="--"
    )
    broken = (~by_formula(z, 1.0).isfinite()).tolist()
    left.fill_between(
        z,
        0,
        130,
        where=broken,
        color=COLORS[1],
        alpha=0.15,
        linewidth=0,
        label="formula not finite",
    )
    left.set(
        xlabel="logit, the class is 1", ylabel="cross entropy", title="Stable at extreme logits"
    )
    left.legend(loc="upper right")
    z = torch.linspace(-12, 6, 300, dtype=torch.float64)
    p = torch.sigmoid(z)
    right.plot(z, 1 - p, label="cross entropy", **line_style(0))
    right.plot(z, (1 - p) ** 2 * p, label="½ (y − p)²", **line_style(1))
    right.axvline(WRONG, color=GRAY, linewidth=0.8)
    right.set_yscale("log")
    right.set(
        xlabel="logit, the class is 1",
        ylabel="size of the gradient",
        title="What pulls on the logit",
    )
    right.legend()
    return picture


def _curves(curves: dict[tuple[str, float], Tensor]) -> Any:
    picture = figure(9.6, 3.4)
    axes = picture.subplots(1, 2, sharey=True)
    for ax, start in zip(axes, (0.0, WRONG), strict=True):
        for i, name in enumerate(("cross entropy", "½ (y − p)²")):
            values = 100 * curves[name, start].numpy()
            steps = 10 * np.arange(len(values))
            ax.plot(steps, values.mean(1), label=name, **line_style(i))
            found: list[Interval] = [interval(row) for row in values]
            band(ax, steps, [f.low for f in found], [f.high for f in found], color=COLORS[i])
        ax.set(xlabel="step", title=f"All logits start near {start:g}".replace("-", "−"))
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend()
    return picture


EXPERIMENT = Experiment(
    name="losses",
    title="Losses: stable at extreme logits, and which of them pulls",
    rows=("L1",),
    claim="Binary cross entropy is finite at every logit if it is worked out on the logit; for a "
    "classifier it keeps "
    "its pull where an answer is surely wrong, which ½ (y − f)² on probabilities does not.",
    seconds=6,
    run=run,
)

"""The Hessian of a linear neuron is Σ + μμᵀ; centering the inputs removes μμᵀ.

Letters: P problems, N examples, Σ covariance and μ mean of the inputs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.probes.curvature import Objective, condition
from ravine.reporting.plot_style import SERIES_COLORS, figure
from ravine.rng import stream
from ravine.statistics import Interval, t_interval
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import (
    draw_intervals,
    format_interval,
    format_percent,
    label_numbers,
    share_interval,
)
from ravine_gallery.marks import line_style

EXAMPLE_COUNT = 500  # as in the lecture
INPUT_FORMS = ("as they are", "centered", "standardized")
TARGET_EXCESS = 1e-6  # the share of the initial excess loss at which gradient descent is done


@experiment(
    "centering",
    title="Centering and the ellipse of the loss",
    claim="The Hessian of a linear neuron's squared error is Σ + μμᵀ. Centering the inputs removes "
    "μμᵀ and lowers the condition number; standardizing makes the ellipse of the loss rounder "
    "still.",
    rows=("D1", "D2", "O9"),
    seconds=5,
)
def measure_hessians(quick: bool) -> ExperimentOutcome:
    """Compare condition numbers of many random problems in three forms of their inputs."""
    count = 200 if quick else 2000
    eigenvalues, worst = {}, 0.0
    for mean in (0.0, 1.0, 3.0, 10.0):
        x, y = draw_problems(count, mean=mean, seed=0)
        zero = torch.zeros(count, 2, dtype=torch.float64)
        hessians = {
            form: linear_neuron(transform_inputs(x, form), y).hessian(zero) for form in INPUT_FORMS
        }
        mu, centered = x.mean(1), x - x.mean(1, keepdim=True)
        sigma = centered.transpose(1, 2) @ centered / EXAMPLE_COUNT
        expected = sigma + mu[:, :, None] * mu[:, None]
        error = (hessians["as they are"] - expected).abs().amax() / expected.abs().amax()
        worst = max(worst, float(error))
        eigenvalues[mean] = {form: torch.linalg.eigvalsh(h) for form, h in hessians.items()}
    kappas = {
        mean: {form: condition(v)[:, 0].numpy() for form, v in forms.items()}
        for mean, forms in eigenvalues.items()
    }
    lowered = {
        mean: share_interval(kappa["centered"] < kappa["as they are"])
        for mean, kappa in kappas.items()
        if mean
    }
    rounder = share_interval(kappas[3.0]["standardized"] < kappas[3.0]["centered"])
    logs = {form: t_interval(np.log10(kappas[3.0][form])) for form in INPUT_FORMS}
    gain = t_interval(np.log10(kappas[3.0]["as they are"] / kappas[3.0]["centered"]))
    steps = {form: float(steps_needed(eigenvalues[3.0][form]).median()) for form in INPUT_FORMS}
    numbers = {"largest difference from Σ + μμᵀ": worst}
    numbers |= {f"condition, {form}": 10 ** logs[form].value for form in INPUT_FORMS}
    numbers |= label_numbers("steps", steps)
    numbers |= {f"lowered, |μ| = {mean:g}": share.value for mean, share in lowered.items()}
    numbers |= {"rounder when standardized": rounder.value}
    raw, centered, standardized = (_power_of_ten(logs[form]) for form in INPUT_FORMS)
    said = (
        f"The measured Hessian is Σ + μμᵀ up to {worst:.0e}. With |μ| = 3 centering lowers the "
        f"condition number from {raw} to {centered} (geometric means) and standardizing to "
        f"{standardized}; gradient descent at its best rate then takes {steps['as they are']:.0f}, "
        f"{steps['centered']:.0f} and {steps['standardized']:.0f} steps (medians). Centering does "
        f"not always help: the condition number falls in {format_percent(lowered[1.0])}, "
        f"{format_percent(lowered[3.0])} and {format_percent(lowered[10.0])} of the problems with "
        "|μ| = 1, 3 and 10. Where μ lies along the narrow axis of Σ, μμᵀ makes the ellipse rounder "
        "(the lecture's neuron has no bias)."
    )
    always = all(share.value == 1 for share in lowered.values())
    figures = {
        "The ellipse of the loss": _draw_ellipses(),
        "Condition numbers": _draw_conditions(kappas[3.0], lowered),
    }
    held = worst < 1e-9 and gain.low > 0 and (True if always else None)
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def draw_problems(networks: int, *, mean: float, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs [P, N, 2] of N(μ, Σ), each with a μ of length `mean` in a random direction and a
    random Σ; targets [P, N].

    Σ has standard deviations between 0.3 and 3 in rotated axes; y = ⟨x − μ, u⟩ + noise.
    """
    generator = stream(seed, "gallery/centering")

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    turn, direction = (2 * math.pi * uniform(networks, 2)).unbind(1)
    cos, sin = turn.cos(), turn.sin()
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    sd = 10 ** (uniform(networks, 2) - 0.5)
    spread = (normal(networks, EXAMPLE_COUNT, 2) * sd[:, None]) @ rotation.transpose(1, 2)
    mu = mean * torch.stack([direction.cos(), direction.sin()], 1)
    targets = (spread * normal(networks, 2)[:, None]).sum(2)
    return spread + mu[:, None], targets + 0.1 * normal(networks, EXAMPLE_COUNT)


def transform_inputs(x: Tensor, form: str) -> Tensor:
    """The inputs as they are, centered, or standardized (with 1/N, as in the lecture)."""
    if form == "as they are":
        return x
    centered = x - x.mean(1, keepdim=True)
    return centered if form == "centered" else centered / x.std(1, correction=0, keepdim=True)


def linear_neuron(x: Tensor, y: Tensor) -> Objective:
    """½ E (y − ⟨x, w⟩)² of each network on its own examples."""
    return Objective.of_rows(
        lambda w: 0.5 * (y - (x * w[:, None]).sum(2)).square().mean(1), width=x.shape[2]
    )


def steps_needed(values: Tensor) -> Tensor:
    """Gradient steps, at the best rate 2 / (λ₁ + λ₂), to a millionth of any excess loss, which
    falls by ((κ−1)/(κ+1))² in a step.
    """
    kappa = condition(values, above=0.0)
    return math.log(TARGET_EXCESS) / (2 * ((kappa - 1) / (kappa + 1)).log())


def _power_of_ten(logs: Interval) -> str:
    return format_interval(Interval(*(10**v for v in logs)), ".1f")


# Pictures


def _example() -> tuple[Tensor, Tensor]:
    """One problem for the picture: N = 500, μ = (3, 1.5), correlated inputs of different spread."""
    generator = stream(0, "gallery/centering/example")
    z = torch.randn(1, EXAMPLE_COUNT, 2, generator=generator, dtype=torch.float64)
    spread = z @ torch.tensor([[1.0, 0.0], [0.35, 0.45]], dtype=torch.float64).T
    noise = 0.1 * torch.randn(1, EXAMPLE_COUNT, generator=generator, dtype=torch.float64)
    targets = spread @ torch.tensor([1.0, -1.0]).double() + noise
    return spread + torch.tensor([3.0, 1.5], dtype=torch.float64), targets


def _draw_ellipses() -> Figure:
    picture = figure(9.6, 6.2)
    axes = picture.subplots(2, 3)
    x, y = _example()
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = torch.tensor(np.stack([np.cos(angle), np.sin(angle)]))
    for (top, bottom), form in zip(axes.T, INPUT_FORMS, strict=True):
        inputs = transform_inputs(x, form)
        hessian = linear_neuron(inputs, y).hessian(torch.zeros(1, 2, dtype=torch.float64))[0]
        values, vectors = torch.linalg.eigh(hessian)
        top.plot(
            inputs[0, :, 0], inputs[0, :, 1], ".", color=SERIES_COLORS[0], alpha=0.25, markersize=3
        )
        top.axhline(0, color="#888888", linewidth=0.7)
        top.axvline(0, color="#888888", linewidth=0.7)
        top.set(title=f"Inputs {form}", xlabel="x₁", xlim=(-4, 7), ylim=(-4.5, 4.5), aspect="equal")
        for radius in np.linspace(0.15, 3.0, 20):  # equal steps of √loss
            ring = vectors @ (circle * radius / values.sqrt()[:, None])
            bottom.plot(ring[0], ring[1], color="#B8B8B8", linewidth=0.7)
        rate = float(2 / values.sum())
        path = [torch.tensor([-1.2, -1.4], dtype=torch.float64)]
        for _ in range(15):
            path.append(path[-1] - rate * hessian @ path[-1])
        style = {"marker": "o", "markersize": 3, "color": SERIES_COLORS[1], "linewidth": 1}
        bottom.plot(*torch.stack(path).T, **style)
        bottom.plot(0, 0, "k*", markersize=9)
        bottom.set(title=f"Loss, condition number {float(values[-1] / values[0]):.1f}")
        bottom.set(xlabel="w₁ − best w₁", xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), aspect="equal")
        bottom.grid(False)
    axes[0, 0].set_ylabel("x₂")
    axes[1, 0].set_ylabel("w₂ − best w₂")
    title = "Lines of equal loss, and 15 steps of gradient descent at the best rate"
    picture.suptitle(title, x=0.01, ha="left")
    return picture


def _draw_conditions(kappas: dict[str, np.ndarray], lowered: dict[float, Interval]) -> Figure:
    picture = figure(9.4, 3.6)
    left, right = picture.subplots(1, 2)
    for i, (form, values) in enumerate(kappas.items()):
        share = 100 * np.arange(1, len(values) + 1) / len(values)
        left.plot(np.sort(values), share, label=form, **line_style(i))
    left.set(xscale="log", xlabel="condition number of the Hessian", title="|μ| = 3")
    left.set_ylabel("problems with at most this, %")
    left.legend()
    places = np.arange(len(lowered))
    heights = [100 * share.value for share in lowered.values()]
    right.bar(places, heights, 0.5, color=SERIES_COLORS[0], alpha=0.35)
    draw_intervals(right, places, lowered.values(), scale=100, marker="_")
    right.set_xticks(places, [f"|μ| = {mean:g}" for mean in lowered])
    right.set(ylabel="problems, %", ylim=(0, 100))
    right.set_title("Centering lowers the condition number, 95 % interval")
    return picture

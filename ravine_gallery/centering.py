"""Centering and the ellipse of the loss: the Hessian of a linear neuron is Σ + μμᵀ, centering takes
μμᵀ away (D1, D2).

Letters: N examples, F inputs, Σ covariance and μ mean of the inputs, D̂ one over their standard
deviations.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from ravine.probes.curvature import Objective, condition
from ravine.reporting.plot_style import COLORS, figure, line_style
from ravine.rng import stream
from ravine.statistics import wilson_interval
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import interval

EXAMPLES = 500  # the lecture's
FORMS = ("as they are", "centered", "standardized")
ALMOST = 1e-6  # of the excess loss at the start: where gradient descent is called done


def drawn(networks: int, *, mean: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [P, N, 2] of N(μ, Σ), each with a μ of length `mean` in a random direction and a
    random Σ; targets [P, N].

    Σ has standard deviations between 0.3 and 3 in turned axes; y = ⟨x − μ, u⟩ + noise.
    """
    generator = stream(seed, "gallery/centering")

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    angles = 2 * math.pi * uniform(networks, 2)
    turn = torch.stack(
        [
            torch.stack([angles[:, 0].cos(), -angles[:, 0].sin()], 1),
            torch.stack([angles[:, 0].sin(), angles[:, 0].cos()], 1),
        ],
        1,
    )
    sd = 10 ** (uniform(networks, 2) - 0.5)
    z = torch.randn(networks, EXAMPLES, 2, generator=generator, dtype=torch.float64)
    away = mean * torch.stack([angles[:, 1].cos(), angles[:, 1].sin()], 1)
    spread = (z * sd[:, None]) @ turn.transpose(1, 2)
    u = torch.randn(networks, 2, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(networks, EXAMPLES, generator=generator, dtype=torch.float64)
    return spread + away[:, None], (spread * u[:, None]).sum(2) + noise


def formed(x: torch.Tensor, form: str) -> torch.Tensor:
    """The inputs as they are, centered, or standardized (1/N, as the lecture has it)."""
    if form == "as they are":
        return x
    centered = x - x.mean(1, keepdim=True)
    return centered if form == "centered" else centered / x.std(1, correction=0, keepdim=True)


def neuron(x: torch.Tensor, y: torch.Tensor) -> Objective:
    """½ E (y − ⟨x, w⟩)² of each network on its own examples."""
    return Objective.of_rows(
        lambda w: 0.5 * (y - (x * w[:, None]).sum(2)).square().mean(1), width=x.shape[2]
    )


def steps_needed(values: torch.Tensor) -> torch.Tensor:
    """Gradient steps, at the best rate 2 / (λ₁ + λ₂), to a millionth of any excess loss: it falls
    by ((κ−1)/(κ+1))².
    """
    kappa = condition(values, above=0.0)
    return math.log(ALMOST) / (2 * ((kappa - 1) / (kappa + 1)).log())


def run(quick: bool) -> Outcome:
    count = 200 if quick else 2000
    found, worst = {}, 0.0
    for mean in (0.0, 1.0, 3.0, 10.0):
        x, y = drawn(count, mean=mean, seed=0)
        at = torch.zeros(count, 2, dtype=torch.float64)
        hessians = {form: neuron(formed(x, form), y).hessian(at) for form in FORMS}
        mu, centered = x.mean(1), x - x.mean(1, keepdim=True)
        sigma = centered.transpose(1, 2) @ centered / EXAMPLES
        expected = sigma + mu[:, :, None] * mu[:, None]
        worst = max(
            worst, float((hessians["as they are"] - expected).abs().amax() / expected.abs().amax())
        )
        found[mean] = {form: torch.linalg.eigvalsh(h) for form, h in hessians.items()}
    kappas = {
        mean: {form: condition(v)[:, 0].numpy() for form, v in forms.items()}
        for mean, forms in found.items()
    }
    lowered = {mean: _share(k["centered"] < k["as they are"]) for mean, k in kappas.items()}
    rounder = {mean: _share(k["standardized"] < k["centered"]) for mean, k in kappas.items()}
    logs = {form: interval(np.log10(kappas[3.0][form])) for form in FORMS}
    ratio = interval(np.log10(kappas[3.0]["as they are"] / kappas[3.0]["centered"]))
    steps = {form: float(steps_needed(found[3.0][form]).median()) for form in FORMS}
    numbers = {"largest difference from Σ + μμᵀ": worst}
    numbers |= {f"condition, {form}": 10 ** logs[form].mean for form in FORMS}
    numbers |= {f"steps, {form}": steps[form] for form in FORMS}
    numbers |= {f"lowered, |μ| = {mean:g}": share[0] for mean, share in lowered.items() if mean}
    numbers |= {"rounder when standardized": rounder[3.0][0]}
    always, mostly = min(s[0] for m, s in lowered.items() if m) == 1.0, ratio.low > 0
    said = (
        f"The measured Hessian is Σ + μμᵀ to {worst:.0e}. With |μ| = 3 centering lowers the "
        f"condition number from "
        f"{_times(logs['as they are'])} to {_times(logs['centered'])} (geometric means) and "
        f"standardizing to "
        f"{_times(logs['standardized'])}; gradient descent at its best rate then takes "
        f"{steps['as they are']:.0f}, "
        f"{steps['centered']:.0f} and {steps['standardized']:.0f} steps (medians). It is not "
        f"lowered always: in "
        f"{_percent(lowered[1.0])}, {_percent(lowered[3.0])} and {_percent(lowered[10.0])} of "
        f"problems with |μ| = 1, 3 "
        "and 10. Where μ lies along the narrow axis of Σ, μμᵀ fills that axis up and makes the "
        "ellipse rounder "
        "(the lecture's neuron has no bias)."
    )
    held = worst < 1e-9 and mostly and (True if always else None)
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={
            "The ellipse of the loss": _ellipses(),
            "Condition numbers": _conditions(kappas, lowered),
        },
    )


def _share(hits: np.ndarray) -> tuple[float, float, float]:
    share = float(hits.mean())
    return share, *wilson_interval(share, len(hits))


def _percent(found: tuple[float, float, float]) -> str:
    return f"{100 * found[0]:.1f} % [{100 * found[1]:.1f}, {100 * found[2]:.1f}]"


def _times(logs: Any) -> str:
    return f"{10**logs.mean:.1f} [{10**logs.low:.1f}, {10**logs.high:.1f}]"


# Pictures


def example() -> tuple[torch.Tensor, torch.Tensor]:
    """One problem for the picture: N = 500, μ = (3, 1.5), correlated inputs of different spread."""
    generator = stream(0, "gallery/centering/example")
    z = torch.randn(1, EXAMPLES, 2, generator=generator, dtype=torch.float64)
    mix = torch.tensor([[1.0, 0.0], [0.35, 0.45]], dtype=torch.float64)
    spread = z @ mix.T
    noise = 0.1 * torch.randn(1, EXAMPLES, generator=generator, dtype=torch.float64)
    return spread + torch.tensor([3.0, 1.5], dtype=torch.float64), spread @ torch.tensor(
        [1.0, -1.0]
    ).double() + noise


def _ellipses() -> Any:
    picture = figure(9.6, 6.2)
    axes = picture.subplots(2, 3)
    x, y = example()
    for column, form in enumerate(FORMS):
        inputs = formed(x, form)
        objective = neuron(inputs, y)
        zero = torch.zeros(1, 2, dtype=torch.float64)
        hessian = objective.hessian(zero)[0]
        values, vectors = torch.linalg.eigh(hessian)
        top, bottom = axes[:, column]
        top.plot(inputs[0, :, 0], inputs[0, :, 1], ".", color=COLORS[0], alpha=0.25, markersize=3)
        top.axhline(0, color="#888888", linewidth=0.7)
        top.axvline(0, color="#888888", linewidth=0.7)
        top.set(title=f"Inputs {form}", xlabel="x₁", xlim=(-4, 7), ylim=(-4.5, 4.5), aspect="equal")
        angle = np.linspace(0, 2 * np.pi, 200)
        circle = torch.tensor(np.stack([np.cos(angle), np.sin(angle)]))
        for radius in np.linspace(0.15, 3.0, 20):  # equal steps of √loss
            ring = vectors @ (circle * radius / values.sqrt()[:, None])
            bottom.plot(ring[0], ring[1], color="#B8B8B8", linewidth=0.7)
        rate = float(2 / values.sum())
        path = [torch.tensor([-1.2, -1.4], dtype=torch.float64)]
        for _ in range(15):
            path.append(path[-1] - rate * hessian @ path[-1])
        walked = torch.stack(path)
        bottom.plot(
            walked[:, 0], walked[:, 1], marker="o", markersize=3, color=COLORS[1], linewidth=1
        )
        bottom.plot(0, 0, "k*", markersize=9)
        kappa = float(values[-1] / values[0])
        bottom.set(
            title=f"Loss, condition number {kappa:.1f}",
            xlabel="w₁ − best w₁",
            xlim=(-2.1, 2.1),
            ylim=(-2.1, 2.1),
            aspect="equal",
        )
        bottom.grid(False)
    axes[0, 0].set_ylabel("x₂")
    axes[1, 0].set_ylabel("w₂ − best w₂")
    picture.suptitle(
        "Lines of equal loss, and 15 steps of gradient descent at the best rate", x=0.01, ha="left"
    )
    return picture


def _conditions(kappas: Any, lowered: Any) -> Any:
    picture = figure(9.4, 3.6)
    left, right = picture.subplots(1, 2)
    for i, form in enumerate(FORMS):
        values = np.sort(kappas[3.0][form])
        left.plot(
            values, 100 * np.arange(1, len(values) + 1) / len(values), label=form, **line_style(i)
        )
    left.set(
        xscale="log",
        xlabel="condition number of the Hessian",
        ylabel="problems with at most this, %",
        title="|μ| = 3",
    )
    left.legend()
    means = [m for m in lowered if m]
    middle, low, high = (100 * np.array(v) for v in zip(*(lowered[m] for m in means), strict=True))
    places = np.arange(len(means))
    right.bar(places, middle, 0.5, color=COLORS[0], alpha=0.35)
    right.errorbar(
        places, middle, yerr=[middle - low, high - middle], fmt="none", ecolor=COLORS[0], capsize=3
    )
    right.set_xticks(places, [f"|μ| = {m:g}" for m in means])
    right.set(
        ylabel="problems, %",
        ylim=(0, 100),
        title="Centering lowers the condition number, 95 % interval",
    )
    return picture


EXPERIMENT = Experiment(
    name="centering",
    title="Centering and the ellipse of the loss",
    rows=("D1", "D2", "O9"),
    claim="The Hessian of a linear neuron's squared error is Σ + μμᵀ; centering the inputs removes "
    "μμᵀ and lowers its "
    "condition number, standardizing makes the ellipse of the loss rounder still.",
    seconds=5,
    run=run,
)

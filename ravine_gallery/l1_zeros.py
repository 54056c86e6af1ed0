"""L1 makes weights vanish, L2 makes them small, the elastic net does both (R2).

Letters: P networks, W weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ravine.catalog import named_recipe
from ravine.networks.batched import BatchedNetwork
from ravine.penalties import L1, L2, ElasticNet
from ravine.protocols import Penalty
from ravine.reporting.plot_style import COLORS, figure, intervals, line_style
from ravine.schedules import Cosine
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval, percent

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
KINDS = ("L1", "L2", "elastic net")
NEAR = 1e-3  # weights that are smaller in size count as zero; the others are about 0.1 to 1


def penalty(kind: str, strength: float) -> Penalty:
    """One of the three, as the lecture writes them: λ Σ|w|, λ Σw², λ (½ Σw² + ½ Σ|w|)."""
    if kind == "L1":
        return L1(strength=strength)
    return L2(strength=strength) if kind == "L2" else ElasticNet(strength=strength, ratio=0.5)


def weights_of(run: Run) -> np.ndarray:
    """The weights into the hidden layer, [P, in, H]."""
    model = run.model
    assert model is not None
    return (
        BatchedNetwork(model.recipe.network, model.signature)
        .layout.views(model.weights)["hidden.0.weight"]
        .numpy()
    )


def run(quick: bool) -> Outcome:
    """Train on ten inputs, five of them without meaning, under each penalty and strength."""
    seeds, epochs = (2, 15) if quick else (6, 60)
    base = (
        named_recipe("plain")
        .vary("data.source", "friedman1")
        .vary("network.hidden", (32,))
        .vary("optimizer.lr", 0.05)
    )
    base = (
        base.vary("epochs", epochs)
        .vary("seeds", seeds)
        .vary("schedule", Cosine())
        .vary("batch", 128)
    )
    asked = [(kind, strength) for kind in KINDS for strength in STRENGTHS]
    runs = train_all([base.vary("penalties", (penalty(*a),)) for a in asked] + [base], workers=1)
    found = dict(zip([*asked, ("none", 0.0)], runs, strict=True))
    zeros = {a: interval((np.abs(weights_of(r)) < NEAR).mean((1, 2))) for a, r in found.items()}
    scores = {a: interval([m.test["r2"] for m in r.record.members]) for a, r in found.items()}
    idle = {
        a: interval((np.abs(weights_of(r)[:, 5:]) < NEAR).mean((1, 2))) for a, r in found.items()
    }
    best = {
        kind: max((a for a in asked if a[0] == kind), key=lambda a: scores[a].mean)
        for kind in KINDS
    }
    exact = float(np.mean([(weights_of(found["L1", s]) == 0).mean() for s in STRENGTHS]))
    numbers = {f"zeros, {kind}": zeros[best[kind]].mean for kind in KINDS}
    numbers |= {f"zeros of idle inputs, {kind}": idle[best[kind]].mean for kind in KINDS}
    numbers |= {f"r2, {kind}": scores[best[kind]].mean for kind in KINDS}
    numbers |= {f"best strength, {kind}": best[kind][1] for kind in KINDS}
    numbers |= {
        "zeros, none": zeros["none", 0.0].mean,
        "r2, none": scores["none", 0.0].mean,
        "exactly zero": exact,
    }
    held = zeros[best["L1"]].low > zeros[best["L2"]].high
    said = (
        f"Share of first-layer weights below {NEAR:g} at each penalty's best strength by test R²: "
        + ", ".join(
            f"{kind} {percent(zeros[best[kind]])} (λ = {best[kind][1]:g}, "
            f"R² {scores[best[kind]].mean:.3f})"
            for kind in KINDS
        )
        + f"; without a penalty {percent(zeros['none', 0.0])} "
        f"(R² {scores['none', 0.0].mean:.3f}). Of the weights of "
        f"the five inputs without meaning L1 drops {percent(idle[best['L1']])}. "
        f"Exactly zero are {100 * exact:.1f} %: "
        "gradient steps of λ sign(w) pass zero by up to a step, they do not stop at it."
    )
    return Outcome(
        held=bool(held),
        said=said,
        numbers=numbers,
        figures={
            "Zeros and scores by strength": _picture(zeros, scores, found),
            "First-layer weights": _weights(
                {kind: weights_of(found[best[kind]])[0] for kind in KINDS}, best
            ),
        },
    )


def _picture(zeros: dict[Any, Interval], scores: dict[Any, Interval], found: Any) -> Any:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    for ax, values, scale in ((left, zeros, 100), (right, scores, 1)):
        for i, kind in enumerate(KINDS):
            each = [values[kind, s] for s in STRENGTHS]
            middle, low, high = (scale * np.array(v) for v in zip(*each, strict=True))
            ax.plot(STRENGTHS, middle, label=kind, **line_style(i))
            intervals(ax, STRENGTHS, middle, low, high, color=COLORS[i])
        ax.axhline(
            scale * values["none", 0.0].mean, color="#6B6B6B", linewidth=0.9, label="no penalty"
        )
        ax.set_xscale("log")
        ax.set_xlabel("λ")
    left.set(
        ylabel=f"weights below {NEAR:g} in size, %", title="Zeros in the first layer, 95 % interval"
    )
    right.set(ylabel="test R²", title="What they cost or bring")
    left.legend()
    return picture


def _weights(shown: dict[str, np.ndarray], best: dict[str, Any]) -> Any:
    picture = figure(9.6, 3.0)
    axes = picture.subplots(1, 3, sharey=True)
    largest = max(float(np.abs(w).max()) for w in shown.values())
    for ax, (kind, weights) in zip(axes, shown.items(), strict=True):
        image = ax.imshow(weights, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
        ax.set(title=f"{kind}, λ = {best[kind][1]:g}", xlabel="hidden unit")
        ax.set_yticks(range(10), [f"x{i}" for i in range(1, 11)])
    axes[0].set_ylabel("input (x6 to x10 mean nothing)")
    picture.colorbar(image, ax=list(axes), label="weight")
    return picture


EXPERIMENT = Experiment(
    name="l1-zeros",
    title="L1's zeros",
    rows=("R2",),
    claim="An L1 penalty makes networks sparse, an L2 penalty only makes weights small; an elastic "
    "net "
    "does some of both.",
    seconds=8,
    run=run,
)

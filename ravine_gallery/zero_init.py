"""Zero and constant starts: all hidden units of a layer stay the same unit (I1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import synthetic
from ravine.networks.activations import Tanh
from ravine.networks.initializers import Constant, He, Zero
from ravine.networks.layer_parts import Dropout
from ravine.networks.mlp import Mlp
from ravine.protocols import Batch, ForwardContext
from ravine.reporting.plot_style import COLORS, figure, intervals, line_style
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import interval, percent, square, tensor, unscaled, watched

HIDDEN = 16
NETWORKS = {
    "zero": Mlp(hidden=(HIDDEN,), activation=Tanh(), initializer=Zero()),
    "constant 0.5": Mlp(hidden=(HIDDEN,), activation=Tanh(), initializer=Constant(value=0.5)),
    "constant 0.5, dropout": Mlp(
        hidden=(HIDDEN,),
        activation=Tanh(),
        initializer=Constant(value=0.5),
        dropout=Dropout(rate=0.2),
    ),
    "random (He)": Mlp(hidden=(HIDDEN,), activation=Tanh(), initializer=He()),
}


def distinct_units(weights: Tensor, *, tolerance: float = 1e-3) -> int:
    """How many different units a hidden layer has. `weights` [H, K]: all that goes into and out of
    each unit.

    Two units are the same if no weight differs by more than `tolerance`, relative to the largest:
    less is the last bits of sums taken in another order.

    >>> distinct_units(torch.tensor([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0]]))
    2
    """
    limit = tolerance * float(weights.abs().max())
    found: list[Tensor] = []
    for unit in weights:
        if all(float((unit - other).abs().max()) > limit for other in found):
            found.append(unit)
    return len(found)


def units_of(tensors: dict[str, Tensor], network: int) -> Tensor:
    """Weights into, bias of and weights out of each hidden unit, [H, in + 1 + out]."""
    into, bias, out = (
        tensors[n][network] for n in ("hidden.0.weight", "hidden.0.bias", "output.weight")
    )
    return torch.cat([into.T, bias.T, out], 1)


def run(quick: bool) -> Outcome:
    """Train a network on the moons from each start and count its different hidden units after each
    epoch.
    """
    seeds, epochs = (2, 10) if quick else (8, 40)
    data, judged = synthetic.moons(400, 0), synthetic.moons(4000, 1)
    counts: dict[str, np.ndarray] = {}
    accuracy: dict[str, list[float]] = {}
    moved: dict[str, float] = {}
    maps = {}
    for name, network in NETWORKS.items():
        recipe = unscaled().vary("network", network).vary("epochs", epochs).vary("seeds", seeds)
        seen: list[list[int]] = []
        starts: list[Tensor] = []

        def look(cohort: Any, task: Any, seen: Any = seen, starts: Any = starts) -> None:
            if not starts:
                starts.append(cohort.weights.clone())
            if cohort.step % cohort.job.plan.per_epoch == 0:
                views = cohort.network.layout.views(cohort.weights)
                seen.append(
                    [distinct_units(units_of(views, i)) for i in range(len(cohort.weights))]
                )

        cohort, _ = watched([recipe], look, data)
        kept = cohort.ended.tensors["weights"]
        counts[name] = np.array(seen)
        views = cohort.network.layout.views(kept - starts[0])
        moved[name] = float(
            max(views["hidden.0.weight"].abs().max(), views["output.weight"].abs().max())
        )
        outputs = {}
        for which, points in (("judged", judged[0]), ("map", square(2.5, 81))):
            now = ForwardContext(training=False, buffers={})
            outputs[which] = cohort.network(
                cohort.network.layout.views(kept), Batch(tensor(points)), now
            )[..., 0]
        accuracy[name] = (
            ((outputs["judged"] > 0).numpy() == judged[1].astype(bool)).mean(1).tolist()
        )
        maps[name] = outputs["map"][0].detach().numpy()
    scores = {name: interval(values) for name, values in accuracy.items()}
    last = {name: values[-1] for name, values in counts.items()}
    numbers = {f"distinct units, {name}": float(values.mean()) for name, values in last.items()}
    numbers |= {f"accuracy, {name}": value.mean for name, value in scores.items()}
    numbers |= {f"largest change of a weight, {name}": value for name, value in moved.items()}
    same = all((counts[name] == 1).all() for name in ("zero", "constant 0.5"))
    said = (
        f"Of {HIDDEN} hidden units, {int(last['zero'].max())} is different from the others after "
        f"zero, "
        f"{int(last['constant 0.5'].max())} after a constant start, "
        f"{last['random (He)'].mean():.3g} after a random "
        f"one, in all {seeds} networks. From zero no weight moves at all, only the output's bias. "
        f"Accuracy: "
        + "; ".join(f"{name} {percent(scores[name])}" for name in scores)
        + f". Dropout breaks the tie: {last['constant 0.5, dropout'].mean():.3g} different units."
    )
    return Outcome(
        held=bool(same and moved["zero"] == 0),
        said=said,
        numbers=numbers,
        figures={
            "Different hidden units": _picture(counts, scores),
            "What is learned": _maps(maps, data),
        },
    )


def _picture(counts: dict[str, np.ndarray], scores: Any) -> Any:
    picture = figure(9.6, 3.6)
    left, right = picture.subplots(1, 2)
    for i, (name, values) in enumerate(counts.items()):
        left.plot(values.mean(1), label=name, **line_style(i))
        mean, low, high = (100 * v for v in scores[name])
        intervals(right, [i], [mean], [low], [high], color=COLORS[i], upright=False)
    left.set(
        xlabel="epoch",
        ylabel=f"different units of {HIDDEN}",
        title="Mean over seeds",
        ylim=(0, HIDDEN + 1),
    )
    left.legend()
    right.set_yticks(range(len(scores)), list(scores))
    right.invert_yaxis()
    right.set(
        xlabel="test accuracy, %", title="95 % interval over seeds (none where all are equal)"
    )
    return picture


def _maps(maps: dict[str, np.ndarray], data: tuple[np.ndarray, np.ndarray]) -> Any:
    picture = figure(9.6, 2.9)
    line = np.linspace(-2.5, 2.5, 81)
    for ax, (name, values) in zip(picture.subplots(1, 4, sharey=True), maps.items(), strict=True):
        shown = values.reshape(81, 81)
        ax.contourf(line, line, shown, levels=[-1e9, 0, 1e9], colors=COLORS[:2], alpha=0.22)
        if shown.min() < 0 < shown.max():
            ax.contour(line, line, shown, levels=[0], colors="black", linewidths=1.4)
        for which, mark in ((0, "o"), (1, "^")):
            ax.plot(*data[0][data[1] == which].T, mark, color=COLORS[which], markersize=2)
        ax.set(title=name, xlim=(-1.8, 2.5), ylim=(-1.5, 2.0))
        ax.grid(False)
    return picture


EXPERIMENT = Experiment(
    name="zero-init",
    title="Zero and constant starts: one unit, many times",
    rows=("I1", "I3"),
    claim="If all weights start at 0 nothing is learned; if all start at a constant, all neurons "
    "of a layer stay the "
    "same: the number of different hidden units is 1 throughout training.",
    seconds=4,
    run=run,
)

"""Averaged weights (E3): SWA and EMA beside the raw weights of the same run, in test loss and in
flatness.

Letters: S seeds, D directions, W weights, N examples.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.catalog import named_recipe
from ravine.data import Random
from ravine.networks.batched import BatchedNetwork
from ravine.networks.layer_parts import BatchNorm
from ravine.networks.mlp import Mlp
from ravine.optimizers import Ema, Swa
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext
from ravine.reporting.plot_style import COLORS, band, figure, intervals, line_style
from ravine.rng import stream
from ravine.schedules import Cosine
from ravine.statistics import t_interval
from ravine.training.defaults import prepare
from ravine.training.evaluation import mean_loss, outputs_on
from ravine.training.run import Run
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome

DISTANCES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)  # from the weights; |w| is about 8


def run(quick: bool) -> Outcome:
    """Train a network with batch norm on the digits at a constant rate, once, and judge three kinds
    of its weights.
    """
    seeds, epochs, directions = (3, 6, 2) if quick else (12, 30, 8)
    base = dataclasses.replace(
        named_recipe("plain"),
        network=Mlp(hidden=(32,), norm=BatchNorm()),
        split=Random(validation=0.1, test=0.5),
        epochs=epochs,
        seeds=seeds,
    )
    base = base.vary("data.source", "digits").vary("optimizer.lr", 0.1)
    ways = {
        "raw": base,
        "SWA": base.vary("average", Swa(start_at=0.5)),
        "EMA": base.vary("average", Ema(decay=0.99)),
        "cosine": base.vary("schedule", Cosine()),
    }
    runs = dict(zip(ways, train_all(list(ways.values()), workers=1), strict=True))
    task, _ = prepare(base)
    train, test = task.train, task.test
    at_test = {name: _losses(r, r.model.weights, test) for name, r in runs.items()}  # type: ignore
    rise = {name: _rises(r, train, directions) for name, r in runs.items()}  # [distances, S]
    averaged, raw = runs["SWA"].model, runs["raw"].model
    assert averaged is not None and raw is not None
    stale = _losses(runs["SWA"], averaged.weights, test, buffers=raw.buffers)
    far = DISTANCES.index(2.0)
    lower = {name: t_interval(at_test["raw"] - at_test[name]) for name in ("SWA", "EMA", "cosine")}
    flatter = {
        name: t_interval(rise["raw"][far] - rise[name][far]) for name in ("SWA", "EMA", "cosine")
    }
    mended = t_interval(stale - at_test["SWA"])
    numbers = {f"test loss, {name}": float(v.mean()) for name, v in at_test.items()}
    numbers |= {f"rise at distance 2, {name}": float(v[far].mean()) for name, v in rise.items()}
    numbers |= {f"test loss below raw, {name}": v.value for name, v in lower.items()}
    numbers |= {f"test loss below raw low, {name}": v.low for name, v in lower.items()}
    numbers |= {f"flatter than raw, {name}": v.value for name, v in flatter.items()}
    numbers |= {f"flatter than raw low, {name}": v.low for name, v in flatter.items()}
    numbers |= {
        "saved by recomputed statistics": mended.value,
        "saved by recomputed statistics low": mended.low,
    }
    said = (
        f"In {seeds} runs at a constant rate the averaged weights have {_said(lower['SWA'])} less "
        f"test loss than the "
        f"raw ones (EMA {_said(lower['EMA'])}; a run with cosine decay {_said(lower['cosine'])}). "
        f"Two units away in a "
        f"random direction the training loss rises by {rise['raw'][far].mean():.3g} from the raw "
        f"weights and by "
        f"{rise['SWA'][far].mean():.3g} from SWA's: {_said(flatter['SWA'])} less. Statistics of "
        f"batch norm worked out "
        f"anew save {_said(mended)} against those of the raw weights."
    )
    better, flat = lower["SWA"], flatter["SWA"]
    held = (
        True
        if better.low > 0 and flat.low > 0
        else False
        if better.high < 0 and flat.high < 0
        else None
    )
    return Outcome(
        held=held,
        said=said,
        numbers=numbers,
        figures={"Test loss and flatness": _picture(at_test, rise)},
    )


def _losses(run: Run, weights: Tensor, examples: Any, *, buffers: Any = None) -> np.ndarray:
    """The loss of networks with some weights [S, W] on examples, [S]."""
    assert run.model is not None and run.model.recipe.loss is not None
    program = BatchedNetwork(stack([run.model.recipe]).network, run.model.signature)
    outputs = outputs_on(
        program, weights, run.model.buffers if buffers is None else buffers, examples
    )
    return mean_loss(run.model.recipe.loss, outputs, examples).double().numpy()


def _rises(run: Run, examples: Any, directions: int) -> np.ndarray:
    """How much the training loss rises at each distance, the mean over random directions:
    [distances, S].

    Batch norm uses the batch's own statistics (here: of all examples), as they belong to the
    weights at every place.
    """
    model = run.model
    assert model is not None and model.recipe.loss is not None
    program = BatchedNetwork(stack([model.recipe]).network, model.signature)
    units = torch.randn(directions, model.size, generator=stream(0, "directions"))
    units = units / units.norm(dim=1, keepdim=True)
    found = []
    for distance in DISTANCES:
        each = []
        for unit in units if distance else units[:1]:
            context = ForwardContext(
                training=True, seeds=(), buffers={n: v.clone() for n, v in model.buffers.items()}
            )
            tensors = program.layout.views(model.weights + distance * unit)
            targets = examples.targets.expand(len(model.weights), -1)
            with torch.no_grad():
                outputs = program(tensors, Batch(examples.numbers[None]), context)
                each.append(
                    model.recipe.loss.per_example(outputs, targets).mean(1).double().numpy()
                )
        found.append(np.mean(each, 0))
    return np.array(found) - found[0]


def _said(found: Any) -> str:
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"


def _picture(at_test: dict[str, np.ndarray], rise: dict[str, np.ndarray]) -> Any:
    picture = figure(9.6, 3.5)
    left, right = picture.subplots(1, 2)
    for i, values in enumerate(at_test.values()):
        found = t_interval(values)
        left.plot(
            values, np.full(len(values), i) + 0.18, "|", color=COLORS[i], markersize=7, alpha=0.7
        )
        intervals(
            left, [i], [found.value], [found.low], [found.high], color=COLORS[i], upright=False
        )
    left.set_yticks(range(len(at_test)), ["raw, constant rate", "SWA", "EMA", "cosine decay"])
    left.invert_yaxis()
    left.set(xlabel="test loss", title="Ticks: runs; dots: mean with 95 % interval")
    for i, (name, values) in enumerate(rise.items()):
        spread = [t_interval(v) for v in values]
        right.plot(DISTANCES, values.mean(1), label=name, **line_style(i))
        band(right, DISTANCES, [s.low for s in spread], [s.high for s in spread], color=COLORS[i])
    right.set(
        xlabel="distance from the weights, in a random direction",
        ylabel="rise of the training loss",
        title="Flatness: mean over directions",
    )
    right.legend()
    return picture


EXPERIMENT = Experiment(
    name="swa",
    title="Averaged weights: flatter, and better on the test set?",
    rows=("E3",),
    claim="The mean of the weights of late epochs lies in a flatter place than the last weights "
    "and has a lower test "
    "loss, once batch norm's statistics are worked out for it.",
    seconds=12,
    run=run,
)

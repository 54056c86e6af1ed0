"""Ensembles: the averaged prediction of independent networks, by the number of members.

Letters: M members, E ensembles, N examples, C classes, S splits.
"""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ravine.data import Random
from ravine.networks.mlp import Mlp
from ravine.optimizers import Momentum
from ravine.reporting.plot_style import GRAY_COLOR, figure
from ravine.statistics import t_interval
from ravine.training.defaults import load_task
from ravine.training.train import train_all
from ravine_gallery.experiment import ExperimentOutcome, experiment
from ravine_gallery.intervals import draw_intervals, format_interval, format_percent
from ravine_gallery.network_experiments import make_recipe, model_of

ENSEMBLE_SIZES = (1, 2, 4, 8, 16)


@experiment(
    "ensembles",
    title="Ensembles beat their average member",
    claim="Training several independent models and averaging their results improves performance.",
    rows=("E1",),
    seconds=8,
)
def compare_ensemble_sizes(quick: bool) -> ExperimentOutcome:
    """Train independent networks on the digits in several splits, and average more and more of
    them.
    """
    splits, epochs, members = (5, 4, 4) if quick else (6, 15, 16)
    sizes = [size for size in ENSEMBLE_SIZES if size <= members]
    recipe = make_recipe(
        "digits",
        network=Mlp(hidden=(32,)),
        optimizer=Momentum(lr=0.05),
        split=Random(validation=0.0, test=0.7),
        epochs=epochs,
        seeds=members,
    )
    recipes = [recipe.vary("split_seed", s).vary("seed", 1000 * s) for s in range(splits)]
    scores = np.zeros((2, splits, len(sizes)))
    for s, (each, run) in enumerate(zip(recipes, train_all(recipes, workers=1), strict=True)):
        test = load_task(each).test
        assert test is not None and test.targets is not None
        predictions = model_of(run).member_predictions(test)
        for i, size in enumerate(sizes):
            # disjoint ensembles of each size, so that all members count alike
            means = torch.stack([group.mean(0) for group in predictions.split(size)])
            scores[:, s, i] = [float(v.mean()) for v in losses_and_errors(means, test.targets)]
    loss, error = scores
    one, four, all_ = error[:, 0], error[:, sizes.index(4)], error[:, -1]
    saved, cut = t_interval(one - all_), t_interval(loss[:, 0] - loss[:, -1])
    share = float(((one - four) / (one - all_)).mean())
    numbers = {f"error of {m}": float(error[:, i].mean()) for i, m in enumerate(sizes)}
    numbers |= {f"loss of {m}": float(loss[:, i].mean()) for i, m in enumerate(sizes)}
    numbers |= {
        "error saved": saved.value,
        "error saved low": saved.low,
        "loss saved": cut.value,
        "loss saved low": cut.low,
        "share of four": share,
        "loss never above its members'": float((np.diff(loss, axis=1) <= 1e-12).mean()),
    }
    said = (
        f"The average network errs on {format_percent(t_interval(one))} of the test digits, the "
        f"mean of {members} on {format_percent(t_interval(all_))}: {format_percent(saved)} fewer "
        f"on the same split. The loss falls by {format_interval(cut)} (it cannot rise: −log is "
        "convex). "
        f"Four members bring {100 * share:.0f} % of the gain."
    )
    better = (saved.low > 0, cut.low > 0)
    held = True if all(better) else None if any(better) else False
    figures = {"By the number of members": _draw_sizes(sizes, loss, error)}
    return ExperimentOutcome(held=held, said=said, numbers=numbers, figures=figures)


def losses_and_errors(predictions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Mean −log p of the true class, and the error rate, of predictions [E, N, C] for classes [N]:
    [E] each.
    """
    p = predictions.gather(2, truth.expand(len(predictions), -1)[..., None])[..., 0]
    errors = (predictions.argmax(2) != truth).double().mean(1)
    return -p.clamp_min(1e-30).log().mean(1), errors


def _draw_sizes(sizes: list[int], loss: np.ndarray, error: np.ndarray) -> Figure:
    picture = figure(9.6, 3.6)
    panels = {"test error, %": 100 * error, "test loss": loss}
    for ax, (label, values) in zip(picture.subplots(1, 2), panels.items(), strict=True):
        ax.plot(sizes, values.T, color=GRAY_COLOR, linewidth=0.8, alpha=0.7)
        draw_intervals(ax, sizes, [t_interval(column) for column in values.T])
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set(xlabel="members", ylabel=label)
        ax.set_title("Mean over splits, 95 % interval; gray: each split")
    return picture

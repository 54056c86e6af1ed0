"""Ensembles: the averaged prediction of independent networks against its average member, by the
number of members (E1).

Letters: M members, E ensembles, N examples, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.catalog import named_recipe
from ravine.data import Random
from ravine.reporting.plot_style import COLORS, GRAY, figure, intervals
from ravine.training.defaults import load_task
from ravine.training.train import train_all
from ravine_gallery.experiment import Experiment, Outcome
from ravine_gallery.network_experiments import Interval, interval, percent

SIZES = (1, 2, 4, 8, 16)


def losses_and_errors(chance: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Mean −log p of the truth, and the error rate, of predictions [E, N, C] on classes [N]: [E]
    each.
    """
    of_truth = chance.gather(2, truth.expand(len(chance), -1)[..., None])[..., 0]
    return -of_truth.clamp_min(1e-30).log().mean(1), (chance.argmax(2) != truth).double().mean(1)


def run(quick: bool) -> Outcome:
    """Train independent networks on the digits in several splits, and average more and more of
    them.
    """
    splits, epochs, members = (2, 4, 4) if quick else (6, 15, 16)
    sizes = [m for m in SIZES if m <= members]
    loss, error = np.zeros((splits, len(sizes))), np.zeros((splits, len(sizes)))
    base = (
        named_recipe("plain")
        .vary("data.source", "digits")
        .vary("network.hidden", (32,))
        .vary("optimizer.lr", 0.05)
    )
    base = (
        base.vary("split", Random(validation=0.0, test=0.7))
        .vary("epochs", epochs)
        .vary("seeds", members)
    )
    recipes = [base.vary("split_seed", s).vary("seed", 1000 * s) for s in range(splits)]
    for s, (recipe, done) in enumerate(zip(recipes, train_all(recipes, workers=1), strict=True)):
        test = load_task(recipe).test
        assert done.model is not None and test is not None and test.targets is not None
        each, truth = done.model.member_predictions(test), test.targets
        for i, size in enumerate(
            sizes
        ):  # disjoint ensembles of each size, so that all members count alike
            means = torch.stack([group.mean(0) for group in each.split(size)])
            found = losses_and_errors(means, truth)
            loss[s, i], error[s, i] = float(found[0].mean()), float(found[1].mean())
    saved, cut = interval(error[:, 0] - error[:, -1]), interval(loss[:, 0] - loss[:, -1])
    half = interval((error[:, 0] - error[:, sizes.index(4)]) / (error[:, 0] - error[:, -1]))
    numbers = {f"error of {m}": float(error[:, i].mean()) for i, m in enumerate(sizes)}
    numbers |= {f"loss of {m}": float(loss[:, i].mean()) for i, m in enumerate(sizes)}
    numbers |= {
        "error saved": saved.mean,
        "error saved low": saved.low,
        "loss saved": cut.mean,
        "loss saved low": cut.low,
        "share of four": half.mean,
        "loss never above its members'": float((np.diff(loss, axis=1) <= 1e-12).mean()),
    }
    said = (
        f"The average network errs on {percent(interval(error[:, 0]))} of the test digits, "
        f"{members} averaged on "
        f"{percent(interval(error[:, -1]))}: {percent(saved)} fewer in the same split. The loss "
        f"falls by {cut} (it "
        f"cannot rise: −log is convex). Four members bring {100 * half.mean:.0f} % of the gain."
    )
    better = (saved.low > 0, cut.low > 0)
    return Outcome(
        held=True if all(better) else None if any(better) else False,
        said=said,
        numbers=numbers,
        figures={"By the number of members": _picture(sizes, loss, error)},
    )


def _picture(sizes: list[int], loss: np.ndarray, error: np.ndarray) -> Any:
    picture = figure(9.6, 3.6)
    for ax, values, label in zip(
        picture.subplots(1, 2), (100 * error, loss), ("test error, %", "test loss"), strict=True
    ):
        ax.plot(sizes, values.T, color=GRAY, linewidth=0.8, alpha=0.7)
        found: list[Interval] = [interval(column) for column in values.T]
        intervals(ax, sizes, *(np.array(v) for v in zip(*found, strict=True)), color=COLORS[0])
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(s) for s in sizes])
        ax.set(
            xlabel="members",
            ylabel=label,
            title="Mean over splits, 95 % interval; gray: each split",
        )
    return picture


EXPERIMENT = Experiment(
    name="ensembles",
    title="Ensembles beat their average member",
    rows=("E1",),
    claim="Training several independent models and averaging their results improves performance.",
    seconds=8,
    run=run,
)

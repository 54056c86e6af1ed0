"""How good networks are, on one scale whatever loss and encoding they were trained with: for
comparing trials.

Letters: M networks, N examples, C outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ravine import metrics
from ravine.data import Examples
from ravine.data.examples import evenly_spaced
from ravine.metrics import Metric
from ravine.training.run import Run

JUDGED = 4000  # examples at most
ENOUGH = 5  # examples of the rarest class, for the balanced accuracy to mean something
# times the best constant's loss: how bad a loss can count, or a few bad ones would hide the rest
CEILING = 2.0


class Marks(NamedTuple):
    """The loss and the score of each network [M]; NaN where one diverged."""

    losses: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Judge:
    """Losses are 1 − R² for numbers, else the log loss; `null` is that of the best constant answer.

    Scores are 0 for the best constant answer and 1 at best: of R², of the share of labels that are
    right, of the accuracy (balanced over classes where each has enough validation examples).
    """

    score: Metric
    kind: str
    null: float
    null_score: float

    def marks(self, run: Run, task: Any, most: int) -> Marks:
        """The marks of the first networks of a run, on examples that they did not learn from where
        there are some.
        """
        alive = [m.outcome != "diverged" for m in run.record.members]
        if run.model is None:
            return Marks((math.nan,) * len(alive[:most]), (math.nan,) * len(alive[:most]))
        held = held_out(task)
        assert held.targets is not None
        predictions = run.model.member_predictions(held)[
            -sum(alive) :
        ]  # of a run with snapshots the last weights of each
        losses = iter(
            _loss(self.kind, predictions, held.targets).clamp(max=CEILING * self.null).tolist()
        )
        scores = iter(
            (
                (self.score.of(predictions, held.targets) - self.null_score) / (1 - self.null_score)
            ).tolist()
        )
        return Marks(
            *zip(
                *[(next(losses), next(scores)) if ok else (math.nan, math.nan) for ok in alive][
                    :most
                ],
                strict=True,
            )
        )


def judge_of(task: Any) -> Judge:
    """The judge of a task."""
    held, train = held_out(task), evenly_spaced(task.train, JUDGED)
    score = metrics.main_metric(task.kind)
    assert held.targets is not None and train.targets is not None
    if task.kind in ("binary", "classes"):
        counts = torch.bincount(held.targets.reshape(-1).long(), minlength=len(task.classes))
        score = metrics.BALANCED_ACCURACY if int(counts.min()) >= ENOUGH else score
    constant = _constant(task, train.targets).expand(1, held.count, -1)
    null_score = float(score.of(constant, held.targets)[0])
    return Judge(score, task.kind, float(_loss(task.kind, constant, held.targets)[0]), null_score)


def held_out(task: Any) -> Examples:
    """Validation examples; of a task without any, training examples."""
    if task.validation is None:
        return evenly_spaced(task.train, JUDGED)
    count = task.validation.count
    return task.validation.take(torch.linspace(0, count - 1, min(count, JUDGED)).round().long())


def _loss(kind: str, predictions: Tensor, targets: Tensor) -> Tensor:
    """1 − R² or the log loss, [M]."""
    return (
        1 - metrics.R2.of(predictions, targets)
        if kind == "regression"
        else metrics.LOG_LOSS.of(predictions, targets)
    )


def _constant(task: Any, targets: Tensor) -> Tensor:
    """The best constant prediction [1, 1, C]: class shares, or means."""
    if task.kind == "classes":
        shares = torch.bincount(targets.reshape(-1).long(), minlength=task.outputs).double()
        return (shares / shares.sum())[None, None]
    return targets.double().reshape(len(targets), -1).mean(0)[None, None]

"""When a network has learned enough, and which of its weights to keep."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from ravine.effects import Effect
from ravine.part import part, setting


@part
class EarlyStopping:
    """Stop a network whose validation value has not improved for `patience` epochs; keep its best
    weights.

    `on` is what must improve: the validation loss, or the task's score (accuracy, R²). An
    improvement must exceed `minimum`; with `ties = "last"` an equal value also counts as best
    (RealMLP keeps the last best epoch). Each network of a cohort stops by itself; those that go on
    are not changed by it, bit for bit.
    """

    acts: ClassVar[Effect] = Effect(
        "early stopping", "share of the budget that came after the best weights, or was not needed"
    )
    patience: int = setting(default=20, ge=1)
    on: Literal["loss", "score"] = "loss"
    minimum: float = setting(default=0.0, ge=0)
    ties: Literal["first", "last"] = "first"


@part
class Snapshots:
    """Keep the weights at the end of each cycle of the learning rate: M models for one training
    (Huang et al. 2017).

    A cycle ends where the rate, having fallen, rises again, and with the run: under `SGDR` before
    each restart, under `Cyclical` at each low. The model averages the predictions of all that were
    kept, or of the `last` so many.

    >>> Snapshots().ends(torch.tensor([1.0, 0.5, 0.1, 1.0, 0.5, 0.1])).tolist()
    [False, False, True, False, False, True]
    """

    acts: ClassVar[Effect] = Effect(
        "snapshots", "mean distance of snapshots from the last weights, relative to them"
    )
    last: int | None = setting(default=None, ge=1)

    def ends(self, factors: Tensor) -> Tensor:
        rises = factors.diff() > 0  # from each step to the next
        fell = torch.cat([torch.tensor([False]), factors.diff() < 0])
        return torch.cat([rises & fell[:-1], torch.tensor([True])])

"""When a network has learned enough, and which of its weights to keep."""

from __future__ import annotations

from typing import ClassVar, Literal

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


ALL = (EarlyStopping,)

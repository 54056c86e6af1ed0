"""When a network has learned enough, and which of its weights to keep."""

from typing import ClassVar, Literal

from torch import Tensor

from ravine.effects import Effect
from ravine.part import part, setting
from ravine.protocols import Plan


@part
class EarlyStopping:
    """Stop a network whose validation value no longer improves; keep its best weights.

    `on` is the value that must improve within `patience` epochs: the validation loss, or the task's
    score (accuracy, R²). An improvement must exceed `minimum`; with `ties = "last"` an equal value
    also counts as best (RealMLP keeps the last best epoch). Each network of a cohort stops by
    itself; the others go on unchanged, bit for bit.
    """

    acts: ClassVar[Effect] = Effect(
        "early stopping", "share of the budget that came after the best weights, or was not needed"
    )
    patience: int = setting(default=20, ge=1, le=1_000_000_000)
    on: Literal["loss", "score"] = "loss"
    minimum: float = setting(default=0.0, ge=0)
    ties: Literal["first", "last"] = "first"

    def improves(self, value: Tensor, best: Tensor) -> Tensor:
        """Whether a value (lower is better) counts as better than the best so far.

        >>> import torch
        >>> value, best = torch.tensor([1.0, 2.0, 3.0]), torch.tensor(2.0)
        >>> EarlyStopping().improves(value, best).tolist()
        [True, False, False]
        >>> EarlyStopping(ties="last").improves(value, best).tolist()
        [True, True, False]
        """
        bar = best - self.minimum
        return value <= bar if self.ties == "last" else value < bar

    def is_over(self, step: int, best_step: Tensor, plan: Plan) -> Tensor:
        """Whether `patience` epochs have passed since each network's best step."""
        return step - best_step >= self.patience * plan.per_epoch


ALL = (EarlyStopping,)

"""The multiplier of each weight's learning rate that a recipe's `tuning` asks for, by step.

Letters: P networks, W weights of one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.layout import Layout, Row
from ravine.protocols import Plan, Tuning


class LrMultipliers:
    """The product of the multipliers that `tuning` and the network's slots give.

    They change with the epoch, so they are computed once in each. A weight whose multiplier is 0 is
    *frozen*. Weights that are frozen to the end get no gradient at all. Those that are frozen now
    and train later do: the optimizer's averages of it are then ready when they are unfrozen, where
    Adam would otherwise make its first steps several times too large.
    """

    def __init__(self, parts: Sequence[Tuning], layout: Layout, plan: Plan, *, like: Tensor):
        self.parts, self.layout, self.plan, self.like = parts, layout, plan, like
        self.own = layout.lr_multipliers(dtype=torch.float64)
        # frozen in the last step: multipliers only rise from 0, so these weights never train
        self.always_frozen = (_lr_product(parts, layout, plan.steps - 1, plan) == 0).to(like.device)
        self.epoch = -1
        self.at(0)

    def at(self, step: int) -> Row:
        """The multiplier of each weight's learning rate at a step, [1, W]."""
        epoch = step // self.plan.per_epoch
        if epoch != self.epoch:
            self.epoch = epoch
            row = _lr_product(self.parts, self.layout, step, self.plan)
            self.frozen = (row == 0).to(self.like.device)
            self.frozen_for_now = self.frozen & ~self.always_frozen
            self.row = (row if self.own is None else row * self.own).to(self.like)
            self.part_rows = [p.lr_multipliers(self.layout, step, self.plan) for p in self.parts]
        return self.row

    @property
    def trainable_slots(self) -> set[str]:
        """The names of the slots that train at some time."""
        spans = self.layout.spans
        return {n for n, (a, b) in spans.items() if not bool(self.always_frozen[0, a:b].all())}

    def report(self, meter: Meter) -> None:
        """Report what each part did in this step."""
        for part, row in zip(self.parts, self.part_rows, strict=True):
            meter.add(part.acts.name, part.effect_of(row))


def _lr_product(parts: Sequence[Tuning], layout: Layout, step: int, plan: Plan) -> Row:
    row = torch.ones(1, layout.width, dtype=torch.float64)
    for part in parts:
        row = row * part.lr_multipliers(layout, step, plan).double()
    return row

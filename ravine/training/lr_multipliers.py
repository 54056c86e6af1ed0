"""What a recipe's tuning means for the step at hand: each weight's rate, which weights are held,
which come later.

Letters: P networks, W weights of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.errors import RecipeError
from ravine.layout import Layout, Row, Rows
from ravine.protocols import Plan, Tuning


class Tuned:
    """The factors of the learning rate as the parts of `tuning` and the network's own slots have
    them, multiplied.

    Factors change with the epoch, so they are worked out once in each. A weight whose factor is 0
    is *held*. Weights that are held to the end get no gradient at all. Those that are held now and
    move later do: the optimizer's averages of it are then ready when they are let go, where Adam
    would else make its first steps several times too large.
    """

    def __init__(self, parts: Sequence[Tuning], layout: Layout, plan: Plan, *, like: Tensor):
        self.parts, self.layout, self.plan, self.like = parts, layout, plan, like
        self.own = layout.lr(dtype=torch.float64)
        last = self._product(plan.steps - 1)
        self.never = (last == 0).to(
            like.device
        )  # held at the end, so (factors only rise from 0) never moved
        self.epoch = -1
        self.at(0)

    def _product(self, step: int) -> Row:
        row = torch.ones(1, self.layout.width, dtype=torch.float64)
        for part in self.parts:
            row = row * part.lr(self.layout, step, self.plan).double()
        return row

    def at(self, step: int) -> Row:
        """The factor of each weight's learning rate at a step, [1, W]."""
        epoch = step // self.plan.per_epoch
        if epoch != self.epoch:
            self.epoch = epoch
            row = self._product(step)
            self.held = (row == 0).to(self.like.device)
            self.later = self.held & ~self.never
            self.lr = (row if self.own is None else row * self.own).to(self.like)
            self.own_rows = [part.lr(self.layout, step, self.plan) for part in self.parts]
        return self.lr

    @property
    def moving(self) -> set[str]:
        """The names of the slots that move at some time."""
        return {n for n, (a, b) in self.layout.spans.items() if not bool(self.never[0, a:b].all())}

    def freed(self, grads: Rows) -> Rows:
        """Gradients without those of held weights."""
        return torch.where(self.held, 0.0, grads)

    def restored_(self, rows: Rows, before: Rows) -> None:
        """Write back the held weights: not every rule leaves a weight alone whose rate is 0."""
        torch.where(self.held, before, rows, out=rows)

    def report(self, meter: Meter) -> None:
        """Report what each part did in this step."""
        for part, row in zip(self.parts, self.own_rows, strict=True):
            told: Any = part
            meter.add(told.acts.name, told.effect_of(row))


def check_tuning(parts: Sequence[Tuning], layout: Layout, plan: Plan) -> None:
    """Raise `RecipeError` where patterns match nothing, or no weight would ever move."""
    if not parts:
        return
    row = torch.ones(1, layout.width)
    for part in parts:
        row = row * part.lr(layout, plan.steps - 1, plan)
    if not bool((row != 0).any()):
        raise RecipeError(
            "tuning holds every weight still to the end",
            why="nothing would learn",
            do="leave a layer free, such as output",
        )

"""Averages of the weights in training (EMA, SWA), and snapshots whose predictions are averaged."""

from typing import ClassVar

import torch
from torch import Tensor

from ravine.effects import Effect
from ravine.layout import Rows, row_norm
from ravine.optimizers.coefficients import per_network
from ravine.part import Number, match, part, setting
from ravine.protocols import Plan, State, StepContext

AVERAGE_MEANING = "distance of the average from the raw weights, relative to their length"


@part
class Ema:
    """An exponential moving average of the weights, evaluated and kept in place of the raw ones.

        a ← d a + (1 − d) w

    With `warm_up` d is at most (1 + t) / (10 + t) at step t, so that the start is forgotten. The
    first update copies the weights, as torch's `AveragedModel` does. It reaches back about 1 / (1 −
    d) steps.
    """

    acts: ClassVar[Effect] = Effect("ema", AVERAGE_MEANING)
    decay: Number = setting(default=0.999, ge=0, lt=1)
    warm_up: bool = False

    def start(self, rows: Rows) -> State:
        return {"average": rows.clone()}

    def update(self, rows: Rows, state: State, context: StepContext, plan: Plan) -> State:
        if context.step == 1:
            return {"average": rows.clone()}  # the loop changes rows in place
        decay = self.decay
        if self.warm_up:
            decay = per_network(lambda d: min(d, (1 + context.step) / (10 + context.step)), decay)
        average = match(decay, rows) * state["average"] + match(1 - decay, rows) * rows
        _report(self.acts, average, rows, context)
        return {"average": average}

    def eval_weights(self, rows: Rows, state: State) -> Rows:
        return state["average"]


@part
class Swa:
    """Stochastic weight averaging: the mean at the ends of late epochs (Izmailov et al. 2018).

    Epochs count that end after the fraction `start_at` of the run's steps; before the first of them
    the raw weights are evaluated. Running statistics of batch norms belong to the raw weights.
    """

    acts: ClassVar[Effect] = Effect("swa", AVERAGE_MEANING)
    start_at: Number = setting(default=0.75, ge=0, lt=1)

    def start(self, rows: Rows) -> State:
        count = torch.zeros(rows.shape[0], 1, dtype=torch.float64, device=rows.device)
        return {"average": rows.clone(), "count": count}

    def update(self, rows: Rows, state: State, context: StepContext, plan: Plan) -> State:
        if context.step % plan.per_epoch == 0:
            done = context.step
            late = per_network(lambda start: float(done > start * plan.steps), self.start_at)
            count = state["count"] + match(late, state["count"])
            share = match(1 / count.clamp_min(1), rows)
            moved = state["average"] + share * (rows - state["average"])
            state = {"average": torch.where(count > 1, moved, rows), "count": count}
        _report(self.acts, self.eval_weights(rows, state), rows, context)
        return state

    def eval_weights(self, rows: Rows, state: State) -> Rows:
        return torch.where(state["count"] > 0, state["average"], rows)


@part
class Snapshots:
    """Keep the weights at the end of each cycle: M models for one training (Huang et al. 2017).

    A cycle ends where the rate rises after falling, and with the run: under `SGDR` before each
    restart, under `Cyclical` at each low. The model averages the predictions of all snapshots, or
    of the `last` so many.

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


def _report(acts: Effect, average: Rows, rows: Rows, context: StepContext) -> None:
    if context.meter is not None:
        context.meter.add(acts.name, row_norm(average - rows) / row_norm(rows).clamp_min(1e-30))


ALL_AVERAGES = (Ema, Swa)
ALL_SNAPSHOTS = (Snapshots,)

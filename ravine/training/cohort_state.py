"""What changes while a cohort trains: states, what is measured, ended networks, a workspace.

Everything in the first three is in a checkpoint. Letters: P networks now, N at first, W weights.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from ravine.effects import Meter
from ravine.layout import Row, Rows
from ravine.networks.batched import BatchedNetwork
from ravine.networks.manual_backprop import LossWithGradient, ManualBackprop
from ravine.part import with_shared_scalars
from ravine.protocols import Loss, Plan, State
from ravine.recipe import Recipe
from ravine.training.lr_multipliers import LrMultipliers


@dataclass
class TrainingState:
    """What optimizer, average, schedule and early stopping remember, a row for each network."""

    optimizer: State
    average: State
    schedule: State
    best: dict[str, Tensor]  # "weights", "value" [P], "step" [P], "buffer/NAME"
    losses: dict[str, Tensor]  # "sum" float64 [P, 1]: training losses since the last evaluation
    loss_count: int = 0  # how many losses are in that sum
    # validation loss when it was lowest: "value" [P], "each" [P, examples]
    lowest: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class TrainingLog:
    """What is measured: series and events for the record, and what techniques report."""

    meter: Meter
    series: dict[str, list[tuple[int, list[float]]]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def is_new(self, name: str, step: int) -> bool:
        """Whether a series has no point at this step yet."""
        points = self.series.get(name)
        return not points or points[-1][0] != step


@dataclass
class EndedNetworks:
    """What is left of networks that have ended, a row or an entry for each of the job's N.

    `tensors` holds the kept weights and buffers, the steps made, the step of the best weights, and
    snapshots where the recipe keeps them.
    """

    tensors: dict[str, Tensor]
    outcomes: list[str]
    effects: list[dict[str, float]]


@dataclass(frozen=True)
class Workspace:
    """What follows from a cohort's networks and recipe: leaves for autograd, gradients, masks.

    Made anew when networks leave.
    """

    leaves: dict[str, Tensor]
    leaf_list: list[Tensor]  # those that need gradients
    grads: Rows
    grad_views: dict[str, Tensor]
    grad_list: list[Tensor]
    decay_mask: Row
    slot_multipliers: Row | None  # a learning rate factor for each weight; None where all are 1
    tuning_multipliers: LrMultipliers | None  # the slots' and the recipe's, where it has `tuning`
    loss: Loss
    manual: ManualBackprop | None  # where the backward pass is written out and needs no autograd

    @classmethod
    def of(cls, parts: Recipe, network: BatchedNetwork, weights: Rows, plan: Plan) -> Self:
        """The workspace of stacked recipes whose networks have these weights."""
        assert parts.loss is not None  # resolved before training
        layout = network.layout
        loss = with_shared_scalars(parts.loss)
        multipliers = None
        trainable = {slot.name for slot in layout.slots}
        if parts.tuning:
            multipliers = LrMultipliers(parts.tuning, layout, plan, like=weights)
            trainable = multipliers.trainable_slots
        views = layout.views(weights)
        leaves = {n: v.detach().requires_grad_(n in trainable) for n, v in views.items()}
        manual = None
        if isinstance(loss, LossWithGradient) and ManualBackprop.applies(network, loss):
            manual = ManualBackprop(network, loss)
        grads = torch.zeros_like(weights)
        grad_views = layout.views(grads)
        lr_multipliers = layout.lr_multipliers(dtype=weights.dtype)
        return cls(
            leaves=leaves if manual is None else views,
            leaf_list=[leaf for n, leaf in leaves.items() if n in trainable],
            grads=grads,
            grad_views=grad_views,
            grad_list=[view for n, view in grad_views.items() if n in trainable],
            decay_mask=layout.decay_mask(dtype=weights.dtype).to(weights.device),
            slot_multipliers=None if lr_multipliers is None else lr_multipliers.to(weights.device),
            tuning_multipliers=multipliers,
            loss=loss,
            manual=manual,
        )

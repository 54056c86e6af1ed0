"""What is measured of steps and evaluations: gradients, updates, rates, how sure the loss is.

Letters: P networks now in the cohort, N examples.
"""

import math

import torch
from torch import Tensor

from ravine.layout import Rows, row_norm
from ravine.protocols import Plan, StepContext
from ravine.training.cohort import Cohort

MAX_COMPARED = 4096  # validation examples whose losses are compared one by one


def is_sampled(step: int, plan: Plan) -> bool:
    """Whether gradients and techniques are measured: the first step, the last, one in 25 to 100."""
    return step % max(25, min(100, plan.steps // 25)) == 0 or step == plan.steps - 1


def log_step(
    cohort: Cohort, context: StepContext, *, before: Rows, grads: Rows, unclipped: Tensor | None
) -> None:
    """Log |g|, |w|, |Δw| / |w| and the learning rate of the step just made, for each network.

    `unclipped` is the gradient's length before it was clipped; None where nothing clips.
    """
    change = cohort.weights - before
    update = row_norm(change) / row_norm(before).clamp_min(1e-30)
    cohort.add_point("gradient/norm", row_norm(grads))
    cohort.add_point("weights/norm", row_norm(before))
    cohort.add_point("update/ratio", update)
    if unclipped is not None:
        kept = torch.where(unclipped > 0, row_norm(grads) / unclipped.clamp_min(1e-30), 1.0)
        cohort.add_point("clip/kept", kept)
    _log_layers(cohort, before, change)
    log_learning_rate(cohort, context.factor)
    if context.meter is not None:
        context.meter.add("update", update)
    multipliers = cohort.workspace.tuning_multipliers
    if multipliers is not None:
        frozen = multipliers.frozen
        multipliers.report(cohort.log.meter)
        cohort.add_point("held/weights", frozen.sum().expand(len(cohort.ids)))
        cohort.add_point("held/largest change", torch.where(frozen, change.abs(), 0.0).amax(1))


def _log_layers(cohort: Cohort, before: Rows, change: Rows) -> None:
    """Log |Δw| / |w| of each weight matrix that trains."""
    layout = cohort.network.layout
    multipliers = cohort.workspace.tuning_multipliers
    trainable = set(layout.spans) if multipliers is None else multipliers.trainable_slots
    for slot in layout.slots:
        if slot.role != "weight" or slot.name not in trainable:
            continue
        part = slice(*layout.spans[slot.name])
        # a layer that starts at 0 has moved by all that it is
        size = torch.maximum(row_norm(before[:, part]), row_norm(cohort.weights[:, part]))
        ratio = row_norm(change[:, part]) / size.clamp_min(1e-30)
        cohort.add_point(f"update/ratio/{slot.name}", ratio)


def log_learning_rate(cohort: Cohort, factor: Tensor | float) -> None:
    """Log the learning rate of the step just made, once; `factor` is the schedule's."""
    if cohort.log.is_new("lr", cohort.step):
        rate = torch.as_tensor(cohort.parts.optimizer.lr * factor, dtype=torch.float64)
        cohort.add_point("lr", rate.expand(len(cohort.ids), 1))


def log_loss_rise(cohort: Cohort, each: Tensor, losses: Tensor) -> None:
    """Log how sure the validation loss is, and how far above its lowest, paired over examples.

    `each` [P, N] are the losses of the examples, `losses` [P] their means. Standard errors are
    those of the mean over N examples: s / sqrt(N) of the losses, and of their differences from the
    losses of the same examples when the mean was lowest. Of many examples every k-th is compared.
    """
    every = -(-each.shape[1] // MAX_COMPARED)
    each = each[:, ::every].double()
    lowest = cohort.state.lowest
    if not lowest:
        lowest |= {"value": torch.full_like(losses, math.inf), "each": each.clone()}
    rise = each - lowest["each"]
    cohort.add_point("error/validation/loss", standard_error(each))
    cohort.add_point("rise/validation/loss", rise.mean(1))
    cohort.add_point("error/rise/validation/loss", standard_error(rise))
    better = losses < lowest["value"]
    lowest["value"] = torch.where(better, losses, lowest["value"])
    lowest["each"] = torch.where(better[:, None], each, lowest["each"])


def standard_error(values: Tensor) -> Tensor:
    """The standard error s / sqrt(N) of means of values [P, N], infinite for N = 1, [P]."""
    count = values.shape[1]
    if count < 2:
        return torch.full_like(values[:, 0], math.inf)
    deviations = values - values.mean(1, keepdim=True)
    return (deviations.square().sum(1) / (count - 1) / count).sqrt()

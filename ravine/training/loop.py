"""The training loop, one page: every update of every network happens here.

Letters: P networks now in the cohort, B examples, W weights, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ravine.layout import Rows, row_norm
from ravine.optimizers.fused import apply_update_
from ravine.probes.curvature import Objective
from ravine.protocols import Batch, ForwardContext, LossAndGradient, SearchOptimizer, StepContext
from ravine.training.batches import Batches
from ravine.training.cohort import Cohort
from ravine.training.evaluation import Evaluator, log_rate, measure, samples

FACTORS_AT_ONCE = 256  # steps whose learning rates are worked out together


def run(
    cohort: Cohort, source: Batches, evaluate: Evaluator, *, pause: Callable[[Cohort], bool]
) -> None:
    """Train until every network has ended, or `pause` (asked after each step, to save and to stop)
    says so.
    """
    plan, factors, searches = (
        cohort.job.plan,
        Factors(cohort),
        isinstance(cohort.parts.optimizer, SearchOptimizer),
    )
    while cohort.ids and cohort.step < plan.steps:
        sampled = samples(cohort.step, plan)
        meter = cohort.meter if sampled else None
        batch = augmented(cohort, source.at(cohort.step), meter)
        grads, losses = gradients(cohort, batch, meter)
        tuned = cohort.tuned
        rates = cohort.lr_row if tuned is None else tuned.at(cohort.step)
        context = StepContext(
            cohort.step + 1,
            factors.at(cohort.step),
            cohort.decays,
            cohort.program.layout,
            rates,
            meter,
        )
        raw = row_norm(grads) if sampled and cohort.parts.clip is not None else None
        grads = prepare(cohort, grads, context)
        before = cohort.weights.clone() if sampled or tuned is not None else None
        if searches:
            search_(cohort, batch, LossAndGradient(losses, grads), context)
        else:
            apply_update_(cohort.parts.optimizer, cohort.weights, grads, cohort.optimizer, context)
        if tuned is not None and before is not None:
            tuned.restored_(cohort.weights, before)
        if cohort.parts.average is not None:
            cohort.average = cohort.parts.average.update(
                cohort.weights, cohort.average, context, plan
            )
        cohort.step += 1
        cohort.losses["sum"] += losses
        cohort.loss_count += 1
        if sampled and before is not None:
            measure(cohort, before, grads, raw, context)
        if evaluate.due(cohort.step):
            log_rate(cohort, context)
            leaving = evaluate(cohort)
            if leaving:
                cohort.end(leaving)
                source.keep(cohort.seeds)
                factors = Factors(cohort)
        if pause(cohort):
            return
    cohort.end(dict.fromkeys(range(len(cohort.ids)), "finished"))


def augmented(cohort: Cohort, batch: Batch, meter: Any) -> Batch:
    """The batch as the recipe's augmentations leave it, one after another."""
    parts = cohort.parts.augment
    if not parts:
        return batch
    networks, numbers = len(cohort.ids), batch.numbers
    dtype = cohort.weights.dtype
    numbers = numbers.to(dtype) / 255 if numbers.dtype == torch.uint8 else numbers
    expanded = (
        None if t is None else t.expand(networks, *t.shape[1:])
        for t in (numbers, batch.codes, batch.targets, batch.weights)
    )
    batch = Batch(*expanded)  # type: ignore[arg-type]
    context = ForwardContext(
        training=True, seeds=cohort.seeds, step=cohort.step, batch=cohort.job.batch, meter=meter
    )
    for part in parts:
        batch = part(batch, context)
    return batch


def gradients(cohort: Cohort, batch: Batch, meter: Any) -> tuple[Rows, Tensor]:
    """The gradient of each network's mean loss on its batch [P, W], and those losses [P, 1]."""
    job = cohort.job
    assert cohort.loss is not None and batch.targets is not None  # resolved before training
    if cohort.by_hand is not None:
        examples = batch.numbers.shape[1]
        each = cohort.by_hand(
            cohort.leaves,
            cohort.grad_views,
            batch,
            1 / examples if batch.weights is None else batch.weights / examples,
            meter,
        )
        return cohort.grads, _mean(each, batch)
    context = ForwardContext(
        training=True,
        seeds=cohort.seeds,
        step=cohort.step,
        batch=job.batch,
        meter=meter,
        buffers=cohort.buffers,
    )
    outputs = cohort.program(cohort.leaves, batch, context)
    targets = batch.targets
    each = cohort.loss.per_example(
        outputs, targets.expand(len(cohort.ids), *targets.shape[1:]), meter
    )
    if batch.mixed_targets is not None and batch.mixed_share is not None:
        each = each + batch.mixed_share * (
            cohort.loss.per_example(outputs, batch.mixed_targets) - each
        )
    share = torch.full_like(each, 1 / each.shape[1])
    share = share if batch.weights is None else share * batch.weights
    # d(mean of each)/d(each), handed in: two operations less than taking the mean and its gradient
    found = torch.autograd.grad(each, cohort.leaf_list, share)
    torch._foreach_copy_(cohort.grad_list, found)  # type: ignore[reportPrivateImportUsage]
    return cohort.grads, _mean(each.detach(), batch)


def _mean(each: Tensor, batch: Batch) -> Tensor:
    """Each network's mean of its losses, weighted as the examples are, [P, 1]."""
    return (each if batch.weights is None else each * batch.weights).mean(1, keepdim=True)


def prepare(cohort: Cohort, grads: Rows, context: StepContext) -> Rows:
    """What happens to gradients before the update: penalties are added, then each network's is
    clipped.
    """
    for penalty in cohort.parts.penalties:
        grads = grads + penalty.gradient(cohort.weights, context.decays, context.meter)
    tuned, clip = cohort.tuned, cohort.parts.clip
    if tuned is None:
        return grads if clip is None else clip.clip(grads, context)
    freed = tuned.freed(grads)
    freed = freed if clip is None else clip.clip(freed, context)
    return torch.where(tuned.later, grads, freed)  # what is let go later does not count in the clip


class OfBatch:
    """The loss of a step's batch, penalties and all, as a function of the weights: what an
    optimizer may search.
    """

    def __init__(self, cohort: Cohort, batch: Batch, first: LossAndGradient):
        penalties, decays = cohort.parts.penalties, cohort.decays

        def penalty(rows: Rows) -> Tensor:
            return sum((p.value(rows, decays) for p in penalties), torch.zeros_like(rows[:, :1]))

        context = ForwardContext(
            training=True, seeds=cohort.seeds, step=cohort.step, batch=cohort.job.batch
        )
        assert cohort.loss is not None  # resolved before training
        self.whole = Objective.of_program(
            cohort.program,
            cohort.loss,
            batch,
            buffers=cohort.buffers,
            context=context,
            more=penalty if penalties else None,
        )
        self.first = LossAndGradient(first.losses + penalty(cohort.weights), first.grads)

    def value_and_grad(self, rows: Rows) -> LossAndGradient:
        return self.whole.value_and_grad(rows)

    def hessian(self, rows: Rows) -> Tensor:
        return self.whole.hessian(rows)


def search_(cohort: Cohort, batch: Batch, first: LossAndGradient, context: StepContext) -> None:
    """The update of an optimizer that evaluates the batch's loss as often as it needs; writes
    weights and state.
    """
    optimizer: Any = cohort.parts.optimizer
    new, state = optimizer.search(
        cohort.weights, OfBatch(cohort, batch, first), cohort.optimizer, context
    )
    cohort.weights.copy_(new)
    cohort.optimizer.update(state)


class Factors:
    """The schedule's multiples of the learning rate, worked out for many steps at once."""

    def __init__(self, cohort: Cohort):
        self.cohort, self.first, self.table, self.shared = cohort, -1, torch.empty(0), [0.0]

    def at(self, step: int) -> Any:
        """The factor of a step, for all networks: a float if they share it, else a float64 column
        [P, 1].
        """
        place = step - self.first
        if self.first < 0 or place >= self.table.shape[1]:
            steps = torch.arange(step, step + FACTORS_AT_ONCE, dtype=torch.float64)[None]
            schedule = self.cohort.parts.schedule
            self.table = schedule.factor(steps, self.cohort.job.plan)
            self.first, place = step, 0
            self.shared = self.table[0].tolist()
        if self.cohort.schedule:
            return self.table[:, place : place + 1] * self.cohort.schedule["factor"]
        return self.shared[place] if len(self.table) == 1 else self.table[:, place : place + 1]

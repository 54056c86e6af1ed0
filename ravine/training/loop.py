"""The training loop, one page: every update of every network happens here.

Letters: P networks now in the cohort, B examples, W weights, C outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from ravine.data import Examples
from ravine.effects import Meter, PartMeter
from ravine.layout import Rows, row_norm
from ravine.optimizers.fused import apply_update_
from ravine.penalties import penalty_sum
from ravine.probes.curvature import Objective
from ravine.protocols import Batch, ForwardContext, LossAndGradient, SearchOptimizer, StepContext
from ravine.ranks import BatchPart
from ravine.training.batches import Batches
from ravine.training.cohort import Cohort
from ravine.training.compiled_steps import CompiledSteps
from ravine.training.evaluation import Evaluator
from ravine.training.step_statistics import is_sampled, log_learning_rate, log_step

FACTORS_AT_ONCE = 256  # steps whose learning rates are computed together


def train_cohort(
    cohort: Cohort,
    batches: Batches,
    evaluate: Evaluator,
    *,
    pause: Callable[[Cohort], bool],
    threads: int = 0,
) -> None:
    """Train until every network has ended, or `pause` returns True.

    It is asked after each step; with `threads` for compiled steps, after many of these.
    """
    plan, searches = cohort.job.plan, isinstance(cohort.parts.optimizer, SearchOptimizer)
    factors = ScheduleFactors(cohort)
    compiled = CompiledSteps.of(cohort, batches, threads=threads)
    while cohort.ids and cohort.step < plan.steps:
        if compiled is None or not compiled.train(evaluate, factors):
            state, work, step = cohort.state, cohort.workspace, cohort.step
            tuning = work.tuning_multipliers
            sampled = is_sampled(step, plan)
            meter = cohort.log.meter if sampled else None
            batch = own_part(cohort, augment_batch(cohort, batches.at(step), meter))
            part = batch.part
            reports = None if meter is None or part is None else PartMeter(len(cohort.ids))
            seen = reports or meter
            if work.manual is None:
                outputs = cohort.network(work.leaves, batch, forward_context(cohort, seen, part))
                grads, losses = gradients(cohort, outputs, batch, seen)
            else:
                grads, losses = manual_gradients(cohort, batch, seen)
            if part is not None:
                grads, losses = part.average_step(grads, losses, reports, meter)
            lr_multipliers = work.slot_multipliers if tuning is None else tuning.at(step)
            factor = factors.at(step)
            layout = cohort.network.layout
            context = StepContext(step + 1, factor, work.decay_mask, layout, lr_multipliers, meter)
            unclipped = row_norm(grads) if sampled and cohort.parts.clip is not None else None
            grads = process_gradients(cohort, grads, context)
            before = cohort.weights.clone() if sampled or tuning is not None else None
            if searches:
                search_(cohort, batch, LossAndGradient(losses, grads), context)
            else:
                rule = cohort.parts.optimizer
                apply_update_(rule, cohort.weights, grads, state=state.optimizer, context=context)
            if tuning is not None and before is not None:
                # not every rule leaves a weight alone whose rate is 0
                torch.where(tuning.frozen, before, cohort.weights, out=cohort.weights)
            average = cohort.parts.average
            if average is not None:
                state.average = average.update(cohort.weights, state.average, context, plan)
            cohort.step += 1
            state.losses["sum"] += losses
            state.loss_count += 1
            if sampled and before is not None:
                log_step(cohort, context, before=before, grads=grads, unclipped=unclipped)
        if evaluate.due(cohort.step):
            log_learning_rate(cohort, factors.at(cohort.step - 1))
            leaving = evaluate(cohort)
            if leaving:
                cohort.end(leaving)
                batches.keep(cohort.seeds)
                factors = ScheduleFactors(cohort)
                compiled = CompiledSteps.of(cohort, batches, threads=threads)
        if pause(cohort):
            return
    cohort.end(dict.fromkeys(range(len(cohort.ids)), "finished"))


def augment_batch(cohort: Cohort, batch: Batch, meter: Meter | None) -> Batch:
    """The batch after the recipe's augmentations, one after another."""
    if not cohort.parts.augment:
        return batch
    networks = len(cohort.ids)
    numbers = batch.numbers
    if numbers.dtype == torch.uint8:
        numbers = numbers.to(cohort.weights.dtype) / 255
    examples = Examples(numbers, batch.codes, batch.targets, batch.weights)
    batch = Batch(*examples.map(lambda t: t.expand(networks, *t.shape[1:])).fields)
    context = forward_context(cohort, meter)
    for part in cohort.parts.augment:
        batch = part(batch, context)
    return batch


def own_part(cohort: Cohort, batch: Batch) -> Batch:
    """This rank's part of a batch; all of it where one process trains.

    A rank that has none takes an example of another's, which then counts for nothing.
    """
    ranks = cohort.job.ranks
    if ranks is None or batch.part is not None:
        return batch
    part = ranks.part(batch.numbers.shape[1])
    here = slice(part.first, part.first + max(1, part.counts[ranks.rank]))
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    cut = {name: None if t is None else t[:, here] for name, t in tensors.items()}
    return Batch(**{**cut, "part": part})


def forward_context(
    cohort: Cohort, meter: Meter | None, part: BatchPart | None = None
) -> ForwardContext:
    """What the layers may know in the forward pass of the step at hand."""
    return ForwardContext(
        training=True,
        seeds=cohort.seeds,
        step=cohort.step,
        batch=cohort.job.batch,
        meter=meter,
        buffers=cohort.buffers,
        part=part,
    )


def gradients(
    cohort: Cohort, outputs: Tensor, batch: Batch, meter: Meter | None
) -> tuple[Rows, Tensor]:
    """The gradient of each network's mean loss on a batch [P, W] and those losses [P, 1]."""
    work = cohort.workspace
    targets = batch.targets
    assert targets is not None
    targets = targets.expand(len(cohort.ids), *targets.shape[1:])
    each = work.loss.per_example(outputs, targets, meter)
    if batch.mixed_targets is not None and batch.mixed_share is not None:
        mixed_in = work.loss.per_example(outputs, batch.mixed_targets)
        each = each + batch.mixed_share * (mixed_in - each)
    share = torch.full_like(each, 1 / each.shape[1])
    share = share if batch.weights is None else share * batch.weights
    # d(mean of each)/d(each), handed in: two operations less than taking the mean and its gradient
    found = torch.autograd.grad(each, work.leaf_list, share)
    torch._foreach_copy_(work.grad_list, found)  # type: ignore[reportPrivateImportUsage]
    return work.grads, _mean_losses(each.detach(), batch)


def manual_gradients(cohort: Cohort, batch: Batch, meter: Meter | None) -> tuple[Rows, Tensor]:
    """The same for networks whose backward pass is written out (`Workspace.manual`)."""
    work = cohort.workspace
    assert work.manual is not None
    examples = batch.numbers.shape[1]
    share = 1 / examples if batch.weights is None else batch.weights / examples
    each = work.manual(work.leaves, work.grad_views, batch, share=share, meter=meter)
    return work.grads, _mean_losses(each, batch)


def _mean_losses(each: Tensor, batch: Batch) -> Tensor:
    """Each network's mean of its losses, weighted as the examples are, [P, 1]."""
    return (each if batch.weights is None else each * batch.weights).mean(1, keepdim=True)


def process_gradients(cohort: Cohort, grads: Rows, context: StepContext) -> Rows:
    """Gradients as the update takes them: penalties are added, then each network's is clipped."""
    for penalty in cohort.parts.penalties:
        grads = grads + penalty.gradient(cohort.weights, context.decay_mask, context.meter)
    clip = cohort.parts.clip
    multipliers = cohort.workspace.tuning_multipliers
    if multipliers is None:
        return grads if clip is None else clip.clip(grads, context)
    masked = torch.where(multipliers.frozen, 0.0, grads)
    masked = masked if clip is None else clip.clip(masked, context)
    # weights that are frozen for now keep their gradient, which does not count in the clip
    return torch.where(multipliers.frozen_for_now, grads, masked)


@dataclass(frozen=True)
class BatchObjective:
    """The loss of a step's batch, penalties included: a `SearchObjective`; of all its parts."""

    objective: Objective
    first: LossAndGradient
    part: BatchPart | None = None

    def value_and_grad(self, rows: Rows) -> LossAndGradient:
        found = self.objective.value_and_grad(rows)
        return found if self.part is None else LossAndGradient(*map(self.part.average, found))

    def hessian(self, rows: Rows) -> Tensor:
        found = self.objective.hessian(rows)
        return found if self.part is None else self.part.average(found)


def search_(cohort: Cohort, batch: Batch, first: LossAndGradient, context: StepContext) -> None:
    """The update of an optimizer that evaluates a batch's loss often; writes weights and state."""
    optimizer = cohort.parts.optimizer
    assert isinstance(optimizer, SearchOptimizer)
    objective = batch_objective(cohort, batch, first)
    new, state = optimizer.search(cohort.weights, objective, cohort.state.optimizer, context)
    cohort.weights.copy_(new)
    cohort.state.optimizer.update(state)


def batch_objective(cohort: Cohort, batch: Batch, first: LossAndGradient) -> BatchObjective:
    """The objective of a step; `first` are the batch's own losses and the whole gradient."""
    penalties = cohort.parts.penalties
    penalty = partial(penalty_sum, penalties, decay_mask=cohort.workspace.decay_mask)
    context, more = forward_context(cohort, None, batch.part), penalty if penalties else None
    loss = cohort.workspace.loss
    objective = Objective.of_program(
        cohort.network, loss, batch, buffers=cohort.buffers, context=context, more=more
    )
    losses = first.losses + penalty(cohort.weights)
    return BatchObjective(objective, LossAndGradient(losses, first.grads), batch.part)


class ScheduleFactors:
    """The schedule's multiples of the learning rate, computed for many steps at once."""

    def __init__(self, cohort: Cohort):
        self.cohort = cohort
        self.first = -1  # the step of the table's first column
        self.table = torch.empty(0)
        self.shared = [0.0]

    def at(self, step: int) -> Tensor | float:
        """The factor of a step: a float if all networks share it, else a float64 column [P, 1]."""
        found = self.between(step, step + 1)
        own = len(found) > 1 or self.cohort.state.schedule
        return found if own else self.shared[step - self.first]

    def between(self, step: int, until: int) -> Tensor:
        """The factors of steps, float64 [P or 1, S]: of at most `FACTORS_AT_ONCE`."""
        if not 0 <= self.first <= step or until > self.first + self.table.shape[1]:
            steps = torch.arange(step, step + FACTORS_AT_ONCE, dtype=torch.float64)[None]
            self.table = self.cohort.parts.schedule.factor(steps, self.cohort.job.plan)
            self.first = step
            self.shared = self.table[0].tolist()
        found = self.table[:, step - self.first : until - self.first]
        state = self.cohort.state.schedule
        return found * state["factor"] if state else found

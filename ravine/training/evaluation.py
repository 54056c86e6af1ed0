"""Evaluation: losses and scores of networks, the best weights so far, and which networks end.

Letters: P networks, N examples, C outputs, W weights.
"""

from dataclasses import replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ravine import metrics
from ravine.data import Examples, Task
from ravine.data.examples import affordable_count, evenly_spaced
from ravine.layout import Rows
from ravine.metrics import Metric
from ravine.networks.batched import BatchedNetwork
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext, HasEvalWeights, Loss, Plan, ReactiveSchedule
from ravine.recipe import Recipe
from ravine.training.cohort import Cohort, Job, zero_losses
from ravine.training.determinism import exact_arithmetic
from ravine.training.step_statistics import log_loss_rise

MIN_STEPS_BETWEEN_EVALUATIONS = 8
STARTING_EXAMPLES = 512  # on which the loss before the first step is measured
LEAVING_REASONS = {
    "diverged": "loss or weights are not finite",
    "stopped": "no improvement within the patience",
}


def steps_between_evaluations(plan: Plan) -> int:
    """How many steps lie between two evaluations: whole epochs, where these are tiny several."""
    # evaluating would cost more than training
    return -(-MIN_STEPS_BETWEEN_EVALUATIONS // plan.per_epoch) * plan.per_epoch


def block_size(network: BatchedNetwork) -> int:
    """How many examples a network reads at once where it is evaluated."""
    matrices = [slot.shape for slot in network.layout.slots if slot.role == "weight"]
    widest = max(map(max, matrices), default=1)
    return max(256, 2**18 // widest) if network.values == 0 else max(16, 2**22 // network.values)


@torch.no_grad()
def outputs_on(
    network: BatchedNetwork, rows: Rows, buffers: dict[str, Tensor], examples: Examples
) -> Tensor:
    """Outputs [P, N, C] of all networks on the same examples, a block at a time.

    The size of a block depends on the network's shape alone, never on P: a network's outputs do not
    depend on which others are in the batch.
    """
    tensors = network.layout.views(rows)
    block = block_size(network)
    context = ForwardContext(training=False, buffers=buffers)
    parts = []
    for at in range(0, examples.numbers.shape[0], block):
        codes = None if examples.codes is None else examples.codes[None, at : at + block]
        batch = Batch(examples.numbers[None, at : at + block], codes)
        parts.append(network(tensors, batch, context))
    return torch.cat(parts, 1)


def mean_loss(loss: Loss, outputs: Tensor, examples: Examples) -> Tensor:
    """Each network's loss over examples, weighted as they are, [P]."""
    return weighted_mean(example_losses(loss, outputs, examples), examples)


def example_losses(loss: Loss, outputs: Tensor, examples: Examples) -> Tensor:
    """Each network's loss on each example, [P, N]."""
    assert examples.targets is not None
    targets = examples.targets.expand(outputs.shape[0], *examples.targets.shape)
    return loss.per_example(outputs, targets)


def weighted_mean(each: Tensor, examples: Examples) -> Tensor:
    """The mean of losses [P, N], each example counting by its weight, [P]."""
    if examples.weights is None:
        return each.mean(1)
    return (each * examples.weights).sum(1) / examples.weights.sum()


def evaluation_weights(cohort: Cohort) -> Rows:
    """The weights to evaluate and keep, [P, W]: the average's, else the optimizer's own."""
    rows = cohort.weights
    optimizer = cohort.parts.optimizer
    if cohort.parts.average is not None:
        rows = cohort.parts.average.eval_weights(rows, cohort.state.average)
    elif isinstance(optimizer, HasEvalWeights):
        rows = optimizer.eval_weights(rows, cohort.state.optimizer)
    multipliers = cohort.workspace.tuning_multipliers
    # an average of equal numbers may differ from them in its last bit
    return rows if multipliers is None else torch.where(multipliers.frozen, cohort.weights, rows)


def starting_losses(recipe: Recipe, task: Task, networks: int) -> np.ndarray:
    """The mean loss over some training examples of networks that have not made a step, [P]."""
    assert recipe.loss is not None  # resolved before training
    seeds = list(range(recipe.seed, recipe.seed + networks))
    built = BatchedNetwork(stack([recipe] * networks).network, task.signature)
    with exact_arithmetic(), torch.no_grad():
        weights, buffers = built.start(seeds)
        examples = evenly_spaced(task.train, affordable_count(task.signature, STARTING_EXAMPLES))
        context = ForwardContext(training=True, seeds=seeds, batch=examples.count, buffers=buffers)
        batch = Batch(*examples.map(lambda t: t[None]).fields)
        outputs = built(built.layout.views(weights), batch, context)
        return example_losses(recipe.loss, outputs, examples).mean(1).double().numpy()


def constant_loss(loss: Loss, examples: Examples, outputs: int) -> float:
    """The lowest mean loss over examples of outputs that are the same for all of them.

    >>> from ravine.losses import SoftmaxCrossEntropy
    >>> examples = Examples(torch.zeros(4, 1), targets=torch.tensor([0, 0, 0, 1]))
    >>> round(constant_loss(SoftmaxCrossEntropy(), examples, 2), 4)  # ¾ log 4/3 + ¼ log 4
    0.5623
    """
    examples = replace(examples.to("cpu", torch.float64), weights=None)
    assert examples.targets is not None
    shares = torch.full((examples.count,), 1 / examples.count, dtype=torch.float64)
    answer = loss.best_constant(examples.targets, shares, outputs)
    return float(mean_loss(loss, answer[:, None].expand(-1, examples.count, -1), examples)[0])


def log_constant_baseline(
    cohort: Cohort, train: Examples | None, validation: Examples | None
) -> None:
    """Log the losses of the best constant answer, learned from the training examples."""
    known = validation if train is None else train
    loss = cohort.parts.loss
    if known is None or known.targets is None or loss is None:
        return
    equal = torch.ones(len(known.targets), device=known.targets.device)
    weights = equal if known.weights is None else known.weights
    shares = (weights / weights.sum()).to(cohort.weights.dtype)
    answer = loss.best_constant(known.targets, shares, cohort.job.signature.outputs)
    for split, examples in (("train", train), ("validation", validation)):
        if examples is not None and examples.targets is not None:
            outputs = answer[:, None].expand(-1, examples.targets.shape[0], -1)
            value = mean_loss(loss, outputs, examples)
            cohort.add_point(f"null/{split}/loss", value.expand(len(cohort.ids)))


class Evaluator:
    """Evaluates networks on the validation split, keeps their best weights, and says which leave.

    Networks leave as "diverged" when their training loss or their weights are no longer finite, and
    as "stopped" when they have not improved for as long as the recipe's early stopping allows.
    """

    def __init__(
        self, plan: Plan, validation: Examples | None, metric: Metric, test: Examples | None = None
    ):
        self.plan, self.validation, self.test, self.metric = plan, validation, test, metric
        self.every = steps_between_evaluations(plan)

    @classmethod
    def of_task(cls, task: Task, job: Job) -> Self:
        """The evaluator of a task's validation split by the recipes' metric."""
        examples = task.validation
        if examples is not None:
            examples = examples.to(job.device, getattr(torch, job.recipes[0].precision))
        metric = metrics.main_metric(task.kind, job.recipes[0].metric)
        return cls(job.plan, examples, metric)

    def due(self, step: int) -> bool:
        """Whether networks are evaluated after so many steps."""
        return step % self.every == 0 or step == self.plan.steps

    @torch.no_grad()
    def __call__(self, cohort: Cohort) -> dict[int, str]:
        """Evaluate; return the rows of the networks that leave, with their outcomes."""
        state = cohort.state
        train_loss = state.losses["sum"] / state.loss_count
        state.losses = zero_losses(len(cohort.ids), cohort.weights.device)
        state.loss_count = 0
        cohort.add_point("train/loss", train_loss)
        rows = evaluation_weights(cohort)
        finite = train_loss.flatten().isfinite() & rows.isfinite().all(1)
        leaving = {row: "diverged" for row in torch.nonzero(~finite).flatten().tolist()}
        if self.validation is None:
            no_value = torch.zeros(len(cohort.ids), dtype=torch.float64)
            _keep_best(cohort, rows, finite.cpu(), no_value)
        else:
            leaving |= self._validate(cohort, rows, self.validation, finite.cpu())
        for row, outcome in leaving.items():
            cohort.add_event(outcome, LEAVING_REASONS[outcome], member=cohort.ids[row])
        return leaving

    def _validate(
        self, cohort: Cohort, rows: Rows, validation: Examples, finite: Tensor
    ) -> dict[int, str]:
        loss, score = self._measure(cohort, rows, validation, "validation")
        if self.test is not None:
            self._measure(cohort, rows, self.test, "test")
        stop, schedule = cohort.parts.stop, cohort.parts.schedule
        values = {"loss": loss, "score": -score if self.metric.higher_is_better else score}
        values = {n: torch.where(v.isnan(), torch.inf, v.double()).cpu() for n, v in values.items()}
        by = "loss" if stop is None else stop.on
        value, state = values[by], cohort.state
        if isinstance(schedule, ReactiveSchedule):
            seen = values[getattr(schedule, "on", None) or by]
            state.schedule = schedule.observe(seen[:, None], state.schedule)
        if stop is None:
            _keep_best(cohort, rows, finite, value)
            return {}
        better = stop.improves(value, state.best["value"]) & finite
        _keep_best(cohort, rows, better, value)
        stale = stop.is_over(cohort.step, state.best["step"], self.plan)
        ended = stale & finite & torch.tensor(cohort.step < self.plan.steps)
        return {row: "stopped" for row in torch.nonzero(ended).flatten().tolist()}

    def _measure(
        self, cohort: Cohort, rows: Rows, examples: Examples, split: str
    ) -> tuple[Tensor, Tensor]:
        """Loss and score [P] on a split, logged."""
        loss = cohort.parts.loss
        assert loss is not None and examples.targets is not None  # resolved before training
        outputs = _all_outputs(cohort, rows, examples)
        each = example_losses(loss, outputs, examples)
        losses = weighted_mean(each, examples)
        score = self.metric.of(loss.predict(outputs), examples.targets)
        cohort.add_point(f"{split}/loss", losses)
        cohort.add_point(f"{split}/{self.metric.name}", score)
        if split == "validation":
            log_loss_rise(cohort, each, losses)
        return losses, score


def _all_outputs(cohort: Cohort, rows: Rows, examples: Examples) -> Tensor:
    """Outputs [P, N, C] on examples, each rank's on an equal part of them."""
    ranks = cohort.job.ranks
    if ranks is None:
        return outputs_on(cohort.network, rows, cohort.buffers, examples)
    found = rows.new_zeros(len(rows), examples.count, cohort.job.signature.outputs)
    part = ranks.part(examples.count)
    here = slice(part.first, part.first + part.counts[ranks.rank])
    if part.share > 0:
        own = examples.map(lambda t: t[here])
        found[:, here] = outputs_on(cohort.network, rows, cohort.buffers, own)
    return ranks.sum_(found)


def _keep_best(cohort: Cohort, rows: Rows, better: Tensor, value: Tensor) -> None:
    """Remember weights, buffers, value and step of the networks that are `better` [P]."""
    best = cohort.state.best
    here = better[:, None].to(rows.device)
    best["weights"] = torch.where(here, rows, best["weights"])
    for name, buffer in cohort.buffers.items():
        chosen = here.view(-1, *[1] * (buffer.dim() - 1))
        best[f"buffer/{name}"] = torch.where(chosen, buffer, best[f"buffer/{name}"])
    best["value"] = torch.where(better, value, best["value"])
    best["step"] = torch.where(better, cohort.step, best["step"])

"""What is measured while networks train: at intervals the sizes of gradients and updates, and the
validation split.

Letters: P networks now in the cohort, N examples, C outputs, W weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ravine.layout import Rows, row_norm
from ravine.networks.batched import BatchedNetwork
from ravine.protocols import (
    Batch,
    ForwardContext,
    HasEvalWeights,
    Loss,
    Plan,
    ReactiveSchedule,
    StepContext,
)
from ravine.training.cohort import Cohort, no_losses

COMPARED = 4096  # validation examples whose losses are remembered one by one
Metric: TypeAlias = Callable[
    [Tensor, Tensor], Tensor
]  # predictions [P, N, C], targets [N, ...] -> [P]


def samples(step: int, plan: Plan) -> bool:
    """Whether gradients, updates and techniques are measured: first step, last step, one in 25 to
    100 between.
    """
    return step % max(25, min(100, plan.steps // 25)) == 0 or step == plan.steps - 1


def measure(
    cohort: Cohort, before: Rows, grads: Rows, raw: Tensor | None, context: StepContext
) -> None:
    """Log |g|, |w|, |Δw| / |w| (of all weights, and of each layer that moves) and the learning rate
    of the step just made, for each network. `raw` is the gradient's length before it was clipped;
    None where nothing clips.
    """
    change = cohort.weights - before
    update = row_norm(change) / row_norm(before).clamp_min(1e-30)
    cohort.log("gradient/norm", row_norm(grads))
    cohort.log("weights/norm", row_norm(before))
    cohort.log("update/ratio", update)
    if raw is not None:
        cohort.log("clip/kept", torch.where(raw > 0, row_norm(grads) / raw.clamp_min(1e-30), 1.0))
    moving = (
        {s.name for s in cohort.program.layout.slots}
        if cohort.tuned is None
        else cohort.tuned.moving
    )
    for slot in cohort.program.layout.slots:
        if slot.role == "weight" and slot.name in moving:
            part = slice(*cohort.program.layout.spans[slot.name])
            # a layer that starts at 0 has moved by all that it is
            size = torch.maximum(
                row_norm(before[:, part]), row_norm(cohort.weights[:, part])
            ).clamp_min(1e-30)
            cohort.log(f"update/ratio/{slot.name}", row_norm(change[:, part]) / size)
    log_rate(cohort, context)
    if context.meter is not None:
        context.meter.add("update", update)
    if cohort.tuned is not None:
        held = cohort.tuned.held
        cohort.tuned.report(cohort.meter)
        cohort.log("held/weights", held.sum().expand(len(cohort.ids)))
        cohort.log(
            "held/largest change", torch.where(held, (cohort.weights - before).abs(), 0.0).amax(1)
        )


def log_rate(cohort: Cohort, context: StepContext) -> None:
    """Log the learning rate that was used in the step just made, once."""
    points = cohort.series.get("lr")
    if not points or points[-1][0] != cohort.step:
        rate = torch.as_tensor(cohort.parts.optimizer.lr * context.factor, dtype=torch.float64)
        cohort.log("lr", rate.expand(len(cohort.ids), 1))


def judged(cohort: Cohort) -> Rows:
    """The weights that are evaluated and kept: averaged ones where the recipe averages, else the
    optimizer's own.
    """
    rows, optimizer = cohort.weights, cohort.parts.optimizer
    if cohort.parts.average is not None:
        rows = cohort.parts.average.eval_weights(rows, cohort.average)
    elif isinstance(optimizer, HasEvalWeights):
        rows = optimizer.eval_weights(rows, cohort.optimizer)
    # an average of equal numbers may differ from them in its last bit
    return rows if cohort.tuned is None else torch.where(cohort.tuned.held, cohort.weights, rows)


@torch.no_grad()
def outputs_on(
    program: BatchedNetwork, rows: Rows, buffers: dict[str, Tensor], examples: Any
) -> Tensor:
    """Outputs [P, N, C] of all networks on the same examples, a block at a time.

    The size of a block depends on the program alone, never on P: a network's outputs do not depend
    on its company.
    """
    tensors = program.layout.views(rows)
    widest = max(
        (max(slot.shape) for slot in program.layout.slots if slot.role == "weight"), default=1
    )
    block = max(256, 2**18 // widest) if program.values == 0 else max(16, 2**22 // program.values)
    context = ForwardContext(training=False, buffers=buffers)
    parts = []
    for at in range(0, examples.numbers.shape[0], block):
        codes = None if examples.codes is None else examples.codes[None, at : at + block]
        parts.append(
            program(tensors, Batch(examples.numbers[None, at : at + block], codes), context)
        )
    return torch.cat(parts, 1)


def mean_loss(loss: Loss, outputs: Tensor, examples: Any) -> Tensor:
    """Each network's loss over examples, weighted as they are, [P]."""
    return mean_of(losses_of(loss, outputs, examples), examples)


def losses_of(loss: Loss, outputs: Tensor, examples: Any) -> Tensor:
    """Each network's loss on each example, [P, N]."""
    return loss.per_example(
        outputs, examples.targets.expand(outputs.shape[0], *examples.targets.shape)
    )


def mean_of(each: Tensor, examples: Any) -> Tensor:
    """The mean of losses [P, N], each example counting by its weight, [P]."""
    if examples.weights is None:
        return each.mean(1)
    return (each * examples.weights).sum(1) / examples.weights.sum()


def compare(cohort: Cohort, each: Tensor, losses: Tensor) -> None:
    """Log how sure the validation loss is, and how far it lies above its lowest so far, paired over
    examples.

    Standard errors are those of the mean over N examples: s / sqrt(N) of the losses, and of their
    differences from the losses of the same examples when the mean was lowest. Of many examples
    every k-th is compared.
    """
    every = -(-each.shape[1] // COMPARED)
    each = each[:, ::every].double()
    low = cohort.lowest
    if not low:
        low |= {"value": torch.full_like(losses, math.inf), "each": each.clone()}
    apart = each - low["each"]
    cohort.log("error/validation/loss", standard_error(each))
    cohort.log("rise/validation/loss", apart.mean(1))
    cohort.log("error/rise/validation/loss", standard_error(apart))
    better = losses < low["value"]
    low["value"] = torch.where(better, losses, low["value"])
    low["each"] = torch.where(better[:, None], each, low["each"])


def standard_error(values: Tensor) -> Tensor:
    """Of the means of values [P, N]: s / sqrt(N), infinite of a single one, [P]."""
    count = values.shape[1]
    if count < 2:
        return torch.full_like(values[:, 0], math.inf)
    off = values - values.mean(1, keepdim=True)
    return (off.square().sum(1) / (count - 1) / count).sqrt()


def log_constant(cohort: Cohort, train: Any, validation: Any) -> None:
    """Log the losses of the best answer that is the same for all examples, learned from the
    training examples.
    """
    known = validation if train is None else train
    loss = cohort.parts.loss
    if known is None or known.targets is None or loss is None:
        return
    count = known.targets.shape[0]
    weights = (
        torch.ones(count, device=known.targets.device) if known.weights is None else known.weights
    )
    shares = (weights / weights.sum()).to(cohort.weights.dtype)
    answer = loss.best_constant(known.targets, shares, cohort.job.signature.outputs)
    for split, examples in (("train", train), ("validation", validation)):
        if examples is not None:
            outputs = answer[:, None].expand(-1, examples.targets.shape[0], -1)
            value = mean_loss(loss, outputs, examples)
            cohort.log(f"null/{split}/loss", value.expand(len(cohort.ids)))


class Evaluator:
    """Judges networks on the validation split, remembers each one's best weights, and says who
    leaves and why.

    Networks leave as "diverged" when their training loss or their weights are no longer finite, and
    as "stopped" when they have not improved for as long as the recipe's early stopping allows.
    """

    def __init__(
        self,
        plan: Plan,
        validation: Any,
        *,
        metric: Metric,
        name: str,
        higher_is_better: bool,
        test: Any = None,
    ):
        self.plan, self.validation, self.test = plan, validation, test
        self.metric, self.name, self.higher = metric, name, higher_is_better
        epochs = -(
            -8 // plan.per_epoch
        )  # tiny epochs: not after each, evaluating would cost more than training
        self.every = epochs * plan.per_epoch

    def due(self, step: int) -> bool:
        return step % self.every == 0 or step == self.plan.steps

    @torch.no_grad()
    def __call__(self, cohort: Cohort) -> dict[int, str]:
        train_loss = cohort.losses["sum"] / cohort.loss_count
        cohort.losses, cohort.loss_count = no_losses(len(cohort.ids), cohort.weights.device), 0
        cohort.log("train/loss", train_loss)
        rows = judged(cohort)
        finite = train_loss.flatten().isfinite() & rows.isfinite().all(1)
        leaving = {row: "diverged" for row in torch.nonzero(~finite).flatten().tolist()}
        if self.validation is None:
            self._remember(
                cohort, rows, finite.cpu(), torch.zeros(len(cohort.ids), dtype=torch.float64)
            )
        else:
            leaving |= self._judge(cohort, rows, finite.cpu())
        for row, outcome in leaving.items():
            text = (
                "loss or weights are not finite"
                if outcome == "diverged"
                else "no improvement within the patience"
            )
            cohort.events.append(
                {"step": cohort.step, "kind": outcome, "text": text, "member": cohort.ids[row]}
            )
        return leaving

    def _judge(self, cohort: Cohort, rows: Rows, finite: Tensor) -> dict[int, str]:
        loss, score = self._values(cohort, rows, self.validation, "validation")
        if self.test is not None:
            self._values(cohort, rows, self.test, "test")
        stop = cohort.parts.stop
        by_score = stop is not None and stop.on == "score"
        value = (-score if self.higher else score) if by_score else loss
        value = torch.where(value.isnan(), torch.inf, value.double()).cpu()
        if isinstance(cohort.parts.schedule, ReactiveSchedule):
            cohort.schedule = cohort.parts.schedule.observe(value[:, None], cohort.schedule)
        if stop is None:
            self._remember(cohort, rows, finite, value)
            return {}
        better = stop.improves(value, cohort.best["value"]) & finite
        self._remember(cohort, rows, better, value)
        stale = stop.is_over(cohort.step, cohort.best["step"], self.plan)
        ended = stale & finite & torch.tensor(cohort.step < self.plan.steps)
        return {row: "stopped" for row in torch.nonzero(ended).flatten().tolist()}

    def _values(
        self, cohort: Cohort, rows: Rows, examples: Any, split: str
    ) -> tuple[Tensor, Tensor]:
        loss = cohort.parts.loss
        assert loss is not None  # resolved before training
        outputs = outputs_on(cohort.program, rows, cohort.buffers, examples)
        each = losses_of(loss, outputs, examples)
        losses, score = (
            mean_of(each, examples),
            self.metric(loss.predict(outputs), examples.targets),
        )
        cohort.log(f"{split}/loss", losses)
        cohort.log(f"{split}/{self.name}", score)
        if split == "validation":
            compare(cohort, each, losses)
        return losses, score

    def _remember(self, cohort: Cohort, rows: Rows, better: Tensor, value: Tensor) -> None:
        best, here = cohort.best, better[:, None].to(rows.device)
        best["weights"] = torch.where(here, rows, best["weights"])
        for name, buffer in cohort.buffers.items():
            chosen = here.view(-1, *[1] * (buffer.dim() - 1))
            best[f"buffer/{name}"] = torch.where(chosen, buffer, best[f"buffer/{name}"])
        best["value"] = torch.where(better, value, best["value"])
        best["step"] = torch.where(better, cohort.step, best["step"])

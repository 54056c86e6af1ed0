"""What is measured while networks train: at intervals the sizes of gradients and updates, and the validation split.

Letters: P networks now in the cohort, N examples, C outputs, W weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ravine.networks.program import Program
from ravine.roles import Batch, Loss, Now, Pass, Plan, Reactive, Settles
from ravine.rows import Rows, length
from ravine.training.cohorts import Cohort, no_losses

Metric: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # predictions [P, N, C], targets [N, ...] -> [P]


def samples(step: int, plan: Plan) -> bool:
    """Whether gradients, updates and techniques are measured: first step, last step, one in 25 to 100 between."""
    return step % max(25, min(100, plan.steps // 25)) == 0 or step == plan.steps - 1


def measure(cohort: Cohort, before: Rows, grads: Rows, now: Now) -> None:
    """Log |g|, |Δw| / |w| and the learning rate of the step just made, for each network."""
    update = length(cohort.weights - before) / length(before).clamp_min(1e-30)
    cohort.log("gradient/norm", length(grads))
    cohort.log("update/ratio", update)
    log_rate(cohort, now)
    if now.meter is not None:
        now.meter.add("update", update)
    if cohort.tuned is not None:
        held = cohort.tuned.held
        cohort.tuned.report(cohort.meter)
        cohort.log("held/weights", held.sum().expand(len(cohort.ids)))
        cohort.log("held/largest change", torch.where(held, (cohort.weights - before).abs(), 0.0).amax(1))


def log_rate(cohort: Cohort, now: Now) -> None:
    """Log the learning rate that was used in the step just made, once."""
    points = cohort.series.get("lr")
    if not points or points[-1][0] != cohort.step:
        rate = torch.as_tensor(cohort.parts.optimizer.lr * now.factor, dtype=torch.float64)
        cohort.log("lr", rate.expand(len(cohort.ids), 1))


def judged(cohort: Cohort) -> Rows:
    """The weights that are evaluated and kept: averaged ones where the recipe averages, else the optimizer's own."""
    rows, optimizer = cohort.weights, cohort.parts.optimizer
    if cohort.parts.average is not None:
        rows = cohort.parts.average.averaged(rows, cohort.average)
    elif isinstance(optimizer, Settles):
        rows = optimizer.settled(rows, cohort.optimizer)
    # an average of equal numbers may differ from them in its last bit
    return rows if cohort.tuned is None else torch.where(cohort.tuned.held, cohort.weights, rows)


@torch.no_grad()
def outputs_on(program: Program, rows: Rows, buffers: dict[str, Tensor], examples: Any) -> Tensor:
    """Outputs [P, N, C] of all networks on the same examples, a block at a time.

    The size of a block depends on the program alone, never on P: a network's outputs do not depend on its company.
    """
    tensors = program.layout.views(rows)
    widest = max((max(slot.shape) for slot in program.layout.slots if slot.role == "weight"), default=1)
    block = max(256, 2**18 // widest) if program.values == 0 else max(16, 2**22 // program.values)
    now = Pass(training=False, buffers=buffers)
    parts = []
    for at in range(0, examples.numbers.shape[0], block):
        codes = None if examples.codes is None else examples.codes[None, at : at + block]
        parts.append(program(tensors, Batch(examples.numbers[None, at : at + block], codes), now))
    return torch.cat(parts, 1)


def mean_loss(loss: Loss, outputs: Tensor, examples: Any) -> Tensor:
    """Each network's loss over examples, weighted as they are, [P]."""
    targets = examples.targets.expand(outputs.shape[0], *examples.targets.shape)
    each = loss.each(outputs, targets)
    if examples.weights is None:
        return each.mean(1)
    return (each * examples.weights).sum(1) / examples.weights.sum()


class Evaluator:
    """Judges networks on the validation split, remembers each one's best weights, and says who leaves and why.

    Networks leave as "diverged" when their training loss or their weights are no longer finite, and as "stopped" when
    they have not improved for as long as the recipe's early stopping allows.
    """

    def __init__(self, plan: Plan, validation: Any, *, metric: Metric, name: str, higher_is_better: bool,
                 test: Any = None):  # fmt: skip
        self.plan, self.validation, self.test = plan, validation, test
        self.metric, self.name, self.higher = metric, name, higher_is_better
        epochs = -(-8 // plan.per_epoch)  # tiny epochs: not after each, evaluating would cost more than training
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
            self._remember(cohort, rows, finite.cpu(), torch.zeros(len(cohort.ids), dtype=torch.float64))
        else:
            leaving |= self._judge(cohort, rows, finite.cpu())
        for row, outcome in leaving.items():
            text = "loss or weights are not finite" if outcome == "diverged" else "no improvement within the patience"
            cohort.events.append({"step": cohort.step, "kind": outcome, "text": text, "member": cohort.ids[row]})
        return leaving

    def _judge(self, cohort: Cohort, rows: Rows, finite: Tensor) -> dict[int, str]:
        loss, score = self._values(cohort, rows, self.validation, "validation")
        if self.test is not None:
            self._values(cohort, rows, self.test, "test")
        stop = cohort.parts.stop
        by_score = stop is not None and stop.on == "score"
        value = (-score if self.higher else score) if by_score else loss
        value = torch.where(value.isnan(), torch.inf, value.double()).cpu()
        if isinstance(cohort.parts.schedule, Reactive):
            cohort.schedule = cohort.parts.schedule.observe(value[:, None], cohort.schedule)
        if stop is None:
            self._remember(cohort, rows, finite, value)
            return {}
        least = cohort.best["value"] - stop.minimum
        better = (value <= least if stop.ties == "last" else value < least) & finite
        self._remember(cohort, rows, better, value)
        stale = cohort.step - cohort.best["step"] >= stop.patience * self.plan.per_epoch
        ended = stale & finite & torch.tensor(cohort.step < self.plan.steps)
        return {row: "stopped" for row in torch.nonzero(ended).flatten().tolist()}

    def _values(self, cohort: Cohort, rows: Rows, examples: Any, split: str) -> tuple[Tensor, Tensor]:
        loss = cohort.parts.loss
        assert loss is not None  # resolved before training
        outputs = outputs_on(cohort.program, rows, cohort.buffers, examples)
        losses, score = mean_loss(loss, outputs, examples), self.metric(loss.predict(outputs), examples.targets)
        cohort.log(f"{split}/loss", losses)
        cohort.log(f"{split}/{self.name}", score)
        return losses, score

    def _remember(self, cohort: Cohort, rows: Rows, better: Tensor, value: Tensor) -> None:
        best, here = cohort.best, better[:, None].to(rows.device)
        best["weights"] = torch.where(here, rows, best["weights"])
        for name, buffer in cohort.buffers.items():
            chosen = here.view(-1, *[1] * (buffer.dim() - 1))
            best[f"buffer/{name}"] = torch.where(chosen, buffer, best[f"buffer/{name}"])
        best["value"] = torch.where(better, value, best["value"])
        best["step"] = torch.where(better, cohort.step, best["step"])

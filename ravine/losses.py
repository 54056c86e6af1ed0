"""Losses: how far outputs are from targets, for each example; and what outputs predict.

A loss says in `tasks` which kinds of task it fits: "binary", "classes", "labels", "regression".
Letters: P networks, B examples, C outputs.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ravine.effects import Effect, Meter
from ravine.layout import VECTOR_SIZE
from ravine.part import Number, is_zero, match, part, setting

# reported by losses with label_smoothing
SMOOTHING_EFFECT = Effect("label smoothing", "mean |change| of the targets")
# logits of one network's batch up to which torch's own cross entropy is faster
MAX_SMALL_LOGITS = 256


class _RegressionLoss:
    """The base of losses between numbers."""

    tasks: ClassVar[tuple[str, ...]] = ("regression",)

    def predict(self, outputs: Tensor) -> Tensor:
        return outputs


@part
class SquaredError(_RegressionLoss):
    """½ (y − f)², summed over the outputs of an example. Its gradient is f − y."""

    def losses_and_gradient(
        self, outputs: Tensor, targets: Tensor, meter: Meter | None = None
    ) -> tuple[Tensor, Tensor]:
        """The losses [P, B] and their gradient, f − y, [P, B, C]."""
        error = outputs - targets
        return _over_outputs(error.square() * 0.5), error

    def per_example(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        return _over_outputs((outputs - targets).square() * 0.5)

    def best_constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """The mean."""
        return (shares[:, None] * targets).sum(0, keepdim=True)


@part
class AbsoluteError(_RegressionLoss):
    """|y − f|, summed over an example's outputs: predicts medians, outliers pull no harder."""

    def per_example(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        return _over_outputs((outputs - targets).abs())

    def best_constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """The median."""
        return _median(targets, shares)


@part
class Huber(_RegressionLoss):
    """½ e² where |e| ≤ delta, else delta (|e| − ½ delta), e = y − f, summed (Huber 1964)."""

    delta: Number = setting(default=1.0, gt=0)

    def per_example(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        error = outputs - targets
        size = error.abs()
        delta = match(self.delta, error)
        linear = (size - delta * 0.5) * delta
        return _over_outputs(torch.where(size <= delta, error.square() * 0.5, linear))

    def best_constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """Between median and mean: weights min(1, delta / |e|), updated thirty times."""
        delta = _column(self.delta, targets)[:, None]
        found = _median(targets, shares).expand(len(delta), -1)
        for _ in range(30):
            sizes = (targets - found[:, None]).abs().clamp_min(1e-30)
            weights = shares[:, None] * (delta / sizes).clamp_max(1.0)
            found = (weights * targets).sum(1) / weights.sum(1)
        return found


@part
class BinaryCrossEntropy:
    """−y log p − (1 − y) log(1 − p), p = σ(logit), summed over outputs: one class, or labels.

    Computed from the logit as (1 − y) x − log σ(x), which is finite for any finite logit. Targets
    are in [0, 1]. Label smoothing: y <- (1 − label_smoothing) y + label_smoothing / 2.
    """

    tasks: ClassVar[tuple[str, ...]] = ("binary", "labels")
    label_smoothing: Number = setting(default=0.0, ge=0, lt=1)

    def per_example(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        targets = self._smooth(targets, meter)
        if outputs.shape[1] * outputs.shape[2] % VECTOR_SIZE == 0:
            # 15 % of a small network's step; but its gradient is a sigmoid, whose last bits depend
            # on the place in the buffer unless all of it is done by torch's vector loops
            losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        else:
            losses = (1 - targets) * outputs - F.logsigmoid(outputs)
        return _over_outputs(losses)

    def _smooth(self, targets: Tensor, meter: Meter | None) -> Tensor:
        if is_zero(self.label_smoothing):
            return targets
        smoothing = match(self.label_smoothing, targets)
        smooth = targets * match(1 - self.label_smoothing, targets) + smoothing * 0.5
        if meter is not None:
            meter.add(SMOOTHING_EFFECT.name, (smooth - targets).abs().mean((1, 2)))
        return smooth

    def losses_and_gradient(
        self, outputs: Tensor, targets: Tensor, meter: Meter | None = None
    ) -> tuple[Tensor, Tensor]:
        """The losses [P, B] and their gradient, p − y, [P, B, C]."""
        targets = self._smooth(targets, meter)
        logs = F.logsigmoid(outputs)
        return _over_outputs((1 - targets) * outputs - logs), logs.exp() - targets

    def best_constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """The logit of each label's share; 0 and 1 are clipped by 0.1 examples."""
        smoothing = _column(self.label_smoothing, targets)
        found = (1 - smoothing) * (shares[:, None] * targets).sum(0, keepdim=True) + smoothing / 2
        return found.logit(0.1 / (len(targets) + 1))

    def predict(self, outputs: Tensor) -> Tensor:
        # torch.sigmoid's last bits depend on the place in the buffer, these do not
        return F.logsigmoid(outputs).exp()


@part
class SoftmaxCrossEntropy:
    """−log p_y with p = softmax of the logits; targets are class numbers (int64 [P, B]).

    Label smoothing (Szegedy et al. 2016): −Σ q log p, q = (1 − s) · one-hot + s / C, s =
    `label_smoothing`.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classes",)
    label_smoothing: Number = setting(default=0.0, ge=0, lt=1)

    def per_example(self, outputs: Tensor, targets: Tensor, meter: Meter | None = None) -> Tensor:
        self._report(outputs, meter)
        # by the shape alone, so that a network's bits never depend on the other networks
        small = outputs.shape[1] * outputs.shape[2] <= MAX_SMALL_LOGITS
        surprisals = _surprisals_by_log_softmax if small else _surprisals_by_log_sum
        of_target, mean = surprisals(outputs, targets, with_mean=not is_zero(self.label_smoothing))
        if mean is None:
            return of_target
        of_target = of_target * match(1 - self.label_smoothing, of_target)
        return of_target + mean * match(self.label_smoothing, mean)

    def _report(self, outputs: Tensor, meter: Meter | None) -> None:
        if meter is not None and not is_zero(self.label_smoothing):
            classes = outputs.shape[2]
            smoothing = torch.as_tensor(self.label_smoothing, dtype=torch.float64)
            changed = smoothing * (2 * (classes - 1) / classes**2)
            meter.add(SMOOTHING_EFFECT.name, changed.reshape(-1).expand(len(outputs)))

    def losses_and_gradient(
        self, outputs: Tensor, targets: Tensor, meter: Meter | None = None
    ) -> tuple[Tensor, Tensor]:
        """The losses [P, B] and their gradient, softmax − q, [P, B, C]."""
        self._report(outputs, meter)
        chosen = targets[..., None]
        if outputs.shape[1] * outputs.shape[2] <= MAX_SMALL_LOGITS:
            logs = F.log_softmax(outputs, -1)
            slope = logs.exp()
        else:
            shifted = outputs - outputs.amax(-1, keepdim=True)
            raised = shifted.exp()
            total = raised.sum(-1, keepdim=True)
            logs = shifted - total.log()
            slope = raised / total
        losses = logs.gather(-1, chosen).squeeze(-1).neg()
        if is_zero(self.label_smoothing):
            return losses, slope.scatter_(-1, chosen, -1.0, reduce="add")
        share = match(1 - self.label_smoothing, losses)
        losses = losses * share - logs.mean(-1) * match(self.label_smoothing, losses)
        whole = torch.ones_like(chosen, dtype=outputs.dtype)
        whole = match(1 - self.label_smoothing, outputs) * whole
        slope = slope - match(self.label_smoothing / outputs.shape[2], outputs)
        return losses, slope.scatter_add_(-1, chosen, -whole)

    def best_constant(self, targets: Tensor, shares: Tensor, outputs: int) -> Tensor:
        """The logarithm of each class's share; one without examples counts as a tenth of one."""
        smoothing = _column(self.label_smoothing, shares)
        found = shares.new_zeros(outputs).index_add(0, targets, shares)[None]
        found = (1 - smoothing) * found + smoothing / outputs
        return found.clamp_min(0.1 / (len(targets) + 1)).log()

    def predict(self, outputs: Tensor) -> Tensor:
        return torch.softmax(outputs, -1)


@part
class ByTask:
    """The usual loss of a task: cross entropy with `label_smoothing`, or ½ (y − f)² for numbers.

    A placeholder in a recipe: the loss is chosen once the task is known (`training.defaults`).
    """

    stands_for: ClassVar[str] = "Loss"
    label_smoothing: Number = setting(default=0.0, ge=0, lt=1)


def _surprisals_by_log_softmax(
    outputs: Tensor, targets: Tensor, *, with_mean: bool
) -> tuple[Tensor, Tensor | None]:
    """−log p of the target and, for smoothing, its mean over the classes, both [P, B]."""
    logs = F.log_softmax(outputs.flatten(0, 1), -1)
    of_target = F.nll_loss(logs, targets.reshape(-1), reduction="none").view(targets.shape)
    return of_target, -logs.mean(-1).view(targets.shape) if with_mean else None


def _surprisals_by_log_sum(
    outputs: Tensor, targets: Tensor, *, with_mean: bool
) -> tuple[Tensor, Tensor | None]:
    """The same from log Σ e^z − z_y, z = x − max x.

    torch's log_softmax takes 0.4 µs for each row of ten classes; this takes 600 µs instead of 750
    for a whole step of 32 networks 100-10 on batches of 32. Softmax over a transposed view is as
    fast, but its gradient comes in an order that makes the layer below slower (7.3 ms against 5.1
    ms for 256-10 on batches of 128).
    """
    shifted = outputs - outputs.detach().amax(-1, keepdim=True)
    total = shifted.exp().sum(-1).log()
    of_target = total - shifted.gather(-1, targets[..., None]).squeeze(-1)
    return of_target, total - shifted.mean(-1) if with_mean else None


def _median(targets: Tensor, shares: Tensor) -> Tensor:
    """The median of each output's targets, [1, C], each example weighted by its share."""
    ordered, places = targets.sort(0)
    below = shares[places].cumsum(0) < 0.5
    return ordered.gather(0, below.sum(0, keepdim=True).clamp_max(len(targets) - 1))


def _column(number: Number, like: Tensor) -> Tensor:
    """A setting as a column [1, 1] or [P, 1] with the type and on the device of a tensor."""
    return torch.as_tensor(number, dtype=like.dtype, device=like.device).reshape(-1, 1)


def _over_outputs(losses: Tensor) -> Tensor:
    """The sum over an example's outputs, [P, B]; of one output a view, which costs nothing."""
    return losses.squeeze(-1) if losses.shape[-1] == 1 else losses.sum(-1)


ALL = (SquaredError, AbsoluteError, Huber, BinaryCrossEntropy, SoftmaxCrossEntropy)

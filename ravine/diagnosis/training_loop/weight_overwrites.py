"""Whether anything but the optimizer writes the weights between steps, and what it writes.

Samples of two parameters are compared with what the last step left there.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import WeightOverwrites
from ravine.diagnosis.training_loop.tensor_stats import sample

MIN_NUMBERS = 64  # fewer are too few to call two tensors unrelated
ROUNDING_TOLERANCE = 1e-5  # of a weight's length: saved and restored, perhaps in fewer bits
# overwrites by others after which only inspected steps are compared, as nothing new is learned
FREQUENT_OVERWRITES = 50
MAX_OPTIMIZERS = 100  # unwatched ones that are remembered


class OverwriteMonitor:
    """Whether anything but the optimizer writes the weights.

    Two parameters are compared, the first and the last of some size: overwrites usually concern
    most of the weights.
    """

    def __init__(self) -> None:
        self.parameters: list[Tensor] = []
        self.starts: list[Tensor] = []  # samples of them when watching began
        self.left: list[Tensor] = []  # as the last step left them; empty: not kept
        self.last: list[Tensor] = []  # as they were last overwritten
        self.versions: list[tuple[int, int]] = []  # and addresses, after the last step
        self.keeps_samples = False  # of every step, as something else does write
        self.count = 0
        self._sharing: dict[int, bool] = {}  # by id of other optimizers

    def choose_parameters(self, parameters: Sequence[Tensor]) -> None:
        trainable = [p for p in parameters if p.requires_grad]
        fit = [p for p in trainable if p.numel() >= MIN_NUMBERS] or trainable
        self.parameters = [*fit[:1], *fit[1:][-1:]]
        self.starts = [sample(p).clone() for p in self.parameters]

    def remember(self, *, sampled: bool) -> None:
        """Remember versions, and numbers if `sampled` or once something else has written them."""
        self.versions = self._current_versions()
        keep = self.keeps_samples or sampled
        self.left = [sample(p).clone() for p in self.parameters] if keep else []

    def _current_versions(self) -> list[tuple[int, int]]:
        return [(p._version, p.data_ptr()) for p in self.parameters]

    def shares_weights(self, optimizer: Optimizer) -> bool:
        """Whether another optimizer steps the same weights."""
        if id(optimizer) not in self._sharing:
            if len(self._sharing) > MAX_OPTIMIZERS:
                self._sharing.clear()
            ids = {id(p) for g in optimizer.param_groups for p in g["params"]}
            self._sharing[id(optimizer)] = any(id(p) in ids for p in self.parameters)
        return self._sharing[id(optimizer)]

    def must_compare(self) -> bool:
        """Whether the weights have to be compared: something may have written them."""
        return bool(self.versions) and (bool(self.left) or self._was_written())

    def _was_written(self) -> bool:
        """Whether the versions of the weights are not as the last step left them."""
        return bool(self.versions) and self.versions != self._current_versions()

    def compare(
        self, before: WeightOverwrites, names: dict[int, str], step: int
    ) -> WeightOverwrites:
        """Count what stands in the weights in place of what the last step left there."""
        written: list[tuple[str, Tensor]] = []
        for i, (p, left) in enumerate(zip(self.parameters, self.left, strict=False)):
            now, start, last = sample(p), self.starts[i], self.last[i] if self.last else None
            same = now.shape == left.shape
            kind = classify_overwrite(left, now, start=start, last=last) if same else "other"
            written += [(kind, p)] if kind else []
        if self._was_written():
            self.last = [sample(p).clone() for p in self.parameters]
            self.keeps_samples = self.count < FREQUENT_OVERWRITES
        if not written:
            return before
        self.count += 1
        is_fault = before.to_start + before.unrelated > 0
        self.keeps_samples = self.count < FREQUENT_OVERWRITES or is_fault
        kind, p = written[0]
        kinds = ("to_start", "repeated", "unrelated", "clamped", "other")
        counts = {name: getattr(before, name) + (name == kind) for name in kinds}
        first = before.first_step if sum(counts.values()) > 1 else step
        where = names.get(id(p), "")
        return WeightOverwrites(**counts, where=where, first_step=first, interval=step - first)

    @torch.no_grad()
    def relative_distance(self) -> float:
        """How far the weights are from their start, over their length there."""
        pairs = zip(self.parameters, self.starts, strict=False)
        apart = (float((sample(p).float() - start.float()).norm()) for p, start in pairs)
        length = math.hypot(*(float(start.float().norm()) for start in self.starts))
        return math.hypot(*apart) / max(length, 1e-30)


@torch.no_grad()
def classify_overwrite(left: Tensor, found: Tensor, *, start: Tensor, last: Tensor | None) -> str:
    """What stands in a weight in place of what the optimizer `left` there.

    "" the same numbers (also after rounding), "to_start" the numbers at the `start`, "repeated"
    the numbers of the `last` overwrite, "unrelated" other numbers (64 or more, their correlation
    within 4 standard errors of 0), "clamped" the same numbers cut to a range or partly set to 0,
    "other" anything else.

    >>> torch.manual_seed(0); left = torch.randn(500)
    <...>
    >>> [classify_overwrite(left, found, start=left + 1, last=None) for found in (
    ...     left.clone(), left + 1, torch.randn(500), left.clamp(-0.1, 0.1), left * 0.9)]
    ['', 'to_start', 'unrelated', 'clamped', 'other']
    """
    if bool(torch.equal(found, left)):
        return ""
    if bool(torch.equal(found, start)):
        return "to_start"
    if last is not None and bool(torch.equal(found, last)):
        return "repeated"
    if not bool(torch.isfinite(found).all() & torch.isfinite(left).all()):
        return ""  # RVN-N01 reports numbers that are not finite
    old, new = left.double(), found.double()
    if float((new - old).norm()) <= ROUNDING_TOLERANCE * float(old.norm()):
        return ""
    changed = new[new != old]
    at_bounds = (changed == 0) | (changed == new.max()) | (changed == new.min())
    if bool(at_bounds.all()) and len(changed) > 1:
        return "clamped"
    a, b = old - old.mean(), new - new.mean()
    correlation = float(a @ b) / max(float(a.norm() * b.norm()), 1e-30)
    unrelated = len(old) >= MIN_NUMBERS and abs(correlation) < 4 / math.sqrt(len(old))
    return "unrelated" if unrelated else "other"

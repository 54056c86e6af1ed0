"""What is remembered of one optimizer between its steps, and what one step looks like close up.

The eye rests on one parameter, small and near the output, for the gradients that come; and on a
sample of numbers of the first parameters, for what the step does. Everything that it keeps is a
copy of a bounded size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import Look, Written
from ravine.diagnosis.training_loop.tensor_stats import MIN_NUMBERS, SAMPLE_SIZE, classify_overwrite

SAMPLED = 8  # parameters of which numbers are compared before and after a step
# times that the weights were changed from outside, after which only looked-at steps are compared
BENIGN = 50
SECONDS = ("exp_avg_sq", "square_avg")  # what torch's optimizers call their running mean of squares


class Eye:
    """One optimizer, the step that it is about to make, and the weights that its last step left."""

    def __init__(self, place: int, optimizer: Optimizer | None):
        self.place, self.optimizer = place, optimizer
        self.steps = 0
        self.watched: nn.Parameter | None = None
        self.handles: list[Any] = []  # on the parameter, while a step is looked at
        self.guarded: list[Tensor] = []
        self.starts: list[Tensor] = []
        self.left: list[Tensor] = []  # their numbers as the last step left them; empty: not kept
        self.last: list[Tensor] = []  # as they were last written from outside
        self.stamps: list[tuple[int, int]] = []
        self.keeping = False  # something else has written: keep what each step leaves
        self.writes = 0
        self.still: set[int] = (
            set()
        )  # ids of parameters in groups that were at a rate of 0 at every look
        self.beside = 0.0
        self._sharing: dict[int, bool] = {}
        self.forget()

    def forget(self) -> None:
        """Forget the step."""
        self.before: Tensor | None = None  # the gradient that the last step left behind
        self.incoming: Tensor | None = None
        self.fresh: Tensor | None = None  # the sum of this step's gradients
        self.expected: Tensor | None = None  # the same, on top of what was left behind
        self.came, self.stale, self.kept, self.passes, self.thrown, self.version = (
            False,
            False,
            0.0,
            0,
            0,
            -1,
        )
        self.arrived: float | None = None
        self.at_step: float | None = None
        self.norms: dict[str, float] = {}
        self.samples: list[tuple[Tensor, Tensor, Tensor]] = []
        self.second: float | None = None

    def choose(self, held: Iterable[Tensor]) -> None:
        """Look at one parameter: a small one near the output, where every gradient passes."""
        self.watched, self.before = None, None
        fit = [p for p in held if p.requires_grad and p.is_leaf and isinstance(p, nn.Parameter)]
        good = [p for p in fit if 2 <= p.numel() <= 100_000] or fit
        self.watched = good[-1] if good else None

    def guard(self, held: Sequence[Tensor]) -> None:
        """Mind two parameters, the first and the last of some size: whoever writes them writes
        most.
        """
        fit = [p for p in held if p.requires_grad and p.numel() >= MIN_NUMBERS] or [
            p for p in held if p.requires_grad
        ]
        self.guarded = [*fit[:1], *fit[1:][-1:]]
        self.starts = [sample(p).clone() for p in self.guarded]

    def leave(self, *, closely: bool) -> None:
        """Remember what a step left."""
        self.stamps = [(p._version, p.data_ptr()) for p in self.guarded]
        self.left = [sample(p).clone() for p in self.guarded] if self.keeping or closely else []

    def shares(self, optimizer: Optimizer) -> bool:
        """Whether another optimizer steps the guarded weights, too."""
        if id(optimizer) not in self._sharing:
            if len(self._sharing) > 100:
                self._sharing.clear()
            mine = {id(p) for p in self.guarded}
            self._sharing[id(optimizer)] = any(
                id(p) in mine for g in optimizer.param_groups for p in g["params"]
            )
        return self._sharing[id(optimizer)]

    def untouched(self) -> bool:
        """Whether nobody has written the weights since, as far as their version counters tell."""
        for p, (version, place) in zip(self.guarded, self.stamps, strict=False):
            if p._version != version or p.data_ptr() != place:
                return False
        return True

    def compare(self, told: Written, names: dict[int, str]) -> Written:
        """What is in the weights in place of what the last step left."""
        first = len(self.last) == 0
        kinds = []
        for i, (p, left) in enumerate(zip(self.guarded, self.left, strict=False)):
            now = sample(p)
            last = None if first else self.last[i]
            kinds.append(
                classify_overwrite(left, now, start=self.starts[i], last=last)
                if now.shape == left.shape
                else "other"
            )
        some = [(kind, p) for kind, p in zip(kinds, self.guarded, strict=False) if kind]
        if not self.untouched():
            self.last = [sample(p).clone() for p in self.guarded]
            self.keeping = self.writes < BENIGN
        if not some:
            return told
        self.writes += 1
        self.keeping = self.writes < BENIGN or told.to_start + told.unrelated > 0
        kind, p = some[0]
        counts = {
            k: getattr(told, k) + (k == kind)
            for k in ("to_start", "repeated", "unrelated", "clamped", "other")
        }
        before = told.first if sum(counts.values()) > 1 else self.steps
        return Written(
            **counts, where=names.get(id(p), ""), first=before, apart=self.steps - before
        )

    def arrive(self, parameter: nn.Parameter) -> None:
        """A gradient was added to the parameter; `incoming` is what was added."""
        grad, new = parameter.grad, self.incoming
        self.incoming, self.came = None, True
        self.passes += 1
        if grad is None or grad.is_sparse:
            return
        self.arrived = float(grad.detach().norm())
        if new is None:
            return
        if self.fresh is not None and parameter._version == self.version and bool(self.fresh.any()):
            self.thrown += bool(torch.equal(grad, new))
        self.version = parameter._version
        self.fresh = new if self.fresh is None else self.fresh + new
        if self.before is not None:
            self.expected = self.before + new if self.expected is None else self.expected + new
            self.stale = bool(torch.equal(grad, self.expected)) and not bool(
                torch.equal(grad, self.fresh)
            )
            self.kept = float(self.before.norm()) / max(self.arrived, 1e-30) if self.stale else 0.0

    @torch.no_grad()
    def look_before(self, held: Sequence[Tensor], names: dict[int, str], scale: float) -> None:
        """The gradients that the step will use, over `scale`, and some of the weights that it will
        change.
        """
        self.norms = norms(held, names, scale)
        self.at_step = norm(self.watched, scale)
        self.samples = [
            (p, sample(p).clone(), sample(p.grad) != 0)
            for p in held[:SAMPLED]
            if p.grad is not None and not p.grad.is_sparse
        ]
        self.second = None
        grad = self.guarded[0].grad if self.guarded else None
        if self.optimizer is None or grad is None or grad.is_sparse:
            return
        state: dict[str, Any] = self.optimizer.state.get(self.guarded[0], {})
        squares = next(
            (state[name] for name in SECONDS if isinstance(state.get(name), Tensor)), None
        )
        given = sample(grad).float() / scale
        there = given != 0
        if not bool(there.any()):
            return
        self.beside = max(self.beside, float(given[there].square().mean().sqrt()))
        if squares is not None and squares.shape == grad.shape:
            self.second = float(sample(squares)[there].float().mean().sqrt())

    @torch.no_grad()
    def look_after(self, held: Sequence[Tensor], names: dict[int, str], **seen: Any) -> Look:
        """The step that was made just now; `seen` is what the eye does not see itself."""
        if not self.norms:  # a closure made the gradients within the step, or there is no optimizer
            self.norms, self.at_step = norms(held, names, 1.0), norm(self.watched, 1.0)
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        group = groups[0] if groups else {}
        standing = {id(p) for g in groups if "lr" in g and float(g["lr"]) == 0 for p in g["params"]}
        self.still = standing if self.steps == 0 else self.still & standing
        same = [
            (torch.eq(old, sample(p)) & moved).sum()
            for p, old, moved in self.samples
            if old.shape == moved.shape
        ]
        with_gradient = (
            int(torch.stack([moved.sum() for _, _, moved in self.samples]).sum())
            if self.samples
            else 0
        )
        lengths = lengths_of([p.detach() for p in held]) if held else []
        return Look(
            step=self.steps,
            optimizer=self.place,
            kind=type(self.optimizer).__name__ if self.optimizer is not None else "",
            lrs=rates(self.optimizer) or (math.nan,),
            momentum=float(group.get("momentum") or 0.0),
            eps=float(eps)
            if isinstance(eps := group.get("eps"), int | float)
            else 0.0,  # Adafactor has two
            maximize=bool(group.get("maximize")),
            norms=self.norms,
            arrived=(self.arrived if self.arrived is not None else math.nan) if self.came else None,
            at_step=self.at_step,
            stale=names.get(id(self.watched), "") if self.stale else "",
            kept=self.kept,
            passes=self.passes,
            thrown=self.thrown,
            second=self.second,
            beside=self.beside,
            weights=float(torch.stack([v.float() for v in lengths]).norm()) if lengths else 0.0,
            unchanged=int(torch.stack(same).sum()) / with_gradient
            if with_gradient and same
            else None,
            **seen,
        )

    @torch.no_grad()
    def moved(self) -> float:
        """How far the guarded weights are from their start, over their length there."""
        apart = [
            float((sample(p).float() - s.float()).norm())
            for p, s in zip(self.guarded, self.starts, strict=False)
        ]
        length = [float(s.float().norm()) for s in self.starts]
        return math.hypot(*apart) / max(math.hypot(*length), 1e-30) if apart else 0.0


def sample(p: Tensor) -> Tensor:
    """The first numbers of a tensor: a view, where its layout allows."""
    return (
        p.detach().flatten()[:SAMPLE_SIZE]
        if p.numel() <= SAMPLE_SIZE or p.dim() < 2
        else p.detach()[: _rows(p)].flatten()
    )


def _rows(p: Tensor) -> int:
    return max(1, SAMPLE_SIZE * len(p) // p.numel())


def lengths_of(some: list[Tensor]) -> list[Tensor]:
    """The lengths of tensors, in one call as torch's clipping makes it."""
    return list(torch._foreach_norm(some))  # pyright: ignore[reportPrivateImportUsage]


def rates(optimizer: Optimizer | None) -> tuple[float, ...]:
    """The learning rates of an optimizer's groups."""
    return (
        ()
        if optimizer is None
        else tuple(float(g["lr"]) for g in optimizer.param_groups if "lr" in g)
    )


def norm(parameter: nn.Parameter | None, scale: float) -> float | None:
    """The length of a parameter's gradient over `scale`; None if it has none."""
    if parameter is None or parameter.grad is None or parameter.grad.is_sparse:
        return None
    return float(parameter.grad.detach().norm()) / scale


def norms(held: Iterable[Tensor], names: dict[int, str], scale: float) -> dict[str, float]:
    """The lengths of the gradients of some parameters, over `scale`, by name."""
    some = [p for p in held if p.grad is not None and not p.grad.is_sparse]
    if not some:
        return {}
    lengths = lengths_of([p.grad.detach() for p in some if p.grad is not None])
    values = torch.stack([v.float() for v in lengths]).tolist()
    return {names.get(id(p), "?"): v / scale for p, v in zip(some, values, strict=True)}

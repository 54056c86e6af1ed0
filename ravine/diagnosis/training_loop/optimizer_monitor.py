"""Monitors of one optimizer: the gradients that arrive, what its steps do, who else writes weights.

One parameter is observed for the gradients that arrive, samples of a few others for what a step
changes, and of two for what anything but the optimizer writes. All that is kept is a bounded copy.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ravine.diagnosis.training_loop.history import (
    ObservedGradient,
    OptimizerSettings,
    StepSnapshot,
    WeightOverwrites,
)
from ravine.diagnosis.training_loop.tensor_stats import sample

SAMPLED_PARAMETERS = 8  # whose numbers are compared before and after a step
OBSERVED_SIZES = (2, 100_000)  # numbers in the parameter whose gradients are observed
SQUARES_NAMES = ("exp_avg_sq", "square_avg")  # of torch's optimizers: running means of squares
PARALLEL_COSINE = 0.9999  # of two gradients, one of which is the other times a number
MIN_NUMBERS = 64  # fewer are too few to call two tensors unrelated
ROUNDING_TOLERANCE = 1e-5  # of a weight's length: saved and restored, perhaps in fewer bits
# overwrites by others after which only inspected steps are compared, as nothing new is learned
FREQUENT_OVERWRITES = 50
MAX_OPTIMIZERS = 100  # unwatched ones that are remembered


class OverwriteMonitor:
    """Whether anything but the optimizer writes the weights. Two parameters are compared, the first
    and the last of some size: overwrites concern most.
    """

    def __init__(self) -> None:
        self.parameters: list[Tensor] = []
        self.starts: list[Tensor] = []  # samples of them when watching began
        self.left: list[Tensor] = []  # as the last step left them; empty: not kept
        self.last: list[Tensor] = []  # as they were last overwritten
        self.versions: list[int] = []  # and addresses, after the last step
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
        self.versions[:] = read_versions(self.parameters)
        keep = self.keeps_samples or sampled
        self.left = [sample(p).clone() for p in self.parameters] if keep else []

    def shares_weights(self, optimizer: Optimizer) -> bool:
        """Whether another optimizer steps the same weights."""
        if id(optimizer) not in self._sharing:
            if len(self._sharing) > MAX_OPTIMIZERS:
                self._sharing.clear()
            ids = {id(p) for g in optimizer.param_groups for p in g["params"]}
            self._sharing[id(optimizer)] = any(id(p) in ids for p in self.parameters)
        return self._sharing[id(optimizer)]

    def was_written(self) -> bool:
        """Whether the versions of the weights are not as the last step left them."""
        return bool(self.versions) and self.versions != read_versions(self.parameters)

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
        if self.was_written():
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
        cut = max(before.cut_fraction, cut_fraction(self.parameters) if kind == "clamped" else 0.0)
        counts |= {"first_step": first, "interval": step - first}
        return WeightOverwrites(**counts, cut_fraction=cut, where=where)

    @torch.no_grad()
    def relative_distance(self) -> float:
        """How far the weights are from their start, over their length there; inf if that is 0."""
        pairs = zip(self.parameters, self.starts, strict=False)
        apart = (float((sample(p).float() - start.float()).norm()) for p, start in pairs)
        length = math.hypot(*(float(start.float().norm()) for start in self.starts))
        distance = math.hypot(*apart)
        return distance / length if length else math.inf if distance else 0.0


def read_versions(parameters: Sequence[Tensor]) -> list[int]:
    """Versions and addresses of the first and the last: they change when these are written."""
    ends = [*parameters[:1], *parameters[-1:]]
    return [*(p._version for p in ends), *(p.data_ptr() for p in ends)]


@torch.no_grad()
def cut_fraction(parameters: Sequence[Tensor]) -> float:
    """The share of numbers with the size of the largest: the least of several tensors, else 0."""
    sizes = [sample(p).abs() for p in parameters] if len(parameters) > 1 else []
    return min((float((s == s.max()).float().mean()) for s in sizes if s.any()), default=0.0)


@torch.no_grad()
def classify_overwrite(left: Tensor, found: Tensor, *, start: Tensor, last: Tensor | None) -> str:
    """What stands in a weight in place of what the optimizer `left` there.

    "" the same numbers (also after rounding), "to_start" those at the `start`, "repeated" those of
    the `last` overwrite, "unrelated" others (64 or more, their correlation within 4 standard errors
    of 0), "clamped" the same cut to a range or partly set to 0, "other" anything else.

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


class GradientObserver:
    """The gradients that arrive at one parameter within an inspected step."""

    def __init__(self) -> None:
        self.parameter: nn.Parameter | None = None
        self.handles: list[Any] = []  # hooks on the parameter
        self.forget_step()

    def forget_step(self) -> None:
        """Start with a new step."""
        self.leftover: Tensor | None = None  # the gradient that the last step left behind
        self.incoming: Tensor | None = None  # the last gradient, also once it has arrived
        self.total: Tensor | None = None  # of the gradients of this step
        self.total_with_leftover: Tensor | None = None
        self.weights: Tensor | None = None  # their norms when it arrived
        self.norm: float | None = None
        self.norm_at_step: float | None = None
        self.accumulates = False
        self.leftover_fraction = 0.0
        self.passes, self.discarded = 0, 0
        self.clip_calls, self.acting_clip_calls = 0, 0

    def record_clipping(self, parameters: Sequence[Tensor], own: set[int]) -> None:
        """Record a call of torch's gradient clipping; `own` are ids of the optimizer's parameters.
        A call that gets gradients of other parameters is none of this optimizer's.
        """
        with_gradient = [p for p in parameters if p.grad is not None]
        if any(id(p) in own for p in parameters) or not with_gradient:
            self.clip_calls += 1
            self.check_last()
            self.acting_clip_calls += bool(self.passes) and any(id(p) in own for p in with_gradient)

    def choose_parameter(self, parameters: Iterable[Tensor]) -> None:
        """Observe a small parameter near the output, where every gradient passes."""
        low, high = OBSERVED_SIZES
        fit = [p for p in parameters if isinstance(p, nn.Parameter) and p.requires_grad]
        good = [p for p in fit if low <= p.numel() <= high] or fit
        self.parameter, self.leftover = good[-1] if good else None, None

    def remove_hooks(self) -> None:
        for handle in self.handles:
            handle.remove()
        if self.handles and self.parameter is not None:  # an empty table costs each backward 1 us
            parameter: Any = self.parameter
            parameter._backward_hooks = parameter._backward_hooks or None
            parameter._post_accumulate_grad_hooks = parameter._post_accumulate_grad_hooks or None
        self.handles = []

    def keep_leftover(self) -> None:
        """Remember the gradient that is there before the step's own gradients arrive."""
        grad = None if self.parameter is None else dense_gradient(self.parameter)
        if grad is not None:
            self.leftover = grad.clone()

    def record_incoming(self, grad: Tensor) -> None:
        """Remember a gradient that is about to be added."""
        self.incoming = None if grad.is_sparse else grad.detach().clone()

    def record_arrival(self, parameter: nn.Parameter, weights: Tensor) -> None:
        """Record that the expected gradient was added; `weights` are the norms of all weights."""
        grad, new = dense_gradient(parameter), self.incoming
        self.passes += 1
        if grad is None:
            return
        self.norm = float(grad.norm())
        if new is None:
            return
        known = self.weights  # versions do not show what is written through .data
        is_same = known is not None and bool(torch.equal(known, weights))
        if self.total is not None and is_same and bool(self.total.any()):
            self.discarded += bool(torch.equal(grad, new))
        self.weights = weights
        self.total = new if self.total is None else self.total + new
        leftover, before = self.leftover, self.total_with_leftover
        if leftover is not None:
            self.total_with_leftover = (leftover if before is None else before) + new
            sums = torch.equal(grad, self.total_with_leftover), torch.equal(grad, self.total)
            self.accumulates = sums == (True, False)
            share = float(leftover.norm()) / max(self.norm, 1e-30)
            self.leftover_fraction = share if self.accumulates else 0.0

    def check_last(self) -> None:
        """Count no gradient as discarded where the step uses another one than the last to arrive.
        Gradients may be merged by hand from copies of them; unscaling keeps directions. Called
        before clipping, or else before the step.
        """
        grad = None if self.parameter is None else dense_gradient(self.parameter)
        last = self.incoming
        if not self.discarded or grad is None or last is None or self.acting_clip_calls:
            return
        now, then = grad.double().flatten(), last.double().flatten()
        is_parallel = float(now @ then) >= PARALLEL_COSINE * float(now.norm() * then.norm())
        if not torch.equal(grad, last) and (len(now) <= 2 or not is_parallel):
            self.discarded = 0

    def describe(self, names: dict[int, str]) -> ObservedGradient:
        """What was observed in this step."""
        norm = math.nan if self.norm is None else self.norm  # of a sparse gradient
        return ObservedGradient(
            norm_after_backward=norm if self.passes else None,
            norm_at_step=self.norm_at_step,
            accumulated_in=names.get(id(self.parameter), "") if self.accumulates else "",
            leftover_fraction=self.leftover_fraction,
            passes=self.passes,
            discarded=self.discarded,
        )


class ArrivalMonitor:
    """The backward passes of an inspected step in which each parameter gets a gradient."""

    def __init__(self) -> None:
        self.hooks: list[tuple[Any, Any]] = []  # parameters, each with its handle
        self.forget_step()

    def forget_step(self) -> None:
        self.last: dict[int, tuple[int, Tensor]] = {}  # by id: the last pass, and the norm
        self.passes = 0
        self.lost: tuple[str, ...] = ()

    def observe(self, parameters: Iterable[Any], hook: Callable[..., None]) -> None:
        leaves = (p for p in parameters if p.requires_grad and p.is_leaf)
        self.hooks = [(p, p.register_post_accumulate_grad_hook(hook)) for p in leaves]

    def remove_hooks(self) -> None:
        for parameter, handle in self.hooks:
            handle.remove()  # an empty table costs each backward 1 us
            parameter._post_accumulate_grad_hooks = parameter._post_accumulate_grad_hooks or None
        self.hooks = []

    def note(self, parameter: Tensor) -> None:
        """A gradient was added; a second one of a parameter is of another pass."""
        grad, known = dense_gradient(parameter), self.last.get(id(parameter))
        self.passes += known is not None and known[0] == self.passes
        if grad is not None:
            self.last[id(parameter)] = self.passes, grad.norm()

    def find_lost(self, parameters: Iterable[Tensor], names: Mapping[int, str]) -> None:
        """Parameters whose gradient came in a pass before the last, and is gone before the step."""
        early = [p for p in parameters if self.last.get(id(p), (self.passes,))[0] < self.passes]
        gone = [p for p in early if p.grad is None or not bool(p.grad.any())]
        self.lost = tuple(names.get(id(p), "?") for p in gone if float(self.last[id(p)][1]) > 0)


class StepSampler:
    """What one step does to a sample of numbers, and with what gradients."""

    def __init__(self) -> None:
        self.largest_gradient = 0.0
        self.forget_step()

    def forget_step(self) -> None:
        self.gradient_norms: dict[str, float] = {}
        self.samples: list[tuple[Tensor, Tensor, Tensor]] = []  # weight, numbers, has gradient
        self.second_moment: float | None = None

    def sample_weights(self, parameters: Sequence[Tensor]) -> None:
        """Copy some numbers that the step will change."""
        pairs = [(p, dense_gradient(p)) for p in parameters[:SAMPLED_PARAMETERS]]
        known = [(p, grad) for p, grad in pairs if grad is not None]
        self.samples = [(p, sample(p).clone(), sample(grad) != 0) for p, grad in known]

    def sample_moments(self, optimizer: Optimizer | None, weight: Tensor, scale: float) -> None:
        """Compare the second moments that the optimizer has for a weight with its gradient."""
        self.second_moment, grad = None, dense_gradient(weight)
        if optimizer is None or grad is None:
            return
        state: dict[str, Any] = optimizer.state.get(weight, {})
        moments = (state[name] for name in SQUARES_NAMES if isinstance(state.get(name), Tensor))
        squares = next(moments, None)
        sampled = sample(grad).float() / scale
        nonzero = sampled != 0
        if not bool(nonzero.any()):
            return
        size = float(sampled[nonzero].square().mean().sqrt())
        self.largest_gradient = max(self.largest_gradient, size)
        if squares is not None and squares.shape == grad.shape:
            self.second_moment = float(sample(squares)[nonzero].float().mean().sqrt())

    def unchanged_fraction(self) -> float | None:
        """The share of sampled numbers with a gradient that the step left as they were."""
        if not self.samples:
            return None
        same = [(torch.eq(old, sample(p)) & nonzero).sum() for p, old, nonzero in self.samples]
        count = int(torch.stack([nonzero.sum() for _, _, nonzero in self.samples]).sum())
        return int(torch.stack(same).sum()) / count if count else None


class StateMonitor:
    """How often a step of the same parameters begins without the state that one before it left."""

    def __init__(self) -> None:
        self.fresh_steps = Counter[int]()  # by id of the first parameter
        self._begins_empty = False

    def before_step(self, optimizer: Optimizer) -> None:
        self._begins_empty = not optimizer.state

    def after_step(self, optimizer: Optimizer) -> None:
        is_fresh, self._begins_empty = self._begins_empty, False
        if is_fresh and optimizer.state:
            self.fresh_steps[id(optimizer.param_groups[0]["params"][0])] += 1

    def count_lost(self, parameters: Iterable[Tensor]) -> int:
        """The steps after the first that optimizers of these parameters began without a state."""
        return max((self.fresh_steps[id(p)] for p in parameters), default=0) - 1


class OptimizerMonitor:
    """One optimizer, or none: then each reported loss counts as a step."""

    def __init__(self, index: int, optimizer: Optimizer | None):
        self.index, self.optimizer = index, optimizer
        self.steps = 0
        self.gradients = GradientObserver()
        self.arrivals = ArrivalMonitor()
        self.overwrites = OverwriteMonitor()
        self.sampler = StepSampler()
        # ids of parameters in groups whose learning rate was 0 at every inspected step
        self.zero_lr: set[int] = set()

    def start(self, parameters: Sequence[Tensor]) -> None:
        """Choose what is observed."""
        self.gradients.choose_parameter(parameters)
        self.overwrites.choose_parameters(parameters)

    def forget_step(self) -> None:
        self.gradients.forget_step()
        self.arrivals.forget_step()
        self.sampler.forget_step()

    @torch.no_grad()
    def before_step(
        self, parameters: Sequence[Tensor], names: dict[int, str], scale: float
    ) -> None:
        """Record the gradients that the step will use, divided by `scale`, and some weights."""
        self.sampler.gradient_norms = gradient_norms(parameters, names, scale)
        self.gradients.norm_at_step = gradient_norm(self.gradients.parameter, scale)
        self.gradients.check_last()
        self.arrivals.find_lost(parameters, names)
        self.sampler.sample_weights(parameters)
        for weight in self.overwrites.parameters[:1]:
            self.sampler.sample_moments(self.optimizer, weight, scale)

    @torch.no_grad()
    def after_step(self, parameters: Sequence[Tensor], names: dict[int, str]) -> StepSnapshot:
        """The step that was just made, as far as this monitor knows it."""
        sampler = self.sampler
        if not sampler.gradient_norms:  # a closure made them within the step, or no optimizer
            sampler.gradient_norms = gradient_norms(parameters, names, 1.0)
            self.gradients.norm_at_step = gradient_norm(self.gradients.parameter, 1.0)
        groups = self.optimizer.param_groups if self.optimizer is not None else []
        at_zero = {id(p) for g in groups if "lr" in g and float(g["lr"]) == 0 for p in g["params"]}
        self.zero_lr = at_zero if self.steps == 0 else self.zero_lr & at_zero
        weights = [p.detach() for p in parameters]
        return StepSnapshot(
            step=self.steps,
            optimizer=self.index,
            settings=optimizer_settings(self.optimizer),
            gradient=replace(self.gradients.describe(names), lost=self.arrivals.lost),
            gradient_norms=sampler.gradient_norms,
            weight_norm=float(tensor_norms(weights).norm()) if weights else 0.0,
            unchanged_fraction=sampler.unchanged_fraction(),
            second_moment=sampler.second_moment,
            largest_gradient=sampler.largest_gradient,
            clip_calls=self.gradients.clip_calls,
            acting_clip_calls=self.gradients.acting_clip_calls,
        )


def optimizer_settings(optimizer: Optimizer | None) -> OptimizerSettings:
    """The settings of an optimizer: of its first group, and all learning rates."""
    if optimizer is None:
        return OptimizerSettings(lrs=(math.nan,))
    group = next(iter(optimizer.param_groups), {})
    eps, betas = group.get("eps"), tuple(group.get("betas") or ())
    return OptimizerSettings(
        kind=type(optimizer).__name__,
        lrs=group_learning_rates(optimizer) or (math.nan,),
        momentum=float(group.get("momentum") or 0.0),
        eps=float(eps) if isinstance(eps, int | float) else 0.0,  # Adafactor has two
        betas=betas if all(isinstance(b, float) for b in betas) else (),
        maximize=bool(group.get("maximize")),
    )


def group_learning_rates(optimizer: Optimizer) -> tuple[float, ...]:
    """The learning rates of an optimizer's groups."""
    return tuple(float(g["lr"]) for g in optimizer.param_groups if "lr" in g)


def tensor_norms(tensors: list[Tensor]) -> Tensor:
    """The norms of tensors, in one call as torch's clipping makes it."""
    norms = torch._foreach_norm(tensors)  # pyright: ignore[reportPrivateImportUsage]
    wide = any(norm.dtype == torch.float64 for norm in norms)
    return torch.stack([norm.to(torch.float64 if wide else torch.float32) for norm in norms])


def dense_gradient(parameter: Tensor) -> Tensor | None:
    """The gradient of a parameter; None if it has none, or a sparse one."""
    grad = parameter.grad
    return None if grad is None or grad.is_sparse else grad.detach()


def gradient_norm(parameter: nn.Parameter | None, scale: float) -> float | None:
    """The norm of a parameter's gradient divided by `scale`; None if it has none."""
    grad = None if parameter is None else dense_gradient(parameter)
    return None if grad is None else float(grad.norm()) / scale


def gradient_norms(
    parameters: Iterable[Tensor], names: dict[int, str], scale: float
) -> dict[str, float]:
    """The norms of the gradients of some parameters, divided by `scale`, by name."""
    known = [(id(p), dense_gradient(p)) for p in parameters]
    gradients = {names.get(key, "?"): grad for key, grad in known if grad is not None}
    norms = tensor_norms(list(gradients.values())).tolist() if gradients else []
    return {name: norm / scale for name, norm in zip(gradients, norms, strict=True)}

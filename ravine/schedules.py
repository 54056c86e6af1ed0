"""Schedules: the multiple of the learning rate at each step.

All are computed in float64 and cast once, where the update uses them. `step` is 0 at the first
step; t = step / (steps of an epoch) is the time in epochs, p = step / (steps of the run) the
progress, both fractions. Lengths and rates are in epochs (`epochs` in all schedules), positions in
the run are fractions of it, milestones either. After the run's last step every schedule keeps its
last value.

Letters: P networks, S steps. Numbers are floats or columns [P, 1]; factors are [1, S] or [P, S].
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ravine.effects import Effect
from ravine.errors import RecipeError
from ravine.layout import Column
from ravine.part import Number, part, setting
from ravine.protocols import Plan, ReactiveSchedule, Schedule, State

SCHEDULE_EFFECT = Effect("schedule", "relative range of the learning rate, as executed")


class _Scheduled:
    """The base of schedules that change the learning rate."""

    acts: ClassVar[Effect] = SCHEDULE_EFFECT


# of a cycle: a restart due at a step is not put off to the next by rounding
CYCLE_TOLERANCE = 1e-9


@part
class Constant:
    """1 at every step."""

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return torch.ones_like(step)


@part
class StepDecay(_Scheduled):
    """gamma^(number of milestones passed).

    `milestones` below 1 are fractions of the run, those of 1 and above are epochs, as torch's
    MultiStepLR has them: (0.5, 0.75) or (10, 20, 30), not both.
    """

    milestones: tuple[float, ...] = setting(default=(0.5, 0.75), gt=0)
    gamma: Number = setting(default=0.1, gt=0)

    def check(self) -> None:
        if len({milestone < 1 for milestone in self.milestones}) > 1:
            why = "those below 1 are fractions of the run, the others epochs"
            do = "write all as epochs, such as (10, 20, 30), or all as fractions"
            raise RecipeError(f"StepDecay.milestones is {self.milestones}", why=why, do=do)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        passed = torch.zeros_like(step)
        step = step.clamp(max=plan.steps)
        for milestone in self.milestones:
            steps = plan.steps if milestone < 1 else plan.per_epoch
            passed = passed + (step >= milestone * steps)
        return _power(self.gamma, passed)


@part
class EveryK(_Scheduled):
    """gamma^⌊t / epochs⌋: by default halved every ten epochs."""

    epochs: Number = setting(default=10.0, gt=0)
    gamma: Number = setting(default=0.5, gt=0)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        passed = torch.floor(_epochs(step, plan) / _column(self.epochs) + CYCLE_TOLERANCE)
        return _power(self.gamma, passed)


@part
class Exponential(_Scheduled):
    """e^(−k t), t in epochs."""

    k: Number = setting(default=0.05, ge=0)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return torch.exp(-_column(self.k) * _epochs(step, plan))


@part
class InverseTime(_Scheduled):
    """1 / (1 + k t), t in epochs."""

    k: Number = setting(default=0.1, ge=0)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return 1 / (1 + _column(self.k) * _epochs(step, plan))


@part
class Linear(_Scheduled):
    """From 1 in a straight line to `minimum` at the end of the run."""

    minimum: Number = setting(default=0.0, ge=0, le=1)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return _interpolate(1 - _progress(step, plan), self.minimum)


@part
class Polynomial(_Scheduled):
    """minimum + (1 − minimum) (1 − p)^power."""

    power: Number = setting(default=2.0, gt=0)
    minimum: Number = setting(default=0.0, ge=0, le=1)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        height = torch.exp(_column(self.power) * torch.log(1 - _progress(step, plan)))
        return _interpolate(height, self.minimum)


@part
class Cosine(_Scheduled):
    """minimum + (1 − minimum) (1 + cos πp) / 2: one half-wave over the run."""

    minimum: Number = setting(default=0.0, ge=0, le=1)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return _interpolate(_half_wave(_progress(step, plan)), self.minimum)


@part
class FlatCosine(_Scheduled):
    """1 for the share `flat` of the run, then a cosine to 0."""

    flat: Number = setting(default=0.5, ge=0, lt=1)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        flat = _column(self.flat)
        return _half_wave(((_progress(step, plan) - flat) / (1 - flat)).clamp(0, 1))


@part
class SGDR(_Scheduled):
    """Cosines with warm restarts: each cycle falls from 1 to `minimum` (Loshchilov & Hutter 2017).

    The first cycle takes `epochs`, each further one `times` as long. The rate falls every step.
    """

    epochs: Number = setting(default=10.0, gt=0)
    times: Number = setting(default=2.0, ge=1)
    minimum: Number = setting(default=0.0, ge=0, le=1)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        first, times = _column(self.epochs), _column(self.times)
        cycles = _epochs(step, plan) / first  # in units of the first cycle
        grows = times > 1
        ratio = torch.where(grows, times, 2.0)
        number = torch.where(grows, torch.log1p(cycles * (ratio - 1)) / torch.log(ratio), cycles)
        number = torch.floor(number + CYCLE_TOLERANCE)
        length = torch.where(grows, _power(ratio, number), 1.0)
        start = torch.where(grows, (length - 1) / (ratio - 1), number)
        return _interpolate(_half_wave(((cycles - start) / length).clamp(0, 1)), self.minimum)


@part
class Cyclical(_Scheduled):
    """From `minimum` up to 1 in `epochs` and down again, in straight lines, repeated (Smith 2017).

    "triangular2" halves the height of each further cycle.
    """

    epochs: Number = setting(default=4.0, gt=0)
    minimum: Number = setting(default=0.1, ge=0, le=1)
    form: Literal["triangular", "triangular2"] = "triangular"

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        halves = _epochs(step, plan) / _column(self.epochs)
        cycle = torch.floor(halves / 2 + CYCLE_TOLERANCE)
        height = (1 - (halves - 2 * cycle - 1).abs()).clamp(0, 1)
        if self.form == "triangular2":
            height = height * _power(0.5, cycle)
        return _interpolate(height, self.minimum)


@part
class OneCycle(_Scheduled):
    """From 1/div up to 1 and down to 1/(div · final_div), by half cosines (Smith 2018).

    The way up takes the share `rise` of the run. The steps are those of torch's OneCycleLR: the
    last step of the run has the smallest rate. The momentum is not changed (there:
    `cycle_momentum=False`).
    """

    rise: Number = setting(default=0.3, gt=0, lt=1)
    div: Number = setting(default=25.0, ge=1)
    final_div: Number = setting(default=1e4, ge=1)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        last = plan.steps - 1
        peak = (_column(self.rise) * plan.steps - 1).clamp(min=0)
        start = 1 / _column(self.div)
        end = start / _column(self.final_div)
        rising = (step / peak.clamp(min=1e-300)).clamp(0, 1)  # a peak at step 0: nothing rises
        falling = ((step - peak) / (last - peak).clamp(min=1e-300)).clamp(0, 1)
        up = _interpolate(_half_wave(1 - rising), start)
        down = _interpolate(_half_wave(falling), end)
        return torch.where(step <= peak, torch.where(peak > 0, up, 1.0), down)


@part
class WarmupStableDecay(_Scheduled):
    """Up in a straight line, constant, down to `minimum` (Hu et al. 2024; Hägele et al. 2024).

    `warmup` and `cooldown` are fractions of the run. Down goes "linear" or "sqrt": 1 − √(share of
    the cooldown).
    """

    warmup: Number = setting(default=0.05, ge=0, lt=1)
    cooldown: Number = setting(default=0.2, gt=0, le=1)
    minimum: Number = setting(default=0.0, ge=0, le=1)
    form: Literal["linear", "sqrt"] = "linear"

    def check(self) -> None:
        if self.warmup + self.cooldown > 1:
            what = f"WarmupStableDecay has warmup {self.warmup:g} and cooldown {self.cooldown:g}"
            raise RecipeError(what, why="both are shares of one run", do="make their sum at most 1")

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        warm = _column(self.warmup) * plan.steps
        up = ((step + 1) / warm.clamp(min=1)).clamp(0, 1)  # the first step already moves
        cooldown = _column(self.cooldown)
        share = ((_progress(step, plan) - (1 - cooldown)) / cooldown).clamp(0, 1)
        height = 1 - (share if self.form == "linear" else share.sqrt())
        return up * _interpolate(height, self.minimum)


@part
class InverseSqrt(_Scheduled):
    """min((step + 1) / w, √(w / (step + 1))), w the steps in `epochs`, where the peak of 1 is.

    Vaswani et al. 2017.
    """

    epochs: Number = setting(default=1.0, gt=0)

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        share = (step.clamp(max=plan.steps) + 1) / (_column(self.epochs) * plan.per_epoch)
        return torch.minimum(share, share.rsqrt())


@part
class Coslog4(_Scheduled):
    """½ (1 − cos(2π log2(1 + 15 p))): four waves, ever longer (Holzmüller et al. 2024)."""

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        waves = 2 * math.pi / math.log(2) * torch.log1p(15 * _progress(step, plan))
        return 0.5 * (1 - torch.cos(waves))


@part
class WarmUp:
    """Multiplies another schedule by a line from `first` to 1 in `epochs` (or `steps`, if given).

    `then` starts with the run, not after the warm-up: as torch's ChainedScheduler.
    """

    acts: ClassVar[Effect] = Effect(
        "warm-up", "rise of the learning rate above its first value, as a share"
    )
    epochs: Number = setting(default=1.0, gt=0)
    steps: int | None = setting(default=None, ge=1)
    first: Number = setting(default=0.01, ge=0, lt=1)
    then: Schedule = Constant()

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        length = _column(self.epochs) * plan.per_epoch if self.steps is None else float(self.steps)
        rise = _interpolate((step.clamp(max=plan.steps) / length).clamp(0, 1), self.first)
        return rise * self.then.factor(step, plan)

    # like every schedule that holds another, it answers to the validation score if the other does
    @property
    def on(self) -> str | None:
        return getattr(self.then, "on", None)

    def start(self, networks: int) -> State:
        return self.then.start(networks) if isinstance(self.then, ReactiveSchedule) else {}

    def observe(self, score: Column, state: State) -> State:
        return self.then.observe(score, state) if isinstance(self.then, ReactiveSchedule) else state


@part
class ReduceOnPlateau(_Scheduled):
    """Multiplies by `gamma` if a value has not improved for more than `patience` evaluations.

    `on` is the value: the validation "loss", or the task's "score" (accuracy, R²); None is what
    early stopping judges by, the loss without it. After a reduction `cooldown` evaluations do not
    count; `minimum` is the lowest factor. An improvement must exceed `threshold`, "relative" to the
    best or "absolute". Decides as torch's ReduceLROnPlateau does, without its `eps`, which skips
    reductions of less than 1e-8. NaN never improves.
    """

    gamma: Number = setting(default=0.1, gt=0, lt=1)
    patience: Number = setting(default=10.0, ge=0)
    cooldown: Number = setting(default=0.0, ge=0)
    minimum: Number = setting(default=0.0, ge=0, le=1)
    threshold: Number = setting(default=1e-4, ge=0)
    form: Literal["relative", "absolute"] = "relative"
    on: Literal["loss", "score"] | None = None

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return torch.ones_like(step)

    def start(self, networks: int) -> State:
        zeros = torch.zeros(networks, 1, dtype=torch.float64)
        state = {"factor": zeros + 1, "best": zeros + math.inf}
        return state | {"stale": zeros, "resting": zeros.clone()}

    def observe(self, score: Column, state: State) -> State:
        score = score.double()
        better = score < self._bar(state["best"])
        stale = torch.where(better | (state["resting"] > 0), 0.0, state["stale"] + 1)
        reduce = stale > _column(self.patience)
        lower = torch.maximum(state["factor"] * _column(self.gamma), _column(self.minimum))
        rested = (state["resting"] - 1).clamp(min=0)
        return {
            "factor": torch.where(reduce, lower, state["factor"]),
            "best": torch.where(better, score, state["best"]),
            "stale": torch.where(reduce, 0.0, stale),
            "resting": torch.where(reduce, _column(self.cooldown), rested),
        }

    def _bar(self, best: Column) -> Column:
        """What a score must be below to count; negated ones must get better by it, too."""
        threshold = _column(self.threshold)
        if self.form == "absolute":
            return best - threshold
        return best * torch.where(best > 0, 1 - threshold, 1 + threshold)


def _column(number: Number) -> Tensor:
    """A Number as float64 [1, 1] or [P, 1]: a float and a column take the same operations."""
    return torch.as_tensor(number, dtype=torch.float64).reshape(-1, 1)


def _epochs(step: Tensor, plan: Plan) -> Tensor:
    """t, at most the length of the run."""
    return step.clamp(max=plan.steps) / plan.per_epoch


def _progress(step: Tensor, plan: Plan) -> Tensor:
    """p, from 0 at the first step to 1 after the last."""
    return (step / max(plan.steps, 1)).clamp(max=1)


def _half_wave(share: Tensor) -> Tensor:
    """(1 + cos π share) / 2: from 1 to 0 as the share goes from 0 to 1."""
    return 0.5 * (1 + torch.cos(math.pi * share))


def _interpolate(height: Tensor, minimum: Number) -> Tensor:
    """minimum + (1 − minimum) height."""
    least = _column(minimum)
    return least + (1 - least) * height


def _power(base: Number, exponent: Tensor) -> Tensor:
    """base^exponent as e^(exponent log base): torch's power rounds a buffer's end differently."""
    return torch.exp(exponent * torch.log(_column(base)))


ALL = (
    (Constant, StepDecay, EveryK)
    + (Exponential, InverseTime, Linear, Polynomial, Cosine, FlatCosine)
    + (SGDR, Cyclical, OneCycle, Coslog4)
    + (WarmUp, WarmupStableDecay, InverseSqrt, ReduceOnPlateau)
)

"""Problems that are functions: the lectures' surfaces, and the deep quadratic of DeepOBS.

Optimizers descend them by their own rule, a row for each start. Scores are log10 of the height that
is left above the minimum after a budget of gradients, on the saddle the gradients until it is left;
lower is better. Letters: P walkers, W coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.optimizers.spaces import rate_of
from ravine.effects import Meter
from ravine.layout import Column, Layout, Rows, Slot
from ravine.part import stack
from ravine.probes.curvature import Objective
from ravine.protocols import (
    HasEvalWeights,
    Optimizer,
    Plan,
    ReactiveSchedule,
    Schedule,
    SearchOptimizer,
    StepContext,
)
from ravine.rng import stream
from ravine.studies.tuned_rate import RateResult
from ravine.training.loop import BatchObjective
from ravine_gallery.surfaces import Surface

LEAST_HEIGHT = 1e-12  # of what is left above a minimum: below, it is found
START_SPREAD = 0.1  # the SD of starts around a surface's own
# the quadratic of DeepOBS (Schneider, Balles & Hennig 2019), section 3: like a deep network's, its
# Hessian has many small eigenvalues and a few large ones (Sagun et al. 2016; Chaudhari et al. 2017)
QUADRATIC_WIDTH, LARGE_EIGENVALUES = 100, 10
SMALL_RANGE, LARGE_RANGE = (0.0, 1.0), (30.0, 60.0)
QUADRATIC_NOISE, QUADRATIC_BATCH = 0.6, 128
LINE_SEARCH = "line search"  # under this name Lbfgs reports its further evaluations


@dataclass(frozen=True)
class Descent:
    """A function to descend with a budget of gradients.

    `value` is the expected loss of rows [P, W], `[P]`, whose minimum is 0 (the saddle has none);
    `at_step(step, seeds)` the loss that a step sees, with what is drawn for it.
    """

    name: str
    about: str
    value: Callable[[Tensor], Tensor]
    start: Callable[[Sequence[int]], Rows]
    at_step: Callable[[int, Sequence[int]], Callable[[Tensor], Tensor]]
    gradients: int
    left: Callable[[Tensor], Tensor] | None = None  # on a saddle: which rows [P, W] have left it
    takes_schedules: bool = False
    epochs: ClassVar[int] = 20  # so many lengths of a schedule's unit are the budget
    higher_is_better: ClassVar[bool] = False
    has_networks: ClassVar[bool] = False

    @property
    def metric(self) -> str:
        """What the score is."""
        return "gradients to leave" if self.left else "log10 of the height left"

    @property
    def constant(self) -> float:
        """The score of whoever does not move."""
        if self.left:
            return float(self.gradients)
        return self._score(self.value(self.start([0]))).item()

    @property
    def test_constant(self) -> float:
        """The same: nothing is held out here."""
        return self.constant

    def buys_step(self, rule: Optimizer) -> bool:
        """Whether the budget is enough for one step of a rule."""
        return _gradients_of(rule, self.start([0]).shape[1]) <= self.gradients

    def tune(
        self, rules: Sequence[Optimizer], schedule: Schedule, seeds: Sequence[int]
    ) -> list[RateResult]:
        """What each rule reaches from the starts of some seeds."""
        scores = self.test(rules, schedule, seeds)
        results = []
        for rule, each in zip(rules, scores, strict=True):
            ended = [score for score in each if not math.isnan(score)] or [math.nan]
            mean, failures = float(np.mean(ended)), sum(map(math.isnan, each))
            spent = self.gradients * len(seeds)
            results.append(RateResult(rate_of(rule), mean, mean, failures, spent))
        return results

    def test(
        self, rules: Sequence[Optimizer], schedule: Schedule, seeds: Sequence[int]
    ) -> list[tuple[float, ...]]:
        """The score of each rule from the start of each seed, NaN where it diverged: its place or
        its height is not finite, or it is higher than at the start.
        """
        walkers = [seed for _ in rules for seed in seeds]
        many: Any = stack([rule for rule in rules for _ in seeds])
        start = self.start(walkers)
        rows, gone = self._walk(many, start, walkers, schedule)
        height = self.value(rows)
        if self.left:
            scores = torch.where(rows.isfinite().all(1) | (gone < self.gradients), gone, math.nan)
        else:
            fine = height.isfinite() & (height <= self.value(start))
            scores = torch.where(fine, self._score(height), math.nan)
        return [tuple(each) for each in scores.view(len(rules), len(seeds)).tolist()]

    def _score(self, height: Tensor) -> Tensor:
        return height.clamp_min(LEAST_HEIGHT).log10()

    def _walk(
        self, rule: Any, start: Rows, seeds: Sequence[int], schedule: Schedule
    ) -> tuple[Rows, Tensor]:
        """Where the walkers end, and after how many gradients they left the saddle.

        A walker whose next step would exceed the budget waits; the last line search may.
        """
        rows = start.clone()
        # a "bias": coordinates are no weights that decay should pull to 0
        layout = Layout((Slot(name="place", shape=(rows.shape[1],), role="bias"),))
        mask, state = layout.decay_mask(dtype=rows.dtype), rule.start(rows)
        cost = _gradients_of(rule, rows.shape[1])
        spent = rows.new_zeros(len(rows))
        gone = rows.new_full((len(rows),), float(self.gradients))
        plan = Plan(self.gradients, max(1, self.gradients // self.epochs))
        reactive: Any = schedule if isinstance(schedule, ReactiveSchedule) else None
        memory = {} if reactive is None else reactive.start(len(rows))
        for step in range(1, self.gradients // cost + 1):
            goes_on = spent + cost <= self.gradients
            if not bool(goes_on.any()):
                break
            loss = self.at_step(step, seeds)
            objective = Objective.of_rows(loss, width=rows.shape[1])
            first = objective.value_and_grad(rows)
            factor = schedule.factor(torch.tensor([[step - 1.0]], dtype=torch.float64), plan)
            factor = factor * memory["factor"] if memory else float(factor)
            meter = Meter(len(rows))
            now = StepContext(step, factor, mask, layout, meter=meter)
            if isinstance(rule, SearchOptimizer):
                new, state = rule.search(rows, BatchObjective(objective, first), state, now)
            else:
                new, state = rule.update(rows, first.grads, state, now)
            rows = torch.where(goes_on[:, None], new, rows)
            further = meter.means().get(LINE_SEARCH, torch.zeros_like(spent))
            spent = spent + torch.where(goes_on, cost + further, 0.0)
            here = _eval_rows(rule, rows, state)
            if reactive is not None and memory and step % plan.per_epoch == 0:
                memory = reactive.observe(self.value(here)[:, None], memory)
            if self.left:
                gone = torch.where(self.left(here) & (gone == self.gradients), spent, gone)
        return _eval_rows(rule, rows, state), gone.clamp_max(self.gradients)


def _gradients_of(rule: Any, width: int) -> int:
    """How many gradients a step takes: a Hessian is as many products with vectors as the function
    has coordinates, and a product costs about as much as a gradient.
    """
    return 1 + width if isinstance(rule, SearchOptimizer) and hasattr(rule, "damping") else 1


def _eval_rows(rule: Any, rows: Rows, state: Any) -> Rows:
    return rule.eval_weights(rows, state) if isinstance(rule, HasEvalWeights) else rows


def surface_descent(surface: Surface, gradients: int) -> Descent:
    """The descent of a surface of the lectures, from starts around its own."""
    saddle = not surface.minima
    least = 0.0 if saddle else surface.minimum

    def start(seeds: Sequence[int]) -> Rows:
        draws = [
            torch.randn(2, generator=stream(seed, f"start on {surface.name}"), dtype=torch.float64)
            for seed in seeds
        ]
        # on the saddle the small coordinate keeps its size: it decides how long leaving takes
        spread = torch.tensor([START_SPREAD, 0.0 if saddle else START_SPREAD], dtype=torch.float64)
        return surface.start_rows(len(seeds)) + spread * torch.stack(draws)

    def value(rows: Tensor) -> Tensor:
        return surface.value(rows) - least

    def has_left(rows: Rows) -> Tensor:
        return (rows[:, 1].abs() > 1) & (rows[:, 0].abs() < 3)

    about = f"{surface.formula}, {gradients} exact gradients"
    left = has_left if saddle else None
    return Descent(
        surface.name, about, value, start, lambda step, seeds: value, gradients, left=left
    )


def quadratic_hessian() -> Tensor:
    """Q = R diag(λ) Rᵀ [W, W]: 90 eigenvalues from 0 to 1 and 10 from 30 to 60, evenly drawn, and a
    random rotation (Haar), always the same.

    >>> values = torch.linalg.eigvalsh(quadratic_hessian())
    >>> int((values < 1).sum()), int(((values > 30) & (values < 60)).sum())
    (90, 10)
    """
    generator = stream(42, "deep quadratic")
    share = torch.rand(QUADRATIC_WIDTH, generator=generator, dtype=torch.float64)
    low, high = torch.tensor([SMALL_RANGE, LARGE_RANGE], dtype=torch.float64).T
    place = (torch.arange(QUADRATIC_WIDTH) < LARGE_EIGENVALUES).long()
    values = low[place] + share * (high - low)[place]
    size = (QUADRATIC_WIDTH, QUADRATIC_WIDTH)
    q, r = torch.linalg.qr(torch.randn(size, generator=generator, dtype=torch.float64))
    rotation = q * r.diagonal().sign()
    return (rotation * values) @ rotation.T


def deep_quadratic(gradients: int) -> Descent:
    """The noisy quadratic problem of DeepOBS, `quadratic_deep`.

        L(θ) = E ½ (θ − x)ᵀ Q (θ − x),      x ~ N(0, 0.6² I), in batches of 128; θ starts at 1

    L is ½ θᵀ Q θ above its minimum, ½ · 0.6² tr Q. A batch's loss has the gradient Q (θ − x̄).
    """
    hessian = quadratic_hessian()

    def value(rows: Tensor) -> Tensor:
        return 0.5 * (rows * (rows @ hessian)).sum(1)

    def start(seeds: Sequence[int]) -> Rows:
        return torch.ones(len(seeds), QUADRATIC_WIDTH, dtype=torch.float64)

    def at_step(step: int, seeds: Sequence[int]) -> Callable[[Tensor], Tensor]:
        drawn = {
            seed: torch.randn(
                QUADRATIC_WIDTH, generator=stream(seed, "noise", step), dtype=torch.float64
            )
            for seed in dict.fromkeys(seeds)
        }
        noise = torch.stack([drawn[seed] for seed in seeds])
        middle: Column = QUADRATIC_NOISE / math.sqrt(QUADRATIC_BATCH) * noise
        return lambda rows: value(rows - middle)

    about = f"100 coordinates, noisy, {gradients} gradients"
    return Descent("deep_quadratic", about, value, start, at_step, gradients, takes_schedules=True)

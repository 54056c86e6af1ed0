"""A line search with the strong Wolfe conditions for many networks, each with its own bracket.

Along a direction d from w, φ(t) = L(w + t d), a step t is accepted when (Nocedal & Wright, 3.7)

    φ(t) ≤ φ(0) + c1 t φ′(0)        |φ′(t)| ≤ −c2 φ′(0)

In each round every network that still searches tries a step of its own; the others wait. The rules
are algorithms 3.5 and 3.6 of Nocedal & Wright with cubic interpolation and minFunc's safeguards, as
in torch.optim.LBFGS, so that a network takes the same steps as there. Letters: P networks, W
weights; columns are [P, 1].
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ravine.layout import Column, Rows, row_dot
from ravine.protocols import SearchObjective

ARMIJO_FRACTION = 1e-4  # c1 of the slope
CURVATURE_FRACTION = 0.9  # c2 of the slope: both are usual for quasi-Newton directions
MIN_BRACKET_WIDTH = 1e-9  # a bracket within which no weight moves further than this is closed


class TrialStep(NamedTuple):
    """A step along the direction: t, φ(t) and φ′(t), columns."""

    t: Column
    value: Column
    slope: Column


class AcceptedSteps(NamedTuple):
    """The steps to take (0: none), and how many evaluations each network's search took."""

    t: Column
    evaluations: Column


def strong_wolfe(
    objective: SearchObjective,
    rows: Rows,
    direction: Rows,
    *,
    first: Column,
    wanted: Tensor,
    tries: int,
) -> AcceptedSteps:
    """Steps for the networks that are `wanted` [P, 1], starting with `first`; the others stay.

    After `tries` evaluations the best step so far is used, which may be 0. A loss that is not
    finite counts as too large (torch would go on), so that an explosion shortens the step.
    """
    slope = row_dot(objective.first.grads, direction)
    start = TrialStep(torch.zeros_like(first), objective.first.losses, slope)
    reach = direction.abs().amax(1, keepdim=True)
    active = wanted
    bracketed = stalled = torch.zeros_like(wanted)
    # the step before, while walking on; the bracket's ends, low the one with the least loss
    before = low = high = start
    t = torch.where(wanted, first, 0.0)
    count = torch.zeros_like(first)
    for done in range(tries):
        if not bool(active.any()):
            break
        here = _try_step(objective, rows, direction, t)
        count = count + active.to(count)
        walking, closing = active & ~bracketed, active & bracketed
        above = here.value > start.value + ARMIJO_FRACTION * here.t * start.slope
        flat = here.slope.abs() <= -CURVATURE_FRACTION * start.slope
        # walk on until a step is too long
        long = above | (here.value >= before.value) if done > 1 else above
        opened = walking & (long | (~flat & (here.slope >= 0)))
        worse = opened & (before.value <= here.value)
        # draw the bracket together
        rejected = closing & (above | (here.value >= low.value))
        accepted = closing & ~rejected
        turned = accepted & ~flat & (here.slope * (high.t - low.t) >= 0)
        swapped = rejected & (here.value < low.value)
        ends = low, high
        low = _either(worse, before, _either(walking | accepted | swapped, here, ends[0]))
        high = _either(turned | swapped, ends[0], ends[1])
        high = _either(worse | (rejected & ~swapped), here, high)
        high = _either(opened & ~worse, before, high)
        # who goes on, and where
        bracketed = bracketed | opened
        active = active & ~((walking & ~long & flat) | (accepted & flat))
        active = active & ~(bracketed & ((high.t - low.t).abs() * reach < MIN_BRACKET_WIDTH))
        inside, stalled = _step_inside(low, high, stalled)
        # or a longer step: 1 % to ten times further
        beyond = _cubic(before, here, here.t + 0.01 * (here.t - before.t), 10 * here.t)
        t = torch.where(active, torch.where(bracketed, inside, beyond), low.t)
        before = _either(walking & ~opened, here, before)
    return AcceptedSteps(torch.where(wanted, low.t, 0.0), count)


def _try_step(objective: SearchObjective, rows: Rows, direction: Rows, t: Column) -> TrialStep:
    losses, grads = objective.value_and_grad(rows + t * direction)
    slope = row_dot(grads, direction)
    return TrialStep(t, torch.where(losses.isfinite() & slope.isfinite(), losses, torch.inf), slope)


def _step_inside(low: TrialStep, high: TrialStep, stalled: Tensor) -> tuple[Column, Tensor]:
    """A step inside the bracket; one close to an end twice in a row is moved a tenth of it away."""
    least, most = torch.minimum(low.t, high.t), torch.maximum(low.t, high.t)
    t = _cubic(low, high, least, most)
    tenth = 0.1 * (most - least)
    close = torch.minimum(most - t, t - least) < tenth
    moved = close & (stalled | (t >= most) | (t <= least))
    away = torch.where((t - most).abs() < (t - least).abs(), most - tenth, least + tenth)
    return torch.where(moved, away, t), close & ~moved


def _cubic(one: TrialStep, other: TrialStep, least: Column, most: Column) -> Column:
    """The minimum within bounds of the cubic by values and slopes (Nocedal & Wright 3.59).

    The middle of the bounds where there is no minimum, or it is not finite.
    """
    first = one.t <= other.t
    a, b = _either(first, one, other), _either(first, other, one)
    d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = d1**2 - a.slope * b.slope
    d2 = square.clamp_min(0).sqrt()
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    inner = torch.minimum(torch.maximum(t, least), most)
    return torch.where((square >= 0) & t.isfinite(), inner, (least + most) * 0.5)


def _either(here: Tensor, one: TrialStep, other: TrialStep) -> TrialStep:
    return TrialStep(*(torch.where(here, a, b) for a, b in zip(one, other, strict=True)))

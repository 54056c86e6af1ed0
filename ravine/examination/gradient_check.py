"""The gradient of a recipe's training against finite differences of its loss.

Letters: P networks, W weights.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ravine.data import Examples, Task
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.recipe_rules import ESTIMATED_ERROR, GradientError
from ravine.layout import Rows
from ravine.optimizers import SGD
from ravine.protocols import Batch
from ravine.recipe import Recipe
from ravine.rng import stream
from ravine.training.cohort import Cohort, Job, start_cohort
from ravine.training.defaults import training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.loop import augment_batch, forward_context, gradients, manual_gradients

GRADIENT_EXAMPLES = 32
GRADIENT_NETWORKS = 2
RANDOM_DIRECTIONS = 3  # beside the gradient's own
START_DISTANCE = 1e-3  # from the start to where gradients are checked, over the weights' spread
FIRST_STEP, STEP_RATIO, STEP_COUNT = 1e-4, 0.25, 11  # of differences, over the weights' length
LOSS_ROUNDING = 4 * torch.finfo(torch.float64).eps  # of a difference of two losses, over the loss

GradientAt: TypeAlias = Callable[[Rows], tuple[Tensor, Rows]]


def measure_gradient(recipe: Recipe, task: Task) -> GradientError | None:
    """The gradient that training would use against central differences of its loss, in float64.
    Compared is ⟨g, d⟩ with D(h) = (L(w + h d) − L(w − h d)) / 2h for directions d of length 1: the
    gradient's own, and random ones scaled by √W, so that ⟨g, d⟩ is about |g|. D(h) counts where its
    estimated error is small; where weights are large or a kink is near, that takes a small h. The
    weights are those of the start, moved a little: biases of 0 can put rectifiers exactly at their
    kink. None where the loss is not finite, or its gradient is not or is 0.
    """
    batch = evenly_spaced(task.train, GRADIENT_EXAMPLES)
    with exact_arithmetic():
        cohort = _float64_cohort(recipe, task, batch.count)
        spread = cohort.weights.std(1, correction=0, keepdim=True)
        offset = _random_direction(cohort.weights, recipe.seed, 0)
        weights = cohort.weights + START_DISTANCE * spread * offset
        at = loss_and_gradient(cohort, batch)
        losses, grads = at(weights)
        lengths = grads.norm(dim=1, keepdim=True)
        if not bool((losses.isfinite() & lengths.isfinite() & (lengths > 0)).all()):
            return None
        draws = range(1, RANDOM_DIRECTIONS + 1)
        others = (_random_direction(weights, recipe.seed, k) for k in draws)
        errors = [difference_errors(at, weights, d) for d in (grads / lengths, *others)]
    known = [error for each in errors for error in each.flatten().tolist() if error < math.inf]
    most = max(known, default=None)
    return GradientError(difference=most, networks=GRADIENT_NETWORKS, examples=batch.count)


def _float64_cohort(recipe: Recipe, task: Task, batch: int) -> Cohort:
    """Fresh networks of a recipe in float64; what changes gradients after they are made is off."""
    bare = dataclasses.replace(recipe, tuning=(), average=None, clip=None)
    bare = dataclasses.replace(bare, precision="float64", optimizer=SGD(lr=0.1))
    return start_cohort(
        Job(
            recipes=(bare,) * GRADIENT_NETWORKS,
            seeds=tuple(range(recipe.seed, recipe.seed + GRADIENT_NETWORKS)),
            signature=task.signature,
            plan=training_plan(bare, task),
            batch=batch,
        )
    )


def loss_and_gradient(cohort: Cohort, examples: Examples) -> GradientAt:
    """Loss [P, 1] and gradient of all networks on a batch, with penalties, of their weights."""
    fields = examples.to("cpu", torch.float64).fields
    batch = Batch(*(None if t is None else t[None] for t in fields))  # type: ignore[arg-type]
    batch = augment_batch(cohort, batch, None)
    buffers = {name: buffer.clone() for name, buffer in cohort.buffers.items()}

    def at(weights: Rows) -> tuple[Tensor, Rows]:
        cohort.weights.copy_(weights)
        for name, value in buffers.items():
            cohort.buffers[name].copy_(value)
        if cohort.workspace.manual is None:
            context = forward_context(cohort, None)
            outputs = cohort.network(cohort.workspace.leaves, batch, context)
            grads, losses = gradients(cohort, outputs, batch, None)
        else:
            grads, losses = manual_gradients(cohort, batch, None)
        losses = losses.clone()
        grads = grads.clone()
        for penalty in cohort.parts.penalties:
            grads = grads + penalty.gradient(cohort.weights, cohort.workspace.decay_mask, None)
            losses = losses + penalty.value(cohort.weights, cohort.workspace.decay_mask)
        return losses, grads

    return at


def difference_errors(at: GradientAt, weights: Rows, direction: Rows) -> Tensor:
    """The difference of each network's slope along a direction from finite differences, over the
    gradient's length, [P, 1]; ∞ where no step gives these with a small estimated error. The
    estimated error of D(h) is |D(4h) − D(h)|, as in Ridders (1982), and what the kinks between w ±
    h d may add: the forward less the backward difference, S(h) / h, is a fourth of that at 4h where
    the loss is smooth, and stays where there is a kink. The rounding of the losses comes on top. Of
    several such h the one that comes nearest counts.
    """
    losses, grads = at(weights)
    lengths = grads.norm(dim=1, keepdim=True)
    slope = (grads * direction).sum(1, keepdim=True)
    length = weights.norm(dim=1, keepdim=True)
    scale = torch.where(length > 0, length, 1.0) / direction.norm(dim=1, keepdim=True)
    nearest = torch.full_like(slope, math.inf)
    before = bend_before = nearest
    for k in range(STEP_COUNT):
        h = FIRST_STEP * STEP_RATIO**k * scale
        high, low = at(weights + h * direction)[0], at(weights - h * direction)[0]
        difference, bend = (high - low) / (2 * h), (high - 2 * losses + low) / h
        rounding = LOSS_ROUNDING * high.abs().maximum(low.abs()) / h
        changes = (difference - before).abs() + (bend - STEP_RATIO * bend_before).abs()
        known = (changes + rounding) / lengths < ESTIMATED_ERROR
        error = (slope - difference).abs() / lengths
        nearest = torch.where(known & (error < nearest), error, nearest)
        before, bend_before = difference, bend
        if bool((nearest < ESTIMATED_ERROR).all()):
            break
    return nearest


def _random_direction(like: Rows, seed: int, k: int) -> Rows:
    """Normal numbers with the shape of some rows, the same for all networks."""
    drawn = torch.randn(like.shape[1], generator=stream(seed, "directions", k), dtype=torch.float64)
    return drawn.expand_as(like)

"""The gradient of a recipe's training against finite differences of its loss.

Letters: P networks, W weights.
"""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ravine.data import Examples, Task
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.recipe_rules import GradientError
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
DIFFERENCE_STEPS = (1e-5, 1e-6, 1e-7)  # of finite differences, relative to the weights' length

GradientAt: TypeAlias = Callable[[Rows], tuple[Tensor, Rows]]


def measure_gradient(recipe: Recipe, task: Task) -> GradientError | None:
    """The gradient that training would use against central differences of its loss, in float64.

    The error is |⟨g, d⟩ − (L(w + h d) − L(w − h d)) / 2h| / |g| for directions d of length 1: the
    gradient's own, and random ones scaled by √W, so that ⟨g, d⟩ is about |g|; the best h counts.
    The weights are those of the start, moved a little: biases of 0 can put rectifiers exactly at
    their kink. None where the loss is not finite, or its gradient is not or is 0.
    """
    batch = evenly_spaced(task.train, GRADIENT_EXAMPLES)
    with exact_arithmetic():
        cohort = _float64_cohort(recipe, task, batch.count)
        spread = cohort.weights.std(1, correction=0, keepdim=True)
        offset = _random_direction(cohort.weights, recipe.seed, 0)
        weights = cohort.weights + START_DISTANCE * spread * offset
        at = _loss_and_gradient(cohort, batch)
        losses, grads = at(weights)
        lengths = grads.norm(dim=1, keepdim=True)
        if not bool((losses.isfinite() & lengths.isfinite() & (lengths > 0)).all()):
            return None
        draws = range(1, RANDOM_DIRECTIONS + 1)
        others = (_random_direction(weights, recipe.seed, k) for k in draws)
        errors = [_difference_error(at, weights, grads, d) for d in (grads / lengths, *others)]
    return GradientError(difference=max(errors), networks=GRADIENT_NETWORKS, examples=batch.count)


def _float64_cohort(recipe: Recipe, task: Task, batch: int) -> Cohort:
    """Fresh networks of a recipe in float64; what changes gradients after they are made is off."""
    bare = dataclasses.replace(
        recipe, precision="float64", optimizer=SGD(lr=0.1), tuning=(), average=None, clip=None
    )
    return start_cohort(
        Job(
            recipes=(bare,) * GRADIENT_NETWORKS,
            seeds=tuple(range(recipe.seed, recipe.seed + GRADIENT_NETWORKS)),
            signature=task.signature,
            plan=training_plan(bare, task),
            batch=batch,
        )
    )


def _loss_and_gradient(cohort: Cohort, examples: Examples) -> GradientAt:
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


def _difference_error(at: GradientAt, weights: Rows, grads: Rows, direction: Rows) -> float:
    """The largest difference, over networks, of the slope along a direction from finite
    differences, over the gradient's length; at the best of several steps.
    """
    slope = (grads * direction).sum(1, keepdim=True)
    length = weights.norm(dim=1, keepdim=True).clamp_min(1.0)
    errors = []
    for step in DIFFERENCE_STEPS:
        h = step * length / direction.norm(dim=1, keepdim=True)
        difference = (at(weights + h * direction)[0] - at(weights - h * direction)[0]) / (2 * h)
        errors.append(float(((slope - difference).abs() / grads.norm(dim=1, keepdim=True)).max()))
    return min(errors)


def _random_direction(like: Rows, seed: int, k: int) -> Rows:
    """Normal numbers with the shape of some rows, the same for all networks."""
    drawn = torch.randn(like.shape[1], generator=stream(seed, "directions", k), dtype=torch.float64)
    return drawn.expand_as(like)

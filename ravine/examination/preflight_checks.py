"""Checks of a recipe itself before training: its penalties, and a small batch.

Each function measures one thing, or returns None where it does not apply; the rules that read the
measurements stand in `ravine.diagnosis.recipe_rules`. Letters: P networks, W weights, N examples.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ravine.data import Examples, Task
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.recipe_rules import LEARNED_LOSS, OverfitAttempt, PenaltyEffect, SmallBatchFit
from ravine.examination.first_steps import measure_first_steps
from ravine.examination.gradient_check import measure_gradient
from ravine.networks.batched import BatchedNetwork
from ravine.part import stack
from ravine.penalties import L1, L2, ElasticNet
from ravine.recipe import Recipe, lr_path
from ravine.record import Record
from ravine.schedules import Constant
from ravine.serialization import replace_everywhere
from ravine.training.evaluation import constant_loss
from ravine.training.train import train_on

RecipeCheck: TypeAlias = Callable[[Recipe, Task], object]
PENALTY_NETWORKS = 4  # fresh ones, whose weights are penalized
STRENGTH_FACTORS = (0.0, 1.0, 10.0, 100.0)  # of a penalty's strength
SMALL_BATCH_EXAMPLES = 16
OVERFIT_NETWORKS = 2
OVERFIT_STEPS = 600  # in which they must be overfit
QUICK_OVERFIT_STEPS = 100  # in which most are
RATE_FACTORS = ((1.0,), (0.1, 10.0), (100.0, 0.01, 1000.0, 0.001))  # each where none before learns


def measure_penalties(recipe: Recipe, task: Task) -> PenaltyEffect | None:
    """What the penalties add to the loss of fresh networks, at several times their strength. Their
    formulas are worked out here once more, weight matrix by weight matrix in float64, biases and
    scales left out.
    """
    if not recipe.penalties:
        return None
    built = BatchedNetwork(stack([recipe] * PENALTY_NETWORKS).network, task.signature)
    weights, _ = built.start([recipe.seed + i for i in range(PENALTY_NETWORKS)])
    weights = weights.double()
    decay_mask = built.layout.decay_mask(dtype=torch.float64)
    tensors = built.layout.views(weights)
    matrices = [tensors[s.name].flatten(1) for s in built.layout.slots if s.role == "weight"]
    rises = True
    added, differences = [], []
    for penalty in recipe.penalties:
        part: Any = penalty
        values = []
        for factor in STRENGTH_FACTORS:
            scaled = dataclasses.replace(part, strength=float(part.strength) * factor)
            values.append(scaled.value(weights, decay_mask)[:, 0])
            expected = penalty_by_formula(scaled, matrices)
            if expected is not None:
                error = (values[-1] - expected).abs() / expected.abs().clamp_min(1e-300)
                differences.append(float(error.max()))
        added.append(float(values[1].mean()))
        # nothing to raise where the strength or every weight is 0
        rises = rises and bool((torch.stack(values).diff(dim=0) > 0).all())
    return PenaltyEffect(added=tuple(added), rises=rises, difference=max(differences, default=None))


def penalty_by_formula(penalty: Any, matrices: Sequence[Tensor]) -> Tensor | None:
    """What a penalty adds, [P], from the weight matrices [P, ...] alone; None if unknown here.

    >>> penalty_by_formula(L2(strength=0.5), [torch.tensor([[3.0, 4.0]])])
    tensor([12.5000])
    """
    squares = torch.stack([m.square().sum(1) for m in matrices]).sum(0)
    sizes = torch.stack([m.abs().sum(1) for m in matrices]).sum(0)
    if isinstance(penalty, L2):
        form = {"squared": squares, "half": squares / 2, "norm": squares.sqrt()}[penalty.form]
        return float(penalty.strength) * form
    if isinstance(penalty, L1):
        return float(penalty.strength) * sizes
    if isinstance(penalty, ElasticNet):
        ratio = float(penalty.ratio)
        return float(penalty.strength) * (ratio * squares + (1 - ratio) * sizes)
    return None


# A small batch


def overfit_small_batch(
    recipe: Recipe, task: Task, *, steps: int = OVERFIT_STEPS
) -> SmallBatchFit | None:
    """Train fresh networks on a small batch until their loss is about zero, at most `steps` steps.
    The networks are the recipe's, without what is meant to prevent overfitting (dropout, penalties,
    weight decay, label smoothing, augmentation). All examples are in every step. The learning rate
    is the recipe's; where that fails, a tenth and ten times of it; and then rates far from it, too.
    Examples with equal inputs count once.
    """
    some = evenly_spaced(task.train, 20 * SMALL_BATCH_EXAMPLES)
    batch = _distinct_examples(some, SMALL_BATCH_EXAMPLES)
    assert batch.targets is not None
    if batch.count < 2 or bool((batch.targets == batch.targets[0]).all()):
        return None
    bare = without_regularization(recipe).vary("seeds", OVERFIT_NETWORKS)
    assert bare.loss is not None
    small = dataclasses.replace(task, train=batch, validation=None, test=None)
    constant = constant_loss(bare.loss, batch, task.outputs)
    path = lr_path(bare)
    lr = float(bare.optimizer.lr)

    def train_at(factors: Sequence[float], count: int) -> list[OverfitAttempt]:
        recipes = [bare.vary("epochs", count).vary(path, lr * factor) for factor in factors]
        runs = train_on([small] * len(recipes), recipes, workers=1)
        return [
            _overfit_attempt(run.record, LEARNED_LOSS * constant, lr=lr * factor, factor=factor)
            for factor, run in zip(factors, runs, strict=True)
        ]

    own, *others = RATE_FACTORS
    attempts = train_at(own, min(QUICK_OVERFIT_STEPS, steps))
    if not math.isfinite(attempts[0].steps) and steps > QUICK_OVERFIT_STEPS:
        attempts = train_at(own, steps)
    for factors in others:
        if not any(math.isfinite(attempt.steps) for attempt in attempts):
            attempts += train_at(factors, steps)
    return SmallBatchFit(
        examples=batch.count,
        constant_loss=constant,
        max_steps=steps,
        lr_path=lr_path(recipe),
        attempts=tuple(attempts),
    )


def without_regularization(recipe: Recipe) -> Recipe:
    """The recipe without all that is meant to prevent overfitting, on all examples at a constant
    rate.

    >>> from ravine.catalog import named_recipe
    >>> without_regularization(named_recipe("default")).network.dropout is None
    True
    """
    plain = dataclasses.replace(
        recipe,
        penalties=(),
        augment=(),
        stop=None,
        average=None,
        schedule=Constant(),
        batch="all",
        class_weights="none",
    )
    off = {"dropout": None, "weight_decay": 0.0, "label_smoothing": 0.0, "snapshots": None}
    return replace_everywhere(plain, off)


def _distinct_examples(examples: Examples, count: int) -> Examples:
    """At most `count` examples with different inputs, those with different targets first."""
    assert examples.targets is not None
    inputs: set[bytes] = set()
    by_target: dict[bytes, list[int]] = {}
    for i in range(examples.count):
        key = examples.numbers[i].numpy().tobytes()
        key += b"" if examples.codes is None else examples.codes[i].numpy().tobytes()
        if key not in inputs:
            inputs.add(key)
            by_target.setdefault(examples.targets[i].numpy().tobytes(), []).append(i)
    turns = itertools.zip_longest(*by_target.values())
    order = [place for turn in turns for place in turn if place is not None]
    chosen = examples.take(torch.tensor(sorted(order[:count]), dtype=torch.int64))
    return dataclasses.replace(chosen, weights=None)


def _overfit_attempt(record: Record, limit: float, *, lr: float, factor: float) -> OverfitAttempt:
    """The step at which the last network's loss fell below a limit, and each one's least loss."""
    steps = math.inf
    least = [math.inf]
    series = record.series.get("train/loss")
    if series is not None:
        below = series.values < limit
        least = np.where(np.isfinite(series.values), series.values, np.inf).min(0).tolist()
        if below.any(0).all():
            steps = float(series.steps[below.argmax(0)].max())
    return OverfitAttempt(lr=lr, factor=factor, steps=steps, least_losses=tuple(least))


# by the field of `RecipeProfile`
QUICK_RECIPE_CHECKS: Mapping[str, RecipeCheck] = {"penalty": measure_penalties}
RECIPE_CHECKS: Mapping[str, RecipeCheck] = {
    **QUICK_RECIPE_CHECKS,
    "gradient": measure_gradient,
    "small_batch": overfit_small_batch,
    "first_steps": measure_first_steps,
}

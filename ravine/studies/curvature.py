"""The curvature and the gradient noise of a trained run.

Letters: M members, W weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from ravine.argument_checks import Count, check_arguments
from ravine.data import Examples, TableLike
from ravine.errors import DataError, RunError
from ravine.layout import Column, Rows
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers.stability import stability_edge
from ravine.part import stack
from ravine.penalties import penalty_sum
from ravine.probes.curvature import (
    Estimate,
    Objective,
    classify_points,
    condition,
    gaussian,
    lanczos,
    ritz,
    trace,
)
from ravine.probes.noise import GradientNoise, gradient_noise, squared_gradient_norms
from ravine.protocols import Batch, Loss, State, StepContext
from ravine.recipe import Recipe
from ravine.rng import stream
from ravine.training.batches import balance_classes, normalize_weights
from ravine.training.defaults import load_task
from ravine.training.run import Run

SplitName: TypeAlias = Literal["train", "validation", "test"]


@dataclass(frozen=True, kw_only=True)
class RunProbe:
    """Networks at fixed weights and examples, in float64: all that probes need."""

    recipe: Recipe
    network: BatchedNetwork
    loss: Loss
    batch: Batch
    buffers: Mapping[str, Tensor]
    rows: Rows  # [M, W]
    objective: Objective

    @property
    def context(self) -> StepContext:
        """That of an optimizer's first step from here, at its full rate."""
        layout, dtype = self.network.layout, self.rows.dtype
        multipliers = layout.lr_multipliers(dtype=dtype)
        return StepContext(1, 1.0, layout.decay_mask(dtype=dtype), layout, multipliers)


def probe_run(
    run: Run, *, split: SplitName = "train", examples: Count = 512, frame: TableLike | None = None
) -> RunProbe:
    """A run's members on (at most) `examples` examples of a split, drawn at random.

    As at test time: no dropout, running statistics. The loss is that of training, with the recipe's
    penalties and class weights. `frame` is the table where the recipe names no source.
    Raises `RunError` where the run has no model or the data are not those of the run, `DataError`
    for empty splits.
    """
    check_arguments(probe_run, locals())
    model = run.require_model()
    recipe = model.recipe
    task = load_task(recipe, frame)
    if task.fingerprint != run.record.task["fingerprint"]:
        why = "they are not those the run was trained on"
        raise RunError("the data have changed", why=why, do="restore the data")
    chosen: Examples | None = task.train_examples if split == "train" else getattr(task, split)
    if chosen is None:
        do = f"choose another split, or train with a {split} split"
        raise DataError(f"the run has no {split} split", do=do)
    if split == "train":
        chosen = normalize_weights(chosen)
        if recipe.class_weights == "balanced":
            chosen, _ = balance_classes(chosen)
    order = torch.randperm(chosen.count, generator=stream(recipe.seed, "probed"))[:examples]
    chosen = chosen.take(order.sort().values).to("cpu", torch.float64)
    batch = Batch(*chosen.map(lambda t: t[None]).fields)
    network = BatchedNetwork(stack([recipe]).network, model.signature)
    loss = recipe.loss
    assert loss is not None  # resolved before training
    buffers = {name: value.double().cpu() for name, value in model.buffers.items()}
    decay_mask = network.layout.decay_mask(dtype=torch.float64)
    penalty = partial(penalty_sum, recipe.penalties, decay_mask=decay_mask)
    more = penalty if recipe.penalties else None
    objective = Objective.of_program(network, loss, batch, buffers=buffers, more=more)
    return RunProbe(
        recipe=recipe,
        network=network,
        loss=loss,
        batch=batch,
        buffers=buffers,
        rows=model.weights.double().cpu(),
        objective=objective,
    )


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """What the loss looks like around each member's weights; columns [M, 1], float64.

    `condition` is of the Ritz values: a lower bound unless `steps` ≥ W. `sharpness` is the largest
    curvature that the optimizer meets, over what is stable at its full rate: above 1 its steps
    grow. None for rules whose edge is not known or depends on their state.
    """

    loss: Column
    gradient: Column
    smallest: Estimate
    largest: Estimate
    condition: Column
    trace: Estimate
    verdicts: list[str]
    noise: GradientNoise
    sharpness: Column | None


def curvature_of(
    run: Run,
    *,
    split: SplitName = "train",
    examples: Count = 512,
    steps: Count = 40,
    flat: float = 1e-4,
    frame: TableLike | None = None,
) -> Curvature:
    """Both ends of each member's spectrum, its trace, kind of point and gradient noise.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)
    >>> curvature_of(ravine.train(recipe)).verdicts
    ['not stationary']
    """
    check_arguments(curvature_of, locals())
    of = probe_run(run, split=split, examples=examples, frame=frame)
    point = of.objective.at(of.rows)
    found = ritz(lanczos(point.product, gaussian(of.rows, 0), steps=steps))
    lengths = squared_gradient_norms(of.network, of.loss, of.rows, of.batch, buffers=of.buffers)
    plain = Batch(of.batch.numbers, of.batch.codes, of.batch.targets)
    unweighted = Objective.of_program(of.network, of.loss, plain, buffers=of.buffers)
    mean = unweighted.value_and_grad(of.rows).grads
    return Curvature(
        loss=point.losses,
        gradient=torch.linalg.vector_norm(point.grads, dim=1, keepdim=True),
        smallest=Estimate(found.smallest, found.errors[:, :1]),
        largest=Estimate(found.largest, found.errors[:, -1:]),
        condition=condition(found.values),
        trace=trace(point),
        verdicts=classify_points(point.grads, found, flat=flat),
        noise=gradient_noise(lengths, mean),
        sharpness=sharpness(of.objective, of.rows, of.recipe.optimizer, of.context, steps=steps),
    )


def sharpness(
    objective: Objective,
    rows: Rows,
    optimizer: Any,
    context: StepContext,
    *,
    state: State | None = None,
    steps: int = 20,
) -> Column | None:
    """The largest curvature over the optimizer's threshold (`optimizers.stability.edge`), or None.

    Below ½ a higher rate would do; full-batch training drifts to 1; well above it steps grow until
    they diverge or leave for flatter parts. Adaptive rules need their `state`, and `context.step`
    of their last update.
    """
    found = stability_edge(optimizer, rows, context, state)
    if found is None:
        return None
    product = found.product(objective.at(rows).product)
    largest = ritz(lanczos(product, gaussian(rows, 0), steps=steps)).largest
    return largest / found.threshold.to(rows.device)

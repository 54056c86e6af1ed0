"""Warm starts: networks go on from the weights they have, on other examples of their encoding."""

import math
import time
from dataclasses import replace

from ravine.data import Task
from ravine.errors import RecipeError
from ravine.networks.batched import BatchedNetwork
from ravine.recipe import Recipe
from ravine.training.arguments import require_device
from ravine.training.cohort import InitialState
from ravine.training.job_control import JobControl
from ravine.training.jobs import assign_members
from ravine.training.model import Model
from ravine.training.results import assemble_run
from ravine.training.run import Run
from ravine.training.train import train_jobs


def initial_state_of(model: Model, recipe: Recipe) -> InitialState:
    """A model's weights to go on from. `RecipeError` where the recipe's network is another."""
    own, given = (
        [(slot.name, slot.shape) for slot in BatchedNetwork(n, model.signature).layout.slots]
        for n in (recipe.network, model.recipe.network)
    )
    if own != given:
        name, shape = next(slot for slot in [*given, *own] if slot not in own or slot not in given)
        what = f"the recipe's network does not fit weights {shape} of {name}"
        do = "leave the network as it was, or train from new weights"
        raise RecipeError(what, why="it is not the network that was trained", do=do)
    return InitialState(weights=model.weights, buffers=model.buffers)


def train_from(
    recipe: Recipe, task: Task, start: InitialState, *, device: str = "cpu"
) -> tuple[Run, InitialState | None]:
    """Train a resolved recipe from a state, in one process; the run, and the state after it.

    The epochs follow those already made: the examples come in other orders, and the optimizer goes
    on counting. There is no next state where early stopping ended networks at different steps.
    """
    if start.weights is not None:
        recipe = replace(recipe, seeds=len(start.weights))
    members = range(recipe.seeds)
    assignment = assign_members(members, recipe, task, device=require_device(device))
    plan = assignment.job.plan
    first = -(-start.step // plan.per_epoch) * plan.per_epoch  # epochs may have had other lengths
    assignment.job = replace(
        assignment.job,
        plan=plan._replace(steps=first + plan.steps),
        start=replace(start, step=first),
    )
    began = time.monotonic()
    results = train_jobs([assignment], [JobControl(seconds=math.inf)], workers=1)
    seconds = time.monotonic() - began
    record, model = assemble_run(
        recipe, task, assignments=[assignment], results=results, seconds=seconds
    )
    return Run(record, model), results[0].end

"""The first steps of a recipe, and the same steps with one thing changed: what its settings do."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ravine import protocols
from ravine.data import RowGroups, Task
from ravine.data.examples import evenly_spaced
from ravine.diagnosis.recipe_rules import ChangedRun, FirstSteps
from ravine.errors import RecipeError
from ravine.examination.recipe_changes import apply_changes
from ravine.examination.recipe_module import step_seconds
from ravine.examination.recipe_settings import CHANGES_BY_CAUSE
from ravine.finding import Change
from ravine.part import part
from ravine.protocols import Plan, SearchOptimizer
from ravine.recipe import Recipe
from ravine.record import Record
from ravine.training.defaults import batch_size, training_plan
from ravine.training.evaluation import constant_loss
from ravine.training.train import train_on

MAX_STEPS, MIN_STEPS, SEARCH_STEPS = 100, 20, 10  # SEARCH: of optimizers that search in each step
FIRST_STEPS_SECONDS = 2.0  # for those of one network, on a core as fast as `recipe_module` says
PENALTY_FACTOR = 3  # times as many steps with a penalty: it acts slowly
LONGER_FACTOR = 4  # times as many steps for a run that is meant to be longer
PAIRED_NETWORKS = 2
MAX_STRENGTHS = 2  # of the changes against one cause
MAX_EXAMPLES = 1000  # of the validation split
USEFUL_RATE = 0.01  # of the highest learning rate
MAX_FACTORS = 100_000  # of the schedule that are looked at
STUCK_CAUSES = ("over-regularized", "dropout", "learning-rate-high")
SHORT_CAUSES = ("schedule", "too-few-steps", "learning-rate-low")  # of a run that is whole


Losses: TypeAlias = tuple[float, ...]  # of each network


@part
class Beginning:
    """The first steps of the schedule of a longer run."""

    schedule: protocols.Schedule
    steps: int
    per_epoch: int

    def factor(self, step: Tensor, plan: Plan) -> Tensor:
        return self.schedule.factor(step, Plan(self.steps, self.per_epoch))


class Variant(NamedTuple):
    """A recipe with changes against one cause, to be run for some steps."""

    cause: str
    changes: tuple[Change, ...]
    recipe: Recipe
    steps: int


def measure_first_steps(recipe: Recipe, task: Task) -> FirstSteps | None:
    """Train two networks for the first steps of the recipe, a hundred or fewer, and evaluate them.
    They are those of the recipe: its batches, its rates, its penalties; early stopping and averages
    of weights are left out. Where they learn nothing, the same steps are made with less
    regularization, without dropout, and at lower rates; where they are all that the recipe makes
    and learn little, also with more steps, at higher rates, and at a constant rate. The number of
    steps follows from the size of the network. None of data that are read in pieces.
    """
    held_out = task.train if task.validation is None else task.validation
    if isinstance(task.train, RowGroups) or held_out is None:
        return None
    held_out = evenly_spaced(held_out, MAX_EXAMPLES)
    task = dataclasses.replace(task, validation=held_out, test=None)
    assert recipe.loss is not None  # resolved
    constant = constant_loss(recipe.loss, held_out, task.outputs)
    least = constant_loss(recipe.loss, held_out.take(torch.tensor([0])), task.outputs)
    if not constant > max(least, 0.0):
        return None
    plan = training_plan(recipe, task)
    useful = count_useful_steps(recipe.schedule, plan)
    steps = min(useful, affordable_steps(recipe, task))
    ((losses, train_losses),) = run_beginnings([(recipe, steps)], task)
    found = FirstSteps(
        steps=steps,
        planned=plan.steps,
        useful=useful,
        constant_loss=constant,
        losses=losses,
        train_loss=min(train_losses),
        least_loss=max(least, 0.0),
    )
    if not found.needs_changes:
        return found
    stuck, whole = STUCK_CAUSES if found.is_stuck else (), SHORT_CAUSES if found.is_whole else ()
    causes = (*stuck, *whole)
    variants = [v for cause in causes for v in _variants(cause, recipe, task, found)]
    runs = run_beginnings([(variant.recipe, variant.steps) for variant in variants], task)
    changed = (
        ChangedRun(cause=v.cause, changes=v.changes, steps=v.steps, losses=losses)
        for v, (losses, _) in zip(variants, runs, strict=True)
    )
    return dataclasses.replace(found, changed=tuple(changed))


def affordable_steps(recipe: Recipe, task: Task) -> int:
    """How many steps a recipe's check may take: by its products, not by a clock."""
    if isinstance(recipe.optimizer, SearchOptimizer):
        return SEARCH_STEPS
    most = MAX_STEPS * (PENALTY_FACTOR if recipe.penalties else 1)
    return int(max(MIN_STEPS, min(most, FIRST_STEPS_SECONDS / step_seconds(task, recipe))))


def count_useful_steps(schedule: protocols.Schedule, plan: Plan) -> int:
    """The steps up to the last one at which the rate is at least 1 % of the highest.

    >>> from ravine.schedules import Constant, StepDecay
    >>> plan = Plan(steps=100, per_epoch=10)
    >>> count_useful_steps(StepDecay(milestones=(3.0,), gamma=1e-4), plan)
    30
    >>> count_useful_steps(Constant(), plan)
    100
    """
    places = torch.linspace(0, plan.steps - 1, min(plan.steps, MAX_FACTORS), dtype=torch.float64)
    factors = schedule.factor(places.round()[None], plan)[0].expand(len(places))
    useful = (factors >= USEFUL_RATE * factors.max()).nonzero()
    return int(places[useful[-1]].round()) + 1


def _variants(cause: str, recipe: Recipe, task: Task, own: FirstSteps) -> Iterator[Variant]:
    if cause == "schedule" and 2 * own.useful > own.planned:
        return
    for changes in itertools.islice(CHANGES_BY_CAUSE[cause](recipe, task), MAX_STRENGTHS):
        try:
            changed = apply_changes(recipe, changes)
        except RecipeError:
            continue
        steps = own.steps
        if cause in ("schedule", "too-few-steps"):
            useful = count_useful_steps(changed.schedule, training_plan(changed, task))
            steps = min(LONGER_FACTOR * affordable_steps(recipe, task), useful)
        if changed != recipe and steps >= own.steps:
            yield Variant(cause, tuple(changes), changed, steps)


def run_beginnings(
    recipes: Sequence[tuple[Recipe, int]], task: Task
) -> list[tuple[Losses, Losses]]:
    """The losses after the first steps of each recipe, on validation and on training examples."""
    short, tasks = [], []
    for recipe, steps in recipes:
        plan, batch = training_plan(recipe, task), batch_size(recipe, task)
        schedule = Beginning(schedule=recipe.schedule, steps=plan.steps, per_epoch=plan.per_epoch)
        bare = {"stop": None, "average": None, "snapshots": None, "schedule": schedule}
        epochs = max(1, steps // plan.per_epoch)
        rows = task.train
        if plan.per_epoch > steps:
            rows = evenly_spaced(rows, steps * batch)
        short.append(dataclasses.replace(recipe, **bare, epochs=epochs, seeds=PAIRED_NETWORKS))
        tasks.append(task if rows is task.train else dataclasses.replace(task, train=rows))
    runs = train_on(tasks, short, workers=1)
    return [
        (_final_losses(run.record, "validation/loss"), _final_losses(run.record, "train/loss"))
        for run in runs
    ]


def _final_losses(record: Record, name: str) -> Losses:
    """The last loss of each network; ∞ where it diverged."""
    series = record.series.get(name)
    last = [math.inf] * len(record.members) if series is None else series.values[-1].tolist()
    diverged = [member.outcome == "diverged" for member in record.members]
    pairs = zip(last, diverged, strict=True)
    return tuple(math.inf if gone or not math.isfinite(loss) else loss for loss, gone in pairs)

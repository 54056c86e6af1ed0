"""From recipes to jobs: networks that can train as one batch are grouped and cut into jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ravine.data import RowGroups, Task
from ravine.networks.batched import BatchedNetwork
from ravine.part import group_key
from ravine.recipe import Recipe
from ravine.training.cohort import Job, networks_at_once
from ravine.training.defaults import batch_size, network_width, training_plan

SPLIT_SECONDS = 2.0  # to be saved by training in parts, as estimated: often too low
STEP_SECONDS = 3e-4  # of a job, however few its networks
NETWORK_SECONDS = 2e-5  # more for each network
FLOPS_PER_WEIGHT = 6.0  # and example: forward and backward
FLOPS_PER_SECOND = 5e10


@dataclass
class Share:
    """The networks of one recipe that train in one job: their rows there, their numbers here."""

    recipe: int
    rows: list[int]
    members: list[int]


@dataclass
class JobAssignment:
    """One job, its data, and whose networks it trains."""

    job: Job
    task: Task
    shares: list[Share]
    seconds: float  # a rough estimate of its time on one core


def assign_jobs(
    recipes: Sequence[Recipe], tasks: Sequence[Task], *, device: str, workers: int
) -> list[JobAssignment]:
    """Group all networks by shape and task, and cut the groups into jobs of a good size."""
    groups: dict[Any, list[tuple[int, int]]] = {}
    for r, (recipe, task) in enumerate(zip(recipes, tasks, strict=True)):
        # rows that are streamed come in one order for all networks of a job
        order = recipe.seed if isinstance(task.train, RowGroups) else None
        key = (group_key(recipe.vary("seed", 0).vary("seeds", 1)), task.fingerprint, order)
        groups.setdefault(key, []).extend((r, m) for m in range(recipe.seeds))
    assignments = []
    for group in groups.values():
        first = group[0][0]
        size = _job_size(recipes[first], tasks[first], len(group), device=device, workers=workers)
        for at in range(0, len(group), size):
            part = group[at : at + size]
            assignments.append(_assignment(part, recipes, tasks[first], device=device))
    return assignments


def assign_members(
    members: Sequence[int], recipe: Recipe, task: Task, *, device: str
) -> JobAssignment:
    """The job that trains some members of one recipe, as a run's plan lists them."""
    return _assignment([(0, m) for m in members], [recipe], task, device=device)


def _job_size(recipe: Recipe, task: Task, count: int, *, device: str, workers: int) -> int:
    """How many of `count` networks train in one job: as many as the cache holds, in equal jobs.

    At least one job per process where that makes long jobs shorter.
    """
    if device == "cpu" and BatchedNetwork(recipe.network, task.signature).one_by_one:
        # convolutions run one network after another: together they only share the cache
        return 1
    size = min(count, networks_at_once(network_width(recipe, task), device=device))
    if workers > 1 and device == "cpu":
        part = min(size, max(2, -(-count // workers)))
        saved = _seconds(recipe, task, size) - _seconds(recipe, task, part)
        size = part if saved > SPLIT_SECONDS else size
    return -(-count // -(-count // size))


def _assignment(
    group: Sequence[tuple[int, int]], recipes: Sequence[Recipe], task: Task, *, device: str
) -> JobAssignment:
    shares: dict[int, Share] = {}
    for row, (r, m) in enumerate(group):
        share = shares.setdefault(r, Share(r, [], []))
        share.rows.append(row)
        share.members.append(m)
    first = recipes[group[0][0]]
    job = Job(
        recipes=tuple(recipes[r] for r, _ in group),
        seeds=tuple(recipes[r].seed + m for r, m in group),
        signature=task.signature,
        plan=training_plan(first, task),
        batch=batch_size(first, task),
        device=device,
    )
    return JobAssignment(job, task, list(shares.values()), _seconds(first, task, len(group)))


def _seconds(recipe: Recipe, task: Task, networks: int) -> float:
    """A rough time for a job of so many networks on one core."""
    flops = FLOPS_PER_WEIGHT * network_width(recipe, task) * batch_size(recipe, task)
    own = NETWORK_SECONDS + flops / FLOPS_PER_SECOND
    return training_plan(recipe, task).steps * (STEP_SECONDS + networks * own)

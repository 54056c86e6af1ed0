"""Training recipes to one share of their budgets after another, and leaving some out each time."""

import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ravine import metrics
from ravine.data import Task
from ravine.errors import Interrupted
from ravine.metrics import Metric
from ravine.recipe import Recipe
from ravine.record import Member
from ravine.training.clusters import worker_count
from ravine.training.jobs import JobAssignment, assign_jobs
from ravine.training.model import Model
from ravine.training.results import JobResult, assemble_members
from ravine.training.train import Report, controls_of, train_jobs

PRUNED_OUTCOME = "pruned"


class Standing(NamedTuple):
    """How a recipe's networks do so far: the best validation score of each (NaN if it diverged),
    and their mean loss at these.
    """

    scores: tuple[float, ...]
    loss: float

    @property
    def score(self) -> float:
        """The mean score; NaN where a network diverged."""
        return sum(self.scores) / len(self.scores)


class TrainedRecipe(NamedTuple):
    """What is left of a recipe: its networks, and its model (None if all diverged)."""

    members: tuple[Member, ...]
    model: Model | None


# share of the budget, where each recipe stands -> the places of those that leave
Pruning: TypeAlias = Callable[[float, Sequence[Standing]], Sequence[int]]


def train_in_rungs(
    tasks: Sequence[Task],
    recipes: Sequence[Recipe],
    shares: Sequence[float] = (),
    prune: Pruning | None = None,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    workers: int | str = 1,
    report: Report | None = None,
    stop: Path | None = None,
) -> list[TrainedRecipe]:
    """Train resolved recipes; at each of `shares` of the budget, `prune` says which of them leave.

    Recipes that leave are out of their batch and cost nothing more; the numbers of the others are
    those that they have alone, bit for bit. With `folder` the jobs keep checkpoints there, from
    which the same call goes on. Raises `Interrupted` once the file `stop` exists.
    """
    assignments = assign_jobs(recipes, tasks, device=device, workers=worker_count(workers))
    seconds = math.inf if folder is None else 30.0
    metric = metrics.main_metric(tasks[0].kind, recipes[0].metric)
    own = tempfile.TemporaryDirectory() if folder is None and shares else nullcontext(folder)
    with own as place:
        kept = None if place is None else Path(place)
        controls = controls_of(
            assignments, kept, report, seconds=seconds, stop=stop, diagnosed=False
        )
        left: set[int] = set()
        for share in (*shares, 1.0):
            for control in controls:
                control.until, control.interrupted = share, False
            results = train_jobs(assignments, controls, workers=workers)
            if any(control.is_stop_requested for control in controls):
                raise Interrupted("stopped")
            if share < 1 and prune is not None:
                standings = _standings(recipes, assignments, results, metric, share)
                left |= set(prune(share, standings))
                for assignment, control in zip(assignments, controls, strict=True):
                    rows = [r for s in assignment.shares if s.recipe in left for r in s.rows]
                    control.leaving = dict.fromkeys(rows, PRUNED_OUTCOME)
    return [
        TrainedRecipe(
            *assemble_members(recipe, task, place=i, assignments=assignments, results=results)
        )
        for i, (recipe, task) in enumerate(zip(recipes, tasks, strict=True))
    ]


def _standings(
    recipes: Sequence[Recipe],
    assignments: Sequence[JobAssignment],
    results: Sequence[JobResult],
    metric: Metric,
    share: float,
) -> list[Standing]:
    """Where each recipe stands at a share of its budget, also if its job has gone on since."""
    found: list[list[tuple[float, float]]] = [[] for _ in recipes]
    for assignment, result in zip(assignments, results, strict=True):
        until = _first_step_past(share * assignment.job.plan.steps, result)
        for part in assignment.shares:
            for row in part.rows:
                value = _value_at(result, row, metric, until)
                found[part.recipe].append(value)
    return [
        Standing(tuple(score for score, _ in values), sum(loss for _, loss in values) / len(values))
        for values in found
    ]


def _first_step_past(steps: float, result: JobResult) -> int:
    """The step of the first evaluation at which a job had made so many steps."""
    points = [step for step, _ in result.log.series.get("train/loss", [])]
    return next((step for step in points if step >= steps), points[-1] if points else 0)


def _value_at(result: JobResult, row: int, metric: Metric, until: int) -> tuple[float, float]:
    """The best score of a network on the validation split so far, and its loss then."""
    if result.ended.outcomes[row] == "diverged" and result.ended.tensors["steps"][row] <= until:
        return math.nan, math.nan
    series, sign = result.log.series, 1 if metric.higher_is_better else -1
    pairs = [
        (scores[row], losses[row])
        for (step, scores), (_, losses) in zip(
            series[f"validation/{metric.name}"], series["validation/loss"], strict=True
        )
        if step <= until and not math.isnan(losses[row])
    ]
    return max(pairs, key=lambda p: (sign * p[0], -p[1]), default=(math.nan, math.nan))

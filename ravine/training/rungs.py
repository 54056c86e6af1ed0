"""Training recipes to one share of their budgets after another: some leave each time, or go on from
where others stand.
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ravine import metrics
from ravine.data import Task
from ravine.errors import Interrupted
from ravine.files import write_atomically
from ravine.metrics import Metric
from ravine.recipe import Recipe
from ravine.record import Member, Record
from ravine.training.checkpoint import move_rows
from ravine.training.clusters import worker_count
from ravine.training.job_control import JobControl
from ravine.training.jobs import JobAssignment, assign_jobs
from ravine.training.model import Model
from ravine.training.results import JobResult, assemble_members, assemble_run
from ravine.training.train import Report, controls_of, train_jobs

PRUNED_OUTCOME = "pruned"
STANDINGS_FILE = "standings.json"


class Standing(NamedTuple):
    """How a recipe's networks do so far: the best validation score of each (NaN if it diverged),
    and their mean loss at these; the mean of their latest scores, and whether all still train.
    """

    scores: tuple[float, ...]
    loss: float
    latest: float = math.nan
    is_training: bool = True

    @property
    def score(self) -> float:
        """The mean score; NaN where a network diverged."""
        return sum(self.scores) / len(self.scores)


class TrainedRecipe(NamedTuple):
    """What is left of a recipe: its networks, and its model (None if all diverged); `assemble`
    gives its record, too, scored on the held-out rows of a task.
    """

    members: tuple[Member, ...]
    model: Model | None
    assemble: Callable[[Task], tuple[Record, Model | None]]


# share of the budget, where each recipe stands -> by place None (it leaves), or where it goes on
# from: the place of a recipe (its own, too), and by which settings, of the same shape
Decision: TypeAlias = Callable[
    [float, Sequence[Standing]], Mapping[int, tuple[int, Recipe]] | Mapping[int, None]
]


def train_in_rungs(
    tasks: Sequence[Task],
    recipes: Sequence[Recipe],
    shares: Sequence[float] = (),
    decide: Decision | None = None,
    *,
    folder: Path | None = None,
    device: str = "cpu",
    workers: int | str = 1,
    report: Report | None = None,
    stop: Path | None = None,
) -> list[TrainedRecipe]:
    """Train resolved recipes; at each of `shares` of the budget, `decide` says which of them leave,
    or go on from where others stand.

    Recipes that leave are out of their batch and cost nothing more; the numbers of the others are
    those that they have alone, bit for bit. Who goes on from another one has its weights, the state
    of its optimizer, average and buffers, and its history, and trains by the settings of the move;
    steps, schedules and the order of examples go on. With `folder` the jobs keep checkpoints there,
    from which the same call goes on: `decide` then hears of the same standings, and has to answer
    as before. Raises `Interrupted` once the file `stop` exists.
    """
    recipes, began = list(recipes), time.monotonic()
    where: dict[str, Any] = {"device": device, "workers": worker_count(workers)}
    assignments = assign_jobs(recipes, tasks, **where)
    seconds = math.inf if folder is None else 30.0
    metric = metrics.main_metric(tasks[0].kind, recipes[0].metric)
    own = tempfile.TemporaryDirectory() if folder is None and shares else nullcontext(folder)
    with own as place:
        kept = None if place is None else Path(place)
        now, known = _kept_standings(kept)
        how: dict[str, Any] = {"seconds": seconds, "stop": stop, "diagnosed": False}
        controls = controls_of(assignments, now, report, **how)
        left: set[int] = set()
        results: list[JobResult] = []
        for share in (*shares, 1.0):
            if share not in known:
                for control in controls:
                    control.until, control.interrupted = share, False
                results = train_jobs(assignments, controls, workers=workers)
                if any(control.is_stop_requested for control in controls):
                    raise Interrupted("stopped")
            if share < 1 and decide is not None:
                is_new = share not in known
                if is_new:
                    known[share] = _standings(recipes, assignments, results, metric, share)
                found = decide(share, known[share])
                left |= {place for place, move in found.items() if move is None}
                moves = {place: move for place, move in found.items() if move is not None}
                if is_new and kept is not None:
                    if moves:
                        now = kept / f"moves-{len(known):03d}"
                        _move_networks(moves, assignments, controls, now)
                        controls = controls_of(assignments, now, report, **how)
                    # last: until these are there, the checkpoints of before count
                    _keep_standings(kept, now, known)
                recipes = [moves[i][1] if i in moves else r for i, r in enumerate(recipes)]
                assignments = assign_jobs(recipes, tasks, **where)
                for assignment, control in zip(assignments, controls, strict=True):
                    rows = [r for s in assignment.shares if s.recipe in left for r in s.rows]
                    control.leaving = dict.fromkeys(rows, PRUNED_OUTCOME)
    kept_jobs: dict[str, Any] = {"assignments": assignments, "results": results}
    seconds = time.monotonic() - began
    return [
        TrainedRecipe(
            *assemble_members(recipe, task, place=i, **kept_jobs),
            partial(assemble_run, recipe, place=i, seconds=seconds, **kept_jobs),
        )
        for i, (recipe, task) in enumerate(zip(recipes, tasks, strict=True))
    ]


def _kept_standings(folder: Path | None) -> tuple[Path | None, dict[float, list[Standing]]]:
    """Where the checkpoints are, and the standings at shares that were passed before a stop."""
    if folder is None or not (folder / STANDINGS_FILE).exists():
        return folder, {}
    plain = json.loads((folder / STANDINGS_FILE).read_text())
    return folder / plain["checkpoints"], {
        share: [Standing(tuple(scores), *others) for scores, *others in standings]
        for share, standings in plain["standings"]
    }


def _keep_standings(
    folder: Path, checkpoints: Path | None, known: Mapping[float, Sequence[Standing]]
) -> None:
    """Write where the checkpoints are, and the standings: networks that move take their past along,
    so that these cannot be read from it later. Checkpoints of before go.
    """
    place = "." if checkpoints is None else str(checkpoints.relative_to(folder))
    plain = {"checkpoints": place, "standings": [*known.items()]}
    write_atomically(folder / STANDINGS_FILE, json.dumps(plain).encode())
    for old in folder.glob("moves-*"):
        if old != checkpoints:
            shutil.rmtree(old, ignore_errors=True)


def _move_networks(
    moves: Mapping[int, tuple[int, Recipe]],
    assignments: Sequence[JobAssignment],
    controls: Sequence[JobControl],
    folder: Path,
) -> None:
    """Write the checkpoints of all jobs after moves to a folder."""
    owners = [
        sorted(
            (row, s.recipe, m) for s in a.shares for row, m in zip(s.rows, s.members, strict=True)
        )
        for a in assignments
    ]
    places = {(r, m): (job, row) for job, rows in enumerate(owners) for row, r, m in rows}
    origins = [[places[moves[r][0] if r in moves else r, m] for _, r, m in rows] for rows in owners]
    folder.mkdir(exist_ok=True)
    move_rows([c.checkpoint for c in controls if c.checkpoint is not None], origins, folder)


def _standings(
    recipes: Sequence[Recipe],
    assignments: Sequence[JobAssignment],
    results: Sequence[JobResult],
    metric: Metric,
    share: float,
) -> list[Standing]:
    """Where each recipe stands at a share of its budget, also if its job has gone on since."""
    found: list[list[tuple[Any, ...]]] = [[] for _ in recipes]
    for assignment, result in zip(assignments, results, strict=True):
        until = _first_step_past(share * assignment.job.plan.steps, result)
        for part in assignment.shares:
            for row in part.rows:
                value = _value_at(result, row, metric, until)
                found[part.recipe].append(value)
    standings = []
    for values in found:
        scores, losses, latest, training = zip(*values, strict=True)
        loss, now = sum(losses) / len(values), sum(latest) / len(values)
        standings.append(Standing(scores, loss, now, all(training)))
    return standings


def _first_step_past(steps: float, result: JobResult) -> int:
    """The step of the first evaluation at which a job had made so many steps."""
    points = [step for step, _ in result.log.series.get("train/loss", [])]
    return next((step for step in points if step >= steps), points[-1] if points else 0)


def _value_at(result: JobResult, row: int, metric: Metric, until: int) -> tuple[Any, ...]:
    """The best score of a network on the validation split so far, its loss then, the latest score,
    and whether it still trains.
    """
    outcome = result.ended.outcomes[row]
    is_training = not outcome or bool(result.ended.tensors["steps"][row] > until)
    if outcome == "diverged" and not is_training:
        return math.nan, math.nan, math.nan, False
    series, sign = result.log.series, 1 if metric.higher_is_better else -1
    pairs = [
        (scores[row], losses[row])
        for (step, scores), (_, losses) in zip(
            series[f"validation/{metric.name}"], series["validation/loss"], strict=True
        )
        if step <= until and not math.isnan(losses[row])
    ]
    best = max(pairs, key=lambda p: (sign * p[0], -p[1]), default=(math.nan, math.nan))
    return (*best, pairs[-1][0] if pairs else math.nan, is_training)

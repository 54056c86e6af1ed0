"""Training from recipe to run: `train`, `train_all`, `resume`.

`train(recipe)` is `train_all([recipe])` with a folder. Letters: N networks of a job.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import joblib
import torch

from ravine import data, metrics
from ravine.diagnosis.training_curves.series import ALPHA
from ravine.errors import Interrupted, RunError
from ravine.part import group_key, stack
from ravine.protocols import Batch
from ravine.recipe import Recipe
from ravine.record import Record, Score, read_json
from ravine.training import snapshots
from ravine.training.arguments import (
    checked_device,
    checked_recipe,
    checked_recipes,
    checked_workers,
)
from ravine.training.batches import Batches, InMemory, Streamed
from ravine.training.batchnorm_stats import recomputed
from ravine.training.checkpoint import load, save
from ravine.training.cohort import Cohort, Job, start
from ravine.training.determinism import exact_arithmetic
from ravine.training.effects import CLASS_WEIGHTS
from ravine.training.evaluation import Evaluator, log_constant
from ravine.training.jobs import (
    SECONDS_WORTH_A_PROCESS,
    Work,
    balanced,
    load_task,
    prepare,
    resolve,
    with_mean_weight_1,
    work_of,
    works_of,
)
from ravine.training.loop import run
from ravine.training.model import Model
from ravine.training.progress import Control, Progress
from ravine.training.results import Done, assemble
from ravine.training.run_folder import new_folder, planned_recipe, read_run, write_plan, write_run

Check: TypeAlias = Callable[
    [Recipe, Any], Sequence[Mapping[str, Any]]
]  # resolved recipe, task -> findings, plain

INEXACT = {
    "step": 0,
    "kind": "inexact",
    "member": None,
    "text": "MKL was used before training began, so numbers may "
    "depend in their last bits on which networks train together; to have them equal, set "
    "MKL_CBWR=AUTO,STRICT "
    "before Python starts",
}


@dataclass(frozen=True)
class Run:
    """What training gives back: the record of what happened, the model, and the folder both were
    written to.
    """

    record: Record
    model: Model | None  # None where every member diverged
    folder: Path | None = None

    @property
    def score(self) -> Score | None:
        return self.record.score

    def predict(self, frame: Any) -> Any:
        """Predictions for new rows, as a frame: the target (and for classes the probability of
        each).

        The rows are a DataFrame, a mapping of columns, an array, or a file of them; pictures also a
        folder or paths.
        """
        if self.model is None:
            raise RunError(
                "the run has no model",
                why="every network diverged",
                do="train with a smaller optimizer.lr",
            )
        if isinstance(frame, (str, Path)) and isinstance(self.model.encoder, data.Encoder):
            frame = data.read_table(frame)
        return self.model.predict(frame)


# Verbs


def train(
    recipe: Recipe,
    frame: Any = None,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    workers: int | None = None,
    report: Callable[[Progress], None] | None = None,
    check: Check | None = None,
    checkpoint_seconds: float = 30.0,
) -> Run:
    """Train a recipe's networks and return the run; with `out` also write its folder.

    `frame` is the table as a DataFrame where the recipe names no source. `workers` is the number of
    processes (by default one per core where that pays). `check` is asked before any work, with the
    resolved recipe and its task; what it finds is kept in the record and stops nothing. Raises
    `InputError` for wrong input before any work, and `Interrupted` when the run was asked to end:
    its folder then holds checkpoints for `resume`. Divergence is no error: see
    `run.record.failures`.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)
    >>> ravine.train(recipe).score.metric
    'accuracy'
    """
    recipe, device, workers = (
        checked_recipe(recipe),
        checked_device(device),
        checked_workers(workers),
    )
    task, recipe = prepare(recipe, frame)
    works = works_of([recipe], [task], device=device, workers=workers)
    folder = None if out is None else new_folder(Path(out))
    findings = () if check is None else check(recipe, task)
    if folder is not None:
        jobs = [w.shares[0].members for w in works]
        write_plan(folder, recipe, task, jobs, device=device, findings=findings)
    return _finish(works, [recipe], [task], folder, workers, report, checkpoint_seconds, findings)[
        0
    ]


def train_all(
    recipes: Sequence[Recipe],
    frame: Any = None,
    *,
    device: str = "cpu",
    workers: int | None = None,
    report: Callable[[Progress], None] | None = None,
) -> list[Run]:
    """Train many recipes, one run each. Networks of one program train as one batch, whichever
    recipe they come from.

    A network's numbers are the same, bit for bit, whatever it is trained together with.
    """
    recipes, device, workers = (
        checked_recipes(recipes),
        checked_device(device),
        checked_workers(workers),
    )
    tasks: dict[Any, Any] = {}
    prepared = []
    for recipe in recipes:
        key = (
            group_key(recipe.data),
            group_key(recipe.split),
            group_key(recipe.encoding),
            recipe.split_seed,
        )
        if key not in tasks:
            tasks[key] = load_task(recipe, frame)
        prepared.append((tasks[key], resolve(recipe, tasks[key])))
    tasks_used, resolved = [t for t, _ in prepared], [r for _, r in prepared]
    return train_on(tasks_used, resolved, device=device, workers=workers, report=report)


def train_on(
    tasks: Sequence[Any],
    recipes: Sequence[Recipe],
    *,
    device: str = "cpu",
    workers: int | None = None,
    report: Callable[[Progress], None] | None = None,
) -> list[Run]:
    """Train resolved recipes, each on the task at its place of `tasks`, which is loaded already
    (see `prepare`).
    """
    device, workers = checked_device(device), checked_workers(workers)
    works = works_of(recipes, tasks, device=device, workers=workers)
    return _finish(works, recipes, tasks, None, workers, report, math.inf)


def resume(
    folder: str | Path,
    frame: Any = None,
    *,
    module: Any = None,
    workers: int | None = None,
    report: Callable[[Progress], None] | None = None,
    checkpoint_seconds: float = 30.0,
) -> Run:
    """Go on with a run from its checkpoints; it ends with the numbers of one that was never
    stopped, bit for bit.

    `frame` must be given again where the run was given one, and `module` where its network was
    one's own. Raises `RunError` if the folder is no run, is finished, is damaged, or if the data
    are not those the run began with.
    """
    folder, workers = Path(folder), checked_workers(workers)
    if (folder / "record.json").exists():
        raise RunError(
            f"{folder} is finished",
            why="there is nothing left to train",
            do=f"use it: ravine predict {folder} new.csv",
        )
    if not (folder / "plan.json").exists():
        raise RunError(
            f"{folder} is not a run",
            why="it has no plan.json",
            do="name the folder that `ravine train` printed",
        )
    plan = read_json(folder / "plan.json")
    recipe = planned_recipe(plan, module)
    task = load_task(recipe, frame)
    if task.fingerprint != plan["fingerprint"]:
        raise RunError(
            f"the data of {folder} have changed",
            why="a run can only go on with the data it began with",
            do="restore the data, or train anew",
        )
    (folder / "stop").unlink(missing_ok=True)
    device = checked_device(plan["device"])
    works = [work_of(members, recipe, task, device=device) for members in plan["jobs"]]
    findings = plan.get("findings", ())
    return _finish(works, [recipe], [task], folder, workers, report, checkpoint_seconds, findings)[
        0
    ]


def open_run(folder: str | Path, *, module: Any = None) -> Run:
    """A finished run as its folder holds it. Raises `RunError` if it is unfinished, damaged, or of
    a newer version.

    `module` is the function that makes the network, where the run trained a module of one's own.
    """
    record, model = read_run(folder, module)
    return Run(record, model, Path(folder))


# Working


def work(task: Any, job: Job, control: Control) -> Done:
    """Do one job: from its checkpoint if it has one, else from the start."""
    with exact_arithmetic() as exact:
        saved = control.checkpoint is not None and control.checkpoint.exists()
        cohort = load(control.checkpoint, job) if saved else start(job)  # type: ignore[arg-type]
        if cohort.ids:
            source, evaluator = _source(task, cohort), _evaluator(task, job)
            if not saved:
                log_constant(
                    cohort,
                    source.examples if isinstance(source, InMemory) else None,
                    evaluator.validation,
                )
            run(cohort, source, evaluator, pause=snapshots.pausing(cohort, control))
            if not control.interrupted:
                snapshots.report(cohort)
                _settle(task, cohort)
        if control.checkpoint is not None and not control.interrupted:
            save(cohort, control.checkpoint)
    if not exact:
        cohort.events.append(INEXACT)
    return Done.of(cohort, interrupted=control.interrupted)


def _settle(task: Any, cohort: Cohort) -> None:
    """Give averaged weights the statistics of batch normalization that belong to them."""
    job = cohort.job
    buffers = {
        n.removeprefix("buffer/"): v for n, v in cohort.ended.items() if n.startswith("buffer/")
    }
    if cohort.parts.average is None or not buffers:
        return
    batches = batches_of(task, job)
    found = recomputed(
        stack(job.recipes).network,
        job.signature,
        cohort.ended["weights"],
        buffers,
        batches,
        seeds=job.seeds,
        batch=job.batch,
    )
    cohort.ended |= {f"buffer/{name}": value for name, value in found.items()}


def batches_of(task: Any, job: Job) -> Iterator[Batch]:
    """The training examples of a task once, in the batches of a job's first epoch."""
    recipe = job.recipes[0]
    if isinstance(task.train, data.RowGroups):
        source: Batches = Streamed(task.train, seed=recipe.seed, batch=job.batch, device=job.device)
    else:
        source = InMemory(
            task.train.to(job.device, getattr(torch, recipe.precision)), job.seeds, batch=job.batch
        )
    for step in range(source.per_epoch):
        yield source.at(step)


def _source(task: Any, cohort: Cohort) -> Batches:
    job, recipe = cohort.job, cohort.job.recipes[0]
    if isinstance(task.train, data.RowGroups):
        return Streamed(task.train, seed=recipe.seed, batch=job.batch, device=job.device)
    examples = with_mean_weight_1(task.train.to(job.device, getattr(torch, recipe.precision)))
    if recipe.class_weights == "balanced":
        examples, change = balanced(examples)
        cohort.meter.add(CLASS_WEIGHTS.name, change)
    return InMemory(examples, cohort.seeds, batch=job.batch)


def _evaluator(task: Any, job: Job) -> Evaluator:
    recipe = job.recipes[0]
    metric = metrics.main_metric(task.kind)
    examples = task.validation
    validation = (
        None if examples is None else examples.to(job.device, getattr(torch, recipe.precision))
    )
    return Evaluator(
        job.plan,
        validation,
        metric=metric.of,
        name=metric.name,
        higher_is_better=metric.higher_is_better,
    )


def _finish(
    works: Sequence[Work],
    recipes: Sequence[Recipe],
    tasks: Sequence[Any],
    folder: Path | None,
    workers: int,
    report: Callable[[Progress], None] | None,
    seconds: float,
    findings: Sequence[Mapping[str, Any]] = (),
) -> list[Run]:
    began = time.monotonic()
    controls = [
        Control(
            job=i,
            jobs=len(works),
            seconds=seconds,
            report=report if i % max(workers, 1) == 0 else None,
            checkpoint=None if folder is None else folder / f"checkpoint-{i}.safetensors",
            stop=None if folder is None else folder / "stop",
            alpha=ALPHA / len(works) if len(recipes) == 1 else 0.0,
        )
        for i in range(len(works))
    ]
    done = _all_done(works, controls, workers)
    if any(d.interrupted for d in done):
        raise Interrupted(f"stopped; go on with: ravine train --resume {folder}")
    runs = []
    for r, (recipe, task) in enumerate(zip(recipes, tasks, strict=True)):
        record, model = assemble(r, recipe, task, works, done, seconds=time.monotonic() - began)
        record = replace(record, findings=tuple(findings))
        if folder is not None:
            write_run(record, model, folder)
        runs.append(Run(record, model, folder))
    return runs


def _all_done(works: Sequence[Work], controls: Sequence[Control], workers: int) -> list[Done]:
    """Every job's result: in this process one after another, or one process per core where that
    pays.
    """
    if workers < 2 or len(works) < 2 or sum(w.seconds for w in works) < SECONDS_WORTH_A_PROCESS:
        return [work(w.task, w.job, c) for w, c in zip(works, controls, strict=True)]
    here = [
        i for i in range(len(works)) if i % workers == 0
    ]  # these report their progress, from this process
    there = [i for i in range(len(works)) if i % workers]
    results: dict[int, Any] = {}
    # at least 2: joblib would not start a single other process; how many work at a time,
    # pre_dispatch says
    elsewhere = joblib.Parallel(
        n_jobs=max(2, workers - 1), pre_dispatch=str(workers - 1), return_as="generator"
    )(joblib.delayed(work)(works[i].task, works[i].job, controls[i]) for i in there)
    for i in here:
        results[i] = work(works[i].task, works[i].job, controls[i])
    results |= dict(zip(there, elsewhere, strict=True))
    return [results[i] for i in range(len(works))]

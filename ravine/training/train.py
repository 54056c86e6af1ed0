"""Training from recipe to run: `train`, `train_all`, `resume`, `open_run`.

From `train` to the network: `train`, `train_jobs`, `train_cohort` (loop.py), the network.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ravine.argument_checks import check_arguments
from ravine.data import RowGroups, TableLike, Task
from ravine.diagnosis.training_curves.series import FALSE_ALARM_CHANCE
from ravine.errors import Interrupted, RunError
from ravine.files import require_path
from ravine.networks.torch_module import ModuleFactory
from ravine.ranks import Ranks, is_first, join_ranks
from ravine.recipe import Recipe
from ravine.recipe_files import recipe_text, with_lasting_paths
from ravine.record import Event
from ravine.run_progress import Progress, ProgressBoard
from ravine.serialization import to_plain
from ravine.training import arguments, run_folder
from ravine.training.batches import InMemory, first_epoch, training_batches
from ravine.training.batchnorm_stats import recompute_statistics
from ravine.training.checkpoint import load_checkpoint, save_checkpoint
from ravine.training.clusters import connect, train_on_cluster, train_one, worker_count
from ravine.training.cohort import Cohort, end_of, start_cohort
from ravine.training.compiled_steps import COMPILED_WAY, way_of_steps
from ravine.training.data_parallel import share_jobs_
from ravine.training.defaults import check_size, load_task, load_tasks, prepare, resolve
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator, log_constant_baseline
from ravine.training.job_control import JobControl
from ravine.training.jobs import JobAssignment, assign_jobs, assign_members
from ravine.training.loop import train_cohort
from ravine.training.moved_files import with_moved_files
from ravine.training.results import JobResult, assemble_run
from ravine.training.run import Run
from ravine.training.run_lock import STOP_FILE, lock_folder
from ravine.training.snapshots import keep_snapshots, report_snapshots
from ravine.training.workers import Crew

# resolved recipe, task -> findings as plain data
RecipeCheck: TypeAlias = Callable[[Recipe, Task], Sequence[Mapping[str, Any]]]
Report: TypeAlias = Callable[[Progress], None]

INEXACT_EVENT = {
    "step": 0,
    "kind": "inexact",
    "member": None,
    "text": "MKL was used before training began, so numbers may depend in their last bits on which "
    "networks train together; to have them equal, set MKL_CBWR=AUTO,STRICT before Python starts",
}


def train(
    recipe: Recipe,
    frame: TableLike | None = None,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    workers: int | str | None = None,
    report: Report | None = None,
    check: RecipeCheck | None = None,
    baseline: bool = True,
    checkpoint_seconds: float = 30.0,
    stop: str | Path | None = None,
) -> Run:
    """Train a recipe's networks and return the run; with `out` also write its folder.

    `frame` is the table as a DataFrame where the recipe names no source. `workers` is the number of
    processes (by default one per core where that pays; compiled steps are shared among as many
    threads as torch has besides, `torch.set_num_threads`), or a cluster: "ray", "ray://HOST:PORT",
    "dask", "tcp://HOST:PORT". `check` is asked before any work, with the
    resolved recipe and its task; what it finds is kept in the record and stops nothing. Unless
    `baseline` is False, boosted trees are fitted to the training rows, too, and their score stands
    beside the networks'. `stop` is a file (by default `stop` in the folder): once it exists, the
    run is saved and left. Raises `InputError` for wrong input before any work, and `Interrupted`
    when the run was asked to end: its folder then holds checkpoints for `resume`. Divergence is no
    error.

    Under torchrun its processes train the same networks, each on its part of every batch: call it
    in all of them. All return the run; the first alone writes, reports, checks and fits trees.
    Raises `RunError` where one of the processes ends before.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 2)
    >>> ravine.train(recipe).score.metric
    'accuracy'
    """
    ranks = join_ranks()
    recipe = arguments.require_recipe(recipe)
    device = arguments.require_device(device)
    workers = arguments.require_workers(workers, ranks)
    check_arguments(train, locals())
    task, recipe = prepare(recipe, frame, ranks)
    assignments = assign_jobs([recipe], [task], device=device, workers=worker_count(workers))
    folder = None if out is None else require_path(out, "out")
    controls = controls_of(assignments, folder, report, seconds=checkpoint_seconds, stop=stop)
    if ranks is not None:
        share_jobs_(assignments, controls, ranks, folder)
        if ranks.rank > 0:
            folder, check, baseline = None, None, False
    with contextlib.nullcontext() if folder is None else run_folder.new_folder(folder):
        if folder is not None:
            recipe_text(recipe, folder)  # raises here where it cannot be written
        findings = () if check is None else check(recipe, task)
        if folder is not None:
            members = [a.shares[0].members for a in assignments]
            count = 1 if ranks is None else ranks.count
            run_folder.write_plan(
                folder, recipe, task, members, device=device, ranks=count, findings=findings
            )
        began = time.monotonic()
        results = train_jobs(assignments, controls, workers=workers)
        return _finish_run(
            assignments, results, folder=folder, began=began, findings=findings, baseline=baseline
        )


def train_all(
    recipes: Sequence[Recipe],
    frame: TableLike | None = None,
    *,
    device: str = "cpu",
    workers: int | str | None = None,
    report: Report | None = None,
) -> list[Run]:
    """Train many recipes, one run each; networks of one shape train as one batch.

    A network's numbers are the same, bit for bit, whatever it is trained together with.
    """
    recipes = arguments.require_recipes(recipes)
    device = arguments.require_device(device)
    workers = arguments.require_workers(workers)
    check_arguments(train_all, locals())
    tasks = load_tasks(recipes, frame)
    resolved = [resolve(recipe, task) for recipe, task in zip(recipes, tasks, strict=True)]
    return train_on(tasks, resolved, device=device, workers=workers, report=report)


def train_on(
    tasks: Sequence[Task],
    recipes: Sequence[Recipe],
    *,
    device: str = "cpu",
    workers: int | str | None = None,
    report: Report | None = None,
    stop: str | Path | None = None,
) -> list[Run]:
    """Train resolved recipes, each on the loaded task at its place of `tasks` (see `prepare`).

    Raises `Interrupted` once the file `stop` exists.
    """
    device = arguments.require_device(device)
    workers = arguments.require_workers(workers)
    assignments = assign_jobs(recipes, tasks, device=device, workers=worker_count(workers))
    began = time.monotonic()
    diagnosed = len(recipes) == 1
    controls = controls_of(
        assignments, None, report, seconds=math.inf, diagnosed=diagnosed, stop=stop
    )
    results = train_jobs(assignments, controls, workers=workers)
    if any(result.interrupted for result in results):
        raise Interrupted("stopped")
    seconds = time.monotonic() - began
    runs = []
    for place, (recipe, task) in enumerate(zip(recipes, tasks, strict=True)):
        record, model = assemble_run(
            recipe, task, place=place, assignments=assignments, results=results, seconds=seconds
        )
        runs.append(Run(record, model))
    return runs


def resume(
    folder: str | Path,
    frame: TableLike | None = None,
    *,
    module: ModuleFactory | None = None,
    files: Mapping[str, str | Path] | None = None,
    workers: int | str | None = None,
    report: Report | None = None,
    baseline: bool = True,
    checkpoint_seconds: float = 30.0,
    stop: str | Path | None = None,
) -> Run:
    """Go on with a run from its checkpoints, to the numbers of one never stopped, bit for bit.

    `frame` must be given again where the run was given one, and `module` where its network was a
    torch module; `files` has the new paths of files that were moved: `{"data.source": "new.csv"}`.
    A run that goes on under other versions has an event that says so. Raises `RunError` if the
    folder is no run, is finished, is damaged or in use, if its recipe.toml was changed, or if the
    data are missing or not those the run began with.
    """
    check_arguments(resume, locals())
    ranks = join_ranks()
    folder = require_path(folder, "the run's folder")
    workers = arguments.require_workers(workers, ranks)
    run_folder.unfinished_plan(folder)
    with lock_folder(folder) if is_first(ranks) else contextlib.nullcontext():
        plan = run_folder.unfinished_plan(folder)
        recipe = run_folder.planned_recipe(plan, folder, module)
        if is_first(ranks):
            run_folder.check_same_recipe(recipe, folder, module)
        recipe = with_moved_files(recipe, files or {}, folder, frame=frame)
        task = _load_same_task(recipe, frame, plan, folder, ranks)
        device = arguments.require_device(plan["device"])
        jobs = run_folder.planned_jobs(plan, recipe, folder)
        assignments = [assign_members(m, recipe, task, device=device) for m in jobs]
        controls = controls_of(assignments, folder, report, seconds=checkpoint_seconds, stop=stop)
        versions = run_folder.note_versions(plan, folder) if is_first(ranks) else ""
        if ranks is not None:
            share_jobs_(assignments, controls, ranks, folder)
        began = time.monotonic()
        results = train_jobs(assignments, controls, workers=workers)
        return _finish_run(
            assignments,
            results,
            folder=folder if is_first(ranks) else None,
            began=began,
            findings=plan.get("findings", ()),
            versions=versions,
            baseline=baseline and is_first(ranks),
        )


def _load_same_task(
    recipe: Recipe,
    frame: TableLike | None,
    plan: Mapping[str, Any],
    folder: Path,
    ranks: Ranks | None,
) -> Task:
    """The task of a run that goes on. Raises `RunError` where its data or their order change."""
    task = load_task(recipe, frame, ranks)
    if task.fingerprint != plan["fingerprint"]:
        what, do = f"the data of {folder} have changed", "restore the data, or train again"
        raise RunError(what, why="a run can only go on with the data it began with", do=do)
    begun, now = plan.get("ranks", 1), 1 if ranks is None else ranks.count
    if begun != now and isinstance(task.train, RowGroups):
        what = f"{folder} was begun by {begun} processes, and {now} go on"
        do = f"start {begun}: torchrun --nproc-per-node {begun} -m ravine train --resume {folder}"
        raise RunError(what, why="the order of a table in pieces depends on their number", do=do)
    check_size(recipe, task)
    return task


def open_run(folder: str | Path, *, module: ModuleFactory | None = None) -> Run:
    """A finished run from its folder. Raises `RunError` if it is unfinished, damaged or too new.

    `module` is the function that makes the network, where the run trained a torch module.
    """
    check_arguments(open_run, locals())
    record, model = run_folder.read_run(folder, module)
    return Run(record, model, Path(folder))


def train_jobs(
    assignments: Sequence[JobAssignment], controls: Sequence[JobControl], *, workers: int | str
) -> list[JobResult]:
    """Every job's result, from this process and, once the steps show that they pay, from others.

    A job goes on from its checkpoint if it has one. `workers` may be the address of a cluster.
    """
    if isinstance(workers, str):
        return train_on_cluster(assignments, controls, connect(workers), _train_remotely)
    pairs = zip(assignments, controls, strict=True)  # this process alone reports
    calls = [partial(train_jobs, [a], [replace(c, report=None)], workers=1) for a, c in pairs]
    seconds = [a.seconds * c.until for a, c in zip(assignments, controls, strict=True)]
    crew = Crew(calls, controls, seconds, workers - 1)
    threads = torch.get_num_threads()  # before it is one, for numbers to be the same in any cohort
    with contextlib.closing(crew):
        while (i := crew.take()) is not None:
            assignment, control = assignments[i], controls[i]
            with exact_arithmetic() as exact:
                saved = control.checkpoint
                if saved is not None and saved.exists():
                    cohort = load_checkpoint(saved, assignment.job)
                else:
                    cohort = start_cohort(assignment.job)
                way = way_of_steps(cohort, assignment.task)
                if control.ranks is not None:
                    control.ranks.check_same(
                        data=assignment.task.fingerprint,
                        recipe=[to_plain(recipe) for recipe in cohort.job.recipes],
                        checkpoint=(cohort.step, float(cohort.weights.double().sum())),
                    )
                if control.leaving:
                    rows = [row for row, i in enumerate(cohort.ids) if i in control.leaving]
                    cohort.end({row: control.leaving[cohort.ids[row]] for row in rows})
                if cohort.ids and (control.is_stop_requested or control.has_come(cohort)):
                    control.interrupted = True  # as far as it came, it is saved
                elif cohort.ids:
                    batches = training_batches(assignment.task, cohort)
                    evaluate = Evaluator.of_task(assignment.task, assignment.job)
                    if cohort.step == 0:  # a checkpoint has it already
                        examples = batches.examples if isinstance(batches, InMemory) else None
                        log_constant_baseline(cohort, examples, evaluate.validation)
                    # a job that keeps all threads busy needs no other processes
                    fills = len(cohort.ids) >= threads or workers == 1 or not crew.waiting
                    in_threads = way == COMPILED_WAY and threads > 1 and fills
                    share = partial(crew.pause, i, control)
                    pause = keep_snapshots(cohort, control if in_threads else share)
                    used = threads if in_threads else 1
                    train_cohort(cohort, batches, evaluate, pause=pause, threads=used)
                    if not control.interrupted:
                        own = saved if is_first(control.ranks) else None
                        _complete(cohort, assignment.task, own)
            if not exact:
                cohort.log.events.append(INEXACT_EVENT)
            result = JobResult(cohort.ended, cohort.log, control.interrupted, end_of(cohort), way)
            crew.found[i] = [result]
        found = crew.results()
    return [found[i][0] for i in range(len(assignments))]


def _train_remotely(
    assignment: JobAssignment, control: JobControl, task: Task, state: bytes | None
) -> tuple[JobResult, bytes | None]:
    return train_one(assignment, control, task, state, train=train_jobs)


def _complete(cohort: Cohort, task: Task, checkpoint: Path | None) -> None:
    """Report snapshots, give averaged weights their statistics of batch norm, and save it all."""
    report_snapshots(cohort)
    tensors = cohort.ended.tensors
    buffers = {name: tensors[f"buffer/{name}"] for name in cohort.buffers}
    if cohort.parts.average is not None and buffers:
        batches = first_epoch(task, cohort.job)
        found = recompute_statistics(cohort.job, tensors["weights"], buffers, batches=batches)
        tensors |= {f"buffer/{name}": value for name, value in found.items()}
    if checkpoint is not None:
        save_checkpoint(cohort, checkpoint)


def controls_of(
    assignments: Sequence[JobAssignment],
    folder: Path | None,
    report: Report | None,
    *,
    seconds: float,
    stop: str | Path | None = None,
    diagnosed: bool = True,
) -> list[JobControl]:
    """The control of each job."""
    count = len(assignments)
    board = None
    if report is not None and count > 1:
        sizes = [len(a.job.seeds) for a in assignments]
        board = ProgressBoard([a.seconds for a in assignments], sizes)
    if stop is None and folder is not None:
        stop = folder / STOP_FILE
    return [
        JobControl(
            job=i,
            seconds=seconds,
            report=report,
            board=board,
            checkpoint=None if folder is None else folder / f"checkpoint-{i}.safetensors",
            stop=None if stop is None else Path(stop),
            alpha=FALSE_ALARM_CHANCE / count if diagnosed else 0.0,
        )
        for i in range(count)
    ]


def _finish_run(
    assignments: Sequence[JobAssignment],
    results: Sequence[JobResult],
    *,
    folder: Path | None,
    began: float,
    findings: Sequence[Mapping[str, Any]],
    baseline: bool,
    versions: str = "",
) -> Run:
    """The run of one recipe from the results of its jobs, written to its folder."""
    if any(r.interrupted for r in results):
        resume_text = "" if folder is None else f"; go on with: ravine train --resume {folder}"
        raise Interrupted(f"stopped{resume_text}")
    recipe, task = assignments[0].job.recipes[0], assignments[0].task
    seconds = time.monotonic() - began
    record, model = assemble_run(
        recipe, task, assignments=assignments, results=results, seconds=seconds, baseline=baseline
    )
    noted = (Event(step=0, kind="versions", text=versions),) if versions else ()
    record = replace(record, findings=tuple(findings), events=noted + record.events)
    if folder is not None:
        record = replace(record, recipe=to_plain(with_lasting_paths(recipe, folder)))
        run_folder.write_run(record, model, folder)
    return Run(record, model, folder)

"""Comparing choices: the same seeds, splits and rows for all; one cohort for what has one shape."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from ravine.argument_checks import Bounds, Count, check_arguments
from ravine.data import TableLike, Task
from ravine.data.examples import evenly_spaced
from ravine.errors import InputError, join_first
from ravine.paired import least_seeds
from ravine.part import group_key, starting_numbers
from ravine.recipe import Recipe
from ravine.studies.contestants import NOT_COMPARED, Choice, read_choices
from ravine.studies.panel import Scored, panel_of
from ravine.studies.rate_tuning import tune_rates, with_rate
from ravine.studies.score_differences import (
    NO_INTERVAL,
    SIGNIFICANCE_LEVEL,
    compare_scores,
    reference_leads,
)
from ravine.studies.target_times import TargetTimes
from ravine.studies.tuned_rate import TunedRate
from ravine.studies.verdict import ChoiceResult, Verdict
from ravine.training import arguments
from ravine.training.batches import training_batches
from ravine.training.cohort import Cohort, start_cohort
from ravine.training.compiled_steps import is_long
from ravine.training.defaults import batch_size, load_tasks, resolve, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator
from ravine.training.jobs import assign_members
from ravine.training.loop import train_cohort
from ravine.training.run import Run
from ravine.training.rungs import train_in_rungs
from ravine.training.train import Report

LEAST_SEEDS = 2
TIMED_BATCHES, TIMED_SECONDS = 64, 0.1  # of one network alone, at most
LEAST_TIMED_STEPS, MAX_TIMED_EPOCHS = 16, 256


def compare(
    choices: Mapping[str, Choice] | Sequence[Recipe],
    frame: TableLike | None = None,
    *,
    seeds: Count = 16,
    base: Recipe | None = None,
    margin: float | None = None,
    tune_lr: Annotated[int, Bounds(ge=3, le=1000)] | None = None,
    changes: Mapping[str, Mapping[float, Recipe]] | None = None,
    target: float | None = None,
    trees: bool = True,
    device: str = "cpu",
    workers: int | str | None = None,
    report: Report | None = None,
    stop: Path | None = None,
) -> Verdict:
    """Train several choices with the same seeds and say which is better, and how sure that is.

    `choices` are recipes by name (or a list of recipes, named by what differs); a choice may also
    be a scikit-learn estimator, or a function of a `Signature` that makes a `torch.nn.Module`:
    these take the data and, for a module, the training of `base` (else of the first recipe). For
    each of `seeds` seeds all choices have the same split, start, order of examples and dropout, as
    far as they have these at all, and all are scored on the same test rows (the validation rows,
    where the recipe keeps no test split). Each network is scored alone: what a recipe's own
    `seeds` networks reach together is not compared.

    `tune_lr` gives each choice the best of so many learning rates, 9 say, chosen by other seeds
    (`tune_rates`). `changes` has for choices, by name, recipes of the same shape by which these go
    on from shares of their budget: a schedule of settings. With `target` the verdict says when
    validation scores first reach it.

    With `margin`, choices whose scores differ by less are called equivalent. With `trees`, boosted
    trees stand beside the choices, as does the best constant answer. `report` hears of the
    progress; once the file `stop` exists, `Interrupted` is raised. Raises `RecipeError` before any
    training for choices that cannot be built, that learn from other data or are scored on other
    rows.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 5)
    >>> verdict = compare({"fast": recipe, "slow": recipe.vary("optimizer.lr", 1e-4)}, seeds=8)
    >>> verdict.best.name, len(verdict["fast"].scores)
    ('fast', 8)
    """
    workers = arguments.require_workers(workers)
    device = arguments.require_device(device)
    others = {name: value for name, value in locals().items() if name != "choices"}
    check_arguments(compare, others)
    if seeds < LEAST_SEEDS:
        what, why = f"seeds is {seeds}", "a difference with an interval needs 2 at least"
        raise InputError(what, why=why, do="use 8 or more")
    if margin is not None and margin <= 0:
        raise InputError(f"margin is {margin:g}", why="it is a difference of scores above 0")
    contestants = read_choices(choices, base, seeds)
    names, recipes = list(contestants.recipes), list(contestants.recipes.values())
    tasks = load_tasks(recipes, frame)
    resolved = [resolve(r, t) for r, t in zip(recipes, tasks, strict=True)]
    panel = panel_of(names, tasks, resolved)
    for name, estimator in contestants.estimators.items():
        panel.check_estimator(name, estimator)
    notes = [*_too_few_seeds(len(contestants.names), seeds), *contestants.notes, *panel.notes]
    aims = [] if target is None else [panel.encode_score(target, task) for task in tasks]
    how = {"device": device, "workers": workers, "report": report, "stop": stop}
    known = dict(zip(names, zip(resolved, tasks, strict=True), strict=True))
    schedules = _resolve_changes(changes or {}, known, tune_lr)
    tuned: dict[str, TunedRate] = {}
    if tune_lr is not None:
        by_name = dict(zip(names, resolved, strict=True))
        tuned = tune_rates(by_name, tasks, panel, count=tune_lr, **how)
        by_name |= {name: with_rate(by_name[name], one.rate) for name, one in tuned.items()}
        resolved = list(by_name.values())
        fixed = [name for name in contestants.names if name not in tuned]
        notes += [f"Without a learning rate, so as they are: {', '.join(fixed)}."] if fixed else []

    def decide(share: float, _: object) -> dict[int, tuple[int, Recipe]]:
        own = {names.index(name): by_share.get(share) for name, by_share in schedules.items()}
        return {i: (i, recipe) for i, recipe in own.items() if recipe is not None}

    shares = sorted({share for own in schedules.values() for share in own})
    trained = train_in_rungs(tasks, resolved, shares, decide, **how)
    runs = [Run(*one.assemble(task)) for one, task in zip(trained, tasks, strict=True)]
    scored: dict[str, Scored] = {}
    seconds: dict[object, float] = {}  # networks that train together take as long alone
    times: dict[str, TargetTimes] = {}
    for name, run, task in zip(names, runs, tasks, strict=True):
        key = group_key(run.recipe), id(task)
        if run.model and key not in seconds:
            seconds[key] = seconds_alone(run.recipe, task, device=device)
        taken = seconds[key] if run.model else math.nan
        scored[name] = panel.score_run(run, task)._replace(seconds=taken)
    for name, run, task, aim in zip(names, runs, tasks, aims, strict=bool(aims)):
        plan, steps = training_plan(run.recipe, task), panel.steps_to(aim, run)
        times[name] = TargetTimes(steps, plan.per_epoch, scored[name].seconds / plan.steps)
    first = resolved[0].seed
    for name, estimator in contestants.estimators.items():
        scored[name] = panel.score_estimator(name, estimator, seed=first, count=seeds)
    results = [
        ChoiceResult(
            name=name,
            kind="recipe" if name in contestants.recipes else "estimator",
            seeds=tuple(range(first, first + seeds)),
            scores=scored[name].scores,
            score=NO_INTERVAL,
            settings=contestants.settings_of(name),
            seconds=scored[name].seconds,
            validation=scored[name].validation,
            tuned_rate=tuned.get(name),
            times=times.get(name),
        )
        for name in contestants.names
    ]
    samples = [scored[name].samples for name in contestants.names]
    higher = panel.metric.higher_is_better
    ordered, differences = compare_scores(results, samples, higher_is_better=higher, margin=margin)
    references, best = panel.references(trees), ordered[0]
    drawn = scored[best.name].samples
    return Verdict(
        metric=panel.metric.name,
        higher_is_better=higher,
        split=panel.split,
        rows=panel.held_out.count,
        choices=ordered,
        differences=differences,
        margin=margin,
        target=target,
        references={name: known.scores[0] for name, known in references.items()},
        leads=reference_leads(best, drawn, references, higher_is_better=higher),
        notes=tuple(notes),
    )


def _resolve_changes(
    changes: Mapping[str, Mapping[float, Recipe]],
    known: Mapping[str, tuple[Recipe, Task]],
    tune_lr: int | None,
) -> dict[str, dict[float, Recipe]]:
    """By which resolved recipes choices go on, from which shares of their budget on, by name.

    `known` has the resolved recipes of the choices, and their tasks. What is not compared stays as
    it is there. Raises `InputError` for what cannot be changed while networks train.
    """
    if changes and tune_lr is not None:
        why = "a schedule of settings has its own learning rates"
        raise InputError("changes with tune_lr", why=why, do="leave tune_lr out")
    found: dict[str, dict[float, Recipe]] = {}
    for name, own in changes.items():
        if name not in known:
            what, why = f"changes has {name!r}", f"the recipes compared are {join_first([*known])}"
            raise InputError(what, why=why, do="name one of them")
        recipe, task = known[name]
        same = {key: getattr(recipe, key) for key in NOT_COMPARED}
        found[name] = {}
        for share, given in own.items():
            where = f"changes of {name!r} at {share:g}"
            if not 0 < share < 1:
                why = "a share of the budget lies between 0 and 1"
                raise InputError(where, why=why, do="write 0.5 for the second half")
            one = resolve(dataclasses.replace(given, **same), task)
            keys = [(group_key(r), starting_numbers(r)) for r in (one, recipe)]
            if keys[0] != keys[1]:
                why = "only numbers that act after the start and may differ in one batch can change"
                raise InputError(where, why=why, do="change only numbers such as optimizer.lr")
            found[name][share] = one
    return found


def _too_few_seeds(choices: int, seeds: int) -> list[str]:
    """What to say where so few seeds cannot show any difference."""
    least = least_seeds(SIGNIFICANCE_LEVEL / math.comb(choices, 2))
    if seeds >= least:
        return []
    return [f"With {choices} choices, {least} seeds are needed for any difference to be shown."]


def seconds_alone(recipe: Recipe, task: Task, *, device: str) -> float:
    """The time to train one network of a resolved recipe alone, on one core, without evaluations.

    The steps that it may make, at the mean cost of a step on a few batches.
    """
    plan = training_plan(recipe, task)
    batches = min(plan.per_epoch, TIMED_BATCHES)  # each epoch begins the kernels anew
    few = evenly_spaced(task.train, batches * batch_size(recipe, task))
    short = dataclasses.replace(task, train=few, validation=None, test=None)
    one = dataclasses.replace(recipe, seeds=1, stop=None, snapshots=None, epochs=MAX_TIMED_EPOCHS)
    job = assign_members([0], one, short, device=device).job
    clock = time.process_time if device == "cpu" else time.perf_counter
    ticks: list[tuple[int, float]] = []

    def is_timed(cohort: Cohort) -> bool:
        ticks.append((cohort.step, clock()))
        steps, seconds = (last - first for first, last in zip(ticks[0], ticks[-1], strict=True))
        return steps >= LEAST_TIMED_STEPS and seconds > TIMED_SECONDS

    with exact_arithmetic():
        cohort = start_cohort(job)
        batches = training_batches(short, cohort)
        evaluate = Evaluator.of_task(short, job)
        train_cohort(cohort, batches, evaluate, pause=is_timed, threads=int(is_long(plan)))
    steps, seconds = (last - first for first, last in zip(ticks[0], ticks[-1], strict=True))
    return seconds / max(1, steps) * plan.steps

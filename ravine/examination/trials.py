"""Remedies tried on a recipe: short runs on the same seeds, judged on the validation split beside
the untouched recipe.

The untouched recipe may train as long as it is meant to. Remedies are looked at for a few hundred
steps; what gets further in these is tried with more seeds, and for as many steps as can be
afforded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from ravine.data import RowGroups
from ravine.diagnosis.trials.rules import GOOD, SEEDS, Outcome, Tried
from ravine.errors import RavineError
from ravine.examination.recipe_subject import Judge, Marks, judge_of
from ravine.examination.remedies import Remedy, applied
from ravine.examination.verdict import weigh
from ravine.finding import Change
from ravine.recipe import Recipe
from ravine.training.defaults import batch_size, load_task, resolve, training_plan
from ravine.training.run import Run
from ravine.training.train import train_on

FEW = 2  # of these that look first
STEPS = 300  # of a first look at a remedy
LEAST_STEPS = 40
BASE_STEPS = 1500  # of a trial that counts, and of the untouched recipe where there is no run of it
SECONDS = 60.0  # for all trials together, about
TRIALS = 60  # networks trained for a trial's steps, about
LITTLE = 0.1  # of what there was to gain: not worth more seeds
NEAR = 0.05  # of what there was to gain: as good
PACED = 8  # steps by which the time of one is measured


Say: TypeAlias = Callable[[str], None]


def silent(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Bench:
    """What trials need: the recipe (resolved) on a task that is small enough, its run, and who
    judges.
    """

    recipe: Recipe
    task: Any
    frame: Any
    judge: Judge
    run: Run
    whole: bool  # the run is as long as the recipe says, and on all its examples
    marks: Marks  # of the run
    steps: int  # of a first look at a remedy
    length: (
        int  # steps of a trial that counts: as long as the recipe means, if that can be afforded
    )


def bench_of(
    recipe: Recipe, task: Any, run: Run | None, frame: Any = None, *, say: Say = silent
) -> Bench:
    """Everything that trials need; the untouched recipe is trained where there is no run of it on
    these examples with enough seeds.

    `say` is told what takes a while.
    """
    recipe, small = recipe.vary("seeds", SEEDS), cut(task, recipe)
    seconds = pace(small, recipe)
    steps = int(max(LEAST_STEPS, min(STEPS, SECONDS / TRIALS / seconds)))
    length = int(max(steps, min(BASE_STEPS, SECONDS / 4 / SEEDS / seconds)))
    whole = small is task
    if run is None or not whole or len(run.record.members) < SEEDS:
        short = shortened(recipe, small, length)
        say(
            f"training the untouched recipe: {training_plan(short, small).steps:,} steps, "
            f"{SEEDS} seeds"
        )
        run, whole = train_on([small], [short])[0], whole and short.epochs == recipe.epochs
    judge = judge_of(small)
    return Bench(
        recipe, small, frame, judge, run, whole, judge.marks(run, small, SEEDS), steps, length
    )


def cut(task: Any, recipe: Recipe) -> Any:
    """The task with so few training examples that a pass over them is no longer than a trial; most
    stay as they are.
    """
    if isinstance(task.train, RowGroups):
        train = next(iter(task.train.epoch(recipe.seed, 0)))
    else:
        most = max(2, STEPS) * batch_size(recipe, task)
        if recipe.batch == "all" or task.train.count <= 2 * most:
            return task
        train = task.train.take(torch.linspace(0, task.train.count - 1, most).round().long())
    return replace(task, train=train, test=None, fingerprint=f"{task.fingerprint} cut")


def pace(task: Any, recipe: Recipe) -> float:
    """Seconds that one network takes for one step, by a few of them."""
    few = task.train.take(torch.arange(min(task.train.count, PACED * batch_size(recipe, task))))
    short = shortened(recipe, replace(task, train=few, validation=None, test=None), PACED)
    began = time.perf_counter()
    train_on([replace(task, train=few, test=None)], [short], workers=1)
    return (time.perf_counter() - began) / (SEEDS * PACED)


def shortened(recipe: Recipe, task: Any, steps: int) -> Recipe:
    """The recipe with so few epochs that it makes about so many steps, if it makes more."""
    per_epoch = -(-task.train.count // batch_size(recipe, task))
    assert recipe.epochs is not None  # resolved
    return recipe.vary("epochs", min(recipe.epochs, max(1, round(steps / per_epoch))))


# Trying


def tried_on(
    bench: Bench, remedies: Sequence[Remedy], *, sure: Sequence[str] = (), say: Say = silent
) -> Tried:
    """What remedies did: each at its best strength; the one to blame is confirmed, and those for
    causes in `sure`.

    Nothing is tried where nothing is left to gain.
    """
    base = _outcome("healthy", (), bench.marks)
    seen = Tried(base=base, null=bench.judge.null, start=bench.judge.null, steps=bench.steps)
    if base.score is not None and base.score >= GOOD:
        return seen
    count = sum(len(r.strengths) for r in remedies)
    say(f"trying {count} changes: {bench.steps} steps, {FEW} seeds")
    seen = screened(bench, seen, remedies)
    while (first := seen.blamed) is not None and first.trial is None:
        say(f"confirming {first.cause}: {SEEDS} seeds")
        seen = _with(seen, first, confirmed(bench, first))
    for outcome in seen.outcomes:
        if outcome.cause in sure and outcome.trial is None and seen.gain(outcome) > LITTLE:
            say(f"confirming {outcome.cause}: {SEEDS} seeds")
            seen = _with(seen, outcome, confirmed(bench, outcome))
    return seen


def screened(bench: Bench, seen: Tried, remedies: Sequence[Remedy]) -> Tried:
    """What each remedy does at the best of its strengths, on a few seeds."""
    chosen, recipes, refused = [], [], list(seen.refused)
    for remedy in remedies:
        for strength in remedy.strengths:
            try:
                recipes.append(_treated(bench, strength, bench.steps))
                chosen.append((remedy, strength))
            except RavineError as error:
                refused.append((strength[0], str(error)))
    found: dict[str, list[Outcome]] = {}
    for (remedy, strength), marks in zip(chosen, _trials(bench, recipes, seeds=FEW), strict=True):
        outcome = replace(
            _outcome(remedy.cause, strength, marks),
            grounds=remedy.grounds,
            where=remedy.where,
            suspects=remedy.suspects,
        )
        found.setdefault(remedy.cause, []).append(outcome)
    seen = replace(
        seen, outcomes=tuple(o for same in found.values() for o in same), refused=tuple(refused)
    )
    return replace(seen, outcomes=tuple(_best(seen, same) for same in found.values()))


def _best(seen: Tried, outcomes: Sequence[Outcome]) -> Outcome:
    """The outcome that gains most; of learning rates the lowest that gains as much, for a trial is
    short.
    """
    most = max(seen.gain(o) for o in outcomes)
    near = [
        o
        for o in outcomes
        if seen.gain(o) >= most - (NEAR if o.cause.startswith("learning-rate") else 0.0)
    ]
    return (
        min(near, key=lambda o: o.changes[0].value)
        if len(near) > 1 and near[0].cause.startswith("learning-rate")
        else near[0]
    )


def confirmed(bench: Bench, outcome: Outcome) -> Outcome:
    """The remedy tried with all seeds, paired with the untouched recipe, and the verdict.

    Longer than it was first looked at: what only learns faster, or overfits later, must hold to the
    end.
    """
    recipe = _treated(bench, outcome.changes, bench.length)
    marks = _trials(bench, [recipe], seeds=SEEDS)[0]
    pairs = list(zip(bench.marks.losses, marks.losses, strict=False))
    trial = weigh([b for b, _ in pairs], [a for _, a in pairs], steps=_length(bench, recipe))
    found = _outcome(outcome.cause, outcome.changes, marks)
    return replace(outcome, losses=found.losses, scores=found.scores, trial=trial)


def _treated(bench: Bench, changes: Sequence[Change], steps: int) -> Recipe:
    """The recipe with changes, as it is tried: a run that is meant to be longer stays so."""
    recipe = resolve(applied(bench.recipe, changes), bench.task)
    return recipe if recipe.epochs != bench.recipe.epochs else shortened(recipe, bench.task, steps)


def _length(bench: Bench, recipe: Recipe) -> int:
    return training_plan(recipe, bench.task).steps


def _trials(bench: Bench, recipes: Sequence[Recipe], *, seeds: int) -> list[Marks]:
    """The marks of recipes' runs; one that encodes its examples differently loads them."""
    tasks = [
        bench.task if r.encoding == bench.recipe.encoding else cut(load_task(r, bench.frame), r)
        for r in recipes
    ]
    runs = train_on(tasks, [r.vary("seeds", seeds) for r in recipes])
    return [bench.judge.marks(run, task, seeds) for run, task in zip(runs, tasks, strict=True)]


def _outcome(cause: str, changes: tuple[Change, ...], marks: Marks) -> Outcome:
    """Loss and score averaged over seeds; NaN where most of them diverged."""
    finite = [(loss, score) for loss, score in zip(*marks, strict=True) if math.isfinite(loss)]
    if 2 * len(finite) <= len(marks.losses):
        return Outcome(cause=cause, changes=changes, losses=(math.nan,), scores=(None,))
    loss, score = np.mean(finite, axis=0).tolist()
    return Outcome(cause=cause, changes=changes, losses=(loss,), scores=(score,))


def _with(seen: Tried, old: Outcome, new: Outcome) -> Tried:
    return replace(seen, outcomes=tuple(new if o is old else o for o in seen.outcomes))

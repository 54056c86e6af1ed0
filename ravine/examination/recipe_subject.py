"""A recipe, or a run of one, as a subject of the engine. Its trials train as cohorts."""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ravine.data import RowGroups, TableLike, Task
from ravine.diagnosis.registry import CURVE_RULES
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves.rate_advice import agree_on_rate
from ravine.diagnosis.training_curves.series import TrainingCurves, curves_of_record
from ravine.diagnosis.trials.trial_results import TrialResults
from ravine.errors import InputError, RavineError
from ravine.examination.preflight import check_recipe
from ravine.examination.recipe_changes import SetSetting, apply_changes, useful_changes
from ravine.examination.recipe_settings import CHANGES_BY_CAUSE, RECIPE_FACTS
from ravine.examination.recipe_trials import SCREENING_SEEDS, RecipeTrials, prepare_trials
from ravine.examination.subject import (
    CannotTryError,
    Facts,
    Say,
    SeedRun,
    Strength,
    SubjectProfile,
    TrialBudget,
)
from ravine.examination.trials import median_outcome
from ravine.files import run_state
from ravine.finding import MANUAL_CHANGES, Change, Finding
from ravine.recipe import Recipe
from ravine.record import Record, Score, read_json
from ravine.training.defaults import load_task, resolve, training_plan
from ravine.training.evaluation import constant_loss
from ravine.training.moved_files import with_moved_files
from ravine.training.run import Run
from ravine.training.run_folder import planned_recipe
from ravine.training.train import open_run, train_on


@dataclass
class RecipeSubject:
    """A resolved recipe with its task, and a run of it if there is one."""

    recipe: Recipe
    task: Task
    own_run: Run | None = None
    name: str | None = None  # the folder of the run
    frame: TableLike | None = None
    trials: RecipeTrials | None = None  # once it was profiled for trials

    @property
    def score(self) -> Score | None:
        return None if self.own_run is None else self.own_run.score

    @property
    def budget(self) -> TrialBudget:
        assert self.trials is not None
        return self.trials.budget

    @property
    def has_budget(self) -> bool:
        return True

    def limit_threads(self) -> AbstractContextManager[None]:
        """Training sets its own."""
        return contextlib.nullcontext()

    def profile(self, *, trials: bool, say: Say) -> SubjectProfile:
        """Check recipe and data, train it if trials need a run, and read the run's curves."""
        recipe, task, run = self.recipe, self.task, self.own_run
        say("checking recipe and data")
        profile = check_recipe(recipe, task)
        if trials:
            own = self.trials = prepare_trials(recipe, task, run=run, frame=self.frame, say=say)
            runs = tuple(own.evaluate(own.run))
            results = TrialResults(  # to which trials are compared
                base=median_outcome("healthy", runs[:SCREENING_SEEDS]),
                constant_loss=own.constant_loss,
                start_loss=own.constant_loss,
                steps=training_plan(own.shorten_with((), own.budget.steps), own.task).steps,
            )
            profile = replace(profile, runs=runs, results=results)
            run = run or (own.run if own.whole else None)
        if run is None:
            return profile
        found, checks = run_rules(CURVE_RULES, curves_with_constant(run.record, recipe, task))
        found = [replace(f, changes=useful_changes(recipe, f.changes)) for f in found]
        found = agree_on_rate([*profile.findings, *found])
        return replace(profile, findings=found, checks=profile.checks.merge(checks))

    def strengths(self, cause: str) -> tuple[Strength, ...]:
        find = CHANGES_BY_CAUSE.get(cause)
        changes = () if find is None else find(self.recipe, self.task)
        useful = (useful_changes(self.recipe, strength) for strength in changes)
        return tuple(tuple(SetSetting(c) for c in strength) for strength in useful if strength)

    def cures(self, finding: Finding) -> tuple[Strength, ...]:
        asked = self.treatments_for(finding.changes)
        others = (s for s in self.strengths(finding.cause) if s != asked)
        return (*((asked,) if asked else ()), *others)

    def treatments_for(self, changes: Sequence[Change]) -> Strength:
        useful = useful_changes(self.recipe, changes)
        return tuple(SetSetting(c) for c in useful if c.path not in MANUAL_CHANGES)

    def join(self, strengths: Sequence[Strength]) -> Strength:
        by_path = {made.change.path: made for strength in strengths for made in strength}
        return tuple(by_path.values())

    def with_treatments(self, strength: Strength, *, loss_in_doubt: bool) -> "RecipeSubject":
        try:
            recipe = apply_changes(self.recipe, [made.change for made in strength])
            task = load_task(recipe, self.frame)
            recipe = resolve(recipe, task)
        except RavineError as error:
            raise CannotTryError(str(error)) from error
        return replace(self, recipe=recipe, task=task, own_run=None, trials=None)

    def facts(self, cause: str, profile: SubjectProfile) -> Facts | None:
        """What the recipe's settings say for a cause; the number may be that of a finding."""
        find = RECIPE_FACTS.get(cause)
        facts = None if find is None else find(self.recipe, self.task)
        asking = [f for f in profile.findings if f.cause == cause and f.confidence != "low"]
        if facts is not None and not facts.evidence and asking:
            return replace(facts, evidence=asking[0].evidence[:1])
        return facts

    def run(
        self,
        strengths: Sequence[Strength],
        *,
        seeds: range,
        steps: int | None,
        evaluate_at: Sequence[int] = (),
        loss_in_doubt: bool = False,
    ) -> list[list[SeedRun] | CannotTryError]:
        """As one cohort wherever networks are of one shape. Losses and scores are on one scale
        whatever the loss, so none is ever in doubt.
        """
        if len(seeds) == 0:
            return [[] for _ in strengths]
        assert self.trials is not None
        trials = self.trials
        found: list[list[SeedRun] | CannotTryError] = []
        recipes: dict[int, Recipe] = {}  # by the place of the strength
        for place, strength in enumerate(strengths):
            found.append([])
            changes = [treatment.change for treatment in strength]
            try:
                recipe = trials.shorten_with(changes, steps).vary("seeds", len(seeds))
                recipes[place] = recipe.vary("seed", trials.recipe.seed + seeds.start)
            except RavineError as error:
                found[place] = CannotTryError(str(error))
        tasks = [trials.task_for(recipe) for recipe in recipes.values()]
        runs = train_on(tasks, list(recipes.values()))
        for place, run, task in zip(recipes, runs, tasks, strict=True):
            found[place] = trials.evaluate(run, task)[: len(seeds)]
        return found

    def try_unmeasured_remedies(self, results: TrialResults) -> TrialResults:
        return results


def curves_with_constant(record: Record, recipe: Recipe, task: Task) -> TrainingCurves:
    """The curves of a run, beside what the best constant answer would have lost."""
    curves = curves_of_record(record)
    if task.validation is None or isinstance(task.train, RowGroups):
        return curves
    assert recipe.loss is not None  # resolved
    references = replace(
        curves.references,
        constant_train_loss=constant_loss(recipe.loss, task.train, task.outputs),
        constant_validation_loss=constant_loss(recipe.loss, task.validation, task.outputs),
    )
    return replace(curves, references=references)


def subject_of(
    what: str | Path | Run | Recipe,
    frame: TableLike | None = None,
    *,
    module: Any = None,
    files: Mapping[str, str | Path] | None = None,
) -> RecipeSubject:
    """The subject that a folder, a run or a recipe stands for. Raises `InputError`. `files` has the
    new paths of a run's files that were moved, by their settings.
    """
    run: Run | None = None
    folder: Path | None = None
    if isinstance(what, Recipe):
        recipe = what
    elif isinstance(what, Run):
        run = what
        recipe, folder = run.recipe, run.folder
    else:
        folder = Path(what)
        recipe = planned_recipe(read_json(folder / "plan.json"), folder, module)
        if run_state(folder) == "finished":
            run = open_run(folder, module=module)
    if folder is not None:
        recipe = with_moved_files(recipe, files or {}, folder, frame=frame)
    task = load_task(recipe, frame)
    if run is None:  # also where it is unfinished: what it is to become is tried instead
        recipe = resolve(recipe, task)
    elif task.fingerprint != run.record.task["fingerprint"]:
        why, do = "what was measured says nothing of these", "restore the data, or train again"
        raise InputError("the data of the run have changed", why=why, do=do)
    name = None if folder is None else str(folder)
    return RecipeSubject(recipe, task, own_run=run, name=name, frame=frame)

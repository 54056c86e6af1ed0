"""Tuning: Optuna draws settings in batches, cohorts train them, and fresh seeds confirm the best.

Letters: B bootstrap samples of the rows.
"""

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import TrialState

from ravine import metrics
from ravine.argument_checks import Count, Seed, check_arguments
from ravine.catalog import PARTS_BY_ROLE
from ravine.data import TableLike, Task
from ravine.errors import InputError, RavineError, RecipeError, RunError
from ravine.files import require_path
from ravine.metrics import Metric, resampled_values
from ravine.recipe import Recipe
from ravine.recipe_files import with_lasting_paths, with_values
from ravine.record import Event
from ravine.rng import stream_seed
from ravine.serialization import from_plain, to_plain
from ravine.studies.compare import LEAST_SEEDS, compare
from ravine.studies.population import (
    POPULATION_SAMPLER,
    Phase,
    Population,
    can_change,
    check_population,
    exchange_shares,
    exchange_step,
)
from ravine.studies.samplers import (
    LARGEST_BATCH,
    Halving,
    PrunerName,
    SamplerName,
    grid_size,
    make_sampler,
    trials_to_draw,
)
from ravine.studies.spaces import AUTO_SPACE, Space, SpaceLike, checked_space, setting_value
from ravine.studies.study_storage import (
    BUDGET_ATTRIBUTE,
    FACTS_ATTRIBUTE,
    RESULT_ATTRIBUTE,
    STORAGE_FILE,
    OpenTrial,
    TrialBatch,
    TrialBook,
    attributes_in,
    note_storage,
    noted_storage,
    open_book,
    quiet_optuna,
)
from ravine.studies.tuned_trials import (
    STARTING_NAME,
    TunedTrial,
    constant_name,
    rank_trials,
    trial_name,
)
from ravine.studies.tuning import NETWORKS_FOLDER, RESULT_FILE, TuningResult
from ravine.studies.verdict import Verdict
from ravine.training import arguments
from ravine.training.defaults import load_task, prepare, resolve, training_plan
from ravine.training.run_folder import write_plan, write_run
from ravine.training.run_lock import lock_folder
from ravine.training.rungs import TrainedRecipe, train_in_rungs
from ravine.training.scores import score_unit
from ravine.training.train import Report

STUDY_SCHEMA = 1
DEFAULT_TRIALS = 64
TIE_RESAMPLES = 256  # B
RESAMPLE_DIGITS = 6
RESAMPLED_VALUES = 2**22  # predictions of so many trials at once
FIRST_BATCH, GROWTH_FACTOR = 2, 4  # where the budget is a time: how long a trial takes is seen


def tune(
    recipe: Recipe,
    space: Mapping[str, SpaceLike] | Literal["auto"] = "auto",
    frame: TableLike | None = None,
    *,
    trials: Count | None = None,
    minutes: float | None = None,
    sampler: SamplerName = "tpe",
    pruner: PrunerName = "none",
    seeds: Count = 1,
    seed: Seed = 0,
    confirm: int = 3,
    confirm_seeds: Count = 8,
    out: str | Path | None = None,
    storage: str | None = None,
    name: str = "ravine",
    device: str = "cpu",
    workers: int | str | None = None,
    report: Report | None = None,
    each: Callable[[TuningResult], None] | None = None,
    stop: str | Path | None = None,
) -> TuningResult:
    """Look for settings of a recipe that give the best validation score.

    `space` has by the path of each setting its values: a distribution of Optuna, a text as on the
    command line (`"log:1e-4..1e-1"`, `"0..0.5"`), or a list; "auto" takes the settings that matter
    most around their present values. A trial trains `seeds` networks, the same seeds in all trials;
    it has failed where one of them diverges. The budget is `trials` (64 where none is given) or
    `minutes`.

    `sampler` draws the trials: "random", "qmc" (scrambled Sobol points), "grid" (all combinations),
    or by what ended trials reached "tpe", "gp" (a Gaussian process) or "cmaes". Trials are drawn in
    batches and train as cohorts; a space with no more combinations than `trials` is tried whole.
    "pbt" trains `trials` as one population, in which the worst go on from the best with settings
    near theirs (see `Population`); what it finds is a schedule of settings, which is trained from
    the start on the fresh seeds, beside its last settings throughout and the recipe as it was.
    `pruner` ends trials early: "halving" lets half go on after 1/27 of their steps, a third after
    1/9 and a fifth after 1/3, "hyperband" gives some more time (see `Halving`).

    The best `confirm` trials are then trained with `confirm_seeds` fresh seeds beside the recipe as
    it was, and compared on the test split (0: not). With `out` everything is kept in that folder,
    `storage` is the URL of a database for Optuna (several processes may share it; studies there are
    told apart by `name`): the same call goes on with a study that was stopped or killed. `report`
    hears of the training, `each` of what was found after each batch. Raises `InputError` for wrong
    input before any training, and `Interrupted` once the file `stop` exists.

    >>> import ravine
    >>> recipe = ravine.named_recipe("plain").vary("data.source", "iris").vary("epochs", 3)
    >>> found = tune(recipe, {"optimizer.lr": "log:1e-3..1"}, trials=12, confirm=0)
    >>> len(found.trials), found.metric, sorted(found.best.values)
    (12, 'accuracy', ['optimizer.lr'])
    """
    workers = arguments.require_workers(workers)
    device = arguments.require_device(device)
    recipe = arguments.require_recipe(recipe)
    others = {key: value for key, value in locals().items() if key != "space"}
    check_arguments(tune, others)
    if recipe.split.validation == 0:
        what, do = "the recipe keeps no validation split", "set split.validation above 0"
        raise RecipeError(what, why="trials are chosen by it", do=do)
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes is {minutes:g}", why="it must be above 0")
    if confirm < 0:
        raise InputError(f"confirm is {confirm}", why="it counts trials", do="use 0 for none")
    if confirm and confirm_seeds < LEAST_SEEDS:
        what, why = f"confirm_seeds is {confirm_seeds}", "an interval needs 2 at least"
        raise InputError(what, why=why, do="use 8 or more")
    checked = checked_space(space, recipe)
    if sampler == POPULATION_SAMPLER:
        if space == AUTO_SPACE:
            checked = {path: d for path, d in checked.items() if can_change(recipe, path, d)}
        check_population(recipe, checked, trials=trials, minutes=minutes, pruner=pruner)
    with quiet_optuna():
        make_sampler(sampler, checked, seed=seed, done=0)  # raises where the space has none
    if trials is None and minutes is None and sampler != "grid":
        trials = DEFAULT_TRIALS
    most = grid_size(checked)
    is_few = trials is not None and most <= trials and sampler != POPULATION_SAMPLER
    if sampler == "grid" or is_few:
        sampler, trials = "grid", int(min(trials or most, most))
    task, resolved = prepare(recipe, frame)
    if sampler == POPULATION_SAMPLER:
        exchange_shares(resolved, task)  # raises where there are none
    metric = metrics.main_metric(task.kind, resolved.metric)
    facts = {
        "schema": STUDY_SCHEMA,
        "recipe": to_plain(with_lasting_paths(recipe)),
        "space": {path: distribution_to_json(d) for path, d in checked.items()},
        "data": task.fingerprint,
        "metric": metric.name,
        "higher_is_better": metric.higher_is_better,
        "sampler": sampler,
        "pruner": pruner,
        "seeds": seeds,
        "seed": seed,
    }
    folder = None if out is None else require_path(out, "out")
    with _study_folder(folder, storage), quiet_optuna():
        book = open_book(folder, storage, name, json.loads(json.dumps(facts)))
        tuner = _Tuner(
            recipe=recipe,
            space=checked,
            frame=frame,
            task=replace(task, test=None),
            whole_task=task,
            metric=metric,
            book=book,
            facts=facts,
            folder=folder,
            training={
                "device": device,
                "workers": workers,
                "report": report,
                "stop": None if stop is None else Path(stop),
            },
        )
        budget = {"trials": trials, "minutes": minutes, "confirm": confirm}
        with contextlib.closing(book), book.show_signs():
            if sampler == POPULATION_SAMPLER:
                known = book.study.user_attrs.get(BUDGET_ATTRIBUTE, {}).get("trials")
                if known is not None and (trials or 0) > known:
                    what, why = f"the population has {known} members", "others would begin too late"
                    raise RunError(what, why=why, do="leave trials (--budget) out")
            if folder is not None and storage is None:
                (folder / RESULT_FILE).unlink(missing_ok=True)  # it is written anew at the end
            if folder is not None and storage is not None:
                note_storage(folder, storage, name)
            book.study.set_user_attr(BUDGET_ATTRIBUTE, budget | {"confirm_seeds": confirm_seeds})
            tuner.use_budget(trials, minutes, each)
            found = tuner.result()
            if confirm and found.best is not None and not found.waiting:
                found = replace(found, verdict=tuner.confirm(found, confirm, confirm_seeds))
        if folder is not None:
            found.save(folder)
        return found


def resume_tuning(
    folder: str | Path, frame: TableLike | None = None, **settings: Any
) -> TuningResult:
    """Go on with the study in a folder: `tune` with its recipe, space, sampler, seeds and budget.

    `settings` are others of `tune`, such as a larger number of `trials`, or the `storage` where its
    URL has a password. Raises `RunError` where the folder holds no study.
    """
    check_arguments(resume_tuning, {"folder": folder, "frame": frame})
    folder = require_path(folder, "the study's folder")
    known = attributes_in(folder, settings.get("storage"))
    facts = known.get(FACTS_ATTRIBUTE, {})
    if facts.get("schema", 0) > STUDY_SCHEMA:
        raise RunError(f"{folder} is of a newer version", do="install a newer Ravine")
    space = {path: json_to_distribution(text) for path, text in facts["space"].items()}
    own = {key: facts[key] for key in ("sampler", "pruner", "seeds", "seed")}
    own |= noted_storage(folder, settings.get("storage"))
    budget = known.get(BUDGET_ATTRIBUTE, {})
    if "trials" in settings or "minutes" in settings:  # a new one
        budget = {key: value for key, value in budget.items() if key.startswith("confirm")}
    own |= budget
    recipe = from_plain(Recipe, facts["recipe"], PARTS_BY_ROLE)
    return tune(recipe, space, frame, out=folder, **(own | settings))


@contextlib.contextmanager
def _study_folder(folder: Path | None, storage: str | None) -> Iterator[None]:
    """Hold the folder of a study alone: a new one, or that of a study, which may be in a database.

    A new folder in which nothing was written goes again.
    """
    if folder is None:
        yield
        return
    left = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if left and (storage is None or not left & {RESULT_FILE, STORAGE_FILE}):
        attributes_in(folder, storage)  # raises where other things are in it
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or str(error)
        raise InputError(f"{folder} cannot be made", why=why, do="name another folder") from None
    try:
        with lock_folder(folder):
            yield
    finally:
        if not left:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


@dataclass(frozen=True, kw_only=True)
class _Tuner:
    """A study at work: what it is about, and how its trials are trained."""

    recipe: Recipe
    space: Space
    frame: TableLike | None
    task: Task  # without the test split: trials are chosen by validation
    whole_task: Task
    metric: Metric
    book: TrialBook
    facts: Mapping[str, Any]
    folder: Path | None
    training: Mapping[str, Any]

    def use_budget(
        self, trials: int | None, minutes: float | None, each: Callable[[TuningResult], None] | None
    ) -> None:
        """Train batches of trials until the budget is spent: what was left behind first."""
        began = time.monotonic()
        trained = 0
        while True:
            batch = self.book.take_over()
            if batch is None:
                spent = time.monotonic() - began
                count = self._next_count(trials, minutes, trained=trained, spent=spent)
                if count <= 0:
                    return
                seed, done = self.facts["seed"], self.book.count
                if self.book.is_shared and self.facts["sampler"] not in ("grid", "qmc"):
                    seed = stream_seed(seed, self.book.owner)  # not what another process draws
                sampler = make_sampler(self.facts["sampler"], self.space, seed=seed, done=done)
                batch = self.book.ask(self.space, count, sampler)
                surplus = 0 if trials is None else self.book.count - trials
                if surplus > 0:  # another process drew at the same time
                    self.book.drop([trial.key for trial in batch.trials[-surplus:]])
                    batch = batch._replace(trials=batch.trials[:-surplus])
            self._train_batch(batch)
            trained += len(batch.trials)
            if each is not None:
                each(self.result())

    def _next_count(
        self, trials: int | None, minutes: float | None, *, trained: int, spent: float
    ) -> int:
        """How many trials to draw next; 0 where the budget is spent."""
        sampler, pruner = self.facts["sampler"], self.facts["pruner"]
        done = self.book.count
        if sampler == POPULATION_SAMPLER:
            assert trials is not None
            return trials - done
        count = trials_to_draw(sampler, pruner, done=done)
        if pruner != "none" and trials is not None and trials - done < 2 * count:
            count = min(LARGEST_BATCH, trials - done)  # what is left is too few to be halved alone
        if minutes is not None:
            known = FIRST_BATCH if not trained else int((60 * minutes - spent) * trained / spent)
            count = min(count, known, GROWTH_FACTOR * max(trained, FIRST_BATCH))
        return count if trials is None else min(count, trials - done)

    def _train_batch(self, batch: TrialBatch) -> None:
        """Train the trials of a batch together, and tell the study what they reached."""
        made: list[tuple[OpenTrial, Recipe, Task]] = []
        for trial in batch.trials:
            try:
                made.append((trial, *self._make(trial.values)))
            except RavineError as error:
                result = {"outcome": "impossible", "score": math.nan, "rungs": [], "budget": 0}
                self.book.tell(trial, result | {"why": str(error)})
        if not made:
            return
        trials, resolved, tasks = zip(*made, strict=True)
        higher = self.metric.higher_is_better
        plan: Any = Halving(self.facts["pruner"], len(made), higher_is_better=higher)
        if self.facts["sampler"] == POPULATION_SAMPLER:
            plan = Population(
                phases=[(Phase(0.0, trial.number, trial.values),) for trial in trials],
                space=self.space,
                make=lambda values: self._make(values)[0],
                shares=exchange_shares(resolved[0], tasks[0]),
                seed=self.facts["seed"],
                higher_is_better=higher,
            )
        kept = None
        if self.folder is not None:
            kept = self.folder / f"batch-{batch.name}"
            kept.mkdir(exist_ok=True)
        found = train_in_rungs(tasks, resolved, plan.shares, plan, folder=kept, **self.training)
        resampled = _resampled_scores(self.metric, tasks, found)
        results = [
            self._measure(resolved[i], tasks[i], found[i], plan.rungs[i])
            | {"resampled": resampled.get(i, [])}
            for i in range(len(made))
        ]
        if isinstance(plan, Population):
            for result, phases in zip(results, plan.phases, strict=True):
                result["phases"] = list(phases)
            self._save_networks(results, found)
        for trial, result in zip(trials, results, strict=True):
            self.book.tell(trial, result)
        if kept is not None:
            shutil.rmtree(kept, ignore_errors=True)

    def _save_networks(
        self, results: Sequence[Mapping[str, Any]], found: Sequence[TrainedRecipe]
    ) -> None:
        """Write the networks of a population's best member as a finished run."""
        trials = [_tuned_trial(place, {}, result) for place, result in enumerate(results)]
        best = rank_trials(trials, higher_is_better=self.metric.higher_is_better)[0]
        if self.folder is None or not best.is_finished:
            return
        record, model = found[best.number].assemble(self.whole_task)
        assert model is not None
        plan = training_plan(model.recipe, self.whole_task)
        events = [
            Event(
                step=exchange_step(phase.share, plan),
                kind="settings",
                text=f"from {phase.share:.0%} on {phase.values}",
            )
            for phase in best.phases
        ]
        folder, members = self.folder / NETWORKS_FOLDER, range(len(record.members))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        device = self.training["device"]
        write_plan(folder, model.recipe, self.whole_task, [members], device=device)
        lasting = to_plain(with_lasting_paths(model.recipe, folder))
        record = replace(record, recipe=lasting, events=(*events, *record.events))
        write_run(record, model, folder)

    def _make(self, values: Mapping[str, Any]) -> tuple[Recipe, Task]:
        """The resolved recipe of a trial, and its task; `RavineError` where it cannot be."""
        settings = {path: setting_value(value) for path, value in values.items()}
        varied = with_values(self.recipe, settings).vary("seeds", self.facts["seeds"])
        task = self.task
        if any(path.partition(".")[0] in ("data", "encoding") for path in self.space):
            task = replace(load_task(varied, self.frame), test=None)
            if not np.array_equal(task.rows["validation"], self.task.rows["validation"]):
                what, why = "other rows are in its validation split", "scores cannot be compared"
                raise RecipeError(what, why=why, do="leave the settings of data out of the space")
        return resolve(varied, task), task

    @property
    def unit(self) -> float:
        """What a score of the encoded targets is in the units of the table (1 if that differs)."""
        return score_unit(self.metric, self.task) or 1.0

    def _measure(
        self, recipe: Recipe, task: Task, trained: TrainedRecipe, rungs: Mapping[float, float]
    ) -> dict[str, Any]:
        """What a trial reached, as plain data."""
        members = trained.members
        scores = [m.validation.get(self.metric.name, math.nan) for m in members]
        has_failed = any(m.outcome == "diverged" for m in members) or math.isnan(sum(scores))
        if has_failed:
            outcome, scores = "diverged", [math.nan] * len(members)
        else:
            outcome = "pruned" if any(m.outcome == "pruned" for m in members) else "finished"
        scores = [self.unit * score for score in scores]
        return {
            "outcome": outcome,
            "score": float(np.mean(scores)),
            "scores": scores,
            "loss": float(np.mean([m.validation.get("loss", math.nan) for m in members])),
            "rungs": [[share, self.unit * score] for share, score in rungs.items()],
            "steps": sum(m.steps for m in members),
            "budget": training_plan(recipe, task).steps * len(members),
        }

    def result(self) -> TuningResult:
        """What the study holds now."""
        known = self.book.all_trials()
        ended = [t for t in known if RESULT_ATTRIBUTE in t.user_attrs and t.state.is_finished()]
        assert self.task.validation is not None
        return TuningResult(
            recipe=self.recipe,
            space=self.space,
            trials=tuple(
                _tuned_trial(t.number, t.params, t.user_attrs[RESULT_ATTRIBUTE]) for t in ended
            ),
            metric=self.metric.name,
            higher_is_better=self.metric.higher_is_better,
            rows=self.task.validation.count,
            sampler=self.facts["sampler"],
            pruner=self.facts["pruner"],
            unit=self.unit,
            waiting=sum(trial.state == TrialState.RUNNING for trial in known),
        )

    def confirm(self, found: TuningResult, most: int, seeds: int) -> Verdict | None:
        """The best trials and the recipe as it was, on seeds that no trial has used; of a
        population the best member's schedule of settings, and the last of these throughout.
        """
        fresh = self.recipe.vary("seed", self.recipe.seed + self.facts["seeds"])
        most = 1 if self.facts["sampler"] == POPULATION_SAMPLER else most
        chosen = [trial for trial in found.rank_trials() if trial.is_finished][:most]
        choices = {trial_name(t): found.recipe_of(t).vary("seed", fresh.seed) for t in chosen}
        changes: dict[str, dict[float, Recipe]] = {}
        if chosen[0].has_schedule:
            changes = {trial_name(chosen[0]): found.schedule_of(chosen[0])}
            for name, schedule in changes.items():
                choices[constant_name(chosen[0])] = choices[name]
                choices[name] = schedule.pop(0.0).vary("seed", fresh.seed)
        keys = ("device", "workers", "report", "stop")
        how = {key: self.training[key] for key in keys}
        choices |= {STARTING_NAME: fresh}
        return compare(choices, self.frame, seeds=seeds, changes=changes, **how)


def _resampled_scores(
    metric: Metric, tasks: Sequence[Task], found: Sequence[TrainedRecipe]
) -> dict[int, list[float]]:
    """The mean score of each finished trial's networks in bootstrap samples of the validation
    rows, [B]: the same samples for all.
    """
    predicted: dict[int, torch.Tensor] = {}
    truth = torch.empty(0)
    for i, (task, trained) in enumerate(zip(tasks, found, strict=True)):
        has_finished = all(m.outcome in ("finished", "stopped") for m in trained.members)
        if trained.model is None or task.validation is None or not has_finished:
            continue
        assert task.validation.targets is not None
        rows = task.validation.to(trained.model.weights.device, torch.float64)
        target = task.encoder.target
        predicted[i] = target.decode(trained.model.member_predictions(rows).cpu())
        truth = target.decode(task.validation.targets.cpu())
    places, drawn = list(predicted), {}
    each = max((p.numel() for p in predicted.values()), default=1)
    at_once = max(1, RESAMPLED_VALUES // each)
    for at in range(0, len(places), at_once):
        chosen = places[at : at + at_once]
        together = torch.cat([predicted[i] for i in chosen])
        values = resampled_values(metric, together, truth, resamples=TIE_RESAMPLES)
        means = values.view(len(values), len(chosen), -1).mean(2).T
        rounded = means.mul(10**RESAMPLE_DIGITS).round().div(10**RESAMPLE_DIGITS)
        drawn |= dict(zip(chosen, rounded.tolist(), strict=True))
    return drawn


def _tuned_trial(number: int, values: Mapping[str, Any], result: Mapping[str, Any]) -> TunedTrial:
    """A trial with what it reached, as it was kept."""
    plain = dict(result)
    for key in ("score", "loss"):
        plain[key] = math.nan if plain.get(key) is None else plain[key]
    plain["rungs"] = {share: math.nan if s is None else s for share, s in plain.get("rungs", [])}
    for key in ("scores", "resampled"):
        plain[key] = tuple(plain.get(key, ()))
    plain["phases"] = tuple(Phase(*phase) for phase in plain.get("phases", ()))
    values = plain["phases"][-1].values if plain["phases"] else values
    return TunedTrial(number=number, values=dict(values), **plain)

"""What is wrong with a recipe or a run: all checks, the course of training, and remedies that were
tried.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ravine.data import RowGroups
from ravine.diagnosis.rule import run_rules
from ravine.diagnosis.training_curves import rules as curve_rules
from ravine.diagnosis.training_curves.series import Course, course_of
from ravine.diagnosis.trials import rules as trial_rules
from ravine.diagnosis.trials.rules import Outcome, Tried
from ravine.errors import InputError
from ravine.examination.preflight import checked, constant_level, quick, slow
from ravine.examination.remedies import applied, remedies, useful
from ravine.examination.trials import FEW, Say, bench_of, silent, tried_on
from ravine.finding import MANUAL_CHANGES, SEVERITY_LEVELS, Finding, Report, Trial, arrange
from ravine.recipe import Recipe
from ravine.recipe_files import recipe_from
from ravine.record import Record, read_json
from ravine.training.defaults import load_task, resolve
from ravine.training.run import Run
from ravine.training.run_folder import plain_recipe, planned_recipe
from ravine.training.train import open_run

SYMPTOMS = ("RVN-C03", "RVN-T")  # beginnings of codes that say that, not why, something goes wrong


@dataclass(frozen=True)
class Patient:
    """What is examined: a resolved recipe, its task, and a run of it (None: it is trained for the
    trials).
    """

    recipe: Recipe
    task: Any
    run: Run | None = None
    name: str | None = None
    frame: Any = None


def doctor(
    what: str | Path | Run | Recipe, frame: Any = None, *, trials: bool = True, module: Any = None
) -> Report:
    """What is wrong with a run (its folder, or what `train` returned) or with a recipe, and what
    helps against it.

    All checks before training are made, a run's course is judged, and remedies are tried unless
    `trials` is False. `frame` is the table where the recipe names no source, `module` makes the
    network where that is a module of one's own. Raises `InputError` for a folder that is no run,
    and for data that are not those of the run.

    >>> from ravine.catalog import named_recipe
    >>> recipe = named_recipe("plain").vary("data.source", "iris").vary("optimizer.lr", 1e-6)
    >>> doctor(recipe).findings[0].cause
    'learning-rate-low'
    """
    return examined(patient_of(what, frame, module=module), trials=trials)


def patient_of(
    what: str | Path | Run | Recipe, frame: Any = None, *, module: Any = None
) -> Patient:
    """What a folder, a run or a recipe stands for. Raises `InputError`."""
    if isinstance(what, Recipe):
        return _of_recipe(what, frame)
    if isinstance(what, Run):
        recipe = (
            what.model.recipe
            if what.model is not None
            else recipe_from({"base": "plain", **what.record.recipe})
        )
        return _of_run(what, recipe, frame, what.record.task["fingerprint"])
    folder = Path(what)
    if not (folder / "plan.json").exists():
        raise InputError(
            f"{folder} is not a run",
            why="it has no plan.json",
            do="name the folder that `ravine train` "
            "printed, or a recipe file, a table or a bundled set",
        )
    plan = read_json(folder / "plan.json")
    recipe = planned_recipe(plan, module)
    if not (folder / "record.json").exists():  # unfinished: what it is to become is tried instead
        return replace(_of_recipe(recipe, frame), name=str(folder))
    return _of_run(open_run(folder, module=module), recipe, frame, plan["fingerprint"])


def _of_recipe(recipe: Recipe, frame: Any) -> Patient:
    task = load_task(recipe, frame)
    return Patient(resolve(recipe, task), task, frame=frame)


def _of_run(run: Run, recipe: Recipe, frame: Any, fingerprint: str) -> Patient:
    task = load_task(recipe, frame)
    if task.fingerprint != fingerprint:
        raise InputError(
            "the data of the run have changed",
            why="what was measured then says nothing of these",
            do="restore the data, or train anew",
        )
    return Patient(recipe, task, run, None if run.folder is None else str(run.folder), frame)


def examined(patient: Patient, *, trials: bool = True, say: Say = silent) -> Report:
    """Everything that can be said of a patient; `say` is told what takes a while."""
    recipe, task = patient.recipe, patient.task
    say("checking recipe and data")
    found, checks = checked(recipe, task, quick(recipe, task) | slow(recipe, task))
    bench = bench_of(recipe, task, patient.run, patient.frame, say=say) if trials else None
    run = patient.run or (bench.run if bench is not None and bench.whole else None)
    if run is not None:
        more, went = run_rules(curve_rules.ALL, course_with_null(run.record, recipe, task))
        more = [replace(f, changes=useful(recipe, f.changes)) for f in more]
        found, checks = [*found, *more], checks.and_(went)
    if bench is not None:
        seen = tried_on(
            bench, remedies(recipe, bench.task, found), sure=[f.cause for f in found], say=say
        )
        more, went = run_rules(trial_rules.ALL, seen)
        found, checks = treated(recipe, found, more, seen), checks.and_(went)
    score = None if patient.run is None else patient.run.score
    return Report(run=patient.name, score=score, checks=checks, findings=arrange(found))


def course_with_null(record: Record, recipe: Recipe, task: Any) -> Course:
    """The course of a run, beside what the best constant answer would have lost."""
    course = course_of(record)
    if task.validation is None or isinstance(task.train, RowGroups):
        return course
    return replace(
        course,
        null=constant_level(recipe.loss, task.train, task.outputs),  # type: ignore[arg-type]
        null_validation=constant_level(recipe.loss, task.validation, task.outputs),  # type: ignore
    )


# Findings and trials


def treated(
    recipe: Recipe, found: list[Finding], blamed: list[Finding], seen: Tried
) -> list[Finding]:
    """Findings with what was tried against them; a cause that a check has found already is not told
    twice.

    Changes that were tried and did not help are dropped: the trial stays. What a cause accounts
    for, if its remedy helped, is noted under it.
    """
    outcomes = {o.cause: o for o in seen.outcomes}
    told = [_with_trial(recipe, f, outcomes.get(f.cause), seen) for f in found]
    for cause in blamed:
        # since when, trials do not tell: they are judged at their end
        cause = replace(_with_trial(recipe, cause, outcomes.get(cause.cause), seen), since=None)
        same = next(
            (i for i, f in enumerate(told) if f.cause == cause.cause and not _symptom(f)), None
        )
        symptoms = [f.code for f in told if _symptom(f)]
        if same is None:
            told.append(replace(cause, explains=_once(*cause.explains, *symptoms)))
        else:
            known = told[same]
            worse = min(known.severity, cause.severity, key=SEVERITY_LEVELS.index)
            told[same] = replace(
                known,
                explains=_once(*known.explains, *symptoms),
                severity=worse,
                evidence=(*known.evidence, *cause.evidence[-1:]),
            )
    settled = {code for f in told if _helped(f) for code in f.explains if code != f.code}
    return [
        replace(f, severity="note", changes=(), trial=None) if f.code in settled else f
        for f in told
    ]


def _once(*codes: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(codes))


def _helped(finding: Finding) -> bool:
    return finding.trial is not None and finding.trial.verdict == "helped"


def _symptom(finding: Finding) -> bool:
    return finding.code.startswith(SYMPTOMS)


def _with_trial(recipe: Recipe, finding: Finding, outcome: Outcome | None, seen: Tried) -> Finding:
    if outcome is None:
        return (
            finding
            if not finding.changes
            else replace(finding, trial=Trial(verdict="not tried", why=_why(seen)))
        )
    trial = outcome.trial or Trial(
        verdict="no effect",
        steps=seen.steps,
        seeds=FEW,
        before=_finite(seen.base.loss),
        after=_finite(outcome.loss),
    )
    if trial.verdict == "helped":
        return replace(finding, changes=useful(recipe, outcome.changes), trial=trial)
    return replace(finding, changes=(), trial=trial)


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _why(seen: Tried) -> str:
    return (
        "it is to be made by hand"
        if seen.outcomes
        else "nothing is left to gain: the score is near its best"
    )


def fixed(recipe: Recipe, report: Report) -> Recipe:
    """The recipe with all changes of a report that were tried and helped; of two for one setting
    the first.
    """
    paths: set[str] = set()
    for finding in report.findings:
        if _helped(finding):
            changes = [
                c for c in finding.changes if c.path not in paths and c.path not in MANUAL_CHANGES
            ]
            recipe = applied(recipe, changes)
            paths |= {c.path for c in changes}
    return recipe


def differences(old: Recipe, new: Recipe) -> list[tuple[str, str | None, str | None]]:
    """Settings that differ, by path, with both values as JSON; None where a recipe has no such
    setting.

    >>> from ravine.catalog import named_recipe
    >>> differences(named_recipe("plain"), named_recipe("plain").vary("optimizer.lr", 0.5))
    [('optimizer.lr', '0.1', '0.5')]
    """
    before, after = (dict(_flat(plain_recipe(r))) for r in (old, new))
    return [
        (path, before.get(path), after.get(path))
        for path in dict.fromkeys((*before, *after))
        if before.get(path) != after.get(path)
    ]


def _flat(plain: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(plain, dict):
        for name, value in plain.items():
            yield from _flat(value, f"{path}.{name}".lstrip("."))
    else:
        yield path, json.dumps(plain)

"""The commands that set runs side by side: compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli import output
from ravine.errors import InputError, nearest

if TYPE_CHECKING:
    from ravine.studies.compare_tasks import TaskVerdicts
    from ravine.studies.verdict import Verdict


def compare_command(
    *what: str,
    vary: Annotated[
        cli.Repeatable,
        Parameter(help="A setting and its values, PATH=VALUE,VALUE; again for several settings."),
    ] = (),
    estimator: Annotated[
        cli.Repeatable,
        Parameter(help="An estimator of scikit-learn beside them: RandomForestClassifier; again."),
    ] = (),
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: Annotated[cli.Integer, Parameter(help="How many networks of each choice.")] = 16,
    margin: float | None = None,
    tune_lr: cli.IntegerOrNone = None,
    target_score: float | None = None,
    trees: bool = True,
    workers: cli.Workers = None,
    out: Annotated[Path | None, Parameter(name=["-o", "--out"])] = None,
    quiet: cli.Quiet = False,
    json: cli.Json = False,
) -> int:
    """Train choices with the same seeds and say which is better, and how sure that is.

    Parameters
    ----------
    what
        Recipes (.toml), or one table, recipe or bundled set with --vary (several: all of them are
        compared on each, and over all), or folders of finished runs.
    margin
        Choices whose scores differ by less are called equivalent.
    tune_lr
        How many learning rates to try for each choice, each then compared at its own best: 9.
    target_score
        A validation score; the verdict says when each network first reaches it.
    trees
        Whether the score of boosted trees stands beside the choices.
    out
        A folder for the verdict: verdict.json and scores.csv.
    """
    from ravine.reporting.progress import ProgressLine
    from ravine.studies.compare import compare
    from ravine.studies.compare_runs import compare_runs
    from ravine.studies.compare_tasks import compare_tasks

    if out is not None and out.exists():
        why, do = "existing files are kept", "name a folder that does not exist"
        raise InputError(f"{out} exists", why=why, do=do)
    if what and all((Path(one) / "record.json").exists() for one in what):
        if vary or estimator or tune_lr or target_score or options != cli.DEFAULT_OPTIONS:
            why = "finished runs are compared as they are"
            do = "name the folders alone, with --margin, --out or --json"
            raise InputError("runs are given with settings", why=why, do=do)
        found = compare_runs(what, margin=margin)
    else:
        settings = {"seeds": seeds, "margin": margin, "trees": trees}
        settings |= {"tune_lr": tune_lr, "target": target_score, "workers": workers}
        several = len(what) > 1 and vary and not any(one.endswith(".toml") for one in what)
        choices = _choices(what[:1] if several else what, vary, options)
        choices |= {name: _estimator(name) for name in estimator}
        progress = settings["report"] = None if quiet else ProgressLine()
        try:
            if several:
                data = (cli.recipe_for(one, replace(options, set_=())).data for one in what)
                tasks = dict(zip(_names(what), data, strict=True))
                found = compare_tasks(tasks, choices, **settings)
            else:
                found = compare(choices, **settings)
        finally:
            if progress is not None:
                progress.close()
    return _finish(found, out, as_json=json)


def _names(what: Sequence[str]) -> list[str]:
    """The names of files without their folders, where these are not needed to tell them apart."""
    names = [Path(one).stem for one in what]
    names = list(what) if len(set(names)) < len(names) else names
    if len(set(names)) < len(names):
        raise InputError("a source is named twice", do="leave one of them out")
    return names


def _finish(found: Verdict | TaskVerdicts, out: Path | None, *, as_json: bool) -> int:
    if out is not None:
        found.save(out)
    output.print_result(found, as_json=as_json)
    if out is not None and not as_json:
        output.echo(f"the verdict is in {out}", file=sys.stderr)
    return 0 if found.best is not None else 3


def _choices(
    what: Sequence[str], vary: Sequence[str], options: cli.RecipeOptions
) -> dict[str, Any]:
    """The recipes by name: of several files, or of one source and the values to vary."""
    from ravine.studies.contestants import VARY_EXAMPLE, vary_recipe

    if len(what) == 1:
        if not vary:
            return {Path(what[0]).stem: cli.recipe_for(what[0], options)}
        recipe = cli.recipe_for(what[0], replace(options, set_=()))
        return vary_recipe(recipe, vary, options.set_)
    if not what:
        do = "write ravine compare a.toml b.toml, or ravine compare houses.csv --target price"
        raise InputError("there is nothing to compare", do=f"{do} --vary optimizer=SGD,AdamW")
    if vary:
        why = f"{len(what)} recipes are named"
        raise InputError("--vary varies one recipe", why=why, do="name one of them")
    others = [one for one in what if not one.endswith(".toml")]
    runs = [one for one in others if (Path(one) / "record.json").exists()]
    if runs:
        odd = next(one for one in what if one not in runs)
        why, do = f"{runs[0]} is one", "name folders of finished runs alone"
        raise InputError(f"{odd} is no finished run", why=why, do=do)
    if others:
        what_text = f"{others[0]} is not a recipe (.toml)"
        why = "several choices are several recipes, or several folders of finished runs"
        raise InputError(what_text, why=why, do=f"name one source and {VARY_EXAMPLE}")
    return {n: cli.recipe_for(one, options) for n, one in zip(_names(what), what, strict=True)}


def _estimator(name: str) -> Any:
    """A classifier or regressor of scikit-learn by its name."""
    from sklearn.utils import all_estimators

    known = dict(all_estimators(type_filter=["classifier", "regressor"]))
    if name not in known:
        raise InputError(f"scikit-learn has no estimator {name!r}", why=nearest(name, known))
    try:
        return known[name]()
    except TypeError:
        why = "it needs settings"
        raise InputError(f"{name} cannot be made", why=why, do="use ravine.compare") from None

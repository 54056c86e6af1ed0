"""The command that looks for good settings: tune."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli import output
from ravine.cli.run_control import control_run
from ravine.cli.train import new_run_folder
from ravine.errors import InputError, nearest

if TYPE_CHECKING:
    from ravine.reporting.progress import ProgressLine
    from ravine.studies.tuning import TuningResult

BUDGET_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0}  # in minutes


def tune_command(
    what: cli.SourceName = "",
    /,
    *,
    space: cli.Repeatable = (),
    budget: str = "",
    sampler: Annotated[
        str,
        Parameter(help="tpe, random, qmc, grid, gp (Gaussian process), cmaes, pbt (population)."),
    ] = "tpe",
    pruner: Annotated[str, Parameter(help="none, halving or hyperband.")] = "none",
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: cli.Integer = 1,
    seed: cli.Integer = 0,
    confirm: cli.IntegerOrNone = None,
    storage: str | None = None,
    name: str = "ravine",
    out: cli.OutputPath = None,
    resume: Path | None = None,
    device: str = "cpu",
    workers: cli.Workers = None,
    quiet: cli.Quiet = False,
    json: cli.Json = False,
) -> int:
    """Look for good settings by the validation split, and confirm the best on fresh seeds.

    Parameters
    ----------
    space
        A setting's values, again for several: optimizer.lr=log:1e-4..1e-1, batch=[16,64],
        network.dropout.rate=0..0.5; auto takes the settings that matter most.
    budget
        How many trials (200), or how long (90s, 10m, 2h); 64 trials if it is not given.
    seeds
        How many networks each trial trains.
    seed
        The seed of the sampler.
    confirm
        How many of the best are trained again, on 8 fresh seeds, beside the recipe as it was: 3 if
        it is not given; of a population the best member's schedule of settings.
    storage
        A database for the trials, which several processes may share: sqlite:///FILE,
        postgresql://USER@HOST/DATABASE.
    name
        The study's name in it.
    out
        The study's folder: trials, best.toml, figure, verdict. By default runs/tune-NAME.
    resume
        Go on with the study in this folder.
    device
        Where to train: cpu, cuda.
    """
    from ravine.studies.samplers import PRUNER_NAMES, SAMPLER_NAMES
    from ravine.studies.spaces import AUTO_SPACE, read_spaces
    from ravine.studies.tune import resume_tuning, tune

    given: dict[str, Any] = _read_budget(budget)
    given |= {} if confirm is None else {"confirm": confirm}
    given |= {"device": device, "workers": workers}
    if resume is not None:
        given |= {} if storage is None else {"storage": storage}
        own = (what, space, out, sampler, pruner, seeds, seed, options)
        if own != ("", (), None, "tpe", "none", 1, 0, cli.DEFAULT_OPTIONS):
            do = f"write only: ravine tune --resume {resume}, and perhaps a larger --budget"
            raise InputError("--resume goes on with a study as it began", do=do)
        folder = resume
        make = partial(resume_tuning, resume)
    else:
        recipe = cli.recipe_for(what, options)
        spaces = read_spaces(space, recipe) if set(space) - {AUTO_SPACE} else AUTO_SPACE
        folder = out if out is not None else new_run_folder(recipe, prefix="tune-")
        given |= {"storage": storage, "name": name, "seeds": seeds, "seed": seed}
        given |= {
            "sampler": _check_name("sampler", sampler, SAMPLER_NAMES),
            "pruner": _check_name("pruner", pruner, PRUNER_NAMES),
        }
        make = partial(tune, recipe, spaces, out=folder)
    with control_run(folder, quiet, "tune") as (line, stop):
        progress = None if line is None else TuningProgress(line)
        found = make(report=line, each=progress, stop=stop, **given)
    output.print_result(found, as_json=json)
    if not json:
        lines = [f"the study is in {folder}"]
        if found.best is not None and found.best.phases:
            lines.append(f"its networks: ravine predict {shlex.quote(str(folder / 'best'))} TABLE")
        if found.best_recipe is not None:
            file = shlex.quote(str(folder / "best.toml"))
            lines.append(f"to take {found.recommendation}: ravine train {file}")
        output.echo("\n".join(lines), file=sys.stderr)
    return 3 if found.best is None and not found.waiting else 0


class TuningProgress:
    """Called after each batch of trials; writes a line on how far the study is."""

    def __init__(self, line: ProgressLine):
        self.line = line

    def __call__(self, found: TuningResult) -> None:
        text = f"{len(found.trials)} trials"
        if found.failures:
            text += f", {found.failures} failed"
        if found.best is not None:
            text += f": best {found.metric} {found.best.score:.4f} (trial {found.best.number})"
        self.line.write_above(text)


def _read_budget(text: str) -> dict[str, Any]:
    """The budget that a text means: trials or minutes.

    >>> _read_budget("200"), _read_budget("90s"), _read_budget("")
    ({'trials': 200}, {'minutes': 1.5}, {})
    """
    if not text:
        return {}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None or (not match[2] and "." in match[1]) or float(match[1]) <= 0:
        do = "write --budget 200 for trials, or --budget 10m (90s, 2h) for a time"
        raise InputError(f"--budget {text} is none", do=do)
    if match[2]:
        return {"minutes": float(match[1]) * BUDGET_UNITS[match[2]]}
    return {"trials": int(match[1])}


def _check_name(option: str, name: str, names: Sequence[str]) -> str:
    """A name that an option knows. Raises `InputError` with the nearest for another one."""
    if name not in names:
        raise InputError(f"--{option} {name} is not known", why=nearest(name, names))
    return name

"""Commands that train networks and use them: train, predict, show, recipes, verify-resume."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli.output import check_writable, echo, print_json, print_result, text_style
from ravine.cli.run_control import control_run
from ravine.errors import InputError, printable
from ravine.files import write_atomically

if TYPE_CHECKING:
    from ravine.data import Task
    from ravine.recipe import Recipe
    from ravine.training.run import Run

TABLE_ENDINGS = (".csv", ".parquet", ".jsonl")


def train_command(
    what: cli.SourceName = "",
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: cli.SeedCount = None,
    seed: cli.FirstSeed = None,
    out: cli.OutputPath = None,
    resume: Path | None = None,
    memory: str | None = None,
    device: str = "cpu",
    workers: cli.Workers = None,
    check: Annotated[bool, Parameter(negative="--no-check")] = True,
    baseline: Annotated[bool, Parameter(negative="--no-baseline")] = True,
    quiet: cli.Quiet = False,
    json: cli.Json = False,
) -> int:
    """Train networks on a table, a bundled set, or as a recipe file says.

    Parameters
    ----------
    out
        The run's folder; it must be new or empty.
    resume
        Go on with the run in this folder. Data that were moved: --set data.source=PATH.
    memory
        Read a larger Parquet source in pieces, keep more images in a file: 2GB.
    device
        Where to train: cpu, cuda.
    check
        Check recipe and data first. Findings are printed and kept; none of them stops the run.
    baseline
        Fit boosted trees, too, and score them beside the networks.
    """
    from ravine.ranks import is_first, join_ranks
    from ravine.training import train as training
    from ravine.training.run_folder import other_versions, unfinished_plan

    ranks = join_ranks()
    quiet = quiet or not is_first(ranks)
    if resume is not None:
        if what or seeds or seed is not None or out or memory:
            what, why = "--resume goes on with a run as it began", "its recipe is in its folder"
            raise InputError(what, why=why, do=f"write only: ravine train --resume {resume}")
        files = cli.moved_files(options)
        if (text := other_versions(unfinished_plan(resume))) and is_first(ranks):
            echo(f"note: {text}", file=sys.stderr)
        with control_run(resume, quiet, ranks=ranks) as (report, stop_file):
            run = training.resume(
                resume,
                files=files,
                workers=workers,
                report=report,
                stop=stop_file,
                baseline=baseline,
            )
        return print_run(run, as_json=json) if is_first(ranks) else exit_code(run)
    recipe = cli.recipe_for(what, options, seeds=seeds, seed=seed, memory=memory)
    folder = out if out is not None else new_run_folder(recipe)
    with control_run(folder, quiet, ranks=ranks) as (report, stop_file):
        run = training.train(
            recipe,
            out=folder,
            device=device,
            workers=workers,
            report=report,
            check=announcement(check=check, quiet=quiet),
            stop=stop_file,
            baseline=baseline,
        )
    return print_run(run, as_json=json, data=quiet) if is_first(ranks) else exit_code(run)


def predict_command(
    run: Path,
    table: Path,
    /,
    *,
    out: cli.OutputPath = None,
    interval: float | None = None,
    force: cli.Force = False,
) -> int:
    """Predict a table's rows with a finished run: to stdout as CSV, or to a .csv, .parquet or
    .jsonl file.

    Parameters
    ----------
    run
        The folder of a finished run.
    table
        The rows to predict, or a folder of images.
    out
        Where to write the predictions.
    interval
        Beside each number the ends of an interval that holds this share of true values: 0.9.
    """
    import tempfile

    from ravine.data import file_blocks
    from ravine.training.predict_file import FilePredictions
    from ravine.training.train import open_run

    check_writable(out, force=force, endings=TABLE_ENDINGS, what="predictions")
    if out is not None and out.exists() and table.exists() and out.samefile(table):
        why = "its columns would be lost"
        raise InputError(f"{out} is the table itself", why=why, do="name another file")
    found = FilePredictions(open_run(run), table, interval=interval)
    with tempfile.TemporaryFile() as held:  # all rows or none
        if out is not None:
            write_atomically(out, file_blocks(found, out.suffix.lower()))
            found.notes.append(f"{found.count:,} predictions in {out}")
        else:
            held.writelines(file_blocks(found, ".csv"))
        for note in found.notes:
            echo(note, file=sys.stderr)
        held.seek(0)
        for line in held:
            text = line.decode()
            sys.stdout.write(printable(text.rstrip("\n")) + "\n" if sys.stdout.isatty() else text)
    return 0


def show_command(run: Path, /, *, json: cli.Json = False) -> int:
    """Print the result of a finished run again.

    Parameters
    ----------
    run
        The folder of a finished run.
    """
    from ravine.training.train import open_run

    return print_run(open_run(run), as_json=json)


def recipes_command(name: str | None = None, /) -> int:
    """List the named recipes and the bundled sets; with a name, print that recipe as a file to
    start from.

    Parameters
    ----------
    name
        A named recipe.
    """
    from ravine.catalog import NAMED_RECIPES, named_recipe
    from ravine.data import BUNDLED_SETS
    from ravine.recipe_files import recipe_text
    from ravine.reporting.text_table import hanging_text

    if name is not None:
        print(recipe_text(named_recipe(name)), end="")
        return 0
    print("Recipes (ravine train WHAT --recipe NAME; ravine recipes NAME prints one):")
    for known, make in NAMED_RECIPES.items():
        about = (make.__doc__ or "").split(":")[0].split("\n")[0].strip()
        echo(hanging_text(f"  {known:14}", about))
    print("Bundled sets (ravine train NAME):")
    print(hanging_text("  ", ", ".join(BUNDLED_SETS)))
    return 0


def verify_resume_command(
    what: cli.SourceName,
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: cli.SeedCount = None,
    seed: cli.FirstSeed = None,
    kills: cli.Integer = 3,
    json: cli.Json = False,
) -> int:
    """Prove for a recipe that a run killed at random moments and resumed ends as one never stopped,
    bit for bit.

    Parameters
    ----------
    kills
        How often to kill.
    """
    from ravine.training.verify_resume import prove_resume

    recipe = cli.recipe_for(what, options, seeds=seeds, seed=seed)
    found = prove_resume(recipe, kills=kills, say=lambda line: echo(line, file=sys.stderr))
    print_result(found, as_json=json)
    return 1 if found.different else 0


def new_run_folder(recipe: Recipe, prefix: str = "") -> Path:
    """A folder for a run that does not exist yet: runs/NAME-1a2b, with a prefix before NAME."""
    import secrets

    stem = Path(recipe.data.source).name.split(".")[0] or "table"
    while (folder := Path("runs") / f"{prefix}{stem}-{secrets.token_hex(2)}").exists():
        pass
    return folder


def announcement(*, check: bool, quiet: bool) -> Callable[[Recipe, Task], list[dict[str, Any]]]:
    """What is done before a recipe trains: the quick checks, if `check`. Unless quiet, what was
    inferred from the data and the findings are printed.
    """
    import time

    from ravine.examination.api import quick_check
    from ravine.reporting.findings_text import finding_line, preflight_line
    from ravine.reporting.run_summary import data_summary

    def announce(recipe: Recipe, task: Task) -> list[dict[str, Any]]:
        if not quiet:
            of_images = task.signature.image is not None
            print(data_summary(task.notes, of_images=of_images), file=sys.stderr)
        if not check:
            return []
        began = time.monotonic()
        report = quick_check(recipe, task)
        if not quiet:
            print(preflight_line(report, seconds=time.monotonic() - began), file=sys.stderr)
            for finding in report.findings:
                print(finding_line(finding, **text_style(sys.stderr)), file=sys.stderr)
        return [f.to_json() for f in report.findings]

    return announce


def print_run(run: Run, *, as_json: bool, data: bool = True) -> int:
    """Print a run's result; the exit code says whether there is a model. With `data` what was
    inferred from the data is printed, too.
    """
    from ravine.diagnosis.registry import CURVE_RULES
    from ravine.diagnosis.rule import run_rules
    from ravine.diagnosis.training_curves.rate_advice import agree_on_rate
    from ravine.diagnosis.training_curves.series import curves_of_record
    from ravine.finding import Finding, arrange
    from ravine.reporting.run_summary import summary

    folder = "" if run.folder is None else str(run.folder)
    before = [Finding.from_json(f) for f in run.record.findings]
    found = run_rules(CURVE_RULES, curves_of_record(run.record))[0]
    findings = arrange(agree_on_rate([*before, *found]))
    if as_json:
        fields = run.record.to_json()
        fields["findings"] = [finding.to_json() for finding in findings]
        print_json({"run": folder, "score": fields["score"], **fields})
    else:
        style = text_style(sys.stdout)
        print(summary(run.record, folder=folder, findings=findings, data=data, **style))
    return exit_code(run)


def exit_code(run: Run) -> int:
    """3 where every network diverged, else 0."""
    return 3 if run.model is None else 0

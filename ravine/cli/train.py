"""Commands that train networks and use them: train, predict, show, recipes, verify-resume."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli.output import check_writable, print_json, print_result, text_style
from ravine.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from ravine.data import Task
    from ravine.recipe import Recipe
    from ravine.reporting.progress import ProgressLine
    from ravine.training.run import Run

TABLE_ENDINGS = (".csv", ".parquet", ".jsonl")


def train_command(
    what: cli.SourceName = "",
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: int | None = None,
    seed: int | None = None,
    out: cli.OutputPath = None,
    resume: Path | None = None,
    memory: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    check: Annotated[bool, Parameter(negative="--no-check")] = True,
    quiet: cli.Quiet = False,
    json: cli.Json = False,
) -> int:
    """Train networks on a table, a bundled set, or as a recipe file says.

    Parameters
    ----------
    seeds
        How many networks to train.
    seed
        The first seed.
    out
        The run's folder; it must be new or empty.
    resume
        Go on with the run in this folder.
    memory
        Read a larger Parquet source in pieces, keep more images in a file: 2GB.
    device
        Where to train: cpu, cuda.
    workers
        How many processes; by default one per core where that pays.
    check
        Check recipe and data first. Findings are printed and kept; none of them stops the run.
    """
    from ravine.training import train as training

    if resume is not None:
        if what or options != cli.DEFAULT_OPTIONS or seeds or seed is not None or out or memory:
            what, why = "--resume goes on with a run as it was begun", "its recipe is in its folder"
            raise InputError(what, why=why, do=f"write only: ravine train --resume {resume}")
        with run_progress(resume, quiet) as report:
            run = training.resume(resume, workers=workers, report=report)
        return print_run(run, as_json=json)
    recipe = cli.recipe_for(what, options, seeds=seeds, seed=seed, memory=memory)
    folder = out if out is not None else new_run_folder(recipe)
    with run_progress(folder, quiet) as report:
        checks = first_checks(quiet) if check else None
        run = training.train(
            recipe, out=folder, device=device, workers=workers, report=report, check=checks
        )
    return print_run(run, as_json=json)


def predict_command(
    run: Path, table: Path, /, *, out: cli.OutputPath = None, force: cli.Force = False
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
    """
    from ravine.files import write_atomically
    from ravine.training.train import open_run

    check_writable(out, force=force, endings=TABLE_ENDINGS, what="predictions")
    if out is not None and out.exists() and table.exists() and out.samefile(table):
        why = "its columns would be lost"
        raise InputError(f"{out} is the table itself", why=why, do="name another file")
    predictions = predict_source(open_run(run), table)
    if out is None:
        predictions.to_csv(sys.stdout, index=False)
        return 0
    write_atomically(out, table_bytes(predictions, out.suffix.lower()))
    print(f"{len(predictions):,} predictions in {out}", file=sys.stderr)
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
        print(hanging_text(f"  {known:14}", about))
    print("Bundled sets (ravine train NAME):")
    print(hanging_text("  ", ", ".join(BUNDLED_SETS)))
    return 0


def verify_resume_command(
    what: cli.SourceName,
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: int | None = None,
    seed: int | None = None,
    kills: int = 3,
    json: cli.Json = False,
) -> int:
    """Prove for a recipe that a run killed at random moments and resumed ends as one never stopped,
    bit for bit.

    Parameters
    ----------
    seeds
        How many networks to train.
    seed
        The first seed.
    kills
        How often to kill.
    """
    from ravine.training.verify_resume import prove_resume

    recipe = cli.recipe_for(what, options, seeds=seeds, seed=seed)
    found = prove_resume(recipe, kills=kills, say=lambda line: print(line, file=sys.stderr))
    print_result(found, as_json=json)
    return 1 if found.different else 0


def new_run_folder(recipe: Recipe) -> Path:
    """A folder for a run that does not exist yet: runs/NAME-1a2b."""
    import secrets

    stem = Path(recipe.data.source).name.split(".")[0] or "table"
    while (folder := Path("runs") / f"{stem}-{secrets.token_hex(2)}").exists():
        pass
    return folder


@contextmanager
def run_progress(folder: Path, quiet: bool) -> Iterator[ProgressLine | None]:
    """Progress of a run, and what Ctrl-C does to it: once, save and leave; twice, leave at once."""
    from ravine.reporting.progress import ProgressLine

    progress = ProgressLine()

    def stop(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not folder.is_dir():
            raise KeyboardInterrupt
        (folder / "stop").touch()
        progress.close()
        print("stopping: saving a checkpoint (again to leave at once)", file=sys.stderr)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield None if quiet else progress
    finally:
        progress.close()
        signal.signal(signal.SIGINT, before)


def first_checks(quiet: bool) -> Callable[[Recipe, Task], list[dict[str, Any]]]:
    """The quick checks of a recipe before it trains; unless quiet, they print what they find."""
    import time

    from ravine.examination.api import quick_check
    from ravine.reporting.findings_text import finding_line, preflight_line

    def run_checks(recipe: Recipe, task: Task) -> list[dict[str, Any]]:
        began = time.monotonic()
        report = quick_check(recipe, task)
        if not quiet:
            print(preflight_line(report, seconds=time.monotonic() - began), file=sys.stderr)
            for finding in report.findings:
                print(finding_line(finding, **text_style(sys.stderr)), file=sys.stderr)
        return [f.to_json() for f in report.findings]

    return run_checks


def print_run(run: Run, *, as_json: bool) -> int:
    """Print a run's result; the exit code says whether there is a model."""
    from ravine.diagnosis.registry import CURVE_RULES
    from ravine.diagnosis.rule import run_rules
    from ravine.diagnosis.training_curves.series import curves_of_record
    from ravine.finding import Finding, arrange
    from ravine.reporting.run_summary import summary

    folder = "" if run.folder is None else str(run.folder)
    before = [Finding.from_json(f) for f in run.record.findings]
    findings = arrange([*before, *run_rules(CURVE_RULES, curves_of_record(run.record))[0]])
    if as_json:
        fields = run.record.to_json()
        fields["findings"] = [finding.to_json() for finding in findings]
        print_json({"run": folder, "score": fields["score"], **fields})
    else:
        new = "new/" if run.record.recipe["data"]["name"] == "Images" else "new.csv"
        style = text_style(sys.stdout)
        print(summary(run.record, folder=folder, new_rows=new, findings=findings, **style))
    return 3 if run.model is None else 0


def predict_source(run: Run, source: Path) -> pd.DataFrame:
    """Predictions for rows, or for images with their paths; prints what could not be read."""
    from ravine.data import ImageEncoder, describe_drift, read_table, round_floats, with_identifiers

    if run.model is None:
        return run.predict(read_table(source))  # which raises and says why
    encoder = run.model.encoder
    if not isinstance(encoder, ImageEncoder):
        rows = read_table(source)
        predictions = run.predict(rows)
        for line in describe_drift(encoder, rows):
            print(line, file=sys.stderr)
        return with_identifiers(round_floats(predictions), rows, encoder)
    images = encoder.read(source)
    for line in images.notes:
        print(line, file=sys.stderr)
    predictions = round_floats(run.predict(images))
    if images.names:
        predictions.insert(0, "file" if "path" in predictions else "path", images.names)
    return predictions


def table_bytes(table: pd.DataFrame, ending: str) -> bytes:
    """A table as a file of that ending: .csv, .parquet or .jsonl."""
    if ending == ".parquet":
        return table.to_parquet(None, index=False)
    if ending == ".jsonl":
        return table.to_json(orient="records", lines=True).encode()
    return table.to_csv(index=False).encode()

"""Commands that train networks and use them: train, predict, show, recipes, verify-resume."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ravine.cli import options as cli
from ravine.cli.output import check_writable, echo, print_json, print_result, text_style
from ravine.cli.signals import Stopped, handle_signals, stop
from ravine.errors import InputError, Interrupted, printable

if TYPE_CHECKING:
    import pandas as pd

    from ravine.data import Encoder, ImageEncoder, Task
    from ravine.recipe import Recipe
    from ravine.reporting.progress import ProgressLine
    from ravine.training.run import Run

TABLE_ENDINGS = (".csv", ".parquet", ".jsonl")


def train_command(
    what: cli.SourceName = "",
    /,
    *,
    options: cli.RecipeOptions = cli.DEFAULT_OPTIONS,
    seeds: cli.IntegerOrNone = None,
    seed: cli.IntegerOrNone = None,
    out: cli.OutputPath = None,
    resume: Path | None = None,
    memory: str | None = None,
    device: str = "cpu",
    workers: cli.IntegerOrNone = None,
    check: Annotated[bool, Parameter(negative="--no-check")] = True,
    baseline: Annotated[bool, Parameter(negative="--no-baseline")] = True,
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
    baseline
        Fit boosted trees, too, and score them beside the networks.
    """
    from ravine.training import train as training

    if resume is not None:
        if what or options != cli.DEFAULT_OPTIONS or seeds or seed is not None or out or memory:
            what, why = "--resume goes on with a run as it was begun", "its recipe is in its folder"
            raise InputError(what, why=why, do=f"write only: ravine train --resume {resume}")
        tell_versions(resume)
        with run_progress(resume, quiet) as (report, stop_file):
            run = training.resume(
                resume, workers=workers, report=report, stop=stop_file, baseline=baseline
            )
        return print_run(run, as_json=json)
    recipe = cli.recipe_for(what, options, seeds=seeds, seed=seed, memory=memory)
    folder = out if out is not None else new_run_folder(recipe)
    with run_progress(folder, quiet) as (report, stop_file):
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
    return print_run(run, as_json=json, data=quiet)


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
    from ravine.files import write_atomically
    from ravine.training.train import open_run

    check_writable(out, force=force, endings=TABLE_ENDINGS, what="predictions")
    if out is not None and out.exists() and table.exists() and out.samefile(table):
        why = "its columns would be lost"
        raise InputError(f"{out} is the table itself", why=why, do="name another file")
    source = PredictedSource(open_run(run), table, interval=interval)
    if out is not None:
        write_atomically(out, file_blocks(source, out.suffix.lower()))
        source.print_notes()
        echo(f"{source.count:,} predictions in {out}", file=sys.stderr)
        return 0
    with tempfile.TemporaryFile() as held:  # all rows or none
        held.writelines(file_blocks(source, ".csv"))
        source.print_notes()
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
    seeds: cli.IntegerOrNone = None,
    seed: cli.IntegerOrNone = None,
    kills: cli.Integer = 3,
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
    found = prove_resume(recipe, kills=kills, say=lambda line: echo(line, file=sys.stderr))
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
def run_progress(folder: Path, quiet: bool) -> Iterator[tuple[ProgressLine | None, Path]]:
    """Progress of a run, and the file that stops it; what a signal does to it.

    Before there is anything to save a signal ends it, then it saves and leaves; a second Ctrl-C
    leaves at once. The exit code tells which signal it was.
    """
    from ravine.files import run_state
    from ravine.reporting.progress import ProgressLine
    from ravine.training.run_lock import new_stop_file, request_stop

    progress, stop_file = ProgressLine(), new_stop_file(folder)
    numbers: list[int] = []

    def handle(number: int, frame: Any) -> None:
        numbers.append(number)
        if len(numbers) > 1 and number != signal.SIGINT:
            return  # a closed terminal and its shell both send one
        if len(numbers) > 1 or run_state(folder) != "begun" or not request_stop(stop_file):
            stop(number, frame)
        progress.close()
        print("stopping: saving a checkpoint (again to leave at once)", file=sys.stderr)

    try:
        with handle_signals(handle):
            yield None if quiet else progress, stop_file
    except (KeyboardInterrupt, Stopped, Interrupted) as error:
        progress.close()
        if run_state(folder) != "begun":
            raise
        how = (
            "stopped" if isinstance(error, Interrupted) else "left at once, at its last checkpoint"
        )
        stopped = Interrupted(f"{how}; go on with: ravine train --resume {folder}")
        stopped.exit_code = 128 + (numbers[0] if numbers else signal.SIGINT)
        raise stopped from None
    finally:
        progress.close()
        with suppress(OSError):
            stop_file.unlink()


def tell_versions(folder: Path) -> None:
    """Print which versions have changed since a run began, if any has."""
    from ravine.training.run_folder import other_versions, unfinished_plan

    if text := other_versions(unfinished_plan(folder)):
        print(f"note: {text}", file=sys.stderr)


def announcement(*, check: bool, quiet: bool) -> Callable[[Recipe, Task], list[dict[str, Any]]]:
    """What is done before a recipe trains: say what was inferred from the data, and make the quick
    checks. Unless quiet, both are printed.
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
    """Print a run's result; the exit code says whether there is a model. `data` says whether what
    was inferred from the data is told.
    """
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
        told = summary(
            run.record, folder=folder, new_rows=new, findings=findings, data=data, **style
        )
        print(told)
    return 3 if run.model is None else 0


class PredictedSource:
    """Predictions for a table's rows in blocks, or for images; what there is to say of them."""

    def __init__(self, run: Run, source: Path, *, interval: float | None = None):
        self.run, self.source, self.interval = run, source, interval
        self.count = 0
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[pd.DataFrame]:
        from ravine.data import ImageEncoder

        encoder = self.run.require_model().encoder
        images = isinstance(encoder, ImageEncoder)
        for block in self._images(encoder) if images else self._table(encoder):
            self.count += len(block)
            yield block

    def print_notes(self) -> None:
        """Print what could not be read, or is unlike the training rows."""
        for line in self.notes:
            echo(line, file=sys.stderr)

    def _table(self, encoder: Encoder) -> Iterator[pd.DataFrame]:
        from ravine.data import Drift, find_identifiers, open_blocks, round_floats, with_identifiers

        table = open_blocks(self.source, self.notes, encoder.expectation)
        drift = Drift(encoder)
        identifiers = None
        for rows in table.read(self.run.require_model().block_rows):
            predictions = self.run.predict(rows, interval=self.interval)
            drift.add(rows)
            if identifiers is None:
                identifiers = find_identifiers(table, encoder, predictions.columns)
            rounded = round_floats(predictions, encoder.target)
            yield with_identifiers(rounded, rows, identifiers)
        self.notes += drift.describe()

    def _images(self, encoder: ImageEncoder) -> Iterator[pd.DataFrame]:
        from ravine.data import round_floats

        images = encoder.read(self.source)
        self.notes += images.notes
        predictions = self.run.predict(images, interval=self.interval)
        predictions = round_floats(predictions, encoder.target)
        if images.names:
            predictions.insert(0, "file" if "path" in predictions else "path", images.names)
        yield predictions

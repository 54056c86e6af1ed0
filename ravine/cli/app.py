"""The command line: a function for each command of `ravine`, and what they share.

stdout is the result, stderr the progress; `--json` prints one object of a versioned form. Exit
codes: 0 fine, 1 a check that failed, 2 wrong input, 3 every network diverged or an experiment broke
off, 130 interrupted. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from ravine import recipe_files
from ravine.errors import InputError, Interrupted, RavineError

Flag = Annotated[bool, Parameter(negative="")]
Many = Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=False)]
Out = Annotated[Path | None, Parameter(name=["-o", "--out"])]
What = Annotated[
    str,
    Parameter(
        help="A table (CSV, Parquet, JSON lines), a folder of pictures, a recipe (.toml), or "
        "the name of a bundled set."
    ),
]
Force = Annotated[bool, Parameter(negative="", help="Write over an existing file.")]
Quiet = Annotated[bool, Parameter(negative="", help="No progress.")]
Json = Annotated[bool, Parameter(negative="", help="Print the result as one JSON object.")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a command line says of the recipe, beside the source."""

    target: Annotated[Many, Parameter(help="The column to predict; again for several.")] = ()
    set_: Annotated[
        Many,
        Parameter(name="--set", help="Change a setting: PATH=VALUE, such as optimizer.lr=0.01."),
    ] = ()
    recipe: Annotated[
        str | None, Parameter(help="The recipe to start from; `ravine recipes` lists them.")
    ] = None


AS_IT_IS = Wanted()
REFUSED = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
)  # mistakes of nobody's program

app = cyclopts.App(
    name="ravine",
    help="Trains neural networks with PyTorch, many at once, with honest scores.",
    version_flags=[],
)


@app.command
def train(
    what: What = "",
    /,
    *,
    wanted: Wanted = AS_IT_IS,
    seeds: int | None = None,
    seed: int | None = None,
    out: Out = None,
    resume: Path | None = None,
    memory: str | None = None,
    device: str = "cpu",
    workers: int | None = None,
    check: Annotated[bool, Parameter(negative="--no-check")] = True,
    quiet: Quiet = False,
    json: Json = False,
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
        Read a larger Parquet source in pieces, keep more pictures in a file: 2GB.
    device
        Where to train: cpu, cuda.
    workers
        How many processes; by default one per core where that pays.
    check
        Check recipe and data first. What is found is told and kept, and stops nothing.
    """
    from ravine.training.train import resume as go_on
    from ravine.training.train import train as begin

    if resume is not None:
        if what or wanted != AS_IT_IS or seeds or seed is not None or out or memory:
            raise InputError(
                "--resume goes on with a run as it was begun",
                why="its recipe is in its folder",
                do=f"write only: ravine train --resume {resume}",
            )
        with _watched(resume, quiet) as report:
            run = go_on(resume, workers=workers, report=report)
        return _shown(run, as_json=json)
    asked = recipe_for(what, wanted, seeds=seeds, seed=seed, memory=memory)
    folder = out if out is not None else fresh_folder(asked)
    with _watched(folder, quiet) as report:
        run = begin(
            asked,
            out=folder,
            device=device,
            workers=workers,
            report=report,
            check=_preflight(quiet) if check else None,
        )
    return _shown(run, as_json=json)


@app.command
def predict(run: Path, table: Path, /, *, out: Out = None, force: Force = False) -> int:
    """Predict a table's rows with a finished run: to stdout as CSV, or to a .csv, .parquet or
    .jsonl file.

    Parameters
    ----------
    run
        The folder of a finished run.
    table
        The rows to predict, or a folder of pictures.
    out
        Where to write the predictions.
    """
    from ravine.training.train import open_run

    if out is not None:
        _writable(out, force=force)
        if out.exists() and table.exists() and out.samefile(table):
            raise InputError(
                f"{out} is the table itself",
                why="its columns would be lost",
                do="name another file",
            )
    predictions = _predicted(open_run(run), table)
    if out is None:
        predictions.to_csv(sys.stdout, index=False)
        return 0
    from ravine.files import write_atomically

    write_atomically(out, _encoded(predictions, out.suffix.lower()))
    print(f"{len(predictions):,} predictions in {out}", file=sys.stderr)
    return 0


@app.command
def show(run: Path, /, *, json: Json = False) -> int:
    """Print the result of a finished run again.

    Parameters
    ----------
    run
        The folder of a finished run.
    """
    from ravine.training.train import open_run

    return _shown(open_run(run), as_json=json)


@app.command
def recipes(name: str | None = None, /) -> int:
    """List the named recipes and the bundled sets; with a name, print that recipe as a file to
    start from.

    Parameters
    ----------
    name
        A named recipe.
    """
    from ravine import catalog
    from ravine.data import BUNDLED

    if name is not None:
        print(recipe_files.recipe_text(catalog.named_recipe(name)), end="")
        return 0
    print("Recipes (ravine train WHAT --recipe NAME; ravine recipes NAME prints one):")
    for known, make in catalog.NAMED_RECIPES.items():
        print(f"  {known:14}{(make.__doc__ or '').split(':')[0].split(chr(10))[0].strip()}")
    print("Bundled sets (ravine train NAME):")
    print("  " + ", ".join(BUNDLED))
    return 0


@app.command
def verify_resume(
    what: What,
    /,
    *,
    wanted: Wanted = AS_IT_IS,
    seeds: int | None = None,
    seed: int | None = None,
    kills: int = 3,
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
    from ravine.training.verify_resume import verify

    asked = recipe_for(what, wanted, seeds=seeds, seed=seed)
    same, text = verify(asked, kills=kills, say=lambda line: print(line, file=sys.stderr))
    print(text)
    return 0 if same else 1


@app.command
def gallery(
    name: str | None = None,
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    out: Out = None,
    quick: Flag = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """List the experiments on the lectures' claims; run one, or all, and draw what came out.

    Parameters
    ----------
    name
        The experiment to run; without it they are listed.
    all_
        Run all experiments.
    out
        A folder for pictures, numbers and one page: NAME.svg, results.json, index.html.
    quick
        Fewer seeds and steps: to look, not to cite.
    """
    from ravine_gallery import experiment, names
    from ravine_gallery.run_all import as_json, exhibit

    if name is not None and all_:
        raise InputError(
            f"{name} beside --all", why="--all runs that one too", do="leave one of them out"
        )
    if all_ and out is None:
        raise InputError(
            "--all without a folder", why="pictures and page are files", do="add -o DIR"
        )
    if name is None and not all_:
        if out is not None:
            raise InputError(
                f"-o {out} without an experiment",
                why="there is nothing to write",
                do="name one, or add --all",
            )
        _list_experiments([experiment(known) for known in names()], as_json=json)
        return 0
    chosen = names() if name is None else (name,)
    say = (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    results = exhibit(chosen, folder=out, quick=quick, say=say)
    if json:
        print(as_json(results), end="")
    else:
        for result in results:
            outcome = result.outcome
            print(
                f"{result.experiment.name}: {result.verdict}. "
                f"{result.error if outcome is None else outcome.said}"
            )
        if out is not None:
            print(f"{len(results)} on the page {out / 'index.html'}", file=sys.stderr)
    return 3 if any(result.outcome is None for result in results) else 0


@app.command
def explain(
    name: str = "", /, *, picture: Path | None = None, force: Force = False, json: Json = False
) -> int:
    """Explain a finding by its code: what it means, why it happens, how it is measured, what to do.

    Parameters
    ----------
    name
        A code such as RVN-L01 or L01, or a cause such as learning-rate-high; without it all codes
        are listed.
    picture
        Where to draw the experiment of the gallery that shows it: a .svg file.
    """
    from ravine.causes import CAUSES
    from ravine.diagnosis.explain import (
        cause_page,
        find_topic,
        listing,
        naming,
        normalize_code,
        page,
        to_json,
    )
    from ravine.diagnosis.registry import ALL_RULES, FAMILIES, RETIRED_CODES

    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    found = find_topic(name, ALL_RULES, RETIRED_CODES) if name else ""
    if picture is not None:
        _draw_explained(found, picture, force=force)
    if not found:
        if json:
            _as_json(
                {
                    "families": {
                        f: [
                            {
                                "code": r.code,
                                "title": r.title,
                                "cause": r.cause,
                                "severity": r.severity,
                            }
                            for r in rules
                        ]
                        for f, rules in FAMILIES.items()
                    }
                }
            )
        else:
            print(listing(FAMILIES, color=color))
    elif isinstance(found, str):
        if json:
            _as_json(
                {
                    "cause": found,
                    "means": CAUSES[found],
                    "codes": [r.code for r in naming(found, ALL_RULES)],
                }
            )
        else:
            print(cause_page(found, ALL_RULES, color=color))
    elif json:
        _as_json(to_json(found))
    else:
        if normalize_code(name) in RETIRED_CODES:
            print(f"{normalize_code(name)} is now {found.code}.\n")
        print(page(found, ALL_RULES, color=color))
    return 0


@app.command
def check(
    what: What,
    /,
    *,
    wanted: Wanted = AS_IT_IS,
    fail_on: Literal["error", "warning", "note"] = "warning",
    json: Json = False,
) -> int:
    """Check a recipe and its data before training: data, structure, first loss, signal, gradient, a
    few by heart.

    Parameters
    ----------
    fail_on
        Findings of which severity, or a worse one, make the exit code 1: error, warning, note.
    """
    from ravine.examination.preflight import check as checked

    asked = recipe_for(what, wanted)
    return _reported(checked(asked), as_json=json, fail_on=fail_on)


@app.command
def doctor(
    what: str,
    /,
    *,
    wanted: Wanted = AS_IT_IS,
    fix: Flag = False,
    trials: Annotated[bool, Parameter(negative="--no-trials")] = True,
    out: Out = None,
    force: Force = False,
    fail_on: Literal["error", "warning", "note"] = "warning",
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Find out why a run goes wrong: all checks, its course, and remedies that are tried before
    they are recommended.

    Parameters
    ----------
    what
        The folder of a run; or a table, a recipe (.toml), or the name of a bundled set.
    fix
        Write the recipe with the remedies that helped, and show what is different.
    trials
        Try remedies. Without it nothing is trained but a few examples by heart.
    out
        Where --fix writes the recipe (.toml).
    fail_on
        Findings of which severity, or a worse one, make the exit code 1: error, warning, note.
    """
    from ravine.examination.report import examined, patient_of

    if out is not None and not fix:
        raise InputError(f"-o {out} without --fix", why="there is nothing to write", do="add --fix")
    if fix and not trials:
        raise InputError(
            "--fix without trials",
            why="only what was tried and helped is written",
            do="leave --no-trials out",
        )
    mended = _mended_at(what, out, force=force) if fix else None
    if (Path(what) / "plan.json").exists():
        if wanted != AS_IT_IS:
            raise InputError(
                f"settings beside {what}",
                why="a run is examined as it was trained",
                do=f"write only: ravine doctor {what}",
            )
        patient = patient_of(Path(what))
        asked = patient.recipe
    else:
        asked = recipe_for(what, wanted)
        patient = patient_of(asked)
    with _saying(quiet) as say:
        report = examined(patient, trials=trials, say=say)
    if patient.name is not None:
        from ravine.files import write_atomically

        text = _plain(report.to_json(), indent=1)
        write_atomically(Path(patient.name) / "doctor.json", text.encode())
    code = _reported(report, as_json=json, fail_on=fail_on)
    if mended is not None:
        _mend(asked, report, mended, said=sys.stderr if json else sys.stdout)
    elif (
        any(f.trial is not None and f.trial.verdict == "helped" for f in report.findings)
        and not quiet
    ):
        print(f"to write the recipe with what helped: ravine doctor {what} --fix", file=sys.stderr)
    return code


@app.command(name="range")
def range_(
    what: What,
    /,
    *,
    wanted: Wanted = AS_IT_IS,
    low: float = 1e-6,
    high: float = 10.0,
    rates: int = 36,
    seeds: int = 3,
    steps: int = 200,
    out: Out = None,
    force: Force = False,
    json: Json = False,
) -> int:
    """Find the usable learning rates: a cohort of networks, each with a constant rate of its own,
    for a few steps.

    Parameters
    ----------
    low
        The lowest rate.
    high
        The highest rate.
    rates
        How many rates, evenly on a log scale.
    seeds
        How many networks at each rate.
    steps
        How many steps each makes, about.
    out
        Where to draw it: a .svg, .png or .pdf file.
    """
    from ravine.studies.lr_range_test import range_test

    if out is not None:
        _writable(out, force=force, endings=(".svg", ".png", ".pdf"), what="pictures")
    asked = recipe_for(what, wanted)
    found = range_test(asked, low=low, high=high, rates=rates, seeds=seeds, steps=steps)
    if out is not None:
        _draw(found.picture(), out)
    if json:
        _as_json(found.plain())
    else:
        print(found.in_words())
    return 0


@app.command
def search(
    what: What,
    /,
    *,
    space: Many = (),
    trials: int = 32,
    method: Literal["random", "grid"] = "random",
    wanted: Wanted = AS_IT_IS,
    seeds: int = 1,
    seed: int = 0,
    out: Out = None,
    force: Force = False,
    json: Json = False,
) -> int:
    """Search for good settings by the validation split; train the best again and score it on the
    test split.

    Parameters
    ----------
    space
        A setting's values, again for several: optimizer.lr=log:1e-4..1e-1,
        network.dropout.rate=0..0.5, batch=[16,64].
    trials
        How many random trials.
    method
        random, or grid: all combinations (ranges need a count, LOW..HIGH/5).
    seeds
        How many networks each trial trains.
    seed
        The seed of the random trials.
    out
        Where to write the best recipe (.toml).
    """
    from ravine.files import write_atomically
    from ravine.recipe_files import recipe_text
    from ravine.studies.search import read_spaces
    from ravine.studies.search import search as best_of

    if out is not None:
        _writable(out, force=force, endings=(".toml",), what="recipes")
    asked = recipe_for(what, wanted)
    found = best_of(
        asked, read_spaces(space, asked), method=method, trials=trials, seeds=seeds, seed=seed
    )
    if out is not None:
        write_atomically(out, recipe_text(found.best.recipe, out.parent).encode())
    if json:
        _as_json(found.plain())
    else:
        print(found.in_words())
        if out is not None:
            print(f"the best recipe is in {out}: ravine train {out}", file=sys.stderr)
    return 0


@app.command
def ensemble(
    what: What,
    /,
    *,
    members: int = 4,
    repeats: int = 4,
    wanted: Wanted = AS_IT_IS,
    json: Json = False,
) -> int:
    """Compare ensembles with single networks of the same budget: independent members, snapshots,
    averaged weights.

    Parameters
    ----------
    members
        How many networks, snapshots or cycles.
    repeats
        How often everything is trained anew.
    """
    from ravine.studies.ensemble import compare_ensembles

    asked = recipe_for(what, wanted)
    found = compare_ensembles(asked, members=members, repeats=repeats)
    if json:
        _as_json(found.plain())
    else:
        print(found.in_words())
    return 0


@app.command
def augment(
    what: str = "",
    /,
    *,
    wanted: Wanted = AS_IT_IS,
    out: Annotated[Path, Parameter(name=["-o", "--out"])] = Path("augmented.png"),
    force: Force = False,
) -> int:
    """Draw a contact sheet: training pictures as they are, and as a recipe's augmentation shows
    them to networks.

    Parameters
    ----------
    what
        A folder of pictures, a table of paths, or a recipe (.toml) that names one.
    out
        Where to draw it: a .svg, .png or .pdf file.
    """
    from ravine import data
    from ravine.studies.contact_sheet import contact_sheet

    _writable(out, force=force, endings=(".svg", ".png", ".pdf"), what="pictures")
    recipe = wanted.recipe
    if not what and recipe is None:
        raise InputError(
            "there is nothing to draw",
            why="neither pictures nor a recipe are named",
            do="write ravine augment photos/ --recipe r.toml",
        )
    if recipe is not None and recipe.endswith(".toml") and not what.endswith(".toml"):
        asked = recipe_files.read_recipe(recipe)
        if what:
            pictured = isinstance(asked.data, data.Images)
            asked = (
                asked.vary("data.source", what)
                if pictured
                else asked.vary("data", data.Images(source=what))
            )
        asked = _told(asked, wanted)
    else:
        asked = recipe_for(what, wanted)
    _draw(contact_sheet(asked), out)
    print(f"the pictures are in {out}", file=sys.stderr)
    return 0


# What was asked


def recipe_for(
    what: str,
    wanted: Wanted,
    *,
    seeds: int | None = None,
    seed: int | None = None,
    memory: str | None = None,
) -> Any:
    """The recipe that a command line describes; a folder with pictures in it is read as
    pictures.
    """
    from ravine import catalog, data

    name = wanted.recipe
    if not what:
        raise InputError(
            "there is nothing to train on",
            why="no table, recipe or bundled set is named",
            do="write ravine train houses.csv --target price, or ravine train penguins",
        )
    if what.endswith(".toml"):
        if name is not None:
            raise InputError(
                f"--recipe {name} beside {what}",
                why="a recipe file names its base itself",
                do=f'write base = "{name}" in the file',
            )
        recipe = recipe_files.read_recipe(what)
    elif data.holds_pictures(what):
        recipe = catalog.named_recipe(name or "image").vary("data", data.Images(source=what))
    else:
        recipe = catalog.named_recipe(name or "default").vary("data.source", what)
    recipe = _told(recipe, wanted)
    for path, value in (("seeds", seeds), ("seed", seed), ("data.memory", memory)):
        if value is not None:
            recipe = recipe.vary(path, value)
    return recipe


def _told(recipe: Any, wanted: Wanted) -> Any:
    """A recipe with the target and the settings that a command line names."""

    recipe = recipe.vary("data.target", wanted.target) if wanted.target else recipe
    return recipe_files.with_settings(recipe, wanted.set_)


def fresh_folder(recipe: Any) -> Path:
    """A folder for a run that is not there yet: runs/NAME-1a2b."""
    import secrets

    stem = Path(recipe.data.source).name.split(".")[0] or "table"
    while (folder := Path("runs") / f"{stem}-{secrets.token_hex(2)}").exists():
        pass
    return folder


def _writable(
    out: Path,
    *,
    force: bool,
    endings: tuple[str, ...] = (".csv", ".parquet", ".jsonl"),
    what: str = "predictions",
) -> None:
    """Raise `InputError` unless a result can be written there."""
    if out.suffix.lower() not in endings:
        known = f"{', '.join(endings[:-1])} or {endings[-1]}" if endings[1:] else endings[0]
        raise InputError(
            f"{out} has no known ending",
            why=f"{what} are {known}",
            do=f"write {out.parent / (out.stem or what)}{endings[0]}",
        )
    if out.exists() and not force:
        raise InputError(
            f"{out} is there already",
            why="nothing is written over unasked",
            do="name another file, or add --force",
        )
    if not out.parent.is_dir():
        raise InputError(
            f"{out.parent} is no folder", why=f"the {what} are to go there", do="make it first"
        )


def _draw(picture: Any, out: Path) -> None:
    """Write a picture in the form that its file's ending says."""
    import io

    from ravine.files import write_atomically
    from ravine.reporting.plot_style import svg

    if out.suffix.lower() == ".svg":
        write_atomically(out, svg(picture, title=out.stem).encode())
        return
    held = io.BytesIO()
    picture.savefig(held, format=out.suffix.lower()[1:], dpi=150)
    write_atomically(out, held.getvalue())


def _draw_explained(rule: Any, out: Path, *, force: bool) -> None:
    """Run the experiment of the gallery that shows a finding, quickly, and write its first
    picture.
    """
    from ravine.files import write_atomically
    from ravine_gallery import experiment
    from ravine_gallery.run_all import run

    shows = getattr(rule, "picture", "")
    if not shows:
        raise InputError(
            f"no picture for {getattr(rule, 'code', rule) or 'all codes'}",
            why="no experiment of the gallery shows it",
            do="leave --picture out, or look at ravine gallery",
        )
    _writable(out, force=force, endings=(".svg",), what="pictures")
    result = run(experiment(shows), quick=True)
    if not result.pictures:
        raise RavineError(f"the experiment {shows} drew nothing. {result.error}")
    write_atomically(out, next(iter(result.pictures.values())).encode())
    print(
        f"{experiment(shows).title}: {out} (all of it: ravine gallery {shows} -o shown)",
        file=sys.stderr,
    )


def _predicted(run: Any, table: Path) -> Any:
    """Predictions for a table's rows, or for pictures, each with its path; what could not be read
    is said.
    """
    from ravine.data import PictureEncoder, read_table, rounded, told_apart, unlike

    if run.model is None:
        return run.predict(read_table(table))  # which says why nothing can be predicted
    encoder = run.model.encoder
    if not isinstance(encoder, PictureEncoder):
        rows = read_table(table)
        predictions = run.predict(rows)
        for line in unlike(encoder, rows):
            print(line, file=sys.stderr)
        return told_apart(rounded(predictions), rows, encoder)
    seen = encoder.read(table)
    for line in seen.said:
        print(line, file=sys.stderr)
    predictions = rounded(run.predict(seen))
    if seen.names:
        predictions.insert(0, "file" if "path" in predictions else "path", seen.names)
    return predictions


def _encoded(predictions: Any, suffix: str) -> bytes:
    if suffix == ".parquet":
        return predictions.to_parquet(None, index=False)
    if suffix == ".jsonl":
        return predictions.to_json(orient="records", lines=True).encode()
    return predictions.to_csv(index=False).encode()


# What is shown


def _list_experiments(found: list[Any], *, as_json: bool) -> None:
    """Name, seconds, techniques and title of each experiment."""
    if as_json:
        rows = [
            {"name": e.name, "title": e.title, "rows": e.rows, "seconds": e.seconds} for e in found
        ]
        _as_json({"experiments": rows})
        return
    wide = max((len(e.name) for e in found), default=0)
    for e in found:
        print(f"{e.name:{wide}}  {e.seconds:4.0f} s  {' '.join(e.rows):11}  {e.title}")


def _reported(report: Any, *, as_json: bool, fail_on: str) -> int:
    """Print a report; the exit code says whether it has findings at or above a severity."""
    from ravine.finding import SEVERITIES
    from ravine.reporting.findings_text import findings_text

    if as_json:
        _as_json(report.to_json())
    else:
        print(findings_text(report, **_marks(sys.stdout)))
    bad = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return 1 if any(f.severity in bad for f in report.findings) else 0


def _plain(said: Any, **options: Any) -> str:
    """JSON, by the module that the flag of that name hides within commands."""
    return json.dumps(said, **options)


def _mended_at(what: str, out: Path | None, *, force: bool) -> Path:
    """Where the mended recipe goes: beside a recipe, else into this folder; nothing is written over
    unasked.
    """
    stem = Path(what).name.split(".")[0] or "recipe"
    at = (
        Path(what).with_name(f"{stem}-fixed.toml")
        if what.endswith(".toml")
        else Path(f"{stem}-fixed.toml")
    )
    at = at if out is None else out
    _writable(at, force=force, endings=(".toml",), what="recipes")
    return at


def _mend(recipe: Any, report: Any, out: Path, *, said: Any) -> None:
    """Write the recipe with the remedies that helped, and show what is different."""
    from ravine.examination.report import differences, fixed
    from ravine.files import write_atomically
    from ravine.recipe_files import recipe_text

    mended = fixed(recipe, report)
    if mended == recipe:
        print("no remedy was tried and helped: nothing is written", file=said)
        return
    write_atomically(out, recipe_text(mended, out.parent).encode())
    print(f"\n{out}", file=said)
    for path, old, new in differences(recipe, mended):
        for sign, value in (("-", old), ("+", new)):
            if value is not None:
                print(f"{sign} {path} = {value}", file=said)
    print(f"next: ravine train {out}", file=sys.stderr)


@contextmanager
def _saying(quiet: bool) -> Iterator[Any]:
    """A function that says on stderr what takes a while: in one live line on a terminal, else a
    line each.
    """
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def say(line: str) -> None:
        if not quiet:
            print(
                f"\r\x1b[2K{line}" if live else line,
                end="" if live else "\n",
                file=sys.stderr,
                flush=True,
            )

    try:
        yield say
    finally:
        if live and not quiet:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _marks(stream: Any) -> dict[str, bool]:
    """How to mark findings on a stream: in color on a terminal that has it, in ASCII where there is
    nothing else.
    """
    dumb = os.environ.get("TERM") == "dumb"
    color = stream.isatty() and not dumb and not os.environ.get("NO_COLOR")
    return {"color": color, "plain": dumb or "utf" not in (stream.encoding or "").lower()}


def _shown(run: Any, *, as_json: bool) -> int:
    """Print a run's result; the exit code says whether there is a model."""
    from ravine.diagnosis.rule import run_rules
    from ravine.diagnosis.training_curves import rules as curve_rules
    from ravine.diagnosis.training_curves.series import course_of
    from ravine.finding import Finding, arrange
    from ravine.reporting.findings_text import finding_line
    from ravine.reporting.run_summary import summary

    folder = "" if run.folder is None else str(run.folder)
    before = [Finding.from_json(f) for f in run.record.findings]
    found = arrange([*before, *run_rules(curve_rules.ALL, course_of(run.record))[0]])
    if as_json:
        plain = run.record.to_json()
        score, _ = plain.pop("score"), plain.pop("findings")
        said = [f.to_json() for f in found]
        _as_json({"run": folder, "score": score, "findings": said, **plain})
    else:
        new = "new/" if run.record.recipe["data"]["name"] == "Images" else "new.csv"
        print(summary(run.record, folder=folder, new_rows=new))
        for finding in found:
            print(finding_line(finding, **_marks(sys.stdout)))
        if folder and any(f.severity != "note" for f in found):
            print(f"{'why':12}ravine doctor {folder}")
    return 3 if run.model is None else 0


def _preflight(quiet: bool) -> Any:
    """The quick checks of a recipe before it trains; unless they are to be quiet, they tell what
    they found.
    """
    import time

    from ravine.examination.preflight import quick_check
    from ravine.reporting.findings_text import finding_line, preflight_line

    def checked(recipe: Any, task: Any) -> list[dict[str, Any]]:
        began = time.monotonic()
        report = quick_check(recipe, task)
        if not quiet:
            print(preflight_line(report, seconds=time.monotonic() - began), file=sys.stderr)
            for finding in report.findings:
                print(finding_line(finding, **_marks(sys.stderr)), file=sys.stderr)
        return [f.to_json() for f in report.findings]

    return checked


def _as_json(said: dict[str, Any]) -> None:
    """Print one object of the versioned form; numbers that are not finite become null."""
    from ravine.record import SCHEMA, finite

    print(json.dumps(finite({"schema": SCHEMA, **said})))


@contextmanager
def _watched(folder: Path, quiet: bool) -> Iterator[Any]:
    """Progress for a run, and what Ctrl-C does to it: once, save and leave; twice, leave at
    once.
    """
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


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code. Mistakes of the user's end in one message, never in a
    traceback.
    """
    sys.exit(run_command(sys.argv[1:] if arguments is None else arguments))


def run_command(arguments: list[str]) -> int:
    """Run a command; return its exit code."""
    try:
        if not arguments:
            app.help_print([])
            return 0
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return code if isinstance(code, int) else 0
    except cyclopts.CycloptsError as error:
        _complain(_not_understood(error, arguments), as_json="--json" in arguments)
        return 2
    except RavineError as error:
        _complain(error, as_json="--json" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or Python complains once more at exit
        return 0
    except OSError as error:
        if error.errno not in REFUSED or error.filename is None:
            raise
        refused = InputError(
            f"{error.filename} cannot be used",
            why=error.strerror or "the system refuses",
            do="check its permissions and the free space, or name another place",
        )
        _complain(refused, as_json="--json" in arguments)
        return refused.exit_code


def _not_understood(error: cyclopts.CycloptsError, arguments: list[str]) -> InputError:
    """What to say of arguments that no command takes; of a setting given as an option, how it is
    written.
    """
    from ravine.errors import nearest

    command = arguments[0] if arguments[0] in app else ""
    what, do = (
        str(error).strip(),
        f"see ravine {command} --help" if command else "see ravine --help",
    )
    if not command:
        names = [name for name in app if not name.startswith("-")]
        return InputError(
            f"ravine has no command {arguments[0]!r}", why=nearest(arguments[0], names)
        )
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return InputError(f"{' '.join(error.unused_tokens or ())}: one argument too many", do=do)
    option = re.match(r"Unknown option: (-[-\w.]*\w)", what)
    takes_settings = "wanted" in inspect.signature(app[command].default_command or main).parameters
    path = _setting_meant(option[1].lstrip("-")) if option and takes_settings else ""
    if option and path:
        at = next(
            (i for i, a in enumerate(arguments) if a.split("=")[0] == option[1]), len(arguments) - 1
        )
        value = arguments[at].partition("=")[2] or next(
            (a for a in arguments[at + 1 : at + 2] if a[0] != "-"), "VALUE"
        )
        return InputError(
            f"{command} has no option {option[1]}",
            why=f"{path} is a setting of the recipe",
            do=f"write --set {path}={value}",
        )
    return InputError(what.rstrip("."), do="" if "Did you mean" in what else do)


def _setting_meant(option: str) -> str:
    """The path of the default recipe's setting that an option's name means: its path, its last
    name, its initials.
    """
    from ravine.catalog import named_recipe
    from ravine.errors import folded
    from ravine.part import field_types, is_part

    found: list[str] = []

    def walk(part: Any, above: str) -> None:
        for name in field_types(type(part)):
            value = getattr(part, name)
            found.append(f"{above}{name}")
            if is_part(value):
                walk(value, f"{above}{name}.")

    walk(named_recipe("default"), "")
    initials = "".join(word[0] for word in option.replace("_", "-").split("-") if word)
    for meant in (option, initials):
        fits = [
            p
            for p in found
            if folded(meant) in (folded(p), folded(p.rpartition(".")[2])) and len(meant) > 1
        ]
        if fits:
            return min(fits, key=lambda p: p.count("."))
    return ""


def _complain(error: RavineError, *, as_json: bool) -> None:
    word: Literal["stopped", "error"] = "stopped" if isinstance(error, Interrupted) else "error"
    text = str(error) if word == "stopped" else f"error: {error}"
    if sys.stderr.isatty():
        wide = min(shutil.get_terminal_size().columns, 80)
        text = textwrap.fill(
            text, wide, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    print(text, file=sys.stderr)
    if as_json:
        fields = {
            "what": getattr(error, "what", str(error)),
            "why": getattr(error, "why", ""),
            "do": getattr(error, "do", ""),
            "where": getattr(error, "where", ""),
        }
        _as_json({"error": fields})

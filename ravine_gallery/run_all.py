"""Run experiments one after the other and write a folder: pictures, numbers and the page."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ravine.argument_checks import check_arguments
from ravine.errors import InputError
from ravine_gallery import find_experiment
from ravine_gallery.experiment import Experiment
from ravine_gallery.html_page import ExperimentResult, describe_versions, draw_pictures, render_page

SCHEMA_VERSION = 1
PAGE_FILE, RESULTS_FILE = "index.html", "results.json"


def run_experiments(
    names: Sequence[str],
    *,
    folder: Path | None = None,
    quick: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[ExperimentResult]:
    """Run the experiments of these names; with `folder` write NAME.svg, NAME-2.svg, ...,
    results.json and index.html.

    An experiment that fails is a result with an error, and the others go on. If the user stops the
    run, the results so far are written. Raises `InputError` for unknown names and for a folder that
    holds other things, before any work.
    """
    check_arguments(run_experiments, locals())
    experiments = [find_experiment(name) for name in names]
    if folder is not None:
        prepare_folder(folder)
    results: list[ExperimentResult] = []
    try:
        for i, each in enumerate(experiments, 1):
            seconds = max(1, round(each.seconds / (8 if quick else 1)))
            say(f"{i}/{len(experiments)} {each.name} (about {seconds} s)")
            result = run_experiment(each, quick=quick)
            results.append(result)
            text = result.error or (result.outcome and result.outcome.said)
            say(f"    {result.verdict} in {result.seconds:.1f} s: {text}")
            if folder is not None:
                _write_pictures(result, folder)
    finally:
        if folder is not None and results:
            (folder / PAGE_FILE).write_text(render_page(results), "utf-8")
            (folder / RESULTS_FILE).write_text(results_to_json(results), "utf-8")
    return results


def run_experiment(each: Experiment, *, quick: bool) -> ExperimentResult:
    """Run one experiment and draw its pictures; any exception becomes the result's error."""
    began = time.perf_counter()
    outcome, pictures, message = None, {}, ""
    try:
        outcome = each.run(quick)
        pictures = draw_pictures(each, outcome)
    except Exception as error:  # an experiment's mistake must not cost the others their results
        outcome, message = None, f"{type(error).__name__}: {error}"
    return ExperimentResult(
        experiment=each,
        quick=quick,
        seconds=time.perf_counter() - began,
        outcome=outcome,
        error=message,
        pictures=pictures,
    )


def results_to_json(results: Sequence[ExperimentResult]) -> str:
    """All results as one JSON object with a version number."""
    plain = {
        "schema": SCHEMA_VERSION,
        "made with": describe_versions(),
        "experiments": [result.to_json() for result in results],
    }
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def prepare_folder(folder: Path) -> None:
    """Make the folder. Raises `InputError` where it is a file, or holds anything but an earlier
    gallery.
    """
    elsewhere = "name another folder with -o"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", why="the gallery is a folder", do=elsewhere)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RESULTS_FILE).exists():
        why = "nothing is overwritten unasked"
        raise InputError(f"{folder} holds other things", why=why, do="name a new folder with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = str(error.strerror)
        raise InputError(f"{folder} cannot be made", why=why, do=elsewhere) from None


def _write_pictures(result: ExperimentResult, folder: Path) -> None:
    for i, text in enumerate(result.pictures.values(), 1):
        name = f"{result.experiment.name}.svg" if i == 1 else f"{result.experiment.name}-{i}.svg"
        (folder / name).write_text(text, "utf-8")

"""Run experiments one after the other and write a folder: pictures, numbers and the page."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ravine.argument_checks import check_arguments
from ravine.errors import InputError
from ravine.files import write_atomically
from ravine_gallery import experiment_names, find_experiment
from ravine_gallery.experiment import Experiment
from ravine_gallery.html_page import (
    ExperimentResult,
    describe_versions,
    draw_pictures,
    picture_title,
    render_page,
)

SCHEMA_VERSION = 1
PAGE_FILE, RESULTS_FILE = "index.html", "results.json"
PAGE_MARK = "<title>Ravine: the gallery</title>"  # by which a page of ours is known


def run_experiments(
    names: Sequence[str],
    *,
    folder: Path | None = None,
    quick: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[ExperimentResult]:
    """Run the experiments of these names; with `folder` write NAME.svg, NAME-2.svg, ...,
    results.json and index.html. The results of others that the folder holds stay in both.

    An experiment that fails is a result with an error, and the others go on. If the user stops the
    run, the results so far are written. Raises `InputError` for unknown names and for a folder that
    holds other things, before any work.
    """
    check_arguments(run_experiments, locals())
    experiments = [find_experiment(name) for name in names]
    if folder is not None:
        prepare_folder(folder, names)
    results: list[ExperimentResult] = []
    try:
        for i, each in enumerate(experiments, 1):
            seconds = max(1, round(each.seconds / (8 if quick else 1)))
            say(f"{i}/{len(experiments)} {each.name} (about {seconds} s)")
            result = run_experiment(each, quick=quick)
            results.append(result)
            say(f"    {result.verdict} in {result.seconds:.1f} s")
            if folder is not None:
                _write_pictures(result, folder)
    finally:
        if folder is not None and results:
            merged = _merge_results(read_results(folder), results)
            write_atomically(folder / PAGE_FILE, render_page(merged).encode())
            write_atomically(folder / RESULTS_FILE, results_to_json(merged).encode())
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


def read_results(folder: Path) -> list[ExperimentResult]:
    """The results in a gallery's folder, with their pictures; none where it has no results.

    Raises `InputError` where its results are not a gallery's.
    """
    path = folder / RESULTS_FILE
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text("utf-8"))["experiments"]
        return [
            ExperimentResult.from_json(plain, pictures=_read_pictures(plain["name"], folder))
            for plain in entries
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        what, why = f"{path} holds other things", "it is not the results of a gallery"
        raise InputError(what, why=why, do="name another folder with -o") from None


def prepare_folder(folder: Path, names: Sequence[str]) -> None:
    """Make the folder. Raises `InputError` where it is a file, or holds anything but an earlier
    gallery, or a file that is not its own where one would be written.
    """
    elsewhere = "name another folder with -o"
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file", why="the gallery is a folder", do=elsewhere)
    kept = "nothing is overwritten unasked"
    if folder.is_dir() and any(folder.iterdir()) and not (folder / RESULTS_FILE).exists():
        raise InputError(f"{folder} holds other things", why=kept, do="name a new folder with -o")
    read_results(folder)
    page = folder / PAGE_FILE
    others = [page] if page.exists() and PAGE_MARK not in _read_text(page) else []
    pictures = [path for name in names for path in _picture_files(name, folder)]
    others += [path for path in pictures if not picture_title(_read_text(path))]
    if others:
        raise InputError(f"{others[0]} is not the gallery's", why=kept, do=elsewhere)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = str(error.strerror)
        raise InputError(f"{folder} cannot be made", why=why, do=elsewhere) from None


def _merge_results(
    earlier: Sequence[ExperimentResult], results: Sequence[ExperimentResult]
) -> list[ExperimentResult]:
    """Earlier results and new ones, which replace those of the same name, in the gallery's
    order.
    """
    by_name = {result.experiment.name: result for result in (*earlier, *results)}
    order = {name: place for place, name in enumerate(experiment_names())}
    return sorted(by_name.values(), key=lambda r: order.get(r.experiment.name, len(order)))


def _picture_files(name: str, folder: Path) -> list[Path]:
    """The files of an experiment's pictures that are there: NAME.svg, NAME-2.svg, ..."""
    later = (folder / f"{name}-{i}.svg" for i in itertools.count(2))
    first = [folder / f"{name}.svg"]
    return [path for path in first if path.exists()] + [
        *itertools.takewhile(lambda path: path.exists(), later)
    ]


def _read_pictures(name: str, folder: Path) -> dict[str, str]:
    texts = [_read_text(path) for path in _picture_files(name, folder)]
    return {title: text for text in texts if (title := picture_title(text))}


def _read_text(path: Path) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _write_pictures(result: ExperimentResult, folder: Path) -> None:
    name = result.experiment.name
    earlier = _picture_files(name, folder)
    for i, text in enumerate(result.pictures.values(), 1):
        path = folder / (f"{name}.svg" if i == 1 else f"{name}-{i}.svg")
        write_atomically(path, text.encode())
    for path in earlier[len(result.pictures) :]:
        path.unlink()

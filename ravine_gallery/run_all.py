"""Run experiments one after the other and write what came out: a folder with pictures, numbers and
the page.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ravine.errors import InputError
from ravine_gallery import experiment
from ravine_gallery.experiment import Experiment
from ravine_gallery.html_page import Result, drawn, page, surroundings

SCHEMA = 1
PAGE, NUMBERS = "index.html", "results.json"


def exhibit(
    names: Sequence[str],
    *,
    folder: Path | None = None,
    quick: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Result]:
    """Run the experiments of these names; with `folder` write NAME.svg, NAME-2.svg, ...,
    results.json and index.html.

    An experiment that fails is a result with an error, and the others go on. What was done is also
    written where the user stops it. Raises `InputError` for unknown names and for a folder that
    holds other things, before any work.
    """
    found = [experiment(name) for name in names]
    if folder is not None:
        ready(folder)
    results: list[Result] = []
    try:
        for i, each in enumerate(found, 1):
            say(
                f"{i}/{len(found)} {each.name} (about "
                f"{max(1, round(each.seconds / (8 if quick else 1)))} s)"
            )
            results.append(run(each, quick=quick))
            last = results[-1]
            say(
                f"    {last.verdict} in {last.seconds:.1f} s: "
                f"{last.error or last.outcome and last.outcome.said}"
            )
            if folder is not None:
                _draw(last, folder)
    finally:
        if folder is not None and results:
            (folder / PAGE).write_text(page(results), "utf-8")
            (folder / NUMBERS).write_text(as_json(results), "utf-8")
    return results


def run(each: Experiment, *, quick: bool) -> Result:
    """Run one experiment and draw its pictures; whatever goes wrong in it is the result's error."""
    began = time.perf_counter()
    try:
        outcome = each.run(quick)
        pictures = drawn(each, outcome)
    except Exception as error:  # an experiment's mistake must not cost the others their results
        return Result(
            experiment=each,
            quick=quick,
            seconds=time.perf_counter() - began,
            error=f"{type(error).__name__}: {error}",
        )
    return Result(
        experiment=each,
        quick=quick,
        seconds=time.perf_counter() - began,
        outcome=outcome,
        pictures=pictures,
    )


def as_json(results: Sequence[Result]) -> str:
    """All results as one JSON object of a versioned form."""
    plain = {
        "schema": SCHEMA,
        "made with": surroundings(),
        "experiments": [r.to_json() for r in results],
    }
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def ready(folder: Path) -> None:
    """Make the folder. Raises `InputError` where it is a file, or holds anything but an earlier
    gallery.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(
            f"{folder} is a file", why="the gallery is a folder", do="name another place with -o"
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / NUMBERS).exists():
        raise InputError(
            f"{folder} holds other things",
            why="nothing is written over unasked",
            do="name a new folder with -o",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made", why=str(error.strerror), do="name another place with -o"
        ) from None


def _draw(result: Result, folder: Path) -> None:
    for i, text in enumerate(result.pictures.values(), 1):
        name = f"{result.experiment.name}.svg" if i == 1 else f"{result.experiment.name}-{i}.svg"
        (folder / name).write_text(text, "utf-8")

"""Which optimizer, and how sure is that? Every optimizer of Ravine, tuned alike.

Run: python -m benchmarks.optimizers [--quick] [--problems digits,wine]
         [--optimizers Adam,SGD] [--out FOLDER] [--workers 2] [--publish]

Each optimizer with its defaults, with the best of 25 and with the best of 50
draws (`spaces.py`), chosen on validation rows, scored on test rows with ten
other seeds; Momentum and AdamW with every schedule, too. Half an hour to an
hour of one core; a run that was stopped goes on where it was. Printed is the
verdict; --publish writes it with tables and figures into docs/optimizers.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.optimizers.protocol import QUICK_PLAN, TuningPlan, all_problems, run_protocol
from benchmarks.optimizers.publish import publish, screen_text
from benchmarks.optimizers.spaces import default_optimizers
from ravine.errors import InputError, RavineError, nearest


def pick_names(given: str | None, known: Iterable[str], what: str) -> list[str]:
    """Those of the known names that are given, separated by commas; all where nothing is given.

    >>> pick_names("b", ["a", "b"], "letter"), pick_names(None, ["a", "b"], "letter")
    (['b'], ['a', 'b'])
    """
    known = list(known)
    wanted = known if given is None else [name for name in given.split(",") if name]
    for name in wanted:
        if name not in known:
            raise InputError(f"no {what} is named {name!r}", why=nearest(name, known))
    if not wanted:
        raise InputError(f"no {what} is named", why=nearest("", known))
    return [name for name in known if name in wanted]


def read_options(words: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    name = "python -m benchmarks.optimizers"
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=name, description=__doc__, formatter_class=about)
    parser.add_argument("--quick", action="store_true", help="two minutes, to find faults")
    parser.add_argument("--problems", metavar="NAMES", help="some of them, separated by commas")
    parser.add_argument("--optimizers", metavar="NAMES", help="some of them, likewise")
    parser.add_argument("--out", type=Path, help="the folder of what is measured")
    parser.add_argument("--workers", type=int, default=1, help="processes that train")
    parser.add_argument("--publish", action="store_true", help="write docs/optimizers.md")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = read_options(words)
    try:
        if options.workers < 1:
            raise InputError(f"--workers is {options.workers}", why="one process at least trains")
        problems = all_problems(quick=options.quick, workers=options.workers)
        chosen = pick_names(options.problems, problems, "problem")
        names = pick_names(options.optimizers, default_optimizers(), "optimizer")
        place = "runs/optimizers-quick" if options.quick else "runs/optimizers"
        folder = options.out or Path(place)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out is {folder}", why="that is a file", do="name a folder")
        plan = QUICK_PLAN if options.quick else TuningPlan()
        if options.publish and (options.quick or options.problems or options.optimizers):
            what = "--publish with --quick, --problems or --optimizers"
            why = "docs/optimizers.md is about all optimizers on all problems"
            raise InputError(what, why=why, do="leave one of them out")
        known = run_protocol([problems[name] for name in chosen], names, plan, folder)
        if options.publish:
            print("\n".join(f"written: {path}" for path in publish(known)))
        print(screen_text(known))
        return 0
    except RavineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as head, has left; what is measured is kept
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

"""What recording costs: training as in every run, without the measurements at intervals, and
without any record.

    OMP_NUM_THREADS=1 python -m benchmarks.measure_cost [--nets 64-100-10] [--networks 1,32]
    [--repeats 9]

A repeat trains the same cohort in all three ways, in an order drawn anew; medians and ranges of the
shares within a repeat are shown. How often a run measures depends on its length, so a short and a
long run are shown.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from benchmarks.cases import CASES, RATES, Case, starts
from benchmarks.peers.train_ravine import cohort_of, source_and_evaluator
from ravine.training import loop
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import Evaluator

SECONDS = 0.4  # of a measurement, about
PLANNED = (60, 300)  # epochs: the least and the most that a recipe chooses by itself
LIMIT = 0.03


def main() -> None:
    args = arguments()
    print(
        f"share of the step that recording adds (CPU time, {args.repeats} paired repeats; to stay "
        f"under {LIMIT:.0%})"
    )
    print(f"{'':44}{'step, µs':>9}   at intervals            all of it")
    with exact_arithmetic():
        for net in args.nets:
            for optimizer in RATES:
                for networks in args.networks:
                    for planned in PLANNED:
                        show(CASES[net], optimizer, networks, planned, repeats=args.repeats)


def show(case: Case, optimizer: str, networks: int, planned: int, *, repeats: int) -> None:
    steps = max(
        100, int(SECONDS / seconds(case, optimizer, networks, planned, steps=100, way="recorded"))
    )
    found: dict[str, list[float]] = {way: [] for way in ("recorded", "without intervals", "bare")}
    for repeat in range(repeats):
        for way in random.Random(repeat).sample(list(found), len(found)):
            found[way].append(seconds(case, optimizer, networks, planned, steps=steps, way=way))
    recorded, sparse, bare = found.values()
    intervals = [(a - b) / a for a, b in zip(recorded, sparse, strict=True)]
    everything = [(a - b) / a for a, b in zip(recorded, bare, strict=True)]
    print(
        f"{networks:4} x {case.name:15} {optimizer:5} {planned:3} epochs "
        f"{1e6 * statistics.median(recorded):15.1f}   "
        f"{told(intervals)}   {told(everything)}"
    )


def told(shares: list[float]) -> str:
    return f"{statistics.median(shares):6.1%} [{min(shares):6.1%} .. {max(shares):6.1%}]"


def seconds(
    case: Case, optimizer: str, networks: int, planned: int, *, steps: int, way: str
) -> float:
    """CPU seconds of a step of the whole cohort."""
    cohort = cohort_of(case, optimizer, starts(case, networks), planned_epochs=planned)
    source, evaluate = source_and_evaluator(case, cohort)
    if way == "bare":
        cohort.state.losses = {"sum": Nowhere()}  # type: ignore[dict-item]
    with _silenced(way):
        begun = time.process_time()
        loop.train_cohort(cohort, source, evaluate, pause=lambda cohort: cohort.step == steps)
        return (time.process_time() - begun) / min(steps, cohort.job.plan.steps)


class Nowhere:
    """What is added to it is lost."""

    def __iadd__(self, other: object) -> Nowhere:
        return self


@contextmanager
def _silenced(way: str) -> Iterator[None]:
    if way == "recorded":
        yield
        return
    with mock.patch.object(loop, "is_sampled", lambda step, plan: False):
        if way == "without intervals":
            yield
            return
        with mock.patch.object(Evaluator, "due", lambda self, step: False):
            yield


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--nets", type=lambda text: text.split(","), default=list(CASES), help=", ".join(CASES)
    )
    parser.add_argument(
        "--networks", type=lambda text: [int(n) for n in text.split(",")], default=[1, 32]
    )
    parser.add_argument("--repeats", type=int, default=9)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""The protocol after Schmidt, Schneider & Hennig (2021): defaults, or the best of 25 or 50 draws.

Each draw is trained with tuning seeds and scored on validation rows; of the first 25, and of all
50, the best is trained again with ten seeds that chose nothing, and scored on test rows. What is
measured is kept in a file for each problem, written after each optimizer: a run that was stopped
goes on there.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.optimizers.descent import deep_quadratic, surface_descent
from benchmarks.optimizers.networks import network_problems
from benchmarks.optimizers.spaces import (
    DEFAULT_DRAW,
    SCHEDULED_OPTIMIZERS,
    default_optimizers,
    default_schedules,
    drawn_optimizer,
)
from ravine.errors import InputError, wrap_errors
from ravine.files import write_atomically
from ravine.protocols import Optimizer, Schedule
from ravine.record import finite_json
from ravine.schedules import Constant
from ravine.studies.rate_tuning import rank_rates
from ravine.studies.tuned_rate import RateResult
from ravine_gallery import surfaces

PROTOCOL_VERSION = 1  # what another one measured is not gone on with
FIRST_TEST_SEED = 1000
SURFACE_GRADIENTS, QUADRATIC_GRADIENTS = 200, 800
DIGITS_KEPT = 5  # of a score


@dataclass(frozen=True)
class TuningPlan:
    """How much is tried: draws in each budget (1: the defaults), and the seeds of both kinds."""

    budgets: tuple[int, int, int] = (1, 25, 50)
    tuning_seeds: int = 2
    test_seeds: int = 10


QUICK_PLAN = TuningPlan(budgets=(1, 2, 4), tuning_seeds=1, test_seeds=3)


class Problem(Protocol):
    """What is to be learned or descended, and how an optimizer is scored on it."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def has_networks(self) -> bool: ...
    @property
    def takes_schedules(self) -> bool: ...
    @property
    def epochs(self) -> int: ...
    @property
    def constant(self) -> float: ...
    @property
    def test_constant(self) -> float: ...

    def buys_step(self, rule: Optimizer) -> bool: ...

    def tune(
        self, rules: Sequence[Optimizer], schedule: Schedule, seeds: Sequence[int]
    ) -> list[RateResult]: ...

    def test(
        self, rules: Sequence[Optimizer], schedule: Schedule, seeds: Sequence[int]
    ) -> list[tuple[float, ...]]: ...


def all_problems(*, quick: bool, workers: int = 1) -> dict[str, Problem]:
    """The problems by name, in the order in which they are done."""
    steps = 10 if quick else 1
    found: list[Any] = [
        surface_descent(one, SURFACE_GRADIENTS // steps)
        for one in surfaces.ALL
        if one.name != "quadratic"  # its condition is 1.25: the ravine asks the same, and more
    ]
    found.append(deep_quadratic(QUADRATIC_GRADIENTS // steps))
    found += network_problems(quick=quick, workers=workers)
    return {problem.name: problem for problem in found}


def run_protocol(
    problems: Sequence[Problem],
    optimizers: Sequence[str],
    plan: TuningPlan,
    folder: Path,
    *,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure each optimizer, and some with each schedule, on each problem; what is in the folder
    is not measured again. Returns what is known of each problem by name.

    Raises `InputError` before any work for a folder with what another plan measured.
    """
    known = {problem.name: open_kept(folder, problem, plan) for problem in problems}
    with wrap_errors(InputError, f"the folder {folder} cannot be made", "name another with --out"):
        folder.mkdir(parents=True, exist_ok=True)
    for scheduled in (False, True):  # first what matters most
        for problem in problems:
            wanted = entries_of(problem, optimizers, scheduled=scheduled)
            kept, began = known[problem.name], time.perf_counter()
            for name, make, schedule in wanted:
                if name in kept["entries"]:
                    continue
                draws = plan.budgets[1] if scheduled else plan.budgets[-1]
                entry = finite_json(_measure(problem, make, schedule, plan, draws))
                kept["entries"][name] = entry
                kept["seconds"] += entry["seconds"]
                write_kept(folder, problem.name, kept)
            if wanted:
                what = "with schedules" if scheduled else "optimizers"
                seconds = time.perf_counter() - began
                report(f"{problem.name}: {len(wanted)} {what}, {seconds:.0f} s")
    return known


def entries_of(
    problem: Problem, optimizers: Sequence[str], *, scheduled: bool
) -> list[tuple[str, Callable[[int], Optimizer], Schedule]]:
    """What is measured on a problem: names, optimizers by draw, and schedules.

    Either the optimizers at a constant rate, or some of them with every other schedule.
    """

    def maker(name: str) -> Callable[[int], Optimizer]:
        return lambda draw: drawn_optimizer(name, draw, problem.name)

    able = [name for name in optimizers if problem.buys_step(default_optimizers()[name])]
    if not scheduled:
        return [(name, maker(name), Constant()) for name in able]
    if not problem.takes_schedules:
        return []
    return [
        (f"{name} + {label}", maker(name), schedule)
        for name in SCHEDULED_OPTIMIZERS
        if name in able
        for label, schedule in default_schedules(problem.epochs).items()
        if not isinstance(schedule, Constant)
    ]


def _measure(
    problem: Problem,
    make: Callable[[int], Optimizer],
    schedule: Schedule,
    plan: TuningPlan,
    draws: int,
) -> dict[str, Any]:
    """What an optimizer reaches with its defaults, and with the best of its first draws."""
    began = sum(os.times()[:4])
    rules = [make(draw) for draw in (DEFAULT_DRAW, *range(draws))]
    own, *results = problem.tune(rules, schedule, range(plan.tuning_seeds))
    sign = 1.0 if problem.higher_is_better else -1.0
    best = {1: DEFAULT_DRAW}
    for budget in plan.budgets[1:]:
        if budget <= draws:
            first = rank_rates(results[:budget], problem.constant, sign)[0]
            best[budget] = [one.rate for one in results].index(first.rate)
    near = [one.rate for one in rank_rates(results, problem.constant, sign) if one.is_near]
    chosen = list(dict.fromkeys(best.values()))
    seeds = range(FIRST_TEST_SEED, FIRST_TEST_SEED + plan.test_seeds)
    scores = problem.test([make(draw) for draw in chosen], schedule, seeds)
    return {
        "default": [_short(own.score), own.failures],
        "draws": [[_short(one.score), one.failures] for one in results],
        "near": len(near),
        "decades": _short(math.log10(max(near) / min(near))),
        "best": {str(budget): draw for budget, draw in best.items()},
        "test": {str(d): list(map(_short, each)) for d, each in zip(chosen, scores, strict=True)},
        "gradients": own.gradients + sum(one.gradients for one in results),
        "seconds": round(sum(os.times()[:4]) - began, 2),  # of all processes
    }


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS_KEPT}g}")


def open_kept(folder: Path, problem: Problem, plan: TuningPlan) -> dict[str, Any]:
    """What is known of a problem from its file in the folder; nothing yet where there is none."""
    head = {
        "version": PROTOCOL_VERSION,
        "plan": json.loads(json.dumps(asdict(plan))),
        "about": problem.about,
    }
    path = kept_path(folder, problem.name)
    if not path.exists():
        return head | {
            "metric": problem.metric,
            "higher_is_better": problem.higher_is_better,
            "has_networks": problem.has_networks,
            "constant": _short(problem.constant),
            "test_constant": _short(problem.test_constant),
            "seconds": 0.0,
            "entries": {},
        }
    do = "choose another folder with --out, or delete this one"
    try:
        kept = json.loads(path.read_text("utf-8"))
        same = {name: kept[name] for name in head} == head
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path} cannot be read", why="it is damaged", do=do) from None
    if not same:
        what = f"{path} was measured in another way"
        raise InputError(what, why="budgets, seeds or the problem were others", do=do)
    return kept


def write_kept(folder: Path, name: str, kept: Mapping[str, Any]) -> None:
    """Write what is known of a problem to its file, completely or not at all."""
    text = json.dumps(kept, separators=(",", ":"))
    write_atomically(kept_path(folder, name), text.encode())


def kept_path(folder: Path, name: str) -> Path:
    """The file of a problem in a folder of results."""
    return folder / f"{name}.json"

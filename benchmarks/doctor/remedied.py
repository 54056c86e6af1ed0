"""Do the remedies that Ravine recommends work? Beside equal-budget random search, judged on
examples nobody saw.

    python -m benchmarks.doctor.remedied [--half report] [--seeds 5] [--only NAME]

A sick setup is examined once; the changes of the first finding whose trial helped are made; the
setup is then trained for its whole budget with every seed, as it is, with the remedy, and in its
healthy form. Random search draws as many combinations of changes as the examination trained
networks, and keeps the one that does best on validation.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.doctor.program import Program, Setup
from benchmarks.doctor.programs import ALL
from benchmarks.doctor.score import Share, gain_reached
from ravine.examination import torch_trials
from ravine.examination.api import examine
from ravine.examination.torch_changes import NotTriedError, changed
from ravine.examination.torch_run import train
from ravine.examination.torch_subject import Case, read_case
from ravine.finding import Change

DRAWN = {
    "lr": [f"x{k:g}" for k in (1e-3, 1e-2, 0.1, 0.3, 3, 10, 100, 1000)],
    "clip": [1.0, 0.1],
    "batch": [8, 16, 32, 64],
    "input.scale": ["standardize"],
    "target.scale": ["standardize"],
    "init": ["default", "unit variance"],
    "activation": ["relu", "tanh", "leaky_relu"],
    "output": ["linear"],
    "dropout": [0],
    "decay": [0.0],
    "optimizer": ["adam", "adam 0.01"],
    "loss": ["mean", "balanced"],
    "shuffle": [True],
    "normalization": ["usual"],
    "steps": [3],  # times the budget
}


@dataclass(frozen=True)
class Treated:
    """Mean scores over seeds of one program, and what was changed; None without a remedy."""

    program: Program
    before: float
    healthy: float
    doctor: float | None
    search: float
    runs: int
    changes: tuple[Change, ...] = ()
    found: tuple[Change, ...] = ()


def case_of(setup: Setup, seed: int) -> Case:
    return read_case(
        setup.model,
        setup.loss,
        setup.train,
        optimizer=setup.optimizer,
        validation=setup.validation,
        batch_size=setup.batch_size,
        epochs=setup.epochs,
        seed=seed,
    )


def judged(program: Program, seeds: Sequence[int], changes: Sequence[Change] = ()) -> float:
    """The mean score of a program with changes, trained for its whole budget."""
    scores = []
    for seed in seeds:
        setup = program.build(seed)
        try:
            run = train(changed(case_of(setup, seed), *changes), seed=seed)
        except (NotTriedError, RuntimeError, ValueError, IndexError):
            scores.append(setup.judge.worst)
            continue
        assert run.model is not None
        scores.append(setup.judge(run.model))
    return sum(scores) / len(scores)


def treated(program: Program, partner: Program, seeds: Sequence[int]) -> Treated:
    """The doctor's remedy and the search's, with the number of networks that the examination
    trained.
    """
    setup, counted = program.build(seeds[0]), [0]
    original = torch_trials.train

    def counting(*args, **kwargs):
        counted[0] += 1
        return original(*args, **kwargs)

    torch_trials.train = counting  # how much was spent is nobody's business but the benchmark's
    try:
        report = examine(
            setup.model,
            setup.loss,
            setup.train,
            optimizer=setup.optimizer,
            validation=setup.validation,
            batch_size=setup.batch_size,
            epochs=setup.epochs,
            seed=seeds[0],
        )
    finally:
        torch_trials.train = original
    helped = next(
        (f for f in report.findings if f.trial is not None and f.trial.verdict == "helped"), None
    )
    changes = () if helped is None else helped.changes
    best, found = searched(program, counted[0], seeds[0])
    return Treated(
        program=program,
        before=judged(program, seeds),
        healthy=judged(partner, seeds),
        doctor=judged(program, seeds, changes) if changes else None,
        search=best if not found else judged(program, seeds, found),
        runs=counted[0],
        changes=changes,
        found=found,
    )


def searched(program: Program, runs: int, seed: int) -> tuple[float, tuple[Change, ...]]:
    """The best by validation loss of so many random combinations of one or two changes."""
    draw = random.Random(seed)
    setup = program.build(seed)
    case = case_of(setup, seed)
    case = replace(case, judged=case.loss)  # a change of the loss must not change the measure
    best, found = train(case, seed=seed).last.loss, ()
    for _ in range(runs):
        changes = []
        for path in draw.sample(sorted(DRAWN), draw.choice((1, 2))):
            value = draw.choice(DRAWN[path])
            changes.append(Change(path, value * case.steps if path == "steps" else value))
        try:
            run = train(changed(case, *changes), seed=seed)
        except (NotTriedError, RuntimeError, ValueError, IndexError):
            continue
        if not run.diverged and (run.last.loss < best or best != best):
            best, found = run.last.loss, tuple(changes)
    return judged(program, [seed]), found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    by_name = {p.name: p for p in ALL}
    rows = []
    for program in ALL:
        curable = program.remedy is not None and program.remedy[0] not in ("data", "model", "loop")
        if (
            program.kind != "setup"
            or program.half != options.half
            or not curable
            or options.only not in program.name
        ):
            continue
        if program.proof != "score":
            continue
        rows.append(treated(program, by_name[program.partner], range(options.seeds)))
        r = rows[-1]
        doctor = "none" if r.doctor is None else f"{r.doctor:.3f}"
        print(
            f"{program.name:32s} before {r.before:6.3f} healthy {r.healthy:6.3f} doctor "
            f"{doctor:>6s} search "
            f"{r.search:6.3f} ({r.runs} runs) {[(c.path, c.value) for c in r.changes]} "
            f"{[(c.path, c.value) for c in r.found]}",
            flush=True,
        )
    with_one = [r for r in rows if r.doctor is not None]

    def share(doctor: bool, of: list[Treated]) -> Share:
        reached = [
            gain_reached(r.before, score, r.healthy)
            for r in of
            if (score := r.doctor if doctor else r.search) is not None
        ]
        return Share(sum(reached) / max(len(reached), 1), len(reached))

    print(
        f"\n{len(rows)} sick programs that a change can cure; a remedy was offered for "
        f"{len(with_one)}"
    )
    print(f"offered remedies that reach 90 % of the reference's gain   {share(True, with_one)}")
    reached = sum(
        r.doctor is not None and gain_reached(r.before, r.doctor, r.healthy) for r in rows
    )
    print(
        f"of all, none offered counting as not reached               "
        f"{Share(reached / max(len(rows), 1), len(rows))}"
    )
    print(f"random search at equal cost, all programs                  {share(False, rows)}")


if __name__ == "__main__":
    main()

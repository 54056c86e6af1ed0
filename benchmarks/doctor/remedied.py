"""Do the remedies that Ravine recommends work? Beside equal-budget random search, judged on
examples nobody saw.

    python -m benchmarks.doctor.remedied [--half report] [--seeds 5] [--only NAME]

A sick setup is examined once; the changes of the first finding whose trial helped are made; the
setup is then trained for its whole budget with every seed, as it is, with the remedy, and in its
healthy form. Random search draws as many combinations of changes as the examination trained
networks beside the setup as it is, and keeps the one that does best on validation.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from benchmarks.doctor.program import Program, Setup
from benchmarks.doctor.programs import ALL
from benchmarks.doctor.score import Share, gain_reached
from ravine.examination import torch_class_trial, torch_subject
from ravine.examination.api import examine
from ravine.examination.subject import CannotTryError
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_changes import (
    CURES,
    STRENGTHS,
    AverageLoss,
    BalanceClasses,
    ClipGradient,
    LinearOutput,
    OutputForEachClass,
    Reinitialize,
    RemoveDropout,
    ReplaceActivations,
    ResetNormalization,
    ScaleLearningRate,
    SetBatchSize,
    SetSteps,
    SetWeightDecay,
    ShuffleExamples,
    StandardizeInputs,
    StandardizeTargets,
    TorchChange,
    UnitVarianceStart,
    UseAdam,
    apply_treatments,
)
from ravine.examination.torch_program import TorchProgram, train_program
from ravine.finding import Change

RANDOM_CHANGES: Mapping[str, tuple[TorchChange, ...]] = {  # steps are drawn beside these
    "lr": tuple(ScaleLearningRate(k) for k in (1e-3, 1e-2, 0.1, 0.3, 3, 10, 100, 1000)),
    "clip": (ClipGradient(1.0), ClipGradient(0.1)),
    "batch": tuple(SetBatchSize(size) for size in (8, 16, 32, 64)),
    "input.scale": (StandardizeInputs(),),
    "target.scale": (StandardizeTargets(),),
    "init": (Reinitialize(), UnitVarianceStart()),
    "activation": tuple(ReplaceActivations(name) for name in ("relu", "tanh", "leaky_relu")),
    "output": (LinearOutput(),),
    "dropout": (RemoveDropout(),),
    "decay": (SetWeightDecay(0.0),),
    "optimizer": (UseAdam(), UseAdam(0.01)),
    "loss": (AverageLoss(), BalanceClasses()),
    "shuffle": (ShuffleExamples(),),
    "normalization": (ResetNormalization(),),
}
LONGER_TIMES = 3  # the budget
TABLE_CHANGES = {
    (made.change.path, made.change.value): made
    for table in (STRENGTHS, CURES)
    for strengths in table.values()
    for strength in strengths
    for made in strength
}


@dataclass(frozen=True)
class Retrained:
    """Mean scores over seeds of one program, and what was changed; None without a remedy."""

    program: Program
    before: float
    healthy: float
    doctor: float | None
    search: float
    runs: int
    changes: tuple[Change, ...] = ()
    found: tuple[Change, ...] = ()


def torch_program(setup: Setup, seed: int) -> TorchProgram:
    return read_program(
        setup.model,
        setup.loss,
        setup.train,
        optimizer=setup.optimizer,
        validation=setup.validation,
        batch_size=setup.batch_size,
        epochs=setup.epochs,
        seed=seed,
    )


def recommended_change(change: Change) -> TorchChange:
    """The change of a program behind what a finding recommends.

    >>> recommended_change(Change("lr", "x10"))
    ScaleLearningRate(factor=10)
    >>> recommended_change(Change("steps", 300))
    SetSteps(steps=300)
    """
    if change.path == "steps":
        return SetSteps(change.value)
    if change.path == "batch":
        return SetBatchSize(change.value)
    if change == OutputForEachClass().change:
        return OutputForEachClass()
    return TABLE_CHANGES[change.path, change.value]


def mean_score(
    program: Program, seeds: Sequence[int], changes: Sequence[TorchChange] = ()
) -> float:
    """The mean score of a program with changes, trained for its whole budget."""
    scores = []
    for seed in seeds:
        setup = program.build(seed)
        try:
            run = train_program(apply_treatments(torch_program(setup, seed), changes), seed=seed)
        except (CannotTryError, RuntimeError, ValueError, IndexError):
            scores.append(setup.judge.worst)
            continue
        assert run.model is not None
        scores.append(setup.judge(run.model))
    return sum(scores) / len(scores)


def retrain(program: Program, partner: Program, seeds: Sequence[int]) -> Retrained:
    """The doctor's remedy and the search's, with the number of networks that the examination
    trained.
    """
    setup, counted = program.build(seeds[0]), [0]
    trainers, original = (torch_subject, torch_class_trial), torch_subject.train_program

    def counting(*args, **kwargs):
        counted[0] += 1
        return original(*args, **kwargs)

    for module in trainers:
        module.train_program = counting
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
        for module in trainers:
            module.train_program = original
    helped = next(
        (f for f in report.findings if f.trial is not None and f.trial.verdict == "helped"), None
    )
    changes = [] if helped is None else [recommended_change(c) for c in helped.changes]
    runs = counted[0] - 1  # the setup as it is, which the search trains as well
    best, found = search_at_random(program, runs, seeds[0])
    return Retrained(
        program=program,
        before=mean_score(program, seeds),
        healthy=mean_score(partner, seeds),
        doctor=mean_score(program, seeds, changes) if changes else None,
        search=best if not found else mean_score(program, seeds, found),
        runs=runs,
        changes=tuple(made.change for made in changes),
        found=tuple(made.change for made in found),
    )


def search_at_random(
    program: Program, runs: int, seed: int
) -> tuple[float, tuple[TorchChange, ...]]:
    """The best by validation loss of so many random combinations of one or two changes."""
    draw = random.Random(seed)
    # a change of the loss must not change the measure
    given = torch_program(program.build(seed), seed).keeping_measure()
    drawn = {**RANDOM_CHANGES, "steps": (SetSteps(LONGER_TIMES * given.steps),)}
    best, found = train_program(given, seed=seed).last.loss, ()
    for _ in range(runs):
        paths = draw.sample(sorted(drawn), draw.choice((1, 2)))
        changes = tuple(draw.choice(drawn[path]) for path in paths)
        try:
            run = train_program(apply_treatments(given, changes), seed=seed)
        except (CannotTryError, RuntimeError, ValueError, IndexError):
            continue
        if not run.diverged and (run.last.loss < best or best != best):
            best, found = run.last.loss, changes
    return mean_score(program, [seed]), found


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
        rows.append(retrain(program, by_name[program.partner], range(options.seeds)))
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

    def share(doctor: bool, of: list[Retrained]) -> Share:
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

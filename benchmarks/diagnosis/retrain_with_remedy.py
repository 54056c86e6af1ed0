"""Do the remedies that Ravine recommends work? Beside random search of equal cost, on held-out
examples.

    python -m benchmarks.diagnosis.retrain_with_remedy [--half report] [--seeds 5] [--only NAME]

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

from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.run_ravine import examine_setup
from benchmarks.diagnosis.score import Proportion, reaches_gain
from benchmarks.diagnosis.training_script import TrainingScript, TrainingSetup
from ravine.examination import torch_loss_trials, torch_subject
from ravine.examination.subject import CannotTryError
from ravine.examination.torch_arguments import read_program
from ravine.examination.torch_change import TorchChange, apply_treatments
from ravine.examination.torch_model_changes import (
    average_loss,
    reinitialize,
    remove_dropout,
    replace_activations,
    reset_normalization,
    scale_start,
    standardize_inputs,
    standardize_targets,
    use_class_outputs,
    use_linear_output,
)
from ravine.examination.torch_program import TorchProgram, train_program
from ravine.examination.torch_settings import CURES_BY_CAUSE, STRENGTHS_BY_CAUSE
from ravine.examination.torch_training_changes import (
    clip_gradient,
    draw_classes_equally,
    scale_learning_rate,
    set_batch_size,
    set_steps,
    set_weight_decay,
    shuffle_examples,
    use_adam,
)
from ravine.finding import Change

RANDOM_CHANGES: Mapping[str, tuple[TorchChange, ...]] = {  # steps are drawn beside these
    "lr": tuple(scale_learning_rate(k) for k in (1e-3, 1e-2, 0.1, 0.3, 3, 10, 100, 1000)),
    "clip": (clip_gradient(1.0), clip_gradient(0.1)),
    "batch": tuple(set_batch_size(size) for size in (8, 16, 32, 64)),
    "input.scale": (standardize_inputs,),
    "target.scale": (standardize_targets,),
    "init": (reinitialize, scale_start),
    "activation": tuple(replace_activations(name) for name in ("relu", "tanh", "leaky_relu")),
    "output": (use_linear_output,),
    "dropout": (remove_dropout,),
    "decay": (set_weight_decay(0.0),),
    "optimizer": (use_adam(), use_adam(0.01)),
    "loss": (average_loss, draw_classes_equally),
    "shuffle": (shuffle_examples,),
    "normalization": (reset_normalization,),
}
LONGER_TIMES = 3  # the budget
TABLE_CHANGES = {
    (made.change.path, made.change.value): made
    for table in (STRENGTHS_BY_CAUSE, CURES_BY_CAUSE)
    for strengths in table.values()
    for strength in strengths
    for made in strength
}


@dataclass(frozen=True)
class RetrainingResult:
    """Mean scores over seeds of one script, and what was changed; None without a remedy."""

    script: TrainingScript
    before: float
    healthy: float
    remedied: float | None
    search: float
    runs: int
    changes: tuple[Change, ...] = ()
    found: tuple[Change, ...] = ()

    def reaches(self, score: float) -> bool:
        return reaches_gain(self.before, score, self.healthy)


def torch_program(setup: TrainingSetup, seed: int) -> TorchProgram:
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
    """The change of a script behind what a finding recommends.

    >>> recommended_change(Change("lr", "x10"))
    TorchChange(change=Change(path='lr', value='x10'))
    >>> recommended_change(Change("steps", 300))
    TorchChange(change=Change(path='steps', value=300))
    """
    if change.path == "steps":
        return set_steps(change.value)
    if change.path == "batch":
        return set_batch_size(change.value)
    if change == use_class_outputs.change:
        return use_class_outputs
    return TABLE_CHANGES[change.path, change.value]


def mean_score(
    script: TrainingScript, seeds: Sequence[int], changes: Sequence[TorchChange] = ()
) -> float:
    """The mean score of a script with changes, trained for its whole budget."""
    scores = []
    for seed in seeds:
        setup = script.build(seed)
        try:
            run = train_program(apply_treatments(torch_program(setup, seed), changes), seed=seed)
        except (CannotTryError, RuntimeError, ValueError, IndexError):
            scores.append(setup.scorer.worst)
            continue
        assert run.model is not None
        scores.append(setup.scorer(run.model))
    return sum(scores) / len(scores)


def retrain(
    script: TrainingScript, partner: TrainingScript, seeds: Sequence[int]
) -> RetrainingResult:
    """The recommended remedy, and a random search that trains as many networks as `examine` did."""
    setup, counted = script.build(seeds[0]), [0]
    original = torch_subject.train_program

    def counting(*args, **kwargs):
        counted[0] += 1
        return original(*args, **kwargs)

    torch_subject.train_program = torch_loss_trials.train_program = counting
    try:
        report = examine_setup(setup, seeds[0])
    finally:
        torch_subject.train_program = torch_loss_trials.train_program = original
    helped = next(
        (f for f in report.findings if f.trial is not None and f.trial.verdict == "helped"), None
    )
    changes = [] if helped is None else [recommended_change(c) for c in helped.changes]
    runs = counted[0] - 1  # the setup as it is, which the search trains as well
    best, found = search_at_random(script, runs, seeds[0])
    return RetrainingResult(
        script=script,
        before=mean_score(script, seeds),
        healthy=mean_score(partner, seeds),
        remedied=mean_score(script, seeds, changes) if changes else None,
        search=best if not found else mean_score(script, seeds, found),
        runs=runs,
        changes=tuple(made.change for made in changes),
        found=tuple(made.change for made in found),
    )


def search_at_random(
    script: TrainingScript, runs: int, seed: int
) -> tuple[float, tuple[TorchChange, ...]]:
    """The best by validation loss of so many random combinations of one or two changes."""
    draw = random.Random(seed)
    # a change of the loss must not change the measure
    given = torch_program(script.build(seed), seed).keeping_measure()
    drawn = {**RANDOM_CHANGES, "steps": (set_steps(LONGER_TIMES * given.steps),)}
    best, found = train_program(given, seed=seed).last.loss, ()
    for _ in range(runs):
        paths = draw.sample(sorted(drawn), draw.choice((1, 2)))
        changes = tuple(draw.choice(drawn[path]) for path in paths)
        try:
            run = train_program(apply_treatments(given, changes), seed=seed)
        except (CannotTryError, RuntimeError, ValueError, IndexError):
            continue
        if not run.has_diverged and (run.last.loss < best or best != best):
            best, found = run.last.loss, changes
    return mean_score(script, [seed]), found


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
    for script in ALL:
        if script.half != options.half or options.only not in script.name or not curable(script):
            continue
        r = retrain(script, by_name[script.partner], range(options.seeds))
        rows.append(r)
        remedied = "none" if r.remedied is None else f"{r.remedied:.3f}"
        print(
            f"{script.name:32s} before {r.before:6.3f} healthy {r.healthy:6.3f} remedy "
            f"{remedied:>6s} search {r.search:6.3f} ({r.runs} runs) "
            f"{[(c.path, c.value) for c in r.changes]} {[(c.path, c.value) for c in r.found]}",
            flush=True,
        )
    offered = [r.reaches(r.remedied) for r in rows if r.remedied is not None]
    missing = [False] * (len(rows) - len(offered))
    searched = [r.reaches(r.search) for r in rows]
    print(
        f"\n{len(rows)} sick scripts that a change can cure; a remedy was offered for "
        f"{len(offered)}\n"
        f"offered remedies that reach 90 % of the reference's gain   {proportion(offered)}\n"
        f"of all, none offered counting as not reached               "
        f"{proportion([*offered, *missing])}\n"
        f"random search at equal cost, all scripts                   {proportion(searched)}"
    )


def curable(script: TrainingScript) -> bool:
    """Whether a change of the setup can cure it, and its score shows that."""
    by_change = script.remedy is not None and script.remedy[0] not in ("data", "model", "loop")
    return script.kind == "setup" and script.proof == "score" and by_change


def proportion(reached: Sequence[bool]) -> Proportion:
    return Proportion(sum(reached) / max(len(reached), 1), len(reached))


if __name__ == "__main__":
    main()

"""Do the remedies that Ravine recommends work? Beside random search of equal cost, on held-out
examples.

    python -m benchmarks.diagnosis.retrain_with_remedy [--half report] [--seeds 5] [--only NAME]
                                                       [--files posted] [--part 1/2] [--json FILE]

A sick setup is examined once; all changes of the first finding whose trial helped are made
together; the setup is then trained for its whole budget with every seed, as it is, with the remedy,
and in its healthy form. Random search draws as many combinations of changes as the examination
trained networks beside the setup as it is, and keeps the one that does best on validation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.run_ravine import examine_setup
from benchmarks.diagnosis.score import Proportion, reaches_gain
from benchmarks.diagnosis.training_script import (
    BY_HAND_CAUSES,
    BY_HAND_PATHS,
    Inputs,
    TrainingScript,
    TrainingSetup,
    main_output,
)
from ravine.examination import torch_model_changes, torch_training_changes
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
    use_linear_output,
)
from ravine.examination.torch_program import TorchProgram, TorchRun, train_program
from ravine.examination.torch_settings import CURES_BY_CAUSE, STRENGTHS_BY_CAUSE
from ravine.examination.torch_training_changes import (
    clip_gradient,
    draw_classes_equally,
    join_changes,
    scale_learning_rate,
    set_batch_size,
    set_steps,
    set_weight_decay,
    shuffle_examples,
    use_adam,
)
from ravine.finding import MANUAL_CHANGES, Change

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
MODULE_CHANGES = (
    value
    for module in (torch_model_changes, torch_training_changes)
    for value in vars(module).values()
    if isinstance(value, TorchChange)
)
TABLE_CHANGES = (
    made
    for table in (STRENGTHS_BY_CAUSE, CURES_BY_CAUSE)
    for strengths in table.values()
    for strength in strengths
    for made in strength
)
CHANGES = {
    (made.change.path, made.change.value): made
    for made in itertools.chain(MODULE_CHANGES, TABLE_CHANGES)
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

    def to_json(self) -> dict[str, Any]:
        """The name, the scores, and changes as pairs of path and value."""
        changes = {"changes": self.changes, "found": self.found}
        pairs = {key: [(c.path, c.value) for c in made] for key, made in changes.items()}
        return {**vars(self), **pairs, "script": self.script.name}


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

    >>> recommended_change(Change("lr", "x20"))
    TorchChange(change=Change(path='lr', value='x20'))
    >>> recommended_change(Change("steps", 300))
    TorchChange(change=Change(path='steps', value=300))
    """
    if change.path == "lr":
        return scale_learning_rate(float(change.value.removeprefix("x")))
    if change.path == "steps":
        return set_steps(change.value)
    if change.path == "batch":
        return set_batch_size(change.value)
    return CHANGES[change.path, change.value]


def recommended_changes(changes: Iterable[Change]) -> tuple[TorchChange, ...]:
    """All that a finding recommends, without what is to be done by hand.

    >>> two = recommended_changes([Change("lr", "x0.1"), Change("data", "?"), Change("lr", "x20")])
    >>> [made.change.value for made in two]
    ['x2']
    """
    made = [recommended_change(c) for c in changes if c.path not in MANUAL_CHANGES]
    return tuple(change for change in join_changes(made) if isinstance(change, TorchChange))


class ScoredModel(nn.Module):
    """A trained model of a program behind the inputs of its setup; its outputs are the answer."""

    def __init__(self, model: nn.Module, program: TorchProgram, setup: TrainingSetup):
        super().__init__()
        self.model, self.original, self.program = model, setup.model, program
        self.is_loader = False
        if isinstance(setup.train, DataLoader):
            self.is_loader = True
            batch: Any = next(iter(setup.train))
            self.target = (batch["labels"] if isinstance(batch, Mapping) else batch[-1])[:1]
        else:
            self.target = setup.train[1][:1]

    def forward(self, *several: Tensor, **named: Tensor) -> Tensor:
        first, *others = (*several, *named.values())
        inputs: Inputs = named or (several if others else first)
        targets = self.target.expand(len(first), *self.target.shape[1:])  # the kind counts alone
        batch: Any = (inputs, targets)
        if self.is_loader:
            batch = {**named, "labels": targets} if named else (*several, targets)
        form = self.program.form
        outputs = form.run(self.model, form.pair(batch)[0])
        if form.answer is not None:
            return form.answer(outputs)
        like = main_output(self.original.eval()(*several, **named))  # the first that are packed
        return outputs[:, : like[0].numel()].reshape(like.shape)


def score_model(setup: TrainingSetup, program: TorchProgram, model: nn.Module) -> float:
    """The score of what training gave, whatever the engine made of the model's inputs."""
    if type(program.model) is type(setup.model):
        return setup.scorer(model)
    if type(model) is type(program.model):
        model.__class__ = type(setup.model)  # called as it was written
        return setup.scorer(model)
    return setup.scorer(ScoredModel(model, program, setup))


def mean_score(
    script: TrainingScript, seeds: Sequence[int], changes: Sequence[TorchChange] = ()
) -> float:
    """The mean score of a script with changes, trained for its whole budget."""
    scores = []
    for seed in seeds:
        setup = script.build(seed)
        program = torch_program(setup, seed)
        try:
            run = train_program(apply_treatments(program, changes), seed=seed)
        except (CannotTryError, RuntimeError, ValueError, IndexError):
            if not changes:
                raise
            scores.append(setup.scorer.worst)
            continue
        assert run.model is not None
        score = score_model(setup, program, run.model)
        scores.append(score if math.isfinite(score) else setup.scorer.worst)
    return sum(scores) / len(scores)


@contextmanager
def count_runs() -> Iterator[list[None]]:
    """A list that grows by one with every network that is trained."""
    counted: list[None] = []

    def counting(*args: Any, **kwargs: Any) -> TorchRun:
        counted.append(None)
        return train_program(*args, **kwargs)

    names = [name for name in sys.modules if name.startswith("ravine.examination.")]
    found = [m for m in map(sys.modules.get, names) if hasattr(m, "train_program")]
    for module in found:
        module.train_program = counting  # type: ignore[union-attr]
    try:
        yield counted
    finally:
        for module in found:
            module.train_program = train_program  # type: ignore[union-attr]


def retrain(
    script: TrainingScript, partner: TrainingScript, seeds: Sequence[int]
) -> RetrainingResult:
    """The recommended remedy, and a random search that trains as many networks as `examine` did."""
    with count_runs() as counted:
        report = examine_setup(script.build(seeds[0]), seeds[0])
    helped = (f for f in report.findings if f.trial is not None and f.trial.verdict == "helped")
    changes = next(filter(None, (recommended_changes(f.changes) for f in helped)), ())
    runs = len(counted) - 1  # the setup as it is, which the search trains as well
    found = search_at_random(script, runs, seeds[0])
    return RetrainingResult(
        script=script,
        before=mean_score(script, seeds),
        healthy=mean_score(partner, seeds),
        remedied=mean_score(script, seeds, changes) if changes else None,
        search=mean_score(script, seeds, found),
        runs=runs,
        changes=tuple(made.change for made in changes),
        found=tuple(made.change for made in found),
    )


def search_at_random(script: TrainingScript, runs: int, seed: int) -> tuple[TorchChange, ...]:
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
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="parts of names, separated by commas")
    parser.add_argument("--files", default="", help="those of files whose name begins with this")
    parser.add_argument("--part", default="1/1", help="which of how many parts of the scripts")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    by_name = {p.name: p for p in ALL}
    part, parts = map(int, options.part.split("/"))
    wanted = [
        p
        for p in ALL
        if p.half == options.half
        and p.file.startswith(options.files)
        and curable(p)
        and any(n in p.name for n in options.only.split(","))
    ]
    rows = []
    for script in wanted[part - 1 :: parts]:
        r = retrain(script, by_name[script.partner], range(options.seeds))
        rows.append(r)
        remedied = "none" if r.remedied is None else f"{r.remedied:.3f}"
        print(
            f"{script.name:32s} before {r.before:6.3f} healthy {r.healthy:6.3f} remedy "
            f"{remedied:>6s} search {r.search:6.3f} ({r.runs} runs) "
            f"{[(c.path, c.value) for c in r.changes]} {[(c.path, c.value) for c in r.found]}",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps([row.to_json() for row in rows], indent=1), "utf-8")
    print_shares(rows)


def print_shares(rows: Sequence[RetrainingResult]) -> None:
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
    """Whether settings can cure a setup, and its score shows that: by its remedy; where none is
    stated, as several are needed, by its causes.
    """
    if script.kind != "setup" or script.proof != "score" or not script.sick:
        return False
    if script.remedy is None:
        return not script.causes & BY_HAND_CAUSES
    return script.remedy[0] not in BY_HAND_PATHS


def proportion(reached: Sequence[bool]) -> Proportion:
    return Proportion(sum(reached) / max(len(reached), 1), len(reached))


if __name__ == "__main__":
    main()

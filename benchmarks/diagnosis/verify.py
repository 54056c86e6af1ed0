"""Is every fault real, and does every healthy script learn? Runs all scripts.

    python -m benchmarks.diagnosis.verify [--only NAME] [--seeds N] [--json FILE] [--others]

A sick script must score worse than its healthy form, on average by its margin and with no seed
better; an exact fault may be proved directly instead. A healthy one must score above chance by its
margin, on average, and its validation loss must end near its best. A healthy setup must also be
trained enough: neither a tenth nor ten times its rate, nor five times its steps, may raise its
score by more than 0.15 of the way from chance to 1, or let its validation loss fall by more than
0.15 of its fall further. What fails is listed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.diagnosis.all_scripts import ALL
from benchmarks.diagnosis.training_script import (
    Inputs,
    Scorer,
    TrainingScript,
    TrainingSetup,
    batch_loss,
    call_model,
    main_output,
)

# at most this share of what the validation loss came down may a healthy script lose again
MAX_LOSS_RISE = 0.15
# by which another rate or more steps may better a healthy setup: its score, of 1 - chance, and its
# validation loss, of its fall
MAX_FURTHER_GAIN = 0.15
OTHER_TRAINING: Mapping[str, dict[str, float]] = {
    "learning-rate-high": {"rate": 0.1},
    "learning-rate-low": {"rate": 10.0},
    "too-few-steps": {"longer": 5},
}


@dataclass
class Log:
    """What a run leaves: losses, and the weights at the start of each model."""

    losses: list[Tensor] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    starts: list[tuple[nn.Module, dict[str, Tensor]]] = field(default_factory=list)

    def loss(self, value: Tensor | float) -> None:
        self.losses.append(torch.as_tensor(value).detach().float().mean())

    @contextmanager
    def watch(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Log]:
        self.starts.append(
            (model, {name: p.detach().clone() for name, p in model.named_parameters()})
        )
        yield self

    def moved(self, name: str) -> float:
        """The largest change of any weight of this name since the start."""
        return max(
            float((m.get_parameter(name).detach() - s[name]).abs().max())
            for m, s in self.starts
            if name in s
        )


@dataclass(frozen=True)
class TrainingResult:
    """One run: its score on held-out examples, the score of a constant, and how the loss went."""

    score: float
    chance: float
    validation: float | None
    rise: float | None  # how much of what the validation loss came down it lost again by the end
    first: float
    last: float
    steps: int
    seconds: float
    proved: bool
    fall: float | None = None  # of the validation loss from before training to its end


def batches(setup: TrainingSetup, order: torch.Generator) -> Iterator[Any]:
    """One pass over the training examples."""
    if isinstance(setup.train, DataLoader):
        yield from setup.train
        return
    inputs, targets = setup.train
    for rows in torch.randperm(len(targets), generator=order).split(setup.batch_size):
        if isinstance(inputs, tuple):
            yield *(x[rows] for x in inputs), targets[rows]
        elif isinstance(inputs, dict):
            yield {name: x[rows] for name, x in inputs.items()} | {"labels": targets[rows]}
        else:
            yield inputs[rows], targets[rows]


def validate(setup: TrainingSetup) -> float:
    """The validation loss now; training goes on as if it had not been computed."""
    assert setup.validation is not None
    setup.model.eval()
    with torch.no_grad(), torch.random.fork_rng():
        inputs, targets = setup.validation
        loss = float(setup.loss(call_model(setup.model, inputs), targets))
    setup.model.train()
    return loss


def train(setup: TrainingSetup, seed: int, log: Log, steps: int | None = None) -> nn.Module:
    """The plainest loop: every setup is trained by it."""
    model, optimizer = setup.model, setup.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer(model.parameters())
    order = torch.Generator().manual_seed(seed)
    model.train()
    if setup.validation is not None and steps is None:
        log.validation.append(validate(setup))
    with log.watch(model, optimizer):
        for _ in range(setup.epochs):
            for batch in batches(setup, order):
                optimizer.zero_grad()
                loss = batch_loss(model, setup.loss, batch)
                loss.backward()
                optimizer.step()
                log.loss(loss)
                if steps is not None and len(log.losses) >= steps:
                    return model
            if setup.validation is not None:
                log.validation.append(validate(setup))
    return model


def leaks_future(model: nn.Module, scorer: Scorer) -> bool:
    """Does an output change when only later inputs do?"""
    model.eval()
    assert isinstance(scorer.inputs, Tensor)
    changed = scorer.inputs.clone()
    changed[:, -1] = (
        changed[:, -1].roll(1)
        if changed.dim() > 2
        else (changed[:, -1] + 1) % (int(changed.max()) + 1)
    )
    with torch.no_grad():
        return bool((model(scorer.inputs)[:, :-1] - model(changed)[:, :-1]).abs().max() > 1e-4)


def loss_rise(losses: list[float]) -> float | None:
    """(last - best) / (first - best); none without a fall."""
    fall = losses[0] - min(losses) if losses else 0.0
    return (losses[-1] - min(losses)) / fall if fall > 0 else None


def mixes_examples(model: nn.Module, scorer: Scorer) -> bool:
    """Does the answer to an example depend on the other examples of its batch?"""
    model.eval()

    def outputs(count: int) -> Tensor:
        return main_output(call_model(model, first_rows(scorer.inputs, count)))[:4]

    with torch.no_grad():
        return bool((outputs(8) - outputs(4)).abs().max() > 1e-4)


def first_rows(inputs: Inputs, count: int) -> Inputs:
    if isinstance(inputs, dict):
        return {name: x[:count] for name, x in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(x[:count] for x in inputs)
    return inputs[:count]


def train_script(
    script: TrainingScript, seed: int, *, rate: float = 1.0, longer: float = 1.0
) -> TrainingResult:
    """Train one script to the end of its budget; a setup may have another learning rate, or budget,
    so many times its own.
    """
    log, start, validation = Log(), time.perf_counter(), None
    if script.kind == "setup":
        setup = change_training(script.build(seed), rate, longer)
        torch.manual_seed(seed + 1)
        model, scorer = train(setup, seed, log), setup.scorer
        if setup.validation is not None and script.proof == "validation":
            validation = Scorer(*setup.validation, scorer.score, scorer.chance, scorer.worst)(model)
    else:
        model, scorer = script.run(seed, log.watch)
    score = scorer(model)
    score = score if math.isfinite(score) else scorer.worst
    proved = {
        "score": lambda: False,
        "unmoved": lambda: log.moved(str(script.unmoved)) == 0.0,
        "validation": lambda: validation is not None and validation > score + script.margin,
        "mixes": lambda: mixes_examples(model, scorer),
        "leak": lambda: leaks_future(model, scorer),
    }[script.proof]()
    losses = [float(v) for v in log.losses]
    tail = max(1, len(losses) // 20)
    return TrainingResult(
        score,
        scorer.chance,
        validation,
        loss_rise(log.validation),
        losses[0],
        sum(losses[-tail:]) / tail,
        len(losses),
        time.perf_counter() - start,
        proved,
        log.validation[0] - log.validation[-1] if log.validation else None,
    )


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def verdict(
    script: TrainingScript, runs: list[TrainingResult], partner: list[TrainingResult] | None
) -> str:
    """`ok`, or what is wrong with the script as an example."""
    if not script.sick:
        if script.nothing_to_learn:
            return "ok"
        rise = mean([r.rise or 0.0 for r in runs])
        if rise > MAX_LOSS_RISE:
            return f"overfits: the validation loss loses {100 * rise:.0f} % of its fall again"
        gain = mean([r.score - r.chance for r in runs])
        return "ok" if gain >= script.margin else f"does not learn: {gain:+.3f} above chance"
    if script.proof != "score":
        return "ok" if all(r.proved for r in runs) else f"not proved: {script.proof}"
    if partner is None:
        harm = [r.chance + script.margin - r.score for r in runs]
        return "ok" if min(harm) >= 0 else "no healthy form, and it learns"
    losses = [p.score - r.score for p, r in zip(partner, runs, strict=True)]
    return (
        "ok"
        if mean(losses) >= script.margin and min(losses) > 0
        else f"harmless: {mean(losses):+.3f}, least {min(losses):+.3f}"
    )


def change_training(setup: TrainingSetup, rate: float, longer: float) -> TrainingSetup:
    """The setup with so many times its learning rate and its epochs."""
    if rate == longer == 1:
        return setup
    optimizer = setup.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer(setup.model.parameters())
    for settings in optimizer.param_groups:
        settings["lr"] *= rate
    return replace(setup, optimizer=optimizer, epochs=round(setup.epochs * longer))


def other_remedies(
    script: TrainingScript, sick: list[TrainingResult], healthy: list[TrainingResult]
) -> dict[str, float]:
    """Causes that are not among the script's, but whose remedy works: the share of the reference's
    gain that it reaches with the first seed, where that is 0.9 or more. Rate a tenth or ten times,
    five times the steps.
    """
    gain = healthy[0].score - sick[0].score
    reached = {
        cause: (train_script(script, 0, **change).score - sick[0].score) / gain
        for cause, change in OTHER_TRAINING.items()
        if cause not in script.causes and gain > 0
    }
    return {cause: share for cause, share in reached.items() if share >= 0.9}


def further_gain(own: TrainingResult, other: TrainingResult) -> float:
    """How much better another training is: by its score, of 1 - chance, or by its validation loss,
    of the fall of the own one; the larger.
    """
    by_score = (other.score - own.score) / (1 - own.chance)
    if own.fall is None or other.fall is None or not own.fall > 0:
        return by_score
    by_loss = (other.fall - own.fall) / own.fall
    return max(by_score, by_loss) if math.isfinite(by_loss) else by_score


def training_verdict(script: TrainingScript, runs: Sequence[TrainingResult]) -> str:
    """`ok`, or which other training makes a healthy setup much better, on average over the seeds.
    What with the first seed gives less than half of the limit is not tried with others.
    """
    if script.sick or script.kind == "loop" or script.nothing_to_learn:
        return "ok"
    for cause, change in OTHER_TRAINING.items():
        gains = []
        for seed, own in enumerate(runs):
            gains.append(further_gain(own, train_script(script, seed, **change)))
            if gains[0] < MAX_FURTHER_GAIN / 2:
                break
        if mean(gains) > MAX_FURTHER_GAIN:
            made = ", ".join(f"{what} x{times:g}" for what, times in change.items())
            return f"{cause}: {made} gains {mean(gains):.2f}"
    return "ok"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", default="", help="scripts whose name contains this, and their healthy forms"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--others", action="store_true", help="also look for causes that ought to count as right"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    wanted = [p for p in ALL if options.only in p.name]
    partners = {p.partner for p in wanted if p.sick}
    ran: dict[str, list[TrainingResult]] = {}
    bad: list[str] = []
    for script in [p for p in ALL if p in wanted or p.name in partners]:
        ran[script.name] = runs = [train_script(script, seed) for seed in range(options.seeds)]
        found = verdict(script, runs, ran.get(script.partner))
        if found == "ok":
            found = training_verdict(script, runs)
        bad += [script.name] if found != "ok" else []
        print(
            f"{script.name:34s} score {mean([r.score for r in runs]):6.3f} (chance "
            f"{runs[0].chance:5.3f})  "
            f"loss {runs[0].first:9.3g} -> {runs[0].last:9.3g}  {runs[0].steps:5d} steps "
            f"{mean([r.seconds for r in runs]):5.2f} s  {found}",
            flush=True,
        )
        if options.others and script.sick and script.kind == "setup" and script.proof == "score":
            for cause, reached in other_remedies(script, runs, ran[script.partner]).items():
                print(
                    f"{'':34s} {cause} too: its remedy reaches {100 * reached:.0f} % of the gain",
                    flush=True,
                )
        if script.steps not in (None, runs[0].steps):
            print(f"{'':34s} states {script.steps} steps")
            bad.append(script.name)
    print(f"\n{len(ran)} scripts, {len(bad)} to look at: {', '.join(bad) or 'none'}")
    if options.json:
        table: dict[str, Any] = {name: [vars(r) for r in runs] for name, runs in ran.items()}
        options.json.write_text(json.dumps(table, indent=1), "utf-8")


if __name__ == "__main__":
    main()

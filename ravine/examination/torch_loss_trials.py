"""Trials of another loss: classes in place of numbers, and the usual loss in place of one's own."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ravine.diagnosis.trials.trial_results import (
    CLEAR_SCORE_GAIN,
    SCORE_GAIN,
    TRIAL_SEEDS,
    Outcome,
    TrialResults,
)
from ravine.examination.subject import RunOwn
from ravine.examination.torch_change import TorchChange, apply_treatments
from ravine.examination.torch_model_changes import use_class_outputs
from ravine.examination.torch_program import TorchProgram, evaluating, train_program
from ravine.examination.torch_settings import USUAL_LOSSES
from ravine.examination.torch_training_changes import scale_learning_rate
from ravine.examination.verdict import weigh
from ravine.finding import Evidence

MAX_CLASS_VALUES = 20  # of a target that may be classes
CLASS_HITS = 0.25  # of the held-out targets that classes must hit beyond what a number does
CLASS_LOSS_RATIO = 1.2  # times the loss of a number that classes may have


def try_classes(program: TorchProgram, results: TrialResults, _: RunOwn) -> TrialResults:
    """Classes in place of numbers, where the targets are a few whole numbers, which may be the
    numbers of classes, and the network has one output. It helps if classes hit far more of the
    targets exactly, and are no farther off on average: then the order of the values says little.
    Else the results stay as they are.
    """
    targets = program.examples()[1]
    values = torch.unique(targets)
    whole = bool((values == values.round()).all()) and targets[0].numel() == 1
    few = 3 <= len(values) <= MAX_CLASS_VALUES
    if not (whole and few) or program.validation is None:
        return results
    if not math.isfinite(results.whole_run.evaluations[-1][1]):
        return results
    faster = scale_learning_rate(10)  # gradients of classes are smaller
    for changes in ((use_class_outputs,), (use_class_outputs, faster)):
        try:
            pairs = _compare_misses(program, changes, results.steps)
        except Exception:  # it cannot be tried, or the model's own code raises
            return results
        if pairs:
            outcome = _class_outcome(changes, pairs, len(values), results.steps)
            return replace(results, outcomes=(*results.outcomes, outcome), preferred=outcome)
    return results


def try_losses(program: TorchProgram, results: TrialResults, run_own: RunOwn) -> TrialResults:
    """The usual loss of the targets in place of the program's own, of which `run_own` gives runs,
    where it learned nothing or stays far behind a quick learner. It helps if the score says so, by
    far, and more than the remedy that explains the run best.
    """
    learner, own = results.learner, results.base.score
    if results.preferred or own is None or not results.shortfall:
        return results
    if (learner.score or 0.0) - own < CLEAR_SCORE_GAIN:
        return results
    steps = min(program.steps, results.steps)
    seeds = range(program.seed, program.seed + TRIAL_SEEDS)
    best = results.best_explanation
    least = max(own, 0.0) + CLEAR_SCORE_GAIN
    if best is not None:
        least = max(least, (best.score or 0.0) + 2 * SCORE_GAIN)
    for strength in USUAL_LOSSES:
        try:
            changed = apply_treatments(program, strength)
            first = train_program(changed, seed=program.seed, steps=steps).last.score
            if first is None or first < least:
                continue
            others = (train_program(changed, seed=seed, steps=steps) for seed in seeds[1:])
            runs = [run.score for run in run_own()], [first, *(run.last.score for run in others)]
        except Exception:  # it does not fit the outputs, or the model's own code raises
            continue
        before, after = ([1 - (score or 0.0) for score in scores] for scores in runs)
        outcome = Outcome(
            cause="loss",
            changes=tuple(change.change for change in strength),
            losses=tuple(after),
            scores=tuple(runs[1]),
            trial=weigh(before, after, steps=steps, least=CLEAR_SCORE_GAIN, what="1 - score"),
            evidence=(Evidence("score of a quick learner", learner.score, text="1 is perfect"),),
        )
        return replace(results, outcomes=(*results.outcomes, outcome), preferred=outcome)
    return results


def _class_outcome(
    changes: Sequence[TorchChange], pairs: Sequence[tuple[float, float]], values: int, steps: int
) -> Outcome:
    before, after = zip(*pairs, strict=True)
    hits, class_hits = (100 * (1 - missed[0]) for missed in (before, after))
    name = "different values of the target"
    as_classes = f"{class_hits:.0f}% as classes"
    what = "the share of targets missed"
    return Outcome(
        cause="loss",
        changes=tuple(change.change for change in changes),
        losses=after,
        scores=(None,) * len(after),
        trial=weigh(before, after, steps=steps, least=CLASS_HITS, what=what),
        evidence=(
            Evidence(name, values, limit=MAX_CLASS_VALUES, text="all whole numbers"),
            Evidence("of the targets hit after rounding", hits, "%", text=as_classes),
        ),
    )


def _compare_misses(
    program: TorchProgram, changes: Sequence[TorchChange], steps: int
) -> list[tuple[float, float]]:
    """The shares of targets missed by numbers and by classes, for each seed; nothing where
    classes do not hit far more with the first.
    """
    as_classes = replace(apply_treatments(program, changes), evaluation_loss=program.loss)
    as_numbers = replace(program, evaluation_loss=program.loss)
    pairs: list[tuple[float, float]] = []
    for seed in range(program.seed, program.seed + TRIAL_SEEDS):
        missed, loss = _misses(as_numbers, steps, seed)
        fewer, lower = _misses(as_classes, steps, seed)
        if not pairs and (missed - fewer < CLASS_HITS or lower > CLASS_LOSS_RATIO * loss):
            return []
        pairs.append((missed, fewer))
    return pairs


def _misses(program: TorchProgram, steps: int, seed: int) -> tuple[float, float]:
    """The share of held-out targets that the answer does not round to, and the loss."""
    run = train_program(program, seed=seed, steps=min(program.steps, steps))
    assert run.model is not None and program.validation is not None
    inputs, targets = program.validation
    with evaluating(run.model):
        answers: Tensor = run.model(inputs)
    missed = (answers.flatten().round() != targets.flatten()).float().mean()
    return float(missed), run.last.loss

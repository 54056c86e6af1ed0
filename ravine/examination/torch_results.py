"""What the whole run of a torch program shows: that to which trials are compared."""

import copy
import math
from dataclasses import replace
from functools import partial
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from ravine.diagnosis.baseline_learners import fit_baseline
from ravine.diagnosis.constant_baseline import Loss, find_best_constant
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.output_kinds import find_class_axis, find_probabilities
from ravine.diagnosis.trials.trial_results import (
    LEARNER_MARGIN,
    LearnerComparison,
    Outcome,
    TrialResults,
    WholeRun,
)
from ravine.examination.scores import are_classes, scaled_accuracy
from ravine.examination.subject import SeedRun
from ravine.examination.torch_program import TorchProgram, TorchRun, evaluating, losses_by_group
from ravine.examination.ways_to_run import loss_or_nan
from ravine.rng import isolated_rng

MIN_RISE_GROUPS = 4
FEW_EXAMPLES = 4
UNIT_TOLERANCE = 1e-4  # of a loss, by which numbers in proportion must be worse
COMPARED_COUNTS = (16, 32)  # examples
COMPARING_GROWTH = 3.0  # of what is kept for the gradient of the second number: sums have 2


def seed_run(run: TorchRun) -> SeedRun:
    """A run as trials compare it."""
    evaluations = tuple((e.step, e.loss, e.score) for e in run.evaluations)
    return SeedRun(math.nan if run.has_diverged else run.last.loss, run.last.score, evaluations)


def own_results(
    program: TorchProgram, run: TorchRun, data: DataProfile | None, *, steps: int
) -> TrialResults:
    """The program's own run: up to a step, where trials end, and the whole of it."""
    own, whole = seed_run(run.until(steps)), seed_run(run)
    train_loss, train_score, validation_score = _final_fit(program, run)
    constant_train_loss, constant_loss = constant_losses(program)
    if constant_loss < 0 < min(e.loss for e in run.evaluations):
        constant_train_loss = constant_loss = math.nan  # of outputs that the network cannot give
    diverged = ((len(run.losses), math.nan, None),) if run.has_diverged else ()
    learner = _quick_learner(program, data)
    if not _answers_in_units(program, train_loss):
        learner = replace(learner, score=None, score_on_validation=None)
    return TrialResults(
        base=Outcome(
            cause="healthy", losses=(own.loss,), scores=(own.score,), evaluations=own.evaluations
        ),
        constant_loss=constant_loss,
        start_loss=run.evaluations[0].loss,
        steps=steps,
        learner=replace(
            learner,
            validation_score=validation_score,
            train_score=train_score,
            has_class_outputs=_has_class_outputs(program, run),
        ),
        whole_run=WholeRun(
            evaluations=(*whole.evaluations, *diverged),
            rise=loss_rise(program, run),
            train_loss=train_loss,
            constant_train_loss=constant_train_loss,
        ),
    )


def _quick_learner(program: TorchProgram, data: DataProfile | None) -> LearnerComparison:
    """What a quick learner reaches on the same examples."""
    margin = LEARNER_MARGIN
    known = None if data is None else data.baseline
    if data is not None and data.kind == "inputs":  # a narrow code is meant to lose something
        if not program.form.plain_outputs and reads_more_than_answers(program):
            return LearnerComparison(margin=margin)  # and is kept near a prior, as of drawn codes
        known = fit_baseline(*program.examples(), "numbers", seed=program.seed)
        margin = 2 * LEARNER_MARGIN
    if known is None:
        return LearnerComparison(margin=margin)
    return LearnerComparison(
        score=known.scaled_score,
        score_on_validation=known.validation_score,
        margin=margin,
        informative=known.informative,
    )


def reads_more_than_answers(program: TorchProgram) -> bool:
    """Whether a loss reads more numbers of an example's outputs than there are targets."""
    inputs, targets = (part[:FEW_EXAMPLES] for part in program.evaluated_examples())
    with isolated_rng(program.seed):
        outputs = program.form.run(copy.deepcopy(program.model), inputs).detach().requires_grad_()
        (slope,) = torch.autograd.grad(program.loss(outputs, targets).sum(), outputs)
    return int((slope != 0).any(0).sum()) > targets[0].numel()


def _answers_in_units(program: TorchProgram, train_loss: float) -> bool:
    """Whether outputs are in the targets' units, so that R² compares them with a quick learner's:
    targets as outputs have a lower loss than the network, and than other numbers in proportion. Not
    so of the logarithm of a count, nor of a correlation.
    """
    if program.form.answer is None:
        return True
    inputs, targets = program.evaluated_examples()
    with isolated_rng(program.seed), torch.no_grad():
        outputs = program.form.run(copy.deepcopy(program.model).eval(), inputs)
    if not isinstance(outputs, Tensor) or not targets.is_floating_point():
        return True
    if outputs.numel() != targets.numel() or bool(((targets == 0) | (targets == 1)).all()):
        return True  # classes or labels, of which the order of the answers counts
    as_outputs = targets.reshape(len(targets), *outputs.shape[1:]).to(outputs.dtype)
    measure = program.evaluation_loss or program.loss
    own, *others = (
        fmean(losses_by_group(measure, answers, targets))
        for answers in (as_outputs, 2 * as_outputs, as_outputs + as_outputs.std())
    )
    told = min(others) - own > UNIT_TOLERANCE * max(abs(own), *map(abs, others))
    return told and own <= train_loss


def _final_fit(program: TorchProgram, run: TorchRun) -> tuple[float, float | None, float | None]:
    """Of the trained model: the loss on training examples, and the scores on training and on
    validation examples, None where nothing is held out or the run diverged.
    """
    assert run.model is not None
    inputs, targets = program.evaluated_examples()
    with evaluating(run.model):
        outputs = program.form.run(run.model, inputs)
        losses = losses_by_group(program.evaluation_loss or program.loss, outputs, targets)
        loss = sum(losses) / len(losses)
        if program.validation is None or run.has_diverged:
            return loss, None, None
        others = program.evaluation_examples()
        both = (outputs, targets), (program.form.run(run.model, others[0]), others[1])
        scores = [scaled_accuracy(program.form.answer_of(o), y, program.loss) for o, y in both]
        return loss, scores[0], scores[1]


def _has_class_outputs(program: TorchProgram, run: TorchRun) -> bool:
    """Whether an output of the trained model stands for each class."""
    assert run.model is not None
    inputs, targets = (part[:FEW_EXAMPLES] for part in program.evaluated_examples())
    with evaluating(run.model):
        answer = program.form.answer_of(program.form.run(run.model, inputs))
    return isinstance(answer, Tensor) and are_classes(answer, targets)


def loss_rise(program: TorchProgram, run: TorchRun) -> tuple[float, float] | None:
    """How far the held-out loss ended above its least: mean and standard error over groups."""
    if program.validation is None or run.has_diverged:
        return None
    best = min((e for e in run.evaluations if math.isfinite(e.loss)), key=lambda e: e.loss)
    if len(run.last.losses) != len(best.losses) or len(best.losses) < MIN_RISE_GROUPS:
        return None  # groups of examples are compared in pairs
    rises = np.subtract(run.last.losses, best.losses)
    return float(rises.mean()), float(rises.std(ddof=1) / math.sqrt(len(rises)))


def compares_examples(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Whether a loss keeps numbers for each pair of examples, or more, for its gradient."""
    kept = [0, 0]

    def add(which: int, tensor: Tensor) -> Tensor:
        kept[which] += tensor.numel()
        return tensor

    for which, count in enumerate(COMPARED_COUNTS):
        leaf = outputs[:count].detach().requires_grad_()
        hooks = torch.autograd.graph.saved_tensors_hooks(partial(add, which), lambda t: t)
        with torch.enable_grad(), hooks:
            loss_or_nan(loss, leaf, targets[:count])
    return kept[1] > COMPARING_GROWTH * kept[0] > 0


def constant_losses(program: TorchProgram) -> tuple[float, float]:
    """The best constant answer's loss on training and on evaluated examples; NaN without one."""
    nothing = math.nan, math.nan
    inputs, targets = program.evaluated_examples()
    if not (program.form.plain_outputs and program.form.targets == "one"):
        return nothing  # no answer can be made up
    with isolated_rng(program.seed), torch.no_grad():
        try:  # on a copy: normalization keeps statistics of its inputs
            outputs = copy.deepcopy(program.model)(inputs)
        except Exception:
            return nothing
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        return nothing
    outputs = outputs.float()
    axis = find_class_axis(outputs, targets, program.loss)
    kind = find_probabilities(outputs, axis)
    if kind and _ignores_shift(program.loss, outputs, targets):
        kind = ""  # the loss takes logits
    if compares_examples(program.loss, outputs, targets):  # of all at once it may take minutes
        outputs, targets = outputs[: program.train.batch], targets[: program.train.batch]
    best = find_best_constant(program.loss, outputs, targets, output_kind=kind, class_axis=axis)
    if best is None:
        return nothing
    found: list[float] = []
    for y in (targets, program.evaluation_examples()[1]):
        try:
            answers = best.output.expand(len(y), *outputs.shape[1:])
            losses = losses_by_group(program.evaluation_loss or program.loss, answers, y)
        except Exception:
            return best.loss, best.loss
        found.append(sum(losses) / len(losses))
    return found[0], found[1]


def _ignores_shift(loss: Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Whether a number added to all outputs changes nothing, as for logits."""
    try:
        same, other = (float(loss(outputs + shift, targets)) for shift in (0.0, 0.1))
    except Exception:  # probabilities above 1
        return False
    return math.isclose(same, other, rel_tol=1e-4)

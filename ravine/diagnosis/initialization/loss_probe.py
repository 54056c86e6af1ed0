"""Try a loss on outputs that are made up: whether it sums or averages, what its classes weigh, and
how low it gets. `output_kinds` says what outputs are, `preference_probe` what the loss prefers.

No model runs here: outputs are given, moved a little, or made up. Letters: N examples, T places,
K classes.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ravine.diagnosis.constant_baseline import ConstantAnswer, find_best_constant
from ravine.diagnosis.initialization.preference_probe import (
    FORMS_BY_KIND,
    encode_answers,
    indicate_answers,
    probe_preference,
)
from ravine.diagnosis.initialization.probed_loss import (
    ProbedLoss,
    find_normalized_axis,
    prepare_loss,
)
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import (
    BaselineLosses,
    ClassWeights,
    LossForm,
    LossProfile,
    TargetProfile,
)
from ravine.diagnosis.output_kinds import find_class_axis, find_target_kind
from ravine.diagnosis.output_range import unreachable_loss

MAX_CLASSES = 100
MIRRORED_ANSWERS = (0.3, 0.0, -0.3)  # right, undecided and wrong ones, as parts of a sure one
MIRROR_TOLERANCE = 1e-3  # relative
LABEL_SUM_ERROR = 1e-3  # by which labels of one example sum to something else than 1


def probe_loss(program: ProbedProgram) -> LossProfile:
    """What the outputs are, what the loss takes, and whether it prefers right answers."""
    probed, y = prepare_loss(program), program.targets
    if probed.output_kind not in ("probabilities", "log-probabilities"):
        probed = replace(probed, class_axis=find_class_axis(probed.outputs, y, probed.loss))
    kind = find_target_kind(probed.outputs, y, probed.class_axis)
    whole = not y.is_floating_point() and y.dtype != torch.bool
    numbers = whole and kind in ("numbers", "labels") and 2 < len(torch.unique(y)) <= MAX_CLASSES
    last = program.trace.output_call
    form = replace(
        (probe_preference(probed, kind) if kind else None) or LossForm(),
        gives=probed.output_kind,
        last_at="" if last is None else last.where,
        reduction=measure_reduction(probed),
    )
    shape = tuple(program.outputs.shape)
    unlike, unlabeled = measure_label_sums(probed) if kind == "labels" else (0.0, 0.0)
    target = TargetProfile(
        kind=kind,
        output_shape=shape,
        class_numbers=numbers,
        unlike_shares=unlike,
        unlabeled=unlabeled,
    )
    found = LossProfile(form=form, targets=target)
    if not kind:
        return found
    even = probed.value(torch.full_like(probed.outputs, even_output(probed, kind)))
    baselines = BaselineLosses(even_loss=even if math.isfinite(even) else None)
    gives, axis = probed.output_kind, probed.class_axis
    best = find_best_constant(probed.loss, probed.outputs, y, output_kind=gives, class_axis=axis)
    classes = ClassWeights()
    if best is not None:
        unreachable = measure_unreachable(probed, kind, form.takes, best)
        baselines = replace(baselines, constant_loss=best.loss, unreachable=unreachable)
        answer = _answer_shares(best.output, kind, form.takes, probed.output_kind)
        classes = ClassWeights(answer=answer)
    if kind in ("classes", "tokens", "labels"):
        shares, weights = measure_class_weights(probed, kind) or ((), ())
        classes = replace(classes, shares=shares, weights=weights)
    if kind == "labels":
        classes = replace(classes, ignored=measure_ignored(probed))
    if kind == "labels" or (kind in ("classes", "tokens") and len(classes.weights) == 2):
        classes = replace(classes, fixed=has_fixed_weights(probed, kind))
    return replace(found, baselines=baselines, classes=classes)


def _answer_shares(output: Tensor, kind: str, takes: str, gives: str) -> tuple[float, ...]:
    """The probabilities that a constant output gives to the classes, or to each label."""
    flat = output.flatten()
    if flat.numel() > MAX_CLASSES:
        return ()
    if gives in ("probabilities", "0 to 1") and takes != "logits":
        return tuple(flat.tolist())
    if gives == "log-probabilities":
        return tuple(flat.exp().tolist())
    if takes != "logits" or kind == "numbers":
        return ()
    return tuple((flat.sigmoid() if kind == "labels" else flat.softmax(0)).tolist())


def measure_reduction(probed: ProbedLoss) -> float | None:
    """The loss of the batch taken twice over its loss: 1 mean, 2 sum; None for a loss near 0."""
    out, y = probed.outputs, probed.targets
    once, twice = probed.value(out), probed.value(torch.cat([out, out]), torch.cat([y, y]))
    return twice / once if math.isfinite(once * twice) and abs(once) > 1e-12 else None


def measure_label_sums(probed: ProbedLoss) -> tuple[float, float]:
    """Where some examples have several labels and the loss applies a softmax over these: the share
    of examples whose labels do not sum to 1, and the share without any.
    """
    axis = None if probed.output_kind else find_normalized_axis(probed, probed.outputs)
    if not axis:
        return 0.0, 0.0
    sums = probed.targets.reshape(probed.outputs.shape).double().sum(axis)
    if not bool((sums > 1 + LABEL_SUM_ERROR).any()):
        return 0.0, 0.0
    unlike = ((sums - 1).abs() > LABEL_SUM_ERROR).double().mean()
    return float(unlike), float((sums == 0).double().mean())


# What could outputs reach?


def even_output(probed: ProbedLoss, kind: str) -> float:
    """The output that favors no answer: 0, or even probabilities or their logarithm."""
    level = 0.5 if kind == "labels" else 1 / probed.outputs.shape[probed.class_axis]
    levels = {"probabilities": level, "0 to 1": level, "log-probabilities": math.log(level)}
    return levels.get(probed.output_kind, 0.0)


def measure_class_weights(
    probed: ProbedLoss, kind: str
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """How often each class occurs, and with how much weight one example of it pulls at outputs of 0
    (at even probabilities where 0 is no output), the most frequent class 1. Of labels: how often
    each is 1, and the weight of a 1 over that of a 0; the labels are the places of a row.
    """
    out, y, axis = probed.outputs, probed.targets, probed.class_axis
    classes = out.shape[axis]
    gradient = probed.gradient(torch.full_like(out, even_output(probed, kind)), y)
    if not bool(torch.isfinite(gradient).all()):
        return None
    if kind == "labels":
        yes = (y.reshape(out.shape) > 0.5).reshape(len(out), -1)
        size = gradient.abs().reshape(len(out), -1)
        columns = list(zip(yes.T, size.T, strict=True))
        both = [(ones, pull) for ones, pull in columns if 0 < int(ones.sum()) < len(ones)]
        ratios = (pull[ones].mean() / pull[~ones].mean().clamp(min=1e-30) for ones, pull in both)
        return tuple(float(ones.double().mean()) for ones, _ in both), tuple(map(float, ratios))
    own = gradient.gather(axis, y.clamp(min=0).unsqueeze(axis)).squeeze(axis).abs().flatten()
    flat = y.flatten()
    counts = torch.bincount(flat[flat >= 0], minlength=classes).double()
    sums = torch.zeros(classes, dtype=torch.double)
    sums.index_add_(0, flat.clamp(min=0).cpu(), own.cpu())
    weights = sums / counts.clamp(min=1)
    weights = weights / weights[int(counts.argmax())].clamp(min=1e-30)
    return tuple((counts / counts.sum()).tolist()), tuple(weights.tolist())


def measure_ignored(probed: ProbedLoss) -> float:
    """The share of examples, all with targets of 0, whose outputs alone never have a gradient."""
    zeros = (probed.targets.reshape(len(probed.outputs), -1) == 0).all(1)
    if not bool(zeros.any()) or bool(zeros.all()):
        return 0.0
    answers = torch.linspace(0, 1, probed.outputs.numel()).reshape(probed.outputs.shape)
    moved = torch.zeros_like(zeros)
    for yes in (answers, answers.flip(0)):
        made = encode_answers(yes, _given_form(probed), probed.class_axis, labels=True)
        gradient = probed.gradient(made.to(probed.outputs), probed.targets)
        moved |= (gradient != 0).reshape(len(zeros), -1).any(1)
    none = not bool(moved[zeros].any()) and bool(moved[~zeros].any())
    return float(zeros.double().mean()) if none else 0.0


def has_fixed_weights(probed: ProbedLoss, kind: str) -> bool:
    """Whether a 1 (an example of class 1 of two) weighs in proportion to a 0 that is answered as
    wrongly, however wrong that is. A number in the loss does that, and no other form of it.
    """
    axis, labels = probed.class_axis, kind == "labels"
    yes, _ = indicate_answers(probed, kind) or (probed.outputs, None)
    ones = (yes if labels else yes.select(axis, 1)) > 0.5
    if not 0 < int(ones.sum()) < ones.numel():
        return False
    ratios = []
    for sureness in MIRRORED_ANSWERS:
        answers = 0.5 + sureness * (yes - 0.5)
        made = encode_answers(answers, _given_form(probed), axis, labels=labels)
        pull = probed.gradient(made, probed.targets).abs()
        pull = pull if labels else pull.sum(axis)
        ratios.append(float(pull[ones].mean() / pull[~ones].mean().clamp(min=1e-30)))
    return max(ratios) - min(ratios) <= MIRROR_TOLERANCE * max(ratios)


def _given_form(probed: ProbedLoss) -> str:
    return FORMS_BY_KIND.get(probed.output_kind, "logits")


def measure_unreachable(
    probed: ProbedLoss, kind: str, takes: str, constant: ConstantAnswer
) -> float | None:
    """The share of the best constant answer's loss that the best outputs of their kind keep, over
    what free outputs keep. None for outputs of any size, and where the best free outputs are not
    known: those are the targets themselves (of numbers, and of labels where the loss wants zeros
    low), or large logits.
    """
    if not probed.output_kind:
        return None
    if kind == "numbers":
        free = [probed.targets.reshape(probed.outputs.shape).to(probed.outputs)]
    else:
        answers = indicate_answers(probed, kind)
        wanted = takes in ("logits", "probabilities") or _wants_zeros_low(probed, kind)
        if answers is None or not wanted:
            return None
        right = answers[0]
        free = [right.clamp(1e-4, 1 - 1e-4)]
        if probed.output_kind == "log-probabilities" and not takes:
            free = [free[0].log()]
        if takes == "logits":
            sure = encode_answers(right, "logits", -1, labels=kind == "labels")
            free = [scale * sure for scale in (0.3, 1.0, 4.0)]
    return unreachable_loss(
        probed.value,
        free,
        output_kind=probed.output_kind,
        class_axis=probed.class_axis,
        constant_loss=constant.loss,
    )


def _wants_zeros_low(probed: ProbedLoss, kind: str) -> bool:
    """Whether a loss of labels pushes each output down where the label is 0, whatever the others. A
    multinomial likelihood does not: its softmax divides one sum of 1 among several ones.
    """
    if kind != "labels":
        return False
    even = torch.full_like(probed.outputs, even_output(probed, "classes"))
    gradient = probed.gradient(even, probed.targets)
    zeros = probed.targets.reshape(even.shape) == 0
    return bool((gradient[zeros] > 0).all())

"""Try a loss on outputs that are made up: whether it takes logits or probabilities, prefers right
answers, and sums or averages; and how low it gets. `output_kinds` says what outputs are.

No model runs here: outputs are given, moved a little, or made up. Letters: N examples, T places,
K classes.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ravine.diagnosis.constant_baseline import ConstantAnswer, Loss, find_best_constant
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import (
    BaselineLosses,
    ClassWeights,
    LossForm,
    LossProfile,
    TargetProfile,
)
from ravine.diagnosis.output_kinds import find_class_axis, find_probabilities, find_target_kind
from ravine.diagnosis.output_range import unreachable_loss

MAX_CLASSES = 100
FUNCTION_RANGES = {  # of the outputs of a last function
    **dict.fromkeys(("sigmoid", "softmax"), "0 to 1"),
    **dict.fromkeys(("tanh", "hardtanh"), "-1 to 1"),
    **dict.fromkeys(("relu", "softplus", "exp", "abs", "square"), "from 0"),
}
FORMS_BY_KIND = {  # in which outputs of a kind give answers, if they can
    "": "logits",
    "0 to 1": "probabilities",
    "probabilities": "probabilities",
    "log-probabilities": "log-probabilities",
}
SURE_LOGIT = 8.0  # of an answer that is sure
SURE_PROBABILITY = 0.98  # of such an answer
ANSWER_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of right answers, the others wrong
MIN_PATH_FALL = 0.01  # of the whole fall from right to wrong answers, at each of these
LARGE_SCALES = (1e2, 1e4)  # of logits: there a loss without bound shows


@dataclass(frozen=True)
class ProbedLoss:
    """A loss with the outputs [N, ...] of a model on some examples and their targets.

    `output_kind` is what the outputs are: probabilities or log-probabilities (over `class_axis`), a
    range, or "" for any numbers.
    """

    loss: Loss
    outputs: Tensor
    targets: Tensor
    output_kind: str = ""
    class_axis: int = -1

    def value(self, outputs: Tensor, targets: Tensor | None = None) -> float:
        """The loss of other outputs (and targets); NaN where it raises."""
        targets = self.targets if targets is None else targets
        try:
            with torch.no_grad():
                return float(self.loss(outputs.to(self.outputs.dtype), targets))
        except Exception:  # a loss may refuse numbers, such as probabilities above 1
            return math.nan

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of the loss at the outputs. Raises where there is none."""
        leaf = outputs.detach().clone().requires_grad_()
        return torch.autograd.grad(self.loss(leaf, targets).sum(), leaf)[0].double()


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
    target = TargetProfile(kind=kind, output_shape=shape, class_numbers=numbers)
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
    return replace(found, baselines=baselines, classes=classes)


def prepare_loss(program: ProbedProgram, rows: Tensor | None = None) -> ProbedLoss:
    """The loss with the outputs of all examples, or of some rows."""
    kind, axis = _find_output_kind(program)
    outputs, targets = program.outputs.detach(), program.targets
    if rows is not None:
        outputs, targets = outputs[rows], targets[rows]
    return ProbedLoss(program.loss, outputs, targets, kind, axis)


def _find_output_kind(program: ProbedProgram) -> tuple[str, int]:
    """What the outputs are, by values or last activation, and the dimension of the classes."""
    out, last = program.outputs.detach(), program.trace.output_call
    dim = last.dim if last is not None and last.dim is not None else -1
    for axis in (a for a in (dim, -1, 1) if -out.dim() <= a < out.dim()):
        kind = find_probabilities(out, axis)
        if kind:
            return kind, axis
    return FUNCTION_RANGES.get("" if last is None else last.name.rstrip("_"), ""), -1


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


# What does it take, and what does it prefer?


def _indicate_answers(probed: ProbedLoss, kind: str) -> tuple[Tensor, Tensor] | None:
    """Right answers and wrong ones: 1 for yes, 0 for no, in the shape of the outputs; or None."""
    out, y, axis = probed.outputs, probed.targets, probed.class_axis
    if kind in ("classes", "tokens"):
        classes, right = out.shape[axis], y.clamp(min=0)
        both = (torch.nn.functional.one_hot((right + i) % classes, classes) for i in (0, 1))
        yes, no = (each.movedim(-1, axis).to(out) for each in both)
        return yes, no
    if kind not in ("labels", "shares"):
        return None
    yes = y.reshape(out.shape).to(out)
    return yes, 1 - yes if kind == "labels" else yes.roll(1, -1)


def _encode_answers(yes: Tensor, form: str, axis: int, *, labels: bool) -> Tensor:
    """Sure answers as logits or (log-)probabilities; of `labels` each number by itself."""
    logits = SURE_LOGIT * (2 * yes - 1) if labels else SURE_LOGIT * yes
    if form == "logits":
        return logits
    if form == "log-probabilities":
        return torch.nn.functional.logsigmoid(logits) if labels else logits.log_softmax(axis)
    if labels:
        return SURE_PROBABILITY * yes + (1 - SURE_PROBABILITY) * (1 - yes)
    return logits.softmax(axis)


def probe_preference(probed: ProbedLoss, kind: str) -> LossForm | None:
    """The form that the loss takes, and whether it prefers right answers; None where no right
    answers can be made up.

    Logits: the loss does not change when a number is added to all logits of a row (of classes), or
    falls on to 0 as right logits grow (of labels). Log-probabilities: it is a multiple of its
    inputs. Probabilities: logits are refused, or give no number.
    """
    if kind == "numbers":
        return _probe_numbers(probed)
    answers, labels = _indicate_answers(probed, kind), kind == "labels"
    if answers is None:
        return None
    right, wrong = answers

    def loss_of(yes: Tensor, form: str, scale: float = 1.0) -> float:
        return probed.value(scale * _encode_answers(yes, form, probed.class_axis, labels=labels))

    forms = ("logits", "log-probabilities", "probabilities")
    both = {form: (loss_of(right, form), loss_of(wrong, form)) for form in forms}
    losses = {form: pair for form, pair in both.items() if all(map(math.isfinite, pair))}
    if not losses:
        return None
    takes = _find_input_form(probed, right, labels, losses)
    given = FORMS_BY_KIND.get(probed.output_kind, "")
    good, bad = losses.get(takes) or losses.get(given) or next(iter(losses.values()))
    growing = [loss_of(right, "logits", scale) for scale in LARGE_SCALES]
    shrinking = [loss_of(wrong, "logits", scale) for scale in LARGE_SCALES]
    prefers_wrong = all(g > b for g, b in losses.values())
    without_bound = _falls_without_end(shrinking, bad) or "logits" not in losses
    return LossForm(
        takes=takes,
        right_loss=good,
        wrong_loss=bad,
        unbounded=_falls_without_end(growing, good),
        reversed=(prefers_wrong and without_bound) or rewards_wrong_answers(probed, kind),
    )


def rewards_wrong_answers(probed: ProbedLoss, kind: str) -> bool:
    """Whether a loss that has bounds is the lower, the nearer answers come to wrong ones.

    Answers go from right to wrong ones in the form that the outputs have. Of labels, the loss must
    not be a sum over examples: a sum may be of distances, which are small where a label is 1.
    """
    answers, labels = _indicate_answers(probed, kind), kind == "labels"
    form = FORMS_BY_KIND.get(probed.output_kind, "")
    if answers is None or not form:
        return False
    right, wrong = answers

    def loss_of(yes: Tensor, share: float = 1.0, scale: float = 1.0) -> float:
        axis = probed.class_axis
        one, other = (_encode_answers(a, form, axis, labels=labels) for a in (yes, wrong))
        return probed.value(scale * (share * one + (1 - share) * other))

    path = [loss_of(right, share) for share in ANSWER_SHARES]
    if not _falls_along(path):
        return False
    extreme = [loss_of(yes, scale=LARGE_SCALES[0]) for yes in (right, wrong)]
    if form == "logits" and not max(map(abs, extreme)) <= 2 * max(map(abs, path)):
        return False
    if not labels:
        return True
    half = torch.arange(len(right)).reshape(-1, *[1] * (right.dim() - 1)) % 2 == 0
    parts = [loss_of(torch.where(part, wrong, right)) for part in (half, ~half)]
    together, fall = sum(value - path[0] for value in parts), path[0] - path[-1]
    return abs(together + fall) > MIN_PATH_FALL * fall


def _falls_along(path: list[float]) -> bool:
    """Whether each step of a path of losses takes a part of the whole fall."""
    least = MIN_PATH_FALL * (path[0] - path[-1])
    return all(a - b > least > 0 for a, b in zip(path, path[1:], strict=False))


def _rewards_opposite_numbers(probed: ProbedLoss, y: Tensor) -> bool:
    """Whether a loss with bounds, as a correlation has, is highest for the targets themselves."""
    mean = y.mean(0, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(y.shape, generator=generator).to(y) * (float(y.double().std()) or 1.0)
    blends = (y, y + noise, mean + noise, 2 * mean - y + noise, 2 * mean - y)
    path = [probed.value(outputs) for outputs in blends]
    if not _falls_along(path):
        return False
    large = [probed.value(scale * outputs) for scale in LARGE_SCALES for outputs in blends[::4]]
    return all(abs(value) <= 10 * max(map(abs, path)) for value in large)


def _find_input_form(
    probed: ProbedLoss, right: Tensor, labels: bool, losses: dict[str, tuple[float, float]]
) -> str:
    if "logits" not in losses:
        return "probabilities" if "probabilities" in losses else ""
    if labels:
        some = [probed.value(scale * (2 * right - 1)) for scale in (1.0, 2.0, 6.0, 30.0)]
        # probabilities cut at 1 stay flat
        falling = all(b < 0.9 * a for a, b in zip(some[:2], some[1:3], strict=True))
        return "logits" if falling and 0 <= some[3] < 1e-3 * abs(losses["logits"][1]) else ""
    ramp = torch.linspace(0, 1, right.numel()).view_as(right)
    logits = _encode_answers(right, "logits", probed.class_axis, labels=False) + ramp
    once, twice = probed.value(logits), probed.value(2 * logits)
    if abs(probed.value(logits + 3.0) - once) <= 1e-4 * max(1e-3, abs(once)):
        return "logits"
    return "log-probabilities" if abs(twice - 2 * once) <= 1e-4 * abs(once) else ""


def _falls_without_end(losses: list[float], near: float) -> bool:
    """Whether the loss goes on falling in proportion as answers get surer."""
    growth = LARGE_SCALES[1] / LARGE_SCALES[0]
    return losses[0] < min(near, 0.0) and losses[1] < 0.5 * growth * losses[0]


def _probe_numbers(probed: ProbedLoss) -> LossForm | None:
    out, y = probed.outputs, probed.targets.reshape(probed.outputs.shape).to(probed.outputs)
    spread = float(y.double().std()) or 1.0
    right = probed.value(y)
    shifted = [y + times * spread for times in (1.0, 3.0, 30.0, -1.0, -3.0, -30.0)]
    others = [*shifted, y.flip(0), torch.zeros_like(out) + y.mean()]
    away = [probed.value(wrong) for wrong in others]
    if _rewards_opposite_numbers(probed, y):
        opposite = probed.value(2 * y.mean(0, keepdim=True) - y)
        return LossForm(right_loss=right, wrong_loss=opposite, reversed=True)
    if not all(map(math.isfinite, (right, *away))):
        return None
    return LossForm(right_loss=right, wrong_loss=max(away), reversed=max(away) < right)


def measure_reduction(probed: ProbedLoss) -> float | None:
    """The loss of the batch taken twice over its loss: 1 mean, 2 sum; None for a loss near 0."""
    out, y = probed.outputs, probed.targets
    once, twice = probed.value(out), probed.value(torch.cat([out, out]), torch.cat([y, y]))
    return twice / once if math.isfinite(once * twice) and abs(once) > 1e-12 else None


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


def measure_unreachable(
    probed: ProbedLoss, kind: str, takes: str, constant: ConstantAnswer
) -> float | None:
    """The share of the best constant answer's loss that the best outputs of their kind keep, over
    what free outputs keep.

    None for outputs of any size, and where the best free outputs are not known: those are the
    targets themselves (of numbers), or large logits.
    """
    if not probed.output_kind:
        return None
    if kind == "numbers":
        free = [probed.targets.reshape(probed.outputs.shape).to(probed.outputs)]
    else:
        answers = _indicate_answers(probed, kind)
        if answers is None or takes not in ("logits", "probabilities"):
            return None
        right = answers[0]
        free = [right.clamp(1e-4, 1 - 1e-4)]
        if takes == "logits":
            sure = _encode_answers(right, "logits", -1, labels=kind == "labels")
            free = [scale * sure for scale in (0.3, 1.0, 4.0)]
    return unreachable_loss(
        probed.value,
        free,
        output_kind=probed.output_kind,
        class_axis=probed.class_axis,
        constant_loss=constant.loss,
    )

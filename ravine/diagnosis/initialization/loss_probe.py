"""Probe a loss as a function of outputs and targets: whose targets it compares with whose outputs,
what form of outputs it takes, and whether it prefers right answers.

No model runs here: outputs are given, moved a little, or made up. Letters: N examples, T places,
K classes.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ravine.diagnosis.constant_baseline import ConstantAnswer, Loss
from ravine.diagnosis.initialization.profile import LossForm, TargetPairing
from ravine.diagnosis.output_kinds import OUTPUT_KINDS
from ravine.diagnosis.output_range import unreachable_loss

GRADIENT_CHANGE = 1e-4  # of the largest gradient: more than rounding
LOSS_CHANGE = 1e-5  # relative: more than rounding
CHANGED_TARGETS = 12  # that are changed, one at a time
TARGET_ORDERS = 3  # other orders of the targets that are tried
MISSED_FRACTION = 0.5  # of the changed targets
SURE_LOGIT = 8.0  # of an answer that is sure
SURE_PROBABILITY = 0.98  # of such an answer
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


# Whose targets?


def probe_pairing(probed: ProbedLoss) -> TargetPairing | None:
    """Change one target: does the gradient change at its own example's output? None where that
    cannot be asked.

    A loss that compares all outputs with all targets does not change when only the targets change
    places; it is called so where their shapes broadcast, or where two changed targets add up
    exactly, as a sum over pairs does and a distance between distributions does not. A loss that
    compares with others' targets has a gradient that changes at exactly one other example's output,
    and not at its own, for most targets. Common factors, as of class weights, do not count.
    """
    n = len(probed.outputs)
    outputs, targets = _jitter_outputs(probed), probed.targets
    if n < 4 or len(targets) != n or bool((targets == targets[:1]).all()):
        return None
    base = probed.gradient(outputs, targets)
    if not bool(torch.isfinite(base).all()) or not bool((base != 0).any()):
        return None
    compared, missed = 0, 0
    for row, changed in _change_targets(targets):
        gradient = probed.gradient(outputs, changed)
        affected = _affected_examples(base, gradient, row)
        if bool(torch.isfinite(gradient).all()) and bool(affected.any()):
            compared += 1
            missed += not bool(affected[row]) and int(affected.sum()) == 1
    if not compared:
        return None
    shape, target_shape = tuple(probed.outputs.shape), tuple(targets.shape)
    powers = (1.0, 2.0)  # 2: of a root of a mean
    in_sum = _broadcasts(probed) or any(_is_additive(probed, outputs, power) for power in powers)
    compares_all = in_sum and _ignores_order(probed, outputs, base)
    share = missed / compared if missed > MISSED_FRACTION * compared and not compares_all else 0.0
    return TargetPairing(
        compares_all=compares_all,
        missed_fraction=share,
        output_shape=shape,
        target_shape=target_shape,
    )


def _jitter_outputs(probed: ProbedLoss) -> Tensor:
    """The outputs with a little noise, all different and still of their kind."""
    out = probed.outputs.detach()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(out.shape, generator=generator).to(out)
    if probed.output_kind not in ("", "from 0"):
        to_output, from_output = OUTPUT_KINDS[probed.output_kind]
        return to_output(from_output(out) + noise, probed.class_axis)
    spread = float(out.double().std())
    spread = spread if math.isfinite(spread) and spread > 0 else max(1.0, float(out.abs().max()))
    noisy = out + spread * noise
    return noisy.abs() + 1e-3 * spread if probed.output_kind == "from 0" else noisy


def _change_targets(targets: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows, and all targets with one element of the row changed to that of another example."""
    n, flat = len(targets), targets.reshape(len(targets), -1)
    generator = torch.Generator().manual_seed(1)
    columns = torch.randint(0, flat.shape[1], (max(n, CHANGED_TARGETS),), generator=generator)
    values = flat.flatten()[torch.randperm(flat.numel(), generator=generator)]
    for i, column in enumerate(columns.tolist()):
        row = i % n
        others = values[values != flat[row, column]]
        if len(others):
            changed = flat.clone()
            changed[row, column] = others[row % len(others)]
            yield row, changed.reshape(targets.shape)


def _affected_examples(base: Tensor, gradient: Tensor, row: int) -> Tensor:
    """Where [N] the gradient changed by more than the factor that is common to all others."""
    one, other = base.reshape(len(base), -1), gradient.reshape(len(base), -1)
    lengths = one.norm(dim=1)
    rest = [i for i in range(len(one)) if i != row and float(lengths[i]) > 0]
    factor = float((other.norm(dim=1)[rest] / lengths[rest]).median()) if rest else 1.0
    change = (other - factor * one).norm(dim=1)
    return change > GRADIENT_CHANGE * max(float(lengths.max()), float(change.max()))


def _ignores_order(probed: ProbedLoss, outputs: Tensor, base: Tensor) -> bool:
    """Whether loss and gradient are the same for targets in any other order."""
    targets = probed.targets
    loss = probed.value(outputs, targets)
    generator = torch.Generator().manual_seed(2)
    orders = (torch.randperm(len(targets), generator=generator) for _ in range(10 * TARGET_ORDERS))
    others = (targets[order] for order in orders if not bool((targets[order] == targets).all()))
    tried = 0
    for shuffled in itertools.islice(others, TARGET_ORDERS):
        if abs(probed.value(outputs, shuffled) - loss) > LOSS_CHANGE * max(abs(loss), 1e-12):
            return False
        change = (probed.gradient(outputs, shuffled) - base).abs().max()
        if float(change) > GRADIENT_CHANGE * float(base.abs().max()):
            return False
        tried += 1
    return tried > 0


def _broadcasts(probed: ProbedLoss) -> bool:
    """Whether output and target broadcast to more numbers than either has."""
    try:  # torch's own function of that name imports sympy: half a second
        together = np.broadcast_shapes(probed.outputs.shape, probed.targets.shape)
    except ValueError:
        return False
    return math.prod(together) > max(probed.outputs.numel(), probed.targets.numel())


def _is_additive(probed: ProbedLoss, outputs: Tensor, power: float) -> bool:
    """Whether two changed targets, or outputs, change a power of the loss by the sum of both."""
    n, targets = len(outputs), probed.targets

    def loss_of(rows: tuple[int, ...], places: tuple[int, ...]) -> float:
        other_targets, other_outputs = targets.clone(), outputs.clone()
        for i in rows:
            other_targets[i] = targets[(i + 2) % n]
        for i in places:
            other_outputs[i] = outputs[(i + 2) % n]
        return probed.value(other_outputs, other_targets) ** power

    base = loss_of((), ())
    scale = max(abs(base), abs(loss_of((0,), ()) - base), abs(loss_of((), (0,)) - base))
    for pair in ((0, 1), (1, 3)):
        by_targets = loss_of(pair, ()) - loss_of(pair[:1], ()) - loss_of(pair[1:], ()) + base
        by_outputs = loss_of((), pair) - loss_of((), pair[:1]) - loss_of((), pair[1:]) + base
        if not abs(by_targets) + abs(by_outputs) <= 1e-4 * scale:
            return False
    return True


# What does it take, and what does it prefer?


def _indicate_answers(probed: ProbedLoss, kind: str, *, wrong: bool) -> Tensor | None:
    """The right answers, or `wrong` ones: 1 for yes, 0 for no, in the shape of the outputs."""
    out, y, axis = probed.outputs, probed.targets, probed.class_axis
    if kind in ("classes", "tokens"):
        classes = out.shape[axis]
        chosen = (y.clamp(min=0) + int(wrong)) % classes
        return torch.nn.functional.one_hot(chosen, classes).movedim(-1, axis).to(out)
    if kind not in ("labels", "shares"):
        return None
    yes = y.reshape(out.shape).to(out)
    if not wrong:
        return yes
    return 1 - yes if kind == "labels" else yes.roll(1, -1)


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
    right = _indicate_answers(probed, kind, wrong=False)
    wrong = _indicate_answers(probed, kind, wrong=True)
    if right is None or wrong is None:
        return None
    labels = kind == "labels"

    def loss_of(yes: Tensor, form: str, scale: float = 1.0) -> float:
        return probed.value(scale * _encode_answers(yes, form, probed.class_axis, labels=labels))

    forms = ("logits", "log-probabilities", "probabilities")
    both = {form: (loss_of(right, form), loss_of(wrong, form)) for form in forms}
    losses = {form: pair for form, pair in both.items() if all(map(math.isfinite, pair))}
    if not losses:
        return None
    takes = _find_input_form(probed, right, labels, losses)
    good, bad = losses.get(takes) or next(iter(losses.values()))
    growing = [loss_of(right, "logits", scale) for scale in LARGE_SCALES]
    shrinking = [loss_of(wrong, "logits", scale) for scale in LARGE_SCALES]
    prefers_wrong = all(g > b for g, b in losses.values())
    return LossForm(
        takes=takes,
        right_loss=good,
        wrong_loss=bad,
        unbounded=_falls_without_end(growing, good),
        reversed=prefers_wrong and (_falls_without_end(shrinking, bad) or "logits" not in losses),
    )


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
        right = _indicate_answers(probed, kind, wrong=False)
        if right is None or takes not in ("logits", "probabilities"):
            return None
        free = [right.clamp(1e-4, 1 - 1e-4)]
        if takes == "logits":
            sure = _encode_answers(right, "logits", -1, labels=kind == "labels")
            free = [scale * sure for scale in (0.3, 1.0, 4.0)]
    return unreachable_loss(
        probed.value,
        free,
        output_kind=probed.output_kind,
        class_axis=probed.class_axis,
        null_loss=constant.loss,
    )

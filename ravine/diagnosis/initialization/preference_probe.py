"""Whether a loss takes logits or probabilities, and whether it prefers right answers to wrong ones.

The loss is called with made-up answers, from right ones over undecided ones to wrong ones. Letters:
N examples, T places, K classes.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ravine.diagnosis.initialization.probed_loss import ProbedLoss
from ravine.diagnosis.initialization.profile import LossForm

FORMS_BY_KIND = {  # in which outputs of a kind give answers, if they can
    "": "logits",
    "0 to 1": "probabilities",
    "probabilities": "probabilities",
    "log-probabilities": "log-probabilities",
}
SURE_LOGIT = 8.0  # of an answer that is sure
SURE_PROBABILITY = 0.98  # of such an answer
# of answers from right to wrong ones, as parts of a logit
SURENESS_LEVELS = (1.0, 0.5, 0.0, -0.5, -1.0)
MIN_PATH_FALL = 0.01  # of the whole fall from right to wrong answers, at each of these
LARGE_SCALES = (1e2, 1e4)  # of logits: there a loss without bound shows
# of a logit, or of the spread: a correlation is the same for answers of every size
ANSWER_NOISE = 0.5
FAR_LOGIT = 14.0  # whose probability is not yet 1 in float32
BOUND_FACTOR = 2.0  # times the largest loss of sure answers: within it, a loss has bounds
PAIRED_EXAMPLES = 8  # on which a sum over pairs is looked for


def indicate_answers(probed: ProbedLoss, kind: str) -> tuple[Tensor, Tensor] | None:
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


def encode_answers(yes: Tensor, form: str, axis: int, *, labels: bool) -> Tensor:
    """Sure answers as logits or (log-)probabilities; of `labels` each number by itself."""
    if labels and form == "probabilities":
        return SURE_PROBABILITY * yes + (1 - SURE_PROBABILITY) * (1 - yes)
    logits = SURE_LOGIT * (2 * yes - 1) if labels else SURE_LOGIT * yes
    return _encode_logits(logits, form, axis, labels=labels)


def _encode_logits(logits: Tensor, form: str, axis: int, *, labels: bool) -> Tensor:
    if form == "log-probabilities":
        return torch.nn.functional.logsigmoid(logits) if labels else logits.log_softmax(axis)
    if form == "probabilities":
        return logits.sigmoid() if labels else logits.softmax(axis)
    return logits


def probe_preference(probed: ProbedLoss, kind: str) -> LossForm | None:
    """The form that the loss takes, and whether it prefers right answers; None where no right
    answers can be made up. Logits: the loss does not change when a number is added to all logits of
    a row (of classes), or falls on to 0 as right logits grow (of labels). Log-probabilities: it is
    a multiple of its inputs. Probabilities: logits are refused, or give no number.
    """
    if kind == "numbers":
        return _probe_numbers(probed)
    answers, labels = indicate_answers(probed, kind), kind == "labels"
    if answers is None:
        return None
    right, wrong = answers

    def loss_of(yes: Tensor, form: str, scale: float = 1.0) -> float:
        return probed.value(scale * encode_answers(yes, form, probed.class_axis, labels=labels))

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
    told = not (labels and (may_be_distances(probed) or _is_linear(probed, right)))
    is_reversed = prefers_wrong and without_bound and told
    path = None if is_reversed else find_falling_path(probed, right, labels=labels)
    if path is not None:
        good, bad = path
    return LossForm(
        takes=takes,
        right_loss=good,
        wrong_loss=bad,
        unbounded=_falls_without_end(growing, good),
        reversed=is_reversed or path is not None,
    )


def find_falling_path(
    probed: ProbedLoss, yes: Tensor, *, labels: bool
) -> tuple[float, float] | None:
    """The losses of sure right and sure wrong answers, if the loss falls all the way from the ones
    to the others, in the form that the outputs have; None where it does not, or cannot be told.
    Outputs between 0 and 1 may be distances, small where the answer is yes: of a loss with bounds
    that is a sum over examples. A loss that is linear in one score for each label says by
    convention alone which answer has the higher one.
    """
    form = FORMS_BY_KIND.get(probed.output_kind, "")
    if not form or may_be_distances(probed):
        return None
    direction = 2 * yes - 1 if labels else yes
    generator = torch.Generator().manual_seed(0)
    noise = ANSWER_NOISE * torch.randn(yes.shape, generator=generator).to(yes)

    def loss_of(logits: Tensor) -> float:
        return probed.value(_encode_logits(logits, form, probed.class_axis, labels=labels))

    undecided = [loss_of(sureness * direction + noise) for sureness in SURENESS_LEVELS]
    right = SURE_LOGIT * direction
    sure = [loss_of(sureness * right) for sureness in (1.0, -1.0)]
    if not _falls_along(undecided) or not sure[0] > sure[1]:
        return None
    ends = sure[0], sure[1]
    if not labels:
        return ends
    if form == "logits":
        return None if _is_linear(probed, yes) else ends
    extent = BOUND_FACTOR * max(map(abs, ends))

    def moves_far(part: Tensor) -> bool:
        """Whether the loss has no bound as answers of a part get surer, right or wrong."""
        far = FAR_LOGIT / SURE_LOGIT
        both = (loss_of(torch.where(part, far * s * right, s * right)) for s in (1, -1))
        return max(map(abs, both)) > extent * float(part.double().mean())

    half = torch.arange(len(yes)).reshape(-1, *[1] * (yes.dim() - 1)) % 2 == 0
    parts = [loss_of(torch.where(part, -right, right)) for part in (half, ~half)]
    together, fall = sum(value - ends[0] for value in parts), ends[0] - ends[1]
    is_sum = abs(together + fall) <= MIN_PATH_FALL * fall
    return ends if not is_sum or all(map(moves_far, (yes > 0.5, yes <= 0.5))) else None


def may_be_distances(probed: ProbedLoss) -> bool:
    """Whether outputs of unknown kind are all 0 or more: small ones may mean yes."""
    return not probed.output_kind and bool((probed.outputs >= 0).all())


def _falls_along(path: Sequence[float]) -> bool:
    """Whether each step of a path of losses takes a part of the whole fall."""
    least = MIN_PATH_FALL * (path[0] - path[-1])
    return all(a - b > least > 0 for a, b in itertools.pairwise(path))


def _is_linear(probed: ProbedLoss, yes: Tensor) -> bool:
    """Whether the loss of scores is proportional to them, right or wrong."""
    losses = [probed.value(scale * (2 * yes - 1)) for scale in (1.0, 2.0, -1.0, 8.0)]
    once = losses[0]
    proportional = zip(losses[1:], (2.0, -1.0, 8.0), strict=True)
    return all(abs(loss - factor * once) <= 1e-4 * abs(once) for loss, factor in proportional)


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
    logits = encode_answers(right, "logits", probed.class_axis, labels=False) + ramp
    once, twice = probed.value(logits), probed.value(2 * logits)
    if abs(probed.value(logits + 3.0) - once) <= 1e-4 * max(1e-3, abs(once)):
        return "logits"
    return "log-probabilities" if abs(twice - 2 * once) <= 1e-4 * abs(once) else ""


def _falls_without_end(losses: list[float], near: float) -> bool:
    """Whether the loss goes on falling in proportion as answers get surer."""
    growth = LARGE_SCALES[1] / LARGE_SCALES[0]
    return losses[0] < min(near, 0.0) and losses[1] < 0.5 * growth * losses[0]


# Numbers


def _probe_numbers(probed: ProbedLoss) -> LossForm | None:
    out, y = probed.outputs, probed.targets.reshape(probed.outputs.shape).to(probed.outputs)
    spread = float(y.double().std()) or 1.0
    right = probed.value(y)
    shifted = [y + times * spread for times in (1.0, 3.0, 30.0, -1.0, -3.0, -30.0)]
    others = [*shifted, y.flip(0), torch.zeros_like(out) + y.mean()]
    away = [probed.value(wrong) for wrong in others]
    ends = _find_falling_numbers(probed, y)
    if ends is None and bool((y.abs() == 1).all()):  # hinge losses have labels of -1 and 1
        ends = find_falling_path(probed, (y > 0).to(y), labels=True)
    if ends is not None:
        return LossForm(right_loss=ends[0], wrong_loss=ends[1], reversed=True)
    if not all(map(math.isfinite, (right, *away))):
        return None
    least = 1e-5 * max(map(abs, away))  # more than rounding, where a shift has no effect
    return LossForm(right_loss=right, wrong_loss=max(away), reversed=right - max(away) > least)


def _find_falling_numbers(probed: ProbedLoss, y: Tensor) -> tuple[float, float] | None:
    """The losses of the targets and of their opposites, if the loss falls from the ones to the
    others, and has bounds, as a correlation has, or is a sum over pairs of examples. Other losses
    without bounds may rightly fall: a risk is high where the time to live is short.
    """
    mean = y.mean(0, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(y.shape, generator=generator).to(y) * (float(y.double().std()) or 1.0)
    centered = ANSWER_NOISE * noise + mean
    path = [probed.value(centered + sureness * (y - mean)) for sureness in SURENESS_LEVELS]
    if not _falls_along(path):
        return None
    ends = (y, 2 * mean - y)
    large, larger = ([abs(probed.value(s * end)) for end in ends] for s in LARGE_SCALES)
    has_bounds = max(larger) <= 10 * max(*large, *map(abs, path))  # the logarithm of a loss, too
    return (path[0], path[-1]) if has_bounds or _sums_over_pairs(probed, y) else None


def _sums_over_pairs(probed: ProbedLoss, y: Tensor) -> bool:
    """Whether a loss is a sum of functions of two examples' outputs each, as ranking losses are.
    Then changes of three outputs have no effect together beyond those of each two of them.
    """
    targets, few = probed.targets[:PAIRED_EXAMPLES], y[:PAIRED_EXAMPLES] / y.std()
    others = few.roll(PAIRED_EXAMPLES // 2, 0)

    def loss_of(places: Sequence[int]) -> float:
        outputs = few.clone()
        outputs[list(places)] = others[list(places)]
        return probed.value(outputs, targets)

    def interaction(places: Sequence[int]) -> float:
        """What changes do together beyond what fewer of them do."""
        sizes = range(len(places) + 1)
        parts = (part for size in sizes for part in itertools.combinations(places, size))
        return abs(sum((-1) ** len(part) * loss_of(part) for part in parts))

    starts = range(len(few) - 2)
    of_two = max((interaction((i, i + 1)) for i in starts), default=0.0)
    of_three = max((interaction((i, i + 1, i + 2)) for i in starts), default=math.inf)
    return of_three <= 1e-3 * of_two and of_two > 1e-4 * abs(loss_of(()))

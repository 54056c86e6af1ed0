"""Probe a loss as a function of outputs and targets: whose targets it compares with whose outputs,
and what it takes.

No model runs here: outputs are taken as given, moved a little, or made up. Letters: N examples, T
places, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.diagnosis.initialization.rules import Pairing

Loss = Callable[[Tensor, Tensor], Tensor]

NOTICED = 1e-4  # of the largest gradient: a change that is no rounding
EQUAL = 1e-5  # relative: two losses that are the same but for rounding
ELEMENTS = 12  # targets that are changed, one at a time
ORDERS = 3  # other orders of the targets that are tried
MOST = 0.5  # share of the changed targets
CONFIDENT = 8.0  # logits of an answer that is sure
SURE = 0.98  # the same as a probability
FAR = (1e2, 1e4)  # logits so large that a loss without bound shows
RANGES = {"0 to 1": (0.0, 1.0), "-1 to 1": (-1.0, 1.0), "from 0": (0.0, math.inf)}
ROUND = 1e-4  # by which probabilities may miss a sum of 1


@dataclass(frozen=True)
class Answers:
    """Outputs [N, ...] of a model on some examples with their targets, and what is known of both.

    `gives` is what the outputs are: probabilities (over `axis`), log-probabilities, a range, or ""
    for any numbers.
    """

    loss: Loss
    outputs: Tensor
    targets: Tensor
    gives: str = ""
    axis: int = -1

    def at(self, outputs: Tensor, targets: Tensor | None = None) -> float:
        """The loss of other outputs (and targets); NaN where it cannot be worked out."""
        try:
            with torch.no_grad():
                return float(
                    self.loss(
                        outputs.to(self.outputs.dtype), self.targets if targets is None else targets
                    )
                )
        except Exception:  # a loss may refuse numbers, such as probabilities above 1
            return math.nan

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of the loss at the outputs. Raises where there is none."""
        leaf = outputs.detach().clone().requires_grad_()
        return torch.autograd.grad(self.loss(leaf, targets).sum(), leaf)[0].double()


# Whose targets?


def pairing(answers: Answers) -> Pairing | None:
    """Change one target: does the gradient change at its own example's output? None where that
    cannot be asked.

    A loss that compares all outputs with all targets does not change when only the targets change
    places; it is called so where their shapes broadcast, or where two changed targets add up
    exactly, as a sum over pairs does and a distance between distributions does not. A loss that
    compares with others' targets has a gradient that changes at exactly one other example's output,
    and not at its own, for most targets. Common factors, as of class weights, do not count.
    """
    n = len(answers.outputs)
    outputs, targets = varied(answers), answers.targets
    if n < 4 or len(targets) != n or bool((targets == targets[:1]).all()):
        return None
    base = answers.gradient(outputs, targets)
    if not bool(torch.isfinite(base).all()) or not bool((base != 0).any()):
        return None
    asked, missed = 0, 0
    for row, given in changed(targets):
        gradient = answers.gradient(outputs, given)
        if not bool(torch.isfinite(gradient).all()):
            continue
        noticed = moved(base, gradient, row)
        if not bool(noticed.any()):
            continue
        asked += 1
        missed += not bool(noticed[row]) and int(noticed.sum()) == 1
    if not asked:
        return None
    shapes = tuple(answers.outputs.shape), tuple(targets.shape)
    sums = (
        spreads(answers) or adds_up(answers, outputs, 1.0) or adds_up(answers, outputs, 2.0)
    )  # 2: a root of a mean
    if sums and no_order(answers, outputs, base):
        return Pairing(all=True, outputs=shapes[0], targets=shapes[1])
    share = missed / asked if missed > MOST * asked else 0.0
    return Pairing(missed=share, outputs=shapes[0], targets=shapes[1])


def varied(answers: Answers) -> Tensor:
    """The outputs with a little noise, so that no two examples have the same, still of the kind
    they are.
    """
    out = answers.outputs.detach()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(out.shape, generator=generator).to(out)
    if answers.gives == "probabilities":
        return (out.clamp(min=1e-6).log() + noise).softmax(answers.axis)
    if answers.gives == "log-probabilities":
        return (out + noise).log_softmax(answers.axis)
    if answers.gives == "0 to 1":
        return (torch.logit(out, eps=1e-4) + noise).sigmoid()
    if answers.gives == "-1 to 1":
        return (torch.atanh(out.clamp(-0.999, 0.999)) + noise).tanh()
    spread = float(out.double().std())
    spread = spread if math.isfinite(spread) and spread > 0 else max(1.0, float(out.abs().max()))
    return (
        (out + spread * noise).abs() + 1e-3 * spread
        if answers.gives == "from 0"
        else out + spread * noise
    )


def changed(targets: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Targets with one element changed to one that another example has at some place: its row, and
    all targets.
    """
    n, flat = len(targets), targets.reshape(len(targets), -1)
    generator = torch.Generator().manual_seed(1)
    width = flat.shape[1]
    places = [
        (i % n, int(torch.randint(0, width, (), generator=generator)))
        for i in range(max(n, ELEMENTS))
    ]
    values = flat.flatten()[torch.randperm(flat.numel(), generator=generator)]
    for row, column in places:
        other = values[values != flat[row, column]]
        if len(other):
            given = flat.clone()
            given[row, column] = other[row % len(other)]
            yield row, given.reshape(targets.shape)


def moved(base: Tensor, gradient: Tensor, row: int) -> Tensor:
    """At which examples [N] the gradient changed by more than the factor that is common to all
    others.
    """
    one, other = base.reshape(len(base), -1), gradient.reshape(len(base), -1)
    lengths = one.norm(dim=1)
    rest = [i for i in range(len(one)) if i != row and float(lengths[i]) > 0]
    factor = float((other.norm(dim=1)[rest] / lengths[rest]).median()) if rest else 1.0
    change = (other - factor * one).norm(dim=1)
    return change > NOTICED * max(float(lengths.max()), float(change.max()))


def no_order(answers: Answers, outputs: Tensor, base: Tensor) -> bool:
    """Whether loss and gradient are the same for targets in any other order."""
    targets = answers.targets
    loss = answers.at(outputs, targets)
    generator = torch.Generator().manual_seed(2)
    tried = 0
    for _ in range(10 * ORDERS):
        given = targets[torch.randperm(len(targets), generator=generator)]
        if bool((given == targets).all()):
            continue
        if abs(answers.at(outputs, given) - loss) > EQUAL * max(abs(loss), 1e-12):
            return False
        if float((answers.gradient(outputs, given) - base).abs().max()) > NOTICED * float(
            base.abs().max()
        ):
            return False
        tried += 1
        if tried == ORDERS:
            return True
    return tried > 0


def spreads(answers: Answers) -> bool:
    """Whether output and target broadcast to more numbers than either has."""
    try:
        together = torch.broadcast_shapes(answers.outputs.shape, answers.targets.shape)
    except RuntimeError:
        return False
    return math.prod(together) > max(answers.outputs.numel(), answers.targets.numel())


def adds_up(answers: Answers, outputs: Tensor, power: float) -> bool:
    """Whether changes of two targets, and of two outputs, change a power of the loss by the sum of
    what each does.
    """
    n, targets = len(outputs), answers.targets

    def of(rows: tuple[int, ...], places: tuple[int, ...]) -> float:
        given, out = targets.clone(), outputs.clone()
        for i in rows:
            given[i] = targets[(i + 2) % n]
        for i in places:
            out[i] = outputs[(i + 2) % n]
        return answers.at(out, given) ** power

    none = of((), ())
    scale = max(abs(none), abs(of((0,), ()) - none), abs(of((), (0,)) - none))
    for pair in ((0, 1), (1, 3)):
        both = of(pair, ()) - of(pair[:1], ()) - of(pair[1:], ()) + none
        also = of((), pair) - of((), pair[:1]) - of((), pair[1:]) + none
        if not abs(both) + abs(also) <= 1e-4 * scale:
            return False
    return True


# What does it take, and what does it want?


def kind_of(outputs: Tensor, targets: Tensor, axis: int) -> str:
    """What the targets are to these outputs: classes, tokens (a class at each place), labels (0 and
    1), shares (rows that sum to 1), numbers, or "" if neither shape nor type says.

    >>> kind_of(torch.zeros(4, 3), torch.tensor([0, 2, 1, 0]), -1), kind_of(torch.zeros(4, 1),
    ...                                                                     torch.ones(4), -1)
    ('classes', 'labels')
    """
    whole = not targets.is_floating_point() and targets.dtype != torch.bool
    if whole and outputs.dim() > 1:
        places = [*outputs.shape]
        classes = places.pop(axis)
        if tuple(places) == tuple(targets.shape) and classes > max(1, int(targets.max())):
            return "classes" if targets.dim() == 1 else "tokens"
    if math.prod(targets.shape) != math.prod(outputs.shape):
        return ""
    if bool(((targets == 0) | (targets == 1)).all()):
        return "labels" if not _one_of_each(targets) else "shares"
    return "shares" if _one_of_each(targets) else "numbers"


def _one_of_each(targets: Tensor) -> bool:
    if targets.dim() < 2 or targets.shape[-1] < 2 or not targets.is_floating_point():
        return False
    return bool((targets >= 0).all()) and bool(((targets.sum(-1) - 1).abs() < ROUND).all())


def class_axis(outputs: Tensor, targets: Tensor) -> int:
    """The dimension of the classes: the last, or the second where targets [N, T] go with outputs
    [N, K, T].
    """
    if (
        outputs.dim() == targets.dim() + 1
        and outputs.dim() > 2
        and outputs.shape[:-1] != targets.shape
    ):
        return 1
    return -1


def ideal(answers: Answers, kind: str, *, wrong: bool) -> Tensor | None:
    """Whether yes (1) or no (0) is the right answer, in the shape of the outputs; or the answers
    that are `wrong`.
    """
    out, y = answers.outputs, answers.targets
    if kind in ("classes", "tokens"):
        classes = out.shape[answers.axis]
        given = (y.clamp(min=0) + (1 if wrong else 0)) % classes
        return torch.nn.functional.one_hot(given, classes).movedim(-1, answers.axis).to(out)
    if kind == "labels":
        yes = y.reshape(out.shape).to(out)
        return 1 - yes if wrong else yes
    if kind == "shares":
        return y.reshape(out.shape).to(out).roll(1 if wrong else 0, -1)
    return None


def said_as(yes: Tensor, how: str, axis: int, *, single: bool) -> Tensor:
    """Sure answers as logits, log-probabilities or probabilities; `single`: each number is a label
    of its own.
    """
    logits = CONFIDENT * (2 * yes - 1) if single else CONFIDENT * yes
    if how == "logits":
        return logits
    if how == "log-probabilities":
        return torch.nn.functional.logsigmoid(logits) if single else logits.log_softmax(axis)
    return (SURE * yes + (1 - SURE) * (1 - yes)) if single else logits.softmax(axis)


@dataclass(frozen=True)
class Wish:
    """What a loss takes ("" if that cannot be told), and its values: of right and of wrong answers,
    and of right ones with logits that are ever larger."""

    takes: str
    right: float
    wrong: float
    unbounded: bool = False  # it falls without end along right answers
    reversed: bool = (
        False  # wrong answers are better however they are said, and ever better the surer they are
    )


def wish(answers: Answers, kind: str) -> Wish | None:
    """What the loss wants for right answers, and in which form. None where no right answers can be
    made up.

    Logits: the loss does not change when a number is added to all logits of a row (of classes), or
    falls on to 0 as right logits grow (of labels). Log-probabilities: it is a multiple of its
    inputs. Probabilities: logits are refused, or give no number.
    """
    if kind == "numbers":
        return _numbers(answers)
    right, wrong = ideal(answers, kind, wrong=False), ideal(answers, kind, wrong=True)
    if right is None or wrong is None:
        return None
    single = kind == "labels"
    values: dict[str, tuple[float, float]] = {}
    for how in ("logits", "log-probabilities", "probabilities"):
        good, bad = (
            answers.at(said_as(yes, how, answers.axis, single=single)) for yes in (right, wrong)
        )
        if math.isfinite(good) and math.isfinite(bad):
            values[how] = (good, bad)
    if not values:
        return None
    takes = _takes(answers, right, single, values)
    good, bad = values.get(takes) or next(iter(values.values()))
    far = [
        answers.at(scale * said_as(right, "logits", answers.axis, single=single)) for scale in FAR
    ]
    away = [
        answers.at(scale * said_as(wrong, "logits", answers.axis, single=single)) for scale in FAR
    ]
    return Wish(
        takes,
        good,
        bad,
        unbounded=_endless(far, good),
        reversed=all(g > b for g, b in values.values())
        and (_endless(away, bad) or "logits" not in values),
    )


def _takes(
    answers: Answers, right: Tensor, single: bool, values: dict[str, tuple[float, float]]
) -> str:
    if "logits" not in values:
        return "probabilities" if "probabilities" in values else ""
    logits = said_as(right, "logits", answers.axis, single=single) + torch.linspace(
        0, 1, right.numel()
    ).view_as(right)
    at, double = answers.at(logits), answers.at(2 * logits)
    if single:
        some = [answers.at(factor * (2 * right - 1)) for factor in (1.0, 2.0, 6.0, 30.0)]
        falling = all(
            b < 0.9 * a for a, b in zip(some[:2], some[1:3], strict=True)
        )  # probabilities cut at 1 stay flat
        return "logits" if falling and 0 <= some[3] < 1e-3 * abs(values["logits"][1]) else ""
    if abs(answers.at(logits + 3.0) - at) <= 1e-4 * max(1e-3, abs(at)):
        return "logits"
    if abs(double - 2 * at) <= 1e-4 * abs(at):
        return "log-probabilities"
    return ""


def _endless(values: list[float], near: float) -> bool:
    """Whether the loss goes on falling in proportion as answers get surer."""
    return values[0] < min(near, 0.0) and values[1] < 0.5 * FAR[1] / FAR[0] * values[0]


def _numbers(answers: Answers) -> Wish | None:
    out, y = answers.outputs, answers.targets.reshape(answers.outputs.shape).to(answers.outputs)
    spread = float(y.double().std()) or 1.0
    right = answers.at(y)
    away = [answers.at(y + sign * times * spread) for sign in (1, -1) for times in (1.0, 3.0, 30.0)]
    away += [answers.at(y.flip(0)), answers.at(torch.zeros_like(out) + y.mean())]
    finite = [v for v in away if math.isfinite(v)]
    if not math.isfinite(right) or len(finite) < len(away):
        return None
    return Wish("", right, max(finite), reversed=all(v < right for v in finite))


def reduction(answers: Answers) -> float | None:
    """The loss of the batch taken twice over that of the batch: 1 for a mean, 2 for a sum. None for
    a loss near 0.
    """
    once = answers.at(answers.outputs)
    try:
        twice = float(
            answers.loss(
                torch.cat([answers.outputs] * 2), torch.cat([answers.targets] * 2)
            ).detach()
        )
    except Exception:  # a loss may know its batch
        return None
    return twice / once if math.isfinite(once) and abs(once) > 1e-12 else None


@dataclass(frozen=True)
class Nothing:
    """The best that can be said without looking at the inputs: the best constant output, and its
    loss.
    """

    loss: float
    output: Tensor


def constant(answers: Answers, kind: str) -> Nothing | None:
    """The best output that is the same for all examples (of tokens: and for all places), found by
    L-BFGS from several starts, as the kind of number that the outputs are. None if the loss has no
    least value there that is found.
    """
    out = answers.outputs
    if kind == "tokens":
        shape = [1] * out.dim()
        shape[answers.axis] = out.shape[answers.axis]
    else:
        shape = [1, *out.shape[1:]]
    starts = [torch.zeros(shape)]
    if kind == "numbers":
        starts.append(answers.targets.reshape(out.shape).float().mean(0, keepdim=True))
    best: Nothing | None = None
    for start in starts:
        free = start.to(out).requires_grad_()
        found = lowest(
            answers, free, lambda z: turned(z, answers.gives, answers.axis).expand(out.shape)
        )
        if found is not None and (best is None or found < best.loss):
            best = Nothing(found, turned(free.detach(), answers.gives, answers.axis).squeeze(0))
    return best


def turned(free: Tensor, gives: str, axis: int) -> Tensor:
    """Any numbers as the kind of number that outputs are."""
    if gives == "probabilities":
        return free.softmax(axis)
    if gives == "log-probabilities":
        return free.log_softmax(axis)
    if gives == "0 to 1":
        return free.sigmoid()
    if gives == "-1 to 1":
        return free.tanh()
    return torch.nn.functional.softplus(free) if gives == "from 0" else free


def lowest(
    answers: Answers, free: Tensor, made: Callable[[Tensor], Tensor], *, settle: bool = True
) -> float | None:
    """The lowest loss of the outputs made of `free`, which is left there. None if it is not finite,
    or, if it has to `settle`, lies at numbers out of all proportion."""
    optimizer = torch.optim.LBFGS([free], max_iter=40, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = answers.loss(made(free), answers.targets).sum()
        loss.backward()
        return loss

    try:
        optimizer.step(closure)
        loss = float(answers.loss(made(free), answers.targets).detach())
    except Exception:
        return None
    settled = not settle or float(free.detach().abs().max()) < 1e3 * (
        1 + float(answers.targets.double().abs().max())
    )
    return loss if math.isfinite(loss) and settled else None


def evenly(answers: Answers, kind: str) -> float:
    """The output that says nothing: 0, or even probabilities or their logarithm."""
    level = 0.5 if kind == "labels" else 1 / answers.outputs.shape[answers.axis]
    return {"probabilities": level, "0 to 1": level, "log-probabilities": math.log(level)}.get(
        answers.gives, 0.0
    )


def pulls(answers: Answers, kind: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """How often each class comes, and with how much weight one example of it pulls at outputs of 0
    (at even probabilities where 0 will not do), the most frequent class 1. For labels: how often
    each is 1, and the weight of a 1 over that of a 0; the labels are the places of a row.
    """
    out, y = answers.outputs, answers.targets
    classes = out.shape[answers.axis]
    gradient = answers.gradient(torch.full_like(out, evenly(answers, kind)), y)
    if not bool(torch.isfinite(gradient).all()):
        return None
    if kind == "labels":
        yes = (y.reshape(out.shape) > 0.5).reshape(len(out), -1)
        size = gradient.abs().reshape(len(out), -1)
        both = [
            (yes[:, d], size[:, d])
            for d in range(size.shape[1])
            if 0 < int(yes[:, d].sum()) < len(yes)
        ]
        shares = tuple(float(ones.double().mean()) for ones, _ in both)
        return shares, tuple(
            float(g[ones].mean() / g[~ones].mean().clamp(min=1e-30)) for ones, g in both
        )
    own = (
        gradient.gather(answers.axis, y.clamp(min=0).unsqueeze(answers.axis))
        .squeeze(answers.axis)
        .abs()
        .flatten()
    )
    told = y.flatten()
    counts = torch.bincount(told[told >= 0], minlength=classes).double()
    sums = torch.zeros(classes, dtype=torch.double).index_add_(
        0, told.clamp(min=0).cpu(), own.cpu()
    )
    weights = sums / counts.clamp(min=1)
    weights = weights / weights[int(counts.argmax())].clamp(min=1e-30)
    return tuple((counts / counts.sum()).tolist()), tuple(weights.tolist())


def unmet(answers: Answers, kind: str, takes: str, nothing: Nothing) -> float | None:
    """The share of the loss of saying nothing that the best outputs of their kind leave, over what
    free outputs leave.

    None for outputs of any size, and where the best free outputs are not known: those are the
    targets themselves (of numbers), or large logits.
    """
    if not answers.gives:
        return None
    if kind == "numbers":
        floor = answers.at(answers.targets.reshape(answers.outputs.shape).to(answers.outputs))
    elif takes == "logits":
        right = ideal(answers, kind, wrong=False)
        if right is None:
            return None
        sure = [
            answers.at(scale * said_as(right, "logits", -1, single=kind == "labels"))
            for scale in (0.3, 1.0, 4.0)
        ]
        floor = min(sure)
    elif takes == "probabilities":
        right = ideal(answers, kind, wrong=False)
        if right is None:
            return None
        floor = answers.at(right.clamp(1e-4, 1 - 1e-4))
    else:
        return None
    free = torch.zeros_like(answers.outputs).requires_grad_()
    best = lowest(answers, free, lambda z: turned(z, answers.gives, answers.axis), settle=False)
    if kind == "numbers":  # as near as the range allows
        low, high = RANGES.get(answers.gives, (0.0, 1.0))
        near = answers.at(answers.targets.reshape(answers.outputs.shape).clamp(low, high))
        best = near if best is None or near < best else best
    if best is None or not math.isfinite(floor) or nothing.loss - floor <= 1e-9:
        return None
    return max(0.0, best - floor) / (nothing.loss - floor)

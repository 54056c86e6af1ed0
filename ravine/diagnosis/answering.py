"""Probe a loss as a function of outputs and targets: whose targets it compares with whose outputs, and what it takes.

No model runs here: outputs are taken as given, moved a little, or made up. Letters: N examples, T places, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ravine.diagnosis.start import Pairing

Loss = Callable[[Tensor, Tensor], Tensor]

NOTICED = 1e-4  # of the largest gradient: a change that is no rounding
EQUAL = 1e-5  # relative: two losses that are the same but for rounding
ELEMENTS = 12  # targets that are changed, one at a time
ORDERS = 3  # other orders of the targets that are tried
MOST = 0.5  # share of the changed targets
CONFIDENT = 8.0  # logits of an answer that is sure
SURE = 0.98  # the same as a probability
FAR = (1e2, 1e4)  # logits so large that a loss without bound shows
ROUND = 1e-4  # by which probabilities may miss a sum of 1


@dataclass(frozen=True)
class Answers:
    """Outputs [N, ...] of a model on some examples with their targets, and what is known of both.

    `gives` is what the outputs are: probabilities (over `axis`), log-probabilities, a range, or "" for any numbers.
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
                return float(self.loss(outputs.to(self.outputs.dtype), self.targets if targets is None else targets))
        except Exception:  # a loss may refuse numbers, such as probabilities above 1
            return math.nan

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The gradient of the loss at the outputs. Raises where there is none."""
        leaf = outputs.detach().clone().requires_grad_()
        return torch.autograd.grad(self.loss(leaf, targets).sum(), leaf)[0].double()


# whose targets? -----------------------------------------------------------------------------------------------------


def pairing(answers: Answers) -> Pairing | None:
    """Change one target: does the gradient change at its own example's output? None where that cannot be asked.

    A loss that compares all outputs with all targets does not change when only the targets change places; it is
    called so where their shapes broadcast, or where two changed targets add up exactly, as a sum over pairs does and a
    distance between distributions does not. A loss that compares with others' targets has a gradient that changes at
    exactly one other example's output, and not at its own, for most targets. Common factors, as of class weights, do
    not count.
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
    sums = spreads(answers) or adds_up(answers, outputs, 1.0) or adds_up(answers, outputs, 2.0)  # 2: a root of a mean
    if sums and no_order(answers, outputs, base):
        return Pairing(all=True, outputs=shapes[0], targets=shapes[1])
    share = missed / asked if missed > MOST * asked else 0.0
    return Pairing(missed=share, outputs=shapes[0], targets=shapes[1])


def varied(answers: Answers) -> Tensor:
    """The outputs with a little noise, so that no two examples have the same, still of the kind they are."""
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
    return (out + spread * noise).abs() + 1e-3 * spread if answers.gives == "from 0" else out + spread * noise


def changed(targets: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Targets with one element changed to one that another example has at some place: its row, and all targets."""
    n, flat = len(targets), targets.reshape(len(targets), -1)
    generator = torch.Generator().manual_seed(1)
    width = flat.shape[1]
    places = [(i % n, int(torch.randint(0, width, (), generator=generator))) for i in range(max(n, ELEMENTS))]
    values = flat.flatten()[torch.randperm(flat.numel(), generator=generator)]
    for row, column in places:
        other = values[values != flat[row, column]]
        if len(other):
            given = flat.clone()
            given[row, column] = other[row % len(other)]
            yield row, given.reshape(targets.shape)


def moved(base: Tensor, gradient: Tensor, row: int) -> Tensor:
    """At which examples [N] the gradient changed by more than the factor that is common to all others."""
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
        if float((answers.gradient(outputs, given) - base).abs().max()) > NOTICED * float(base.abs().max()):
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
    """Whether changes of two targets, and of two outputs, change a power of the loss by the sum of what each does."""
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

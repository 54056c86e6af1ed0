"""Probe whose targets a loss compares with whose outputs.

No model runs here: outputs are given or moved a little. Letters: N examples.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ravine.diagnosis.initialization.probed_loss import ProbedLoss, prepare_loss
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import TargetPairing
from ravine.diagnosis.output_kinds import OUTPUT_KINDS
from ravine.statistics import even_places

GRADIENT_CHANGE = 1e-4  # of the largest gradient: more than rounding
LOSS_CHANGE = 1e-5  # relative: more than rounding
CHANGED_TARGETS = 12  # that are changed, one at a time
TARGET_ORDERS = 3  # other orders of the targets that are tried
MIN_PLACES = 4  # of an example, for the question whether all are compared with all
MISSED_FRACTION = 0.5  # of the changed targets


def probe_loss_pairing(program: ProbedProgram) -> TargetPairing | None:
    """See `probe_pairing`; the rows are those whose targets differ most. A loss that raises for
    them and takes a batch of as many examples as there are places broadcasts examples against
    places: it is asked with such a batch.
    """
    if len(program.outputs) != len(program.inputs):
        return None
    means = program.targets.reshape(len(program.targets), -1).double().mean(1)
    order = means.argsort()
    for size in (len(program.few), *program.targets.shape[1:]):
        probed = prepare_loss(program, order[even_places(len(order), size)])
        if math.isfinite(probed.value(probed.outputs)):
            break
    else:
        probed = prepare_loss(program, order[even_places(len(order), len(program.few))])
    return probe_pairing(probed)


def probe_pairing(probed: ProbedLoss) -> TargetPairing | None:
    """Change one target: does the gradient change at its own example's output? None where that
    cannot be asked. RVN-I02 explains the test. Common factors, as of class weights, do not count.
    """
    n = len(probed.outputs)
    outputs, targets = jitter_outputs(probed), probed.targets
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
    compares_all = any(_compares_all(probed, outputs, base, d) for d in range(targets.dim()))
    share = missed / compared if missed > MISSED_FRACTION * compared and not compares_all else 0.0
    return TargetPairing(
        compares_all=compares_all,
        missed_fraction=share,
        repeated="" if compares_all else find_repetition(probed, outputs),
        output_shape=tuple(probed.outputs.shape),
        target_shape=tuple(targets.shape),
    )


def jitter_outputs(probed: ProbedLoss) -> Tensor:
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


def _compares_all(probed: ProbedLoss, outputs: Tensor, base: Tensor, dim: int) -> bool:
    """Whether all outputs are compared with all targets along a dimension of these. A loss of sums
    alone pulls all outputs of a place equally: it compares no two of them.
    """
    stretched = find_stretched_dims(probed)
    if dim > 0 and dim not in stretched:
        alike = outputs.shape[: dim + 1] == probed.targets.shape[: dim + 1]
        acts = float((base != 0).double().mean()) > 0.5  # a loss that cuts outputs off may not
        if not alike or not acts or outputs.shape[dim] < MIN_PLACES or _is_equal_along(base, dim):
            return False
    powers = (1.0, 2.0)  # 2: of a root of a mean
    in_sum = bool(stretched) or any(_is_additive(probed, outputs, dim, power) for power in powers)
    return in_sum and _ignores_order(probed, outputs, base, dim)


def _is_equal_along(gradient: Tensor, dim: int) -> bool:
    first = gradient.narrow(dim, 0, 1)
    return bool(((gradient - first).abs() <= GRADIENT_CHANGE * gradient.abs().max()).all())


def _ignores_order(probed: ProbedLoss, outputs: Tensor, base: Tensor, dim: int) -> bool:
    """Whether loss and gradient are the same for targets in any other order along a dimension."""
    targets = probed.targets
    loss = probed.value(outputs, targets)
    generator = torch.Generator().manual_seed(2)
    size = targets.shape[dim]
    orders = (torch.randperm(size, generator=generator) for _ in range(10 * TARGET_ORDERS))
    moved = (targets.index_select(dim, order.to(targets.device)) for order in orders)
    others = (other for other in moved if not bool((other == targets).all()))
    tried = 0
    for shuffled in itertools.islice(others, TARGET_ORDERS):
        if abs(probed.value(outputs, shuffled) - loss) > LOSS_CHANGE * max(abs(loss), 1e-12):
            return False
        change = (probed.gradient(outputs, shuffled) - base).abs().max()
        if float(change) > GRADIENT_CHANGE * float(base.abs().max()):
            return False
        tried += 1
    return tried > 0


def find_stretched_dims(probed: ProbedLoss) -> tuple[int, ...]:
    """Dimensions of the target that stretch the output, if some of the output stretch it, too."""
    output, target = probed.outputs.shape, probed.targets.shape
    length = max(len(output), len(target))
    wide = [(1,) * (length - len(shape)) + tuple(shape) for shape in (output, target)]
    pairs = list(zip(*wide, strict=True))
    if any(1 not in pair and pair[0] != pair[1] for pair in pairs):
        return ()
    dims = tuple(d - length + len(target) for d, (o, t) in enumerate(pairs) if o < t)
    return dims if any(t < o for o, t in pairs) else ()


def find_repetition(probed: ProbedLoss, outputs: Tensor) -> str:
    """Whether a loss compares one target with several outputs ("outputs"), or one output with
    several targets ("targets"), because their shapes broadcast; "" if neither. It does where one of
    them may as well be given repeated, the order of the others does not matter, and each adds to
    the loss (or to its square) by itself.
    """
    targets = probed.targets
    if (
        outputs.dim() != targets.dim()
        or outputs.shape == targets.shape
        or find_stretched_dims(probed)
    ):
        return ""
    pairs = list(zip(outputs.shape, targets.shape, strict=True))
    if any(1 not in pair and pair[0] != pair[1] for pair in pairs):
        return ""
    base = probed.value(outputs, targets)
    dim = next(d for d, (o, t) in enumerate(pairs) if o != t)
    wide, narrow = (outputs, targets) if outputs.numel() > targets.numel() else (targets, outputs)
    several = "outputs" if wide is outputs else "targets"

    def loss_of(wide: Tensor, narrow: Tensor) -> float:
        given = (wide, narrow) if several == "outputs" else (narrow, wide)
        return probed.value(*given)

    def change(*places: int) -> Tensor:
        other = wide.clone()
        for place in places:
            other.select(dim, place).copy_(wide.select(dim, place).roll(1, 0))
        return other

    close = LOSS_CHANGE * max(abs(base), 1e-12)
    alike = (loss_of(wide, narrow.expand_as(wide)), loss_of(wide.roll(1, dim), narrow))
    if not all(abs(value - base) <= close for value in alike):
        return ""
    for power in (1.0, 2.0):
        places = ((0,), (1,), (0, 1))
        one, other, both = (loss_of(change(*p), narrow) ** power for p in places)
        start = base**power
        effect = max(abs(one - start), abs(other - start))
        if effect > 0 and abs(both - one - other + start) <= 1e-3 * effect:
            return several
    return ""


def _is_additive(probed: ProbedLoss, outputs: Tensor, dim: int, power: float) -> bool:
    """Whether two changed targets, or outputs, of a dimension add up in a power of the loss."""
    n, targets = outputs.shape[dim], probed.targets

    def loss_of(rows: tuple[int, ...], places: tuple[int, ...]) -> float:
        other_targets, other_outputs = targets.clone(), outputs.clone()
        for i in rows:
            other_targets.select(dim, i).copy_(targets.select(dim, (i + 2) % n))
        for i in places:
            other_outputs.select(dim, i).copy_(outputs.select(dim, (i + 2) % n))
        return probed.value(other_outputs, other_targets) ** power

    base = loss_of((), ())
    scale = max(abs(base), abs(loss_of((0,), ()) - base), abs(loss_of((), (0,)) - base))
    for pair in ((0, 1), (1, 3)):
        by_targets = loss_of(pair, ()) - loss_of(pair[:1], ()) - loss_of(pair[1:], ()) + base
        by_outputs = loss_of((), pair) - loss_of((), pair[:1]) - loss_of((), pair[1:]) + base
        if not abs(by_targets) + abs(by_outputs) <= 1e-4 * scale:
            return False
    return True

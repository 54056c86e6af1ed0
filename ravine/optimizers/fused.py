"""The update as the training loop makes it: in place, by the fastest way.

A network gets the same numbers whatever other networks are in the cohort: the way depends on the
rule and on the width of a row, never on the number of rows. Milliseconds are those of one thread of
an AMD EPYC, 1 MB of cache. Letters: P networks, W weights of one.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ravine.layout import Rows
from ravine.optimizers.adaptive import Adam, AdamW
from ravine.optimizers.sgd import SGD, Momentum
from ravine.part import is_zero, match, rows_of, with_shared_scalars
from ravine.protocols import Optimizer, State, StepContext

# Entries worked on at once, so that what a rule makes on its way stays in a core's cache: momentum
# on 32 x 270,000 takes 73 ms as whole matrices and 6 in blocks; smaller blocks are slower for
# calling more often.
ENTRIES_PER_BLOCK = 2**17
# Rows of at least these widths go one by one through torch's fused kernels, which read every matrix
# once:
ADAM_WIDTH = 1024  # 32 x 1,000: 0.11 ms by the rule, 0.09 by the kernel; 32 x 5,600: 0.45 and 0.15
SGD_WIDTH = 2**15  # 32 x 7,500: 0.10 ms in place, 0.11 by the kernel; 8 x 100,000: 0.41 and 0.19

# private in torch: without them the rules are used
SGD_KERNEL: Any = getattr(torch, "_fused_sgd_", None)
ADAM_KERNEL: Any = getattr(torch, "_fused_adam_", None)


def apply_update_(
    optimizer: Optimizer, rows: Rows, grads: Rows, *, state: State, context: StepContext
) -> None:
    """Make one update: write the new weights into `rows` and the new state into `state`.

    The same as `optimizer.update` bit for bit, except in a fused kernel, which rounds differently.
    """
    optimizer = _once(_Same(optimizer))
    if rows.shape[0] == 1 and isinstance(context.factor, Tensor):
        context = context._replace(factor=float(context.factor))
    in_place = _IN_PLACE.get(type(optimizer))
    if in_place is None or not in_place(optimizer, rows, grads, state=state, context=context):
        _by_rule_(optimizer, rows, grads, state=state, context=context)


class _Same:
    """A dictionary key that is equal only to itself, for parts that hold tensors."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value


@functools.lru_cache(maxsize=16)
def _once(optimizer: _Same) -> Any:
    return with_shared_scalars(optimizer.value)


def _by_rule_(
    optimizer: Optimizer, rows: Rows, grads: Rows, *, state: State, context: StepContext
) -> None:
    """Apply the pure rule, to as many rows at once as fit the cache."""
    networks, width = rows.shape
    size = max(1, ENTRIES_PER_BLOCK // max(width, 1))
    # a rule that reports does so for all networks at once; at the first step it may make its state
    whole = networks <= size or context.meter is not None or context.step == 1
    if whole or rows.device.type != "cpu":
        new, changed = optimizer.update(rows, grads, state, context)
        rows.copy_(new)
        state.update(changed)
        return
    for at, block in enumerate(_blocks(_Same(optimizer), networks, size)):
        here = slice(at * size, (at + 1) * size)
        kept = {name: value[here] for name, value in state.items()}
        new, changed = block.update(rows[here], grads[here], kept, _at(context, here))
        rows[here].copy_(new)
        for name, value in changed.items():
            kept[name].copy_(value)


@functools.lru_cache(maxsize=16)
def _blocks(optimizer: _Same, networks: int, size: int) -> list[Any]:
    return [
        with_shared_scalars(rows_of(optimizer.value, torch.arange(networks)[at : at + size]))
        for at in range(0, networks, size)
    ]


def _at(context: StepContext, here: slice) -> StepContext:
    """The context of some of the networks."""
    own = isinstance(context.factor, Tensor) and context.factor.shape[0] > 1
    return context._replace(factor=context.factor[here]) if own else context


def _descend_(
    optimizer: SGD | Momentum, rows: Rows, grads: Rows, *, state: State, context: StepContext
) -> bool:
    """SGD and torch's form of momentum. Returns whether it made the update."""
    if isinstance(optimizer, Momentum) and optimizer.form != "outside":
        return False
    if rows.shape[1] >= SGD_WIDTH and _fits(SGD_KERNEL, rows, context):
        _descend_by_kernel_(optimizer, rows, grads, state=state, context=context)
        return True
    if not isinstance(optimizer, Momentum) or rows.device.type != "cpu":
        return False
    grads = optimizer.add_decay(rows, grads, context)
    momentum = match(optimizer.momentum, rows)
    if context.step > 1 and not is_zero(optimizer.dampening):
        grads = match(1 - optimizer.dampening, rows) * grads
    rate = context.rate(optimizer.lr, rows)
    size = max(1, ENTRIES_PER_BLOCK // max(rows.shape[1], 1))
    if rows.shape[0] <= size:
        rows.sub_(rate * state["velocity"].mul_(momentum).add_(grads))
        return True
    for at in range(0, rows.shape[0], size):
        here = slice(at, at + size)
        moved = state["velocity"][here].mul_(_of(momentum, here)).add_(grads[here])
        rows[here].sub_(_of(rate, here) * moved)
    return True


def _descend_by_kernel_(
    optimizer: SGD | Momentum, rows: Rows, grads: Rows, *, state: State, context: StepContext
) -> None:
    networks = rows.shape[0]
    rates = _list(optimizer.lr * context.factor, networks)
    pulls = _list(optimizer.weight_decay, networks)
    momenta = dampings = [0.0] * networks
    velocities = [[]] * networks
    if isinstance(optimizer, Momentum):
        momenta = _list(optimizer.momentum, networks)
        dampings = _list(optimizer.dampening, networks)
        velocities = [[v] for v in state["velocity"].unbind()]
    if context.meter is not None:
        optimizer.add_decay(rows, grads, context)  # to report
    unused = {"weight_decay": 0.0, "nesterov": False, "maximize": False}
    first = context.step == 1
    for w, g, v, rate, momentum, damping, pull in zip(
        rows.unbind(), grads.unbind(), velocities, rates, momenta, dampings, pulls, strict=True
    ):
        g = torch.addcmul(g, context.decay_mask[0], w, value=pull) if pull else g
        moving = {"momentum": momentum, "dampening": damping, "is_first_step": first}
        SGD_KERNEL([w], [g], v, lr=rate, **moving, **unused)


def _of(number: Any, here: slice) -> Any:
    return number[here] if isinstance(number, Tensor) and number.shape[0] > 1 else number


def _adam_(
    optimizer: Adam | AdamW, rows: Rows, grads: Rows, *, state: State, context: StepContext
) -> bool:
    """Adam as in torch, by the fused kernel. Returns whether it made the update."""
    if rows.shape[1] < ADAM_WIDTH or not _fits(ADAM_KERNEL, rows, context):
        return False
    if isinstance(optimizer, Adam):
        if optimizer.eps_at != "outside" or not optimizer.bias_correction or optimizer.amsgrad:
            return False
    networks = rows.shape[0]
    rates = _list(optimizer.lr * context.factor, networks)
    epses = _list(optimizer.eps, networks)
    betas = zip(_list(optimizer.beta1, networks), _list(optimizer.beta2, networks), strict=True)
    coupled = isinstance(optimizer, Adam)
    decays = _list(optimizer.weight_decay if coupled else optimizer.share(context.factor), networks)
    if context.meter is not None:  # to report
        optimizer.update(rows, grads, state, context)
    step = torch.tensor(float(context.step))
    moments = (state["mean"].unbind(), state["square"].unbind())
    matrices = zip(rows.unbind(), grads.unbind(), *moments, strict=True)
    numbers = zip(rates, betas, epses, decays, strict=True)
    unused = {"weight_decay": 0.0, "amsgrad": False, "maximize": False}
    for (w, g, m, v), (rate, (beta1, beta2), eps, decay) in zip(matrices, numbers, strict=True):
        if decay and coupled:
            g = torch.addcmul(g, context.decay_mask[0], w, value=decay)
        elif decay:
            w.addcmul_(context.decay_mask[0], w, value=-decay)
        settings = {"lr": rate, "beta1": beta1, "beta2": beta2, "eps": eps}
        ADAM_KERNEL([w], [g], [m], [v], [], [step], **settings, **unused)
    return True


_IN_PLACE: Mapping[type, Any] = {SGD: _descend_, Momentum: _descend_, Adam: _adam_, AdamW: _adam_}


def _fits(kernel: Callable | None, rows: Rows, context: StepContext) -> bool:
    """Whether torch has a kernel for this update: one rate for all weights, on a CPU."""
    on_cpu = rows.device.type == "cpu" and rows.is_contiguous()
    return kernel is not None and on_cpu and context.lr_multipliers is None


def _list(number: Any, networks: int) -> list[float]:
    """A Number as a float for each network."""
    return number.flatten().tolist() if isinstance(number, Tensor) else [number] * networks

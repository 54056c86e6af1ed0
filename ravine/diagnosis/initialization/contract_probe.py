"""Whether torch's loss functions get what they are made for: their calls within a loss, wherever it
makes them, are recorded with their arguments, and held to what each function expects.

Letters: N examples, T places, K classes, S targets of a sequence.
"""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ravine.diagnosis.initialization.forward_trace import function_name
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import BrokenContract
from ravine.rng import seed_generators

Arguments: TypeAlias = Mapping[str, Any]  # of one call, by name

POSITIVE_LOGARITHM = 1e-4  # above 0 by more than rounding
SUM_ERROR = 0.05  # by which the logarithm of a sum of probabilities misses 0
SHIFT_GRADIENT = 0.05  # of the gradient's size: what a number added to all logits changes
CLAMPED_VARIANCES = 0.1  # share that is at its lower bound, where it has no gradient
IMPOSSIBLE_TARGETS = 0.1  # share of sequences too short for their targets
SIGN_LOSSES = ("cosine_embedding_loss", "hinge_embedding_loss")  # of two inputs, or a distance


class _LossCalls(TorchFunctionMode):
    """Records the calls of loss functions that have a contract."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Arguments]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function_name(func)
        if name in CONTRACTS and inspect.isfunction(func):  # built-in forms have no signature
            bound = inspect.signature(func).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            self.calls.append((name, bound.arguments))
        return func(*args, **(kwargs or {}))


def probe_contracts(program: ProbedProgram) -> tuple[BrokenContract, ...] | None:
    """What loss functions of torch get that they are not made for; None where none is called."""
    seed_generators(program.seed)
    with _LossCalls() as recorder:
        loss = program.loss(program.model(program.inputs), program.targets)
    found = (
        broken
        for name, arguments in recorder.calls
        for broken in CONTRACTS[name](name, arguments, loss.sum())
    )
    return tuple({(b.function, b.what): b for b in found}.values()) if recorder.calls else None


def _check_signs(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    """Targets are -1 and 1. Zeros beside both may be left out on purpose, and so may ties; zeros of
    vectors that are compared with given ones may be a mask.
    """
    y = call["target"]
    odd = (y != 1) & (y != -1) if name in SIGN_LOSSES else y == 0
    if bool((y == -1).any()) or not bool(odd.any()):
        return
    maybe_ties = name == "margin_ranking_loss"
    maybe_masked = name == "cosine_embedding_loss" and not (
        call["input1"].requires_grad and call["input2"].requires_grad
    )
    severity = "note" if maybe_ties or maybe_masked else "error"
    change = "2 * y - 1 for targets of 0 and 1"
    yield BrokenContract(name, "targets that are neither -1 nor 1", _share(odd), change, severity)


def _check_labels(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    y = call["target"]
    outside = (y < 0) | (y > 1)
    if bool(outside.any()):
        yield BrokenContract(name, "targets outside 0 to 1", _share(outside), "targets of 0 and 1")


def _check_places(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    """Targets name each class once, then -1 follows: not a 0 or 1 for each class."""
    rows = torch.atleast_2d(call["target"])
    named = rows.eq(-1).cumsum(1) == 0
    twice = torch.stack(
        [row[own].unique().numel() < own.sum() for row, own in zip(rows, named, strict=True)]
    )
    if bool(twice.any()):
        change = "the numbers of the classes that apply, then -1; or nn.MultiLabelSoftMarginLoss()"
        yield BrokenContract(name, "examples that name a class twice", _share(twice), change)


def _check_counts(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    y, out = call["target"], call["input"]
    if bool((y < 0).any()):
        cause = "labels" if bool((y == y.round()).all()) else "target-scale"
        change = "counts as they are, 0 or more: not standardized"
        yield BrokenContract(name, "targets below 0", _share(y < 0), change, cause=cause)
    if not call["log_input"] and bool((out < 0).any()):
        what, change = "rates below 0", "log_input=True, or a softplus at the output"
        yield BrokenContract(name, what, _share(out < 0), change, cause="output-activation")


def _check_variances(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    var = call["var"]
    if isinstance(var, Tensor) and var.requires_grad:
        low = var <= call["eps"]
        if _share(low) > CLAMPED_VARIANCES:
            what, change = "variances at their lower bound", "softplus or exp for the variance"
            cause = "output-activation"
            yield BrokenContract(name, what, _share(low), change, "warning", cause)


def _check_logarithms(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    """Inputs are log-probabilities: numbers above 0 whose exponentials sum to something else, and
    whose sum matters to the loss: to a cross entropy written out it does not.
    """
    out = call["log_probs"] if name == "ctc_loss" else call["input"]
    axes = [-1] if name == "ctc_loss" else [min(1, out.dim() - 1)]
    if name == "kl_div":
        target = call["target"]
        logs = target.exp() if call["log_target"] else target
        if target.requires_grad and not out.requires_grad and bool((out >= 0).all()):
            change = "F.kl_div(log-probabilities, targets): the outputs come first"
            yield BrokenContract(name, "the targets as its inputs", 100.0, change, cause="loss")
            return
        if call["log_target"] and bool((target >= 0).all()) and _unit_axes(target):
            change = "log_target=False, or the logarithm of the targets"
            yield BrokenContract(name, "targets that are no logarithms", 100.0, change)
        elif bool((logs < 0).any()):
            change = "log_target=True, or targets that are probabilities"
            yield BrokenContract(name, "targets below 0", _share(logs < 0), change)
        axes = _unit_axes(target.exp() if bool((target <= 0).all()) else target)
    unlike = [bool(out.logsumexp(a).abs().median() > SUM_ERROR) for a in axes]
    above = bool((out > POSITIVE_LOGARITHM).any())
    if not axes or not all(unlike) or not above or not out.requires_grad:
        return
    (slope,) = torch.autograd.grad(loss, out, retain_graph=True, allow_unused=True)
    if slope is None or any(
        slope.sum(a).abs().mean() <= SHIFT_GRADIENT * slope.abs().sum(a).mean() for a in axes
    ):
        return
    what, change = "inputs above 0, which no log-probability is", "log_softmax before it"
    shares = bool(((out >= 0) & (out <= 1)).all())
    severity = "warning" if shares else "error"
    yield BrokenContract(name, what, _share(out > 0), change, severity, "loss")


def _check_sequences(name: str, call: Arguments, loss: Tensor) -> Iterator[BrokenContract]:
    """Besides, targets have no blank, and inputs as many places as targets and repeats need."""
    yield from _check_logarithms(name, call, loss)
    sizes, places = (torch.as_tensor(call[f"{k}_lengths"]).tolist() for k in ("target", "input"))
    y = call["targets"]
    pad = y.dim() == 2
    rows = [r[:n] for r, n in zip(y, sizes, strict=True)] if pad else list(y.split(sizes))
    blank = sum(int((r == call["blank"]).sum()) for r in rows)
    if blank:
        share, change = 100 * blank / max(1, sum(sizes)), "classes from 1, and 0 for the blank"
        yield BrokenContract(name, "targets that are the blank", share, change)
    needed = [len(r) + sum(a == b for a, b in itertools.pairwise(r.tolist())) for r in rows]
    short = [n > there for n, there in zip(needed, places, strict=True)]
    if sum(short) > IMPOSSIBLE_TARGETS * len(short):
        share, change = 100 * sum(short) / len(short), "fewer strides, or input_lengths in places"
        what = "sequences that are too short for their targets"
        yield BrokenContract(name, what, share, change, cause="data-degenerate")


def _unit_axes(target: Tensor) -> list[int]:
    """The dimensions along which targets sum to 1."""
    some = range(1, target.dim()) if target.dim() > 1 else range(1)
    return [a for a in some if bool(((target.sum(a) - 1).abs() < SUM_ERROR).all())]


def _share(where: Tensor) -> float:
    return 100 * float(where.double().mean())


CONTRACTS: Mapping[str, Callable[[str, Arguments, Tensor], Iterator[BrokenContract]]] = {
    **dict.fromkeys((*SIGN_LOSSES, "margin_ranking_loss", "soft_margin_loss"), _check_signs),
    "multilabel_soft_margin_loss": _check_labels,
    "multilabel_margin_loss": _check_places,
    "poisson_nll_loss": _check_counts,
    "gaussian_nll_loss": _check_variances,
    **dict.fromkeys(("nll_loss", "kl_div"), _check_logarithms),
    "ctc_loss": _check_sequences,
}

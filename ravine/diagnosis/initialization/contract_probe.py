"""Whether torch's loss functions, and masks of attention, get what they are made for."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ravine.diagnosis.initialization.forward_trace import function_name
from ravine.diagnosis.initialization.probed_program import ProbedProgram
from ravine.diagnosis.initialization.profile import BrokenContract
from ravine.rng import seed_generators

Arguments: TypeAlias = Mapping[str, Any]  # of one call, by name; and the inputs of the model
Fault: TypeAlias = tuple[Tensor, BrokenContract]  # of which examples or numbers it is true

POSITIVE_LOGARITHM = 1e-4  # above 0 by more than rounding
SUM_ERROR = 0.05  # by which the logarithm of a sum of probabilities misses 0
SHIFT_GRADIENT = 0.05  # of the gradient's size: what a number added to all logits changes
CLAMPED_VARIANCES = 0.1  # share that is at its lower bound, where it has no gradient
ZEROED_SEQUENCES = 0.1  # share that zero_infinity may leave out


class _CallRecorder(TorchFunctionMode):
    """Records the calls of the functions that are checked."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs
        self.calls: list[tuple[str, Arguments]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function_name(func)
        if name in CONTRACT_CHECKS and inspect.isfunction(func):  # a built-in has no signature
            bound = inspect.signature(func).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            self.calls.append((name, {**bound.arguments, "model_inputs": self.inputs}))
        return func(*args, **(kwargs or {}))


def probe_contracts(program: ProbedProgram) -> tuple[BrokenContract, ...] | None:
    """What functions of torch get that they are not made for; None where none is called."""
    seed_generators(program.seed)
    with _CallRecorder(program.inputs) as recorder:
        loss = program.loss(program.model(program.inputs), program.targets).sum()
    found: dict[tuple[str, str], BrokenContract] = {}
    for name, call in recorder.calls:
        for where, broken in CONTRACT_CHECKS[name](name, call, loss):
            if bool(where.any()):
                share = 100 * float(where.double().mean())
                found[name, broken.what] = replace(broken, function=name, share=share)
    return tuple(found.values()) if recorder.calls else None


def _check_signs(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    """Zeros beside -1 and 1 may be left out, or ties; beside given vectors they may be a mask."""
    y = call["target"]
    odd = y == 0 if name in ("margin_ranking_loss", "soft_margin_loss") else y != 1
    both_learn = all(call[n].requires_grad for n in ("input1", "input2") if n in call)
    severity = "error" if both_learn and name != "margin_ranking_loss" else "note"
    what, change = "targets that are neither -1 nor 1", "2 * y - 1 for targets of 0 and 1"
    if not bool((y == -1).any()):
        yield odd, BrokenContract(what, change, severity)


def _check_labels(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    y = call["target"]
    if name == "multilabel_soft_margin_loss":
        yield (y < 0) | (y > 1), BrokenContract("targets outside 0 to 1", "targets of 0 and 1")
        return
    named = torch.atleast_2d(y).eq(-1).cumsum(1) == 0  # the classes of an example, then -1
    pairs = zip(torch.atleast_2d(y), named, strict=True)
    twice = torch.stack([row[own].unique().numel() < own.sum() for row, own in pairs])
    change = "the numbers of the classes that apply, then -1; or nn.MultiLabelSoftMarginLoss()"
    yield twice, BrokenContract("examples that name a class twice", change)


def _check_numbers(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    y, out, var = call["target"], call["input"], call.get("var")
    if name == "poisson_nll_loss":
        cause = "labels" if bool((y == y.round()).all()) else "target-scale"
        change = "counts, 0 or more: not standardized"
        yield y < 0, BrokenContract("targets below 0", change, cause=cause)
        if not call["log_input"]:
            change = "log_input=True, or a softplus at the output"
            yield out < 0, BrokenContract("rates below 0", change, cause="output-activation")
    elif isinstance(var, Tensor) and var.requires_grad:
        low, change = var <= call["eps"], "softplus or exp for the variance"
        if float(low.double().mean()) > CLAMPED_VARIANCES:
            what, cause = "variances at their lower bound", "output-activation"
            yield low, BrokenContract(what, change, "warning", cause)


def _check_logarithms(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    """Numbers above 0 whose exponentials sum to something else than 1, and whose sum matters to the
    loss, are no log-probabilities; in a cross entropy written out it does not matter.
    """
    if name == "nll_loss" and call["reduction"] == "none":  # perhaps what picks a number
        return
    out = call["log_probs"] if name == "ctc_loss" else call["input"]
    axes = [-1] if name == "ctc_loss" else [min(1, out.dim() - 1)]
    if name == "kl_div":
        y, logs = call["target"], call["log_target"]
        if y.requires_grad and not out.requires_grad and bool((out >= 0).all()):
            what, change = "the targets as its inputs", "the outputs first"
            yield out >= 0, BrokenContract(what, change, cause="loss")
            return
        if logs and bool((y >= 0).all()) and _unit_axes(y):
            what = "targets that are no logarithms"
            yield y >= 0, BrokenContract(what, "the logarithm of the targets")
        change = "probabilities, or log_target=True"
        yield (y < 0) & (not logs), BrokenContract("targets below 0", change)
        axes = _unit_axes(y.exp() if bool((y <= 0).all()) else y)
    unlike = [bool(out.logsumexp(a).abs().median() > SUM_ERROR) for a in axes]
    above = out > POSITIVE_LOGARITHM
    if not axes or not all(unlike) or not bool(above.any()) or not out.requires_grad:
        return
    (slope,) = torch.autograd.grad(loss, out, retain_graph=True, allow_unused=True)
    if slope is not None and all(
        slope.sum(a).abs().mean() > SHIFT_GRADIENT * slope.abs().sum(a).mean() for a in axes
    ):
        severity = "warning" if bool(((out >= 0) & (out <= 1)).all()) else "error"
        what = "inputs above 0, no log-probabilities"
        yield above, BrokenContract(what, "log_softmax first", severity, "loss")


def _check_sequences(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    yield from _check_logarithms(name, call, loss)
    sizes, places = (torch.as_tensor(call[f"{k}_lengths"]).tolist() for k in ("target", "input"))
    y = call["targets"]
    rows = [r[:n] for r, n in zip(y, sizes, strict=True)] if y.dim() == 2 else [*y.split(sizes)]
    blank, change = torch.cat(rows) == call["blank"], "classes from 1, and 0 for the blank"
    yield blank, BrokenContract("targets that are the blank", change)
    needed = [len(r) + sum(a == b for a, b in itertools.pairwise(r.tolist())) for r in rows]
    short = torch.tensor([n > there for n, there in zip(needed, places, strict=True)])
    if not call["zero_infinity"] or float(short.double().mean()) > ZEROED_SEQUENCES:
        what = "sequences that are too short for their targets"
        yield short, BrokenContract(what, "fewer strides", cause="data-degenerate")


def _check_padding(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    """Masks are True where attention does not look: not at all but one token, which ends rows, or
    begins them, more often in some rows than in others.
    """
    x, mask = call["model_inputs"], call["key_padding_mask"]
    if mask is None or x.dim() not in (2, 3) or mask.shape != x.shape[:2]:
        return
    hidden = mask if mask.dtype == torch.bool else mask < 0
    rows = x.reshape(*mask.shape, -1)
    seen, others = rows[~hidden], rows[hidden]
    ends_rows = bool((hidden[:, :-1] | ~hidden[:, 1:]).all())
    begins_rows = bool((hidden[:, 1:] | ~hidden[:, :-1]).all()) and len(hidden.sum(1).unique()) > 1
    at_an_end = (ends_rows or begins_rows) and len(seen) and len(others)
    one_is_seen = at_an_end and bool((seen == seen[0]).all())
    if one_is_seen and bool((others != seen[0]).any(1).all()) and len(others.unique(dim=0)) > 1:
        what, change = "a mask of all but the padding", "mask = tokens == padding: True is left out"
        yield hidden, BrokenContract(what, change, cause="data-degenerate")


def _unit_axes(y: Tensor) -> list[int]:
    """The dimensions along which targets sum to 1."""
    some = range(min(1, y.dim() - 1), y.dim())
    return [a for a in some if bool(((y.sum(a) - 1).abs() < SUM_ERROR).all())]


CONTRACT_CHECKS: Mapping[str, Callable[[str, Arguments, Tensor], Iterator[Fault]]] = {
    **dict.fromkeys(("cosine_embedding_loss", "hinge_embedding_loss"), _check_signs),
    **dict.fromkeys(("margin_ranking_loss", "soft_margin_loss"), _check_signs),
    **dict.fromkeys(("multilabel_soft_margin_loss", "multilabel_margin_loss"), _check_labels),
    **dict.fromkeys(("poisson_nll_loss", "gaussian_nll_loss"), _check_numbers),
    **dict.fromkeys(("nll_loss", "kl_div"), _check_logarithms),
    "ctc_loss": _check_sequences,
    "multi_head_attention_forward": _check_padding,
}

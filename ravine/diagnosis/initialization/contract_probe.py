"""Whether torch's loss functions, and masks of attention, get what they are made for, wherever
model and loss call them.
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
# what is not made for the function, where it is so, what to do, severity and cause
Fault: TypeAlias = tuple[str, Tensor, str, str, str]

POSITIVE_LOGARITHM = 1e-4  # above 0 by more than rounding
SUM_ERROR = 0.05  # by which the logarithm of a sum of probabilities misses 0
SHIFT_GRADIENT = 0.05  # of the gradient's size: what a number added to all logits changes
CLAMPED_VARIANCES = 0.1  # share that is at its lower bound, where it has no gradient

ZEROED_SEQUENCES = 0.1  # share that zero_infinity may leave out


class _LossCalls(TorchFunctionMode):
    """Records the calls of loss functions, with their arguments and the model's inputs by name."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.inputs = inputs
        self.calls: list[tuple[str, Arguments]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function_name(func)
        if name in LOSS_CONTRACTS and inspect.isfunction(func):  # a built-in has no signature
            bound = inspect.signature(func).bind(*args, **(kwargs or {}))
            bound.apply_defaults()
            self.calls.append((name, {**bound.arguments, "model_inputs": self.inputs}))
        return func(*args, **(kwargs or {}))


def probe_contracts(program: ProbedProgram) -> tuple[BrokenContract, ...] | None:
    """What loss functions of torch get that they are not made for; None where none is called."""
    seed_generators(program.seed)
    with _LossCalls(program.inputs) as recorder:
        loss = program.loss(program.model(program.inputs), program.targets).sum()
    found: dict[tuple[str, str], BrokenContract] = {}
    for name, call in recorder.calls:
        for what, where, change, severity, cause in LOSS_CONTRACTS[name](name, call, loss):
            if bool(where.any()):
                share = 100 * float(where.double().mean())
                found[name, what] = BrokenContract(name, what, share, change, severity, cause)
    return tuple(found.values()) if recorder.calls else None


def _check_signs(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    """Zeros beside -1 and 1 may be left out on purpose, and so may ties; zeros of vectors that are
    compared with given ones may be a mask.
    """
    y, zeros_alone = call["target"], name in ("margin_ranking_loss", "soft_margin_loss")
    odd = y == 0 if zeros_alone else (y != 1) & (y != -1)
    one_learns = name == "cosine_embedding_loss" and not (
        call["input1"].requires_grad and call["input2"].requires_grad
    )
    severity = "note" if one_learns or name == "margin_ranking_loss" else "error"
    what, change = "targets that are neither -1 nor 1", "2 * y - 1 for targets of 0 and 1"
    if not bool((y == -1).any()):
        yield what, odd, change, severity, "labels"


def _check_labels(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    y, change = call["target"], "targets of 0 and 1"
    if name == "multilabel_soft_margin_loss":
        yield "targets outside 0 to 1", (y < 0) | (y > 1), change, "error", "labels"
        return
    named = torch.atleast_2d(y).eq(-1).cumsum(1) == 0  # the classes of an example, then -1
    pairs = zip(torch.atleast_2d(y), named, strict=True)
    twice = torch.stack([row[own].unique().numel() < own.sum() for row, own in pairs])
    change = "the numbers of the classes that apply, then -1; or nn.MultiLabelSoftMarginLoss()"
    yield "examples that name a class twice", twice, change, "error", "labels"


def _check_numbers(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    y, out, var = call["target"], call["input"], call.get("var")
    if name == "poisson_nll_loss":
        cause = "labels" if bool((y == y.round()).all()) else "target-scale"
        yield "targets below 0", y < 0, "counts, 0 or more: not standardized", "error", cause
        change, below = "log_input=True, or a softplus at the output", out < 0
        if not call["log_input"]:
            yield "rates below 0", below, change, "error", "output-activation"
    elif isinstance(var, Tensor) and var.requires_grad:
        low, change = var <= call["eps"], "softplus or exp for the variance"
        if float(low.double().mean()) > CLAMPED_VARIANCES:
            yield "variances at their lower bound", low, change, "warning", "output-activation"


def _check_logarithms(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    """Numbers above 0 whose exponentials sum to something else than 1, and whose sum matters to the
    loss, are no log-probabilities; in a cross entropy written out it does not matter.
    """
    out = call["log_probs"] if name == "ctc_loss" else call["input"]
    axes = [-1] if name == "ctc_loss" else [min(1, out.dim() - 1)]
    if name == "kl_div":
        y, logs = call["target"], call["log_target"]
        below = (y.exp() if logs else y) < 0
        if y.requires_grad and not out.requires_grad and bool((out >= 0).all()):
            yield "the targets as its inputs", out >= 0, "the outputs first", "error", "loss"
            return
        if logs and bool((y >= 0).all()) and _unit_axes(y):
            what, change = "targets that are no logarithms", "the logarithm of the targets"
            yield what, y >= 0, change, "error", "labels"
        yield "targets below 0", below, "probabilities, or log_target=True", "error", "labels"
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
        yield "inputs above 0, no log-probabilities", above, "log_softmax first", severity, "loss"


def _check_sequences(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    yield from _check_logarithms(name, call, loss)
    sizes, places = (torch.as_tensor(call[f"{k}_lengths"]).tolist() for k in ("target", "input"))
    y = call["targets"]
    rows = [r[:n] for r, n in zip(y, sizes, strict=True)] if y.dim() == 2 else [*y.split(sizes)]
    blank, change = torch.cat(rows) == call["blank"], "classes from 1, and 0 for the blank"
    yield "targets that are the blank", blank, change, "error", "labels"
    needed = [len(r) + sum(a == b for a, b in itertools.pairwise(r.tolist())) for r in rows]
    short = torch.tensor([n > there for n, there in zip(needed, places, strict=True)])
    what, change = "sequences that are too short for their targets", "fewer strides"
    if not call["zero_infinity"] or float(short.double().mean()) > ZEROED_SEQUENCES:
        yield what, short, change, "error", "data-degenerate"


def _check_padding(name: str, call: Arguments, loss: Tensor) -> Iterator[Fault]:
    """Masks are True where attention does not look: not at all but one token, which ends rows."""
    x, mask = call["model_inputs"], call["key_padding_mask"]
    if mask is None or x.dim() not in (2, 3) or mask.shape != x.shape[:2]:
        return
    hidden = mask if mask.dtype == torch.bool else mask < 0
    rows = x.reshape(*mask.shape, -1)
    seen, others = rows[~hidden], rows[hidden]
    ends_rows = bool((hidden[:, :-1] | ~hidden[:, 1:]).all()) and len(seen) and len(others)
    one_is_seen = ends_rows and bool((seen == seen[0]).all())
    if one_is_seen and bool((others != seen[0]).any(1).all()) and len(others.unique(dim=0)) > 1:
        change = "mask = tokens == padding: True is left out"
        yield "a mask of all but the padding", hidden, change, "error", "data-degenerate"


def _unit_axes(y: Tensor) -> list[int]:
    """The dimensions along which targets sum to 1."""
    some = range(min(1, y.dim() - 1), y.dim())
    return [a for a in some if bool(((y.sum(a) - 1).abs() < SUM_ERROR).all())]


LOSS_CONTRACTS: Mapping[str, Callable[[str, Arguments, Tensor], Iterator[Fault]]] = {
    **dict.fromkeys(("cosine_embedding_loss", "hinge_embedding_loss"), _check_signs),
    **dict.fromkeys(("margin_ranking_loss", "soft_margin_loss"), _check_signs),
    **dict.fromkeys(("multilabel_soft_margin_loss", "multilabel_margin_loss"), _check_labels),
    **dict.fromkeys(("poisson_nll_loss", "gaussian_nll_loss"), _check_numbers),
    **dict.fromkeys(("nll_loss", "kl_div"), _check_logarithms),
    "ctc_loss": _check_sequences,
    "multi_head_attention_forward": _check_padding,
}

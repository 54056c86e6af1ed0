"""Probe a model and its loss before the first step: `read_start` runs copies of the model and says
what came out.

Nothing that is given changes: models are copied, random numbers are drawn apart, no gradient is
left behind. What breaks in a probe is not measured. Letters: N examples, n of them in a probe, T
places, K outputs.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ravine.diagnosis.initialization import loss_probe
from ravine.diagnosis.initialization.forward_trace import (
    LOOKUPS,
    PRODUCTS,
    RECTIFIERS,
    UNITS,
    Call,
    Lineage,
    Ran,
    Trace,
    apart,
    by_unit,
    differs,
    first_apart,
    first_call_apart,
    root_mean_square,
    traced,
)
from ravine.diagnosis.initialization.rules import Active, Constant, Layer, Normed, Place, Start
from ravine.diagnosis.training_loop.tensor_stats import fresh
from ravine.rng import isolated_rng, seed_generators

Loss = Callable[[Tensor, Tensor], Tensor]

EXAMPLES = 256  # that are looked at
NUMBERS = 2**18  # numbers that their inputs have at most
FEWEST = 16  # examples, however large
SIZES = (
    7,
    11,
    13,
    17,
    5,
)  # examples of a small batch: one that is no other size of inputs, outputs or targets
STEPS = 4  # small steps after which what did not move does not move
STRIDE = 1e-2  # their length, of a usual weight
ALIKE = 1e-6  # of the largest output: outputs that are equal but for rounding
COPIES = 1e-3  # of what they moved: rows that are equal but for rounding
HALF = 0.5  # share of a layer's units
FLAT = 0.05  # of an activation's steepest slope
NEXT = 0.99  # share of targets that are the next input
BATCHES, BATCH = 30, 32  # that batch normalization sees
DEEP = 4  # layers that a signal goes through, for a slope
MASKED = -1e4  # scores below are masked out
MANY = 100  # classes that are told apart
SIZED = 512  # rows of a weight matrix that are compared


@dataclass
class Subject:
    """What is probed: a copy in evaluation mode, the examples, and the outputs of all."""

    model: nn.Module
    loss: Loss
    inputs: Tensor
    targets: Tensor
    seed: int
    outputs: Tensor = field(default_factory=lambda: torch.zeros(0))
    trace: Trace = field(default_factory=Trace)  # of the forward pass that made them

    def run(self, inputs: Tensor, model: nn.Module | None = None) -> Tensor:
        """Outputs for some inputs, with the same random numbers every time. Raises for what is no
        tensor.
        """
        return self.traced(inputs, model, keep=False).output

    def traced(self, inputs: Tensor, model: nn.Module | None = None, *, keep: bool) -> Trace:
        """The same, with all that was seen of the pass."""
        seed_generators(self.seed)
        trace = traced(self.model if model is None else model, inputs, keep=keep)
        if not isinstance(trace.output, Tensor):
            raise TypeError(f"the model gives a {type(trace.output).__name__}, not a tensor")
        return trace

    def small(self) -> Tensor:
        """The places [n] of a few examples, evenly spread, as many as no other dimension is
        long.
        """
        others = {*self.inputs.shape[1:], *self.targets.shape[1:], *self.outputs.shape[1:]}
        size = next((s for s in SIZES if s not in others), SIZES[0])
        return torch.linspace(0, len(self.inputs) - 1, min(size, len(self.inputs))).round().long()

    def copy(self, *, training: bool) -> nn.Module:
        """A fresh copy; in training mode with dropout left out."""
        model = copy.deepcopy(self.model).train(training)
        for module in model.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        return model


def read_start(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    *,
    validation: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
) -> Start:
    """Probe a model and a loss on some training examples (256 are looked at). It never raises: see
    `Start.broke`.

    `validation` examples are held to be of the same kind and are only looked at for numbers that
    are not finite.

    >>> net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    >>> start = read_start(net, lambda out, y: ((out - y) ** 2).mean(), x, x[:, 0])
    >>> start.pairing.all, start.mixing
    (True, None)
    """
    with isolated_rng(seed), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured: dict[str, bool | None] = {}
        broke: dict[str, str] = {}
        figures: dict[str, Any] = {}
        try:
            subject = prepared(model, loss, inputs, targets, seed)
        except Exception as error:
            return Start(measured={"outputs": False}, broke={"outputs": said(error)})
        for name, probe in PROBES.items():
            try:
                found = probe(subject)
            except Exception as error:
                measured[name], broke[name] = False, said(error)
            else:
                measured[name] = None if found is None else True
                figures |= found or {}
        if validation is not None and not bool(torch.isfinite(validation[0].float()).all()):
            figures.setdefault("not_finite", "validation inputs")
        return Start(measured=measured, broke=broke, examples=len(subject.inputs), **figures)


def said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def prepared(model: nn.Module, loss: Loss, inputs: Tensor, targets: Tensor, seed: int) -> Subject:
    """The subject with its outputs. Raises what the model raises, and for outputs that are no
    tensor.
    """
    count = min(len(inputs), EXAMPLES, max(FEWEST, NUMBERS * len(inputs) // max(1, inputs.numel())))
    rows = torch.linspace(0, len(inputs) - 1, count).round().long()
    own = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
    model = getattr(
        model, "_orig_mod", model
    )  # what was compiled: compiling anew for every probe takes long
    subject = Subject(
        copy.deepcopy(model).eval(), own, inputs[rows].detach(), targets[rows].detach(), seed
    )
    subject.trace = subject.traced(subject.inputs, keep=True)
    subject.outputs = subject.trace.output
    return subject


# Do examples keep apart?


def mixing(subject: Subject) -> dict[str, Any] | None:
    """Change some examples of a batch: does the answer to another one change?"""
    rows = subject.small()
    n = len(rows)
    base = subject.inputs[rows]
    others = subject.inputs[(rows + len(subject.inputs) // 2) % len(subject.inputs)]
    generator = torch.Generator().manual_seed(subject.seed)
    changed = torch.randperm(n, generator=generator)[: n // 2].tolist()
    spread = float(subject.outputs.detach().double().std()) or 1.0
    for some in (changed, [i for i in range(n) if i not in changed]):
        given = base.clone()
        given[some] = others[some]
        if bool((given == base).all()):
            return None
        still = [i for i in range(n) if i not in some]
        one, other = subject.traced(base, keep=True), subject.traced(given, keep=True)
        if bool(differs(one.output, subject.run(base)).any()) or n in one.output.shape[1:]:
            return None  # random past all seeds, or outputs that are pairs of examples
        kept = apart(one.output, other.output, still, n)
        if kept is None:
            return None
        if not kept:
            unlike = (one.output - other.output).detach().abs()
            return {"mixing": place(one, other, still, n, float(unlike.max()) / spread)}
    return {}


def place(one: Trace, other: Trace, still: list[int], size: int, much: float) -> Place:
    """Where two passes first differ at places that should be equal."""
    ran = first_apart(one, other, still, size)
    function = first_call_apart(one, other, still, size)
    return Place(
        where=ran.where if ran else "", kind=ran.kind if ran else "", function=function, size=much
    )


def causality(subject: Subject) -> dict[str, Any] | None:
    """Where targets are the inputs one later: change later inputs; does an earlier output
    change?
    """
    x, y = subject.inputs, subject.targets
    if not follows(x, y) or x.shape[1] < 3:
        return None
    places = x.shape[1]
    few = subject.small()
    base, others = x[few], x[(few + len(x) // 2) % len(x)]
    for cut in (places // 2, places - 1, 1):
        given = base.clone()
        given[:, cut:] = others[:, cut:]
        if bool((given == base).all()):
            given[:, cut:] = base[:, cut:].roll(1, 0)
        one, other = subject.traced(base, keep=True), subject.traced(given, keep=True)
        kept = apart(one.output, other.output, range(cut), places)
        if kept is None:
            return None
        if not kept:
            spread = float(subject.outputs.detach().double().std()) or 1.0
            unlike = float((one.output - other.output).detach().abs().max())
            return {
                "next_targets": True,
                "leak": place(one, other, list(range(cut)), places, unlike / spread),
            }
    return {"next_targets": True}


def follows(x: Tensor, y: Tensor) -> bool:
    """Whether targets [N, T, ...] are the inputs [N, T, ...] one place later, and not those of the
    same place.
    """
    if x.dim() == 3 and y.dim() == 2 and not y.is_floating_point():
        if not bool(((x == 0) | (x == 1)).all() & (x.sum(-1) == 1).all()):
            return False
        x = x.argmax(-1)
    if x.dim() == y.dim() + 1 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.dim() < 2 or x.shape != y.shape or x.shape[1] < 2:
        return False
    told = y >= 0 if not y.is_floating_point() else torch.ones_like(y, dtype=torch.bool)
    told[:, -1] = False
    later = torch.isclose(x[:, 1:].double(), y[:, :-1].double(), rtol=1e-5)[told[:, :-1]]
    same = torch.isclose(x.double(), y.double(), rtol=1e-5)[told]
    return len(later) > 0 and float(later.float().mean()) >= NEXT > float(same.float().mean())


# Is the answer one answer?


def repeat(subject: Subject) -> dict[str, Any]:
    """Two forward passes in evaluation mode, random numbers going on between them."""
    few = subject.inputs[subject.small()]
    one = traced(subject.model, few, keep=True)
    other = traced(subject.model, few, keep=True)
    if not bool(differs(one.output, other.output).any()):
        return {}
    calls = zip(one.calls, other.calls, strict=False)
    function = next(
        (a.kind for a, b in calls if unlike(a.given, (a.made,), b.given, (b.made,))), ""
    )
    modules = zip(one.modules, other.modules, strict=False)
    ran = next((a for a, b in modules if unlike(a.given, a.made, b.given, b.made)), None)
    return {
        "random": Place(
            where=ran.where if ran else "", kind=ran.kind if ran else "", function=function
        )
    }


def unlike(given: Any, made: Any, other_given: Any, other_made: Any) -> bool:
    """Whether different things were made of equal ones."""

    def same(a: Any, b: Any) -> bool:
        return len(a) == len(b) and all(
            x.shape == y.shape and not bool(differs(x, y).any()) for x, y in zip(a, b, strict=True)
        )

    return same(given, other_given) and not same(made, other_made)


# Does the gradient arrive?


def graph(subject: Subject) -> dict[str, Any]:
    """Does the loss have a graph, does it reach the parameters, and which that take part does it
    not reach?
    """
    learn = {n: p for n, p in subject.model.named_parameters() if p.requires_grad}
    if not learn:
        return {"no_gradient": "frozen"}
    trace = subject.trace
    if not trace.output.requires_grad:
        return {"no_gradient": "outputs", "cut_at": cut_at(subject.model, trace)}
    loss = subject.loss(trace.output, subject.targets)
    if not loss.requires_grad:
        return {"no_gradient": "loss"}
    grads = torch.autograd.grad(
        loss.sum(), list(learn.values()), allow_unused=True, retain_graph=True
    )
    missing = [name for name, g in zip(learn, grads, strict=True) if g is None]
    if len(missing) == len(learn):
        return {"no_gradient": "parameters"}
    return {"unreached": tuple(name for name in missing if takes_part(subject, name))}


def cut_at(model: nn.Module, trace: Trace) -> str:
    """The first module with parameters that learn, none of whose calls made a tensor with a
    graph.
    """
    made = {c.where: False for c in trace.calls}
    for call in trace.calls:
        made[call.where] |= call.made.requires_grad
    for name, module in model.named_modules():
        if (
            any(p.requires_grad for p in module.parameters(recurse=False))
            and made.get(name) is False
        ):
            return name
    return ""


def takes_part(subject: Subject, name: str) -> bool:
    """Whether a parameter still is as drawn, and the outputs change with it."""
    model = subject.copy(training=False)
    owner = model.get_submodule(name.rpartition(".")[0])
    weight = model.get_parameter(name)
    if not fresh(weight, owner):
        return False
    with torch.no_grad():
        weight.mul_(
            torch.linspace(
                0.5, 1.5, weight.numel(), device=weight.device, dtype=weight.dtype
            ).view_as(weight)
        )
    few = subject.inputs[subject.small()]
    return bool(differs(subject.run(few), subject.run(few, model)).any())


def gradients(subject: Subject) -> dict[str, Any] | None:
    """A few small steps: what never gets a gradient, which units stay copies, and do outputs tell
    examples apart?
    """
    if len(subject.inputs) < 2 or not bool(torch.isfinite(subject.outputs).all()):
        return None
    model = subject.copy(training=False)
    learn = {n: p for n, p in model.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in learn.items()}
    moved = dict.fromkeys(learn, False)
    reached = dict.fromkeys(learn, False)
    alike = constant(subject.outputs)
    for _ in range(STEPS):
        outputs = subject.run(subject.inputs, model)
        loss = subject.loss(outputs, subject.targets)
        if not loss.requires_grad:
            return None if not alike else {"constant": Constant(after=True, cut=True)}
        grads = torch.autograd.grad(loss.sum(), list(learn.values()), allow_unused=True)
        for (name, p), g in zip(learn.items(), grads, strict=True):
            if g is None:
                continue
            if not bool(torch.isfinite(g).all()):
                return None
            reached[name] = True
            if bool((g != 0).any()):
                moved[name] = True
                step_(p, g)
    zeros = [
        n
        for n, p in before.items()
        if p.dim() > 1 and reached[n] and not moved[n] and not bool((p != 0).any())
    ]
    tables = {
        n
        for n in learn
        if isinstance(model.get_submodule(n.rpartition(".")[0]), nn.Embedding | nn.EmbeddingBag)
    }
    copies = [
        n
        for n, p in before.items()
        if moved[n] and n not in tables and stay_copies(p, learn[n].detach())
    ]
    found: dict[str, Any] = {"stuck": tuple(zeros), "copies": tuple(copies)}
    if (
        alike
        and not constant(subject.inputs)
        and constant(subject.run(subject.inputs, subject.copy(training=True)))
    ):
        after = constant(subject.run(subject.inputs, model))
        found["constant"] = why_constant(subject, after, tuple(zeros), any(moved.values()))
    return found


def step_(weight: Tensor, gradient: Tensor) -> None:
    """Move a weight against its gradient by a hundredth of a usual weight, root mean square. Writes
    into `weight`.
    """
    usual = weight[0].numel() ** -0.5 if weight.dim() > 1 else 1.0
    with torch.no_grad():
        weight -= (STRIDE * usual / root_mean_square(gradient)) * gradient


def constant(x: Tensor) -> bool:
    """Whether all examples [N, ...] are equal but for rounding."""
    rows = x.detach()
    if not rows.is_floating_point():
        return bool((rows == rows[:1]).all())
    rows = rows.double()
    return bool(((rows - rows[:1]).abs() <= ALIKE * rows.abs().max()).all())


def stay_copies(before: Tensor, after: Tensor) -> bool:
    """Whether at least half of the rows of a matrix started as copies of another and moved as they
    did.
    """
    if before.dim() < 2 or len(before) < 2:
        return False
    first, last = before.flatten(1)[:SIZED].double(), after.flatten(1)[:SIZED].double()
    if first.shape[1] == 1 and not bool((last - first).any()):
        return False
    moved = (last - first).norm(dim=1)
    apart_by = torch.cdist(last, last, compute_mode="donot_use_mm_for_euclid_dist")
    twins = (torch.cdist(first, first, compute_mode="donot_use_mm_for_euclid_dist") == 0) & (
        moved > 0
    )
    twins &= apart_by <= COPIES * moved[:, None]
    twins.fill_diagonal_(False)
    return float(twins.any(1).double().mean()) >= HALF


def why_constant(subject: Subject, after: bool, zeros: tuple[str, ...], moves: bool) -> Constant:
    """What may be why all outputs are equal."""
    dark = [c for c in subject.trace.calls if c.kind in RECTIFIERS and bool((c.made <= 0).all())]
    dead = [fed_by(call) for call in dark]
    last = subject.trace.last(subject.outputs)
    one = (
        last is not None
        and "softmax" in last.kind
        and last.dim is not None
        and last.made.shape[last.dim] == 1
    )
    faded = next((r.where for r in subject.trace.modules if tells(r)), "")
    return Constant(
        after=after,
        zeros=zeros,
        dead=tuple(dict.fromkeys(dead)),
        cut=not moves,
        one=one,
        last=len(dark) == 1 and last is dark[0],
        faded=faded,
    )


def tells(ran: Ran) -> bool:
    """Whether a module was given different examples and made equal ones of them."""
    if not ran.given or not ran.made or ran.given[0].dim() < 2 or ran.made[0].dim() < 2:
        return False
    return len(ran.given[0]) > 1 and not constant(ran.given[0]) and constant(ran.made[0])


def fed_by(call: Call) -> str:
    return call.source.where if call.source is not None else call.where


# What does the loss ask for?


def answers(subject: Subject, rows: Tensor | None = None) -> loss_probe.Answers:
    """The loss with the outputs of some examples (of all), and what kind of numbers they are."""
    gives, axis = given(subject)
    if rows is None:
        return loss_probe.Answers(
            subject.loss, subject.outputs.detach(), subject.targets, gives, axis
        )
    outputs = subject.run(subject.inputs[rows]).detach()
    return loss_probe.Answers(subject.loss, outputs, subject.targets[rows], gives, axis)


def given(subject: Subject) -> tuple[str, int]:
    """What the outputs are, by their values or by the activation that made them, and over which
    axis.
    """
    out = subject.outputs.detach()
    last = subject.trace.last(subject.outputs)
    kind = last.kind if last is not None else ""
    told = last.dim if last is not None and last.dim is not None else -1
    for axis in (a for a in (told, -1, 1) if -out.dim() <= a < out.dim()):
        if out.dim() > 1 and axis % out.dim() != 0 and out.shape[axis] > 1:
            if bool((out >= 0).all()) and bool(
                ((out.sum(axis) - 1).abs() < loss_probe.ROUND).all()
            ):
                return "probabilities", axis
            if bool((out <= 0).all()) and bool(
                (out.logsumexp(axis).abs() < loss_probe.ROUND).all()
            ):
                return "log-probabilities", axis
    ranges = {
        "sigmoid": "0 to 1",
        "softmax": "0 to 1",
        "tanh": "-1 to 1",
        "hardtanh": "-1 to 1",
        "relu": "from 0",
        "softplus": "from 0",
        "exp": "from 0",
        "abs": "from 0",
        "square": "from 0",
    }
    return ranges.get(kind.rstrip("_"), ""), -1


def pairing(subject: Subject) -> dict[str, Any] | None:
    rows = subject.small()
    if len(subject.outputs) != len(subject.inputs):
        return None
    found = loss_probe.pairing(answers(subject, distinct(subject.targets, rows)))
    return None if found is None else {"pairing": found}


def distinct(targets: Tensor, rows: Tensor) -> Tensor:
    """As many places as `rows` whose targets differ as much as they can."""
    order = targets.reshape(len(targets), -1).double().mean(1).argsort()
    return order[torch.linspace(0, len(order) - 1, len(rows)).round().long()]


def wants(subject: Subject) -> dict[str, Any] | None:
    """What the outputs are, what the loss takes, and whether it wants right answers."""
    all_of = answers(subject)
    axis = loss_probe.class_axis(all_of.outputs, all_of.targets)
    all_of = (
        replace(all_of, axis=axis)
        if all_of.gives not in ("probabilities", "log-probabilities")
        else all_of
    )
    kind = loss_probe.kind_of(all_of.outputs, all_of.targets, all_of.axis)
    y = subject.targets
    found: dict[str, Any] = {"gives": all_of.gives, "targets": kind}
    whole = not y.is_floating_point() and y.dtype != torch.bool
    found["output_shape"], found["target_shape"] = tuple(subject.outputs.shape), tuple(y.shape)
    found["classes"] = all_of.outputs.shape[all_of.axis] if kind in ("classes", "tokens") else 0
    found["class_numbers"] = (
        kind in ("numbers", "labels") and whole and 2 < len(torch.unique(y)) <= MANY
    )
    found["reduction"] = loss_probe.reduction(all_of)
    last = subject.trace.last(subject.outputs)
    found["last_at"] = "" if last is None else last.where
    if not kind:
        return found
    wish = loss_probe.wish(all_of, kind)
    if wish is not None:
        found |= {"takes": wish.takes, "right_loss": wish.right, "wrong_loss": wish.wrong}
        found |= {"unbounded": wish.unbounded, "reversed": wish.reversed}
    takes = wish.takes if wish is not None else ""
    even = all_of.at(torch.full_like(all_of.outputs, loss_probe.evenly(all_of, kind)))
    found["even_loss"] = even if math.isfinite(even) else None
    nothing = loss_probe.constant(all_of, kind)
    if nothing is not None:
        found["null_loss"] = nothing.loss
        found["answer"] = said_shares(nothing.output, kind, takes, all_of.gives)
        found["unmet"] = loss_probe.unmet(all_of, kind, takes, nothing)
    if kind in ("classes", "tokens", "labels"):
        pulls = loss_probe.pulls(all_of, kind)
        if pulls is not None:
            found["shares"], found["weights"] = pulls
    return found


def said_shares(output: Tensor, kind: str, takes: str, gives: str) -> tuple[float, ...]:
    """The probabilities that a constant output gives to the classes, or to each label."""
    flat = output.flatten()
    if flat.numel() > MANY:
        return ()
    if gives in ("probabilities", "0 to 1") and takes != "logits":
        return tuple(flat.tolist())
    if gives == "log-probabilities":
        return tuple(flat.exp().tolist())
    if takes != "logits" or kind == "numbers":
        return ()
    return tuple((flat.sigmoid() if kind == "labels" else flat.softmax(0)).tolist())


# How does the network start?


def beginning(subject: Subject) -> dict[str, Any]:
    """The first loss as training sees it, also without differences between examples, and what is
    not finite.
    """
    x, y = subject.inputs, subject.targets
    found: dict[str, Any] = {"input_mean": math.nan, "input_spread": math.nan}
    if x.is_floating_point():
        found |= {"input_mean": float(x.double().mean()), "input_spread": float(x.double().std())}
    outputs = subject.run(x, subject.copy(training=True))
    loss = float(subject.loss(outputs, y).detach())
    rows = outputs.detach().double()
    found["first_loss"] = loss
    found |= {"output_mean": float(rows.mean()), "output_spread": float(spread(rows))}
    if y.is_floating_point():
        found["target_spread"] = spread(y)
    plain = float(
        subject.loss(outputs.detach().mean(0, keepdim=True).expand_as(outputs), y).detach()
    )
    found["plain_loss"] = plain if math.isfinite(plain) else None
    if not math.isfinite(loss) or not finite(rows):  # what the model makes good is no fault of it
        named = (("inputs", x), ("targets", y), ("outputs", rows))
        broken = next((name for name, t in named if not finite(t)), "loss")
        found["not_finite"] = broken
        made = (
            r.where
            for r in subject.trace.modules
            if all(map(finite, r.given)) and not all(map(finite, r.made))
        )
        found["not_finite_at"] = next(made, "") if broken == "outputs" else ""
    return found


def finite(x: Tensor) -> bool:
    return bool(torch.isfinite(x).all())


def spread(x: Tensor) -> float:
    """Standard deviation over the examples [N, ...], root mean square over all else."""
    return (
        root_mean_square(x.detach().double() - x.detach().double().mean(0)) if len(x) > 1 else 0.0
    )


def network(subject: Subject) -> dict[str, Any] | None:
    """Signal and gradient by layer, activations, and other settings, in training mode without
    dropout.
    """
    model = subject.copy(training=True)
    trace = subject.traced(subject.inputs, model, keep=False)
    if not trace.output.requires_grad or not finite(trace.output):
        return None
    owners = {id(p): name for name, p in model.named_parameters()}
    calls = [
        c for c in trace.calls if (c.weight is not None or c.kind in UNITS) and c.made.requires_grad
    ]
    loss = subject.loss(trace.output, subject.targets).sum()
    weights = [p for p in model.parameters() if p.requires_grad]
    asked = [c.made for c in calls] + weights
    grads = list(torch.autograd.grad(loss, asked, allow_unused=True))
    pulled = {id(p): g for p, g in zip(weights, grads[len(calls) :], strict=True)}
    layers = tuple(
        layer(c, g, pulled, owners) for c, g in zip(calls, grads[: len(calls)], strict=True)
    )
    softmaxes = [
        c
        for c in trace.calls
        if c.kind in ("softmax", "_softmax") and c is not trace.last(trace.output)
    ]
    names = tuple(name for name, m in model.named_modules() if "Norm" in type(m).__name__)
    kinds = [
        "norm" if "norm" in c.kind else "layer"
        for c in trace.calls
        if c in calls or "_norm" in c.kind
    ]
    found: dict[str, Any] = {
        "layers": layers,
        "active": tuple(
            a for c in trace.calls if (a := active(c, c is trace.last(trace.output))) is not None
        ),
        "norms": names,
        "norm_first": bool(kinds) and kinds[0] == "norm",
        "dropouts": {
            name: float(m.p)
            for name, m in model.named_modules()
            if isinstance(m, nn.modules.dropout._DropoutNd)
        },
        "score_spread": max((scores(c) for c in softmaxes), default=None),
    }
    return found | through(layers)


def layer(
    call: Call,
    gradient: Tensor | None,
    pulled: Mapping[int, Tensor | None],
    owners: Mapping[int, str],
) -> Layer:
    """What a layer makes at the start."""
    weight, made = call.weight, call.made.detach()
    fan = 1
    if weight is not None:
        fan = (
            weight.shape[0]
            if call.kind in PRODUCTS or "transpose" in call.kind
            else weight[0].numel()
        )
    pull = pulled.get(id(weight)) if weight is not None else None
    size = root_mean_square(weight) if weight is not None else math.nan
    where = call.where
    if (
        call.kind in PRODUCTS and weight is not None
    ):  # a parameter of a module that multiplies by itself
        where = owners.get(id(weight), where)
    return Layer(
        where=where,
        kind=call.kind,
        units=made.shape[1 if call.kind.startswith("conv") else -1] if made.dim() > 1 else 1,
        fan_in=fan,
        weight=size,
        expected=1.0 if call.kind in LOOKUPS else fan**-0.5,
        level=root_mean_square(made),
        spread=spread(made),
        gradient=None if gradient is None else root_mean_square(gradient),
        pull=None if pull is None or not size else root_mean_square(pull) / size,
    )


def active(call: Call, last: bool) -> Active | None:
    """What an activation makes of its units; None for other calls, and where units cannot be
    told.
    """
    if call.kind not in RECTIFIERS and call.share is None:
        return None
    source = call.source or Lineage(call.where, call.made.shape[-1], -1)
    made = by_unit(call.made, source)
    if made is None:
        return None
    found = Active(
        where=source.where, kind=call.kind, units=len(made), rows=made.shape[1], last=last
    )
    if call.share is None:
        return replace(found, dead=int((made <= 0).all(1).sum()))
    shares = by_unit(call.share, source)
    assert shares is not None  # of the same shape as what was made
    means = shares.double().mean(1)
    return replace(
        found,
        flat=int((means < FLAT).sum()),
        slope=float(means.mean()),
        center=float(made.double().mean()),
    )


def scores(call: Call) -> float:
    """The spread of what goes into a softmax, along its dimension; what is masked out does not
    count.
    """
    given = call.given[0].detach().double()
    dim = -1 if call.dim is None else call.dim
    kept = given > MASKED
    count = kept.sum(dim, keepdim=True).clamp(min=1)
    held = given.masked_fill(~kept, 0.0)
    off = (held - held.sum(dim, keepdim=True) / count).masked_fill(~kept, 0.0)
    return math.sqrt(float((off.square().sum(dim, keepdim=True) / count).mean()))


def through(layers: Sequence[Layer]) -> dict[str, Any]:
    """How signal and gradient change with depth: along the hidden layers, or along the calls of one
    layer that is used again and again, whichever changes more."""
    hidden = [x for x in layers if x.kind not in LOOKUPS]
    hidden = [x for x in hidden[:-1] if x.spread > 0 and x.gradient]
    first: dict[str, Layer] = {}
    again: dict[str, list[Layer]] = {}
    for x in hidden:
        first.setdefault(x.where, x)
        again.setdefault(x.where, []).append(x)
    best: dict[str, Any] = {}
    for chain in (list(first.values()), *again.values()):
        if len(chain) < DEEP:
            continue
        signals = [math.log10(x.spread) for x in chain]
        gradients = [math.log10(x.gradient or math.nan) for x in chain]
        change = signals[-1] - signals[0]
        if not best or abs(change) > abs(math.log10(best["signal"])):
            best = {
                "signal": 10.0**change,
                "signal_slope": slope(signals),
                "depth": len(chain),
                "gradient": 10.0 ** (gradients[0] - gradients[-1]),
                "gradient_slope": slope(gradients),
                "signal_at": chain[0].where if change < 0 else chain[min(1, len(chain) - 1)].where,
            }
    return best


def slope(values: Sequence[float]) -> float:
    """The least-squares slope of numbers against 0, 1, 2, ...

    >>> slope([1.0, 3.0, 5.0])
    2.0
    """
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    top = sum((i - middle) * (v - mean) for i, v in enumerate(values))
    return top / sum((i - middle) ** 2 for i in range(len(values)))


def statistics(subject: Subject) -> dict[str, Any] | None:
    """What batch normalization remembers after thirty batches, against what the examples are."""
    model = subject.copy(training=True)
    norms = {
        n: m for n, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    if not norms:
        return None
    n = len(subject.inputs)
    generator = torch.Generator().manual_seed(subject.seed)
    with torch.no_grad():
        for _ in range(BATCHES):
            rows = torch.randint(0, n, (min(BATCH, n),), generator=generator)
            subject.run(subject.inputs[rows], model)
    given: dict[str, Tensor] = {}

    def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        given[names[id(module)]] = args[0].detach().double()

    names = {id(m): name for name, m in norms.items()}
    handles = [m.register_forward_pre_hook(keep) for m in norms.values()]
    remembered = {name: (m.running_mean, m.running_var) for name, m in norms.items()}
    remembered = {
        n: (a.double().clone(), b.double().clone())
        for n, (a, b) in remembered.items()
        if a is not None and b is not None
    }
    try:
        with torch.no_grad():
            subject.run(subject.inputs, model)
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for name, m in norms.items():
        of = Normed(
            where=name,
            kind=type(m).__name__,
            momentum=m.momentum,
            eps=m.eps,
            batch=name not in remembered,
        )
        if name in given and name in remembered:
            x = given[name].movedim(1, 0).flatten(1)
            sd = (x.var(1) + m.eps).sqrt()
            mean, root = remembered[name][0], (remembered[name][1] + m.eps).sqrt()
            of = replace(
                of,
                shift=float(((mean - x.mean(1)).abs() / sd).median()),
                stretch=float(torch.maximum(root / sd, sd / root).median()),
            )
        found.append(of)
    return {"normed": tuple(found)}


PROBES: Mapping[str, Callable[[Subject], Mapping[str, Any] | None]] = {
    "outputs": lambda subject: {},
    "mixing": mixing,
    "pairing": pairing,
    "causality": causality,
    "repeat": repeat,
    "graph": graph,
    "dependence": gradients,
    "loss": wants,
    "first loss": beginning,
    "network": network,
    "statistics": statistics,
}

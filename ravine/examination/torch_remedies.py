"""Which remedies to try on a case, and what speaks for each: facts of data, network and optimizer.

A remedy without grounds is tried on general grounds: learning rate, steps, batch size, optimizer,
another start.
"""

from __future__ import annotations

import math

import torch
from torch.optim import Adam, AdamW

from ravine.diagnosis.data.profile import Examples, Spread
from ravine.diagnosis.initialization.rules import Start
from ravine.diagnosis.rule import join_names
from ravine.diagnosis.training_loop.tensor_stats import fresh
from ravine.examination.model_surgery import calls_of, head_calls, hidden_calls, missing_after
from ravine.examination.torch_changes import NORMS
from ravine.examination.torch_run import Run
from ravine.examination.torch_subject import Case, Rows
from ravine.examination.torch_trials import Remedy
from ravine.finding import Change, Evidence
from ravine.rng import isolated_rng

FAR = 3.0  # standard deviations of a column's mean from 0
WIDE = 10.0  # ratio of standard deviations of columns
LOUD, FAINT = 5.0, 0.2  # root mean square of inputs or targets
ODD = 4.0  # times the usual size of weights, or a quarter of it
FADED = 300.0  # ratio between layers
HIGH = 2.0  # times the loss of the best constant answer, and as much more
DEAD, FLAT = 0.9, 0.4  # share of a layer's units
MUCH = 0.4  # dropout that may be too much
EPS = 1e-6  # Adam's, beyond which it brakes
FEW = 3  # held-out examples of a class
RARE = 0.2  # share of the rarest class over that of the most frequent
UNRULY = 1.2  # times the first loss
STEPS = 3  # times the budget
SQUASHING = {"sigmoid", "sigmoid_", "tanh", "tanh_", "softsign", "hardsigmoid"}
DEEP = 3  # squashing layers in a row


def remedies(case: Case, base: Run, *, start: Start, examples: Examples) -> list[Remedy]:
    """Specific remedies that facts speak for, then the general ones."""
    specific = [
        *_scales(start, examples),
        *_loss(start),
        *_rare(case, examples),
        *_frozen(case),
        *_start(start),
        *_braking(case, start),
        *_wiring(case, start),
        *_order(case),
    ]
    higher, lower = (
        tuple((Change("lr", f"x{k:g}"),) for k in ks)
        for ks in ((10, 100, 1000), (0.1, 0.01, 0.001))
    )
    general = [
        Remedy("learning-rate-low", higher, suspects=("too-few-steps", "optimizer")),
        Remedy("learning-rate-high", lower, _unruly(base), suspects=("exploding", "optimizer")),
        Remedy(
            "too-few-steps",
            ((Change("steps", STEPS * case.steps),),),
            suspects=("learning-rate-low",),
        ),
    ]
    if not isinstance(case.build()[1], Adam | AdamW):  # of those, another one is another rate
        adams = ((Change("optimizer", "adam"),), (Change("optimizer", "adam 0.01"),))
        general.append(Remedy("optimizer", adams, suspects=("learning-rate-low",)))
    if case.train.batch >= 64 or len(case.train) <= 2:
        smaller = ((Change("batch", max(2, case.train.batch // 8)),),)
        general.append(
            Remedy("batch-size", smaller, suspects=("too-few-steps", "learning-rate-low"))
        )
    return specific + general


def _unruly(base: Run) -> tuple[Evidence, ...]:
    """That the loss went above where it started speaks for a lower rate."""
    if base.diverged:
        return (Evidence("step at which the loss stopped being finite", len(base.losses)),)
    first, worst = base.looks[0].loss, max(look.loss for look in base.looks)
    if worst > UNRULY * first:
        return (Evidence("highest loss over the first", worst / max(first, 1e-12), "", UNRULY),)
    return ()


def _scales(start: Start, examples: Examples) -> list[Remedy]:
    """Inputs and targets that are far from mean 0 and standard deviation 1."""
    ours, theirs = Change("input.scale", "standardize"), Change("target.scale", "standardize")
    inputs = () if examples.inputs is None or start.norm_first else _off(examples.inputs, "inputs")
    numbers = examples.targets is not None and examples.kind != "labels"
    targets = _off(examples.targets, "targets") if examples.targets is not None and numbers else ()
    both = ((ours, theirs),) if inputs and targets else ()
    found = []
    if inputs:
        found.append(
            Remedy("input-scale", ((ours,), *both), inputs, suspects=("learning-rate-high",))
        )
    if targets:
        found.append(
            Remedy("target-scale", ((theirs,), *both), targets, suspects=("learning-rate-high",))
        )
    return found


def _off(spread: Spread, what: str) -> tuple[Evidence, ...]:
    found = []
    if spread.offset > FAR:
        found.append(
            Evidence(f"mean of a column of the {what} over its spread", spread.offset, "", FAR)
        )
    if spread.narrowest > 0 and (ratio := spread.widest / spread.narrowest) > WIDE:
        found.append(
            Evidence(
                f"largest over smallest spread of the {what}",
                ratio,
                "",
                WIDE,
                f"{spread.widest_name} and {spread.narrowest_name}",
            )
        )
    size = math.hypot(spread.mean, spread.std)
    if size > LOUD or 0 < size < FAINT:
        found.append(
            Evidence(f"root mean square of the {what}", size, "", LOUD if size > LOUD else FAINT)
        )
    return tuple(found)


def _loss(start: Start) -> list[Remedy]:
    if start.reduction is None or start.reduction < 1.8:
        return []
    return [
        Remedy(
            "loss-reduction",
            ((Change("loss", "mean"),),),
            (
                Evidence(
                    "loss of a batch taken twice over the loss of the batch",
                    start.reduction,
                    "",
                    1.0,
                    "a sum, no mean",
                ),
            ),
            suspects=("learning-rate-high",),
        )
    ]


def _rare(case: Case, examples: Examples) -> list[Remedy]:
    """Classes of which there are few."""
    counts = examples.counts
    if (
        not isinstance(case.train, Rows)
        or examples.kind not in ("classes", "binary")
        or len(counts) < 2
    ):
        return []
    rarest = min(counts, key=lambda k: counts[k])
    share = counts[rarest] / max(counts.values())
    if share >= RARE or examples.validation_counts.get(rarest, 0) < FEW:
        return []
    return [
        Remedy(
            "imbalance",
            ((Change("loss", "balanced"),),),
            (
                Evidence(
                    "examples of the rarest class for one of the most frequent",
                    share,
                    "",
                    RARE,
                    f"class {rarest}",
                ),
            ),
        )
    ]


def _frozen(case: Case) -> list[Remedy]:
    """Parameters that are not trained though they are still as drawn at random."""
    model, optimizer = case.build()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    owners = {
        f"{path}.{name}" if path else name: m
        for path, m in model.named_modules()
        for name, _ in m.named_parameters(recurse=False)
    }
    left = [
        n
        for n, p in model.named_parameters()
        if (not p.requires_grad or id(p) not in held) and n in owners and fresh(p, owners[n])
    ]
    if not left:
        return []
    return [
        Remedy(
            "frozen-parameters",
            ((Change("optimizer", "all parameters"),),),
            (Evidence("parameters that are not trained, as drawn at random", len(left), "", 0),),
            where=join_names(left),
        )
    ]


def _start(start: Start) -> list[Remedy]:
    """Another start, and what speaks for it in the one there is."""
    grounds: list[Evidence] = []
    where, suspects = "", ["vanishing", "exploding"]
    for layer in start.layers:
        if layer.weight > 0 and not 1 / ODD < layer.scale < ODD:
            grounds.append(
                Evidence("weights over what is usual", layer.scale, "", ODD, layer.where)
            )
            where = where or layer.where
    for call in start.active:
        if call.units > 1 and not call.last and call.dead >= DEAD * call.units:
            grounds.append(
                Evidence("units at 0 for every example", call.dead, "", None, f"of {call.units}")
            )
            where, suspects = where or call.where, ["dead-units", *suspects]
        elif call.units > 1 and call.flat >= FLAT * call.units:
            grounds.append(
                Evidence(
                    "units where the activation is flat", call.flat, "", None, f"of {call.units}"
                )
            )
            where, suspects = where or call.where, ["saturation", *suspects]
    for what, ratio in (
        ("spread of the last hidden layer over the first's", start.signal),
        ("gradient at the first hidden layer over the last's", start.gradient),
    ):
        if ratio is not None and ratio > 0 and not 1 / FADED < ratio < FADED:
            grounds.append(Evidence(what, ratio, "", FADED if ratio > 1 else 1 / FADED))
            where = where or (start.layers[0].where if start.layers else "")
    first, null = start.first_loss, start.null_loss
    if first is not None and null is not None and null > 0 and first > HIGH * null + HIGH:
        grounds.append(Evidence("first loss", first, "", null, "that of the best constant answer"))
        where = where or (max(start.layers, key=lambda k: k.scale).where if start.layers else "")
    both = ((Change("init", "default"),), (Change("init", "unit variance"),))
    return [
        Remedy("initialization", both, tuple(grounds[:3]), where=where, suspects=tuple(suspects))
    ]


def _braking(case: Case, start: Start) -> list[Remedy]:
    """Dropout, weight decay, an optimizer's epsilon, normalization that keeps no statistics."""
    model, optimizer = case.build()
    found = []
    rates = dict(start.dropouts)
    for name, module in model.named_modules():
        rate = getattr(module, "dropout", None)
        if isinstance(rate, float):
            rates[name] = rate
    where, most = max(rates.items(), key=lambda r: r[1], default=("", 0.0))
    if most >= MUCH:
        found.append(
            Remedy(
                "dropout",
                ((Change("dropout", 0),),),
                (Evidence("dropout rate", most, "", MUCH),),
                where=where,
                suspects=("over-regularized",),
            )
        )
    decay = max(float(g.get("weight_decay") or 0.0) for g in optimizer.param_groups)
    if decay > 0:
        grounds = (Evidence("weight decay", decay, "", 0.01),) if decay >= 0.01 else ()
        found.append(Remedy("over-regularized", ((Change("decay", 0.0),),), grounds))
    given = [g.get("eps") for g in optimizer.param_groups]  # Adafactor has two of another meaning
    eps = max((float(e) for e in given if isinstance(e, int | float)), default=0.0)
    if eps > EPS:
        adams = ((Change("optimizer", "adam"),), (Change("optimizer", "adam 0.01"),))
        found.append(
            Remedy(
                "optimizer-numerics",
                adams,
                (Evidence("epsilon of the optimizer", eps, "", EPS),),
                suspects=("learning-rate-low",),
            )
        )
    for name, module in model.named_modules():
        momentum = (
            module.momentum if isinstance(module, NORMS) and module.track_running_stats else None
        )
        if momentum is not None and not 0.005 < momentum < 0.9:
            found.append(
                Remedy(
                    "normalization",
                    ((Change("normalization", "usual"),),),
                    (Evidence("momentum of the running statistics", momentum, "", 0.1),),
                    where=name,
                    suspects=("train-eval-mode",),
                )
            )
            break
    return found


def _wiring(case: Case, start: Start) -> list[Remedy]:
    """Activations at the output, none between layers, or squashing ones in a row."""
    inputs, _ = case.examples(8)
    with isolated_rng(case.seed), torch.no_grad():
        try:
            calls = calls_of(case.build()[0], inputs)
        except Exception:  # whatever the model raises in training mode: nothing was seen
            return []
    found = []
    head = [calls[i].name for i in head_calls(calls)]
    if head:
        last = [call.where for call in start.active if call.last]
        found.append(
            Remedy(
                "output-activation",
                ((Change("output", "linear"),),),
                (Evidence("activations at the output", len(head), "", 0, ", ".join(head)),),
                where=last[-1] if last else "",
            )
        )
    hidden, missing = [calls[i].name for i in hidden_calls(calls)], missing_after(calls)
    first = start.layers[0].where if start.layers else ""
    if missing:
        found.append(
            Remedy(
                "hidden-activation",
                ((Change("activation", "relu"),), (Change("activation", "tanh"),)),
                (Evidence("layers without a nonlinearity behind them", len(missing), "", 0),),
                where=first,
            )
        )
    elif sum(name in SQUASHING for name in hidden) >= DEEP:
        bent = Change("activation", "relu")
        found.append(
            Remedy(
                "hidden-activation",
                ((bent,), (bent, Change("init", "default"))),
                (
                    Evidence(
                        "squashing activations in a row",
                        len(hidden),
                        "",
                        DEEP - 1,
                        ", ".join(sorted(set(hidden))),
                    ),
                ),
                where=first,
                suspects=("vanishing", "architecture-too-deep"),
            )
        )
    return found


def _order(case: Case) -> list[Remedy]:
    if case.train.shuffled or not isinstance(case.train, Rows) or len(case.train) < 2:
        return []
    return [
        Remedy(
            "shuffling",
            ((Change("shuffle", True),),),
            (Evidence("order of the examples", None, "", None, "the same in every pass"),),
        )
    ]

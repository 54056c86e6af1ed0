"""Which remedies to try on a case, and what speaks for each: facts of data, network and optimizer.

A remedy without grounds is tried on general grounds: learning rate, steps, batch size, optimizer, another start.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from ravine.diagnosis.rule import listed
from ravine.diagnosis.seeing import fresh
from ravine.finding import Change, Evidence
from ravine.studies.case import Case, Rows, apart
from ravine.studies.changes import NORMS, moments
from ravine.studies.examination import Remedy
from ravine.studies.rewired import calls_of, head_calls, hidden_calls, missing_after
from ravine.studies.running import Run

FAR = 3.0  # standard deviations of a feature's mean from 0
WIDE = 10.0  # ratio of standard deviations of features
LOUD, FAINT = 5.0, 0.2  # root mean square of inputs or targets
MUCH = 0.4  # dropout that may be too much
EPS = 1e-6  # Adam's, beyond which it brakes
FEW = 3  # held-out examples of a class
RARE = 0.2  # share of the rarest class over that of the most frequent
STEPS = 3  # times the budget


def remedies(case: Case, base: Run) -> list[Remedy]:
    """Specific remedies that facts speak for, then the general ones."""
    found = [
        *_scales(case),
        *_loss(case, base),
        *_start(case, base),
        *_braking(case),
        *_wiring(case, base),
        *_order(case),
    ]
    rates = [tuple([Change("lr", f"x{k:g}")] for k in ks) for ks in ((10, 100, 1000), (0.1, 0.01, 0.001))]
    found += [
        Remedy("learning-rate-low", tuple(map(tuple, rates[0])), suspects=("too-few-steps", "optimizer")),
        Remedy("learning-rate-high", tuple(map(tuple, rates[1])), _unstable(base), suspects=("exploding", "optimizer")),
        Remedy("too-few-steps", ((Change("steps", STEPS * case.steps),),), suspects=("learning-rate-low",)),
    ]  # fmt: skip
    if not isinstance(case.build()[1], Adam | AdamW):  # of those, another one is another rate
        found.append(Remedy("optimizer", ((Change("optimizer", "adam"),), (Change("optimizer", "adam 0.01"),)),
                            suspects=("learning-rate-low",)))  # fmt: skip
    if case.train.batch >= 64 or len(case.train) <= 2:
        found.append(Remedy("batch-size", ((Change("batch", max(2, case.train.batch // 8)),),),
                            suspects=("too-few-steps", "learning-rate-low")))  # fmt: skip
    return found


def _unstable(base: Run) -> tuple[Evidence, ...]:
    """That the loss went above where it started, and stayed unruly, speaks for a lower rate."""
    first = base.looks[0].loss
    losses = [x for x in base.losses if math.isfinite(x)]
    if base.diverged:
        return (Evidence("step at which the loss stopped being finite", len(base.losses)),)
    late = [look.loss for look in base.looks[1:]]
    worst = max(late, default=first)
    if losses and worst > 1.3 * first + 1e-9 and base.last.loss > 0.9 * first:
        return (Evidence("highest loss over the first", worst / max(first, 1e-12), "", 1.3),)
    return ()


def _scales(case: Case) -> list[Remedy]:
    inputs, targets = case.examples()
    found = []
    if inputs.is_floating_point() and not _normalized_first(case):
        evidence = _off(inputs, "inputs")
        if evidence:
            found.append(Remedy("input-scale", ((Change("input.scale", "standardize"),),), evidence))
    if targets.is_floating_point() and not bool(((targets == 0) | (targets == 1)).all()):
        evidence = _off(targets.reshape(len(targets), -1), "targets", whole=True)
        if evidence:
            found.append(Remedy("target-scale", ((Change("target.scale", "standardize"),),), evidence))
    return found


def _off(x: Tensor, what: str, *, whole: bool = False) -> tuple[Evidence, ...]:
    if whole:
        x = x.reshape(-1, 1)
    mean, sd = moments(x)
    mean, sd = mean.flatten(), sd.flatten()
    rms = float(x.double().square().mean().sqrt())
    found = []
    far = float((mean.abs() / sd).max())
    if far > FAR:
        found.append(Evidence(f"mean of {what} from 0", far, "standard deviations", FAR))
    if len(sd) > 1 and (ratio := float(sd.max() / sd.min().clamp_min(1e-30))) > WIDE:
        found.append(Evidence(f"largest over smallest standard deviation of {what}", ratio, "", WIDE))
    if rms > LOUD:
        found.append(Evidence(f"root mean square of {what}", rms, "", LOUD))
    if rms < FAINT:
        found.append(Evidence(f"root mean square of {what}", rms, "", FAINT))
    return tuple(found)


def _normalized_first(case: Case) -> bool:
    """Whether the first layer that the inputs meet is a normalization."""
    inputs, _ = case.examples(8)
    seen: list[nn.Module] = []
    hooks = [m.register_forward_pre_hook(lambda m, given: seen.append(m)) for m in case.model.modules()
             if not any(True for _ in m.children())]  # fmt: skip
    with apart(case.seed), torch.no_grad():
        mode = {m: m.training for m in case.model.modules()}
        case.model.eval()
        try:
            case.model(inputs)
        finally:
            for hook in hooks:
                hook.remove()
            for m, training in mode.items():
                m.training = training
    first = [m for m in seen if not isinstance(m, nn.Flatten | nn.Identity | nn.Unflatten)][:1]
    return bool(first) and isinstance(first[0], (*NORMS, nn.LayerNorm, nn.GroupNorm))


def _loss(case: Case, base: Run) -> list[Remedy]:
    found = []
    ratio = reduction(case)
    if ratio is not None and ratio > 1.8:
        found.append(Remedy("loss-reduction", ((Change("loss", "mean"),),), (
            Evidence("loss of a batch taken twice over the loss of the batch", ratio, "", 1.0, "a sum, not a mean"),
        ), suspects=("learning-rate-high",)))  # fmt: skip
    return found


def reduction(case: Case) -> float | None:
    """The loss of a batch repeated twice over that of the batch: 1 for a mean, 2 for a sum; None if it does not say."""
    inputs, targets = case.examples(64)
    with apart(case.seed), torch.no_grad():
        try:
            mode = case.model.training
            case.model.eval()
            outputs = case.model(inputs)
            case.model.train(mode)
            once = float(case.loss(outputs, targets))
            twice = float(case.loss(torch.cat([outputs, outputs]), torch.cat([targets, targets])))
        except (RuntimeError, TypeError, ValueError):
            return None
    return twice / once if once and math.isfinite(twice / once) else None


def _rare(case: Case, base: Run) -> list[Remedy]:
    """Classes (labels) of which there are few, and which the run does not answer."""
    _, targets = case.examples()
    if not isinstance(case.train, Rows) or case.validation is None or targets[0].numel() != 1:
        return []
    y, others = targets.flatten(), case.validation[1].flatten()
    classes, counts = torch.unique(y, return_counts=True)
    if len(classes) < 2 or len(classes) > 50 or (y.is_floating_point() and not bool(((y == 0) | (y == 1)).all())):
        return []
    share = float(counts.min()) / float(counts.max())
    if share >= RARE or int((others == classes[counts.argmin()]).sum()) < FEW:
        return []
    return [Remedy("imbalance", ((Change("loss", "balanced"),),), (
        Evidence("examples of the rarest class for one of the most frequent", share, "", RARE),
    ), where="")]  # fmt: skip


def _frozen(case: Case) -> list[Remedy]:
    """Parameters that are not trained though they are still as drawn at random."""
    model, optimizer = case.build()
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    owners = {f"{path}.{name}" if path else name: m for path, m in model.named_modules()
              for name, _ in m.named_parameters(recurse=False)}  # fmt: skip
    left = [n for n, p in model.named_parameters()
            if (not p.requires_grad or id(p) not in held) and n in owners and fresh(p, owners[n])]  # fmt: skip
    if not left:
        return []
    return [Remedy("frozen-parameters", ((Change("optimizer", "all parameters"),),), (
        Evidence("parameters that are not trained, as drawn at random", len(left), "", 0),
    ), where=listed(left))]  # fmt: skip


def _start(case: Case, base: Run) -> list[Remedy]:
    evidence = _signal(case)
    both = ((Change("init", "default"),), (Change("init", "unit variance"),))
    return [Remedy("initialization", both, evidence, suspects=("vanishing", "exploding"))]


def _signal(case: Case) -> tuple[Evidence, ...]:
    """The spread of each layer's output, from the first to the last."""
    inputs, targets = case.examples(128)
    model, _ = case.build()
    spreads: list[tuple[str, float]] = []
    hooks = [m.register_forward_hook(lambda m, given, made, name=name: spreads.append((name, float(made.std()))))
             for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]  # fmt: skip
    with apart(case.seed), torch.no_grad():
        model.eval()
        model(inputs)
    for hook in hooks:
        hook.remove()
    if len(spreads) < 2:
        return ()
    sds = [s for _, s in spreads]
    if not all(map(math.isfinite, sds)) or max(sds) > 30 * max(1.0, float(inputs.float().std())):
        return (
            Evidence("largest spread of a layer's output", max(sds), "", 30.0, max(spreads, key=lambda p: p[1])[0]),
        )
    low = min(sds[:-1] or sds)
    if low < 1e-2 * min(1.0, float(inputs.float().std())):
        return (Evidence("least spread of a layer's output", low, "", 1e-2, min(spreads, key=lambda p: p[1])[0]),)
    return ()


def _braking(case: Case) -> list[Remedy]:
    """Dropout, weight decay, an optimizer's epsilon, normalization that keeps no statistics."""
    model, optimizer = case.build()
    found = []
    rates = [(n, float(m.p)) for n, m in model.named_modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    rates += [(n, m.dropout) for n, m in model.named_modules() if isinstance(getattr(m, "dropout", None), float)]
    where, most = max(rates, key=lambda r: r[1], default=("", 0.0))
    if most >= MUCH:
        found.append(Remedy("dropout", ((Change("dropout", 0),),), (Evidence("dropout rate", most, "", MUCH),),
                            where=where, suspects=("over-regularized",)))  # fmt: skip
    decay = max(float(g.get("weight_decay") or 0.0) for g in optimizer.param_groups)
    if decay > 0:
        grounds = (Evidence("weight decay", decay, "", 0.01),) if decay >= 0.01 else ()
        found.append(Remedy("over-regularized", ((Change("decay", 0.0),),), grounds))
    eps = max(float(g.get("eps") or 0.0) for g in optimizer.param_groups)
    if eps > EPS:
        found.append(Remedy("optimizer-numerics", ((Change("optimizer", "adam"),), (Change("optimizer", "adam 0.01"),)),
                            (Evidence("epsilon of the optimizer", eps, "", EPS),),
                            suspects=("learning-rate-low",)))  # fmt: skip
    for name, m in model.named_modules():
        momentum = getattr(m, "momentum", 0.1)
        if isinstance(m, NORMS) and momentum is not None and not 0.005 < momentum < 0.9 and m.track_running_stats:
            found.append(Remedy("normalization", ((Change("normalization", "usual"),),),
                                (Evidence("momentum of the running statistics", momentum, "", 0.1),), where=name,
                                suspects=("train-eval-mode",)))  # fmt: skip
            break
    return found


def _wiring(case: Case, base: Run) -> list[Remedy]:
    inputs, _ = case.examples(8)
    found = []
    with apart(case.seed):
        try:
            calls = calls_of(case.build()[0], inputs)
        except RuntimeError:
            return []
    head = [calls[i].name for i in head_calls(calls)]
    hidden = {calls[i].name for i in hidden_calls(calls)}
    if head:
        found.append(Remedy("output-activation", ((Change("output", "linear"),),),
                            (Evidence("activations at the output", len(head), "", 0, ", ".join(head)),)))  # fmt: skip
    missing = missing_after(calls)
    if missing:
        found.append(Remedy("hidden-activation", ((Change("activation", "relu"),), (Change("activation", "tanh"),)),
                            (Evidence("layers without a nonlinearity behind them", len(missing), "", 0),)))  # fmt: skip
    elif hidden & {"sigmoid", "tanh", "softsign", "hardsigmoid"} and len(hidden_calls(calls)) >= 3:
        found.append(Remedy("hidden-activation", ((Change("activation", "relu"),),
                                                  (Change("activation", "relu"), Change("init", "default"))),
                            (Evidence("squashing layers in a row", len(hidden_calls(calls)), "", 2),),
                            suspects=("vanishing", "architecture-too-deep")))  # fmt: skip
    return found


def _order(case: Case) -> list[Remedy]:
    if case.train.shuffled or not isinstance(case.train, Rows) or len(case.train) < 2:
        return []
    return [
        Remedy(
            "shuffling", ((Change("shuffle", True),),), (Evidence("order of the examples", None, "", None, "fixed"),)
        )
    ]

"""Remedies for a recipe: a remedy is a change of settings; what there is to try, what speaks for
it, how it is applied.

A remedy without grounds is tried on general grounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ravine.errors import RecipeError
from ravine.finding import MANUAL_CHANGES, Change, Evidence, Finding
from ravine.networks.activations import Identity
from ravine.networks.initializers import Glorot, He, LeCun, Orthogonal, TorchDefault
from ravine.networks.mlp import Mlp
from ravine.part import field_types, is_number, is_part
from ravine.recipe import Recipe, lr_path
from ravine.recipe_files import with_changes
from ravine.schedules import Constant, Cosine, WarmUp
from ravine.serialization import get
from ravine.training.defaults import training_plan

RATES = (0.1, 0.01, 0.001), (3.0, 10.0, 100.0, 1000.0)
LONGER = (3, 10, 30)  # times the epochs
LONGEST = 1500  # steps of a longer run that is tried
MUCH_DROPPED = 0.4  # dropout that may be too much
SHRUNK = (
    3.0  # weight decay times learning rate times steps: e^-3 of a weight that nothing holds is left
)
SMALL = 32  # units of the widest layer
RARE = 0.2  # share of the rarest class over that of the most frequent
LOUD, FAINT = 5.0, 0.2  # root mean square of inputs or targets
IN_A_RECIPE = {
    ("input.scale", "standardize"): Change("encoding.scale", "standard"),
    ("target.scale", "standardize"): Change("encoding.target", "standard"),
    ("loss", "weights by class"): Change("class_weights", "balanced"),
    ("loss", "pos_weight"): Change("class_weights", "balanced"),
}
FITTED = (He, Glorot, LeCun, Orthogonal, TorchDefault)  # initializers that mind the width


@dataclass(frozen=True)
class Remedy:
    """Changes that may be made at different strengths; the best of those tried counts."""

    cause: str
    strengths: tuple[tuple[Change, ...], ...]
    grounds: tuple[Evidence, ...] = ()
    where: str = ""
    suspects: tuple[str, ...] = ()


# Applying


def applied(recipe: Recipe, changes: Iterable[Change]) -> Recipe:
    """The recipe with changes made, one after another. Raises `RecipeError` where a setting or a
    value is wrong.

    A value is a number, a word, or a part as plain data; None takes a part out.

    >>> from ravine.catalog import named_recipe
    >>> tanh = Change("network.activation", {"name": "Tanh"})
    >>> applied(named_recipe("plain"), [tanh]).network.activation
    Tanh()
    """
    for change in changes:
        get(recipe, change.path)
        value: Any = "none" if change.value is None else change.value
        if any(name.isdecimal() for name in change.path.split(".")):
            recipe = recipe.vary(change.path, value)
            continue
        for name in reversed(change.path.split(".")[1:]):
            value = {name: value}
        recipe = with_changes(recipe, {change.path.split(".")[0]: value})
    return recipe


def useful(recipe: Recipe, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Those of the changes that can be made and make a difference; and those that are made by hand.

    What a rule for any program calls `input.scale` has its own name in a recipe.
    """
    named = [IN_A_RECIPE.get((c.path, str(c.value)), c) for c in changes]
    return tuple(c for c in named if c.path in MANUAL_CHANGES or _differs(recipe, c))


def _differs(recipe: Recipe, change: Change) -> bool:
    try:
        return applied(recipe, [change]) != recipe
    except RecipeError:
        return False


# What to try


def remedies(recipe: Recipe, task: Any, findings: Sequence[Finding] = ()) -> list[Remedy]:
    """What to try on a resolved recipe: what settings and findings speak for, then learning rate,
    steps and the like.

    Findings give grounds to the remedy of their cause; what they want changed is tried, too.
    """
    found = [
        *_asked(findings),
        *_scales(recipe, task),
        *_network(recipe),
        *_braking(recipe, task),
        *_imbalance(recipe, task),
        *_schedule(recipe),
        *_rates(recipe),
        *_steps(recipe, task),
    ]
    return _merged(recipe, [_with_grounds(r, findings) for r in found])


def _asked(findings: Sequence[Finding]) -> Iterator[Remedy]:
    """The changes that findings ask for."""
    for f in findings:
        if f.changes and not any(c.path in MANUAL_CHANGES for c in f.changes):
            yield Remedy(f.cause, (f.changes,), f.evidence[:1], f.where, f.suspects)


def _with_grounds(remedy: Remedy, findings: Sequence[Finding]) -> Remedy:
    speaking = [f for f in findings if f.cause == remedy.cause and f.confidence != "low"]
    if remedy.grounds or not speaking:
        return remedy
    return replace(remedy, grounds=speaking[0].evidence[:1])


def _merged(recipe: Recipe, found: Iterable[Remedy]) -> list[Remedy]:
    """Remedies by cause, each change once, those that cannot be made or do nothing left out."""
    by_cause: dict[str, Remedy] = {}
    for remedy in found:
        strengths = tuple(s for s in (useful(recipe, changes) for changes in remedy.strengths) if s)
        known = by_cause.get(remedy.cause)
        if known is None:
            by_cause[remedy.cause] = replace(remedy, strengths=strengths)
            continue
        new = tuple(s for s in strengths if s not in known.strengths)
        by_cause[remedy.cause] = replace(
            known,
            strengths=known.strengths + new,
            grounds=known.grounds or remedy.grounds,
            where=known.where or remedy.where,
        )
    return [r for r in by_cause.values() if r.strengths]


def _rates(recipe: Recipe) -> Iterator[Remedy]:
    path = lr_path(recipe)
    lr = float(get(recipe, path))
    usual = float(type(get(recipe, path.rpartition(".")[0]))().lr)
    for cause, times, suspects in (
        ("learning-rate-high", RATES[0], ("exploding", "optimizer")),
        ("learning-rate-low", RATES[1], ("too-few-steps", "optimizer")),
    ):
        rates = [float(f"{lr * k:.6g}") for k in times]
        if (rates[0] < lr and usual < min(rates)) or (
            rates[0] > lr and usual > max(rates)
        ):  # further off than these
            rates.append(usual)
        yield Remedy(
            cause, tuple((Change(path, rate),) for rate in rates), where=path, suspects=suspects
        )


def _steps(recipe: Recipe, task: Any) -> Iterator[Remedy]:
    """More epochs of a run that is short; fewer examples a step of one that makes few steps of many
    examples.
    """
    plan = training_plan(recipe, task)
    assert recipe.epochs is not None  # resolved
    longer = [k * recipe.epochs for k in LONGER if k * plan.steps <= LONGEST]
    if longer:
        yield Remedy(
            "too-few-steps",
            tuple((Change("epochs", n),) for n in longer),
            where="epochs",
            suspects=("learning-rate-low",),
        )
    count = task.train.count
    if plan.per_epoch <= 4 and count >= 64:
        batch = min(256, max(16, 2 ** round(math.log2(max(1, count / 30)))))
        grounds = (Evidence("steps in a pass over the examples", plan.per_epoch, "", 4.0),)
        yield Remedy(
            "batch-size", ((Change("batch", batch),),), grounds, "batch", ("too-few-steps",)
        )


def _schedule(recipe: Recipe) -> Iterator[Remedy]:
    if isinstance(recipe.schedule, (Cosine, WarmUp, Constant)):
        return
    kinds = ("Cosine", "Constant")
    yield Remedy(
        "schedule",
        tuple((Change("schedule", {"name": k}),) for k in kinds),
        where="schedule",
        suspects=("learning-rate-low",),
    )


def _scales(recipe: Recipe, task: Any) -> Iterator[Remedy]:
    if task.signature.image is not None or not hasattr(task.train, "numbers"):
        return
    encoding: Any = recipe.encoding
    numbers, targets = task.train.numbers, task.train.targets
    if encoding.scale == "none" and numbers.shape[1]:
        size = float(numbers.double().square().mean().sqrt())
        sds = numbers.double().std(0, correction=0)
        ratio = float(sds.max() / sds[sds > 0].min()) if bool((sds > 0).any()) else 1.0
        grounds = (
            (Evidence("root mean square of the inputs", size, "", LOUD if size > 1 else FAINT),)
            if not FAINT < size < LOUD
            else (Evidence("largest over smallest standard deviation of inputs", ratio, "", 10.0),)
            if ratio > 10
            else ()
        )
        yield Remedy(
            "input-scale", ((Change("encoding.scale", "standard"),),), grounds, "encoding.scale"
        )
    if task.kind == "regression" and encoding.target == "none":
        size = float(targets.double().square().mean().sqrt())
        grounds = (
            ()
            if FAINT < size < LOUD
            else (
                Evidence("root mean square of the targets", size, "", LOUD if size > 1 else FAINT),
            )
        )
        yield Remedy(
            "target-scale",
            ((Change("encoding.target", "standard"),),),
            grounds,
            ", ".join(task.targets),
        )


def _network(recipe: Recipe) -> Iterator[Remedy]:
    network: Any = recipe.network
    activation, initializer = (
        getattr(network, "activation", None),
        getattr(network, "initializer", None),
    )
    if activation is not None:
        linear = isinstance(activation, Identity)
        grounds = (
            (Evidence("activation between the layers", None, "", None, "Identity"),)
            if linear
            else ()
        )
        yield Remedy(
            "hidden-activation",
            ((Change("network.activation", {"name": "ReLU"}),),),
            grounds,
            "network.activation",
        )
    if initializer is not None and getattr(network, "parametrization", "standard") == "standard":
        grounds = (
            ()
            if isinstance(initializer, FITTED)
            else (
                Evidence(
                    "initializer that does not mind the width", None, "", None, repr(initializer)
                ),
            )
        )
        bias = (
            (Change("network.bias", {"name": "Constant", "value": 0.0}),)
            if hasattr(network, "bias")
            else ()
        )
        yield Remedy(
            "initialization",
            ((Change("network.initializer", {"name": "He"}), *bias),),
            grounds,
            "network.initializer",
            ("vanishing", "exploding"),
        )
    if isinstance(network, Mlp) and max(network.hidden, default=0) < SMALL and network.hidden:
        grounds = (Evidence("units of the widest hidden layer", max(network.hidden), "", SMALL),)
        yield Remedy(
            "architecture-too-small",
            ((Change("network.hidden", [256, 256]),),),
            grounds,
            "network.hidden",
        )


def _braking(recipe: Recipe, task: Any) -> Iterator[Remedy]:
    """Dropout, weight decay, penalties, label smoothing, a clip."""
    network: Any = recipe.network
    for name in ("dropout", "spatial_dropout"):
        rate = float(getattr(getattr(network, name, None), "rate", 0.0))
        if rate > 0:
            grounds = (
                (Evidence("dropout rate", rate, "", MUCH_DROPPED),) if rate >= MUCH_DROPPED else ()
            )
            yield Remedy(
                "dropout",
                ((Change(f"network.{name}", None),),),
                grounds,
                f"network.{name}",
                ("over-regularized",),
            )
    for path, value in _settings(recipe.optimizer, "optimizer"):
        if path.endswith(".weight_decay") and value > 0:
            shrinking = value * float(recipe.optimizer.lr) * training_plan(recipe, task).steps
            grounds = (
                (
                    Evidence(
                        "weight decay",
                        value,
                        "",
                        None,
                        f"{shrinking:.3g} times e less is left of a weight that nothing holds",
                    ),
                )
                if shrinking > SHRUNK
                else ()
            )
            yield Remedy("over-regularized", ((Change(path, 0.0),),), grounds, path)
    if recipe.penalties:
        grounds = (
            Evidence(
                "penalties", len(recipe.penalties), "", None, ", ".join(map(repr, recipe.penalties))
            ),
        )
        yield Remedy("over-regularized", ((Change("penalties", []),),), grounds, "penalties")
    if float(getattr(recipe.loss, "label_smoothing", 0.0)) >= MUCH_DROPPED:
        smoothing = float(recipe.loss.label_smoothing)  # type: ignore[union-attr]
        yield Remedy(
            "over-regularized",
            ((Change("loss.label_smoothing", 0.0),),),
            (Evidence("label smoothing", smoothing, "", MUCH_DROPPED),),
            "loss.label_smoothing",
        )
    if recipe.clip is not None:
        yield Remedy(
            "gradient-clipping",
            ((Change("clip", None),),),
            where="clip",
            suspects=("learning-rate-low",),
        )


def _imbalance(recipe: Recipe, task: Any) -> Iterator[Remedy]:
    if (
        task.kind not in ("binary", "classes")
        or recipe.class_weights != "none"
        or not hasattr(task.train, "targets")
    ):
        return
    counts = torch.bincount(task.train.targets.reshape(-1).long())
    share = float(counts.min() / counts.max())
    if share < RARE:
        grounds = (
            Evidence("share of the rarest class over the most frequent one's", share, "", RARE),
        )
        yield Remedy(
            "imbalance", ((Change("class_weights", "balanced"),),), grounds, ", ".join(task.targets)
        )


def _settings(part: Any, path: str) -> Iterator[tuple[str, float]]:
    """The numbers among a part's settings, and among those of the parts in it, by path."""
    for name, hint in field_types(type(part)).items():
        value = getattr(part, name)
        if is_part(value):
            yield from _settings(value, f"{path}.{name}")
        elif is_number(hint):
            yield f"{path}.{name}", float(value)

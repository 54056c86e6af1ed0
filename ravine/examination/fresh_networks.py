"""Networks before their first step: is the gradient right, do examples keep apart, does the signal
pass, do units live?

Each check is a function that returns a `Check`. Letters: P networks, B examples, H units of a
layer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ravine.data import Examples
from ravine.data.examples import affordable_count, evenly_spaced
from ravine.diagnosis.recipe_rules import DISAGREE, FADED, FLAT, SATURATED, STILL, Check
from ravine.diagnosis.rule import Observation, join_names
from ravine.finding import Change, Evidence
from ravine.networks.activations import Identity
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers import SGD
from ravine.part import stack
from ravine.protocols import Batch, ForwardContext
from ravine.recipe import Recipe
from ravine.rng import stream
from ravine.serialization import replace_everywhere
from ravine.training.cohort import Job, start_cohort
from ravine.training.defaults import training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.loop import augment_batch, forward_context, gradients, manual_gradients

EXAMPLES = 512  # that are looked at
SIGNALS = 4  # networks whose signals are followed
LAYERS = 3  # hidden layers at least, for a signal to fade through
ENOUGH = 64  # examples at least, for units to be called dead
CHECKED = 32  # examples on which gradients are checked
DIRECTIONS = 3  # at random, beside the gradient's own
# how far from the start gradients are checked, relative to the weights' standard deviation
NEARBY = 1e-3
STEPS = (1e-5, 1e-6, 1e-7)  # of finite differences, relative to the length of the weights
APART = 1e-5  # relative difference of an output that is due to sums in another order


# What passes through


class Tapped(NamedTuple):
    """A layer, its weights [P, ...] at the start (None: it has none), its input and its output [P,
    B, H, ...].
    """

    name: str
    layer: Any
    weights: Tensor | None
    given: Tensor | None
    made: Tensor


@dataclass(frozen=True)
class Signals:
    """What fresh networks make of some examples, layer by layer; without the last weighted
    layer.
    """

    weighted: tuple[Tapped, ...]
    activated: tuple[Tapped, ...]
    examples: int


def signals(recipe: Recipe, task: Any, *, networks: int = SIGNALS) -> Signals:
    """Send some training examples through fresh networks, as training would, but without
    dropout.
    """
    network = replace_everywhere(recipe.network, {"dropout": None, "spatial_dropout": None})
    seeds = list(range(recipe.seed, recipe.seed + networks))
    built = BatchedNetwork(stack([network] * networks), task.signature)
    examples = evenly_spaced(task.train, affordable_count(task.signature, EXAMPLES))
    tapped: list[Tensor] = []
    with exact_arithmetic(), torch.no_grad():
        weights, buffers = built.start(seeds)
        views = built.layout.views(weights)
        context = ForwardContext(
            training=True, seeds=seeds, batch=examples.count, buffers=buffers, layer_outputs=tapped
        )
        built(views, batch_of(examples), context)
    weighted: list[Tapped] = []
    activated: list[Tapped] = []
    for place, layer in enumerate(built.layers):
        slot = next((s.name for s in layer.slots if s.role == "weight"), "")
        name = slot.removesuffix(".weight")
        found = Tapped(
            name or _before(weighted),
            layer,
            views.get(slot),
            tapped[place - 1] if place else None,
            tapped[place],
        )
        if name and isinstance(found.made, Tensor):
            weighted.append(found)
        elif getattr(layer, "activation", None) is not None and isinstance(found.given, Tensor):
            activated.append(found)
    last = weighted[-1].layer if weighted else None
    return Signals(
        tuple(t for t in weighted if t.layer is not last), tuple(activated), examples.count
    )


def _before(weighted: list[Tapped]) -> str:
    return weighted[-1].name if weighted else "inputs"


def batch_of(examples: Examples, dtype: torch.dtype = torch.float32) -> Batch:
    """Examples as the batch of every network."""
    fields = examples.to("cpu", dtype).fields
    return Batch(*(None if t is None else t[None] for t in fields))  # type: ignore[arg-type]


def signal_fades(found: Signals) -> Check:
    """C06: the signal, by the standard deviation over examples, has a like size in the first and
    last hidden layer.
    """
    name = "signal"
    if len(found.weighted) < LAYERS:
        return Check(name, None, f"fewer than {LAYERS} hidden layers")
    sizes = torch.stack([_spread(t.made) for t in found.weighted])  # [layers, P]
    ratio = sizes[-1] / sizes[0].clamp_min(1e-300)
    middle = sizes.clamp_min(1e-300).log().mean(1).exp().tolist()
    factor = float(ratio.clamp_min(1e-300).log().mean().exp()) ** (1 / (len(middle) - 1))
    values = {f"sd of {t.name}": size for t, size in zip(found.weighted, middle, strict=True)}
    said = (
        f"from {found.weighted[0].name} to {found.weighted[-1].name} the signal goes from "
        f"{middle[0]:.2g} to "
        f"{middle[-1]:.2g}, x {factor:.2g} a layer"
    )
    fades, grows = bool((ratio < FADED).all()), bool((~(ratio < 1 / FADED)).all())
    if not fades and not grows:
        return Check(name, True, said, values)
    limit = FADED if fades else 1 / FADED
    least = float(ratio.max() if fades else ratio.min())
    seen = Observation(
        where=found.weighted[-1].name,
        cause="vanishing" if fades else "exploding",
        suspects=("initialization",),
        title="the signal fades with depth" if fades else "the signal grows with depth",
        evidence=(
            Evidence("signal of the last hidden layer over the first's", least, "", limit, said),
        ),
        changes=(Change("network.initializer", {"name": "He"}),),
    )
    return Check(name, False, said, values, seen)


def _spread(x: Tensor) -> Tensor:
    """The root mean square over units of the standard deviation over examples and places, [P],
    float64.
    """
    flat = x.double().flatten(3).transpose(2, 3).flatten(1, 2) if x.dim() > 3 else x.double()
    return flat.var(1, correction=0).mean(1).sqrt()


def units_dead(found: Signals) -> Check:
    """C07: units behind an activation differ between examples."""
    name = "dead"
    if not found.activated or found.examples < ENOUGH:
        return Check(name, None, "no hidden units, or too few examples")
    still = {}
    for tapped in found.activated:
        flat = (
            tapped.made.flatten(3).transpose(2, 3).flatten(1, 2)
            if tapped.made.dim() > 3
            else tapped.made
        )
        still[tapped.name] = float((flat.amax(1) == flat.amin(1)).double().mean(1).min())
    where = [n for n, share in still.items() if share >= STILL]
    most = max(still, key=lambda n: still[n])
    said = (
        f"at most {still[most]:.0%} of a layer's units say the same of all {found.examples} "
        f"examples ({most})"
    )
    values = {f"still units of {n}": share for n, share in still.items()}
    if not where:
        return Check(name, True, said, values)
    evidence = Evidence(
        "units with the same output for all examples",
        100 * still[most],
        "%",
        100 * STILL,
        f"in {most}, of {found.examples} examples",
    )
    seen = Observation(
        where=join_names(where),
        suspects=("initialization", "input-scale"),
        evidence=(evidence,),
        severity="error" if still[most] == 1.0 else "",
        changes=(
            Change("network.bias", {"name": "Constant", "value": 0.0}),
            Change("network.initializer", {"name": "He"}),
        ),
    )
    return Check(name, False, said, values, seen)


def units_saturated(found: Signals) -> Check:
    """C08: bounded activations have a slope where their inputs are."""
    name = "saturation"
    bounded = [t for t in found.activated if _bounded(t.layer.activation)]
    if not bounded:
        return Check(name, None, "no activation with bounds")
    flat = {t.name: _flat(t) for t in bounded}
    where = [n for n, share in flat.items() if share >= SATURATED]
    most = max(flat, key=lambda n: flat[n])
    said = f"at most {flat[most]:.0%} of a layer's units are saturated ({most})"
    values = {f"saturated units of {n}": share for n, share in flat.items()}
    if not where:
        return Check(name, True, said, values)
    evidence = Evidence(
        "units with next to no slope", 100 * flat[most], "%", 100 * SATURATED, f"in {most}"
    )
    seen = Observation(
        where=join_names(where),
        suspects=("initialization", "input-scale"),
        evidence=(evidence,),
        changes=(Change("network.initializer", {"name": "Glorot"}),),
    )
    return Check(name, False, said, values, seen)


def _bounded(f: Callable[[Tensor], Tensor]) -> bool:
    """Whether a function levels off on both sides."""
    x = torch.tensor([[-60.0, -50.0, 50.0, 60.0]])
    y = f(x)[0]
    return bool(y.abs().max() < 10 and (y[0] - y[1]).abs() < 1e-6 and (y[2] - y[3]).abs() < 1e-6)


def _flat(tapped: Tapped) -> float:
    """The least share, over networks, of units whose mean slope is next to 0."""
    grid = torch.linspace(-10, 10, 2001)[None].requires_grad_()
    (slopes,) = torch.autograd.grad(tapped.layer.activation(grid).sum(), grid)
    assert tapped.given is not None
    x = tapped.given.clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(tapped.layer.activation(x).sum(), x)
    by_unit = slope.abs().flatten(3).mean(3) if slope.dim() > 3 else slope.abs()
    return float((by_unit.mean(1) < FLAT * slopes.abs().max()).double().mean(1).min())


def nonlinear(recipe: Recipe, found: Signals) -> Check:
    """C09: hidden layers have a nonlinearity."""
    name = "nonlinearity"
    activation = getattr(recipe.network, "activation", None)
    if activation is None or not found.weighted:
        return Check(name, None, "no hidden layers of ours")
    count = len(found.weighted)
    if not isinstance(activation, Identity):
        return Check(
            name, True, f"{count} hidden layers, each followed by {type(activation).__name__}"
        )
    said = f"{count} hidden layers and the output layer are one linear map"
    seen = Observation(
        where="network.activation",
        evidence=(
            Evidence(
                "layers without a nonlinearity between them",
                count + 1,
                "",
                1,
                "they can do what one can",
            ),
        ),
        changes=(Change("network.activation", {"name": "ReLU"}),),
    )
    return Check(name, False, said, {"layers": float(count + 1)}, seen)


def units_differ(found: Signals) -> Check:
    """C10: the units of a hidden layer do not all start equal."""
    name = "symmetry"
    many = [t for t in found.weighted if t.made.shape[2] > 1]
    if not many:
        return Check(name, None, "no hidden layer with two units or more")
    equal = [t for t in many if t.weights is not None and _all_equal(t.weights)]
    if not equal:
        return Check(name, True, "units start different")
    units = equal[0].made.shape[2]
    said = f"the {units} units of {equal[0].name} have the same weights"
    changes = (Change("network.initializer", {"name": "He"}),)
    seen = Observation(
        where=join_names(t.name for t in equal),
        evidence=(Evidence("units equal to each other", units, "", 1, f"in {equal[0].name}"),),
        changes=changes,
    )
    return Check(name, False, said, {"equal units": float(units)}, seen)


def _all_equal(weights: Tensor) -> bool:
    flat = weights.flatten(1)
    return bool((flat == flat[:, :1]).all())


# C04: the gradient


def gradient_agrees(
    recipe: Recipe, task: Any, *, networks: int = 2, examples: int = CHECKED
) -> Check:
    """C04: the gradient that training would use against central differences of the loss it belongs
    to, in float64.

    The error is |⟨g, d⟩ − (L(w + h d) − L(w − h d)) / 2h| / |g| for directions d of length 1: the
    gradient's own, and random ones scaled by √W, so that ⟨g, d⟩ is about |g|; the best h counts.
    The weights are those of the start, moved a little: biases of 0 can put rectifiers exactly at
    their kink.
    """
    name = "gradient"
    bare = dataclasses.replace(
        recipe, precision="float64", optimizer=SGD(lr=0.1), tuning=(), average=None, clip=None
    )
    seeds = tuple(range(recipe.seed, recipe.seed + networks))
    chosen = evenly_spaced(task.train, examples)
    job = Job(
        recipes=(bare,) * networks,
        seeds=seeds,
        signature=task.signature,
        plan=training_plan(bare, task),
        batch=chosen.count,
    )
    with exact_arithmetic():
        cohort = start_cohort(job)
        batch = augment_batch(cohort, batch_of(chosen, torch.float64), None)
        sd = cohort.weights.std(1, correction=0, keepdim=True)
        kept = cohort.weights + NEARBY * sd * _direction(cohort.weights, recipe.seed, 0)
        buffers = {n: b.clone() for n, b in cohort.buffers.items()}

        def at(rows: Tensor) -> tuple[Tensor, Tensor]:
            cohort.weights.copy_(rows)
            for known, value in buffers.items():
                cohort.buffers[known].copy_(value)
            if cohort.workspace.manual is None:
                context = forward_context(cohort, None)
                outputs = cohort.network(cohort.workspace.leaves, batch, context)
                grads, losses = gradients(cohort, outputs, batch, None)
            else:
                grads, losses = manual_gradients(cohort, batch, None)
            grads, losses = grads.clone(), losses.clone()
            for penalty in cohort.parts.penalties:
                grads = grads + penalty.gradient(cohort.weights, cohort.workspace.decays, None)
                losses = losses + penalty.value(cohort.weights, cohort.workspace.decays)
            return grads, losses

        grads, losses = at(kept)
        size = grads.norm(dim=1, keepdim=True)
        if not bool(losses.isfinite().all() and size.isfinite().all()):
            return Check(name, None, "the loss or its gradient is not finite")
        if not bool((size > 0).all()):
            return Check(name, None, "the gradient is 0")
        worst = 0.0
        for k in range(DIRECTIONS + 1):
            d = grads / size if k == 0 else _direction(kept, recipe.seed, k)
            along = (grads * d).sum(1, keepdim=True)
            errors = []
            for step in STEPS:
                h = (
                    step
                    * kept.norm(dim=1, keepdim=True).clamp_min(1.0)
                    / d.norm(dim=1, keepdim=True)
                )
                difference = (at(kept + h * d)[1] - at(kept - h * d)[1]) / (2 * h)
                errors.append(float(((along - difference).abs() / size).max()))
            worst = max(worst, min(errors))
    said = f"gradient and finite differences differ by {worst:.1g} of the gradient's length"
    values = {"relative difference": worst}
    if worst <= DISAGREE:
        return Check(name, True, said, values)
    evidence = Evidence(
        "gradient's difference from finite differences",
        worst,
        "of its length",
        DISAGREE,
        f"in float64, {networks} networks, {chosen.count} examples",
    )
    return Check(
        name, False, said, values, Observation(evidence=(evidence,), suspects=("precision",))
    )


def _direction(like: Tensor, seed: int, k: int) -> Tensor:
    """Normal numbers with the shape of some rows, the same for all networks."""
    drawn = torch.randn(like.shape[1], generator=stream(seed, "directions", k), dtype=torch.float64)
    return drawn.expand_as(like)


# C05: independence


def examples_apart(recipe: Recipe, task: Any, *, networks: int = 2) -> Check:
    """C05: in evaluation the answers to the first half of a batch stay when the second half is
    another one.
    """
    name = "independence"
    count = 3 * min(64, affordable_count(task.signature, EXAMPLES))
    chosen = evenly_spaced(task.train, count)
    third = chosen.count // 3
    if third < 1:
        return Check(name, None, "fewer than three examples")
    order = torch.arange(chosen.count)
    first, second = order[: 2 * third], torch.cat([order[:third], order[2 * third : 3 * third]])
    seeds = list(range(recipe.seed, recipe.seed + networks))
    built = BatchedNetwork(stack([recipe.network] * networks), task.signature)
    with exact_arithmetic(), torch.no_grad():
        weights, buffers = built.start(seeds)
        views = built.layout.views(weights)
        answers = []
        for places in (first, second):
            context = ForwardContext(
                training=False, seeds=seeds, buffers={n: b.clone() for n, b in buffers.items()}
            )
            answers.append(built(views, batch_of(chosen.take(places)), context)[:, :third].double())
    spread = float(answers[0].abs().max().clamp_min(1e-30))
    differ = float((answers[0] - answers[1]).abs().max()) / spread
    said = f"answers change by {differ:.1g} of their size with the other examples of a batch"
    values = {"relative difference": differ}
    if not math.isfinite(differ):
        return Check(name, None, "the outputs are not finite")
    if differ <= APART:
        return Check(name, True, said, values)
    evidence = Evidence(
        "change of answers with the other examples of a batch",
        differ,
        "of their size",
        APART,
        "in evaluation",
    )
    seen = Observation(evidence=(evidence,), suspects=("shape-pairing", "train-eval-mode"))
    return Check(name, False, said, values, seen)

"""What `ravine check` asks of a recipe and its data before training: the probes of the start that
any torch program gets, and what only a recipe can be asked.

A check of a recipe is a function that returns a `RecipeCheck`. Letters: P networks, N examples, C
outputs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravine.data import Examples
from ravine.data.examples import affordable_count, evenly_spaced
from ravine.diagnosis import recipe_rules
from ravine.diagnosis.data import measure
from ravine.diagnosis.data.profile import DataProfile
from ravine.diagnosis.data.rules import ALL as DATA_RULES
from ravine.diagnosis.initialization import probe
from ravine.diagnosis.initialization.profile import StartProfile
from ravine.diagnosis.initialization.rules import ALL as INITIALIZATION_RULES
from ravine.diagnosis.recipe_rules import (
    GRADIENT_DIFFERENCE,
    LEARNED_LOSS,
    NamedChecks,
    RecipeCheck,
)
from ravine.diagnosis.rule import Observation, run_rules
from ravine.errors import InputError
from ravine.examination.recipe_changes import useful_changes
from ravine.finding import Change, Checks, Evidence, Finding
from ravine.networks.as_module import NetworkModule, as_module
from ravine.networks.batched import BatchedNetwork
from ravine.optimizers import SGD
from ravine.part import field_types, stack
from ravine.penalties import L1, L2, ElasticNet
from ravine.protocols import Batch
from ravine.recipe import Recipe
from ravine.rng import stream
from ravine.schedules import Constant
from ravine.serialization import replace_everywhere
from ravine.training.cohort import Job, start_cohort
from ravine.training.defaults import batch_size, training_plan
from ravine.training.determinism import exact_arithmetic
from ravine.training.evaluation import constant_loss
from ravine.training.loop import augment_batch, forward_context, gradients, manual_gradients
from ravine.training.train import train_on

PROFILED_ROWS, PROFILED_NUMBERS = 20_000, 2**23  # of the data, numbers only of images
PROBED_EXAMPLES = 512
FEW_EXAMPLES = 16  # that must be overfit
HALF_LEVEL = 0.5  # of the chance level: learned at least in part
OVERFIT_STEPS = 600  # in which they must be
QUICK_OVERFIT_STEPS = 100  # in which most are
RATE_FACTORS = (1.0, 0.1, 10.0)  # of the recipe's learning rate that are tried, its own first
FAR_RATE_FACTORS = (100.0, 0.01, 1000.0, 0.001)  # those that are tried when none of these learns
GRADIENT_EXAMPLES = 32
RANDOM_DIRECTIONS = 3  # beside the gradient's own
NEARBY = 1e-3  # how far from the start gradients are checked, relative to the weights' spread
DIFFERENCE_STEPS = (1e-5, 1e-6, 1e-7)  # of finite differences, relative to the weights' length


@dataclasses.dataclass(frozen=True)
class RecipeChecks:
    """What was found before training, and the profiles behind it."""

    findings: list[Finding]
    checks: Checks
    start: StartProfile
    data: DataProfile | None


def check_recipe(recipe: Recipe, task: Any, *, quick: bool = False) -> RecipeChecks:
    """All checks of a resolved recipe and its task; of `quick` ones those that take about a
    second.
    """
    start, data = profile_start(recipe, task), None
    found, checks = run_rules(INITIALIZATION_RULES, start)
    try:
        data = profile_data(recipe, task)
    except InputError:
        raise
    except Exception:  # the checks of the recipe still count
        checks = checks.and_(Checks(failed=tuple(rule.code for rule in DATA_RULES)))
    else:
        in_data, went = run_rules(DATA_RULES, data)
        found, checks = [*in_data, *found], checks.and_(went)
    in_recipe, went = _make_checks(QUICK_CHECKS if quick else CHECKS, recipe, task)
    found = [
        dataclasses.replace(f, changes=useful_changes(recipe, f.changes))
        for f in (*found, *in_recipe)
    ]
    return RecipeChecks(found, checks.and_(went), start, data)


def _make_checks(
    checks: Mapping[str, Callable[[Recipe, Any], RecipeCheck]], recipe: Recipe, task: Any
) -> tuple[list[Finding], Checks]:
    """Make checks: what their rules find, and how each went. One that breaks is a failed check, the
    others count.
    """
    done: dict[str, RecipeCheck | Exception] = {}
    for name, check in checks.items():
        try:
            done[name] = check(recipe, task)
        except InputError:
            raise
        except Exception as error:
            done[name] = error
    return run_rules([r for r in recipe_rules.ALL if r.needs in checks], NamedChecks(done))


# Profiles


def profile_data(recipe: Recipe, task: Any) -> DataProfile:
    """What is to be known of a task's examples as networks get them, columns by name."""
    count = affordable_count(task.signature, PROFILED_ROWS, PROFILED_NUMBERS)
    chosen, held = evenly_spaced(task.train, count), task.validation
    scale = _code_scale(chosen)
    assert chosen.targets is not None
    validation = None
    if held is not None and held.targets is not None:
        held = evenly_spaced(held, count)
        assert held.targets is not None
        validation = _inputs(task, held, scale), held.targets
    return measure.profile_data(
        _inputs(task, chosen, scale),
        chosen.targets,
        validation=validation,
        names=()
        if task.signature.image is not None
        else (*task.encoder.features, *task.encoder.code_names),
        batch=batch_size(recipe, task),
        outputs=(task.outputs,),
        seed=recipe.seed,
    )


def _inputs(task: Any, chosen: Examples, scale: tuple[Tensor, Tensor] | None) -> Tensor:
    """Images standardized as networks see them; of rows the numbers, then codes on one scale."""
    picture = task.signature.image
    if picture is not None:
        mean, sd = (torch.tensor(values)[:, None, None] for values in picture[3:])
        return (chosen.numbers.float() / 255 - mean) / sd
    if chosen.codes is None or scale is None:
        return chosen.numbers
    return torch.cat([chosen.numbers, (chosen.codes.float() - scale[0]) / scale[1]], 1)


def _code_scale(chosen: Examples) -> tuple[Tensor, Tensor] | None:
    if chosen.codes is None:
        return None
    codes = chosen.codes.float()
    return codes.mean(0), codes.std(0, correction=0).clamp_min(1e-6)


def profile_start(recipe: Recipe, task: Any) -> StartProfile:
    """Network and loss before the first step, of the first seed, by the probes that any torch
    program gets.
    """
    examples = evenly_spaced(task.train, affordable_count(task.signature, PROBED_EXAMPLES))
    targets = examples.targets
    assert targets is not None and recipe.loss is not None
    loss_part = recipe.loss

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return loss_part.per_example(outputs[None], targets[None]).mean()

    with exact_arithmetic():
        module = recipe_module(recipe, task)
        return probe.profile_start(module, loss, module_inputs(examples), targets, seed=recipe.seed)


def recipe_module(recipe: Recipe, task: Any) -> NetworkModule:
    """The network of a resolved recipe's first seed before its first step, as a torch module."""
    network = BatchedNetwork(recipe.network, task.signature)
    weights, buffers = network.start([recipe.seed])
    return as_module(network, task.signature, weights, buffers)


def module_inputs(examples: Examples) -> Tensor:
    """Examples as `recipe_module` takes them: images from 0 to 1, or numbers and then codes."""
    if not examples.numbers.is_floating_point():
        return examples.numbers.float() / 255
    if examples.codes is None:
        return examples.numbers
    return torch.cat([examples.numbers, examples.codes.float()], 1)


def rate_path(recipe: Recipe) -> str:
    """Where the learning rate stands: in the optimizer, or in the one that it is put around.

    >>> from ravine.catalog import named_recipe
    >>> rate_path(named_recipe("plain"))
    'optimizer.lr'
    """
    part, path = recipe.optimizer, "optimizer"
    while "lr" not in field_types(type(part)):
        part, path = part.inner, f"{path}.inner"  # type: ignore[attr-defined]
    return f"{path}.lr"


# The penalty


def check_penalty(recipe: Recipe, task: Any, *, networks: int = 4) -> RecipeCheck:
    """C2: the stronger the penalty, the higher the loss; and by exactly what the penalty's formula
    says.

    The formula is worked out here once more, weight matrix by weight matrix in float64, biases and
    scales left out.
    """
    if not recipe.penalties:
        said = "the recipe has no penalties"
        if getattr(recipe.optimizer, "weight_decay", 0):
            said += " (weight decay is part of the optimizer's step, not of the loss)"
        return RecipeCheck("penalty", None, said)
    built = BatchedNetwork(stack([recipe] * networks).network, task.signature)
    weights, _ = built.start(list(range(recipe.seed, recipe.seed + networks)))
    weights, decays = weights.double(), built.layout.decays(dtype=torch.float64)
    tensors = built.layout.views(weights)
    matrices = [tensors[s.name].flatten(1) for s in built.layout.slots if s.role == "weight"]
    numbers: dict[str, float] = {}
    rises, worst, by_hand = True, 0.0, True
    for place, penalty in enumerate(recipe.penalties):
        values = []
        for times in (0.0, 1.0, 10.0, 100.0):
            part: Any = penalty
            stronger = dataclasses.replace(part, strength=float(part.strength) * times)
            value = stronger.value(weights, decays)[:, 0]
            values.append(value)
            expected = closed_form(stronger, matrices)
            if expected is None:
                by_hand = False
            else:
                worst = max(
                    worst,
                    float(((value - expected).abs() / expected.abs().clamp_min(1e-300)).max()),
                )
        added = torch.stack(values)
        # nothing to raise where the strength or every weight is 0
        rises = rises and bool((added.diff(dim=0) > 0).all())
        numbers[f"{type(penalty).__name__} {place}"] = float(added[1].mean())
    said = ", ".join(
        f"{name.split()[0]} adds {value:.3g} to the first loss" for name, value in numbers.items()
    )
    if by_hand:
        numbers["relative difference from the closed form"] = worst
    if not rises:
        seen = Observation(
            where="penalties",
            evidence=(
                Evidence(
                    "added by the penalties at 1 to 100 times their strength",
                    float(added[1].mean()),
                    "",
                    0.0,
                    "nothing more at a higher one",
                ),
            ),
        )
        return RecipeCheck(
            "penalty",
            False,
            said + "; stronger penalties do not raise it: is a strength 0, or every weight?",
            numbers,
            seen,
        )
    if worst > 1e-9:
        seen = Observation(
            where="penalties",
            title="a penalty is not what its formula says",
            severity="error",
            evidence=(Evidence("difference from the formula", worst, "relative", 1e-9),),
        )
        return RecipeCheck(
            "penalty",
            False,
            said + f"; by the formula it should be {worst:.2g} (relative) off that",
            numbers,
            seen,
        )
    return RecipeCheck(
        "penalty", True, said + ", and ten times as much at ten times the strength", numbers
    )


def closed_form(penalty: Any, matrices: list[Tensor]) -> Tensor | None:
    """What a penalty adds, [P], from the weight matrices [P, ...] alone; None for a penalty unknown
    here.

    >>> closed_form(L2(strength=0.5), [torch.tensor([[3.0, 4.0]])])
    tensor([12.5000])
    """
    squares = torch.stack([m.square().sum(1) for m in matrices]).sum(0)
    sizes = torch.stack([m.abs().sum(1) for m in matrices]).sum(0)
    if isinstance(penalty, L2):
        form = {"squared": squares, "half": squares / 2, "norm": squares.sqrt()}[penalty.form]
        return float(penalty.strength) * form
    if isinstance(penalty, L1):
        return float(penalty.strength) * sizes
    if isinstance(penalty, ElasticNet):
        ratio = float(penalty.ratio)
        return float(penalty.strength) * (ratio * squares + (1 - ratio) * sizes)
    return None


# A few examples


def check_overfits_few(
    recipe: Recipe,
    task: Any,
    *,
    few: int = FEW_EXAMPLES,
    steps: int = OVERFIT_STEPS,
    seeds: int = 2,
) -> RecipeCheck:
    """C3: fresh networks learn a few examples by heart: their loss falls to about zero within
    `steps` steps.

    About zero is 2 % of the chance level. The networks are the recipe's, without what is meant to
    stand in the way of learning by heart (dropout, penalties, weight decay, label smoothing,
    augmentation), on all `few` examples at every step, at the recipe's learning rate; where that
    fails, at a tenth and ten times of it; and then far from it, too. Examples with equal inputs
    count once.
    """
    chosen = _distinct(evenly_spaced(task.train, 20 * few), few)
    if chosen.count < 2:
        return RecipeCheck("overfit a few", None, "all training examples have the same inputs")
    bare = unhindered(recipe)
    assert bare.loss is not None and chosen.targets is not None
    if bool((chosen.targets == chosen.targets[0]).all()):
        return RecipeCheck("overfit a few", None, "the few examples all have the same target")
    level = constant_loss(bare.loss, chosen, task.outputs)
    lr = float(recipe.optimizer.lr)
    small = dataclasses.replace(task, train=chosen, validation=None, test=None)
    limit = LEARNED_LOSS * level
    tried: dict[float, tuple[float, float]] = {}
    for count in dict.fromkeys(
        (min(QUICK_OVERFIT_STEPS, steps), steps)
    ):  # most learn soon: then nothing else has to be tried
        if 1.0 not in tried or not math.isfinite(tried[1.0][0]):
            tried = _by_heart(bare, small, RATE_FACTORS[:1], limit, steps=count, seeds=seeds)
    if not math.isfinite(tried[1.0][0]):
        tried |= _by_heart(bare, small, RATE_FACTORS[1:], limit, steps=steps, seeds=seeds)
    if not any(math.isfinite(step) for step, _ in tried.values()):
        tried |= _by_heart(bare, small, FAR_RATE_FACTORS, limit, steps=steps, seeds=seeds)
    numbers = {"examples": float(chosen.count), "chance": level}
    for times, (step, loss) in tried.items():
        numbers |= {f"steps at lr {lr * times:g}": step, f"least loss at lr {lr * times:g}": loss}
    if math.isfinite(tried[1.0][0]):
        said = f"{chosen.count} examples are learned by heart in {tried[1.0][0]:.0f} steps"
        return RecipeCheck(
            "overfit a few", True, said + f" (loss {level:.3g} to below {limit:.2g})", numbers
        )
    best = min(tried, key=lambda times: (tried[times][0], abs(math.log(times))))
    if math.isfinite(tried[best][0]):
        said = (
            f"{chosen.count} examples are learned by heart only at another learning rate: "
            f"{lr * best:g} takes"
        )
        said += f" {tried[best][0]:.0f} steps, the recipe's {lr:g} does not in {steps}"
        far = best not in RATE_FACTORS
        seen = Observation(
            where=rate_path(recipe),
            severity="warning" if far else "note",
            suspects=("too-few-steps",),
            title=f"a few examples are learned by heart only at a learning rate {best:g} times as "
            f"high",
            cause="learning-rate-low" if best > 1 else "learning-rate-high",
            evidence=(
                Evidence(
                    "steps to learn them",
                    tried[best][0],
                    "",
                    None,
                    f"at {lr * best:g}; at {lr:g} they are not learned in {steps}",
                ),
            ),
            changes=(Change(rate_path(recipe), lr * best),),
        )
        return RecipeCheck("overfit a few", not far, said, numbers, seen)
    least = min(loss for _, loss in tried.values())
    said = (
        f"{chosen.count} examples are not learned in {steps} steps at any of {len(tried)} "
        f"learning rates: the least "
    )
    said += (
        f"loss is {least:.3g}, guessing gives {level:.3g}. Something between data, loss and "
        f"update is broken, or "
    )
    nearest = min(tried, key=lambda times: tried[times][1])
    evidence = Evidence(
        "least loss", least, "", limit, f"of {chosen.count} examples; guessing gives {level:.3g}"
    )
    seen = Observation(
        where="network", evidence=(evidence,), suspects=("hidden-activation", "initialization")
    )
    if (
        nearest in FAR_RATE_FACTORS and least < HALF_LEVEL * level < tried[1.0][1]
    ):  # no rate is enough, but one far away is nearest
        seen = Observation(
            where=rate_path(recipe),
            cause="learning-rate-low" if nearest > 1 else "learning-rate-high",
            suspects=("architecture-too-small",),
            evidence=(evidence,),
            changes=(Change(rate_path(recipe), lr * nearest),),
        )
    return RecipeCheck("overfit a few", False, said + "the network is far too small", numbers, seen)


def _by_heart(
    bare: Recipe, small: Any, rates: tuple[float, ...], limit: float, *, steps: int, seeds: int
) -> dict[float, tuple[float, float]]:
    """By multiple of the recipe's learning rate: steps to a loss below a limit (∞: it stayed
    above), and the least.
    """
    lr = float(bare.optimizer.lr)
    path = rate_path(bare)
    recipes = [
        bare.vary(path, lr * times).vary("epochs", steps).vary("seeds", seeds) for times in rates
    ]
    runs = train_on([small] * len(recipes), recipes, workers=1)
    return {times: _reached(run.record, limit) for times, run in zip(rates, runs, strict=True)}


def unhindered(recipe: Recipe) -> Recipe:
    """The recipe without all that stands in the way of learning by heart, on all examples at a
    constant rate.

    >>> from ravine.catalog import named_recipe
    >>> unhindered(named_recipe("default")).network.dropout is None
    True
    """
    plain = dataclasses.replace(
        recipe,
        penalties=(),
        augment=(),
        stop=None,
        average=None,
        clip=recipe.clip,
        schedule=Constant(),
        batch="all",
        class_weights="none",
    )
    off = {"dropout": None, "weight_decay": 0.0, "label_smoothing": 0.0, "snapshots": None}
    return replace_everywhere(plain, off)


def _distinct(examples: Examples, count: int) -> Examples:
    """At most `count` examples, no two with the same inputs; as many different targets as possible
    come first.
    """
    seen: set[bytes] = set()
    by_target: dict[bytes, list[int]] = {}
    assert examples.targets is not None
    for i in range(examples.count):
        key = examples.numbers[i].numpy().tobytes()
        key += b"" if examples.codes is None else examples.codes[i].numpy().tobytes()
        if key not in seen:
            seen.add(key)
            by_target.setdefault(examples.targets[i].numpy().tobytes(), []).append(i)
    turns = max((len(places) for places in by_target.values()), default=0)
    order = [
        places[turn] for turn in range(turns) for places in by_target.values() if turn < len(places)
    ]
    chosen = examples.take(torch.tensor(sorted(order[:count]), dtype=torch.int64))
    return dataclasses.replace(chosen, weights=None)


def _reached(record: Any, limit: float) -> tuple[float, float]:
    """The step at which the last member's training loss fell below a limit (∞: not all did), and
    their least loss.
    """
    series = record.series.get("train/loss")
    if series is None:
        return math.inf, math.inf
    below = series.values < limit
    least = float(np.nanmin(series.values)) if np.isfinite(series.values).any() else math.inf
    if not below.any(0).all():
        return math.inf, least
    return float(series.steps[below.argmax(0)].max()), least


# The gradient


def check_gradient(
    recipe: Recipe, task: Any, *, networks: int = 2, examples: int = GRADIENT_EXAMPLES
) -> RecipeCheck:
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
            return RecipeCheck(name, None, "the loss or its gradient is not finite")
        if not bool((size > 0).all()):
            return RecipeCheck(name, None, "the gradient is 0")
        worst = 0.0
        for k in range(RANDOM_DIRECTIONS + 1):
            d = grads / size if k == 0 else _direction(kept, recipe.seed, k)
            along = (grads * d).sum(1, keepdim=True)
            errors = []
            for step in DIFFERENCE_STEPS:
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
    if worst <= GRADIENT_DIFFERENCE:
        return RecipeCheck(name, True, said, values)
    evidence = Evidence(
        "gradient's difference from finite differences",
        worst,
        "of its length",
        GRADIENT_DIFFERENCE,
        f"in float64, {networks} networks, {chosen.count} examples",
    )
    return RecipeCheck(
        name, False, said, values, Observation(evidence=(evidence,), suspects=("precision",))
    )


def _direction(like: Tensor, seed: int, k: int) -> Tensor:
    """Normal numbers with the shape of some rows, the same for all networks."""
    drawn = torch.randn(like.shape[1], generator=stream(seed, "directions", k), dtype=torch.float64)
    return drawn.expand_as(like)


def batch_of(examples: Examples, dtype: torch.dtype = torch.float32) -> Batch:
    """Examples as the batch of every network."""
    fields = examples.to("cpu", dtype).fields
    return Batch(*(None if t is None else t[None] for t in fields))  # type: ignore[arg-type]


QUICK_CHECKS: Mapping[str, Callable[[Recipe, Any], RecipeCheck]] = {"penalty": check_penalty}
CHECKS: Mapping[str, Callable[[Recipe, Any], RecipeCheck]] = {
    **QUICK_CHECKS,
    "gradient": check_gradient,
    "overfit a few": check_overfits_few,
}
